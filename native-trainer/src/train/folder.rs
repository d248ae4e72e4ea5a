//! The folder of a run: one command at a time, and nothing in it is lost unasked.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{BEST, LAST, LATEST, Resume};
use crate::checkpoint::{self, CheckpointError};
use crate::files::{self, FileError, Lock, Operation};
use crate::recipe::{RUN_RECIPE, Recipe};
use crate::terminal::reason;

/// The deployed network.
pub const MODEL: &str = "model.safetensors";
/// The log that a person reads.
pub(super) const LOG: &str = "train.log";
/// The scalars.
pub const METRICS: &str = "metrics.jsonl";
/// The page.
pub const REPORT: &str = "report.html";
/// What the names of `TensorBoard`'s files begin and end with.
pub(super) const EVENTS: [&str; 2] = ["events.out.tfevents.", ".magpie"];
/// What the lock in a run's folder is called after. It lies inside: only the folder needs to be writable.
const LOCKED: &str = "run";
/// What the names of kept checkpoints begin with.
pub(super) const KEPT: &str = "epoch_";

/// Why a folder cannot be trained into.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is a run already.
    #[error(
        "{}: holds a run already ({found}): go on with it by --resume, choose another folder, or replace it \
         by --overwrite",
        path.display()
    )]
    Holds {
        /// The folder.
        path: PathBuf,
        /// What of a run is there.
        found: String,
    },
    /// The folder is one of pictures.
    #[error(
        "{}: is {}, whose pictures the recipe takes, or lies in it; choose another --out",
        path.display(),
        data.display()
    )]
    InData {
        /// The folder.
        path: PathBuf,
        /// The folder of pictures.
        data: PathBuf,
    },
    /// What the recipe reads has the place of something that the run writes.
    #[error(
        "{}: is read by this run, which would replace it; choose another --out",
        path.display()
    )]
    IsInput {
        /// What is read.
        path: PathBuf,
    },
    /// Another command trains there.
    #[error(
        "{}: another command works on the run in this folder; wait for it, or choose another folder",
        path.display()
    )]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A run is asked for that is not there.
    #[error(
        "{}: there is no run (no {RUN_RECIPE}); give {}", path.display(), files::wanted::RUN
    )]
    NoRun {
        /// The folder, or what was taken for one.
        path: PathBuf,
    },
    /// Somebody else's file is where it would go with the run.
    #[error("{}: is no file of a run; move it elsewhere before the run is replaced", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be locked or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A checkpoint cannot be put back or taken away.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The system refused.
    #[error("{}: {}", path.display(), reason(source))]
    System {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is to happen to a run that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is gone on with, or there is none.
    Keep,
    /// It is replaced.
    Replace,
}

/// A run's folder that this command alone changes, until it is dropped. Where it was made for a run that then was refused,
/// it goes again.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Folders that were not there before, the innermost first.
    made: Vec<PathBuf>,
    lock: Option<Lock>,
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // It lies in the folder.
        self.lock = None;
        for folder in &self.made {
            // The system takes away no folder that holds something.
            if files::reach(Operation::Remove).and_then(|()| std::fs::remove_dir(folder)).is_err() {
                break;
            }
        }
    }
}

impl RunFolder {
    /// Whether a run may begin in a folder or go on there, before anything is read for it. `config` is the
    /// recipe's file, which may lie in the folder.
    ///
    /// # Errors
    ///
    /// [`FolderError::Holds`], and [`FolderError::File`] where no folder can be.
    pub fn check(
        path: &Path,
        config: &Path,
        resume: &Resume,
        before: Before,
    ) -> Result<(), FolderError> {
        files::is_folder(path)?;
        let goes_on = match resume {
            Resume::No => false,
            Resume::Latest => true,
            // A checkpoint of another run does not make this folder's run go on.
            Resume::From(checkpoint) => files::is_same(files::folder_of(checkpoint), path),
        };
        if goes_on || before == Before::Replace {
            return Ok(());
        }
        let mut found = found(path);
        if let [only] = &found[..]
            && only == RUN_RECIPE
            && files::is_same(&path.join(only), config)
        {
            return Ok(());
        }
        found.sort();
        if found.is_empty() {
            return Ok(());
        }
        Err(FolderError::Holds { path: path.to_owned(), found: found.join(", ") })
    }

    /// Whether a run leaves alone what it reads: it lies in none of the folders `data` of pictures, and none of
    /// `inputs`, these folders included, has the place of something that it writes.
    ///
    /// # Errors
    ///
    /// [`FolderError::InData`], [`FolderError::IsInput`]
    pub fn check_inputs(path: &Path, data: &[&Path], inputs: &[&Path]) -> Result<(), FolderError> {
        if let Some(data) = data.iter().find(|data| files::within(path, data).is_some()) {
            return Err(FolderError::InData { path: path.to_owned(), data: data.to_path_buf() });
        }
        let is_written = |input: &&&Path| {
            files::within(input, path).is_some_and(|rest| match rest.iter().next() {
                Some(name) => {
                    let name = name.to_string_lossy();
                    is_file(&name) || is_checkpoint(&name)
                }
                None => true,
            })
        };
        match data.iter().chain(inputs).find(is_written) {
            Some(input) => Err(FolderError::IsInput { path: input.to_path_buf() }),
            None => Ok(()),
        }
    }

