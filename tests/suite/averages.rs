//! Moving averages of weights against the recorded ones.

use models::weights::{NamedTensor, Weights};
use native_trainer::ema::{Ema, EmaDecay};
use tests::{Array, assert_close, cases};

use crate::OPERATOR;

fn weights(value: &serde_json::Value) -> Weights {
    let array = Array::new(value);
    let tensor = NamedTensor { shape: array.shape, values: array.values };
    Weights { tensors: [("weight".to_owned(), tensor)].into() }
}

fn updates(case: &tests::Case) -> Vec<Weights> {
    let updates = case.value["inputs"]["updates"].as_array().expect("updates");
    updates.iter().map(weights).collect()
}

#[test]
fn the_plain_average_equals_the_reference() {
    for case in cases("ema.json", &["ppcls_ema_decay"]) {
        let decay = case.name.trim_start_matches("ppcls_ema_decay").parse().expect("a decay");
        let mut ema = Ema::from_weights(
            EmaDecay::Constant { decay },
            &weights(&case.value["inputs"]["init"]),
        );
        let states = case.value["outputs"]["states"].as_array().expect("states");
        for (update, state) in updates(&case).iter().zip(&states[1..]) {
            ema.update(update);
            let expected = Array::new(&state["weight"]).values;
            let got = ema.read_out();
            assert_close(&case.name, &got.tensors["weight"].values, &expected, OPERATOR);
        }
    }
}

#[test]
fn the_detectors_average_equals_the_reference() {
    for case in cases("ema.json", &["ppdet_ModelEMA"]) {
        let params = &case.value["params"];
        let decay = params["decay"].as_f64().expect("a decay");
        let decay = match params["type"].as_str() {
            Some("threshold") => EmaDecay::Threshold { decay },
            Some("exponential") => EmaDecay::Exponential { decay },
            _ => EmaDecay::Constant { decay },
        };
        let cycle = params["cycle_epoch"].as_i64().and_then(|cycle| u64::try_from(cycle).ok());
        let mut ema = Ema::from_zero(decay, cycle);
        let applies = case.value["outputs"]["applies"].as_array().expect("read-outs");
        let updates = updates(&case);
        let each = updates.len() / applies.len();
        for (updates, apply) in updates.chunks(each).zip(applies) {
            updates.iter().for_each(|update| ema.update(update));
            let got = ema.read_out();
            let expected = Array::new(&apply["applied"]).values;
            assert_close(&case.name, &got.tensors["weight"].values, &expected, OPERATOR);
            assert_eq!(Some(ema.age().steps), apply["step_after"].as_u64(), "{}", case.name);
        }
    }
}
