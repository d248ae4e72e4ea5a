//! From scores to probabilities: by steps (isotonic) or by a logistic curve (Platt), whichever foretells better.
//!
//! Source: isotonic regression by pooling adjacent violators (Ayer et al., 1955; Zadrozny and Elkan, KDD 2002);
//! logistic with smoothed targets (Platt, 1999; Lin, Lin and Weng, 2007). Differences: between the middles of two
//! steps the probability rises in a straight line, and no probability is nearer to 0 or 1 than so few pictures
//! can say.

use super::MAX_KNOTS;
use super::elementary::{log_loss, sigmoid};

/// Parts of a cross-validation.
const FOLDS: usize = 5;
/// Answers below which nothing is said about probabilities.
const LEAST_ANSWERS: usize = 20;
/// Steps of Newton's method; it ends sooner where nothing changes.
const STEPS: usize = 60;
/// Weight of the penalty on slopes, in points of one deviation: keeps what separates wholly finite.
const PENALTY: f64 = 0.05;
/// Longest step of Newton's method, in deviations.
const LONGEST: f64 = 2.0;

/// Probability of a score: straight lines between knots, level beyond the outer ones.
pub(super) fn at(knots: &[[f32; 2]], score: f32) -> Option<f32> {
    let (first, last) = (knots.first()?, knots.last()?);
    let right = knots.partition_point(|knot| knot[0] <= score);
    if right == 0 {
        return Some(first[1]);
    }
    let (Some([high, above]), [low, below]) = (knots.get(right), knots[right - 1]) else {
        return Some(last[1]);
    };
    let share = (f64::from(score) - f64::from(low)) / (f64::from(*high) - f64::from(low));
    let between = f64::from(below) + share * (f64::from(*above) - f64::from(below));
    // Rounding must not leave the step.
    Some((between as f32).clamp(below, *above))
}

/// A curve of probabilities, and what each answer would have been given by a curve that did not see it.
#[derive(Default)]
pub(super) struct Curve {
    pub(super) knots: Vec<[f32; 2]>,
    /// Probability and outcome of every answer.
    pub(super) held: Vec<(f32, bool)>,
}

/// Fits a curve to scores and outcomes. Empty for too few answers.
pub(super) fn curve(answers: &[(f32, bool)]) -> Curve {
    if answers.len() < LEAST_ANSWERS {
        return Curve::default();
    }
    // Equal costs give the smooth one.
    let [smooth, steps] = [platt, isotonic].map(|way| held_out(answers, way));
    let (way, held): (Way, _) =
        if steps.1 < smooth.1 { (isotonic, steps.0) } else { (platt, smooth.0) };
    Curve { knots: way(answers), held }
}

type Way = fn(&[(f32, bool)]) -> Vec<[f32; 2]>;

/// What a way gives each answer when it is fitted to the other parts, and what that costs.
fn held_out(answers: &[(f32, bool)], way: Way) -> (Vec<(f32, bool)>, f64) {
    let curves: Vec<Vec<[f32; 2]>> = (0..FOLDS)
        .map(|fold| {
            let others = answers.iter().enumerate().filter(|(place, _)| place % FOLDS != fold);
            way(&others.map(|(_, answer)| *answer).collect::<Vec<_>>())
        })
        .collect();
    let mut cost = 0.0;
    let given = |(place, (score, right)): (usize, &(f32, bool))| {
        let probability = at(&curves[place % FOLDS], *score).unwrap_or(0.5);
        cost += log_loss(f64::from(probability), *right);
        (probability, *right)
    };
    (answers.iter().enumerate().map(given).collect(), cost)
}

/// Answers of like score.
#[derive(Clone, Copy)]
struct Block {
    scores: f64,
    right: f64,
    count: f64,
}

impl Block {
    fn share(&self) -> f64 {
        self.right / self.count
    }

    fn join(&mut self, other: Self) {
        self.scores += other.scores;
        self.right += other.right;
        self.count += other.count;
    }
}

/// The rising steps that are nearest to the outcomes.
fn isotonic(answers: &[(f32, bool)]) -> Vec<[f32; 2]> {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut blocks: Vec<Block> = Vec::new();
    let mut before = None;
    for (score, right) in sorted {
        let (outcome, own) = (f64::from(u8::from(right)), before == Some(score));
        let block = Block { scores: f64::from(score), right: outcome, count: 1.0 };
        match blocks.last_mut() {
            // Answers of one score are one block.
            Some(last) if own => last.join(block),
            _ => blocks.push(block),
        }
        before = Some(score);
    }
    let mut pooled: Vec<Block> = Vec::new();
    for block in blocks {
        pooled.push(block);
        while let [.., low, high] = pooled[..]
            && low.share() >= high.share()
        {
            pooled.pop();
            if let Some(last) = pooled.last_mut() {
                last.join(high);
            }
        }
    }
    while pooled.len() > MAX_KNOTS {
        // The two that are fewest together.
        let few = |place: &usize| pooled[*place].count + pooled[*place + 1].count;
        let place = (0..pooled.len() - 1).min_by(|a, b| few(a).total_cmp(&few(b)));
        let Some(place) = place else { break };
        let next = pooled.remove(place + 1);
        pooled[place].join(next);
    }
    let least = 1.0 / (answers.len() as f64 + 2.0);
    let knot = |block: &Block| {
        let share = block.share().clamp(least, 1.0 - least);
        [(block.scores / block.count) as f32, share as f32]
    };
    rising(pooled.iter().map(knot))
}

