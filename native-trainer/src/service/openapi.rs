//! The description of the service, written from its routes and types.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::asked::{IMAGES, ImageData};
use super::problem::{Document, Kind};
use super::routes::{Gives, ROUTES, Route, Takes, Who};
use super::schema::{Schemas, there};
use super::types::ID;

/// The description as JSON.
///
/// # Errors
///
/// None that is known: the description is one of values.
pub(crate) fn text() -> Result<String, serde_json::Error> {
    let (mut all, mut paths) = (Schemas::default(), Map::new());
    for route in ROUTES {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut all);
    }
    let problem = |kind: &Kind| {
        let status = kind.status().as_u16();
        json!({"name": kind.name(), "status": status, "title": kind.title()})
    };
    serde_json::to_string(&json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Magpie",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Image recognition with the bundle of a published site. Errors are problem documents (RFC 9457).",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "images", "description": "What is in images"},
            {"name": "classes", "description": "Classes of the gallery"},
            {"name": "entries", "description": "Entries of the gallery"},
            {"name": "gallery", "description": "The gallery as a whole"},
            {"name": "corrections", "description": "What visitors say, and what the owner decides"},
            {"name": "manage", "description": "The owner's page"},
            {"name": "service", "description": "Health, figures, description"},
        ],
        "paths": paths,
        "components": {
            "schemas": all.all(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        // What `type` of a problem document leads to on the page.
        "x-problems": Kind::ALL.iter().map(problem).collect::<Vec<_>>(),
    }))
}

fn operation(route: &Route, all: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if let Some((_, name)) = route.path.split_once('{')
        && let Some((name, _)) = name.split_once('}')
    {
        let schema = match name {
            "id" => json!({"type": "string", "pattern": ID}),
            _ => json!({"type": "string"}),
        };
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    let mut body = None;
    match &route.takes {
        Takes::Address(options) => parameters.extend(of_address(&options(all))),
        Takes::Images(options) => {
            let options = options(all);
            parameters.extend(of_address(&options));
            parameters.push(name_of_image());
            body = Some(images(options, true, all));
        }
        Takes::Queries(options) => {
            let options = options(all);
            parameters.extend(of_address(&options));
            parameters.push(name_of_image());
            body = Some(images(options, false, all));
        }
        Takes::Json(options) => body = Some(json!({"application/json": {"schema": options(all)}})),
        Takes::File => body = Some(json!({"application/octet-stream": {"schema": {}}})),
    }
    let header = |name: &str, text: &str| json!({"name": name, "in": "header", "description": text, "schema": {"type": "string"}});
    // What is rejected was never in the gallery.
    let changes = route.who == Who::Keepers && !matches!(route.path, "/v1/corrections/reject");
    if changes && route.method != Method::GET {
        parameters.push(header("If-Match", "Tags of which the gallery must have one."));
        let mut key = header("Idempotency-Key", "The same key brings the same answer.");
        key["schema"]["pattern"] = "^[!-~]{1,255}$".into();
        parameters.push(key);
    }
    let answer = match &route.gives {
        Gives::Json(schema) | Gives::Version(schema) => {
            json!({"application/json": {"schema": schema(all)}})
        }
        Gives::File(kind) | Gives::Picture(kind) => json!({*kind: {"schema": {}}}),
        Gives::Text(kind) => json!({*kind: {"schema": {"type": "string"}}}),
    };
    let problem = json!({
        "description": "A problem.",
        "content": {"application/problem+json": {"schema": all.of::<Document>()}},
    });
    let mut responses = json!({
        "200": {"description": "As it was asked for.", "content": answer},
        "default": problem,
    });
    if matches!(route.gives, Gives::Version(_) | Gives::File(_)) {
        parameters.push(header("If-None-Match", "Tags of versions that the sender has."));
        responses["304"] = json!({"description": "The sender has this version."});
    }
    let mut operation = json!({
        "operationId": name_of(route), "tags": [route.tag], "summary": route.does, "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(content) = body {
        let required = !matches!(route.takes, Takes::Json(_));
        operation["requestBody"] = json!({"required": required, "content": content});
    }
    operation["security"] = match route.who {
        Who::Keepers => json!([{"token": []}]),
        // Where the owner wants no token, none is needed.
        Who::Readers | Who::Watchers => json!([{}, {"token": []}]),
        Who::Anybody => json!([]),
    };
    operation
}

/// A name of its own for clients that are generated: `post_v1_entries_move`.
fn name_of(route: &Route) -> String {
    let path: Vec<&str> =
        route.path.split(['/', '.', '{', '}']).filter(|s| !s.is_empty()).collect();
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), path.join("_"))
}

fn name_of_image() -> Value {
    json!({
        "name": "name", "in": "query", "schema": {"type": "string"},
        "description": "What the answer calls an image whose bytes are the body.",
    })
}

/// Options as an address has them: texts, numbers, lists of texts; `where` is a list of `NAME=TEXT`.
fn of_address(options: &Value) -> Vec<Value> {
    let properties = options["properties"].as_object().into_iter().flatten();
    properties
        .filter_map(|(name, schema)| {
            let mut plain = there(schema.clone());
            if name == "where" {
                plain = json!({"type": "array", "items": {"type": "string", "pattern": "^[^=]*[^= ][^=]*="}});
            } else if plain["type"] == "array" && plain["items"]["type"] != "string" {
                return None;
            }
            Some(json!({
                "name": name, "in": "query", "schema": plain, "description": schema["description"],
            }))
        })
        .collect()
}

/// Bodies with images: JSON, a form, the bytes of one.
fn images(mut options: Value, are_needed: bool, all: &mut Schemas) -> Value {
    if let Some(Value::Object(properties)) = options.get_mut("properties") {
        let mut images = all.of::<Vec<ImageData>>();
        images["maxItems"] = IMAGES.into();
        if are_needed {
            images["minItems"] = 1.into();
        }
        properties.insert("images".to_owned(), images);
    }
    options["description"] = "Images, with options beside them.".into();
    if are_needed {
        options["required"] = json!(["images"]);
    }
    let file = json!({"type": "string", "contentMediaType": "application/octet-stream"});
    json!({
        "application/json": {"schema": options},
        "multipart/form-data": {"schema": {
            "type": "object", "required": ["image"],
            "description": "Files under any name; options may be fields, too.",
            "properties": {"image": {"type": "array", "items": file}},
        }},
        "application/octet-stream": {"schema": {}},
        "image/*": {"schema": {}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let description: Value = serde_json::from_str(&text().unwrap()).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let described: usize =
            paths.values().map(|methods| methods.as_object().unwrap().len()).sum();
        assert_eq!(described, ROUTES.len());
        let mut names = Vec::new();
        for route in ROUTES {
            let operation = &paths[route.path][route.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["summary"], route.does, "{} {}", route.method, route.path);
            assert!(operation["responses"]["200"]["content"].is_object());
            names.push(operation["operationId"].as_str().unwrap().to_owned());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len(), "each has a name of its own");
        // Whatever is referred to is there.
        let text = description.to_string();
        let mut references = 0;
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(description["components"]["schemas"][name].is_object(), "{name}");
            references += 1;
        }
        assert!(references > 30, "{references}");
    }
}
