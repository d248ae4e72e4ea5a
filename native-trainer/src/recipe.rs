//! Recipes: one TOML file holds everything that a training run depends on.

mod pictures;
mod ranges;
mod shipped;

use std::path::{Path, PathBuf};

use models::detector::DetectorConfig;
use models::extractor::ExtractorConfig;
use models::limits::LimitError;
use models::operators::mixed::HalfFloat;
use models::preprocess::Preprocess;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data::augment::Augmentation;
use crate::data::boxed::BoxedAugmentation;
use crate::data::label::is_slip;
use crate::data::operator::Operator;
use crate::data::sampler::SamplerConfig;
use crate::data::scenes::SceneOptions;
use crate::ema::EmaConfig;
use crate::files::{self, FileError};
use crate::head::HeadConfig;
use crate::loss::{LossKind, LossTerm};
use crate::optimizer::{OptimizerConfig, ParameterRules};
use crate::schedule::Schedule;

pub use pictures::Pictures;
pub use shipped::{SHIPPED, Shipped};

/// Most bytes of a recipe that are read.
const RECIPE_LIMIT: u64 = 16 << 20;

/// Name of the recipe in a run's folder: all overrides applied.
pub const RUN_RECIPE: &str = "recipe.toml";

/// Why a recipe could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// There is no such file, nor a recipe of that name in the program.
    #[error(
        "{}: no such file, and no recipe of that name{near}; `magpie train --list-recipes` shows those that magpie \
         brings along",
        path.display()
    )]
    Unknown {
        /// As given.
        path: PathBuf,
        /// The name that was probably meant, for people; else empty.
        near: String,
    },
    /// A number that makes no sense.
    #[error("recipe {}: {source}", path.display())]
    Range {
        /// The recipe.
        path: PathBuf,
        /// Key, value and what may be given.
        source: LimitError,
    },
    /// The text is no recipe: syntax, an unknown key, a wrong type.
    #[error("recipe {}: {reason}", path.display())]
    Invalid {
        /// The recipe.
        path: PathBuf,
        /// Line and key.
        reason: String,
    },
    /// An override that is not `key.key=value`.
    #[error("-o {text}: {reason}; write -o schedule.learning_rate=0.01")]
    Override {
        /// As given.
        text: String,
        /// What is wrong.
        reason: String,
    },
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Everything random follows from it.
    pub seed: u64,
    /// Passes over the data.
    pub epochs: usize,
    /// Pictures a step.
    pub batch_size: usize,
    /// Pictures an epoch; by default as many as the data have.
    pub epoch_samples: Option<usize>,
    /// Epochs between evaluations; the last one is always evaluated.
    #[serde(default = "one")]
    pub eval_interval: usize,
    /// Epochs between checkpoints that are kept as `epoch_N`; absent: none are kept.
    #[serde(default)]
    pub save_interval: Option<usize>,
    /// Steps between checkpoints within an epoch, for epochs that take hours; there is always one at
    /// an epoch's end.
    #[serde(default)]
    pub checkpoint_interval: Option<u64>,
    /// Ends training after so many evaluations without a better one.
    #[serde(default)]
    pub early_stopping: Option<usize>,
    /// Batches whose gradients are averaged before a step: a larger batch than the memory holds. The
    /// losses see each batch alone.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Computes dense convolutions of training steps in these 16-bit floats, on a device that has them:
    /// faster and smaller where its matrix units do. Absent: all in 32 bits. Evaluations always are.
    #[serde(default)]
    pub mixed_precision: Option<HalfFloat>,
    /// Steps between log lines.
    #[serde(default = "ten")]
    pub log_interval: usize,
    /// Said in the exported file: source and licence of the data.
    #[serde(default)]
    pub notes: String,
    /// Said where the data are not there: what to download and where to put it.
    #[serde(default)]
    pub data: String,
    /// Learning rate.
    pub schedule: Schedule,
    /// Rule of the steps.
    pub optimizer: OptimizerConfig,
    /// What decays, and what learns faster, slower or not at all.
    #[serde(default)]
    pub parameters: ParameterRules,
    /// Averages the weights over the steps; evaluated and exported is then the average.
    #[serde(default)]
    pub ema: Option<EmaConfig>,
    /// Which network is exported.
    #[serde(default)]
    pub export: Export,
    /// From a picture to the network's input.
    pub preprocess: Preprocess,
    /// Set to train an extractor.
    pub extractor: Option<ExtractorTask>,
    /// Set to train a detector.
    pub detector: Option<DetectorTask>,
}

