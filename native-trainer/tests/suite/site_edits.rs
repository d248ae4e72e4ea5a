//! Files of a published site that somebody has changed: publishing again keeps them, `verify` finds every one.

use std::path::Path;

use crate::sites::{LIST, Shop, listed, publishing};
use crate::world::with_fault;

#[test]
fn what_the_owner_has_edited_is_kept_and_named() {
    let shop = Shop::new();
    let (first, again) = (publishing("gallery.bin", "site", ""), publishing("new.bin", "site", ""));
    shop.does(&first);
    let site = shop.path("site");
    let read = |name: &str| std::fs::read_to_string(site.join(name)).expect("a text");
    let headers = read("_headers");
    // What nobody has edited is replaced, and nothing is said of it.
    let (_, told) = shop.told(&again);
    assert!(!told.contains("edited"), "{told}");

    let published = read("_headers");
    let own = format!("{headers}/mine.html\n  x-mine: 1\n");
    std::fs::write(site.join("_headers"), &own).expect("a file");
    std::fs::write(site.join("index.html"), "mine").expect("a file");
    let error = shop.refused("verify site");
    assert!(error.contains("has changed since the site was published; publish"), "{error}");
    std::fs::write(site.join("_headers"), &published).expect("a file");
    let error = shop.refused("verify site");
    assert!(error.contains("error: index.html: has changed since"), "{error}");
    std::fs::write(site.join("_headers"), &own).expect("a file");
    for number in 0..2 {
        let (is_well, told) = shop.told(&first);
        assert!(is_well, "{told}");
        assert!(told.contains("site/_headers: has been edited and is kept"), "{told}");
        assert_eq!(read("_headers"), own);
        assert!(read("_headers.new").contains("cross-origin-opener-policy"));
        let replaced = "site/index.html: had been edited and was replaced; the edited one is kept as \
                        index.html.edited";
        assert_eq!(told.contains(replaced), number == 0, "{told}");
        assert_ne!(read("index.html"), "mine");
        assert_eq!(read("index.html.edited"), "mine");
        shop.does("verify site");
    }
    // A second edit takes no other's place.
    std::fs::write(site.join("index.html"), "mine, too").expect("a file");
    shop.does(&again);
    assert_eq!(
        (read("index.html.edited").as_str(), read("index.html.edited-2").as_str()),
        ("mine", "mine, too")
    );
    // What is kept already is not kept twice.
    std::fs::write(site.join("index.html"), "mine").expect("a file");
    shop.does(&first);
    assert!(!site.join("index.html.edited-3").exists());
    // Whoever takes the file away gets that of magpie.
    std::fs::remove_file(site.join("_headers")).expect("a file");
    shop.does(&again);
    assert_eq!(read("_headers").lines().next(), headers.lines().next());
    assert!(!read("_headers").contains("x-mine"));
}

#[test]
fn what_lies_where_the_new_file_would_go_stays_as_it_is() {
    let shop = Shop::new();
    let publish = publishing("gallery.bin", "site", "");
    shop.does(&publish);
    let site = shop.path("site");
    let read = |name: &str| std::fs::read_to_string(site.join(name)).expect("a text");
    let own = format!("{}# mine\n", read("_headers"));
    std::fs::write(site.join("_headers"), &own).expect("a file");
    std::fs::write(site.join("_headers.new"), "somebody's").expect("a file");
    #[cfg(unix)]
    {
        std::fs::write(shop.path("elsewhere"), "outside").expect("a file");
        let link = site.join("_headers.new-2");
        std::os::unix::fs::symlink(shop.path("elsewhere"), link).expect("a link");
    }
    let beside = if cfg!(unix) { "_headers.new-3" } else { "_headers.new-2" };
    // The second publishing knows its own file again.
    for _ in 0..2 {
        let (is_well, told) = shop.told(&publish);
        assert!(is_well && told.contains(beside), "{told}");
        assert_eq!((read("_headers"), read("_headers.new").as_str()), (own.clone(), "somebody's"));
        assert!(read(beside).contains("cross-origin-opener-policy"));
        shop.does("verify site");
    }
    #[cfg(unix)]
    assert_eq!(std::fs::read_to_string(shop.path("elsewhere")).expect("a file"), "outside");
}

