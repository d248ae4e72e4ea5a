//! Rows as `COPY … (FORMAT binary)` writes and reads them: one after the other, whatever their number.
//!
//! Source: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format"; a vector is what pgvector's
//! `vector_send` gives: its length and two bytes of zeros, then its values, all big-endian.

use std::io::{BufRead, Read, Write};

use super::PostgresError;

/// How every stream begins: the signature, no flags, nothing more in the header.
const BEGIN: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Most bytes of a field: the server has none that is longer.
const FIELD: u64 = 1 << 30;

/// A value of a row.
pub(super) enum Field<'a> {
    Int(i32),
    Long(i64),
    Real(Option<f32>),
    Text(&'a str),
    Bytes(&'a [u8]),
    Vector(&'a [f32]),
}

/// Writes rows.
pub(super) struct RowWriter<W> {
    writer: W,
    row: Vec<u8>,
}

impl<W: Write> RowWriter<W> {
    /// Begins the stream.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub(super) fn begin(mut writer: W) -> std::io::Result<Self> {
        writer.write_all(BEGIN)?;
        Ok(Self { writer, row: Vec::new() })
    }

    /// Writes a row.
    ///
    /// # Errors
    ///
    /// What the writer says; a field that is too long.
    pub(super) fn row(&mut self, fields: &[Field<'_>]) -> std::io::Result<()> {
        self.row.clear();
        self.row.extend((fields.len() as i16).to_be_bytes());
        for field in fields {
            let start = self.row.len();
            self.row.extend([0; 4]);
            match field {
                Field::Real(None) => {
                    self.row[start..].copy_from_slice(&(-1_i32).to_be_bytes());
                    continue;
                }
                Field::Int(value) => self.row.extend(value.to_be_bytes()),
                Field::Long(value) => self.row.extend(value.to_be_bytes()),
                Field::Real(Some(value)) => self.row.extend(value.to_be_bytes()),
                Field::Text(text) => self.row.extend(text.as_bytes()),
                Field::Bytes(bytes) => self.row.extend(*bytes),
                Field::Vector(values) => {
                    let length = i16::try_from(values.len()).map_err(std::io::Error::other)?;
                    self.row.extend(length.to_be_bytes());
                    self.row.extend([0; 2]);
                    values.iter().for_each(|value| self.row.extend(value.to_be_bytes()));
                }
            }
            let length = self.row.len() - start - 4;
            let length = i32::try_from(length).map_err(std::io::Error::other)?;
            self.row[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        self.writer.write_all(&self.row)
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub(super) fn end(mut self) -> std::io::Result<W> {
        self.writer.write_all(&(-1_i16).to_be_bytes())?;
        Ok(self.writer)
    }
}

/// Reads rows. Every length is checked before it is used.
pub(super) struct RowReader<R> {
    reader: R,
    fields: Vec<Option<Vec<u8>>>,
    rows: u64,
}

impl<R: BufRead> RowReader<R> {
    /// Begins to read rows of so many fields.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Inconsistent`], [`PostgresError::Receiving`]
    pub(super) fn begin(mut reader: R, fields: usize) -> Result<Self, PostgresError> {
        let mut begin = [0; BEGIN.len()];
        reader.read_exact(&mut begin)?;
        if begin != *BEGIN {
            return Err(PostgresError::Inconsistent("rows that begin otherwise".to_owned()));
        }
        Ok(Self { reader, fields: vec![None; fields], rows: 0 })
    }

    /// The next row; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Inconsistent`], [`PostgresError::Receiving`]
    pub(super) fn advance(&mut self) -> Result<Option<Row<'_>>, PostgresError> {
        let mut count = [0; 2];
        self.reader.read_exact(&mut count)?;
        let count = i16::from_be_bytes(count);
        if count == -1 {
            return Ok(None);
        }
        if usize::try_from(count) != Ok(self.fields.len()) {
            return Err(PostgresError::Inconsistent(format!("a row of {count} fields")));
        }
        for field in &mut self.fields {
            let mut length = [0; 4];
            self.reader.read_exact(&mut length)?;
            let length = i32::from_be_bytes(length);
            if length == -1 {
                *field = None;
                continue;
            }
            let length = u64::try_from(length).ok().filter(|length| *length <= FIELD);
            let Some(length) = length else {
                return Err(PostgresError::Inconsistent("a field without a length".to_owned()));
            };
            let bytes = field.get_or_insert_default();
            bytes.clear();
            // Memory is taken as the bytes come.
            (&mut self.reader).take(length).read_to_end(bytes)?;
            if bytes.len() as u64 != length {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
        self.rows += 1;
        Ok(Some(Row { fields: &self.fields, number: self.rows - 1 }))
    }
}

/// A row that was read.
pub(super) struct Row<'a> {
    fields: &'a [Option<Vec<u8>>],
    /// Which one it is, from 0 on.
    pub(super) number: u64,
}

impl<'a> Row<'a> {
    fn wrong(&self, field: usize, what: &str) -> PostgresError {
        PostgresError::Inconsistent(format!("row {}, field {field}: {what}", self.number))
    }

    /// Bytes of a field that has to have some.
    pub(super) fn bytes(&self, field: usize) -> Result<&'a [u8], PostgresError> {
        let bytes = self.fields.get(field).and_then(Option::as_deref);
        bytes.ok_or_else(|| self.wrong(field, "nothing is there"))
    }

    fn exactly<const N: usize>(&self, field: usize) -> Result<[u8; N], PostgresError> {
        let bytes = self.bytes(field)?;
        let wrong = |_| self.wrong(field, &format!("{} bytes, and it has {N}", bytes.len()));
        bytes.try_into().map_err(wrong)
    }

    pub(super) fn int(&self, field: usize) -> Result<i32, PostgresError> {
        Ok(i32::from_be_bytes(self.exactly(field)?))
    }

    pub(super) fn real(&self, field: usize) -> Result<Option<f32>, PostgresError> {
        if self.fields.get(field).is_some_and(Option::is_none) {
            return Ok(None);
        }
        Ok(Some(f32::from_be_bytes(self.exactly(field)?)))
    }

    pub(super) fn text(&self, field: usize) -> Result<&'a str, PostgresError> {
        std::str::from_utf8(self.bytes(field)?)
            .map_err(|_letters| self.wrong(field, "no text of UTF-8"))
    }

    /// A vector, into `values`; how many values it has and what they are is not looked at.
    pub(super) fn vector(&self, field: usize, values: &mut Vec<f32>) -> Result<(), PostgresError> {
        let wrong = || self.wrong(field, "no vector");
        let (head, rest) = self.bytes(field)?.split_first_chunk::<4>().ok_or_else(wrong)?;
        let length = i16::from_be_bytes([head[0], head[1]]);
        if usize::try_from(length).ok().and_then(|length| length.checked_mul(4)) != Some(rest.len())
            || head[2..] != [0, 0]
        {
            return Err(wrong());
        }
        values.clear();
        values.extend(
            rest.chunks_exact(4).map(|b| f32::from_be_bytes(std::array::from_fn(|i| b[i]))),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<u8> {
        let mut writer = RowWriter::begin(Vec::new()).unwrap();
        let texts = ["", "Tab\t \\N 小熊猫"];
        for (number, text) in texts.into_iter().enumerate() {
            let real = (number == 1).then_some(0.625);
            let vector = [number as f32, -1.5, f32::MAX];
            let bytes = [0, 255, 92];
            writer
                .row(&[
                    Field::Int(number as i32 - 1),
                    Field::Text(text),
                    Field::Real(real),
                    Field::Bytes(&bytes),
                    Field::Vector(&vector),
                    Field::Long(-7),
                ])
                .unwrap();
        }
        writer.end().unwrap()
    }

    /// Everything that rows say.
    fn read(bytes: &[u8]) -> Result<Vec<String>, PostgresError> {
        let mut rows = RowReader::begin(bytes, 6)?;
        let (mut said, mut values) = (Vec::new(), Vec::new());
        while let Some(row) = rows.advance()? {
            row.vector(4, &mut values)?;
            let (int, text, real) = (row.int(0)?, row.text(1)?, row.real(2)?);
            let long = row.exactly::<8>(5)?;
            said.push(format!("{int} {text:?} {real:?} {:?} {values:?} {long:?}", row.bytes(3)?));
        }
        Ok(said)
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        let said = read(&some()).unwrap();
        let last = "[255, 255, 255, 255, 255, 255, 255, 249]";
        assert_eq!(
            said,
            [
                format!("-1 \"\" None [0, 255, 92] [0.0, -1.5, 3.4028235e38] {last}"),
                format!(
                    "0 \"Tab\\t \\\\N 小熊猫\" Some(0.625) [0, 255, 92] [1.0, -1.5, 3.4028235e38] {last}"
                ),
            ]
        );
    }

    #[test]
    fn rows_that_are_cut_or_changed_anywhere_are_refused_or_read() {
        let whole = some();
        for cut in 0..whole.len() {
            let error = read(&whole[..cut]).unwrap_err();
            assert!(matches!(error, PostgresError::Receiving(_)), "{cut}: {error}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                // Whatever comes, it is a value or an error.
                let _ = read(&changed);
            }
        }
        let mut huge = whole.clone();
        huge[21..25].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(matches!(read(&huge), Err(PostgresError::Inconsistent(_))));
        let mut negative = whole;
        negative[21..25].copy_from_slice(&(-2_i32).to_be_bytes());
        let error = read(&negative).unwrap_err().to_string();
        assert!(error.contains("a field without a length"), "{error}");
    }

    #[test]
    fn a_vector_of_another_length_than_its_own_is_refused() {
        for vector in
            [&[][..], &[0, 1, 0], &[0, 1, 0, 0], &[0, 1, 0, 0, 0, 0, 0], &[255, 255, 0, 0]]
        {
            let mut writer = RowWriter::begin(Vec::new()).unwrap();
            writer.row(&[Field::Bytes(vector)]).unwrap();
            let bytes = writer.end().unwrap();
            let mut rows = RowReader::begin(&bytes[..], 1).unwrap();
            let row = rows.advance().unwrap().unwrap();
            let error = row.vector(0, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("row 0, field 0: no vector"), "{error}");
        }
    }
}
