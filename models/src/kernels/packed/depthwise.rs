//! Depthwise convolution: a vector of channels at a time, several output pixels at once.

use pulp::{Arch, Simd, WithSimd};

use super::{Placement, activated, activated_value, load, store};
use crate::kernels::Activation;
use crate::kernels::cpu::for_chunks;

/// Output pixels whose sums are held at once, so that a weight is used as often once loaded.
const TILE: usize = 4;

/// One filter a channel.
#[derive(Debug)]
pub(crate) struct Depthwise {
    /// `[kernel · kernel, channels]`
    weight: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
    placement: Placement,
}

impl Depthwise {
    /// Packs `[channels, 1, kernel, kernel]`.
    pub(crate) fn new(
        weight: &[f32],
        bias: Vec<f32>,
        activation: Activation,
        placement: Placement,
    ) -> Self {
        let (channels, taps) = (placement.input.channels, placement.kernel * placement.kernel);
        let by_tap = (0..taps).flat_map(|tap| (0..channels).map(move |c| (c, tap)));
        let weight = by_tap.map(|(c, tap)| weight[c * taps + tap]).collect();
        Self { weight, bias, activation, placement }
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        (self.weight.len() + self.bias.len()) * size_of::<f32>()
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], out: &mut [f32]) {
        let arch = Arch::new();
        let line = self.placement.out_width * self.placement.input.channels;
        for_chunks(out, line, |oy, line| arch.dispatch(Line { layer: self, x, oy, line }));
    }
}

/// One line of the output.
struct Line<'a> {
    layer: &'a Depthwise,
    x: &'a [f32],
    oy: usize,
    line: &'a mut [f32],
}

impl WithSimd for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.layer.placement.kernel, self.layer.placement.stride) {
            (3, 1) => self.run::<S, 3, 1>(simd),
            (3, 2) => self.run::<S, 3, 2>(simd),
            (5, 1) => self.run::<S, 5, 1>(simd),
            (5, 2) => self.run::<S, 5, 2>(simd),
            _ => self.run_any(),
        }
    }
}

impl Line<'_> {
    #[inline(always)]
    fn run<S: Simd, const KERNEL: usize, const STRIDE: usize>(mut self, simd: S) {
        let Placement { left, input, out_width, .. } = self.layer.placement;
        // Output pixels whose windows lie inside the picture from left to right.
        let first = left.div_ceil(STRIDE).min(out_width);
        let last = (input.width + left).checked_sub(KERNEL).map_or(0, |room| room / STRIDE + 1);
        let last = last.clamp(first, out_width);
        let mut channel = 0;
        while channel + S::F32_LANES <= input.channels {
            for ox in (0..first).chain(last..out_width) {
                self.edge::<S, KERNEL, STRIDE>(simd, ox, channel);
            }
            let mut ox = first;
            while ox + TILE <= last {
                self.inside::<S, KERNEL, STRIDE, TILE>(simd, ox, channel);
                ox += TILE;
            }
            while ox < last {
                self.inside::<S, KERNEL, STRIDE, 1>(simd, ox, channel);
                ox += 1;
            }
            channel += S::F32_LANES;
        }
        for ox in 0..out_width {
            for channel in channel..input.channels {
                self.value(ox, channel);
            }
        }
    }

    /// A vector of channels of `COUNT` output pixels whose windows need no padding left or right.
    #[inline(always)]
    fn inside<S: Simd, const KERNEL: usize, const STRIDE: usize, const COUNT: usize>(
        &mut self,
        simd: S,
        ox: usize,
        channel: usize,
    ) {
        let Placement { top, left, input, .. } = self.layer.placement;
        let channels = input.channels;
        let mut sums = [load::<S>(&self.layer.bias[channel..]); COUNT];
        for ky in self.layer.placement.rows(self.oy) {
            let iy = self.oy * STRIDE + ky - top;
            let from = (iy * input.width + ox * STRIDE - left) * channels + channel;
            let pixels = &self.x[from..];
            let weights = &self.layer.weight[ky * KERNEL * channels + channel..];
            for kx in 0..KERNEL {
                let weight = load::<S>(&weights[kx * channels..]);
                for (index, sum) in sums.iter_mut().enumerate() {
                    let pixel = load::<S>(&pixels[(index * STRIDE + kx) * channels..]);
                    *sum = simd.mul_add_e_f32s(pixel, weight, *sum);
                }
            }
        }
        for (index, sum) in sums.into_iter().enumerate() {
            let to = (ox + index) * channels + channel;
            store::<S>(&mut self.line[to..], activated(simd, sum, self.layer.activation));
        }
    }

    /// A vector of channels of one output pixel.
    #[inline(always)]
    fn edge<S: Simd, const KERNEL: usize, const STRIDE: usize>(
        &mut self,
        simd: S,
        ox: usize,
        channel: usize,
    ) {
        let Placement { top, left, input, .. } = self.layer.placement;
        let channels = input.channels;
        let mut sum = load::<S>(&self.layer.bias[channel..]);
        for ky in self.layer.placement.rows(self.oy) {
            for kx in self.layer.placement.columns(ox) {
                let (iy, ix) = (self.oy * STRIDE + ky - top, ox * STRIDE + kx - left);
                let pixel = load::<S>(&self.x[(iy * input.width + ix) * channels + channel..]);
                let at = (ky * KERNEL + kx) * channels + channel;
                sum = simd.mul_add_e_f32s(pixel, load::<S>(&self.layer.weight[at..]), sum);
            }
        }
        let to = ox * channels + channel;
        store::<S>(&mut self.line[to..], activated(simd, sum, self.layer.activation));
    }

    /// Kernels and strides that no network here is made of.
    #[inline(always)]
    fn run_any(mut self) {
        for ox in 0..self.layer.placement.out_width {
            for channel in 0..self.layer.placement.input.channels {
                self.value(ox, channel);
            }
        }
    }

    /// One channel of one output pixel.
    #[inline(always)]
    fn value(&mut self, ox: usize, channel: usize) {
        let Placement { kernel, stride, top, left, input, .. } = self.layer.placement;
        let mut sum = self.layer.bias[channel];
        for ky in self.layer.placement.rows(self.oy) {
            for kx in self.layer.placement.columns(ox) {
                let (iy, ix) = (self.oy * stride + ky - top, ox * stride + kx - left);
                let pixel = self.x[(iy * input.width + ix) * input.channels + channel];
                sum += pixel * self.layer.weight[(ky * kernel + kx) * input.channels + channel];
            }
        }
        self.line[ox * input.channels + channel] = activated_value(sum, self.layer.activation);
    }
}
