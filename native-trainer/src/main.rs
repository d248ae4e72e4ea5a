//! The `magpie` command.

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use mimalloc::MiMalloc;
use native_trainer::allocator;
use native_trainer::command::{
    bench, data, detect, eval, export, extract, gallery, import, publish, recognize, report, scene,
    serve, train, verify, worker,
};
use native_trainer::terminal;

/// The system's allocator hands large buffers back to the kernel; see [`allocator::keep_memory`].
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Image recognition that ships as static files: train, build a gallery, publish a page.
#[derive(Debug, Parser)]
#[command(
    name = "magpie",
    version,
    propagate_version = true,
    after_help = "Ends with 0 where all went well, with 1 after an error, which it names, with 2 \
        where the command line is not understood, with 130 after Ctrl-C, with 143 after SIGTERM, with \
        141 where nobody reads its output any more."
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

fn main() -> std::process::ExitCode {
    allocator::keep_memory();
    terminal::watch();
    let result = match Cli::parse().command {
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
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            terminal::remark(format_args!("error: {}", terminal::sentence(&error)));
            std::process::ExitCode::FAILURE
        }
    }
}
