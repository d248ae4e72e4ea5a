//! Maps with other pixels: every other one of a map, and pixels between those of a map.

use models::backbone::{GraphConv, GraphStep};
use models::layers::{Activation, GlobalPool, Pool};

use super::convert::{Converted, Converter, reason};
use super::layers::{is_linear, resized};
use super::layout::plain;
use super::model::Node;
use super::network::Does;
use super::shapes::cuts;

/// Most channels of a map of which every other pixel is taken: an image has three.
const MAX_CHANNELS: usize = 64;

impl<'a> Converter<'a> {
    /// Every so many pixels of a map, in both directions: a convolution of which one tap is 1. Slices of rows and of
    /// columns may come one behind the other.
    pub(super) fn sampled(&mut self, node: &'a Node) -> Converted {
        let (mut starts, mut steps) = ([0_usize; 2], [1_usize; 2]);
        let (mut at, mut from) = (node, "");
        for _ in 0..2 {
            from = at.input(0).ok_or("an input is missing")?;
            let sides = self.shape(from)?;
            for (axis, start, length, step) in cuts(&self.call(at), sides).map_err(reason)? {
                let step = usize::try_from(step).map_err(|_negative| "a slice backward")?;
                match axis {
                    2 | 3 => {
                        starts[axis - 2] =
                            starts[axis - 2].saturating_mul(step).saturating_add(start);
                        steps[axis - 2] = steps[axis - 2].saturating_mul(step);
                    }
                    _ if (start, length, step) == (0, sides[axis], 1) => {}
                    _ => return Err("a slice with a step".to_owned()),
                }
            }
            match self.made_by(from, "Slice") {
                Some(before) if steps[0] != steps[1] => at = before,
                _ => break,
            }
        }
        let held = self.held_by_name(from).ok_or("a constant where a map belongs")?;
        let [channels, rows, columns] = self.network.extent(held.map);
        let ([side, other], shape) = (steps, self.shape(&node.outputs[0])?);
        let is_whole = held.axes == plain(4, [channels, rows, columns])
            && side == other
            && starts.iter().all(|start| *start < side)
            && shape == [1, channels, rows / side, columns / side]
            && rows.is_multiple_of(side)
            && columns.is_multiple_of(side);
        if !is_whole || channels > MAX_CHANNELS {
            return Err("a slice with a step".to_owned());
        }
        let conv = GraphConv {
            channels,
            kernel: side,
            stride: side,
            groups: 1,
            padding: [0; 4],
            activation: Activation::Identity,
        };
        let taps = side * side;
        let mut weight = vec![0.0; channels * channels * taps];
        for channel in 0..channels {
            weight[channel * (channels + 1) * taps + starts[0] * side + starts[1]] = 1.0;
        }
        let does = Does::Conv(conv, weight, vec![0.0; channels]);
        let extent = [channels, rows / side, columns / side];
        let map = self.network.add(does, &[held.map], extent, self.at);
        Ok(self.whole_map(map))
    }

    /// Convolutions of one map by patches that are joined, as one; nothing where they are others.
    pub(super) fn patches(&mut self, maps: &[usize]) -> Option<usize> {
        let first = &self.network.steps[*maps.first()?];
        let Does::Conv(shape, ..) = first.does else { return None };
        let is_plain = shape.kernel == shape.stride
            && shape.groups == 1
            && shape.padding == [0; 4]
            && shape.activation == Activation::Identity;
        let (input, [_, rows, columns]) = (first.inputs.clone(), first.extent);
        let (mut filters, mut biases) = (Vec::new(), Vec::new());
        for map in maps {
            let step = &self.network.steps[*map];
            match &step.does {
                Does::Conv(conv, weight, bias)
                    if is_plain
                        && step.inputs == input
                        && GraphConv { channels: shape.channels, ..*conv } == shape =>
                {
                    filters.extend_from_slice(weight);
                    biases.extend_from_slice(bias);
                }
                _ => return None,
            }
        }
        let channels = biases.len();
        let does = Does::Conv(GraphConv { channels, ..shape }, filters, biases);
        Some(self.network.add(does, &input, [channels, rows, columns], self.at))
    }

    /// A map that is enlarged by whole factors.
    pub(super) fn resize(&mut self, node: &'a Node) -> Converted {
        let map = self.map(node, 0)?;
        let [channels, rows, columns] = self.network.extent(map);
        let from = [1, channels, rows, columns];
        let call = self.call(node);
        let to = resized(&call, &from).map_err(reason)?;
        let factors = [to[2] / rows.max(1), to[3] / columns.max(1)];
        let is_whole =
            to[..2] == from[..2] && to[2] == factors[0] * rows && to[3] == factors[1] * columns;
        let is_linear = is_linear(&call) && factors != [1, 1];
        if !is_whole || is_linear && factors != [2, 2] {
            return Err(
                "resizing other than by whole factors, or bilinear other than by two".to_owned()
            );
        }
        let step = Does::Plain(GraphStep::Enlarge(factors));
        let mut map = self.network.add(step, &[map], [channels, to[2], to[3]], self.at);
        if is_linear {
            // Means of two neighbors of the repeated pixels, and of these again: three quarters of a pixel and one of the
            // next. At the border there is one neighbor alone, as the original repeats its last pixel.
            for side in [1, 0] {
                let pool = Pool {
                    pool: GlobalPool::Average,
                    kernel: [2; 2],
                    stride: [1; 2],
                    padding: [side; 4],
                    ceil: false,
                    count_padding: false,
                };
                map = self.network.pool(map, pool, self.at);
            }
        }
        Ok(self.whole_map(map))
    }
}
