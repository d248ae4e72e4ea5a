//! Training the detector: SimOTA, varifocal, distribution-focal and GIoU losses.
//!
//! Agrees with PaddleDetection `ppdet/modeling/heads/simota_head.py` (`OTAVFLHead`) @ 666f597.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use models::detector::{DetectionThresholds, Detector, REG_MAX, points};
use models::geometry::BBox;
use models::image::RgbImage;
use models::model_file::Architecture;
use models::preprocess::Preprocess;
use models::recognizer::detect;
use models::weights::Weights;
use rand::RngExt;

use super::Task;
use crate::assign::assign;
use crate::data::coco::{self, BoxedPicture};
use crate::data::list_file::{DataError, Samples};
use crate::data::scenes::compose;
use crate::data::store::{PictureError, PictureStore, read_picture};
use crate::loss::{BatchError, distribution_focal, giou, varifocal};
use crate::metric::detection::{Object, detection_metrics};
use crate::random::seeded;
use crate::recipe::{DetectorTask, Recipe};

const SCENE_STREAM: u64 = 3;
const EVAL_STREAM: u64 = 4;
const PLAN_STREAM: u64 = 5;
const SIZE_STREAM: u64 = 7;

/// Factor of the box loss, as in the reference.
const GIOU_WEIGHT: f64 = 2.0;
/// Factor of the distribution loss, as in the reference; its sum over four sides counts once.
const DISTRIBUTION_WEIGHT: f64 = 0.25 / 4.0;
/// Distances stay this far under the last bin.
const DISTANCE_MARGIN: f32 = 0.1;

/// Pictures and boxes of a batch on the host.
#[derive(Debug)]
pub struct DetectorBatch {
    pixels: Vec<f32>,
    boxes: Vec<Vec<BBox>>,
    preprocess: Preprocess,
}

/// See the [module](self).
pub struct DetectorTraining {
    recipe: Recipe,
    task: DetectorTask,
    cutouts: Option<PictureStore>,
    boxed: Vec<BoxedPicture>,
    eval: Vec<(RgbImage, Vec<BBox>)>,
}

impl DetectorTraining {
    /// Reads the data of a recipe and composes the scenes of the evaluation.
    ///
    /// # Errors
    ///
    /// [`DataError`] or [`PictureError`], naming the file.
    pub fn new(recipe: &Recipe, task: &DetectorTask) -> anyhow::Result<Self> {
        let store = |path: &Option<std::path::PathBuf>| {
            path.as_deref().map(Samples::read).transpose().map(|samples| {
                samples.map(|s| {
                    let paths = s.samples.into_iter().map(|s| s.path).collect();
                    PictureStore::new(paths, recipe.preprocess.width.min(recipe.preprocess.height))
                })
            })
        };
        let cutouts = store(&task.cutouts)?;
        let boxed = match &task.coco {
            Some(path) => coco::read(path, None)?,
            None => Vec::new(),
        };
        if cutouts.is_none() && boxed.is_empty() {
            let text = "[detector] needs `cutouts` or `coco`".to_owned();
            return Err(DataError::Unsuitable(text).into());
        }
        let mut eval = Vec::new();
        if let Some(store) = store(&task.eval_cutouts)? {
            for index in 0..task.eval_scenes {
                let mut random = seeded(&[recipe.seed, EVAL_STREAM, index as u64]);
                let size = &recipe.preprocess;
                let scene = compose(&store, &task.scenes, size.width, size.height, &mut random)?;
                eval.push((scene.image, scene.boxes));
            }
        }
        if let Some(path) = &task.eval_coco {
            for picture in coco::read(path, None)? {
                eval.push((read_picture(&picture.path)?, picture.boxes));
            }
        }
        Ok(Self { recipe: recipe.clone(), task: task.clone(), cutouts, boxed, eval })
    }

    fn epoch_samples(&self) -> usize {
        let available = self.cutouts.as_ref().map_or(0, PictureStore::len) + self.boxed.len();
        self.recipe.epoch_samples.unwrap_or(available).max(self.recipe.batch_size)
    }

    /// The recipe's, at the size that is drawn for this batch.
    fn preprocess(&self, epoch: usize, samples: &[usize]) -> Preprocess {
        let mut preprocess = self.recipe.preprocess.clone();
        if !self.task.sizes.is_empty() {
            let mut parts = vec![self.recipe.seed, SIZE_STREAM, epoch as u64];
            parts.extend(samples.iter().map(|&i| i as u64));
            let place = seeded(&parts).random_range(0..self.task.sizes.len());
            (preprocess.width, preprocess.height) =
                (self.task.sizes[place], self.task.sizes[place]);
        }
        preprocess
    }

