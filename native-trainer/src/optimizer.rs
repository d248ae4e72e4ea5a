//! Optimizers whose state is kept by parameter path, so that checkpoints say what they hold.
//!
//! Burn's own are keyed by parameter identities that change whenever a module is built, and know
//! no exclusion by shape.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::weights::{NamedTensor, ParameterPath, Weights};
use serde::{Deserialize, Serialize};

/// Which rule, with its options: `g` the gradient, `w` the parameter, `η` the rate.
///
/// Coupled decay adds `λ·w` to the gradient, decoupled decay takes `η·λ·w` off the parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// `v ← μ·v + g; w ← w − η·v`, coupled decay; with Nesterov `w ← w − η·(g + μ·v)`.
    Momentum {
        /// μ
        momentum: f64,
        /// λ
        weight_decay: f64,
        /// Looks ahead by one step of the velocity.
        #[serde(default)]
        nesterov: bool,
    },
    /// `w ← w − η·g`, coupled decay.
    Sgd {
        /// λ
        weight_decay: f64,
    },
    /// Adam, <https://arxiv.org/abs/1412.6980>, with coupled decay; β 0.9 and 0.999.
    Adam {
        /// λ
        weight_decay: f64,
    },
    /// Adam with decoupled decay, <https://arxiv.org/abs/1711.05101>; β 0.9 and 0.999.
    #[serde(rename = "adam_w", alias = "adamw")]
    AdamW {
        /// λ
        weight_decay: f64,
    },
    /// `s ← ρ·s + (1 − ρ)·g²; v ← μ·v + η·g / √(s + ε); w ← w − v`, coupled decay.
    #[serde(rename = "rms_prop", alias = "rmsprop")]
    RmsProp {
        /// ρ, 0.95 in the reference.
        rho: f64,
        /// μ
        momentum: f64,
        /// ε, 1e-6 in the reference.
        epsilon: f64,
        /// λ
        weight_decay: f64,
    },
}

/// What a parameter's decay and rate depend on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParameterRules {
    /// Whether vectors (biases, normalization) decay as well; they do not in PP-LCNet.
    pub decay_vectors: bool,
    /// Factors of the rate by prefix of a parameter's path, the longest match counts; 0 freezes.
    pub rate_multipliers: BTreeMap<String, f64>,
}

impl ParameterRules {
    fn rate_multiplier(&self, path: &str) -> f64 {
        let matches = self.rate_multipliers.iter().filter(|(prefix, _)| path.starts_with(*prefix));
        matches.max_by_key(|(prefix, _)| prefix.len()).map_or(1.0, |(_, factor)| *factor)
    }
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const ADAM_EPSILON: f64 = 1e-8;

/// Changes a module's parameters by their gradients.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    rules: ParameterRules,
    step: u64,
    /// Moments, flattened, by path: none, one or two a rule.
    moments: BTreeMap<String, Vec<Tensor<1>>>,
    /// Gradients, flattened, of batches that the next step adds to its own.
    held: BTreeMap<String, Tensor<1>>,
}

impl Optimizer {
    /// An optimizer that has seen no gradient.
    pub fn new(config: OptimizerConfig) -> Self {
        Self::resume_from(config, 0, BTreeMap::new())
    }

    /// The same with rules for parameters.
    #[must_use]
    pub fn with_rules(self, rules: ParameterRules) -> Self {
        Self { rules, ..self }
    }

    /// One step; parameters without a gradient stay as they are.
    pub fn step<M: Module>(&mut self, module: M, gradients: &Gradients, rate: f64) -> M {
        self.step_scaled(module, gradients, rate, 1.0)
    }

    /// [`Self::step`] by the gradients, those held included, of a loss that was multiplied by
    /// `scale`.
    pub fn step_scaled<M: Module>(
        &mut self,
        module: M,
        gradients: &Gradients,
        rate: f64,
        scale: f64,
    ) -> M {
        self.step += 1;
        let path = ParameterPath::default();
        module.map(&mut Step { optimizer: self, gradients, rate, scale, path })
    }

    /// Whether all gradients of a step, those held included, are numbers.
    pub fn are_finite(&self, module: &impl Module, gradients: &Gradients) -> bool {
        let mut sum: Option<Tensor<1>> = None;
        // What came out of 16 bits sums up far within 32; shaders may take it that a product with zero is
        // zero, so sizes are added.
        let mut add = |gradient: Tensor<1>| {
            let size = gradient.abs().sum();
            sum = Some(match sum.take() {
                Some(sum) => sum + size,
                None => size,
            });
        };
        self.held.values().cloned().for_each(&mut add);
        each_gradient(module, gradients, |_, gradient| add(gradient));
        sum.is_none_or(|sum| sum.into_scalar::<f32>().is_finite())
    }

