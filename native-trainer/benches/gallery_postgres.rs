//! Galleries in `PostgreSQL` with pgvector: how long a push and a pull take, how large the tables are, how long a search
//! takes, and what it finds of the exact scan.
//!
//! `gallery_postgres ADDRESS ENTRIES`: made-up embeddings of 256 values under the name `bench` on that server, ten a class
//! around the class' center, a hundred classes around a center of their own; one JSON line a search, and one a push.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, not a library")]

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::time::Instant;

use models::gallery::{Class, ContentId, GalleryReader, GalleryStream, IndexConfig, VectorType};
use native_trainer::postgres::{PostgresGallery, Query, ServerIndex};
use postgres::{Client, NoTls};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const DIM: usize = 256;
/// Entries of a class, and classes of a group.
const EACH: usize = 10;
const GROUP: usize = 100;
const QUERIES: usize = 100;
const K: usize = 10;
/// One class in so many passes the filter.
const SHELVES: usize = 10;

/// A point of unit length around another one: noise that is so long on the average is added to it.
fn around(center: &[f32], noise: f32, random: &mut ChaCha8Rng) -> Vec<f32> {
    let spread = noise * (3.0 / center.len() as f32).sqrt();
    let moved: Vec<f32> =
        center.iter().map(|value| value + spread * random.random_range(-1.0_f32..1.0)).collect();
    let length = moved.iter().map(|value| value * value).sum::<f32>().sqrt();
    moved.iter().map(|value| value / length).collect()
}

fn scratch() -> File {
    tempfile::tempfile().unwrap()
}

/// A gallery's file, and queries.
fn made_up(entries: usize) -> (File, Vec<Vec<f32>>) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut gallery = GalleryStream::new(DIM, "made up", VectorType::F16, [scratch(), scratch()]);
    let (mut queries, classes) = (Vec::new(), entries / EACH);
    let origin = vec![0.0; DIM];
    let mut group = Vec::new();
    for class in 0..classes {
        if class % GROUP == 0 {
            group = around(&origin, 1.0, &mut random);
        }
        let metadata = [("shelf".to_owned(), (class % SHELVES).to_string())].into();
        let label = class.to_string();
        gallery.add_class(Class { label, metadata, ..Class::default() }, &[]).unwrap();
        let center = around(&group, 0.8, &mut random);
        for entry in 0..EACH {
            let id = ContentId::of(format!("{class} {entry}").as_bytes());
            gallery.add_image(class, &around(&center, 0.6, &mut random), id).unwrap();
        }
        if class % (classes / QUERIES).max(1) == 0 && queries.len() < QUERIES {
            queries.push(around(&center, 0.6, &mut random));
        }
    }
    let mut file = scratch();
    gallery.finish(IndexConfig::Flat, &mut file).unwrap();
    file.flush().unwrap();
    file.rewind().unwrap();
    (file, queries)
}

/// Labels that a search finds, and how long one takes among many that are asked in one transaction.
fn labels(
    server: &mut PostgresGallery,
    query: &Query,
    queries: &[Vec<f32>],
) -> (Vec<Vec<String>>, f64) {
    // Pages that the server has not read yet are read now.
    server.search(query, &queries[..queries.len().min(20)], |_| ()).unwrap();
    let start = Instant::now();
    let found = server.search(query, queries, |_| ()).unwrap();
    let latency = start.elapsed().as_secs_f64() * 1e3 / queries.len() as f64;
    let label = |all: Vec<(String, _)>| all.into_iter().map(|(label, _)| label).collect();
    (found.into_iter().map(label).collect(), latency)
}

