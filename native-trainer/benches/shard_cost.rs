//! What a sharded gallery costs a query and what it finds, on vectors from a file, as JSON lines.
//!
//! `shard_cost VECTORS QUERIES DIM K [COPIES CODE_BYTES LIST_BYTES CENTROID_BYTES]`, files of 32-bit floats, rows of
//! DIM; ten entries are a class. Every query is asked of a gallery of which nothing was fetched yet.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, not a library")]

use std::time::Instant;

use models::gallery::{
    Budget, Class, Gallery, Metric, Search, ShardOptions, Shards, VectorIndex, VectorType,
};
use serde_json::json;

/// Entries of a class.
const CLASS: usize = 10;
/// Bytes and requests that a query may take.
const BUDGETS: [(u64, usize); 7] =
    [(16_000, 1), (32_000, 2), (64_000, 3), (64_000, 4), (64_000, 8), (128_000, 8), (256_000, 16)];

fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, vectors, queries, dim, k, options @ ..] = &arguments[..] else {
        panic!("shard_cost VECTORS QUERIES DIM K [COPIES CODE_BYTES LIST_BYTES CENTROID_BYTES]");
    };
    let (dim, k): (usize, usize) = (dim.parse().unwrap(), k.parse().unwrap());
    let (vectors, queries) = (floats(vectors), floats(queries));
    let mut cut = ShardOptions::default();
    let places =
        [&mut cut.copies, &mut cut.code_bytes, &mut cut.list_bytes, &mut cut.centroid_bytes];
    for (place, option) in places.into_iter().zip(options) {
        *place = option.parse().unwrap();
    }
    let mut gallery = Gallery::new(dim, "model");
    let mut exact = VectorIndex::new(dim, Metric::InnerProduct, VectorType::F32);
    for (entry, row) in vectors.chunks_exact(dim).enumerate() {
        if entry % CLASS == 0 {
            let label = format!("a product, number {}", entry / CLASS);
            gallery.add_class(Class { label, ..Class::default() }, Vec::new());
        }
        gallery.add(entry / CLASS, row).unwrap();
        exact.add(row).unwrap();
    }
    drop(vectors);
    let best = Search::best(k);
    let truth = exact.search_batch(&queries, &best).unwrap();
    drop(exact);
    let start = Instant::now();
    let sharded = gallery.to_shards(&cut).unwrap();
    let build_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let read = Shards::from_bytes(&sharded.directory).unwrap();
    println!(
        "{}",
        json!({
            "entries": gallery.len(), "build_seconds": build_seconds, "code_bytes": read.code_bytes(),
            "head_bytes": sharded.directory.len(), "open_ms": start.elapsed().as_secs_f64() * 1e3,
            "shards": sharded.shards.len(),
            "shard_bytes": sharded.shards.iter().map(Vec::len).sum::<usize>(),
        })
    );
    for (bytes, requests) in BUDGETS {
        let budget = Budget { bytes, requests };
        let (mut found, mut first, mut asked, mut took) = (0, 0, 0, Vec::new());
        let mut times = Vec::new();
        for (query, truth) in queries.chunks_exact(dim).zip(&truth) {
            let mut shards = read.clone();
            let start = Instant::now();
            let parts = shards.missing([query], budget).unwrap();
            asked += parts.len();
            took.push(parts.iter().map(|part| part.range.end - part.range.start).sum::<u64>());
            for part in &parts {
                let range = part.range.start as usize..part.range.end as usize;
                shards.take(part, &sharded.shards[part.shard][range]).unwrap();
            }
            let near = shards.neighborhood(query, budget).unwrap();
            let hits = near.index().search(query, &best).unwrap();
            times.push(start.elapsed().as_secs_f64() * 1e3);
            let ids: Vec<usize> = hits
                .iter()
                .map(|hit| {
                    let id = near.content_id(hit.entry).0;
                    u32::from_le_bytes(std::array::from_fn(|i| id[12 + i])) as usize
                })
                .collect();
            found += truth.iter().filter(|hit| ids.contains(&hit.entry)).count();
            first += usize::from(ids.first().map(|id| id / CLASS) == Some(truth[0].entry / CLASS));
        }
        let count = truth.len() as f64;
        took.sort_unstable();
        times.sort_by(f64::total_cmp);
        println!(
            "{}",
            json!({
                "bytes_allowed": bytes, "requests_allowed": requests,
                "recall": found as f64 / (count * k as f64), "same_class": first as f64 / count,
                "requests": asked as f64 / count,
                "bytes": took.iter().sum::<u64>() as f64 / count,
                "bytes_p95": took[took.len() * 95 / 100],
                "ms": times[times.len() / 2],
            })
        );
    }
}
