//! Whether what a request asks for is what the service takes, in sentences: options are held against their schemas, from
//! which the description is written as well.

use authoring::label::nearest;
use serde_json::Value;

use super::problem::{Answered, Problem, shown};

/// Bytes of a name from which on a sentence has its beginning alone.
const LONG: usize = 80;
/// What an address gives in a list although it may be there once only.
const ONCE: &str = "class";

/// Fails unless a value is what a schema without references says; `name` is what the sentence calls it.
///
/// # Errors
///
/// [`Kind::Value`](super::problem::Kind::Value) for a number out of its range,
/// [`Kind::Request`](super::problem::Kind::Request) for all else.
pub(crate) fn check(name: &str, value: &Value, schema: &Value) -> Answered<()> {
    let Some(schema) = choose(name, value, schema) else { return Err(other(name, value, schema)) };
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let end = |end: &str| schema[end].as_f64();
            let fits = end("minimum").is_none_or(|least| number >= least)
                && end("maximum").is_none_or(|most| number <= most)
                && end("exclusiveMinimum").is_none_or(|least| number > least)
                && end("exclusiveMaximum").is_none_or(|most| number < most);
            if fits { Ok(()) } else { Err(Problem::value(differs(name, value, schema))) }
        }
        Value::String(text) => match schema["enum"].as_array() {
            Some(words) if !words.iter().any(|word| word == text) => {
                Err(other(name, value, schema))
            }
            _ => Ok(()),
        },
        Value::Array(items) if schema["type"] == "array" => {
            let (of, mut numbered) = (&schema["items"], items.iter().enumerate());
            numbered.try_for_each(|(number, item)| {
                // Only one of several that does not fit needs a number.
                check(name, item, of).or_else(|problem| match items.len() {
                    1 => Err(problem),
                    _ => check(&format!("{name}[{number}]"), item, of),
                })
            })
        }
        Value::Object(fields) => {
            if let Some(missing) = missing(schema, |name| fields.contains_key(name)) {
                let of = if name.is_empty() { String::new() } else { format!(" in {name}") };
                let wanted = wanted(&schema["properties"][missing]);
                let detail = format!("{missing} is missing{of}; it takes {wanted}");
                return Err(Problem::request(detail));
            }
            fields.iter().try_for_each(|(field, value)| {
                let (of, field) = (if name.is_empty() { "" } else { "." }, field.as_str());
                let path = [name, of, field].concat();
                match (schema["properties"].get(field), &schema["additionalProperties"]) {
                    (Some(schema), _) => check(&path, value, schema),
                    (None, more @ Value::Object(_)) => check(&path, value, more),
                    (None, _) => Err(unknown(name, field, schema)),
                }
            })
        }
        _ => Ok(()),
    }
}

/// Which of the forms of a schema a value has.
fn choose<'a>(name: &str, value: &Value, schema: &'a Value) -> Option<&'a Value> {
    if let Some(forms) = schema["anyOf"].as_array() {
        return forms.iter().find_map(|form| choose(name, value, form));
    }
    let fits = match schema["type"].as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string() || name == ONCE && is_one_text(value),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => true,
    };
    fits.then_some(schema)
}

/// Whether a value is the list of one text that an address gives for a text.
fn is_one_text(value: &Value) -> bool {
    matches!(value.as_array().map(Vec::as_slice), Some([Value::String(_)]))
}

/// The first name that must be there and is not.
fn missing(schema: &Value, is_there: impl Fn(&str) -> bool) -> Option<&str> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).find(|name| !is_there(name))
}

fn unknown(of: &str, field: &str, schema: &Value) -> Problem {
    let mut names: Vec<&str> =
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let of = if of.is_empty() { "this path takes".to_owned() } else { format!("{of} has") };
    let help = match nearest(field, names.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if names.is_empty() => format!("{of} no option"),
        None => format!("{of} {}", names.join(", ")),
    };
    Problem::request(format!("there is no option {}; {help}", shown(field)))
}

fn other(name: &str, value: &Value, schema: &Value) -> Problem {
    Problem::request(differs(name, value, schema))
}

