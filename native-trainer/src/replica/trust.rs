//! Who may use a worker, and which worker a run trusts: a secret that both sides know, and certificates.
//!
//! Either side shows that it knows the secret without saying it: it answers the other's random bytes by their
//! HMAC-SHA-256 under the secret. Whoever has come does so first, so that a worker gives strangers nothing to guess at.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::error::LinkError;
use crate::certificate::{self, GivenName};
use crate::files;

/// Most bytes of a secret's file.
const FILE: u64 = 4096;
/// Least characters of a secret: fewer can be tried out by whoever listens in.
const LEAST: usize = 16;
/// What a proof is of, so that it is of no use elsewhere.
const CONTEXT: &[u8] = b"magpie worker\0";
/// Bytes of a nonce and of a proof.
pub(super) const NONCE: usize = 32;

/// Random bytes that are used once.
pub(super) type Nonce = [u8; NONCE];

/// Which side proves something: the proof of one is none of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Trainer,
    Worker,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Trainer => Self::Worker,
            Self::Worker => Self::Trainer,
        }
    }
}

/// What a trainer and its workers know and nobody else.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The secret in a file, without blanks at its ends.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a secret that is too short or no printable ASCII.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read(path, FILE).map_err(|error| error.wanted(files::wanted::SECRET))?;
        let text = bytes.trim_ascii();
        if text.len() < LEAST || !text.iter().all(u8::is_ascii_graphic) {
            bail!(
                "{}: a secret has {LEAST} or more printable ASCII characters and no blank; write one by `openssl rand \
                 -hex 32`",
                path.display()
            );
        }
        Ok(Self::of(text))
    }

    pub(super) fn of(text: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text))
    }

    /// What shows that a side knows the secret; nonces are the trainer's and the worker's.
    pub(super) fn proof(&self, side: Side, nonces: &[Nonce; 2]) -> [u8; NONCE] {
        let tag = hmac::sign(&self.0, &said(side, nonces));
        let mut proof = [0; NONCE];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Whether that was shown. The time that it takes says nothing of the secret.
    pub(super) fn is_proof(&self, side: Side, nonces: &[Nonce; 2], proof: &[u8]) -> bool {
        hmac::verify(&self.0, &said(side, nonces), proof).is_ok()
    }
}

fn said(side: Side, [trainer, worker]: &[Nonce; 2]) -> Vec<u8> {
    let side: &[u8] = match side {
        Side::Trainer => b"trainer\0",
        Side::Worker => b"worker\0",
    };
    [CONTEXT, side, trainer, worker].concat()
}

/// Random bytes of the system.
pub(super) fn nonce() -> Result<Nonce, LinkError> {
    let mut nonce = [0; NONCE];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map_err(|_error| {
        LinkError::System(std::io::Error::other("the system gives no random bytes"))
    })?;
    Ok(nonce)
}

/// What a run knows of its workers.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    pub(super) secret: Option<Secret>,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Trust {
    /// Reads the files of a command line: the secret, and the workers' certificate or the one that signed theirs, with
    /// which connections are encrypted.
    ///
    /// # Errors
    ///
    /// Files that cannot be used.
    pub fn read(secret: Option<&Path>, certificate: Option<&Path>) -> anyhow::Result<Self> {
        let secret = secret.map(Secret::read).transpose()?;
        let tls = certificate.map(client).transpose()?.map(Arc::new);
        Ok(Self { secret, tls })
    }
}

/// How a worker at a certain place is spoken to, or guests are.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) side: Side,
    pub(super) secret: Option<Secret>,
    pub(super) tls: Option<Tls>,
}

/// How a connection is encrypted.
#[derive(Debug, Clone)]
pub(super) enum Tls {
    Client(Arc<ClientConfig>, ServerName<'static>),
    Server(Arc<ServerConfig>),
}

impl Access {
    /// To a worker at `HOST:PORT`.
    pub(super) fn to_worker(trust: &Trust, address: &str) -> Result<Self, LinkError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = || {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            name.map_err(|_error| {
                LinkError::Encryption(format!("{host:?} is no name of a machine"))
            })
        };
        let tls = match &trust.tls {
            Some(config) => Some(Tls::Client(config.clone(), name()?)),
            None => None,
        };
        Ok(Self { side: Side::Trainer, secret: trust.secret.clone(), tls })
    }

    /// To whoever comes to a worker.
    pub(super) fn to_guests(secret: Option<Secret>, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { side: Side::Worker, secret, tls: tls.map(Tls::Server) }
    }
}

/// How workers are called that have a certificate of a file, whatever its name, or one that was signed with one of it.
fn client(path: &Path) -> anyhow::Result<ClientConfig> {
    let given = certificate::certificates(path)?;
    let mut roots = RootCertStore::empty();
    for own in &given {
        roots.add(own.clone()).map_err(|error| {
            anyhow!("{}: holds a certificate that cannot be used: {error}", path.display())
        })?;
    }
    certificate::client(given, roots, GivenName::Any).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_secret_one_side_and_these_nonces() {
        let secret = Secret::of(b"correct horse battery");
        let nonces = [[1; NONCE], [2; NONCE]];
        let proof = secret.proof(Side::Trainer, &nonces);
        assert!(secret.is_proof(Side::Trainer, &nonces, &proof));
        assert!(!secret.is_proof(Side::Worker, &nonces, &proof), "sent back");
        assert!(!secret.is_proof(Side::Trainer, &[[1; NONCE], [3; NONCE]], &proof), "used again");
        assert!(!secret.is_proof(Side::Trainer, &[[2; NONCE], [1; NONCE]], &proof));
        assert!(!secret.is_proof(Side::Trainer, &nonces, &proof[..31]));
        assert!(!Secret::of(b"another one of these").is_proof(Side::Trainer, &nonces, &proof));
        assert_ne!(nonce().unwrap(), nonce().unwrap());
        assert!(!format!("{secret:?}").contains("horse"));
    }

    #[test]
    fn a_secret_is_long_enough_and_printable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (text, is_one) in
            [("0123456789abcdef\n", true), ("0123456789abcde", false), ("0123456 89abcdef", false)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Secret::read(&path).is_ok(), is_one, "{text}");
        }
        let gone = Secret::read(&dir.path().join("gone")).unwrap_err().to_string();
        assert!(gone.contains("openssl rand -hex 32"), "{gone}");
    }
}
