//! Who may ask and who may change: tokens, the names that the service is asked by, and the origins of pages.

use std::net::IpAddr;
use std::path::Path;

use anyhow::bail;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Uri};
use models::model_file::sha256_hex;

use super::problem::{Kind, Problem};
use crate::files;

/// Most bytes of a token's file.
const FILE: u64 = 4096;
/// Least characters of a token: fewer can be tried out.
const LEAST: usize = 16;
/// What a page of another origin may read of an answer, beside what it always may.
const EXPOSED: &str = "etag, retry-after, location, idempotent-replayed, www-authenticate";
/// What it may send.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const HEADERS: &str =
    "authorization, content-type, idempotency-key, if-match, if-none-match, if-modified-since";

/// A token, as the digest that tokens are compared by: the time of a comparison says nothing of the token.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// The token in a file, without blanks at its ends.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a token that is too short or no printable ASCII.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read(path, FILE).map_err(|error| error.wanted(files::wanted::TOKEN))?;
        let text = bytes.trim_ascii();
        if text.len() < LEAST || !text.iter().all(u8::is_ascii_graphic) {
            bail!(
                "{}: a token has {LEAST} or more printable ASCII characters and no blank; write one by `openssl \
                 rand -hex 32`",
                path.display()
            );
        }
        Ok(Self(sha256_hex(text)))
    }

    fn is(&self, given: &str) -> bool {
        let given = sha256_hex(given.as_bytes());
        let pairs = self.0.bytes().zip(given.bytes());
        pairs.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
    }
}

/// By which names a service is asked that only this machine reaches. A page of a stranger may have its own name lead to
/// this machine, so that the browser takes the service for a part of the page (DNS rebinding); the name tells it.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    address: IpAddr,
    names: Vec<String>,
}

impl Hosts {
    /// The names of a service that listens at an address, with those that its owner lists.
    pub(crate) fn new(address: IpAddr, names: &[String]) -> Self {
        Self { address, names: names.iter().map(|name| plain(name)).collect() }
    }

    /// Whether it is asked by a name: as a `Host` header has it, a port behind it.
    fn has(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = plain(authority.host());
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if address.is_loopback() || address == self.address => true,
            _ => name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name),
        }
    }
}

/// A name in the spelling that names are compared in.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// What is asked for before a request is answered.
#[derive(Default)]
pub(crate) struct Gate {
    /// By which names the service is asked; by any without it.
    pub(crate) hosts: Option<Hosts>,
    /// Who may change; nobody without it.
    pub(crate) change: Option<Token>,
    /// Who may ask; everybody without it.
    pub(crate) read: Option<Token>,
    /// Whose pages may ask; `*` stands for all.
    pub(crate) origins: Vec<HeaderValue>,
    /// Whether connections are encrypted: the service's own pages come by https then.
    pub(crate) is_encrypted: bool,
}

impl Gate {
    /// Whether a request may be answered that changes something, or reads.
    ///
    /// # Errors
    ///
    /// [`Kind::Token`], [`Kind::ReadOnly`]
    pub(crate) fn admit(&self, headers: &HeaderMap, changes: bool) -> Result<(), Problem> {
        let given = bearer(headers);
        let is = |token: &Option<Token>| {
            token.as_ref().zip(given).is_some_and(|(token, given)| token.is(given))
        };
        let may_change = is(&self.change);
        if changes {
            return match (&self.change, may_change) {
                (_, true) => Ok(()),
                (None, _) => Err(Problem::new(
                    Kind::ReadOnly,
                    "this service changes nothing; its owner starts it with --state and --token-file to allow changes",
                )),
                _ => Err(denied("changes need the token of --token-file")),
            };
        }
        if self.read.is_none() || may_change || is(&self.read) {
            return Ok(());
        }
        Err(denied("this service needs the token of --token-file-read"))
    }

