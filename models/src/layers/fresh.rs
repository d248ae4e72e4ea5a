//! Parameters of a fresh network, made when they are first asked for: loading weights makes none.
//!
//! Burn's own initializers would bring every rule that they know, a QR decomposition among them,
//! into the browser's module.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Distribution, Tensor};

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
