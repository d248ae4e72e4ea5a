//! What a run needs to go on where it stopped.
//!
//! A checkpoint is a folder that is written beside its place and renamed, so that a run killed at
//! any moment leaves a whole one; the one before it is kept, for a disk that loses what it was
//! given. Every file's SHA-256 is written down and compared when it is read. What is not a finite
//! number is never written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::module::Module;
use burn::tensor::Device;
use models::model_file::sha256_hex;
use models::weights::{Precision, Weights, WeightsError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ema::{Ema, EmaAge, EmaConfig};
use crate::files::{self, FileError, Operation};
use crate::loss_scale::LossScale;
use crate::metric::verdict::Beginning;
use crate::optimizer::{Optimizer, OptimizerConfig};
use crate::schedule::Plateau;
use crate::terminal::reason;

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk refused.
    #[error("{}: {}", path.display(), reason(source))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was to be written holds values that are no finite numbers; nothing was written.
    #[error("{part}: {source}")]
    NotFinite {
        /// The file of a checkpoint.
        part: &'static str,
        /// Which tensor.
        source: WeightsError,
    },
    /// Tensors that do not fit the recipe, or cannot be read.
    #[error("{}: {source}{}", path.display(), advice(source))]
    Weights {
        /// The file.
        path: PathBuf,
        /// Which tensor.
        source: WeightsError,
    },
    /// A file is not what was written, or the progress cannot be read.
    #[error("{}: {reason}", path.display())]
    Progress {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What helps against weights that cannot be used.
fn advice(source: &WeightsError) -> &'static str {
    match source {
        WeightsError::Missing { .. } | WeightsError::Shape { .. } | WeightsError::Unused { .. } => {
            "; was the recipe changed? begin anew in another folder, or with --overwrite"
        }
        _ => "",
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Epochs completed.
    pub epoch: usize,
    /// Batches of the next epoch that are done as well.
    #[serde(default)]
    pub position: usize,
    /// Sums of the loss's terms over those batches.
    #[serde(default)]
    pub totals: Vec<(String, f64)>,
    /// Optimizer steps taken.
    pub step: u64,
    /// Best metric so far and its epoch.
    pub best: Option<(f64, usize)>,
    /// Names of the classes that the head tells apart; empty for a detector.
    #[serde(default)]
    pub labels: Vec<String>,
    /// State of a schedule that goes by the evaluation.
    #[serde(default)]
    pub plateau: Option<Plateau>,
    /// What the average of the weights has gone through, where there is one.
    #[serde(default)]
    pub average: Option<EmaAge>,
    /// Factor of the loss in a run whose convolutions are computed in `f16`.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// What decides which samples make which batch. A checkpoint within an epoch goes on in the same
    /// order only with the same. `plan` in files.
    #[serde(default, rename = "plan", skip_serializing_if = "BTreeMap::is_empty")]
    pub order: BTreeMap<String, String>,
    /// The newest evaluation: its epoch and its figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<(usize, f64)>,
    /// What the weights that training begins with reach on the pictures that are held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beginning: Option<Beginning>,
    /// SHA-256 of the checkpoint's other files.
    #[serde(default)]
    pub digests: BTreeMap<String, String>,
}

/// The network of a checkpoint.
pub const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const MEMORY: &str = "losses.safetensors";
const AVERAGE: &str = "average.safetensors";
const PROGRESS: &str = "progress.json";

/// What stands for the digest of the file that it is in.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Times that a checkpoint is read again which is being replaced, and how long to wait before.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// What going on needs besides the network.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// The optimizer with its moments.
    pub optimizer: &'a Optimizer,
    /// The average of the weights, where there is one.
    pub average: Option<&'a Ema>,
    /// What the losses remember.
    pub memory: &'a Weights,
}

/// Writes a checkpoint in place of an older one; without a `state` it can be used, not gone on
/// from. With one, the older is kept beside it.
///
/// # Errors
///
/// [`CheckpointError`]; the older checkpoint is then still there.
pub fn save(
    folder: &Path,
    module: &impl Module,
    state: Option<State>,
    progress: &Progress,
) -> Result<(), CheckpointError> {
    let temporary = temporary(folder);
    discard(&temporary)?;
    let written = fill(&temporary, module, state, progress);
    if written.is_err() {
        // Of no use to anybody; the first error is the one to tell.
        let _ = discard(&temporary);
    }
    written?;
    let previous = previous(folder);
    discard(&previous)?;
    if folder.exists() {
        rename(folder, &previous)?;
    }
    rename(&temporary, folder)?;
    if state.is_some() { Ok(()) } else { discard(&previous) }
}

/// Writes the files of a checkpoint.
fn fill(
    folder: &Path,
    module: &impl Module,
    state: Option<State>,
    progress: &Progress,
) -> Result<(), CheckpointError> {
    let mut digests = BTreeMap::new();
    let mut tensors = |name: &'static str, weights: &Weights| {
        weights.check().map_err(|source| CheckpointError::NotFinite { part: name, source })?;
        let path = folder.join(name);
        let bytes = weights
            .to_bytes(Precision::F32, None)
            .map_err(|source| CheckpointError::Weights { path: path.clone(), source })?;
        digests.insert(name.to_owned(), sha256_hex(&bytes));
        Ok::<_, CheckpointError>(files::write(&path, &bytes)?)
    };
    tensors(MODEL, &Weights::from_module(module))?;
    if let Some(State { optimizer, average, memory }) = state {
        tensors(OPTIMIZER, &optimizer.to_weights())?;
        tensors(MEMORY, memory)?;
        if let Some(average) = average {
            tensors(AVERAGE, average.state())?;
        }
    }
    digests.insert(PROGRESS.to_owned(), NO_DIGEST.to_owned());
    let progress = Progress { digests, ..progress.clone() };
    let path = folder.join(PROGRESS);
    let json = serde_json::to_string_pretty(&progress).map_err(|error| {
        CheckpointError::Progress { path: path.clone(), reason: error.to_string() }
    })?;
    let json = json.replacen(NO_DIGEST, &sha256_hex(json.as_bytes()), 1);
    Ok(files::write(&path, json.as_bytes())?)
}

