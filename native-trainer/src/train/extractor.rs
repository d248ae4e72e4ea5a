//! Training the extractor: the recipe's losses on the head's logits and on the features.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Once;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use models::extractor::Extractor;
use models::image::RgbImage;
use models::image::resize;
use models::model_file::{Architecture, Trained, sha256_hex};
use models::preprocess::Preprocess;
use models::weights::Weights;
use rand::RngExt;
use rayon::prelude::*;

use super::pretrained::{self, Pretrained};
use super::teacher::Teacher;
use super::{Input, Loaded, Memory, Training};
use crate::data::augment::Augmentation;
use crate::data::list_file::Samples;
use crate::data::sampler::Sampler;
use crate::data::store::{PictureError, PictureStore, RgbaImage};
use crate::embedding::{Runs, embed_samples};
use crate::head::Head;
use crate::loss::{BatchError, LossBatch, Losses};
use crate::metric::retrieval::{RetrievalMetrics, remarks, retrieval_metrics};
use crate::metric::verdict::Beginning;
use crate::random::{Random, Stream};
use crate::recipe::{ExtractorTask, Pictures, Recipe};
use crate::replica::{Hub, Runner};

/// The extractor and its head.
#[derive(Module, Debug)]
pub struct ExtractorNetwork {
    /// What is deployed.
    pub extractor: Extractor,
    /// Exists only in training.
    pub head: Head,
}

/// What the losses need to know of a batch.
#[derive(Debug, Clone)]
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
    pictures: Pictures,
    store: PictureStore,
    sampler: Sampler,
    pretrained: Option<Pretrained>,
    teacher: Option<Teacher>,
    /// Whether it is said what the evaluations leave out.
    remarked: Once,
}

impl ExtractorTraining {
    /// Trains on the images of [`ExtractorTask::pictures`]; a teacher runs on `device`.
    ///
    /// # Errors
    ///
    /// [`crate::data::list_file::DataError`] if the images do not fit the sampler, or weights to begin with or a
    /// teacher that do not fit.
    pub fn new(
        recipe: &Recipe,
        task: &ExtractorTask,
        pictures: Pictures,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let sampler = Sampler::new(
            &task.sampler,
            pictures.train.by_label(),
            recipe.batch_size,
            recipe.epoch_samples,
        )?;
        let begin =
            |path| pretrained::read("extractor.pretrained", path, task.model.init(&Device::flex()));
        let pretrained = task.pretrained.as_deref().map(begin).transpose()?;
        let teach = |teacher| Teacher::read(teacher, task, device);
        let teacher = task.teacher.as_ref().map(teach).transpose()?;
        // Operators may look at small parts.
        let side = recipe.preprocess.width.max(recipe.preprocess.height);
        let needed = if task.operators.is_empty() { side } else { 4 * side };
        let paths = pictures.train.samples.iter().map(|sample| sample.path.clone()).collect();
        Ok(Self {
            recipe: recipe.clone(),
            task: task.clone(),
            store: PictureStore::new(paths, needed),
            pictures,
            sampler,
            pretrained,
            teacher,
            remarked: Once::new(),
        })
    }
}

