//! Page and engines, built from the links that `www/index.html` has for Trunk.
//!
//! Trunk's watch mode (`cargo xtask web`) reads the same links. A single build goes without it: Trunk brings
//! minifiers, a web server and TLS, which take longer to compile than the page and its engines do.

use std::path::Path;

use anyhow::{Context, bail};

use crate::engine::Compiled;
use crate::steps::{execute, is_fresh, program, root, step, target};
use crate::{engine, setup, studio};

/// What the built page depends on.
const SOURCES: &[&str] = &[
    "www/index.html",
    "www/bench",
    "www/start.js",
    "www/unable.js",
    "www/style.css",
    "www/text",
    "www/worker.js",
    "www/worker-helper.js",
    "www/icon.svg",
    "www/sw.js",
    "www/app.webmanifest",
    "www/package",
    "www/studio",
    "page",
    "studio",
    "web",
    "wasm-engine",
    "authoring/src",
    "authoring/Cargo.toml",
    "gallery/src",
    "gallery/Cargo.toml",
    "models/src",
    "models/Cargo.toml",
    "models/derive",
    "Cargo.toml",
    "Cargo.lock",
    "Trunk.toml",
    ".cargo",
    "xtask/src/page.rs",
    "xtask/src/engine.rs",
    "xtask/src/studio.rs",
];

/// What one link asks for; paths are relative to `www`.
#[derive(Debug, PartialEq, Eq)]
enum Asset {
    File(String),
    Folder(String),
    Module(Module),
}

/// A program for the browser.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    manifest: String,
    name: String,
    features: Option<String>,
    has_default_features: bool,
    /// Of wasm-opt; 0 leaves the module as it is.
    level: String,
    options: Vec<String>,
}

/// Builds everything into `dist`, unless nothing changed.
pub(crate) fn build() -> anyhow::Result<()> {
    setup::build_tools()?;
    let dist = root().join("dist");
    if is_fresh(&dist.join("index.html"), SOURCES) {
        return Ok(());
    }
    step("page and engines (wasm)", || {
        let source = std::fs::read_to_string(root().join("www/index.html"))?;
        let (html, assets) = read(&source)?;
        let staged = target().join("page/dist");
        if staged.exists() {
            std::fs::remove_dir_all(&staged)?;
        }
        std::fs::create_dir_all(&staged)?;
        // What writes the JavaScript of modules may still be compiled beside them: all modules first.
        let mut modules = Vec::new();
        for asset in &assets {
            match asset {
                Asset::Module(module) => modules.push(compile(module)?),
                Asset::File(path) | Asset::Folder(path) => put(path, &staged)?,
            }
        }
        modules.push(engine::compile()?);
        let studio = studio::compile()?;
        for module in &modules {
            engine::bind_into(module, &staged)?;
        }
        studio::put(&studio, &staged)?;
        std::fs::write(staged.join("index.html"), html)?;
        replace(&staged, &dist)
    })
}

/// The page without Trunk's links, and what they ask for.
fn read(source: &str) -> anyhow::Result<(String, Vec<Asset>)> {
    let mut assets = Vec::new();
    let mut html = String::with_capacity(source.len());
    for line in source.split_inclusive('\n') {
        let link = line.trim();
        match link.strip_prefix("<link data-trunk ").and_then(|rest| rest.strip_suffix("/>")) {
            Some(attributes) => {
                assets.push(asset(attributes).with_context(|| link.to_owned())?);
                // As Trunk leaves it.
                html.push_str(&line[..line.len() - line.trim_start().len()]);
                html.push('\n');
            }
            None if line.contains("data-trunk") => {
                bail!("a link of Trunk's has its own line: {link}")
            }
            None => html.push_str(line),
        }
    }
    Ok((html, assets))
}

/// `name="value"`, or a name alone.
fn asset(attributes: &str) -> anyhow::Result<Asset> {
    let mut found = std::collections::BTreeMap::new();
    let mut rest = attributes.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let (value, behind) = match behind.strip_prefix("=\"") {
            Some(value) => value.split_once('"').context("a value ends with a quotation mark")?,
            None => ("", behind),
        };
        found.insert(name, value);
        rest = behind.trim_start();
    }
    let mut take = |name: &str| found.remove(name).map(str::to_owned);
    let kind = take("rel").context("a link says what it is (rel)")?;
    let href = take("href").context("a link says where it is (href)")?;
    let asset = match kind.as_str() {
        "copy-file" => Asset::File(href),
        "copy-dir" => Asset::Folder(href),
        "rust" => {
            if (take("data-type").as_deref(), take("data-bindgen-target").as_deref())
                != (Some("worker"), Some("web"))
            {
                bail!("modules are of Trunk's type worker, for the target web");
            }
            Asset::Module(Module {
                manifest: href,
                name: take("data-bin").context("a module names its program (data-bin)")?,
                features: take("data-cargo-features"),
                has_default_features: take("data-cargo-no-default-features").is_none(),
                level: take("data-wasm-opt").unwrap_or_else(|| "0".to_owned()),
                options: take("data-wasm-opt-params")
                    .map(|text| text.split(' ').map(str::to_owned).collect())
                    .unwrap_or_default(),
            })
        }
        _ => bail!("links are copy-file, copy-dir and rust, not {kind}"),
    };
    match found.keys().next() {
        Some(other) => bail!("{other} is not known here"),
        None => Ok(asset),
    }
}

