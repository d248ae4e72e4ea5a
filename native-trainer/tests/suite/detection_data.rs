//! Boxes as people have them, through the commands that check, mix, learn from and measure them.

use serde_json::{Value, json};

use crate::world::{World, fail, magpie, shape, succeed};

/// Four pictures in `folder`, and the COCO file of two boxes each.
fn pictures(world: &World, folder: &str) -> Value {
    for number in 0..4 {
        let picture = shape(number, number, 40).encode_png().expect("a PNG");
        world.write(&format!("{folder}/{number}.png"), picture);
    }
    let images: Vec<Value> = (0..4)
        .map(|i| json!({"id": i, "file_name": format!("{i}.png"), "width": 40, "height": 40}))
        .collect();
    let annotations: Vec<Value> = (0..8)
        .map(|i| json!({"id": i, "image_id": i / 2, "category_id": 1, "bbox": [4 + i % 2 * 18, 8, 16, 16]}))
        .collect();
    json!({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]})
}

fn shortened(world: &World, text: &str) -> String {
    text.replace(&format!("{}/", world.path("").display()).replace("//", "/"), "")
}

/// A file's name, what is changed, what is said.
type Case = (&'static str, fn(&mut Value), &'static str);

#[test]
fn what_a_check_calls_an_error_is_not_trained_on() {
    let world = World::new();
    let good = pictures(&world, "data");
    let cases: [Case; 6] = [
        (
            "orphans",
            |json| {
                for annotation in json["annotations"].as_array_mut().expect("a list") {
                    annotation["image_id"] = 77.into();
                }
            },
            "8 of 8 annotations name a picture that `images` does not list",
        ),
        (
            "empty",
            |json| json["annotations"] = json!([]),
            "4 pictures, 0 boxes: `annotations` is empty",
        ),
        (
            "one id",
            |json| {
                for image in json["images"].as_array_mut().expect("a list") {
                    image["id"] = 1.into();
                }
            },
            "1 id for several pictures",
        ),
        (
            "size",
            |json| json["images"][1]["width"] = 80.into(),
            "data/1.png: 40×40, in the file 80×40",
        ),
        (
            "endless",
            |json| json["annotations"][3]["bbox"][2] = 1e39.into(),
            "a number that is not finite",
        ),
        (
            "outside",
            |json| json["annotations"][3]["bbox"][0] = 90.into(),
            "lies mostly outside their picture",
        ),
    ];
    for (name, change, text) in cases {
        let mut json = good.clone();
        change(&mut json);
        let path = world.write(&format!("data/{name}.json"), json.to_string());
        let output = magpie(&[&"data", &"check", &path]);
        let told = shortened(&world, &String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(1), "{name}: {told}");
        assert!(
            told.lines().any(|line| line.starts_with("error: ") && line.contains(text)),
            "{told}"
        );
        let run = world.path("run");
        let error =
            fail(&[&"train", &"-c", &world.detector_recipe(&path, "", ""), &"--output", &run]);
        assert!(shortened(&world, &error).contains(text), "{name}: {error}");
        assert!(!run.exists(), "{name}: a run was begun");
        let out = world.path("mixed.json");
        let part = path.display().to_string();
        let mix = magpie(&[&"data", &"coco-foreground", &"--out", &out, &"--part", &part]);
        assert_eq!((mix.status.code(), out.exists()), (Some(1), false), "{name}");
    }
}

