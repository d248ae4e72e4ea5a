//! How the gallery is made, which project is open, and what the owner is asked.

use page::dom::{append, by_id, document, element, set_attributes};
use page::language::{say, say_count, say_with};
use web_sys::{HtmlButtonElement, HtmlElement, HtmlInputElement, HtmlSelectElement};

use super::{text, write};
use crate::app::{Lack, Look, Offer, Seen, Sentence};

/// Buttons that make something.
const MAKERS: [&str; 4] = ["measure", "save-gallery", "save-site", "write-site"];

/// Shows them.
pub(super) fn show(before: Option<&Seen>, seen: &Seen) {
    for id in MAKERS {
        by_id::<HtmlButtonElement>(id).set_disabled(seen.lack.is_some());
    }
    by_id::<HtmlInputElement>("picture").set_disabled(seen.lack == Some(Lack::Classes));
    by_id::<HtmlButtonElement>("film-try").set_disabled(seen.lack == Some(Lack::Classes));
    // Why nothing can be made stands where it would be.
    let (sentence, look) = &seen.status;
    let words = match seen.lack {
        Some(Lack::Classes) => say("two.classes"),
        _ if is_of_engine(sentence) => text::status(sentence),
        _ => String::new(),
    };
    let says: HtmlElement = by_id("make-says");
    write(&says, &words);
    let is_failed = *look == Look::Failed && seen.lack.is_none();
    says.set_class_name(if is_failed { "hint failed" } else { "hint" });
    settings(seen);
    if before.map(|before| &before.shelf) != Some(&seen.shelf) {
        projects(seen);
    }
    if before.map(|before| &before.offer) != Some(&seen.offer) {
        offer(seen.offer.as_ref());
    }
}

/// Whether a sentence is about what is made.
fn is_of_engine(sentence: &Sentence) -> bool {
    const KEYS: [&str; 11] = [
        "opening",
        "looking",
        "making",
        "measured",
        "gallery.saved",
        "site.saved",
        "site.written",
        "stopped",
        "trying",
        "tried",
        "wait.coming",
    ];
    match sentence {
        Sentence::Key(key) => KEYS.contains(key),
        Sentence::Engine(_) => true,
        _ => false,
    }
}

fn settings(seen: &Seen) {
    let part: HtmlSelectElement = by_id("part");
    part.set_value(seen.settings.crop.map_or("", |crop| crop.name()));
    by_id::<HtmlInputElement>("adapt").set_checked(seen.settings.adapt);
    by_id::<HtmlSelectElement>("named").set_value(&seen.settings.named.to_string());
}

fn projects(seen: &Seen) {
    let select: HtmlSelectElement = by_id("projects");
    select.set_text_content(None);
    for (number, project) in seen.shelf.iter().enumerate() {
        let number = (number + 1).to_string();
        let words = if project.title.is_empty() {
            say_with("project.number", &[("number", &number)])
        } else {
            project.title.clone()
        };
        let option = element("option", "", &words);
        set_attributes(&option, &[("value", &project.id)]);
        append(&select, &[&option]);
    }
    if let Some(open) = seen.shelf.iter().find(|project| project.open) {
        select.set_value(&open.id);
    }
    by_id::<HtmlElement>("shelf").set_hidden(seen.shelf.is_empty());
    by_id::<HtmlElement>("remove-project").set_hidden(seen.shelf.len() < 2);
}

fn offer(offer: Option<&Offer>) {
    let place: HtmlElement = by_id("offer");
    let has_focus = place.contains(document().active_element().as_deref());
    place.set_hidden(offer.is_none());
    let Some(Offer { photos, label }) = offer else {
        if has_focus {
            let _ = by_id::<HtmlElement>("classes").focus();
        }
        return;
    };
    let words = match label {
        // The count is said first, so that a name cannot be taken for it.
        Some(label) => say_count("offer.class", *photos).replacen("{label}", label, 1),
        None => say_count("offer.several", *photos),
    };
    write(&by_id("offer-says"), &words);
}
