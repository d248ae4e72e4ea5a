//! Recipes: one TOML file holds everything that a training run depends on.

mod file;
mod pictures;
mod ranges;
mod shipped;
mod task;
mod words;

use std::path::{Path, PathBuf};

use file::RecipeFile;
use models::limits::LimitError;
use models::operators::mixed::HalfFloat;
use models::preprocess::Preprocess;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ema::EmaConfig;
use crate::files::{self, FileError};
use crate::optimizer::{OptimizerConfig, ParameterRules};
use crate::schedule::Schedule;
use authoring::label::is_slip;

pub use pictures::{CutOuts, Pictures};
pub use shipped::{SHIPPED, Shipped};
pub use task::{DetectorTask, ExtractorTask, Members, Task, TeacherConfig};

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
        /// The name that was probably meant, as a sentence says it; else empty.
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
    /// There is no task, or there are two.
    #[error("recipe {}: {reason}", path.display())]
    Task {
        /// The recipe.
        path: PathBuf,
        /// Which of the two, and what to change.
        reason: &'static str,
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
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "RecipeFile")]
pub struct Recipe {
    /// Everything random follows from it.
    pub seed: u64,
    /// Passes over the data.
    pub epochs: usize,
    /// Images a step.
    pub batch_size: usize,
    /// Images an epoch; by default as many as the data have.
    pub epoch_samples: Option<usize>,
    /// Epochs between evaluations, 1 by default; the last one is always evaluated.
    pub eval_interval: usize,
    /// Epochs between checkpoints that are kept as `epoch_N`; absent: none are kept.
    pub save_interval: Option<usize>,
    /// Steps between checkpoints within an epoch, for epochs that take hours; there is always one at
    /// an epoch's end.
    pub checkpoint_interval: Option<u64>,
    /// Evaluations without a better one after which training ends; absent: it goes through all epochs.
    pub early_stopping: Option<usize>,
    /// Batches whose gradients are averaged before a step: a larger batch than the memory holds. The
    /// losses see each batch alone. 1 by default.
    pub accumulate: usize,
    /// Computes dense convolutions of training steps in these 16-bit floats, on a device that has them:
    /// faster and smaller if its matrix units do. Absent: all in 32 bits. Evaluations always are.
    pub mixed_precision: Option<HalfFloat>,
    /// Steps between log lines; 10 by default.
    pub log_interval: usize,
    /// Said in the exported file: source and license of the data.
    pub notes: String,
    /// Said where the data are not there: what to download and where to put it.
    pub data: String,
    /// Learning rate.
    pub schedule: Schedule,
    /// Rule of the steps.
    pub optimizer: OptimizerConfig,
    /// What decays, and what learns faster, slower or not at all.
    pub parameters: ParameterRules,
    /// Averages the weights over the steps; evaluated and exported is then the average.
    pub ema: Option<EmaConfig>,
    /// Which network is exported.
    pub export: Export,
    /// From an image to the network's input.
    pub preprocess: Preprocess,
    /// What is trained, and on what.
    pub task: Task,
}

/// Which network of a run is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// The one with the best evaluation. Its figure flatters if the evaluation's images are
    /// also those that the result is reported on.
    #[default]
    Best,
    /// The last one, whatever the evaluations said.
    Last,
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
            None => files::read(path, RECIPE_LIMIT)
                .map_err(|error| error.wanted(files::wanted::RECIPE))?,
        };
        if let Some(kind) = files::kind_of_bytes(&bytes) {
            return Err(invalid(format!(
                "this is {kind}, and no text; give {}",
                files::wanted::RECIPE
            )));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| invalid(format!("not UTF-8 text; save it as UTF-8: {error}")))?;
        let text = text.trim_start_matches(files::MARK);
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| invalid(error.to_string()))?;
        for text in overrides {
            apply_override(&mut table, text)?;
        }
        // Without overrides the text itself is parsed, so that an error shows its line.
        let file: RecipeFile = if overrides.is_empty() {
            toml::from_str(text)
                .map_err(|error: toml::de::Error| invalid(words::in_file(&error.to_string())))?
        } else {
            let given = text.parse().unwrap_or_default();
            table.try_into().map_err(|error: toml::de::Error| {
                invalid(words::in_override(&error.to_string(), &given))
            })?
        };
        let recipe = file
            .into_recipe()
            .map_err(|reason| RecipeError::Task { path: path.to_owned(), reason })?;
        let out_of_range = |source| RecipeError::Range { path: path.to_owned(), source };
        recipe.check_ranges().map_err(out_of_range)?;
        if let Task::Extractor(task) = &recipe.task {
            task.check_losses().map_err(|text| invalid(text.to_owned()))?;
        }
        Ok(recipe)
    }
}

