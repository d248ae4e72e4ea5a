//! Types of the library as a command line names them: the library knows no command line.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use models::gallery::VectorType;

use crate::exchange::import::{Known, NAMED, Named};

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

/// Which network a file of timm, torchvision or a Python package holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedNetwork(Named);

impl ValueEnum for NamedNetwork {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: [NamedNetwork; NAMED.len()] = {
            let mut all = [NamedNetwork(NAMED[0]); NAMED.len()];
            let mut index = 1;
            while index < all.len() {
                all[index] = NamedNetwork(NAMED[index]);
                index += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.0.name).help(self.0.about);
        Some(value.aliases(self.0.other_names().iter().copied()))
    }
}

impl From<NamedNetwork> for Named {
    fn from(NamedNetwork(named): NamedNetwork) -> Self {
        named
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
