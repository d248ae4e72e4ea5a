//! A two-way connection between replicas: to another process, or to a thread of this one.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use thiserror::Error;

use super::message::{Head, Message, Room};
use super::socket::{GREETING_TIME, Socket, VERSION, is_timeout};

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
    #[error("what answers there is no magpie worker")]
    Stranger,
    /// A worker or trainer of another version.
    #[error(
        "version {theirs} of the protocol is spoken there, {VERSION} here; run the same magpie on both \
         sides"
    )]
    Version {
        /// The other side's.
        theirs: u8,
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

    pub(super) fn unexpected(expected: &'static str, got: &Head) -> Self {
        Self::Unexpected { expected, got: got.name() }
    }

    /// A time of so many seconds that was over.
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
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Link {
    Socket(Socket),
    Channel { sender: Sender<Message>, receiver: Receiver<Message> },
}

impl Link {
    /// Greets a worker at the other end of a connection, who is given up after `patience` without a byte.
    pub(super) fn over(stream: TcpStream, patience: Duration) -> Result<Self, LinkError> {
        let mut socket = Socket::greet(stream, GREETING_TIME, patience)?;
        socket.live()?;
        Ok(Self::Socket(socket))
    }

    /// The same with somebody who has come, to whom signs of life are shown once he has begun a run.
    pub(super) fn with_guest(stream: TcpStream, patience: Duration) -> Result<Self, LinkError> {
        Ok(Self::Socket(Socket::greet(stream, GREETING_TIME, patience)?))
    }

    /// Two ends within this process.
    pub(super) fn pair() -> (Self, Self) {
        let ((to_a, from_b), (to_b, from_a)) = (channel(), channel());
        (
            Self::Channel { sender: to_a, receiver: from_a },
            Self::Channel { sender: to_b, receiver: from_b },
        )
    }

    pub(super) fn send(&mut self, message: Message) -> Result<(), LinkError> {
        match self {
            Self::Socket(socket) => socket.send(&message),
            Self::Channel { sender, .. } => sender.send(message).or(Err(LinkError::Closed)),
        }
    }

    /// Waits for the next message; `room` says how much may follow a head, or that it has no place.
    pub(super) fn receive(
        &mut self,
        room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Message, LinkError> {
        let message = match self {
            Self::Socket(socket) => socket.receive(room)?,
            Self::Channel { receiver, .. } => within(receiver, room)?,
        };
        heard(message)
    }

    /// [`Self::receive`] of the message behind the greeting, which has as little time as that.
    pub(super) fn receive_first(
        &mut self,
        room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Message, LinkError> {
        let message = match self {
            Self::Socket(socket) => socket.receive_first(room)?,
            Self::Channel { receiver, .. } => within(receiver, room)?,
        };
        heard(message)
    }

    /// Says nothing more, and leaves the other side time to hear what was said last.
    pub(super) fn end(&mut self) {
        match self {
            Self::Socket(socket) => socket.end(),
            Self::Channel { .. } => (),
        }
    }
}

fn within(
    receiver: &Receiver<Message>,
    mut room: impl FnMut(&Head) -> Result<Room, LinkError>,
) -> Result<Message, LinkError> {
    let message = receiver.recv().or(Err(LinkError::Closed))?;
    if !matches!(message, Message::Failed(_) | Message::Busy) {
        room(&message.head())?;
    }
    Ok(message)
}

fn heard(message: Message) -> Result<Message, LinkError> {
    match message {
        Message::Failed(reason) => Err(LinkError::Failed(reason)),
        Message::Busy => Err(LinkError::Busy),
        message => Ok(message),
    }
}