    /// Gives up a step with all that was held for it.
    pub fn skip(&mut self) {
        self.held.clear();
    }

    /// Keeps the gradients of a batch for the next step, which adds them to its own: batches larger
    /// than the memory.
    pub fn hold(&mut self, module: &impl Module, gradients: &Gradients) {
        each_gradient(module, gradients, |path, gradient| self.hold_one(path, gradient));
    }

    /// [`Self::hold`] of gradients that another device computed, by the parameter's path.
    pub fn hold_values(&mut self, gradients: Weights, device: &Device) {
        for (path, NamedTensor { values, .. }) in gradients.tensors {
            let data = TensorData::from(values.as_slice());
            self.hold_one(path, Tensor::from_data(data, &device.clone().inner()));
        }
    }

    fn hold_one(&mut self, path: String, gradient: Tensor<1>) {
        let sum = match self.held.remove(&path) {
            Some(held) => held + gradient,
            None => gradient,
        };
        self.held.insert(path, sum);
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

    /// An optimizer that goes on from a checkpoint.
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
        Self::resume_from(config, step, moments)
    }

    fn resume_from(
        config: OptimizerConfig,
        step: u64,
        moments: BTreeMap<String, Vec<Tensor<1>>>,
    ) -> Self {
        Self { config, rules: ParameterRules::default(), step, moments, held: BTreeMap::new() }
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
        let coupled = |weight_decay: f64| {
            if decays && weight_decay != 0.0 {
                gradient.clone() + value.clone() * weight_decay
            } else {
                gradient.clone()
            }
        };
        // Moving averages start at zero.
        let average = |old: Option<Tensor<1>>, new: Tensor<1>, keep: f64| match old {
            Some(old) => old * keep + new * (1.0 - keep),
            None => new * (1.0 - keep),
        };
        match self.config {
            OptimizerConfig::Momentum { momentum, weight_decay, nesterov } => {
                let gradient = coupled(weight_decay);
                let velocity = match moments.pop() {
                    Some(old) => gradient.clone() + old * momentum,
                    None => gradient.clone(),
                };
                moments.push(velocity.clone());
                let direction = if nesterov { gradient + velocity * momentum } else { velocity };
                value - direction * rate
            }
            OptimizerConfig::Sgd { weight_decay } => {
                let step = coupled(weight_decay) * rate;
                value - step
            }
            OptimizerConfig::Adam { weight_decay } | OptimizerConfig::AdamW { weight_decay } => {
                let decoupled = matches!(self.config, OptimizerConfig::AdamW { .. });
                let gradient = if decoupled { gradient } else { coupled(weight_decay) };
                let second = average(moments.pop(), gradient.clone().powi_scalar(2), BETA_2);
                let first = average(moments.pop(), gradient, BETA_1);
                *moments = vec![first.clone(), second.clone()];
                let t = self.step as i32;
                let (first_share, second_share) = (1.0 - BETA_1.powi(t), 1.0 - BETA_2.powi(t));
                let deviation = (second / second_share).sqrt() + ADAM_EPSILON;
                let kept =
                    if decoupled && decays { value * (1.0 - rate * weight_decay) } else { value };
                kept - first / deviation * (rate / first_share)
            }
            OptimizerConfig::RmsProp { rho, momentum, epsilon, weight_decay } => {
                let gradient = coupled(weight_decay);
                let (old_velocity, old_mean) = (moments.pop(), moments.pop());
                let mean = average(old_mean, gradient.clone().powi_scalar(2), rho);
                let step = gradient / (mean.clone() + epsilon).sqrt() * rate;
                let velocity = match old_velocity {
                    Some(old) => old * momentum + step,
                    None => step,
                };
                *moments = vec![mean, velocity.clone()];
                value - velocity
            }
        }
    }
}

/// Calls `found` with the path and the flattened gradient of every parameter that has one.
pub fn each_gradient(
    module: &impl Module,
    gradients: &Gradients,
    found: impl FnMut(String, Tensor<1>),
) {
    module.visit(&mut EachGradient { gradients, path: ParameterPath::default(), found });
}

struct EachGradient<'a, F> {
    gradients: &'a Gradients,
    path: ParameterPath,
    found: F,
}

