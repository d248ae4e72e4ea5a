//! The operators of [`NetworkOps`] as loops over `f32` slices for the CPU backend.
//!
//! A depthwise convolution of stride `s` is a sum of `k²` shifted copies of the padded input. Each
//! plane is split into its `s²` phases (every `s`-th row and column), so that every shift is one
//! contiguous run over a whole plane and the inner loops are plain multiply-adds for any stride.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::TensorData;
use pulp::Arch;

use super::{Activation, NetworkOps};

/// How one plane of a depthwise convolution is laid out in phases.
#[derive(Clone, Copy)]
struct Phases {
    width: usize,
    out_height: usize,
    out_width: usize,
    stride: usize,
    padding: usize,
    /// Columns of a phase plane; rows of the output are spread to this width too.
    row: usize,
    /// Values of one phase plane, with slack for the last shift.
    plane: usize,
    /// Values of one output plane spread to `row` columns.
    spread: usize,
}

impl Phases {
    fn new(height: usize, width: usize, kernel: usize, stride: usize) -> Self {
        let padding = (kernel - 1) / 2;
        let out_height = (height + 2 * padding - kernel) / stride + 1;
        let out_width = (width + 2 * padding - kernel) / stride + 1;
        let row = (width + 2 * padding).div_ceil(stride);
        let rows = (height + 2 * padding).div_ceil(stride);
        let spread = out_height * row;
        let plane = (rows * row).max(spread + ((kernel - 1) / stride) * (row + 1));
        Self { width, out_height, out_width, stride, padding, row, plane, spread }
    }

    fn buffer(&self) -> Vec<f32> {
        vec![0.0; self.plane * self.stride * self.stride]
    }

    /// Position of input pixel `(y, x)` in the phase buffer.
    #[inline(always)]
    fn index(&self, y: usize, x: usize) -> usize {
        let (y, x, s) = (y + self.padding, x + self.padding, self.stride);
        ((y % s) * s + x % s) * self.plane + (y / s) * self.row + x / s
    }

    /// Where the shift of tap `(ky, kx)` starts.
    #[inline(always)]
    fn tap(&self, ky: usize, kx: usize) -> usize {
        let s = self.stride;
        ((ky % s) * s + kx % s) * self.plane + (ky / s) * self.row + kx / s
    }

    #[inline(always)]
    fn scatter(&self, plane: &[f32], buffer: &mut [f32]) {
        for (y, line) in plane.chunks_exact(self.width).enumerate() {
            if self.stride == 1 {
                let start = self.index(y, 0);
                buffer[start..start + self.width].copy_from_slice(line);
            } else {
                for (x, value) in line.iter().enumerate() {
                    buffer[self.index(y, x)] = *value;
                }
            }
        }
    }

    #[inline(always)]
    fn gather(&self, buffer: &[f32], plane: &mut [f32]) {
        for (y, line) in plane.chunks_exact_mut(self.width).enumerate() {
            for (x, value) in line.iter_mut().enumerate() {
                *value = buffer[self.index(y, x)];
            }
        }
    }

    #[inline(always)]
    fn spread_rows(&self, out: &[f32], spread: &mut [f32]) {
        for (line, target) in
            out.chunks_exact(self.out_width).zip(spread.chunks_exact_mut(self.row))
        {
            target[..self.out_width].copy_from_slice(line);
        }
    }
}

#[inline(always)]
fn add_scaled(target: &mut [f32], source: &[f32], factor: f32) {
    for (t, s) in target.iter_mut().zip(source) {
        *t += s * factor;
    }
}

/// Dot product with sixteen running sums, so that it vectorises without reordering by the compiler.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..16 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Runs `work(index, chunk)` for every chunk of `length` values, on all threads if there are any.
fn for_chunks(data: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if length == 0 {
        return;
    }
    let arch = Arch::new();
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        data.par_chunks_mut(length)
            .enumerate()
            .for_each(|(index, chunk)| arch.dispatch(|| work(index, chunk)));
    }
    #[cfg(not(feature = "parallel"))]
    for (index, chunk) in data.chunks_mut(length).enumerate() {
        arch.dispatch(|| work(index, chunk));
    }
}

fn tensor(data: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape.into()))
}

/// Contiguous `f32` view of a tensor, copied only where its layout is not contiguous.
struct View(FlexTensor);

impl View {
    fn new(tensor: &FlexTensor) -> Self {
        let contiguous = tensor.is_contiguous() && tensor.as_slice::<f32>().is_some();
        Self(if contiguous { tensor.clone() } else { tensor.to_contiguous() })
    }

    fn values(&self) -> &[f32] {
        let length = self.0.layout().num_elements();
        let start = self.0.layout().start_offset();
        &self.0.storage::<f32>()[start..start + length]
    }
}

