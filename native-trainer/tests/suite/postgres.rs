//! Galleries in a real `PostgreSQL` with pgvector: pushed, pulled, searched.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use models::gallery::{AnswerRule, Class, ContentId, Crop, Gallery, GalleryReader, VectorType};
use native_trainer::postgres::{PostgresError, PostgresGallery, Query};

use crate::database::Server;
use crate::world::{World, fail, succeed};

/// A gallery as it is pushed.
pub(crate) fn reader(gallery: &Gallery) -> GalleryReader<Cursor<Vec<u8>>> {
    GalleryReader::open(Cursor::new(gallery.to_bytes())).expect("a gallery")
}

/// Nobody waits.
pub(crate) const SILENT: fn(&str) = |_| ();

/// What begins as a JPEG does.
pub(crate) fn jpeg(more: &[u8]) -> Vec<u8> {
    [b"\xff\xd8\xff\xe0", more].concat()
}

/// A gallery with everything that can go wrong on the way.
fn full(vector_type: VectorType) -> Gallery {
    let mut gallery = Gallery::with_type(16, "0123456789abcdef", vector_type);
    for (label, picture) in [(", \\n \\. and 小熊猫 \"quoted\"", jpeg(&[0, 255, 92])), ("", vec![])]
    {
        let metadata = [("price".to_owned(), "3 €\n\\N".to_owned())].into();
        let min_similarity = label.is_empty().then_some(0.625);
        gallery.add_class(Class { label: label.to_owned(), metadata, min_similarity }, picture);
    }
    for number in 0..200_u32 {
        let embedding: Vec<f32> =
            (0..16).map(|i| ((number * 37 + i * 11) % 101) as f32 / 50.0 - 1.0).collect();
        let picture = ContentId::of(&number.to_le_bytes());
        gallery.add_image(number as usize % 2, &embedding, picture).expect("a class");
    }
    gallery.set_crop(Crop::Middle);
    gallery.set_min_similarity(Some(0.4375)).expect("a number");
    gallery.set_measured_rule(AnswerRule::Vote { neighbors: 7 });
    let learned = r#"{"source":"gallery","asked":200,"false_accept":0.05,"lead_weight":0.3,"least":0.1,
        "probability":[[0.1,0.2],[0.3,0.9]]}"#;
    gallery.set_calibration(Some(serde_json::from_str(learned).expect("a calibration")));
    gallery
}

#[test]
fn a_gallery_in_postgres_comes_back_as_it_was() {
    let (server, world) = (Server::start(), World::new());
    let file = world.path("gallery.bin");
    let there = |command: &str, file: &Path, name: &str| {
        succeed(&[&"gallery", &command, &file, &"--server", &server.address, &"--name", &name])
    };
    let missing: [&dyn AsRef<OsStr>; 7] =
        [&"gallery", &"pull", &file, &"--server", &server.address, &"--name", &"shop"];
    assert!(fail(&missing).contains("there is no gallery \"shop\""));
    for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
        let gallery = full(vector_type);
        std::fs::write(&file, gallery.to_bytes()).unwrap();
        let out = there("push", &file, "shop");
        assert!(out.contains("shop: 2 classes, 200 pictures pushed"), "{out}");
        let back = world.path("back.bin");
        there("pull", &back, "shop");
        assert!(std::fs::read(&back).unwrap() == gallery.to_bytes(), "{vector_type:?}");
    }
    // Two galleries live side by side.
    let other = world.path("other.bin");
    std::fs::write(&other, Gallery::new(4, "m").to_bytes()).unwrap();
    there("push", &other, "empty_one");
    let back = world.path("back.bin");
    there("pull", &back, "empty_one");
    assert!(std::fs::read(&back).unwrap() == std::fs::read(&other).unwrap());
    there("pull", &back, "shop");
    assert!(std::fs::read(&back).unwrap() == std::fs::read(&file).unwrap());
}

