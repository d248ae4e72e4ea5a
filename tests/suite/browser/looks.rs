//! How the page looks: nothing too wide, too narrow or too faint, the answer first, and what a visitor can point at.

use std::path::Path;

use burn::tensor::Device;
use models::bundle::{Bundle, MANIFEST_NAME, Manifest};
use models::image::RgbImage;
use models::image::geometry::BBox;
use serde_json::{Value, json};

use super::{Server, screenshots, script, site};

/// Lines of the window of a phone that are seen at once.
const FOLD: f64 = 844.0;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The embedding of a part of a picture by the native pipeline.
fn native_embedding(site: &Path, picture: &Path, part: BBox) -> Vec<f32> {
    let folder = site.join("bundle");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let manifest = Manifest::from_bytes(&read(MANIFEST_NAME).expect("a manifest")).expect("valid");
    let recognizer = Bundle::open(&manifest, read, &Device::flex()).expect("a bundle");
    let image = RgbImage::decode(&std::fs::read(picture).expect("a picture")).expect("decodes");
    let crops = [image.crop(&part)];
    pollster::block_on(recognizer.embed(&crops)).expect("embeds").remove(0)
}

#[test]
fn the_page_is_good_to_look_at_and_to_point_at() {
    is_good("chromium");
}

/// A headless Firefox cannot be given another color scheme, nor fingers; the page of measurements is looked at in the
/// other test of Firefox.
#[test]
fn the_page_is_as_good_in_firefox() {
    is_good("firefox");
}

fn is_good(browser: &str) {
    let chromium = browser == "chromium";
    let site = site();
    let server = Server::start(&site);
    let picture = site.join("samples/1.jpg");
    let seen = script(
        "looks.mjs",
        &[Path::new(browser), Path::new(&server.address), &screenshots(), &picture],
    );
    assert_eq!(seen["problems"], json!([]));
    let well = |name: &str, found: &Value| {
        assert!(found["texts"].as_u64() > Some(5), "{name}: nothing was looked at");
        assert_eq!(found["overflow"], 0, "{name}: the page is wider than the window");
        assert_eq!(found["narrow"], json!([]), "{name}: letters stand below each other");
        assert_eq!(found["faint"], json!([]), "{name}: texts are hard to read");
    };
    let names =
        ["empty", "unknown", "one", "long", "many", "marking", "frame", "form", "bench", "results"];
    let (names, states) = if chromium { (&names[..], 6) } else { (&names[..8], 3) };
    for name in names {
        let looked = seen[name].as_object().expect("widths and schemes");
        assert_eq!(looked.len(), states, "{name}");
        for (state, found) in looked {
            well(&format!("{name}, {state}"), found);
        }
    }
    well("a dialog", &seen["dialog"]);

    // What the page knows is said before there is a picture.
    assert!(seen["examples"].as_array().is_some_and(|names| names.len() > 5), "{seen}");
    // The whole picture has no frame; what is not known says so.
    assert_eq!((&seen["boxes"], &seen["strange"]), (&json!(0), &json!(["Not known"])));
    // Name and picture of the class without scrolling, and which class is the next.
    assert_eq!(seen["name"], "Evening sky");
    for part in ["name", "reference", "first"] {
        assert!(number(&seen["fold"][part]) < FOLD, "{part}: {}", seen["fold"]);
    }
    assert_eq!(seen["second"].as_array().map(Vec::len), Some(1), "{seen}");
    // The same thing several times.
    let (joined, count) = (&seen["joined"], seen["joined"]["count"].as_u64().unwrap_or(0));
    assert!(count > 1 && joined["boxes"].as_u64() >= Some(count), "{joined}");
    assert_eq!(joined["times"], format!("×{count}"));
    assert_eq!(joined["lit"], 1, "{joined}");
    assert_eq!(joined["chosen"].as_array().map(Vec::len), Some(1), "{joined}");
    // A form is left by Escape and by its button; the focus is where it began.
    for way in ["escaped", "canceled"] {
        assert_eq!(seen[way], json!([0, "correction"]), "{way}");
    }
    assert_eq!((&seen["confirms"], &seen["confirmed"]), (&json!(1), &json!(0)));
    assert_eq!((&seen["kept"], &seen["dialogs"]), (&json!(1), &json!(0)), "Escape removes nothing");
    // A drawn frame, a frame by keys, a click, a tap.
    assert_eq!(seen["pointed"], json!([0, 1, 2, 3]));
    let marked = seen["marked"].as_str().unwrap_or_default();
    assert!(marked.starts_with("What you marked is "), "{marked}");
    assert_eq!(seen["hint"].as_array().map(Vec::len), Some(1), "{}", seen["hint"]);
    let numbers = seen["numbers"].as_array().expect("numbers");
    for (place, number) in numbers.iter().enumerate() {
        assert_eq!(number, &(place + 1).to_string(), "{numbers:?}");
    }
    for (side, expected) in [10.0, 10.0, 40.0, 45.0].into_iter().enumerate() {
        let drawn = number(&seen["drawn"][side]);
        assert!((drawn - expected).abs() < 1.5, "{}", seen["drawn"]);
    }
    // The engine looks at a frame as at a whole picture.
    let floats = |value: &Value| -> Vec<f32> {
        value.as_array().expect("numbers").iter().map(|value| number(value) as f32).collect()
    };
    let [x1, y1, x2, y2] = floats(&seen["looked"]["bbox"])[..] else { panic!("{seen}") };
    let embedding = native_embedding(&site, &picture, BBox::new(x1, y1, x2, y2));
    let cosine: f32 =
        floats(&seen["looked"]["embedding"]).iter().zip(&embedding).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.9999, "cosine {cosine}");
    assert_eq!(seen["own"], "My own thing");
    assert_eq!(seen["failed"], json!({ "cards": 0, "stage": false }));
    if chromium {
        well("a measurement that runs", &seen["running"]);
        assert_eq!(seen["bars"], seen["rows"], "one column has bars, too");
        assert_eq!((&seen["tapped"], &seen["fingers"]), (&json!(1), &json!([20, 15, 50, 25])));
    }
}
