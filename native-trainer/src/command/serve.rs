//! `magpie serve`: a static file server for looking at a published site.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use tiny_http::{Header, Method, Request, Response, Server};

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
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "the address and failures")]
    pub fn run(&self) -> anyhow::Result<()> {
        if !self.site.join("index.html").is_file() {
            return Err(anyhow!("{}: no index.html there; publish first", self.site.display()));
        }
        let server = Server::http(("127.0.0.1", self.port))
            .map_err(|error| anyhow!("port {}: {error}; choose another --port", self.port))?;
        println!("http://{}/", server.server_addr());
        let server = std::sync::Arc::new(server);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (server, site) = (server.clone(), self.site.clone());
                std::thread::spawn(move || {
                    for request in server.incoming_requests() {
                        if let Err(error) = answer(request, &site) {
                            eprintln!("{error}");
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().ok().context("the server stopped")?;
        }
        Ok(())
    }
}

fn answer(request: Request, site: &Path) -> std::io::Result<()> {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(Response::from_string("only GET").with_status_code(405));
    }
    let Some(path) = resolve(site, request.url()) else {
        return request.respond(Response::from_string("no such file").with_status_code(404));
    };
    let bytes = std::fs::read(&path)?;
    let mut response = Response::from_data(bytes);
    for (name, value) in [
        ("Content-Type", content_type(&path)),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Embedder-Policy", "require-corp"),
        ("Cache-Control", "no-cache"),
    ] {
        response.add_header(Header::from_bytes(name, value).expect("constant headers are valid"));
    }
    request.respond(response)
}

/// The file of a URL; `None` for one outside the site.
fn resolve(site: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.trim_start_matches('/');
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let file = site.join(relative);
    let file = if file.is_dir() { file.join("index.html") } else { file };
    file.is_file().then_some(file)
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript",
        "css" => "text/css",
        "json" | "webmanifest" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_files_of_the_site_only() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site");
        std::fs::create_dir_all(site.join("sub")).unwrap();
        std::fs::write(site.join("index.html"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        assert!(resolve(&site, "/").is_some());
        assert!(resolve(&site, "/index.html?x=1").is_some());
        for url in ["/../secret", "/sub/../../secret", "/none", "/sub", "//etc/passwd"] {
            assert_eq!(resolve(&site, url), None, "{url}");
        }
    }
}
