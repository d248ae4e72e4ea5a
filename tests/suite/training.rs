//! Recorded training runs of three steps: losses, gradients, weights, running statistics.

use burn::module::{Module, Param};
use burn::tensor::{TensorData, bf16, f16};
use models::backbone::BackboneConfig;
use models::backbone::{MobileNetV1Config, PpLcNetV2Config};
use models::extractor::ExtractorConfig;
use models::neck::NeckConfig;
use models::operators::mixed::{self, HalfFloat};
use models::weights::Weights;
use native_trainer::exchange::import::paddle_name;
use native_trainer::head::{ArcMargin, Fc, Head};
use native_trainer::loss::{
    AbsoluteTerms, BatchHardTriplet, LossBatch, LossInput, LossKind, LossTerm, Losses,
    TripletAngularMargin, cross_entropy,
};
use native_trainer::optimizer::{Optimizer, OptimizerConfig, ParameterRules};
use native_trainer::train::extractor::ExtractorNetwork;
use tests::{assert_close, deviation, device, load, tensor, tensor_files, values};

use crate::{GRADIENT, NETWORK, extractor_and_head, gradients_by_name};

/// After three optimizer steps that amplify rounding.
const CHAOTIC: f64 = 2e-2;

/// What a recorded run was set up with, besides its weights.
struct Setup {
    config: ExtractorConfig,
    head: Head,
    metric_loss: LossKind,
    label_smoothing: f64,
    rate: f64,
    weight_decay: f64,
    decay_vectors: bool,
}

/// The run of PP-ShiTuV2: BNNeck, linear head, triplets with absolute bounds.
fn shitu_v2(start: &Weights, head: &Weights) -> Setup {
    let shape = |key: &str| start.tensors[key].shape.clone();
    let depth = |stage: usize| {
        let there = |block: &usize| {
            let prefix = format!("backbone.stages.{stage}.{block}.");
            start.tensors.keys().any(|key| key.starts_with(&prefix))
        };
        (0..10).take_while(there).count()
    };
    let config = ExtractorConfig {
        backbone: BackboneConfig::PpLcNetV2(PpLcNetV2Config {
            scale: shape("backbone.stem.0.conv.weight")[0] as f64 / 32.0,
            depths: [0, 1, 2, 3].map(depth),
            class_expand: shape("backbone.last_conv.weight")[0],
            shitu: true,
            dropout: 0.0,
            fused: false,
        }),
        neck: Some(NeckConfig::BnNeck),
    };
    let weight = parameter(head, "head.fc.weight");
    let absolute =
        AbsoluteTerms { weight: 0.1, positive: 0.8, negative: 0.4, reference_constant: true };
    Setup {
        config,
        head: Head::Fc(Fc { weight, bias: None }),
        metric_loss: LossKind::TripletAngularMargin(TripletAngularMargin {
            margin: 0.5,
            normalize: true,
            absolute: Some(absolute),
        }),
        label_smoothing: 0.1,
        rate: 0.05,
        weight_decay: 1e-5,
        decay_vectors: false,
    }
}

/// The run of the retrieval recipe: FC neck, angular margin, batch-hard triplets.
fn mobilenet_retrieval(start: &Weights, head: &Weights) -> Setup {
    let stem = start.tensors["backbone.conv.conv.weight"].shape[0];
    let backbone = MobileNetV1Config { scale: stem as f64 / 32.0, fused: false };
    let embedding_dim = start.tensors["neck.fc.weight"].shape[1];
    Setup {
        config: ExtractorConfig {
            backbone: BackboneConfig::MobileNetV1(backbone),
            neck: Some(NeckConfig::Fc { embedding_dim }),
        },
        head: Head::ArcMargin(ArcMargin {
            weight: parameter(head, "head.weight"),
            margin: 0.15,
            scale: 30.0,
            easy_margin: false,
        }),
        metric_loss: LossKind::BatchHardTriplet(BatchHardTriplet { margin: 0.5, normalize: true }),
        label_smoothing: 0.0,
        rate: 0.01,
        weight_decay: 5e-4,
        decay_vectors: true,
    }
}

fn parameter(weights: &Weights, name: &str) -> Param<burn::tensor::Tensor<2>> {
    let tensor = weights.tensors[name].clone();
    let data = TensorData::new(tensor.values, tensor.shape);
    Param::from_data(data, &device().autodiff())
}

