//! The side that computes what it is told: a part of every batch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::image::RgbImage;
use models::inference::{Network, Prepared};
use models::model_file::Architecture;
use models::operators::mixed::{self, HalfFloat};
use models::operators::replicas::{self, Exchange};
use models::preprocess::Preprocess;
use models::weights::{NamedTensor, Weights};

use super::Replica;
use super::cost::{Budget, MAX_REPLICAS};
use super::error::{LinkError, plain};
use super::link::Link;
use super::message::{Begin, Head, Message, Room};
use crate::optimizer::each_gradient;

/// The message that a run begins with, which has as little time as a greeting.
///
/// # Errors
///
/// [`LinkError`], which the other end is told as well where it still listens.
pub(super) fn receive_begin(link: &mut Link) -> Result<Begin, LinkError> {
    match link.receive_first(Room::NONE.only("begin")) {
        Ok(Message::Begin(begin)) => Ok(*begin),
        Ok(other) => Err(LinkError::unexpected("begin", other.head().name())),
        Err(error) => {
            refuse(link, &error);
            Err(error)
        }
    }
}

/// Computes for whoever is at the other end until that one has no more work, within `memory` bytes.
///
/// # Errors
///
/// [`LinkError`], which the other end is told as well where it still listens.
pub(super) fn serve(
    link: Link,
    begin: Begin,
    device: &Device,
    memory: u64,
) -> Result<(), LinkError> {
    guard(link, begin.replicas, |outer| build(outer, begin, device, memory))
}

/// What is sent is looked at before it is computed with; a fault of the computation that this does not
/// foresee ends the run and not the worker.
pub(super) fn guard(
    link: Link,
    replicas: usize,
    run: impl FnOnce(&Arc<Outer>) -> Result<(), LinkError>,
) -> Result<(), LinkError> {
    let outer = Arc::new(Outer { link: Mutex::new(link), failure: Mutex::new(None), replicas });
    let result = catch_unwind(AssertUnwindSafe(|| run(&outer)))
        .unwrap_or_else(|panic| Err(LinkError::Panicked(said(&*panic))));
    // Graphs that a panic has left behind may hold the link for ever.
    match &result {
        Ok(()) => outer.link().end(),
        Err(error) => refuse(&mut outer.link(), error),
    }
    result
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    plain(text.unwrap_or("a panic without a word"))
}

/// Tells the other end why nothing more comes.
fn refuse(link: &mut Link, error: &LinkError) {
    // Where nobody hears it any more, whoever calls tells the error itself.
    let _ = link.send(Message::Failed(error.to_string()));
    link.end();
}

fn build(outer: &Arc<Outer>, begin: Begin, device: &Device, memory: u64) -> Result<(), LinkError> {
    let Begin { architecture, seed, replicas, mixed_precision } = begin;
    architecture.check().map_err(LinkError::malformed)?;
    if !(2..=MAX_REPLICAS).contains(&replicas) {
        let reason = format!("{replicas} replicas, where 2 to {MAX_REPLICAS} may share a batch");
        return Err(LinkError::malformed(reason));
    }
    if let Some(half) = mixed_precision.filter(|half| !device.supports_dtype(half.dtype())) {
        return Err(LinkError::malformed(format!("this device does not compute in {half:?}")));
    }
    let device = device.clone().autodiff();
    device.seed(seed);
    let run = (architecture.clone(), outer.clone(), device.clone(), mixed_precision);
    match architecture {
        Architecture::Extractor(config) => Worker::new(config.init(&device), run, memory)?.run(),
        Architecture::Detector(config) => Worker::new(config.init(&device), run, memory)?.run(),
        Architecture::GraphDetector(_) => {
            Err(LinkError::malformed("a detector of an ONNX file, which is not trained"))
        }
    }
}

struct Worker<N: Network> {
    network: N,
    budget: Budget,
    architecture: Architecture,
    evaluated: Option<Prepared<N>>,
    outer: Arc<Outer>,
    device: Device,
    mixed_precision: Option<HalfFloat>,
}

/// The link while a pass is under way.
#[derive(Debug)]
pub(super) struct Outer {
    link: Mutex<Link>,
    /// Why a pass heard nobody.
    failure: Mutex<Option<LinkError>>,
    /// How many share a batch.
    replicas: usize,
}

impl Outer {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: Message) -> Result<(), LinkError> {
        self.link().send(message)
    }

    fn receive(
        &self,
        room: impl FnMut(&Head) -> Result<Room, LinkError>,
    ) -> Result<Message, LinkError> {
        self.link().receive(room)
    }

    fn failure(&self) -> Result<(), LinkError> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Exchange for Outer {
    fn gather(&self, values: Vec<f32>) -> Vec<Vec<f32>> {
        // After a failure the rest of the pass is for nothing, and nobody is waited for.
        if self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return vec![values];
        }
        let room = Room::floats(self.replicas, self.replicas * values.len()).only("gathered");
        let answer = self.send(Message::Said(values.clone())).and_then(|()| self.receive(room));
        let fits = |all: &[Vec<f32>]| {
            all.len() == self.replicas && all.iter().all(|said| said.len() == values.len())
        };
        let error = match answer {
            Ok(Message::Gathered(all)) if fits(&all) => return Arc::unwrap_or_clone(all),
            Ok(Message::Gathered(_)) => LinkError::malformed("statistics of another network"),
            Ok(other) => LinkError::unexpected("gathered", other.head().name()),
            Err(error) => error,
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        vec![values]
    }
}

