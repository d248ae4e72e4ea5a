//! How good a gallery is by its own photographs, what is wrong with these, and what would help most.
//!
//! Each photograph is asked without itself. In an adapted gallery it is asked behind a map that was learned from other
//! photographs, so that no figure counts what it taught.

mod advice;
mod around;

use std::collections::{BTreeMap, HashMap};

use models::gallery::{ContentId, Folds, Gallery, GalleryError};
use serde::Serialize;

use self::advice::advice;
use self::around::{Around, Near, neighborhoods};
use crate::adaptation::{Outcome, ThresholdOutcome};
use crate::calibration::Share;
use crate::label::Labels;
use crate::memory::Memory;
use crate::photos::Photos;

/// Of the nearest photographs, those of one other class from which on a label is doubted.
const AGREEING: usize = 3;
/// Photographs of a class with fewer are too few.
pub const FEW: usize = 5;
/// Least cosine of a double.
const DOUBLE: f32 = 0.99;
/// A double is this much nearer than nearest photographs are.
const NEARER: f32 = 0.1;
/// With fewer photographs nobody can say which is like no other one.
const LEAST_COMPARED: usize = 20;
/// Ranges between the quartiles by which an outlier lies below the lower one: Tukey, Exploratory Data Analysis, 1977.
const FENCE: f32 = 1.5;
/// And by how much at least: photographs of which all are alike have no outliers.
const LONELY: f32 = 0.05;

/// What is known of a gallery and its photographs; photographs are places in the list.
#[derive(Debug, Clone, Default)]
pub struct Quality {
    /// Photographs that are entries.
    pub photos: usize,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Photographs whose class is the first answer, and those whose class is among the first five; of photographs
    /// whose class has another one.
    pub found: [Share; 2],
    /// The first of these for each class.
    pub found_of_class: Vec<Share>,
    /// What is done with known and unknown things; `None` where that was not measured.
    pub open: Option<Open>,
    /// Why no threshold is kept, sentences.
    pub doubts: Vec<String>,
    /// Classes that are mistaken for each other, the most frequent first.
    pub mistaken: Vec<Mistaken>,
    /// Photographs that look as if they were of another class, the clearest first.
    pub suspects: Vec<Suspect>,
    /// Photographs that are the same or nearly so.
    pub doubles: Vec<Double>,
    /// Photographs that are like no other one, the most lonely first.
    pub outliers: Vec<Outlier>,
    /// Classes with fewer than [`FEW`] photographs, and their number, the fewest first.
    pub few: Vec<(usize, usize)>,
    /// Photographs in which a detector found nothing.
    pub empty: Vec<usize>,
    /// What would help, the most first: photographs that it is about, and a sentence.
    pub advice: Vec<(usize, String)>,
}

/// Known and unknown things at the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Open {
    /// Known things that are named rightly.
    pub right: Share,
    /// Known things that are named wrongly.
    pub wrong: Share,
    /// Unknown things that are named.
    pub named: Share,
}

/// Two classes of which one is taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mistaken {
    /// The two classes.
    pub classes: [usize; 2],
    /// Photographs of either that were taken for the other.
    pub times: usize,
    /// Photographs of both that were asked.
    pub of: usize,
    /// The clearest of these, and the photograph that it was taken for.
    pub photos: [usize; 2],
}

/// A photograph whose nearest ones are of another class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suspect {
    /// The photograph.
    pub photo: usize,
    /// Its class in the list.
    pub class: usize,
    /// The class that it looks like.
    pub looks: usize,
    /// Its nearest photographs.
    pub near: Vec<usize>,
    /// How much more similar the other class is than its own.
    pub lead: f32,
}

/// Two photographs that are the same, or nearly so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Double {
    /// The two.
    pub photos: [usize; 2],
    /// Whether their files are the same.
    pub same: bool,
    /// Whether they are of one class.
    pub one_class: bool,
}

/// A photograph that is like no other one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outlier {
    /// The photograph.
    pub photo: usize,
    /// Its class.
    pub class: usize,
    /// Cosine to the photograph that is most like it.
    pub cosine: f32,
}

