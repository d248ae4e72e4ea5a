//! What visitors of services say, on a server: what waits, and what was decided.
//!
//! | table | rows |
//! |---|---|
//! | `NAME_corrections` | corrections that wait, in the order in which they came |
//! | `NAME_decisions` | what was decided, the newest of all |
//! | `NAME_rate` | one: how many more may come at once, over all services |
//!
//! What a correction is stands in the texts; they are the service's own.

use postgres::Row;

use super::PostgresError;
use super::kept::{Changing, Kept};

/// Most bytes of a correction: embeddings of all its parts, a thumbnail and two names take less.
const CORRECTION: i32 = 4 << 20;
/// Most bytes of where a correction went: a name of 4096 bytes and an id.
const WENT: i32 = 16 << 10;
/// Most bytes of an id; the service's have 32.
const ID: i32 = 64;
/// Most bytes of corrections that are read at once. As many as may wait at all have less.
const AT_ONCE: i64 = 80 << 20;

/// The tables, empty.
pub(super) fn create(name: &str) -> String {
    format!(
        "CREATE TABLE {name}_corrections (place bigserial PRIMARY KEY, id text NOT NULL UNIQUE,
             correction text NOT NULL);
         CREATE TABLE {name}_decisions (place bigserial PRIMARY KEY, id text NOT NULL UNIQUE,
             accepted bool NOT NULL, went text);
         CREATE TABLE {name}_rate (one bool PRIMARY KEY CHECK (one), count double precision NOT NULL,
             seen timestamptz NOT NULL);
         INSERT INTO {name}_rate VALUES (true, 0, '-infinity')"
    )
}

/// A correction that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Rises over all that ever came.
    pub(crate) place: i64,
    pub(crate) id: String,
    pub(crate) correction: String,
}

/// What was decided about a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) id: String,
    pub(crate) accepted: bool,
    /// Where it went.
    pub(crate) went: Option<String>,
}

/// What is known of some corrections.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Those that wait, oldest first.
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) decided: Vec<Decided>,
}

/// The length of a text, and the text unless it is too long; NULL stands for one that is.
fn read(column: &str, most: i32) -> String {
    format!("octet_length({column}), CASE WHEN octet_length({column}) <= {most} THEN {column} END")
}

/// What was read so.
fn text_of(
    row: &Row,
    place: usize,
    most: i32,
    what: &'static str,
) -> Result<Option<String>, PostgresError> {
    let bytes: Option<i32> = row.try_get(place)?;
    match bytes {
        Some(bytes) if bytes > most => {
            Err(PostgresError::TooLong { what, bytes: bytes.into(), most: most.into() })
        }
        _ => Ok(row.try_get(place + 1)?),
    }
}

fn id_of(row: &Row, place: usize) -> Result<String, PostgresError> {
    Ok(text_of(row, place, ID, "the id of a correction")?.unwrap_or_default())
}

/// Those of the corrections that `which` chooses, oldest first. The server leaves out texts from where together they are too
/// long.
fn waiting_rows(name: &str, which: &str) -> String {
    let sum = "sum(octet_length(correction)) OVER (ORDER BY place)";
    format!(
        "SELECT place, {}, octet_length(correction), {sum},
             CASE WHEN octet_length(correction) <= {CORRECTION} AND {sum} <= {AT_ONCE} THEN correction END
             FROM (SELECT place, id, correction FROM {name}_corrections {which}) chosen ORDER BY place",
        read("id", ID)
    )
}

