//! The shape of the code: import edges, file headers, lengths, words that do not belong.

mod languages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
}

/// `(path from the root, contents)` of every Rust source.
fn sources() -> Vec<(String, String)> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir()
                && !["target", "node_modules", "dist"].contains(&name.as_str())
                && !name.starts_with('.')
            {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    visit(&root(), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let name = path.strip_prefix(root()).expect("below the root");
            (name.to_string_lossy().replace('\\', "/"), text)
        })
        .collect()
}

/// Crates that a member may depend on inside the workspace.
const CRATE_EDGES: [(&str, &[&str]); 14] = [
    ("authoring", &["models"]),
    ("gallery", &[]),
    ("models", &["gallery"]),
    ("models/derive", &[]),
    ("native-trainer", &["authoring", "models"]),
    ("page", &[]),
    ("program", &["native-trainer"]),
    ("python", &["authoring", "models", "native-trainer"]),
    ("studio", &["page"]),
    ("wasm-engine", &["authoring", "models"]),
    ("web", &["page", "wasm-engine"]),
    ("tests", &["models", "native-trainer"]),
    ("xtask", &[]),
    ("xtask/bind", &[]),
];

#[test]
fn crates_import_only_along_the_diagram() {
    let members: BTreeSet<&str> = CRATE_EDGES.iter().map(|(name, _)| *name).collect();
    for (member, allowed) in CRATE_EDGES {
        let text = std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for name in table.keys().filter(|name| members.contains(name.as_str())) {
                assert!(allowed.contains(&name.as_str()), "{member} must not import {name}");
            }
        }
    }
}

/// What is compiled for a member, by name and version.
fn compiled(arguments: &[&str]) -> BTreeSet<String> {
    let lines = tree(&[&["--edges", "normal,build"], arguments].concat());
    lines.iter().filter_map(|line| line.split(" (").next()).map(str::to_owned).collect()
}

/// Lines of `cargo tree`.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let tree = std::process::Command::new("cargo")
        .current_dir(root())
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8_lossy(&tree.stdout).into_owned();
    let lines = lines.lines().map(|line| line.trim_end_matches(" (*)"));
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

const WASM: [&str; 2] = ["--target", "wasm32-unknown-unknown"];
const ENGINE: [&str; 4] = ["--package", "wasm-engine", "--no-default-features", "--features"];

#[test]
fn the_page_and_its_engines_carry_no_tensor_library() {
    let page = compiled(&[&["--package", "web"], &WASM[..]].concat());
    assert!(page.iter().any(|name| name.starts_with("wasm-engine ")), "{page:?}");
    for heavy in ["burn", "magpie-nets", "magpie-gallery", "image", "wgpu"] {
        let found = page.iter().find(|name| name.starts_with(heavy));
        assert!(found.is_none(), "the page would carry {found:?}");
    }
    for engine in ["cpu", "threads", "webgpu"] {
        let tree = compiled(&[&ENGINE[..], &[engine], &WASM].concat());
        assert!(tree.iter().any(|name| name.starts_with("magpie-nets ")), "{tree:?}");
        let found = tree.iter().find(|name| name.starts_with("burn") || name.starts_with("cube"));
        assert!(found.is_none(), "the engine would carry {found:?}");
    }
}

/// A reader compiles all of it, so a crate comes in for more than a line of code.
#[test]
fn a_cold_build_compiles_no_more_crates_than_it_may() {
    let native = ["--package", "magpie-train", "--package", "bind", "--package", "xtask"];
    for (what, arguments, most) in [
        ("the page", [&["--package", "web"], &WASM[..]].concat(), 30),
        ("the studio", [&["--package", "studio"], &WASM[..]].concat(), 29),
        ("the engine with threads", [&ENGINE[..], &["threads"], &WASM].concat(), 86),
        ("the engine on WebGPU", [&ENGINE[..], &["webgpu"], &WASM].concat(), 96),
        ("the program and what builds it", native.to_vec(), 318),
    ] {
        let count = compiled(&arguments).len();
        assert!(count <= most, "{what} compiles {count} crates, and may compile {most}");
    }
}

