//! Workers that are lost on the way, peers that lie, strangers: the step stays that of one device.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Device;
use models::image::RgbImage;
use models::inference::Prepared;
use models::model_file::Architecture;
use models::preprocess::Preprocess;
use models::weights::Weights;

use super::super::trust::{NONCE, Side};
use super::super::worker::collect;
use super::super::{Hub, ReplicaError, Runner, Secret, Terms, Trust, listen, share};
use super::{PATIENCE, SIDE, alone, apart, extractor, loss, pictures};
use crate::embedding::Runs;

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
    /// Whoever calls a second time hears nothing.
    fn to(worker: &str, most: usize, fault: Fault) -> Self {
        Self::one_after_another(vec![(worker.to_owned(), most)], fault)
    }

    /// Leads each connection to the next worker, for as many messages.
    fn one_after_another(workers: Vec<(String, usize)>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let messages = Arc::new(AtomicUsize::new(0));
        let counted = messages.clone();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for (worker, most) in workers {
                let (near, _) = listener.accept().unwrap();
                let far = TcpStream::connect(worker).unwrap();
                let is_broken = Arc::new(AtomicBool::new(false));
                counted.store(0, Ordering::SeqCst);
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
                held.push((near, far));
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

fn hub(addresses: &[String], patience: Duration) -> Hub {
    let architecture = Architecture::Extractor(extractor());
    Hub::open(&[], addresses, &architecture, 5, None, patience, &Trust::default()).unwrap()
}

/// A step by this process and workers, some of which may be lost on the way: its gradients, and the network behind it.
fn step_of(hub: &Hub, weights: &Weights, pictures: &[RgbImage]) -> (Weights, Weights) {
    let device = Device::flex().autodiff();
    let preprocess = Preprocess::square(SIDE);
    let own = share(pictures.len(), hub.replicas(), 0).end;
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
    let mut sums = collect(&network, &first);
    for (path, tensor) in parts.into_iter().flat_map(|part| part.tensors) {
        let sum = sums.tensors.get_mut(&path).expect("the same parameters");
        sum.values.iter_mut().zip(&tensor.values).for_each(|(sum, value)| *sum += value);
    }
    (sums, Weights::from_module(&network))
}

/// The same, then an evaluation; with who was lost and how many are left.
fn step_with(
    addresses: &[String],
    weights: &Weights,
    pictures: &[RgbImage],
    patience: Duration,
) -> (Weights, Weights, Vec<String>, usize) {
    let device = Device::flex().autodiff();
    let preprocess = Preprocess::square(SIDE);
    let hub = hub(addresses, patience);
    let (sums, network) = step_of(&hub, weights, pictures);
    let fresh = || weights.clone().load_into(extractor().init(&device)).unwrap();
    let runner = Runner::new(&fresh(), &preprocess, &device, Some(&hub)).unwrap();
    let single = Prepared::new(&fresh().valid(), &preprocess, &device);
    assert!(runner.answers(pictures).unwrap() == single.answers(pictures).unwrap());
    let told = hub.take_told();
    (sums, network, told, hub.replicas())
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

/// Waits until as many share a batch, as between two epochs; what was told meanwhile.
fn admitted(hub: &Hub, replicas: usize) -> Vec<String> {
    let began = Instant::now();
    let mut told = Vec::new();
    while hub.replicas() < replicas {
        assert!(began.elapsed() < PATIENCE, "nobody came back: {told:?}");
        std::thread::sleep(Duration::from_millis(50));
        hub.admit();
        told.extend(hub.take_told());
    }
    told
}

/// After a worker was cut off, and after a wrong one at its address was turned away, steps are those of a run that has
/// lost nobody, bit for bit.
#[test]
fn a_worker_that_comes_back_takes_its_place_again() {
    let device = Device::flex().autodiff();
    device.seed(11);
    let weights = Weights::from_module(&extractor().init(&device));
    let pictures = pictures(7);
    let untouched = step_of(&hub(&[worker(None), worker(None)], PATIENCE), &weights, &pictures);

    let (one, other) = (worker(None), worker(None));
    let guarded = worker(Some(Secret::of(b"one that is long enough")));
    let targets = vec![(one, 30), (guarded, usize::MAX), (other, usize::MAX)];
    let wire = Wire::one_after_another(targets, Fault::Cut);
    // The first of two, so that its place is not that of whoever comes last.
    let hub = hub(&[wire.address.clone(), worker(None)], PATIENCE);
    step_of(&hub, &weights, &pictures);
    let told = hub.take_told();
    assert!(told.len() == 1 && told[0].contains("is lost: "), "{told:?}");
    assert_eq!(hub.replicas(), 2);
    let told = admitted(&hub, 3);
    let name = format!("worker {}", wire.address);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0]
            .starts_with(&format!("{name} is there again and cannot join: it asks for a secret")),
        "{told:?}"
    );
    assert_eq!(
        told[1],
        format!("{name} has joined again, and 3 replicas share a batch from now on")
    );
    let again = step_of(&hub, &weights, &pictures);
    assert!(again == untouched, "the step of a run that has lost nobody");
}

/// One that is there again and lies is lost again; whoever was alone is not alone any more.
#[test]
fn a_worker_that_comes_back_may_be_lost_again() {
    let device = Device::flex().autodiff();
    device.seed(11);
    let weights = Weights::from_module(&extractor().init(&device));
    let pictures = pictures(7);
    let network = || weights.clone().load_into(extractor().init(&device)).unwrap();
    let expected = alone(network(), &pictures, None);
    let targets = vec![(worker(None), 30), (worker(None), 30), (worker(None), usize::MAX)];
    let wire = Wire::one_after_another(targets, Fault::Cut);
    let hub = hub(std::slice::from_ref(&wire.address), PATIENCE);
    for left in [1, 1, 2] {
        let (sums, network) = step_of(&hub, &weights, &pictures);
        assert_eq!(hub.replicas(), left);
        assert_same_step(&(sums, network, hub.take_told(), left), &expected);
        let told = if left == 1 { admitted(&hub, 2) } else { Vec::new() };
        assert!(told.iter().all(|text| text.contains("has joined again")), "{told:?}");
    }
}

/// A guest who has begun to greet is waited for, however many strangers come from elsewhere, and however many come from its
/// own machine and say nothing.
#[cfg(target_os = "linux")]
#[test]
fn strangers_in_a_hurry_push_out_no_guest_that_is_slow() {
    let secret = Secret::of(b"one that is long enough");
    let address: SocketAddr = worker(Some(secret.clone())).parse().unwrap();
    let mut guest = TcpStream::connect(address).unwrap();
    guest.set_read_timeout(Some(PATIENCE)).unwrap();
    let own = [7; NONCE];
    guest.write_all(b"magpie\0\x03\x01").unwrap();
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stranger = |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        runtime.block_on(socket.connect(address)).unwrap()
    };
    let mut held = Vec::new();
    while began.elapsed() < Duration::from_secs(3) {
        let elsewhere = stranger("127.0.0.2");
        // It may have been pushed out already.
        let _ = elsewhere.try_write(b"magpie\0\x03\x01");
        held.extend([elsewhere, stranger("127.0.0.1")]);
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(held.len() > 64, "{} strangers", held.len());
    guest.write_all(&own).unwrap();
    let mut greeting = [0; 9 + NONCE];
    guest.read_exact(&mut greeting).unwrap();
    let mut theirs = [0; NONCE];
    theirs.copy_from_slice(&greeting[9..]);
    guest.write_all(&secret.proof(Side::Trainer, &[own, theirs])).unwrap();
    let mut proof = [0; NONCE];
    guest.read_exact(&mut proof).unwrap();
    assert!(secret.is_proof(Side::Worker, &[own, theirs], &proof));
    drop(held);
}
