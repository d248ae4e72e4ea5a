//! Hosts that lie or are silent, and browsers that lack or refuse parts of what the page would like to use.

use std::path::Path;

use models::recognizer::Recognition;
use serde_json::{Value, json};

use super::shards::publish_in_shards;
use super::{native, script, site};

/// What the scenarios saw in a browser.
fn seen(browser: &str, scenarios: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    // Tabs need no other site.
    let alone = scenarios == "tabs";
    let shards = if alone { site() } else { publish_in_shards(folder.path(), 0) };
    let next = if alone { site() } else { publish_whole_without(folder.path(), 7) };
    let picture = site().join("samples/2.jpg");
    let site = site();
    let arguments: Vec<&Path> =
        vec![Path::new(browser), &site, &shards, &next, &picture, Path::new(scenarios)];
    script("hostile.mjs", &arguments)
}

/// The demo with fewer classes.
fn publish_whole_without(folder: &Path, classes: usize) -> std::path::PathBuf {
    super::shards::republish(folder, classes, &["--shards", "never"])
}

/// What the page says of the picture: names of what is known.
fn headings() -> Vec<String> {
    let (found, labels) = native(&site(), &site().join("samples/2.jpg"));
    let named = |(found, label): (&Recognition, String)| {
        if found.known { label } else { "Not known".to_owned() }
    };
    found.iter().zip(labels).map(named).collect()
}

fn right(answer: &Value) -> bool {
    answer["late"].is_null() && answer["labels"] == json!(headings())
}

/// Shards round their entries: as many answers, most of them the same.
fn nearly_right(answer: &Value) -> bool {
    let expected = headings();
    let labels = answer["labels"].as_array().map_or(&[][..], Vec::as_slice);
    let same = labels.iter().filter(|label| expected.iter().any(|e| *label == e)).count();
    answer["late"].is_null() && labels.len() == expected.len() && same * 2 > expected.len()
}

#[test]
fn no_lie_of_a_host_keeps_a_page_from_its_answer() {
    let seen = seen("chromium", "lies,resumed");
    for (lie, visit) in seen["lies"].as_object().expect("scenarios") {
        // Bytes that are never right can only be told.
        if lie == "one bit flipped" {
            let status = visit["lied"]["status"].as_str().unwrap_or_default();
            assert_eq!(visit["lied"]["state"], "failed", "{visit}");
            assert!(status.contains("damaged"), "{lie}: {status}");
        } else {
            assert!(nearly_right(&visit["lied"]), "{lie}: {}", visit["lied"]);
        }
        assert!(nearly_right(&visit["healed"]), "{lie}, healed: {}", visit["healed"]);
        assert!(nearly_right(&visit["reloaded"]), "{lie}, reloaded: {}", visit["reloaded"]);
    }
    for (lie, visit) in seen["resumed"].as_object().expect("scenarios") {
        assert_eq!(visit["opened"]["state"], "done", "{lie}: {visit}");
        assert!(right(&visit["answer"]), "{lie}: {visit}");
    }
}

#[test]
fn a_browser_without_storage_recognizes_and_teaches_in_memory() {
    let seen = seen("chromium", "storage");
    for (stub, visit) in seen["storage"].as_object().expect("scenarios") {
        assert_eq!(visit["opened"]["state"], "done", "{stub}: {}", visit["opened"]);
        assert!(right(&visit["answer"]), "{stub}: {}", visit["answer"]);
        let taught = visit["taught"]["status"].as_str().unwrap_or_default();
        assert!(taught.contains("Learned"), "{stub}: {taught}");
        assert_eq!(visit["again"]["labels"][0], "my thing", "{stub}: {}", visit["again"]);
        let kept = visit["kept"].as_str().unwrap_or_default();
        // What the first two writing ways have in common is that one of them is enough.
        let keeps = ["no createWritable", "a size of nonsense"].contains(&stub.as_str());
        assert_eq!(!kept.contains("cannot keep"), keeps, "{stub}: {kept}");
        assert!(visit["reloaded"]["late"].is_null(), "{stub}: {}", visit["reloaded"]);
        let back = visit["reloaded"]["labels"][0] == "my thing";
        assert_eq!(back, keeps, "{stub}: {}", visit["reloaded"]);
    }
}

