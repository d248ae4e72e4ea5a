//! Public data sets as they are unpacked, turned into list files.
//!
//! The splits are those of PaddleClas' image recognition guide: learn from the first half of the
//! classes, search among the second.

use std::collections::BTreeMap;
use std::path::Path;

use super::list_file::{DataError, read_text};

/// A list file's text for training and for evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// `train_list.txt`
    pub train: String,
    /// `test_list.txt`
    pub test: String,
}

/// Last class of CUB-200-2011 that is learned from.
const CUB_TRAINED: u64 = 100;

/// CUB-200-2011: `images.txt` and `image_class_labels.txt`; labels count from 1.
///
/// # Errors
///
/// [`DataError`], naming the file and the line.
pub fn cub(folder: &Path) -> Result<Lists, DataError> {
    let labels_path = folder.join("image_class_labels.txt");
    let mut labels: BTreeMap<String, u64> = BTreeMap::new();
    for (line, [image, label]) in fields(&labels_path, 0)? {
        let label = number(&labels_path, line, &label)?;
        labels.insert(image, label);
    }
    let images_path = folder.join("images.txt");
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (line, [image, path]) in fields(&images_path, 0)? {
        let label = *labels.get(&image).ok_or_else(|| DataError::Line {
            path: images_path.clone(),
            line,
            reason: format!("picture {image} has no class in image_class_labels.txt"),
        })?;
        let list = if label <= CUB_TRAINED { &mut train } else { &mut test };
        list.push(format!("images/{path} {label} {image}\n"));
    }
    Ok(Lists { train: train.concat(), test: test.concat() })
}

/// Stanford Online Products: `Ebay_train.txt` and `Ebay_test.txt`, each with a line of titles.
///
/// # Errors
///
/// [`DataError`], naming the file and the line.
pub fn sop(folder: &Path) -> Result<Lists, DataError> {
    let list = |name: &str| {
        let path = folder.join(name);
        let mut lines = Vec::new();
        for (line, [image, label, _, picture]) in fields(&path, 1)? {
            let label = number(&path, line, &label)?;
            lines.push(format!("{picture} {label} {image}\n"));
        }
        Ok::<_, DataError>(lines.concat())
    };
    Ok(Lists { train: list("Ebay_train.txt")?, test: list("Ebay_test.txt")? })
}

/// A line's number and its fields.
type Fields<const N: usize> = (usize, [String; N]);

/// Lines of exactly `N` fields behind the title lines, each with its number.
fn fields<const N: usize>(path: &Path, titles: usize) -> Result<Vec<Fields<N>>, DataError> {
    let text = read_text(path)?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().skip(titles) {
        if line.trim().is_empty() {
            continue;
        }
        let parts: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let parts = parts.try_into().map_err(|parts: Vec<String>| DataError::Line {
            path: path.to_owned(),
            line: index + 1,
            reason: format!("{} fields, expected {N}", parts.len()),
        })?;
        rows.push((index + 1, parts));
    }
    if rows.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(rows)
}

fn number(path: &Path, line: usize, text: &str) -> Result<u64, DataError> {
    text.parse().map_err(|error: std::num::ParseIntError| DataError::Line {
        path: path.to_owned(),
        line,
        reason: format!("{text:?} is no class number: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cub_is_split_by_class_and_keeps_picture_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("images.txt", "1 001.A/a.jpg\n2 100.B/b.jpg\n3 101.C/c.jpg\n");
        write("image_class_labels.txt", "1 1\n2 100\n3 101\n");
        let lists = cub(dir.path()).unwrap();
        assert_eq!(lists.train, "images/001.A/a.jpg 1 1\nimages/100.B/b.jpg 100 2\n");
        assert_eq!(lists.test, "images/101.C/c.jpg 101 3\n");
        // As some editors save it.
        write("images.txt", "\u{feff}1 001.A/a.jpg\n2 100.B/b.jpg\n3 101.C/c.jpg\n");
        assert_eq!(cub(dir.path()).unwrap(), lists);
        write("image_class_labels.txt", "1 1\n2 x\n");
        let error = cub(dir.path()).unwrap_err().to_string();
        assert!(error.contains("image_class_labels.txt:2: \"x\""), "{error}");
    }

    #[test]
    fn sop_keeps_its_own_split() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let titles = "image_id class_id super_class_id path\n";
        write("Ebay_train.txt", &format!("{titles}1 7 2 bicycle_final/a.JPG\n"));
        write("Ebay_test.txt", &format!("{titles}2 11319 3 chair_final/b.JPG\n"));
        let lists = sop(dir.path()).unwrap();
        assert_eq!(lists.train, "bicycle_final/a.JPG 7 1\n");
        assert_eq!(lists.test, "chair_final/b.JPG 11319 2\n");
        write("Ebay_test.txt", &format!("{titles}2 11319 chair_final/b.JPG\n"));
        let error = sop(dir.path()).unwrap_err().to_string();
        assert!(error.contains("Ebay_test.txt:2: 3 fields"), "{error}");
    }
}
