//! `bind MODULE FOLDER`: what wasm-bindgen's command does with `--target web --no-typescript`.
//!
//! The command itself brings a web server, a client and a runner of tests, which take five times as long to compile as the
//! library that does the work.

use std::path::PathBuf;

use anyhow::bail;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, folder] = &arguments[..] else {
        bail!("two paths are needed: a compiled module and the folder that it goes to");
    };
    // The module is looked for beside its JavaScript where a page does not say where it is.
    Bindgen::new()
        .web(true)?
        .typescript(false)
        .omit_default_module_path(false)
        .input_path(module)
        .generate(folder)
}