impl NetworkOps for Flex {
    fn depthwise(x: FlexTensor, weight: FlexTensor, stride: usize) -> FlexTensor {
        let [batch, channels, height, width] = x.shape().dims();
        let [_, _, kernel, _] = weight.shape().dims();
        let phases = Phases::new(height, width, kernel, stride);
        let (x, weight) = (View::new(&x), View::new(&weight));
        let (x, weight) = (x.values(), weight.values());
        let out_plane = phases.out_height * phases.out_width;
        let mut out = vec![0.0; batch * channels * out_plane];
        for_chunks(&mut out, channels * out_plane, |b, image| {
            let mut buffer = phases.buffer();
            let mut sums = vec![0.0; phases.spread];
            for (c, plane) in image.chunks_exact_mut(out_plane).enumerate() {
                let start = (b * channels + c) * height * width;
                phases.scatter(&x[start..start + height * width], &mut buffer);
                sums.fill(0.0);
                let taps = &weight[c * kernel * kernel..(c + 1) * kernel * kernel];
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let shifted = &buffer[phases.tap(ky, kx)..][..phases.spread];
                        add_scaled(&mut sums, shifted, taps[ky * kernel + kx]);
                    }
                }
                for (line, row) in
                    plane.chunks_exact_mut(phases.out_width).zip(sums.chunks_exact(phases.row))
                {
                    line.copy_from_slice(&row[..phases.out_width]);
                }
            }
        });
        tensor(out, [batch, channels, phases.out_height, phases.out_width])
    }

    fn depthwise_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        stride: usize,
    ) -> (FlexTensor, FlexTensor) {
        let [batch, channels, height, width] = x.shape().dims();
        let [_, _, kernel, _] = weight.shape().dims();
        let phases = Phases::new(height, width, kernel, stride);
        let (x, weight, grad) = (View::new(&x), View::new(&weight), View::new(&grad));
        let (x, weight, grad) = (x.values(), weight.values(), grad.values());
        let (plane, out_plane) = (height * width, phases.out_height * phases.out_width);
        let taps = kernel * kernel;

        // One output chunk holds an image's input gradient followed by its share of the weight
        // gradient, so that both come out of one pass over the image without locks.
        let (dx_length, dw_length) = (channels * plane, channels * taps);
        let mut both = vec![0.0; batch * (dx_length + dw_length)];
        for_chunks(&mut both, dx_length + dw_length, |b, chunk| {
            let (dx, dw) = chunk.split_at_mut(dx_length);
            let mut buffer = phases.buffer();
            let mut dx_buffer = phases.buffer();
            let mut spread = vec![0.0; phases.spread];
            for c in 0..channels {
                let image = b * channels + c;
                phases.scatter(&x[image * plane..(image + 1) * plane], &mut buffer);
                phases.spread_rows(&grad[image * out_plane..(image + 1) * out_plane], &mut spread);
                dx_buffer.fill(0.0);
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let tap = c * taps + ky * kernel + kx;
                        let start = phases.tap(ky, kx);
                        dw[tap] = dot(&buffer[start..][..phases.spread], &spread);
                        add_scaled(&mut dx_buffer[start..][..phases.spread], &spread, weight[tap]);
                    }
                }
                phases.gather(&dx_buffer, &mut dx[c * plane..(c + 1) * plane]);
            }
        });
        let mut dx = Vec::with_capacity(batch * dx_length);
        let mut dw = vec![0.0; dw_length];
        for chunk in both.chunks_exact(dx_length + dw_length) {
            dx.extend_from_slice(&chunk[..dx_length]);
            for (sum, value) in dw.iter_mut().zip(&chunk[dx_length..]) {
                *sum += value;
            }
        }
        (tensor(dx, [batch, channels, height, width]), tensor(dw, [channels, 1, kernel, kernel]))
    }

    fn norm_act(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        activation: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [batch, channels, height, width] = x.shape().dims();
        let plane = height * width;
        let (x, gamma, beta) = (View::new(&x), View::new(&gamma), View::new(&beta));
        let (x, gamma, beta) = (x.values(), gamma.values(), beta.values());

        // (mean, variance) a channel; two passes, because E[x²] − E[x]² cancels in f32.
        let count = (batch * plane) as f32;
        let mut stats = vec![0.0; channels * 2];
        for_chunks(&mut stats, 2, |c, stat| {
            let planes = || (0..batch).map(move |b| &x[(b * channels + c) * plane..][..plane]);
            let mean = planes().map(sum).sum::<f32>() / count;
            let variance = planes().map(|p| squared_deviation(p, mean)).sum::<f32>() / count;
            stat[0] = mean;
            stat[1] = variance;
        });

        let activation = Activation::from_index(activation);
        let mut out = vec![0.0; x.len()];
        for_chunks(&mut out, channels * plane, |b, image| {
            for (c, out) in image.chunks_exact_mut(plane).enumerate() {
                let (scale, shift) = affine(&stats, gamma, beta, c, epsilon);
                let input = &x[(b * channels + c) * plane..][..plane];
                match activation {
                    Activation::Identity => {
                        out.iter_mut().zip(input).for_each(|(o, x)| *o = x * scale + shift);
                    }
                    Activation::Relu => out
                        .iter_mut()
                        .zip(input)
                        .for_each(|(o, x)| *o = (x * scale + shift).max(0.0)),
                    Activation::HardSwish => out.iter_mut().zip(input).for_each(|(o, x)| {
                        let z = x * scale + shift;
                        *o = z * (z * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0);
                    }),
                }
            }
        });
        let mean = stats.iter().step_by(2).copied().collect();
        let variance = stats.iter().skip(1).step_by(2).copied().collect();
        (
            tensor(out, [batch, channels, height, width]),
            tensor(mean, [channels]),
            tensor(variance, [channels]),
        )
    }

    fn norm_act_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        grad: FlexTensor,
        epsilon: f64,
        activation: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [batch, channels, height, width] = x.shape().dims();
        let plane = height * width;
        let (x, grad) = (View::new(&x), View::new(&grad));
        let (x, grad) = (x.values(), grad.values());
        let (gamma, beta) = (View::new(&gamma), View::new(&beta));
        let (gamma, beta) = (gamma.values(), beta.values());
        let (mean, variance) = (View::new(&mean), View::new(&variance));
        let stats: Vec<f32> =
            mean.values().iter().zip(variance.values()).flat_map(|(m, v)| [*m, *v]).collect();
        let activation = Activation::from_index(activation);

        // (Σ grad, Σ grad·x̂) a channel, the gradient taken before the activation.
        let mut sums = vec![0.0; channels * 2];
        for_chunks(&mut sums, 2, |c, sums| {
            let (scale, shift) = affine(&stats, gamma, beta, c, epsilon);
            let (mean, inverse) = (stats[2 * c], inverse_deviation(stats[2 * c + 1], epsilon));
            let mut scratch = vec![0.0; plane];
            for b in 0..batch {
                let start = (b * channels + c) * plane;
                let input = &x[start..start + plane];
                let grad = &grad[start..start + plane];
                before_activation(&mut scratch, input, grad, scale, shift, activation);
                sums[0] += sum(&scratch);
                sums[1] += (dot(&scratch, input) - mean * sum(&scratch)) * inverse;
            }
        });

        let count = (batch * plane) as f32;
        let mut dx = vec![0.0; x.len()];
        for_chunks(&mut dx, channels * plane, |b, image| {
            for (c, dx) in image.chunks_exact_mut(plane).enumerate() {
                let start = (b * channels + c) * plane;
                let input = &x[start..start + plane];
                let (scale, shift) = affine(&stats, gamma, beta, c, epsilon);
                before_activation(dx, input, &grad[start..start + plane], scale, shift, activation);
                // dx = scale·(g − mean g − x̂·mean(g·x̂)), written as a·g + b·x + c.
                let inverse = inverse_deviation(stats[2 * c + 1], epsilon);
                let slope = -scale * sums[2 * c + 1] / count * inverse;
                let offset = -scale * sums[2 * c] / count - slope * stats[2 * c];
                for (d, x) in dx.iter_mut().zip(input) {
                    *d = *d * scale + x * slope + offset;
                }
            }
        });
        let beta_grad = sums.iter().step_by(2).copied().collect();
        let gamma_grad = sums.iter().skip(1).step_by(2).copied().collect();
        (
            tensor(dx, [batch, channels, height, width]),
            tensor(gamma_grad, [channels]),
            tensor(beta_grad, [channels]),
        )
    }
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..16 {
            sums[lane] += chunk[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn squared_deviation(values: &[f32], mean: f32) -> f32 {
    let mut sums = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|x| (x - mean) * (x - mean)).sum();
    for chunk in chunks {
        for lane in 0..16 {
            let d = chunk[lane] - mean;
            sums[lane] += d * d;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn inverse_deviation(variance: f32, epsilon: f64) -> f32 {
    1.0 / (variance + epsilon as f32).sqrt()
}

/// The normalisation of channel `c` as `x·scale + shift`.
#[inline(always)]
fn affine(stats: &[f32], gamma: &[f32], beta: &[f32], c: usize, epsilon: f64) -> (f32, f32) {
    let scale = gamma[c] * inverse_deviation(stats[2 * c + 1], epsilon);
    (scale, beta[c] - stats[2 * c] * scale)
}

/// Gradient with respect to the activation's input `x·scale + shift`.
#[inline(always)]
fn before_activation(
    out: &mut [f32],
    x: &[f32],
    grad: &[f32],
    scale: f32,
    shift: f32,
    activation: Activation,
) {
    let pairs = out.iter_mut().zip(x.iter().zip(grad));
    match activation {
        Activation::Identity => pairs.for_each(|(o, (_, g))| *o = *g),
        Activation::Relu => pairs.for_each(|(o, (x, g))| {
            *o = if x * scale + shift > 0.0 { *g } else { 0.0 };
        }),
        Activation::HardSwish => pairs.for_each(|(o, (x, g))| {
            let z = x * scale + shift;
            let slope = if z <= -3.0 {
                0.0
            } else if z >= 3.0 {
                1.0
            } else {
                z * (1.0 / 3.0) + 0.5
            };
            *o = g * slope;
        }),
    }
}
