//! Named tensors between a module and a safetensors file.
//!
//! Names are the paths of the module's fields (`backbone.stem.conv.weight`), so a file says what
//! it holds. Files are read strictly: every tensor of the module must be there with its shape, and
//! nothing else.

use std::collections::{BTreeMap, HashMap};

use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use thiserror::Error;

/// Why weights could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The bytes are no safetensors file.
    #[error("not a readable safetensors file: {0}; fetch or export it again")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor has a type that weights never have.
    #[error("tensor {name} holds {dtype:?}; only F32, F16 and I8 with scales are read")]
    Type {
        /// Name in the file.
        name: String,
        /// Type in the file.
        dtype: Dtype,
    },
    /// A tensor of whole numbers without the scales that give them a size.
    #[error("tensor {name} holds I8, but its scales are missing or do not fit its shape")]
    Scales {
        /// Name in the file.
        name: String,
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

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats: checkpoints.
    F32,
    /// 16-bit floats: bundles.
    F16,
    /// Whole numbers from −127 to 127 with one scale an output channel for matrices and kernels,
    /// 32-bit floats for the rest: a quarter of the download of [`Self::F32`]. They are floats again
    /// once they are read, so that only what is lost in rounding tells them apart.
    I8,
}

/// What the scales of a tensor of whole numbers are called behind its name.
const SCALES: &str = "#scales";

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Extent of every dimension.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Tensors by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    /// By path, in the order of the names.
    pub tensors: BTreeMap<String, NamedTensor>,
}

impl Weights {
    /// Every tensor of a module, read back from its device.
    pub fn from_module(module: &impl Module) -> Self {
        let mut visitor = Collector::default();
        // Running statistics of training steps are merged only on the way out of training.
        module.valid().visit(&mut visitor);
        Self { tensors: visitor.tensors }
    }

    /// Puts the tensors into a module of the same architecture, on the module's device.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Missing`], [`WeightsError::Shape`] or [`WeightsError::Unused`], naming the
    /// tensor.
    pub fn load_into<M: Module>(self, module: M) -> Result<M, WeightsError> {
        let mut loader = Loader { path: ParameterPath::default(), weights: self, error: None };
        let module = module.map(&mut loader);
        match (loader.error, loader.weights.tensors.into_keys().next()) {
            (Some(error), _) => Err(error),
            (None, Some(name)) => Err(WeightsError::Unused { name }),
            (None, None) => Ok(module),
        }
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Format`] for damaged bytes, [`WeightsError::Type`] for other value types,
    /// [`WeightsError::Scales`] for whole numbers of no known size.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        let file = SafeTensors::deserialize(bytes)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            if name.ends_with(SCALES) {
                continue;
            }
            let shape = view.shape().to_vec();
            let values = match view.dtype() {
                Dtype::I8 => {
                    let scales = file.tensor(&format!("{name}{SCALES}")).ok();
                    let scales = scales.as_ref().and_then(|scales| {
                        Some((floats(scales)?, channel_axis(&shape, scales.shape())?))
                    });
                    let (scales, axis) =
                        scales.ok_or_else(|| WeightsError::Scales { name: name.to_owned() })?;
                    let inner: usize = shape[axis + 1..].iter().product();
                    let number = |(i, byte): (usize, &u8)| {
                        f32::from(byte.cast_signed()) * scales[i / inner % shape[axis]]
                    };
                    view.data().iter().enumerate().map(number).collect()
                }
                dtype => floats(&view)
                    .ok_or_else(|| WeightsError::Type { name: name.to_owned(), dtype })?,
            };
            tensors.insert(name.to_owned(), NamedTensor { shape, values });
        }
        Ok(Self { tensors })
    }

    /// Writes a safetensors file; the same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Format`] where a shape does not fit its values.
    pub fn to_bytes(
        &self,
        precision: Precision,
        metadata: Option<HashMap<String, String>>,
    ) -> Result<Vec<u8>, WeightsError> {
        let mut stored = Vec::with_capacity(self.tensors.len());
        for (name, NamedTensor { shape, values }) in &self.tensors {
            if precision == Precision::I8
                && let Some(axis) = output_axis(shape)
                && values.len() == shape.iter().product::<usize>()
            {
                let (numbers, scales) = quantize(values, shape, axis);
                let mut scales_shape = vec![1; shape.len()];
                scales_shape[axis] = shape[axis];
                stored.push((name.clone(), Dtype::I8, shape.clone(), numbers));
                let scales = little_endian(&scales);
                stored.push((format!("{name}{SCALES}"), Dtype::F32, scales_shape, scales));
                continue;
            }
            let (dtype, bytes) = match precision {
                Precision::F32 | Precision::I8 => (Dtype::F32, little_endian(values)),
                Precision::F16 => {
                    let half = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
                    (Dtype::F16, half.collect())
                }
            };
            stored.push((name.clone(), dtype, shape.clone(), bytes));
        }
        let mut views = Vec::with_capacity(stored.len());
        for (name, dtype, shape, bytes) in &stored {
            views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?));
        }
        Ok(safetensors::serialize(views, metadata)?)
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