#[test]
fn three_training_steps_equal_the_reference() {
    for (name, recorded) in tensor_files("train_steps_") {
        // A batch of eight at these rates amplifies rounding: which pairs are hardest is nearly
        // tied, and one step takes the retrieval run's loss from 18 to 13. So the first step must
        // be ours exactly, and the recorded run must lie among runs that start within rounding of
        // it, no farther from the nearest than they lie from each other.
        let runs: Vec<Run> = [0.0, 3e-6, -3e-6, 2e-6, -2e-6, 1e-6, -1e-6]
            .iter()
            .map(|nudge| three_steps(&name, &recorded, 1.0 + nudge))
            .collect();
        for (what, of, least) in [
            ("losses of the second step", second as fn(&Run) -> f64, NETWORK),
            ("losses of the third step, weights, features", third, CHAOTIC),
        ] {
            let apart = |a: &Run| runs.iter().map(|b| (of(a) - of(b)).abs()).fold(0.0, f64::max);
            let spread = runs.iter().map(apart).fold(least, f64::max);
            let best = runs.iter().map(of).fold(f64::INFINITY, f64::min);
            assert!(best <= spread, "{name}, {what}: {best} beyond {spread}");
        }
    }
}

/// Relative deviations of a run from the recorded one.
struct Run {
    second_losses: f64,
    end: f64,
}

fn second(run: &Run) -> f64 {
    run.second_losses
}

fn third(run: &Run) -> f64 {
    run.end
}

/// Our path of a recorded parameter of the whole training network.
fn our_name(theirs: &str) -> Option<String> {
    match theirs {
        "head.fc.weight" | "head.weight" => Some("head.weight".to_owned()),
        _ => Some(format!("extractor.{}", paddle_name(theirs)?)),
    }
}

#[test]
fn mixed_precision_takes_nearly_the_recorded_first_step() {
    for (name, recorded) in tensor_files("train_steps_") {
        for half in [HalfFloat::F16, HalfFloat::Bf16] {
            if !device().supports_dtype(half.dtype()) {
                println!("this device does not compute in {half:?}");
                continue;
            }
            let whole = first_gradients(&name, &recorded, None, |value| value);
            // Normalized over batches of eight, gradients feel rounding strongly. The measure is what
            // 32-bit floats make of weights that were rounded, alone; mixed precision rounds maps and
            // their gradients as well.
            let round = |value: f32| match half {
                HalfFloat::F16 => f16::from_f32(value).to_f32(),
                HalfFloat::Bf16 => bf16::from_f32(value).to_f32(),
            };
            let rounded = first_gradients(&name, &recorded, None, round);
            let mixed = first_gradients(&name, &recorded, Some(half), |value| value);
            let [measure, apart] = [rounded, mixed].map(|other| {
                let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
                    values.map(|value| f64::from(value).powi(2)).sum()
                };
                let difference = squares(&mut whole.iter().zip(&other).map(|(a, b)| a - b));
                (difference / squares(&mut whole.iter().copied())).sqrt()
            });
            assert!(apart > 1e-4 && apart < 3.0 * measure, "{name} {half:?}: {apart}, {measure}");
        }
    }
}

/// All gradients of the extractor in the first recorded batch, of the logits' cross entropy.
fn first_gradients(
    name: &str,
    recorded: &Weights,
    half: Option<HalfFloat>,
    change: impl Fn(f32) -> f32,
) -> Vec<f32> {
    let start = recorded.under("w0");
    let (mut weights, head) = extractor_and_head(&start);
    for tensor in weights.tensors.values_mut().filter(|tensor| tensor.shape.len() == 4) {
        tensor.values.iter_mut().for_each(|value| *value = change(*value));
    }
    let Setup { config, head, label_smoothing, .. } = setup(name, &start, &head);
    let device = device().autodiff();
    let network = ExtractorNetwork { extractor: load(&weights, config.init(&device)), head };
    let x = tensor::<4>(recorded, "x.0", &device);
    let labels = recorded.tensors["label.0"].values.clone();
    let targets = tests::Array { shape: vec![], values: labels }.indices(&device);
    let features = mixed::within(half, || network.extractor.forward(x));
    let logits = network.head.forward(features.raw_embedding, targets.clone());
    let gradients = cross_entropy(logits, targets, label_smoothing).backward();
    gradients_by_name(&network, &gradients).into_values().flatten().collect()
}

