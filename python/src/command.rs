//! The command: as itself, and inside this process before a function of Python.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use native_trainer::library;
use native_trainer::library::audience::{Audience, Heard};
use native_trainer::program;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::errors::{in_python, raised};

/// Hears a command and hands it on.
struct Listener {
    /// Called with what was heard, its text, steps that are done, and all; true where it has enough.
    hear: Py<PyAny>,
    has_enough: AtomicBool,
    raised: Mutex<Option<PyErr>>,
}

impl Listener {
    fn hear(&self, kind: &str, text: &str, done: u64, of: u64) -> Heard {
        let heard = Python::attach(|py| {
            py.check_signals()?;
            let enough = self.hear.call1(py, (kind, text, done, of))?;
            enough.is_truthy(py)
        });
        match heard {
            Ok(enough) => {
                self.has_enough.fetch_or(enough, Ordering::Relaxed);
                Heard::GoOn
            }
            Err(error) => self.stop(error),
        }
    }

    fn stop(&self, error: PyErr) -> Heard {
        // The first one is the reason.
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get_or_insert(error);
        Heard::Stop
    }
}

impl Audience for Listener {
    fn answer(&self, line: &str) -> Heard {
        self.hear("answer", line, 0, 0)
    }

    fn remark(&self, line: &str) -> Heard {
        self.hear("remark", &in_python(line), 0, 0)
    }

    fn progress(&self, what: &str, done: u64, of: u64) -> Heard {
        self.hear("progress", what, done, of)
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime")]
    fn still(&self) -> Heard {
        match Python::attach(|py| py.check_signals()) {
            Ok(()) => Heard::GoOn,
            Err(error) => self.stop(error),
        }
    }

    fn has_enough(&self) -> bool {
        self.has_enough.load(Ordering::Relaxed)
    }
}

/// Runs a command in this process. `hear` is called with what it says; what that raises stops the command.
#[pyfunction]
pub(crate) fn call(py: Python<'_>, words: Vec<OsString>, hear: Py<PyAny>) -> PyResult<()> {
    let (has_enough, raised_there) = (AtomicBool::new(false), Mutex::new(None));
    let listener = Arc::new(Listener { hear, has_enough, raised: raised_there });
    let called = py.detach(|| library::call(words, Arc::clone(&listener) as Arc<dyn Audience>));
    let reason = listener.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (called, reason) {
        (_, Some(error)) => Err(error),
        (Ok(said), None) => said.map_err(raised),
        (Err(_stopped), None) => Err(PyKeyboardInterrupt::new_err("stopped")),
    }
}

/// Is the command: prints what it says, hears signals, and returns its exit status.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, words: Vec<OsString>) -> u8 {
    let words = [OsString::from("magpie")].into_iter().chain(words);
    py.detach(|| program::run_words(None, words.collect::<Vec<_>>()))
}
