//! Indexes against a full sort, and what every kind promises.

use super::*;
use proptest::prelude::*;

const KINDS: [IndexConfig; 4] = [
    IndexConfig::Flat,
    IndexConfig::Hnsw { m: 8, ef_construction: 40 },
    IndexConfig::Ivf { lists: 0 },
    IndexConfig::Binary,
];
const TYPES: [VectorType; 3] = [VectorType::F16, VectorType::F32, VectorType::I8];

/// Directions around some middles, as embeddings of classes are.
fn clustered(count: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_add(7);
    let mut next = move || {
        let sum: f32 = (0..4)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
            })
            .sum();
        sum
    };
    let middles: Vec<f32> = (0..20 * dim).map(|_| next()).collect();
    let mut values = Vec::with_capacity(count * dim);
    for row in 0..count {
        let middle = &middles[row % 20 * dim..][..dim];
        let vector: Vec<f32> = middle.iter().map(|m| m + 0.6 * next()).collect();
        let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.extend(vector.iter().map(|v| v / norm));
    }
    values
}

/// Directions that belong to the same classes as those of [`build`], but are not among them.
fn queries(count: usize) -> Vec<f32> {
    clustered(2000 + count, 24, 1).split_off(2000 * 24)
}

fn build(
    config: IndexConfig,
    metric: Metric,
    vector_type: VectorType,
    count: usize,
) -> VectorIndex {
    let values = clustered(count, 24, 1);
    VectorIndex::from_rows(24, metric, vector_type, &values, config).unwrap()
}

/// Every entry's similarity by a plain loop over what is stored, sorted.
fn full_sort(index: &VectorIndex, query: &[f32], search: &Search<'_>) -> Vec<Hit> {
    let similarity = |entry: usize| -> f64 {
        let stored = index.vector(entry);
        let pairs = stored.iter().zip(query).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        match index.metric() {
            Metric::InnerProduct => pairs.map(|(a, b)| a * b).sum(),
            Metric::L2 => -pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>(),
        }
    };
    let mut hits: Vec<Hit> = (0..index.positions())
        .filter(|entry| index.contains(*entry) && search.filter.is_none_or(|f| f(*entry)))
        .map(|entry| Hit { entry, similarity: similarity(entry) as f32 })
        .filter(|hit| search.min_similarity.is_none_or(|least| hit.similarity >= least))
        .collect();
    hits.sort_by(top::by_similarity);
    hits.truncate(search.k);
    hits
}

/// Share of the wanted entries that were found.
fn recall(found: &[Hit], wanted: &[Hit]) -> f64 {
    let hit = |w: &&Hit| found.iter().any(|f| f.entry == w.entry);
    wanted.iter().filter(hit).count() as f64 / wanted.len().max(1) as f64
}

