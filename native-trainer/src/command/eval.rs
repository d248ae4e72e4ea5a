//! `magpie eval`: recall and mAP of a model file.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceKind, open_model};
use crate::data::list_file::Samples;
use crate::embedding::embed_samples;
use crate::metric::retrieval::retrieval_metrics;

/// Measures how often an extractor finds the right class.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie eval --extractor weights/extractor.safetensors \
    --query test_list.txt --gallery gallery_list.txt")]
pub struct Arguments {
    /// Model file of the extractor.
    #[arg(long)]
    extractor: PathBuf,
    /// List file or folder of queries.
    #[arg(long)]
    query: PathBuf,
    /// List file or folder that is searched; by default the queries, each without itself.
    #[arg(long)]
    gallery: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, pictures that cannot be used.
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    pub fn run(&self) -> anyhow::Result<()> {
        let model = open_model(&self.extractor)?;
        let preprocess = model.file.description.preprocess.clone();
        let device = self.device.open();
        let extractor = model.file.into_extractor(&device)?;
        let embed = |samples: &Samples| embed_samples(&extractor, &preprocess, samples, &device);
        let query = Samples::read(&self.query)?;
        let metrics = if let Some(path) = &self.gallery {
            let gallery = Samples::read(path)?;
            let query = query.relabel(&gallery.labels);
            retrieval_metrics(&embed(&query)?, &embed(&gallery)?, &[1, 5])
        } else {
            let all = embed(&query)?;
            retrieval_metrics(&all, &all, &[1, 5])
        };
        if self.json {
            let mut record = serde_json::Map::new();
            for (k, rate) in &metrics.recall_at_k {
                record.insert(format!("recall{k}"), (*rate).into());
            }
            record.insert("mAP".to_owned(), metrics.mean_average_precision.into());
            record.insert("queries".to_owned(), metrics.queries.into());
            println!("{}", serde_json::Value::Object(record));
            return Ok(());
        }
        let rates: Vec<String> =
            metrics.recall_at_k.iter().map(|(k, rate)| format!("recall{k}: {rate:.5}")).collect();
        println!(
            "[Eval][Epoch 0][Avg]{}, mAP: {:.5}",
            rates.join(", "),
            metrics.mean_average_precision
        );
        println!("{} queries with a match in the gallery", metrics.queries);
        Ok(())
    }
}
