//! Training the extractor: the recipe's losses on the head's logits and on the features.

use std::collections::BTreeSet;
use std::sync::Once;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use models::extractor::Extractor;
use models::image::RgbImage;
use models::model_file::Architecture;
use models::preprocess::{Preprocess, resize};
use models::weights::Weights;
use rand::RngExt;

use super::teacher::Teacher;
use super::{Input, Loaded, Memory, Task, pretrained};
use crate::data::augment::Augmentation;
use crate::data::list_file::Samples;
use crate::data::sampler::Sampler;
use crate::data::store::{PictureError, PictureStore, RgbaImage};
use crate::embedding::embed_samples;
use crate::head::Head;
use crate::loss::{BatchError, LossBatch, Losses};
use crate::metric::retrieval::{remarks, retrieval_metrics};
use crate::random::{Random, seeded};
use crate::recipe::{ExtractorTask, Recipe};
use crate::replica::{Hub, Runner};

/// Stream of random numbers that plans epochs.
const PLAN_STREAM: u64 = 1;
/// Stream of random numbers that changes pictures.
const AUGMENT_STREAM: u64 = 2;

/// Stream of random numbers that draws the head's classes.
const CLASS_STREAM: u64 = 6;

/// The extractor and its head.
#[derive(Module, Debug)]
pub struct ExtractorNetwork {
    /// What is deployed.
    pub extractor: Extractor,
    /// Exists only in training.
    pub head: Head,
}

/// What the losses need to know of a batch.
#[derive(Debug)]
pub struct ExtractorBatch {
    targets: Vec<i32>,
    /// The classes that the head is asked about; `None`: all.
    classes: Option<Vec<i32>>,
    /// The teacher's embeddings, row-major, where there is one.
    teacher: Option<Vec<f32>>,
}

/// See the [module](self).
pub struct ExtractorTraining {
    recipe: Recipe,
    task: ExtractorTask,
    samples: Samples,
    store: PictureStore,
    sampler: Sampler,
    query: Option<Samples>,
    gallery: Option<Samples>,
    pretrained: Option<Weights>,
    teacher: Option<Teacher>,
    /// Whether it is said what the evaluations leave out.
    remarked: Once,
}

impl ExtractorTraining {
    /// Reads the lists of a recipe; a teacher runs on `device`.
    ///
    /// # Errors
    ///
    /// [`crate::data::list_file::DataError`], naming the list and the line, or weights to begin with
    /// or a teacher that do not fit.
    pub fn new(recipe: &Recipe, task: &ExtractorTask, device: &Device) -> anyhow::Result<Self> {
        let samples = Samples::read(&task.train)?;
        let sampler = Sampler::new(
            &task.sampler,
            samples.by_label(),
            recipe.batch_size,
            recipe.epoch_samples,
        )?;
        let query = task.query.as_deref().map(Samples::read).transpose()?;
        let gallery = task.gallery.as_deref().map(Samples::read).transpose()?;
        // One numbering of classes for queries and gallery.
        let query = match (&query, &gallery) {
            (Some(query), Some(gallery)) => Some(query.clone().relabel(&gallery.labels)),
            _ => query,
        };
        let begin = |path| pretrained::read(path, task.model.init(&Device::flex()));
        let pretrained = task.pretrained.as_deref().map(begin).transpose()?;
        let teach = |teacher| Teacher::read(teacher, task, device);
        let teacher = task.teacher.as_ref().map(teach).transpose()?;
        // Operators may look at small parts.
        let side = recipe.preprocess.width.max(recipe.preprocess.height);
        let needed = if task.operators.is_empty() { side } else { 4 * side };
        let paths = samples.samples.iter().map(|sample| sample.path.clone()).collect();
        Ok(Self {
            recipe: recipe.clone(),
            task: task.clone(),
            store: PictureStore::new(paths, needed),
            samples,
            sampler,
            query,
            gallery,
            pretrained,
            teacher,
            remarked: Once::new(),
        })
    }
}

impl ExtractorTraining {
    /// The batch's classes and random others up to the recipe's share of all, sorted.
    fn some_classes(&self, targets: &[i32], random: &mut Random) -> Option<Vec<i32>> {
        let all = self.samples.labels.len();
        let wanted = (all as f64 * self.task.head_share).ceil() as usize;
        if wanted >= all {
            return None;
        }
        let mut classes: BTreeSet<i32> = targets.iter().copied().collect();
        while classes.len() < wanted {
            classes.insert(random.random_range(0..all) as i32);
        }
        Some(classes.into_iter().collect())
    }

    /// A picture as the network sees it in training, at the size of its input.
    fn changed(&self, picture: &RgbaImage, random: &mut Random) -> RgbImage {
        let Preprocess { width, height, filter, .. } = self.recipe.preprocess;
        let ExtractorTask { operators, augmentation, .. } = &self.task;
        if operators.is_empty() {
            return augmentation.apply(picture, width, height, random);
        }
        let image = operators.iter().fold(picture.on_white(), |i, o| o.apply(i, random));
        if *augmentation == Augmentation::default() {
            return resize(&image, width, height, filter);
        }
        augmentation.apply(&RgbaImage::opaque(&image), width, height, random)
    }
}

/// Where each target stands in a sorted list of classes that holds them all.
fn places(targets: &[i32], classes: &[i32]) -> Vec<i32> {
    targets.iter().map(|target| classes.partition_point(|class| class < target) as i32).collect()
}

impl Memory for Losses {
    fn to_weights(&self) -> Weights {
        Self::to_weights(self)
    }

    fn restore(&mut self, weights: &Weights) -> bool {
        Self::restore(self, weights)
    }
}

