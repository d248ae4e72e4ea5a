//! Exponential moving averages of a network's weights.
//!
//! Agrees with PaddleClas `ppcls/utils/ema.py` @ d178931 ([`Ema::from_weights`]) and PaddleDetection
//! `ppdet/optimizer/ema.py` @ 666f597 ([`Ema::from_zero`]). Difference: which average is meant is a
//! constructor, not a class.

use std::collections::BTreeMap;

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

/// An average and how it came about; a checkpoint keeps it whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ema {
    decay: EmaDecay,
    /// Read-outs after which the average starts again; `None`: never.
    cycle: Option<u64>,
    from_zero: bool,
    steps: u64,
    read_outs: u64,
    /// Values by parameter path, with their shapes.
    average: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Ema {
    /// An average that starts as a copy of the weights.
    pub fn from_weights(decay: EmaDecay, weights: &Weights) -> Self {
        let mut ema = Self::from_zero(decay, None);
        ema.from_zero = false;
        let copy = |(name, tensor): (&String, &NamedTensor)| {
            (name.clone(), (tensor.shape.clone(), tensor.values.clone()))
        };
        ema.average = weights.tensors.iter().map(copy).collect();
        ema
    }

    /// An average that starts at zero and is divided by the share that it has seen. With a `cycle`
    /// it starts again after so many read-outs (Cycle-EMA, 20 in the detector's recipe).
    pub fn from_zero(decay: EmaDecay, cycle: Option<u64>) -> Self {
        let average = BTreeMap::new();
        Self { decay, cycle, from_zero: true, steps: 0, read_outs: 0, average }
    }

    /// Takes in the weights after a step; new paths start at zero.
    pub fn update(&mut self, weights: &Weights) {
        let decay = self.decay.at(self.steps) as f32;
        for (name, tensor) in &weights.tensors {
            let (_, average) = self
                .average
                .entry(name.clone())
                .or_insert_with(|| (tensor.shape.clone(), vec![0.0; tensor.values.len()]));
            for (a, w) in average.iter_mut().zip(&tensor.values) {
                *a = decay * *a + (1.0 - decay) * w;
            }
        }
        self.steps += 1;
    }

    /// Steps since the average (re)started.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The averaged weights, for an evaluation or an export.
    pub fn read_out(&mut self) -> Weights {
        // The reference divides by the share that the last decay alone would leave.
        let exact = self.from_zero && !matches!(self.decay, EmaDecay::Exponential { .. });
        let share = if exact && self.steps > 0 {
            1.0 - self.decay.at(self.steps - 1).powi(self.steps as i32)
        } else {
            1.0
        };
        let tensors = self.average.iter().map(|(name, (shape, average))| {
            let values = average.iter().map(|v| (f64::from(*v) / share) as f32).collect();
            (name.clone(), NamedTensor { shape: shape.clone(), values })
        });
        let weights = Weights { tensors: tensors.collect() };
        self.read_outs += 1;
        if self.cycle.is_some_and(|cycle| self.read_outs % cycle == 0) {
            self.steps = 0;
            self.average.clear();
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
        assert_eq!(ema.steps(), 1);
    }
}
