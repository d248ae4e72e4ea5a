//! What the studio does about what happens.

use super::*;

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
    update(&mut app, 0.0, Event::Begin(Keeper::Own, None));
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
    assert_eq!(app.seen().left_out, [("b/x.jpg".to_owned(), Why::Double)]);
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
    let Some(Command::Save(bytes)) = commands.first() else { panic!("{commands:?}") };
    assert_eq!(stored::read(bytes), Ok(app.project.clone()));
    // A change while the browser writes is kept afterwards.
    let rename = || Event::Do(Action::Title("Shelf".to_owned()));
    assert_eq!(update(&mut app, 0.0, rename()), [Command::Show]);
    assert_eq!(update(&mut app, 0.0, Event::Saved(true)), [Command::SaveLater, Command::Show]);
    let commands = update(&mut app, 0.0, Event::Leaving);
    assert!(matches!(commands[..], [Command::Save(_), Command::Show]));
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
    let commands = update(&mut app, 0.0, Event::Begin(Keeper::Own, Some(bytes.clone())));
    assert_eq!(commands[0], Command::KeepOnly(vec![id(0), id(1)]));
    assert_eq!(app.seen().photos, 2);
    assert_eq!(app.seen().undo, (false, false));
    let mut newer = bytes.clone();
    newer[8] = 9;
    let mut app = App::new();
    let commands = update(&mut app, 0.0, Event::Begin(Keeper::Own, Some(newer)));
    assert_eq!(commands, [Command::Show], "what a newer page wrote stays as it is");
    assert_eq!(app.seen().keeper, Keeper::Nowhere);
    let mut app = App::new();
    update(&mut app, 0.0, Event::Begin(Keeper::Own, Some(bytes[..30].to_vec())));
    assert_eq!(app.seen().status.0, Sentence::Key("damaged"));
}

#[test]
fn a_second_tab_only_says_so() {
    let mut app = App::new();
    update(&mut app, 0.0, Event::Begin(Keeper::Elsewhere, None));
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
    assert_eq!(app.seen().status, (Sentence::Told(1), Look::Done));
    update(&mut app, 0.0, table("name,price\nd,1 €\n"));
    assert_eq!(app.seen().status, (Sentence::Told(0), Look::Failed));
    update(&mut app, 0.0, table("name"));
    assert_eq!(app.seen().status.1, Look::Failed);
}

/// Figures of a project in which nothing stands out.
fn figures() -> Figures {
    let class = |label: &str| making::FigureClass { label: label.to_owned(), photos: 1 };
    Figures {
        classes: vec![class("a"), class("b")],
        photos: 2,
        recall: Vec::new(),
        open: None,
        mistaken: Vec::new(),
        suspects: Vec::new(),
        doubles: Vec::new(),
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
    assert!(!app.seen().can_make);
    // One of them was looked at during an earlier visit.
    let commands = engine(&mut app, EngineEvent::Opened(1, vec![id(2)]));
    assert_eq!(commands[0], Command::Look(id(1), "a/1.jpg".to_owned()));
    assert_eq!(app.seen().progress, Some((0, 2)));
    let commands = engine(&mut app, EngineEvent::Looked(id(1), Seeing::Usable));
    assert_eq!(commands[0], Command::Look(id(0), "b/0.jpg".to_owned()));
    assert_eq!(app.seen().progress, Some((1, 2)));
    let commands = engine(&mut app, EngineEvent::Looked(id(0), Seeing::Usable));
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
        engine(&mut app, EngineEvent::Looked(id(number), seen));
    }
    let commands = engine(&mut app, EngineEvent::Looked(id(1), Seeing::Usable));
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
    engine(&mut app, EngineEvent::Looked(id(0), Seeing::Usable));
    let commands = engine(&mut app, EngineEvent::Looked(id(1), Seeing::Usable));
    assert!(matches!(commands[0], Command::Look(came, _) if came == id(2)), "{commands:?}");
    // One that the browser has lost is named, and the others go on.
    let commands = engine(&mut app, EngineEvent::Looked(id(2), Seeing::Gone));
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
    engine(&mut app, EngineEvent::Looked(id(0), Seeing::Usable));
    let commands = engine(&mut app, EngineEvent::Looked(id(1), Seeing::Usable));
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
    assert!(app.seen().can_make);
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
    engine(&mut app, EngineEvent::Opened(2, vec![id(0), id(1)]));
    let double = making::Double { photos: (0, 2), one_class: true };
    let figures = Figures { doubles: vec![double], ..figures() };
    engine(&mut app, EngineEvent::Made(Some(Box::new(figures))));
    assert_eq!(app.seen().measured, None);
    assert!(app.seen().can_make);
}
