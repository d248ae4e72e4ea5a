//! Detectors in ONNX files: the maps that boxes are found in, and what their values mean.
//!
//! What lies behind the last layers (joined maps, boxes in pixels) is no part of the network here. Which maps it is made
//! of is found by going back from the outputs; that these mean what the description says is computed for an image.

use std::collections::HashSet;
use std::path::Path;

use burn::tensor::Device;
use models::detector::{BoxValues, Decoding, GraphDetectorConfig, PointValue, ScoreValues};
use models::inference::Prepared;
use models::model_file::Architecture;
use models::preprocess::Preprocess;
use models::timing::drawn_for;
use models::weights::Weights;

use super::array::Array;
use super::convert::Converter;
use super::description::{DescribedBoxes, DetectorDescription};
use super::interpret::Run;
use super::layout::Held;
use super::model::Model;
use super::opened::{model_of, read_model};
use super::told::{Leaf, Output, Told};
use super::{
    Budget, ImportError, OnnxError, compared, input_of, interpret, normalized_inside, planes,
    sides, unread_operators, words,
};
use crate::terminal::counted;

/// How far rounding takes a probability beyond 0 and 1.
const BEYOND: f32 = 1e-3;
/// Layers: behind the last of them values are only joined, moved and decoded.
const LAYERS: [&str; 8] = [
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "MaxPool",
    "AveragePool",
    "BatchNormalization",
    "Resize",
];

/// A detector that was taken over.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImportedDetector {
    /// The network here.
    pub config: GraphDetectorConfig,
    /// Its weights, by their paths here.
    pub weights: Weights,
    /// What it expects of an image.
    pub preprocess: Preprocess,
    /// What was found, in sentences.
    pub seen: Vec<String>,
}

/// Reads a detector from an ONNX file and compares what came of it with a plain interpreter of the graph. `size` is height
/// and width of the input, where the graph leaves them free.
///
/// # Errors
///
/// [`ImportError::Onnx`], [`ImportError::File`].
pub fn read_detector(
    path: &Path,
    described: &DetectorDescription,
    size: Option<[u32; 2]>,
) -> Result<ImportedDetector, ImportError> {
    let failed = |source: OnnxError| ImportError::Onnx { path: path.to_owned(), source };
    let model = read_model(path)?;
    let preprocess = preprocess_of(&model, described, size).map_err(failed)?;
    detector(&model, described, preprocess, &Budget::default()).map_err(failed)
}

/// Reads a detector from bytes; for whoever damages files to see what comes of it.
///
/// # Errors
///
/// [`OnnxError`]
#[doc(hidden)]
pub fn detector_of(
    bytes: &[u8],
    described: &DetectorDescription,
    side: u32,
    budget: &Budget,
) -> Result<GraphDetectorConfig, OnnxError> {
    let model = model_of(bytes)?;
    let preprocess = preprocess_of(&model, described, Some([side; 2]))
        .or_else(|_| preprocess_of(&model, described, None))?;
    if preprocess.values() > budget.values {
        return Err(OnnxError::TooLarge { what: "its input".to_owned() });
    }
    detector(&model, described, preprocess, budget).map(|imported| imported.config)
}

pub(super) fn wrong(reason: String) -> OnnxError {
    OnnxError::Detector { reason }
}

/// What the description and the graph say of pictures.
fn preprocess_of(
    model: &Model,
    described: &DetectorDescription,
    size: Option<[u32; 2]>,
) -> Result<Preprocess, OnnxError> {
    let bad = |reason: String| OnnxError::Input { reason };
    let (input, fixed) = input_of(model)?;
    let [height, width] = sides(fixed, size, [0; 2]).map_err(bad)?;
    let DetectorDescription { filter, fit, channels, mut mean, mut std, .. } = *described;
    if let Some(range) = normalized_inside(model, input) {
        (mean, std) = ([0.0; 3], [1.0 / range; 3]);
    }
    let preprocess = Preprocess { width, height, filter, fit, channels, mean, std };
    preprocess.check().map_err(|error| bad(error.to_string()))?;
    Ok(preprocess)
}

