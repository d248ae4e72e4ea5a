//! From a gallery to shards.

use half::f16;
use rayon::prelude::*;

use super::block::{self, CLASS_BYTES, ENTRY_BYTES, Place, Row};
use super::coder::{Coder, Transform};
use super::directory::{Direction, Directory, Learned};
use super::eigen;
use super::{Sharded, no_centroids};
use crate::class::{Class, ContentId};
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::index::{Metric, Search, VectorIndex, VectorType, exact_product};
use crate::sections::crc32;

/// Widest embedding that is rotated: finding the directions takes the cube of it.
const MAX_ROTATED_DIM: usize = 2048;
/// Entries that each centroid is learned from.
const SAMPLE: usize = 16;
/// Rounds of Lloyd's algorithm.
const ROUNDS: usize = 8;
/// If a list is below `SHORT` times the average size and another above `LONG`, the short one's centroid moves
/// to a member of the long one.
const SHORT: f64 = 0.5;
const LONG: f64 = 1.5;
/// Entries that directions and steps are learned from.
const MOST_MEASURED: usize = 20_000;
/// An entry is also in a list whose centroid is at most `BOUNDARY` times as far as its nearest one, by the
/// squared distance.
const BOUNDARY: f32 = 1.5;
/// How far rounding may move a similarity, on average, before an embedding gets more bits.
const TOLERANCE: f64 = 0.0003;
/// Least product of a residual with what is stored of it: the scale stays finite.
const LEAST_PRODUCT: f32 = 0.05;

/// How a gallery is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardOptions {
    /// Bytes of a list, about: a query fetches several.
    pub list_bytes: usize,
    /// Lists that one entry is in at most. More find more by the same requests and make larger shards.
    pub copies: usize,
    /// Most bytes of an embedding in a list.
    pub code_bytes: usize,
    /// Most bytes of a centroid in the directory.
    pub centroid_bytes: usize,
    /// Most bytes of a file: some hosts take no larger ones.
    pub shard_bytes: u64,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            list_bytes: 9_000,
            copies: 3,
            code_bytes: 96,
            centroid_bytes: 48,
            shard_bytes: 16 << 20,
        }
    }
}

/// How embeddings are written, and the lists' centroids written so.
struct Coded {
    transform: Transform,
    directions: Vec<Direction>,
    /// Of every centroid.
    codes: Vec<Vec<u8>>,
    /// As the reader will see them.
    centroids: VectorIndex,
}

/// Entries of a list, and their classes in the order that the list counts them in.
struct List {
    members: Vec<usize>,
    classes: Vec<usize>,
}

impl Gallery {
    /// Cuts the gallery into shards.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Options`] for an empty gallery, embeddings of more than 2,048 values or options
    /// that leave nothing to write; [`GalleryError::ZeroEntry`].
    pub fn to_shards(&self, options: &ShardOptions) -> Result<Sharded, GalleryError> {
        let refused = |what: &str| Err(GalleryError::Options { what: what.to_owned() });
        if self.is_empty() {
            return refused("a gallery without entries cannot be cut into shards");
        }
        if self.index().dim() > MAX_ROTATED_DIM {
            return refused("embeddings of more than 2048 values cannot be cut into shards");
        }
        if options.copies == 0 || options.code_bytes == 0 || options.centroid_bytes == 0 {
            return refused("copies and bytes of codes are at least 1");
        }
        self.check_entries()?;
        let entries: Vec<usize> = self.entries().collect();
        let a_list = (options.list_bytes / (options.code_bytes + ENTRY_BYTES)).max(1);
        let count = (entries.len() * options.copies).div_ceil(a_list).min(entries.len());
        let centroids = in_a_chain(&learned(self.index(), &entries, count)?)?;
        let lists = self.lists(&entries, &centroids, options.copies)?;
        let coded = self.coded(&lists, &centroids, options)?;
        let Coded { transform, directions, codes, centroids } = &coded;

        let labels = |list: &List| -> usize {
            list.classes.iter().map(|class| CLASS_BYTES + self.classes()[*class].label.len()).sum()
        };
        let code_bytes = transform.residuals.bytes();
        let lengths: Vec<u64> = (lists.iter())
            .map(|list| (8 + labels(list) + list.members.len() * (ENTRY_BYTES + code_bytes)) as u64)
            .collect();
        let mut files = Files { most: options.shard_bytes, lengths: vec![0] };
        let places: Vec<Place> = lengths.iter().map(|length| files.place(*length)).collect();
        let mut class_places: Vec<Option<Place>> = vec![None; self.classes().len()];
        let mut told: Vec<(Place, Vec<u8>)> = Vec::new();
        for class in lists.iter().flat_map(|list| &list.classes) {
            if class_places[*class].is_none() {
                let metadata = &self.classes()[*class].metadata;
                let bytes = block::write_metadata(metadata, self.thumbnail(*class));
                let place = files.place(bytes.len() as u64);
                class_places[*class] = Some(place.clone());
                told.push((place, bytes));
            }
        }

        let blocks: Vec<Vec<u8>> = (lists.par_iter().enumerate())
            .map(|(number, list)| {
                let classes: Vec<(&Class, &Place)> = (list.classes.iter())
                    .filter_map(|class| {
                        Some((&self.classes()[*class], class_places[*class].as_ref()?))
                    })
                    .collect();
                let rows = self.rows(list, transform, &centroids.vector(number));
                block::write(&classes, &rows)
            })
            .collect();
        let mut listed = vec![0; files.lengths.len()];
        places.iter().for_each(|place| listed[place.shard] += 1);
        let directory = Directory {
            model: self.model(),
            map: self.map(),
            entries: entries.len(),
            classes: self.counts().iter().filter(|count| **count > 0).count(),
            min_similarity: self.min_similarity(),
            calibration: self.learned(),
            transform,
            directions,
            codes,
            lists: &blocks.iter().map(|b| (b.len() as u32, crc32(b))).collect::<Vec<_>>(),
            shards: &files.lengths.iter().copied().zip(listed).collect::<Vec<_>>(),
        };
        let mut shards: Vec<Vec<u8>> =
            files.lengths.iter().map(|bytes| Vec::with_capacity(*bytes as usize)).collect();
        for (place, bytes) in places.into_iter().zip(blocks).chain(told) {
            shards[place.shard].extend_from_slice(&bytes);
        }
        Ok(Sharded { directory: directory.to_bytes(), shards })
    }

