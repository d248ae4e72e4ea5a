//! Further names of a file.

use std::path::{Path, PathBuf};

/// Folders inside each other that are looked through.
const DEPTH: usize = 16;

/// A name that a file has in a folder, or in one below it, by a hard link. Only a file with several names is looked for.
#[cfg(unix)]
pub fn name_inside(file: &Path, folder: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let there =
        std::fs::metadata(file).ok().filter(|there| there.is_file() && there.nlink() > 1)?;
    let mut left = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // A link to a file leads where the file is, which is looked at by itself.
            let Ok(own) = entry.metadata() else { continue };
            if own.is_dir() && depth < DEPTH {
                left.push((entry.path(), depth + 1));
            } else if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
                return Some(entry.path());
            }
        }
    }
    None
}

/// Other systems tell no such names.
#[cfg(not(unix))]
pub fn name_inside(_: &Path, _: &Path) -> Option<PathBuf> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_further_name_of_a_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (site, token) = (dir.path().join("site"), dir.path().join("token"));
        std::fs::create_dir_all(site.join("a/b")).unwrap();
        std::fs::write(&token, "one").unwrap();
        std::fs::write(site.join("a/one"), "one").unwrap();
        assert_eq!(name_inside(&token, &site), None);
        std::fs::hard_link(&token, dir.path().join("beside")).unwrap();
        assert_eq!(name_inside(&token, &site), None);
        let inside = site.join("a/b/token");
        std::fs::hard_link(&token, &inside).unwrap();
        assert_eq!(name_inside(&token, &site), Some(inside));
        assert_eq!(name_inside(&dir.path().join("gone"), &site), None);
    }
}