    /// Whether a request is meant for this service. Programs may name none.
    ///
    /// # Errors
    ///
    /// [`Kind::Host`]
    pub(crate) fn admit_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let of_header = headers.get_all(header::HOST).iter().map(|host| host.to_str().ok());
        let mut asked =
            uri.authority().map(|authority| Some(authority.as_str())).into_iter().chain(of_header);
        if asked.all(|host| host.is_some_and(|host| hosts.has(host))) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Host,
            "the service is not asked by this name; ask it by localhost, or have its owner list the name with --host",
        ))
    }

    /// Whether a request of a page may be answered: one of the service's own pages or of a listed origin. Programs send
    /// no origin.
    ///
    /// # Errors
    ///
    /// [`Kind::Origin`]
    pub(crate) fn admit_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if is_read || self.lets_in(origin) || self.is_own(origin, headers) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Origin,
            "pages of this origin are not let in; the owner lists it with --cors",
        ))
    }

    fn lets_in(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|one| one == "*" || one == origin)
    }

    /// Whether a page comes from this service: its origin has the host that the request was sent to. Before one that speaks
    /// HTTP there may be a proxy that encrypts.
    fn is_own(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        host.zip(origin).is_some_and(|(host, (scheme, of))| {
            let is_web = scheme == "https" || (scheme == "http" && !self.is_encrypted);
            is_web && host.eq_ignore_ascii_case(of)
        })
    }

    /// Says which pages of other origins may read an answer, and what they may send.
    pub(crate) fn expose(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(origin) = origin.filter(|origin| self.lets_in(origin)) else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, value) in [
            ("access-control-expose-headers", EXPOSED),
            ("access-control-allow-methods", METHODS),
            ("access-control-allow-headers", HEADERS),
            ("access-control-max-age", "600"),
            ("cross-origin-resource-policy", "cross-origin"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
}

fn denied(detail: &str) -> Problem {
    Problem::new(Kind::Token, format!("{detail}; send it as Authorization: Bearer TOKEN"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    fn token(text: &str) -> Token {
        Token(sha256_hex(text.as_bytes()))
    }

    #[test]
    fn who_may_change_may_read_and_nobody_else_without_a_token() {
        let with = |value| headers(&[(header::AUTHORIZATION, value)]);
        let gate = Gate {
            change: Some(token("change-change-change")),
            read: Some(token("read-read-read-read")),
            ..Gate::default()
        };
        let kind = |headers: HeaderMap, changes| gate.admit(&headers, changes).map_err(|p| p.kind);
        assert_eq!(kind(with("Bearer change-change-change"), true), Ok(()));
        assert_eq!(kind(with("bearer  change-change-change"), false), Ok(()));
        assert_eq!(kind(with("Bearer read-read-read-read"), false), Ok(()));
        for wrong in
            ["Bearer read-read-read-read", "Bearer change-change-chang", "Basic x", "Bearer "]
        {
            assert_eq!(kind(with(wrong), true), Err(Kind::Token), "{wrong}");
        }
        assert_eq!(kind(HeaderMap::new(), false), Err(Kind::Token));
        let open = Gate::default();
        assert!(open.admit(&HeaderMap::new(), false).is_ok());
        let refused = open.admit(&with("Bearer change-change-change"), true).unwrap_err();
        assert_eq!(refused.kind, Kind::ReadOnly);
    }

    #[test]
    fn a_name_that_leads_here_and_is_none_of_the_service_is_refused() {
        let names = ["Shop.Example.Org".to_owned()];
        let gate = |hosts| Gate { hosts, ..Gate::default() };
        let local = gate(Some(Hosts::new("127.0.0.2".parse().unwrap(), &names)));
        let path = Uri::from_static("/v1/gallery");
        let admits = |gate: &Gate, host| gate.admit_host(&path, &headers(&[(header::HOST, host)]));
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "shop.localhost.",
            "127.0.0.1:8080",
            "127.0.0.2",
            "[::1]:8080",
            "shop.example.org:443",
        ] {
            assert!(admits(&local, host).is_ok(), "{host}");
        }
        for host in [
            "rebound.example",
            "rebound.example:8080",
            "localhost.example",
            "10.0.0.1",
            "",
            "x@localhost/",
        ] {
            assert_eq!(
                admits(&local, host).map_err(|problem| problem.kind),
                Err(Kind::Host),
                "{host}"
            );
        }
        let both = headers(&[(header::HOST, "localhost"), (header::HOST, "rebound.example")]);
        assert!(local.admit_host(&path, &both).is_err());
        let whole = Uri::from_static("http://rebound.example/v1/gallery");
        assert!(local.admit_host(&whole, &headers(&[(header::HOST, "localhost")])).is_err());
        assert!(local.admit_host(&path, &HeaderMap::new()).is_ok());
        assert!(admits(&gate(None), "rebound.example").is_ok());
    }

    #[test]
    fn pages_of_other_origins_post_nothing() {
        let gate = |is_encrypted| Gate {
            origins: vec![HeaderValue::from_static("https://a.example")],
            is_encrypted,
            ..Gate::default()
        };
        let asked = |gate: &Gate, origin, method: &Method| {
            let headers = headers(&[(header::ORIGIN, origin), (header::HOST, "127.0.0.1:8080")]);
            gate.admit_origin(method, &headers).is_ok()
        };
        let (encrypted, gate) = (gate(true), gate(false));
        for (origin, plain, secret) in [
            ("http://127.0.0.1:8080", true, false),
            ("https://127.0.0.1:8080", true, true),
            ("ftp://127.0.0.1:8080", false, false),
            ("https://127.0.0.1:8081", false, false),
        ] {
            let found = [&gate, &encrypted].map(|gate| asked(gate, origin, &Method::POST));
            assert_eq!(found, [plain, secret], "{origin}");
        }
        let asks = |origin, method: &Method| asked(&gate, origin, method);
        assert!(asks("https://a.example", &Method::POST));
        assert!(asks("http://127.0.0.1:8080", &Method::POST));
        assert!(!asks("https://b.example", &Method::POST) && !asks("null", &Method::DELETE));
        // A browser keeps the answer from the page.
        assert!(asks("https://b.example", &Method::GET));
        assert!(gate.admit_origin(&Method::POST, &HeaderMap::new()).is_ok());
    }
}
