//! The reader against files as people have them.

mod written;

use std::path::{Path, PathBuf};

use models::image::RgbImage;
use models::image::geometry::BBox;
use serde_json::{Value, json};

use super::*;

/// A folder with pictures of 40 × 30 pixels, `0.png` to `3.png`.
struct Data(tempfile::TempDir);

impl Data {
    fn new() -> Self {
        let data = Self(tempfile::tempdir().unwrap());
        for number in 0..4 {
            data.put(&format!("{number}.png"), &picture(40, 30, number));
        }
        data
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, json: &Value) -> Result<BoxedPictures, CocoError> {
        read(&self.put("boxes.json", json.to_string().as_bytes()), None, &|_| ())
    }

    /// The kinds and counts of what is found, all of it and what is named when it is refused.
    fn found(&self, json: &Value) -> Vec<(Problem, usize)> {
        let pairs = |findings: &[Finding]| {
            findings.iter().map(|finding| (finding.kind, finding.count)).collect::<Vec<_>>()
        };
        let path = self.put("boxes.json", json.to_string().as_bytes());
        let whole = inspect(&path, None, |_| Ok(String::new()), String::as_str, &|_| ());
        let mut whole = whole.unwrap().findings;
        // The pictures are not looked into here.
        whole.retain(|f| !matches!(f.kind, Problem::SameAgain | Problem::SameContent));
        let refused = match self.read(json) {
            Ok(BoxedPictures { notes, .. }) => notes,
            Err(CocoError::Unusable { findings, .. }) => findings,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(pairs(&whole), pairs(&refused), "check and train see the same");
        pairs(&refused)
    }

    fn text(&self, json: &Value) -> String {
        let text = self.read(json).unwrap_err().to_string();
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn picture(width: u32, height: u32, value: u8) -> Vec<u8> {
    let data = vec![value; (width * height * 3) as usize];
    RgbImage::from_rgb(width, height, data).unwrap().encode_png().unwrap()
}

/// Four pictures with two boxes each, ids from 1.
fn good() -> Value {
    let images: Vec<Value> = (0..4)
        .map(|i| json!({"id": i + 1, "file_name": format!("{i}.png"), "width": 40, "height": 30}))
        .collect();
    let annotations: Vec<Value> = (0..8)
        .map(|i| {
            let left = 4 + i % 2 * 16;
            json!({"id": i + 1, "image_id": i / 2 + 1, "category_id": 1, "bbox": [left, 6, 14, 15],
                "area": 210, "iscrowd": 0})
        })
        .collect();
    let categories = [json!({"id": 1, "name": "thing"})];
    json!({"images": images, "annotations": annotations, "categories": categories})
}

/// [`good`], changed.
fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut json = good();
    change(&mut json);
    json
}

/// [`good`] with a key of every image or annotation changed.
fn each(list: &str, change: impl Fn(usize, &mut Value)) -> Value {
    changed(|json| {
        let list = json[list].as_array_mut().unwrap();
        list.iter_mut().enumerate().for_each(|(index, record)| change(index, record));
    })
}

#[test]
fn a_good_file_is_read_as_it_stands() {
    let data = Data::new();
    let read = data.read(&good()).unwrap();
    assert_eq!(read.notes, []);
    assert_eq!(read.pictures.len(), 4);
    for (index, picture) in read.pictures.iter().enumerate() {
        assert_eq!(picture.path, data.path(&format!("{index}.png")));
        assert_eq!(
            picture.boxes,
            [BBox::new(4.0, 6.0, 18.0, 21.0), BBox::new(20.0, 6.0, 34.0, 21.0)]
        );
    }
}

#[test]
fn harmless_spellings_change_nothing() {
    let data = Data::new();
    let expected = data.read(&good()).unwrap();
    let texts = changed(|json| {
        for image in json["images"].as_array_mut().unwrap() {
            image["id"] = image["id"].to_string().into();
            image["width"] = 40.0.into();
            image["height"] = "30".into();
        }
        for annotation in json["annotations"].as_array_mut().unwrap() {
            annotation["id"] = Value::Null;
            annotation["image_id"] = annotation["image_id"].as_f64().into();
            annotation["iscrowd"] = false.into();
            annotation["bbox"] = json!(["4", 6.0, 14, "15"]);
        }
    });
    let read = data.read(&texts).unwrap();
    assert_eq!(read.pictures[3].boxes, expected.pictures[3].boxes[..1]);
    for (list, key, value) in [
        ("annotations", "iscrowd", Value::Null),
        ("annotations", "iscrowd", json!("0")),
        ("annotations", "area", json!("large")),
        ("annotations", "id", json!(1)),
        ("annotations", "segmentation", json!({"counts": "abc", "size": [30, 40]})),
        ("images", "width", Value::Null),
        ("images", "license", json!([1])),
    ] {
        let json = each(list, |_, record| record[key] = value.clone());
        assert_eq!(data.read(&json).unwrap(), expected, "{key}: {value}");
    }
    for category in [json!("thing"), json!(-1), json!(0), Value::Null] {
        let json = each("annotations", |_, record| record["category_id"] = category.clone());
        let read = data.read(&json).unwrap();
        assert_eq!(read.pictures, expected.pictures, "{category}");
        let notes: Vec<_> = read.notes.iter().map(|note| (note.kind, note.count)).collect();
        let known = if category.is_null() { vec![] } else { vec![(Problem::UnknownCategory, 8)] };
        assert_eq!(notes, known, "{category}");
    }
    let with_mark = format!("\u{feff}{}", good());
    let path = data.put("mark.json", with_mark.as_bytes());
    assert_eq!(super::read(&path, None, &|_| ()).unwrap(), expected);
    let ids = changed(|json| {
        for (list, key) in [("images", "id"), ("annotations", "image_id")] {
            for record in json[list].as_array_mut().unwrap() {
                record[key] = (-record[key].as_i64().unwrap()).into();
            }
        }
    });
    assert_eq!(data.read(&ids).unwrap(), expected);
}

#[test]
fn a_box_narrower_than_a_pixel_is_taken_and_named() {
    let data = Data::new();
    let json = each("annotations", |i, record| {
        if i < 2 {
            record["bbox"] =
                if i == 0 { json!([9, 9, 0.001, 0.001]) } else { json!([4, 4, 12, 0.5]) };
        }
    });
    let read = data.read(&json).unwrap();
    assert_eq!(read.pictures[0].boxes.len(), 2);
    let notes: Vec<_> = read.notes.iter().map(|note| (note.kind, note.count)).collect();
    assert_eq!(notes, [(Problem::Thin, 2)]);
    let told = read.notes[0].to_string();
    assert!(told.starts_with("2 of 8 boxes with a side below one pixel"), "{told}");
    assert!(told.contains("0.png: ") && told.contains("12 × 0.5"), "{told}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of cases")]
fn what_teaches_nothing_or_something_false_is_refused() {
    let data = Data::new();
    data.put("small.png", &picture(20, 15, 9));
    let bbox = |value: Value| {
        each("annotations", move |i, record| {
            if i == 2 {
                record["bbox"] = value.clone();
            }
        })
    };
    for (json, expected, text) in [
        (
            each("annotations", |i, a| a["image_id"] = (i + 100).into()),
            vec![(Problem::NoBoxes, 8), (Problem::UnknownImage, 8)],
            "8 of 8 annotations name a picture that `images` does not list (annotation 1: image 100, annotation \
             2: image 101, annotation 3: image 102, …)",
        ),
        (
            each("annotations", |i, a| {
                if i == 5 {
                    a.as_object_mut().unwrap().remove("image_id");
                }
            }),
            vec![(Problem::UnknownImage, 1)],
            "(annotation 6: image without number)",
        ),
        (
            changed(|json| json["annotations"] = json!([])),
            vec![(Problem::OnlyBackground, 0)],
            "boxes.json: 4 pictures, 0 boxes: `annotations` is empty; draw a box",
        ),
        (
            each("annotations", |_, a| a["iscrowd"] = true.into()),
            vec![(Problem::NoBoxes, 8), (Problem::Crowd, 8)],
            "4 pictures, 0 boxes: none of the 8 annotations gives one",
        ),
        (
            each("images", |_, image| image["id"] = 1.into()),
            vec![(Problem::SameId, 1), (Problem::UnknownImage, 6)],
            "1 id for several pictures (id 1, 4 times: 0.png, 1.png …)",
        ),
        (
            changed(|json| json["images"][3]["file_name"] = "./2.png".into())
                .also(|json| json["annotations"][7]["bbox"] = json!([1, 1, 5, 5])),
            vec![(Problem::SameFile, 1)],
            "1 picture under several ids with different boxes (2.png: ids 3, 4)",
        ),
        (bbox(json!([1, 2, 3])), vec![(Problem::NoBox, 1)], "(annotation 3)"),
        (bbox(Value::Null), vec![(Problem::NoBox, 1)], "without a `bbox` of four numbers"),
        (bbox(json!([])), vec![(Problem::NoBox, 1)], "write [left, top, width, height]"),
        (bbox(json!([1, 2, 3, "x"])), vec![(Problem::NoBox, 1)], "1 of 8 annotations"),
        (
            bbox(json!([1, 2, 3, 1e39])),
            vec![(Problem::NotFinite, 1)],
            "annotation 3: [1, 2, 3, inf]",
        ),
        (bbox(json!([1, 2, "nan", 4])), vec![(Problem::NotFinite, 1)], "not finite"),
        (
            bbox(json!([-50, -50, 20, 20])),
            vec![(Problem::Outside, 1)],
            "[-50, -50, -30, -30] is not inside 40×30",
        ),
        (
            bbox(json!([100, 100, 20, 20])),
            vec![(Problem::Outside, 1)],
            "1 of 8 boxes lies mostly outside",
        ),
        (
            bbox(json!([30, 10, 25, 10])),
            vec![(Problem::Outside, 1)],
            "[30, 10, 55, 20] is not inside",
        ),
        (bbox(json!([0, 0, 3e38, 3e38])), vec![(Problem::Outside, 1)], "mostly outside"),
        (
            each("annotations", |i, a| {
                a["bbox"] = json!([0.25, 0.5, 0.5, if i % 2 == 0 { 0.25 } else { 0.5 }]);
            }),
            vec![(Problem::Shares, 8)],
            "all 8 boxes lie between 0 and 1: they are shares of the picture, not pixels (annotation 1: [0.25, \
             0.5, 0.5, 0.25], ",
        ),
        (
            each("images", |_, i| i["width"] = 80.into()),
            vec![(Problem::OtherSize, 4)],
            "0.png: 40×30, in the file 80×30",
        ),
        (
            changed(|json| json["images"][0]["file_name"] = "small.png".into())
                .also(|json| json["annotations"][1]["bbox"] = json!([1, 1, 5, 5])),
            vec![(Problem::OtherSize, 1), (Problem::OverEdge, 1)],
            "small.png: 20×15, in the file 40×30",
        ),
        (
            each("images", |_, i| i["width"] = json!(1e9)),
            vec![(Problem::ImpossibleSize, 4)],
            "0.png: 1000000000×30",
        ),
        (each("images", |_, i| i["height"] = 0.into()), vec![(Problem::ImpossibleSize, 4)], "40×0"),
        (
            each("images", |i, image| {
                if i == 1 {
                    image["id"] = json!(1.5);
                }
            }),
            vec![(Problem::ImageWithoutId, 1), (Problem::UnknownImage, 2)],
            "1 of 4 pictures without a usable `id` (images[1], 1.png)",
        ),
        (
            changed(|json| json["images"][2]["file_name"] = " ".into()),
            vec![(Problem::ImageWithoutName, 1), (Problem::UnknownImage, 2)],
            "(images[2])",
        ),
        (
            changed(|json| json["annotations"][0]["iscrowd"] = 2.into()),
            vec![(Problem::UnclearCrowd, 1)],
            "neither 0 nor 1 (annotation 1)",
        ),
        (
            changed(|json| json["images"][1]["file_name"] = "gone.png".into()),
            vec![(Problem::MissingPicture, 1)],
            "1 of 4 pictures is not there (gone.png); looked in ",
        ),
    ] {
        assert_eq!(data.found(&json), expected, "{json}");
        let told = data.text(&json);
        assert!(told.contains(text), "{told}\nsays nothing of\n{text}");
    }
}

/// One more change of a value.
trait Also {
    fn also(self, change: impl FnOnce(&mut Value)) -> Value;
}

impl Also for Value {
    fn also(mut self, change: impl FnOnce(&mut Value)) -> Value {
        change(&mut self);
        self
    }
}

#[test]
fn what_is_left_out_is_said_with_its_number() {
    let data = Data::new();
    let json = changed(|json| {
        let list = json["annotations"].as_array_mut().unwrap();
        list[0]["bbox"] = json!([4, 6, 0, 15]);
        list[1]["bbox"] = json!([4, 6, 14, -3]);
        list[2]["bbox"] = json!([4, 6, 1e-30, 5]);
        list[3]["iscrowd"] = 1.into();
        list[5]["bbox"] = list[4]["bbox"].clone();
        list[6]["bbox"] = json!([-6, 6, 20, 10]);
        list[7]["bbox"] = json!([30, 20, 10.5, 10.5]);
    });
    let read = data.read(&json).unwrap();
    let boxes: Vec<usize> = read.pictures.iter().map(|picture| picture.boxes.len()).collect();
    assert_eq!(boxes, [0, 0, 1, 2]);
    // Rounding beyond the edge stays as it is written; more is cut.
    assert_eq!(
        read.pictures[3].boxes,
        [BBox::new(0.0, 6.0, 14.0, 16.0), BBox::new(30.0, 20.0, 40.5, 30.5)]
    );
    let notes: Vec<String> = read.notes.iter().map(ToString::to_string).collect();
    let place = data.0.path().display();
    assert_eq!(
        notes,
        [
            "8 boxes, 3 left out: without area (annotation 1: [4, 6, 0, 15], annotation 2: [4, 6, 14, -3], annotation \
             3: [4, 6, 0.000000000000000000000000000001, 5])"
                .to_owned(),
            "8 boxes, 1 left out: crowds (annotation 4)".to_owned(),
            "8 boxes, 1 left out: the same box of a picture again (annotation 6)".to_owned(),
            format!(
                "1 of 8 boxes reaches over the edge of their picture; the part inside is taken ({place}/3.png: box \
                 [-6, 6, 14, 16] is not inside 40×30)"
            ),
            format!(
                "2 of 4 pictures without boxes: taken as background ({place}/0.png, {place}/1.png)"
            ),
        ]
    );
}

#[test]
fn equal_records_are_one() {
    let data = Data::new();
    let expected = data.read(&good()).unwrap();
    // The same picture with its id, and again under an id whose boxes are the same.
    let json = changed(|json| {
        let first = json["images"][0].clone();
        let mut again = json["images"][1].clone();
        again["id"] = 9.into();
        json["images"].as_array_mut().unwrap().extend([first, again]);
        let boxes = json["annotations"].as_array_mut().unwrap();
        for index in [2, 3] {
            let mut copy = boxes[index].clone();
            copy["image_id"] = 9.into();
            boxes.push(copy);
        }
    });
    let read = data.read(&json).unwrap();
    assert_eq!(read.pictures, expected.pictures);
    let notes: Vec<_> = read.notes.iter().map(|note| (note.kind, note.count)).collect();
    assert_eq!(notes, [(Problem::ListedAgain, 2)]);
    assert!(data.found(&json) == notes);
}

#[cfg(unix)]
#[test]
fn links_to_one_file_are_one_picture() {
    let data = Data::new();
    std::os::unix::fs::symlink("0.png", data.path("link.png")).unwrap();
    let json = changed(|json| json["images"][1]["file_name"] = "link.png".into());
    assert_eq!(data.read(&json).unwrap().pictures.len(), 3, "the boxes are the same");
    let json = json.also(|json| json["annotations"][2]["bbox"] = json!([1, 1, 2, 2]));
    assert_eq!(data.found(&json), [(Problem::SameFile, 1)]);
}

#[test]
fn equal_contents_are_named_by_a_check() {
    let data = Data::new();
    data.put("1.png", &picture(40, 30, 0));
    let contents = |json: &Value| {
        let path = data.put("boxes.json", json.to_string().as_bytes());
        let content = |path: &Path| Ok(format!("{:?}", std::fs::read(path).unwrap()));
        let findings = inspect(&path, None, content, String::as_str, &|_| ()).unwrap().findings;
        findings.iter().map(|finding| (finding.kind, finding.count)).collect::<Vec<_>>()
    };
    assert_eq!(contents(&good()), [(Problem::SameAgain, 1)]);
    let json = changed(|json| json["annotations"][2]["bbox"] = json!([1, 1, 2, 2]));
    assert_eq!(contents(&json), [(Problem::SameContent, 1)]);
}

/// A JPEG of 40 × 30 stored pixels, turned by its EXIF orientation.
fn turned(orientation: u8) -> Vec<u8> {
    let picture = RgbImage::from_rgb(40, 30, vec![90; 40 * 30 * 3]).unwrap();
    let jpeg = picture.encode_jpeg(90).unwrap();
    let mut tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend(((tiff.len() + 2) as u16).to_be_bytes());
    bytes.extend(tiff);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn sizes_are_those_of_the_upright_picture() {
    let data = Data::new();
    let sized = |width: Option<u32>, height: Option<u32>| {
        each("images", move |i, image| {
            if i == 0 {
                image["file_name"] = "turned.jpg".into();
                image["width"] = json!(width);
                image["height"] = json!(height);
            }
        })
    };
    data.put("turned.jpg", &turned(6));
    let stored = sized(Some(40), Some(30));
    // Its second box reaches to 34 of 30 pixels.
    let edge = (Problem::OverEdge, 1);
    assert_eq!(data.found(&stored), [(Problem::StoredSize, 1), edge]);
    let text = data.text(&stored);
    assert!(
        text.contains("turned.jpg: 30×40, in the file 40×30") && text.contains("exiftool"),
        "{text}"
    );
    assert_eq!(data.found(&sized(Some(30), Some(40))), [edge]);
    assert_eq!(data.found(&sized(Some(30), None)), [edge]);
    assert_eq!(data.found(&sized(None, None)), [edge, (Problem::Turned, 1)]);
    assert_eq!(data.found(&sized(Some(80), Some(60))), [(Problem::OtherSize, 1), edge]);
    data.put("turned.jpg", &turned(3));
    assert_eq!(data.found(&sized(Some(40), Some(30))), [(Problem::Turned, 1)]);
}

#[test]
fn pictures_are_found_or_their_folder_is_asked_for() {
    let data = Data::new();
    for number in 0..4 {
        data.put(&format!("data/photos/{number}.png"), &picture(40, 30, number));
    }
    let path = data.put("data/annotations/instances.json", good().to_string().as_bytes());
    let missing = read(&path, None, &|_| ()).unwrap_err().to_string();
    for part in [
        "4 of 4 pictures are not there (",
        "data/annotations/images, ",
        "data/images, ",
        "--images FOLDER",
        "detector.coco_images",
        "magpie data coco-foreground",
    ] {
        assert!(missing.contains(part), "{missing}\nsays nothing of\n{part}");
    }
    let named = read(&path, Some(&data.path("data/photos")), &|_| ()).unwrap();
    assert_eq!(named.pictures[0].path, data.path("data/photos/0.png"));
    std::fs::rename(data.path("data/photos"), data.path("data/images")).unwrap();
    let found = read(&path, None, &|_| ()).unwrap();
    assert_eq!(found.pictures[0].path, data.path("data/images/0.png"));
    assert_eq!(found.notes, []);
    data.put("data/0.png", &picture(40, 30, 7));
    let notes = read(&path, None, &|_| ()).unwrap().notes;
    let expected = format!(
        "pictures of these names lie in several folders ({0}/images, {0}); the first is taken",
        data.path("data").display()
    );
    assert_eq!(notes.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}