impl Quality {
    /// What a gallery says of its photographs; `contents` are those of the list, as [`crate::add`] returns them.
    ///
    /// # Errors
    ///
    /// [`GalleryError`] of entries that cannot be compared.
    pub fn of(
        gallery: &Gallery,
        learned: &Outcome,
        photos: &dyn Photos,
        contents: &[Option<ContentId>],
        memory: &Memory,
    ) -> Result<Self, GalleryError> {
        let labels: Vec<String> = gallery.classes().iter().map(|c| c.label.clone()).collect();
        let places = Places::of(gallery, photos, contents);
        let own;
        let folds = if learned.folds.is_some() {
            learned.folds.as_ref()
        } else {
            own = Folds::of(gallery);
            own.as_ref()
        };
        let around = neighborhoods(gallery, folds)?;
        let counts = places.counts(labels.len());
        let mut few: Vec<(usize, usize)> =
            counts.iter().copied().enumerate().filter(|(_, count)| *count < FEW).collect();
        few.sort_by_key(|(class, count)| (*count, *class));
        let asked = || around.iter().filter_map(|near| near.rank);
        let within = |ranks: usize| Share {
            count: asked().filter(|rank| *rank < ranks).count(),
            of: asked().count(),
        };
        let empty = contents.iter().enumerate();
        // Where no main body is an entry, nobody has looked for all.
        let looks = gallery.crop().needs_detector();
        let empty = empty.filter(|(_, id)| looks && id.is_some_and(|id| memory.shows_nothing(id)));
        let mut quality = Self {
            photos: contents.iter().flatten().count(),
            found: [within(1), within(5)],
            found_of_class: found_of_class(&around, labels.len()),
            open: Open::of(&learned.threshold),
            doubts: doubts(&learned.threshold),
            mistaken: mistaken(&around, &places),
            suspects: suspects(&around, &places),
            doubles: doubles(&around, &places),
            outliers: outliers(&around, &places),
            few,
            empty: empty.map(|(place, _)| place).collect(),
            labels,
            advice: Vec::new(),
        };
        let is_few = |class: usize| quality.few.iter().any(|(few, _)| *few == class);
        let wrong = |near: &&Around| near.rank != Some(0) && is_few(near.class);
        quality.advice = advice(&quality, contents, around.iter().filter(wrong).count());
        Ok(quality)
    }

    /// The share of found photographs with its standard error, in percent: at the first answer (0) or among five (1).
    pub fn recall(&self, of: usize) -> Option<[f64; 2]> {
        let share = self.found.get(of)?;
        let rate = share.value()?;
        Some([100.0 * rate, 100.0 * (rate * (1.0 - rate) / share.of as f64).sqrt()])
    }
}

/// Where the pictures of entries are in the list.
struct Places {
    /// By content and class: the first of the list.
    of: HashMap<(ContentId, usize), usize>,
    /// All of them, in the order of the list: content, class, place.
    all: Vec<(ContentId, usize, usize)>,
}

impl Places {
    fn of(gallery: &Gallery, photos: &dyn Photos, contents: &[Option<ContentId>]) -> Self {
        let classes: Labels = gallery.classes().iter().map(|class| class.label.as_str()).collect();
        let (mut of, mut all) = (HashMap::new(), Vec::new());
        for (place, content) in contents.iter().enumerate() {
            let (Some(id), Some(class)) = (content, classes.find(photos.label(place))) else {
                continue;
            };
            of.entry((*id, class)).or_insert(place);
            all.push((*id, class, place));
        }
        Self { of, all }
    }

    fn find(&self, near: &Near) -> Option<usize> {
        self.of.get(&(near.id, near.class)).copied()
    }

    /// Different photographs of each class.
    fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        self.of.keys().for_each(|(_, class)| counts[*class] += 1);
        counts
    }
}

impl Open {
    /// What the kept threshold does.
    fn of(threshold: &ThresholdOutcome) -> Option<Self> {
        let ThresholdOutcome::Kept(measured) = threshold else { return None };
        let wrong = measured.answered.count.saturating_sub(measured.right.count);
        Some(Self {
            right: measured.right,
            wrong: Share { count: wrong, of: measured.answered.of },
            named: measured.named,
        })
    }
}

