//! Texts about classes from a table: a CSV file whose first column has the names of the classes, and whose first row
//! has the names of the texts.

use thiserror::Error;

use super::name;

/// Most bytes of a table.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// Why a table cannot be read; lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum TableError {
    /// There is no row of names, or only one column.
    #[error("the first row has to have the names of at least two columns")]
    NoColumns,
    /// A field that begins with a quotation mark does not end with one.
    #[error("line {0}: a field that begins with a quotation mark has to end with one")]
    OpenQuote(usize),
    /// A row has more fields than the first one.
    #[error("line {0}: has more fields than the first row")]
    TooManyFields(usize),
    /// Larger than [`MOST_BYTES`].
    #[error("a table may have 16 MB")]
    TooLarge,
}

/// What a table says of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    rows: Vec<(String, Vec<(String, String)>)>,
}

impl Table {
    /// What is said of classes by their names.
    pub(crate) const fn of(rows: Vec<(String, Vec<(String, String)>)>) -> Self {
        Self { rows }
    }

    /// Reads a CSV file (RFC 4180). Commas, semicolons and tabs separate fields, whichever the first row has the most
    /// of: programs write what their country does.
    ///
    /// # Errors
    ///
    /// [`TableError`] where it is none.
    pub(crate) fn read(text: &str) -> Result<Self, TableError> {
        if text.len() > MOST_BYTES {
            return Err(TableError::TooLarge);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = text.lines().next().unwrap_or_default();
        // Between quotation marks a separator is text.
        let outside = || first.split('"').step_by(2).flat_map(str::chars);
        let count = |separator: &char| outside().filter(|letter| letter == separator).count();
        let separator = [',', '\t', ';'].into_iter().max_by_key(count).unwrap_or(',');
        let mut rows = records(text, separator)?.into_iter();
        let (_, names) = rows.next().unwrap_or_default();
        if names.len() < 2 {
            return Err(TableError::NoColumns);
        }
        let names: Vec<Option<String>> = names.iter().map(|text| name(text)).collect();
        let mut read = Vec::new();
        for (line, fields) in rows {
            if fields.len() > names.len() {
                return Err(TableError::TooManyFields(line));
            }
            let mut fields = fields.into_iter();
            let Some(label) = fields.next().as_deref().and_then(name) else { continue };
            // A field that is not there says nothing; an empty one says that there is no text.
            let told = names[1..].iter().zip(fields);
            let told =
                told.filter_map(|(name, text)| Some((name.clone()?, text.trim().to_owned())));
            read.push((label, told.collect()));
        }
        Ok(Self { rows: read })
    }

    /// Classes by their names, with what is said of each.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &[(String, String)])> {
        self.rows.iter().map(|(label, told)| (label.as_str(), told.as_slice()))
    }
}

/// Fields of each row with the line where it begins; empty rows are none.
fn records(text: &str, separator: char) -> Result<Vec<(usize, Vec<String>)>, TableError> {
    let mut records = Vec::new();
    let mut letters = text.chars().peekable();
    let mut line = 1;
    while letters.peek().is_some() {
        let begin = line;
        let mut fields = Vec::new();
        loop {
            let mut field = String::new();
            if letters.next_if_eq(&'"').is_some() {
                let opened = line;
                loop {
                    match letters.next() {
                        Some('"') if letters.next_if_eq(&'"').is_some() => field.push('"'),
                        Some('"') => break,
                        Some(letter) => {
                            line += usize::from(letter == '\n');
                            field.push(letter);
                        }
                        None => return Err(TableError::OpenQuote(opened)),
                    }
                }
            }
            while let Some(letter) =
                letters.next_if(|letter| *letter != separator && !['\r', '\n'].contains(letter))
            {
                field.push(letter);
            }
            fields.push(field);
            match letters.next() {
                Some(letter) if letter == separator => {}
                Some('\r') => {
                    letters.next_if_eq(&'\n');
                    line += 1;
                    break;
                }
                Some(_) => {
                    line += 1;
                    break;
                }
                None => break,
            }
        }
        if fields.iter().any(|field| !field.trim().is_empty()) {
            records.push((begin, fields));
        }
    }
    Ok(records)
}
