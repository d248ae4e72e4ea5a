//! Why a connection between replicas is of no use any more, and why a step was lost with a replica.

use std::io::ErrorKind;

use authoring::label::on_one_line;
use thiserror::Error;

use crate::terminal::reason;

/// Most replicas of a run.
pub(super) const MAX_REPLICAS: usize = 256;
/// Characters of another side's words, or of what is said about its bytes, that are shown.
const SHOWN: usize = 500;

/// Why a connection is of no use any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The other side ended.
    #[error("the connection was closed")]
    Closed,
    /// What the system hindered.
    #[error("{}", said(.0))]
    System(std::io::Error),
    /// A name that nothing has.
    #[error("no machine of this name is known; look at the name, or give the machine's number")]
    NoHost,
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

/// Why a step was lost with a replica.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// More replicas than may share a batch.
    #[error("{0} replicas, where {MAX_REPLICAS} may share a batch; name fewer")]
    TooMany(usize),
    /// A worker is one replica.
    #[error("worker {0} is named twice; leave one out, or start one more on another --port")]
    Twice(String),
    /// A worker has another run to compute for.
    #[error("worker {address}: {source}")]
    Busy {
        /// As given.
        address: String,
        /// What it says.
        source: LinkError,
    },
    /// A worker that this run cannot use, or that does not let it in.
    #[error("worker {address}: {source}")]
    Refused {
        /// As given.
        address: String,
        /// What is wrong.
        source: LinkError,
    },
    /// Nobody answers at an address.
    #[error("worker {address}: {source}; start it there with `magpie worker`")]
    Connect {
        /// As given.
        address: String,
        /// What is wrong.
        source: LinkError,
    },
    /// A replica that is lost or does not do as told.
    #[error(
        "{name}: {source}; a run that has ended goes on from its newest checkpoint with --resume, with these workers or \
         others"
    )]
    Lost {
        /// The replica.
        name: String,
        /// What is wrong.
        source: LinkError,
    },
}

impl ReplicaError {
    /// What is wrong, without where.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::TooMany(_) | Self::Twice(_) => self.to_string(),
            Self::Busy { source, .. }
            | Self::Refused { source, .. }
            | Self::Connect { source, .. }
            | Self::Lost { source, .. } => source.to_string(),
        }
    }
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

/// What the system says, as far as a reader can act on it.
fn said(error: &std::io::Error) -> String {
    let text = match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            "no network leads there"
        }
        kind if is_timeout(kind) => "nothing has come from it in time",
        _ => return reason(error),
    };
    text.to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_hinders_is_told_in_words() {
        for (kind, told) in [
            (ErrorKind::ConnectionRefused, "nobody listens there"),
            (ErrorKind::NetworkUnreachable, "no network leads there"),
            (ErrorKind::WouldBlock, "nothing has come from it in time"),
            (ErrorKind::TimedOut, "nothing has come from it in time"),
            (ErrorKind::BrokenPipe, "the connection was closed"),
        ] {
            assert_eq!(LinkError::from(std::io::Error::from(kind)).to_string(), told);
        }
        let error = LinkError::from(std::io::Error::from(ErrorKind::WouldBlock)).timed(7);
        assert!(error.to_string().contains("nothing has come from it for 7 s"), "{error}");
    }
}
