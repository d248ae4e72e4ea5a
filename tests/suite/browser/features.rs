//! What else a visitor does on a published page.

use std::path::Path;

use serde_json::{Value, json};

use super::{Server, native, screenshots, script, site};

/// Runs a feature of `features.mjs` with the first sample.
fn feature(name: &str) -> Value {
    let site = site();
    let server = Server::start(&site);
    let picture = site.join("samples/1.jpg");
    let arguments = [Path::new(&server.address), &screenshots(), Path::new(name), &picture];
    let seen = script("features.mjs", &arguments);
    assert_eq!(seen["problems"], json!([]), "{name}: {seen}");
    if let Some(origins) = seen["origins"].as_array() {
        let own = |origin: &Value| origin.as_str().is_some_and(|o| server.address.starts_with(o));
        assert!(origins.iter().all(own), "{name} asked {origins:?}");
    }
    seen
}

#[test]
fn everybody_can_use_the_page() {
    let seen = feature("accessible");
    for state in ["before", "light", "dark", "narrow", "bench"] {
        let found = &seen["found"][state];
        assert!(found["passed"].as_u64() > Some(20), "{state}: the audit looked at nothing");
        assert_eq!(found["serious"], json!([]), "{state}");
    }
    assert_eq!(seen["overflow"], 0);
}

#[test]
fn the_page_speaks_the_visitors_language() {
    let seen = feature("languages");
    let (chinese, english) = (&seen["chinese"], &seen["english"]);
    assert_eq!(chinese["lang"], "zh");
    for key in ["prompt", "status", "timings", "samples"] {
        let is_chinese = |text: &Value| {
            text.as_str().expect("a sentence").chars().any(|c| ('一'..='鿿').contains(&c))
        };
        assert!(is_chinese(&chinese[key]), "{key}: {chinese}");
        assert!(!is_chinese(&english[key]), "{key}: {english}");
    }
    assert_eq!(english["cards"], 3, "the answers stay");
    assert_eq!((&seen["again"], &seen["browserChose"]), (&json!("zh"), &json!("zh")));
    assert_eq!(seen["bench"], "这台设备有多快？");
}

#[test]
fn pictures_of_the_site_have_addresses_and_other_sites_are_not_asked() {
    let seen = feature("addresses");
    assert_eq!(seen["named"].as_array().map(Vec::len), Some(3), "{seen}");
    assert_eq!(seen["kept"], seen["other"], "a sentence is no picture");
}

#[test]
fn thresholds_move_and_the_crops_are_shown() {
    let seen = feature("inside");
    let site = site();
    let (found, labels) = native(&site, &site.join("samples/1.jpg"));
    let crops = seen["crops"].as_array().expect("a list");
    assert_eq!(crops.len(), found.len());
    assert!(crops.iter().all(|crop| crop[0] == 64 && crop[1] == 64), "{crops:?}");
    let nearest = seen["nearest"].as_array().expect("a list");
    assert!(nearest[0].as_str().expect("text").ends_with(&labels[0]), "{nearest:?}");
    assert_eq!(seen["strict"], "3 objects found, 0 recognized.");
    assert_eq!(seen["lax"], "3 objects found, 3 recognized.");
    assert!(seen["many"].as_u64() > Some(3));
    assert_eq!(seen["back"], true);
    assert!(seen["focused"].as_str().expect("a class").starts_with("card"), "{seen}");
    assert!(seen["alike"].as_array().is_some_and(|pairs| pairs.len() > 3), "{seen}");
}

#[test]
fn two_tabs_keep_what_both_learn() {
    let found = &feature("tabs")["found"];
    for name in ["first thing", "second thing"] {
        assert_eq!(found[name], json!([name]), "{found}");
    }
}

#[test]
fn a_name_is_one_class_however_it_is_typed() {
    let seen = feature("spelled");
    assert_eq!(seen["said"], json!(vec!["Learned: Crème Kiwi."; 4]), "{seen}");
    let classes = seen["classes"].as_array().expect("a list");
    let ours = classes.iter().filter(|name| name.as_str().is_some_and(|n| n.contains("me ")));
    assert_eq!(ours.count(), 1, "{seen}");
}

#[test]
fn a_full_browser_says_so_and_goes_on() {
    let seen = feature("full");
    assert_eq!(seen["first"], "a thing");
    assert!(seen["kept"].as_str().expect("a sentence").contains("save them as a file"), "{seen}");
}

