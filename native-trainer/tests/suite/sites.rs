//! Sites published again and again: what others put there stays, at any moment there is a whole site, and places
//! that cannot take one are refused before the work begins.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::world::{World, copy_tree, is_of, on_threads, shape, succeed, tree, with_fault};

pub(crate) const LIST: &str = "magpie-files.json";
/// What others put into a site.
const FOREIGN: [&str; 7] = [
    ".git/objects/ab/cdef",
    ".nojekyll",
    "CNAME",
    "about.html",
    "bundle/mine.txt",
    "files/archive.tar.gz",
    "bench/own/page.html",
];

/// What a site is published from.
pub(crate) struct Shop(pub(crate) World);

impl Shop {
    pub(crate) fn new() -> Self {
        let world = World::new();
        world.model();
        world.page();
        world.write("dist/sw.js", "const VERSION = \"unpublished\";");
        world.write("dist/worker-cpu.js", "");
        world.write("dist/bench/index.html", "bench");
        for number in 0..2 {
            for class in 0..2 {
                let picture = shape(class, 0, 40).encode_png().expect("a PNG");
                world.write(&format!("photos/{class}/{number}.png"), picture);
            }
        }
        let shop = Self(world);
        let build = "gallery build --images photos --extractor model.safetensors --out gallery.bin";
        shop.does(build);
        shop.does("gallery rename gallery.bin 1 mug");
        std::fs::rename(shop.path("gallery.bin"), shop.path("new.bin")).expect("a new name");
        shop.does(build);
        shop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    pub(crate) fn does(&self, line: &str) {
        let (is_well, told) = self.told(line);
        assert!(is_well, "{line}: {told}");
    }

    /// Runs a command with one word between blanks; whether it went well, and what it said.
    pub(crate) fn told(&self, line: &str) -> (bool, String) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let output = with_fault(&self.path(""), "", &words);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub(crate) fn refused(&self, line: &str) -> String {
        let (is_well, told) = self.told(line);
        assert!(
            !is_well && told.contains("error:") && !told.contains("panicked"),
            "{line}: {told}"
        );
        told
    }

    /// A site of the first gallery with two samples, to which others have added.
    fn site(&self) -> PathBuf {
        self.does(&publishing(
            "gallery.bin",
            "site",
            "--sample photos/0/0.png --sample photos/1/0.png",
        ));
        let site = self.path("site");
        add_foreign(&site);
        site
    }
}

/// A command line.
pub(crate) fn publishing(gallery: &str, out: &str, more: &str) -> String {
    let line = format!("publish --extractor model.safetensors --gallery {gallery} --out {out}");
    if more.is_empty() { line } else { format!("{line} {more}") }
}

fn add_foreign(site: &Path) {
    for name in FOREIGN {
        let path = site.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, format!("foreign {name}")).expect("a file");
    }
    std::fs::create_dir_all(site.join("empty")).expect("a folder");
    #[cfg(unix)]
    std::os::unix::fs::symlink("CNAME", site.join("link")).expect("a link");
}

fn assert_foreign_is_there(site: &Path, place: &str) {
    for name in FOREIGN {
        let text = std::fs::read_to_string(site.join(name));
        assert_eq!(text.ok(), Some(format!("foreign {name}")), "{place}: {name}");
    }
    assert!(site.join("empty").is_dir(), "{place}");
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(site.join("link")).expect("a link"),
        Path::new("CNAME"),
        "{place}"
    );
}

/// What a tree holds that the site owns.
fn own(tree: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let mut own = tree.clone();
    own.retain(|name, _| !FOREIGN.contains(&name.as_str()) && name != "link");
    own
}

pub(crate) fn listed(site: &Path) -> Vec<String> {
    let list = std::fs::read(site.join(LIST)).expect("the list");
    let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
    assert_eq!(list["version"], 1);
    serde_json::from_value(list["files"].clone()).expect("names")
}

