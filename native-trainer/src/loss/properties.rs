//! What every loss must do: gradients that finite differences confirm, numbers on odd batches.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    AbsoluteTerms, BatchHardTriplet, Contrastive, Dch, DistanceKind, Dshsd, Eml, Lcdsh,
    MarginSampleMining, NPairs, PairwiseCosface, SupervisedContrastive, TriHard,
    TripletAngularMargin, cosine_distance, cross_entropy, distance, kl_divergence, mutual_learning,
    relational_angle, relational_distance,
};
use crate::random::{seeded, uniform};

const BATCH: usize = 6;
const DIM: usize = 4;

type Loss = Box<dyn Fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>>;

/// Every loss on `[BATCH, DIM]` features, by name.
fn losses() -> Vec<(&'static str, Loss)> {
    fn boxed(loss: impl Fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1> + 'static) -> Loss {
        Box::new(loss)
    }
    let teacher = |x: &Tensor<2>| {
        let values = numbers(99, BATCH * DIM, -1.0, 1.0);
        Tensor::<2>::from_data(TensorData::new(values, [BATCH, DIM]), &x.device())
    };
    let absolute =
        AbsoluteTerms { weight: 0.1, positive: 0.8, negative: 0.4, reference_constant: false };
    let angular = TripletAngularMargin { margin: 0.5, normalize: true, absolute: Some(absolute) };
    let samples_per_class = 2;
    vec![
        ("cross entropy", boxed(|x, t| cross_entropy(x, t, 0.1))),
        ("triplet", boxed(|x, t| BatchHardTriplet { margin: 0.5, normalize: true }.forward(x, t))),
        (
            "plain triplet",
            boxed(|x, t| BatchHardTriplet { margin: 1.0, normalize: false }.forward(x, t)),
        ),
        ("angular triplet", boxed(move |x, t| angular.forward(x, t))),
        (
            "contrastive",
            boxed(|x, t| Contrastive { margin: 0.1, epsilon: 1e-5, normalize: true }.forward(x, t)),
        ),
        (
            "supervised contrastive",
            boxed(|x, t| {
                SupervisedContrastive { temperature: 0.3, base_temperature: None }.forward(x, t)
            }),
        ),
        (
            "margin sample mining",
            boxed(move |x, _| MarginSampleMining { margin: 0.1, samples_per_class }.forward(x)),
        ),
        ("hard triplets", boxed(move |x, _| TriHard { margin: 0.1, samples_per_class }.forward(x))),
        (
            "eml",
            boxed(move |x, _| Eml { threshold: 20.0, beta: 1e5, samples_per_class }.forward(x)),
        ),
        ("n-pairs", boxed(|x, _| NPairs { regularization: 0.01 }.forward(x))),
        ("cosface", boxed(|x, t| PairwiseCosface { margin: 0.35, gamma: 8.0 }.forward(x, t))),
        ("dshsd", boxed(|x, t| Dshsd { alpha: 0.05, multi_label: false }.forward(x.clone(), x, t))),
        ("lcdsh", boxed(|x, t| Lcdsh { lambda: 3.0 }.forward(x, t))),
        ("dch", boxed(|x, t| Dch { gamma: 20.0, lambda: 0.1 }.forward(x, t))),
        ("mutual learning", boxed(move |x, _| mutual_learning(x.clone(), teacher(&x)))),
        ("kl", boxed(move |x, _| kl_divergence(x.clone(), teacher(&x), 4.0))),
        ("smooth l1", boxed(move |x, _| distance(x.clone(), teacher(&x), DistanceKind::SmoothL1))),
        ("cosine distance", boxed(move |x, _| cosine_distance(x.clone(), teacher(&x)))),
        ("relations", boxed(move |x, _| relational_distance(x.clone(), teacher(&x)))),
        ("angles", boxed(move |x, _| relational_angle(x.clone(), teacher(&x)))),
    ]
}

fn numbers(seed: u64, count: usize, low: f32, high: f32) -> Vec<f32> {
    let mut random = seeded(&[seed]);
    (0..count).map(|_| uniform(&mut random, low, high)).collect()
}

fn targets(values: [i32; BATCH], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [BATCH]), device)
}

fn scalar(loss: Tensor<1>) -> f32 {
    loss.into_scalar::<f32>()
}

#[test]
fn finite_differences_confirm_every_gradient() {
    const STEP: f32 = 2e-3;
    for (name, loss) in losses() {
        let (mut compared, mut agreed) = (0, 0);
        for seed in 0..3 {
            let values = numbers(seed, BATCH * DIM, -1.5, 1.5);
            let device = Device::flex().autodiff();
            let classes = targets([0, 0, 1, 1, 2, 2], &device);
            let tensor = |values: &[f32]| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [BATCH, DIM]), &device)
            };
            let x = tensor(&values).require_grad();
            let gradients = loss(x.clone(), classes.clone()).backward();
            let gradient: Vec<f32> = x.grad(&gradients).map_or_else(
                || vec![0.0; values.len()],
                |g| g.into_data().try_into_vec().expect("floats"),
            );
            let scale = gradient.iter().fold(0.05_f32, |m, g| m.max(g.abs()));
            for (at, expected) in gradient.iter().enumerate() {
                let at_offset = |offset: f32| {
                    let mut moved = values.clone();
                    moved[at] += offset;
                    scalar(loss(tensor(&moved), classes.clone()))
                };
                let slope = (at_offset(STEP) - at_offset(-STEP)) / (2.0 * STEP);
                compared += 1;
                agreed += usize::from((slope - expected).abs() <= 0.02 * scale);
            }
        }
        // A few of the points lie on kinks, where the two sides differ.
        assert!(agreed * 100 >= compared * 94, "{name}: {agreed} of {compared} agree");
    }
}

