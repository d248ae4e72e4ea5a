//! The test suite: the native programs of tests, then every browser test as a process of its own.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::steps::{execute, output, program, root, say, step};
use crate::{demo, package, page, setup};

/// The program of the browser tests.
const BROWSER: &str = "browser";
/// What most of the tests repeat in: they come last.
const OTHER_BROWSERS: &[&str] = &["firefox", "webkit"];
/// Failures that are worth another look; more are no accident.
const MOST_AGAIN: usize = 5;

/// The complete suite, browser included. `--minutes N`: once so many have gone, no further browser test begins.
pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let most = match options {
        [] => Duration::MAX,
        ["--minutes", minutes] => Duration::from_secs(60 * minutes.parse::<u64>()?),
        _ => bail!("unknown options {options:?}; there is --minutes N"),
    };
    setup::toolchain()?;
    setup::browser()?;
    let programs = demo::build(|| step("tests, compiled", compile))?;
    demo::make(&demo::Options::emoji())?;
    let package = package::assemble()?;
    for example in ["vite-react", "webpack"] {
        setup::npm(&format!("www/examples/{example}"))?;
    }
    let (postgres, python) = (setup::postgres(), setup::python());
    let native = step("native tests", || native(&programs, postgres.as_deref(), python.as_deref()));

    let webkit = setup::webkit();
    let (_, browser) = programs.iter().find(|(name, _)| name == BROWSER).context("no tests")?;
    // The browser tests look at the published demo of emoji and the package.
    let alone = |name: &str| {
        let mut command = program(&browser.to_string_lossy());
        command.current_dir(root().join("tests")).args(["--exact", name]);
        command.env("MAGPIE_SITE", demo::emoji_site()).env("MAGPIE_PACKAGE", &package);
        command
    };
    let mut left_out = Vec::new();
    let browsers = step("browser tests", || {
        let listed = output(program(&browser.to_string_lossy()).args(["--list", "--format=terse"]));
        let names = ordered(&listed.context("the browser tests do not say their names")?, webkit);
        ensure!(!names.is_empty(), "there is no browser test");
        let failed = side_by_side(names, &alone, &|| begun.elapsed() >= most, &mut left_out)?;
        again(&failed, &alone)
    });

    if postgres.is_none() {
        say("NOT tested: galleries in PostgreSQL, which cannot be installed or started here");
    }
    if python.is_none() {
        say("NOT tested: the Python module, as NumPy and Pillow cannot be installed here");
    }
    if !webkit {
        say("NOT tested: the page in WebKitGTK, which cannot be installed here");
    }
    if !left_out.is_empty() {
        let gone = most.as_secs() / 60;
        say(&format!("NOT tested, because {gone} minutes have gone: {}", left_out.join(", ")));
    }
    native.and(browsers)
}

/// The package in pages of Next.js and Astro, whose builds take minutes.
pub(crate) fn bundlers() -> anyhow::Result<()> {
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
        command.args(["test", "--locked", "--workspace", "--test", BROWSER, "--"]);
        command.args(["--ignored", "next_and_astro"]);
        execute(command.env("MAGPIE_SITE", demo::emoji_site()).env("MAGPIE_PACKAGE", &package))
    })
}

/// Compiles every test and example; returns the programs below `tests` folders with their names.
fn compile() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut command = program("cargo");
    command.args(["test", "--locked", "--workspace", "--no-run"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let printed = child.stdout.take().context("its output is piped")?;
    let mut programs = Vec::new();
    for line in BufReader::new(printed).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        let target = &message["target"];
        if target["kind"][0] != "test" {
            continue;
        }
        if let (Some(name), Some(path)) = (target["name"].as_str(), message["executable"].as_str())
        {
            programs.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    ensure!(child.wait()?.success(), "the tests do not compile");
    Ok(programs)
}

/// Every test but those in browsers, and the examples in the docs.
fn native(
    programs: &[(String, PathBuf)],
    postgres: Option<&str>,
    python: Option<&str>,
) -> anyhow::Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = program("cargo");
        command.args(["test", "--locked", "--workspace", "--no-fail-fast"]).args(arguments);
        let mut left_out = Vec::new();
        for (python, variable, tests) in
            [(postgres, "MAGPIE_PGVECTOR", "in_postgres"), (python, "MAGPIE_PYTHON", "in_python")]
        {
            match python {
                Some(python) => _ = command.env(variable, python),
                None => left_out.extend(["--skip", tests]),
            }
        }
        if !left_out.is_empty() {
            command.arg("--").args(left_out);
        }
        execute(&mut command)
    };
    let mut arguments = vec!["--lib", "--bins"];
    for (name, _) in programs.iter().filter(|(name, _)| name != BROWSER) {
        arguments.extend(["--test", name]);
    }
    cargo(&arguments).and(cargo(&["--doc"]))
}

