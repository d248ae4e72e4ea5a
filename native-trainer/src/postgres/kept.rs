//! The gallery of services on a server: its file in pieces, the changes since, and answers by their keys.
//!
//! | table | rows |
//! |---|---|
//! | `NAME_service` | one: which generation counts, its last change, the version; who changes the gallery locks it |
//! | `NAME_generations`, `NAME_files` | galleries as files, in pieces of 1 MiB |
//! | `NAME_journal` | changes since a generation's file, each with a place that rises over all generations |
//! | `NAME_keys` | answers that are given again |
//!
//! What a change is stands in the texts; they are the service's own.

use std::io::BufRead;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, GenericClient, IsolationLevel, Row, Transaction};

use super::rows::{Field, RowReader, RowWriter};
use super::{Address, PostgresError, check_name, sending};

/// Bytes of a piece of a file.
const PIECE: usize = 1 << 20;
/// Longest file that is read.
const FILE: u64 = 64 << 30;
/// How long a change waits for one of another process.
const WAIT: Duration = Duration::from_secs(30);

/// What the gallery is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Now {
    /// Tells versions of this gallery from those of others.
    pub(crate) id: String,
    pub(crate) generation: i64,
    /// The generation that an undo leads back to.
    pub(crate) previous: Option<i64>,
    /// Of the last change.
    pub(crate) place: i64,
    pub(crate) version: u64,
}

/// A change as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) place: i64,
    /// Version of the gallery behind it.
    pub(crate) version: u64,
    pub(crate) change: String,
}

/// What came since a place.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) now: Now,
    /// Changes of the same generation; of another one there are none.
    pub(crate) changes: Vec<Written>,
}

/// A generation: its file and the changes since.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) now: Now,
    pub(crate) file: Vec<u8>,
    /// The content that the file has to have.
    pub(crate) content: String,
    pub(crate) changes: Vec<Written>,
}

/// An answer under its key.
#[derive(Debug, Clone)]
pub(crate) struct KeptAnswer {
    pub(crate) key: String,
    pub(crate) request: String,
    pub(crate) version: u64,
    pub(crate) answer: String,
}

/// The gallery of a service on a server. A connection that is lost is made anew.
pub(crate) struct Kept {
    address: Address,
    name: String,
    client: Option<Client>,
}

impl Kept {
    /// The gallery of a name; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Address`], [`PostgresError::Name`]
    pub(crate) fn new(address: &str, name: &str) -> Result<Self, PostgresError> {
        check_name(name)?;
        Ok(Self { address: Address::parse(address)?, name: name.to_owned(), client: None })
    }

    fn connected(&mut self) -> Result<&mut Client, PostgresError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = self.address.connect()?;
            let wait = WAIT.as_millis();
            // What is answered is on the server's disk; a change that takes long is no connection that was forgotten.
            client.batch_execute(&format!(
                "SELECT set_config('synchronous_commit', 'on', false)
                     WHERE current_setting('synchronous_commit') = 'off';
                 SET lock_timeout = {wait}; SET idle_in_transaction_session_timeout = 0"
            ))?;
            self.client = Some(client);
        }
        // It was put there.
        self.client.as_mut().ok_or(PostgresError::Address)
    }

    /// Asks; over a connection that was lost meanwhile, once more over another one.
    pub(super) fn asked<T>(
        &mut self,
        mut ask: impl FnMut(&mut Client, &str) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        let was_there = self.client.is_some();
        let name = self.name.clone();
        let first = self.connected().and_then(|client| ask(client, &name));
        match first {
            Err(error) if error.is_lost() => {
                self.client = None;
                if !was_there {
                    return Err(error);
                }
                let second = self.connected().and_then(|client| ask(client, &name));
                if second.as_ref().is_err_and(PostgresError::is_lost) {
                    self.client = None;
                }
                second
            }
            other => other,
        }
    }

    /// What came since a place of a generation.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn news(&mut self, generation: i64, place: i64) -> Result<News, PostgresError> {
        self.asked(|client, name| news(client, name, generation, place))
    }

    /// The generation that counts.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn load(&mut self) -> Result<Base, PostgresError> {
        self.asked(|client, name| {
            let begun = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
            let mut transaction = begun.read_only(true).start()?;
            let now = now(&mut transaction, name, "")?;
            load(&mut transaction, name, now)
        })
    }

    /// Begins a change. Where it is dropped, nothing has changed.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn begin(&mut self) -> Result<Changing<'_>, PostgresError> {
        // Also that the connection is still there.
        self.asked(|client, _| Ok(client.batch_execute("SELECT 1")?))?;
        let name = self.name.clone();
        let transaction = self.connected()?.transaction()?;
        Ok(Changing { transaction, name })
    }
}

