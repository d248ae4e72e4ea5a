//! Measures how well an extractor tells images apart: each image of `photos` is searched among the others.
//!
//! After the example `train`, in the same folder: `cargo run --package magpie-train --example evaluate`

#![expect(clippy::print_stdout, reason = "an example prints its figures")]

use std::path::Path;

use models::{Device, ModelFile};
use native_trainer::{Samples, embed_samples, retrieval_metrics};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = ModelFile::from_bytes(&std::fs::read("run/model.safetensors")?)?;
    let extractor = model.prepare_extractor(&Device::flex())?;
    let samples = Samples::read(Path::new("photos"))?;
    let images = embed_samples(&extractor, &samples)?;
    let metrics = retrieval_metrics(&images, &images, &[1, 3]);
    println!("{} queries", metrics.queries);
    for (k, recall) in &metrics.recall_at_k {
        println!("recall@{k}: {recall:.3}");
    }
    println!("mean average precision: {:.3}", metrics.mean_average_precision);
    Ok(())
}
