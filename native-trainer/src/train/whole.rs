//! A run from a recipe to the deployed network by one call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;

use super::detector::DetectorTraining;
use super::extractor::ExtractorTraining;
use super::folder::{Before, MODEL, RunFolder};
use super::{Resume, RunOptions, run};
use crate::recipe::{RUN_RECIPE, Recipe, Task};
use crate::replica::Trust;

/// Seconds after which a worker that says nothing is given up; the command's default.
const WORKER_SECONDS: u64 = 60;

impl Default for RunOptions {
    /// A whole run on one device.
    fn default() -> Self {
        Self {
            resume: Resume::No,
            stop_after: None,
            devices: Vec::new(),
            workers: Vec::new(),
            worker_timeout: Duration::from_secs(WORKER_SECONDS),
            trust: Trust::default(),
            json: false,
        }
    }
}

/// Trains as a recipe says, on one device and into a folder that holds no run; returns the path of the deployed
/// network. The folder gets what [`run()`] writes, the terminal its lines.
///
/// ```
/// use models::{Device, ModelFile, RgbImage};
/// use native_trainer::{Recipe, train_recipe};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// // Three classes of two images.
/// let photos = folder.join("photos");
/// for (class, color) in [("red", [220, 40, 40]), ("green", [40, 160, 60]), ("blue", [50, 80, 220])] {
///     std::fs::create_dir_all(photos.join(class))?;
///     for side in [20, 24] {
///         let image = RgbImage::from_rgb(side, side, color.repeat((side * side) as usize))?;
///         std::fs::write(photos.join(class).join(format!("{side}.png")), image.encode_png()?)?;
///     }
/// }
///
/// // A recipe that magpie brings along, made small.
/// let data = ["train", "query", "gallery"].map(|list| format!("extractor.{list}={}", photos.display()));
/// let small = [
///     "epochs=1",
///     "schedule.learning_rate=0.01",
///     "schedule.warmup_epochs=0",
///     "epoch_samples=12",
///     "batch_size=6",
///     "preprocess.width=32",
///     "preprocess.height=32",
///     "extractor.hold_out=0",
///     "extractor.sampler.samples_per_class=2",
///     "extractor.model.backbone.width=8",
/// ];
/// let changes = [&data[..], &small.map(str::to_owned)].concat();
/// let recipe = Recipe::read("emoji-extractor".as_ref(), &changes)?;
/// let model = train_recipe(&recipe, &folder.join("run"), &Device::flex())?;
/// assert!(ModelFile::from_bytes(&std::fs::read(model)?)?.prepare_extractor(&Device::flex()).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`run()`], [`RunFolder::take`] and the data of the recipe.
pub fn train_recipe(recipe: &Recipe, folder: &Path, device: &Device) -> anyhow::Result<PathBuf> {
    let options = RunOptions::default();
    let config = folder.join(RUN_RECIPE);
    let folder = RunFolder::take(folder, &config, &options.resume, Before::Keep)?;
    let path = match &recipe.task {
        Task::Extractor(task) => {
            let pictures = task.pictures(recipe.seed)?;
            let training = ExtractorTraining::new(recipe, task, pictures, device)?;
            run(&training, recipe, &options, &folder, device)?
        }
        Task::Detector(task) => {
            let training = DetectorTraining::new(recipe, task, task.cut_outs()?)?;
            run(&training, recipe, &options, &folder, device)?
        }
    };
    Ok(path.unwrap_or_else(|| folder.join(MODEL)))
}