/// Why a threshold is not kept.
fn doubts(threshold: &ThresholdOutcome) -> Vec<String> {
    match threshold {
        ThresholdOutcome::Doubtful(_, doubts) => doubts.iter().map(ToString::to_string).collect(),
        ThresholdOutcome::NoAnswer => {
            vec!["there is one class: nothing tells what an unknown thing is".to_owned()]
        }
        _ => Vec::new(),
    }
}

fn found_of_class(around: &[Around], classes: usize) -> Vec<Share> {
    let mut found = vec![Share::default(); classes];
    for photo in around {
        if let (Some(rank), Some(found)) = (photo.rank, found.get_mut(photo.class)) {
            found.of += 1;
            found.count += usize::from(rank == 0);
        }
    }
    found
}

fn outliers(around: &[Around], places: &Places) -> Vec<Outlier> {
    let most_alike =
        |photo: &Around| photo.near.iter().map(|near| near.cosine).max_by(f32::total_cmp);
    let mut cosines: Vec<f32> = around.iter().filter_map(most_alike).collect();
    if cosines.len() < LEAST_COMPARED {
        return Vec::new();
    }
    cosines.sort_by(f32::total_cmp);
    let quartile = |of: usize| cosines[of * (cosines.len() - 1) / 4];
    let fence = quartile(1) - (FENCE * (quartile(3) - quartile(1))).max(LONELY);
    let mut all: Vec<Outlier> = (around.iter())
        .filter_map(|photo| {
            let cosine = most_alike(photo).filter(|cosine| *cosine < fence)?;
            let place = *places.of.get(&(photo.id, photo.class))?;
            Some(Outlier { photo: place, class: photo.class, cosine })
        })
        .collect();
    all.sort_by(|a, b| a.cosine.total_cmp(&b.cosine).then(a.photo.cmp(&b.photo)));
    all
}

fn mistaken(around: &[Around], places: &Places) -> Vec<Mistaken> {
    let mut asked: BTreeMap<usize, usize> = BTreeMap::new();
    let mut pairs: BTreeMap<[usize; 2], (usize, f32, [usize; 2])> = BTreeMap::new();
    for photo in around {
        let (Some(rank), Some(own), Some(other)) = (photo.rank, photo.own, photo.other) else {
            continue;
        };
        *asked.entry(photo.class).or_default() += 1;
        if rank == 0 {
            continue;
        }
        let place = places.of.get(&(photo.id, photo.class));
        let (Some(place), Some(taken)) = (place, places.find(&other)) else { continue };
        let mut classes = [photo.class, other.class];
        classes.sort_unstable();
        let lead = other.similarity - own.similarity;
        let pair = pairs.entry(classes).or_insert((0, f32::NEG_INFINITY, [*place, taken]));
        pair.0 += 1;
        if lead > pair.1 {
            (pair.1, pair.2) = (lead, [*place, taken]);
        }
    }
    let count = |class: usize| asked.get(&class).copied().unwrap_or(0);
    let mut all: Vec<Mistaken> = (pairs.into_iter())
        .map(|(classes, (times, _, photos))| Mistaken {
            classes,
            times,
            of: classes.map(count).iter().sum(),
            photos,
        })
        .collect();
    all.sort_by_key(|pair| (std::cmp::Reverse(pair.times), pair.classes));
    all
}

fn suspects(around: &[Around], places: &Places) -> Vec<Suspect> {
    let mut all: Vec<Suspect> = (around.iter())
        .filter_map(|photo| {
            let (own, other) = (photo.own?, photo.other?);
            let agreeing = photo.near.iter().filter(|near| near.class == other.class).count();
            let is_own = photo.near.iter().any(|near| near.class == photo.class);
            if is_own || agreeing < AGREEING {
                return None;
            }
            Some(Suspect {
                photo: *places.of.get(&(photo.id, photo.class))?,
                class: photo.class,
                looks: other.class,
                near: photo.near.iter().filter_map(|near| places.find(near)).collect(),
                lead: other.similarity - own.similarity,
            })
        })
        .collect();
    all.sort_by(|a, b| b.lead.total_cmp(&a.lead).then(a.photo.cmp(&b.photo)));
    all
}

