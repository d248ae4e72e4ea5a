//! `magpie serve`: a static file server for looking at a published site.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_staticfile::{AcceptEncoding, ResolveParams, Static};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::hosting;

/// Serves a folder on this machine, with the headers that let the page use threads.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie serve site --port 8080")]
pub struct Arguments {
    /// Published site.
    site: PathBuf,
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

impl Arguments {
    /// Serves until the process is ended.
    ///
    /// # Errors
    ///
    /// A port that is taken, a folder that is not there.
    pub fn run(&self) -> anyhow::Result<()> {
        if !self.site.join("index.html").is_file() {
            return Err(anyhow!("{}: no index.html there; publish first", self.site.display()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(serve(&self.site, self.port))
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the address and failures")]
async fn serve(site: &Path, port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("port {port}; choose another --port"))?;
    println!("http://{}/", listener.local_addr()?);
    let mut files = Static::new(site);
    files.allowed_encodings(AcceptEncoding::all());
    let root = site.to_owned();
    files.resolver.set_rewrite(move |params| std::future::ready(Ok(only_fresh(&root, params))));
    let mut headers: Vec<(HeaderName, HeaderValue)> = hosting::HEADERS
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into();
    // A browser never shows an old site.
    headers.push((header::CACHE_CONTROL, HeaderValue::from_static(hosting::ASK_AGAIN)));
    // What was packed for one browser is not for another.
    headers.push((header::VARY, HeaderValue::from_static("accept-encoding")));
    loop {
        let (stream, _) = listener.accept().await?;
        let (files, headers) = (files.clone(), headers.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let (files, headers) = (files.clone(), headers.clone());
                async move {
                    let mut response = files.serve(request).await?;
                    response.headers_mut().extend(headers);
                    std::io::Result::Ok(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let served = connection.serve_connection(TokioIo::new(stream), answer).await;
            // A browser that closes a page in the middle of a file is no failure.
            if let Err(error) = served
                && !error.is_incomplete_message()
                && !error.is_canceled()
            {
                eprintln!("{error}");
            }
        });
    }
}

/// Sends no packed copy that is older than its file: somebody has changed the file by hand.
fn only_fresh(site: &Path, mut params: ResolveParams) -> ResolveParams {
    let mut file = site.join(&params.path);
    if params.is_dir_request {
        file.push("index.html");
    }
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let written = changed(&file);
    let is_fresh = |ending: &str| {
        let mut copy = file.clone().into_os_string();
        copy.push(ending);
        changed(Path::new(&copy)) >= written
    };
    let accepted = &mut params.accept_encoding;
    (accepted.br, accepted.gzip) =
        (accepted.br && is_fresh(".br"), accepted.gzip && is_fresh(".gz"));
    params
}
