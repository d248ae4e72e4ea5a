//! Forward and backward of four backbones, images per second as JSON; `tests/bench/training_speed.py`
//! is the same in PyTorch, `cargo xtask bench` runs both.
//!
//! `training_speed BATCH SIDE STEPS [NETWORK]`
#![expect(clippy::print_stdout, reason = "the figures")]

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use mimalloc::MiMalloc;
use models::backbone::BackboneConfig;
use models::backbone::{MobileNetV1Config, PpLcNetConfig, PpLcNetV2Config, ResNetConfig};
use models::extractor::ExtractorConfig;

/// The trainer's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    native_trainer::allocator::keep_memory();
    let only = std::env::args().nth(4);
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let mut next = |default: usize| numbers.next().unwrap_or(default);
    let (batch, side, steps) = (next(16), next(224), next(3));
    let networks = [
        (
            "PP-LCNet x1.0",
            BackboneConfig::PpLcNet(PpLcNetConfig {
                scale: 1.0,
                class_expand: Some(1280),
                dropout: 0.0,
                fused: false,
            }),
        ),
        (
            "PP-LCNetV2 base",
            BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                scale: 1.0,
                depths: [2, 2, 6, 2],
                class_expand: 1280,
                shitu: false,
                dropout: 0.0,
                fused: false,
            }),
        ),
        (
            "MobileNetV1",
            BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 1.0, fused: false }),
        ),
        ("ResNet50", BackboneConfig::ResNet(ResNetConfig::resnet50())),
    ];
    let device = Device::flex().autodiff();
    for (name, backbone) in networks {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let network = ExtractorConfig { backbone, neck: None }.init(&device);
        let mut best = f64::INFINITY;
        for _ in 0..=steps {
            let x = Tensor::random([batch, 3, side, side], Distribution::Normal(0.0, 1.0), &device);
            let start = Instant::now();
            let loss = network.forward(x).backbone.powi_scalar(2).mean();
            drop(loss.backward());
            best = best.min(start.elapsed().as_secs_f64());
        }
        let rate = batch as f64 / best;
        println!("{{\"network\": \"{name}\", \"images_per_second\": {rate:.3}}}");
    }
}
