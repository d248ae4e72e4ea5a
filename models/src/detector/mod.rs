//! Subject detection: PicoDet, one foreground class by default, and lists of steps of other programs.
//!
//! Source: "PP-PicoDet: A Better Real-Time Object Detector on Mobile Devices",
//! <https://arxiv.org/abs/2111.00902>.
//! Agrees with PaddleDetection `configs/picodet/legacy_model` (LCNet + CSPPAN + PicoHead)
//! @ 666f597. Differences: backbone, widths, depth and input size are free; points are made for any input
//! size; boxes are clipped to the picture.

mod decode;
mod decoding;
mod graph;
mod pan;
mod pico_head;
mod pico_head_v2;

use serde::{Deserialize, Serialize};

pub use decode::{Candidates, Detection, DetectionThresholds, decode};
pub use decoding::{BoxValues, Decoding, PointValue, ScoreValues};
pub use graph::{GraphDetector, GraphDetectorConfig};
pub use pan::Pan;
pub use pico_head::PicoHead;
pub use pico_head_v2::PicoHeadV2;

use crate::backbone::{Backbone, BackboneConfig, EfficientNetLiteConfig, LiteSize, PpLcNetConfig};
use crate::inference::Network;
#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::Flow;
use crate::limits::{LimitError, MAX_BLOCKS, MAX_CLASSES, SCALES, within};
#[cfg(feature = "tensors")]
use crate::operators::{channels_first, channels_last};
use crate::preprocess::Preprocess;
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Strides of the four levels in input pixels.
pub const STRIDES: [usize; 4] = [8, 16, 32, 64];

/// Last index of the distribution over distances, in strides; `REG_MAX + 1` bins a side.
pub const REG_MAX: usize = 7;

/// Input sides are multiples of it, so that every level is half of the one before.
pub const SIZE_MULTIPLE: u32 = 32;

/// Channels that the neck and the head may have: a CSP layer takes half of them.
const NECK_CHANNELS: std::ops::RangeInclusive<usize> = 2..=2048;

/// Configuration of [`Detector`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorConfig {
    /// Which neck and head.
    #[serde(default, skip_serializing_if = "DetectorVariant::is_first")]
    pub variant: DetectorVariant,
    /// Which backbone.
    #[serde(default, skip_serializing_if = "DetectorBackbone::is_pp_lcnet")]
    pub backbone: DetectorBackbone,
    /// Scale of PP-LCNet: 2.5 in the reference's mainbody model. EfficientNet-Lite0 has one width.
    #[serde(default = "default_scale")]
    pub backbone_scale: f64,
    /// Channels of the neck and the head: 128 in the mainbody model.
    pub neck_channels: usize,
    /// Object classes: 1, foreground.
    pub num_classes: usize,
    /// Depthwise-separable blocks of the head: 4 in the reference.
    #[serde(default = "default_head_blocks")]
    pub head_blocks: usize,
    /// Whether normalization is folded into the convolutions (deployed form).
    #[serde(default)]
    pub fused: bool,
}

/// The backbones of a [`Detector`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorBackbone {
    /// See [`PpLcNet`](crate::backbone::PpLcNet): the reference's.
    #[default]
    PpLcNet,
    /// See [`EfficientNetLite0`](crate::backbone::EfficientNetLite): slower, but its `ImageNet` weights can be had.
    #[serde(rename = "efficientnet_lite0")]
    EfficientNetLite0,
}

impl DetectorBackbone {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_pp_lcnet(&self) -> bool {
        *self == Self::PpLcNet
    }
}

/// The generations of PicoDet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorVariant {
    /// CSP-PAN and one prediction for class and box, assigned by SimOTA: the mainbody model.
    #[default]
    First,
    /// LC-PAN and a head that aligns class and box, assigned by ATSS, then by alignment.
    Second,
}

impl DetectorVariant {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_first(&self) -> bool {
        *self == Self::First
    }
}

fn default_head_blocks() -> usize {
    4
}

fn default_scale() -> f64 {
    1.0
}

impl DetectorConfig {
    /// The configuration of [`Detector::fuse`]'s result.
    #[must_use]
    pub fn fused(&self) -> Self {
        Self { fused: true, ..self.clone() }
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("backbone_scale", self.backbone_scale, &SCALES)?;
        within("neck_channels", self.neck_channels, &NECK_CHANNELS)?;
        within("num_classes", self.num_classes, &(1..=MAX_CLASSES))?;
        within("head_blocks", self.head_blocks, &(0..=MAX_BLOCKS))
    }

