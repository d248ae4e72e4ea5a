//! The replica that all others talk to.

use std::net::TcpStream;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::image::RgbImage;
use models::kernels::mixed::HalfFloat;
use models::kernels::replicas::{self, Exchange};
use models::model_file::Architecture;
use models::prepared::Prepared;
use models::preprocess::{Preprocess, resize};
use models::weights::Weights;
use thiserror::Error;

use super::Replica;
use super::link::{Link, LinkError};
use super::message::Message;
use super::worker::{backward, host, serve};
use crate::embedding::Runs;

/// Why a step was lost with a replica.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplicaError {
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

    /// Waits for a message of the wanted kind.
    fn expect<T>(
        &mut self,
        expected: &'static str,
        wanted: impl FnOnce(Message) -> Result<T, Message>,
    ) -> Result<T, ReplicaError> {
        let message = self.link.receive().map_err(|error| self.lost(error))?;
        wanted(message)
            .map_err(|other| self.lost(LinkError::Unexpected { expected, got: other.name() }))
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
    /// `addresses`.
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Connect`], [`ReplicaError::Lost`]
    pub fn open(
        devices: &[Device],
        addresses: &[String],
        architecture: &Architecture,
        seed: u64,
        mixed_precision: Option<HalfFloat>,
    ) -> Result<Self, ReplicaError> {
        let mut peers = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            let (link, far) = Link::pair();
            let device = device.clone();
            // It ends when this end of the link is dropped, and tells its errors through it.
            std::thread::spawn(move || serve(far, &device));
            peers.push(Peer { name: format!("device {}", index + 1), link });
        }
        for address in addresses {
            let connected = TcpStream::connect(address).map_err(LinkError::from);
            let link = connected.and_then(Link::over);
            let connect = |source| ReplicaError::Connect { address: address.clone(), source };
            peers.push(Peer { name: format!("worker {address}"), link: link.map_err(connect)? });
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            let seed = seed.wrapping_add(index as u64 + 1);
            let architecture = architecture.clone();
            peer.send(Message::Begin { architecture, seed, mixed_precision })?;
        }
        for peer in &mut peers {
            peer.expect("ready", |message| match message {
                Message::Ready => Ok(()),
                other => Err(other),
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

    /// The others, for people.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Runs a batch forward: `x` is this replica's part, `pictures`, of the input's size, are the
    /// others'.
    ///
    /// # Shapes
    ///
    /// - `x`: `[share, 3, height, width]`, normalised
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
            let values = peer.expect("outputs", |message| match message {
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
        Ok(Pass { own, parts })
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
        let gradients = |peer: &mut Peer| {
            peer.expect("gradients", |message| match message {
                Message::Gradients(gradients) => Ok(gradients),
                other => Err(other),
            })
        };
        Ok((own, self.peers().iter_mut().map(gradients).collect::<Result<_, _>>()?))
    }

    fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.0.peers()
    }
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
            let said = peer.expect("said", |message| match message {
                Message::Said(values) if values.len() == own.len() => Ok(values),
                other => Err(other),
            })?;
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
pub struct Runner<'a, N> {
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
            let answer = peer.expect("values", |message| match message {
                Message::Values(values) => Ok(values),
                other => Err(other),
            })?;
            if answer.len() != share(index + 1).len() * per_image {
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
