//! What people really feed in: each a clear error that names the file, or the right answer.

use models::gallery::Gallery;

use crate::world::{self, World, fail, shape, succeed};

fn build(world: &World, images: &std::path::Path) -> [Box<dyn AsRef<std::ffi::OsStr>>; 8] {
    [
        Box::new("gallery"),
        Box::new("build"),
        Box::new("--images"),
        Box::new(images.to_owned()),
        Box::new("--extractor"),
        Box::new(world.model()),
        Box::new("--out"),
        Box::new(world.path("gallery.bin")),
    ]
}

fn run(world: &World, images: &std::path::Path) -> Result<String, String> {
    let arguments = build(world, images);
    let arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
        arguments.iter().map(|a| &**a as &dyn AsRef<std::ffi::OsStr>).collect();
    if world::magpie(&arguments).status.success() {
        Ok(succeed(&arguments))
    } else {
        Err(fail(&arguments))
    }
}

#[test]
fn an_empty_folder_says_what_is_expected() {
    let world = World::new();
    std::fs::create_dir_all(world.path("empty/class")).unwrap();
    let error = run(&world, &world.path("empty")).unwrap_err();
    assert!(error.contains("no pictures") && error.contains("empty"), "{error}");
}

#[test]
fn broken_pictures_are_named_and_left_out() {
    let world = World::new();
    let pictures = world.pictures("pictures", 2, 2);
    let whole = shape(0, 0, 40).encode_jpeg(80).unwrap();
    world.write("pictures/class 0 类/broken.jpg", &whole[..whole.len() / 3]);
    world.write("pictures/class 0 类/text.jpg", "this is no picture");
    world.write("pictures/only broken/x.png", "nor this");
    let out = run(&world, &pictures).unwrap();
    for name in ["broken.jpg", "text.jpg", "x.png"] {
        assert!(out.contains(name), "{name} is not named in\n{out}");
    }
    assert!(out.contains("2 classes, 4 pictures") && out.contains("3 pictures left out"), "{out}");

    let world = World::new();
    world.write("pictures/a/x.png", "no picture");
    let error = run(&world, &world.path("pictures")).unwrap_err();
    assert!(error.contains("none of the pictures can be used"), "{error}");
}

#[test]
fn a_list_names_the_line_of_a_missing_picture() {
    let world = World::new();
    world.pictures("pictures", 1, 1);
    let list = "pictures/class 0 类/0.png\ta\npictures/none.png\tb\n";
    let list = world.write("list.txt", list);
    let error = run(&world, &list).unwrap_err();
    assert!(error.contains("list.txt:2") && error.contains("none.png"), "{error}");
}

#[test]
fn unusual_pictures_give_the_right_answer() {
    let world = World::new();
    // Two pixels; a class with one picture; labels with spaces in any script.
    let pixels = models::image::RgbImage::from_rgb(2, 1, vec![9, 8, 7, 90, 80, 70]).unwrap();
    world.write("pictures/two pixels ö/1.png", pixels.encode_png().unwrap());
    // An animation counts by its first frame.
    world.write("pictures/анимация/1.gif", animation());
    let out = run(&world, &world.path("pictures")).unwrap();
    assert!(out.contains("2 classes, 2 pictures"), "{out}");
    let bytes = std::fs::read(world.path("gallery.bin")).unwrap();
    let gallery = Gallery::from_bytes(&bytes).unwrap();
    let labels: Vec<&str> = gallery.classes().iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["two pixels ö", "анимация"]);
}

#[test]
fn a_picture_of_one_color_is_named_and_never_an_entry() {
    let world = World::new();
    let pictures = world.pictures("pictures", 2, 2);
    let gray = models::image::RgbImage::from_rgb(40, 40, vec![128; 4800]).unwrap();
    world.write("pictures/class 0 类/gray.png", gray.encode_png().unwrap());
    world.write("pictures/class 1 类/gray.jpg", gray.encode_jpeg(60).unwrap());
    let out = run(&world, &pictures).unwrap();
    assert!(out.contains("gray.png: all its pixels have one color"), "{out}");
    assert!(out.contains("gray.jpg: all its pixels have one color"), "{out}");
    assert!(out.contains("2 classes, 4 pictures"), "{out}");
    let (gallery, model) = (world.path("gallery.bin"), world.path("model.safetensors"));
    let plain = world.write("plain.png", gray.encode_png().unwrap());
    let add: [&dyn AsRef<std::ffi::OsStr>; 8] =
        [&"gallery", &"add", &gallery, &"--class", &"gray", &"--extractor", &model, &plain];
    let error = fail(&add);
    assert!(error.contains("plain.png: all its pixels have one color"), "{error}");
    let strict = build(&world, &pictures);
    let strict: Vec<&dyn AsRef<std::ffi::OsStr>> =
        strict.iter().map(|word| &**word as &dyn AsRef<std::ffi::OsStr>).collect();
    let error = fail(&[&strict[..], &[&"--strict"]].concat());
    assert!(error.contains("gray.png: all its pixels have one color"), "{error}");
}

