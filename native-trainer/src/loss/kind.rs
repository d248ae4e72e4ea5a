//! The list of losses that a recipe names, and what some of them remember from batch to batch.
//!
//! Agrees with PaddleClas `ppcls/loss/__init__.py` (`CombinedLoss`) @ d178931: a sum of weighted
//! terms, each printed weighted and under the reference's name.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use models::extractor::l2_normalize;
use models::weights::Weights;
use serde::{Deserialize, Serialize};

use super::pairs::{check_order, check_two_classes};
use super::{
    BatchError, BatchHardTriplet, Center, Contrastive, CrossBatch, CrossBatchConfig, Dch, Dshsd,
    Eml, Lcdsh, MarginSampleMining, NPairs, PairwiseCosface, SupervisedContrastive, TriHard,
    TripletAngularMargin, cosine_distance, cross_entropy, relational_angle, relational_distance,
};

/// One loss of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossTerm {
    /// Factor of the loss; 1 by default.
    #[serde(default = "default_weight")]
    pub weight: f64,
    /// Which features the loss compares.
    #[serde(default)]
    pub on: LossInput,
    /// Which loss, with its options.
    #[serde(flatten)]
    pub loss: LossKind,
}

fn default_weight() -> f64 {
    1.0
}

/// The paper's: an angle counts twice as much as a distance.
fn default_angles_weight() -> f64 {
    2.0
}

/// The features that a loss on pairs compares; a classification loss takes the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossInput {
    /// What the neck makes, before it is brought to unit length (`feature_from: features`).
    #[default]
    Embedding,
    /// What the backbone makes, before the neck (`feature_from: backbone`).
    Backbone,
}

/// A loss, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LossKind {
    /// Softmax cross entropy on the head's logits.
    CrossEntropy {
        /// Share of the probability that is spread over all classes; 0.1 in PP-ShiTuV2.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`BatchHardTriplet`].
    BatchHardTriplet(BatchHardTriplet),
    /// See [`TripletAngularMargin`].
    TripletAngularMargin(TripletAngularMargin),
    /// See [`Contrastive`].
    Contrastive(Contrastive),
    /// See [`SupervisedContrastive`].
    SupervisedContrastive(SupervisedContrastive),
    /// See [`PairwiseCosface`].
    PairwiseCosface(PairwiseCosface),
    /// See [`NPairs`].
    #[serde(rename = "n_pairs")]
    NPairs(NPairs),
    /// See [`MarginSampleMining`].
    MarginSampleMining(MarginSampleMining),
    /// See [`TriHard`].
    #[serde(rename = "tri_hard")]
    TriHard(TriHard),
    /// See [`Eml`].
    Eml(Eml),
    /// See [`Center`].
    Center {
        /// Rate of the centers' own steps, on the loss without its weight; 0.5 in the
        /// re-identification recipe.
        learning_rate: f64,
    },
    /// See [`CrossBatch`].
    CrossBatch(CrossBatchConfig),
    /// See [`Dshsd`].
    Dshsd(Dshsd),
    /// See [`Lcdsh`].
    Lcdsh(Lcdsh),
    /// See [`Dch`].
    Dch(Dch),
    /// Directions of the features beside the teacher's; see [`cosine_distance`].
    TeacherCosine,
    /// How the pictures of a batch lie to each other, beside how the teacher has them: works for any
    /// widths. Distances and angles of features of unit length; see [`relational_distance`] and
    /// [`relational_angle`], which takes long with large batches: 0 leaves it out.
    TeacherRelations {
        /// Factor of the distances; 1 in the paper.
        #[serde(default = "default_weight")]
        distances: f64,
        /// Factor of the angles; 2 in the paper.
        #[serde(default = "default_angles_weight")]
        angles: f64,
    },
}

