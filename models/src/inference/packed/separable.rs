//! Depthwise convolution with a 1×1 convolution behind it, a few lines at a time: what lies between
//! them never leaves the cache.

use super::{BlockedMap, Depthwise, Matrix};
use crate::activation::Activation;

/// Both convolutions.
#[derive(Debug)]
pub(crate) struct Separable {
    depthwise: Depthwise,
    matrix: Matrix,
    activation: Activation,
}

impl Separable {
    /// Joins two convolutions; the activation is the second one's.
    pub(crate) fn new(depthwise: Depthwise, matrix: Matrix, activation: Activation) -> Self {
        Self { depthwise, matrix, activation }
    }

    /// See [`Matrix::write_blocks`].
    pub(crate) fn write_blocks(&mut self, map: BlockedMap) -> bool {
        self.matrix.write_blocks(map)
    }

    /// The first convolution.
    pub(crate) fn depthwise(&mut self) -> &mut Depthwise {
        &mut self.depthwise
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let width = self.depthwise.out_width();
        self.depthwise.with_input(x, |input| {
            let make =
                |first: usize, lines: &mut [f32]| self.depthwise.run_lines(input, first, lines);
            self.matrix.multiply_lines(width, make, self.activation, residual, out);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Extent, Placement};
    use super::*;
    use crate::inference::Arithmetic;
    use crate::noise::noise;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn maps_in_blocks_are_those_in_rows(
            channels in prop::sample::select(vec![16_usize, 48, 96]),
            columns in prop::sample::select(vec![3_usize, 16, 33]),
            depth in 1_usize..20,
            kernel in prop::sample::select(vec![3_usize, 5]),
            stride in 1_usize..3,
            height in 1_usize..12,
            width in prop::sample::select(vec![7_usize, 9, 14, 17, 41, 90]),
            is_even in any::<bool>(),
            activation in prop::sample::select(Activation::ALL.to_vec()),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| next()).collect() };
            let input = Extent { height, width, channels };
            let placement = if is_even {
                Placement::even(input, kernel, stride)
            } else {
                Placement::same(input, kernel, stride)
            };
            let (wide, wide_bias) = (draw(depth * channels), draw(channels));
            let (taps, taps_bias) = (draw(channels * kernel * kernel), draw(channels));
            let (narrow, narrow_bias) = (draw(channels * columns), draw(columns));
            let x = draw(height * width * depth);
            let product = |shape: [usize; 2], weight: &[f32], bias: &[f32]| {
                let at = |row: usize, column: usize| weight[row * shape[1] + column];
                Matrix::new(Arithmetic::F32, shape, at, bias)
            };
            let widen = || product([depth, channels], &wide, &wide_bias);
            let separable = || {
                let depthwise = Depthwise::new(&taps, &taps_bias, activation, placement);
                let matrix = product([channels, columns], &narrow, &narrow_bias);
                Separable::new(depthwise, matrix, activation)
            };
            let count = placement.out_height * placement.out_width * columns;

            let mut rows = vec![f32::NAN; input.values()];
            widen().multiply(&x, activation, None, &mut rows);
            let mut expected = vec![f32::NAN; count];
            separable().run(&rows, None, &mut expected);

            let (mut widen, mut separable) = (widen(), separable());
            // Lines of fewer pixels than are summed side by side stay as they are.
            let Some(map) = separable.depthwise().blocked_map() else {
                prop_assert!(placement.out_width < 4);
                return Ok(());
            };
            prop_assert!(widen.write_blocks(map));
            separable.depthwise().read_blocks();
            // What an earlier step left is overwritten, the padding by zeros.
            let mut blocks = vec![f32::NAN; map.extent().values()];
            widen.multiply(&x, activation, None, &mut blocks);
            let mut out = vec![f32::NAN; count];
            separable.run(&blocks, None, &mut out);
            for (got, expected) in out.iter().zip(&expected) {
                prop_assert!((got - expected).abs() <= 1e-4, "{got} against {expected}");
            }
        }
    }
}
