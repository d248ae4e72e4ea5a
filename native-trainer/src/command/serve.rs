//! `magpie serve`: a static file server for looking at a published site, and its service for programs.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::cli::{DeviceKind, no_port};
use crate::publishing::host::Host;
use crate::service;
use crate::terminal::{Note, sentence};

/// Serves a folder on this machine, with the headers that let the page use threads; with --api a service for programs,
/// too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie serve site --port 8080\n  magpie serve site --cors \
    https://example.org\n  magpie serve site --api\n  magpie serve site --api --state state --token-file token --manage")]
pub struct Arguments {
    /// Published site.
    site: PathBuf,
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Lets pages of another origin fetch the files, and ask the service, as <https://example.org>; `*`: pages of any.
    /// May be repeated.
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Recognizes, searches and keeps the gallery for programs, as JSON over HTTP below /v1/.
    #[arg(long)]
    api: bool,
    #[command(flatten)]
    service: ServiceArguments,
}

/// What only the service takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --api")]
struct ServiceArguments {
    /// Address to listen on; 0.0.0.0 is every one of this machine.
    #[arg(long, value_name = "ADDRESS", requires = "api")]
    address: Option<IpAddr>,
    /// Lets in requests that are sent to this name, as those of a proxy that passes it on; may be repeated. Needed where the
    /// service listens on this machine alone and nobody needs a token to ask; names of this machine are let in anyhow.
    #[arg(long, value_name = "NAME", requires = "api", value_parser = host)]
    host: Vec<String>,
    /// Folder in which the gallery is kept as it changes; the site's own files stay as they are.
    #[arg(long, value_name = "FOLDER", requires = "api", conflicts_with_all = ["server", "name"])]
    state: Option<PathBuf>,
    /// Address of a PostgreSQL in which the gallery is kept as it changes, as <postgres://user:password@host/database>; several
    /// services may have one gallery there. By default, where --name is given, what the environment's `MAGPIE_POSTGRES`
    /// says, which no list of processes shows. With `?sslmode=require` the connection is encrypted.
    #[arg(long, requires = "api")]
    server: Option<String>,
    /// Name of the gallery there: small letters, digits and _; `magpie` where only --server is given.
    #[arg(long, requires = "api")]
    name: Option<String>,
    /// File with the token of who may change the gallery; without it nobody may.
    #[arg(long, value_name = "FILE", requires = "api")]
    token_file: Option<PathBuf>,
    /// File with the token of who may ask; without it everybody may.
    #[arg(long, value_name = "FILE", requires = "api")]
    token_file_read: Option<PathBuf>,
    /// Takes what visitors say that things are, for the owner to accept or to reject.
    #[arg(long, requires_all = ["api", "token_file"])]
    corrections: bool,
    /// Shows a page at /manage/ by which whoever has the token changes the gallery.
    #[arg(long, requires_all = ["api", "token_file"])]
    manage: bool,
    /// File of certificates in PEM, the service's own first: connections are encrypted (https). Read again when it changes.
    #[arg(long, value_name = "FILE", requires_all = ["api", "key"])]
    certificate: Option<PathBuf>,
    /// File with the key of --certificate in PEM, without a password.
    #[arg(long, value_name = "FILE", requires_all = ["api", "certificate"])]
    key: Option<PathBuf>,
    /// Most megabytes of a request.
    #[arg(long, value_name = "MB", default_value_t = 32, requires = "api",
        value_parser = clap::value_parser!(u16).range(1..))]
    max_body: u16,
    /// Most megapixels of an image.
    #[arg(long, value_name = "MP", default_value_t = 64, requires = "api",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    max_pixels: u16,
    /// Most seconds in which a request comes, and in which it is answered then.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "api",
        value_parser = clap::value_parser!(u16).range(1..))]
    max_seconds: u16,
    /// Most requests that are worked on at once; others are told to come again.
    #[arg(long, value_name = "COUNT", default_value_t = 64, requires = "api",
        value_parser = clap::value_parser!(u16).range(1..))]
    max_requests: u16,
    /// Most images and searches that wait.
    #[arg(long, value_name = "COUNT", default_value_t = 256, requires = "api",
        value_parser = clap::value_parser!(u16).range(1..))]
    max_queue: u16,
    /// Where to run.
    #[arg(long, value_enum, default_value_t, requires = "api")]
    device: DeviceKind,
}

