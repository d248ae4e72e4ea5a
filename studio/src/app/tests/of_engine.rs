//! What the studio has the engine do, and what it makes of what the engine says.

use super::*;
use crate::project::{Crop, Part};

/// Figures of a project in which nothing stands out.
fn figures() -> Figures {
    let class =
        |label: &str| figures::FigureClass { label: label.to_owned(), photos: 1, right: (0, 0) };
    Figures {
        classes: vec![class("a"), class("b")],
        photos: 2,
        recall: Vec::new(),
        open: None,
        map: None,
        curve: Vec::new(),
        crop: "never".to_owned(),
        mistaken: Vec::new(),
        suspects: Vec::new(),
        doubles: Vec::new(),
        outliers: Vec::new(),
        few: Vec::new(),
        are_nearly: false,
        left_out: Vec::new(),
    }
}

fn engine(app: &mut App, event: EngineEvent) -> Vec<Command> {
    update(app, 0.0, Event::Engine(event))
}

#[test]
fn the_engine_looks_at_each_photograph_once() {
    let mut app = with(&["b/0.jpg", "a/1.jpg", "a/2.jpg"]);
    let commands = update(&mut app, 0.0, Event::Want(Goal::Figures));
    assert_eq!(commands, [Command::OpenEngine, Command::Show]);
    assert_eq!(app.seen().lack, Some(Lack::Busy));
    // One of them was looked at during an earlier visit.
    let commands = engine(&mut app, EngineEvent::Opened(1, vec![id(2).to_string()]));
    assert_eq!(commands[0], Command::Look(id(1), "a/1.jpg".to_owned(), None));
    assert_eq!(app.seen().progress, Some((0, 2)));
    let commands = engine(&mut app, EngineEvent::Looked(id(1), None, Seeing::Usable));
    assert_eq!(commands[0], Command::Look(id(0), "b/0.jpg".to_owned(), None));
    assert_eq!(app.seen().progress, Some((1, 2)));
    let commands = engine(&mut app, EngineEvent::Looked(id(0), None, Seeing::Usable));
    let Command::Make(Goal::Figures, listed) = &commands[0] else { panic!("{commands:?}") };
    let names: Vec<&str> = listed.photos.iter().map(|photo| photo.name.as_str()).collect();
    assert_eq!(names, ["a/1.jpg", "a/2.jpg", "b/0.jpg"], "by label, then by name");
    engine(&mut app, EngineEvent::Progress(1, 2));
    assert_eq!(app.seen().progress, Some((1, 2)));
    engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert!(app.seen().measured.is_some_and(|measured| !measured.stale));
    // Again, after a change: nothing is looked at.
    update(&mut app, 0.0, Event::Do(Action::Title("Shelf".to_owned())));
    assert!(app.seen().measured.is_some_and(|measured| measured.stale));
    let commands = update(&mut app, 0.0, Event::Want(Goal::Site));
    assert!(matches!(commands[..], [Command::Make(Goal::Site, _), Command::Show]));
}

#[test]
fn photographs_that_the_engine_cannot_use_are_named_and_left_out() {
    let mut app = with(&["a/0.jpg", "b/1.jpg", "b/2.jpg"]);
    update(&mut app, 0.0, Event::Want(Goal::Gallery));
    engine(&mut app, EngineEvent::Opened(4, Vec::new()));
    for (number, seen) in [(2, Seeing::Unusable), (0, Seeing::Usable)] {
        engine(&mut app, EngineEvent::Looked(id(number), None, seen));
    }
    let commands = engine(&mut app, EngineEvent::Looked(id(1), None, Seeing::Usable));
    let Command::Make(_, listed) = &commands[0] else { panic!("{commands:?}") };
    assert_eq!(listed.photos.len(), 2);
    assert_eq!(app.seen().left_out, [("b/2.jpg".to_owned(), Why::Unusable)]);
    assert_eq!(app.seen().photos, 3, "the owner's own stay");
}

