//! TLS: a certificate with its key, from files that are read again once they have changed.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;

use crate::certificate;
use crate::terminal::sentence;

/// Between two looks at whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// Where a certificate and its key are found.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// The service's certificate, and behind it those that lead to one that clients trust.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// When the files were changed, and how long they are; of one that cannot be looked at nothing.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// How connections are encrypted.
pub(crate) struct Tls {
    pair: Pair,
    used: Stamps,
    current: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, a certificate that does not hold now, a key that is encrypted or of another certificate.
    pub(crate) fn open(pair: Pair) -> anyhow::Result<Self> {
        let used = pair.stamps();
        let current = RwLock::new(pair.acceptor()?);
        Ok(Self { pair, used, current })
    }

    /// Encrypts a connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again whenever they have changed; connections from then on get what is in them. What cannot be
    /// used is told, and the certificate before stays.
    pub(crate) async fn follow(&self) {
        let (mut used, mut before) = (self.used, self.used);
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.pair.stamps();
            // The two are written one after the other: what still changes is read the next time.
            if now != used && now == before {
                used = now;
                match self.pair.acceptor() {
                    Ok(acceptor) => {
                        *self.current.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                        eprintln!("{}: read again", self.pair.certificate.display());
                    }
                    Err(error) => eprintln!("the certificate before stays: {}", sentence(&error)),
                }
            }
            before = now;
        }
    }
}

impl Pair {
    fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key].map(|path| {
            let there = path.metadata().ok()?;
            Some((there.modified().ok()?, there.len()))
        })
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let mut config = certificate::server(&self.certificate, &self.key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn test_file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
    }

    #[test]
    fn a_pair_is_used_or_refused_with_a_sentence() {
        let pair = |certificate: &str, key: &str| {
            Tls::open(Pair { certificate: test_file(certificate), key: test_file(key) })
                .map(|_| ())
                .map_err(|error| sentence(&error))
        };
        assert_eq!(pair("certificate.pem", "key.pem"), Ok(()));
        for (certificate, key, told) in [
            ("certificate.pem", "other-key.pem", "other-key.pem: is not the key of "),
            ("certificate.pem", "encrypted-key.pem", "encrypted-key.pem: is encrypted, "),
            ("certificate.pem", "certificate.pem", "certificate.pem: holds no key; "),
            ("certificate.pem", "gone.pem", "gone.pem"),
            (
                "expired.pem",
                "key.pem",
                "expired.pem: the certificate has expired on 2020-01-02; renew it",
            ),
            ("key.pem", "key.pem", "key.pem: holds no certificate; "),
            ("make.sh", "key.pem", "make.sh: holds no certificate; "),
            ("gone.pem", "key.pem", "gone.pem"),
        ] {
            let error = pair(certificate, key).unwrap_err();
            assert!(error.contains(told), "{certificate} {key}: {error}");
        }
    }
}
