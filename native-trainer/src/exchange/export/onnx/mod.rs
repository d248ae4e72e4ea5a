//! ONNX.
//!
//! Source: the ONNX operator set 14 and its protocol buffers,
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

mod graph;

use burn::module::Param;
use burn::tensor::Tensor;
use models::inference::Network;
use models::layers::{
    Activation, Affine, BatchNorm, Conv, ConvBn, Flow, Gate, GlobalPool, LENGTH_EPSILON, LayerNorm,
    Padding, Pick, Pool, Rotary, SCORE_EPSILON, SCORE_MARGIN, Tokens, values_of,
};
use models::preprocess::Preprocess;

use self::graph::{Graph, Map};
use super::protobuf::{Attribute, Message};

/// Operator set that the graph is written in: the first with hard-swish.
const OPERATOR_SET: u64 = 14;
/// Version of the file format that goes with it.
const FORMAT_VERSION: u64 = 7;
/// `TensorProto.DataType.FLOAT` and `INT64`.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// The bytes of an ONNX file; see the [module above](super).
pub fn to_onnx(network: &impl Network, preprocess: &Preprocess) -> Vec<u8> {
    let (height, width) = (preprocess.height as usize, preprocess.width as usize);
    let mut graph = Graph::default();
    let input = Map { name: "x".to_owned(), height, width, channels: 3 };
    let maps = network.wire(&mut graph, input);
    let output = graph.answer(maps);
    let mut body = graph.nodes;
    body.text(2, "magpie");
    body.0.extend(graph.tensors.0);
    body.message(11, &value_info("x", &[1, 3, height, width]));
    body.message(12, &value_info("y", &output));
    let mut operators = Message::default();
    operators.number(2, OPERATOR_SET);
    let mut model = Message::default();
    model.number(1, FORMAT_VERSION);
    model.text(2, "magpie");
    model.message(7, &body);
    model.message(8, &operators);
    model.0
}

fn value_info(name: &str, shape: &[usize]) -> Message {
    let mut dims = Message::default();
    for side in shape {
        let mut dim = Message::default();
        dim.number(1, *side as u64);
        dims.message(1, &dim);
    }
    let mut tensor = Message::default();
    tensor.number(1, FLOAT);
    tensor.message(2, &dims);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.text(1, name);
    info.message(2, &kind);
    info
}

impl Flow for Graph {
    type Map = Map;

    fn conv_bn(&mut self, x: Map, layer: &ConvBn, padding: Padding) -> Map {
        let y = self.convolution(x, layer.folded_values(), &layer.conv, padding);
        self.activate(y, layer.activation())
    }

    fn conv(&mut self, x: Map, layer: &Conv, activation: Activation) -> Map {
        let y = self.convolution(x, layer.values(), layer, Padding::Even);
        self.activate(y, activation)
    }

    fn batch_norm(&mut self, x: Map, layer: &BatchNorm) -> Map {
        let (scale, shift) = layer.affine_values();
        self.scaled(&x, &scale, &shift)
    }

    fn layer_norm(&mut self, x: Map, layer: &LayerNorm) -> Map {
        let axes = || [("axes", Attribute::Numbers(vec![1]))];
        let mean = self.node("ReduceMean", &[&x.name], &axes());
        let centered = Map { name: self.node("Sub", &[&x.name, &mean], &[]), ..x.clone() };
        let squares = self.binary("Mul", &centered, &centered.name.clone());
        let variance = self.node("ReduceMean", &[&squares.name], &axes());
        let epsilon = self.scalar(layer.epsilon() as f32);
        let sum = self.node("Add", &[&variance, &epsilon], &[]);
        let deviation = self.node("Sqrt", &[&sum], &[]);
        let normalized = self.binary("Div", &centered, &deviation);
        let [scale, shift] = layer.values();
        self.scaled(&normalized, &scale, &shift)
    }

    fn linear(&mut self, x: Map, weight: &Param<Tensor<2>>, bias: &Param<Tensor<1>>) -> Map {
        let weight = weight.val().transpose();
        let [channels_out, channels_in] = weight.dims();
        let weight = self.floats(&[channels_out, channels_in, 1, 1], &values_of(weight));
        let bias = self.floats(&[channels_out], &values_of(bias.val()));
        let name = self.node("Conv", &[&x.name, &weight, &bias], &[]);
        Map { name, channels: channels_out, ..x }
    }

