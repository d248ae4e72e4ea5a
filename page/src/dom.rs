//! Typed access to the page's elements.

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    CanvasRenderingContext2d, Document, HtmlCanvasElement, HtmlElement, Response, Window,
};

/// The window.
pub fn window() -> Window {
    web_sys::window().expect("the page runs in a window")
}

/// The document of the page.
pub fn document() -> Document {
    window().document().expect("a window has a document")
}

/// The element of this id in `index.html`.
pub fn by_id<T: JsCast>(id: &str) -> T {
    document()
        .get_element_by_id(id)
        .unwrap_or_else(|| panic!("index.html has no element {id}"))
        .dyn_into()
        .unwrap_or_else(|_| panic!("element {id} has another type"))
}

/// A new element with a class and a text; text is never markup.
pub fn element(tag: &str, class: &str, text: &str) -> HtmlElement {
    let element: HtmlElement =
        document().create_element(tag).expect("the tag is a constant").unchecked_into();
    element.set_class_name(class);
    if !text.is_empty() {
        element.set_text_content(Some(text));
    }
    element
}

/// Sets attributes of an element.
pub fn set_attributes(element: &HtmlElement, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        // Only a name that is none could make this fail.
        let _ = element.set_attribute(name, value);
    }
}

/// Appends children in order.
pub fn append(parent: &HtmlElement, children: &[&HtmlElement]) {
    for child in children {
        // Only a cycle could make this fail.
        let _ = parent.append_child(child);
    }
}

/// A parameter of the page's address.
pub fn query_parameter(name: &str) -> Option<String> {
    let search = window().location().search().ok()?;
    web_sys::UrlSearchParams::new_with_str(&search).ok()?.get(name)
}

/// Milliseconds after which a silent host is done without.
const PATIENCE: i32 = 8000;

/// A file of this site; `None` where it cannot be had in time.
pub async fn fetch(address: &str) -> Option<Response> {
    let mut limit = |resolve: Function, _| {
        // Without a timer it waits as long as the host does.
        let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, PATIENCE);
    };
    let limit = Promise::new(&mut limit);
    let answer = Promise::race(&Array::of2(&window().fetch_with_str(address), &limit));
    let response: Response = JsFuture::from(answer).await.ok()?.dyn_into().ok()?;
    response.ok().then_some(response)
}

/// The drawing context of a canvas.
pub fn context(canvas: &HtmlCanvasElement) -> CanvasRenderingContext2d {
    let options = Object::new();
    // Frames are read back; the hint keeps the canvas in main memory.
    let _ = Reflect::set(&options, &"willReadFrequently".into(), &true.into());
    canvas
        .get_context_with_context_options("2d", &options)
        .ok()
        .flatten()
        .expect("a canvas has a 2d context")
        .unchecked_into()
}