#[cfg(unix)]
#[test]
fn a_file_for_hosts_that_is_a_link_stays_one() {
    let shop = Shop::new();
    let publish = publishing("gallery.bin", "site", "");
    shop.does(&publish);
    let link = shop.path("site/_headers");
    let headers = std::fs::read_to_string(&link).expect("a text");
    let publish_again = |place: &Path| {
        shop.does(&publish);
        assert_eq!(std::fs::read_link(place.join("_headers")).ok(), Some("../mine".into()));
        shop.does("verify site");
    };
    std::fs::remove_file(&link).expect("a file");
    std::os::unix::fs::symlink("../mine", &link).expect("a link");
    for text in [headers.clone(), format!("{headers}# mine\n")] {
        shop.0.write("mine", &text);
        publish_again(&shop.path("site"));
        assert_eq!(std::fs::read_to_string(shop.path("mine")).expect("a text"), text);
    }
    // A place that is given other files one by one.
    let place = shop.path("site");
    let here = with_fault_in(&place, &publishing("../gallery.bin", ".", ""));
    assert!(here.contains("_headers: has been edited and is kept"), "{here}");
    assert_eq!(std::fs::read_link(place.join("_headers")).ok(), Some("../mine".into()));
    shop.does("verify site");
}

/// What is published from inside the place says.
#[cfg(unix)]
fn with_fault_in(place: &Path, line: &str) -> String {
    let line = line.replace("model.safetensors", "../model.safetensors") + " --page ../dist";
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let output = with_fault(place, "", &words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

#[test]
fn edits_are_seen_where_no_list_says_what_was_published() {
    let shop = Shop::new();
    shop.0.write("dist/magpie.js", "export {};");
    shop.0.write("dist/magpie.d.ts", "export {};");
    shop.0.write("dist/long.css", "p { margin: 0 }\n".repeat(200));
    let (first, again) = (publishing("gallery.bin", "site", ""), publishing("new.bin", "site", ""));
    let site = shop.path("site");
    let forget: [&dyn Fn(); 2] = [
        // A site without a list, and one whose list has names alone.
        &|| std::fs::remove_file(site.join(LIST)).expect("a list"),
        &|| {
            let names = listed(&site);
            let list = serde_json::json!({ "version": 1, "files": names });
            std::fs::write(site.join(LIST), list.to_string()).expect("a list");
        },
    ];
    for forget in forget {
        std::fs::remove_dir_all(&site).ok();
        shop.does(&first);
        forget();
        shop.does("verify site");
        // Nothing is edited, and nothing is said of it.
        let (is_well, told) = shop.told(&again);
        assert!(is_well && !told.contains("edited"), "{told}");
        forget();
        for name in ["long.css", "_headers"] {
            std::fs::write(site.join(name), "mine").expect("a file");
        }
        let error = shop.refused("verify site");
        assert!(error.contains("error: long.css: has changed since"), "{error}");
        let (is_well, told) = shop.told(&first);
        assert!(is_well, "{told}");
        assert!(told.contains("site/_headers: has been edited and is kept"), "{told}");
        assert!(told.contains("edited one is kept as long.css.edited"), "{told}");
        let read = |name: &str| std::fs::read_to_string(site.join(name)).expect("a text");
        assert_eq!((read("_headers"), read("long.css.edited")), ("mine".into(), "mine".into()));
        shop.does("verify site");
    }
}

#[test]
fn a_flipped_byte_in_any_file_is_found() {
    let shop = Shop::new();
    shop.0.write("dist/magpie.d.ts", "export {};");
    shop.does(&publishing("gallery.bin", "site", "--sample photos/0/0.png"));
    let site = shop.path("site");
    shop.does("verify site");
    for name in listed(&site).iter().filter(|name| *name != LIST) {
        let path = site.join(name);
        let bytes = std::fs::read(&path).expect("a file");
        let mut flipped = bytes.clone();
        match flipped.last_mut() {
            Some(last) => *last ^= 1,
            None => flipped.push(1),
        }
        std::fs::write(&path, flipped).expect("a file");
        let error = shop.refused("verify site");
        let file = name.rsplit('/').next().unwrap_or(name);
        let is_told = error.contains(file) || error.contains("a file of the page has changed");
        assert!(is_told, "{name}: {error}");
        std::fs::write(&path, bytes).expect("a file");
    }
    shop.does("verify site");
}
