//! Pictures that cannot be used: each is named, the others are done, and the command fails at the end.

use std::fmt::Display;
use std::path::Path;

use anyhow::bail;
use serde_json::json;

use crate::terminal::counted;

/// Counts the pictures of a command.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pictures: usize,
    failed: usize,
    /// Whether the answer is one JSON object per picture.
    json: bool,
}

impl Failures {
    /// With `json`, a picture that fails is answered by an object with its `error`.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// Failures among this number of images.
    pub(crate) fn of(pictures: usize) -> Self {
        Self { pictures, ..Self::default() }
    }

    /// What there is of one more picture; where it cannot be used it is named.
    pub(crate) fn take<T, E: Display>(&mut self, path: &Path, result: Result<T, E>) -> Option<T> {
        self.pictures += 1;
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if self.json {
                    let picture = path.display().to_string();
                    println!("{}", json!({"picture": picture, "error": error.to_string()}));
                }
                self.add(&error);
                None
            }
        }
    }

    /// Names a picture that cannot be used.
    pub(crate) fn add(&mut self, error: &impl Display) {
        self.failed += 1;
        eprintln!("left out: {error}");
    }

    /// Number of pictures that could not be used.
    pub(crate) fn count(&self) -> usize {
        self.failed
    }

    /// The command's end.
    ///
    /// # Errors
    ///
    /// Where any picture could not be used.
    pub(crate) fn end(&self) -> anyhow::Result<()> {
        match (self.failed, self.pictures) {
            (0, _) => Ok(()),
            (failed, all) => {
                let all = counted(all, "picture", "pictures");
                bail!("{failed} of {all} could not be used; see above")
            }
        }
    }
}
