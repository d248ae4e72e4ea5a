//! Sentences that are put together from what the page knows.

use wasm_engine::protocol::{AlikePair, Answer, Backend, Change, StageTimes};

use super::language::{say, say_count, say_with};
use crate::app::{Choice, Computed, Cost, Failure, Sentence};

/// Cosines between the best class and the next from which on the lead is clear.
const CLEAR_LEAD: f32 = 0.1;
/// Cosines above what a class needs, below which it is only just known.
const JUST_KNOWN: f32 = 0.03;
/// Cosines between the best class and the next from which on it is no close call.
const CLOSE_CALL: f32 = 0.03;

/// Letters of a name that the status line has room for.
const LINE: usize = 60;

/// Label of a sample picture.
pub(crate) fn sample(number: usize) -> String {
    say_with("sample", &[("number", &number.to_string())])
}

/// Name of the button for people who hear the page.
pub(crate) fn it_is(label: &str) -> String {
    say_with("it.is", &[("label", label)])
}

/// Name of the button for people who hear the page.
pub(crate) fn rename_class(label: &str) -> String {
    say_with("rename.class", &[("label", label)])
}

/// Name of the button for people who hear the page.
pub(crate) fn remove_class(label: &str) -> String {
    say_with("remove.class", &[("label", label)])
}

/// Asks for another name.
pub(crate) fn new_name(label: &str) -> String {
    say_with("new.name", &[("label", label)])
}

/// Asks whether a class may go.
pub(crate) fn remove_sure(label: &str) -> String {
    say_with("remove.sure", &[("label", label)])
}

/// How far the best class is ahead of the next.
pub(crate) fn lead(best: &Answer, next: &Answer) -> String {
    let ahead = best.similarity - next.similarity;
    let key = if ahead < CLOSE_CALL {
        "lead.close"
    } else if best.similarity - best.min_similarity < JUST_KNOWN {
        "lead.just"
    } else if ahead >= CLEAR_LEAD {
        "lead.clear"
    } else {
        "lead.some"
    };
    say_with(key, &[("label", &next.label)])
}

/// How sure the best answer is; nothing where the gallery cannot say so.
pub(crate) fn sure(best: &Answer) -> String {
    let Some(probability) = best.probability else { return String::new() };
    let (percent, value) = (format!("{:.0}", 100.0 * probability), similarity(best.similarity));
    say_with("sure", &[("percent", &*percent), ("similarity", &*value)])
}

/// How alike the best two classes are, for people who hear the page.
pub(crate) fn scale(best: &Answer, next: Option<&Answer>) -> String {
    let (value, least) = (similarity(best.similarity), similarity(best.min_similarity));
    let values = [("label", &*best.label), ("similarity", &*value), ("least", &*least)];
    let mut sentence = say_with("scale", &values);
    if let Some(next) = next {
        let value = similarity(next.similarity);
        sentence.push(' ');
        let values = [("label", &*next.label), ("similarity", &*value)];
        sentence.push_str(&say_with("scale.next", &values));
    }
    sentence
}

/// Describes the picture of an object as the network was given it.
pub(crate) fn crop_of(number: usize) -> String {
    say_with("crop.of", &[("number", &number.to_string())])
}

/// Size of a class.
pub(crate) fn pictures(count: usize) -> String {
    say_count("pictures", count)
}

/// Classes that are not shown.
pub(crate) fn more_classes(matching: usize, shown: usize, unlisted: usize) -> String {
    let unlisted = match unlisted {
        0 => String::new(),
        count => say_with("classes.unlisted", &[("count", &count.to_string())]),
    };
    match (matching, matching - shown.min(matching)) {
        (0, _) if unlisted.is_empty() => say("classes.none"),
        (_, 0) => unlisted,
        (_, more) => {
            let more = say_with("classes.more", &[("count", &more.to_string())]);
            format!("{more} {unlisted}").trim_end().to_owned()
        }
    }
}

/// What the page can do without a network.
pub(crate) fn offline(in_parts: bool) -> String {
    if in_parts { say("offline.parts") } else { say("offline") }
}

/// Two classes that may be mistaken for each other.
pub(crate) fn alike(pair: &AlikePair) -> String {
    let value = similarity(pair.similarity);
    let values = [("first", &*pair.first), ("second", &*pair.second), ("similarity", &*value)];
    say_with("alike.pair", &values)
}

/// What becomes of the visitor's changes.
pub(crate) fn kept(edited: bool, kept: bool) -> String {
    match (edited, kept) {
        (false, _) => String::new(),
        (true, true) => say("kept"),
        (true, false) => say("kept.not"),
    }
}

/// A name as far as the status line has room for it.
fn short(label: &str) -> String {
    if label.chars().count() <= LINE {
        return label.to_owned();
    }
    label.chars().take(LINE - 1).chain(['…']).collect()
}

/// What has changed.
fn changed(change: &Change) -> String {
    match change {
        Change::Taught(label) => say_with("taught", &[("label", &short(label))]),
        Change::Renamed(label) => say_with("renamed", &[("label", &short(label))]),
        Change::Removed(label) => say_with("removed", &[("label", &short(label))]),
        Change::Imported(count) => say_count("imported", *count),
        Change::Undone => say("undone"),
        Change::Reset => say("was.reset"),
        Change::Published => say("published"),
    }
}

