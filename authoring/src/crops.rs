//! Which part of a photograph becomes an entry: the whole, its middle, or the main body that a detector finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use models::detector::DetectionThresholds;
use models::gallery::{ContentId, Crop};
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::recognizer::{detect, main_body};
use rayon::prelude::*;

use crate::embedding::{embed_named, middle};
use crate::memory::{Body, Memory, Seen};
use crate::photos::{Networks, Photos};
use crate::picture::decode_picture;

/// Photographs that are looked at to choose, at most.
const MEASURED: usize = 1000;
/// Those of one class, at most.
const OF_A_CLASS: usize = 8;
/// With fewer the choice would be by chance.
const LEAST: usize = 10;
/// Photographs decoded and embedded at once.
const CHUNK: usize = 16;

/// Makes the parts of photographs and embeds them.
pub struct Cropper<'a> {
    networks: Networks<'a>,
    crop: Crop,
    /// What is known of photographs that were looked at before.
    pub memory: Memory,
    /// Whether what is embedded later is kept there, too.
    keeps: bool,
    /// Photographs that were embedded and kept.
    looked: BTreeSet<ContentId>,
}

impl<'a> Cropper<'a> {
    /// Makes entries of this part.
    pub fn new(networks: Networks<'a>, crop: Crop) -> Self {
        Self { networks, crop, memory: Memory::default(), keeps: false, looked: BTreeSet::new() }
    }

