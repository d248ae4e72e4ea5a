//! The linear map of an adapted gallery: embedding as the extractor gives it → what is compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_DIM;
use crate::matrix::{View, multiply};

/// Least length behind the map: below it there is no direction.
const LEAST_LENGTH: f64 = 1e-9;
/// Entries that are mapped together.
const PIECE: usize = 240;

/// What a map makes of embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdaptationKind {
    /// Directions in which pictures of one class differ count less. Helps classes that come later, too.
    #[default]
    Whitening,
    /// Whitening, and then the directions of the class means alone. For classes that are all there.
    Lda,
}

impl AdaptationKind {
    /// What it is called in files, flags and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whitening => "whitening",
            Self::Lda => "lda",
        }
    }
}

impl fmt::Display for AdaptationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no [`AdaptationKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no adaptation {0:?}; give whitening or lda")]
pub struct UnknownAdaptation(pub String);

impl FromStr for AdaptationKind {
    type Err = UnknownAdaptation;

    fn from_str(name: &str) -> Result<Self, UnknownAdaptation> {
        let found = [Self::Whitening, Self::Lda].into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownAdaptation(name.to_owned()))
    }
}

/// What is said about a map beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// What the map does.
    pub kind: AdaptationKind,
    /// Share of the same variance in every direction that the covariance within classes is mixed with, above 0
    /// and at most 1. The greater, the closer the map is to none.
    pub strength: f32,
    /// Entries that there were when it was learned.
    pub entries: usize,
    /// Values of an embedding behind the map.
    pub values: usize,
}

/// A linear map of embeddings, learned from a gallery's own entries: `x → M x − b`, then unit length.
///
/// Its values are 8-bit integers with a factor for each row, so that a page downloads 330 kB for a map from 1,280
/// to 256 values.
#[derive(Clone, PartialEq)]
pub struct AdaptationMap {
    about: Adaptation,
    dim: usize,
    /// `[values]`
    offset: Vec<f32>,
    /// `[values]`
    factors: Vec<f32>,
    /// `[values, dim]`
    codes: Vec<i8>,
    /// `[values, dim]`, what codes and factors stand for.
    rows: Vec<f32>,
}

impl fmt::Debug for AdaptationMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptationMap")
            .field("about", &self.about)
            .field("dim", &self.dim)
            .finish_non_exhaustive()
    }
}

impl AdaptationMap {
    /// Rounds a map; `mean` becomes zero. `None` for values that no map has.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[values, dim]`, of any common scale
    /// - `mean`: `[dim]`
    pub(crate) fn new(
        kind: AdaptationKind,
        strength: f32,
        entries: usize,
        rows: &[f32],
        mean: &[f32],
    ) -> Option<Self> {
        let dim = mean.len();
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let most = largest(rows);
        if dim == 0 || !(most > 0.0 && most.is_finite()) {
            return None;
        }
        let (mut factors, mut codes) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows.chunks_exact(dim) {
            // Lengths do not matter: the largest value of all becomes 1.
            let factor = largest(row) / most / 127.0;
            factors.push(factor);
            let code = |v: &f32| (v / most / factor.max(f32::MIN_POSITIVE)).round() as i8;
            codes.extend(row.iter().map(code));
        }
        let about = Adaptation { kind, strength, entries, values: factors.len() };
        let offset = vec![0.0; factors.len()];
        let mut map = Self::of(about, dim, offset, factors, codes)?;
        map.offset = multiply(View::of(mean, dim), View::of(&map.rows, dim).transposed());
        map.is_sound().then_some(map)
    }

    fn of(
        about: Adaptation,
        dim: usize,
        offset: Vec<f32>,
        factors: Vec<f32>,
        codes: Vec<i8>,
    ) -> Option<Self> {
        let rows = codes.chunks_exact(dim.max(1)).zip(&factors);
        let rows = rows.flat_map(|(row, factor)| row.iter().map(move |v| f32::from(*v) * factor));
        let rows = rows.collect();
        let map = Self { about, dim, offset, factors, codes, rows };
        map.is_sound().then_some(map)
    }

    /// Whether its values are those of a map: products with embeddings of unit length stay finite.
    fn is_sound(&self) -> bool {
        let Self { about, dim, .. } = self;
        (1..=MAX_DIM).contains(dim)
            && (1..=*dim).contains(&about.values)
            && about.strength > 0.0
            && about.strength <= 1.0
            && self.offset.iter().all(|v| v.abs() <= MAX_DIM as f32)
            && self.factors.iter().all(|v| (0.0..=1.0).contains(v))
            // One of zeros leaves nothing of any embedding.
            && self.rows.iter().any(|v| *v != 0.0)
    }

    /// What is said about it.
    pub fn about(&self) -> Adaptation {
        self.about
    }

    /// Values of an embedding as the extractor gives it.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Values of an embedding behind the map.
    pub fn values(&self) -> usize {
        self.about.values
    }

    /// Bytes of a map in a file.
    pub(crate) fn bytes(values: usize, dim: usize) -> u64 {
        values as u64 * (8 + dim as u64)
    }

    /// Offset, factors and codes, as a file has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Memory takes every byte.
        let _ = self.write(&mut bytes);
        bytes
    }

    /// The map of [`Self::to_bytes`] for embeddings of `dim` values; `None` for bytes that no map has.
    pub fn from_bytes(about: Adaptation, dim: usize, bytes: &[u8]) -> Option<Self> {
        Self::read(about, dim, bytes)
    }

    /// Writes offset, factors and codes.
    pub(crate) fn write(&self, writer: &mut dyn std::io::Write) -> std::io::Result<()> {
        let mut floats = self.offset.iter().chain(&self.factors);
        floats.try_for_each(|value| writer.write_all(&value.to_le_bytes()))?;
        let codes: Vec<u8> = self.codes.iter().map(|code| code.to_le_bytes()[0]).collect();
        writer.write_all(&codes)
    }

    /// Reads what [`Self::write`] wrote; `None` for bytes that no writer produces.
    pub(crate) fn read(about: Adaptation, dim: usize, bytes: &[u8]) -> Option<Self> {
        if about.values > dim || bytes.len() as u64 != Self::bytes(about.values, dim) {
            return None;
        }
        let (floats, codes) = bytes.split_at(8 * about.values);
        let mut floats: Vec<f32> =
            floats.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let factors = floats.split_off(about.values);
        let codes = codes.iter().map(|byte| i8::from_le_bytes([*byte])).collect();
        Self::of(about, dim, floats, factors, codes)
    }

    /// An embedding behind the map, of unit length; `None` where nothing is left of it.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[dim]`
    /// - output: `[values]`
    pub(crate) fn apply(&self, embedding: &[f32]) -> Option<Vec<f32>> {
        let mapped = self.apply_all(embedding);
        mapped.iter().any(|value| *value != 0.0).then_some(mapped)
    }

    /// The same of many embeddings; zeros where nothing is left.
    ///
    /// # Shapes
    ///
    /// - `embeddings`: `[count, dim]`
    /// - output: `[count, values]`
    pub(crate) fn apply_all(&self, embeddings: &[f32]) -> Vec<f32> {
        let rows = View::of(&self.rows, self.dim).transposed();
        let mut mapped = Vec::with_capacity(embeddings.len() / self.dim * self.about.values);
        for piece in embeddings.chunks(PIECE * self.dim) {
            let mut products = multiply(View::of(piece, self.dim), rows);
            for row in products.chunks_exact_mut(self.about.values) {
                row.iter_mut().zip(&self.offset).for_each(|(value, offset)| *value -= offset);
                let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                let scale = if length >= LEAST_LENGTH { 1.0 / length } else { 0.0 };
                row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
            }
            mapped.extend(products);
        }
        mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(values: usize, dim: usize, seed: usize) -> AdaptationMap {
        let number = |i: usize| ((i * 31 + seed * 7) as f32 * 0.71 + 0.5).sin();
        let rows: Vec<f32> = (0..values * dim).map(number).collect();
        let mean: Vec<f32> = (0..dim).map(|i| number(i + 5) * 0.1).collect();
        AdaptationMap::new(AdaptationKind::Whitening, 0.1, 9, &rows, &mean).unwrap()
    }

    proptest! {
        #[test]
        fn equals_a_plain_loop(
            (values, dim) in (1_usize..40).prop_flat_map(|dim| (1..=dim, Just(dim))),
            seed in 0_usize..1000,
        ) {
            let map = some(values, dim, seed);
            let embedding: Vec<f32> = (0..dim).map(|i| ((i + seed) as f32).cos()).collect();
            let mut plain: Vec<f64> = Vec::new();
            for value in 0..values {
                let mut sum = 0.0;
                for (i, embedded) in embedding.iter().enumerate() {
                    let code = f64::from(map.codes[value * dim + i]);
                    sum += code * f64::from(map.factors[value]) * f64::from(*embedded);
                }
                plain.push(sum - f64::from(map.offset[value]));
            }
            let length = plain.iter().map(|v| v * v).sum::<f64>().sqrt();
            prop_assume!(length > 1e-3);
            for (mapped, plain) in map.apply(&embedding).unwrap().iter().zip(&plain) {
                prop_assert!((f64::from(*mapped) - plain / length).abs() < 1e-3);
            }
            // Alone and among others it is the same to the last bit.
            let both = [embedding.clone(), vec![1.0; dim], embedding.clone()].concat();
            let mapped = map.apply_all(&both);
            prop_assert_eq!(&mapped[2 * values..], &map.apply_all(&embedding)[..]);
        }

        #[test]
        fn what_is_written_is_read_back_and_nothing_else(
            (values, dim) in (1_usize..12).prop_flat_map(|dim| (1..=dim, Just(dim))),
            seed in 0_usize..1000,
            place in any::<prop::sample::Index>(),
            wrong in prop::sample::select(vec![f32::NAN, f32::INFINITY, -1.5, 1e30]),
        ) {
            let map = some(values, dim, seed);
            let mut bytes = Vec::new();
            map.write(&mut bytes).unwrap();
            prop_assert_eq!(bytes.len() as u64, AdaptationMap::bytes(values, dim));
            let read = |bytes: &[u8]| AdaptationMap::read(map.about, dim, bytes);
            prop_assert_eq!(read(&bytes), Some(map.clone()));
            prop_assert!(read(&bytes[1..]).is_none());
            let place = values * 4 + place.index(values) * 4;
            bytes[place..place + 4].copy_from_slice(&wrong.to_le_bytes());
            prop_assert!(read(&bytes).is_none());
        }
    }

    #[test]
    fn what_no_map_has_is_refused() {
        let new = |rows: &[f32], mean: &[f32], strength| {
            AdaptationMap::new(AdaptationKind::Lda, strength, 1, rows, mean)
        };
        assert!(new(&[1.0, 0.0], &[0.0, 0.0], 0.1).is_some());
        assert!(new(&[f32::NAN, 0.0], &[0.0, 0.0], 0.1).is_none());
        assert!(new(&[0.0, 0.0], &[0.0, 0.0], 0.1).is_none());
        assert!(new(&[1.0, 0.0], &[f32::NAN, 0.0], 0.1).is_none());
        assert!(new(&[1.0, 0.0], &[0.0, 0.0], f32::NAN).is_none());
        assert!(new(&[1.0, 0.0], &[0.0, 0.0], 0.0).is_none());
        assert!(new(&[1.0; 6], &[0.0, 0.0], 0.1).is_none(), "more values than before");
        assert!(new(&[], &[], 0.1).is_none());
        let map = new(&[1.0, 0.0], &[0.0, 0.0], 0.1).unwrap();
        let zeros = vec![0; AdaptationMap::bytes(1, 2) as usize];
        assert!(AdaptationMap::read(map.about, 2, &zeros).is_none(), "it leaves nothing");
        // The mean is nothing.
        let map = new(&[1.0, 0.0], &[0.5, 0.5], 0.1).unwrap();
        assert_eq!(map.apply(&[0.5, 0.1]), None);
        assert_eq!(map.apply(&[0.6, 0.1]), Some(vec![1.0]));
    }

    #[test]
    fn a_name_is_the_same_in_texts_and_in_files() {
        for kind in [AdaptationKind::Whitening, AdaptationKind::Lda] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        let error = "pca".parse::<AdaptationKind>().unwrap_err();
        assert_eq!(error.to_string(), "there is no adaptation \"pca\"; give whitening or lda");
    }
}