/// A row of [`waiting_rows`].
fn waiting_of(row: &Row) -> Result<Waiting, PostgresError> {
    let id = id_of(row, 1)?;
    let (bytes, sum): (Option<i32>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
    let too_long = |what, bytes: Option<i64>, most: i64| {
        let bytes = bytes.filter(|bytes| *bytes > most);
        bytes.map_or(Ok(()), |bytes| Err(PostgresError::TooLong { what, bytes, most }))
    };
    too_long("a correction", bytes.map(i64::from), CORRECTION.into())?;
    too_long("the corrections that are asked for", sum, AT_ONCE)?;
    let correction: Option<String> = row.try_get(5)?;
    Ok(Waiting { place: row.try_get(0)?, id, correction: correction.unwrap_or_default() })
}

impl Kept {
    /// How many corrections wait.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn corrections_waiting(&mut self) -> Result<i64, PostgresError> {
        self.asked(|client, name| {
            let count = format!("SELECT count(*) FROM {name}_corrections");
            Ok(client.query_one(&count, &[])?.try_get(0)?)
        })
    }

    /// Some of those that wait, oldest first, and how many there are.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn corrections(
        &mut self,
        offset: i64,
        limit: i64,
    ) -> Result<(i64, Vec<Waiting>), PostgresError> {
        let total = self.corrections_waiting()?;
        let page = self.asked(|client, name| {
            let page = waiting_rows(name, "ORDER BY place OFFSET $1 LIMIT $2");
            client.query(&page, &[&offset, &limit])?.iter().map(waiting_of).collect()
        });
        Ok((total, page?))
    }

    /// One that waits.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn correction(&mut self, id: &str) -> Result<Option<Waiting>, PostgresError> {
        self.asked(|client, name| {
            let one = waiting_rows(name, "WHERE id = $1 LIMIT 1");
            client.query_opt(&one, &[&id])?.as_ref().map(waiting_of).transpose()
        })
    }

    /// Takes one of those that may come: so many at once, and so many a minute from then on, over all services. How many
    /// minutes are left until the next may come, if none may now.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn admit(
        &mut self,
        at_once: f64,
        a_minute: f64,
    ) -> Result<Option<f64>, PostgresError> {
        self.asked(|client, name| {
            // The first time counts from the beginning of all times: the bucket is full.
            let left = "least($1, CASE WHEN isfinite(seen) THEN count + greatest(0,
                 extract(epoch FROM clock_timestamp() - seen)::float8) / 60 * $2 ELSE $1 END)";
            let take = format!(
                "UPDATE {name}_rate SET count = {left} - 1, seen = clock_timestamp() WHERE {left} >= 1"
            );
            if client.execute(&take, &[&at_once, &a_minute])? > 0 {
                return Ok(None);
            }
            let wait = format!("SELECT (1 - {left}) / $2 FROM {name}_rate");
            let wait: f64 = client.query_one(&wait, &[&at_once, &a_minute])?.try_get(0)?;
            Ok(Some(if wait.is_finite() { wait.clamp(0.0, at_once) } else { 1.0 }))
        })
    }
}

impl Changing<'_> {
    /// Keeps other services from what waits, until the end.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn lock_corrections(&mut self) -> Result<(), PostgresError> {
        let key = format!("magpie corrections {}", self.name);
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        self.transaction.execute(lock, &[&key])?;
        Ok(())
    }

    /// What is known of some corrections.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn chosen(&mut self, ids: &[String]) -> Result<Chosen, PostgresError> {
        let name = &self.name;
        let waiting = waiting_rows(name, "WHERE id = ANY($1)");
        let decided = format!(
            "SELECT accepted, {}, {} FROM {name}_decisions WHERE id = ANY($1)",
            read("id", ID),
            read("went", WENT)
        );
        let waiting = self.transaction.query(&waiting, &[&ids])?;
        let waiting: Result<Vec<Waiting>, _> = waiting.iter().map(waiting_of).collect();
        let decided = self.transaction.query(&decided, &[&ids])?;
        let one = |row: &Row| -> Result<Decided, PostgresError> {
            let went = text_of(row, 3, WENT, "a decision")?;
            Ok(Decided { id: id_of(row, 1)?, accepted: row.try_get(0)?, went })
        };
        let decided: Result<Vec<Decided>, _> = decided.iter().map(one).collect();
        Ok(Chosen { waiting: waiting?, decided: decided? })
    }

    /// How many wait, and their bytes.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn waiting(&mut self) -> Result<(i64, i64), PostgresError> {
        let query = format!(
            "SELECT count(*), coalesce(sum(octet_length(correction)), 0)::bigint FROM {}_corrections",
            self.name
        );
        let row = self.transaction.query_one(&query, &[])?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Adds one that waits.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn come(&mut self, id: &str, correction: &str) -> Result<(), PostgresError> {
        let insert =
            format!("INSERT INTO {}_corrections (id, correction) VALUES ($1, $2)", self.name);
        self.transaction.execute(&insert, &[&id, &correction])?;
        Ok(())
    }

    /// Takes some that wait out, and remembers what was decided, the newest `most` of all.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn decide(&mut self, decided: &[Decided], most: i64) -> Result<(), PostgresError> {
        let name = &self.name;
        let ids: Vec<&str> = decided.iter().map(|one| one.id.as_str()).collect();
        for table in ["corrections", "decisions"] {
            let delete = format!("DELETE FROM {name}_{table} WHERE id = ANY($1)");
            self.transaction.execute(&delete, &[&ids])?;
        }
        let insert =
            format!("INSERT INTO {name}_decisions (id, accepted, went) VALUES ($1, $2, $3)");
        for Decided { id, accepted, went } in decided {
            self.transaction.execute(&insert, &[id, accepted, went])?;
        }
        let forget = format!(
            "DELETE FROM {name}_decisions WHERE place <= coalesce((SELECT place FROM {name}_decisions
                 ORDER BY place DESC OFFSET $1 LIMIT 1), 0)"
        );
        self.transaction.execute(&forget, &[&most])?;
        Ok(())
    }
}
