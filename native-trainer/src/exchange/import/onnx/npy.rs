//! Arrays in NumPy's files.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::path::Path;

use super::OnnxError;
use super::array::{Array, Budget, count};
use crate::files;

/// Largest file.
const LIMIT: u64 = 1 << 30;

/// Reads an array of 32-bit floats whose last axis runs fastest.
pub(super) fn read(path: &Path) -> Result<Array, OnnxError> {
    let wrong =
        |reason: &str| OnnxError::Reference { reason: format!("{}: {reason}", path.display()) };
    let bytes = files::read(path, LIMIT).map_err(|error| wrong(&error.to_string()))?;
    parsed(&bytes).map_err(wrong)
}

fn parsed(bytes: &[u8]) -> Result<Array, &'static str> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("it is no .npy file")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("it is cut off")?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or("it is cut off")?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or("it is cut off")?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err("it has a newer format"),
    };
    let (header, values) = rest.split_at_checked(length).ok_or("it is cut off")?;
    let header = std::str::from_utf8(header).ok().ok_or("its header is no text")?;
    if !header.contains("'<f4'") {
        return Err("its values are no 32-bit floats");
    }
    if !header.contains("'fortran_order': False") {
        return Err("its first axis runs fastest; save it with numpy.ascontiguousarray");
    }
    let sides = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
    let sides = sides.ok_or("its header has no shape")?.0.split(',').map(str::trim);
    let sides = sides.filter(|side| !side.is_empty()).map(str::parse::<usize>);
    let shape = sides.collect::<Result<Vec<usize>, _>>().ok().ok_or("its header has no shape")?;
    let count = count(&shape, &Budget::default()).ok().ok_or("it is too large")?;
    let (floats, left) = values.as_chunks::<4>();
    if floats.len() != count || !left.is_empty() {
        return Err("it holds another number of values than its shape says");
    }
    let values = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(Array::floats(shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, values: &[f32]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    #[test]
    fn arrays_are_read_and_others_named() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }   \n";
        let read = parsed(&file(header, &[1.0, -2.0])).unwrap();
        assert_eq!(read, Array::floats(vec![1, 2], vec![1.0, -2.0]));
        assert!(parsed(&file(header, &[1.0])).unwrap_err().contains("number of values"));
        for (from, to, told) in [
            ("<f4", "<f8", "32-bit"),
            ("False", "True", "fastest"),
            ("(1, 2)", "(9223372036854775807, 9)", "too large"),
        ] {
            let error = parsed(&file(&header.replace(from, to), &[1.0, 2.0])).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        assert!(parsed(b"PK").is_err());
    }
}
