//! Running programs and telling people about it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").into()
}

/// What cargo compiles into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), Into::into)
}

/// A line for the person at the terminal.
#[expect(clippy::print_stdout, reason = "the terminal output of this program")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Announces a step, runs it, says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(&format!("── {what}"));
    let start = Instant::now();
    let result = work().with_context(|| what.to_owned())?;
    say(&format!("   {what}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(result)
}

/// A program in the repository's folder, with the toolchain that is chosen there.
///
/// Cargo hands its own choice of toolchain down; it is taken away so that an override that set-up
/// has made holds at once.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a program with its output on the terminal.
pub(crate) fn execute(command: &mut Command) -> anyhow::Result<()> {
    let text = describe(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| text.clone())?;
    if !status.success() {
        bail!("`{text}` ended with {status}");
    }
    Ok(())
}

/// Runs a program and returns what it printed; `None` where it is absent or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Newest modification below these files and folders; relative ones lie in the repository.
fn newest(paths: &[impl AsRef<Path>]) -> Option<std::time::SystemTime> {
    fn visit(path: &Path, newest: &mut Option<std::time::SystemTime>) {
        let skipped = ["node_modules", "target", "golden"];
        if path.file_name().is_some_and(|n| skipped.iter().any(|s| n == *s)) {
            return;
        }
        let Ok(metadata) = path.metadata() else { return };
        if metadata.is_dir() {
            let Ok(entries) = path.read_dir() else { return };
            entries.flatten().for_each(|entry| visit(&entry.path(), newest));
        } else if let Ok(time) = metadata.modified() {
            *newest = (*newest).max(Some(time));
        }
    }
    let mut found = None;
    for path in paths {
        visit(&root().join(path), &mut found);
    }
    found
}

/// Whether `result` exists and is not older than anything below `sources`.
pub(crate) fn is_fresh(result: &Path, sources: &[impl AsRef<Path>]) -> bool {
    let made = result.metadata().and_then(|metadata| metadata.modified()).ok();
    made.is_some() && made >= newest(sources)
}