    /// A picture of the network's input size with its boxes. Positions from the number of boxed
    /// pictures on are scenes.
    fn sample(
        &self,
        epoch: usize,
        index: usize,
        size: &Preprocess,
    ) -> Result<(RgbImage, Vec<BBox>), PictureError> {
        let mut random = seeded(&[self.recipe.seed, SCENE_STREAM, epoch as u64, index as u64]);
        if let Some(picture) = self.boxed.get(index) {
            let image = read_picture(&picture.path)?;
            let to = (size.width, size.height);
            return Ok(self.task.augmentation.apply(&image, &picture.boxes, to, &mut random));
        }
        let store = self.cutouts.as_ref().expect("scenes are planned only with cut-outs");
        let scene = compose(store, &self.task.scenes, size.width, size.height, &mut random)?;
        Ok((scene.image, scene.boxes))
    }
}

impl Task for DetectorTraining {
    type Network = Detector;
    type Memory = ();
    type Batch = DetectorBatch;

    fn init(&self, device: &Device) -> Detector {
        self.task.model.init(device)
    }

    fn memory(&self, _: &Device) {}

    fn labels(&self) -> &[String] {
        &[]
    }

    fn batches(&self) -> usize {
        self.epoch_samples() / self.recipe.batch_size
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        use rand::seq::SliceRandom;
        let mut random = seeded(&[self.recipe.seed, PLAN_STREAM, epoch as u64]);
        let mut order: Vec<usize> = (0..self.boxed.len()).collect();
        if self.cutouts.is_some() {
            order.extend(self.boxed.len()..self.epoch_samples().max(self.boxed.len()));
        }
        order.shuffle(&mut random);
        order.truncate(self.batches() * self.recipe.batch_size);
        order.chunks(self.recipe.batch_size).map(<[usize]>::to_vec).collect()
    }

    fn load(&self, epoch: usize, samples: &[usize]) -> Result<DetectorBatch, PictureError> {
        use rayon::prelude::*;
        let preprocess = self.preprocess(epoch, samples);
        let scenes: Vec<(Vec<f32>, Vec<BBox>)> = samples
            .par_iter()
            .map(|&index| {
                let (image, boxes) = self.sample(epoch, index, &preprocess)?;
                let mut values = Vec::with_capacity(preprocess.values());
                preprocess.append(&image, &mut values);
                Ok((values, boxes))
            })
            .collect::<Result<_, PictureError>>()?;
        let (pixels, boxes): (Vec<_>, Vec<_>) = scenes.into_iter().unzip();
        Ok(DetectorBatch { pixels: pixels.concat(), boxes, preprocess })
    }

    fn losses(
        &self,
        network: &Detector,
        (): &mut (),
        batch: DetectorBatch,
        device: &Device,
    ) -> Result<Vec<(&'static str, Tensor<1>)>, BatchError> {
        let x = batch.preprocess.batch(batch.pixels, device);
        Ok(detection_losses(network, x, &batch.boxes).into())
    }

    fn evaluate(&self, network: &Detector, device: &Device) -> anyhow::Result<Vec<(String, f64)>> {
        if self.eval.is_empty() {
            return Ok(Vec::new());
        }
        let detector = network.valid();
        let thresholds = DetectionThresholds {
            score: 0.025,
            nms_iou: 0.6,
            max_candidates: 1000,
            max_detections: 100,
        };
        let mut found = Vec::with_capacity(self.eval.len());
        for (image, _) in &self.eval {
            let preprocess = &self.recipe.preprocess;
            found.push(pollster::block_on(detect(
                &detector,
                preprocess,
                image,
                &thresholds,
                device,
            ))?);
        }
        let objects: Vec<Vec<Object>> = self
            .eval
            .iter()
            .map(|(_, boxes)| boxes.iter().copied().map(Object::foreground).collect())
            .collect();
        let metrics = detection_metrics(&found, &objects);
        let named = |name: &str, value: Option<f64>| (name.to_owned(), value.unwrap_or(0.0));
        Ok(vec![named("mAP", metrics.mean_average_precision), named("AP50", metrics.ap50)])
    }

    fn deploy(&self, network: &Detector) -> (Architecture, Weights) {
        let config = models::detector::DetectorConfig { fused: true, ..self.task.model.clone() };
        let fused = network.valid().fuse();
        (Architecture::Detector(config), Weights::from_module(&fused))
    }
}

