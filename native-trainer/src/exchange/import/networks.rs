//! Networks in the files of timm, torchvision and a few Python packages: told by the names and shapes of their
//! tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use models::backbone::{
    BackboneConfig, ConvNextConfig, InvertedNetwork, LiteSize, RepVitConfig, ResNetConfig,
    ResNetStem, Shortcut,
};
use models::extractor::ExtractorConfig;
use models::limits::MAX_BLOCKS;
use models::preprocess::Preprocess;
use models::weights::Weights;

use super::beside::Beside;
use super::named::{BASIC, BOTTLENECK, NAMED, Named, inverted, lite};
use super::naming::{Naming, fold, is_classifier};
use super::tensors::{self, Tensors};
use super::{ImportError, Origin};

/// Beginnings of names that wrappers and training programs put before a network's own.
const WRAPPERS: [&str; 9] = [
    "",
    "module.",
    "model.",
    "state_dict.",
    "state_dict.module.",
    "state_dict.model.",
    "model_state_dict.",
    "model_ema.",
    "backbone.",
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
    all: Tensors,
    named: Option<Named>,
    beside: &Beside,
) -> Result<Imported, ImportError> {
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
    let candidates = match named {
        Some(named) => vec![named.backbone(naming)],
        None => recognized(&network, naming),
    };
    // Of several that have these names, the one of most tensors.
    let best = candidates
        .into_iter()
        .map(|config| Fit::of(config, naming, &network))
        .max_by_key(|fit| fit.fitting);
    let Some(best) = best else {
        let names = network.into_keys().take(3).collect();
        return Err(ImportError::Unrecognized { path: path.to_owned(), names });
    };
    let (config, name) = (best.config.clone(), name_of(&best.config));
    let (weights, left) = best.take(&mut network).map_err(|misfit| ImportError::Misfit {
        path: path.to_owned(),
        misfit: Misfit { name: name.clone(), ..misfit },
    })?;
    unused.extend(left);
    let mut preprocess = known_preprocess(&config);
    let seen = beside.apply(&mut preprocess);
    preprocess.check().map_err(|error| ImportError::Beside {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let config = ExtractorConfig { backbone: config, neck: None };
    Ok(Imported { name, config, weights, preprocess, seen, unused })
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
    ];
    timm.into_iter().any(has).then_some(Naming::Timm)
}

/// Networks that have tensors of such names, their sizes as the tensors say.
fn recognized(tensors: &Tensors, naming: Naming) -> Vec<BackboneConfig> {
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

/// What is known of the images that such weights were trained on.
fn known_preprocess(config: &BackboneConfig) -> Preprocess {
    match config {
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
        fold(&self.config, tensors);
        let (mut weights, mut misfit) = (Weights::default(), Misfit::default());
        for (ours, theirs, shape) in self.wanted {
            match tensors.remove(&theirs) {
                None => misfit.missing.push((theirs, shape)),
                Some(tensor) if !is_alike(&tensor.shape, &shape) => {
                    misfit.shapes.push((theirs, tensor.shape, shape));
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
        let fits =
            misfit.missing.is_empty() && misfit.shapes.is_empty() && misfit.unknown.is_empty();
        if fits && !weights.tensors.is_empty() { Ok((weights, classifier)) } else { Err(misfit) }
    }
}

/// Whether shapes are the same but for ones at their ends: a linear layer is a 1×1 convolution.
fn is_alike(theirs: &[usize], ours: &[usize]) -> bool {
    let longest = theirs.len().max(ours.len());
    let side = |shape: &[usize], axis: usize| shape.get(axis).copied().unwrap_or(1);
    !theirs.is_empty() && (0..longest).all(|axis| side(theirs, axis) == side(ours, axis))
}

/// Names with shapes.
type Shapes = Vec<(String, Vec<usize>)>;

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
