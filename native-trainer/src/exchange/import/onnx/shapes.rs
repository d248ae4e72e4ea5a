//! Operators that move values and compute none.

use super::OnnxError;
use super::array::{Array, Values, axis_of, count, strides};
use super::interpret::{Call, Made};
use super::model::Attribute;

/// The function of an operator that moves values.
pub(super) fn operator(name: &str) -> Option<fn(&Call<'_>) -> Made> {
    Some(match name {
        "Constant" => constant,
        "Shape" => shape,
        "Size" => |call| {
            let count = call.input(0)?.shape.iter().product::<usize>();
            Ok(vec![Array::numbers(vec![], vec![count as i64])])
        },
        "Reshape" => |call| {
            let shape = reshaped(call, &call.input(0)?.shape, call.numbers(1)?)?;
            with_shape(call, shape)
        },
        "Flatten" => |call| {
            let sides = &call.input(0)?.shape;
            let axis = call.node.number("axis", 1);
            let axis =
                if axis == sides.len() as i64 { sides.len() } else { axis_of(axis, sides.len())? };
            let (before, behind) = sides.split_at(axis);
            with_shape(call, vec![before.iter().product(), behind.iter().product()])
        },
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => |call| {
            let x = call.input(0)?;
            let order = transposed(call, x.shape.len())?;
            Ok(vec![x.transpose(&order, call.budget)?])
        },
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Gather" => gather,
        "Expand" => |call| {
            let sides = call.numbers(1)?.iter().map(|side| usize::try_from(*side));
            let sides = sides.collect::<Result<Vec<usize>, _>>();
            let sides = sides.ok().ok_or_else(|| call.wrong("a side below 0"))?;
            Ok(vec![call.input(0)?.expand(&sides, call.budget)?])
        },
        "Tile" => tile,
        "ConstantOfShape" => filled,
        "Range" => range,
        "Pad" => pad,
        "DepthToSpace" | "SpaceToDepth" => blocks,
        _ => return None,
    })
}

fn with_shape(call: &Call<'_>, shape: Vec<usize>) -> Made {
    let x = call.input(0)?;
    if shape.iter().product::<usize>() != x.shape.iter().product::<usize>() {
        return Err(call.wrong(&format!("{:?} has no shape {shape:?}", x.shape)));
    }
    Ok(vec![Array { shape, values: x.values.clone() }])
}

fn constant(call: &Call<'_>) -> Made {
    let attributes = &call.node.attributes;
    let made = match (attributes.get("value"), attributes.values().next()) {
        (Some(Attribute::Tensor(array)), _) => array.clone(),
        (None, Some(Attribute::Float(value))) => Array::floats(vec![], vec![*value]),
        (None, Some(Attribute::Number(value))) => Array::numbers(vec![], vec![*value]),
        (None, Some(Attribute::Floats(values))) => {
            Array::floats(vec![values.len()], values.clone())
        }
        (None, Some(Attribute::Numbers(values))) => {
            Array::numbers(vec![values.len()], values.clone())
        }
        _ => return Err(call.wrong("a constant of another kind than numbers")),
    };
    Ok(vec![made])
}

fn shape(call: &Call<'_>) -> Made {
    let sides = &call.input(0)?.shape;
    let rank = sides.len() as i64;
    let place = |name: &str, default: i64| {
        let value = call.node.number(name, default);
        let value = if value < 0 { value.saturating_add(rank) } else { value };
        value.clamp(0, rank) as usize
    };
    let (start, end) = (place("start", 0), place("end", rank));
    let sides: Vec<i64> =
        sides.get(start..end).unwrap_or_default().iter().map(|side| *side as i64).collect();
    Ok(vec![Array::numbers(vec![sides.len()], sides)])
}

