//! Tensors of a checkpoint under the names that it gives them: safetensors, and PyTorch's files, of which nothing is
//! run.

use std::collections::BTreeMap;
use std::path::Path;

use models::weights::NamedTensor;
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::{ImportError, mistaken};
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

/// All floats of a safetensors file or of a PyTorch checkpoint, as its bytes say which it is, and its name where they do
/// not. Integers are counters of training and are left out.
pub(super) fn read(path: &Path) -> Result<Tensors, ImportError> {
    files::length(path, files::MODEL_LIMIT).map_err(|error| error.wanted(CHECKPOINT))?;
    mistaken::check(path)?;
    if is_safetensors(path) { read_safetensors(path) } else { read_pytorch(path, |_| true) }
}

/// Whether a file begins with the length of a header of JSON, and the header. A file that is cut is one as well, and one
/// that is called so and begins like no checkpoint of PyTorch: an archive, a pickle.
fn is_safetensors(path: &Path) -> bool {
    use std::io::Read;

    let mut start = [0; 9];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    let [header @ .., first] = start;
    if read.is_ok() && u64::from_le_bytes(header) <= MOST_HEADER && first == b'{' {
        return true;
    }
    let is_pytorch = start.starts_with(b"PK") || start[0] == 0x80;
    path.extension().is_some_and(|ending| ending == "safetensors") && !is_pytorch
}

fn read_safetensors(path: &Path) -> Result<Tensors, ImportError> {
    let bytes = files::read(path, files::MODEL_LIMIT).map_err(|error| error.wanted(CHECKPOINT))?;
    mistaken::check_own(path, &bytes)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| ImportError::Safetensors {
        path: path.to_owned(),
        reason: reason(&bytes, &error),
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

/// Why bytes are no safetensors file.
fn reason(bytes: &[u8], error: &SafeTensorError) -> String {
    let Some((length, header)) = bytes.split_first_chunk::<8>() else {
        return format!(
            "is cut off: it has {} bytes, and the length of its header takes 8",
            bytes.len()
        );
    };
    let (length, there) = (u64::from_le_bytes(*length), header.len() as u64);
    match error {
        _ if length > MOST_HEADER => format!(
            "is no safetensors file: its header would have {length} bytes, and {MOST_HEADER} are the most"
        ),
        _ if length > there => {
            format!("is cut off: its header has {length} bytes, and {there} are there")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "is cut off or too long: its header tells of other tensors than \
             there are bytes for"
                .to_owned()
        }
        error => format!("its header cannot be used: {error}"),
    }
}

/// The floats of a PyTorch checkpoint whose names are wanted.
pub(super) fn read_pytorch(
    path: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Tensors, ImportError> {
    // A tensor may name the same values again and again, beyond all memory.
    let length =
        files::length(path, files::MODEL_LIMIT).map_err(|error| error.wanted(CHECKPOINT))?;
    mistaken::check(path)?;
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
    use burn::tensor::Device;
    use models::backbone::{BackboneConfig, PpLcNetConfig};
    use models::extractor::ExtractorConfig;
    use models::model_file::Architecture;
    use models::preprocess::Preprocess;
    use models::weights::{Precision, Weights};

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
    fn a_file_that_is_called_safetensors_is_told_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let huge = [&(1_u64 << 40).to_le_bytes()[..], b"{}"].concat();
        let long = [&64_u64.to_le_bytes()[..], b"{}"].concat();
        let broken = [&2_u64.to_le_bytes()[..], b"{,"].concat();
        for (bytes, told) in [
            (&b""[..], "is empty; fetch the file again"),
            (b"<html>not found</html>", "is a text"),
            (b"\x01\x02\x03", "it has 3 bytes, and the length of its header takes 8"),
            (&huge, "its header would have 1099511627776 bytes, and 100000000 are the most"),
            (&long, "is cut off: its header has 64 bytes, and 2 are there"),
            (&broken, "its header cannot be used"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("PyTorch"), "{error}");
        }
        // What is called so and is a checkpoint of PyTorch is read as one.
        std::fs::write(&path, b"PK\x03\x04 and so on").unwrap();
        assert!(matches!(read(&path), Err(ImportError::PyTorch { .. })));
    }

    #[test]
    fn a_model_file_of_this_project_needs_no_taking_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let device = Device::flex();
        let config = ExtractorConfig {
            backbone: BackboneConfig::PpLcNet(PpLcNetConfig {
                scale: 0.25,
                class_expand: None,
                dropout: 0.0,
                fused: false,
            }),
            neck: None,
        };
        let network = Weights::from_module(&config.init(&device));
        let trained = Architecture::Extractor(config).load(network, &device).unwrap();
        let model = trained.deploy(Preprocess::square(32), String::new());
        for precision in [Precision::F16, Precision::I8] {
            std::fs::write(&path, model.to_bytes(precision).unwrap()).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, ImportError::Own { .. }), "{error}");
        }
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
