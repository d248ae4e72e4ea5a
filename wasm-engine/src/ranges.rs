//! Whether a host's answer is the part of a file that was asked for.

/// What a host says of a partial answer; `None` for a header that is not there or is hidden.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    /// `Content-Encoding`.
    pub(crate) encoding: Option<&'a str>,
    /// `Content-Type`.
    pub(crate) kind: Option<&'a str>,
    /// `Content-Range`.
    pub(crate) range: Option<&'a str>,
}

/// Whether a partial answer begins at byte `next` and is of a file of `total` bytes, if that is known. Browsers
/// differ in whether they ask for the plain file with a range (Chromium does, Firefox takes a packed one, too),
/// and hosts in what they count then.
pub(crate) fn is_part(said: Said<'_>, next: u64, total: Option<u64>) -> bool {
    let packed = said.encoding.is_some_and(|encoding| encoding != "identity");
    let pieces = said.kind.is_some_and(|kind| kind.starts_with("multipart/"));
    if packed || pieces {
        return false;
    }
    // Hidden from a page of another origin; the checksums judge then.
    let Some(range) = said.range else { return true };
    let Some((place, size)) = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'))
    else {
        return false;
    };
    let starts = place.split('-').next().and_then(|start| start.trim().parse().ok()) == Some(next);
    let fits = match (size.trim().parse::<u64>(), total) {
        (Ok(size), Some(total)) => size == total,
        _ => true,
    };
    starts && fits
}

#[cfg(test)]
mod tests {
    use super::{Said, is_part};

    fn range(range: &str) -> Said<'_> {
        Said { range: Some(range), ..Said::default() }
    }

    #[test]
    fn the_part_that_was_asked_for_is_taken() {
        assert!(is_part(range("bytes 100-199/200"), 100, Some(200)));
        assert!(is_part(range("bytes 100-199/*"), 100, Some(200)));
        assert!(is_part(range("bytes 100-199/200"), 100, None));
    }

    #[test]
    fn another_start_is_another_part() {
        assert!(!is_part(range("bytes 0-199/200"), 100, Some(200)));
        assert!(!is_part(range("bytes -/200"), 100, Some(200)));
    }

    #[test]
    fn a_file_of_another_length_is_another_file() {
        assert!(!is_part(range("bytes 100-199/201"), 100, Some(200)));
    }

    #[test]
    fn a_range_that_cannot_be_read_is_no_part() {
        for said in ["", "bytes", "bytes 100-199", "items 100-199/200", "bytes x-199/200"] {
            assert!(!is_part(range(said), 100, None), "{said:?}");
        }
    }

    #[test]
    fn a_hidden_range_is_left_to_the_checksums() {
        assert!(is_part(Said::default(), 100, Some(200)));
    }

    #[test]
    fn packed_and_multiple_parts_are_refused() {
        let packed = Said { encoding: Some("gzip"), ..range("bytes 100-199/200") };
        assert!(!is_part(packed, 100, Some(200)));
        let plain = Said { encoding: Some("identity"), ..range("bytes 100-199/200") };
        assert!(is_part(plain, 100, Some(200)));
        let pieces = Said { kind: Some("multipart/byteranges; boundary=x"), ..Said::default() };
        assert!(!is_part(pieces, 100, None));
    }
}