/// Which network of a run is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// The one with the best evaluation. Its figure flatters where the evaluation's pictures are
    /// also those that the result is reported on.
    #[default]
    Best,
    /// The last one, whatever the evaluations said.
    Last,
}

fn whole() -> f64 {
    1.0
}

fn one() -> usize {
    1
}

fn ten() -> usize {
    10
}

/// What an extractor is trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractorTask {
    /// The network.
    pub model: ExtractorConfig,
    /// Weights to begin with: all of the network's, or the backbone's alone. Absent: random ones.
    #[serde(default)]
    pub pretrained: Option<PathBuf>,
    /// A network to learn from, beside the labels or instead of them.
    #[serde(default)]
    pub teacher: Option<TeacherConfig>,
    /// The head.
    pub head: HeadConfig,
    /// Share of the classes that the head is asked about a batch: the batch's own and random others
    /// (Partial FC). 1 is exact; over a hundred thousand classes 0.1 loses little. Not with
    /// `dshsd`, which compares classes and logits.
    #[serde(default = "whole")]
    pub head_share: f64,
    /// The losses, summed.
    pub losses: Vec<LossTerm>,
    /// List file or folder to learn from.
    pub train: PathBuf,
    /// List file or folder of queries for the evaluation. Absent, or the pictures of `train`: some of these
    /// are held out.
    pub query: Option<PathBuf>,
    /// List file or folder that is searched; by default the queries, each without itself, or what is learnt
    /// from where queries are held out.
    pub gallery: Option<PathBuf>,
    /// Share of the pictures of every class that is held out of training as queries, at least one, where
    /// there is no other `query`. 0: none.
    #[serde(default = "fifth")]
    pub hold_out: f64,
    /// Which pictures make a batch.
    #[serde(default)]
    pub sampler: SamplerConfig,
    /// Changes in order, on the decoded picture, its transparency on white.
    #[serde(default)]
    pub operators: Vec<Operator>,
    /// Random changes in one pass, after the operators.
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// A network whose embeddings another one learns to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// Its model file, as `magpie train`, `export` and `import` write it.
    pub weights: PathBuf,
    /// Side of the pictures that it sees; by default that of its own input. They are what the
    /// network in training sees, resampled.
    #[serde(default)]
    pub side: Option<u32>,
}

/// What a detector is trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorTask {
    /// The network.
    pub model: DetectorConfig,
    /// Weights to begin with: all of the network's, or the backbone's alone. Absent: random ones.
    #[serde(default)]
    pub pretrained: Option<PathBuf>,
    /// List file or folder of cut-outs with transparency, composed into scenes.
    pub cutouts: Option<PathBuf>,
    /// How scenes are composed.
    #[serde(default)]
    pub scenes: SceneOptions,
    /// Epochs in which a newer PicoDet is assigned by overlaps alone; a third of all by default, 100
    /// of 300 in the reference.
    #[serde(default)]
    pub atss_epochs: Option<usize>,
    /// COCO file of boxes drawn by hand.
    pub coco: Option<PathBuf>,
    /// Folder of its pictures. Absent: looked for beside the file, in `images` and in folders named like the
    /// file, here and one level up.
    #[serde(default)]
    pub coco_images: Option<PathBuf>,
    /// Random changes of the pictures of `coco`.
    #[serde(default)]
    pub augmentation: BoxedAugmentation,
    /// Sides of the network's input, one of which is drawn a batch (`BatchRandomResize`; 576 to 704
    /// in steps of 32 in the mainbody recipe); empty: always that of `preprocess`.
    #[serde(default)]
    pub sizes: Vec<u32>,
    /// List file or folder of cut-outs for the evaluation's scenes.
    pub eval_cutouts: Option<PathBuf>,
    /// COCO file for the evaluation.
    pub eval_coco: Option<PathBuf>,
    /// Folder of its pictures, found as that of `coco_images` where absent.
    #[serde(default)]
    pub eval_coco_images: Option<PathBuf>,
    /// Scenes of an evaluation.
    #[serde(default = "hundred")]
    pub eval_scenes: usize,
}

