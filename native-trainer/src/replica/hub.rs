//! The replica that all others talk to.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::image::RgbImage;
use models::image::resize;
use models::inference::{Network, Prepared};
use models::model_file::Architecture;
use models::operators::mixed::HalfFloat;
use models::operators::replicas::{self, Exchange};
use models::preprocess::Preprocess;
use models::weights::{NamedTensor, Weights};
use thiserror::Error;

use super::Replica;
use super::cost::MAX_REPLICAS;
use super::error::LinkError;
use super::link::Link;
use super::message::{Begin, MAX_WEIGHTS_HEAD, Message, Room};
use super::worker::{backward, host, receive_begin, serve};
use crate::embedding::Runs;

/// How long a connection may take.
const CONNECTED: Duration = Duration::from_secs(10);

/// Why a step was lost with a replica.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// More replicas than may share a batch.
    #[error("{0} replicas, where {MAX_REPLICAS} may share a batch; name fewer")]
    TooMany(usize),
    /// A worker is one replica.
    #[error("worker {0} is named twice; leave one out, or start one more on another --port")]
    Twice(String),
    /// A worker has another run to compute for.
    #[error("worker {address}: {source}")]
    Busy {
        /// As given.
        address: String,
        /// What it says.
        source: LinkError,
    },
    /// Nobody answers at an address.
    #[error("worker {address}: {source}; start it there with `magpie worker`")]
    Connect {
        /// As given.
        address: String,
        /// What is wrong.
        source: LinkError,
    },
    /// A replica that is lost or does not do as told.
    #[error(
        "{name}: {source}; the run goes on from its newest checkpoint with --resume, with these \
         workers or others"
    )]
    Lost {
        /// The replica.
        name: String,
        /// What is wrong.
        source: LinkError,
    },
}

/// The replicas of a run; see the [module above](super).
#[derive(Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peers: Mutex<Vec<Peer>>,
    /// Why a pass did not hear everybody.
    failure: Mutex<Option<ReplicaError>>,
    names: Vec<String>,
}

#[derive(Debug)]
struct Peer {
    name: String,
    link: Link,
}

impl Peer {
    fn lost(&self, source: LinkError) -> ReplicaError {
        ReplicaError::Lost { name: self.name.clone(), source }
    }

    fn send(&mut self, message: Message) -> Result<(), ReplicaError> {
        self.link.send(message).map_err(|error| self.lost(error))
    }

    /// Waits for a message of the wanted kind, with as much room as it needs and no more.
    fn expect<T>(
        &mut self,
        expected: &'static str,
        room: Room,
        wanted: impl FnOnce(Message) -> Result<T, Message>,
    ) -> Result<T, ReplicaError> {
        let received = self.link.receive(room.only(expected));
        let message = received.map_err(|error| self.lost(error))?;
        wanted(message)
            .map_err(|other| self.lost(LinkError::unexpected(expected, other.head().name())))
    }
}

/// The part of `count` things that falls to one of several replicas; the first ones get what is
/// left over.
pub fn share(count: usize, replicas: usize, index: usize) -> Range<usize> {
    let (each, left) = (count / replicas, count % replicas);
    let start = index * each + index.min(left);
    start..start + each + usize::from(index < left)
}

impl Hub {
    /// Starts a replica on each of the other `devices` of this machine and joins the workers at
    /// `addresses`, which are given up after `patience` without so much as a sign of life.
    ///
    /// # Errors
    ///
    /// Every [`ReplicaError`].
    pub fn open(
        devices: &[Device],
        addresses: &[String],
        architecture: &Architecture,
        seed: u64,
        mixed_precision: Option<HalfFloat>,
        patience: Duration,
    ) -> Result<Self, ReplicaError> {
        let replicas = devices.len() + addresses.len() + 1;
        if replicas > MAX_REPLICAS {
            return Err(ReplicaError::TooMany(replicas));
        }
        if let Some((_, twice)) = addresses
            .iter()
            .enumerate()
            .find(|(index, address)| addresses[..*index].contains(address))
        {
            return Err(ReplicaError::Twice(twice.clone()));
        }
        let mut peers: Vec<Peer> = Vec::new();
        let mut begin = |mut peer: Peer| {
            let seed = seed.wrapping_add(peers.len() as u64 + 1);
            let architecture = architecture.clone();
            let begin = Begin { architecture, seed, replicas, mixed_precision };
            peer.send(Message::Begin(Box::new(begin)))?;
            peers.push(peer);
            Ok(())
        };
        for (index, device) in devices.iter().enumerate() {
            let (link, mut far) = Link::pair();
            let device = device.clone();
            // It ends when this end of the link is dropped, and tells its errors through it. Its memory is
            // this process' own.
            std::thread::spawn(move || {
                let begin = receive_begin(&mut far)?;
                serve(far, begin, &device, u64::MAX)
            });
            begin(Peer { name: format!("device {}", index + 1), link })?;
        }
        for address in addresses {
            let link = connect(address).and_then(|stream| Link::over(stream, patience));
            let connect = |source| ReplicaError::Connect { address: address.clone(), source };
            begin(Peer { name: format!("worker {address}"), link: link.map_err(connect)? })?;
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            let ready = peer.expect("ready", Room::NONE, |message| match message {
                Message::Ready => Ok(()),
                other => Err(other),
            });
            ready.map_err(|error| match (error, index.checked_sub(devices.len())) {
                (ReplicaError::Lost { source: source @ LinkError::Busy, .. }, Some(worker)) => {
                    ReplicaError::Busy { address: addresses[worker].clone(), source }
                }
                (error, _) => error,
            })?;
        }
        let names = peers.iter().map(|peer| peer.name.clone()).collect();
        let failure = Mutex::new(None);
        Ok(Self(Arc::new(Inner { peers: Mutex::new(peers), failure, names })))
    }

