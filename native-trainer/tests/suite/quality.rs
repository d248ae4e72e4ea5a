//! Networks measured on every set of a folder.

use serde_json::Value;

use crate::world::{World, fail, magpie, shape, succeed};

/// A folder with class folders, lists with two galleries, and a COCO file.
fn sets(world: &World) -> std::path::PathBuf {
    world.pictures("sets/folders", 3, 4);
    world.pictures("sets/listed/photos", 3, 3);
    let lines = |numbers: std::ops::Range<usize>| -> String {
        let each = |class: usize| {
            numbers
                .clone()
                .map(move |number| format!("photos/class {class} 类/{number}.png\tclass {class}\n"))
        };
        (0..3).flat_map(each).collect()
    };
    world.write("sets/listed/query.txt", lines(1..3));
    world.write("sets/listed/gallery.txt", lines(0..2));
    world.write("sets/listed/gallery-one.txt", lines(0..1));
    for number in 0..3 {
        let name = format!("sets/boxes/images/{number}.png");
        world.write(&name, shape(0, number, 40).encode_png().expect("a PNG"));
    }
    let coco = r#"{"images": [{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": "1.png"},
        {"id": 3, "file_name": "2.png"}], "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 24, 24]},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [9, 9, 24, 24]}],
        "categories": [{"id": 1, "name": "a"}]}"#;
    world.write("sets/boxes/instances.json", coco);
    world.write("sets/README.md", "what this is");
    world.path("sets")
}

#[test]
fn every_set_that_is_there_is_measured() {
    let world = World::new();
    let (sets, extractor, detector) = (sets(&world), world.model(), world.detector());
    let both: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"eval", &"--sets", &sets, &"--extractor", &extractor, &"--detector", &detector];
    let said = magpie(&[&both[..], &[&"--json"]].concat());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["set"].as_str().expect("a name")).collect();
    assert_eq!(names, ["boxes: instances", "folders", "listed: one", "listed"]);
    let counts =
        |line: &Value| [&line["searched"], &line["queries"], &line["classes"]].map(Value::as_u64);
    assert_eq!(counts(&lines[1]), [12, 12, 3].map(Some));
    assert_eq!(counts(&lines[2]), [3, 6, 3].map(Some));
    // Pictures 1 are in this gallery, too, and searched without themselves.
    assert_eq!(counts(&lines[3]), [6, 6, 3].map(Some));
    for line in &lines[1..] {
        for key in
            ["recall_at_1", "recall_at_5", "class_mean_recall_at_1", "class_mean_recall_at_5"]
        {
            let figure = line[key].as_f64().expect("a figure");
            let error = line[format!("{key}_error")].as_f64().expect("an error");
            let binomial =
                (figure * (1.0 - figure) / line["queries"].as_f64().expect("queries")).sqrt();
            assert!((0.0..=1.0).contains(&figure) && (error - binomial).abs() < 1e-12, "{line}");
        }
    }
    // Shapes of three colors: fresh weights tell them apart.
    assert_eq!(lines[1]["recall_at_5"], 1.0);
    assert_eq!((&lines[0]["pictures"], &lines[0]["objects"]), (&2.into(), &2.into()));
    for key in ["AP50", "AP50_error", "largest_hit", "largest_hit_error"] {
        assert!(
            lines[0][key].as_f64().is_some_and(|figure| (0.0..=1.0).contains(&figure)),
            "{key}"
        );
    }

    // The same figures as of one list alone.
    let list = sets.join("folders");
    let alone = succeed(&[&"eval", &"--extractor", &extractor, &"--query", &list, &"--json"]);
    let alone: Value = serde_json::from_str(alone.lines().next().expect("a line")).expect("JSON");
    assert_eq!(alone["recall1"], lines[1]["recall_at_1"]);

    let told = succeed(&[&both[..], &[&"--limit", &"6"]].concat());
    assert!(
        told.contains("listed: one: recall_at_1 ")
            && told.contains("6 queries among 3 of 3 classes"),
        "{told}"
    );
}

#[test]
fn a_set_that_cannot_be_measured_is_named_and_the_others_are() {
    let world = World::new();
    let (sets, extractor) = (sets(&world), world.model());
    world.write("sets/broken/list.txt", "gone.png mug\n");
    world.write("sets/folders/labels.json", "{}");
    world.write("sets/folders/README.txt", "what this is");
    let said = magpie(&[&"eval", &"--sets", &sets, &"--extractor", &extractor, &"--json"]);
    assert!(!said.status.success());
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["set"].as_str().expect("a name")).collect();
    assert_eq!(names, ["broken: list", "folders", "listed: one", "listed"]);
    assert!(lines[0]["error"].as_str().is_some_and(|e| e.contains("no such picture")), "{text}");
    assert!(lines[1..].iter().all(|line| line["recall_at_1"].is_number()), "{text}");
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(error.contains("left out: broken: list: "), "{error}");
    assert!(error.contains("error: 1 set cannot be measured: broken: list"), "{error}");

    let inside = sets.join("folders");
    let error = fail(&[&"eval", &"--sets", &inside, &"--extractor", &extractor]);
    assert!(error.contains("is a set itself, not a folder of sets"), "{error}");
}

#[test]
fn a_folder_without_sets_of_the_kind_is_told() {
    let world = World::new();
    let (sets, extractor) = (sets(&world), world.model());
    let boxes = sets.join("boxes");
    let error = fail(&[&"eval", &"--sets", &boxes.join("images"), &"--extractor", &extractor]);
    assert!(error.contains("holds no folder of a set"), "{error}");
    std::fs::remove_dir_all(sets.join("folders")).expect("a folder");
    std::fs::remove_dir_all(sets.join("listed")).expect("a folder");
    let error = fail(&[&"eval", &"--sets", &sets, &"--extractor", &extractor]);
    assert!(error.contains("an extractor class folders or lists"), "{error}");
}
