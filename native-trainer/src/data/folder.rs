//! A folder with one sub-folder per class: which of its files are the pictures, and what is not taken.
//!
//! Names are read in one order on every system: by their composed text, which is the class, and by their bytes
//! where that is the same.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use models::image::Format;

use super::left_out::{LeftOut, Reason, escaped};
use super::row::{DataError, Row};
use authoring::label::{checked, composed};

/// Bytes of a file that tell its format.
pub(super) const BEGINNING: u64 = 4096;

/// Files and folders that systems and programs leave among a person's own, in small letters.
const SYSTEM: [&str; 15] = [
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "__pycache__",
];

/// The same with a dot in front: folders of previews, of deleted files, of versions.
const HIDDEN_SYSTEM: [&str; 18] = [
    ".thumbnails",
    ".thumbs",
    ".@__thumb",
    ".cache",
    ".comments",
    ".xvpics",
    ".picasaoriginals",
    ".appledouble",
    ".trash",
    ".trashes",
    ".trashed",
    ".recycle",
    ".spotlight-v100",
    ".fseventsd",
    ".temporaryitems",
    ".ipynb_checkpoints",
    ".stversions",
    ".git",
];

/// Files of a published site, and those of the folder beside it, by which one is known: its images are those of a page.
const OF_A_SITE: [&str; 2] = ["magpie-files.json", "index.html"];
const OF_A_REPORT: [&str; 2] = ["embeddings.bin", "gallery.bin"];

/// What a folder of classes holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Of all classes.
    pub(super) rows: Vec<Row>,
    pub(super) left_out: Vec<LeftOut>,
    /// Classes that lie in several folders, with the folders' names.
    pub(super) joined: Vec<(String, Vec<String>)>,
}

/// Reads a folder of classes.
///
/// # Errors
///
/// [`DataError::Read`] where the folder itself cannot be read; what cannot be read inside is left out.
pub(super) fn read(root: &Path) -> Result<Contents, DataError> {
    let mut contents = Contents::default();
    let mut classes: Vec<(String, Entry)> = Vec::new();
    let failed = |source| DataError::Read { path: root.to_owned(), source };
    for entry in entries(root).map_err(failed)? {
        match contents.look(&entry) {
            Some(metadata) if metadata.is_dir() => {
                if let Some(label) = contents.class(root, &entry) {
                    classes.push((label, entry));
                }
            }
            Some(_) if entry.ending().is_some_and(Format::is_picture) && !entry.is_hidden() => {
                contents.leave(entry.path, Reason::Loose);
            }
            _ => {}
        }
    }
    classes.sort_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
    for (label, class) in &classes {
        contents.read_class(label, class);
    }
    for of_one in classes.chunk_by(|a, b| a.0 == b.0).filter(|of_one| of_one.len() > 1) {
        // Escaped, as what differs may not be seen.
        let names =
            of_one.iter().map(|(_, class)| format!("\"{}\"", escaped(&class.name))).collect();
        contents.joined.push((of_one[0].0.clone(), names));
    }
    Ok(contents)
}

impl Contents {
    fn leave(&mut self, path: PathBuf, reason: Reason) {
        self.left_out.push(LeftOut { path, reason });
    }

    /// What lies behind a name; `None` where nothing can be made of it.
    fn look(&mut self, entry: &Entry) -> Option<Metadata> {
        if entry.is_of_the_system() {
            return None;
        }
        let reason = match std::fs::metadata(&entry.path) {
            Ok(metadata) => return Some(metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A file that was removed meanwhile is no link.
                entry.path.is_symlink().then_some(Reason::Dangling)
            }
            Err(error) => Some(Reason::Unreadable(error.to_string())),
        };
        if let Some(reason) = reason.filter(|_| !entry.is_hidden()) {
            self.leave(entry.path.clone(), reason);
        }
        None
    }

    /// The class of a folder; `None` where it is none.
    fn class(&mut self, root: &Path, entry: &Entry) -> Option<String> {
        let reason = if entry.is_hidden() {
            let holds = |entry: &Entry| entry.ending().is_some_and(Format::is_readable);
            if !entries(&entry.path).is_ok_and(|inside| inside.iter().any(holds)) {
                return None;
            }
            Reason::Hidden
        } else if leads_upwards(root, &entry.path) {
            Reason::Loop
        } else if OF_A_SITE.iter().all(|name| entry.path.join(name).is_file())
            || OF_A_REPORT.iter().all(|name| entry.path.join(name).is_file())
        {
            Reason::Site
        } else if let Some(name) = entry.name.to_str() {
            match checked(name) {
                Ok(label) => return Some(label),
                Err(error) => error.into(),
            }
        } else {
            Reason::NotUtf8
        };
        self.leave(entry.path.clone(), reason);
        None
    }

