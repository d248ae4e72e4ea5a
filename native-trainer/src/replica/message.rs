//! What replicas say to each other, and its bytes.
//!
//! A message on the wire is a JSON head of what is small, and blobs of what is not: tensors as
//! safetensors or little-endian floats, pictures as their size and their pixels. Whoever receives says behind
//! the head how many blobs and bytes may follow ([`Room`]): more is refused by its announcement. Memory is
//! taken as bytes arrive, so that a number that lies costs nothing.

use std::io::{Read, Write};
use std::sync::Arc;

use models::image::RgbImage;
use models::model_file::Architecture;
use models::operators::mixed::HalfFloat;
use models::preprocess::Preprocess;
use models::weights::{Precision, Weights};
use serde::{Deserialize, Serialize};

use super::error::{LinkError, plain};

/// Bytes of a head. Its JSON takes a few dozen times as much memory at worst.
const MAX_HEAD: u64 = 1 << 14;
/// Bytes of the names and shapes before the values of weights: several thousand tensors.
pub(super) const MAX_WEIGHTS_HEAD: u64 = 1 << 20;
/// Bytes before the pixels of a picture: width and height.
pub(super) const PICTURE_HEAD: usize = 8;

/// How a run begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    /// The network.
    pub(super) architecture: Architecture,
    /// Where this replica's random numbers start.
    pub(super) seed: u64,
    /// How many share a batch.
    pub(super) replicas: usize,
    /// What dense convolutions are computed in; absent in 32 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mixed_precision: Option<HalfFloat>,
}

/// What replicas say to each other.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// To a worker.
    Begin(Box<Begin>),
    /// From a worker: the network is there.
    Ready,
    /// From a worker: it serves another run.
    Busy,
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
    /// To a worker: evaluate these, which have the size of the input.
    Run(Vec<RgbImage>),
    /// From a worker: the answers.
    Values(Vec<f32>),
    /// To a worker: the pass is given up, and as many replicas share a batch from now on. It answers that it is ready.
    Regroup(usize),
    /// From a worker that cannot go on.
    Failed(String),
}

/// What is small of a [`Message`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub(super) enum Head {
    Begin(Begin),
    Ready,
    Busy,
    Step { preprocess: Preprocess },
    Said,
    Gathered,
    Outputs,
    Backward,
    Gradients,
    Prepare { preprocess: Preprocess },
    Run,
    Values,
    Regroup { replicas: usize },
    Failed { reason: String },
}

impl Head {
    /// For errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "begin",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Step { .. } => "step",
            Self::Said => "said",
            Self::Gathered => "gathered",
            Self::Outputs => "outputs",
            Self::Backward => "backward",
            Self::Gradients => "gradients",
            Self::Prepare { .. } => "prepare",
            Self::Run => "run",
            Self::Values => "values",
            Self::Regroup { .. } => "regroup",
            Self::Failed { .. } => "failed",
        }
    }
}

/// How much may follow a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Blobs.
    pub(super) blobs: u64,
    /// Bytes of all blobs together.
    pub(super) bytes: u64,
}

impl Room {
    /// Nothing.
    pub(super) const NONE: Self = Self { blobs: 0, bytes: 0 };

    /// `values` floats in `blobs` blobs.
    pub(super) fn floats(blobs: usize, values: usize) -> Self {
        Self { blobs: blobs as u64, bytes: (values as u64).saturating_mul(4) }
    }

    /// For a message of this name and no other.
    pub(super) fn only(self, expected: &'static str) -> impl Fn(&Head) -> Result<Self, LinkError> {
        move |head| {
            let is_expected = head.name() == expected;
            is_expected.then_some(self).ok_or_else(|| LinkError::unexpected(expected, head.name()))
        }
    }
}

impl Room {
    /// The same, or nothing for a message that gives the pass up.
    pub(super) fn or_regroup(
        self,
        expected: &'static str,
    ) -> impl Fn(&Head) -> Result<Self, LinkError> {
        let only = self.only(expected);
        move |head| match head {
            Head::Regroup { .. } => Ok(Self::NONE),
            head => only(head),
        }
    }
}

/// A message as it is written.
pub(super) struct Encoded {
    head: Vec<u8>,
    blobs: Vec<Vec<u8>>,
}

impl Encoded {
    pub(super) fn write(&self, to: &mut impl Write) -> Result<(), LinkError> {
        to.write_all(&(self.head.len() as u64).to_le_bytes())?;
        to.write_all(&self.head)?;
        to.write_all(&(self.blobs.len() as u32).to_le_bytes())?;
        for blob in &self.blobs {
            to.write_all(&(blob.len() as u64).to_le_bytes())?;
            to.write_all(blob)?;
        }
        Ok(to.flush()?)
    }
}

