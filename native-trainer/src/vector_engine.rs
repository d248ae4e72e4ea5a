//! Galleries in `PostgreSQL` with pgvector, for those that one file cannot hold.
//!
//! A gallery of some name is three tables: `NAME_gallery` (one row), `NAME_classes` and
//! `NAME_entries`. A push replaces them in one transaction, so that a search sees the old gallery or
//! the new one. Connections are not encrypted: use a socket, the same machine or a private network.
//!
//! Source: <https://github.com/pgvector/pgvector>, operator `<#>` (negative inner product) and index
//! `hnsw (vector_ip_ops)`.

use std::fmt::Write as _;
use std::io::{Read, Seek, Write};

use models::gallery::{
    Class, Gallery, GalleryError, GalleryStream, MAX_DIM, Match, Metadata, PictureId, StreamError,
    VectorType,
};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls};
use thiserror::Error;

/// Widest vectors that pgvector's graph takes; wider ones are scanned.
const MAX_INDEXED_DIM: usize = 2000;
/// Longest name of a gallery.
const MAX_NAME: usize = 40;

/// Why a vector engine could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VectorEngineError {
    /// The server does not answer, or refuses.
    #[error("{0}; write the address as postgres://user:password@host/database")]
    Connect(postgres::Error),
    /// The server has no pgvector.
    #[error("the server has no pgvector: {0}; install it there")]
    NoVectors(postgres::Error),
    /// The server refuses a command.
    #[error("the server says: {}", said(.0))]
    Server(#[from] postgres::Error),
    /// A name that is no name of a table.
    #[error("{0:?} is no name of a gallery: small letters, digits and _, at most 40")]
    Name(String),
    /// No gallery of this name.
    #[error("there is no gallery {0:?}; `magpie gallery push` makes one")]
    NotThere(String),
    /// Rows that nobody pushed.
    #[error("the gallery on the server is inconsistent: {0}; push it again")]
    Inconsistent(String),
    /// Rows that are no gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// Rows that are no gallery, or scratch files that cannot be written.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The connection broke while rows were sent.
    #[error("the connection broke: {0}")]
    Sending(#[from] std::io::Error),
}

/// The server's own words.
fn said(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

/// One gallery on a server.
pub struct VectorEngine {
    client: Client,
    name: String,
}

/// A vector as pgvector reads it.
fn literal(vector: &[f32]) -> String {
    let mut text = String::with_capacity(vector.len() * 12 + 2);
    for (place, value) in vector.iter().enumerate() {
        text.push(if place == 0 { '[' } else { ',' });
        // Writing to a string cannot fail.
        let _ = write!(text, "{value}");
    }
    text.push(']');
    text
}

/// Bytes as `COPY` reads them.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("\\\\x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text as `COPY` reads it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn optional(value: Option<f32>) -> String {
    value.map_or("\\N".to_owned(), |value| value.to_string())
}

impl VectorEngine {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`VectorEngineError::Connect`], [`VectorEngineError::Name`]
    pub fn connect(address: &str, name: &str) -> Result<Self, VectorEngineError> {
        let small = |c: char| c.is_ascii_lowercase() || c == '_';
        let good = name.starts_with(small)
            && name.len() <= MAX_NAME
            && name.chars().all(|c| small(c) || c.is_ascii_digit());
        if !good {
            return Err(VectorEngineError::Name(name.to_owned()));
        }
        let client = Client::connect(address, NoTls).map_err(VectorEngineError::Connect)?;
        Ok(Self { client, name: name.to_owned() })
    }

    /// Puts a gallery in the place of the one of this name.
    ///
    /// # Errors
    ///
    /// [`VectorEngineError`]; what was there stays then.
    pub fn push(&mut self, gallery: &Gallery) -> Result<(), VectorEngineError> {
        let (name, dim) = (&self.name, gallery.dim());
        self.client
            .batch_execute("CREATE EXTENSION IF NOT EXISTS vector")
            .map_err(VectorEngineError::NoVectors)?;
        let mut transaction = self.client.transaction()?;
        transaction.batch_execute(&format!(
            "DROP TABLE IF EXISTS {name}_entries, {name}_classes, {name}_gallery;
             CREATE TABLE {name}_gallery (model text NOT NULL, dim int NOT NULL,
                 vector_type text NOT NULL, min_similarity real);
             CREATE TABLE {name}_classes (class int PRIMARY KEY, label text NOT NULL,
                 metadata text NOT NULL, min_similarity real, thumbnail bytea NOT NULL);
             CREATE TABLE {name}_entries (entry bigint PRIMARY KEY,
                 class int NOT NULL REFERENCES {name}_classes, picture bytea NOT NULL,
                 embedding vector({dim}) NOT NULL)"
        ))?;
        transaction.execute(
            &format!("INSERT INTO {name}_gallery VALUES ($1, $2, $3, $4)"),
            &[
                &gallery.model(),
                &(dim as i32),
                &vector_type_name(gallery.index().vector_type()),
                &gallery.min_similarity(),
            ],
        )?;
        let mut rows = transaction.copy_in(&format!("COPY {name}_classes FROM STDIN"))?;
        for (number, class) in gallery.classes().iter().enumerate() {
            let metadata = serde_json::to_string(&class.metadata)
                .map_err(|error| VectorEngineError::Inconsistent(error.to_string()))?;
            writeln!(
                rows,
                "{number}\t{}\t{}\t{}\t{}",
                escaped(&class.label),
                escaped(&metadata),
                optional(class.min_similarity),
                hexadecimal(gallery.thumbnail(number))
            )?;
        }
        rows.finish()?;
        let mut rows = transaction.copy_in(&format!("COPY {name}_entries FROM STDIN"))?;
        for (number, entry) in gallery.entries().enumerate() {
            writeln!(
                rows,
                "{number}\t{}\t{}\t{}",
                gallery.entry_class(entry),
                hexadecimal(&gallery.picture(entry).0),
                literal(&gallery.index().vector(entry))
            )?;
        }
        rows.finish()?;
        if dim <= MAX_INDEXED_DIM {
            transaction.batch_execute(&format!(
                "CREATE INDEX ON {name}_entries USING hnsw (embedding vector_ip_ops)"
            ))?;
        }
        Ok(transaction.commit()?)
    }

    fn exists(&mut self) -> Result<(), VectorEngineError> {
        let table = format!("{}_gallery", self.name);
        let found = self.client.query_one("SELECT to_regclass($1)::text", &[&table])?;
        match found.get::<_, Option<String>>(0) {
            Some(_) => Ok(()),
            None => Err(VectorEngineError::NotThere(self.name.clone())),
        }
    }

    /// The model, the width and the value type of the gallery, and its threshold.
    fn description(
        &mut self,
    ) -> Result<(String, usize, VectorType, Option<f32>), VectorEngineError> {
        self.exists()?;
        let query = format!(
            "SELECT model, dim, vector_type, min_similarity FROM {}_gallery LIMIT 1",
            self.name
        );
        let row = self
            .client
            .query_opt(&query, &[])?
            .ok_or_else(|| VectorEngineError::NotThere(self.name.clone()))?;
        let dim = usize::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default();
        if dim == 0 || dim > MAX_DIM {
            return Err(VectorEngineError::Inconsistent(format!("embeddings of {dim} values")));
        }
        let vector_type = match row.try_get::<_, &str>(2)? {
            "f16" => VectorType::F16,
            "f32" => VectorType::F32,
            "i8" => VectorType::I8,
            other => return Err(VectorEngineError::Inconsistent(format!("values of {other:?}"))),
        };
        Ok((row.try_get(0)?, dim, vector_type, row.try_get(3)?))
    }

    /// Takes the gallery from the server, its index to be built anew; what has come lies in the scratch
    /// files, which are empty.
    ///
    /// # Errors
    ///
    /// [`VectorEngineError`]
    pub fn pull<S: Read + Write + Seek>(
        &mut self,
        scratch: [S; 2],
    ) -> Result<GalleryStream<S>, VectorEngineError> {
        let (model, dim, vector_type, min_similarity) = self.description()?;
        let mut gallery = GalleryStream::new(dim, model, vector_type, scratch);
        gallery.set_min_similarity(min_similarity)?;
        let name = &self.name;
        let query = format!(
            "SELECT class, label, metadata, min_similarity, thumbnail FROM {name}_classes \
             ORDER BY class"
        );
        let mut rows = self.client.query_raw(&query, std::iter::empty::<&str>())?;
        while let Some(row) = rows.next()? {
            let metadata: Metadata = serde_json::from_str(row.try_get(2)?)
                .map_err(|error| VectorEngineError::Inconsistent(error.to_string()))?;
            let (label, min_similarity) = (row.try_get(1)?, row.try_get(3)?);
            let class = Class { label, metadata, min_similarity };
            let place = gallery.add_class(class, row.try_get(4)?)?;
            if i32::try_from(place) != Ok(row.try_get(0)?) {
                return Err(VectorEngineError::Inconsistent("a class is missing".to_owned()));
            }
        }
        drop(rows);
        let query =
            format!("SELECT class, picture, embedding::text FROM {name}_entries ORDER BY entry");
        let mut rows = self.client.query_raw(&query, std::iter::empty::<&str>())?;
        while let Some(row) = rows.next()? {
            let class = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
            let Ok(picture) = <[u8; 16]>::try_from(row.try_get::<_, &[u8]>(1)?) else {
                return Err(VectorEngineError::Inconsistent("a picture's hash".to_owned()));
            };
            let embedding: Vec<f32> = serde_json::from_str(row.try_get(2)?)
                .map_err(|error| VectorEngineError::Inconsistent(error.to_string()))?;
            gallery.add_stored(class, &embedding, PictureId(picture))?;
        }
        Ok(gallery)
    }

    /// The `k` most similar classes, best first, by the server's index.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[dim]`, unit length
    ///
    /// # Errors
    ///
    /// [`VectorEngineError`]; [`GalleryError::OtherModel`] for embeddings of another model.
    pub fn search(
        &mut self,
        model: &str,
        embedding: &[f32],
        k: usize,
    ) -> Result<Vec<(String, Match)>, VectorEngineError> {
        let (theirs, dim, ..) = self.description()?;
        if theirs != model {
            let (gallery, model) = (theirs, model.to_owned());
            return Err(GalleryError::OtherModel { gallery, model }.into());
        }
        if embedding.len() != dim {
            let got = embedding.len();
            return Err(GalleryError::Dimension { expected: dim, got }.into());
        }
        let name = &self.name;
        let query = format!(
            "SELECT e.class, c.label, (-(e.embedding <#> $1::text::vector))::real
             FROM {name}_entries e JOIN {name}_classes c USING (class)
             ORDER BY e.embedding <#> $1::text::vector LIMIT $2"
        );
        // A class may fill the best places with many entries, so widen until k classes are seen.
        let mut width = (k as i64).saturating_mul(4).clamp(16, 1000);
        loop {
            // The server's graph looks at no more entries than this.
            self.client
                .batch_execute(&format!("SET hnsw.ef_search = {}", width.clamp(40, 1000)))?;
            let rows = self.client.query(&query, &[&literal(embedding), &width])?;
            let mut matches: Vec<(String, Match)> = Vec::new();
            for row in &rows {
                let class = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
                if matches.len() < k && matches.iter().all(|(_, m)| m.class != class) {
                    matches.push((row.try_get(1)?, Match { class, similarity: row.try_get(2)? }));
                }
            }
            if matches.len() == k || (rows.len() as i64) < width || width >= 1000 {
                return Ok(matches);
            }
            width = (width * 4).min(1000);
        }
    }
}

fn vector_type_name(vector_type: VectorType) -> &'static str {
    match vector_type {
        VectorType::F16 => "f16",
        VectorType::F32 => "f32",
        VectorType::I8 => "i8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_tables_are_refused() {
        for name in ["", "Shop", "1shop", "shop; DROP TABLE x", &"a".repeat(41)] {
            let error = VectorEngine::connect("postgres://127.0.0.1:1/x", name).err();
            assert!(matches!(error, Some(VectorEngineError::Name(_))), "{name:?}");
        }
        let error = VectorEngine::connect("postgres://127.0.0.1:1/x", "shop").err();
        assert!(matches!(error, Some(VectorEngineError::Connect(_))));
    }

    #[test]
    fn texts_survive_the_copy_format() {
        assert_eq!(escaped("a\tb\\c\nd"), "a\\tb\\\\c\\nd");
        assert_eq!(literal(&[0.5, -1.0]), "[0.5,-1]");
        assert_eq!(hexadecimal(&[0, 255]), "\\\\x00ff");
    }
}
