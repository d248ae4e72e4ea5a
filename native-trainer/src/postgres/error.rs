//! Why the server could not be used, in sentences.

use std::path::PathBuf;

use models::gallery::{GalleryError, StreamError};
use postgres::error::SqlState;
use thiserror::Error;

/// What the client of the server says.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why `PostgreSQL` could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The server does not answer, or refuses.
    #[error("{}; {}", said(.0), at_connecting(.0))]
    Connect(Cause),
    /// An address that cannot be read.
    #[error(
        "the address of the server cannot be read; write it as postgres://user:password@host/database, with % signs \
         for letters that stand for something else in an address"
    )]
    Address,
    /// A mode of encryption that there is not.
    #[error(
        "sslmode is disable, or require, verify-ca or verify-full, which all check the certificate"
    )]
    Mode,
    /// Encryption where there is none.
    #[error(
        "a socket is not encrypted, and nobody else reads it: leave sslmode out of the address"
    )]
    Socket,
    /// A file of authorities that cannot be used.
    #[error("{}: {}; name a PEM file of certificates by sslrootcert", .0.display(), .1)]
    Certificates(PathBuf, String),
    /// No file of authorities.
    #[error(
        "this machine has no file of authorities; name one in PEM by sslrootcert in the server's address"
    )]
    NoAuthorities,
    /// The server has no pgvector.
    #[error("the server has no pgvector: {}; install it there", said(.0))]
    NoVectors(Cause),
    /// The server has pgvector, and this user may not make it part of the database.
    #[error("{}; let its owner run CREATE EXTENSION vector in this database once", said(.0))]
    MayNotMake(Cause),
    /// The server refuses a command, or is gone.
    #[error("the server says: {}", said(.0))]
    Server(#[source] Cause),
    /// A name that is no name of a table.
    #[error("{0:?} is no name of a gallery: small letters, digits and _, at most 40")]
    Name(String),
    /// No gallery of this name.
    #[error("there is no gallery {0:?}; `magpie gallery push` makes one")]
    NotThere(String),
    /// Tables of a newer program.
    #[error(
        "the gallery {name:?} has tables of version {version}, and this program knows {known}; update it"
    )]
    Newer {
        /// Name of the gallery.
        name: String,
        /// Version of its tables.
        version: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// Tables of an earlier version that this user may not change.
    #[error(
        "the gallery {0:?} has tables of an earlier version, which only their owner may bring to this one; connect once \
         as their owner"
    )]
    Earlier(String),
    /// A gallery that would not be taken from the server again.
    #[error(
        "{0}; it is not pushed: `magpie gallery rename`, `describe` and `remove` mend a gallery, `build` makes it anew"
    )]
    NotPushed(String),
    /// A role that may not make the tables of a service.
    #[error(
        "the role {role} may not make or change the tables of {name}: {said}; let their owner start a service once, or \
         run GRANT CREATE ON SCHEMA public TO {}",
        identifier(.role)
    )]
    MayNotKeep {
        /// Name of the gallery.
        name: String,
        /// Who is connected.
        role: String,
        /// The server's words.
        said: String,
    },
    /// A role that may read the gallery of a service, and not change it.
    #[error(
        "the role {role} may read the gallery {name}, and not change it; leave --token-file out, and it is served as it \
         is, or have the tables' owner run: {grant}"
    )]
    MayNotChange {
        /// Name of the gallery.
        name: String,
        /// Who is connected.
        role: String,
        /// What lets it.
        grant: String,
    },
    /// A server that takes no changes.
    #[error(
        "the server takes no changes of {0}: it follows another one, or is set so; give the address of the one that it \
         follows, or leave --token-file out, and the gallery is served as it is"
    )]
    Follows(String),
    /// A gallery of a service.
    #[error(
        "{0:?} is the gallery of a service (`magpie serve --server`): download it (GET /v1/gallery/file), send \
         another one (PUT), or take another --name"
    )]
    OfService(String),
    /// A pushed gallery where a service is to keep its own.
    #[error(
        "{0:?} is a gallery that was pushed; give the service another --name, and put the pushed one there by `magpie \
         gallery pull` and PUT /v1/gallery/file"
    )]
    Pushed(String),
    /// An index that the server does not have for this gallery.
    #[error("{0}")]
    Index(String),
    /// A class or metadata that nothing has.
    #[error("{0}")]
    Filter(String),
    /// Rows that nobody pushed.
    #[error(
        "the gallery on the server is inconsistent: {0}; push it again, or put a copy of the database back"
    )]
    Inconsistent(String),
    /// A text, or several, that no service has written.
    #[error(
        "the database has {bytes} bytes of {what}, and no service writes more than {most}; delete such rows there, or put \
         a copy of the database back"
    )]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        bytes: i64,
        /// How long it may be.
        most: i64,
    },
    /// Rows that are no gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// Rows that are no gallery, or files that cannot be read or written.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The connection broke while rows were sent.
    #[error("the connection broke: {0}; nothing was changed on the server, so try again")]
    Sending(std::io::Error),
    /// The connection broke while rows came.
    #[error("the connection broke: {0}; try again")]
    Receiving(std::io::Error),
}