/// A logistic curve, by knots at even steps.
fn platt(answers: &[(f32, bool)]) -> Vec<[f32; 2]> {
    let count = |wanted: bool| answers.iter().filter(|(_, right)| *right == wanted).count() as f64;
    let (right, wrong) = (count(true), count(false));
    let (high, low) = ((right + 1.0) / (right + 2.0), 1.0 / (wrong + 2.0));
    let points: Vec<([f64; 2], f64)> = (answers.iter())
        .map(|(score, right)| ([f64::from(*score), 0.0], if *right { high } else { low }))
        .collect();
    let Logistic { slopes: [slope, _], bias } = logistic(&points);
    let ends = answers.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], (s, _)| {
        [low.min(*s), high.max(*s)]
    });
    let [start, end] = ends.map(f64::from);
    let knots = (0..MAX_KNOTS).map(|place| {
        let score = start + (end - start) * place as f64 / (MAX_KNOTS - 1) as f64;
        // A probability does not fall where the score rises.
        [score as f32, sigmoid(slope.max(0.0) * score + bias) as f32]
    });
    if slope > 0.0 {
        return rising(knots);
    }
    vec![[((start + end) / 2.0) as f32, (right / answers.len() as f64).clamp(low, high) as f32]]
}

/// Knots without those whose score is that of the one before when it is rounded, or whose probability is lower.
fn rising(knots: impl Iterator<Item = [f32; 2]>) -> Vec<[f32; 2]> {
    let mut kept: Vec<[f32; 2]> = Vec::new();
    for [score, share] in knots {
        match kept.last_mut() {
            Some(last) if last[0] >= score => last[1] = last[1].max(share),
            Some(last) => {
                let share = share.max(last[1]);
                kept.push([score, share]);
            }
            None => kept.push([score, share]),
        }
    }
    kept
}

/// A logistic curve over two numbers.
pub(super) struct Logistic {
    pub(super) slopes: [f64; 2],
    pub(super) bias: f64,
}

/// The logistic curve that is nearest to targets between 0 and 1, by Newton's method.
pub(super) fn logistic(points: &[([f64; 2], f64)]) -> Logistic {
    let count = points.len().max(1) as f64;
    let means: [f64; 2] =
        std::array::from_fn(|axis| points.iter().map(|(x, _)| x[axis]).sum::<f64>() / count);
    let deviations: [f64; 2] = std::array::from_fn(|axis| {
        let square = |(x, _): &([f64; 2], f64)| (x[axis] - means[axis]) * (x[axis] - means[axis]);
        (points.iter().map(square).sum::<f64>() / count).sqrt().max(1e-9)
    });
    let mut weights = [0.0_f64; 3];
    for _ in 0..STEPS {
        let mut gradient = [-PENALTY * weights[0], -PENALTY * weights[1], 0.0];
        let mut curvature = [[PENALTY, 0.0, 0.0], [0.0, PENALTY, 0.0], [0.0, 0.0, 1e-9]];
        for (x, target) in points {
            let [a, b]: [f64; 2] =
                std::array::from_fn(|axis| (x[axis] - means[axis]) / deviations[axis]);
            let row = [a, b, 1.0];
            let value = sigmoid(weights[0] * a + weights[1] * b + weights[2]);
            for (axis, x) in row.iter().enumerate() {
                gradient[axis] += (target - value) * x;
                for (other, y) in row.iter().enumerate() {
                    curvature[axis][other] += value * (1.0 - value) * x * y;
                }
            }
        }
        let step = solve(curvature, gradient);
        let longest = step.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let scale = (LONGEST / longest.max(LONGEST)).min(1.0);
        weights.iter_mut().zip(step).for_each(|(weight, step)| *weight += scale * step);
        if longest < 1e-9 {
            break;
        }
    }
    let slopes = [weights[0] / deviations[0], weights[1] / deviations[1]];
    Logistic { slopes, bias: weights[2] - slopes[0] * means[0] - slopes[1] * means[1] }
}

