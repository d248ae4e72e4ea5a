//! Schemas of what goes in and out, written from the types: JSON Schema 2020-12, as `OpenAPI` 3.1 has it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A type that JSON has.
pub(crate) trait Described {
    /// Its name among the schemas; empty where it stands in the place that it is used at.
    const NAME: &'static str = "";

    /// Its schema; those that it refers to go to `all`.
    fn schema(all: &mut Schemas) -> Value;
}

/// Schemas by name.
#[derive(Default)]
pub(crate) struct Schemas(Map<String, Value>);

impl Schemas {
    /// The schema of a type, or where it is found.
    pub(crate) fn of<T: Described>(&mut self) -> Value {
        if T::NAME.is_empty() {
            return T::schema(self);
        }
        if !self.0.contains_key(T::NAME) {
            let schema = T::schema(self);
            self.0.insert(T::NAME.to_owned(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{}", T::NAME)})
    }

    /// All that were referred to.
    pub(crate) fn all(self) -> Value {
        Value::Object(self.0)
    }
}

macro_rules! plain {
    ($($kind:ty: $schema:tt;)*) => {
        $(impl Described for $kind {
            fn schema(_: &mut Schemas) -> Value {
                json!($schema)
            }
        })*
    };
}

plain! {
    bool: {"type": "boolean"};
    String: {"type": "string"};
    &'static str: {"type": "string"};
    u16: {"type": "integer", "minimum": 0};
    u64: {"type": "integer", "minimum": 0};
    usize: {"type": "integer", "minimum": 0};
    f32: {"type": "number"};
    f64: {"type": "number"};
    models::gallery::Metadata: {"type": "object", "additionalProperties": {"type": "string"}};
}

impl<T: Described> Described for Option<T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"anyOf": [all.of::<T>(), {"type": "null"}]})
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "array", "items": all.of::<T>()})
    }
}

impl<T: Described, const COUNT: usize> Described for [T; COUNT] {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "array", "items": all.of::<T>(), "minItems": COUNT, "maxItems": COUNT})
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "object", "additionalProperties": all.of::<T>()})
    }
}

/// What is there where a value is: the schema of an `Option` without `null`.
pub(crate) fn there(schema: Value) -> Value {
    match schema.get("anyOf").and_then(|any| any.get(0)) {
        Some(first) => first.clone(),
        None => schema,
    }
}

/// What a value may be at least and at most.
pub(crate) struct Range {
    pub(crate) least: Value,
    pub(crate) most: Value,
    /// Whether it is neither of the two.
    pub(crate) is_open: bool,
}

/// How schemas have the ends of a range that belong to it, and that do not.
const CLOSED: [&str; 2] = ["minimum", "maximum"];
const OPEN: [&str; 2] = ["exclusiveMinimum", "exclusiveMaximum"];

/// The schema of a struct, as it is gathered field by field.
pub(crate) struct Object {
    schema: Map<String, Value>,
    properties: Map<String, Value>,
    required: Vec<Value>,
    /// Whether a field that is not sent has a value nevertheless.
    has_default: bool,
}

/// What the attributes of a field or a struct say.
#[derive(Default)]
pub(crate) struct Notes {
    text: String,
    serde: String,
}

impl Notes {
    /// Adds a line of the documentation.
    pub(crate) fn say(&mut self, line: &str) {
        let blank = if self.text.is_empty() { "" } else { " " };
        self.text = [&self.text, blank, line.trim()].concat();
    }

    /// Adds what serde is told.
    pub(crate) fn serde(&mut self, words: &str) {
        self.serde.push_str(words);
        self.serde.push(',');
    }

    fn has(&self, word: &str) -> bool {
        self.serde.split(|c: char| !c.is_alphanumeric() && c != '_').any(|has| has == word)
    }

    /// The name that serde is told.
    fn renamed(&self) -> Option<&str> {
        let (_, behind) = self.serde.split_once("rename")?;
        behind.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?.split('"').next()
    }
}

