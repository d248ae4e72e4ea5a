//! Exponential moving averages of a network's weights.
//!
//! Agrees with PaddleClas `ppcls/utils/ema.py` @ d178931 ([`Ema::from_weights`]) and PaddleDetection
//! `ppdet/optimizer/ema.py` @ 666f597 ([`Ema::from_zero`]). Difference: which average is meant is a
//! constructor, not a class.

use models::weights::{NamedTensor, Weights};
use serde::{Deserialize, Serialize};

/// How much of the average stays at a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum EmaDecay {
    /// Always the same share.
    Constant {
        /// 0.9999 in PaddleClas.
        decay: f64,
    },
    /// `min(decay, (1 + t) / (10 + t))`: young averages follow faster.
    Threshold {
        /// 0.9998 in the detector's recipe.
        decay: f64,
    },
    /// `decay · (1 − e^{−(t + 1) / 2000})`
    Exponential {
        /// 0.9998 in the detector's recipe.
        decay: f64,
    },
}

impl EmaDecay {
    fn at(self, step: u64) -> f64 {
        let t = step as f64;
        match self {
            Self::Constant { decay } => decay,
            Self::Threshold { decay } => decay.min((1.0 + t) / (10.0 + t)),
            Self::Exponential { decay } => decay * (1.0 - (-(t + 1.0) / 2000.0).exp()),
        }
    }
}

/// An average in a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// How much of the average stays at a step.
    pub decay: EmaDecay,
    /// Starts at zero and is divided by what it has seen, instead of starting as a copy of the
    /// weights; the detector's way.
    #[serde(default)]
    pub from_zero: bool,
    /// Evaluations after which an average from zero starts again; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<u64>,
}

impl EmaConfig {
    /// An average of a network that has not been trained yet.
    pub fn init(&self, weights: &Weights) -> Ema {
        if self.from_zero {
            Ema::from_zero(self.decay, self.cycle)
        } else {
            Ema::from_weights(self.decay, weights)
        }
    }

    /// An average that goes on from a checkpoint.
    pub fn resume(&self, age: EmaAge, average: Weights) -> Ema {
        let EmaConfig { decay, from_zero, cycle } = *self;
        Ema { decay, cycle, from_zero, age, average }
    }
}

/// What an average has gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmaAge {
    /// Steps since the average (re)started.
    pub steps: u64,
    /// Times that it was read.
    pub read_outs: u64,
}

/// An average and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Ema {
    decay: EmaDecay,
    cycle: Option<u64>,
    from_zero: bool,
    age: EmaAge,
    average: Weights,
}

impl Ema {
    /// An average that starts as a copy of the weights.
    pub fn from_weights(decay: EmaDecay, weights: &Weights) -> Self {
        let mut ema = Self::from_zero(decay, None);
        ema.from_zero = false;
        ema.average = weights.clone();
        ema
    }

    /// An average that starts at zero and is divided by the share that it has seen. With a `cycle`
    /// it starts again after this many read-outs (Cycle-EMA, 20 in the detector's recipe).
    pub fn from_zero(decay: EmaDecay, cycle: Option<u64>) -> Self {
        let (age, average) = (EmaAge::default(), Weights::default());
        Self { decay, cycle, from_zero: true, age, average }
    }

    /// Takes in the weights after a step; new paths start at zero.
    pub fn update(&mut self, weights: &Weights) {
        let decay = self.decay.at(self.age.steps) as f32;
        for (name, tensor) in &weights.tensors {
            let average = self.average.tensors.entry(name.clone()).or_insert_with(|| NamedTensor {
                shape: tensor.shape.clone(),
                values: vec![0.0; tensor.values.len()],
            });
            for (a, w) in average.values.iter_mut().zip(&tensor.values) {
                *a = decay * *a + (1.0 - decay) * w;
            }
        }
        self.age.steps += 1;
    }

    /// What the average has gone through.
    pub fn age(&self) -> EmaAge {
        self.age
    }

    /// The average as it is kept in a checkpoint; [`Self::read_out`] is what to use.
    pub fn state(&self) -> &Weights {
        &self.average
    }

    /// The averaged weights, for an evaluation or an export.
    pub fn read_out(&mut self) -> Weights {
        // The reference divides by the share that the last decay alone would leave.
        let exact = self.from_zero && !matches!(self.decay, EmaDecay::Exponential { .. });
        let steps = self.age.steps;
        let share = if exact && steps > 0 {
            1.0 - self.decay.at(steps - 1).powi(steps as i32)
        } else {
            1.0
        };
        let mut weights = self.average.clone();
        for value in weights.tensors.values_mut().flat_map(|tensor| &mut tensor.values) {
            *value = (f64::from(*value) / share) as f32;
        }
        self.age.read_outs += 1;
        if self.cycle.is_some_and(|cycle| self.age.read_outs.is_multiple_of(cycle)) {
            self.age.steps = 0;
            self.average = Weights::default();
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(value: f32) -> Weights {
        let tensor = NamedTensor { shape: vec![1], values: vec![value] };
        Weights { tensors: [("w".to_owned(), tensor)].into() }
    }

    #[test]
    fn constant_weights_are_their_own_average() {
        let mut ema = Ema::from_zero(EmaDecay::Constant { decay: 0.9 }, None);
        for _ in 0..5 {
            ema.update(&weights(3.0));
            let read = ema.read_out().tensors["w"].values[0];
            assert!((read - 3.0).abs() < 1e-5, "{read}");
        }
    }

    #[test]
    fn a_cycle_forgets() {
        let mut ema = Ema::from_zero(EmaDecay::Constant { decay: 0.9 }, Some(2));
        for value in [1.0, 1.0, 5.0] {
            ema.update(&weights(value));
            let read = ema.read_out().tensors["w"].values[0];
            assert!((read - value).abs() < 1e-5, "{read}");
        }
        assert_eq!(ema.age().steps, 1);
    }
}
