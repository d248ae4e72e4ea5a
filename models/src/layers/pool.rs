//! Windows that are pooled, and channels that are taken out: steps of networks that came as graphs.

use serde::{Deserialize, Serialize};

use super::GlobalPool;

/// A pool over windows of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// What becomes of a window.
    pub pool: GlobalPool,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// From a window to the next one below and to the right.
    pub stride: [usize; 2],
    /// Pixels beyond the border: above, left, below, right. They are never the largest.
    #[serde(default)]
    pub padding: [usize; 4],
    /// Whether a window that reaches beyond the last pixel counts, as long as it begins inside.
    #[serde(default)]
    pub ceil: bool,
    /// Whether a mean divides by pixels of the padding, too.
    #[serde(default)]
    pub count_padding: bool,
}

impl Pool {
    /// Windows along each axis of a map of so many rows and columns; none where not even one fits.
    pub fn windows(&self, sides: [usize; 2]) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let (before, behind) = (self.padding[axis], self.padding[axis + 2]);
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let Some(room) = (sides[axis] + before + behind).checked_sub(kernel) else { return 0 };
            let count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
            // The last one begins inside.
            if self.ceil && (count - 1) * stride >= sides[axis] + before {
                count - 1
            } else {
                count
            }
        })
    }

    /// Of a window's place along an axis: the pixels of the map that it covers, and what a mean divides by there.
    pub fn covered(
        &self,
        axis: usize,
        place: usize,
        side: usize,
    ) -> (std::ops::Range<usize>, usize) {
        let (before, behind) = (self.padding[axis], self.padding[axis + 2]);
        let start = place * self.stride[axis];
        let end = (start + self.kernel[axis]).min(side + before + behind);
        let covered = start.saturating_sub(before)..end.saturating_sub(before).min(side);
        let count = if self.count_padding { end - start } else { covered.len() };
        (covered, count)
    }
}

/// Channels of a map, in another order: of every `groups` runs that lie behind each other the first channels, then the
/// second ones, and so on. With one group it is a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// The first channel.
    pub start: usize,
    /// How many.
    pub count: usize,
    /// Runs that they are taken from in turn.
    pub groups: usize,
}

impl Pick {
    /// Where a channel of the result comes from.
    pub fn source(self, channel: usize) -> usize {
        self.start + channel % self.groups * (self.count / self.groups) + channel / self.groups
    }
}
