//! Classification heads that exist only in training.
//!
//! A head over very many classes takes 12 bytes per weight with momentum (weight, velocity,
//! gradient): 192,612 classes of 512 values are 1.2 GB. The logits of a batch of 256 and what is
//! computed from them come on top, 0.2 GB each; [`Head::forward_among`] shrinks those, and the
//! time they take, to a share of the classes.

mod ada_margin;
mod margin;

pub use ada_margin::AdaMargin;
pub use margin::{ArcMargin, CircleMargin, CosMargin};

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

/// Which head, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum HeadConfig {
    /// A linear layer, drawn from N(0, 0.001²): the head of PP-ShiTuV2.
    Fc {
        /// Whether a bias is learned, starting at 0; not in PP-ShiTuV2.
        #[serde(default)]
        bias: bool,
    },
    /// See [`ArcMargin`].
    ArcMargin {
        /// Angle added for the target class, in radians; 0.2 in PP-ShiTuV1.
        margin: f64,
        /// Factor of the cosines; 30 in PP-ShiTuV1.
        scale: f64,
        /// Leaves a target with a negative cosine as it is.
        #[serde(default)]
        easy_margin: bool,
    },
    /// See [`CosMargin`].
    CosMargin {
        /// Taken off the target's cosine; 0.35 in the reference.
        margin: f64,
        /// Factor of the cosines; 64 in the reference.
        scale: f64,
    },
    /// See [`CircleMargin`].
    CircleMargin {
        /// 0.35 in the logo recipe.
        margin: f64,
        /// 64 in the logo recipe.
        scale: f64,
    },
    /// See [`AdaMargin`].
    AdaMargin {
        /// 0.4 in the reference.
        margin: f64,
        /// 64 in the reference.
        scale: f64,
        /// Slope from a length to its share of the margin; 0.333 in the reference.
        slope: f64,
        /// Share of a batch in the running statistics of the lengths; 0.01 in the reference's
        /// recipe.
        momentum: f64,
    },
}

impl HeadConfig {
    /// A freshly initialized head.
    pub fn init(&self, embedding_dim: usize, classes: usize, device: &Device) -> Head {
        let shape = [embedding_dim, classes];
        let std = (2.0 / (embedding_dim + classes) as f64).sqrt();
        let xavier = || Initializer::Normal { mean: 0.0, std }.init(shape, device);
        match *self {
            Self::Fc { bias } => Head::Fc(Fc {
                weight: Initializer::Normal { mean: 0.0, std: 0.001 }.init(shape, device),
                bias: bias.then(|| Initializer::Zeros.init([classes], device)),
            }),
            Self::ArcMargin { margin, scale, easy_margin } => {
                Head::ArcMargin(ArcMargin { weight: xavier(), margin, scale, easy_margin })
            }
            Self::CosMargin { margin, scale } => {
                Head::CosMargin(CosMargin { weight: xavier(), margin, scale })
            }
            Self::CircleMargin { margin, scale } => {
                Head::CircleMargin(CircleMargin { weight: xavier(), margin, scale })
            }
            Self::AdaMargin { margin, scale, slope, momentum } => {
                let uniform = Initializer::Uniform { min: -1.0, max: 1.0 };
                let weight = uniform.init(shape, device);
                Head::AdaMargin(AdaMargin::new(weight, margin, scale, slope, momentum))
            }
        }
    }
}

/// Turns embeddings into class logits.
#[derive(Module, Debug)]
pub enum Head {
    /// See [`Fc`].
    Fc(Fc),
    /// See [`ArcMargin`].
    ArcMargin(ArcMargin),
    /// See [`CosMargin`].
    CosMargin(CosMargin),
    /// See [`CircleMargin`].
    CircleMargin(CircleMargin),
    /// See [`AdaMargin`].
    AdaMargin(AdaMargin),
}

impl Head {
    /// `[embedding_dim, classes]`
    fn weight(&self) -> Tensor<2> {
        match self {
            Self::Fc(Fc { weight, .. })
            | Self::ArcMargin(ArcMargin { weight, .. })
            | Self::CosMargin(CosMargin { weight, .. })
            | Self::CircleMargin(CircleMargin { weight, .. })
            | Self::AdaMargin(AdaMargin { weight, .. }) => weight.val(),
        }
    }

    /// Logits for training, margins included.
    ///
    /// # Shapes
    ///
    /// - `raw_embedding`: `[batch, embedding_dim]`, any length
    /// - `targets`: `[batch]`, class index in `0..classes`
    /// - output: `[batch, classes]`
    pub fn forward(&self, raw_embedding: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        self.logits(raw_embedding, targets, None)
    }

    /// [`Self::forward`] among some classes only, so that neither the logits nor their gradients
    /// grow with the number of all.
    ///
    /// Source: "Partial FC", <https://arxiv.org/abs/2010.05222>, §3.2.
    ///
    /// # Shapes
    ///
    /// - `raw_embedding`: `[batch, embedding_dim]`, any length
    /// - `targets`: `[batch]`, position in `classes`
    /// - `classes`: `[some]`, class index in `0..classes`, each at most once
    /// - output: `[batch, some]`
    pub fn forward_among(
        &self,
        raw_embedding: Tensor<2>,
        targets: Tensor<1, Int>,
        classes: Tensor<1, Int>,
    ) -> Tensor<2> {
        self.logits(raw_embedding, targets, Some(classes))
    }

