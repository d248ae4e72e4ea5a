//! The `magpie` command.

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use native_trainer::command::{eval, gallery, import, publish, recognize, scene, serve, train};

/// Training allocates the same large buffers every step; the system's allocator hands them back to
/// the kernel each time, which costs a tenth of a step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Image recognition that ships as static files: train, build a gallery, publish a page.
#[derive(Debug, Parser)]
#[command(name = "magpie", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Arguments),
    Eval(eval::Arguments),
    Gallery(gallery::Arguments),
    Publish(publish::Arguments),
    Serve(serve::Arguments),
    Recognize(recognize::Arguments),
    Scene(scene::Arguments),
    Import(import::Arguments),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Train(arguments) => arguments.run(),
        Command::Eval(arguments) => arguments.run(),
        Command::Gallery(arguments) => arguments.run(),
        Command::Publish(arguments) => arguments.run(),
        Command::Serve(arguments) => arguments.run(),
        Command::Recognize(arguments) => arguments.run(),
        Command::Scene(arguments) => arguments.run(),
        Command::Import(arguments) => arguments.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "where a command reports failures")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