impl ExtractorTraining {
    /// The batch's classes and random others up to the recipe's share of all, sorted.
    fn some_classes(&self, targets: &[i32], random: &mut Random) -> Option<Vec<i32>> {
        let all = self.labels().len();
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

    /// The figures of an extractor on the recipe's queries; `None` without any.
    fn measure(&self, extractor: &impl Runs) -> anyhow::Result<Option<RetrievalMetrics>> {
        let Some(query) = &self.pictures.query else { return Ok(None) };
        let embed = |samples| embed_samples(extractor, samples);
        let query = embed(query)?;
        let gallery = self.pictures.gallery.as_ref().map(embed).transpose()?;
        let metrics = retrieval_metrics(&query, gallery.as_ref().unwrap_or(&query), &[1, 5]);
        // The same in every epoch.
        self.remarked.call_once(|| {
            for remark in remarks(&query, gallery.as_ref(), &metrics) {
                eprintln!("{remark}");
            }
        });
        Ok(Some(metrics))
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

impl Training for ExtractorTraining {
    type Network = ExtractorNetwork;
    type Replica = Extractor;
    type Memory = Losses;
    type Batch = ExtractorBatch;

    fn init(&self, device: &Device) -> ExtractorNetwork {
        let dim = self.task.model.embedding_dim();
        let mut extractor = self.task.model.init(device);
        if let Some(Pretrained { weights, .. }) = &self.pretrained {
            extractor =
                pretrained::put(extractor, weights).expect("tried when the recipe was read");
        }
        ExtractorNetwork { extractor, head: self.task.head.init(dim, self.labels().len(), device) }
    }

    fn memory(&self, device: &Device) -> Losses {
        let model = &self.task.model;
        let widths = (model.embedding_dim(), model.features());
        Losses::new(&self.task.losses, self.labels().len(), widths, device)
    }

    fn labels(&self) -> &[String] {
        &self.pictures.train.labels
    }

    fn order_key(&self) -> BTreeMap<String, String> {
        let samples = &self.pictures.train.samples;
        let labels: Vec<u8> =
            samples.iter().flat_map(|sample| (sample.label as u64).to_le_bytes()).collect();
        let sampler = serde_json::to_string(&self.task.sampler).unwrap_or_default();
        let labels = sha256_hex(&labels)[..16].to_owned();
        [
            ("seed", self.recipe.seed.to_string()),
            ("batch_size", self.recipe.batch_size.to_string()),
            ("the number of batches of an epoch", self.batches().to_string()),
            ("extractor.sampler", sampler),
            ("the number of pictures", samples.len().to_string()),
            ("the digest of the pictures' classes", labels),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn notes(&self) -> &[String] {
        &self.pictures.notes
    }

    fn beginning(&self, device: &Device) -> anyhow::Result<Result<Beginning, String>> {
        let (Some(Pretrained { weights, preprocess }), Some(path)) =
            (&self.pretrained, &self.task.pretrained)
        else {
            return Ok(Err("training begins with random weights".to_owned()));
        };
        if !self.pictures.is_held_out {
            return Ok(Err("nothing is held out".to_owned()));
        }
        let preprocess = preprocess.as_ref().unwrap_or(&self.recipe.preprocess);
        let extractor = pretrained::untrained(&self.task.model, weights, device)?;
        let extractor = Runner::new(&extractor, preprocess, device, None)?;
        let found = self.measure(&extractor)?;
        Ok(found.map_or(Err("nothing is held out".to_owned()), |metrics| {
            Ok(Beginning {
                weights: path.display().to_string(),
                input: [preprocess.width, preprocess.height],
                recall1: metrics.recall_at_k.first().map_or(0.0, |(_, rate)| *rate),
            })
        }))
    }

    fn held_out(&self) -> usize {
        let held_out = self.pictures.query.as_ref().filter(|_| self.pictures.is_held_out);
        held_out.map_or(0, |query| query.samples.len())
    }

    fn batches(&self) -> usize {
        self.sampler.batches()
    }

    fn order(&self, epoch: usize) -> Vec<Vec<usize>> {
        self.sampler.epoch(&mut Stream::ExtractorOrder.seeded(self.recipe.seed, [epoch as u64]))
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
        let preprocess = &self.recipe.preprocess;
        let canvases: Vec<RgbImage> = samples
            .par_iter()
            .enumerate()
            .map(|(slot, &index)| {
                let picture = self.store.get(index)?;
                let place = [epoch, index, slot].map(|part| part as u64);
                let mut random = Stream::Augmentation.seeded(self.recipe.seed, place);
                Ok(self.changed(&picture, &mut random))
            })
            .collect::<Result<_, PictureError>>()?;
        let teacher =
            self.teacher.as_ref().map(|teacher| teacher.answers(&canvases)).transpose()?;
        let load = |(slot, canvas)| Loaded::new(canvas, preprocess, slot < here);
        let pictures = canvases.into_par_iter().enumerate().map(load).collect();
        let targets: Vec<i32> =
            samples.iter().map(|&i| self.pictures.train.samples[i].label as i32).collect();
        let place = [&epoch].into_iter().chain(samples).map(|&part| part as u64);
        let mut random = Stream::HeadClasses.seeded(self.recipe.seed, place);
        let classes = self.some_classes(&targets, &mut random);
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
        let preprocess = &self.recipe.preprocess;
        if self.pictures.query.is_none() {
            // No figure, but whether there would be one at all.
            let one = Samples {
                samples: self.pictures.train.samples.iter().take(1).cloned().collect(),
                labels: self.labels().to_vec(),
                ..Samples::default()
            };
            embed_samples(&Runner::new(&network.extractor, preprocess, device, None)?, &one)?;
            return Ok(Vec::new());
        }
        let extractor = Runner::new(&network.extractor, preprocess, device, hub)?;
        let Some(metrics) = self.measure(&extractor)? else { return Ok(Vec::new()) };
        let mut named: Vec<(String, f64)> =
            metrics.recall_at_k.iter().map(|(k, rate)| (format!("recall{k}"), *rate)).collect();
        named.push(("mAP".to_owned(), metrics.mean_average_precision));
        Ok(named)
    }

    fn trained(&self, network: &ExtractorNetwork) -> Trained {
        Trained::Extractor(self.task.model.clone(), network.extractor.valid())
    }
}