    fn logits(
        &self,
        raw_embedding: Tensor<2>,
        targets: Tensor<1, Int>,
        classes: Option<Tensor<1, Int>>,
    ) -> Tensor<2> {
        let weight = match &classes {
            Some(classes) => self.weight().select(1, classes.clone()),
            None => self.weight(),
        };
        match self {
            Self::Fc(head) => {
                let logits = raw_embedding.matmul(weight);
                match (&head.bias, classes) {
                    (None, _) => logits,
                    (Some(bias), None) => logits + bias.val().unsqueeze(),
                    (Some(bias), Some(classes)) => {
                        logits + bias.val().select(0, classes).unsqueeze()
                    }
                }
            }
            Self::ArcMargin(head) => head.logits(cosines(raw_embedding, weight), targets),
            Self::CosMargin(head) => head.logits(cosines(raw_embedding, weight), targets),
            Self::CircleMargin(head) => head.logits(cosines(raw_embedding, weight), targets),
            Self::AdaMargin(head) => {
                head.logits(cosines(raw_embedding.clone(), weight), raw_embedding, targets)
            }
        }
    }

    /// Logits without a target: plain cosines, not scaled, for the margin heads.
    ///
    /// # Shapes
    ///
    /// As [`Self::forward`].
    pub fn evaluate(&self, raw_embedding: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Fc(head) => {
                let logits = raw_embedding.matmul(head.weight.val());
                match &head.bias {
                    Some(bias) => logits + bias.val().unsqueeze(),
                    None => logits,
                }
            }
            _ => cosines(raw_embedding, self.weight()),
        }
    }
}

/// Cosines between rows of an embedding and columns of a weight, `[batch, classes]`.
fn cosines(raw_embedding: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let weight = l2_normalize(weight.transpose()).transpose();
    l2_normalize(raw_embedding).matmul(weight)
}

/// Linear layer.
#[derive(Module, Debug)]
pub struct Fc {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
    /// `[classes]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// `[batch, classes]`, true for the class of a row.
fn is_target(targets: Tensor<1, Int>, classes: usize) -> Tensor<2, Bool> {
    // Burn's one-hot refuses a single class.
    let shape = [targets.dims()[0], classes];
    let all = Tensor::<1, Int>::arange(0..classes as i64, &targets.device());
    targets.unsqueeze_dim::<2>(1).expand(shape).equal(all.unsqueeze_dim::<2>(0).expand(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, TensorData};

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn targets_are_told_apart_whatever_their_number() {
        let device = Device::flex();
        for (targets, classes) in [(&[0, 0][..], 1), (&[2, 0, 1, 2], 3)] {
            let data = TensorData::new(targets.to_vec(), [targets.len()]);
            let told = is_target(Tensor::from_data(data, &device), classes);
            let told: Vec<bool> = told.into_data().iter().collect();
            let expected = targets.iter().flat_map(|&t| (0..classes).map(move |c| c == t as usize));
            assert_eq!(told, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_single_class_has_logits_too() {
        let device = Device::flex();
        for config in [
            HeadConfig::Fc { bias: true },
            HeadConfig::ArcMargin { margin: 0.2, scale: 30.0, easy_margin: false },
            HeadConfig::CosMargin { margin: 0.35, scale: 64.0 },
            HeadConfig::CircleMargin { margin: 0.35, scale: 64.0 },
            HeadConfig::AdaMargin { margin: 0.4, scale: 64.0, slope: 0.333, momentum: 0.01 },
        ] {
            let embedding = Tensor::random([3, 4], Distribution::Normal(0.0, 1.0), &device);
            let logits = config.init(4, 1, &device).forward(embedding, Tensor::zeros([3], &device));
            assert_eq!(logits.dims(), [3, 1]);
            assert!(values(logits).iter().all(|value| value.is_finite()), "{config:?}");
        }
    }

    #[test]
    fn logits_among_all_classes_are_the_logits() {
        let device = Device::flex();
        let embedding = Tensor::random([3, 4], Distribution::Normal(0.0, 1.0), &device);
        let targets = || Tensor::<1, Int>::from_ints([2, 0, 4], &device);
        for config in [
            HeadConfig::Fc { bias: true },
            HeadConfig::ArcMargin { margin: 0.2, scale: 30.0, easy_margin: false },
            HeadConfig::CosMargin { margin: 0.35, scale: 64.0 },
            HeadConfig::CircleMargin { margin: 0.35, scale: 64.0 },
        ] {
            let head = config.init(4, 5, &device);
            let whole = values(head.forward(embedding.clone(), targets()));
            let all = Tensor::arange(0..5, &device);
            assert_eq!(values(head.forward_among(embedding.clone(), targets(), all)), whole);
            // Classes 4, 0, 2: the targets' columns move with them.
            let some = Tensor::from_ints([4, 0, 2], &device);
            let places = Tensor::from_ints([2, 1, 0], &device);
            let part = values(head.forward_among(embedding.clone(), places, some));
            for row in 0..3 {
                for (column, class) in [4, 0, 2].into_iter().enumerate() {
                    let (got, expected) = (part[row * 3 + column], whole[row * 5 + class]);
                    assert!((got - expected).abs() < 1e-4, "{config:?}: {got} {expected}");
                }
            }
        }
    }
}
