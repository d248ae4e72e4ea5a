//! The blocks on tensors: training, evaluation on a device of Burn's, folding.

use burn::backend::ops::ConvOptions;
use burn::tensor::module::conv2d;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use super::{
    Activation, BATCH_NORM_MOMENTUM, BatchNorm, Conv, ConvBn, Eager, Grid, SqueezeExcite, Tokens,
};
use crate::operators::{self, channels_first, channels_last};
use crate::values::Param;

impl Conv {
    /// Convolves `x`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bias {
            Some(_) => self.forward_activated(x, Activation::Identity),
            None => self.convolve(x),
        }
    }

    /// [`Self::forward`] with the activation behind it.
    ///
    /// # Shapes
    ///
    /// As [`Self::forward`].
    pub fn forward_activated(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let y = self.convolve(x);
        match &self.bias {
            Some(bias) => operators::bias_act(y, bias.val(), activation),
            None => activation.forward(y),
        }
    }

    fn convolve(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        if self.groups == 1 {
            operators::dense_conv2d(x, weight, self.stride)
        } else if self.is_depthwise() {
            operators::depthwise_conv2d(x, weight, self.stride)
        } else {
            let padding = [(weight.dims()[2] - 1) / 2; 2];
            let options = ConvOptions::new([self.stride; 2], padding, [1; 2], self.groups);
            conv2d(x, weight, None, options)
        }
    }
}

impl BatchNorm {
    /// Normalizes `x` and applies `activation`.
    ///
    /// On a training device the batch's own statistics are used, and the running ones move towards
    /// them; elsewhere, or while the module is frozen, the running ones are used.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        if !(x.device().is_autodiff() && self.training.is_enabled()) {
            let (scale, shift) = self.affine(&x.device());
            let channels = scale.dims()[0];
            let scaled = channels_last(x) * scale.reshape([1, 1, 1, channels]);
            return operators::bias_act(channels_first(scaled), shift, activation);
        }
        let (output, mean, variance) = operators::batch_norm_act(
            x,
            self.weight.val(),
            self.bias.val(),
            self.epsilon,
            activation,
        );
        for (state, batch) in [(&self.running_mean, mean), (&self.running_var, variance)] {
            let old = state.value_sync().to_device(&batch.device());
            let new = old * (1.0 - BATCH_NORM_MOMENTUM) + batch.detach() * BATCH_NORM_MOMENTUM;
            state.update(new.detach());
        }
        output
    }

    /// The normalization outside training as `x · scale + shift`.
    ///
    /// # Shapes
    ///
    /// - scale, shift: `[channels]`
    pub fn affine(&self, device: &Device) -> (Tensor<1>, Tensor<1>) {
        let mean = self.running_mean.value().to_device(device);
        let variance = self.running_var.value().to_device(device);
        let scale = self.weight.val() / (variance + self.epsilon).sqrt();
        let shift = self.bias.val() - mean * scale.clone();
        (scale, shift)
    }
}

