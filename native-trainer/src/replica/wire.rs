//! Bytes from and to another process, encrypted or as they are.
//!
//! One thread reads while another may write. What is encrypted goes through one state for both directions, which is
//! held only for as long as bytes are turned, never while the system is waited for: who writes to a side that does not
//! read keeps nobody from reading.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConnection, Connection, Error, ServerConnection,
};

use super::error::LinkError;
use super::trust::Tls;

/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// Bytes that are encrypted at once.
const WRITTEN: usize = 16 << 10;

type State = Arc<Mutex<Connection>>;

/// The direction from the other side.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: TcpStream,
    state: Option<State>,
}

/// The direction to it.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: TcpStream,
    state: Option<State>,
    /// Encrypted, and not sent yet.
    pending: Vec<u8>,
}

/// Both directions of a connection. Where it is encrypted, the other side has `time` to agree on how.
pub(super) fn open(
    stream: TcpStream,
    tls: Option<&Tls>,
    time: Duration,
) -> Result<(Incoming, Outgoing), LinkError> {
    let state = match tls {
        None => None,
        Some(tls) => {
            let connection = match tls {
                Tls::Client(config, name) => {
                    ClientConnection::new(config.clone(), name.clone()).map(Connection::from)
                }
                Tls::Server(config) => ServerConnection::new(config.clone()).map(Connection::from),
            };
            let mut connection = connection.map_err(encryption)?;
            agree(&mut connection, &stream, time)?;
            Some(Arc::new(Mutex::new(connection)))
        }
    };
    let other = stream.try_clone()?;
    let outgoing = Outgoing { stream: other, state: state.clone(), pending: Vec::new() };
    Ok((Incoming { stream, state }, outgoing))
}

fn encryption(error: Error) -> LinkError {
    LinkError::Encryption(in_words(&error).to_owned())
}

/// What went wrong with an encrypted connection.
fn in_words(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(reason) => match reason {
            // Of one that vouches for itself the other reason is that it is one of an authority.
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::Other(_) => {
                "its certificate is none of those that were given, and none of them has signed it"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name than the one that was called"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate does not hold yet; look at the clocks of both machines"
            }
            _ => "its certificate cannot be used",
        },
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied,
        ) => "the other side does not trust this certificate",
        Error::AlertReceived(_) => "the other side has broken it off",
        Error::InvalidMessage(_) => "what comes is no TLS, or TLS is spoken on one side alone",
        Error::DecryptError => "what comes cannot be decrypted",
        Error::PeerIncompatible(_) => "no way of encrypting is known to both sides",
        _ => "the two sides do not agree on it",
    }
}

/// The handshake.
fn agree(
    connection: &mut Connection,
    mut stream: &TcpStream,
    time: Duration,
) -> Result<(), LinkError> {
    let began = Instant::now();
    loop {
        while connection.wants_write() {
            connection.write_tls(&mut stream)?;
        }
        if !connection.is_handshaking() {
            return Ok(());
        }
        let left = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero());
        let left =
            left.ok_or_else(|| LinkError::from(std::io::Error::from(ErrorKind::TimedOut)))?;
        stream.set_read_timeout(Some(left))?;
        if connection.read_tls(&mut stream)? == 0 {
            return Err(LinkError::Closed);
        }
        if let Err(error) = connection.process_new_packets() {
            // The other side is told why.
            let _ = connection.write_tls(&mut stream);
            return Err(encryption(error));
        }
    }
}

fn lock(state: &State) -> MutexGuard<'_, Connection> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Incoming {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(state) = &self.state else { return self.stream.read(buffer) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut encrypted = [0; READ];
        loop {
            match lock(state).reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                read => return read,
            }
            let count = self.stream.read(&mut encrypted)?;
            let mut rest = &encrypted[..count];
            let mut connection = lock(state);
            while !rest.is_empty() {
                connection.read_tls(&mut rest)?;
                let turned = connection.process_new_packets();
                turned.map_err(|error| {
                    std::io::Error::new(ErrorKind::InvalidData, in_words(&error))
                })?;
            }
            if count == 0 {
                return Ok(0);
            }
        }
    }
}

impl Outgoing {
    /// Sends what is encrypted. What the other side does not take now is sent before anything else the next time.
    fn send(&mut self) -> std::io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.pending.len() {
                break Ok(());
            }
            match self.stream.write(&self.pending[sent..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..sent);
        result
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(state) = self.state.clone() else { return self.stream.write(bytes) };
        self.send()?;
        let taken = {
            let mut connection = lock(&state);
            let taken = connection.writer().write(&bytes[..bytes.len().min(WRITTEN)])?;
            while connection.wants_write() {
                connection.write_tls(&mut self.pending)?;
            }
            taken
        };
        // These bytes count as written: what cannot be sent now is told by the next call.
        let _ = self.send();
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.send()?;
        self.stream.flush()
    }
}
