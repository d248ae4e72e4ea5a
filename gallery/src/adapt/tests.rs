//! Worlds in which a map helps, and worlds in which it does not.

use super::*;
use crate::class::{Class, ContentId};
use crate::index::{IndexConfig, VectorType};
use crate::matrix::noise;

const DIM: usize = 24;

/// A class' place and a picture's, each of `DIM` values: what a value of them counts.
struct World {
    class: fn(usize) -> f32,
    picture: fn(usize) -> f32,
    /// What all embeddings have in common.
    common: f32,
    seed: u64,
}

impl World {
    fn gallery(&self, classes: usize, pictures: usize) -> Gallery {
        let mut gallery = Gallery::with_type(DIM, "m", VectorType::F32);
        let mut next = noise(self.seed);
        for class in 0..classes {
            let label = format!("class {class}");
            gallery.add_class(Class { label, ..Class::default() }, Vec::new());
            let middle: Vec<f32> = (0..DIM).map(|i| (self.class)(i) * next()).collect();
            for picture in 0..pictures {
                let embedding: Vec<f32> = (0..DIM)
                    .map(|i| self.common + middle[i] + (self.picture)(i) * next())
                    .collect();
                let id = ContentId::of(&(class * 100 + picture).to_le_bytes());
                gallery.add_image(class, &embedding, id).unwrap();
            }
        }
        gallery
    }
}

/// Light and background move every class along the same six values.
const MOVED: World = World {
    class: |i| if i < 6 { 0.1 } else { 0.35 },
    picture: |i| if i < 6 { 2.0 } else { 0.25 },
    common: 0.5,
    seed: 3,
};
/// Pictures vary alike in all values.
const ALIKE: World = World { class: |_| 0.3, picture: |_| 0.35, common: 0.0, seed: 5 };
/// What tells classes apart varies most within them, too; the rest hardly varies and means nothing.
const HURT: World = World {
    class: |i| if i < 6 { 1.5 } else { 0.0 },
    picture: |i| if i < 6 { 0.5 } else { 0.02 },
    common: 0.5,
    seed: 7,
};

fn recall(gallery: &Gallery, queries: &Gallery) -> f64 {
    let right = queries.entries().filter(|entry| {
        let found = gallery.search(&queries.embedding(*entry), 1).unwrap();
        found[0].class == queries.entry_class(*entry)
    });
    right.count() as f64 / queries.len() as f64
}

/// Every second picture of each class, and the others.
fn halves(all: &Gallery) -> [Gallery; 2] {
    [0, 1].map(|rest| {
        let mut half = all.clone();
        let others: Vec<usize> = half.entries().filter(|entry| entry % 2 != rest).collect();
        half.remove_entries(&others).unwrap();
        half
    })
}

#[test]
fn a_map_helps_where_every_class_varies_along_the_same_directions() {
    let [mut gallery, queries] = halves(&MOVED.gallery(40, 12));
    let before = recall(&gallery, &queries);
    let learned = gallery.learn_map(&AdaptOptions::default()).unwrap();
    let LearnedMap::Helps { map, chosen } = learned.clone() else { panic!("{learned:?}") };
    assert!(chosen.pictures.helps() && chosen.classes.helps(), "{chosen:?}");
    assert_eq!(gallery.learn_map(&AdaptOptions::default()).unwrap(), learned, "the same again");
    gallery.set_map(Some(*map)).unwrap();
    let after = recall(&gallery, &queries);
    assert!(after > before + 0.2, "{before} {after}");
    // Left out with what is most similar, pictures promise no more than others see.
    let measured = chosen.pictures.shares()[1];
    assert!(measured > before && measured < after + 0.05, "{before} {measured} {after}");
    // A map is learned from the entries as they came, whatever map there is.
    assert_eq!(gallery.learn_map(&AdaptOptions::default()).unwrap(), learned);
}

