//! Adapted galleries in `PostgreSQL`: the same bytes come back, and searches are those behind the map.

use std::io::Cursor;

use models::gallery::{
    Adaptation, AdaptationKind, AdaptationMap, AnswerRule, Class, ContentId, Crop, Gallery, Match,
    VectorType,
};
use native_trainer::postgres::{PostgresGallery, Query, ServerIndex};
use postgres::error::SqlState;

use crate::database::Server;
use crate::postgres::{SILENT, bytes_of, jpeg, reader};

/// A gallery behind a map that was learned from its own entries.
fn adapted(vector_type: VectorType) -> Gallery {
    let mut gallery = Gallery::with_type(12, "0123456789abcdef", vector_type);
    let mut state = 7_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    for class in 0..8 {
        let label = format!("class {class}");
        gallery.add_class(Class { label, ..Class::default() }, jpeg(&[class as u8]));
        let center: Vec<f32> = (0..12).map(|_| next()).collect();
        for entry in 0..20 {
            let embedding: Vec<f32> = center.iter().map(|value| value + next()).collect();
            gallery
                .add_image(class, &embedding, ContentId::of(&[class as u8, entry]))
                .expect("a class");
        }
    }
    let about =
        Adaptation { kind: AdaptationKind::Whitening, strength: 0.3, entries: 160, values: 6 };
    let offsets = (0..6).map(|row| row as f32 * 0.02);
    let mut bytes: Vec<u8> = offsets.chain([1.0 / 127.0; 6]).flat_map(f32::to_le_bytes).collect();
    bytes.extend((0..6 * 12_u32).map(|place| (place * 89 % 251) as u8));
    let map = AdaptationMap::from_bytes(about, 12, &bytes).expect("a map");
    gallery.set_map(Some(map)).expect("of its width");
    gallery.set_crop(Crop::Middle);
    gallery.set_min_similarity(Some(0.3)).expect("a number");
    gallery.set_measured_rule(AnswerRule::Vote { neighbors: 5 });
    let calibration = r#"{"source":"gallery","asked":160,"false_accept":0.05,"lead_weight":0.3,"least":0.1,
        "probability":[[0.1,0.2],[0.3,0.9]]}"#;
    gallery.set_calibration(Some(serde_json::from_str(calibration).expect("a calibration")));
    gallery
}

#[test]
fn an_adapted_gallery_in_postgres_is_the_same_and_answers_behind_its_map() {
    let server = Server::start();
    let mut engine = PostgresGallery::connect(&server.address, "shop").expect("a server");
    for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
        let gallery = adapted(vector_type);
        assert!(gallery.map().is_some() && gallery.calibration().is_some());
        for index in ServerIndex::ALL {
            engine.push(&mut reader(&gallery), Some(index), SILENT).expect("pushed");
            let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
            let pulled = engine.pull(scratch, SILENT).expect("a gallery");
            assert!(bytes_of(pulled) == gallery.to_bytes(), "{vector_type:?} {index:?}");
            let query = Query { model: gallery.model().to_owned(), k: 3, ..Query::default() };
            let between = |entry: usize| -> Vec<f32> {
                let (one, two) = (gallery.embedding(entry), gallery.embedding((entry + 37) % 160));
                one.iter().zip(two.iter()).map(|(one, two)| one + 0.5 * two).collect()
            };
            let asked: Vec<Vec<f32>> = (0..160).step_by(7).map(between).collect();
            let found = engine.search(&query, &asked, SILENT).expect("answers");
            let mut as_without = 0;
            for (found, asked) in found.iter().zip(&asked) {
                let own = gallery.search(asked, 8).expect("an answer");
                for (place, (label, there)) in found.iter().enumerate() {
                    let is_own = |own: &&Match| gallery.classes()[own.class].label == *label;
                    let best = own.iter().find(is_own).expect("a class").similarity;
                    // An index may come to another entry of the class.
                    assert!(there.similarity < best + 1e-4, "{vector_type:?} {index:?} {label}");
                    if index == ServerIndex::Flat {
                        assert_eq!(there.class, own[place].class, "{vector_type:?}");
                        assert!(there.similarity > best - 1e-4, "{vector_type:?} {label}");
                    }
                }
                let mut plain = gallery.clone();
                plain.set_map(None).expect("none");
                let plain = plain.search(asked, 1).expect("an answer");
                as_without +=
                    usize::from((plain[0].similarity - found[0].1.similarity).abs() < 1e-4);
            }
            // The map is what makes the answers.
            assert!(as_without < asked.len(), "{vector_type:?} {index:?}");
        }
    }
    // A gallery that would not come back is not pushed.
    for (change, told) in [
        (
            (|gallery: &mut Gallery| {
                gallery.set_thumbnail(0, b"no picture".to_vec()).expect("a class");
            }) as fn(&mut Gallery),
            "its thumbnail is no picture",
        ),
        (
            |gallery| {
                let named = Class { label: "a\u{202e}".to_owned(), ..Class::default() };
                gallery.add_class(named, Vec::new());
            },
            "holds U+202E",
        ),
    ] {
        let mut gallery = adapted(VectorType::F32);
        change(&mut gallery);
        let error = engine.push(&mut reader(&gallery), None, SILENT).expect_err(told).to_string();
        assert!(error.contains(told) && error.contains("it is not pushed"), "{error}");
    }
}

