//! What a static host is given beside the files: packed copies, and the headers that it may send.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use rayon::prelude::*;

use super::names::{HEADERS_FILE, PACKED, is_named_after_content, is_packed};
use crate::cli::read;
use crate::files::FileError;

/// What lets the page use threads, keeps its answers typed, and tells other sites nothing.
pub(crate) const HEADERS: [(&str, &str); 4] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
];
/// The engine's scripts that browsers start as workers.
const WORKERS: [&str; 2] = ["worker.js", "worker-helper.js"];
/// For files whose names change with their content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For all others: kept, but asked for again.
pub(crate) const ASK_AGAIN: &str = "no-cache";
/// Kinds of files that become smaller.
const PACKABLE: [&str; 10] =
    ["bin", "css", "html", "js", "json", "safetensors", "svg", "txt", "wasm", "webmanifest"];
/// A copy that is not smaller than this part of the file is not worth a place on the host.
const WORTH: f64 = 0.95;
/// Brotli's quality, of 11: the last two levels take seven times as long for an eighth less.
const BROTLI_QUALITY: i32 = 9;
/// Brotli's window: 2 to this power, the largest that browsers know.
const BROTLI_WINDOW: i32 = 24;

/// Whether a file is a script that browsers start as a worker.
pub(crate) fn is_worker(name: &str) -> bool {
    WORKERS.contains(&name.rsplit('/').next().unwrap_or_default())
}

/// What a worker of the engine may do. A worker's policy is that of its own script's headers, not that of the
/// page that starts it: it gets scripts, files and other workers from the site, and files from the origin of the
/// bundle that it was started for.
pub(crate) fn worker_policy(bundle: Option<&str>) -> String {
    let elsewhere = bundle.map(|origin| format!(" {origin}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src \
         'self'{elsewhere}; require-trusted-types-for 'script'; trusted-types magpie"
    )
}

/// The origin of the bundle that a worker's address names.
pub(crate) fn bundle_origin(query: &str) -> Option<String> {
    let named = query.split('&').find_map(|part| part.strip_prefix("bundle="))?;
    let mut address = named.to_owned();
    for (code, mark) in [("%3A", ":"), ("%3a", ":"), ("%2F", "/"), ("%2f", "/")] {
        address = address.replace(code, mark);
    }
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    let fits =
        ["http", "https"].contains(&scheme) && !host.is_empty() && host.chars().all(is_plain);
    fits.then(|| format!("{scheme}://{host}"))
}

/// Bytes of a site as its files are, and as a host may send them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) plain: u64,
    pub(crate) packed: u64,
}

/// Writes a file of a site, by its name.
pub(crate) type Put<'a> = &'a (dyn Fn(&str, &[u8]) -> Result<(), FileError> + Sync);

/// Leaves packed copies beside the files of a site, where they are smaller, and the file of headers.
///
/// # Errors
///
/// Files that cannot be read or written.
pub(crate) fn prepare(site: &Path, names: &[String], write: Put<'_>) -> anyhow::Result<Sizes> {
    let sizes: Vec<Sizes> =
        names.par_iter().map(|name| pack(site, name, write)).collect::<anyhow::Result<_>>()?;
    write(HEADERS_FILE, headers_text(names.iter().map(String::as_str)).as_bytes())?;
    Ok(sizes.into_iter().fold(Sizes::default(), |sum, file| Sizes {
        plain: sum.plain + file.plain,
        packed: sum.packed + file.packed,
    }))
}

/// The file of headers of a site with these files.
pub(crate) fn headers_text<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    let mut lines = vec!["/*".to_owned()];
    lines.extend(HEADERS.iter().map(|(name, value)| format!("  {name}: {value}")));
    lines.push(format!("  cache-control: {ASK_AGAIN}"));
    for name in names.iter().filter(|name| is_worker(name)) {
        lines.extend([
            format!("/{name}"),
            format!("  content-security-policy: {}", worker_policy(None)),
        ]);
    }
    for name in names.iter().filter(|name| is_named_after_content(name)) {
        // The first line of a header counts on one host, the last on another: take it away first.
        lines.extend([format!("/{name}"), "  ! cache-control".to_owned()]);
        lines.push(format!("  cache-control: {FOR_EVER}"));
    }
    lines.join("\n") + "\n"
}

/// The file that a packed copy holds, of at most `limit` bytes; `None` where it is damaged.
pub(crate) fn unpacked(copy: &[u8], ending: &str, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if ending == ".br" {
        brotli::Decompressor::new(copy, 1 << 16).take(limit).read_to_end(&mut bytes)
    } else {
        flate2::read::GzDecoder::new(copy).take(limit).read_to_end(&mut bytes)
    };
    read.is_ok().then_some(bytes)
}

fn pack(site: &Path, name: &str, write: Put<'_>) -> anyhow::Result<Sizes> {
    let bytes = read(&site.join(name))?;
    let plain = bytes.len() as u64;
    let packable = name.rsplit_once('.').is_some_and(|(_, kind)| PACKABLE.contains(&kind));
    let mut packed = plain;
    if packable {
        for ending in PACKED {
            let copy = compress(&bytes, ending)?;
            if (copy.len() as f64) < WORTH * plain as f64 {
                write(&format!("{name}{ending}"), &copy)?;
                packed = packed.min(copy.len() as u64);
            }
        }
    }
    Ok(Sizes { plain, packed })
}