    /// Whether the network takes such inputs: their sides are multiples of [`SIZE_MULTIPLE`].
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the side.
    pub fn check_input(preprocess: &Preprocess) -> Result<(), LimitError> {
        for (key, side) in [("width", preprocess.width), ("height", preprocess.height)] {
            if !side.is_multiple_of(SIZE_MULTIPLE) {
                let allowed =
                    format!("sides of a detector's input are multiples of {SIZE_MULTIPLE}");
                return Err(LimitError::new(key, side, allowed));
            }
        }
        Ok(())
    }

    /// A freshly initialized detector.
    pub fn init(&self, device: &Device) -> Detector {
        let config = self.backbone();
        let (backbone, maps) = (config.init_maps(device), config.feature_channels());
        let channels = self.neck_channels;
        let (classes, blocks) = (self.num_classes, self.head_blocks);
        let neck = Pan::new(self.variant, maps, channels, self.fused, device);
        let head = match self.variant {
            DetectorVariant::First => {
                Head::Pico(PicoHead::new(channels, classes, blocks, self.fused, device))
            }
            DetectorVariant::Second => {
                Head::PicoV2(PicoHeadV2::new(channels, classes, blocks, self.fused, device))
            }
        };
        Detector::Pico(PicoDetector { backbone, neck, head, classes })
    }

    /// The backbone with its options.
    fn backbone(&self) -> BackboneConfig {
        let fused = self.fused;
        match self.backbone {
            DetectorBackbone::PpLcNet => BackboneConfig::PpLcNet(PpLcNetConfig {
                scale: self.backbone_scale,
                class_expand: None,
                dropout: 0.0,
                fused,
            }),
            DetectorBackbone::EfficientNetLite0 => {
                BackboneConfig::EfficientNetLite(EfficientNetLiteConfig {
                    size: LiteSize::Lite0,
                    fused,
                })
            }
        }
    }
}

/// The outputs of one level before decoding.
#[cfg(feature = "tensors")]
#[derive(Debug, Clone)]
pub struct LevelOutput {
    /// `[batch, num_classes, height, width]`, before the sigmoid.
    pub class_logits: Tensor<4>,
    /// `[batch, 4 · (REG_MAX + 1), height, width]`: left, top, right, bottom, before the softmax.
    pub box_logits: Tensor<4>,
}

/// The head of a [`Detector`].
#[derive(Module, Debug)]
enum Head {
    Pico(PicoHead),
    PicoV2(PicoHeadV2),
}

/// A network that finds objects.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one value a network")]
pub enum Detector {
    /// Of recipes.
    Pico(PicoDetector),
    /// Of an ONNX file.
    Graph(GraphDetector),
}

/// Backbone → neck → head.
#[derive(Module, Debug)]
pub struct PicoDetector {
    backbone: Backbone,
    neck: Pan,
    head: Head,
    #[module(skip)]
    classes: usize,
}

impl PicoDetector {
    /// From a picture to class logits, then box logits, as channels of one map a level, stride 8,
    /// 16, 32 and 64.
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        let maps = self.backbone.wire_maps(flow, x);
        let maps = self.neck.wire(flow, maps);
        match &self.head {
            Head::Pico(head) => head.wire(flow, maps),
            Head::PicoV2(head) => head.wire(flow, maps),
        }
    }

    /// Feature maps of the backbone, stride 8, 16 and 32.
    ///
    /// # Panics
    ///
    /// As [`Detector::forward`].
    #[cfg(feature = "tensors")]
    pub fn backbone_maps(&self, x: Tensor<4>) -> [Tensor<4>; 3] {
        self.backbone.wire_maps(&mut Eager, checked(x)).map(channels_first)
    }

    /// Feature maps of the neck, stride 8, 16, 32 and 64.
    ///
    /// # Panics
    ///
    /// As [`Detector::forward`].
    #[cfg(feature = "tensors")]
    pub fn neck_maps(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        let maps = self.backbone.wire_maps(&mut Eager, checked(x));
        self.neck.wire(&mut Eager, maps).map(channels_first)
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self {
            backbone: self.backbone.fuse(),
            neck: self.neck.fuse(),
            head: match self.head {
                Head::Pico(head) => Head::Pico(head.fuse()),
                Head::PicoV2(head) => Head::PicoV2(head.fuse()),
            },
            classes: self.classes,
        }
    }
}

impl GraphDetectorConfig {
    /// A freshly initialized detector; the configuration has been checked.
    pub fn init(&self, device: &Device) -> Detector {
        Detector::Graph(self.network(device))
    }
}

