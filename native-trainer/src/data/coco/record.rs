//! A COCO file as it is written. Numbers as texts, null and other harmless spellings are understood; what is
//! wrong with a record is kept in it, so that the reader can name all of it.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use models::image::MAX_PIXELS;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::CocoError;
use super::loose::{Loose, quote_python_numbers};

/// Everything of a file that is used.
#[derive(Debug, Clone)]
pub(super) struct Records {
    pub(super) images: Vec<ImageRecord>,
    pub(super) annotations: Vec<AnnotationRecord>,
    pub(super) categories: BTreeSet<Id>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct ImageRecord {
    #[serde(default)]
    pub(super) id: Id,
    #[serde(default, deserialize_with = "text")]
    pub(super) file_name: Option<String>,
    #[serde(default)]
    pub(super) width: Side,
    #[serde(default)]
    pub(super) height: Side,
}

impl ImageRecord {
    /// Its file's name, as a message shows it.
    pub(super) fn name(&self) -> &str {
        self.file_name.as_deref().unwrap_or("no name")
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct AnnotationRecord {
    #[serde(default)]
    id: Id,
    #[serde(default)]
    pub(super) image_id: Id,
    #[serde(default)]
    pub(super) category_id: Id,
    #[serde(default)]
    pub(super) bbox: Frame,
    #[serde(default, deserialize_with = "finite")]
    pub(super) area: Option<f64>,
    #[serde(default)]
    pub(super) iscrowd: Crowd,
}

impl AnnotationRecord {
    /// By its id, else by its place in the list.
    pub(super) fn name(&self, index: usize) -> String {
        match &self.id {
            Id::Absent | Id::Unusable => format!("annotations[{index}]"),
            id => format!("annotation {id}"),
        }
    }
}

/// What tells pictures and categories apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "Loose")]
pub(super) enum Id {
    #[default]
    Absent,
    Whole(i64),
    Text(Box<str>),
    /// A fraction, a list, a number that a reader of JSON rounds.
    Unusable,
}

impl Id {
    pub(super) fn is_usable(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Text(_))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "without number"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Unusable => write!(f, "of no usable number"),
        }
    }
}

impl From<Loose> for Id {
    fn from(value: Loose) -> Self {
        /// Floats hold every integer up to here.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match value {
            Loose::Null => Self::Absent,
            Loose::Signed(number) => Self::Whole(number),
            Loose::Unsigned(number) => match i64::try_from(number) {
                Ok(number) => Self::Whole(number),
                Err(_) => Self::Text(number.to_string().into()),
            },
            Loose::Real(number) if number.fract() == 0.0 && number.abs() < EXACT => {
                Self::Whole(number as i64)
            }
            // "7" is 7, "07" is not.
            Loose::Text(text) => match text.parse::<i64>() {
                Ok(number) if number.to_string() == text => Self::Whole(number),
                _ if text.is_empty() => Self::Unusable,
                _ => Self::Text(text.into()),
            },
            _ => Self::Unusable,
        }
    }
}

/// A width or height.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Loose")]
pub(super) enum Side {
    #[default]
    Absent,
    Pixels(u32),
    /// As it is written.
    Impossible(Box<str>),
}

impl Side {
    pub(super) fn pixels(&self) -> Option<u32> {
        match self {
            Self::Pixels(pixels) => Some(*pixels),
            Self::Absent | Self::Impossible(_) => None,
        }
    }

    pub(super) fn is_impossible(&self) -> bool {
        matches!(self, Self::Impossible(_))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "?"),
            Self::Pixels(pixels) => write!(f, "{pixels}"),
            Self::Impossible(text) => write!(f, "{text}"),
        }
    }
}

impl From<Loose> for Side {
    fn from(value: Loose) -> Self {
        if matches!(value, Loose::Null) {
            return Self::Absent;
        }
        match value.number() {
            Some(number)
                if number.fract() == 0.0 && (1.0..=MAX_PIXELS as f64).contains(&number) =>
            {
                Self::Pixels(number as u32)
            }
            Some(number) => Self::Impossible(number.to_string().into()),
            None => Self::Impossible(value.shown().into()),
        }
    }
}

/// Left, top, width, height.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(from = "Loose")]
pub(super) enum Frame {
    #[default]
    None,
    Sides([f64; 4]),
}

impl From<Loose> for Frame {
    fn from(value: Loose) -> Self {
        match value {
            Loose::List { first: [Some(x), Some(y), Some(w), Some(h)], length: 4 } => {
                Self::Sides([x, y, w, h])
            }
            _ => Self::None,
        }
    }
}

/// Whether a box holds many objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Loose")]
pub(super) enum Crowd {
    #[default]
    No,
    Yes,
    Unclear,
}