/// Names of tests as `--list` prints them, in the order in which they run: the first of every module, then the second of
/// every module, so that each is looked at where time is short.
fn ordered(listed: &str, webkit: bool) -> VecDeque<String> {
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut names = Vec::new();
    for name in listed.lines().filter_map(|line| line.strip_suffix(": test")) {
        if !webkit && name.contains("in_webkit") {
            continue;
        }
        let module = name.split("::").next().unwrap_or(name);
        let place = seen.entry(module).and_modify(|count| *count += 1).or_default();
        names.push((OTHER_BROWSERS.iter().any(|other| name.contains(other)), *place, name));
    }
    names.sort_by_key(|(other, place, _)| (*other, *place));
    names.into_iter().map(|(_, _, name)| name.to_owned()).collect()
}

/// Runs tests, as many at once as there are processors, until there is no time for more; returns those that failed.
fn side_by_side(
    names: VecDeque<String>,
    alone: &(impl Fn(&str) -> Command + Sync),
    is_over: &(impl Fn() -> bool + Sync),
    left_out: &mut Vec<String>,
) -> anyhow::Result<Vec<String>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let waiting = Mutex::new(names);
    let ran = Mutex::new(Vec::new());
    let next = || {
        let mut waiting = waiting.lock().ok()?;
        if is_over() { None } else { waiting.pop_front() }
    };
    let work = || -> anyhow::Result<()> {
        while let Some(name) = next() {
            let begun = Instant::now();
            let passed = passes(&name, &mut alone(&name))?;
            let mut ran =
                ran.lock().map_err(|_poisoned| anyhow::anyhow!("another test's thread ended"))?;
            ran.push((begun.elapsed(), name, passed));
        }
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_panic| anyhow::anyhow!("a thread of the tests ended"))??;
        }
        Ok(())
    })?;
    left_out.extend(waiting.into_inner().unwrap_or_default());
    let mut ran = ran.into_inner().unwrap_or_default();
    ran.sort();
    let slowest = ran.iter().rev().take(10);
    let slowest: Vec<_> =
        slowest.map(|(took, name, _)| format!("{name} {} s", took.as_secs())).collect();
    say(&format!("   {} run; the slowest: {}", ran.len(), slowest.join(", ")));
    Ok(ran.into_iter().filter(|(_, _, passed)| !passed).map(|(_, name, _)| name).collect())
}

/// Runs one test; what it printed is shown where it failed.
fn passes(name: &str, command: &mut Command) -> anyhow::Result<bool> {
    let output = command.stdin(Stdio::null()).output().with_context(|| name.to_owned())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && printed.contains(&format!("test {name} ... ok"));
    let is_ignored = printed.contains(&format!("test {name} ... ignored"));
    say(&match (passed, is_ignored) {
        (true, _) => format!("test {name} ... ok"),
        (_, true) => format!("test {name} ... ignored"),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("test {name} ... FAILED\n{printed}{errors}")
        }
    });
    Ok(passed || is_ignored)
}

/// Runs once more, alone, what failed: a browser on a busy machine may miss a moment that a test waits for; a fault stays.
fn again(failed: &[String], alone: &impl Fn(&str) -> Command) -> anyhow::Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let told = failed.join(", ");
    ensure!(failed.len() <= MOST_AGAIN, "failed: {told}");
    let stay = step("the failed browser tests again, one by one", || {
        let mut stay = Vec::new();
        for name in failed {
            if !passes(name, &mut alone(name))? {
                stay.push(name.as_str());
            }
        }
        Ok(stay)
    })?;
    ensure!(stay.is_empty(), "failed twice: {}", stay.join(", "));
    say(&format!("UNSTEADY, passed only when run alone: {told}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_comes_before_the_second_test_of_any_and_other_browsers_last() {
        let listed = "a::one: test\na::the_same_in_firefox: test\na::two: test\nb::one: test\n\
                      b::it_is_the_page_in_webkit: test\nc: benchmark\n";
        let names = ordered(listed, true);
        assert_eq!(
            names,
            ["a::one", "b::one", "a::two", "a::the_same_in_firefox", "b::it_is_the_page_in_webkit"]
        );
        assert!(!ordered(listed, false).iter().any(|name| name.contains("webkit")));
    }

    #[test]
    fn what_has_no_time_is_left_out_and_what_fails_is_named() {
        let command = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let alone = |name: &str| match name {
            "bad" => command("echo 'test bad ... FAILED'; exit 101"),
            // A program that ends well without the test in it has tested nothing.
            "absent" => command("exit 0"),
            _ => command(&format!("echo 'test {name} ... ok'")),
        };
        let names: VecDeque<String> = ["good", "bad", "absent"].map(str::to_owned).into();
        let mut left_out = Vec::new();
        let mut failed =
            side_by_side(names.clone(), &alone, &|| false, &mut left_out).expect("they run");
        failed.sort();
        assert_eq!((failed, left_out.len()), (vec!["absent".to_owned(), "bad".to_owned()], 0));
        let failed = side_by_side(names, &alone, &|| true, &mut left_out).expect("none runs");
        assert_eq!((failed.len(), left_out.len()), (0, 3));

        assert!(again(&[], &alone).is_ok());
        assert!(again(&["good".to_owned()], &alone).is_ok());
        assert!(again(&["good".to_owned(), "bad".to_owned()], &alone).is_err());
        assert!(again(&vec!["good".to_owned(); MOST_AGAIN + 1], &alone).is_err());
    }
}
