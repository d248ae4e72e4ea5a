//! `magpie eval --sets`: every set of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::Arguments;
use crate::cli::{Embedder, open_detector, samples};
use crate::data::list_file::Samples;
use crate::metric::board::{BoxFigures, Figure, class_mean_recall};
use crate::metric::retrieval::{Embedded, retrieval_metrics};
use crate::terminal::counted;

/// Recall is told at these.
const TOP: [usize; 2] = [1, 5];
/// What the name of a list or folder of queries begins with, and that of what is searched.
const QUERY: &str = "query";
const GALLERY: &str = "gallery";

/// One set of images.
#[derive(Debug, PartialEq, Eq)]
struct Set {
    name: String,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Each image searched among the others.
    Alone(PathBuf),
    /// Each query searched in the galleries, which have names.
    Searched { query: PathBuf, galleries: Vec<(String, PathBuf)> },
    /// A COCO file.
    Boxes(PathBuf),
}

/// The sets of a folder, by name.
fn sets_of(folder: &Path) -> anyhow::Result<Vec<Set>> {
    let mut sets = Vec::new();
    for (name, path) in entries(folder)?.into_iter().filter(|(_, path)| path.is_dir()) {
        let inside = entries(&path)?;
        let ending = |path: &Path, wanted: &str| path.extension().is_some_and(|e| e == wanted);
        for (file, path) in inside.iter().filter(|(_, path)| ending(path, "json")) {
            let name = format!("{name}: {}", stem(file));
            sets.push(Set { name, kind: Kind::Boxes(path.clone()) });
        }
        let usable = |path: &Path| path.is_dir() || ending(path, "txt");
        let lists: Vec<_> = inside.iter().filter(|(_, path)| usable(path)).collect();
        if let Some((_, query)) = lists.iter().find(|(file, _)| stem(file) == QUERY) {
            let of = |file: &str| {
                let rest = stem(file).strip_prefix(GALLERY)?;
                Some(rest.strip_prefix('-').unwrap_or(rest).to_owned())
            };
            let galleries: Vec<_> =
                lists.iter().filter_map(|(file, path)| Some((of(file)?, path.clone()))).collect();
            let query = query.clone();
            let kind = if galleries.is_empty() {
                Kind::Alone(query)
            } else {
                Kind::Searched { query, galleries }
            };
            sets.push(Set { name, kind });
        } else if lists.iter().any(|(_, path)| path.is_file()) {
            for (file, path) in lists.iter().filter(|(_, path)| path.is_file()) {
                let name = format!("{name}: {}", stem(file));
                sets.push(Set { name, kind: Kind::Alone(path.clone()) });
            }
        } else if !inside.iter().any(|(_, path)| ending(path, "json")) {
            sets.push(Set { name, kind: Kind::Alone(path) });
        }
    }
    if sets.is_empty() {
        bail!(
            "{}: holds no folder of a set; a set is a folder of class folders, of list files or of COCO files",
            folder.display()
        );
    }
    Ok(sets)
}

/// Names and paths in a folder, by name; hidden ones are left out.
fn entries(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let read = folder.read_dir().with_context(|| folder.display().to_string())?;
    let mut entries = Vec::new();
    for entry in read {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, path));
        }
    }
    entries.sort();
    Ok(entries)
}

/// A name without its ending.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// At most `limit` of the items, evenly from all of them.
pub(super) fn evenly<T>(items: Vec<T>, limit: usize) -> Vec<T> {
    let all = items.len();
    if all <= limit {
        return items;
    }
    // The item at place `i` is taken if a whole step ends there.
    let taken = |place: usize| (place + 1) * limit / all > place * limit / all;
    let numbered = items.into_iter().enumerate();
    numbered.filter(|(place, _)| taken(*place)).map(|(_, item)| item).collect()
}

impl Arguments {
    /// Measures on every set of a folder.
    pub(super) fn sets(&self, folder: &Path) -> anyhow::Result<()> {
        let sets = sets_of(folder)?;
        let (extractor, detector) = self.of_sets();
        let extractor = extractor.map(|path| Embedder::open(&path, self.device));
        let extractor = extractor.transpose()?;
        let detector = detector.map(|path| open_detector(&path, self.device));
        let detector = detector.transpose()?;
        let mut measured = 0;
        for Set { name, kind } in sets {
            match (&kind, &extractor, &detector) {
                (Kind::Boxes(coco), _, Some(detector)) => {
                    let boxes = self.find(detector, coco, None)?;
                    let figures = BoxFigures::of(&boxes.found, &boxes.objects);
                    let figures = figures.with_context(|| format!("{name}: no object"))?;
                    self.tell_boxes(&name, &figures, boxes.left_out);
                }
                (Kind::Alone(query), Some(extractor), _) => {
                    self.searched(&name, query, &[], extractor)?;
                }
                (Kind::Searched { query, galleries }, Some(extractor), _) => {
                    self.searched(&name, query, galleries, extractor)?;
                }
                _ => continue,
            }
            measured += 1;
        }
        if measured == 0 {
            bail!(
                "{}: holds no set of the kind; a detector needs COCO files, an extractor class folders or lists",
                folder.display()
            );
        }
        Ok(())
    }

