//! Certificates and their keys, as a service and a worker read them from files, and whom connections to others trust.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::files;

/// Most bytes of a file of certificates or of a key.
const FILE: u64 = 1 << 20;

/// What encrypts.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// How connections are taken with a certificate and its key.
///
/// # Errors
///
/// Files that cannot be read, a certificate that does not hold now, a key that is encrypted or of another certificate.
pub(crate) fn server(certificate: &Path, own_key: &Path) -> anyhow::Result<ServerConfig> {
    let chain = certificates(certificate)?;
    let key = key(own_key)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .context("TLS cannot be spoken")?
        .with_no_client_auth();
    builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(_) => anyhow!(
            "{}: is not the key of {}; give the two that belong together",
            own_key.display(),
            certificate.display()
        ),
        other => {
            anyhow!("{}: cannot be used with {}: {other}", own_key.display(), certificate.display())
        }
    })
}

/// Which name a certificate has to have that was given itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenName {
    /// Any: who was given it is known by its key.
    Any,
    /// The one that is called.
    Called,
}

/// How others are called: who has one of the certificates that were `given`, as servers write them that vouch for their
/// own, or one that an authority has signed for the called name.
///
/// # Errors
///
/// No authority that can be used.
pub(crate) fn client(
    given: Vec<CertificateDer<'static>>,
    authorities: RootCertStore,
    name: GivenName,
) -> anyhow::Result<ClientConfig> {
    let authorities = Arc::new(authorities);
    let signed = WebPkiServerVerifier::builder_with_provider(authorities, provider()).build()?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .context("TLS cannot be spoken")?;
    let verifier = Arc::new(Verifier { given, name, signed });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Whom connections trust. rustls refuses a certificate that vouches for itself as one of an authority.
#[derive(Debug)]
struct Verifier {
    given: Vec<CertificateDer<'static>>,
    name: GivenName,
    signed: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.given.iter().any(|given| given == certificate) {
            return self.signed.verify_server_cert(certificate, chain, called, stapled, now);
        }
        if self.name == GivenName::Called {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, called)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// The certificates of a file, the own one first.
///
/// # Errors
///
/// A file that holds none, or one that does not hold now.
pub(crate) fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let bytes =
        files::read(path, FILE).map_err(|error| error.wanted(files::wanted::CERTIFICATE))?;
    let broken = || format!("{}: is no PEM that can be read", path.display());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().with_context(broken)?;
    let Some(own) = chain.first() else {
        bail!(
            "{}: holds no certificate; give a PEM file with -----BEGIN CERTIFICATE-----",
            path.display()
        );
    };
    let [from, until] = validity(own)
        .with_context(|| format!("{}: is no certificate that can be read", path.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if now > until.seconds {
        bail!("{}: the certificate has expired on {}; renew it", path.display(), until.day);
    }
    if now < from.seconds {
        bail!(
            "{}: the certificate holds from {} on; wait until then, or set the clock",
            path.display(),
            from.day
        );
    }
    Ok(chain)
}

/// The key of a file.
fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let bytes = files::read(path, FILE).map_err(|error| error.wanted(files::wanted::KEY))?;
    // `BEGIN ENCRYPTED PRIVATE KEY`, or `Proc-Type: 4,ENCRYPTED` of older programs.
    if bytes.windows(9).any(|window| window == b"ENCRYPTED") {
        bail!(
            "{}: is encrypted, and nobody is asked for its password; write it without one by `openssl pkey -in FILE \
             -out FILE`",
            path.display()
        );
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_error| {
        anyhow!(
            "{}: holds no key; give a PEM file with -----BEGIN PRIVATE KEY-----",
            path.display()
        )
    })
}

/// A moment that a certificate names.
#[derive(Debug, PartialEq, Eq)]
struct Moment {
    /// Since 1970.
    seconds: i64,
    /// As `2020-01-02`.
    day: String,
}

/// From when and until when a certificate holds (RFC 5280, 4.1.2.5).
fn validity(certificate: &[u8]) -> Option<[Moment; 2]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let inside =
        |bytes| item(bytes).filter(|(tag, ..)| *tag == SEQUENCE).map(|(_, inner, _)| inner);
    let mut rest = inside(inside(certificate)?)?;
    if let (VERSION, _, behind) = item(rest)? {
        rest = behind;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        (_, _, rest) = item(rest)?;
    }
    let (begin, from, rest) = item(inside(rest)?)?;
    let (end, until, _) = item(rest)?;
    Some([moment(begin, from)?, moment(end, until)?])
}

/// The first item of DER: its tag, what is in it, what is behind it.
fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (inner, behind) = rest.split_at_checked(length)?;
    Some((*tag, inner, behind))
}

