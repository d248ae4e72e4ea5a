//! What a request asks for: options of its address or its JSON, and images that come raw, in a form or in JSON.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use models::image::Header;
use models::model_file::sha256_hex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Service;
use super::fitting::check;
use super::http::{Bytes, Call};
use super::multipart;
use super::problem::{Answered, Kind, Problem, shown};
use super::schema::{Described, Schemas, described};

/// Images of one request at most.
pub(crate) const IMAGES: usize = 256;
/// Embeddings of one request at most.
pub(crate) const EMBEDDINGS: usize = 1024;
/// Values in the JSON of a request at most.
const VALUES: usize = 1 << 20;
/// Bytes of a text in JSON at most, as pages keep metadata; names and files of images are apart.
const JSON_TEXT: usize = 1 << 16;
/// Bytes of a text in an address at most.
const TEXT: usize = 4096;

/// An image of a request.
#[derive(Debug)]
pub(crate) struct Image {
    /// What the sender calls it; may be empty.
    pub(crate) name: String,
    /// The class that it is to be added to.
    pub(crate) class: Option<String>,
    pub(crate) bytes: Bytes,
}

described! {
    /// An image in JSON.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct ImageData = "Image" {
        /// The file's bytes in Base64: JPEG, PNG, WebP, GIF or BMP.
        data: String,
        /// What the answer calls it.
        #[serde(default)]
        name: String,
        /// The class that it is to be added to.
        #[serde(default)]
        class: Option<String>,
    }
}

/// Texts of which there may be one or several; JSON has one as it is or all in a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "OneOrMany")]
pub(crate) struct Texts(pub(crate) Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Texts {
    fn from(texts: OneOrMany) -> Self {
        match texts {
            OneOrMany::One(text) => Self(vec![text]),
            OneOrMany::Many(texts) => Self(texts),
        }
    }
}

/// A text that may be given once; an address has it in a list, too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Texts")]
pub(crate) struct Once(pub(crate) Option<String>);

impl TryFrom<Texts> for Once {
    type Error = &'static str;

    fn try_from(texts: Texts) -> Result<Self, Self::Error> {
        if texts.0.len() > 1 {
            return Err("an option is given twice that may be given once");
        }
        Ok(Self(texts.0.into_iter().next()))
    }
}

impl Described for Once {
    fn schema(all: &mut Schemas) -> Value {
        all.of::<String>()
    }
}

impl Described for Texts {
    fn schema(all: &mut Schemas) -> Value {
        json!({"anyOf": [all.of::<Vec<String>>(), {"type": "string"}]})
    }
}

/// What came with a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) images: Vec<Image>,
    /// Options by name, of the address and of the body.
    options: Map<String, Value>,
    /// Keeps the request's share of the memory.
    pub(crate) share: Arc<Vec<OwnedSemaphorePermit>>,
    /// Whether one image is all that came, so that the answer is of it alone where it cannot be used.
    pub(crate) is_single: bool,
    /// Whether images are to be added, and have classes of their own.
    adds: bool,
    /// Everything that was sent, as a digest: tells two requests apart.
    pub(crate) digest: String,
}

impl Asked {
    /// Reads a request with whatever it holds.
    ///
    /// # Errors
    ///
    /// A body that is too large or cannot be read.
    pub(crate) async fn read(service: &Service, call: Call) -> Answered<Self> {
        Self::read_as(service, call, false).await
    }

