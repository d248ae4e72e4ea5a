//! What an engine that was started anew does not know, and what waits for it.

use serde_bytes::ByteBuf;
use wasm_engine::protocol::{
    Backend, Change, Edit, EngineError, ErrorKind, Request, Response, Thresholds,
};

use super::super::event::Cost;
use super::super::{
    CameraEvent, Choice, Command, Event, Failure, Look, Outcome, PointEvent, Reading, Sentence,
    Show, Source, Timer,
};
use super::{
    FILE, Page, THRESHOLDS, answer, answers, assert_holds, encoded, failed, gallery, pixels, ready,
    recognize, sent, status, stopped,
};

fn lesson(picture: u32) -> Request {
    Request::Edit(Edit::Teach { picture, object: 0, label: "Cup".to_owned() })
}

fn told(commands: &[Command]) -> Option<&Command> {
    commands.iter().rfind(|command| matches!(command, Command::Show(Show::Status(..))))
}

fn mark(page: &mut Page) -> Vec<Command> {
    page.point(PointEvent::Begin);
    page.point(PointEvent::Key("Enter".to_owned(), false))
}

#[test]
fn the_shown_picture_is_given_to_the_next_engine() {
    let mut page = Page::shown();
    assert!(page.0.needs(FILE), "it may be asked for again");
    assert_holds(&page.engine(stopped()), &[Command::StartEngine(Backend::Cpu)]);
    let commands = page.engine(ready());
    let again = Command::ReadFile(FILE, Reading::Again(2));
    assert_holds(&commands, &[status("recovered", Look::Done), again]);
    let commands = page.on(Event::Decoded(Reading::Again(2), vec![1], None));
    assert_eq!(commands, [recognize(2, encoded(1), false)], "the page stays as it is");
    let commands = page.engine(Response::Recognized { id: 2, result: answer(2) });
    assert_eq!(answers(&commands), [2]);
    assert_eq!(told(&commands), None, "the visitor reads that the engine was started again");
    let commands = page.engine(Response::Pictured { again: Some(answer(2)) });
    assert_eq!((answers(&commands), told(&commands)), (vec![2], None), "also then");
    let learned = Response::Adapted { thresholds: THRESHOLDS, again: Some(answer(2)) };
    let commands = page.engine(learned);
    assert_holds(&commands, &[Command::Show(Show::Thresholds(THRESHOLDS, true))]);
    assert_eq!((answers(&commands), told(&commands)), (vec![2], None), "nobody asked for it");
    assert_eq!(page.on(Event::Ask(lesson(2))), [Command::Send(lesson(2))]);
}

#[test]
fn an_engine_that_stops_again_and_again_on_the_shown_picture_is_given_up() {
    let mut page = Page::shown();
    page.engine(stopped());
    page.engine(ready());
    page.on(Event::Decoded(Reading::Again(2), vec![1], None));
    page.engine(Response::Recognized { id: 2, result: answer(2) });
    assert_holds(&page.engine(stopped()), &[Command::StartPlainEngine]);
    let commands = page.engine(stopped());
    assert_holds(&commands, &[failed(Failure::Processor, "gone")]);
    // Whatever is wanted then, the sentence stays true.
    for event in [Event::Ask(lesson(2)), Event::Ask(Request::Undo)] {
        assert_eq!(page.on(event), [failed(Failure::Processor, "gone")]);
    }
    assert_eq!(told(&mark(&mut page)), Some(&failed(Failure::Processor, "gone")));
    assert_eq!(told(&page.give(3, None)), Some(&failed(Failure::Processor, "gone")));
}

#[test]
fn another_engine_is_given_the_shown_picture() {
    let mut page = Page::shown();
    page.on(Event::Backend("webgpu".to_owned()));
    let commands = page.engine(ready());
    assert_holds(&commands, &[Command::ReadFile(FILE, Reading::Again(2))]);
    page.on(Event::Decoded(Reading::Again(2), vec![1], None));
    let commands = page.engine(Response::Recognized { id: 2, result: answer(2) });
    let summary = Show::Status(Sentence::Summary(1, 1), Look::Done);
    assert_eq!(told(&commands), Some(&Command::Show(summary)));
    // Also one that was not answered yet.
    let mut page = Page::ready();
    page.give(1, None);
    page.on(Event::Backend("webgpu".to_owned()));
    assert_holds(&page.engine(ready()), &[Command::ReadFile(FILE, Reading::Again(2))]);
}

#[test]
fn a_picture_whose_file_is_gone_is_read_from_the_page() {
    let mut page = Page::ready();
    page.give(1, Some(super::BITMAP));
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    page.engine(stopped());
    page.engine(ready());
    let commands = page.on(Event::Unreadable(Reading::Again(2)));
    assert_eq!(commands, [Command::ReadPixels(Source::Canvas, 2)]);
    let commands = page.on(Event::Pixels(2, Some(pixels())));
    assert_eq!(commands, [recognize(2, pixels(), false)]);
}

