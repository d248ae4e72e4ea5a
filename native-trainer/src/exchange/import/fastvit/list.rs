//! A list of steps as it grows, and the filters of its convolutions, into which branches are folded.

use models::backbone::{GraphConv, GraphNode, GraphStep};
use models::layers::{Activation, Gate, GlobalPool, Pick};
use models::limits::MAX_BLOCKS;
use models::weights::{NamedTensor, Weights};

use super::{EPSILON, MOST_CHANNELS, MOST_KERNEL};
use crate::exchange::import::networks::{Misfit, is_alike};
use crate::exchange::import::tensors::Tensors;

/// Most zeros in the place of a tensor: those of every bias, which are counted on.
const MOST_ZEROS: usize = 1 << 16;

/// A convolution's weight and bias.
pub(super) struct Filters {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) kernel: usize,
}

impl Filters {
    pub(super) fn nothing(filters: usize, each: usize, kernel: usize) -> Self {
        let weight = vec![0.0; filters * each * kernel * kernel];
        Self { weight, bias: vec![0.0; filters], kernel }
    }

    /// Adds a convolution beside it, whose kernel may be smaller by an even number of pixels.
    pub(super) fn add(&mut self, other: &Self) {
        let (side, small) = (self.kernel, other.kernel);
        let edge = (side - small) / 2;
        let taps = self.weight.chunks_exact_mut(side * side);
        for (taps, others) in taps.zip(other.weight.chunks_exact(small * small)) {
            for (row, others) in others.chunks_exact(small).enumerate() {
                let start = (row + edge) * side + edge;
                taps[start..start + small]
                    .iter_mut()
                    .zip(others)
                    .for_each(|(tap, other)| *tap += other);
            }
        }
        self.bias.iter_mut().zip(&other.bias).for_each(|(bias, other)| *bias += other);
    }

    /// Adds the input itself, scaled; each filter sees `each` channels, of which one is its own.
    pub(super) fn add_input(&mut self, each: usize, scale: &[f32], shift: &[f32]) {
        let area = self.kernel * self.kernel;
        for (filter, (taps, scale)) in
            self.weight.chunks_exact_mut(each * area).zip(scale).enumerate()
        {
            taps[filter % each * area + area / 2] += scale;
        }
        self.bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
    }

    /// Scales what each filter makes.
    pub(super) fn scale(&mut self, scale: &[f32]) {
        let row = (self.weight.len() / scale.len().max(1)).max(1);
        for (row, scale) in self.weight.chunks_exact_mut(row).zip(scale) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        self.bias.iter_mut().zip(scale).for_each(|(bias, scale)| *bias *= scale);
    }

    /// The filters of these numbers.
    pub(super) fn picked(&self, numbers: impl Iterator<Item = usize>) -> Self {
        let row = self.weight.len() / self.bias.len().max(1);
        let mut picked = Self { weight: Vec::new(), bias: Vec::new(), kernel: self.kernel };
        for number in numbers {
            picked.weight.extend_from_slice(&self.weight[number * row..][..row]);
            picked.bias.push(self.bias[number]);
        }
        picked
    }
}

/// A list of steps as it grows, and the tensors that its weights come from.
pub(super) struct List<'a> {
    tensors: &'a mut Tensors,
    pub(super) misfit: Misfit,
    pub(super) nodes: Vec<GraphNode>,
    pub(super) weights: Weights,
    convs: usize,
    norms: usize,
}

impl<'a> List<'a> {
    pub(super) fn of(tensors: &'a mut Tensors) -> Self {
        let (misfit, weights) = (Misfit::default(), Weights::default());
        Self { tensors, misfit, nodes: Vec::new(), weights, convs: 0, norms: 0 }
    }

