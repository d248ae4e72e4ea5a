//! Values that start at a cache line: a vector as wide as one is then never read from two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vectors.
pub const LINE: usize = 64;

/// Values whose first lies at the start of a cache line. With more of them they may move.
#[derive(Debug)]
pub struct Aligned<T> {
    /// More than are needed, never grown, so that the start stays where it is.
    values: Vec<T>,
    start: usize,
    length: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), start: 0, length: 0 }
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::from_values(self)
    }
}

impl<T: Copy + Default> Aligned<T> {
    /// Zeros.
    pub fn zeros(length: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let values = vec![T::default(); length + spare];
        let start = values.as_ptr().align_offset(LINE).min(spare);
        Self { values, start, length }
    }

    /// The same values, moved.
    pub fn from_values(values: &[T]) -> Self {
        let mut aligned = Self::zeros(values.len());
        aligned.copy_from_slice(values);
        aligned
    }

    /// Makes room for this many more values.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.length + more;
        if self.start + needed > self.values.len() {
            let mut larger = Self::zeros(needed.max(2 * self.length));
            larger[..self.length].copy_from_slice(self);
            larger.length = self.length;
            *self = larger;
        }
    }

    /// Adds zeros behind the others, and hands them out to be filled.
    pub fn grow(&mut self, more: usize) -> &mut [T] {
        self.reserve(more);
        let from = self.length;
        self.length += more;
        let new = &mut self[from..];
        // What was cut off may lie there.
        new.fill(T::default());
        new
    }

    /// Cuts off what lies behind the first this many.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.length]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_like_a_vector_and_stays_aligned() {
        let (mut aligned, mut plain) = (Aligned::<i8>::default(), Vec::new());
        for step in 0..200_usize {
            if step % 7 == 6 {
                aligned.truncate(step);
                plain.truncate(step);
            }
            let more: Vec<i8> = (0..step % 50).map(|i| (i * step) as i8).collect();
            let zeros = aligned.grow(more.len());
            assert!(zeros.iter().all(|value| *value == 0));
            zeros.copy_from_slice(&more);
            plain.extend(more);
            for copy in [&aligned, &aligned.clone()] {
                assert_eq!(**copy, plain);
                assert!(copy.is_empty() || copy.as_ptr().addr() % LINE == 0);
            }
        }
    }
}