#[test]
fn a_map_stays_away_where_it_does_not_help() {
    for world in [ALIKE, HURT] {
        let [gallery, queries] = halves(&world.gallery(40, 12));
        let learned = gallery.learn_map(&AdaptOptions::default()).unwrap();
        assert!(matches!(learned, LearnedMap::NoHelp { best: Some(_) }), "{learned:?}");
        assert!(recall(&gallery, &queries) > 0.3);
    }
}

/// Pictures of one visit are alike but for a little noise.
fn visits(classes: usize) -> Gallery {
    let mut gallery = Gallery::with_type(DIM, "m", VectorType::F32);
    let single = MOVED.gallery(classes, 3);
    let mut next = noise(9);
    for class in 0..classes {
        gallery.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
        for shot in 0..6 {
            let mut embedding = single.embedding(class * 3 + shot / 2).into_owned();
            embedding.iter_mut().for_each(|v| *v += 0.002 * next());
            let id = ContentId::of(&(class * 100 + shot).to_le_bytes());
            gallery.add_image(class, &embedding, id).unwrap();
        }
    }
    gallery
}

#[test]
fn pictures_of_one_visit_do_not_answer_for_each_other() {
    // The other shot would be right with any map.
    let learned = visits(30).learn_map(&AdaptOptions::default()).unwrap();
    let LearnedMap::Helps { chosen, .. } = learned else { panic!("{learned:?}") };
    assert!(chosen.pictures.shares()[0] < 0.6, "{chosen:?}");
}

#[test]
fn few_entries_keep_every_direction() {
    // 40 entries span 39 of 300 directions.
    let wide = 300;
    let mut gallery = Gallery::with_type(wide, "m", VectorType::F32);
    let mut next = noise(4);
    for class in 0..8 {
        gallery.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
        for picture in 0..5_usize {
            let embedding: Vec<f32> = (0..wide).map(|_| next()).collect();
            let id = ContentId::of(&(class * 100 + picture).to_le_bytes());
            gallery.add_image(class, &embedding, id).unwrap();
        }
    }
    let sample = Sample::of(&gallery);
    let space = Space::of(&sample, &|_| true);
    let taught = space.learn(&sample, &|_| true).unwrap();
    let rows = taught.whitened(0.3).unwrap().rows(AdaptationKind::Whitening, None);
    assert_eq!(rows.unwrap().len(), wide * wide);
}

#[test]
fn a_map_that_would_hurt_is_known_to() {
    let [mut gallery, queries] = halves(&HURT.gallery(40, 12));
    let strong = AdaptOptions { kind: Some(AdaptationKind::Whitening), strength: Some(0.001) };
    let LearnedMap::NoHelp { best: Some(best) } = gallery.learn_map(&strong).unwrap() else {
        panic!("it helps")
    };
    assert!(best.pictures.gain() < 0.0 && best.classes.gain() < 0.0, "{best:?}");
    let sample = Sample::of(&gallery);
    let space = Space::of(&sample, &|_| true);
    let taught = space.learn(&sample, &|_| true).unwrap();
    let rows =
        taught.whitened(0.001).and_then(|whitened| whitened.rows(AdaptationKind::Whitening, None));
    let map =
        AdaptationMap::new(AdaptationKind::Whitening, 0.001, 1, &rows.unwrap(), sample.mean());
    let before = recall(&gallery, &queries);
    gallery.set_map(map).unwrap();
    assert!(recall(&gallery, &queries) < before, "{before}");
}

#[test]
fn class_directions_are_for_closed_galleries() {
    let [mut gallery, queries] = halves(&MOVED.gallery(10, 16));
    let before = recall(&gallery, &queries);
    let closed = AdaptOptions { kind: Some(AdaptationKind::Lda), strength: None };
    let LearnedMap::Helps { map, chosen } = gallery.learn_map(&closed).unwrap() else {
        panic!("it does not help")
    };
    assert_eq!(
        (map.values(), map.about().kind, chosen.kind),
        (9, chosen.kind, AdaptationKind::Lda)
    );
    gallery.set_map(Some(*map)).unwrap();
    assert!(recall(&gallery, &queries) > before + 0.1);
}

