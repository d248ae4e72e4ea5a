//! Which engine answers: both are measured once while the visitor does nothing, the faster one is kept for this
//! device and bundle, and WebGPU is left where it turns out to be slower or to end pages.

use serde::Deserialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_engine::protocol::{Backend, Recognized};
use web_sys::{AbortController, HtmlElement, HtmlSelectElement};

use super::recovery::Health;
use super::watch::{Need, Watch};
use super::{App, Shared, start_engine};
use crate::dialog;
use crate::dom::{by_id, document, window};
use crate::language::{say, say_with};
use crate::startup;
use crate::widgets;

/// Milliseconds without a picture after which the device is measured.
const QUIET: i32 = 1500;
/// The entry of the list of engines that leaves the choice to the page.
pub(super) const AUTOMATIC: &str = "auto";

/// Milliseconds of one engine, by its trial.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Cost {
    /// Of finding the objects of a picture.
    pub(super) detect: f64,
    /// Of embedding one.
    pub(super) embed: f64,
}

/// What came out of the trials; `www/package/choice.js` makes and keeps it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Choice {
    backend: String,
    why: String,
    cpu: Option<Cost>,
    webgpu: Option<Cost>,
}

/// How far the choice has come.
#[derive(Debug, Default)]
pub(super) struct Choosing {
    /// Whether the page chooses; not where its address or the visitor does.
    automatic: bool,
    /// The trial that is under way.
    trial: Option<AbortController>,
    /// Whether this visit needs none any more.
    settled: bool,
    choice: Option<Choice>,
    /// What the visitor has done so far, counted.
    moves: u32,
    watch: Watch,
    /// What the engine needs once no picture is being looked at.
    need: Option<Need>,
    /// Whether the gallery holds lessons that would end with the engine.
    pub(super) only_here: bool,
}

/// Takes up what a visit before has measured.
pub(super) fn begin(state: &mut App) {
    state.choosing.automatic = startup::chooses();
    state.choosing.choice = read(startup::kept());
    let select: HtmlSelectElement = by_id("backend");
    select.set_value(if startup::chooses() { AUTOMATIC } else { state.backend.name() });
    tell(state);
}

fn read(choice: wasm_bindgen::JsValue) -> Option<Choice> {
    choice.is_object().then(|| serde_wasm_bindgen::from_value(choice).ok()).flatten()
}

/// The visitor leaves the choice to the page, or makes it; asked first where lessons would end with the engine.
pub(super) fn chosen(app: &Shared, name: &str) {
    if !app.borrow().choosing.only_here {
        return change(app, name);
    }
    // Until the visitor has said so, the list shows what is.
    let now = if app.borrow().choosing.automatic { AUTOMATIC } else { app.borrow().backend.name() };
    by_id::<HtmlSelectElement>("backend").set_value(now);
    let (app, name) = (app.clone(), name.to_owned());
    dialog::ask_whether(&say("engine.sure"), &say("engine.change"), move || {
        by_id::<HtmlSelectElement>("backend").set_value(&name);
        app.borrow_mut().choosing.only_here = false;
        change(&app, &name);
    });
}

fn change(app: &Shared, name: &str) {
    disturbed(app);
    let backend = if name == Backend::WebGpu.name() { Backend::WebGpu } else { Backend::Cpu };
    {
        let mut state = app.borrow_mut();
        let automatic = name == AUTOMATIC;
        if automatic {
            // Whoever asks again wants it measured again.
            startup::forget();
        }
        state.choosing = Choosing { automatic, ..Choosing::default() };
        (state.backend, state.health) = (backend, Health::default());
        tell(&state);
    }
    start_engine(app);
}

/// An engine was started: what was seen of the one before tells nothing of it.
pub(super) fn started(state: &mut App) {
    state.choosing.watch = Watch::default();
    state.choosing.need = None;
}

/// The visitor does something: a trial would slow the answer down, and be slowed down by it.
pub(super) fn disturbed(app: &Shared) {
    let choosing = &mut app.borrow_mut().choosing;
    choosing.moves = choosing.moves.wrapping_add(1);
    if let Some(trial) = choosing.trial.take() {
        trial.abort();
    }
}

