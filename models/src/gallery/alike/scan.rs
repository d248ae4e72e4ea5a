//! Rows of unit length that are near to each other, without computing with all of their values.
//!
//! A product over a row's first values cannot grow by more than the lengths of the rests, multiplied (Cauchy
//! and Schwarz), so most pairs are done with after some values. Values that vary most come first.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

use pulp::Arch;

use super::super::index::exact_product;

/// Rows whose values lie together, value by value.
const LANES: usize = 32;
/// Values after which a pair may first be done with; twice as many the next time.
const FIRST: usize = 64;
/// Rows that others are put in order by: near ones then lie together and are compared first.
const PIVOTS: usize = 16;
/// Blocks of rows that are compared with each other at most, about one second's work.
const MOST_BLOCKS: usize = 400_000;
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
    /// `[rows, dim]`, values in another order.
    values: Vec<f32>,
    /// `[blocks, dim, LANES]`, the same; zeros behind the last row.
    lanes: Vec<f32>,
    /// Numbers of values after which pairs may be done with; the last is all of them.
    stages: Vec<usize>,
    /// `[stages, blocks · LANES]`: length of what is left of a row.
    rests: Vec<Vec<f32>>,
}

impl Arranged {
    fn new(values: &[f32], dim: usize) -> Self {
        let rows = in_order(values, dim);
        let dims = varying(values, dim);
        let blocks = rows.len().div_ceil(LANES);
        let mut stages: Vec<usize> =
            std::iter::successors(Some(FIRST), |n| Some(2 * n)).take_while(|n| *n < dim).collect();
        stages.push(dim);
        let mut arranged = Self {
            dim,
            values: Vec::with_capacity(values.len()),
            lanes: vec![0.0; blocks * dim * LANES],
            rests: vec![vec![0.0; blocks * LANES]; stages.len()],
            stages,
            rows,
        };
        for (place, row) in arranged.rows.iter().enumerate() {
            let row = &values[row * dim..(row + 1) * dim];
            let start = place / LANES * dim * LANES + place % LANES;
            let lane = arranged.lanes[start..].iter_mut().step_by(LANES);
            lane.zip(&dims).for_each(|(value, dim)| *value = row[*dim]);
            arranged.values.extend(dims.iter().map(|dim| row[*dim]));
            let row = &arranged.values[place * dim..];
            for (rests, stage) in arranged.rests.iter_mut().zip(&arranged.stages) {
                let rest: f64 = row[*stage..].iter().map(|v| f64::from(*v).powi(2)).sum();
                rests[place] = rest.sqrt() as f32;
            }
        }
        arranged
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
    let blocks = arranged.rows.len().div_ceil(LANES);
    // What sums in another order may be off by.
    let slack = dim as f32 * f32::EPSILON;
    let (mut left, mut exact) = (MOST_BLOCKS, MOST_PAIRS);
    let mut near = Vec::new();
    for distance in 0..blocks {
        for first in 0..blocks - distance {
            let second = first + distance;
            if left == 0 {
                return false;
            }
            left -= 1;
            near.clear();
            let least = collect.least() - slack;
            Arch::new().dispatch(Near { arranged: &arranged, first, second, least, near: &mut near });
            if near.len() > exact {
                return false;
            }
            exact -= near.len();
            for (a, b) in &near {
                collect.offer(arranged.rows[*a], arranged.rows[*b]);
            }
        }
    }
    true
}

/// Pairs of two blocks whose products may be `least` or more, by places of rows.
struct Near<'a> {
    arranged: &'a Arranged,
    first: usize,
    second: usize,
    least: f32,
    near: &'a mut Vec<(usize, usize)>,
}

impl pulp::NullaryFnOnce for Near<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { arranged, first, second, least, near } = self;
        let Arranged { dim, rows, values, lanes, stages, rests } = arranged;
        let (lanes, _) = lanes[second * dim * LANES..][..dim * LANES].as_chunks::<LANES>();
        for a in (first * LANES..(first + 1) * LANES).take_while(|a| *a < rows.len()) {
            let row = &values[a * dim..(a + 1) * dim];
            let mut products = [0.0_f32; LANES];
            let mut done = 0;
            for (stage, rests) in stages.iter().zip(rests) {
                for (value, lanes) in row[done..*stage].iter().zip(&lanes[done..*stage]) {
                    for lane in 0..LANES {
                        products[lane] += value * lanes[lane];
                    }
                }
                done = *stage;
                let rest = rests[a];
                let of_lanes = &rests[second * LANES..][..LANES];
                let most = |lane: usize| products[lane] + rest * of_lanes[lane];
                if (0..LANES).all(|lane| most(lane) < least) {
                    break;
                }
                if done == *dim {
                    let places = (second * LANES..rows.len()).take(LANES).enumerate();
                    let places = places.filter(|(lane, b)| *b > a && products[*lane] >= least);
                    near.extend(places.map(|(_, b)| (a, b)));
                }
            }
        }
    }
}