    /// The same that begins with what is known, and adds to that whatever it looks at.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Self { memory, keeps: true, ..self }
    }

    /// The part that becomes an entry.
    pub fn crop(&self) -> Crop {
        self.crop
    }

    /// Whether a photograph was embedded by this one, and kept.
    pub fn has_looked_at(&self, id: ContentId) -> bool {
        self.looked.contains(&id)
    }

    /// Whether the embeddings of a photograph are known.
    pub(crate) fn knows(&self, id: ContentId) -> bool {
        self.memory.entries(id, self.crop).is_some()
    }

    /// The embeddings of a photograph's entries, if they are known.
    pub(crate) fn known(&self, id: ContentId) -> Option<Vec<Vec<f32>>> {
        Some(self.memory.entries(id, self.crop)?.into_iter().cloned().collect())
    }

    /// Embeddings of the entries of photographs, at least one of each.
    pub(crate) fn embed(
        &mut self,
        photos: &[(ContentId, &RgbImage, &Path)],
    ) -> anyhow::Result<Vec<Vec<Vec<f32>>>> {
        let seen = self.look(self.crop, photos)?;
        let entries = |seen: &Seen| {
            let entries = seen.entries(self.crop).unwrap_or_default();
            entries.into_iter().cloned().collect()
        };
        let embedded = seen.iter().map(entries).collect();
        if self.keeps {
            for ((id, ..), seen) in photos.iter().zip(seen) {
                self.looked.insert(*id);
                self.memory.put(*id, seen);
            }
        }
        Ok(embedded)
    }

    /// What is known of one photograph after all was embedded that may become an entry: the whole, and with a detector
    /// its main body, else its middle.
    pub(crate) fn look_at_all(
        networks: Networks<'_>,
        photo: (ContentId, &RgbImage, &Path),
    ) -> anyhow::Result<Memory> {
        let cropper = Cropper::new(networks, Crop::default());
        let mut memory = Memory::default();
        for crop in Self::measured(networks.detector.is_some()) {
            for seen in cropper.look(*crop, &[photo])? {
                memory.put(photo.0, seen);
            }
        }
        Ok(memory)
    }

    /// What has to be embedded to choose the part.
    pub(crate) fn measured(has_detector: bool) -> &'static [Crop] {
        if has_detector { &[Crop::Both] } else { &[Crop::Never, Crop::Middle] }
    }

    /// What is known of each of some photographs after a part of them was embedded, or all that may become an entry.
    pub(crate) fn look_at_each(
        networks: Networks<'_>,
        crop: Option<Crop>,
        photos: &[(ContentId, &RgbImage, &Path)],
    ) -> anyhow::Result<Vec<Seen>> {
        let cropper = Cropper::new(networks, Crop::default());
        let crops = match &crop {
            Some(crop) => std::slice::from_ref(crop),
            None => Self::measured(networks.detector.is_some()),
        };
        let mut all = vec![Seen::default(); photos.len()];
        for crop in crops {
            for (all, seen) in all.iter_mut().zip(cropper.look(*crop, photos)?) {
                all.merge(seen);
            }
        }
        Ok(all)
    }

    /// What is known of a part of a photograph that its owner has chosen: that part is all of its entries.
    pub(crate) fn look_at_part(
        networks: Networks<'_>,
        (id, part, name): (ContentId, &RgbImage, &Path),
    ) -> anyhow::Result<Memory> {
        let cropper = Cropper::new(networks, Crop::default());
        let mut memory = Memory::default();
        for mut seen in cropper.look(Crop::Never, &[(id, part, name)])? {
            seen.middle.clone_from(&seen.whole);
            if let Some(whole) = seen.whole.clone().filter(|_| networks.detector.is_some()) {
                seen.main = Body::Found(whole);
            }
            memory.put(id, seen);
        }
        Ok(memory)
    }

    /// The box of a photograph's main body; `None` without one, and without a detector.
    pub(crate) fn body(networks: Networks<'_>, picture: &RgbImage) -> anyhow::Result<Option<BBox>> {
        let Some(detector) = networks.detector else { return Ok(None) };
        let thresholds = DetectionThresholds::default();
        let found = pollster::block_on(detect(detector, picture, &thresholds))?;
        Ok(main_body(&found))
    }

    /// The main body of a photograph as the pipeline crops it.
    fn main(&self, picture: &RgbImage) -> anyhow::Result<Option<RgbImage>> {
        Ok(Self::body(self.networks, picture)?.map(|bbox| picture.crop(&bbox)))
    }

    /// Embeds the parts that a crop needs.
    fn look(
        &self,
        crop: Crop,
        photos: &[(ContentId, &RgbImage, &Path)],
    ) -> anyhow::Result<Vec<Seen>> {
        if let (Crop::Never, [(_, picture, path)]) = (crop, photos) {
            // Nothing is cut off, and a copy would be as large as a camera's picture.
            let (whole, name) = (std::slice::from_ref(*picture), |_| path.display().to_string());
            let embedded = embed_named(self.networks.extractor, whole, name)?;
            let seen = |whole| Seen { whole: Some(whole), ..Seen::default() };
            return Ok(embedded.into_iter().map(seen).collect());
        }
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        let mut counts = Vec::with_capacity(photos.len());
        for (_, picture, path) in photos {
            let main = if crop.needs_detector() { self.main(picture)? } else { None };
            let first = match crop {
                Crop::Middle => Some(middle(picture)),
                Crop::Main if main.is_some() => None,
                _ => Some((*picture).clone()),
            };
            counts.push((first.is_some(), main.is_some()));
            for part in [first, main].into_iter().flatten() {
                parts.push(part);
                names.push(*path);
            }
        }
        let name = |place: usize| {
            names.get(place).map_or(String::new(), |path| path.display().to_string())
        };
        let mut embedded = embed_named(self.networks.extractor, &parts, name)?.into_iter();
        let seen = |(has_first, has_main): (bool, bool)| {
            let mut next = |is_there: bool| if is_there { embedded.next() } else { None };
            let (first, main) = (next(has_first), next(has_main));
            let main = match main {
                Some(main) => Body::Found(main),
                None if crop.needs_detector() => Body::Nothing,
                None => Body::Unknown,
            };
            match crop {
                Crop::Middle => Seen { middle: first, main, ..Seen::default() },
                _ => Seen { whole: first, main, ..Seen::default() },
            }
        };
        Ok(counts.into_iter().map(seen).collect())
    }

    /// Chooses what finds the photographs' classes best, each searched among the others as a page would search it:
    /// of whole photographs, main bodies and both where there is a detector, else of whole ones and their middles.
    /// What was measured, as a line.
    ///
    /// # Errors
    ///
    /// A network that failed; what `tell` says after each piece, with the number of photographs so far and of all, and
    /// what is known of them by then.
    pub fn measure(
        &mut self,
        photos: &dyn Photos,
        tell: &mut dyn FnMut(usize, usize, &Memory) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let wanted = Self::measured(self.networks.detector.is_some());
        let sample = sample(photos);
        let mut all: BTreeMap<ContentId, usize> = BTreeMap::new();
        for (index, chunk) in sample.chunks(CHUNK).enumerate() {
            let places: Vec<usize> = chunk.iter().map(|(_, place)| *place).collect();
            if let Some(memory) = photos.remembered(&places)? {
                self.memory.learn(&memory);
            }
            let read = chunk.par_iter().filter_map(|(class, place)| {
                // What cannot be used is named when it is added.
                let (id, bytes) = photos.read(*place).ok()?;
                let is_known = wanted.iter().all(|crop| self.memory.entries(id, *crop).is_some());
                let path = photos.path(*place);
                let picture = match bytes.filter(|_| !is_known) {
                    Some(bytes) => Some(decode_picture(path, &bytes).ok()?),
                    None if is_known => None,
                    None => return None,
                };
                if picture.as_ref().is_some_and(RgbImage::is_one_color) {
                    return None;
                }
                Some((*class, path, id, picture))
            });
            let read: Vec<_> = read.collect();
            let fresh: Vec<_> = (read.iter())
                .filter_map(|(_, path, id, picture)| Some((*id, picture.as_ref()?, *path)))
                .collect();
            for crop in wanted {
                for ((id, ..), seen) in fresh.iter().zip(self.look(*crop, &fresh)?) {
                    self.looked.insert(*id);
                    self.memory.put(*id, seen);
                }
            }
            for (class, _, id, _) in read {
                all.entry(id).or_insert(class);
            }
            let done = (index * CHUNK + chunk.len()).min(sample.len());
            tell(done, sample.len(), &self.memory)?;
        }
        let rows: Vec<(usize, &Seen)> =
            all.iter().filter_map(|(id, class)| Some((*class, self.memory.get(*id)?))).collect();
        let (crop, text) = if self.networks.detector.is_some() {
            let found = Found::among(&rows);
            (found.best(), found.to_string())
        } else {
            let found = Middles::among(&rows);
            (found.best(), found.to_string())
        };
        self.crop = crop;
        Ok(format!("crop: {} ({text})", crop.name()))
    }
}