impl ConvBn {
    /// Convolves, normalizes and activates `x`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bn {
            Some(bn) => bn.forward(self.conv.forward(x), self.activation),
            None => self.conv.forward_activated(x, self.activation),
        }
    }

    /// [`Self::forward`] as TensorFlow pads it (`SAME`), for strides of 1 and 2: with 2, of an even
    /// side the odd pixels are the centers, not the even ones.
    ///
    /// # Shapes
    ///
    /// As [`Self::forward`].
    pub(crate) fn forward_same(&self, x: Tensor<4>) -> Tensor<4> {
        if self.conv.stride == 1 {
            return self.forward(x);
        }
        // One more row or column in front makes the odd pixels even; the first center is then a
        // padded one and is dropped before its values enter any statistics.
        let [_, _, height, width] = x.dims();
        let [top, left] = [height, width].map(|side| usize::from(side % 2 == 0));
        let trim = |y: Tensor<4>| {
            let [_, _, height, width] = y.dims();
            y.narrow(2, top, height - top).narrow(3, left, width - left)
        };
        let x = x.pad((left, 0, top, 0), 0.0);
        match &self.bn {
            Some(bn) => bn.forward(trim(self.conv.forward(x)), self.activation),
            None => trim(self.conv.forward_activated(x, self.activation)),
        }
    }

    /// [`Self::forward`] of a kernel as wide as its stride, without padding: each patch is a row of a product.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌊height / stride⌋, ⌊width / stride⌋]`
    pub(crate) fn forward_patches(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.conv.weight.val();
        let ([batch, channels, height, width], [out, .., side]) = (x.dims(), weight.dims());
        let (rows, columns, row) = (height / side, width / side, side * channels);
        let x = channels_last(x).narrow(1, 0, rows * side).narrow(2, 0, columns * side);
        let lines = x.reshape([batch * rows, side, columns, row]).swap_dims(1, 2);
        let weight = weight.permute([2, 3, 1, 0]).reshape([side * row, out]);
        let y = lines.reshape([batch * rows * columns, side * row]).matmul(weight);
        let y = channels_first(y.reshape([batch, rows, columns, out]));
        match (&self.bn, &self.conv.bias) {
            (Some(bn), _) => bn.forward(y, self.activation),
            (None, Some(bias)) => operators::bias_act(y, bias.val(), self.activation),
            (None, None) => self.activation.forward(y),
        }
    }

    /// [`Self::forward`] with so many zeros above, to the left, below and to the right.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, rows, columns]`, as many as kernels fit
    pub(crate) fn forward_sides(&self, x: Tensor<4>, sides: [usize; 4]) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let ([.., kernel], stride) = (self.conv.weight.dims(), self.conv.stride);
        let [(above, below, rows), (left, right, columns)] =
            self.conv.reach([height, width], super::Padding::Sides(sides));
        if self.conv.groups == 1 && kernel == stride {
            return self.forward_patches(x.pad((left, right, above, below), 0.0));
        }
        // The layer's own padding is even: more zeros move its windows to where they belong, and those in front of the
        // first one are dropped before their values enter any statistics.
        let even = (kernel - 1) / 2;
        let front = |before: usize| {
            let skipped = even.saturating_sub(before).div_ceil(stride);
            (skipped, before + skipped * stride - even)
        };
        let ((skip_y, top), (skip_x, start)) = (front(above), front(left));
        let x = x.pad((start, right, top, below), 0.0);
        let trim = |y: Tensor<4>| y.narrow(2, skip_y, rows).narrow(3, skip_x, columns);
        match &self.bn {
            Some(bn) => bn.forward(trim(self.conv.forward(x)), self.activation),
            None => trim(self.conv.forward_activated(x, self.activation)),
        }
    }

    /// Folds the normalization into the convolution's weight and bias.
    #[must_use]
    pub fn fuse(self) -> Self {
        match self.folded() {
            Some((weight, bias)) => Self {
                conv: Conv {
                    weight: Param::from_tensor(weight),
                    bias: Some(Param::from_tensor(bias)),
                    ..self.conv
                },
                bn: None,
                ..self
            },
            None => self,
        }
    }

    /// Weight and bias with the normalization folded in; `None` once fused.
    fn folded(&self) -> Option<(Tensor<4>, Tensor<1>)> {
        let weight = self.conv.weight.val();
        let (scale, shift) = self.bn.as_ref()?.affine(&weight.device());
        let channels = scale.dims()[0];
        Some((weight * scale.reshape([channels, 1, 1, 1]), shift))
    }

    /// Sums parallel depthwise branches of different kernel sizes into one convolution with bias
    /// and the given activation: kernels are padded with zeros to the largest.
    ///
    /// Source: structural re-parameterization, <https://arxiv.org/abs/2101.03697>, §3.3.
    pub(crate) fn merge(branches: &[Self], activation: Activation) -> Option<Self> {
        let largest = branches.iter().map(|b| b.conv.weight.dims()[2]).max()?;
        let mut sum: Option<(Tensor<4>, Tensor<1>)> = None;
        for branch in branches {
            let (weight, bias) = branch.folded()?;
            let pad = (largest - weight.dims()[2]) / 2;
            let weight = weight.pad((pad, pad, pad, pad), 0.0);
            sum = Some(match sum {
                Some((w, b)) => (w + weight, b + bias),
                None => (weight, bias),
            });
        }
        let (weight, bias) = sum?;
        Some(Self {
            conv: Conv {
                weight: Param::from_tensor(weight),
                bias: Some(Param::from_tensor(bias)),
                stride: branches[0].conv.stride,
                groups: branches[0].conv.groups,
            },
            bn: None,
            activation,
        })
    }
}

impl SqueezeExcite {
    /// Gates `x` at once.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Eager::planes(x, |flow, x| self.wire(flow, x))
    }
}

impl Tokens {
    /// The tokens before the pixels of an image of so many lines and columns, and what is added to the pixels.
    ///
    /// # Shapes
    ///
    /// - tokens: `[before, width]`
    /// - added: `[lines · columns, width]`
    pub(super) fn forward(&self, [lines, columns]: [usize; 2]) -> [Option<Tensor<2>>; 2] {
        let mut class = self.class.as_ref().map(Param::val);
        let registers = self.registers.as_ref().map(Param::val);
        let added = self.grid().zip(self.positions.as_ref()).map(|(grid, positions)| {
            let positions = positions.val();
            let Grid { rows, columns: old, has_class, resampling } = grid;
            let [count, width] = positions.dims();
            let places = if has_class {
                class = class.take().map(|class| class + positions.clone().narrow(0, 0, 1));
                positions.narrow(0, 1, count - 1)
            } else {
                positions
            };
            if [rows, old] == [lines, columns] {
                return places;
            }
            let device = places.device();
            let shares = |from: usize, to: usize| {
                let shares = TensorData::new(resampling.shares(from, to), [to, from]);
                Tensor::<2>::from_data(shares, &device)
            };
            let narrow = shares(rows, lines).matmul(places.reshape([rows, old * width]));
            let across = narrow.reshape([lines, old, width]).swap_dims(0, 1);
            let wide = shares(old, columns).matmul(across.reshape([old, lines * width]));
            let back = wide.reshape([columns, lines, width]).swap_dims(0, 1);
            back.reshape([lines * columns, width])
        });
        let before: Vec<Tensor<2>> = class.into_iter().chain(registers).collect();
        [(!before.is_empty()).then(|| Tensor::cat(before, 0)), added]
    }
}

/// Dropout that masks without rescaling in training and scales by `1 − probability` outside it.
///
/// The reference puts it before the embedding of its LCNet family, so weights learned there expect
/// the factor.
///
/// # Shapes
///
/// - `x`, output: any
pub fn downscale_dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    if probability == 0.0 {
        return x;
    }
    if x.device().is_autodiff() {
        let keep =
            Tensor::<D>::random(x.shape(), Distribution::Bernoulli(1.0 - probability), &x.device());
        return x * keep;
    }
    x * (1.0 - probability)
}
