//! From records to pictures with boxes, with everything that is wrong on the way.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use models::image::Header;
use models::image::geometry::BBox;
use rayon::prelude::*;

use super::finding::{Finding, Findings, Problem, numbers};
use super::place::{self, Place};
use super::record::{AnnotationRecord, Crowd, Frame, Id, ImageRecord, Records, parse};
use super::{BoxedPicture, CocoError, Inspection, advice, header};
use crate::files;

/// Rounding of the annotations may carry a box over the edge by less than this, in pixels.
const EDGE: f32 = 1.0;
/// A box with a side below this, in pixels, is named.
const LEAST_SIDE: f32 = 1.0;
/// Least share of a box that lies in its picture.
const LEAST_INSIDE: f32 = 0.5;

/// A file whose pictures are being looked at.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) records: Records,
    /// In the order of the file.
    pub(super) entries: Vec<Entry>,
    findings: Findings,
    place: Place,
    is_background: bool,
    /// Whether no box can be held against its picture, being given as shares of it.
    are_shares: bool,
}

/// A picture.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its record.
    pub(super) image: usize,
    pub(super) path: PathBuf,
    /// Behind links; nothing where it is not there.
    real: Option<PathBuf>,
    /// Annotations with their boxes.
    pub(super) boxes: Vec<(usize, BBox)>,
    /// Annotations that are crowds.
    pub(super) crowds: Vec<usize>,
}

impl Entry {
    /// What tells sets of boxes apart.
    fn key(&self) -> Vec<[u32; 4]> {
        let mut key: Vec<[u32; 4]> = self.boxes.iter().map(|(_, bbox)| bits(bbox)).collect();
        key.sort_unstable();
        key
    }
}

fn bits(b: &BBox) -> [u32; 4] {
    [b.x1, b.y1, b.x2, b.y2].map(f32::to_bits)
}

impl Draft {
    pub(super) fn of_file(path: &Path, images: Option<&Path>) -> Result<Self, CocoError> {
        let text = files::read(path, files::TEXT_LIMIT);
        Self::of_text(path, text.map_err(|error| error.wanted(files::wanted::COCO))?, images)
    }

    pub(super) fn of_text(
        path: &Path,
        text: Vec<u8>,
        images: Option<&Path>,
    ) -> Result<Self, CocoError> {
        let records = parse(path, text)?;
        let mut findings = Findings::default();
        let kept = usable_images(&records.images, &mut findings);
        let names: Vec<&str> = kept.iter().map(|&image| records.images[image].name()).collect();
        let place = Place::find(path, images, &names);
        let mut entries: Vec<Entry> = kept
            .iter()
            .map(|&image| {
                let path = place::picture(&place.folder, records.images[image].name());
                let real = path.canonicalize().ok().filter(|path| path.is_file());
                Entry { image, path, real, boxes: Vec::new(), crowds: Vec::new() }
            })
            .collect();
        distribute(&records, &mut entries, &mut findings);
        let are_shares = name_shares(&records, &entries, &mut findings);
        unite_files(&records.images, &mut entries, &mut findings);
        if let Some(other) = &place.other {
            let folders = [&place.folder, other].map(|folder| folder.display().to_string());
            let examples = folders.to_vec();
            findings.put(Finding { kind: Problem::OtherFolder, count: 2, of: 2, examples });
        }
        Ok(Self { records, entries, findings, place, is_background: false, are_shares })
    }

    /// Takes the pictures for a part of a mixture, whose other parts may have the boxes: those of these places,
    /// or all. A part is background where its annotations are empty, not where none of them can be used.
    pub(super) fn mix(&mut self, mut places: Option<Vec<usize>>) {
        let has_boxes = self.entries.iter().any(|entry| !entry.boxes.is_empty());
        self.is_background = has_boxes || self.records.annotations.is_empty();
        if let Some(places) = &mut places {
            places.sort_unstable();
            self.entries = places.iter().map(|&place| self.entries[place].clone()).collect();
        }
    }

    pub(super) fn look_at_headers(&mut self, seen: &(impl Fn(usize) + Sync)) {
        let answers = self.look(|path| Ok((header(path)?, ())), seen);
        let of = self.entries.len();
        for (entry, answer) in self.entries.iter().zip(answers) {
            if let Some(Err(reason)) = answer {
                let name = entry.path.display();
                self.findings.add(Problem::BrokenPicture, of, || format!("{name}: {reason}"));
            }
        }
    }

