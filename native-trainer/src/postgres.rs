//! Galleries in `PostgreSQL` with pgvector, for those that one file cannot hold.
//!
//! A gallery of some name is three tables: `NAME_gallery` (one row), `NAME_classes` and
//! `NAME_entries`. A push fills new ones and puts them in their place, in one transaction: one that is cut
//! leaves the old gallery. Whoever reads takes part in one transaction that holds all three from its beginning
//! to its end, so that it sees the old gallery or the new one; a push waits for those who read, and for another
//! push of that name. Connections are not encrypted: use a socket, the same machine or a private network.
//!
//! Source: <https://github.com/pgvector/pgvector>, operator `<#>` (negative inner product) and index
//! `hnsw (vector_ip_ops)`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use models::gallery::{
    AnswerRule, Calibration, Class, ContentId, Gallery, GalleryError, GalleryStream, MAX_DIM,
    Match, Metadata, StreamError, VectorType,
};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, Config, IsolationLevel, NoTls, Transaction};
use thiserror::Error;

/// Widest vectors that pgvector's graph takes; wider ones are scanned.
const MAX_INDEXED_DIM: usize = 2000;
/// Longest name of a gallery.
const MAX_NAME: usize = 40;
/// How long a connection may take where the address does not say.
const CONNECTED: Duration = Duration::from_secs(10);
/// Who makes the extension: one at a time, whatever the gallery.
const EXTENSION_LOCK: i64 = 0x6d61_6770_6965;
/// Pause before a push tries once more to take the place of a gallery that is read.
const PAUSE: Duration = Duration::from_millis(500);

