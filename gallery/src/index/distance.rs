//! Inner products of 8-bit integers and Hamming distances, compiled for the widest vectors of the
//! machine. Sums of integers are exact, so every machine finds the same.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

use half::f16;
use pulp::Arch;

use crate::aligned::LINE;

/// Rows that are compared with one query.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// This many in a row, from this one on.
    From(usize),
    /// These.
    These(&'a [u32]),
}

impl Which<'_> {
    /// The row at a place.
    #[inline]
    pub(super) fn row(self, place: usize) -> usize {
        match self {
            Self::From(first) => first + place,
            Self::These(rows) => rows[place] as usize,
        }
    }

    /// This many of the rows, from a place on.
    #[inline]
    pub(super) fn part(self, start: usize, length: usize) -> Self {
        match self {
            Self::From(first) => Self::From(first + start),
            Self::These(rows) => Self::These(&rows[start..start + length]),
        }
    }
}

/// Inner products of a query with rows of 8-bit numbers.
///
/// # Shapes
///
/// - `query`: `[width]`, no value beyond what [`largest`] allows
/// - `rows`: `[count, width]`
/// - `products`: one for every row asked for
pub(super) fn products(query: &[i16], rows: &[i8], which: Which<'_>, products: &mut [i32]) {
    Arch::new().dispatch(Products { query, rows, which, results: products });
}

/// The largest value of a query whose inner product with any row of `width` values fits 32 bits.
pub(super) fn largest(width: usize) -> i16 {
    i16::try_from(i32::MAX as usize / 128 / width.max(1)).unwrap_or(i16::MAX)
}

/// Rows that lie scattered and are read together.
const AHEAD: usize = 32;

/// Reads a value of every line of some rows, so that the memory is asked for all of them before the first
/// is computed with: a fifth to a quarter of the time of a walk over a million rows.
#[inline(always)]
fn touch(rows: &[i8], width: usize, places: &[u32]) {
    let mut read = 0;
    for place in places {
        let row = &rows[*place as usize * width..][..width];
        row.chunks(LINE).for_each(|line| read ^= line[0]);
    }
    std::hint::black_box(read);
}

struct Products<'a> {
    query: &'a [i16],
    rows: &'a [i8],
    which: Which<'a>,
    results: &'a mut [i32],
}

impl pulp::NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { query, rows, which, results } = self;
        let width = query.len();
        match which {
            Which::From(first) => {
                let rows = rows[first * width..].chunks_exact(width);
                for (product, row) in results.iter_mut().zip(rows) {
                    *product = inner_product(query, row);
                }
            }
            Which::These(places) => {
                for (results, places) in results.chunks_mut(AHEAD).zip(places.chunks(AHEAD)) {
                    touch(rows, width, places);
                    for (product, place) in results.iter_mut().zip(places) {
                        let start = *place as usize * width;
                        *product = inner_product(query, &rows[start..start + width]);
                    }
                }
            }
        }
    }
}

/// Processors multiply pairs of 16-bit numbers and add them up in one instruction.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
fn inner_product(query: &[i16], row: &[i8]) -> i32 {
    query.iter().zip(row).map(|(q, r)| i32::from(*q) * i32::from(*r)).sum()
}