    /// What was learned about answers, as a directory has it.
    fn learned(&self) -> Option<Learned> {
        let (rule, answers) = (self.measured_rule()?, self.calibration()?.clone());
        Some(Learned { rule, answers })
    }

    /// The gallery whose entries are its classes' means: what is asked where these answer. A class without a
    /// mean has no entry.
    ///
    /// # Errors
    ///
    /// None for a gallery that is good.
    pub fn of_means(&self) -> Result<Self, GalleryError> {
        let (mut of_means, means) = (self.clone(), self.class_means());
        of_means.index = VectorIndex::new(means.dim(), Metric::InnerProduct, VectorType::F16);
        of_means.forget_originals();
        (of_means.entry_classes, of_means.content_ids) = (Vec::new(), Vec::new());
        for class in (0..self.classes.len()).filter(|class| means.contains(*class)) {
            of_means.push_entry(class, &means.vector(class), ContentId::default())?;
        }
        Ok(of_means)
    }

    /// Puts every entry into the lists of its nearest centroids.
    fn lists(
        &self,
        entries: &[usize],
        centroids: &VectorIndex,
        copies: usize,
    ) -> Result<Vec<List>, GalleryError> {
        let mut lists: Vec<List> = (0..centroids.len())
            .map(|_| List { members: Vec::new(), classes: Vec::new() })
            .collect();
        let near: Vec<Vec<usize>> = entries
            .par_iter()
            .map(|entry| {
                let hits = centroids.search(&self.index().vector(*entry), &Search::best(copies))?;
                // Of unit vectors.
                let distance = |similarity: f32| (2.0 - 2.0 * similarity).max(0.0);
                let least = hits.first().map_or(0.0, |hit| distance(hit.similarity));
                let near = hits.iter().filter(|hit| distance(hit.similarity) <= BOUNDARY * least);
                let mut lists: Vec<usize> = near.map(|hit| hit.entry).collect();
                lists.extend(hits.first().filter(|_| lists.is_empty()).map(|hit| hit.entry));
                Ok(lists)
            })
            .collect::<Result<_, GalleryError>>()?;
        for (entry, near) in entries.iter().zip(near) {
            near.into_iter().for_each(|list| lists[list].members.push(*entry));
        }
        for list in &mut lists {
            list.classes = list.members.iter().map(|entry| self.entry_class(*entry)).collect();
            list.classes.sort_unstable();
            list.classes.dedup();
        }
        Ok(lists)
    }

