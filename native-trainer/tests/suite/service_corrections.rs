//! Corrections by visitors: kept until the owner decides, part of no answer before, and never lost or added twice by a kill.

#[cfg(debug_assertions)]
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::service::{Answer, Running, exchange, request, serve, shop};
use crate::service_changes::{BEARER, TOKEN, again, command, open_with, picture};
use crate::world::parsed;

const PNG: &str = "Content-Type: image/png";

impl Running {
    pub(crate) fn correct(&self, class: &str, bytes: &[u8]) -> Answer {
        self.ask("POST", &format!("/v1/corrections?class={class}"), &[PNG], bytes)
    }

    pub(crate) fn waiting(&self) -> Vec<Value> {
        let page = self.change("GET", "/v1/corrections?limit=1000", &[], b"").json();
        let waiting = page["corrections"].as_array().expect("a list").clone();
        assert_eq!(page["total"], waiting.len());
        waiting
    }

    pub(crate) fn decide(&self, how: &str, body: &Value) -> Answer {
        self.change_json("POST", &format!("/v1/corrections/{how}"), body)
    }
}

#[test]
fn an_embedding_of_any_length_is_an_entry_of_unit_length() {
    let (_shop, server) = open_with(&["--corrections"]);
    let embedded = server.ask("POST", "/v1/embed?part=entry", &[PNG], &picture(2, 1)).json();
    let values = embedded["images"][0]["embedding"].as_array().expect("values");
    let long: Vec<f64> =
        values.iter().map(|value| 1000.0 * value.as_f64().expect("a number")).collect();
    let told = server.post_json("/v1/corrections", &json!({"class": "Gem", "embedding": long}));
    let body = json!({"ids": [told.json()["id"]]});
    assert_eq!(server.decide("accept", &body).json()["added"], 1);
    let found = server.ask("POST", "/v1/recognize", &[PNG], &picture(2, 1)).json();
    let best = &found["images"][0]["objects"][0]["matches"][0];
    let similarity = best["similarity"].as_f64().expect("a cosine");
    assert!(best["label"] == "Gem" && (0.9..1.0001).contains(&similarity), "{best}");
    let other = server.ask("POST", "/v1/recognize", &[PNG], &picture(0, 1)).json();
    assert_ne!(other["images"][0]["objects"][0]["matches"][0]["label"], "Gem");
    for wrong in [vec![0.0; long.len()], vec![1e39; long.len()]] {
        let body = json!({"class": "Gem", "embedding": wrong});
        assert_ne!(server.post_json("/v1/corrections", &body).status, 200);
    }
}

#[test]
fn what_was_undone_is_taken_anew() {
    let (shop, mut server) = open_with(&["--corrections"]);
    let told = server.correct("Gem", &picture(2, 1)).json();
    let body = json!({"ids": [told["id"]]});
    for round in 0..3 {
        let accepted = server.decide("accept", &body);
        assert_eq!(accepted.header("idempotent-replayed"), "", "round {round}");
        assert_eq!((accepted.json()["added"].clone(), server.entries()), (json!(1), 3));
        assert_eq!(server.correct("Gem", &picture(2, 1)).json()["known"], true);
        // What takes the entry out takes the correction out.
        match round {
            0 => server.change("POST", "/v1/undo", &[], b"").json(),
            _ => server.change("DELETE", "/v1/classes/Gem", &[], b"").json(),
        };
        assert_eq!(server.entries(), 2);
        assert_eq!(server.decide("accept", &body).problem(), "not-found", "round {round}");
        drop(server);
        server = again(&shop, &["--corrections"]);
        let sent = server.correct("Gem", &picture(2, 1)).json();
        assert_eq!(sent, json!({"id": told["id"], "known": false}), "round {round}");
        assert_eq!(server.waiting().len(), 1);
    }
}

