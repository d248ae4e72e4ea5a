//! A network that is evaluated, by all replicas together.

use std::sync::Arc;

use burn::tensor::Device;
use models::image::{RgbImage, resize};
use models::inference::{Network, Prepared};
use models::preprocess::Preprocess;
use models::weights::Weights;

use super::Replica;
use super::error::{LinkError, ReplicaError};
use super::hub::{Hub, share};
use super::join::Peer;
use super::message::{Message, Room};
use crate::embedding::Runs;

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
            let prepare = |peer: &mut Peer| {
                let (weights, preprocess) = (weights.clone(), preprocess.clone());
                peer.send(Message::Prepare { weights, preprocess }).err()
            };
            let lost: Vec<ReplicaError> = hub.peers().iter_mut().filter_map(prepare).collect();
            for error in &lost {
                hub.go_on_without(error);
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
        let mut peers = hub.peers();
        let replicas = peers.len() + 1;
        let share = |index: usize| share(images.len(), replicas, index);
        let mut lost: Vec<Option<ReplicaError>> = Vec::with_capacity(peers.len());
        for (index, peer) in peers.iter_mut().enumerate() {
            // A picture of the input's size stays as it is: much less to send, the same numbers.
            let small = images[share(index + 1)].par_iter();
            let small = small.map(|image| resize(image, width, height, filter));
            lost.push(peer.send(Message::Run(small.collect())).err());
        }
        let own = &images[share(0)];
        let mut values = self.prepared.answers(own)?;
        let per_image = values.len() / own.len().max(1);
        for (index, peer) in peers.iter_mut().enumerate() {
            let part = share(index + 1);
            let answer = match lost[index].take() {
                Some(error) => Err(error),
                None => answer(peer, part.len() * per_image),
            };
            match answer {
                Ok(answer) => values.extend(answer),
                Err(error) => {
                    // Its part is computed here.
                    lost[index] = Some(error);
                    values.extend(self.prepared.answers(&images[part])?);
                }
            }
        }
        drop(peers);
        for error in lost.iter().flatten() {
            hub.go_on_without(error);
        }
        Ok(values)
    }
}

/// A replica's answers to pictures, of that many values.
fn answer(peer: &mut Peer, expected: usize) -> Result<Vec<f32>, ReplicaError> {
    let answer = peer.expect("values", Room::floats(1, expected), |message| match message {
        Message::Values(values) => Ok(values),
        other => Err(other),
    })?;
    if answer.len() != expected {
        return Err(peer.lost(LinkError::malformed("answers of another network")));
    }
    Ok(answer)
}
