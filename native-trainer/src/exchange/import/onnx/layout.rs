//! Which axis of an array of the graph is what of a map: a map is rows, columns and channels, whatever order of axes
//! the graph has, and however it joins or parts them.

use super::array::for_each_place;

/// What an axis runs along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    Channels,
    Rows,
    Columns,
}

/// A part of an axis: so many places, so far apart along what it runs along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) along: Along,
    pub(super) size: usize,
    pub(super) step: usize,
}

/// The parts of an axis, the outermost first; none for an axis of one place.
pub(super) type Axis = Vec<Part>;

/// An array of the graph: the map that holds its values, and what its axes are. The batch has one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The map, by its number.
    pub(super) map: usize,
    pub(super) axes: Vec<Axis>,
}

/// All of an axis of a map.
pub(super) fn whole(along: Along, size: usize) -> Axis {
    if size == 1 { Vec::new() } else { vec![Part { along, size, step: 1 }] }
}

/// All pixels of a map on one axis.
pub(super) fn pixels(rows: usize, columns: usize) -> Axis {
    [whole(Along::Rows, rows), whole(Along::Columns, columns)].concat()
}

/// Places of an axis.
pub(super) fn size(axis: &Axis) -> usize {
    axis.iter().map(|part| part.size).product()
}

/// Axes of an array `[batch, channels, rows, columns]` or, of one pixel, `[batch, channels]`.
pub(super) fn plain(rank: usize, [channels, rows, columns]: [usize; 3]) -> Vec<Axis> {
    let all = [
        // The batch: images are answered one by one.
        Vec::new(),
        whole(Along::Channels, channels),
        whole(Along::Rows, rows),
        whole(Along::Columns, columns),
    ];
    all.into_iter().take(rank).collect()
}

impl Held {
    /// The shape of the array.
    pub(super) fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(size).collect()
    }

    /// With another shape of as many values; nothing where an axis would hold parts of places.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let mut left: Vec<Part> = self.axes.iter().flatten().rev().copied().collect();
        let mut axes = Vec::with_capacity(shape.len());
        for side in shape {
            let (mut axis, mut wanted): (Axis, usize) = (Vec::new(), *side);
            while wanted > 1 {
                let part = left.pop()?;
                if wanted.is_multiple_of(part.size) {
                    wanted /= part.size;
                    axis.push(part);
                } else if part.size.is_multiple_of(wanted) {
                    let inner = part.size / wanted;
                    axis.push(Part { size: wanted, step: part.step * inner, ..part });
                    left.push(Part { size: inner, ..part });
                    wanted = 1;
                } else {
                    return None;
                }
            }
            axes.push(merged(axis));
        }
        left.is_empty().then_some(Self { map: self.map, axes })
    }

    /// The values of the array as those of its map: row by row, the channels of a pixel beside each other. Nothing where
    /// the array does not hold all of the map.
    pub(super) fn unfolded(
        &self,
        [channels, rows, columns]: [usize; 3],
        values: &[f32],
    ) -> Option<Vec<f32>> {
        let parts = || self.axes.iter().flatten();
        let shape: Vec<usize> = parts().map(|part| part.size).collect();
        let steps = parts().map(|part| {
            let apart = match part.along {
                Along::Channels => 1,
                Along::Columns => channels,
                Along::Rows => columns * channels,
            };
            part.step * apart
        });
        let count = channels * rows * columns;
        if values.len() != count || shape.iter().product::<usize>() != count {
            return None;
        }
        let (mut map, mut values) = (vec![0.0; count], values.iter());
        for_each_place(&shape, &steps.collect::<Vec<usize>>(), |at| {
            if let (Some(place), Some(value)) = (map.get_mut(at), values.next()) {
                *place = *value;
            }
        });
        Some(map)
    }

    /// With its axes in another order.
    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        Self { map: self.map, axes: order.iter().map(|axis| self.axes[*axis].clone()).collect() }
    }

    /// The axis that all pixels of a map lie along, in order; none of a single pixel.
    pub(super) fn pixel_axis(&self, rows: usize, columns: usize) -> Option<usize> {
        let all = pixels(rows, columns);
        self.axes.iter().position(|axis| !axis.is_empty() && *axis == all)
    }

    /// The axis that all channels of a map lie along, in order.
    pub(super) fn channel_axis(&self, channels: usize) -> Option<usize> {
        let all = whole(Along::Channels, channels);
        self.axes.iter().position(|axis| !axis.is_empty() && *axis == all)
    }

    /// Channels that lie along an axis in another order than in the map: groups of them, taken in turn.
    pub(super) fn shuffled(&self, channels: usize) -> Option<(usize, usize)> {
        self.axes.iter().enumerate().find_map(|(index, axis)| match axis[..] {
            [
                Part { along: Along::Channels, size: each, step: 1 },
                Part { along: Along::Channels, size: groups, step },
            ] if step == each && each * groups == channels => Some((index, groups)),
            _ => None,
        })
    }
}

