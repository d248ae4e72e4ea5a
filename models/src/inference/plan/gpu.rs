//! Plans on a graphics device: all steps of a picture go there at once, and one answer comes back.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use half::f16;
use wgpu::BufferUsages;

use super::memory::Layout;
use super::{Convolution, Layer, Operation, Record, Recorder, Step, Value};
use crate::activation::Activation;
use crate::inference::Arithmetic;
use crate::inference::gpu::{
    Binding, Bindings, Command, Constants, Entry, Gpu, GpuError, Shader, Weights, workgroups,
};
use crate::inference::packed::{Extent, Placement};
use crate::layers::{Gate, GlobalPool, LENGTH_EPSILON, Pick, SCORE_EPSILON, SCORE_MARGIN};

/// Bytes that the maps of a batch may take: half of the 128 MiB that every WebGPU device binds as one buffer.
const MAP_BYTES: usize = 64 << 20;

/// Most pictures of a batch: more at once gain nothing.
const MOST_PICTURES: usize = 8;

/// Bytes of four channels.
const FOUR: usize = 4 * size_of::<f32>();

/// Columns that a workgroup of `vector_product` and `global_pool` makes.
const COLUMNS: usize = 8;

/// A convolution with its weights in the order of its shader.
#[derive(Debug)]
pub(crate) struct Shaded {
    entry: Entry,
    weights: Weights,
    bytes: Vec<u8>,
    bias: Vec<f32>,
    activation: Activation,
    placement: Placement,
}

impl Convolution for Shaded {
    const IN_PLACE: bool = false;
    const KEYS_ACROSS: bool = false;

    // int8 is for processors without matrix units of floats.
    fn new(_: Arithmetic, layer: Layer) -> Self {
        let entry = match (layer.is_depthwise, layer.is_product()) {
            (true, _) => Entry::Depthwise,
            (false, true) if pixels(layer.placement.input) == 1 => Entry::VectorProduct,
            (false, true) => Entry::Product,
            (false, false) => Entry::Windows,
        };
        let values = arranged(&layer);
        // Weights that were stored in 16 bits lose nothing by it.
        let is_half = values.iter().all(|value| f16::from_f32(*value).to_f32() == *value);
        let (weights, bytes) = if is_half {
            let halves = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes());
            (Weights::F16, halves.collect())
        } else {
            (Weights::F32, bytemuck::cast_slice(&values).to_vec())
        };
        let Layer { mut bias, activation, placement, .. } = layer;
        bias.resize(bias.len().next_multiple_of(4), 0.0);
        Self { entry, weights, bytes, bias, activation, placement }
    }

    fn is_open(&self) -> bool {
        self.entry != Entry::Depthwise && self.activation == Activation::Identity
    }

    fn set_activation(&mut self, activation: Activation) {
        self.activation = activation;
    }

    fn join(self, next: Self) -> Result<Self, (Self, Self)> {
        Err((self, next))
    }

    fn room(extent: Extent) -> usize {
        pixels(extent) * fours(extent)
    }
}

/// Weights as `[kernel · kernel, channels_in, channels_out]`, both filled up to fours; one filter a
/// channel as `[kernel · kernel, channels]`.
fn arranged(layer: &Layer) -> Vec<f32> {
    let taps = layer.placement.kernel * layer.placement.kernel;
    let columns = layer.bias.len().next_multiple_of(4);
    let channels = if layer.is_depthwise { 1 } else { layer.placement.input.channels };
    let rows = if layer.is_depthwise { 1 } else { channels.next_multiple_of(4) };
    let mut values = vec![0.0; taps * rows * columns];
    for (index, weight) in layer.weight.iter().enumerate() {
        let (tap, channel) = (index % taps, index / taps % channels);
        let column = index / (taps * channels);
        values[(tap * rows + channel) * columns + column] = *weight;
    }
    values
}

fn pixels(extent: Extent) -> usize {
    extent.height * extent.width
}

