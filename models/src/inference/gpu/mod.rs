//! Operators of inference on a graphics device, by way of WebGPU in the browser and of Vulkan, Metal
//! or Direct3D natively.
//!
//! The shaders (`operators.wgsl`) take shapes as uniforms, so that a network needs a dozen pipelines
//! whatever its size. Maps lie channels-last, four channels a value; the last value of a pixel is
//! filled up where the channels are no multiple of four.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use wgpu::util::DeviceExt as _;

use crate::activation::Activation;

/// Invocations of a workgroup.
const GROUP: usize = 64;

/// Most workgroups of one dimension, whatever the device.
const MOST_GROUPS: usize = 65_535;

/// Why there is no graphics device, or none any more.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The system or the browser has none to give.
    #[error("there is no graphics device: {reason}; choose the CPU")]
    Missing {
        /// What it said.
        reason: String,
    },
    /// It refused a command or stopped answering.
    #[error("the graphics device failed: {reason}; reload, or choose the CPU")]
    Failed {
        /// What it said.
        reason: String,
    },
}

/// A graphics device, and the pipelines that it has compiled.
#[derive(Debug)]
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// The shaders, for weights of 32 and of 16 bits.
    modules: [wgpu::ShaderModule; 2],
    pipelines: Mutex<HashMap<Shader, wgpu::ComputePipeline>>,
    /// The first thing that went wrong.
    failure: Arc<Mutex<Option<String>>>,
}

/// A shader's entry point, as one of the operators needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shader {
    pub(crate) entry: Entry,
    pub(crate) weights: Weights,
    pub(crate) constants: Constants,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Weights {
    F32,
    F16,
}

/// What a pipeline is compiled for. Every entry point reads some of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Constants {
    /// As [`Activation`] counts them.
    pub(crate) activation: u32,
    pub(crate) residual: bool,
    pub(crate) kernel: u32,
    pub(crate) stride: u32,
    pub(crate) gate: u32,
    pub(crate) maximum: bool,
    /// Bits of a 32-bit float.
    pub(crate) epsilon: u32,
    /// Bits of a 32-bit float.
    pub(crate) margin: u32,
    /// What one entry point alone is told: of a pool the kernel's columns, the stride to the right, and the padding
    /// below and to the right; of channels that are picked the first, how many, and their groups; factors.
    pub(crate) window: [u32; 4],
    /// Whether a mean divides by padding, too.
    pub(crate) counted: bool,
}

impl Constants {
    /// Those of an operator that ends with an activation.
    pub(crate) fn ending(activation: Activation, residual: bool) -> Self {
        Self { activation: activation as u32, residual, ..Self::default() }
    }

    fn values(self) -> [(&'static str, f64); 13] {
        [
            ("ACTIVATION", self.activation.into()),
            ("RESIDUAL", self.residual.into()),
            ("KERNEL", self.kernel.into()),
            ("STRIDE", self.stride.into()),
            ("GATE", self.gate.into()),
            ("MAXIMUM", self.maximum.into()),
            ("EPSILON", f32::from_bits(self.epsilon).into()),
            ("MARGIN", f32::from_bits(self.margin).into()),
            ("WINDOW_A", self.window[0].into()),
            ("WINDOW_B", self.window[1].into()),
            ("WINDOW_C", self.window[2].into()),
            ("WINDOW_D", self.window[3].into()),
            ("COUNTED", self.counted.into()),
        ]
    }
}

/// What an entry point reads or writes, as `operators.wgsl` numbers its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The first input.
    X = 0,
    /// The second input.
    Other = 1,
    Weight = 2,
    Bias = 3,
    Out = 4,
    Shape = 5,
    /// How many images there are.
    Run = 6,
    /// The third input.
    Third = 7,
}

/// The inputs of a shader: binding and buffer.
pub(crate) type Bindings<'a> = Vec<(Binding, &'a wgpu::Buffer)>;

/// The entry points of `operators.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Activate,
    Add,
    Affine,
    AlignedLogit,
    Attend,
    AveragePool,
    Concatenate,
    Depthwise,
    Enlarge,
    Gate,
    GlobalPool,
    LayerNorm,
    MaxPool,
    Multiply,
    Pick,
    Pixels,
    Pool,
    Product,
    Rotate,
    Scale,
    Tokens,
    UnitLength,
    Upsample,
    VectorProduct,
    Windows,
}

impl Entry {
    /// Its function.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Add => "add",
            Self::Affine => "affine",
            Self::AlignedLogit => "aligned_logit",
            Self::Attend => "attend",
            Self::AveragePool => "average_pool",
            Self::Concatenate => "concatenate",
            Self::Depthwise => "depthwise",
            Self::Enlarge => "enlarge",
            Self::Gate => "gate",
            Self::GlobalPool => "global_pool",
            Self::LayerNorm => "layer_norm",
            Self::MaxPool => "max_pool",
            Self::Multiply => "multiply",
            Self::Pick => "pick",
            Self::Pixels => "pixels",
            Self::Pool => "pool",
            Self::Product => "product",
            Self::Rotate => "rotate",
            Self::Scale => "scale",
            Self::Tokens => "tokens",
            Self::UnitLength => "unit_length",
            Self::Upsample => "upsample",
            Self::VectorProduct => "vector_product",
            Self::Windows => "windows",
        }
    }

    /// What it reads and writes: a pipeline has no place for anything else.
    pub(crate) const fn bindings(self) -> &'static [Binding] {
        match self {
            Self::Product | Self::Windows | Self::Depthwise => &[
                Binding::X,
                Binding::Other,
                Binding::Weight,
                Binding::Bias,
                Binding::Out,
                Binding::Shape,
                Binding::Run,
            ],
            Self::VectorProduct => &[
                Binding::X,
                Binding::Other,
                Binding::Weight,
                Binding::Bias,
                Binding::Out,
                Binding::Shape,
            ],
            Self::GlobalPool => &[Binding::X, Binding::Out, Binding::Shape],
            Self::Attend => {
                &[Binding::X, Binding::Other, Binding::Third, Binding::Out, Binding::Shape]
            }
            Self::Affine | Self::LayerNorm | Self::Rotate | Self::Tokens => &[
                Binding::X,
                Binding::Weight,
                Binding::Bias,
                Binding::Out,
                Binding::Shape,
                Binding::Run,
            ],
            Self::Scale | Self::Add | Self::Concatenate | Self::AlignedLogit | Self::Multiply => {
                &[Binding::X, Binding::Other, Binding::Out, Binding::Shape, Binding::Run]
            }
            Self::Activate
            | Self::AveragePool
            | Self::Enlarge
            | Self::Gate
            | Self::MaxPool
            | Self::Pick
            | Self::Pixels
            | Self::Pool
            | Self::UnitLength
            | Self::Upsample => &[Binding::X, Binding::Out, Binding::Shape, Binding::Run],
        }
    }
}

