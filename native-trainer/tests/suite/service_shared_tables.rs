//! The tables of a service's gallery: what should not be in them, those of earlier versions, and who may change them.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::database::Server;
use crate::service::start;
use crate::service_changes::picture;
use crate::service_shared::{add, command, command_at, open, same, serve};
use crate::sites::Shop;
use crate::world::{ended, fail};

const PNG: &str = "Content-Type: image/png";

/// What a service that does not start says.
fn refused(server: &Server, shop: &Shop, more: &[&str]) -> String {
    let mut command = command(server, shop, more);
    let output = ended(&mut command);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("a text")
}

/// What stands in the tables, what brings it back where copies do not, and what a service says that is started then.
const FAULTS: [(&str, &str, &str); 12] = [
    ("UPDATE shop_service SET schema = 3", "UPDATE shop_service SET schema = 2", "version 3"),
    ("UPDATE shop_service SET schema = -1", "UPDATE shop_service SET schema = 2", "version -1"),
    (
        "UPDATE shop_service SET version = -9, place = 2",
        "UPDATE shop_service SET version = 1, place = 1",
        "version -9",
    ),
    (
        "UPDATE shop_journal SET change = '{\"kind\": \"eat\"}'",
        "",
        "change 1 of the journal cannot be read",
    ),
    (
        "UPDATE shop_journal SET change = '{\"kind\": \"remove_class\", \"class\": \"nobody\"}'",
        "",
        "its journal cannot be done again",
    ),
    (
        "UPDATE shop_journal SET change = replace(change, '\"mug\"', '\"mu\\u202eg\"')",
        "",
        "the name of a class holds U+202E",
    ),
    (
        "UPDATE shop_journal SET change = regexp_replace(change, '\"thumbnail\":\"[^\"]*\"', '\"thumbnail\":\"AAAA\"')",
        "",
        "its thumbnail is no picture",
    ),
    (
        "UPDATE shop_service SET version = 1125899906842624",
        "UPDATE shop_service SET version = 1",
        "version 1125899906842624 of the gallery is none that changes lead to",
    ),
    (
        "UPDATE shop_files SET bytes = set_byte(bytes, 200, 7)",
        "",
        "the database's file of the gallery is damaged",
    ),
    ("UPDATE shop_files SET piece = 1", "UPDATE shop_files SET piece = 0", "piece 0 of its file"),
    ("UPDATE shop_generations SET length = 9e18", "", "a file of 9000000000000000000 bytes"),
    ("DELETE FROM shop_service", "", "the service's row is gone"),
];

