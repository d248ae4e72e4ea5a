//! What building a gallery takes of memory and time: at once in memory, or by way of scratch files.
//!
//! `gallery_memory memory|stream VECTORS DIM flat|binary|ivf|hnsw OUT`, a file of 32-bit floats, rows of
//! DIM; one JSON line. The peak is the process's own, by `/proc/self/status`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, not a library")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::time::Instant;

use models::gallery::{Class, ContentId, Gallery, GalleryStream, IndexConfig, VectorType};
use serde_json::json;

/// The rows of a file, one after the other.
fn rows(path: &str, dim: usize) -> impl Iterator<Item = Vec<f32>> {
    let mut file = BufReader::new(File::open(path).unwrap());
    let mut bytes = vec![0; dim * 4];
    std::iter::from_fn(move || {
        file.read_exact(&mut bytes).ok()?;
        Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    })
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1000
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, how, vectors, dim, index, out] = &arguments[..] else {
        panic!("gallery_memory memory|stream VECTORS DIM flat|binary|ivf|hnsw OUT");
    };
    let dim: usize = dim.parse().unwrap();
    let config = match index.as_str() {
        "flat" => IndexConfig::Flat,
        "binary" => IndexConfig::Binary,
        "ivf" => IndexConfig::Ivf { lists: 0 },
        "hnsw" => IndexConfig::hnsw(),
        other => panic!("no index {other}"),
    };
    let class = || Class { label: "thing".to_owned(), ..Class::default() };
    let start = Instant::now();
    let mut writer = BufWriter::new(File::create(out).unwrap());
    if how == "stream" {
        let scratch = [(); 2].map(|()| tempfile::tempfile_in(".").unwrap());
        let mut gallery = GalleryStream::new(dim, "model", VectorType::F16, scratch);
        let class = gallery.add_class(class(), &[]).unwrap();
        for row in rows(vectors, dim) {
            gallery.add_image(class, &row, ContentId::default()).unwrap();
        }
        gallery.finish(config, &mut writer).unwrap();
    } else {
        let mut gallery = Gallery::new(dim, "model");
        let class = gallery.add_class(class(), Vec::new());
        for row in rows(vectors, dim) {
            gallery.add_image(class, &row, ContentId::default()).unwrap();
        }
        gallery.set_index(config).unwrap();
        gallery.write_to(&mut writer).unwrap();
    }
    drop(writer);
    let (bytes, seconds) = (std::fs::metadata(out).unwrap().len(), start.elapsed().as_secs_f64());
    let peak = peak_megabytes();
    println!(
        "{}",
        json!({ "how": how, "index": index, "bytes": bytes, "seconds": seconds, "peak_mb": peak })
    );
}