proptest! {
    #[test]
    fn the_scan_equals_a_full_sort(
        rows in prop::collection::vec(prop::collection::vec(-3.0_f32..3.0, 7), 0..50),
        query in prop::collection::vec(-3.0_f32..3.0, 7),
        k in 0_usize..60,
        l2 in any::<bool>(),
        vector_type in prop::sample::select(TYPES.to_vec()),
        least in prop::option::of(-3.0_f32..3.0),
    ) {
        let metric = if l2 { Metric::L2 } else { Metric::InnerProduct };
        let mut index = VectorIndex::new(7, metric, vector_type);
        for row in &rows {
            index.add(row).unwrap();
        }
        let odd = |entry: usize| entry % 2 == 1;
        for filter in [None, Some(&odd as Filter<'_>)] {
            let search = Search { k, min_similarity: least, filter, ef_search: None };
            let found = index.search(&query, &search).unwrap();
            // Close similarities may stand in another order: they are sums in another order.
            let loose = Search { min_similarity: least.map(|l| l - 1e-3), ..search };
            let strict = Search { min_similarity: least.map(|l| l + 1e-3), ..search };
            let (most, fewest) =
                (full_sort(&index, &query, &loose), full_sort(&index, &query, &strict));
            prop_assert!(found.len() <= most.len() && found.len() >= fewest.len());
            for (found, expected) in found.iter().zip(&most) {
                prop_assert!((found.similarity - expected.similarity).abs() < 1e-3);
                prop_assert!(filter.is_none_or(|f| f(found.entry)));
            }
            prop_assert!(found.is_sorted_by(|a, b| top::by_similarity(a, b).is_lt()));
        }
    }
}

fn structure(index: &VectorIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write_structure(&mut bytes).unwrap();
    bytes
}

#[test]
fn every_kind_finds_nearly_what_the_scan_finds() {
    let queries = queries(40);
    for metric in [Metric::InnerProduct, Metric::L2] {
        for vector_type in TYPES {
            for config in KINDS {
                let index = build(config, metric, vector_type, 1500);
                let batch = index.search_batch(&queries, &Search::best(10)).unwrap();
                let mut sum = 0.0;
                for (query, found) in queries.chunks_exact(24).zip(&batch) {
                    assert_eq!(*found, index.search(query, &Search::best(10)).unwrap());
                    sum += recall(found, &full_sort(&index, query, &Search::best(10)));
                }
                let what = format!("{config:?} {metric:?} {vector_type:?}: {}", sum / 40.0);
                let least = if config == IndexConfig::Flat { 0.999 } else { 0.95 };
                assert!(sum / 40.0 >= least, "{what}");
            }
        }
    }
}

#[test]
fn more_effort_finds_more() {
    let queries = queries(40);
    for config in &KINDS[1..] {
        let index = build(*config, Metric::InnerProduct, VectorType::F32, 1500);
        let rate = |ef_search: usize| -> f64 {
            let search = Search::best(10).with_ef_search(ef_search);
            let recalls = queries.chunks_exact(24).map(|query| {
                let found = index.search(query, &search).unwrap();
                recall(&found, &full_sort(&index, query, &search))
            });
            recalls.sum::<f64>() / 40.0
        };
        let (little, all) = (rate(1), rate(1500));
        assert!(little < all && all > 0.999, "{config:?}: {little} {all}");
    }
}

#[test]
fn filters_and_thresholds_hold_in_every_kind() {
    let queries = queries(10);
    for config in KINDS {
        let index = build(config, Metric::InnerProduct, VectorType::F16, 1500);
        for query in queries.chunks_exact(24) {
            for modulus in [2, 300] {
                let filter = move |entry: usize| entry % modulus == 1;
                let search = Search::best(5).filtered(&filter);
                let found = index.search(query, &search).unwrap();
                assert_eq!(found.len(), 5, "{config:?} one in {modulus}");
                assert!(found.iter().all(|hit| filter(hit.entry)));
                let expected = full_sort(&index, query, &search);
                if modulus == 300 {
                    assert_eq!(recall(&found, &expected), 1.0, "{config:?}: few are scanned");
                }
            }
            let wanted = full_sort(&index, query, &Search::range(0.5));
            let found = index.search(query, &Search::range(0.5)).unwrap();
            assert_eq!(found.len(), wanted.len(), "{config:?}");
            let few = Search { k: 3, ..Search::range(0.5) };
            let few = index.search(query, &few).unwrap();
            assert!(few.len() <= 3 && few.iter().all(|hit| hit.similarity >= 0.5));
        }
    }
}

#[test]
fn what_is_removed_is_found_no_more_and_the_rest_still_is() {
    for config in KINDS {
        let mut index = build(config, Metric::InnerProduct, VectorType::F32, 600);
        let query = index.vector(7).to_vec();
        assert_eq!(index.search(&query, &Search::best(1)).unwrap()[0].entry, 7, "{config:?}");
        for entry in (0..600).filter(|entry| entry % 3 == 1) {
            index.remove(entry).unwrap();
        }
        assert_eq!(index.len(), 400);
        assert_eq!(index.remove(7), Err(IndexError::NoEntry { entry: 7 }));
        let found = index.search(&query, &Search::best(10)).unwrap();
        assert!(found.iter().all(|hit| hit.entry % 3 != 1), "{config:?}");
        let expected = full_sort(&index, &query, &Search::best(10));
        assert!(recall(&found, &expected) >= 0.8, "{config:?}");

        let vectors: Vec<Vec<f32>> = (0..600)
            .filter(|entry| index.contains(*entry))
            .map(|entry| index.vector(entry).to_vec())
            .collect();
        let kept = index.compact();
        assert_eq!(kept.len(), 400);
        assert!(kept.iter().all(|entry| entry % 3 != 1));
        for (entry, vector) in vectors.iter().enumerate() {
            assert_eq!(&*index.vector(entry), vector, "{config:?}");
        }
        // As if the removed ones had never been there.
        let never = VectorIndex::from_rows(
            24,
            Metric::InnerProduct,
            VectorType::F32,
            &vectors.concat(),
            config,
        );
        assert_eq!(structure(&index), structure(&never.unwrap()), "{config:?}");
    }
}

#[test]
fn replaced_and_added_entries_are_found() {
    for config in KINDS {
        let mut index = build(config, Metric::L2, VectorType::I8, 300);
        let other: Vec<f32> = index.vector(0).iter().map(|v| -v).collect();
        let position = index.replace(11, &other).unwrap();
        let found = index.search(&other, &Search::best(1)).unwrap();
        assert_eq!(found[0].entry, position, "{config:?}");
        assert_eq!(index.len(), 300);
        assert!(position == 11 || !index.contains(11));
        let third: Vec<f32> = other.iter().rev().copied().collect();
        let added = index.add(&third).unwrap();
        assert_eq!(index.search(&third, &Search::best(1)).unwrap()[0].entry, added, "{config:?}");
    }
}

#[test]
fn the_same_rows_give_the_same_structure_and_it_can_be_read_back() {
    let queries = queries(10);
    for config in KINDS {
        let mut index = build(config, Metric::InnerProduct, VectorType::F16, 700);
        let bytes = structure(&index);
        assert_eq!(bytes, structure(&build(config, Metric::InnerProduct, VectorType::F16, 700)));
        let before = index.search_batch(&queries, &Search::best(10)).unwrap();
        index.read_structure(config, &bytes).unwrap();
        assert_eq!(index.search_batch(&queries, &Search::best(10)).unwrap(), before, "{config:?}");

        for length in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
            assert!(index.read_structure(config, &bytes[..length]).is_err(), "{config:?} {length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(index.read_structure(config, &longer).is_err(), "{config:?}");
        // Whatever is accepted must answer without a panic.
        for position in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0xa5;
            if index.read_structure(config, &damaged).is_ok() {
                index.search_batch(&queries, &Search::best(10)).unwrap();
            }
        }
    }
}

#[test]
fn what_is_no_vector_is_refused() {
    for config in KINDS {
        let mut index = build(config, Metric::InnerProduct, VectorType::F32, 50);
        let wrong = IndexError::Dimension { expected: 24, got: 3 };
        assert_eq!(index.add(&[1.0; 3]), Err(wrong.clone()));
        assert_eq!(index.search(&[1.0; 3], &Search::best(1)), Err(wrong));
        for value in [f32::NAN, f32::INFINITY, f32::MAX] {
            assert_eq!(index.add(&[value; 24]), Err(IndexError::NotFinite));
            assert_eq!(index.search(&[value; 24], &Search::best(1)), Err(IndexError::NotFinite));
        }
        assert_eq!(index.replace(50, &[1.0; 24]), Err(IndexError::NoEntry { entry: 50 }));
        assert_eq!(index.len(), 50);
        assert!(index.search(&[0.0; 24], &Search::best(3)).unwrap().len() == 3);
    }
    for config in [
        IndexConfig::Hnsw { m: 1, ef_construction: 8 },
        IndexConfig::Hnsw { m: 8, ef_construction: 0 },
        IndexConfig::Ivf { lists: usize::MAX },
    ] {
        let error = VectorIndex::new(4, Metric::L2, VectorType::F32).build(config).unwrap_err();
        assert!(matches!(error, IndexError::Options { .. }), "{error}");
    }
}

#[test]
fn an_empty_index_of_every_kind_answers_and_grows() {
    for config in KINDS {
        let mut index =
            VectorIndex::from_rows(4, Metric::L2, VectorType::F16, &[], config).unwrap();
        assert!(index.search(&[1.0; 4], &Search::best(3)).unwrap().is_empty(), "{config:?}");
        for value in 0..20 {
            index.add(&[value as f32; 4]).unwrap();
        }
        let found = index.search(&[7.2; 4], &Search::best(2)).unwrap();
        let entries: Vec<usize> = found.iter().map(|hit| hit.entry).collect();
        assert_eq!(entries, [7, 8], "{config:?}");
    }
}

/// Rows of [`clustered`], of which this many in a hundred are the same one, here and there among the others.
fn with_equal_rows(count: usize, dim: usize, percent: usize) -> Vec<f32> {
    let mut values = clustered(count, dim, 1);
    let same = clustered(1, dim, 77);
    for row in (0..count).filter(|row| row * percent / 100 != (row + 1) * percent / 100) {
        values[row * dim..(row + 1) * dim].copy_from_slice(&same);
    }
    values
}

#[test]
fn equal_rows_hide_no_others() {
    let graph = IndexConfig::Hnsw { m: 8, ef_construction: 40 };
    let queries = queries(40);
    let same = clustered(1, 24, 77);
    for (metric, vector_type) in
        [(Metric::InnerProduct, VectorType::F16), (Metric::L2, VectorType::I8)]
    {
        for percent in [0, 1, 10, 30, 50] {
            let values = with_equal_rows(2000, 24, percent);
            let index = VectorIndex::from_rows(24, metric, vector_type, &values, graph).unwrap();
            assert_eq!(index.unreachable(), 0, "{percent} %");
            let mut sum = 0.0;
            for query in queries.chunks_exact(24).chain([&same[..]]) {
                let found = index.search(query, &Search::best(10)).unwrap();
                sum += recall(&found, &full_sort(&index, query, &Search::best(10)));
            }
            assert!(sum / 41.0 > 0.95, "{metric:?}, {percent} %: {}", sum / 41.0);
            // Each is found, or one that is the same.
            for row in (0..2000).step_by(7) {
                let vector = index.vector(row);
                let hit = index.search(&vector, &Search::best(1)).unwrap()[0];
                assert_eq!(index.vector(hit.entry), vector, "{percent} %");
            }
            if percent > 0 {
                // Equal hits stand in the order of their rows, as in a scan.
                let hits = index.search(&same, &Search::best(12)).unwrap();
                let expected = full_sort(&index, &same, &Search::best(12));
                let entries = |hits: &[Hit]| hits.iter().map(|h| h.entry).collect::<Vec<_>>();
                assert_eq!(entries(&hits), entries(&expected), "{percent} %");
            }
        }
    }
}

#[test]
fn equal_rows_that_are_added_or_taken_out_later_hide_no_others() {
    let graph = IndexConfig::Hnsw { m: 4, ef_construction: 24 };
    let values = with_equal_rows(600, 24, 20);
    let (metric, vector_type) = (Metric::InnerProduct, VectorType::F32);
    let mut index = VectorIndex::from_rows(24, metric, vector_type, &values, graph).unwrap();
    let same = clustered(1, 24, 77);
    // As read from a file, where nobody says which rows are equal.
    index.read_structure(graph, &structure(&index)).unwrap();
    for row in 0..200 {
        index.add(&same).unwrap();
        index.add(&clustered(700, 24, 1)[(600 + row % 100) * 24..][..24]).unwrap();
    }
    index.connect();
    assert_eq!(index.unreachable(), 0);
    for row in 0..index.positions() {
        let vector = index.vector(row).into_owned();
        let hit = index.search(&vector, &Search::best(1)).unwrap()[0];
        assert_eq!(*index.vector(hit.entry), vector, "row {row}");
        // The first of the equal ones are taken out one after the other.
        if vector == same && row < 300 {
            index.remove(row).unwrap();
        }
    }
    let hits = index.search(&same, &Search::best(10)).unwrap();
    assert!(hits.len() == 10 && hits.iter().all(|hit| *index.vector(hit.entry) == *same));
    assert_eq!(index.unreachable(), 0);
}

/// How many rows a search for them does not find, nor one as near.
fn missed(index: &VectorIndex) -> usize {
    let lost = |row: &usize| {
        let vector = index.vector(*row);
        let own: f32 = vector.iter().map(|v| v * v).sum();
        let hits = index.search(&vector, &Search::best(1)).unwrap();
        hits.first().is_none_or(|hit| hit.similarity < own - 1e-5)
    };
    (0..index.len()).filter(lost).count()
}

#[test]
fn rows_that_are_nearly_equal_are_told_apart() {
    let dim = 64;
    let mut values = clustered(3_300, dim, 1);
    let middle = values[..dim].to_vec();
    // Every eleventh is the same but for a thousandth.
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    for row in (0..3_300).step_by(11) {
        let row = &mut values[row * dim..][..dim];
        row.iter_mut().zip(&middle).for_each(|(value, middle)| *value = middle + 0.002 * noise());
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
    }
    let graph = IndexConfig::Hnsw { m: 32, ef_construction: 64 };
    let index =
        VectorIndex::from_rows(dim, Metric::InnerProduct, VectorType::F32, &values, graph).unwrap();
    assert_eq!(index.unreachable(), 0);
    // With 64 in view there are more than a hundred.
    let missed = missed(&index);
    assert!(missed <= 3, "{missed}");
}

#[test]
fn a_gallery_of_one_picture_is_built_at_once() {
    // One by one, each would be compared with all before it.
    let values = clustered(1, 16, 3).repeat(20_000);
    let (metric, vector_type) = (Metric::InnerProduct, VectorType::I8);
    let graph = IndexConfig::hnsw();
    let index = VectorIndex::from_rows(16, metric, vector_type, &values, graph).unwrap();
    assert_eq!(index.unreachable(), 0);
    let hits = index.search(&values[..16], &Search::best(50)).unwrap();
    let entries: Vec<usize> = hits.iter().map(|hit| hit.entry).collect();
    assert_eq!(entries, (0..50).collect::<Vec<_>>());
}