    /// Hands every picture that is there to `examine`, and holds its boxes against its size.
    pub(super) fn look<T: Send>(
        &mut self,
        examine: impl Fn(&Path) -> Result<(Header, T), String> + Sync,
        seen: &(impl Fn(usize) + Sync),
    ) -> Vec<Option<Result<T, String>>> {
        let of = self.entries.len();
        let answers: Vec<Option<Result<(Header, T), String>>> = self
            .entries
            .par_iter()
            .map(|entry| {
                let answer = entry.real.is_some().then(|| examine(&entry.path));
                seen(of);
                answer
            })
            .collect();
        let boxes = self.records.annotations.len();
        let mut told = Vec::with_capacity(of);
        for (entry, answer) in self.entries.iter_mut().zip(answers) {
            let name = entry.path.display().to_string();
            told.push(match answer {
                None => {
                    self.findings.add(Problem::MissingPicture, of, || name);
                    None
                }
                Some(Err(reason)) => Some(Err(reason)),
                Some(Ok((header, answer))) => {
                    let image = &self.records.images[entry.image];
                    compare_sizes(image, &header, &name, of, &mut self.findings);
                    if !self.are_shares {
                        let size = (header.width, header.height);
                        hold_inside(&mut entry.boxes, size, &name, boxes, &mut self.findings);
                    }
                    Some(Ok(answer))
                }
            });
        }
        told
    }

    /// Names files of equal content; `answers` are those of [`Self::look`].
    pub(super) fn compare_contents<T>(
        &mut self,
        answers: &[Option<Result<T, String>>],
        same: impl Fn(&T) -> &str,
    ) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let of = self.entries.len();
        for (index, answer) in answers.iter().enumerate() {
            let Some(Ok(answer)) = answer else { continue };
            let other = *first.entry(same(answer)).or_insert(index);
            let (a, b) = (&self.entries[other], &self.entries[index]);
            // One file is named already.
            if a.real == b.real {
                continue;
            }
            let kind = if a.key() == b.key() { Problem::SameAgain } else { Problem::SameContent };
            let example = || format!("{} and {}", a.path.display(), b.path.display());
            self.findings.add(kind, of, example);
        }
    }

    /// What is left out or changed, unless there are errors, of which `refused` makes one.
    pub(super) fn check(
        &mut self,
        refused: impl FnOnce(Vec<Finding>, Vec<PathBuf>) -> CocoError,
    ) -> Result<Vec<Finding>, CocoError> {
        self.count_boxes();
        let has_errors = self.findings.has_errors();
        let findings = std::mem::take(&mut self.findings).into_vec();
        if has_errors { Err(refused(findings, self.place.looked_in.clone())) } else { Ok(findings) }
    }

    pub(super) fn into_pictures(self) -> Vec<BoxedPicture> {
        let picture = |entry: Entry| BoxedPicture {
            path: entry.path,
            boxes: entry.boxes.into_iter().map(|(_, bbox)| bbox).collect(),
        };
        self.entries.into_iter().map(picture).collect()
    }

    /// Says where there is little to learn, or nothing.
    fn count_boxes(&mut self) {
        let of = self.entries.len();
        let is_empty = |entry: &&Entry| entry.boxes.is_empty();
        if !self.is_background && self.entries.iter().filter(is_empty).count() == of {
            let count = self.records.annotations.len();
            let kind = if count == 0 { Problem::OnlyBackground } else { Problem::NoBoxes };
            self.findings.put(Finding { kind, count, of, examples: Vec::new() });
            return;
        }
        for entry in self.entries.iter().filter(is_empty) {
            let name = || entry.path.display().to_string();
            self.findings.add(Problem::Background, of, name);
        }
    }

    pub(super) fn into_inspection<T>(
        mut self,
        answers: Vec<Option<Result<T, String>>>,
    ) -> Inspection<T> {
        self.count_boxes();
        let boxes = self.entries.iter().map(|entry| entry.boxes.len()).sum();
        let is_missing = answers.iter().any(Option::is_none);
        let pictures = self.entries.into_iter().zip(answers);
        Inspection {
            pictures: pictures.filter_map(|(entry, answer)| Some((entry.path, answer?))).collect(),
            boxes,
            findings: self.findings.into_vec(),
            advice: is_missing.then(|| advice(&self.place.looked_in)),
        }
    }
}