    fn apply(&mut self, x: Map, function: Gate) -> Map {
        match function {
            Gate::Sigmoid => self.unary("Sigmoid", x, &[]),
            Gate::HardSigmoid => {
                let slope = ("alpha", Attribute::Float(1.0 / 6.0));
                self.unary("HardSigmoid", x, &[slope, ("beta", Attribute::Float(0.5))])
            }
            Gate::Tanh => self.unary("Tanh", x, &[]),
        }
    }

    fn activate(&mut self, x: Map, activation: Activation) -> Map {
        match activation {
            Activation::Identity => x,
            Activation::Relu => self.unary("Relu", x, &[]),
            Activation::HardSwish => self.unary("HardSwish", x, &[]),
            Activation::Silu => {
                let gate = self.unary("Sigmoid", x.clone(), &[]);
                self.binary("Mul", &x, &gate.name)
            }
            Activation::Gelu => {
                let (root, one, half) = (
                    self.scalar(std::f32::consts::FRAC_1_SQRT_2),
                    self.scalar(1.0),
                    self.scalar(0.5),
                );
                let scaled = self.binary("Mul", &x, &root);
                let error = self.unary("Erf", scaled, &[]);
                let twice = self.binary("Add", &error, &one);
                let product = self.binary("Mul", &x, &twice.name);
                self.binary("Mul", &product, &half)
            }
            Activation::QuickGelu => {
                let factor = self.scalar(Activation::QUICK);
                let scaled = self.binary("Mul", &x, &factor);
                let gate = self.unary("Sigmoid", scaled, &[]);
                self.binary("Mul", &x, &gate.name)
            }
            Activation::GeluTanh => {
                let [first, third] = Activation::TANH.map(|value| self.scalar(value));
                let square = self.binary("Mul", &x, &x.name.clone());
                let cubic = self.binary("Mul", &square, &third);
                let factor = self.binary("Add", &cubic, &first);
                let argument = self.binary("Mul", &x, &factor.name);
                let gate = self.unary("Sigmoid", argument, &[]);
                self.binary("Mul", &x, &gate.name)
            }
            Activation::Relu6 => {
                let (least, most) = (self.scalar(0.0), self.scalar(6.0));
                let name = self.node("Clip", &[&x.name, &least, &most], &[]);
                Map { name, ..x }
            }
        }
    }

    fn dropout(&mut self, x: Map, probability: f64) -> Map {
        let factor = self.scalar((1.0 - probability) as f32);
        self.binary("Mul", &x, &factor)
    }

    fn scale(&mut self, x: Map, gate: Map) -> Map {
        self.binary("Mul", &x, &gate.name)
    }

    fn add(&mut self, a: Map, b: Map) -> Map {
        self.binary("Add", &a, &b.name)
    }

    fn add_relu(&mut self, a: Map, b: Map) -> Map {
        let sum = self.add(a, b);
        self.activate(sum, Activation::Relu)
    }

    fn concatenate(&mut self, a: Map, b: Map) -> Map {
        let axis = [("axis", Attribute::Number(1))];
        let name = self.node("Concat", &[&a.name, &b.name], &axis);
        Map { name, channels: a.channels + b.channels, ..a }
    }

    fn upsample(&mut self, x: Map) -> Map {
        self.enlarge(x, [2; 2])
    }

    fn max_pool(&mut self, x: Map) -> Map {
        let attributes = [
            ("kernel_shape", Attribute::Numbers(vec![3, 3])),
            ("strides", Attribute::Numbers(vec![2, 2])),
            ("pads", Attribute::Numbers(vec![1, 1, 1, 1])),
        ];
        let name = self.node("MaxPool", &[&x.name], &attributes);
        Map { name, height: x.height.div_ceil(2), width: x.width.div_ceil(2), ..x }
    }

    fn average_pool(&mut self, x: Map) -> Map {
        let odd = |side: usize| (side % 2) as i64;
        let attributes = [
            ("kernel_shape", Attribute::Numbers(vec![2, 2])),
            ("strides", Attribute::Numbers(vec![2, 2])),
            ("pads", Attribute::Numbers(vec![0, 0, odd(x.height), odd(x.width)])),
        ];
        let name = self.node("AveragePool", &[&x.name], &attributes);
        Map { name, height: x.height.div_ceil(2), width: x.width.div_ceil(2), ..x }
    }

