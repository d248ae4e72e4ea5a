//! What an owner gives: which of it are photographs, and what their folders say that they show.

/// Something that an owner gave, as the browser holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Handle(pub(crate) u32);

/// A file that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenFile {
    /// What the browser holds.
    pub(crate) handle: Handle,
    /// Its name, with its folders as they were given.
    pub(crate) path: String,
}

/// A photograph that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) handle: Handle,
    pub(super) path: String,
    pub(super) label: Option<String>,
}

/// What becomes of what was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// In the order of their paths.
    pub(super) wanted: Vec<Wanted>,
    /// What is no photograph, by its path.
    pub(super) others: Vec<String>,
    /// What nobody needs.
    pub(super) unwanted: Vec<Handle>,
}

/// Endings of photographs.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"];

/// Names that systems leave among a person's files, in small letters.
const SYSTEM: [&str; 6] =
    ["__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"];

/// Sorts what was given. The folder in which a file lies is what it shows; where all lie in one folder that has folders of
/// its own, those count, and names begin with them.
pub(super) fn sort(files: Vec<GivenFile>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut photos = Vec::new();
    for GivenFile { handle, path } in files {
        let parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let is_system = parts
            .iter()
            .any(|part| part.starts_with('.') || SYSTEM.contains(&part.to_lowercase().as_str()));
        let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
        let is_photo = ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()));
        if is_system || !is_photo {
            sorted.unwanted.push(handle);
            if !is_system {
                sorted.others.push(path);
            }
        } else {
            photos.push((parts, handle));
        }
    }
    photos.sort();
    let roots: std::collections::BTreeSet<&str> =
        photos.iter().filter_map(|(parts, _)| folders(parts).first()).map(String::as_str).collect();
    let lie_in_one = roots.len() == 1
        && photos.iter().all(|(parts, _)| parts.len() > 1)
        && photos.iter().any(|(parts, _)| parts.len() > 2);
    let outer = usize::from(lie_in_one);
    let wanted = photos.iter().map(|(parts, handle)| Wanted {
        handle: *handle,
        path: parts[outer..].join("/"),
        label: folders(parts).get(outer).cloned(),
    });
    sorted.wanted = wanted.collect();
    if let Some(root) = roots.first().filter(|_| lie_in_one) {
        for other in &mut sorted.others {
            let rest = other.trim_start_matches('/').strip_prefix(root);
            if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('/')) {
                *other = rest.to_owned();
            }
        }
    }
    sorted.others.sort();
    sorted
}

fn folders(parts: &[String]) -> &[String] {
    parts.split_last().map_or(&[], |(_, folders)| folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(paths: &[&str]) -> Vec<(String, Option<String>)> {
        let given = |(number, path): (usize, &&str)| GivenFile {
            handle: Handle(number as u32),
            path: (*path).to_owned(),
        };
        let sorted = sort(paths.iter().enumerate().map(given).collect());
        sorted.wanted.into_iter().map(|wanted| (wanted.path, wanted.label)).collect()
    }

    #[track_caller]
    fn expect(paths: &[&str], wanted: &[(&str, Option<&str>)]) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(path, label)| ((*path).to_owned(), label.map(str::to_owned)))
            .collect();
        assert_eq!(labels(paths), wanted);
    }

    #[test]
    fn folders_say_what_photographs_show() {
        let cup = Some("cup");
        expect(
            &["/shelf/fork/1.jpg", "shelf/cup/b/2.PNG", "shelf/cup/1.jpg", "shelf/3.webp"],
            &[
                ("3.webp", None),
                ("cup/1.jpg", cup),
                ("cup/b/2.PNG", cup),
                ("fork/1.jpg", Some("fork")),
            ],
        );
        // Dropped folders, and single pictures beside them.
        expect(
            &["/cup/1.jpg", "/fork/1.jpg", "3.jpg"],
            &[("3.jpg", None), ("cup/1.jpg", cup), ("fork/1.jpg", Some("fork"))],
        );
        expect(&["cup/1.jpg", "cup/2.jpg"], &[("cup/1.jpg", cup), ("cup/2.jpg", cup)]);
    }

    #[test]
    fn other_files_are_named_and_those_of_systems_are_not() {
        let names = [
            "/s/a/notes.txt",
            "s/a/.DS_Store",
            "__MACOSX/a/1.jpg",
            "s/a/Thumbs.db",
            "s/a/jpg",
            "s/a/1.jpg",
        ];
        let given = names.iter().enumerate().map(|(number, path)| GivenFile {
            handle: Handle(number as u32),
            path: (*path).to_owned(),
        });
        let sorted = sort(given.collect());
        assert_eq!(sorted.others, ["a/jpg", "a/notes.txt"]);
        assert_eq!((sorted.wanted.len(), sorted.unwanted.len()), (1, 5));
    }
}
