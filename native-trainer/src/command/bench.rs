//! `magpie bench`: how fast a published bundle is on this machine, stage by stage.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use models::bundle::{Bundle, MAX_FILE_BYTES};
use models::inference::Arithmetic;
use models::timing::{Figures, Stage, drawn, measure};
use serde::Serialize;

use crate::cli::DeviceKind;
use crate::data::store::read_picture;
use crate::files;
use crate::publishing::site::{bundle_of, read_manifest};
use crate::terminal::counted;

/// Version of the JSON that is printed, which the page for measurements writes, too.
const SCHEMA: u32 = 2;
/// Times that the bundle is opened.
const OPENED: usize = 3;

/// Measures a bundle: opening it, finding, embedding, searching, all of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie bench --bundle site\n  magpie bench --bundle \
    site --picture shelf.jpg --runs 100 --json > laptop.json")]
pub struct Arguments {
    /// Folder with manifest.json, or the published site that it is in.
    #[arg(long)]
    bundle: PathBuf,
    /// Picture to recognize; without one a pattern is drawn.
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Measured runs of each stage.
    #[arg(long, default_value_t = 30, value_parser = crate::cli::ranges::count)]
    runs: usize,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    program: &'static str,
    system: String,
    cores: usize,
    threads: usize,
    device: String,
    /// What the extractor's products are computed in.
    arithmetic: Arithmetic,
    bundle: String,
    /// Classes and entries of the gallery.
    gallery: [usize; 2],
    /// Width and height of the picture.
    picture: [u32; 2],
    results: Vec<Figures>,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A bundle or a picture that cannot be used.
    pub fn run(&self) -> anyhow::Result<()> {
        let target = self.device.target()?;
        let picture = match &self.picture {
            Some(path) => read_picture(path)?,
            None => drawn(),
        };
        let bundle = bundle_of(&self.bundle);
        let manifest = read_manifest(&bundle)?;
        let file = |name: &str| files::read(&bundle.join(name), MAX_FILE_BYTES).ok();
        let open = || {
            Bundle::open(&manifest, file, target.clone())
                .with_context(|| bundle.display().to_string())
        };
        let recognizer = open()?;
        let mut opened = Vec::new();
        for _ in 0..OPENED {
            let start = Instant::now();
            pollster::block_on(open()?.recognize(&picture, || 0.0))?;
            opened.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let mut results = vec![Figures::of("open, first picture", opened)];
        let begin = Instant::now();
        let clock = || begin.elapsed().as_secs_f64() * 1e3;
        for stage in Stage::all(recognizer.detector().is_some()) {
            let runs = self.runs.max(1);
            let times = pollster::block_on(measure(&recognizer, stage, &picture, runs, clock))?;
            results.push(Figures::of(stage.name(), times));
        }
        let gallery = recognizer.gallery();
        let report = Report {
            schema: SCHEMA,
            program: concat!("magpie ", env!("CARGO_PKG_VERSION")),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            device: format!("{:?}", self.device).to_lowercase(),
            arithmetic: recognizer.extractor().arithmetic(),
            bundle: manifest.title.clone(),
            gallery: [gallery.classes().len(), gallery.len()],
            picture: [picture.width(), picture.height()],
            results,
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(());
        }
        let [classes, entries] = report.gallery;
        println!(
            "{}: {}, {}; picture {}×{}; {}, {}, {}",
            report.bundle,
            counted(classes, "class", "classes"),
            counted(entries, "entry", "entries"),
            picture.width(),
            picture.height(),
            report.system,
            counted(report.cores, "core", "cores"),
            report.device
        );
        println!("{:<20} {:>10} {:>10} {:>10}   (ms)", "stage", "median", "least", "p95");
        for figures in &report.results {
            let Figures { what, median_ms, least_ms, p95_ms, .. } = figures;
            println!("{what:<20} {median_ms:>10.3} {least_ms:>10.3} {p95_ms:>10.3}");
        }
        if report.results.iter().any(Figures::is_wide) {
            println!("The times spread widely: something else was running. Measure again.");
        }
        Ok(())
    }
}
