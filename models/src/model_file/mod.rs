//! One network in one file: deployed weights with what is needed to run them.
//!
//! A safetensors file whose metadata holds, under `magpie`, a JSON description. The trainer exports
//! it, the gallery builder and the bundle use it, the browser runs it.

mod architecture;
#[cfg(feature = "tensors")]
mod trained;

use std::collections::HashMap;
use std::fmt::Write;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::detector::Detector;
use crate::extractor::Extractor;
use crate::inference::Arithmetic;
use crate::inference::{Prepared, Target};
use crate::limits::LimitError;
use crate::preprocess::Preprocess;
use crate::values::Device;
use crate::weights::{Precision, Weights, WeightsError};

pub use architecture::Architecture;
#[cfg(feature = "tensors")]
pub use trained::Trained;

const METADATA_KEY: &str = "magpie";
/// Newest version of the description.
const FORMAT: u32 = 2;

/// Why a model file could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// The tensors do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// There is no description, or it cannot be read.
    #[error("no description of the model inside: {reason}; export it with `magpie export`")]
    Description {
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program has written it.
    #[error(
        "the description of the model inside has format {got}; this program reads up to {known}: use a newer one, \
         or export the model again with this one"
    )]
    Format {
        /// In the file.
        got: u32,
        /// Newest that can be read.
        known: u32,
    },
    /// The description asks for what no network has.
    #[error("the description of the model inside cannot be used: {0}; export it again")]
    Limits(#[from] LimitError),
    /// The file holds the other kind of network.
    #[error("this is {got}, not {expected}; give the other of the two")]
    Kind {
        /// Wanted.
        expected: &'static str,
        /// There.
        got: &'static str,
    },
}

/// What of a description is read first, whatever else is in it.
#[derive(Deserialize)]
struct Version {
    #[serde(default = "first_format")]
    format: u32,
}

/// The version of a description without a number: it is written from 2 on, so that files of version 1 stay as they are,
/// byte for byte.
const fn first_format() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
const fn is_first_format(format: &u32) -> bool {
    *format == first_format()
}

/// A description as it is written: with its version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    format: u32,
    architecture: Architecture,
    preprocess: Preprocess,
    #[serde(default, skip_serializing_if = "Arithmetic::is_default")]
    arithmetic: Arithmetic,
    #[serde(default)]
    notes: String,
}

impl From<Written> for ModelDescription {
    fn from(written: Written) -> Self {
        let Written { architecture, preprocess, arithmetic, notes, .. } = written;
        Self { architecture, preprocess, arithmetic, notes }
    }
}

impl From<ModelDescription> for Written {
    fn from(description: ModelDescription) -> Self {
        let format = description.format();
        let ModelDescription { architecture, preprocess, arithmetic, notes } = description;
        Self { format, architecture, preprocess, arithmetic, notes }
    }
}

/// What a network needs besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct ModelDescription {
    /// The network.
    pub architecture: Architecture,
    /// From a picture to its input.
    pub preprocess: Preprocess,
    /// How its products are computed on a CPU.
    pub arithmetic: Arithmetic,
    /// Where the weights come from: recipe, data, seed, license.
    pub notes: String,
}

impl ModelDescription {
    /// The description in a model file, whose tensors are left unread.
    ///
    /// # Errors
    ///
    /// [`ModelFileError`] for bytes that begin like no model file, or a description that cannot be read.
    pub fn of_file(bytes: &[u8]) -> Result<Self, ModelFileError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(WeightsError::unreadable)?;
        let text =
            metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY)).ok_or_else(|| {
                ModelFileError::Description { reason: "nothing there".to_owned() }
            })?;
        let description = Self::from_json(text)?;
        description.check()?;
        Ok(description)
    }

    /// The first version that has all that it says.
    fn format(&self) -> u32 {
        let plain = Preprocess::square(1);
        let Preprocess { fit, channels, .. } = self.preprocess;
        let is_first = (fit, channels) == (plain.fit, plain.channels)
            && !matches!(self.architecture, Architecture::GraphDetector(_));
        if is_first { first_format() } else { 2 }
    }

    fn from_json(text: &str) -> Result<Self, ModelFileError> {
        let unread =
            |error: serde_json::Error| ModelFileError::Description { reason: error.to_string() };
        let Version { format } = serde_json::from_str(text).map_err(unread)?;
        if format > FORMAT {
            return Err(ModelFileError::Format { got: format, known: FORMAT });
        }
        serde_json::from_str(text).map_err(unread)
    }

    /// Whether a network can be made and run as it says.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        self.architecture.check().map_err(|error| error.under("architecture"))?;
        let input = self.architecture.check_input(&self.preprocess);
        input.map_err(|error| error.under("preprocess"))
    }
}

