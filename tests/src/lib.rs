//! Reading recorded inputs and outputs of the original implementations.
//!
//! Cases lie in the folder that `GOLDEN_DIR` names, by default `tests/golden`. Every case of a file
//! is run by its name and parameters, so further cases need no further code.
#![allow(clippy::print_stdout, reason = "a run says which cases it met")]

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use models::weights::{NamedTensor, Weights};
use native_trainer::cli::DeviceKind;
use native_trainer::exchange::import::paddle_name;
use serde_json::Value;

/// The folder of the recorded cases.
pub fn golden_dir() -> PathBuf {
    match std::env::var_os("GOLDEN_DIR") {
        Some(path) => path.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden"),
    }
}

/// The device that the cases run on: `GOLDEN_DEVICE`, by default `cpu`.
///
/// # Panics
///
/// When the tests were built without that device.
pub fn device() -> Device {
    let name = std::env::var("GOLDEN_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let kind = match name.as_str() {
        "cpu" => DeviceKind::Cpu,
        #[cfg(feature = "cuda")]
        "cuda" => DeviceKind::Cuda,
        #[cfg(feature = "wgpu")]
        "wgpu" => DeviceKind::Wgpu,
        _ => panic!("GOLDEN_DEVICE={name}: no such device, or one whose feature is not on"),
    };
    kind.open()
}

/// An array of a JSON case.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Extent of every dimension.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

impl Array {
    /// Reads `{shape, dtype, data}` or a plain number.
    ///
    /// # Panics
    ///
    /// When the value is neither.
    pub fn new(value: &Value) -> Self {
        if let Some(number) = value.as_f64() {
            return Self { shape: vec![], values: vec![number as f32] };
        }
        let numbers = |value: &Value| -> Vec<f64> {
            let list = value.as_array().unwrap_or_else(|| panic!("no array: {value}"));
            list.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
        };
        Self {
            shape: numbers(&value["shape"]).iter().map(|v| *v as usize).collect(),
            values: match value["data"].as_f64() {
                Some(number) => vec![number as f32],
                None => numbers(&value["data"]).iter().map(|v| *v as f32).collect(),
            },
        }
    }

    /// The array on a device.
    pub fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape.clone()), device)
    }

    /// The array as class indices, flattened.
    pub fn indices(&self, device: &Device) -> Tensor<1, Int> {
        let values: Vec<i32> = self.values.iter().map(|v| *v as i32).collect();
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), device)
    }
}

/// A case of a JSON file.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique in its file.
    pub name: String,
    /// Parameters, inputs and outputs.
    pub value: Value,
}

impl Case {
    /// An input array.
    pub fn input(&self, key: &str) -> Array {
        Array::new(&self.value["inputs"][key])
    }

    /// An output array.
    pub fn output(&self, key: &str) -> Array {
        Array::new(&self.value["outputs"][key])
    }

    /// A number among the parameters.
    pub fn param(&self, key: &str) -> Option<f64> {
        self.value["params"][key].as_f64()
    }
}

/// Cases of a JSON file whose name starts with one of `prefixes`; none where the folder lacks the
/// file, so that a folder may hold a selection.
///
/// # Panics
///
/// When the file is there and cannot be read.
pub fn cases(file: &str, prefixes: &[&str]) -> Vec<Case> {
    let path = golden_dir().join(file);
    let Ok(text) = std::fs::read(&path) else {
        println!("{}: not there", path.display());
        return Vec::new();
    };
    let json: Value = serde_json::from_slice(&text).expect("the golden file is JSON");
    let all = json["cases"].as_array().expect("the golden file has cases");
    let cases: Vec<Case> = all
        .iter()
        .map(|value| Case {
            name: value["name"].as_str().unwrap_or_default().to_owned(),
            value: value.clone(),
        })
        .filter(|case| prefixes.iter().any(|prefix| case.name.starts_with(prefix)))
        .collect();
    for case in &cases {
        println!("{file}: {}", case.name);
    }
    cases
}

/// Safetensors files of the folder whose name starts with `prefix`, in the order of their names.
///
/// # Panics
///
/// When a file cannot be read.
pub fn tensor_files(prefix: &str) -> Vec<(String, Weights)> {
    let mut files: Vec<(String, Weights)> = std::fs::read_dir(golden_dir())
        .expect("the golden folder is there")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            let wanted = name.starts_with(prefix) && name.ends_with(".safetensors");
            wanted.then(|| {
                println!("{name}");
                let bytes = std::fs::read(&path).expect("the golden file can be read");
                (name, float_tensors(&bytes))
            })
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// Every tensor of a safetensors file as floats; integers (labels, counts, pixels) are converted.
///
/// # Panics
///
/// When the bytes are no such file.
pub fn float_tensors(bytes: &[u8]) -> Weights {
    use safetensors::tensor::{Dtype, SafeTensors};
    let file = SafeTensors::deserialize(bytes).expect("a safetensors file");
    let mut weights = Weights::default();
    for (name, view) in file.iter() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::I32 => data
                .chunks_exact(4)
                .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32)
                .collect(),
            Dtype::I64 => data
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(std::array::from_fn(|i| b[i])) as f32)
                .collect(),
            Dtype::U8 => data.iter().map(|b| f32::from(*b)).collect(),
            other => panic!("{name} holds {other:?}"),
        };
        weights
            .tensors
            .insert(name.to_owned(), NamedTensor { shape: view.shape().to_vec(), values });
    }
    weights
}