#[test]
fn what_the_owner_does_while_the_engine_looks_counts() {
    let mut app = with(&["a/0.jpg", "b/1.jpg"]);
    update(&mut app, 0.0, Event::Want(Goal::Figures));
    engine(&mut app, EngineEvent::Opened(4, Vec::new()));
    app.project = with(&["a/0.jpg", "b/1.jpg", "b/2.jpg"]).project;
    engine(&mut app, EngineEvent::Looked(id(0), None, Seeing::Usable));
    let commands = engine(&mut app, EngineEvent::Looked(id(1), None, Seeing::Usable));
    assert!(matches!(commands[0], Command::Look(came, ..) if came == id(2)), "{commands:?}");
    // One that the browser has lost is named, and the others go on.
    let commands = engine(&mut app, EngineEvent::Looked(id(2), None, Seeing::Gone));
    let Command::Make(_, listed) = &commands[0] else { panic!("{commands:?}") };
    assert_eq!(listed.photos.len(), 2);
    assert_eq!(app.seen().left_out, [("b/2.jpg".to_owned(), Why::Gone)]);
}

#[test]
fn one_class_that_is_left_is_nothing_to_tell_apart() {
    let mut app = with(&["a/0.jpg", "b/1.jpg"]);
    update(&mut app, 0.0, Event::Want(Goal::Figures));
    engine(&mut app, EngineEvent::Opened(4, Vec::new()));
    app.project = with(&["a/0.jpg"]).project;
    engine(&mut app, EngineEvent::Looked(id(0), None, Seeing::Usable));
    let commands = engine(&mut app, EngineEvent::Looked(id(1), None, Seeing::Usable));
    assert!(!commands.iter().any(|command| matches!(command, Command::Make(..))), "{commands:?}");
    assert!(!app.making.is_busy());
}

#[test]
fn an_engine_that_stops_is_opened_again() {
    let mut app = with(&["a/0.jpg", "b/1.jpg"]);
    update(&mut app, 0.0, Event::Want(Goal::Site));
    engine(&mut app, EngineEvent::Opened(2, Vec::new()));
    let commands = engine(&mut app, EngineEvent::Failed("out of memory".to_owned()));
    assert_eq!(commands, [Command::EndEngine, Command::Show]);
    let said = Sentence::Engine("out of memory".to_owned());
    assert_eq!(app.seen().status, (said, Look::Failed));
    assert_eq!(update(&mut app, 0.0, Event::Want(Goal::Site))[0], Command::OpenEngine);
    assert_eq!(update(&mut app, 0.0, Event::Cancel), [Command::EndEngine, Command::Show]);
    // What it still says is of no use.
    assert_eq!(engine(&mut app, EngineEvent::Opened(2, Vec::new())), [Command::Show]);
    assert_eq!(app.seen().lack, None);
}

#[test]
fn one_class_is_told_from_nothing() {
    let mut app = with(&["a/0.jpg", "1.jpg"]);
    assert_eq!(update(&mut app, 0.0, Event::Want(Goal::Site)), [Command::Show]);
    assert_eq!(app.seen().status, (Sentence::Key("two.classes"), Look::Failed));
}

#[test]
fn figures_that_name_nothing_are_not_shown() {
    let mut app = with(&["a/0.jpg", "b/1.jpg"]);
    update(&mut app, 0.0, Event::Want(Goal::Figures));
    engine(&mut app, EngineEvent::Opened(2, vec![id(0).to_string(), id(1).to_string()]));
    let double = figures::Double { photos: (0, 2), one_class: true };
    let figures = Figures { doubles: vec![double], ..figures() };
    engine(&mut app, EngineEvent::Made(Some(Box::new(figures))));
    assert_eq!(app.seen().measured, None);
    assert_eq!(app.seen().lack, None);
}

#[test]
fn one_class_lacks_another_one() {
    let app = with(&["a/0.jpg", "a/1.jpg", "2.jpg"]);
    assert_eq!(app.seen().lack, Some(Lack::Classes));
    assert_eq!(with(&["a/0.jpg", "b/1.jpg"]).seen().lack, None);
}