#[test]
fn a_frame_that_stands_still_is_given_to_the_next_engine() {
    let mut page = Page::filming();
    page.camera(CameraEvent::FrameDue);
    page.camera(CameraEvent::Frame(1, super::super::Frame::Read(pixels())));
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    page.on(Event::Hold);
    page.engine(stopped());
    assert_holds(&page.engine(ready()), &[Command::ReadPixels(Source::Canvas, 2)]);
    // A camera that is on goes on by itself.
    let mut page = Page::filming();
    page.camera(CameraEvent::FrameDue);
    page.camera(CameraEvent::Frame(1, super::super::Frame::Read(pixels())));
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    page.engine(stopped());
    let commands = page.engine(ready());
    assert_holds(&commands, &[Command::NextFrame]);
    assert!(!commands.contains(&Command::ReadPixels(Source::Canvas, 2)));
}

#[test]
fn a_newer_picture_takes_the_place_of_the_one_that_is_given_again() {
    let mut page = Page::shown();
    page.engine(stopped());
    page.engine(ready());
    assert_holds(&page.give(2, None), &[recognize(2, encoded(2), false)]);
    assert!(page.on(Event::Decoded(Reading::Again(2), vec![1], None)).is_empty());
    // Also while the engine is away.
    let mut page = Page::shown();
    page.engine(stopped());
    page.give(2, None);
    let commands = page.engine(ready());
    assert_eq!(sent(&commands).len(), 1);
    assert!(!commands.contains(&Command::ReadFile(FILE, Reading::Again(2))));
}

#[test]
fn a_lesson_about_a_picture_that_the_engine_does_not_know_says_what_to_do() {
    let mut page = Page::shown();
    page.engine(stopped());
    assert_eq!(page.on(Event::Ask(lesson(1))), [status("again.first", Look::Busy)]);
    page.engine(ready());
    assert_eq!(page.on(Event::Ask(lesson(1))), [status("again.first", Look::Busy)]);
    page.on(Event::Decoded(Reading::Again(2), vec![1], None));
    let commands = page.engine(Response::Recognized { id: 2, result: answer(2) });
    let summary = Show::Status(Sentence::Summary(1, 1), Look::Done);
    assert_eq!(told(&commands), Some(&Command::Show(summary)), "it may be tried again");
}

#[test]
fn a_picture_is_given_again_once_there_is_no_camera_for_it() {
    let mut page = Page::shown();
    page.engine(stopped());
    // The camera is asked for, and refused.
    page.camera(CameraEvent::Toggle);
    let again = Command::ReadFile(FILE, Reading::Again(2));
    assert!(!page.engine(ready()).contains(&again));
    let (id, facing) = (1, super::Facing::Back);
    let commands = page.camera(CameraEvent::Answered { id, facing, given: false });
    assert_eq!(commands, [status("camera.refused", Look::Failed), again]);
}

#[test]
fn a_lesson_begins_what_was_missed() {
    let mut page = Page::ready();
    page.give(1, Some(super::BITMAP));
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    page.engine(stopped());
    page.engine(ready());
    page.on(Event::Unreadable(Reading::Again(2)));
    assert_eq!(page.on(Event::Pixels(2, None)), [status("pixels.falsified", Look::Failed)]);
    let commands = page.on(Event::Ask(lesson(1)));
    let again = Command::ReadPixels(Source::Canvas, 2);
    assert_eq!(commands, [again, status("again.first", Look::Busy)]);
}

#[test]
fn what_is_marked_while_a_picture_is_looked_at_is_looked_at_then() {
    let mut page = Page::ready();
    page.give(1, Some(super::BITMAP));
    mark(&mut page);
    page.point(PointEvent::Begin);
    page.point(PointEvent::Key("ArrowRight".to_owned(), false));
    let commands = page.point(PointEvent::Key("Enter".to_owned(), false));
    assert_holds(&commands, &[status("recognizing", Look::Busy)]);
    assert!(sent(&commands).is_empty());
    let commands = page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert_eq!(answers(&commands), [1]);
    let looks = sent(&commands);
    let [Request::Look { picture: 1, regions }] = looks[..] else { panic!("{commands:?}") };
    assert_eq!(regions[..], [[64.0, 30.0, 144.0, 70.0]], "the newest one");
    assert!(sent(&page.engine(Response::Looked { result: answer(1) })).is_empty(), "once");
}

#[test]
fn what_is_marked_in_a_picture_that_is_gone_is_forgotten() {
    let mut page = Page::ready();
    page.give(1, Some(super::BITMAP));
    mark(&mut page);
    page.give(2, Some(super::BITMAP));
    let commands = page.engine(Response::Recognized { id: 2, result: answer(2) });
    assert!(sent(&commands).is_empty(), "{commands:?}");
}

