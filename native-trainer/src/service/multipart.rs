//! `multipart/form-data` (RFC 7578) of a body that is there whole.

use super::http::Bytes;
use super::problem::{Answered, Problem};

/// Most parts of a request.
const PARTS: usize = 1024;
/// Most bytes of the headers of a part.
const HEADERS: usize = 8192;
/// Most characters of a boundary.
const BOUNDARY: usize = 70;

/// A part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Name of its field.
    pub(crate) name: String,
    /// Name of its file, if it is one.
    pub(crate) file: Option<String>,
    /// Its bytes, which the body holds.
    pub(crate) bytes: Bytes,
}

/// The parts of a form.
///
/// # Errors
///
/// [`Problem::request`] for what is no form.
pub(crate) fn parts(content_type: &str, body: &Bytes) -> Answered<Vec<Part>> {
    let boundary = parameter(content_type, "boundary")
        .filter(|boundary| !boundary.is_empty() && boundary.len() <= BOUNDARY)
        .ok_or_else(|| broken("its Content-Type has no boundary"))?;
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let start = find(body, first.as_bytes()).ok_or_else(|| broken("no part begins"))?;
    let mut at = start + first.len();
    let mut parts = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        // Blanks may stand behind a boundary.
        let line = find(rest, b"\r\n").ok_or_else(|| broken("its end is missing"))?;
        if !rest[..line].iter().all(|byte| b" \t".contains(byte)) {
            return Err(broken("a boundary is followed by something else"));
        }
        if parts.len() == PARTS {
            return Err(broken("it has more than 1,024 parts"));
        }
        // The line's end is the first of the blank line where there are no headers.
        let head = at + line;
        let end = find(&body[head..], b"\r\n\r\n").filter(|end| *end <= HEADERS);
        let end = head + end.ok_or_else(|| broken("the headers of a part do not end"))?;
        let content = end + 4;
        let length = find(&body[content..], between.as_bytes());
        let length = length.ok_or_else(|| broken("a part does not end"))?;
        let headers = String::from_utf8_lossy(&body[head..end]);
        let (name, file) = disposition(&headers).ok_or_else(|| broken("a part has no name"))?;
        parts.push(Part { name, file, bytes: body.slice(content..content + length) });
        at = content + length + between.len();
    }
}

fn broken(what: &str) -> Problem {
    Problem::request(format!(
        "the form cannot be read: {what}; send multipart/form-data as RFC 7578 has it"
    ))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == first) {
        at += next;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Names of field and file in the headers of a part.
fn disposition(headers: &str) -> Option<(String, Option<String>)> {
    let line = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    // Some programs have names of other letters in the form of RFC 8187: coding, language, name.
    let other = || Some(parameter(line, "filename*")?.rsplit('\'').next()?.to_owned());
    Some((parameter(line, "name")?, parameter(line, "filename").or_else(other)))
}

/// A parameter behind the first semicolon of a header.
pub(crate) fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, behind) = rest.split_once('=')?;
        let (value, next) = value_of(behind);
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next.split_once(';')?.1;
    }
}

/// A value, quoted or not, and what comes behind it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let (mut value, mut letters) = (String::new(), quoted.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"a b\"";

    fn read(body: &[u8]) -> Answered<Vec<Part>> {
        parts(TYPE, &Bytes::copy_from_slice(body))
    }

    #[test]
    fn parts_keep_every_byte() {
        let body = b"before\r\n--a b\r\nContent-Disposition: form-data; name=\"class\"\r\n\r\nMug; \"red\"\r\n--a b \r\n\
            content-type: image/png\r\nCONTENT-DISPOSITION: form-data; filename=\"a\\\"; name=b.png\"; name=image\r\n\
            \r\n\r\n--a\r\n\0\xff\r\n--a b--\r\nbehind";
        let parts = read(body).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), &parts[0].file), ("class", &None));
        assert_eq!(&parts[0].bytes[..], b"Mug; \"red\"");
        assert_eq!(parts[1].file.as_deref(), Some("a\"; name=b.png"));
        assert_eq!(
            (parts[1].name.as_str(), &parts[1].bytes[..]),
            ("image", &b"\r\n--a\r\n\0\xff"[..])
        );
        assert_eq!(read(b"--a b--").unwrap(), []);
        let other = b"--a b\r\nContent-Disposition: form-data; name=\"image\"; filename*=utf-8''k%C3%A4se.png\r\n\r\n\r\n--a b--";
        assert_eq!(read(other).unwrap()[0].file.as_deref(), Some("k%C3%A4se.png"));
    }

    #[test]
    fn damaged_forms_are_refused_and_never_panic() {
        let good = b"--a b\r\nContent-Disposition: form-data; name=x\r\n\r\nabc\r\n--a b--";
        assert_eq!(read(good).unwrap().len(), 1);
        for cut in 0..good.len() - 2 {
            assert!(read(&good[..cut]).is_err(), "{cut}");
        }
        for at in 0..good.len() {
            let mut other = good.to_vec();
            other[at] ^= 0x15;
            let _ = read(&other);
        }
        let refused = |kind: &str| parts(kind, &Bytes::from_static(good)).unwrap_err().detail;
        assert!(refused("multipart/form-data").contains("no boundary"));
        assert!(refused("multipart/form-data; boundary=").contains("no boundary"));
    }
}
