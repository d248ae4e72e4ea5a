//! The engine that the page chooses by measuring this device, and why it leaves it again.

use serde_json::{Value, json};

use super::{script, site};

/// The engine's files for the processor in Chromium.
const CPU: &str = "relaxed";

fn seen(browser: &str, scenarios: &str) -> Value {
    let picture = site().join("samples/2.jpg");
    let all = script("choice.mjs", &[browser.as_ref(), &site(), &picture, scenarios.as_ref()]);
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
    let seen = seen("chromium", "slower,disturbed,package");
    let first = &seen["slower"]["first"];
    // The page's engine, which is measured itself, and WebGPU's on trial, which has ended: a phone's memory holds
    // no second engine of one kind.
    assert_eq!(first["started"], json!([CPU, "webgpu"]), "{first}");
    assert_eq!(first["running"], json!([CPU]), "{first}");
    assert!(says(first, "The CPU is used"), "{first}");
    // With its figures.
    assert!(says(first, " ms with WebGPU, ") && says(first, " ms on the CPU"), "{first}");
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
    assert_eq!(asked["started"], json!([CPU, CPU, "webgpu"]), "{asked}");
    assert_eq!(seen["slower"]["problems"], json!([]));

    let disturbed = &seen["disturbed"];
    assert_eq!(disturbed["early"]["running"], json!([CPU]), "{disturbed}");
    assert!(disturbed["early"]["kept"].is_null(), "{disturbed}");
    assert_eq!(disturbed["problems"], json!([]));
    assert_eq!(disturbed["seen"]["running"], json!([CPU]), "the trial ends: {disturbed}");
    assert!(disturbed["seen"]["kept"].is_null(), "half a trial tells nothing: {disturbed}");
    assert_eq!(disturbed["later"]["kept"]["why"], "slower", "{disturbed}");

    let package = &seen["package"];
    assert_eq!((&package["begun"], &package["later"]), (&json!("cpu"), &json!("webgpu")));
    assert_eq!(package["running"], 0, "{package}");
    // One trial beside the engine that answers, and two loads after it.
    let started = package["started"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(started.len(), 4, "{package}");
    assert_eq!(started[..3], [CPU, "webgpu", "webgpu"], "{package}");
}

#[test]
fn the_faster_engine_is_taken_and_left_when_it_slows_down() {
    let seen = seen("chromium", "faster,other,networks,bounds,kept");
    let faster = &seen["faster"];
    assert_eq!(faster["first"]["started"], json!([CPU, "webgpu", "webgpu"]), "{faster}");
    assert_eq!(faster["first"]["running"], json!(["webgpu"]));
    assert!(says(&faster["first"], "WebGPU is used"), "{faster}");
    assert_eq!(faster["second"]["started"], json!(["webgpu"]), "the next visit begins with it");
    // Between two pictures: what is shown can still be taught from.
    assert_eq!(faster["before"]["running"], json!(["webgpu"]), "{faster}");
    assert_eq!(faster["after"]["running"], json!([CPU]), "{faster}");
    assert_eq!(faster["after"]["kept"]["why"], "slowed");
    assert_eq!(faster["after"]["labels"], faster["first"]["labels"]);
    assert_eq!(faster["problems"], json!([]));

    let networks = &seen["networks"];
    assert_eq!(networks["begun"]["started"][0], "webgpu", "{networks}");
    // The engine that answers is measured itself, and left at once for the one that is faster.
    assert_eq!(networks["seen"]["started"], json!(["webgpu", CPU, CPU]), "{networks}");
    assert_eq!(networks["seen"]["running"], json!([CPU]), "{networks}");
    let measured = networks["seen"]["kept"]["cpu"]["detect"].as_f64();
    assert!(measured > Some(0.0) && measured < Some(1e6), "{networks}");
    assert_eq!(seen["bounds"]["bounds"], json!([300, null]));

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
    let seen = seen("chromium", "differs,fails,unposted,renewed");
    for (name, words) in [("differs", "other answers"), ("fails", "fails"), ("unposted", "fails")] {
        let look = &seen[name];
        assert!(says(look, words), "{look}");
        assert_eq!(look["running"], json!([CPU]), "{look}");
        assert!(!look["labels"].as_array().expect("labels").is_empty(), "{look}");
    }
    // Heard at once: an engine that says nothing has a minute.
    for name in ["fails", "unposted"] {
        assert!(seen[name]["seconds"].as_f64() < Some(45.0), "{}", seen[name]);
    }
    is_renewed(&seen["renewed"]);
}

/// A large engine has ended before the next picture, and another one has taken its place.
#[track_caller]
fn is_renewed(seen: &Value) {
    let (before, after) = (&seen["before"], &seen["after"]);
    // One that knows no relaxed SIMD has the other files.
    let one = &before["started"][0];
    assert_eq!(before["started"], json!([one]), "{before}");
    assert_eq!(after["started"], json!([one, one]), "{after}");
    assert_eq!(after["running"], json!([one]), "{after}");
    assert_eq!(after["labels"], before["labels"], "{after}");
}

/// A headless Firefox has no WebGPU on Linux: there is no trial, and no engine to change to, to leave, or to find
/// slower. What concerns the CPU alone is the same.
#[test]
fn firefox_stays_with_its_processor_and_replaces_a_large_engine() {
    let seen = seen("firefox", "kept,none,renewed");
    let all = |what: &str, taken: bool| {
        let seen = seen["kept"][what].as_array().expect("records");
        seen.iter().all(|record| *record == taken)
    };
    assert!(all("good", true) && all("bad", false), "{}", seen["kept"]);
    assert_eq!(seen["kept"]["otherAdapter"], "cpu");
    let none = &seen["none"];
    assert_eq!((&none["choice"], &none["kept"]), (&json!(""), &Value::Null), "{none}");
    assert_eq!(none["started"].as_array().map(Vec::len), Some(1), "no trial: {none}");
    assert_eq!(none["problems"], json!([]));
    is_renewed(&seen["renewed"]);
}