#[test]
fn lessons_that_cannot_be_read_are_not_written_over() {
    let seen = seen("chromium", "unread");
    for (stub, visits) in seen["unread"].as_object().expect("scenarios") {
        assert_eq!(visits["before"]["said"], json!(["kept"]), "{stub}: {visits}");
        // Read again before the change, the lessons are joined and kept.
        let heals = stub == "getFile at first";
        let (said, classes) = if heals {
            ("kept", json!(["zz mine: 1", "zz other: 1"]))
        } else {
            ("not kept", json!(["zz other: 1"]))
        };
        assert_eq!(visits["unread"]["said"], json!([said]), "{stub}: {visits}");
        assert_eq!(visits["unread"]["classes"], classes, "{stub}: {visits}");
        let after = if heals { classes } else { json!(["zz mine: 1"]) };
        assert_eq!(visits["after"]["classes"], after, "{stub}: {visits}");
    }
}

#[test]
fn a_name_is_one_class_however_it_is_spelled_and_can_be_seen() {
    let seen = &seen("chromium", "labels")["labels"];
    let length = "a name has 1 to 200 characters";
    let unseen = "nothing of that name can be seen: type another one";
    let said = json!([
        "kept",
        "kept",
        "kept",
        "kept",
        length,
        unseen,
        length,
        "a name cannot hold the character U+0000: leave it out",
        length,
    ]);
    assert_eq!(seen["said"], said);
    assert_eq!(seen["classes"], json!(["zz Kase: 3"]));
}

#[test]
fn what_fails_in_the_engine_or_before_the_page_is_told_and_goes_on() {
    let seen = seen("chromium", "trap,early,refresh,loads");
    let trap = &seen["trap"];
    assert!(trap["taught"]["late"].is_null(), "the page hears of it: {trap}");
    // What was learned is kept, though the engine never said so.
    assert_eq!(trap["again"]["labels"][0], "my thing", "{trap}");

    let early = seen["early"].as_object().expect("scenarios");
    for (what, words) in [
        ("no worker", "worker"),
        ("no engine", "worker"),
        ("no module of the page", "start.js"),
        ("no start", "start.js"),
        ("file", "magpie serve"),
    ] {
        let seen = &early[what];
        assert!(seen["late"].is_null(), "{what}: {seen}");
        let told = ["unable", "status", "words"]
            .map(|key| &seen[key])
            .map(|text| text.as_str().unwrap_or_default());
        assert!(told.iter().any(|text| text.contains(words)), "{what}: {seen}");
    }
    assert!(early["no code of the page"]["unable"].is_string(), "{}", early["no code of the page"]);
    for what in
        ["silent adapter", "service worker throws", "silent start", "no headers of a language"]
    {
        assert_eq!(early[what]["state"], "done", "{what}: {}", early[what]);
    }

    assert!(right(&seen["refresh"]["answer"]), "{}", seen["refresh"]);
    for load in seen["loads"]["aborted"].as_array().expect("a list") {
        assert_eq!(load["name"], "AbortError", "{load}");
        // The files would come for seven seconds more.
        assert!(load["milliseconds"].as_f64().expect("a time") < 2000.0, "heard at once: {load}");
    }
    assert_eq!(seen["loads"]["many"], 15, "every engine becomes ready");
}

