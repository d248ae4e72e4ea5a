//! The side that computes what it is told: a part of every batch.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::image::RgbImage;
use models::kernels::mixed::{self, HalfFloat};
use models::kernels::replicas::{self, Exchange};
use models::model_file::Architecture;
use models::prepared::Prepared;
use models::preprocess::Preprocess;
use models::weights::{NamedTensor, Weights};

use super::Replica;
use super::link::{Link, LinkError};
use super::message::Message;
use crate::optimizer::each_gradient;

/// Computes for whoever is at the other end until that one has no more work.
///
/// # Errors
///
/// [`LinkError`], which the other end is told as well where it still listens.
pub(super) fn serve(mut link: Link, device: &Device) -> Result<(), LinkError> {
    link.be_patient()?;
    let Message::Begin { architecture, seed, mixed_precision } = link.receive()? else {
        return Err(LinkError::malformed("a run begins with its network"));
    };
    if let Some(half) = mixed_precision.filter(|half| !device.supports_dtype(half.dtype())) {
        let error = LinkError::malformed(format!("this device does not compute in {half:?}"));
        link.send(Message::Failed(error.to_string()))?;
        return Err(error);
    }
    let device = device.clone().autodiff();
    device.seed(seed);
    match architecture {
        Architecture::Extractor(config) => {
            Worker::new(config.init(&device), link, device, mixed_precision).run()
        }
        Architecture::Detector(config) => {
            Worker::new(config.init(&device), link, device, mixed_precision).run()
        }
    }
}

struct Worker<N> {
    network: N,
    evaluated: Option<Prepared<N>>,
    outer: Arc<Outer>,
    device: Device,
    mixed_precision: Option<HalfFloat>,
}

/// The link while a pass is under way.
#[derive(Debug)]
struct Outer {
    link: Mutex<Link>,
    /// Why a pass heard nobody.
    failure: Mutex<Option<LinkError>>,
}

impl Outer {
    fn send(&self, message: Message) -> Result<(), LinkError> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).send(message)
    }

    fn receive(&self) -> Result<Message, LinkError> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).receive()
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
        let answer = self.send(Message::Said(values.clone())).and_then(|()| self.receive());
        let error = match answer {
            Ok(Message::Gathered(all)) if all.iter().all(|said| said.len() == values.len()) => {
                return Arc::unwrap_or_clone(all);
            }
            Ok(other) => LinkError::Unexpected { expected: "gathered", got: other.name() },
            Err(error) => error,
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        vec![values]
    }
}

impl<N: Replica> Worker<N> {
    fn new(network: N, link: Link, device: Device, mixed_precision: Option<HalfFloat>) -> Self {
        let outer = Outer { link: Mutex::new(link), failure: Mutex::new(None) };
        Self { network, evaluated: None, outer: Arc::new(outer), device, mixed_precision }
    }

    fn run(mut self) -> Result<(), LinkError> {
        self.outer.send(Message::Ready)?;
        loop {
            let message = match self.outer.receive() {
                Err(LinkError::Closed) => return Ok(()),
                received => received?,
            };
            let outer = self.outer.clone();
            self = match self.answer(message) {
                Ok(worker) => worker,
                Err(error) => {
                    // Where nobody hears it any more, the error itself is told here.
                    let _ = outer.send(Message::Failed(error.to_string()));
                    return Err(error);
                }
            };
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
                let values = pollster::block_on(prepared.run(&pictures));
                self.outer.send(Message::Values(values.map_err(LinkError::malformed)?))?;
            }
            other => {
                return Err(LinkError::Unexpected { expected: "step", got: other.name() });
            }
        }
        Ok(self)
    }

    /// Forward, the outputs' gradients from the other end, backward.
    fn step(&self, preprocess: &Preprocess, pictures: &[RgbImage]) -> Result<Weights, LinkError> {
        let mut pixels = Vec::with_capacity(pictures.len() * preprocess.values());
        for picture in pictures {
            if (picture.width(), picture.height()) != (preprocess.width, preprocess.height) {
                return Err(LinkError::malformed("a picture has not the size of the input"));
            }
            preprocess.append(picture, &mut pixels);
        }
        let x = preprocess.batch(pixels, &self.device);
        let outputs = mixed::within(self.mixed_precision, || {
            replicas::within(self.outer.clone(), || self.network.outputs(x))
        });
        self.outer.failure()?;
        let values = outputs.iter().map(|output| host(output.clone())).collect();
        self.outer.send(Message::Outputs(values))?;
        let slopes = match self.outer.receive()? {
            Message::Backward(slopes) => slopes,
            other => {
                return Err(LinkError::Unexpected { expected: "backward", got: other.name() });
            }
        };
        let gradients = backward(&outputs, slopes)?;
        self.outer.failure()?;
        Ok(collect(&self.network, &gradients))
    }
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