impl LossKind {
    /// The name in the log, the reference's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "CELoss",
            Self::BatchHardTriplet(BatchHardTriplet { normalize: true, .. }) => "TripletLossV2",
            Self::BatchHardTriplet(_) => "TripletLoss",
            Self::TripletAngularMargin(_) => "TripletAngularMarginLoss",
            Self::Contrastive(_) => "ContrastiveLoss",
            Self::SupervisedContrastive(_) => "SupConLoss",
            Self::PairwiseCosface(_) => "PairwiseCosface",
            Self::NPairs(_) => "NpairsLoss",
            Self::MarginSampleMining(_) => "MSMLoss",
            Self::TriHard(_) => "TriHardLoss",
            Self::Eml(_) => "EmlLoss",
            Self::Center { .. } => "CenterLoss",
            Self::CrossBatch(config) => match config.loss {
                super::CrossBatchLoss::Contrastive(_) => "ContrastiveLoss_XBM",
                super::CrossBatchLoss::TripletAngularMargin(_) => "TripletAngularMarginLoss_XBM",
            },
            Self::Dshsd(_) => "DSHSDLoss",
            Self::Lcdsh(_) => "LCDSHLoss",
            Self::Dch(_) => "DCHLoss",
            Self::TeacherCosine => "DistanceLoss",
            Self::TeacherRelations { .. } => "RKDLoss",
        }
    }

    /// Whether it compares with a teacher.
    pub fn has_teacher(&self) -> bool {
        matches!(self, Self::TeacherCosine | Self::TeacherRelations { .. })
    }

    /// Pictures of one class in a row that the loss relies on.
    fn order(&self) -> Option<usize> {
        match self {
            Self::NPairs(_) => Some(2),
            Self::MarginSampleMining(MarginSampleMining { samples_per_class, .. })
            | Self::TriHard(TriHard { samples_per_class, .. })
            | Self::Eml(Eml { samples_per_class, .. }) => Some(*samples_per_class),
            _ => None,
        }
    }

    /// Whether a batch of one class has no value.
    fn compares_classes(&self) -> bool {
        !matches!(
            self,
            Self::CrossEntropy { .. }
                | Self::Center { .. }
                | Self::Contrastive(_)
                | Self::SupervisedContrastive(_)
                | Self::Dshsd(_)
                | Self::Lcdsh(_)
                | Self::TeacherCosine
                | Self::TeacherRelations { .. }
        )
    }
}

/// What the losses of a batch look at.
#[derive(Debug, Clone)]
pub struct LossBatch<'a> {
    /// `[batch, embedding_dim]`, any length
    pub embedding: Tensor<2>,
    /// `[batch, features]`
    pub backbone: Tensor<2>,
    /// `[batch, classes]`
    pub logits: Tensor<2>,
    /// Class of each row.
    pub targets: &'a [i32],
    /// Column of each row's class among the logits, which may be those of some classes only.
    pub logit_targets: &'a [i32],
    /// What the teacher makes of the same pictures, `[batch, its embedding_dim]`, outside the graph.
    pub teacher: Option<Tensor<2>>,
}

/// What a loss remembers.
#[derive(Debug, Clone)]
enum Memory {
    Nothing,
    Centers(Center),
    Bank(CrossBatch),
}

/// The losses of a recipe with their memories.
#[derive(Debug, Clone)]
pub struct Losses {
    terms: Vec<(LossTerm, Memory)>,
}

impl Losses {
    /// Losses that have seen no batch. `widths` are those of the embedding and of the backbone's
    /// features.
    pub fn new(
        terms: &[LossTerm],
        classes: usize,
        widths: (usize, usize),
        device: &Device,
    ) -> Self {
        let memory = |term: &LossTerm| {
            let dim = match term.on {
                LossInput::Embedding => widths.0,
                LossInput::Backbone => widths.1,
            };
            match term.loss {
                LossKind::Center { .. } => {
                    Memory::Centers(Center::new(classes, dim, &device.clone().inner()))
                }
                LossKind::CrossBatch(config) => Memory::Bank(CrossBatch::new(config, dim)),
                _ => Memory::Nothing,
            }
        };
        Self { terms: terms.iter().map(|term| (*term, memory(term))).collect() }
    }

    /// The weighted terms by name.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: the batch is not one that a loss can be computed on.
    pub fn forward(
        &mut self,
        batch: &LossBatch,
    ) -> Result<Vec<(&'static str, Tensor<1>)>, BatchError> {
        let device = batch.embedding.device();
        let indices = |classes: &[i32]| -> Tensor<1, Int> {
            Tensor::from_data(TensorData::new(classes.to_vec(), [classes.len()]), &device)
        };
        let targets = indices(batch.targets);
        let logit_targets = indices(batch.logit_targets);
        self.terms
            .iter_mut()
            .map(|(term, memory)| {
                let loss = term.loss;
                if let Some(samples) = loss.order() {
                    check_order(batch.targets, samples)?;
                }
                if loss.compares_classes() {
                    check_two_classes(batch.targets)?;
                }
                let targets = match loss {
                    LossKind::CrossEntropy { .. } => logit_targets.clone(),
                    _ => targets.clone(),
                };
                let value = value(term, memory, batch, targets)?;
                Ok((loss.name(), value * term.weight))
            })
            .collect()
    }