/// The recipe of the program that a path means; `None` where it means a file.
fn shipped_at(path: &Path) -> Option<Result<Shipped, RecipeError>> {
    let there = path.metadata();
    // A folder of images is often called as the recipe is.
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

/// Keys with another spelling that recipes may have, and the spelling of today.
const SPELLINGS: [(&str, &str); 1] = [("colour", "color")]; // An old name.

/// Takes the key's other spelling out of a table, which would be the same key twice.
fn remove_spellings(table: &mut toml::Table, key: &str) {
    for (old, new) in SPELLINGS {
        if key == old || key == new {
            table.remove(old);
            table.remove(new);
        }
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
            remove_spellings(table, part);
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
        for (given, told) in [
            ("a", "has no `=`"),
            ("=1", "has an empty key"),
            ("a..b=1", "has an empty key"),
            ("a.b.c=1", "goes into a value that is no table"),
        ] {
            let error = table("[a]\nb = 1\n", &[given]).unwrap_err();
            let RecipeError::Override { text, reason } = error else { panic!("{given}: {error}") };
            assert_eq!((text.as_str(), reason.as_str()), (given, told));
        }
    }

    #[test]
    fn every_shipped_recipe_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let recipe = Recipe::read(&entry.unwrap().path(), &[]).unwrap();
            // What a run's folder keeps is the same recipe.
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(RUN_RECIPE);
            std::fs::write(&path, toml::to_string_pretty(&recipe).unwrap()).unwrap();
            assert_eq!(Recipe::read(&path, &[]).unwrap(), recipe);
            count += 1;
        }
        assert_eq!(count, SHIPPED.len());
    }

    #[test]
    fn british_keys_are_understood_in_files_and_overrides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        let text = Shipped::find("emoji-extractor").unwrap().text;
        assert!(text.contains("\ncolor = "));
        std::fs::write(&path, text.replace("\ncolor = ", "\ncolour = ")).unwrap();
        let color = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            match Recipe::read(&path, &changes).unwrap().task {
                Task::Extractor(task) => task.augmentation.color,
                Task::Detector(_) => panic!("trains an extractor"),
            }
        };
        assert_eq!(color(&[]), 0.25);
        assert_eq!(color(&["extractor.augmentation.color=0.5"]), 0.5);
        assert_eq!(color(&["extractor.augmentation.colour=0.75"]), 0.75); // An old name.
    }

    #[test]
    fn a_recipe_has_one_task() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Recipe::read(&path, &[])
        };
        let text = |name: &str| Shipped::find(name).unwrap().text;
        let (extractor, detector) = (text("emoji-extractor"), text("emoji-detector"));
        assert!(matches!(read(extractor).unwrap().task, Task::Extractor(_)));
        assert!(matches!(read(detector).unwrap().task, Task::Detector(_)));
        let (run, task) = extractor.split_once("[extractor]").unwrap();
        let both = format!("{detector}\n[extractor]{task}");
        for (text, end) in [
            (run, "r.toml: has no task; add the table [extractor] or the table [detector]"),
            (
                &both,
                "r.toml: has both tasks, and a run trains one network; take [extractor] or [detector] out",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, RecipeError::Task { .. }), "{error}");
            assert!(error.to_string().ends_with(end), "{error}");
        }
    }

    #[test]
    fn an_error_inside_a_task_names_its_line_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        let text = Shipped::find("emoji-extractor").unwrap().text;
        let line =
            text.lines().position(|line| line.starts_with("[extractor.augmentation]")).unwrap();
        let wrong =
            text.replace("[extractor.augmentation]", "[extractor.augmentation]\nrotaton = 3");
        std::fs::write(&path, wrong).unwrap();
        let error = Recipe::read(&path, &[]).unwrap_err().to_string();
        for part in [format!("line {}", line + 2).as_str(), "rotaton", "did you mean `rotation`?"] {
            assert!(error.contains(part), "{error}\nsays nothing of {part}");
        }
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
            ("epochs=many", "takes an integer"),
        ] {
            let error = Recipe::read(&shipped, &[change.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(meant), "{change}: {error}");
        }
    }
}
