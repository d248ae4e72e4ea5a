//! Tests of what the page does about what happens.

mod camera;
mod engines;
mod giving;
mod marking;

use serde_bytes::ByteBuf;
use wasm_engine::protocol::{
    Arithmetic, Backend, BundleInfo, Change, Edit, EngineError, ErrorKind, GalleryView, Picture,
    Recognized, RecognizedObject, Request, Response, StageTimes, Thresholds,
};

use super::event::Cost;
use super::{
    Adapter, App, Beginning, CameraEvent, CameraState, Choice, Command, Event, Facing, Failure,
    Given, Handle, Look, Outcome, PointEvent, Reading, Sentence, Show, Source, Timer, update,
};

const THRESHOLDS: Thresholds = Thresholds { min_similarity: 0.5, min_score: 0.5 };
const FILE: Handle = Handle(1);
const BITMAP: Handle = Handle(2);

/// A page in which things happen.
struct Page(App);

impl Page {
    fn with(backend: Backend, chooses: bool) -> Self {
        Self(App::new(Beginning {
            backend,
            adapter: Some(Adapter { software: false }),
            chooses,
            choice: None,
            most_answers: None,
            own_bundle: true,
        }))
    }

    /// A page whose engine is on its way.
    fn begun() -> Self {
        let mut page = Self::with(Backend::Cpu, false);
        let commands = page.on(Event::Begin);
        assert_eq!(commands.last(), Some(&Command::StartEngine(Backend::Cpu)));
        page
    }

    /// A page whose engine is there.
    fn ready() -> Self {
        let mut page = Self::begun();
        page.engine(Response::Started);
        page.engine(ready());
        page
    }

    /// A page that shows the answer to its first picture.
    fn shown() -> Self {
        let mut page = Self::ready();
        page.give(1, None);
        page.engine(Response::Recognized { id: 1, result: answer(1) });
        page
    }

    /// A page with a camera whose film has begun, as the asking of number 1.
    fn filming() -> Self {
        let mut page = Self::ready();
        page.camera(CameraEvent::Toggle);
        page.camera(given(1));
        let state = CameraState { device: "eye".to_owned(), ..CameraState::default() };
        page.camera(CameraEvent::Began(1, true, state));
        page
    }

    fn on(&mut self, event: Event) -> Vec<Command> {
        update(&mut self.0, event)
    }

    /// A file is given and read; what follows from both.
    fn give(&mut self, byte: u8, bitmap: Option<Handle>) -> Vec<Command> {
        let mut commands = self.on(Event::Given(Given::File(FILE)));
        let Some(Command::ReadFile(FILE, reading)) = commands.pop() else { panic!("{commands:?}") };
        commands.extend(self.on(Event::Decoded(reading, vec![byte], bitmap)));
        commands
    }

    fn engine(&mut self, response: Response) -> Vec<Command> {
        self.on(Event::Engine(response))
    }

    fn camera(&mut self, event: CameraEvent) -> Vec<Command> {
        self.on(Event::Camera(event))
    }

    fn point(&mut self, event: PointEvent) -> Vec<Command> {
        self.on(Event::Point(event))
    }
}

fn ready() -> Response {
    Response::Ready(BundleInfo {
        title: "Shop".to_owned(),
        classes: 2,
        entries: 3,
        in_parts: false,
        notes: Vec::new(),
        backend: Backend::Cpu,
        arithmetic: Arithmetic::F32,
        detects: true,
        thresholds: THRESHOLDS,
    })
}

fn answer(picture: u32) -> Recognized {
    Recognized {
        picture,
        width: 200,
        height: 100,
        objects: vec![RecognizedObject {
            bbox: [0.0, 0.0, 20.0, 20.0],
            detection_score: 1.0,
            known: true,
            answers: Vec::new(),
            embedding: Vec::new(),
        }],
        pointed: 0,
        timings: StageTimes::default(),
        embedded: 1,
        threads: 1,
        memory: 0.0,
    }
}

fn gallery(edited: bool, kept: bool) -> GalleryView {
    GalleryView {
        classes: 2,
        entries: 3,
        unlisted: 0,
        matching: 2,
        shown: Vec::new(),
        edited,
        can_undo: edited,
        kept,
    }
}

fn given(id: u32) -> CameraEvent {
    CameraEvent::Answered { id, facing: Facing::Back, given: true }
}

fn encoded(byte: u8) -> Picture {
    Picture::Encoded(ByteBuf::from(vec![byte]))
}

