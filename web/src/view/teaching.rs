//! What a visitor does to the gallery: corrections on the answers, and the panel of all classes.

use std::cell::Cell;
use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsCast;
use wasm_engine::protocol::{
    AlikePair, Answer, ClassView, Edit, GalleryView, RecognizedObject, Request,
};
use web_sys::{
    Blob, HtmlButtonElement, HtmlDetailsElement, HtmlElement, HtmlInputElement, KeyboardEvent, Url,
};

use super::dialog::{self, LONGEST_NAME};
use super::dom::{append, by_id, document, element, set_attributes};
use super::language::say;
use super::{Sender, text, widgets};
use crate::app::Event;

/// Name of an exported file.
const EXPORT_NAME: &str = "gallery-taught.bin";
/// Classes that a visitor without a picture is shown.
const EXAMPLES: usize = 12;
/// Names that a visitor may choose from, beside writing one.
const OFFERED: usize = 4;

/// The object of a card that is spoken of; others of the same class share the card.
pub(crate) type Chosen = Rc<Cell<usize>>;

/// Says that a form was sent, and waits for its answer.
const SENT: &str = "data-sent";

/// A form that the visitor has opened and not sent.
pub(crate) struct Unfinished {
    /// Where its object is, as its card says.
    pub(crate) place: String,
    written: String,
    /// Whether the visitor writes there, and from which letter to which one is marked.
    focus: Option<(u32, u32)>,
}

/// The forms on these cards that were not sent.
pub(crate) fn unfinished(cards: &HtmlElement) -> Vec<Unfinished> {
    let mut found = Vec::new();
    let Ok(forms) = cards.query_selector_all(&format!(".teach:not([{SENT}])")) else {
        return found;
    };
    for index in 0..forms.length() {
        let form = forms.item(index).and_then(|form| form.dyn_into::<HtmlElement>().ok());
        let Some(form) = form else { continue };
        let card = form.closest("li").ok().flatten();
        let place = card.and_then(|card| card.get_attribute("data-place"));
        let input = form.query_selector("input").ok().flatten();
        let input = input.and_then(|input| input.dyn_into::<HtmlInputElement>().ok());
        if let (Some(place), Some(input)) = (place, input) {
            let here = document().active_element().is_some_and(|element| element == **input);
            let end = |at: Result<Option<u32>, _>| at.ok().flatten().unwrap_or_default();
            let focus = here.then(|| (end(input.selection_start()), end(input.selection_end())));
            found.push(Unfinished { place, written: input.value(), focus });
        }
    }
    found
}

/// Lets the visitor write on in the form where that was.
pub(crate) fn focus(cards: &HtmlElement, unfinished: &[Unfinished]) {
    let Some(form) = unfinished.iter().find(|form| form.focus.is_some()) else { return };
    let Ok(inputs) = cards.query_selector_all(".teach input") else { return };
    for index in 0..inputs.length() {
        let input = inputs.item(index).and_then(|input| input.dyn_into::<HtmlInputElement>().ok());
        let Some(input) = input else { continue };
        let card = input.closest("li").ok().flatten();
        let place = card.and_then(|card| card.get_attribute("data-place"));
        if place.as_deref() == Some(&*form.place) || inputs.length() == 1 {
            let _ = input.focus();
            if let Some((from, to)) = form.focus {
                let _ = input.set_selection_range(from, to);
            }
            return;
        }
    }
}

