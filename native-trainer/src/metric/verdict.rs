//! Whether training was worth it: two rates on the same pictures, and which of two networks to keep.

use serde::{Deserialize, Serialize};

/// The rate of the weights that training begins with, on pictures that it does not see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// The file or folder of the weights.
    pub weights: String,
    /// Width and height of the pictures that they saw, in pixels.
    pub input: [u32; 2],
    /// Share of queries whose nearest picture is of their class.
    pub recall1: f64,
}

/// Two networks compared on the same pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Rate before training.
    pub before: f64,
    /// Rate of the trained network.
    pub trained: f64,
    /// Pictures that were asked about.
    pub queries: usize,
}

/// Standard error of a share of `count` things.
pub fn standard_error(share: f64, count: usize) -> f64 {
    (share * (1.0 - share) / count.max(1) as f64).max(0.0).sqrt()
}

impl Verdict {
    /// Whether the trained network is the one to keep.
    pub fn keeps_trained(&self) -> bool {
        self.trained > self.before
    }

    /// Whether the difference is larger than chance alone would make it two times out of three.
    pub fn is_certain(&self) -> bool {
        let errors = [self.before, self.trained].map(|rate| standard_error(rate, self.queries));
        (self.trained - self.before).abs() > errors[0].hypot(errors[1])
    }

    /// Which to keep, for people; `weights` names those from before.
    pub fn sentence(&self, weights: &str) -> String {
        let rate = |rate: f64| {
            format!("{:.1} % (± {:.1})", 100.0 * rate, 100.0 * standard_error(rate, self.queries))
        };
        let (trained, before) = (rate(self.trained), rate(self.before));
        let figures = format!(
            "on {} pictures that training did not see, recall1 is {trained}; before training, with {weights}, \
             it was {before}",
            self.queries
        );
        let advice = match (self.keeps_trained(), self.is_certain()) {
            (true, true) => "keep the trained network",
            (true, false) => {
                "keep the trained network; the difference may be chance, more pictures would tell"
            }
            (false, true) => {
                "keep the network from before: training made it worse; more pictures a class would help"
            }
            (false, false) => {
                "keep the network from before: training did not make it better, as far as so few pictures \
                 tell"
            }
        };
        format!("{figures}: {advice}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_one_is_kept_and_chance_is_said() {
        let verdict = |before, trained, queries| Verdict { before, trained, queries };
        assert!((standard_error(0.5, 100) - 0.05).abs() < 1e-12);
        let shop = verdict(40.0 / 60.0, 34.0 / 60.0, 60);
        assert!(!shop.keeps_trained());
        let told = shop.sentence("lite0");
        assert!(told.contains("recall1 is 56.7 % (± 6.4)"), "{told}");
        assert!(told.contains("it was 66.7 % (± 6.1): keep the network from before"), "{told}");
        let grocery = verdict(0.559, 0.788, 2485);
        assert!(grocery.keeps_trained() && grocery.is_certain());
        assert!(grocery.sentence("lite0").ends_with(": keep the trained network"));
        assert!(verdict(0.5, 0.52, 50).sentence("w").contains("may be chance"));
        assert!(verdict(0.9, 0.2, 50).sentence("w").contains("made it worse"));
        // Two that are alike: what is there already is kept.
        assert!(!verdict(1.0, 1.0, 5).keeps_trained() && !verdict(1.0, 1.0, 5).is_certain());
    }
}
