//! A two-way connection between replicas: to another process, or to a thread of this one.

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use thiserror::Error;

use super::message::Message;

/// First bytes from either side; the last one is the version of what follows.
const GREETING: [u8; 8] = *b"magpie\0\x01";
/// A peer that is silent for so long is gone. Longer than any step.
const PATIENCE: Duration = Duration::from_mins(10);
/// A peer that does not greet within this time is something else.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);

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
    /// Bytes that are no message.
    #[error("what came is no message: {0}")]
    Malformed(String),
    /// Something else listens there, or another version.
    #[error("no worker of this version answers there; run the same magpie on both sides")]
    Version,
    /// A message that has no place there.
    #[error("`{got}` came where `{expected}` was awaited")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// The other side told why it cannot go on.
    #[error("it cannot go on: {0}")]
    Failed(String),
}

impl LinkError {
    pub(super) fn malformed(reason: impl ToString) -> Self {
        Self::Malformed(reason.to_string())
    }
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted => Self::Closed,
            _ => Self::System(error),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Link {
    Socket { reader: BufReader<TcpStream>, writer: BufWriter<TcpStream> },
    Channel { sender: Sender<Message>, receiver: Receiver<Message> },
}

impl Link {
    /// Greets whoever is at the other end of a connection.
    pub(super) fn over(stream: TcpStream) -> Result<Self, LinkError> {
        // A step has many short messages, each of which is waited for.
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GREETING_PATIENCE))?;
        let mut writer = BufWriter::new(stream.try_clone()?);
        let mut reader = BufReader::new(stream);
        writer.write_all(&GREETING)?;
        writer.flush()?;
        let mut greeting = [0; GREETING.len()];
        if reader.read_exact(&mut greeting).is_err() || greeting != GREETING {
            return Err(LinkError::Version);
        }
        reader.get_ref().set_read_timeout(Some(PATIENCE))?;
        Ok(Self::Socket { reader, writer })
    }

    /// Two ends within this process.
    pub(super) fn pair() -> (Self, Self) {
        let ((to_a, from_b), (to_b, from_a)) = (channel(), channel());
        (
            Self::Channel { sender: to_a, receiver: from_a },
            Self::Channel { sender: to_b, receiver: from_b },
        )
    }

    /// Waits for the next message for as long as it takes: whoever trains may think for hours
    /// between two steps.
    pub(super) fn be_patient(&self) -> Result<(), LinkError> {
        match self {
            Self::Socket { reader, .. } => Ok(reader.get_ref().set_read_timeout(None)?),
            Self::Channel { .. } => Ok(()),
        }
    }

    pub(super) fn send(&mut self, message: Message) -> Result<(), LinkError> {
        match self {
            Self::Socket { writer, .. } => message.write(writer),
            Self::Channel { sender, .. } => sender.send(message).or(Err(LinkError::Closed)),
        }
    }

    pub(super) fn receive(&mut self) -> Result<Message, LinkError> {
        let message = match self {
            Self::Socket { reader, .. } => Message::read(reader)?,
            Self::Channel { receiver, .. } => receiver.recv().or(Err(LinkError::Closed))?,
        };
        match message {
            Message::Failed(reason) => Err(LinkError::Failed(reason)),
            message => Ok(message),
        }
    }
}