    /// Replicas, this one included.
    pub fn replicas(&self) -> usize {
        self.0.names.len() + 1
    }

    /// The others, in words.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Runs a batch forward: `x` is this replica's part, `pictures`, of the input's size, are the
    /// others'.
    ///
    /// # Shapes
    ///
    /// - `x`: `[share, 3, height, width]`, normalized
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Lost`]
    pub fn forward(
        &self,
        network: &impl Replica,
        x: Tensor<4>,
        preprocess: &Preprocess,
        mut pictures: Vec<RgbImage>,
    ) -> Result<Pass, ReplicaError> {
        let (device, first) = (x.device(), x.dims()[0]);
        let all = first + pictures.len();
        let weights = Arc::new(Weights::from_module(network));
        let lengths = weights.tensors.iter();
        let lengths = lengths.map(|(path, tensor)| (path.clone(), tensor.values.len())).collect();
        for (index, peer) in self.peers().iter_mut().enumerate().rev() {
            let share = share(all, self.replicas(), index + 1);
            let pictures = pictures.split_off(share.start - first);
            let (weights, preprocess) = (weights.clone(), preprocess.clone());
            peer.send(Message::Step { weights, preprocess, pictures })?;
        }
        let exchange: Arc<dyn Exchange> = self.0.clone();
        let own = replicas::within(exchange, || network.outputs(x));
        self.0.take_failure()?;
        // Cut off: the losses' gradients stop there, and each replica takes them further.
        let widths: Vec<usize> = own.iter().map(|output| output.dims()[1]).collect();
        let mut parts: Vec<Vec<Tensor<2>>> =
            vec![own.iter().map(|output| output.clone().detach().require_grad()).collect()];
        for (index, peer) in self.peers().iter_mut().enumerate() {
            let rows = share(all, self.replicas(), index + 1).len();
            let room = Room::floats(widths.len(), rows * widths.iter().sum::<usize>());
            let values = peer.expect("outputs", room, |message| match message {
                Message::Outputs(values) => Ok(values),
                other => Err(other),
            })?;
            let fits = |(values, width): (&Vec<f32>, &usize)| values.len() == rows * width;
            if values.len() != widths.len() || !values.iter().zip(&widths).all(fits) {
                return Err(peer.lost(LinkError::malformed("outputs of another network")));
            }
            let tensor = |(values, width): (Vec<f32>, &usize)| {
                Tensor::from_data(TensorData::new(values, [rows, *width]), &device).require_grad()
            };
            parts.push(values.into_iter().zip(&widths).map(tensor).collect());
        }
        Ok(Pass { own, parts, lengths })
    }

    /// Takes a batch backward, from the losses' gradients: those of this replica's weights, and
    /// those of the others' by path.
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Lost`]
    pub fn backward(
        &self,
        pass: &Pass,
        gradients: &Gradients,
    ) -> Result<(Gradients, Vec<Weights>), ReplicaError> {
        let slopes = |part: &[Tensor<2>]| -> Vec<Vec<f32>> {
            let slope = |leaf: &Tensor<2>| match leaf.grad(gradients) {
                Some(slope) => host(slope),
                // An output that no loss looks at.
                None => vec![0.0; leaf.shape().num_elements()],
            };
            part.iter().map(slope).collect()
        };
        for (peer, part) in self.peers().iter_mut().zip(&pass.parts[1..]) {
            peer.send(Message::Backward(slopes(part)))?;
        }
        let own = backward(&pass.own, slopes(&pass.parts[0]))
            .map_err(|source| ReplicaError::Lost { name: "this process".to_owned(), source })?;
        self.0.take_failure()?;
        let values: usize = pass.lengths.values().sum();
        let mut room = Room::floats(1, values);
        room.bytes = room.bytes.saturating_add(MAX_WEIGHTS_HEAD);
        let gradients = |peer: &mut Peer| {
            let gradients = peer.expect("gradients", room, |message| match message {
                Message::Gradients(gradients) => Ok(gradients),
                other => Err(other),
            })?;
            let fits = |(path, tensor): (&String, &NamedTensor)| {
                pass.lengths.get(path).is_some_and(|length| *length == tensor.values.len())
            };
            if !gradients.tensors.iter().all(fits) {
                return Err(peer.lost(LinkError::malformed("gradients of another network")));
            }
            Ok(gradients)
        };
        Ok((own, self.peers().iter_mut().map(gradients).collect::<Result<_, _>>()?))
    }

    fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.0.peers()
    }
}