    /// The directions in which centroids and residuals vary most, with steps for both, and the centroids
    /// rounded.
    fn coded(
        &self,
        lists: &[List],
        centroids: &VectorIndex,
        options: &ShardOptions,
    ) -> Result<Coded, GalleryError> {
        let dim = self.index().dim();
        let all: usize = lists.iter().map(|list| list.members.len()).sum();
        let members = lists
            .iter()
            .enumerate()
            .flat_map(|(number, list)| list.members.iter().map(move |entry| (number, *entry)))
            .step_by(all.div_ceil(MOST_MEASURED).max(1));
        let members: Vec<(usize, usize)> = members.collect();
        let residuals: Vec<Vec<f32>> = (members.iter())
            .map(|(list, entry)| {
                unit(difference(&self.index().vector(*entry), &centroids.vector(*list)))
            })
            .collect();
        let middles: Vec<Vec<f32>> = (0..centroids.len())
            .step_by(centroids.len().div_ceil(MOST_MEASURED).max(1))
            .map(|list| centroids.vector(list).into_owned())
            .collect();
        let mut matter = moments(&residuals, dim);
        matter.iter_mut().zip(moments(&middles, dim)).for_each(|(sum, other)| *sum += other);
        let mut directions: Vec<Direction> =
            eigen::vectors(matter, dim).iter().map(|values| Direction::new(values)).collect();
        let none = Coder { bits: Vec::new(), steps: Vec::new() };
        let mut transform = Transform {
            dim,
            directions: directions.iter().flat_map(Direction::values).collect(),
            centroids: none.clone(),
            residuals: none,
        };
        // Queries are like entries.
        let entries: Vec<Vec<f32>> = (members.par_iter())
            .map(|(_, entry)| transform.rotate(&self.index().vector(*entry)))
            .collect();
        let weights = variances(&entries);
        let rotated: Vec<Vec<f32>> =
            middles.iter().map(|middle| transform.rotate(middle)).collect();
        let moved = variances(&rotated);
        transform.centroids =
            Coder::for_variances(&moved, &weights, options.centroid_bytes, TOLERANCE);
        let mut codes = Vec::with_capacity(lists.len());
        let mut coded = no_centroids(dim);
        for list in 0..lists.len() {
            let mut code = Vec::new();
            transform.centroids.encode(&transform.rotate(&centroids.vector(list)), &mut code);
            coded.add(&transform.centroid(&code))?;
            codes.push(code);
        }
        // What rounding took from a centroid is in the residuals.
        let residuals: Vec<Vec<f32>> = (members.iter().zip(&entries))
            .map(|((list, _), rotated)| difference(rotated, &coded.vector(*list)))
            .collect();
        let length = variances(&residuals).iter().sum::<f64>().sqrt();
        let moved = variances(&residuals.into_iter().map(unit).collect::<Vec<_>>());
        let tolerance = TOLERANCE / length.max(f64::MIN_POSITIVE);
        transform.residuals = Coder::for_variances(&moved, &weights, options.code_bytes, tolerance);

        let used = |coder: &Coder| {
            coder.bits.iter().rposition(|bits| *bits > 0).map_or(1, |last| last + 1)
        };
        let components = used(&transform.centroids).max(used(&transform.residuals));
        for coder in [&mut transform.centroids, &mut transform.residuals] {
            coder.bits.truncate(components);
            coder.steps.truncate(components);
        }
        directions.truncate(components);
        transform.directions.truncate(components * dim);
        let mut shorter = no_centroids(components);
        codes.iter().try_for_each(|code| shorter.add(&transform.centroid(code)).map(drop))?;
        Ok(Coded { transform, directions, codes, centroids: shorter })
    }

    /// What a list stores of its entries.
    fn rows(&self, list: &List, transform: &Transform, centroid: &[f32]) -> Vec<Row> {
        let row = |entry: &usize| {
            let rotated = transform.rotate(&self.index().vector(*entry));
            let residual = difference(&rotated, centroid);
            let length = residual.iter().map(|v| v * v).sum::<f32>().sqrt();
            let direction = unit(residual);
            let mut code = Vec::new();
            transform.residuals.encode(&direction, &mut code);
            // So that the product with itself comes out right.
            let product = transform.residuals.product(&code, &direction);
            let scale = f16::from_f32(length / product.max(LEAST_PRODUCT));
            let class = list.classes.binary_search(&self.entry_class(*entry)).unwrap_or_default();
            Row { id: *entry as u32, class: class as u16, scale, code }
        };
        list.members.iter().map(row).collect()
    }
}

/// Places in files that are filled one after the other.
struct Files {
    most: u64,
    lengths: Vec<u64>,
}

