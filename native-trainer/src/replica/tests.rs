//! Replicas together against one device alone.

mod faults;

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::{Device, Tensor};
use models::backbone::BackboneConfig;
use models::backbone::PpLcNetConfig;
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::image::RgbImage;
use models::inference::Prepared;
use models::model_file::Architecture;
use models::neck::NeckConfig;
use models::operators::mixed::{self, HalfFloat};
use models::preprocess::Preprocess;
use models::weights::Weights;

use super::cost::MAX_REPLICAS;
use super::error::LinkError;
use super::link::Link;
use super::message::{Begin, Head, Message, Room};
use super::{Hub, Replica, ReplicaError, Runner, Trust, share};
use crate::embedding::Runs;

const SIDE: u32 = 64;
const PATIENCE: Duration = Duration::from_mins(1);

fn pictures(count: usize) -> Vec<RgbImage> {
    (0..count)
        .map(|picture| {
            let values = (0..SIDE * SIDE * 3).map(|i| {
                let wave = (i as f32 * 0.013 * (picture + 1) as f32).sin();
                (wave * 100.0 + 128.0 + 8.0 * picture as f32).clamp(0.0, 255.0) as u8
            });
            RgbImage::from_rgb(SIDE, SIDE, values.collect()).unwrap()
        })
        .collect()
}

/// Its activations bend where few values fall: at a bend, rounding makes gradients jump.
fn extractor() -> ExtractorConfig {
    ExtractorConfig {
        backbone: BackboneConfig::PpLcNet(PpLcNetConfig {
            scale: 0.25,
            class_expand: Some(32),
            dropout: 0.0,
            fused: false,
        }),
        neck: Some(NeckConfig::BnNeck),
    }
}

fn detector() -> DetectorConfig {
    DetectorConfig {
        variant: DetectorVariant::Second,
        backbone: DetectorBackbone::PpLcNet,
        backbone_scale: 0.25,
        neck_channels: 16,
        num_classes: 1,
        head_blocks: 1,
        fused: false,
    }
}

/// A loss that compares every picture with every other, as metric learning does.
fn loss(outputs: &[Tensor<2>]) -> Tensor<1> {
    let term = |(index, output): (usize, &Tensor<2>)| {
        let width = output.dims()[1] as f64;
        let similar = output.clone().matmul(output.clone().transpose()) / width;
        (similar.tanh().powi_scalar(2) * (1.0 + index as f64)).sum()
    };
    outputs.iter().enumerate().map(term).reduce(|a, b| a + b).expect("outputs")
}

/// Every gradient of a batch, and the network behind it, whose running statistics have moved.
fn alone<N: Replica>(
    network: N,
    pictures: &[RgbImage],
    half: Option<HalfFloat>,
) -> (Weights, Weights) {
    let device = Device::flex().autodiff();
    let x = Preprocess::square(SIDE).apply(pictures, &device);
    let gradients = loss(&mixed::within(half, || network.outputs(x))).backward();
    (super::worker::collect(&network, &gradients), Weights::from_module(&network))
}

/// The same by several replicas on threads of this process, which also evaluate another network.
fn together<N: Replica>(
    network: N,
    evaluated: &N,
    architecture: &Architecture,
    pictures: &[RgbImage],
    replicas: usize,
    half: Option<HalfFloat>,
) -> (Weights, Weights) {
    let device = Device::flex().autodiff();
    let preprocess = Preprocess::square(SIDE);
    let others = vec![Device::flex(); replicas - 1];
    let hub = Hub::open(&others, &[], architecture, 5, half, PATIENCE, &Trust::default()).unwrap();
    let own = share(pictures.len(), replicas, 0).end;
    let x = preprocess.apply(&pictures[..own], &device);
    let forward = || hub.forward(&network, x, &preprocess, &pictures[own..]);
    let pass = mixed::within(half, forward).unwrap();
    let gradients = loss(&pass.outputs()).backward();
    let (first, parts) = hub.backward(&pass, &gradients).unwrap();
    let mut sums = super::worker::collect(&network, &first);
    for part in parts {
        for (path, tensor) in part.tensors {
            let sum = sums.tensors.get_mut(&path).expect("the same parameters");
            sum.values.iter_mut().zip(&tensor.values).for_each(|(sum, value)| *sum += value);
        }
    }

    let runner = Runner::new(evaluated, &preprocess, &device, Some(&hub)).unwrap();
    let single = Prepared::new(&evaluated.valid(), &preprocess, &device);
    let (shared, single) = (runner.answers(pictures).unwrap(), single.answers(pictures).unwrap());
    assert!(shared == single, "evaluation shares pictures, not sums");
    (sums, Weights::from_module(&network))
}

