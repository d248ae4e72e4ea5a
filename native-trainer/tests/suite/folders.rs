//! Folders and lists as people have them: what is not taken is said, and one name is one class.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use models::gallery::Class;

use crate::world::{World, fail, magpie, opened, shape, succeed};

/// The first bytes of a phone's picture.
const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
const COMPOSED: &str = "K\u{e4}se";
const DECOMPOSED: &str = "Ka\u{308}se";

fn picture(class: usize, number: usize) -> Vec<u8> {
    shape(class, number, 40).encode_png().expect("a PNG")
}

fn labels(path: &Path) -> Vec<String> {
    opened(path).classes().iter().map(|class| class.label.clone()).collect()
}

/// The extractor of a world, made once: the weights are drawn from what all tests draw from.
fn model(world: &World) -> PathBuf {
    let path = world.path("model.safetensors");
    if path.is_file() { path } else { world.model() }
}

/// Words of `magpie gallery build` from a folder or list into `gallery.bin`.
fn build(world: &World, images: &Path) -> Vec<PathBuf> {
    let fixed = ["gallery", "build", "--images"].map(PathBuf::from);
    let rest = ["--extractor".into(), model(world), "--out".into(), world.path("gallery.bin")];
    [&fixed[..], &[images.to_owned()], &rest].concat()
}

/// Words of `magpie gallery add` into `gallery.bin`.
fn add(world: &World, words: &[&dyn AsRef<OsStr>]) -> Vec<PathBuf> {
    let fixed = [
        "gallery".into(),
        "add".into(),
        world.path("gallery.bin"),
        "--extractor".into(),
        model(world),
    ];
    fixed.into_iter().chain(words.iter().map(|word| word.as_ref().into())).collect()
}

fn words(all: &[PathBuf]) -> Vec<&dyn AsRef<OsStr>> {
    all.iter().map(|word| word as &dyn AsRef<OsStr>).collect()
}

/// A folder of two good classes with everything around them that people have.
fn mixed(world: &World) -> PathBuf {
    let pictures = world.pictures("photos", 2, 2);
    world
        .write("photos/class 0 类/portrait.jfif", shape(0, 3, 40).encode_jpeg(90).expect("a JPEG"));
    for number in 1..8 {
        world.write(&format!("photos/class 1 类/IMG_{number}.HEIC"), HEIC);
    }
    world.write("photos/Only HEIC/IMG_9.heic", HEIC);
    world.write("photos/class 1 类/sent.jpg", HEIC);
    world.write("photos/class 1 类/scan.psd", b"8BPS");
    world.write("photos/class 1 类/notes.txt", "blue");
    world.write("photos/2023/holiday/1.png", picture(0, 0));
    world.write("photos/loose.png", picture(0, 1));
    world.write("photos/@eaDir/1.png/SYNOPHOTO_THUMB_M.png", picture(0, 0));
    world.write("photos/@eaDir/2.png", picture(0, 0));
    world.write("photos/__MACOSX/2.png", picture(0, 0));
    world.write("photos/.thumbnails/2.png", picture(0, 0));
    world.write("photos/class 0 类/Thumbs.db", b"x");
    world.write("photos/.DS_Store", b"x");
    std::fs::create_dir(world.path("photos/empty")).expect("a folder");
    pictures
}

/// What is said of [`mixed`], by every command that reads it.
fn names_what_is_left_out(out: &str) {
    let parts = [
        "8 left out: ",
        "IMG_4.HEIC and 3 more: this is HEIC, which is not read; convert it to JPEG (`heif-convert",
        "scan.psd: this is a Photoshop document",
        "loose.png: a picture beside the classes' folders",
        "2023: a class that holds folders only",
        "Only HEIC, ",
        "empty: a class without a picture",
        "notes.txt: no picture",
    ];
    for part in parts {
        assert!(out.contains(part), "{part} is not said in\n{out}");
    }
    for part in ["eaDir", "MACOSX", "thumbnails", "Thumbs.db", "DS_Store", "jfif"] {
        assert!(!out.contains(part), "{part} is said in\n{out}");
    }
}

