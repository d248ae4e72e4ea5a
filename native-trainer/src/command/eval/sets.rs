//! `magpie eval --sets`: every set of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use models::detector::Detector;
use models::inference::Prepared;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::Arguments;
use crate::cli::{Embedder, open_detector, read, samples};
use crate::data::list_file::{Samples, is_list};
use crate::metric::board::{BoxFigures, Figure, class_mean_recall};
use crate::metric::retrieval::{Embedded, retrieval_metrics};
use crate::terminal::counted;

/// Recall is told at these.
const TOP: [usize; 2] = [1, 5];
/// What the name of a list or folder of queries begins with, and that of what is searched.
const QUERY: &str = "query";
const GALLERY: &str = "gallery";
/// Folder in which COCO files look for their images.
const IMAGES: &str = "images";

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
    /// A folder that cannot be looked into, and why.
    Unusable(String),
}

/// The sets of a folder, by name, and what a reader should know of what is not taken.
fn sets_of(folder: &Path) -> anyhow::Result<(Vec<Set>, Vec<String>)> {
    let all = entries(folder)?;
    refuse_set(folder, &all)?;
    let (mut sets, mut notes) = (Vec::new(), Vec::new());
    for (name, path) in all.into_iter().filter(|(_, path)| path.is_dir()) {
        match entries(&path) {
            Ok(inside) => Inside::of(inside).take(&name, path, &mut sets, &mut notes),
            Err(error) => sets.push(Set { name, kind: Kind::Unusable(format!("{error:#}")) }),
        }
    }
    if sets.is_empty() {
        bail!(
            "{}: holds no folder of a set; a set is a folder of class folders, of list files or of COCO files",
            folder.display()
        );
    }
    Ok((sets, notes))
}

/// Refuses a folder that is a set, not a folder of sets.
fn refuse_set(folder: &Path, all: &[(String, PathBuf)]) -> anyhow::Result<()> {
    let coco = all.iter().find(|(_, path)| is_coco(path));
    let is_listed = || all.iter().any(|(_, path)| has_ending(path, "txt") && is_list(path));
    let folders: Vec<&PathBuf> = all.iter().map(|(_, path)| path).filter(|p| p.is_dir()).collect();
    let are_classes = || {
        !folders.is_empty()
            && folders.iter().all(|folder| {
                let inside = entries(folder).unwrap_or_default();
                // Images alone, as a class has them.
                let is_image = |(file, path): &(String, PathBuf)| {
                    path.is_file() && !is_about(file) && !has_ending(path, "txt")
                };
                inside.iter().any(is_image)
                    && !inside.iter().any(|(_, path)| path.is_dir() || has_ending(path, "json"))
                    && !inside.iter().any(|(_, path)| has_ending(path, "txt") && is_list(path))
            })
    };
    if coco.is_none() && !is_listed() && !are_classes() {
        return Ok(());
    }
    let alone = match coco {
        Some((_, file)) => format!("--coco {}", file.display()),
        None => format!("--query {}", folder.display()),
    };
    bail!(
        "{}: is a set itself, not a folder of sets; give the folder that it lies in, or `{alone}`",
        folder.display()
    )
}

/// What a folder in the folder of sets holds.
#[derive(Default)]
struct Inside {
    coco: Vec<(String, PathBuf)>,
    texts: Vec<(String, PathBuf)>,
    folders: Vec<(String, PathBuf)>,
}

impl Inside {
    fn of(entries: Vec<(String, PathBuf)>) -> Self {
        let mut inside = Self::default();
        for (name, path) in entries {
            let kept = if path.is_dir() {
                &mut inside.folders
            } else if is_coco(&path) {
                &mut inside.coco
            } else if has_ending(&path, "txt") && !is_about(&name) {
                &mut inside.texts
            } else {
                continue;
            };
            kept.push((name, path));
        }
        inside
    }

