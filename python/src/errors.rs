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
    let text = sentence(&error);
    match Fault::of(&error) {
        Fault::Missing => PyFileNotFoundError::new_err(text),
        Fault::Denied => PyPermissionError::new_err(text),
        Fault::File => PyOSError::new_err(text),
        Fault::Device => PyRuntimeError::new_err(text),
        Fault::Data => PyValueError::new_err(text),
    }
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