#[test]
fn what_is_marked_while_the_engine_is_away_is_looked_at_by_the_next_one() {
    let mut page = Page::shown();
    page.engine(stopped());
    assert!(sent(&mark(&mut page)).is_empty());
    page.engine(ready());
    page.on(Event::Decoded(Reading::Again(2), vec![1], None));
    let commands = page.engine(Response::Recognized { id: 2, result: answer(2) });
    assert!(matches!(sent(&commands)[..], [Request::Look { picture: 2, .. }]), "{commands:?}");
}

#[test]
fn a_visitors_thresholds_hold_for_the_next_engine() {
    let mut page = Page::shown();
    let tuned = Thresholds { min_similarity: 0.9, ..THRESHOLDS };
    page.on(Event::Ask(Request::Tune(tuned)));
    page.engine(stopped());
    let commands = page.engine(ready());
    assert_holds(&commands, &[Command::Show(Show::Thresholds(tuned, false))]);
    assert_eq!(sent(&commands), [&Request::Tune(tuned)]);
    // Moved while there is no engine, too, and back.
    page.engine(stopped());
    let mut page = Page::begun();
    assert!(page.on(Event::Ask(Request::Tune(tuned))).is_empty());
    assert_eq!(sent(&page.engine(ready())), [&Request::Tune(tuned)]);
    page.on(Event::AsPublished);
    page.engine(stopped());
    assert!(sent(&page.engine(ready())).is_empty());
}

#[test]
fn what_is_wanted_of_an_engine_that_is_away_waits_for_it() {
    let mut page = Page::shown();
    page.engine(stopped());
    assert!(page.on(Event::Ask(Request::Export)).is_empty());
    assert!(page.on(Event::Ask(Request::List { filter: "c".to_owned() })).is_empty());
    let commands = page.engine(ready());
    assert_eq!(sent(&commands), [&Request::Export]);
}

#[test]
fn a_file_that_an_engine_did_not_add_is_no_reason_for_a_later_failure() {
    let mut page = Page::shown();
    let import = Request::Edit(Edit::Import { bytes: ByteBuf::from(vec![1]) });
    assert_eq!(page.on(Event::GalleryRead(Some(vec![1]))), [Command::Send(import)]);
    page.engine(stopped());
    page.engine(ready());
    let error = EngineError::new(ErrorKind::Gallery, "no");
    let commands = page.engine(Response::Failed { id: None, error });
    assert_holds(&commands, &[failed(Failure::Change, "no")]);
}

#[test]
fn two_clicks_take_two_changes_back_and_one_where_there_is_one() {
    for there in [1, 2] {
        let mut page = Page::shown();
        assert_eq!(page.on(Event::Ask(Request::Undo)), [Command::Send(Request::Undo)]);
        assert!(page.on(Event::Ask(Request::Undo)).is_empty(), "one after the other");
        let undone = |left: bool| Response::Edited {
            change: Change::Undone,
            gallery: gallery(left, true),
            again: None,
        };
        let commands = page.engine(undone(there > 1));
        assert_eq!(sent(&commands).len(), there - 1);
        page.engine(undone(false));
        assert_eq!(page.on(Event::Ask(Request::Undo)), [Command::Send(Request::Undo)]);
    }
}

#[test]
fn the_processor_takes_over_at_once_where_it_is_found_to_be_faster() {
    let mut page = Page::with(Backend::WebGpu, true);
    page.on(Event::Begin);
    page.engine(ready());
    page.give(1, None);
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert_eq!(page.on(Event::Time(Timer::Quiet(1))), [Command::Measure(1)]);
    let cost = Some(Cost { detect: 1.0, embed: 1.0 });
    let (backend, why) = ("cpu".to_owned(), "slower".to_owned());
    let choice = Choice { backend, why, cpu: cost, webgpu: cost };
    let commands = page.on(Event::Measured(1, Outcome::Measured(choice)));
    assert!(matches!(commands[0], Command::Show(Show::Choice(Some(_)))));
    assert_holds(&commands, &[Command::StartEngine(Backend::Cpu)]);
    assert!(!commands.iter().any(|command| matches!(command, Command::LeaveWebGpu(_))));
    assert_holds(&page.engine(ready()), &[Command::ReadFile(FILE, Reading::Again(2))]);
}

#[test]
fn lessons_that_are_kept_nowhere_do_not_end_with_the_slower_engine() {
    let mut page = Page::with(Backend::WebGpu, true);
    page.on(Event::Begin);
    page.engine(ready());
    page.engine(Response::Listed(gallery(true, false)));
    page.on(Event::Time(Timer::Quiet(0)));
    let (backend, why) = ("cpu".to_owned(), "slower".to_owned());
    let choice = Choice { backend, why, cpu: None, webgpu: None };
    let commands = page.on(Event::Measured(1, Outcome::Measured(choice)));
    assert!(!commands.contains(&Command::StartEngine(Backend::Cpu)));
}
