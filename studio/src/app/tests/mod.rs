//! What the studio does about what happens.

mod of_engine;

use super::*;
use crate::stored;

fn id(number: u32) -> PhotoId {
    PhotoId([number as u8; 16])
}

fn files(paths: &[&str]) -> Vec<GivenFile> {
    let file = |(number, path): (usize, &&str)| GivenFile {
        handle: Handle(number as u32),
        path: (*path).to_owned(),
    };
    paths.iter().enumerate().map(file).collect()
}

/// A page that keeps its project.
fn begun() -> App {
    let mut app = App::new();
    update(&mut app, 0.0, Event::Begin(Keeper::Own, None, Vec::new()));
    app
}

/// A page with these photographs, each with the number of its place as its id.
fn with(paths: &[&str]) -> App {
    let mut app = begun();
    let mut commands = update(&mut app, 0.0, Event::Given(files(paths), None));
    let mut now = 0.0;
    while !commands.is_empty() {
        let mut next = Vec::new();
        for command in commands {
            if let Command::Prepare(handle) = command {
                now += 100.0;
                let prepared = Prepared::Photo(id(handle.0), true);
                next.extend(update(&mut app, now, Event::Prepared(handle, prepared)));
            }
        }
        commands = next;
    }
    app
}

fn numbers(app: &App) -> Vec<(String, Vec<u8>)> {
    let classes = app.seen().classes.into_iter();
    let numbers = |class: SeenClass| class.photos.iter().map(|photo| photo.id.0[0]).collect();
    classes.map(|class| (class.label.clone(), numbers(class))).collect()
}

fn chosen(app: &App) -> Vec<u8> {
    app.chosen.iter().map(|id| id.0[0]).collect()
}

#[test]
fn photographs_come_in_in_the_order_in_which_they_were_given() {
    let mut app = begun();
    let paths = ["a/0.jpg", "a/1.jpg", "b/2.jpg", "b/3.jpg", "b/4.jpg", "notes.txt"];
    let commands = update(&mut app, 0.0, Event::Given(files(&paths), None));
    let beside: Vec<_> = (0..4).map(|number| Command::Prepare(Handle(number))).collect();
    assert_eq!(commands[1..5], beside);
    // The last of them is ready first.
    let photo = |number| Event::Prepared(Handle(number), Prepared::Photo(id(number), true));
    for number in [3, 2, 1] {
        update(&mut app, 1.0, photo(number));
    }
    assert_eq!((app.project.photos().len(), app.seen().progress), (0, Some((0, 5))));
    let commands = update(&mut app, 2.0, photo(0));
    assert!(commands.contains(&Command::Prepare(Handle(4))));
    assert!(commands.contains(&Command::SaveLater));
    let broken = Event::Prepared(Handle(4), Prepared::Broken);
    update(&mut app, 3.0, broken);
    let pair = |label: &str, photos: &[u8]| (label.to_owned(), photos.to_vec());
    assert_eq!(numbers(&app), [pair("a", &[0, 1]), pair("b", &[2, 3])]);
    let out = [("notes.txt".to_owned(), Why::NoPhoto), ("b/4.jpg".to_owned(), Why::Broken)];
    assert_eq!(app.seen().left_out, out);
    assert_eq!(app.seen().status, (Sentence::Added(4, 2), Look::Done));
    // All of the gift is one step.
    update(&mut app, 4.0, Event::Undo);
    assert!(app.project.is_empty());
}

#[test]
fn doubles_are_named() {
    let mut app = with(&["a/0.jpg"]);
    let more = vec![GivenFile { handle: Handle(9), path: "b/x.jpg".to_owned() }];
    update(&mut app, 0.0, Event::Given(more, None));
    update(&mut app, 0.0, Event::Prepared(Handle(9), Prepared::Photo(id(0), true)));
    assert_eq!(app.seen().left_out, [("b/x.jpg".to_owned(), Why::Double(Some("a".to_owned())))]);
    assert_eq!(app.seen().status, (Sentence::Added(0, 1), Look::Failed));
}