fn pixels() -> Picture {
    Picture::Pixels { width: 1, height: 1, rgba: ByteBuf::from(vec![0; 4]) }
}

fn recognize(id: u32, picture: Picture, follow: bool) -> Command {
    Command::Send(Request::Recognize { id, picture, follow })
}

fn status(key: &'static str, look: Look) -> Command {
    Command::Show(Show::Status(Sentence::Key(key), look))
}

fn failed(failure: Failure, words: &str) -> Command {
    Command::Show(Show::Status(Sentence::Failure(failure, words.to_owned()), Look::Failed))
}

fn stopped() -> Response {
    Response::Failed { id: None, error: EngineError::new(ErrorKind::Device, "gone") }
}

/// Whether the commands hold these in this order, perhaps with others between them.
fn assert_holds(commands: &[Command], expected: &[Command]) {
    let mut rest = commands.iter();
    for wanted in expected {
        assert!(rest.any(|command| command == wanted), "no {wanted:?} in {commands:#?}");
    }
}

fn sent(commands: &[Command]) -> Vec<&Request> {
    let sent = commands.iter().filter_map(|command| match command {
        Command::Send(request) => Some(request),
        _ => None,
    });
    sent.collect()
}

fn answers(commands: &[Command]) -> Vec<u32> {
    let answered = |command: &Command| match command {
        Command::Show(Show::Answers(result, _)) => Some(result.picture),
        _ => None,
    };
    commands.iter().filter_map(answered).collect()
}

#[test]
fn of_pictures_that_come_while_the_engine_loads_the_newest_is_recognized() {
    let mut page = Page::begun();
    let (first, second) = (Handle(3), Handle(4));
    for (byte, bitmap) in [(1, first), (2, second)] {
        let commands = page.give(byte, Some(bitmap));
        assert_holds(&commands, &[Command::ShowPicture(bitmap)]);
        assert!(sent(&commands).is_empty());
    }
    assert!(page.0.needs(second) && !page.0.needs(first), "the older one is let go");
    let commands = page.engine(ready());
    assert_eq!(
        sent(&commands),
        [&Request::Recognize { id: 1, picture: encoded(2), follow: false }]
    );
    assert!(page.0.needs(second), "until the answer");
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    assert!(!page.0.needs(second));
}

#[test]
fn the_picture_of_the_address_waits_for_the_engine() {
    let mut page = Page::begun();
    let address = Given::Address { address: "a.jpg".to_owned(), own: true };
    let commands = page.on(Event::AskedFor(address));
    assert_eq!(commands, [Command::Fetch { address: "a.jpg".to_owned(), number: 1 }]);
    assert!(page.on(Event::Came(1, Given::File(FILE))).is_empty());
    assert!(page.0.needs(FILE));
    assert_holds(&page.engine(ready()), &[Command::ReadFile(FILE, Reading::Given(1))]);
}

#[test]
fn another_site_is_asked_for_nothing() {
    let mut page = Page::ready();
    let address = Given::Address { address: "https://other.example/a.jpg".to_owned(), own: false };
    for event in [Event::Given(address.clone()), Event::AskedFor(address)] {
        let commands = page.on(event);
        assert_holds(&commands, &[status("other.site", Look::Failed)]);
        assert!(!commands.iter().any(|command| matches!(command, Command::Fetch { .. })));
    }
}

#[test]
fn an_engine_that_stops_is_started_again_and_asked_again() {
    let mut page = Page::ready();
    page.give(1, None);
    assert_holds(&page.engine(stopped()), &[Command::StartEngine(Backend::Cpu)]);
    let commands = page.engine(ready());
    let again = Command::ReadFile(FILE, Reading::Again(2));
    assert_holds(&commands, &[status("recovered", Look::Done), again]);
    let commands = page.on(Event::Decoded(Reading::Again(2), vec![1], None));
    assert_eq!(commands, [status("recognizing", Look::Busy), recognize(2, encoded(1), false)]);
}

#[test]
fn the_processor_follows_a_graphics_device_that_fails_twice() {
    let mut page = Page::with(Backend::WebGpu, true);
    page.on(Event::Begin);
    assert_holds(&page.engine(stopped()), &[Command::StartEngine(Backend::WebGpu)]);
    let commands = page.engine(stopped());
    let expected = [Command::LeaveWebGpu("failed"), Command::StartEngine(Backend::Cpu)];
    assert_holds(&commands, &expected);
    assert_holds(&page.engine(ready()), &[status("recovered.cpu", Look::Done)]);
}

