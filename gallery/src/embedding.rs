//! What may enter a gallery: embeddings that have a direction and fit the way they are stored.

use half::f16;

use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::index::VectorType;
use crate::limits::MAX_ENTRIES;

/// Least length of an embedding: below it there is no direction, only what rounding left. `PyTorch`'s
/// `normalize` divides by no less, either.
const LEAST_LENGTH: f64 = 1e-12;
/// How far 16 bits a value move the length of a row: rounding moves each value by that share of it at most.
const ROUNDING: f64 = 1.0 / 2048.0;
/// Largest value of a row of 8-bit numbers: the factor of a larger one is beyond what readers accept.
const LARGEST_I8: f32 = 127.0;

fn length(embedding: &[f32]) -> f64 {
    embedding.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// Length of an embedding, if it is one.
fn checked_length(embedding: &[f32]) -> Result<f64, GalleryError> {
    let length = length(embedding);
    if !length.is_finite() {
        return Err(GalleryError::NotFinite);
    }
    if length < LEAST_LENGTH {
        return Err(GalleryError::ZeroLength);
    }
    Ok(length)
}

fn check_width(embedding: &[f32], dim: usize) -> Result<(), GalleryError> {
    if embedding.len() == dim {
        return Ok(());
    }
    Err(GalleryError::Dimension { expected: dim, got: embedding.len() })
}

/// Fails for values that are no embedding, whatever the gallery.
///
/// # Errors
///
/// [`GalleryError::NotFinite`], [`GalleryError::ZeroLength`]
pub fn check_embedding(embedding: &[f32]) -> Result<(), GalleryError> {
    checked_length(embedding).map(drop)
}

/// An embedding of `dim` values, brought to unit length.
pub(crate) fn unit(embedding: &[f32], dim: usize) -> Result<Vec<f32>, GalleryError> {
    check_width(embedding, dim)?;
    let scale = 1.0 / checked_length(embedding)?;
    Ok(embedding.iter().map(|v| (f64::from(*v) * scale) as f32).collect())
}

/// An embedding of `dim` values as an entry: of unit length. One that a gallery gave out which stores 16 bits a value is
/// taken as it is: it has that length but for rounding, and bringing it there once more could change its last digits.
pub(crate) fn entry(embedding: &[f32], dim: usize) -> Result<Vec<f32>, GalleryError> {
    let unit = unit(embedding, dim)?;
    let is_stored = (length(embedding) - 1.0).abs() <= ROUNDING
        && embedding.iter().all(|value| f16::from_f32(*value).to_f32() == *value);
    Ok(if is_stored { embedding.to_vec() } else { unit })
}

/// Fails unless an entry's values mean the same when they are stored in a way. Zeros do: files that hold
/// them are read.
pub(crate) fn check_fit(
    embedding: &[f32],
    entry: usize,
    vector_type: VectorType,
) -> Result<(), GalleryError> {
    let most = embedding.iter().copied().fold(
        0.0,
        |most: f32, v| {
            if v.abs() > most.abs() { v } else { most }
        },
    );
    let fits = match vector_type {
        VectorType::F16 => {
            let stored = f16::from_f32(most);
            stored.is_finite() && (stored != f16::ZERO || most == 0.0)
        }
        VectorType::I8 => most.abs() <= LARGEST_I8,
        VectorType::F32 => true,
    };
    if fits { Ok(()) } else { Err(GalleryError::DoesNotFit { entry, value: most, vector_type }) }
}

/// Fails unless an embedding can be stored as it is, as an entry behind so many others.
pub(crate) fn check_stored(
    embedding: &[f32],
    dim: usize,
    entry: usize,
    vector_type: VectorType,
) -> Result<(), GalleryError> {
    check_width(embedding, dim)?;
    check_embedding(embedding)?;
    check_fit(embedding, entry, vector_type)?;
    check_room(entry, 1)
}

/// Fails unless there may be so many more entries.
pub(crate) fn check_room(entries: usize, more: usize) -> Result<(), GalleryError> {
    if entries.saturating_add(more) <= MAX_ENTRIES {
        return Ok(());
    }
    let what = format!("a gallery holds at most {MAX_ENTRIES} entries");
    Err(GalleryError::Options { what })
}

impl Gallery {
    /// Fails for an entry of length zero, as files of earlier versions may hold.
    pub(crate) fn check_direction(&self, entry: usize) -> Result<(), GalleryError> {
        if length(&self.embedding(entry)) >= LEAST_LENGTH {
            return Ok(());
        }
        let label = self.classes[self.entry_class(entry)].label.clone();
        Err(GalleryError::ZeroEntry { entry, label })
    }

    /// Fails where an entry has length zero: it is in the file, but says nothing about its class. No such
    /// entry can be added.
    ///
    /// # Errors
    ///
    /// [`GalleryError::ZeroEntry`] for the first of them.
    pub fn check_entries(&self) -> Result<(), GalleryError> {
        self.entries().try_for_each(|entry| self.check_direction(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Class, ContentId};
    use crate::format::StreamError;
    use crate::index::IndexConfig;
    use proptest::prelude::*;

    const TYPES: [VectorType; 3] = [VectorType::F16, VectorType::F32, VectorType::I8];

    fn gallery(vector_type: VectorType) -> Gallery {
        let mut gallery = Gallery::with_type(3, "m", vector_type);
        gallery.add_class(Class { label: "mug".to_owned(), ..Class::default() }, vec![]);
        gallery
    }

    #[test]
    fn what_has_no_direction_is_refused_and_named() {
        for vector_type in TYPES {
            let mut gallery = gallery(vector_type);
            for zero in [[0.0; 3], [1e-13, 0.0, 0.0], [f32::MIN_POSITIVE / 4.0, -0.0, 0.0]] {
                assert_eq!(gallery.add(0, &zero), Err(GalleryError::ZeroLength));
                let stored = gallery.add_stored(0, &zero, ContentId::default());
                assert_eq!(stored, Err(GalleryError::ZeroLength));
                assert_eq!(gallery.search(&zero, 1), Err(GalleryError::ZeroLength));
            }
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let embedding = [0.5, wrong, 0.0];
                assert_eq!(gallery.add(0, &embedding), Err(GalleryError::NotFinite));
                let stored = gallery.add_stored(0, &embedding, ContentId::default());
                assert_eq!(stored, Err(GalleryError::NotFinite));
                assert_eq!(gallery.search(&embedding, 1), Err(GalleryError::NotFinite));
            }
            assert!(gallery.is_empty());
            gallery.add(0, &[1e-9, 0.0, 0.0]).unwrap();
            assert_eq!(gallery.search(&[1e30, 0.0, 0.0], 1).unwrap()[0].similarity, 1.0);
        }
        let message = GalleryError::ZeroLength.to_string();
        assert!(message.contains("length zero") && message.contains("extractor"), "{message}");
    }

    #[test]
    fn values_that_do_not_fit_are_refused_and_named() {
        let row = |value| [0.5, value, 0.0];
        for (vector_type, too_much, enough) in [
            (VectorType::F16, 65_520.0, 65_519.0),
            (VectorType::F16, -1e9, -65_504.0),
            (VectorType::I8, 127.01, 127.0),
        ] {
            let mut narrow = gallery(vector_type);
            narrow.add_stored(0, &row(enough), ContentId::default()).unwrap();
            let read = Gallery::from_bytes(&narrow.to_bytes()).unwrap();
            assert_eq!(read.index().vector(0), narrow.index().vector(0));
            let refused = GalleryError::DoesNotFit { entry: 1, value: too_much, vector_type };
            let added = narrow.add_stored(0, &row(too_much), ContentId::default());
            assert_eq!(added, Err(refused.clone()));

            let mut wide = gallery(VectorType::F32);
            wide.add(0, &[0.0, 1.0, 0.0]).unwrap();
            wide.add_stored(0, &row(too_much), ContentId::default()).unwrap();
            let (before, wide_before) = (narrow.to_bytes(), wide.to_bytes());
            assert_eq!(narrow.merge(&wide), Err(refused.clone()));
            assert_eq!(wide.set_vector_type(vector_type), Err(refused.clone()));
            // Nothing has changed.
            assert_eq!((narrow.to_bytes(), wide.to_bytes()), (before, wide_before));
            let message = refused.to_string();
            assert!(message.contains("entry 1") && message.contains(&vector_type.to_string()));
        }
        // A length that rounding takes away.
        let mut narrow = gallery(VectorType::F16);
        let refused =
            GalleryError::DoesNotFit { entry: 0, value: 2e-8, vector_type: VectorType::F16 };
        let added = narrow.add_stored(0, &[0.0, 2e-8, 1e-8], ContentId::default());
        assert_eq!(added, Err(refused));
    }

    /// A gallery of zeros, as it was once written.
    fn of_zeros(vector_type: VectorType) -> Gallery {
        let mut gallery = gallery(vector_type);
        gallery.add(0, &[1.0, 0.0, 0.0]).unwrap();
        gallery.index.add(&[0.0; 3]).unwrap();
        gallery.entry_classes.push(0);
        gallery.content_ids.push(ContentId::default());
        gallery
    }

    #[test]
    fn zeros_in_a_file_are_read_and_named_but_go_nowhere_else() {
        for vector_type in TYPES {
            let mut zeros = Gallery::from_bytes(&of_zeros(vector_type).to_bytes()).unwrap();
            let named = GalleryError::ZeroEntry { entry: 1, label: "mug".to_owned() };
            assert_eq!(zeros.check_entries(), Err(named.clone()));
            assert_eq!(gallery(VectorType::F16).merge(&zeros), Err(named.clone()));
            #[cfg(feature = "parallel")]
            assert_eq!(zeros.to_shards(&crate::ShardOptions::default()).err(), Some(named));
            // It can be carried along and taken out.
            zeros.set_index(IndexConfig::hnsw()).unwrap();
            for other in TYPES {
                zeros.set_vector_type(other).unwrap();
            }
            assert_eq!(zeros.search(&[1.0, 0.0, 0.0], 1).unwrap().len(), 1);
            zeros.remove(1).unwrap();
            assert_eq!(zeros.check_entries(), Ok(()));
        }
    }

    #[test]
    fn a_class_whose_entries_cancel_each_other_has_no_mean() {
        let mut gallery = gallery(VectorType::F32);
        let other = gallery.add_class(Class::default(), vec![]);
        gallery.add_class(Class::default(), vec![]);
        gallery.add(0, &[1.0, 0.0, 0.0]).unwrap();
        gallery.add(0, &[-1.0, 0.0, 0.0]).unwrap();
        gallery.add(other, &[1.0, 1.0, 0.0]).unwrap();
        let means = gallery.class_means();
        assert_eq!([0, 1, 2].map(|class| means.contains(class)), [false, true, false]);
        assert_eq!(means.vector(0).to_vec(), [0.0; 3]);
        let rule = crate::answer_rule::AnswerRule::ClassMean;
        let question = crate::answer::Question { rule, ..crate::answer::Question::best(3) };
        let found = gallery.search_with(&[1.0, 0.0, 0.0], &question).unwrap();
        assert_eq!(found.iter().map(|m| m.class).collect::<Vec<_>>(), [other]);
        assert_eq!(gallery.alike(-1.0, 9).pairs, []);
        #[cfg(feature = "parallel")]
        assert_eq!(gallery.of_means().unwrap().len(), 1);
    }

    /// Values that are hard to store, and some that are not.
    fn value() -> impl Strategy<Value = f32> {
        let hard = [
            0.0,
            -0.0,
            1e-45,
            1e-38,
            -1e-20,
            1e-12,
            3e-8,
            6e-5,
            1.0,
            -1.0,
            126.9,
            127.0,
            127.1,
            65_504.0,
            65_519.9,
            -65_520.0,
            1e10,
            1.8e19,
            -3e19,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        prop_oneof![prop::sample::select(hard.to_vec()), -1.0_f32..1.0]
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            rows in prop::collection::vec((prop::collection::vec(value(), 3), 0_u8..4), 0..12),
            steps in prop::collection::vec((0_u8..6, any::<u8>()), 0..6),
            least in prop::option::of(value()),
        ) {
            let mut gallery = gallery(VectorType::F16);
            let mut other = Gallery::with_type(3, "m", VectorType::F32);
            let class = Class { min_similarity: least, ..Class::default() };
            other.add_class(class, vec![1]);
            // Each may be refused; what is left is good.
            for (row, how) in &rows {
                let to = if how % 2 == 0 { &mut gallery } else { &mut other };
                let _ = match how / 2 {
                    0 => to.add(0, row),
                    _ => to.add_stored(0, row, ContentId::of(&[*how])),
                };
            }
            let _ = gallery.set_min_similarity(least);
            let _ = gallery.describe_class(0, crate::metadata::Metadata::new(), least);
            for (step, number) in steps {
                let vector_type = TYPES[usize::from(number) % 3];
                let _ = match step {
                    0 => gallery.merge(&other).map(drop),
                    1 => other.merge(&gallery).map(drop),
                    2 => gallery.set_vector_type(vector_type),
                    3 => other.set_vector_type(vector_type),
                    4 => gallery.remove(usize::from(number)),
                    _ => {
                        let hnsw = IndexConfig::Hnsw { m: 2, ef_construction: 4 };
                        let lists = IndexConfig::Ivf { lists: 2 };
                        let kinds = [IndexConfig::Flat, hnsw, lists, IndexConfig::Binary];
                        gallery.set_index(kinds[usize::from(number) % 4])
                    }
                };
            }
            for gallery in [&gallery, &other] {
                let mut bytes = Vec::new();
                gallery.write_to(&mut bytes).unwrap();
                let read = Gallery::from_bytes(&bytes).unwrap();
                prop_assert_eq!(read.to_bytes(), bytes);
                prop_assert_eq!(read.classes(), gallery.classes());
                for entry in gallery.entries() {
                    prop_assert_eq!(read.index().vector(entry), gallery.index().vector(entry));
                }
            }
        }
    }

    proptest! {
        // One row in a hundred would have other digits.
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn an_entry_of_another_gallery_stays_as_it_was(row in prop::collection::vec(-1.0_f32..1.0, 3)) {
            let mut first = gallery(VectorType::F16);
            prop_assume!(first.add(0, &row).is_ok());
            let mut again = gallery(VectorType::F16);
            again.add(0, &first.embedding(0)).unwrap();
            prop_assert_eq!(again.embedding(0), first.embedding(0));
        }
    }

    #[test]
    fn a_width_that_is_not_read_is_not_written() {
        for dim in [0, crate::limits::MAX_DIM + 1] {
            let refused = Gallery::new(dim, "m").write_to(&mut Vec::new());
            assert!(matches!(refused, Err(StreamError::Gallery(GalleryError::Options { .. }))));
        }
    }
}