#[test]
fn few_pictures_teach_nothing_and_strengths_are_checked() {
    let mut gallery = MOVED.gallery(12, 1);
    let learn = |gallery: &Gallery| gallery.learn_map(&AdaptOptions::default()).unwrap();
    assert_eq!(learn(&gallery), LearnedMap::TooFew { classes: 12, several: 0 });
    assert_eq!(learn(&Gallery::new(4, "m")), LearnedMap::TooFew { classes: 0, several: 0 });
    assert_eq!(learn(&MOVED.gallery(3, 9)), LearnedMap::TooFew { classes: 3, several: 3 });
    // The same picture everywhere.
    let mut same = Gallery::new(4, "m");
    for class in 0..5 {
        same.add_class(Class::default(), Vec::new());
        (0..3).for_each(|_| same.add(class, &[1.0, 0.0, 0.0, 0.0]).unwrap());
    }
    assert_eq!(learn(&same), LearnedMap::AllEqual);
    for wrong in [0.0, -0.5, 1.1, f32::NAN] {
        let options = AdaptOptions { strength: Some(wrong), kind: None };
        let error = gallery.learn_map(&options).unwrap_err();
        assert!(error.to_string().contains("above 0 and at most 1"), "{error}");
    }
    gallery.remove_class(0).unwrap();
    assert_eq!(learn(&gallery), LearnedMap::TooFew { classes: 11, several: 0 });
}

/// Solves `matrix · x = right` by elimination with pivots.
#[allow(clippy::needless_range_loop, reason = "as it stands in the books")]
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let count = right.len();
    for step in 0..count {
        let pivot = (step..count)
            .max_by(|a, b| matrix[*a][step].abs().total_cmp(&matrix[*b][step].abs()))
            .unwrap();
        matrix.swap(step, pivot);
        right.swap(step, pivot);
        for row in step + 1..count {
            let share = matrix[row][step] / matrix[step][step];
            for column in step..count {
                matrix[row][column] -= share * matrix[step][column];
            }
            right[row] -= share * right[step];
        }
    }
    for row in (0..count).rev() {
        let known: f64 = (row + 1..count).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}

#[test]
fn whitening_equals_a_plain_loop_over_the_formula() {
    let gallery = MOVED.gallery(9, 8);
    let strength = 0.2;
    let options = AdaptOptions { kind: Some(AdaptationKind::Whitening), strength: Some(strength) };
    let LearnedMap::Helps { map, .. } = gallery.learn_map(&options).unwrap() else {
        panic!("it does not help")
    };
    let rows: Vec<Vec<f64>> = (gallery.entries())
        .map(|entry| gallery.embedding(entry).iter().map(|v| f64::from(*v)).collect())
        .collect();
    let mean_of = |entries: &[usize]| -> Vec<f64> {
        (0..DIM)
            .map(|i| {
                entries.iter().map(|entry| rows[*entry][i]).sum::<f64>() / entries.len() as f64
            })
            .collect()
    };
    let all: Vec<usize> = gallery.entries().collect();
    let mean = mean_of(&all);
    let mut within = vec![vec![0.0; DIM]; DIM];
    for class in 0..gallery.classes().len() {
        let own: Vec<usize> =
            all.iter().copied().filter(|entry| gallery.entry_class(*entry) == class).collect();
        let middle = mean_of(&own);
        for entry in own {
            for i in 0..DIM {
                for j in 0..DIM {
                    within[i][j] += (rows[entry][i] - middle[i]) * (rows[entry][j] - middle[j])
                        / all.len() as f64;
                }
            }
        }
    }
    let strength = f64::from(strength);
    let average = (0..DIM).map(|i| within[i][i]).sum::<f64>() / DIM as f64;
    let mixed: Vec<Vec<f64>> = (0..DIM)
        .map(|i| {
            let own = |j: usize| if i == j { strength * average } else { 0.0 };
            (0..DIM).map(|j| (1.0 - strength) * within[i][j] + own(j)).collect()
        })
        .collect();
    let centered = |entry: usize| -> Vec<f64> {
        rows[entry].iter().zip(&mean).map(|(v, mean)| v - mean).collect()
    };
    let product = |a: usize, b: usize| -> f64 {
        let solved = solved(mixed.clone(), centered(a));
        solved.iter().zip(centered(b)).map(|(x, y)| x * y).sum()
    };
    for (a, b) in [(0, 1), (3, 40), (17, 60), (5, 66), (70, 2)] {
        let wanted = product(a, b) / (product(a, a) * product(b, b)).sqrt();
        let [x, y] = [a, b].map(|entry| map.apply(&gallery.embedding(entry)).unwrap());
        let got: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x * y)).sum();
        assert!((got - wanted).abs() < 0.02, "{a} {b}: {got} {wanted}");
    }
}