#[test]
fn of_two_decisions_at_once_one_is_the_first() {
    let (_shop, server) = open_with(&["--corrections"]);
    for number in 0..8 {
        let told = server.correct("Gem", &numbered(number)).json();
        let body = json!({"ids": [told["id"]]});
        let before = server.entries();
        let (accepted, rejected) = std::thread::scope(|scope| {
            let accepting = scope.spawn(|| server.decide("accept", &body));
            let rejecting = scope.spawn(|| server.decide("reject", &body));
            (accepting.join().expect("an answer"), rejecting.join().expect("an answer"))
        });
        let mut statuses = [accepted.status, rejected.status];
        assert_eq!(server.entries() - before, u64::from(accepted.status == 200));
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{number}");
    }
}

#[test]
fn a_class_has_more_than_dots() {
    let (_shop, server) = open_with(&["--corrections"]);
    for class in [".", ".."] {
        assert_eq!(server.correct(class, &picture(2, 1)).problem(), "value", "{class}");
        let body = json!({"label": class});
        assert_eq!(server.change_json("PATCH", "/v1/classes/0", &body).problem(), "value");
    }
}

/// Other bytes of the same pixels.
pub(crate) fn numbered(number: usize) -> Vec<u8> {
    [picture(2, 1), number.to_string().into_bytes()].concat()
}

#[test]
fn what_a_visitor_says_waits_for_the_owner() {
    let (shop, server) = open_with(&["--corrections"]);
    let before = server.get("/v1/gallery/file").body;
    let told = server.correct("Gem", &picture(2, 1)).json();
    assert_eq!(told["known"], false);
    assert_eq!(
        server.correct("Gem", &picture(2, 1)).json(),
        json!({"id": told["id"], "known": true})
    );
    let other = server.correct("1", &picture(2, 1)).json();
    assert_ne!(other["id"], told["id"]);
    assert_eq!(server.get("/v1/gallery/file").body, before, "no answer has a part of it");
    // Who has no token sees nothing of it.
    for (method, path) in [
        ("GET", "/v1/corrections"),
        ("GET", &*format!("/v1/corrections/{}/thumbnail", told["id"].as_str().expect("an id"))),
        ("POST", "/v1/corrections/accept"),
        ("POST", "/v1/corrections/reject"),
    ] {
        assert_eq!(server.ask(method, path, &[], b"").problem(), "token", "{method} {path}");
    }
    let waiting = server.waiting();
    let first = &waiting[0];
    assert_eq!((waiting.len(), &first["id"], &first["class"]), (2, &told["id"], &json!("Gem")));
    assert_eq!((&first["class_known"], &first["entries"]), (&json!(false), &json!(1)));
    assert_eq!(waiting[1]["class_known"], true);
    assert!(first["said"]["similarity"].as_f64().is_some_and(|cosine| cosine <= 1.0), "{first}");
    let thumbnail = format!("/v1/corrections/{}/thumbnail", told["id"].as_str().expect("an id"));
    let shown = server.change("GET", &thumbnail, &[], b"");
    assert_eq!(shown.header("content-type"), "image/jpeg");
    assert!(models::RgbImage::decode(&shown.body).is_ok());
    // Accepted it is an entry, as if the owner had added it.
    let accepted = server.decide("accept", &json!({"ids": [told["id"]]})).json();
    assert_eq!((&accepted["added"], &accepted["version"]), (&json!(1), &json!(1)));
    let found = server.ask("POST", "/v1/recognize", &[PNG], &picture(2, 1)).json();
    assert_eq!(found["images"][0]["objects"][0]["matches"][0]["label"], "Gem");
    assert_eq!(
        server.change("POST", "/v1/entries?class=Gem", &[PNG], &picture(2, 1)).json()["known"],
        1
    );
    // Again it answers the same, and adds nothing.
    let again_told = server.decide("accept", &json!({"ids": [told["id"]]}));
    assert_eq!((again_told.header("idempotent-replayed"), again_told.json()), ("true", accepted));
    assert_eq!(server.entries(), 3);
    let gone = server.decide("reject", &json!({"ids": [told["id"]]}));
    assert_eq!((gone.status, gone.problem().as_str()), (409, "conflict"));
    // Rejected it goes, and does not come again.
    assert_eq!(server.decide("reject", &json!({"ids": [other["id"]]})).json()["rejected"], 1);
    assert_eq!(server.decide("reject", &json!({"ids": [other["id"]]})).json()["rejected"], 0);
    assert_eq!(server.correct("1", &picture(2, 1)).json()["known"], true);
    assert!(server.waiting().is_empty());
    // As another class, and undone like any change.
    let third = server.correct("Stone", &picture(2, 3)).json();
    let accepted = server.decide("accept", &json!({"ids": [third["id"]], "to": "0"})).json();
    assert_eq!((&accepted["added"], &accepted["classes"]), (&json!(1), &json!(3)));
    server.change("POST", "/v1/undo", &[], b"").json();
    assert_eq!(server.entries(), 3);
    drop(server);
    let server = again(&shop, &["--corrections"]);
    assert!(server.waiting().is_empty());
    assert_eq!(server.entries(), 3);
}

