//! `openapi.json` of `magpie serve --api` against the service: every route is called, and answers and options are what
//! is described.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::service::{Answer, Running};
use crate::service_changes::open_with;
use crate::world::{parsed, shape};

/// Whether a value is what a schema says; a field that the schema does not name is an error, too.
fn fits(schema: &Value, value: &Value, all: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return fits(&all[name], value, all);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let is_one = any.iter().any(|one| fits(one, value, all).is_ok());
        return if is_one { Ok(()) } else { Err(format!("{value} is none of {any:?}")) };
    }
    let is_of_type = match schema["type"].as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => return Err(format!("a schema of type {other:?}: {schema}")),
    };
    if !is_of_type {
        return Err(format!("{value} is not {schema}"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(&schema["items"], item, all)?;
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !object.contains_key(name) {
            return Err(format!("{name} is missing in {value}"));
        }
    }
    for (name, field) in object {
        let schema = match &schema["properties"][name] {
            Value::Null => &schema["additionalProperties"],
            property => property,
        };
        if !schema.is_object() {
            return Err(format!("{name} is not described: {value}"));
        }
        fits(schema, field, all).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// A description, and the routes that were called by now.
struct Described {
    all: Value,
    called: BTreeSet<(String, String)>,
}

impl Described {
    fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let operation = &self.all["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        let told = match &operation["responses"][answer.status.to_string()] {
            Value::Null => &operation["responses"]["default"],
            told => told,
        };
        let kind = answer.header("content-type").split(';').next().unwrap_or_default();
        let schema = &told["content"][kind]["schema"];
        assert!(schema.is_object(), "{method} {path}: {kind} is not described");
        if kind.ends_with("json") && path != "/v1/openapi.json" {
            let text = answer.text();
            let found = fits(schema, &parsed(&text), &self.all["components"]["schemas"]);
            assert_eq!(found, Ok(()), "{method} {path}");
        }
        if answer.status == 200 {
            self.called.insert((method.to_owned(), path.to_owned()));
        }
    }
}

/// A text that a parameter of an address takes.
fn sample(name: &str, schema: &Value) -> String {
    match schema["type"].as_str().unwrap_or_default() {
        "array" if name == "where" => "a=b".to_owned(),
        "array" => sample(name, &schema["items"]),
        "boolean" => "true".to_owned(),
        "integer" | "number" => schema["minimum"].as_f64().unwrap_or(0.0).to_string(),
        _ => schema["enum"][0].as_str().unwrap_or("0").to_owned(),
    }
}

#[test]
fn what_is_described_is_what_is_answered() {
    let (shop, server) = open_with(&["--corrections", "--manage"]);
    let all = parsed(&server.get("/v1/openapi.json").text());
    let mut described = Described { all, called: BTreeSet::new() };
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let ask = |server: &Running, method: &str, path: &str, body: &Value| match body {
        Value::Null => server.change(method, path, &["Content-Type: image/png"], &picture),
        Value::Bool(_) => server.change(method, path, &[], b""),
        body => server.change_json(method, path, body),
    };
    let id = server.get("/v1/entries?class=1").json()["entries"][0]["id"].clone();
    let one = format!("/v1/entries/{}", id.as_str().expect("an id"));
    let (image, nothing) = (Value::Null, Value::Bool(false));
    let fields =
        "bbox,detection_score,known,probability,least_similarity,matches,metadata,embedding";
    let fields = format!("/v1/recognize?fields={fields}");
    for (method, route, path, body) in [
        ("GET", "/v1/", "/v1/", &nothing),
        ("GET", "/v1/try.js", "/v1/try.js", &nothing),
        ("GET", "/v1/openapi.json", "/v1/openapi.json", &nothing),
        ("GET", "/manage/", "/manage/", &nothing),
        ("GET", "/manage/manage.css", "/manage/manage.css", &nothing),
        ("GET", "/manage/manage.js", "/manage/manage.js", &nothing),
        ("GET", "/manage/parts.js", "/manage/parts.js", &nothing),
        ("GET", "/manage/sentences.json", "/manage/sentences.json", &nothing),
        ("GET", "/healthz", "/healthz", &nothing),
        ("GET", "/readyz", "/readyz", &nothing),
        ("GET", "/metrics", "/metrics", &nothing),
        ("POST", "/v1/recognize", "/v1/recognize", &image),
        ("POST", "/v1/recognize", &fields, &image),
        ("POST", "/v1/detect", "/v1/detect", &image),
        ("POST", "/v1/embed", "/v1/embed", &image),
        ("POST", "/v1/search", "/v1/search", &image),
        ("POST", "/v1/search", "/v1/search", &json!({"embeddings": [[1.0], [0.0]]})),
        ("POST", "/v1/entries", "/v1/entries?class=new", &image),
        ("GET", "/v1/entries", "/v1/entries?embeddings=true", &nothing),
        ("GET", "/v1/classes", "/v1/classes?limit=1", &nothing),
        ("PATCH", "/v1/classes/{label}", "/v1/classes/new", &json!({"metadata": {"a": "b"}})),
        ("GET", "/v1/classes/{label}", "/v1/classes/new", &nothing),
        ("GET", "/v1/classes/{label}/thumbnail", "/v1/classes/new/thumbnail", &nothing),
        ("GET", "/v1/gallery", "/v1/gallery", &nothing),
        ("POST", "/v1/entries/move", "/v1/entries/move", &json!({"ids": [id], "to": "new"})),
        ("POST", "/v1/entries/remove", "/v1/entries/remove", &json!({"ids": [id]})),
        ("POST", "/v1/undo", "/v1/undo", &nothing),
        ("DELETE", "/v1/entries/{id}", &one, &nothing),
        ("DELETE", "/v1/entries/{id}", &one, &nothing),
        ("DELETE", "/v1/classes/{label}", "/v1/classes/new", &nothing),
        ("POST", "/v1/gallery/adapt", "/v1/gallery/adapt", &json!({})),
        ("POST", "/v1/gallery/calibrate", "/v1/gallery/calibrate", &json!({})),
        ("GET", "/v1/gallery/file", "/v1/gallery/file", &nothing),
    ] {
        described.check(method, route, &ask(&server, method, path, body));
    }
    let file = std::fs::read(shop.path("new.bin")).expect("a gallery");
    let replaced = server.change("PUT", "/v1/gallery/file", &[], &file);
    described.check("PUT", "/v1/gallery/file", &replaced);
    let mut sent = Vec::new();
    for class in ["a", "b"] {
        let path = format!("/v1/corrections?class={class}");
        let told = ask(&server, "POST", &path, &image);
        described.check("POST", "/v1/corrections", &told);
        sent.push(told.json()["id"].as_str().expect("an id").to_owned());
    }
    let shown = format!("/v1/corrections/{}/thumbnail", sent[0]);
    for (method, route, path, body) in [
        ("GET", "/v1/corrections", "/v1/corrections?limit=1", &nothing),
        ("GET", "/v1/corrections/{id}/thumbnail", &*shown, &nothing),
        (
            "POST",
            "/v1/corrections/accept",
            "/v1/corrections/accept",
            &json!({"ids": [sent[0]], "to": "c"}),
        ),
        ("POST", "/v1/corrections/reject", "/v1/corrections/reject", &json!({"ids": [sent[1]]})),
    ] {
        described.check(method, route, &ask(&server, method, path, body));
    }
    let paths = described.all["paths"].as_object().expect("paths");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let is_called = described.called.contains(&(method.to_uppercase(), path.clone()));
            // This site has no detector, so that nothing is detected.
            assert!(is_called || path == "/v1/detect", "{method} {path} was not answered well");
            // Every option of an address is one that is read.
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                if parameter["in"] != "query" || method == "delete" {
                    continue;
                }
                let at = format!("{path}?{name}={}", sample(name, &parameter["schema"]));
                let body = if method == "get" { &nothing } else { &image };
                let answer = ask(&server, &method.to_uppercase(), &at, body);
                let problem = answer.text();
                let is_read = answer.status == 200 || parsed(&problem)["type"] != "/v1/#request";
                assert!(is_read || problem.contains("has no class"), "{at}: {problem}");
            }
        }
    }
}
