//! A connection to another process: who is there, whether it still lives, and messages within limits of
//! time.
//!
//! Where the connection is encrypted, that is agreed on first. Then either side greets: what it is, whether it asks for a
//! secret, random bytes. Where both do, the one that has come shows that it knows the secret, then the other one
//! (`trust.rs`). From then on each says at least twice a second that it is alive, however long it
//! computes, so that whoever hears nothing for some time knows that the other is stopped, asleep or cut off.
//! What comes behind the greeting are bytes of life ([`ALIVE`]) and messages, each behind a [`MESSAGE`].

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{LinkError, is_timeout};
use super::message::{Head, Message, Room};
use super::trust::{Access, NONCE, Secret, Side, nonce};
use super::wire::{self, Incoming, Outgoing};

/// Version of what follows the greeting.
const VERSION: u8 = 3;
/// First bytes from either side; the version comes behind them, then whether a secret is asked for, and the nonce.
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
    reader: BufReader<Incoming>,
    writer: Arc<Mutex<BufWriter<Outgoing>>>,
    greeting_time: Duration,
    patience: Duration,
    /// For a message, signs of life or not.
    longest: Duration,
    /// Ends the signs of life when it goes.
    heart: Option<Sender<()>>,
}

impl Socket {
    /// Greets whoever is at the other end, who has `greeting_time` for agreeing on encryption, for his own greeting and
    /// for the message behind it, is given up after `patience` without a byte, and after `longest` without a message.
    pub(super) fn greet(
        stream: TcpStream,
        access: &Access,
        greeting_time: Duration,
        patience: Duration,
        longest: Duration,
    ) -> Result<Self, LinkError> {
        let greeted = Self::within(stream, access, greeting_time, patience, longest);
        greeted.map_err(|error| error.timed(greeting_time.as_secs()))
    }