/// Two frames of 8 × 8 pixels, red then blue, each with a gray corner.
fn animation() -> Vec<u8> {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for color in [[255, 0, 0, 255], [0, 0, 255, 255]] {
            let mut frame = image::RgbaImage::from_pixel(8, 8, image::Rgba(color));
            frame.put_pixel(7, 7, image::Rgba([128, 128, 128, 255]));
            encoder.encode_frame(image::Frame::new(frame)).expect("a frame");
        }
    }
    bytes
}

#[test]
fn the_first_frame_of_an_animation_is_taken() {
    let picture = models::image::RgbImage::decode(&animation()).unwrap();
    assert_eq!(&picture.data()[..3], &[255, 0, 0]);
}

#[test]
fn pictures_are_turned_upright_by_their_exif_orientation() {
    // 2 × 1 pixels, black and white, with orientation 6: turned a quarter to the right.
    let black_white = models::image::RgbImage::from_rgb(32, 16, {
        let half = |i: u32| if i % 32 < 16 { 0 } else { 255 };
        (0..32 * 16).flat_map(|i| [half(i); 3]).collect()
    })
    .unwrap();
    let jpeg = black_white.encode_jpeg(95).unwrap();
    let tiff: &[u8] = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend(((tiff.len() + 2) as u16).to_be_bytes());
    turned.extend(tiff);
    turned.extend(&jpeg[2..]);
    let picture = models::image::RgbImage::decode(&turned).unwrap();
    assert_eq!((picture.width(), picture.height()), (16, 32));
    assert!(picture.data()[0] < 20 && *picture.data().last().unwrap() > 235);
}

#[test]
fn a_picture_that_was_cut_off_is_named_by_check_build_and_train() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 3);
    let whole = shape(0, 0, 400).encode_jpeg(95).unwrap();
    let cut = &whole[..700 + whole.len() / 20];
    let path = world.write("pictures/class 0 类/9.jpg", cut);
    let reason = "incomplete picture: its data end at line";
    let out = run(&world, &pictures).unwrap();
    assert!(out.contains("9.jpg") && out.contains(reason), "{out}");
    assert!(out.contains("4 classes, 12 pictures") && out.contains("left out"), "{out}");
    let check = world::magpie(&[&"data", &"check", &pictures]);
    let found = String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success() && found.contains("9.jpg"), "{found}");
    assert!(found.contains(reason) && found.contains("1 error"), "{found}");
    let recipe = world.recipe(&pictures, 1);
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &world.path("run")]);
    assert!(error.contains("9.jpg") && error.contains(reason), "{error}");
    std::fs::write(&path, &whole).unwrap();
    assert!(run(&world, &pictures).unwrap().contains("4 classes, 13 pictures"));
}

