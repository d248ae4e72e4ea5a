//! Somebody who speaks the protocol of `magpie worker`, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use models::backbone::BackboneConfig;
use models::backbone::PpLcNetConfig;
use models::extractor::ExtractorConfig;
use models::model_file::Architecture;
use models::weights::{Precision, Weights};
use serde_json::{Value, json};

const GREETING: &[u8; 8] = b"magpie\0\x02";

pub(crate) struct Stranger {
    stream: TcpStream,
    blobs: Vec<Vec<u8>>,
}

/// A small backbone of another scale.
pub(crate) fn backbone(scale: f64) -> BackboneConfig {
    BackboneConfig::PpLcNet(PpLcNetConfig {
        scale,
        class_expand: Some(32),
        dropout: 0.0,
        fused: false,
    })
}

pub(crate) fn begin(backbone: BackboneConfig) -> Value {
    begin_with(&Architecture::Extractor(ExtractorConfig { backbone, neck: None }))
}

pub(crate) fn begin_with(architecture: &Architecture) -> Value {
    json!({"kind": "begin", "architecture": architecture, "seed": 1, "replicas": 2})
}

pub(crate) fn step(side: u32) -> Value {
    json!({"kind": "step", "preprocess": {"width": side, "height": side, "filter": "antialiased",
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}})
}

/// A picture as it is sent.
pub(crate) fn picture(side: u32) -> Vec<u8> {
    let values = (0..side * side * 3).map(|i| (i * 37 % 256) as u8);
    [side.to_le_bytes(), side.to_le_bytes()].concat().into_iter().chain(values).collect()
}

/// Weights of the network as they are sent.
pub(crate) fn weights(scale: f64) -> Vec<u8> {
    let config = ExtractorConfig { backbone: backbone(scale), neck: None };
    weights_of(&Architecture::Extractor(config))
}

pub(crate) fn weights_of(architecture: &Architecture) -> Vec<u8> {
    let device = burn::tensor::Device::flex();
    let weights = match architecture {
        Architecture::Extractor(config) => Weights::from_module(&config.init(&device)),
        detector => Weights::from_module(&detector.detector(&device).expect("a detector")),
    };
    weights.to_bytes(Precision::F32, None).expect("bytes")
}

/// A message with its tag.
pub(crate) fn message(head: &Value, blobs: &[Vec<u8>]) -> Vec<u8> {
    let head = head.to_string().into_bytes();
    let mut bytes = vec![1];
    bytes.extend((head.len() as u64).to_le_bytes());
    bytes.extend(head);
    bytes.extend((blobs.len() as u32).to_le_bytes());
    for blob in blobs {
        bytes.extend((blob.len() as u64).to_le_bytes());
        bytes.extend(blob);
    }
    bytes
}

impl Stranger {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a worker");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time limit");
        Self { stream, blobs: Vec::new() }
    }

    pub(crate) fn greeted(address: &str) -> Self {
        let mut stranger = Self::connect(address);
        stranger.say(GREETING);
        let mut greeting = [0; 8];
        stranger.stream.read_exact(&mut greeting).expect("a greeting");
        assert_eq!(&greeting, GREETING);
        stranger
    }

    /// Where nobody takes it any more, that is so.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn number<const N: usize>(&mut self) -> usize {
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes[..N]).expect("a number");
        u64::from_le_bytes(bytes) as usize
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.number::<8>()];
        self.stream.read_exact(&mut bytes).expect("as many bytes");
        bytes
    }

    /// The head of the next message.
    pub(crate) fn hears(&mut self) -> Value {
        while self.number::<1>() == 0 {}
        let head = self.bytes();
        self.blobs = (0..self.number::<4>()).map(|_| self.bytes()).collect();
        serde_json::from_slice(&head).expect("a head")
    }

    /// A whole step, forwards and backwards.
    pub(crate) fn step(&mut self, side: u32, pictures: usize) {
        self.step_of(weights(0.25), side, pictures);
    }

    pub(crate) fn step_of(&mut self, weights: Vec<u8>, side: u32, pictures: usize) {
        let mut blobs = vec![picture(side); pictures];
        blobs.push(weights);
        self.say(&message(&step(side), &blobs));
        drop(blobs);
        loop {
            let head = self.hears();
            match head["kind"].as_str() {
                Some("said") => {
                    let all = [self.blobs[0].clone(), self.blobs[0].clone()];
                    self.say(&message(&json!({"kind": "gathered"}), &all));
                }
                Some("outputs") => {
                    let slopes: Vec<Vec<u8>> = self.blobs.clone();
                    self.say(&message(&json!({"kind": "backward"}), &slopes));
                }
                Some("gradients") => return,
                _ => panic!("{head}"),
            }
        }
    }

    /// How many pictures a step may have, as the worker says when it is offered more.
    pub(crate) fn most_pictures(&mut self, side: u32) -> usize {
        let mut bytes = message(&step(side), &[]);
        bytes.truncate(bytes.len() - 4);
        bytes.extend(u32::MAX.to_le_bytes());
        self.say(&bytes);
        let answer = self.hears();
        let reason = answer["reason"].as_str().expect("a reason");
        let (_, rest) = reason.split_once("where ").expect("a limit");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        // The weights are a part as well.
        digits.parse::<usize>().expect("a number") - 1
    }
}