#[test]
fn what_a_folder_holds_and_is_not_taken_is_said_by_every_command() {
    let world = World::new();
    let pictures = mixed(&world);
    let gallery = world.path("gallery.bin");
    let built = build(&world, &pictures);
    let out = succeed(&words(&built));
    names_what_is_left_out(&out);
    // Its content tells, whatever it is called.
    assert!(out.contains("sent.jpg: this is HEIC"), "{out}");
    assert!(out.contains("2 classes, 5 pictures"), "{out}");
    // Eight HEIC files, the one called .jpg, the drawing, the loose one; three folders.
    assert!(out.contains("; 11 pictures left out; 3 classes without pictures"), "{out}");
    assert_eq!(labels(&gallery), ["class 0 类", "class 1 类"]);
    assert_eq!(opened(&gallery).counts(), [3, 2]);

    let out = succeed(&words(&add(&world, &[&"--images", &pictures])));
    names_what_is_left_out(&out);
    assert!(out.contains("0 added, 5 there already; 11 pictures left out"), "{out}");

    let strict: [&dyn AsRef<OsStr>; 1] = [&"--strict"];
    let error = fail(&[&words(&built)[..], &strict].concat());
    assert!(error.contains("13 left out, which --strict does not allow"), "{error}");

    // Whoever cannot go on without a picture stops at the one that only its content gives away.
    std::fs::remove_file(world.path("photos/class 1 类/sent.jpg")).unwrap();
    let model = model(&world);
    names_what_is_left_out(&succeed(&[&"eval", &"--extractor", &model, &"--query", &pictures]));
    let extracted = world.path("out.safetensors");
    let out = succeed(&[
        &"extract",
        &"--extractor",
        &model,
        &"--images",
        &pictures,
        &"--out",
        &extracted,
    ]);
    names_what_is_left_out(&out);
    let out = succeed(&[&"data", &"check", &pictures]);
    names_what_is_left_out(&out);
    assert!(out.contains("5 pictures, 2 classes; 0 errors, 6 notes"), "{out}");
    let out = succeed(&[&"data", &"check", &pictures, &"--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["findings"][0]["kind"], "left_out");
    let of_heic = report["findings"].as_array().unwrap().iter().find(|finding| {
        finding["reason"].as_str().is_some_and(|reason| reason.starts_with("this is HEIC"))
    });
    assert_eq!(of_heic.unwrap()["paths"].as_array().unwrap().len(), 8, "all are named");

    let recipe = world.recipe(&pictures, 1);
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &world.path("run")]);
    names_what_is_left_out(&error);
    assert!(error.contains("needs 4 classes"), "{error}");
}

#[test]
fn a_command_that_took_nothing_fails() {
    let world = World::new();
    let gallery = world.path("gallery.bin");
    let heic = world.write("phone/Mug/1.heic", HEIC);
    let error = fail(&words(&build(&world, &world.path("phone"))));
    assert!(error.contains("no pictures") && error.contains("this is HEIC"), "{error}");
    assert!(!gallery.exists());

    succeed(&words(&build(&world, &world.pictures("photos", 2, 2))));
    let before = std::fs::read(&gallery).unwrap();
    let broken = world.write("broken/Mug/1.jpg", "no picture");
    let [more, phone] = ["broken", "phone"].map(|name| world.path(name));
    let gone = world.path("gone.jpg");
    let failing: [&[&dyn AsRef<OsStr>]; 5] = [
        &[&"--images", &more],
        &[&"--images", &phone],
        &[&"--class", &"Mug", &heic],
        &[&"--class", &"Mug", &gone, &broken],
        &[&"--class", &" ", &world.path("photos/class 0 类/0.png")],
    ];
    for words_of_add in failing {
        let error = fail(&words(&add(&world, words_of_add)));
        assert!(std::fs::read(&gallery).unwrap() == before, "{error}");
    }
    let error = fail(&words(&add(&world, failing[0])));
    assert!(error.contains("left out: class \"Mug\": none of its pictures can be used"), "{error}");
    assert!(error.contains("none of the pictures can be used"), "{error}");

    // Of files that are named each by itself those that can be used are taken.
    let good = world.write("good.png", picture(2, 0));
    let error = fail(&words(&add(&world, &[&"--class", &"Mug", &gone, &good, &heic])));
    assert!(error.contains("gone.jpg: ") && error.contains("1.heic: this is HEIC"), "{error}");
    assert!(error.contains("2 of the files given with --class cannot be used"), "{error}");
    assert_eq!(labels(&gallery), ["class 0 类", "class 1 类", "Mug"]);
    let out = succeed(&words(&add(&world, &[&"--class", &"Mug", &good])));
    assert!(out.contains("0 added, 1 there already"), "{out}");
}

#[test]
fn many_failures_of_a_kind_are_counted() {
    let world = World::new();
    let pictures = world.pictures("photos", 1, 2);
    for number in 0..9 {
        world.write(&format!("photos/class 0 类/x{number}.jpg"), "no picture");
    }
    for class in ["x", "y"] {
        world.write(&format!("photos/{class}/1.jpg"), "");
    }
    let out = succeed(&words(&build(&world, &pictures)));
    assert!(out.contains("2 classes left out: \"x\", \"y\": none of their pictures"), "{out}");
    assert_eq!(out.matches("\nleft out: ").count() + usize::from(out.starts_with("left out")), 7);
    assert!(out.contains("4 more left out: not a picture"), "{out}");
    assert!(out.contains("; 11 pictures left out; 2 classes without pictures"), "{out}");
}

