//! The page for measurements, beside the native command.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Server, magpie, root, screenshots, script, site};

#[test]
fn a_device_is_measured_like_a_server() {
    let site = site();
    let folder = tempfile::tempdir().expect("a folder");
    let native = folder.path().join("native.json");
    let output = Command::new(magpie())
        .args(["bench", "--runs", "3", "--json", "--bundle"])
        .arg(site.join("bundle"))
        .output()
        .expect("magpie runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&native, &output.stdout).expect("written");
    let server = Server::start(&site);
    let schema = root().join("www/bench/schema.json");
    let address = Path::new(&server.address);
    let seen = script("bench.mjs", &[address, &screenshots(), &schema, &native]);
    assert_eq!(seen["status"], "Done.", "{seen}");
    for list in ["problems", "faults", "nativeFaults"] {
        assert_eq!(seen[list], json!([]), "{list}");
    }
    assert_eq!(seen["origins"].as_array().map(Vec::len), Some(1), "{}", seen["origins"]);
    // The same parts, by the same names; the page has seen the site for the first time, too.
    let native: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let parts = |report: &Value| -> Vec<String> {
        let lines = report["results"].as_array().expect("a list");
        lines.iter().filter_map(|line| Some(line["what"].as_str()?.to_owned())).collect()
    };
    let (in_page, on_server) = (parts(&seen["report"]), parts(&native));
    assert_eq!(in_page[0], "first visit, first picture");
    assert_eq!(in_page[1..], on_server[..]);
    for key in ["bundle", "gallery", "picture"] {
        assert_eq!(seen["report"][key], native[key], "{key}");
    }
    // Both stand side by side, and a link brings them back.
    let bars = seen["bars"].as_u64().expect("a number") as usize;
    assert_eq!(bars, in_page.len() + on_server.len());
    assert_eq!(seen["same"], true);
    assert!(seen["link"].as_u64() < Some(4000), "{}", seen["link"]);
    assert_eq!(seen["columns"], 3, "what is no report changes nothing");
    assert_eq!((&seen["started"], &seen["overflow"]), (&json!(true), &json!(0)));
}