/// A folder takes another's name; both outlive a power cut.
fn rename(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    let rename = || {
        files::reach(Operation::Rename)?;
        std::fs::rename(from, to)?;
        files::synchronize_folder(files::folder_of(to))
    };
    rename().map_err(|source| CheckpointError::Folder { path: to.to_owned(), source })
}

/// Puts back what a save that was killed between two names has left: the older checkpoint where there is
/// none of its name, nothing half.
///
/// # Errors
///
/// [`CheckpointError::Folder`]
pub fn restore(folder: &Path) -> Result<(), CheckpointError> {
    discard(&temporary(folder))?;
    let previous = previous(folder);
    if !folder.exists() && previous.exists() {
        rename(&previous, folder)?;
    }
    Ok(())
}

/// Where a checkpoint is written.
fn temporary(folder: &Path) -> PathBuf {
    folder.with_extension("tmp")
}

/// Where the checkpoint before this one is kept.
pub fn previous(folder: &Path) -> PathBuf {
    folder.with_extension("previous")
}

/// Takes a checkpoint away, or what is left of one.
///
/// # Errors
///
/// [`CheckpointError::Folder`]
pub fn discard(folder: &Path) -> Result<(), CheckpointError> {
    if !folder.exists() {
        return Ok(());
    }
    let removed = files::reach(Operation::Remove).and_then(|()| std::fs::remove_dir_all(folder));
    removed.map_err(|source| CheckpointError::Folder { path: folder.to_owned(), source })
}

/// A file in a checkpoint's folder that no checkpoint has.
pub fn foreign(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut foreign = entries.filter(|entry| !is_own(&entry.file_name().to_string_lossy()));
    foreign.next().map(|entry| entry.path())
}

/// Whether a checkpoint has a file of this name, or leaves one when it is killed.
fn is_own(name: &str) -> bool {
    [MODEL, OPTIMIZER, MEMORY, AVERAGE, PROGRESS].iter().any(|own| {
        let part = name.strip_prefix('.').and_then(|name| name.strip_prefix(own));
        name == *own || part.is_some_and(|behind| behind.starts_with('.'))
    })
}

