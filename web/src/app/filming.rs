//! The camera while the page is open: asked for, running, paused, gone. There is one stream at most, and the
//! button says whether there is one.

use super::command::{Command, Commands, Look, Show};
use super::event::{CameraEvent, CameraState, Change, Facing, Frame, Timer};
use super::given::Again;
use super::{App, choice, clear, given, recognize, recovery};

/// Milliseconds before a frame is tried again after one that failed, doubled with each more, and the most.
const BACK_OFF: i32 = 250;
const MOST_BACK_OFF: i32 = 8000;

/// Milliseconds in which a visitor and the browser give a camera; some browsers never say.
const ASKING: i32 = 30_000;

/// Milliseconds between two looks whether somebody is still at the answers.
const HELD: i32 = 200;

/// A camera that is on.
#[derive(Debug)]
pub(super) struct Running {
    /// Tells it from those before.
    id: u32,
    facing: Facing,
    /// Names the device; may be empty.
    device: String,
    /// Whether it has a torch, and whether that is on.
    torch: Option<bool>,
    /// Whether its film has begun.
    plays: bool,
    /// Whether somebody else has it.
    muted: bool,
    /// Whether none of its frames was shown.
    fresh: bool,
    /// Frames in a row that could not be looked at.
    failures: i32,
}

/// A camera that ended without the visitor's doing.
#[derive(Debug)]
struct Lost {
    facing: Facing,
    /// Names the device; may be empty.
    device: String,
    /// Whether nobody looked at the page.
    unseen: bool,
    /// Whether its device is not there: one that was only taken away from the page does not come back by itself.
    unplugged: bool,
}

/// The camera, and what is waited for.
#[derive(Debug, Default)]
pub(super) struct Filming {
    /// The one that is on.
    pub(super) camera: Option<Running>,
    /// Number of the asking that is not answered yet.
    asked: Option<u32>,
    /// Number of the next asking.
    next: u32,
    /// Whether a frame is being read.
    reading: bool,
    /// Whether a finger or a button of a mouse is down on the answers.
    pressed: bool,
    /// Whether the device of the camera is not there any more.
    unplugged: bool,
    lost: Option<Lost>,
}

impl Filming {
    /// Whether there is a camera, or one is asked for.
    pub(super) fn is_on(&self) -> bool {
        self.camera.is_some() || self.asked.is_some()
    }
}

/// Whether somebody is at the answers to a frame: the next ones would take a button away under a finger or
/// the focus.
fn is_held(app: &App) -> bool {
    app.film.camera.is_some() && (app.film.pressed || app.visitor.at_answers)
}

/// Whether the answer to a frame is shown: not under somebody's finger, nor in the place of what is said of a
/// camera that is away.
pub(super) fn may_show(app: &App) -> bool {
    let muted = app.film.camera.as_ref().is_some_and(|camera| camera.muted);
    !muted && !is_held(app)
}

/// Takes up what happened.
pub(super) fn happened(app: &mut App, event: CameraEvent, out: &mut Commands) {
    match event {
        CameraEvent::Toggle => {
            if app.film.camera.is_some() {
                stop(app, out);
                out.say("ready", Look::Done);
            } else if app.film.asked.is_none() {
                // Who asks twice is asked once.
                given::newer(app);
                start(app, Facing::Back, String::new(), out);
            }
        }
        CameraEvent::Turn => {
            if let Some(facing) = app.film.camera.as_ref().map(|camera| camera.facing) {
                // Many devices have one camera at a time.
                given::newer(app);
                stop(app, out);
                start(app, facing.turned(), String::new(), out);
            }
        }
        CameraEvent::Torch => {
            let torch = app.film.camera.as_ref().and_then(|camera| camera.torch);
            if let Some(on) = torch {
                out.add(Command::SwitchTorch(!on));
            }
        }
        CameraEvent::TorchIs(on) => {
            if let Some(camera) = &mut app.film.camera {
                camera.torch = Some(on);
                out.show(Show::Torch(Some(on)));
            }
        }
        CameraEvent::Answered { id, facing, given } => answered_asking(app, id, facing, given, out),
        CameraEvent::Began(id, begun, state) => began(app, id, begun, state, out),
        CameraEvent::Changed(id, change) => {
            if is_current(app, id) {
                changed(app, change, out);
            }
        }
        CameraEvent::Devices(state, devices) => devices_changed(app, state, &devices, out),
        CameraEvent::Several(several) => {
            if app.film.camera.is_some() {
                out.show(Show::Turning(several));
            }
        }
        CameraEvent::PageShown(ended) => page_shown(app, ended, out),
        CameraEvent::Pressed(pressed) => app.film.pressed = pressed,
        CameraEvent::FrameDue => take_frame(app, out),
        CameraEvent::Frame(id, frame) => frame_read(app, id, frame, out),
    }
}

