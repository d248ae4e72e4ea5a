//! Networks that are slow, break, or are not there.

use serde_json::json;

use super::{browse, native, script, site};

#[test]
fn after_the_first_visit_the_page_needs_no_network() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let result = &browse(&site, &[format!("offline:cpu:{}:{{server}}", picture.display())])[0];
    // The page looks for a newer gallery and does not find the network; that is all.
    assert!(result["failure"].is_null(), "{result}");
    assert_eq!(result["state"], "done", "{result}");
    let (_, labels) = native(&site, &picture);
    let headings = result["headings"].as_array().expect("a list");
    assert_eq!(headings.len(), labels.len(), "{result}");
    assert_eq!(result["caches"].as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!(result["away"], true, "the network was really away");
    let worker = std::fs::read_to_string(site.join("sw.js")).expect("the service worker");
    assert!(!worker.contains("unpublished"), "its version is that of the site");
}

#[test]
fn downloads_go_on_where_a_connection_broke() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let seen = script("flaky.mjs", &[&site, &picture]);
    let (_, labels) = native(&site, &picture);
    for network in ["whole", "broken", "noRanges", "slow"] {
        let visit = &seen[network];
        assert_eq!(visit["state"], "done", "{network}: {visit}");
        assert_eq!(visit["answers"].as_array().map(Vec::len), Some(labels.len()), "{network}");
        assert_eq!(visit["answers"], seen["whole"]["answers"], "{network}");
        assert_eq!(visit["problems"], json!([]), "{network}");
    }
    let asked = |network: &str, count: usize| {
        let all = seen[network]["asked"].as_array().expect("a list");
        serde_json::Value::from(all[..count].to_vec())
    };
    assert_eq!(asked("whole", 1), json!(["all"]));
    assert_eq!(asked("broken", 3), json!(["all", "bytes=300000-", "bytes=800000-"]));
    assert_eq!(asked("noRanges", 2), json!(["all", "bytes=300000-"]));
    assert_eq!(seen["hopeless"]["state"], "failed");
    assert_eq!(asked("hopeless", 4), json!(["all", "bytes=1000-", "bytes=2000-", "bytes=3000-"]));
    let status = seen["hopeless"]["status"].as_str().expect("a sentence");
    assert!(status.contains("Check the connection"), "{status}");
    let slow = &seen["slow"];
    assert!(slow["later"].as_f64() > slow["first"].as_f64(), "the page says how far it is: {slow}");
    assert_eq!(slow["bar"], true);
    // Behind the reload only what is missing comes.
    let [first, rest] = [0, 1].map(|index| slow["asked"][index].as_str().expect("a range"));
    assert_eq!(first, "all");
    let start = rest.strip_prefix("bytes=").and_then(|rest| rest.strip_suffix('-'));
    let start: u32 = start.and_then(|start| start.parse().ok()).unwrap_or_default();
    assert!(start > 200_000, "the reload asks for {rest}: {slow}");
}
