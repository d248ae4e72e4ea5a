//! Functions of single values: activations, and what is made of them.

use models::backbone::GraphStep;
use models::layers::{Activation, Gate};

use super::convert::{Converted, Converter, reason};
use super::layout::Held;
use super::model::Node;
use super::single::bounds;

impl<'a> Converter<'a> {
    /// A step of every value.
    pub(super) fn single(&mut self, node: &Node, step: GraphStep) -> Converted {
        let held = self.held(node, 0)?;
        let map = self.network.plain(step, &[held.map], self.at);
        Ok(vec![Held { map, ..held }])
    }

    pub(super) fn activation(&mut self, node: &Node, activation: Activation) -> Converted {
        self.single(node, GraphStep::Activate(activation))
    }

    pub(super) fn linear_function(&mut self, node: &Node, scale: f32, shift: f32) -> Converted {
        let held = self.held(node, 0)?;
        let map = self.network.scaled(held.map, scale, shift, self.at);
        Ok(vec![Held { map, ..held }])
    }

    /// An activation between a factor and a summand before it and others behind it.
    pub(super) fn between(
        &mut self,
        held: Held,
        before: [f32; 2],
        activation: Activation,
        behind: [f32; 2],
    ) -> Vec<Held> {
        let mut map = held.map;
        if before != [1.0, 0.0] {
            map = self.network.scaled(map, before[0], before[1], self.at);
        }
        map = self.network.plain(GraphStep::Activate(activation), &[map], self.at);
        if behind != [1.0, 0.0] {
            map = self.network.scaled(map, behind[0], behind[1], self.at);
        }
        vec![Held { map, ..held }]
    }

    pub(super) fn hard_sigmoid(&mut self, node: &Node, slope: f32, middle: f32) -> Converted {
        if (slope - 1.0 / 6.0).abs() < 1e-6 && middle == 0.5 {
            return self.single(node, GraphStep::Gate(Gate::HardSigmoid));
        }
        let held = self.held(node, 0)?;
        let before = [6.0 * slope, 6.0 * middle];
        Ok(self.between(held, before, Activation::Relu6, [1.0 / 6.0, 0.0]))
    }

    pub(super) fn clip(&mut self, node: &'a Node) -> Converted {
        let held = self.held(node, 0)?;
        let call = self.call(node);
        let is_known = |index: usize| node.input(index).is_none() || call.optional(index).is_some();
        if !is_known(1) || !is_known(2) {
            return Err("bounds that depend on the image".to_owned());
        }
        let [least, most] = bounds(call.optional(1), call.optional(2)).map_err(reason)?;
        let is_free = |bound: f32| bound.abs() > 1e30;
        let (before, behind) = ([1.0, -least], [1.0, least]);
        match (is_free(least), is_free(most)) {
            (true, true) => Ok(vec![held]),
            (false, true) => Ok(self.between(held, before, Activation::Relu, behind)),
            (true, false) => Ok(self.between(held, [-1.0, most], Activation::Relu, [-1.0, most])),
            (false, false) if most > least => {
                let factor = 6.0 / (most - least);
                let (before, behind) = ([factor, -least * factor], [1.0 / factor, least]);
                Ok(self.between(held, before, Activation::Relu6, behind))
            }
            _ => Err("bounds that leave nothing".to_owned()),
        }
    }

    /// `x` above 0, `slope · x` below.
    pub(super) fn leaky(&mut self, held: Held, slopes: &[f32]) -> Vec<Held> {
        let above = slopes.iter().map(|slope| 1.0 - slope).collect();
        let none = vec![0.0; slopes.len()];
        let relu = GraphStep::Activate(Activation::Relu);
        let relu = self.network.plain(relu, &[held.map], self.at);
        let above = self.network.affine(relu, above, none.clone(), self.at);
        let all = self.network.affine(held.map, slopes.to_vec(), none, self.at);
        let map = self.network.plain(GraphStep::Add, &[above, all], self.at);
        vec![Held { map, ..held }]
    }
}
