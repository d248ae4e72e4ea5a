//! The engine that the page chooses by measuring this device, and why it leaves it again.

use serde_json::{Value, json};

use super::{script, site};

/// The engine's files for the processor in this Chromium.
const CPU: &str = "relaxed";

fn seen(scenarios: &str) -> Value {
    let picture = site().join("samples/2.jpg");
    let all = script("choice.mjs", &[&site(), &picture, scenarios.as_ref()]);
    for (name, scenario) in all.as_object().expect("scenarios") {
        assert!(scenario["failure"].is_null(), "{name}: {scenario}");
    }
    all
}

fn says(look: &Value, words: &str) -> bool {
    look["choice"].as_str().unwrap_or_default().contains(words)
}

#[test]
fn engines_are_measured_once_while_nothing_is_asked() {
    let seen = seen("slower,disturbed,package");
    let first = &seen["slower"]["first"];
    // The page's engine, and one of each kind on trial, which has ended.
    assert_eq!(first["started"], json!([CPU, CPU, "webgpu"]), "{first}");
    assert_eq!(first["running"], json!([CPU]), "{first}");
    assert!(says(first, "The CPU is used"), "{first}");
    let (cpu, webgpu) = (&first["kept"]["cpu"], &first["kept"]["webgpu"]);
    for cost in [cpu, webgpu] {
        assert!(
            cost["detect"].as_f64() > Some(0.0) && cost["embed"].as_f64() > Some(0.0),
            "{cost}"
        );
    }
    assert_eq!(first["kept"]["why"], "slower");
    // The next visit knows, and measures when it is asked to.
    let second = &seen["slower"]["second"];
    assert_eq!(second["started"], json!([CPU]), "{second}");
    assert_eq!(second["choice"], first["choice"]);
    let asked = &seen["slower"]["asked"];
    assert_eq!(asked["started"], json!([CPU, CPU, CPU, "webgpu"]), "{asked}");
    assert_eq!(seen["slower"]["problems"], json!([]));

    let disturbed = &seen["disturbed"];
    assert_eq!(disturbed["seen"]["running"], json!([CPU]), "the trial ends: {disturbed}");
    assert!(disturbed["seen"]["kept"].is_null(), "half a trial tells nothing: {disturbed}");
    assert_eq!(disturbed["later"]["kept"]["why"], "slower", "{disturbed}");

    assert_eq!(seen["package"], json!({ "begun": "cpu", "later": "webgpu", "running": 0 }));
}

#[test]
fn the_faster_engine_is_taken_and_left_when_it_slows_down() {
    let seen = seen("faster,other,kept");
    let faster = &seen["faster"];
    assert_eq!(faster["first"]["started"], json!([CPU, CPU, "webgpu", "webgpu"]), "{faster}");
    assert_eq!(faster["first"]["running"], json!(["webgpu"]));
    assert!(says(&faster["first"], "WebGPU is used"), "{faster}");
    assert_eq!(faster["second"]["started"], json!(["webgpu"]), "the next visit begins with it");
    // Between two pictures: what is shown can still be taught from.
    assert_eq!(faster["before"]["running"], json!(["webgpu"]), "{faster}");
    assert_eq!(faster["after"]["running"], json!([CPU]), "{faster}");
    assert_eq!(faster["after"]["kept"]["why"], "slowed");
    assert_eq!(faster["after"]["labels"], faster["first"]["labels"]);
    assert_eq!(faster["problems"], json!([]));

    let other = &seen["other"];
    assert_eq!(other["begun"]["running"], json!([CPU]), "what holds for another device: {other}");
    assert_eq!(other["seen"]["kept"]["why"], "slower", "{other}");

    assert_eq!(other["begun"]["choice"], "", "nor is it told as measured here: {other}");
    let kept = &seen["kept"];
    let all = |what: &str, taken: bool| {
        let seen = kept[what].as_array().expect("records");
        seen.iter().all(|record| *record == taken)
    };
    assert!(all("good", true) && all("bad", false), "{kept}");
    assert_eq!(kept["otherAdapter"], "cpu", "{kept}");

    let bounded = &faster["bounded"];
    assert_eq!(bounded["running"], json!([CPU]), "{bounded}");
    assert_eq!(bounded["kept"]["backend"], "webgpu", "the bound holds for one visit: {bounded}");
}

#[test]
fn a_wrong_or_failing_engine_is_not_taken_and_a_large_one_is_replaced() {
    let seen = seen("differs,fails,renewed");
    for (name, words) in [("differs", "other answers"), ("fails", "fails")] {
        let look = &seen[name];
        assert!(says(look, words), "{look}");
        assert_eq!(look["running"], json!([CPU]), "{look}");
        assert!(!look["labels"].as_array().expect("labels").is_empty(), "{look}");
    }
    // Heard at once: an engine that says nothing has a minute.
    assert!(seen["fails"]["seconds"].as_f64() < Some(45.0), "{}", seen["fails"]);
    let (before, after) = (&seen["renewed"]["before"], &seen["renewed"]["after"]);
    assert_eq!(before["started"], json!([CPU]), "{before}");
    assert_eq!(after["started"], json!([CPU, CPU]), "{after}");
    assert_eq!(after["running"], json!([CPU]), "{after}");
    assert_eq!(after["labels"], before["labels"], "{after}");
}
