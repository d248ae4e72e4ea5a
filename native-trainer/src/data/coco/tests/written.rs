//! What is written from other files, read again.

use serde_json::{Value, json};

use super::super::*;
use super::{Data, changed, each, good, picture};

#[test]
fn a_mixture_has_one_category_and_the_same_boxes() {
    let data = Data::new();
    for number in 0..20 {
        data.put(&format!("b/images/n{number}.png"), &picture(40, 30, number + 50));
    }
    let first = json!({"images": [{"id": 9, "file_name": "0.png", "width": 40.0, "height": "30"}],
        "annotations": [{"image_id": 9, "category_id": 44, "bbox": [1, 2, 3.25, 4]},
            {"image_id": 9, "bbox": [1, 2, 0, 4]},
            {"image_id": 9, "bbox": [0, 0, 30, 20], "iscrowd": true}]});
    let images: Vec<Value> =
        (0..20).map(|i| json!({"id": i, "file_name": format!("n{i}.png")})).collect();
    let boxes: Vec<Value> =
        (0..20).map(|i| json!({"image_id": i, "bbox": [i, 0, 1, 1], "area": 1})).collect();
    let second = json!({"images": images, "annotations": boxes});
    let empty = json!({"images": [{"id": 1, "file_name": "1.png"}], "annotations": []});
    let part = |name: &str, json: &Value, take| {
        let annotations = data.put(name, json.to_string().as_bytes());
        Part { annotations, images: None, take }
    };
    let parts = [
        part("boxes.json", &first, None),
        part("b/boxes.json", &second, Some(5)),
        part("empty.json", &empty, None),
    ];
    let out = data.path("mixed.json");
    let mixed = foreground(&parts, &out, 1, &|_| ()).unwrap();
    assert_eq!(mixed.bytes, foreground(&parts, &out, 1, &|_| ()).unwrap().bytes);
    let notes: Vec<_> =
        mixed.notes.iter().map(|(path, note)| (path.file_name().unwrap(), note.kind)).collect();
    let [boxes, empty] = ["boxes.json", "empty.json"].map(std::ffi::OsStr::new);
    assert_eq!(
        notes,
        [(boxes, Problem::NoArea), (boxes, Problem::Crowd), (empty, Problem::Background)]
    );
    let json: Value = serde_json::from_slice(&mixed.bytes).unwrap();
    let image = |i: usize| &json["images"][i];
    assert_eq!(json["images"].as_array().unwrap().len(), 7);
    assert_eq!(*image(0), json!({"id": 1, "file_name": "0.png", "width": 40, "height": 30}));
    assert_eq!(image(6)["file_name"], "1.png");
    assert_eq!(json["categories"], json!([{"id": 1, "name": "foreground"}]));
    let annotations = json["annotations"].as_array().unwrap();
    assert_eq!(annotations.len(), 7);
    assert_eq!(annotations[0]["bbox"], json!([1.0, 2.0, 3.25, 4.0]));
    assert_eq!((&annotations[1]["iscrowd"], &annotations[0]["iscrowd"]), (&json!(1), &json!(0)));
    for (index, annotation) in annotations.iter().enumerate().skip(2) {
        assert_eq!((&annotation["category_id"], &annotation["area"]), (&json!(1), &json!(1.0)));
        let image = image(index - 1);
        assert_eq!(image["id"], annotation["image_id"]);
        let name = format!("b/images/n{}.png", annotation["bbox"][0].as_f64().unwrap());
        assert_eq!(image["file_name"], name);
    }
    std::fs::write(&out, &mixed.bytes).unwrap();
    let read = read(&out, None, &|_| ()).unwrap();
    assert_eq!(read.pictures.iter().map(|picture| picture.boxes.len()).sum::<usize>(), 6);
}

#[test]
fn a_mixture_takes_no_part_that_is_wrong() {
    let data = Data::new();
    let out = data.path("mixed.json");
    let mix = |jsons: &[Value]| {
        let parts: Vec<Part> = jsons
            .iter()
            .enumerate()
            .map(|(index, json)| Part {
                annotations: data.put(&format!("part {index}.json"), json.to_string().as_bytes()),
                images: None,
                take: None,
            })
            .collect();
        foreground(&parts, &out, 1, &|_| ())
    };
    let crowds = each("annotations", |_, annotation| annotation["iscrowd"] = 1.into());
    let error = mix(&[good(), crowds]).unwrap_err();
    assert!(
        matches!(&error, CocoError::Unusable { path, findings, .. }
        if path.ends_with("part 1.json") && findings[0].kind == Problem::NoBoxes),
        "{error}"
    );
    let empty = changed(|json| json["annotations"] = json!([]));
    let error = mix(std::slice::from_ref(&empty)).unwrap_err();
    assert!(
        matches!(&error, CocoError::NotWritten { findings, .. }
        if findings[0].kind == Problem::OnlyBackground),
        "{error}"
    );
    // One part's objects are the other's background.
    let error = mix(&[good(), empty]).unwrap_err();
    assert!(
        matches!(&error, CocoError::NotWritten { findings, .. }
        if findings[0].kind == Problem::SameFile),
        "{error}"
    );
}

/// Pascal VOC with the pictures of [`Data`].
fn voc(data: &Data, name: &str, body: &str) {
    for number in 0..4 {
        data.put(&format!("voc/JPEGImages/{number}.png"), &picture(40, 30, number));
    }
    let text = format!("<annotation>{body}</annotation>");
    data.put(&format!("voc/Annotations/{name}.xml"), text.as_bytes());
}

fn object(name: &str, difficult: &str, [x1, y1, x2, y2]: [&str; 4]) -> String {
    format!(
        "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>\
         <ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
    )
}

