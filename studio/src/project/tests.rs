//! What owners do, and that it can be taken back.

use proptest::prelude::*;

use super::*;

fn id(number: u8) -> PhotoId {
    PhotoId([number; 16])
}

fn new_photo(number: u8, label: Option<&str>) -> NewPhoto {
    let label = label.map(str::to_owned);
    NewPhoto { id: id(number), name: format!("{number}.jpg"), label }
}

/// A project with photographs `0..3` of "cup", `3..5` of "fork", and one of nothing.
fn kitchen() -> (Project, History) {
    let (mut project, mut history) = (Project::default(), History::default());
    let mut photos: Vec<NewPhoto> = (0..3).map(|n| new_photo(n, Some("cup"))).collect();
    photos.extend((3..5).map(|n| new_photo(n, Some(" fork "))));
    photos.push(new_photo(5, None));
    assert!(history.act(&mut project, Action::Add(photos), None));
    (project, history)
}

/// Names of classes with the numbers of their photographs; "" are those of none.
fn seen(project: &Project) -> Vec<(String, Vec<u8>)> {
    let numbers = |class| project.of(class).map(|photo| photo.id.0[0]).collect();
    let classes = project.classes().iter();
    let mut seen: Vec<(String, Vec<u8>)> =
        classes.map(|class| (class.label.clone(), numbers(Some(class.id)))).collect();
    seen.push((String::new(), numbers(None)));
    seen
}

fn expect(project: &Project, wanted: &[(&str, &[u8])]) {
    let wanted: Vec<(String, Vec<u8>)> =
        wanted.iter().map(|(label, photos)| ((*label).to_owned(), photos.to_vec())).collect();
    assert_eq!(seen(project), wanted);
}

fn class(project: &Project, label: &str) -> ClassId {
    project.named(label).expect("a class").id
}

#[test]
fn photographs_come_in_by_class_and_each_once() {
    let (mut project, mut history) = kitchen();
    expect(&project, &[("cup", &[0, 1, 2]), ("fork", &[3, 4]), ("", &[5])]);
    let more = vec![new_photo(0, Some("fork")), new_photo(6, Some("bowl")), new_photo(6, None)];
    history.act(&mut project, Action::Add(more), None);
    expect(&project, &[("bowl", &[6]), ("cup", &[0, 1, 2]), ("fork", &[3, 4]), ("", &[5])]);
    assert!(!history.act(&mut project, Action::Add(vec![new_photo(6, Some("x"))]), None));
}

#[test]
fn a_name_that_is_taken_merges() {
    let (mut project, mut history) = kitchen();
    let (cup, fork) = (class(&project, "cup"), class(&project, "fork"));
    let told = |texts: &[(&str, &str)]| {
        texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect::<Vec<_>>()
    };
    let price = told(&[("price", "9 €"), ("link", "https://a.example")]);
    history.act(&mut project, Action::Describe(cup, price), None);
    history.act(&mut project, Action::Describe(fork, told(&[("price", "2 €")])), None);
    history.act(&mut project, Action::Rename(cup, "  fork\u{200b}".to_owned()), None);
    expect(&project, &[("fork", &[0, 1, 2, 3, 4]), ("", &[5])]);
    let metadata = &project.class(fork).expect("a class").metadata;
    assert_eq!(*metadata, told(&[("price", "2 €"), ("link", "https://a.example")]));
    assert!(history.back(&mut project));
    expect(&project, &[("cup", &[0, 1, 2]), ("fork", &[3, 4]), ("", &[5])]);
    assert!(!history.act(&mut project, Action::Rename(cup, " \u{ad} ".to_owned()), None));
}

#[test]
fn photographs_are_moved_split_and_removed() {
    let (mut project, mut history) = kitchen();
    let fork = class(&project, "fork");
    history.act(&mut project, Action::Move(vec![id(2), id(5), id(9)], Some(fork)), None);
    expect(&project, &[("cup", &[0, 1]), ("fork", &[2, 3, 4, 5]), ("", &[])]);
    history.act(&mut project, Action::Split(vec![id(2), id(0)], "bowl".to_owned()), None);
    expect(&project, &[("bowl", &[0, 2]), ("cup", &[1]), ("fork", &[3, 4, 5]), ("", &[])]);
    history.act(&mut project, Action::Remove(vec![id(3)]), None);
    let bowl = class(&project, "bowl");
    history.act(&mut project, Action::RemoveClass(bowl), None);
    expect(&project, &[("cup", &[1]), ("fork", &[4, 5]), ("", &[])]);
    for _ in 0..4 {
        assert!(history.back(&mut project));
    }
    expect(&project, &[("cup", &[0, 1, 2]), ("fork", &[3, 4]), ("", &[5])]);
    assert!(history.back(&mut project) && project.is_empty() && !history.back(&mut project));
    for _ in 0..5 {
        assert!(history.forth(&mut project));
    }
    expect(&project, &[("cup", &[1]), ("fork", &[4, 5]), ("", &[])]);
}

