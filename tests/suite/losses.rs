//! Losses against the recorded values and gradients.

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use models::extractor::l2_normalize;
use native_trainer::loss::{
    AbsoluteTerms, BatchHardTriplet, Center, Contrastive, CrossBatch, CrossBatchConfig,
    CrossBatchLoss, Dch, DistanceKind, Dshsd, Eml, Lcdsh, MarginSampleMining, NPairs,
    PairwiseCosface, SupervisedContrastive, TriHard, TripletAngularMargin, cross_entropy,
    cross_entropy_by_row, distance, kl_divergence, mutual_learning, soft_cross_entropy,
};
use tests::{Array, Case, assert_close, cases, device, values};

use crate::{NETWORK, OPERATOR};

/// Inputs that a loss is differentiated by.
type Inputs = Vec<(&'static str, Tensor<2>)>;

/// Everything a recorded loss may need, on a training device.
struct Recorded<'a> {
    case: &'a Case,
    device: Device,
    inputs: Inputs,
}

impl Recorded<'_> {
    fn variable(&mut self, key: &'static str) -> Tensor<2> {
        let x = self.case.input(key).tensor::<2>(&self.device).require_grad();
        self.inputs.push((key, x.clone()));
        x
    }

    fn targets(&self) -> Tensor<1, Int> {
        self.case.input("labels").indices(&self.device)
    }

    fn param(&self, key: &str, default: f64) -> f64 {
        self.case.param(key).unwrap_or(default)
    }

    fn count(&self, key: &str) -> usize {
        self.param(key, 2.0) as usize
    }

    fn normalize(&self, default: bool) -> bool {
        self.case.value["params"]["normalize_feature"].as_bool().unwrap_or(default)
    }
}

/// The options of a triplet-angular-margin case.
fn triplet_angular_margin(params: &serde_json::Value) -> TripletAngularMargin {
    let param = |key: &str, default: f64| params[key].as_f64().unwrap_or(default);
    TripletAngularMargin {
        margin: param("margin", 0.5),
        normalize: params["normalize_feature"].as_bool().unwrap_or(true),
        absolute: (params["add_absolute"].as_bool() == Some(true)).then(|| AbsoluteTerms {
            weight: param("absolute_loss_weight", 1.0),
            positive: param("ap_value", 0.9),
            negative: param("an_value", 0.5),
            reference_constant: true,
        }),
    }
}

/// What the reference's contrastive loss computes where its labels are a column: each of a row's
/// pairs of one class counts the positive terms of the whole row once more, and each other pair the
/// negative ones, instead of its own.
fn contrastive_with_column_labels(loss: Contrastive, r: &mut Recorded) -> Tensor<1> {
    let x = r.variable("features");
    let batch = x.dims()[0];
    let features = if loss.normalize { l2_normalize(x) } else { x };
    let similarity = features.clone().matmul(features.transpose());
    let labels = r.case.input("labels").values;
    let own: Vec<f32> =
        labels.iter().map(|a| labels.iter().filter(|b| *b == a).count() as f32).collect();
    let own = Tensor::<2>::from_data(TensorData::new(own, [batch, 1]), &r.device);
    let pull = (similarity.clone().neg() + 1.0)
        .mask_fill(similarity.clone().greater_equal_elem(1.0 - loss.epsilon), 0.0)
        .sum_dim(1);
    let push =
        similarity.clone().mask_fill(similarity.lower_equal_elem(loss.margin), 0.0).sum_dim(1);
    (pull * own.clone() + push * (own.neg() + batch as f64)).mean()
}