/// The same with WebAssembly's instruction for it, which the compiler does not find by itself: a
/// third of the time.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn inner_product(query: &[i16], row: &[i8]) -> i32 {
    use core::arch::wasm32::{
        i8x16, i16x8, i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i32x4_add, i32x4_dot_i16x8,
        i32x4_extract_lane, i32x4_splat,
    };
    let half = |q: &[i16]| i16x8(q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]);
    let (queries, query_rest) = query.as_chunks::<16>();
    let (rows, row_rest) = row.as_chunks::<16>();
    let mut sums = [i32x4_splat(0); 2];
    for (q, r) in queries.iter().zip(rows) {
        let r = i8x16(
            r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13],
            r[14], r[15],
        );
        let low = i32x4_dot_i16x8(half(&q[..8]), i16x8_extend_low_i8x16(r));
        let high = i32x4_dot_i16x8(half(&q[8..]), i16x8_extend_high_i8x16(r));
        sums = [i32x4_add(sums[0], low), i32x4_add(sums[1], high)];
    }
    let sum = i32x4_add(sums[0], sums[1]);
    let rest = query_rest.iter().zip(row_rest).map(|(q, r)| i32::from(*q) * i32::from(*r));
    i32x4_extract_lane::<0>(sum)
        + i32x4_extract_lane::<1>(sum)
        + i32x4_extract_lane::<2>(sum)
        + i32x4_extract_lane::<3>(sum)
        + rest.sum::<i32>()
}

/// Numbers of bits in which rows differ from a query.
///
/// # Shapes
///
/// - `query`: `[words]`
/// - `rows`: `[count, words]`
/// - `distances`: `[count]`
pub(super) fn hamming(query: &[u64], rows: &[u64], distances: &mut [u32]) {
    let hamming = Hamming { query, rows, distances };
    #[cfg(target_arch = "x86_64")]
    if query.len().is_multiple_of(8)
        && let Some(wide) = CountsBits::try_new()
    {
        return wide.vectorize(WideHamming { wide, hamming });
    }
    Arch::new().dispatch(hamming);
}

#[cfg(target_arch = "x86_64")]
pulp::simd_type! {
    /// Processors that count the bits of eight words in one instruction.
    struct CountsBits {
        words: "avx512f",
        counts: "avx512vpopcntdq",
    }
}

/// Eight words at once, which the compiler does not find by itself.
#[cfg(target_arch = "x86_64")]
struct WideHamming<'a> {
    wide: CountsBits,
    hamming: Hamming<'a>,
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for WideHamming<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let CountsBits { words, .. } = self.wide;
        let Hamming { query, rows, distances } = self.hamming;
        let (queries, _) = query.as_chunks::<8>();
        let (rows, _) = rows.as_chunks::<8>();
        for (distance, row) in distances.iter_mut().zip(rows.chunks_exact(queries.len())) {
            let mut sum = words._mm512_setzero_si512();
            for (q, r) in queries.iter().zip(row) {
                let bits: [u64; 8] = std::array::from_fn(|i| u64::from((q[i] ^ r[i]).count_ones()));
                sum = words._mm512_add_epi64(sum, pulp::cast(bits));
            }
            *distance = words._mm512_reduce_add_epi64(sum) as u32;
        }
    }
}

struct Hamming<'a> {
    query: &'a [u64],
    rows: &'a [u64],
    distances: &'a mut [u32],
}

impl pulp::NullaryFnOnce for Hamming<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.rows.chunks_exact(self.query.len());
        for (distance, row) in self.distances.iter_mut().zip(rows) {
            *distance = self.query.iter().zip(row).map(|(q, r)| (q ^ r).count_ones()).sum();
        }
    }
}

