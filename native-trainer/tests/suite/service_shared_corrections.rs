//! Corrections by visitors in a database: one queue of all services on a gallery, entries in the transaction that takes them
//! out of it, nothing lost or added twice by a kill.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::database::Server;
use crate::service::{Running, exchange, request, start};
use crate::service_changes::{BEARER, picture};
use crate::service_corrections::numbered;
use crate::service_shared::{command, open, same};
use crate::sites::Shop;

const PNG: &str = "Content-Type: image/png";

fn serve(server: &Server, shop: &Shop) -> Running {
    start(&mut command(server, shop, &["--corrections"]))
}

#[test]
fn what_waits_in_postgres_is_decided_at_any_service() {
    let (server, shop) = open();
    let (one, two) = (serve(&server, &shop), serve(&server, &shop));
    let (_, before) = same(&[&one, &two]);
    let told = one.correct("Gem", &picture(2, 1)).json();
    assert_eq!(told["known"], false);
    assert_eq!(two.correct("Gem", &picture(2, 1)).json(), json!({"id": told["id"], "known": true}));
    let other = two.correct("1", &picture(2, 1)).json();
    assert_eq!(same(&[&one, &two]).1, before, "no answer has a part of it");
    assert_eq!(one.waiting(), two.waiting());
    let waiting = two.waiting();
    assert_eq!(
        (waiting.len(), &waiting[0]["id"], &waiting[1]["id"]),
        (2, &told["id"], &other["id"])
    );
    assert_eq!(
        (&waiting[0]["class_known"], &waiting[1]["class_known"]),
        (&json!(false), &json!(true))
    );
    let page = one.change("GET", "/v1/corrections?offset=1&limit=1", &[], b"").json();
    assert_eq!((&page["total"], &page["next"]), (&json!(2), &json!(null)));
    assert_eq!(page["corrections"][0]["id"], other["id"]);
    let thumbnail = format!("/v1/corrections/{}/thumbnail", told["id"].as_str().expect("an id"));
    let shown = two.change("GET", &thumbnail, &[], b"");
    assert!(models::RgbImage::decode(&shown.body).is_ok());
    for service in [&one, &two] {
        let figures = service.get("/metrics").text();
        assert!(figures.contains("\nmagpie_corrections_waiting 2\n"), "{figures}");
    }
    // Accepted at the other one it is an entry of both, and leaves the queue of both.
    let body = json!({"ids": [told["id"]]});
    let accepted = two.decide("accept", &body);
    assert_eq!(
        (accepted.header("idempotent-replayed"), &accepted.json()["added"]),
        ("", &json!(1))
    );
    assert_eq!((one.entries(), two.entries()), (3, 3));
    same(&[&one, &two]);
    assert_eq!(one.waiting().len(), 1);
    let again = one.decide("accept", &body);
    assert_eq!((again.header("idempotent-replayed"), again.json()), ("true", accepted.json()));
    assert_eq!(one.entries(), 3);
    assert_eq!(one.decide("reject", &body).problem(), "conflict");
    assert_eq!(one.correct("Gem", &picture(2, 1)).json()["known"], true);
    // Rejected it goes, and does not come again.
    let body = json!({"ids": [other["id"]]});
    assert_eq!(one.decide("reject", &body).json()["rejected"], 1);
    assert_eq!(two.decide("reject", &body).json()["rejected"], 0);
    assert_eq!(two.decide("accept", &body).problem(), "conflict");
    assert_eq!(two.correct("1", &picture(2, 1)).json()["known"], true);
    assert_eq!(two.decide("accept", &json!({"ids": ["0".repeat(32)]})).problem(), "not-found");
    // What was undone is taken anew, as another class, also after a start.
    let body = json!({"ids": [told["id"]], "to": "0"});
    for round in 0..3 {
        match round {
            0 => one.change("POST", "/v1/undo", &[], b"").json(),
            _ => one.change("DELETE", "/v1/classes/0", &[], b"").json(),
        };
        let rest = two.entries();
        assert_eq!(two.decide("accept", &body).problem(), "not-found", "round {round}");
        let third = serve(&server, &shop);
        assert_eq!(third.correct("Gem", &picture(2, 1)).json()["known"], false, "round {round}");
        let accepted = two.decide("accept", &body);
        assert_eq!(
            (accepted.header("idempotent-replayed"), &accepted.json()["added"]),
            ("", &json!(1))
        );
        assert_eq!(third.entries(), rest + 1);
        assert!(third.waiting().is_empty());
    }
    // A condition on the gallery holds, and leaves what waits where it is.
    let late = one.correct("Late", &picture(2, 3)).json();
    let body = json!({"ids": [late["id"]]}).to_string();
    let headers = ["Content-Type: application/json", "If-Match: \"0123456789abcdef-0\""];
    let refused = one.change("POST", "/v1/corrections/accept", &headers, body.as_bytes());
    assert_eq!(refused.problem(), "changed");
    assert_eq!(two.waiting()[0]["id"], late["id"]);
    shop.0.write("after.bin", same(&[&one, &two]).1);
    shop.does("gallery verify after.bin");
}

