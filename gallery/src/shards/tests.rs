//! A sharded gallery against the whole one that it was cut from.

use proptest::prelude::*;

use super::coder::Coder;
use super::*;
use crate::embedding::unit;
use crate::matrix::noise;
use crate::sections::forged;

const DIM: usize = 48;

/// Classes of ten entries around a middle each; every third class has facts.
fn clustered(classes: usize, spread: f32) -> Gallery {
    let mut gallery = Gallery::new(DIM, "model");
    let mut next = noise(5);
    for class in 0..classes {
        let label = format!("class {class} 类");
        let mut metadata = crate::metadata::Metadata::new();
        let mut thumbnail = Vec::new();
        if class % 3 == 0 {
            metadata.insert("price".to_owned(), format!("{class} €"));
            thumbnail = vec![class as u8; 40];
        }
        let min_similarity = (class == 1).then_some(0.75);
        gallery.add_class(Class { label, metadata, min_similarity }, thumbnail);
        let middle: Vec<f32> = (0..DIM).map(|_| next()).collect();
        for _ in 0..10 {
            let near: Vec<f32> = middle.iter().map(|v| v + spread * next()).collect();
            gallery.add(class, &near).expect("a good gallery");
        }
    }
    gallery
}

fn options() -> ShardOptions {
    ShardOptions {
        list_bytes: 2000,
        code_bytes: 24,
        shard_bytes: 30_000,
        ..ShardOptions::default()
    }
}

fn fetch(sharded: &Sharded, part: &Part) -> Vec<u8> {
    let range = part.range.start as usize..part.range.end as usize;
    sharded.shards[part.shard][range].to_vec()
}

fn fetch_all(shards: &mut Shards, sharded: &Sharded, embedding: &[f32], budget: Budget) -> u64 {
    let mut bytes = 0;
    for part in shards.missing([embedding], budget).expect("a good gallery") {
        bytes += part.range.end - part.range.start;
        shards.take(&part, &fetch(sharded, &part)).expect("a good gallery");
    }
    bytes
}

#[test]
fn few_lists_answer_as_the_whole_gallery_does() {
    let gallery = clustered(300, 0.5);
    let sharded = gallery.to_shards(&options()).unwrap();
    assert!(sharded.shards.len() > 2, "{}", sharded.shards.len());
    let read = Shards::from_bytes(&sharded.directory).unwrap();
    assert_eq!((read.entries(), read.classes(), read.dim()), (3000, 300, DIM));
    let lengths: Vec<u64> = sharded.shards.iter().map(|shard| shard.len() as u64).collect();
    assert_eq!(read.shards(), lengths);
    let budget = Budget { bytes: 6500, requests: 3 };
    let (mut right, mut found, mut asked) = (0, 0, 0);
    for entry in (0..3000).step_by(29) {
        let mut next = noise(entry as u64);
        let moved: Vec<f32> =
            gallery.index().vector(entry).iter().map(|v| v + 0.03 * next()).collect();
        let query = unit(&moved, gallery.dim()).unwrap();
        let mut shards = read.clone();
        let parts = shards.missing([query.as_slice()], budget).unwrap();
        assert!(parts.len() <= 3);
        assert!(fetch_all(&mut shards, &sharded, &query, budget) <= 6500);
        let near = shards.neighborhood(&query, budget).unwrap();
        let exact = gallery.index().search(&query, &Search::best(10)).unwrap();
        let hits = near.index().search(&query, &Search::best(10)).unwrap();
        for hit in &hits {
            let ContentId(id) = near.content_id(hit.entry);
            let id = u32::from_le_bytes(std::array::from_fn(|i| id[12 + i])) as usize;
            assert_eq!(
                near.classes()[near.entry_class(hit.entry)].label,
                gallery.classes()[gallery.entry_class(id)].label
            );
            let true_similarity: f32 =
                gallery.index().vector(id).iter().zip(&query).map(|(a, b)| a * b).sum();
            assert!((hit.similarity - true_similarity).abs() < 0.06, "{hit:?} {true_similarity}");
            found += usize::from(exact.iter().any(|e| e.entry == id));
        }
        let best = near.search(&query, 1).unwrap()[0].class;
        let expected = gallery.search(&query, 1).unwrap()[0].class;
        right += usize::from(near.classes()[best].label == gallery.classes()[expected].label);
        asked += 1;
    }
    assert_eq!(right, asked);
    assert!(found * 10 > asked * 90, "recall@10 {found} of {}", asked * 10);
}

