//! Weights into Burn's modules, and out of them.

use std::collections::BTreeMap;

use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::{NamedTensor, Weights, WeightsError};

impl Weights {
    /// Every tensor of a module, read back from its device.
    pub fn from_module(module: &impl Module) -> Self {
        let mut visitor = Collector::default();
        // Running statistics of training steps are merged only on the way out of training.
        module.valid().visit(&mut visitor);
        Self { tensors: visitor.tensors }
    }

    /// The names and shapes of a module's tensors, which are not made for that.
    pub fn shapes_of(module: &impl Module) -> BTreeMap<String, Vec<usize>> {
        let mut visitor = Shapes::default();
        module.visit(&mut visitor);
        visitor.shapes
    }

    /// Puts the tensors into a module of the same architecture, on the module's device.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Missing`], [`WeightsError::Shape`] or [`WeightsError::Unused`], naming the
    /// tensor.
    pub fn load_into<M: Module>(self, module: M) -> Result<M, WeightsError> {
        let mut loader = Loader { path: ParameterPath::default(), weights: self, error: None };
        let module = module.map(&mut loader);
        loader.error.map_or_else(|| loader.weights.finish(), Err)?;
        Ok(module)
    }
}

/// Where a traversal of a module is: the names of the fields down to the parameter.
///
/// Variants of enums are left out, so that a file names parts of a network and not Rust types.
#[derive(Debug, Default)]
pub struct ParameterPath {
    names: Vec<String>,
}

impl ParameterPath {
    /// To be called by `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.push(name.to_owned());
        }
    }

    /// To be called by `exit_module`.
    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.pop();
        }
    }

    /// The path with dots.
    pub fn name(&self) -> String {
        self.names.join(".")
    }
}

#[derive(Default)]
struct Collector {
    path: ParameterPath,
    tensors: BTreeMap<String, NamedTensor>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data().try_into_vec().expect("parameters are 32-bit floats");
        self.tensors.insert(self.path.name(), NamedTensor { shape, values });
    }
}

#[derive(Default)]
struct Shapes {
    path: ParameterPath,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes.insert(self.path.name(), param.lazy_shape().to_vec());
    }
}

struct Loader {
    path: ParameterPath,
    weights: Weights,
    error: Option<WeightsError>,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let shape = param.lazy_shape().to_vec();
        let values = match self.weights.take(&self.path.name(), &shape) {
            Ok(values) => values,
            Err(error) => {
                self.error = Some(error);
                return param;
            }
        };
        let (id, device) = (param.id, param.lazy_device());
        // Straight to the backend: on Burn's way every pair of number types could be converted.
        let data = TensorData::new(values, shape);
        let value = Tensor::from_dispatch(Dispatch::float_from_data(data, device.as_dispatch()));
        param.transform_for_load(value, id)
    }
}
