//! Which engine answers: both are measured once while the visitor does nothing, the faster one is kept for this
//! device and bundle, and WebGPU is left where it turns out to be slower or to end pages.

use wasm_engine::protocol::{Backend, Recognized};

use super::command::{Command, Commands, Look, Show};
use super::event::{Choice, Outcome, Timer};
use super::recovery::Health;
use super::watch::{Need, Watch};
use super::{App, start_engine};

/// Milliseconds without a picture after which the device is measured.
const QUIET: i32 = 1500;
/// The entry of the list of engines that leaves the choice to the page.
const AUTOMATIC: &str = "auto";

/// How far the choice has come.
#[derive(Debug, Default)]
pub(super) struct Choosing {
    /// Whether the page chooses; not where its address or the visitor does.
    automatic: bool,
    /// Number of the trial that is under way.
    trial: Option<u32>,
    /// Trials that were begun.
    trials: u32,
    /// Whether this visit needs none any more.
    settled: bool,
    choice: Option<Choice>,
    /// What the visitor has done so far, counted.
    moves: u32,
    watch: Watch,
    /// What the engine needs once no picture is being looked at.
    need: Option<Need>,
    /// Answers that WebGPU may give in one visit.
    most_answers: Option<u32>,
    /// Whether the gallery holds lessons that would end with the engine.
    pub(super) only_here: bool,
}

impl Choosing {
    pub(super) fn new(automatic: bool, choice: Option<Choice>, most_answers: Option<u32>) -> Self {
        Self { automatic, choice, most_answers, ..Self::default() }
    }

    /// Entry of the list of engines.
    fn entry(&self, backend: Backend) -> &'static str {
        if self.automatic { AUTOMATIC } else { backend.name() }
    }
}

/// Shows what is chosen.
pub(super) fn begin(app: &App, out: &mut Commands) {
    out.show(Show::Backend(app.choosing.entry(app.backend)));
    tell(app, out);
}

/// The visitor leaves the choice to the page, or makes it; asked first where lessons would end with the engine.
pub(super) fn chosen(app: &mut App, name: String, out: &mut Commands) {
    if !app.choosing.only_here {
        return change(app, &name, out);
    }
    // Until the visitor has said so, the list shows what is.
    out.show(Show::Backend(app.choosing.entry(app.backend)));
    out.show(Show::AskBackend(name));
}

/// The visitor has said so.
pub(super) fn sure(app: &mut App, name: &str, out: &mut Commands) {
    app.choosing.only_here = false;
    change(app, name, out);
    out.show(Show::Backend(app.choosing.entry(app.backend)));
}

fn change(app: &mut App, name: &str, out: &mut Commands) {
    disturbed(app, out);
    let automatic = name == AUTOMATIC;
    if automatic {
        // Whoever asks again wants it measured again.
        out.add(Command::ForgetChoice);
    }
    app.backend = if name == Backend::WebGpu.name() { Backend::WebGpu } else { Backend::Cpu };
    app.health = Health::default();
    let Choosing { trials, moves, most_answers, .. } = app.choosing;
    app.choosing = Choosing { automatic, trials, moves, most_answers, ..Choosing::default() };
    tell(app, out);
    start_engine(app, out);
}

/// An engine was started: what was seen of the one before tells nothing of it.
pub(super) fn started(app: &mut App) {
    app.choosing.watch = Watch::default();
    app.choosing.need = None;
}

/// The visitor does something: a trial would slow the answer down, and be slowed down by it.
pub(super) fn disturbed(app: &mut App, out: &mut Commands) {
    app.choosing.moves = app.choosing.moves.wrapping_add(1);
    if app.choosing.trial.take().is_some() {
        out.add(Command::EndTrial);
    }
}

/// Measures, unless that is done, once nothing has happened for a while.
pub(super) fn consider(app: &App, out: &mut Commands) {
    if may_measure(&app.choosing) {
        out.add(Command::Wait(QUIET, Timer::Quiet(app.choosing.moves)));
    }
}

