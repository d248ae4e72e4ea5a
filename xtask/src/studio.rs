//! The studio: a page of its own, for a folder `studio/` below a site. Trunk builds the modules of one page alone.

use std::path::Path;

use anyhow::Context;

use crate::steps::{execute, program, root, target};
use crate::{engine, page, setup};

/// Puts the studio into `studio` below a folder.
pub(crate) fn put(folder: &Path) -> anyhow::Result<()> {
    let mut cargo = program("cargo");
    cargo.args(["build", "--locked", "--release", "--target", setup::TARGET]);
    execute(cargo.args(["--package", "studio"]))?;
    let studio = folder.join("studio");
    page::copy_folder(&root().join("www/studio"), &studio).context("www/studio")?;
    let made = target().join(setup::TARGET).join("release/studio.wasm");
    engine::bind_into(&made, "z", engine::FEATURES, &studio)
}