fn differs(name: &str, value: &Value, schema: &Value) -> String {
    let name = if name.is_empty() { "the request" } else { name };
    // Names of metadata are the sender's.
    let name = if name.len() > LONG { shown(name) } else { name.to_owned() };
    let shown = match value {
        Value::Array(items) if name == ONCE => format!("given {} times", items.len()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => shown(text),
        plain => plain.to_string(),
    };
    format!("{name} is {shown}; it takes {}", wanted(schema))
}

/// What a schema takes, in words.
fn wanted(schema: &Value) -> String {
    if let Some(forms) = schema["anyOf"].as_array() {
        // Whoever leaves it out needs no null.
        let forms = forms.iter().filter(|form| form["type"] != "null");
        return forms.map(wanted).collect::<Vec<_>>().join(", or ");
    }
    let number = |what: &str| {
        let end = |end: &str| schema[end].as_f64();
        match (end("minimum"), end("maximum"), end("exclusiveMinimum"), end("exclusiveMaximum")) {
            (Some(least), Some(most), _, _) => format!("{what} from {least} to {most}"),
            (_, _, Some(least), Some(most)) => format!("{what} above {least} and below {most}"),
            (Some(least), None, _, _) => format!("{what} from {least} on"),
            _ => what.to_owned(),
        }
    };
    match schema["type"].as_str().unwrap_or_default() {
        "integer" => number("a whole number"),
        "number" => number("a number"),
        "boolean" => "true or false".to_owned(),
        "string" => match schema["enum"].as_array() {
            Some(words) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                format!("one of {}", words.join(", "))
            }
            None => "a text".to_owned(),
        },
        "array" => format!("a list, each item {}", wanted(&schema["items"])),
        "object" if schema["properties"].is_object() => "an object".to_owned(),
        "object" => format!("an object, each value {}", wanted(&schema["additionalProperties"])),
        _ => "something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::service::asked::ImageData;
    use crate::service::problem::Kind;
    use crate::service::schema::{Described, Schemas};
    use crate::service::types::{
        CalibrateOptions, ClassChange, EntriesGone, Nothing, RecognizeOptions, SearchOptions,
    };

    fn told<T: Described>(value: &Value) -> Result<(), (Kind, String)> {
        let schema = T::schema(&mut Schemas::default());
        check("", value, &schema).map_err(|problem| (problem.kind, problem.detail))
    }

    fn refused<T: Described>(value: &Value) -> (Kind, String) {
        told::<T>(value).expect_err("a problem")
    }

    #[test]
    fn what_is_described_fits() {
        for options in [
            json!({}),
            json!({"top_k": 1, "min_similarity": -1, "min_score": 1.0, "class": "a"}),
            json!({"top_k": 100, "class": ["a", "b"], "where": {"a": "b"}, "fields": ["bbox"]}),
            json!({"top_k": null, "min_score": null}),
        ] {
            assert_eq!(told::<RecognizeOptions>(&options), Ok(()), "{options}");
        }
        assert_eq!(told::<SearchOptions>(&json!({"embeddings": [[1.0, 2], []]})), Ok(()));
        assert_eq!(told::<CalibrateOptions>(&json!({"false_accept": 0.5})), Ok(()));
        let change =
            json!({"label": "a", "metadata": {"a": null, "b": "c"}, "min_similarity": null});
        assert_eq!(told::<ClassChange>(&change), Ok(()));
        // An address has one class in a list.
        assert_eq!(told::<EntriesGone>(&json!({"ids": ["00"], "class": ["a"]})), Ok(()));
    }

    #[test]
    fn what_does_not_is_told_with_what_is_taken() {
        for (options, kind, sentence) in [
            (json!({"top_k": 0}), Kind::Value, "top_k is 0; it takes a whole number from 1 to 100"),
            (
                json!({"top_k": -1}),
                Kind::Value,
                "top_k is -1; it takes a whole number from 1 to 100",
            ),
            (
                json!({"top_k": "many"}),
                Kind::Request,
                "top_k is \"many\"; it takes a whole number from 1 to 100",
            ),
            (
                json!({"top_k": 1.5}),
                Kind::Request,
                "top_k is 1.5; it takes a whole number from 1 to 100",
            ),
            (
                json!({"min_similarity": 2}),
                Kind::Value,
                "min_similarity is 2; it takes a number from -1 to 1",
            ),
            (
                json!({"class": 5}),
                Kind::Request,
                "class is 5; it takes a list, each item a text, or a text",
            ),
            (json!({"class": ["a", 5]}), Kind::Request, "class[1] is 5; it takes a text"),
            (
                json!({"where": "a"}),
                Kind::Request,
                "where is \"a\"; it takes an object, each value a text",
            ),
            (json!({"where": {"a": 1}}), Kind::Request, "where.a is 1; it takes a text"),
            (
                json!({"tpo_k": 3}),
                Kind::Request,
                "there is no option \"tpo_k\"; did you mean top_k?",
            ),
            (
                json!({"fields": ["color"]}),
                Kind::Request,
                "fields is \"color\"; it takes one of bbox, detection_score, known, probability, least_similarity, matches, \
                 metadata, embedding",
            ),
        ] {
            assert_eq!(refused::<RecognizeOptions>(&options), (kind, sentence.to_owned()));
        }
        let of = refused::<SearchOptions>(&json!({"embeddings": [[1.0], [2.0, "x"]]}));
        assert_eq!(of, (Kind::Request, "embeddings[1][1] is \"x\"; it takes a number".to_owned()));
        let open = refused::<CalibrateOptions>(&json!({"false_accept": 0}));
        let sentence = "false_accept is 0; it takes a number above 0 and below 1";
        assert_eq!(open, (Kind::Value, sentence.to_owned()));
        let missing = refused::<EntriesGone>(&json!({}));
        assert_eq!(missing.1, "ids is missing; it takes a list, each item a text");
        let twice = refused::<EntriesGone>(&json!({"ids": ["0"], "class": ["a", "b"]}));
        assert_eq!(twice.1, "class is given 2 times; it takes a text");
        assert_eq!(
            refused::<Nothing>(&json!({"zebra": 1})).1,
            "there is no option \"zebra\"; this path takes no option"
        );
        assert_eq!(refused::<ImageData>(&json!("x")).1, "the request is \"x\"; it takes an object");
        let long = refused::<RecognizeOptions>(&json!({"top_k": "x".repeat(500)})).1;
        assert!(long.len() < 140 && long.contains('…'), "{long}");
        let long = refused::<RecognizeOptions>(&json!({"where": {"x".repeat(500): 1}})).1;
        assert!(long.len() < 140 && long.contains('…'), "{long}");
    }
}
