//! Which images a recipe learns from and which it is measured on.

use std::path::{Path, PathBuf};

use super::{DetectorTask, ExtractorTask};
use crate::data::held_out::{HeldOut, is_same_data, shared_paths};
use crate::data::list_file::{DataError, Samples};
use crate::terminal::counted;

/// The pictures of an extractor's recipe.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// To learn from.
    pub train: Samples,
    /// Queries of the evaluation.
    pub query: Option<Samples>,
    /// What the queries are searched in; absent: among themselves.
    pub gallery: Option<Samples>,
    /// Whether the queries are held out of the training data.
    pub is_held_out: bool,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    /// What a person should know of the folders, a line each: see [`Samples::remarks`].
    pub remarks: Vec<String>,
}

/// The cut-outs of a detector's recipe.
#[derive(Debug, Clone)]
pub struct CutOuts {
    /// To learn from.
    pub train: Option<Samples>,
    /// Of the evaluation's scenes.
    pub eval: Option<Samples>,
    /// As [`Pictures::remarks`].
    pub remarks: Vec<String>,
}

/// Reads each list and folder once, however often the recipe names it.
#[derive(Default)]
struct Reader<'a> {
    read: Vec<(&'a Path, Samples)>,
    /// Of the folders: whoever wrote a list knows what is in it.
    remarks: Vec<String>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, path: &'a Path) -> Result<Samples, DataError> {
        if let Some((_, samples)) = self.read.iter().find(|(known, _)| is_one_place(known, path)) {
            return Ok(samples.clone());
        }
        let samples = Samples::read(path)?;
        if path.is_dir() {
            self.remarks.extend(samples.remarks());
        }
        self.read.push((path, samples.clone()));
        Ok(samples)
    }

    fn read_any(&mut self, path: Option<&'a PathBuf>) -> Result<Option<Samples>, DataError> {
        path.map(|path| self.read(path)).transpose()
    }
}

impl DetectorTask {
    /// Reads the lists of cut-outs.
    ///
    /// # Errors
    ///
    /// [`DataError`], naming the list and the line.
    pub fn cut_outs(&self) -> Result<CutOuts, DataError> {
        let mut reader = Reader::default();
        let (train, eval) =
            (reader.read_any(self.cutouts.as_ref())?, reader.read_any(self.eval_cutouts.as_ref())?);
        Ok(CutOuts { train, eval, remarks: reader.remarks })
    }
}

impl ExtractorTask {
    /// Reads the lists; what is held out follows from the recipe's `seed`.
    ///
    /// # Errors
    ///
    /// [`DataError`], naming the list and the line.
    pub fn pictures(&self, seed: u64) -> Result<Pictures, DataError> {
        let mut reader = Reader::default();
        let train = reader.read(&self.train)?;
        let (query, gallery) =
            (reader.read_any(self.query.as_ref())?, reader.read_any(self.gallery.as_ref())?);
        let remarks = reader.remarks;
        let is_train = |path: &Option<PathBuf>, samples: &Option<Samples>| match (path, samples) {
            (Some(path), Some(samples)) => {
                is_one_place(&self.train, path) || is_same_data(&train, samples)
            }
            _ => false,
        };
        if self.query.is_some() && !is_train(&self.query, &query) {
            return Ok(Pictures { remarks, ..with_other_queries(train, query, gallery) });
        }
        let split =
            if self.hold_out > 0.0 { HeldOut::split(&train, self.hold_out, seed) } else { None };
        let Some(split) = split else {
            let mut notes = Vec::new();
            if query.is_some() {
                notes.push(
                    "the queries are learned from: their figures say little about other pictures"
                        .to_owned(),
                );
            } else if self.hold_out > 0.0 {
                notes.push(
                    "no class has two different pictures: nothing is held out to measure on"
                        .to_owned(),
                );
            }
            let query = relabelled(query, gallery.as_ref());
            return Ok(Pictures { train, query, gallery, is_held_out: false, notes, remarks });
        };
        let notes = vec![split.sentence()];
        let gallery = if is_train(&self.gallery, &gallery) { None } else { gallery };
        let query = relabelled(Some(split.held), gallery.as_ref());
        let gallery = gallery.or_else(|| Some(split.train.clone()));
        Ok(Pictures { train: split.train, query, gallery, is_held_out: true, notes, remarks })
    }
}

fn with_other_queries(
    train: Samples,
    query: Option<Samples>,
    gallery: Option<Samples>,
) -> Pictures {
    let mut notes = Vec::new();
    if let Some(query) = &query {
        let shared = shared_paths(query, &train);
        if shared > 0 {
            notes.push(format!(
                "{shared} of {} {} learned from: such figures say little about other pictures",
                counted(query.samples.len(), "query", "queries"),
                if shared == 1 { "is" } else { "are" }
            ));
        }
    }
    let query = relabelled(query, gallery.as_ref());
    Pictures { train, query, gallery, is_held_out: false, notes, remarks: Vec::new() }
}

/// One numbering of classes for queries and gallery.
fn relabelled(query: Option<Samples>, gallery: Option<&Samples>) -> Option<Samples> {
    match (query, gallery) {
        (Some(query), Some(gallery)) => Some(query.relabel(&gallery.labels)),
        (query, _) => query,
    }
}

fn is_one_place(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    a == b || whole(a).is_some_and(|a| Some(a) == whole(b))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recipe::{Recipe, Task};

    #[test]
    fn a_folder_that_is_named_several_times_is_read_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("photos");
        for (class, file) in
            [("mug", "1.jpg"), ("mug", "2.jpg"), ("cup", "3.jpg"), ("cup", "a.txt")]
        {
            fs::create_dir_all(folder.join(class)).unwrap();
            fs::write(folder.join(class).join(file), file).unwrap();
        }
        let names = ["train", "query", "gallery"];
        let change = |name: &str| format!("extractor.{name}={}", folder.display());
        let recipe = Recipe::read(Path::new("photos"), &names.map(change)).unwrap();
        let Task::Extractor(task) = recipe.task else { panic!("trains an extractor") };
        let pictures = task.pictures(1).unwrap();
        assert_eq!(pictures.remarks.len(), 1, "{:?}", pictures.remarks);
        assert!(pictures.is_held_out);

        let mut reader = Reader::default();
        let first = reader.read(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(reader.read(&folder).unwrap(), first);
    }
}
