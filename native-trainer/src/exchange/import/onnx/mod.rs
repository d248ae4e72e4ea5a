//! Networks in ONNX files: the graph is checked, simplified and becomes a list of steps ([`models::backbone::Graph`]).
//!
//! The file is read as a list of nodes and constants, nothing in it is run elsewhere. A plain interpreter computes
//! what is constant, tells all shapes, and answers an image, with which the steps have to agree.

mod array;
mod attention;
mod convert;
mod description;
mod detector;
mod error;
mod functions;
mod interpret;
mod layered;
mod layers;
mod layout;
mod model;
mod network;
mod norms;
mod npy;
mod opened;
mod pairs;
mod resampled;
mod scattered;
mod shapes;
mod single;
mod told;
mod wire;
mod words;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use models::backbone::{Backbone, BackboneConfig, GraphConfig};
use models::extractor::ExtractorConfig;
use models::inference::{Network, Prepared};
use models::layers::{Eager, Flow};
use models::limits::MAX_SIDE;
use models::operators::channels_last;
use models::preprocess::Preprocess;
use models::timing::drawn_for;
use models::weights::Weights;

use self::array::Array;
pub use self::array::Budget;
use self::convert::Converter;
pub use self::description::{DescribedBoxes, DetectorDescription};
pub use self::detector::{ImportedDetector, detector_of, read_detector};
pub use self::error::{OnnxError, Refused};
use self::model::{Attribute, Model, Node};
use self::opened::{model_of, read_model};
use super::ImportError;
use super::beside::Beside;

/// Largest difference between two runs of a network, of the largest value of an answer.
const TOLERANCE: f32 = 1e-3;
/// Most images of a reference.
const MAX_IMAGES: usize = 256;
/// Nodes that are looked at on the way back to a classifier.
const WAY: usize = 16;

/// What of a graph is wanted.
#[derive(Debug, Clone, Default)]
pub struct OnnxOptions {
    /// The value that becomes the features, instead of the graph's output.
    pub output: Option<String>,
    /// Takes what the last linear layer gets, instead of what it makes.
    pub without_classifier: bool,
    /// Height and width of the input, where the graph leaves them free.
    pub size: Option<[u32; 2]>,
}

/// A graph that was taken over.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImportedGraph {
    /// The network here.
    pub config: ExtractorConfig,
    /// Its weights, by their paths here.
    pub weights: Weights,
    /// What it expects of an image.
    pub preprocess: Preprocess,
    /// What was found, in sentences.
    pub seen: Vec<String>,
}

/// Reads a network from an ONNX file and compares what came of it with a plain interpreter of the graph.
///
/// # Errors
///
/// [`ImportError::Onnx`], [`ImportError::File`], [`ImportError::Beside`].
pub fn read_onnx(path: &Path, options: &OnnxOptions) -> Result<ImportedGraph, ImportError> {
    let failed = |source: OnnxError| ImportError::Onnx { path: path.to_owned(), source };
    let model = read_model(path)?;
    let (input, fixed) = input_of(&model).map_err(failed)?;
    let wanted = wanted(&model, options).map_err(failed)?;
    let (preprocess, mut seen) = preprocess_of(path, &model, input, fixed, options)?;
    let graphed = graph(&model, input, wanted, &preprocess, &Budget::default()).map_err(failed)?;
    let Graphed { config, weights, answer } = graphed;
    let found = format!(
        "{} nodes of operator set {} become {} steps, {} values come out",
        model.nodes.len(),
        model.operator_set,
        config.nodes.len(),
        answer.len()
    );
    seen.insert(0, found);
    let backbone = BackboneConfig::Graph(config);
    let mut imported = ImportedGraph {
        config: ExtractorConfig { backbone, neck: None },
        weights,
        preprocess,
        seen,
    };
    let off = imported.compare_with_plan(&answer).map_err(failed)?;
    imported.seen.push(format!(
        "equal to a plain interpreter of the graph, to {off:.1e} of the largest value"
    ));
    // What a classifier of whole maps gets is no embedding.
    let is_usable = |before: &&str| {
        graph(&model, input, before, &imported.preprocess, &Budget::default()).is_ok()
    };
    if let Some(before) = classifier_of(&model, wanted).filter(is_usable) {
        let width = imported.config.features();
        imported.seen.push(format!(
            "the answer is that of the last linear layer, of {width} values; if these are classes, \
             --without-classifier takes what it gets, {before}"
        ));
    }
    Ok(imported)
}

