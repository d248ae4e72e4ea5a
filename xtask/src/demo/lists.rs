//! The demo's lists: which pictures show which emoji.
//!
//! The same code point drawn by different hands is one class. Three in ten classes are kept out of
//! training; the gallery holds one vendor's drawing of every class, the queries are another
//! vendor's drawings of the classes kept out.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::write_list;

/// Of ten classes, how many are kept out of training.
const TEST_TENTHS: u64 = 3;

/// Lists below a folder.
pub(crate) struct Lists {
    /// Every vendor's drawings of the training classes.
    pub(crate) train: PathBuf,
    /// Google's drawings of all classes.
    pub(crate) gallery: PathBuf,
    /// Twitter's drawings of the test classes.
    pub(crate) query: PathBuf,
    /// Twitter's drawings of the test classes without the flags, for the sample pictures.
    pub(crate) samples: PathBuf,
    /// Google's and Twitter's drawings of the test classes.
    pub(crate) test_cutouts: PathBuf,
}

impl Lists {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self {
            train: file("train_list.txt"),
            gallery: file("gallery_list.txt"),
            query: file("query_list.txt"),
            samples: file("sample_list.txt"),
            test_cutouts: file("test_cutouts.txt"),
        }
    }

    /// Writes the lists from the packages in `modules` and, where there are any, the sets of more
    /// drawings in `drawings`; returns `(classes, test classes)`.
    pub(crate) fn write(&self, modules: &Path, drawings: &Path) -> anyhow::Result<(usize, usize)> {
        let google = modules.join("emoji-datasource-google");
        let twitter = modules.join("emoji-datasource-twitter");
        let fluent = modules.join("@lobehub/fluent-emoji-3d/assets");
        let path = google.join("emoji.json");
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let emoji: Value = serde_json::from_slice(&text)?;

        let mut sets: Vec<PathBuf> = drawings
            .read_dir()
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        sets.sort();

        let mut names = BTreeSet::new();
        let [mut train, mut gallery, mut query, mut samples, mut cutouts] =
            std::array::from_fn(|_| String::new());
        let mut tests = 0;
        for entry in emoji.as_array().context("emoji.json is no list")? {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            let image = text("image");
            let code = image.trim_end_matches(".png");
            let mut drawings = vec![
                google.join("img/google/64").join(image),
                twitter.join("img/twitter/64").join(image),
                fluent.join(format!("{code}.webp")),
            ];
            if !drawings[0].is_file() || !drawings[1].is_file() {
                continue;
            }
            let short = text("short_name");
            let mut name = match text("name") {
                "" => short.replace('_', " "),
                name => name.to_lowercase(),
            };
            if names.contains(&name) {
                name = format!("{name} {short}");
            }
            names.insert(name.clone());
            let line =
                |list: &mut String, path: &Path| writeln!(list, "{}\t{name}", path.display());
            line(&mut gallery, &drawings[0])?;
            if hash(code) % 10 < TEST_TENTHS {
                tests += 1;
                line(&mut query, &drawings[1])?;
                line(&mut cutouts, &drawings[0])?;
                line(&mut cutouts, &drawings[1])?;
                if text("category") != "Flags" {
                    line(&mut samples, &drawings[1])?;
                }
            } else {
                drawings.extend(sets.iter().map(|set| set.join(image)));
                for drawing in drawings.iter().filter(|d| d.is_file()) {
                    line(&mut train, drawing)?;
                }
            }
        }
        for (path, list) in [
            (&self.train, train),
            (&self.gallery, gallery),
            (&self.query, query),
            (&self.samples, samples),
            (&self.test_cutouts, cutouts),
        ] {
            write_list(path, &list)?;
        }
        Ok((names.len(), tests))
    }
}

/// FNV-1a of a code point's name: the split depends on nothing else.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
