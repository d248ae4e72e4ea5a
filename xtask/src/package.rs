//! The package for other people's pages: a folder that `npm pack` takes.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::page;
use crate::setup;
use crate::steps::{execute, program, root, say, step, target};

/// Its own files.
const SOURCES: &str = "www/package";

/// The folder that the package is put together in.
pub(crate) fn folder() -> PathBuf {
    target().join("package")
}

/// Puts the package together from its own files and the built engines.
pub(crate) fn assemble() -> anyhow::Result<PathBuf> {
    let folder = folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let copy = |from: &Path| {
        let name = from.file_name().context("a file has a name")?;
        std::fs::copy(from, folder.join(name)).with_context(|| from.display().to_string())?;
        anyhow::Ok(())
    };
    for entry in std::fs::read_dir(root().join(SOURCES))? {
        copy(&entry?.path())?;
    }
    for entry in std::fs::read_dir(root().join("dist"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("worker")) {
            copy(&path)?;
        }
    }
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let path = root().join(license);
        if path.is_file() {
            copy(&path)?;
        }
    }
    Ok(folder)
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
