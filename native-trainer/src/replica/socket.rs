//! A connection to another process: who is there, whether it still lives, and messages within limits of
//! time.
//!
//! Either side greets first. From then on each says at least twice a second that it is alive, however long it
//! computes, so that whoever hears nothing for some time knows that the other is stopped, asleep or cut off.
//! What comes behind the greeting are bytes of life ([`ALIVE`]) and messages, each behind a [`MESSAGE`].

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{LinkError, is_timeout};
use super::message::{Head, Message, Room};

/// Version of what follows the greeting.
const VERSION: u8 = 2;
/// First bytes from either side; the version comes behind them.
const GREETING: [u8; 7] = *b"magpie\0";
/// Time for a greeting and the message behind it.
pub(super) const GREETING_TIME: Duration = Duration::from_secs(10);
/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Bytes a second at which a message comes at least, its first seconds apart.
const SLOWEST: u64 = 16 << 10;
/// How long bytes are taken and thrown away from a side that was told why it is not served.
const FAREWELL: Duration = Duration::from_secs(2);

/// A sign of life.
const ALIVE: u8 = 0;
/// A message follows.
const MESSAGE: u8 = 1;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Socket {
    reader: BufReader<TcpStream>,
    writer: Arc<Mutex<BufWriter<TcpStream>>>,
    greeting_time: Duration,
    patience: Duration,
    /// Ends the signs of life when it goes.
    heart: Option<Sender<()>>,
}

