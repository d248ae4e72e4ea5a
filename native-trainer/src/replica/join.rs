//! Workers that come into a run: at its start, and again after they were lost.
//!
//! Whoever was lost is asked again and again, on a thread of its own, so that the run waits for nobody. A worker that
//! answers, the same one or another at its address, is told of the run at once and waits for its place, which it takes
//! between two epochs ([`Hub::admit`](super::Hub::admit)).

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use models::model_file::Architecture;
use models::operators::mixed::HalfFloat;

use super::error::{LinkError, ReplicaError};
use super::link::Link;
use super::message::{Begin, Message, Room};
use super::trust::{Access, Trust};

/// The port that `magpie worker` listens at where none is named.
pub const PORT: u16 = 7500;
/// How long a connection may take.
const CONNECTED: Duration = Duration::from_secs(10);

/// An address as it was given, with the port of a worker where none is named.
///
/// # Errors
///
/// What is no `HOST` and no `HOST:PORT`, in words.
pub fn worker_address(text: &str) -> Result<String, String> {
    let wrong = || {
        format!("a worker is HOST, HOST:PORT or [IPV6]:PORT; without PORT it is {PORT}: {text:?}")
    };
    let text = text.trim();
    if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
        return Ok(format!("[{address}]:{PORT}"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_number = host.strip_prefix('[').is_some_and(|host| {
        host.strip_suffix(']').is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
    });
    let is_name = !host.is_empty()
        && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if !is_number && !is_name {
        return Err(wrong());
    }
    let port = port.map_or(Ok(PORT), str::parse).map_err(|_error| wrong())?;
    if port == 0 {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

/// What whoever computes for a run is told, and how it is called.
#[derive(Debug)]
pub(super) struct Invitation {
    pub(super) architecture: Architecture,
    pub(super) seed: u64,
    pub(super) mixed_precision: Option<HalfFloat>,
    /// How long a worker may say nothing, without so much as a sign of life.
    pub(super) patience: Duration,
    pub(super) trust: Trust,
}

impl Invitation {
    /// For the replica of a place, of as many; the first place is that of this process.
    pub(super) fn begin(&self, place: usize, replicas: usize) -> Message {
        Message::Begin(Box::new(Begin {
            architecture: self.architecture.clone(),
            seed: self.seed.wrapping_add(place as u64),
            replicas,
            mixed_precision: self.mixed_precision,
        }))
    }

    /// A connection to a worker that trusts this process and is trusted.
    pub(super) fn call(&self, address: &str) -> Result<Link, ReplicaError> {
        let link = Access::to_worker(&self.trust, address)
            .and_then(|access| Link::over(connect(address)?, &access, self.patience));
        link.map_err(|source| {
            let address = address.to_owned();
            match source {
                LinkError::Encryption(_)
                | LinkError::NoHost
                | LinkError::Version { .. }
                | LinkError::SecretWanted
                | LinkError::SecretLacking
                | LinkError::SecretWrong => ReplicaError::Refused { address, source },
                source => ReplicaError::Connect { address, source },
            }
        })
    }

    /// A worker that is ready for a place.
    pub(super) fn join(&self, place: usize, address: &str) -> Result<Peer, ReplicaError> {
        let mut peer = Peer::worker(place, address, self.call(address)?);
        // How many share a batch it is told when it takes its place.
        peer.send(self.begin(place, 2))?;
        peer.ready()?;
        Ok(peer)
    }
}

/// Another replica, as the first one has it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Among all replicas, of which this process is the first.
    pub(super) place: usize,
    pub(super) name: String,
    /// Of a worker.
    pub(super) address: Option<String>,
    pub(super) link: Link,
}

impl Peer {
    pub(super) fn worker(place: usize, address: &str, link: Link) -> Self {
        Self { place, name: format!("worker {address}"), address: Some(address.to_owned()), link }
    }

    /// Waits until it has made the network.
    pub(super) fn ready(&mut self) -> Result<(), ReplicaError> {
        let ready = self.expect("ready", Room::NONE, |message| match message {
            Message::Ready => Ok(()),
            other => Err(other),
        });
        ready.map_err(|error| match (error, &self.address) {
            (ReplicaError::Lost { source: source @ LinkError::Busy, .. }, Some(address)) => {
                ReplicaError::Busy { address: address.clone(), source }
            }
            (error, _) => error,
        })
    }

    /// Tells it how many share a batch from now on, and throws away what it said before.
    pub(super) fn regroup(&mut self, replicas: usize) -> Result<(), LinkError> {
        self.link.send(Message::Regroup(replicas))?;
        self.link.settle()
    }

    pub(super) fn lost(&self, source: LinkError) -> ReplicaError {
        ReplicaError::Lost { name: self.name.clone(), source }
    }

    pub(super) fn send(&mut self, message: Message) -> Result<(), ReplicaError> {
        self.link.send(message).map_err(|error| self.lost(error))
    }

    /// Waits for a message of the wanted kind, with as much room as it needs and no more.
    pub(super) fn expect<T>(
        &mut self,
        expected: &'static str,
        room: Room,
        wanted: impl FnOnce(Message) -> Result<T, Message>,
    ) -> Result<T, ReplicaError> {
        let received = self.link.receive(room.only(expected));
        let message = received.map_err(|error| self.lost(error))?;
        wanted(message)
            .map_err(|other| self.lost(LinkError::unexpected(expected, other.head().name())))
    }
}

/// To the first of an address' places that answers.
fn connect(address: &str) -> Result<TcpStream, LinkError> {
    let mut refused = LinkError::NoHost;
    for place in address.to_socket_addrs().map_err(|_error| LinkError::NoHost)? {
        match TcpStream::connect_timeout(&place, CONNECTED) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = LinkError::from(error).timed(CONNECTED.as_secs()),
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_has_that_of_a_worker() {
        for (text, address) in [
            ("localhost", "localhost:7500"),
            ("10.0.0.3", "10.0.0.3:7500"),
            ("one.example:81", "one.example:81"),
            ("::1", "[::1]:7500"),
            ("[::1]", "[::1]:7500"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            (" a_b-c:1 ", "a_b-c:1"),
        ] {
            assert_eq!(worker_address(text).as_deref(), Ok(address), "{text}");
        }
        for text in
            ["", ":7500", "one:", "one:port", "one:0", "one:65536", "http://one", "a b", "1::2::3"]
        {
            let told = worker_address(text).unwrap_err();
            assert!(told.contains("HOST:PORT") && told.contains("7500"), "{text}: {told}");
        }
    }

    #[test]
    fn a_name_that_nothing_has_is_told() {
        let error = connect("no-such-machine.invalid:7500").unwrap_err();
        assert!(matches!(error, LinkError::NoHost), "{error}");
    }
}