/// The row that says what counts.
fn now(client: &mut impl GenericClient, name: &str, how: &str) -> Result<Now, PostgresError> {
    let query =
        format!("SELECT id, generation, previous, place, version FROM {name}_service {how}");
    let row = match client.query_opt(&query, &[]) {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => None,
        found => found?,
    };
    now_of(&row.ok_or_else(|| gone(name))?)
}

fn gone(name: &str) -> PostgresError {
    PostgresError::Inconsistent(format!("the tables of the service {name:?} are gone"))
}

fn now_of(row: &Row) -> Result<Now, PostgresError> {
    let version = natural(row.try_get(4)?)?;
    natural(row.try_get(3)?)?;
    Ok(Now {
        id: row.try_get(0)?,
        generation: row.try_get(1)?,
        previous: row.try_get(2)?,
        place: row.try_get(3)?,
        version,
    })
}

fn natural(number: i64) -> Result<u64, PostgresError> {
    u64::try_from(number)
        .map_err(|_negative| PostgresError::Inconsistent(format!("version {number}")))
}

/// What came since a place, by one query, so that it is of one moment.
fn news(
    client: &mut impl GenericClient,
    name: &str,
    generation: i64,
    place: i64,
) -> Result<News, PostgresError> {
    let query = format!(
        "SELECT s.id, s.generation, s.previous, s.place, s.version, j.place, j.version, j.change
             FROM {name}_service s LEFT JOIN {name}_journal j
             ON s.generation = $1 AND j.generation = s.generation AND j.place > $2 ORDER BY j.place"
    );
    let rows = match client.query(&query, &[&generation, &place]) {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Err(gone(name)),
        rows => rows?,
    };
    let now = now_of(rows.first().ok_or_else(|| gone(name))?)?;
    let mut changes = Vec::new();
    for row in &rows {
        if let Some(place) = row.try_get(5)? {
            let version = natural(row.try_get(6)?)?;
            changes.push(Written { place, version, change: row.try_get(7)? });
        }
    }
    Ok(News { now, changes })
}

fn load(transaction: &mut Transaction<'_>, name: &str, now: Now) -> Result<Base, PostgresError> {
    let generation = now.generation;
    let query = format!("SELECT content, length FROM {name}_generations WHERE generation = $1");
    let row = transaction.query_opt(&query, &[&generation])?;
    let row = row.ok_or_else(|| PostgresError::Inconsistent("its file is gone".to_owned()))?;
    let (content, length) = (row.try_get(0)?, natural(row.try_get(1)?)?);
    let query = format!(
        "COPY (SELECT piece, bytes FROM {name}_files WHERE generation = {generation} ORDER BY piece)
             TO STDOUT (FORMAT binary)"
    );
    let file = read_file(transaction.copy_out(&query)?, length)?;
    let query = format!(
        "SELECT place, version, change FROM {name}_journal WHERE generation = $1 ORDER BY place"
    );
    let mut changes = Vec::new();
    let mut rows = transaction.query_raw(&query, [generation])?;
    while let Some(row) = rows.next()? {
        let (place, version) = (row.try_get(0)?, natural(row.try_get(1)?)?);
        changes.push(Written { place, version, change: row.try_get(2)? });
    }
    drop(rows);
    Ok(Base { now, file, content, changes })
}

/// A file from its pieces, no longer than it says it is.
fn read_file(reader: impl BufRead, length: u64) -> Result<Vec<u8>, PostgresError> {
    let wrong = |what: String| Err(PostgresError::Inconsistent(what));
    if length > FILE {
        return wrong(format!("a file of {length} bytes"));
    }
    let mut rows = RowReader::begin(reader, 2)?;
    let mut file = Vec::new();
    while let Some(row) = rows.advance()? {
        if i64::from(row.int(0)?) != row.number as i64 {
            return wrong(format!("piece {} of its file is missing", row.number));
        }
        file.extend_from_slice(row.bytes(1)?);
        if file.len() as u64 > length {
            break;
        }
    }
    if file.len() as u64 == length {
        return Ok(file);
    }
    wrong(format!("a file of {} bytes, and it had {length}", file.len()))
}

/// Writes a file as a generation that does not count yet.
pub(super) fn write_file(
    transaction: &mut Transaction<'_>,
    name: &str,
    file: &[u8],
    content: &str,
) -> Result<i64, PostgresError> {
    let query = format!(
        "INSERT INTO {name}_generations (content, length) VALUES ($1, $2) RETURNING generation"
    );
    let row = transaction.query_one(&query, &[&content, &(file.len() as i64)])?;
    let generation: i64 = row.try_get(0)?;
    let rows = transaction.copy_in(&format!("COPY {name}_files FROM STDIN (FORMAT binary)"))?;
    let mut rows = RowWriter::begin(rows).map_err(sending)?;
    for (piece, bytes) in file.chunks(PIECE).enumerate() {
        let fields = [Field::Long(generation), Field::Int(piece as i32), Field::Bytes(bytes)];
        rows.row(&fields).map_err(sending)?;
    }
    rows.end().map_err(sending)?.finish()?;
    Ok(generation)
}

