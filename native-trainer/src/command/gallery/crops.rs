//! Which part of a picture becomes an entry: the whole, its middle, or the main body that a detector finds.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};
use models::detector::{DetectionThresholds, Detector};
use models::gallery::{ContentId, Crop};
use models::image::RgbImage;
use models::inference::Prepared;
use models::recognizer::{detect, main_body};
use rayon::prelude::*;

use super::wanted::Wanted;
use crate::cli::{DeviceKind, Embedder, middle, open_detector};
use crate::data::store::{decode_picture, read_file};

/// Pictures that are looked at to choose, at most.
const MEASURED: usize = 1000;
/// Those of one class, at most.
const OF_A_CLASS: usize = 8;
/// With fewer the choice would be by chance.
const LEAST: usize = 10;
/// Pictures decoded and embedded at once.
const CHUNK: usize = 64;

/// What a command line says of it.
#[derive(Debug, Args)]
pub(super) struct Crops {
    /// Which part of a picture becomes an entry. What is added later follows what the gallery was made of.
    #[arg(long, value_enum, default_value_t)]
    crop: Choice,
    /// Model file of the detector that finds the main body, the one of the page.
    #[arg(long)]
    detector: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Choice {
    /// What is measured better on the pictures themselves: with a detector the whole picture, its main body or both,
    /// else the whole picture or its middle.
    #[default]
    Auto,
    /// The whole picture.
    Never,
    /// The middle 70 % of each side: photographs of one thing, without a detector.
    Middle,
    /// The main body; the whole picture if there is none.
    Main,
    /// The whole picture and its main body, two entries.
    Both,
}

impl Choice {
    fn crop(self) -> Option<Crop> {
        match self {
            Self::Auto => None,
            Self::Never => Some(Crop::Never),
            Self::Middle => Some(Crop::Middle),
            Self::Main => Some(Crop::Main),
            Self::Both => Some(Crop::Both),
        }
    }
}

impl Crops {
    pub(super) fn detector(&self) -> Option<&PathBuf> {
        self.detector.as_ref()
    }

    /// What makes the parts. `had` is what a gallery with entries is made of; an empty one is measured.
    pub(super) fn open(
        &self,
        had: Option<Crop>,
        device: DeviceKind,
        embedder: &Embedder,
        wanted: &Wanted,
    ) -> anyhow::Result<Cropper> {
        self.check(had)?;
        let chosen = self.crop.crop();
        let crop = chosen.or(had);
        if let (Some(chosen), Some(had)) = (chosen, had)
            && chosen != had
        {
            eprintln!(
                "note: these pictures become entries with --crop {}, those in the gallery did with {}",
                chosen.name(),
                had.name()
            );
        }
        let detector = match (&self.detector, crop) {
            (Some(path), crop) if crop.is_none_or(Crop::needs_detector) => {
                Some(open_detector(path, device)?)
            }
            (Some(path), Some(crop)) => {
                eprintln!(
                    "note: --detector {} is not used: the entries are made with --crop {}",
                    path.display(),
                    crop.name()
                );
                None
            }
            _ => None,
        };
        let crop_now = crop.unwrap_or_default();
        let mut cropper = Cropper { crop: crop_now, detector, seen: HashMap::new() };
        if crop.is_none() {
            cropper.measure(embedder, wanted)?;
        }
        Ok(cropper)
    }

    /// Fails where a detector is needed and none is given. `had` as for [`Self::open`].
    pub(super) fn check(&self, had: Option<Crop>) -> anyhow::Result<()> {
        let chosen = self.crop.crop();
        let crop = chosen.or(had);
        if crop.is_some_and(Crop::needs_detector) && self.detector.is_none() {
            let name = crop.unwrap_or_default().name();
            match chosen {
                Some(_) => bail!("--crop {name} looks for the main body: give --detector, too"),
                None => bail!(
                    "the gallery's entries are those of main bodies (crop {name}): give --detector, too, or \
                     --crop never for whole pictures"
                ),
            }
        }
        Ok(())
    }
}

/// Makes the parts of pictures.
pub(super) struct Cropper {
    crop: Crop,
    detector: Option<Prepared<Detector>>,
    /// Embeddings of pictures that were measured with.
    seen: HashMap<ContentId, Seen>,
}

/// A picture that was measured with.
struct Seen {
    class: usize,
    whole: Vec<f32>,
    /// The main body, or the middle where there is no detector; `None` where nothing was found.
    main: Option<Vec<f32>>,
}

impl Seen {
    /// What a page embeds of the picture.
    fn query(&self) -> &[f32] {
        self.main.as_deref().unwrap_or(&self.whole)
    }
}

impl Cropper {
    pub(super) fn crop(&self) -> Crop {
        self.crop
    }