#[test]
fn what_was_fetched_is_not_asked_for_again() {
    let gallery = clustered(100, 0.5);
    let sharded = gallery.to_shards(&options()).unwrap();
    let mut shards = Shards::from_bytes(&sharded.directory).unwrap();
    let budget = Budget { bytes: 5000, requests: 2 };
    let query = gallery.index().vector(17).into_owned();
    assert!(fetch_all(&mut shards, &sharded, &query, budget) > 0);
    assert_eq!(shards.missing([query.as_slice()], budget).unwrap(), []);
    shards.forget_beyond(100_000);
    assert_eq!(shards.missing([query.as_slice()], budget).unwrap(), []);
    shards.forget_beyond(100);
    assert!(!shards.missing([query.as_slice()], budget).unwrap().is_empty());
    // With everything here a query looks at all that is near.
    let all = Budget { bytes: u64::MAX, requests: usize::MAX };
    fetch_all(&mut shards, &sharded, &query, all);
    let near = shards.neighborhood(&query, budget).unwrap();
    assert_eq!(near.len(), NEIGHBORHOOD);
}

#[test]
fn facts_come_for_the_classes_that_are_asked_for_and_once() {
    let gallery = clustered(60, 0.5);
    let sharded = gallery.to_shards(&options()).unwrap();
    let mut shards = Shards::from_bytes(&sharded.directory).unwrap();
    assert_eq!(shards.missing_metadata(["class 3 类"]), [], "its list is not here");
    let queries = [1, 3].map(|class| gallery.index().vector(class * 10).into_owned());
    for query in &queries {
        fetch_all(&mut shards, &sharded, query, Budget::default());
    }
    for part in shards.missing_metadata(["class 3 类", "class 1 类", "class 3 类", "no such class"])
    {
        shards.take(&part, &fetch(&sharded, &part)).unwrap();
    }
    assert_eq!(shards.missing_metadata(["class 3 类", "class 1 类"]), []);
    let near = shards.neighborhood(&queries[1], Budget::default()).unwrap();
    let third = near.class_by_label("class 3 类").unwrap();
    assert_eq!(near.classes()[third].metadata["price"], "3 €");
    assert_eq!(near.thumbnail(third), [3; 40]);
    let near = shards.neighborhood(&queries[0], Budget::default()).unwrap();
    let first = near.class_by_label("class 1 类").unwrap();
    assert!(near.classes()[first].metadata.is_empty());
    // A threshold of its own comes with the list.
    assert_eq!(near.classes()[first].min_similarity, Some(0.75));
}

#[test]
fn small_and_odd_galleries_are_cut_too() {
    let mut one = Gallery::new(3, "m");
    assert!(one.to_shards(&options()).is_err(), "empty");
    let class = one.add_class(Class { label: "only".to_owned(), ..Class::default() }, Vec::new());
    one.add_class(Class { label: "without entries".to_owned(), ..Class::default() }, Vec::new());
    one.add(class, &[1.0, 2.0, 2.0]).unwrap();
    for copies in [1, 3] {
        for _ in 0..4 {
            // The same embedding many times: no rest to round.
            one.add(class, &[1.0, 2.0, 2.0]).unwrap();
        }
        let sharded = one.to_shards(&ShardOptions { copies, ..ShardOptions::default() }).unwrap();
        let mut shards = Shards::from_bytes(&sharded.directory).unwrap();
        let query = one.index().vector(0).into_owned();
        fetch_all(&mut shards, &sharded, &query, Budget::default());
        let near = shards.neighborhood(&query, Budget::default()).unwrap();
        let best = near.search(&query, 1).unwrap()[0];
        assert_eq!(near.classes()[best.class].label, "only");
        assert!((best.similarity - 1.0).abs() < 0.02, "{best:?}");
    }
    let means = clustered(12, 0.5).of_means().unwrap();
    assert_eq!((means.len(), means.classes().len()), (12, 12));
}

#[test]
fn the_same_gallery_gives_the_same_shards() {
    let gallery = clustered(80, 0.4);
    let (first, second) =
        (gallery.to_shards(&options()).unwrap(), gallery.to_shards(&options()).unwrap());
    assert_eq!(first.directory, second.directory);
    assert_eq!(first.shards, second.shards);
}