    /// Searches queries in every gallery, or among each other.
    fn searched(
        &self,
        name: &str,
        query: &Path,
        galleries: &[(String, PathBuf)],
        extractor: &Embedder,
    ) -> anyhow::Result<()> {
        let mut queries = samples(query)?;
        if let Some(limit) = self.limit {
            queries.samples = evenly(queries.samples, limit as usize);
        }
        let embed = |listed: &Samples| extractor.embed_measured(listed, self.skip_bad);
        let (embedded, bad) = embed(&queries)?;
        if galleries.is_empty() {
            return self.tell_recall(name, &embedded, &embedded, bad);
        }
        let mut labels = queries.labels;
        for (gallery, path) in galleries {
            let listed = samples(path)?.relabel(&labels);
            labels.clone_from(&listed.labels);
            let (searched, more) = embed(&listed)?;
            let name =
                if gallery.is_empty() { name.to_owned() } else { format!("{name}: {gallery}") };
            self.tell_recall(&name, &embedded, &searched, bad + more)?;
        }
        Ok(())
    }

    fn tell_recall(
        &self,
        name: &str,
        queries: &Embedded,
        gallery: &Embedded,
        left_out: usize,
    ) -> anyhow::Result<()> {
        let metrics = retrieval_metrics(queries, gallery, &TOP);
        if metrics.queries == 0 {
            bail!("{name}: no query has another image of its class to find");
        }
        let nearest = metrics.recall_at_k.iter();
        let nearest = nearest.map(|(k, rate)| (*k, Figure::share(*rate, metrics.queries)));
        let nearest: Vec<_> =
            nearest.map(|(k, figure)| (format!("recall_at_{k}"), figure)).collect();
        let means = class_mean_recall(queries, gallery, &TOP).into_iter();
        let means = means.map(|(k, figure)| (format!("class_mean_recall_at_{k}"), figure));
        let mut classes = gallery.labels.clone();
        classes.sort_unstable();
        classes.dedup();
        let counts = [
            ("searched", gallery.len()),
            ("queries", metrics.queries),
            ("classes", classes.len()),
            ("left_out", left_out),
        ];
        let queries = counted(metrics.queries, "query", "queries");
        let about = format!("{queries} among {} of {} classes", gallery.len(), classes.len());
        self.tell(name, &about, &counts, &nearest.into_iter().chain(means).collect::<Vec<_>>());
        Ok(())
    }

    fn tell_boxes(&self, name: &str, figures: &BoxFigures, left_out: usize) {
        let counts =
            [("pictures", figures.pictures), ("objects", figures.objects), ("left_out", left_out)];
        let pictures = counted(figures.pictures, "image", "images");
        let about = format!("{} in {pictures}", counted(figures.objects, "object", "objects"));
        let named = [("AP50", figures.ap50), ("largest_hit", figures.largest_hit)];
        self.tell(name, &about, &counts, &named.map(|(key, figure)| (key.to_owned(), figure)));
    }

    /// A set's figures: a line, or an object of JSON in a line.
    fn tell(
        &self,
        name: &str,
        about: &str,
        counts: &[(&str, usize)],
        figures: &[(String, Figure)],
    ) {
        if !self.json {
            let shown = figures.iter().map(|(key, Figure { value, error })| {
                format!("{key} {:.1} ± {:.1} %", 100.0 * value, 100.0 * error)
            });
            println!("{name}: {} ({about})", shown.collect::<Vec<_>>().join(", "));
            return;
        }
        let mut record = serde_json::Map::new();
        record.insert("set".to_owned(), name.into());
        for (key, count) in counts {
            record.insert((*key).to_owned(), (*count).into());
        }
        for (key, Figure { value, error }) in figures {
            record.insert(key.clone(), json!(value));
            record.insert(format!("{key}_error"), json!(error));
        }
        println!("{}", Value::Object(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_evenly() {
        assert_eq!(evenly((0..10).collect(), 3), [3, 6, 9]);
        assert_eq!(evenly((0..3).collect(), 5), [0, 1, 2]);
        assert_eq!(evenly((0..100).collect::<Vec<_>>(), 7).len(), 7);
    }

    #[test]
    fn folders_say_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in [
            "a/mug/1.png",
            "b/query.txt",
            "b/gallery-iconic.txt",
            "b/gallery.txt",
            "b/photos/1.png",
            "c/train_list.txt",
            "c/images/1.png",
            "d/instances.json",
            "d/images/1.png",
            "e/query/mug/1.png",
            ".hidden/mug/1.png",
            "README.md",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        let set = |name: &str, kind| Set { name: name.to_owned(), kind };
        let galleries = [("iconic", "b/gallery-iconic.txt"), ("", "b/gallery.txt")]
            .map(|(n, p)| (n.to_owned(), at(p)));
        let searched = Kind::Searched { query: at("b/query.txt"), galleries: galleries.to_vec() };
        assert_eq!(
            sets_of(dir.path()).unwrap(),
            [
                set("a", Kind::Alone(at("a"))),
                set("b", searched),
                set("c: train_list", Kind::Alone(at("c/train_list.txt"))),
                set("d: instances", Kind::Boxes(at("d/instances.json"))),
                set("e", Kind::Alone(at("e/query"))),
            ]
        );
        let error = sets_of(&at("a/mug")).unwrap_err().to_string();
        assert!(error.contains("holds no folder of a set"), "{error}");
    }
}