/// Copies a file or folder of `www`.
fn put(path: &str, to: &Path) -> anyhow::Result<()> {
    let from = root().join("www").join(path);
    let to = to.join(from.file_name().context("a file has a name")?);
    if from.is_dir() {
        return copy_folder(&from, &to).with_context(|| path.to_owned());
    }
    std::fs::copy(&from, to).with_context(|| path.to_owned())?;
    Ok(())
}

fn compile(module: &Module) -> anyhow::Result<Compiled> {
    let manifest = root().join("www").join(&module.manifest).canonicalize()?;
    let mut command = program("cargo");
    command.args(["build", "--locked", "--release", "--target", setup::TARGET]);
    command.arg("--manifest-path").arg(manifest).args(["--bin", &module.name]);
    if !module.has_default_features {
        command.arg("--no-default-features");
    }
    if let Some(features) = &module.features {
        command.args(["--features", features]);
    }
    execute(&mut command)?;
    let made = target().join(setup::TARGET).join("release").join(format!("{}.wasm", module.name));
    Ok(Compiled { made, level: module.level.clone(), options: module.options.clone() })
}

/// Names of all files below a folder, with `/` between folders.
pub(crate) fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name is text")?;
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Puts a finished folder in the place of another one.
fn replace(staged: &Path, place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        std::fs::remove_dir_all(place)?;
    }
    // A target folder may lie on another disk.
    if std::fs::rename(staged, place).is_err() {
        copy_folder(staged, place)?;
        std::fs::remove_dir_all(staged)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_own_links_are_read() {
        let source = std::fs::read_to_string(root().join("www/index.html")).unwrap();
        let (html, assets) = read(&source).unwrap();
        assert!(!html.contains("data-trunk"));
        assert_eq!(html.lines().count(), source.lines().count());
        let modules = assets.iter().filter_map(|asset| match asset {
            Asset::Module(module) => Some(module.name.as_str()),
            _ => None,
        });
        let modules: Vec<_> = modules.collect();
        assert_eq!(modules, ["web", "worker-cpu", "worker-author", "worker-webgpu"]);
        for asset in &assets {
            let (Asset::File(path)
            | Asset::Folder(path)
            | Asset::Module(Module { manifest: path, .. })) = asset;
            assert!(root().join("www").join(path).exists(), "{path}");
        }
    }

    #[test]
    fn links_are_taken_literally_or_refused() {
        let link = "  <link data-trunk rel=\"rust\" href=\"../a/Cargo.toml\" data-type=\"worker\" \
                    data-bin=\"b\" data-bindgen-target=\"web\" data-cargo-no-default-features \
                    data-cargo-features=\"x,y\" data-wasm-opt=\"3\" data-wasm-opt-params=\"--p --q\" />\n";
        let (html, assets) = read(&format!("<p>\n{link}</p>\n")).unwrap();
        assert_eq!(html, "<p>\n  \n</p>\n");
        let module = Module {
            manifest: "../a/Cargo.toml".to_owned(),
            name: "b".to_owned(),
            features: Some("x,y".to_owned()),
            has_default_features: false,
            level: "3".to_owned(),
            options: vec!["--p".to_owned(), "--q".to_owned()],
        };
        assert_eq!(assets, [Asset::Module(module)]);
        for (link, reason) in [
            ("<link data-trunk rel=\"sass\" href=\"a\" />", "not sass"),
            ("<link data-trunk rel=\"copy-file\" />", "href"),
            ("<link data-trunk rel=\"copy-file\" href=\"a\" data-x=\"1\" />", "data-x"),
            ("<link data-trunk rel=\"rust\" href=\"a\" data-bin=\"b\" />", "worker"),
            ("<p><link data-trunk rel=\"copy-file\" href=\"a\" /></p>", "its own line"),
        ] {
            let error = format!("{:#}", read(link).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }
}