/// A page whose photographs were measured.
fn measured(paths: &[&str]) -> App {
    let mut app = with(paths);
    update(&mut app, 0.0, Event::Want(Goal::Figures));
    let seen = (0..paths.len() as u32).map(|number| id(number).to_string());
    engine(&mut app, EngineEvent::Opened(2, seen.collect()));
    engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    app
}

#[test]
fn figures_renew_themselves_after_the_last_change() {
    let mut app = measured(&["a/0.jpg", "b/1.jpg"]);
    let rename = |label: &str| Event::Do(Action::Title(label.to_owned()));
    let first = update(&mut app, 0.0, rename("Shelf"));
    let second = update(&mut app, 0.0, rename("Board"));
    let change = |commands: &[Command]| {
        let later = commands.iter().find_map(|command| match command {
            Command::RenewLater(change) => Some(*change),
            _ => None,
        });
        later.expect("new figures")
    };
    let (first, second) = (change(&first), change(&second));
    assert_eq!(update(&mut app, 0.0, Event::TimeToRenew(first)), [Command::Show], "it goes on");
    let commands = update(&mut app, 0.0, Event::TimeToRenew(second));
    assert!(matches!(commands[..], [Command::Make(Goal::Figures, _), Command::Show]));
    // Nobody waits for it: everything can be done meanwhile, and nothing is said.
    let seen = app.seen();
    assert_eq!((seen.lack, seen.progress), (None, None));
    assert!(seen.measured.is_some_and(|measured| measured.stale && measured.renewing));
    // A change meanwhile makes these figures stale, too.
    update(&mut app, 0.0, rename("Shelf"));
    let commands = engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert!(app.seen().measured.is_some_and(|measured| measured.stale && !measured.renewing));
    update(&mut app, 0.0, Event::TimeToRenew(change(&commands)));
    engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert!(app.seen().measured.is_some_and(|measured| !measured.stale));
}

