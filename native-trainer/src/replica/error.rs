//! Why a connection between replicas is of no use any more.

use std::io::ErrorKind;

use authoring::label::on_one_line;
use thiserror::Error;

/// Characters of another side's words, or of what is said about its bytes, that are shown.
const SHOWN: usize = 500;

/// Why a connection is of no use any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The other side ended.
    #[error("the connection was closed")]
    Closed,
    /// The system's word.
    #[error(transparent)]
    System(std::io::Error),
    /// Bytes that are no message, or a message that does not fit the run.
    #[error("what came is no message of this run: {0}")]
    Malformed(String),
    /// More than the message may hold.
    #[error(
        "a message of {got} {what}, where {most} have room; lower batch_size, or raise the worker's --memory"
    )]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many were announced.
        got: u64,
        /// How many are taken.
        most: u64,
    },
    /// A network or an input that takes more memory than a run may.
    #[error(
        "{what} takes about {needed} MB, more than the {most} MB of the worker's --memory; raise it \
         there, or train something smaller"
    )]
    TooBig {
        /// What needs it.
        what: &'static str,
        /// In megabytes.
        needed: u64,
        /// In megabytes.
        most: u64,
    },
    /// Something else listens there.
    #[error("what answers there is no magpie worker, or TLS is spoken on one side alone")]
    Stranger,
    /// The connection cannot be encrypted, or not with a side that is trusted.
    #[error(
        "no encrypted connection: {0}; the trainer's --worker-certificate is the worker's --certificate or what signed it"
    )]
    Encryption(String),
    /// The other side asks for a secret, and this one was given none.
    #[error("it asks for a secret; give --secret-file with the same file on both sides")]
    SecretWanted,
    /// This side asks for a secret, and the other one was given none.
    #[error("it was given no secret; start it with the same --secret-file")]
    SecretLacking,
    /// The other side has shown no knowledge of the secret.
    #[error("it has another secret; give --secret-file with the same file on both sides")]
    SecretWrong,
    /// Signs of life came, and nothing else.
    #[error("nothing but signs of life has come from it for {seconds} s")]
    Idle {
        /// How long was waited.
        seconds: u64,
    },
    /// A pass is given up: the replicas that are left share the batch anew.
    #[error("{replicas} replicas share the batch anew")]
    Regroup {
        /// How many are left.
        replicas: usize,
    },
    /// A worker or trainer of another version.
    #[error(
        "version {theirs} of the protocol is spoken there, {ours} here; run the same magpie on both \
         sides"
    )]
    Version {
        /// The other side's.
        theirs: u8,
        /// This program's.
        ours: u8,
    },
    /// Not even a sign of life has come for some time.
    #[error("nothing has come from it for {seconds} s; is it stopped, asleep or cut off?")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// The worker serves one run at a time.
    #[error(
        "it serves another run; wait until that ends, or start one more worker on another --port"
    )]
    Busy,
    /// A message that has no place there.
    #[error("`{got}` came where `{expected}` was awaited")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// A fault of the computation.
    #[error("the computation broke off: {0}")]
    Panicked(String),
    /// The other side told why it cannot go on.
    #[error("it cannot go on: {0}")]
    Failed(String),
}

impl LinkError {
    pub(super) fn malformed(reason: impl ToString) -> Self {
        Self::Malformed(plain(&reason.to_string()))
    }

    pub(super) fn unexpected(expected: &'static str, got: &'static str) -> Self {
        Self::Unexpected { expected, got }
    }

    /// The same, but [`Self::Silent`] for a wait of `seconds` that is over.
    pub(super) fn timed(self, seconds: u64) -> Self {
        match self {
            Self::System(error) if is_timeout(error.kind()) => Self::Silent { seconds },
            other => other,
        }
    }
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected => Self::Closed,
            _ => Self::System(error),
        }
    }
}

/// A stranger's words on one line, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    on_one_line(text, SHOWN)
}

/// What the system calls a time that is over.
pub(super) fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock)
}