/// A shader with all that it reads and writes.
#[derive(Debug)]
pub(crate) struct Command {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
}

impl Command {
    /// Runs it in this many workgroups.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, [columns, rows]: [u32; 2]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(columns, rows, 1);
    }
}

/// Workgroups for this many invocations.
pub(crate) fn workgroups(invocations: usize) -> [u32; 2] {
    let groups = invocations.div_ceil(GROUP);
    let rows = groups.div_ceil(MOST_GROUPS).max(1);
    [groups.div_ceil(rows) as u32, rows as u32]
}

impl Gpu {
    /// Asks for a device.
    ///
    /// # Errors
    ///
    /// [`GpuError::Missing`]
    pub async fn open() -> Result<Arc<Self>, GpuError> {
        let missing =
            |reason: &dyn std::fmt::Display| GpuError::Missing { reason: reason.to_string() };
        let instance = wgpu::Instance::default();
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await.map_err(|error| missing(&error))?;
        let descriptor = wgpu::DeviceDescriptor::default();
        let (device, queue) =
            adapter.request_device(&descriptor).await.map_err(|error| missing(&error))?;
        let failure: Arc<Mutex<Option<String>>> = Arc::default();
        let note = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            let mut failure = note.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| error.to_string());
        }));
        let operators = include_str!("operators.wgsl");
        let module = |weight: &str| {
            let source = wgpu::ShaderSource::Wgsl(format!("{weight}\n{operators}").into());
            device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source })
        };
        let modules = [
            module("alias Weight = vec4<f32>; fn weights(w: Weight) -> vec4<f32> { return w; }"),
            module(
                "alias Weight = vec2<u32>; fn weights(w: Weight) -> vec4<f32> {
                    return vec4(unpack2x16float(w.x), unpack2x16float(w.y));
                }",
            ),
        ];
        let pipelines = Mutex::default();
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "the browser's handles stay in their thread"
        )]
        Ok(Arc::new(Self { device, queue, modules, pipelines, failure }))
    }

    /// The first thing that went wrong, if anything did.
    ///
    /// # Errors
    ///
    /// [`GpuError::Failed`]
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), |reason| Err(GpuError::Failed { reason }))
    }

    /// Puts a shader and its buffers together.
    pub(crate) fn command(&self, shader: Shader, bindings: &Bindings<'_>) -> Command {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = pipelines.entry(shader).or_insert_with(|| self.compile(shader)).clone();
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
            .iter()
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: *binding as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Command { pipeline, group }
    }

    fn compile(&self, shader: Shader) -> wgpu::ComputePipeline {
        let constants = shader.constants.values();
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.entry.name()),
            // From the bindings that the entry point reads.
            layout: None,
            module: &self.modules[usize::from(shader.weights == Weights::F16)],
            entry_point: Some(shader.entry.name()),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Each invocation writes its part before any is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }

    /// A buffer with contents that stay.
    pub(crate) fn constant(&self, contents: &[u8], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::util::BufferInitDescriptor { label: None, contents, usage };
        self.device.create_buffer_init(&descriptor)
    }

    /// A buffer for this many bytes.
    pub(crate) fn room(&self, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let mapped_at_creation = false;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation };
        self.device.create_buffer(&descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Entry; 25] = [
        Entry::Activate,
        Entry::Add,
        Entry::Affine,
        Entry::AlignedLogit,
        Entry::Attend,
        Entry::AveragePool,
        Entry::Concatenate,
        Entry::Depthwise,
        Entry::Enlarge,
        Entry::Gate,
        Entry::GlobalPool,
        Entry::LayerNorm,
        Entry::MaxPool,
        Entry::Multiply,
        Entry::Pick,
        Entry::Pixels,
        Entry::Pool,
        Entry::Product,
        Entry::Rotate,
        Entry::Scale,
        Entry::Tokens,
        Entry::UnitLength,
        Entry::Upsample,
        Entry::VectorProduct,
        Entry::Windows,
    ];

    #[test]
    fn every_entry_point_of_the_shaders_is_known() {
        let text = include_str!("operators.wgsl");
        let points = text.split("@compute").skip(1).filter_map(|rest| {
            let function = rest.split("fn ").nth(1)?;
            function.split('(').next()
        });
        let mut names: Vec<&str> = points.collect();
        names.sort_unstable();
        assert_eq!(names, ALL.map(Entry::name));
    }
}
