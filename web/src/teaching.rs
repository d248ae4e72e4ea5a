//! What a visitor does to the gallery: corrections on the answers, and the panel of all classes.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsCast;
use wasm_engine::protocol::{AlikePair, Change, ClassView, Edit, GalleryView, Request};
use web_sys::{Blob, HtmlButtonElement, HtmlDetailsElement, HtmlElement, HtmlInputElement, Url};

use crate::dom::{append, by_id, document, element, set_attributes, window};
use crate::language::say;
use crate::{text, view};

/// Name of an exported file.
const EXPORT_NAME: &str = "gallery.bin";

/// Where the visitor's wishes go.
pub(crate) type Ask = Rc<dyn Fn(Wish)>;

/// What the visitor wants.
pub(crate) enum Wish {
    /// Something that the engine answers.
    Ask(Request),
    /// A picture that stands still, to name what is on it.
    Hold,
    /// To see what the network was given.
    LookInside,
    /// A gallery file to add.
    Import(web_sys::File),
}

/// Listens to the panel for as long as the result lives.
pub(crate) fn listen(ask: &Ask) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    let panel: HtmlDetailsElement = by_id("gallery-panel");
    let search: HtmlInputElement = by_id("class-search");
    let list = {
        let ask = ask.clone();
        move || list(&ask)
    };
    listeners.push(EventListener::new(&panel, "toggle", {
        let list = list.clone();
        move |_| list()
    }));
    listeners.push(EventListener::new(&search, "input", move |_| list()));
    for (id, request) in [
        ("undo", Request::Undo),
        ("reset", Request::Reset),
        ("export", Request::Export),
        ("alike", Request::Alike),
    ] {
        let button: HtmlButtonElement = by_id(id);
        let ask = ask.clone();
        listeners.push(EventListener::new(&button, "click", move |_| {
            let sure = id != "reset"
                || window().confirm_with_message(&say("reset.sure")).unwrap_or_default();
            if sure {
                ask(Wish::Ask(request.clone()));
            }
        }));
    }
    let import: HtmlInputElement = by_id("import");
    let ask = ask.clone();
    listeners.push(EventListener::new(&import.clone(), "change", move |_| {
        if let Some(file) = import.files().and_then(|files| files.get(0)) {
            ask(Wish::Import(file));
        }
        // The same file may be chosen again.
        import.set_value("");
    }));
    listeners
}

/// Asks what the gallery holds, where somebody looks at it.
pub(crate) fn list(ask: &Ask) {
    if by_id::<HtmlDetailsElement>("gallery-panel").open() {
        let filter = by_id::<HtmlInputElement>("class-search").value();
        ask(Wish::Ask(Request::List { filter }));
    }
}

/// Shows what the gallery holds.
pub(crate) fn show(gallery: &GalleryView, ask: &Ask) {
    by_id::<HtmlElement>("alike-classes").set_text_content(None);
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
fn row(class: &ClassView, ask: &Ask) -> HtmlElement {
    let row = element("li", "class", "");
    if !class.thumbnail.is_empty() {
        append(&row, &[&view::thumbnail(&class.thumbnail)]);
    }
    let name = element("span", "name", &class.label);
    let count = element("span", "count", &text::pictures(class.entries));
    append(&row, &[&name, &count]);
    let rename = button(&say("rename"), &text::rename_class(&class.label));
    let remove = button(&say("remove"), &text::remove_class(&class.label));
    append(&row, &[&rename, &remove]);
    let (label, asking) = (class.label.clone(), ask.clone());
    on_click(&rename, move || {
        let question = text::new_name(&label);
        let answer = window().prompt_with_message_and_default(&question, &label);
        if let Ok(Some(to)) = answer
            && to.trim() != label
        {
            asking(Wish::Ask(Request::Edit(Edit::Rename { from: label.clone(), to })));
        }
    });
    let (label, asking) = (class.label.clone(), ask.clone());
    on_click(&remove, move || {
        asking(Wish::Ask(Request::Edit(Edit::Remove { label: label.clone() })));
    });
    row
}

/// The part of an answer where the visitor says what the object is.
///
/// `others` are the runners-up: one press is enough where one of them is right.
pub(crate) fn correction(picture: u32, object: usize, known: bool, ask: &Ask) -> HtmlElement {
    let part = element("div", "correction", "");
    let open = button(&say(if known { "not.this" } else { "teach" }), "");
    set_attributes(&open, &[("aria-expanded", "false")]);
    append(&part, &[&open]);
    let (shown, opener, asking) = (part.clone(), open.clone(), ask.clone());
    on_click(&open, move || {
        asking(Wish::Hold);
        opener.set_hidden(true);
        let form = form(picture, object, &asking);
        append(&shown, &[&form]);
        if let Ok(Some(input)) = form.query_selector("input") {
            let _ = input.unchecked_into::<HtmlElement>().focus();
        }
    });
    part
}

fn form(picture: u32, object: usize, ask: &Ask) -> HtmlElement {
    let form = element("form", "teach", "");
    let label = element("label", "", &say("what.is.it"));
    let input = element("input", "", "");
    set_attributes(
        &input,
        &[("list", "labels"), ("required", ""), ("maxlength", "200"), ("autocomplete", "off")],
    );
    append(&label, &[&input]);
    let submit = element("button", "button primary", &say("teach.it"));
    set_attributes(&submit, &[("type", "submit")]);
    append(&form, &[&label, &submit]);
    let input: HtmlInputElement = input.unchecked_into();
    // Names that exist are offered while typing.
    let (typed, asking) = (input.clone(), ask.clone());
    EventListener::new(&input, "input", move |_| {
        asking(Wish::Ask(Request::List { filter: typed.value() }));
    })
    .forget();
    let ask = ask.clone();
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(&form, "submit", options, move |event| {
        event.prevent_default();
        let label = input.value();
        ask(Wish::Ask(Request::Edit(Edit::Teach { picture, object, label })));
    })
    .forget();
    form
}

/// A button that teaches an object one of the names that were offered.
pub(crate) fn choice(picture: u32, object: usize, label: &str, ask: &Ask) -> HtmlElement {
    let button = button(&say("it.is.this"), &text::it_is(label));
    let (label, ask) = (label.to_owned(), ask.clone());
    on_click(&button, move || {
        ask(Wish::Hold);
        let label = label.clone();
        ask(Wish::Ask(Request::Edit(Edit::Teach { picture, object, label })));
    });
    button
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

/// Says what has changed.
pub(crate) fn tell(change: &Change) {
    view::status(&text::changed(change), "done");
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
