//! The studio: a page of its own, for a folder `studio/` below a site. Trunk builds the modules of one page alone.

use std::path::Path;

use anyhow::Context;

use crate::engine::Compiled;
use crate::steps::{execute, program, root, target};
use crate::{engine, page, setup};

/// Compiles the studio's module.
pub(crate) fn compile() -> anyhow::Result<Compiled> {
    let mut cargo = program("cargo");
    cargo.args(["build", "--locked", "--release", "--target", setup::TARGET]);
    execute(cargo.args(["--package", "studio"]))?;
    let made = target().join(setup::TARGET).join("release/studio.wasm");
    Ok(Compiled::new(made, "z", engine::FEATURES))
}

/// Puts the studio into `studio` below a folder.
pub(crate) fn put(compiled: &Compiled, folder: &Path) -> anyhow::Result<()> {
    let studio = folder.join("studio");
    page::copy_folder(&root().join("www/studio"), &studio).context("www/studio")?;
    engine::bind_into(compiled, &studio)
}
