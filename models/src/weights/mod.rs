//! Named tensors between a module and a safetensors file.
//!
//! Names are the paths of the module's fields (`backbone.stem.conv.weight`), so a file says what
//! it holds. Files are read strictly: every tensor of the module must be there with its shape, and
//! nothing else.

#[cfg(feature = "tensors")]
mod module;
mod stored;

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensorError;
use safetensors::tensor::TensorView;
use thiserror::Error;

#[cfg(feature = "tensors")]
pub use module::ParameterPath;
pub use stored::Precision;
use stored::Stored;

#[cfg(not(feature = "tensors"))]
use crate::values::Module;

/// Why weights could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The bytes are no safetensors file.
    #[error("not a readable safetensors file: {reason}; fetch or export it again")]
    Format {
        /// What the reader found.
        reason: String,
    },
    /// A tensor has a type that weights never have.
    #[error(
        "tensor {name} holds {dtype}; only F32, F16 and I8 with scales are read; save it as one of these"
    )]
    Type {
        /// Name in the file.
        name: String,
        /// Type in the file, as safetensors calls it: `I64`, `BF16`.
        dtype: String,
    },
    /// A tensor of integers without the scales that give them a size, or with low bits that are not
    /// its own.
    #[error(
        "tensor {name} holds I8, but its scales or low bits are missing or do not fit its shape; fetch or export the \
         file again"
    )]
    Scales {
        /// Name in the file.
        name: String,
    },
    /// A value that is no finite number.
    #[error(
        "tensor {name} holds {value}: these weights are damaged, or come from training that diverged; \
         take an earlier checkpoint, or train with a lower learning rate"
    )]
    NotFinite {
        /// Name in the file.
        name: String,
        /// The first such value.
        value: f32,
    },
    /// A value that the wanted type has no number for.
    #[error(
        "tensor {name} holds {value}, which is beyond the numbers of this precision; take 32-bit floats \
         (--precision f32)"
    )]
    Overflow {
        /// Name in the file.
        name: String,
        /// The first such value.
        value: f32,
    },
    /// The module needs a tensor that is not there.
    #[error("tensor {name} is missing; the file belongs to another architecture")]
    Missing {
        /// Path in the module.
        name: String,
    },
    /// A tensor has another shape than the module's.
    #[error("tensor {name} has shape {got:?}, expected {expected:?}; the architectures differ")]
    Shape {
        /// Path in the module.
        name: String,
        /// Shape in the module.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// The file holds a tensor that the module does not have.
    #[error("tensor {name} is not part of the model; the file belongs to another architecture")]
    Unused {
        /// Name in the file.
        name: String,
    },
}

impl WeightsError {
    /// Bytes that safetensors does not read, or values that it does not write.
    pub(crate) fn unreadable(error: SafeTensorError) -> Self {
        Self::Format { reason: error.to_string() }
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Extent of every dimension.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Tensors by name.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use models::weights::{NamedTensor, Precision, Weights};
///
/// let tensor = NamedTensor { shape: vec![2, 1], values: vec![1.0, -0.25] };
/// let weights = Weights { tensors: BTreeMap::from([("neck.weight".to_owned(), tensor)]) };
/// let bytes = weights.to_bytes(Precision::F16, None)?;
/// assert_eq!(Weights::from_bytes(&bytes)?, weights);
/// assert_eq!(weights.under("neck").tensors["weight"].values, [1.0, -0.25]);
/// # Ok::<(), models::weights::WeightsError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    /// By path, in the order of the names.
    pub tensors: BTreeMap<String, NamedTensor>,
}

impl Weights {
    /// Puts the tensors into a module of the same architecture.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Missing`], [`WeightsError::Shape`] or [`WeightsError::Unused`], naming the
    /// tensor.
    #[cfg(not(feature = "tensors"))]
    pub fn load_into<M: Module>(mut self, mut module: M) -> Result<M, WeightsError> {
        let mut error = None;
        module.each("", &mut |name, place| {
            if error.is_none() {
                match self.take(name, place.shape) {
                    Ok(values) => place.put(values),
                    Err(reason) => error = Some(reason),
                }
            }
        });
        error.map_or_else(|| self.finish(), Err)?;
        Ok(module)
    }