impl<N: Replica> Worker<N> {
    /// Of a network that is not made yet; refused where it takes more than `memory`.
    fn new(
        network: N,
        (architecture, outer, device, mixed_precision): (
            Architecture,
            Arc<Outer>,
            Device,
            Option<HalfFloat>,
        ),
        memory: u64,
    ) -> Result<Self, LinkError> {
        let budget = Budget::of(&network, memory)?;
        let evaluated = None;
        Ok(Self { network, budget, architecture, evaluated, outer, device, mixed_precision })
    }

    fn run(mut self) -> Result<(), LinkError> {
        self.outer.send(Message::Ready)?;
        loop {
            let message = match self.outer.receive(|head| self.room(head)) {
                Err(LinkError::Closed) => return Ok(()),
                received => received?,
            };
            self = self.answer(message)?;
        }
    }

    /// How much may follow a head between two steps.
    fn room(&self, head: &Head) -> Result<Room, LinkError> {
        let check = |preprocess: &Preprocess| {
            self.architecture.check_input(preprocess).map_err(LinkError::malformed)
        };
        match head {
            Head::Step { preprocess } => {
                check(preprocess)?;
                self.budget.step(&self.network, preprocess)
            }
            Head::Prepare { preprocess } => {
                check(preprocess)?;
                self.budget.run(&self.network, preprocess)?;
                Ok(self.budget.weights())
            }
            Head::Run => match &self.evaluated {
                Some(prepared) => self.budget.run(&self.network, prepared.preprocess()),
                None => Err(LinkError::unexpected("prepare", head.name())),
            },
            other => Err(LinkError::unexpected("step", other.name())),
        }
    }

    fn answer(mut self, message: Message) -> Result<Self, LinkError> {
        match message {
            Message::Step { weights, preprocess, pictures } => {
                let weights = Arc::unwrap_or_clone(weights);
                self.network = weights.load_into(self.network).map_err(LinkError::malformed)?;
                let gradients = self.step(&preprocess, &pictures)?;
                self.outer.send(Message::Gradients(gradients))?;
            }
            Message::Prepare { weights, preprocess } => {
                // Into a copy: the one in training holds statistics that it has not taken over yet.
                let copy = self.network.valid();
                let weights = Arc::unwrap_or_clone(weights);
                let network = weights.load_into(copy).map_err(LinkError::malformed)?;
                self.evaluated = Some(Prepared::new(&network, &preprocess, &self.device));
            }
            Message::Run(pictures) => {
                let Some(prepared) = &self.evaluated else {
                    return Err(LinkError::Unexpected { expected: "prepare", got: "run" });
                };
                fit(&pictures, prepared.preprocess())?;
                let values = pollster::block_on(prepared.run(&pictures));
                self.outer.send(Message::Values(values.map_err(LinkError::malformed)?))?;
            }
            other => return Err(LinkError::unexpected("step", other.head().name())),
        }
        Ok(self)
    }

    /// Forward, the outputs' gradients from the other end, backward.
    fn step(&self, preprocess: &Preprocess, pictures: &[RgbImage]) -> Result<Weights, LinkError> {
        fit(pictures, preprocess)?;
        if pictures.is_empty() {
            return Err(LinkError::malformed("a step without a picture"));
        }
        let mut pixels = Vec::with_capacity(pictures.len() * preprocess.values());
        pictures.iter().for_each(|picture| preprocess.append(picture, &mut pixels));
        let x = preprocess.batch(pixels, &self.device);
        let outputs = mixed::within(self.mixed_precision, || {
            replicas::within(self.outer.clone(), || self.network.outputs(x))
        });
        self.outer.failure()?;
        let values: Vec<Vec<f32>> = outputs.iter().map(|output| host(output.clone())).collect();
        let room = Room::floats(values.len(), values.iter().map(Vec::len).sum());
        self.outer.send(Message::Outputs(values))?;
        let slopes = match self.outer.receive(room.only("backward"))? {
            Message::Backward(slopes) => slopes,
            other => return Err(LinkError::unexpected("backward", other.head().name())),
        };
        let gradients = backward(&outputs, slopes)?;
        self.outer.failure()?;
        Ok(collect(&self.network, &gradients))
    }
}

/// Whether pictures have the size of the input.
fn fit(pictures: &[RgbImage], preprocess: &Preprocess) -> Result<(), LinkError> {
    let size = (preprocess.width, preprocess.height);
    if pictures.iter().any(|picture| (picture.width(), picture.height()) != size) {
        return Err(LinkError::malformed("a picture has not the size of the input"));
    }
    Ok(())
}

/// The gradients of a loss, from its gradients with respect to a network's outputs.
pub(super) fn backward(
    outputs: &[Tensor<2>],
    slopes: Vec<Vec<f32>>,
) -> Result<Gradients, LinkError> {
    let fits =
        |(output, slope): (&Tensor<2>, &Vec<f32>)| output.shape().num_elements() == slope.len();
    if outputs.len() != slopes.len() || !outputs.iter().zip(&slopes).all(fits) {
        return Err(LinkError::malformed("the outputs' gradients do not fit them"));
    }
    // The sum of output times slope has just those gradients.
    let sum = outputs.iter().zip(slopes).map(|(output, slope)| {
        let slope = TensorData::new(slope, output.dims());
        (output.clone() * Tensor::from_data(slope, &output.device().inner())).sum()
    });
    let sum = sum.reduce(|a, b| a + b).ok_or_else(|| LinkError::malformed("no outputs"))?;
    Ok(sum.backward())
}

pub(super) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the data was converted to f32")
}

/// Every gradient of a network, flattened, by its parameter's path.
pub(super) fn collect(network: &impl Module, gradients: &Gradients) -> Weights {
    let mut weights = Weights::default();
    each_gradient(network, gradients, |path, gradient| {
        let values = host(gradient);
        weights.tensors.insert(path, NamedTensor { shape: vec![values.len()], values });
    });
    weights
}
