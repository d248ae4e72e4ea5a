//! Of several pictures the newest counts, however long each of them takes.

use wasm_engine::protocol::{EngineError, ErrorKind, Response};

use super::super::{CameraEvent, Command, Event, Given, Handle, Look, Reading, Show, Source};
use super::{
    BITMAP, FILE, Page, answer, answers, assert_holds, encoded, given, pixels, recognize, sent,
    status,
};

const SLOW: Handle = Handle(7);

fn own(address: &str) -> Given {
    Given::Address { address: address.to_owned(), own: true }
}

fn fetch(address: &str, number: u32) -> Command {
    Command::Fetch { address: address.to_owned(), number }
}

#[test]
fn a_sample_that_comes_late_does_not_replace_what_was_given_since() {
    let mut page = Page::ready();
    assert_holds(&page.on(Event::Given(own("a.jpg"))), &[fetch("a.jpg", 1)]);
    page.give(1, None);
    for late in [Given::File(SLOW), Given::Nothing] {
        assert!(page.on(Event::Came(1, late)).is_empty());
    }
    assert!(!page.0.needs(SLOW), "it is let go");
    let commands = page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert_eq!(answers(&commands), [1]);
}

#[test]
fn of_two_samples_the_newest_is_read() {
    let mut page = Page::ready();
    page.on(Event::Given(own("a.jpg")));
    page.on(Event::Given(own("b.jpg")));
    assert!(page.on(Event::Came(1, Given::File(SLOW))).is_empty());
    let reads = Command::ReadFile(FILE, Reading::Given(2));
    assert_eq!(page.on(Event::Came(2, Given::File(FILE))), [reads]);
}

#[test]
fn a_file_that_is_decoded_late_does_not_replace_a_newer_one() {
    let mut page = Page::ready();
    page.on(Event::Given(Given::File(SLOW)));
    page.give(2, Some(BITMAP));
    let late = Handle(8);
    assert!(page.on(Event::Decoded(Reading::Given(1), vec![1], Some(late))).is_empty());
    assert!(page.on(Event::Unreadable(Reading::Given(1))).is_empty());
    assert!(page.0.needs(BITMAP) && !page.0.needs(late) && !page.0.needs(SLOW));
}

#[test]
fn the_picture_of_the_address_does_not_replace_what_the_visitor_gave() {
    let mut page = Page::begun();
    page.on(Event::AskedFor(own("a.jpg")));
    page.give(2, None);
    assert!(page.on(Event::Came(1, Given::File(SLOW))).is_empty());
    let commands = page.engine(super::ready());
    assert_holds(&commands, &[recognize(1, encoded(2), false)]);
    // Nor does one that came before, and waits.
    let mut page = Page::begun();
    page.on(Event::AskedFor(own("a.jpg")));
    page.on(Event::Came(1, Given::File(SLOW)));
    page.give(2, None);
    assert!(!page.0.needs(SLOW));
    assert_holds(&page.engine(super::ready()), &[recognize(1, encoded(2), false)]);
}

#[test]
fn a_picture_that_comes_late_does_not_end_a_camera() {
    let mut page = Page::ready();
    page.on(Event::Given(own("a.jpg")));
    page.camera(CameraEvent::Toggle);
    page.camera(given(1));
    assert!(page.on(Event::Came(1, Given::File(SLOW))).is_empty());
}

#[test]
fn what_is_refused_is_the_newest_too() {
    let mut page = Page::ready();
    page.on(Event::Given(own("a.jpg")));
    page.on(Event::Given(Given::Nothing));
    assert!(page.on(Event::Came(1, Given::File(SLOW))).is_empty());
}

#[test]
fn a_decoded_picture_is_held_until_its_pixels_are_read() {
    let mut page = Page::ready();
    page.give(1, Some(BITMAP));
    let error = EngineError::new(ErrorKind::Format, "AVIF");
    let commands = page.engine(Response::Failed { id: Some(1), error });
    assert_holds(&commands, &[Command::ReadPixels(Source::Held(BITMAP), 2)]);
    assert!(page.0.needs(BITMAP));
    let commands = page.on(Event::Pixels(2, Some(pixels())));
    assert_holds(&commands, &[recognize(2, pixels(), false)]);
    assert!(!page.0.needs(BITMAP));
}

#[test]
fn a_picture_that_browsers_falsify_is_held_no_longer() {
    let mut page = Page::ready();
    page.give(1, Some(BITMAP));
    let error = EngineError::new(ErrorKind::Format, "AVIF");
    page.engine(Response::Failed { id: Some(1), error });
    assert_eq!(page.on(Event::Pixels(2, None)), [status("pixels.falsified", Look::Failed)]);
    assert!(!page.0.needs(BITMAP));
}

#[test]
fn an_answer_to_a_picture_is_not_shown_on_the_film_of_a_camera() {
    let mut page = Page::ready();
    page.give(1, None);
    page.camera(CameraEvent::Toggle);
    page.camera(given(1));
    page.camera(CameraEvent::Began(1, true, super::CameraState::default()));
    let commands = page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert!(answers(&commands).is_empty(), "{commands:?}");
    // The same where it waited for the engine.
    let mut page = Page::begun();
    page.give(1, None);
    page.camera(CameraEvent::Toggle);
    page.camera(given(1));
    page.camera(CameraEvent::Began(1, true, super::CameraState::default()));
    assert!(sent(&page.engine(super::ready())).is_empty());
    assert!(!page.on(Event::Language).contains(&Command::Show(Show::NoPicture)));
}
