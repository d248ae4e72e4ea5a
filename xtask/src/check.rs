//! Tests, and the checks before a commit, the cheapest first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::demo;
use crate::package;
use crate::page;
use crate::setup;
use crate::steps::{execute, program, root, say, step};

/// What the tests in a second browser have in their names.
const SECOND_BROWSER: &str = "firefox";

/// The complete suite, browser included. `--minutes N` leaves out what costs most and finds least once more than so many
/// have gone: the tests in Firefox, most of which are those of Chromium once more.
pub(crate) fn test(options: &[&str]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let most = match options {
        [] => Duration::MAX,
        ["--minutes", minutes] => Duration::from_secs(60 * minutes.parse::<u64>()?),
        _ => anyhow::bail!("unknown options {options:?}; there is --minutes N"),
    };
    setup::toolchain()?;
    setup::browser()?;
    demo::run(&demo::Options::emoji())?;
    let package = package::assemble()?;
    for example in ["vite-react", "webpack"] {
        setup::npm(&format!("www/examples/{example}"))?;
    }
    let postgres = setup::postgres();
    let webkit = setup::webkit();
    let cargo = |arguments: &[&str]| {
        let mut command = program("cargo");
        command.args(["test", "--locked", "--workspace"]).args(arguments);
        if let Some(python) = &postgres {
            command.env("MAGPIE_PGVECTOR", python);
        }
        // The browser tests look at the published demo of emoji and the package.
        command.env("MAGPIE_SITE", demo::emoji_site()).env("MAGPIE_PACKAGE", &package);
        command
    };
    let mut skipped = vec!["--skip", SECOND_BROWSER];
    if postgres.is_none() {
        skipped.extend(["--skip", "in_postgres"]);
    }
    if !webkit {
        skipped.extend(["--skip", "in_webkit"]);
    }
    let tested = step("tests", || {
        let mut ran = tests(cargo(&["--no-fail-fast", "--"]).args(&skipped))?;
        let has_time = begun.elapsed() < most;
        if has_time {
            let mut second = cargo(&["--no-fail-fast", "--"]);
            ran.join(tests(second.arg(SECOND_BROWSER))?);
        } else {
            let gone = begun.elapsed().as_secs() / 60;
            say(&format!("NOT tested: the page in Firefox, because {gone} minutes have gone"));
        }
        again(ran, &cargo)
    });
    if postgres.is_none() {
        say("NOT tested: galleries in PostgreSQL, which cannot be installed or started here");
    }
    if !webkit {
        say("NOT tested: the page in WebKitGTK, which cannot be installed here");
    }
    tested
}

/// The package in pages of Next.js and Astro, whose builds take minutes.
pub(crate) fn test_bundlers() -> anyhow::Result<()> {
    setup::toolchain()?;
    setup::browser()?;
    demo::run(&demo::Options::emoji())?;
    let package = package::assemble()?;
    for example in ["next", "astro"] {
        setup::npm(&format!("www/examples/{example}"))?;
    }
    // Turbopack follows no link out of the project, and npm copies the package once only.
    let copied = root().join("www/examples/next/node_modules/magpie-recognizer");
    if copied.exists() {
        std::fs::remove_dir_all(&copied)?;
    }
    page::copy_folder(&package, &copied)?;
    step("the package in Next.js and Astro", || {
        let mut command = program("cargo");
        command.args(["test", "--locked", "--workspace", "--test", "browser", "--"]);
        command.args(["--ignored", "next_and_astro"]);
        execute(command.env("MAGPIE_SITE", demo::emoji_site()).env("MAGPIE_PACKAGE", &package))
    })
}

/// Runs once more, alone, what failed: a browser on a busy machine may miss a moment that a test waits for; a fault stays.
fn again(ran: Tests, cargo: &dyn Fn(&[&str]) -> Command) -> anyhow::Result<()> {
    if ran.ended_well {
        return Ok(());
    }
    let failed = ran.failed.join(", ");
    anyhow::ensure!(!ran.failed.is_empty(), "a program of tests did not end by itself");
    let names: Vec<&str> = ran.failed.iter().map(String::as_str).collect();
    let again = [&["--test", "browser", "--", "--exact", "--test-threads=1"], &names[..]].concat();
    let alone = step("the failed browser tests again, one by one", || tests(&mut cargo(&again)))?;
    let are_all = alone.ended_well && alone.passed.len() == names.len();
    anyhow::ensure!(are_all, "failed: {failed}");
    say(&format!("UNSTEADY, passed only when run alone: {failed}"));
    Ok(())
}

/// What a run of `cargo test` said.
struct Tests {
    /// Whether no test failed, and no program of tests ended otherwise.
    ended_well: bool,
    passed: Vec<String>,
    failed: Vec<String>,
}

impl Tests {
    fn join(&mut self, other: Self) {
        self.ended_well &= other.ended_well;
        self.passed.extend(other.passed);
        self.failed.extend(other.failed);
    }
}

/// Runs `cargo test`, shows what it prints and keeps the names.
fn tests(command: &mut Command) -> anyhow::Result<Tests> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut ran = Tests { ended_well: false, passed: Vec::new(), failed: Vec::new() };
    let printed = child.stdout.take().expect("its output is piped");
    for line in BufReader::new(printed).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        say(&line);
        let Some((name, result)) = line.strip_prefix("test ").and_then(|it| it.split_once(" ... "))
        else {
            continue;
        };
        match result.trim() {
            "ok" => ran.passed.push(name.to_owned()),
            "FAILED" => ran.failed.push(name.to_owned()),
            _ => {}
        }
    }
    ran.ended_well = child.wait()?.success();
    Ok(ran)
}

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