/// An adapted gallery, and the map.
fn adapted(vector_type: VectorType, config: IndexConfig) -> (Gallery, AdaptationMap) {
    let mut gallery = MOVED.gallery(20, 8);
    let LearnedMap::Helps { map, .. } = gallery.learn_map(&AdaptOptions::default()).unwrap() else {
        panic!("it does not help")
    };
    gallery.set_vector_type(vector_type).unwrap();
    gallery.set_index(config).unwrap();
    gallery.set_map(Some((*map).clone())).unwrap();
    (gallery, *map)
}

const KINDS: [IndexConfig; 4] = [
    IndexConfig::Flat,
    IndexConfig::Hnsw { m: 4, ef_construction: 16 },
    IndexConfig::Ivf { lists: 4 },
    IndexConfig::Binary,
];

#[test]
fn an_adapted_gallery_is_written_and_read_and_can_be_changed() {
    for vector_type in VectorType::ALL {
        for config in KINDS {
            let (mut gallery, map) = adapted(vector_type, config);
            let other = MOVED.gallery(22, 9);
            gallery.remove(3).unwrap();
            gallery.remove_class(5).unwrap();
            gallery.rename_class(1, "class 2").unwrap();
            gallery.add(0, &other.embedding(8)).unwrap();
            let merged = gallery.merge(&other).unwrap();
            assert!(merged.added > 0 && merged.known > 0, "{merged:?}");
            gallery.connect();
            let bytes = gallery.to_bytes();
            assert_eq!(bytes[8], 3);
            let read = Gallery::from_bytes(&bytes).unwrap();
            assert_eq!(read.map(), Some(&map));
            assert_eq!(read.to_bytes(), bytes);
            assert_eq!(read.dim(), DIM);
            for entry in gallery.entries() {
                assert_eq!(read.index().vector(entry), gallery.index().vector(entry));
                assert_eq!(read.embedding(entry), gallery.embedding(entry));
            }
            let query = other.embedding(4);
            assert_eq!(read.search(&query, 5), gallery.search(&query, 5));
            // Without the map it is the gallery that it was before.
            gallery.set_map(None).unwrap();
            assert_eq!(gallery.to_bytes()[8], 2);
            gallery.set_map(Some(map)).unwrap();
            assert_eq!(gallery.search(&query, 5), read.search(&query, 5));
        }
    }
}

#[test]
fn a_plain_gallery_takes_the_entries_of_an_adapted_one() {
    let (adapted, map) = adapted(VectorType::F32, IndexConfig::Flat);
    let mut plain = Gallery::with_type(DIM, "m", VectorType::F32);
    plain.merge(&adapted).unwrap();
    assert_eq!(plain.map(), None);
    plain.set_map(Some(map.clone())).unwrap();
    for entry in plain.entries() {
        assert_eq!(plain.index().vector(entry), adapted.index().vector(entry));
    }
    let narrow = Gallery::new(DIM - 1, "m").set_map(Some(map));
    assert_eq!(narrow, Err(GalleryError::Dimension { expected: DIM - 1, got: DIM }));
}