#[test]
fn files_that_cannot_be_read_are_counted_by_reason() {
    let world = World::new();
    let mut named: Vec<PathBuf> =
        (0..7).map(|number| world.path(&format!("gone{number}.jpg"))).collect();
    named.push(world.write("good.png", picture(0, 0)));
    succeed(&[&"gallery", &"new", &"--extractor", &model(&world), &world.path("gallery.bin")]);
    let mug: [&dyn AsRef<OsStr>; 2] = [&"--class", &"Mug"];
    let error = fail(&words(&add(&world, &[&mug[..], &words(&named)].concat())));
    // Each was asked for by name.
    assert_eq!(error.matches("left out: ").count(), 7, "{error}");
    assert!(error.contains("7 of the files given with --class cannot be used"), "{error}");
    assert_eq!(opened(&world.path("gallery.bin")).counts(), [1]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_said_or_ended() {
    use std::os::unix::fs::symlink;
    let world = World::new();
    let pictures = world.pictures("photos", 2, 2);
    let link = |to: &str, name: &str| symlink(to, pictures.join(name)).expect("a link");
    link("../.git/annex/objects/x.jpg", "class 0 类/annexed.jpg");
    link(".", "itself");
    link("../photos", "again");
    link("class 1 类", "alias");
    let out = succeed(&words(&build(&world, &pictures)));
    assert!(
        out.contains("annexed.jpg: a link to what is not there; fetch that (`git annex get`"),
        "{out}"
    );
    assert!(
        out.contains("2 left out: ") && out.contains("a link to a folder that it lies in"),
        "{out}"
    );
    assert_eq!(labels(&world.path("gallery.bin")), ["alias", "class 0 类", "class 1 类"]);
    let list = world.write("list.txt", "photos/class 0 类/annexed.jpg\tx\n");
    let error = fail(&words(&build(&world, &list)));
    assert!(error.contains("list.txt:1: the link leads to no picture"), "{error}");
}

#[test]
fn one_name_is_one_class_and_look_alikes_are_named() {
    let world = World::new();
    for (number, class) in [COMPOSED, "7", "07", "Mug", "mug"].iter().enumerate() {
        world.write(&format!("photos/{class}/1.png"), picture(number, number));
    }
    for (number, class) in [DECOMPOSED, "Mug "].iter().enumerate() {
        world.write(&format!("photos/{class}/2.png"), picture(number, 4));
    }
    let gallery = world.path("gallery.bin");
    let out = succeed(&words(&build(&world, &world.path("photos"))));
    assert_eq!(labels(&gallery), ["07", "7", COMPOSED, "Mug", "mug"]);
    assert!(out.contains("look alike and stay apart: \"07\", \"7\"; rename"), "{out}");
    assert!(out.contains("look alike and stay apart: \"Mug\", \"mug\"; rename"), "{out}");
    assert!(out.contains("2 folders are the one class \"Mug\": \"Mug\", \"Mug \""), "{out}");
    let checked = succeed(&[&"data", &"check", &world.path("photos")]);
    assert!(
        checked.contains("note: classes look alike and stay apart: \"Mug\", \"mug\""),
        "{checked}"
    );

    // A class of the gallery is found however it is written; one that only looks like it is named.
    let one = world.write("one.png", picture(3, 1));
    let two = world.write("two.png", picture(3, 2));
    succeed(&words(&add(&world, &[&"--class", &DECOMPOSED, &one])));
    let out = succeed(&words(&add(&world, &[&"--class", &"MUG", &two])));
    assert!(out.contains("stay apart: \"MUG\", \"Mug\", \"mug\""), "{out}");
    assert_eq!(opened(&gallery).counts(), [1, 1, 3, 2, 1, 1]);
    let out = succeed(&[&"gallery", &"rename", &gallery, &DECOMPOSED, &"Cheese "]);
    assert!(out.contains("renamed to \"Cheese\"; pictures: 3"), "{out}");
    for blank in ["", "  ", "\u{200b}"] {
        let error = fail(&[&"gallery", &"rename", &gallery, &"Cheese", &blank]);
        assert!(error.contains("the name of a class is blank"), "{error}");
    }
}

#[test]
fn a_gallery_of_before_is_found_by_every_command() {
    let world = World::new();
    let gallery = world.path("gallery.bin");
    let pictures = world.pictures("photos", 2, 2);
    succeed(&words(&build(&world, &pictures)));
    // As an older version stored the name of a folder that came from a Mac.
    let mut old = opened(&gallery);
    old.rename_class(0, DECOMPOSED).unwrap();
    old.add_class(Class { label: "Mug ".to_owned(), ..Class::default() }, Vec::new());
    std::fs::write(&gallery, old.to_bytes()).unwrap();

    let more = world.write("more/K\u{e4}se/1.png", picture(2, 1));
    let out = succeed(&words(&add(&world, &[&"--images", &world.path("more")])));
    assert!(out.contains("1 added") && out.contains("3 classes"), "{out}");
    assert_eq!(labels(&gallery), [DECOMPOSED, "class 1 类", "Mug "]);
    let model = model(&world);
    let search: [&dyn AsRef<OsStr>; 5] = [&"gallery", &"search", &gallery, &"--extractor", &model];
    let found = succeed(&[&search[..], &[&more, &"--class", &COMPOSED]].concat());
    assert!(found.contains(DECOMPOSED) && !found.contains("class 1"), "{found}");
    let query = ["calibrate", "--json"];
    let calibrated = succeed(&[
        &"gallery",
        &query[0],
        &gallery,
        &"--query",
        &world.path("more"),
        &"--extractor",
        &model,
        &query[1],
    ]);
    assert!(calibrated.contains("\"of_unknown_classes\":0"), "{calibrated}");

    // A gallery of another machine has the class already.
    let other = world.path("other.bin");
    let mut composed = opened(&gallery);
    composed.rename_class(0, COMPOSED).unwrap();
    std::fs::write(&other, composed.to_bytes()).unwrap();
    let all = world.path("all.bin");
    let out = succeed(&[&"gallery", &"merge", &gallery, &other, &"--out", &all]);
    assert!(out.contains("0 new classes, 0 pictures added, 5 there already"), "{out}");

    succeed(&[&"gallery", &"rename", &gallery, &COMPOSED, &COMPOSED]);
    succeed(&[&"gallery", &"remove", &gallery, &"--class", &"Mug"]);
    assert_eq!(labels(&gallery), [COMPOSED, "class 1 类"]);
    let error = fail(&[&"gallery", &"remove", &gallery, &"--class", &"Kase"]);
    assert!(error.contains("did you mean \"K\u{e4}se\"?"), "{error}");
    // What has no composed form is shown as it is read, too.
    succeed(&[&"gallery", &"rename", &gallery, &COMPOSED, &"x\u{30c}y"]);
    let error = fail(&[&"gallery", &"remove", &gallery, &"--class", &"x\u{30c}"]);
    assert!(error.contains("did you mean \"x\u{30c}y\"?"), "{error}");
}

#[test]
fn marks_in_front_of_texts_and_misspelt_facts() {
    let world = World::new();
    world.pictures("photos", 2, 2);
    let list = world.write(
        "list.txt",
        format!("\u{feff}photos/class 0 类/0.png\t{DECOMPOSED}\nphotos/class 1 类/0.png\tMug\n"),
    );
    let gallery = world.path("gallery.bin");
    succeed(&words(&build(&world, &list)));
    assert_eq!(labels(&gallery), [COMPOSED, "Mug"]);

    let facts = |text: &str| world.write("facts.json", text);
    let with_facts = |path: &Path| add(&world, &[&"--images", &list, &"--metadata", &path]);
    let path = facts(&format!("\u{feff}{{\"{DECOMPOSED} \": {{\"price\": \"9 €\"}}}}"));
    succeed(&words(&with_facts(&path)));
    assert_eq!(opened(&gallery).classes()[0].metadata["price"], "9 €");
    let error = fail(&words(&with_facts(&facts("{\"Mgu\": {}}"))));
    assert!(error.contains("there is no class \"Mgu\"; did you mean \"Mug\"?"), "{error}");
    let error = fail(&words(&with_facts(&facts(&format!(
        "{{\"{COMPOSED}\": {{}}, \"{DECOMPOSED}\": {{}}}}"
    )))));
    assert!(error.contains("is there twice"), "{error}");
    let error = fail(&words(&with_facts(&world.write("facts.json", b"\xff\xfe{\0}\0"))));
    assert!(error.contains("this is UTF-16; save it as UTF-8"), "{error}");

    let recipe = world.recipe(&world.path("photos"), 1);
    let text = std::fs::read_to_string(&recipe).unwrap();
    std::fs::write(&recipe, format!("\u{feff}{text}")).unwrap();
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &world.path("run")]);
    assert!(error.contains("needs 4 classes"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn folders_whose_names_are_no_text_are_named_and_not_one_class() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let pictures = world.pictures("photos", 1, 2);
    for name in [&b"caf\xe9"[..], b"caf\xe8"] {
        let class = pictures.join(OsStr::from_bytes(name));
        std::fs::create_dir(&class).unwrap();
        std::fs::write(class.join("1.png"), picture(1, 0)).unwrap();
    }
    let out = magpie(&words(&build(&world, &pictures)));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    assert!(
        text.contains(r"caf\xE8, ") && text.contains(r"caf\xE9: its name is not UTF-8"),
        "{text}"
    );
    assert_eq!(labels(&world.path("gallery.bin")), ["class 0 类"]);
}