/// Within which a request's headers must have come, and the next request of a connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);

impl Arguments {
    /// Serves until the process is ended.
    ///
    /// # Errors
    ///
    /// A port that is taken, a folder that is not there, an origin that is none.
    pub fn run(&self) -> anyhow::Result<()> {
        if !self.site.join("index.html").is_file() {
            return Err(anyhow!("{}: no index.html there; publish first", self.site.display()));
        }
        let origins = self.cors.iter().map(|text| origin(text)).collect::<Result<_, _>>()?;
        if self.api {
            return service::serve(&self.service.options(self.site.clone(), self.port, origins)?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let site = self.site.display().to_string();
        runtime.block_on(serve(Host::new(&self.site, origins), &site, self.port))
    }
}

impl ServiceArguments {
    /// The database of --server and --name, if one is given.
    fn database(&self) -> anyhow::Result<Option<(String, String)>> {
        let name = || self.name.clone().unwrap_or_else(|| "magpie".to_owned());
        match (&self.server, &self.name) {
            (None, None) => Ok(None),
            (Some(server), _) => Ok(Some((server.clone(), name()))),
            (None, Some(_)) => {
                let server = std::env::var("MAGPIE_POSTGRES").map_err(|_unset| {
                    anyhow!("give the server's address by --server or in MAGPIE_POSTGRES")
                })?;
                Ok(Some((server, name())))
            }
        }
    }

    fn options(
        &self,
        site: PathBuf,
        port: u16,
        origins: Vec<HeaderValue>,
    ) -> anyhow::Result<service::Options> {
        Ok(service::Options {
            site,
            port,
            origins,
            hosts: self.host.clone(),
            state: self.state.clone(),
            database: self.database()?,
            address: self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            device: self.device,
            token: self.token_file.clone(),
            read_token: self.token_file_read.clone(),
            tls: self
                .certificate
                .clone()
                .zip(self.key.clone())
                .map(|(certificate, key)| service::Pair { certificate, key }),
            manage: self.manage,
            corrections: self.corrections,
            max_body: usize::from(self.max_body) << 20,
            max_pixels: u64::from(self.max_pixels) * 1_000_000,
            max_seconds: self.max_seconds.into(),
            max_requests: self.max_requests.into(),
            max_queue: self.max_queue.into(),
        })
    }
}

/// A name as a Host header has it, without its port.
fn host(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err("write a name without scheme, port and path, as shop.example.org".to_owned());
    }
    Ok(text.to_owned())
}

/// An origin as browsers send it.
fn origin(text: &str) -> anyhow::Result<HeaderValue> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |rest: &str| {
        !rest.is_empty() && !rest.contains(|c: char| "/?#@, ".contains(c) || !c.is_ascii_graphic())
    };
    if text != "*" && !rest.is_some_and(is_host) {
        bail!("--cors {text}: write an origin without a path, as https://example.org, or *");
    }
    Ok(HeaderValue::from_str(&text.to_ascii_lowercase())?)
}

async fn serve(server: Host, site: &str, port: u16) -> anyhow::Result<()> {
    let place = (IpAddr::from(Ipv4Addr::LOCALHOST), port);
    let listener = TcpListener::bind(place).await.map_err(|error| no_port(place, error))?;
    let _standing = Note::new("; the site is served no more");
    let address = listener.local_addr()?;
    // Whoever reads the address may end it at once.
    eprintln!("{site}: served until Ctrl-C ends it, at");
    println!("http://{address}/");
    let (server, mut told) = (Arc::new(server), false);
    loop {
        let stream = server.connections.accept(&listener, &mut told).await;
        let serving = Arc::clone(&server);
        server.connections.spawn(stream, |stream| async move {
            let answer = service_fn(|request| {
                let server = Arc::clone(&serving);
                async move { std::io::Result::Ok(server.answer(request).await) }
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
            let served = connection.serve_connection(TokioIo::new(stream), answer).await;
            // A browser that closes a page in the middle of a file, or says nothing more, is no failure.
            if let Err(error) = served
                && !(error.is_incomplete_message() || error.is_canceled() || error.is_timeout())
                && !is_gone(&error)
            {
                eprintln!("{}", sentence(&error.into()));
            }
        });
    }
}

/// Whether the other end has closed the connection.
fn is_gone(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<std::io::Error>()).is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
        )
    })
}
