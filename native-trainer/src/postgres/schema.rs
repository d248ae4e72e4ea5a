//! The tables of a pushed gallery: how they are made, which version they have, how those of earlier versions are brought
//! to this one.
//!
//! | version | tables |
//! |---|---|
//! | 1 | `NAME_gallery` says no version; programs of before had neither `rule` nor `calibration` |
//! | 2 | `version`; `crop`; `index` and `codes`: what was built for searches |
//! | 3 | `classes` and `entries`: how many were pushed; `map` and `map_values`, with `mapped` of each entry, made of its embedding: what is compared in an adapted gallery; the tables check their entries |

use postgres::error::SqlState;
use postgres::{Client, GenericClient, Transaction};

use super::told::LENGTH;
use super::{PostgresError, lock};

/// The version that this program writes, and the newest that it reads.
pub(super) const SCHEMA: i32 = 3;
/// The check of an entry, by its name in the table.
const CHECK: &str = "magpie_entry";

/// Whether a vector has so many values and the length of an entry. One that is not finite has not.
pub(super) fn is_entry(vector: &str, values: usize) -> String {
    let (least, most) = (LENGTH.start(), LENGTH.end());
    format!("vector_dims({vector}) = {values} AND vector_norm({vector}) BETWEEN {least} AND {most}")
}

/// What a table of entries checks itself, for embeddings of `dim` values, of which an adapted gallery compares `mapped`.
fn check_of(dim: usize, mapped: Option<usize>) -> String {
    let mapped =
        mapped.map_or_else(String::new, |values| format!(" AND {}", is_entry("mapped", values)));
    format!(
        "CONSTRAINT {CHECK} CHECK (octet_length(picture) = 16 AND {}{mapped})",
        is_entry("embedding", dim)
    )
}

/// Tables of a gallery that take the place of others later, with `_new` behind their names: for embeddings of `dim` values,
/// of which an adapted gallery compares `mapped`.
pub(super) fn create(name: &str, dim: usize, mapped: Option<usize>) -> String {
    let check = check_of(dim, mapped);
    let mapped =
        mapped.map_or_else(String::new, |values| format!("mapped vector({values}) NOT NULL,"));
    format!(
        "CREATE TABLE {name}_gallery_new (version int NOT NULL, model text NOT NULL, dim int NOT NULL,
             vector_type text NOT NULL, min_similarity real, rule text, calibration text,
             crop text NOT NULL, index text NOT NULL, codes text NOT NULL,
             classes int NOT NULL, entries bigint NOT NULL, map text, map_values bytea);
         CREATE TABLE {name}_classes_new (class int PRIMARY KEY, label text NOT NULL,
             metadata text NOT NULL, min_similarity real, thumbnail bytea NOT NULL);
         CREATE TABLE {name}_entries_new (entry bigint PRIMARY KEY,
             class int NOT NULL REFERENCES {name}_classes_new, picture bytea NOT NULL,
             embedding vector({dim}) NOT NULL, {mapped} {check})"
    )
}

/// How many entries a table has, the first and the last of them, and how many of its two checks hold.
pub(super) fn counted(name: &str) -> String {
    format!(
        "SELECT count(*), coalesce(min(entry), 0), coalesce(max(entry), -1),
             (SELECT count(*) FROM pg_constraint WHERE conrelid = '{name}_entries'::regclass
                  AND convalidated AND (conname = '{CHECK}' OR contype = 'f')) FROM {name}_entries"
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
    let before = version(&mut transaction, name)?;
    if before == SCHEMA {
        return Ok(transaction.commit()?);
    }
    let change = |transaction: &mut Transaction<'_>, change: &str| {
        let changed = transaction.batch_execute(change);
        changed.map_err(|error| match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => PostgresError::Earlier(name.to_owned()),
            Some(&SqlState::CHECK_VIOLATION) => {
                PostgresError::Inconsistent("an entry that is none".to_owned())
            }
            _ => error.into(),
        })
    };
    if before == 1 {
        let graph = format!(
            "SELECT count(*) > 0 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_am a ON a.oid = c.relam
                 WHERE i.indrelid = '{name}_entries'::regclass AND a.amname = 'hnsw'"
        );
        let index = if transaction.query_one(&graph, &[])?.try_get(0)? { "hnsw" } else { "flat" };
        let to_2 = format!(
            "ALTER TABLE {name}_gallery
                 ADD COLUMN IF NOT EXISTS rule text,
                 ADD COLUMN IF NOT EXISTS calibration text,
                 ADD COLUMN version int NOT NULL DEFAULT 2,
                 ADD COLUMN crop text NOT NULL DEFAULT 'never',
                 ADD COLUMN index text NOT NULL DEFAULT '{index}',
                 ADD COLUMN codes text NOT NULL DEFAULT 'f32';
             ALTER TABLE {name}_gallery ALTER version DROP DEFAULT, ALTER crop DROP DEFAULT,
                 ALTER index DROP DEFAULT, ALTER codes DROP DEFAULT"
        );
        change(&mut transaction, &to_2)?;
    }
    let dim: i32 =
        transaction.query_one(&format!("SELECT dim FROM {name}_gallery"), &[])?.try_get(0)?;
    let dim = usize::try_from(dim).unwrap_or_default();
    let to_3 = format!(
        "ALTER TABLE {name}_gallery
             ADD COLUMN classes int NOT NULL DEFAULT 0, ADD COLUMN entries bigint NOT NULL DEFAULT 0,
             ADD COLUMN map text, ADD COLUMN map_values bytea;
         ALTER TABLE {name}_gallery ALTER classes DROP DEFAULT, ALTER entries DROP DEFAULT;
         UPDATE {name}_gallery SET version = 3, classes = (SELECT count(*) FROM {name}_classes),
             entries = (SELECT count(*) FROM {name}_entries);
         ALTER TABLE {name}_entries ADD {}",
        check_of(dim, None)
    );
    change(&mut transaction, &to_3)?;
    Ok(transaction.commit()?)
}