/// Our loss for a recorded one, by the kind that its name begins with.
#[expect(clippy::too_many_lines, reason = "one match, an arm a loss")]
fn loss_of(kind: &str, r: &mut Recorded) -> Option<Tensor<1>> {
    let samples_per_class = r.count("samples_each_class");
    Some(match kind {
        "CELoss" | "Combined" => {
            if r.case.value["params"]["reduction"].as_str() == Some("none") {
                let logits = r.variable("logits");
                return Some(cross_entropy_by_row(logits, r.targets(), r.param("epsilon", 0.0)));
            }
            let combined = kind == "Combined";
            let logits = r.variable("logits");
            let soft = r.case.input("labels").shape.last() == logits.dims().last();
            let entropy = if soft {
                soft_cross_entropy(logits.clone(), r.case.input("labels").tensor(&r.device))
            } else {
                cross_entropy(logits.clone(), r.targets(), r.param("epsilon", 0.0))
            };
            let summed = r.case.value["params"]["reduction"].as_str() == Some("sum");
            let entropy = if summed { entropy * logits.dims()[0] as f64 } else { entropy };
            let triplet = &r.case.value["params"]["TripletLossV2"];
            if combined && triplet.is_object() {
                let margin = triplet["margin"].as_f64().unwrap_or(0.5);
                let loss = BatchHardTriplet { margin, normalize: true };
                entropy + loss.forward(r.variable("features"), r.targets())
            } else {
                entropy
            }
        }
        "TripletLossV2" | "TripletLoss" => {
            let v2 = kind == "TripletLossV2";
            let margin = r.param("margin", if v2 { 0.5 } else { 1.0 });
            let loss = BatchHardTriplet { margin, normalize: r.normalize(v2) };
            loss.forward(r.variable("features"), r.targets())
        }
        "TAML" => {
            let loss = triplet_angular_margin(&r.case.value["params"]);
            loss.forward(r.variable("features"), r.targets())
        }
        "ContrastiveLoss" => {
            let loss = Contrastive {
                margin: r.param("margin", 0.5),
                epsilon: r.param("epsilon", 1e-5),
                normalize: r.normalize(false),
            };
            if r.case.input("labels").shape.len() == 2 {
                return Some(contrastive_with_column_labels(loss, r));
            }
            loss.forward(r.variable("features"), r.targets())
        }
        "CenterLoss" => {
            let centers = r.variable("centers");
            let loss = Center { centers: Param::from_tensor(centers.clone()) };
            // The parameter is a copy of its own; differentiate by it.
            r.inputs.retain(|(key, _)| *key != "centers");
            r.inputs.push(("centers", loss.centers.val()));
            loss.forward(r.variable("features"), r.targets())
        }
        "MSMLoss" => {
            let margin = r.param("margin", 0.1);
            MarginSampleMining { margin, samples_per_class }.forward(r.variable("features"))
        }
        "TriHardLoss" => {
            let margin = r.param("margin", 0.1);
            TriHard { margin, samples_per_class }.forward(r.variable("features"))
        }
        "EmlLoss" => {
            let (threshold, beta) = (r.param("thresh", 20.0), r.param("beta", 1e5));
            Eml { threshold, beta, samples_per_class }.forward(r.variable("features"))
        }
        "NpairsLoss" => {
            let regularization = r.param("reg_lambda", 0.01);
            NPairs { regularization }.forward(r.variable("features"))
        }
        "SupCon" => {
            let loss = SupervisedContrastive {
                temperature: r.param("temperature", 0.07),
                base_temperature: Some(r.param("base_temperature", 0.07)),
            };
            loss.forward(r.variable("features"), r.targets())
        }
        "PairwiseCosface" => {
            let loss =
                PairwiseCosface { margin: r.param("margin", 0.35), gamma: r.param("gamma", 64.0) };
            loss.forward(r.variable("features"), r.targets())
        }
        "DSHSD" => {
            let multi_label = r.case.value["params"]["multi_label"].as_bool() == Some(true);
            let loss = Dshsd { alpha: r.param("alpha", 0.05), multi_label };
            let (features, logits) = (r.variable("features"), r.variable("logits"));
            loss.forward(features, logits, r.targets())
        }
        "LCDSH" => {
            Lcdsh { lambda: r.param("_lambda", 3.0) }.forward(r.variable("features"), r.targets())
        }
        "DCH" => {
            let loss = Dch { gamma: r.param("gamma", 20.0), lambda: r.param("_lambda", 0.1) };
            loss.forward(r.variable("features"), r.targets())
        }
        "DMLLoss" | "KLDivLoss" | "DistanceLoss" => {
            let student = r.variable("logits");
            let teacher = r.case.input("teacher_logits").tensor::<2>(&r.device);
            match kind {
                "DMLLoss" => mutual_learning(student, teacher),
                "KLDivLoss" => {
                    let digits = r.case.name.rsplit("_T").next().expect("a temperature");
                    kl_divergence(student, teacher, digits.parse().expect("a temperature"))
                }
                _ => {
                    let kind = match r.case.name.trim_start_matches("DistanceLoss_") {
                        "l1" => DistanceKind::L1,
                        "l2" => DistanceKind::L2,
                        _ => DistanceKind::SmoothL1,
                    };
                    distance(student, teacher, kind)
                }
            }
        }
        _ => return None,
    })
}