    /// Adds the sets of the folder.
    fn take(self, name: &str, path: PathBuf, sets: &mut Vec<Set>, notes: &mut Vec<String>) {
        let below = |file: &str| format!("{name}: {}", stem(file));
        for (file, path) in &self.coco {
            sets.push(Set { name: below(file), kind: Kind::Boxes(path.clone()) });
        }
        if let Some((query, galleries)) = self.searched() {
            let kind = if galleries.is_empty() {
                Kind::Alone(query)
            } else {
                Kind::Searched { query, galleries }
            };
            return sets.push(Set { name: name.to_owned(), kind });
        }
        let has_classes = !self.classes().is_empty();
        let is_taken = |(_, path): &&(String, PathBuf)| is_list(path) || !has_classes;
        let lists: Vec<_> = self.texts.iter().filter(is_taken).collect();
        if !lists.is_empty() {
            let alone = |(file, path): &(String, PathBuf)| Set {
                name: below(file),
                kind: Kind::Alone(path.clone()),
            };
            sets.extend(lists.into_iter().map(alone));
        } else if self.coco.is_empty() {
            sets.push(Set { name: name.to_owned(), kind: Kind::Alone(path) });
        } else if let [(first, _), rest @ ..] = &self.classes()[..] {
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            notes.push(format!(
                "note: {name}: folders beside a COCO file are no classes ({first}{more}); classes need a folder of \
                 their own"
            ));
        }
    }

    /// The queries and what they are searched in, if a list or a folder of class folders has that name.
    fn searched(&self) -> Option<(PathBuf, Vec<(String, PathBuf)>)> {
        // A folder of that name that holds images is a class.
        let holds_classes = |path: &Path| {
            entries(path).is_ok_and(|inside| inside.iter().any(|(_, path)| path.is_dir()))
        };
        let folders = self.folders.iter().filter(|(_, path)| holds_classes(path));
        let mut lists: Vec<_> = self.texts.iter().chain(folders).collect();
        lists.sort();
        let (_, query) = lists.iter().find(|(file, _)| stem(file) == QUERY)?;
        let of = |file: &str| {
            let rest = stem(file).strip_prefix(GALLERY)?;
            let name = if rest.is_empty() { rest } else { rest.strip_prefix('-')? };
            Some(name.to_owned())
        };
        let galleries =
            lists.iter().filter_map(|(file, path)| Some((of(file)?, path.clone()))).collect();
        Some((query.clone(), galleries))
    }

    /// Folders in which no COCO file looks for its images.
    fn classes(&self) -> Vec<&(String, PathBuf)> {
        let is_of_coco = |folder: &str| {
            folder == IMAGES
                || self.coco.iter().any(|(file, _)| {
                    let stem = stem(file);
                    folder == stem || stem.rsplit('_').next() == Some(folder)
                })
        };
        let has_coco = !self.coco.is_empty();
        self.folders.iter().filter(|(name, _)| !has_coco || !is_of_coco(name)).collect()
    }
}

/// Whether a file is a COCO file, or a JSON file that cannot be read: reading it says why.
fn is_coco(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        images: Option<IgnoredAny>,
        annotations: Option<IgnoredAny>,
    }
    if !path.is_file() || !has_ending(path, "json") {
        return false;
    }
    let Ok(bytes) = read(path) else { return true };
    match serde_json::from_slice::<Keys>(&bytes) {
        Ok(keys) => keys.images.is_some() && keys.annotations.is_some(),
        Err(error) => !error.is_data(),
    }
}

/// Whether a file tells people about the others.
fn is_about(file: &str) -> bool {
    const ABOUT: [&str; 7] =
        ["readme", "license", "licence", "notice", "copying", "changelog", "attribution"];
    let stem = stem(file).to_ascii_lowercase();
    ABOUT.iter().any(|about| stem.split(['-', '_', '.']).next() == Some(about))
}

