//! Changes by `magpie serve --api`: durable before they are answered, seen by the next request, by one process at a time,
//! for those who have a token.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{Answer, Running, exchange, request, serve, shop, start};
use crate::sites::Shop;
use crate::world::{refused, shape, tree};

pub(crate) const TOKEN: &str = "a-token-of-the-test";
pub(crate) const BEARER: &str = "Authorization: Bearer a-token-of-the-test";

/// A site, and a service that changes its gallery.
pub(crate) fn open() -> (Shop, Running) {
    open_with(&[])
}

/// The same with flags.
pub(crate) fn open_with(more: &[&str]) -> (Shop, Running) {
    let shop = shop();
    shop.0.write("token", format!("{TOKEN}\n"));
    let server = again(&shop, more);
    (shop, server)
}

pub(crate) fn command(shop: &Shop, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--state"]);
    command.arg(shop.path("state")).arg("--token-file").arg(shop.path("token")).args(more);
    command.stderr(Stdio::null());
    command
}

pub(crate) fn again(shop: &Shop, more: &[&str]) -> Running {
    start(&mut command(shop, more))
}

pub(crate) fn picture(class: usize, number: usize) -> Vec<u8> {
    shape(class, number % 5, 24 + number as u32).encode_png().expect("a PNG")
}

impl Running {
    pub(crate) fn change(&self, method: &str, path: &str, more: &[&str], body: &[u8]) -> Answer {
        self.ask(method, path, &[&[BEARER], more].concat(), body)
    }

    pub(crate) fn change_json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.change(method, path, &["Content-Type: application/json"], body.to_string().as_bytes())
    }

    fn add(&self, class: &str, number: usize) -> Answer {
        let path = format!("/v1/entries?class={class}");
        self.change("POST", &path, &["Content-Type: image/png"], &picture(2, number))
    }

    pub(crate) fn entries(&self) -> u64 {
        self.get("/v1/gallery").json()["entries"].as_u64().expect("a count")
    }
}

#[test]
fn a_change_is_seen_by_the_next_request_and_can_be_undone() {
    let (shop, server) = open();
    let site = tree(&shop.path("site"));
    let added = server.add("diamond", 0).json();
    assert_eq!(
        (&added["added"], &added["classes"], &added["version"]),
        (&json!(1), &json!(3), &json!(1))
    );
    let found =
        server.ask("POST", "/v1/recognize", &["Content-Type: image/png"], &picture(2, 0)).json();
    assert_eq!(found["images"][0]["objects"][0]["matches"][0]["label"], "diamond");
    assert_eq!(found["version"], 1);
    assert_eq!(server.add("diamond", 0).json()["known"], 1, "the same image");
    let described = json!({"label": "Gem", "metadata": {"price": "9 €", "link": "https://x.example"}, "min_similarity": 0.25});
    server.change_json("PATCH", "/v1/classes/diamond", &described).json();
    server.change_json("PATCH", "/v1/classes/Gem", &json!({"metadata": {"link": null}})).json();
    let gem = server.get("/v1/classes/Gem").json();
    assert_eq!(
        (&gem["metadata"], &gem["min_similarity"]),
        (&json!({"price": "9 €"}), &json!(0.25))
    );
    assert_eq!(server.get("/v1/classes?where=price=9+%E2%82%AC").json()["total"], 1);
    let id = server.get("/v1/entries?class=Gem").json()["entries"][0]["id"].clone();
    server.change_json("POST", "/v1/entries/move", &json!({"ids": [id], "to": "0"})).json();
    assert_eq!(server.get("/v1/classes/0").json()["entries"], 2);
    let path = format!("/v1/entries/{}?class=0", id.as_str().expect("an id"));
    assert_eq!(server.change("DELETE", &path, &[], b"").json()["removed"], 1);
    assert_eq!(server.change("DELETE", &path, &[], b"").problem(), "not-found");
    server.change("DELETE", "/v1/classes/Gem", &[], b"").json();
    assert_eq!(server.get("/v1/gallery").json()["classes"], 2);
    for _ in 0..3 {
        server.change("POST", "/v1/undo", &[], b"").json();
    }
    let gem = server.get("/v1/classes/Gem").json();
    assert_eq!((&gem["entries"], &gem["metadata"]["price"]), (&json!(1), &json!("9 €")));
    assert_eq!(tree(&shop.path("site")), site, "the site's own files stay");
    shop.does("verify site");
}

