//! The replica that all others talk to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::image::RgbImage;
use models::model_file::Architecture;
use models::operators::mixed::HalfFloat;
use models::operators::replicas::{self, Exchange};
use models::preprocess::Preprocess;
use models::weights::{NamedTensor, Weights};

use super::Replica;
use super::cost::MAX_REPLICAS;
use super::error::{LinkError, ReplicaError};
use super::join::{Invitation, Peer};
use super::link::Link;
use super::message::{MAX_WEIGHTS_HEAD, Message, Room};
use super::trust::Trust;
use super::worker::{backward, host, receive_begin, serve};

/// What is told at most between two steps.
const TOLD: usize = 100;
/// Between two calls to a worker that was lost.
const AGAIN: Duration = Duration::from_secs(2);

/// The replicas of a run; see the [module above](super).
#[derive(Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    invitation: Arc<Invitation>,
    /// In the order of their places.
    peers: Mutex<Vec<Peer>>,
    /// Workers that were lost and wait for their places.
    back: Mutex<Vec<Peer>>,
    /// Why a pass did not hear everybody.
    failure: Mutex<Option<ReplicaError>>,
    /// Those that the run began with.
    names: Vec<String>,
    /// Who was lost and who came back, in words that nobody has taken yet.
    told: Mutex<Vec<String>>,
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
        trust: &Trust,
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
        let (architecture, trust) = (architecture.clone(), trust.clone());
        let invitation = Invitation { architecture, seed, mixed_precision, patience, trust };
        let mut peers: Vec<Peer> = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            let (link, mut far) = Link::pair();
            let device = device.clone();
            // It ends when this end of the link is dropped, and tells its errors through it. Its memory is
            // this process' own.
            std::thread::spawn(move || {
                let begin = receive_begin(&mut far)?;
                serve(far, begin, &device, u64::MAX)
            });
            let name = format!("device {}", index + 1);
            let mut peer = Peer { place: index + 1, name, address: None, link };
            peer.send(invitation.begin(peer.place, replicas))?;
            peers.push(peer);
        }
        for address in addresses {
            let place = peers.len() + 1;
            let mut peer = Peer::worker(place, address, invitation.call(address)?);
            peer.send(invitation.begin(place, replicas))?;
            peers.push(peer);
        }
        peers.iter_mut().try_for_each(Peer::ready)?;
        Ok(Self(Arc::new(Inner {
            invitation: Arc::new(invitation),
            names: peers.iter().map(|peer| peer.name.clone()).collect(),
            peers: Mutex::new(peers),
            back: Mutex::default(),
            failure: Mutex::new(None),
            told: Mutex::default(),
        })))
    }

    /// Replicas that are left, this one included.
    pub fn replicas(&self) -> usize {
        self.peers().len() + 1
    }

    /// The others that the run began with, in words.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Who was lost and who came back since the last call, in words.
    pub fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives up a replica that is lost, and calls the others back from what they do: the step is to be taken anew, with
    /// the weights, statistics and memories of before it. `false` where the error is another one.
    pub fn go_on_without(&self, error: &ReplicaError) -> bool {
        let ReplicaError::Lost { name, source } = error else { return false };
        let mut peers = self.peers();
        let Some(place) = peers.iter().position(|peer| peer.name == *name) else { return false };
        let mut lost = vec![(peers.remove(place), source.to_string())];
        lost.extend(regroup(&mut peers));
        let replicas = peers.len() + 1;
        drop(peers);
        let _ = self.0.take_failure();
        self.tell_lost(lost, replicas);
        true
    }

    /// Lets workers that were lost and have come back take their places again: between two epochs, when none computes.
    pub fn admit(&self) {
        let back = std::mem::take(&mut *self.0.back.lock().unwrap_or_else(PoisonError::into_inner));
        if back.is_empty() {
            return;
        }
        let places: Vec<usize> = back.iter().map(|peer| peer.place).collect();
        let mut peers = self.peers();
        peers.extend(back);
        // The sums of a step are taken in this order: it is that of the run's start.
        peers.sort_by_key(|peer| peer.place);
        let lost = regroup(&mut peers);
        let replicas = peers.len() + 1;
        let joined = peers.iter().filter(|peer| places.contains(&peer.place));
        let joined: Vec<String> = joined.map(|peer| peer.name.clone()).collect();
        drop(peers);
        for name in joined {
            self.0.tell(format!(
                "{name} has joined again, and {replicas} replicas share a batch from now on"
            ));
        }
        self.tell_lost(lost, replicas);
    }

    /// Says who was lost and why, and sees to it that workers of these are called again.
    fn tell_lost(&self, lost: Vec<(Peer, String)>, replicas: usize) {
        let left = match replicas {
            1 => "this process goes on alone".to_owned(),
            some => {
                format!("its part is taken over, and {some} replicas share a batch from now on")
            }
        };
        for (Peer { place, name, address, link }, reason) in lost {
            self.0.tell(format!("{name} is lost: {reason}; {left}"));
            // Closed before it is called again.
            drop(link);
            if let Some(address) = address {
                call_again(Arc::downgrade(&self.0), place, address);
            }
        }
    }

    /// Runs a batch forward: `x` is this replica's part, `pictures`, of the input's size, are the
    /// others'. Where these have become fewer, this one takes some of the pictures, too.
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
        pictures: &[RgbImage],
    ) -> Result<Pass, ReplicaError> {
        let (device, first) = (x.device(), x.dims()[0]);
        let replicas = self.replicas();
        let more = share(first + pictures.len(), replicas, 0).len().saturating_sub(first);
        // Without others all of them.
        let more = if replicas == 1 { pictures.len() } else { more };
        let (here, pictures) = pictures.split_at(more.min(pictures.len()));
        let x = if here.is_empty() {
            x
        } else {
            let mut pixels = Vec::with_capacity(here.len() * preprocess.values());
            here.iter().for_each(|picture| preprocess.append(picture, &mut pixels));
            Tensor::cat(vec![x, preprocess.batch(pixels, &device)], 0)
        };
        let part = |index: usize| share(pictures.len(), (replicas - 1).max(1), index);
        let weights = Arc::new(Weights::from_module(network));
        let lengths = weights.tensors.iter();
        let lengths = lengths.map(|(path, tensor)| (path.clone(), tensor.values.len())).collect();
        for (index, peer) in self.peers().iter_mut().enumerate() {
            let pictures = pictures[part(index)].to_vec();
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
            let rows = part(index).len();
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

    pub(super) fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.0.peers()
    }
}