#[test]
fn a_file_that_is_another_than_its_name_says_is_told_what_it_is() {
    let world = World::new();
    world.pictures("pictures", 1, 1);
    world.write("pictures/phone/1.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    world.write("pictures/lfs/1.png", b"version https://git-lfs.github.com/spec/v1\n");
    world.write("pictures/page/1.jpg", b"<!doctype html><html><body>Not found</body></html>");
    world.write("pictures/empty/1.png", b"");
    let out = run(&world, &world.path("pictures")).unwrap();
    for part in ["this is HEIC", "heif-convert", "git lfs pull", "a web page", "an empty file"] {
        assert!(out.contains(part), "nothing of {part} in\n{out}");
    }
}

#[test]
fn a_file_larger_than_any_picture_is_refused_before_it_is_read() {
    let world = World::new();
    world.pictures("pictures", 1, 1);
    let path = world.write("pictures/class 0 类/huge.jpg", b"\xff\xd8\xff");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4 << 30).unwrap();
    let begun = std::time::Instant::now();
    let out = run(&world, &world.path("pictures")).unwrap();
    assert!(out.contains("huge.jpg: larger than the 536870912 bytes"), "{out}");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn a_hundred_megapixels_are_refused_before_they_are_decoded() {
    let world = World::new();
    let mut png = shape(0, 0, 8).encode_png().unwrap();
    png[16..20].copy_from_slice(&10_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&10_000_u32.to_be_bytes());
    let crc = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    world.write("pictures/large/1.png", png);
    let error = run(&world, &world.path("pictures")).unwrap_err();
    assert!(error.contains("1.png") && error.contains("too many"), "{error}");
}

#[test]
fn a_recipe_that_asks_too_much_of_the_data_says_so() {
    let world = World::new();
    let pictures = world.pictures("pictures", 2, 3);
    let recipe = world.recipe(&pictures, 1);
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &world.path("run")]);
    assert!(error.contains("needs 4 classes (batch_size 8 / samples_per_class 2)"), "{error}");
    assert!(error.contains("the data have 2; add some, or give -o batch_size=4"), "{error}");
    let odd = "batch_size=7";
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &world.path("r"), &"-o", &odd]);
    assert!(error.contains("no multiple of samples_per_class 2; give -o batch_size=6"), "{error}");
    let plain = ["batch_size=9", r#"extractor.sampler={ kind = "shuffle" }"#];
    let error = fail(&[
        &"train",
        &"-c",
        &recipe,
        &"--output",
        &world.path("r"),
        &"-o",
        &plain[0],
        &"-o",
        &plain[1],
    ]);
    assert!(error.contains("needs 9 pictures (batch_size 9), the data have 6"), "{error}");
    assert!(error.contains("give -o batch_size=6"), "{error}");
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &world.path("r"), &"-o", &"sead=1"]);
    assert!(error.contains("sead"), "{error}");
    let error = fail(&[&"train", &"-c", &world.path("none.toml"), &"--output", &world.path("r")]);
    assert!(error.contains("none.toml"), "{error}");
}

#[test]
fn a_checkpoint_that_is_none_is_named() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 2);
    let recipe = world.recipe(&pictures, 1);
    let file = world.write("model.pdparams", b"\x80\x04not a checkpoint");
    let out = world.path("out.safetensors");
    let error = fail(&[&"import", &file, &"-c", &recipe, &"--out", &out]);
    assert!(error.contains("model.pdparams"), "{error}");
    let file = world.write("model.pth", b"nor this");
    let error = fail(&[&"import", &file, &"--architecture", &"efficientnet_lite0", &"--out", &out]);
    assert!(error.contains("model.pth"), "{error}");
    assert!(!out.exists());
    let missing = world.path("none.safetensors");
    let value = format!("extractor.pretrained={}", missing.display());
    let run = world.path("run");
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &run, &"-o", &value]);
    assert!(error.contains("none.safetensors"), "{error}");
}

#[test]
fn numbers_out_of_range_are_refused_before_anything_is_read() {
    let nowhere = "nowhere";
    for words in [
        &[
            "publish",
            "--gallery",
            nowhere,
            "--extractor",
            nowhere,
            "--out",
            nowhere,
            "--min-similarity",
            "3",
        ][..],
        &[
            "publish",
            "--gallery",
            nowhere,
            "--extractor",
            nowhere,
            "--out",
            nowhere,
            "--min-score=nan",
        ],
        &["detect", "--detector", nowhere, "--score", "5", nowhere],
        &["detect", "--detector", nowhere, "--score=nan", nowhere],
        &["gallery", "search", nowhere, "--extractor", nowhere, "--min-similarity", "nan", nowhere],
        &[
            "gallery",
            "search",
            nowhere,
            "--extractor",
            nowhere,
            "--rule",
            "vote",
            "--neighbors",
            "0",
            nowhere,
        ],
        &["gallery", "search", nowhere, "--extractor", nowhere, "-k", "0", nowhere],
        &[
            "gallery",
            "calibrate",
            nowhere,
            "--extractor",
            nowhere,
            "--query",
            nowhere,
            "--neighbours", // An old name.
            "0",
        ],
    ] {
        let words: Vec<_> = words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>).collect();
        let output = world::magpie(&words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("is a number from"), "{errors}");
    }
}
