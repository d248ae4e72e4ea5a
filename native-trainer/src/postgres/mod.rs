//! Galleries in `PostgreSQL` with pgvector, for those that one file cannot hold, and galleries of services.
//!
//! | module | what |
//! |---|---|
//! | `address` | where the server is, and how the connection is encrypted |
//! | `rows` | rows as `COPY` has them |
//! | `told` | what classes and entries may be |
//! | `schema` | tables of a pushed gallery, and those of earlier versions |
//! | `reader` | one state of a pushed gallery |
//! | `error` | why the server could not be used |
//! | `engine` | indexes there, and searches |
//! | `kept` | the gallery of services: its file, and the changes since |
//! | `corrections` | what visitors of services say, until it is decided |
//! | `service_tables` | tables of both, and those of earlier versions |
//!
//! A pushed gallery of some name is three tables: `NAME_gallery` (one row), `NAME_classes` and
//! `NAME_entries`. Entries are as the extractor gives them, as in a file; what an adapted gallery compares stands beside
//! each, made of it by the push, and no pull reads it. A push fills new ones and puts them in their place, in one transaction: one that is cut
//! leaves the old gallery. Whoever reads takes part in one transaction that holds all three from its beginning
//! to its end, so that it sees the old gallery or the new one; a push waits for those who read, and for another
//! push of that name. Rows go both ways one after the other, so that memory does not grow with them.
//!
//! Source: <https://github.com/pgvector/pgvector>, operator `<#>` (negative inner product).

mod address;
mod corrections;
mod engine;
mod error;
mod kept;
mod reader;
mod rows;
mod schema;
mod service_tables;
mod told;

use std::io::{Read, Seek, Write};
use std::time::Duration;

use models::gallery::{AdaptationMap, AnswerRule, Crop, GalleryReader, GalleryStream, Match};
use postgres::error::SqlState;
use postgres::{Client, IsolationLevel, Transaction};

pub(crate) use address::Address;
pub(crate) use corrections::{Chosen, Decided, Waiting};
pub use engine::{Query, ServerIndex};
pub use error::{Cause, PostgresError};
pub(crate) use kept::{Base, Changing, Kept, KeptAnswer, News, Now, Written};
use reader::Reader;
use rows::{Field, RowWriter};
pub(crate) use told::{wrong_class, wrong_texts};

/// Longest name of a gallery.
const MAX_NAME: usize = 40;
/// Who makes the extension: one at a time, whatever the gallery.
const EXTENSION_LOCK: i64 = 0x6d61_6770_6965;
/// Pause before a push tries once more to take the place of a gallery that is read.
const PAUSE: Duration = Duration::from_millis(500);

/// One gallery on a server.
pub struct PostgresGallery {
    client: Client,
    name: String,
}

/// Whether a name can be that of a gallery.
fn check_name(name: &str) -> Result<(), PostgresError> {
    let small = |c: char| c.is_ascii_lowercase() || c == '_';
    let good = name.starts_with(small)
        && name.len() <= MAX_NAME
        && name.chars().all(|c| small(c) || c.is_ascii_digit());
    if good { Ok(()) } else { Err(PostgresError::Name(name.to_owned())) }
}

/// A value as the tables have it.
fn written(value: &impl serde::Serialize) -> Result<String, PostgresError> {
    serde_json::to_string(value).map_err(|error| PostgresError::Inconsistent(error.to_string()))
}

/// A value from the tables.
fn read_text<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, PostgresError> {
    serde_json::from_str(text).map_err(|error| PostgresError::Inconsistent(error.to_string()))
}