#[test]
fn a_gallery_in_postgres_answers_as_the_file_does() {
    let (server, world) = (Server::start(), World::new());
    let model = world.model();
    let pictures = world.pictures("pictures", 4, 5);
    let file = world.path("gallery.bin");
    succeed(&[
        &"gallery",
        &"build",
        &"--images",
        &pictures,
        &"--extractor",
        &model,
        &"--out",
        &file,
        &"--values",
        &"f32",
        &"--calibrate",
        &"never",
    ]);
    succeed(&[&"gallery", &"push", &file, &"--server", &server.address]);
    let query = pictures.join("class 2 类/3.png");
    let own = succeed(&[&"gallery", &"search", &file, &query, &"--extractor", &model]);
    let theirs = succeed(&[
        &"gallery",
        &"ask",
        &query,
        &"--server",
        &server.address,
        &"--extractor",
        &model,
    ]);
    // The first line names the picture, and says how long the search took where it was ours.
    let answers = |text: &str| -> Vec<String> { text.lines().skip(1).map(str::to_owned).collect() };
    assert_eq!(answers(&own).len(), 4);
    assert_eq!(answers(&own), answers(&theirs));
    // Of a gallery whose entries are the middles of their pictures, the middles are asked.
    let whole = answers(&own);
    world.succeed(
        "gallery build --images pictures --extractor model.safetensors --out gallery.bin --values f32 --crop middle \
         --adapt never --calibrate never",
    );
    succeed(&[&"gallery", &"push", &file, &"--server", &server.address]);
    let own = succeed(&[&"gallery", &"search", &file, &query, &"--extractor", &model]);
    let theirs: [&dyn AsRef<OsStr>; 7] =
        [&"gallery", &"ask", &query, &"--server", &server.address, &"--extractor", &model];
    assert_eq!(answers(&own), answers(&succeed(&theirs)));
    assert_ne!(answers(&own), whole);

    let stranger = world.path("stranger.bin");
    std::fs::write(&stranger, full(VectorType::F16).to_bytes()).unwrap();
    succeed(&[&"gallery", &"push", &stranger, &"--server", &server.address]);
    let ask: [&dyn AsRef<OsStr>; 7] =
        [&"gallery", &"ask", &query, &"--server", &server.address, &"--extractor", &model];
    assert!(fail(&ask).contains("belongs to another model"));
}

/// A gallery whose rows, classes and facts all say which one it is.
fn numbered(number: usize) -> Gallery {
    let mut gallery = Gallery::with_type(4, format!("model {number}"), VectorType::F32);
    for class in 0..4 {
        let label = format!("{number}.{class}");
        let picture = jpeg(&[number as u8; 40]);
        gallery.add_class(Class { label, ..Class::default() }, picture);
    }
    for entry in 0..200_usize {
        let embedding = [number as f32, entry as f32, 1.0, 2.0];
        let picture = ContentId::of(&[number as u8, entry as u8]);
        gallery.add_image(entry % 4, &embedding, picture).expect("a class");
    }
    gallery
}

pub(crate) fn bytes_of<S: Read + Write + Seek>(
    stream: models::gallery::GalleryStream<S>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.finish(models::gallery::IndexConfig::Flat, &mut bytes).expect("a gallery");
    bytes
}

/// A scratch file that lets a push go ahead while it is written for the first time.
struct Meanwhile {
    file: Cursor<Vec<u8>>,
    begin: Option<Sender<()>>,
    heard: Receiver<String>,
}

