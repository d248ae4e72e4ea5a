//! The camera.

use wasm_engine::protocol::Response;

use super::super::{
    CameraEvent, CameraState, Change, Command, Event, Facing, Frame, Given, Look, Reading, Show,
    Timer, Visitor,
};
use super::{FILE, Page, answer, answers, assert_holds, given, pixels, recognize, status};

#[test]
fn a_camera_that_is_asked_for_twice_is_asked_for_once() {
    let mut page = Page::ready();
    let asks = Command::AskCamera { id: 1, facing: Facing::Back, device: String::new() };
    assert_holds(&page.camera(CameraEvent::Toggle), &[asks]);
    assert!(page.camera(CameraEvent::Toggle).is_empty());
    assert_holds(&page.camera(given(1)), &[Command::TakeCamera(1)]);
    let commands = page.camera(CameraEvent::Toggle);
    assert_holds(&commands, &[Command::StopCamera, Command::Show(Show::Camera(false))]);
}

#[test]
fn a_camera_that_comes_after_a_file_is_switched_off() {
    let mut page = Page::ready();
    page.camera(CameraEvent::Toggle);
    let reads = Command::ReadFile(FILE, Reading::Given(2));
    assert_eq!(page.on(Event::Given(Given::File(FILE))), [reads]);
    assert_eq!(page.camera(given(1)), [Command::LeaveCamera(1)]);
}

#[test]
fn a_camera_that_never_comes_is_given_up() {
    let mut page = Page::ready();
    page.camera(CameraEvent::Toggle);
    let commands = page.on(Event::Time(Timer::Asking(1, Facing::Back)));
    assert_eq!(commands, [status("camera.refused", Look::Failed)]);
    assert_eq!(page.camera(given(1)), [Command::LeaveCamera(1)]);
}

#[test]
fn frames_go_one_by_one() {
    let mut page = Page::filming();
    assert_eq!(page.camera(CameraEvent::FrameDue), [Command::ReadFrame(1)]);
    assert!(page.camera(CameraEvent::FrameDue).is_empty(), "one is being read");
    let commands = page.camera(CameraEvent::Frame(1, Frame::Read(pixels())));
    assert_eq!(commands, [Command::ShowFrame, recognize(1, pixels(), true)]);
    assert!(page.camera(CameraEvent::FrameDue).is_empty(), "one is being looked at");
    let commands = page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert_holds(&commands, &[Command::ShowFrame, Command::NextFrame]);
    assert_eq!(answers(&commands), [1]);
}

#[test]
fn no_answer_takes_a_button_away_under_a_finger_or_the_focus() {
    let mut page = Page::filming();
    page.camera(CameraEvent::FrameDue);
    page.camera(CameraEvent::Frame(1, Frame::Read(pixels())));
    page.on(Event::Visitor(Visitor { away: false, at_answers: true }));
    let commands = page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert!(answers(&commands).is_empty());
    assert_eq!(page.camera(CameraEvent::FrameDue), [Command::Wait(200, Timer::Frame)]);
}

#[test]
fn a_camera_goes_on_once_its_device_is_back() {
    let mut page = Page::filming();
    let commands = page.camera(CameraEvent::Changed(1, Change::Ended));
    assert_holds(&commands, &[Command::StopCamera, status("camera.gone", Look::Failed)]);
    // Another one is there all the time.
    let other = || vec!["other".to_owned()];
    assert!(page.camera(CameraEvent::Devices(None, other())).is_empty());
    let back = [other(), vec!["eye".to_owned()]].concat();
    let commands = page.camera(CameraEvent::Devices(None, back.clone()));
    let device = "eye".to_owned();
    assert_holds(&commands, &[Command::AskCamera { id: 2, facing: Facing::Back, device }]);
    assert!(page.camera(CameraEvent::Devices(None, back)).is_empty(), "asked for once");
}

#[test]
fn a_camera_that_was_only_taken_away_stays_off() {
    let mut page = Page::filming();
    page.camera(CameraEvent::Changed(1, Change::Ended));
    for _ in 0..2 {
        assert!(page.camera(CameraEvent::Devices(None, vec!["eye".to_owned()])).is_empty());
    }
}

#[test]
fn devices_may_tell_first_that_a_camera_is_unplugged() {
    let mut page = Page::filming();
    let ended = CameraState { ended: true, ..CameraState::default() };
    let commands = page.camera(CameraEvent::Devices(Some(ended), Vec::new()));
    assert_holds(&commands, &[Command::StopCamera, status("camera.gone", Look::Failed)]);
    let commands = page.camera(CameraEvent::Devices(None, vec!["eye".to_owned()]));
    assert!(commands.iter().any(|command| matches!(command, Command::AskCamera { .. })));
}

#[test]
fn a_camera_that_is_back_after_a_file_stays_off() {
    let mut page = Page::filming();
    page.camera(CameraEvent::Changed(1, Change::Ended));
    page.on(Event::Given(Given::File(FILE)));
    for devices in [Vec::new(), vec!["eye".to_owned()]] {
        assert!(page.camera(CameraEvent::Devices(None, devices)).is_empty());
    }
}

#[test]
fn a_muted_camera_goes_on_when_the_devices_change() {
    let mut page = Page::filming();
    page.camera(CameraEvent::Changed(1, Change::Muted));
    assert!(page.camera(CameraEvent::FrameDue).is_empty());
    let commands = page.camera(CameraEvent::Devices(Some(CameraState::default()), Vec::new()));
    assert_holds(&commands, &[Command::PlayCamera, Command::NextFrame]);
}
