//! What a recipe trains: an extractor or a detector, each with its data.

use std::path::PathBuf;

use models::detector::DetectorConfig;
use models::extractor::ExtractorConfig;
use models::model_file::Architecture;
use serde::{Deserialize, Serialize};

use crate::data::augment::Augmentation;
use crate::data::boxed::BoxedAugmentation;
use crate::data::operator::Operator;
use crate::data::sampler::SamplerConfig;
use crate::data::scenes::SceneOptions;
use crate::head::HeadConfig;
use crate::loss::{LossKind, LossTerm};

/// What is trained, and on what. A recipe's file has the one table `[extractor]` or `[detector]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Images become embeddings.
    Extractor(ExtractorTask),
    /// Images become boxes.
    Detector(DetectorTask),
}

impl Task {
    /// The network that is trained, without its head.
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Extractor(task) => Architecture::Extractor(task.model.clone()),
            Self::Detector(task) => Architecture::Detector(task.model.clone()),
        }
    }
}

/// What an extractor is trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractorTask {
    /// The network.
    pub model: ExtractorConfig,
    /// Weights to begin with: all of the network's, or the backbone's alone. Absent: random ones.
    #[serde(default)]
    pub pretrained: Option<PathBuf>,
    /// A network to learn from, beside the labels or instead of them.
    #[serde(default)]
    pub teacher: Option<TeacherConfig>,
    /// The head.
    pub head: HeadConfig,
    /// Share of the classes that the head is asked about a batch: the batch's own and random others
    /// (Partial FC). 1 is exact; over a hundred thousand classes 0.1 loses little. Not with
    /// `dshsd`, which compares classes and logits.
    #[serde(default = "default_head_share")]
    pub head_share: f64,
    /// The losses, summed.
    pub losses: Vec<LossTerm>,
    /// List file or folder to learn from.
    pub train: PathBuf,
    /// List file or folder of queries for the evaluation. Absent, or the images of `train`: some of these
    /// are held out.
    pub query: Option<PathBuf>,
    /// List file or folder that is searched; by default the queries, each without itself, or what is learned
    /// from where queries are held out.
    pub gallery: Option<PathBuf>,
    /// Share of the images of every class that is held out of training as queries, at least one, if
    /// there is no other `query`. 0: none.
    #[serde(default = "default_hold_out")]
    pub hold_out: f64,
    /// Which images make a batch.
    #[serde(default)]
    pub sampler: SamplerConfig,
    /// Changes in order, on the decoded image, its transparency on white.
    #[serde(default)]
    pub operators: Vec<Operator>,
    /// Random changes in one pass, after the operators.
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// A network whose embeddings another one learns to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// Its model file, as `magpie train`, `export` and `import` write it, or a list of such files: an
    /// ensemble, whose embedding is theirs one behind the other.
    pub weights: Members,
    /// Side of the images that it sees; by default that of its own input. They are what the
    /// network in training sees, resampled.
    #[serde(default)]
    pub side: Option<u32>,
}

/// One file or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Members {
    /// One.
    One(PathBuf),
    /// Several, in this order.
    Several(Vec<PathBuf>),
}

impl Members {
    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::One(file) => std::slice::from_ref(file),
            Self::Several(files) => files,
        }
    }
}

/// What a detector is trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorTask {
    /// The network.
    pub model: DetectorConfig,
    /// Weights to begin with: all of the network's, or the backbone's alone. Absent: random ones.
    #[serde(default)]
    pub pretrained: Option<PathBuf>,
    /// List file or folder of cut-outs with transparency, composed into scenes.
    pub cutouts: Option<PathBuf>,
    /// How scenes are composed.
    #[serde(default)]
    pub scenes: SceneOptions,
    /// Epochs in which a newer PicoDet is assigned by overlaps alone; a third of all by default, 100
    /// of 300 in the reference.
    #[serde(default)]
    pub atss_epochs: Option<usize>,
    /// COCO file of boxes drawn by hand.
    pub coco: Option<PathBuf>,
    /// Folder of its images. Absent: looked for beside the file, in `images` and in folders named like the
    /// file, here and one level up.
    #[serde(default)]
    pub coco_images: Option<PathBuf>,
    /// Random changes of the images of `coco`.
    #[serde(default)]
    pub augmentation: BoxedAugmentation,
    /// Sides of the network's input, one of which is drawn a batch (`BatchRandomResize`; 576 to 704
    /// in steps of 32 in the mainbody recipe); empty: always that of `preprocess`.
    #[serde(default)]
    pub sizes: Vec<u32>,
    /// List file or folder of cut-outs for the evaluation's scenes.
    pub eval_cutouts: Option<PathBuf>,
    /// COCO file for the evaluation.
    pub eval_coco: Option<PathBuf>,
    /// Folder of its images, found as that of `coco_images` where absent.
    #[serde(default)]
    pub eval_coco_images: Option<PathBuf>,
    /// Scenes of an evaluation.
    #[serde(default = "default_eval_scenes")]
    pub eval_scenes: usize,
}

/// Every class, exactly.
fn default_head_share() -> f64 {
    1.0
}

/// A fifth of the images.
fn default_hold_out() -> f64 {
    0.2
}

fn default_eval_scenes() -> usize {
    100
}

impl ExtractorTask {
    /// Whether losses, head and teacher go together; `Err` says what to change.
    pub(super) fn check_losses(&self) -> Result<(), &'static str> {
        let kinds = || self.losses.iter().map(|term| &term.loss);
        if self.losses.is_empty() {
            return Err("[[extractor.losses]] is empty; add one with kind = \"cross_entropy\"");
        }
        if self.head_share < 1.0 && kinds().any(|kind| matches!(kind, LossKind::Dshsd(_))) {
            return Err("dshsd needs all classes: take extractor.head_share away");
        }
        match (kinds().any(LossKind::has_teacher), &self.teacher) {
            (true, Some(teacher)) if teacher.weights.files().is_empty() => {
                Err("extractor.teacher.weights is an empty list; name a model file")
            }
            (false, Some(_)) => Err("no loss looks at extractor.teacher; add one of the kinds \
                                     \"teacher_cosine\" and \"teacher_relations\""),
            (true, None) => {
                Err("a loss looks at a teacher; name one: extractor.teacher = { weights = \
                                 \"model.safetensors\" }")
            }
            _ => Ok(()),
        }
    }
}
