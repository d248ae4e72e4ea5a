//! Learning rate by step.
//!
//! Agrees with PaddleClas `ppcls/optimizer/learning_rate.py` @ d178931 and PaddleDetection's cosine
//! behind a warm-up @ 666f597, but for one thing: a step within the warm-up has the rate that it ends with, as every
//! epoch of `by_epoch` has. In the references the first step of a warm-up from zero changes nothing, and a run of one
//! step learns nothing.

use serde::{Deserialize, Serialize};

/// How the rate falls behind the warm-up. Epochs count from the end of the warm-up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Decay {
    /// Half a cosine down to `end`.
    Cosine {
        /// Rate at the end of training.
        #[serde(default)]
        end: f64,
    },
    /// A straight line down to `end`.
    Linear {
        /// Rate at the end of training.
        #[serde(default)]
        end: f64,
    },
    /// Multiplied by `gamma` at every milestone.
    MultiStep {
        /// Epochs, ascending.
        milestones: Vec<usize>,
        /// Factor; 0.1 in the reference.
        gamma: f64,
    },
    /// `rates[i]` until epoch `epochs[i]`, the last one from then on.
    Piecewise {
        /// Epochs, ascending.
        epochs: Vec<usize>,
        /// One more than `epochs`; the first is `learning_rate`.
        rates: Vec<f64>,
    },
    /// Multiplied by `gamma` every `epochs` epochs.
    Step {
        /// Epochs between two falls.
        epochs: usize,
        /// Factor; 0.1 in the reference.
        gamma: f64,
    },
    /// Stays.
    #[default]
    Constant,
    /// Multiplied by a factor when the evaluation stops getting better, see [`Plateau`].
    ReduceOnPlateau(PlateauOptions),
}

/// A warm-up and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Largest learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// Epochs in which the rate rises; parts of an epoch are allowed.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// Rate that the warm-up starts from.
    #[serde(default)]
    pub warmup_start: f64,
    /// Whether the rate changes between epochs only.
    #[serde(default)]
    pub by_epoch: bool,
    /// What follows the warm-up.
    #[serde(default = "default_decay")]
    pub decay: Decay,
}

fn default_decay() -> Decay {
    Decay::Cosine { end: 0.0 }
}

impl Schedule {
    /// Half a cosine behind a warm-up from zero.
    pub fn cosine(learning_rate: f64, warmup_epochs: f64) -> Self {
        Self {
            learning_rate,
            warmup_epochs,
            warmup_start: 0.0,
            by_epoch: false,
            decay: default_decay(),
        }
    }

    /// Whether the run ends before the rate has ever been at its largest for a whole step.
    pub fn is_all_warmup(&self, epochs: usize) -> bool {
        epochs > 0 && self.warmup_epochs >= epochs as f64
    }

    /// Rate of a step counted from 0.
    pub fn rate(&self, step: usize, steps_per_epoch: usize, epochs: usize) -> f64 {
        // Rates by epoch are those that the epoch ends with, as the reference numbers them.
        let step = if self.by_epoch {
            (step / steps_per_epoch.max(1) + 1) * steps_per_epoch
        } else {
            step
        } as f64;
        let per_epoch = steps_per_epoch as f64;
        let warmup = self.warmup_epochs * per_epoch;
        // By epoch the end is taken already.
        let step = if step < warmup && !self.by_epoch { step + 1.0 } else { step };
        if step < warmup {
            let rise = self.learning_rate - self.warmup_start;
            return self.warmup_start + rise * step / warmup;
        }
        let length = ((epochs * steps_per_epoch) as f64 - warmup).max(1.0);
        let progress = ((step - warmup) / length).min(1.0);
        let epoch = ((step - warmup) / per_epoch.max(1.0)).floor() as usize;
        let between = |end: f64, share: f64| end + (self.learning_rate - end) * share;
        match &self.decay {
            Decay::Cosine { end } => {
                between(*end, 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()))
            }
            Decay::Linear { end } => between(*end, 1.0 - progress),
            Decay::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|m| **m <= epoch).count();
                self.learning_rate * gamma.powi(passed as i32)
            }
            Decay::Piecewise { epochs, rates } => {
                let passed = epochs.iter().filter(|e| **e <= epoch).count();
                rates.get(passed).or(rates.last()).copied().unwrap_or(self.learning_rate)
            }
            Decay::Step { epochs, gamma } => {
                self.learning_rate * gamma.powi((epoch / (*epochs).max(1)) as i32)
            }
            Decay::Constant | Decay::ReduceOnPlateau(_) => self.learning_rate,
        }
    }

    /// Name of the decay in log lines.
    pub fn name(&self) -> &'static str {
        match self.decay {
            Decay::Cosine { .. } => "Cosine",
            Decay::Linear { .. } => "Linear",
            Decay::MultiStep { .. } => "MultiStepDecay",
            Decay::Piecewise { .. } => "Piecewise",
            Decay::Step { .. } => "Step",
            Decay::Constant => "ConstLR",
            Decay::ReduceOnPlateau(_) => "ReduceOnPlateau",
        }
    }

    /// The state of [`Decay::ReduceOnPlateau`] before any evaluation; `None` for the others.
    pub fn plateau(&self) -> Option<Plateau> {
        match self.decay {
            Decay::ReduceOnPlateau(options) => Some(Plateau::new(options, self.learning_rate)),
            _ => None,
        }
    }
}