#[test]
fn what_comes_in_one_gift_is_one_step() {
    let (mut project, mut history) = (Project::default(), History::default());
    for number in 0..3 {
        let photo = vec![new_photo(number, Some("cup"))];
        history.act(&mut project, Action::Add(photo), Some(7));
    }
    history.act(&mut project, Action::Title("Kitchen".to_owned()), None);
    history.act(&mut project, Action::Add(vec![new_photo(3, None)]), Some(7));
    history.back(&mut project);
    expect(&project, &[("cup", &[0, 1, 2]), ("", &[])]);
    history.back(&mut project);
    history.back(&mut project);
    assert!(project.is_empty());
    history.forth(&mut project);
    expect(&project, &[("cup", &[0, 1, 2]), ("", &[])]);
}

#[test]
fn a_table_tells_of_the_classes_that_it_names() {
    let (mut project, mut history) = kitchen();
    let text = "\u{feff}name;price;description\r\ncup;\"9 € \"\"each\"\"\";\"round,\nwhite\"\r\n\r\nspoon;1 €\r\n";
    let table = Table::read(text).expect("a table");
    assert!(history.act(&mut project, Action::Read(table.clone()), None));
    let metadata = &project.named("cup").expect("a class").metadata;
    let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
    assert_eq!(*metadata, [pair("price", "9 € \"each\""), pair("description", "round,\nwhite")]);
    assert!(!history.act(&mut project, Action::Read(table), None));
    let quoted = Table::read("name;\"price, tax, incl.\"\ncup;5\n").expect("a table");
    let told = [("price, tax, incl.".to_owned(), "5".to_owned())];
    assert_eq!(quoted.rows().collect::<Vec<_>>(), [("cup", &told[..])]);
    let empty = Table::read("name\tprice\ncup\t\n").expect("a table");
    history.act(&mut project, Action::Read(empty), None);
    let metadata = &project.named("cup").expect("a class").metadata;
    assert_eq!(*metadata, [pair("description", "round,\nwhite")]);
}

#[test]
fn what_is_no_table_is_refused_with_its_line() {
    assert_eq!(Table::read(""), Err(TableError::NoColumns));
    assert_eq!(Table::read("name\ncup\n"), Err(TableError::NoColumns));
    assert_eq!(Table::read("name,price\n\"a\nb\",1\ncup,\"9"), Err(TableError::OpenQuote(4)));
    assert_eq!(Table::read("name,price\ncup,1,2\n"), Err(TableError::TooManyFields(2)));
}

#[test]
fn ids_are_read_as_they_are_written() {
    assert_eq!(PhotoId::parse(&id(171).to_string()), Some(id(171)));
    for text in ["", "ab", "+0+0+0+0+0+0+0+0+0+0+0+0+0+0+0+0", &"é".repeat(16)] {
        assert_eq!(PhotoId::parse(text), None, "{text}");
    }
}

/// Anything that an owner may do, sensible or not.
fn actions() -> impl Strategy<Value = (Action, Option<u32>)> {
    let photos = || proptest::collection::vec((0..12_u8).prop_map(id), 0..5);
    let label = || prop_oneof!["[a-d]", Just(String::new()), "[ a-b\u{200b}]{0,3}"];
    let class = || (0..6_u32).prop_map(ClassId);
    let pairs = || proptest::collection::vec(("[a-c]?", "[a-c ]?"), 0..4);
    let new = (0..12_u8, proptest::option::of(label())).prop_map(|(number, label)| NewPhoto {
        id: id(number),
        name: number.to_string(),
        label,
    });
    let action = prop_oneof![
        proptest::collection::vec(new, 0..6).prop_map(Action::Add),
        label().prop_map(Action::AddClass),
        (class(), label()).prop_map(|(class, label)| Action::Rename(class, label)),
        (class(), class()).prop_map(|(from, into)| Action::Merge(from, into)),
        (photos(), proptest::option::of(class()))
            .prop_map(|(photos, class)| Action::Move(photos, class)),
        (photos(), label()).prop_map(|(photos, label)| Action::Split(photos, label)),
        photos().prop_map(Action::Remove),
        class().prop_map(Action::RemoveClass),
        (class(), pairs()).prop_map(|(class, pairs)| Action::Describe(class, pairs)),
        "([a-d],[a-c]?\n){0,3}".prop_map(|rows| {
            Action::Read(Table::read(&format!("name,a\n{rows}")).expect("a table"))
        }),
        label().prop_map(Action::Title),
    ];
    (action, proptest::option::of(0..2_u32))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn everything_can_be_taken_back_and_done_again(
        steps in proptest::collection::vec((actions(), 0..4_u8), 0..30),
    ) {
        let (mut project, mut history) = (Project::default(), History::default());
        for ((action, gift), way) in steps {
            match way {
                0 => drop(history.back(&mut project)),
                1 => drop(history.forth(&mut project)),
                _ => {
                    let before = project.clone();
                    let changed = history.act(&mut project, action, gift);
                    prop_assert_eq!(changed, project != before);
                }
            }
            let Project { title, settings, classes, photos } = project.clone();
            prop_assert!(Project::assemble(title, settings, classes, photos).is_some(), "{:?}", project);
        }
        while history.forth(&mut project) {}
        let last = project.clone();
        while history.back(&mut project) {}
        prop_assert_eq!(&project, &Project::default());
        while history.forth(&mut project) {}
        prop_assert_eq!(&project, &last);
    }
}
