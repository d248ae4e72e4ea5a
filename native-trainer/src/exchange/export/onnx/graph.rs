//! Nodes and constants of a graph being written.

use models::layers::{Conv, Padding};

use super::super::protobuf::{Attribute, Message};
use super::{FLOAT, INT64};

/// A map of the graph, `[1, channels, height, width]`.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) name: String,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Message,
    pub(super) tensors: Message,
    names: usize,
}

impl Graph {
    pub(super) fn fresh(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    pub(super) fn tensor(&mut self, shape: &[usize], data_type: u64, bytes: &[u8]) -> String {
        let name = self.fresh();
        let mut tensor = Message::default();
        shape.iter().for_each(|side| tensor.number(1, *side as u64));
        tensor.number(2, data_type);
        tensor.text(8, &name);
        tensor.bytes(9, bytes);
        self.tensors.message(5, &tensor);
        name
    }

    pub(super) fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(shape, FLOAT, &bytes)
    }

    pub(super) fn scalar(&mut self, value: f32) -> String {
        self.floats(&[], &[value])
    }

    pub(super) fn numbers(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(&[values.len()], INT64, &bytes)
    }

    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> String {
        let output = self.fresh();
        self.node_to(operator, inputs, attributes, &output);
        output
    }

    pub(super) fn node_to(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        output: &str,
    ) {
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        node.text(2, output);
        node.text(4, operator);
        for (name, attribute) in attributes {
            node.message(5, &attribute.message(name));
        }
        self.nodes.message(1, &node);
    }

    /// One node whose output is like its first input.
    pub(super) fn unary(
        &mut self,
        operator: &str,
        x: Map,
        attributes: &[(&str, Attribute)],
    ) -> Map {
        let name = self.node(operator, &[&x.name], attributes);
        Map { name, ..x }
    }

    pub(super) fn binary(&mut self, operator: &str, a: &Map, b: &str) -> Map {
        let name = self.node(operator, &[&a.name, b], &[]);
        Map { name, ..a.clone() }
    }

    pub(super) fn convolution(
        &mut self,
        x: Map,
        (weight, bias): (Vec<f32>, Vec<f32>),
        layer: &Conv,
        padding: Padding,
    ) -> Map {
        let [channels_out, per_group, kernel, _] = layer.weight.dims();
        let stride = layer.stride();
        let sides = layer.reach([x.height, x.width], padding);
        let [(top, bottom, height), (left, right, width)] = sides;
        let weight = self.floats(&[channels_out, per_group, kernel, kernel], &weight);
        let bias = self.floats(&[channels_out], &bias);
        let attributes = [
            ("kernel_shape", Attribute::Numbers(vec![kernel as i64; 2])),
            ("strides", Attribute::Numbers(vec![stride as i64; 2])),
            ("pads", Attribute::Numbers([top, left, bottom, right].map(|p| p as i64).to_vec())),
            ("group", Attribute::Number(layer.groups() as i64)),
        ];
        let name = self.node("Conv", &[&x.name, &weight, &bias], &attributes);
        Map { name, height, width, channels: channels_out }
    }

    pub(super) fn reshaped(&mut self, name: &str, shape: &[usize]) -> String {
        let sides: Vec<i64> = shape.iter().map(|side| *side as i64).collect();
        let sides = self.numbers(&sides);
        self.node("Reshape", &[name, &sides], &[])
    }

    /// The places `from..to` along an axis.
    pub(super) fn slice(&mut self, name: &str, axis: usize, [from, to]: [usize; 2]) -> String {
        let [from, to, axis] = [from, to, axis].map(|number| self.numbers(&[number as i64]));
        self.node("Slice", &[name, &from, &to, &axis], &[])
    }

    /// Learned pixels as a line; `values` are `[pixels, channels]`.
    pub(super) fn line(&mut self, values: &[f32], channels: usize) -> Map {
        let width = values.len() / channels.max(1);
        let across = (0..channels).flat_map(|c| (0..width).map(move |p| values[p * channels + c]));
        let name = self.floats(&[1, channels, 1, width], &across.collect::<Vec<f32>>());
        Map { name, height: 1, width, channels }
    }

    /// `x · scale + shift`
    pub(super) fn scaled(&mut self, x: &Map, scale: &[f32], shift: &[f32]) -> Map {
        let shape = [1, x.channels, 1, 1];
        let (scale, shift) = (self.floats(&shape, scale), self.floats(&shape, shift));
        let scaled = self.binary("Mul", x, &scale);
        self.binary("Add", &scaled, &shift)
    }

    /// The answer of all maps under the name `y`, and its shape.
    pub(super) fn answer(&mut self, maps: Vec<Map>) -> Vec<usize> {
        if let [map] = maps.as_slice() {
            let flatten = [("axis", Attribute::Number(1))];
            self.node_to("Flatten", &[&map.name], &flatten, "y");
            return vec![1, map.height * map.width * map.channels];
        }
        let channels = maps.first().map_or(0, |map| map.channels);
        let mut points = 0;
        let mut rows = Vec::new();
        for map in &maps {
            points += map.height * map.width;
            let order = [("perm", Attribute::Numbers(vec![0, 2, 3, 1]))];
            let last = self.node("Transpose", &[&map.name], &order);
            let shape = self.numbers(&[1, -1, map.channels as i64]);
            rows.push(self.node("Reshape", &[&last, &shape], &[]));
        }
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        self.node_to("Concat", &rows, &[("axis", Attribute::Number(1))], "y");
        vec![1, points, channels]
    }
}
