//! `magpie serve --api`: the same answers as the command's, whatever a request looks like; problems as documents; limits.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::sites::{Shop, publishing};
use crate::world::{parsed, shape};

/// A running service, which ends with the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) host: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of an answer that is well.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        parsed(&self.text())
    }

    /// The name of a problem, which is a document.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let document = parsed(&self.text());
        assert_eq!(document["status"], self.status);
        assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        document["type"]
            .as_str()
            .and_then(|kind| kind.strip_prefix("/v1/#"))
            .expect("a kind")
            .to_owned()
    }
}

/// Starts a service; the first line that it prints is its address.
pub(crate) fn start(command: &mut Command) -> Running {
    let mut child =
        command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("magpie runs");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("a pipe"))
        .read_line(&mut address)
        .expect("the address");
    let host = address.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    assert!(!host.is_empty(), "the service does not start");
    Running { child, host }
}

pub(crate) fn serve(site: &Path, more: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    let command = command.arg("serve").arg(site).args(["--api", "--port", "0"]).args(more);
    start(command.stderr(Stdio::null()))
}

/// The bytes of a request; `headers` are whole lines.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let first = format!("{method} {path} HTTP/1.1");
    let lines =
        [&[&*first, "Host: localhost", "Connection: close", &length], headers, &["", ""]].concat();
    [lines.join("\r\n").as_bytes(), body].concat()
}

/// What comes back for a request; `None` where the connection broke off before.
pub(crate) fn exchange(host: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time limit");
    // A body that is refused is not read to its end.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let body = bytes[end + 4..].to_vec();
    let length = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    (method_has_no_body(request) || length.is_none_or(|length| length == body.len()))
        .then_some(Answer { status, headers, body })
}

fn method_has_no_body(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}

impl Running {
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        exchange(&self.host, &request(method, path, headers, body)).expect("an answer")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, &[&format!("Content-Type: {kind}")], body)
    }

    pub(crate) fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, "application/json", body.to_string().as_bytes())
    }
}

/// A site with classes `0` and `1`.
pub(crate) fn shop() -> Shop {
    let shop = Shop::new();
    shop.does(&publishing("gallery.bin", "site", ""));
    shop
}

/// A form with files of these names.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"";
        body.extend(format!("{head}{name}\"\r\nContent-Type: image/png\r\n\r\n").bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    body
}

#[test]
fn answers_are_those_of_the_command_to_the_last_digit() {
    let shop = shop();
    let pictures: Vec<Vec<u8>> = (0..5)
        .map(|number| shape(number, number, 30 + 9 * number as u32).encode_png().expect("a PNG"))
        .collect();
    let names: Vec<String> = (0..5).map(|number| format!("query{number}.png")).collect();
    for (name, picture) in names.iter().zip(&pictures) {
        shop.0.write(name, picture);
    }
    let told = shop.0.succeed(&format!("recognize --bundle site --json {}", names.join(" ")));
    let wanted: Vec<Value> = told
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| parsed(line)["objects"].clone())
        .collect();
    let all = "fields=bbox,detection_score,known,probability,matches,embedding";
    let server = serve(&shop.path("site"), &[]);
    for (picture, wanted) in pictures.iter().zip(&wanted) {
        let answer = server.post(&format!("/v1/recognize?{all}"), "image/png", picture).json();
        assert_eq!(answer["images"][0]["objects"], *wanted);
        assert!(answer["images"][0]["timings_ms"]["embed"].as_f64().is_some_and(|time| time > 0.0));
    }
    // Many at once share batches, in a form and in JSON.
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(&pictures)
        .map(|(name, picture)| (name.as_str(), picture.as_slice()))
        .collect();
    let kind = "multipart/form-data; boundary=b";
    let of_form = server.post(&format!("/v1/recognize?{all}"), kind, &form(&files)).json();
    let images: Vec<Value> = files
        .iter()
        .map(|(name, bytes)| json!({"name": name, "data": BASE64_STANDARD.encode(bytes)}))
        .collect();
    let fields: Vec<&str> = all["fields=".len()..].split(',').collect();
    let of_json =
        server.post_json("/v1/recognize", &json!({"images": images, "fields": fields})).json();
    for answer in [of_form, of_json] {
        for (place, name) in names.iter().enumerate() {
            let image = &answer["images"][place];
            assert_eq!((&image["name"], &image["objects"]), (&json!(name), &wanted[place]));
        }
    }
    // From many clients at once, too.
    std::thread::scope(|scope| {
        for (picture, wanted) in pictures.iter().zip(&wanted).cycle().take(20) {
            let server = &server;
            scope.spawn(move || {
                let answer = server.post(&format!("/v1/recognize?{all}"), "", picture).json();
                assert_eq!(answer["images"][0]["objects"], *wanted);
            });
        }
    });
    let figures = server.get("/metrics").text();
    let figure = |name: &str| -> f64 {
        let line = figures.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.and_then(|value| value.parse().ok()).expect("a figure")
    };
    assert_eq!(figure("magpie_images_total"), 35.0);
    assert!(figure("magpie_batches_total") < 35.0, "{figures}");
}

