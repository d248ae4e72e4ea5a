//! Operators that normalize.

use super::OnnxError;
use super::array::{Array, axis_of, strides};
use super::interpret::{Call, Made};
use super::layers::mean;

/// The function of an operator that normalizes.
pub(super) fn operator(name: &str) -> Option<fn(&Call<'_>) -> Made> {
    Some(match name {
        "BatchNormalization" => batch_norm,
        "InstanceNormalization" => |call| {
            let channels = call.input(0)?.shape.get(1).copied().unwrap_or(1);
            group_norm(call, channels)
        },
        "GroupNormalization" => {
            |call| group_norm(call, usize::try_from(call.node.number("num_groups", 1)).unwrap_or(0))
        }
        "LayerNormalization" => layer_norm,
        "Softmax" => softmax,
        _ => return None,
    })
}

/// A function of every value and of its place along the second axis.
fn along_channels(x: &Array, of: impl Fn(usize, f32) -> f32) -> Result<Array, OnnxError> {
    let channels = x.shape.get(1).copied().unwrap_or(1).max(1);
    let plane = x.shape.get(2..).unwrap_or_default().iter().product::<usize>().max(1);
    let values = x.as_floats()?.iter().enumerate();
    let values = values.map(|(index, value)| of(index / plane % channels, *value)).collect();
    Ok(Array::floats(x.shape.clone(), values))
}

/// An input of one value a channel.
fn of_channels<'a>(call: &Call<'a>, index: usize, channels: usize) -> Result<&'a [f32], OnnxError> {
    let values = call.input(index)?.as_floats()?;
    if values.len() == channels {
        Ok(values)
    } else {
        Err(call.wrong("another number of values than of channels"))
    }
}

fn batch_norm(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let channels = x.shape.get(1).copied().unwrap_or(1);
    let each = |index: usize| of_channels(call, index, channels);
    let (scale, shift, mean, variance) = (each(1)?, each(2)?, each(3)?, each(4)?);
    if call.node.number("training_mode", 0) == 1 {
        return Err(
            call.wrong("a normalization of a network that still learns, not of one for inference")
        );
    }
    let epsilon = call.node.float("epsilon", 1e-5);
    let of = |channel: usize, value: f32| {
        let deviation = (variance[channel] + epsilon).sqrt();
        (value - mean[channel]) / deviation * scale[channel] + shift[channel]
    };
    Ok(vec![along_channels(x, of)?])
}

/// Values of a run brought to mean 0 and variance 1.
fn normalize(run: &mut [f32], epsilon: f32) {
    let middle = mean(run);
    let variance = run.iter().map(|v| (v - middle) * (v - middle)).sum::<f32>() / run.len() as f32;
    let deviation = (variance + epsilon).sqrt();
    run.iter_mut().for_each(|value| *value = (*value - middle) / deviation);
}

fn group_norm(call: &Call<'_>, groups: usize) -> Made {
    let x = call.input(0)?;
    let channels = x.shape.get(1).copied().unwrap_or(1);
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(call.wrong("groups that do not divide the channels"));
    }
    // Before set 21 of operators there is a value for each group.
    let is_grouped = call.node.operator == "GroupNormalization" && call.operator_set < 21;
    let (scale, shift) = if is_grouped {
        (of_channels(call, 1, groups)?, of_channels(call, 2, groups)?)
    } else {
        (of_channels(call, 1, channels)?, of_channels(call, 2, channels)?)
    };
    let run = x.shape.iter().skip(1).product::<usize>() / groups;
    let mut values = x.as_floats()?.to_vec();
    let epsilon = call.node.float("epsilon", 1e-5);
    values.chunks_mut(run.max(1)).for_each(|run| normalize(run, epsilon));
    let place = |channel: usize| if is_grouped { channel / (channels / groups) } else { channel };
    let of = |channel: usize, value: f32| value * scale[place(channel)] + shift[place(channel)];
    Ok(vec![along_channels(&Array::floats(x.shape.clone(), values), of)?])
}

fn layer_norm(call: &Call<'_>) -> Made {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let axis = axis_of(call.node.number("axis", -1), x.shape.len())?;
    let run = x.shape[axis..].iter().product::<usize>().max(1);
    let mut values = x.as_floats()?.to_vec();
    let epsilon = call.node.float("epsilon", 1e-5);
    values.chunks_mut(run).for_each(|run| normalize(run, epsilon));
    let a = (&x.shape[..], &values[..]);
    let (shape, values) =
        Array::zip(a, (&scale.shape, scale.as_floats()?), call.budget, |a, b| a * b)?;
    let Some(bias) = call.optional(2) else { return Ok(vec![Array::floats(shape, values)]) };
    let bias = (&bias.shape[..], bias.as_floats()?);
    let (shape, values) = Array::zip((&shape, &values), bias, call.budget, |a, b| a + b)?;
    Ok(vec![Array::floats(shape, values)])
}

fn softmax(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let default = if call.operator_set < 13 { 1 } else { -1 };
    let axis = axis_of(call.node.number("axis", default), x.shape.len())?;
    let mut values = x.as_floats()?.to_vec();
    // Older sets take all axes from there on.
    let length: usize =
        if call.operator_set < 13 { x.shape[axis..].iter().product() } else { x.shape[axis] };
    let step = if call.operator_set < 13 { 1 } else { strides(&x.shape)[axis] };
    for start in (0..values.len()).filter(|at| at / step.max(1) % length.max(1) == 0) {
        let places = || (0..length).map(|at| start + at * step);
        let most = places().map(|at| values[at]).fold(f32::NEG_INFINITY, f32::max);
        places().for_each(|at| values[at] = (values[at] - most).exp());
        let sum: f32 = places().map(|at| values[at]).sum();
        places().for_each(|at| values[at] /= sum);
    }
    Ok(vec![Array::floats(x.shape.clone(), values)])
}
