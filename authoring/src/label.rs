//! Names of classes: one spelling for what is the same name, and which names a person takes for one another.
//!
//! A name is kept composed (Unicode's NFC) and without blanks at its ends, so that a folder copied from a
//! system that decomposes names is the class that it was there.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use unicode_normalization::UnicodeNormalization;

/// Characters without ink that are no blanks by Unicode, and that people copy along.
const INVISIBLE: [char; 5] = ['\u{ad}', '\u{200b}', '\u{2060}', '\u{180e}', '\u{feff}'];

/// Marks that turn the direction of writing: a name that holds one does not read as it is spelled.
const DIRECTIONS: [char; 12] = [
    '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
    '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Why a text cannot be given as a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing would be seen of it.
    #[error("the name of a class is blank; give it one that can be seen")]
    Blank,
    /// As a part of an address or of a path it would lead elsewhere.
    #[error(
        "the name of a class has only dots, which addresses and folders read as a place; add a letter"
    )]
    Dots,
    /// It would be shown as another text, or write where it does not stand.
    #[error("{what} holds U+{:04X}, which steers how text is shown; take that character out", u32::from(*.with))]
    Steering {
        /// What the text is.
        what: &'static str,
        /// The first such character.
        with: char,
    },
}

/// The first character of a text that steers how others are shown: a control character, a break of a line, and what
/// embeds, overrides or isolates a direction of writing. The marks between letters, which Arabic and Hebrew need, do not.
fn steering(text: &str) -> Option<char> {
    let steers =
        |c: &char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().find(steers)
}

/// The label of a text that is to be given to a class.
///
/// # Errors
///
/// A blank text, one of dots alone, and one that steers how it is shown.
pub fn checked(text: &str) -> Result<String, LabelError> {
    let label = label(text).ok_or(LabelError::Blank)?;
    if label.bytes().all(|byte| byte == b'.') {
        return Err(LabelError::Dots);
    }
    check_shown(&label)?;
    Ok(label)
}

/// Whether a label that somebody else has written down may be shown as it is. One that is blank or has only dots may:
/// older galleries have such.
///
/// # Errors
///
/// [`LabelError::Steering`]
pub fn check_shown(label: &str) -> Result<(), LabelError> {
    match steering(label) {
        Some(with) => Err(LabelError::Steering { what: "the name of a class", with }),
        None => Ok(()),
    }
}

/// Whether a class may be given metadata; a text, unlike its name, may have several lines.
///
/// # Errors
///
/// [`LabelError::Steering`]
pub fn check_metadata(name: &str, text: &str) -> Result<(), LabelError> {
    let one_line: String = text.chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).collect();
    for (what, text) in [("the name of metadata", name), ("the text of metadata", &one_line)] {
        if let Some(with) = steering(text) {
            return Err(LabelError::Steering { what, with });
        }
    }
    Ok(())
}

/// A text as the label of a class; `None` where nothing would be seen of it.
pub fn label(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || INVISIBLE.contains(&c));
    (!text.is_empty()).then(|| composed(text))
}

/// A text in its composed form, in which what reads the same is the same.
pub fn composed(text: &str) -> String {
    text.nfc().collect()
}

/// A text in its decomposed form, in which some systems keep the names of files.
pub fn decomposed(text: &str) -> String {
    text.nfd().collect()
}

/// Whether a terminal shows no letter for it.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || INVISIBLE.contains(&c) || DIRECTIONS.contains(&c)
}

/// A text in quotes. Unlike `{:?}`, marks that sit on a letter stay there.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if is_hidden(c) || matches!(c, '"' | '\\') {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out.push('"');
    out
}

/// The first characters of a stranger's text, on one line; for what else nobody sees U+FFFD.
pub fn on_one_line(text: &str, most: usize) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_hidden(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().take(most).map(shown).collect()
}

/// A text as a terminal may be given it: as it is, or in quotes if characters that nobody sees are in it.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_hidden) { quoted(text).into() } else { text.into() }
}

/// Whether a word may be a slip of the pen for another: not more than a third of the longer one's letters differ.
pub fn is_slip(given: &str, meant: &str) -> bool {
    let letters = given.chars().count().max(meant.chars().count());
    3 * strsim::damerau_levenshtein(given, meant) <= letters
}