#[test]
fn what_is_cancelled_leaves_what_came() {
    let mut app = begun();
    let paths: Vec<String> = (0..9).map(|number| format!("a/{number}.jpg")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    update(&mut app, 0.0, Event::Given(files(&paths), None));
    update(&mut app, 1.0, Event::Prepared(Handle(0), Prepared::Photo(id(0), true)));
    let commands = update(&mut app, 2.0, Event::Cancel);
    let gone = (1..9).filter(|number| commands.contains(&Command::LetGo(Handle(*number)))).count();
    assert_eq!((gone, app.seen().progress, app.seen().photos), (8, None, 1));
    // One that was under way answers still.
    let commands = update(&mut app, 3.0, Event::Prepared(Handle(1), Prepared::Photo(id(1), true)));
    assert_eq!((commands, app.seen().photos), (vec![Command::Show], 1));
}

#[test]
fn the_rest_is_told_in_seconds() {
    let mut app = begun();
    let paths: Vec<String> = (0..40).map(|number| format!("a/{number:02}.jpg")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    update(&mut app, 0.0, Event::Given(files(&paths), None));
    for number in 0..10 {
        assert_eq!(app.seen().seconds_left.is_some(), number > 7, "{number}");
        let photo = Prepared::Photo(id(number), true);
        update(&mut app, 500.0 * f64::from(number + 1), Event::Prepared(Handle(number), photo));
    }
    assert_eq!(app.seen().seconds_left, Some(15));
}

#[test]
fn photographs_are_chosen_as_in_a_list_of_files() {
    let mut app = with(&["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/4.jpg", "b/5.jpg"]);
    let b = app.project.named("b").map(|class| class.id);
    let mut select = |select: Select| {
        update(&mut app, 0.0, Event::Select(select));
        chosen(&app)
    };
    assert_eq!(select(Select::Only(id(1))), [1]);
    assert_eq!(select(Select::To(id(3))), [1, 2, 3]);
    assert_eq!(select(Select::To(id(0))), [0, 1]);
    assert_eq!(select(Select::Toggle(id(5))), [0, 1, 5]);
    assert_eq!(select(Select::Toggle(id(0))), [1, 5]);
    assert_eq!(select(Select::To(id(4))), [4]);
    assert_eq!(select(Select::All(b)), [4, 5]);
    assert_eq!(select(Select::Nothing), [0; 0]);
}

#[test]
fn the_chosen_are_moved_named_and_removed() {
    let mut app = with(&["a/0.jpg", "a/1.jpg", "a/2.jpg"]);
    let a = app.project.named("a").map(|class| class.id);
    update(&mut app, 0.0, Event::Select(Select::Only(id(0))));
    update(&mut app, 0.0, Event::NameChosen(" cup ".to_owned()));
    assert_eq!(app.seen().status, (Sentence::Moved(1, "cup".to_owned()), Look::Done));
    update(&mut app, 0.0, Event::Select(Select::All(a)));
    update(&mut app, 0.0, Event::RemoveChosen);
    assert_eq!((app.seen().status.0, app.seen().chosen), (Sentence::Removed(2), 0));
    update(&mut app, 0.0, Event::MoveChosen(a));
    assert_eq!(app.seen().status.0, Sentence::Removed(2), "nothing is chosen");
    for _ in 0..2 {
        update(&mut app, 0.0, Event::Undo);
    }
    assert_eq!(app.project.of(a).count(), 3);
}

#[test]
fn a_project_is_kept_soon_after_it_has_changed() {
    let mut app = with(&["a/0.jpg"]);
    let commands = update(&mut app, 0.0, Event::TimeToSave);
    let Some(Command::Save(bytes, _)) = commands.first() else { panic!("{commands:?}") };
    assert_eq!(stored::read(bytes), Ok(app.project.clone()));
    // A change while the browser writes is kept afterwards.
    let rename = || Event::Do(Action::Title("Shelf".to_owned()));
    assert_eq!(update(&mut app, 0.0, rename()), [Command::Show]);
    assert_eq!(update(&mut app, 0.0, Event::Saved(true)), [Command::SaveLater, Command::Show]);
    let commands = update(&mut app, 0.0, Event::Leaving);
    assert!(matches!(commands[..], [Command::Save(..), Command::Show]));
    assert_eq!(update(&mut app, 0.0, Event::Saved(true)), [Command::Show]);
    assert_eq!(update(&mut app, 0.0, Event::Leaving), [Command::Show]);
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let mut app = with(&["a/0.jpg"]);
    update(&mut app, 0.0, Event::TimeToSave);
    update(&mut app, 0.0, Event::Saved(false));
    assert_eq!(app.seen().status, (Sentence::Key("full"), Look::Failed));
    assert_eq!((app.seen().photos, app.seen().keeper), (1, Keeper::Nowhere));
    assert!(app.would_lose());
    // A photograph that there is no room for.
    let mut app = with(&["a/0.jpg"]);
    assert!(!app.would_lose());
    let more = vec![GivenFile { handle: Handle(9), path: "b/9.jpg".to_owned() }];
    update(&mut app, 0.0, Event::Given(more, None));
    update(&mut app, 0.0, Event::Prepared(Handle(9), Prepared::Photo(id(9), false)));
    assert_eq!(app.seen().status, (Sentence::Key("full"), Look::Failed));
    assert!(app.seen().photos == 2 && app.would_lose());
}

#[test]
fn what_was_kept_comes_back() {
    let bytes = stored::write(&with(&["a/0.jpg", "b/1.jpg"]).project);
    let mut app = App::new();
    let commands =
        update(&mut app, 0.0, Event::Begin(Keeper::Own, Some(bytes.clone()), Vec::new()));
    assert_eq!(commands[0], Command::KeepOnly(vec![id(0), id(1)]));
    assert_eq!(app.seen().photos, 2);
    assert_eq!(app.seen().undo, (false, false));
    let mut newer = bytes.clone();
    newer[8] = 9;
    let mut app = App::new();
    let commands = update(&mut app, 0.0, Event::Begin(Keeper::Own, Some(newer), Vec::new()));
    assert_eq!(commands, [Command::Show], "what a newer page wrote stays as it is");
    assert_eq!(app.seen().keeper, Keeper::Nowhere);
    let mut app = App::new();
    update(&mut app, 0.0, Event::Begin(Keeper::Own, Some(bytes[..30].to_vec()), Vec::new()));
    assert_eq!(app.seen().status.0, Sentence::Key("damaged"));
}

#[test]
fn a_second_tab_only_says_so() {
    let mut app = App::new();
    update(&mut app, 0.0, Event::Begin(Keeper::Elsewhere, None, Vec::new()));
    let commands = update(&mut app, 0.0, Event::Given(files(&["a/0.jpg"]), None));
    assert_eq!(commands, [Command::LetGo(Handle(0)), Command::Show]);
    update(&mut app, 0.0, Event::Do(Action::AddClass("cup".to_owned())));
    assert!(app.project.is_empty());
    assert_eq!(app.seen().status, (Sentence::Key("elsewhere"), Look::Failed));
}

#[test]
fn photographs_that_are_put_on_a_class_are_of_it() {
    let mut app = with(&["a/0.jpg"]);
    let a = app.project.named("a").map(|class| class.id);
    let more = vec![GivenFile { handle: Handle(9), path: "x/9.jpg".to_owned() }];
    update(&mut app, 0.0, Event::Given(more, a));
    update(&mut app, 0.0, Event::Prepared(Handle(9), Prepared::Photo(id(9), true)));
    assert_eq!(app.project.of(a).count(), 2);
}

#[test]
fn a_table_says_of_how_many_classes_it_tells() {
    let mut app = with(&["a/0.jpg", "b/1.jpg"]);
    let table = |text: &str| Event::Table(Some(text.to_owned()));
    update(&mut app, 0.0, table("name,price\na,1 €\nc,2 €\n"));
    assert_eq!(app.seen().status, (Sentence::Told(1, 1), Look::Done));
    assert_eq!(app.seen().left_out, [("c".to_owned(), Why::NoClass)]);
    update(&mut app, 0.0, table("name,price\nd,1 €\n"));
    assert_eq!(app.seen().status, (Sentence::Told(0, 1), Look::Failed));
    update(&mut app, 0.0, table("name"));
    assert_eq!(app.seen().status.1, Look::Failed);
}

#[test]
fn a_double_says_where_it_is_and_may_be_moved_to_where_it_was_put() {
    let mut app = with(&["a/0.jpg", "b/1.jpg", "2.jpg"]);
    let b = app.project.named("b").map(|class| class.id);
    let more = (10..13)
        .map(|number| GivenFile { handle: Handle(number), path: format!("x/{number}.jpg") });
    update(&mut app, 0.0, Event::Given(more.collect(), b));
    for number in 10..13 {
        let photo = Prepared::Photo(id(number - 10), true);
        update(&mut app, 0.0, Event::Prepared(Handle(number), photo));
    }
    let why = |label: Option<&str>| Why::Double(label.map(str::to_owned));
    let out: Vec<Why> = app.seen().left_out.into_iter().map(|(_, why)| why).collect();
    assert_eq!(out, [why(Some("a")), why(Some("b")), why(None)]);
    let offer = Offer { photos: 2, label: Some("b".to_owned()) };
    assert_eq!(app.seen().offer, Some(offer), "the one of b is where it was put");
    update(&mut app, 0.0, Event::TakeOffer(true));
    assert_eq!(app.project.of(b).count(), 3);
    assert_eq!((app.seen().offer, app.seen().status.0), (None, Sentence::Placed(2)));
    // One step, and the class that a folder names is made.
    update(&mut app, 0.0, Event::Undo);
    assert_eq!(app.project.of(b).count(), 1);
    let again = vec![GivenFile { handle: Handle(20), path: "new/0.jpg".to_owned() }];
    update(&mut app, 0.0, Event::Given(again.clone(), None));
    update(&mut app, 0.0, Event::Prepared(Handle(20), Prepared::Photo(id(0), true)));
    update(&mut app, 0.0, Event::TakeOffer(true));
    let new = app.project.named("new").map(|class| class.id);
    assert!(new.is_some() && app.project.of(new).count() == 1);
    // Nothing is asked about what is to stay.
    update(&mut app, 0.0, Event::Undo);
    update(&mut app, 0.0, Event::Given(again, None));
    update(&mut app, 0.0, Event::Prepared(Handle(20), Prepared::Photo(id(0), true)));
    update(&mut app, 0.0, Event::TakeOffer(false));
    assert_eq!((app.seen().offer, app.project.named("new").is_some()), (None, false));
}

#[test]
fn a_page_that_ends_keeps_what_the_browser_has_not_written() {
    let mut app = with(&["a/0.jpg"]);
    let kept = |commands: Vec<Command>| {
        commands.into_iter().find_map(|command| match command {
            Command::SaveNow(bytes) => Some(stored::read(&bytes).expect("a project")),
            _ => None,
        })
    };
    let ending = update(&mut app, 0.0, Event::Ending);
    assert_eq!(kept(ending), Some(app.project.clone()), "it is due");
    update(&mut app, 0.0, Event::TimeToSave);
    assert!(kept(update(&mut app, 0.0, Event::Ending)).is_some(), "it is being written");
    update(&mut app, 0.0, Event::Saved(true));
    assert_eq!(kept(update(&mut app, 0.0, Event::Ending)), None);
}

#[test]
fn photographs_that_still_come_in_would_be_lost() {
    let mut app = begun();
    assert!(!app.would_lose());
    update(&mut app, 0.0, Event::Given(files(&["a/0.jpg"]), None));
    assert!(app.would_lose());
    update(&mut app, 0.0, Event::Prepared(Handle(0), Prepared::Photo(id(0), true)));
    assert!(!app.would_lose());
}
