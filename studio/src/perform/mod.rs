//! What the studio does in the browser: it makes events of what happens, has [`crate::app::update`] change the state, and
//! does what that says. Files are read, kept and packed by `www/studio/start.js`. What is to be seen [`crate::view`]
//! shows.

mod browser;
mod camera;
mod classes;
mod controls;
mod cropping;
mod engine;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use gloo_events::EventListener;
use page::dom::window;
use page::language;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;

use crate::app::{App, Command, Event, GivenFile, Handle, update};
use crate::project::{ClassId, Part, PhotoId, Settings};
use crate::view::View;

/// The sentences in English.
const ENGLISH: &str = include_str!("../../../www/studio/text/en.json");
/// Milliseconds between a change and its keeping: what an owner does meanwhile is kept with it.
const SAVED_AFTER: i32 = 300;
/// Milliseconds between the last change and new figures.
const RENEWED_AFTER: i32 = 150;
/// Milliseconds after which an owner who changes nothing has paused: the engine is busy for seconds then.
const LEARNED_AFTER: i32 = 4_000;

/// The studio: its state, and what the browser holds for it.
pub(crate) struct Studio {
    app: RefCell<App>,
    /// What has happened and was not taken up yet.
    events: RefCell<VecDeque<Event>>,
    /// Whether something is being taken up.
    busy: Cell<bool>,
    files: RefCell<BTreeMap<Handle, JsValue>>,
    next_handle: Cell<u32>,
    /// Counts the engines that were ended: what was begun for one is not gone on with by the next.
    engine: Cell<u64>,
    view: View,
    /// What the camera is for, and whether its button is held down.
    purpose: Cell<Option<camera::Purpose>>,
    is_pressed: Cell<bool>,
    /// The photograph that is shown as a whole.
    shown: RefCell<Option<cropping::Shown>>,
    /// Whether it is shown at the browser's next frame.
    due: Cell<bool>,
    listeners: RefCell<Vec<EventListener>>,
}

/// Starts the studio.
pub(crate) async fn start() {
    language::begin(language::Page { english: ENGLISH, site: ".." }).await;
    let studio = Rc::new(Studio {
        app: RefCell::new(App::new()),
        events: RefCell::default(),
        busy: Cell::new(false),
        files: RefCell::default(),
        next_handle: Cell::new(0),
        engine: Cell::new(0),
        view: View::default(),
        purpose: Cell::new(None),
        is_pressed: Cell::new(false),
        shown: RefCell::default(),
        due: Cell::new(false),
        listeners: RefCell::default(),
    });
    let (keeper, kept, shelf) = browser::open().await;
    deliver(&studio, Event::Begin(keeper, kept, shelf));
    studio.listeners.replace(controls::connect(&studio));
    // The page's inputs live as long as the page.
    std::mem::forget(studio);
}

/// Takes up what happened, after what happened before.
pub(crate) fn deliver(studio: &Rc<Studio>, event: Event) {
    studio.events.borrow_mut().push_back(event);
    if studio.busy.replace(true) {
        return;
    }
    loop {
        let next = studio.events.borrow_mut().pop_front();
        let Some(event) = next else { break };
        let commands = update(&mut studio.app.borrow_mut(), js_sys::Date::now(), event);
        for command in commands {
            perform(studio, command);
        }
    }
    studio.busy.set(false);
}

/// Does what the state's change asks for.
fn perform(studio: &Rc<Studio>, command: Command) {
    match command {
        Command::Prepare(handle) => {
            let Some(file) = studio.files.borrow().get(&handle).cloned() else { return };
            let studio = studio.clone();
            spawn_local(async move {
                let prepared = browser::prepare(&file).await;
                deliver(&studio, Event::Prepared(handle, prepared));
            });
        }
        Command::LetGo(handle) => drop(studio.files.borrow_mut().remove(&handle)),
        Command::SaveLater => deliver_later(studio, SAVED_AFTER, Event::TimeToSave),
        Command::RenewLater(change) => {
            deliver_later(studio, RENEWED_AFTER, Event::TimeToRenew(change));
        }
        Command::LearnLater(change) => {
            deliver_later(studio, LEARNED_AFTER, Event::TimeToLearn(change));
        }
        Command::Save(bytes, title) => {
            let studio = studio.clone();
            spawn_local(async move {
                let kept = browser::save(&bytes, &title).await;
                deliver(&studio, Event::Saved(kept));
            });
        }
        Command::SaveNow(bytes) => browser::save_now(&bytes),
        Command::Switch(due, to) => {
            let studio = studio.clone();
            spawn_local(async move {
                let kept = match due {
                    Some((bytes, title)) => browser::save(&bytes, &title).await,
                    None => true,
                };
                // A project that could not be kept stays open.
                if !kept || browser::choose(to.as_deref()).await.is_err() {
                    deliver(&studio, Event::Saved(false));
                }
            });
        }
        Command::RemoveProject => {
            let studio = studio.clone();
            spawn_local(async move {
                if browser::ask("removeProject", &[]).await.is_err() {
                    deliver(&studio, Event::Saved(false));
                }
            });
        }
        Command::KeepOnly(photos) => spawn_local(async move { browser::keep_only(&photos).await }),
        Command::OpenEngine => engine::open(studio),
        Command::Look(id, name, part) => engine::look(studio, id, name, part),
        Command::Ask(handle, name) => engine::try_picture(studio, handle, name),
        Command::OpenGallery(gallery) => engine::open_gallery(studio, gallery),
        Command::Make(goal, listed) => engine::make(studio, goal, *listed),
        Command::EndEngine => engine::end(studio),
        Command::Show => show_soon(studio),
    }
}