/// The newest whole checkpoint: this one, or the one before it. `None` where there is neither.
///
/// # Errors
///
/// [`CheckpointError`] of the newest where none that is there is whole.
pub fn newest_whole(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let mut damage = None;
    for folder in [folder.to_owned(), previous(folder)] {
        if !folder.exists() {
            continue;
        }
        match verify(&folder) {
            Ok(_) => return Ok(Some(folder)),
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(None), Err)
}

/// Compares a checkpoint with what was written, and returns how far it came.
///
/// # Errors
///
/// [`CheckpointError`]; where the one before it is whole, it is named.
pub fn verify(folder: &Path) -> Result<Progress, CheckpointError> {
    let progress = progress(folder)?;
    for (name, digest) in progress.digests.iter().filter(|(name, _)| *name != PROGRESS) {
        let path = folder.join(name);
        if sha256_hex(&files::read(&path, files::MODEL_LIMIT)?) != *digest {
            return Err(damaged(folder, path));
        }
    }
    Ok(progress)
}

fn damaged(folder: &Path, path: PathBuf) -> CheckpointError {
    let before = previous(folder);
    // The one before has none before it.
    let is_whole = before != folder && before.exists() && verify(&before).is_ok();
    let advice = if is_whole {
        format!("; the one before it is whole: {}", before.display())
    } else {
        String::new()
    };
    let reason = format!("is damaged: it is not what was written{advice}");
    CheckpointError::Progress { path, reason }
}

/// The weights of a checkpoint that may be written anew meanwhile, and how far it came: both of one moment.
///
/// # Errors
///
/// [`CheckpointError`], where the file is not what was written, too.
pub fn load_weights(folder: &Path) -> Result<(Weights, Progress), CheckpointError> {
    for _ in 0..TRIES {
        if let Ok(read) = weights_at_once(folder) {
            return Ok(read);
        }
        // Another one may be coming in its place.
        std::thread::sleep(PAUSE);
    }
    weights_at_once(folder)
}

fn weights_at_once(folder: &Path) -> Result<(Weights, Progress), CheckpointError> {
    let progress = progress(folder)?;
    let path = folder.join(MODEL);
    let bytes = files::read(&path, files::MODEL_LIMIT)?;
    if progress.digests.get(MODEL).is_some_and(|digest| sha256_hex(&bytes) != *digest) {
        return Err(damaged(folder, path));
    }
    let weights =
        Weights::from_vec(bytes).map_err(|source| CheckpointError::Weights { path, source })?;
    Ok((weights, progress))
}

/// Whether a checkpoint has what going on needs besides the network.
pub fn can_go_on(folder: &Path) -> bool {
    folder.join(OPTIMIZER).is_file()
}

/// Reads how far a run came.
///
/// # Errors
///
/// [`CheckpointError::File`], [`CheckpointError::Progress`] for a file that says something else.
pub fn progress(folder: &Path) -> Result<Progress, CheckpointError> {
    let path = folder.join(PROGRESS);
    let unreadable = |reason: String| CheckpointError::Progress { path: path.clone(), reason };
    let bytes = files::read(&path, files::TEXT_LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    let progress: Progress =
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    if let Some(digest) = progress.digests.get(PROGRESS)
        && sha256_hex(text.replacen(digest.as_str(), NO_DIGEST, 1).as_bytes()) != *digest
    {
        return Err(damaged(folder, path));
    }
    Ok(progress)
}

/// Puts a checkpoint's weights into a module.
///
/// # Errors
///
/// [`CheckpointError`], naming the file.
pub fn load_module<M: Module>(folder: &Path, module: M) -> Result<M, CheckpointError> {
    let (weights, _) = load_weights(folder)?;
    let path = folder.join(MODEL);
    weights.load_into(module).map_err(|source| CheckpointError::Weights { path, source })
}

/// Reads the optimizer's state.
///
/// # Errors
///
/// [`CheckpointError`], naming the file.
pub fn load_optimizer(
    folder: &Path,
    config: OptimizerConfig,
    step: u64,
    device: &Device,
) -> Result<Optimizer, CheckpointError> {
    let weights = read(&folder.join(OPTIMIZER))?;
    Ok(Optimizer::resume(config, step, weights, device))
}

/// Reads the average of the weights.
///
/// # Errors
///
/// [`CheckpointError`], naming the file.
pub fn load_average(
    folder: &Path,
    config: &EmaConfig,
    age: EmaAge,
) -> Result<Ema, CheckpointError> {
    Ok(config.resume(age, read(&folder.join(AVERAGE))?))
}

/// Reads what the losses remember.
///
/// # Errors
///
/// [`CheckpointError`], naming the file.
pub fn load_memory(folder: &Path) -> Result<Weights, CheckpointError> {
    read(&folder.join(MEMORY))
}

fn read(path: &Path) -> Result<Weights, CheckpointError> {
    let bytes = files::read(path, files::MODEL_LIMIT)?;
    Weights::from_vec(bytes)
        .map_err(|source| CheckpointError::Weights { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::tensor::Tensor;
    use models::weights::NamedTensor;

    #[derive(Module, Debug)]
    struct Point {
        value: Param<Tensor<1>>,
    }

    fn point(value: f32) -> Point {
        Point { value: Param::from_tensor(Tensor::from_floats([value], &Device::flex())) }
    }

    fn save_at(folder: &Path, value: f32, epoch: usize) -> Result<(), CheckpointError> {
        let optimizer = Optimizer::new(OptimizerConfig::Sgd { weight_decay: 0.0 });
        let memory = Weights::default();
        let state = State { optimizer: &optimizer, average: None, memory: &memory };
        save(folder, &point(value), Some(state), &Progress { epoch, ..Progress::default() })
    }

    #[test]
    fn any_flipped_bit_is_refused_and_the_one_before_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let latest = dir.path().join("latest");
        for epoch in [1, 2] {
            save_at(&latest, 0.5, epoch).unwrap();
        }
        assert_eq!(verify(&latest).unwrap().epoch, 2);
        let names: Vec<_> = std::fs::read_dir(&latest).unwrap().flatten().collect();
        assert_eq!(names.len(), 4);
        for file in names {
            let whole = std::fs::read(file.path()).unwrap();
            for place in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[place] ^= 1;
                std::fs::write(file.path(), flipped).unwrap();
                let name = file.file_name().to_string_lossy().into_owned();
                assert!(verify(&latest).is_err(), "{name}, byte {place}");
                let found = newest_whole(&latest).unwrap();
                assert_eq!(found, Some(dir.path().join("latest.previous")), "{name}, byte {place}");
            }
            std::fs::write(file.path(), whole).unwrap();
        }
        let victim = latest.join(MODEL);
        std::fs::write(&victim, b"short").unwrap();
        for error in [verify(&latest).unwrap_err(), load_weights(&latest).unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains("model.safetensors: is damaged"), "{error}");
            assert!(error.contains("latest.previous"), "{error}");
        }
        let before = dir.path().join("latest.previous");
        std::fs::write(before.join(MODEL), b"short").unwrap();
        let error = verify(&before).unwrap_err().to_string();
        assert!(error.ends_with("it is not what was written"), "{error}");
    }

    #[test]
    fn what_is_no_number_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let latest = dir.path().join("latest");
        save_at(&latest, 0.5, 1).unwrap();
        let error = save_at(&latest, f32::NAN, 2).unwrap_err();
        assert!(matches!(error, CheckpointError::NotFinite { part: MODEL, .. }), "{error}");
        let memory = NamedTensor { shape: vec![1], values: vec![f32::INFINITY] };
        let memory = Weights { tensors: [("centers".to_owned(), memory)].into() };
        let optimizer = Optimizer::new(OptimizerConfig::Sgd { weight_decay: 0.0 });
        let state = State { optimizer: &optimizer, average: None, memory: &memory };
        let error = save(&latest, &point(1.0), Some(state), &Progress::default()).unwrap_err();
        assert!(matches!(error, CheckpointError::NotFinite { part: MEMORY, .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(verify(&latest).unwrap().epoch, 1);
        assert_eq!(load_weights(&latest).unwrap().0.tensors["value"].values, [0.5]);
    }

    #[test]
    fn a_folder_of_before_comes_back_and_foreign_files_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join("best_model");
        save(&best, &point(1.0), None, &Progress::default()).unwrap();
        std::fs::rename(&best, previous(&best)).unwrap();
        std::fs::create_dir(temporary(&best)).unwrap();
        restore(&best).unwrap();
        verify(&best).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(foreign(&best), None);
        std::fs::write(best.join("notes.txt"), b"mine").unwrap();
        assert_eq!(foreign(&best), Some(best.join("notes.txt")));
        discard(&best).unwrap();
        discard(&best).unwrap();
    }
}
