//! Backbones: a picture tensor becomes feature maps or one pooled vector.

mod efficientnet_lite0;
mod mobilenet_v1;
mod pp_lcnet;
mod pp_lcnet_v2;
mod resnet;

pub use efficientnet_lite0::{EfficientNetLite0, EfficientNetLite0Config};
pub use mobilenet_v1::{MobileNetV1, MobileNetV1Config};
pub use pp_lcnet::{DepthwiseSeparable, PpLcNet, PpLcNetConfig};
pub use pp_lcnet_v2::{PpLcNetV2, PpLcNetV2Config, RepDepthwiseSeparable, RepOptions};
pub use resnet::{GlobalPool, ResNet, ResNetConfig, ResNetStem, Residual, ResidualBlock, Shortcut};