    fn within(
        stream: TcpStream,
        access: &Access,
        greeting_time: Duration,
        patience: Duration,
        longest: Duration,
    ) -> Result<Self, LinkError> {
        // A step has many short messages, each of which is waited for.
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(greeting_time))?;
        stream.set_write_timeout(Some(patience))?;
        let (incoming, outgoing) = wire::open(stream, access.tls.as_ref(), greeting_time)?;
        incoming.stream().set_read_timeout(Some(greeting_time))?;
        let mut writer = BufWriter::new(outgoing);
        let own = if access.secret.is_some() { nonce()? } else { [0; NONCE] };
        writer.write_all(&GREETING)?;
        writer.write_all(&[VERSION, u8::from(access.secret.is_some())])?;
        writer.write_all(&own)?;
        writer.flush()?;
        let mut reader = BufReader::new(incoming);
        let mut greeting = [0; GREETING.len() + 1];
        let mut paced = Paced::new(&mut reader, greeting_time);
        if paced.read_exact(&mut greeting).is_err() || !greeting.starts_with(&GREETING) {
            return Err(LinkError::Stranger);
        }
        match greeting[GREETING.len()] {
            VERSION => (),
            theirs => return Err(LinkError::Version { theirs, ours: VERSION }),
        }
        let mut asks = [0];
        let mut other = [0; NONCE];
        if paced.read_exact(&mut asks).is_err() || paced.read_exact(&mut other).is_err() {
            return Err(LinkError::Stranger);
        }
        match (&access.secret, asks) {
            (None, [0]) => (),
            (Some(secret), [1]) => {
                let nonces = match access.side {
                    Side::Trainer => [own, other],
                    Side::Worker => [other, own],
                };
                prove(&mut paced, &mut writer, secret, access.side, &nonces)?;
            }
            (None, _) => return Err(LinkError::SecretWanted),
            (Some(_), _) => return Err(LinkError::SecretLacking),
        }
        reader.get_ref().stream().set_read_timeout(Some(patience))?;
        let writer = Arc::new(Mutex::new(writer));
        Ok(Self { reader, writer, greeting_time, patience, longest, heart: None })
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
        let patience = self.patience;
        let received = self
            .tagged()
            .and_then(|()| Message::read(&mut Paced::new(&mut self.reader, patience), room));
        received.map_err(|error| self.timed(error))
    }

    /// Waits for a message, and throws away all of it but its head.
    pub(super) fn skip(&mut self, most: u64) -> Result<Head, LinkError> {
        let patience = self.patience;
        let skipped = self
            .tagged()
            .and_then(|()| Message::skip(&mut Paced::new(&mut self.reader, patience), most));
        skipped.map_err(|error| self.timed(error))
    }

    /// Waits until a message begins.
    fn tagged(&mut self) -> Result<(), LinkError> {
        let began = Instant::now();
        loop {
            let mut tag = [0];
            self.reader.read_exact(&mut tag)?;
            match tag {
                [ALIVE] if began.elapsed() > self.longest => {
                    return Err(LinkError::Idle { seconds: self.longest.as_secs() });
                }
                [ALIVE] => (),
                [MESSAGE] => return Ok(()),
                [other] => return Err(LinkError::malformed(format!("a byte {other}"))),
            }
        }
    }

    /// The first message, within the time that a greeting has: signs of life alone are not enough. This side shows
    /// its own from then on.
    pub(super) fn receive_first(
        &mut self,
        room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Message, LinkError> {
        self.reader.get_ref().stream().set_read_timeout(Some(self.greeting_time))?;
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
        self.reader.get_ref().stream().set_read_timeout(Some(self.patience))?;
        self.live()?;
        Ok(received)
    }

    /// Says nothing more. What the other side is still sending is taken for a moment: closed at once, the
    /// connection would be reset, and what was said last would be lost with it.
    pub(super) fn end(&mut self) {
        self.heart = None;
        let stream = self.reader.get_ref().stream();
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
        let _ = self.reader.get_ref().stream().shutdown(Shutdown::Both);
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

/// Both sides show that they know the secret, the one that has come first.
fn prove(
    reader: &mut Paced<'_>,
    writer: &mut BufWriter<Outgoing>,
    secret: &Secret,
    side: Side,
    nonces: &[[u8; NONCE]; 2],
) -> Result<(), LinkError> {
    let mut show = || -> Result<(), LinkError> {
        writer.write_all(&secret.proof(side, nonces))?;
        Ok(writer.flush()?)
    };
    if side == Side::Trainer {
        show()?;
    }
    let mut proof = [0; NONCE];
    match reader.read_exact(&mut proof).map_err(LinkError::from) {
        // Whoever is not convinced says nothing more.
        Err(LinkError::Closed) => return Err(LinkError::SecretWrong),
        read => read?,
    }
    if !secret.is_proof(side.other(), nonces, &proof) {
        return Err(LinkError::SecretWrong);
    }
    if side == Side::Worker {
        show()?;
    }
    Ok(())
}

/// Shows signs of life until what it returns is gone, or the connection.
fn beat(writer: Arc<Mutex<BufWriter<Outgoing>>>) -> Result<Sender<()>, LinkError> {
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
    reader: &'a mut BufReader<Incoming>,
    began: Instant,
    taken: u64,
    /// Before the speed counts.
    start: Duration,
}

impl<'a> Paced<'a> {
    fn new(reader: &'a mut BufReader<Incoming>, start: Duration) -> Self {
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
    use std::path::Path;

    use super::super::trust::Trust;
    use super::*;

    const SHORT: Duration = Duration::from_millis(1200);
    const LONG: Duration = Duration::from_mins(1);

    fn access(side: Side) -> Access {
        Access { side, secret: None, tls: None }
    }

    /// A socket, and what is at its other end before it says anything.
    fn pair(greeting_time: Duration) -> (impl FnOnce() -> Result<Socket, LinkError>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        (move || Socket::greet(near, &access(Side::Worker), greeting_time, SHORT, LONG), far)
    }

    fn greeted() -> (Socket, TcpStream) {
        let (greet, mut far) = pair(SHORT);
        far.write_all(b"magpie\0\x03\0").unwrap();
        far.write_all(&[0; NONCE]).unwrap();
        (greet().unwrap(), far)
    }

    /// Both ends greeted.
    fn both() -> (Socket, Socket) {
        let (greet, far) = pair(SHORT);
        let far = std::thread::spawn(move || {
            Socket::greet(far, &access(Side::Trainer), SHORT, SHORT, LONG).unwrap()
        });
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

    /// Both ends of an encrypted connection.
    fn encrypted(certificate: &str, key: &str, trusted: &str) -> [Result<Socket, LinkError>; 2] {
        let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
        let server = crate::certificate::server(&file(certificate), &file(key)).unwrap();
        let secret = || Some(Secret::of(b"one that is long enough"));
        let (mut trust, guests) = (
            Trust::read(None, Some(&file(trusted))).unwrap(),
            Access::to_guests(secret(), Some(Arc::new(server))),
        );
        trust.secret = secret();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        let far = std::thread::spawn(move || {
            let access = Access::to_worker(&trust, "127.0.0.1:7500")?;
            Socket::greet(far, &access, SHORT, SHORT, LONG)
        });
        let near = Socket::greet(near, &guests, SHORT, SHORT, LONG);
        [near, far.join().unwrap()]
    }

    #[test]
    fn encrypted_messages_arrive_while_signs_of_life_go_the_other_way() {
        let [near, far] = encrypted("certificate.pem", "key.pem", "certificate.pem");
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.live().unwrap();
        far.live().unwrap();
        let values: Vec<f32> = (0..3 << 20).map(|i| i as f32).collect();
        let sent = values.clone();
        let answer = std::thread::spawn(move || {
            far.send(&Message::Values(sent)).unwrap();
            let values = far.receive(|_| Ok(Room::floats(1, 3 << 20))).unwrap();
            (values, far)
        });
        std::thread::sleep(SHORT);
        let room = |_: &Head| Ok(Room::floats(1, 3 << 20));
        let Message::Values(got) = near.receive(room).unwrap() else { panic!("values") };
        assert!(got == values);
        near.send(&Message::Values(got)).unwrap();
        let (Message::Values(again), _far) = answer.join().unwrap() else { panic!("values") };
        assert!(again == values);
    }

    #[test]
    fn a_certificate_that_was_not_given_is_not_taken() {
        let [near, far] = encrypted("renewed.pem", "other-key.pem", "certificate.pem");
        let told = |socket: Result<Socket, LinkError>| match socket {
            Err(LinkError::Encryption(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(told(far).starts_with("its certificate is none of those"));
        assert_eq!(told(near), "the other side does not trust this certificate");
    }

    #[test]
    fn a_handshake_that_does_not_go_on_is_given_up() {
        let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
        let server =
            crate::certificate::server(&file("certificate.pem"), &file("key.pem")).unwrap();
        let guests = Access::to_guests(None, Some(Arc::new(server)));
        for said in [&b""[..], b"\x16\x03\x01\x02\x00", b"magpie\0\x03\0", &[0xff; 64]] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (near, _) = listener.accept().unwrap();
            far.write_all(said).unwrap();
            let began = Instant::now();
            assert!(Socket::greet(near, &guests, SHORT, SHORT, LONG).is_err());
            assert!(began.elapsed() < 2 * SHORT, "{said:?}");
        }
        // A byte at a time is no handshake either.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let hello = [&[0x16, 3, 1, 2, 0][..], &[1; 507]].concat();
            for byte in hello {
                if far.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let began = Instant::now();
        assert!(Socket::greet(near, &guests, SHORT, SHORT, LONG).is_err());
        assert!(began.elapsed() < 2 * SHORT);
    }

    #[test]
    fn a_guest_without_the_secret_learns_nothing_and_holds_nothing() {
        let secret = Secret::of(b"one that is long enough");
        let asked = |said: &[u8]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (near, _) = listener.accept().unwrap();
            far.write_all(b"magpie\0\x03\x01").unwrap();
            far.write_all(&[7; NONCE]).unwrap();
            far.write_all(said).unwrap();
            let guests = Access::to_guests(Some(secret.clone()), None);
            let error = Socket::greet(near, &guests, SHORT, SHORT, LONG).unwrap_err();
            let mut heard = Vec::new();
            far.set_read_timeout(Some(SHORT)).unwrap();
            let _ = far.read_to_end(&mut heard);
            (error, heard.len())
        };
        // The greeting, and no proof.
        let (error, heard) = asked(&[9; NONCE]);
        assert!(matches!(error, LinkError::SecretWrong), "{error:?}");
        assert_eq!(heard, GREETING.len() + 2 + NONCE);
        let (error, heard) = asked(&[9; 5]);
        assert!(matches!(error, LinkError::Silent { .. } | LinkError::SecretWrong), "{error:?}");
        assert_eq!(heard, GREETING.len() + 2 + NONCE);
    }

    #[test]
    fn signs_of_life_alone_do_not_hold_for_ever() {
        let (mut near, far) = both();
        near.longest = Duration::from_millis(600);
        let error = near.receive(nothing).unwrap_err();
        assert!(matches!(error, LinkError::Idle { .. }), "{error:?}");
        drop(far);
    }
}