fn is_current(app: &App, id: u32) -> bool {
    app.film.camera.as_ref().is_some_and(|camera| camera.id == id)
}

fn start(app: &mut App, facing: Facing, device: String, out: &mut Commands) {
    choice::disturbed(app, out);
    app.film.unplugged = false;
    app.film.next = app.film.next.wrapping_add(1);
    let id = app.film.next;
    app.film.asked = Some(id);
    out.say("camera.starting", Look::Busy);
    out.add(Command::AskCamera { id, facing, device });
    // What comes later is switched off again.
    out.add(Command::Wait(ASKING, Timer::Asking(id, facing)));
}

fn answered_asking(app: &mut App, id: u32, facing: Facing, given: bool, out: &mut Commands) {
    if app.film.asked.take_if(|asked| *asked == id).is_none() {
        // Something else was given meanwhile.
        if given {
            out.add(Command::LeaveCamera(id));
        }
        return;
    }
    if !given {
        out.say("camera.refused", Look::Failed);
        // An engine that came meanwhile does not know it.
        given::give_again(app, Again::Quiet, out);
        return;
    }
    app.film.camera = Some(Running {
        id,
        facing,
        device: String::new(),
        torch: None,
        plays: false,
        // Some browsers call a track muted until its first frame.
        muted: false,
        fresh: true,
        failures: 0,
    });
    out.add(Command::TakeCamera(id));
    out.show(Show::Camera(true));
}

fn began(app: &mut App, id: u32, begun: bool, state: CameraState, out: &mut Commands) {
    let Some(camera) = app.film.camera.as_mut().filter(|camera| camera.id == id) else { return };
    camera.device = state.device;
    // It may have come dead.
    if state.ended {
        return changed(app, Change::Ended, out);
    }
    if !begun {
        stop(app, out);
        return out.say("camera.silent", Look::Failed);
    }
    camera.plays = true;
    camera.torch = state.torch.then_some(false);
    // With its first frame the browser's word counts.
    camera.muted |= state.muted;
    let (torch, muted) = (camera.torch, camera.muted);
    // Its first answer is about a frame.
    given::forget(app);
    out.show(Show::Torch(torch));
    clear(app, out);
    if !recovery::tell_end(app, out) && muted {
        out.say("camera.muted", Look::Failed);
    }
    out.add(Command::CountCameras);
    next_frame(app, out);
}

fn devices_changed(
    app: &mut App,
    state: Option<CameraState>,
    devices: &[String],
    out: &mut Commands,
) {
    if let (Some(state), Some(camera)) = (state, &app.film.camera) {
        let muted = camera.muted;
        app.film.unplugged = !devices.contains(&camera.device);
        if state.ended {
            return changed(app, Change::Ended, out);
        }
        out.add(Command::CountCameras);
        if muted && !state.muted {
            changed(app, Change::Unmuted, out);
        }
    } else if let Some(lost) = &mut app.film.lost {
        let there = devices.contains(&lost.device);
        let back = there && lost.unplugged && !lost.unseen;
        lost.unplugged = !there;
        if let Some(lost) = app.film.lost.take_if(|_| back) {
            start(app, lost.facing, lost.device, out);
        }
    }
}