/// Varifocal, GIoU and distribution-focal loss of a batch, weighted, by the reference's names.
///
/// # Shapes
///
/// - `x`: `[batch, 3, height, width]`
/// - `objects`: boxes of every picture, in input pixels
pub fn detection_losses(
    network: &Detector,
    x: Tensor<4>,
    objects: &[Vec<BBox>],
) -> [(&'static str, Tensor<1>); 3] {
    let [_, _, height, width] = x.dims();
    losses_of_points(network.forward_points(x), &points(width, height), objects)
}

/// The losses of [`detection_losses`] from the network's output.
///
/// # Shapes
///
/// - `output`: `[batch, points, 1 + 4 · (REG_MAX + 1)]`
/// - `points`: `(x, y, stride)` each
/// - `objects`: boxes of every picture, in input pixels
pub fn losses_of_points(
    output: Tensor<3>,
    points: &[(f32, f32, f32)],
    objects: &[Vec<BBox>],
) -> [(&'static str, Tensor<1>); 3] {
    let device = output.device();
    let [batch, count, row] = output.dims();
    let class_logits = output.clone().narrow(2, 0, 1).reshape([batch * count, 1]);
    let bins = REG_MAX + 1;
    let box_logits = output.narrow(2, row - 4 * bins, 4 * bins).reshape([batch * count, 4 * bins]);

    // The assignment needs numbers on the host, not gradients.
    let scores = host(activation::sigmoid(class_logits.clone().detach()));
    let distances = host(expected_distances(box_logits.clone().detach()));
    let mut class_targets = vec![0.0_f32; batch * count];
    let mut rows: Vec<i32> = Vec::new();
    let mut strides: Vec<f32> = Vec::new();
    let mut centres: Vec<f32> = Vec::new();
    let mut targets: Vec<f32> = Vec::new();
    let mut weights: Vec<f32> = Vec::new();
    for (picture, objects) in objects.iter().enumerate() {
        let start = picture * count;
        let predicted: Vec<BBox> = points
            .iter()
            .zip(distances[start * 4..].chunks_exact(4))
            .map(|(&(x, y, s), d)| {
                BBox::new(x - d[0] * s, y - d[1] * s, x + d[2] * s, y + d[3] * s)
            })
            .collect();
        for positive in assign(points, &scores[start..start + count], &predicted, objects) {
            let at = start + positive.point;
            let object = objects[positive.object];
            let (x, y, stride) = points[positive.point];
            class_targets[at] = positive.iou;
            rows.push(at as i32);
            strides.push(stride);
            centres.extend([x / stride, y / stride]);
            targets.extend([object.x1, object.y1, object.x2, object.y2].map(|v| v / stride));
            weights.push(scores[at]);
        }
    }

    let num_positive = rows.len();
    let class_targets =
        Tensor::<2>::from_data(TensorData::new(class_targets, [batch * count, 1]), &device);
    let class_loss = varifocal(class_logits, class_targets).sum() / num_positive.max(1) as f64;
    if num_positive == 0 {
        // Keeps the box branch in the graph with a gradient of zero.
        let nothing = box_logits.sum() * 0.0;
        return [("loss_vfl", class_loss), ("loss_bbox", nothing.clone()), ("loss_dfl", nothing)];
    }

    let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [num_positive]), &device);
    let chosen = box_logits.select(0, rows);
    let sides: Vec<f32> = centres
        .chunks_exact(2)
        .zip(targets.chunks_exact(4))
        .flat_map(|(c, t)| [c[0] - t[0], c[1] - t[1], t[2] - c[0], t[3] - c[1]])
        .map(|d| d.clamp(0.0, REG_MAX as f32 - DISTANCE_MARGIN))
        .collect();
    let total_weight = weights.iter().sum::<f32>().max(1.0);
    let side_weights: Vec<f32> = weights.iter().flat_map(|w| [*w; 4]).collect();
    let tensor = |values: Vec<f32>| {
        let length = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [length]), &device)
    };
    let distribution =
        distribution_focal(chosen.clone().reshape([num_positive * 4, bins]), tensor(sides));
    let distribution = (distribution * tensor(side_weights)).sum()
        * (DISTRIBUTION_WEIGHT / f64::from(total_weight));

    let centres = tensor(centres).reshape([num_positive, 2]);
    let distances = expected_distances(chosen).reshape([num_positive, 4]);
    let near = centres.clone() - distances.clone().narrow(1, 0, 2);
    let far = centres + distances.narrow(1, 2, 2);
    let boxes = Tensor::cat(vec![near, far], 1);
    let overlap = giou(boxes, tensor(targets).reshape([num_positive, 4]));
    let overlap = (overlap * tensor(weights)).sum() * (GIOU_WEIGHT / f64::from(total_weight));
    [("loss_vfl", class_loss), ("loss_bbox", overlap), ("loss_dfl", distribution)]
}

/// Mean of each side's distribution, in strides.
///
/// # Shapes
///
/// - `logits`: `[boxes, 4 · (REG_MAX + 1)]`
/// - output: `[boxes · 4, 1]`
fn expected_distances(logits: Tensor<2>) -> Tensor<2> {
    let device = logits.device();
    let bins = REG_MAX + 1;
    let boxes = logits.dims()[0];
    let bin = Tensor::<1, Int>::arange(0..bins as i64, &device).float().reshape([1, bins]);
    (activation::softmax(logits.reshape([boxes * 4, bins]), 1) * bin).sum_dim(1)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the data was converted to f32")
}
