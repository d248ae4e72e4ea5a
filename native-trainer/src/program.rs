//! The `magpie` command, whole: what each binary runs.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::command::{
    bench, data, detect, eval, export, extract, gallery, import, publish, recognize, report, scene,
    serve, site, studio, train, verify, worker,
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

/// Prints help, the version or wrong usage; the exit status.
fn told(error: &clap::Error) -> ExitCode {
    let written = error.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::from(terminal::READER_GONE)
        }
        Err(reason) if !error.use_stderr() => {
            terminal::remark(format_args!("error: standard output: {reason}"));
            ExitCode::FAILURE
        }
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Runs the command that the arguments name; its exit status. `with` is the built page that the binary brings along, as
/// [`page::bring`] takes it.
pub fn run(with: Option<&'static [u8]>) -> ExitCode {
    allocator::keep_memory();
    if let Some(with) = with {
        page::bring(with);
    }
    terminal::watch();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told(&error),
    };
    let result = match cli.command {
        Command::Data(arguments) => arguments.run(),
        Command::Train(arguments) => arguments.run(),
        Command::Worker(arguments) => arguments.run(),
        Command::Eval(arguments) => arguments.run(),
        Command::Extract(arguments) => arguments.run(),
        Command::Detect(arguments) => arguments.run(),
        Command::Export(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run(),
        Command::Completions(arguments) => {
            arguments.run();
            Ok(())
        }
        Command::Site(arguments) => arguments.run(),
        Command::Studio(arguments) => arguments.run(),
        Command::Gallery(arguments) => arguments.run(),
        Command::Publish(arguments) => arguments.run(),
        Command::Verify(arguments) => arguments.run(),
        Command::Serve(arguments) => arguments.run(),
        Command::Recognize(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Scene(arguments) => arguments.run(),
        Command::Import(arguments) => arguments.run(),
    };
    terminal::finish();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::remark(format_args!("error: {}", terminal::sentence(&error)));
            ExitCode::FAILURE
        }
    }
}
