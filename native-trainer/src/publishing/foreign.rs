//! Files of others in a site's folder: taken along by a second name, never read, never lost.

use std::fs::{DirEntry, Metadata};
use std::io::Result;
use std::path::Path;

use super::owned::Owned;
use crate::files::{self, FileError, Operation};

/// Gives all that is not the site's own a second name in another folder; links and folders are made anew there.
/// `skips` is asked for the names at the top that have none to be.
///
/// # Errors
///
/// What the system says: not every file may have a second name, not every folder may be looked into.
pub(crate) fn bring(
    from: &Path,
    to: &Path,
    own: &Owned,
    skips: &dyn Fn(&str) -> bool,
) -> Result<()> {
    bring_from(from, to, "", own, skips)
}

fn bring_from(
    from: &Path,
    to: &Path,
    prefix: &str,
    own: &Owned,
    skips: &dyn Fn(&str) -> bool,
) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let within = within(prefix, &entry);
        if within.as_deref().is_some_and(|within| prefix.is_empty() && skips(within)) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // A name that is no text is nobody's but others'.
            let deeper = within.map(|within| (own.has_in(&within), format!("{within}/")));
            let (is_own, prefix) = deeper.unwrap_or((false, format!("{prefix}\u{0}/")));
            if !is_own {
                make_closed(&target)?;
            }
            bring_from(&source, &target, &prefix, own, skips)?;
            if !is_own {
                open_alike(&target, &source)?;
                files::synchronize_folder(&target)?;
            }
        } else if !within.is_some_and(|within| own.contains(&within)) {
            files::create_folder(to)?;
            if kind.is_symlink() {
                link_alike(&source, &target)?;
            } else {
                files::hard_link(&source, &target)?;
            }
        }
    }
    Ok(())
}

/// Takes away what is left of a site that another has taken the place of. What is in it of others and missing in the
/// new one, or newer, came while the two were exchanged, and goes there.
///
/// # Errors
///
/// [`FileError`] of the first that cannot be taken away; what is of others is then in one of the two.
pub(crate) fn retire(
    old: &Path,
    new: &Path,
    own: &Owned,
    skips: &dyn Fn(&str) -> bool,
) -> std::result::Result<(), FileError> {
    retire_from(old, new, "", own, skips)
}

fn retire_from(
    old: &Path,
    new: &Path,
    prefix: &str,
    own: &Owned,
    skips: &dyn Fn(&str) -> bool,
) -> std::result::Result<(), FileError> {
    let unread = |source| FileError::Read { path: old.to_owned(), source };
    for entry in std::fs::read_dir(old).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let within = within(prefix, &entry);
        if within.as_deref().is_some_and(|within| prefix.is_empty() && skips(within)) {
            continue;
        }
        let (source, target) = (entry.path(), new.join(entry.file_name()));
        let unmoved = |error| FileError::Write { path: target.clone(), source: error };
        let there = source.symlink_metadata().map_err(unread)?;
        if there.is_dir() {
            let deeper = within.map(|within| (own.has_in(&within), format!("{within}/")));
            let (is_own, prefix) = deeper.unwrap_or((false, format!("{prefix}\u{0}/")));
            let is_late = !is_own && target.symlink_metadata().is_err();
            if is_late {
                make_closed(&target).map_err(unmoved)?;
            }
            retire_from(&source, &target, &prefix, own, skips)?;
            if is_late {
                open_alike(&target, &source).map_err(unmoved)?;
            }
            let removed =
                files::reach(Operation::Remove).and_then(|()| std::fs::remove_dir(&source));
            removed.map_err(|error| FileError::Remove { path: source.clone(), source: error })?;
        } else if within.is_some_and(|within| own.contains(&within)) || is_kept(&there, &target) {
            files::remove_file(&source)?;
        } else {
            files::create_folder(new).map_err(unmoved)?;
            files::rename(&source, &target).map_err(unmoved)?;
        }
    }
    Ok(())
}

