//! Operators on single values.

use super::OnnxError;
use super::array::{Array, Values};
use super::interpret::{Call, Made};
use super::model::Node;

/// The function of an operator on single values.
pub(super) fn operator(name: &str) -> Option<fn(&Call<'_>) -> Made> {
    Some(match name {
        "Relu" => |call| floats(call, |x| x.max(0.0)),
        "Sigmoid" => |call| floats(call, sigmoid),
        "Tanh" => |call| floats(call, f32::tanh),
        "Erf" => |call| floats(call, erf),
        "Exp" => |call| floats(call, f32::exp),
        "Log" => |call| floats(call, f32::ln),
        "Sqrt" => |call| floats(call, f32::sqrt),
        "Reciprocal" => |call| floats(call, f32::recip),
        "Softplus" => |call| floats(call, softplus),
        "Floor" => |call| floats(call, f32::floor),
        "Ceil" => |call| floats(call, f32::ceil),
        "Mish" => |call| floats(call, |x| x * softplus(x).tanh()),
        "HardSwish" => |call| floats(call, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "HardSigmoid" => |call| {
            let (slope, middle) = (call.node.float("alpha", 0.2), call.node.float("beta", 0.5));
            floats(call, |x| (slope * x + middle).clamp(0.0, 1.0))
        },
        "LeakyRelu" => |call| {
            let slope = call.node.float("alpha", 0.01);
            floats(call, |x| if x < 0.0 { slope * x } else { x })
        },
        "Elu" => |call| {
            let slope = call.node.float("alpha", 1.0);
            floats(call, |x| if x < 0.0 { slope * (x.exp() - 1.0) } else { x })
        },
        "Gelu" => |call| match call.node.text("approximate") {
            Some("tanh") => floats(call, gelu_by_tanh),
            _ => floats(call, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
        },
        "Clip" => clip,
        "Neg" => |call| either(call, |x| -x, i64::wrapping_neg),
        "Abs" => |call| either(call, f32::abs, i64::wrapping_abs),
        "Identity" | "Dropout" => |call| Ok(vec![call.input(0)?.clone()]),
        "Cast" => cast,
        "Not" => |call| either(call, |x| f32::from(x == 0.0), |x| i64::from(x == 0)),
        "PRelu" => |call| binary(call, |x, slope| if x < 0.0 { slope * x } else { x }, |x, _| x),
        "Add" => |call| binary(call, |a, b| a + b, i64::wrapping_add),
        "Sub" => |call| binary(call, |a, b| a - b, i64::wrapping_sub),
        "Mul" => |call| binary(call, |a, b| a * b, i64::wrapping_mul),
        // What is divided by 0 is never used as a length.
        "Div" => |call| binary(call, |a, b| a / b, |a, b| a.checked_div(b).unwrap_or(0)),
        "Mod" => |call| binary(call, |a, b| a % b, |a, b| a.checked_rem_euclid(b).unwrap_or(0)),
        "Pow" => power,
        "Min" => |call| several(call, f32::min, i64::min),
        "Max" => |call| several(call, f32::max, i64::max),
        "Equal" => |call| compare(call, |a, b| a == b, |a, b| a == b),
        "Less" => |call| compare(call, |a, b| a < b, |a, b| a < b),
        "LessOrEqual" => |call| compare(call, |a, b| a <= b, |a, b| a <= b),
        "Greater" => |call| compare(call, |a, b| a > b, |a, b| a > b),
        "GreaterOrEqual" => |call| compare(call, |a, b| a >= b, |a, b| a >= b),
        "And" => |call| compare(call, |_, _| false, |a, b| a != 0 && b != 0),
        "Or" => |call| compare(call, |_, _| false, |a, b| a != 0 || b != 0),
        "Where" => choose,
        _ => return None,
    })
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn gelu_by_tanh(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// The error function: its series near 0, a continued fraction further out.
pub(super) fn erf(x: f32) -> f32 {
    let z = f64::from(x.abs());
    let value = if z < 2.0 {
        let (mut term, mut sum) = (z, z);
        for index in 1..40 {
            let n = f64::from(index);
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
        }
        2.0 / std::f64::consts::PI.sqrt() * sum
    } else if z < 6.0 {
        let fraction = (1..=60).rev().fold(z, |rest, index| z + f64::from(index) / 2.0 / rest);
        1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
    } else {
        1.0
    };
    (value as f32).copysign(x)
}

fn floats(call: &Call<'_>, function: impl Fn(f32) -> f32) -> Made {
    let x = call.input(0)?;
    let values = x.as_floats()?.iter().map(|x| function(*x)).collect();
    Ok(vec![Array::floats(x.shape.clone(), values)])
}

fn either(call: &Call<'_>, function: impl Fn(f32) -> f32, of_numbers: impl Fn(i64) -> i64) -> Made {
    let x = call.input(0)?;
    let values = match &x.values {
        Values::Floats(values) => Values::Floats(values.iter().map(|x| function(*x)).collect()),
        Values::Numbers(values) => Values::Numbers(values.iter().map(|x| of_numbers(*x)).collect()),
    };
    Ok(vec![Array { shape: x.shape.clone(), values }])
}

fn pair(
    call: &Call<'_>,
    a: &Array,
    b: &Array,
    function: impl Fn(f32, f32) -> f32,
    of_numbers: impl Fn(i64, i64) -> i64,
) -> Result<Array, OnnxError> {
    match (&a.values, &b.values) {
        (Values::Floats(x), Values::Floats(y)) => {
            let (shape, values) = Array::zip((&a.shape, x), (&b.shape, y), call.budget, function)?;
            Ok(Array::floats(shape, values))
        }
        (Values::Numbers(x), Values::Numbers(y)) => {
            let (shape, values) =
                Array::zip((&a.shape, x), (&b.shape, y), call.budget, of_numbers)?;
            Ok(Array::numbers(shape, values))
        }
        _ => Err(call.wrong("floats and whole numbers together")),
    }
}

fn binary(
    call: &Call<'_>,
    function: impl Fn(f32, f32) -> f32,
    of_numbers: impl Fn(i64, i64) -> i64,
) -> Made {
    Ok(vec![pair(call, call.input(0)?, call.input(1)?, function, of_numbers)?])
}

fn power(call: &Call<'_>) -> Made {
    let (x, exponent) = (call.input(0)?, call.input(1)?);
    // The exponent may be of another type.
    if let (Values::Floats(_), Values::Numbers(numbers)) = (&x.values, &exponent.values) {
        let floats = numbers.iter().map(|number| *number as f32).collect();
        let exponent = Array::floats(exponent.shape.clone(), floats);
        return Ok(vec![pair(call, x, &exponent, f32::powf, |x, _| x)?]);
    }
    let whole = |x: i64, exponent: i64| {
        u32::try_from(exponent).map_or(0, |exponent| x.wrapping_pow(exponent))
    };
    Ok(vec![pair(call, x, exponent, f32::powf, whole)?])
}

fn several(
    call: &Call<'_>,
    function: impl Fn(f32, f32) -> f32 + Copy,
    of_numbers: impl Fn(i64, i64) -> i64 + Copy,
) -> Made {
    let mut all = call.input(0)?.clone();
    for index in 1..call.inputs.len() {
        all = pair(call, &all, call.input(index)?, function, of_numbers)?;
    }
    Ok(vec![all])
}

fn compare(
    call: &Call<'_>,
    function: impl Fn(f32, f32) -> bool,
    of_numbers: impl Fn(i64, i64) -> bool,
) -> Made {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (shape, values) = match (&a.values, &b.values) {
        (Values::Floats(x), Values::Floats(y)) => {
            Array::zip((&a.shape, x), (&b.shape, y), call.budget, |a, b| i64::from(function(a, b)))?
        }
        (Values::Numbers(x), Values::Numbers(y)) => {
            let of = |a, b| i64::from(of_numbers(a, b));
            Array::zip((&a.shape, x), (&b.shape, y), call.budget, of)?
        }
        _ => return Err(call.wrong("floats and whole numbers together")),
    };
    Ok(vec![Array::numbers(shape, values)])
}

fn choose(call: &Call<'_>) -> Made {
    let (which, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = super::array::broadcast(&which.shape, &a.shape)?;
    let shape = super::array::broadcast(&shape, &b.shape)?;
    let [which, a, b] = [which, a, b].map(|array| array.expand(&shape, call.budget));
    let (which, a, b) = (which?, a?, b?);
    let which = which.as_numbers()?.iter();
    let values = match (&a.values, &b.values) {
        (Values::Floats(a), Values::Floats(b)) => {
            let both = which.zip(a.iter().zip(b));
            Values::Floats(both.map(|(w, (a, b))| if *w != 0 { *a } else { *b }).collect())
        }
        (Values::Numbers(a), Values::Numbers(b)) => {
            let both = which.zip(a.iter().zip(b));
            Values::Numbers(both.map(|(w, (a, b))| if *w != 0 { *a } else { *b }).collect())
        }
        _ => return Err(call.wrong("floats and whole numbers together")),
    };
    Ok(vec![Array { shape, values }])
}

/// Bounds of a `Clip`, which are inputs; without one the value is free.
pub(super) fn bounds(least: Option<&Array>, most: Option<&Array>) -> Result<[f32; 2], OnnxError> {
    let of = |bound: Option<&Array>, free: f32| {
        let value = bound.map_or(Some(free), Array::scalar);
        value.ok_or_else(|| OnnxError::damaged("a bound is more than one value".to_owned()))
    };
    Ok([of(least, f32::NEG_INFINITY)?, of(most, f32::INFINITY)?])
}

fn clip(call: &Call<'_>) -> Made {
    let [least, most] = bounds(call.optional(1), call.optional(2))?;
    either(call, |x| x.max(least).min(most), |x| (x as f32).max(least).min(most) as i64)
}

/// Whether a `Cast` leaves floats what they are.
pub(super) fn is_to_float(node: &Node) -> bool {
    matches!(node.number("to", 1), 1 | 10 | 11 | 16)
}

fn cast(call: &Call<'_>) -> Made {
    let x = call.input(0)?;
    let is_float = is_to_float(call.node);
    let is_truth = call.node.number("to", 1) == 9;
    let values = match &x.values {
        Values::Floats(values) if is_float => Values::Floats(values.clone()),
        Values::Floats(values) if is_truth => {
            Values::Numbers(values.iter().map(|x| i64::from(*x != 0.0)).collect())
        }
        Values::Floats(values) => Values::Numbers(values.iter().map(|x| *x as i64).collect()),
        Values::Numbers(values) if is_float => {
            Values::Floats(values.iter().map(|x| *x as f32).collect())
        }
        Values::Numbers(values) if is_truth => {
            Values::Numbers(values.iter().map(|x| i64::from(*x != 0)).collect())
        }
        Values::Numbers(values) => Values::Numbers(values.clone()),
    };
    Ok(vec![Array { shape: x.shape.clone(), values }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_that_of_tables() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.1, 0.112_462_92),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (1.999, 0.995_301_6),
            (2.0, 0.995_322_3),
            (3.0, 0.999_977_9),
            (7.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 2e-6, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + expected).abs() < 2e-6);
        }
    }
}