/// How far two sets of tensors are apart: the length of their difference as a share of their own.
fn apart(got: &Weights, expected: &Weights) -> f64 {
    let names = |weights: &Weights| weights.tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(got), names(expected));
    let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let (mut difference, mut all) = (0.0, 0.0);
    for (name, expected) in &expected.tensors {
        let pairs = got.tensors[name].values.iter().zip(&expected.values);
        difference += squares(&mut pairs.map(|(a, b)| a - b));
        all += squares(&mut expected.values.iter().copied());
    }
    (difference / all).sqrt()
}

/// Replicas against one device.
fn compare<N: Replica>(init: impl Fn() -> N, architecture: &Architecture) {
    // 7 pictures: shares differ.
    let pictures = pictures(7);
    let weights = Weights::from_module(&init());
    let network = || weights.clone().load_into(init()).unwrap();
    let expected = alone(network(), &pictures, None);
    assert!(expected.1 != weights, "the running statistics move");
    // In 16 bits, statistics that differ by rounding round the values behind them to other sides, so
    // replicas differ by a part of what 16 bits change.
    let half = Some(HalfFloat::F16);
    let halved = alone(network(), &pictures, half);
    let rounded = apart(&halved.0, &expected.0);
    assert!(rounded > 1e-2, "16 bits change gradients: {rounded:e}");
    let got = together(network(), &network(), architecture, &pictures, 2, half);
    let gradients = apart(&got.0, &halved.0);
    assert!(gradients < rounded / 2.0, "{gradients:e} apart, 16 bits make {rounded:e}");
    for replicas in [2, 3] {
        let got = together(network(), &network(), architecture, &pictures, replicas, None);
        // Rounding may put a value on the other side of its activation's bend, where the gradient
        // jumps: single values are then a hundredth apart. With statistics of each replica's own pictures
        // gradients are three times their own length apart.
        let gradients = apart(&got.0, &expected.0);
        assert!(gradients < 2e-3, "gradients with {replicas} replicas: {gradients:e}");
        let statistics = apart(&got.1, &expected.1);
        assert!(statistics < 1e-5, "running statistics with {replicas} replicas: {statistics:e}");
    }
}

#[test]
fn replicas_take_the_step_that_one_device_would() {
    let device = Device::flex().autodiff();
    device.seed(11);
    compare(|| extractor().init(&device), &Architecture::Extractor(extractor()));
    compare(|| detector().init(&device), &Architecture::Detector(detector()));
}

#[test]
fn a_replica_that_cannot_go_on_is_named_with_its_reason() {
    let device = Device::flex().autodiff();
    let architecture = Architecture::Extractor(extractor());
    let trust = Trust::default();
    let hub = Hub::open(&[Device::flex()], &[], &architecture, 5, None, PATIENCE, &trust).unwrap();
    // Another network than the one that was announced.
    let network = detector().init(&device);
    let preprocess = Preprocess::square(SIDE);
    let all = pictures(2);
    let x = preprocess.apply(&all[..1], &device);
    let error = hub.forward(&network, x, &preprocess, &all[1..]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("device 1") && text.contains("another architecture"), "{text}");
    assert!(text.contains("--resume"), "{text}");
}

#[test]
fn a_panic_ends_the_run_with_its_word() {
    let (far, mut near) = Link::pair();
    let ended = super::worker::guard(far, 2, |_| panic!("a shape\ndeep {}", "inside"));
    assert!(matches!(ended, Err(LinkError::Panicked(text)) if text == "a shape deep inside"));
    match near.receive(Room::NONE.only("ready")) {
        Err(LinkError::Failed(reason)) => {
            assert_eq!(reason, "the computation broke off: a shape deep inside");
        }
        other => panic!("{other:?}"),
    }
}

/// A worker's answer to what it is sent, that far.
fn answer(begin: Begin, messages: Vec<Message>, memory: u64) -> LinkError {
    let (far, mut near) = Link::pair();
    std::thread::spawn(move || super::worker::serve(far, begin, &Device::flex(), memory));
    let any = |_: &Head| Ok(Room { blobs: 9, bytes: 1 << 20 });
    for message in messages {
        // It may have ended with the message before.
        let _ = near.send(message);
    }
    loop {
        if let Err(error) = near.receive(any) {
            return error;
        }
    }
}

fn begin(architecture: Architecture) -> Begin {
    Begin { architecture, seed: 1, replicas: 2, mixed_precision: None }
}