impl Socket {
    /// Greets whoever is at the other end, who has `greeting_time` for his own greeting and the message behind it, and is
    /// given up after `patience` without a byte.
    pub(super) fn greet(
        stream: TcpStream,
        greeting_time: Duration,
        patience: Duration,
    ) -> Result<Self, LinkError> {
        // A step has many short messages, each of which is waited for.
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(greeting_time))?;
        stream.set_write_timeout(Some(patience))?;
        let mut writer = BufWriter::new(stream.try_clone()?);
        writer.write_all(&GREETING)?;
        writer.write_all(&[VERSION])?;
        writer.flush()?;
        let mut reader = BufReader::new(stream);
        let mut greeting = [0; GREETING.len() + 1];
        let mut paced = Paced::new(&mut reader, greeting_time);
        if paced.read_exact(&mut greeting).is_err() || !greeting.starts_with(&GREETING) {
            return Err(LinkError::Stranger);
        }
        match greeting[GREETING.len()] {
            VERSION => (),
            theirs => return Err(LinkError::Version { theirs, ours: VERSION }),
        }
        reader.get_ref().set_read_timeout(Some(patience))?;
        let writer = Arc::new(Mutex::new(writer));
        Ok(Self { reader, writer, greeting_time, patience, heart: None })
    }

    /// Shows signs of life from now on.
    pub(super) fn live(&mut self) -> Result<(), LinkError> {
        self.heart = Some(beat(self.writer.clone())?);
        Ok(())
    }

    pub(super) fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        let message = message.encode()?;
        let sent = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let tagged = writer.write_all(&[MESSAGE]).map_err(LinkError::from);
            tagged.and_then(|()| message.write(&mut *writer))
        };
        match sent {
            // Who gave up may have said why.
            Err(LinkError::Closed) => {
                let nothing = |head: &Head| Err(LinkError::unexpected("nothing", head.name()));
                match self.receive(nothing) {
                    Ok(Message::Failed(reason)) => Err(LinkError::Failed(reason)),
                    Ok(Message::Busy) => Err(LinkError::Busy),
                    _ => Err(LinkError::Closed),
                }
            }
            sent => sent.map_err(|error| self.timed(error)),
        }
    }

    /// Waits for a message for as long as the other side shows signs of life.
    pub(super) fn receive(
        &mut self,
        room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Message, LinkError> {
        let received = loop {
            let mut tag = [0];
            match self.reader.read_exact(&mut tag) {
                Ok(()) if tag == [ALIVE] => (),
                Ok(()) if tag == [MESSAGE] => {
                    break Message::read(&mut Paced::new(&mut self.reader, self.patience), room);
                }
                Ok(()) => break Err(LinkError::malformed(format!("a byte {}", tag[0]))),
                Err(error) => break Err(error.into()),
            }
        };
        received.map_err(|error| self.timed(error))
    }

    /// The first message, within the time that a greeting has: signs of life alone are not enough. This side shows
    /// its own from then on.
    pub(super) fn receive_first(
        &mut self,
        room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Message, LinkError> {
        self.reader.get_ref().set_read_timeout(Some(self.greeting_time))?;
        let mut paced = Paced::new(&mut self.reader, self.greeting_time);
        let mut tag = [ALIVE];
        let tagged = loop {
            match paced.read_exact(&mut tag) {
                Ok(()) if tag == [ALIVE] => (),
                tagged => break tagged,
            }
        };
        let received = match tagged {
            Ok(()) if tag == [MESSAGE] => Message::read(&mut paced, room),
            Ok(()) => Err(LinkError::malformed(format!("a byte {}", tag[0]))),
            Err(error) => Err(error.into()),
        };
        let seconds = self.greeting_time.as_secs();
        let received = received.map_err(|error| error.timed(seconds))?;
        self.reader.get_ref().set_read_timeout(Some(self.patience))?;
        self.live()?;
        Ok(received)
    }

    /// Says nothing more. What the other side is still sending is taken for a moment: closed at once, the
    /// connection would be reset, and what was said last would be lost with it.
    pub(super) fn end(&mut self) {
        self.heart = None;
        let stream = self.reader.get_ref();
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(Some(FAREWELL));
        let began = Instant::now();
        let mut dropped = [0; 1 << 14];
        while began.elapsed() < FAREWELL && self.reader.read(&mut dropped).is_ok_and(|n| n > 0) {}
        self.close();
    }

    /// Closes the connection, also where a thread still holds it.
    fn close(&mut self) {
        self.heart = None;
        // Gone already, or gone now.
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }

    fn timed(&self, error: LinkError) -> LinkError {
        error.timed(self.patience.as_secs())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Shows signs of life until what it returns is gone, or the connection.
fn beat(writer: Arc<Mutex<BufWriter<TcpStream>>>) -> Result<Sender<()>, LinkError> {
    let (heart, ended) = channel();
    std::thread::Builder::new().name("heart".to_owned()).spawn(move || {
        while ended.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            // A message that is on its way is a sign itself.
            let Ok(mut writer) = writer.try_lock() else { continue };
            match writer.write_all(&[ALIVE]).and_then(|()| writer.flush()) {
                Err(error) if !is_timeout(error.kind()) => break,
                // Nobody reads at the moment, so that nobody waits for a sign.
                _ => (),
            }
        }
    })?;
    Ok(heart)
}

/// Reads at a least speed: whoever hands out a byte now and then does not hold this side for ever.
struct Paced<'a> {
    reader: &'a mut BufReader<TcpStream>,
    began: Instant,
    taken: u64,
    /// Before the speed counts.
    start: Duration,
}

impl<'a> Paced<'a> {
    fn new(reader: &'a mut BufReader<TcpStream>, start: Duration) -> Self {
        Self { reader, began: Instant::now(), taken: 0, start }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.began.elapsed() > self.start + Duration::from_secs(self.taken / SLOWEST) {
            return Err(ErrorKind::TimedOut.into());
        }
        let read = self.reader.read(buffer)?;
        self.taken += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1200);

    /// A socket, and what is at its other end before it says anything.
    fn pair(greeting_time: Duration) -> (impl FnOnce() -> Result<Socket, LinkError>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        (move || Socket::greet(near, greeting_time, SHORT), far)
    }

    fn greeted() -> (Socket, TcpStream) {
        let (greet, mut far) = pair(SHORT);
        far.write_all(b"magpie\0\x02").unwrap();
        (greet().unwrap(), far)
    }

    /// Both ends greeted.
    fn both() -> (Socket, Socket) {
        let (greet, far) = pair(SHORT);
        let far = std::thread::spawn(move || Socket::greet(far, SHORT, SHORT).unwrap());
        let (mut near, mut far) = (greet().unwrap(), far.join().unwrap());
        near.live().unwrap();
        far.live().unwrap();
        (near, far)
    }

    fn nothing(head: &Head) -> Result<Room, LinkError> {
        Room::NONE.only("ready")(head)
    }

    #[test]
    fn strangers_and_other_versions_are_told_apart() {
        let (greet, mut far) = pair(SHORT);
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(matches!(greet(), Err(LinkError::Stranger)));
        let (greet, mut far) = pair(SHORT);
        far.write_all(b"magpie\0\x01").unwrap();
        assert!(matches!(greet(), Err(LinkError::Version { theirs: 1, .. })));
        let (greet, _far) = pair(Duration::from_millis(50));
        assert!(matches!(greet(), Err(LinkError::Stranger)));
    }

    #[test]
    fn signs_of_life_keep_a_connection_and_do_not_begin_a_run() {
        let (mut near, mut far) = both();
        let answer = std::thread::spawn(move || {
            std::thread::sleep(2 * SHORT);
            far.send(&Message::Ready).unwrap();
            far
        });
        assert!(matches!(near.receive(nothing), Ok(Message::Ready)));
        let _far = answer.join().unwrap();
        let error = near.receive_first(nothing);
        assert!(matches!(error, Err(LinkError::Silent { .. })), "{error:?}");
    }

    #[test]
    fn silence_between_messages_and_inside_one_is_noticed() {
        std::thread::scope(|scope| {
            for begun in [&b""[..], b"\x01", b"\x01\x10\0\0\0\0\0\0\0{"] {
                let (mut near, mut far) = greeted();
                far.write_all(begun).unwrap();
                scope.spawn(move || {
                    let _far = far;
                    let error = near.receive(nothing);
                    assert!(matches!(error, Err(LinkError::Silent { seconds: 1 })), "{error:?}");
                });
            }
        });
    }

    #[test]
    fn a_message_that_drips_in_is_given_up() {
        let (mut near, mut far) = greeted();
        far.write_all(b"\x01\xff\0\0\0\0\0\0\0").unwrap();
        std::thread::spawn(move || {
            // Within the time that a byte may take, and far below the speed that a message has.
            while far.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let error = near.receive(nothing);
        assert!(matches!(error, Err(LinkError::Silent { .. })), "{error:?}");
    }

    #[test]
    fn the_reason_outlives_a_message_that_nobody_takes() {
        let (mut near, mut far) = both();
        let sent = std::thread::spawn(move || far.send(&Message::Values(vec![0.5; 8 << 20])));
        let Err(error) = near.receive(nothing) else { panic!("it has no place") };
        assert!(matches!(error, LinkError::Unexpected { expected: "ready", got: "values" }));
        near.send(&Message::Failed(error.to_string())).unwrap();
        near.end();
        match sent.join().unwrap() {
            // All of it went into the system's buffers, or was taken and thrown away.
            Ok(()) => (),
            Err(LinkError::Failed(reason)) => assert!(reason.contains("`ready`"), "{reason}"),
            Err(other) => panic!("{other}"),
        }
    }
}