/// Takes something up after some milliseconds.
fn deliver_later(studio: &Rc<Studio>, after: i32, event: Event) {
    let studio = studio.clone();
    let later = Closure::once_into_js(move || deliver(&studio, event));
    let _ = window()
        .set_timeout_with_callback_and_timeout_and_arguments_0(later.unchecked_ref(), after);
}

/// Shows what is to be seen once for all that happens before the browser's next frame.
fn show_soon(studio: &Rc<Studio>) {
    if studio.due.replace(true) {
        return;
    }
    let studio = studio.clone();
    let frame = Closure::once_into_js(move || {
        studio.due.set(false);
        let seen = studio.app.borrow().seen();
        studio.view.show(seen, &browser::show_picture);
    });
    let _ = window().request_animation_frame(frame.unchecked_ref());
}

impl Studio {
    /// Shows everything anew, in another language.
    pub(crate) fn speak(self: &Rc<Self>) {
        self.view.forget();
        deliver(self, Event::Language);
    }

    /// Whether something goes with the page that the browser does not keep.
    pub(crate) fn would_lose(&self) -> bool {
        self.app.borrow().would_lose()
    }

    /// Whether a photograph is chosen; what is shown may be a frame behind.
    pub(crate) fn is_chosen(&self, id: PhotoId) -> bool {
        self.app.borrow().is_chosen(id)
    }

    /// The class of a name.
    pub(crate) fn named(&self, label: &str) -> Option<ClassId> {
        self.app.borrow().project().named(label.trim()).map(|class| class.id)
    }

    /// The name of a class.
    pub(crate) fn label(&self, id: ClassId) -> String {
        let app = self.app.borrow();
        app.project().class(id).map(|class| class.label.clone()).unwrap_or_default()
    }

    /// What is told of a class.
    pub(crate) fn metadata(&self, id: ClassId) -> Vec<(String, String)> {
        let app = self.app.borrow();
        app.project().class(id).map(|class| class.metadata.clone()).unwrap_or_default()
    }

    /// Name and chosen part of a photograph.
    pub(crate) fn photo(&self, id: PhotoId) -> Option<(String, Option<Part>)> {
        let app = self.app.borrow();
        app.project().photo(id).map(|photo| (photo.name.clone(), photo.part))
    }

    /// Whether the engine is open.
    pub(crate) fn has_engine(&self) -> bool {
        self.app.borrow().has_engine()
    }

    /// What the site is called.
    pub(crate) fn title(&self) -> String {
        self.app.borrow().project().title().to_owned()
    }

    /// How the gallery is made.
    pub(crate) fn settings(&self) -> Settings {
        self.app.borrow().project().settings()
    }

    /// The photograph that is chosen alone.
    pub(crate) fn only_chosen(&self) -> Option<PhotoId> {
        self.app.borrow().only_chosen()
    }

    /// Takes files that were given.
    pub(crate) fn give(self: &Rc<Self>, given: Vec<(JsValue, String)>, onto: Option<ClassId>) {
        let files = given.into_iter().map(|(file, path)| self.hold(file, path));
        let files = files.collect();
        deliver(self, Event::Given(files, onto));
    }

    /// Has a picture recognized that is none of the photographs.
    pub(crate) fn try_picture(self: &Rc<Self>, file: JsValue, name: String) {
        let file = self.hold(file, name);
        deliver(self, Event::Try(file));
    }

    fn hold(&self, file: JsValue, path: String) -> GivenFile {
        let handle = Handle(self.next_handle.get());
        self.next_handle.set(handle.0.wrapping_add(1));
        self.files.borrow_mut().insert(handle, file);
        GivenFile { handle, path }
    }

    fn held(&self, handle: Handle) -> JsValue {
        self.files.borrow().get(&handle).cloned().unwrap_or_default()
    }
}
