//! Backbones: a picture tensor becomes feature maps or one pooled vector.

mod pp_lcnet;
mod pp_lcnet_v2;

pub use pp_lcnet::{DepthwiseSeparable, PpLcNet, PpLcNetConfig};
pub use pp_lcnet_v2::{PpLcNetV2, PpLcNetV2Config, RepDepthwiseSeparable, RepOptions};