#[test]
fn images_are_added_as_the_command_adds_them() {
    let (shop, server) = open();
    let mut images = Vec::new();
    for number in 0..20 {
        let name = format!("more/{}/{number}.png", number % 3);
        shop.0.write(&name, picture(number, number));
        images.push((number % 3, picture(number, number)));
    }
    let body: Vec<Value> = images
        .iter()
        .map(|(class, bytes)| {
            use base64::Engine;
            let data = base64::prelude::BASE64_STANDARD.encode(bytes);
            json!({"class": class.to_string(), "data": data})
        })
        .collect();
    let told = server.change_json("POST", "/v1/entries", &json!({"images": body})).json();
    assert_eq!(told["added"], 20, "{told}");
    shop.does("gallery add gallery.bin --images more --extractor model.safetensors --adapt never --calibrate never");
    let wanted = crate::world::opened(&shop.path("gallery.bin"));
    let got = models::Gallery::from_bytes(&server.get("/v1/gallery/file").body).expect("a gallery");
    let entries = |gallery: &models::Gallery| {
        let of = |entry| {
            let label = gallery.classes()[gallery.entry_class(entry)].label.clone();
            (label, gallery.content_id(entry).0, gallery.embedding(entry).into_owned())
        };
        let mut all: Vec<_> = gallery.entries().map(of).collect();
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        all
    };
    assert_eq!(entries(&got), entries(&wanted));
    // One that cannot be used is left out and told, or keeps all out.
    let blank = shape(0, 0, 8).data().iter().map(|_| 7).collect();
    let blank =
        models::RgbImage::from_rgb(8, 8, blank).expect("a picture").encode_png().expect("a PNG");
    let head = "--b\r\nContent-Disposition: form-data; name=image; filename=";
    let form = [
        b"--b\r\nContent-Disposition: form-data; name=class\r\n\r\nnew\r\n".to_vec(),
        [head.as_bytes(), b"a\r\n\r\n", &blank, b"\r\n"].concat(),
        [head.as_bytes(), b"b\r\n\r\n", &picture(1, 9), b"\r\n--b--"].concat(),
    ]
    .concat();
    let kind = "Content-Type: multipart/form-data; boundary=b";
    let strict = server.change("POST", "/v1/entries?strict=true", &[kind], &form);
    assert!(
        strict.problem() == "image" && strict.text().contains("one color"),
        "{}",
        strict.text()
    );
    let told = server.change("POST", "/v1/entries", &[kind], &form).json();
    assert_eq!((&told["added"], &told["left_out"][0]["name"]), (&json!(1), &json!("a")));
}

#[test]
fn a_change_depends_on_its_condition_and_happens_once_a_key() {
    let (shop, server) = open();
    let tag = server.get("/v1/gallery").header("etag").to_owned();
    let matching = format!("If-Match: {tag}");
    let matching = matching.as_str();
    let rename = |to: &str, more: &[&str]| {
        let more = [&["Content-Type: application/json"], more].concat();
        let body = json!({"label": to}).to_string();
        server.change("PATCH", "/v1/classes/0", &more, body.as_bytes())
    };
    let key = "Idempotency-Key: \"5f1a\"";
    let first = rename("zero", &[matching, key]);
    let (text, tag) = (first.text(), first.header("etag").to_owned());
    assert_eq!(first.status, 200);
    assert_eq!(rename("nil", &[matching]).status, 412);
    let second = rename("zero", &[matching, key]);
    assert_eq!((second.text(), second.header("etag")), (text.clone(), tag.as_str()));
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!(rename("other", &[key]).problem(), "idempotency-key");
    drop(server);
    let server = again(&shop, &[]);
    let more = ["Content-Type: application/json", matching, key];
    let third = server.change(
        "PATCH",
        "/v1/classes/0",
        &more,
        json!({"label": "zero"}).to_string().as_bytes(),
    );
    assert_eq!((third.text(), third.header("idempotent-replayed")), (text, "true"));
    assert_eq!(server.get("/v1/gallery").json()["version"], 1);
}

