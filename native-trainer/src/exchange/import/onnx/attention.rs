//! Lines of pixels: learned ones before others, values of their own, and attention between them.

use models::backbone::GraphStep;

use super::array::{Array, axis_of, broadcast, strides};
use super::convert::{Converted, Converter, reason};
use super::layout::{Along, Held, Part, pixels, size, whole};
use super::model::Node;
use super::network::Does;
use super::shapes::transposed;

/// Channels that a step computes at once.
const LANES: usize = 4;
/// Most channels of a head.
const MAX_HEAD: usize = 256;

impl<'a> Converter<'a> {
    /// The mean of values, weighted by the softmax of products: a `MatMul` that ends it.
    pub(super) fn attention(&mut self, node: &'a Node) -> Converted {
        let none = || "a product of two maps that is no attention".to_owned();
        let (a, b) = (node.input(0).ok_or_else(none)?, node.input(1).ok_or_else(none)?);
        // The product may be written the other way round, with rows and columns exchanged.
        let turned = self.made_by(self.passed(b), "Transpose").filter(|turn| self.turns(turn));
        let (shares, index) = match turned {
            Some(turn) => (turn.input(0).ok_or_else(none)?, 0),
            None => (a, 1),
        };
        let (queries, keys, factor) = self.asked(shares).ok_or_else(none)?;
        let [queries, keys] = [queries, keys].map(|name| self.held_by_name(name));
        let (queries, keys) = queries.zip(keys).ok_or_else(none)?;
        let values = self.held(node, index)?;
        let rank = queries.axes.len();
        let is_even = rank > 2 && keys.axes.len() == rank && values.axes.len() == rank;
        let (last, before) = (rank.saturating_sub(1), rank.saturating_sub(2));
        let heads = is_even.then(|| {
            let asked = self.heads_of(&queries, before, last)?;
            let told = self.heads_of(&keys, last, before)?;
            let held = match turned {
                Some(_) => self.heads_of(&values, last, before)?,
                None => self.heads_of(&values, before, last)?,
            };
            (asked == told && told == held).then_some(asked)
        });
        let [channels, ..] = self.network.extent(queries.map);
        let [_, rows, columns] = self.network.extent(keys.map);
        let is_same = self.network.extent(keys.map) == [channels, rows, columns]
            && self.network.extent(values.map) == [channels, rows, columns];
        let Some(heads) = heads.flatten().filter(|_| is_same) else {
            return Err(
                "attention other than between pixels, by heads of equal channels".to_owned()
            );
        };
        let head = channels / heads;
        if !head.is_multiple_of(LANES) || head > MAX_HEAD {
            return Err(format!(
                "heads of {head} channels; they have a multiple of {LANES}, {MAX_HEAD} at most"
            ));
        }
        // A step divides by the root of a head's channels.
        let scale = factor * (head as f32).sqrt();
        let map = if (scale - 1.0).abs() < 1e-6 {
            queries.map
        } else {
            self.network.scaled(queries.map, scale, 0.0, self.at)
        };
        let extent = self.network.extent(queries.map);
        let (step, inputs) = (GraphStep::Attend(heads), [map, keys.map, values.map]);
        let map = self.network.add(Does::Plain(step), &inputs, extent, self.at);
        let mut axes = queries.axes;
        if turned.is_some() {
            axes.swap(last, before);
        }
        Ok(vec![Held { map, axes }])
    }

    /// Whether a `Transpose` exchanges the last two axes.
    fn turns(&self, node: &'a Node) -> bool {
        let rank = self.shape(&node.outputs[0]).map_or(0, <[usize]>::len);
        let mut order: Vec<usize> = (0..rank).collect();
        if rank > 1 {
            order.swap(rank - 1, rank - 2);
        }
        transposed(&self.call(node), rank).is_ok_and(|found| found == order)
    }

    /// Queries, keys and the factor of their products, whose softmax over the last axis a value is.
    fn asked(&self, name: &'a str) -> Option<(&'a str, &'a str, f32)> {
        let softmax = self.made_by(self.passed(name), "Softmax")?;
        let rank = self.shape(&softmax.outputs[0]).ok()?.len();
        let default = if self.model.operator_set < 13 { 1 } else { -1 };
        let axis = axis_of(softmax.number("axis", default), rank).ok()?;
        if axis + 1 != rank {
            return None;
        }
        let (mut name, mut factor) = (self.passed(softmax.input(0)?), 1.0);
        loop {
            if let Some(product) = self.made_by(name, "MatMul") {
                return Some((product.input(0)?, product.input(1)?, factor));
            }
            if let Some(quotient) = self.made_by(name, "Div") {
                factor /= self.scalar(quotient.input(1)?)?;
                name = self.passed(quotient.input(0)?);
                continue;
            }
            let product = self.made_by(name, "Mul")?;
            let (a, b) = (product.input(0)?, product.input(1)?);
            let (inner, value) = match (self.scalar(a), self.scalar(b)) {
                (_, Some(value)) => (a, value),
                (Some(value), None) => (b, value),
                (None, None) => return None,
            };
            factor *= value;
            name = self.passed(inner);
        }
    }

