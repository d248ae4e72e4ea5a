//! What a static host is given beside the files: packed copies, and the headers that it may send.

use std::io::Read;

use crate::names::{PACKED, is_named_after_content};

/// What lets the page use threads, keeps its answers typed, and tells other sites nothing.
pub const HEADERS: [(&str, &str); 4] = [
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
pub const ASK_AGAIN: &str = "no-cache";
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
pub fn is_worker(name: &str) -> bool {
    WORKERS.contains(&name.rsplit('/').next().unwrap_or_default())
}

/// What a worker of the engine may do. A worker's policy is that of its own script's headers, not that of the
/// page that starts it: it gets scripts, files and other workers from the site, and files from the origin of the
/// bundle that it was started for.
pub fn worker_policy(bundle: Option<&str>) -> String {
    let elsewhere = bundle.map(|origin| format!(" {origin}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src \
         'self'{elsewhere}; require-trusted-types-for 'script'; trusted-types magpie"
    )
}

/// The origin of the bundle that a worker's address names.
pub fn bundle_origin(query: &str) -> Option<String> {
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
pub struct Sizes {
    /// Of the files.
    pub plain: u64,
    /// Of the smallest form of each.
    pub packed: u64,
}

/// The file of headers of a site with these files.
pub fn headers_text<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
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
pub fn unpacked(copy: &[u8], ending: &str, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if ending == ".br" {
        brotli::Decompressor::new(copy, 1 << 16).take(limit).read_to_end(&mut bytes)
    } else {
        flate2::read::GzDecoder::new(copy).take(limit).read_to_end(&mut bytes)
    };
    read.is_ok().then_some(bytes)
}

/// Packed copies of a file, each with its ending, where they are worth their place.
///
/// # Errors
///
/// None that is known.
pub fn pack(name: &str, bytes: &[u8]) -> std::io::Result<Vec<(&'static str, Vec<u8>)>> {
    let plain = bytes.len() as f64;
    let is_packable = name.rsplit_once('.').is_some_and(|(_, kind)| PACKABLE.contains(&kind));
    let mut copies = Vec::new();
    for ending in PACKED.into_iter().filter(|_| is_packable) {
        let copy = compress(bytes, ending)?;
        if (copy.len() as f64) < WORTH * plain {
            copies.push((ending, copy));
        }
    }
    Ok(copies)
}

/// Packs a file in the way of an ending.
///
/// # Errors
///
/// None that is known.
pub fn compress(bytes: &[u8], ending: &str) -> std::io::Result<Vec<u8>> {
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
        // RFC 1952: no name, no time, slowest, unknown system. Which packer stands behind flate2 depends on what else is
        // compiled; this one gives the same bytes everywhere.
        packed.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
        packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, 9));
        packed.extend(crc32fast::hash(bytes).to_le_bytes());
        packed.extend((bytes.len() as u32).to_le_bytes());
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_copies_hold_the_file_and_are_the_same_again() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|i| (i.wrapping_mul(i) >> 9) as u8).collect();
        for (ending, bytes) in [(".gz", &bytes[..]), (".gz", b""), (".br", &bytes[..])] {
            let packed = compress(bytes, ending).unwrap();
            assert_eq!(unpacked(&packed, ending, 1 << 20).unwrap(), bytes, "{ending}");
            assert_eq!(compress(bytes, ending).unwrap(), packed);
        }
        let mut damaged = compress(&bytes, ".gz").unwrap();
        let end = damaged.len() - 5;
        damaged[end] ^= 1;
        assert_eq!(unpacked(&damaged, ".gz", 1 << 20), None);
    }

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
        let headers = headers_text(["index.html", "worker-cpu.js", "worker.js"]);
        let (_, of_worker) = headers.split_once("\n/worker.js\n").unwrap();
        let policy = format!("  content-security-policy: {}\n", worker_policy(None));
        assert!(of_worker.starts_with(&policy), "{headers}");
        assert_eq!(headers.matches("content-security-policy").count(), 1, "{headers}");
    }
}
