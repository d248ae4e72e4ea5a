//! A kept site beside another build at its host.

use super::{script, site};

#[test]
fn no_page_is_put_together_of_two_builds() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = script("versions.mjs", &[&site(), folder.path()]);
    let missing = &seen["web_bg.wasm"];
    let said = missing["unable"].as_str().unwrap_or_default();
    assert!(said.contains("the host answered 503"), "{seen}");
    assert!(!missing["errors"].to_string().contains("LinkError"), "{seen}");
    assert_eq!(seen["all"]["state"], "done", "{seen}");
}