/// What a command compiles anew behind another one: crates with other features, and macros where settings of all
/// packages hold for them.
#[test]
fn the_tests_compile_no_crate_of_the_program_anew() {
    let crates = |arguments: &[&str]| tree(&[arguments, &["--format", "{p} {f}"]].concat());
    let program = ["--package", "magpie-train", "--package", "bind"];
    let program = crates(&[&program[..], &["--edges", "normal,build"]].concat());
    let all = crates(&["--workspace", "--edges", "normal,build,dev"]);
    let other: Vec<_> = program.difference(&all).collect();
    assert!(program.len() > 100 && other.is_empty(), "with other features: {other:?}");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("[profile.dev.package.\"*\"]"));
    let (_, own) = manifest.split_once("[profile.dev.build-override]\n").expect("a section");
    assert!(own.starts_with("opt-level = 0\n"), "{own}");
}

/// Modules of a crate from the bottom up: a module may use only those on lines above its own.
const MODULE_ORDERS: [(&str, &[&[&str]]); 8] = [
    (
        "authoring",
        &[
            &["label", "names", "neighbors", "plot", "words"],
            &[
                "bundled",
                "calibration",
                "embedding",
                "hosting",
                "html",
                "memory",
                "picture",
                "precache",
            ],
            &["adaptation", "photos", "site"],
            &["crops"],
            &["embedding_shard", "entries", "quality"],
            &["figures", "make", "report"],
            &["record"],
            &["workshop"],
        ],
    ),
    (
        "gallery",
        &[
            &["aligned", "limits", "matrix", "metadata"],
            &["index", "map"],
            &["answer_rule", "calibration", "class", "error"],
            &["gallery", "sections"],
            &["alike", "embedding", "mapped"],
            &["adapt", "answer", "edit"],
            &["format", "leave_out"],
            &["check", "lessons", "shards", "stream"],
            &["growing", "summary"],
            &["reader"],
        ],
    ),
    (
        "models",
        &[
            &["limits", "simd", "threads", "values"],
            &["activation"],
            &["operators"],
            &["image", "layers"],
            &["preprocess", "weights"],
            &["inference"],
            &["backbone", "neck", "tracker"],
            &["detector", "extractor"],
            &["model_file"],
            &["recognizer"],
            &["timing", "bundle"],
        ],
    ),
    (
        "native-trainer",
        &[
            &["terminal"],
            &["allocator", "files", "networks", "progress", "random", "text"],
            &[
                "assign",
                "certificate",
                "data",
                "ema",
                "exchange",
                "head",
                "loss",
                "metric",
                "optimizer",
                "page",
                "loss_scale",
                "schedule",
            ],
            &["checkpoint", "embedding", "postgres", "recipe"],
            &["comparison", "replica"],
            &["report", "train"],
            &["cli"],
            &["publishing"],
            &["service"],
            &["command"],
            &["program"],
            &["library"],
        ],
    ),
    (
        "wasm-engine",
        &[
            &["protocol", "ranges", "scope"],
            &["input", "learner", "storage", "threads"],
            &["fetch"],
            &["error"],
            &["parts"],
            &["local_edits", "measure", "refresh"],
            &["engine"],
            &["worker"],
            &["author"],
        ],
    ),
    ("page", &[&["dom"], &["language"], &["dialog"]]),
    ("studio", &[&["project", "zip"], &["stored"], &["app"], &["view"], &["perform"]]),
    ("web", &[&["app"], &["view"], &["perform"]]),
];

#[test]
fn modules_import_only_downwards() {
    for (member, order) in MODULE_ORDERS {
        let level = |module: &str| {
            order
                .iter()
                .position(|row| row.contains(&module))
                .unwrap_or_else(|| panic!("{member}: {module} is not in the order"))
        };
        for (path, text) in sources() {
            let Some(rest) = path.strip_prefix(&format!("{member}/src/")) else { continue };
            let module = rest.split('/').next().unwrap_or_default().trim_end_matches(".rs");
            if ["lib", "main", "tests", "against_a_map"].contains(&module) {
                continue;
            }
            // Tests may reach up for something to test with.
            if rest.ends_with("/tests.rs") {
                continue;
            }
            let code = text.split("mod tests {").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for part in line.split("crate::").skip(1) {
                    let used: String =
                        part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if used == module || used.is_empty() {
                        continue;
                    }
                    assert!(level(&used) < level(module), "{path} imports {used}: {line}");
                }
            }
        }
    }
}

