//! Where the pictures of a COCO file lie.

use std::path::{Path, PathBuf};

use crate::files::folder_of;

/// The folder that the pictures are taken from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// That folder.
    pub(super) folder: PathBuf,
    /// All folders that were looked in.
    pub(super) looked_in: Vec<PathBuf>,
    /// Another folder that has a picture of the first one's name.
    pub(super) other: Option<PathBuf>,
}

impl Place {
    /// Looks beside the file, in `images` and in folders that are named like the file, here and one level up: the
    /// first that has all pictures, else the one that has most of them. A folder that is named is the only one.
    pub(super) fn find(file: &Path, named: Option<&Path>, pictures: &[&str]) -> Self {
        if let Some(folder) = named {
            let folder = folder.to_owned();
            return Self { looked_in: vec![folder.clone()], folder, other: None };
        }
        let looked_in = candidates(file);
        let has = |folder: &Path, name: &&&str| picture(folder, name).is_file();
        let all =
            looked_in.iter().position(|folder| pictures.iter().all(|name| has(folder, &name)));
        let chosen = all.unwrap_or_else(|| {
            let count = |folder: &Path| pictures.iter().filter(|name| has(folder, name)).count();
            let counts: Vec<usize> = looked_in.iter().map(|folder| count(folder)).collect();
            // Of equal ones the first.
            (0..counts.len()).rev().max_by_key(|&place| counts[place]).unwrap_or(0)
        });
        let folder = looked_in[chosen].clone();
        let other = pictures.first().and_then(|name| {
            let here = picture(&folder, name).canonicalize().ok()?;
            let differs = |other: &&PathBuf| {
                let there = picture(other, name);
                there.is_file() && there.canonicalize().is_ok_and(|there| there != here)
            };
            looked_in.iter().find(differs).cloned()
        });
        Self { folder, looked_in, other }
    }
}

/// The path of a picture; names that Windows wrote may have its separators.
pub(super) fn picture(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    if name.contains('\\') && !path.exists() {
        let turned = folder.join(name.replace('\\', "/"));
        if turned.exists() {
            return turned;
        }
    }
    path
}

fn candidates(file: &Path) -> Vec<PathBuf> {
    let folder = folder_of(file);
    let above = match folder.parent() {
        Some(above) if !folder.ends_with("..") && folder != Path::new(".") => {
            if above.as_os_str().is_empty() { Path::new(".") } else { above }.to_owned()
        }
        _ => folder.join(".."),
    };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // `instances_train2017` annotates `train2017`.
    let split = stem.rsplit('_').next().unwrap_or_default().to_owned();
    let mut found: Vec<PathBuf> = vec![folder.to_owned()];
    for base in [folder, &above] {
        for name in [&split, &stem] {
            found.extend([base.join(name), base.join("images").join(name)]);
        }
        found.push(base.join("images"));
    }
    found.push(above);
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|folder| seen.insert(folder.clone()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_in_the_usual_layouts() {
        for (file, pictures, other) in [
            ("a.json", "x.jpg", None),
            ("a.json", "images/x.jpg", None),
            ("annotations/instances_train2017.json", "train2017/x.jpg", None),
            ("annotations/instances_train2017.json", "images/train2017/x.jpg", None),
            ("annotations/train.json", "images/x.jpg", None),
            ("annotations/a.json", "images/x.jpg", Some("x.jpg")),
            ("labels/a_b.json", "a_b/x.jpg", None),
            ("annotations/train.json", "images/train/x.jpg", Some("images/x.jpg")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for path in [Some(pictures), other].into_iter().flatten() {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, b"x").unwrap();
            }
            std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            let place = Place::find(&dir.path().join(file), None, &["x.jpg"]);
            assert_eq!(place.folder.join("x.jpg"), dir.path().join(pictures), "{file}");
            let expected = other.map(|other| dir.path().join(other));
            assert_eq!(place.other.map(|folder| folder.join("x.jpg")), expected, "{file}");
        }
    }

    #[test]
    fn the_folder_above_is_found_from_any_spelling() {
        for (file, above) in [
            ("a.json", "./.."),
            ("./a.json", "./.."),
            ("x/a.json", "."),
            ("../a.json", "../.."),
            ("/x/a.json", "/"),
            ("/a.json", "/.."),
        ] {
            let last = candidates(Path::new(file)).pop();
            assert_eq!(last.as_deref(), Some(Path::new(above)), "{file}");
        }
    }

    #[test]
    fn the_folder_with_most_pictures_and_separators_of_windows() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("images/sub")).unwrap();
        std::fs::write(dir.path().join("images/sub/x.jpg"), b"x").unwrap();
        let place = Place::find(&dir.path().join("a.json"), None, &["gone.jpg", "sub\\x.jpg"]);
        assert_eq!(place.folder, dir.path().join("images"));
        assert_eq!(picture(&place.folder, "sub\\x.jpg"), dir.path().join("images/sub/x.jpg"));
        let named = Place::find(&dir.path().join("a.json"), Some(Path::new("there")), &["x.jpg"]);
        assert_eq!(named.folder, Path::new("there"));
        assert_eq!(named.looked_in.len(), 1);
    }
}
