//! What a worker asks of whoever comes, and how much it takes on.

use std::path::Path;

use models::backbone::{BackboneConfig, ResNetConfig};
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::model_file::Architecture;
use models::neck::NeckConfig;

use crate::replicas::Worker;
use crate::stranger::{Stranger, backbone, begin_with, message, weights_of};
use crate::world::{World, fail};

/// What has to be known and what is trusted, from the command line on.
#[test]
fn a_worker_asks_for_a_secret_and_is_known_by_its_certificate() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 1);
    let secret = world.write("secret", "0123456789abcdef0123456789abcdef\n");
    let other = world.write("other", "another-one-that-is-long-enough\n");
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
        path.to_str().expect("text").to_owned()
    };
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let secret = secret.to_str().expect("text");
    let worker =
        Worker::with(&["--secret-file", secret, "--certificate", &certificate, "--key", &key]);
    let run = world.path("run");
    let train = |extra: &[&str]| {
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
            &"train",
            &"-c",
            &recipe,
            &"--output",
            &run,
            &"--overwrite",
            &"--worker",
            &worker.address,
        ];
        words.extend(extra.iter().map(|text| text as &dyn AsRef<std::ffi::OsStr>));
        crate::world::magpie(&words)
    };
    let trusted = ["--worker-certificate", &certificate];
    let other = other.to_str().expect("text");
    let renewed = file("renewed.pem");
    for (words, told) in [
        (vec![], "TLS is spoken on one side alone"),
        (vec!["--secret-file", secret], "TLS is spoken on one side alone"),
        (trusted.to_vec(), "it asks for a secret; give --secret-file"),
        ([&trusted[..], &["--secret-file", other]].concat(), "it has another secret"),
        (
            vec!["--secret-file", secret, "--worker-certificate", &renewed],
            "no encrypted connection: its certificate is none of those",
        ),
    ] {
        let output = train(&words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let told = format!("worker {}: ", worker.address)
            + if told.starts_with("TLS") { "" } else { told };
        assert!(errors.contains(&told), "{words:?}: {errors}");
    }
    for _ in 0..2 {
        let output = train(&[&trusted[..], &["--secret-file", secret]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let refused = fail(&[&"worker", &"--address", &"0.0.0.0", &"--port", &"0"]);
    assert!(refused.contains("give --secret-file, or listen at 127.0.0.1"), "{refused}");
}

/// What a step takes stays below what the worker may take, however many pictures it is given.
#[cfg(target_os = "linux")]
#[test]
fn the_largest_step_that_is_taken_stays_within_the_memory() {
    let extractor = |backbone| {
        Architecture::Extractor(ExtractorConfig { backbone, neck: Some(NeckConfig::BnNeck) })
    };
    let residual = ResNetConfig { width: 16, ..ResNetConfig::resnet50() };
    let detector = DetectorConfig {
        variant: DetectorVariant::Second,
        backbone: DetectorBackbone::PpLcNet,
        backbone_scale: 0.25,
        neck_channels: 16,
        num_classes: 1,
        head_blocks: 1,
        fused: false,
    };
    for (architecture, side) in [
        (extractor(backbone(0.25)), 64),
        (extractor(backbone(1.0)), 96),
        (extractor(BackboneConfig::ResNet(residual)), 64),
        (Architecture::Detector(detector), 64),
    ] {
        let worker = Worker::with(&["--memory", "200"]);
        let before = worker.peak();
        let begun = || {
            let mut guest = Stranger::greeted(&worker.address);
            guest.say(&message(&begin_with(&architecture), &[]));
            assert_eq!(guest.hears()["kind"], "ready");
            guest
        };
        let most = begun().most_pictures(side);
        begun().step_of(weights_of(&architecture), side, most);
        let taken = worker.peak() - before;
        println!("{most} pictures of {side}, {} MB", taken / 1_000_000);
        // Not so careful that nothing can be computed.
        assert!(
            (40_000_000..200_000_000).contains(&taken),
            "{taken} bytes with {most} pictures of {side} for {architecture:?}"
        );
    }
}