    /// Reads a request whose images are to be added: `class` is the class of the images behind it.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub(crate) async fn read_to_add(service: &Service, call: Call) -> Answered<Self> {
        Self::read_as(service, call, true).await
    }

    async fn read_as(service: &Service, call: Call, adds: bool) -> Answered<Self> {
        let Call { head, body, seat, .. } = call;
        let mut asked = Self { adds, ..Self::of_address(&head)? };
        let held = service.budget.read(seat.as_deref(), &head.headers, body).await?;
        asked.share = held.share;
        asked.digest = digest_of(&head, &held.bytes);
        asked.take(&head.headers, held.bytes)?;
        asked.is_single = asked.images.len() == 1;
        if asked.images.len() > IMAGES {
            let detail = format!("a request has {IMAGES} images at most; send several requests");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        Ok(asked)
    }

    /// A request without a body.
    ///
    /// # Errors
    ///
    /// An address that cannot be read.
    pub(crate) fn of_address(head: &Parts) -> Answered<Self> {
        Ok(Self {
            images: Vec::new(),
            options: options(head.uri.query().unwrap_or_default())?,
            share: Arc::default(),
            is_single: false,
            adds: false,
            digest: String::new(),
        })
    }

    fn take(&mut self, headers: &HeaderMap, body: Bytes) -> Answered<()> {
        check_plain(headers)?;
        let (kind, essence) = kind_of(headers);
        match essence.as_str() {
            _ if body.is_empty() => Ok(()),
            "multipart/form-data" => self.take_form(kind, &body),
            "application/json" => self.take_json(&body),
            "" | "application/octet-stream" => {
                self.take_raw(body);
                Ok(())
            }
            image if image.starts_with("image/") => {
                self.take_raw(body);
                Ok(())
            }
            other => Err(not_read(
                other,
                "image/*, application/octet-stream, multipart/form-data or application/json",
            )),
        }
    }

    fn take_raw(&mut self, bytes: Bytes) {
        let name = match self.options.remove("name") {
            Some(Value::String(name)) => name,
            _ => String::new(),
        };
        self.images.push(Image { name, class: None, bytes });
    }

    fn take_form(&mut self, kind: &str, body: &Bytes) -> Answered<()> {
        let (mut class, mut classes) = (None, 0);
        for part in multipart::parts(kind, body)? {
            if let Some(file) = part.file {
                self.images.push(Image { name: file, class: class.clone(), bytes: part.bytes });
                continue;
            }
            let text = std::str::from_utf8(&part.bytes).map_err(|_bytes| {
                Problem::request(format!("the field {} is not UTF-8", shown(&part.name)))
            })?;
            if part.name == "class" && self.adds {
                class = Some(text.to_owned());
                classes += 1;
            } else {
                put(&mut self.options, &part.name, text)?;
            }
        }
        if classes == 1 {
            // The one class of a form is that of all its images, wherever it stands.
            self.images.iter_mut().for_each(|image| image.class.clone_from(&class));
        }
        Ok(())
    }

    fn take_json(&mut self, body: &Bytes) -> Answered<()> {
        let broken = |error: serde_json::Error| {
            Problem::request(format!("the JSON cannot be read: {error}"))
        };
        // A value takes many times the memory of its letters.
        if body.split(|byte| *byte == b',').count() > VALUES {
            let detail = format!("the JSON has more than {VALUES} values; send several requests");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        let Value::Object(mut object) = serde_json::from_slice(body).map_err(broken)? else {
            let detail = "the JSON is no object; send {\"NAME\": VALUE, …}";
            return Err(Problem::request(detail));
        };
        if let Some(images) = object.remove("images") {
            check("images", &images, &json!({"type": "array", "items": schema_of::<ImageData>()}))?;
            let images: Vec<ImageData> = serde_json::from_value(images).map_err(broken)?;
            for (number, image) in images.into_iter().enumerate() {
                let bytes = BASE64_STANDARD.decode(image.data.as_bytes()).map_err(|error| {
                    Problem::request(format!(
                        "images[{number}].data is no Base64: {error}; send the file's bytes alone, without \
                         \"data:image/…\" before them"
                    ))
                })?;
                let ImageData { name, class, .. } = image;
                if class.is_some() && !self.adds {
                    let detail = "an image has a class where it is added; `class` beside `images` chooses classes";
                    return Err(Problem::request(detail));
                }
                self.images.push(Image { name, class, bytes: bytes.into() });
            }
        }
        if object.iter().any(|(name, value)| name.len() > JSON_TEXT || has_long_text(value)) {
            let detail = format!("a text of the JSON is longer than {JSON_TEXT} bytes; shorten it");
            return Err(Problem::value(detail));
        }
        for (name, value) in object {
            // Nobody could say which of the two counts.
            if self.options.contains_key(&name) {
                return Err(twice(&name));
            }
            self.options.insert(name, value);
        }
        Ok(())
    }

    /// The options as a route has them.
    ///
    /// # Errors
    ///
    /// One that the route does not have, of another type, or out of its range.
    pub(crate) fn options<T: DeserializeOwned + Described>(&mut self) -> Answered<T> {
        if !self.images.is_empty() {
            // It calls an image whose bytes are the body; others have names of their own.
            self.options.remove("name");
        }
        let options = Value::Object(std::mem::take(&mut self.options));
        check("", &options, &schema_of::<T>())?;
        serde_json::from_value(options)
            .map_err(|error| Problem::request(format!("the options cannot be read: {error}")))
    }

    /// The options of a route that takes no images.
    ///
    /// # Errors
    ///
    /// As [`Self::options`], and an image.
    pub(crate) fn only_options<T: DeserializeOwned + Described>(&mut self) -> Answered<T> {
        if !self.images.is_empty() {
            let detail = "this path takes no image; send options as application/json, as /v1/openapi.json describes \
                          them";
            return Err(Problem::request(detail));
        }
        self.options()
    }

    /// Fails unless there is an image.
    ///
    /// # Errors
    ///
    /// [`Kind::Request`]
    pub(crate) fn need_images(&self) -> Answered<()> {
        if self.images.is_empty() {
            return Err(Problem::request(
                "no image came; send its bytes as the body, files in a form, or {\"images\": [{\"data\": BASE64}]}",
            ));
        }
        Ok(())
    }
}

/// Reads a body that is one file; with the digest of the request.
///
/// # Errors
///
/// A body that is too large or broke off, and one of another type than a file's bytes.
pub(crate) async fn file(service: &Service, call: Call) -> Answered<(Bytes, String)> {
    let Call { head, body, seat, .. } = call;
    let held = service.budget.read(seat.as_deref(), &head.headers, body).await?;
    check_plain(&head.headers)?;
    let (_, essence) = kind_of(&head.headers);
    if !["", "application/octet-stream"].contains(&essence.as_str()) {
        return Err(not_read(&essence, "the file's bytes as application/octet-stream"));
    }
    Ok((held.bytes.clone(), digest_of(&head, &held.bytes)))
}

/// The type of a body, with its parameters and without.
fn kind_of(headers: &HeaderMap) -> (&str, String) {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    (kind, kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Fails for a body that was packed on its way.
fn check_plain(headers: &HeaderMap) -> Answered<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            let coding = shown(&String::from_utf8_lossy(coding.as_bytes()));
            let detail =
                format!("a body of Content-Encoding {coding} is not read; send it unpacked");
            Err(Problem::new(Kind::Format, detail))
        }
        _ => Ok(()),
    }
}

