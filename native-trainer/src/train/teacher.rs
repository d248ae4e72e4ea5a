//! A trained network whose embeddings the one in training learns to make.
//!
//! It sees the very pictures, changes included, that the network in training sees ("function
//! matching", <https://arxiv.org/abs/2106.05237>), and needs no labels.

use std::path::{Path, PathBuf};

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

/// See the [module](self). More than one network are an ensemble.
#[derive(Debug)]
pub(super) struct Teacher(Vec<Member>);

/// A network of the ensemble.
#[derive(Debug)]
struct Member {
    network: Prepared<Extractor>,
    /// Width of its embeddings.
    dim: usize,
}

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
        let files = config.weights.files();
        let read = |path: &PathBuf| {
            Member::read(path, config.side, device)
                .with_context(|| format!("extractor.teacher.weights, {}", path.display()))
        };
        let members = files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let dim: usize = members.iter().map(|member| member.dim).sum();
        for term in task.losses.iter().filter(|term| term.loss == LossKind::TeacherCosine) {
            let own = match term.on {
                LossInput::Embedding => task.model.embedding_dim(),
                LossInput::Backbone => task.model.features(),
            };
            anyhow::ensure!(
                own == dim,
                "extractor.teacher.weights, {}: its embeddings have {dim} values, what \"teacher_cosine\" compares \
                 has {own}: give the neck as many (extractor.model.neck), or take \"teacher_relations\", which \
                 compares any widths",
                files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(Self(members))
    }

    /// Its unit embeddings of a batch, row-major: of an ensemble those of its networks one behind the
    /// other, each as long as the others, so that a cosine is the mean of theirs.
    pub(super) fn answers(&self, pictures: &[RgbImage]) -> anyhow::Result<Vec<f32>> {
        let each = self.0.iter().map(|member| member.network.answers(pictures));
        let each = each.collect::<anyhow::Result<Vec<_>>>()?;
        let scale = (self.0.len() as f32).sqrt().recip();
        let mut joined = Vec::with_capacity(each.iter().map(Vec::len).sum());
        for row in 0..pictures.len() {
            for (member, answers) in self.0.iter().zip(&each) {
                let own = answers.iter().skip(row * member.dim).take(member.dim);
                joined.extend(own.map(|value| value * scale));
            }
        }
        Ok(joined)
    }
}

impl Member {
    fn read(path: &Path, side: Option<u32>, device: &Device) -> anyhow::Result<Self> {
        let mut file = read_model(path)?;
        let dim = match &file.description.architecture {
            Architecture::Extractor(config) => config.embedding_dim(),
            // Refused below, by a sentence that says what the file holds.
            Architecture::Detector(_) | Architecture::GraphDetector(_) => 0,
        };
        if let Some(side) = side {
            let preprocess = &mut file.description.preprocess;
            (preprocess.width, preprocess.height) = (side, side);
        }
        Ok(Self { network: file.prepare_extractor(device)?, dim })
    }
}

fn read_model(path: &Path) -> anyhow::Result<ModelFile> {
    let bytes = files::read(path, files::MODEL_LIMIT);
    Ok(ModelFile::from_vec(bytes.map_err(|error| error.wanted(files::wanted::MODEL))?)?)
}