impl Message {
    /// What is small.
    pub(super) fn head(&self) -> Head {
        match self {
            Self::Begin(begin) => Head::Begin((**begin).clone()),
            Self::Ready => Head::Ready,
            Self::Busy => Head::Busy,
            Self::Step { preprocess, .. } => Head::Step { preprocess: preprocess.clone() },
            Self::Said(_) => Head::Said,
            Self::Gathered(_) => Head::Gathered,
            Self::Outputs(_) => Head::Outputs,
            Self::Backward(_) => Head::Backward,
            Self::Gradients(_) => Head::Gradients,
            Self::Prepare { preprocess, .. } => Head::Prepare { preprocess: preprocess.clone() },
            Self::Run(_) => Head::Run,
            Self::Values(_) => Head::Values,
            Self::Regroup(replicas) => Head::Regroup { replicas: *replicas },
            Self::Failed(reason) => Head::Failed { reason: plain(reason) },
        }
    }

    /// What is not.
    fn blobs(&self) -> Result<Vec<Vec<u8>>, LinkError> {
        let rows = |rows: &[Vec<f32>]| rows.iter().map(|row| bytes_of(row)).collect();
        let pictures = |pictures: &[RgbImage]| pictures.iter().map(picture_bytes).collect();
        Ok(match self {
            Self::Begin(_) | Self::Ready | Self::Busy | Self::Regroup(_) | Self::Failed(_) => {
                Vec::new()
            }
            Self::Step { weights, pictures: all, .. } => {
                let mut blobs: Vec<_> = pictures(all);
                blobs.push(weights_bytes(weights)?);
                blobs
            }
            Self::Said(values) | Self::Values(values) => vec![bytes_of(values)],
            Self::Gathered(all) => rows(all),
            Self::Outputs(all) | Self::Backward(all) => rows(all),
            Self::Gradients(weights) => vec![weights_bytes(weights)?],
            Self::Prepare { weights, .. } => vec![weights_bytes(weights)?],
            Self::Run(all) => pictures(all),
        })
    }

    /// Its bytes, made before anybody is kept from the connection.
    pub(super) fn encode(&self) -> Result<Encoded, LinkError> {
        let head = serde_json::to_vec(&self.head()).map_err(LinkError::malformed)?;
        Ok(Encoded { head, blobs: self.blobs()? })
    }

    /// Reads a message; `room` says how much may follow its head, or that it has no place.
    pub(super) fn read(
        from: &mut impl Read,
        mut room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Self, LinkError> {
        let head = read_block(from, MAX_HEAD, "bytes of a head")?;
        let head: Head = serde_json::from_slice(&head).map_err(LinkError::malformed)?;
        let room = match &head {
            Head::Failed { .. } | Head::Busy => Room::NONE,
            head => room(head)?,
        };
        let mut count = [0; 4];
        from.read_exact(&mut count)?;
        let count = u64::from(u32::from_le_bytes(count));
        fits(count, room.blobs, "parts")?;
        let mut blobs = Vec::new();
        let mut left = room.bytes;
        for _ in 0..count {
            let blob = read_block(from, left, "bytes")?;
            left -= blob.len() as u64;
            blobs.push(blob);
        }
        Self::from_parts(head, blobs)
    }

    /// Reads a message of which only the head counts, and throws away what follows it, `most` bytes at most.
    pub(super) fn skip(from: &mut impl Read, most: u64) -> Result<Head, LinkError> {
        let head = read_block(from, MAX_HEAD, "bytes of a head")?;
        let head: Head = serde_json::from_slice(&head).map_err(LinkError::malformed)?;
        let mut count = [0; 4];
        from.read_exact(&mut count)?;
        let mut left = most;
        for _ in 0..u32::from_le_bytes(count) {
            let mut length = [0; 8];
            from.read_exact(&mut length)?;
            let length = u64::from_le_bytes(length);
            fits(length, left, "bytes")?;
            left -= length;
            let skipped = std::io::copy(&mut from.by_ref().take(length), &mut std::io::sink())?;
            if skipped < length {
                return Err(LinkError::Closed);
            }
        }
        Ok(head)
    }

    fn from_parts(head: Head, mut blobs: Vec<Vec<u8>>) -> Result<Self, LinkError> {
        let message = match head {
            Head::Begin(begin) => Self::Begin(Box::new(begin)),
            Head::Ready => Self::Ready,
            Head::Busy => Self::Busy,
            Head::Step { preprocess } => {
                let weights = weights_of(last(&mut blobs)?)?;
                Self::Step {
                    weights: Arc::new(weights),
                    preprocess,
                    pictures: pictures_of(&mut blobs)?,
                }
            }
            Head::Said => Self::Said(floats_of(&last(&mut blobs)?)?),
            Head::Gathered => Self::Gathered(Arc::new(rows_of(&mut blobs)?)),
            Head::Outputs => Self::Outputs(rows_of(&mut blobs)?),
            Head::Backward => Self::Backward(rows_of(&mut blobs)?),
            Head::Gradients => Self::Gradients(gradients_of(last(&mut blobs)?)?),
            Head::Prepare { preprocess } => {
                let weights = Arc::new(weights_of(last(&mut blobs)?)?);
                Self::Prepare { weights, preprocess }
            }
            Head::Run => Self::Run(pictures_of(&mut blobs)?),
            Head::Values => Self::Values(floats_of(&last(&mut blobs)?)?),
            Head::Regroup { replicas } => Self::Regroup(replicas),
            Head::Failed { reason } => Self::Failed(plain(&reason)),
        };
        match blobs.len() {
            0 => Ok(message),
            more => Err(LinkError::malformed(format!("{more} parts too many"))),
        }
    }
}

/// Whether a number that was announced is within its limit.
fn fits(got: u64, most: u64, what: &'static str) -> Result<(), LinkError> {
    if got <= most { Ok(()) } else { Err(LinkError::TooLarge { what, got, most }) }
}

/// A length of at most `limit`, and as many bytes.
fn read_block(from: &mut impl Read, limit: u64, what: &'static str) -> Result<Vec<u8>, LinkError> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    fits(length, limit, what)?;
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(LinkError::Closed) }
}