/// While the bundle comes in.
fn loading(loaded: u64, total: u64) -> String {
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    say_with("loading", &[("loaded", &megabytes(loaded)), ("total", &megabytes(total))])
}

/// What runs where.
fn engine(computed: Computed) -> String {
    let Computed { backend, software, threads, int8, fallback } = computed;
    let mut engine = match (backend, software) {
        (Backend::Cpu, _) if threads > 1 => {
            say_with("engine.cpu.threads", &[("count", &threads.to_string())])
        }
        (Backend::Cpu, _) => say("engine.cpu.long"),
        (Backend::WebGpu, false) => say("engine.webgpu"),
        (Backend::WebGpu, true) => say("engine.software"),
    };
    if int8 {
        engine = say_with("engine.whole", &[("engine", &engine)]);
    }
    if fallback {
        engine = say_with("engine.fallback", &[("engine", &engine)]);
    }
    engine
}

/// What was measured of the engines.
pub(crate) fn choice(choice: &Choice) -> String {
    let time = |cost: &Option<Cost>| {
        cost.map_or_else(|| "–".to_owned(), |cost| format!("{:.1}", cost.detect + cost.embed))
    };
    let values = [("cpu", &*time(&choice.cpu)), ("webgpu", &*time(&choice.webgpu))];
    match &*choice.why {
        "faster" => say_with("choice.faster", &values),
        "slower" => say_with("choice.slower", &values),
        "differs" => say("choice.differs"),
        "slowed" => say_with("choice.slowed", &values),
        _ => say("choice.failed"),
    }
}

/// What the status line says.
pub(crate) fn status(sentence: &Sentence) -> String {
    match sentence {
        Sentence::Key(key) => say(key),
        Sentence::Loading(loaded, total) => loading(*loaded, *total),
        Sentence::Failure(kind, _) => failure(*kind),
        Sentence::Changed(change) => changed(change),
        Sentence::Summary(known, all) => summary(*known, *all),
        Sentence::Marked(Some(label)) => say_with("marked.known", &[("label", &short(label))]),
        Sentence::Marked(None) => say("marked.unknown"),
    }
}

/// How long the stages took.
pub(crate) fn timings(times: &StageTimes, computed: Computed) -> String {
    let StageTimes { decode, detect, embed, search } = times;
    let whole = |milliseconds: f64| format!("{milliseconds:.0}");
    let values = [
        ("total", whole(decode + detect + embed + search)),
        ("decode", whole(*decode)),
        ("detect", whole(*detect)),
        ("embed", whole(*embed)),
        ("search", format!("{search:.1}")),
        ("engine", engine(computed)),
    ];
    say_with("timings", &values.each_ref().map(|(name, value)| (*name, value.as_str())))
}

/// Size of the gallery.
pub(crate) fn gallery(classes: usize, entries: usize) -> String {
    let (things, pictures) = (say_count("things", classes), pictures(entries));
    say_with("gallery.size", &[("things", &things), ("pictures", &pictures)])
}

/// What was found, for people who hear the page.
fn summary(known: usize, all: usize) -> String {
    match (known, all) {
        (_, 0) => say("no.object"),
        (0, 1) => say("found.one.unknown"),
        (_, 1) => say("found.one.known"),
        _ => say_with("found", &[("all", &all.to_string()), ("known", &known.to_string())]),
    }
}

/// What went wrong and what to do about it.
fn failure(failure: Failure) -> String {
    match failure {
        Failure::Fetch => say("failure.fetch"),
        Failure::Truncated => say("failure.truncated"),
        Failure::Corrupted => say("failure.corrupted"),
        Failure::PageTooOld => say("failure.new"),
        Failure::Bundle => say("failure.bundle"),
        Failure::Picture => say("failure.picture"),
        Failure::Heic => say("failure.heic"),
        Failure::Unusual => say("failure.unusual"),
        Failure::NoPicture => say("no.picture"),
        Failure::Part => say("failure.part"),
        Failure::Import => say("failure.import"),
        Failure::Change => say("failure.gallery"),
        Failure::Graphics => say("failure.device"),
        // There is no other engine to choose.
        Failure::Processor => say("failure.device.cpu"),
    }
}

/// The engine's own words about a failure, for those who look into the details.
pub(crate) fn own_words(sentence: &Sentence) -> Option<String> {
    match sentence {
        Sentence::Failure(_, words) => Some(say_with("failure.words", &[("words", words)])),
        _ => None,
    }
}

/// A cosine in figures; 1 is the same.
pub(crate) fn similarity(similarity: f32) -> String {
    format!("{similarity:.2}")
}

#[cfg(test)]
mod tests {
    use super::{LINE, short};

    #[test]
    fn only_a_name_that_is_too_long_for_the_line_is_cut() {
        let fits = "é".repeat(LINE);
        assert_eq!(short(&fits), fits);
        let cut = short(&"é".repeat(LINE + 1));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (LINE, true));
    }
}
