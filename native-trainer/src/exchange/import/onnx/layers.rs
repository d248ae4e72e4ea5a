//! Operators that sum: convolutions, products, pools, normalizations, reductions, resizing.

use rayon::prelude::*;

use super::OnnxError;
use super::array::{Array, Values, axis_of, broadcast, count, for_each_place, repeated, strides};
use super::interpret::{Call, Made};

/// The function of an operator that sums.
pub(super) fn operator(name: &str) -> Option<fn(&Call<'_>) -> Made> {
    Some(match name {
        "Conv" => conv,
        "MatMul" => |call| Ok(vec![product(call, call.input(0)?, call.input(1)?)?]),
        "Gemm" => gemm,
        "MaxPool" => |call| pool(call, true),
        "AveragePool" => |call| pool(call, false),
        "GlobalAveragePool" => |call| global(call, mean),
        "GlobalMaxPool" => |call| global(call, largest),
        "ReduceMean" => |call| reduce(call, mean),
        "ReduceSum" => |call| reduce(call, |values| values.iter().sum()),
        "ReduceMax" => |call| reduce(call, largest),
        "ReduceMin" => |call| reduce(call, |v| v.iter().copied().fold(f32::INFINITY, f32::min)),
        "ReduceL2" => |call| reduce(call, |v| v.iter().map(|v| v * v).sum::<f32>().sqrt()),
        "ReduceSumSquare" => |call| reduce(call, |v| v.iter().map(|v| v * v).sum()),
        "Resize" => resize,
        _ => return None,
    })
}

pub(super) fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// How a window lies along the axes of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) stride: Vec<usize>,
    pub(super) dilation: Vec<usize>,
    pub(super) before: Vec<usize>,
    pub(super) behind: Vec<usize>,
    pub(super) ceil: bool,
}

impl Window {
    /// As a node says, of a kernel that lies over these sides.
    pub(super) fn of(
        call: &Call<'_>,
        kernel: &[usize],
        sides: &[usize],
    ) -> Result<Self, OnnxError> {
        let rank = sides.len();
        let listed = |name: &str, default: usize, length: usize| {
            let Some(values) = call.node.numbers(name) else { return Ok(vec![default; length]) };
            let values = values.iter().map(|value| usize::try_from(*value).ok());
            let values = values.collect::<Option<Vec<usize>>>();
            let fits = |values: &Vec<usize>| {
                values.len() == length && values.iter().all(|value| *value <= 1 << 16)
            };
            values.filter(fits).ok_or_else(|| call.wrong(&format!("{name} that cannot be")))
        };
        let (stride, dilation) = (listed("strides", 1, rank)?, listed("dilations", 1, rank)?);
        let pads = listed("pads", 0, 2 * rank)?;
        let zero = |values: &[usize]| values.contains(&0);
        let is_huge = kernel.iter().any(|side| *side > 1 << 16);
        if kernel.len() != rank || is_huge || zero(kernel) || zero(&stride) || zero(&dilation) {
            return Err(call.wrong("a window that cannot be"));
        }
        let (mut before, mut behind) = (pads[..rank].to_vec(), pads[rank..].to_vec());
        let auto = call.node.text("auto_pad").unwrap_or("NOTSET");
        if !matches!(auto, "" | "NOTSET" | "VALID" | "SAME_UPPER" | "SAME_LOWER") {
            return Err(call.wrong(&format!("padding {auto}, which there is not")));
        }
        if auto == "VALID" {
            (before, behind) = (vec![0; rank], vec![0; rank]);
        }
        if let "SAME_UPPER" | "SAME_LOWER" = auto {
            for axis in 0..rank {
                let reach = (kernel[axis] - 1) * dilation[axis] + 1;
                let out = sides[axis].div_ceil(stride[axis]);
                let total = ((out.max(1) - 1) * stride[axis] + reach).saturating_sub(sides[axis]);
                let (less, more) = (total / 2, total - total / 2);
                let upper = auto == "SAME_UPPER";
                (before[axis], behind[axis]) = if upper { (less, more) } else { (more, less) };
            }
        }
        let ceil = call.node.number("ceil_mode", 0) == 1;
        Ok(Self { kernel: kernel.to_vec(), stride, dilation, before, behind, ceil })
    }