#[test]
fn voc_boxes_count_pixels_from_one() {
    let data = Data::new();
    let corners = ["1", "3", "10", "4"];
    let size = "<filename>0.png</filename><size><width>40</width><height>30</height></size>\n";
    let objects = [
        object("cat", "0", corners),
        object("dog", "1", corners),
        object("dog", " True ", corners),
        object("dog", "YES", corners),
        object("cat", "False", ["20", "9", "12", "6"]),
        object("bird", "", ["nan", "3", "10", "4"]),
        object("bird", "no", ["1", "3", "1e39", "4"]),
    ];
    voc(&data, "p", &format!("{size}{}", objects.concat()));
    // The picture is named like the annotation.
    voc(&data, "1", &format!("<filename>photo</filename>{}", object("dog", "0", corners)));
    data.put("voc/Annotations/._p.xml", b"\0\x05\x16\x07");
    let out = data.path("voc/boxes.json");
    let converted = from_voc(&data.path("voc"), &out, &|_| ()).unwrap();
    let json: Value = serde_json::from_slice(&converted.bytes).unwrap();
    let names: Vec<&Value> =
        json["images"].as_array().unwrap().iter().map(|image| &image["file_name"]).collect();
    assert_eq!(names, ["JPEGImages/1.png", "JPEGImages/0.png"]);
    assert_eq!((&json["images"][1]["width"], json["images"][0].get("width")), (&json!(40), None));
    let boxes: Vec<&Value> = json["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|annotation| &annotation["bbox"])
        .collect();
    let first = json!([0.0, 2.0, 10.0, 2.0]);
    assert_eq!(boxes, [&first, &first, &json!([11.0, 5.0, 9.0, 4.0])]);
    assert_eq!(json["categories"][1], json!({"id": 2, "name": "cat"}));
    let notes: Vec<String> = converted
        .notes
        .iter()
        .map(|(_, note)| note.to_string().replace(&format!("{}/", data.0.path().display()), ""))
        .collect();
    assert_eq!(
        notes,
        [
            "8 objects, 3 left out: difficult (voc/Annotations/p.xml:3, voc/Annotations/p.xml:4, \
             voc/Annotations/p.xml:5)",
            "1 of 8 boxes with swapped corners: put right (voc/Annotations/p.xml:6: [20, 9, 12, 6])",
            "8 objects, 2 left out: corners that are not finite (voc/Annotations/p.xml:7: [NaN, 3, 10, 4], \
             voc/Annotations/p.xml:8: [1, 3, inf, 4])",
            "1 of 2 pictures is not named as `<filename>` says, but like their annotation \
             (voc/Annotations/1.xml)",
        ]
    );
    std::fs::write(&out, &converted.bytes).unwrap();
    assert_eq!(read(&out, None, &|_| ()).unwrap().pictures.len(), 2);
}

#[test]
fn voc_that_teaches_something_false_is_not_written() {
    let corners = ["1", "3", "10", "4"];
    let good = object("cat", "0", corners);
    for (body, part) in [
        ("\n<object/>".to_owned(), "p.xml:1: <filename> is missing"),
        (
            format!("<filename>0.png</filename>\n{}", object("a", "maybe", corners)),
            "p.xml:2: <difficult> holds \"maybe\"",
        ),
        (
            format!("<filename>0.png</filename>\n{}", object("a", "0", ["x", "1", "2", "3"])),
            "p.xml:2: <xmin> holds \"x\"",
        ),
        (format!("<filename>gone.png</filename>{good}"), "1 of 1 picture is not there"),
        (
            "<filename>0.png</filename>".to_owned(),
            "boxes.json: not written, since it could not be trained on: 1 picture, 0 boxes",
        ),
        (
            format!("<filename>0.png</filename>\n{}", object("cat", "1", corners)),
            "Annotations: no object is left to learn: 1 object, 1 left out: difficult (",
        ),
        (
            format!("<filename>0.png</filename>\n{}", object("cat", "1", corners)),
            "p.xml:2); write <difficult>0</difficult> for those that are to be learned",
        ),
        (
            format!(
                "<filename>0.png</filename><size><width>30</width><height>40</height></size>{good}"
            ),
            "0.png: 40×30, in the file 30×40",
        ),
        (
            format!("<filename>0.png</filename>{}", object("cat", "0", ["90", "3", "99", "9"])),
            "mostly outside",
        ),
        ("<a>".to_owned(), "p.xml:1: no XML: "),
    ] {
        let data = Data::new();
        voc(&data, "p", &body);
        let out = data.path("voc/boxes.json");
        let error = from_voc(&data.path("voc"), &out, &|_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}\nsays nothing of\n{part}");
    }
    let data = Data::new();
    for name in ["a", "b"] {
        let left = if name == "a" { "1" } else { "2" };
        let cat = object("cat", "0", [left, "3", "10", "9"]);
        voc(&data, name, &format!("<filename>0.png</filename>{cat}"));
    }
    let error = from_voc(&data.path("voc"), &data.path("boxes.json"), &|_| ()).unwrap_err();
    assert!(
        matches!(&error, CocoError::NotWritten { findings, .. }
        if findings[0].kind == Problem::SameFile),
        "{error}"
    );
    let input = data.path("voc/Annotations/a.xml");
    let error = from_voc(&data.path("voc"), &input, &|_| ()).unwrap_err();
    assert!(matches!(error, CocoError::File(FileError::IsInput { .. })), "{error}");
    let latin = b"<annotation>\n<filename>\xe4.png</filename></annotation>";
    data.put("voc/Annotations/0.xml", latin);
    let error = from_voc(&data.path("voc"), &data.path("boxes.json"), &|_| ()).unwrap_err();
    assert!(matches!(&error, CocoError::Line { line: 2, .. }), "{error}");
}
