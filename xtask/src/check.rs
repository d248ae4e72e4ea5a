//! The checks before a commit, the cheapest first, and tests of special machines and of damaged input.

use crate::setup;
use crate::steps::{execute, program, root, step};

/// The golden vectors and every plan on wgpu, by software where there is no GPU.
pub(crate) fn test_gpu() -> anyhow::Result<()> {
    let driver = setup::software_gpu()?;
    let test = |what: &str, arguments: &[&str]| {
        step(what, || {
            execute(
                program("cargo")
                    .args(["test", "--locked"])
                    .args(arguments)
                    .env("GOLDEN_DEVICE", "wgpu")
                    .env("VK_DRIVER_FILES", &driver)
                    .env("XDG_RUNTIME_DIR", std::env::temp_dir()),
            )
        })
    };
    // Beside the trainer, whose features are those of the other tests.
    let plans = ["--package", "magpie-nets", "--package", "magpie-train", "--test", "plans"];
    test("plans on a software GPU", &[&plans[..], &["--features", "models/webgpu"]].concat())?;
    let golden = ["--package", "tests", "--profile", "gpu", "--test", "golden"];
    test("golden vectors on a software GPU", &[&golden[..], &["--features", "wgpu"]].concat())
}

/// Damaged input for every parser, or for those whose names hold a word, for a number of seconds each.
pub(crate) fn fuzz(options: &[&str]) -> anyhow::Result<()> {
    let (mut seconds, mut seed, mut names) = ("60", "0", Vec::new());
    let mut rest = options;
    loop {
        rest = match rest {
            [] => break,
            ["--seconds", value, rest @ ..] => {
                seconds = value;
                rest
            }
            ["--seed", value, rest @ ..] => {
                seed = value;
                rest
            }
            [name, rest @ ..] if !name.starts_with('-') => {
                names.push(*name);
                rest
            }
            _ => {
                anyhow::bail!("unknown options {rest:?}; there are --seconds N, --seed N and names")
            }
        };
    }
    let arguments =
        ["test", "--locked", "--package", "tests", "--test", "fuzz", "--", "--nocapture"];
    step("damaged input", || {
        let mut command = program("cargo");
        command.args(arguments).args(&names);
        execute(command.env("MAGPIE_FUZZ_SECONDS", seconds).env("MAGPIE_FUZZ_SEED", seed))
    })
}

/// What costs seconds and nothing to compile: format, scripts, spelling.
pub(crate) fn quick() -> anyhow::Result<()> {
    setup::toolchain()?;
    setup::lints()?;
    cargo("format", &["fmt", "--all", "--", "--check"])?;
    scripts()?;
    let typos = setup::typos()?;
    step("spelling", || execute(&mut program(&typos)))
}

/// Unused dependencies, licenses, lints of what the tests compile, and docs.
pub(crate) fn lints() -> anyhow::Result<()> {
    setup::lints()?;
    compiled()
}

/// What [`lints`] runs on a machine that has the tools of [`setup::lints`].
fn compiled() -> anyhow::Result<()> {
    setup::cargo_tool("cargo-machete", "0.9.2", "0", &["--locked"])?;
    // Not by way of cargo: inside `cargo run` it takes its own name for a folder.
    step("unused dependencies", || execute(&mut program("cargo-machete")))?;
    setup::cargo_tool("cargo-deny", "0.20.2", "0", &["--locked"])?;
    cargo("licenses and sources", &["deny", "check", "licenses", "bans", "sources"])?;
    let lints = ["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    cargo("lints, host", &lints)?;
    cargo("docs", &["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"])
}

/// What a developer runs before a commit, beside the tests.
pub(crate) fn check() -> anyhow::Result<()> {
    quick()?;
    compiled()?;
    let wasm = ["clippy", "--locked", "--release", "--target", setup::TARGET];
    let deny = ["--", "--deny", "warnings"];
    cargo("lints, page", &[&wasm[..], &["--package", "web"], &deny].concat())?;
    for backend in ["cpu", "threads", "webgpu"] {
        let engine = ["--package", "wasm-engine", "--features", backend];
        let what = format!("lints, {backend} engine");
        cargo(&what, &[&wasm[..], &engine, &deny].concat())?;
    }
    Ok(())
}

fn cargo(what: &str, arguments: &[&str]) -> anyhow::Result<()> {
    step(what, || execute(program("cargo").args(arguments).env("RUSTDOCFLAGS", "-Dwarnings")))
}

/// Trunk's watch mode. The page's policy lets in no code that would load it anew by itself.
pub(crate) fn web() -> anyhow::Result<()> {
    setup::build_tools()?;
    setup::trunk()?;
    // NO_COLOR=1, as some systems set it, is no value that trunk understands.
    execute(program("trunk").args(["serve", "--no-autoreload"]).env_remove("NO_COLOR"))
}

/// Types of the package and its examples, and lints of every script.
fn scripts() -> anyhow::Result<()> {
    setup::npm(setup::BROWSER)?;
    let folder = root().join(setup::BROWSER);
    step("types and lints of scripts", || {
        execute(program("npm").current_dir(folder).args(["run", "--silent", "check"]))
    })
}