/// What the client of the server says.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why `PostgreSQL` could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The server does not answer, or refuses.
    #[error("{0}; write the address as postgres://user:password@host/database")]
    Connect(Cause),
    /// The server has no pgvector.
    #[error("the server has no pgvector: {0}; install it there")]
    NoVectors(Cause),
    /// The server refuses a command.
    #[error("the server says: {}", said(.0))]
    Server(#[source] Cause),
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
    #[error("the connection broke: {0}; nothing was changed on the server, so try again")]
    Sending(#[from] std::io::Error),
}

impl From<postgres::Error> for PostgresError {
    fn from(error: postgres::Error) -> Self {
        Self::Server(error.into())
    }
}

/// The server's own words, if it said any.
fn said(cause: &Cause) -> String {
    let of_server = cause.downcast_ref::<postgres::Error>().and_then(postgres::Error::as_db_error);
    of_server.map_or_else(|| cause.to_string(), ToString::to_string)
}

/// One gallery on a server.
pub struct PostgresGallery {
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

impl PostgresGallery {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Connect`], [`PostgresError::Name`]
    pub fn connect(address: &str, name: &str) -> Result<Self, PostgresError> {
        let small = |c: char| c.is_ascii_lowercase() || c == '_';
        let good = name.starts_with(small)
            && name.len() <= MAX_NAME
            && name.chars().all(|c| small(c) || c.is_ascii_digit());
        if !good {
            return Err(PostgresError::Name(name.to_owned()));
        }
        let refused = |error: postgres::Error| PostgresError::Connect(error.into());
        let mut config: Config = address.parse().map_err(refused)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECTED);
        }
        let client = config.connect(NoTls).map_err(refused)?;
        Ok(Self { client, name: name.to_owned() })
    }

    /// Puts a gallery in the place of the one of this name; `waits` hears of what has to be waited for.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]; what was there stays then.
    pub fn push(&mut self, gallery: &Gallery, waits: impl Fn(&str)) -> Result<(), PostgresError> {
        let (name, dim) = (&self.name, gallery.dim());
        let inconsistent =
            |error: serde_json::Error| PostgresError::Inconsistent(error.to_string());
        let rule = gallery.measured_rule().map(|rule| serde_json::to_string(&rule));
        let rule = rule.transpose().map_err(inconsistent)?;
        let calibration = gallery.calibration().map(serde_json::to_string);
        let calibration = calibration.transpose().map_err(inconsistent)?;
        make_extension(&mut self.client)?;
        let mut transaction = self.client.transaction()?;
        lock(&mut transaction, name, &waits)?;
        transaction.batch_execute(&format!(
            "CREATE TABLE {name}_gallery_new (model text NOT NULL, dim int NOT NULL,
                 vector_type text NOT NULL, min_similarity real, rule text,
                 calibration text);
             CREATE TABLE {name}_classes_new (class int PRIMARY KEY, label text NOT NULL,
                 metadata text NOT NULL, min_similarity real, thumbnail bytea NOT NULL);
             CREATE TABLE {name}_entries_new (entry bigint PRIMARY KEY,
                 class int NOT NULL REFERENCES {name}_classes_new, picture bytea NOT NULL,
                 embedding vector({dim}) NOT NULL)"
        ))?;
        transaction.execute(
            &format!("INSERT INTO {name}_gallery_new VALUES ($1, $2, $3, $4, $5, $6)"),
            &[
                &gallery.model(),
                &(dim as i32),
                &gallery.index().vector_type().name(),
                &gallery.min_similarity(),
                &rule,
                &calibration,
            ],
        )?;
        let mut rows = transaction.copy_in(&format!("COPY {name}_classes_new FROM STDIN"))?;
        for (number, class) in gallery.classes().iter().enumerate() {
            let metadata = serde_json::to_string(&class.metadata).map_err(inconsistent)?;
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
        let mut rows = transaction.copy_in(&format!("COPY {name}_entries_new FROM STDIN"))?;
        for (number, entry) in gallery.entries().enumerate() {
            writeln!(
                rows,
                "{number}\t{}\t{}\t{}",
                gallery.entry_class(entry),
                hexadecimal(&gallery.content_id(entry).0),
                literal(&gallery.embedding(entry))
            )?;
        }
        rows.finish()?;
        if dim <= MAX_INDEXED_DIM {
            transaction.batch_execute(&format!(
                "CREATE INDEX ON {name}_entries_new USING hnsw (embedding vector_ip_ops)"
            ))?;
        }
        take_place(&mut transaction, name, &waits)?;
        Ok(transaction.commit()?)
    }

    /// A transaction that sees one state of the gallery, which a push cannot take away before its end.
    fn read(&mut self) -> Result<Reader<'_>, PostgresError> {
        let begun = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let mut transaction = begun.read_only(true).start()?;
        let name = &self.name;
        // In the order in which a push takes them away, and before the first query, which chooses the state.
        let lock = format!(
            "LOCK TABLE {name}_entries, {name}_classes, {name}_gallery IN ACCESS SHARE MODE"
        );
        match transaction.batch_execute(&lock) {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                Err(PostgresError::NotThere(name.clone()))
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Reader { transaction, name }),
        }
    }

    /// Takes the gallery from the server, its index to be built anew; what has come lies in the scratch
    /// files, which are empty.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub fn pull<S: Read + Write + Seek>(
        &mut self,
        scratch: [S; 2],
    ) -> Result<GalleryStream<S>, PostgresError> {
        self.read()?.pull(scratch)
    }

    /// The `k` most similar classes to each embedding, best first, by the server's index, all of one state of the
    /// gallery.
    ///
    /// # Shapes
    ///
    /// - `embeddings`: `[dim]` each, unit length
    ///
    /// # Errors
    ///
    /// [`PostgresError`]; [`GalleryError::OtherModel`] for embeddings of another model.
    pub fn search(
        &mut self,
        model: &str,
        embeddings: &[Vec<f32>],
        k: usize,
    ) -> Result<Vec<Vec<(String, Match)>>, PostgresError> {
        let mut reader = self.read()?;
        let Description { model: theirs, dim, .. } = reader.description()?;
        if theirs != model {
            let (gallery, model) = (theirs, model.to_owned());
            return Err(GalleryError::OtherModel { gallery, model }.into());
        }
        embeddings
            .iter()
            .map(|embedding| match embedding.len() {
                got if got != dim => Err(GalleryError::Dimension { expected: dim, got }.into()),
                _ => reader.search(embedding, k),
            })
            .collect()
    }
}

/// One at a time: two that make it at once would be refused.
fn make_extension(client: &mut Client) -> Result<(), PostgresError> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&EXTENSION_LOCK])?;
    transaction
        .batch_execute("CREATE EXTENSION IF NOT EXISTS vector")
        .map_err(|error| PostgresError::NoVectors(error.into()))?;
    Ok(transaction.commit()?)
}

/// Keeps another push of a gallery of this name waiting until the end of the transaction.
fn lock(
    transaction: &mut Transaction<'_>,
    name: &str,
    waits: &impl Fn(&str),
) -> Result<(), PostgresError> {
    let key = format!("magpie gallery {name}");
    let tried = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
    if !transaction.query_one(tried, &[&key])?.try_get::<_, bool>(0)? {
        waits(&format!("another push of {name} is under way"));
        transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key])?;
    }
    Ok(())
}

/// Puts the new tables in the place of the old ones. Who comes to read meanwhile is kept waiting for a moment only,
/// however long those who read already take.
fn take_place(
    transaction: &mut Transaction<'_>,
    name: &str,
    waits: &impl Fn(&str),
) -> Result<(), PostgresError> {
    let renamed = ["entries", "classes", "gallery"]
        .map(|table| format!("ALTER TABLE {name}_{table}_new RENAME TO {name}_{table};"));
    let replace = format!(
        "SET LOCAL lock_timeout = '500ms';
         DROP TABLE IF EXISTS {name}_entries, {name}_classes, {name}_gallery;
         {}",
        renamed.concat()
    );
    let mut is_told = false;
    loop {
        let mut attempt = transaction.transaction()?;
        match attempt.batch_execute(&replace) {
            Ok(()) => return Ok(attempt.commit()?),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => (),
            Err(error) => return Err(error.into()),
        }
        attempt.rollback()?;
        if !is_told {
            waits(&format!("{name} is read at the moment"));
            is_told = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// One state of a gallery.
struct Reader<'a> {
    transaction: Transaction<'a>,
    name: &'a str,
}

/// What is said about all entries.
struct Description {
    model: String,
    dim: usize,
    vector_type: VectorType,
    min_similarity: Option<f32>,
    rule: AnswerRule,
    calibration: Option<Calibration>,
}

impl Reader<'_> {
    fn description(&mut self) -> Result<Description, PostgresError> {
        // A table may be without the last columns.
        let query = format!(
            "SELECT model, dim, vector_type, min_similarity, to_jsonb(g) ->> 'rule', \
             to_jsonb(g) ->> 'calibration' \
             FROM {}_gallery g LIMIT 1",
            self.name
        );
        let row = self
            .transaction
            .query_opt(&query, &[])?
            .ok_or_else(|| PostgresError::NotThere(self.name.to_owned()))?;
        let dim = usize::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default();
        if dim == 0 || dim > MAX_DIM {
            return Err(PostgresError::Inconsistent(format!("embeddings of {dim} values")));
        }
        let vector_type = (row.try_get::<_, &str>(2)?.parse::<VectorType>())
            .map_err(|error| PostgresError::Inconsistent(error.to_string()))?;
        let (model, min_similarity) = (row.try_get(0)?, threshold(row.try_get(3)?)?);
        let rule = row.try_get::<_, Option<&str>>(4)?.map(serde_json::from_str).transpose();
        let inconsistent =
            |error: serde_json::Error| PostgresError::Inconsistent(error.to_string());
        let rule = rule.map_err(inconsistent)?.unwrap_or_default();
        let calibration = row.try_get::<_, Option<&str>>(5)?.map(serde_json::from_str).transpose();
        let calibration = calibration.map_err(inconsistent)?;
        Ok(Description { model, dim, vector_type, min_similarity, rule, calibration })
    }

    fn pull<S: Read + Write + Seek>(
        &mut self,
        scratch: [S; 2],
    ) -> Result<GalleryStream<S>, PostgresError> {
        let Description { model, dim, vector_type, min_similarity, rule, calibration } =
            self.description()?;
        let mut gallery = GalleryStream::new(dim, model, vector_type, scratch);
        gallery.set_min_similarity(min_similarity)?;
        gallery.set_measured_rule(rule);
        gallery.set_calibration(calibration);
        let name = self.name;
        let query = format!(
            "SELECT class, label, metadata, min_similarity, thumbnail FROM {name}_classes \
             ORDER BY class"
        );
        let mut labels = BTreeSet::new();
        let mut rows = self.transaction.query_raw(&query, std::iter::empty::<&str>())?;
        while let Some(row) = rows.next()? {
            let metadata: Metadata = serde_json::from_str(row.try_get(2)?)
                .map_err(|error| PostgresError::Inconsistent(error.to_string()))?;
            let label: String = row.try_get(1)?;
            if !labels.insert(label.clone()) {
                return Err(PostgresError::Inconsistent(format!("two classes {label:?}")));
            }
            let min_similarity = threshold(row.try_get(3)?)?;
            let class = Class { label, metadata, min_similarity };
            let place = gallery.add_class(class, row.try_get(4)?)?;
            if i32::try_from(place) != Ok(row.try_get(0)?) {
                return Err(PostgresError::Inconsistent("a class is missing".to_owned()));
            }
        }
        drop((rows, labels));
        let query =
            format!("SELECT class, picture, embedding::text FROM {name}_entries ORDER BY entry");
        let mut rows = self.transaction.query_raw(&query, std::iter::empty::<&str>())?;
        while let Some(row) = rows.next()? {
            let class = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
            let Ok(picture) = <[u8; 16]>::try_from(row.try_get::<_, &[u8]>(1)?) else {
                return Err(PostgresError::Inconsistent("a picture's hash".to_owned()));
            };
            let embedding: Vec<f32> = serde_json::from_str(row.try_get(2)?)
                .map_err(|error| PostgresError::Inconsistent(error.to_string()))?;
            // Its width, its values and its class are looked at there.
            let added = gallery.add_stored(class, &embedding, ContentId(picture));
            added.map_err(|error| match error {
                StreamError::Gallery(error) => {
                    PostgresError::Inconsistent(format!("entry {}: {error}", gallery.len()))
                }
                error => error.into(),
            })?;
        }
        Ok(gallery)
    }

    fn search(
        &mut self,
        embedding: &[f32],
        k: usize,
    ) -> Result<Vec<(String, Match)>, PostgresError> {
        let name = self.name;
        let query = format!(
            "SELECT e.class, c.label, (-(e.embedding <#> $1::text::vector))::real
             FROM {name}_entries e JOIN {name}_classes c USING (class)
             ORDER BY e.embedding <#> $1::text::vector LIMIT $2"
        );
        // A class may fill the best places with many entries, so widen until k classes are seen.
        let mut width = (k as i64).saturating_mul(4).clamp(16, 1000);
        loop {
            // The server's graph looks at no more entries than this.
            let ef_search = format!("SET LOCAL hnsw.ef_search = {}", width.clamp(40, 1000));
            self.transaction.batch_execute(&ef_search)?;
            let rows = self.transaction.query(&query, &[&literal(embedding), &width])?;
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

/// A least cosine as the server has it.
fn threshold(value: Option<f32>) -> Result<Option<f32>, PostgresError> {
    match value {
        Some(least) if !least.is_finite() => {
            Err(PostgresError::Inconsistent(format!("a threshold of {least}")))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_tables_are_refused() {
        for name in ["", "Shop", "1shop", "shop; DROP TABLE x", &"a".repeat(41)] {
            let error = PostgresGallery::connect("postgres://127.0.0.1:1/x", name).err();
            assert!(matches!(error, Some(PostgresError::Name(_))), "{name:?}");
        }
        let error = PostgresGallery::connect("postgres://127.0.0.1:1/x", "shop").err();
        assert!(matches!(error, Some(PostgresError::Connect(_))));
    }

    #[test]
    fn texts_survive_the_copy_format() {
        assert_eq!(escaped("a\tb\\c\nd"), "a\\tb\\\\c\\nd");
        assert_eq!(literal(&[0.5, -1.0]), "[0.5,-1]");
        assert_eq!(hexadecimal(&[0, 255]), "\\\\x00ff");
    }
}