    fn global_pool(&mut self, x: Map, pool: GlobalPool) -> Map {
        let operator = match pool {
            GlobalPool::Average => "GlobalAveragePool",
            GlobalPool::Max => "GlobalMaxPool",
        };
        let name = self.node(operator, &[&x.name], &[]);
        Map { name, height: 1, width: 1, ..x }
    }

    fn aligned_logit(&mut self, class: Map, alignment: Map) -> Map {
        let class = self.apply(class, Gate::Sigmoid);
        let alignment = self.apply(alignment, Gate::Sigmoid);
        let product = self.binary("Mul", &class, &alignment.name);
        let epsilon = self.scalar(SCORE_EPSILON as f32);
        let sum = self.binary("Add", &product, &epsilon);
        let score = self.unary("Sqrt", sum, &[]);
        let (most, one) = (self.scalar(1.0 - SCORE_MARGIN as f32), self.scalar(1.0));
        let score = self.binary("Min", &score, &most);
        let rest = self.node("Sub", &[&one, &score.name], &[]);
        let quotient = self.binary("Div", &score, &rest);
        self.unary("Log", quotient, &[])
    }

    fn multiply(&mut self, a: Map, b: Map) -> Map {
        self.binary("Mul", &a, &b.name)
    }

    fn tokens(&mut self, x: Map, layer: &Tokens) -> Map {
        let [before, added] = layer.values([x.height, x.width]);
        let (channels, width) = (x.channels, x.height * x.width);
        let name = self.reshaped(&x.name, &[1, channels, 1, width]);
        let mut x = Map { name, height: 1, width, channels };
        if !added.is_empty() {
            let added = self.line(&added, channels);
            x = self.binary("Add", &x, &added.name);
        }
        if before.is_empty() {
            return x;
        }
        let before = self.line(&before, channels);
        let axis = [("axis", Attribute::Number(3))];
        let name = self.node("Concat", &[&before.name, &x.name], &axis);
        Map { name, width: before.width + width, ..x }
    }

    fn learned(&mut self, _: Map, pixels: &Param<Tensor<2>>) -> Map {
        let [_, channels] = pixels.dims();
        self.line(&values_of(pixels.val()), channels)
    }

    fn first(&mut self, x: Map) -> Map {
        Map { name: self.slice(&x.name, 3, [0, 1]), width: 1, ..x }
    }

    fn behind(&mut self, x: Map, before: usize, like: &Map) -> Map {
        let (height, width) = (like.height, like.width);
        let pixels = self.slice(&x.name, 3, [before, x.width]);
        let name = self.reshaped(&pixels, &[1, x.channels, height, width]);
        Map { name, height, width, ..x }
    }

    fn rotate(&mut self, x: Map, rotary: &Rotary, like: &Map) -> Map {
        let Rotary { head, before, .. } = *rotary;
        let half = head / 2;
        let [cosines, sines] = rotary.angles([like.height, like.width]);
        // The tokens before the pixels have angles of 0.
        let mut table = |values: &[f32], of_zero: f32| {
            let at = |pixel: usize, pair: usize| {
                pixel.checked_sub(before).map_or(of_zero, |pixel| values[pixel * half + pair])
            };
            let pairs = (0..half).flat_map(|pair| (0..x.width).map(move |pixel| (pixel, pair)));
            let values: Vec<f32> = pairs.map(|(pixel, pair)| at(pixel, pair)).collect();
            self.floats(&[1, 1, half, x.width], &values)
        };
        let (cosines, sines) = (table(&cosines, 1.0), table(&sines, 0.0));
        let pairs = self.reshaped(&x.name, &[x.channels / head, 2, half, x.width]);
        let (a, b) = (self.slice(&pairs, 1, [0, 1]), self.slice(&pairs, 1, [1, 2]));
        let mut times = |a: &str, b: &str| self.node("Mul", &[a, b], &[]);
        let (straight, across) = (times(&a, &cosines), times(&b, &sines));
        let (second, turned) = (times(&b, &cosines), times(&a, &sines));
        let first = self.node("Sub", &[&straight, &across], &[]);
        let second = self.node("Add", &[&second, &turned], &[]);
        let axis = [("axis", Attribute::Number(1))];
        let joined = self.node("Concat", &[&first, &second], &axis);
        let name = self.reshaped(&joined, &[1, x.channels, 1, x.width]);
        Map { name, ..x }
    }

