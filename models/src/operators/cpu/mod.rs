//! The operators of [`NetworkOps`] for the CPU backend.
//!
//! Activations are kept channels-last in memory, behind the usual `[batch, channels, height,
//! width]` shape: a 1×1 convolution is then one matrix product over the whole batch, and every
//! other inner loop runs over contiguous channels, however small the map is. An input in another
//! layout is copied once; every output is channels-last.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

mod conv;
mod depthwise;
mod norm;

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::TensorData;
#[cfg(feature = "parallel")]
use rayon::prelude::*;

use super::replicas::Replicas;
use super::{Activation, NetworkOps};
use crate::simd::dispatch;
use crate::threads::for_chunks;

/// Values that one piece of parallel work covers: small enough for the first-level cache, and
/// fixed, so that a sum has the same order on every machine.
const PIECE: usize = 8192;

/// An activation map with its values in channels-last order.
struct Map {
    /// `[batch, height, width, channels]`, contiguous.
    tensor: FlexTensor,
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
}

impl Map {
    fn new(tensor: FlexTensor) -> Self {
        let [batch, channels, height, width] = tensor.shape().dims();
        let tensor = contiguous(tensor.permute(&[0, 2, 3, 1]));
        Self { tensor, batch, height, width, channels }
    }

    fn from_values(values: Vec<f32>, [batch, height, width, channels]: [usize; 4]) -> Self {
        let tensor = tensor(values, [batch, height, width, channels]);
        Self { tensor, batch, height, width, channels }
    }

    /// A matrix of pixels, as [`Self::matrix`] gives it.
    fn from_matrix(matrix: &FlexTensor, [batch, height, width, channels]: [usize; 4]) -> Self {
        let tensor = matrix.reshape([batch, height, width, channels].into());
        Self { tensor, batch, height, width, channels }
    }

    fn shape(&self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }

    fn values(&self) -> &[f32] {
        values(&self.tensor)
    }

    /// Pixels of all pictures as one matrix, `[batch · height · width, channels]`.
    fn matrix(&self) -> FlexTensor {
        let rows = self.batch * self.height * self.width;
        self.tensor.reshape([rows, self.channels].into())
    }

    /// Back to the shape that the networks use.
    fn into_planes(self) -> FlexTensor {
        self.tensor.permute(&[0, 3, 1, 2])
    }
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The values of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.layout().num_elements()]
}

fn tensor(data: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape.into()))
}

/// Zeros, written on all threads if there are any: one thread alone fills memory half as fast.
fn zeros(length: usize) -> Vec<f32> {
    #[cfg(feature = "parallel")]
    {
        let mut values = Vec::new();
        let zeros = rayon::iter::repeat_n(0.0, length).with_min_len(1 << 16);
        zeros.collect_into_vec(&mut values);
        values
    }
    #[cfg(not(feature = "parallel"))]
    vec![0.0; length]
}

/// The values once more, copied on all threads if there are any.
fn copied(values: &[f32]) -> Vec<f32> {
    #[cfg(feature = "parallel")]
    {
        let mut copy = Vec::new();
        values.par_iter().copied().with_min_len(1 << 16).collect_into_vec(&mut copy);
        copy
    }
    #[cfg(not(feature = "parallel"))]
    values.to_vec()
}

/// A loop that is compiled for the best vector instructions of the machine.
///
/// A type and not a closure: only a method can be marked to be inlined into the function that
/// carries the instructions, and without that it would be compiled for the oldest machine.
trait Piece: Sync {
    /// Works on one chunk; implementations are `#[inline(always)]`.
    fn run(&self, index: usize, chunk: &mut [f32]);
}

/// One call of a [`Piece`].
struct Call<'a, P> {
    piece: &'a P,
    index: usize,
    chunk: &'a mut [f32],
}

impl<P: Piece> pulp::NullaryFnOnce for Call<'_, P> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.piece.run(self.index, self.chunk);
    }
}

/// Runs a [`Piece`] on every chunk of `length` values.
fn for_pieces(data: &mut [f32], length: usize, piece: &impl Piece) {
    for_chunks(data, length, |index, chunk| dispatch(Call { piece, index, chunk }));
}

