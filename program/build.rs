//! Puts the page that `MAGPIE_PAGE` names, a zip file, where the program takes it from; without one, an empty file.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or(std::io::ErrorKind::NotFound)?;
    println!("cargo::rerun-if-env-changed=MAGPIE_PAGE");
    let page = match std::env::var_os("MAGPIE_PAGE") {
        None => Vec::new(),
        Some(path) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&path).display());
            fold_equal_functions();
            std::fs::read(path)?
        }
    };
    std::fs::write(out.join("page.zip"), page)
}

/// Functions that became the same instructions are kept once where Rust's own linker puts the program together.
fn fold_equal_functions() {
    let is = |what: &str, wanted: &str| {
        std::env::var(format!("CARGO_CFG_TARGET_{what}")).is_ok_and(|value| value == wanted)
    };
    if is("ARCH", "x86_64") && is("OS", "linux") && is("ENV", "gnu") {
        println!("cargo::rustc-link-arg=-Wl,--icf=all");
    }
}