/// Puts a named tensor on a device.
///
/// # Panics
///
/// When it is not there.
pub fn tensor<const D: usize>(weights: &Weights, name: &str, device: &Device) -> Tensor<D> {
    let tensor = weights.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
    Tensor::from_data(TensorData::new(tensor.values.clone(), tensor.shape.clone()), device)
}

/// Loads the reference's tensors into a module of ours; spare tensors of the reference are dropped.
///
/// # Panics
///
/// When a tensor is missing or does not fit.
pub fn load<M: Module>(reference: &Weights, module: M) -> M {
    let mut weights = Weights::default();
    for (name, tensor) in &reference.tensors {
        if let Some(name) = paddle_name(name) {
            weights.tensors.insert(name, tensor.clone());
        }
    }
    weights.load_into(module).unwrap_or_else(|error| panic!("{error}"))
}

/// `u(t, i)` of the recorded rule for weights that were generated and not stored.
fn uniform(tensor: u64, index: u64) -> f32 {
    let mut z =
        tensor.wrapping_mul(1 << 32).wrapping_add(index).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / 16_777_216.0
}

/// The tensors of a case that lists `[number, name, shape]` instead of values.
///
/// # Panics
///
/// When the list is malformed.
pub fn procedural_weights(case: &Case) -> Weights {
    let mut weights = Weights::default();
    for entry in case.value["tensors"].as_array().expect("a list of tensors") {
        let number = entry[0].as_u64().expect("a tensor number");
        let name = entry[1].as_str().expect("a tensor name");
        let shape: Vec<usize> = entry[2]
            .as_array()
            .expect("a shape")
            .iter()
            .map(|v| v.as_u64().expect("an extent") as usize)
            .collect();
        let count: usize = shape.iter().product();
        let values = (0..count as u64)
            .map(|i| {
                let u = uniform(number, i);
                let fan = |n: usize| (6.0 / n as f64).sqrt() as f32;
                match shape[..] {
                    _ if name.ends_with("_variance") => 0.5 + u,
                    _ if name.ends_with("_mean") => (u - 0.5) * 0.2,
                    [_, i, kh, kw] => (2.0 * u - 1.0) * fan(i * kh * kw),
                    [i, _] => (2.0 * u - 1.0) * fan(i),
                    _ if name.ends_with("weight") => 0.5 + u,
                    _ => (u - 0.5) * 0.2,
                }
            })
            .collect();
        weights.tensors.insert(name.to_owned(), NamedTensor { shape, values });
    }
    weights
}

/// The generated network input of a case.
///
/// # Panics
///
/// When the case names none.
pub fn procedural_input(case: &Case, device: &Device) -> Tensor<4> {
    let input = &case.value["input"];
    let number = input["t"].as_u64().expect("a tensor number");
    let shape: Vec<usize> = input["shape"]
        .as_array()
        .expect("a shape")
        .iter()
        .map(|v| v.as_u64().expect("an extent") as usize)
        .collect();
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count as u64).map(|i| uniform(number, i) * 4.0 - 2.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the data was converted to f32")
}

/// Fails unless `‖got − expected‖ ≤ tolerance · ‖expected‖`, with every number finite.
///
/// The norm of the whole array, because single values near zero carry no relative precision after
/// sums of thousands of f32 terms in another order.
///
/// # Panics
///
/// When the arrays differ.
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let scale = norm(expected.iter().map(|v| f64::from(*v)));
    let error = deviation(got, expected) * scale;
    assert!(
        error <= tolerance * scale + 1e-7,
        "{what}: relative error {:.2e} over {tolerance:.0e} (got {:?}, expected {:?})",
        error / scale,
        &got[..got.len().min(4)],
        &expected[..expected.len().min(4)],
    );
}

/// `‖got − expected‖ / ‖expected‖`
pub fn deviation(got: &[f32], expected: &[f32]) -> f64 {
    let difference = got.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    norm(difference) / norm(expected.iter().map(|v| f64::from(*v))).max(f64::MIN_POSITIVE)
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}
