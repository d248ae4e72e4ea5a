//! Errors as Python's kinds, with the sentences of the command.

use native_trainer::library::{Fault, sentence};
use pyo3::exceptions::{
    PyFileNotFoundError, PyOSError, PyPermissionError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;

/// An error as Python raises it.
pub(crate) fn raised(error: impl Into<anyhow::Error>) -> PyErr {
    let error = match error.into().downcast::<PyErr>() {
        // What a function of Python raised inside.
        Ok(error) => return error,
        Err(error) => error,
    };
    let text = in_python(&sentence(&error));
    match Fault::of(&error) {
        Fault::Missing => PyFileNotFoundError::new_err(text),
        Fault::Denied => PyPermissionError::new_err(text),
        Fault::File => PyOSError::new_err(text),
        Fault::Device => PyRuntimeError::new_err(text),
        Fault::Data => PyValueError::new_err(text),
    }
}

/// Arguments of this module that have another name than the flag.
const ARGUMENTS: [(&str, &str); 7] = [
    ("images", "photos"),
    ("config", "recipe"),
    ("override", "overrides"),
    ("sample", "samples"),
    ("gallery", "path"),
    ("score", "min_score"),
    ("best", "k"),
];

/// What does here what a command does.
const CALLS: [(&str, &str); 8] = [
    ("magpie gallery build", "Gallery.build"),
    ("magpie gallery add", "Gallery.add"),
    ("magpie gallery adapt", "Gallery.adapt"),
    ("magpie gallery calibrate", "Gallery.calibrate"),
    ("magpie gallery list", "Gallery.classes"),
    ("magpie site", "site"),
    ("magpie train --list-recipes", "Trainer.recipes()"),
    ("magpie train", "Trainer.train"),
];

/// A sentence of the command, for whoever calls functions: flags are told as arguments, and commands that have a
/// function here as that. Others stay as they are: `python -m magpie_recognizer` runs them.
pub(crate) fn in_python(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    for (number, part) in text.split('`').enumerate() {
        if number > 0 {
            told.push('`');
        }
        let call = CALLS.iter().find(|(command, _)| {
            part.strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        match call {
            Some((_, call)) if number % 2 == 1 => told.push_str(call),
            _ if part.starts_with("magpie ") && number % 2 == 1 => told.push_str(part),
            _ => told.push_str(&with_arguments(part)),
        }
    }
    told
}

/// A text in which flags are arguments.
fn with_arguments(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("--") {
        let (before, behind) = rest.split_at(at);
        told.push_str(before);
        let behind = &behind[2..];
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &behind[..behind.find(|c| !is_name(c)).unwrap_or(behind.len())];
        let name = name.trim_end_matches('-');
        let is_flag = name.starts_with(|c: char| c.is_ascii_lowercase())
            && !before.ends_with(|c: char| c.is_alphanumeric() || c == '-');
        if is_flag {
            let other = ARGUMENTS.iter().find(|(flag, _)| *flag == name);
            told.push_str(
                &other.map_or_else(|| name.replace('-', "_"), |(_, name)| (*name).to_owned()),
            );
            rest = &behind[name.len()..];
        } else {
            told.push_str("--");
            rest = behind;
        }
    }
    told + rest
}

/// Does work without Python's lock.
///
/// # Errors
///
/// What the work says, as Python raises it.
pub(crate) fn unlocked<T: Send>(
    py: Python<'_>,
    work: impl Send + FnOnce() -> anyhow::Result<T>,
) -> PyResult<T> {
    py.detach(work).map_err(raised)
}

/// Whether Ctrl-C was pressed since: to be asked between two parts of long work.
///
/// # Errors
///
/// What the handler of the signal raised.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method itself holds for one lifetime alone"
)]
pub(crate) fn check_signals() -> anyhow::Result<()> {
    Ok(Python::attach(|py| py.check_signals())?)
}
