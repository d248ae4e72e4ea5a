//! Numbers of the command line, and what each may be.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The least share that some number of things can show.
const LEAST_SHARE: f64 = 1e-6;

/// A cosine of two embeddings.
///
/// # Errors
///
/// A sentence for what is no number from −1 to 1.
pub(crate) fn cosine(text: &str) -> Result<f32, String> {
    within(text, &(-1.0..=1.0), "a cosine")
}

/// A score or an overlap.
///
/// # Errors
///
/// A sentence for what is no number from 0 to 1.
pub(crate) fn score(text: &str) -> Result<f32, String> {
    within(text, &(0.0..=1.0), "a score or an overlap")
}

/// The largest rotation to either side, in degrees.
///
/// # Errors
///
/// A sentence for what is no number from 0 to 180.
pub(crate) fn rotation(text: &str) -> Result<f32, String> {
    within(text, &(0.0..=180.0), "a rotation")
}

/// How much of the same variance in every direction a map is mixed with.
///
/// # Errors
///
/// A sentence for what is no number from 0.0001, below which a map is that of 0.0001, to 1.
pub(crate) fn strength(text: &str) -> Result<f32, String> {
    within(text, &(0.0001..=1.0), "a strength")
}

/// A share of things that some, but not all, of them are.
///
/// # Errors
///
/// A sentence for what is no number between 0 and 1, and for less than one of a million.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| LEAST_SHARE <= *value && *value < 1.0);
    value.ok_or_else(|| format!("a share is a number above 0 and below 1, at least {LEAST_SHARE}"))
}

/// How many, at least one.
///
/// # Errors
///
/// A sentence for what is no integer from 1 on.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    within(text, &(1..=usize::from(u16::MAX) * 1000), "a count")
}

fn within<T: FromStr + PartialOrd + Display>(
    text: &str,
    range: &RangeInclusive<T>,
    what: &str,
) -> Result<T, String> {
    let refused = || format!("{what} is a number from {} to {}", range.start(), range.end());
    let value = text.parse().ok().ok_or_else(refused)?;
    if range.contains(&value) { Ok(value) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_or_no_number_is_refused_by_a_sentence() {
        assert_eq!(
            (cosine("-0.5"), score("1"), share("0.01"), count("7")),
            (Ok(-0.5), Ok(1.0), Ok(0.01), Ok(7))
        );
        let told = "a cosine is a number from -1 to 1";
        for text in ["3", "-3", "nan", "inf", "", "half"] {
            assert_eq!(cosine(text).unwrap_err(), told, "{text}");
        }
        for text in ["-0.1", "5", "nan", "NaN"] {
            let told = "a score or an overlap is a number from 0 to 1";
            assert_eq!(score(text).unwrap_err(), told, "{text}");
        }
        for text in ["-1", "181", "nan", "inf"] {
            assert_eq!(
                rotation(text).unwrap_err(),
                "a rotation is a number from 0 to 180",
                "{text}"
            );
        }
        for text in ["0", "1e-30", "1.5", "nan"] {
            let told = "a strength is a number from 0.0001 to 1";
            assert_eq!(strength(text).unwrap_err(), told, "{text}");
        }
        assert_eq!((rotation("12"), strength("0.0001")), (Ok(12.0), Ok(0.0001)));
        for text in ["0", "1e-300", "1", "1.5", "-0.1", "nan", "inf", "x"] {
            assert_eq!(
                share(text).unwrap_err(),
                "a share is a number above 0 and below 1, at least 0.000001",
                "{text}"
            );
        }
        for text in ["0", "-1", "1.5", "99999999999999999999"] {
            assert!(count(text).unwrap_err().starts_with("a count is a number from 1"), "{text}");
        }
    }
}