/// Stored floats; `None` for another type.
fn floats(view: &TensorView) -> Option<Vec<f32>> {
    match view.dtype() {
        Dtype::F32 => {
            let read = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            Some(view.data().chunks_exact(4).map(read).collect())
        }
        Dtype::F16 => {
            let read = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
            Some(view.data().chunks_exact(2).map(read).collect())
        }
        _ => None,
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The dimension of the output channels: the first of a kernel, the last of a matrix. Vectors have
/// too few values to be worth rounding.
fn output_axis(shape: &[usize]) -> Option<usize> {
    match shape {
        [_, _] => Some(1),
        [_, _, _, _] => Some(0),
        _ => None,
    }
}

/// The dimension that the scales follow: theirs are 1 but for that one.
fn channel_axis(shape: &[usize], scales: &[usize]) -> Option<usize> {
    let axis = output_axis(shape)?;
    let fits = |(i, (side, scale)): (usize, (&usize, &usize))| {
        if i == axis { side == scale } else { *scale == 1 }
    };
    (shape.len() == scales.len()).then_some(())?;
    shape.iter().zip(scales).enumerate().all(fits).then_some(axis)
}

/// Rounds to whole numbers of an output channel's scale: its largest value becomes ±127.
fn quantize(values: &[f32], shape: &[usize], axis: usize) -> (Vec<u8>, Vec<f32>) {
    let inner: usize = shape[axis + 1..].iter().product();
    let channel = |i: usize| i / inner % shape[axis];
    let mut scales = vec![0.0_f32; shape[axis]];
    for (i, value) in values.iter().enumerate() {
        let scale = &mut scales[channel(i)];
        *scale = scale.max(value.abs() / 127.0);
    }
    let number = |(i, value): (usize, &f32)| {
        let scale = scales[channel(i)];
        let steps = if scale > 0.0 { (value / scale).round() } else { 0.0 };
        (steps as i8).cast_unsigned()
    };
    (values.iter().enumerate().map(number).collect(), scales)
}

/// Where a traversal of a module is: the names of the fields down to the parameter.
///
/// Variants of enums are left out, so that a file names parts of a network and not Rust types.
#[derive(Debug, Default)]
pub struct ParameterPath {
    names: Vec<String>,
}

impl ParameterPath {
    /// To be called by `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.push(name.to_owned());
        }
    }

    /// To be called by `exit_module`.
    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.pop();
        }
    }

    /// The path with dots.
    pub fn name(&self) -> String {
        self.names.join(".")
    }
}

#[derive(Default)]
struct Collector {
    path: ParameterPath,
    tensors: BTreeMap<String, NamedTensor>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data().try_into_vec().expect("parameters are 32-bit floats");
        self.tensors.insert(self.path.name(), NamedTensor { shape, values });
    }
}

