//! `cargo xtask`: one command for each thing that people do with this repository.

mod bench;
mod check;
mod demo;
mod dist;
mod engine;
mod package;
mod page;
mod setup;
mod steps;
mod studio;
mod suite;

use anyhow::bail;

const HELP: &str = "\
cargo xtask demo [--no-stamps] [--measure N] [--no-serve] [--port N]
    Installs what is missing, fetches photographs of things, builds the gallery,
    publishes the page and serves it on 127.0.0.1. --no-stamps leaves Debian's
    package of cut-outs (161 MB) out; --measure recognizes N composed pictures.
cargo xtask demo --emoji [--train] [--no-serve] [--port N]
    The same on emoji, with networks that the project has trained; --train trains
    them here, without --emoji, too.
cargo xtask test [--minutes N]
    The complete test suite, browser included. Once N minutes have gone, no further
    test in a browser begins; the ones left out are named.
cargo xtask test --gpu
    The recorded numbers on wgpu: Mesa's software Vulkan, which it installs.
cargo xtask test --bundlers
    The package in pages of Next.js and Astro, which it installs and builds for minutes.
cargo xtask check
    What a developer runs before a commit, beside the tests: format, spelling, lints
    on host and wasm32, types and lints of scripts, docs, licenses, unused dependencies.
cargo xtask check --quick
    What compiles nothing of that: format, types and lints of scripts, spelling.
cargo xtask check --lints
    Lints on the host, docs, licenses, unused dependencies.
cargo xtask fuzz [--seconds N] [--seed N] [NAME]...
    Hands damaged input to every parser, or to those whose names hold NAME, for N seconds each (60), beginning with
    the input of a seed (0).
cargo xtask bench
    Training speed beside PyTorch, which it installs into .magpie/bench.
cargo xtask bench training --workers DIR
    Training shared by 1, 2 and 4 worker processes of this machine: images a second and bytes a step, with the
    photographs below DIR, whose folders are classes.
cargo xtask bench engine [--imported] [RUNS]
    The networks on the processor: natively beside ONNX Runtime and OpenVINO, in Chromium, also on
    WebGPU, beside ONNX Runtime Web and LiteRT.js; it installs them into .magpie/bench. With --imported, networks
    whose weights others publish, with drawn weights; MobileCLIP is drawn by timm, which is installed, too.
cargo xtask bench gallery [COUNT]
    Searches among COUNT (10000) vectors beside faiss natively, and beside
    hnswlib-wasm and edgevec in Chromium; it installs them into .magpie/bench.
cargo xtask bench import [NAME]...
    Networks of timm, or those named, as ONNX files: which of them `magpie import` takes over; it installs PyTorch into
    .magpie/bench.
cargo xtask bench page [MEGABITS]
    From opening the demo's page to its first answer over a network of MEGABITS (20) a second,
    beside the same bundle on ONNX Runtime Web.
cargo xtask bench postgres [COUNT]
    A gallery of COUNT (100000) made-up entries in PostgreSQL: push, pull, size, and searches by pgvector's indexes beside
    its exact scan.
cargo xtask bench service --pictures DIR [--soak MINUTES | --processes]
    The service under load, beside FastAPI with ONNX Runtime and faiss, which it installs into .magpie/bench. With --soak
    it is held at its capacity for so long, by clients of which some break off, send rubbish and change the gallery.
    With --processes 1, 2 and 4 services are asked that have one gallery in PostgreSQL, without and with changes.
cargo xtask bench studio [N] --pictures DIR
    From N (200) photographs of a camera's size to a site in the studio, in Chromium; they are
    composed of the pictures below DIR, whose folders are classes. Then 2,000 of these pictures.
cargo xtask bench quality DIR [--extractor FILE] [--detector FILE] [--limit N]
    How well networks do on every set of images below DIR, with standard errors; with --limit on N
    images of each set. docs/results.md says how DIR looks.
cargo xtask bench report
    The tables of docs from the files of docs/benchmarks, where every bench writes its own.
cargo xtask package
    The package for other people's pages, in target/package, and packed by npm.
cargo xtask dist
    The files that are handed out, in target/dist: one program with page, engines and
    networks inside, as it is, as tar.gz and as wheel, the package for npm, a container
    file, a bill of materials. Each is installed in an empty place and makes a site.
cargo xtask page
    Page and engines, into dist.
cargo xtask engine
    For Trunk: the engine for pages that may share memory.
cargo xtask web
    Rebuilds and serves the page whenever a file changes, by Trunk, which it installs.
cargo xtask setup
    Only installs what is missing.";

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            steps::say(&format!("error: {error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["demo", options @ ..] => demo::run(&demo::Options::parse(options)?),
        ["test", "--gpu"] => check::test_gpu(),
        ["test", "--bundlers"] => suite::bundlers(),
        ["test", options @ ..] => suite::run(options),
        ["check"] => check::check(),
        ["check", "--quick"] => check::quick(),
        ["check", "--lints"] => check::lints(),
        ["fuzz", options @ ..] => check::fuzz(options),
        ["bench"] | ["bench", "training"] => bench::training(),
        ["bench", "training", "--workers", pictures] => bench::workers(pictures),
        ["bench", "engine", options @ ..] => bench::engine(options),
        ["bench", "import", names @ ..] => bench::import(names),
        ["bench", "page", options @ ..] => bench::page(options),
        ["bench", "gallery", options @ ..] => bench::gallery(options),
        ["bench", "postgres", options @ ..] => bench::postgres(options),
        ["bench", "service", options @ ..] => bench::service(options),
        ["bench", "studio", options @ ..] => bench::studio(options),
        ["bench", "quality", options @ ..] => bench::quality(options),
        ["bench", "report"] => bench::report(),
        ["package"] => package::run(),
        ["dist"] => dist::run(),
        ["page"] => page::build(),
        ["engine"] => engine::run(),
        ["web"] => check::web(),
        ["setup"] => setup::everything(),
        [] | ["help" | "--help" | "-h"] => {
            steps::say(HELP);
            Ok(())
        }
        _ => bail!("unknown command {words:?}\n{HELP}"),
    }
}
