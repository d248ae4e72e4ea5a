//! A network ready to run on a device, with the preprocessing that it was trained with.
//!
//! On the CPU and on graphics devices (`crate::inference::gpu`) that is a plan (`crate::inference::plan`), on
//! Burn's others the module itself. Trainer, tests and browser run networks through
//! [`Prepared::run`] alone, so that all of them see the same numbers.

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "webgpu")]
use std::sync::Arc;

#[cfg(all(feature = "cube", feature = "flex"))]
use burn::backend::DispatchDevice;
#[cfg(feature = "cube")]
use burn::tensor::Tensor;
use thiserror::Error;

use crate::image::RgbImage;
use crate::inference::Arithmetic;
#[cfg(feature = "webgpu")]
use crate::inference::gpu::{Gpu, GpuError};
#[cfg(feature = "cube")]
use crate::layers::Eager;
use crate::layers::Flow;
#[cfg(feature = "cube")]
use crate::operators::channels_last;
use crate::preprocess::Preprocess;
use crate::values::{Device, host};

/// Pictures that a GPU gets at once; bounds the memory of a gallery build.
#[cfg(feature = "cube")]
const MAX_BATCH: usize = 32;

/// Why a network gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The device stopped answering.
    #[error("the device failed: {reason}; reload, or choose the CPU")]
    Device {
        /// What the device said.
        reason: String,
    },
    /// The graphics device stopped answering.
    #[cfg(feature = "webgpu")]
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A tensor came back in another form than floats.
    #[error("the device returned no floats: {reason}; choose the CPU")]
    Data {
        /// What came back.
        reason: String,
    },
}

/// What a [`Prepared`] can be made of.
pub trait Network: Clone {
    /// What else has to be known to read its answer.
    type Reading: Clone + fmt::Debug;

    /// How the answer is read.
    fn reading(&self) -> Self::Reading;

    /// From a picture to the maps that are the answer.
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map>;
}

/// What networks run on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// A device of Burn's.
    Device(Device),
    /// A graphics device with kernels of our own.
    #[cfg(feature = "webgpu")]
    Gpu(Arc<Gpu>),
}

impl From<&Device> for Target {
    fn from(device: &Device) -> Self {
        Self::Device(device.clone())
    }
}

#[cfg(feature = "webgpu")]
impl From<&Arc<Gpu>> for Target {
    fn from(gpu: &Arc<Gpu>) -> Self {
        Self::Gpu(gpu.clone())
    }
}

impl Target {
    /// The processor that the program runs on.
    pub fn cpu() -> Self {
        Self::Device(host())
    }

    /// Where weights lie before they are packed.
    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Device(device) => device.clone(),
            #[cfg(feature = "webgpu")]
            Self::Gpu(_) => host(),
        }
    }
}

/// A network that is ready to run on a device.
#[derive(Debug)]
pub struct Prepared<N: Network> {
    preprocess: Preprocess,
    arithmetic: Arithmetic,
    reading: N::Reading,
    runner: Runner<N>,
}

#[derive(Debug)]
enum Runner<N> {
    Plan(crate::inference::plan::Plan, PhantomData<N>),
    #[cfg(feature = "webgpu")]
    Gpu(crate::inference::plan::GpuPlan),
    #[cfg(feature = "cube")]
    Module(N, Device),
}

impl<N: Network> Prepared<N> {
    /// Prepares a network for a target, whose weights are on the target's device.
    pub fn new(network: &N, preprocess: &Preprocess, target: impl Into<Target>) -> Self {
        Self::with_arithmetic(network, preprocess, Arithmetic::F32, target)
    }

    /// [`Self::new`] with products computed as a model file says.
    pub fn with_arithmetic(
        network: &N,
        preprocess: &Preprocess,
        arithmetic: Arithmetic,
        target: impl Into<Target>,
    ) -> Self {
        let runner = match target.into() {
            Target::Device(device) => Runner::new(network, preprocess, arithmetic, &device),
            #[cfg(feature = "webgpu")]
            Target::Gpu(gpu) => {
                let size = [preprocess.height as usize, preprocess.width as usize];
                let wire = |flow: &mut _, input| network.wire(flow, input);
                Runner::Gpu(crate::inference::plan::GpuPlan::new(&gpu, size, wire))
            }
        };
        let arithmetic = match &runner {
            Runner::Plan(..) => arithmetic.on_cpu(),
            #[cfg(any(feature = "webgpu", feature = "cube"))]
            _ => Arithmetic::F32,
        };
        let reading = network.reading();
        Self { preprocess: preprocess.clone(), arithmetic, reading, runner }
    }

