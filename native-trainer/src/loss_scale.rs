//! A factor that keeps small gradients above the least value of a 16-bit float.
//!
//! Source: "Mixed Precision Training", <https://arxiv.org/abs/1710.03740>, §3.2, with the factor found
//! while training: halved by a step whose gradients are not finite, which is not taken, doubled after
//! 2,000 steps without one.

use models::operators::mixed::HalfFloat;
use serde::{Deserialize, Serialize};

const FIRST: f64 = 65_536.0;
const LARGEST: f64 = 16_777_216.0;
/// Steps without an overflow before the factor is doubled.
const PATIENCE: u32 = 2_000;

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    factor: f64,
    /// Steps taken since the factor changed.
    steps: u32,
}

impl LossScale {
    /// For a run in mixed precision; what has the range of 32-bit floats needs none.
    pub fn begin(half: Option<HalfFloat>) -> Option<Self> {
        (half == Some(HalfFloat::F16)).then_some(Self { factor: FIRST, steps: 0 })
    }

    /// What the loss is multiplied by, and the gradients are divided by.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Takes note of a step's gradients.
    pub fn observe(&mut self, are_finite: bool) {
        if !are_finite {
            *self = Self { factor: (self.factor / 2.0).max(1.0), steps: 0 };
            return;
        }
        self.steps += 1;
        if self.steps == PATIENCE {
            *self = Self { factor: (self.factor * 2.0).min(LARGEST), steps: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_halves_the_factor_and_patience_doubles_it() {
        assert_eq!(LossScale::begin(None), None);
        assert_eq!(LossScale::begin(Some(HalfFloat::Bf16)), None);
        let mut scale = LossScale::begin(Some(HalfFloat::F16)).unwrap();
        scale.observe(false);
        assert_eq!(scale.factor(), FIRST / 2.0);
        (1..PATIENCE).for_each(|_| scale.observe(true));
        assert_eq!(scale.factor(), FIRST / 2.0);
        scale.observe(true);
        assert_eq!(scale.factor(), FIRST);
        (0..100).for_each(|_| scale.observe(false));
        assert_eq!(scale.factor(), 1.0);
        (0..PATIENCE * 40).for_each(|_| scale.observe(true));
        assert_eq!(scale.factor(), LARGEST);
    }
}