fn doubles(around: &[Around], places: &Places) -> Vec<Double> {
    let mut first: HashMap<ContentId, (usize, usize)> = HashMap::new();
    let mut all = Vec::new();
    for (id, class, place) in &places.all {
        match first.get(id) {
            Some((of, other)) => {
                all.push(Double { photos: [*other, *place], same: true, one_class: of == class });
            }
            None => {
                first.insert(*id, (*class, *place));
            }
        }
    }
    let nearest = around.iter().filter_map(|photo| photo.near.first());
    let mut cosines: Vec<f32> = nearest.map(|near| near.cosine).collect();
    cosines.sort_by(f32::total_cmp);
    let middle = cosines.get(cosines.len() / 2).copied().unwrap_or(1.0);
    let least = DOUBLE.max(1.0 - NEARER * (1.0 - middle));
    let mut near: BTreeMap<[usize; 2], bool> = BTreeMap::new();
    for photo in around {
        let Some(place) = places.of.get(&(photo.id, photo.class)) else { continue };
        for other in photo.near.iter().filter(|near| near.cosine >= least) {
            if let Some(other_place) = places.find(other) {
                let mut pair = [*place, other_place];
                pair.sort_unstable();
                near.insert(pair, photo.class == other.class);
            }
        }
    }
    let near = near.into_iter();
    all.extend(near.map(|(photos, one_class)| Double { photos, same: false, one_class }));
    // What has two names does harm; the rest is only of no use.
    all.sort_by_key(|double| (double.one_class, !double.same, double.photos));
    all
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use models::gallery::{Class, VectorType};

    use super::*;
    use crate::adaptation::{Options, adapt_and_calibrate};
    use crate::picture::PictureError;

    /// Photographs that are embeddings: their class, and an angle.
    struct Circle(Vec<(String, f32)>, PathBuf);

    impl Circle {
        fn of(photos: &[(&str, f32)]) -> Self {
            let own = photos.iter().map(|(label, angle)| ((*label).to_owned(), *angle));
            Self(own.collect(), PathBuf::new())
        }

        fn quality(&self) -> Quality {
            let mut gallery = Gallery::with_type(2, "m", VectorType::F32);
            let mut contents = Vec::new();
            for (label, angle) in &self.0 {
                let class = gallery.class_by_label(label).unwrap_or_else(|| {
                    gallery
                        .add_class(Class { label: label.clone(), ..Class::default() }, Vec::new())
                });
                let id = ContentId::of(&angle.to_le_bytes());
                gallery.add_image(class, &[angle.cos(), angle.sin()], id).unwrap();
                contents.push(Some(id));
            }
            let learned = adapt_and_calibrate(&mut gallery, &Options::default());
            let memory = Memory::default();
            Quality::of(&gallery, &learned.unwrap(), self, &contents, &memory).unwrap()
        }
    }

    impl Photos for Circle {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn label(&self, place: usize) -> &str {
            &self.0[place].0
        }

        fn path(&self, _: usize) -> &Path {
            &self.1
        }

        fn bytes(&self, _: usize) -> Result<Vec<u8>, PictureError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn one_class_and_a_threshold_that_names_strangers_have_an_advice() {
        let photos: Vec<(&str, f32)> =
            (0..6_u8).map(|number| ("cup", 0.11 * f32::from(number))).collect();
        let quality = Circle::of(&photos).quality();
        let told = "There is one class, and everything gets its name: add a second one";
        assert!(quality.advice.iter().any(|(_, text)| text.starts_with(told)), "{quality:?}");

        let share = |count, of| Share { count, of };
        let open = Open { right: share(70, 100), wrong: share(5, 100), named: share(8, 100) };
        let quality = Quality {
            labels: vec!["a".to_owned(), "b".to_owned()],
            open: Some(open),
            ..Quality::default()
        };
        let texts: Vec<String> =
            advice(&quality, &[], 0).into_iter().map(|(_, text)| text).collect();
        assert!(texts[0].starts_with("25 of 100 pictures of the classes are called unknown"));
        assert!(texts[1].starts_with("8 of 100 unknown things get a name"), "{texts:?}");
        let few = Open { right: share(96, 100), wrong: share(2, 100), named: share(5, 100) };
        assert!(advice(&Quality { open: Some(few), ..quality }, &[], 0).is_empty());
    }

    #[test]
    fn what_is_wrong_with_photographs_is_found() {
        let mut photos = Vec::new();
        for number in 0..6_u8 {
            let step = 0.11 * f32::from(number);
            photos.extend([("cup", step), ("mug", 2.0 + step), ("pot", 4.0 + step)]);
        }
        photos.push(("pot", 2.275)); // 18: lies among the mugs
        photos.push(("cup", 0.3301)); // 19: nearly the fourth cup
        photos.push(("mug", 0.11)); // 20: the second cup itself
        photos.push(("pan", 1.0)); // 21: the only one
        let quality = Circle::of(&photos).quality();
        assert_eq!(quality.photos, 22);
        assert_eq!(quality.labels, ["cup", "mug", "pot", "pan"]);
        assert_eq!(quality.found[0].of, 21, "the pan has no other picture");
        let suspects: Vec<(usize, usize)> =
            quality.suspects.iter().map(|suspect| (suspect.photo, suspect.looks)).collect();
        assert!(suspects.contains(&(18, 1)), "{suspects:?}");
        assert!(suspects.contains(&(20, 0)), "{suspects:?}");
        assert_eq!(suspects.len(), 2, "{suspects:?}");
        assert!(quality.doubles.contains(&Double {
            photos: [3, 20],
            same: true,
            one_class: false
        }));
        assert!(quality.doubles.contains(&Double {
            photos: [9, 19],
            same: false,
            one_class: true
        }));
        assert_eq!(quality.few, [(3, 1)]);
        let pair = quality.mistaken.iter().find(|pair| pair.classes == [1, 2]).unwrap();
        assert!(pair.times >= 1 && pair.photos[0] == 18, "{pair:?}");
        let [first, fifth] = [0, 1].map(|of| quality.recall(of).unwrap()[0]);
        assert!(first < fifth && fifth <= 100.0, "{first} {fifth}");
        let advice: Vec<&str> = quality.advice.iter().map(|(_, text)| text.as_str()).collect();
        assert!(
            advice
                .iter()
                .any(|text| text.starts_with("1 class has fewer than 5 pictures (pan): 4")),
            "{advice:?}"
        );
        assert!(
            advice.iter().any(|text| text.starts_with("1 picture is in two classes")),
            "{advice:?}"
        );
        // That one is not said to be in the wrong folder, too.
        assert!(
            advice.iter().any(|text| text.starts_with("1 picture looks as if of another class")),
            "{advice:?}"
        );
        let open = quality.open.unwrap();
        assert_eq!(open.right.of, 21);
        assert!(quality.doubts.is_empty(), "{:?}", quality.doubts);
    }

    #[test]
    fn what_is_like_nothing_else_is_an_outlier() {
        let mut photos = Vec::new();
        for number in 0..12_u8 {
            let step = 0.02 * f32::from(number);
            photos.extend([("cup", step), ("mug", 2.0 + step)]);
        }
        assert!(Circle::of(&photos).quality().outliers.is_empty());
        photos.push(("cup", 5.0)); // 24: far from all
        let quality = Circle::of(&photos).quality();
        let outliers: Vec<(usize, usize)> =
            quality.outliers.iter().map(|outlier| (outlier.photo, outlier.class)).collect();
        assert_eq!(outliers, [(24, 0)]);
        let found = &quality.found_of_class;
        assert_eq!(found.iter().map(|share| share.of).collect::<Vec<_>>(), [13, 12]);
        let count: usize = found.iter().map(|share| share.count).sum();
        assert_eq!(count, quality.found[0].count, "those of the classes are those of all");
        let few = Circle::of(&photos[10..]).quality();
        assert!(few.outliers.is_empty(), "15 photographs are too few");
    }

    #[test]
    fn single_photographs_say_nothing_of_themselves() {
        let quality = Circle::of(&[("a", 0.0), ("b", 1.0), ("c", 2.0)]).quality();
        assert_eq!(quality.recall(0), None);
        assert!(quality.mistaken.is_empty() && quality.suspects.is_empty());
        assert_eq!(quality.few.len(), 3);
        assert!(quality.open.is_none() && !quality.doubts.is_empty());
        assert!(
            quality.advice[0]
                .1
                .starts_with("3 classes have fewer than 5 pictures (a, b, c): 12 more")
        );
    }
}
