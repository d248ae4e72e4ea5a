//! Which pictures a recipe learns from and which it is measured on.

use std::path::{Path, PathBuf};

use super::ExtractorTask;
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
}

impl ExtractorTask {
    /// Reads the lists; what is held out follows from the recipe's `seed`.
    ///
    /// # Errors
    ///
    /// [`DataError`], naming the list and the line.
    pub fn pictures(&self, seed: u64) -> Result<Pictures, DataError> {
        let train = Samples::read(&self.train)?;
        let read = |path: &Option<PathBuf>| path.as_deref().map(Samples::read).transpose();
        let (query, gallery) = (read(&self.query)?, read(&self.gallery)?);
        let is_train = |path: &Option<PathBuf>, samples: &Option<Samples>| match (path, samples) {
            (Some(path), Some(samples)) => {
                is_one_place(&self.train, path) || is_same_data(&train, samples)
            }
            _ => false,
        };
        if self.query.is_some() && !is_train(&self.query, &query) {
            return Ok(with_other_queries(train, query, gallery));
        }
        let split =
            if self.hold_out > 0.0 { HeldOut::split(&train, self.hold_out, seed) } else { None };
        let Some(split) = split else {
            let mut notes = Vec::new();
            if query.is_some() {
                notes.push(
                    "the queries are learnt from: their figures say little about other pictures"
                        .to_owned(),
                );
            } else if self.hold_out > 0.0 {
                notes.push(
                    "no class has two different pictures: nothing is held out to measure on"
                        .to_owned(),
                );
            }
            let query = relabelled(query, gallery.as_ref());
            return Ok(Pictures { train, query, gallery, is_held_out: false, notes });
        };
        let notes = vec![split.sentence()];
        let gallery = if is_train(&self.gallery, &gallery) { None } else { gallery };
        let query = relabelled(Some(split.held), gallery.as_ref());
        let gallery = gallery.or_else(|| Some(split.train.clone()));
        Ok(Pictures { train: split.train, query, gallery, is_held_out: true, notes })
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
                "{shared} of {} {} learnt from: such figures say little about other pictures",
                counted(query.samples.len(), "query", "queries"),
                if shared == 1 { "is" } else { "are" }
            ));
        }
    }
    let query = relabelled(query, gallery.as_ref());
    Pictures { train, query, gallery, is_held_out: false, notes }
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
