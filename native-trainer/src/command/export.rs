//! `magpie export`: a run or a model file becomes a model file of the wanted precision.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use models::inference::Arithmetic;
use models::model_file::{ModelDescription, ModelFile};
use models::weights::{Precision, Weights};
use serde_json::json;

use crate::checkpoint;
use crate::cli::{DeviceKind, open_model, read, samples, size, write};
use crate::embedding::embed_samples;
use crate::exchange::export::{Format, model_files};
use crate::files::{self, FileError};
use crate::metric::retrieval::{Embedded, remarks, retrieval_metrics};
use crate::recipe::{RUN_RECIPE, Recipe, Task};
use crate::train::exported_checkpoint;
use crate::train::folder::RunFolder;

/// How the names of model files end.
const MODEL_ENDING: &str = "safetensors";
/// Times that a run is read which changes meanwhile.
const TRIES: usize = 5;

/// Writes the deployed network of a run: batch normalization folded into the convolutions, parallel
/// branches summed, the head left behind. With pictures it also says what the precision costs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  magpie export runs/mine --precision i8 --out small.safetensors \
    --query photos\n  magpie export lite0.safetensors --arithmetic i8 --out \
    fast.safetensors --query photos\n  magpie export runs/mine --out mine.onnx\n  magpie export runs/mine --out mine.tflite"
)]
pub struct Arguments {
    /// Folder of a run, or a model file.
    source: PathBuf,
    /// Which checkpoint of a run: `best_model`, `last_model`, `latest`, `epoch_N`; by default the one
    /// that the recipe exports.
    #[arg(long)]
    checkpoint: Option<String>,
    /// How weights are stored: f16 unless said otherwise. Not for other runtimes.
    #[arg(long, value_enum)]
    precision: Option<Stored>,
    /// What products are computed in on a CPU; by default as the source says, which is f32 for a run.
    #[arg(long, value_enum)]
    arithmetic: Option<Computed>,
    /// Model file to write, `.safetensors`. For other runtimes, in 32-bit floats: `.onnx` writes ONNX, `.tflite`
    /// LiteRT (TensorFlow Lite), `.json` a graph model of TensorFlow.js with its weights beside it in
    /// a `.bin`; one that is there already is replaced only if the `.json` names it.
    #[arg(long)]
    out: PathBuf,
    /// List file or folder of pictures: compares the embeddings with those of 32-bit weights and
    /// arithmetic, and the recall.
    #[arg(long)]
    query: Option<PathBuf>,
    /// List file or folder that is searched; by default the queries, each without itself.
    #[arg(long, requires = "query")]
    gallery: Option<PathBuf>,
    /// Where to run the comparison.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Stored {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
    /// 10-bit integers, a scale an output channel: about two thirds of f16.
    I10,
    /// 8-bit integers, a scale an output channel: half of f16.
    I8,
}

impl Stored {
    fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::F16 => Precision::F16,
            Self::I10 => Precision::I10,
            Self::I8 => Precision::I8,
        }
    }
}

/// What products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Computed {
    /// 32-bit floats.
    F32,
    /// 8-bit integers: half of the time in browsers that have relaxed SIMD, some of the
    /// precision; say --query to see how much.
    I8,
}