impl Detector {
    /// From a picture to a map a level: what each of its points says.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        match self {
            Self::Pico(detector) => detector.wire(flow, x),
            Self::Graph(detector) => detector.wire(flow, x),
        }
    }

    /// The detector of a recipe; none of an ONNX file.
    pub const fn pico(&self) -> Option<&PicoDetector> {
        match self {
            Self::Pico(detector) => Some(detector),
            Self::Graph(_) => None,
        }
    }

    /// Class and box logits of every level of a recipe's detector.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`, normalized, sides multiples of [`SIZE_MULTIPLE`]
    /// - outputs: four levels of stride 8, 16, 32, 64
    ///
    /// # Panics
    ///
    /// When a side is no multiple of [`SIZE_MULTIPLE`].
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Vec<LevelOutput> {
        let levels = self.wire(&mut Eager, checked(x)).into_iter().map(|level| {
            let level = channels_first(level);
            let channels = level.dims()[1];
            let classes = channels - 4 * (REG_MAX + 1);
            LevelOutput {
                class_logits: level.clone().narrow(1, 0, classes),
                box_logits: level.narrow(1, classes, channels - classes),
            }
        });
        levels.collect()
    }

    /// All levels in one tensor, points of the finest level first: what [`decode()`] reads.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`
    /// - output: `[batch, points, num_classes + 4 · (REG_MAX + 1)]`
    ///
    /// # Panics
    ///
    /// As [`Self::forward`].
    #[cfg(feature = "tensors")]
    pub fn forward_points(&self, x: Tensor<4>) -> Tensor<3> {
        let levels = self.wire(&mut Eager, checked(x)).into_iter().map(|map| map.flatten(1, 2));
        Tensor::cat(levels.collect(), 1)
    }

    /// The deployed form: every normalization folded into its convolution.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        match self {
            Self::Pico(detector) => Self::Pico(detector.fuse()),
            graph @ Self::Graph(_) => graph,
        }
    }
}

impl Network for Detector {
    type Reading = Decoding;

    fn reading(&self) -> Decoding {
        match self {
            Self::Pico(detector) => Decoding::pico(detector.classes),
            Self::Graph(detector) => detector.decoding.clone(),
        }
    }

    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        Self::wire(self, flow, x)
    }
}

/// The channels-last view of an input whose sides fit.
#[cfg(feature = "tensors")]
fn checked(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let multiple = SIZE_MULTIPLE as usize;
    assert!(
        height % multiple == 0 && width % multiple == 0,
        "detector input {width}×{height} is no multiple of {multiple}"
    );
    channels_last(x)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn descriptions_of_older_files_are_read_and_written_alike() {
        for text in [
            r#"{"backbone_scale":2.5,"neck_channels":128,"num_classes":1,"head_blocks":4,"fused":true}"#,
            concat!(
                r#"{"variant":"second","backbone":"efficientnet_lite0","backbone_scale":1.0,"neck_channels":96,"#,
                r#""num_classes":1,"head_blocks":2,"fused":false}"#
            ),
        ] {
            let config: DetectorConfig = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&config).unwrap(), text);
        }
    }

    #[test]
    fn the_deployed_form_predicts_the_same() {
        let device = Device::flex();
        for (variant, backbone) in [
            (DetectorVariant::First, DetectorBackbone::PpLcNet),
            (DetectorVariant::Second, DetectorBackbone::PpLcNet),
            (DetectorVariant::First, DetectorBackbone::EfficientNetLite0),
        ] {
            let config = DetectorConfig {
                variant,
                backbone,
                backbone_scale: 0.25,
                neck_channels: 16,
                num_classes: 2,
                head_blocks: 2,
                fused: false,
            };
            let detector = config.init(&device);
            let x = Tensor::random([1, 3, 64, 96], Distribution::Normal(0.0, 1.0), &device);
            let values = |detector: &Detector| -> Vec<f32> {
                detector.forward_points(x.clone()).into_data().try_into_vec().unwrap()
            };
            let before = values(&detector);
            // Two classes and four sides of eight bins at each point.
            assert_eq!(
                before.len(),
                Decoding::pico(2).points(96, 64).len() * 34,
                "{variant:?} {backbone:?}"
            );
            for (a, b) in values(&detector.fuse()).iter().zip(&before) {
                assert!((a - b).abs() < 1e-3, "{variant:?} {backbone:?}: {a} {b}");
            }
        }
    }
}