/// The shape that a `Reshape` asks for: 0 keeps a side, −1 is what is left.
pub(super) fn reshaped(
    call: &Call<'_>,
    from: &[usize],
    wanted: &[i64],
) -> Result<Vec<usize>, OnnxError> {
    let keeps = call.node.number("allowzero", 0) == 0;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (axis, side) in wanted.iter().enumerate() {
        shape.push(match side {
            0 if keeps => *from.get(axis).ok_or_else(|| call.wrong("a side that is not there"))?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            side => usize::try_from(*side).ok().ok_or_else(|| call.wrong("a side below 0"))?,
        });
    }
    let (all, known) = (count(from, call.budget)?, count(&shape, call.budget)?);
    if let Some(axis) = free {
        shape[axis] = all.checked_div(known).unwrap_or(0);
    }
    Ok(shape)
}

fn squeeze(call: &Call<'_>) -> Made {
    let sides = &call.input(0)?.shape;
    let axes = match call.listed("axes", 1)? {
        Some(axes) => {
            let axes = axes.iter().map(|axis| axis_of(*axis, sides.len()));
            axes.collect::<Result<Vec<usize>, OnnxError>>()?
        }
        None => (0..sides.len()).filter(|axis| sides[*axis] == 1).collect(),
    };
    let kept = (0..sides.len()).filter(|axis| !axes.contains(axis)).map(|axis| sides[axis]);
    with_shape(call, kept.collect())
}

fn unsqueeze(call: &Call<'_>) -> Made {
    let sides = &call.input(0)?.shape;
    let axes = call.listed("axes", 1)?.ok_or_else(|| call.wrong("no axes"))?;
    let rank = sides.len() + axes.len();
    let axes = axes.iter().map(|axis| axis_of(*axis, rank));
    let axes = axes.collect::<Result<Vec<usize>, OnnxError>>()?;
    let mut old = sides.iter();
    let shape = (0..rank)
        .map(|axis| if axes.contains(&axis) { 1 } else { old.next().copied().unwrap_or(1) });
    with_shape(call, shape.collect())
}

/// The order of axes that a `Transpose` asks for.
pub(super) fn transposed(call: &Call<'_>, rank: usize) -> Result<Vec<usize>, OnnxError> {
    let Some(order) = call.node.numbers("perm") else { return Ok((0..rank).rev().collect()) };
    let order = order.iter().map(|axis| axis_of(*axis, rank));
    let order = order.collect::<Result<Vec<usize>, OnnxError>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted == (0..rank).collect::<Vec<usize>>() {
        Ok(order)
    } else {
        Err(call.wrong("an order that names an axis twice"))
    }
}

/// Arrays one behind the other along an axis.
fn joined(call: &Call<'_>, arrays: &[&Array], axis: usize) -> Result<Array, OnnxError> {
    let mut shape = arrays[0].shape.clone();
    for array in &arrays[1..] {
        let fits = array.shape.len() == shape.len()
            && (0..shape.len()).all(|at| at == axis || array.shape[at] == shape[at]);
        if !fits {
            return Err(call.wrong(&format!("{shape:?} and {:?} do not fit", array.shape)));
        }
        shape[axis] += array.shape[axis];
    }
    let count = count(&shape, call.budget)?;
    let outer: usize = shape[..axis].iter().product();
    let inner = |array: &Array| array.shape[axis..].iter().product::<usize>();
    let values = if matches!(arrays[0].values, Values::Floats(_)) {
        let parts = arrays.iter().map(|array| Ok((array.as_floats()?, inner(array))));
        let parts = parts.collect::<Result<Vec<_>, OnnxError>>()?;
        let mut out = Vec::with_capacity(count);
        for at in 0..outer {
            parts.iter().for_each(|(v, inner)| out.extend_from_slice(&v[at * inner..][..*inner]));
        }
        Values::Floats(out)
    } else {
        let parts = arrays.iter().map(|array| Ok((array.as_numbers()?, inner(array))));
        let parts = parts.collect::<Result<Vec<_>, OnnxError>>()?;
        let mut out = Vec::with_capacity(count);
        for at in 0..outer {
            parts.iter().for_each(|(v, inner)| out.extend_from_slice(&v[at * inner..][..*inner]));
        }
        Values::Numbers(out)
    };
    Ok(Array { shape, values })
}

