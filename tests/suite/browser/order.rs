//! What comes late, stops, or is wanted while something else is under way, and sites that share an origin.

use std::path::Path;

use serde_json::{Value, json};

use super::shards::republish;
use super::{script, site};

/// What scenarios of `order.mjs` saw.
fn seen(browser: &str, scenarios: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    // Only one scenario needs another site.
    let other = scenarios.contains("sites");
    let next = if other { republish(folder.path(), 7, &["--shards", "never"]) } else { site() };
    let site = site();
    let [first, second] = ["samples/1.jpg", "samples/2.jpg"].map(|name| site.join(name));
    let arguments = [Path::new(browser), &site, &next, &first, &second, Path::new(scenarios)];
    script("order.mjs", &arguments)
}

#[track_caller]
fn says(look: &Value, words: &str) {
    assert!(look["late"].is_null(), "{look}");
    let status = look["status"].as_str().unwrap_or_default();
    assert!(status.contains(words), "{look}");
}

#[track_caller]
fn the_newest_stays(seen: &Value) {
    assert!(seen["asked"].as_u64() > Some(0), "the sample is on its way: {seen}");
    assert!(seen["right"]["labels"].as_array().is_some_and(|labels| !labels.is_empty()), "{seen}");
    for way in ["sample", "file", "address"] {
        assert_eq!(seen[way], seen["right"], "{way}");
    }
}

/// The next engine knows the picture and the thresholds, and nothing that was written is lost.
#[track_caller]
fn goes_on(seen: &Value) {
    for when in ["again", "after"] {
        says(&seen[when], "started again");
        assert_eq!(seen[when]["labels"], seen["before"]["labels"], "{when}");
    }
    assert_eq!(seen["half"], json!({ "written": "half a na", "here": true, "forms": 1 }));
    says(&seen["marked"], "What you marked");
    says(&seen["taught"], "my own thing");
    says(&seen["strict"], " 0 recognized");
    for when in ["held", "next"] {
        let least = seen[when]["least"].as_str().and_then(|least| least.parse::<f64>().ok());
        assert_eq!(least, Some(1.0), "{when}: {seen}");
        assert_eq!(seen[when]["labels"], json!(vec!["Not known"; 3]), "{when}: {seen}");
    }
}

#[track_caller]
fn is_retold(seen: &Value) {
    says(&seen["before"], "3 objects found");
    let told = seen["told"]["status"].as_str().unwrap_or_default();
    assert!(told.contains('3') && !told.contains("objects"), "in the other language: {told}");
    assert_eq!(seen["half"]["written"], "half a na", "{}", seen["half"]);
    assert_eq!(seen["half"]["forms"], 1);
    assert_eq!(seen["back"], seen["before"]);
    says(&seen["taught"], "half a na");
    assert_eq!(seen["forms"], Value::Null, "what was sent is done");
    assert_eq!(seen["last"]["lang"], "en", "the newest choice: {}", seen["last"]);
}

#[track_caller]
fn waits_its_turn(seen: &Value) {
    says(&seen["meanwhile"], "Looking");
    says(&seen["marked"], "What you marked");
    says(&seen["undone"], "The last change is taken back.");
}

#[track_caller]
fn are_texts_in_order(seen: &Value) {
    let expected = ["shelf", "2", "<b>price</b>", "<i>1</i>", "about", "https://a.example/"];
    assert_eq!(seen["texts"], json!(expected));
    assert_eq!(seen["link"], json!(["https://a.example/", "noopener noreferrer"]));
    assert_eq!(seen["markup"], 0);
    assert!(seen["thumbnails"].as_u64() > Some(0), "{seen}");
    assert_eq!(seen["urls"], 0, "addresses of thumbnails are given back, damaged ones too");
}

fn the_page_keeps_its_order_in(browser: &str) {
    let seen = seen(browser, "late,stopped,language,busy,facts");
    are_texts_in_order(&seen["facts"]);
    the_newest_stays(&seen["late"]);
    goes_on(&seen["stopped"]);
    is_retold(&seen["language"]);
    waits_its_turn(&seen["busy"]);
}

#[test]
fn the_newest_picture_is_shown_and_the_next_engine_knows_it() {
    the_page_keeps_its_order_in("chromium");
}

#[test]
fn the_newest_picture_is_shown_in_firefox_as_well() {
    the_page_keeps_its_order_in("firefox");
}

#[test]
fn the_words_of_a_panic_reach_the_visitor() {
    for browser in ["chromium", "firefox"] {
        let seen = seen(browser, "panics");
        for what in ["message", "task"] {
            let look = &seen["panics"][what];
            says(look, "Reload the page");
            let words = look["words"].as_str().unwrap_or_default();
            assert!(words.contains("In the engine's words: "), "{browser}, {what}: {look}");
            assert!(words.contains("panicked at"), "{browser}, {what}: {look}");
        }
        let page = seen["panics"]["page"].as_str().unwrap_or_default();
        assert!(page.starts_with("This page has stopped: panicked at"), "{browser}: {page}");
        assert!(page.contains("index.html has no element timings"), "{browser}: {page}");
    }
}

#[test]
fn two_sites_of_one_origin_share_nothing() {
    assert_apart(&seen("chromium", "sites")["sites"]);
}

#[test]
fn two_sites_of_one_origin_share_nothing_in_firefox() {
    assert_apart(&seen("firefox", "sites")["sites"]);
}

#[track_caller]
fn assert_apart(seen: &Value) {
    let own = |kept: &Value, place: &str| {
        let files = kept["files"].as_object().expect("files");
        let caches = kept["caches"].as_object().expect("caches");
        let entries = kept["entries"].as_object().expect("entries");
        let of = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<String>>();
        let lessons = files.keys().filter(|name| name.contains("lessons")).collect();
        let caches =
            caches.iter().filter(|(_, places)| **places == json!([place])).collect::<Vec<_>>();
        let entries = entries.keys().filter(|key| key.contains(&format!("/{place}/"))).collect();
        (of(lessons), of(caches.into_iter().map(|(name, _)| name).collect()), of(entries))
    };
    assert_eq!(seen["first"], "en");
    let (lessons, caches, entries) = own(&seen["one"], "one");
    assert_eq!((lessons.len(), caches.len()), (1, 1), "{}", seen["one"]);
    assert!(entries.contains(&"magpie-language /one/".to_owned()), "{entries:?}");
    assert_eq!(entries.len(), seen["one"]["entries"].as_object().map_or(0, serde_json::Map::len));

    // The second begins as if there were no other.
    assert_eq!(seen["lang"], "en");
    let named = |labels: &Value, name: &str| {
        labels.as_array().expect("labels").iter().any(|label| label == name)
    };
    assert!(!named(&seen["fresh"], "of the first"), "{}", seen["fresh"]);
    let both = &seen["both"];
    assert_eq!(own(both, "one").1, caches, "{both}");
    assert_eq!(own(both, "two").1.len(), 1, "{both}");
    assert_eq!(own(both, "two").0.len(), 2, "each has a file of its own: {both}");
    assert_eq!(both["scopes"].as_array().map(Vec::len), Some(2), "{both}");
    let file = &lessons[0];
    for kept in [both, &seen["reset"]] {
        assert_eq!(kept["files"][file], seen["one"]["files"][file], "{kept}");
    }
    assert!(!named(&seen["second"], "of the second"), "started over: {}", seen["second"]);
    assert!(named(&seen["back"]["labels"], "of the first"), "{}", seen["back"]);
    assert_eq!(seen["back"]["lang"], "zh");
    assert_eq!((&seen["old"], &seen["own"]), (&json!("zh"), &json!("zh")));
}
