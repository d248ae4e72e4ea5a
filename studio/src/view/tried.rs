//! A picture that is none of the photographs, and what the gallery says of it.

use page::dom::{append, by_id, element, set_attributes};
use page::language::{say, say_with};
use web_sys::HtmlElement;

use super::Pictures;
use super::figures::picture_of;
use crate::app::{Answer, Trying};

/// Shows a picture with its answer, or hides their place.
pub(super) fn show(trying: Option<&Trying>, pictures: Pictures<'_>) {
    let place: HtmlElement = by_id("tried");
    place.set_text_content(None);
    let Some(Trying::Answered(name, answer)) = trying else {
        place.set_hidden(true);
        return;
    };
    place.set_hidden(false);
    let (finding, image) = (element("div", "finding", ""), element("img", "asked", ""));
    set_attributes(&image, &[("alt", name), ("src", &answer.address)]);
    let said = element("p", "figure", &sentence(answer));
    append(&finding, &[&image, &said]);
    append(&place, &[&element("h3", "", &say("tried.title")), &finding]);
    if answer.similar.is_empty() {
        return;
    }
    let row = element("div", "finding", "");
    for similar in &answer.similar {
        let percent = percent(similar.similarity);
        let values = [("name", similar.label.as_str()), ("percent", &percent)];
        let words = say_with("tried.alike", &values);
        if let Some(button) = picture_of(&similar.content, &words, pictures) {
            let (part, label) = (element("div", "alike", ""), element("span", "", &similar.label));
            append(&part, &[&button, &label, &element("span", "count", &format!("{percent} %"))]);
            append(&row, &[&part]);
        }
    }
    append(&place, &[&element("h3", "", &say("tried.similar")), &row]);
}

fn percent(share: f32) -> String {
    format!("{:.0}", 100.0 * share)
}

fn sentence(answer: &Answer) -> String {
    let Some((label, similarity)) = answer.matches.first() else { return say("tried.nothing") };
    let similarity = percent(*similarity);
    let values = [("label", label.as_str()), ("percent", &*similarity)];
    match (answer.known, answer.probability) {
        (true, Some(probability)) => {
            let sure = percent(probability);
            let values = [values[0], values[1], ("sure", &*sure)];
            say_with("tried.sure", &values)
        }
        (true, None) => say_with("tried.known", &values),
        (false, _) => say_with("tried.unknown", &values),
    }
}
