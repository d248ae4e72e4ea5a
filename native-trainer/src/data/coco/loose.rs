//! Values of JSON as people write them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::record::Id;

/// What stands for a number that is none, see [`quote_python_numbers`].
const NOT_A_NUMBER: &str = "?";

/// Any value of JSON, as far as it is used.
#[derive(Debug, Clone)]
pub(super) enum Loose {
    Null,
    Flag(bool),
    Signed(i64),
    Unsigned(u64),
    Real(f64),
    Text(String),
    /// The first ones as numbers, and how many there are.
    List {
        first: [Option<f64>; 4],
        length: usize,
    },
    /// The value of its key `id`.
    Record(Box<Id>),
}

impl Loose {
    /// What is no number, as an error shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Flag(flag) => flag.to_string(),
            _ => "no number".to_owned(),
        }
    }

    /// Numbers, and texts that hold one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Signed(number) => Some(*number as f64),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            Self::Text(text) if text == NOT_A_NUMBER => Some(f64::NAN),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Null | Self::Flag(_) | Self::List { .. } | Self::Record(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "any value")
            }
            fn visit_unit<E: Error>(self) -> Result<Loose, E> {
                Ok(Loose::Null)
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Loose, E> {
                Ok(Loose::Flag(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Loose, E> {
                Ok(Loose::Signed(value))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Loose, E> {
                Ok(Loose::Unsigned(value))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Loose, E> {
                Ok(Loose::Real(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Loose, E> {
                Ok(Loose::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
                let (mut first, mut length) = ([None; 4], 0);
                while let Some(value) = list.next_element::<Loose>()? {
                    if let Some(place) = first.get_mut(length) {
                        *place = value.number();
                    }
                    length += 1;
                }
                Ok(Loose::List { first, length })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut record: A) -> Result<Loose, A::Error> {
                let mut id = Id::Absent;
                while let Some(key) = record.next_key::<String>()? {
                    if key == "id" {
                        id = record.next_value()?;
                    } else {
                        record.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Loose::Record(Box::new(id)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Python writes NaN and Infinity, for which JSON has no words: texts of the same length take their places, so
/// that the boxes that they stand in can be named.
pub(super) fn quote_python_numbers(text: &mut [u8]) {
    const WORDS: [(&[u8], &[u8]); 3] =
        [(b"NaN", b"\"?\""), (b"Infinity", b"\"inf\"   "), (b"-Infinity", b"\"-inf\"   ")];
    let (mut at, mut is_inside) = (0, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => is_inside = !is_inside,
            // What follows is no end.
            b'\\' if is_inside => at += 1,
            b'N' | b'I' | b'-' if !is_inside => {
                for (word, quoted) in WORDS {
                    if text[at..].starts_with(word) {
                        text[at..at + word.len()].copy_from_slice(quoted);
                        at += word.len() - 1;
                        break;
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
}