    /// The main body of a picture as the pipeline crops it.
    fn main(&self, picture: &RgbImage) -> anyhow::Result<Option<RgbImage>> {
        let Some(detector) = &self.detector else { return Ok(None) };
        let thresholds = DetectionThresholds::default();
        let found = pollster::block_on(detect(detector, picture, &thresholds))?;
        Ok(main_body(&found).map(|bbox| picture.crop(&bbox)))
    }

    /// The parts of a picture that become entries, at least one.
    pub(super) fn parts(&self, picture: &RgbImage) -> anyhow::Result<Vec<RgbImage>> {
        Ok(match self.crop {
            Crop::Never => vec![picture.clone()],
            Crop::Middle => vec![middle(picture)],
            Crop::Main => vec![self.main(picture)?.unwrap_or_else(|| picture.clone())],
            Crop::Both => {
                [Some(picture.clone()), self.main(picture)?].into_iter().flatten().collect()
            }
        })
    }

    pub(super) fn has_seen(&self, id: ContentId) -> bool {
        self.seen.contains_key(&id)
    }

    /// The embeddings of a picture's parts, if it was measured with.
    pub(super) fn seen(&self, id: ContentId) -> Option<Vec<Vec<f32>>> {
        let seen = self.seen.get(&id)?;
        Some(match self.crop {
            Crop::Main | Crop::Middle => vec![seen.query().to_vec()],
            Crop::Both => {
                [Some(seen.whole.clone()), seen.main.clone()].into_iter().flatten().collect()
            }
            _ => vec![seen.whole.clone()],
        })
    }

    /// Chooses what finds the pictures' classes best, each searched among the others as a page would search it.
    fn measure(&mut self, embedder: &Embedder, wanted: &Wanted) -> anyhow::Result<()> {
        for chunk in sample(&wanted.pictures).chunks(CHUNK) {
            let read = chunk.par_iter().filter_map(|(class, path)| {
                // What cannot be used is named when it is added.
                let bytes = read_file(path).ok()?;
                let picture = decode_picture(path, &bytes).ok()?;
                Some((*class, *path, ContentId::of(&bytes), picture))
            });
            let (mut parts, mut files, mut rows) = (Vec::new(), Vec::new(), Vec::new());
            for (class, path, id, picture) in read.collect::<Vec<_>>() {
                let main = match self.detector {
                    Some(_) => self.main(&picture)?,
                    None => Some(middle(&picture)),
                };
                rows.push((class, id, main.is_some()));
                for part in [Some(picture), main].into_iter().flatten() {
                    parts.push(part);
                    files.push(path);
                }
            }
            let mut embeddings = embedder.embed_files(&parts, &files)?.into_iter();
            for (class, id, has_main) in rows {
                let Some(whole) = embeddings.next() else { break };
                let main = if has_main { embeddings.next() } else { None };
                self.seen.entry(id).or_insert(Seen { class, whole, main });
            }
        }
        let mut all: Vec<(&ContentId, &Seen)> = self.seen.iter().collect();
        all.sort_by_key(|(id, _)| **id);
        let all: Vec<&Seen> = all.iter().map(|(_, seen)| *seen).collect();
        if self.detector.is_none() {
            let found = Middles::among(&all);
            self.crop = found.best();
            println!("crop: {} ({found})", self.crop.name());
            return Ok(());
        }
        let found = Found::among(&all);
        self.crop = found.best();
        println!("crop: {} ({found})", self.crop.name());
        Ok(())
    }
}

/// Pictures to measure with: some of each class that has several, of classes spread over all.
fn sample(pictures: &[(String, PathBuf)]) -> Vec<(usize, &Path)> {
    let mut classes: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for (label, path) in pictures {
        classes.entry(label).or_default().push(path);
    }
    let several: Vec<Vec<&Path>> = classes.into_values().filter(|paths| paths.len() > 1).collect();
    let all: usize = several.iter().map(|paths| paths.len().min(OF_A_CLASS)).sum();
    let step = all.div_ceil(MEASURED).max(1);
    let chosen = several.iter().enumerate().step_by(step);
    chosen
        .flat_map(|(class, paths)| {
            let step = paths.len().div_ceil(OF_A_CLASS);
            paths.iter().step_by(step).map(move |path| (class, *path))
        })
        .collect()
}

/// How many of the pictures find their class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    queries: usize,
    whole: usize,
    main: usize,
    both: usize,
}