    fn read_class(&mut self, label: &str, class: &Entry) {
        let inside = match entries(&class.path) {
            Ok(inside) => inside,
            Err(error) => {
                return self.leave(class.path.clone(), Reason::Unreadable(error.to_string()));
            }
        };
        let mut folders = Vec::new();
        let before = (self.rows.len(), self.left_out.len());
        for entry in inside {
            let Some(metadata) = self.look(&entry) else { continue };
            if metadata.is_dir() {
                if !entry.is_hidden() {
                    folders.push(entry.path);
                }
            } else if entry.is_hidden() {
                let is_meant = entry.ending().is_some_and(Format::is_readable);
                // A file of this kind holds what another system knows of the file that is named behind the dot.
                if is_meant && !entry.shown.starts_with("._") {
                    self.leave(entry.path, Reason::Hidden);
                }
            } else if !metadata.is_file() {
                self.leave(entry.path, Reason::NotAFile);
            } else if let Some(reason) = refusal(entry.ending(), || beginning(&entry.path)) {
                self.leave(entry.path, reason);
            } else {
                self.rows.push(Row::of_folder(entry.path, label));
            }
        }
        let is_empty = self.rows.len() == before.0;
        if is_empty && !folders.is_empty() && self.left_out.len() == before.1 {
            self.leave(class.path.clone(), Reason::FoldersOnly);
            return;
        }
        for folder in folders {
            self.leave(folder, Reason::Inside);
        }
        if is_empty {
            self.leave(class.path.clone(), Reason::NoPictures);
        }
    }
}

/// The first bytes of a file.
fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BEGINNING).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why a file is not taken: by its ending, and by its first [`BEGINNING`] bytes where the ending does not say that it
/// is read.
pub(super) fn refusal(
    by_name: Option<Format>,
    begin: impl FnOnce() -> std::io::Result<Vec<u8>>,
) -> Option<Reason> {
    if by_name.is_some_and(Format::is_readable) {
        // What it holds is seen when it is decoded.
        return None;
    }
    let reason = match by_name {
        Some(format) if !format.is_picture() => return Some(Reason::Format(format)),
        Some(format) => Reason::Format(format),
        None => Reason::NoPicture,
    };
    Some(match begin().map(|bytes| Format::of_bytes(&bytes)) {
        Err(error) => Reason::Unreadable(error.to_string()),
        Ok(format) if format.is_readable() && by_name.is_some() => return None,
        Ok(format) if format.is_readable() => Reason::Ending(format),
        Ok(format) if format.is_picture() => Reason::Format(format),
        Ok(_) => reason,
    })
}

/// Whether a folder is a link to one that it lies in.
fn leads_upwards(root: &Path, path: &Path) -> bool {
    if !path.is_symlink() {
        return false;
    }
    match (root.canonicalize(), path.canonicalize()) {
        (Ok(root), Ok(target)) => root.starts_with(target),
        _ => false,
    }
}

/// A name in a folder.
struct Entry {
    path: PathBuf,
    name: OsString,
    /// The name as text, composed.
    shown: String,
}

impl Entry {
    /// What the file should be by its ending.
    fn ending(&self) -> Option<Format> {
        Format::of_ending(&self.path.extension()?.to_string_lossy())
    }

    fn is_hidden(&self) -> bool {
        self.shown.starts_with('.')
    }

    fn is_of_the_system(&self) -> bool {
        is_of_the_system(&self.shown)
    }
}

/// Whether a system or a program has left a file or folder of this name, composed, among a person's own.
pub(super) fn is_of_the_system(name: &str) -> bool {
    let name = name.to_lowercase();
    SYSTEM.contains(&name.as_str())
        || HIDDEN_SYSTEM.contains(&name.as_str())
        // Deleted files of a user of this number.
        || name.starts_with(".trash-")
}

