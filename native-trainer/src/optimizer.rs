//! Optimisers whose state is kept by parameter path, so that checkpoints say what they hold.
//!
//! Burn's own are keyed by parameter identities that change whenever a module is built, and know
//! no exclusion by shape.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::weights::{NamedTensor, ParameterPath, Weights};
use serde::{Deserialize, Serialize};

/// Which rule, with its options. Vectors (biases, normalisation) never decay, as in PP-LCNet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// `v ← μ·v + g + λ·w; w ← w − η·v`, PaddleClas' `Momentum` with coupled decay.
    Momentum {
        /// μ
        momentum: f64,
        /// λ
        weight_decay: f64,
    },
    /// Adam with decoupled decay, <https://arxiv.org/abs/1711.05101>; β 0.9 and 0.999.
    AdamW {
        /// λ
        weight_decay: f64,
    },
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const ADAM_EPSILON: f64 = 1e-8;

/// Changes a module's parameters by their gradients.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    step: u64,
    /// First (and for AdamW second) moments, flattened, by path.
    moments: BTreeMap<String, Vec<Tensor<1>>>,
}

impl Optimizer {
    /// An optimiser that has seen no gradient.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, step: 0, moments: BTreeMap::new() }
    }

    /// One step; parameters without a gradient stay as they are.
    pub fn step<M: Module>(&mut self, module: M, gradients: &Gradients, rate: f64) -> M {
        self.step += 1;
        module.map(&mut Step { optimizer: self, gradients, rate, path: ParameterPath::default() })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Moments as named tensors for a checkpoint.
    pub fn to_weights(&self) -> Weights {
        let mut tensors = BTreeMap::new();
        for (path, moments) in &self.moments {
            for (order, moment) in moments.iter().enumerate() {
                let values: Vec<f32> = moment
                    .clone()
                    .into_data()
                    .convert::<f32>()
                    .try_into_vec()
                    .expect("the data was converted to f32");
                let shape = vec![values.len()];
                tensors.insert(format!("{path}#{order}"), NamedTensor { shape, values });
            }
        }
        Weights { tensors }
    }

    /// An optimiser that goes on from a checkpoint.
    pub fn resume(config: OptimizerConfig, step: u64, weights: Weights, device: &Device) -> Self {
        let mut moments: BTreeMap<String, Vec<Tensor<1>>> = BTreeMap::new();
        // Names sort by order within a path, so moments come back in their order.
        for (name, tensor) in weights.tensors {
            if let Some((path, _)) = name.rsplit_once('#') {
                let data = TensorData::new(tensor.values, tensor.shape);
                let moment = Tensor::from_data(data, &device.clone().inner());
                moments.entry(path.to_owned()).or_default().push(moment);
            }
        }
        Self { config, step, moments }
    }

    /// New value of a flattened parameter.
    fn update(
        &mut self,
        path: &str,
        value: Tensor<1>,
        gradient: Tensor<1>,
        rate: f64,
        decays: bool,
    ) -> Tensor<1> {
        let moments = self.moments.entry(path.to_owned()).or_default();
        match self.config {
            OptimizerConfig::Momentum { momentum, weight_decay } => {
                let mut velocity = gradient;
                if decays {
                    velocity = velocity + value.clone() * weight_decay;
                }
                if let Some(old) = moments.pop() {
                    velocity = velocity + old * momentum;
                }
                moments.push(velocity.clone());
                value - velocity * rate
            }
            OptimizerConfig::AdamW { weight_decay } => {
                let squared = gradient.clone().powi_scalar(2) * (1.0 - BETA_2);
                let second = match moments.pop() {
                    Some(old) => old * BETA_2 + squared,
                    None => squared,
                };
                let first = match moments.pop() {
                    Some(old) => old * BETA_1 + gradient * (1.0 - BETA_1),
                    None => gradient * (1.0 - BETA_1),
                };
                *moments = vec![first.clone(), second.clone()];
                let t = self.step as i32;
                let scale = rate / (1.0 - BETA_1.powi(t));
                let deviation = (second / (1.0 - BETA_2.powi(t))).sqrt() + ADAM_EPSILON;
                let kept = if decays { value * (1.0 - rate * weight_decay) } else { value };
                kept - first / deviation * scale
            }
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut Optimizer,
    gradients: &'a Gradients,
    rate: f64,
    path: ParameterPath,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = param.val().grad(self.gradients) else {
            return param;
        };
        let path = self.path.name();
        let rate = self.rate;
        let optimizer = &mut *self.optimizer;
        param.map(|tensor| {
            let shape = tensor.shape();
            let length = shape.num_elements();
            let value = tensor.inner().reshape([length]);
            let new = optimizer.update(&path, value, gradient.reshape([length]), rate, D > 1);
            Tensor::from_inner(new.reshape(shape)).require_grad()
        })
    }
}