#[test]
fn figures_by_what_was_learned_before_are_learned_anew_when_the_owner_pauses() {
    let paths: Vec<String> =
        (0..250).map(|number| format!("{}/{number}.jpg", number % 2)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut app = measured(&paths);
    update(&mut app, 0.0, Event::Do(Action::Title("Shelf".to_owned())));
    let change = app.change;
    let commands = update(&mut app, 0.0, Event::TimeToRenew(change));
    assert!(matches!(commands[..], [Command::Make(Goal::Nearly, _), Command::Show]));
    let nearly = Figures { are_nearly: true, ..figures() };
    let commands = engine(&mut app, EngineEvent::Made(Some(Box::new(nearly))));
    assert!(commands.contains(&Command::LearnLater(change)), "{commands:?}");
    let seen = app.seen();
    assert!(seen.measured.is_some_and(|of| !of.stale && of.figures.are_nearly));
    // Who goes on gets new figures first.
    update(&mut app, 0.0, Event::Do(Action::Title("Board".to_owned())));
    assert_eq!(update(&mut app, 0.0, Event::TimeToLearn(change)), [Command::Show]);
    let change = app.change;
    update(&mut app, 0.0, Event::TimeToRenew(change));
    engine(&mut app, EngineEvent::Made(Some(Box::new(Figures { are_nearly: true, ..figures() }))));
    let commands = update(&mut app, 0.0, Event::TimeToLearn(change));
    assert!(matches!(commands[..], [Command::Make(Goal::Figures, _), Command::Show]));
    let commands = engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert!(!commands.contains(&Command::LearnLater(change)), "{commands:?}");
    assert!(app.seen().measured.is_some_and(|of| !of.figures.are_nearly));
    // Figures that were asked for are learned anew already.
    assert_eq!(update(&mut app, 0.0, Event::TimeToLearn(change)), [Command::Show]);
}

#[test]
fn what_the_owner_wants_comes_after_figures_that_renew_themselves() {
    let mut app = measured(&["a/0.jpg", "b/1.jpg"]);
    update(&mut app, 0.0, Event::Do(Action::Title("Shelf".to_owned())));
    let change = app.change;
    update(&mut app, 0.0, Event::TimeToRenew(change));
    assert_eq!(update(&mut app, 0.0, Event::Want(Goal::Site)), [Command::Show]);
    assert_eq!(app.seen().lack, Some(Lack::Busy));
    let commands = engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert!(matches!(commands[..], [Command::Make(Goal::Site, _), Command::Show]), "{commands:?}");
    engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert_eq!(app.seen().status, (Sentence::Key("site.saved"), Look::Done));
}

fn answer() -> Answer {
    Answer {
        address: "blob:1".to_owned(),
        known: true,
        probability: None,
        matches: vec![("a".to_owned(), 0.9)],
        similar: Vec::new(),
    }
}

#[test]
fn a_picture_is_asked_of_the_photographs_as_they_are_now() {
    let picture = |number| GivenFile { handle: Handle(number), path: "x/new.jpg".to_owned() };
    let mut app = measured(&["a/0.jpg", "b/1.jpg"]);
    let asks = |number| Command::Ask(Handle(number), "new.jpg".to_owned());
    assert_eq!(update(&mut app, 0.0, Event::Try(picture(7)))[0], asks(7));
    let commands = engine(&mut app, EngineEvent::Asked(Handle(7), Ok(Box::new(answer()))));
    assert_eq!(commands[0], Command::LetGo(Handle(7)));
    let tried = Trying::Answered("new.jpg".to_owned(), Box::new(answer()));
    assert_eq!(app.seen().trying, Some(tried));
    // After a change they are measured first.
    update(&mut app, 0.0, Event::Do(Action::Title("Shelf".to_owned())));
    let commands = update(&mut app, 0.0, Event::Try(picture(8)));
    assert!(matches!(commands[0], Command::Make(Goal::Figures, _)), "{commands:?}");
    let commands = engine(&mut app, EngineEvent::Made(Some(Box::new(figures()))));
    assert!(commands.contains(&asks(8)), "{commands:?}");
    // A newer one takes its place; what is said of the older one is of no use.
    let commands = update(&mut app, 0.0, Event::Try(picture(9)));
    assert!(commands.contains(&Command::LetGo(Handle(8))) && commands.contains(&asks(9)));
    engine(&mut app, EngineEvent::Asked(Handle(8), Ok(Box::new(answer()))));
    assert!(matches!(app.seen().trying, Some(Trying::Waiting(Handle(9), _))));
    engine(&mut app, EngineEvent::Asked(Handle(9), Err("damaged".to_owned())));
    assert_eq!((app.seen().trying, app.seen().status.1), (None, Look::Failed));
}

#[test]
fn a_part_of_a_photograph_is_looked_at_anew_and_can_be_taken_back() {
    let mut app = measured(&["a/0.jpg", "b/1.jpg"]);
    let part = Part::between([0.1, 0.1, 0.6, 0.9]);
    assert!(part.is_some() && Part::between([0.5, 0.1, 0.5, 0.9]).is_none());
    assert!(Part::between([0.0, 0.0, 1.0, 1.0]).is_none(), "all of it is no part");
    update(&mut app, 0.0, Event::Crop(id(0), part));
    assert!(app.seen().classes[0].photos[0].cropped);
    let commands = update(&mut app, 0.0, Event::Want(Goal::Site));
    assert_eq!(commands[0], Command::Look(id(0), "a/0.jpg".to_owned(), part));
    let commands = engine(&mut app, EngineEvent::Looked(id(0), part, Seeing::Usable));
    let Command::Make(_, listed) = &commands[0] else { panic!("{commands:?}") };
    assert_eq!(listed.photos[0].record, listed::record_name((id(0), part)));
    engine(&mut app, EngineEvent::Made(None));
    // What was seen of the whole is known still.
    update(&mut app, 0.0, Event::Undo);
    let commands = update(&mut app, 0.0, Event::Want(Goal::Site));
    assert!(matches!(commands[0], Command::Make(..)), "{commands:?}");
}

#[test]
fn a_gallery_becomes_classes_with_what_is_told_of_them() {
    let mut app = begun();
    let file = vec![GivenFile { handle: Handle(3), path: "gallery.bin".to_owned() }];
    let commands = update(&mut app, 0.0, Event::Given(file, None));
    assert_eq!(commands[0], Command::OpenGallery(GivenGallery::File(Handle(3))));
    assert_eq!(app.seen().lack, Some(Lack::Busy));
    let class = |label: &str, told: &[(&str, &str)]| opening::OpenedClass {
        label: label.to_owned(),
        metadata: told.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect(),
    };
    let photo = |number, class| opening::OpenedPhoto { content: id(number).to_string(), class };
    let opened = opening::OpenedGallery {
        title: "Shelf".to_owned(),
        crop: "middle".to_owned(),
        classes: vec![class("b", &[("price", "9 €")]), class("a", &[]), class("empty", &[])],
        photos: vec![photo(0, 0), photo(1, 1), photo(2, 0)],
    };
    let event = EngineEvent::GalleryOpened(vec![Handle(3)], Ok(Box::new(opened)));
    let commands = engine(&mut app, event);
    assert_eq!(commands[0], Command::LetGo(Handle(3)));
    let pair = |label: &str, photos: &[u8]| (label.to_owned(), photos.to_vec());
    assert_eq!(numbers(&app), [pair("a", &[1]), pair("b", &[0, 2]), pair("empty", &[])]);
    let seen = app.seen();
    assert_eq!(seen.classes[1].metadata, [("price".to_owned(), "9 €".to_owned())]);
    assert_eq!((seen.title.as_str(), seen.settings.crop), ("Shelf", Some(Crop::Middle)));
    assert_eq!(seen.status, (Sentence::Opened(3, 3), Look::Done));
    // Nothing of it has to be looked at, and all of it is one step.
    update(&mut app, 0.0, Event::Want(Goal::Gallery));
    let known = (0..3).map(|number| id(number).to_string()).collect();
    let commands = engine(&mut app, EngineEvent::Opened(2, known));
    assert!(matches!(commands[0], Command::Make(Goal::Gallery, _)), "{commands:?}");
    engine(&mut app, EngineEvent::Made(None));
    update(&mut app, 0.0, Event::Undo);
    assert!(app.project.is_empty() && app.seen().settings.crop.is_none());
}

#[test]
fn another_project_is_opened_after_this_one_is_kept() {
    let mut app = App::new();
    let shelved = |id: &str, open| Shelved { id: id.to_owned(), title: String::new(), open };
    let shelf = vec![shelved("", true), shelved("x", false)];
    update(&mut app, 0.0, Event::Begin(Keeper::Own, None, shelf));
    update(&mut app, 0.0, Event::Do(Action::Title("Shelf".to_owned())));
    assert_eq!(app.seen().shelf[0].title, "Shelf", "the open one has its title of now");
    let commands = update(&mut app, 0.0, Event::Switch(Some("x".to_owned())));
    let due = Some((stored::write(&app.project), "Shelf".to_owned()));
    assert_eq!(commands[1], Command::Switch(due, Some("x".to_owned())));
    // Not while photographs come in.
    update(&mut app, 0.0, Event::Given(files(&["a/0.jpg"]), None));
    assert_eq!(update(&mut app, 0.0, Event::Switch(None)), [Command::Show]);
    assert_eq!(app.seen().status, (Sentence::Key("wait.coming"), Look::Failed));
}

#[test]
fn a_page_that_stays_begins_anew_what_the_engine_did() {
    for event in [Event::Switch(None), Event::RemoveProject] {
        let mut app = measured(&["a/0.jpg", "b/1.jpg"]);
        update(&mut app, 0.0, Event::Do(Action::Title("Shelf".to_owned())));
        let change = app.change;
        let commands = update(&mut app, 0.0, Event::TimeToRenew(change));
        assert!(matches!(commands[..], [Command::Make(Goal::Figures, _), Command::Show]));
        let commands = update(&mut app, 0.0, event);
        assert_eq!(commands[0], Command::EndEngine);
        // The browser had no room for this project.
        update(&mut app, 0.0, Event::Saved(false));
        let commands = update(&mut app, 0.0, Event::Want(Goal::Gallery));
        assert_eq!(commands, [Command::OpenEngine, Command::Show]);
    }
}