/// Photographs to measure with: some of each class that has several, of classes spread over all; class and place.
fn sample(photos: &dyn Photos) -> Vec<(usize, usize)> {
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for place in 0..photos.count() {
        classes.entry(photos.label(place)).or_default().push(place);
    }
    let several: Vec<Vec<usize>> =
        classes.into_values().filter(|places| places.len() > 1).collect();
    let all: usize = several.iter().map(|places| places.len().min(OF_A_CLASS)).sum();
    let step = all.div_ceil(MEASURED).max(1);
    let chosen = several.iter().enumerate().step_by(step);
    chosen
        .flat_map(|(class, places)| {
            let step = places.len().div_ceil(OF_A_CLASS);
            places.iter().step_by(step).map(move |place| (class, *place))
        })
        .collect()
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The photographs that have another one of their class, each with the similarities of all others by some kinds: the
/// best of each kind, whether it is of the class.
fn right<const N: usize>(
    all: &[(usize, &Seen)],
    similarities: impl Fn(&Seen, &Seen) -> Option<[f32; N]> + Sync,
) -> Vec<[bool; N]> {
    (all.par_iter().enumerate())
        .filter(|(place, (class, _))| {
            let mut others = all.iter().enumerate().filter(|(other, _)| other != place);
            others.any(|(_, (other, _))| other == class)
        })
        .filter_map(|(place, (class, seen))| {
            let mut best = [(f32::NEG_INFINITY, usize::MAX); N];
            for (_, (class, other)) in all.iter().enumerate().filter(|(other, _)| *other != place) {
                for (best, score) in best.iter_mut().zip(similarities(seen, other)?) {
                    if score > best.0 {
                        *best = (score, *class);
                    }
                }
            }
            Some(best.map(|(_, found)| found == *class))
        })
        .collect()
}

/// How many of the photographs find their class by what a detector finds in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    queries: usize,
    whole: usize,
    main: usize,
    both: usize,
}

impl Found {
    fn among(all: &[(usize, &Seen)]) -> Self {
        let found = right(all, |seen, other| {
            // What a page embeds.
            let query = seen.main.found().or(seen.whole.as_ref())?;
            let whole = product(query, other.whole.as_ref()?);
            let main = other.main.found().map_or(whole, |main| product(query, main));
            Some([whole, main, whole.max(main)])
        });
        let count = |kind: usize| found.iter().filter(|right| right[kind]).count();
        Self { queries: found.len(), whole: count(0), main: count(1), both: count(2) }
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

/// Why nothing was measured.
const TOO_FEW: &str = "too few pictures of one class to measure what is better";

fn percent(found: usize, queries: usize) -> f64 {
    100.0 * found as f64 / queries.max(1) as f64
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queries, whole, main, both } = *self;
        if queries < LEAST {
            return f.write_str(TOO_FEW);
        }
        write!(
            f,
            "{queries} pictures, each searched among the others by what is found in it, recall@1: whole pictures \
             {:.1} %, main bodies {:.1} %, both {:.1} %",
            percent(whole, queries),
            percent(main, queries),
            percent(both, queries)
        )
    }
}

/// The same of whole photographs and their middles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Middles {
    queries: usize,
    whole: usize,
    middle: usize,
}

