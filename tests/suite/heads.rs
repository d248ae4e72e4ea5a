//! Heads and the remaining necks against the recorded values and gradients.

use burn::module::Param;
use burn::tensor::Tensor;
use models::neck::VehicleNeck;
use native_trainer::head::{AdaMargin, ArcMargin, CircleMargin, CosMargin, Head};
use native_trainer::loss::cross_entropy;
use tests::{Array, Case, assert_close, cases, device, values};

use crate::{NETWORK, OPERATOR};

/// Within this range of logits, every probability is an ordinary f32.
const LARGEST_SPREAD: f32 = 50.0;

fn weight_of(head: &Head) -> Tensor<2> {
    match head {
        Head::Fc(head) => head.weight.val(),
        Head::ArcMargin(head) => head.weight.val(),
        Head::CosMargin(head) => head.weight.val(),
        Head::CircleMargin(head) => head.weight.val(),
        Head::AdaMargin(head) => head.weight.val(),
    }
}

/// Logits, cross entropy and gradients of one recorded step.
fn check_step(
    what: &str,
    case: &Case,
    head: &Head,
    training: bool,
    recorded: &serde_json::Value,
    x: Array,
) {
    let array = |key: &str| Array::new(&recorded[key]);
    let device = device().autodiff();
    let x = x.tensor::<2>(&device).require_grad();
    let targets = case.input("labels").indices(&device);
    let logits =
        if training { head.forward(x.clone(), targets.clone()) } else { head.evaluate(x.clone()) };
    assert_close(what, &values(logits.clone()), &array("logits").values, OPERATOR);
    // Where a probability underflows, the recorded loss stops short of the exact one.
    let all = values(logits.clone());
    let (low, high) = all.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let loss = cross_entropy(logits, targets, 0.0);
    if high - low < LARGEST_SPREAD {
        assert_close(&format!("{what} loss"), &values(loss.clone()), &array("ce").values, OPERATOR);
    }
    let gradients = loss.backward();
    let dx = values(x.grad(&gradients).expect("a gradient"));
    assert_close(&format!("{what} dx"), &dx, &array("grad_x").values, NETWORK);
    // The recorded adaptive head passes no gradient to its class weights; ours learns them.
    if matches!(head, Head::AdaMargin(_)) {
        return;
    }
    let dw = values(weight_of(head).grad(&gradients).expect("a gradient"));
    assert_close(&format!("{what} dw"), &dw, &array("grad_weight").values, NETWORK);
}

#[test]
fn margin_heads_equal_the_reference_in_training_and_evaluation() {
    let mut compared = 0;
    for case in cases("gears.json", &["ArcMargin", "CosMargin", "CircleMargin"]) {
        let weight = Param::from_tensor(case.input("weight").tensor(&device().autodiff()));
        let (margin, scale) = (case.param("margin"), case.param("scale"));
        let (margin, scale) = (margin.expect("a margin"), scale.expect("a scale"));
        let head = if case.name.starts_with("Arc") {
            let easy_margin = case.value["params"]["easy_margin"].as_bool() == Some(true);
            Head::ArcMargin(ArcMargin { weight, margin, scale, easy_margin })
        } else if case.name.starts_with("Cos") {
            Head::CosMargin(CosMargin { weight, margin, scale })
        } else {
            Head::CircleMargin(CircleMargin { weight, margin, scale })
        };
        let training = case.value["params"]["training"].as_bool() == Some(true);
        check_step(&case.name, &case, &head, training, &case.value["outputs"], case.input("x"));
        compared += 1;
    }
    assert!(compared >= 8 || std::env::var_os("GOLDEN_DIR").is_some());
}

#[test]
fn the_adaptive_margin_follows_the_reference_step_by_step() {
    for case in cases("gears.json", &["AdaMargin"]) {
        let param = |key: &str| case.param(key).expect("an option");
        let weight = Param::from_tensor(case.input("weight").tensor(&device().autodiff()));
        let head = AdaMargin::new(weight, param("m"), param("s"), param("h"), param("t_alpha"));
        let head = Head::AdaMargin(head);
        let steps = case.value["outputs"]["steps"].as_array().expect("steps");
        for (index, step) in steps.iter().enumerate() {
            let what = format!("{} step {index}", case.name);
            check_step(&what, &case, &head, true, step, Array::new(&step["x"]));
            let Head::AdaMargin(head) = &head else { unreachable!("made above") };
            let [mean, deviation] = head.statistics().map(values);
            assert_close(&what, &mean, &Array::new(&step["batch_mean"]).values, OPERATOR);
            assert_close(&what, &deviation, &Array::new(&step["batch_std"]).values, OPERATOR);
        }
    }
}

#[test]
fn the_vehicle_neck_equals_the_reference() {
    for case in cases("gears.json", &["VehicleNeck"]) {
        let x = case.input("x");
        let [batch, features] = [x.shape[0], x.shape[1]];
        let mut neck = VehicleNeck::new(features, case.input("bias").shape[0], &device());
        neck.conv.weight = Param::from_tensor(case.input("weight").tensor(&device()));
        neck.conv.bias = Some(Param::from_tensor(case.input("bias").tensor(&device())));
        let y = neck.forward(x.tensor::<4>(&device()).reshape([batch, features]));
        assert_close(&case.name, &values(y), &case.output("y").values, OPERATOR);
    }
}
