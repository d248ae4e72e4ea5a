//! The tables of a service's gallery: made, brought to this version, and whether a role may change them.
//!
//! | version | tables |
//! |---|---|
//! | 1 | those of `kept` |
//! | 2 | those of `corrections`, too |

use postgres::error::SqlState;
use postgres::{Client, Transaction};

use super::error::identifier;
use super::kept::{Kept, write_file};
use super::schema::is_there;
use super::{PostgresError, corrections, lock};

/// The version of the tables that this program writes, and the newest that it reads.
const SCHEMA: i32 = 2;
/// All tables, behind the name and a line.
const TABLES: [&str; 8] =
    ["service", "generations", "files", "journal", "keys", "corrections", "decisions", "rate"];
/// Those that number their rows, with the column.
const NUMBERED: [(&str, &str); 4] = [
    ("generations", "generation"),
    ("keys", "place"),
    ("corrections", "place"),
    ("decisions", "place"),
];

/// The table that says which generation counts.
pub(super) fn state_table(name: &str) -> String {
    format!("{name}_service")
}

impl Kept {
    /// Makes the tables where there are none, with a gallery's file as the first generation, and brings those of an earlier
    /// version to this one.
    ///
    /// # Errors
    ///
    /// [`PostgresError`], also for a pushed gallery of this name, for tables of a newer program, and for those of an
    /// earlier one that only their owner may change.
    pub(crate) fn prepare(
        &mut self,
        id: &str,
        file: &[u8],
        content: &str,
    ) -> Result<(), PostgresError> {
        self.asked(|client, name| {
            let mut transaction = client.transaction()?;
            lock(&mut transaction, name, &|what| eprintln!("waiting: {what}"))?;
            if is_there(&mut transaction, &state_table(name))? {
                let query = format!("SELECT schema FROM {}", state_table(name));
                let row = transaction.query_opt(&query, &[])?;
                let missing =
                    || PostgresError::Inconsistent("the service's row is gone".to_owned());
                let version: i32 = row.ok_or_else(missing)?.try_get(0)?;
                return match version {
                    SCHEMA => Ok(()),
                    1 => to_2(transaction, name),
                    version if version > SCHEMA => {
                        let name = name.to_owned();
                        Err(PostgresError::Newer { name, version, known: SCHEMA })
                    }
                    version => {
                        Err(PostgresError::Inconsistent(format!("version {version} of its tables")))
                    }
                };
            }
            if is_there(&mut transaction, &format!("{name}_gallery"))? {
                return Err(PostgresError::Pushed(name.to_owned()));
            }
            let made = transaction.batch_execute(&format!(
                "CREATE TABLE {name}_service (one bool PRIMARY KEY CHECK (one), schema int NOT NULL,
                     id text NOT NULL, generation bigint NOT NULL, previous bigint,
                     place bigint NOT NULL, version bigint NOT NULL);
                 CREATE TABLE {name}_generations (generation bigserial PRIMARY KEY,
                     content text NOT NULL, length bigint NOT NULL);
                 CREATE TABLE {name}_files (generation bigint NOT NULL, piece int NOT NULL,
                     bytes bytea NOT NULL, PRIMARY KEY (generation, piece));
                 CREATE TABLE {name}_journal (place bigint PRIMARY KEY, generation bigint NOT NULL,
                     version bigint NOT NULL, change text NOT NULL);
                 CREATE TABLE {name}_keys (key text PRIMARY KEY, place bigserial UNIQUE,
                     request text NOT NULL, version bigint NOT NULL, answer text NOT NULL);
                 {}",
                corrections::create(name)
            ));
            if let Err(error) = made {
                drop(transaction);
                return Err(refused(client, name, error));
            }
            let generation = write_file(&mut transaction, name, file, content)?;
            let state = format!("INSERT INTO {name}_service VALUES (true, $1, $2, $3, NULL, 0, 0)");
            transaction.execute(&state, &[&SCHEMA, &id, &generation])?;
            Ok(transaction.commit()?)
        })
    }

    /// Fails where the role that is connected may read the gallery only, or the server takes no changes.
    ///
    /// # Errors
    ///
    /// [`PostgresError::MayNotChange`], [`PostgresError::Follows`]
    pub(crate) fn check_may_change(&mut self) -> Result<(), PostgresError> {
        self.asked(|client, name| {
            let writes = "SELECT current_setting('transaction_read_only') = 'off', current_user::text";
            let row = client.query_one(writes, &[])?;
            if !row.try_get::<_, bool>(0)? {
                return Err(PostgresError::Follows(name.to_owned()));
            }
            let role: String = row.try_get(1)?;
            let tables = TABLES.map(|table| format!("{name}_{table}"));
            // Long names are cut by the server, which knows how.
            let (of, columns): (Vec<String>, Vec<&str>) = NUMBERED
                .iter()
                .map(|(table, column)| (format!("{name}_{table}"), *column))
                .unzip();
            let asked = "SELECT pg_get_serial_sequence(t, c) FROM unnest($1::text[], $2::text[]) s(t, c)";
            let mut sequences: Vec<String> = Vec::new();
            for row in client.query(asked, &[&of, &columns])? {
                sequences.extend(row.try_get::<_, Option<String>>(0)?);
            }
            let may = "SELECT
                 (SELECT bool_and(has_table_privilege(t, p)) FROM unnest($1::text[]) t,
                     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p)
                 AND coalesce((SELECT bool_and(has_sequence_privilege(s, 'USAGE')) FROM unnest($2::text[]) s), true)";
            let row = client.query_one(may, &[&&tables[..], &sequences])?;
            if row.try_get::<_, bool>(0)? {
                return Ok(());
            }
            let grant = format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {to}; GRANT USAGE ON SEQUENCE {} TO {to}",
                tables.join(", "),
                sequences.join(", "),
                to = identifier(&role)
            );
            Err(PostgresError::MayNotChange { name: name.to_owned(), role, grant })
        })
    }
}

/// Why tables could not be made.
fn refused(client: &mut Client, name: &str, error: postgres::Error) -> PostgresError {
    if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return error.into();
    }
    let said =
        error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
    match client.query_one("SELECT current_user::text", &[]).and_then(|row| row.try_get(0)) {
        Ok(role) => PostgresError::MayNotKeep { name: name.to_owned(), role, said },
        Err(error) => error.into(),
    }
}

/// Brings tables of version 1 to version 2.
fn to_2(mut transaction: Transaction<'_>, name: &str) -> Result<(), PostgresError> {
    // Only their owner may do the first, which changes nothing: who may not would make tables that are not the owner's.
    let change = format!(
        "ALTER TABLE {name}_service ALTER schema SET NOT NULL;
         {};
         UPDATE {name}_service SET schema = 2",
        corrections::create(name)
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