impl<F: FnMut(String, Tensor<1>)> ModuleVisitor for EachGradient<'_, F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            (self.found)(self.path.name(), gradient.flatten(0, D - 1));
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut Optimizer,
    gradients: &'a Gradients,
    rate: f64,
    scale: f64,
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
        let path = self.path.name();
        let held = self.optimizer.held.remove(&path);
        let gradient = param.val().grad(self.gradients).map(|g| g.flatten(0, D - 1));
        let gradient = match (held, gradient) {
            (Some(held), Some(gradient)) => held + gradient,
            (Some(gradient), None) | (None, Some(gradient)) => gradient,
            (None, None) => return param,
        };
        let gradient = if self.scale == 1.0 { gradient } else { gradient / self.scale };
        let multiplier = self.optimizer.rules.rate_multiplier(&path);
        if multiplier == 0.0 {
            return param;
        }
        let rate = self.rate * multiplier;
        let decays = D > 1 || self.optimizer.rules.decay_vectors;
        let optimizer = &mut *self.optimizer;
        param.map(|tensor| {
            let shape = tensor.shape();
            let length = shape.num_elements();
            let value = tensor.inner().reshape([length]);
            let new = optimizer.update(&path, value, gradient, rate, decays);
            Tensor::from_inner(new.reshape(shape)).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_loss_takes_the_same_step_and_an_overflow_is_noticed() {
        let device = Device::flex().autodiff();
        let config = OptimizerConfig::Momentum { momentum: 0.9, weight_decay: 0.1, nesterov: true };
        let step = |scale: f64| {
            let (line, mut optimizer) = (Line::new(&device), Optimizer::new(config));
            let loss = |line: &Line| {
                let slope = line.slope.val().powi_scalar(2) + line.shift.val();
                slope.sum() * scale
            };
            optimizer.hold(&line, &loss(&line).backward());
            let gradients = loss(&line).backward();
            assert!(optimizer.are_finite(&line, &gradients));
            let line = optimizer.step_scaled(line, &gradients, 0.1, scale);
            let too_much = (line.slope.val() * f32::MAX * 4.0).sum().backward();
            assert!(!optimizer.are_finite(&line, &too_much));
            // Held, it spoils the next step's, until that is given up.
            optimizer.hold(&line, &too_much);
            let gradients = loss(&line).backward();
            assert!(!optimizer.are_finite(&line, &gradients));
            optimizer.skip();
            assert!(optimizer.are_finite(&line, &gradients));
            Weights::from_module(&line)
        };
        // A power of two changes no digit.
        assert!(step(1.0) == step(1024.0));
    }

    #[derive(Module, Debug)]
    struct Line {
        slope: Param<Tensor<1>>,
        /// The first batch's loss does not know it.
        shift: Param<Tensor<1>>,
    }

    impl Line {
        fn new(device: &Device) -> Self {
            let tensor = |value: f32| {
                Tensor::from_data(TensorData::new(vec![value], [1]), device).require_grad()
            };
            Self { slope: Param::from_tensor(tensor(0.5)), shift: Param::from_tensor(tensor(-1.0)) }
        }

        fn first_loss(&self) -> Tensor<1> {
            self.slope.val() * 3.0
        }

        fn second_loss(&self) -> Tensor<1> {
            self.slope.val().powi_scalar(2) + self.shift.val() * 2.0
        }
    }

    #[test]
    fn held_gradients_count_in_the_next_step_and_only_there() {
        let device = Device::flex().autodiff();
        let rule = OptimizerConfig::Sgd { weight_decay: 0.0 };
        let (mut parts, mut whole) = (Optimizer::new(rule), Optimizer::new(rule));
        let (mut a, mut b) = (Line::new(&device), Line::new(&device));
        for _ in 0..2 {
            parts.hold(&a, &a.first_loss().backward());
            a = {
                let gradients = a.second_loss().backward();
                parts.step(a, &gradients, 0.1)
            };
            b = {
                let gradients = (b.first_loss() + b.second_loss()).backward();
                whole.step(b, &gradients, 0.1)
            };
        }
        assert_eq!(Weights::from_module(&a), Weights::from_module(&b));
        assert_eq!(parts.steps(), 2);
        // A step that the second loss takes no part in still uses what is held.
        parts.hold(&a, &a.second_loss().backward());
        let before = Weights::from_module(&a).tensors["shift"].values[0];
        let gradients = a.first_loss().backward();
        let after = Weights::from_module(&parts.step(a, &gradients, 0.1));
        assert_eq!(after.tensors["shift"].values[0], before - 0.1 * 2.0);
    }
}
