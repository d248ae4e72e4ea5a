//! Sums, products and quotients: of a map and a constant, of two maps, and the functions that graphs write as several
//! of them.

use models::backbone::GraphStep;
use models::layers::{Activation, Gate};

use super::array::{Array, Values};
use super::convert::{Converted, Converter};
use super::layout::{Axis, Held, plain};
use super::model::Node;
use super::network::Does;

/// The deviation of a number that stands in a graph in 32 bits.
const NEAR: f32 = 1e-4;

fn near(value: f32, expected: f32) -> bool {
    (value - expected).abs() <= NEAR * expected.abs()
}

impl<'a> Converter<'a> {
    /// `Add`, `Sub`, `Mul`, `Div` or `Pow`.
    pub(super) fn pair(&mut self, node: &'a Node) -> Converted {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return Err("an input is missing".to_owned());
        };
        if let Some((x, step)) = self.pattern(node, a, b) {
            let held = self.held_by_name(x).ok_or("a constant where a map belongs")?;
            return self.of_pattern(held, step);
        }
        match (self.constant(a), self.constant(b)) {
            (None, Some(constant)) => self.with_constant(node, 0, constant, false),
            (Some(constant), None) => self.with_constant(node, 1, constant, true),
            _ => self.of_maps(node),
        }
    }

    fn of_pattern(&mut self, held: Held, step: Does) -> Converted {
        let held = self.settled(held);
        let [channels, ..] = self.network.extent(held.map);
        let is_along = held.channel_axis(channels).is_some();
        let step = match step {
            Does::LayerNorm(epsilon, ..) if is_along => {
                Does::LayerNorm(epsilon, vec![1.0; channels], vec![0.0; channels])
            }
            Does::LayerNorm(..) => {
                return Err("a normalization over other than channels".to_owned());
            }
            step => step,
        };
        let extent = self.network.extent(held.map);
        let map = self.network.add(step, &[held.map], extent, self.at);
        Ok(vec![Held { map, ..held }])
    }

    /// The step that nodes that end here are together, and its input.
    fn pattern(&self, node: &'a Node, a: &'a str, b: &'a str) -> Option<(&'a str, Does)> {
        let activate = |x, activation| Some((x, Does::Plain(GraphStep::Activate(activation))));
        match node.operator.as_str() {
            "Mul" => {
                for (x, gate) in [(a, b), (b, a)] {
                    if self.made_by(gate, "Sigmoid").and_then(|node| node.input(0)) == Some(x) {
                        return activate(x, Activation::Silu);
                    }
                    if self.hard_gate(gate) == Some(x) {
                        return activate(x, Activation::HardSwish);
                    }
                }
                if let Some(x) = self.sixfold_hard_swish(a, b, 1.0 / 6.0) {
                    return activate(x, Activation::HardSwish);
                }
                if let Some((x, activation)) = self.gelu(a, b) {
                    return activate(x, activation);
                }
                let gate = self.hard_gate(&node.outputs[0])?;
                Some((gate, Does::Plain(GraphStep::Gate(Gate::HardSigmoid))))
            }
            "Div" => {
                if let Some(x) = self.sixfold_hard_swish(a, b, 6.0) {
                    return activate(x, Activation::HardSwish);
                }
                if let Some(x) = self.hard_gate(&node.outputs[0]) {
                    return Some((x, Does::Plain(GraphStep::Gate(Gate::HardSigmoid))));
                }
                if let Some((x, epsilon)) = self.layer_norm_of(a, b) {
                    return Some((x, Does::LayerNorm(epsilon, Vec::new(), Vec::new())));
                }
                self.is_length(b, a).then_some((a, Does::Plain(GraphStep::UnitLength)))
            }
            _ => None,
        }
    }

    /// `x` of `clip(x + 3, 0, 6)`.
    fn sixfold_gate(&self, name: &str) -> Option<&'a str> {
        let clip = self.made_by(name, "Clip")?;
        let bound = |index: usize| clip.input(index).and_then(|name| self.scalar(name));
        if (bound(1), bound(2)) != (Some(0.0), Some(6.0)) {
            return None;
        }
        self.summed(clip.input(0)?, 3.0)
    }

    /// `x` of `clip(x + 3, 0, 6) / 6` or of a hard sigmoid of that slope.
    fn hard_gate(&self, name: &str) -> Option<&'a str> {
        if let Some(node) = self.made_by(name, "HardSigmoid") {
            let slope = near(node.float("alpha", 0.2), 1.0 / 6.0);
            return node.input(0).filter(|_| slope && node.float("beta", 0.5) == 0.5);
        }
        let by = |operator: &str, factor: f32| {
            let node = self.made_by(name, operator)?;
            let is_it = self.scalar(node.input(1)?).is_some_and(|value| near(value, factor));
            self.sixfold_gate(node.input(0)?).filter(|_| is_it)
        };
        by("Div", 6.0).or_else(|| by("Mul", 1.0 / 6.0))
    }

    /// `x` of `x · clip(x + 3, 0, 6)` with this factor or divisor behind it.
    fn sixfold_hard_swish(&self, a: &'a str, b: &'a str, factor: f32) -> Option<&'a str> {
        if !self.scalar(b).is_some_and(|value| near(value, factor)) {
            return None;
        }
        let product = self.made_by(a, "Mul")?;
        let (x, y) = (product.input(0)?, product.input(1)?);
        let is_gate = |x, gate| self.sixfold_gate(gate) == Some(x);
        (is_gate(x, y)).then_some(x).or_else(|| is_gate(y, x).then_some(y))
    }

    /// Factors of a product of products: constants as one, all others by name. `whole` is not taken apart.
    fn factors(
        &self,
        name: &'a str,
        depth: usize,
        whole: Option<&str>,
        found: &mut (f32, Vec<&'a str>),
    ) {
        if let Some(value) = self.scalar(name) {
            found.0 *= value;
            return;
        }
        let depth = if Some(name) == whole { 0 } else { depth };
        let product = self.made_by(name, "Mul").filter(|_| depth > 0);
        if let Some((a, b)) = product.and_then(|node| node.input(0).zip(node.input(1))) {
            self.factors(a, depth - 1, whole, found);
            self.factors(b, depth - 1, whole, found);
            return;
        }
        let quotient = self.made_by(name, "Div").filter(|_| depth > 0);
        if let Some((a, b)) = quotient.and_then(|node| node.input(0).zip(node.input(1)))
            && let Some(value) = self.scalar(b)
        {
            found.0 /= value;
            self.factors(a, depth - 1, whole, found);
            return;
        }
        found.1.push(name);
    }

    /// The summand of a sum whose other one is this constant.
    fn summed(&self, name: &str, constant: f32) -> Option<&'a str> {
        let sum = self.made_by(name, "Add")?;
        let (a, b) = (sum.input(0)?, sum.input(1)?);
        let is_it = |name: &str| self.scalar(name).is_some_and(|value| near(value, constant));
        if is_it(b) { Some(a) } else { Some(b).filter(|_| is_it(a)) }
    }

    /// `x` of a product of itself and a factor.
    fn times(&self, name: &'a str, factor: f32) -> Option<&'a str> {
        let mut found = (1.0, Vec::new());
        self.factors(name, 1, None, &mut found);
        let [x] = found.1[..] else { return None };
        near(found.0, factor).then_some(x)
    }

    /// `x` of `√(2 / π) · (x + 0.044715 · x³)`.
    fn tanh_argument(&self, name: &'a str) -> Option<&'a str> {
        let sum = self.times(name, (2.0 / std::f32::consts::PI).sqrt())?;
        let sum = self.made_by(sum, "Add")?;
        let is_cube = |name: &'a str, x: &str| {
            let mut found = (1.0, Vec::new());
            self.factors(name, 3, Some(x), &mut found);
            let is_power = |name: &str| {
                self.made_by(name, "Pow").is_some_and(|power| {
                    let exponent = power.input(1).and_then(|exponent| self.scalar(exponent));
                    power.input(0) == Some(x) && exponent == Some(3.0)
                })
            };
            let is_it = match found.1[..] {
                [power] => is_power(power),
                [a, b, c] => [a, b, c] == [x; 3],
                _ => false,
            };
            is_it && near(found.0, 0.044_715)
        };
        let (a, b) = (sum.input(0)?, sum.input(1)?);
        if is_cube(b, a) { Some(a) } else { Some(b).filter(|b| is_cube(a, b)) }
    }

    /// `x` and the activation of `x · share` times the number.
    fn share(&self, share: &'a str) -> Option<(&'a str, Activation, f32)> {
        if let Some(gate) = self.made_by(share, "Sigmoid") {
            let x = self.times(gate.input(0)?, Activation::QUICK)?;
            return Some((x, Activation::QuickGelu, 1.0));
        }
        let function = self.summed(share, 1.0)?;
        if let Some(error) = self.made_by(function, "Erf") {
            let x = self.times(error.input(0)?, std::f32::consts::FRAC_1_SQRT_2)?;
            return Some((x, Activation::Gelu, 0.5));
        }
        let x = self.tanh_argument(self.made_by(function, "Tanh")?.input(0)?)?;
        Some((x, Activation::GeluTanh, 0.5))
    }

    /// `x` of `x · (1 + erf(x / √2)) / 2`, in whatever order its factors stand, or of what stands for it.
    fn gelu(&self, a: &'a str, b: &'a str) -> Option<(&'a str, Activation)> {
        let factors = |whole: Option<&str>| {
            let mut found = (1.0, Vec::new());
            self.factors(a, 3, whole, &mut found);
            self.factors(b, 3, whole, &mut found);
            found
        };
        let (_, shares) = factors(None);
        shares.into_iter().find_map(|share| {
            let (x, activation, factor) = self.share(share)?;
            let (found, names) = factors(Some(x));
            let is_it = names == [x, share] || names == [share, x];
            (is_it && near(found, factor)).then_some((x, activation))
        })
    }

    /// Whether a node reduces along the axis that holds all channels of `x`.
    fn is_over_channels(&self, node: &'a Node, x: &str) -> bool {
        let Some(held) = self.held_by_name(x) else { return false };
        let [channels, ..] = self.network.extent(held.map);
        let axes = super::layers::reduced(&self.call(node), held.axes.len());
        match (axes, held.channel_axis(channels)) {
            (Ok(axes), Some(axis)) => axes == [axis],
            _ => false,
        }
    }

    /// Input of a normalization over channels that is written as a quotient, and what is added to the variance.
    fn layer_norm_of(&self, above: &'a str, below: &'a str) -> Option<(&'a str, f64)> {
        let difference = self.made_by(above, "Sub")?;
        let (x, mean) = (difference.input(0)?, difference.input(1)?);
        let is_mean = |name: &str, of: &str| {
            let node = self.made_by(name, "ReduceMean");
            node.filter(|node| node.input(0) == Some(of) && self.is_over_channels(node, x))
        };
        is_mean(mean, x)?;
        let root = self.made_by(below, "Sqrt")?;
        let sum = self.made_by(root.input(0)?, "Add")?;
        let (variance, epsilon) = match (sum.input(0)?, sum.input(1)?) {
            (variance, epsilon) if self.scalar(epsilon).is_some() => (variance, epsilon),
            (epsilon, variance) => (variance, epsilon),
        };
        let variance = self.made_by(variance, "ReduceMean")?;
        let squared = self.squared(variance.input(0)?)?;
        // The difference may stand in the graph twice.
        let again = self.made_by(squared, "Sub")?;
        let is_it = self.is_over_channels(variance, x)
            && again.input(0) == Some(x)
            && (again.input(1) == Some(mean) || is_mean(again.input(1)?, x).is_some());
        is_it.then_some((x, f64::from(self.scalar(epsilon)?)))
    }

    /// `x` of `x · x` or `x²`.
    fn squared(&self, name: &str) -> Option<&'a str> {
        if let Some(power) = self.made_by(name, "Pow") {
            return power.input(0).filter(|_| {
                power.input(1).is_some_and(|exponent| self.scalar(exponent) == Some(2.0))
            });
        }
        let product = self.made_by(name, "Mul")?;
        product.input(0).filter(|x| product.input(1) == Some(x))
    }

    /// Whether a value is the length of `x` over its channels, kept above a small number.
    fn is_length(&self, name: &'a str, x: &str) -> bool {
        let mut name = name;
        // What keeps it from 0, and gives it the shape of `x`.
        while let Some(node) =
            ["Expand", "Clip", "Max"].into_iter().find_map(|operator| self.made_by(name, operator))
        {
            let is_small = |at: usize| {
                node.input(at).is_none_or(|name| self.scalar(name).is_none_or(|value| value < 1e-5))
            };
            match node.input(0) {
                Some(inner) if node.operator == "Expand" || is_small(1) => name = inner,
                _ => return false,
            }
        }
        if let Some(length) = self.made_by(name, "ReduceL2") {
            return length.input(0) == Some(x) && self.is_over_channels(length, x);
        }
        let Some(root) = self.made_by(name, "Sqrt") else { return false };
        let mut sum = root.input(0);
        if let Some(node) = sum.and_then(|name| self.made_by(name, "Add")) {
            let is_small = |name: &str| self.scalar(name).is_some_and(|value| value < 1e-5);
            if !node.input(1).is_some_and(is_small) {
                return false;
            }
            sum = node.input(0);
        }
        let Some(sum) = sum.and_then(|name| self.made_by(name, "ReduceSum")) else { return false };
        let squares = sum.input(0).and_then(|name| self.squared(name));
        squares == Some(x) && self.is_over_channels(sum, x)
    }

    /// A map's values of a constant: one a channel.
    pub(super) fn per_channel(
        &mut self,
        held: Held,
        constant: &Array,
    ) -> Result<(Held, Vec<f32>), String> {
        let held = self.settled(held);
        let [channels, ..] = self.network.extent(held.map);
        let Values::Floats(values) = &constant.values else {
            return Err("whole numbers where floats belong".to_owned());
        };
        let (rank, own) = (held.axes.len(), constant.shape.len());
        let wide = constant.shape.iter().rposition(|side| *side > 1);
        let ones = constant.shape.iter().filter(|side| **side > 1).count();
        if own > rank {
            return Err("a constant of more axes than the map".to_owned());
        }
        match wide {
            None => Ok((held, vec![values.first().copied().unwrap_or_default(); channels])),
            Some(axis) if ones == 1 && held.channel_axis(channels) == Some(axis + rank - own) => {
                if values.len() != channels {
                    return Err("another number of values than of channels".to_owned());
                }
                let values = values.clone();
                Ok((held, values))
            }
            // One channel becomes several.
            Some(axis) if ones == 1 && channels == 1 && held.axes[axis + rank - own].is_empty() => {
                let values = values.clone();
                let held = self.spread(held, axis + rank - own, values.len());
                Ok((held, values))
            }
            Some(_) => Err("a constant that differs from pixel to pixel".to_owned()),
        }
    }

    /// A map of one channel as one of several that are alike, along an axis.
    fn spread(&mut self, held: Held, axis: usize, channels: usize) -> Held {
        let map = self.repeated(held.map, channels);
        let mut axes = held.axes;
        axes[axis] = super::layout::whole(super::layout::Along::Channels, channels);
        Held { map, axes }
    }

    /// A vector at every pixel of a map.
    pub(super) fn expand(&mut self, node: &'a Node) -> Converted {
        let held = self.held(node, 0)?;
        let held = self.settled(held);
        let [channels, rows, columns] = self.network.extent(held.map);
        match self.shape(&node.outputs[0])? {
            &[1, wanted, high, wide]
                if [wanted, rows, columns] == [channels, 1, 1]
                    && held.axes == plain(4, [channels, 1, 1]) =>
            {
                let does = Does::Plain(GraphStep::Enlarge([high, wide]));
                let map = self.network.add(does, &[held.map], [channels, high, wide], self.at);
                Ok(self.whole_map(map))
            }
            wanted => Err(format!("{:?} repeated to {wanted:?}", held.shape())),
        }
    }

    fn repeated(&mut self, map: usize, channels: usize) -> usize {
        let [_, rows, columns] = self.network.extent(map);
        let does = Does::Linear(vec![1.0; channels], vec![0.0; channels]);
        self.network.add(does, &[map], [channels, rows, columns], self.at)
    }

    fn with_constant(
        &mut self,
        node: &'a Node,
        index: usize,
        constant: &Array,
        is_first: bool,
    ) -> Converted {
        let held = self.held(node, index)?;
        if node.operator == "Pow" {
            return match constant.scalar() {
                Some(1.0) if !is_first => Ok(vec![held]),
                Some(2.0) if !is_first => {
                    let map = self.network.plain(GraphStep::Multiply, &[held.map; 2], self.at);
                    Ok(vec![Held { map, ..held }])
                }
                Some(3.0) if !is_first => {
                    let square = self.network.plain(GraphStep::Multiply, &[held.map; 2], self.at);
                    let inputs = [square, held.map];
                    let map = self.network.plain(GraphStep::Multiply, &inputs, self.at);
                    Ok(vec![Held { map, ..held }])
                }
                _ => Err("a power other than 2 or 3".to_owned()),
            };
        }
        let (held, values) = match self.per_channel(held.clone(), constant) {
            Ok(both) => both,
            Err(reason) => {
                let sign = match (node.operator.as_str(), is_first) {
                    ("Add", _) => 1.0,
                    ("Sub", false) => -1.0,
                    _ => return Err(reason),
                };
                return self.with_places(held, constant, sign);
            }
        };
        let count = values.len();
        let (ones, none) = (vec![1.0; count], vec![0.0; count]);
        let negative = || values.iter().map(|value| -value).collect();
        let (scale, shift) = match (node.operator.as_str(), is_first) {
            ("Add", _) => (ones, values),
            ("Sub", false) => (ones, negative()),
            ("Sub", true) => (vec![-1.0; count], values),
            ("Mul", _) => (values, none),
            ("Div", false) => (values.iter().map(|value| 1.0 / value).collect(), none),
            _ => return Err("a quotient of two maps".to_owned()),
        };
        let map = self.network.affine(held.map, scale, shift, self.at);
        Ok(vec![Held { map, ..held }])
    }

    fn of_maps(&mut self, node: &'a Node) -> Converted {
        let (a, mut b) = (self.held(node, 0)?, self.held(node, 1)?);
        let step = match node.operator.as_str() {
            "Add" | "Sub" => GraphStep::Add,
            "Mul" => GraphStep::Multiply,
            "Div" => return Err("a quotient of two maps".to_owned()),
            _ => return Err("a power of two maps".to_owned()),
        };
        if node.operator == "Sub" {
            b.map = self.network.scaled(b.map, -1.0, 0.0, self.at);
        }
        let (a, b) = if a.axes == b.axes { (a, b) } else { (self.settled(a), self.settled(b)) };
        // The smaller one is repeated along axes that it has not.
        let covers = |large: &Held, small: &Held| {
            let missing = large.axes.len().checked_sub(small.axes.len());
            missing.is_some_and(|missing| {
                let fits = |(large, small): (&Axis, &Axis)| small.is_empty() || large == small;
                large.axes[missing..].iter().zip(&small.axes).all(fits)
            })
        };
        let (large, mut small) = match (covers(&a, &b), covers(&b, &a)) {
            (true, _) => (a, b),
            (_, true) => (b, a),
            _ => {
                let (a, b) = (a.shape(), b.shape());
                return Err(format!("maps of shapes {a:?} and {b:?} whose axes do not fit"));
            }
        };
        let [channels, rows, columns] = self.network.extent(large.map);
        let extent = self.network.extent(small.map);
        if extent[0] != channels {
            if extent[0] != 1 {
                return Err("maps of different channels".to_owned());
            }
            small.map = self.repeated(small.map, channels);
        }
        let is_pixel = extent[1..] == [1, 1] && [rows, columns] != [1, 1];
        if is_pixel && step == GraphStep::Multiply {
            let map = self.network.plain(GraphStep::Scale, &[large.map, small.map], self.at);
            return Ok(vec![Held { map, ..large }]);
        }
        if extent[1..] != [rows, columns] {
            let factors = [rows / extent[1].max(1), columns / extent[2].max(1)];
            let is_repeated =
                (extent[1] == 1 || extent[1] == rows) && (extent[2] == 1 || extent[2] == columns);
            if !is_repeated {
                return Err("maps of different sizes".to_owned());
            }
            let does = Does::Plain(GraphStep::Enlarge(factors));
            let sides = [channels, rows, columns];
            small.map = self.network.add(does, &[small.map], sides, self.at);
        }
        let map = self.network.plain(step, &[large.map, small.map], self.at);
        Ok(vec![Held { map, ..large }])
    }
}
