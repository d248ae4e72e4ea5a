//! The answers in words and pictures: a card for each class that was found.

use std::cell::Cell;

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use wasm_engine::protocol::{Answer, Recognized, RecognizedObject};
use web_sys::HtmlElement;

use super::dom::{append, by_id, document, element, set_attributes};
use super::language::{say, say_with};
use super::teaching::{self, Chosen, Unfinished};
use super::widgets::thumbnail;
use super::{Sender, text};

/// Classes that are named where none is near enough.
const CLOSEST: usize = 3;
/// A picture is one of a class's examples from this cosine on: rounding takes a little.
const SAME: f32 = 0.995;

/// Letters of a name from which on it is written smaller.
const LONG: usize = 48;

/// Shows a card for each class: what somebody pointed at first, the newest before all others.
pub(crate) fn show(result: &Recognized, ask: &Sender) {
    let list: HtmlElement = by_id("answers");
    // Answers to another picture were taken away before.
    let unfinished = teaching::unfinished(&list);
    list.set_text_content(None);
    for group in groups(result) {
        append(&list, &[&card(result, &group, &unfinished, ask)]);
    }
    teaching::focus(&list, &unfinished);
}

/// Where an object is, as an attribute.
fn place_of(object: &RecognizedObject) -> String {
    object.bbox.map(|side| side.to_string()).join(" ")
}

/// Whether an object is where an attribute says. Engines differ by less than a pixel.
fn is_at(object: &RecognizedObject, place: &str) -> bool {
    let sides = place.split(' ').map(|side| side.parse::<f32>().unwrap_or(f32::INFINITY));
    sides.zip(object.bbox).all(|(there, here)| (there - here).abs() <= 1.0)
}

/// Whether an object is the whole picture.
pub(crate) fn is_whole(result: &Recognized, object: &RecognizedObject) -> bool {
    let [x1, y1, x2, y2] = object.bbox;
    let (width, height) = (result.width as f32, result.height as f32);
    x1 < 1.0 && y1 < 1.0 && x2 > width - 1.0 && y2 > height - 1.0
}

/// Objects that were found; somebody pointed at those behind.
pub(crate) fn found(result: &Recognized) -> usize {
    result.objects.len() - result.pointed.min(result.objects.len())
}

/// Whether there are several frames to tell apart.
pub(crate) fn is_numbered(result: &Recognized) -> bool {
    result.objects.iter().filter(|object| !is_whole(result, object)).count() > 1
}

/// The number of an object: frames are counted, the whole picture has none.
pub(crate) fn number(result: &Recognized, index: usize) -> usize {
    let framed = |object: &&RecognizedObject| !is_whole(result, object);
    result.objects.iter().take(index + 1).filter(framed).count()
}

/// Leads to the card of an object.
pub(crate) fn lead_to(object: usize) {
    let chip = document().query_selector(&format!("#answers [data-object=\"{object}\"]"));
    let card = chip.ok().flatten().and_then(|chip| {
        if let Some(button) = chip.dyn_ref::<HtmlElement>() {
            button.click();
        }
        chip.closest("li").ok().flatten()
    });
    if let Some(card) = card {
        card.scroll_into_view();
        let _ = card.unchecked_into::<HtmlElement>().focus();
    }
}

/// Leads to the first card.
pub(crate) fn lead_to_first() {
    if let Some(card) = by_id::<HtmlElement>("answers").first_element_child() {
        let _ = card.unchecked_into::<HtmlElement>().focus();
    }
}