#[test]
fn an_engine_that_stops_on_the_processor_is_given_up_after_the_plain_one() {
    let mut page = Page::ready();
    page.engine(stopped());
    assert_holds(&page.engine(stopped()), &[Command::StartPlainEngine]);
    let commands = page.engine(stopped());
    assert_holds(&commands, &[failed(Failure::Processor, "gone")]);
    assert!(!commands.contains(&Command::StartEngine(Backend::Cpu)));
}

#[test]
fn pixels_that_come_after_another_picture_are_dropped() {
    let mut page = Page::ready();
    page.give(1, Some(BITMAP));
    let error = EngineError::new(ErrorKind::Format, "AVIF");
    let commands = page.engine(Response::Failed { id: Some(1), error });
    assert_holds(&commands, &[Command::ReadPixels(Source::Held(BITMAP), 2)]);
    page.give(2, None);
    assert!(page.on(Event::Pixels(2, Some(pixels()))).is_empty());
}

#[test]
fn an_answer_to_an_older_picture_is_dropped() {
    let mut page = Page::ready();
    page.give(1, None);
    page.give(2, None);
    assert!(page.engine(Response::Recognized { id: 1, result: answer(1) }).is_empty());
    let commands = page.engine(Response::Recognized { id: 2, result: answer(2) });
    assert_eq!(answers(&commands), [2]);
    let error = EngineError::new(ErrorKind::Picture, "damaged");
    assert!(page.engine(Response::Failed { id: Some(1), error }).is_empty());
}

#[test]
fn a_photo_that_no_decoder_reads_is_refused_in_words() {
    let mut page = Page::ready();
    page.on(Event::Given(Given::File(FILE)));
    let bytes = b"\0\0\0\x18ftypheic\0\0\0\0".to_vec();
    page.on(Event::Decoded(Reading::Given(1), bytes, None));
    let error = EngineError::new(ErrorKind::Format, "HEIC");
    let commands = page.engine(Response::Failed { id: Some(1), error });
    let expected = [Command::Show(Show::NoPicture), failed(Failure::Heic, "HEIC")];
    assert_holds(&commands, &expected);
}

#[test]
fn a_file_that_cannot_be_added_says_so_and_a_later_change_does_not() {
    let mut page = Page::ready();
    assert_eq!(page.on(Event::Import(FILE)), [Command::ReadGallery(FILE)]);
    assert_eq!(page.on(Event::GalleryRead(None)), [status("no.file", Look::Failed)]);
    let bytes = ByteBuf::from(vec![1]);
    let import = Request::Edit(Edit::Import { bytes });
    assert_eq!(page.on(Event::GalleryRead(Some(vec![1]))), [Command::Send(import)]);
    for failure in [Failure::Import, Failure::Change] {
        let error = EngineError::new(ErrorKind::Gallery, "no");
        let commands = page.engine(Response::Failed { id: None, error });
        assert_holds(&commands, &[failed(failure, "no")]);
    }
}

#[test]
fn what_cannot_be_read_takes_the_older_picture_away() {
    let mut page = Page::shown();
    page.on(Event::Given(Given::File(FILE)));
    let commands = page.on(Event::Unreadable(Reading::Given(2)));
    let expected = [Show::NoAnswers, Show::NoPicture].map(Command::Show);
    assert_holds(&commands, &expected);
    assert_holds(&commands, &[status("no.picture", Look::Failed)]);
}

#[test]
fn a_lesson_is_sent_shown_and_taken_back() {
    let mut page = Page::shown();
    page.on(Event::Filter("cu".to_owned()));
    let lesson = Request::Edit(Edit::Teach { picture: 1, object: 0, label: "Cup".to_owned() });
    assert_eq!(page.on(Event::Hold), []);
    assert_eq!(page.on(Event::Ask(lesson.clone())), [Command::Send(lesson)]);
    let edited = |change: Change, gallery: GalleryView| Response::Edited {
        change,
        gallery,
        again: Some(answer(1)),
    };
    for change in [Change::Taught("Cup".to_owned()), Change::Undone, Change::Reset] {
        let view = gallery(change != Change::Reset, true);
        let commands = page.engine(edited(change.clone(), view.clone()));
        let told = Show::Status(Sentence::Changed(change), Look::Done);
        let expected = [Show::NoFilter, Show::Gallery(view), told].map(Command::Show);
        assert_holds(&commands, &expected);
        assert_eq!(answers(&commands), [1], "the card shows it");
    }
    // What was looked for is forgotten.
    let commands = page.on(Event::Panel(true));
    assert_eq!(sent(&commands), [&Request::List { filter: String::new() }]);
}