#[test]
fn the_plain_engine_takes_the_place_of_one_that_stops() {
    let seen = &seen("chromium", "plain")["plain"];
    assert!(right(&seen["answer"]), "{seen}");
    assert_eq!(seen["engines"], json!(["relaxed", "relaxed", "cpu"]), "{seen}");
    // The package's calls fail while it is looked for, and then answer.
    assert_eq!(seen["told"], json!(["stopped", "stopped", "answered", "answered"]), "{seen}");
    let refused = &seen["refused"];
    assert_eq!(refused["state"], "failed", "{refused}");
    let status = refused["status"].as_str().unwrap_or_default();
    assert!(status.contains("The engine does not run") && !status.contains("browser"), "{status}");
}

/// Whoever asked hears that the answer could not be posted.
#[track_caller]
fn unposted_is_told(seen: &Value) {
    for what in ["embed", "recognize"] {
        let told = &seen["told"][what];
        assert_eq!(told["code"], "device", "{what}: {seen}");
        let message = told["message"].as_str().unwrap_or_default();
        assert!(
            message.contains("the answer cannot be posted: it could not be cloned"),
            "{message}"
        );
    }
    assert!(seen["told"]["classes"].as_u64() > Some(0), "{seen}");
    // A second engine cannot either: the page says so.
    let refused = &seen["refused"];
    assert!(refused["late"].is_null(), "{refused}");
    assert_eq!(refused["state"], "failed", "{refused}");
    let words = refused["words"].as_str().unwrap_or_default();
    assert!(words.contains("cannot be posted"), "{refused}");
    assert!(right(&seen["healed"]), "{}", seen["healed"]);
}

#[test]
fn nothing_waits_for_ever() {
    let seen = &seen("chromium", "limits")["limits"];
    let helpers = &seen["helpers"];
    assert_eq!(helpers["isolated"], true, "{helpers}");
    assert_eq!((&helpers["length"], &helpers["threads"]), (&json!(2), &json!(1)), "{helpers}");
    let silent = &seen["silent"];
    assert!(silent["late"].is_null(), "{silent}");
    assert_eq!(silent["state"], "failed", "{silent}");
    let status = silent["status"].as_str().unwrap_or_default();
    assert!(status.contains("Check the connection"), "{status}");
    assert!(nearly_right(&seen["healed"]), "{}", seen["healed"]);
}

#[test]
fn an_answer_that_cannot_be_posted_is_a_failure() {
    unposted_is_told(&seen("chromium", "unposted")["unposted"]);
}

#[test]
fn a_kept_site_outlives_an_update_and_a_broken_host() {
    let seen = seen("chromium", "kept");
    assert_eq!(seen["kept"]["names"].as_array().map(Vec::len), Some(1), "{}", seen["kept"]);
    for when in ["updated", "broken", "silent"] {
        let visit = &seen["kept"][when];
        assert_eq!(visit["opened"]["state"], "done", "{when}: {visit}");
        assert!(right(&visit["answer"]), "{when}: {visit}");
    }
}

#[test]
fn a_site_that_was_published_anew_is_shown_also_where_the_disk_is_full() {
    let seen = &seen("chromium", "renewed")["renewed"];
    for (what, taken) in [("full", false), ("cached", true)] {
        let visit = &seen[what];
        let size = |when: &str| {
            assert_eq!(visit[when]["state"], "done", "{what}, {when}: {visit}");
            visit[when]["size"].as_str().expect("a sentence").to_owned()
        };
        let (old, new) = (size("old"), size("second"));
        assert_ne!(old, new, "{what}: no old file is brought back: {visit}");
        // What a browser keeps by itself it may show once more.
        assert!(size("first") == new || taken, "{what}: {visit}");
        // Without a network there is one whole site: the one that fitted on the disk.
        assert_eq!(visit["taken"], taken, "{what}: {visit}");
        assert_eq!(size("away"), if taken { new } else { old }, "{what}: {visit}");
        assert!(visit["answer"]["late"].is_null(), "{what}: {visit}");
        assert!(!visit["answer"]["labels"].as_array().expect("labels").is_empty(), "{visit}");
    }
}

