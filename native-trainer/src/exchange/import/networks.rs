//! Networks in the files of timm, torchvision and a few Python packages: told by the names and shapes of their
//! tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use models::backbone::{
    BackboneConfig, ConvNextConfig, InvertedNetwork, LiteSize, RepVitConfig, ResNetConfig,
    ResNetStem, Shortcut, VitConfig,
};
use models::extractor::ExtractorConfig;
use models::limits::MAX_BLOCKS;
use models::preprocess::Preprocess;
use models::weights::Weights;

use super::beside::Beside;
use super::fastvit::{self, Taken};
use super::named::{BASIC, BOTTLENECK, NAMED, Named, inverted, lite};
use super::naming::{Naming, fold, is_classifier};
use super::tensors::{self, Tensors};
use super::transformers::{self, Hints};
use super::{ImportError, Origin, texts};
use crate::text::TextParts;

/// Beginnings of names that wrappers and training programs put before a network's own.
const WRAPPERS: [&str; 11] = [
    "",
    "module.",
    "model.",
    "state_dict.",
    "state_dict.module.",
    "state_dict.model.",
    "model_state_dict.",
    "model_ema.",
    "backbone.",
    "dinov2.",
    "visual.trunk.",
];

/// A network that was taken over.
#[derive(Debug)]
#[non_exhaustive]
pub struct Imported {
    /// What it was recognized as.
    pub name: String,
    /// The network here.
    pub config: ExtractorConfig,
    /// Its weights, by their paths here.
    pub weights: Weights,
    /// What it expects of an image.
    pub preprocess: Preprocess,
    /// What the preprocessing comes from, and what of it cannot be followed.
    pub seen: Vec<String>,
    /// Tensors of the file that were not used, with their shapes.
    pub unused: Vec<(String, Vec<usize>)>,
    /// The tower of texts beside that of images.
    pub text: Option<TextParts>,
}

/// Reads a network from a file of timm's or torchvision's: safetensors, or a PyTorch checkpoint, of which nothing is
/// run. Without a name it is recognized by names and shapes. Preprocessing comes from `config.json` or
/// `preprocessor_config.json` beside the file, or from what is known of the network.
///
/// # Errors
///
/// [`ImportError`]: a file that cannot be read, that holds no network known here, or of which a tensor is missing, has
/// another shape or is left over.
pub fn read_network(path: &Path, named: Option<Named>) -> Result<Imported, ImportError> {
    let all = tensors::read(path)?;
    let beside = Beside::read(path)?;
    let named = match (named, beside.architecture.as_deref()) {
        (Some(named), _) => Some(named),
        (None, Some(name)) => Named::find(name),
        (None, None) => None,
    };
    if named.is_none() {
        beside.check(path)?;
    }
    from_tensors(path, all, named, &beside)
}

