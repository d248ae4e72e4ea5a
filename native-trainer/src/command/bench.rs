//! `magpie bench`: how fast a published bundle is on this machine, stage by stage.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use models::bundle::{Bundle, MANIFEST_NAME, Manifest};
use models::image::RgbImage;
use serde::Serialize;

use super::{DeviceKind, read};
use crate::data::store::read_picture;

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;
/// Runs of each stage before it is measured.
const WARM_UP: usize = 3;
/// Crops that are embedded at once.
const BATCHES: [usize; 3] = [1, 4, 16];
/// A 95th percentile of more than this many medians says that something else was running.
const WIDE: f64 = 2.0;
/// Sides of the drawn picture: what a phone's camera gives a page.
const DRAWN: (u32, u32) = (1280, 960);

/// Measures a bundle: opening it, finding, embedding, searching, all of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie bench --bundle site/bundle\n  magpie bench --bundle \
    site/bundle --picture shelf.jpg --runs 100 --json > laptop.json")]
pub struct Arguments {
    /// Folder with manifest.json.
    #[arg(long)]
    bundle: PathBuf,
    /// Picture to recognise; without one a pattern is drawn.
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Measured runs of each stage.
    #[arg(long, default_value_t = 30)]
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
    device: String,
    bundle: String,
    /// Classes and entries of the gallery.
    gallery: [usize; 2],
    /// Width and height of the picture.
    picture: [u32; 2],
    results: Vec<Figures>,
}

/// Milliseconds of one stage.
#[derive(Debug, Serialize)]
struct Figures {
    what: String,
    runs: usize,
    median_ms: f64,
    least_ms: f64,
    p95_ms: f64,
}

impl Figures {
    /// Runs a stage until there are enough figures of it.
    fn measure(
        what: impl Into<String>,
        warm_up: usize,
        runs: usize,
        mut stage: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        for _ in 0..warm_up {
            stage()?;
        }
        let runs = runs.max(1);
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            stage()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(Self {
            what: what.into(),
            runs,
            median_ms: times[runs / 2],
            least_ms: times[0],
            p95_ms: times[(runs * 95 / 100).min(runs - 1)],
        })
    }

    fn is_wide(&self) -> bool {
        self.p95_ms > WIDE * self.median_ms
    }
}

/// Something everywhere, the same every time.
fn drawn() -> anyhow::Result<RgbImage> {
    let (width, height) = DRAWN;
    let bytes = (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect();
    Ok(RgbImage::from_rgb(width, height, bytes)?)
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A bundle or a picture that cannot be used.
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    pub fn run(&self) -> anyhow::Result<()> {
        let device = self.device.open();
        let picture = match &self.picture {
            Some(path) => read_picture(path)?,
            None => drawn()?,
        };
        let manifest = Manifest::from_bytes(&read(&self.bundle.join(MANIFEST_NAME))?)?;
        let open =
            || Bundle::open(&manifest, |name| std::fs::read(self.bundle.join(name)).ok(), &device);
        let recognizer = open()?;
        let mut results = vec![Figures::measure("open, first picture", 0, 3, || {
            let recognizer = open()?;
            pollster::block_on(recognizer.recognize(&picture, || 0.0))?;
            Ok(())
        })?];
        if manifest.detector.is_some() {
            results.push(Figures::measure("detect", WARM_UP, self.runs, || {
                pollster::block_on(recognizer.detect(&picture))?;
                Ok(())
            })?);
        }
        for batch in BATCHES {
            let crops = vec![picture.clone(); batch];
            let what = format!("embed {batch}");
            results.push(Figures::measure(what, WARM_UP, self.runs, || {
                pollster::block_on(recognizer.embed(&crops))?;
                Ok(())
            })?);
        }
        let embedding = pollster::block_on(recognizer.embed(std::slice::from_ref(&picture)))?;
        let embedding = embedding.first().context("the network gave nothing")?;
        results.push(Figures::measure("search", WARM_UP, self.runs, || {
            recognizer.answer(embedding)?;
            Ok(())
        })?);
        results.push(Figures::measure("recognise", WARM_UP, self.runs, || {
            pollster::block_on(recognizer.recognize(&picture, || 0.0))?;
            Ok(())
        })?);
        let gallery = recognizer.gallery();
        let report = Report {
            schema: SCHEMA,
            program: concat!("magpie ", env!("CARGO_PKG_VERSION")),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            device: format!("{:?}", self.device).to_lowercase(),
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
            "{}: {classes} classes, {entries} entries; picture {}×{}; {}, {} core(s), {}",
            report.bundle,
            picture.width(),
            picture.height(),
            report.system,
            report.cores,
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