fn fifth() -> f64 {
    0.2
}

fn hundred() -> usize {
    100
}

impl Recipe {
    /// Reads a recipe and applies overrides. Where there is no such file and the path is a bare name, it is the recipe
    /// that the program brings along by this name. Paths of data are relative to the working directory.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], naming the file and the key.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let invalid = |reason: String| RecipeError::Invalid { path: path.to_owned(), reason };
        let bytes = match shipped_at(path) {
            Some(shipped) => shipped?.text.into(),
            None => files::read(path, RECIPE_LIMIT)?,
        };
        let text = String::from_utf8(bytes)
            .map_err(|error| invalid(format!("not UTF-8 text: {error}")))?;
        let text = text.trim_start_matches(files::MARK);
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| invalid(error.to_string()))?;
        for text in overrides {
            apply_override(&mut table, text)?;
        }
        // Without overrides the text itself is parsed, so that an error shows its line.
        let wrong = |error: toml::de::Error| invalid(with_nearest(&error.to_string()));
        let recipe: Self = if overrides.is_empty() {
            toml::from_str(text).map_err(wrong)?
        } else {
            table.try_into().map_err(wrong)?
        };
        if recipe.extractor.is_some() == recipe.detector.is_some() {
            return Err(invalid("needs either [extractor] or [detector]".to_owned()));
        }
        let out_of_range = |source| RecipeError::Range { path: path.to_owned(), source };
        recipe.check_ranges().map_err(out_of_range)?;
        if let Some(task) = &recipe.extractor
            && task.head_share < 1.0
            && task.losses.iter().any(|term| matches!(term.loss, LossKind::Dshsd(_)))
        {
            return Err(invalid("dshsd needs all classes: take extractor.head_share away".into()));
        }
        if let Some(task) = &recipe.extractor {
            let is_compared = task.losses.iter().any(|term| term.loss.has_teacher());
            if is_compared != task.teacher.is_some() {
                let text = match task.teacher {
                    Some(_) => {
                        "no loss looks at extractor.teacher; add one of the kinds \
                         \"teacher_cosine\" and \"teacher_relations\""
                    }
                    None => {
                        "a loss looks at a teacher; name one: extractor.teacher = { weights = \
                         \"model.safetensors\" }"
                    }
                };
                return Err(invalid(text.to_owned()));
            }
        }
        if recipe.extractor.as_ref().is_some_and(|task| task.losses.is_empty()) {
            let text = "[[extractor.losses]] is empty; add one with kind = \"cross_entropy\"";
            return Err(invalid(text.to_owned()));
        }
        Ok(recipe)
    }
}

/// The recipe of the program that a path means; `None` where it means a file.
fn shipped_at(path: &Path) -> Option<Result<Shipped, RecipeError>> {
    let there = path.metadata();
    // A folder of pictures is often called as the recipe is.
    let is_folder = there.as_ref().is_ok_and(std::fs::Metadata::is_dir);
    let is_absent = there.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let name = path.to_str().filter(|name| !name.contains(['/', '\\']))?;
    let found = Shipped::find(name);
    let is_meant = is_absent || (is_folder && found.is_some());
    if !is_meant {
        return None;
    }
    Some(found.ok_or_else(|| {
        let names = SHIPPED.iter().map(|recipe| recipe.name);
        let near = names.min_by_key(|near| strsim::damerau_levenshtein(name, near));
        let near = near.filter(|near| is_slip(name, near));
        let near = near.map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        RecipeError::Unknown { path: path.to_owned(), near }
    }))
}