impl PostgresGallery {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Connect`], [`PostgresError::Address`], [`PostgresError::Name`]
    pub fn connect(address: &str, name: &str) -> Result<Self, PostgresError> {
        check_name(name)?;
        let client = Address::parse(address)?.connect()?;
        Ok(Self { client, name: name.to_owned() })
    }

    /// Puts a gallery in the place of the one of this name, with an index for searches, the recommended one unless it is
    /// said which; `waits` hears of what has to be waited for. Memory does not grow with the embeddings.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]; what was there stays then.
    pub fn push<R: Read + Seek>(
        &mut self,
        gallery: &mut GalleryReader<R>,
        index: Option<ServerIndex>,
        waits: impl Fn(&str),
    ) -> Result<ServerIndex, PostgresError> {
        let summary = gallery.summary().clone();
        let (name, dim) = (&self.name, summary.dim);
        let mapped = summary.map.map(|map| map.values);
        let compared = mapped.unwrap_or(dim);
        make_extension(&mut self.client)?;
        let index = engine::chosen(&mut self.client, index, compared, summary.entries)?;
        let mut transaction = self.client.transaction()?;
        lock(&mut transaction, name, &waits)?;
        check_no_service(&mut transaction, name)?;
        transaction.batch_execute(&schema::create(name, dim, mapped))?;
        let rule =
            (summary.rule != AnswerRule::default()).then(|| written(&summary.rule)).transpose()?;
        let calibration = gallery.calibration().map(written).transpose()?;
        let map = summary.map.as_ref().map(written).transpose()?;
        transaction.execute(
            &format!(
                "INSERT INTO {name}_gallery_new
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
            ),
            &[
                &schema::SCHEMA,
                &summary.model,
                &(dim as i32),
                &summary.vector_type.name(),
                &summary.min_similarity,
                &rule,
                &calibration,
                &summary.crop.name(),
                &index.kind.name(),
                &index.codes.name(),
                &(summary.classes.len() as i32),
                &(summary.entries as i64),
                &map,
                &gallery.map().map(AdaptationMap::to_bytes),
            ],
        )?;
        let into = |table: &str| format!("COPY {name}_{table}_new FROM STDIN (FORMAT binary)");
        let rows = transaction.copy_in(&into("classes"))?;
        let mut rows = RowWriter::begin(rows).map_err(sending)?;
        for (number, class) in summary.classes.iter().enumerate() {
            let (metadata, picture) = (written(&class.metadata)?, gallery.thumbnail(number)?);
            if let Some(what) = wrong_class(class, &picture) {
                return Err(PostgresError::NotPushed(what));
            }
            rows.row(&[
                Field::Int(number as i32),
                Field::Text(&class.label),
                Field::Text(&metadata),
                Field::Real(class.min_similarity),
                Field::Bytes(&picture),
            ])
            .map_err(sending)?;
        }
        rows.end().map_err(sending)?.finish()?;
        let rows = transaction.copy_in(&into("entries"))?;
        let mut rows = RowWriter::begin(rows).map_err(sending)?;
        let (mut entries, mut number) = (gallery.entries(), 0);
        while let Some(entry) = entries.advance()? {
            let is_none = |values: &[f32]| !told::is_entry(values);
            if is_none(&entry.embedding) || entry.mapped.as_deref().is_some_and(is_none) {
                return Err(PostgresError::NotPushed(format!("entry {number} has no unit length")));
            }
            let all = [
                Field::Long(number),
                Field::Int(entry.class as i32),
                Field::Bytes(&entry.content_id.0),
                Field::Vector(&entry.embedding),
                Field::Vector(entry.mapped.as_deref().unwrap_or_default()),
            ];
            let fields = if entry.mapped.is_some() { &all } else { &all[..4] };
            rows.row(fields).map_err(sending)?;
            number += 1;
        }
        rows.end().map_err(sending)?.finish()?;
        let table = format!("{name}_entries_new");
        let column = engine::column(mapped.is_some());
        if let Some(build) = index.build((&table, column), compared, summary.entries) {
            waits(&format!("the server builds the index {}", index.kind.name()));
            transaction.batch_execute(&build)?;
        }
        take_place(&mut transaction, name, &waits)?;
        transaction.commit()?;
        Ok(index.kind)
    }

    /// A transaction that sees one state of the gallery, which a push cannot take away before its end.
    fn read(&mut self, waits: &impl Fn(&str)) -> Result<Reader<'_>, PostgresError> {
        check_no_service(&mut self.client, &self.name)?;
        schema::migrate(&mut self.client, &self.name, waits)?;
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
    /// files, which are empty. `waits` hears of what has to be waited for.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub fn pull<S: Read + Write + Seek>(
        &mut self,
        scratch: [S; 2],
        waits: impl Fn(&str),
    ) -> Result<GalleryStream<S>, PostgresError> {
        self.read(&waits)?.pull(scratch)
    }

    /// Which part of an image is an entry of the gallery.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub fn crop(&mut self, waits: impl Fn(&str)) -> Result<Crop, PostgresError> {
        Ok(self.read(&waits)?.description()?.crop)
    }

    /// The most similar classes to each embedding, best first, all of one state of the gallery.
    ///
    /// # Shapes
    ///
    /// - `embeddings`: `[dim]` each, unit length
    ///
    /// # Errors
    ///
    /// [`PostgresError`]; [`OtherModel`](models::gallery::GalleryError::OtherModel) for embeddings of another model.
    pub fn search(
        &mut self,
        query: &Query,
        embeddings: &[Vec<f32>],
        waits: impl Fn(&str),
    ) -> Result<Vec<Vec<(String, Match)>>, PostgresError> {
        self.read(&waits)?.search(query, embeddings)
    }
}

fn sending(error: std::io::Error) -> PostgresError {
    error.downcast::<postgres::Error>().map_or_else(PostgresError::Sending, PostgresError::from)
}

/// Fails for a name that is that of a service's gallery.
fn check_no_service(
    client: &mut impl postgres::GenericClient,
    name: &str,
) -> Result<(), PostgresError> {
    if schema::is_there(client, &service_tables::state_table(name))? {
        return Err(PostgresError::OfService(name.to_owned()));
    }
    Ok(())
}

/// One at a time: two that make it at once would be refused.
fn make_extension(client: &mut Client) -> Result<(), PostgresError> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&EXTENSION_LOCK])?;
    transaction.batch_execute("CREATE EXTENSION IF NOT EXISTS vector").map_err(
        |error| match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => PostgresError::MayNotMake(error.into()),
            _ => PostgresError::NoVectors(error.into()),
        },
    )?;
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
        waits(&format!("another process puts {name} there"));
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
}