    /// Windows along an axis.
    fn places(&self, axis: usize, side: usize) -> usize {
        let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        let (before, stride) = (self.before[axis], self.stride[axis]);
        let Some(room) = (side + before + self.behind[axis]).checked_sub(reach) else { return 0 };
        let count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
        // The last window begins inside.
        if self.ceil && (count - 1) * stride >= side + before { count - 1 } else { count }
    }
}

/// Batch, channels, rows, columns; of a map of one axis the rows are 1.
fn sides_of(call: &Call<'_>, x: &Array) -> Result<[usize; 4], OnnxError> {
    match x.shape[..] {
        [batch, channels, width] => Ok([batch, channels, 1, width]),
        [batch, channels, height, width] => Ok([batch, channels, height, width]),
        _ => Err(call.wrong(&format!("a map of shape {:?}", x.shape))),
    }
}

/// A window over rows and columns.
fn window(call: &Call<'_>, kernel: &[usize], x: &Array) -> Result<Window, OnnxError> {
    let mut window = Window::of(call, kernel, &x.shape[2..])?;
    if x.shape.len() == 3 {
        for values in [&mut window.kernel, &mut window.stride, &mut window.dilation] {
            values.insert(0, 1);
        }
        window.before.insert(0, 0);
        window.behind.insert(0, 0);
    }
    Ok(window)
}

fn conv(call: &Call<'_>) -> Made {
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let [batch, channels, height, width] = sides_of(call, x)?;
    if weight.shape.len() != x.shape.len() {
        return Err(call.wrong("weights of another rank than the map"));
    }
    let groups = usize::try_from(call.node.number("group", 1)).unwrap_or(0);
    let (out, each) = (weight.shape[0], weight.shape[1]);
    if groups == 0 || each.checked_mul(groups) != Some(channels) || !out.is_multiple_of(groups) {
        return Err(call.wrong(&format!("weights {:?} over {:?}", weight.shape, x.shape)));
    }
    let kernel = &weight.shape[2..];
    let said = call.node.numbers("kernel_shape");
    if said.is_some_and(|said| !kernel.iter().map(|side| *side as i64).eq(said.iter().copied())) {
        return Err(call.wrong("a kernel_shape that is not that of its weights"));
    }
    let window = window(call, kernel, x)?;
    let [rows, columns] = [window.places(0, height), window.places(1, width)];
    let mut shape = vec![batch, out, rows, columns];
    let count = count(&shape, call.budget)?;
    call.take([count, each, window.kernel[0], window.kernel[1]])?;
    let (x_values, weights) = (x.as_floats()?, weight.as_floats()?);
    let bias = call.optional(2).map(Array::as_floats).transpose()?;
    if bias.is_some_and(|bias| bias.len() != out) {
        return Err(call.wrong("a bias of another number than the channels"));
    }
    let mut values = vec![0.0_f32; count];
    let plane = rows * columns;
    let taps = window.kernel[0] * window.kernel[1];
    if plane > 0 {
        values.par_chunks_mut(plane).enumerate().for_each(|(index, sums)| {
            let (picture, filter) = (index / out, index % out);
            sums.fill(bias.map_or(0.0, |bias| bias[filter]));
            let group = filter / (out / groups);
            for channel in 0..each {
                let from = picture * channels + group * each + channel;
                let map = &x_values[from * height * width..][..height * width];
                let kernel = &weights[(filter * each + channel) * taps..][..taps];
                add_filtered(sums, map, [height, width, rows, columns], kernel, &window);
            }
        });
    }
    if x.shape.len() == 3 {
        shape.remove(2);
    }
    Ok(vec![Array::floats(shape, values)])
}

/// Adds a map's products with one filter, tap by tap.
fn add_filtered(
    sums: &mut [f32],
    map: &[f32],
    [height, width, rows, columns]: [usize; 4],
    kernel: &[f32],
    window: &Window,
) {
    for (tap, weight) in kernel.iter().enumerate() {
        let (ky, kx) = (tap / window.kernel[1], tap % window.kernel[1]);
        for row in 0..rows {
            let y = row * window.stride[0] + ky * window.dilation[0];
            let Some(y) = y.checked_sub(window.before[0]).filter(|y| *y < height) else { continue };
            for column in 0..columns {
                let x = column * window.stride[1] + kx * window.dilation[1];
                if let Some(x) = x.checked_sub(window.before[1]).filter(|x| *x < width) {
                    sums[row * columns + column] += weight * map[y * width + x];
                }
            }
        }
    }
}

