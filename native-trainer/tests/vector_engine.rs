//! The gallery in a real vector engine: `PostgreSQL` with pgvector, started on a socket here.
//!
//! `cargo xtask test` installs both from `PyPI` into `.magpie/pgvector` (package `pgserver`);
//! `MAGPIE_PGVECTOR` names another Python that has the package.

mod world;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use models::gallery::{Class, Gallery, PictureId, VectorType};
use world::{World, fail, succeed};

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
        let picture = PictureId::of(&number.to_le_bytes());
        gallery.add_picture(number as usize % 2, &embedding, picture).expect("a class");
    }
    gallery.set_min_similarity(Some(0.4375)).expect("a number");
    gallery
}

#[test]
fn a_gallery_in_the_vector_engine_comes_back_as_it_was() {
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
fn a_gallery_in_the_vector_engine_answers_as_the_file_does() {
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