/// A time of DER: `YYMMDDHHMMSSZ`, or `YYYYMMDDHHMMSSZ`.
fn moment(tag: u8, text: &[u8]) -> Option<Moment> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |at: usize, count: usize| -> Option<i64> {
        let part = digits.get(at..at + count)?;
        let is_number = part.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(part).ok().filter(|_| is_number)?.parse().ok()
    };
    let (year, at) = match (tag, digits.len()) {
        (0x17, 12) => {
            let year = number(0, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        (0x18, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |place: usize| number(at + 2 * place, 2);
    let (month, day) = (part(0)?, part(1)?);
    let seconds = (part(2)? * 60 + part(3)?) * 60 + part(4)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of the Gregorian calendar, whose years begin in March here.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day;
    let days = days - 719_469;
    Some(Moment { seconds: days * 86_400 + seconds, day: format!("{year:04}-{month:02}-{day:02}") })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn test_file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
    }

    #[test]
    fn times_are_read_as_the_calendar_has_them() {
        for (tag, text, seconds, day) in [
            (0x17, "700101000000Z", 0, "1970-01-01"),
            (0x17, "200102030405Z", 1_577_934_245, "2020-01-02"),
            (0x17, "000229235959Z", 951_868_799, "2000-02-29"),
            (0x17, "491231000000Z", 2_524_521_600, "2049-12-31"),
            (0x18, "21261106124946Z", 4_949_642_986, "2126-11-06"),
            (0x17, "991231235959Z", 946_684_799, "1999-12-31"),
        ] {
            let found = moment(tag, text.as_bytes());
            assert_eq!(found, Some(Moment { seconds, day: day.to_owned() }), "{text}");
        }
        for (tag, text) in [
            (0x17, "700101000000"),
            (0x17, "7001010000Z"),
            (0x18, "700101000000Z"),
            (0x17, "701301000000Z"),
            (0x17, "70+101000000Z"),
        ] {
            assert_eq!(moment(tag, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_given_certificate_has_any_name_or_the_called_one() {
        let bytes = std::fs::read(test_file("certificate.pem")).unwrap();
        let given = CertificateDer::from_pem_slice(&bytes).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(given.clone()).unwrap();
        let roots = Arc::new(roots);
        let trusted = |given: &[&CertificateDer<'static>], name, called: &'static str| {
            let signed =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider());
            let given = given.iter().map(|one| (*one).clone()).collect();
            let verifier = Verifier { given, name, signed: signed.build().unwrap() };
            let called = ServerName::try_from(called).unwrap();
            let end = CertificateDer::from_pem_slice(&bytes).unwrap();
            verifier.verify_server_cert(&end, &[], &called, &[], UnixTime::now()).is_ok()
        };
        assert!(trusted(&[&given], GivenName::Called, "localhost"));
        assert!(!trusted(&[&given], GivenName::Called, "elsewhere.example"));
        assert!(trusted(&[&given], GivenName::Any, "elsewhere.example"));
        // One that nobody gave has to be signed for the name, whoever calls.
        for name in [GivenName::Any, GivenName::Called] {
            assert!(!trusted(&[], name, "elsewhere.example"));
        }
    }

    #[test]
    fn a_certificate_that_is_cut_or_damaged_is_none() {
        let bytes = std::fs::read(test_file("certificate.pem")).unwrap();
        let whole = CertificateDer::from_pem_slice(&bytes).unwrap();
        assert!(validity(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(validity(&whole[..end]), None, "{end}");
        }
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.to_vec();
                damaged[place] ^= 1 << bit;
                // Another time, or none; never a panic.
                let _ = validity(&damaged);
            }
        }
    }
}