/// What there is always one of, behind pictures.
fn last(blobs: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, LinkError> {
    blobs.pop().ok_or_else(|| LinkError::malformed("a part is missing"))
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

fn weights_of(bytes: Vec<u8>) -> Result<Weights, LinkError> {
    fits_names(&bytes)?;
    Weights::from_vec(bytes).map_err(LinkError::malformed)
}

/// In 16 bits gradients may be beyond all numbers.
fn gradients_of(bytes: Vec<u8>) -> Result<Weights, LinkError> {
    fits_names(&bytes)?;
    Weights::gradients_from_bytes(&bytes).map_err(LinkError::malformed)
}

/// Names and shapes stand before the values, and take a multiple of their bytes in memory.
fn fits_names(bytes: &[u8]) -> Result<(), LinkError> {
    let head = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    fits(head, MAX_WEIGHTS_HEAD, "bytes of names")
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

    /// Room for the messages here and little more.
    const ENOUGH: Room = Room { blobs: 8, bytes: 1 << 12 };

    fn read(bytes: &[u8]) -> Result<Message, LinkError> {
        Message::read(&mut &*bytes, |_| Ok(ENOUGH))
    }

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
        message.encode().unwrap().write(&mut bytes).unwrap();
        bytes
    }

    /// A head and what is announced behind it.
    fn announced(head: &str, count: u32, first: u64) -> Vec<u8> {
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend(head.as_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let rows = vec![vec![1.0, f32::MIN_POSITIVE], vec![], vec![-0.0]];
        for message in [
            Message::Ready,
            Message::Busy,
            Message::Regroup(3),
            step(),
            Message::Said(vec![0.25; 7]),
            Message::Gathered(Arc::new(rows.clone())),
            Message::Outputs(rows.clone()),
            Message::Backward(rows),
            Message::Run(Vec::new()),
            Message::Values(vec![3.0]),
            Message::Failed("no memory left".to_owned()),
        ] {
            let back = read(&bytes(&message)).unwrap();
            assert_eq!(format!("{back:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = bytes(&step());
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(matches!(error, LinkError::Closed), "{length} bytes: {error}");
        }
    }

    #[test]
    fn announcements_beyond_the_room_are_refused_before_anything_else_is_read() {
        let head = u64::MAX.to_le_bytes();
        let refused = |bytes: &[u8]| match read(bytes).unwrap_err() {
            LinkError::TooLarge { what, got, most } => (what, got, most),
            other => panic!("{other}"),
        };
        assert_eq!(refused(&head), ("bytes of a head", u64::MAX, MAX_HEAD));
        let run = r#"{"kind":"run"}"#;
        assert_eq!(refused(&announced(run, 1 << 16, 1 << 32)), ("parts", 1 << 16, 8));
        assert_eq!(refused(&announced(run, 1, 1 << 32)), ("bytes", 1 << 32, 1 << 12));
        // The room is that of all parts together.
        let mut two = announced(run, 2, 4000);
        two.extend([0; 4000]);
        two.extend(97_u64.to_le_bytes());
        assert_eq!(refused(&two), ("bytes", 97, 96));
        let mut weights = (u64::MAX - 3).to_le_bytes().to_vec();
        weights.extend([b'{'; 20]);
        let mut names = announced(r#"{"kind":"gradients"}"#, 1, weights.len() as u64);
        names.extend(weights);
        assert_eq!(refused(&names), ("bytes of names", u64::MAX - 3, MAX_WEIGHTS_HEAD));
    }

    #[test]
    fn a_message_without_a_place_is_refused_by_its_head() {
        let error = Message::read(
            &mut &*announced(r#"{"kind":"run"}"#, 1, 1 << 20),
            Room::floats(1, 4).only("gathered"),
        );
        assert!(matches!(error, Err(LinkError::Unexpected { expected: "gathered", got: "run" })));
    }

    #[test]
    fn words_of_another_side_are_one_line() {
        let message = Message::Failed(format!("a\nb\u{1b}[2J{}", "c".repeat(1 << 15)));
        let Message::Failed(reason) = read(&bytes(&message)).unwrap() else { panic!("failed") };
        assert!(reason.starts_with("a b\u{fffd}[2Jccc"), "{reason}");
        assert_eq!(reason.chars().count(), 500);
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
            let _ = read(&changed);
            let _ = read(&tail);
            let _ = Message::skip(&mut &*changed, 1 << 12);
        }
    }
}
