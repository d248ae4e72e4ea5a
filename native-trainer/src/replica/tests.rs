//! Replicas together against one device alone.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use burn::module::Module;
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
use super::{Hub, Replica, ReplicaError, Runner, Secret, Terms, Trust, listen, share};
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

/// A worker on a thread of this process.
fn worker(secret: Option<Secret>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let terms = Terms { memory: u64::MAX, patience: PATIENCE, secret, tls: None };
    std::thread::spawn(move || listen(&listener, &Device::flex(), terms, |_| ()));
    address
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Both sides hear that it is closed.
    Cut,
    /// Nothing is taken and nothing comes any more.
    Stall,
}

/// Leads to a worker for a number of messages of both directions, which it counts.
struct Wire {
    address: String,
    messages: Arc<AtomicUsize>,
}

impl Wire {
    fn to(worker: &str, most: usize, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let messages = Arc::new(AtomicUsize::new(0));
        let (worker, counted) = (worker.to_owned(), messages.clone());
        std::thread::spawn(move || {
            let (near, _) = listener.accept().unwrap();
            let far = TcpStream::connect(worker).unwrap();
            let is_broken = Arc::new(AtomicBool::new(false));
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let (counted, is_broken) = (counted.clone(), is_broken.clone());
                std::thread::spawn(move || {
                    // Without an end where the connection has none.
                    let _ = relay(&from, &to, &counted, most, &is_broken);
                    if fault == Fault::Cut || !is_broken.load(Ordering::SeqCst) {
                        let _ = from.shutdown(Shutdown::Both);
                        let _ = to.shutdown(Shutdown::Both);
                    }
                });
            }
            // Held for as long as the test runs.
            std::thread::sleep(4 * PATIENCE);
        });
        Self { address, messages }
    }
}

fn relay(
    from: &TcpStream,
    mut to: &TcpStream,
    counted: &AtomicUsize,
    most: usize,
    is_broken: &AtomicBool,
) -> std::io::Result<()> {
    let read = |mut from: &TcpStream, count: usize| {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).map(|()| bytes)
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| (n << 8) | usize::from(*byte));
    let greeting = read(from, 41)?;
    to.write_all(&greeting)?;
    loop {
        let mut bytes = read(from, 1)?;
        if bytes == [1] {
            let blob = |bytes: &mut Vec<u8>| -> std::io::Result<()> {
                bytes.extend(read(from, 8)?);
                let length = number(&bytes[bytes.len() - 8..]);
                bytes.extend(read(from, length)?);
                Ok(())
            };
            blob(&mut bytes)?;
            bytes.extend(read(from, 4)?);
            let count = number(&bytes[bytes.len() - 4..]);
            (0..count).try_for_each(|_| blob(&mut bytes))?;
            if counted.fetch_add(1, Ordering::SeqCst) >= most {
                is_broken.store(true, Ordering::SeqCst);
            }
        }
        if is_broken.load(Ordering::SeqCst) {
            return Ok(());
        }
        to.write_all(&bytes)?;
    }
}

/// A step by this process and workers, some of which may be lost on the way: its gradients, the network behind it, who
/// was lost, how many are left.
fn step_with(
    addresses: &[String],
    weights: &Weights,
    pictures: &[RgbImage],
    patience: Duration,
) -> (Weights, Weights, Vec<String>, usize) {
    let device = Device::flex().autodiff();
    let preprocess = Preprocess::square(SIDE);
    let architecture = Architecture::Extractor(extractor());
    let hub =
        Hub::open(&[], addresses, &architecture, 5, None, patience, &Trust::default()).unwrap();
    let own = share(pictures.len(), addresses.len() + 1, 0).end;
    let x = preprocess.apply(&pictures[..own], &device);
    let fresh = || weights.clone().load_into(extractor().init(&device)).unwrap();
    let (network, first, parts) = loop {
        let network = fresh();
        let pass = || -> Result<_, ReplicaError> {
            let pass = hub.forward(&network, x.clone(), &preprocess, &pictures[own..])?;
            let gradients = loss(&pass.outputs()).backward();
            hub.backward(&pass, &gradients)
        };
        match pass() {
            Ok((first, parts)) => break (network, first, parts),
            Err(error) => assert!(hub.go_on_without(&error), "{error}"),
        }
    };
    let mut sums = super::worker::collect(&network, &first);
    for (path, tensor) in parts.into_iter().flat_map(|part| part.tensors) {
        let sum = sums.tensors.get_mut(&path).expect("the same parameters");
        sum.values.iter_mut().zip(&tensor.values).for_each(|(sum, value)| *sum += value);
    }
    let runner = Runner::new(&fresh(), &preprocess, &device, Some(&hub)).unwrap();
    let single = Prepared::new(&fresh().valid(), &preprocess, &device);
    assert!(runner.answers(pictures).unwrap() == single.answers(pictures).unwrap());
    let told = hub.take_told();
    (sums, Weights::from_module(&network), told, hub.replicas())
}

