//! Rows of unit length that are near to each other, without computing with all of their values.
//!
//! A product over a row's first values cannot grow by more than the lengths of the tails, multiplied (Cauchy
//! and Schwarz), so most pairs are done with after some values. Values that vary most come first.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

use pulp::Arch;

use crate::index::exact_product;

/// Rows whose values lie together, value by value.
const LANES: usize = 16;
/// Rows that are compared with these at once.
const ROWS: usize = 4;
/// Rows that are compared with as many others in one piece: both fit the cache.
const PIECE: usize = 256;
/// Pieces that are compared before it is asked anew what is of interest.
const TOGETHER: usize = 8;
/// Values after which a pair may first be done with.
const FIRST: usize = 32;
/// Rows that others are put in order by: near ones then lie together and are compared first.
const PIVOTS: usize = 16;
/// Pieces that are compared at most: all of them for some 28,000 rows.
const MOST_PIECES: usize = 6_000;
/// Pairs that are compared by all their values at most.
const MOST_PAIRS: usize = 4_000_000;

/// What takes pairs of rows.
pub(super) trait Collect {
    /// The least product that is of interest; it only rises.
    fn least(&mut self) -> f32;

    /// Takes a pair whose product is about that or more.
    fn offer(&mut self, a: usize, b: usize);
}

/// Rows in the order in which they are compared.
struct Arranged {
    dim: usize,
    /// The number of each row.
    rows: Vec<usize>,
    /// `[pieces · PIECE, dim]`, values in another order; zeros behind the last row.
    values: Vec<f32>,
    /// `[pieces · PIECE / LANES, dim, LANES]`, the same.
    lanes: Vec<f32>,
    /// Numbers of values after which pairs may be done with; the last is all of them.
    stages: Vec<usize>,
    /// `[stages, pieces · PIECE]`: length of what is left of a row.
    tails: Vec<Vec<f32>>,
}

impl Arranged {
    fn new(values: &[f32], dim: usize) -> Self {
        let rows = in_order(values, dim);
        let dims = varying(values, dim);
        let padded = rows.len().next_multiple_of(PIECE);
        let next = |stage: &usize| Some(stage + (stage / 2).max(FIRST));
        let mut stages: Vec<usize> =
            std::iter::successors(Some(FIRST), next).take_while(|stage| *stage < dim).collect();
        stages.push(dim);
        let mut arranged = Self {
            dim,
            values: vec![0.0; padded * dim],
            lanes: vec![0.0; padded * dim],
            tails: vec![vec![0.0; padded]; stages.len()],
            stages,
            rows,
        };
        for (place, row) in arranged.rows.iter().enumerate() {
            let from = &values[row * dim..(row + 1) * dim];
            let row = &mut arranged.values[place * dim..(place + 1) * dim];
            row.iter_mut().zip(&dims).for_each(|(value, dim)| *value = from[*dim]);
            let start = place / LANES * dim * LANES + place % LANES;
            let lane = arranged.lanes[start..].iter_mut().step_by(LANES);
            lane.zip(&*row).for_each(|(lane, value)| *lane = *value);
            for (tails, stage) in arranged.tails.iter_mut().zip(&arranged.stages) {
                let tail: f64 = row[*stage..].iter().map(|v| f64::from(*v).powi(2)).sum();
                tails[place] = tail.sqrt() as f32;
            }
        }
        arranged
    }

    /// [`Self::near`] of some pairs of pieces.
    fn near_of_all(&self, pairs: &[(usize, usize)], least: f32) -> Vec<Vec<(u32, u32)>> {
        let near = |(first, second): &(usize, usize)| self.near(*first, *second, least);
        #[cfg(feature = "parallel")]
        {
            use rayon::prelude::*;
            pairs.par_iter().map(near).collect()
        }
        #[cfg(not(feature = "parallel"))]
        pairs.iter().map(near).collect()
    }

    /// Pairs of two pieces whose products may be `least` or more, by places of rows.
    fn near(&self, first: usize, second: usize, least: f32) -> Vec<(u32, u32)> {
        let mut near = Vec::new();
        Arch::new().dispatch(Near { arranged: self, first, second, least, found: &mut near });
        near
    }
}

/// Values by how much they vary, the most first.
fn varying(values: &[f32], dim: usize) -> Vec<usize> {
    let count = (values.len() / dim.max(1)).max(1) as f64;
    let (mut sums, mut squares) = (vec![0.0_f64; dim], vec![0.0_f64; dim]);
    for row in values.chunks_exact(dim.max(1)) {
        for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(row) {
            *sum += f64::from(*value);
            *square += f64::from(*value).powi(2);
        }
    }
    let variance = |place: &usize| squares[*place] - sums[*place] * sums[*place] / count;
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|a, b| variance(b).total_cmp(&variance(a)));
    order
}

