//! A gallery learns from its own entries when it is built and when it has grown.

use clap::{Args, ValueEnum};
use models::gallery::{AdaptationMap, Gallery, has_grown};

use super::{ENTRIES, many};
use authoring::adaptation::{MOST_UNASKED, Options, Outcome, adapt_again, adapt_and_calibrate};

/// Whether a command lets the gallery learn something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum When {
    /// If it is worth keeping.
    #[default]
    Auto,
    /// Not.
    Never,
}

/// Whether answer rule and threshold are measured on the gallery's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Measure {
    /// If that is worth keeping; a threshold that was measured with other pictures, or given by hand, stays.
    #[default]
    Auto,
    /// In the place of any threshold.
    Always,
    /// Not.
    Never,
}

/// What a gallery learns from its own entries.
#[derive(Debug, Args)]
pub(in crate::command) struct Learn {
    /// Whether the gallery learns a map from its entries, as `magpie gallery adapt` does.
    #[arg(long, value_enum, default_value_t)]
    adapt: When,
    /// Whether the gallery measures answer rule and threshold on its entries, as `magpie gallery calibrate --write`
    /// does.
    #[arg(long, value_enum, default_value_t)]
    calibrate: Measure,
}

impl Learn {
    /// What is wanted.
    pub(in crate::command) fn options(&self) -> Options {
        Options {
            adapt: self.adapt == When::Auto,
            calibrate: self.calibrate != Measure::Never,
            ..Options::default()
        }
    }

    /// Whether the threshold of a gallery stays: it is asked for no other one, and not to be without its map.
    pub(in crate::command) fn keeps(&self, before: &Gallery) -> bool {
        let has_map = before.map().is_some();
        self.calibrate != Measure::Always && (self.adapt == When::Auto || !has_map)
    }

    /// Whether a gallery of this size learns. Tells it where it is too large to do so unasked.
    pub(in crate::command) fn is_wanted(&self, entries: usize, tell: &mut dyn FnMut(&str)) -> bool {
        let options = self.options();
        if !options.adapt && !options.calibrate {
            return false;
        }
        if entries > MOST_UNASKED {
            tell(&format!(
                "{}: a gallery of more than {MOST_UNASKED} learns by `magpie gallery adapt` and `magpie gallery \
                 calibrate --write` alone",
                many(entries, ENTRIES)
            ));
            return false;
        }
        true
    }

    /// Lets a gallery that is new learn; whether it changed.
    pub(super) fn first(&self, gallery: &mut Gallery) -> anyhow::Result<bool> {
        Ok(tell_of(&adapt_and_calibrate(gallery, &self.options())?))
    }

    /// Lets a gallery learn anew that has grown by a quarter since it did, or since `before` entries; whether a
    /// threshold of before holds no more.
    pub(super) fn again(&self, gallery: &mut Gallery, before: usize) -> anyhow::Result<bool> {
        let then = gallery.map().map_or(before, |map| AdaptationMap::about(map).entries);
        let new = gallery.len().saturating_sub(then);
        let mut tell = |text: &str| println!("{text}");
        if !has_grown(then, gallery.len()) || !self.is_wanted(gallery.len(), &mut tell) {
            return Ok(false);
        }
        if self.calibrate == Measure::Always {
            gallery.set_min_similarity(None)?;
        }
        if then > 0 {
            println!("learned from {} before, there are {new} more:", many(then, ENTRIES));
        }
        Ok(tell_of(&adapt_again(gallery, &self.options())?))
    }
}

/// Prints what was learned; whether the gallery changed.
fn tell_of(outcome: &Outcome) -> bool {
    say(outcome);
    outcome.changed()
}

/// Prints what was learned.
pub(super) fn say(outcome: &Outcome) {
    outcome.lines().iter().for_each(|line| println!("{line}"));
}