/// Listens to the panel for as long as the result lives.
pub(crate) fn listen(ask: &Sender) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    let panel: HtmlDetailsElement = by_id("gallery-panel");
    let search: HtmlInputElement = by_id("class-search");
    let asking = ask.clone();
    listeners.push(EventListener::new(&panel.clone(), "toggle", move |_| {
        asking(Event::Panel(panel.open()));
    }));
    let asking = ask.clone();
    listeners.push(EventListener::new(&search.clone(), "input", move |_| {
        asking(Event::Filter(search.value()));
    }));
    for (id, request) in [
        ("undo", Request::Undo),
        ("reset", Request::Reset),
        ("export", Request::Export),
        ("alike", Request::Alike),
    ] {
        let button: HtmlButtonElement = by_id(id);
        let ask = ask.clone();
        listeners.push(EventListener::new(&button, "click", move |_| {
            let (ask, request) = (ask.clone(), request.clone());
            let go = move || ask(Event::Ask(request.clone()));
            if id == "reset" {
                dialog::ask_whether(&say("reset.sure"), &say("reset"), go);
            } else {
                go();
            }
        }));
    }
    let edit: HtmlElement = by_id("edit");
    listeners.push(EventListener::new(&edit.clone(), "click", move |_| {
        let panel: HtmlDetailsElement = by_id("gallery-panel");
        let on = panel.class_list().toggle("edited").unwrap_or_default();
        set_attributes(&edit, &[("aria-pressed", if on { "true" } else { "false" })]);
    }));
    let all: HtmlElement = by_id("all-known");
    listeners.push(EventListener::new(&all, "click", move |_| {
        let panel: HtmlDetailsElement = by_id("gallery-panel");
        panel.set_open(true);
        panel.scroll_into_view();
        let _ = by_id::<HtmlElement>("class-search").focus();
    }));
    listeners
}

/// Nothing is looked for by its name.
pub(crate) fn clear_filter() {
    by_id::<HtmlInputElement>("class-search").set_value("");
}

/// Names and shows some classes, from all over the list, to a visitor who has given no picture yet.
fn show_examples(gallery: &GalleryView) {
    by_id::<HtmlElement>("known").set_hidden(gallery.shown.is_empty());
    let list: HtmlElement = by_id("examples");
    list.set_text_content(None);
    let step = (gallery.shown.len() / EXAMPLES).max(1);
    for class in gallery.shown.iter().step_by(step).take(EXAMPLES) {
        let item = element("li", "", "");
        if !class.thumbnail.is_empty() {
            append(&item, &[&widgets::thumbnail(&class.thumbnail)]);
        }
        append(&item, &[&element("span", "name", &class.label)]);
        append(&list, &[&item]);
    }
}

/// Shows what the gallery holds.
pub(crate) fn show(gallery: &GalleryView, ask: &Sender) {
    by_id::<HtmlElement>("alike-classes").set_text_content(None);
    if gallery.matching + gallery.unlisted == gallery.classes {
        show_examples(gallery);
    }
    let size = text::gallery(gallery.classes, gallery.entries);
    by_id::<HtmlElement>("gallery").set_text_content(Some(&size));
    by_id::<HtmlButtonElement>("undo").set_disabled(!gallery.can_undo);
    by_id::<HtmlButtonElement>("reset").set_disabled(!gallery.edited);
    let note = text::kept(gallery.edited, gallery.kept);
    by_id::<HtmlElement>("kept").set_text_content(Some(&note));
    let list: HtmlElement = by_id("classes");
    list.set_text_content(None);
    let names: HtmlElement = by_id("labels");
    names.set_text_content(None);
    for class in &gallery.shown {
        append(&list, &[&row(class, ask)]);
        let option = element("option", "", "");
        set_attributes(&option, &[("value", &class.label)]);
        append(&names, &[&option]);
    }
    let rest = text::more_classes(gallery.matching, gallery.shown.len(), gallery.unlisted);
    by_id::<HtmlElement>("more-classes").set_text_content(Some(&rest));
}