#[test]
fn every_damage_of_an_adapted_gallery_is_noticed() {
    use crate::sections::forged;
    let bytes = adapted(VectorType::F16, IndexConfig::Flat).0.to_bytes();
    for position in 0..400 {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x11;
        assert!(Gallery::from_bytes(&damaged).is_err(), "byte {position}");
    }
    let values = adapted(VectorType::F16, IndexConfig::Flat).1.values();
    for wrong in [f32::NAN, f32::INFINITY, 1e9] {
        for place in [0, 4 * values] {
            let damaged = forged(&bytes, 8, |map| {
                map[place..place + 4].copy_from_slice(&wrong.to_le_bytes());
            });
            let error = Gallery::from_bytes(&damaged).unwrap_err();
            assert_eq!(error, GalleryError::Inconsistent { what: "values of its map".to_owned() });
            #[cfg(feature = "parallel")]
            assert!(crate::check_file(&mut std::io::Cursor::new(damaged)).is_err());
        }
    }
    // A program that knows no version 3.
    let error = GalleryError::Version { got: 3, supported: 2 }.to_string();
    assert!(error.contains("update it"), "{error}");
}

#[cfg(feature = "parallel")]
#[test]
fn shards_of_an_adapted_gallery_answer_as_the_whole_does() {
    use crate::{Budget, ShardOptions, Shards};
    let (gallery, map) = adapted(VectorType::F16, IndexConfig::Flat);
    let sharded = gallery.to_shards(&ShardOptions::default()).unwrap();
    let mut shards = Shards::from_bytes(&sharded.directory).unwrap();
    assert_eq!(shards.dim(), DIM);
    assert_eq!(shards.empty_gallery().map(), Some(&map));
    let budget = Budget::default();
    let queries = MOVED.gallery(20, 9);
    for entry in (0..queries.len()).step_by(7) {
        let query = queries.embedding(entry).into_owned();
        for part in shards.missing([query.as_slice()], budget).unwrap() {
            let range = part.range.start as usize..part.range.end as usize;
            shards.take(&part, &sharded.shards[part.shard][range]).unwrap();
        }
        // What a page searches: its own gallery with what was fetched.
        let mut own = shards.empty_gallery();
        own.add_class(Class { label: "taught".to_owned(), ..Class::default() }, Vec::new());
        own.add(0, &[-1.0; DIM]).unwrap();
        let own_bytes = own.to_bytes();
        own.merge(&shards.neighborhood(&query, budget).unwrap()).unwrap();
        let found = own.search(&query, 1).unwrap()[0];
        let wanted = gallery.search(&query, 1).unwrap()[0];
        assert_eq!(own.classes()[found.class].label, gallery.classes()[wanted.class].label);
        assert!((found.similarity - wanted.similarity).abs() < 0.05, "{found:?} {wanted:?}");
        // That is no gallery that could be kept.
        assert!(own.write_to(&mut Vec::new()).is_err() && own.set_map(None).is_err());
        assert!(own.learn_map(&AdaptOptions::default()).is_err());
        assert!(gallery.clone().merge(&own).is_ok());
        assert!(Gallery::new(DIM, "m").merge(&own).is_err());
        assert_eq!(Gallery::from_bytes(&own_bytes).unwrap().map(), Some(&map));
    }
    for position in 0..sharded.directory.len().min(600) {
        let mut damaged = sharded.directory.clone();
        damaged[position] ^= 0x11;
        assert!(Shards::from_bytes(&damaged).is_err(), "byte {position}");
    }
    // Means of classes are cut behind the map, too.
    let means = gallery.of_means().unwrap().to_shards(&ShardOptions::default()).unwrap();
    assert_eq!(Shards::from_bytes(&means.directory).unwrap().dim(), DIM);
}