/// A description and the weights that belong to it.
///
#[cfg_attr(feature = "flex", doc = "```")]
#[cfg_attr(not(feature = "flex"), doc = "```ignore")]
/// use models::backbone::{BackboneConfig, MobileNetV1Config};
/// use models::extractor::ExtractorConfig;
/// use models::model_file::{Trained, model_id};
/// use models::weights::Precision;
/// use models::{Device, ModelFile, Preprocess, RgbImage};
///
/// // A network of drawn weights; `magpie train` writes such a file with learned ones.
/// let device = Device::flex();
/// let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
/// let config = ExtractorConfig { backbone, neck: None };
/// let network = Trained::Extractor(config.clone(), config.init(&device));
/// let model = network.deploy(Preprocess::square(32), "drawn weights".to_owned());
/// let bytes = model.to_bytes(Precision::F16)?;
///
/// let model = ModelFile::from_bytes(&bytes)?;
/// assert_eq!(model.description.notes, "drawn weights");
/// // A gallery carries this name of the extractor that made it.
/// assert_eq!(model_id(&bytes).len(), 16);
///
/// let extractor = model.prepare_extractor(&device)?;
/// let image = RgbImage::from_rgb(1, 1, vec![10, 20, 30])?;
/// let embedding = pollster::block_on(extractor.run(&[image]))?;
/// assert_eq!(embedding.len(), config.embedding_dim());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What the weights are for.
    pub description: ModelDescription,
    /// The weights of the deployed (fused) form.
    pub weights: Weights,
}

impl ModelFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ModelFileError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        Self::from_vec(bytes.to_vec())
    }

    /// [`Self::from_bytes`] of bytes that go while they are read; see [`Weights::from_vec`].
    ///
    /// # Errors
    ///
    /// As [`Self::from_bytes`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, ModelFileError> {
        let description = ModelDescription::of_file(&bytes)?;
        Ok(Self { description, weights: Weights::from_vec(bytes)? })
    }

    /// Writes a file; the same model gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Weights`] where a shape does not fit its values, or values do not fit the
    /// precision or are no finite numbers; [`ModelFileError::Limits`].
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, ModelFileError> {
        self.description.check()?;
        self.weights.check()?;
        let text = serde_json::to_string(&self.description)
            .map_err(|error| ModelFileError::Description { reason: error.to_string() })?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), text)]);
        Ok(self.weights.to_bytes(precision, Some(metadata))?)
    }

    /// Builds the extractor on a device.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Kind`] for a detector, [`ModelFileError::Weights`] where tensors do not
    /// fit.
    pub fn into_extractor(self, device: &Device) -> Result<Extractor, ModelFileError> {
        match self.description.architecture {
            Architecture::Extractor(config) => Ok(self.weights.load_into(config.init(device))?),
            other => Err(ModelFileError::Kind { expected: "an extractor", got: other.kind() }),
        }
    }

    /// [`Self::into_extractor`], ready to run as the description says.
    ///
    /// # Errors
    ///
    /// As [`Self::into_extractor`].
    pub fn prepare_extractor(
        self,
        target: impl Into<Target>,
    ) -> Result<Prepared<Extractor>, ModelFileError> {
        let target = target.into();
        let (preprocess, arithmetic) = self.execution();
        let network = self.into_extractor(&target.device())?;
        Ok(Prepared::with_arithmetic(&network, &preprocess, arithmetic, target))
    }

    /// [`Self::into_detector`], ready to run as the description says.
    ///
    /// # Errors
    ///
    /// As [`Self::into_detector`].
    pub fn prepare_detector(
        self,
        target: impl Into<Target>,
    ) -> Result<Prepared<Detector>, ModelFileError> {
        let target = target.into();
        let (preprocess, arithmetic) = self.execution();
        let network = self.into_detector(&target.device())?;
        Ok(Prepared::with_arithmetic(&network, &preprocess, arithmetic, target))
    }

    fn execution(&self) -> (Preprocess, Arithmetic) {
        (self.description.preprocess.clone(), self.description.arithmetic)
    }

    /// Builds the detector on a device.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Kind`] for an extractor, [`ModelFileError::Weights`] where tensors do not
    /// fit.
    pub fn into_detector(self, device: &Device) -> Result<Detector, ModelFileError> {
        let architecture = &self.description.architecture;
        let wrong = ModelFileError::Kind { expected: "a detector", got: architecture.kind() };
        Ok(self.weights.load_into(architecture.detector(device).ok_or(wrong)?)?)
    }
}

