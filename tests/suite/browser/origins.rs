//! Engine and bundle from other origins, policies of pages, what keeps a page from starting, and elements that
//! share an engine.

use std::collections::BTreeSet;
use std::path::Path;

use models::bundle::MANIFEST_NAME;
use serde_json::{Value, json};

use super::shards::republish;
use super::{native, script, site};

/// What scenarios of `origins.mjs` saw.
fn seen(browser: &str, scenarios: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--shards", "never", "--title", "Another title", "--note", "Another note."];
    let next = republish(folder.path(), 0, &more);
    let manifest = next.join("bundle").join(MANIFEST_NAME);
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    let mut changed: Value = serde_json::from_str(&text).expect("JSON");
    changed["settings"]["min_similarity"] = json!(0.61);
    std::fs::write(&manifest, changed.to_string()).expect("a disk");
    let (site, picture) = (site(), site().join("samples/2.jpg"));
    let arguments = [Path::new(browser), &site, &next, &picture, Path::new(scenarios)];
    script("origins.mjs", &arguments)
}

/// Labels of the picture, as the native pipeline has them.
fn labels() -> Value {
    json!(native(&site(), &site().join("samples/2.jpg")).1)
}

/// What a page said, wherever it did.
fn said(seen: &Value) -> String {
    [&seen["unable"], &seen["status"], &seen["words"]]
        .map(|text| text.as_str().unwrap_or_default())
        .concat()
}

fn assert_foreign(seen: &Value, has_threads: bool) {
    for page in
        ["own", "plain", "isolated", "credentialless", "policy", "bundle alone", "engine alone"]
    {
        assert_eq!(seen[page]["labels"], labels(), "{page}: {}", seen[page]);
        let isolated = page != "plain";
        assert_eq!(seen[page]["isolated"], isolated, "{page}");
        let threads = if isolated && has_threads { 2 } else { 1 };
        assert_eq!(seen[page]["threads"], threads, "{page}");
    }
    // What another origin keeps for itself is told as such.
    for (page, code, words) in [
        ("closed bundle", "fetch", "Access-Control-Allow-Origin"),
        ("closed engine", "device", "Access-Control-Allow-Origin"),
        ("narrow", "device", "worker-src blob:"),
    ] {
        assert_eq!(seen[page]["code"], code, "{page}: {}", seen[page]);
        let message = seen[page]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{page}: {message}");
    }
}

fn assert_asked(seen: &Value) {
    for (language, words) in [("en", "its own site alone"), ("zh", "本站点")] {
        let page = &seen[language];
        assert!(said(page).contains(words), "{language}: {page}");
        assert_eq!(page["asked"], 0, "the other site hears nothing");
    }
    assert_eq!(seen["own"]["state"], "done", "{}", seen["own"]);
}

fn assert_lacking(seen: &Value) {
    let page_in_place = "the host sent a page in place of the file";
    for (what, words) in [
        ("no SIMD", ["no SIMD", "Safari 16.4"]),
        ("no WebAssembly", ["no WebAssembly", "switched off"]),
        ("refused in the worker", ["The engine does not run", "refused here"]),
        ("page for web_bg.wasm", ["web_bg.wasm", page_in_place]),
        ("page for web.js", ["web.js", page_in_place]),
        ("page for worker.js", ["worker.js", page_in_place]),
        ("page for the engine", ["worker-", page_in_place]),
        ("page for its wasm", ["_bg.wasm", page_in_place]),
    ] {
        let said = said(&seen[what]);
        for words in words {
            assert!(said.contains(words), "{what}: {said}");
        }
        assert!(!said.contains("choose the CPU"), "{what}: it is the CPU's that failed: {said}");
    }
    for what in ["no SIMD", "no WebAssembly"] {
        assert_eq!(seen[what]["asked"], 0, "{what}: nothing of engine or bundle is downloaded");
    }
}