struct Loader {
    path: ParameterPath,
    weights: Weights,
    error: Option<WeightsError>,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let name = self.path.name();
        let Some(tensor) = self.weights.tensors.remove(&name) else {
            self.error = Some(WeightsError::Missing { name });
            return param;
        };
        let expected = param.lazy_shape().to_vec();
        if expected != tensor.shape {
            self.error = Some(WeightsError::Shape { name, expected, got: tensor.shape });
            return param;
        }
        let id = param.id;
        let device = param.lazy_device();
        // Straight to the backend: on Burn's way every pair of number types could be converted,
        // and all of that would be in the browser's module.
        let data = TensorData::new(tensor.values, tensor.shape);
        let value = Tensor::from_dispatch(Dispatch::float_from_data(data, device.as_dispatch()));
        param.transform_for_load(value, id)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::backbone::{PpLcNetV2, PpLcNetV2Config};
    use burn::tensor::Device;

    fn network() -> PpLcNetV2 {
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
    fn half_precision_is_close_and_half_the_size() {
        let weights = Weights::from_module(&network());
        let full = weights.to_bytes(Precision::F32, None).unwrap();
        let half = weights.to_bytes(Precision::F16, None).unwrap();
        assert!(half.len() < full.len() * 6 / 10);
        for (name, tensor) in Weights::from_bytes(&half).unwrap().tensors {
            for (a, b) in tensor.values.iter().zip(&weights.tensors[&name].values) {
                assert!((a - b).abs() <= b.abs() / 1024.0 + 1e-7, "{name}");
            }
        }
    }

    #[test]
    fn whole_numbers_are_within_half_a_step_of_their_channel() {
        let weights = Weights::from_module(&network());
        let full = weights.to_bytes(Precision::F32, None).unwrap();
        let small = weights.to_bytes(Precision::I8, None).unwrap();
        assert!(small.len() < full.len() * 4 / 10, "{} of {}", small.len(), full.len());
        let read = Weights::from_bytes(&small).unwrap();
        assert_eq!(read.tensors.len(), weights.tensors.len());
        for (name, tensor) in read.tensors {
            let exact = &weights.tensors[&name];
            assert_eq!(tensor.shape, exact.shape, "{name}");
            let [channels, ..] = exact.shape[..] else { panic!("{name}") };
            let kernel = exact.values.len() / channels;
            for (got, exact) in
                tensor.values.chunks_exact(kernel).zip(exact.values.chunks_exact(kernel))
            {
                let largest = exact.iter().fold(0.0, |a: f32, v| a.max(v.abs()));
                let step = if tensor.shape.len() == 4 { largest / 127.0 } else { 0.0 };
                for (a, b) in got.iter().zip(exact) {
                    assert!((a - b).abs() <= step * 0.5 + 1e-7, "{name}: {a} for {b}");
                }
            }
        }
    }

    #[test]
    fn the_scales_of_a_matrix_are_those_of_its_columns() {
        let values = vec![1.0, 100.0, -0.5, 50.0];
        let tensor = NamedTensor { shape: vec![2, 2], values: values.clone() };
        let weights = Weights { tensors: BTreeMap::from([("w".to_owned(), tensor)]) };
        let read = Weights::from_bytes(&weights.to_bytes(Precision::I8, None).unwrap()).unwrap();
        for (a, b) in read.tensors["w"].values.iter().zip(&values) {
            assert!((a - b).abs() <= b.abs() * 0.01, "{a} for {b}");
        }
    }

    #[test]
    fn whole_numbers_without_fitting_scales_are_refused() {
        let numbers = [1_u8, 2, 3, 4];
        for scales in [None, Some(vec![2, 1]), Some(vec![1, 3]), Some(vec![2])] {
            let bytes: Vec<u8> = vec![0; 4 * scales.iter().flatten().product::<usize>()];
            let view = TensorView::new(Dtype::I8, vec![2, 2], &numbers).unwrap();
            let mut views = vec![("w", view)];
            if let Some(shape) = scales.clone() {
                let view = TensorView::new(Dtype::F32, shape, &bytes).unwrap();
                views.push(("w#scales", view));
            }
            let file = safetensors::serialize(views, None).unwrap();
            let error = Weights::from_bytes(&file).unwrap_err();
            assert!(matches!(error, WeightsError::Scales { .. }), "{scales:?}: {error}");
        }
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
    fn damaged_bytes_give_an_error() {
        let bytes = Weights::from_module(&network()).to_bytes(Precision::F16, None).unwrap();
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            assert!(Weights::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