impl Found {
    fn among(all: &[&Seen]) -> Self {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        all.par_iter()
            .enumerate()
            .filter(|(place, seen)| {
                let others = all.iter().enumerate().filter(|(other, _)| other != place);
                others.map(|(_, other)| other.class).any(|class| class == seen.class)
            })
            .map(|(place, seen)| {
                // The best of wholes, of main bodies and of both, with its class.
                let mut best = [(f32::NEG_INFINITY, usize::MAX); 3];
                for (_, other) in all.iter().enumerate().filter(|(other, _)| *other != place) {
                    let whole = product(seen.query(), &other.whole);
                    let main =
                        other.main.as_ref().map_or(whole, |main| product(seen.query(), main));
                    for (best, score) in best.iter_mut().zip([whole, main, whole.max(main)]) {
                        if score > best.0 {
                            *best = (score, other.class);
                        }
                    }
                }
                let [whole, main, both] = best.map(|(_, class)| usize::from(class == seen.class));
                Self { queries: 1, whole, main, both }
            })
            .reduce(Self::default, |a, b| Self {
                queries: a.queries + b.queries,
                whole: a.whole + b.whole,
                main: a.main + b.main,
                both: a.both + b.both,
            })
    }

    /// Both where they find more than the better one by more than its standard error, or where there is too little
    /// to choose by; of equal ones the main body, which a page looks at.
    fn best(self) -> Crop {
        if self.queries < LEAST {
            return Crop::Both;
        }
        let (crop, found) = if self.main >= self.whole {
            (Crop::Main, self.main)
        } else {
            (Crop::Never, self.whole)
        };
        let (count, found) = (self.queries as f64, found as f64);
        let error = (found * (1.0 - found / count)).sqrt();
        if self.both as f64 > found + error { Crop::Both } else { crop }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queries, whole, main, both } = *self;
        if queries < LEAST {
            return f.write_str("too few pictures of one class to measure what is better");
        }
        let share = |found: usize| 100.0 * found as f64 / queries as f64;
        write!(
            f,
            "{queries} pictures, each searched among the others by what is found in it, recall@1: whole pictures \
             {:.1} %, main bodies {:.1} %, both {:.1} %",
            share(whole),
            share(main),
            share(both)
        )
    }
}

/// How many of the pictures find their class by their middles, and how many by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Middles {
    queries: usize,
    whole: usize,
    middle: usize,
}

impl Middles {
    /// Each picture among the others: wholes among wholes, middles among middles.
    fn among(all: &[&Seen]) -> Self {
        let finds = |place: usize, part: fn(&Seen) -> &[f32]| {
            let others = all.iter().enumerate().filter(|(other, _)| *other != place);
            let best = others.fold((f32::NEG_INFINITY, usize::MAX), |best, (_, other)| {
                let pairs = part(all[place]).iter().zip(part(other));
                let score = pairs.map(|(a, b)| a * b).sum::<f32>();
                if score > best.0 { (score, other.class) } else { best }
            });
            best.1 == all[place].class
        };
        let is_asked = |place: &usize| {
            let mut others = all.iter().enumerate().filter(|(other, _)| other != place);
            others.any(|(_, other)| other.class == all[*place].class)
        };
        (0..all.len())
            .into_par_iter()
            .filter(is_asked)
            .map(|place| {
                let (whole, middle) = (finds(place, |seen| &seen.whole), finds(place, Seen::query));
                Self { queries: 1, whole: usize::from(whole), middle: usize::from(middle) }
            })
            .reduce(Self::default, |a, b| Self {
                queries: a.queries + b.queries,
                whole: a.whole + b.whole,
                middle: a.middle + b.middle,
            })
    }