fn may_measure(choosing: &Choosing) -> bool {
    choosing.automatic && !choosing.settled && choosing.trial.is_none()
}

/// A while has passed since the visitor had done so many things.
pub(super) fn quiet(app: &mut App, moves: u32, out: &mut Commands) {
    let same = app.choosing.moves == moves && may_measure(&app.choosing);
    if same && is_idle(app) && !app.visitor.away {
        app.choosing.trials = app.choosing.trials.wrapping_add(1);
        app.choosing.trial = Some(app.choosing.trials);
        out.add(Command::Measure(app.choosing.trials));
    }
}

fn is_idle(app: &App) -> bool {
    app.ready && app.sent.is_none() && !app.film.is_on()
}

/// A trial is over.
pub(super) fn measured(app: &mut App, trial: u32, outcome: Outcome, out: &mut Commands) {
    // Whoever has disturbed it has taken it away.
    if app.choosing.trial.take_if(|running| *running == trial).is_none() {
        return;
    }
    app.choosing.settled = true;
    // A host that does not answer leaves the engine that does.
    app.choosing.choice = match outcome {
        Outcome::Failed => return,
        Outcome::Nothing => None,
        Outcome::Measured(choice) => Some(choice),
    };
    tell(app, out);
    let faster = app.choosing.choice.as_ref().is_some_and(|choice| choice.backend == "webgpu");
    if app.backend == Backend::WebGpu && app.choosing.choice.is_some() && !faster {
        // The picture on the page, if there is one, is given to the other engine.
        app.choosing.need = Some(Need::Rest);
        relieve(app, out);
        return;
    }
    // With a picture on the page, the next visit begins with it: what it takes to start would be waited for.
    if faster && app.backend == Backend::Cpu && app.shown.is_none() && is_idle(app) {
        app.backend = Backend::WebGpu;
        start_engine(app, out);
    }
}

/// Says what was measured, beside the list of engines.
pub(super) fn tell(app: &App, out: &mut Commands) {
    out.show(Show::Choice(app.choosing.choice.clone()));
}

/// From the next visit on the processor computes as well.
fn leave_webgpu(app: &mut App, why: &'static str, out: &mut Commands) {
    out.add(Command::LeaveWebGpu(why));
    if let Some(choice) = &mut app.choosing.choice {
        why.clone_into(&mut choice.why);
    }
    tell(app, out);
}

/// WebGPU has failed twice in a row: the processor computes, in the next visit as well.
pub(super) fn gave_up(app: &mut App, out: &mut Commands) {
    if app.choosing.automatic {
        app.choosing.settled = true;
        leave_webgpu(app, "failed", out);
    } else {
        out.show(Show::Backend(Backend::Cpu.name()));
    }
}

/// Looks at an answer; what the engine needs happens between two pictures.
pub(super) fn watch(app: &mut App, result: &Recognized) {
    let choosing = &mut app.choosing;
    if !choosing.automatic && app.backend == Backend::WebGpu {
        // Whoever asks for it keeps it.
        return;
    }
    let cpu = choosing.choice.as_ref().and_then(|choice| choice.cpu);
    let need = choosing.watch.see(result, app.backend, cpu, choosing.most_answers);
    choosing.need = choosing.need.or(need);
}

/// Another engine in the place of one that needs it, before the next picture; whether one is started.
pub(super) fn relieve(app: &mut App, out: &mut Commands) -> bool {
    // Lessons that this browser cannot keep would end with the engine.
    if !app.ready || app.sent.is_some() || app.choosing.only_here {
        return false;
    }
    let Some(need) = app.choosing.need.take() else { return false };
    match need {
        Need::Processor | Need::Rest => {
            app.backend = Backend::Cpu;
            app.choosing.settled = true;
        }
        Need::Renewal => (),
    }
    if need == Need::Processor && app.choosing.automatic {
        leave_webgpu(app, "slowed", out);
        out.say("choice.leaves", Look::Busy);
    }
    start_engine(app, out);
    true
}