impl Task for ExtractorTraining {
    type Network = ExtractorNetwork;
    type Replica = Extractor;
    type Memory = Losses;
    type Batch = ExtractorBatch;

    fn init(&self, device: &Device) -> ExtractorNetwork {
        let dim = self.task.model.embedding_dim();
        let mut extractor = self.task.model.init(device);
        if let Some(weights) = &self.pretrained {
            extractor =
                pretrained::put(extractor, weights).expect("tried when the recipe was read");
        }
        ExtractorNetwork {
            extractor,
            head: self.task.head.init(dim, self.samples.labels.len(), device),
        }
    }

    fn memory(&self, device: &Device) -> Losses {
        let model = &self.task.model;
        let widths = (model.embedding_dim(), model.features());
        Losses::new(&self.task.losses, self.samples.labels.len(), widths, device)
    }

    fn labels(&self) -> &[String] {
        &self.samples.labels
    }

    fn batches(&self) -> usize {
        self.sampler.batches()
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        self.sampler.epoch(&mut seeded(&[self.recipe.seed, PLAN_STREAM, epoch as u64]))
    }

    fn replica(network: &ExtractorNetwork) -> (&Extractor, Option<&'static str>) {
        (&network.extractor, Some(pretrained::EXTRACTOR))
    }

    fn architecture(&self) -> Architecture {
        Architecture::Extractor(self.task.model.clone())
    }

    fn load(
        &self,
        epoch: usize,
        samples: &[usize],
        here: usize,
    ) -> anyhow::Result<(Input, ExtractorBatch)> {
        use rayon::prelude::*;
        let preprocess = &self.recipe.preprocess;
        let canvases: Vec<RgbImage> = samples
            .par_iter()
            .enumerate()
            .map(|(slot, &index)| {
                let picture = self.store.get(index)?;
                let parts =
                    [self.recipe.seed, AUGMENT_STREAM, epoch as u64, index as u64, slot as u64];
                Ok(self.changed(&picture, &mut seeded(&parts)))
            })
            .collect::<Result<_, PictureError>>()?;
        let teacher =
            self.teacher.as_ref().map(|teacher| teacher.answers(&canvases)).transpose()?;
        let load = |(slot, canvas)| Loaded::new(canvas, preprocess, slot < here);
        let pictures = canvases.into_par_iter().enumerate().map(load).collect();
        let targets: Vec<i32> =
            samples.iter().map(|&i| self.samples.samples[i].label as i32).collect();
        let mut parts = vec![self.recipe.seed, CLASS_STREAM, epoch as u64];
        parts.extend(samples.iter().map(|&i| i as u64));
        let classes = self.some_classes(&targets, &mut seeded(&parts));
        let batch = ExtractorBatch { targets, classes, teacher };
        Ok((Input::new(preprocess.clone(), pictures), batch))
    }

    fn losses(
        &self,
        network: &ExtractorNetwork,
        memory: &mut Losses,
        outputs: Vec<Tensor<2>>,
        batch: ExtractorBatch,
        device: &Device,
    ) -> Result<Vec<(&'static str, Tensor<1>)>, BatchError> {
        let count = batch.targets.len();
        let data = TensorData::new(batch.targets.clone(), [count]);
        let targets: Tensor<1, Int> = Tensor::from_data(data, device);
        let [backbone, raw_embedding] = outputs.try_into().expect("an extractor's outputs");
        let places = batch.classes.as_ref().map(|classes| places(&batch.targets, classes));
        let logits = match (batch.classes, &places) {
            (Some(classes), Some(places)) => {
                let some = classes.len();
                let classes = Tensor::from_data(TensorData::new(classes, [some]), device);
                let places = Tensor::from_data(TensorData::new(places.clone(), [count]), device);
                network.head.forward_among(raw_embedding.clone(), places, classes)
            }
            _ => network.head.forward(raw_embedding.clone(), targets),
        };
        memory.forward(&LossBatch {
            embedding: raw_embedding,
            backbone,
            logits,
            targets: &batch.targets,
            logit_targets: places.as_ref().unwrap_or(&batch.targets),
            teacher: batch.teacher.map(|values| {
                let dim = values.len() / count;
                Tensor::from_data(TensorData::new(values, [count, dim]), device)
            }),
        })
    }

    fn evaluate(
        &self,
        network: &ExtractorNetwork,
        device: &Device,
        hub: Option<&Hub>,
    ) -> anyhow::Result<Vec<(String, f64)>> {
        let Some(query) = &self.query else { return Ok(Vec::new()) };
        let preprocess = &self.recipe.preprocess;
        let extractor = Runner::new(&network.extractor, preprocess, device, hub)?;
        let embed = |samples| embed_samples(&extractor, samples);
        let query = embed(query)?;
        let gallery = self.gallery.as_ref().map(embed).transpose()?;
        let metrics = retrieval_metrics(&query, gallery.as_ref().unwrap_or(&query), &[1, 5]);
        // The same in every epoch.
        self.remarked.call_once(|| {
            for remark in remarks(&query, gallery.as_ref(), &metrics) {
                eprintln!("{remark}");
            }
        });
        let mut named: Vec<(String, f64)> =
            metrics.recall_at_k.iter().map(|(k, rate)| (format!("recall{k}"), *rate)).collect();
        named.push(("mAP".to_owned(), metrics.mean_average_precision));
        Ok(named)
    }

    fn deploy(&self, network: &ExtractorNetwork) -> (Architecture, Weights) {
        let fused = network.extractor.valid().fuse();
        (Architecture::Extractor(self.task.model.fused()), Weights::from_module(&fused))
    }
}
