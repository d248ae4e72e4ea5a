//! Entries of galleries: which go when pictures are taken out, which a graph comes to, which are none.

use std::ffi::OsStr;
use std::path::PathBuf;

use models::gallery::{Class, ContentId, Gallery, IndexConfig, VectorType};

use crate::world::{World, gallery, opened, refused, shape};

/// Labels with the pictures of their entries, by the names of the files.
fn content(gallery: &Gallery, files: &[PathBuf]) -> Vec<(String, String)> {
    let name = |id: ContentId| {
        let file =
            files.iter().find(|file| ContentId::of(&std::fs::read(file).expect("a file")) == id);
        let stem = file.and_then(|file| file.file_stem()).expect("a picture");
        stem.to_string_lossy().into_owned()
    };
    let label = |entry: usize| gallery.classes()[gallery.entry_class(entry)].label.clone();
    gallery.entries().map(|e| (label(e), name(gallery.content_id(e)))).collect()
}

#[test]
fn the_picture_that_is_named_goes_and_no_other_one() {
    let world = World::new();
    let model = world.model();
    let files: Vec<PathBuf> = ["a", "b", "c", "d", "e", "f", "g"]
        .iter()
        .enumerate()
        .map(|(n, name)| world.write(&format!("{name}.png"), shape(n, n, 40).encode_png().unwrap()))
        .collect();
    let c = world.path("c.png");
    // One picture is in three classes.
    let list = "a.png D\nb.png D\nc.png A\nd.png A\ne.png B\nc.png B\nf.png C\ng.png C\n";
    let list = world.write("list.txt", list);
    for index in ["flat", "hnsw", "ivf", "binary"] {
        let file = world.path(&format!("{index}.bin"));
        let words: [&dyn AsRef<OsStr>; 5] = [&"build", &"--images", &list, &"--index", &index];
        let rest: [&dyn AsRef<OsStr>; 4] = [&"--extractor", &model, &"--out", &file];
        gallery(&[&words[..], &rest].concat());
        gallery(&[&"remove", &file, &"--class", &"D"]);
        gallery(&[&"remove", &file, &"--picture", &c]);
        let left = [("A", "d"), ("B", "e"), ("C", "f"), ("C", "g")];
        let left = left.map(|(label, name)| (label.to_owned(), name.to_owned()));
        assert_eq!(content(&opened(&file), &files), left, "{index}");
        let before = std::fs::read(&file).unwrap();
        let [d, e] = ["d.png", "e.png"].map(|name| world.path(name));
        // Nothing goes where one of them is not there.
        assert!(refused(&[&"remove", &file, &"--class", &"C", &"--picture", &c]).contains("c.png"));
        assert!(std::fs::read(&file).unwrap() == before);
        // A class and a picture of it, another one, and one that is named twice.
        let words: [&dyn AsRef<OsStr>; 4] = [&"remove", &file, &"--class", &"A"];
        let pictures: [&dyn AsRef<OsStr>; 6] =
            [&"--picture", &d, &"--picture", &e, &"--picture", &e];
        gallery(&[&words[..], &pictures].concat());
        assert_eq!(content(&opened(&file), &files), left[2..], "{index}");
    }
}

#[test]
fn what_a_graph_leaves_out_is_counted_and_linked_in() {
    let world = World::new();
    let old = include_bytes!("../../../gallery/tests/galleries/equal_rows.bin");
    let file = world.write("old.bin", old);
    let said = refused(&[&"verify", &file]);
    assert!(said.contains("searches in its graph do not come to 39 of 150 entries"), "{said}");
    assert!(said.contains(&format!("`magpie gallery compact {}`", file.display())), "{said}");
    let said = gallery(&[&"compact", &file]);
    assert!(said.contains("graph: searches come to all 150 entries"), "{said}");
    let said = gallery(&[&"verify", &file]);
    assert!(said.contains("whole; 11 classes, 150 entries"), "{said}");

    // What is merged into a graph is linked in, too.
    let again = world.write("again.bin", old);
    let mut more = Gallery::new(6, "0123456789abcdef");
    more.add_class(Class { label: "more".to_owned(), ..Class::default() }, vec![]);
    let same = opened(&file).index().vector(0).into_owned();
    for number in 0..40_u8 {
        more.add_image(0, &same, ContentId::of(&[1, number])).unwrap();
    }
    let (more, all) = (world.write("more.bin", more.to_bytes()), world.path("all.bin"));
    gallery(&[&"merge", &again, &more, &"--out", &all]);
    assert!(gallery(&[&"verify", &all]).contains("whole; 12 classes, 190 entries"));
}

