//! Shows what is to be seen. Elements of classes and photographs stay for as long as these are there, and only what
//! differs is touched, however many there are.

mod class;
mod curve;
mod figures;
mod frame;
mod text;
mod tried;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use page::dom::{append, by_id, document, element, set_attributes};
use page::language::{say, say_count, say_with};
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlButtonElement, HtmlElement, HtmlInputElement};

use crate::app::{Keeper, Look, Seen, Why};
use crate::project::{ClassId, PhotoId};
use class::ClassView;
pub(crate) use class::{class_of, fill, photo_of, texts_of};

/// What is shown.
#[derive(Default)]
pub(crate) struct View {
    seen: RefCell<Option<Seen>>,
    classes: RefCell<Vec<ClassView>>,
    photos: RefCell<BTreeMap<PhotoId, HtmlElement>>,
}

/// Shows the small picture of a photograph in an image.
pub(crate) type Pictures<'a> = &'a dyn Fn(&HtmlElement, PhotoId);

impl View {
    /// Shows what is to be seen.
    pub(crate) fn show(&self, seen: Seen, pictures: Pictures<'_>) {
        let before = self.seen.borrow_mut().take();
        if before.as_ref().map(|before| &before.classes) != Some(&seen.classes) {
            self.show_classes(&seen, pictures);
        }
        if before.as_ref().map(|before| &before.measured) != Some(&seen.measured) {
            figures::show(seen.measured.as_ref(), pictures);
        }
        if before.as_ref().map(|before| &before.trying) != Some(&seen.trying) {
            tried::show(seen.trying.as_ref(), pictures);
        }
        show_frame(before.as_ref(), &seen);
        frame::show(before.as_ref(), &seen);
        self.seen.replace(Some(seen));
    }

    /// Shows everything once more, in another language.
    pub(crate) fn forget(&self) {
        self.seen.replace(None);
        for class in self.classes.take() {
            class.section().remove();
        }
    }

    fn show_classes(&self, seen: &Seen, pictures: Pictures<'_>) {
        let focus = Focus::now();
        let list: HtmlElement = by_id("classes");
        let there: BTreeSet<PhotoId> =
            seen.classes.iter().flat_map(|class| &class.photos).map(|photo| photo.id).collect();
        let mut photos = self.photos.borrow_mut();
        photos.retain(|id, element| {
            let stays = there.contains(id);
            if !stays {
                element.remove();
            }
            stays
        });
        let mut shown: BTreeMap<Option<ClassId>, ClassView> =
            self.classes.take().into_iter().map(|class| (class.id(), class)).collect();
        let mut classes = Vec::with_capacity(seen.classes.len());
        for class in &seen.classes {
            let view = shown.remove(&class.id).unwrap_or_else(|| ClassView::new(class.id));
            put_at(&list, classes.len() as u32, view.section());
            classes.push(view);
        }
        for gone in shown.into_values() {
            gone.section().remove();
        }
        for (view, class) in classes.iter_mut().zip(&seen.classes) {
            view.show(class, &mut photos, pictures);
        }
        self.classes.replace(classes);
        let labels: HtmlElement = by_id("labels");
        labels.set_text_content(None);
        for class in seen.classes.iter().filter(|class| class.id.is_some()) {
            let option = element("option", "", "");
            set_attributes(&option, &[("value", &class.label)]);
            append(&labels, &[&option]);
        }
        if let Some(focus) = focus {
            focus.put_back(&photos);
        }
    }
}

/// Puts an element at its place among its siblings, unless it is there.
fn put_at(parent: &HtmlElement, place: u32, child: &HtmlElement) {
    let there = parent.children().item(place);
    if there.as_ref() != Some(child) {
        let before = there.as_deref();
        // Only a cycle could make this fail.
        let _ = parent.insert_before(child, before.map(JsCast::unchecked_ref));
    }
}

/// The photograph that has the focus, which it loses when it moves or goes.
struct Focus {
    photo: PhotoId,
    strip: Element,
    place: u32,
}

impl Focus {
    fn now() -> Option<Self> {
        let element = document().active_element()?;
        let photo = photo_of(&element)?;
        let strip = element.parent_element()?;
        let children = strip.children();
        let place = (0..children.length())
            .find(|place| children.item(*place).as_ref() == Some(&element))?;
        Some(Self { photo, strip, place })
    }