#[test]
fn options_choose_classes_fields_and_thresholds() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let ask = |query: &str| server.post(&format!("/v1/recognize?{query}"), "image/png", &picture);
    let object = |query: &str| ask(query).json()["images"][0]["objects"][0].clone();
    let plain = object("");
    assert_eq!(plain["matches"][0]["label"], "0");
    assert!(
        plain.get("embedding").is_none()
            && plain["matches"].as_array().is_some_and(|m| m.len() == 2)
    );
    assert_eq!(object("top_k=1")["matches"].as_array().map(Vec::len), Some(1));
    let other = object("class=1&fields=matches,known,least_similarity&min_similarity=1");
    assert_eq!(other["matches"].as_array().map(Vec::len), Some(1));
    assert_eq!((&other["matches"][0]["label"], &other["known"]), (&json!("1"), &json!(false)));
    assert_eq!(other["least_similarity"], 1.0);
    assert!(other.get("bbox").is_none());
    for (query, kind) in [
        ("top_k=0", "value"),
        ("top_k=101", "value"),
        ("min_similarity=2", "value"),
        ("tpo_k=3", "request"),
        ("fields=color", "request"),
        ("top_k=many", "request"),
    ] {
        assert_eq!(ask(query).problem(), kind, "{query}");
    }
    // In JSON one class needs no list, and in a form it is a field.
    let data = BASE64_STANDARD.encode(&picture);
    let in_json = json!({"images": [{"data": data}], "class": "1", "where": {}});
    let in_json = server.post_json("/v1/recognize", &in_json).json();
    let field = b"--b\r\nContent-Disposition: form-data; name=class\r\n\r\n1\r\n";
    let in_form = [&field[..], &form(&[("a.png", &picture)])].concat();
    let in_form = server.post("/v1/recognize", "multipart/form-data; boundary=b", &in_form).json();
    for answer in [in_json, in_form] {
        let found = &answer["images"][0]["objects"][0]["matches"];
        assert_eq!((found.as_array().map(Vec::len), &found[0]["label"]), (Some(1), &json!("1")));
    }
    let twice = json!({"images": [{"data": BASE64_STANDARD.encode(&picture)}], "top_k": 1});
    assert_eq!(server.post_json("/v1/recognize?top_k=1", &twice).problem(), "request");
    // An embedding that came out goes in; an image is searched as it would become an entry.
    let embedded = server.post("/v1/embed?part=entry", "image/png", &picture).json();
    let embedding = embedded["images"][0]["embedding"].clone();
    let by_vector =
        server.post_json("/v1/search", &json!({"embedding": embedding, "top_k": 2})).json();
    let by_image = server.post("/v1/search?top_k=2", "image/png", &picture).json();
    assert_eq!(by_vector["images"][0]["matches"], by_image["images"][0]["matches"]);
    assert_eq!(by_image["images"][0]["matches"][0]["label"], "0");
    let short =
        server.post_json("/v1/search", &json!({"embeddings": [[1.0, 2.0], embedding]})).json();
    assert!(
        short["images"][0]["problem"]["detail"]
            .as_str()
            .is_some_and(|text| text.contains("2 values"))
    );
    assert_eq!(short["images"][1]["matches"][0]["label"], "0");
    assert_eq!(server.post("/v1/detect", "image/png", &picture).problem(), "conflict");
}

