//! Nodes with weights, and pools over windows.

use models::backbone::GraphConv;
use models::layers::{Activation, GlobalPool, Pool};

use super::array::Array;
use super::convert::{Converted, Converter, reason};
use super::layers::Window;
use super::layout::{Along, Held, Part, whole};
use super::model::Node;
use super::network::Does;
use super::shapes::borders;

/// Widest kernel that a step may have.
const KERNELS: std::ops::RangeInclusive<usize> = 1..=64;

/// Filters with their shape: channels out, channels in of a group, rows, columns.
pub(super) type Filters = (Vec<f32>, [usize; 4]);

/// Filters with zeros between their taps, as a dilation spreads them.
fn dilated((weight, [out, each, rows, columns]): Filters, [down, right]: [usize; 2]) -> Filters {
    let (high, wide) = ((rows - 1) * down + 1, (columns - 1) * right + 1);
    placed((weight, [out, each, rows, columns]), [high, wide], |y, x| [y * down, x * right])
}

/// Filters of other sides, each tap at a place of its own.
fn placed(
    (weight, [out, each, rows, columns]): Filters,
    [high, wide]: [usize; 2],
    place: impl Fn(usize, usize) -> [usize; 2],
) -> Filters {
    if [high, wide] == [rows, columns] {
        return (weight, [out, each, rows, columns]);
    }
    let mut made = vec![0.0; out * each * high * wide];
    for (index, value) in weight.iter().enumerate() {
        let (filter, tap) = (index / (rows * columns), index % (rows * columns));
        let [y, x] = place(tap / columns, tap % columns);
        made[(filter * high + y) * wide + x] = *value;
    }
    (made, [out, each, high, wide])
}

/// Side of a square kernel, and the rows and columns of zeros that go before the filter's own, so that a layer pads
/// fewer pixels than its kernel has. Evenly padded where that is possible.
fn square(
    [high, wide]: [usize; 2],
    stride: usize,
    groups: usize,
    [above, left, below, right]: [usize; 4],
) -> Option<(usize, [usize; 2])> {
    let starts = |side: usize, kernel: usize, before: usize, behind: usize| {
        let most = (kernel - side).min((kernel - 1).checked_sub(before)?);
        let least = (behind + 1).saturating_sub(side);
        let even = (kernel / 2).checked_sub(before);
        let is_even = |at: &usize| behind + kernel - side - at == kernel / 2;
        let even = even.filter(|at| (least..=most).contains(at) && is_even(at));
        even.or_else(|| (least <= most).then_some(least))
    };
    (high.max(wide)..=*KERNELS.end()).find_map(|kernel| {
        let is_patch = kernel == stride && groups == 1;
        if kernel % 2 == 0 && !is_patch {
            return None;
        }
        let y = starts(high, kernel, above, below)?;
        let x = starts(wide, kernel, left, right)?;
        Some((kernel, [y, x]))
    })
}

impl<'a> Converter<'a> {
    /// A convolution of a map with filters.
    pub(super) fn filtered(
        &mut self,
        x: usize,
        filters: Filters,
        bias: Vec<f32>,
        groups: usize,
        stride: usize,
        pads: [usize; 4],
    ) -> Result<usize, String> {
        let (_, [channels, each, high, wide]) = filters;
        let [above, left, below, right] = pads;
        let (kernel, [y, x_start]) = square([high, wide], stride, groups, pads)
            .ok_or_else(|| format!("a kernel of {high} × {wide} with padding {pads:?}"))?;
        self.room_for([channels, each, kernel, kernel])?;
        let (weight, _) = placed(filters, [kernel; 2], |ky, kx| [ky + y, kx + x_start]);
        let padding =
            [above + y, left + x_start, below + kernel - high - y, right + kernel - wide - x_start];
        let [_, rows, columns] = self.network.extent(x);
        let along = |side: usize, both: usize| {
            (side + both).checked_sub(kernel).map_or(0, |room| room / stride + 1)
        };
        let extent = [
            channels,
            along(rows, padding[0] + padding[2]),
            along(columns, padding[1] + padding[3]),
        ];
        let activation = Activation::Identity;
        let conv = GraphConv { channels, kernel, stride, groups, padding, activation };
        Ok(self.network.add(Does::Conv(conv, weight, bias), &[x], extent, self.at))
    }

    /// Whether so many weights may be made for a layer.
    fn room_for(&self, sides: [usize; 4]) -> Result<(), String> {
        let all = super::array::count(&sides, self.budget);
        all.map(drop).ok().ok_or_else(|| format!("a layer with weights of shape {sides:?}"))
    }

