//! Puts the page that `MAGPIE_PAGE` names, a zip file, where the program takes it from; without one, an empty file.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or(std::io::ErrorKind::NotFound)?;
    println!("cargo::rerun-if-env-changed=MAGPIE_PAGE");
    let page = match std::env::var_os("MAGPIE_PAGE") {
        None => Vec::new(),
        Some(path) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&path).display());
            std::fs::read(path)?
        }
    };
    std::fs::write(out.join("page.zip"), page)
}