/// [`read_network`] of tensors that are there.
fn from_tensors(
    path: &Path,
    mut all: Tensors,
    named: Option<Named>,
    beside: &Beside,
) -> Result<Imported, ImportError> {
    let beside = &match texts::rename(&mut all) {
        Some(is_causal) => beside.of_open_clip(is_causal),
        None => beside.of_transformers(),
    };
    let mut text = texts::take(&mut all);
    let found = WRAPPERS.into_iter().find_map(|wrapper| {
        let inner: BTreeSet<&str> =
            all.keys().filter_map(|name| name.strip_prefix(wrapper)).collect();
        Some((wrapper, naming_of(&inner)?))
    });
    let Some((wrapper, naming)) = found else {
        let mut names: Vec<String> = all.into_keys().collect();
        names.truncate(3);
        return Err(ImportError::Unrecognized { path: path.to_owned(), names });
    };
    let (mut network, mut unused) = (Tensors::new(), Vec::new());
    for (name, tensor) in all {
        match name.strip_prefix(wrapper) {
            Some(inner) => {
                network.insert(inner.to_owned(), tensor);
            }
            None => unused.push((name, tensor.shape)),
        }
    }
    text.append(&mut texts::take(&mut network));
    let spare = spare(&mut network);
    if transformers::naming_of(|name| network.contains_key(name)).is_some() {
        beside.check_transformer(path)?;
    }
    let misfits = |misfit| ImportError::Misfit { path: path.to_owned(), misfit };
    let taken = match named {
        None => fastvit::read(&mut network),
        Some(_) => None,
    };
    let Taken { config, weights, name, mut preprocess, left } = if let Some(taken) = taken {
        taken.map_err(misfits)?
    } else {
        let best = best(&network, naming, named, &beside.hints()).ok_or_else(|| {
            let names = network.keys().take(3).cloned().collect();
            ImportError::Unrecognized { path: path.to_owned(), names }
        })?;
        let (config, name) = (best.config.clone(), name_of(&best.config));
        let taken = best.take(&mut network);
        let named = |misfit| misfits(Misfit { name: name.clone(), ..misfit });
        let (weights, left) = taken.map_err(named)?;
        let preprocess = known_preprocess(&config, naming);
        Taken { config, weights, name, preprocess, left }
    };
    unused.extend(left);
    unused.extend(spare);
    let mut seen = beside.apply(&mut preprocess);
    preprocess.check().map_err(|error| ImportError::Beside {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let config = ExtractorConfig { backbone: config, neck: None };
    let text = (!text.is_empty())
        .then(|| texts::tower(path, text, beside.text(), config.embedding_dim()))
        .and_then(|text| text.map_err(|why| seen.push(why)).ok());
    Ok(Imported { name, config, weights, preprocess, seen, unused, text })
}

/// The network that the tensors are most like: that of the name, or of several whose names they have the one of most
/// tensors.
fn best(tensors: &Tensors, naming: Naming, named: Option<Named>, hints: &Hints) -> Option<Fit> {
    let candidates = match named {
        // Of a transformer the file tells grid and projection.
        Some(named) => match recognized(tensors, naming, hints).pop() {
            Some(BackboneConfig::Vit(config)) if named.is_vit(&config) => {
                vec![BackboneConfig::Vit(config)]
            }
            _ => vec![named.backbone(naming)],
        },
        None => recognized(tensors, naming, hints),
    };
    let fits = candidates.into_iter().map(|config| Fit::of(config, naming, tensors));
    fits.max_by_key(|fit| fit.fitting)
}

/// Takes out values that only training needs, with their shapes.
fn spare(network: &mut Tensors) -> Shapes {
    let names: Vec<String> =
        network.keys().filter(|name| transformers::is_spare(name)).cloned().collect();
    let taken = names.into_iter().filter_map(|name| network.remove_entry(&name));
    taken.map(|(name, tensor)| (name, tensor.shape)).collect()
}

/// Whose names these are; none if no network here has such.
fn naming_of(names: &BTreeSet<&str>) -> Option<Naming> {
    let has = |name: &str| names.contains(name);
    if has("_conv_stem.weight") {
        return Some(Naming::Package);
    }
    if has("features.0.0.weight") && has("features.0.1.weight") {
        return Some(Naming::Torchvision);
    }
    let timm = [
        "layer1.0.conv1.weight",
        "conv_stem.weight",
        "stages.0.blocks.0.conv_dw.weight",
        "stages.0.blocks.0.token_mixer.conv.c.weight",
        fastvit::SIGN,
    ];
    timm.into_iter().any(has).then_some(Naming::Timm).or_else(|| transformers::naming_of(has))
}

/// Networks that have tensors of such names, their sizes as the tensors say.
fn recognized(tensors: &Tensors, naming: Naming, hints: &Hints) -> Vec<BackboneConfig> {
    if transformers::naming_of(|name| tensors.contains_key(name)).is_some() {
        let config = transformers::recognized(tensors, naming, hints);
        return config.map(BackboneConfig::Vit).into_iter().collect();
    }
    let shape = |name: &str| tensors.get(name).map(|tensor| tensor.shape.as_slice());
    let outputs = |name: &str| shape(name).and_then(|shape| shape.first().copied());
    // How many of `name(0)`, `name(1)`, … are there.
    let count = |name: &dyn Fn(usize) -> String| {
        (0..MAX_BLOCKS).take_while(|index| tensors.contains_key(&name(*index))).count()
    };
    if naming == Naming::Package {
        return LiteSize::ALL.map(lite).to_vec();
    }
    let each = |of: &dyn Fn(usize) -> usize| -> [usize; 4] { std::array::from_fn(of) };
    if let Some(width) = outputs("layer1.0.conv1.weight") {
        let is_deep = shape("conv1.0.weight").is_some();
        // A pool before a shortcut's convolution takes the first place.
        let pools = shape("layer2.0.downsample.1.weight").is_some_and(|shape| shape.len() == 4);
        let is_bottleneck = shape("layer1.0.conv3.weight").is_some();
        let depths =
            each(&|stage| count(&|index| format!("layer{}.{index}.conv1.weight", stage + 1)));
        return vec![BackboneConfig::ResNet(ResNetConfig {
            block: if is_bottleneck { BOTTLENECK } else { BASIC },
            depths,
            width,
            stem: if is_deep { ResNetStem::Triple3x3 } else { ResNetStem::Single7x7 },
            shortcut: if pools { Shortcut::AveragePool } else { Shortcut::StridedConv },
            ..ResNetConfig::resnet50()
        })];
    }
    if shape("stages.0.blocks.0.token_mixer.conv.c.weight").is_some() {
        let mixer = |stage: usize, index: usize| {
            format!("stages.{stage}.blocks.{index}.token_mixer.conv.c.weight")
        };
        let depths = each(&|stage| count(&|index| mixer(stage, index)));
        let widths = each(&|stage| outputs(&mixer(stage, 0)).unwrap_or_default());
        return vec![BackboneConfig::RepVit(RepVitConfig { widths, depths, fused: false })];
    }
    let filter = |stage: usize, index: usize| match naming {
        Naming::Torchvision => format!("features.{}.{index}.block.0.weight", 2 * stage + 1),
        _ => format!("stages.{stage}.blocks.{index}.conv_dw.weight"),
    };
    if shape(&filter(0, 0)).is_some() {
        let depths = each(&|stage| count(&|index| filter(stage, index)));
        let widths = each(&|stage| outputs(&filter(stage, 0)).unwrap_or_default());
        return vec![BackboneConfig::ConvNext(ConvNextConfig { widths, depths, fused: false })];
    }
    InvertedNetwork::ALL.map(|network| inverted(network, naming, false)).to_vec()
}

/// What a network is called that was told by its shapes.
fn name_of(config: &BackboneConfig) -> String {
    if let BackboneConfig::Vit(vit) = config {
        return vit_name(vit);
    }
    let is_it = |known: &&Named| {
        let naming = match config {
            BackboneConfig::Inverted(inverted)
                if inverted.epsilon > 1e-4 && !inverted.same_padding =>
            {
                Naming::Torchvision
            }
            _ => Naming::Timm,
        };
        known.backbone(naming) == *config
    };
    match (NAMED.iter().find(is_it), config) {
        (Some(known), _) => known.name.to_owned(),
        (None, BackboneConfig::ResNet(config)) => {
            format!("a ResNet of {:?} blocks, width {}", config.depths, config.width)
        }
        (None, BackboneConfig::RepVit(config)) => {
            format!("a RepViT of {:?} blocks, widths {:?}", config.depths, config.widths)
        }
        (None, BackboneConfig::ConvNext(config)) => {
            format!("a ConvNeXt of {:?} blocks, widths {:?}", config.depths, config.widths)
        }
        (None, _) => "a network of its own".to_owned(),
    }
}

/// What a vision transformer is called.
fn vit_name(config: &VitConfig) -> String {
    let known = NAMED.iter().find(|known| known.is_vit(config));
    known.map_or_else(
        || {
            let VitConfig { depth, width, heads, patch, .. } = config;
            format!("a vision transformer of {depth} blocks, width {width}, {heads} heads, patches of {patch}")
        },
        |known| known.name.to_owned(),
    )
}

/// What is known of the images that such weights were trained on.
fn known_preprocess(config: &BackboneConfig, naming: Naming) -> Preprocess {
    match config {
        BackboneConfig::Vit(config) => transformers::known_preprocess(config, naming),
        BackboneConfig::EfficientNetLite(config) => {
            Origin::EfficientNetLite(config.size).preprocess()
        }
        BackboneConfig::Inverted(config) => {
            let is_medium = config.network == InvertedNetwork::MobilenetV4Medium;
            Preprocess::square(if is_medium { 256 } else { 224 })
        }
        _ => Preprocess::square(224),
    }
}

/// A network held against the tensors of a file.
struct Fit {
    config: BackboneConfig,
    /// Tensors of the network: path here, name there, shape.
    wanted: Vec<(String, String, Vec<usize>)>,
    /// How many of them the file has, in their shapes.
    fitting: usize,
}

impl Fit {
    fn of(config: BackboneConfig, naming: Naming, tensors: &Tensors) -> Self {
        let shapes = if config.check().is_ok() {
            Weights::shapes_of(&config.init(&Device::flex()))
        } else {
            BTreeMap::new()
        };
        let ours: BTreeSet<&str> = shapes.keys().map(String::as_str).collect();
        let wanted: Vec<_> = shapes
            .iter()
            .map(|(name, shape)| {
                let theirs = naming.theirs(&config, &ours, name);
                (name.clone(), theirs.unwrap_or_else(|| (*name).clone()), shape.clone())
            })
            .collect();
        let fits = |theirs: &str, shape: &[usize]| {
            tensors.get(theirs).is_some_and(|tensor| is_alike(&tensor.shape, shape))
        };
        let fitting = wanted.iter().filter(|(_, theirs, shape)| fits(theirs, shape)).count();
        Self { config, wanted, fitting }
    }

    /// The weights under their paths here, and what is left of the file.
    fn take(self, tensors: &mut Tensors) -> Result<(Weights, Shapes), Misfit> {
        let names: Vec<&str> = self.wanted.iter().map(|(_, theirs, _)| theirs.as_str()).collect();
        fold(&self.config, &names, tensors);
        let (mut weights, mut misfit) = (Weights::default(), Misfit::default());
        // Their linear layers are none of 1×1 pixels.
        let is_linear = matches!(self.config, BackboneConfig::Vit(_));
        let as_theirs = |shape: &[usize]| match shape {
            [rows, columns, 1, 1] if is_linear => vec![*rows, *columns],
            _ => shape.to_vec(),
        };
        for (ours, theirs, shape) in self.wanted {
            match tensors.remove(&theirs) {
                None => misfit.missing.push((theirs, as_theirs(&shape))),
                Some(tensor) if !is_alike(&tensor.shape, &shape) => {
                    misfit.shapes.push((theirs, tensor.shape, as_theirs(&shape)));
                }
                Some(mut tensor) => {
                    tensor.shape = shape;
                    weights.tensors.insert(format!("backbone.{ours}"), tensor);
                }
            }
        }
        let left = std::mem::take(tensors).into_iter().map(|(name, tensor)| (name, tensor.shape));
        let (classifier, unknown): (Vec<_>, Vec<_>) =
            left.partition(|(name, _)| is_classifier(name));
        misfit.unknown = unknown;
        misfit.join_parts();
        let fits =
            misfit.missing.is_empty() && misfit.shapes.is_empty() && misfit.unknown.is_empty();
        if fits && !weights.tensors.is_empty() { Ok((weights, classifier)) } else { Err(misfit) }
    }
}

/// Whether shapes are the same but for ones: a linear layer is a 1×1 convolution, a token a batch of one.
pub(super) fn is_alike(theirs: &[usize], ours: &[usize]) -> bool {
    let sides = |shape: &[usize]| -> Vec<usize> {
        shape.iter().copied().filter(|side| *side != 1).collect()
    };
    !theirs.is_empty() && sides(theirs) == sides(ours)
}

/// Names with shapes.
pub(super) type Shapes = Vec<(String, Vec<usize>)>;

/// How the tensors of a file differ from those of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misfit {
    /// The network that was asked for, or that the file resembles most.
    pub name: String,
    /// Tensors that are not in the file, by their names there, with the shapes that they should have.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: name, shape in the file, shape in the network.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors that the network does not have, with their shapes.
    pub unknown: Vec<(String, Vec<usize>)>,
}

impl Misfit {
    /// Says of parts what is to be said of the tensor that they are parts of.
    fn join_parts(&mut self) {
        let mut missing: Shapes = Vec::new();
        for (name, shape) in std::mem::take(&mut self.missing) {
            let Some((whole, count)) = transformers::whole_of(&name) else {
                missing.push((name, shape));
                continue;
            };
            let mut shape = shape;
            if let Some(rows) = shape.first_mut() {
                *rows *= count;
            }
            let there = self.unknown.iter().position(|(name, _)| name == whole);
            if let Some(there) = there {
                let (name, got) = self.unknown.remove(there);
                self.shapes.push((name, got, shape));
            } else if !missing.iter().chain(&named(&self.shapes)).any(|(name, _)| name == whole) {
                missing.push((whole.to_owned(), shape));
            }
        }
        self.missing = missing;
        let mut shapes: Vec<(String, Vec<usize>, Vec<usize>)> = Vec::new();
        for (name, mut got, mut shape) in std::mem::take(&mut self.shapes) {
            let mut name = name;
            if let Some((whole, count)) = transformers::whole_of(&name) {
                for sides in [&mut got, &mut shape] {
                    if let Some(rows) = sides.first_mut() {
                        *rows *= count;
                    }
                }
                let length = whole.len();
                name.truncate(length);
            }
            if !shapes.iter().any(|(there, ..)| *there == name) {
                shapes.push((name, got, shape));
            }
        }
        self.shapes = shapes;
    }
}

/// Names with the shapes of a network.
fn named(shapes: &[(String, Vec<usize>, Vec<usize>)]) -> Shapes {
    shapes.iter().map(|(name, _, shape)| (name.clone(), shape.clone())).collect()
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, missing, shapes, unknown } = self;
        write!(f, "not the weights of {name}:")?;
        for (name, shape) in missing {
            write!(f, "\n  {name} is missing; its shape is {shape:?}")?;
        }
        for (name, got, shape) in shapes {
            write!(f, "\n  {name} has the shape {got:?}, not {shape:?}")?;
        }
        for (name, shape) in unknown {
            write!(f, "\n  {name} {shape:?} is no part of it")?;
        }
        f.write_str("\ngive the file of that network, or the name of the network that it holds: --architecture")
    }
}