#[test]
fn a_detector_finds_what_is_recognized() {
    let shop = Shop::new();
    shop.0.detector();
    shop.does(&publishing("gallery.bin", "site", "--detector detector.safetensors"));
    let picture = shape(0, 0, 90).encode_png().expect("a PNG");
    shop.0.write("query.png", &picture);
    let server = serve(&shop.path("site"), &[]);
    let told = shop.0.succeed("recognize --bundle site --json query.png");
    let told = parsed(told.lines().find(|line| line.starts_with('{')).expect("an object"));
    let all = "fields=bbox,detection_score,known,probability,matches,embedding";
    let answer = server.post(&format!("/v1/recognize?{all}"), "image/png", &picture).json();
    assert_eq!(answer["images"][0]["objects"], told["objects"]);
    // By another threshold there are more.
    let found = server.post("/v1/detect?min_score=0", "image/png", &picture).json();
    let found = found["images"][0]["objects"].as_array().expect("boxes").clone();
    let named = server.post("/v1/recognize?min_score=0&fields=bbox", "image/png", &picture).json();
    let named = named["images"][0]["objects"].as_array().expect("objects").clone();
    assert!(!found.is_empty() && !named.is_empty() && named.len() <= found.len());
    for object in named {
        assert!(found.iter().any(|found| found["bbox"] == object["bbox"]), "{object}");
    }
    let none = server.post("/v1/detect?min_score=1", "image/png", &picture).json();
    assert_eq!(none["images"][0]["objects"], json!([]));
}

#[test]
fn what_cannot_be_used_is_a_problem_with_a_sentence() {
    let shop = shop();
    let server = serve(&shop.path("site"), &["--max-body", "1", "--max-pixels", "1"]);
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let large = shape(0, 0, 1100).encode_png().expect("a PNG");
    let post = |kind: &str, body: &[u8]| server.post("/v1/recognize", kind, body);
    for (kind, body, problem) in [
        ("image/png", &b"no image"[..], "format"),
        ("image/png", &picture[..picture.len() / 2], "image"),
        ("image/png", &large, "too-large"),
        ("image/png", b"", "request"),
        ("text/plain", &picture, "format"),
        ("application/json", b"{", "request"),
        ("application/json", b"{\"images\": [{\"data\": \"%\"}]}", "request"),
        ("application/json", b"[]", "request"),
        ("multipart/form-data; boundary=b", b"--c", "request"),
        ("application/json", b"{\"images\": [], \"top_k\": 1, \"top_k\": \"x\"}", "request"),
        ("image/png", &vec![0; (1 << 20) + 1], "too-large"),
    ] {
        let answer = post(kind, body);
        assert_eq!(answer.problem(), problem, "{kind}: {}", answer.text());
    }
    // Among others it is told in its place.
    let both =
        post("multipart/form-data; boundary=b", &form(&[("bad", b"x"), ("good", &picture)])).json();
    assert_eq!(both["images"][0]["problem"]["status"], 415);
    assert_eq!(both["images"][1]["objects"][0]["matches"][0]["label"], "0");
    for (method, path, kind) in [
        ("GET", "/v1/none", "not-found"),
        ("GET", "/v1/recognize", "method"),
        ("GET", "/v1/classes/9", "not-found"),
        ("GET", "/v1/classes?limit=0", "value"),
        ("GET", "/v1/classes?offset=1000000001", "value"),
        ("GET", "/v1/classes?limit=1&limit=1", "request"),
        ("DELETE", "/v1/classes/0", "read-only"),
        ("POST", "/v1/undo", "read-only"),
        ("PUT", "/v1/gallery/file", "read-only"),
    ] {
        assert_eq!(server.ask(method, path, &[], b"").problem(), kind, "{method} {path}");
    }
    let near = server.get("/v1/classes/00").text();
    assert!(near.contains("did you mean"), "{near}");
    assert_eq!(server.get("/none.html").status, 404);
    assert!(server.get("/").text().starts_with("<!doctype html>"), "the site itself");
}

