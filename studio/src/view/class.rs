//! A class: its name, what can be done with it, its photographs as a strip, and what is told of it.

use std::collections::BTreeMap;

use page::dialog::LONGEST_NAME;
use page::dom::{append, element, set_attributes};
use page::language::{say, say_count, say_with};
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, HtmlInputElement};

use super::{Pictures, put_at, write};
use crate::app::SeenClass;
use crate::project::{ClassId, PhotoId, texts};

/// Attributes by which what happens is told apart: a photograph, a class, and what a button does.
const PHOTO: &str = "data-id";
const CLASS: &str = "data-class";
/// Of photographs of which a part counts.
const PART: &str = "data-part";

/// A class as it is shown.
pub(super) struct ClassView {
    id: Option<ClassId>,
    section: HtmlElement,
    name: HtmlElement,
    count: HtmlElement,
    few: HtmlElement,
    strip: HtmlElement,
    told: HtmlElement,
    buttons: Vec<(&'static str, HtmlElement)>,
    shown: Option<SeenClass>,
}

/// What can be done with a class: the name of the deed, its word, and its sentence with the class.
const DEEDS: [(&str, &str, &str); 5] = [
    ("camera", "camera", "camera.class"),
    ("all", "choose.all", "choose.class"),
    ("texts", "texts", "texts.of"),
    ("merge", "merge", "merge.class"),
    ("remove", "remove", "remove.class"),
];

impl ClassView {
    /// A class of which nothing is shown yet.
    pub(super) fn new(id: Option<ClassId>) -> Self {
        let section = element("section", "class", "");
        let number = id.map_or(String::new(), |id| id.0.to_string());
        set_attributes(&section, &[(CLASS, &number)]);
        let head = element("div", "class-head", "");
        let heading = element("h2", "", "");
        let name = if id.is_some() {
            let name = element("input", "name", "");
            let attributes = [("maxlength", LONGEST_NAME), ("autocomplete", "off")];
            set_attributes(&name, &attributes);
            append(&heading, &[&name]);
            name
        } else {
            heading.clone()
        };
        let (count, few) = (element("span", "count", ""), element("span", "count few", ""));
        append(&head, &[&heading, &count, &few]);
        let deeds =
            DEEDS.iter().filter(|(deed, ..)| id.is_some() || ["all", "camera"].contains(deed));
        let buttons: Vec<(&str, HtmlElement)> = deeds
            .map(|(deed, word, _)| {
                let button = element("button", "button small", &say(word));
                set_attributes(&button, &[("type", "button"), ("data-do", deed)]);
                append(&head, &[&button]);
                (*deed, button)
            })
            .collect();
        let strip = element("div", "strip", "");
        set_attributes(&strip, &[("role", "listbox"), ("aria-multiselectable", "true")]);
        set_attributes(&strip, &[("data-empty", &say("empty.class"))]);
        let told = element("div", "texts", "");
        told.set_hidden(true);
        append(&section, &[&head, &strip, &told]);
        Self { id, section, name, count, few, strip, told, buttons, shown: None }
    }

    /// Which.
    pub(super) const fn id(&self) -> Option<ClassId> {
        self.id
    }

    /// All of it.
    pub(super) const fn section(&self) -> &HtmlElement {
        &self.section
    }

    /// Shows what is to be seen of it.
    pub(super) fn show(
        &mut self,
        class: &SeenClass,
        photos: &mut BTreeMap<PhotoId, HtmlElement>,
        pictures: Pictures<'_>,
    ) {
        if self.shown.as_ref() == Some(class) {
            return;
        }
        let label = match self.id {
            Some(_) => class.label.clone(),
            None => say("unsorted"),
        };
        if self.shown.as_ref().map(|shown| &shown.label) != Some(&class.label) {
            self.call(&label);
        }
        write(&self.count, &say_count("photos", class.photos.len()));
        let few = if class.few { say("few") } else { String::new() };
        write(&self.few, &few);
        for (place, photo) in class.photos.iter().enumerate() {
            let shown = photos.entry(photo.id).or_insert_with(|| {
                let shown = element("div", "photo", "");
                let id = photo.id.to_string();
                let attributes = [("role", "option"), ("draggable", "true"), ("tabindex", "-1")];
                set_attributes(&shown, &attributes);
                set_attributes(&shown, &[(PHOTO, &id), ("aria-label", &photo.name)]);
                set_attributes(&shown, &[("title", &photo.name)]);
                let image = element("img", "", "");
                set_attributes(&image, &[("alt", "")]);
                pictures(&image, photo.id);
                append(&shown, &[&image]);
                shown
            });
            let chosen = if photo.chosen { "true" } else { "false" };
            let is_cropped = shown.has_attribute(PART);
            if is_cropped != photo.cropped {
                let _ = shown.toggle_attribute_with_force(PART, photo.cropped);
                let name = if photo.cropped {
                    say_with("photo.part", &[("name", &photo.name)])
                } else {
                    photo.name.clone()
                };
                set_attributes(shown, &[("aria-label", &name)]);
            }
            if shown.get_attribute("aria-selected").as_deref() != Some(chosen) {
                set_attributes(shown, &[("aria-selected", chosen)]);
            }
            put_at(&self.strip, place as u32, shown);
        }
        // Those of other classes that are not shown yet move away by themselves.
        self.let_tab_in();
        if !self.told.hidden() {
            fill(&self.told, &class.metadata);
        }
        self.shown = Some(class.clone());
    }