impl Middles {
    fn among(all: &[(usize, &Seen)]) -> Self {
        let found = right(all, |seen, other| {
            let of =
                |part: fn(&Seen) -> Option<&Vec<f32>>| Some(product(part(seen)?, part(other)?));
            Some([of(|seen| seen.whole.as_ref())?, of(|seen| seen.middle.as_ref())?])
        });
        let count =
            |is_it: fn(&[bool; 2]) -> bool| found.iter().filter(|right| is_it(right)).count();
        Self {
            queries: found.len(),
            whole: count(|right| right[0]),
            middle: count(|right| right[1]),
        }
    }

    /// The middle where it finds more: photographs of one series understate what it brings to others.
    fn best(self) -> Crop {
        let helps = self.queries >= LEAST && self.middle > self.whole;
        if helps { Crop::Middle } else { Crop::Never }
    }
}

impl std::fmt::Display for Middles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queries, whole, middle } = *self;
        if queries < LEAST {
            return f.write_str(TOO_FEW);
        }
        write!(
            f,
            "{queries} pictures, each searched among the others, recall@1: whole pictures {:.1} %, their middles {:.1} %",
            percent(whole, queries),
            percent(middle, queries)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::picture::PictureError;

    fn seen(whole: [f32; 2], main: Option<[f32; 2]>) -> Seen {
        let main = main.map_or(Body::Nothing, |main| Body::Found(main.to_vec()));
        Seen { whole: Some(whole.to_vec()), main, middle: None }
    }

    /// Labels without files.
    struct Listed(Vec<String>, PathBuf);

    impl Photos for Listed {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn label(&self, place: usize) -> &str {
            &self.0[place]
        }

        fn path(&self, _: usize) -> &Path {
            &self.1
        }

        fn bytes(&self, _: usize) -> Result<Vec<u8>, PictureError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn what_finds_more_is_chosen() {
        let found = |whole, main, both| Found { queries: 100, whole, main, both };
        assert_eq!(found(50, 70, 70).best(), Crop::Main);
        assert_eq!(found(70, 50, 72).best(), Crop::Never);
        assert_eq!(found(70, 70, 70).best(), Crop::Main);
        assert_eq!(found(70, 60, 80).best(), Crop::Both);
        assert_eq!(Found { queries: 9, whole: 9, main: 0, both: 9 }.best(), Crop::Both);
        let middles = |whole, middle| Middles { queries: 100, whole, middle };
        assert_eq!(middles(50, 51).best(), Crop::Middle);
        assert_eq!(middles(50, 50).best(), Crop::Never);
        assert_eq!(middles(60, 50).best(), Crop::Never);
        assert_eq!(Middles { queries: 9, whole: 0, middle: 9 }.best(), Crop::Never);
    }

    #[test]
    fn a_photograph_is_searched_among_the_others_by_its_main_body() {
        let (east, north) = ([1.0, 0.0], [0.0, 1.0]);
        // The wholes show the ground, which is the other class's; the main bodies show the thing.
        let all = [
            (0, &seen(north, Some(east))),
            (0, &seen(north, Some(east))),
            (1, &seen(east, Some(north))),
            (1, &seen(east, Some(north))),
            (2, &seen(north, None)),
        ];
        // The last one has no other picture of its class.
        assert_eq!(Found::among(&all), Found { queries: 4, whole: 0, main: 4, both: 2 });
    }

    #[test]
    fn middles_are_searched_among_middles() {
        let (east, north) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        let seen = |whole: &Vec<f32>, middle: &Vec<f32>| Seen {
            whole: Some(whole.clone()),
            middle: Some(middle.clone()),
            main: Body::Unknown,
        };
        let (one, other) = (seen(&east, &east), seen(&north, &east));
        let (third, fourth) = (seen(&east, &north), seen(&north, &north));
        let all = [(0, &one), (0, &other), (1, &third), (1, &fourth)];
        let found = Middles::among(&all);
        assert_eq!(found, Middles { queries: 4, whole: 0, middle: 4 });
    }

    #[test]
    fn classes_of_one_picture_tell_nothing() {
        let mut labels = vec!["many".to_owned(); 30];
        labels.push("one".to_owned());
        let chosen = sample(&Listed(labels, PathBuf::new()));
        assert_eq!(chosen.len(), 8);
        assert!(chosen.iter().all(|(class, _)| *class == 0));
        let many = (0..4000).map(|number| format!("{}", number / 4)).collect();
        assert_eq!(sample(&Listed(many, PathBuf::new())).len(), 1000);
    }
}
