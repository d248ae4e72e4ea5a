//! `magpie train`: a recipe becomes a model file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::Args;
use serde_json::json;

use super::data::tell_notes;
use super::report::REPORTED;
use crate::cli::{DeviceKind, Embedder, tell_remarks};
use crate::comparison::{Comparison, adapted_answers};
use crate::data::list_file::Samples;
use crate::metric::verdict::Keep;
use crate::networks;
use crate::recipe::{Pictures, Recipe, SHIPPED, Shipped, Task};
use crate::replica::{Trust, worker_address};
use crate::report;
use crate::terminal::counted;
use crate::train::detector::DetectorTraining;
use crate::train::extractor::ExtractorTraining;
use crate::train::folder::{Before, RunFolder};
use crate::train::{MissingWeights, Resume, RunOptions, Training, run};

/// Trains an extractor or a detector as a recipe says.
///
/// With PHOTOS, some of them are held out, and at the end the trained extractor is compared on these with the one that
/// magpie brings along, both adapted to the other photographs; the command says which to keep.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  magpie train photos --out runs/mine\n  magpie train --list-recipes\n  magpie train -c \
    photos --out runs/mine -o extractor.train=photos\n  magpie train -c runs/mine/recipe.toml --out runs/mine --resume"
)]
pub struct Arguments {
    /// Photographs to train an extractor on: a folder with one sub-folder per class, or a list file. In the place of
    /// the recipe's extractor.train.
    photos: Option<PathBuf>,
    /// Recipe: a TOML file, or the name of one that magpie brings along; by default `photos` where photographs are
    /// given.
    #[arg(short, long, value_name = "RECIPE", required_unless_present_any = ["list_recipes", "photos"])]
    config: Option<PathBuf>,
    /// Shows the recipes that magpie brings along; with --config that one's text, to be changed in a file of your own.
    #[arg(long)]
    list_recipes: bool,
    /// Changes a value of the recipe; may be repeated.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder of the run: log, checkpoints, model.safetensors, report.html.
    #[arg(
        long = "out",
        alias = "output",
        value_name = "FOLDER",
        required_unless_present = "list_recipes"
    )]
    output: Option<PathBuf>,
    /// Goes on from the run's newest whole checkpoint, or from the one in this folder.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, default_missing_value = LATEST)]
    resume: Option<PathBuf>,
    /// Replaces the run that is in the folder: its files are removed before training begins.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Stops after the epoch of this number, to be resumed later.
    #[arg(long, value_name = "EPOCH", value_parser = crate::cli::ranges::count)]
    stop_after: Option<usize>,
    /// Where to train.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// How many devices of that kind share every batch.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    devices: u16,
    /// A `magpie worker` that shares every batch, at port 7500 unless another one is named; may be repeated.
    #[arg(long = "worker", value_name = "HOST:PORT", value_parser = worker_address)]
    workers: Vec<String>,
    /// Seconds after which a worker that says nothing is given up; while it computes it shows signs of life.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    worker_timeout: u64,
    /// File with the secret that the workers ask for: the same as that of `magpie worker --secret-file`.
    #[arg(long, value_name = "FILE", requires = "workers")]
    secret_file: Option<PathBuf>,
    /// PEM file with the workers' certificate, or with the one that signed theirs: connections are encrypted, and a worker
    /// with another certificate is refused.
    #[arg(long, value_name = "FILE", requires = "workers")]
    worker_certificate: Option<PathBuf>,
    /// Prints one JSON object per line: what metrics.jsonl holds.
    #[arg(long)]
    json: bool,
}

