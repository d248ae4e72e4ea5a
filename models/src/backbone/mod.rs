//! Backbones: an image becomes three feature maps, for a detector, or one pooled vector, for an extractor.
//!
//! [`BackboneConfig`] and [`Backbone`] name them all; `each!` is the one list that their methods go through.

mod convnext;
mod efficientnet_lite;
mod graph;
mod inverted;
mod mobilenet_v1;
mod pp_lcnet;
mod pp_lcnet_v2;
mod repvit;
mod resnet;
mod vit;

use serde::{Deserialize, Serialize};

use crate::layers::Flow;
use crate::limits::LimitError;
use crate::values::{Device, Module};

pub use convnext::{ConvNext, ConvNextConfig};
pub use efficientnet_lite::{EfficientNetLite, EfficientNetLiteConfig, LiteSize};
pub use graph::{
    Graph, GraphConfig, GraphConv, GraphNode, GraphStep, GraphTokens, MAX_NODES as MAX_GRAPH_NODES,
};
pub use inverted::{Inverted, InvertedConfig, InvertedNetwork};
pub use mobilenet_v1::{MobileNetV1, MobileNetV1Config};
pub use pp_lcnet::{DepthwiseSeparable, PpLcNet, PpLcNetConfig};
pub use pp_lcnet_v2::{PpLcNetV2, PpLcNetV2Config, RepDepthwiseSeparable, RepOptions};
pub use repvit::{RepVit, RepVitConfig};
pub use resnet::{GlobalPool, ResNet, ResNetConfig, ResNetStem, Residual, ResidualBlock, Shortcut};
pub use vit::{Between, Positions, TokenPool, Vit, VitConfig};

/// Which backbone, with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BackboneConfig {
    /// See [`PpLcNet`].
    PpLcNet(PpLcNetConfig),
    /// See [`PpLcNetV2`].
    PpLcNetV2(PpLcNetV2Config),
    /// See [`MobileNetV1`].
    #[serde(rename = "mobilenet_v1")]
    MobileNetV1(MobileNetV1Config),
    /// See [`ResNet`].
    #[serde(rename = "resnet")]
    ResNet(ResNetConfig),
    /// See [`EfficientNetLite`].
    #[serde(rename = "efficientnet_lite", alias = "efficientnet_lite0")]
    EfficientNetLite(EfficientNetLiteConfig),
    /// See [`Inverted`].
    #[serde(rename = "inverted_residuals")]
    Inverted(InvertedConfig),
    /// See [`RepVit`].
    #[serde(rename = "repvit")]
    RepVit(RepVitConfig),
    /// See [`ConvNext`].
    #[serde(rename = "convnext")]
    ConvNext(ConvNextConfig),
    /// See [`Vit`].
    #[serde(rename = "vit")]
    Vit(VitConfig),
    /// See [`Graph`].
    Graph(GraphConfig),
}

/// Any of the backbones.
#[derive(Module, Debug)]
pub enum Backbone {
    /// See [`PpLcNet`].
    PpLcNet(PpLcNet),
    /// See [`PpLcNetV2`].
    PpLcNetV2(PpLcNetV2),
    /// See [`MobileNetV1`].
    MobileNetV1(MobileNetV1),
    /// See [`ResNet`].
    ResNet(ResNet),
    /// See [`EfficientNetLite`].
    EfficientNetLite(EfficientNetLite),
    /// See [`Inverted`].
    Inverted(Inverted),
    /// See [`RepVit`].
    RepVit(RepVit),
    /// See [`ConvNext`].
    ConvNext(ConvNext),
    /// See [`Vit`].
    Vit(Vit),
    /// See [`Graph`].
    Graph(Graph),
}