/// Places of the pictures that annotations can name, each once.
fn usable_images(images: &[ImageRecord], findings: &mut Findings) -> Vec<usize> {
    let of = images.len();
    let mut by_id: BTreeMap<&Id, Vec<usize>> = BTreeMap::new();
    for (index, image) in images.iter().enumerate() {
        if image.file_name.is_none() {
            findings.add(Problem::ImageWithoutName, of, || format!("images[{index}]"));
        } else if image.id.is_usable() {
            by_id.entry(&image.id).or_default().push(index);
        } else {
            let example = || format!("images[{index}], {}", image.name());
            findings.add(Problem::ImageWithoutId, of, example);
        }
        if image.width.is_impossible() || image.height.is_impossible() {
            let example = || format!("{}: {}×{}", image.name(), image.width, image.height);
            findings.add(Problem::ImpossibleSize, of, example);
        }
    }
    let mut kept = Vec::with_capacity(of);
    for (id, places) in by_id {
        let first = places[0];
        kept.push(first);
        if places.iter().all(|&place| images[place] == images[first]) {
            for _ in &places[1..] {
                let example = || format!("id {id}: {}", images[first].name());
                findings.add(Problem::ListedAgain, of, example);
            }
        } else {
            let example = || {
                let two = places.iter().take(2).map(|&place| images[place].name());
                format!("id {id}, {} times: {} …", places.len(), two.collect::<Vec<_>>().join(", "))
            };
            findings.add(Problem::SameId, of, example);
        }
    }
    kept.sort_unstable();
    kept
}

/// Gives every picture its boxes.
fn distribute(records: &Records, entries: &mut [Entry], findings: &mut Findings) {
    let owner: BTreeMap<&Id, usize> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| (&records.images[entry.image].id, at))
        .collect();
    let of = records.annotations.len();
    let mut taken: HashSet<(usize, [u32; 4])> = HashSet::new();
    for (index, annotation) in records.annotations.iter().enumerate() {
        let name = || annotation.name(index);
        let Some(&at) = owner.get(&annotation.image_id) else {
            let example = || format!("{}: image {}", name(), annotation.image_id);
            findings.add(Problem::UnknownImage, of, example);
            continue;
        };
        let category = &annotation.category_id;
        if !records.categories.is_empty()
            && *category != Id::Absent
            && !records.categories.contains(category)
        {
            let example = || format!("{}: category {category}", name());
            findings.add(Problem::UnknownCategory, of, example);
        }
        match taken_box(annotation) {
            Ok(Some(bbox)) if taken.insert((at, bits(&bbox))) => {
                entries[at].boxes.push((index, bbox));
            }
            Ok(Some(_)) => findings.add(Problem::SameBox, of, name),
            Ok(None) => {
                entries[at].crowds.push(index);
                findings.add(Problem::Crowd, of, name);
            }
            Err((problem, sides)) => {
                let example = || match sides {
                    Some(sides) => format!("{}: {}", name(), numbers(&sides)),
                    None => name(),
                };
                findings.add(problem, of, example);
            }
        }
    }
}

/// Names the boxes of a file whose boxes all lie between 0 and 1, with fractions; whether it is one. They are not
/// converted: some programs write the middle of a box in the place of its corner.
fn name_shares(records: &Records, entries: &[Entry], findings: &mut Findings) -> bool {
    let boxes = || entries.iter().flat_map(|entry| &entry.boxes);
    let sides = |b: &BBox| [b.x1, b.y1, b.width(), b.height()];
    let all = boxes().all(|(_, b)| sides(b).iter().all(|side| (0.0..=1.0).contains(side)));
    let are_shares = all && boxes().any(|(_, b)| sides(b).iter().any(|side| side.fract() != 0.0));
    if are_shares {
        for (index, b) in boxes() {
            let name = records.annotations[*index].name(*index);
            let example = || format!("{name}: {}", numbers(&sides(b).map(f64::from)));
            findings.add(Problem::Shares, records.annotations.len(), example);
        }
    }
    are_shares
}