/// Neighbors that run on from each other as one part.
fn merged(axis: Axis) -> Axis {
    let mut parts: Axis = Vec::with_capacity(axis.len());
    for part in axis {
        match parts.last_mut() {
            Some(last) if last.along == part.along && last.step == part.step * part.size => {
                *last = Part { along: part.along, size: last.size * part.size, step: part.step };
            }
            _ => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_of_channels_is_seen() {
        let held = Held { map: 3, axes: plain(4, [12, 5, 7]) };
        let apart = held.reshaped(&[1, 3, 4, 5, 7]).unwrap();
        assert_eq!(apart.shape(), [1, 3, 4, 5, 7]);
        assert_eq!(apart.reshaped(&[1, 12, 5, 7]).unwrap(), held);
        let turned = apart.transposed(&[0, 2, 1, 3, 4]).reshaped(&[1, 12, 5, 7]).unwrap();
        assert_eq!(turned.shuffled(12), Some((1, 3)));
        assert_eq!(turned.channel_axis(12), None);
        assert_eq!(held.channel_axis(12), Some(1));
    }

    #[test]
    fn the_values_of_a_map_are_found_in_an_array_of_other_axes() {
        let extent = [2, 2, 3];
        let held = Held { map: 0, axes: plain(4, extent) };
        let planes: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let pixels = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11].map(|value| value as f32);
        assert_eq!(held.unfolded(extent, &planes).unwrap(), pixels);
        let flat = held.reshaped(&[1, 2, 6]).unwrap();
        assert_eq!(flat.unfolded(extent, &planes).unwrap(), pixels);
        let turned = flat.transposed(&[0, 2, 1]);
        assert_eq!(turned.unfolded(extent, &pixels).unwrap(), pixels);
        assert_eq!(held.unfolded(extent, &planes[1..]), None);
        assert_eq!(held.unfolded([4, 2, 3], &planes), None);
    }

    #[test]
    fn axes_are_joined_and_parted_only_where_that_is_exact() {
        let held = Held { map: 0, axes: plain(4, [6, 2, 5]) };
        let flat = held.reshaped(&[1, 60]).unwrap();
        assert_eq!(flat.shape(), [1, 60]);
        assert_eq!(flat.reshaped(&[1, 6, 10]).unwrap().shape(), [1, 6, 10]);
        assert_eq!(held.reshaped(&[1, 4, 15]), None);
        assert_eq!(held.reshaped(&[2, 30]).unwrap().shape(), [2, 30]);
        assert_eq!(held.reshaped(&[1, 6, 2]), None);
        // A single pixel's axes hold nothing.
        let pixel = Held { map: 0, axes: plain(4, [6, 1, 1]) };
        assert_eq!(pixel.reshaped(&[1, 6]).unwrap().axes, plain(2, [6, 1, 1]));
    }
}