/// The graph's only input, and its height and width, as far as they are fixed.
fn input_of(model: &Model) -> Result<(&str, [Option<usize>; 2]), OnnxError> {
    let bad = |reason: String| OnnxError::Input { reason };
    let [(name, sides)] = &model.inputs[..] else {
        let names: Vec<&str> = model.inputs.iter().map(|(name, _)| name.as_str()).collect();
        return Err(bad(format!("there is not one, but {}: {}", names.len(), names.join(", "))));
    };
    let &[_, channels, height, width] = &sides[..] else {
        return Err(bad(format!(
            "{name} has {} axes, not batch, colors, rows, columns",
            sides.len()
        )));
    };
    if channels.is_some_and(|channels| channels != 3) {
        return Err(bad(format!("{name} has other than three colors in its second axis")));
    }
    let is_small = |side: Option<usize>| side.is_none_or(|side| side <= MAX_SIDE as usize);
    if is_small(height) && is_small(width) {
        Ok((name, [height, width]))
    } else {
        Err(bad(format!("{name} has sides above {MAX_SIDE}")))
    }
}

/// The value that is wanted of a graph.
fn wanted<'a>(model: &'a Model, options: &'a OnnxOptions) -> Result<&'a str, OnnxError> {
    let missing = |reason: String| OnnxError::Output { reason };
    if let Some(name) = &options.output {
        let made = model.nodes.iter().flat_map(|node| &node.outputs).any(|output| output == name);
        return if made {
            Ok(name)
        } else {
            Err(missing(format!("{name} is no value of the graph")))
        };
    }
    let [output] = &model.outputs[..] else {
        let names = model.outputs.join(", ");
        return Err(missing(format!("the graph has {} outputs: {names}", model.outputs.len())));
    };
    if !options.without_classifier {
        return Ok(output);
    }
    let found = classifier_of(model, output);
    found.ok_or_else(|| missing("no linear layer lies before the graph's output".to_owned()))
}

/// What the last linear layer before a value gets.
fn classifier_of<'a>(model: &'a Model, output: &'a str) -> Option<&'a str> {
    let maker = |name: &str| model.nodes.iter().find(|node| node.outputs.iter().any(|o| o == name));
    // Weights may be made by nodes of their own, of constants alone.
    let is_known = |name: &str| {
        model.constants.contains_key(name)
            || maker(name).is_some_and(|node| {
                let all = |node: &Node| node.inputs.iter().all(|n| model.constants.contains_key(n));
                all(node)
            })
    };
    let mut name = output;
    for _ in 0..WAY {
        let node = maker(name)?;
        let first = node.input(0)?;
        let second = node.input(1);
        let before = match node.operator.as_str() {
            "Gemm" | "MatMul" if second.is_some_and(is_known) => return Some(first),
            "Conv" => {
                let weight = second.and_then(|name| model.constants.get(name))?;
                let is_point = weight.shape.iter().skip(2).all(|side| *side == 1);
                return is_point.then_some(first);
            }
            "Add" if is_known(first) => second?,
            "Add" if !second.is_some_and(is_known) => return None,
            "Add" | "Softmax" | "LogSoftmax" | "Sigmoid" | "Identity" | "Flatten" | "Reshape"
            | "Squeeze" | "Dropout" => first,
            _ => return None,
        };
        name = before;
    }
    None
}

/// What the graph expects of an image, and where that was found.
fn preprocess_of(
    path: &Path,
    model: &Model,
    input: &str,
    fixed: [Option<usize>; 2],
    options: &OnnxOptions,
) -> Result<(Preprocess, Vec<String>), ImportError> {
    let failed = |reason: String| {
        let source = OnnxError::Input { reason };
        ImportError::Onnx { path: path.to_owned(), source }
    };
    let beside = Beside::read(path)?;
    // Without a size, until something says one.
    let mut preprocess = Preprocess { width: 0, height: 0, ..Preprocess::square(1) };
    let inside = normalized_inside(model, input);
    if let Some(range) = inside {
        preprocess.mean = [0.0; 3];
        preprocess.std = [1.0 / range; 3];
    }
    let mut seen = beside.apply(&mut preprocess);
    if let Some(range) = inside {
        preprocess.mean = [0.0; 3];
        preprocess.std = [1.0 / range; 3];
    }
    let said = [preprocess.height, preprocess.width];
    let sides = sides(fixed, options.size, said).map_err(failed)?;
    [preprocess.height, preprocess.width] = sides;
    preprocess.check().map_err(|error| failed(error.to_string()))?;
    let Preprocess { width, height, mean, std, .. } = &preprocess;
    seen[0] = if let Some(range) = inside {
        format!(
            "images {width} pixels wide and {height} high, values from 0 to {range}: the graph itself normalizes them"
        )
    } else {
        let from = seen[0].rsplit(", ").next().unwrap_or_default().to_owned();
        let from = from.replace("for this network", "for networks of ImageNet");
        format!(
            "images {width} pixels wide and {height} high, mean {mean:?}, deviation {std:?}, {from}"
        )
    };
    Ok((preprocess, seen))
}