fn concat(call: &Call<'_>) -> Made {
    let all: Vec<&Array> =
        (0..call.inputs.len()).map(|index| call.input(index)).collect::<Result<_, _>>()?;
    let first = all.first().ok_or_else(|| call.wrong("nothing to join"))?;
    let axis = axis_of(call.node.number("axis", 0), first.shape.len())?;
    Ok(vec![joined(call, &all, axis)?])
}

/// A stretch of an axis.
fn narrow(
    call: &Call<'_>,
    x: &Array,
    axis: usize,
    (start, length): (usize, usize),
) -> Result<Array, OnnxError> {
    let steps = strides(&x.shape);
    let mut shape = x.shape.clone();
    shape[axis] = length;
    x.gather(shape, start * steps[axis], &steps, call.budget)
}

/// Lengths of the parts that a `Split` makes of an axis.
pub(super) fn parts(call: &Call<'_>, side: usize) -> Result<Vec<usize>, OnnxError> {
    let outputs = call.node.outputs.len();
    let lengths: Vec<usize> = if let Some(lengths) = call.listed("split", 1)? {
        let lengths = lengths.iter().map(|length| usize::try_from(*length).ok());
        let lengths = lengths.collect::<Option<Vec<usize>>>();
        lengths.ok_or_else(|| call.wrong("a part below 0"))?
    } else {
        let each = side.div_ceil(outputs.max(1));
        (0..outputs).map(|at| each.min(side.saturating_sub(at * each))).collect()
    };
    let all = lengths.iter().try_fold(0_usize, |all, length| all.checked_add(*length));
    if all == Some(side) && lengths.len() == outputs {
        Ok(lengths)
    } else {
        Err(call.wrong(&format!("parts {lengths:?} of {side}")))
    }
}

fn split(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let axis = axis_of(call.node.number("axis", 0), x.shape.len())?;
    let mut start = 0;
    let mut made = Vec::new();
    for length in parts(call, x.shape[axis])? {
        made.push(narrow(call, x, axis, (start, length))?);
        start += length;
    }
    Ok(made)
}

/// Of each axis that a `Slice` cuts: axis, first place, how many, step.
pub(super) fn cuts(
    call: &Call<'_>,
    shape: &[usize],
) -> Result<Vec<(usize, usize, usize, i64)>, OnnxError> {
    let (starts, ends) = (call.numbers(1)?, call.numbers(2)?);
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = call.optional(3).map_or(Ok(&all[..]), Array::as_numbers)?;
    let ones = vec![1; starts.len()];
    let steps = call.optional(4).map_or(Ok(&ones[..]), Array::as_numbers)?;
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(call.wrong("starts, ends, axes and steps of different number"));
    }
    let mut cuts = Vec::new();
    for (index, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, shape.len())?;
        let (side, step) = (shape[axis] as i64, steps[index]);
        let place = |value: i64| if value < 0 { value.saturating_add(side) } else { value };
        if step == 0 {
            return Err(call.wrong("a step of 0"));
        }
        let (start, count) = if step > 0 {
            let start = place(starts[index]).clamp(0, side);
            let end = place(ends[index]).clamp(start, side);
            (start, (end - start) / step + i64::from((end - start) % step != 0))
        } else {
            let start = place(starts[index]).clamp(-1, side - 1);
            let end = place(ends[index]).clamp(-1, start.max(-1));
            let step = step.saturating_neg();
            (start.max(0), (start - end) / step + i64::from((start - end) % step != 0))
        };
        cuts.push((axis, start as usize, count as usize, step));
    }
    Ok(cuts)
}

