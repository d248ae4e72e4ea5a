//! Files of a published site that somebody has changed: publishing again keeps them, `verify` finds every one.

use crate::sites::{LIST, Shop, listed, publishing};

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

    let own = format!("{headers}/mine.html\n  x-mine: 1\n");
    std::fs::write(site.join("_headers"), &own).expect("a file");
    std::fs::write(site.join("index.html"), "mine").expect("a file");
    let error = shop.refused("verify site");
    assert!(error.contains("publish"), "{error}");
    for number in 0..2 {
        let (is_well, told) = shop.told(&first);
        assert!(is_well, "{told}");
        assert!(told.contains("site/_headers: has been edited and is kept"), "{told}");
        assert_eq!(read("_headers"), own);
        assert!(read("_headers.new").contains("cross-origin-opener-policy"));
        let replaced = "site/index.html: has been edited and is replaced; the edited one is kept as \
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