/// One class: its picture, its name, its size, and what can be done with it.
fn row(class: &ClassView, ask: &Sender) -> HtmlElement {
    let row = element("li", "class", "");
    if !class.thumbnail.is_empty() {
        append(&row, &[&widgets::thumbnail(&class.thumbnail)]);
    }
    let name = element("span", "name", &class.label);
    let count = element("span", "count", &text::pictures(class.entries));
    append(&row, &[&name, &count]);
    let rename = button(&say("rename"), &text::rename_class(&class.label));
    let remove = button(&say("remove"), &text::remove_class(&class.label));
    let changes = element("span", "editing", "");
    append(&changes, &[&rename, &remove]);
    append(&row, &[&changes]);
    let (label, asking) = (class.label.clone(), ask.clone());
    on_click(&rename, move || {
        let (from, asking) = (label.clone(), asking.clone());
        dialog::ask_name(&text::new_name(&label), &say("rename"), &label, None, move |to| {
            if to.trim() != from {
                asking(Event::Ask(Request::Edit(Edit::Rename { from: from.clone(), to })));
            }
        });
    });
    let (label, asking) = (class.label.clone(), ask.clone());
    on_click(&remove, move || {
        let (label, asking) = (label.clone(), asking.clone());
        dialog::ask_whether(&text::remove_sure(&label), &say("remove"), move || {
            asking(Event::Ask(Request::Edit(Edit::Remove { label: label.clone() })));
        });
    });
    row
}

/// The part of an answer where the visitor says what the object is.
pub(crate) fn correction(
    picture: u32,
    chosen: &Chosen,
    object: &RecognizedObject,
    unfinished: Option<&Unfinished>,
    ask: &Sender,
) -> HtmlElement {
    let part = element("div", "correction", "");
    let open = button(&say(if object.known { "not.this" } else { "teach" }), "");
    set_attributes(&open, &[("aria-expanded", "false")]);
    append(&part, &[&open]);
    // What it is not is not offered.
    let offered: Vec<Answer> =
        object.answers.iter().skip(usize::from(object.known)).take(OFFERED).cloned().collect();
    let (shown, opener, asking, chosen) = (part.clone(), open.clone(), ask.clone(), chosen.clone());
    let begin = move || {
        opener.set_hidden(true);
        let form = form(picture, &chosen, &offered, &asking);
        append(&shown, &[&form]);
        let (closed, opener) = (form.clone(), opener.clone());
        let close = Rc::new(move || {
            closed.remove();
            opener.set_hidden(false);
            let _ = opener.focus();
        });
        if let Ok(Some(cancel)) = form.query_selector(".cancel") {
            let close = close.clone();
            on_click(&cancel.unchecked_into(), move || close());
        }
        EventListener::new(&form, "keydown", move |event| {
            let key = event.dyn_ref::<KeyboardEvent>().map(KeyboardEvent::key);
            if key.as_deref() == Some("Escape") {
                close();
            }
        })
        .forget();
        let input = form.query_selector("input").ok().flatten();
        input.map(JsCast::unchecked_into::<HtmlInputElement>)
    };
    if let Some(unfinished) = unfinished
        && let Some(input) = begin()
    {
        input.set_value(&unfinished.written);
    }
    let ask = ask.clone();
    on_click(&open, move || {
        ask(Event::Hold);
        if let Some(input) = begin() {
            let _ = input.focus();
        }
    });
    part
}

fn form(picture: u32, chosen: &Chosen, offered: &[Answer], ask: &Sender) -> HtmlElement {
    let form = element("form", "teach", "");
    append(&form, &[&element("p", "question", &say("what.is.it"))]);
    if !offered.is_empty() {
        let choices = element("div", "choices", "");
        set_attributes(&choices, &[("role", "group"), ("aria-label", &say("one.of.these"))]);
        for answer in offered {
            let choice = choice(picture, chosen, answer, ask);
            let sent = form.clone();
            on_click(&choice, move || set_attributes(&sent, &[(SENT, "")]));
            append(&choices, &[&choice]);
        }
        append(&form, &[&choices]);
    }
    let label = element("label", "", "");
    append(&label, &[&element("span", "", &say("type.it"))]);
    let input = element("input", "", "");
    set_attributes(
        &input,
        &[
            ("list", "labels"),
            ("required", ""),
            ("maxlength", LONGEST_NAME),
            ("autocomplete", "off"),
        ],
    );
    append(&label, &[&input]);
    let submit = element("button", "button primary", &say("teach.it"));
    set_attributes(&submit, &[("type", "submit")]);
    let cancel = element("button", "button cancel", &say("cancel"));
    set_attributes(&cancel, &[("type", "button")]);
    append(&form, &[&label, &submit, &cancel]);
    let input: HtmlInputElement = input.unchecked_into();
    // Names that exist are offered while typing.
    let (typed, asking, written) = (input.clone(), ask.clone(), form.clone());
    EventListener::new(&input, "input", move |_| {
        // One that was refused is written anew.
        let _ = written.remove_attribute(SENT);
        asking(Event::Ask(Request::List { filter: typed.value() }));
    })
    .forget();
    let (ask, chosen, sent) = (ask.clone(), chosen.clone(), form.clone());
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(&form, "submit", options, move |event| {
        event.prevent_default();
        set_attributes(&sent, &[(SENT, "")]);
        teach(picture, &chosen, input.value(), &ask);
    })
    .forget();
    form
}

