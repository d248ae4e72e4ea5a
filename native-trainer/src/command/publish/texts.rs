//! What publishing writes into texts of the page, and which of a model's texts visitors read.

use super::super::import::WEIGHTS_OF;

/// What the service worker has in the place of a digest of the site.
const UNPUBLISHED: &str = "unpublished";

/// A page with this title, as text: of its window and of its first heading.
pub(super) fn titled(page: Vec<u8>, title: &str) -> Vec<u8> {
    let text = match String::from_utf8(page) {
        Ok(text) => text,
        Err(error) => return error.into_bytes(),
    };
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let places = [("<title>", "</title>"), ("<h1 id=\"title\">", "</h1>")];
    let replaced = places.into_iter().fold(text, |text, (begin, end)| {
        let replaced = text.split_once(begin).and_then(|(before, rest)| {
            let (_, behind) = rest.split_once(end)?;
            Some(format!("{before}{begin}{title}{end}{behind}"))
        });
        replaced.unwrap_or(text)
    });
    replaced.into_bytes()
}

/// A service worker with this version in the place of none, or of the one of another publishing.
pub(super) fn versioned(worker: &str, version: &str) -> Option<String> {
    if worker.contains(UNPUBLISHED) {
        return Some(worker.replacen(UNPUBLISHED, version, 1));
    }
    let is_version =
        |text: &&str| text.len() == version.len() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let before = worker.split('"').skip(1).step_by(2).find(is_version)?;
    Some(worker.replacen(before, version, 1))
}

/// Whether a note of a model is shown on the page: not the name of the file that its weights came in.
pub(super) fn is_for_visitors(note: &str) -> bool {
    !note.is_empty() && !note.starts_with(WEIGHTS_OF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_and_takes_the_place_of_the_one_before() {
        let page = b"<head><title>Magpie</title></head>".to_vec();
        let first = titled(page, "A & B </title><script>");
        assert_eq!(
            String::from_utf8_lossy(&first),
            "<head><title>A &amp; B &lt;/title&gt;&lt;script&gt;</title></head>"
        );
        assert_eq!(titled(first, "Shop"), b"<head><title>Shop</title></head>");
        let page = br#"<title>Magpie</title><h1 id="title">Magpie</h1><p>Magpie</p>"#.to_vec();
        let expected = r#"<title>A &lt; B</title><h1 id="title">A &lt; B</h1><p>Magpie</p>"#;
        assert_eq!(String::from_utf8_lossy(&titled(page, "A < B")), expected);
        for other in [&b"<!doctype html>"[..], b"<title>", b"\xff<title></title>"] {
            assert_eq!(titled(other.to_vec(), "Shop"), other);
        }
    }

    #[test]
    fn a_worker_is_told_its_version_as_often_as_it_is_published() {
        let built = "const VERSION = \"unpublished\";\nconst FAMILY = \"magpie-\";";
        let first = versioned(built, "0123456789abcdef").unwrap();
        assert_eq!(first, built.replace("unpublished", "0123456789abcdef"));
        let second = versioned(&first, "fedcba9876543210").unwrap();
        assert_eq!(second, built.replace("unpublished", "fedcba9876543210"));
        assert_eq!(versioned("const FAMILY = \"magpie-\";", "0123456789abcdef"), None);
    }

    #[test]
    fn visitors_read_licenses_but_no_names_of_weight_files() {
        assert!(is_for_visitors("Pictures: Noto Emoji (Apache-2.0)."));
        for note in ["", "Weights of efficientnet-lite0-57934424.pth."] {
            assert!(!is_for_visitors(note), "{note}");
        }
    }
}