fn slice(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let mut made = x.clone();
    for (axis, start, length, step) in cuts(call, &x.shape)? {
        if step == 1 {
            made = narrow(call, &made, axis, (start, length))?;
            continue;
        }
        let places = (0..length as i64).map(|at| start as i64 + at * step);
        let parts = places.map(|at| narrow(call, &made, axis, (at as usize, 1)));
        let parts = parts.collect::<Result<Vec<Array>, OnnxError>>()?;
        made = match parts.iter().collect::<Vec<&Array>>().as_slice() {
            [] => narrow(call, &made, axis, (0, 0))?,
            parts => joined(call, parts, axis)?,
        };
    }
    Ok(vec![made])
}

fn gather(call: &Call<'_>) -> Made {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let axis = axis_of(call.node.number("axis", 0), x.shape.len())?;
    let side = x.shape[axis];
    let mut shape = x.shape.clone();
    shape.splice(axis..=axis, indices.shape.iter().copied());
    count(&shape, call.budget)?;
    let mut parts = Vec::new();
    for index in indices.as_numbers()? {
        parts.push(narrow(call, x, axis, (axis_of(*index, side)?, 1))?);
    }
    let made = match parts.iter().collect::<Vec<&Array>>().as_slice() {
        [] => narrow(call, x, axis, (0, 0))?,
        parts => joined(call, parts, axis)?,
    };
    Ok(vec![Array { shape, values: made.values }])
}

fn tile(call: &Call<'_>) -> Made {
    let mut made = call.input(0)?.clone();
    let times = call.numbers(1)?;
    if times.len() != made.shape.len() {
        return Err(call.wrong("another number of factors than of axes"));
    }
    for (axis, times) in times.iter().enumerate() {
        let times = usize::try_from(*times).ok().ok_or_else(|| call.wrong("a factor below 0"))?;
        let all = made.shape.iter().product::<usize>().checked_mul(times);
        if all.is_none_or(|all| all > call.budget.values) {
            return Err(OnnxError::TooLarge { what: "an array that is repeated".to_owned() });
        }
        made = match times {
            0 => narrow(call, &made, axis, (0, 0))?,
            times => joined(call, &vec![&made; times], axis)?,
        };
    }
    Ok(vec![made])
}

fn filled(call: &Call<'_>) -> Made {
    let sides = call.numbers(0)?.iter().map(|side| usize::try_from(*side));
    let shape = sides.collect::<Result<Vec<usize>, _>>();
    let shape = shape.ok().ok_or_else(|| call.wrong("a side below 0"))?;
    let count = count(&shape, call.budget)?;
    let values = match call.node.attributes.get("value") {
        Some(Attribute::Tensor(Array { values: Values::Numbers(values), .. })) => {
            Values::Numbers(vec![values.first().copied().unwrap_or_default(); count])
        }
        Some(Attribute::Tensor(Array { values: Values::Floats(values), .. })) => {
            Values::Floats(vec![values.first().copied().unwrap_or_default(); count])
        }
        _ => Values::Floats(vec![0.0; count]),
    };
    Ok(vec![Array { shape, values }])
}

fn range(call: &Call<'_>) -> Made {
    let number = |index: usize| match &call.input(index)?.values {
        Values::Numbers(values) if values.len() == 1 => Ok(values[0]),
        _ => Err(call.wrong("its ends are no whole numbers")),
    };
    let (start, end, step) = (number(0)?, number(1)?, number(2)?);
    let length = match step {
        0 => return Err(call.wrong("a step of 0")),
        1.. => end.saturating_sub(start).max(0) as u64,
        _ => start.saturating_sub(end).max(0) as u64,
    };
    let length = usize::try_from(length.div_ceil(step.unsigned_abs())).unwrap_or(usize::MAX);
    count(&[length], call.budget)?;
    let values = (0..length as i64).map(|at| start.wrapping_add(at.wrapping_mul(step)));
    Ok(vec![Array::numbers(vec![length], values.collect())])
}

