//! How values lie in a file.

use std::collections::{BTreeMap, BinaryHeap};

use half::f16;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};

use super::{NamedTensor, WeightsError};

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats: checkpoints.
    F32,
    /// 16-bit floats: bundles.
    F16,
    /// Integers from −511 to 511 with one scale per output channel for matrices and kernels,
    /// 32-bit floats for the rest: five eighths of the download of [`Self::F16`]. They are floats again
    /// once they are read, so that only what is lost in rounding tells them apart.
    I10,
    /// [`Self::I10`] from −127 to 127: half of the download of [`Self::F16`].
    I8,
}

/// What the scales of a tensor of integers are called behind its name.
const SCALES: &str = "#scales";

/// What the two lowest bits of ten are called behind the name of the others, which fill bytes: four
/// numbers' in each, the first one's lowest.
const LOWS: &str = "#lows";

/// Bytes at the end of a file that are given back at once.
const GIVEN_BACK: usize = 1 << 16;

/// The tensors of a file, as far as its bytes are there.
pub(super) struct File<'a> {
    metadata: &'a Metadata,
    /// What lies behind the metadata.
    data: &'a [u8],
}

impl File<'_> {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let TensorInfo { dtype, shape, data_offsets: (start, end) } = self.metadata.info(name)?;
        TensorView::new(*dtype, shape.clone(), self.data.get(*start..*end)?).ok()
    }
}

/// Where the last of what a tensor is read from ends.
fn end(metadata: &Metadata, name: &str) -> usize {
    let parts = ["", SCALES, LOWS].map(|behind| format!("{name}{behind}"));
    let ends = parts.iter().filter_map(|name| Some(metadata.info(name)?.data_offsets.1));
    ends.max().unwrap_or_default()
}