/// The name of an entry inside the site; `None` where it is no text.
fn within(prefix: &str, entry: &DirEntry) -> Option<String> {
    Some(format!("{prefix}{}", entry.file_name().to_str()?))
}

/// Whether what is there now is at least as new as this.
fn is_kept(old: &Metadata, new: &Path) -> bool {
    let Ok(new) = new.symlink_metadata() else { return false };
    // What is of another kind by now was made after it.
    is_node(old, &new) || new.is_dir() || new.modified().ok() >= old.modified().ok()
}

#[cfg(unix)]
fn is_node(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    a.dev() == b.dev() && a.ino() == b.ino()
}

#[cfg(not(unix))]
fn is_node(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// A folder that is closed to all others until it is filled.
fn make_closed(folder: &Path) -> Result<()> {
    files::create_folder(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

/// Gives a folder the owner and the mode of another.
pub(crate) fn open_alike(folder: &Path, other: &Path) -> Result<()> {
    let other = other.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Only who may give files away can; for others the folder is their own already.
        let _ = std::os::unix::fs::chown(folder, Some(other.uid()), Some(other.gid()));
    }
    std::fs::set_permissions(folder, other.permissions())
}

/// Makes a link that leads where another does, by the same words.
#[cfg(unix)]
pub(crate) fn link_alike(link: &Path, place: &Path) -> Result<()> {
    files::reach(Operation::Create)?;
    std::os::unix::fs::symlink(std::fs::read_link(link)?, place)
}

#[cfg(not(unix))]
pub(crate) fn link_alike(_: &Path, _: &Path) -> Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    #[test]
    fn what_is_of_others_has_two_names_and_comes_home() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
        let own =
            Owned::new(["index.html", "bundle/a", "samples/1.jpg"].map(str::to_owned)).unwrap();
        for name in ["index.html", "bundle/a", "samples/1.jpg"] {
            put(&old.join(name), "own");
        }
        for name in [".git/config", "CNAME", "bundle/mine", "deep/er/page.html", ".hidden"] {
            put(&old.join(name), name);
        }
        std::fs::create_dir(old.join("empty")).unwrap();
        symlink("CNAME", old.join("link")).unwrap();
        std::fs::set_permissions(old.join("deep"), PermissionsExt::from_mode(0o750)).unwrap();
        put(&new.join("bundle/b"), "new");
        let skips = |name: &str| name == ".hidden";
        bring(&old, &new, &own, &skips).unwrap();
        for name in [".git/config", "CNAME", "bundle/mine", "deep/er/page.html"] {
            let node = |folder: &Path| folder.join(name).metadata().unwrap().ino();
            assert_eq!(node(&old), node(&new), "{name}");
        }
        assert_eq!(std::fs::read_link(new.join("link")).unwrap(), Path::new("CNAME"));
        assert_eq!(new.join("deep").metadata().unwrap().mode() & 0o777, 0o750);
        assert!(new.join("empty").is_dir());
        for name in ["index.html", "samples", ".hidden", "bundle/a"] {
            assert!(!new.join(name).exists(), "{name}");
        }

        // While the folders are exchanged others write, replace and remove.
        put(&old.join("late/note"), "late");
        std::fs::remove_file(old.join("CNAME")).unwrap();
        put(&old.join("CNAME"), "newer");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options()
            .write(true)
            .open(old.join("CNAME"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        put(&new.join("deep/er/page.html.new"), "replaced");
        std::fs::rename(new.join("deep/er/page.html.new"), new.join("deep/er/page.html")).unwrap();
        retire(&old, &new, &own, &skips).unwrap();
        let text = |name: &str| std::fs::read_to_string(new.join(name)).unwrap();
        assert_eq!((&*text("late/note"), &*text("CNAME")), ("late", "newer"));
        assert_eq!(text("deep/er/page.html"), "replaced");
        assert!(!new.join("index.html").exists() && !new.join("samples").exists());
        let left: Vec<_> =
            std::fs::read_dir(&old).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, [".hidden"]);
    }
}
