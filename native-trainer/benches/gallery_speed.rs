//! Every kind of index on vectors from a file: build time, latency, batches, recall, bytes, as JSON
//! lines.
//!
//! `gallery_speed VECTORS QUERIES DIM K [INDEX]`, files of 32-bit floats, rows of DIM.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, not a library")]

use std::time::Instant;

use models::gallery::{Hit, IndexConfig, Metric, Search, VectorIndex, VectorType};
use serde_json::json;

/// Rounds over the queries; the best counts.
const ROUNDS: usize = 3;

fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Share of the wanted entries that were found.
fn recall(found: &[Vec<Hit>], wanted: &[Vec<Hit>]) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for (found, wanted) in found.iter().zip(wanted) {
        all += wanted.len();
        hits += wanted.iter().filter(|w| found.iter().any(|f| f.entry == w.entry)).count();
    }
    hits as f64 / all as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, vectors, queries, dim, k, only @ ..] = &arguments[..] else {
        panic!("gallery_speed VECTORS QUERIES DIM K [INDEX]");
    };
    let (dim, k): (usize, usize) = (dim.parse().unwrap(), k.parse().unwrap());
    let (vectors, queries) = (floats(vectors), floats(queries));
    let best = Search::best(k);
    let mut truth = None;
    for (name, config, widths) in [
        ("flat", IndexConfig::Flat, &[0][..]),
        ("binary", IndexConfig::Binary, &[100, 200, 400]),
        ("ivf", IndexConfig::Ivf { lists: 1024 }, &[8, 16, 32]),
        ("hnsw32", IndexConfig::hnsw(), &[32, 64, 128]),
    ] {
        for vector_type in [VectorType::F32, VectorType::I8] {
            // Graph and lists are made from the same codes whatever the values' type.
            let asked = only.is_empty() || only.iter().any(|index| index == name);
            // The scan says what is right, whether or not it is asked about.
            let asked = asked || truth.is_none();
            if !asked || (vector_type == VectorType::I8 && config != IndexConfig::Flat) {
                continue;
            }
            let start = Instant::now();
            let metric = Metric::InnerProduct;
            let mut index = VectorIndex::new(dim, metric, vector_type);
            for row in vectors.chunks_exact(dim) {
                index.add(row).unwrap();
            }
            let add_seconds = start.elapsed().as_secs_f64();
            let start = Instant::now();
            index.build(config).unwrap();
            let build_seconds = start.elapsed().as_secs_f64();
            for ef_search in widths {
                let search = if *ef_search == 0 { best } else { best.with_ef_search(*ef_search) };
                let (mut latency, mut batch) = (f64::INFINITY, 0.0_f64);
                let mut found = Vec::new();
                for _ in 0..ROUNDS {
                    let mut times: Vec<f64> = Vec::new();
                    found = queries
                        .chunks_exact(dim)
                        .map(|query| {
                            let start = Instant::now();
                            let hits = index.search(query, &search).unwrap();
                            times.push(start.elapsed().as_secs_f64() * 1e3);
                            hits
                        })
                        .collect();
                    times.sort_by(f64::total_cmp);
                    latency = latency.min(times[times.len() / 2]);
                    let start = Instant::now();
                    index.search_batch(&queries, &search).unwrap();
                    let count = (queries.len() / dim) as f64;
                    batch = batch.max(count / start.elapsed().as_secs_f64());
                }
                let wanted = truth.get_or_insert_with(|| found.clone());
                println!(
                    "{}",
                    json!({
                        "index": name, "values": format!("{vector_type:?}"), "ef_search": ef_search,
                        "recall": recall(&found, wanted), "latency_ms": latency,
                        "batch_per_second": batch, "add_seconds": add_seconds,
                        "build_seconds": build_seconds,
                    })
                );
            }
        }
    }
}