/// Positions of the objects that share a card.
fn groups(result: &Recognized) -> Vec<Vec<usize>> {
    let found = found(result);
    let mut groups: Vec<Vec<usize>> =
        (found..result.objects.len()).rev().map(|index| vec![index]).collect();
    let pointed = groups.len();
    for index in 0..found {
        let name = name_of(&result.objects[index]);
        let mate = groups[pointed..]
            .iter_mut()
            .find(|group| name.is_some() && name_of(&result.objects[group[0]]) == name);
        match mate {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

fn name_of(object: &RecognizedObject) -> Option<&str> {
    let best = object.answers.first().filter(|_| object.known)?;
    Some(&best.label)
}

fn card(
    result: &Recognized,
    group: &[usize],
    unfinished: &[Unfinished],
    ask: &Sender,
) -> HtmlElement {
    let first = &result.objects[group[0]];
    let written = group.iter().find_map(|index| {
        let object = &result.objects[*index];
        Some((*index, unfinished.iter().find(|form| is_at(object, &form.place))?))
    });
    let spoken_of = written.map_or(group[0], |(index, _)| index);
    let best = first.answers.first();
    let name = name_of(first);
    let card = element("li", if first.known { "card" } else { "card unknown" }, "");
    set_attributes(&card, &[("tabindex", "-1"), ("data-count", &group.len().to_string())]);
    set_attributes(&card, &[("data-place", &place_of(&result.objects[spoken_of]))]);
    let top = element("div", "top", "");
    match best.filter(|best| first.known && !best.thumbnail.is_empty()) {
        Some(best) => append(&top, &[&thumbnail(&best.thumbnail)]),
        None if first.known => (),
        None => append(&top, &[&element("span", "nothing", "?")]),
    }
    let words = element("div", "words", "");
    let heading = element("h3", "", "");
    let caption = match (name, best) {
        (Some(name), _) => name.to_owned(),
        (None, Some(_)) => say("unknown"),
        (None, None) => say("empty.gallery"),
    };
    if caption.chars().count() > LONG {
        let _ = heading.class_list().add_1("long");
    }
    let standing = element("div", "standing", "");
    let chosen = Chosen::new(Cell::new(spoken_of));
    // The whole picture has no frame, and so no number.
    let framed = !is_whole(result, first) && is_numbered(result);
    if group[0] >= found(result) {
        append(&words, &[&element("p", "hint", &say("pointed"))]);
    } else if result.pointed > 0 && is_whole(result, first) {
        append(&words, &[&element("p", "hint", &say("whole"))]);
    }
    if framed && group.len() == 1 {
        append(&heading, &[&numbers(result, group, &chosen, &standing)]);
    }
    append(&heading, &[&element("span", "label", &caption)]);
    if group.len() > 1 {
        append(&heading, &[&element("span", "times", &format!("×{}", group.len()))]);
    }
    append(&words, &[&heading]);
    if framed && group.len() > 1 {
        append(&words, &[&numbers(result, group, &chosen, &standing)]);
    }
    append(&words, &[&lead(&first.answers, first.known)]);
    append(&top, &[&words]);
    append(&card, &[&top]);
    if let Some(best) = best.filter(|_| first.known) {
        append(&card, &[&facts(best)]);
    }
    stand(&standing, &result.objects[spoken_of]);
    let form = written.map(|(_, form)| form);
    append(&card, &[&standing, &actions(result.picture, &chosen, first, form, ask)]);
    card
}

/// The numbers of a card's objects; where there are several, one is chosen by its number.
fn numbers(
    result: &Recognized,
    group: &[usize],
    chosen: &Chosen,
    standing: &HtmlElement,
) -> HtmlElement {
    let numbers = element("span", "numbers", "");
    for index in group {
        let (index, caption) = (*index, number(result, *index).to_string());
        let tag = if group.len() > 1 { "button" } else { "span" };
        let chip = element(tag, "number", &caption);
        set_attributes(&chip, &[("data-object", &index.to_string())]);
        if group.len() > 1 {
            let name = say_with("which", &[("number", &caption)]);
            let pressed = if index == chosen.get() { "true" } else { "false" };
            let attributes =
                [("type", "button"), ("aria-label", &*name), ("aria-pressed", pressed)];
            set_attributes(&chip, &attributes);
            let object = result.objects[index].clone();
            let (chosen, standing, all) = (chosen.clone(), standing.clone(), numbers.clone());
            let pressed = chip.clone();
            EventListener::new(&chip, "click", move |_| {
                chosen.set(index);
                if let Ok(Some(card)) = pressed.closest("li") {
                    let _ = card.set_attribute("data-place", &place_of(&object));
                }
                light_up(index);
                stand(&standing, &object);
                let buttons = all.children();
                for place in 0..buttons.length() {
                    if let Some(button) = buttons.item(place) {
                        let _ = button.set_attribute("aria-pressed", "false");
                    }
                }
                set_attributes(&pressed, &[("aria-pressed", "true")]);
            })
            .forget();
        }
        append(&numbers, &[&chip]);
    }
    numbers
}

/// Makes the frame of one object stand out.
fn light_up(object: usize) {
    let boxes = by_id::<HtmlElement>("boxes").children();
    for place in 0..boxes.length() {
        let Some(frame) = boxes.item(place) else { continue };
        let chosen = frame.get_attribute("data-box") == Some(object.to_string());
        let _ = frame.class_list().toggle_with_force("chosen", chosen);
    }
}

/// How far the best class is ahead, or which are the closest.
fn lead(answers: &[Answer], known: bool) -> HtmlElement {
    let sentence = match answers {
        [] => say("teach.empty"),
        _ if !known => {
            let closest = element("div", "closest", "");
            append(&closest, &[&element("p", "lead", &say("closest"))]);
            let list = element("ul", "", "");
            for answer in answers.iter().take(CLOSEST) {
                let item = element("li", "", "");
                if !answer.thumbnail.is_empty() {
                    append(&item, &[&thumbnail(&answer.thumbnail)]);
                }
                append(&item, &[&element("span", "name", &answer.label)]);
                append(&list, &[&item]);
            }
            append(&closest, &[&list]);
            return closest;
        }
        [best, next, ..] => format!("{} {}", text::lead(best, next), text::sure(best)),
        [best] => text::sure(best),
    };
    let sentence = sentence.trim_end();
    element("p", "lead", sentence)
}

/// Shows how alike the best two classes are, beside what the best one needs.
fn stand(place: &HtmlElement, object: &RecognizedObject) {
    place.set_text_content(None);
    let Some(best) = object.answers.first() else { return };
    let next = object.answers.get(1);
    let scale = element("div", "scale", "");
    set_attributes(&scale, &[("role", "img"), ("aria-label", &text::scale(best, next))]);
    let track = element("div", "track", "");
    let legend = element("p", "legend", "");
    let least = (best.min_similarity, "least", say("scale.from"));
    let marks = next
        .map(|next| (next.similarity, "second", next.label.clone()))
        .into_iter()
        .chain([(best.similarity, "first", best.label.clone()), least]);
    for (value, kind, caption) in marks {
        let mark = element("span", &format!("mark {kind}"), "");
        let left = format!("{:.1}%", value.clamp(0.0, 1.0) * 100.0);
        let _ = mark.style().set_property("left", &left);
        append(&track, &[&mark]);
        append(&legend, &[&element("span", &format!("key {kind}"), &caption)]);
    }
    append(&scale, &[&track, &legend]);
    append(place, &[&scale]);
}

/// What the owner says about a class, in the owner's order.
fn facts(answer: &Answer) -> HtmlElement {
    let list = element("dl", "facts", "");
    for (name, value) in &answer.metadata {
        let text = element("dd", "", "");
        append(&text, &[&fact(value)]);
        append(&list, &[&element("dt", "", name), &text]);
    }
    list
}

/// An address becomes a link, everything else stays text.
fn fact(value: &str) -> HtmlElement {
    if !["https://", "http://"].iter().any(|scheme| value.starts_with(scheme)) {
        return element("span", "", value);
    }
    let link = element("a", "", value);
    // The other site learns nothing of this page.
    let away = [("href", value), ("target", "_blank"), ("rel", "noopener noreferrer")];
    set_attributes(&link, &away);
    link
}

/// Where the visitor says whether it is right.
fn actions(
    picture: u32,
    chosen: &Chosen,
    object: &RecognizedObject,
    form: Option<&Unfinished>,
    ask: &Sender,
) -> HtmlElement {
    let actions = element("div", "actions", "");
    if let Some(best) = object.answers.first().filter(|_| object.known) {
        if best.similarity < SAME {
            append(&actions, &[&teaching::confirmation(picture, chosen, &best.label, ask)]);
        } else {
            append(&actions, &[&element("p", "hint", &say("example"))]);
        }
    }
    append(&actions, &[&teaching::correction(picture, chosen, object, form, ask)]);
    actions
}
