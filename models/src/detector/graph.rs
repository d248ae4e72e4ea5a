//! A detector that another program wrote down: a list of steps, of which some make the maps that boxes are found in.

use serde::{Deserialize, Serialize};

use super::decoding::{Decoding, MAX_POINTS};
use crate::backbone::{Graph, GraphConfig};
use crate::layers::Flow;
use crate::limits::{LimitError, within};
use crate::preprocess::Preprocess;
use crate::values::{Device, Module};

/// Configuration of a detector that is a list of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphDetectorConfig {
    /// The steps.
    pub graph: GraphConfig,
    /// The map of each stride, by the number of the step that makes it, counted from 1.
    pub outputs: Vec<usize>,
    /// What its values mean.
    pub decoding: Decoding,
}

impl GraphDetectorConfig {
    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        self.graph.check().map_err(|error| error.under("graph"))?;
        self.decoding.check().map_err(|error| error.under("decoding"))?;
        let (maps, steps) = (self.decoding.strides.len(), self.graph.nodes.len());
        within("outputs", self.outputs.len(), &(maps..=maps))?;
        self.outputs.iter().try_for_each(|output| within("outputs", *output, &(1..=steps)))
    }

    /// Whether it makes of such inputs the points that its description tells.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check_input(&self, preprocess: &Preprocess) -> Result<(), LimitError> {
        let [width, height] = [preprocess.width, preprocess.height].map(|side| side as usize);
        let extents = self.graph.extents([height, width])?;
        let mut points = 0;
        for (output, (columns, rows)) in self.outputs.iter().zip(self.decoding.sides(width, height))
        {
            let wanted = [self.decoding.row(), rows, columns];
            let got = extents.get(*output).copied().unwrap_or_default();
            if got != wanted {
                let shown = |[values, rows, columns]: [usize; 3]| {
                    format!("{rows} × {columns} points of {values} values")
                };
                let allowed = format!(
                    "strides, classes and boxes of its description make {} of an input of {height} × {width}; give the \
                     input size that the graph was made for",
                    shown(wanted)
                );
                return Err(LimitError::new("outputs", shown(got), allowed));
            }
            points += rows * columns;
        }
        within("points", points, &(1..=MAX_POINTS))
    }

    /// A freshly initialized network; the configuration has been checked.
    pub(super) fn network(&self, device: &Device) -> GraphDetector {
        GraphDetector {
            backbone: self.graph.init(device),
            outputs: self.outputs.clone(),
            decoding: self.decoding.clone(),
        }
    }
}

/// A list of steps with several answers.
#[derive(Module, Debug)]
pub struct GraphDetector {
    backbone: Graph,
    #[module(skip)]
    outputs: Vec<usize>,
    #[module(skip)]
    pub(super) decoding: Decoding,
}

impl GraphDetector {
    /// A map a stride.
    pub(super) fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        self.backbone.run(flow, x, &self.outputs).collect()
    }
}
