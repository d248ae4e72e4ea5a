//! Damaged messages between a trainer and a worker, from either side.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use burn::tensor::Device;
use models::backbone::BackboneConfig;
use models::backbone::PpLcNetConfig;
use models::extractor::ExtractorConfig;
use models::image::RgbImage;
use models::model_file::Architecture;
use models::preprocess::Preprocess;
use native_trainer::embedding::Runs;
use native_trainer::replica::{Hub, Runner, Terms, Trust, listen};

use crate::damage::fuzz_within;

const PATIENCE: Duration = Duration::from_secs(10);
/// Mebibytes that a run may take.
const MEMORY: u64 = 100;

/// The smallest network, so that many sessions fit into a second.
fn network() -> ExtractorConfig {
    let scale = 0.031_25;
    let config = PpLcNetConfig { scale, class_expand: Some(2), dropout: 0.0, fused: false };
    ExtractorConfig { backbone: BackboneConfig::PpLcNet(config), neck: None }
}

/// Where a worker listens, and what it tells.
fn start() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    spawn(move || {
        let terms = Terms { memory: MEMORY << 20, patience: PATIENCE, secret: None, tls: None };
        listen(&listener, &Device::flex(), terms, move |text| {
            tells.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        })
    });
    (address, told)
}

/// A step and an evaluation shared with whoever listens there.
fn train(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let (config, preprocess) = (network(), Preprocess::square(8));
    let network = config.init(&device);
    let architecture = Architecture::Extractor(config);
    let picture = |shade: u8| RgbImage::from_rgb(8, 8, vec![shade; 192]);
    let pictures = [picture(10)?, picture(200)?];
    let trust = Trust::default();
    let hub = Hub::open(&[], &[address.to_string()], &architecture, 5, None, PATIENCE, &trust)?;
    let x = preprocess.apply(&pictures[..1], &device);
    let pass = hub.forward(&network, x, &preprocess, &pictures[1..])?;
    let squares = pass.outputs().into_iter().map(|output| (output.clone() * output).sum());
    let loss = squares.reduce(|a, b| a + b).ok_or("outputs")?;
    hub.backward(&pass, &loss.backward())?;
    let runner = Runner::new(&network, &preprocess, &device, Some(&hub))?;
    runner.answers(&pictures)?;
    Ok(())
}

/// Hands everything on, and keeps it.
fn pass_on(mut from: TcpStream, mut to: TcpStream) -> JoinHandle<Vec<u8>> {
    spawn(move || {
        let (mut all, mut buffer) = (Vec::new(), [0; 1 << 14]);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
            let _ = to.write_all(&buffer[..count]);
        }
        let _ = to.shutdown(Shutdown::Write);
        all
    })
}

/// What a trainer and a worker say to each other.
fn recorded() -> (Vec<u8>, Vec<u8>) {
    let (worker, _) = start();
    let between = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = between.local_addr().expect("an address");
    let both = spawn(move || {
        let (near, _) = between.accept().expect("a trainer");
        let far = TcpStream::connect(worker).expect("a worker");
        let again = |stream: &TcpStream| stream.try_clone().expect("a handle");
        let (said, answered) = (pass_on(again(&near), again(&far)), pass_on(far, near));
        (said.join().expect("recorded"), answered.join().expect("recorded"))
    });
    train(address).expect("a good session");
    both.join().expect("recorded")
}

#[test]
fn messages_to_workers() {
    let (said, _) = recorded();
    let begun = said.windows(8).position(|bytes| bytes == b"\"step\",\"").expect("a step");
    let (worker, told) = start();
    // The second one is the beginning alone, which is damaged more often then.
    fuzz_within(2 * MEMORY, &[said.clone(), said[..begun].to_vec()], |bytes| {
        let mut stream = TcpStream::connect(worker).expect("a worker");
        stream.set_read_timeout(Some(2 * PATIENCE)).expect("a time limit");
        // A worker that has heard enough closes the connection.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            let kind = error.kind();
            assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "the worker hangs");
        }
        let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(!told.iter().any(|text| text.contains("broke off")), "{told:?}");
    });
    train(worker).expect("it serves on");
}

#[test]
fn messages_from_workers() {
    let (_, answered) = recorded();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(Mutex::new(Vec::new()));
    let said = answer.clone();
    spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a trainer");
            let bytes = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut hears = stream.try_clone().expect("a handle");
            spawn(move || std::io::copy(&mut hears, &mut std::io::sink()));
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    fuzz_within(MEMORY, std::slice::from_ref(&answered), |bytes| {
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
        let _ = train(address);
    });
}