    fn attend(&mut self, [queries, keys, values]: [Map; 3], heads: usize) -> Map {
        let across = || [("perm", Attribute::Numbers(vec![0, 2, 1]))];
        let head = queries.channels / heads;
        let mut apart = |x: &Map| self.reshaped(&x.name, &[heads, head, x.height * x.width]);
        let [asked, keys, values] = [&queries, &keys, &values].map(&mut apart);
        let asked = self.node("Transpose", &[&asked], &across());
        let factor = self.scalar(1.0 / (head as f32).sqrt());
        let asked = self.node("Mul", &[&asked, &factor], &[]);
        let scores = self.node("MatMul", &[&asked, &keys], &[]);
        let shares = self.node("Softmax", &[&scores], &[("axis", Attribute::Number(2))]);
        let shares = self.node("Transpose", &[&shares], &across());
        let mean = self.node("MatMul", &[&values, &shares], &[]);
        let Map { height, width, channels, .. } = queries;
        let name = self.reshaped(&mean, &[1, channels, height, width]);
        Map { name, ..queries }
    }

    fn unit_length(&mut self, x: Map) -> Map {
        let squares = self.binary("Mul", &x, &x.name.clone());
        let axes = self.numbers(&[1]);
        let sum = self.node("ReduceSum", &[&squares.name, &axes], &[]);
        let epsilon = self.scalar(LENGTH_EPSILON as f32);
        let sum = self.node("Add", &[&sum, &epsilon], &[]);
        let length = self.node("Sqrt", &[&sum], &[]);
        self.binary("Div", &x, &length)
    }

    fn affine(&mut self, x: Map, layer: &Affine) -> Map {
        let [scale, shift] = layer.values();
        self.scaled(&x, &scale, &shift)
    }

    fn pool(&mut self, x: Map, pool: &Pool) -> Map {
        let numbers = |values: &[usize]| {
            Attribute::Numbers(values.iter().map(|value| *value as i64).collect())
        };
        let mut attributes = vec![
            ("kernel_shape", numbers(&pool.kernel)),
            ("strides", numbers(&pool.stride)),
            ("pads", numbers(&pool.padding)),
            ("ceil_mode", Attribute::Number(i64::from(pool.ceil))),
        ];
        let operator = match pool.pool {
            GlobalPool::Max => "MaxPool",
            GlobalPool::Average => {
                let counted = Attribute::Number(i64::from(pool.count_padding));
                attributes.push(("count_include_pad", counted));
                "AveragePool"
            }
        };
        let name = self.node(operator, &[&x.name], &attributes);
        let [height, width] = pool.windows([x.height, x.width]);
        Map { name, height, width, ..x }
    }

    fn pick(&mut self, x: Map, Pick { start, count, groups }: Pick) -> Map {
        let (first, end) = (self.numbers(&[start as i64]), self.numbers(&[(start + count) as i64]));
        let axis = self.numbers(&[1]);
        let mut name = self.node("Slice", &[&x.name, &first, &end, &axis], &[]);
        if groups > 1 {
            let [height, width] = [x.height as i64, x.width as i64];
            let each = (count / groups) as i64;
            let apart = self.numbers(&[1, groups as i64, each, height, width]);
            let whole = self.numbers(&[1, count as i64, height, width]);
            let order = [("perm", Attribute::Numbers(vec![0, 2, 1, 3, 4]))];
            name = self.node("Reshape", &[&name, &apart], &[]);
            name = self.node("Transpose", &[&name], &order);
            name = self.node("Reshape", &[&name, &whole], &[]);
        }
        Map { name, channels: count, ..x }
    }

    fn enlarge(&mut self, x: Map, [down, right]: [usize; 2]) -> Map {
        let scales = self.floats(&[4], &[1.0, 1.0, down as f32, right as f32]);
        let attributes = [
            ("mode", Attribute::Text("nearest")),
            ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
            ("nearest_mode", Attribute::Text("floor")),
        ];
        let name = self.node("Resize", &[&x.name, "", &scales], &attributes);
        Map { name, height: down * x.height, width: right * x.width, ..x }
    }
}
