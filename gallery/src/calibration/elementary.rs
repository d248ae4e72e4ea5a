//! Exponential and logarithm whose last digits are the same on every machine: a system's own library is free to
//! round them in its own way.

use std::f64::consts::LN_2;

/// Largest exponent: beyond it a probability is 0 or 1 anyway.
const MOST: f64 = 600.0;
/// Terms of the exponential's series; the rest is below the last digit for |x| ≤ ln 2 / 2.
const EXP_TERMS: u32 = 16;
/// Terms of the logarithm's series, for values between √½ and √2.
const LN_TERMS: u32 = 16;

/// e to a power.
pub(super) fn exp(x: f64) -> f64 {
    let x = x.clamp(-MOST, MOST);
    let power = (x / LN_2).round();
    let rest = x - power * LN_2;
    let mut sum = 1.0;
    for term in (1..=EXP_TERMS).rev() {
        sum = 1.0 + sum * rest / f64::from(term);
    }
    sum * f64::from_bits(((1023 + power as i64) as u64) << 52)
}

/// Natural logarithm of a positive number.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.max(f64::MIN_POSITIVE).to_bits();
    let mut power = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        power += 1;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for term in (0..LN_TERMS).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    2.0 * ratio * sum + power as f64 * LN_2
}

/// The logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + exp(-x)) } else { exp(x) / (1.0 + exp(x)) }
}

/// What a probability of an outcome costs: −ln of what was given to it.
pub(super) fn log_loss(probability: f64, right: bool) -> f64 {
    -ln(if right { probability } else { 1.0 - probability }.max(1e-12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_the_machines_own() {
        for step in -4000_i32..=4000 {
            let x = f64::from(step) / 40.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "exp {x}");
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() < 1e-13 * (1.0 + x.abs()), "ln {y}");
        }
        assert_eq!((exp(0.0), ln(1.0), sigmoid(0.0)), (1.0, 0.0, 0.5));
        assert!(sigmoid(900.0) <= 1.0 && sigmoid(-900.0) >= 0.0 && sigmoid(-900.0) < 1e-100);
    }
}