fn has_ending(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|ending| ending == wanted)
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
    /// Measures on every set of a folder; one that cannot be used is named, and the others are measured.
    pub(super) fn sets(&self, folder: &Path) -> anyhow::Result<()> {
        let (sets, notes) = sets_of(folder)?;
        for note in notes {
            eprintln!("{note}");
        }
        let (extractor, detector) = self.of_sets();
        let extractor = extractor.map(|path| Embedder::open(&path, self.device));
        let extractor = extractor.transpose()?;
        let detector = detector.map(|path| open_detector(&path, self.device));
        let detector = detector.transpose()?;
        let mut measured = 0;
        let mut unusable = Vec::new();
        for Set { name, kind } in sets {
            let done = match (&kind, &extractor, &detector) {
                (Kind::Boxes(coco), _, Some(detector)) => self.boxes(&name, coco, detector),
                (Kind::Alone(query), Some(extractor), _) => {
                    self.searched(&name, query, &[], extractor)
                }
                (Kind::Searched { query, galleries }, Some(extractor), _) => {
                    self.searched(&name, query, galleries, extractor)
                }
                (Kind::Unusable(reason), ..) => Err(anyhow!("{reason}")),
                (Kind::Boxes(_), _, None) => {
                    eprintln!("left out: {name}: boxes are found by --detector");
                    continue;
                }
                (Kind::Alone(_) | Kind::Searched { .. }, None, _) => {
                    eprintln!("left out: {name}: classes are found by --extractor");
                    continue;
                }
            };
            match done {
                Ok(()) => measured += 1,
                Err(error) => {
                    if self.json {
                        println!("{}", json!({"set": name, "error": format!("{error:#}")}));
                    }
                    eprintln!("left out: {name}: {error:#}");
                    unusable.push(name);
                }
            }
        }
        if !unusable.is_empty() {
            let sets = counted(unusable.len(), "set", "sets");
            bail!("{sets} cannot be measured: {}", unusable.join(", "));
        }
        if measured == 0 {
            bail!(
                "{}: holds no set of the kind; a detector needs COCO files, an extractor class folders or lists",
                folder.display()
            );
        }
        Ok(())
    }

    /// Finds the boxes of a COCO file.
    fn boxes(&self, name: &str, coco: &Path, detector: &Prepared<Detector>) -> anyhow::Result<()> {
        let boxes = self.find(detector, coco, None)?;
        let figures = BoxFigures::of(&boxes.found, &boxes.objects);
        let figures = figures.context("its pictures hold no object")?;
        self.tell_boxes(name, &figures, boxes.left_out);
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
            bail!("no query has another picture of its class to find");
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

    /// Files without content, but for COCO files and lists of the image beside them.
    fn world(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = match name.rsplit('/').next() {
                Some("instances.json") => r#"{"images": [], "annotations": []}"#,
                Some("labels.json") => r#"{"mug": "a mug"}"#,
                Some("train_list.txt" | "gallery.txt") => "images/1.png mug",
                Some("words.txt" | "README.txt") => "what this is",
                _ => "",
            };
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn folders_say_what_they_are() {
        let dir = world(&[
            "a/mug/1.png",
            "b/query.txt",
            "b/gallery-iconic.txt",
            "b/gallery.txt",
            "b/photos/1.png",
            "c/train_list.txt",
            "c/README.txt",
            "c/images/1.png",
            "d/instances.json",
            "d/images/1.png",
            "e/query/mug/1.png",
            "f/labels.json",
            "f/words.txt",
            "f/mug/1.png",
            "g/query/1.png",
            "g/gallery/1.png",
            "g/mug/1.png",
            "h/instances.json",
            "h/images/1.png",
            "h/mug/1.png",
            "h/pot/1.png",
            "i/words.txt",
            ".hidden/mug/1.png",
            "README.md",
        ]);
        let at = |name: &str| dir.path().join(name);
        let set = |name: &str, kind| Set { name: name.to_owned(), kind };
        let galleries = [("iconic", "b/gallery-iconic.txt"), ("", "b/gallery.txt")]
            .map(|(n, p)| (n.to_owned(), at(p)));
        let searched = Kind::Searched { query: at("b/query.txt"), galleries: galleries.to_vec() };
        let (sets, notes) = sets_of(dir.path()).unwrap();
        assert_eq!(
            sets,
            [
                set("a", Kind::Alone(at("a"))),
                set("b", searched),
                set("c: train_list", Kind::Alone(at("c/train_list.txt"))),
                set("d: instances", Kind::Boxes(at("d/instances.json"))),
                set("e", Kind::Alone(at("e/query"))),
                set("f", Kind::Alone(at("f"))),
                set("g", Kind::Alone(at("g"))),
                set("h: instances", Kind::Boxes(at("h/instances.json"))),
                set("i: words", Kind::Alone(at("i/words.txt"))),
            ]
        );
        let told = "note: h: folders beside a COCO file are no classes (mug and 1 more); classes need a folder of \
                    their own";
        assert_eq!(notes, [told]);
        let error = sets_of(&at("a/mug")).unwrap_err().to_string();
        assert!(error.contains("holds no folder of a set"), "{error}");
    }

    #[test]
    fn a_set_itself_is_no_folder_of_sets() {
        for names in [
            &["mug/1.png", "query/1.png"][..],
            &["images/1.png", "train_list.txt"],
            &["images/1.png", "instances.json"],
        ] {
            let dir = world(names);
            let error = sets_of(dir.path()).unwrap_err().to_string();
            assert!(error.contains("is a set itself, not a folder of sets"), "{names:?}: {error}");
            let alone = if names.contains(&"instances.json") { "--coco " } else { "--query " };
            assert!(error.contains(alone), "{names:?}: {error}");
        }
        // One set that holds no class yet is told of when it is measured.
        assert_eq!(sets_of(world(&["a/mug/1.png", "b/1.png"]).path()).unwrap().0.len(), 2);
    }
}
