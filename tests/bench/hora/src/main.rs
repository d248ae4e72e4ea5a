//! hora's HNSW on unit vectors from a file, as JSON lines. By its inner product it finds none of the
//! nearest, so distances are asked for: of unit vectors they have the same order.
//!
//! `hora-search VECTORS QUERIES DIM K`, files of 32-bit floats, rows of DIM.

use std::time::Instant;

use hora::core::ann_index::{ANNIndex, SerializableIndex};
use hora::core::metrics::Metric;
use hora::index::hnsw_idx::HNSWIndex;
use hora::index::hnsw_params::HNSWParams;

const ROUNDS: usize = 3;

fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Best rows by a plain loop.
fn exact(rows: &[f32], query: &[f32], dim: usize, k: usize) -> Vec<usize> {
    let product = |row: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
    let mut scored: Vec<(f32, usize)> =
        rows.chunks_exact(dim).map(product).zip(0..).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(k).map(|(_, row)| row).collect()
}

fn build(rows: &[f32], dim: usize, ef_search: usize) -> HNSWIndex<f32, usize> {
    let parameters = HNSWParams::default()
        .max_item(rows.len() / dim + 1)
        .n_neighbor(32)
        .n_neighbor0(64)
        .ef_build(64)
        .ef_search(ef_search);
    let mut index = HNSWIndex::new(dim, &parameters);
    for (number, row) in rows.chunks_exact(dim).enumerate() {
        index.add(row, number).unwrap();
    }
    index.build(Metric::Euclidean).unwrap();
    index
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (dim, k): (usize, usize) = (arguments[3].parse().unwrap(), arguments[4].parse().unwrap());
    let (rows, queries) = (floats(&arguments[1]), floats(&arguments[2]));
    let truth: Vec<Vec<usize>> =
        queries.chunks_exact(dim).map(|query| exact(&rows, query, dim, k)).collect();
    let mut first: Option<Vec<Vec<usize>>> = None;
    for ef_search in [64, 64] {
        let start = Instant::now();
        let mut index = build(&rows, dim, ef_search);
        let seconds = start.elapsed().as_secs_f64();
        let mut latency = f64::INFINITY;
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            let mut times = Vec::new();
            found = queries
                .chunks_exact(dim)
                .map(|query| {
                    let start = Instant::now();
                    let hits = index.search(query, k);
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                    hits
                })
                .collect::<Vec<Vec<usize>>>();
            times.sort_by(f64::total_cmp);
            latency = latency.min(times[times.len() / 2]);
        }
        let hits: usize = found
            .iter()
            .zip(&truth)
            .map(|(found, truth)| truth.iter().filter(|row| found.contains(row)).count())
            .sum();
        let recall = hits as f64 / (truth.len() * k) as f64;
        // Built twice with the same options: are the answers the same?
        let same = ef_search == 64 && first.replace(found.clone()) == Some(found);
        let folder = std::env::temp_dir().join("hora-search.bin");
        let bytes = match index.dump(&folder.to_string_lossy()) {
            Ok(()) => std::fs::metadata(&folder).map_or(0, |file| file.len()),
            Err(_) => 0,
        };
        println!(
            "{{\"index\": \"hora hnsw32\", \"ef_search\": {ef_search}, \"recall\": {recall}, \
             \"latency_ms\": {latency}, \"build_seconds\": {seconds}, \"bytes\": {bytes}, \
             \"same_as_before\": {same}}}"
        );
    }
}
