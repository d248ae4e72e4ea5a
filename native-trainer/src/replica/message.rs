//! What replicas say to each other, and its bytes.
//!
//! A message on the wire is a JSON head of what is small, and blobs of what is not: tensors as
//! safetensors or little-endian floats, pictures as their size and their pixels. All lengths come
//! first and are capped; memory is taken as bytes arrive, so that a length that lies costs nothing.

use std::io::{Read, Write};
use std::sync::Arc;

use models::image::RgbImage;
use models::kernels::mixed::HalfFloat;
use models::model_file::Architecture;
use models::preprocess::Preprocess;
use models::weights::{Precision, Weights};
use serde::{Deserialize, Serialize};

use super::link::LinkError;

/// Bytes of a head.
const MAX_HEAD: u64 = 1 << 20;
/// Blobs of a message: pictures of a batch.
const MAX_BLOBS: u32 = 1 << 16;
/// Bytes of a blob: a network's weights.
const MAX_BLOB: u64 = 1 << 32;
/// Bytes before the pixels of a picture: width and height.
const PICTURE_HEAD: usize = 8;

/// What replicas say to each other.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// To a worker: the network of this run, and where its random numbers start.
    Begin { architecture: Architecture, seed: u64, mixed_precision: Option<HalfFloat> },
    /// From a worker: the network is there.
    Ready,
    /// To a worker: run this part of a batch forward with these weights. Pictures have the size of
    /// the input.
    Step { weights: Arc<Weights>, preprocess: Preprocess, pictures: Vec<RgbImage> },
    /// From a worker in the middle of a pass: its part of what all must know.
    Said(Vec<f32>),
    /// To a worker that said something: what everybody said.
    Gathered(Arc<Vec<Vec<f32>>>),
    /// From a worker: the network's outputs, `[pictures, values]` each.
    Outputs(Vec<Vec<f32>>),
    /// To a worker: the loss's gradient with respect to those.
    Backward(Vec<Vec<f32>>),
    /// From a worker: the gradients of its part of the batch by the parameter's path.
    Gradients(Weights),
    /// To a worker: pictures to evaluate follow.
    Prepare { weights: Arc<Weights>, preprocess: Preprocess },
    /// To a worker: evaluate these.
    Run(Vec<RgbImage>),
    /// From a worker: the answers.
    Values(Vec<f32>),
    /// From a worker that cannot go on.
    Failed(String),
}

/// What is small of a [`Message`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
enum Head {
    Begin {
        architecture: Architecture,
        seed: u64,
        /// Absent in 32 bits, so that a worker of another build that knows no other says so only then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mixed_precision: Option<HalfFloat>,
    },
    Ready,
    Step {
        preprocess: Preprocess,
    },
    Said,
    Gathered,
    Outputs,
    Backward,
    Gradients,
    Prepare {
        preprocess: Preprocess,
    },
    Run,
    Values,
    Failed {
        reason: String,
    },
}