fn changed(app: &mut App, change: Change, out: &mut Commands) {
    let Some(camera) = &mut app.film.camera else { return };
    match change {
        Change::Ended => {
            // Phones take it from a page that nobody looks at.
            let unseen = app.visitor.away;
            let (facing, device) = (camera.facing, camera.device.clone());
            let lost = Lost { facing, device, unseen, unplugged: app.film.unplugged };
            stop(app, out);
            app.film.lost = Some(lost);
            out.say("camera.gone", Look::Failed);
        }
        Change::Muted => {
            camera.muted = true;
            out.say("camera.muted", Look::Failed);
        }
        Change::Unmuted => {
            camera.muted = false;
            go_on(app, out);
        }
    }
}

fn page_shown(app: &mut App, ended: bool, out: &mut Commands) {
    let again = match &app.film.camera {
        Some(camera) if ended => Some((camera.facing, camera.device.clone())),
        Some(_) => return go_on(app, out),
        None => {
            let lost = app.film.lost.take_if(|lost| lost.unseen);
            lost.map(|lost| (lost.facing, lost.device))
        }
    };
    if let Some((facing, device)) = again {
        stop(app, out);
        start(app, facing, device, out);
    }
}

/// Frames come again: some browsers pause a film that was away.
fn go_on(app: &App, out: &mut Commands) {
    if app.film.camera.as_ref().is_some_and(|camera| camera.plays) {
        out.add(Command::PlayCamera);
        next_frame(app, out);
    }
}

/// Switches the camera off, and forgets one that was asked for.
pub(super) fn stop(app: &mut App, out: &mut Commands) {
    (app.film.asked, app.film.lost) = (None, None);
    if app.film.camera.take().is_some() {
        out.add(Command::StopCamera);
        choice::consider(app, out);
        // A frame that is still looked at would take the place of what comes next.
        app.sent = None;
        out.show(Show::Camera(false));
        out.show(Show::Turning(false));
        out.show(Show::Torch(None));
    }
}

/// Sends the camera's newest frame once the last one is answered.
pub(super) fn next_frame(app: &App, out: &mut Commands) {
    if app.film.camera.is_some() {
        // A turn of the event loop lets the page draw and the visitor stop the camera.
        out.add(Command::NextFrame);
    }
}

fn take_frame(app: &mut App, out: &mut Commands) {
    if is_held(app) {
        return out.add(Command::Wait(HELD, Timer::Frame));
    }
    if app.film.camera.is_some() && choice::relieve(app, out) {
        // The next engine begins with the next frame.
        return;
    }
    let busy = app.sent.is_some() || app.film.reading;
    let Some(camera) = &app.film.camera else { return };
    let waits = busy || !camera.plays || camera.muted || app.visitor.away;
    if waits || !(app.ready || camera.fresh) {
        return;
    }
    app.film.reading = true;
    out.add(Command::ReadFrame(camera.id));
}

fn frame_read(app: &mut App, id: u32, frame: Frame, out: &mut Commands) {
    app.film.reading = false;
    let Some(camera) = app.film.camera.as_mut().filter(|camera| camera.id == id) else {
        // Another camera may wait.
        return next_frame(app, out);
    };
    match frame {
        Frame::Coming => next_frame(app, out),
        Frame::Read(picture) => {
            if std::mem::take(&mut camera.fresh) {
                out.add(Command::ShowFrame);
            }
            if app.ready && app.sent.is_none() {
                recognize(app, picture, None, out);
            }
        }
        Frame::Falsified => {
            stop(app, out);
            out.say("pixels.falsified", Look::Failed);
        }
    }
}

/// The frame was answered.
pub(super) fn answered(app: &mut App) {
    if let Some(camera) = &mut app.film.camera {
        camera.failures = 0;
    }
}

/// A frame could not be looked at: the next one is tried after a while.
pub(super) fn failed(app: &mut App, out: &mut Commands) {
    if let Some(camera) = &mut app.film.camera {
        camera.failures += 1;
        let wait = (BACK_OFF << camera.failures.min(10)).min(MOST_BACK_OFF);
        out.add(Command::Wait(wait, Timer::Frame));
    }
}
