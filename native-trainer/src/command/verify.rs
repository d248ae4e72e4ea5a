//! `magpie verify`: whether a published site is whole, in a folder or on a host.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use models::bundle::MANIFEST_NAME;

use crate::cli::size;
use crate::publishing::evidence::edited;
use crate::publishing::hosting;
use crate::publishing::names::{BUNDLE_FOLDER, PRECACHE, SERVICE_WORKER};
use crate::publishing::owned::{CHANGED, Owned};
use crate::publishing::site::{Site, own_files};
use crate::terminal::counted;
use authoring::precache::{Precache, kept_by_browsers, precache};

/// What Firefox accepts beside a range; some hosts cut a packed copy only where all of it is named.
const AS_FIREFOX_ASKS: &str = "gzip, deflate, br, zstd, identity";

/// Checks a published site: every file against its checksum, that the bundle answers, and that the service worker
/// knows what there is. Of a host it says what it can and cannot do for the page.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie verify site\n  magpie verify http://127.0.0.1:8080/")]
pub struct Arguments {
    /// Folder of the site, or its address.
    site: String,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the site.
    pub fn run(&self) -> anyhow::Result<()> {
        check(&self.site, &mut |line| println!("{line}"))
    }
}

/// Checks a site; `say` hears what is there, a line each.
pub(super) fn check(place: &str, say: &mut dyn FnMut(String)) -> anyhow::Result<()> {
    let site = Site::new(place)?;
    if let Err(error) = site.read("index.html") {
        let what = format!(
            "{place}: there is no published site; give the folder that `magpie publish --out` wrote, or its address"
        );
        // What a host answered says more.
        return Err(if matches!(site, Site::Folder(_)) {
            anyhow!(what)
        } else {
            error.context(what)
        });
    }
    let manifest = site.open_again(say)?;
    let checked = match &site {
        Site::Folder(folder) => check_digests(folder)?,
        Site::Host(_) => None,
    };
    let names = match site.read(SERVICE_WORKER) {
        Ok(worker) => check_version(&site, &String::from_utf8_lossy(&worker))?,
        Err(_) => Vec::new(),
    };
    match &site {
        Site::Folder(folder) => {
            let copies = hosting::check(folder, &own_files(folder)?)?;
            let copies = counted(copies, "packed copy", "packed copies");
            say(format!("{copies}, each the same as its file"));
            if let Some(checked) = checked {
                let checked = counted(checked, "file", "files");
                say(format!("{checked}, each as it was published"));
            }
        }
        Site::Host(address) => {
            let file = manifest.files.first().map_or(MANIFEST_NAME, |file| file.name.as_str());
            look_at_host(address, &names, &format!("{BUNDLE_FOLDER}/{file}"))?;
        }
    }
    say(format!("{place}: whole"));
    Ok(())
}

/// Whether each file is as it was published, by name; how many the list knows, `None` where it knows none.
fn check_digests(folder: &Path) -> anyhow::Result<Option<usize>> {
    own_files(folder)?;
    let Some(own) = Owned::of(folder)? else { return Ok(None) };
    let checked = own.check(folder)?;
    if checked > 0 {
        return Ok(Some(checked));
    }
    match edited(own, folder).first() {
        Some(name) => bail!("{name}: {CHANGED}"),
        None => Ok(None),
    }
}

/// Whether the files are those that the service worker knows; their names.
fn check_version(site: &Site, worker: &str) -> anyhow::Result<Vec<String>> {
    let kept: Precache = serde_json::from_slice(&site.read(PRECACHE)?).context(PRECACHE)?;
    let names = match site {
        Site::Folder(folder) => kept_by_browsers(&own_files(folder)?),
        // A host lists nothing: what is gone is missed, what has come is not seen.
        Site::Host(_) => kept.names(),
    };
    let (there, version) = precache(names, |name| site.read(name))?;
    if !kept.is_like(&there) {
        bail!("{PRECACHE}: files have come or gone since the site was published; publish it again");
    }
    if !worker.contains(&version) {
        bail!(
            "a file of the page has changed since the site was published, and browsers that keep the \
             site would not notice ({SERVICE_WORKER} names another digest); publish it again"
        );
    }
    Ok(there.names())
}

/// Says what a host does for the page. Only what stops the page is an error.
fn look_at_host(address: &str, names: &[String], file: &str) -> anyhow::Result<()> {
    let ask =
        |name: &str, headers: &[(&str, &str)]| Site::ask(&format!("{address}{name}"), headers);
    let of_kind = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    let say = |good: bool, yes: &str, no: &str| {
        println!("  {} {}", if good { "+" } else { "-" }, if good { yes } else { no });
    };
    if let Some(name) = of_kind(".js") {
        let kind = ask(name, &[])?.header("content-type");
        if !kind.contains("javascript") {
            bail!(
                "{address}{name} comes as {kind:?}: browsers refuse modules that are not \
                 text/javascript; set the type of .js files on the host"
            );
        }
    }
    let page = ask("", &[])?;
    say(
        hosting::HEADERS[..2].iter().all(|(name, value)| page.header(name) == *value),
        "the page is isolated from other sites",
        "no headers for cross-origin isolation: the page has threads and exact clocks from a visitor's \
         second visit on, by its service worker",
    );
    if let Some(name) = of_kind(".wasm") {
        let sent = ask(name, &[("accept-encoding", "br, gzip")])?;
        say(
            sent.header("content-type") == "application/wasm",
            "modules are compiled while they come in",
            ".wasm files are not application/wasm: browsers compile them only once they are there",
        );
        let (encoding, bytes) = (sent.header("content-encoding"), size(sent.bytes.len() as u64));
        say(
            !encoding.is_empty(),
            &format!("files are sent packed ({encoding}: {name} takes {bytes})"),
            "files are sent as they are: let the host send the .br or .gz beside each",
        );
    }
    // Firefox takes packed files together with ranges.
    let part = ask(file, &[("range", "bytes=1-4"), ("accept-encoding", AS_FIREFOX_ASKS)])?;
    let sends_parts = part.status == 206 && part.bytes.len() == 4;
    let is_of_file = part.header("content-encoding").is_empty()
        && ask(file, &[("range", "bytes=1-4")])?.bytes == part.bytes;
    say(
        sends_parts && is_of_file,
        "a download that breaks off goes on where it was",
        if sends_parts {
            "the host sends parts of packed copies: Firefox cannot use them, and a download that breaks \
             off begins anew there"
        } else {
            "the host sends no parts of files: a download that breaks off begins anew"
        },
    );
    let origin = ask(file, &[("origin", "https://example.org")])?;
    match &*origin.header("access-control-allow-origin") {
        "" => (),
        "*" => say(true, "pages of any other site may use the files", ""),
        other => say(true, &format!("pages of {other} may use the files"), ""),
    }
    Ok(())
}