/// Height and width of the input: those of the graph, those that are given, or those that lie beside it (0 for none).
fn sides(
    fixed: [Option<usize>; 2],
    given: Option<[u32; 2]>,
    said: [u32; 2],
) -> Result<[u32; 2], String> {
    let side = |axis: usize| {
        let given = given.map(|size| size[axis]);
        let fixed = fixed[axis].map(|side| side as u32);
        match (fixed, given) {
            (Some(fixed), Some(given)) if fixed != given => {
                Err(format!("--size says {given}, the graph {fixed}"))
            }
            (Some(side), _) | (None, Some(side)) => Ok(side),
            (None, None) if said[axis] > 0 => Ok(said[axis]),
            (None, None) => {
                Err("the graph leaves its height and width free; give --size".to_owned())
            }
        }
    };
    Ok([side(0)?, side(1)?])
}

/// The largest value of a color, where the graph begins with a normalization of its own.
fn normalized_inside(model: &Model, input: &str) -> Option<f32> {
    let mut users = model.nodes.iter().filter(|node| node.inputs.iter().any(|name| name == input));
    let first = users.next()?;
    let is_one = users.next().is_none() && matches!(first.operator.as_str(), "Sub" | "Div" | "Mul");
    let constant = first.input(1).filter(|_| is_one).and_then(|name| constant_of(model, name));
    let values = constant?.as_floats().ok()?;
    let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    // A mean or a divisor of bytes, or of shares; a factor of either.
    let is_of_bytes = if first.operator == "Mul" { most < 0.1 } else { most > 2.0 };
    Some(if is_of_bytes { 255.0 } else { 1.0 })
}

/// A constant, which may stand in a node of its own.
fn constant_of<'a>(model: &'a Model, name: &str) -> Option<&'a Array> {
    let node = || {
        let made = |node: &&Node| node.outputs.iter().any(|output| output == name);
        match model.nodes.iter().find(made)?.attributes.get("value") {
            Some(Attribute::Tensor(array)) => Some(array),
            _ => None,
        }
    };
    model.constants.get(name).or_else(node)
}

/// Steps with their weights, and what the interpreter answered to the drawn image.
struct Graphed {
    config: GraphConfig,
    weights: Weights,
    answer: Vec<f32>,
}

/// An image as the graph wants it: colors before rows and columns.
fn planes(preprocess: &Preprocess) -> Array {
    let mut pixels = vec![0.0; preprocess.values()];
    preprocess.fill(&drawn_for(preprocess), &mut pixels);
    let [height, width] = [preprocess.height, preprocess.width].map(|side| side as usize);
    let plane = |color: usize| pixels.iter().copied().skip(color).step_by(3);
    Array::floats(vec![1, 3, height, width], (0..3).flat_map(plane).collect())
}

/// Fails where a graph has operators that are not read.
fn unread_operators(model: &Model) -> Result<(), OnnxError> {
    let unread = interpret::unread(model);
    if unread.is_empty() {
        return Ok(());
    }
    let refused = unread.into_iter().map(|(operator, count, first)| Refused {
        operator,
        reason: "this operator is not read".to_owned(),
        count,
        first,
    });
    Err(OnnxError::Refused(refused.collect()))
}

/// Makes steps of a graph.
fn graph(
    model: &Model,
    input: &str,
    wanted: &str,
    preprocess: &Preprocess,
    budget: &Budget,
) -> Result<Graphed, OnnxError> {
    unread_operators(model)?;
    let run = interpret::run(model, (input, planes(preprocess)), &[wanted], budget)?;
    let sides = [preprocess.height, preprocess.width].map(|side| side as usize);
    let converter = Converter::new(model, &run, budget, (input, sides));
    let (network, map) = converter.convert(wanted)?;
    let (config, weights) = network.finish(&mut [map]);
    config.check()?;
    config.check_input(sides)?;
    let answer = run.answers.get(wanted).map(Array::as_floats).transpose()?.unwrap_or_default();
    if answer.iter().any(|value| !value.is_finite()) {
        let reason = "what it answers to an image holds values that are no finite numbers: its weights are damaged, or \
                      overflow";
        return Err(OnnxError::damaged(reason.to_owned()));
    }
    Ok(Graphed { config, weights, answer: answer.to_vec() })
}