#[test]
fn an_embedding_is_a_correction_and_what_is_none_is_told() {
    let (_shop, server) = open_with(&["--corrections"]);
    let embedded = server.ask("POST", "/v1/embed?part=entry", &[PNG], &picture(2, 1)).json();
    let embedding = embedded["images"][0]["embedding"].clone();
    let body = json!({"class": "Gem", "embedding": embedding});
    let told = server.post_json("/v1/corrections", &body).json();
    let waiting = server.waiting();
    assert_eq!((&waiting[0]["thumbnail"], &waiting[0]["entries"]), (&json!(false), &json!(1)));
    let thumbnail = format!("/v1/corrections/{}/thumbnail", told["id"].as_str().expect("an id"));
    assert_eq!(server.change("GET", &thumbnail, &[], b"").problem(), "not-found");
    assert_eq!(server.decide("accept", &json!({"ids": [told["id"]]})).json()["added"], 1);
    let found = server.ask("POST", "/v1/recognize", &[PNG], &picture(2, 1)).json();
    assert_eq!(found["images"][0]["objects"][0]["matches"][0]["label"], "Gem");
    for (body, kind) in [
        (json!({"class": "Gem", "embedding": [1.0]}), "value"),
        (json!({"embedding": embedding}), "request"),
        (json!({"class": "Gem"}), "request"),
        (json!({"class": "a\u{202e}", "embedding": embedding}), "value"),
        (json!({"class": " ", "embedding": embedding}), "value"),
        (json!({"class": "Gem", "embedding": embedding, "images": [{"data": ""}]}), "request"),
    ] {
        assert_eq!(server.post_json("/v1/corrections", &body).problem(), kind, "{body}");
    }
    assert_eq!(server.correct("Gem", b"no picture").problem(), "format");
    let none = json!({"ids": ["0".repeat(32)]});
    assert_eq!(server.decide("accept", &none).problem(), "not-found");
    assert_eq!(server.decide("reject", &json!({"ids": []})).problem(), "value");
    assert!(server.waiting().is_empty());
    // Pages of strangers send none.
    let path = "/v1/corrections?class=Gem";
    let foreign = server.ask("POST", path, &[PNG, "Origin: https://a.example"], &picture(2, 1));
    assert_eq!(foreign.problem(), "origin");
}

#[test]
fn nothing_is_taken_unless_the_owner_wants_it_nor_more_than_is_looked_at() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    assert_eq!(server.correct("Gem", &picture(2, 1)).problem(), "read-only");
    drop(server);
    let (_, said) = shop.told("serve site --api --corrections");
    assert!(said.contains("--token-file <FILE>"), "{said}");
    std::fs::write(shop.path("token"), "a-token-of-more-than-enough-letters").expect("a file");
    let (_, said) = shop.told("serve site --api --corrections --token-file token");
    assert!(said.contains("--state"), "{said}");
    let (_shop, server) = open_with(&["--corrections"]);
    let refused = (0..400)
        .map(|number| server.correct("Gem", &numbered(number)))
        .find(|answer| answer.status != 200)
        .expect("no flood");
    assert_eq!((refused.status, refused.problem().as_str()), (429, "busy"));
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    let waiting = server.waiting().len();
    assert!((120..400).contains(&waiting), "{waiting}");
    let figures = server.get("/metrics").text();
    for line in
        [&*format!("magpie_corrections_waiting {waiting}"), "magpie_corrections_refused_total 1"]
    {
        assert!(figures.lines().any(|found| found == line), "{line}\n{figures}");
    }
}