    /// A value before nodes that change nothing.
    fn passed(&self, name: &'a str) -> &'a str {
        let mut name = name;
        while let Some(inner) = ["Identity", "Dropout"]
            .into_iter()
            .find_map(|operator| self.made_by(name, operator)?.input(0))
        {
            name = inner;
        }
        name
    }

    /// Heads of an array whose one axis is all pixels and whose other one a head's channels.
    fn heads_of(&self, held: &Held, pixel_axis: usize, channel_axis: usize) -> Option<usize> {
        let [channels, rows, columns] = self.network.extent(held.map);
        let head = size(&held.axes[channel_axis]);
        let heads = channels.checked_div(head)?;
        let others = held.axes.iter().enumerate();
        let others = others.filter(|(axis, _)| *axis != pixel_axis && *axis != channel_axis);
        let others: Vec<Part> = others.flat_map(|(_, axis)| axis).copied().collect();
        let wanted = match heads {
            1 => Vec::new(),
            heads => vec![Part { along: Along::Channels, size: heads, step: head }],
        };
        let is_it = held.axes[pixel_axis] == pixels(rows, columns)
            && held.axes[channel_axis] == whole(Along::Channels, head)
            && others == wanted;
        is_it.then_some(heads)
    }

    /// The first pixel of a line, or those behind some.
    pub(super) fn some_pixels(
        &mut self,
        held: Held,
        axis: usize,
        start: usize,
        length: usize,
    ) -> Result<Held, String> {
        let [channels, rows, columns] = self.network.extent(held.map);
        let (mut axes, count) = (held.axes, rows * columns);
        if rows == 1 && (start, length) == (0, 1) {
            let does = Does::Plain(GraphStep::First);
            let map = self.network.add(does, &[held.map], [channels, 1, 1], self.at);
            axes[axis] = Vec::new();
            return Ok(Held { map, axes });
        }
        // A line has no rows: they are those of a map with as many pixels.
        let like = self.network.steps.iter().position(|step| {
            let [_, high, wide] = step.extent;
            high * wide == length && !matches!(step.does, Does::Missing(_))
        });
        let like = like.filter(|_| rows == 1 && start + length == count);
        let like = like.ok_or("pixels other than the first one, or those behind some")?;
        let [_, high, wide] = self.network.extent(like);
        let does = Does::Plain(GraphStep::Behind(start));
        let map = self.network.add(does, &[held.map, like], [channels, high, wide], self.at);
        axes[axis] = pixels(high, wide);
        Ok(Held { map, axes })
    }

    /// A `Concat` of constants with pixels behind them.
    pub(super) fn behind_constants(&mut self, node: &'a Node) -> Converted {
        let (last, others) = node.inputs.split_last().ok_or("nothing to join")?;
        let held = self.held_by_name(last).ok_or("constants behind a map")?;
        let held = self.settled(held);
        let [channels, rows, columns] = self.network.extent(held.map);
        let axis = axis_of(node.number("axis", 0), held.axes.len()).map_err(reason)?;
        let along = held.channel_axis(channels);
        let (Some(along), true) = (along, held.pixel_axis(rows, columns) == Some(axis)) else {
            return Err("constants that are no pixels before a map".to_owned());
        };
        let mut first = Vec::new();
        for name in others {
            let constant = self.constant(name).ok_or("a map before constants")?;
            let values = constant.as_floats().map_err(reason)?;
            let count = values.len() / channels;
            let mut wanted = vec![1; held.axes.len()];
            (wanted[axis], wanted[along]) = (count, channels);
            if constant.shape != wanted {
                return Err(format!("a constant of shape {:?} before a map", constant.shape));
            }
            let at = |pixel: usize, channel: usize| {
                values[if axis < along {
                    pixel * channels + channel
                } else {
                    channel * count + pixel
                }]
            };
            for pixel in 0..count {
                first.extend((0..channels).map(|channel| at(pixel, channel)));
            }
        }
        let all = first.len() / channels + rows * columns;
        let map = self.tokens(held.map, Does::Tokens(first, None), [channels, 1, all])?;
        let mut axes = held.axes;
        axes[axis] = whole(Along::Columns, all);
        Ok(vec![Held { map, axes }])
    }

    /// Adds a constant that differs from pixel to pixel, times a factor.
    pub(super) fn with_places(&mut self, held: Held, constant: &Array, factor: f32) -> Converted {
        let held = self.settled(held);
        let [channels, rows, columns] = self.network.extent(held.map);
        let shape = held.shape();
        if broadcast(&shape, &constant.shape).map_err(reason)? != shape {
            return Err("a constant that makes the map larger".to_owned());
        }
        let constant = constant.expand(&shape, self.budget).map_err(reason)?;
        let values = constant.as_floats().map_err(reason)?;
        if values.len() != channels * rows * columns {
            return Err("a constant for a part of a map".to_owned());
        }
        // How far apart neighbors of each part of each axis lie.
        let mut parts: Vec<(Part, usize)> = Vec::new();
        for (axis, stride) in held.axes.iter().zip(strides(&shape)) {
            let mut inner = stride;
            for part in axis.iter().rev() {
                parts.push((*part, inner));
                inner *= part.size;
            }
        }
        let mut added = Vec::with_capacity(values.len());
        for pixel in 0..rows * columns {
            for channel in 0..channels {
                let place = [channel, pixel / columns, pixel % columns];
                let at = parts.iter().map(|(Part { along, size, step }, stride)| {
                    place[*along as usize] / step % size * stride
                });
                added.push(factor * values[at.sum::<usize>()]);
            }
        }
        let does = Does::Tokens(Vec::new(), Some(([rows, columns], added)));
        let mut map = self.tokens(held.map, does, [channels, 1, rows * columns])?;
        if rows > 1 {
            let does = Does::Plain(GraphStep::Behind(0));
            map = self.network.add(does, &[map, held.map], [channels, rows, columns], self.at);
        }
        Ok(vec![Held { map, ..held }])
    }

    fn tokens(&mut self, map: usize, does: Does, extent: [usize; 3]) -> Result<usize, String> {
        if extent[0].is_multiple_of(LANES) {
            Ok(self.network.add(does, &[map], extent, self.at))
        } else {
            Err(format!("pixels of {} channels; a multiple of {LANES} is run", extent[0]))
        }
    }
}
