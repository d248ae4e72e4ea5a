//! What the visitor points at in the picture: a frame that is drawn, a place that is tapped or clicked, a frame
//! that is moved by keys.

use wasm_engine::protocol::Request;

use super::command::{Command, Commands, Look, Show};
use super::event::{Part, PointEvent};
use super::given::Again;
use super::{App, filming, given, recovery};

/// Pixels of the window that a finger moves before it draws.
const STEADY: f64 = 8.0;
/// Sides of the squares around a place that is tapped, as parts of the picture's shorter side.
const SQUARES: [f64; 3] = [0.25, 0.45, 0.75];
/// Least side of a frame, as a part of the picture's.
const LEAST: f64 = 0.02;
/// How far a key moves a frame, as a part of the picture's side.
const STEP: f64 = 0.02;
/// The frame that keys begin with.
const MIDDLE: Part = [0.3, 0.3, 0.7, 0.7];

/// A finger, or a mouse's button, that is down.
#[derive(Debug)]
struct Stroke {
    pointer: i32,
    /// Where it came down, as parts of the picture's sides.
    from: (f64, f64),
    /// The same in pixels of the window.
    at: (f64, f64),
    /// Whether it may draw: a finger moves the page unless the visitor marks.
    draws: bool,
    drawing: bool,
}

/// What the visitor points at.
#[derive(Debug)]
pub(super) struct Pointing {
    stroke: Option<Stroke>,
    part: Part,
    /// Whether the visitor marks.
    marks: bool,
    /// Parts that are looked at once the picture is answered.
    waiting: Option<Vec<Part>>,
}

impl Pointing {
    /// The picture that was pointed at is gone.
    pub(super) fn forget(&mut self) {
        self.waiting = None;
    }
}

impl Default for Pointing {
    fn default() -> Self {
        Self { stroke: None, part: MIDDLE, marks: false, waiting: None }
    }
}

/// Takes up what happened.
pub(super) fn happened(app: &mut App, event: PointEvent, out: &mut Commands) {
    match event {
        PointEvent::Begin => {
            filming::stop(app, out);
            place(app, MIDDLE, out);
            mark(app, true, out);
            out.show(Show::FocusFrame);
        }
        PointEvent::Look => look(app, vec![app.pointing.part], out),
        PointEvent::Leave => end(app, out),
        PointEvent::Down { pointer, at, part, finger } => {
            let draws = app.pointing.marks || !finger;
            app.pointing.stroke = Some(Stroke { pointer, from: part, at, draws, drawing: false });
        }
        PointEvent::Moved { pointer, at, part } => moved(app, pointer, at, part, out),
        PointEvent::Up { pointer, on_box, sides } => up(app, pointer, on_box, sides, out),
        PointEvent::Canceled => {
            if app.pointing.stroke.take().is_some_and(|stroke| stroke.drawing) {
                end(app, out);
            }
        }
        PointEvent::Key(key, shift) => press(app, &key, shift, out),
    }
}

fn mark(app: &mut App, on: bool, out: &mut Commands) {
    app.pointing.marks = on;
    out.show(Show::Marking(on));
}

fn place(app: &mut App, part: Part, out: &mut Commands) {
    app.pointing.part = part;
    out.show(Show::MarkingFrame(part));
}

/// Marks no more.
pub(super) fn end(app: &mut App, out: &mut Commands) {
    if app.pointing.marks {
        mark(app, false, out);
        out.show(Show::FocusMark);
    }
}

/// Looks at what was pointed at before the picture was answered.
pub(super) fn go_on(app: &mut App, out: &mut Commands) {
    if let Some(parts) = app.pointing.waiting.take() {
        look(app, parts, out);
    }
}

