//! The arrays of a Python pickle: just enough to read PaddlePaddle's `.pdparams`, a dictionary from
//! names to NumPy arrays.
//!
//! Nothing is executed: a callable is only ever the name of one of the few that rebuild an array.
//! Source: the opcodes of CPython's `Lib/pickletools.py`, protocols 2 to 5.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use models::weights::NamedTensor;
use thiserror::Error;

/// Why a pickle could not be read.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PickleError {
    /// The bytes end within a value.
    #[error("the file is incomplete; fetch it again")]
    Truncated,
    /// Something that checkpoints do not hold.
    #[error("byte {position}: {reason}; this is no checkpoint of NumPy arrays")]
    Unexpected {
        /// Where.
        position: usize,
        /// What.
        reason: String,
    },
}

/// An array while it is being rebuilt.
#[derive(Debug, Default)]
struct Array {
    shape: Vec<usize>,
    float: bool,
    bytes: Rc<[u8]>,
}

/// Tuples in tuples; an array's state has two. Deeper ones would also be freed by recursion.
const MAX_DEPTH: usize = 8;

/// Values on the stack, and values that are kept: those of the largest checkpoints are some ten thousand.
const MAX_VALUES: usize = 1 << 20;

/// Sides of an array.
const MAX_SIDES: usize = 8;

/// A value on the machine's stack.
#[derive(Debug, Clone)]
enum Value {
    Mark,
    /// What no array needs.
    Other,
    Int(i64),
    Bool(bool),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    /// With its depth.
    Tuple(Rc<[Value]>, usize),
    Dict(Rc<RefCell<Vec<(Value, Value)>>>),
    /// `module.name`
    Global(Rc<str>),
    /// A NumPy type: whether it is a 32-bit float; big-endian ones are refused.
    Type(bool),
    Array(Rc<RefCell<Array>>),
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value>,
    memo: HashMap<u64, Value>,
    /// Bytes that may still be taken for what a file names rather than holds: naming something again and
    /// again makes no more of it than the file has.
    left: usize,
}

/// The 32-bit float arrays of a pickled dictionary whose names are `wanted`; other values are left out. Takes
/// no more memory than some times the bytes that are there, whatever these say.
///
/// # Errors
///
/// [`PickleError`]
pub(super) fn read_arrays(
    bytes: &[u8],
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, NamedTensor)>, PickleError> {
    // A byte of an array may be written as two characters.
    let left = 2 * bytes.len();
    let mut machine = Machine { bytes, position: 0, stack: Vec::new(), memo: HashMap::new(), left };
    let Value::Dict(entries) = machine.run()? else {
        return Err(machine.unexpected("the outermost value is no dictionary"));
    };
    let mut arrays = Vec::new();
    for (key, value) in entries.borrow().iter() {
        if let (Value::Text(name), Value::Array(array)) = (key, value) {
            let array = array.borrow();
            if !array.float || !wanted(name) {
                continue;
            }
            machine.spend(array.bytes.len() + name.len())?;
            let values: Vec<f32> = array
                .bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            arrays.push((name.to_string(), NamedTensor { shape: array.shape.clone(), values }));
        }
    }
    Ok(arrays)
}

impl<'a> Machine<'a> {
    fn unexpected(&self, reason: impl Into<String>) -> PickleError {
        PickleError::Unexpected { position: self.position, reason: reason.into() }
    }