/// The label that was probably meant by one that is not there: one that looks alike, else the one that differs in the
/// fewest letters, as far as [`is_slip`] goes.
pub fn nearest<'a>(text: &str, labels: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| label(text).unwrap_or_default();
    let (text, alike) = (plain(text), overlooked(text));
    let letters = text.chars().count();
    // Of texts that differ much in length no letters are compared: a long one would take minutes among many labels.
    let may_be = |label: &&str| {
        let other = plain(label).chars().count();
        3 * letters.abs_diff(other) <= letters.max(other) || overlooked(label) == alike
    };
    let near = labels.into_iter().filter(may_be).min_by_key(|label| {
        (overlooked(label) != alike, strsim::damerau_levenshtein(&text, &plain(label)))
    });
    near.filter(|near| overlooked(near) == alike || is_slip(&text, &plain(near)))
}

/// Groups of labels that differ only in what a person overlooks: letter case, zeros in front of a number,
/// blanks, width and other forms of one letter. Each group has at least two, sorted; the groups are in the order
/// of their first labels.
pub fn look_alikes<'a>(labels: impl IntoIterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut order = Vec::new();
    for label in labels {
        let key = overlooked(label);
        let group = groups.entry(key.clone()).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(label.to_owned());
    }
    let groups = order.into_iter().filter_map(|key| groups.remove(&key)).map(|mut group| {
        group.sort();
        group.dedup();
        group
    });
    groups.filter(|group| group.len() > 1).collect()
}

/// A label without what is overlooked.
fn overlooked(label: &str) -> String {
    let seen: String = label.nfkc().filter(|c| !INVISIBLE.contains(c)).collect();
    // By way of capitals, which ß and ς have in common with ss and σ.
    let folded: String = seen.to_uppercase().to_lowercase().nfkc().collect();
    let words: Vec<String> = folded.split_whitespace().map(without_zeros).collect();
    words.join(" ")
}

/// A word whose numbers have no zeros in front; decimals keep theirs.
fn without_zeros(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut before = None;
    let mut rest = word.chars().peekable();
    while let Some(c) = rest.next() {
        let begins = !matches!(before, Some('0'..='9' | '.' | ','));
        if c == '0' && begins && rest.peek().is_some_and(char::is_ascii_digit) {
            continue;
        }
        out.push(c);
        before = Some(c);
    }
    out
}

/// Classes by label. One that is spelled otherwise, as older galleries may have it, is found too.
#[derive(Debug, Default)]
pub struct Labels {
    spelled: HashMap<String, usize>,
    same: HashMap<String, usize>,
}

impl Labels {
    /// Adds a class; of several with one label the first is found.
    pub fn insert(&mut self, text: &str, class: usize) {
        self.spelled.entry(text.to_owned()).or_insert(class);
        self.same.entry(label(text).unwrap_or_default()).or_insert(class);
    }

    /// Every spelling.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let mut texts: Vec<&str> = self.spelled.keys().map(String::as_str).collect();
        texts.sort_unstable();
        texts.into_iter()
    }

    /// The class that is spelled so, else the first with the same label.
    pub fn find(&self, text: &str) -> Option<usize> {
        let same = || self.same.get(&label(text).unwrap_or_default());
        self.spelled.get(text).or_else(same).copied()
    }
}