fn assert_same_step(got: &(Weights, Weights, Vec<String>, usize), expected: &(Weights, Weights)) {
    let gradients = apart(&got.0, &expected.0);
    assert!(gradients < 2e-3, "gradients: {gradients:e}, {:?}", got.2);
    let statistics = apart(&got.1, &expected.1);
    assert!(statistics < 1e-5, "running statistics: {statistics:e}, {:?}", got.2);
}

/// Whatever message a worker is lost at, the step is that of the whole batch.
#[test]
fn a_worker_that_is_lost_at_any_message_is_taken_over() {
    let device = Device::flex().autodiff();
    device.seed(11);
    let weights = Weights::from_module(&extractor().init(&device));
    let pictures = pictures(7);
    let network = || weights.clone().load_into(extractor().init(&device)).unwrap();
    let expected = alone(network(), &pictures, None);
    let (one, other) = (worker(None), worker(None));
    let whole = Wire::to(&other, usize::MAX, Fault::Cut);
    let step = |wire: &Wire, patience| {
        let addresses = [one.clone(), wire.address.clone()];
        let got = step_with(&addresses, &weights, &pictures, patience);
        assert_same_step(&got, &expected);
        got
    };
    let got = step(&whole, PATIENCE);
    assert_eq!((got.2.len(), got.3), (0, 3));
    let count = whole.messages.load(Ordering::SeqCst);
    assert!(count > 50, "{count} messages");
    // Without the first two nothing has begun. In between said and gathered take turns.
    let is_looked_at = |most: &usize| *most < 8 || *most + 8 > count || most.is_multiple_of(5);
    for most in (2..count).filter(is_looked_at) {
        let wire = Wire::to(&other, most, Fault::Cut);
        let got = step(&wire, PATIENCE);
        assert_eq!((got.2.len(), got.3), (1, 2), "after {most} messages: {:?}", got.2);
        assert!(got.2[0].contains("is lost: the connection was closed"), "{:?}", got.2);
    }
    let short = Duration::from_secs(2);
    for most in [2, 3, count / 2, count - 1] {
        // The worker behind it waits for as long as its own patience.
        let wire = Wire::to(&worker(None), most, Fault::Stall);
        let got = step(&wire, short);
        assert_eq!((got.2.len(), got.3), (1, 2), "after {most} messages: {:?}", got.2);
        assert!(got.2[0].contains("nothing has come from it for 2 s"), "{:?}", got.2);
    }
    // Both are lost: this process goes on alone.
    let wires = [Wire::to(&one, 30, Fault::Cut), Wire::to(&worker(None), 40, Fault::Cut)];
    let addresses = wires.each_ref().map(|wire| wire.address.clone());
    let got = step_with(&addresses, &weights, &pictures, PATIENCE);
    assert_same_step(&got, &expected);
    assert_eq!((got.2.len(), got.3), (2, 1), "{:?}", got.2);
    assert!(got.2[1].contains("this process goes on alone"), "{:?}", got.2);
}