/// To the first of an address' places that answers.
fn connect(address: &str) -> Result<TcpStream, LinkError> {
    let mut refused = std::io::ErrorKind::NotFound.into();
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, CONNECTED) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(LinkError::from(refused).timed(CONNECTED.as_secs()))
}

impl Inner {
    fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_failure(&self) -> Result<(), ReplicaError> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn gather(&self, own: &[f32]) -> Result<Vec<Vec<f32>>, ReplicaError> {
        let mut peers = self.peers();
        let mut all = vec![own.to_vec()];
        for peer in peers.iter_mut() {
            let said =
                peer.expect("said", Room::floats(1, own.len()), |message| match message {
                    Message::Said(values) => Ok(values),
                    other => Err(other),
                })?;
            if said.len() != own.len() {
                return Err(peer.lost(LinkError::malformed("statistics of another network")));
            }
            all.push(said);
        }
        let all = Arc::new(all);
        for peer in peers.iter_mut() {
            peer.send(Message::Gathered(all.clone()))?;
        }
        Ok(Arc::unwrap_or_clone(all))
    }
}

impl Exchange for Inner {
    fn gather(&self, values: Vec<f32>) -> Vec<Vec<f32>> {
        // After a failure the rest of the pass is for nothing, and nobody is waited for.
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            match Self::gather(self, &values) {
                Ok(all) => return all,
                Err(error) => *failure = Some(error),
            }
        }
        vec![values]
    }
}

/// A network that is evaluated, by all replicas where there are others.
#[derive(Debug)]
pub struct Runner<'a, N: Network> {
    prepared: Prepared<N>,
    hub: Option<&'a Hub>,
}

impl<'a, N: Replica> Runner<'a, N> {
    /// Of a network in training or outside it.
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Lost`]
    pub fn new(
        network: &N,
        preprocess: &Preprocess,
        device: &Device,
        hub: Option<&'a Hub>,
    ) -> Result<Self, ReplicaError> {
        if let Some(hub) = hub {
            let weights = Arc::new(Weights::from_module(network));
            for peer in hub.peers().iter_mut() {
                let (weights, preprocess) = (weights.clone(), preprocess.clone());
                peer.send(Message::Prepare { weights, preprocess })?;
            }
        }
        Ok(Self { prepared: Prepared::new(&network.valid(), preprocess, device), hub })
    }
}

impl<N: Replica> Runs for Runner<'_, N> {
    fn answers(&self, images: &[RgbImage]) -> anyhow::Result<Vec<f32>> {
        use rayon::prelude::*;
        let Some(hub) = self.hub else { return self.prepared.answers(images) };
        let Preprocess { width, height, filter, .. } = *self.prepared.preprocess();
        let share = |index: usize| share(images.len(), hub.replicas(), index);
        let mut peers = hub.peers();
        for (index, peer) in peers.iter_mut().enumerate() {
            // A picture of the input's size stays as it is: much less to send, the same numbers.
            let small = images[share(index + 1)].par_iter();
            let small = small.map(|image| resize(image, width, height, filter));
            peer.send(Message::Run(small.collect()))?;
        }
        let own = &images[share(0)];
        let mut values = self.prepared.answers(own)?;
        let per_image = values.len() / own.len().max(1);
        for (index, peer) in peers.iter_mut().enumerate() {
            let expected = share(index + 1).len() * per_image;
            let answer =
                peer.expect("values", Room::floats(1, expected), |message| match message {
                    Message::Values(values) => Ok(values),
                    other => Err(other),
                })?;
            if answer.len() != expected {
                Err(peer.lost(LinkError::malformed("answers of another network")))?;
            }
            values.extend(answer);
        }
        Ok(values)
    }
}

/// A batch that was run forward by all replicas.
#[derive(Debug)]
pub struct Pass {
    /// This replica's outputs, in its graph.
    own: Vec<Tensor<2>>,
    /// Every replica's outputs, this one's first, in the losses' graph.
    parts: Vec<Vec<Tensor<2>>>,
    /// Values of every tensor of the network.
    lengths: BTreeMap<String, usize>,
}

impl Pass {
    /// The outputs for the whole batch, which the losses are computed from.
    pub fn outputs(&self) -> Vec<Tensor<2>> {
        let output = |index: usize| {
            Tensor::cat(self.parts.iter().map(|part| part[index].clone()).collect(), 0)
        };
        (0..self.own.len()).map(output).collect()
    }
}
