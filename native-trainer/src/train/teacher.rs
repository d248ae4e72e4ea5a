//! A trained network whose embeddings the one in training learns to make.
//!
//! It sees the very pictures, changes included, that the network in training sees ("function
//! matching", <https://arxiv.org/abs/2106.05237>), and needs no labels.

use std::path::Path;

use anyhow::Context;
use burn::tensor::Device;
use models::extractor::Extractor;
use models::image::RgbImage;
use models::inference::Prepared;
use models::model_file::{Architecture, ModelFile};

use crate::embedding::Runs;
use crate::files;
use crate::loss::{LossInput, LossKind};
use crate::recipe::{ExtractorTask, TeacherConfig};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Teacher(Prepared<Extractor>);

impl Teacher {
    /// Reads a teacher and holds it against the losses that look at it.
    ///
    /// # Errors
    ///
    /// A file that is no extractor's, or embeddings of another width than a loss can compare. The
    /// message names the file.
    pub(super) fn read(
        config: &TeacherConfig,
        task: &ExtractorTask,
        device: &Device,
    ) -> anyhow::Result<Self> {
        Self::prepare(config, task, device)
            .with_context(|| format!("extractor.teacher.weights, {}", config.weights.display()))
    }

    fn prepare(
        TeacherConfig { weights, side }: &TeacherConfig,
        task: &ExtractorTask,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let mut file = read_model(weights)?;
        if let Architecture::Extractor(teacher) = &file.description.architecture {
            for term in task.losses.iter().filter(|term| term.loss == LossKind::TeacherCosine) {
                let own = match term.on {
                    LossInput::Embedding => task.model.embedding_dim(),
                    LossInput::Backbone => task.model.features(),
                };
                anyhow::ensure!(
                    own == teacher.embedding_dim(),
                    "its embeddings have {} values, what \"teacher_cosine\" compares has {own}: give \
                     the neck as many (extractor.model.neck), or take \"teacher_relations\", which \
                     compares any widths",
                    teacher.embedding_dim()
                );
            }
        }
        if let Some(side) = *side {
            let preprocess = &mut file.description.preprocess;
            (preprocess.width, preprocess.height) = (side, side);
        }
        Ok(Self(file.prepare_extractor(device)?))
    }

    /// Its unit embeddings of a batch, row-major.
    pub(super) fn answers(&self, pictures: &[RgbImage]) -> anyhow::Result<Vec<f32>> {
        self.0.answers(pictures)
    }
}

fn read_model(path: &Path) -> anyhow::Result<ModelFile> {
    let bytes = files::read(path, files::MODEL_LIMIT);
    Ok(ModelFile::from_vec(bytes.map_err(|error| error.wanted(files::wanted::MODEL))?)?)
}