impl Computed {
    fn arithmetic(self) -> Arithmetic {
        match self {
            Self::F32 => Arithmetic::F32,
            Self::I8 => Arithmetic::I8,
        }
    }
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A run or a model that cannot be used, pictures that cannot be used, a disk that refuses.
    pub fn run(&self) -> anyhow::Result<()> {
        let format = self.format()?;
        self.check_outputs(format)?;
        let mut exact = if self.source.is_dir() {
            deployed(&self.source, self.checkpoint.as_deref())?
        } else {
            open_model(&self.source)
                .map_err(|error| match error.downcast() {
                    Ok(FileError::Missing { path, .. }) => {
                        let wanted = "a model file, or the folder of a run";
                        FileError::Missing { path, wanted }.into()
                    }
                    Ok(other) => other.into(),
                    Err(other) => other,
                })?
                .file
        };
        let arithmetic = self.arithmetic.map_or(exact.description.arithmetic, Computed::arithmetic);
        exact.description.arithmetic = Arithmetic::F32;
        if let Some(format) = format {
            return self.write_for_others(format, exact);
        }
        let description = ModelDescription { arithmetic, ..exact.description.clone() };
        let weights = exact.weights.clone();
        let precision = self.precision.unwrap_or_default().precision();
        let name = || self.source.display().to_string();
        let bytes = ModelFile { description, weights }.to_bytes(precision).with_context(name)?;
        let stored = ModelFile::from_bytes(&bytes).with_context(name)?;
        let cost = match &self.query {
            Some(query) => Some(self.cost(&exact, &stored, query)?),
            None => None,
        };
        write(&self.out, &bytes)?;
        if self.json {
            let cost = cost.map(|cost| {
                json!({
                    "least_cosine": cost.least_cosine,
                    "recall1": cost.recall[1],
                    "recall1_f32": cost.recall[0],
                    "remarks": cost.remarks,
                })
            });
            let file = self.out.display().to_string();
            println!("{}", json!({"file": file, "bytes": bytes.len(), "cost": cost}));
            return Ok(());
        }
        println!("{}: {}", self.out.display(), size(bytes.len() as u64));
        if let Some(cost) = cost {
            println!(
                "least cosine to the embeddings of 32-bit floats: {:.6}; recall@1: {:.5}, with 32-bit \
                 floats {:.5}",
                cost.least_cosine, cost.recall[1], cost.recall[0]
            );
            for remark in cost.remarks {
                eprintln!("{remark}");
            }
        }
        Ok(())
    }

    /// What the name of the output asks for; `None` for a model file.
    fn format(&self) -> anyhow::Result<Option<Format>> {
        let ending = self.out.extension().map(|ending| ending.to_string_lossy().into_owned());
        let format = ending.as_deref().and_then(Format::of_ending);
        if format.is_none() && ending.as_deref() != Some(MODEL_ENDING) {
            bail!(
                "{}: export writes .{MODEL_ENDING}, .onnx, .tflite and .json; choose one of these endings",
                self.out.display()
            );
        }
        let asked = [
            (self.precision.is_some(), "--precision"),
            (self.arithmetic.is_some(), "--arithmetic"),
            (self.query.is_some(), "--query"),
        ];
        if let (Some(_), Some((_, flag))) =
            (format, asked.into_iter().find(|(is_asked, _)| *is_asked))
        {
            bail!(
                "{}: files for other runtimes hold 32-bit floats; leave {flag} out, or write a \
                 .{MODEL_ENDING} file",
                self.out.display()
            );
        }
        Ok(format)
    }

    /// Whether the files can be written, and over nothing that is read here or that no export has written.
    fn check_outputs(&self, format: Option<Format>) -> anyhow::Result<()> {
        let mut inputs = vec![self.source.clone()];
        if self.source.is_dir() {
            inputs.push(self.source.join(RUN_RECIPE));
            let checkpoints = std::fs::read_dir(&self.source).into_iter().flatten().flatten();
            inputs.extend(checkpoints.map(|entry| entry.path().join("model.safetensors")));
        }
        inputs.extend([&self.query, &self.gallery].into_iter().flatten().cloned());
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let weights = self.out.with_extension("bin");
        let is_pair = format == Some(Format::Tfjs);
        let outputs = if is_pair { vec![&*self.out, &*weights] } else { vec![&*self.out] };
        files::check_outputs(&outputs, &inputs)?;
        // A killed export has taken the graph away, or not yet put it there.
        let graphs = || [vec![self.out.clone()], files::parts_of(&self.out)].concat();
        let is_ours = || graphs().iter().any(|graph| names_weights(graph, &weights));
        if is_pair && weights.exists() && !is_ours() {
            bail!(
                "{}: would be replaced by the weights of {}, and no export wrote it; choose another name",
                weights.display(),
                self.out.display()
            );
        }
        Ok(())
    }

    /// The deployed network for other runtimes.
    fn write_for_others(&self, format: Format, model: ModelFile) -> anyhow::Result<()> {
        let stem = self.out.file_stem().unwrap_or_default().to_string_lossy();
        let files: Vec<(PathBuf, Vec<u8>)> = (model_files(format, &stem, model)?.into_iter())
            .map(|(name, bytes)| (self.out.with_file_name(name), bytes))
            .collect();
        let together: Vec<_> = files.iter().map(|(path, bytes)| (&**path, &**bytes)).collect();
        files::write_together(&together)?;
        for (path, bytes) in &files {
            let (file, bytes) = (path.display().to_string(), bytes.len());
            if self.json {
                println!("{}", json!({"file": file, "bytes": bytes}));
            } else {
                println!("{file}: {}", size(bytes as u64));
            }
        }
        Ok(())
    }

