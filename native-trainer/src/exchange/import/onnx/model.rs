//! A file of ONNX as values: nodes, constants, inputs and outputs.
//!
//! Source: <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>; numbers of fields and types are the schema's.

use std::collections::{BTreeMap, HashMap, HashSet};

use half::{bf16, f16};

use super::OnnxError;
use super::array::{Array, Budget, count};
use super::wire::{Field, damaged, fields};

/// Sets of operators that are read.
pub(super) const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 11..=21;
/// Most nodes of a graph.
const MAX_NODES: usize = 50_000;
/// Types of tensors: `FLOAT`, `UINT8`, …
const FLOAT: u64 = 1;
const FLOAT16: u64 = 10;
const DOUBLE: u64 = 11;
const BFLOAT16: u64 = 16;

/// An attribute of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Number(i64),
    Float(f32),
    Text(String),
    Numbers(Vec<i64>),
    Floats(Vec<f32>),
    Tensor(Array),
    /// A graph inside, or a list of something else.
    Other,
}

/// An operator with its inputs and outputs by name; an empty name is an input that is left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) operator: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: BTreeMap<String, Attribute>,
}

/// A graph.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) operator_set: i64,
    pub(super) nodes: Vec<Node>,
    pub(super) constants: HashMap<String, Array>,
    /// Names and sides; none for one that is free.
    pub(super) inputs: Vec<(String, Vec<Option<usize>>)>,
    pub(super) outputs: Vec<String>,
}

/// Reads a part of a file beside the model: name, first byte, number of bytes.
pub(super) type Beside<'a> = &'a dyn Fn(&str, u64, Option<u64>) -> Result<Vec<u8>, OnnxError>;

impl Node {
    /// What it is called in sentences.
    pub(super) fn place(&self) -> &str {
        if self.name.is_empty() {
            self.outputs.first().map_or("", String::as_str)
        } else {
            &self.name
        }
    }

