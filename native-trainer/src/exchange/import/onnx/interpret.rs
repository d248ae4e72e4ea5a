//! A plain interpreter of graphs: one loop an operator, no step shared with Magpie's own runs.
//!
//! It computes what of a graph is constant, tells the shape of everything else, and its answer to an image is what
//! Magpie's is compared with.
//!
//! Source: the operators of ONNX, sets 11 to 21, <https://onnx.ai/onnx/operators/>.

use std::collections::{HashMap, HashSet};

use super::OnnxError;
use super::array::{Array, Budget};
use super::model::{Model, Node};
use super::{layers, norms, scattered, shapes, single};

/// What is known of a graph once it was run.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Shapes of all values.
    pub(super) shapes: HashMap<String, Vec<usize>>,
    /// Values that do not depend on the input.
    pub(super) constants: HashMap<String, Array>,
    /// The values that were asked for.
    pub(super) answers: HashMap<String, Array>,
}

/// What an operator is given.
pub(super) struct Call<'a> {
    pub(super) node: &'a Node,
    pub(super) operator_set: i64,
    pub(super) inputs: Vec<Option<&'a Array>>,
    pub(super) budget: &'a Budget,
    /// Products that are left.
    pub(super) work: std::cell::Cell<u64>,
}

impl<'a> Call<'a> {
    /// An input that has to be there.
    pub(super) fn input(&self, index: usize) -> Result<&'a Array, OnnxError> {
        self.optional(index).ok_or_else(|| self.wrong(&format!("input {index} is missing")))
    }

    pub(super) fn optional(&self, index: usize) -> Option<&'a Array> {
        self.inputs.get(index).copied().flatten()
    }

    /// An input of whole numbers.
    pub(super) fn numbers(&self, index: usize) -> Result<&'a [i64], OnnxError> {
        self.input(index)?.as_numbers()
    }

    /// Whole numbers that are an attribute in older sets of operators, an input in newer ones.
    pub(super) fn listed(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>, OnnxError> {
        match (self.node.numbers(name), self.optional(index)) {
            (Some(values), _) => Ok(Some(values.to_vec())),
            (None, Some(array)) => Ok(Some(array.as_numbers()?.to_vec())),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn wrong(&self, reason: &str) -> OnnxError {
        OnnxError::damaged(format!("{} {}: {reason}", self.node.operator, self.node.place()))
    }

    /// Takes products off what is left.
    pub(super) fn take(&self, products: impl IntoIterator<Item = usize>) -> Result<(), OnnxError> {
        let all = products.into_iter().fold(1_u64, |all, side| all.saturating_mul(side as u64));
        let left = self.work.get().checked_sub(all);
        let too_large = || OnnxError::TooLarge { what: "what the graph computes".to_owned() };
        self.work.set(left.ok_or_else(too_large)?);
        Ok(())
    }
}

/// What an operator makes.
pub(super) type Made = Result<Vec<Array>, OnnxError>;

/// The function of an operator; none for one that is not read.
fn operator(name: &str) -> Option<fn(&Call<'_>) -> Made> {
    single::operator(name)
        .or_else(|| shapes::operator(name))
        .or_else(|| scattered::operator(name))
        .or_else(|| layers::operator(name))
        .or_else(|| norms::operator(name))
}

/// Operators of a graph that are not read: name, how often, where first.
pub(super) fn unread(model: &Model) -> Vec<(String, usize, String)> {
    let mut found: Vec<(String, usize, String)> = Vec::new();
    for node in &model.nodes {
        if operator(&node.operator).is_some() {
            continue;
        }
        match found.iter_mut().find(|(name, ..)| *name == node.operator) {
            Some((_, count, _)) => *count += 1,
            None => found.push((node.operator.clone(), 1, node.place().to_owned())),
        }
    }
    found
}

/// Runs a graph with an input; `wanted` are the values that become its answers.
pub(super) fn run(
    model: &Model,
    (name, input): (&str, Array),
    wanted: &[&str],
    budget: &Budget,
) -> Result<Run, OnnxError> {
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for input in model.nodes.iter().flat_map(|node| &node.inputs) {
        *uses.entry(input).or_default() += 1;
    }
    for name in wanted {
        *uses.entry(name).or_default() += 1;
    }
    let mut run = Run::default();
    let mut constants: HashSet<&str> = model.constants.keys().map(String::as_str).collect();
    run.shapes.insert(name.to_owned(), input.shape.clone());
    let (mut work, mut folded, mut held) = (budget.work, 0_usize, input.length());
    let mut values: HashMap<&str, Array> = HashMap::from([(name, input)]);
    for node in &model.nodes {
        let function = operator(&node.operator)
            .ok_or_else(|| OnnxError::damaged(format!("{} is not read", node.operator)))?;
        let find = |name: &String| -> Result<Option<&Array>, OnnxError> {
            if name.is_empty() {
                return Ok(None);
            }
            let found = values.get(name.as_str()).or_else(|| model.constants.get(name));
            found.or_else(|| run.constants.get(name)).map(Some).ok_or_else(|| {
                let what = format!("{}: {name} is there after its use, or never", node.place());
                OnnxError::damaged(what)
            })
        };
        let inputs = node.inputs.iter().map(find).collect::<Result<Vec<_>, OnnxError>>()?;
        let operator_set = model.operator_set;
        let call = Call { node, operator_set, inputs, budget, work: work.into() };
        let made = function(&call)?;
        call.take([made.iter().map(Array::length).sum()])?;
        work = call.work.get();
        // The shape of a value does not depend on what it holds.
        let is_constant = matches!(node.operator.as_str(), "Shape" | "Size")
            || node.inputs.iter().all(|name| name.is_empty() || constants.contains(name.as_str()));
        for (output, array) in node.outputs.iter().zip(made) {
            if output.is_empty() {
                continue;
            }
            if array.shape.iter().product::<usize>() != array.length() {
                return Err(OnnxError::damaged(format!("{}: an axis of no places", node.place())));
            }
            run.shapes.insert(output.clone(), array.shape.clone());
            if is_constant {
                folded += array.length();
                if folded > 4 * budget.values {
                    return Err(OnnxError::TooLarge { what: "what of it is constant".to_owned() });
                }
                constants.insert(output);
                run.constants.insert(output.clone(), array);
            } else if uses.get(output.as_str()).is_some_and(|count| *count > 0) {
                held += array.length();
                if held > 4 * budget.values {
                    return Err(OnnxError::TooLarge { what: "what is held at once".to_owned() });
                }
                let before = values.insert(output, array);
                held -= before.map_or(0, |array| array.length());
            }
        }
        for input in &node.inputs {
            if let Some(count) = uses.get_mut(input.as_str()) {
                *count -= 1;
                if *count == 0 {
                    let gone = values.remove(input.as_str());
                    held -= gone.map_or(0, |array| array.length());
                }
            }
        }
    }
    for name in wanted {
        let answer = values.remove(name).or_else(|| run.constants.get(*name).cloned());
        run.answers.extend(answer.map(|answer| ((*name).to_owned(), answer)));
    }
    let all = model.constants.iter().map(|(name, array)| (name.clone(), array.shape.clone()));
    run.shapes.extend(all);
    Ok(run)
}