/// The box to learn; none for a crowd.
fn taken_box(annotation: &AnnotationRecord) -> Result<Option<BBox>, (Problem, Option<[f64; 4]>)> {
    match annotation.iscrowd {
        Crowd::Unclear => return Err((Problem::UnclearCrowd, None)),
        Crowd::Yes => return Ok(None),
        Crowd::No => {}
    }
    let Frame::Sides(sides) = annotation.bbox else { return Err((Problem::NoBox, None)) };
    let [x, y, w, h] = sides.map(|side| side as f32);
    let bbox = BBox::new(x, y, x + w, y + h);
    if [w, h, bbox.x1, bbox.y1, bbox.x2, bbox.y2].iter().any(|side| !side.is_finite()) {
        return Err((Problem::NotFinite, Some(sides)));
    }
    if bbox.area() > 0.0 { Ok(Some(bbox)) } else { Err((Problem::NoArea, Some(sides))) }
}

/// Takes a file that is listed under several ids once, if its boxes are the same each time.
fn unite_files(images: &[ImageRecord], entries: &mut Vec<Entry>, findings: &mut Findings) {
    let of = entries.len();
    let mut by_file: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        by_file.entry(entry.real.as_deref().unwrap_or(&entry.path)).or_default().push(at);
    }
    let mut again: HashSet<usize> = HashSet::new();
    for places in by_file.into_values().filter(|places| places.len() > 1) {
        let key = entries[places[0]].key();
        let is_same = places.iter().all(|&at| entries[at].key() == key);
        let ids: Vec<String> =
            places.iter().take(3).map(|&at| images[entries[at].image].id.to_string()).collect();
        let example = || format!("{}: ids {}", entries[places[0]].path.display(), ids.join(", "));
        if is_same {
            for &at in &places[1..] {
                again.insert(at);
                findings.add(Problem::ListedAgain, of, example);
            }
        } else {
            findings.add(Problem::SameFile, of, example);
        }
    }
    let mut at = 0;
    entries.retain(|_| {
        at += 1;
        !again.contains(&(at - 1))
    });
}

/// Holds the file's size of a picture against the picture's own.
fn compare_sizes(
    image: &ImageRecord,
    header: &Header,
    name: &str,
    of: usize,
    findings: &mut Findings,
) {
    let (width, height) = (image.width.pixels(), image.height.pixels());
    let fits = |(w, h): (u32, u32)| {
        width.is_none_or(|width| width == w) && height.is_none_or(|height| height == h)
    };
    let (is_upright, is_stored) = (fits((header.width, header.height)), fits(header.stored()));
    let example = || {
        let Header { width, height, .. } = header;
        format!("{name}: {width}×{height}, in the file {}×{}", image.width, image.height)
    };
    match (is_upright, is_stored) {
        (false, true) => findings.add(Problem::StoredSize, of, example),
        (false, false) => findings.add(Problem::OtherSize, of, example),
        (true, true) if header.orientation != 1 => {
            findings.add(Problem::Turned, of, || name.to_owned());
        }
        (true, _) => {}
    }
}

/// Cuts boxes at the edge of their picture; those that lie mostly outside are named.
fn hold_inside(
    boxes: &mut Vec<(usize, BBox)>,
    (width, height): (u32, u32),
    name: &str,
    of: usize,
    findings: &mut Findings,
) {
    boxes.retain_mut(|(_, b)| {
        if b.width() < LEAST_SIDE || b.height() < LEAST_SIDE {
            let example = || format!("{name}: {} × {}", b.width(), b.height());
            findings.add(Problem::Thin, of, example);
        }
        let inside = b.clip(width, height);
        let is_outside = inside.area() < LEAST_INSIDE * b.area();
        if !is_outside && lies_inside(b, width, height) {
            return true;
        }
        let example = || {
            let BBox { x1, y1, x2, y2 } = b;
            format!("{name}: box [{x1}, {y1}, {x2}, {y2}] is not inside {width}×{height}")
        };
        let kind = if is_outside { Problem::Outside } else { Problem::OverEdge };
        findings.add(kind, of, example);
        *b = inside;
        !is_outside
    });
}

fn lies_inside(b: &BBox, width: u32, height: u32) -> bool {
    let (w, h) = (width as f32 + EDGE, height as f32 + EDGE);
    b.x1 >= -EDGE && b.y1 >= -EDGE && b.x2 <= w && b.y2 <= h
}
