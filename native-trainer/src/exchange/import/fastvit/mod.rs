//! `FastViT` and the image towers of `MobileCLIP` in timm's files.
//!
//! Source: "`FastViT`: A Fast Hybrid Vision Transformer using Structural Reparameterization",
//! <https://arxiv.org/abs/2303.14189>; "`MobileCLIP`: Fast Image-Text Models through Multi-Modal Reinforced Training",
//! <https://arxiv.org/abs/2311.17049>. Agrees with timm 1.0 `fastvit.py`: pooled features before the classifier, or
//! `MobileCLIP`'s projection.
//!
//! Parallel branches, normalization and layer scales are folded into convolutions, and what is left becomes a list of steps
//! (`GraphConfig`). A list has no code of its own in the engines, which a backbone would have. Training goes on from the
//! folded form.

mod list;

use models::backbone::{BackboneConfig, GraphConfig, GraphStep};
use models::layers::{Activation, GlobalPool};
use models::limits::MAX_BLOCKS;
use models::preprocess::Preprocess;
use models::weights::Weights;

use self::list::{Filters, List};
use super::naming::is_classifier;
use super::networks::{Misfit, Shapes};
use super::tensors::Tensors;
use super::transformers::{CLIP_MEAN, CLIP_STD};

/// Added to a variance before its square root.
const EPSILON: f32 = 1e-5;
/// Most stages, channels, and pixels along a kernel: beyond those of all published ones.
const MOST_STAGES: usize = 8;
const MOST_CHANNELS: usize = 4096;
const MOST_KERNEL: usize = 15;
/// Channels of a head.
const HEAD: usize = 32;
/// Values of the embeddings of published towers.
const PROJECTIONS: [usize; 2] = [512, 768];

/// Published networks: name, blocks of each stage, channels of the first one, by how much blocks widen, and whether the
/// last stage has attention.
type Published = (&'static str, &'static [usize], usize, usize, bool);
const PUBLISHED: [Published; 12] = [
    ("fastvit_t8", &[2, 2, 4, 2], 48, 3, false),
    ("fastvit_t12", &[2, 2, 6, 2], 64, 3, false),
    ("fastvit_s12", &[2, 2, 6, 2], 64, 4, false),
    ("fastvit_sa12", &[2, 2, 6, 2], 64, 4, true),
    ("fastvit_sa24", &[4, 4, 12, 4], 64, 4, true),
    ("fastvit_sa36", &[6, 6, 18, 6], 64, 4, true),
    ("fastvit_ma36", &[6, 6, 18, 6], 76, 4, true),
    ("fastvit_mci0", &[2, 6, 10, 2], 64, 3, true),
    ("fastvit_mci1", &[4, 12, 20, 4], 64, 3, true),
    ("fastvit_mci2", &[4, 12, 24, 4], 80, 3, true),
    ("fastvit_mci3", &[2, 12, 24, 4, 2], 96, 4, true),
    ("fastvit_mci4", &[2, 12, 24, 4, 4], 128, 4, true),
];

/// A network that was taken over.
pub(super) struct Taken {
    pub(super) config: BackboneConfig,
    pub(super) weights: Weights,
    pub(super) name: String,
    pub(super) preprocess: Preprocess,
    /// Of the classifier, which is not used.
    pub(super) left: Shapes,
}

/// What the tensors tell of a network.
struct Form {
    depths: Vec<usize>,
    widths: Vec<usize>,
    /// Channels between the two layers of a block's second half.
    hidden: Vec<usize>,
    has_attention: Vec<bool>,
    /// Whether it is a tower of `MobileCLIP`'s, with an activation where halving ends.
    is_tower: bool,
}

/// The name of a tensor that only these networks have.
pub(super) const SIGN: &str = "stages.0.blocks.0.mlp.conv.conv.weight";