#[test]
fn what_the_database_in_postgres_should_not_hold_is_refused() {
    let (server, shop) = open();
    let own = &server.address;
    // Names that a pushed gallery has, and names that a service has.
    let site = shop.path("site");
    let gallery = shop.path("gallery.bin");
    {
        let service = serve(&server, &shop);
        std::fs::write(&gallery, service.get("/v1/gallery/file").body).expect("a file");
        add(&service, "mug", 0, &[]).json();
        for words in ["push", "pull"] {
            let told = fail(&[&"gallery", &words, &gallery, &"--server", own, &"--name", &"shop"]);
            assert!(told.contains("is the gallery of a service"), "{told}");
        }
    }
    crate::world::succeed(&[&"gallery", &"push", &gallery, &"--server", own, &"--name", &"pushed"]);
    assert!(refused_named(&server, &site, "pushed").contains("is a gallery that was pushed"));
    assert!(refused_named(&server, &site, "no name").contains("is no name of a gallery"));
    let service = serve(&server, &shop);
    let mut client = server.client();
    let version = service.get("/v1/gallery").json()["version"].as_u64().expect("a version");
    assert_eq!(version, 1);
    for (change, back, at_start) in FAULTS {
        // What was right comes back from copies.
        client
            .batch_execute(
                "CREATE TABLE kept_journal AS TABLE shop_journal; CREATE TABLE kept_files AS TABLE shop_files;
                 CREATE TABLE kept_generations AS TABLE shop_generations; CREATE TABLE kept_service AS TABLE shop_service",
            )
            .expect("copies");
        client.batch_execute(change).expect(change);
        let told = refused(&server, &shop, &[]);
        assert!(told.contains(at_start) && !told.contains("panicked"), "{change}: {told}");
        if !back.is_empty() {
            client.batch_execute(back).expect(back);
        }
        client
            .batch_execute(
                "DELETE FROM shop_journal; INSERT INTO shop_journal TABLE kept_journal;
                 DELETE FROM shop_files; INSERT INTO shop_files TABLE kept_files;
                 DELETE FROM shop_generations; INSERT INTO shop_generations TABLE kept_generations;
                 DELETE FROM shop_service; INSERT INTO shop_service TABLE kept_service;
                 DROP TABLE kept_journal, kept_files, kept_generations, kept_service",
            )
            .expect("as before");
    }
    // A service that runs answers no half of it, and goes on when it is right again.
    let change = "INSERT INTO shop_journal SELECT 2, generation, 2, 'no change' FROM shop_service;
         UPDATE shop_service SET place = 2, version = 2";
    client.batch_execute(change).expect(change);
    assert_eq!(service.get("/v1/gallery").problem(), "failed");
    assert_eq!(add(&service, "mug", 5, &[]).problem(), "failed");
    let back =
        "DELETE FROM shop_journal WHERE place = 2; UPDATE shop_service SET place = 1, version = 1";
    client.batch_execute(back).expect(back);
    assert_eq!(service.get("/v1/gallery").json()["version"], 1);
    add(&service, "mug", 6, &[]).json();
    // An address that nobody listens at, and one with a password.
    let told = fail(&[
        &"serve",
        &site,
        &"--api",
        &"--port",
        &"0",
        &"--server",
        &"postgres://me:secret@127.0.0.1:1/shop",
    ]);
    assert!(told.contains("is PostgreSQL running there") && !told.contains("secret"), "{told}");
}

fn refused_named(server: &Server, site: &Path, name: &str) -> String {
    fail(&[
        &"serve",
        &site,
        &"--api",
        &"--port",
        &"0",
        &"--server",
        &server.address,
        &"--name",
        &name,
    ])
}

/// The tables of before version 2.
const EARLIER: &str = include_str!("../postgres/service-1.sql");

#[test]
fn tables_of_a_service_of_before_in_postgres_are_brought_to_this_version() {
    let (server, shop) = open();
    // What the program of before would have kept.
    let file = {
        let service = serve(&server, &shop);
        add(&service, "mug", 0, &[]).json();
        let file = service.get("/v1/gallery/file");
        let mut client = server.client();
        client
            .batch_execute(
                "CREATE TABLE kept_journal AS TABLE shop_journal; CREATE TABLE kept_files AS TABLE shop_files;
                 CREATE TABLE kept_generations AS TABLE shop_generations",
            )
            .expect("copies");
        file.body
    };
    let mut client = server.client();
    client
        .batch_execute(
            "DROP TABLE shop_service, shop_generations, shop_files, shop_journal, shop_keys, shop_corrections,
                 shop_decisions, shop_rate",
        )
        .and_then(|()| client.batch_execute(EARLIER))
        .and_then(|()| {
            client.batch_execute(
                "INSERT INTO shop_generations TABLE kept_generations; INSERT INTO shop_files TABLE kept_files;
                 INSERT INTO shop_journal TABLE kept_journal",
            )
        })
        .expect("tables of before");
    // Who does not own them says what to do.
    client
        .batch_execute(
            "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        )
        .expect("a reader");
    let told = refused_as("reader", &server, &shop, &[]);
    assert!(told.contains("tables of an earlier version"), "{told}");
    // Two at once.
    let (one, two) = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| serve(&server, &shop)));
        let [one, two] = both.map(|one| one.join().expect("a service"));
        (one, two)
    });
    assert!(same(&[&one, &two]).1 == file);
    add(&two, "mug", 1, &[]).json();
    same(&[&one, &two]);
    let rows = "SELECT schema, (SELECT count(*) FROM shop_corrections) FROM shop_service";
    let row = client.query_one(rows, &[]).expect("a row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i64>(1)), (2, 0));
}