    /// Takes a folder, which is made, for this command alone; what a killed one has left half is put right.
    ///
    /// # Errors
    ///
    /// [`FolderError`]
    pub fn take(
        path: &Path,
        config: &Path,
        resume: &Resume,
        before: Before,
    ) -> Result<Self, FolderError> {
        let ancestors = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
        let made = ancestors.take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        let lock = Lock::try_acquire(&path.join(LOCKED))?;
        let lock = lock.ok_or_else(|| FolderError::Busy { path: path.to_owned() })?;
        let taken = Self { path: path.to_owned(), made, lock: Some(lock) };
        // Another command may have begun a run since.
        Self::check(path, config, resume, before)?;
        if before == Before::Replace {
            remove(path, config)?;
        }
        for name in [BEST, LAST, LATEST] {
            checkpoint::restore(&path.join(name))?;
        }
        Ok(taken)
    }

    /// Keeps others from changing a run while it is read; a folder without one is left alone.
    ///
    /// # Errors
    ///
    /// [`FolderError::Busy`], [`FolderError::File`]
    pub fn hold(path: &Path) -> Result<Option<Lock>, FolderError> {
        if !path.is_dir() {
            return Ok(None);
        }
        let lock = Lock::try_acquire(&path.join(LOCKED))?;
        let lock = lock.ok_or_else(|| FolderError::Busy { path: path.to_owned() })?;
        Ok(Some(lock))
    }

