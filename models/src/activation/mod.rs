//! Activations behind convolutions.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

pub(crate) mod smooth;

#[cfg(feature = "tensors")]
use burn::tensor::{Tensor, activation};
#[cfg(any(test, feature = "flex"))]
use pulp::Scalar;
use serde::{Deserialize, Serialize};

/// Function applied after a convolution and its normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x`
    Identity = 0,
    /// `max(x, 0)`
    Relu = 1,
    /// `x · clip(x + 3, 0, 6) / 6`
    HardSwish = 2,
    /// `clip(x, 0, 6)`
    Relu6 = 3,
    /// `x · σ(x)`
    Silu = 4,
    /// `x · Φ(x)`, Φ being the normal distribution's cumulative function.
    Gelu = 5,
    /// `x · σ(1.702 · x)`, CLIP's stand-in for [`Self::Gelu`].
    QuickGelu = 6,
    /// `x / 2 · (1 + tanh(√(2 / π) · (x + 0.044715 · x³)))`, another one, of `SigLIP`.
    GeluTanh = 7,
}

impl Activation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Relu,
        Self::HardSwish,
        Self::Relu6,
        Self::Silu,
        Self::Gelu,
        Self::QuickGelu,
        Self::GeluTanh,
    ];

    /// Coefficients of the powers of `x²` whose sum times `x` is the argument of the sigmoid that
    /// [`Self::Gelu`] multiplies `x` by, the lowest first: what comes of them is at most 1e-7 off `x · Φ(x)`.
    pub const GELU: [f32; 7] = [
        1.595_768_6,
        0.072_668_3,
        -6.605_346e-5,
        -1.105_467_6e-4,
        7.948_14e-6,
        -2.675_663e-7,
        3.627_852e-9,
    ];
    /// The largest `x²` that [`Self::GELU`] was fitted to; from there on the sum stays.
    pub const GELU_END: f32 = 36.0;
    /// What `x` is multiplied by in the sigmoid of [`Self::QuickGelu`].
    pub const QUICK: f32 = 1.702;
    /// As [`Self::GELU`] of [`Self::GeluTanh`]: `2 · √(2 / π)`, and 0.044715 of that.
    pub const TANH: [f32; 2] = [1.595_769_2, 0.071_354_814];

    /// Whether an exponential is part of it. On the CPU such an activation is a pass over what a convolution wrote, while
    /// it is in the cache.
    pub(crate) const fn is_smooth(self) -> bool {
        matches!(self, Self::Silu | Self::Gelu | Self::QuickGelu | Self::GeluTanh)
    }

    /// Applies the function elementwise.
    #[cfg(feature = "tensors")]
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::HardSwish => {
                let gate = activation::hard_sigmoid(x.clone(), 1.0 / 6.0, 0.5);
                x * gate
            }
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Silu => activation::silu(x),
            // Burn's own has the gradient of another approximation on some devices.
            Self::Gelu => {
                let share = ((x.clone() / std::f64::consts::SQRT_2).erf() + 1.0) / 2.0;
                x * share
            }
            Self::QuickGelu => x.clone() * activation::sigmoid(x * Self::QUICK),
            Self::GeluTanh => {
                let [first, third] = Self::TANH;
                let argument = (x.clone().powi_scalar(2) * third + first) * x.clone();
                x * activation::sigmoid(argument)
            }
        }
    }

    #[cfg(feature = "tensors")]
    pub(crate) fn from_index(index: usize) -> Self {
        Self::ALL[index]
    }
}

/// [`Activation::Silu`] of a value.
#[cfg(any(test, feature = "flex"))]
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    smooth::silu(Scalar, x)
}

/// [`Activation::Gelu`] of a value.
#[cfg(any(test, feature = "flex"))]
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    smooth::gelu(Scalar, x)
}

/// [`Activation::QuickGelu`] of a value.
#[cfg(any(test, feature = "flex"))]
#[inline(always)]
pub(crate) fn quick_gelu(x: f32) -> f32 {
    smooth::quick_gelu(Scalar, x)
}

/// [`Activation::GeluTanh`] of a value.
#[cfg(any(test, feature = "flex"))]
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    smooth::gelu_tanh(Scalar, x)
}

/// Derivative of [`silu`].
#[cfg(feature = "flex")]
#[inline(always)]
pub(crate) fn silu_slope(x: f32) -> f32 {
    let share = smooth::sigmoid(Scalar, x);
    share * (1.0 + x * (1.0 - share))
}