/// Does the same with whichever backbone it is: `$do` as it is, or, behind `=> $to`, as the same variant of `$to`.
macro_rules! each {
    ($from:ident, $value:expr, $it:ident => $do:expr) => {
        match $value {
            $from::PpLcNet($it) => $do,
            $from::PpLcNetV2($it) => $do,
            $from::MobileNetV1($it) => $do,
            $from::ResNet($it) => $do,
            $from::EfficientNetLite($it) => $do,
            $from::Inverted($it) => $do,
            $from::RepVit($it) => $do,
            $from::ConvNext($it) => $do,
            $from::Vit($it) => $do,
            $from::Graph($it) => $do,
        }
    };
    ($from:ident => $to:ident, $value:expr, $it:ident => $do:expr) => {
        match $value {
            $from::PpLcNet($it) => $to::PpLcNet($do),
            $from::PpLcNetV2($it) => $to::PpLcNetV2($do),
            $from::MobileNetV1($it) => $to::MobileNetV1($do),
            $from::ResNet($it) => $to::ResNet($do),
            $from::EfficientNetLite($it) => $to::EfficientNetLite($do),
            $from::Inverted($it) => $to::Inverted($do),
            $from::RepVit($it) => $to::RepVit($do),
            $from::ConvNext($it) => $to::ConvNext($do),
            $from::Vit($it) => $to::Vit($do),
            $from::Graph($it) => $to::Graph($do),
        }
    };
}

impl BackboneConfig {
    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        each!(Self, self, config => config.features())
    }

    /// Channels of the three maps of [`Backbone::wire_maps`].
    pub fn feature_channels(&self) -> [usize; 3] {
        each!(Self, self, config => config.feature_channels())
    }

    /// The configuration of [`Backbone::fuse`]'s result.
    #[must_use]
    pub fn fused(&self) -> Self {
        let mut fused = self.clone();
        each!(Self, &mut fused, config => config.fused = true);
        fused
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        each!(Self, self, config => config.check())
    }

    /// Whether images of so many rows and columns can be given to it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value, or the step of a graph that has no room.
    pub fn check_input(&self, sides: [u32; 2]) -> Result<(), LimitError> {
        match self {
            Self::Vit(config) => config.check_input(sides),
            Self::Graph(config) => {
                let sides = sides.map(|side| side as usize);
                config.check_input(sides).map_err(|error| error.under("backbone"))
            }
            _ => Ok(()),
        }
    }

    /// A freshly initialized backbone.
    pub fn init(&self, device: &Device) -> Backbone {
        each!(Self => Backbone, self, config => config.init(device))
    }

    /// A freshly initialized backbone for [`Backbone::wire_maps`] alone, without the weights of an EfficientNet-Lite
    /// that lie behind its maps.
    pub fn init_maps(&self, device: &Device) -> Backbone {
        match self {
            Self::EfficientNetLite(config) => Backbone::EfficientNetLite(config.init_maps(device)),
            _ => self.init(device),
        }
    }
}