/// The share of the exact answers that are among others.
fn recall(found: &[Vec<String>], exact: &[Vec<String>]) -> f64 {
    let same = |(found, exact): (&Vec<String>, &Vec<String>)| {
        exact.iter().filter(|label| found.contains(label)).count()
    };
    let all: usize = exact.iter().map(Vec::len).sum();
    found.iter().zip(exact).map(same).sum::<usize>() as f64 / all as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, entries] = &arguments[..] else { panic!("gallery_postgres ADDRESS ENTRIES") };
    let (file, queries) = made_up(entries.parse().unwrap());
    let bytes = file.metadata().unwrap().len();
    let mut file = GalleryReader::open(BufReader::new(file)).unwrap();
    let mut server = PostgresGallery::connect(address, "bench").unwrap();
    let mut sizes = Client::connect(address, NoTls).unwrap();
    let (mut exact, mut exact_filtered) = (Vec::new(), Vec::new());
    for kind in ServerIndex::ALL {
        let (start, built_from) = (Instant::now(), std::cell::Cell::new(None));
        let waits = |what: &str| {
            // It may wait for its place as well.
            if what.starts_with("the server builds") {
                built_from.set(Some(start.elapsed().as_secs_f64()));
            }
        };
        server.push(&mut file, Some(kind), waits).unwrap();
        let push = start.elapsed().as_secs_f64();
        let load = built_from.get().unwrap_or(push);
        let row = sizes
            .query_one(
                "SELECT (SELECT sum(pg_table_size(oid))::bigint FROM pg_class
                         WHERE relname IN ('bench_gallery', 'bench_classes', 'bench_entries')),
                     (SELECT coalesce(sum(pg_relation_size(i.indexrelid)), 0)::bigint FROM pg_index i
                         WHERE i.indrelid = 'bench_entries'::regclass AND NOT i.indisprimary)",
                &[],
            )
            .unwrap();
        let (table, index): (i64, i64) = (row.get(0), row.get(1));
        let pull = (kind == ServerIndex::Flat).then(|| {
            let start = Instant::now();
            let pulled = server.pull([scratch(), scratch()], |_| ()).unwrap();
            let mut back = scratch();
            pulled.finish(IndexConfig::Flat, &mut back).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            back.rewind().unwrap();
            let mut length = 0;
            let mut buffer = vec![0; 1 << 20];
            while let read @ 1.. = back.read(&mut buffer).unwrap() {
                length += read as u64;
            }
            assert_eq!(length, bytes, "the file that was pushed");
            seconds
        });
        println!(
            "{}",
            json!({ "push": kind.name(), "load_seconds": load, "build_seconds": push - load,
                    "table_bytes": table, "index_bytes": index, "pull_seconds": pull,
                    "file_bytes": bytes })
        );
        let efforts: &[Option<usize>] = match kind {
            ServerIndex::Flat => &[None],
            ServerIndex::Ivf => &[None, Some(50)],
            ServerIndex::Hnsw | ServerIndex::Binary => &[None, Some(400)],
        };
        for ef_search in efforts {
            let query = Query {
                model: "made up".to_owned(),
                k: K,
                index: Some(kind),
                ef_search: *ef_search,
                ..Query::default()
            };
            let (found, latency) = labels(&mut server, &query, &queries);
            let alone = {
                let start = Instant::now();
                for asked in queries.iter().take(10) {
                    server.search(&query, std::slice::from_ref(asked), |_| ()).unwrap();
                }
                start.elapsed().as_secs_f64() * 1e2
            };
            let metadata = vec![("shelf".to_owned(), "3".to_owned())];
            let filtered = Query { metadata, ..query };
            let (found_filtered, latency_filtered) = labels(&mut server, &filtered, &queries);
            if kind == ServerIndex::Flat {
                exact.clone_from(&found);
                exact_filtered.clone_from(&found_filtered);
            }
            println!(
                "{}",
                json!({ "index": kind.name(), "ef_search": ef_search,
                        "recall": recall(&found, &exact), "latency_ms": latency, "alone_ms": alone,
                        "filtered_recall": recall(&found_filtered, &exact_filtered),
                        "filtered_ms": latency_filtered })
            );
        }
    }
}