fn compress(bytes: &[u8], ending: &str) -> anyhow::Result<Vec<u8>> {
    let mut packed = Vec::new();
    if ending == ".br" {
        let settings = brotli::enc::BrotliEncoderParams {
            quality: BROTLI_QUALITY,
            lgwin: BROTLI_WINDOW,
            size_hint: bytes.len(),
            ..Default::default()
        };
        brotli::BrotliCompress(&mut &*bytes, &mut packed, &settings)?;
    } else {
        let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::best());
        encoder.write_all(bytes)?;
        encoder.finish()?;
    }
    Ok(packed)
}

/// Whether the packed copies of a site hold what the files hold; their number.
///
/// # Errors
///
/// The first that does not, or that has no file beside it.
pub(crate) fn check(site: &Path, names: &[String]) -> anyhow::Result<usize> {
    let copies: Vec<&String> = names.iter().filter(|name| is_packed(name)).collect();
    copies.par_iter().try_for_each(|name| {
        let (file, kind) = name.split_at(name.len() - 3);
        let whole = read(&site.join(file)).with_context(|| {
            format!("{name}: a packed copy of a file that is not there; publish the site again")
        })?;
        let packed = read(&site.join(name))?;
        // No more than the file itself, whatever the copy claims.
        let limit = whole.len() as u64 + 1;
        if unpacked(&packed, kind, limit).is_none_or(|unpacked| unpacked != whole) {
            bail!("{name}: not the same as {file}; publish the site again");
        }
        Ok(())
    })?;
    Ok(copies.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publishing::draft::Draft;

    #[test]
    fn only_names_that_end_with_a_digest_are_kept_for_ever() {
        for (name, kept) in [
            ("bundle/gallery-0123456789abcdef.bin", true),
            ("bundle/extractor-0123456789abcdef.safetensors", true),
            ("bundle/manifest.json", false),
            ("gallery-0123456789abcde.bin", false),
            ("gallery-0123456789ABCDEF.bin", false),
            ("0123456789abcdef.bin", false),
        ] {
            assert_eq!(is_named_after_content(name), kept, "{name}");
        }
    }

    #[test]
    fn a_worker_fetches_from_its_site_and_from_its_bundles_origin() {
        let query = "engine=cpu&bundle=https%3A%2F%2Fb.example%3A8443%2Fbundle%2Fmanifest.json";
        let origin = bundle_origin(query);
        assert_eq!(origin.as_deref(), Some("https://b.example:8443"));
        let policy = worker_policy(origin.as_deref());
        assert!(policy.contains("connect-src 'self' https://b.example:8443;"), "{policy}");
        assert!(worker_policy(None).contains("connect-src 'self';"));
        // Nothing else gets into a header.
        for query in [
            "",
            "bundle=",
            "bundle=bundle/manifest.json",
            "bundle=ftp://b.example/",
            "bundle=https://b.example;default-src%20*/",
            "bundle=https://b.example%0d%0aset-cookie/",
        ] {
            assert_eq!(bundle_origin(query), None, "{query}");
        }
        assert!(is_worker("/a/worker.js") && is_worker("worker-helper.js"));
        assert!(!is_worker("worker-cpu.js") && !is_worker("start.js"));
    }

    #[test]
    fn headers_for_hosts_give_workers_a_policy() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::begin(&folder.path().join("site")).unwrap();
        let names = ["index.html", "worker-cpu.js", "worker.js"].map(str::to_owned);
        for name in &names {
            draft.write(name, b"text").unwrap();
        }
        prepare(draft.folder(), &names, &|name, bytes| draft.write(name, bytes)).unwrap();
        let headers = std::fs::read_to_string(draft.folder().join(HEADERS_FILE)).unwrap();
        let (_, of_worker) = headers.split_once("\n/worker.js\n").unwrap();
        let policy = format!("  content-security-policy: {}\n", worker_policy(None));
        assert!(of_worker.starts_with(&policy), "{headers}");
        assert_eq!(headers.matches("content-security-policy").count(), 1, "{headers}");
    }

    #[test]
    fn packed_copies_hold_the_files_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let text = "the same again and again ".repeat(100);
        let noise: Vec<u8> = (0..4000_u32)
            .map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let draft = Draft::begin(&folder.path().join("site")).unwrap();
        draft.write("page.html", text.as_bytes()).unwrap();
        draft.write("a/noise.jpg", &noise).unwrap();
        let names = ["page.html".to_owned(), "a/noise.jpg".to_owned()];
        let sizes =
            prepare(draft.folder(), &names, &|name, bytes| draft.write(name, bytes)).unwrap();
        let site = draft.folder();
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
        assert_eq!(sizes.plain, (text.len() + noise.len()) as u64);
        assert!(sizes.packed < noise.len() as u64 + 200);

        let mut all = Vec::new();
        crate::publishing::names::list_files(site, "", &mut all).unwrap();
        assert_eq!(check(site, &all).unwrap(), 2, "{all:?}");
        let refused = || check(site, &all).unwrap_err().to_string();
        let other = |ending: &str| {
            format!("page.html{ending}: not the same as page.html; publish the site again")
        };
        for ending in PACKED {
            let path = site.join(format!("page.html{ending}"));
            let good = read(&path).unwrap();
            write(&path, &good[..good.len() / 2]);
            assert_eq!(refused(), other(ending), "cut");
            write(&path, &compress(b"something else", ending).unwrap());
            assert_eq!(refused(), other(ending), "of another file");
            write(&path, &good);
        }
        assert_eq!(crate::publishing::names::unpacked_name("a/x.json.gz"), "a/x.json");
        // A copy that would unpack to a thousand times the file stops where the file ends.
        let bomb = compress(&vec![b't'; 1 << 24], ".br").unwrap();
        write(&site.join("page.html.br"), &bomb);
        assert_eq!(refused(), other(".br"));
    }
}