#[test]
fn a_build_says_what_its_graph_comes_to() {
    let world = World::new();
    let (model, pictures) = (world.model(), world.pictures("pictures", 2, 3));
    let file = world.path("gallery.bin");
    let words: [&dyn AsRef<OsStr>; 5] = [&"build", &"--images", &pictures, &"--index", &"hnsw"];
    let rest: [&dyn AsRef<OsStr>; 4] = [&"--extractor", &model, &"--out", &file];
    let said = gallery(&[&words[..], &rest].concat());
    assert!(said.contains("graph: searches come to all 6 entries"), "{said}");
}

#[test]
fn an_entry_of_zeros_is_read_and_named() {
    let world = World::new();
    let old = include_bytes!("../../../gallery/tests/galleries/zero_row.bin");
    let file = world.write("old.bin", old);
    let named = "entry 1, of class \"white\", has length zero";
    assert!(gallery(&[&"list", &file]).contains("entries     3"));
    assert!(refused(&[&"verify", &file]).contains(named));
    let mut other = Gallery::new(4, "0123456789abcdef");
    other.add_class(Class { label: "other".to_owned(), ..Class::default() }, vec![]);
    other.add(0, &[1.0; 4]).unwrap();
    let (other, all) = (world.write("other.bin", other.to_bytes()), world.path("all.bin"));
    let said = refused(&[&"merge", &other, &file, &"--out", &all]);
    assert!(said.contains(named) && !all.exists(), "{said}");
    gallery(&[&"remove", &file, &"--class", &"white"]);
    assert!(gallery(&[&"verify", &file]).contains("whole; 2 classes, 2 entries"));
}

#[test]
fn values_that_do_not_fit_are_named_and_change_nothing() {
    let world = World::new();
    let mut wide = Gallery::with_type(4, "0123456789abcdef", VectorType::F32);
    wide.add_class(Class { label: "a".to_owned(), ..Class::default() }, vec![]);
    wide.add(0, &[0.0, 0.0, 0.0, 1.0]).unwrap();
    wide.add_stored(0, &[1.0, 1e6, 0.0, 0.0], ContentId::default()).unwrap();
    let mut half = Gallery::new(4, "0123456789abcdef");
    half.add_class(Class { label: "b".to_owned(), ..Class::default() }, vec![]);
    let (bytes, all) = (wide.to_bytes(), world.path("all.bin"));
    let (wide, half) = (world.write("wide.bin", &bytes), world.write("half.bin", half.to_bytes()));
    for values in ["f16", "i8"] {
        let said = refused(&[&"compact", &wide, &"--values", &values]);
        assert!(said.contains("entry 1 holds 1e6") && said.contains(values), "{said}");
        assert!(std::fs::read(&wide).unwrap() == bytes, "{values}");
    }
    let said = refused(&[&"merge", &half, &wide, &"--out", &all]);
    assert!(said.contains("entry 1 holds 1e6, which does not fit f16"), "{said}");
    assert!(!all.exists());
    gallery(&[&"merge", &wide, &half, &"--out", &all]);
    assert_eq!(opened(&all).len(), 2);
}

#[test]
fn stats_group_classes_that_are_the_same() {
    let world = World::new();
    let mut shop = Gallery::new(4, "0123456789abcdef");
    for number in 0..4_000 {
        let class = Class { label: format!("no picture yet {number}"), ..Class::default() };
        let class = shop.add_class(class, vec![]);
        shop.add(class, &[1.0, 1.0, 1.0, 1.0]).unwrap();
    }
    for (label, embedding) in [("mug", [1.0, 0.1, 0.0, 0.0]), ("cup", [1.0, 0.0, 0.1, 0.0])] {
        let class = Class { label: label.to_owned(), ..Class::default() };
        let class = shop.add_class(class, vec![]);
        shop.add(class, &embedding).unwrap();
    }
    shop.set_index(IndexConfig::Flat).unwrap();
    let file = world.write("shop.bin", shop.to_bytes());
    let said = gallery(&[&"stats", &file]);
    let same = "the same    4000 classes: \"no picture yet 0\", \"no picture yet 1\", \
                \"no picture yet 2\", …";
    assert!(said.contains(same), "{said}");
    let said = gallery(&[&"stats", &file, &"--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["all_compared"], true);
    assert_eq!(said["equal"][0]["classes"], 4000);
    let pairs = said["alike"].as_array().unwrap();
    assert_eq!(pairs.len(), 10);
    assert_eq!(pairs[0]["classes"][1], "no picture yet 1");
    // Without the crowd the two others are found.
    shop.remove_entries(&(1..4_000).collect::<Vec<_>>()).unwrap();
    std::fs::write(&file, shop.to_bytes()).unwrap();
    let said = gallery(&[&"stats", &file]);
    assert!(said.contains("alike       \"mug\" and \"cup\": 0.990"), "{said}");
    assert!(!said.contains("the same") && !said.contains("may be missing"), "{said}");
}
