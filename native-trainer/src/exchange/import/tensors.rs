//! Tensors of a checkpoint under the names that it gives them: safetensors, and PyTorch's files, of which nothing is
//! run.

use std::collections::BTreeMap;
use std::path::Path;

use models::weights::NamedTensor;
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::ImportError;
use crate::files;
use crate::files::wanted::CHECKPOINT;

/// Tensors by their names.
pub(super) type Tensors = BTreeMap<String, NamedTensor>;

/// Bytes of a header of safetensors at most, as its own library has it.
const MOST_HEADER: u64 = 100_000_000;

/// How a float is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    F64,
    F32,
    F16,
    Bf16,
}

impl Stored {
    fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => {
                let (values, _) = bytes.as_chunks::<8>();
                values.iter().map(|value| f64::from_le_bytes(*value) as f32).collect()
            }
            Self::F32 => {
                let (values, _) = bytes.as_chunks::<4>();
                values.iter().map(|value| f32::from_le_bytes(*value)).collect()
            }
            Self::F16 => {
                let (values, _) = bytes.as_chunks::<2>();
                values.iter().map(|value| from_half(u16::from_le_bytes(*value))).collect()
            }
            Self::Bf16 => {
                let (values, _) = bytes.as_chunks::<2>();
                let wide = |value: &[u8; 2]| u32::from(u16::from_le_bytes(*value)) << 16;
                values.iter().map(|value| f32::from_bits(wide(value))).collect()
            }
        }
    }
}

/// A 16-bit float of 5 bits of exponent.
fn from_half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// All floats of a safetensors file or of a PyTorch checkpoint, as its bytes say which it is. Integers are counters of
/// training and are left out.
pub(super) fn read(path: &Path) -> Result<Tensors, ImportError> {
    files::length(path, files::MODEL_LIMIT).map_err(|error| error.wanted(CHECKPOINT))?;
    if is_safetensors(path) { read_safetensors(path) } else { read_pytorch(path, |_| true) }
}

/// Whether a file begins with the length of a header of JSON, and the header. A file that is cut is one as well.
fn is_safetensors(path: &Path) -> bool {
    use std::io::Read;

    let mut start = [0; 9];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    let [header @ .., first] = start;
    read.is_ok() && u64::from_le_bytes(header) <= MOST_HEADER && first == b'{'
}

fn read_safetensors(path: &Path) -> Result<Tensors, ImportError> {
    let bytes = files::read(path, files::MODEL_LIMIT).map_err(|error| error.wanted(CHECKPOINT))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| ImportError::Safetensors {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        let stored = match view.dtype() {
            Dtype::F64 => Stored::F64,
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::Bf16,
            Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL => continue,
            other => {
                return Err(ImportError::Tensor {
                    path: path.to_owned(),
                    name: name.to_owned(),
                    reason: format!("holds {other:?}; give a file of floats of 16, 32 or 64 bits"),
                });
            }
        };
        let values = stored.values(view.data());
        tensors.insert(name.to_owned(), NamedTensor { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

/// The floats of a PyTorch checkpoint whose names are wanted.
pub(super) fn read_pytorch(
    path: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Tensors, ImportError> {
    // A tensor may name the same values again and again, beyond all memory.
    let length =
        files::length(path, files::MODEL_LIMIT).map_err(|error| error.wanted(CHECKPOINT))?;
    let mut left = (length as usize).saturating_mul(2);
    let reader = PytorchReader::new(path).map_err(|source| ImportError::PyTorch {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut tensors = Tensors::new();
    for name in reader.keys() {
        let Some(tensor) = reader.get(&name).filter(|_| is_wanted(&name)) else { continue };
        let unusable = |reason: String| ImportError::Tensor {
            path: path.to_owned(),
            name: name.clone(),
            reason,
        };
        let stored = match tensor.dtype() {
            DType::F64 => Stored::F64,
            DType::F32 => Stored::F32,
            DType::F16 => Stored::F16,
            DType::BF16 => Stored::Bf16,
            _ => continue,
        };
        left = left.checked_sub(tensor.byte_len()).ok_or_else(|| {
            unusable(
                "the same values are named again and again, beyond the size of the file".into(),
            )
        })?;
        let bytes = tensor.read().map_err(|error| unusable(error.to_string()))?;
        let (shape, values) = (tensor.shape().to_vec(), stored.values(&bytes));
        tensors.insert(name, NamedTensor { shape, values });
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_16_bits_are_those_of_their_formats() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65_504.0),
            (0x0001, 5.960_464_5e-8),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(from_half(bits), value, "{bits:x}");
        }
        assert!(from_half(0x7e00).is_nan());
        assert_eq!(Stored::Bf16.values(&[0x80, 0x3f, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(Stored::F64.values(&0.5_f64.to_le_bytes()), [0.5]);
    }
    #[test]
    fn a_cut_file_is_told_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let values = [0_u8; 64];
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![16], &values).unwrap();
        let whole = safetensors::serialize([("weight", view)], None).unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).unwrap()["weight"].shape, [16]);
        // In the header, and in the values.
        for length in [9, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let read = read(&path);
            assert!(matches!(read, Err(ImportError::Safetensors { .. })), "{length}: {read:?}");
        }
    }
}
