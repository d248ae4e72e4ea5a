//! Sentences that are put together from what the page knows.

use page::language::{say, say_count, say_with};

use crate::app::{Sentence, Why};
use crate::project::TableError;

/// What the status line says.
pub(super) fn status(sentence: &Sentence) -> String {
    match sentence {
        Sentence::Key(key) => say(key),
        Sentence::Added(came, 0) => say_count("added", *came),
        Sentence::Added(came, out) => {
            format!("{} {}.", say_count("added", *came), say_count("left.out", *out))
        }
        Sentence::Table(error) => table(error),
        Sentence::Told(0, _) => say("told.none"),
        Sentence::Told(classes, 0) => say_count("told", *classes),
        Sentence::Told(classes, rows) => {
            format!("{} {}.", say_count("told", *classes), say_count("left.rows", *rows))
        }
        Sentence::Moved(photos, label) if label.is_empty() => say_count("moved.none", *photos),
        Sentence::Moved(photos, label) => {
            // The count is said first, so that a name cannot be taken for it.
            say_count("moved", *photos).replacen("{label}", label, 1)
        }
        Sentence::NoClass(label) => say_with("no.class", &[("label", label)]),
        Sentence::Engine(words) => say_with("engine.failed", &[("words", words)]),
        Sentence::NoGallery(words) => say_with("gallery.failed", &[("words", words)]),
        Sentence::Opened(classes, photos) => {
            let (classes, photos) = (say_count("classes", *classes), say_count("photos", *photos));
            say_with("gallery.opened", &[("classes", &classes), ("photos", &photos)])
        }
        Sentence::Removed(photos) => say_count("removed", *photos),
        Sentence::Placed(photos) => say_count("placed", *photos),
    }
}

/// How many things are left out.
pub(super) fn left_out(kind: &str, count: usize) -> String {
    match kind {
        "left.rows" => say_count("left.rows", count),
        _ => say_count("left.out", count),
    }
}

/// Why something is left out.
pub(super) fn why(name: &str, why: &Why) -> String {
    let name = ("name", name);
    match why {
        Why::NoPhoto => say_with("out.kind", &[name]),
        Why::Broken => say_with("out.broken", &[name]),
        Why::NoDecoder => say_with("out.decoder", &[name]),
        Why::Gone => say_with("out.gone", &[name]),
        Why::Unusable => say_with("out.unusable", &[name]),
        Why::Double(Some(label)) => say_with("out.double", &[name, ("label", label)]),
        Why::Double(None) => say_with("out.double.unsorted", &[name]),
        Why::NoClass => say_with("out.class", &[name]),
    }
}

fn table(error: &TableError) -> String {
    match error {
        TableError::NoColumns => say("table.columns"),
        TableError::OpenQuote(line) => say_with("table.quote", &[("line", &line.to_string())]),
        TableError::TooManyFields(line) => say_with("table.fields", &[("line", &line.to_string())]),
        TableError::TooLarge => say("table.large"),
    }
}

/// How far photographs have come.
pub(super) fn progress(done: usize, of: usize, seconds_left: Option<u32>) -> String {
    // Nobody knows yet how much it is.
    if of == 0 {
        return String::new();
    }
    let (done, of) = (done.to_string(), of.to_string());
    match seconds_left {
        None => say_with("progress.of", &[("done", &done), ("of", &of)]),
        Some(seconds) => {
            let left = if seconds < 90 {
                say_count("seconds", seconds as usize)
            } else {
                say_count("minutes", seconds.div_ceil(60) as usize)
            };
            say_with("progress.left", &[("done", &done), ("of", &of), ("left", &left)])
        }
    }
}