#[test]
fn an_engine_that_stops_is_started_again_and_a_lost_graphics_device_replaced() {
    let seen = feature("recovers");
    assert_eq!(seen["again"]["labels"], seen["before"], "the shown picture stays");
    assert_eq!(seen["again"]["status"], "The engine stopped and was started again.");
    for moment in ["idle", "busy"] {
        assert_eq!(seen[moment], seen["before"], "{moment}");
    }
    assert!(seen["before"].as_array().is_some_and(|labels| !labels.is_empty()), "{seen}");
    let end = seen["end"].as_str().expect("a sentence");
    assert!(end.contains("Reload the page"), "an engine that always stops is given up: {end}");
    let graphics = &seen["graphics"];
    assert_eq!(graphics["engine"], "cpu", "{graphics}");
    assert_eq!(graphics["labels"], seen["before"]);
    assert!(graphics["status"].as_str().expect("a sentence").contains("graphics device failed"));
    assert!(graphics["timings"].as_str().expect("a line").contains("which failed"), "{graphics}");
    assert_eq!(seen["graphicsProblems"], json!([]));
}

/// The engine's memory never shrinks: what is the same after the last picture as after the first fifth
/// has not grown. `MAGPIE_SOAK=2000` gives as many.
#[test]
fn many_pictures_of_all_sizes_leave_no_memory_behind() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let count = std::env::var("MAGPIE_SOAK").unwrap_or_else(|_| "100".to_owned());
    let seen = script("soak.mjs", &[&site, &picture, Path::new(&count)]);
    println!("{seen}");
    // A lesson holds an embedding and a small picture.
    let lessons = count.parse::<f64>().expect("a number") / 4.0;
    for (what, room) in [("engine", 1e6), ("page", 16e6), ("taught", 4e6 + 20e3 * lessons)] {
        let bytes: Vec<f64> =
            seen[what].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        if let [first, .., last] = bytes[..] {
            assert!(last <= first + room, "{what}: {bytes:?}");
        }
    }
    assert_eq!(seen["engine"].as_array().map(Vec::len), Some(5));
    assert_eq!((&seen["refused"], &seen["problems"]), (&json!(0), &json!([])));
    assert!(seen["objects"].as_u64() > Some(0), "{seen}");
}

#[test]
fn the_cameras_things_are_followed_and_the_camera_goes_off() {
    let seen = feature("camera");
    let running = &seen["running"];
    assert!(running["boxes"].as_u64() > Some(0), "{seen}");
    assert_eq!((&running["turn"], &running["torch"]), (&json!(false), &json!(false)));
    // The same thing is named while it moves over the frame.
    let site = site();
    let (_, labels) = native(&site, &site.join("samples/1.jpg"));
    let named = running["labels"].as_array().expect("a list");
    assert!(named.iter().any(|name| labels.iter().any(|label| name == label)), "{named:?}");
    let lefts: Vec<i64> =
        seen["lefts"].as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
    let (least, most) = (lefts.iter().min(), lefts.iter().max());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least > 20), "{lefts:?}");
    // What is followed is not looked at in every frame.
    let work = |what: &str| seen["work"][what].as_u64().expect("a number");
    assert!(work("embedded") > 0 && work("embedded") < work("objects"), "{}", seen["work"]);
    assert_eq!((&seen["stopped"], &seen["ended"]), (&Value::Null, &json!(true)));
}

#[test]
fn a_visitor_turns_the_camera_or_has_none() {
    let seen = feature("cameras");
    assert_eq!((&seen["both"], &seen["hidden"]), (&json!(true), &json!(true)));
}

#[test]
fn the_page_works_in_firefox() {
    let site = site();
    let server = Server::start(&site);
    let picture = site.join("samples/1.jpg");
    let seen = script("firefox.mjs", &[Path::new(&server.address), &screenshots(), &picture]);
    assert_eq!(seen["problems"], json!([]), "{seen}");
    let (found, labels) = native(&site, &picture);
    assert_eq!(seen["boxes"].as_u64(), Some(found.len() as u64));
    let shown = seen["labels"].as_array().expect("a list");
    for ((shown, label), found) in shown.iter().zip(&labels).zip(&found) {
        let expected = if found.known { label.as_str() } else { "Not known" };
        assert_eq!(shown, expected, "{seen}");
    }
    assert!(seen["timings"].as_str().expect("a line").contains("CPU"), "{seen}");
    assert_eq!(seen["taught"], "my thing");
    assert_eq!(seen["bench"], json!({ "status": "Done.", "parts": 13 }));
}