impl From<Loose> for Crowd {
    fn from(value: Loose) -> Self {
        match &value {
            Loose::Null | Loose::Flag(false) => Self::No,
            Loose::Flag(true) => Self::Yes,
            Loose::Text(text) if text.eq_ignore_ascii_case("false") => Self::No,
            Loose::Text(text) if text.eq_ignore_ascii_case("true") => Self::Yes,
            value => match value.number() {
                Some(0.0) => Self::No,
                Some(1.0) => Self::Yes,
                _ => Self::Unclear,
            },
        }
    }
}

/// A text that is not blank; nothing where it is anything else.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Text(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    })
}

/// A finite number; nothing where it is anything else.
fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Loose::deserialize(deserializer)?.number().filter(|number| number.is_finite()))
}

/// Most records of a list: twice those of the largest public sets.
const MOST_RECORDS: usize = 30_000_000;
/// Least bytes of a record, but for the first thousand: brackets alone must not fill the memory.
const LEAST_BYTES: usize = 24;

#[derive(Default)]
struct Document {
    images: Option<Vec<ImageRecord>>,
    annotations: Option<Vec<AnnotationRecord>>,
    categories: Option<Vec<Loose>>,
}

/// Reads a document whose lists have a limited number of records.
struct Most(usize);

impl<'de> DeserializeSeed<'de> for Most {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Most {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `images` and `annotations`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "images" => document.images = Some(map.next_value_seed(List::new(self.0))?),
                "annotations" => {
                    document.annotations = Some(map.next_value_seed(List::new(self.0))?);
                }
                "categories" => document.categories = map.next_value_seed(Maybe(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(document)
    }
}

/// A list of a limited number of records.
struct List<T> {
    most: usize,
    kind: PhantomData<T>,
}

impl<T> List<T> {
    fn new(most: usize) -> Self {
        Self { most, kind: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut records = Vec::new();
        while let Some(record) = list.next_element()? {
            if records.len() == self.most {
                let text = format!("more than the {} records that are read of it", self.most);
                return Err(A::Error::custom(text));
            }
            records.push(record);
        }
        Ok(records)
    }
}

/// A list that may be null.
struct Maybe(usize);

impl<'de> DeserializeSeed<'de> for Maybe {
    type Value = Option<Vec<Loose>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Maybe {
    type Value = Option<Vec<Loose>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of records")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        List::new(self.0).deserialize(deserializer).map(Some)
    }
}

/// Reads the text of a file that is named in errors.
pub(super) fn parse(path: &Path, mut text: Vec<u8>) -> Result<Records, CocoError> {
    let form = |reason: &str| CocoError::Form { path: path.to_owned(), reason: reason.to_owned() };
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(form("this is UTF-16 text; save it as UTF-8"));
    }
    let begin = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let text = &mut text[begin..];
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(form("the file is empty")),
        Some(b'[') => {
            return Err(form(
                "this is a list, as detectors write their answers; a COCO file is an object with `images` and \
                 `annotations`",
            ));
        }
        Some(_) => {}
    }
    quote_python_numbers(text);
    let most = MOST_RECORDS.min(1000 + text.len() / LEAST_BYTES);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let document = Most(most).deserialize(&mut reader);
    let document = document.and_then(|document| reader.end().map(|()| document));
    let document = document.map_err(|error| {
        let whole = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = whole.strip_suffix(&place).unwrap_or(&whole);
        let reason = if error.is_eof() {
            format!("{reason}: the file is cut off; copy or export it again")
        } else {
            format!("{reason} (column {})", error.column())
        };
        CocoError::Line { path: path.to_owned(), line: error.line(), reason }
    })?;
    let lacks = |key: &str| {
        form(&format!("has no `{key}`; a COCO file has `images`, `annotations` and `categories`"))
    };
    let images = document.images.ok_or_else(|| lacks("images"))?;
    let annotations = document.annotations.ok_or_else(|| lacks("annotations"))?;
    if images.is_empty() {
        return Err(form("`images` is empty: no pictures to learn from"));
    }
    let categories = document.categories.unwrap_or_default().into_iter();
    let categories = categories.filter_map(|category| match category {
        Loose::Record(id) if id.is_usable() => Some(*id),
        _ => None,
    });
    Ok(Records { images, annotations, categories: categories.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Result<Records, String> {
        parse(Path::new("f.json"), text.as_bytes().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn harmless_spellings_are_understood() {
        let text = "\u{feff}{\"images\": [
            {\"id\": 1.0, \"file_name\": \"ключ \\\"a\\\".jpg\", \"width\": 640.0, \"height\": \"480\"},
            {\"id\": \"2\", \"file_name\": \"b.jpg\", \"width\": null, \"height\": 0},
            {\"id\": \"02\", \"file_name\": \" \", \"width\": 1e9, \"height\": \"12,5\"},
            {\"id\": -3, \"file_name\": 7, \"license\": [NaN, -Infinity]},
            {\"id\": 18446744073709551615}, {\"id\": 1.5}, {\"id\": null}, {\"id\": 1e300}],
            \"annotations\": [
            {\"id\": null, \"image_id\": \"1\", \"bbox\": [\"1\", 2, 3.5, \" 4e0 \"], \"iscrowd\": false, \"area\": NaN},
            {\"image_id\": 2, \"category_id\": \"thing\", \"bbox\": [1, 2, 3], \"iscrowd\": true},
            {\"bbox\": null, \"iscrowd\": \"1\"}, {\"bbox\": {\"x\": 1}, \"iscrowd\": 2}],
            \"categories\": [{\"name\": \"x\", \"id\": -1}, {\"id\": \"thing\"}, 3, null]}";
        let Records { images, annotations, categories } = records(text).unwrap();
        let ids: Vec<String> = images.iter().map(|image| image.id.to_string()).collect();
        let none = "of no usable number";
        assert_eq!(
            ids,
            ["1", "2", "\"02\"", "-3", "\"18446744073709551615\"", none, "without number", none]
        );
        assert_eq!(images[0].file_name.as_deref(), Some("ключ \"a\".jpg"));
        assert_eq!((images[0].width.pixels(), images[0].height.pixels()), (Some(640), Some(480)));
        assert_eq!((&images[1].width, images[1].height.is_impossible()), (&Side::Absent, true));
        assert_eq!(format!("{}×{}", images[2].width, images[2].height), "1000000000×\"12,5\"");
        assert_eq!((&images[2].file_name, &images[3].file_name), (&None, &None));
        assert_eq!(annotations[0].bbox, Frame::Sides([1.0, 2.0, 3.5, 4.0]));
        assert!(annotations[1..].iter().all(|annotation| annotation.bbox == Frame::None));
        let crowds: Vec<Crowd> = annotations.iter().map(|annotation| annotation.iscrowd).collect();
        assert_eq!(crowds, [Crowd::No, Crowd::Yes, Crowd::Yes, Crowd::Unclear]);
        assert_eq!((annotations[0].area, annotations[0].image_id == images[0].id), (None, true));
        assert_eq!(categories.len(), 2);
    }

    #[test]
    fn numbers_that_json_has_no_word_for_are_told_from_texts() {
        let text = r#"{"images": [{"id": 1, "file_name": "NaN \" -Infinity"}], "annotations":
            [{"bbox": [NaN, Infinity, -Infinity, -5]}, {"bbox": [1, 2, 3, "nan"]}]}"#;
        let records = records(text).unwrap();
        assert_eq!(records.images[0].name(), "NaN \" -Infinity");
        let Frame::Sides([x, y, w, h]) = records.annotations[0].bbox else {
            panic!("four numbers")
        };
        assert!(x.is_nan());
        assert_eq!([y, w, h], [f64::INFINITY, f64::NEG_INFINITY, -5.0]);
        assert!(matches!(records.annotations[1].bbox, Frame::Sides([_, _, _, h]) if h.is_nan()));
    }

    #[test]
    fn brackets_alone_do_not_fill_the_memory() {
        let many = |record: &str| vec![record; 3000].join(",");
        for (list, record) in [("images", "{}"), ("annotations", "[]"), ("categories", "0")] {
            let error = records(&format!("{{\"{list}\": [{}]}}", many(record))).unwrap_err();
            assert!(error.contains("records that are read of it"), "{list}: {error}");
        }
        let shortest = many(r#"{"id":1,"file_name":"a"}"#);
        records(&format!("{{\"images\": [{shortest}], \"annotations\": []}}")).unwrap();
    }

    #[test]
    fn what_is_no_coco_file_is_named() {
        for (text, reason) in [
            ("", "f.json: the file is empty"),
            (" [1]", "f.json: this is a list"),
            ("{\"annotations\": []}", "f.json: has no `images`"),
            ("{\"images\": [{}]}", "f.json: has no `annotations`"),
            ("{\"images\": [], \"annotations\": []}", "f.json: `images` is empty"),
            ("{\n\"images\": 3}", "f.json:2: invalid type: integer `3`"),
            ("{\"images\": [{\"id\": 1", "the file is cut off"),
            ("{\"images\": [NaNa]}", "f.json:1: "),
            ("{\"images\": []} x", "f.json:1: trailing characters"),
            ("3", "f.json:1: invalid type: integer `3`, expected an object"),
        ] {
            let error = records(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let utf16 = parse(Path::new("f.json"), vec![0xff, 0xfe, b'{', 0]).unwrap_err();
        assert!(matches!(utf16, CocoError::Form { .. }), "{utf16}");
    }
}
