//! The page in `WebKitGTK`, whose engine is Safari's.

use std::path::Path;

use super::{Server, native, screenshots, script, site};

/// Megabytes that the browser may gain between a third of the pictures and all: its collector comes when it likes.
const ROOM: f64 = 150.0;
/// Part of a processor that the browser may take when nothing is asked.
const IDLE: f64 = 0.5;

/// `MAGPIE_SOAK=2000` gives as many pictures.
#[test]
fn the_page_works_in_webkit() {
    let site = site();
    let server = Server::start(&site);
    let count = std::env::var("MAGPIE_SOAK").unwrap_or_else(|_| "60".to_owned());
    let arguments = [&*server.address, "samples/2.jpg", &*count].map(Path::new);
    let folder = screenshots();
    let seen = script("webkit.mjs", &[arguments[0], folder.as_path(), arguments[1], arguments[2]]);
    println!("{seen}");
    let (found, labels) = native(&site, &site.join("samples/2.jpg"));
    assert_eq!(seen["boxes"].as_u64(), Some(found.len() as u64), "{seen}");
    let shown = seen["labels"].as_array().expect("a list");
    for ((shown, label), found) in shown.iter().zip(&labels).zip(&found) {
        assert_eq!(shown, if found.known { label.as_str() } else { "Not known" }, "{seen}");
    }
    assert_eq!(seen["taught"], "my thing");
    let kept = seen["kept"].as_str().expect("a sentence");
    assert_eq!(seen["storage"] == true, !kept.contains("cannot keep"), "{seen}");
    let megabytes: Vec<f64> = seen["megabytes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(serde_json::Value::as_f64)
        .collect();
    let [first, .., last] = megabytes[..] else { panic!("{seen}") };
    assert!(last <= first + ROOM, "{megabytes:?}");
    assert!(seen["idle"].as_f64() < Some(IDLE), "{seen}");
}