/// Reads every tensor, from the file's end on, and gives back the bytes of those that were read: never
/// are there all values twice.
///
/// Only gradients may be beyond all numbers.
pub(super) fn read_all(
    mut bytes: Vec<u8>,
    are_weights: bool,
) -> Result<BTreeMap<String, NamedTensor>, WeightsError> {
    let (length, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(WeightsError::unreadable)?;
    // The metadata's length comes first.
    let behind = size_of::<u64>() + length;
    let tensors = metadata.tensors();
    // Whoever needs the file furthest comes first, so that the others need no more than that.
    let mut left: BinaryHeap<(usize, &String)> = (tensors.keys())
        .filter(|name| !is_part(name))
        .map(|name| (end(&metadata, name), name))
        .collect();
    let mut read_tensors = BTreeMap::new();
    while let Some((needed, name)) = left.pop() {
        bytes.truncate(behind + needed);
        if bytes.capacity() - bytes.len() >= GIVEN_BACK {
            bytes.shrink_to_fit();
        }
        let values = read(&File { metadata: &metadata, data: &bytes[behind..] }, name)?;
        if are_weights {
            check(name, &values)?;
        }
        let shape = tensors[name].shape.clone();
        read_tensors.insert(name.clone(), NamedTensor { shape, values });
    }
    Ok(read_tensors)
}

/// Whether all values are finite numbers. What is none has all bits of its exponent set, so that one more carries
/// into the sign: vectors find that without a comparison.
pub(super) fn check(name: &str, values: &[f32]) -> Result<(), WeightsError> {
    const EXPONENT: u32 = f32::INFINITY.to_bits();
    const ONE: u32 = 1 << (f32::MANTISSA_DIGITS - 1);
    let carried = values.iter().fold(0, |all, value| all | ((value.to_bits() & EXPONENT) + ONE));
    if carried >> 31 == 0 {
        return Ok(());
    }
    let value = values.iter().copied().find(|value| !value.is_finite()).unwrap_or(f32::NAN);
    Err(WeightsError::NotFinite { name: name.to_owned(), value })
}

/// A tensor as it lies in a file.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Whether a name belongs to a part of another tensor.
pub(super) fn is_part(name: &str) -> bool {
    name.ends_with(SCALES) || name.ends_with(LOWS)
}

/// A tensor in a precision: itself, and what belongs to it. Only 32-bit floats keep what is beyond all
/// numbers, for gradients.
pub(super) fn parts(
    name: &str,
    tensor: &NamedTensor,
    precision: Precision,
) -> Result<Vec<Stored>, WeightsError> {
    let NamedTensor { shape, values } = tensor;
    let store = |behind: &str, dtype, shape: &[usize], bytes| Stored {
        name: format!("{name}{behind}"),
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let most = match precision {
        Precision::F32 => return Ok(vec![store("", Dtype::F32, shape, little_endian(values))]),
        Precision::F16 => {
            check(name, values)?;
            let beyond = |value: &&f32| f16::from_f32(**value).is_infinite();
            if let Some(value) = values.iter().find(beyond) {
                return Err(WeightsError::Overflow { name: name.to_owned(), value: *value });
            }
            let half = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
            return Ok(vec![store("", Dtype::F16, shape, half.collect())]);
        }
        Precision::I10 => 511.0,
        Precision::I8 => 127.0,
    };
    check(name, values)?;
    let is_whole = values.len() == shape.iter().product::<usize>();
    let Some(axis) = output_axis(shape).filter(|_| is_whole) else {
        return parts(name, tensor, Precision::F32);
    };
    let (numbers, scales) = quantize(values, shape, axis, most);
    if let Some(scale) = scales.iter().find(|scale| (**scale * most).is_infinite()) {
        return Err(WeightsError::Overflow { name: name.to_owned(), value: *scale * most });
    }
    let mut scales_shape = vec![1; shape.len()];
    scales_shape[axis] = shape[axis];
    let scales = store(SCALES, Dtype::F32, &scales_shape, little_endian(&scales));
    let bytes = |shift: i16| numbers.iter().map(|n| ((n >> shift) as i8).cast_unsigned()).collect();
    if precision == Precision::I8 {
        return Ok(vec![store("", Dtype::I8, shape, bytes(0)), scales]);
    }
    let low = |four: &[i16]| {
        let bits = four.iter().enumerate().map(|(i, number)| ((number & 3) as u8) << (2 * i));
        bits.sum::<u8>()
    };
    let lows: Vec<u8> = numbers.chunks(4).map(low).collect();
    let lows = store(LOWS, Dtype::U8, &[lows.len()], lows);
    Ok(vec![store("", Dtype::I8, shape, bytes(2)), scales, lows])
}

/// The values of a tensor of a file.
fn read(file: &File<'_>, name: &str) -> Result<Vec<f32>, WeightsError> {
    let absent = || WeightsError::unreadable(SafeTensorError::TensorNotFound(name.to_owned()));
    let view = &file.tensor(name).ok_or_else(absent)?;
    if view.dtype() != Dtype::I8 {
        let (name, dtype) = (name.to_owned(), format!("{:?}", view.dtype()));
        return floats(view).ok_or(WeightsError::Type { name, dtype });
    }
    whole_numbers(file, name, view).ok_or_else(|| WeightsError::Scales { name: name.to_owned() })
}

/// Stored integers in their size; `None` where what belongs to them does not fit.
fn whole_numbers(file: &File<'_>, name: &str, view: &TensorView<'_>) -> Option<Vec<f32>> {
    let shape = view.shape();
    let scales = file.tensor(&format!("{name}{SCALES}"))?;
    let axis = channel_axis(shape, scales.shape())?;
    let scales = floats(&scales)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let scale = |i: usize| scales[i / inner % shape[axis]];
    let highs = view.data().iter().map(|byte| i16::from(byte.cast_signed())).enumerate();
    let Some(lows) = file.tensor(&format!("{name}{LOWS}")) else {
        return Some(highs.map(|(i, number)| f32::from(number) * scale(i)).collect());
    };
    let fits = lows.dtype() == Dtype::U8 && lows.shape() == [view.data().len().div_ceil(4)];
    let low = |i: usize| i16::from(lows.data()[i / 4] >> (2 * (i % 4)) & 3);
    fits.then(|| highs.map(|(i, high)| f32::from(4 * high + low(i)) * scale(i)).collect())
}

/// Stored floats; `None` for another type.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
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

/// Rounds to integers of an output channel's scale: its largest value becomes ±`most`.
fn quantize(values: &[f32], shape: &[usize], axis: usize, most: f32) -> (Vec<i16>, Vec<f32>) {
    let inner: usize = shape[axis + 1..].iter().product();
    let channel = |i: usize| i / inner % shape[axis];
    let mut scales = vec![0.0_f32; shape[axis]];
    for (i, value) in values.iter().enumerate() {
        let scale = &mut scales[channel(i)];
        *scale = scale.max(value.abs() / most);
    }
    let number = |(i, value): (usize, &f32)| {
        let scale = scales[channel(i)];
        if scale > 0.0 { (value / scale).round().clamp(-most, most) as i16 } else { 0 }
    };
    (values.iter().enumerate().map(number).collect(), scales)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::network;
    use super::*;
    use crate::weights::Weights;

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
        for (precision, most, share) in [(Precision::I8, 127.0, 40), (Precision::I10, 511.0, 45)] {
            let small = weights.to_bytes(precision, None).unwrap();
            assert!(small.len() < full.len() * share / 100, "{} of {}", small.len(), full.len());
            let read = Weights::from_bytes(&small).unwrap();
            assert_near(&weights, read, most);
        }
    }

    /// Of integers up to `most`.
    fn assert_near(weights: &Weights, read: Weights, most: f32) {
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
                let step = if tensor.shape.len() == 4 { largest / most } else { 0.0 };
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
        for (precision, apart) in [(Precision::I8, 0.01), (Precision::I10, 0.002)] {
            let read = Weights::from_bytes(&weights.to_bytes(precision, None).unwrap()).unwrap();
            for (a, b) in read.tensors["w"].values.iter().zip(&values) {
                assert!((a - b).abs() <= b.abs() * apart, "{a} for {b}");
            }
        }
    }

    #[test]
    fn whole_numbers_without_fitting_scales_or_low_bits_are_refused() {
        let numbers = [1_u8, 2, 3, 4, 5, 6];
        let fitting = Some((Dtype::F32, vec![1, 3]));
        let cases = [
            (None, None),
            (Some((Dtype::F32, vec![2, 1])), None),
            (Some((Dtype::F32, vec![1, 2])), None),
            (Some((Dtype::F32, vec![3])), None),
            (Some((Dtype::U8, vec![1, 3])), None),
            (fitting.clone(), Some((Dtype::U8, vec![1]))),
            (fitting.clone(), Some((Dtype::U8, vec![3]))),
            (fitting.clone(), Some((Dtype::I8, vec![2]))),
            (fitting, Some((Dtype::U8, vec![2, 1]))),
        ];
        for (scales, lows) in cases {
            let zeros = [0; 64];
            let view = TensorView::new(Dtype::I8, vec![2, 3], &numbers).unwrap();
            let mut views = vec![("w", view)];
            for (name, part) in [("w#scales", &scales), ("w#lows", &lows)] {
                if let Some((dtype, shape)) = part {
                    let count = shape.iter().product::<usize>();
                    let bytes = count * if *dtype == Dtype::F32 { 4 } else { 1 };
                    let view = TensorView::new(*dtype, shape.clone(), &zeros[..bytes]).unwrap();
                    views.push((name, view));
                }
            }
            let file = safetensors::serialize(views, None).unwrap();
            let error = Weights::from_bytes(&file).unwrap_err();
            let is_it = matches!(error, WeightsError::Scales { .. });
            assert!(is_it, "{scales:?} {lows:?}: {error}");
        }
    }

    #[test]
    fn ten_bits_are_eight_and_two() {
        let values: Vec<f32> = [-511.0, -3.0, 0.0, 1.0, 510.0, 511.0].into();
        let tensor = NamedTensor { shape: vec![6, 1], values: values.clone() };
        let weights = Weights { tensors: BTreeMap::from([("w".to_owned(), tensor)]) };
        let bytes = weights.to_bytes(Precision::I10, None).unwrap();
        assert_eq!(Weights::from_bytes(&bytes).unwrap().tensors["w"].values, values);
    }
}