#[test]
fn losses_equal_the_reference() {
    let mut compared = 0;
    for case in cases("losses.json", &[""]) {
        let kind = case.name.split(['_', '+']).next().unwrap_or_default().to_owned();
        let kind = kind.split(' ').next().unwrap_or_default();
        let mut recorded =
            Recorded { case: &case, device: device().autodiff(), inputs: Vec::new() };
        let Some(loss) = loss_of(kind, &mut recorded) else {
            println!("{}: not among the losses of the recipes", case.name);
            continue;
        };
        let outputs = case.value["outputs"].as_object().expect("outputs");
        let expected = outputs.get("loss").or_else(|| {
            outputs.iter().find(|(key, _)| !key.starts_with("grad")).map(|(_, value)| value)
        });
        let expected = Array::new(expected.expect("a value")).values;
        assert_close(&case.name, &values(loss.clone()), &expected, OPERATOR);
        // One by row is differentiated as their sum.
        let gradients = loss.sum().backward();
        for (key, input) in &recorded.inputs {
            let Some(expected) = outputs.get(&format!("grad_{key}")) else { continue };
            let got = values(input.grad(&gradients).expect("a gradient"));
            let what = format!("{} gradient of {key}", case.name);
            // The reference meets the one hardest pair from both of its ends and passes the
            // gradient to each in full; finite differences confirm half of that.
            let share = if kind == "MSMLoss" { 0.5 } else { 1.0 };
            let expected: Vec<f32> =
                Array::new(expected).values.iter().map(|v| v * share).collect();
            assert_close(&what, &got, &expected, NETWORK);
        }
        compared += 1;
    }
    assert!(compared >= 25 || std::env::var_os("GOLDEN_DIR").is_some(), "{compared}");
}

#[test]
fn losses_with_a_memory_follow_the_reference_step_by_step() {
    for case in cases("xbm_sequences.json", &[""]) {
        let params = &case.value["params"];
        let number = |key: &str, default: f64| params[key].as_f64().unwrap_or(default);
        let loss = if case.name.starts_with("Contrastive") {
            CrossBatchLoss::Contrastive(Contrastive {
                margin: number("margin", 0.5),
                epsilon: number("epsilon", 1e-5),
                normalize: params["normalize_feature"].as_bool().unwrap_or(true),
            })
        } else {
            CrossBatchLoss::TripletAngularMargin(triplet_angular_margin(params))
        };
        let dim = number("embedding_size", number("feat_dim", 128.0)) as usize;
        let config = CrossBatchConfig {
            loss,
            size: number("xbm_size", 55_000.0) as usize,
            bank_weight: number("xbm_weight", 1.0),
            start: number("start_iter", 1_000.0) as usize,
        };
        let mut cross_batch = CrossBatch::new(config, dim);
        for (index, step) in case.value["steps"].as_array().expect("steps").iter().enumerate() {
            let what = format!("{} step {index}", case.name);
            let array = |key: &str| Array::new(&step[key]);
            let device = device().autodiff();
            let x = array("features").tensor::<2>(&device).require_grad();
            let targets: Vec<i32> = array("labels").values.iter().map(|v| *v as i32).collect();
            // A checkpoint between any two steps changes nothing.
            let saved = serde_json::to_vec(&cross_batch).expect("the state is data");
            cross_batch = serde_json::from_slice(&saved).expect("its own data");
            let value = cross_batch.forward(x.clone(), &targets).expect("the batch fits");
            assert_close(&what, &values(value.clone()), &array("loss").values, OPERATOR);
            let dx = values(x.grad(&value.backward()).expect("a gradient"));
            assert_close(&format!("{what} gradient"), &dx, &array("grad_features").values, NETWORK);
            let used = step["bank_len_used"].as_u64().expect("a length") as usize;
            assert_eq!(cross_batch.bank().len(), used, "{what}");
            let (rows, classes) = cross_batch.bank().rows();
            let expected = array("bank_feats").values;
            if used > 0 {
                assert_close(&what, rows, &expected[..used * dim], OPERATOR);
            }
            let expected = array("bank_targets").values;
            let expected: Vec<i32> = expected.iter().map(|v| *v as i32).take(used).collect();
            assert_eq!(classes, expected, "{what}");
            let pointer = step["ptr"].as_u64().expect("a row") as usize;
            assert_eq!(cross_batch.bank().pointer() % config.size, pointer % config.size, "{what}");
        }
    }
}