fn setup(name: &str, start: &Weights, head: &Weights) -> Setup {
    if name.contains("mobilenet") {
        mobilenet_retrieval(start, head)
    } else {
        shitu_v2(start, head)
    }
}

/// Runs the recorded steps with inputs multiplied by `nudge`; the end is judged by the third loss,
/// the final weights and the final features.
fn three_steps(name: &str, recorded: &Weights, nudge: f64) -> Run {
    let (mut second_losses, mut worst) = (0.0, 0.0_f64);
    let start = recorded.under("w0");
    let (weights, head) = extractor_and_head(&start);
    let Setup { config, head, metric_loss, label_smoothing, rate, weight_decay, decay_vectors } =
        setup(name, &start, &head);
    let device = device().autodiff();
    let mut network = ExtractorNetwork { extractor: load(&weights, config.init(&device)), head };
    let rule = OptimizerConfig::Momentum { momentum: 0.9, weight_decay, nesterov: false };
    let rules = ParameterRules { decay_vectors, ..ParameterRules::default() };
    let mut optimizer = Optimizer::new(rule).with_rules(rules);
    let term = |loss| LossTerm { weight: 1.0, on: LossInput::Embedding, loss };
    let terms = [term(LossKind::CrossEntropy { label_smoothing }), term(metric_loss)];
    let mut losses = Losses::new(&terms, 6, (config.embedding_dim(), config.features()), &device);
    for step in 0..3 {
        let x = tensor::<4>(recorded, &format!("x.{step}"), &device) * nudge;
        let labels = &recorded.tensors[&format!("label.{step}")];
        let targets = tests::Array { shape: vec![], values: labels.values.clone() };
        let rows: Vec<i32> = targets.values.iter().map(|v| *v as i32).collect();
        let features = network.extractor.forward(x);
        let logits = network.head.forward(features.raw_embedding.clone(), targets.indices(&device));
        let batch = LossBatch {
            embedding: features.raw_embedding,
            backbone: features.backbone,
            logits,
            targets: &rows,
            logit_targets: &rows,
            teacher: None,
        };
        let [ce, metric] = losses.forward(&batch).expect("a batch").try_into().expect("two terms");
        let (ce, metric) = (ce.1, metric.1);
        let expected = &recorded.tensors[&format!("loss.{step}")].values;
        let got = [ce.clone(), metric.clone(), ce.clone() + metric.clone()].map(|t| values(t)[0]);
        match step {
            0 => assert_close(&format!("{name} first losses"), &got, expected, NETWORK),
            1 => second_losses = deviation(&got, expected),
            _ => worst = worst.max(deviation(&got, expected)),
        }
        let gradients = (ce + metric).backward();
        // Nudged, some ReLU's inputs change sign, and gradients jump by a few hundredths.
        if step == 0 && nudge == 1.0 {
            let found = gradients_by_name(&network, &gradients);
            for (theirs, expected) in &recorded.under("g0").tensors {
                // Shifts in front of batch normalization have gradients of pure rounding.
                let vanishes = expected.values.iter().all(|v| v.abs() < 1e-5);
                let ours = our_name(theirs).unwrap_or_default();
                if let Some(got) = found.get(&ours).filter(|_| !vanishes) {
                    assert_close(&format!("{name} {ours}"), got, &expected.values, GRADIENT);
                }
            }
        }
        network = optimizer.step(network, &gradients, rate);
    }
    let after = Weights::from_module(&network);
    for (theirs, expected) in &recorded.under("w_end").tensors {
        let Some(ours) = our_name(theirs) else { continue };
        let vanishes = expected.values.iter().all(|v| v.abs() < 1e-4);
        if !vanishes {
            worst = worst.max(deviation(&after.tensors[&ours].values, &expected.values));
        }
    }
    let extractor = network.extractor.valid();
    let got = extractor.forward(tensor::<4>(recorded, "eval_x", &tests::device())).raw_embedding;
    let end = worst.max(deviation(&values(got), &recorded.tensors["eval_features"].values));
    Run { second_losses, end }
}