/// Modules of a folder from the bottom up, as [`MODULE_ORDERS`] has those of a crate.
const FOLDER_ORDERS: [(&str, &[&[&str]]); 4] = [
    (
        "native-trainer/src/publishing",
        &[
            &["connections", "names"],
            &["hosting"],
            &["owned"],
            &["evidence", "foreign", "host", "place"],
            &["draft"],
            &["earlier", "peers", "site"],
            &["opened"],
        ],
    ),
    (
        "native-trainer/src/replica",
        &[
            &["error"],
            &["message", "trust"],
            &["wire"],
            &["cost", "socket"],
            &["link"],
            &["worker"],
            &["crowd", "join"],
            &["door", "hub"],
            &["runner"],
            &["tests"],
        ],
    ),
    ("native-trainer/src/report", &[&["charts", "sureness"], &["examples"]]),
    (
        "native-trainer/src/service",
        &[
            &["seat"],
            &["http", "log", "metrics", "schema"],
            &["problem"],
            &["auth", "change", "fitting", "limits", "multipart", "tls"],
            &["filter", "journal"],
            &["corrections", "store"],
            &["asked"],
            &["queue", "types"],
            &["routes"],
            &["openapi"],
            &["connection"],
        ],
    ),
];

#[test]
fn folders_import_only_downwards() {
    for (folder, order) in FOLDER_ORDERS {
        let level = |module: &str| order.iter().position(|row| row.contains(&module));
        for (path, text) in sources() {
            let Some(rest) = path.strip_prefix(&format!("{folder}/")) else { continue };
            let module = rest.split('/').next().unwrap_or_default().trim_end_matches(".rs");
            if module == "mod" {
                continue;
            }
            let own = level(module).unwrap_or_else(|| panic!("{path} is not in the order"));
            let code = text.split("mod tests {").next().unwrap_or_default();
            for part in code.split("super::").skip(1) {
                let used = part.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                let used = used.unwrap_or_default();
                if let Some(other) = level(used) {
                    assert!(other < own || used == module, "{path} imports {used}");
                }
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path} has no header");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let limit = if path.starts_with("tests/") { 1100 } else { 500 };
        let lines = code.lines().count();
        assert!(lines <= limit, "{path} has {lines} lines of code; split it");
    }
}

/// What the page does is decided on plain data, so that it is tested without a browser; only `view` and `perform`
/// touch one.
#[test]
fn the_state_of_the_page_knows_no_browser() {
    let mut files = 0;
    let decides = |path: &str| {
        ["web/src/app/", "studio/src/app/", "studio/src/project/"]
            .iter()
            .any(|folder| path.starts_with(folder))
    };
    for (path, text) in sources().into_iter().filter(|(path, _)| decides(path)) {
        files += 1;
        for browser in
            ["web_sys", "js_sys", "wasm_bindgen", "gloo_", "document(", "window(", "spawn_local"]
        {
            assert!(
                !text.contains(browser),
                "{path} names {browser}: let `perform` or `view` do it"
            );
        }
    }
    assert!(files > 15, "states are in web/src/app and studio/src/app");
}

/// The page requires trusted types and has no policy for markup: even an empty text would throw.
#[test]
fn the_page_makes_no_markup_of_text() {
    let shows = |path: &str| {
        ["page/src/", "studio/src/", "web/src/"].iter().any(|folder| path.starts_with(folder))
    };
    for (path, text) in sources().into_iter().filter(|(path, _)| shows(path)) {
        for sink in ["set_inner_html", "set_outer_html", "insert_adjacent_html"] {
            assert!(!text.contains(sink), "{path}: {sink}; use set_text_content");
        }
    }
}

#[test]
fn no_file_says_utils_and_no_line_waits_for_someone() {
    for (path, text) in sources() {
        let name = path.rsplit('/').next().unwrap_or_default();
        assert!(!["utils.rs", "common.rs", "helpers.rs"].contains(&name), "{path}");
        for (number, line) in text.lines().enumerate() {
            let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
            assert!(
                !marks.iter().any(|mark| line.contains(mark)),
                "{path}:{} waits: {line}",
                number + 1
            );
        }
    }
}

#[test]
fn crates_with_kernels_are_compiled_in_one_piece() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let packages = &manifest["profile"]["dev"]["package"];
    for name in ["magpie-gallery", "magpie-nets"] {
        let package = &packages[name];
        assert_eq!(package["codegen-units"].as_integer(), Some(1), "{name}");
        // Incremental compilation cuts a crate apart whatever its code units.
        assert_eq!(package["incremental"].as_bool(), Some(false), "{name}");
    }
}

