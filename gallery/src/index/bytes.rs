//! Reading numbers from bytes that may be anything.

use super::IndexError;

/// Bytes that are read from the front.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], IndexError> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| IndexError::Damaged { what: "it ends too early".to_owned() })?;
        self.0 = rest;
        Ok(head)
    }

    /// The next rows of this many bytes.
    pub(crate) fn take_rows(&mut self, rows: usize, bytes: usize) -> Result<&'a [u8], IndexError> {
        // More than there can be.
        self.take(rows.saturating_mul(bytes))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, IndexError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, IndexError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, IndexError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    /// This many numbers, all finite.
    pub(crate) fn floats(&mut self, count: usize) -> Result<Vec<f32>, IndexError> {
        let length = count
            .checked_mul(4)
            .ok_or_else(|| IndexError::Damaged { what: "a count".to_owned() })?;
        let float = |b: &[u8]| f32::from_le_bytes(std::array::from_fn(|i| b[i]));
        let values: Vec<f32> = self.take(length)?.chunks_exact(4).map(float).collect();
        if values.iter().all(|v| v.is_finite()) {
            return Ok(values);
        }
        Err(IndexError::Damaged { what: "a value that is not finite".to_owned() })
    }
}