#[test]
fn what_others_put_into_a_site_stays() {
    let shop = Shop::new();
    let site = shop.site();
    let before = tree(&site);
    assert_eq!(own(&before).into_keys().collect::<Vec<_>>(), listed(&site));
    let node = |name: &str| {
        #[cfg(unix)]
        return std::os::unix::fs::MetadataExt::ino(&site.join(name).metadata().unwrap());
        #[cfg(not(unix))]
        return name.len();
    };
    let nodes = FOREIGN.map(node);
    shop.does(&publishing("new.bin", "site", "--sample photos/0/0.png"));
    assert_foreign_is_there(&site, "published again");
    assert_eq!(FOREIGN.map(node), nodes, "nothing was read or copied");
    let after = tree(&site);
    let names: Vec<String> = own(&after).into_keys().collect();
    assert_eq!(names, listed(&site));
    assert!(before.contains_key("samples/2.png") && !after.contains_key("samples/2.png"));
    let galleries = names.iter().filter(|name| name.starts_with("bundle/gallery-"));
    assert_eq!(galleries.filter(|name| is_of(name, "bin")).count(), 1, "{names:?}");
    assert!(shop.told("verify site").1.contains("whole"));
    std::fs::remove_file(site.join("worker-cpu.js")).unwrap();
    assert!(shop.refused("verify site").contains("worker-cpu.js: has gone"));

    // The folders' names beside it and the lock are gone.
    let beside = tree(&shop.path(""));
    let hidden: Vec<_> = beside.keys().filter(|name| name.starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn a_site_without_a_list_can_be_published_again() {
    let shop = Shop::new();
    for is_with_worker in [true, false] {
        if !is_with_worker {
            std::fs::remove_file(shop.path("dist/sw.js")).unwrap();
        }
        let site = shop.site();
        std::fs::remove_file(site.join(LIST)).unwrap();
        let before = own(&tree(&site));
        assert!(shop.told("verify site").1.contains("whole"));
        shop.does(&publishing("new.bin", "site", ""));
        assert_foreign_is_there(&site, "from before there were lists");
        let after = own(&tree(&site));
        assert_eq!(after.keys().cloned().collect::<Vec<_>>(), listed(&site));
        assert!(before.contains_key("samples/1.png") && !after.contains_key("samples/1.png"));
        std::fs::remove_dir_all(site).unwrap();
    }
}

#[test]
fn a_file_of_others_in_the_way_is_named_before_the_work_begins() {
    let shop = Shop::new();
    shop.site();
    let before = tree(&shop.path("site"));
    let refused = |told: &str| {
        // Without a model no work could begin.
        let line = publishing("new.bin", "site", "--sample photos/0/0.png")
            .replace("model.safetensors", "none.safetensors");
        let said = shop.refused(&line);
        assert!(said.contains(told), "{said}");
        assert!(tree(&shop.path("site")) == before, "{told}: something has changed");
    };
    refused("none.safetensors");
    shop.0.write("dist/about.html", "of the page");
    refused("site: holds about.html, which magpie did not write");
    std::fs::remove_file(shop.path("dist/about.html")).unwrap();
    shop.0.write("dist/CNAME/a.js", "");
    refused("holds CNAME, ");
    std::fs::remove_dir_all(shop.path("dist/CNAME")).unwrap();
    shop.0.write("dist/files", "");
    refused("holds files, ");
    std::fs::remove_file(shop.path("dist/files")).unwrap();
    let list = std::fs::read(shop.path("site").join(LIST)).unwrap();
    let mut stranger: serde_json::Value = serde_json::from_slice(&list).unwrap();
    stranger["files"][0] = "../dist/index.html".into();
    std::fs::write(shop.path("site").join(LIST), stranger.to_string()).unwrap();
    let said = shop.refused(&publishing("new.bin", "site", ""));
    assert!(said.contains("magpie-files.json") && said.contains("is no name of"), "{said}");
    assert!(shop.path("dist/index.html").is_file());
}

#[test]
fn a_place_works_or_is_refused_before_the_work_begins() {
    let shop = Shop::new();
    let refused = |out: &str, told: &str| {
        let line =
            publishing("new.bin", out, "").replacen("model.safetensors", "none.safetensors", 1);
        let before = tree(&shop.path(""));
        let said = shop.refused(&line);
        assert!(said.contains(told), "{out}: {said}");
        assert!(tree(&shop.path("")) == before, "{out}: something has changed");
    };
    refused("model.safetensors", "model.safetensors: is a file; name a folder");
    refused("dist", "dist: holds other files");
    refused("dist/site", "dist/site: lies in the built page");
    refused(".", "holds other files");
    shop.0.write("notes/mine.txt", "mine");
    refused("notes", "notes: holds other files (mine.txt); choose an empty folder");
    std::fs::create_dir(shop.path("closed")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(shop.path("closed"), PermissionsExt::from_mode(0o555)).unwrap();
        refused("closed", "closed: is read-only");
    }

    // Folders that are empty, new, or of a host that has put its own files there.
    std::fs::create_dir(shop.path("empty")).unwrap();
    shop.0.write("clone/.git/config", "foreign");
    shop.0.write("clone/CNAME", "foreign");
    for out in ["empty", "new/deep/er", "clone"] {
        shop.does(&publishing("gallery.bin", out, ""));
        assert!(shop.told(&format!("verify {out}")).1.contains("whole"), "{out}");
    }
    assert_eq!(std::fs::read(shop.path("clone/.git/config")).unwrap(), b"foreign");
    // The gallery lies in the folder.
    std::fs::copy(shop.path("new.bin"), shop.path("empty/own.bin")).unwrap();
    shop.does(&publishing("empty/own.bin", "empty", ""));
    assert!(shop.path("empty/own.bin").is_file());
    let said = shop.refused(&publishing("new.bin", "empty", "--page empty/bench"));
    assert!(said.contains("is a part of this site"), "{said}");

    // A link keeps pointing where it does.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("new/deep/er", shop.path("link")).unwrap();
        add_foreign(&shop.path("new/deep/er"));
        let before = own(&tree(&shop.path("new/deep/er")));
        shop.does(&publishing("new.bin", "link", ""));
        assert!(shop.path("link").is_symlink());
        assert!(own(&tree(&shop.path("new/deep/er"))) != before);
        assert_foreign_is_there(&shop.path("link"), "behind a link");
    }
}

/// Publishes into the working directory.
fn publish_here(site: &Path, fault: &str) -> std::process::Output {
    let words = [
        "publish",
        "--extractor",
        "../model.safetensors",
        "--gallery",
        "../new.bin",
        "--page",
        "../dist",
        "--out",
        ".",
    ];
    with_fault(site, fault, &words.map(str::to_owned))
}

#[test]
fn the_working_directory_stays_the_same_folder() {
    let shop = Shop::new();
    let site = shop.site();
    let node = |path: &Path| {
        #[cfg(unix)]
        return std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
        #[cfg(not(unix))]
        return path.to_owned();
    };
    let before = node(&site);
    let output = publish_here(&site, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(node(&site), before, "a shell that stands there goes on standing in the site");
    assert_foreign_is_there(&site, "in place");
    assert_eq!(own(&tree(&site)).into_keys().collect::<Vec<_>>(), listed(&site));
    assert!(!site.join("samples").exists(), "a folder of own files alone goes with them");
    assert!(shop.told("verify site").1.contains("whole"));
}

/// Numbers of operations to stop at: all where the site takes its place, some before and behind.
fn chosen((count, taking): (u64, u64), most: u64) -> Vec<u64> {
    let all = taking.saturating_sub(10)..taking + most;
    (0..count).filter(|n| all.contains(n) || n % 16 == 0 || n + 1 == count).collect()
}

/// The operations of a publishing, and where its site begins to take its place.
fn counted(output: &std::process::Output) -> (u64, u64) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let done: Vec<&str> = told.lines().filter(|line| line.starts_with("MAGPIE_FAULT ")).collect();
    let taking = done.iter().position(|line| line.ends_with("Rename"));
    (done.len() as u64, taking.expect("something is renamed") as u64)
}

#[test]
fn killed_anywhere_there_is_one_whole_site_with_all_files_of_others() {
    let shop = Shop::new();
    let site = shop.site();
    let old = own(&tree(&site));
    let line = publishing("new.bin", "site", "");
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let copy = |name: &str| {
        let folder = shop.path(&format!("copies/{name}"));
        copy_tree(&site, &folder.join("site"));
        copy_tree(&shop.path("dist"), &folder.join("dist"));
        for file in ["model.safetensors", "new.bin"] {
            std::fs::copy(shop.path(file), folder.join(file)).unwrap();
        }
        folder
    };
    let folder = copy("whole");
    let counted @ (count, _) = counted(&with_fault(&folder, "count", &words));
    let new = own(&tree(&folder.join("site")));
    assert!(old != new);
    on_threads(&chosen(counted, 6), |number| {
        for kind in if number % 16 == 0 { &["kill", "full"][..] } else { &["kill"] } {
            let place = format!("{kind}:{number} of {count}");
            let folder = copy(&place);
            let output = with_fault(&folder, &format!("{kind}:{number}"), &words);
            let told = String::from_utf8_lossy(&output.stderr);
            let mut now = own(&tree(&folder.join("site")));
            // Says that the one before was replaced; no host sends hidden files.
            now.retain(|name, _| {
                !name.starts_with(".magpie-replaced") && !name.starts_with("..magpie")
            });
            assert!(now == old || now == new, "{place}: {:?}\n{told}", now.keys());
            assert_foreign_is_there(&folder.join("site"), &place);
            if *kind == "full" {
                let hidden = tree(&folder).into_keys().find(|name| name.starts_with('.'));
                assert!(
                    hidden.is_none() && (output.status.success() || now == old),
                    "{place}: {hidden:?} {told}"
                );
                continue;
            }
            let output = with_fault(&folder, "", &words);
            assert!(
                output.status.success(),
                "{place}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(own(&tree(&folder.join("site"))) == new, "{place}: rolled forward");
            assert_foreign_is_there(&folder.join("site"), &place);
            let hidden = tree(&folder).into_keys().find(|name| name.starts_with('.'));
            assert!(hidden.is_none(), "{place}: {hidden:?}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    });
}

#[test]
fn killed_anywhere_in_the_working_directory_the_next_publishing_goes_on() {
    let shop = Shop::new();
    let site = shop.site();
    let old = own(&tree(&site));
    let copy = |name: &str| {
        let folder = shop.path(name);
        copy_tree(&site, &folder);
        folder
    };
    let whole = copy("whole");
    let counted @ (count, _) = counted(&publish_here(&whole, "count"));
    let new = own(&tree(&whole));
    on_threads(&chosen(counted, 20), |number| {
        let place = format!("kill:{number} of {count}");
        let folder = copy(&place);
        publish_here(&folder, &format!("kill:{number}"));
        let now = own(&tree(&folder));
        let seen = now.iter().filter(|(name, _)| !name.starts_with('.') && *name != LIST);
        for (name, bytes) in seen {
            let is_whole = old.get(name) == Some(bytes) || new.get(name) == Some(bytes);
            assert!(is_whole, "{place}: {name} is neither");
        }
        let manifest = std::fs::read(folder.join("bundle/manifest.json")).expect("a manifest");
        let manifest = models::bundle::Manifest::from_bytes(&manifest).expect("whole");
        for file in manifest.files {
            let bytes =
                std::fs::read(folder.join("bundle").join(&file.name)).expect("a file of it");
            assert_eq!(bytes.len() as u64, file.bytes, "{place}: {}", file.name);
        }
        assert!(folder.join("index.html").is_file());
        assert_foreign_is_there(&folder, &place);
        let output = publish_here(&folder, "");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(own(&tree(&folder)) == new, "{place}: rolled forward");
        assert_foreign_is_there(&folder, &place);
        std::fs::remove_dir_all(folder).unwrap();
    });
}

#[test]
fn two_publishings_at_once_follow_each_other() {
    let shop = Shop::new();
    let site = shop.site();
    let held = native_trainer::files::Lock::acquire(&site).unwrap();
    let publish = |title: &str| {
        Command::new(env!("CARGO_BIN_EXE_magpie"))
            .current_dir(shop.path(""))
            .args(publishing("new.bin", "site", "--title").split(' '))
            .arg(title)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("magpie runs")
    };
    let children = ["one", "two"].map(publish).map(|mut child| {
        let mut line = String::new();
        let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
        errors.read_line(&mut line).expect("a line");
        assert!(line.starts_with("waiting: process ") && line.ends_with("/site\n"), "{line}");
        child
    });
    drop(held);
    for mut child in children {
        assert!(child.wait().expect("a status").success());
    }
    assert_foreign_is_there(&site, "after both");
    assert!(succeed(&[&"verify", &site]).contains("whole"));
    assert_eq!(own(&tree(&site)).into_keys().collect::<Vec<_>>(), listed(&site));
}

#[test]
fn the_page_of_a_published_site_can_be_published_again() {
    let shop = Shop::new();
    shop.0.write("dist/index.html", "<!doctype html><title>Magpie</title>");
    let first = shop.site();
    let text =
        |site: &str| std::fs::read_to_string(shop.path(site).join("index.html")).expect("a page");
    assert_eq!(text("site"), "<!doctype html><title>Magpie</title>");
    shop.0.write("site/bench/peers.json", "[]");
    shop.does(&publishing("new.bin", "other", "--page site --title <Shop>"));
    assert_eq!(text("other"), "<!doctype html><title>&lt;Shop&gt;</title>");
    let verified = shop.told("verify other").1;
    assert!(verified.contains("other: whole"), "{verified}");
    // Nothing of the first site's but its page: no samples, no packed copies of other files, nothing of others.
    let mut names = listed(&shop.path("other"));
    names.retain(|name| !name.starts_with("bundle/") && !is_of(name, "br") && !is_of(name, "gz"));
    assert_eq!(
        names,
        [
            "_headers",
            "bench/index.html",
            "index.html",
            LIST,
            "precache.json",
            "samples.json",
            "sw.js",
            "worker-cpu.js"
        ]
    );
    // A site keeps its version as long as nothing changes, and has another one where only the title does.
    let worker = |site: &str| std::fs::read(shop.path(site).join("sw.js")).expect("a worker");
    let before = worker("other");
    assert_ne!(before, std::fs::read(first.join("sw.js")).expect("a worker"));
    shop.does(&publishing("new.bin", "other", "--title <Shop>"));
    assert!(worker("other") == before);
    shop.does(&publishing("new.bin", "other", "--title Shop"));
    assert_eq!(text("other"), "<!doctype html><title>Shop</title>");
    assert!(worker("other") != before && shop.told("verify other").0);
    let before = tree(&shop.path(""));
    shop.0.write("dist/sw.js", "no version");
    let refused = shop.refused(&publishing("new.bin", "other", ""));
    assert!(refused.contains("sw.js: has no place for the site's version"), "{refused}");
    shop.0.write("dist/sw.js", &before["dist/sw.js"]);
    assert!(tree(&shop.path("")) == before);
}