/// Rows by the nearest of some of them, then by how near it is.
fn in_order(values: &[f32], dim: usize) -> Vec<usize> {
    let row = |row: usize| &values[row * dim..(row + 1) * dim];
    let count = values.len() / dim.max(1);
    let step = count.div_ceil(PIVOTS).max(1);
    let nearest = |place: usize| {
        let pivots = (0..count).step_by(step);
        let near = pivots.map(|pivot| (pivot, exact_product(row(pivot), row(place))));
        near.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
    };
    let mut order: Vec<(usize, (usize, f32))> = (0..count).map(|row| (row, nearest(row))).collect();
    order.sort_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    order.into_iter().map(|(row, _)| row).collect()
}

/// Offers pairs of rows whose product may be of interest; whether these are all there are.
///
/// # Shapes
///
/// - `values`: `[rows, dim]`, of unit length
pub(super) fn scan(values: &[f32], dim: usize, collect: &mut impl Collect) -> bool {
    let arranged = Arranged::new(values, dim);
    let pieces = arranged.rows.len().div_ceil(PIECE);
    let mut pairs = (0..pieces)
        .flat_map(|distance| (distance..pieces).map(move |second| (second - distance, second)));
    // What sums in another order may be off by.
    let slack = dim as f32 * f32::EPSILON;
    let mut left = MOST_PAIRS;
    for _ in 0..MOST_PIECES / TOGETHER {
        let some: Vec<(usize, usize)> = pairs.by_ref().take(TOGETHER).collect();
        if some.is_empty() {
            return true;
        }
        let near = arranged.near_of_all(&some, collect.least() - slack);
        let count: usize = near.iter().map(Vec::len).sum();
        for (a, b) in near.iter().flatten().take(left) {
            collect.offer(arranged.rows[*a as usize], arranged.rows[*b as usize]);
        }
        if count > left {
            return false;
        }
        left -= count;
    }
    pairs.next().is_none()
}

/// See [`Arranged::near`].
struct Near<'a> {
    arranged: &'a Arranged,
    first: usize,
    second: usize,
    least: f32,
    found: &'a mut Vec<(u32, u32)>,
}

impl pulp::NullaryFnOnce for Near<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { arranged, first, second, least, found } = self;
        let Arranged { dim, rows, values, lanes, stages, tails } = arranged;
        for b in (second * PIECE..(second + 1) * PIECE).step_by(LANES) {
            let (lanes, _) = lanes[b * dim..][..dim * LANES].as_chunks::<LANES>();
            for a in (first * PIECE..(first + 1) * PIECE).step_by(ROWS) {
                let some: [&[f32]; ROWS] =
                    std::array::from_fn(|row| &values[(a + row) * dim..][..*dim]);
                let mut products = [[0.0_f32; LANES]; ROWS];
                let mut done = 0;
                for (stage, tails) in stages.iter().zip(tails) {
                    let part = some.map(|row| &row[done..*stage]);
                    products = added(products, part, &lanes[done..*stage]);
                    done = *stage;
                    let (of_lanes, _) = tails[b..].as_chunks::<LANES>();
                    let (of_rows, _) = tails[a..].as_chunks::<ROWS>();
                    if greatest(&products, of_rows[0], of_lanes[0]) < least {
                        break;
                    }
                    if done == *dim {
                        for (a, products) in (a..rows.len()).zip(&products) {
                            let others = (b..rows.len()).zip(products).filter(|(b, _)| *b > a);
                            let others = others.filter(|(_, product)| **product >= least);
                            found.extend(others.map(|(b, _)| (a as u32, b as u32)));
                        }
                    }
                }
            }
        }
    }
}

/// Products of rows and lanes with some more values.
#[inline(always)]
fn added(
    products: [[f32; LANES]; ROWS],
    rows: [&[f32]; ROWS],
    lanes: &[[f32; LANES]],
) -> [[f32; LANES]; ROWS] {
    let [mut a, mut b, mut c, mut d] = products;
    let rows = rows[0].iter().zip(rows[1]).zip(rows[2].iter().zip(rows[3]));
    for (((of_a, of_b), (of_c, of_d)), lanes) in rows.zip(lanes) {
        for lane in 0..LANES {
            a[lane] += of_a * lanes[lane];
            b[lane] += of_b * lanes[lane];
            c[lane] += of_c * lanes[lane];
            d[lane] += of_d * lanes[lane];
        }
    }
    [a, b, c, d]
}

/// The most that any product may come to.
#[inline(always)]
fn greatest(products: &[[f32; LANES]; ROWS], of_rows: [f32; ROWS], of_lanes: [f32; LANES]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    for (products, of_row) in products.iter().zip(of_rows) {
        for lane in 0..LANES {
            let product = products[lane] + of_row * of_lanes[lane];
            most[lane] = if product > most[lane] { product } else { most[lane] };
        }
    }
    most.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}