/// Derivative of [`gelu`].
#[cfg(feature = "flex")]
#[inline(always)]
pub(crate) fn gelu_slope(x: f32) -> f32 {
    // 1 / √(2π)
    smooth::normal_share(Scalar, x) + x * 0.398_942_3 * smooth::exponential(Scalar, -0.5 * x * x)
}

/// Derivative of [`quick_gelu`].
#[cfg(feature = "flex")]
#[inline(always)]
pub(crate) fn quick_gelu_slope(x: f32) -> f32 {
    let share = smooth::quick_share(Scalar, x);
    share * (1.0 + Activation::QUICK * x * (1.0 - share))
}

/// Derivative of [`gelu_tanh`].
#[cfg(feature = "flex")]
#[inline(always)]
pub(crate) fn gelu_tanh_slope(x: f32) -> f32 {
    let [first, third] = Activation::TANH;
    let share = smooth::tanh_share(Scalar, x);
    share * (1.0 + x * (first + 3.0 * third * x * x) * (1.0 - share))
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::*;
    use crate::simd::dispatch;

    /// Φ by its series, for values of which 60 terms are enough.
    fn normal(x: f64) -> f64 {
        let terms = (0..60).scan(x, |term, index| {
            let this = *term;
            *term *= x * x / f64::from(2 * index + 3);
            Some(this)
        });
        0.5 + terms.sum::<f64>() * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn smooth_activations_are_those_of_their_formulas() {
        for step in -600..=600 {
            let x = step as f32 / 100.0;
            let wide = f64::from(x);
            let share = 1.0 / (1.0 + (-wide).exp());
            assert!((f64::from(silu(x)) - wide * share).abs() < 1e-6, "silu({x})");
            assert!((f64::from(gelu(x)) - wide * normal(wide)).abs() < 2e-6, "gelu({x})");
            let quick = wide / (1.0 + (-1.702 * wide).exp());
            assert!((f64::from(quick_gelu(x)) - quick).abs() < 1e-6, "quick_gelu({x})");
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = wide / 2.0 * (1.0 + (root * (wide + 0.044_715 * wide.powi(3))).tanh());
            assert!((f64::from(gelu_tanh(x)) - tanh).abs() < 2e-6, "gelu_tanh({x})");
        }
        for x in [-500.0, -88.0, 0.0] {
            assert!(silu(x).abs() < 1e-30 && gelu(x).abs() < 1e-30, "{x}");
        }
        assert_eq!((silu(500.0), gelu(500.0), gelu(1e10)), (500.0, 500.0, 1e10));
        assert_eq!((quick_gelu(500.0), gelu_tanh(500.0), gelu_tanh(1e20)), (500.0, 500.0, 1e20));
        assert!(quick_gelu(-500.0).abs() < 1e-30 && gelu_tanh(-1e10).abs() < 1e-25);
    }

    struct Exponentials<'a>(&'a mut [f32]);

    impl WithSimd for Exponentials<'_> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            smooth::exponentials(simd, self.0)
        }
    }

    #[test]
    fn shares_of_exponentials_are_those_of_a_plain_loop() {
        for count in [1, 2, 16, 37, 64] {
            let mut values: Vec<f32> =
                (0..count).map(|i| ((i * 37) % 23) as f32 * 3.0 - 20.0).collect();
            let most = values.iter().copied().fold(f32::MIN, f32::max);
            let wanted: Vec<f32> = values.iter().map(|value| (value - most).exp()).collect();
            let sum = dispatch(Exponentials(&mut values));
            assert!((sum - wanted.iter().sum::<f32>()).abs() < 1e-5 * sum, "{count}");
            assert!(values.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{count}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn slopes_are_those_of_the_functions() {
        for step in -80..=80 {
            let x = step as f32 / 10.0;
            for (function, slope) in [
                (silu as fn(f32) -> f32, silu_slope as fn(f32) -> f32),
                (gelu, gelu_slope),
                (quick_gelu, quick_gelu_slope),
                (gelu_tanh, gelu_tanh_slope),
            ] {
                let apart = (function(x + 0.01) - function(x - 0.01)) / 0.02;
                assert!((apart - slope(x)).abs() < 1e-3, "at {x}: {apart} against {}", slope(x));
            }
        }
    }
}
