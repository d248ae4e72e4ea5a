//! What a gallery on a server may say of its classes and entries: a push, a pull and a search refuse the same.

use std::ops::RangeInclusive;

use authoring::label::{check_metadata, check_shown, quoted};
use authoring::picture::is_thumbnail;
use models::gallery::{Class, Metadata};

/// Length of an entry's embedding: 1 but for rounding.
pub(super) const LENGTH: RangeInclusive<f64> = 0.9..=1.1;

/// What is wrong with a class that somebody else has written down: texts that steer how others are shown, a threshold that
/// is no number, a thumbnail (or its beginning) that is no picture.
pub(crate) fn wrong_class(class: &Class, thumbnail: &[u8]) -> Option<String> {
    let named = |what: String| Some(format!("class {}: {what}", quoted(&class.label)));
    if let Some(what) = wrong_texts(&class.label, &class.metadata) {
        return named(what);
    }
    if let Some(least) = class.min_similarity.filter(|least| !least.is_finite()) {
        return named(format!("a threshold of {least}"));
    }
    if !is_thumbnail(thumbnail) {
        return named("its thumbnail is no picture".to_owned());
    }
    None
}

/// What is wrong with the label and the metadata of a class.
pub(crate) fn wrong_texts(label: &str, metadata: &Metadata) -> Option<String> {
    let label = check_shown(label).err();
    let texts = || metadata.iter().find_map(|(name, text)| check_metadata(name, text).err());
    label.or_else(texts).map(|error| error.to_string())
}

/// Whether an embedding has the length of an entry.
pub(super) fn is_entry(embedding: &[f32]) -> bool {
    let square = embedding.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    LENGTH.contains(&square.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_is_no_picture_is_found() {
        let class = |label: &str, metadata: &[(&str, &str)], min_similarity| Class {
            label: label.to_owned(),
            metadata: metadata.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
            min_similarity,
        };
        let good = class("K\u{e4}se \u{200f}", &[("price", "3 \u{20ac}\nor less")], Some(0.5));
        assert_eq!(wrong_class(&good, b""), None);
        assert_eq!(wrong_class(&good, b"\xff\xd8\xff\xe0 and so on"), None);
        // Older galleries have such labels.
        assert_eq!(wrong_class(&class("", &[], None), b""), None);
        for (class, thumbnail, told) in [
            (class("a\u{1b}[2J", &[], None), &b""[..], "the name of a class holds U+001B"),
            (class("a\u{202e}", &[], None), b"", "U+202E"),
            (class("a", &[("b\u{9b}", "c")], None), b"", "the name of metadata holds U+009B"),
            (class("a", &[("b", "c\u{7}")], None), b"", "the text of metadata holds U+0007"),
            (class("a", &[], Some(f32::NAN)), b"", "a threshold of NaN"),
            (good, b"<script>", "its thumbnail is no picture"),
        ] {
            let found = wrong_class(&class, thumbnail).unwrap();
            assert!(found.contains(told) && !found.contains('\u{1b}'), "{found}");
        }
        assert!(is_entry(&[0.6, 0.8]) && !is_entry(&[0.0, 0.0]) && !is_entry(&[f32::NAN, 1.0]));
    }
}