/// Adds up consecutive chunks of `length` values.
fn sum_chunks(data: &[f32], length: usize) -> Vec<f32> {
    let mut total = vec![0.0; length];
    for chunk in data.chunks_exact(length) {
        add(&mut total, chunk);
    }
    total
}

#[inline(always)]
fn add(target: &mut [f32], source: &[f32]) {
    target.iter_mut().zip(source).for_each(|(t, s)| *t += s);
}

/// `a · b + c`, in one rounding where the processor has an instruction for it.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "wasm32") { a * b + c } else { a.mul_add(b, c) }
}

impl NetworkOps for Flex {
    fn depthwise(x: FlexTensor, weight: FlexTensor, stride: usize) -> FlexTensor {
        depthwise::forward(&Map::new(x), &contiguous(weight), stride).into_planes()
    }

    fn depthwise_x_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let [_, _, height, width] = x.shape().dims();
        depthwise::x_backward([height, width], &contiguous(weight), &Map::new(grad), stride)
            .into_planes()
    }

    fn depthwise_weight_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let [_, _, kernel, _] = weight.shape().dims();
        depthwise::weight_backward(&Map::new(x), kernel, &Map::new(grad), stride)
    }

    fn dense(x: FlexTensor, weight: FlexTensor, stride: usize) -> FlexTensor {
        conv::forward(&Map::new(x), &weight, stride).into_planes()
    }

    fn dense_x_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let [_, _, height, width] = x.shape().dims();
        conv::x_backward([height, width], &weight, &Map::new(grad), stride).into_planes()
    }

    fn dense_weight_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let [_, _, kernel, _] = weight.shape().dims();
        conv::weight_backward(&Map::new(x), kernel, &Map::new(grad), stride)
    }

    fn bias_act(x: FlexTensor, bias: FlexTensor, activation: usize) -> FlexTensor {
        let bias = contiguous(bias);
        norm::bias_act(Map::new(x), values(&bias), Activation::from_index(activation)).into_planes()
    }

    fn add_relu(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        norm::add_relu(Map::new(a), &Map::new(b)).into_planes()
    }

    fn add_relu_backward(output: FlexTensor, grad: FlexTensor) -> FlexTensor {
        norm::add_relu_backward(&Map::new(output), Map::new(grad)).into_planes()
    }

    fn norm_act(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        activation: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (gamma, beta) = (contiguous(gamma), contiguous(beta));
        let x = Map::new(x);
        let (mean, variance) = norm::statistics(&x);
        let normalization =
            norm::Normalization::new(&mean, &variance, values(&gamma), values(&beta), epsilon);
        let output = normalization.forward(&x, Activation::from_index(activation));
        let channels = x.channels;
        (output.into_planes(), tensor(mean, [channels]), tensor(variance, [channels]))
    }

    fn statistics(x: FlexTensor, _: FlexTensor, _: FlexTensor, _: f64) -> (FlexTensor, FlexTensor) {
        let x = Map::new(x);
        let (mean, variance) = norm::statistics(&x);
        (tensor(mean, [x.channels]), tensor(variance, [x.channels]))
    }

    fn norm_with(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        epsilon: f64,
        activation: usize,
    ) -> FlexTensor {
        let normalization = normalization([gamma, beta, mean, variance], epsilon);
        normalization.forward(&Map::new(x), Activation::from_index(activation)).into_planes()
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
        replicas: Option<Replicas>,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let normalization = normalization([gamma, beta, mean, variance], epsilon);
        let (dx, dgamma, dbeta) = normalization.backward(
            &Map::new(x),
            Map::new(grad),
            Activation::from_index(activation),
            replicas.as_ref(),
        );
        let channels = dgamma.len();
        (dx.into_planes(), tensor(dgamma, [channels]), tensor(dbeta, [channels]))
    }
}

/// Of gamma, beta, mean and variance.
fn normalization(parameters: [FlexTensor; 4], epsilon: f64) -> norm::Normalization {
    let [gamma, beta, mean, variance] = parameters.map(contiguous);
    norm::Normalization::new(
        values(&mean),
        values(&variance),
        values(&gamma),
        values(&beta),
        epsilon,
    )
}
