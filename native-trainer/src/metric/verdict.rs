//! Whether training was worth it: two rates on the same pictures, and which of two networks to keep.
//!
//! The interval of a rate is Wilson's, that of a difference Newcombe's by way of it
//! (Stat. Med. 17 (1998) 873, method 10). That one is for two sets of pictures. Both networks see the same ones here,
//! and mostly err on the same ones, so that it is rather too wide than too narrow.

use serde::{Deserialize, Serialize};

use crate::terminal::counted;
use authoring::calibration::Share;

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

/// Which of two networks to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The trained one.
    Trained,
    /// The one that training began with.
    Before,
    /// So few pictures do not tell.
    Unclear,
}

impl Keep {
    /// The word for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Before => "before",
            Self::Unclear => "unclear",
        }
    }
}

impl Verdict {
    /// A rate as a share of the images.
    fn share(&self, rate: f64) -> Share {
        Share { count: (rate * self.queries as f64).round() as usize, of: self.queries }
    }

    /// Which network to keep. One is better only where chance would make as large a difference less than once in
    /// twenty times.
    pub fn keep(&self) -> Keep {
        let [before, trained] = [self.before, self.trained].map(|rate| self.share(rate).interval());
        let difference = self.trained - self.before;
        let below = (self.trained - trained[0]).hypot(before[1] - self.before);
        let above = (trained[1] - self.trained).hypot(self.before - before[0]);
        if difference - below > 0.0 {
            Keep::Trained
        } else if difference + above < 0.0 {
            Keep::Before
        } else {
            Keep::Unclear
        }
    }

    /// Which to keep, in a sentence; `weights` names those from before.
    pub fn sentence(&self, weights: &str) -> String {
        let rate = |rate: f64| {
            let [low, high] = self.share(rate).interval().map(|end| 100.0 * end);
            format!("{:.1} % ({low:.0} to {high:.0})", 100.0 * rate)
        };
        let (trained, before) = (rate(self.trained), rate(self.before));
        let pictures = counted(self.queries, "picture", "pictures");
        let advice = match self.keep() {
            Keep::Trained => "keep the trained network".to_owned(),
            Keep::Before => "keep the network from before: training made it worse; more pictures per class would help"
                .to_owned(),
            Keep::Unclear => format!(
                "too few pictures to tell which is better: {} held out; the difference may be chance",
                self.queries
            ),
        };
        format!(
            "on {pictures} that training did not see, recall@1 is {trained}; before training, with {weights}, it was \
             {before}: {advice}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Newcombe's examples: 81 of 263, 15 of 148, 0 of 20 (Stat. Med. 17 (1998) 857, table I).
        for (right, count, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
        {
            let got = Share { count: right, of: count }.interval();
            let is_near = |a: f64, b: f64| (a - b).abs() < 5e-5;
            assert!(is_near(got[0], low) && is_near(got[1], high), "{right} of {count}: {got:?}");
        }
    }

    #[test]
    fn the_better_one_is_kept_and_chance_is_said() {
        let verdict = |before, trained, queries| Verdict { before, trained, queries };
        let shop = verdict(40.0 / 60.0, 34.0 / 60.0, 60);
        assert_eq!(shop.keep(), Keep::Unclear);
        let told = shop.sentence("lite0");
        assert!(told.contains("recall@1 is 56.7 % (44 to 68)"), "{told}");
        assert!(told.contains("it was 66.7 % (54 to 77): too few pictures to tell"), "{told}");
        assert!(told.contains(": 60 held out"), "{told}");
        let grocery = verdict(0.559, 0.788, 2485);
        assert_eq!(grocery.keep(), Keep::Trained);
        assert!(grocery.sentence("lite0").ends_with(": keep the trained network"));
        assert_eq!(verdict(0.5, 0.52, 50).keep(), Keep::Unclear);
        // A handful tells nothing, however far apart; one picture more or less in many does not either.
        assert_eq!(verdict(0.25, 0.75, 4).keep(), Keep::Unclear);
        assert_eq!(verdict(0.5, 0.51, 1000).keep(), Keep::Unclear);
        assert!(verdict(0.9, 0.2, 50).sentence("w").contains("made it worse"));
        assert_eq!(verdict(1.0, 1.0, 5).keep(), Keep::Unclear);
        // Of 60 pictures 11 more are needed.
        assert_eq!(verdict(0.5, 40.0 / 60.0, 60).keep(), Keep::Unclear);
        assert_eq!(verdict(0.5, 41.0 / 60.0, 60).keep(), Keep::Trained);
        assert!(verdict(0.0, 0.0, 1).sentence("w").starts_with("on 1 picture that"));
    }
}