/// Reads a graph from bytes, for an input of this side; for whoever damages files to see what comes of it.
///
/// # Errors
///
/// [`OnnxError`]
#[doc(hidden)]
pub fn steps_of(bytes: &[u8], side: u32, budget: &Budget) -> Result<GraphConfig, OnnxError> {
    let model = model_of(bytes)?;
    let (input, fixed) = input_of(&model)?;
    let options = OnnxOptions::default();
    let wanted = wanted(&model, &options)?;
    let [height, width] = fixed.map(|fixed| fixed.map_or(side, |side| side as u32));
    let preprocess = Preprocess { height, width, ..Preprocess::square(1) };
    preprocess.check().map_err(|error| OnnxError::Input { reason: error.to_string() })?;
    if u64::from(height) * u64::from(width) * 3 > budget.values as u64 {
        return Err(OnnxError::TooLarge { what: "its input".to_owned() });
    }
    graph(&model, input, wanted, &preprocess, budget).map(|graphed| graphed.config)
}

/// A network that gives its features as they are.
#[derive(Debug, Clone)]
struct Features(Backbone);

impl Network for Features {
    type Reading = ();

    fn reading(&self) {}

    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        vec![self.0.wire(flow, x)]
    }
}

/// The largest difference, as a share of the largest value; an error where it is too large.
fn compared(from: &str, got: &[f32], expected: &[f32]) -> Result<f32, OnnxError> {
    let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let differences = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // What is no number is larger than any.
    let worst = differences.fold(0.0_f32, |most, value| if value <= most { most } else { value });
    if got.len() == expected.len() && worst <= TOLERANCE * largest && largest.is_finite() {
        return Ok(if largest > 0.0 { worst / largest } else { 0.0 });
    }
    Err(OnnxError::Differs { from: from.to_owned(), worst, largest })
}

impl ImportedGraph {
    fn backbone(&self, device: &Device) -> Result<Backbone, OnnxError> {
        let failed = |error: models::weights::WeightsError| OnnxError::damaged(error.to_string());
        let mut weights = Weights::default();
        for (name, tensor) in &self.weights.tensors {
            let name = name.strip_prefix("backbone.").unwrap_or(name);
            weights.tensors.insert(name.to_owned(), tensor.clone());
        }
        weights.load_into(self.config.backbone.init(device)).map_err(failed)
    }

    /// How far a plan is from what the interpreter answered to the drawn image.
    fn compare_with_plan(&self, answer: &[f32]) -> Result<f32, OnnxError> {
        let device = Device::flex();
        let network = Features(self.backbone(&device)?);
        let prepared = Prepared::new(&network, &self.preprocess, &device);
        let got = pollster::block_on(prepared.run(&[drawn_for(&self.preprocess)]));
        let got = got.map_err(|error| OnnxError::damaged(error.to_string()))?;
        compared("a plain interpreter of the graph", &got, answer)
    }

    /// Compares with a reference: an input `[images, 3, height, width]` and the output `[images, values]` that
    /// another program made of it. The largest difference, as a share of the largest value.
    ///
    /// # Errors
    ///
    /// [`OnnxError::Differs`], or [`OnnxError::Reference`] for files that hold something else.
    pub fn compare_with(&self, input: &Path, output: &Path) -> Result<f32, OnnxError> {
        let [given, expected] = [input, output].map(npy::read);
        let (given, expected) = (given?, expected?);
        let wrong = |reason: String| OnnxError::Reference { reason };
        let Preprocess { height, width, .. } = self.preprocess;
        let sides = [3, height as usize, width as usize];
        let images = given.shape.first().copied().unwrap_or_default();
        if given.shape.len() != 4 || given.shape[1..] != sides || images > MAX_IMAGES {
            let shape = &given.shape;
            return Err(wrong(format!(
                "{}: {shape:?}, not [images, 3, {height}, {width}]",
                input.display()
            )));
        }
        let features = self.config.features();
        let values = expected.as_floats()?;
        if values.len() != images * features {
            let shape = &expected.shape;
            return Err(wrong(format!(
                "{}: {shape:?}, not [{images}, {features}]",
                output.display()
            )));
        }
        let device = Device::flex();
        let backbone = self.backbone(&device)?;
        let shape = [images, sides[0], sides[1], sides[2]];
        let data = TensorData::new(given.as_floats()?.to_vec(), shape);
        let x = channels_last(Tensor::<4>::from_data(data, &device));
        let got = backbone.wire(&mut Eager, x).into_data().try_into_vec::<f32>();
        let got = got.map_err(|error| OnnxError::damaged(format!("{error:?}")))?;
        compared(&output.display().to_string(), &got, values)
    }
}
