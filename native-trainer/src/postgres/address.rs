//! Where a server is, and how the connection to it is encrypted.
//!
//! `sslmode=require`, `verify-ca` and `verify-full` mean one thing here: TLS, with a certificate that the file of
//! `sslrootcert`, or this machine's own file of authorities, vouches for and that has the server's name. Without one of them nothing is encrypted.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use postgres::{Client, Config, NoTls, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Encrypted;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};

use super::PostgresError;
use crate::certificate::{self, GivenName};
use crate::files;

/// How long a connection may take where the address does not say.
const CONNECTED: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged, and a connection be still before it is tried.
const SILENT: Duration = Duration::from_secs(15);
/// Most bytes of a file of certificates.
const FILE: u64 = 8 << 20;

/// The address of a server. No sentence shows its password.
pub(crate) struct Address {
    config: Config,
    tls: Option<TlsConnector>,
}

impl Address {
    /// Reads an address, and the certificates that it names.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Address`], [`PostgresError::Certificates`]
    pub(crate) fn parse(text: &str) -> Result<Self, PostgresError> {
        let (rest, mode, roots) = without_certificates(text);
        // What the parser says of an address may show a part of it, and so of a password.
        let parsed = rest.parse::<Config>();
        let mut config = parsed.map_err(|_parts| PostgresError::Address)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(PostgresError::Address);
        }
        let is_encrypted = match mode.as_deref() {
            Some("require" | "verify-ca" | "verify-full") => true,
            Some("disable" | "allow" | "prefer") => false,
            Some(_) => return Err(PostgresError::Mode),
            None => config.get_ssl_mode() == SslMode::Require,
        };
        let is_socket = config.get_hosts().iter().any(|host| !matches!(host, Host::Tcp(_)));
        if is_encrypted && is_socket {
            return Err(PostgresError::Socket);
        }
        config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECTED);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENT);
        }
        config.keepalives_idle(SILENT);
        let tls = is_encrypted.then(|| connector(roots)).transpose()?;
        Ok(Self { config, tls })
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Connect`]
    pub(crate) fn connect(&self) -> Result<Client, PostgresError> {
        let client = match &self.tls {
            Some(connector) => self.config.connect(Maker(connector.clone())),
            None => self.config.connect(NoTls),
        };
        client.map_err(|error| PostgresError::Connect(error.into()))
    }
}

/// An address without what the driver does not read, and that: the mode and the file of authorities.
fn without_certificates(text: &str) -> (String, Option<String>, Option<PathBuf>) {
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    // A password may hold a question mark.
    let place = text.find('@').unwrap_or(0);
    let query = text[place..].find('?').filter(|_| is_url).map(|at| place + at);
    let Some(query) = query else { return (text.to_owned(), None, None) };
    let (mut mode, mut roots) = (None, None);
    let kept: Vec<&str> = (text[query + 1..].split('&'))
        .filter(|pair| match pair.split_once('=') {
            Some(("sslmode", value)) => {
                mode = Some(value.to_owned());
                false
            }
            Some(("sslrootcert", value)) => {
                roots = Some(PathBuf::from(decoded(value)));
                false
            }
            _ => !pair.is_empty(),
        })
        .collect();
    let rest = match kept.as_slice() {
        [] => text[..query].to_owned(),
        kept => format!("{}?{}", &text[..query], kept.join("&")),
    };
    (rest, mode, roots)
}

/// A text of an address without its percent signs.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<2>().and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte.filter(|_| *first == b'%') {
            bytes.push(byte);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Files in which systems keep the certificates of authorities.
const KNOWN: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file of authorities that this machine trusts.
fn known_authorities() -> Result<PathBuf, PostgresError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut known = named.into_iter().chain(KNOWN.map(PathBuf::from));
    known.find(|path| path.is_file()).ok_or(PostgresError::NoAuthorities)
}

/// What encrypts connections to servers that a file of authorities vouches for.
fn connector(roots: Option<PathBuf>) -> Result<TlsConnector, PostgresError> {
    let is_named = roots.is_some();
    let path = roots.map_or_else(known_authorities, Ok)?;
    let wrong = |what: String| PostgresError::Certificates(path.clone(), what);
    let bytes = files::read(&path, FILE).map_err(|error| wrong(error.to_string()))?;
    let mut store = RootCertStore::empty();
    // A system's file may have some that nobody can read.
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&bytes).flatten().collect();
    store.add_parsable_certificates(certificates.iter().cloned());
    if store.is_empty() {
        return Err(wrong("it holds no certificate of an authority".to_owned()));
    }
    let own = if is_named { certificates } else { Vec::new() };
    let config = certificate::client(own, store, GivenName::Called)
        .map_err(|error| PostgresError::Connect(error.into()))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Encrypts connections by rustls.
struct Maker(TlsConnector);

/// One that is going to be encrypted.
struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// One that is encrypted.
struct Stream(Encrypted<Socket>);

impl MakeTlsConnect<Socket> for Maker {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, InvalidDnsNameError> {
        let name = ServerName::try_from(domain.to_owned())?;
        Ok(Handshake { connector: self.0.clone(), name })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let Self { connector, name } = self;
        Box::pin(async move { connector.connect(name, socket).await.map(Stream) })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_authorities_are_read_from_the_address() {
        let parts = |text: &str| {
            let (rest, mode, roots) = without_certificates(text);
            (rest, mode.unwrap_or_default(), roots.unwrap_or_default().display().to_string())
        };
        let of = |rest: &str, mode: &str, roots: &str| {
            (rest.to_owned(), mode.to_owned(), roots.to_owned())
        };
        assert_eq!(parts("postgres://u@h/d"), of("postgres://u@h/d", "", ""));
        assert_eq!(
            parts("postgres://u:a?sslmode=b@h/d?sslmode=verify-full&sslrootcert=/a%20b.pem"),
            of("postgres://u:a?sslmode=b@h/d", "verify-full", "/a b.pem")
        );
        assert_eq!(
            parts("postgresql://h/d?host=/tmp&sslmode=require&user=me"),
            of("postgresql://h/d?host=/tmp&user=me", "require", "")
        );
        assert_eq!(parts("host=h sslmode=require"), of("host=h sslmode=require", "", ""));
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/certificate.pem");
        let encrypted = format!("postgres://h/d?sslmode=require&sslrootcert={own}");
        assert!(Address::parse(&encrypted).unwrap().tls.is_some());
        assert!(Address::parse("postgres://h/d").unwrap().tls.is_none());
    }

    #[test]
    fn an_address_that_cannot_be_used_says_what_to_do_and_not_its_password() {
        for (address, told) in [
            ("postgres://u:secret word@h:port/d", "write it as postgres://"),
            ("secret", "write it as postgres://"),
            ("password=secret", "write it as postgres://"),
            ("postgres://u:x?secret=y@h/d?secret=1", "write it as postgres://"),
            ("postgres://u:secret@h/d?sslmode=full", "sslmode is"),
            ("postgres://u:secret@%2Ftmp/d?sslmode=require", "a socket is not encrypted"),
            ("postgres://u:secret@h/d?sslmode=require&sslrootcert=/nowhere.pem", "/nowhere.pem"),
        ] {
            let text = Address::parse(address).err().expect(address).to_string();
            assert!(text.contains(told) && !text.contains("secret"), "{address}: {text}");
        }
    }
}