impl Form {
    /// None where the tensors are of no such network.
    fn of(tensors: &Tensors) -> Option<Self> {
        // One without values says nothing.
        let there = |name: &str| tensors.get(name).filter(|tensor| !tensor.values.is_empty());
        let shape = |name: &str| there(name).map(|tensor| tensor.shape.as_slice());
        let layer = |stage: usize, block: usize| {
            shape(&format!("stages.{stage}.blocks.{block}.mlp.fc1.weight"))
        };
        tensors.get(SIGN)?;
        let stages = (0..MOST_STAGES).take_while(|stage| layer(*stage, 0).is_some()).count();
        let mut form = Self {
            depths: Vec::new(),
            widths: Vec::new(),
            hidden: Vec::new(),
            has_attention: Vec::new(),
            is_tower: false,
        };
        for stage in 0..stages {
            let [hidden, width, ..] = *layer(stage, 0)? else { return None };
            if !(1..=MOST_CHANNELS).contains(&width) || !(1..=4 * MOST_CHANNELS).contains(&hidden) {
                return None;
            }
            let blocks = (0..MAX_BLOCKS).take_while(|block| layer(stage, *block).is_some());
            form.depths.push(blocks.count());
            form.widths.push(width);
            form.hidden.push(hidden);
            let attention = format!("stages.{stage}.blocks.0.token_mixer.qkv.weight");
            form.has_attention.push(shape(&attention).is_some());
        }
        // The activation leaves no trace of itself. Towers squeeze where they halve, or have five stages.
        let squeezes = (0..stages).any(|stage| {
            shape(&format!("stages.{stage}.downsample.proj.0.se.fc1.weight")).is_some()
        });
        form.is_tower = squeezes || stages > 4;
        (stages > 0).then_some(form)
    }

    fn name(&self) -> String {
        let Self { depths, widths, hidden, has_attention, .. } = self;
        let known = PUBLISHED.iter().find(|(_, blocks, first, grows, attention)| {
            *depths == **blocks
                && widths.iter().enumerate().all(|(stage, width)| *width == first << stage)
                && hidden.iter().zip(widths).all(|(hidden, width)| *hidden == grows * width)
                && has_attention.last() == Some(attention)
        });
        known.map_or_else(
            || format!("a FastViT of {depths:?} blocks, widths {widths:?}"),
            |(name, ..)| (*name).to_owned(),
        )
    }

    /// What is known of the images that such weights were trained on.
    fn preprocess(&self) -> Preprocess {
        let plain = Preprocess::square(256);
        match (self.is_tower, self.depths.len()) {
            (false, _) => plain,
            (true, ..5) => Preprocess { mean: [0.0; 3], std: [1.0; 3], ..plain },
            (true, _) => Preprocess { mean: CLIP_MEAN, std: CLIP_STD, ..plain },
        }
    }
}

/// Takes such a network out of a file's tensors; none where they are of another one.
pub(super) fn read(tensors: &mut Tensors) -> Option<Result<Taken, Misfit>> {
    let form = Form::of(tensors)?;
    let mut list = List::of(tensors);
    list.network(&form);
    let List { nodes, weights, misfit, .. } = list;
    let left = std::mem::take(tensors).into_iter().map(|(name, tensor)| (name, tensor.shape));
    let (left, unknown) = left.partition(|(name, _)| is_classifier(name));
    let misfit = Misfit { name: form.name(), unknown, ..misfit };
    let fits = misfit.missing.is_empty() && misfit.shapes.is_empty() && misfit.unknown.is_empty();
    Some(if fits {
        Ok(Taken {
            config: BackboneConfig::Graph(GraphConfig { nodes, fused: true }),
            weights,
            name: form.name(),
            preprocess: form.preprocess(),
            left,
        })
    } else {
        Err(misfit)
    })
}