#[test]
fn firefox_answers_too_where_a_host_lies() {
    let seen = seen("firefox", "lies,resumed,refresh,unposted");
    unposted_is_told(&seen["unposted"]);
    for (lie, visit) in seen["lies"].as_object().expect("scenarios") {
        if lie != "one bit flipped" {
            assert!(nearly_right(&visit["lied"]), "{lie}: {}", visit["lied"]);
        }
        assert!(nearly_right(&visit["healed"]), "{lie}, healed: {}", visit["healed"]);
        assert!(nearly_right(&visit["reloaded"]), "{lie}, reloaded: {}", visit["reloaded"]);
    }
    for (lie, visit) in seen["resumed"].as_object().expect("scenarios") {
        assert!(right(&visit["answer"]), "{lie}: {visit}");
    }
    assert!(right(&seen["refresh"]["answer"]), "{}", seen["refresh"]);
}

#[test]
fn lessons_are_corrected_joined_and_hold_over_a_publication() {
    let seen = &seen("chromium", "lessons")["lessons"];
    assert!(right(&seen["before"]), "{seen}");
    for when in ["taught", "again", "reloaded"] {
        assert_eq!(seen[when]["labels"][0], "zz right", "{when}: {}", seen[when]);
    }
    let names = |key: &str| -> Vec<String> {
        let names = seen[key].as_array().expect("a list");
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    assert!(names("names").contains(&"zz right".to_owned()), "{:?}", names("names"));
    assert!(!names("names").contains(&"zz slip".to_owned()), "{:?}", names("names"));
    let both: Vec<String> = (0..2)
        .flat_map(|tab| (0..4).map(move |lesson| format!("zz tab {tab} lesson {lesson}")))
        .collect();
    assert_eq!(names("both"), both, "no page loses what another was taught");
    assert_eq!(names("renamed"), ["renamed"]);
    assert_eq!(names("old"), [""; 0], "the old name is not published again for this visitor");
}

#[track_caller]
fn assert_removed_everywhere(seen: &Value) {
    assert_eq!(seen["kept"], json!(vec![true; 6]), "{seen}");
    assert_eq!(seen["before"], json!(["zz gone", "zz stays"]), "{seen}");
    assert_eq!(seen["after"], json!(["zz later", "zz more", "zz stays"]), "{seen}");
    assert!(seen["published"].as_str().is_some_and(|name| !name.starts_with("zz ")), "{seen}");
    assert_eq!(seen["left"], json!([]), "{seen}");
}

#[test]
fn what_one_tab_removes_no_other_brings_back() {
    assert_removed_everywhere(&seen("chromium", "tabs")["tabs"]);
}

#[test]
fn what_one_tab_removes_no_other_brings_back_in_firefox() {
    assert_removed_everywhere(&seen("firefox", "tabs")["tabs"]);
}

#[test]
fn lessons_hold_over_more_classes_and_shards_until_the_visitor_starts_over() {
    let seen = &seen("chromium", "publications")["publications"];
    let things = |value: &Value| value.as_u64().expect("a number");
    let (mine, none) = (json!(["zz mine"]), json!([]));
    // One class more was taught, one removed, and seven were published.
    assert_eq!(things(&seen["more"]), things(&seen["fewer"]) + 7, "{seen}");
    for page in ["republished", "tab"] {
        assert_eq!(seen[page], json!({ "mine": mine, "gone": false }), "{page}: {seen}");
    }
    let undone = &seen["undone"];
    assert_eq!((&undone["mine"], &undone["gone"]), (&mine, &json!(true)), "{seen}");
    assert_eq!(things(&undone["things"]), things(&seen["more"]) + 1, "new classes stay: {seen}");
    assert_eq!((&seen["shards"], &seen["answer"]["labels"][0]), (&mine, &mine[0]), "{seen}");
    assert_eq!(seen["over"], none, "{seen}");
    assert!(nearly_right(&seen["end"]), "{seen}");
}
