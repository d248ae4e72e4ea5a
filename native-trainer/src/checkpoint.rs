//! What a run needs to go on where it stopped.
//!
//! A checkpoint is a folder that is written beside its place and renamed, so that a run killed at
//! any moment leaves a whole one; the one before it is kept, for a disk that loses what it was
//! given. Every file's SHA-256 is written down.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use models::model_file::sha256_hex;
use models::weights::{Precision, Weights, WeightsError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ema::{Ema, EmaAge, EmaConfig};
use crate::loss_scale::LossScale;
use crate::optimizer::{Optimizer, OptimizerConfig};
use crate::schedule::Plateau;

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Tensors that do not fit the recipe.
    #[error("{}: {source}; was the recipe changed? start afresh without --resume", path.display())]
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

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs completed.
    pub epoch: usize,
    /// Batches of the next epoch that are done as well.
    #[serde(default)]
    pub position: usize,
    /// Sums of the loss's terms over those batches.
    #[serde(default)]
    pub totals: Vec<(String, f64)>,
    /// Optimiser steps taken.
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

/// What going on needs besides the network.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// The optimiser with its moments.
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
/// [`CheckpointError::File`]; the older checkpoint is then still there.
pub fn save(
    folder: &Path,
    module: &impl Module,
    state: Option<State>,
    progress: &Progress,
) -> Result<(), CheckpointError> {
    let temporary = folder.with_extension("tmp");
    let in_file = |path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::File { path, source }
    };
    remove(&temporary)?;
    std::fs::create_dir_all(&temporary).map_err(in_file(&temporary))?;
    let mut digests = BTreeMap::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = temporary.join(name);
        let write = || {
            let mut file = std::fs::File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(in_file(&path))
    };
    let mut tensors = |name: &str, weights: &Weights| {
        let path = temporary.join(name);
        let bytes = weights
            .to_bytes(Precision::F32, None)
            .map_err(|source| CheckpointError::Weights { path, source })?;
        digests.insert(name.to_owned(), sha256_hex(&bytes));
        write(name, &bytes)
    };
    tensors(MODEL, &Weights::from_module(module))?;
    let can_go_on = state.is_some();
    if let Some(State { optimizer, average, memory }) = state {
        tensors(OPTIMIZER, &optimizer.to_weights())?;
        tensors(MEMORY, memory)?;
        if let Some(average) = average {
            tensors(AVERAGE, average.state())?;
        }
    }
    let progress = Progress { digests, ..progress.clone() };
    let json = serde_json::to_vec_pretty(&progress).map_err(|error| CheckpointError::Progress {
        path: temporary.join(PROGRESS),
        reason: error.to_string(),
    })?;
    write(PROGRESS, &json)?;
    let previous = previous(folder);
    remove(&previous)?;
    if folder.exists() {
        std::fs::rename(folder, &previous).map_err(in_file(folder))?;
    }
    std::fs::rename(&temporary, folder).map_err(in_file(folder))?;
    if can_go_on { Ok(()) } else { remove(&previous) }
}

/// Where the checkpoint before this one is kept.
fn previous(folder: &Path) -> PathBuf {
    folder.with_extension("previous")
}

fn remove(folder: &Path) -> Result<(), CheckpointError> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CheckpointError::File { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
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
            Ok(()) => return Ok(Some(folder)),
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(None), Err)
}

fn verify(folder: &Path) -> Result<(), CheckpointError> {
    for (name, digest) in progress(folder)?.digests {
        let path = folder.join(&name);
        let bytes = std::fs::read(&path)
            .map_err(|source| CheckpointError::File { path: path.clone(), source })?;
        if sha256_hex(&bytes) != digest {
            let reason = "is damaged: it is not what was written".to_owned();
            return Err(CheckpointError::Progress { path, reason });
        }
    }
    Ok(())
}

/// Reads how far a run came.
///
/// # Errors
///
/// [`CheckpointError::Progress`] for a file that cannot be read.
pub fn progress(folder: &Path) -> Result<Progress, CheckpointError> {
    let path = folder.join(PROGRESS);
    let unreadable = |reason: String| CheckpointError::Progress { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

/// Puts a checkpoint's weights into a module.
///
/// # Errors
///
/// [`CheckpointError`], naming the file.
pub fn load_module<M: Module>(folder: &Path, module: M) -> Result<M, CheckpointError> {
    let path = folder.join(MODEL);
    read(&path)?.load_into(module).map_err(|source| CheckpointError::Weights { path, source })
}

/// Reads the optimiser's state.
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
    let bytes = std::fs::read(path)
        .map_err(|source| CheckpointError::File { path: path.to_owned(), source })?;
    Weights::from_bytes(&bytes)
        .map_err(|source| CheckpointError::Weights { path: path.to_owned(), source })
}
