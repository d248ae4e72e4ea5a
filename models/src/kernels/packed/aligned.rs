//! Values that start at a cache line: a vector as wide as one is then never read from two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vectors.
const LINE: usize = 64;

/// Values whose first lies at the start of a cache line; of a fixed length.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    /// More than are needed, never grown, so that the start stays where it is.
    values: Vec<f32>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        let values = vec![0.0; length + LINE / size_of::<f32>()];
        let start = values.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        Self { values, start, length }
    }

    /// The same values, moved.
    pub(crate) fn from_values(values: &[f32]) -> Self {
        let mut aligned = Self::zeros(values.len());
        aligned.copy_from_slice(values);
        aligned
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        &self.values[self.start..self.start + self.length]
    }
}

impl DerefMut for Aligned {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.length]
    }
}
