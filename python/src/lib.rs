//! The compiled part of the Python package `magpie_recognizer`: values and pictures in, values out.
//!
//! The package around it, in `magpie_recognizer/`, has what users see: names, types, defaults, files of Python. Here is
//! what has to be compiled, with plain arguments. Whatever takes time is done without Python's lock.

mod command;
mod errors;
mod gallery;
mod pictures;
mod recognizer;
mod values;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// As the program has it; see `native_trainer::allocator`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The built page, a zip file; empty where this was compiled without one.
static PAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.zip"));

/// Fills the module.
#[pymodule(gil_used = true)]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if !PAGE.is_empty() {
        native_trainer::page::bring(PAGE);
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("has_page", !PAGE.is_empty())?;
    module.add_class::<values::Values>()?;
    module.add_class::<recognizer::Recognizer>()?;
    module.add_class::<recognizer::Extractor>()?;
    module.add_class::<recognizer::Detector>()?;
    module.add_class::<gallery::Gallery>()?;
    module.add_function(wrap_pyfunction!(command::call, module)?)?;
    module.add_function(wrap_pyfunction!(command::run, module)?)
}