/// A change on its way: all of it is kept by [`Changing::commit`], or nothing.
pub(crate) struct Changing<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) name: String,
}

impl Changing<'_> {
    /// Waits until no other process changes the gallery, and keeps others from it until the end.
    ///
    /// # Errors
    ///
    /// [`PostgresError`], [`PostgresError::is_held`] where that takes too long.
    pub(crate) fn lock(&mut self) -> Result<Now, PostgresError> {
        now(&mut self.transaction, &self.name, "FOR UPDATE")
    }

    /// Whether nobody else folds the journal; nobody does until the end.
    pub(crate) fn may_fold(&mut self) -> Result<bool, PostgresError> {
        let key = format!("magpie fold {}", self.name);
        let tried = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
        Ok(self.transaction.query_one(tried, &[&key])?.try_get(0)?)
    }

    pub(crate) fn news(&mut self, generation: i64, place: i64) -> Result<News, PostgresError> {
        news(&mut self.transaction, &self.name, generation, place)
    }

    /// The file and the changes of a generation; others have to be kept from changing it.
    pub(crate) fn load(&mut self, now: Now) -> Result<Base, PostgresError> {
        load(&mut self.transaction, &self.name, now)
    }

    /// The answer of a key.
    pub(crate) fn answer(&mut self, key: &str) -> Result<Option<KeptAnswer>, PostgresError> {
        let query =
            format!("SELECT request, version, answer FROM {}_keys WHERE key = $1", self.name);
        let Some(row) = self.transaction.query_opt(&query, &[&key])? else { return Ok(None) };
        Ok(Some(KeptAnswer {
            key: key.to_owned(),
            request: row.try_get(0)?,
            version: natural(row.try_get(1)?)?,
            answer: row.try_get(2)?,
        }))
    }

    /// Keeps answers, the newest `most` of all.
    pub(crate) fn keep(&mut self, answers: &[KeptAnswer], most: i64) -> Result<(), PostgresError> {
        let name = &self.name;
        let insert = format!(
            "INSERT INTO {name}_keys (key, request, version, answer) VALUES ($1, $2, $3, $4)"
        );
        for KeptAnswer { key, request, version, answer } in answers {
            self.transaction.execute(&insert, &[key, request, &(*version as i64), answer])?;
        }
        if !answers.is_empty() {
            let forget = format!(
                "DELETE FROM {name}_keys WHERE place <= coalesce((SELECT place FROM {name}_keys
                     ORDER BY place DESC OFFSET $1 LIMIT 1), 0)"
            );
            self.transaction.execute(&forget, &[&most])?;
        }
        Ok(())
    }

    /// Adds changes to the journal of the generation that counts.
    pub(crate) fn append(&mut self, now: &Now, changes: &[Written]) -> Result<(), PostgresError> {
        let insert = format!("INSERT INTO {}_journal VALUES ($1, $2, $3, $4)", self.name);
        let insert = self.transaction.prepare(&insert)?;
        for Written { place, version, change } in changes {
            self.transaction
                .execute(&insert, &[place, &now.generation, &(*version as i64), change])?;
        }
        self.set(now)
    }

    /// Writes a file that may count later.
    pub(crate) fn write(&mut self, file: &[u8], content: &str) -> Result<i64, PostgresError> {
        write_file(&mut self.transaction, &self.name, file, content)
    }

    /// Says what counts from now on, and takes away what nobody needs.
    pub(crate) fn begin_generation(
        &mut self,
        now: &Now,
        changes: &[Written],
    ) -> Result<(), PostgresError> {
        let name = self.name.clone();
        self.transaction.execute(
            &format!("DELETE FROM {name}_journal WHERE generation NOT IN ($1::bigint, coalesce($2::bigint, $1::bigint))"),
            &[&now.generation, &now.previous],
        )?;
        self.append(now, changes)?;
        for table in ["files", "generations"] {
            let query = format!(
                "DELETE FROM {name}_{table} WHERE generation NOT IN ($1::bigint, coalesce($2::bigint, $1::bigint))"
            );
            self.transaction.execute(&query, &[&now.generation, &now.previous])?;
        }
        Ok(())
    }

    fn set(&mut self, now: &Now) -> Result<(), PostgresError> {
        let state = format!(
            "UPDATE {}_service SET generation = $1, previous = $2, place = $3, version = $4",
            self.name
        );
        let version = now.version as i64;
        self.transaction
            .execute(&state, &[&now.generation, &now.previous, &now.place, &version])?;
        Ok(())
    }

    /// Keeps the change. Where this fails, it may have been kept all the same.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]
    pub(crate) fn commit(self) -> Result<(), PostgresError> {
        Ok(self.transaction.commit()?)
    }
}
