//! The `magpie` command, whole: what each binary runs.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use thiserror::Error;

use crate::command::{
    bench, data, detect, embed, eval, export, extract, gallery, import, publish, recognize, report,
    scene, serve, site, studio, train, verify, worker,
};
use crate::{allocator, page, terminal};

/// Image recognition that ships as static files: train, build a gallery, publish a page.
#[derive(Debug, Parser)]
#[command(
    name = "magpie",
    version,
    propagate_version = true,
    after_help = "Exit status: 0 on success, 1 on an error (printed to stderr), 2 on wrong usage, 130 after \
        Ctrl-C, 143 after SIGTERM, 141 if nobody reads the output."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Prints a script that completes this command's words in a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie completions bash > \
    ~/.local/share/bash-completion/completions/magpie")]
struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    fn run(&self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "magpie", &mut script);
        let script = String::from_utf8_lossy(&script);
        terminal::answer(format_args!("{}", script.trim_end_matches('\n')));
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Data(data::Arguments),
    Train(train::Arguments),
    Worker(worker::Arguments),
    Eval(eval::Arguments),
    Extract(extract::Arguments),
    Embed(embed::Arguments),
    Detect(detect::Arguments),
    Export(export::Arguments),
    Report(report::Arguments),
    Site(site::Arguments),
    Studio(studio::Arguments),
    Gallery(gallery::Arguments),
    Publish(publish::Arguments),
    Verify(verify::Arguments),
    Serve(serve::Arguments),
    Recognize(recognize::Arguments),
    Bench(bench::Arguments),
    Scene(scene::Arguments),
    Import(import::Arguments),
    Completions(Completions),
}

/// The exit status after an error.
const FAILURE: u8 = 1;

/// Prints help, the version or wrong usage; the exit status.
fn told(error: &clap::Error) -> u8 {
    let written = error.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => terminal::READER_GONE,
        Err(reason) if !error.use_stderr() => {
            terminal::remark(format_args!("error: standard output: {reason}"));
            FAILURE
        }
        _ => u8::try_from(error.exit_code()).unwrap_or(FAILURE),
    }
}

/// Runs the command that the arguments name; its exit status. `with` is the built page that the binary brings along, as
/// [`page::bring`] takes it.
pub fn run(with: Option<&'static [u8]>) -> ExitCode {
    allocator::keep_memory();
    ExitCode::from(run_words(with, std::env::args_os()))
}

/// The same inside a program that gives the words, the name first: what is printed goes to the terminal, and signals
/// end the process.
pub fn run_words(with: Option<&'static [u8]>, words: impl IntoIterator<Item = OsString>) -> u8 {
    if let Some(with) = with {
        page::bring(with);
    }
    terminal::watch();
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return told(&error),
    };
    let result = cli.command.run();
    terminal::finish();
    match result {
        Ok(()) => 0,
        Err(error) => {
            terminal::remark(format_args!("error: {}", terminal::sentence(&error)));
            FAILURE
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Data(arguments) => arguments.run(),
            Self::Train(arguments) => arguments.run(),
            Self::Worker(arguments) => arguments.run(),
            Self::Eval(arguments) => arguments.run(),
            Self::Extract(arguments) => arguments.run(),
            Self::Embed(arguments) => arguments.run(),
            Self::Detect(arguments) => arguments.run(),
            Self::Export(arguments) => arguments.run(),
            Self::Report(arguments) => arguments.run(),
            Self::Completions(arguments) => {
                arguments.run();
                Ok(())
            }
            Self::Site(arguments) => arguments.run(),
            Self::Studio(arguments) => arguments.run(),
            Self::Gallery(arguments) => arguments.run(),
            Self::Publish(arguments) => arguments.run(),
            Self::Verify(arguments) => arguments.run(),
            Self::Serve(arguments) => arguments.run(),
            Self::Recognize(arguments) => arguments.run(),
            Self::Bench(arguments) => arguments.run(),
            Self::Scene(arguments) => arguments.run(),
            Self::Import(arguments) => arguments.run(),
        }
    }
}

/// Wrong words, as a sentence.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

impl Usage {
    fn of(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        // Behind the sentence stand the whole usage and where to read it.
        let sentence = text.split("\n\n").next().unwrap_or_default();
        let sentence = sentence.strip_prefix("error: ").unwrap_or(sentence);
        let lines: Vec<&str> = sentence.lines().map(str::trim).collect();
        Self(lines.join(" "))
    }
}

/// Runs the command that the words name, without its name, and leaves the process as it is.
///
/// # Errors
///
/// [`Usage`] of wrong words, or what the command says.
pub(crate) fn call(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let words = [OsString::from("magpie")].into_iter().chain(words);
    Cli::try_parse_from(words).map_err(|error| Usage::of(&error))?.command.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTS: [(&str, &str); 2] = [
        ("docs/scale.md", include_str!("../../docs/scale.md")),
        ("docs/training.md", include_str!("../../docs/training.md")),
    ];

    /// A command as a shell or a script would have it: variables are numbers.
    fn words(line: &str) -> Option<Vec<String>> {
        let (_, rest) = line.split_once("magpie ").filter(|(before, _)| {
            let before = before.trim();
            before.is_empty() || before.ends_with("f\"")
        })?;
        let rest = rest.split_once(" #").map_or(rest, |(command, _)| command);
        let mut text = rest.trim_end_matches('"').to_owned();
        for (variable, value) in [
            ("$SLURM_ARRAY_TASK_ID", "3"),
            ("$shard", "3"),
            ("{shard}", "3"),
            ("{SHARDS}", "64"),
            // Only builds with its feature have it.
            ("--device cuda", "--device cpu"),
        ] {
            text = text.replace(variable, value);
        }
        assert!(!text.contains(['$', '{']), "a variable that no value stands for: {line}");
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn commands_of_documents_are_commands() {
        for (name, text) in DOCUMENTS {
            let mut found = 0;
            for block in text.split("```").skip(1).step_by(2) {
                // A line that ends with a backslash goes on.
                for line in block.replace("\\\n", " ").lines() {
                    let Some(words) = words(line) else { continue };
                    found += 1;
                    let all = ["magpie".to_owned()].into_iter().chain(words);
                    if let Err(error) = Cli::try_parse_from(all) {
                        panic!("{name}: {line}: {error}");
                    }
                }
            }
            assert!(found > 5, "{name} has {found} commands");
        }
    }
}