#[test]
fn a_gallery_of_a_name_of_forty_letters_in_postgres_is_pushed_again_and_found() {
    let server = Server::start();
    let mut engine = PostgresGallery::connect(&server.address, &"n".repeat(40)).expect("a server");
    // The server cuts the names of indexes: those of two names that are alike up to there are others.
    let mut other = PostgresGallery::connect(&server.address, &format!("{}m", "n".repeat(39)))
        .expect("a server");
    let gallery = adapted(VectorType::F16);
    let query = Query { model: gallery.model().to_owned(), k: 3, ..Query::default() };
    for index in ServerIndex::ALL {
        for engine in [&mut engine, &mut other] {
            engine.push(&mut reader(&gallery), Some(index), SILENT).expect("pushed");
            let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
            let pulled = engine.pull(scratch, SILENT).expect("a gallery");
            assert!(bytes_of(pulled) == gallery.to_bytes(), "{index:?}");
            let asked = [gallery.embedding(3).to_vec()];
            let found = engine.search(&query, &asked, SILENT).expect("answers");
            assert_eq!(found[0].len(), 3, "{index:?}");
        }
    }
}

#[test]
fn what_is_no_entry_behind_the_map_in_postgres_is_refused() {
    let server = Server::start();
    let mut engine = PostgresGallery::connect(&server.address, "shop").expect("a server");
    let gallery = adapted(VectorType::F32);
    let query = Query { model: gallery.model().to_owned(), k: 3, ..Query::default() };
    let asked = [gallery.embedding(9).to_vec()];
    let wrong = "UPDATE shop_entries SET mapped = mapped * '[7,7,7,7,7,7]'::vector
        WHERE entry = 9";
    let mut client = server.client();
    for index in [ServerIndex::Flat, ServerIndex::Hnsw] {
        engine.push(&mut reader(&gallery), Some(index), SILENT).expect("pushed");
        let checked = client.batch_execute(wrong).expect_err("the table checks it");
        assert_eq!(checked.code().map(SqlState::code), Some("23514"), "{checked}");
        client
            .batch_execute(
                "ALTER TABLE shop_entries DROP CONSTRAINT magpie_entry, ADD CONSTRAINT magpie_entry CHECK (true)",
            )
            .and_then(|()| client.batch_execute(wrong))
            .expect("a table that checks nothing");
        let scratch = [(); 2].map(|()| Cursor::new(Vec::new()));
        let told = engine.pull(scratch, SILENT).expect_err("refused").to_string();
        assert!(told.contains("entry 9 has no unit length behind the map"), "{told}");
        let told = engine.search(&query, &asked, SILENT).expect_err("refused").to_string();
        let searched = ["a similarity of ", "an entry that is compared has no unit length"];
        assert!(searched.iter().any(|text| told.contains(text)), "{index:?}: {told}");
    }
}
