//! How the values of vectors are stored, and what that is called.

use std::fmt;
use std::str::FromStr;

use half::f16;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the values of a vector are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorType {
    /// 16-bit floats: half the download; similarities move by less than 0.001.
    #[default]
    F16,
    /// 32-bit floats.
    F32,
    /// 8-bit integers and one 32-bit factor: a quarter of the download; similarities move by
    /// about 0.005.
    I8,
}

impl VectorType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F16, Self::F32, Self::I8];

    /// What it is called in files, flags and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::I8 => "i8",
        }
    }

    /// Whether a finite value stays finite when it is stored.
    pub(super) fn holds(self, value: f32) -> bool {
        match self {
            Self::F16 => f16::from_f32(value).is_finite(),
            Self::F32 | Self::I8 => true,
        }
    }
}

impl fmt::Display for VectorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no [`VectorType`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there are no values of type {0:?}; give f16, f32 or i8")]
pub struct UnknownVectorType(pub String);

impl FromStr for VectorType {
    type Err = UnknownVectorType;

    fn from_str(name: &str) -> Result<Self, UnknownVectorType> {
        let found = Self::ALL.into_iter().find(|vector_type| vector_type.name() == name);
        found.ok_or_else(|| UnknownVectorType(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_texts_and_in_files() {
        for vector_type in VectorType::ALL {
            assert_eq!(vector_type.to_string().parse(), Ok(vector_type));
            let json = format!("\"{vector_type}\"");
            assert_eq!(serde_json::to_string(&vector_type).unwrap(), json);
            assert_eq!(serde_json::from_str::<VectorType>(&json).unwrap(), vector_type);
        }
        let error = "f8".parse::<VectorType>().unwrap_err();
        assert_eq!(error, UnknownVectorType("f8".to_owned()));
        assert_eq!(error.to_string(), "there are no values of type \"f8\"; give f16, f32 or i8");
    }
}