/// A product of matrices, repeated over the axes before the last two.
fn product(call: &Call<'_>, a: &Array, b: &Array) -> Result<Array, OnnxError> {
    let (mut left, mut right) = (a.shape.clone(), b.shape.clone());
    if left.is_empty() || right.is_empty() {
        return Err(call.wrong("a product of a single value"));
    }
    if left.len() == 1 {
        left.insert(0, 1);
    }
    if right.len() == 1 {
        right.push(1);
    }
    let (left_outer, right_outer) = (&left[..left.len() - 2], &right[..right.len() - 2]);
    let outer = broadcast(left_outer, right_outer)?;
    let (rows, inner) = (left[left.len() - 2], left[left.len() - 1]);
    let columns = right[right.len() - 1];
    if right[right.len() - 2] != inner {
        return Err(call.wrong(&format!("a product of {:?} and {:?}", a.shape, b.shape)));
    }
    let shape: Vec<usize> = outer.iter().copied().chain([rows, columns]).collect();
    let count = count(&shape, call.budget)?;
    call.take([count, inner])?;
    let (a_values, b_values) = (a.as_floats()?, b.as_floats()?);
    let mut starts = Vec::new();
    for_each_place(&outer, &repeated(left_outer, &outer), |at| starts.push(at * rows * inner));
    let mut others = Vec::new();
    for_each_place(&outer, &repeated(right_outer, &outer), |at| others.push(at * inner * columns));
    let mut values = vec![0.0_f32; count];
    if columns > 0 && rows > 0 {
        values.par_chunks_mut(columns).enumerate().for_each(|(index, sums)| {
            let (matrix, row) = (index / rows, index % rows);
            let line = &a_values[starts[matrix] + row * inner..][..inner];
            for (at, value) in line.iter().enumerate() {
                let other = &b_values[others[matrix] + at * columns..][..columns];
                sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += value * other);
            }
        });
    }
    let mut shape = shape;
    if b.shape.len() == 1 {
        shape.pop();
    }
    if a.shape.len() == 1 {
        shape.remove(outer.len());
    }
    Ok(Array::floats(shape, values))
}

fn gemm(call: &Call<'_>) -> Made {
    let turned = |name: &str, array: &Array| -> Result<Array, OnnxError> {
        if array.shape.len() != 2 {
            return Err(call.wrong("a factor that is no matrix"));
        }
        if call.node.number(name, 0) == 1 {
            array.transpose(&[1, 0], call.budget)
        } else {
            Ok(array.clone())
        }
    };
    let (a, b) = (turned("transA", call.input(0)?)?, turned("transB", call.input(1)?)?);
    let made = product(call, &a, &b)?;
    let (alpha, beta) = (call.node.float("alpha", 1.0), call.node.float("beta", 1.0));
    let scaled: Vec<f32> = made.as_floats()?.iter().map(|value| alpha * value).collect();
    let Some(bias) = call.optional(2) else {
        return Ok(vec![Array::floats(made.shape, scaled)]);
    };
    let (a, b) = ((&made.shape[..], &scaled[..]), (&bias.shape[..], bias.as_floats()?));
    let (shape, values) = Array::zip(a, b, call.budget, |value, bias| value + beta * bias)?;
    Ok(vec![Array::floats(shape, values)])
}