/// Solves three equations whose matrix is positive definite, by Cholesky's decomposition.
fn solve(matrix: [[f64; 3]; 3], right: [f64; 3]) -> [f64; 3] {
    let mut lower = [[0.0_f64; 3]; 3];
    for row in 0..3 {
        for column in 0..=row {
            let products = lower[row].iter().zip(&lower[column]).take(column);
            let sum = products.fold(matrix[row][column], |sum, (a, b)| sum - a * b);
            lower[row][column] =
                if row == column { sum.max(1e-12).sqrt() } else { sum / lower[column][column] };
        }
    }
    let mut half = right;
    for row in 0..3 {
        for k in 0..row {
            half[row] -= lower[row][k] * half[k];
        }
        half[row] /= lower[row][row];
    }
    let mut solution = half;
    for row in (0..3).rev() {
        for k in row + 1..3 {
            solution[row] -= lower[k][row] * solution[k];
        }
        solution[row] /= lower[row][row];
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answers(least: usize) -> impl Strategy<Value = Vec<(f32, bool)>> {
        prop::collection::vec((-1.0_f32..1.0, any::<bool>()), least..120)
    }

    /// Steps by a plain loop: of all averages of neighbors that hold a place, the greatest of the least.
    fn plain_isotonic(sorted: &[(f32, bool)]) -> Vec<f64> {
        let mean = |from: usize, to: usize| {
            let right = sorted[from..=to].iter().filter(|answer| answer.1).count();
            right as f64 / (to + 1 - from) as f64
        };
        (0..sorted.len())
            .map(|place| {
                (0..=place).fold(0.0_f64, |most, from| {
                    let least =
                        (place..sorted.len()).fold(1.0_f64, |least, to| least.min(mean(from, to)));
                    most.max(least)
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn probabilities_rise_and_lie_between_zero_and_one(answers in answers(0)) {
            let curve = curve(&answers);
            prop_assert_eq!(curve.knots.is_empty(), answers.len() < LEAST_ANSWERS);
            for way in [platt, isotonic] {
                if answers.is_empty() { continue }
                let knots = way(&answers);
                prop_assert!(!knots.is_empty() && knots.len() <= MAX_KNOTS);
                let mut before = 0.0;
                for step in -300..=300_i16 {
                    let probability = at(&knots, f32::from(step) / 200.0).unwrap();
                    prop_assert!((before..=1.0).contains(&probability), "{probability} < {before}");
                    before = probability;
                }
            }
            prop_assert!(curve.held.iter().all(|(p, _)| (0.0..=1.0).contains(p)));
        }

        #[test]
        fn pooling_gives_the_steps_of_a_plain_loop(mut answers in answers(1)) {
            answers.sort_by(|a, b| a.0.total_cmp(&b.0));
            answers.dedup_by(|a, b| a.0 == b.0);
            answers.truncate(40);
            let steps = plain_isotonic(&answers);
            let mut levels: Vec<f64> = steps.clone();
            levels.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
            if levels.len() <= MAX_KNOTS {
                let knots = isotonic(&answers);
                prop_assert_eq!(knots.len(), levels.len());
                let least = 1.0 / (answers.len() as f64 + 2.0);
                for (knot, level) in knots.iter().zip(&levels) {
                    let level = level.clamp(least, 1.0 - least);
                    prop_assert!((f64::from(knot[1]) - level).abs() < 1e-6, "{knots:?} {levels:?}");
                }
            }
        }
    }

    #[test]
    fn a_logistic_world_is_found_again() {
        // Of 2,000 answers at each score as many are right as the curve says.
        let mut answers = Vec::new();
        for step in 0..20_i32 {
            let score = f64::from(step) / 20.0;
            let right = (2000.0 * sigmoid(9.0 * score - 4.0)).round() as usize;
            answers.extend((0..2000).map(|place| (score as f32, place < right)));
        }
        let knots = platt(&answers);
        for step in 0..20_i32 {
            let score = f64::from(step) / 20.0;
            let given = f64::from(at(&knots, score as f32).unwrap());
            assert!((given - sigmoid(9.0 * score - 4.0)).abs() < 0.01, "{score}: {given}");
        }
    }

    #[test]
    fn what_separates_wholly_or_says_nothing_stays_finite() {
        let apart: Vec<(f32, bool)> = (0..60_i16).map(|i| (f32::from(i) / 60.0, i >= 30)).collect();
        let alike: Vec<(f32, bool)> = (0..60_i16).map(|_| (0.5, true)).collect();
        let falling: Vec<(f32, bool)> =
            (0..60_i16).map(|i| (f32::from(i) / 60.0, i < 30)).collect();
        for (answers, low, high) in [(apart, 0.0, 1.0), (alike, 1.0, 1.0), (falling, 0.5, 0.5)] {
            let Curve { knots, .. } = curve(&answers);
            for (score, expected) in [(0.0, low), (1.0, high)] {
                let given = at(&knots, score).unwrap();
                assert!((given - expected).abs() < 0.1, "{given} at {score}: {knots:?}");
            }
        }
        assert_eq!(at(&[], 0.5), None);
    }
}