/// Says that it is a worker that is ready, then something, and then nothing; the rest it reads or not.
fn liar(said: Vec<u8>, reads: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let ready = br#"{"kind":"ready"}"#;
        let mut bytes = b"magpie\0\x03\0".to_vec();
        bytes.extend([0; 32]);
        bytes.push(1);
        bytes.extend((ready.len() as u64).to_le_bytes());
        bytes.extend(ready);
        bytes.extend([0; 4]);
        bytes.extend(said);
        let _ = stream.write_all(&bytes);
        let mut taken = [0; 1 << 12];
        while reads && stream.read(&mut taken).is_ok_and(|count| count > 0) {}
        std::thread::sleep(PATIENCE);
    });
    address
}

#[test]
fn a_peer_that_lies_is_given_up_and_the_step_is_that_of_the_whole_batch() {
    let device = Device::flex().autodiff();
    device.seed(11);
    let weights = Weights::from_module(&extractor().init(&device));
    let pictures = pictures(7);
    let network = || weights.clone().load_into(extractor().init(&device)).unwrap();
    let expected = alone(network(), &pictures, None);
    let one = worker(None);
    let head = |text: &str| {
        let mut bytes = vec![1];
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    let announced = |text: &str, count: u32, length: u64| {
        [&head(text)[..], &count.to_le_bytes(), &length.to_le_bytes()].concat()
    };
    let said = r#"{"kind":"said"}"#;
    for (bytes, told) in [
        (vec![7], "a byte 7"),
        ([&[1][..], &[0xff; 8]].concat(), "bytes of a head"),
        (announced(said, 1, u64::MAX), "a message of 18446744073709551615 bytes"),
        (announced(said, u32::MAX, 4), "a message of 4294967295 parts"),
        (announced(said, 1, 4), "nothing has come from it for 2 s"),
        ([&announced(said, 1, 4)[..], &[0; 4]].concat(), "statistics of another network"),
        (announced(r#"{"kind":"step"}"#, 0, 0), "no message of this run"),
        (announced(r#"{"kind":"gradients"}"#, 1, 4), "`gradients` came where `said`"),
        (announced(r#"{"kind":"failed","reason":"no memory left"}"#, 0, 0), "no memory left"),
        (Vec::new(), "nothing has come from it for 2 s"),
    ] {
        let addresses = [one.clone(), liar(bytes, true)];
        let got = step_with(&addresses, &weights, &pictures, Duration::from_secs(2));
        assert_same_step(&got, &expected);
        assert!(got.2.len() == 1 && got.2[0].contains(told), "{told}: {:?}", got.2);
    }
    let addresses = [one, liar(Vec::new(), false)];
    let got = step_with(&addresses, &weights, &pictures, Duration::from_secs(2));
    assert_same_step(&got, &expected);
    assert_eq!((got.2.len(), got.3), (1, 2), "{:?}", got.2);
}

#[test]
fn a_worker_with_a_secret_computes_for_those_who_know_it() {
    let secret = |text: &str| Some(Secret::of(text.as_bytes()));
    let open = |address: &str, secret: Option<Secret>| {
        let architecture = Architecture::Extractor(extractor());
        let trust = Trust { secret, tls: None };
        let addresses = [address.to_owned()];
        Hub::open(&[], &addresses, &architecture, 5, None, PATIENCE, &trust)
    };
    let (guarded, free) = (worker(secret("one that is long enough")), worker(None));
    let told = |result: Result<Hub, ReplicaError>| result.unwrap_err().to_string();
    let text = told(open(&guarded, None));
    assert!(
        text.ends_with("it asks for a secret; give --secret-file with the same file on both sides"),
        "{text}"
    );
    let text = told(open(&guarded, secret("another that is long")));
    assert!(text.contains("it has another secret"), "{text}");
    let text = told(open(&free, secret("one that is long enough")));
    assert!(text.contains("it was given no secret"), "{text}");
    // Several runs, one after another, and one at a time.
    for _ in 0..3 {
        let hub = open(&guarded, secret("one that is long enough")).unwrap();
        let text = told(open(&guarded, secret("one that is long enough")));
        assert!(text.contains("it serves another run"), "{text}");
        drop(hub);
    }
}
