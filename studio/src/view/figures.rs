//! How good it is: figures, and the photographs that they are about.

use page::dom::{append, by_id, element, set_attributes};
use page::language::{say, say_with};
use web_sys::HtmlElement;

use super::Pictures;
use crate::app::Measured;
use crate::project::PhotoId;

/// Sentences with the photographs that they are about.
type Findings = Vec<(String, Vec<usize>)>;

/// Most findings of a kind.
const MOST: usize = 20;

/// Shows figures, or hides their place.
pub(super) fn show(measured: Option<&Measured>, pictures: Pictures<'_>) {
    let place: HtmlElement = by_id("figures");
    place.set_text_content(None);
    place.set_hidden(measured.is_none());
    let Some(measured) = measured else { return };
    let _ = place.class_list().toggle_with_force("stale", measured.stale);
    if measured.stale {
        append(&place, &[&element("p", "stale-note", &say("figures.stale"))]);
    }
    for sentence in sentences(measured) {
        append(&place, &[&element("p", "figure", &sentence)]);
    }
    let figures = &measured.figures;
    let label = |class: usize| figures.classes.get(class).map_or("", |class| class.label.as_str());
    let mistaken = figures.mistaken.iter().map(|pair| {
        let (times, of) = (pair.times.to_string(), pair.of.to_string());
        let values = [
            ("first", label(pair.classes.0)),
            ("second", label(pair.classes.1)),
            ("times", &*times),
            ("of", &*of),
        ];
        (say_with("figures.pair", &values), vec![pair.photos.0, pair.photos.1])
    });
    let suspects = figures.suspects.iter().map(|suspect| {
        let name = name(measured, suspect.photo);
        let values =
            [("name", name), ("label", label(suspect.class)), ("other", label(suspect.looks))];
        (say_with("figures.suspect", &values), vec![suspect.photo])
    });
    let doubles = figures.doubles.iter().map(|pair| {
        let names = [name(measured, pair.photos.0), name(measured, pair.photos.1)];
        let values = [("first", names[0]), ("second", names[1])];
        (say_with("figures.double", &values), vec![pair.photos.0, pair.photos.1])
    });
    let kinds: [(&str, Findings); 3] = [
        ("figures.mistaken", mistaken.take(MOST).collect()),
        ("figures.suspects", suspects.take(MOST).collect()),
        ("figures.doubles", doubles.take(MOST).collect()),
    ];
    if kinds.iter().all(|(_, found)| found.is_empty()) {
        append(&place, &[&element("p", "figure", &say("figures.nothing"))]);
    }
    for (title, found) in kinds.into_iter().filter(|(_, found)| !found.is_empty()) {
        let (part, list) = (element("div", "findings", ""), element("ul", "", ""));
        append(&part, &[&element("h3", "", &say(title)), &list]);
        for (sentence, photos) in found {
            append(&list, &[&finding(measured, &sentence, &photos, pictures)]);
        }
        append(&place, &[&part]);
    }
}

fn name(measured: &Measured, photo: usize) -> &str {
    let name = measured.photos.get(photo).map_or("", |photo| photo.name.as_str());
    name.rsplit('/').next().unwrap_or_default()
}

/// A sentence with the photographs that it is about; each leads to its place among the classes.
fn finding(
    measured: &Measured,
    sentence: &str,
    photos: &[usize],
    pictures: Pictures<'_>,
) -> HtmlElement {
    let finding = element("li", "finding", "");
    for photo in photos {
        let id = measured.photos.get(*photo).and_then(|photo| PhotoId::parse(&photo.content));
        let Some(id) = id else { continue };
        let (button, image) = (element("button", "found", ""), element("img", "", ""));
        let words = say_with("find", &[("name", name(measured, *photo))]);
        set_attributes(&button, &[("type", "button"), ("aria-label", &words)]);
        set_attributes(&button, &[("data-find", &id.to_string())]);
        set_attributes(&image, &[("alt", "")]);
        pictures(&image, id);
        append(&button, &[&image]);
        append(&finding, &[&button]);
    }
    append(&finding, &[&element("span", "", sentence)]);
    finding
}

fn sentences(measured: &Measured) -> Vec<String> {
    let figures = &measured.figures;
    let mut sentences = Vec::new();
    if let Some(Some((percent, error))) = figures.recall.first() {
        let values = [("percent", format!("{percent:.1}")), ("error", format!("{error:.1}"))];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        sentences.push(say_with("figures.first", &values));
    }
    if let Some(open) = &figures.open {
        let numbers = [
            ("right", open.right.0.to_string()),
            ("of", open.right.1.to_string()),
            ("wrong", open.wrong.0.to_string()),
        ];
        let values = numbers.each_ref().map(|(name, value)| (*name, value.as_str()));
        sentences.push(say_with("figures.open", &values));
        let numbers = [("of", open.named.1.to_string()), ("named", open.named.0.to_string())];
        let values = numbers.each_ref().map(|(name, value)| (*name, value.as_str()));
        sentences.push(say_with("figures.named", &values));
    }
    sentences
}