/// Asks what is in one of these parts of the picture, once the engine has answered about all of it.
fn look(app: &mut App, parts: Vec<Part>, out: &mut Commands) {
    end(app, out);
    let shown = app.shown.clone().filter(|_| given::is_known(app));
    let Some(shown) = shown else { return wait(app, parts, out) };
    let sides = [shown.width, shown.height, shown.width, shown.height].map(f64::from);
    let region = |part: Part| std::array::from_fn(|side| (part[side] * sides[side]) as f32);
    let regions = parts.into_iter().map(region).collect();
    filming::stop(app, out);
    out.say("recognizing", Look::Busy);
    out.send(Request::Look { picture: shown.picture, regions });
}

/// The newest of several parts waits.
fn wait(app: &mut App, parts: Vec<Part>, out: &mut Commands) {
    filming::stop(app, out);
    if recovery::tell_end(app, out) {
        return;
    }
    let under_way = app.sent.is_some() || app.waiting.is_some();
    if !under_way && !given::give_again(app, Again::Aloud, out) {
        return;
    }
    app.pointing.waiting = Some(parts);
    if app.ready {
        out.say("recognizing", Look::Busy);
    }
}

fn moved(app: &mut App, pointer: i32, at: (f64, f64), (x, y): (f64, f64), out: &mut Commands) {
    let Some(stroke) = app.pointing.stroke.as_mut().filter(|stroke| stroke.pointer == pointer)
    else {
        return;
    };
    let far = (at.0 - stroke.at.0).hypot(at.1 - stroke.at.1);
    if !stroke.drawing && far < STEADY {
        return;
    }
    if !stroke.draws {
        app.pointing.stroke = None;
        return;
    }
    let begins = !std::mem::replace(&mut stroke.drawing, true);
    let (left, top) = stroke.from;
    if begins {
        filming::stop(app, out);
        // A frame may be drawn past the picture's edge.
        out.add(Command::Capture(pointer));
        mark(app, true, out);
    }
    place(app, [x.min(left), y.min(top), x.max(left), y.max(top)], out);
}

fn up(app: &mut App, pointer: i32, on_box: bool, sides: (f64, f64), out: &mut Commands) {
    let Some(stroke) = app.pointing.stroke.take().filter(|stroke| stroke.pointer == pointer) else {
        return;
    };
    if stroke.drawing {
        let [left, top, right, bottom] = app.pointing.part;
        if right - left >= LEAST && bottom - top >= LEAST {
            look(app, vec![app.pointing.part], out);
        } else {
            end(app, out);
        }
    } else if !on_box {
        look(app, squares(stroke.from, sides), out);
    }
}

/// The squares around a place that are offered to the engine.
fn squares((x, y): (f64, f64), (width, height): (f64, f64)) -> Vec<Part> {
    let (width, height) = (width.max(1.0), height.max(1.0));
    let square = |side: f64| {
        let half = side * width.min(height) / 2.0;
        let (across, down) = ((half / width).min(0.5), (half / height).min(0.5));
        // A square at the edge moves into the picture.
        let (x, y) = (x.clamp(across, 1.0 - across), y.clamp(down, 1.0 - down));
        [x - across, y - down, x + across, y + down]
    };
    SQUARES.map(square).to_vec()
}

fn press(app: &mut App, key: &str, shift: bool, out: &mut Commands) {
    let [left, top, right, bottom] = app.pointing.part;
    let (across, down) = match key {
        "ArrowLeft" => (-STEP, 0.0),
        "ArrowRight" => (STEP, 0.0),
        "ArrowUp" => (0.0, -STEP),
        "ArrowDown" => (0.0, STEP),
        "Enter" | " " => return look(app, vec![app.pointing.part], out),
        "Escape" => return end(app, out),
        _ => return,
    };
    let part = if shift {
        let right = (right + across).clamp((left + LEAST).min(1.0), 1.0);
        [left, top, right, (bottom + down).clamp((top + LEAST).min(1.0), 1.0)]
    } else {
        let across = across.clamp(-left, 1.0 - right);
        let down = down.clamp(-top, 1.0 - bottom);
        [left + across, top + down, right + across, bottom + down]
    };
    place(app, part, out);
}
