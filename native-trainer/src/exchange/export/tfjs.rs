//! TensorFlow.js: a graph model, which is a graph of TensorFlow's as JSON, and its weights.
//!
//! Source: the format that the TensorFlow.js converter writes, as
//! <https://github.com/tensorflow/tfjs/tree/master/tfjs-converter> reads it; fused convolutions are
//! TensorFlow's `_FusedConv2D` and `FusedDepthwiseConv2dNative`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use models::inference::Network;
use models::preprocess::Preprocess;
use serde_json::{Map, Value as Json, json};

use super::operators::{Border, Constant, Fused, Operator, Step, Window};
use super::order::transposed;
use super::tensorflow::graph;

/// The two files of a model.
#[derive(Debug)]
pub struct Tfjs {
    /// `model.json`, which names the other.
    pub graph: Vec<u8>,
    /// All weights, one after the other.
    pub weights: Vec<u8>,
}

/// A graph model of TensorFlow.js whose weights will lie beside it under `weights_name`; see the
/// [module above](super).
pub fn to_tfjs(network: &impl Network, preprocess: &Preprocess, weights_name: &str) -> Tfjs {
    let (graph, input, output) = graph(network, preprocess);
    let mut writer = Writer { input, output, ..Writer::default() };
    for (index, value) in graph.values.iter().enumerate() {
        match &value.constant {
            Some(constant) => writer.constant(index, &value.shape, constant),
            None if index == input => {
                let attributes = json!({ "dtype": kind("DT_FLOAT"), "shape": shape(&value.shape) });
                writer.nodes.push(json!({ "name": "x", "op": "Placeholder", "attr": attributes }));
            }
            None => {}
        }
    }
    for step in &graph.steps {
        writer.step(step);
    }
    let tensor = |name: &str, value: usize| {
        let dims = shape(&graph.values[value].shape)["shape"].clone();
        json!({ name: { "name": format!("{name}:0"), "dtype": "DT_FLOAT", "tensorShape": dims } })
    };
    let model = json!({
        "format": "graph-model",
        "generatedBy": "magpie",
        "convertedBy": null,
        "signature": { "inputs": tensor("x", input), "outputs": tensor("y", output) },
        "modelTopology": {
            "node": writer.nodes,
            "library": {},
            "versions": { "producer": 1 },
        },
        "weightsManifest": [{ "paths": [weights_name], "weights": writer.listed }],
    });
    Tfjs { graph: model.to_string().into_bytes(), weights: writer.weights }
}

#[derive(Debug, Default)]
struct Writer {
    nodes: Vec<Json>,
    /// What lies in `weights`, in order.
    listed: Vec<Json>,
    weights: Vec<u8>,
    input: usize,
    output: usize,
}

impl Writer {
    fn name(&self, value: usize) -> String {
        match value {
            _ if value == self.input => "x".to_owned(),
            _ if value == self.output => "y".to_owned(),
            _ => format!("v{value}"),
        }
    }

    fn constant(&mut self, index: usize, sides: &[usize], constant: &Constant) {
        let name = self.name(index);
        match constant {
            Constant::Floats(values) => self.floats(&name, sides, values),
            Constant::Kernel { values, depthwise } => {
                // Input channels before output channels, of which a depthwise kernel has one each.
                let order = if *depthwise { [2, 3, 0, 1] } else { [2, 3, 1, 0] };
                let values = transposed(values, sides, order);
                self.floats(&name, &order.map(|axis| sides[axis]), &values);
            }
            Constant::Numbers(values) => self.numbers(&name, sides, values),
        }
    }

    fn floats(&mut self, name: &str, sides: &[usize], values: &[f32]) {
        self.weights.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.list(name, sides, "DT_FLOAT", "float32");
    }

    fn numbers(&mut self, name: &str, sides: &[usize], values: &[i32]) {
        self.weights.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.list(name, sides, "DT_INT32", "int32");
    }

    /// Names the constant whose bytes were added last.
    fn list(&mut self, name: &str, sides: &[usize], in_graph: &str, in_list: &str) {
        let attributes = json!({ "dtype": kind(in_graph), "shape": shape(sides) });
        self.listed.push(json!({ "name": name, "shape": sides, "dtype": in_list }));
        self.nodes.push(json!({ "name": name, "op": "Const", "attr": attributes }));
    }