/// A number as rows store it.
pub(super) trait Stored: Copy {
    fn widened(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn widened(self) -> f32 {
        self
    }
}

impl Stored for f16 {
    /// Of a finite number, without a branch: WebAssembly has no instruction for it, and this is what its
    /// vectors can do.
    #[inline(always)]
    fn widened(self) -> f32 {
        /// The exponents of the two types begin 112 apart.
        const EXPONENTS: f32 = f32::from_bits((127 + 112) << 23);
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * EXPONENTS;
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

/// Inner product of floats, summed in the same order on every machine.
pub(crate) fn exact_product(a: &[f32], b: &[f32]) -> f32 {
    stored_product(a, b)
}

/// [`exact_product`] with a row as it is stored.
pub(super) fn stored_product<T: Stored>(query: &[f32], row: &[T]) -> f32 {
    sum(query, row, |q, v| q * v)
}

/// Squared distance to a row as it is stored, summed like [`exact_product`].
pub(super) fn squared_distance<T: Stored>(query: &[f32], row: &[T]) -> f32 {
    sum(query, row, |q, v| (q - v) * (q - v))
}

/// Eight running sums, so that it vectorises.
#[inline(always)]
fn sum<T: Stored>(query: &[f32], row: &[T], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (queries, query_rest) = query.as_chunks::<8>();
    let (rows, row_rest) = row.as_chunks::<8>();
    let rest: f32 = query_rest.iter().zip(row_rest).map(|(q, v)| term(*q, v.widened())).sum();
    for (q, v) in queries.iter().zip(rows) {
        for lane in 0..8 {
            sums[lane] += term(q[lane], v[lane].widened());
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_and_distances_equal_plain_loops(
            width in 1_usize..90,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state
            };
            let rows: Vec<i8> = (0..7 * width).map(|_| (next() >> 40) as i8).collect();
            let query: Vec<i16> = (0..width).map(|_| (next() >> 40) as i16).collect();
            let plain = |row: usize| -> i64 {
                (0..width).map(|i| i64::from(query[i]) * i64::from(rows[row * width + i])).sum()
            };
            let mut some = [0; 3];
            products(&query, &rows, Which::From(2), &mut some);
            prop_assert_eq!(some.map(i64::from), [plain(2), plain(3), plain(4)]);
            products(&query, &rows, Which::These(&[6, 0, 3]), &mut some);
            prop_assert_eq!(some.map(i64::from), [plain(6), plain(0), plain(3)]);

            let words: Vec<u64> = (0..4 * width).map(|_| next()).collect();
            let (asked, rows) = words.split_at(width);
            let mut distances = [0; 3];
            hamming(asked, rows, &mut distances);
            for (row, distance) in rows.chunks_exact(width).zip(distances) {
                let bits = |w: &[u64]| -> Vec<bool> {
                    w.iter().flat_map(|w| (0..64).map(move |b| w >> b & 1 == 1)).collect()
                };
                let differ = bits(asked).iter().zip(bits(row)).filter(|(a, b)| *a != b).count();
                prop_assert_eq!(distance as usize, differ);
            }
        }
    }

    #[test]
    fn every_finite_half_is_widened_exactly() {
        for value in (0..=u16::MAX).map(f16::from_bits).filter(|v| v.is_finite()) {
            assert_eq!(value.widened().to_bits(), value.to_f32().to_bits(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn sums_of_stored_numbers_equal_plain_loops(
            pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..200),
        ) {
            let (query, row): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let halves: Vec<f16> = row.iter().map(|v| f16::from_f32(*v)).collect();
            let halved: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
            let plain = |row: &[f32], term: fn(f64, f64) -> f64| -> f64 {
                query.iter().zip(row).map(|(q, v)| term(f64::from(*q), f64::from(*v))).sum()
            };
            let product: fn(f64, f64) -> f64 = |q, v| q * v;
            let distance: fn(f64, f64) -> f64 = |q, v| (q - v) * (q - v);
            for (got, wanted) in [
                (exact_product(&query, &row), plain(&row, product)),
                (stored_product(&query, &halves), plain(&halved, product)),
                (squared_distance(&query, &row), plain(&row, distance)),
                (squared_distance(&query, &halves), plain(&halved, distance)),
            ] {
                // Each sum is at most 200 · 4, of values rounded a few times.
                prop_assert!((f64::from(got) - wanted).abs() < 1e-4, "{got} {wanted}");
            }
        }
    }

    #[test]
    fn the_largest_query_never_overflows() {
        for width in [1, 64, 516, 517, 8192] {
            let query = vec![largest(width); width];
            let rows = vec![-128_i8; width];
            let mut product = [0];
            products(&query, &rows, Which::From(0), &mut product);
            let expected = -128 * width as i64 * i64::from(largest(width));
            assert_eq!(i64::from(product[0]), expected);
        }
    }
}