fn pool(call: &Call<'_>, is_max: bool) -> Made {
    let x = call.input(0)?;
    let [batch, channels, height, width] = sides_of(call, x)?;
    let kernel = call.node.numbers("kernel_shape").unwrap_or_default();
    let kernel: Vec<usize> =
        kernel.iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
    let window = window(call, &kernel, x)?;
    let [rows, columns] = [window.places(0, height), window.places(1, width)];
    let mut shape = vec![batch, channels, rows, columns];
    let all = count(&shape, call.budget)?;
    call.take([all, window.kernel[0], window.kernel[1]])?;
    let counts_padding = call.node.number("count_include_pad", 0) == 1;
    let x_values = x.as_floats()?;
    let mut values = Vec::with_capacity(all);
    for plane in 0..batch * channels {
        let map = &x_values[plane * height * width..][..height * width];
        for index in 0..rows * columns {
            let (row, column) = (index / columns, index % columns);
            let (mut most, mut sum, mut count) = (f32::NEG_INFINITY, 0.0, 0);
            for tap in 0..window.kernel[0] * window.kernel[1] {
                let (ky, kx) = (tap / window.kernel[1], tap % window.kernel[1]);
                let y = row * window.stride[0] + ky * window.dilation[0];
                let x = column * window.stride[1] + kx * window.dilation[1];
                let inside = y < height + window.before[0] + window.behind[0]
                    && x < width + window.before[1] + window.behind[1];
                let place = y.checked_sub(window.before[0]).zip(x.checked_sub(window.before[1]));
                match place.filter(|(y, x)| *y < height && *x < width) {
                    Some((y, x)) => {
                        let value = map[y * width + x];
                        (most, sum, count) = (most.max(value), sum + value, count + 1);
                    }
                    None => count += usize::from(counts_padding && inside),
                }
            }
            values.push(if is_max { most } else { sum / count as f32 });
        }
    }
    if x.shape.len() == 3 {
        shape.remove(2);
    }
    Ok(vec![Array::floats(shape, values)])
}

fn global(call: &Call<'_>, of: impl Fn(&[f32]) -> f32) -> Made {
    let x = call.input(0)?;
    let mut shape = x.shape.clone();
    let sides = shape.get_mut(2..).ok_or_else(|| call.wrong("an input that is no map"))?;
    let plane = sides.iter().product::<usize>().max(1);
    sides.fill(1);
    let values = x.as_floats()?.chunks(plane).map(of).collect();
    Ok(vec![Array::floats(shape, values)])
}

/// The axes that a reduction names; all if it names none.
pub(super) fn reduced(call: &Call<'_>, rank: usize) -> Result<Vec<usize>, OnnxError> {
    let axes = match call.listed("axes", 1)? {
        Some(axes) if !axes.is_empty() => {
            let axes = axes.iter().map(|axis| axis_of(*axis, rank));
            axes.collect::<Result<Vec<usize>, OnnxError>>()?
        }
        _ if call.node.number("noop_with_empty_axes", 0) == 1 => Vec::new(),
        _ => (0..rank).collect(),
    };
    Ok((0..rank).filter(|axis| axes.contains(axis)).collect())
}

fn reduce(call: &Call<'_>, of: impl Fn(&[f32]) -> f32) -> Made {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let axes = reduced(call, rank)?;
    let (kept, gone): (Vec<usize>, Vec<usize>) = (0..rank).partition(|axis| !axes.contains(axis));
    let order: Vec<usize> = kept.iter().chain(&gone).copied().collect();
    let run = gone.iter().map(|axis| x.shape[*axis]).product::<usize>();
    let keeps = call.node.number("keepdims", 1) == 1;
    let shape = (0..rank).filter_map(|axis| {
        if axes.contains(&axis) { keeps.then_some(1) } else { Some(x.shape[axis]) }
    });
    let shape: Vec<usize> = shape.collect();
    if let Values::Numbers(values) = &x.values {
        // Of lengths, of which products and sums are taken alone.
        if values.len() == run && call.node.operator == "ReduceSum" {
            return Ok(vec![Array::numbers(shape, vec![values.iter().sum()])]);
        }
        return Err(call.wrong("a reduction of whole numbers"));
    }
    let turned = x.transpose(&order, call.budget)?;
    let values = turned.as_floats()?.chunks(run.max(1)).map(of).collect();
    Ok(vec![Array::floats(shape, values)])
}