    /// The middle where it finds more, the whole where there is too little to choose by.
    fn best(self) -> Crop {
        let is_better = self.queries >= LEAST && self.middle > self.whole;
        if is_better { Crop::Middle } else { Crop::Never }
    }
}

impl std::fmt::Display for Middles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queries, whole, middle } = *self;
        if queries < LEAST {
            return f.write_str("too few pictures of one class to measure what is better");
        }
        let share = |found: usize| 100.0 * found as f64 / queries as f64;
        write!(
            f,
            "{queries} pictures, each searched among the others, recall@1: whole pictures {:.1} %, their middles {:.1} %",
            share(whole),
            share(middle)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(class: usize, whole: [f32; 2], main: Option<[f32; 2]>) -> Seen {
        Seen { class, whole: whole.to_vec(), main: main.map(|main| main.to_vec()) }
    }

    #[test]
    fn what_finds_more_is_chosen() {
        let found = |whole, main, both| Found { queries: 100, whole, main, both };
        assert_eq!(found(50, 70, 70).best(), Crop::Main);
        assert_eq!(found(70, 50, 72).best(), Crop::Never);
        assert_eq!(found(70, 70, 70).best(), Crop::Main);
        assert_eq!(found(70, 60, 80).best(), Crop::Both);
        assert_eq!(Found { queries: 9, whole: 9, main: 0, both: 9 }.best(), Crop::Both);
    }

    #[test]
    fn a_picture_is_searched_among_the_others_by_its_main_body() {
        let (east, north) = ([1.0, 0.0], [0.0, 1.0]);
        // The wholes show the ground, which is the other class's; the main bodies show the thing.
        let all = [
            seen(0, north, Some(east)),
            seen(0, north, Some(east)),
            seen(1, east, Some(north)),
            seen(1, east, Some(north)),
            seen(2, north, None),
        ];
        let found = Found::among(&all.iter().collect::<Vec<_>>());
        // The last one has no other picture of its class.
        assert_eq!(found, Found { queries: 4, whole: 0, main: 4, both: 2 });
    }

    #[test]
    fn middles_are_taken_where_they_find_more() {
        let found = |whole, middle| Middles { queries: 100, whole, middle };
        assert_eq!(found(50, 51).best(), Crop::Middle);
        assert_eq!(found(50, 50).best(), Crop::Never);
        assert_eq!(found(70, 50).best(), Crop::Never);
        assert_eq!(Middles { queries: 9, whole: 0, middle: 9 }.best(), Crop::Never);
        let (east, north) = ([1.0, 0.0], [0.0, 1.0]);
        // The wholes show the ground, which the classes share by pairs; the middles show the thing.
        let all = [
            seen(0, [0.6, 0.8], Some(east)),
            seen(0, north, Some(east)),
            seen(1, [0.6, 0.8], Some(north)),
            seen(1, north, Some(north)),
            seen(2, north, Some(north)),
        ];
        let found = Middles::among(&all.iter().collect::<Vec<_>>());
        assert_eq!(found, Middles { queries: 4, whole: 0, middle: 4 });
    }

    #[test]
    fn classes_of_one_picture_tell_nothing() {
        let picture =
            |label: &str, number: usize| (label.to_owned(), PathBuf::from(number.to_string()));
        let mut pictures: Vec<_> = (0..30).map(|number| picture("many", number)).collect();
        pictures.push(picture("one", 99));
        let chosen = sample(&pictures);
        assert_eq!(chosen.len(), 8);
        assert!(chosen.iter().all(|(class, _)| *class == 0));
        let many: Vec<_> =
            (0..4000).map(|number| picture(&format!("{}", number / 4), number)).collect();
        assert_eq!(sample(&many).len(), 1000);
    }
}