#[test]
fn whatever_was_answered_is_there_after_a_kill() {
    let (shop, mut server) = open();
    let mut answered = 0_usize;
    for round in 0..4 {
        let done = AtomicBool::new(false);
        let added: Vec<usize> = std::thread::scope(|scope| {
            let add = |thread: usize| {
                let (host, done) = (server.host.clone(), &done);
                move || {
                    let mut added = Vec::new();
                    for number in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = 1_000_000 * round + 100_000 * thread + number;
                        let mut bytes = picture(2, thread);
                        // Another content of the same pixels.
                        bytes.extend(id.to_string().bytes());
                        let lines = [BEARER, "Content-Type: image/png"];
                        let request =
                            request("POST", &format!("/v1/entries?class=c{id}"), &lines, &bytes);
                        match exchange(&host, &request) {
                            Some(answer) if answer.status == 200 => added.push(id),
                            Some(answer) => assert_eq!(answer.status, 429, "{}", answer.text()),
                            None => break,
                        }
                    }
                    added
                }
            };
            let adding: Vec<_> = (0..3).map(|thread| scope.spawn(add(thread))).collect();
            std::thread::sleep(Duration::from_millis(400 + 170 * round as u64));
            // As `kill -9` does.
            let _ = server.child.kill();
            done.store(true, Ordering::Relaxed);
            adding.into_iter().flat_map(|adding| adding.join().expect("a client")).collect()
        });
        assert!(!added.is_empty(), "nothing was answered in round {round}");
        let _ = server.child.wait();
        server = again(&shop, &[]);
        for id in &added {
            assert_eq!(
                server.get(&format!("/v1/classes/c{id}")).json()["entries"],
                1,
                "round {round}"
            );
        }
        answered += added.len();
        // One that was not answered may be there, and then whole.
        let classes = server.get("/v1/gallery").json()["classes"].as_u64().expect("a count");
        assert!(classes >= 2 + answered as u64);
        assert_eq!(server.entries(), classes);
    }
    let file = server.get("/v1/gallery/file").body;
    shop.0.write("after.bin", file);
    shop.does("gallery verify after.bin");
}

