//! The visitor's language: which it is, its sentences, and the page's own text in it.
//!
//! English is a part of each page, so that there is always something to say; every other language is
//! a file beside the page, `text/CODE.json`, that names the same sentences.

use std::cell::{Cell, RefCell};

use js_sys::Intl::PluralRules;
use js_sys::{Array, JSON, Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Element, HtmlSelectElement};

use crate::dom::{by_id, document, fetch, query_parameter, window};

/// Code of English.
const DEFAULT: &str = "en";
/// Where the browser keeps the visitor's choice, before the path of the site. An entry without a path, which all sites of
/// an origin share, counts where there is no other.
const KEPT: &str = "magpie-language";

struct Language {
    sentences: Object,
    plural: PluralRules,
}

impl Language {
    fn new(code: &str, sentences: JsValue) -> Self {
        let plural = PluralRules::new(&Array::of1(&code.into()), &Object::new());
        Self { sentences: sentences.unchecked_into(), plural }
    }

    fn english() -> Self {
        Self::new(DEFAULT, JSON::parse(PAGE.get().english).unwrap_or_default())
    }

    fn get(&self, key: &str) -> Option<String> {
        Reflect::get(&self.sentences, &JsValue::from_str(key)).ok()?.as_string()
    }
}

/// What differs between pages.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The sentences in English, as JSON.
    pub english: &'static str,
    /// Where the site lies, relative to the page: its pages share the choice of a language.
    pub site: &'static str,
}

thread_local! {
    static PAGE: Cell<Page> = const { Cell::new(Page { english: "{}", site: "." }) };
    static FALLBACK: Language = Language::english();
    static CHOSEN: RefCell<Option<Language>> = const { RefCell::new(None) };
}

/// A sentence of the chosen language; in English where it lacks it.
pub fn say(key: &str) -> String {
    let chosen = CHOSEN.with_borrow(|language| language.as_ref().and_then(|l| l.get(key)));
    chosen.or_else(|| FALLBACK.with(|english| english.get(key))).unwrap_or_else(|| key.to_owned())
}

/// A sentence with its `{name}`s replaced.
pub fn say_with(key: &str, values: &[(&str, &str)]) -> String {
    fill(&say(key), values)
}

/// A text with its `{name}`s replaced.
fn fill(text: &str, values: &[(&str, &str)]) -> String {
    // From the left, once, so that a value that looks like a name stays as it is.
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        said.push_str(before);
        let value = after.split_once('}').and_then(|(name, behind)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((*value, behind))
        });
        if let Some((value, behind)) = value {
            said.push_str(value);
            rest = behind;
        } else {
            said.push('{');
            rest = after;
        }
    }
    said.push_str(rest);
    said
}

/// The form of a sentence that the language has for this `{count}`.
pub fn say_count(key: &str, count: usize) -> String {
    let rule = |language: &Language| String::from(language.plural.select(count as f64));
    let form = CHOSEN.with_borrow(|language| match language {
        Some(language) => rule(language),
        None => FALLBACK.with(rule),
    });
    say_with(&format!("{key}.{form}"), &[("count", &count.to_string())])
}

/// The language of the page's address, of the last visit, or of the browser, in this order.
fn wanted() -> String {
    let select: HtmlSelectElement = by_id("language");
    let options = select.options();
    let offered = |code: &str| {
        let base = code.split('-').next().unwrap_or_default().to_lowercase();
        let mut known = (0..options.length()).filter_map(|index| options.item(index));
        known.any(|option| option.get_attribute("value") == Some(base.clone())).then_some(base)
    };
    let browser = window().navigator().languages();
    let browser = browser.iter().filter_map(|code| code.as_string());
    query_parameter("lang")
        .into_iter()
        .chain(kept())
        .chain(browser)
        .find_map(|code| offered(&code))
        .unwrap_or_else(|| DEFAULT.to_owned())
}

/// `None` where the browser keeps nothing.
fn storage() -> Option<web_sys::Storage> {
    window().local_storage().ok().flatten()
}

/// Name of this site's choice; also `unable.js` and the page of measurements know it.
fn place() -> String {
    let here = window().location().href().unwrap_or_default();
    let site = web_sys::Url::new_with_base(PAGE.get().site, &here).map(|site| site.pathname());
    format!("{KEPT} {}", site.unwrap_or_default())
}

/// The choice of the last visit.
fn kept() -> Option<String> {
    let storage = storage()?;
    let get = |name: &str| storage.get_item(name).ok().flatten();
    let place = place();
    get(&place).or_else(|| {
        let shared = get(KEPT)?;
        // Another site of the origin may change it.
        let _ = storage.set_item(&place, &shared);
        Some(shared)
    })
}

/// Takes the language that the visitor most likely reads.
pub async fn begin(page: Page) {
    PAGE.set(page);
    let code = wanted();
    by_id::<HtmlSelectElement>("language").set_value(&code);
    if code != DEFAULT {
        load(&code).await;
    }
}

/// Takes the language that the visitor chose, now and at the next visit.
pub async fn choose(code: &str) {
    if let Some(storage) = storage() {
        // A browser that keeps nothing asks again next time.
        let _ = storage.set_item(&place(), code);
    }
    load(code).await;
}

async fn load(code: &str) {
    let language = if code == DEFAULT {
        Some(Language::english())
    } else {
        sentences(code).await.map(|sentences| Language::new(code, sentences))
    };
    // A language whose file cannot be had changes nothing, nor does one that came too late.
    let Some(language) = language else { return };
    if by_id::<HtmlSelectElement>("language").value() != code {
        return;
    }
    CHOSEN.set(Some(language));
    if let Some(root) = document().document_element() {
        let _ = root.set_attribute("lang", code);
    }
    for (attribute, put) in [
        ("data-text", (|element, text| element.set_text_content(Some(text))) as fn(&Element, &str)),
        ("data-label", |element, text| drop(element.set_attribute("aria-label", text))),
        ("data-content", |element, text| drop(element.set_attribute("content", text))),
    ] {
        let Ok(marked) = document().query_selector_all(&format!("[{attribute}]")) else { continue };
        for index in 0..marked.length() {
            let Some(element) = marked.item(index) else { continue };
            let element: Element = element.unchecked_into();
            if let Some(key) = element.get_attribute(attribute) {
                put(&element, &say(&key));
            }
        }
    }
}

async fn sentences(code: &str) -> Option<JsValue> {
    let response = fetch(&format!("text/{code}.json")).await?;
    JsFuture::from(response.json().ok()?).await.ok().filter(JsValue::is_object)
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn names_are_replaced() {
        let values = [("label", "a cup"), ("count", "3")];
        assert_eq!(fill("{count} of {label}, {label}", &values), "3 of a cup, a cup");
    }

    #[test]
    fn a_value_that_looks_like_a_name_stays() {
        let values = [("first", "{second}"), ("second", "x")];
        assert_eq!(fill("{first} {second}", &values), "{second} x");
    }

    #[test]
    fn unknown_names_and_open_braces_stay() {
        assert_eq!(fill("{other} {", &[("label", "x")]), "{other} {");
    }
}
