//! Backward passes of [`NetworkOps`] for Burn's autodiff decorator.

use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{FloatDType, TensorData};

use super::mixed::{self, HalfFloat};
use super::replicas::Replicas;
use super::{NetworkOps, generic};

type Parts<B, C> =
    (FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>);

/// A convolution without bias: depthwise or dense.
#[derive(Debug)]
struct Convolution<const DEPTHWISE: bool>;

impl<B: NetworkOps, const DEPTHWISE: bool> Backward<B, 2> for Convolution<DEPTHWISE> {
    type State = (NodeId, NodeId, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_weight] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, stride) = ops.state;
        let x = checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>(x);
        let weight = checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>(weight);
        let (x_backward, weight_backward) = if DEPTHWISE {
            (B::depthwise_x_backward as Gradient<B>, B::depthwise_weight_backward as Gradient<B>)
        } else {
            (B::dense_x_backward as Gradient<B>, B::dense_weight_backward as Gradient<B>)
        };
        if let Some(node) = node_x {
            let gradient = x_backward(x.clone(), weight.clone(), grad.clone(), stride);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = node_weight {
            grads.register::<B>(node.id, weight_backward(x, weight, grad, stride));
        }
    }
}

type Gradient<B> = fn(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, usize) -> FloatTensor<B>;

fn convolve<B: NetworkOps, C: CheckpointStrategy, const DEPTHWISE: bool>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    stride: usize,
) -> FloatTensor<Autodiff<B, C>> {
    let run = if DEPTHWISE { B::depthwise } else { B::dense };
    let operation = Convolution::<DEPTHWISE>.prepare::<C>([x.node(), weight.node()]);
    match operation.compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&weight), stride);
            prep.finish(state, run(x.into_primitive(), weight.into_primitive(), stride))
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(run(x.into_primitive(), weight.into_primitive(), stride))
        }
    }
}

/// A dense convolution in 16-bit floats between maps of 32-bit floats.
#[derive(Debug)]
struct HalfConvolution;

impl<B: NetworkOps> Backward<B, 2> for HalfConvolution {
    /// Input and weight in 16 bits, the stride.
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, usize);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node_x, node_weight] = ops.parents;
        let (x, weight, stride) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let whole: FloatDType = grad.dtype().into();
        let grad = B::float_cast(grad, x.dtype().into());
        if let Some(node) = node_x {
            let gradient =
                generic::conv_x_backward::<B>(x.clone(), weight.clone(), grad.clone(), stride, 1);
            grads.register::<B>(node.id, B::float_cast(gradient, whole));
        }
        if let Some(node) = node_weight {
            let gradient = generic::conv_weight_backward::<B>(x, weight, grad, stride, 1);
            grads.register::<B>(node.id, B::float_cast(gradient, whole));
        }
    }
}

fn convolve_in_half<B: NetworkOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    stride: usize,
    half: HalfFloat,
) -> FloatTensor<Autodiff<B, C>> {
    let operation = HalfConvolution.prepare::<C>([x.node(), weight.node()]);
    let (x, weight) = (x.into_primitive(), weight.into_primitive());
    let whole: FloatDType = x.dtype().into();
    let [x, weight] = [x, weight].map(|tensor| B::float_cast(tensor, half.dtype()));
    let run = |x, weight| B::float_cast(generic::conv::<B>(x, weight, stride, 1), whole);
    match operation.compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x.clone(), weight.clone(), stride), run(x, weight)),
        OpsKind::UnTracked(prep) => prep.finish(run(x, weight)),
    }
}

#[derive(Debug)]
struct AddRelu;

impl<B: NetworkOps> Backward<B, 2> for AddRelu {
    type State = B::FloatTensorPrimitive;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let grad = B::add_relu_backward(ops.state, grad);
        for node in ops.parents.into_iter().flatten() {
            grads.register::<B>(node.id, grad.clone());
        }
    }
}

#[derive(Debug)]
struct NormAct;

impl<B: NetworkOps> Backward<B, 3> for NormAct {
    type State = ([NodeId; 3], [B::FloatTensorPrimitive; 2], f64, usize, Option<Replicas>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_gamma, node_beta] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (inputs, [mean, variance], epsilon, activation, replicas) = ops.state;
        let [x, gamma, beta] =
            inputs.map(|id| checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>(id));
        let (x_grad, gamma_grad, beta_grad) = B::norm_act_backward(
            x, gamma, beta, mean, variance, grad, epsilon, activation, replicas,
        );
        for (node, grad) in [(node_x, x_grad), (node_gamma, gamma_grad), (node_beta, beta_grad)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: NetworkOps, C: CheckpointStrategy> NetworkOps for Autodiff<B, C> {
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        convolve::<B, C, true>(x, weight, stride)
    }

    fn dense(x: FloatTensor<Self>, weight: FloatTensor<Self>, stride: usize) -> FloatTensor<Self> {
        match mixed::current() {
            Some(half) => convolve_in_half::<B, C>(x, weight, stride, half),
            None => convolve::<B, C, false>(x, weight, stride),
        }
    }

    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        match AddRelu.prepare::<C>([a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::add_relu(a.into_primitive(), b.into_primitive());
                prep.finish(output.clone(), output)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::add_relu(a.into_primitive(), b.into_primitive()))
            }
        }
    }

    fn norm_act(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: usize,
    ) -> Parts<B, C> {
        let replicas = Replicas::current();
        let run = |x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>| {
            let (x, gamma, beta) =
                (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
            let Some(replicas) = &replicas else {
                return B::norm_act(x, gamma, beta, epsilon, activation);
            };
            let (mean, variance) =
                together::<B>(replicas, x.clone(), gamma.clone(), beta.clone(), epsilon);
            let statistics = (mean.clone(), variance.clone());
            let output = B::norm_with(x, gamma, beta, mean, variance, epsilon, activation);
            (output, statistics.0, statistics.1)
        };
        match NormAct.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let inputs = [prep.checkpoint(&x), prep.checkpoint(&gamma), prep.checkpoint(&beta)];
                let (output, mean, variance) = run(x, gamma, beta);
                let statistics = [mean.clone(), variance.clone()];
                (
                    prep.finish((inputs, statistics, epsilon, activation, replicas), output),
                    constant::<B, C>(mean),
                    constant::<B, C>(variance),
                )
            }
            OpsKind::UnTracked(prep) => {
                let (output, mean, variance) = run(x, gamma, beta);
                (prep.finish(output), constant::<B, C>(mean), constant::<B, C>(variance))
            }
        }
    }
}

/// Mean and biased variance over the batches of all replicas.
fn together<B: NetworkOps>(
    replicas: &Replicas,
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (device, shape) = (x.device(), x.shape());
    let channels = shape[1];
    let (mean, variance) = B::statistics(x, gamma, beta, epsilon);
    let [mean, variance] = [mean, variance].map(|tensor| generic::host::<B>(tensor));
    let (mean, variance) = replicas.statistics(shape.num_elements() / channels, &mean, &variance);
    let tensor =
        |values: Vec<f32>| B::float_from_data(TensorData::new(values, [channels]), &device);
    (tensor(mean), tensor(variance))
}

/// A tensor outside the graph.
fn constant<B: NetworkOps, C: CheckpointStrategy>(
    tensor: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    <Autodiff<B, C> as burn::backend::AutodiffBackend>::from_inner(tensor)
}
