//! Parameters without a tensor library: a shape and values.

use std::ops::Deref;

pub use magpie_nets_derive::Module;

/// The processor that the program runs on: where there are no tensors, there is no other device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {}

impl Device {
    /// The processor, by the name that Burn has for its backend.
    pub const fn flex() -> Self {
        Self {}
    }
}

/// The device of a network that is packed for another processor.
pub(crate) const fn host() -> Device {
    Device::flex()
}

/// Row-major values of a shape.
#[derive(Clone, PartialEq)]
pub struct Tensor<const D: usize> {
    shape: [usize; D],
    values: Fill,
}

/// The values of a [`Tensor`].
#[derive(Clone, PartialEq)]
enum Fill {
    /// One value everywhere: of a fresh network. Weights take its place when a file is read.
    Constant(f32),
    /// As they were read.
    Read(Vec<f32>),
}

impl<const D: usize> Tensor<D> {
    /// Extents, the outermost first.
    pub fn dims(&self) -> [usize; D] {
        self.shape
    }

    fn values(&self) -> Vec<f32> {
        match &self.values {
            Fill::Constant(value) => vec![*value; self.shape.iter().product()],
            Fill::Read(values) => values.clone(),
        }
    }
}

impl<const D: usize> std::fmt::Debug for Tensor<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor{:?}", self.shape)
    }
}

/// A learned value.
#[derive(Debug, Clone, PartialEq)]
pub struct Param<T>(T);

impl<T> Deref for Param<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A value that follows training.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningState<T>(T);

/// A parameter's place: its shape, and the values that come to lie there.
#[doc(hidden)]
pub struct Place<'a> {
    pub(crate) shape: &'a [usize],
    values: &'a mut Fill,
}

impl Place<'_> {
    /// Puts values there, as many as the shape has.
    pub(crate) fn put(self, values: Vec<f32>) {
        debug_assert_eq!(values.len(), self.shape.iter().product::<usize>());
        *self.values = Fill::Read(values);
    }
}

/// A part of a network: it knows its parameters by the names of the fields down to them, joined by dots, as
/// Burn's modules do. Variants of enums have no part in the names.
pub trait Module: Clone {
    /// Calls `visit` with the name and the place of each parameter below `path`.
    #[doc(hidden)]
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>));
}

/// The name of a field below a path.
pub(crate) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl<const D: usize> Module for Tensor<D> {
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>)) {
        visit(path, Place { shape: &self.shape, values: &mut self.values });
    }
}

impl<T: Module> Module for Param<T> {
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>)) {
        self.0.each(path, visit);
    }
}

impl<T: Module> Module for RunningState<T> {
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>)) {
        self.0.each(path, visit);
    }
}

impl<T: Module> Module for Option<T> {
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>)) {
        if let Some(part) = self {
            part.each(path, visit);
        }
    }
}

impl<T: Module> Module for Vec<T> {
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>)) {
        for (index, part) in self.iter_mut().enumerate() {
            part.each(&below(path, &index.to_string()), visit);
        }
    }
}

impl<T: Module, const N: usize> Module for [T; N] {
    fn each(&mut self, path: &str, visit: &mut dyn FnMut(&str, Place<'_>)) {
        for (index, part) in self.iter_mut().enumerate() {
            part.each(&below(path, &index.to_string()), visit);
        }
    }
}

/// Options of a layer hold no parameters.
macro_rules! without_parameters {
    ($($option:ty),*) => {
        $(impl Module for $option {
            fn each(&mut self, _: &str, _: &mut dyn FnMut(&str, Place<'_>)) {}
        })*
    };
}

without_parameters!(bool, usize, f64);

/// Zeros in the place of values drawn from `N(0, std)`: a network of such a program is read from a file.
pub(crate) fn normal<const D: usize>(
    shape: [usize; D],
    _: f64,
    device: &Device,
) -> Param<Tensor<D>> {
    constant(shape, 0.0, device)
}

/// One value everywhere.
pub(crate) fn constant<const D: usize>(
    shape: [usize; D],
    value: f32,
    _: &Device,
) -> Param<Tensor<D>> {
    Param(Tensor { shape, values: Fill::Constant(value) })
}

/// Statistics of so many channels that follow training, one value everywhere.
pub(crate) fn state(channels: usize, value: f32, _: &Device) -> RunningState<Tensor<1>> {
    RunningState(Tensor { shape: [channels], values: Fill::Constant(value) })
}

/// The parameter, which training leaves as it is.
pub(crate) fn frozen<const D: usize>(param: Param<Tensor<D>>) -> Param<Tensor<D>> {
    param
}

/// The values of a parameter, row-major.
pub(crate) fn of_param<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
    param.0.values()
}

/// The values of statistics.
pub(crate) fn of_state(state: &RunningState<Tensor<1>>) -> Vec<f32> {
    state.0.values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Module, Debug)]
    struct Inner {
        weight: Param<Tensor<2>>,
        bias: Option<Param<Tensor<1>>>,
        stride: usize,
    }

    #[derive(Module, Debug)]
    enum Choice {
        One(Inner),
        Many(Vec<Inner>),
        Nothing,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct NoModule;

    #[derive(Module, Debug)]
    struct Network {
        first: Inner,
        choice: Choice,
        pair: [Choice; 2],
        mean: RunningState<Tensor<1>>,
        #[module(skip)]
        other: NoModule,
    }

    fn inner(has_bias: bool) -> Inner {
        let device = host();
        Inner {
            weight: normal([2, 3], 0.1, &device),
            bias: has_bias.then(|| frozen(constant([2], 1.0, &device))),
            stride: 2,
        }
    }

    fn network() -> Network {
        Network {
            first: inner(true),
            choice: Choice::Many(vec![inner(false), inner(true)]),
            pair: [Choice::One(inner(false)), Choice::Nothing],
            mean: state(2, 0.5, &host()),
            other: NoModule,
        }
    }

    #[test]
    fn parameters_have_the_names_of_burns_modules() {
        let mut names = Vec::new();
        network().each("", &mut |name, place| names.push((name.to_owned(), place.shape.len())));
        let expected = [
            ("first.weight", 2),
            ("first.bias", 1),
            ("choice.0.weight", 2),
            ("choice.1.weight", 2),
            ("choice.1.bias", 1),
            ("pair.0.weight", 2),
            ("mean", 1),
        ];
        assert_eq!(names, expected.map(|(name, dims)| (name.to_owned(), dims)));
    }

    #[test]
    fn values_lie_where_they_were_put() {
        let mut network = network();
        assert_eq!(of_state(&network.mean), [0.5, 0.5]);
        assert_eq!(of_param(&network.first.weight), [0.0; 6]);
        network.each("", &mut |name, place| {
            if name == "first.weight" {
                place.put(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            }
        });
        let copy = network.clone();
        assert_eq!(of_param(&copy.first.weight), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(copy.first.bias.as_ref().map(of_param), Some(vec![1.0, 1.0]));
        assert_eq!((copy.first.weight.dims(), copy.first.stride), ([2, 3], 2));
        assert_eq!(copy.other, NoModule);
    }
}
