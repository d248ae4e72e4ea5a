//! One gallery in a database, and several services on it: each sees what the others have changed with its next request,
//! and nothing that was answered is lost.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use models::gallery::{Adaptation, AdaptationKind, AdaptationMap, Gallery};
use serde_json::Value;

use crate::database::Server;
use crate::service::{Answer, Running, exchange, request, shop, start};
use crate::service_changes::{BEARER, TOKEN, picture};
use crate::sites::Shop;

const PNG: &str = "Content-Type: image/png";

/// A database, and a site whose gallery is going to be there.
pub(crate) fn open() -> (Server, Shop) {
    let (server, shop) = (Server::start(), shop());
    shop.0.write("token", TOKEN);
    (server, shop)
}

pub(crate) fn command(server: &Server, shop: &Shop, more: &[&str]) -> Command {
    command_at(&server.address, shop, more)
}

pub(crate) fn command_at(address: &str, shop: &Shop, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--name", "shop"]);
    command.args(["--server", address]).arg("--token-file").arg(shop.path("token"));
    command.args(more).stderr(Stdio::null());
    command
}

pub(crate) fn serve(server: &Server, shop: &Shop) -> Running {
    start(&mut command(server, shop, &[]))
}

pub(crate) fn add(service: &Running, class: &str, number: usize, more: &[&str]) -> Answer {
    let path = format!("/v1/entries?class={class}");
    service.change("POST", &path, &[&[PNG], more].concat(), &picture(2, number))
}

/// The gallery of every service, which has to be the same file.
pub(crate) fn same(services: &[&Running]) -> (String, Vec<u8>) {
    let all: Vec<(String, Vec<u8>)> = services
        .iter()
        .map(|service| {
            let file = service.get("/v1/gallery/file");
            (file.header("etag").to_owned(), file.body)
        })
        .collect();
    assert!(all.windows(2).all(|two| two[0] == two[1]), "the same version is the same file");
    all[0].clone()
}

#[test]
fn two_services_on_one_gallery_in_postgres_are_one() {
    let (server, shop) = open();
    let (one, two) = (serve(&server, &shop), serve(&server, &shop));
    // The same changes to a folder give the same file and the same answers.
    let mut alone = Command::new(env!("CARGO_BIN_EXE_magpie"));
    alone.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--state"]);
    alone.arg(shop.path("state")).arg("--token-file").arg(shop.path("token"));
    let alone = start(alone.stderr(Stdio::null()));
    let both = [&one, &two];
    let (first, _) = same(&both);
    let mut versions = Vec::new();
    let mut step = |which: usize, method: &str, path: &str, body: &[u8], more: &[&str]| {
        let answer = both[which].change(method, path, more, body);
        let own = alone.change(method, path, more, body);
        assert_eq!((answer.status, answer.text()), (own.status, own.text()), "{method} {path}");
        let (tag, file) = same(&both);
        assert!(file == alone.get("/v1/gallery/file").body, "{method} {path}");
        assert!(!versions.contains(&tag) || answer.status != 200, "{tag}");
        versions.push(tag);
    };
    for number in 0..4 {
        step(number % 2, "POST", "/v1/entries?class=mug", &picture(2, number), &[PNG]);
    }
    step(
        0,
        "PATCH",
        "/v1/classes/mug",
        b"{\"label\": \"cup\"}",
        &["Content-Type: application/json"],
    );
    step(1, "POST", "/v1/undo", b"", &[]);
    step(0, "POST", "/v1/undo", b"", &[]);
    step(1, "POST", "/v1/entries?class=mug", &picture(2, 9), &[PNG]);
    step(0, "DELETE", "/v1/classes/nobody", b"", &[]);
    step(0, "DELETE", "/v1/classes/1", b"", &[]);
    // Another gallery takes the place, is changed, and goes again.
    let file = alone.get("/v1/gallery/file").body;
    step(1, "POST", "/v1/undo", b"", &[]);
    step(0, "PUT", "/v1/gallery/file", &file, &[]);
    step(1, "POST", "/v1/entries?class=plate", &picture(2, 11), &[PNG]);
    for which in [0, 1, 0, 1, 0, 1, 0, 1] {
        step(which, "POST", "/v1/undo", b"", &[]);
    }
    // Answers to images are the same to the last digit but for what they say of time.
    let ask = |service: &Running| {
        let path = "/v1/search";
        let mut answer = service.ask("POST", path, &[PNG], &picture(2, 1)).json();
        answer["version"].take();
        answer
    };
    let shown: Vec<Value> = [&one, &two, &alone].into_iter().map(ask).collect();
    assert!(shown.windows(2).all(|two| two[0] == two[1]));
    // What was known of a version that is gone is not.
    let (now, _) = same(&both);
    assert_ne!(first, now);
    let unchanged = two.ask("GET", "/v1/gallery", &[&format!("If-None-Match: {now}")], b"");
    assert_eq!(unchanged.status, 304);
    assert_eq!(add(&two, "late", 20, &[&format!("If-Match: {first}")]).problem(), "changed");
    let fits = add(&two, "fits", 20, &[&format!("If-Match: {now}")]);
    assert_eq!(fits.status, 200);
    assert_eq!(add(&one, "late", 21, &[&format!("If-Match: {now}")]).problem(), "changed");
    // A key is one for both, also after a start.
    let key = "Idempotency-Key: once";
    let told = add(&one, "once", 30, &[key]);
    let again = add(&two, "once", 30, &[key]);
    assert_eq!((told.status, told.header("idempotent-replayed")), (200, ""));
    assert_eq!((again.text(), again.header("idempotent-replayed")), (told.text(), "true"));
    assert_eq!(again.header("etag"), told.header("etag"));
    assert_eq!(add(&two, "once", 31, &[key]).problem(), "idempotency-key");
    drop(two);
    let two = serve(&server, &shop);
    assert_eq!(add(&two, "once", 30, &[key]).text(), told.text());
    same(&[&one, &two]);
}

