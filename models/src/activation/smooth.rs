//! Smooth activations of vectors, in additions and products alone. A single value is a vector of one.

use pulp::Simd;

use super::Activation;
use crate::simd::{larger, smaller};

/// The sum of the powers of `x`, the coefficient of the zeroth first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[N - 1]);
    for coefficient in coefficients.into_iter().rev().skip(1) {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(coefficient));
    }
    sum
}

/// `e^x` for `x` from −87 to 88, a few units in the last place off.
#[inline(always)]
pub(super) fn exponential<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Added to a small number, leaves it rounded to an integer in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    /// One over the factorials.
    const SERIES: [f32; 7] =
        [1.0, 1.0, 0.5, 0.166_666_67, 0.041_666_67, 0.008_333_334, 0.001_388_889];
    let x = smaller(simd, larger(simd, x, simd.splat_f32s(-87.0)), simd.splat_f32s(88.0));
    let rounding = simd.splat_f32s(ROUNDING);
    let rounded = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), rounding);
    let count = simd.sub_f32s(rounded, rounding);
    // The logarithm of 2 in two parts, the first of which is a product without rounding.
    let r = simd.mul_add_e_f32s(count, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(count, simd.splat_f32s(2.121_944_4e-4), r);
    let bits = simd.transmute_u32s_f32s(rounded);
    let power = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    let power = simd.add_u32s(power, simd.splat_u32s(0x3f80_0000));
    simd.mul_f32s(simd.transmute_f32s_u32s(power), polynomial(simd, r, SERIES))
}

/// `1 / (1 + e^{−x})`
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let below = exponential(simd, simd.sub_f32s(simd.splat_f32s(0.0), x));
    simd.div_f32s(one, simd.add_f32s(one, below))
}

/// The sigmoid that `x` is multiplied by in [`Activation::Gelu`]: Φ.
#[inline(always)]
pub(super) fn normal_share<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let square = smaller(simd, simd.mul_f32s(x, x), simd.splat_f32s(Activation::GELU_END));
    sigmoid(simd, simd.mul_f32s(x, polynomial(simd, square, Activation::GELU)))
}

/// The sigmoid that `x` is multiplied by in [`Activation::QuickGelu`].
#[inline(always)]
pub(super) fn quick_share<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    sigmoid(simd, simd.mul_f32s(x, simd.splat_f32s(Activation::QUICK)))
}

/// The sigmoid that `x` is multiplied by in [`Activation::GeluTanh`].
#[inline(always)]
pub(super) fn tanh_share<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let argument = polynomial(simd, simd.mul_f32s(x, x), Activation::TANH);
    sigmoid(simd, simd.mul_f32s(x, argument))
}

/// [`Activation::Silu`] of a vector.
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, sigmoid(simd, x))
}

/// [`Activation::Gelu`] of a vector.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, normal_share(simd, x))
}

/// [`Activation::QuickGelu`] of a vector.
#[inline(always)]
pub(crate) fn quick_gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, quick_share(simd, x))
}

/// [`Activation::GeluTanh`] of a vector.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, tanh_share(simd, x))
}

/// The numerators of a softmax, in place, and their sum: `e^(x − most)`, `most` being the largest `x`.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(simd: S, values: &mut [f32]) -> f32 {
    // As many sums side by side whatever the vectors are: the order decides about the last bit.
    const SIDE: usize = 16;
    let mut most = [f32::NEG_INFINITY; SIDE];
    let (parts, left) = values.as_chunks::<SIDE>();
    for part in parts {
        most.iter_mut().zip(part).for_each(|(most, value)| *most = most.max(*value));
    }
    let most = most.iter().chain(left).fold(f32::NEG_INFINITY, |most, value| most.max(*value));
    let mut sums = [0.0; SIDE];
    let (parts, left) = values.as_chunks_mut::<SIDE>();
    for part in parts {
        for vector in S::as_mut_simd_f32s(part).0 {
            *vector = exponential(simd, simd.sub_f32s(*vector, simd.splat_f32s(most)));
        }
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += *value);
    }
    let sum = sums.iter().sum::<f32>();
    for part in left.chunks_mut(S::F32_LANES) {
        let vector = simd.sub_f32s(simd.partial_load_f32s(part), simd.splat_f32s(most));
        simd.partial_store_f32s(part, exponential(simd, vector));
    }
    left.iter().fold(sum, |sum, value| sum + value)
}
