//! Parameters of a fresh network, made when they are first asked for: loading weights makes none.
//!
//! Burn's own initializers would bring every rule that they know, a QR decomposition among them.

pub use burn::module::{Module, Param, RunningState};
pub use burn::tensor::{Device, Tensor};

use burn::module::ParamId;
use burn::tensor::Distribution;

/// The device of a network that is packed for another processor than Burn's.
#[cfg(feature = "flex")]
pub(crate) fn host() -> Device {
    Device::flex()
}

/// The device of a network that is packed for another processor than Burn's.
#[cfg(not(feature = "flex"))]
pub(crate) fn host() -> Device {
    Device::default()
}

/// Drawn from `N(0, std)`.
pub(crate) fn normal<const D: usize>(
    shape: [usize; D],
    std: f64,
    device: &Device,
) -> Param<Tensor<D>> {
    parameter(shape, device, move |device| {
        Tensor::random(shape, Distribution::Normal(0.0, std), device)
    })
}

/// One value everywhere.
pub(crate) fn constant<const D: usize>(
    shape: [usize; D],
    value: f32,
    device: &Device,
) -> Param<Tensor<D>> {
    parameter(shape, device, move |device| Tensor::full(shape, value, device))
}

/// Statistics of so many channels that follow training, one value everywhere.
pub(crate) fn state(channels: usize, value: f32, device: &Device) -> RunningState<Tensor<1>> {
    RunningState::new(Tensor::full([channels], value, device))
}

/// The parameter, which training leaves as it is.
pub(crate) fn frozen<const D: usize>(param: Param<Tensor<D>>) -> Param<Tensor<D>> {
    param.set_require_grad(false)
}

/// The values of a parameter on the CPU, row-major.
pub(crate) fn of_param<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
    values_of(param.val())
}

/// The values of statistics on the CPU.
pub(crate) fn of_state(state: &RunningState<Tensor<1>>) -> Vec<f32> {
    values_of(state.value())
}

/// The values of a tensor of floats on the CPU, row-major.
pub fn values_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("parameters are 32-bit floats")
}

fn parameter<const D: usize>(
    shape: [usize; D],
    device: &Device,
    make: impl Fn(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, trainable| {
            let tensor = make(device);
            if trainable { tensor.require_grad() } else { tensor }
        },
        device.clone(),
        true,
        shape.into(),
    )
}