/// A button that teaches an object one of the names that were offered.
fn choice(picture: u32, chosen: &Chosen, answer: &Answer, ask: &Sender) -> HtmlElement {
    let button = button("", &text::it_is(&answer.label));
    if !answer.thumbnail.is_empty() {
        append(&button, &[&widgets::thumbnail(&answer.thumbnail)]);
    }
    append(&button, &[&element("span", "name", &answer.label)]);
    let (label, chosen, ask) = (answer.label.clone(), chosen.clone(), ask.clone());
    on_click(&button, move || teach(picture, &chosen, label.clone(), &ask));
    button
}

/// A button that adds an object to the class that it was recognized as.
pub(crate) fn confirmation(
    picture: u32,
    chosen: &Chosen,
    label: &str,
    ask: &Sender,
) -> HtmlElement {
    let button = button(&say("yes.it.is"), "");
    let _ = button.class_list().add_1("confirm");
    let (label, chosen, ask) = (label.to_owned(), chosen.clone(), ask.clone());
    on_click(&button, move || {
        ask(Event::Hold);
        teach(picture, &chosen, label.clone(), &ask);
    });
    button
}

fn teach(picture: u32, chosen: &Chosen, label: String, ask: &Sender) {
    ask(Event::Ask(Request::Edit(Edit::Teach { picture, object: chosen.get(), label })));
}

fn button(caption: &str, name: &str) -> HtmlElement {
    let button = element("button", "button small", caption);
    set_attributes(&button, &[("type", "button")]);
    if !name.is_empty() {
        set_attributes(&button, &[("aria-label", name)]);
    }
    button
}

/// Listens for as long as the element is there.
fn on_click(element: &HtmlElement, act: impl Fn() + 'static) {
    EventListener::new(element, "click", move |_| act()).forget();
}

/// Shows classes that may be mistaken for each other.
pub(crate) fn show_alike(pairs: &[AlikePair]) {
    let place: HtmlElement = by_id("alike-classes");
    place.set_text_content(None);
    let heading = if pairs.is_empty() { "alike.none" } else { "alike.found" };
    append(&place, &[&element("p", "hint", &say(heading))]);
    let list = element("ul", "", "");
    for pair in pairs {
        append(&list, &[&element("li", "", &text::alike(pair))]);
    }
    append(&place, &[&list]);
}

/// Hands a gallery file to the visitor.
pub(crate) fn download(bytes: &[u8]) {
    let parts = Array::of1(&Uint8Array::from(bytes));
    if let Ok(blob) = Blob::new_with_u8_array_sequence(&parts)
        && let Ok(url) = Url::create_object_url_with_blob(&blob)
    {
        let link = element("a", "", "");
        set_attributes(&link, &[("href", &url), ("download", EXPORT_NAME)]);
        if let Some(body) = document().body() {
            append(&body, &[&link]);
            link.click();
            link.remove();
        }
        let _ = Url::revoke_object_url(&url);
    }
}
