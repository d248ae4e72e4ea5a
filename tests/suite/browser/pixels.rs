//! Pixels that come from the browser: those that it shows, or a sentence; and pictures that are shown as they were
//! recognized.

use std::path::Path;

use serde_json::{Value, json};

use super::{native, script, site};

fn seen(browser: &str, scenarios: &str) -> Value {
    let picture = site().join("samples/1.jpg");
    let site = site();
    let arguments = [Path::new(browser), &site, &picture, Path::new(scenarios)];
    script("pixels.mjs", &arguments)
}

/// Every form of the picture has the embedding of its file.
#[track_caller]
fn all_alike(forms: &Value, least: usize) {
    let forms = forms.as_object().expect("forms");
    let cosines = forms.iter().filter(|(name, _)| *name != "made");
    for (name, cosine) in cosines.clone() {
        // The icon is the picture at another size.
        let bound = if name.contains("icon") { 0.9 } else { 0.9999 };
        assert!(cosine.as_f64() >= Some(bound), "{name}: {cosine}");
    }
    assert!(cosines.count() >= least, "{forms:?}");
    assert_eq!(forms["made"], json!(["picture", "words", true]));
}

#[track_caller]
fn decoded_whatever_it_is_called(sizes: &Value) {
    let sizes = sizes.as_object().expect("types");
    assert!(sizes.len() == 4 && sizes.values().all(|size| *size == json!([2, 2])), "{sizes:?}");
}

#[test]
fn a_browser_that_falsifies_canvases_gives_the_same_answers_or_says_why_not() {
    let seen = seen("private", "forms,without,foreign,frames,avif");
    all_alike(&seen["forms"], 8);
    for (name, said) in seen["without"]["forms"].as_object().expect("forms") {
        match name.as_str() {
            // The engine decodes these itself.
            "no type" | "another type" => assert!(said.as_f64() >= Some(0.9999), "{name}: {said}"),
            "made" => {}
            _ => {
                let said = said.as_str().unwrap_or_default();
                assert!(said.starts_with("picture: this browser falsifies"), "{name}: {said}");
            }
        }
    }
    let without = &seen["without"];
    for sentence in [&without["icon"]["status"], &without["camera"]] {
        assert!(sentence.as_str().expect("a sentence").contains("falsifies"), "{sentence}");
    }
    assert_eq!(without["icon"]["cards"], 0);
    let found = native(&site(), &site().join("samples/1.jpg")).0.len();
    assert_eq!(without["file"]["cards"].as_u64(), Some(found as u64));
    assert_eq!(seen["foreign"]["icon"]["labels"], seen["foreign"]["same"]["labels"]);
    assert!(seen["foreign"]["icon"]["cards"].as_u64() > Some(0), "{}", seen["foreign"]);
    decoded_whatever_it_is_called(&seen["avif"]);
    assert!(seen["frames"]["plain"].as_f64() > Some(0.9), "{}", seen["frames"]);
}

#[test]
fn noise_in_what_is_read_from_a_canvas_is_noticed() {
    let seen = seen("chromium", "forms,noise,without,avif");
    decoded_whatever_it_is_called(&seen["avif"]);
    all_alike(&seen["forms"], 8);
    all_alike(&seen["noise"], 8);
    let image = seen["without"]["forms"]["image"].as_str().unwrap_or_default();
    assert!(image.contains("falsifies"), "{}", seen["without"]);
}

#[test]
fn what_is_shown_is_what_was_recognized() {
    for browser in ["chromium", "firefox"] {
        let seen = seen(browser, "turned,half");
        for (name, shown, corner) in [
            ("3.png", [320, 200], "bottom right"),
            ("3.webp", [320, 200], "bottom right"),
            ("6.png", [200, 320], "top right"),
            ("6.webp", [200, 320], "top right"),
        ] {
            let visit = &seen["turned"][name];
            assert_eq!(visit["state"], "done", "{browser} {name}: {visit}");
            assert_eq!(visit["shown"], json!(shown), "{browser} {name}");
            assert_eq!(visit["corners"], json!([corner]), "{browser} {name}");
            let element = json!({ "recognized": shown, "shown": shown, "corner": corner });
            assert_eq!(visit["element"], element, "{browser} {name}: the package's element");
        }
        let half = &seen["half"]["page"];
        assert_eq!((&half["state"], &half["cards"]), (&json!("failed"), &json!(0)), "{browser}");
        assert!(half["status"].as_str().expect("a sentence").contains("incomplete"), "{half}");
        assert_eq!(seen["half"]["code"], "picture", "{browser}");
    }
}

#[test]
fn more_pixels_than_the_engine_takes_are_shrunk_by_the_browser() {
    let seen = &seen("chromium", "large")["large"];
    assert_eq!(seen["page"]["state"], "done", "{seen}");
    assert_eq!(seen["size"], json!([9000, 8000]), "boxes are in the picture's own pixels");
}
