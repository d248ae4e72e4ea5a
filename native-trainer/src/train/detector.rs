//! Training the detector: assignment, varifocal, distribution-focal and GIoU losses.
//!
//! Agrees with PaddleDetection `ppdet/modeling/heads/simota_head.py` (`OTAVFLHead`) @ 666f597 for the
//! first PicoDet, follows `pico_head.py` (`PicoHeadV2`) for the newer one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use models::detector::{Decoding, Detector, DetectorVariant, REG_MAX};
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::model_file::{Architecture, Trained};
use models::preprocess::Preprocess;
use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::boxes::{evaluate_boxes, read_boxes};
use super::pretrained::{self, Pretrained};
use super::{Input, Loaded, Training};
use crate::assign::{Atss, TaskAligned, assign};
use crate::data::coco::{BoxedPicture, Finding};
use crate::data::list_file::{DataError, Samples};
use crate::data::scenes::compose;
use crate::data::store::{PictureError, PictureStore, read_picture};
use crate::loss::{BatchError, distribution_focal, giou, varifocal};
use crate::random::Stream;
use crate::recipe::{CutOuts, DetectorTask, Recipe};
use crate::replica::{Hub, Runner};

/// Factor of the box loss, as in the reference.
const GIOU_WEIGHT: f64 = 2.0;
/// Factor of the distribution loss, as in the reference; its sum over four sides counts once.
const DISTRIBUTION_WEIGHT: f64 = 0.25 / 4.0;
/// The newer PicoDet's factors of the same.
const ALIGNED_GIOU_WEIGHT: f64 = 2.5;
const ALIGNED_DISTRIBUTION_WEIGHT: f64 = 0.5 / 4.0;
/// Distances stay this far under the last bin.
const DISTANCE_MARGIN: f32 = 0.1;

/// What the losses need to know of a batch.
#[derive(Debug)]
pub struct DetectorBatch {
    boxes: Vec<Vec<BBox>>,
    /// Width and height of the input.
    size: (usize, usize),
    epoch: usize,
}

/// See the [module](self).
pub struct DetectorTraining {
    recipe: Recipe,
    task: DetectorTask,
    cutouts: Option<PictureStore>,
    boxed: Vec<BoxedPicture>,
    notes: Vec<(PathBuf, Finding)>,
    eval: Vec<(RgbImage, Vec<BBox>)>,
    pretrained: Option<Pretrained>,
}

impl DetectorTraining {
    /// Reads the boxes of a recipe and composes the scenes of the evaluation; `cut_outs` are those of
    /// [`DetectorTask::cut_outs`].
    ///
    /// # Errors
    ///
    /// [`DataError`] or [`PictureError`], naming the file, or weights to begin with that do not fit.
    pub fn new(recipe: &Recipe, task: &DetectorTask, cut_outs: CutOuts) -> anyhow::Result<Self> {
        let store = |samples: Samples| {
            let paths = samples.samples.into_iter().map(|sample| sample.path).collect();
            PictureStore::new(paths, recipe.preprocess.width.min(recipe.preprocess.height))
        };
        let cutouts = cut_outs.train.map(store);
        let mut notes = Vec::new();
        let boxed =
            read_boxes("coco", task.coco.as_deref(), task.coco_images.as_deref(), &mut notes)?;
        if cutouts.is_none() && boxed.is_empty() {
            let text = "[detector] needs `cutouts` or `coco`".to_owned();
            return Err(DataError::Unsuitable(text).into());
        }
        let begin =
            |path| pretrained::read("detector.pretrained", path, task.model.init(&Device::flex()));
        let pretrained = task.pretrained.as_deref().map(begin).transpose()?;
        let mut eval = Vec::new();
        if let Some(store) = cut_outs.eval.map(store) {
            for index in 0..task.eval_scenes {
                let mut random = Stream::EvaluationScenes.seeded(recipe.seed, [index as u64]);
                let size = &recipe.preprocess;
                let scene = compose(&store, &task.scenes, size.width, size.height, &mut random)?;
                eval.push((scene.image, scene.boxes));
            }
        }
        let measured = read_boxes(
            "eval_coco",
            task.eval_coco.as_deref(),
            task.eval_coco_images.as_deref(),
            &mut notes,
        )?;
        for picture in measured {
            eval.push((read_picture(&picture.path)?, picture.boxes));
        }
        let (recipe, task) = (recipe.clone(), task.clone());
        Ok(Self { recipe, task, cutouts, boxed, notes, eval, pretrained })
    }

    /// What is left out of the COCO files.
    pub fn notes(&self) -> &[(PathBuf, Finding)] {
        &self.notes
    }

    /// Epochs before a newer PicoDet's predictions are good enough to assign by.
    fn atss_epochs(&self) -> usize {
        self.task.atss_epochs.unwrap_or(self.recipe.epochs / 3)
    }