    /// The values of a tensor that a module has, which are looked for once.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Err(WeightsError::Missing { name: name.to_owned() });
        };
        if tensor.shape != shape {
            let (name, expected) = (name.to_owned(), shape.to_vec());
            return Err(WeightsError::Shape { name, expected, got: tensor.shape });
        }
        Ok(tensor.values)
    }

    /// Whether the module had every tensor.
    fn finish(self) -> Result<(), WeightsError> {
        match self.tensors.into_keys().next() {
            Some(name) => Err(WeightsError::Unused { name }),
            None => Ok(()),
        }
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Format`] for damaged bytes, [`WeightsError::Type`] for other value types,
    /// [`WeightsError::Scales`] for integers of no known size, [`WeightsError::NotFinite`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        Self::from_vec(bytes.to_vec())
    }

    /// [`Self::from_bytes`] of bytes that go while they are read, so that they and the values take
    /// little more memory than the larger of the two.
    ///
    /// # Errors
    ///
    /// As [`Self::from_bytes`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, WeightsError> {
        Ok(Self { tensors: stored::read_all(bytes, true)? })
    }

    /// [`Self::from_bytes`] of gradients, which may be beyond all numbers.
    ///
    /// # Errors
    ///
    /// As [`Self::from_bytes`], but for [`WeightsError::NotFinite`].
    pub fn gradients_from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        Ok(Self { tensors: stored::read_all(bytes.to_vec(), false)? })
    }

    /// Whether all values are finite numbers.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NotFinite`], naming the first tensor that holds others.
    pub fn check(&self) -> Result<(), WeightsError> {
        self.tensors.iter().try_for_each(|(name, tensor)| stored::check(name, &tensor.values))
    }

    /// Writes a safetensors file; the same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Format`] where a shape does not fit its values, [`WeightsError::Overflow`] where
    /// the precision has no number for a value.
    pub fn to_bytes(
        &self,
        precision: Precision,
        metadata: Option<HashMap<String, String>>,
    ) -> Result<Vec<u8>, WeightsError> {
        let mut parts: Vec<Stored> = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            parts.extend(stored::parts(name, tensor, precision)?);
        }
        let mut views = Vec::with_capacity(parts.len());
        for Stored { name, dtype, shape, bytes } in &parts {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            views.push((name.as_str(), view.map_err(WeightsError::unreadable)?));
        }
        safetensors::serialize(views, metadata).map_err(WeightsError::unreadable)
    }

    /// Moves all tensors under `prefix.`.
    #[must_use]
    pub fn prefixed(self, prefix: &str) -> Self {
        let rename = |(name, tensor)| (format!("{prefix}.{name}"), tensor);
        Self { tensors: self.tensors.into_iter().map(rename).collect() }
    }

    /// The tensors under `prefix.`, without it.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        let prefix = format!("{prefix}.");
        let strip = |(name, tensor): (&String, &NamedTensor)| {
            Some((name.strip_prefix(&prefix)?.to_owned(), tensor.clone()))
        };
        Self { tensors: self.tensors.iter().filter_map(strip).collect() }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::backbone::{PpLcNetV2, PpLcNetV2Config};
    use burn::tensor::Device;

    /// A small network of fresh weights.
    pub(super) fn network() -> PpLcNetV2 {
        let config = PpLcNetV2Config {
            scale: 0.25,
            depths: [1, 1, 1, 1],
            class_expand: 16,
            shitu: true,
            dropout: 0.0,
            fused: false,
        };
        config.init(&Device::flex())
    }

    #[test]
    fn a_module_survives_the_round_trip() {
        let weights = Weights::from_module(&network());
        let bytes = weights.to_bytes(Precision::F32, None).unwrap();
        let read = Weights::from_bytes(&bytes).unwrap();
        assert_eq!(read, weights);
        let loaded = read.load_into(network()).unwrap();
        assert_eq!(Weights::from_module(&loaded), weights);
        assert!(weights.tensors.contains_key("stem.bn.running_mean"));
    }

    #[test]
    fn names_the_tensor_that_does_not_fit() {
        let weights = Weights::from_module(&network());
        let name = "last_conv.weight".to_owned();

        let mut missing = weights.clone();
        missing.tensors.remove(&name);
        let error = missing.load_into(network()).unwrap_err();
        assert!(matches!(error, WeightsError::Missing { name: n } if n == name));

        let mut shape = weights.clone();
        shape.tensors.get_mut(&name).unwrap().shape.reverse();
        let error = shape.load_into(network()).unwrap_err();
        assert!(matches!(error, WeightsError::Shape { name: n, .. } if n == name));

        let mut extra = weights.clone();
        let tensor = extra.tensors[&name].clone();
        extra.tensors.insert("zebra".to_owned(), tensor);
        let error = extra.load_into(network()).unwrap_err();
        assert!(matches!(error, WeightsError::Unused { name } if name == "zebra"));
    }

    #[test]
    fn values_that_are_no_numbers_are_named_when_read_and_when_made_smaller() {
        let whole = Weights::from_module(&network());
        let name = "last_conv.weight";
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
            let mut weights = whole.clone();
            weights.tensors.get_mut(name).unwrap().values[7] = value;
            let is_told = |error: WeightsError| {
                let told = matches!(&error, WeightsError::NotFinite { name: n, .. } if n == name);
                assert!(told, "{value}: {error}");
            };
            is_told(weights.check().unwrap_err());
            for precision in [Precision::F16, Precision::I10, Precision::I8] {
                is_told(weights.to_bytes(precision, None).unwrap_err());
            }
            let bytes = weights.to_bytes(Precision::F32, None).unwrap();
            is_told(Weights::from_bytes(&bytes).unwrap_err());
            let kept = Weights::gradients_from_bytes(&bytes).unwrap();
            assert_eq!(kept.tensors[name].values[7].to_bits(), value.to_bits());
        }
        whole.check().unwrap();
    }

    #[test]
    fn values_beyond_a_precision_are_named() {
        let whole = Weights::from_module(&network());
        let name = "last_conv.weight";
        for (precision, fits, beyond) in [
            (Precision::F16, 65_519.0, 65_521.0),
            (Precision::F16, -65_504.0, -1e9),
            (Precision::I8, 1e38, f32::MAX),
            (Precision::F32, f32::MAX, f32::INFINITY),
        ] {
            let with = |value: f32| {
                let mut weights = whole.clone();
                weights.tensors.get_mut(name).unwrap().values[3] = value;
                weights.to_bytes(precision, None)
            };
            let bytes = with(fits).unwrap();
            Weights::from_bytes(&bytes).unwrap();
            match with(beyond) {
                Err(WeightsError::Overflow { name: n, .. }) => assert_eq!(n, name),
                // What is left after rounding is a number.
                Ok(bytes) if precision == Precision::I8 => {
                    Weights::from_bytes(&bytes).unwrap();
                }
                Ok(_) => assert_eq!(precision, Precision::F32),
                Err(error) => panic!("{precision:?}: {error}"),
            }
        }
    }

    #[test]
    fn a_type_that_weights_never_have_is_named() {
        let view = TensorView::new(safetensors::Dtype::I64, vec![1], &[0; 8]).unwrap();
        let bytes = safetensors::serialize([("steps", view)], None).unwrap();
        let error = Weights::from_bytes(&bytes).unwrap_err();
        assert!(error.to_string().starts_with("tensor steps holds I64; only F32"), "{error}");
    }

    #[test]
    fn damaged_bytes_give_an_error() {
        let bytes = Weights::from_module(&network()).to_bytes(Precision::F16, None).unwrap();
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            let error = Weights::from_bytes(&bytes[..length]).unwrap_err();
            assert!(matches!(error, WeightsError::Format { .. }), "{length} bytes: {error}");
        }
    }
}
