//! The tables of a pushed gallery: how they are made, which version they have, how those of earlier versions are brought
//! to this one.
//!
//! | version | tables |
//! |---|---|
//! | 1 | `NAME_gallery` says no version; programs of before had neither `rule` nor `calibration` |
//! | 2 | `version`; `crop`; `index` and `codes`: what was built for searches |

use postgres::error::SqlState;
use postgres::{Client, GenericClient};

use super::{PostgresError, lock};

/// The version that this program writes, and the newest that it reads.
pub(super) const SCHEMA: i32 = 2;

/// Tables of a gallery that take the place of others later, with `_new` behind their names.
pub(super) fn create(name: &str, dim: usize) -> String {
    format!(
        "CREATE TABLE {name}_gallery_new (version int NOT NULL, model text NOT NULL, dim int NOT NULL,
             vector_type text NOT NULL, min_similarity real, rule text, calibration text,
             crop text NOT NULL, index text NOT NULL, codes text NOT NULL);
         CREATE TABLE {name}_classes_new (class int PRIMARY KEY, label text NOT NULL,
             metadata text NOT NULL, min_similarity real, thumbnail bytea NOT NULL);
         CREATE TABLE {name}_entries_new (entry bigint PRIMARY KEY,
             class int NOT NULL REFERENCES {name}_classes_new, picture bytea NOT NULL,
             embedding vector({dim}) NOT NULL)"
    )
}

/// Whether there is a table.
pub(super) fn is_there(
    client: &mut impl GenericClient,
    table: &str,
) -> Result<bool, PostgresError> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])?;
    Ok(row.try_get(0)?)
}

/// The version of a gallery's tables.
///
/// # Errors
///
/// [`PostgresError::NotThere`], [`PostgresError::Newer`]
fn version(client: &mut impl GenericClient, name: &str) -> Result<i32, PostgresError> {
    let query = format!("SELECT to_jsonb(g) ->> 'version' FROM {name}_gallery g LIMIT 1");
    let row = match client.query_opt(&query, &[]) {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => None,
        found => found?,
    };
    let row = row.ok_or_else(|| PostgresError::NotThere(name.to_owned()))?;
    check(name, row.try_get::<_, Option<&str>>(0)?)
}

/// A version as it is read.
///
/// # Errors
///
/// [`PostgresError::Newer`], [`PostgresError::Inconsistent`]
pub(super) fn check(name: &str, version: Option<&str>) -> Result<i32, PostgresError> {
    let Some(text) = version else { return Ok(1) };
    match text.parse() {
        Ok(version @ 1..=SCHEMA) => Ok(version),
        Ok(version) if version > SCHEMA => {
            Err(PostgresError::Newer { name: name.to_owned(), version, known: SCHEMA })
        }
        _ => Err(PostgresError::Inconsistent(format!("version {text:?} of its tables"))),
    }
}

/// Brings a gallery's tables to this version, in one transaction; `waits` hears of what has to be waited for.
///
/// # Errors
///
/// [`PostgresError`]; the tables are as before then.
pub(super) fn migrate(
    client: &mut Client,
    name: &str,
    waits: &impl Fn(&str),
) -> Result<(), PostgresError> {
    if version(client, name)? == SCHEMA {
        return Ok(());
    }
    let mut transaction = client.transaction()?;
    lock(&mut transaction, name, waits)?;
    // Another program may have been the first.
    if version(&mut transaction, name)? == SCHEMA {
        return Ok(transaction.commit()?);
    }
    let graph = format!(
        "SELECT count(*) > 0 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             JOIN pg_am a ON a.oid = c.relam
             WHERE i.indrelid = '{name}_entries'::regclass AND a.amname = 'hnsw'"
    );
    let index = if transaction.query_one(&graph, &[])?.try_get(0)? { "hnsw" } else { "flat" };
    let change = format!(
        "ALTER TABLE {name}_gallery
             ADD COLUMN IF NOT EXISTS rule text,
             ADD COLUMN IF NOT EXISTS calibration text,
             ADD COLUMN version int NOT NULL DEFAULT {SCHEMA},
             ADD COLUMN crop text NOT NULL DEFAULT 'never',
             ADD COLUMN index text NOT NULL DEFAULT '{index}',
             ADD COLUMN codes text NOT NULL DEFAULT 'f32';
         ALTER TABLE {name}_gallery ALTER version DROP DEFAULT, ALTER crop DROP DEFAULT,
             ALTER index DROP DEFAULT, ALTER codes DROP DEFAULT"
    );
    match transaction.batch_execute(&change) {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(PostgresError::Earlier(name.to_owned()))
        }
        changed => {
            changed?;
            Ok(transaction.commit()?)
        }
    }
}