impl Write for Meanwhile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(begin) = self.begin.take() {
            begin.send(()).expect("somebody waits");
            // The push is done, or it has to wait.
            let _ = self.heard.recv_timeout(Duration::from_secs(20));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for Meanwhile {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for Meanwhile {
    fn seek(&mut self, place: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(place)
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one server, started once")]
fn a_gallery_in_postgres_is_pushed_and_pulled_as_a_whole() {
    let (server, world) = (Server::start(), World::new());
    let engine = || PostgresGallery::connect(&server.address, "shop").expect("a server");
    let pulled = || {
        let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
        bytes_of(engine().pull(scratch, SILENT).expect("a gallery"))
    };
    let [first, second, third] = [1, 2, 3].map(numbered);
    engine().push(&mut reader(&first), None, SILENT).expect("pushed");

    // A push in the middle of a pull: the pull sees the old gallery alone.
    let ((begin, begun), (says, heard)) = (channel(), channel());
    let both = std::thread::scope(|scope| {
        let (engine, second) = (&engine, &second);
        scope.spawn(move || {
            begun.recv().expect("the pull goes on");
            // The pull may be over before the push is.
            let told = |what: &str| drop(says.send(what.to_owned()));
            engine().push(&mut reader(second), None, told).expect("pushed");
            let _ = says.send("done".to_owned());
        });
        let (unused, never) = channel();
        drop(unused);
        let meanwhile = Meanwhile { file: Cursor::new(Vec::new()), begin: Some(begin), heard };
        let other = Meanwhile { file: Cursor::new(Vec::new()), begin: None, heard: never };
        // The second scratch file takes the classes' pictures, which come first.
        bytes_of(engine().pull([other, meanwhile], SILENT).expect("a gallery"))
    });
    assert!(both == first.to_bytes(), "one state");
    assert!(pulled() == second.to_bytes(), "the push went on");

    // Pushes that cannot end while somebody reads: one is killed, another waits for a third.
    let mut somebody = server.client();
    let mut reading = somebody.transaction().expect("a transaction");
    reading.batch_execute("SELECT count(*) FROM shop_entries").expect("a number");
    let push = |gallery: &Gallery, name: &str| {
        let path = world.write(name, gallery.to_bytes());
        let mut child = Command::new(env!("CARGO_BIN_EXE_magpie"))
            .args(["gallery", "push"])
            .arg(path)
            .args(["--name", "shop", "--server", &server.address])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("magpie runs");
        let mut said = String::new();
        BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut said).expect("a line");
        (child, said)
    };
    let (mut killed, said) = push(&third, "killed.bin");
    assert!(said.contains("waiting: shop is read at the moment"), "{said}");
    killed.kill().expect("killed");
    killed.wait().expect("gone");
    let (mut one, said) = push(&third, "third.bin");
    assert!(said.contains("waiting"), "{said}");
    let (mut last, said) = push(&first, "first.bin");
    assert!(said.contains("waiting: another process puts shop there"), "{said}");
    assert!(pulled() == second.to_bytes(), "nothing of what is under way is seen");
    reading.rollback().expect("ended");
    assert!(one.wait().expect("an end").success() && last.wait().expect("an end").success());
    assert!(pulled() == first.to_bytes(), "one after the other");

    // What somebody else has put there is looked at.
    let mut client = server.client();
    client
        .batch_execute(
            "ALTER TABLE shop_entries ALTER embedding TYPE vector, DROP CONSTRAINT magpie_entry,
                 ADD CONSTRAINT magpie_entry CHECK (true)",
        )
        .expect("any width");
    let query = Query { model: "model 1".to_owned(), k: 2, ..Query::default() };
    let asked = [vec![0.5; 4]];
    assert!(engine().search(&query, &asked, SILENT).is_ok());
    // A pull and a search refuse alike, but for what only a row that passed a check of nothing holds.
    let mut broken = |change: &str, back: &str| {
        client.batch_execute(change).expect(change);
        let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
        let error = engine().pull(scratch, SILENT).expect_err(change);
        let searched = engine().search(&query, &asked, SILENT);
        client.batch_execute(back).expect(back);
        if !change.starts_with("UPDATE shop_entries") {
            assert_eq!(searched.expect_err(change).to_string(), error.to_string(), "{change}");
        }
        error
    };
    for (change, back, told) in [
        ("UPDATE shop_gallery SET dim = 0", "UPDATE shop_gallery SET dim = 4", "of 0 values"),
        (
            "UPDATE shop_gallery SET rule = 'first'",
            "UPDATE shop_gallery SET rule = NULL",
            "inconsistent",
        ),
        (
            "UPDATE shop_gallery SET calibration = '{\"source\": \"gallery\"}'",
            "UPDATE shop_gallery SET calibration = NULL",
            "inconsistent",
        ),
        (
            "UPDATE shop_gallery SET min_similarity = 'NaN'",
            "UPDATE shop_gallery SET min_similarity = NULL",
            "a threshold of NaN",
        ),
        (
            "UPDATE shop_classes SET min_similarity = 'Infinity' WHERE class = 2",
            "UPDATE shop_classes SET min_similarity = NULL",
            "a threshold of inf",
        ),
        (
            "UPDATE shop_classes SET label = '1.0' WHERE class = 1",
            "UPDATE shop_classes SET label = '1.1' WHERE class = 1",
            "two classes \"1.0\"",
        ),
        (
            "UPDATE shop_entries SET picture = '\\x0102' WHERE entry = 7",
            "UPDATE shop_entries SET picture = decode(repeat('00', 16), 'hex') WHERE entry = 7",
            "a picture's hash",
        ),
        (
            "UPDATE shop_gallery SET crop = 'left'",
            "UPDATE shop_gallery SET crop = 'never'",
            "crop \"left\"",
        ),
        (
            "UPDATE shop_gallery SET version = 4",
            "UPDATE shop_gallery SET version = 3",
            "tables of version 4, and this program knows 3; update it",
        ),
        (
            "UPDATE shop_classes SET label = E'a\\x1b[2J' WHERE class = 1",
            "UPDATE shop_classes SET label = '1.1' WHERE class = 1",
            "the name of a class holds U+001B",
        ),
        (
            "UPDATE shop_classes SET metadata = U&'{\"a\": \"\\202e\"}' WHERE class = 1",
            "UPDATE shop_classes SET metadata = '{}' WHERE class = 1",
            "the text of metadata holds U+202E",
        ),
        (
            "UPDATE shop_classes SET thumbnail = 'no picture' WHERE class = 1",
            "UPDATE shop_classes SET thumbnail = '' WHERE class = 1",
            "class \"1.1\": its thumbnail is no picture",
        ),
        (
            "UPDATE shop_gallery SET entries = 201",
            "UPDATE shop_gallery SET entries = 200",
            "200 entries, and 201 were pushed",
        ),
        (
            "UPDATE shop_gallery SET classes = 5",
            "UPDATE shop_gallery SET classes = 4",
            "4 classes, and 5 were pushed",
        ),
        (
            "UPDATE shop_gallery SET map_values = ''",
            "UPDATE shop_gallery SET map_values = NULL",
            "half a map",
        ),
        (
            "UPDATE shop_gallery SET map = '{\"kind\": \"lda\", \"strength\": 0.5, \"entries\": 9, \"values\": 2}', \
             map_values = '\\x00'",
            "UPDATE shop_gallery SET map = NULL, map_values = NULL",
            "values of its map",
        ),
        (
            "UPDATE shop_entries SET entry = 1000 WHERE entry = 199",
            "UPDATE shop_entries SET entry = 199 WHERE entry = 1000",
            "an entry is missing",
        ),
        (
            "UPDATE shop_entries SET embedding = '[0,0,0,0]' WHERE entry = 9",
            "UPDATE shop_entries SET embedding = '[1,0,0,0]' WHERE entry = 9",
            "entry 9 has no unit length",
        ),
        (
            "ALTER TABLE shop_entries DROP CONSTRAINT magpie_entry",
            "ALTER TABLE shop_entries ADD CONSTRAINT magpie_entry CHECK (true)",
            "does not check entries any more",
        ),
        (
            "UPDATE shop_entries SET embedding = '[1,0]' WHERE entry = 9",
            "UPDATE shop_entries SET embedding = '[1,0,0,0]' WHERE entry = 9",
            "entry 9: ",
        ),
    ] {
        let error = broken(change, back);
        let text = error.to_string();
        assert!(!matches!(error, PostgresError::Server(_)), "{text}");
        assert!(text.contains(told), "{change}: {text}");
    }
}

/// What the program of before version 2 made of the first gallery below.
const EARLIER: &str = include_str!("../postgres/version-1.sql");
/// And that of version 2.
const VERSION_2: &str = include_str!("../postgres/version-2.sql");

#[test]
fn tables_of_earlier_versions_in_postgres_are_brought_to_this_one() {
    let server = Server::start();
    let mut client = server.client();
    client.batch_execute("CREATE EXTENSION vector").expect("pgvector");
    client.batch_execute(EARLIER).expect("tables");
    let gallery = {
        let mut gallery = Gallery::with_type(3, "0123456789abcdef", VectorType::F32);
        let metadata = [("price".to_owned(), "3 €".to_owned())].into();
        let class = Class { label: "Käse\\".to_owned(), metadata, min_similarity: Some(0.625) };
        gallery.add_class(class, jpeg(&[]));
        gallery.add_class(Class { label: "mug".to_owned(), ..Class::default() }, vec![]);
        for (class, embedding) in [(0, [1.0, 0.0, 0.0]), (1, [0.0, 0.6, 0.8])] {
            gallery.add_image(class, &embedding, ContentId::of(&[class as u8])).expect("a class");
        }
        gallery.set_min_similarity(Some(0.5)).expect("a number");
        gallery
    };
    let pull = |name: &str| {
        let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
        let mut engine = PostgresGallery::connect(&server.address, name).expect("a server");
        engine.pull(scratch, SILENT).map(bytes_of)
    };
    // One of before that knew neither rule nor calibration, and two processes at once.
    client
        .batch_execute("ALTER TABLE shop_gallery DROP COLUMN rule, DROP COLUMN calibration")
        .expect("columns");
    let both = std::thread::scope(|scope| {
        let pulls = [(); 2].map(|()| scope.spawn(|| pull("shop").expect("a gallery")));
        pulls.map(|pull| pull.join().expect("pulled"))
    });
    assert!(both.iter().all(|bytes| *bytes == gallery.to_bytes()));
    let row =
        client.query_one("SELECT version, index, codes FROM shop_gallery", &[]).expect("a row");
    let told: (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(told, (3, "hnsw".to_owned(), "f32".to_owned()));
    // What its owner has added meanwhile is nobody's entry, also there.
    client
        .batch_execute("DROP TABLE shop_entries, shop_classes, shop_gallery")
        .and_then(|()| client.batch_execute(VERSION_2))
        .expect("tables");
    client
        .batch_execute("UPDATE shop_entries SET embedding = '[0,0,0]' WHERE entry = 1")
        .expect("a row");
    let error = pull("shop").expect_err("no entry").to_string();
    assert!(error.contains("an entry that is none"), "{error}");
    client
        .batch_execute("UPDATE shop_entries SET embedding = '[0,0.6,0.8]' WHERE entry = 1")
        .expect("a row");
    assert!(pull("shop").expect("a gallery") == gallery.to_bytes());
    let row = client.query_one("SELECT version, classes, entries FROM shop_gallery", &[]);
    let row = row.expect("a row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1), row.get::<_, i64>(2)), (3, 2, 2));
    // The graph that was built is searched.
    let query = Query { model: "0123456789abcdef".to_owned(), k: 2, ..Query::default() };
    let mut engine = PostgresGallery::connect(&server.address, "shop").expect("a server");
    let found = engine.search(&query, &[vec![0.0, 1.0, 0.0]], SILENT).expect("answers");
    assert_eq!(
        found[0].iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(),
        ["mug", "Käse\\"]
    );
    // Who may only read says so.
    client.batch_execute("DROP TABLE shop_entries, shop_classes, shop_gallery").expect("gone");
    client.batch_execute(EARLIER).expect("tables");
    client
        .batch_execute(
            "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        )
        .expect("a reader");
    let address = server.address.replacen("postgres:@", "reader:@", 1);
    let mut engine = PostgresGallery::connect(&address, "shop").expect("a server");
    let error = engine.search(&query, &[], SILENT).expect_err("may not");
    assert!(matches!(error, PostgresError::Earlier(_)), "{error}");
    assert!(pull("shop").expect("a gallery") == gallery.to_bytes());
    assert_eq!(engine.search(&query, &[], SILENT).expect("answers").len(), 0);
}