/// Tells all others how many share a batch, until those that are left have heard it; whoever has not is lost.
fn regroup(peers: &mut Vec<Peer>) -> Vec<(Peer, String)> {
    let mut lost = Vec::new();
    loop {
        let replicas = peers.len() + 1;
        let failed = peers.iter_mut().enumerate().find_map(|(place, peer)| {
            peer.regroup(replicas).err().map(|error| (place, error.to_string()))
        });
        let Some((place, reason)) = failed else { return lost };
        lost.push((peers.remove(place), reason));
    }
}

impl Inner {
    fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that was lost waits for its place.
    pub(super) fn came_back(&self, peer: Peer) {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
    }

    /// Notes what is to be told between two steps.
    pub(super) fn tell(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            told.push(text);
        }
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

/// Calls a worker that was lost until it is there again, or the run is over.
fn call_again(run: Weak<Inner>, place: usize, address: String) {
    let spawned = std::thread::Builder::new().name("call again".to_owned()).spawn(move || {
        let mut told = String::new();
        loop {
            std::thread::sleep(AGAIN);
            let Some(invitation) = run.upgrade().map(|run| run.invitation.clone()) else { return };
            let joined = invitation.join(place, &address);
            let Some(run) = run.upgrade() else { return };
            match joined {
                Ok(peer) => return run.came_back(peer),
                // Not there yet, or gone again before it was ready.
                Err(ReplicaError::Connect { .. }) => (),
                Err(error) => {
                    let reason = error.reason();
                    if reason != told {
                        run.tell(format!(
                            "worker {address} is there again and cannot join: {reason}; it is asked again until it can"
                        ));
                        told = reason;
                    }
                }
            }
        }
    });
    // Without a thread it stays lost.
    drop(spawned);
}