fn not_read(kind: &str, taken: &str) -> Problem {
    // What curl says of every body by itself.
    let help = if kind == "application/x-www-form-urlencoded" {
        " (curl: -H \"Content-Type: …\")"
    } else {
        ""
    };
    Problem::new(Kind::Format, format!("{kind} is not read; send {taken}{help}"))
}

fn schema_of<T: Described>() -> Value {
    T::schema(&mut Schemas::default())
}

/// Tells a request from others: its method, its address, its bytes.
fn digest_of(head: &Parts, body: &[u8]) -> String {
    let address = head.uri.path_and_query().map_or("", |path| path.as_str());
    let content = sha256_hex(body);
    sha256_hex([head.method.as_str(), address, &content].join("\n").as_bytes())
}

impl Service {
    /// Pixels of an image that is about to be queued.
    ///
    /// # Errors
    ///
    /// [`Kind::TooLarge`] for more than the owner allows, or why it cannot be decoded.
    pub(crate) fn pixels_of(&self, bytes: &[u8]) -> Answered<u64> {
        let Header { width, height, .. } =
            Header::read(bytes).map_err(|error| Problem::image(&error))?;
        let (pixels, limit) = (u64::from(width) * u64::from(height), self.limits.pixels);
        if pixels > limit {
            let detail = format!(
                "{width}×{height} pixels are more than the {limit} that are taken; make the image smaller"
            );
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        Ok(pixels)
    }
}

/// Options that are texts whatever they look like, and those that may come several times.
const TEXTS: [&str; 6] = ["class", "to", "q", "part", "name", "kind"];
const LISTS: [&str; 2] = ["class", "fields"];

/// Options of an address: `top_k=3&class=Mug&where=price=9&fields=bbox,matches`.
fn options(query: &str) -> Answered<Map<String, Value>> {
    let mut options = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let blanks = |text: &str| decoded(&text.replace('+', " "));
        let (name, text) = (blanks(name)?, blanks(text)?);
        put(&mut options, &name, &text)?;
    }
    Ok(options)
}

