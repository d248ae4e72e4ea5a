//! Networks as files for other runtimes.
//!
//! Each graph is written down from the network's own wiring (see [`models::layers::Flow`]), with
//! normalization folded and values as in the weights, so that another runtime's answers can be held
//! against Magpie's. In every format the input `x` is one picture, resized and normalized as the
//! model's [`Preprocess`] says, and the output `y` holds the network's answer as Magpie's own runs
//! give it: an embedding `[1, dim]`, or `[1, points, values]`.

mod onnx;
mod operators;
mod order;
mod protobuf;
mod tensorflow;
mod tfjs;
mod tflite;

use burn::tensor::Device;
use models::inference::{Network, Prepared, RunError};
use models::model_file::{Architecture, ModelFile, ModelFileError};
use models::preprocess::Preprocess;
use models::timing::drawn_for;

pub use self::onnx::to_onnx;
pub use self::tfjs::{Tfjs, to_tfjs};
pub use self::tflite::to_tflite;

/// A file format of other runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ONNX; `x` is `[1, 3, height, width]`.
    Onnx,
    /// LiteRT, formerly TensorFlow Lite; `x` is `[1, height, width, 3]`.
    Tflite,
    /// A graph model of TensorFlow.js, as JSON with its weights beside it; `x` as in
    /// [`Format::Tflite`].
    Tfjs,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Onnx, Self::Tflite, Self::Tfjs];

    /// The format that files of this ending have.
    pub fn of_ending(ending: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.ending() == ending)
    }

    /// How its files' names end.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Tflite => "tflite",
            Self::Tfjs => "json",
        }
    }
}

/// The files of a network in a format: names that begin with `stem`, the main one first, and bytes.
pub fn network_files(
    format: Format,
    stem: &str,
    network: &impl Network,
    preprocess: &Preprocess,
) -> Vec<(String, Vec<u8>)> {
    let name = format!("{stem}.{}", format.ending());
    match format {
        Format::Onnx => vec![(name, to_onnx(network, preprocess))],
        Format::Tflite => vec![(name, to_tflite(network, preprocess))],
        Format::Tfjs => {
            let weights_name = format!("{stem}.bin");
            let Tfjs { graph, weights } = to_tfjs(network, preprocess, &weights_name);
            vec![(name, graph), (weights_name, weights)]
        }
    }
}

/// [`network_files`] in every format, an input as the network gets it (`STEM.input.f32`) and Magpie's own
/// answer to that (`STEM.answer.f32`), both 32-bit floats: what another runtime's answers are held against.
///
/// # Errors
///
/// [`RunError`]
pub fn compared_files(
    stem: &str,
    network: &impl Network,
    preprocess: &Preprocess,
) -> Result<Vec<(String, Vec<u8>)>, RunError> {
    let mut files: Vec<(String, Vec<u8>)> = Format::ALL
        .into_iter()
        .flat_map(|format| network_files(format, stem, network, preprocess))
        .collect();
    let picture = [drawn_for(preprocess)];
    let mut input = vec![0.0; preprocess.values()];
    preprocess.fill(&picture[0], &mut input);
    let prepared = Prepared::new(network, preprocess, &Device::flex());
    let answer = pollster::block_on(prepared.run(&picture))?;
    for (what, values) in [("input", input), ("answer", answer)] {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        files.push((format!("{stem}.{what}.f32"), bytes));
    }
    Ok(files)
}

/// [`network_files`] of a model file.
///
/// # Errors
///
/// [`ModelFileError`]
///
/// ```
/// use models::backbone::{BackboneConfig, MobileNetV1Config};
/// use models::extractor::ExtractorConfig;
/// use models::model_file::Trained;
/// use models::{Device, Preprocess};
/// use native_trainer::exchange::export::{Format, model_files};
///
/// let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
/// let config = ExtractorConfig { backbone, neck: None };
/// let network = Trained::Extractor(config.clone(), config.init(&Device::flex()));
/// let model = network.deploy(Preprocess::square(32), String::new());
///
/// let files = model_files(Format::Onnx, "plants", model)?;
/// assert_eq!(files[0].0, "plants.onnx");
/// // The weights are inside.
/// assert!(files.len() == 1 && files[0].1.len() > 100_000);
/// # Ok::<(), models::model_file::ModelFileError>(())
/// ```
pub fn model_files(
    format: Format,
    stem: &str,
    model: ModelFile,
) -> Result<Vec<(String, Vec<u8>)>, ModelFileError> {
    let device = Device::flex();
    let preprocess = model.description.preprocess.clone();
    Ok(match model.description.architecture {
        Architecture::Extractor(_) => {
            network_files(format, stem, &model.into_extractor(&device)?, &preprocess)
        }
        Architecture::Detector(_) | Architecture::GraphDetector(_) => {
            network_files(format, stem, &model.into_detector(&device)?, &preprocess)
        }
    })
}
