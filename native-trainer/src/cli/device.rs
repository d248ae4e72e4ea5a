//! Which device a command computes on.

use burn::tensor::Device;
use clap::ValueEnum;
use models::prepared::Target;

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DeviceKind {
    /// This machine's processor.
    #[default]
    Cpu,
    /// NVIDIA GPUs, the first one first.
    #[cfg(feature = "cuda")]
    Cuda,
    /// The best GPU: through Vulkan, Metal or Direct3D.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl DeviceKind {
    /// The device, for training.
    pub fn open(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        }
    }

    /// What networks run on outside training.
    ///
    /// # Errors
    ///
    /// Where there is no such device.
    pub fn target(self) -> anyhow::Result<Target> {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Target::from(&pollster::block_on(models::kernels::gpu::Gpu::open())?)),
            device => Ok(Target::from(&device.open())),
        }
    }

    /// The device behind `index` others of its kind. The processor is as many devices as are asked
    /// for, which share its cores.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(unused_variables, reason = "processors are not counted")
    )]
    pub fn open_next(self, index: usize) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(index),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(index)),
        }
    }
}
