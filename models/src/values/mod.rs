//! What a network's definition is made of: parameters, and the device that they are on.
//!
//! With the feature `tensors` these are Burn's, which train and run on every backend. Without it a parameter
//! holds its shape and its values alone (`held`): all that an inference plan packs, for a program that
//! compiles no tensor library. A definition imports both from here and is the same source.

#[cfg(any(test, not(feature = "tensors")))]
#[cfg_attr(
    feature = "tensors",
    allow(dead_code, unreachable_pub, reason = "only its tests use it beside Burn's")
)]
pub(crate) mod held;
#[cfg(feature = "tensors")]
mod tensors;

#[cfg(not(feature = "tensors"))]
pub use held::{Device, Module, Param, RunningState, Tensor};
#[cfg(not(feature = "tensors"))]
pub(crate) use held::{constant, frozen, host, normal, of_param, of_state, state};
#[cfg(feature = "tensors")]
pub use tensors::{Device, Module, Param, RunningState, Tensor, values_of};
#[cfg(feature = "tensors")]
pub(crate) use tensors::{constant, frozen, host, normal, of_param, of_state, state};