impl Message {
    /// For errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::Ready => "ready",
            Self::Step { .. } => "step",
            Self::Said(_) => "said",
            Self::Gathered(_) => "gathered",
            Self::Outputs(_) => "outputs",
            Self::Backward(_) => "backward",
            Self::Gradients(_) => "gradients",
            Self::Prepare { .. } => "prepare",
            Self::Run(_) => "run",
            Self::Values(_) => "values",
            Self::Failed(_) => "failed",
        }
    }

    pub(super) fn write(&self, to: &mut impl Write) -> Result<(), LinkError> {
        let (head, blobs) = self.parts()?;
        let head = serde_json::to_vec(&head).map_err(LinkError::malformed)?;
        to.write_all(&(head.len() as u64).to_le_bytes())?;
        to.write_all(&head)?;
        to.write_all(&(blobs.len() as u32).to_le_bytes())?;
        for blob in blobs {
            to.write_all(&(blob.len() as u64).to_le_bytes())?;
            to.write_all(&blob)?;
        }
        Ok(to.flush()?)
    }

    pub(super) fn read(from: &mut impl Read) -> Result<Self, LinkError> {
        let head = read_block(from, MAX_HEAD)?;
        let head = serde_json::from_slice(&head).map_err(LinkError::malformed)?;
        let mut count = [0; 4];
        from.read_exact(&mut count)?;
        let count = u32::from_le_bytes(count);
        if count > MAX_BLOBS {
            return Err(LinkError::malformed(format!("{count} blobs, at most {MAX_BLOBS}")));
        }
        let mut blobs = Vec::new();
        for _ in 0..count {
            blobs.push(read_block(from, MAX_BLOB)?);
        }
        Self::from_parts(head, blobs)
    }

    fn parts(&self) -> Result<(Head, Vec<Vec<u8>>), LinkError> {
        let rows = |rows: &[Vec<f32>]| rows.iter().map(|row| bytes_of(row)).collect();
        let pictures = |pictures: &[RgbImage]| pictures.iter().map(picture_bytes).collect();
        Ok(match self {
            Self::Begin { architecture, seed, mixed_precision } => {
                let (architecture, seed) = (architecture.clone(), *seed);
                let mixed_precision = *mixed_precision;
                (Head::Begin { architecture, seed, mixed_precision }, Vec::new())
            }
            Self::Ready => (Head::Ready, Vec::new()),
            Self::Step { weights, preprocess, pictures: all } => {
                let mut blobs: Vec<_> = pictures(all);
                blobs.push(weights_bytes(weights)?);
                (Head::Step { preprocess: preprocess.clone() }, blobs)
            }
            Self::Said(values) => (Head::Said, vec![bytes_of(values)]),
            Self::Gathered(all) => (Head::Gathered, rows(all)),
            Self::Outputs(all) => (Head::Outputs, rows(all)),
            Self::Backward(all) => (Head::Backward, rows(all)),
            Self::Gradients(weights) => (Head::Gradients, vec![weights_bytes(weights)?]),
            Self::Prepare { weights, preprocess } => {
                (Head::Prepare { preprocess: preprocess.clone() }, vec![weights_bytes(weights)?])
            }
            Self::Run(all) => (Head::Run, pictures(all)),
            Self::Values(values) => (Head::Values, vec![bytes_of(values)]),
            Self::Failed(reason) => (Head::Failed { reason: reason.clone() }, Vec::new()),
        })
    }

    fn from_parts(head: Head, mut blobs: Vec<Vec<u8>>) -> Result<Self, LinkError> {
        let message = match head {
            Head::Begin { architecture, seed, mixed_precision } => {
                Self::Begin { architecture, seed, mixed_precision }
            }
            Head::Ready => Self::Ready,
            Head::Step { preprocess } => {
                let weights = weights_of(&last(&mut blobs)?)?;
                Self::Step { weights, preprocess, pictures: pictures_of(&mut blobs)? }
            }
            Head::Said => Self::Said(floats_of(&last(&mut blobs)?)?),
            Head::Gathered => Self::Gathered(Arc::new(rows_of(&mut blobs)?)),
            Head::Outputs => Self::Outputs(rows_of(&mut blobs)?),
            Head::Backward => Self::Backward(rows_of(&mut blobs)?),
            Head::Gradients => {
                let gradients = Weights::gradients_from_bytes(&last(&mut blobs)?);
                Self::Gradients(gradients.map_err(LinkError::malformed)?)
            }
            Head::Prepare { preprocess } => {
                Self::Prepare { weights: weights_of(&last(&mut blobs)?)?, preprocess }
            }
            Head::Run => Self::Run(pictures_of(&mut blobs)?),
            Head::Values => Self::Values(floats_of(&last(&mut blobs)?)?),
            Head::Failed { reason } => Self::Failed(reason),
        };
        match blobs.len() {
            0 => Ok(message),
            left => Err(LinkError::malformed(format!("{left} blobs too many"))),
        }
    }
}