    fn cost(&self, exact: &ModelFile, stored: &ModelFile, query: &Path) -> anyhow::Result<Cost> {
        let target = self.device.target()?;
        let query = samples(query)?;
        let gallery = self.gallery.as_deref().map(samples).transpose()?;
        let query = match &gallery {
            Some(gallery) => query.relabel(&gallery.labels),
            None => query,
        };
        let mut recall = [0.0; 2];
        let (mut embedded, mut said) = (Vec::new(), Vec::new());
        for (file, recall) in [exact, stored].into_iter().zip(&mut recall) {
            let extractor = file.clone().prepare_extractor(target.clone())?;
            let embed = |samples| embed_samples(&extractor, samples);
            let query = embed(&query)?;
            let gallery = gallery.as_ref().map(embed).transpose()?;
            let metrics = retrieval_metrics(&query, gallery.as_ref().unwrap_or(&query), &[1]);
            *recall = metrics.recall_at_k.first().map_or(0.0, |(_, rate)| *rate);
            said = remarks(&query, gallery.as_ref(), &metrics);
            embedded.push(query);
        }
        let least_cosine = least_cosine(&embedded[0], &embedded[1]);
        Ok(Cost { least_cosine, recall, remarks: said })
    }
}

/// Whether a graph of TensorFlow.js is there that has its weights in this file.
fn names_weights(graph: &Path, weights: &Path) -> bool {
    let graph: Option<serde_json::Value> =
        read(graph).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let name = weights.file_name().and_then(|name| name.to_str());
    graph.is_some_and(|graph| {
        let named = graph["weightsManifest"][0]["paths"][0].as_str();
        named.is_some() && named == name
    })
}

/// What a precision costs.
struct Cost {
    least_cosine: f32,
    /// Recall@1 with 32-bit floats, and as stored and computed.
    recall: [f64; 2],
    /// Of queries that are in the gallery, or have no match there.
    remarks: Vec<String>,
}

/// Least cosine of two lists of unit embeddings, which are finite numbers: others have been refused.
fn least_cosine(a: &Embedded, b: &Embedded) -> f32 {
    let dim = a.values.len() / a.labels.len().max(1);
    let pairs = a.values.chunks_exact(dim.max(1)).zip(b.values.chunks_exact(dim.max(1)));
    let cosine = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    pairs.map(cosine).fold(1.0, f32::min)
}

/// The recipe and the weights of a run's checkpoint, both of one moment: the run may go on meanwhile.
fn read_run(run: &Path, checkpoint: Option<&str>) -> anyhow::Result<(Recipe, Weights)> {
    RunFolder::find(run)?;
    let path = run.join(RUN_RECIPE);
    for _ in 0..TRIES {
        let before = read(&path)?;
        let recipe = Recipe::read(&path, &[])?;
        let name = checkpoint.unwrap_or(exported_checkpoint(recipe.export));
        let folder = run.join(name);
        let weights = checkpoint::load_weights(&folder).with_context(|| absent(run, name));
        if read(&path)? == before {
            return Ok((recipe, weights?.0));
        }
    }
    bail!("{}: is being replaced by another command; try again", run.display())
}

/// What helps where a checkpoint is not there or damaged.
fn absent(run: &Path, name: &str) -> String {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    let mut whole: Vec<String> = (entries.map(|entry| entry.path()))
        .filter(|path| path.is_dir() && checkpoint::verify(path).is_ok())
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    whole.sort();
    if whole.is_empty() {
        return format!("{}: no whole checkpoint is there; train again", run.display());
    }
    format!(
        "{name} of {} cannot be used; whole are {}: name one by --checkpoint, or go on training by --resume",
        run.display(),
        whole.join(", ")
    )
}

/// The fused network of a run's checkpoint.
fn deployed(run: &Path, checkpoint: Option<&str>) -> anyhow::Result<ModelFile> {
    let (recipe, weights) = read_run(run, checkpoint)?;
    let weights = match &recipe.task {
        Task::Extractor(_) => weights.under("extractor"),
        Task::Detector(_) => weights,
    };
    let trained = recipe.task.architecture().load(weights, &Device::flex());
    let trained = trained.with_context(|| run.display().to_string())?;
    Ok(trained.deploy(recipe.preprocess, recipe.notes))
}