    /// The shape of a tensor that is there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// The values of a tensor; zeros in the place of one that does not fit, which is noted. Of many there are none: a file
    /// without values would ask for more memory than there is, and nothing comes of the list.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        match self.tensors.remove(name) {
            Some(tensor) if is_alike(&tensor.shape, shape) => return tensor.values,
            Some(tensor) => {
                self.misfit.shapes.push((name.to_owned(), tensor.shape, shape.to_vec()));
            }
            None => self.misfit.missing.push((name.to_owned(), shape.to_vec())),
        }
        let count = shape.iter().product();
        vec![0.0; if count > MOST_ZEROS { 0 } else { count }]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn side(&self, name: &str) -> Option<usize> {
        let shape = &self.tensors.get(name)?.shape;
        shape.get(2).copied().filter(|side| side % 2 == 1 && *side <= MOST_KERNEL)
    }

    /// Factors and summands of a normalization.
    pub(super) fn norm(&mut self, name: &str, channels: usize) -> [Vec<f32>; 2] {
        let mut field = |field: &str| self.take(&format!("{name}.{field}"), &[channels]);
        let (weight, bias) = (field("weight"), field("bias"));
        let (mean, variance) = (field("running_mean"), field("running_var"));
        let scale: Vec<f32> =
            weight.iter().zip(variance).map(|(w, v)| w / (v + EPSILON).sqrt()).collect();
        let moved = mean.iter().zip(&scale).map(|(mean, scale)| mean * scale);
        let shift = bias.iter().zip(moved).map(|(bias, moved)| bias - moved).collect();
        [scale, shift]
    }

    /// A convolution with its normalization.
    pub(super) fn normalized(
        &mut self,
        name: &str,
        [filters, each, kernel]: [usize; 3],
    ) -> Filters {
        let shape = [filters, each, kernel, kernel];
        let weight = self.take(&format!("{name}.conv.weight"), &shape);
        let [scale, shift] = self.norm(&format!("{name}.bn"), filters);
        let mut made = Filters { weight, bias: vec![0.0; filters], kernel };
        made.scale(&scale);
        made.bias = shift;
        made
    }

    /// A convolution with a bias.
    pub(super) fn plain(&mut self, name: &str, [filters, each, kernel]: [usize; 3]) -> Filters {
        let weight = self.take(&format!("{name}.weight"), &[filters, each, kernel, kernel]);
        Filters { weight, bias: self.take(&format!("{name}.bias"), &[filters]), kernel }
    }

    /// Parallel branches as one convolution: those of the kernel (none in `is_input`), one of a single pixel, the input.
    pub(super) fn branches(
        &mut self,
        name: &str,
        [filters, each, kernel]: [usize; 3],
        keeps: bool,
        is_input: bool,
    ) -> Filters {
        let sum = format!("{name}.reparam_conv");
        if self.has(&format!("{sum}.weight")) {
            return self.plain(&sum, [filters, each, kernel]);
        }
        let mut made = Filters::nothing(filters, each, kernel);
        if keeps {
            let [scale, shift] = self.norm(&format!("{name}.identity"), filters);
            made.add_input(each, &scale, &shift);
        }
        let branch = |index: usize| format!("{name}.conv_kxk.{index}");
        for index in (0..MAX_BLOCKS).filter(|_| !is_input) {
            if index > 0 && !self.has(&format!("{}.conv.weight", branch(index))) {
                break;
            }
            let other = self.normalized(&branch(index), [filters, each, kernel]);
            made.add(&other);
        }
        let point = format!("{name}.conv_scale");
        if kernel > 1 && !is_input && self.has(&format!("{point}.conv.weight")) {
            let other = self.normalized(&point, [filters, each, 1]);
            made.add(&other);
        }
        made
    }

    pub(super) fn push(&mut self, step: GraphStep, inputs: &[usize]) -> usize {
        self.nodes.push(GraphNode { step, inputs: inputs.to_vec() });
        self.nodes.len()
    }

    /// A convolution of a map; padded so that only the stride makes it smaller.
    pub(super) fn conv(
        &mut self,
        x: usize,
        Filters { weight, bias, kernel }: Filters,
        [groups, stride]: [usize; 2],
        activation: Activation,
    ) -> usize {
        let channels = bias.len();
        let each = weight.len() / (channels * kernel * kernel).max(1);
        let name = format!("backbone.convs.{}.conv", self.convs);
        self.convs += 1;
        let weight = NamedTensor { shape: vec![channels, each, kernel, kernel], values: weight };
        self.weights.tensors.insert(format!("{name}.weight"), weight);
        let bias = NamedTensor { shape: vec![channels], values: bias };
        self.weights.tensors.insert(format!("{name}.bias"), bias);
        let padding = [kernel / 2; 4];
        let conv = GraphConv { channels, kernel, stride, groups, padding, activation };
        self.push(GraphStep::Conv(conv), &[x])
    }

    pub(super) fn pointwise(
        &mut self,
        x: usize,
        filters: Filters,
        activation: Activation,
    ) -> usize {
        self.conv(x, filters, [1, 1], activation)
    }

    /// One filter a channel, or several: then the first of all channels, the second ones, and so on, put in order. As one
    /// convolution of groups they would run as a dense one.
    pub(super) fn depthwise(
        &mut self,
        x: usize,
        filters: &Filters,
        channels: usize,
        stride: usize,
        activation: Activation,
    ) -> usize {
        let count = filters.bias.len();
        let several = (count / channels.max(1)).max(1);
        let mut made = None;
        for first in 0..several {
            let picked = filters.picked((first..count).step_by(several));
            let next = self.conv(x, picked, [channels, stride], activation);
            made = Some(match made {
                None => next,
                Some(before) => self.push(GraphStep::Concatenate, &[before, next]),
            });
        }
        let made = made.unwrap_or(x);
        let pick = Pick { start: 0, count, groups: several };
        if several > 1 { self.push(GraphStep::Pick(pick), &[made]) } else { made }
    }

    /// Squeeze and excite, then the activation.
    pub(super) fn squeezed(
        &mut self,
        x: usize,
        name: &str,
        channels: usize,
        after: Activation,
    ) -> usize {
        let first = format!("{name}.fc1");
        let width = self.tensors.get(&format!("{first}.weight")).and_then(|t| t.shape.first());
        let width = width.copied().unwrap_or(channels / 16).clamp(1, MOST_CHANNELS);
        let mean = self.push(GraphStep::GlobalPool(GlobalPool::Average), &[x]);
        let filters = self.plain(&first, [width, channels, 1]);
        let few = self.pointwise(mean, filters, Activation::Relu);
        let filters = self.plain(&format!("{name}.fc2"), [channels, width, 1]);
        let gate = self.pointwise(few, filters, Activation::Identity);
        let gate = self.push(GraphStep::Gate(Gate::Sigmoid), &[gate]);
        let scaled = self.push(GraphStep::Scale, &[x, gate]);
        match after {
            Activation::Identity => scaled,
            activation => self.push(GraphStep::Activate(activation), &[scaled]),
        }
    }

    /// Every pixel normalized over its channels.
    pub(super) fn layer_norm(&mut self, x: usize, norm: &str, channels: usize) -> usize {
        for field in ["weight", "bias"] {
            let values = self.take(&format!("{norm}.{field}"), &[channels]);
            let tensor = NamedTensor { shape: vec![channels], values };
            let name = format!("backbone.norms.{}.{field}", self.norms);
            self.weights.tensors.insert(name, tensor);
        }
        self.norms += 1;
        self.push(GraphStep::LayerNorm(f64::from(EPSILON)), &[x])
    }
}