#[test]
fn what_no_network_and_no_step_is_like_is_refused_with_its_reason() {
    let device = Device::flex().autodiff();
    let weights = Arc::new(Weights::from_module(&extractor().init(&device)));
    let step = |change: &dyn Fn(&mut Preprocess), pictures: Vec<RgbImage>| {
        let mut preprocess = Preprocess::square(SIDE);
        change(&mut preprocess);
        Message::Step { weights: weights.clone(), preprocess, pictures }
    };
    let good = || begin(Architecture::Extractor(extractor()));
    let mut wide = extractor();
    wide.backbone = BackboneConfig::PpLcNet(PpLcNetConfig {
        scale: 1e9,
        class_expand: None,
        dropout: 0.0,
        fused: false,
    });
    let mut other = detector();
    other.num_classes = 0;
    let two = || pictures(2);
    let small = RgbImage::from_rgb(1, 1, vec![0; 3]).unwrap();
    let preprocess = Preprocess::square(SIDE);
    let prepare = || Message::Prepare { weights: weights.clone(), preprocess: preprocess.clone() };
    for (begin, messages, told) in [
        (begin(Architecture::Extractor(wide)), vec![], "backbone.scale is 1000000000"),
        (begin(Architecture::Detector(other)), vec![], "num_classes is 0"),
        (Begin { replicas: 0, ..good() }, vec![], "0 replicas"),
        (Begin { replicas: 1 << 40, ..good() }, vec![], "1099511627776 replicas"),
        (good(), vec![step(&|p| p.width = 0, two())], "width is 0"),
        (good(), vec![step(&|p| p.width = 65_536, two())], "width is 65536"),
        (good(), vec![step(&|p| p.std[1] = 0.0, two())], "std is 0"),
        (good(), vec![step(&|p| p.mean[2] = f32::NAN, two())], "mean is NaN"),
        (good(), vec![step(&|p| p.width = 32, two())], "has not the size of the input"),
        (good(), vec![step(&|_| (), vec![])], "a step without a picture"),
        (good(), vec![Message::Run(two())], "`run` came where `prepare`"),
        (good(), vec![prepare(), Message::Run(vec![small])], "has not the size of the input"),
        (good(), vec![Message::Ready], "`ready` came where `step`"),
        (good(), vec![step(&|_| (), two()), Message::Said(vec![])], "`said` came where `gathered`"),
        (
            good(),
            vec![step(&|_| (), two()), Message::Gathered(Arc::new(vec![vec![1.0]; 2]))],
            "statistics of another network",
        ),
    ] {
        let error = answer(begin, messages, u64::MAX).to_string();
        assert!(error.contains(told) && !error.contains("broke off"), "{told}: {error}");
    }
}

#[test]
fn what_takes_more_than_the_memory_is_refused_before_anything_is_made() {
    // 128 blocks of 32,768 channels: many gigabytes.
    let mut huge = extractor();
    huge.backbone = BackboneConfig::ResNet(models::backbone::ResNetConfig {
        width: 512,
        depths: [128; 4],
        ..models::backbone::ResNetConfig::resnet50()
    });
    let error = answer(begin(Architecture::Extractor(huge)), vec![], 8_000_000_000);
    assert!(error.to_string().contains("a network of this size takes about"), "{error}");
    let device = Device::flex().autodiff();
    let weights = Arc::new(Weights::from_module(&extractor().init(&device)));
    let preprocess = Preprocess::square(2048);
    let step = Message::Step { weights, preprocess, pictures: vec![] };
    let begin = begin(Architecture::Extractor(extractor()));
    let error = answer(begin, vec![step], 200_000_000);
    assert!(error.to_string().contains("a step of one picture takes about"), "{error}");
}

#[test]
fn replicas_are_named_once_and_counted() {
    let architecture = Architecture::Extractor(extractor());
    let open = |devices: &[Device], addresses: &[String]| {
        let trust = Trust::default();
        Hub::open(devices, addresses, &architecture, 5, None, PATIENCE, &trust).unwrap_err()
    };
    let twice = ["a:1".to_owned(), "b:1".to_owned(), "a:1".to_owned()];
    assert!(matches!(open(&[], &twice), ReplicaError::Twice(address) if address == "a:1"));
    let many = vec![Device::flex(); MAX_REPLICAS];
    assert!(matches!(open(&many, &[]), ReplicaError::TooMany(257)));
}

#[test]
fn shares_cover_everything_once() {
    for (count, replicas) in [(7, 3), (8, 2), (2, 3), (0, 2)] {
        let shares: Vec<_> = (0..replicas).map(|index| share(count, replicas, index)).collect();
        let places: Vec<usize> = shares.iter().cloned().flatten().collect();
        assert_eq!(places, (0..count).collect::<Vec<_>>());
        let lengths = shares.iter().map(ExactSizeIterator::len);
        assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
    }
}