#[test]
fn changes_at_two_services_in_postgres_come_one_after_the_other() {
    let (server, shop) = open();
    // The journal is folded many times meanwhile.
    let with = || start(command(&server, &shop, &[]).env("MAGPIE_FOLD", "9"));
    let (one, two) = (with(), with());
    let added: Vec<String> = std::thread::scope(|scope| {
        let adding: Vec<_> = (0..4)
            .map(|thread| {
                let service = [&one, &two][thread % 2];
                let other = [&two, &one][thread % 2];
                scope.spawn(move || {
                    let mut added = Vec::new();
                    for number in 0..12 {
                        let class = format!("c{thread}-{number}");
                        let answer = add(service, &class, 40 + number, &[]);
                        if answer.status == 429 {
                            continue;
                        }
                        answer.json();
                        // The next request, of whomever it is asked.
                        let path = format!("/v1/classes/{class}");
                        assert_eq!(other.get(&path).json()["entries"], 1);
                        assert_eq!(service.get(&path).json()["entries"], 1);
                        added.push(class);
                    }
                    added
                })
            })
            .collect();
        adding.into_iter().flat_map(|adding| adding.join().expect("a client")).collect()
    });
    assert!(added.len() > 24, "{}", added.len());
    let (_, file) = same(&[&one, &two]);
    shop.0.write("after.bin", file);
    shop.does("gallery verify after.bin");
    let version = one.get("/v1/gallery").json()["version"].as_u64().expect("a version");
    assert_eq!(version, added.len() as u64);
    // It was folded, and the last changes can be undone behind that.
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let rows =
            "SELECT (SELECT count(*) FROM shop_journal), (SELECT count(*) FROM shop_generations)";
        let row = server.client().query_one(rows, &[]).expect("counts");
        let counts: (i64, i64) = (row.get(0), row.get(1));
        if counts.0 < added.len() as i64 && counts.1 == 1 {
            break;
        }
        assert!(Instant::now() < end, "{counts:?}");
        add(&one, "more", 70, &[]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let three = with();
    same(&[&one, &two, &three]);
    for service in [&three, &one, &two] {
        service.change("POST", "/v1/undo", &[], b"").json();
        same(&[&one, &two, &three]);
    }
}

#[test]
fn whatever_was_answered_in_postgres_is_there_after_a_kill() {
    let (server, shop) = open();
    let other = serve(&server, &shop);
    let mut answered = 0;
    for round in 0..3_usize {
        let mut killed = serve(&server, &shop);
        let done = AtomicBool::new(false);
        let added: Vec<String> = std::thread::scope(|scope| {
            let adding: Vec<_> = (0..3)
                .map(|thread| {
                    let (host, done) = (killed.host.clone(), &done);
                    scope.spawn(move || {
                        let mut added = Vec::new();
                        for number in 0.. {
                            if done.load(Ordering::Relaxed) {
                                break;
                            }
                            let class = format!("c{round}-{thread}-{number}");
                            let mut bytes = picture(2, thread);
                            bytes.extend(class.bytes());
                            let path = format!("/v1/entries?class={class}");
                            let sent = request("POST", &path, &[BEARER, PNG], &bytes);
                            match exchange(&host, &sent) {
                                Some(answer) if answer.status == 200 => added.push(class),
                                Some(answer) => assert_eq!(answer.status, 429, "{}", answer.text()),
                                None => break,
                            }
                        }
                        added
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(500 + 170 * round as u64));
            let _ = killed.child.kill();
            done.store(true, Ordering::Relaxed);
            adding.into_iter().flat_map(|adding| adding.join().expect("a client")).collect()
        });
        assert!(!added.is_empty(), "nothing was answered in round {round}");
        let _ = killed.child.wait();
        for class in &added {
            assert_eq!(other.get(&format!("/v1/classes/{class}")).json()["entries"], 1);
        }
        answered += added.len() as u64;
        // One that was not answered may be there, and then whole.
        let gallery = other.get("/v1/gallery").json();
        let count = |name: &str| gallery[name].as_u64().expect("a count");
        assert!(count("classes") >= 2 + answered);
        assert_eq!((count("entries"), count("version")), (count("classes"), count("classes") - 2));
    }
    let last = serve(&server, &shop);
    let (_, file) = same(&[&other, &last]);
    shop.0.write("after.bin", file);
    shop.does("gallery verify after.bin");
}

#[test]
fn a_database_in_postgres_that_is_gone_is_said_and_comes_back() {
    let (mut server, shop) = open();
    let (one, two) = (serve(&server, &shop), serve(&server, &shop));
    add(&one, "mug", 0, &[]).json();
    let (tag, file) = same(&[&one, &two]);
    for round in 0..2 {
        server.stop();
        for service in [&one, &two] {
            for (method, path) in [
                ("GET", "/v1/gallery"),
                ("GET", "/v1/classes/mug"),
                ("GET", "/readyz"),
                ("POST", "/v1/undo"),
                ("DELETE", "/v1/classes/mug"),
            ] {
                let answer = service.change(method, path, &[], b"");
                assert_eq!((answer.status, answer.problem().as_str()), (503, "database"), "{path}");
                assert_eq!(answer.header("retry-after"), "5");
            }
            assert_eq!(add(service, "mug", 1, &[]).problem(), "database");
            let searched = service.ask("POST", "/v1/search", &[PNG], &picture(2, 1));
            assert_eq!(searched.problem(), "database");
            assert_eq!(service.get("/healthz").status, 200);
            assert_eq!(service.get("/metrics").status, 200);
        }
        server.again();
        assert_eq!(one.get("/readyz").status, 200);
        assert_eq!(two.get("/v1/gallery").json()["version"], 1, "round {round}");
        assert!(same(&[&one, &two]) == (tag.clone(), file.clone()));
    }
    // In the middle of changes: what was answered is there.
    let done = AtomicBool::new(false);
    let added: Vec<String> = std::thread::scope(|scope| {
        let (one, done) = (&one, &done);
        let adding = scope.spawn(move || {
            let mut added = Vec::new();
            for number in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let class = format!("r{number}");
                let answer = add(one, &class, 100 + number % 40, &[]);
                match answer.status {
                    200 => added.push(class),
                    _ => assert_eq!(answer.problem(), "database"),
                }
            }
            added
        });
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(400));
            server.stop();
            std::thread::sleep(Duration::from_millis(100));
            server.again();
        }
        std::thread::sleep(Duration::from_millis(400));
        done.store(true, Ordering::Relaxed);
        adding.join().expect("a client")
    });
    assert!(!added.is_empty());
    for class in &added {
        assert_eq!(two.get(&format!("/v1/classes/{class}")).json()["entries"], 1);
    }
    same(&[&one, &two]);
}

#[test]
fn an_adapted_gallery_in_postgres_is_served_by_all_behind_one_map() {
    let (server, shop) = open();
    let (one, two) = (serve(&server, &shop), serve(&server, &shop));
    let (_, plain) = same(&[&one, &two]);
    let asked = |service: &Running| {
        let answer = service.ask("POST", "/v1/search", &[PNG], &picture(1, 3)).json();
        answer["images"].clone()
    };
    let before = asked(&two);
    let mut gallery = Gallery::from_bytes(&plain).expect("a gallery");
    let (dim, values) = (gallery.dim(), 3);
    let kind = AdaptationKind::Lda;
    let about = Adaptation { kind, strength: 0.5, entries: gallery.len(), values };
    let numbers = [[0.05_f32; 3], [1.0 / 127.0; 3]].concat();
    let mut bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
    bytes.extend((0..values * dim).map(|place| (place * 89 % 251) as u8));
    gallery.set_map(AdaptationMap::from_bytes(about, dim, &bytes)).expect("of its width");
    assert!(gallery.map().is_some());
    gallery.set_min_similarity(Some(0.125)).expect("a number");
    // Map and threshold come and go together, seen by the next request to any of them.
    one.change("PUT", "/v1/gallery/file", &[], &gallery.to_bytes()).json();
    let (_, file) = same(&[&one, &two]);
    assert!(file == gallery.to_bytes());
    assert_eq!(two.get("/v1/gallery").json(), one.get("/v1/gallery").json());
    let behind = asked(&two);
    assert!(behind == asked(&one) && behind != before);
    add(&two, "mug", 1, &[]).json();
    let third = serve(&server, &shop);
    same(&[&one, &two, &third]);
    assert_eq!(asked(&third), asked(&one));
    for service in [&third, &one] {
        service.change("POST", "/v1/undo", &[], b"").json();
        same(&[&one, &two, &third]);
    }
    assert_eq!(asked(&two), before);
    // Learning anew there is one change, like any other.
    let learned = two.change_json("POST", "/v1/gallery/adapt", &serde_json::json!({}));
    assert_eq!(learned.status, 200, "{}", learned.text());
    same(&[&one, &two, &third]);
}