impl Object {
    /// A struct without fields.
    pub(crate) fn new(notes: &Notes) -> Self {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        schema.insert("description".to_owned(), notes.text.clone().into());
        if notes.has("deny_unknown_fields") {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
        Self {
            schema,
            properties: Map::new(),
            required: Vec::new(),
            has_default: notes.has("default"),
        }
    }

    /// Adds a field, with the range of its value if it has one.
    pub(crate) fn field(&mut self, name: &str, notes: &Notes, schema: Value, range: Option<Range>) {
        let name = notes.renamed().unwrap_or(name.trim_start_matches("r#")).to_owned();
        let is_left_out = notes.has("skip_serializing_if");
        let mut schema = if is_left_out { there(schema) } else { schema };
        let mut inner = &mut schema;
        while inner.get("anyOf").is_some() {
            inner = &mut inner["anyOf"][0];
        }
        if let (Some(inner), Some(Range { least, most, is_open })) = (inner.as_object_mut(), range)
        {
            let [low, high] = if is_open { OPEN } else { CLOSED };
            inner.insert(low.to_owned(), least);
            inner.insert(high.to_owned(), most);
        }
        if let (Some(schema), false) = (schema.as_object_mut(), notes.text.is_empty()) {
            schema.insert("description".to_owned(), notes.text.clone().into());
        }
        if !is_left_out && !self.has_default && !notes.has("default") {
            self.required.push(name.clone().into());
        }
        self.properties.insert(name, schema);
    }

    /// All of it.
    pub(crate) fn schema(mut self) -> Value {
        self.schema.insert("properties".to_owned(), self.properties.into());
        if !self.required.is_empty() {
            self.schema.insert("required".to_owned(), self.required.into());
        }
        self.schema.into()
    }
}

/// Reads the attributes of a field or a struct.
macro_rules! notes {
    (@ $notes:ident) => {};
    (@ $notes:ident [doc = $text:literal] $($rest:tt)*) => {
        $notes.say($text);
        $crate::service::schema::notes!(@ $notes $($rest)*);
    };
    (@ $notes:ident [serde($($words:tt)*)] $($rest:tt)*) => {
        $notes.serde(stringify!($($words)*));
        $crate::service::schema::notes!(@ $notes $($rest)*);
    };
    (@ $notes:ident [$($other:tt)*] $($rest:tt)*) => {
        $crate::service::schema::notes!(@ $notes $($rest)*);
    };
    ($($attributes:tt)*) => {{
        #[allow(unused_mut, reason = "a field may have no attribute")]
        let mut notes = $crate::service::schema::Notes::default();
        $crate::service::schema::notes!(@ notes $($attributes)*);
        notes
    }};
}

/// Structs with their schemas, both from one text; `[1, 100]` behind a type is the range of its value, to which the ends
/// of `[0.0, 1.0; open]` do not belong.
macro_rules! described {
    ($(
        $(#[$($of:tt)*])*
        $seen:vis struct $name:ident = $called:literal {
            $($(#[$($at:tt)*])* $shown:vis $field:ident: $kind:ty $([$least:literal, $most:literal $(; $open:ident)?])?,)*
        }
    )*) => {
        $(
            $(#[$($of)*])*
            $seen struct $name { $($(#[$($at)*])* $shown $field: $kind,)* }

            impl $crate::service::schema::Described for $name {
                const NAME: &'static str = $called;

                #[allow(unused_mut, unused_variables, reason = "a struct may have no field")]
                fn schema(all: &mut $crate::service::schema::Schemas) -> serde_json::Value {
                    let of = $crate::service::schema::notes!($([$($of)*])*);
                    let mut object = $crate::service::schema::Object::new(&of);
                    $(
                        #[allow(unused_assignments, unused_mut, reason = "a field may have no range")]
                        let mut range = None;
                        $(range = Some($crate::service::schema::Range {
                            least: $least.into(),
                            most: $most.into(),
                            is_open: stringify!($($open)?) == "open",
                        });)?
                        let schema = all.of::<$kind>();
                        let notes = $crate::service::schema::notes!($([$($at)*])*);
                        object.field(stringify!($field), &notes, schema, range);
                    )*
                    object.schema()
                }
            }
        )*
    };
}

/// Enums of single words with their schemas, both from one text.
macro_rules! words {
    ($(
        $(#[$($of:tt)*])*
        $seen:vis enum $name:ident { $($(#[$($at:tt)*])* $word:ident = $text:literal,)* }
    )*) => {
        $(
            $(#[$($of)*])*
            $seen enum $name { $($(#[$($at)*])* #[serde(rename = $text)] $word,)* }

            impl $crate::service::schema::Described for $name {
                fn schema(_: &mut $crate::service::schema::Schemas) -> serde_json::Value {
                    serde_json::json!({"type": "string", "enum": [$($text),*]})
                }
            }
        )*
    };
}

pub(crate) use {described, notes, words};

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    described! {
        /// A thing,
        /// told in two lines.
        #[derive(Debug, Serialize)]
        pub(crate) struct Thing = "Thing" {
            /// Its name.
            name: String,
            #[serde(rename = "type")]
            kind: u16 [1, 9],
            #[serde(skip_serializing_if = "Option::is_none")]
            more: Option<Option<f32>> [-1.0, 1.0],
            /// Others.
            others: Vec<[u64; 2]>,
        }

        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Asked = "" {
            r#where: BTreeMap<String, String>,
            top_k: Option<usize> [1, 100],
        }
    }

    #[test]
    fn schemas_say_what_serde_reads_and_writes() {
        let mut all = Schemas::default();
        let found = all.of::<Vec<Thing>>();
        assert_eq!(
            found,
            json!({"type": "array", "items": {"$ref": "#/components/schemas/Thing"}})
        );
        let thing = json!({
            "type": "object", "description": "A thing, told in two lines.",
            "properties": {
                "name": {"type": "string", "description": "Its name."},
                "type": {"type": "integer", "minimum": 1, "maximum": 9},
                "more": {"anyOf": [{"type": "number", "minimum": -1.0, "maximum": 1.0}, {"type": "null"}]},
                "others": {"type": "array", "description": "Others.", "items": {
                    "type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2
                }},
            },
            "required": ["name", "type", "others"],
        });
        assert_eq!(all.all(), json!({"Thing": thing}));
        let sent = Thing { name: String::new(), kind: 1, more: None, others: vec![[1, 2]] };
        let sent = serde_json::to_value(&sent).unwrap();
        assert_eq!(sent, json!({"name": "", "type": 1, "others": [[1, 2]]}));
        let asked = Schemas::default().of::<Asked>();
        assert_eq!(
            (&asked["additionalProperties"], &asked["required"]),
            (&json!(false), &Value::Null)
        );
        assert_eq!(
            asked["properties"]["where"],
            json!({"type": "object", "additionalProperties": {"type": "string"}})
        );
        let read: Asked = serde_json::from_value(json!({"where": {"a": "b"}, "top_k": 3})).unwrap();
        assert_eq!((read.r#where["a"].as_str(), read.top_k), ("b", Some(3)));
    }
}