impl Files {
    fn place(&mut self, length: u64) -> Place {
        let filled = self.lengths.last().copied().unwrap_or_default();
        if filled > 0 && filled + length > self.most {
            self.lengths.push(0);
        }
        let shard = self.lengths.len() - 1;
        let start = self.lengths[shard];
        self.lengths[shard] = start + length;
        Place { shard, range: start..start + length }
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Mean squares of every component.
fn variances(vectors: &[Vec<f32>]) -> Vec<f64> {
    let mut sums = vec![0.0_f64; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        sums.iter_mut().zip(vector).for_each(|(sum, v)| *sum += f64::from(*v).powi(2));
    }
    sums.into_iter().map(|sum| sum / vectors.len() as f64).collect()
}

fn unit(mut values: Vec<f32>) -> Vec<f32> {
    let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
    if length > 0.0 {
        values.iter_mut().for_each(|v| *v /= length);
    }
    values
}

/// Mean products of values.
///
/// # Shapes
///
/// - `vectors`: `[dim]` each
/// - output: `[dim, dim]`, its trace 1
fn moments(vectors: &[Vec<f32>], dim: usize) -> Vec<f64> {
    let columns: Vec<Vec<f32>> =
        (0..dim).map(|place| vectors.iter().map(|vector| vector[place]).collect()).collect();
    let mut moments: Vec<f64> = (0..dim * dim)
        .into_par_iter()
        .map(|place| f64::from(exact_product(&columns[place / dim], &columns[place % dim])))
        .collect();
    let trace: f64 = (0..dim).map(|place| moments[place * dim + place]).sum();
    moments.iter_mut().for_each(|moment| *moment /= trace.max(f64::MIN_POSITIVE));
    moments
}

/// Centroids of unit length, learned by Lloyd's algorithm from some of the entries.
fn learned(
    index: &VectorIndex,
    entries: &[usize],
    count: usize,
) -> Result<VectorIndex, GalleryError> {
    let step = (entries.len() / (SAMPLE * count).max(1)).max(1);
    let sample: Vec<usize> = entries.iter().copied().step_by(step).collect();
    let spacing = sample.len() as f64 / count as f64;
    let first =
        (0..count).map(|i| index.vector(sample[(i as f64 * spacing) as usize]).into_owned());
    let mut centroids = of_rows(index.dim(), first)?;
    for _ in 0..ROUNDS {
        let nearest: Vec<usize> = sample
            .par_iter()
            .map(|entry| {
                let hits = centroids.search(&index.vector(*entry), &Search::best(1))?;
                Ok(hits.first().map_or(0, |hit| hit.entry))
            })
            .collect::<Result<_, GalleryError>>()?;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
        sample.iter().zip(nearest).for_each(|(entry, list)| members[list].push(*entry));
        let mut moved: Vec<Vec<f32>> = (members.iter().enumerate())
            .map(|(list, members)| {
                let mut sum = vec![0.0_f32; index.dim()];
                for entry in members {
                    sum.iter_mut().zip(&*index.vector(*entry)).for_each(|(s, v)| *s += v);
                }
                // One that nothing is near to stays where it is.
                if members.is_empty() { centroids.vector(list).into_owned() } else { unit(sum) }
            })
            .collect();
        // Long lists cost the most queries the most bytes: a short one helps each.
        let mut by_length: Vec<usize> = (0..count).collect();
        by_length.sort_by_key(|list| members[*list].len());
        let average = sample.len() as f64 / count as f64;
        for (short, long) in by_length.iter().zip(by_length.iter().rev()) {
            let (few, many) = (&members[*short], &members[*long]);
            if (few.len() as f64) < SHORT * average && many.len() as f64 > LONG * average {
                moved[*short] = index.vector(many[many.len() / 2]).into_owned();
            }
        }
        centroids = of_rows(index.dim(), moved.into_iter())?;
    }
    Ok(centroids)
}

/// Centroids in an order in which near ones mostly follow each other, so that their lists lie together.
fn in_a_chain(centroids: &VectorIndex) -> Result<VectorIndex, GalleryError> {
    let mut left = vec![true; centroids.len()];
    let mut chain = Vec::with_capacity(centroids.len());
    let mut next = Some(0);
    while let Some(list) = next {
        left[list] = false;
        chain.push(centroids.vector(list).into_owned());
        let free = |list: usize| left[list];
        let hits = centroids.search(&centroids.vector(list), &Search::best(1).filtered(&free))?;
        next = hits.first().map(|hit| hit.entry);
    }
    of_rows(centroids.dim(), chain.into_iter())
}

fn of_rows(dim: usize, rows: impl Iterator<Item = Vec<f32>>) -> Result<VectorIndex, GalleryError> {
    let mut index = VectorIndex::new(dim, Metric::InnerProduct, VectorType::F32);
    rows.into_iter().try_for_each(|row| index.add(&row).map(drop))?;
    Ok(index)
}