fn put(options: &mut Map<String, Value>, name: &str, text: &str) -> Answered<()> {
    if text.len() > TEXT {
        return Err(Problem::value(format!("{} is longer than {TEXT} bytes", shown(name))));
    }
    if name == "where" {
        let fact = text.split_once('=').filter(|(fact, _)| !fact.trim().is_empty());
        let (fact, value) = fact.ok_or_else(|| Problem::request("write where=NAME=TEXT"))?;
        let facts = options.entry("where").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(facts) = facts {
            facts.insert(fact.trim().to_owned(), value.into());
        }
        return Ok(());
    }
    if LISTS.contains(&name) {
        let list = options.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else { return Ok(()) };
        match name {
            "fields" => list.extend(text.split(',').map(|field| field.trim().into())),
            _ => list.push(text.into()),
        }
        return Ok(());
    }
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Null)) if !TEXTS.contains(&name) => {
            value
        }
        _ => text.into(),
    };
    if options.insert(name.to_owned(), value).is_some() {
        return Err(twice(name));
    }
    Ok(())
}

/// Whether a text is in a value that takes long to be compared with names of classes.
fn has_long_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > JSON_TEXT,
        Value::Array(items) => items.iter().any(has_long_text),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.len() > JSON_TEXT || has_long_text(value))
        }
        _ => false,
    }
}

fn twice(name: &str) -> Problem {
    Problem::request(format!("{} is given twice; give it once", shown(name)))
}

/// A text of an address.
///
/// # Errors
///
/// [`Kind::Request`]
pub(crate) fn decoded(text: &str) -> Answered<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let byte = match first {
            b'%' => {
                let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
                rest = behind.get(2..).unwrap_or_default();
                let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                byte.ok_or_else(|| {
                    Problem::request(format!("{}: a % without two hexadecimal digits", shown(text)))
                })?
            }
            byte => *byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes)
        .map_err(|_bytes| Problem::request(format!("{} is not UTF-8", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_address_have_the_types_of_json() {
        let read = |query: &str| Value::Object(options(query).unwrap());
        let query = "top_k=3&class=7&class=Red+Mug%21&where=price=9&fields=bbox,matches&min_score=0.5&strict=true";
        assert_eq!(
            read(query),
            json!({"class": ["7", "Red Mug!"], "fields": ["bbox", "matches"], "min_score": 0.5, "strict": true, "top_k": 3,
                   "where": {"price": "9"}})
        );
        assert_eq!(read("q=12&to=true"), json!({"q": "12", "to": "true"}));
        for wrong in ["top_k=1&top_k=2", "where=price", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(options(wrong).unwrap_err().kind, Kind::Request, "{wrong}");
        }
    }
}