#[test]
fn classes_entries_and_the_gallery_are_read_with_tags() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    let first = server.get("/v1/classes?limit=1");
    let page = first.json();
    assert_eq!((&page["total"], &page["next"]), (&json!(2), &json!(1)));
    assert_eq!(
        page["classes"][0],
        json!({"label": "0", "metadata": {}, "min_similarity": null, "entries": 1, "thumbnail": true})
    );
    let last = server.get("/v1/classes?limit=1&offset=1").json();
    assert_eq!((&last["classes"][0]["label"], &last["next"]), (&json!("1"), &Value::Null));
    assert_eq!(server.get("/v1/classes?q=1").json()["total"], 1);
    assert_eq!(server.get("/v1/classes/1").json()["label"], "1");
    let thumbnail = server.get("/v1/classes/1/thumbnail");
    assert!(
        thumbnail.header("content-type") == "image/jpeg" && thumbnail.body.starts_with(b"\xff\xd8")
    );
    let entries = server.get("/v1/entries?class=1&embeddings=true").json();
    assert_eq!((&entries["total"], &entries["entries"][0]["class"]), (&json!(1), &json!("1")));
    assert!(entries["entries"][0]["embedding"].as_array().is_some_and(|values| values.len() > 8));
    let about = server.get("/v1/gallery").json();
    assert_eq!(
        (&about["classes"], &about["entries"], &about["changes"]),
        (&json!(2), &json!(2), &json!(false))
    );
    let file = server.get("/v1/gallery/file");
    assert_eq!(models::Gallery::from_bytes(&file.body).expect("a gallery").len(), 2);
    for path in ["/v1/classes", "/v1/entries", "/v1/gallery", "/v1/gallery/file", "/v1/classes/1"] {
        let tag = format!("If-None-Match: {}", server.get(path).header("etag"));
        let again = server.ask("GET", path, &[&tag], b"");
        assert!(again.status == 304 && again.body.is_empty(), "{path}");
    }
    let head = server.ask("HEAD", "/v1/gallery", &[], b"");
    assert!(head.status == 200 && head.body.is_empty());
    assert_eq!(server.get("/healthz").text(), "ok\n");
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn the_service_describes_itself() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    let text = server.get("/v1/openapi.json").text();
    let description = parsed(&text);
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let paths = description["paths"].as_object().expect("paths");
    for (path, method) in [
        ("/v1/recognize", "post"),
        ("/v1/detect", "post"),
        ("/v1/embed", "post"),
        ("/v1/search", "post"),
        ("/v1/classes", "get"),
        ("/v1/classes/{label}", "patch"),
        ("/v1/entries", "post"),
        ("/v1/entries/move", "post"),
        ("/v1/gallery/file", "put"),
        ("/v1/gallery/calibrate", "post"),
        ("/v1/undo", "post"),
        ("/metrics", "get"),
    ] {
        assert!(paths[path][method]["summary"].is_string(), "{method} {path}");
    }
    // Everything that is referred to is there.
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = reference.split('"').next().expect("a pointer").replace("~1", "/");
        let found = pointer.split('/').try_fold(&description, |value, key| value.get(key));
        assert!(found.is_some(), "{pointer}");
    }
    let page = server.get("/v1/");
    assert!(
        page.text().contains("try.js") && page.header("content-security-policy").contains("'none'")
    );
    assert!(server.get("/v1/try.js").text().contains("openapi.json"));
}

#[test]
fn a_client_that_says_nothing_or_half_holds_nobody_up() {
    let shop = shop();
    let server = serve(&shop.path("site"), &["--max-seconds", "5", "--max-requests", "4"]);
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let half = request("POST", "/v1/recognize", &["Content-Type: image/png"], &picture);
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(&server.host).expect("a connection");
        stream.write_all(&half[..half.len() - 9]).expect("half a request");
        held.push(stream);
    }
    held.push(TcpStream::connect(&server.host).expect("a connection"));
    // Those that wait for their bodies have no place: whoever comes is answered at once.
    for _ in 0..3 {
        assert_eq!(server.post("/v1/recognize", "image/png", &picture).status, 200);
        assert_eq!(server.get("/v1/gallery").status, 200);
    }
    assert_eq!(server.get("/healthz").status, 200);
    let mut text = String::new();
    held[0].set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let mut line = BufReader::new(&held[0]);
    line.read_line(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert_eq!(server.post("/v1/recognize", "image/png", &picture).status, 200);
}

#[test]
fn more_than_the_queue_takes_is_told_to_come_again_and_nothing_is_lost() {
    let shop = shop();
    let server = serve(&shop.path("site"), &["--max-queue", "2", "--max-requests", "32"]);
    let picture = shape(1, 0, 900).encode_png().expect("a PNG");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || server.post("/v1/recognize", "image/png", &picture);
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
    });
    let (well, busy): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!well.is_empty() && !busy.is_empty(), "{} well, {} busy", well.len(), busy.len());
    for answer in busy {
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.header("retry-after")),
            (429, "busy", "1")
        );
    }
    for answer in well {
        assert_eq!(answer.json()["images"][0]["objects"][0]["matches"][0]["label"], "1");
    }
}