impl List<'_> {
    /// Everything, in order.
    fn network(&mut self, form: &Form) {
        let gelu = Activation::Gelu;
        let first = form.widths[0];
        let filters = self.branches("stem.0", [first, 3, 3], false, false);
        let mut x = self.conv(0, filters, [1, 2], gelu);
        let filters = self.branches("stem.1", [first, 1, 3], false, false);
        x = self.depthwise(x, &filters, first, 2, gelu);
        let filters = self.branches("stem.2", [first, first, 1], true, false);
        x = self.pointwise(x, filters, gelu);
        let mut before = first;
        for (stage, depth) in form.depths.iter().enumerate() {
            let (name, width) = (format!("stages.{stage}"), form.widths[stage]);
            if stage > 0 {
                x = self.halved(x, &name, [before, width], form.is_tower);
            }
            let positions = format!("{name}.pos_emb");
            let kernel = ["pos_enc", "reparam_conv"].into_iter().find_map(|part| {
                self.side(&format!("{positions}.{part}.weight")).map(|side| (part, side))
            });
            if let Some((part, side)) = kernel {
                let mut filters = self.plain(&format!("{positions}.{part}"), [width, 1, side]);
                if part == "pos_enc" {
                    filters.add_input(1, &vec![1.0; width], &[]);
                }
                x = self.depthwise(x, &filters, width, 1, Activation::Identity);
            }
            for block in 0..*depth {
                let name = format!("{name}.blocks.{block}");
                x = if form.has_attention[stage] {
                    self.attended(x, &name, width)
                } else {
                    self.mixed(x, &name, width)
                };
                let scale = if form.has_attention[stage] { "layer_scale_2" } else { "layer_scale" };
                x = self.widened(x, &name, [width, form.hidden[stage]], scale);
            }
            before = width;
        }
        self.head(x, before, form.is_tower);
    }

    /// Half as many rows and columns, of more channels.
    fn halved(&mut self, x: usize, name: &str, [before, width]: [usize; 2], acts: bool) -> usize {
        let name = format!("{name}.downsample.proj");
        let sum = format!("{name}.0.reparam_conv");
        let large = format!("{name}.0.large_conv");
        let side = |list: &Self, name: &str| list.side(&format!("{name}.weight"));
        let filters = if let Some(side) = side(self, &sum) {
            self.plain(&sum, [width, 1, side])
        } else {
            let side = side(self, &format!("{large}.conv")).unwrap_or(7);
            let mut filters = self.normalized(&large, [width, 1, side]);
            let small = format!("{name}.0.small_conv");
            if let Some(small_side) =
                self.side(&format!("{small}.conv.weight")).filter(|s| *s <= side)
            {
                let other = self.normalized(&small, [width, 1, small_side]);
                filters.add(&other);
            }
            filters
        };
        let after = if acts { Activation::Gelu } else { Activation::Identity };
        let squeeze = format!("{name}.0.se");
        let mut x = x;
        if self.has(&format!("{squeeze}.fc1.weight")) {
            x = self.depthwise(x, &filters, before, 2, Activation::Identity);
            x = self.squeezed(x, &squeeze, width, after);
        } else {
            x = self.depthwise(x, &filters, before, 2, after);
        }
        let filters = self.branches(&format!("{name}.1"), [width, width, 1], true, false);
        self.pointwise(x, filters, Activation::Gelu)
    }

    /// Pixels mixed by convolutions, added to the input: one convolution.
    fn mixed(&mut self, x: usize, name: &str, width: usize) -> usize {
        let name = format!("{name}.token_mixer");
        let sum = format!("{name}.reparam_conv");
        if let Some(side) = self.side(&format!("{sum}.weight")) {
            let filters = self.plain(&sum, [width, 1, side]);
            return self.depthwise(x, &filters, width, 1, Activation::Identity);
        }
        let side = self.side(&format!("{name}.mixer.conv_kxk.0.conv.weight")).unwrap_or(3);
        let mut filters = self.branches(&format!("{name}.mixer"), [width, 1, side], true, false);
        let mut input = self.branches(&format!("{name}.norm"), [width, 1, side], true, true);
        input.scale(&vec![-1.0; width]);
        filters.add(&input);
        let scale = self.layer_scale(&format!("{name}.layer_scale"), width);
        filters.scale(&scale);
        filters.add_input(1, &vec![1.0; width], &[]);
        self.depthwise(x, &filters, width, 1, Activation::Identity)
    }

    /// Factors behind a branch; ones where the file has none.
    fn layer_scale(&mut self, name: &str, width: usize) -> Vec<f32> {
        let name = format!("{name}.gamma");
        if self.has(&name) { self.take(&name, &[width]) } else { vec![1.0; width] }
    }

    /// Pixels mixed by attention, added to the input.
    fn attended(&mut self, x: usize, name: &str, width: usize) -> usize {
        let norm = format!("{name}.norm");
        let whole = format!("{name}.token_mixer.qkv");
        let mut weight = self.take(&format!("{whole}.weight"), &[3 * width, width]);
        let mut bias = if self.has(&format!("{whole}.bias")) {
            self.take(&format!("{whole}.bias"), &[3 * width])
        } else {
            vec![0.0; 3 * width]
        };
        let mut y = x;
        if self.has(&format!("{norm}.running_mean")) {
            let [scale, shift] = self.norm(&norm, width);
            for (row, bias) in weight.chunks_exact_mut(width).zip(&mut bias) {
                *bias += row.iter().zip(&shift).map(|(value, shift)| value * shift).sum::<f32>();
                row.iter_mut().zip(&scale).for_each(|(value, scale)| *value *= scale);
            }
        } else {
            y = self.layer_norm(x, &norm, width);
        }
        let all = Filters { weight, bias, kernel: 1 };
        let parts: [usize; 3] = std::array::from_fn(|part| {
            let filters = all.picked(part * width..(part + 1) * width);
            self.pointwise(y, filters, Activation::Identity)
        });
        let mean = self.push(GraphStep::Attend((width / HEAD).max(1)), &parts);
        let mut filters = self.plain(&format!("{name}.token_mixer.proj"), [width, width, 1]);
        let scale = self.layer_scale(&format!("{name}.layer_scale_1"), width);
        filters.scale(&scale);
        let made = self.pointwise(mean, filters, Activation::Identity);
        self.push(GraphStep::Add, &[x, made])
    }

    /// Channels mixed behind a look at the pixels around, added to the input.
    fn widened(&mut self, x: usize, name: &str, [width, hidden]: [usize; 2], scale: &str) -> usize {
        let side = self.side(&format!("{name}.mlp.conv.conv.weight")).unwrap_or(7);
        let filters = self.normalized(&format!("{name}.mlp.conv"), [width, 1, side]);
        let y = self.depthwise(x, &filters, width, 1, Activation::Identity);
        let filters = self.plain(&format!("{name}.mlp.fc1"), [hidden, width, 1]);
        let y = self.pointwise(y, filters, Activation::Gelu);
        let mut filters = self.plain(&format!("{name}.mlp.fc2"), [width, hidden, 1]);
        let scale = self.layer_scale(&format!("{name}.{scale}"), width);
        filters.scale(&scale);
        let y = self.pointwise(y, filters, Activation::Identity);
        self.push(GraphStep::Add, &[x, y])
    }

    /// The last convolution, the pool, and a tower's projection.
    fn head(&mut self, x: usize, before: usize, is_tower: bool) {
        let name = "final_conv";
        let shapes = ["conv_kxk.0.conv.weight", "reparam_conv.weight"];
        let shape = shapes
            .into_iter()
            .find_map(|part| self.shape(&format!("{name}.{part}"))?.first().copied());
        let filters = shape.unwrap_or(2 * before);
        let features = filters.clamp(before, MOST_CHANNELS.max(before)) / before * before;
        // With as many filters as channels the input is a branch, too.
        let filters = self.branches(name, [features, 1, 3], features == before, false);
        let x = self.depthwise(x, &filters, before, 1, Activation::Identity);
        let x = self.squeezed(x, &format!("{name}.se"), features, Activation::Gelu);
        let x = self.push(GraphStep::GlobalPool(GlobalPool::Average), &[x]);
        let projection = self.shape("head.fc.weight").and_then(|shape| shape.first().copied());
        if let Some(dim) = projection.filter(|dim| is_tower && PROJECTIONS.contains(dim)) {
            let filters = self.plain("head.fc", [dim, features, 1]);
            self.pointwise(x, filters, Activation::Identity);
        }
    }
}
