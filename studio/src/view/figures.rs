//! How good it is: figures, and the photographs that they are about.

use page::dom::{append, by_id, element, set_attributes};
use page::language::{say, say_count, say_with};
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use super::Pictures;
use super::curve::curve;
use crate::app::Measured;
use crate::project::PhotoId;

/// Sentences with the photographs that they are about.
type Findings = Vec<(String, Vec<usize>)>;

/// Most findings of a kind.
const MOST: usize = 20;

/// Shows figures, or hides their place.
pub(super) fn show(measured: Option<&Measured>, pictures: Pictures<'_>) {
    let place: HtmlElement = by_id("figures");
    let is_open = place.query_selector("details[open]").is_ok_and(|open| open.is_some());
    place.set_text_content(None);
    place.set_hidden(measured.is_none());
    let Some(measured) = measured else { return };
    let _ = place.class_list().toggle_with_force("stale", measured.stale);
    if measured.stale {
        let note = if measured.renewing { "figures.renewing" } else { "figures.stale" };
        append(&place, &[&element("p", "stale-note", &say(note))]);
    } else if measured.figures.are_nearly {
        append(&place, &[&element("p", "stale-note", &say("figures.nearly"))]);
    }
    for sentence in sentences(measured) {
        append(&place, &[&element("p", "figure", &sentence)]);
    }
    let kinds = kinds(measured);
    if kinds.iter().all(|(_, found)| found.is_empty()) {
        append(&place, &[&element("p", "figure", &say("figures.nothing"))]);
    }
    for (title, found) in kinds.into_iter().filter(|(_, found)| !found.is_empty()) {
        let (part, list) = (element("div", "findings", ""), element("ul", "", ""));
        append(&part, &[&element("h3", "", &title), &list]);
        for (sentence, photos) in found {
            append(&list, &[&finding(measured, &sentence, &photos, pictures)]);
        }
        append(&place, &[&part]);
    }
    append(&place, &[&of_classes(measured)]);
    if let Some(curve) = curve(&measured.figures.curve) {
        append(&place, &[&curve]);
    }
    if is_open {
        let all = place.query_selector_all("details").ok();
        let all = all.iter().flat_map(|all| (0..all.length()).filter_map(|place| all.item(place)));
        for details in all.filter_map(|details| details.dyn_into::<HtmlElement>().ok()) {
            set_attributes(&details, &[("open", "")]);
        }
    }
}

/// What stands out, each kind under its title.
fn kinds(measured: &Measured) -> [(String, Findings); 5] {
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
    let outliers = figures.outliers.iter().map(|outlier| {
        let values = [("name", name(measured, outlier.photo)), ("label", label(outlier.class))];
        (say_with("figures.outlier", &values), vec![outlier.photo])
    });
    let few = figures.few.iter().map(|(class, count)| {
        // The count is said first, so that a name cannot be taken for it.
        let said = say_count("figures.class.few", *count);
        (said.replacen("{label}", label(*class), 1), Vec::new())
    });
    [
        (say("figures.mistaken"), mistaken.take(MOST).collect()),
        (say("figures.suspects"), suspects.take(MOST).collect()),
        (say("figures.doubles"), doubles.take(MOST).collect()),
        (say("figures.outliers"), outliers.take(MOST).collect()),
        (say("figures.scarce"), few.take(MOST).collect()),
    ]
}

/// Each class with the photographs of it that are recognized.
fn of_classes(measured: &Measured) -> HtmlElement {
    let (details, table) = (element("details", "rows-of", ""), element("table", "rows", ""));
    append(&details, &[&element("summary", "", &say("figures.classes")), &table]);
    let head = element("tr", "", "");
    for words in [say("figures.class"), say("figures.photos"), say("figures.right")] {
        let cell = element("th", "", &words);
        set_attributes(&cell, &[("scope", "col")]);
        append(&head, &[&cell]);
    }
    append(&table, &[&head]);
    for class in &measured.figures.classes {
        let (right, of) = class.right;
        let right = if of == 0 { "–".to_owned() } else { format!("{right} / {of}") };
        let (row, label) = (element("tr", "", ""), element("th", "", &class.label));
        set_attributes(&label, &[("scope", "row")]);
        let photos = element("td", "", &class.photos.to_string());
        append(&row, &[&label, &photos, &element("td", "", &right)]);
        append(&table, &[&row]);
    }
    details
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
        let Some(listed) = measured.photos.get(*photo) else { continue };
        let words = say_with("find", &[("name", name(measured, *photo))]);
        if let Some(button) = picture_of(&listed.content, &words, pictures) {
            append(&finding, &[&button]);
        }
    }
    append(&finding, &[&element("span", "", sentence)]);
    finding
}

/// The small picture of a photograph as a button that leads to it.
pub(super) fn picture_of(
    content: &str,
    words: &str,
    pictures: Pictures<'_>,
) -> Option<HtmlElement> {
    let id = PhotoId::parse(content)?;
    let (button, image) = (element("button", "found", ""), element("img", "", ""));
    set_attributes(&button, &[("type", "button"), ("aria-label", words)]);
    set_attributes(&button, &[("data-find", &id.to_string())]);
    set_attributes(&image, &[("alt", "")]);
    pictures(&image, id);
    append(&button, &[&image]);
    Some(button)
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
    if figures.open.is_none() && figures.photos > 0 {
        sentences.push(say("figures.no.threshold"));
    }
    if let Some(map) = &figures.map {
        let share = |count: usize| format!("{:.1}", 100.0 * count as f64 / map.of.max(1) as f64);
        let (before, after) = (share(map.before), share(map.after));
        let values = [("before", before.as_str()), ("after", after.as_str())];
        sentences.push(if map.kept {
            say_with("figures.adapted", &values)
        } else {
            say_with("figures.not.adapted", &values)
        });
    }
    match figures.crop.as_str() {
        "middle" => sentences.push(say("figures.crop.middle")),
        "main" => sentences.push(say("figures.crop.main")),
        "both" => sentences.push(say("figures.crop.both")),
        _ => {}
    }
    sentences
}