#[test]
fn a_run_says_what_it_leaves_out_and_finds_its_pictures() {
    let world = World::new();
    let mut json = pictures(&world, "set/photos");
    json["annotations"][0]["bbox"][2] = 0.into();
    json["annotations"][1]["iscrowd"] = true.into();
    let path = world.write("set/annotations/train.json", format!("\u{feff}{json}"));
    let error = fail(&[&"data", &"check", &path]);
    assert!(error.contains("1 error in the data"), "{error}");
    let photos = world.path("set/photos");
    let told = succeed(&[&"data", &"check", &path, &"--images", &photos]);
    let expected = "\
note: 8 boxes, 1 left out: without area (annotation 0: [4, 8, 0, 16])
note: 8 boxes, 1 left out: crowds (annotation 1)
note: 1 of 4 pictures without boxes: taken as background (set/photos/0.png)
set/annotations/train.json: 4 pictures, 6 boxes; 0 errors, 3 notes
";
    assert_eq!(shortened(&world, &told), expected);
    let without = world.detector_recipe(&path, "", "");
    let run = world.path("run");
    let error = fail(&[&"train", &"-c", &without, &"--output", &run]);
    for part in ["detector.coco_images", "set/images", "magpie data coco-foreground"] {
        assert!(error.contains(part), "{error} says nothing of {part}");
    }
    let keys = format!("coco_images = {photos:?}\neval_coco_images = {photos:?}");
    let named = world.detector_recipe(&path, "", &keys);
    let checked = succeed(&[&"data", &"check", &"-c", &named]);
    assert!(checked.ends_with("4 pictures, 6 boxes; 0 errors, 3 notes\n"), "{checked}");
    let told = shortened(&world, &succeed(&[&"train", &"-c", &named, &"--output", &run]));
    let note = "note: set/annotations/train.json: 8 boxes, 1 left out: without area (annotation 0";
    assert!(told.contains(note) && told.contains("[Eval][Epoch 1][Avg]mAP"), "{told}");
    let model = run.join("model.safetensors");
    let eval = [&"eval" as &dyn AsRef<std::ffi::OsStr>, &"--detector", &model, &"--coco", &path];
    let told = succeed(&[&eval[..], &[&"--images", &photos]].concat());
    assert!(
        told.contains("left out: crowds (annotation 1)") && told.contains("\n4 pictures"),
        "{told}"
    );
    assert!(fail(&eval).contains("--images FOLDER"));
    std::fs::rename(&photos, world.path("set/images")).expect("renamed");
    succeed(&eval);
    let lonely = "detector.eval_coco_images=set/images";
    let text = std::fs::read_to_string(&without).expect("a recipe");
    let is_kept = |line: &&str| !line.starts_with("eval_coco") && !line.starts_with("coco_images");
    let text = text.lines().filter(is_kept).collect::<Vec<_>>();
    let alone = world.write("alone.toml", text.join("\n"));
    let error = fail(&[&"train", &"-c", &alone, &"--output", &world.path("r"), &"-o", &lonely]);
    assert!(error.contains("[detector] has `eval_coco_images` without `eval_coco`"), "{error}");
}

#[test]
fn voc_is_converted_into_what_can_be_trained_on() {
    let world = World::new();
    pictures(&world, "voc/JPEGImages");
    let annotation = |corners: [&str; 4], difficult: &str| {
        let [x1, y1, x2, y2] = corners;
        format!(
            "<annotation><filename>0.png</filename><object><name>a</name><bndbox><xmin>3</xmin><ymin>3</ymin>\
             <xmax>9</xmax><ymax>9</ymax></bndbox></object><object><name>b</name><difficult>{difficult}</difficult>\
             <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\
             </annotation>"
        )
    };
    let out = world.path("voc/boxes.json");
    for (corners, difficult, boxes, note) in [
        (["5", "6", "20", "20"], "0", 2, ""),
        (
            ["20", "20", "5", "6"],
            "0",
            2,
            "1 of 2 boxes with swapped corners: put right (voc/Annotations/0.xml:1: [20, 20, 5, 6])",
        ),
        (
            ["nan", "6", "20", "20"],
            "0",
            1,
            "2 objects, 1 left out: corners that are not finite (voc/Annotations/0.xml:1: [NaN, 6, 20, 20])",
        ),
        (["5", "6", "inf", "20"], "0", 1, "2 objects, 1 left out: corners that are not finite"),
        (
            ["5", "6", "20", "20"],
            "True",
            1,
            "2 objects, 1 left out: difficult (voc/Annotations/0.xml:1)",
        ),
    ] {
        world.write("voc/Annotations/0.xml", annotation(corners, difficult));
        let told = succeed(&[&"data", &"voc", &world.path("voc"), &"--out", &out]);
        let told = shortened(&world, &told);
        assert!(told.contains(note) && told.is_empty() == note.is_empty(), "{told}");
        let text = std::fs::read_to_string(&out).expect("a file");
        assert!(!text.contains("null"), "{text}");
        let told = succeed(&[&"data", &"check", &out]);
        let boxes = if boxes == 1 { "1 box" } else { "2 boxes" };
        assert!(told.contains(&format!("1 picture, {boxes}; 0 errors")), "{told}");
    }
    world.write("voc/Annotations/0.xml", annotation(["50", "6", "60", "20"], "0"));
    let before = std::fs::read(&out).expect("a file");
    let error = fail(&[&"data", &"voc", &world.path("voc"), &"--out", &out]);
    assert!(error.contains("not written") && error.contains("mostly outside"), "{error}");
    assert_eq!(std::fs::read(&out).expect("a file"), before);
}