/// Makes a detector of a graph.
fn detector(
    model: &Model,
    described: &DetectorDescription,
    preprocess: Preprocess,
    budget: &Budget,
) -> Result<ImportedDetector, OnnxError> {
    let (input, _) = input_of(model)?;
    let names = outputs_of(model, described)?;
    unread_operators(model)?;
    let size = [preprocess.height, preprocess.width].map(|side| side as usize);
    // Before anything is run.
    let mut decoding = decoding_of(described)?;
    let wanted = behind_layers(model, &names);
    let run = interpret::run(model, (input, planes(&preprocess)), &wanted, budget)?;
    let mut converter = Converter::new(model, &run, budget, (input, size));
    converter.take_nodes()?;
    let (leaves, outputs) = leaves_of(&mut converter, &run, &names, (&decoding, size))?;
    let levels = ordered(&leaves, described, &mut decoding)?;
    let told = Told { model, described, leaves: &leaves, levels: &levels, run: &run };
    let scales = told.check(&outputs, &mut decoding)?;
    // One map a stride, its boxes in strides.
    let (mut maps, mut expected) = (Vec::new(), Vec::new());
    for (level, members) in levels.iter().enumerate() {
        let scale = scales[level];
        let mut parts = Vec::new();
        let factors = factors(&decoding, scale);
        let mut start = 0;
        for member in members {
            let Leaf { held, extent, .. } = &leaves[*member];
            let own = &factors[start..start + extent[0]];
            start += extent[0];
            parts.push(if own.iter().all(|factor| *factor == 1.0) {
                held.map
            } else {
                let none = vec![0.0; own.len()];
                converter.network.affine(held.map, own.to_vec(), none, converter.at)
            });
        }
        maps.push(converter.network.concatenate(&parts, converter.at));
        expected.push(joined(&leaves, members, &factors));
    }
    check_scores(&expected, &decoding)?;
    let (graph, weights) = converter.network.finish(&mut maps);
    let config = GraphDetectorConfig { graph, outputs: maps, decoding };
    config.check()?;
    config.check_input(&preprocess)?;
    let mut imported = ImportedDetector { config, weights, preprocess, seen: Vec::new() };
    let off = imported.compare_with_plan(&expected)?;
    imported.tell(model, off);
    Ok(imported)
}

/// The outputs that a description names, or all.
fn outputs_of<'a>(
    model: &'a Model,
    described: &'a DetectorDescription,
) -> Result<Vec<&'a str>, OnnxError> {
    let listed = if described.outputs.is_empty() { &model.outputs } else { &described.outputs };
    let made: HashSet<&String> = model.nodes.iter().flat_map(|node| &node.outputs).collect();
    match listed.iter().find(|name| !made.contains(name)) {
        Some(name) => {
            let outputs = model.outputs.join(", ");
            Err(wrong(format!("{name} is no value of the graph, whose outputs are {outputs}")))
        }
        None if listed.is_empty() => Err(wrong("the graph has no output".to_owned())),
        None => Ok(listed.iter().map(String::as_str).collect()),
    }
}

/// What the description says of values, with one class until they are counted.
fn decoding_of(described: &DetectorDescription) -> Result<Decoding, OnnxError> {
    let decoding = Decoding {
        strides: described.strides.clone(),
        classes: described.classes.unwrap_or(1),
        values: described.values.clone(),
        boxes: match described.boxes {
            DescribedBoxes::Distribution(bins) => BoxValues::Distribution(bins),
            DescribedBoxes::Distances | DescribedBoxes::PixelDistances => BoxValues::Distances,
            DescribedBoxes::Exponents => BoxValues::Exponents,
            DescribedBoxes::Center => BoxValues::Center,
        },
        scores: described.scores,
        offset: described.offset,
    };
    decoding.check().map_err(|error| wrong(error.to_string()))?;
    Ok(decoding)
}

