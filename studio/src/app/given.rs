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

/// A gallery that was given: its file, or the files of a site's bundle by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GivenGallery {
    /// As `magpie gallery` and the studio write it.
    File(Handle),
    /// With the manifest among them.
    Bundle(Vec<(String, Handle)>),
}

impl GivenGallery {
    /// Its files.
    pub(super) fn handles(&self) -> Vec<Handle> {
        match self {
            Self::File(handle) => vec![*handle],
            Self::Bundle(files) => files.iter().map(|(_, handle)| *handle).collect(),
        }
    }
}

/// What becomes of what was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// A gallery, or a site of ours: then nothing else counts.
    pub(super) gallery: Option<GivenGallery>,
    /// In the order of their paths.
    pub(super) wanted: Vec<Wanted>,
    /// What is no photograph, by its path.
    pub(super) others: Vec<String>,
    /// What nobody needs.
    pub(super) unwanted: Vec<Handle>,
}

/// Endings of photographs.
const ENDINGS: [&str; 11] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "avif", "heic", "heif"];
/// Of these, those that only some browsers decode.
const FOREIGN: [&str; 3] = ["avif", "heic", "heif"];
/// Ending of a gallery's file.
const GALLERY: &str = "bin";
/// How the path of a site's manifest ends.
const MANIFEST: &str = "bundle/manifest.json";

/// Names that systems leave among a person's files, in small letters.
const SYSTEM: [&str; 6] =
    ["__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"];

/// Sorts what was given. The folder in which a file lies is what it shows; where all lie in one folder that has folders of
/// its own, those count, and names begin with them.
pub(super) fn sort(files: Vec<GivenFile>) -> Sorted {
    if let Some((gallery, unwanted)) = gallery_among(&files) {
        return Sorted { gallery: Some(gallery), unwanted, ..Sorted::default() };
    }
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

/// The gallery among files, and those that are not of it: a site's bundle, or a single file of a gallery.
fn gallery_among(files: &[GivenFile]) -> Option<(GivenGallery, Vec<Handle>)> {
    let manifest = files.iter().find(|file| {
        let path = file.path.trim_start_matches('/');
        path == MANIFEST || path.ends_with(&format!("/{MANIFEST}"))
    });
    let Some(manifest) = manifest else {
        let [file] = files else { return None };
        let (_, ending) = file.path.rsplit_once('.')?;
        let is_gallery = ending.eq_ignore_ascii_case(GALLERY);
        return is_gallery.then(|| (GivenGallery::File(file.handle), Vec::new()));
    };
    let folder = manifest.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let inside = |file: &GivenFile| {
        let name = file.path.strip_prefix(folder)?.strip_prefix('/')?;
        (!name.contains('/')).then(|| (name.to_owned(), file.handle))
    };
    let of_gallery: Vec<(String, Handle)> = files.iter().filter_map(inside).collect();
    let is_of_it = |handle: Handle| of_gallery.iter().any(|(_, known)| *known == handle);
    let unwanted = files.iter().map(|file| file.handle).filter(|handle| !is_of_it(*handle));
    let unwanted = unwanted.collect();
    Some((GivenGallery::Bundle(of_gallery), unwanted))
}

/// Whether only some browsers decode a file of this name.
pub(super) fn is_foreign(path: &str) -> bool {
    let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    ending.is_some_and(|ending| FOREIGN.contains(&ending.as_str()))
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
    fn a_gallery_and_a_site_are_told_from_photographs() {
        let given = |paths: &[&str]| {
            let file = |(number, path): (usize, &&str)| GivenFile {
                handle: Handle(number as u32),
                path: (*path).to_owned(),
            };
            sort(paths.iter().enumerate().map(file).collect())
        };
        let alone = given(&["my gallery.BIN"]);
        assert_eq!(alone.gallery, Some(GivenGallery::File(Handle(0))));
        // Among photographs a file of such an ending is something else.
        let among = given(&["a/1.jpg", "a/gallery.bin"]);
        assert_eq!((among.gallery, among.others), (None, vec!["a/gallery.bin".to_owned()]));
        for root in ["", "/site/", "shelf/site/"] {
            let paths = ["index.html", "bundle/manifest.json", "samples/1.jpg", "bundle/g-1.bin"];
            let paths = paths.map(|path| format!("{root}{path}"));
            let site = given(&paths.each_ref().map(String::as_str));
            let files = [("manifest.json", 1), ("g-1.bin", 3)];
            let files = files.map(|(name, number)| (name.to_owned(), Handle(number)));
            assert_eq!(site.gallery, Some(GivenGallery::Bundle(files.to_vec())), "{root}");
            assert_eq!(site.unwanted, [Handle(0), Handle(2)]);
        }
        let foreign = ["a.HEIC", "b.avif", "c.jpg", "heic"].map(is_foreign);
        assert_eq!(foreign, [true, true, false, false]);
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