#[test]
fn odd_batches_give_numbers() {
    let device = Device::flex();
    let random = numbers(5, BATCH * DIM, -1.0, 1.0);
    let odd: [(&str, Vec<f32>, [i32; BATCH]); 4] = [
        ("one class", random.clone(), [3; BATCH]),
        ("every row a class", random, [0, 1, 2, 3, 0, 1]),
        ("identical rows", [0.5, -0.5, 0.1, 0.2].repeat(BATCH), [0, 0, 1, 1, 2, 2]),
        ("zero rows", vec![0.0; BATCH * DIM], [0, 0, 1, 1, 2, 2]),
    ];
    for (name, loss) in losses() {
        for (kind, values, classes) in &odd {
            // Hashing by angles is not defined without a direction, nor without a second class.
            if name == "dch" && (*kind == "one class" || *kind == "zero rows") {
                continue;
            }
            // Relations without any distance have no scale to be compared on.
            if name == "relations" && (*kind == "identical rows" || *kind == "zero rows") {
                continue;
            }
            let x = Tensor::<2>::from_data(TensorData::new(values.clone(), [BATCH, DIM]), &device);
            let value = scalar(loss(x, targets(*classes, &device)));
            assert!(value.is_finite(), "{name} on {kind}: {value}");
        }
    }
}

#[test]
fn a_number_that_is_none_is_not_hidden() {
    let device = Device::flex();
    for (name, loss) in losses() {
        let mut values = numbers(6, BATCH * DIM, -1.0, 1.0);
        values[5] = f32::NAN;
        let x = Tensor::<2>::from_data(TensorData::new(values, [BATCH, DIM]), &device);
        let value = scalar(loss(x, targets([0, 0, 1, 1, 2, 2], &device)));
        // Losses that only look at the hardest pair may not meet the row; the rest must show it.
        if ["cross entropy", "kl", "n-pairs", "smooth l1", "lcdsh"].contains(&name) {
            assert!(value.is_nan(), "{name}: {value}");
        }
    }
}

#[test]
fn relations_equal_plain_loops() {
    let (student, teacher) = (numbers(1, 12, -1.0, 1.0), numbers(2, 8, -1.0, 1.0));
    let device = Device::flex();
    let tensor = |values: &[f32], dim: usize| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), [4, dim]), &device)
    };
    let smooth = |x: f32| if x.abs() < 1.0 { x * x / 2.0 } else { x.abs() - 0.5 };
    let relative = |values: &[f32], dim: usize| {
        let row = |i: usize| &values[i * dim..(i + 1) * dim];
        let mut distances = Vec::new();
        for a in 0..4 {
            for b in 0..4 {
                let squares = row(a).iter().zip(row(b)).map(|(x, y)| (x - y) * (x - y));
                distances.push(squares.sum::<f32>().sqrt());
            }
        }
        let mean = distances.iter().sum::<f32>() / 12.0;
        distances.iter().map(|d| d / mean).collect::<Vec<_>>()
    };
    let expected: f32 = relative(&student, 3)
        .iter()
        .zip(relative(&teacher, 2))
        .map(|(s, t)| smooth(s - t))
        .sum::<f32>()
        / 16.0;
    let got = scalar(relational_distance(tensor(&student, 3), tensor(&teacher, 2)));
    assert!((got - expected).abs() < 1e-5, "{got} {expected}");

    let angle = |values: &[f32], dim: usize, a: usize, b: usize, c: usize| {
        let row = |i: usize| &values[i * dim..(i + 1) * dim];
        let unit = |i: usize| {
            let apart: Vec<f32> = row(i).iter().zip(row(a)).map(|(x, y)| x - y).collect();
            let length = apart.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
            apart.into_iter().map(move |v| v / length)
        };
        unit(b).zip(unit(c)).map(|(x, y)| x * y).sum::<f32>()
    };
    let mut expected = 0.0;
    for a in 0..4 {
        for b in 0..4 {
            for c in 0..4 {
                expected +=
                    smooth(angle(&student, 3, a, b, c) - angle(&teacher, 2, a, b, c)) / 64.0;
            }
        }
    }
    let got = scalar(relational_angle(tensor(&student, 3), tensor(&teacher, 2)));
    assert!((got - expected).abs() < 1e-5, "{got} {expected}");
}
