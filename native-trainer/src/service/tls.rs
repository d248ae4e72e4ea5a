//! Encryption, by rustls.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::files;

/// Most bytes of a file of certificates or of a key.
const FILE: u64 = 1 << 20;

/// What encrypts with a chain of certificates and its key, both as PEM; TLS 1.2 and 1.3.
///
/// # Errors
///
/// Files that cannot be read or do not fit each other.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let read = |path: &Path| -> anyhow::Result<Vec<u8>> { Ok(files::read(path, FILE)?) };
    let unreadable =
        |path: &Path, what: &str| format!("{}: holds no {what} in PEM", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .with_context(|| unreadable(certificate, "certificate"))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .with_context(|| unreadable(key, "private key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{}: does not fit {}", certificate.display(), key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
