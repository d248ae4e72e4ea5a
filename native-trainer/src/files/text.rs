//! Text of files that people write, with whatever mark their editor puts in front.

use thiserror::Error;

use super::own::kind_of_bytes;

/// The byte order mark that some editors put in front of UTF-8; it belongs to no word.
pub const MARK: char = '\u{feff}';

/// Why bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// They are another file of this program.
    #[error("this is {0}, and no text")]
    Own(&'static str),
    /// They begin with the mark of UTF-16.
    #[error("this is UTF-16; save it as UTF-8")]
    Utf16,
    /// A line holds other bytes than UTF-8.
    #[error("not UTF-8 text; save it as UTF-8")]
    NotUtf8 {
        /// Counted from 1.
        line: usize,
    },
}

impl TextError {
    /// The line that is wrong, counted from 1.
    pub fn line(self) -> usize {
        match self {
            Self::Utf16 | Self::Own(_) => 1,
            Self::NotUtf8 { line } => line,
        }
    }
}

/// The text of a file in UTF-8, without a byte order mark in front.
///
/// # Errors
///
/// [`TextError`]
pub fn text(bytes: Vec<u8>) -> Result<String, TextError> {
    if let Some(kind) = kind_of_bytes(&bytes) {
        return Err(TextError::Own(kind));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(TextError::Utf16);
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        TextError::NotUtf8 { line: before.split(|byte| *byte == b'\n').count() }
    })?;
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_in_front_is_no_text_and_other_encodings_are_named() {
        assert_eq!(text(b"\xef\xbb\xbfa\n".to_vec()).unwrap(), "a\n");
        assert_eq!(text("ä".as_bytes().to_vec()).unwrap(), "ä");
        assert_eq!(text(Vec::new()).unwrap(), "");
        for bytes in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
            assert_eq!(text(bytes.to_vec()), Err(TextError::Utf16));
        }
        assert_eq!(text(b"a\nb\n\xff".to_vec()), Err(TextError::NotUtf8 { line: 3 }));
    }
}