    fn epoch_samples(&self) -> usize {
        let available = self.cutouts.as_ref().map_or(0, PictureStore::len) + self.boxed.len();
        self.recipe.epoch_samples.unwrap_or(available).max(self.recipe.batch_size)
    }

    /// The recipe's, at the size that is drawn for this batch.
    fn preprocess(&self, epoch: usize, samples: &[usize]) -> Preprocess {
        let mut preprocess = self.recipe.preprocess.clone();
        if !self.task.sizes.is_empty() {
            let place = [&epoch].into_iter().chain(samples).map(|&part| part as u64);
            let mut random = Stream::InputSizes.seeded(self.recipe.seed, place);
            let side = self.task.sizes[random.random_range(0..self.task.sizes.len())];
            (preprocess.width, preprocess.height) = (side, side);
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
        let mut random = Stream::Scenes.seeded(self.recipe.seed, [epoch as u64, index as u64]);
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

impl Training for DetectorTraining {
    type Network = Detector;
    type Replica = Detector;
    type Memory = ();
    type Batch = DetectorBatch;

    fn init(&self, device: &Device) -> Detector {
        let detector = self.task.model.init(device);
        match &self.pretrained {
            Some(Pretrained { weights, .. }) => {
                pretrained::put(detector, weights).expect("tried when the recipe was read")
            }
            None => detector,
        }
    }

    fn memory(&self, _: &Device) {}

    fn labels(&self) -> &[String] {
        &[]
    }

    fn order_key(&self) -> BTreeMap<String, String> {
        let numbers = [
            ("seed", self.recipe.seed as usize),
            ("batch_size", self.recipe.batch_size),
            ("the number of batches of an epoch", self.batches()),
            ("the number of pictures with boxes", self.boxed.len()),
            ("the number of cut-outs", self.cutouts.as_ref().map_or(0, PictureStore::len)),
        ];
        numbers.map(|(key, number)| (key.to_owned(), number.to_string())).into()
    }

    fn batches(&self) -> usize {
        self.epoch_samples() / self.recipe.batch_size
    }

    fn order(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut random = Stream::DetectorOrder.seeded(self.recipe.seed, [epoch as u64]);
        let mut order: Vec<usize> = (0..self.boxed.len()).collect();
        if self.cutouts.is_some() {
            order.extend(self.boxed.len()..self.epoch_samples().max(self.boxed.len()));
        }
        order.shuffle(&mut random);
        order.truncate(self.batches() * self.recipe.batch_size);
        order.chunks(self.recipe.batch_size).map(<[usize]>::to_vec).collect()
    }

    fn replica(network: &Detector) -> (&Detector, Option<&'static str>) {
        (network, None)
    }

    fn architecture(&self) -> Architecture {
        Architecture::Detector(self.task.model.clone())
    }

    fn load(
        &self,
        epoch: usize,
        samples: &[usize],
        here: usize,
    ) -> anyhow::Result<(Input, DetectorBatch)> {
        let preprocess = self.preprocess(epoch, samples);
        let scenes: Vec<(Loaded, Vec<BBox>)> = samples
            .par_iter()
            .enumerate()
            .map(|(slot, &index)| {
                let (image, boxes) = self.sample(epoch, index, &preprocess)?;
                Ok((Loaded::new(image, &preprocess, slot < here), boxes))
            })
            .collect::<Result<_, PictureError>>()?;
        let (pictures, boxes): (Vec<_>, Vec<_>) = scenes.into_iter().unzip();
        let size = (preprocess.width as usize, preprocess.height as usize);
        Ok((Input::new(preprocess, pictures), DetectorBatch { boxes, size, epoch }))
    }

    fn losses(
        &self,
        _: &Detector,
        (): &mut (),
        outputs: Vec<Tensor<2>>,
        batch: DetectorBatch,
        _: &Device,
    ) -> Result<Vec<(&'static str, Tensor<1>)>, BatchError> {
        let [output] = outputs.try_into().expect("a detector's output");
        let classes = self.task.model.num_classes;
        let points = Decoding::pico(classes).points(batch.size.0, batch.size.1);
        let [count, values] = output.dims();
        let output = output.reshape([count, points.len(), values / points.len()]);
        let assignment = match self.task.model.variant {
            DetectorVariant::First => Assignment::SimOta,
            DetectorVariant::Second if batch.epoch <= self.atss_epochs() => Assignment::Atss,
            DetectorVariant::Second => Assignment::TaskAligned,
        };
        Ok(losses_of_points(output, &points, &batch.boxes, assignment).into())
    }

    fn evaluate(
        &self,
        network: &Detector,
        device: &Device,
        hub: Option<&Hub>,
    ) -> anyhow::Result<Vec<(String, f64)>> {
        if self.eval.is_empty() {
            return Ok(Vec::new());
        }
        let pictures =
            self.eval.iter().map(|(image, boxes)| Ok((Cow::Borrowed(image), &boxes[..])));
        let preprocess = &self.recipe.preprocess;
        let detector = Runner::new(network, preprocess, device, hub)?;
        let decoding = Decoding::pico(self.task.model.num_classes);
        let metrics = evaluate_boxes(&detector, (&decoding, preprocess), pictures)?;
        let named = |name: &str, value: Option<f64>| (name.to_owned(), value.unwrap_or(0.0));
        Ok(vec![named("mAP", metrics.mean_average_precision), named("AP50", metrics.ap50)])
    }

    fn trained(&self, network: &Detector) -> Trained {
        Trained::Detector(self.task.model.clone(), network.valid())
    }
}

/// Which points answer for which objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// SimOTA: the first PicoDet's.
    SimOta,
    /// By statistics of overlaps: the newer PicoDet's at first.
    Atss,
    /// By agreement of class and box: the newer PicoDet's later.
    TaskAligned,
}

/// The newer PicoDet's options.
const ATSS: Atss = Atss { top_k: 9, cell_scale: 5.0 };
const TASK_ALIGNED: TaskAligned = TaskAligned { top_k: 13, alpha: 1.0, beta: 6.0 };

/// Points that answer for an object.
#[derive(Default)]
struct Positives {
    rows: Vec<i32>,
    /// In strides.
    centers: Vec<f32>,
    /// Boxes in strides.
    targets: Vec<f32>,
    weights: Vec<f32>,
}

/// Varifocal, GIoU and distribution-focal loss of a batch, weighted, by the reference's names, from
/// [`Detector::forward_points`].
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
    assignment: Assignment,
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
    let mut positives = Positives::default();
    for (picture, objects) in objects.iter().enumerate() {
        let start = picture * count;
        let predicted = boxes_at(points, &distances[start * 4..]);
        let scores = &scores[start..start + count];
        for (point, object, target) in assigned(assignment, points, scores, &predicted, objects) {
            let object = objects[object];
            let (x, y, stride) = points[point];
            class_targets[start + point] = target;
            positives.rows.push((start + point) as i32);
            positives.centers.extend([x / stride, y / stride]);
            positives
                .targets
                .extend([object.x1, object.y1, object.x2, object.y2].map(|v| v / stride));
            // The first PicoDet weighs a box by its predicted score, the newer one by the wanted.
            positives.weights.push(match assignment {
                Assignment::SimOta => scores[point],
                Assignment::Atss | Assignment::TaskAligned => target,
            });
        }
    }

    let total = class_targets.iter().sum::<f32>().max(1.0);
    let (class_total, giou_weight, distribution_weight) = match assignment {
        Assignment::SimOta => {
            (positives.rows.len().max(1) as f64, GIOU_WEIGHT, DISTRIBUTION_WEIGHT)
        }
        Assignment::Atss | Assignment::TaskAligned => {
            (f64::from(total), ALIGNED_GIOU_WEIGHT, ALIGNED_DISTRIBUTION_WEIGHT)
        }
    };
    let class_targets =
        Tensor::<2>::from_data(TensorData::new(class_targets, [batch * count, 1]), &device);
    let class_loss = varifocal(class_logits, class_targets).sum() / class_total;
    if positives.rows.is_empty() {
        // Keeps the box branch in the graph with a gradient of zero.
        let nothing = box_logits.sum() * 0.0;
        return [("loss_vfl", class_loss), ("loss_bbox", nothing.clone()), ("loss_dfl", nothing)];
    }
    let (overlap, distribution) = box_losses(box_logits, positives);
    [
        ("loss_vfl", class_loss),
        ("loss_bbox", overlap * giou_weight),
        ("loss_dfl", distribution * distribution_weight),
    ]
}

/// Boxes at distances (in strides; left, top, right, bottom) from points.
fn boxes_at(points: &[(f32, f32, f32)], distances: &[f32]) -> Vec<BBox> {
    let at = |(&(x, y, s), d): (&(f32, f32, f32), &[f32])| {
        BBox::new(x - d[0] * s, y - d[1] * s, x + d[2] * s, y + d[3] * s)
    };
    points.iter().zip(distances.chunks_exact(4)).map(at).collect()
}

/// `(point, object, wanted score)` of every point that answers for an object.
fn assigned(
    assignment: Assignment,
    points: &[(f32, f32, f32)],
    scores: &[f32],
    predicted: &[BBox],
    objects: &[BBox],
) -> Vec<(usize, usize, f32)> {
    let by_point = match assignment {
        Assignment::SimOta => {
            let positives = assign(points, scores, predicted, objects);
            return positives.iter().map(|p| (p.point, p.object, p.iou)).collect();
        }
        Assignment::Atss => ATSS.assign(points, predicted, objects),
        Assignment::TaskAligned => {
            let scores = vec![scores.to_vec(); objects.len()];
            TASK_ALIGNED.assign(points, &scores, predicted, objects)
        }
    };
    let found = by_point.into_iter().enumerate();
    found.filter_map(|(point, a)| a.map(|a| (point, a.object, a.score))).collect()
}

/// GIoU and distribution-focal loss of the positive points, weighted means.
fn box_losses(box_logits: Tensor<2>, positives: Positives) -> (Tensor<1>, Tensor<1>) {
    let Positives { rows, centers, targets, weights } = positives;
    let (device, count, bins) = (box_logits.device(), rows.len(), REG_MAX + 1);
    let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [count]), &device);
    let chosen = box_logits.select(0, rows);
    let sides: Vec<f32> = centers
        .chunks_exact(2)
        .zip(targets.chunks_exact(4))
        .flat_map(|(c, t)| [c[0] - t[0], c[1] - t[1], t[2] - c[0], t[3] - c[1]])
        .map(|d| d.clamp(0.0, REG_MAX as f32 - DISTANCE_MARGIN))
        .collect();
    let total_weight = f64::from(weights.iter().sum::<f32>().max(1.0));
    let side_weights: Vec<f32> = weights.iter().flat_map(|w| [*w; 4]).collect();
    let tensor = |values: Vec<f32>| {
        let length = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [length]), &device)
    };
    let distribution = distribution_focal(chosen.clone().reshape([count * 4, bins]), tensor(sides));
    let distribution = (distribution * tensor(side_weights)).sum() / total_weight;

    let centers = tensor(centers).reshape([count, 2]);
    let distances = expected_distances(chosen).reshape([count, 4]);
    let near = centers.clone() - distances.clone().narrow(1, 0, 2);
    let far = centers + distances.narrow(1, 2, 2);
    let boxes = Tensor::cat(vec![near, far], 1);
    let overlap = giou(boxes, tensor(targets).reshape([count, 4]));
    ((overlap * tensor(weights)).sum() / total_weight, distribution)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{Optimizer, OptimizerConfig};
    use models::detector::{DetectorBackbone, DetectorConfig};

    /// A bright square on a dark picture.
    fn picture(device: &Device) -> (Tensor<4>, Vec<Vec<BBox>>) {
        let object = BBox::new(20.0, 12.0, 52.0, 40.0);
        let pixels: Vec<f32> = (0..3 * 64 * 64)
            .map(|i| ((i % 64) as f32, (i / 64 % 64) as f32))
            .map(|(x, y)| {
                let inside =
                    (object.x1..object.x2).contains(&x) && (object.y1..object.y2).contains(&y);
                if inside { 2.0 } else { -1.0 }
            })
            .collect();
        let x = Tensor::from_data(TensorData::new(pixels, [1, 3, 64, 64]), device);
        (x, vec![vec![object]])
    }

    #[test]
    fn every_assignment_teaches_the_box() {
        let device = Device::flex().autodiff();
        for (variant, assignment) in [
            (DetectorVariant::First, Assignment::SimOta),
            (DetectorVariant::Second, Assignment::Atss),
            (DetectorVariant::Second, Assignment::TaskAligned),
        ] {
            device.seed(3);
            let config = DetectorConfig {
                variant,
                backbone: DetectorBackbone::PpLcNet,
                backbone_scale: 0.25,
                neck_channels: 16,
                num_classes: 1,
                head_blocks: 1,
                fused: false,
            };
            let mut network = config.init(&device);
            let mut optimizer = Optimizer::new(OptimizerConfig::Adam { weight_decay: 0.0 });
            let (x, objects) = picture(&device);
            let points = Decoding::pico(1).points(64, 64);
            for _ in 0..60 {
                let output = network.forward_points(x.clone());
                let losses = losses_of_points(output, &points, &objects, assignment);
                let sum = losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| a + b);
                let sum = sum.expect("three terms");
                network = optimizer.step(network, &sum.backward(), 0.005);
            }
            let output = network.forward_points(x);
            let [_, count, row] = output.dims();
            let scores = host(output.clone().narrow(2, 0, 1));
            let sides = output.narrow(2, row - 32, 32).reshape([count, 32]);
            let boxes = boxes_at(&points, &host(expected_distances(sides)));
            let best = (0..count).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            let overlap = boxes[best].iou(&objects[0][0]);
            assert!(overlap > 0.7, "{assignment:?}: {:?}, overlap {overlap}", boxes[best]);
        }
    }
}