    /// Gives the focus to the same photograph, or else to the one in its place, or to the list.
    fn put_back(self, photos: &BTreeMap<PhotoId, HtmlElement>) {
        let same = photos.get(&self.photo);
        let has_it = document().active_element();
        if same.is_some_and(|same| has_it.as_ref() == Some(same)) {
            return;
        }
        let children = self.strip.children();
        let place = self.place.min(children.length().saturating_sub(1));
        let next = children.item(place).and_then(|next| next.dyn_into().ok());
        let next: Option<HtmlElement> = same.cloned().or(next);
        let next = next.filter(|next| next.is_connected());
        let _ = next.unwrap_or_else(|| by_id("classes")).focus();
    }
}

/// Everything but the classes.
fn show_frame(before: Option<&Seen>, seen: &Seen) {
    let status: HtmlElement = by_id("status");
    let (sentence, look) = &seen.status;
    write(&status, &text::status(sentence));
    status.set_class_name(match look {
        Look::Busy => "busy",
        Look::Done => "done",
        Look::Failed => "failed",
    });
    let kept = match seen.keeper {
        Keeper::Own if seen.photos > 0 => say("kept"),
        Keeper::Nowhere if *look != Look::Busy => say("kept.not"),
        _ => String::new(),
    };
    write(&by_id("kept"), &kept);
    let body = document().body();
    if let Some(body) = body {
        let list = body.class_list();
        let _ = list.toggle_with_force("has-photos", seen.photos > 0);
        let has_any = !seen.classes.is_empty() || seen.undo.0 || seen.undo.1;
        let _ = list.toggle_with_force("has-any", has_any);
    }
    let coming: HtmlElement = by_id("coming");
    coming.set_hidden(seen.progress.is_none());
    if let Some((done, of)) = seen.progress {
        let bar: HtmlElement = by_id("progress");
        if of == 0 {
            // A bar that moves and says nothing.
            let _ = bar.remove_attribute("value");
        } else {
            set_attributes(&bar, &[("value", &done.to_string()), ("max", &of.to_string())]);
        }
        write(&by_id("left"), &text::progress(done, of, seen.seconds_left));
    }
    by_id::<HtmlButtonElement>("undo").set_disabled(!seen.undo.0);
    by_id::<HtmlButtonElement>("redo").set_disabled(!seen.undo.1);
    let tools: HtmlElement = by_id("chosen-tools");
    let _ = tools.class_list().toggle_with_force("some", seen.chosen > 0);
    by_id::<HtmlElement>("crop-chosen").set_hidden(seen.chosen != 1);
    write(&by_id("chosen-count"), &say_count("chosen", seen.chosen));
    let classes = seen.classes.iter().filter(|class| class.id.is_some()).count();
    let (classes, photos) = (say_count("classes", classes), say_count("photos", seen.photos));
    write(&by_id("size"), &say_with("size", &[("classes", &classes), ("photos", &photos)]));
    let left_out: HtmlElement = by_id("left-out");
    left_out.set_hidden(seen.left_out.is_empty());
    let are_rows = seen.left_out.iter().all(|(_, why)| *why == Why::NoClass);
    let count = if are_rows { "left.rows" } else { "left.out" };
    write(&by_id("left-out-count"), &text::left_out(count, seen.left_out.len()));
    let names: HtmlElement = by_id("left-out-names");
    if before.map(|before| &before.left_out) != Some(&seen.left_out) {
        names.set_text_content(None);
        for (name, why) in &seen.left_out {
            append(&names, &[&element("li", "", &text::why(name, why))]);
        }
    }
    let title: HtmlInputElement = by_id("title");
    // Not while somebody writes there something else than was shown.
    let is_left = before.is_some_and(|before| before.title == title.value());
    if is_left || document().active_element().as_deref() != Some(&title) {
        title.set_value(&seen.title);
    }
}

/// A text in an element; what is there already is not said again.
fn write(element: &HtmlElement, text: &str) {
    if element.text_content().as_deref() != Some(text) {
        element.set_text_content(Some(text));
    }
}