    /// What products are computed in here.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// How the network's answer is read.
    pub fn reading(&self) -> &N::Reading {
        &self.reading
    }

    /// How a picture becomes the network's input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The network's answers to pictures of any size.
    ///
    /// # Shapes
    ///
    /// - output: `[images.len(), values]`, row-major
    ///
    /// # Errors
    ///
    /// [`RunError`]
    #[cfg_attr(
        not(any(feature = "cube", feature = "webgpu")),
        expect(clippy::unused_async, reason = "only a GPU has to be waited for")
    )]
    pub async fn run(&self, images: &[RgbImage]) -> Result<Vec<f32>, RunError> {
        match &self.runner {
            Runner::Plan(plan, _) => {
                let mut out = vec![0.0; images.len() * plan.output_values()];
                let preprocess = &self.preprocess;
                plan.run_batch(|index, input| preprocess.fill(&images[index], input), &mut out);
                Ok(out)
            }
            #[cfg(feature = "webgpu")]
            Runner::Gpu(plan) => {
                let preprocess = &self.preprocess;
                let fill = |index: usize, input: &mut [f32]| preprocess.fill(&images[index], input);
                Ok(plan.run(images.len(), fill).await?)
            }
            #[cfg(feature = "cube")]
            Runner::Module(network, device) => {
                let mut out = Vec::new();
                for batch in images.chunks(MAX_BATCH) {
                    out.extend(run_module(network, self.preprocess.apply(batch, device)).await?);
                }
                Ok(out)
            }
        }
    }
}

impl<N: Network> Runner<N> {
    #[cfg(feature = "cube")]
    fn new(network: &N, preprocess: &Preprocess, arithmetic: Arithmetic, device: &Device) -> Self {
        // Training wraps the device; the network is the same.
        let device = device.clone().without_autodiff();
        if is_cpu(&device) {
            Self::plan(network, preprocess, arithmetic)
        } else {
            Self::Module(network.clone(), device)
        }
    }

    /// The processor is the only device of this build.
    #[cfg(not(feature = "cube"))]
    fn new(network: &N, preprocess: &Preprocess, arithmetic: Arithmetic, _: &Device) -> Self {
        Self::plan(network, preprocess, arithmetic)
    }

    fn plan(network: &N, preprocess: &Preprocess, arithmetic: Arithmetic) -> Self {
        let size = [preprocess.height as usize, preprocess.width as usize];
        let wire = |flow: &mut _, input| network.wire(flow, input);
        Self::Plan(crate::inference::plan::Plan::new(arithmetic, size, wire), PhantomData)
    }
}

#[cfg(all(feature = "cube", feature = "flex"))]
fn is_cpu(device: &Device) -> bool {
    matches!(device.as_dispatch(), DispatchDevice::Flex(_))
}

#[cfg(all(feature = "cube", not(feature = "flex")))]
fn is_cpu(_: &Device) -> bool {
    false
}

/// # Shapes
///
/// - `input`: `[batch, 3, height, width]`
/// - output: `[batch, values]`, row-major
#[cfg(feature = "cube")]
async fn run_module<N: Network>(network: &N, input: Tensor<4>) -> Result<Vec<f32>, RunError> {
    let maps = network.wire(&mut Eager, channels_last(input));
    let rows: Vec<Tensor<2>> = maps.into_iter().map(|map| map.flatten(1, 3)).collect();
    Tensor::cat(rows, 1)
        .into_data_async()
        .await
        .map_err(|error| RunError::Device { reason: error.to_string() })?
        .convert::<f32>()
        .try_into_vec()
        .map_err(|error| RunError::Data { reason: format!("{error:?}") })
}