    fn call(&self, label: &str) {
        match self.name.dyn_ref::<HtmlInputElement>() {
            Some(name) => {
                name.set_value(label);
                let named = say_with("name.of", &[("label", label)]);
                set_attributes(&self.name, &[("aria-label", &named)]);
            }
            None => write(&self.name, label),
        }
        let photos = say_with("photos.of", &[("label", label)]);
        set_attributes(&self.strip, &[("aria-label", &photos)]);
        set_attributes(&self.section, &[("aria-label", label)]);
        for (deed, button) in &self.buttons {
            let sentence = DEEDS.iter().find(|(known, ..)| known == deed);
            if let Some((_, _, sentence)) = sentence {
                let words = say_with(sentence, &[("label", label)]);
                set_attributes(button, &[("aria-label", &words)]);
            }
        }
        if let Some((_, button)) = self.buttons.iter().find(|(deed, _)| *deed == "texts") {
            let open = if self.told.hidden() { "false" } else { "true" };
            set_attributes(button, &[("aria-expanded", open)]);
        }
    }

    /// The tab key leads to one photograph of each class, also after some have come from another one.
    fn let_tab_in(&self) {
        let photos = self.strip.children();
        let mut is_first = true;
        for photo in (0..photos.length()).filter_map(|place| photos.item(place)) {
            if photo.get_attribute("tabindex").as_deref() == Some("0") {
                if !is_first {
                    let _ = photo.set_attribute("tabindex", "-1");
                }
                is_first = false;
            }
        }
        if let Some(first) = self.strip.first_element_child().filter(|_| is_first) {
            let _ = first.set_attribute("tabindex", "0");
        }
    }
}

/// The photograph of an element, or of one around it.
pub(crate) fn photo_of(element: &Element) -> Option<PhotoId> {
    let photo = element.closest(&format!("[{PHOTO}]")).ok()??;
    PhotoId::parse(&photo.get_attribute(PHOTO)?)
}

/// The class in which an element stands: its section, and which it is.
pub(crate) fn class_of(element: &Element) -> Option<(HtmlElement, Option<ClassId>)> {
    let section: HtmlElement = element.closest(&format!("[{CLASS}]")).ok()??.dyn_into().ok()?;
    let id = section.get_attribute(CLASS)?.parse().ok().map(ClassId);
    Some((section, id))
}

/// The part of a class's section in which its texts are written, and what is written there.
pub(crate) fn texts_of(section: &HtmlElement) -> Option<(HtmlElement, Vec<(String, String)>)> {
    let told: HtmlElement = section.query_selector(".texts").ok()??.dyn_into().ok()?;
    let pairs = written(&told);
    Some((told, pairs))
}

fn written(told: &HtmlElement) -> Vec<(String, String)> {
    let rows = told.children();
    let value = |row: &Element, place: u32| -> Option<String> {
        Some(row.children().item(place)?.dyn_into::<HtmlInputElement>().ok()?.value())
    };
    let rows = (0..rows.length()).filter_map(|place| rows.item(place));
    rows.filter_map(|row| Some((value(&row, 0)?, value(&row, 1)?))).collect()
}

/// Shows texts as fields, with an empty one behind them.
pub(crate) fn fill(told: &HtmlElement, metadata: &[(String, String)]) {
    let now = written(told);
    if texts(now.clone()) != metadata || now.is_empty() {
        told.set_text_content(None);
        for (key, text) in metadata {
            append_row(told, key, text);
        }
    }
    let is_used =
        |(key, text): &(String, String)| !key.trim().is_empty() || !text.trim().is_empty();
    if written(told).last().is_none_or(is_used) {
        append_row(told, "", "");
    }
}

fn append_row(told: &HtmlElement, key: &str, text: &str) {
    let row = element("div", "text", "");
    for (value, label) in [(key, say("text.name")), (text, say("text.text"))] {
        let field = element("input", "", "");
        set_attributes(&field, &[("aria-label", &label), ("placeholder", &label)]);
        set_attributes(&field, &[("autocomplete", "off")]);
        append(&row, &[&field]);
        field.unchecked_into::<HtmlInputElement>().set_value(value);
    }
    append(told, &[&row]);
}
