//! The package for other people's pages, and for Node: a folder that `npm pack` takes.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use crate::page;
use crate::setup;
use crate::steps::{execute, program, root, say, step, target};

/// Its own files.
const SOURCES: &str = "www/package";
/// The networks that it brings along.
const NETWORKS: &str = "native-trainer/networks";
/// In it: files of the page that do not lie beside the modules anyhow, and the list of all.
const PAGE: &str = "page";
const PAGE_FILES: &str = "page.json";

/// The folder that the package is put together in.
pub(crate) fn folder() -> PathBuf {
    target().join("package")
}

/// Puts the package together from its own files, the built page with its engines, and the networks.
pub(crate) fn assemble() -> anyhow::Result<PathBuf> {
    let folder = folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(folder.join("networks"))?;
    let copy = |from: &Path, to: &Path| {
        let name = from.file_name().context("a file has a name")?;
        std::fs::copy(from, to.join(name)).with_context(|| from.display().to_string())?;
        anyhow::Ok(())
    };
    for entry in std::fs::read_dir(root().join(SOURCES))? {
        copy(&entry?.path(), &folder)?;
    }
    let dist = root().join("dist");
    for entry in std::fs::read_dir(&dist)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("worker")) {
            copy(&path, &folder)?;
        }
    }
    put_page(&dist, &folder)?;
    for entry in std::fs::read_dir(root().join(NETWORKS))? {
        copy(&entry?.path(), &folder.join("networks"))?;
    }
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let path = root().join(license);
        if path.is_file() {
            copy(&path, &folder)?;
        }
    }
    Ok(folder)
}

/// Brings what sites are made of: each file once.
fn put_page(dist: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    page::list(dist, "", &mut names)?;
    names.sort();
    for name in &names {
        let bytes = std::fs::read(dist.join(name)).with_context(|| name.clone())?;
        if std::fs::read(folder.join(name)).is_ok_and(|there| there == bytes) {
            continue;
        }
        let to = folder.join(PAGE).join(name);
        std::fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        std::fs::write(&to, bytes).with_context(|| name.clone())?;
    }
    let list = serde_json::to_string_pretty(&json!({ "files": names }))?;
    Ok(std::fs::write(folder.join(PAGE_FILES), list + "\n")?)
}

/// Builds the package and packs it.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::toolchain()?;
    page::build()?;
    let folder = step("package", assemble)?;
    step("npm pack", || {
        let mut pack = program("npm");
        execute(
            pack.args(["pack", "--silent", "--pack-destination"]).arg("..").current_dir(&folder),
        )
    })?;
    say(&format!("{}: to copy, or the .tgz beside it to install", folder.display()));
    Ok(())
}
