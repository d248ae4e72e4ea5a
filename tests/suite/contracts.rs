//! Names that scripts and Rust share without a compiler between them.

use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent");
    std::fs::read_to_string(root.join(path)).expect("a source file")
}

/// Both files hold their form of a name.
fn agree(script: (&str, &str), source: (&str, &str)) {
    for (path, text) in [script, source] {
        assert!(
            read(path).contains(text),
            "{path} has no {text}; see {} and {}",
            script.0,
            source.0
        );
    }
}

#[test]
fn beginnings_of_files_have_one_prefix() {
    agree(
        ("www/worker.js", "const PREFIX = \"beginning-\";"),
        ("wasm-engine/src/storage.rs", "format!(\"beginning-{name}\")"),
    );
}

#[test]
fn files_asked_for_ahead_are_found() {
    agree(
        ("www/worker.js", "self.ahead = new Map()"),
        ("wasm-engine/src/fetch.rs", "JsValue::from_str(\"ahead\")"),
    );
}

#[test]
fn helpers_are_found() {
    agree(
        ("www/worker.js", "self.helpers = new Promise("),
        ("wasm-engine/src/threads.rs", "&\"helpers\".into()"),
    );
}

#[test]
fn what_the_page_has_begun_is_found() {
    agree(
        ("www/start.js", "window.magpie = {"),
        ("web/src/perform/startup.rs", "&window(), \"magpie\""),
    );
    let start = read("www/start.js");
    let (_, object) = start.split_once("window.magpie = {").expect("the object");
    let (object, _) = object.split_once("\n  };").expect("its end");
    let sources = read("web/src/perform/startup.rs") + &read("web/src/perform/pixels.rs");
    for call in ["begun(\"", "call(\""] {
        for asked in sources.split(call).skip(1) {
            let name = asked.split('"').next().unwrap_or_default();
            let is_there = object.lines().any(|line| {
                let line = line.trim_start().trim_start_matches("async ");
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', ':', '(']))
                    || line.split([',', '{', '}']).any(|part| part.trim() == name)
            });
            assert!(is_there, "www/start.js has no {name:?}");
        }
    }
}