#[test]
fn whatever_was_answered_waits_after_a_kill() {
    let (shop, mut server) = open_with(&["--corrections"]);
    let mut answered = 0;
    for round in 0..3 {
        let done = AtomicBool::new(false);
        let kept: Vec<Value> = std::thread::scope(|scope| {
            let send = |thread: usize| {
                let (host, done) = (server.host.clone(), &done);
                move || {
                    let mut kept = Vec::new();
                    for number in 0..30 {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let bytes = numbered(10_000 * round + 1000 * thread + number);
                        let request = request("POST", "/v1/corrections?class=Gem", &[PNG], &bytes);
                        match exchange(&host, &request) {
                            Some(answer) => kept.push(answer.json()["id"].clone()),
                            None => break,
                        }
                    }
                    kept
                }
            };
            let sending: Vec<_> = (0..3).map(|thread| scope.spawn(send(thread))).collect();
            std::thread::sleep(Duration::from_millis(300 + 130 * round as u64));
            let _ = server.child.kill();
            done.store(true, Ordering::Relaxed);
            sending.into_iter().flat_map(|sending| sending.join().expect("a client")).collect()
        });
        assert!(!kept.is_empty(), "nothing was answered in round {round}");
        let _ = server.child.wait();
        server = again(&shop, &["--corrections"]);
        let waiting: Vec<Value> =
            server.waiting().into_iter().map(|correction| correction["id"].clone()).collect();
        for id in &kept {
            assert!(waiting.contains(id), "round {round}");
        }
        answered += kept.len();
        assert!(waiting.len() >= answered && waiting.len() <= answered + 3 * (round + 1));
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_kill_at_any_operation_on_files_adds_a_correction_once() {
    let shop = shop();
    shop.0.write("token", TOKEN);
    let mut whole = 0;
    for at in 0..30 {
        let _ = std::fs::remove_dir_all(shop.path("state"));
        let mut faulty = command(&shop, &["--corrections"]);
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
        let ask = |method: &str, path: &str, headers: &[&str], body: &[u8]| {
            let answer = exchange(&host, &request(method, path, headers, body))?;
            (answer.status == 200).then(|| parsed(&answer.text()))
        };
        let mut sent = None;
        let mut accepted = None;
        if let Some(told) = ask("POST", "/v1/corrections?class=Gem", &[PNG], &picture(2, 1)) {
            let body = json!({"ids": [told["id"]]}).to_string();
            let headers = [BEARER, "Content-Type: application/json"];
            accepted = ask("POST", "/v1/corrections/accept", &headers, body.as_bytes());
            sent = Some(told["id"].clone());
        }
        let _ = child.kill();
        let _ = child.wait();
        let server = again(&shop, &["--corrections"]);
        let Some(id) = sent else {
            assert!(server.waiting().len() <= 1 && server.entries() == 2, "kill:{at}");
            continue;
        };
        let is_waiting = server.waiting().iter().any(|correction| correction["id"] == id);
        let entries = server.entries();
        assert!(entries <= 3 && (is_waiting || entries == 3), "kill:{at}: it is lost");
        if accepted.is_some() {
            whole += 1;
            assert!(!is_waiting && entries == 3, "kill:{at}: it was answered");
        }
        // Asked again, it is added once whatever the kill has left.
        assert_eq!(server.decide("accept", &json!({"ids": [id]})).status, 200, "kill:{at}");
        assert!(server.entries() == 3 && server.waiting().is_empty(), "kill:{at}");
    }
    assert!((1..30).contains(&whole), "{whole}");
}