    /// Takes note of bytes that are made of what the file names.
    fn spend(&mut self, bytes: usize) -> Result<(), PickleError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            self.unexpected(
                "the same values are named again and again, beyond the size of the file",
            )
        })?;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let end = self.position.checked_add(length).ok_or(PickleError::Truncated)?;
        let taken = self.bytes.get(self.position..end).ok_or(PickleError::Truncated)?;
        self.position = end;
        Ok(taken)
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, PickleError> {
        let taken = self.take(width)?;
        Ok(taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn sized(&mut self, width: usize) -> Result<&'a [u8], PickleError> {
        let length = usize::try_from(self.number(width)?).ok().ok_or(PickleError::Truncated)?;
        self.take(length)
    }

    fn text(&mut self, width: usize) -> Result<Value, PickleError> {
        let bytes = self.sized(width)?;
        let text =
            std::str::from_utf8(bytes).ok().ok_or_else(|| self.unexpected("text is not UTF-8"))?;
        Ok(Value::Text(text.into()))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|b| *b == b'\n').ok_or(PickleError::Truncated)?;
        let line = std::str::from_utf8(&rest[..length]);
        self.position += length + 1;
        line.ok().ok_or_else(|| self.unexpected("a name is not UTF-8"))
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        self.stack.pop().ok_or_else(|| self.unexpected("a value is missing"))
    }

    /// Values above the last mark.
    fn above_mark(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        let mark = mark.ok_or_else(|| self.unexpected("a mark is missing"))?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn tuple(&mut self, length: usize) -> Result<Value, PickleError> {
        let start = self.stack.len().checked_sub(length);
        let start = start.ok_or_else(|| self.unexpected("a value is missing"))?;
        let values = self.stack.split_off(start);
        self.tuple_of(values)
    }

    fn tuple_of(&self, values: Vec<Value>) -> Result<Value, PickleError> {
        let inner = |value: &Value| if let Value::Tuple(_, depth) = value { *depth } else { 0 };
        let depth = values.iter().map(inner).max().unwrap_or(0) + 1;
        if depth > MAX_DEPTH {
            return Err(self.unexpected("tuples nested too deep"));
        }
        Ok(Value::Tuple(values.into(), depth))
    }

    fn remember(&mut self, index: u64) -> Result<(), PickleError> {
        let top = self.stack.last().cloned().ok_or_else(|| self.unexpected("nothing to keep"))?;
        if self.memo.len() == MAX_VALUES {
            return Err(self.unexpected("too many values"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Result<Value, PickleError> {
        self.memo.get(&index).cloned().ok_or_else(|| self.unexpected("a value was never kept"))
    }

    fn set_items(&mut self, pairs: &[Value]) -> Result<(), PickleError> {
        if let Some(Value::Dict(entries)) = self.stack.last() {
            // Only names with arrays matter; nothing nested is kept.
            let pairs = pairs.chunks_exact(2).filter_map(|pair| match pair {
                [Value::Text(_), Value::Array(_)] => Some((pair[0].clone(), pair[1].clone())),
                _ => None,
            });
            entries.borrow_mut().extend(pairs);
            if entries.borrow().len() > MAX_VALUES {
                return Err(self.unexpected("too many values"));
            }
            Ok(())
        } else {
            Err(self.unexpected("items without a dictionary"))
        }
    }

    #[expect(clippy::too_many_lines, reason = "one match, an arm an instruction")]
    fn run(&mut self) -> Result<Value, PickleError> {
        loop {
            let code = self.take(1)?[0];
            let value = match code {
                b'.' => return self.pop(),
                // Protocol and frame.
                0x80 => {
                    self.take(1)?;
                    continue;
                }
                0x95 => {
                    self.take(8)?;
                    continue;
                }
                b'(' => Value::Mark,
                b'}' => Value::Dict(Rc::default()),
                b')' => Value::Tuple(Rc::from([]), 1),
                b']' | b'N' | 0x8f => Value::Other,
                0x88 | 0x89 => Value::Bool(code == 0x88),
                b'K' => Value::Int(self.number(1)? as i64),
                b'M' => Value::Int(self.number(2)? as i64),
                b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
                0x8a => {
                    let bytes = self.sized(1)?;
                    let small = bytes.len() <= 8;
                    let number = bytes.iter().rev().fold(0, |n: u64, b| n << 8 | u64::from(*b));
                    if small { Value::Int(number as i64) } else { Value::Other }
                }
                b'G' => {
                    self.take(8)?;
                    Value::Other
                }
                0x8c => self.text(1)?,
                b'X' => self.text(4)?,
                0x8d => self.text(8)?,
                b'C' => Value::Bytes(self.sized(1)?.into()),
                b'B' => Value::Bytes(self.sized(4)?.into()),
                0x8e | 0x96 => Value::Bytes(self.sized(8)?.into()),
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let values = self.above_mark()?;
                    self.tuple_of(values)?
                }
                b'h' => {
                    let index = self.number(1)?;
                    self.recall(index)?
                }
                b'j' => {
                    let index = self.number(4)?;
                    self.recall(index)?
                }
                b'q' => {
                    let index = self.number(1)?;
                    self.remember(index)?;
                    continue;
                }
                b'r' => {
                    let index = self.number(4)?;
                    self.remember(index)?;
                    continue;
                }
                0x94 => {
                    self.remember(self.memo.len() as u64)?;
                    continue;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                    continue;
                }
                b'u' => {
                    let pairs = self.above_mark()?;
                    self.set_items(&pairs)?;
                    continue;
                }
                // Lists are not looked into.
                b'0' | b'a' => {
                    self.pop()?;
                    continue;
                }
                b'e' => {
                    self.above_mark()?;
                    continue;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    Value::Global(format!("{module}.{name}").into())
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Value::Text(name), Value::Text(module)) => {
                        self.spend(module.len() + name.len())?;
                        Value::Global(format!("{module}.{name}").into())
                    }
                    _ => return Err(self.unexpected("a callable without a name")),
                },
                b'R' => {
                    let (arguments, callable) = (self.pop()?, self.pop()?);
                    self.call(&callable, &arguments)?
                }
                b'b' => {
                    let state = self.pop()?;
                    self.build(&state)?;
                    continue;
                }
                other => return Err(self.unexpected(format!("opcode {other:#04x}"))),
            };
            if self.stack.len() == MAX_VALUES {
                return Err(self.unexpected("too many values"));
            }
            self.stack.push(value);
        }
    }

    fn call(&mut self, callable: &Value, arguments: &Value) -> Result<Value, PickleError> {
        let (Value::Global(name), Value::Tuple(arguments, _)) = (callable, arguments) else {
            return Err(self.unexpected("a call of something without a name"));
        };
        match (&**name, &**arguments) {
            ("numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct", _) => {
                Ok(Value::Array(Rc::default()))
            }
            ("numpy.dtype", [Value::Text(kind), ..]) => Ok(Value::Type(&**kind == "f4")),
            // How protocol 2 writes bytes: each as the character of its number.
            ("_codecs.encode", [Value::Text(text), ..]) => {
                self.spend(text.len())?;
                let bytes: Option<Vec<u8>> =
                    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
                let bytes = bytes.ok_or_else(|| self.unexpected("bytes that are none"))?;
                Ok(Value::Bytes(bytes.into()))
            }
            ("collections.OrderedDict", _) => Ok(Value::Dict(Rc::default())),
            (name, _) => Err(self.unexpected(format!("a call of {name}"))),
        }
    }

    /// The state of the value on top of the stack.
    fn build(&mut self, state: &Value) -> Result<(), PickleError> {
        let Value::Tuple(state, _) = state else {
            return Err(self.unexpected("a state that is no tuple"));
        };
        match (self.stack.last(), &**state) {
            (Some(Value::Type(float)), [_, Value::Text(order), ..]) => {
                if *float && &**order == ">" {
                    return Err(self.unexpected("numbers in big-endian order"));
                }
                Ok(())
            }
            (
                Some(Value::Array(array)),
                [
                    _,
                    Value::Tuple(shape, _),
                    Value::Type(float),
                    Value::Bool(fortran),
                    Value::Bytes(bytes),
                ],
            ) => {
                let side = |value: &Value| match value {
                    Value::Int(side) => usize::try_from(*side).ok(),
                    _ => None,
                };
                if shape.len() > MAX_SIDES {
                    return Err(self.unexpected("an array of too many sides"));
                }
                let shape: Option<Vec<usize>> = shape.iter().map(side).collect();
                let shape = shape.ok_or_else(|| self.unexpected("a shape without numbers"))?;
                let count = shape.iter().try_fold(4_usize, |n, side| n.checked_mul(*side));
                if *float && count != Some(bytes.len()) {
                    return Err(self.unexpected("an array of another length than its shape says"));
                }
                if *float && *fortran && shape.len() > 1 {
                    return Err(self.unexpected("an array stored column by column"));
                }
                *array.borrow_mut() = Array { shape, float: *float, bytes: bytes.clone() };
                Ok(())
            }
            _ => Err(self.unexpected("a state that nothing has")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend([0x8c, text.len() as u8]);
        bytes.extend(text.as_bytes());
        bytes.push(0x94);
    }

    /// What rebuilds `numpy.array(values, "f4")` of a shape of two sides.
    fn array(bytes: &mut Vec<u8>, shape: [u32; 2], values: &[f32]) {
        text(bytes, "numpy.core.multiarray");
        text(bytes, "_reconstruct");
        bytes.extend([0x93, 0x94]);
        text(bytes, "numpy");
        text(bytes, "ndarray");
        bytes
            .extend([0x93, 0x94, b'K', 0, 0x85, 0x94, b'C', 1, b'b', 0x94, 0x87, 0x94, b'R', 0x94]);
        bytes.extend([b'(', b'K', 1]);
        for side in shape {
            bytes.push(b'J');
            bytes.extend(side.to_le_bytes());
        }
        bytes.extend([0x86, 0x94]);
        text(bytes, "numpy");
        text(bytes, "dtype");
        bytes.extend([0x93, 0x94]);
        text(bytes, "f4");
        bytes.extend([0x89, 0x88, 0x87, 0x94, b'R', 0x94, b'(', b'K', 3]);
        text(bytes, "<");
        bytes.extend([b'N', b't', b'b', 0x89, b'B']);
        bytes.extend((values.len() as u32 * 4).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes.extend([0x94, b't', 0x94, b'b']);
    }

    /// `{"w": numpy.array([[1.5, -2.0]], "f4"), "n": 3}` by protocol 4.
    fn pickle() -> Vec<u8> {
        let mut bytes = vec![0x80, 4, b'}', 0x94, b'('];
        text(&mut bytes, "w");
        array(&mut bytes, [1, 2], &[1.5, -2.0]);
        text(&mut bytes, "n");
        bytes.extend([b'K', 3, b'u', b'.']);
        bytes
    }

    #[test]
    fn one_array_by_many_names_takes_no_more_than_the_file() {
        let named = |times: usize| {
            let mut bytes = vec![0x80, 4, b'}', 0x94, b'('];
            text(&mut bytes, "w");
            array(&mut bytes, [1, 25_000], &vec![0.5; 25_000]);
            bytes.extend([b'q', 200]);
            for number in 0..times {
                text(&mut bytes, &number.to_string());
                bytes.extend([b'h', 200]);
            }
            bytes.extend([b'u', b'.']);
            read_arrays(&bytes, |_| true)
        };
        // Two networks that share a layer are no attack.
        assert_eq!(named(1).unwrap().len(), 2);
        let error = named(20_000).unwrap_err().to_string();
        assert!(error.contains("again and again"), "{error}");
    }

    #[test]
    fn what_is_made_of_one_text_again_and_again_is_refused() {
        // _codecs.encode of the same text, kept each time.
        let mut bytes = vec![0x80, 2];
        bytes.extend(b"c_codecs\nencode\n");
        bytes.extend([b'q', 0, b'X']);
        bytes.extend(100_000_u32.to_le_bytes());
        bytes.extend(vec![b'a'; 100_000]);
        bytes.extend([0x85, b'q', 1, b'0']);
        for _ in 0..10_000 {
            bytes.extend([b'h', 0, b'h', 1, b'R']);
        }
        bytes.push(b'.');
        let error = read_arrays(&bytes, |_| true).unwrap_err().to_string();
        assert!(error.contains("again and again"), "{error}");
        let mut many = vec![b'N'; MAX_VALUES + 1];
        many.push(b'.');
        assert!(read_arrays(&many, |_| true).unwrap_err().to_string().contains("too many values"));
    }

    #[test]
    fn arrays_come_back_with_their_names() {
        let arrays = read_arrays(&pickle(), |_| true).unwrap();
        let expected = NamedTensor { shape: vec![1, 2], values: vec![1.5, -2.0] };
        assert_eq!(arrays, [("w".to_owned(), expected)]);
    }

    #[test]
    fn damaged_bytes_give_an_error_and_never_a_panic() {
        let whole = pickle();
        for length in 0..whole.len() {
            let error = read_arrays(&whole[..length], |_| true).unwrap_err();
            assert_eq!(error, PickleError::Truncated, "{length} bytes");
        }
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[position] ^= 1 << bit;
                match read_arrays(&bytes, |_| true) {
                    Ok(_) | Err(PickleError::Truncated | PickleError::Unexpected { .. }) => (),
                }
            }
        }
    }

    #[test]
    fn calls_of_anything_else_are_refused() {
        let error = read_arrays(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.", |_| true).unwrap_err();
        assert!(error.to_string().contains("os.system"), "{error}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = vec![b'N'];
        bytes.extend(vec![0x85; 1_000_000]);
        bytes.push(b'.');
        assert!(read_arrays(&bytes, |_| true).unwrap_err().to_string().contains("too deep"));
    }
}