/// Lower-case hexadecimal SHA-256 of a file.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Short name of a model: the first 16 digits of its file's SHA-256. A gallery carries the name of
/// the extractor that made it.
pub fn model_id(bytes: &[u8]) -> String {
    let mut id = sha256_hex(bytes);
    id.truncate(16);
    id
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::backbone::BackboneConfig;
    use crate::backbone::{
        EfficientNetLiteConfig, MobileNetV1Config, PpLcNetConfig, PpLcNetV2Config, ResNetConfig,
    };
    use crate::detector::DetectorConfig;
    use crate::detector::{DetectorBackbone, DetectorVariant};
    use crate::extractor::ExtractorConfig;
    use crate::image::RgbImage;
    use crate::neck::NeckConfig;
    use crate::preprocess::{ChannelOrder, Fit, Letterbox};

    fn extractor(backbone: BackboneConfig) -> Architecture {
        Architecture::Extractor(ExtractorConfig { backbone, neck: None })
    }

    fn smallest() -> Vec<Architecture> {
        let scale = *crate::limits::SCALES.start();
        let mut resnet = ResNetConfig { depths: [1; 4], width: 2, ..ResNetConfig::resnet50_vd() };
        resnet.first_stage_stride = 2;
        let detector = |variant, neck_channels| {
            Architecture::Detector(DetectorConfig {
                variant,
                backbone: DetectorBackbone::PpLcNet,
                backbone_scale: scale,
                neck_channels,
                num_classes: 1,
                head_blocks: 0,
                fused: false,
            })
        };
        vec![
            extractor(BackboneConfig::PpLcNet(PpLcNetConfig {
                scale,
                class_expand: None,
                dropout: 0.0,
                fused: false,
            })),
            extractor(BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                scale,
                depths: [1; 4],
                class_expand: 1,
                shitu: false,
                dropout: 0.99,
                fused: false,
            })),
            extractor(BackboneConfig::MobileNetV1(MobileNetV1Config { scale, fused: false })),
            extractor(BackboneConfig::ResNet(resnet)),
            extractor(BackboneConfig::EfficientNetLite(EfficientNetLiteConfig::default())),
            detector(DetectorVariant::First, 2),
            detector(DetectorVariant::Second, 2),
            graph_detector(),
        ]
    }

    /// One point a pixel of a map, of the pixels' means.
    fn graph_detector() -> Architecture {
        let text = concat!(
            r#"{"graph_detector":{"graph":{"nodes":[{"step":{"pool":{"pool":"average","kernel":[8,8],"stride":[8,8],"#,
            r#""padding":[0,0,0,0],"ceil":false,"count_padding":false}},"inputs":[0]},{"step":"concatenate","inputs":[1,1]}],"fused":true},"outputs":[2],"decoding":{"strides":[8],"#,
            r#""classes":2,"values":["scores","box"],"boxes":"distances","scores":"probabilities","offset":0.5}}}"#
        );
        let architecture: Architecture = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&architecture).unwrap(), text);
        architecture
    }

    #[test]
    fn what_older_programs_cannot_read_has_a_number() {
        let mut letterbox = described(smallest().remove(2), 32);
        let plain = serde_json::to_string(&letterbox).unwrap();
        assert!(plain.starts_with(r#"{"architecture":"#), "{plain}");
        letterbox.preprocess.fit = Fit::Letterbox(Letterbox { padding: 114, centered: false });
        let mut turned = described(smallest().remove(2), 32);
        turned.preprocess.channels = ChannelOrder::Bgr;
        for description in [letterbox, turned, described(graph_detector(), 32)] {
            let text = serde_json::to_string(&description).unwrap();
            assert!(text.starts_with(r#"{"format":2,"architecture":"#), "{text}");
            assert_eq!(ModelDescription::from_json(&text).unwrap(), description);
            let file = ModelFile { description, weights: Weights::default() };
            let read = ModelFile::from_bytes(&file.to_bytes(Precision::F32).unwrap()).unwrap();
            assert_eq!(read.description, file.description);
        }
    }

    #[test]
    fn a_graph_that_makes_other_points_than_its_description_says_is_refused() {
        let good = described(graph_detector(), 32);
        let inside = "/architecture/graph_detector";
        for (path, value, told) in [
            ("/outputs/0", 0.into(), "outputs is 0; it may be from 1 to 2"),
            ("/outputs/0", 3.into(), "outputs is 3"),
            ("/outputs", serde_json::json!([2, 2]), "outputs is 2; it may be from 1 to 1"),
            (
                "/outputs/0",
                1.into(),
                "outputs is 4 × 4 points of 3 values; strides, classes and boxes",
            ),
            ("/decoding/classes", 3.into(), "make 4 × 4 points of 7 values of an input of 32 × 32"),
            ("/decoding/classes", 0.into(), "architecture.decoding.classes is 0"),
            ("/decoding/strides/0", 16.into(), "make 2 × 2 points of 6 values"),
            (
                "/decoding/boxes",
                serde_json::json!({"distribution": 8}),
                "make 4 × 4 points of 34 values",
            ),
            ("/graph/nodes/1/inputs/1", 2.into(), "graph.nodes.1.inputs is 2"),
        ] {
            let error = changed(&good, &format!("{inside}{path}"), value);
            assert!(error.contains(told), "{path}: {error}");
        }
    }

    fn described(architecture: Architecture, side: u32) -> ModelDescription {
        ModelDescription {
            architecture,
            preprocess: Preprocess::square(side),
            arithmetic: Arithmetic::F32,
            notes: String::new(),
        }
    }

    #[test]
    fn the_least_that_a_description_may_ask_for_runs() {
        let device = Device::flex();
        let picture = RgbImage::from_rgb(3, 2, vec![90; 18]).unwrap();
        for architecture in smallest() {
            let side = if architecture.kind() == "a detector" { 32 } else { 1 };
            let description = described(architecture, side);
            description.check().unwrap();
            let preprocess = &description.preprocess;
            let values = match &description.architecture {
                Architecture::Extractor(config) => {
                    let network = config.init(&device).fuse();
                    let network = Prepared::new(&network, preprocess, &device);
                    pollster::block_on(network.run(std::slice::from_ref(&picture))).unwrap()
                }
                detector => {
                    let network = detector.detector(&device).unwrap().fuse();
                    let network = Prepared::new(&network, preprocess, &device);
                    pollster::block_on(network.run(std::slice::from_ref(&picture))).unwrap()
                }
            };
            assert!(!values.is_empty() && values.iter().all(|v| v.is_finite()), "{description:?}");
        }
    }

    /// The description's JSON with the value at a path changed; the error that it gives.
    fn changed(description: &ModelDescription, path: &str, value: serde_json::Value) -> String {
        let mut json = serde_json::to_value(description).expect("JSON");
        let place = json.pointer_mut(path).unwrap_or_else(|| panic!("{path}"));
        *place = value;
        let weights = Weights::default();
        let bytes = weights
            .to_bytes(
                Precision::F32,
                Some(HashMap::from([(METADATA_KEY.to_owned(), json.to_string())])),
            )
            .expect("bytes");
        let error = ModelFile::from_bytes(&bytes).expect_err(path);
        assert!(matches!(error, ModelFileError::Limits(_)), "{path}: {error}");
        error.to_string()
    }

    #[test]
    fn a_description_of_a_newer_program_is_named_as_such() {
        let description = described(smallest().remove(0), 32);
        let with = |format: Option<u32>, more: bool| {
            let mut json = serde_json::to_value(&description).expect("JSON");
            let fields = json.as_object_mut().expect("an object");
            fields.extend(format.map(|format| ("format".to_owned(), format.into())));
            if more {
                fields.insert("heads".to_owned(), 2.into());
            }
            let metadata = HashMap::from([(METADATA_KEY.to_owned(), json.to_string())]);
            let bytes = Weights::default().to_bytes(Precision::F32, Some(metadata)).expect("bytes");
            ModelFile::from_bytes(&bytes).map(|file| file.description)
        };
        assert_eq!(with(None, false).expect("the first format"), description);
        assert_eq!(with(Some(2), false).expect("the second format"), description);
        let newer = with(Some(3), true).expect_err("a newer format");
        assert!(matches!(newer, ModelFileError::Format { got: 3, known: 2 }), "{newer}");
        assert!(newer.to_string().contains("use a newer one"), "{newer}");
        let unknown = with(None, true).expect_err("a field that nobody knows");
        assert!(matches!(unknown, ModelFileError::Description { .. }), "{unknown}");
    }

    #[test]
    fn a_description_beyond_the_limits_is_refused_by_its_key() {
        let mut all = smallest();
        let second = all.remove(1);
        let Architecture::Extractor(mut config) = second else { panic!("an extractor") };
        config.neck = Some(NeckConfig::Fc { embedding_dim: 4 });
        let v2 = described(Architecture::Extractor(config), 32);
        let resnet = described(all.remove(2), 32);
        let detector = described(all.remove(all.len() - 2), 64);
        let extractor = "/architecture/extractor";
        for (description, path, value, told) in [
            (&v2, "/preprocess/width", 0.into(), "preprocess.width is 0; it may be from 1 to 2048"),
            (&v2, "/preprocess/height", 65_536.into(), "preprocess.height is 65536"),
            (&v2, "/preprocess/std/1", 0.into(), "preprocess.std is 0"),
            (&v2, "/preprocess/std/0", (-0.5).into(), "preprocess.std is -0.5"),
            (&v2, "/preprocess/mean/2", 1e30.into(), "preprocess.mean is 1"),
            (
                &v2,
                &format!("{extractor}/backbone/scale"),
                1e9.into(),
                "backbone.scale is 1000000000",
            ),
            (&v2, &format!("{extractor}/backbone/scale"), 0.into(), "backbone.scale is 0"),
            (&v2, &format!("{extractor}/backbone/depths/3"), 0.into(), "backbone.depths is 0"),
            (&v2, &format!("{extractor}/backbone/depths/0"), 1_000_000.into(), "depths is 1000000"),
            (&v2, &format!("{extractor}/backbone/class_expand"), 0.into(), "class_expand is 0"),
            (&v2, &format!("{extractor}/backbone/dropout"), 1.into(), "dropout is 1"),
            (&v2, &format!("{extractor}/neck/embedding_dim"), 0.into(), "neck.embedding_dim is 0"),
            (
                &v2,
                &format!("{extractor}/neck/embedding_dim"),
                9_007_199_254_740_992_u64.into(),
                "neck.embedding_dim is 9007199254740992; it may be from 1 to 16384",
            ),
            (&resnet, &format!("{extractor}/backbone/width"), 1.into(), "backbone.width is 1"),
            (
                &resnet,
                &format!("{extractor}/backbone/last_stage_stride"),
                0.into(),
                "last_stage_stride is 0; it may be from 1 to 2",
            ),
            (&detector, "/preprocess/width", 100.into(), "are multiples of 32"),
            (&detector, "/architecture/detector/neck_channels", 1.into(), "neck_channels is 1"),
            (&detector, "/architecture/detector/num_classes", 0.into(), "num_classes is 0"),
            (&detector, "/architecture/detector/head_blocks", 9999.into(), "head_blocks is 9999"),
            (&detector, "/architecture/detector/backbone_scale", 99.into(), "backbone_scale is 99"),
        ] {
            let error = changed(description, path, value);
            assert!(error.contains(told), "{path}: {error}");
        }
    }

    #[test]
    fn what_nobody_could_read_is_not_written() {
        let description = described(smallest().remove(2), 32);
        let tensor = crate::weights::NamedTensor { shape: vec![1], values: vec![f32::NAN] };
        let weights = Weights { tensors: [("w".to_owned(), tensor)].into() };
        let file = ModelFile { description, weights };
        let error = file.to_bytes(Precision::F32).unwrap_err();
        let is_named = matches!(
            &error,
            ModelFileError::Weights(WeightsError::NotFinite { name, .. }) if name == "w"
        );
        assert!(is_named, "{error}");
        let mut file = ModelFile { weights: Weights::default(), ..file };
        file.description.preprocess.std = [0.0; 3];
        let error = file.to_bytes(Precision::F32).unwrap_err();
        assert!(matches!(error, ModelFileError::Limits(_)), "{error}");
    }
}
