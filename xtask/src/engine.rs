//! The engine for browsers with relaxed SIMD, on several threads where a page may share memory. Trunk
//! cannot build it: shared memory takes a standard library of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::steps::{execute, is_fresh, program, say, target};
use crate::{setup, studio};

/// What the compiler writes and the page asks for.
const NAME: &str = "worker-relaxed";

/// What every module may hold; the modules that Trunk builds have the like in `www/index.html`.
pub(crate) const FEATURES: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-call-indirect-overlong",
];
/// What this one may hold as well.
const WIDE: &[&str] = &["--enable-simd", "--enable-relaxed-simd", "--enable-threads"];

/// Builds the engine and the studio into the folder that Trunk, whose hook calls this, puts the page together in.
pub(crate) fn run() -> anyhow::Result<()> {
    let page = std::env::var_os("TRUNK_STAGING_DIR").map(PathBuf::from);
    let page = page.context("this command is for Trunk, which says where the page is built")?;
    bind_into(&compile()?, &page)?;
    studio::put(&studio::compile()?, &page)
}

/// A module as the compiler has left it, and how wasm-opt makes it smaller or faster.
pub(crate) struct Compiled {
    pub(crate) made: PathBuf,
    /// 0 leaves it as it is.
    pub(crate) level: String,
    pub(crate) options: Vec<String>,
}

impl Compiled {
    pub(crate) fn new(made: PathBuf, level: &str, options: &[&str]) -> Self {
        let options = options.iter().copied().map(str::to_owned).collect();
        Self { made, level: level.to_owned(), options }
    }
}

/// Compiles the engine.
pub(crate) fn compile() -> anyhow::Result<Compiled> {
    let made = build(&["--bin", NAME], Path::new(&format!("{NAME}.wasm")))?;
    Ok(Compiled::new(made, "3", &[WIDE, FEATURES].concat()))
}

/// Puts a module with its JavaScript into a folder.
pub(crate) fn bind_into(compiled: &Compiled, folder: &Path) -> anyhow::Result<()> {
    let Compiled { made, level, options } = compiled;
    let name = made.file_stem().and_then(|name| name.to_str()).context("a module has a name")?;
    let bound = made.with_extension("bound");
    // Written last.
    let done = bound.join("done");
    if !is_fresh(&done, &[made]) || std::fs::read_to_string(&done)? != told(level, options) {
        bind(made, &bound)?;
        let module = bound.join(format!("{name}_bg.wasm"));
        if level != "0" {
            let mut optimize = program("wasm-opt");
            optimize.arg(format!("-O{level}")).args(options).arg(&module).arg("-o").arg(&module);
            execute(&mut optimize)?;
        }
        std::fs::write(&done, told(level, options))?;
    }
    for ending in [".js", "_bg.wasm"] {
        let name = format!("{name}{ending}");
        std::fs::copy(bound.join(&name), folder.join(&name)).with_context(|| name)?;
    }
    Ok(())
}

fn told(level: &str, options: &[String]) -> String {
    format!("{level} {}", options.join(" "))
}

/// Compiles a program of the engine with threads, or without where the standard library's sources
/// cannot be had, and returns where `file` lies.
pub(crate) fn build(what: &[&str], file: &Path) -> anyhow::Result<PathBuf> {
    let build = ["build", "--locked", "--release", "--target", setup::TARGET];
    let package = ["--package", "wasm-engine", "--no-default-features", "--features"];
    if !setup::standard_library_sources() {
        say("   no sources of the standard library: the engine has one thread");
        execute(program("cargo").args(build).args(package).arg("relaxed").args(what))?;
        return Ok(target().join(setup::TARGET).join("release").join(file));
    }
    // Of its own: what is compiled for shared memory is nothing that the other modules can use.
    let folder = target().join("threads");
    let mut command = program("cargo");
    // The compiler of a release knows how to build a standard library but asks to be told.
    command.env("RUSTC_BOOTSTRAP", "1").args(["--config", ".cargo/threads.toml"]);
    execute(
        command
            .args(build)
            .args(package)
            .arg("threads")
            .args(what)
            .arg("--target-dir")
            .arg(&folder),
    )?;
    Ok(folder.join(setup::TARGET).join("release").join(file))
}

/// Writes the JavaScript of a module, and the module as that needs it.
pub(crate) fn bind(module: &Path, to: &Path) -> anyhow::Result<()> {
    // Its warning of a section that `strip` takes is for those who call no wasm-opt.
    let output = program(&setup::bind()?.to_string_lossy()).args([module, to]).output()?;
    if !output.status.success() {
        bail!("{}: {}", module.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