/// The sides that a `Resize` makes.
pub(super) fn resized(call: &Call<'_>, from: &[usize]) -> Result<Vec<usize>, OnnxError> {
    let given = |index: usize| call.optional(index).filter(|array| !array.shape.contains(&0));
    if call.node.numbers("axes").is_some() {
        return Err(call.wrong("axes of its own"));
    }
    let sides: Vec<usize> = match (given(2), given(3)) {
        (_, Some(sizes)) => {
            let sides = sizes.as_numbers()?.iter().map(|side| usize::try_from(*side));
            sides.collect::<Result<_, _>>().ok().ok_or_else(|| call.wrong("a side below 0"))?
        }
        (Some(scales), None) => {
            let both = from.iter().zip(scales.as_floats()?);
            both.map(|(side, scale)| (*side as f32 * scale).floor() as usize).collect()
        }
        (None, None) => return Err(call.wrong("neither scales nor sizes")),
    };
    if sides.len() == from.len() { Ok(sides) } else { Err(call.wrong("sides of another number")) }
}

/// Whether a `Resize` mixes neighbors.
pub(super) fn is_linear(call: &Call<'_>) -> bool {
    call.node.text("mode") == Some("linear")
}

/// Pixels between those of a map, from the nearest two of each axis; beyond the border the last is repeated.
fn resize_linear(call: &Call<'_>, x: &Array, shape: &[usize]) -> Made {
    let place = call.node.text("coordinate_transformation_mode").unwrap_or("half_pixel");
    let (&[batch, channels, height, width], &[_, _, rows, columns]) = (&x.shape[..], shape) else {
        return Err(call.wrong("bilinear resizing of what is no map"));
    };
    let is_read = matches!(place, "half_pixel" | "pytorch_half_pixel")
        && shape[..2] == x.shape[..2]
        && rows.min(columns) > 1
        && rows >= height
        && columns >= width;
    if !is_read {
        return Err(
            call.wrong("bilinear resizing other than to larger maps by the middles of pixels")
        );
    }
    let all = count(shape, call.budget)?;
    let mixed = |at: usize, from: usize, to: usize| {
        let place =
            ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let first = place as usize;
        (first, (first + 1).min(from - 1), (place - first as f64) as f32)
    };
    let values = x.as_floats()?;
    let mut made = Vec::with_capacity(all);
    for plane in 0..batch * channels {
        let map = &values[plane * height * width..][..height * width];
        for row in 0..rows {
            let (above, below, down) = mixed(row, height, rows);
            for column in 0..columns {
                let (left, right, aside) = mixed(column, width, columns);
                let line = |y: usize| {
                    map[y * width + left] * (1.0 - aside) + map[y * width + right] * aside
                };
                made.push(line(above) * (1.0 - down) + line(below) * down);
            }
        }
    }
    Ok(vec![Array::floats(shape.to_vec(), made)])
}

fn resize(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let shape = resized(call, &x.shape)?;
    if is_linear(call) && shape != x.shape && !x.shape.contains(&0) {
        return resize_linear(call, x, &shape);
    }
    let whole = |axis: usize| x.shape[axis] > 0 && shape[axis].is_multiple_of(x.shape[axis]);
    let is_nearest = matches!(call.node.text("mode"), None | Some("nearest"));
    let text = |name: &str, default: &'static str| call.node.text(name).unwrap_or(default);
    // Of these alone a pixel is the one that its place over the factor names.
    let is_plain = matches!(
        (
            text("coordinate_transformation_mode", "half_pixel"),
            text("nearest_mode", "round_prefer_floor"),
        ),
        ("asymmetric", "floor")
            | ("half_pixel" | "pytorch_half_pixel", "round_prefer_floor" | "round_prefer_ceil")
    );
    let is_same = shape == x.shape;
    if !is_nearest || !(is_plain || is_same) || !(0..shape.len()).all(whole) {
        return Err(
            call.wrong("resizing other than bilinear, or to the nearest pixel by whole factors")
        );
    }
    let all = count(&shape, call.budget)?;
    let (own, factors): (Vec<usize>, Vec<usize>) =
        (strides(&x.shape), (0..shape.len()).map(|axis| shape[axis] / x.shape[axis]).collect());
    let new = strides(&shape);
    let values = x.as_floats()?;
    let made = (0..all).map(|place| {
        let from = (0..shape.len())
            .map(|axis| place / new[axis] % shape[axis] / factors[axis] * own[axis]);
        values[from.sum::<usize>()]
    });
    Ok(vec![Array::floats(shape.clone(), made.collect())])
}