impl PostgresError {
    /// Whether the server cannot be reached, or has ended the connection: another one may help.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Sending(_) | Self::Receiving(_) => true,
            Self::Server(cause) => cause.downcast_ref::<postgres::Error>().is_none_or(|error| {
                // 08: connection; 57P: the server ends or begins; 53: it is full; no code: nobody said anything.
                let is_of = |code: &SqlState| {
                    ["08", "57P", "53"].iter().any(|class| code.code().starts_with(class))
                };
                error.is_closed() || error.code().is_none_or(is_of)
            }),
            _ => false,
        }
    }

    /// Whether somebody else holds what was to be changed for too long.
    pub(crate) fn is_held(&self) -> bool {
        let Self::Server(cause) = self else { return false };
        let code = cause.downcast_ref::<postgres::Error>().and_then(postgres::Error::code);
        code == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }
}

impl From<postgres::Error> for PostgresError {
    fn from(error: postgres::Error) -> Self {
        Self::Server(error.into())
    }
}

impl From<std::io::Error> for PostgresError {
    /// What the server said in the middle of rows comes as an error of reading or writing.
    fn from(error: std::io::Error) -> Self {
        error.downcast::<postgres::Error>().map_or_else(Self::Receiving, Self::from)
    }
}

/// A name as SQL takes it, whatever letters it has.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What to do about a connection that was not made.
fn at_connecting(cause: &Cause) -> &'static str {
    let error = cause.downcast_ref::<postgres::Error>();
    let code = error.and_then(postgres::Error::code).map(SqlState::code);
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&**cause);
    let is_of_the_system = std::iter::from_fn(|| {
        let error = source?;
        source = error.source();
        Some(error.is::<std::io::Error>())
    })
    .any(|is_it| is_it);
    match code {
        Some("57P03") => "try again in a moment",
        Some(code) if code.starts_with("28") => {
            "look at user and password in postgres://user:password@host/database"
        }
        Some(_) => "look at the address: postgres://user:password@host/database",
        None if is_of_the_system => "is PostgreSQL running there, at that host and port?",
        None => "write the address as postgres://user:password@host/database",
    }
}

/// The server's own words, if it said any.
fn said(cause: &Cause) -> String {
    let of_server = cause.downcast_ref::<postgres::Error>().and_then(postgres::Error::as_db_error);
    of_server.map_or_else(|| format!("{cause}{}", because(cause)), ToString::to_string)
}

/// Why, where it is known.
fn because(cause: &Cause) -> String {
    cause.source().map_or_else(String::new, |source| format!(": {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_named_so_that_sql_takes_it() {
        assert_eq!(identifier("app-writer"), "\"app-writer\"");
        assert_eq!(identifier("a\"; DROP ROLE b"), "\"a\"\"; DROP ROLE b\"");
        let (name, said) = ("shop".to_owned(), "no".to_owned());
        let error = PostgresError::MayNotKeep { name, role: "app-writer".to_owned(), said };
        let told = error.to_string();
        assert!(told.contains("the role app-writer may not"), "{told}");
        assert!(told.ends_with("run GRANT CREATE ON SCHEMA public TO \"app-writer\""), "{told}");
    }
}