impl Backbone {
    /// Feature maps of the last three stages: of stride 8, 16 and 32, unless the configuration changes a stride.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        each!(Self, self, backbone => backbone.wire_maps(flow, x))
    }

    /// Pooled features of the last map, `[batch, features]`.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        each!(Self, self, backbone => backbone.wire(flow, x))
    }

    /// The deployed form: every normalization folded into its convolution.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        each!(Self => Self, self, backbone => backbone.fuse())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "flex")]
    use burn::tensor::{Distribution, Tensor};

    use super::*;
    #[cfg(feature = "flex")]
    use crate::layers::Eager;

    /// A small one of each, as model files describe it.
    const DESCRIPTIONS: [&str; 13] = [
        r#"{"kind":"pp_lc_net","scale":0.25,"class_expand":64,"dropout":0.2,"fused":false}"#,
        r#"{"kind":"pp_lc_net_v2","scale":0.25,"depths":[1,1,1,1],"class_expand":64,"shitu":false,"dropout":0.0,"fused":true}"#,
        r#"{"kind":"mobilenet_v1","scale":0.25,"fused":false}"#,
        concat!(
            r#"{"kind":"resnet","block":"basic","depths":[1,1,1,1],"width":16,"stem":"single3x3","stem_activation":true,"#,
            r#""max_pool":true,"first_stage_stride":1,"last_stage_stride":2,"shortcut":"average_pool","pool":"max","#,
            r#""fused":false}"#
        ),
        r#"{"kind":"efficientnet_lite","size":"lite2","fused":false}"#,
        r#"{"kind":"inverted_residuals","network":"mobilenet_v3_small","scale":0.25,"epsilon":0.001,"fused":false}"#,
        r#"{"kind":"inverted_residuals","network":"mobilenet_v4_medium","scale":0.25,"epsilon":0.001,"fused":false}"#,
        r#"{"kind":"inverted_residuals","network":"efficientnet_b0","scale":0.25,"epsilon":0.001,"fused":false}"#,
        r#"{"kind":"repvit","widths":[8,16,24,32],"depths":[1,2,2,1],"fused":false}"#,
        r#"{"kind":"convnext","widths":[6,8,12,16],"depths":[1,1,2,1],"fused":false}"#,
        concat!(
            r#"{"kind":"vit","patch":16,"width":32,"depth":2,"heads":4,"hidden":48,"between":"quick_gelu","#,
            r#""has_class":true,"registers":0,"positions":{"kind":"learned","rows":7,"columns":7,"has_class":true,"#,
            r#""resampling":"bicubic"},"normalizes_first":true,"epsilon":0.00001,"pool":"class","projection":20,"#,
            r#""fused":false}"#
        ),
        concat!(
            r#"{"kind":"vit","patch":16,"width":32,"depth":1,"heads":2,"hidden":40,"between":"swi_glu","#,
            r#""has_class":true,"registers":4,"positions":{"kind":"rotary","base":100.0},"normalizes_first":false,"#,
            r#""epsilon":0.00001,"pool":"attention","projection":null,"fused":false}"#
        ),
        concat!(
            r#"{"kind":"graph","nodes":[{"step":{"conv":{"channels":8,"kernel":4,"stride":4}},"inputs":[0]},"#,
            r#"{"step":{"pool":{"pool":"max","kernel":[3,3],"stride":[2,2],"padding":[1,1,1,1],"ceil":false,"#,
            r#""count_padding":false}},"inputs":[1]},{"step":{"conv":{"channels":12,"kernel":3,"stride":2,"groups":2,"#,
            r#""padding":[1,1,1,1],"activation":"Relu"}},"inputs":[2]},{"step":{"conv":{"channels":16,"kernel":3,"#,
            r#""stride":2,"padding":[1,1,1,1]}},"inputs":[3]},{"step":"affine","inputs":[4]},"#,
            r#"{"step":{"global_pool":"average"},"inputs":[5]}],"fused":false}"#
        ),
    ];

    #[test]
    fn the_first_size_is_read_by_its_older_name() {
        let older = r#"{"kind":"efficientnet_lite0","fused":true}"#;
        let config: BackboneConfig = serde_json::from_str(older).unwrap();
        let lite0 = EfficientNetLiteConfig { size: LiteSize::Lite0, fused: true };
        assert_eq!(config, BackboneConfig::EfficientNetLite(lite0));
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<BackboneConfig>(&text).unwrap(), config);
    }

    #[test]
    fn descriptions_of_older_files_are_read_and_written_alike() {
        for text in DESCRIPTIONS {
            let config: BackboneConfig = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&config).unwrap(), text);
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn maps_have_the_channels_and_strides_they_say() {
        let device = Device::flex();
        let x = Tensor::random([1, 64, 96, 3], Distribution::Normal(0.0, 1.0), &device);
        for text in DESCRIPTIONS {
            let config: BackboneConfig = serde_json::from_str(text).unwrap();
            config.check().unwrap();
            let maps = config.init_maps(&device).wire_maps(&mut Eager, x.clone());
            for ((map, channels), stride) in
                maps.into_iter().zip(config.feature_channels()).zip([8, 16, 32])
            {
                assert_eq!(map.dims(), [1, 64 / stride, 96 / stride, channels], "{text}");
            }
            let pooled = config.init(&device).wire(&mut Eager, x.clone());
            assert_eq!(pooled.dims()[3], config.features(), "{text}");
        }
    }
}