#[test]
fn engine_and_bundle_come_from_another_origin_and_under_policies() {
    let seen = seen("chromium", "elsewhere,typed,policy");
    assert_foreign(&seen["elsewhere"], true);
    let typed = &seen["typed"];
    assert_eq!(typed["typed"]["labels"], labels(), "{typed}");
    assert_eq!(typed["typed"]["threads"], 2, "{typed}");
    let message = typed["other"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("has to allow the policy magpie"), "{typed}");
    assert_eq!(typed["page"]["opened"]["state"], "done", "{typed}");
    assert_eq!(typed["page"]["problems"], json!([]), "{typed}");
    assert_eq!(typed["page"]["keeps"], true, "{typed}");
    // From the second visit on the engine's worker gets no further than its site.
    let tries = json!([["fetched", "fetched"], ["fetched", "refused"]]);
    assert_eq!(seen["policy"], tries, "{}", seen["policy"]);
}

#[test]
fn a_page_says_what_keeps_it_from_starting() {
    let seen = seen("chromium", "asked,lacking");
    assert_asked(&seen["asked"]);
    assert_lacking(&seen["lacking"]);
}

#[test]
fn firefox_takes_an_engine_from_elsewhere_too() {
    let seen = seen("firefox", "elsewhere,asked,lacking");
    let threads = seen["elsewhere"]["own"]["threads"] == 2;
    assert_foreign(&seen["elsewhere"], threads);
    assert_asked(&seen["asked"]);
    assert_lacking(&seen["lacking"]);
}

#[test]
fn elements_share_an_engine_that_ends_after_the_last() {
    assert_shared(&seen("chromium", "elements")["elements"]);
}

#[test]
fn elements_are_the_same_in_firefox() {
    let seen = seen("firefox", "elements,changing");
    assert_shared(&seen["elements"]);
    assert_begins_anew(&seen["changing"]);
}

fn assert_shared(seen: &Value) {
    assert_eq!(seen["ready"]["same"], true, "{seen}");
    assert_eq!(seen["engines"], 1, "{seen}");
    // Two engines would ask four times; a browser may repeat a request.
    let weights = seen["weights"].as_array().expect("a list");
    let path = |asked: &Value| asked.as_str()?.split(' ').next().map(str::to_owned);
    let networks: BTreeSet<_> = weights.iter().filter_map(path).collect();
    assert!(networks.len() == 2 && weights.len() < 4, "{weights:?}");
    assert_eq!(seen["moved"], json!({ "same": true, "objects": 2 }), "{seen}");
    assert_eq!((&seen["after"], &seen["busy"]), (&json!(1), &json!(1)), "{seen}");
    for ended in ["left", "none"] {
        assert!(seen[ended].is_number(), "{ended}: an engine is left: {seen}");
    }
    assert_eq!(seen["open"], "AbortError", "what waits for an element that leaves is told");

    let shown = &seen["shown"];
    assert_eq!(shown["clear"], true, "a label lies over the box for dropping: {shown}");
    let lines = shown["lines"].as_array().expect("a list");
    for (object, line) in shown["objects"].as_array().expect("a list").iter().zip(lines) {
        let known = object["known"] == true;
        let others = line["others"].as_array().expect("a list");
        assert_eq!(others.len(), if known { 2 } else { 3 }, "{line}");
        let begins = |text: &Value, label: &Value| {
            text.as_str().expect("text").starts_with(label.as_str().expect("a label"))
        };
        let nearest = usize::from(known);
        assert!(begins(&others[0], &object["labels"][nearest]), "{line}");
        assert_eq!(begins(&line["text"], &object["labels"][0]), known, "{line}");
        assert_eq!(line["pictures"], u8::from(known), "{line}");
    }

    let known = lines.iter().filter(|line| line["pictures"] == 1).count();
    let facts = json!(["price", "<b>1</b>", "shelf", "2"]);
    assert_eq!(seen["facts"], json!(vec![facts; known]), "{seen}");

    let race = &seen["race"];
    let twice = json!({ "first": "AbortError", "hidden": false, "boxes": true });
    assert_eq!(race["twice"], twice, "{race}");
    assert_eq!(race["source"]["told"], json!(["recognized"]), "{race}");
    assert_eq!(race["failing"].as_array().map(Vec::len), Some(1), "told once: {race}");
    let broken = seen["broken"].as_str().unwrap_or_default();
    assert!(broken.contains("magpie.js"), "{broken}");
}