/// A length of at most `limit`, and as many bytes.
fn read_block(from: &mut impl Read, limit: u64) -> Result<Vec<u8>, LinkError> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > limit {
        return Err(LinkError::malformed(format!("{length} bytes, at most {limit}")));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(LinkError::Closed) }
}

/// What there is always one of, behind pictures.
fn last(blobs: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, LinkError> {
    blobs.pop().ok_or_else(|| LinkError::malformed("a blob is missing"))
}

fn rows_of(blobs: &mut Vec<Vec<u8>>) -> Result<Vec<Vec<f32>>, LinkError> {
    blobs.drain(..).map(|blob| floats_of(&blob)).collect()
}

fn pictures_of(blobs: &mut Vec<Vec<u8>>) -> Result<Vec<RgbImage>, LinkError> {
    blobs.drain(..).map(picture_of).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats_of(bytes: &[u8]) -> Result<Vec<f32>, LinkError> {
    let (values, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(LinkError::malformed("a value is cut"));
    }
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

fn weights_bytes(weights: &Weights) -> Result<Vec<u8>, LinkError> {
    weights.to_bytes(Precision::F32, None).map_err(LinkError::malformed)
}

fn weights_of(bytes: &[u8]) -> Result<Arc<Weights>, LinkError> {
    Weights::from_bytes(bytes).map(Arc::new).map_err(LinkError::malformed)
}

fn picture_bytes(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PICTURE_HEAD + picture.data().len());
    bytes.extend(picture.width().to_le_bytes());
    bytes.extend(picture.height().to_le_bytes());
    bytes.extend(picture.data());
    bytes
}

fn picture_of(mut bytes: Vec<u8>) -> Result<RgbImage, LinkError> {
    let Some(&[a, b, c, d, e, f, g, h]) = bytes.first_chunk::<PICTURE_HEAD>() else {
        return Err(LinkError::malformed("a picture is cut"));
    };
    bytes.drain(..PICTURE_HEAD);
    let (width, height) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    RgbImage::from_rgb(width, height, bytes).map_err(LinkError::malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::weights::NamedTensor;
    use proptest::prelude::*;

    fn step() -> Message {
        let tensor = NamedTensor { shape: vec![2], values: vec![1.5, -2.0] };
        let weights = Weights { tensors: [("a.b".to_owned(), tensor)].into() };
        let picture = RgbImage::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        Message::Step {
            weights: Arc::new(weights),
            preprocess: Preprocess::square(32),
            pictures: vec![picture.clone(), picture],
        }
    }

    fn bytes(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let rows = vec![vec![1.0, f32::MIN_POSITIVE], vec![], vec![-0.0]];
        for message in [
            Message::Ready,
            step(),
            Message::Said(vec![0.25; 7]),
            Message::Gathered(Arc::new(rows.clone())),
            Message::Outputs(rows.clone()),
            Message::Backward(rows),
            Message::Run(Vec::new()),
            Message::Values(vec![3.0]),
            Message::Failed("no memory left".to_owned()),
        ] {
            let back = Message::read(&mut bytes(&message).as_slice()).unwrap();
            assert_eq!(format!("{back:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = bytes(&step());
        for length in 0..whole.len() {
            assert!(Message::read(&mut &whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused_before_memory_is_taken() {
        let endless = u64::MAX.to_le_bytes();
        let error = Message::read(&mut endless.as_slice()).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }

    proptest! {
        #[test]
        fn strange_bytes_are_an_error_or_a_message(
            place in any::<prop::sample::Index>(),
            value in any::<u8>(),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut changed = bytes(&step());
            let place = place.index(changed.len());
            changed[place] = value;
            let _ = Message::read(&mut changed.as_slice());
            let _ = Message::read(&mut tail.as_slice());
        }
    }
}