#[test]
fn of_two_decisions_at_two_services_in_postgres_one_is_the_first() {
    let (server, shop) = open();
    let (one, two) = (serve(&server, &shop), serve(&server, &shop));
    for number in 0..8 {
        let told = one.correct("Gem", &numbered(number)).json();
        let body = json!({"ids": [told["id"]]});
        let before = one.entries();
        let (accepted, rejected, twice) = std::thread::scope(|scope| {
            let accepting = scope.spawn(|| one.decide("accept", &body));
            let twice = scope.spawn(|| two.decide("accept", &body));
            let rejecting = scope.spawn(|| two.decide("reject", &body));
            (
                accepting.join().expect("an answer"),
                rejecting.join().expect("an answer"),
                twice.join().expect("an answer"),
            )
        });
        assert_eq!(accepted.status, twice.status, "{number}");
        let mut statuses = [accepted.status, rejected.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{number}");
        assert_eq!(two.entries() - before, u64::from(accepted.status == 200), "{number}");
        assert!(one.waiting().is_empty());
    }
    same(&[&one, &two]);
}

#[test]
fn a_kill_loses_no_correction_in_postgres_and_adds_none_twice() {
    let (server, shop) = open();
    let other = serve(&server, &shop);
    for round in 0..4_usize {
        let mut killed = serve(&server, &shop);
        let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        // Each is what was answered: what was sent, and whether it was accepted.
        let answered: Vec<(Value, bool)> = std::thread::scope(|scope| {
            let sending: Vec<_> = (0..2)
                .map(|thread| {
                    let (host, done, count) = (killed.host.clone(), &done, &count);
                    scope.spawn(move || {
                        let mut answered = Vec::new();
                        for number in 0..14 {
                            if done.load(Ordering::Relaxed) {
                                break;
                            }
                            let bytes = numbered(1000 * round + 100 * thread + number);
                            let sent = request("POST", "/v1/corrections?class=Gem", &[PNG], &bytes);
                            let Some(told) = exchange(&host, &sent) else { break };
                            let id = told.json()["id"].clone();
                            let body = json!({"ids": [id]}).to_string();
                            let headers = [BEARER, "Content-Type: application/json"];
                            let decide = request(
                                "POST",
                                "/v1/corrections/accept",
                                &headers,
                                body.as_bytes(),
                            );
                            let decided = exchange(&host, &decide);
                            let is_accepted = decided.is_some_and(|decided| decided.status == 200);
                            answered.push((id, is_accepted));
                            count.fetch_add(1, Ordering::Relaxed);
                            if !is_accepted {
                                break;
                            }
                        }
                        answered
                    })
                })
                .collect();
            // On a slow machine the first answer takes seconds.
            let begin = Instant::now();
            while count.load(Ordering::Relaxed) == 0 && begin.elapsed() < Duration::from_mins(1) {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(90 * round as u64));
            let _ = killed.child.kill();
            done.store(true, Ordering::Relaxed);
            sending.into_iter().flat_map(|one| one.join().expect("a client")).collect()
        });
        let _ = killed.child.wait();
        assert!(!answered.is_empty(), "nothing was answered in round {round}");
        let waiting: Vec<Value> =
            other.waiting().into_iter().map(|one| one["id"].clone()).collect();
        for (id, is_accepted) in &answered {
            assert!(!(*is_accepted && waiting.contains(id)), "round {round}: it was accepted");
        }
        // Asked again, each is added once whatever the kill has left.
        for (id, _) in &answered {
            assert_eq!(other.decide("accept", &json!({"ids": [id]})).status, 200, "round {round}");
        }
        let rest: Vec<Value> = other.waiting().into_iter().map(|one| one["id"].clone()).collect();
        if !rest.is_empty() {
            assert_eq!(other.decide("accept", &json!({"ids": rest})).status, 200);
        }
        assert!(other.waiting().is_empty());
        let decided = "SELECT count(*) FROM shop_decisions WHERE accepted";
        let row = server.client().query_one(decided, &[]).expect("a count");
        assert_eq!(other.entries(), 2 + u64::try_from(row.get::<_, i64>(0)).expect("a count"));
    }
}

#[test]
fn no_flood_comes_through_several_services_in_postgres_and_the_database_may_go() {
    let (mut server, shop) = open();
    let (one, two) = (serve(&server, &shop), serve(&server, &shop));
    let both = [&one, &two];
    // A slow machine sends no more than is let in again meanwhile: few are left at the start.
    let few = "UPDATE shop_rate SET count = 20, seen = clock_timestamp()";
    server.client().batch_execute(few).expect("a rate");
    let refused = (0..400)
        .map(|number| both[number % 2].correct("Gem", &numbered(number)))
        .find(|answer| answer.status != 200)
        .expect("no flood");
    assert_eq!((refused.status, refused.problem().as_str()), (429, "busy"));
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    let waiting = one.waiting().len();
    assert!((20..390).contains(&waiting), "{waiting}");
    server.stop();
    for service in both {
        assert_eq!(service.correct("Gem", &numbered(500)).problem(), "database");
        assert_eq!(service.change("GET", "/v1/corrections", &[], b"").problem(), "database");
        let id = json!({"ids": ["0".repeat(32)]});
        assert_eq!(service.decide("accept", &id).problem(), "database");
        assert_eq!(service.decide("reject", &id).problem(), "database");
        assert_eq!(service.get("/metrics").status, 200);
    }
    server.again();
    assert_eq!((one.waiting().len(), two.waiting().len()), (waiting, waiting));
    // As many as may wait: whatever came, the next is told to come another day.
    server
        .client()
        .batch_execute(
            "INSERT INTO shop_corrections (id, correction)
                 SELECT md5(n::text), '{}' FROM generate_series(1, 5000) n;
             UPDATE shop_rate SET seen = '-infinity'",
        )
        .expect("rows");
    let full = one.correct("Gem", &numbered(501));
    assert_eq!((full.problem().as_str(), full.header("retry-after")), ("busy", "3600"));
}

#[test]
fn corrections_in_postgres_that_nobody_sent_are_refused() {
    let (server, shop) = open();
    let told_to = std::fs::File::create(shop.path("told")).expect("a file");
    let service = start(command(&server, &shop, &["--corrections"]).stderr(told_to));
    let sent = service.correct("Gem", &picture(2, 1)).json();
    let body = json!({"ids": [sent["id"]]});
    let thumbnail = format!("/v1/corrections/{}/thumbnail", sent["id"].as_str().expect("an id"));
    let mut client = server.client();
    client.batch_execute("CREATE TABLE kept AS TABLE shop_corrections").expect("a copy");
    let (_, before) = same(&[&service]);
    for change in [
        "UPDATE shop_corrections SET correction = 'no text of JSON'",
        "UPDATE shop_corrections SET correction = replace(correction, '\"Gem\"', '\"Gum\"')",
        "UPDATE shop_corrections SET correction = replace(correction, '\"embeddings\":\"', '\"embeddings\":\"AAAA')",
        "UPDATE shop_corrections SET correction = regexp_replace(correction, '\"thumbnail\":\"[^\"]*\"', '\"thumbnail\":\"AAAA\"')",
        "UPDATE shop_corrections SET correction = repeat(' ', 20000000)",
        // Not too long each, and together.
        "INSERT INTO shop_corrections (place, id, correction)
             SELECT -n, md5(n::text), repeat(' ', 4000000) FROM generate_series(1, 30) n;
         UPDATE shop_corrections SET correction = 'no text of JSON' WHERE place > 0",
    ] {
        client.batch_execute(change).expect(change);
        assert_eq!(
            service.change("GET", "/v1/corrections", &[], b"").problem(),
            "failed",
            "{change}"
        );
        assert_eq!(service.change("GET", &thumbnail, &[], b"").problem(), "failed", "{change}");
        assert_eq!(service.decide("accept", &body).problem(), "failed", "{change}");
        assert_eq!(same(&[&service]).1, before, "{change}");
        client
            .batch_execute("DELETE FROM shop_corrections; INSERT INTO shop_corrections TABLE kept")
            .expect("as before");
    }
    client.batch_execute("UPDATE shop_corrections SET id = repeat('0', 10000)").expect("an id");
    let page = service.change("GET", "/v1/corrections", &[], b"");
    assert_eq!(page.problem(), "failed");
    let back = "DELETE FROM shop_corrections; INSERT INTO shop_corrections TABLE kept";
    client.batch_execute(back).expect("as before");
    let told = std::fs::read_to_string(shop.path("told")).expect("a text");
    for what in [
        "20000000 bytes of a correction,",
        "of the corrections that are asked for,",
        "of the id of a",
    ] {
        assert!(told.contains(what), "{what}: {told}");
    }
    // A decision that cannot be read is none.
    let decide = format!(
        "INSERT INTO shop_decisions (id, accepted, went) VALUES ('{}', true, 'nowhere')",
        sent["id"].as_str().expect("an id")
    );
    client.batch_execute(&decide).expect("a row");
    assert_eq!(service.decide("accept", &body).problem(), "failed");
    client.batch_execute("DELETE FROM shop_decisions").expect("as before");
    assert_eq!(service.decide("accept", &body).json()["added"], 1);
}