/// When an evaluation counts as no better, and what happens then. Larger figures are better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauOptions {
    /// What the rate is multiplied by; 0.1 in the reference.
    pub factor: f64,
    /// Evaluations that may be no better before the rate falls; 10 in the reference.
    pub patience: usize,
    /// Share of the best figure by which a better one must exceed it; 1e-4 in the reference.
    pub threshold: f64,
    /// Evaluations after a fall that are not looked at.
    #[serde(default)]
    pub cooldown: usize,
    /// The rate never falls below.
    #[serde(default)]
    pub min_rate: f64,
}

/// A fall smaller than this is none.
const SMALLEST_FALL: f64 = 1e-8;

/// State of [`Decay::ReduceOnPlateau`]; a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    options: PlateauOptions,
    rate: f64,
    best: Option<f64>,
    waited: usize,
    resting: usize,
}

impl Plateau {
    /// The state before any evaluation.
    pub fn new(options: PlateauOptions, rate: f64) -> Self {
        Self { options, rate, best: None, waited: 0, resting: 0 }
    }

    /// Rate of the steps until the next evaluation.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes in the figure of an evaluation.
    pub fn observe(&mut self, figure: f64) {
        if self.resting > 0 {
            self.resting -= 1;
            return;
        }
        if self.best.is_none_or(|best| figure > best * (1.0 + self.options.threshold)) {
            self.best = Some(figure);
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if self.waited > self.options.patience {
            self.waited = 0;
            self.resting = self.options.cooldown;
            let rate = (self.rate * self.options.factor).max(self.options.min_rate);
            if self.rate - rate > SMALLEST_FALL {
                self.rate = rate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_nothing() {
        let schedule = Schedule::cosine(0.1, 2.0);
        let rate = |step| schedule.rate(step, 10, 12);
        assert!((rate(0) - 0.005).abs() < 1e-12);
        assert!((rate(9) - 0.05).abs() < 1e-12);
        assert!((rate(19) - 0.1).abs() < 1e-12 && (rate(20) - 0.1).abs() < 1e-12);
        assert!((rate(70) - 0.05).abs() < 1e-12);
        assert!(rate(119) < 1e-4 && rate(500) < 1e-12);
        assert!((20..119).all(|step| rate(step + 1) < rate(step)));
    }

    #[test]
    fn the_shortest_run_learns_at_its_rate() {
        let schedule = Schedule::cosine(0.1, 1.0);
        assert!((schedule.rate(0, 1, 1) - 0.1).abs() < 1e-12);
        assert!(schedule.is_all_warmup(1) && !schedule.is_all_warmup(2));
        assert!((0..4).all(|step| schedule.rate(step, 4, 1) > 0.0));
        assert!(!Schedule::cosine(0.1, 0.0).is_all_warmup(1));
    }

    #[test]
    fn a_line_falls_evenly_and_a_constant_stays() {
        let line = Schedule { decay: Decay::Linear { end: 0.02 }, ..Schedule::cosine(0.1, 0.0) };
        assert!((line.rate(50, 10, 10) - 0.06).abs() < 1e-12);
        assert!((line.rate(100, 10, 10) - 0.02).abs() < 1e-12);
        let constant = Schedule { decay: Decay::Constant, ..Schedule::cosine(0.1, 0.0) };
        assert_eq!(constant.rate(77, 10, 10), 0.1);
    }
}