    fn floats(&self, node: &Node, index: usize) -> Result<&'a [f32], String> {
        self.known(node, index)?.as_floats().map_err(reason)
    }

    pub(super) fn conv(&mut self, node: &'a Node) -> Converted {
        let weight = self.known(node, 1)?;
        if weight.shape.len() == 3 {
            return self.along_channels(node, weight);
        }
        let &[out, each, rows, columns] = &weight.shape[..] else {
            return Err("a convolution over other than rows and columns".to_owned());
        };
        // Zeros around the input are the layer's own padding.
        let border = node.input(0).and_then(|name| self.made_by(name, "Pad"));
        let border = border.and_then(|pad| Some((pad, self.zeros_around(pad).ok()?)));
        let (map, before) = match border {
            Some((pad, sides)) => (self.map(pad, 0)?, sides),
            None => (self.map(node, 0)?, [0; 4]),
        };
        let [channels, high, wide] = self.network.extent(map);
        let padded = [high + before[0] + before[2], wide + before[1] + before[3]];
        let call = self.call(node);
        let window = Window::of(&call, &[rows, columns], &padded).map_err(reason)?;
        let stride = window.stride[0];
        if window.stride[1] != stride {
            return Err("strides that differ between rows and columns".to_owned());
        }
        let groups = channels / each.max(1);
        let reach = |axis: usize| (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        if !KERNELS.contains(&reach(0)) || !KERNELS.contains(&reach(1)) {
            return Err(format!("a kernel that reaches over {} × {} pixels", reach(0), reach(1)));
        }
        self.room_for([out, each, reach(0), reach(1)])?;
        let filters = (weight.as_floats().map_err(reason)?.to_vec(), [out, each, rows, columns]);
        let filters = dilated(filters, [window.dilation[0], window.dilation[1]]);
        let bias = match node.input(2) {
            Some(_) => self.floats(node, 2)?.to_vec(),
            None => vec![0.0; out],
        };
        let own = [window.before[0], window.before[1], window.behind[0], window.behind[1]];
        let pads = std::array::from_fn(|side| before[side] + own[side]);
        let map = self.filtered(map, filters, bias, groups, stride, pads)?;
        Ok(self.whole_map(map))
    }

    /// A convolution along the channels of pixels, as a product.
    fn along_channels(&mut self, node: &'a Node, weight: &Array) -> Converted {
        let held = self.held(node, 0)?;
        let held = self.settled(held);
        let [channels, rows, columns] = self.network.extent(held.map);
        let is_line = weight.shape[..2] == [1, 1]
            && held.axes.len() == 3
            && held.axes[1].is_empty()
            && held.channel_axis(channels) == Some(2);
        if !is_line {
            return Err("a convolution over other than rows and columns".to_owned());
        }
        let taps = weight.as_floats().map_err(reason)?;
        let window = Window::of(&self.call(node), &[taps.len()], &[channels]).map_err(reason)?;
        let (stride, dilation) = (window.stride[0], window.dilation[0]);
        let reach = (taps.len() - 1) * dilation + 1;
        let room = (channels + window.before[0] + window.behind[0]).checked_sub(reach);
        let out = room.map_or(0, |room| room / stride + 1);
        self.room_for([channels, out, 1, 1])?;
        let mut matrix = vec![0.0; channels * out];
        for place in 0..out {
            for (tap, value) in taps.iter().enumerate() {
                let from = (place * stride + tap * dilation).checked_sub(window.before[0]);
                if let Some(from) = from.filter(|from| *from < channels) {
                    matrix[from * out + place] += value;
                }
            }
        }
        let bias = match node.input(2) {
            Some(_) => self.floats(node, 2)?.first().copied().unwrap_or_default(),
            None => 0.0,
        };
        let does = Does::Linear(matrix, vec![bias; out]);
        let map = self.network.add(does, &[held.map], [out, rows, columns], self.at);
        let mut axes = held.axes;
        axes[2] = whole(Along::Channels, out);
        Ok(vec![Held { map, axes }])
    }

    /// Zeros that a `Pad` puts around a map: above, left, below, right.
    pub(super) fn zeros_around(&self, node: &'a Node) -> Result<[usize; 4], String> {
        let rank = self.shape(&node.outputs[0])?.len();
        let is_constant = matches!(node.text("mode"), None | Some("constant"));
        let fill = node.input(2).map_or(Some(0.0), |name| self.scalar(name));
        if !is_constant || fill != Some(0.0) {
            return Err("a border of other than zeros".to_owned());
        }
        let borders = borders(&self.call(node), rank).map_err(reason)?;
        let sides = |axis: usize| borders.get(axis).copied().unwrap_or_default();
        let ([above, below], [left, right]) = (sides(2), sides(3));
        if rank != 4 || sides(0) != [0, 0] || sides(1) != [0, 0] {
            return Err("a border of other than rows and columns".to_owned());
        }
        let all = [above, left, below, right].map(usize::try_from);
        if all.iter().any(Result::is_err) {
            return Err("a border that cuts something off".to_owned());
        }
        Ok(all.map(Result::unwrap_or_default))
    }

    pub(super) fn pad(&mut self, node: &'a Node) -> Converted {
        let sides = self.zeros_around(node)?;
        let map = self.map(node, 0)?;
        // One filter a channel, of a single one where it does not move the map.
        let [channels, ..] = self.network.extent(map);
        let (weight, shape) = (vec![1.0; channels], [channels, 1, 1, 1]);
        let map = self.filtered(map, (weight, shape), vec![0.0; channels], channels, 1, sides)?;
        Ok(self.whole_map(map))
    }

    /// `MatMul` or `Gemm` with a constant matrix on the right.
    pub(super) fn product(&mut self, node: &'a Node) -> Converted {
        if node.input(0).is_some_and(|name| self.constant(name).is_some()) {
            return Err("a constant matrix on the left".to_owned());
        }
        let matrix = self.known(node, 1)?;
        let &[mut inner, mut out] = &matrix.shape[..] else {
            return Err("a constant that is no matrix".to_owned());
        };
        let (mut alpha, mut bias) = (1.0, None);
        let mut is_turned = false;
        if node.operator == "Gemm" {
            if node.number("transA", 0) == 1 {
                return Err("a map that is transposed".to_owned());
            }
            is_turned = node.number("transB", 0) == 1;
            alpha = node.float("alpha", 1.0);
            let beta = node.float("beta", 1.0);
            if node.input(2).is_some() {
                let values = self.floats(node, 2)?.iter();
                bias = Some(values.map(|value| beta * value).collect::<Vec<f32>>());
            }
        }
        if is_turned {
            (inner, out) = (out, inner);
        }
        let values = matrix.as_floats().map_err(reason)?;
        let at = |row: usize, column: usize| {
            alpha
                * if is_turned { values[column * inner + row] } else { values[row * out + column] }
        };
        let bias = match bias {
            Some(bias) if bias.len() == out => bias,
            Some(bias) if bias.len() == 1 => vec![bias[0]; out],
            Some(_) => return Err("a bias of another number than the columns".to_owned()),
            None => vec![0.0; out],
        };
        let held = self.held(node, 0)?;
        let held = self.settled(held);
        let [channels, rows, columns] = self.network.extent(held.map);
        let last = held.axes.len() - 1;
        let mut axes = held.axes.clone();
        axes[last] = whole(Along::Channels, out);
        if held.axes[last] == whole(Along::Channels, channels) && channels == inner {
            let weight = (0..inner).flat_map(|row| (0..out).map(move |column| (row, column)));
            let weight = weight.map(|(row, column)| at(row, column)).collect();
            let does = Does::Linear(weight, bias);
            let map = self.network.add(does, &[held.map], [out, rows, columns], self.at);
            return Ok(vec![Held { map, axes }]);
        }
        // A whole map as one vector is a convolution whose kernel covers it.
        let parts = &held.axes[last];
        let is_whole = parts.iter().map(|part| part.size).product::<usize>() == inner
            && inner == channels * rows * columns
            && parts.iter().all(|part| part.step == 1);
        let kernel = rows.max(columns);
        if !is_whole || !KERNELS.contains(&kernel) {
            return Err(format!("a product with an input of shape {:?}", held.shape()));
        }
        self.room_for([out, channels, kernel, kernel])?;
        let mut weight = vec![0.0; out * channels * kernel * kernel];
        for row in 0..inner {
            let (mut rest, mut place) = (row, [0, 0, 0]);
            for Part { along, size, .. } in parts.iter().rev() {
                place[*along as usize] = rest % size;
                rest /= size;
            }
            let [channel, y, x] = place;
            for column in 0..out {
                weight[((column * channels + channel) * kernel + y) * kernel + x] = at(row, column);
            }
        }
        let conv = GraphConv {
            channels: out,
            kernel,
            stride: kernel,
            groups: 1,
            padding: [0, 0, kernel - rows, kernel - columns],
            activation: Activation::Identity,
        };
        let does = Does::Conv(conv, weight, bias);
        let map = self.network.add(does, &[held.map], [out, 1, 1], self.at);
        Ok(vec![Held { map, axes }])
    }

    pub(super) fn batch_norm(&mut self, node: &'a Node) -> Converted {
        let held = self.held(node, 0)?;
        let held = self.settled(held);
        let [channels, ..] = self.network.extent(held.map);
        let values = [1, 2, 3, 4].map(|index| self.floats(node, index));
        let [scale, shift, mean, variance] = values;
        let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
        let all = [scale, shift, mean, variance];
        let is_second = held.channel_axis(channels) == Some(1);
        if !is_second && channels > 1 || all.iter().any(|values| values.len() != channels) {
            return Err("a normalization over other than channels".to_owned());
        }
        let epsilon = node.float("epsilon", 1e-5);
        let factors: Vec<f32> =
            scale.iter().zip(variance).map(|(scale, v)| scale / (v + epsilon).sqrt()).collect();
        let summands = shift.iter().zip(mean.iter().zip(&factors));
        let summands = summands.map(|(shift, (mean, factor))| shift - mean * factor).collect();
        let map = self.network.affine(held.map, factors, summands, self.at);
        Ok(vec![Held { map, ..held }])
    }

    pub(super) fn layer_norm(&mut self, node: &'a Node) -> Converted {
        let held = self.held(node, 0)?;
        let held = self.settled(held);
        let [channels, ..] = self.network.extent(held.map);
        let rank = held.axes.len();
        let axis = super::array::axis_of(node.number("axis", -1), rank).map_err(reason)?;
        if axis + 1 != rank || held.channel_axis(channels) != Some(axis) {
            return Err("a normalization over other than channels".to_owned());
        }
        let scale = self.floats(node, 1)?.to_vec();
        let shift = match node.input(2) {
            Some(_) => self.floats(node, 2)?.to_vec(),
            None => vec![0.0; channels],
        };
        if scale.len() != channels || shift.len() != channels {
            return Err("another number of values than of channels".to_owned());
        }
        let does = Does::LayerNorm(f64::from(node.float("epsilon", 1e-5)), scale, shift);
        let extent = self.network.extent(held.map);
        let map = self.network.add(does, &[held.map], extent, self.at);
        Ok(vec![Held { map, ..held }])
    }

    pub(super) fn pool(&mut self, node: &'a Node) -> Converted {
        let is_max = node.operator == "MaxPool";
        // A mean over zeros that were put around the map is one over padding that counts.
        let border = node.input(0).filter(|_| !is_max).and_then(|name| self.made_by(name, "Pad"));
        let border = border.and_then(|pad| Some((pad, self.zeros_around(pad).ok()?)));
        let kernel = node.numbers("kernel_shape").unwrap_or_default();
        let kernel = kernel.iter().map(|side| usize::try_from(*side).unwrap_or(0));
        let kernel: Vec<usize> = kernel.collect();
        let of = |sides: &[usize]| Window::of(&self.call(node), &kernel, sides).map_err(reason);
        let [_, _, high, wide] = self.shape(node.input(0).ok_or("an input is missing")?)? else {
            return Err("a pool over other than rows and columns".to_owned());
        };
        let window = of(&[*high, *wide])?;
        let own = [window.before[0], window.before[1], window.behind[0], window.behind[1]];
        let fits = |(_, sides): &(&Node, [usize; 4])| {
            own == [0; 4] && sides.iter().enumerate().all(|(at, side)| *side < kernel[at % 2])
        };
        let (map, padding, is_bordered) = match border.filter(fits) {
            Some((pad, sides)) => (self.map(pad, 0)?, sides, true),
            None => (self.map(node, 0)?, own, false),
        };
        let is_too_wide = padding.iter().enumerate().any(|(at, side)| *side >= kernel[at % 2]);
        if window.dilation != [1, 1] || is_too_wide {
            return Err("a pool with dilation, or of padding alone".to_owned());
        }
        let pool = Pool {
            pool: if is_max { GlobalPool::Max } else { GlobalPool::Average },
            kernel: [kernel[0], kernel[1]],
            stride: [window.stride[0], window.stride[1]],
            padding,
            ceil: window.ceil,
            count_padding: is_bordered || node.number("count_include_pad", 0) == 1,
        };
        let [_, rows, columns] = self.network.extent(map);
        let map = if padding == [0; 4] && pool.kernel == [rows, columns] {
            self.pooled(map, pool.pool)
        } else {
            self.network.pool(map, pool, self.at)
        };
        Ok(self.whole_map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_becomes_square_and_odd() {
        // A 3 × 3 kernel as it is, one row of seven, an even one, one that pads more than it sees.
        assert_eq!(square([3, 3], 2, 1, [1; 4]), Some((3, [0, 0])));
        assert_eq!(square([1, 7], 1, 1, [0, 3, 0, 3]), Some((7, [3, 0])));
        assert_eq!(square([2, 2], 1, 1, [0; 4]), Some((3, [0, 0])));
        assert_eq!(square([2, 2], 2, 1, [0; 4]), Some((2, [0, 0])));
        assert_eq!(square([1, 1], 1, 1, [1; 4]), Some((3, [1, 1])));
        assert_eq!(square([65, 1], 1, 1, [0; 4]), None);
    }

    #[test]
    fn taps_move_apart_by_dilation() {
        let filters = (vec![1.0, 2.0, 3.0, 4.0], [1, 1, 2, 2]);
        let (made, shape) = dilated(filters, [2, 1]);
        assert_eq!((made, shape), (vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0], [1, 1, 3, 2]));
    }
}