/// The recipe of photographs.
const PHOTOS: &str = "photos";
/// What `--resume` means where it names no folder.
const LATEST: &str = "latest";

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// As [`run`], [`Recipe::read`], [`RunFolder::take`] and the data of the recipe.
    pub fn run(&self) -> anyhow::Result<()> {
        if self.list_recipes {
            return list_recipes(self.config.as_deref());
        }
        let photos = self.photos.as_ref().map(|_| Path::new(PHOTOS));
        let (Some(config), Some(output)) = (self.config.as_deref().or(photos), &self.output) else {
            bail!("give --config and --out");
        };
        let recipe = Recipe::read(config, &self.overrides()?)?;
        RunFolder::check(output, config, &self.resume(), self.before())?;
        RunFolder::check_inputs(output, &folders_of(&recipe), &files_of(&recipe))?;
        let device = self.device.open();
        let absent = || match recipe.data.trim() {
            "" => "the recipe's data".to_owned(),
            text => text.to_owned(),
        };
        let missing = |error| explained(error, config);
        match &recipe.task {
            Task::Extractor(task) => {
                let pictures = task.pictures(recipe.seed).with_context(absent)?;
                tell_remarks(&pictures.remarks);
                let held_out = self.photos.as_ref().and_then(|_| held_out(&pictures));
                let training = ExtractorTraining::new(&recipe, task, pictures, &device)
                    .map_err(missing)
                    .with_context(absent)?;
                let model = self.train(&training, &recipe, [config, output], &device)?;
                match (model, held_out) {
                    (Some(model), Some(held_out)) => self.compare(&model, &held_out),
                    _ => Ok(()),
                }
            }
            Task::Detector(task) => {
                let cut_outs = task.cut_outs().with_context(absent)?;
                tell_remarks(&cut_outs.remarks);
                let training = DetectorTraining::new(&recipe, task, cut_outs)
                    .map_err(missing)
                    .with_context(absent)?;
                tell_notes(training.notes());
                self.train(&training, &recipe, [config, output], &device).map(drop)
            }
        }
    }

    /// Changes of the recipe, the photographs among them.
    fn overrides(&self) -> anyhow::Result<Vec<String>> {
        let Some(photos) = &self.photos else { return Ok(self.overrides.clone()) };
        let text = photos
            .to_str()
            .with_context(|| format!("{}: is no UTF-8; choose another name", photos.display()))?;
        let train = format!("extractor.train={}", toml::Value::String(text.to_owned()));
        Ok([vec![train], self.overrides.clone()].concat())
    }

    /// Says which extractor to keep: the trained one, or the one that magpie brings along.
    fn compare(&self, model: &Path, [others, asked]: &[Samples; 2]) -> anyhow::Result<()> {
        let answers = |path: &Path| {
            let embedder = Embedder::open(path, self.device)?;
            adapted_answers(embedder.network(), others, asked)
        };
        let general = Path::new(networks::GENERAL);
        let compared = Comparison::of(&answers(general)?, &answers(model)?);
        let [gain, error] = compared.gain();
        let [before, trained] =
            compared.right.map(|right| 100.0 * right as f64 / compared.asked.max(1) as f64);
        if self.json {
            println!(
                "{}",
                json!({"kind": "comparison", "queries": compared.asked, "recall_at_1": trained / 100.0,
                       "recall_at_1_general": before / 100.0, "standard_error": error / 100.0,
                       "keep": compared.keep().name()})
            );
            return Ok(());
        }
        let advice = match compared.keep() {
            Keep::Trained => {
                format!("keep the trained one: magpie site … --extractor {}", model.display())
            }
            Keep::Before => "keep general: training made it worse".to_owned(),
            Keep::Unclear => {
                "the difference may be chance: keep general, which needs no file".to_owned()
            }
        };
        println!(
            "on {} held out, each extractor adapted to the others: trained {trained:.1} %, {} {before:.1} %, difference \
             {gain:+.1} ± {error:.1}: {advice}",
            counted(compared.asked, "picture", "pictures"),
            general.display()
        );
        Ok(())
    }

    fn train(
        &self,
        training: &impl Training,
        recipe: &Recipe,
        [config, output]: [&Path; 2],
        device: &Device,
    ) -> anyhow::Result<Option<PathBuf>> {
        let folder = RunFolder::take(output, config, &self.resume(), self.before())?;
        let options = RunOptions {
            resume: self.resume(),
            stop_after: self.stop_after,
            devices: (1..self.devices).map(|i| self.device.open_next(i.into())).collect(),
            workers: self.workers.clone(),
            worker_timeout: Duration::from_secs(self.worker_timeout),
            trust: Trust::read(self.secret_file.as_deref(), self.worker_certificate.as_deref())?,
            json: self.json,
        };
        let model = run(training, recipe, &options, &folder, device)?;
        let path = report::write(folder.path(), REPORTED, device)?;
        if !self.json {
            println!("report: {}", path.display());
        }
        Ok(model)
    }

    fn resume(&self) -> Resume {
        match &self.resume {
            None => Resume::No,
            Some(name) if name.as_os_str() == LATEST => Resume::Latest,
            Some(folder) => Resume::From(folder.clone()),
        }
    }

    fn before(&self) -> Before {
        if self.overwrite { Before::Replace } else { Before::Keep }
    }
}

/// The photographs that an extractor learns from, and those that are held out of them; `None` where none are.
fn held_out(pictures: &Pictures) -> Option<[Samples; 2]> {
    let query = pictures.query.as_ref().filter(|_| pictures.is_held_out)?;
    Some([pictures.train.clone(), query.clone()])
}

/// Shows all recipes of the program, or the text of one.
fn list_recipes(name: Option<&Path>) -> anyhow::Result<()> {
    if let Some(name) = name {
        let found = name.to_str().and_then(Shipped::find);
        let found = found.with_context(|| {
            format!(
                "{}: magpie brings no such recipe along; --list-recipes alone shows all",
                name.display()
            )
        })?;
        println!("{}", found.text.trim_end());
        return Ok(());
    }
    let width = SHIPPED.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    for recipe in SHIPPED {
        println!("{:<width$}  {}", recipe.name, recipe.summary());
    }
    Ok(())
}

/// An error; of weights to begin with that are not there it names the recipe.
fn explained(error: anyhow::Error, config: &Path) -> anyhow::Error {
    if error.is::<MissingWeights>() {
        return error.context(format!("recipe {}", config.display()));
    }
    error
}

/// What else a recipe reads.
fn files_of(recipe: &Recipe) -> Vec<&Path> {
    let paths = match &recipe.task {
        Task::Extractor(task) => {
            let teachers = task.teacher.iter().flat_map(|teacher| teacher.weights.files());
            let others = [&task.query, &task.gallery, &task.pretrained].map(Option::as_ref);
            let named = [Some(&task.train)].into_iter().chain(teachers.map(Some));
            named.chain(others).collect()
        }
        Task::Detector(task) => vec![
            task.cutouts.as_ref(),
            task.eval_cutouts.as_ref(),
            task.coco.as_ref(),
            task.coco_images.as_ref(),
            task.eval_coco.as_ref(),
            task.eval_coco_images.as_ref(),
            task.pretrained.as_ref(),
        ],
    };
    paths.into_iter().flatten().map(PathBuf::as_path).collect()
}

/// Folders of classes that a recipe names, each once.
fn folders_of(recipe: &Recipe) -> Vec<&Path> {
    let paths = match &recipe.task {
        Task::Extractor(task) => [Some(&task.train), task.query.as_ref(), task.gallery.as_ref()],
        Task::Detector(task) => [task.cutouts.as_ref(), task.eval_cutouts.as_ref(), None],
    };
    let paths = paths.into_iter().flatten().map(PathBuf::as_path);
    let mut folders: Vec<&Path> = Vec::new();
    for path in paths.filter(|path| path.is_dir()) {
        if !folders.contains(&path) {
            folders.push(path);
        }
    }
    folders
}