impl<'a> FromIterator<&'a str> for Labels {
    fn from_iter<I: IntoIterator<Item = &'a str>>(labels: I) -> Self {
        let mut found = Self::default();
        labels.into_iter().enumerate().for_each(|(class, text)| found.insert(text, class));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_writes_no_lines_and_no_commands_of_a_terminal() {
        assert_eq!(printable("Red \"Mug\" 杯"), "Red \"Mug\" 杯");
        assert_eq!(printable("Mug\n  9  fake\u{1b}[2K"), r#""Mug\n  9  fake\u{1b}[2K""#);
    }

    const COMPOSED: &str = "K\u{e4}se";
    const DECOMPOSED: &str = "Ka\u{308}se";

    #[test]
    fn one_name_has_one_spelling_and_a_blank_one_has_none() {
        for text in [COMPOSED, DECOMPOSED, " Käse ", "Käse\u{a0}", "\u{feff}Käse\u{200b}", "Käse\r"]
        {
            assert_eq!(label(text).as_deref(), Some(COMPOSED), "{text:?}");
        }
        for text in ["", "   ", "\t", "\u{3000}", "\u{200b}", "\u{feff} "] {
            assert_eq!(label(text), None, "{text:?}");
        }
        // Blanks inside and letter case are part of a name.
        assert_eq!(label("Red  Mug").as_deref(), Some("Red  Mug"));
    }

    #[test]
    fn a_name_that_steers_how_it_is_shown_is_not_given() {
        assert_eq!(checked(" Ka\u{308}se\n").as_deref(), Ok("Käse"));
        assert_eq!(checked(" "), Err(LabelError::Blank));
        for text in [".", "..", " ...\n"] {
            assert_eq!(checked(text), Err(LabelError::Dots), "{text:?}");
        }
        assert_eq!(checked(".5 l").as_deref(), Ok(".5 l"));
        // Marks between letters: Arabic, Hebrew, Persian, an emoji of several.
        for text in
            ["\u{5d0}\u{200f}1", "a\u{61c}b", "\u{645}\u{6cc}\u{200c}\u{62e}", "👩\u{200d}🔬"]
        {
            assert_eq!(checked(text).as_deref(), Ok(text));
        }
        for (text, told) in [
            (
                "a\0b",
                "the name of a class holds U+0000, which steers how text is shown; take that character out",
            ),
            ("a\u{1b}[2K", "the name of a class holds U+001B, "),
            ("gpj\u{202e}exe", "the name of a class holds U+202E, "),
            ("a\u{2066}b", "the name of a class holds U+2066, "),
            ("a\u{2028}b", "the name of a class holds U+2028, "),
        ] {
            let error = checked(text).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        assert_eq!(check_metadata("about", "two\nlines\tand \u{5d0}"), Ok(()));
        let error = check_metadata("a\nb", "").unwrap_err().to_string();
        assert!(error.starts_with("the name of metadata holds U+000A, "), "{error}");
        let error = check_metadata("a", "\u{202e}").unwrap_err().to_string();
        assert!(error.starts_with("the text of metadata holds U+202E, "), "{error}");
    }

    #[test]
    fn names_are_shown_as_they_are_read() {
        // A vowel sign, a letter that has no composed form, an emoji of several.
        for text in ["हिन्दी", "x\u{30c}", "👩\u{200d}🔬", "Mug ☕"] {
            assert_eq!(quoted(text), format!("\"{text}\""));
        }
        assert_eq!(quoted("a\"\\\n\u{202e}\u{200b}"), r#""a\"\\\n\u{202e}\u{200b}""#);
        assert_eq!(nearest("Kase", ["Mug", COMPOSED]), Some(COMPOSED));
        assert_eq!(nearest(DECOMPOSED, ["Kase", "Käse "]), Some("Käse "));
        assert_eq!(nearest("MUG", ["MUC", "Mug"]), Some("Mug"));
        assert_eq!(nearest("x", []), None);
        // Comparing their letters would take hours.
        let (long, labels) = ("x".repeat(1 << 20), vec!["y".repeat(1 << 10); 100]);
        assert_eq!(nearest(&long, labels.iter().map(String::as_str)), None);
        assert_eq!(nearest("pinapple", ["Plum", "pineapple"]), Some("pineapple"));
        for other in ["Mug", "Kettle", "x"] {
            assert_eq!(nearest("Lamp", [other]), None, "{other}");
        }
    }

    #[test]
    fn names_that_are_taken_for_one_another_are_found() {
        let groups = [
            vec!["MUG", "Mug", "mug"],
            vec!["007", "07", "7"],
            vec!["Red Mug", "red  mug"],
            vec!["STRASSE", "Straße"],
            vec!["ABC", "abc", "ＡＢＣ"],
            vec!["fish", "ﬁsh"],
            vec!["Item 07", "item 7"],
            vec!["ab", "a\u{200b}b"],
        ];
        let all: Vec<&str> = groups.iter().flatten().copied().collect();
        let found = look_alikes(all.iter().copied().chain(["Mug", "0", "cup"]));
        assert_eq!(found, groups);
        for others in [["70", "7"], ["1.05", "1.5"], ["0", "00a"], ["Käse", "Kase"], ["a b", "ab"]]
        {
            assert_eq!(look_alikes(others), Vec::<Vec<String>>::new(), "{others:?}");
        }
    }

    #[test]
    fn a_class_is_found_by_its_spelling_and_else_by_its_name() {
        let labels: Labels = ["Mug ", DECOMPOSED, "Mug", DECOMPOSED].into_iter().collect();
        assert_eq!(labels.find("Mug"), Some(2));
        assert_eq!(labels.find(" Mug"), Some(0));
        assert_eq!(labels.find(COMPOSED), Some(1));
        assert_eq!(labels.find("mug"), None);
    }
}