/// What a `Pad` puts before and behind each axis.
pub(super) fn borders(call: &Call<'_>, rank: usize) -> Result<Vec<[i64; 2]>, OnnxError> {
    let pads = call.listed("pads", 1)?.ok_or_else(|| call.wrong("no borders"))?;
    let axes = match call.optional(3) {
        Some(axes) => {
            let axes = axes.as_numbers()?.iter().map(|axis| axis_of(*axis, rank));
            axes.collect::<Result<Vec<usize>, OnnxError>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(call.wrong("another number of borders than of axes"));
    }
    let mut borders = vec![[0, 0]; rank];
    for (index, axis) in axes.iter().enumerate() {
        borders[*axis] = [pads[index], pads[index + axes.len()]];
    }
    Ok(borders)
}

fn pad(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let is_constant = matches!(call.node.text("mode"), None | Some("constant"));
    let fill = call.optional(2).map_or(Some(0.0), Array::scalar);
    let fill = fill.ok_or_else(|| call.wrong("more than one value to pad with"))?;
    let mut made = x.clone();
    for (axis, [before, behind]) in borders(call, x.shape.len())?.into_iter().enumerate() {
        let side = made.shape[axis] as i64;
        let length = before.checked_add(behind).and_then(|both| both.checked_add(side));
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| call.wrong("nothing is left of an axis"))?;
        let mut shape = made.shape.clone();
        shape[axis] = length;
        count(&shape, call.budget)?;
        if before == 0 && behind == 0 {
            continue;
        }
        let source = |at: i64| match call.node.text("mode") {
            Some("reflect") if side > 1 => {
                let around = at.rem_euclid(2 * (side - 1));
                Some(around.min(2 * (side - 1) - around))
            }
            Some("edge" | "reflect") if side > 0 => Some(at.clamp(0, side - 1)),
            _ => (0..side).contains(&at).then_some(at),
        };
        let mut slab = shape.clone();
        slab[axis] = 1;
        let blank = Array::floats(slab.clone(), vec![fill; slab.iter().product()]);
        let mut parts = Vec::with_capacity(length);
        for at in 0..length as i64 {
            parts.push(match source(at - before) {
                Some(at) if at >= 0 => narrow(call, &made, axis, (at as usize, 1))?,
                _ if is_constant => blank.clone(),
                _ => return Err(call.wrong("a border of nothing")),
            });
        }
        made = match parts.iter().collect::<Vec<&Array>>().as_slice() {
            [] => narrow(call, &made, axis, (0, 0))?,
            parts => joined(call, parts, axis)?,
        };
    }
    Ok(vec![made])
}

fn blocks(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let side = usize::try_from(call.node.number("blocksize", 1)).unwrap_or(0).max(1);
    let &[batch, channels, height, width] = &x.shape[..] else {
        return Err(call.wrong("an input that is no map"));
    };
    let squared = side.checked_mul(side).ok_or_else(|| call.wrong("blocks too large"))?;
    if call.node.operator == "SpaceToDepth" {
        let (rows, columns) = (height / side, width / side);
        let shape = vec![batch, channels, rows, side, columns, side];
        let x = Array { shape, values: x.values.clone() };
        if rows * side != height || columns * side != width {
            return Err(call.wrong("blocks that do not fill the map"));
        }
        let mut made = x.transpose(&[0, 3, 5, 1, 2, 4], call.budget)?;
        made.shape = vec![batch, channels.saturating_mul(squared), rows, columns];
        return Ok(vec![made]);
    }
    if !channels.is_multiple_of(squared) {
        return Err(call.wrong("channels that are no whole blocks"));
    }
    let each = channels / squared;
    let is_column_first = call.node.text("mode") == Some("CRD");
    let shape = if is_column_first {
        vec![batch, each, side, side, height, width]
    } else {
        vec![batch, side, side, each, height, width]
    };
    let order = if is_column_first { [0, 1, 4, 2, 5, 3] } else { [0, 3, 4, 1, 5, 2] };
    let mut made = Array { shape, values: x.values.clone() }.transpose(&order, call.budget)?;
    made.shape = vec![batch, each, height * side, width * side];
    Ok(vec![made])
}
