//! Mixed precision: dense convolutions of a training step in 16-bit floats, the rest in 32.
//!
//! Dense convolutions are nearly all of a network's multiplications, and what a GPU's matrix units
//! compute faster in 16 bits. Their inputs are also what a step keeps for the backward pass: they
//! are kept in 16 bits. Weights, normalization, depthwise convolutions (sums over a whole batch in
//! their gradients, and bound by memory), pooling, necks, heads, losses and the optimizer stay in 32.
//!
//! Source: "Mixed Precision Training", <https://arxiv.org/abs/1710.03740>.

use std::cell::RefCell;

use burn::tensor::FloatDType;
use serde::{Deserialize, Serialize};

use super::scoped;

/// A float of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HalfFloat {
    /// 11 significant bits up to 65,504. Small gradients vanish in it unless the loss is scaled.
    F16,
    /// 8 significant bits, as far as 32-bit floats reach.
    Bf16,
}

impl HalfFloat {
    /// Burn's name of it.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<HalfFloat>> = const { RefCell::new(None) };
}

/// Runs a forward pass on a training device with dense convolutions in 16 bits; `None`: in 32.
///
/// The backward pass of what was computed inside does the same, wherever it runs.
pub fn within<R>(half: Option<HalfFloat>, forward: impl FnOnce() -> R) -> R {
    scoped::within(&CURRENT, half, forward)
}

/// What the forward pass that this thread is in takes.
#[cfg_attr(
    not(feature = "train"),
    expect(dead_code, reason = "outside training all is in 32 bits")
)]
pub(super) fn current() -> Option<HalfFloat> {
    CURRENT.with_borrow(|half| *half)
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_leaves_the_thread_as_it_was() {
        within(Some(HalfFloat::Bf16), || {
            let inner = || within(Some(HalfFloat::F16), || panic!("the closure fails"));
            let ended = std::panic::catch_unwind(inner);
            assert!(ended.is_err(), "the panic goes through");
            assert_eq!(current(), Some(HalfFloat::Bf16));
        });
        assert_eq!(current(), None);
    }
}
