//! Errors as one sentence.

use std::error::Error;
use std::io::ErrorKind;

/// What the system says, in words that a reader can act on where nothing is at a path.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        // What the program itself says of a missing thing stays.
        ErrorKind::NotFound if error.get_ref().is_none() => {
            "there is no such file or folder; check the path".to_owned()
        }
        _ => error.to_string(),
    }
}

/// An error with its causes, outermost first, joined by colons. What one part of it says already is not said
/// again: many errors quote their cause, and a context often names the file that the error names, too.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let text = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref().map_or_else(|| cause.to_string(), reason)
    };
    for text in error.chain().map(text) {
        if text.is_empty() || parts.iter().any(|part| says(part, &text)) {
            continue;
        }
        while parts.last().is_some_and(|part| says(&text, part)) {
            parts.pop();
        }
        parts.push(text);
    }
    parts.join(": ")
}

/// Whether a text holds another as whole words.
fn says(text: &str, other: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    // Dots and hyphens join words where something follows: `a.json` is not in `a.json.bak`.
    let is_joint = |c: char| c == '.' || c == '-';
    text.match_indices(other).any(|(start, found)| {
        let ahead = text[..start].chars().next_back();
        let mut behind = text[start + found.len()..].chars();
        let goes_on = match behind.next() {
            Some(c) if is_joint(c) => behind.next().is_some_and(is_word),
            next => next.is_some_and(is_word),
        };
        !ahead.is_some_and(|c| is_word(c) || is_joint(c)) && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context;

    use super::*;
    use crate::data::store::read_picture;
    use crate::files;

    #[test]
    fn a_reason_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        let name = path.display().to_string();
        let reason = super::reason(&std::fs::read(&path).unwrap_err());
        assert!(reason.starts_with("there is no such file"), "{reason}");
        // The file's error quotes the system's, and the context names the file once more.
        let read = || files::read(&path, 9);
        let error = read().with_context(|| name.clone()).unwrap_err();
        assert_eq!(sentence(&error), format!("{name}: {reason}"));
        // So it is where the context names the file as seen from its folder.
        let error = read().context("x.bin").context("the bundle").unwrap_err();
        assert_eq!(sentence(&error), format!("the bundle: {name}: {reason}"));

        std::fs::write(&path, "text").unwrap();
        let error = anyhow::Error::from(read_picture(&path).unwrap_err());
        assert_eq!(sentence(&error), error.to_string());
        assert!(sentence(&error).starts_with(&format!("{name}: not a picture")));
        let error = error.context(format!("{}: class A", dir.path().display()));
        assert!(sentence(&error).contains(": class A: "), "{}", sentence(&error));

        // A reason in the middle of a sentence.
        let source = std::io::Error::other("the disk is full");
        let error = files::FileError::Write { path: Path::new("a").to_owned(), source };
        let error = anyhow::Error::from(error).context("gallery.bin");
        assert_eq!(sentence(&error), "gallery.bin: a: the disk is full; the file is as it was");
    }

    #[test]
    fn what_only_looks_alike_is_kept() {
        let chain =
            |texts: [&'static str; 2]| sentence(&anyhow::anyhow!(texts[1]).context(texts[0]));
        assert_eq!(chain(["15 pictures", "5"]), "15 pictures: 5");
        assert_eq!(chain(["list", "listing failed"]), "list: listing failed");
        assert_eq!(chain(["a.json", "a.json.bak: gone"]), "a.json: a.json.bak: gone");
        assert_eq!(chain(["a.json", "a.json. It is gone"]), "a.json. It is gone");
        assert_eq!(chain(["", "gone"]), "gone");
        assert_eq!(chain(["gone", ""]), "gone");
        assert_eq!(chain(["no model: m.bin", "m.bin"]), "no model: m.bin");
    }
}