#[test]
fn every_damage_is_noticed() {
    let gallery = clustered(40, 0.5);
    let sharded = gallery.to_shards(&options()).unwrap();
    for position in 0..sharded.directory.len() {
        let mut damaged = sharded.directory.clone();
        damaged[position] ^= 0x11;
        assert!(Shards::from_bytes(&damaged).is_err(), "byte {position}");
        assert!(Shards::from_bytes(&sharded.directory[..position]).is_err(), "{position} bytes");
    }
    let mut shards = Shards::from_bytes(&sharded.directory).unwrap();
    let query = gallery.index().vector(3).into_owned();
    let all = Budget { bytes: 4000, requests: 9 };
    let parts = shards.missing([query.as_slice()], all).unwrap();
    let part = &parts[0];
    let bytes = fetch(&sharded, part);
    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x40;
        assert!(shards.take(part, &damaged).is_err(), "byte {position}");
    }
    assert!(shards.take(part, &bytes[1..]).is_err());
    assert!(shards.neighborhood(&query, all).unwrap().is_empty(), "nothing was taken");
    for part in &parts {
        shards.take(part, &fetch(&sharded, part)).unwrap();
    }
    for part in shards.missing_metadata(["class 0 类"]) {
        let bytes = fetch(&sharded, &part);
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x40;
            assert!(shards.take(&part, &damaged).is_err(), "byte {position}");
        }
    }
}

#[test]
fn forged_heads_and_lists_give_an_error_or_answers_but_no_panic() {
    let gallery = clustered(12, 0.5);
    let sharded = gallery.to_shards(&options()).unwrap();
    for kind in 1..=5 {
        for position in 0..300 {
            for value in [0, 1, 0x7f, 0xff] {
                let damaged = forged(&sharded.directory, kind, |section| {
                    if let Some(byte) = section.get_mut(position) {
                        *byte = value;
                    }
                });
                let Ok(mut shards) = Shards::from_bytes(&damaged) else { continue };
                let query = vec![0.1; shards.dim()];
                for part in shards.missing([query.as_slice()], Budget::default()).unwrap() {
                    let file = &sharded.shards[part.shard.min(sharded.shards.len() - 1)];
                    let range = part.range.start as usize..part.range.end as usize;
                    let _ = shards.take(&part, file.get(range).unwrap_or_default());
                }
                let _ = shards.neighborhood(&query, Budget::default());
            }
        }
    }
    let shards = Shards::from_bytes(&sharded.directory).unwrap();
    let place = &shards.lists[0].0;
    let list = &sharded.shards[0][place.range.start as usize..place.range.end as usize];
    let code_bytes = shards.transform.residuals.bytes();
    for position in 0..list.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = list.to_vec();
            damaged[position] = value;
            if let Ok(block) = Block::read(&damaged, code_bytes, &shards.files) {
                assert!((0..block.len()).all(|entry| block.class(entry) < block.classes.len()));
            }
        }
    }
}

proptest! {
    #[test]
    fn codes_stand_for_what_was_rounded(
        seed in any::<u64>(),
        components in 1_usize..70,
        bytes in 1_usize..40,
    ) {
        let mut next = noise(seed);
        let variances: Vec<f64> = (0..components).map(|_| f64::from(next().abs()).powi(4)).collect();
        let coder = Coder::for_variances(&variances, &vec![1.0; components], bytes, 0.0);
        prop_assert!(coder.bytes() <= bytes);
        let values: Vec<f32> =
            variances.iter().map(|v| v.sqrt() as f32 * 1.7 * next()).collect();
        let mut code = Vec::new();
        coder.encode(&values, &mut code);
        prop_assert_eq!(code.len(), coder.bytes());
        let mut decoded = vec![0.0; components];
        coder.decode(&code, |component, value| decoded[component] = value);
        for (component, (value, decoded)) in values.iter().zip(&decoded).enumerate() {
            let (bits, step) = (coder.bits[component], coder.steps[component]);
            let reach = step * f32::from(1_u16 << bits) / 2.0;
            if bits > 0 && value.abs() < reach {
                prop_assert!((value - decoded).abs() <= step * 0.5001, "{value} {decoded} {step}");
            }
        }
        let query: Vec<f32> = (0..components).map(|_| next()).collect();
        let product: f32 = decoded.iter().zip(&query).map(|(d, q)| d * q).sum();
        prop_assert!((coder.product(&code, &query) - product).abs() < 1e-4);
    }
}
