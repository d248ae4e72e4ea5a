//! Galleries in a real `PostgreSQL` with pgvector, started on a socket here.
//!
//! `cargo xtask test` installs both from `PyPI` into `.magpie/pgvector` (package `pgserver`);
//! `MAGPIE_PGVECTOR` names another Python that has the package.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use models::gallery::{AnswerRule, Class, ContentId, Gallery, VectorType};
use native_trainer::postgres::{PostgresError, PostgresGallery};
use postgres::{Client, NoTls};

use crate::world::{World, fail, succeed};

/// Starts a server, says where it is, and ends it with its input.
const SERVER: &str = "
import sys, pgserver
server = pgserver.get_server(sys.argv[1], cleanup_mode='delete')
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
";

struct Server {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let python = std::env::var_os("MAGPIE_PGVECTOR").map_or_else(
            || {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent");
                root.join(".magpie/pgvector/bin/python")
            },
            PathBuf::from,
        );
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(&python)
            .args(["-c", SERVER])
            .arg(folder.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; run `cargo xtask test`, which installs it", python.display())
            });
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut address)
            .expect("an address");
        if address.is_empty() {
            let mut said = String::new();
            let _ = child.stderr.take().expect("a pipe").read_to_string(&mut said);
            panic!("{}: {said}", python.display());
        }
        Self { child, address: address.trim().to_owned(), _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A gallery with everything that can go wrong on the way.
fn full(vector_type: VectorType) -> Gallery {
    let mut gallery = Gallery::with_type(16, "0123456789abcdef", vector_type);
    for (label, picture) in [("Tab\t, \\n and 小熊猫 \"quoted\"", vec![0, 255, 92]), ("", vec![])]
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
        let picture = vec![number as u8; 40];
        gallery.add_class(Class { label, ..Class::default() }, picture);
    }
    for entry in 0..200_usize {
        let embedding = [number as f32, entry as f32, 1.0, 2.0];
        let picture = ContentId::of(&[number as u8, entry as u8]);
        gallery.add_image(entry % 4, &embedding, picture).expect("a class");
    }
    gallery
}

fn bytes_of<S: Read + Write + Seek>(stream: models::gallery::GalleryStream<S>) -> Vec<u8> {
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
        bytes_of(engine().pull(scratch).expect("a gallery"))
    };
    let [first, second, third] = [1, 2, 3].map(numbered);
    engine().push(&first, |_| ()).expect("pushed");

    // A push in the middle of a pull: the pull sees the old gallery alone.
    let ((begin, begun), (says, heard)) = (channel(), channel());
    let both = std::thread::scope(|scope| {
        let (engine, second) = (&engine, &second);
        scope.spawn(move || {
            begun.recv().expect("the pull goes on");
            // The pull may be over before the push is.
            engine().push(second, |what| drop(says.send(what.to_owned()))).expect("pushed");
            let _ = says.send("done".to_owned());
        });
        let (unused, never) = channel();
        drop(unused);
        let meanwhile = Meanwhile { file: Cursor::new(Vec::new()), begin: Some(begin), heard };
        let other = Meanwhile { file: Cursor::new(Vec::new()), begin: None, heard: never };
        // The second scratch file takes the classes' pictures, which come first.
        bytes_of(engine().pull([other, meanwhile]).expect("a gallery"))
    });
    assert!(both == first.to_bytes(), "one state");
    assert!(pulled() == second.to_bytes(), "the push went on");

    // Pushes that cannot end while somebody reads: one is killed, another waits for a third.
    let mut reader = Client::connect(&server.address, NoTls).expect("a server");
    let mut reading = reader.transaction().expect("a transaction");
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
    assert!(said.contains("waiting: another push of shop is under way"), "{said}");
    assert!(pulled() == second.to_bytes(), "nothing of what is under way is seen");
    reading.rollback().expect("ended");
    assert!(one.wait().expect("an end").success() && last.wait().expect("an end").success());
    assert!(pulled() == first.to_bytes(), "one after the other");

    // What somebody else has put there is looked at.
    let mut client = Client::connect(&server.address, NoTls).expect("a server");
    // An earlier version pushed no rule and no calibration.
    let earlier = "ALTER TABLE shop_gallery DROP COLUMN rule, DROP COLUMN calibration";
    client.batch_execute(earlier).expect("a column");
    assert!(pulled() == first.to_bytes(), "nearest");
    let later = "ALTER TABLE shop_gallery ADD COLUMN rule text, ADD COLUMN calibration text";
    client.batch_execute(later).expect("a column");
    let mut broken = |change: &str, back: &str| {
        client.batch_execute(change).expect(change);
        let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
        let error = engine().pull(scratch).expect_err(change);
        client.batch_execute(back).expect(back);
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
            "DO $$ DECLARE graph text; BEGIN
                 SELECT indexrelid::regclass INTO graph FROM pg_index
                     WHERE indrelid = 'shop_entries'::regclass AND NOT indisprimary;
                 EXECUTE 'DROP INDEX ' || graph;
             END $$;
             ALTER TABLE shop_entries ALTER embedding TYPE text USING '[1e39,0,0,1]'",
            "ALTER TABLE shop_entries ALTER embedding TYPE text USING '[1,0,0,0]'",
            "entry 0: the embedding holds a value that is not finite",
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