/// Values that depend on the last layers alone: those of the layers, and all behind them.
fn behind_layers<'a>(model: &'a Model, outputs: &[&'a str]) -> Vec<&'a str> {
    let mut left: HashSet<&str> = outputs.iter().copied().collect();
    let mut wanted = Vec::new();
    // A node comes behind those that it needs.
    for node in model.nodes.iter().rev() {
        if !node.outputs.iter().any(|name| left.contains(name.as_str())) {
            continue;
        }
        wanted.extend(node.outputs.iter().filter(|name| !name.is_empty()).map(String::as_str));
        if !LAYERS.contains(&node.operator.as_str()) {
            let inputs = node.inputs.iter().filter(|name| !model.constants.contains_key(*name));
            left.extend(inputs.map(String::as_str));
        }
    }
    wanted
}

/// The maps that outputs are made of, each once.
fn leaves_of<'a>(
    converter: &mut Converter<'_>,
    run: &Run,
    names: &[&'a str],
    (decoding, [height, width]): (&Decoding, [usize; 2]),
) -> Result<(Vec<Leaf>, Vec<Output<'a>>), OnnxError> {
    let levels: Vec<(usize, usize)> = decoding.sides(width, height).collect();
    let (mut leaves, mut outputs): (Vec<Leaf>, Vec<Output<'a>>) = (Vec::new(), Vec::new());
    for name in names {
        let mut own = Vec::new();
        for (leaf, held) in converter.leaves(name)? {
            if let Some(known) = leaves.iter().position(|known| known.name == leaf) {
                own.push(known);
                continue;
            }
            let held = converter.settled(held);
            let extent = converter.network.extent(held.map);
            let [channels, rows, columns] = extent;
            // Of strides with equally many points the next that has no map of this output yet.
            let count =
                |level: &usize| own.iter().filter(|at| leaves[**at].level == *level).count();
            let fitting = (0..levels.len()).filter(|level| levels[*level] == (columns, rows));
            let level = fitting.min_by_key(count).ok_or_else(|| {
                let strides = &decoding.strides;
                wrong(format!(
                    "{name} is made of {leaf}, a map of {rows} × {columns} points of {channels} values; an input of {height} \
                     × {width} has {} points at the strides {strides:?}",
                    words::maps(&levels)
                ))
            })?;
            let array = run.answers.get(&leaf).map(Array::as_floats).transpose()?;
            let values = array.and_then(|values| held.unfolded(extent, values));
            let values =
                values.ok_or_else(|| wrong(format!("{leaf} does not hold all of a map")))?;
            own.push(leaves.len());
            leaves.push(Leaf { name: leaf, held, extent, level, values });
        }
        outputs.push(Output { name, leaves: own });
    }
    if let Some(leaf) = leaves.iter().find(|leaf| !leaf.values.iter().all(|v| v.is_finite())) {
        return Err(OnnxError::damaged(format!(
            "{} holds values that are no finite numbers: its weights are damaged, or overflow",
            leaf.name
        )));
    }
    Ok((leaves, outputs))
}

/// Of each stride its maps, in the order of what a point says; counts the classes.
fn ordered(
    leaves: &[Leaf],
    described: &DetectorDescription,
    decoding: &mut Decoding,
) -> Result<Vec<Vec<usize>>, OnnxError> {
    let boxes = decoding.width(PointValue::Box);
    let others = boxes + usize::from(decoding.values.contains(&PointValue::Objectness));
    let mut levels = Vec::new();
    let mut classes = described.classes;
    for (level, stride) in decoding.strides.iter().enumerate() {
        let members: Vec<usize> =
            (0..leaves.len()).filter(|at| leaves[*at].level == level).collect();
        let all: usize = members.iter().map(|at| leaves[*at].extent[0]).sum();
        let found = all.saturating_sub(others);
        if found == 0 || classes.is_some_and(|classes| classes != found) {
            let wanted = classes.map_or_else(
                || format!("{others} and one for each class"),
                |classes| format!("{others} and {classes} for classes"),
            );
            return Err(wrong(format!(
                "at stride {stride} a point has {all} values in {}, where its description has {wanted}",
                counted(members.len(), "map", "maps")
            )));
        }
        classes = Some(found);
        decoding.classes = found;
        levels.push(in_order(&members, leaves, decoding));
    }
    Ok(levels)
}

/// Maps in the order of what a point says, where each holds one thing.
fn in_order(members: &[usize], leaves: &[Leaf], decoding: &Decoding) -> Vec<usize> {
    let fits = |order: &[usize]| {
        let widths = order.iter().map(|at| leaves[*at].extent[0]);
        widths.eq(decoding.values.iter().map(|value| decoding.width(*value)))
    };
    let swapped = |order: &[usize], a: usize, b: usize| {
        let mut order = order.to_vec();
        order.swap(a, b);
        order
    };
    let mut orders = vec![members.to_vec()];
    if members.len() == decoding.values.len() {
        for a in 0..members.len() {
            orders.extend((0..a).map(|b| swapped(members, a, b)));
        }
        if members.len() == 3 {
            let turned = swapped(members, 0, 1);
            orders.extend([swapped(&turned, 1, 2), swapped(&turned, 0, 2)]);
        }
    }
    orders.into_iter().find(|order| fits(order)).unwrap_or_else(|| members.to_vec())
}

/// Fails where scores that are described as probabilities lie elsewhere, and where all that are described as logits are
/// probabilities.
fn check_scores(maps: &[Vec<f32>], decoding: &Decoding) -> Result<(), OnnxError> {
    let is_score = |value: &PointValue| vec![*value != PointValue::Box; decoding.width(*value)];
    let are_scores: Vec<bool> = decoding.values.iter().flat_map(is_score).collect();
    let scores = maps.iter().flatten().zip(are_scores.iter().cycle());
    let mut outside =
        scores.filter(|(value, is_score)| **is_score && !(-BEYOND..=1.0 + BEYOND).contains(*value));
    match (outside.next(), decoding.scores) {
        (Some(_), ScoreValues::Logits) => Ok(()),
        (None, ScoreValues::Logits) => Err(wrong(
            "every score lies from 0 to 1, and its description says that they are logits: the graph has made \
             probabilities of them already; take \"scores\": \"probabilities\""
                .to_owned(),
        )),
        (Some((value, _)), _) => Err(wrong(format!(
            "a score is {value}, and its description says that scores lie from 0 to 1; take \"scores\": \"logits\""
        ))),
        (None, _) => Ok(()),
    }
}

/// Factors of a point's values that bring boxes into strides.
fn factors(decoding: &Decoding, scale: f32) -> Vec<f32> {
    let of = |value: &PointValue| {
        let factor = if *value == PointValue::Box { scale } else { 1.0 };
        vec![factor; decoding.width(*value)]
    };
    decoding.values.iter().flat_map(of).collect()
}

/// The values of maps, point by point.
fn joined(leaves: &[Leaf], members: &[usize], factors: &[f32]) -> Vec<f32> {
    let Some(first) = members.first() else { return Vec::new() };
    let [_, rows, columns] = leaves[*first].extent;
    let mut all = Vec::new();
    for point in 0..rows * columns {
        for member in members {
            let Leaf { extent: [channels, ..], values, .. } = &leaves[*member];
            all.extend_from_slice(&values[point * channels..][..*channels]);
        }
    }
    all.iter_mut().zip(factors.iter().cycle()).for_each(|(value, factor)| *value *= factor);
    all
}

impl ImportedDetector {
    /// How far a plan is from what the interpreter has in the maps, each thing that a point says for itself.
    fn compare_with_plan(&self, expected: &[Vec<f32>]) -> Result<f32, OnnxError> {
        let damaged = |error: &dyn std::fmt::Display| OnnxError::damaged(error.to_string());
        let device = Device::flex();
        let Self { config, weights, preprocess, .. } = self;
        let architecture = Architecture::GraphDetector(config.clone());
        let network =
            architecture.detector(&device).map(|network| weights.clone().load_into(network));
        let network = network.transpose().map_err(|error| damaged(&error))?;
        let Some(network) = network else { return Ok(0.0) };
        let prepared = Prepared::new(&network, preprocess, &device);
        let got = pollster::block_on(prepared.run(&[drawn_for(preprocess)]));
        let got = got.map_err(|error| damaged(&error))?;
        let row = config.decoding.row();
        let (mut worst, mut start) = (0.0_f32, 0);
        for expected in expected {
            let got = got.get(start..start + expected.len()).unwrap_or_default();
            start += expected.len();
            for value in &config.decoding.values {
                let of = |all: &[f32]| -> Vec<f32> {
                    let rows = all.chunks_exact(row);
                    rows.flat_map(|row| config.decoding.part(row, *value)).copied().collect()
                };
                let off = compared("a plain interpreter of the graph", &of(got), &of(expected))?;
                worst = worst.max(off);
            }
        }
        Ok(worst)
    }

    /// Says what was found.
    fn tell(&mut self, model: &Model, off: f32) {
        let Self { config, preprocess, .. } = self;
        let Decoding { strides, classes, boxes, scores, .. } = &config.decoding;
        let size = (preprocess.width as usize, preprocess.height as usize);
        let points = config.decoding.points(size.0, size.1).len();
        let strides: Vec<String> = strides.iter().map(usize::to_string).collect();
        self.seen = vec![
            format!(
                "{} nodes of operator set {} become {} steps, {points} points at the strides {}",
                model.nodes.len(),
                model.operator_set,
                config.graph.nodes.len(),
                strides.join(", ")
            ),
            format!(
                "a detector of {}: its maps hold boxes as {}, scores as {}",
                counted(*classes, "class", "classes"),
                words::boxes(*boxes),
                words::scores(*scores)
            ),
            words::picture(preprocess),
            format!("equal to a plain interpreter of the graph, to {off:.1e} of the largest value"),
        ];
    }
}

impl Converter<'_> {
    /// The maps that a value is made of without a further layer, in the order in which they are joined.
    fn leaves(&self, output: &str) -> Result<Vec<(String, Held)>, OnnxError> {
        let (mut left, mut seen, mut leaves) = (vec![output], HashSet::new(), Vec::new());
        while let Some(name) = left.pop() {
            if name.is_empty() || self.constant(name).is_some() || !seen.insert(name) {
                continue;
            }
            let held = self.held_by_name(name);
            if let Some(held) = held.clone().filter(|held| !self.network.lost[held.map]) {
                leaves.push((name.to_owned(), held));
                continue;
            }
            let node = self.producer(name).filter(|node| !LAYERS.contains(&node.operator.as_str()));
            let Some(node) = node else { return Err(self.stopped(held.map(|held| held.map))) };
            left.extend(node.inputs.iter().rev().map(String::as_str));
        }
        Ok(leaves)
    }
}
