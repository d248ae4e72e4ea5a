//! What a visitor points at.

use serde_bytes::ByteBuf;
use wasm_engine::protocol::{Answer, Request, Response};

use super::super::{Command, Look, PointEvent, Sentence, Show};
use super::{Page, answer, assert_holds, sent};

#[test]
fn what_was_marked_is_said_by_its_name() {
    let mut page = Page::shown();
    let mut result = answer(1);
    let mut marked = result.objects[0].clone();
    marked.known = false;
    result.objects.push(marked);
    result.pointed = 1;
    let commands = page.engine(Response::Looked { result: result.clone() });
    let told = |label: Option<&str>| {
        let sentence = Sentence::Marked(label.map(str::to_owned));
        Command::Show(Show::Status(sentence, Look::Done))
    };
    assert_holds(&commands, &[told(None), Command::Show(Show::FirstAnswer)]);
    let cup = Answer {
        label: "Cup".to_owned(),
        similarity: 0.9,
        min_similarity: 0.5,
        probability: None,
        metadata: Vec::new(),
        thumbnail: ByteBuf::new(),
    };
    result.objects[1].answers.push(cup);
    result.objects[1].known = true;
    assert_holds(&page.engine(Response::Looked { result }), &[told(Some("Cup"))]);
}

#[test]
fn a_drawn_frame_is_looked_at_in_the_pictures_pixels() {
    let mut page = Page::shown();
    let down = PointEvent::Down { pointer: 1, at: (10.0, 10.0), part: (0.1, 0.1), finger: false };
    assert!(page.point(down).is_empty());
    let moved = |to: f64, part| PointEvent::Moved { pointer: 1, at: (to, to), part };
    assert!(page.point(moved(12.0, (0.11, 0.11))).is_empty(), "a hand is not steady");
    let commands = page.point(moved(60.0, (0.5, 0.4)));
    let shows = [Show::Marking(true), Show::MarkingFrame([0.1, 0.1, 0.5, 0.4])];
    assert_holds(&commands, &[Command::Capture(1)]);
    assert_holds(&commands, &shows.map(Command::Show));
    let up = PointEvent::Up { pointer: 1, on_box: false, sides: (100.0, 50.0) };
    let commands = page.point(up);
    let regions = vec![[20.0, 10.0, 100.0, 40.0]];
    assert_holds(&commands, &[Command::Show(Show::Marking(false))]);
    assert_eq!(sent(&commands), [&Request::Look { picture: 1, regions }]);
}

#[test]
fn a_finger_moves_the_page_unless_the_visitor_marks() {
    let mut page = Page::shown();
    let down = PointEvent::Down { pointer: 1, at: (10.0, 10.0), part: (0.1, 0.1), finger: true };
    let moved = PointEvent::Moved { pointer: 1, at: (60.0, 60.0), part: (0.5, 0.4) };
    page.point(down.clone());
    assert!(page.point(moved.clone()).is_empty());
    page.point(PointEvent::Begin);
    page.point(down);
    assert_holds(&page.point(moved), &[Command::Capture(1)]);
}

#[test]
fn a_tap_is_looked_at_in_squares_inside_the_picture() {
    let mut page = Page::shown();
    page.point(PointEvent::Down { pointer: 1, at: (1.0, 1.0), part: (0.0, 0.0), finger: true });
    let commands = page.point(PointEvent::Up { pointer: 1, on_box: false, sides: (200.0, 100.0) });
    let [Request::Look { picture: 1, regions }] = sent(&commands)[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(
        regions[..],
        [[0.0, 0.0, 25.0, 25.0], [0.0, 0.0, 45.0, 45.0], [0.0, 0.0, 75.0, 75.0]]
    );
}

#[test]
fn keys_move_the_marking_frame_inside_the_picture() {
    let mut page = Page::shown();
    page.point(PointEvent::Begin);
    for _ in 0..100 {
        page.point(PointEvent::Key("ArrowRight".to_owned(), false));
    }
    let commands = page.point(PointEvent::Key("Enter".to_owned(), false));
    let [Request::Look { regions, .. }] = sent(&commands)[..] else { panic!("{commands:?}") };
    assert_eq!(regions[..], [[120.0, 30.0, 200.0, 70.0]]);
    page.point(PointEvent::Begin);
    let commands = page.point(PointEvent::Key("Escape".to_owned(), false));
    assert_eq!(commands, [Show::Marking(false), Show::FocusMark].map(Command::Show));
}