/// Measures, unless that is done, once nothing has happened for a while.
pub(super) fn consider(app: &Shared) {
    let moves = {
        let choosing = &app.borrow().choosing;
        if !choosing.automatic || choosing.settled || choosing.trial.is_some() {
            return;
        }
        choosing.moves
    };
    let app = app.clone();
    let later = Closure::once_into_js(move || {
        let quiet = {
            let state = app.borrow();
            let choosing = &state.choosing;
            let same = choosing.moves == moves && choosing.trial.is_none() && !choosing.settled;
            same && is_idle(&state) && !document().hidden()
        };
        if quiet {
            measure(&app);
        }
    });
    let _ = window()
        .set_timeout_with_callback_and_timeout_and_arguments_0(later.unchecked_ref(), QUIET);
}

fn is_idle(state: &App) -> bool {
    state.ready && state.sent.is_none() && !state.film.is_on()
}

fn measure(app: &Shared) {
    let Ok(trial) = AbortController::new() else { return };
    let Ok(outcome) = startup::choose(&trial.signal()) else { return };
    app.borrow_mut().choosing.trial = Some(trial);
    let app = app.clone();
    spawn_local(async move {
        let outcome = JsFuture::from(outcome).await;
        let mut state = app.borrow_mut();
        // Whoever has disturbed it has taken it away.
        if state.choosing.trial.take().is_none() {
            return;
        }
        state.choosing.settled = true;
        // A host that does not answer leaves the engine that does.
        let Ok(outcome) = outcome else { return };
        state.choosing.choice = read(outcome);
        tell(&state);
        let faster = state.choosing.choice.as_ref().is_some_and(|c| c.backend == "webgpu");
        // With a picture on the page, the next visit begins with it: lessons are taken from what this engine saw.
        if faster && state.backend == Backend::Cpu && state.shown.is_none() && is_idle(&state) {
            state.backend = Backend::WebGpu;
            drop(state);
            start_engine(&app);
        }
    });
}

/// Says what was measured, beside the list of engines.
pub(super) fn tell(state: &App) {
    let sentence = state.choosing.choice.as_ref().map(|choice| {
        let time = |cost: &Option<Cost>| {
            cost.map_or_else(|| "–".to_owned(), |cost| format!("{:.1}", cost.detect + cost.embed))
        };
        let values = [("cpu", &*time(&choice.cpu)), ("webgpu", &*time(&choice.webgpu))];
        match &*choice.why {
            "faster" => say_with("choice.faster", &values),
            "slower" => say_with("choice.slower", &values),
            "differs" => say("choice.differs"),
            "slowed" => say_with("choice.slowed", &values),
            _ => say("choice.failed"),
        }
    });
    by_id::<HtmlElement>("choice").set_text_content(Some(&sentence.unwrap_or_default()));
}

/// WebGPU has failed twice in a row: the processor computes, in the next visit as well.
pub(super) fn gave_up(state: &mut App) {
    if state.choosing.automatic {
        state.choosing.settled = true;
        startup::leave("failed");
        if let Some(choice) = &mut state.choosing.choice {
            "failed".clone_into(&mut choice.why);
        }
        tell(state);
    } else {
        by_id::<HtmlSelectElement>("backend").set_value(Backend::Cpu.name());
    }
}

/// Looks at an answer; what the engine needs happens between two pictures.
pub(super) fn watch(state: &mut App, result: &Recognized) {
    let backend = state.backend;
    let choosing = &mut state.choosing;
    if !choosing.automatic && backend == Backend::WebGpu {
        // Whoever asks for it keeps it.
        return;
    }
    let cpu = choosing.choice.as_ref().and_then(|choice| choice.cpu);
    let need = choosing.watch.see(result, backend, cpu, startup::most_answers());
    choosing.need = choosing.need.or(need);
}

/// Another engine in the place of one that needs it, before the next picture; whether one is started.
pub(super) fn relieve(app: &Shared) -> bool {
    {
        let mut state = app.borrow_mut();
        // Lessons that this browser cannot keep would end with the engine.
        if !state.ready || state.sent.is_some() || state.choosing.only_here {
            return false;
        }
        let Some(need) = state.choosing.need.take() else { return false };
        match need {
            Need::Processor | Need::Rest => {
                state.backend = Backend::Cpu;
                state.choosing.settled = true;
            }
            Need::Renewal => (),
        }
        if need == Need::Processor && state.choosing.automatic {
            startup::leave("slowed");
            if let Some(choice) = &mut state.choosing.choice {
                "slowed".clone_into(&mut choice.why);
            }
            tell(&state);
            widgets::status(&say("choice.leaves"), "busy");
        }
    }
    start_engine(app);
    true
}