#[test]
fn an_answer_anew_to_another_picture_is_not_shown() {
    let mut page = Page::shown();
    let change = Change::Taught("Cup".to_owned());
    let again = Some(answer(7));
    let commands = page.engine(Response::Edited { change, gallery: gallery(true, true), again });
    assert!(answers(&commands).is_empty());
}

#[test]
fn lessons_that_are_kept_nowhere_end_with_the_engine_only_when_the_visitor_says_so() {
    let mut page = Page::shown();
    page.engine(Response::Listed(gallery(true, false)));
    let commands = page.on(Event::Backend("webgpu".to_owned()));
    let asked = [Show::Backend("cpu"), Show::AskBackend("webgpu".to_owned())].map(Command::Show);
    assert_eq!(commands, asked);
    let commands = page.on(Event::BackendSure("webgpu".to_owned()));
    assert_holds(&commands, &[Command::StartEngine(Backend::WebGpu)]);
}

#[test]
fn another_language_says_anew_what_is_not_the_pages_own_text() {
    let mut page = Page::shown();
    page.on(Event::Kept);
    page.on(Event::Filter("cu".to_owned()));
    let commands = page.on(Event::Language);
    let shows = [Show::SampleNames, Show::Camera(false), Show::Offline { in_parts: false }];
    assert_holds(&commands, &shows.map(Command::Show));
    assert_eq!(sent(&commands), [&Request::List { filter: "cu".to_owned() }]);
    assert_eq!(answers(&commands), [1]);
    let told = Show::Status(Sentence::Summary(1, 1), Look::Done);
    assert_eq!(commands.last(), Some(&Command::Show(told)), "the status line stays");
}

#[test]
fn a_newer_gallery_is_looked_for_once_the_engine_is_there() {
    let mut page = Page::begun();
    assert!(page.on(Event::LookAgain).is_empty());
    let mut page = Page::shown();
    assert_eq!(page.on(Event::LookAgain), [Command::Send(Request::Refresh)]);
    let tuned = Thresholds { min_similarity: 0.7, ..THRESHOLDS };
    let (title, notes) = ("New".to_owned(), vec!["Note".to_owned()]);
    let commands = page.engine(Response::Published { title, notes, thresholds: THRESHOLDS, tuned });
    let title = Show::Title("New".to_owned(), vec!["Note".to_owned()]);
    assert_eq!(commands, [title, Show::Thresholds(tuned, false)].map(Command::Show));
    assert_eq!(page.on(Event::AsPublished), [Command::Send(Request::Tune(THRESHOLDS))]);
}

#[test]
fn the_device_is_measured_once_the_visitor_does_nothing() {
    let mut page = Page::with(Backend::Cpu, true);
    page.on(Event::Begin);
    let commands = page.engine(ready());
    assert_holds(&commands, &[Command::Wait(1500, Timer::Quiet(0))]);
    assert_eq!(page.on(Event::Time(Timer::Quiet(0))), [Command::Measure(1)]);
    // A picture ends the trial; its outcome comes too late.
    let commands = page.give(1, None);
    assert_holds(&commands, &[Command::EndTrial]);
    assert!(page.on(Event::Measured(1, Outcome::Nothing)).is_empty());
    page.engine(Response::Recognized { id: 1, result: answer(1) });
    page.on(Event::Given(Given::Nothing));
    assert_eq!(page.on(Event::Time(Timer::Quiet(1))), [Command::Measure(2)]);
    let cost = Some(Cost { detect: 1.0, embed: 1.0 });
    let (backend, why) = ("webgpu".to_owned(), "faster".to_owned());
    let choice = Choice { backend, why, cpu: cost, webgpu: cost };
    let commands = page.on(Event::Measured(2, Outcome::Measured(choice)));
    assert_holds(&commands, &[Command::StartEngine(Backend::WebGpu)]);
}

#[test]
fn the_site_is_kept_with_the_engine_that_is_there() {
    let mut page = Page::begun();
    assert!(page.on(Event::KeeperChanged).is_empty());
    assert_holds(&page.engine(ready()), &[Command::Keep(Backend::Cpu)]);
    assert_eq!(page.on(Event::KeeperChanged), [Command::Keep(Backend::Cpu)]);
}

#[test]
fn objects_are_shown_inside_only_where_somebody_looks() {
    let mut page = Page::shown();
    let commands = page.on(Event::Inside(true));
    assert_eq!(sent(&commands), [&Request::Crop { picture: 1, object: 0 }]);
    assert!(sent(&page.on(Event::Inside(false))).is_empty());
}
