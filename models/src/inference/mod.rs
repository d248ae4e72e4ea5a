//! Networks run outside training: steps written down once (`plan`), the CPU's loops over packed weights
//! (`packed`), the graphics device's shaders (`gpu`), and [`Prepared`], through which all of them are called.

#[cfg(feature = "webgpu")]
pub mod gpu;
pub(crate) mod packed;
mod plan;
mod prepared;

use serde::{Deserialize, Serialize};

pub use prepared::{Network, Prepared, RunError, Target};

/// How a network's products are computed on the CPU outside training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// In 32-bit floats.
    #[default]
    F32,
    /// Products of at least 32 terms in 8-bit integers, everything else in floats: half of the
    /// time in a browser with relaxed SIMD. In one without, and on a GPU, all in floats.
    I8,
}

impl Arithmetic {
    /// Whether it is the one that is not mentioned.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What a CPU of this build computes in where a model file asks for this.
    #[must_use]
    pub fn on_cpu(self) -> Self {
        if cfg!(any(not(target_arch = "wasm32"), feature = "relaxed")) { self } else { Self::F32 }
    }
}