    fn step(&mut self, step: &Step) {
        let inputs: Vec<String> = step.inputs.iter().map(|input| self.name(*input)).collect();
        let output = self.name(step.output);
        let plain = |writer: &mut Self, operator| {
            writer.node(&output, operator, &inputs, json!({}));
        };
        match step.operator {
            Operator::Convolution { depthwise, stride, border, then } => {
                let operator =
                    if depthwise { "FusedDepthwiseConv2dNative" } else { "_FusedConv2D" };
                let operators: &[&str] = match then {
                    Fused::Nothing => &["BiasAdd"],
                    Fused::Relu => &["BiasAdd", "Relu"],
                    Fused::Relu6 => &["BiasAdd", "Relu6"],
                };
                let operators: Vec<String> = operators.iter().map(|name| coded(name)).collect();
                let mut attributes = window([1, stride, stride, 1]);
                attributes["num_args"] = json!({ "i": "1" });
                attributes["fused_ops"] = json!({ "list": { "s": operators } });
                attributes["dilations"] = numbers(&[1; 4]);
                attributes["padding"] = text(match border {
                    Border::Same => "SAME",
                    Border::Pixels([0, 0, 0, 0]) => "VALID",
                    Border::Pixels(_) => "EXPLICIT",
                });
                if let Border::Pixels([above, left, below, right]) = border {
                    let border = [0, 0, above, below, left, right, 0, 0];
                    attributes["explicit_paddings"] = numbers(&border);
                }
                self.node(&output, operator, &inputs, attributes);
            }
            Operator::Add(Fused::Nothing) => plain(self, "AddV2"),
            Operator::Add(then) => {
                let sum = format!("{output}_sum");
                self.node(&sum, "AddV2", &inputs, json!({}));
                let operator = if then == Fused::Relu { "Relu" } else { "Relu6" };
                self.node(&output, operator, &[sum], json!({}));
            }
            Operator::Multiply => plain(self, "Mul"),
            Operator::Subtract => plain(self, "Sub"),
            Operator::Divide => plain(self, "RealDiv"),
            Operator::Minimum => plain(self, "Minimum"),
            Operator::Relu => plain(self, "Relu"),
            Operator::Relu6 => plain(self, "Relu6"),
            Operator::HardSwish => self.hard_swish(&inputs[0], &output),
            Operator::Sigmoid => plain(self, "Sigmoid"),
            Operator::Tanh => plain(self, "Tanh"),
            Operator::Root => plain(self, "Sqrt"),
            Operator::Logarithm => plain(self, "Log"),
            Operator::Mean | Operator::Sum | Operator::Largest => {
                let operator = match step.operator {
                    Operator::Mean => "Mean",
                    Operator::Sum => "Sum",
                    _ => "Max",
                };
                self.node(&output, operator, &inputs, json!({ "keep_dims": { "b": true } }));
            }
            Operator::Concatenate(axis) => {
                let place = format!("{output}_axis");
                self.numbers(&place, &[], &[axis as i32]);
                let inputs: Vec<String> = inputs.iter().cloned().chain([place]).collect();
                let count = json!({ "N": { "i": step.inputs.len().to_string() } });
                self.node(&output, "ConcatV2", &inputs, count);
            }
            Operator::Upsample => plain(self, "ResizeNearestNeighbor"),
            Operator::Pad => plain(self, "PadV2"),
            Operator::Gather => {
                let place = format!("{output}_axis");
                self.numbers(&place, &[], &[3]);
                let inputs: Vec<String> = inputs.iter().cloned().chain([place]).collect();
                self.node(&output, "GatherV2", &inputs, json!({ "batch_dims": { "i": "0" } }));
            }
            Operator::MaxPool(_) | Operator::AveragePool(_) | Operator::HalfPool => {
                let half = Window { kernel: [2; 2], stride: [2; 2] };
                let (operator, Window { kernel, stride }, padding) = match step.operator {
                    Operator::MaxPool(window) => ("MaxPool", window, "VALID"),
                    Operator::AveragePool(window) => ("AvgPool", window, "VALID"),
                    _ => ("AvgPool", half, "SAME"),
                };
                let mut attributes = window([1, stride[0], stride[1], 1]);
                attributes["ksize"] = numbers(&[1, kernel[0], kernel[1], 1]);
                attributes["padding"] = text(padding);
                self.node(&output, operator, &inputs, attributes);
            }
            Operator::Reshape => plain(self, "Reshape"),
            Operator::Slice => plain(self, "Slice"),
            Operator::Transpose => plain(self, "Transpose"),
            Operator::Product { across } => {
                let sides = json!({ "adj_x": { "b": false }, "adj_y": { "b": across } });
                self.node(&output, "BatchMatMulV2", &inputs, sides);
            }
            Operator::Softmax => plain(self, "Softmax"),
        }
    }

    /// `x · clip(x + 3, 0, 6) / 6`, which has no operator of its own.
    fn hard_swish(&mut self, x: &str, output: &str) {
        let three = self.scalar("three", 3.0);
        let sixth = self.scalar("sixth", 1.0 / 6.0);
        let [sum, clipped, product] =
            ["sum", "clipped", "product"].map(|n| format!("{output}_{n}"));
        self.node(&sum, "AddV2", &[x.to_owned(), three], json!({}));
        self.node(&clipped, "Relu6", std::slice::from_ref(&sum), json!({}));
        self.node(&product, "Mul", &[x.to_owned(), clipped], json!({}));
        self.node(output, "Mul", &[product, sixth], json!({}));
    }

    /// A constant that several steps may use.
    fn scalar(&mut self, name: &str, value: f32) -> String {
        if !self.listed.iter().any(|listed| listed["name"] == name) {
            self.floats(name, &[], &[value]);
        }
        name.to_owned()
    }

    fn node(&mut self, name: &str, operator: &str, inputs: &[String], mut attributes: Json) {
        attributes["T"] = kind("DT_FLOAT");
        self.nodes.push(json!({
            "name": name,
            "op": operator,
            "input": inputs,
            "attr": attributes,
        }));
    }
}

fn kind(name: &str) -> Json {
    json!({ "type": name })
}

/// A text as the JSON of protocol buffers has it.
fn coded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn text(text: &str) -> Json {
    json!({ "s": coded(text) })
}

fn numbers(values: &[usize]) -> Json {
    let values: Vec<String> = values.iter().map(usize::to_string).collect();
    json!({ "list": { "i": values } })
}

fn shape(sides: &[usize]) -> Json {
    let sides: Vec<Json> = sides.iter().map(|side| json!({ "size": side.to_string() })).collect();
    json!({ "shape": { "dim": sides } })
}

/// What all operators have that look at pixels around each other.
fn window(strides: [usize; 4]) -> Json {
    let mut attributes = Map::new();
    attributes.insert("strides".to_owned(), numbers(&strides));
    attributes.insert("data_format".to_owned(), text("NHWC"));
    Json::Object(attributes)
}
