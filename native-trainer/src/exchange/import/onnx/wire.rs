//! Protocol buffers as they lie in a file: fields by number, nothing that is not asked for.

use super::OnnxError;

/// A field's contents.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Number(u64),
    Four([u8; 4]),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(super) fn number(self) -> Result<u64, OnnxError> {
        match self {
            Self::Number(value) => Ok(value),
            _ => Err(damaged("a number has another type")),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], OnnxError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(damaged("a text or message has another type")),
        }
    }

    pub(super) fn text(self) -> Result<String, OnnxError> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).ok().ok_or_else(|| damaged("a name is no UTF-8"))
    }

    /// A number, or several in one field.
    pub(super) fn numbers(self, into: &mut Vec<i64>) -> Result<(), OnnxError> {
        let mut rest = match self {
            Self::Number(value) => {
                into.push(value.cast_signed());
                return Ok(());
            }
            field => field.bytes()?,
        };
        while !rest.is_empty() {
            into.push(varint(&mut rest)?.cast_signed());
        }
        Ok(())
    }

    /// A 32-bit float, or several in one field.
    pub(super) fn floats(self, into: &mut Vec<f32>) -> Result<(), OnnxError> {
        if let Self::Four(bytes) = self {
            into.push(f32::from_le_bytes(bytes));
            return Ok(());
        }
        let (values, left) = self.bytes()?.as_chunks::<4>();
        if !left.is_empty() {
            return Err(damaged("a list of floats ends within one"));
        }
        into.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        Ok(())
    }

    /// A 64-bit float, or several in one field.
    pub(super) fn doubles(self, into: &mut Vec<f32>) -> Result<(), OnnxError> {
        if let Self::Eight(bytes) = self {
            into.push(f64::from_le_bytes(bytes) as f32);
            return Ok(());
        }
        let (values, left) = self.bytes()?.as_chunks::<8>();
        if !left.is_empty() {
            return Err(damaged("a list of floats ends within one"));
        }
        into.extend(values.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32));
        Ok(())
    }
}

pub(super) fn damaged(reason: &str) -> OnnxError {
    OnnxError::Damaged { reason: reason.to_owned() }
}

fn varint(rest: &mut &[u8]) -> Result<u64, OnnxError> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (byte, behind) =
            rest.split_first().ok_or_else(|| damaged("it ends within a number"))?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number has more than ten bytes"))
}

/// The fields of a message, in order: number and contents.
pub(super) fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Field<'_>), OnnxError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Field<'a>), OnnxError> {
    let tag = varint(rest)?;
    let short = || damaged("it ends within a field");
    let field = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        1 => {
            let (bytes, behind) = rest.split_first_chunk::<8>().ok_or_else(short)?;
            *rest = behind;
            Field::Eight(*bytes)
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok().ok_or_else(short)?;
            let (bytes, behind) = rest.split_at_checked(length).ok_or_else(short)?;
            *rest = behind;
            Field::Bytes(bytes)
        }
        5 => {
            let (bytes, behind) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            *rest = behind;
            Field::Four(*bytes)
        }
        _ => return Err(damaged("a field has a type that protocol buffers do not have")),
    };
    Ok((tag >> 3, field))
}