    pub(super) fn number(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attribute::Number(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::Text(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn numbers(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Numbers(values)) => Some(values),
            _ => None,
        }
    }

    /// The input of a number, if it is there.
    pub(super) fn input(&self, index: usize) -> Option<&str> {
        self.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl Model {
    /// Fails where a name stands for two values: which of them a node gets is told nowhere.
    fn check_names(&self) -> Result<(), OnnxError> {
        let inputs = self.inputs.iter().map(|(name, _)| name);
        let outputs = self.nodes.iter().flat_map(|node| &node.outputs);
        let mut seen: HashSet<&String> = self.constants.keys().collect();
        let again = inputs.chain(outputs).find(|name| !name.is_empty() && !seen.insert(name));
        again.map_or(Ok(()), |name| Err(twice(name)))
    }

    /// Reads a file; `beside` reads parts of other files that it names.
    pub(super) fn read(bytes: &[u8], beside: Beside<'_>) -> Result<Self, OnnxError> {
        let (mut model, mut graph) = (Self::default(), None);
        for field in fields(bytes) {
            match field? {
                (7, field) => graph = Some(field.bytes()?),
                (8, field) => {
                    let (mut domain, mut version) = (String::new(), 0);
                    for field in fields(field.bytes()?) {
                        match field? {
                            (1, field) => domain = field.text()?,
                            (2, field) => version = field.number()?.cast_signed(),
                            _ => {}
                        }
                    }
                    if is_standard(&domain) {
                        model.operator_set = version;
                    }
                }
                _ => {}
            }
        }
        let graph = graph.ok_or_else(|| damaged("there is no graph inside"))?;
        if !OPERATOR_SETS.contains(&model.operator_set) {
            return Err(OnnxError::OperatorSet { got: model.operator_set });
        }
        for field in fields(graph) {
            match field? {
                (1, field) => model.nodes.push(node(field.bytes()?, beside)?),
                (5, field) => {
                    let (name, array) = tensor(field.bytes()?, beside)?;
                    if model.constants.contains_key(&name) {
                        return Err(twice(&name));
                    }
                    model.constants.insert(name, array);
                }
                (11, field) => model.inputs.push(value(field.bytes()?)?),
                (12, field) => model.outputs.push(value(field.bytes()?)?.0),
                (15, _) => return Err(damaged("sparse constants are not read")),
                _ => {}
            }
            if model.nodes.len() > MAX_NODES {
                return Err(OnnxError::TooLarge { what: format!("more than {MAX_NODES} nodes") });
            }
        }
        // Constants may be listed as inputs, too.
        let constants = &model.constants;
        model.inputs.retain(|(name, _)| !constants.contains_key(name));
        model.check_names()?;
        Ok(model)
    }
}

fn twice(name: &str) -> OnnxError {
    OnnxError::damaged(format!("two values are called {name}"))
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn node(bytes: &[u8], beside: Beside<'_>) -> Result<Node, OnnxError> {
    let (mut node, mut domain) = (Node::default(), String::new());
    for field in fields(bytes) {
        match field? {
            (1, field) => node.inputs.push(field.text()?),
            (2, field) => node.outputs.push(field.text()?),
            (3, field) => node.name = field.text()?,
            (4, field) => node.operator = field.text()?,
            (5, field) => {
                let (name, attribute) = attribute(field.bytes()?, beside)?;
                node.attributes.insert(name, attribute);
            }
            (7, field) => domain = field.text()?,
            _ => {}
        }
    }
    if !is_standard(&domain) {
        node.operator = format!("{domain}.{}", node.operator);
    }
    Ok(node)
}

fn attribute(bytes: &[u8], beside: Beside<'_>) -> Result<(String, Attribute), OnnxError> {
    let (mut name, mut kind) = (String::new(), 0);
    let (mut float, mut number, mut text, mut array) = (0.0, 0, String::new(), None);
    let (mut floats, mut numbers) = (Vec::new(), Vec::new());
    for field in fields(bytes) {
        match field? {
            (1, field) => name = field.text()?,
            (2, Field::Four(bytes)) => float = f32::from_le_bytes(bytes),
            (3, field) => number = field.number()?.cast_signed(),
            // Bytes of any kind, of which names alone are asked for.
            (4, field) => text = String::from_utf8_lossy(field.bytes()?).into_owned(),
            (5, field) => array = Some(tensor(field.bytes()?, beside)?.1),
            (7, field) => field.floats(&mut floats)?,
            (8, field) => field.numbers(&mut numbers)?,
            (20, field) => kind = field.number()?,
            _ => {}
        }
    }
    let attribute = match (kind, array) {
        (1, _) => Attribute::Float(float),
        (2, _) => Attribute::Number(number),
        (3, _) => Attribute::Text(text),
        (4, Some(array)) => Attribute::Tensor(array),
        (6, _) => Attribute::Floats(floats),
        (7, _) => Attribute::Numbers(numbers),
        _ => Attribute::Other,
    };
    Ok((name, attribute))
}

/// The name of an input or output, and its sides.
fn value(bytes: &[u8]) -> Result<(String, Vec<Option<usize>>), OnnxError> {
    let (mut name, mut sides) = (String::new(), Vec::new());
    for field in fields(bytes) {
        match field? {
            (1, field) => name = field.text()?,
            (2, field) => {
                // Type, tensor type, shape, side.
                for field in inner(field.bytes()?, 1) {
                    for field in inner(field?, 2) {
                        for side in inner(field?, 1) {
                            let mut length = None;
                            for field in fields(side?) {
                                if let (1, field) = field? {
                                    let side = field.number()?.cast_signed();
                                    length = usize::try_from(side).ok().filter(|side| *side > 0);
                                }
                            }
                            sides.push(length);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name, sides))
}

/// The messages of a number within a message.
fn inner(bytes: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], OnnxError>> {
    fields(bytes).filter_map(move |field| match field {
        Ok((found, field)) => (found == number).then(|| field.bytes()),
        Err(error) => Some(Err(error)),
    })
}

/// A constant with its name.
fn tensor(bytes: &[u8], beside: Beside<'_>) -> Result<(String, Array), OnnxError> {
    let (mut name, mut kind, mut dims) = (String::new(), 0, Vec::new());
    let (mut floats, mut numbers, mut raw) = (Vec::new(), Vec::new(), None);
    let (mut is_external, mut external) = (false, HashMap::new());
    for field in fields(bytes) {
        match field? {
            (1, field) => field.numbers(&mut dims)?,
            (2, field) => kind = field.number()?,
            (4, field) => field.floats(&mut floats)?,
            (5 | 7 | 11, field) => field.numbers(&mut numbers)?,
            (8, field) => name = field.text()?,
            (9, field) => raw = Some(field.bytes()?),
            (10, field) => field.doubles(&mut floats)?,
            (13, field) => {
                let (mut key, mut value) = (String::new(), String::new());
                for field in fields(field.bytes()?) {
                    match field? {
                        (1, field) => key = field.text()?,
                        (2, field) => value = field.text()?,
                        _ => {}
                    }
                }
                external.insert(key, value);
            }
            (14, field) => is_external = field.number()? == 1,
            _ => {}
        }
    }
    let bad = |reason: &str| OnnxError::damaged(format!("{name}: {reason}"));
    let shape =
        dims.iter().map(|side| usize::try_from(*side).ok().ok_or_else(|| bad("a side below 0")));
    let shape = shape.collect::<Result<Vec<usize>, OnnxError>>()?;
    // What is there bounds what a constant may hold.
    let count = count(&shape, &Budget { values: usize::MAX >> 4, work: 0 })?;
    let read = if is_external {
        let entry = |key: &str| external.get(key).map(|text| text.parse::<u64>());
        let number =
            |key: &str| entry(key).transpose().ok().ok_or_else(|| bad("no number of bytes"));
        let location = external.get("location").ok_or_else(|| bad("no file is named"))?;
        Some(beside(location, number("offset")?.unwrap_or(0), number("length")?)?)
    } else {
        None
    };
    if let Some(raw) = read.as_deref().or(raw) {
        (floats, numbers) = unpacked(kind, raw).map_err(|reason| bad(&reason))?;
    } else if kind == FLOAT16 || kind == BFLOAT16 {
        let half = |bits: i64| match kind {
            FLOAT16 => f16::from_bits(bits as u16).to_f32(),
            _ => bf16::from_bits(bits as u16).to_f32(),
        };
        floats = numbers.drain(..).map(half).collect();
    }
    let is_float = matches!(kind, FLOAT | FLOAT16 | DOUBLE | BFLOAT16);
    let there = if is_float { floats.len() } else { numbers.len() };
    if there != count {
        return Err(bad(&format!("{there} values for a shape of {count}")));
    }
    let array =
        if is_float { Array::floats(shape, floats) } else { Array::numbers(shape, numbers) };
    Ok((name, array))
}

/// Values from bytes of a type.
fn unpacked(kind: u64, raw: &[u8]) -> Result<(Vec<f32>, Vec<i64>), String> {
    fn each<const N: usize, T>(raw: &[u8], of: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
        let (values, left) = raw.as_chunks::<N>();
        if left.is_empty() {
            Ok(values.iter().map(|bytes| of(*bytes)).collect())
        } else {
            Err("its bytes end within a value".to_owned())
        }
    }
    let floats = |values: Result<Vec<f32>, String>| values.map(|values| (values, Vec::new()));
    let numbers = |values: Result<Vec<i64>, String>| values.map(|values| (Vec::new(), values));
    match kind {
        FLOAT => floats(each(raw, f32::from_le_bytes)),
        FLOAT16 => floats(each(raw, |bytes| f16::from_le_bytes(bytes).to_f32())),
        BFLOAT16 => floats(each(raw, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        DOUBLE => floats(each(raw, |bytes| f64::from_le_bytes(bytes) as f32)),
        2 | 9 => numbers(each(raw, |[byte]: [u8; 1]| i64::from(byte))),
        3 => numbers(each(raw, |bytes| i64::from(i8::from_le_bytes(bytes)))),
        4 => numbers(each(raw, |bytes| i64::from(u16::from_le_bytes(bytes)))),
        5 => numbers(each(raw, |bytes| i64::from(i16::from_le_bytes(bytes)))),
        6 => numbers(each(raw, |bytes| i64::from(i32::from_le_bytes(bytes)))),
        7 => numbers(each(raw, i64::from_le_bytes)),
        12 => numbers(each(raw, |bytes| i64::from(u32::from_le_bytes(bytes)))),
        other => Err(format!("values of type {other} are not read")),
    }
}