#[test]
fn sources_may_be_taken_back_at_once_and_hold_nobody_up() {
    let seen = &seen("chromium", "sources")["sources"];
    let whole = &seen["whole"];
    assert!(whole["boxes"].as_array().is_some_and(|boxes| !boxes.is_empty()), "{seen}");
    for source in ["frame", "canvas", "bitmap"] {
        assert_eq!(&seen["taken"][source], whole, "{source}");
    }
    let stuck = &seen["stuck"];
    let waited = |what: &str| stuck[what]["milliseconds"].as_f64().expect("a time");
    assert_eq!(stuck["aborted"]["told"], "AbortError", "{stuck}");
    // Nobody would hear of it for longer.
    assert!(waited("aborted") < 2000.0, "heard at once: {stuck}");
    for what in ["next", "later"] {
        assert_eq!(stuck[what]["told"], "answered", "{stuck}");
    }
    assert!(waited("later") > 2000.0, "what is not ready is waited for a while: {stuck}");
    assert_eq!(stuck["disposed"], json!(["disposed", "disposed", "disposed"]), "{stuck}");
    assert_eq!(seen["order"], json!([1, 2, 3]));
}

#[test]
fn an_element_begins_anew_with_another_bundle_or_an_engine_that_has_ended() {
    assert_begins_anew(&seen("chromium", "changing")["changing"]);
}

fn assert_begins_anew(seen: &Value) {
    let empty = json!({ "picture": false, "boxes": 0, "answers": 0, "status": "" });
    for what in ["changed", "gone"] {
        assert_eq!(seen[what], empty, "{what}: {seen}");
    }
    assert_eq!(seen["first"]["picture"], true, "{seen}");
    assert_eq!((&seen["first"]["boxes"], &seen["after"]["boxes"]), (&json!(2), &json!(2)));
    assert_eq!(seen["after"]["title"], "Another title", "{seen}");
    assert_eq!(seen["nowhere"], json!({ "code": "fetch", "said": true }), "{seen}");
    assert_eq!(seen["back"], seen["first"], "{seen}");
    let twins = json!({ "same": true, "ended": [2, 2], "renewed": true });
    assert_eq!(seen["twins"], twins, "{seen}");
}

#[test]
fn calls_refuse_what_they_do_not_take_and_loads_are_given_up_at_once() {
    let seen = seen("chromium", "calls,republished");
    let calls = &seen["calls"];
    for (call, told) in calls["refused"]["seen"].as_object().expect("calls") {
        let told = told.as_str().unwrap_or_default();
        assert!(told.starts_with("argument: "), "{call}: {told}");
    }
    for (argument, told) in calls["refused"]["named"].as_object().expect("arguments") {
        for told in told.as_array().expect("calls") {
            let told = told.as_str().unwrap_or_default();
            let begins = told.starts_with(&format!("argument: {argument}"));
            assert!(begins, "{argument}: {told}");
        }
    }
    assert_eq!(calls["refused"]["runs"], json!([1, 1, 1, 1, 1, 1]), "either kind of name: {calls}");
    assert_eq!(calls["refused"]["codes"], json!(["too-new", "toonew"]));
    assert_eq!(calls["refused"]["listed"], true, "{calls}");
    assert_eq!(calls["refused"]["answers"], 2, "{calls}");
    assert_eq!(calls["refused"]["ended"], json!([false, true]), "{calls}");
    assert_eq!(calls["aborted"]["name"], "AbortError", "{calls}");
    let waited = calls["aborted"]["milliseconds"].as_f64().expect("a time");
    assert!(waited < 2000.0, "heard at once, what is silent is waited for longer: {waited}");
    assert!(calls["left"].is_number(), "an engine is left: {calls}");

    let after = &seen["republished"]["after"];
    assert_ne!(after["title"], seen["republished"]["before"]["title"]);
    for (what, value) in
        [("title", "Another title"), ("heading", "Another title"), ("least", "0.61")]
    {
        assert_eq!(after[what], value, "{what}: {after}");
    }
    assert!(after["notes"].as_str().unwrap_or_default().contains("Another note."), "{after}");
}