fn address_of(role: &str, server: &Server) -> String {
    server.address.replacen("postgres:@", &format!("{role}:@"), 1)
}

/// What a service says that does not start with a role.
fn refused_as(role: &str, server: &Server, shop: &Shop, more: &[&str]) -> String {
    let mut command = command_at(&address_of(role, server), shop, more);
    let output = ended(&mut command);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("a text")
}

#[test]
fn a_role_that_may_only_read_in_postgres_is_told_at_the_start() {
    let (server, shop) = open();
    let mut client = server.client();
    client
        .batch_execute("CREATE ROLE reader LOGIN; CREATE ROLE \"app-writer\" LOGIN")
        .expect("roles");
    let told = refused_as("reader", &server, &shop, &[]);
    assert!(told.contains("the role reader may not make or change the tables of shop"), "{told}");
    let owner = serve(&server, &shop);
    add(&owner, "mug", 0, &[]).json();
    client
        .batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, \"app-writer\"")
        .expect("granted");
    let told = refused_as("app-writer", &server, &shop, &[]);
    assert!(told.contains("may read the gallery shop, and not change it"), "{told}");
    // What it says is what helps.
    let grant = told.split("tables' owner run: ").nth(1).expect("a command").trim();
    client.batch_execute(grant).expect(grant);
    let writer =
        start(&mut command_at(&address_of("app-writer", &server), &shop, &["--corrections"]));
    add(&writer, "mug", 1, &[]).json();
    let told = writer.ask("POST", "/v1/corrections?class=Gem", &[PNG], &picture(2, 3)).json();
    let body = json!({"ids": [told["id"]]});
    assert_eq!(writer.change_json("POST", "/v1/corrections/accept", &body).json()["added"], 1);
    // Without a token nobody changes anything, and reading is enough.
    let mut reading = Command::new(env!("CARGO_BIN_EXE_magpie"));
    reading.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--name", "shop"]);
    reading.args(["--server", &address_of("reader", &server)]);
    let reader = start(reading.stderr(Stdio::null()));
    same(&[&owner, &writer, &reader]);
    assert_eq!(add(&reader, "mug", 2, &[]).problem(), "read-only");
    // A server that follows another one takes no changes.
    client
        .batch_execute("ALTER ROLE \"app-writer\" SET default_transaction_read_only = on")
        .expect("set");
    let told = refused_as("app-writer", &server, &shop, &[]);
    assert!(told.contains("takes no changes of shop"), "{told}");
}

#[test]
fn a_service_of_a_name_of_forty_letters_lies_in_postgres_and_may_be_granted() {
    let (server, shop) = open();
    let name = "n".repeat(40);
    let mut client = server.client();
    client.batch_execute("CREATE ROLE writer LOGIN").expect("a role");
    let at = |address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
        command.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--name", &name]);
        command.args(["--server", address, "--corrections"]);
        command.arg("--token-file").arg(shop.path("token")).stderr(Stdio::null());
        command
    };
    let owner = start(&mut at(&server.address));
    add(&owner, "mug", 0, &[]).json();
    // The server cuts the names of sequences: what may be granted says them as they are.
    client.batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO writer").expect("granted");
    let output = ended(&mut at(&address_of("writer", &server)));
    let told = String::from_utf8(output.stderr).expect("a text");
    let grant = told.split("tables' owner run: ").nth(1).expect("a command").trim();
    client.batch_execute(grant).expect(grant);
    let writer = start(&mut at(&address_of("writer", &server)));
    add(&writer, "mug", 1, &[]).json();
    let told = writer.correct("Gem", &picture(2, 3)).json();
    assert_eq!(owner.decide("accept", &json!({"ids": [told["id"]]})).json()["added"], 1);
    same(&[&owner, &writer]);
}