#[cfg(debug_assertions)]
#[test]
fn a_kill_at_any_operation_on_files_leaves_what_was_answered() {
    let shop = shop();
    shop.0.write("token", TOKEN);
    for at in 0..14 {
        let _ = std::fs::remove_dir_all(shop.path("state"));
        let mut faulty = command(&shop, &[]);
        faulty
            .env("MAGPIE_FAULT", format!("kill:{at}"))
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        let mut child = faulty.spawn().expect("magpie runs");
        let mut address = String::new();
        let output = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut address)
            .expect("a line or the end");
        let host = address.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut answered = Vec::new();
        for id in 0..4 {
            let lines = [BEARER, "Content-Type: image/png"];
            let path = format!("/v1/entries?class=c{id}");
            let request = request("POST", &path, &lines, &picture(2, id));
            match exchange(&host, &request) {
                Some(answer) if answer.status == 200 => answered.push(id),
                _ => break,
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        let server = again(&shop, &[]);
        for id in &answered {
            assert_eq!(server.get(&format!("/v1/classes/c{id}")).json()["entries"], 1, "kill:{at}");
        }
        assert!(server.entries() <= 2 + answered.len() as u64 + 1, "kill:{at}");
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_disk_that_is_full_refuses_changes_and_goes_on_answering() {
    let shop = shop();
    shop.0.write("token", TOKEN);
    let server = again(&shop, &[]);
    server.add("before", 0).json();
    drop(server);
    let server = start(command(&shop, &[]).env("MAGPIE_FAULT", "full:4"));
    let refused =
        (0..3).map(|number| server.add("later", 1 + number)).find(|answer| answer.status != 200);
    let refused = refused.expect("the disk is full");
    assert_eq!((refused.status, refused.problem().as_str()), (507, "storage"));
    let before = server.entries();
    assert_eq!(server.add("later", 9).problem(), "storage");
    assert_eq!(server.entries(), before);
    drop(server);
    assert_eq!(again(&shop, &[]).entries(), before);
}

#[test]
fn the_gallery_is_replaced_and_learns() {
    let (shop, server) = open();
    let file = std::fs::read(shop.path("new.bin")).expect("a gallery");
    let put = |body: &[u8]| {
        server.change("PUT", "/v1/gallery/file", &["Content-Type: application/octet-stream"], body)
    };
    put(&file).json();
    assert_eq!(server.get("/v1/classes/mug").json()["entries"], 1);
    assert_eq!(server.get("/v1/gallery/file").body, file);
    assert_eq!(put(b"no gallery").problem(), "gallery");
    let other = models::Gallery::new(4, "another model").to_bytes();
    assert_eq!(put(&other).problem(), "conflict");
    let learned = server.change_json("POST", "/v1/gallery/adapt", &json!({})).json();
    assert!(learned["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{learned}");
    assert!(
        server.change_json("POST", "/v1/gallery/calibrate", &json!({"false_accept": 0.1})).status
            == 200
    );
    assert_eq!(
        server.change_json("POST", "/v1/gallery/calibrate", &json!({"false_accept": 2})).problem(),
        "value"
    );
    drop(server);
    let server = again(&shop, &[]);
    assert_eq!(server.get("/v1/classes/mug").json()["entries"], 1);
    server.change("POST", "/v1/undo", &[], b"").json();
}

#[test]
fn one_process_has_a_gallery_and_only_who_has_a_token_changes_it() {
    let (shop, server) = open();
    let output = command(&shop, &[]).stderr(Stdio::piped()).output().expect("magpie runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("another process serves or changes this gallery"), "{told}");
    // Commands keep off, whether it runs or not: its journal goes on from the gallery that it knows.
    let kept = shop.path("state").join("gallery-0.bin");
    let told = refused(&[&"describe", &kept, &"--class", &"0", &"--set", &"a=b"]);
    assert!(told.contains("belongs to a service"), "{told}");
    for header in ["Authorization: Bearer a-token-of-the-tesT", "Authorization: Basic x", "X: y"] {
        let refused = server.ask("DELETE", "/v1/classes/0", &[header], b"");
        assert_eq!((refused.status, refused.problem().as_str()), (401, "token"));
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    drop(server);
    shop.0.write("read", "another-token-to-read");
    let read = shop.path("read");
    let read = read.to_str().expect("UTF-8");
    let server = again(&shop, &["--token-file-read", read, "--cors", "https://a.example"]);
    assert_eq!(server.get("/v1/classes").problem(), "token");
    assert_eq!(server.get("/").problem(), "token");
    assert_eq!(server.get("/healthz").status, 200);
    let reads = "Authorization: Bearer another-token-to-read";
    assert_eq!(server.ask("GET", "/v1/classes", &[reads], b"").status, 200);
    assert_eq!(server.ask("DELETE", "/v1/classes/0", &[reads], b"").problem(), "token");
    assert_eq!(server.change("GET", "/v1/classes", &[], b"").status, 200);
    // A page of a listed origin may ask, one of another may not.
    let asked = |origin: &str| {
        server.ask("POST", "/v1/search", &[reads, &format!("Origin: {origin}")], b"{}")
    };
    assert_eq!(asked("https://b.example").problem(), "origin");
    let admitted = asked("https://a.example");
    assert_eq!(
        (admitted.problem().as_str(), admitted.header("access-control-allow-origin")),
        ("format", "https://a.example")
    );
    let before = server.ask("OPTIONS", "/v1/search", &["Origin: https://a.example"], b"");
    assert_eq!(before.status, 204);
    assert!(before.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(
        server
            .ask("OPTIONS", "/v1/search", &["Origin: https://b.example"], b"")
            .header("access-control-allow-origin"),
        ""
    );
    let short = shop.0.write("short", "abc");
    let output = serve_output(&shop.path("site"), &short);
    assert!(output.contains("16 or more printable ASCII characters"), "{output}");
}

fn serve_output(site: &Path, token: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("serve").arg(site).args(["--api", "--port", "0", "--token-file-read"]).arg(token);
    let output = command.output().expect("magpie runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(unix)]
#[test]
fn at_the_end_what_was_begun_is_answered() {
    let (shop, mut server) = open();
    let large = shape(1, 0, 1500).encode_png().expect("a PNG");
    let asking = request("POST", "/v1/recognize", &["Content-Type: image/png"], &large);
    let host = server.host.clone();
    std::thread::scope(|scope| {
        let ask = || exchange(&host, &asking).expect("an answer");
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        let begin = Instant::now();
        let working = || {
            let text = server.get("/metrics").text();
            let line = text.lines().find_map(|line| line.strip_prefix("magpie_requests_working "));
            line.and_then(|value| value.parse::<u64>().ok()).expect("a figure")
        };
        while working() < 7 && begin.elapsed() < Duration::from_secs(5) {}
        let number = server.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &number]).status().expect("kill runs");
        assert!(sent.success());
        for asked in asked {
            assert_eq!(asked.join().expect("a client").status, 200);
        }
    });
    assert_eq!(server.child.wait().expect("a status").code(), Some(143));
    assert!(!shop.path("state/.state.lock").exists(), "the lock goes");
    assert_eq!(serve(&shop.path("site"), &[]).get("/readyz").status, 200);
}
