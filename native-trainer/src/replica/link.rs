//! A two-way connection between replicas: to another process, or to a thread of this one.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::error::{LinkError, plain};
use super::message::{Head, Message, Room};
use super::socket::{GREETING_TIME, Socket};
use super::trust::Access;

/// Time for a worker's part of a step or an evaluation, signs of life or not: whoever shows nothing else holds no run.
const LONGEST_STEP: Duration = Duration::from_hours(1);
/// The same for what a trainer does between two messages.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// Bytes of a message that is thrown away, at most.
const THROWN_AWAY: u64 = 4 << 30;

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Link {
    Socket(Box<Socket>),
    Channel { sender: Sender<Message>, receiver: Receiver<Message> },
}

impl Link {
    /// Greets a worker at the other end of a connection, who is given up after `patience` without a byte.
    pub(super) fn over(
        stream: TcpStream,
        access: &Access,
        patience: Duration,
    ) -> Result<Self, LinkError> {
        let mut socket = Socket::greet(stream, access, GREETING_TIME, patience, LONGEST_STEP)?;
        socket.live()?;
        Ok(Self::Socket(Box::new(socket)))
    }

    /// The same with somebody who has come and has `time` for greeting, to whom signs of life are shown once he has begun
    /// a run.
    pub(super) fn with_guest(
        stream: TcpStream,
        access: &Access,
        time: Duration,
        patience: Duration,
    ) -> Result<Self, LinkError> {
        let socket = Socket::greet(stream, access, time, patience, LONGEST_PAUSE)?;
        Ok(Self::Socket(Box::new(socket)))
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

    /// Throws away what was said until the other side is ready.
    pub(super) fn settle(&mut self) -> Result<(), LinkError> {
        loop {
            let head = match self {
                Self::Socket(socket) => socket.skip(THROWN_AWAY)?,
                Self::Channel { receiver, .. } => {
                    receiver.recv().or(Err(LinkError::Closed))?.head()
                }
            };
            match head {
                Head::Ready => return Ok(()),
                Head::Said | Head::Outputs | Head::Gradients | Head::Values => (),
                Head::Failed { reason } => return Err(LinkError::Failed(plain(&reason))),
                other => return Err(LinkError::unexpected("ready", other.name())),
            }
        }
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
