//! In which order files of a site are put into a place that holds another.

use std::collections::BTreeSet;
use std::path::Path;

use super::names::{
    BUNDLE_FOLDER, OWN_FILES, PACKED, PRECACHE, SERVICE_WORKER, is_named_after_content,
    unpacked_name,
};
use super::owned::Owned;

/// One step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A file of the new site goes to its place.
    Place(String),
    /// A file of the site of before goes.
    Remove(String),
}

/// The steps from one site to the next. Between them the page works as far as files with unchanging names allow:
/// what is named after its content comes first, what names others later, and what nobody names anymore goes at
/// the end. A packed copy of a file that is replaced goes before, for a host would send it in its place.
pub(crate) fn in_turn(before: &Owned, new: &Owned) -> Vec<Turn> {
    let mut names: Vec<&str> = new.names().filter(|name| *name != OWN_FILES).collect();
    names.sort_by_key(|name| {
        let file = unpacked_name(name);
        (rank(file), file, *name != file, *name)
    });
    let (mut first, mut turns) = (Vec::new(), Vec::new());
    let mut removed = BTreeSet::new();
    for name in names {
        // A file where the new site has a folder.
        let above = name.match_indices('/').map(|(at, _)| &name[..at]);
        for folder in above.filter(|folder| before.contains(folder)) {
            if removed.insert(folder.to_owned()) {
                first.push(Turn::Remove(folder.to_owned()));
            }
        }
        if unpacked_name(name) == name {
            let packed = PACKED.map(|ending| format!("{name}{ending}"));
            for name in packed.into_iter().filter(|name| before.contains(name)) {
                removed.insert(name.clone());
                turns.push(Turn::Remove(name));
            }
        }
        turns.push(Turn::Place(name.to_owned()));
    }
    let stays = |name: &&str| new.contains(name) || removed.contains(*name);
    let last = before.names().filter(|name| !stays(name)).map(str::to_owned);
    first.extend(turns);
    first.extend(last.map(Turn::Remove));
    first
}

/// What is named by fewer comes later.
fn rank(name: &str) -> u8 {
    let manifest = name.strip_prefix(BUNDLE_FOLDER).is_some_and(|rest| rest == "/manifest.json");
    match name {
        SERVICE_WORKER => 5,
        PRECACHE => 4,
        _ if name.rsplit('/').next() == Some("index.html") => 3,
        _ if manifest => 2,
        _ if is_named_after_content(name) => 0,
        _ => 1,
    }
}

/// What of others has the name of a file of the site, or of a folder that it lies in.
pub(crate) fn hinders(place: &Path, own: Option<&Owned>, name: &str) -> Option<String> {
    let is_own = |name: &str| own.is_some_and(|own| own.contains(name));
    let kind = |name: &str| place.join(name).symlink_metadata().ok().map(|there| there.file_type());
    for (at, _) in name.match_indices('/') {
        let folder = &name[..at];
        match kind(folder) {
            Some(kind) if !kind.is_dir() && !is_own(folder) => return Some(folder.to_owned()),
            Some(kind) if kind.is_dir() => (),
            // What is not there, or goes, has nothing in it.
            _ => return None,
        }
    }
    let kind = kind(name)?;
    let hinders = kind.is_dir() || !is_own(name);
    hinders.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Owned {
        Owned::new(names.iter().map(|name| (*name).to_owned())).unwrap()
    }

    #[test]
    fn what_names_others_comes_behind_them_and_what_nobody_names_goes_last() {
        let before =
            list(&["index.html", "index.html.br", "bundle/gallery-0123456789abcdef.bin", "a"]);
        let new = list(&[
            "sw.js",
            "index.html",
            "index.html.gz",
            "precache.json",
            "bundle/manifest.json",
            "bundle/gallery-0123456789abcde0.bin",
            "start.js",
            "a/b",
        ]);
        let turns = in_turn(&before, &new);
        let told: Vec<String> = (turns.iter())
            .map(|turn| match turn {
                Turn::Place(name) => format!("+ {name}"),
                Turn::Remove(name) => format!("- {name}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                "- a",
                "+ bundle/gallery-0123456789abcde0.bin",
                "+ a/b",
                "+ start.js",
                "+ bundle/manifest.json",
                "- index.html.br",
                "+ index.html",
                "+ index.html.gz",
                "+ precache.json",
                "+ sw.js",
                "- bundle/gallery-0123456789abcdef.bin",
            ]
        );
    }

    #[test]
    fn files_and_folders_of_others_hinder() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["index.html", "bundle", "own"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in ["samples", "bundle/manifest.json", "own/a", "sw.js"] {
            std::fs::write(dir.path().join(file), b"x").unwrap();
        }
        let own = list(&["bundle/manifest.json", "own/a"]);
        let named = |name: &str| hinders(dir.path(), Some(&own), name);
        assert_eq!(named("index.html").as_deref(), Some("index.html"));
        assert_eq!(named("samples/1.jpg").as_deref(), Some("samples"));
        assert_eq!(named("sw.js").as_deref(), Some("sw.js"));
        for free in ["bundle/manifest.json", "bundle/x", "own/a/b", "new/folder/x"] {
            assert_eq!(named(free), None, "{free}");
        }
        assert!(hinders(dir.path(), None, "own/a").is_some());
    }
}
