//! The languages of the page: every sentence in each, and each sentence said somewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::{root, sources};

type Sentences = BTreeMap<String, String>;

/// Pages that have sentences of their own: their folder of texts, the page that offers the languages, and where
/// sentences are said.
struct Site {
    texts: &'static str,
    pages: &'static [&'static str],
    scripts: &'static [&'static str],
    sources: &'static [&'static str],
}

const SITES: [Site; 2] = [
    Site {
        texts: "www/text",
        pages: &["www/index.html", "www/bench/index.html"],
        scripts: &["www/bench/bench.js", "www/start.js", "www/unable.js"],
        sources: &["web/src/", "page/src/"],
    },
    Site {
        texts: "www/studio/text",
        pages: &["www/studio/index.html"],
        scripts: &["www/studio/start.js", "www/studio/engine.js"],
        sources: &["studio/src/", "page/src/"],
    },
];

fn sentences(texts: &str, code: &str) -> Sentences {
    let path = root().join(format!("{texts}/{code}.json"));
    let text = std::fs::read_to_string(&path).expect("a file of sentences");
    serde_json::from_str(&text).expect("texts by names")
}

/// The `{name}`s of a sentence.
fn holes(sentence: &str) -> BTreeSet<&str> {
    sentence.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

/// What stands between quotes behind each place of `before`.
fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Forms of a plural, by the names that browsers have for them.
const FORMS: [&str; 6] = ["zero", "one", "two", "few", "many", "other"];

/// A name without the form of a plural.
fn base(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((base, form)) if FORMS.contains(&form) => base,
        _ => key,
    }
}

#[test]
fn every_language_has_every_sentence_with_the_same_parts() {
    for Site { texts, pages, .. } in SITES {
        let english = sentences(texts, "en");
        let mut others = 0;
        for entry in std::fs::read_dir(root().join(texts)).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let code = name.strip_suffix(".json").expect("a file of sentences");
            let there = sentences(texts, code);
            let bases = |sentences: &Sentences| -> BTreeSet<String> {
                sentences.keys().map(|key| base(key).to_owned()).collect()
            };
            assert_eq!(bases(&there), bases(&english), "{texts}: {code}");
            for (key, sentence) in &there {
                assert!(!sentence.trim().is_empty(), "{code}: {key}");
                let model =
                    english.get(key).or_else(|| english.get(&format!("{}.other", base(key))));
                let model = model.unwrap_or_else(|| panic!("{code}: {key} has no English"));
                assert_eq!(holes(sentence), holes(model), "{code}: {key}");
            }
            // A plural has the form that every language has.
            for key in there.keys().filter(|key| base(key) != key.as_str()) {
                assert!(there.contains_key(&format!("{}.other", base(key))), "{code}: {key}");
            }
            others += usize::from(code != "en");
            // The visitor can choose it.
            let page = std::fs::read_to_string(root().join(pages[0])).expect("the page");
            let option = format!("<option value=\"{code}\" lang=\"{code}\">{}<", there["language"]);
            assert!(page.contains(&option), "{code} is not offered: {option}");
        }
        assert!(others > 0, "one language is no choice");
    }
}

#[test]
fn what_the_page_says_has_a_sentence_and_every_sentence_is_said() {
    for Site { texts: folder, pages, scripts, sources: says } in SITES {
        let english = sentences(folder, "en");
        let mut said = BTreeSet::from(["language".to_owned()]);
        let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a file");
        let mut texts: Vec<String> = sources()
            .into_iter()
            .filter(|(path, _)| says.iter().any(|folder| path.starts_with(folder)))
            .map(|(_, text)| text)
            .collect();
        texts.extend(pages.iter().chain(scripts).map(|path| read(path)));
        let marks = [
            "say(\"",
            "say_with(\"",
            "say_count(\"",
            "sayCount(\"",
            "Sentence::Key(\"",
            "out.say(\"",
            "data-text=\"",
            "data-label=\"",
            "data-content=\"",
        ];
        for text in &texts {
            for mark in marks {
                for key in quoted(text, mark) {
                    let known =
                        english.keys().any(|sentence| base(sentence) == key || sentence == key);
                    assert!(known, "{folder}: {key:?} is said, and has no sentence");
                }
            }
        }
        let everything = texts.concat();
        for key in english.keys() {
            if everything.contains(&format!("\"{key}\""))
                || everything.contains(&format!("\"{}\"", base(key)))
            {
                said.insert(key.clone());
            }
        }
        let silent: Vec<&String> = english.keys().filter(|key| !said.contains(*key)).collect();
        assert_eq!(silent, Vec::<&String>::new(), "{folder}: sentences that nobody says");
    }
}

#[test]
fn what_is_said_before_there_are_texts_is_said_in_the_same_words() {
    let script = std::fs::read_to_string(root().join("www/unable.js")).expect("a script");
    let english = sentences("www/text", "en");
    let early: Vec<_> = english.iter().filter(|(key, _)| key.starts_with("unable.")).collect();
    assert!(!early.is_empty());
    for (key, sentence) in early {
        assert!(script.contains(&format!("\"{sentence}\"")), "{key} is not {sentence:?}");
    }
}

#[test]
fn pages_are_written_in_the_english_that_they_speak() {
    for Site { texts, pages, .. } in SITES {
        let english = sentences(texts, "en");
        for path in pages {
            let page = std::fs::read_to_string(root().join(path)).expect("a page");
            for line in page.lines() {
                for key in quoted(line, "data-text=\"") {
                    let sentence = &english[key];
                    assert!(
                        line.contains(&format!(">{sentence}<")),
                        "{path}: {key} is not {sentence:?}"
                    );
                }
                for (mark, attribute) in
                    [("data-label=\"", "aria-label"), ("data-content=\"", "content")]
                {
                    for key in quoted(line, mark) {
                        let sentence = &english[key];
                        let written = format!("{attribute}=\"{sentence}\"");
                        assert!(line.contains(&written), "{path}: {key} is not {sentence:?}");
                    }
                }
            }
        }
    }
}
