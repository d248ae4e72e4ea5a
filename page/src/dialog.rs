//! Questions to the visitor, asked in the page's own words and looks.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{HtmlDialogElement, HtmlElement, HtmlInputElement};

use crate::dom::{append, document, element, set_attributes};
use crate::language::say;

/// Longest name in letters.
pub const LONGEST_NAME: &str = "200";

/// Asks for a name, beginning with one that is there; `act` gets what was written. The browser offers the names of the
/// `<datalist>` with the id `list`.
pub fn ask_name(
    question: &str,
    yes: &str,
    now: &str,
    list: Option<&str>,
    act: impl Fn(String) + 'static,
) {
    let input = element("input", "", "");
    let name = [("required", ""), ("maxlength", LONGEST_NAME), ("autocomplete", "off")];
    set_attributes(&input, &name);
    set_attributes(&input, &[("aria-label", question)]);
    if let Some(list) = list {
        set_attributes(&input, &[("list", list)]);
    }
    let field: HtmlInputElement = input.clone().unchecked_into();
    field.set_value(now);
    let written = field.clone();
    open(question, yes, Some(&input), move || act(written.value()));
    field.select();
}

/// Asks whether to go on.
pub fn ask_whether(question: &str, yes: &str, act: impl Fn() + 'static) {
    open(question, yes, None, act);
}

fn open(question: &str, yes: &str, input: Option<&HtmlElement>, act: impl Fn() + 'static) {
    let dialog: HtmlDialogElement = element("dialog", "dialog", "").unchecked_into();
    set_attributes(&dialog, &[("aria-label", question)]);
    let form = element("form", "", "");
    append(&form, &[&element("p", "question", question)]);
    if let Some(input) = input {
        append(&form, &[input]);
    }
    let buttons = element("div", "buttons", "");
    let no = element("button", "button", &say("cancel"));
    set_attributes(&no, &[("type", "button")]);
    let yes = element("button", "button primary", yes);
    set_attributes(&yes, &[("type", "submit")]);
    append(&buttons, &[&no, &yes]);
    append(&form, &[&buttons]);
    append(&dialog, &[&form]);
    let close = {
        let dialog = dialog.clone();
        Rc::new(move || dialog.close())
    };
    // All of them live as long as the dialog.
    let closing = close.clone();
    EventListener::new(&no, "click", move |_| closing()).forget();
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(&form, "submit", options, move |event| {
        event.prevent_default();
        close();
        act();
    })
    .forget();
    let closed = dialog.clone();
    EventListener::new(&dialog, "close", move |_| closed.remove()).forget();
    if let Some(body) = document().body() {
        append(&body, &[&dialog]);
    }
    // A browser that has no modal dialogs shows it as a part of the page.
    if dialog.show_modal().is_err() {
        dialog.set_open(true);
    }
}