#[test]
fn pinned_versions_agree() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let bindgen = manifest["workspace"]["dependencies"]["wasm-bindgen"].as_str().unwrap();
    let bindgen = bindgen.trim_start_matches('=');
    let trunk: toml::Table = read("Trunk.toml").parse().unwrap();
    assert_eq!(trunk["tools"]["wasm_bindgen"].as_str(), Some(bindgen));
    let support = &manifest["workspace"]["dependencies"]["wasm-bindgen-cli-support"];
    assert_eq!(support.as_str().unwrap().trim_start_matches('='), bindgen);
    let opt = trunk["tools"]["wasm_opt"].as_str().unwrap().trim_start_matches("version_");
    let tools: serde_json::Value = serde_json::from_str(&read("xtask/tools/package.json")).unwrap();
    assert!(tools["dependencies"]["binaryen"].as_str().unwrap().starts_with(opt));
    let setup = read("xtask/src/setup.rs");
    assert!(setup.contains(&format!("\"{bindgen}\"")) && setup.contains(&format!("\"{opt}\"")));
}

/// The example of `models` is compiled; README shows the same lines.
#[test]
fn readme_shows_the_example_that_compiles() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let readme = read("README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("README has lines of Rust");
    let example = read("models/examples/recognize.rs");
    let compiled: Vec<&str> = example.lines().map(str::trim).collect();
    let mut at = 0;
    for line in shown.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let found = compiled[at..].iter().position(|other| *other == line);
        at += 1 + found.unwrap_or_else(|| panic!("models/examples/recognize.rs lacks: {line}"));
    }
}

/// Modules by row, as a table names them in its first or second column.
fn table<'a>(lines: impl Iterator<Item = &'a str>, cell: usize) -> Vec<BTreeSet<String>> {
    lines
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(cell))
        .filter(|cell| cell.contains('`'))
        .map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect())
        .collect()
}

/// The tables at the heads of `authoring`, `gallery` and `models` and in ARCHITECTURE.md name the modules in the
/// order that holds.
#[test]
fn tables_of_modules_are_the_order() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let architecture = read("ARCHITECTURE.md");
    for member in ["authoring", "gallery", "models", "native-trainer"] {
        let (_, order) = MODULE_ORDERS.iter().find(|(name, _)| *name == member).unwrap();
        let order: Vec<BTreeSet<String>> =
            order.iter().map(|row| row.iter().map(|name| (*name).to_owned()).collect()).collect();
        let head = format!("| row | modules of `{member}` | what |");
        let lines = architecture.lines().skip_while(|line| *line != head).skip(2);
        assert_eq!(table(lines.take_while(|line| !line.is_empty()), 1), order, "ARCHITECTURE.md");
        if member != "native-trainer" {
            let text = read(&format!("{member}/src/lib.rs"));
            let lines = text.lines().filter_map(|line| line.strip_prefix("//! "));
            assert_eq!(table(lines, 0), order, "{member}/src/lib.rs");
        }
    }
}