fn fours(extent: Extent) -> usize {
    extent.channels.div_ceil(4)
}

/// How much of a step there is to do.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Invocations a picture.
    Each(usize),
    /// Columns that a workgroup shares, of one pixel a picture.
    Columns(usize),
    /// Workgroups of a picture, in two directions.
    Groups([usize; 2]),
}

impl Work {
    fn workgroups(self, pictures: usize) -> [u32; 2] {
        match self {
            Self::Each(invocations) => workgroups(invocations * pictures),
            Self::Columns(columns) => [columns.div_ceil(COLUMNS) as u32, pictures as u32],
            Self::Groups([across, along]) => [across as u32, (along * pictures) as u32],
        }
    }
}

/// A network ready to run for one input size.
#[derive(Debug)]
pub(crate) struct GpuPlan {
    gpu: Arc<Gpu>,
    commands: Vec<(Command, Work)>,
    /// Pictures of a batch.
    batch: usize,
    /// How many pictures there are in the batch that runs.
    pictures: wgpu::Buffer,
    input: (Extent, wgpu::Buffer),
    outputs: Vec<(Extent, wgpu::Buffer)>,
    /// Memory that answers of runs that have ended came back in.
    idle: Mutex<Vec<wgpu::Buffer>>,
}

impl GpuPlan {
    /// Prepares a network, written down by `wire`, for pictures of a size.
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        [height, width]: [usize; 2],
        wire: impl FnOnce(&mut Recorder<Shaded>, Value) -> Vec<Value>,
    ) -> Self {
        let (mut recorder, input) = Recorder::new(Arithmetic::F32, height, width);
        let outputs = wire(&mut recorder, input);
        let record = recorder.finish(outputs);
        let layout = Layout::new(&record);
        let Record { steps, input, outputs, .. } = record;
        let needed = layout.sizes.iter().sum::<usize>() * FOUR;
        let batch = (MAP_BYTES / needed.max(1)).clamp(1, MOST_PICTURES);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let places: Vec<wgpu::Buffer> =
            layout.sizes.iter().map(|size| gpu.room((size * FOUR * batch) as u64, usage)).collect();
        let pictures = gpu.room(16, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        let place = |value: Value| &places[layout.places[value.index]];
        let commands = steps.into_iter().map(|step| command(gpu, step, &pictures, place)).collect();
        let placed = |value: Value| (value.extent, place(value).clone());
        Self {
            commands,
            batch,
            input: placed(input),
            outputs: outputs.into_iter().map(placed).collect(),
            pictures,
            gpu: gpu.clone(),
            idle: Mutex::default(),
        }
    }

    /// Runs the network on this many pictures; `fill` writes the input of the picture of its number.
    ///
    /// # Shapes
    ///
    /// - input: `[height, width, 3]`
    /// - output: `[pictures, values]`, of each picture the outputs one after the other
    ///
    /// # Errors
    ///
    /// [`GpuError::Failed`]
    pub(crate) async fn run(
        &self,
        pictures: usize,
        fill: impl Fn(usize, &mut [f32]),
    ) -> Result<Vec<f32>, GpuError> {
        let mut out = Vec::new();
        for first in (0..pictures).step_by(self.batch) {
            let batch = self.batch.min(pictures - first);
            self.submit_input(batch, |index, input| fill(first + index, input));
            let answers = self.answers(batch).await?;
            self.gpu.check()?;
            let sizes = self.outputs.iter().map(|(extent, _)| Shaded::room(*extent) * 4);
            let starts: Vec<usize> = sizes
                .scan(0, |next, size| {
                    *next += size * batch;
                    Some(*next - size * batch)
                })
                .collect();
            for picture in 0..batch {
                for ((extent, _), start) in self.outputs.iter().zip(&starts) {
                    let size = Shaded::room(*extent) * 4;
                    let values = &answers[start + picture * size..][..size];
                    for pixel in values.chunks_exact(fours(*extent) * 4) {
                        out.extend_from_slice(&pixel[..extent.channels]);
                    }
                }
            }
        }
        Ok(out)
    }

    fn submit_input(&self, batch: usize, fill: impl Fn(usize, &mut [f32])) {
        let (extent, buffer) = &self.input;
        let mut picture = vec![0.0; extent.values()];
        let mut input = Vec::with_capacity(batch * pixels(*extent) * 4);
        for index in 0..batch {
            fill(index, &mut picture);
            for pixel in picture.chunks_exact(extent.channels) {
                input.extend_from_slice(pixel);
                input.resize(input.len().next_multiple_of(4), 0.0);
            }
        }
        self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&input));
        self.gpu.queue.write_buffer(&self.pictures, 0, bytemuck::bytes_of(&(batch as u32)));
    }

    /// Runs all steps and brings the outputs back, each with all of its pictures.
    async fn answers(&self, batch: usize) -> Result<Vec<f32>, GpuError> {
        let device = &self.gpu.device;
        let sizes = |batch: usize| {
            self.outputs
                .iter()
                .map(move |(extent, _)| (Shaded::room(*extent) * FOUR * batch) as u64)
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let back = idle.unwrap_or_else(|| {
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            self.gpu.room(sizes(self.batch).sum(), usage)
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (command, work) in &self.commands {
            command.record(&mut pass, work.workgroups(batch));
        }
        drop(pass);
        let mut bytes = 0;
        for ((_, buffer), size) in self.outputs.iter().zip(sizes(batch)) {
            encoder.copy_buffer_to_buffer(buffer, 0, &back, bytes, size);
            bytes += size;
        }
        self.gpu.queue.submit([encoder.finish()]);
        map(device, &back, bytes).await?;
        let failed = |error: wgpu::MapRangeError| GpuError::Failed { reason: error.to_string() };
        let values = bytemuck::pod_collect_to_vec(&back.get_mapped_range(..bytes).map_err(failed)?);
        back.unmap();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(back);
        Ok(values)
    }
}

/// Waits until the start of a buffer can be read.
async fn map(device: &wgpu::Device, buffer: &wgpu::Buffer, bytes: u64) -> Result<(), GpuError> {
    type Outcome = Result<(), wgpu::BufferAsyncError>;
    let shared: Arc<Mutex<(Option<Outcome>, Option<Waker>)>> = Arc::default();
    let told = shared.clone();
    buffer.map_async(wgpu::MapMode::Read, ..bytes, move |outcome| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.0 = Some(outcome);
        if let Some(waker) = told.1.take() {
            waker.wake();
        }
    });
    // In the browser this does nothing, and its event loop goes on.
    if let Err(error) = device.poll(wgpu::PollType::wait_indefinitely()) {
        return Err(GpuError::Failed { reason: error.to_string() });
    }
    std::future::poll_fn(|context| {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = shared.0.take() {
            return Poll::Ready(outcome);
        }
        shared.1 = Some(context.waker().clone());
        Poll::Pending
    })
    .await
    .map_err(|error| GpuError::Failed { reason: error.to_string() })
}

/// What a shader gets to know about its maps, as `Shape` in `operators.wgsl`.
fn shape(inputs: &[Value], output: Value, padding: [usize; 2]) -> [u32; 12] {
    let (from, to) = (inputs[0].extent, output.extent);
    let other = inputs.get(1).map_or(0, |other| fours(other.extent));
    [
        from.height,
        from.width,
        fours(from),
        from.channels,
        to.height,
        to.width,
        fours(to),
        to.channels,
        padding[0],
        padding[1],
        other,
        inputs.get(1).map_or(0, |other| pixels(other.extent)),
    ]
    .map(|value| value as u32)
}

/// What a step is on a graphics device, without its maps.
struct Shading {
    shader: Shader,
    work: Work,
    /// As `shader.weights` says; empty if there are none.
    weight: Vec<u8>,
    bias: Vec<f32>,
    /// Of a convolution's input: rows above, columns to the left. Of others, what their shader says.
    padding: [usize; 2],
}

impl Shading {
    /// An operator without weights.
    fn plain(entry: Entry, work: Work, constants: Constants) -> Self {
        let shader = Shader { entry, weights: Weights::F32, constants };
        Self { shader, work, weight: Vec::new(), bias: Vec::new(), padding: [0, 0] }
    }

    /// A convolution, to which a second input is added if `is_residual`.
    fn convolution(convolution: Shaded, output: Extent, is_residual: bool) -> Self {
        let Shaded { entry, weights, bytes, bias, activation, placement } = convolution;
        let constants = Constants {
            kernel: placement.kernel as u32,
            stride: placement.stride as u32,
            ..Constants::ending(activation, is_residual)
        };
        let columns = fours(output);
        let work = match entry {
            Entry::VectorProduct => Work::Columns(columns),
            // An invocation makes four pixels of a line, and four channels.
            Entry::Depthwise => Work::Each(output.height * output.width.div_ceil(4) * columns),
            // Four pixels, and twice four channels.
            _ => Work::Each(pixels(output).div_ceil(4) * columns.div_ceil(2)),
        };
        Self {
            shader: Shader { entry, weights, constants },
            work,
            weight: bytes,
            bias,
            padding: [placement.top, placement.left],
        }
    }

    /// An operator with a scale and a shift a channel.
    fn affine(entry: Entry, mut scale: Vec<f32>, mut shift: Vec<f32>, work: Work) -> Self {
        for values in [&mut scale, &mut shift] {
            values.resize(values.len().next_multiple_of(4), 0.0);
        }
        let weight = bytemuck::cast_slice(&scale).to_vec();
        Self { weight, bias: shift, ..Self::plain(entry, work, Constants::default()) }
    }

    /// An operator with two tables of fours; a table without values has one of zeros.
    fn tables(entry: Entry, tables: [Vec<f32>; 2], work: Work) -> Self {
        let [weight, bias] = tables.map(|mut table| {
            table.resize(table.len().max(4), 0.0);
            table
        });
        let weight = bytemuck::cast_slice(&weight).to_vec();
        Self { weight, bias, ..Self::plain(entry, work, Constants::default()) }
    }

    /// What a step with this many inputs does for its output.
    fn new(operation: Operation<Shaded>, inputs: usize, output: Extent) -> Self {
        let each = Work::Each(Shaded::room(output));
        let plain = Constants::default();
        let (entry, constants) = match operation {
            Operation::Convolve(convolution) => {
                return Self::convolution(convolution, output, inputs > 1);
            }
            Operation::Affine { scale, shift } => {
                return Self::affine(Entry::Affine, scale, shift, each);
            }
            Operation::LayerNorm { scale, shift, epsilon } => {
                let work = Work::Each(pixels(output));
                let mut shading = Self::affine(Entry::LayerNorm, scale, shift, work);
                shading.shader.constants.epsilon = epsilon.to_bits();
                return shading;
            }
            Operation::GlobalPool(pool) => {
                let constants = Constants { maximum: pool == GlobalPool::Max, ..plain };
                return Self::plain(Entry::GlobalPool, Work::Columns(fours(output)), constants);
            }
            Operation::Apply(gate) => (Entry::Gate, Constants { gate: gate_number(gate), ..plain }),
            Operation::Activate(activation) => {
                (Entry::Activate, Constants::ending(activation, false))
            }
            Operation::Scale => (Entry::Scale, plain),
            Operation::Add(activation) => (Entry::Add, Constants::ending(activation, false)),
            Operation::Concatenate => (Entry::Concatenate, plain),
            Operation::Upsample => (Entry::Upsample, plain),
            Operation::MaxPool => (Entry::MaxPool, plain),
            Operation::AveragePool => (Entry::AveragePool, plain),
            Operation::AlignedLogit => {
                let epsilon = (SCORE_EPSILON as f32).to_bits();
                let margin = (SCORE_MARGIN as f32).to_bits();
                (Entry::AlignedLogit, Constants { epsilon, margin, ..plain })
            }
            Operation::UnitLength => {
                let epsilon = (LENGTH_EPSILON as f32).to_bits();
                (Entry::UnitLength, Constants { epsilon, ..plain })
            }
            Operation::Multiply => (Entry::Multiply, plain),
            Operation::Tokens { before, added } => {
                let fours = fours(output);
                let padding = [before.len() / (4 * fours), usize::from(!added.is_empty())];
                return Self { padding, ..Self::tables(Entry::Tokens, [before, added], each) };
            }
            Operation::Pixels(first) => {
                return Self { padding: [first, 0], ..Self::plain(Entry::Pixels, each, plain) };
            }
            Operation::Rotate { cosines, sines, before, half } => {
                let padding = [before, half / 4];
                return Self { padding, ..Self::tables(Entry::Rotate, [cosines, sines], each) };
            }
            Operation::Attend { heads } => {
                let work = Work::Groups([pixels(output), heads]);
                let padding = [heads, 0];
                return Self { padding, ..Self::plain(Entry::Attend, work, plain) };
            }
            Operation::Pool(pool) => {
                let [kernel, kernel_x] = pool.kernel.map(|side| side as u32);
                let [stride, stride_x] = pool.stride.map(|step| step as u32);
                let [top, left, below, right] = pool.padding;
                let maximum = pool.pool == GlobalPool::Max;
                let window = [kernel_x, stride_x, below as u32, right as u32];
                let counted = pool.count_padding;
                let constants = Constants { kernel, stride, maximum, window, counted, ..plain };
                let padding = [top, left];
                return Self { padding, ..Self::plain(Entry::Pool, each, constants) };
            }
            Operation::Pick(Pick { start, count, groups }) => {
                let window = [start as u32, count as u32, groups as u32, 0];
                (Entry::Pick, Constants { window, ..plain })
            }
            Operation::Enlarge([down, right]) => {
                (Entry::Enlarge, Constants { window: [down as u32, right as u32, 0, 0], ..plain })
            }
            Operation::Copy => unreachable!("nothing is computed in place"),
            Operation::Transpose(_) => unreachable!("keys are read as they are"),
        };
        Self::plain(entry, each, constants)
    }
}

/// As `GATE` of `operators.wgsl` counts them.
fn gate_number(gate: Gate) -> u32 {
    match gate {
        Gate::Sigmoid => 0,
        Gate::HardSigmoid => 1,
        Gate::Tanh => 2,
    }
}

/// A step's shader with its weights and maps.
fn command<'a>(
    gpu: &Gpu,
    step: Step<Shaded>,
    pictures: &wgpu::Buffer,
    place: impl Fn(Value) -> &'a wgpu::Buffer,
) -> (Command, Work) {
    let Step { operation, inputs, output } = step;
    let Shading { shader, work, weight, bias, padding } =
        Shading::new(operation, inputs.len(), output.extent);
    let shape = shape(&inputs, output, padding);
    let shape = gpu.constant(bytemuck::cast_slice(&shape), BufferUsages::UNIFORM);
    let (weight, bias) = (bytemuck::cast_slice(&weight), bytemuck::cast_slice(&bias));
    let [weight, bias] = [weight, bias].map(|bytes| gpu.constant(bytes, BufferUsages::STORAGE));
    let other = *inputs.get(1).unwrap_or(&inputs[0]);
    let buffer = |binding: Binding| match binding {
        Binding::X => place(inputs[0]),
        Binding::Other => place(other),
        Binding::Third => place(*inputs.get(2).unwrap_or(&inputs[0])),
        Binding::Weight => &weight,
        Binding::Bias => &bias,
        Binding::Out => place(output),
        Binding::Shape => &shape,
        Binding::Run => pictures,
    };
    let bindings: Bindings<'_> =
        shader.entry.bindings().iter().map(|binding| (*binding, buffer(*binding))).collect();
    (gpu.command(shader, &bindings), work)
}