    /// The memories as named tensors for a checkpoint; empty where no loss remembers anything.
    pub fn to_weights(&self) -> Weights {
        let mut tensors = BTreeMap::new();
        for (index, (_, memory)) in self.terms.iter().enumerate() {
            match memory {
                Memory::Nothing => {}
                Memory::Centers(center) => {
                    let weights = Weights::from_module(center).prefixed(&index.to_string());
                    tensors.extend(weights.tensors);
                }
                Memory::Bank(cross_batch) => {
                    for (name, tensor) in cross_batch.to_tensors() {
                        tensors.insert(format!("{index}.{name}"), tensor);
                    }
                }
            }
        }
        Weights { tensors }
    }

    /// Puts the memories of a checkpoint back; `false` where they belong to other losses.
    #[must_use]
    pub fn restore(&mut self, weights: &Weights) -> bool {
        self.terms.iter_mut().enumerate().all(|(index, (_, memory))| {
            let own = weights.under(&index.to_string());
            match memory {
                Memory::Nothing => own.tensors.is_empty(),
                Memory::Centers(center) => match own.load_into(center.clone()) {
                    Ok(restored) => {
                        *center = restored;
                        true
                    }
                    Err(_) => false,
                },
                Memory::Bank(cross_batch) => cross_batch.restore(&own.tensors),
            }
        })
    }
}

fn value(
    term: &LossTerm,
    memory: &mut Memory,
    batch: &LossBatch,
    targets: Tensor<1, Int>,
) -> Result<Tensor<1>, BatchError> {
    let features = match term.on {
        LossInput::Embedding => batch.embedding.clone(),
        LossInput::Backbone => batch.backbone.clone(),
    };
    Ok(match (&term.loss, memory) {
        (LossKind::CrossEntropy { label_smoothing }, _) => {
            cross_entropy(batch.logits.clone(), targets, *label_smoothing)
        }
        (LossKind::BatchHardTriplet(loss), _) => loss.forward(features, targets),
        (LossKind::TripletAngularMargin(loss), _) => loss.forward(features, targets),
        (LossKind::Contrastive(loss), _) => loss.forward(features, targets),
        (LossKind::SupervisedContrastive(loss), _) => loss.forward(features, targets),
        (LossKind::PairwiseCosface(loss), _) => loss.forward(features, targets),
        (LossKind::NPairs(loss), _) => loss.forward(features),
        (LossKind::MarginSampleMining(loss), _) => loss.forward(features),
        (LossKind::TriHard(loss), _) => loss.forward(features),
        (LossKind::Eml(loss), _) => loss.forward(features),
        (LossKind::Dshsd(loss), _) => loss.forward(features, batch.logits.clone(), targets),
        (LossKind::Lcdsh(loss), _) => loss.forward(features, targets),
        (LossKind::Dch(loss), _) => loss.forward(features, targets),
        (LossKind::Center { learning_rate }, Memory::Centers(center)) => {
            let before =
                Center { centers: Param::from_tensor(Tensor::from_inner(center.centers.val())) };
            center.follow(features.clone().inner(), targets.clone().inner(), *learning_rate);
            before.forward(features, targets)
        }
        (LossKind::TeacherCosine, _) => {
            cosine_distance(features, batch.teacher.clone().ok_or(BatchError::NoTeacher)?)
        }
        (LossKind::TeacherRelations { distances, angles }, _) => {
            let teacher = batch.teacher.clone().ok_or(BatchError::NoTeacher)?;
            let student = l2_normalize(features);
            let relations = [
                (*distances, relational_distance as fn(Tensor<2>, Tensor<2>) -> Tensor<1>),
                (*angles, relational_angle),
            ];
            // One that does not count is not computed: the angles are those of all triples.
            let counting = relations.into_iter().filter(|(factor, _)| *factor != 0.0);
            let compared = counting
                .map(|(factor, compare)| compare(student.clone(), teacher.clone()) * factor);
            compared.reduce(|a, b| a + b).unwrap_or_else(|| student.sum() * 0.0)
        }
        (LossKind::CrossBatch(_), Memory::Bank(cross_batch)) => {
            cross_batch.forward(features, batch.targets)?
        }
        (LossKind::Center { .. } | LossKind::CrossBatch(_), _) => {
            unreachable!("`Losses::new` gives both their memories")
        }
    })
}
