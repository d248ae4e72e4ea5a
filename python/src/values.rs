//! Numbers that stay where they were computed: NumPy looks at them by their address.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// 32-bit floats with a shape, row-major. NumPy takes it as an array without a copy: `numpy.asarray(values)`, which
/// keeps it alive and does not write to it.
#[pyclass(frozen, module = "magpie_recognizer._native")]
pub(crate) struct Values {
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl Values {
    /// Of rows of this many values.
    pub(crate) fn rows(values: Vec<f32>, width: usize) -> Self {
        let shape = vec![values.len() / width.max(1), width];
        Self { values, shape }
    }

    /// One row.
    pub(crate) fn row(values: Vec<f32>) -> Self {
        let shape = vec![values.len()];
        Self { values, shape }
    }
}

#[pymethods]
impl Values {
    /// Where the numbers are, for NumPy.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let described = PyDict::new(py);
        described.set_item("version", 3)?;
        described.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        described.set_item("typestr", if cfg!(target_endian = "big") { ">f4" } else { "<f4" })?;
        // Nobody writes there: several arrays may look at the same numbers.
        described.set_item("data", (self.values.as_ptr().expose_provenance(), true))?;
        Ok(described)
    }

    /// Lengths of the axes.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    fn __len__(&self) -> usize {
        self.shape.first().copied().unwrap_or_default()
    }

    /// All numbers, row after row.
    fn tolist(&self) -> Vec<f32> {
        self.values.clone()
    }
}

/// Floats of an array's bytes, rows of `width`.
///
/// # Errors
///
/// Bytes that make no whole rows.
pub(crate) fn floats(bytes: &[u8], width: usize) -> PyResult<Vec<f32>> {
    if width == 0 || !bytes.len().is_multiple_of(4 * width) {
        let length = bytes.len();
        return Err(PyValueError::new_err(format!(
            "{length} bytes are no rows of {width} 32-bit floats"
        )));
    }
    let floats = bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    Ok(floats.collect())
}
