//! Learning rate by step.

use serde::{Deserialize, Serialize};

/// Cosine decay to zero behind a linear warm-up.
///
/// Agrees with PaddleClas `ppcls/optimizer/learning_rate.py` (`Cosine`, by step) @ d178931.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Largest learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// Epochs in which the rate rises from zero; parts of an epoch are allowed.
    pub warmup_epochs: f64,
}

impl Schedule {
    /// Rate of a step counted from 0.
    pub fn rate(&self, step: usize, steps_per_epoch: usize, epochs: usize) -> f64 {
        let warmup = self.warmup_epochs * steps_per_epoch as f64;
        let step = step as f64;
        if step < warmup {
            return self.learning_rate * step / warmup;
        }
        let length = (epochs * steps_per_epoch) as f64 - warmup;
        let progress = ((step - warmup) / length.max(1.0)).min(1.0);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_nothing() {
        let schedule = Schedule { learning_rate: 0.1, warmup_epochs: 2.0 };
        let rate = |step| schedule.rate(step, 10, 12);
        assert!(rate(0).abs() < 1e-12);
        assert!((rate(10) - 0.05).abs() < 1e-12);
        assert!((rate(20) - 0.1).abs() < 1e-12);
        assert!((rate(70) - 0.05).abs() < 1e-12);
        assert!(rate(119) < 1e-4 && rate(500) < 1e-12);
        assert!((20..119).all(|step| rate(step + 1) < rate(step)));
    }
}
