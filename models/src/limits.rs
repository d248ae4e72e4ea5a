//! How large networks and their inputs may be: what files, recipes and peers say is held against it before
//! anything is made of it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use thiserror::Error;

/// Longest side of a network's input, in pixels: three times that of the largest detector here (640), and 50 MB of
/// values.
pub const MAX_SIDE: u32 = 2048;
/// Most values of an embedding or of a layer that a description names: eight times what the widest backbone here
/// (ResNet-50, 2048) gives; twice what a gallery holds.
pub const MAX_WIDTH: usize = 16_384;
/// Most blocks of a stage or of a head: ResNet-152 has 36.
pub const MAX_BLOCKS: usize = 128;
/// Most classes of a detector: of the public sets LVIS has the most, 1,203.
pub const MAX_CLASSES: usize = 10_000;
/// Factors of a network's channels.
pub const SCALES: RangeInclusive<f64> = 0.031_25..=8.0;
/// Probabilities of a dropout.
pub const DROPOUTS: RangeInclusive<f64> = 0.0..=0.99;
/// Deviations that a channel is divided by.
pub const DEVIATIONS: RangeInclusive<f32> = 1e-6..=1e6;
/// Means that are taken off a channel.
pub const MEANS: RangeInclusive<f32> = -1e6..=1e6;

/// A value that nothing can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} is {value}; {allowed}")]
pub struct LimitError {
    /// Which value, by its place in the description.
    pub key: String,
    /// As given.
    pub value: String,
    /// What may be given.
    pub allowed: String,
}

impl LimitError {
    /// Of a value by its key.
    pub fn new(key: &str, value: impl Display, allowed: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.to_string(), allowed: allowed.into() }
    }

    /// The same of a value that lies under `key.`.
    #[must_use]
    pub fn under(self, key: &str) -> Self {
        Self { key: format!("{key}.{}", self.key), ..self }
    }
}

/// Whether a value lies in a range; what is no number lies in none.
///
/// # Errors
///
/// [`LimitError`], naming the key and the range.
pub fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), LimitError> {
    if range.contains(&value) {
        return Ok(());
    }
    let allowed = format!("it may be from {} to {}", range.start(), range.end());
    Err(LimitError::new(key, value, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_is_named_with_its_key_and_the_range() {
        assert_eq!(within("side", 3, &(1..=3)), Ok(()));
        let error = within("side", 0, &(1..=3)).unwrap_err().under("preprocess");
        assert_eq!(error.to_string(), "preprocess.side is 0; it may be from 1 to 3");
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(within("scale", value, &SCALES).is_err(), "{value}");
        }
    }
}