/// Names the one that was probably meant behind a message that lists what is allowed.
fn with_nearest(message: &str) -> String {
    let quoted = |text: &str| -> Vec<String> {
        text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let Some(line) = message.lines().find(|line| line.starts_with("unknown ")) else {
        return message.to_owned();
    };
    let names = quoted(line);
    let Some((given, allowed)) = names.split_first() else { return message.to_owned() };
    // A key in a table that the recipe itself has.
    let is_of_recipe = |message: String| {
        quoted(&message).split_first().is_some_and(|(_, all)| all.contains(given))
    };
    if !allowed.contains(given)
        && toml::from_str::<Recipe>("\"\" = 1").is_err_and(|error| is_of_recipe(error.to_string()))
    {
        return format!("{}\ndid you mean `{given}`, outside of any table?", message.trim_end());
    }
    let distance = |name: &&String| strsim::damerau_levenshtein(given, name);
    match allowed.iter().min_by_key(distance) {
        Some(nearest) if is_slip(given, nearest) => {
            format!("{}\ndid you mean `{nearest}`?", message.trim_end())
        }
        _ => message.to_owned(),
    }
}

fn apply_override(table: &mut toml::Table, text: &str) -> Result<(), RecipeError> {
    let wrong =
        |reason: &str| RecipeError::Override { text: text.to_owned(), reason: reason.to_owned() };
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
    let (key, value) = (key.trim(), value.trim());
    // A bare word is a string, so that paths need no quotes.
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts = key.split('.').peekable();
    let mut table = table;
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(wrong("has an empty key"));
        }
        if parts.peek().is_none() {
            table.insert(part.to_owned(), value);
            return Ok(());
        }
        table = table
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| wrong("goes into a value that is no table"))?;
    }
    Err(wrong("has no key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, overrides: &[&str]) -> Result<toml::Table, RecipeError> {
        let mut table: toml::Table = text.parse().unwrap();
        for text in overrides {
            apply_override(&mut table, text)?;
        }
        Ok(table)
    }

    #[test]
    fn overrides_take_numbers_words_and_spaces() {
        let text = "[a]\nb = 1\n";
        let table = table(text, &["a.b = 2.5", "a.c=some/path.txt", "d=[1, 2]"]).unwrap();
        let expected = "d = [1, 2]\n[a]\nb = 2.5\nc = \"some/path.txt\"\n";
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn overrides_say_what_is_wrong() {
        for text in ["a", "=1", "a..b=1", "a.b.c=1"] {
            let error = table("[a]\nb = 1\n", &[text]).unwrap_err();
            assert!(matches!(error, RecipeError::Override { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn every_shipped_recipe_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            Recipe::read(&entry.unwrap().path(), &[]).unwrap();
            count += 1;
        }
        assert_eq!(count, 19, "recipes in the folder");
    }

    #[test]
    fn recipes_of_the_program_are_found_by_name() {
        for name in ["photos", "photos.toml"] {
            let recipe = Recipe::read(Path::new(name), &["epochs=3".to_owned()]).unwrap();
            assert_eq!(recipe.epochs, 3);
        }
        let unknown = |name: &str| Recipe::read(Path::new(name), &[]).unwrap_err();
        let error = unknown("fotos");
        assert!(matches!(&error, RecipeError::Unknown { near, .. } if near.contains("photos?")));
        assert!(error.to_string().contains("--list-recipes"), "{error}");
        let error = unknown("nothing-alike");
        assert!(matches!(&error, RecipeError::Unknown { near, .. } if near.is_empty()), "{error}");
        // A path into a folder is a file.
        assert!(matches!(unknown("none/photos.toml"), RecipeError::Read(_)));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(unknown(&dir.path().display().to_string()), RecipeError::Read(_)));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        std::fs::write(&path, "seed = 1\nepochz = 3\n").unwrap();
        let error = Recipe::read(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("epochz") && error.contains("line 2"), "{error}");
        assert!(error.contains("did you mean `epochs`?"), "{error}");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/photos.toml");
        for (change, meant) in [
            ("epoch = 3", "did you mean `epochs`?"),
            ("schedule.learning_rat=1", "did you mean `learning_rate`?"),
            ("optimizer.kind=momentom", "did you mean `momentum`?"),
            ("zzzzzzzzzz=1", "unknown field"),
            ("epochs=many", "invalid type"),
        ] {
            let error = Recipe::read(&shipped, &[change.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(meant), "{change}: {error}");
        }
    }
}