    /// Checks that a run is in a folder.
    ///
    /// # Errors
    ///
    /// [`FolderError::NoRun`]
    pub fn find(path: &Path) -> Result<(), FolderError> {
        if path.join(RUN_RECIPE).is_file() {
            return Ok(());
        }
        Err(FolderError::NoRun { path: path.to_owned() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a file or checkpoint.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the recipe, unless the file says the same already: its comments stay.
    ///
    /// # Errors
    ///
    /// A disk that refuses.
    pub fn write_recipe(&self, recipe: &Recipe) -> anyhow::Result<()> {
        let path = self.join(RUN_RECIPE);
        if path.exists() && Recipe::read(&path, &[]).is_ok_and(|there| there == *recipe) {
            return Ok(());
        }
        Ok(files::write(&path, toml::to_string_pretty(recipe)?.as_bytes())?)
    }
}

/// Names in a folder that a run writes.
fn found(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| is_file(name) || is_checkpoint(name)).collect()
}

fn is_file(name: &str) -> bool {
    let [beginning, end] = EVENTS;
    [RUN_RECIPE, LOG, METRICS, MODEL, REPORT].contains(&name)
        || (name.starts_with(beginning) && name.ends_with(end))
}

fn is_checkpoint(name: &str) -> bool {
    let name = name.strip_suffix(".previous").or(name.strip_suffix(".tmp")).unwrap_or(name);
    let is_kept =
        |epoch: &str| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit());
    [BEST, LAST, LATEST].contains(&name) || name.strip_prefix(KEPT).is_some_and(is_kept)
}

/// Takes away what a run wrote, checkpoints to go on from first: a kill in between leaves nothing that could
/// be gone on with by mistake. Files of others stay, and the recipe that is being trained.
fn remove(folder: &Path, config: &Path) -> Result<(), FolderError> {
    let mut names = found(folder);
    let mut checkpoints = names.iter().filter(|name| is_checkpoint(name));
    if let Some(path) = checkpoints.find_map(|name| checkpoint::foreign(&folder.join(name))) {
        return Err(FolderError::Foreign { path });
    }
    names.sort_by_key(|name| (!name.starts_with(LATEST), !is_checkpoint(name), name.clone()));
    for name in names {
        let path = folder.join(&name);
        if is_checkpoint(&name) {
            checkpoint::discard(&path)?;
        } else if !files::is_same(&path, config) {
            let removed =
                files::reach(Operation::Remove).and_then(|()| std::fs::remove_file(&path));
            removed.map_err(|source| FolderError::System { path, source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: Before = Before::Keep;

    #[test]
    fn a_folder_with_a_run_is_refused_by_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let config = dir.path().join("r.toml");
        let check = |resume: &Resume, before| RunFolder::check(&run, &config, resume, before);
        check(&Resume::No, NO).unwrap();
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("notes.txt"), b"mine").unwrap();
        check(&Resume::No, NO).unwrap();
        for name in ["latest", "best_model.previous", "epoch_12"] {
            std::fs::create_dir(run.join(name)).unwrap();
            let error = check(&Resume::No, NO).unwrap_err().to_string();
            assert!(error.contains(&format!("holds a run already ({name})")), "{error}");
            assert!(error.contains("--resume") && error.contains("--overwrite"), "{error}");
            check(&Resume::Latest, NO).unwrap();
            check(&Resume::From(run.join("latest")), NO).unwrap();
            let elsewhere = Resume::From(dir.path().join("other/latest"));
            assert!(matches!(check(&elsewhere, NO), Err(FolderError::Holds { .. })));
            check(&Resume::No, Before::Replace).unwrap();
            std::fs::remove_dir(run.join(name)).unwrap();
        }
        for name in ["recipe.toml", "model.safetensors", "events.out.tfevents.12.magpie"] {
            std::fs::write(run.join(name), b"x").unwrap();
            let error = check(&Resume::No, NO).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            std::fs::remove_file(run.join(name)).unwrap();
        }
        // A recipe that somebody has put there to train by is no run.
        std::fs::write(run.join("recipe.toml"), b"x").unwrap();
        RunFolder::check(&run, &run.join("../run/recipe.toml"), &Resume::No, NO).unwrap();
    }

    #[test]
    fn a_run_leaves_what_it_reads_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("photos/cats")).unwrap();
        let photos = at("photos");
        let none: [&Path; 0] = [];
        let check =
            |run: &str, inputs: &[&Path]| RunFolder::check_inputs(&at(run), &[&photos], inputs);
        for run in ["photos", "photos/", "photos/cats", "photos/cats/new/run", "x/../photos"] {
            std::fs::create_dir_all(at("x")).unwrap();
            let refused = check(run, &none).unwrap_err();
            assert!(
                matches!(&refused, FolderError::InData { data, .. } if *data == photos),
                "{run}"
            );
        }
        // A folder beside or above the pictures' is as good as any other.
        for run in ["", "run", "photos-2", "x"] {
            check(run, &none).unwrap();
        }
        let before = at("run/latest/model.safetensors");
        let refused = check("run", &[&before]).unwrap_err();
        assert!(matches!(&refused, FolderError::IsInput { path } if *path == before));
        assert!(matches!(check("run", &[&at("run")]), Err(FolderError::IsInput { .. })));
        check("run", &[&at("run/weights/lite0.safetensors"), &at("other/latest")]).unwrap();
        let inside = RunFolder::check_inputs(&at("run"), &[&at("run/best_model")], &none);
        assert!(matches!(inside, Err(FolderError::IsInput { .. })));
    }

    #[test]
    fn a_folder_that_was_made_for_nothing_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let take = |run: &Path| RunFolder::take(run, Path::new("x"), &Resume::No, NO).unwrap();
        let run = dir.path().join("runs/mine");
        drop(take(&run));
        assert!(!dir.path().join("runs").exists());
        // What somebody else made, and what holds something, stays.
        std::fs::create_dir(dir.path().join("runs")).unwrap();
        drop(take(&run));
        assert!(dir.path().join("runs").is_dir() && !run.exists());
        let taken = take(&run);
        std::fs::write(taken.join("train.log"), b"x").unwrap();
        drop(taken);
        assert!(run.join("train.log").is_file());
    }

    #[test]
    fn what_others_have_in_the_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path();
        for name in ["latest", "latest.previous", "best_model", "epoch_3", "epoch_best"] {
            std::fs::create_dir(run.join(name)).unwrap();
            std::fs::write(run.join(name).join("model.safetensors"), b"x").unwrap();
        }
        for name in ["recipe.toml", "train.log", "report.html", "photos.txt", "mine.toml"] {
            std::fs::write(run.join(name), b"x").unwrap();
        }
        let config = run.join("mine.toml");
        let notes = run.join("best_model/notes.txt");
        std::fs::write(&notes, b"mine").unwrap();
        let refused = RunFolder::take(run, &config, &Resume::No, Before::Replace);
        assert!(matches!(refused, Err(FolderError::Foreign { path }) if path == notes));
        assert!(run.join("latest").is_dir());
        std::fs::remove_file(notes).unwrap();
        let taken = RunFolder::take(run, &config, &Resume::No, Before::Replace).unwrap();
        assert!(matches!(RunFolder::hold(run), Err(FolderError::Busy { .. })));
        let again = RunFolder::take(run, &config, &Resume::Latest, NO);
        assert!(matches!(again, Err(FolderError::Busy { .. })));
        drop(taken);
        drop(RunFolder::hold(run).unwrap().unwrap());
        assert!(RunFolder::hold(&run.join("nowhere")).unwrap().is_none());
        let mut left: Vec<_> =
            std::fs::read_dir(run).unwrap().flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["epoch_best", "mine.toml", "photos.txt"]);
    }
}