/// Contents of a folder, in the order of their names.
fn entries(folder: &Path) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let shown = composed(&name.to_string_lossy());
        entries.push(Entry { path: entry.path(), name, shown });
    }
    entries.sort_by(|a, b| (&a.shown, &a.name).cmp(&(&b.shown, &b.name)));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG, as far as its beginning tells.
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0";
    const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, bytes) in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir
    }

    /// Paths of the pictures and of what is left out, from the folder on.
    fn names(dir: &Path) -> (Vec<String>, Vec<(String, Reason)>) {
        let contents = read(dir).unwrap();
        let name = |path: &Path| path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
        let taken = contents.rows.iter().map(|row| name(&row.path)).collect();
        let left_out = contents.left_out.iter().map(|l| (name(&l.path), l.reason.clone()));
        (taken, left_out.collect())
    }

    fn expected(left_out: &[(&str, Reason)]) -> Vec<(String, Reason)> {
        left_out.iter().map(|(name, reason)| ((*name).to_owned(), reason.clone())).collect()
    }

    #[test]
    fn a_site_among_the_classes_is_none_of_them() {
        let dir = folder(&[
            ("a/1.jpg", JPEG),
            ("site/magpie-files.json", b"{}"),
            ("site/index.html", b"x"),
            ("site/icon.png", JPEG),
            ("site.report/embeddings.bin", b"x"),
            ("site.report/gallery.bin", b"x"),
        ]);
        let (taken, left_out) = names(dir.path());
        assert_eq!(taken, ["a/1.jpg"]);
        assert_eq!(left_out, expected(&[("site", Reason::Site), ("site.report", Reason::Site)]));
    }

    #[test]
    fn pictures_are_known_by_name_and_all_else_is_said() {
        let dir = folder(&[
            ("a/1.JPG", JPEG),
            ("a/2.jfif", JPEG),
            ("a/3.heic", HEIC),
            ("a/4.jpg.bak", JPEG),
            ("a/5", HEIC),
            ("a/6.mp4", b"x"),
            // A JPEG that a program saved under the wrong name.
            ("a/7.heic", JPEG),
            ("a/notes.txt", b"x"),
            ("b/1.heic", HEIC),
            ("loose.png", b"x"),
            ("README.md", b"x"),
        ]);
        std::fs::create_dir(dir.path().join("c")).unwrap();
        let (taken, left_out) = names(dir.path());
        assert_eq!(taken, ["a/1.JPG", "a/2.jfif", "a/7.heic"]);
        let expected = expected(&[
            ("loose.png", Reason::Loose),
            ("a/3.heic", Reason::Format(Format::Heic)),
            ("a/4.jpg.bak", Reason::Ending(Format::Jpeg)),
            ("a/5", Reason::Format(Format::Heic)),
            ("a/6.mp4", Reason::Format(Format::Video)),
            ("a/notes.txt", Reason::NoPicture),
            ("b/1.heic", Reason::Format(Format::Heic)),
            ("b", Reason::NoPictures),
            ("c", Reason::NoPictures),
        ]);
        assert_eq!(left_out, expected);
    }

    #[test]
    fn what_systems_leave_is_never_a_class_and_not_worth_a_word() {
        let dir = folder(&[
            ("@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", JPEG),
            ("__MACOSX/a/._1.jpg", b"x"),
            (".thumbnails/1.jpg", JPEG),
            ("#recycle/1.jpg", JPEG),
            (".config/settings", b"x"),
            (".DS_Store", b"x"),
            ("Thumbs.db", b"x"),
            ("a/1.jpg", JPEG),
            ("a/._1.jpg", b"x"),
            ("a/@eaDir/1.jpg", JPEG),
            ("a/desktop.ini", b"x"),
            ("a/THUMBS.DB", b"x"),
            ("a/.nomedia", b""),
        ]);
        assert_eq!(names(dir.path()), (vec!["a/1.jpg".to_owned()], Vec::new()));
    }

    #[test]
    fn hidden_pictures_and_nested_folders_are_said() {
        let dir = folder(&[
            (".NET/1.jpg", JPEG),
            ("a/.2.jpg", JPEG),
            ("a/1.jpg", JPEG),
            ("a/more/1.jpg", JPEG),
            ("train/a/1.jpg", JPEG),
            ("train/b/1.jpg", JPEG),
        ]);
        let (taken, left_out) = names(dir.path());
        assert_eq!(taken, ["a/1.jpg"]);
        let expected = expected(&[
            (".NET", Reason::Hidden),
            ("a/.2.jpg", Reason::Hidden),
            ("a/more", Reason::Inside),
            ("train", Reason::FoldersOnly),
        ]);
        assert_eq!(left_out, expected);
    }

    #[test]
    fn a_name_is_one_class_however_it_is_composed() {
        let dir = folder(&[
            ("Ka\u{308}se/2.jpg", JPEG),
            ("K\u{e4}se/1.jpg", JPEG),
            ("Kz/1.jpg", JPEG),
            (" Mug/1.jpg", JPEG),
            ("Mug/1.jpg", JPEG),
            ("   /1.jpg", JPEG),
        ]);
        let contents = read(dir.path()).unwrap();
        let labels: Vec<&str> = contents.rows.iter().map(|row| row.label.as_str()).collect();
        // Where the file system keeps the two apart.
        if std::fs::read_dir(dir.path()).unwrap().count() == 6 {
            assert_eq!(labels, ["Kz", "Käse", "Käse", "Mug", "Mug"].map(|l| l));
            let joined: Vec<_> = contents.joined.iter().map(|(label, _)| label.as_str()).collect();
            assert_eq!(joined, ["Käse", "Mug"]);
            assert_eq!(contents.joined[1].1, ["\" Mug\"", "\"Mug\""]);
        }
        let blank = LeftOut { path: dir.path().join("   "), reason: Reason::Blank };
        assert_eq!(contents.left_out, [blank]);
    }

    #[cfg(unix)]
    #[test]
    fn links_end_and_lead_to_something() {
        use std::os::unix::fs::symlink;
        let dir = folder(&[("a/1.jpg", JPEG), ("loose.jpg", JPEG)]);
        let link = |to: &str, name: &str| symlink(to, dir.path().join(name)).unwrap();
        link("nowhere.jpg", "a/2.jpg");
        link("1.jpg", "a/3.jpg");
        link("..", "a/up");
        link("self.jpg", "a/self.jpg");
        link(".", "itself");
        link("../..", "above");
        link("missing", "b");
        link("a", "c");
        let (taken, left_out) = names(dir.path());
        // A class may be a link.
        assert_eq!(taken, ["a/1.jpg", "a/3.jpg", "c/1.jpg", "c/3.jpg"]);
        let of = |name: &str| left_out.iter().find(|(path, _)| path == name).map(|(_, r)| r);
        assert_eq!(of("a/2.jpg"), Some(&Reason::Dangling));
        assert_eq!(of("b"), Some(&Reason::Dangling));
        assert_eq!(of("a/up"), Some(&Reason::Inside));
        assert!(matches!(of("a/self.jpg"), Some(Reason::Unreadable(_))), "{left_out:?}");
        assert_eq!((of("itself"), of("above")), (Some(&Reason::Loop), Some(&Reason::Loop)));
        assert_eq!(of("loose.jpg"), Some(&Reason::Loose));
    }

    #[cfg(unix)]
    #[test]
    fn a_class_that_nobody_may_read_is_named_and_the_others_are_taken() {
        use std::os::unix::fs::PermissionsExt;
        let dir = folder(&[("a/1.jpg", JPEG), ("b/1.jpg", JPEG)]);
        let closed = dir.path().join("a");
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&closed, mode(0o000)).unwrap();
        let is_closed = std::fs::read_dir(&closed).is_err();
        let (taken, left_out) = names(dir.path());
        std::fs::set_permissions(&closed, mode(0o700)).unwrap();
        // The system's administrator reads everything.
        if is_closed {
            assert_eq!(taken, ["b/1.jpg"]);
            assert!(
                matches!(&left_out[..], [(a, Reason::Unreadable(_))] if a == "a"),
                "{left_out:?}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_text_are_no_class() {
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&[("a/1.jpg", JPEG)]);
        for name in [&b"\xe4"[..], b"\xf6"] {
            let class = dir.path().join(std::ffi::OsStr::from_bytes(name));
            std::fs::create_dir(&class).unwrap();
            std::fs::write(class.join("1.jpg"), JPEG).unwrap();
            // The file itself may have such a name.
            std::fs::write(
                dir.path().join("a").join(class.with_extension("jpg").file_name().unwrap()),
                JPEG,
            )
            .unwrap();
        }
        let contents = read(dir.path()).unwrap();
        let reasons: Vec<&Reason> = contents.left_out.iter().map(|l| &l.reason).collect();
        assert_eq!(reasons, [&Reason::NotUtf8, &Reason::NotUtf8]);
        let ids: Vec<&str> =
            contents.rows.iter().map(|row| row.id.rsplit('/').next().unwrap()).collect();
        assert_eq!(ids, ["1.jpg", r"\xE4.jpg", r"\xF6.jpg"]);
    }
}
