//! A network in the operators that LiteRT and TensorFlow.js share: maps are
//! `[1, height, width, channels]`.

use burn::module::Param;
use burn::tensor::Tensor;
use models::inference::Network;
use models::layers::{
    Activation, Affine, BatchNorm, Conv, ConvBn, Flow, Gate, GlobalPool, LENGTH_EPSILON, LayerNorm,
    Padding, Pick, Pool, Rotary, SCORE_EPSILON, SCORE_MARGIN, Tokens, values_of,
};
use models::preprocess::Preprocess;

use super::operators::{Border, Constant, Fused, Operator, Step, Value, Window};

/// Before the first pixel of a map that is searched for its largest value.
const LOWEST: f32 = f32::MIN;

/// Values and the steps that compute them, in order.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) values: Vec<Value>,
    pub(super) steps: Vec<Step>,
}

/// A network's graph, its input `x` and its output `y`.
pub(super) fn graph(network: &impl Network, preprocess: &Preprocess) -> (Graph, usize, usize) {
    let mut graph = Graph::default();
    let [height, width] = [preprocess.height, preprocess.width].map(|side| side as usize);
    let input = graph.value(vec![1, height, width, 3], None);
    let maps = network.wire(&mut graph, Map(input));
    let output = graph.answer(&maps);
    (graph, input, output)
}

/// A map by its value's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map(usize);

impl Graph {
    fn value(&mut self, shape: Vec<usize>, constant: Option<Constant>) -> usize {
        self.values.push(Value { shape, constant });
        self.values.len() - 1
    }

    fn floats(&mut self, shape: &[usize], values: Vec<f32>) -> usize {
        self.value(shape.to_vec(), Some(Constant::Floats(values)))
    }

    fn kernel(&mut self, shape: [usize; 4], values: Vec<f32>, depthwise: bool) -> usize {
        self.value(shape.to_vec(), Some(Constant::Kernel { values, depthwise }))
    }

    fn scalar(&mut self, value: f32) -> usize {
        self.floats(&[1], vec![value])
    }

    fn numbers(&mut self, shape: &[usize], values: impl IntoIterator<Item = usize>) -> usize {
        let numbers = values.into_iter().map(|value| value as i32).collect();
        self.value(shape.to_vec(), Some(Constant::Numbers(numbers)))
    }

    fn sides(&self, map: Map) -> [usize; 3] {
        let shape = &self.values[map.0].shape;
        [shape[1], shape[2], shape[3]]
    }

    fn step(&mut self, operator: Operator, inputs: &[usize], shape: Vec<usize>) -> usize {
        let output = self.value(shape, None);
        self.steps.push(Step { operator, inputs: inputs.to_vec(), output });
        output
    }

    /// A step to a map of `[height, width, channels]`.
    fn map_step(&mut self, operator: Operator, inputs: &[usize], sides: [usize; 3]) -> Map {
        let [height, width, channels] = sides;
        Map(self.step(operator, inputs, vec![1, height, width, channels]))
    }

    fn unary(&mut self, operator: Operator, x: Map) -> Map {
        let sides = self.sides(x);
        self.map_step(operator, &[x.0], sides)
    }

    fn binary(&mut self, operator: Operator, a: Map, b: usize) -> Map {
        let sides = self.sides(a);
        self.map_step(operator, &[a.0, b], sides)
    }

    fn convolution(
        &mut self,
        x: Map,
        (weight, bias): (Vec<f32>, Vec<f32>),
        layer: &Conv,
        padding: Padding,
        activation: Activation,
    ) -> Map {
        let (weight, mut kernel) = (layer.ungrouped(weight), layer.weight.dims());
        let ([channels_out, .., side], stride) = (kernel, layer.stride());
        let [height, width, channels] = self.sides(x);
        let reached = layer.reach([height, width], padding);
        let [(top, bottom, height), (left, right, width)] = reached;
        // Even padding of a stride of 1 is what TensorFlow does by itself.
        let border = match padding {
            Padding::Even if stride == 1 && side % 2 == 1 && side > 1 => Border::Same,
            Padding::Even => Border::Pixels([top, bottom, left, right]),
            Padding::Same => Border::Same,
            Padding::Nothing => Border::Pixels([0; 4]),
            Padding::Sides(sides) => Border::Pixels(sides),
        };
        let depthwise = layer.is_depthwise();
        if !depthwise {
            kernel[1] = channels;
        }
        let weight = self.kernel(kernel, weight, depthwise);
        let bias = self.floats(&[channels_out], bias);
        let then = match activation {
            Activation::Relu => Fused::Relu,
            Activation::Relu6 => Fused::Relu6,
            Activation::Identity
            | Activation::HardSwish
            | Activation::Silu
            | Activation::Gelu
            | Activation::QuickGelu
            | Activation::GeluTanh => Fused::Nothing,
        };
        let operator = Operator::Convolution { depthwise, stride, border, then };
        let y = self.map_step(operator, &[x.0, weight, bias], [height, width, channels_out]);
        if then == Fused::Nothing { self.activate(y, activation) } else { y }
    }

    fn reduce(&mut self, operator: Operator, x: Map, axes: &[usize]) -> Map {
        let listed = self.numbers(&[axes.len()], axes.iter().copied());
        let sides = self.sides(x);
        let sides =
            std::array::from_fn(|axis| if axes.contains(&(axis + 1)) { 1 } else { sides[axis] });
        self.map_step(operator, &[x.0, listed], sides)
    }

    fn reshape(&mut self, value: usize, shape: Vec<usize>) -> usize {
        let wanted = self.numbers(&[shape.len()], shape.iter().copied());
        self.step(Operator::Reshape, &[value, wanted], shape)
    }

    /// The part of a value of four sides that begins at `from`.
    fn slice(&mut self, value: usize, from: [usize; 4], size: [usize; 4]) -> usize {
        let (begin, sides) = (self.numbers(&[4], from), self.numbers(&[4], size));
        self.step(Operator::Slice, &[value, begin, sides], size.to_vec())
    }

    /// `[1, pixels, heads, channels of one]` as `[1, heads, pixels, channels of one]`, and back.
    fn exchanged(&mut self, value: usize) -> usize {
        let sides = &self.values[value].shape;
        let shape = vec![sides[0], sides[2], sides[1], sides[3]];
        let order = self.numbers(&[4], [0, 2, 1, 3]);
        self.step(Operator::Transpose, &[value, order], shape)
    }

    /// Learned pixels as a line; `values` are `[pixels, channels]`.
    fn line(&mut self, values: Vec<f32>, channels: usize) -> Map {
        let pixels = values.len() / channels.max(1);
        Map(self.floats(&[1, 1, pixels, channels], values))
    }

    /// `x · scale + shift`
    fn scaled(&mut self, x: Map, scale: Vec<f32>, shift: Vec<f32>) -> Map {
        let channels = [scale.len()];
        let (scale, shift) = (self.floats(&channels, scale), self.floats(&channels, shift));
        let scaled = self.binary(Operator::Multiply, x, scale);
        self.binary(Operator::Add(Fused::Nothing), scaled, shift)
    }

    /// A map with a value around it: above, left, below and right.
    fn padded(&mut self, x: Map, [above, left, below, right]: [usize; 4], value: f32) -> Map {
        let [height, width, channels] = self.sides(x);
        let border = self.numbers(&[4, 2], [0, 0, above, below, left, right, 0, 0]);
        let value = self.scalar(value);
        let sides = [height + above + below, width + left + right, channels];
        self.map_step(Operator::Pad, &[x.0, border, value], sides)
    }

    /// The answer of all maps.
    fn answer(&mut self, maps: &[Map]) -> usize {
        if let [map] = maps {
            let values = self.sides(*map).iter().product();
            return self.reshape(map.0, vec![1, values]);
        }
        let (mut rows, mut points, mut values) = (Vec::new(), 0, 0);
        for map in maps {
            let [height, width, channels] = self.sides(*map);
            (points, values) = (points + height * width, channels);
            rows.push(self.reshape(map.0, vec![1, height * width, channels]));
        }
        self.step(Operator::Concatenate(1), &rows, vec![1, points, values])
    }
}

impl Flow for Graph {
    type Map = Map;

    fn conv_bn(&mut self, x: Map, layer: &ConvBn, padding: Padding) -> Map {
        self.convolution(x, layer.folded_values(), &layer.conv, padding, layer.activation())
    }

    fn conv(&mut self, x: Map, layer: &Conv, activation: Activation) -> Map {
        self.convolution(x, layer.values(), layer, Padding::Even, activation)
    }

    fn batch_norm(&mut self, x: Map, layer: &BatchNorm) -> Map {
        let (scale, shift) = layer.affine_values();
        self.scaled(x, scale, shift)
    }

    fn layer_norm(&mut self, x: Map, layer: &LayerNorm) -> Map {
        let mean = self.reduce(Operator::Mean, x, &[3]);
        let centered = self.binary(Operator::Subtract, x, mean.0);
        let squares = self.binary(Operator::Multiply, centered, centered.0);
        let variance = self.reduce(Operator::Mean, squares, &[3]);
        let epsilon = self.scalar(layer.epsilon() as f32);
        let variance = self.binary(Operator::Add(Fused::Nothing), variance, epsilon);
        let deviation = self.unary(Operator::Root, variance);
        let normalized = self.binary(Operator::Divide, centered, deviation.0);
        let [scale, shift] = layer.values();
        self.scaled(normalized, scale, shift)
    }

    fn linear(&mut self, x: Map, weight: &Param<Tensor<2>>, bias: &Param<Tensor<1>>) -> Map {
        let weight = weight.val().transpose();
        let [channels_out, channels_in] = weight.dims();
        let weight = self.kernel([channels_out, channels_in, 1, 1], values_of(weight), false);
        let bias = self.floats(&[channels_out], values_of(bias.val()));
        let [height, width, _] = self.sides(x);
        let (stride, border, then) = (1, Border::Pixels([0; 4]), Fused::Nothing);
        let operator = Operator::Convolution { depthwise: false, stride, border, then };
        self.map_step(operator, &[x.0, weight, bias], [height, width, channels_out])
    }

    fn apply(&mut self, x: Map, function: Gate) -> Map {
        match function {
            Gate::Sigmoid => self.unary(Operator::Sigmoid, x),
            Gate::HardSigmoid => {
                let (three, sixth) = (self.scalar(3.0), self.scalar(1.0 / 6.0));
                let clipped = self.binary(Operator::Add(Fused::Relu6), x, three);
                self.binary(Operator::Multiply, clipped, sixth)
            }
            Gate::Tanh => self.unary(Operator::Tanh, x),
        }
    }

    fn activate(&mut self, x: Map, activation: Activation) -> Map {
        match activation {
            Activation::Identity => x,
            Activation::Relu => self.unary(Operator::Relu, x),
            Activation::Relu6 => self.unary(Operator::Relu6, x),
            Activation::HardSwish => self.unary(Operator::HardSwish, x),
            Activation::Silu => {
                let gate = self.unary(Operator::Sigmoid, x);
                self.binary(Operator::Multiply, x, gate.0)
            }
            Activation::QuickGelu => {
                let factor = self.scalar(Activation::QUICK);
                let scaled = self.binary(Operator::Multiply, x, factor);
                let gate = self.unary(Operator::Sigmoid, scaled);
                self.binary(Operator::Multiply, x, gate.0)
            }
            Activation::GeluTanh => {
                let [first, third] = Activation::TANH.map(|value| self.scalar(value));
                let square = self.binary(Operator::Multiply, x, x.0);
                let cubic = self.binary(Operator::Multiply, square, third);
                let factor = self.binary(Operator::Add(Fused::Nothing), cubic, first);
                let argument = self.binary(Operator::Multiply, x, factor.0);
                let gate = self.unary(Operator::Sigmoid, argument);
                self.binary(Operator::Multiply, x, gate.0)
            }
            // Neither format has had the error function from the beginning.
            Activation::Gelu => {
                let square = self.binary(Operator::Multiply, x, x.0);
                let end = self.scalar(Activation::GELU_END);
                let square = self.binary(Operator::Minimum, square, end);
                let [lowest, higher @ ..] = Activation::GELU;
                let mut sum: Option<Map> = None;
                for coefficient in higher.into_iter().rev() {
                    let coefficient = self.scalar(coefficient);
                    let factor = match sum {
                        Some(sum) => self.binary(Operator::Add(Fused::Nothing), sum, coefficient),
                        None => Map(coefficient),
                    };
                    sum = Some(self.binary(Operator::Multiply, square, factor.0));
                }
                let lowest = self.scalar(lowest);
                let factor = self.binary(Operator::Add(Fused::Nothing), sum.unwrap_or(x), lowest);
                let scaled = self.binary(Operator::Multiply, x, factor.0);
                let gate = self.unary(Operator::Sigmoid, scaled);
                self.binary(Operator::Multiply, x, gate.0)
            }
        }
    }

    fn dropout(&mut self, x: Map, probability: f64) -> Map {
        let factor = self.scalar((1.0 - probability) as f32);
        self.binary(Operator::Multiply, x, factor)
    }

    fn scale(&mut self, x: Map, gate: Map) -> Map {
        self.binary(Operator::Multiply, x, gate.0)
    }

    fn add(&mut self, a: Map, b: Map) -> Map {
        self.binary(Operator::Add(Fused::Nothing), a, b.0)
    }

    fn add_relu(&mut self, a: Map, b: Map) -> Map {
        self.binary(Operator::Add(Fused::Relu), a, b.0)
    }

    fn concatenate(&mut self, a: Map, b: Map) -> Map {
        let ([height, width, left], [.., right]) = (self.sides(a), self.sides(b));
        self.map_step(Operator::Concatenate(3), &[a.0, b.0], [height, width, left + right])
    }

    fn upsample(&mut self, x: Map) -> Map {
        self.enlarge(x, [2; 2])
    }

    fn max_pool(&mut self, x: Map) -> Map {
        let [height, width, channels] = self.sides(x);
        let padded = self.padded(x, [1; 4], LOWEST);
        let sides = [height.div_ceil(2), width.div_ceil(2), channels];
        let window = Window { kernel: [3; 2], stride: [2; 2] };
        self.map_step(Operator::MaxPool(window), &[padded.0], sides)
    }

    fn average_pool(&mut self, x: Map) -> Map {
        let [height, width, channels] = self.sides(x);
        let sides = [height.div_ceil(2), width.div_ceil(2), channels];
        self.map_step(Operator::HalfPool, &[x.0], sides)
    }

    fn global_pool(&mut self, x: Map, pool: GlobalPool) -> Map {
        let operator = match pool {
            GlobalPool::Average => Operator::Mean,
            GlobalPool::Max => Operator::Largest,
        };
        self.reduce(operator, x, &[1, 2])
    }

    fn aligned_logit(&mut self, class: Map, alignment: Map) -> Map {
        let class = self.apply(class, Gate::Sigmoid);
        let alignment = self.apply(alignment, Gate::Sigmoid);
        let product = self.binary(Operator::Multiply, class, alignment.0);
        let epsilon = self.scalar(SCORE_EPSILON as f32);
        let sum = self.binary(Operator::Add(Fused::Nothing), product, epsilon);
        let score = self.unary(Operator::Root, sum);
        let most = self.scalar(1.0 - SCORE_MARGIN as f32);
        let score = self.binary(Operator::Minimum, score, most);
        let (one, sides) = (self.scalar(1.0), self.sides(score));
        let rest = self.map_step(Operator::Subtract, &[one, score.0], sides);
        let quotient = self.binary(Operator::Divide, score, rest.0);
        self.unary(Operator::Logarithm, quotient)
    }

    fn multiply(&mut self, a: Map, b: Map) -> Map {
        self.binary(Operator::Multiply, a, b.0)
    }

    fn tokens(&mut self, x: Map, layer: &Tokens) -> Map {
        let [height, width, channels] = self.sides(x);
        let [before, added] = layer.values([height, width]);
        let pixels = height * width;
        let mut x = Map(self.reshape(x.0, vec![1, 1, pixels, channels]));
        if !added.is_empty() {
            let added = self.line(added, channels);
            x = self.binary(Operator::Add(Fused::Nothing), x, added.0);
        }
        if before.is_empty() {
            return x;
        }
        let sides = [1, layer.before() + pixels, channels];
        let before = self.line(before, channels);
        self.map_step(Operator::Concatenate(2), &[before.0, x.0], sides)
    }

    fn learned(&mut self, _: Map, pixels: &Param<Tensor<2>>) -> Map {
        self.line(values_of(pixels.val()), pixels.dims()[1])
    }

    fn first(&mut self, x: Map) -> Map {
        let [_, _, channels] = self.sides(x);
        Map(self.slice(x.0, [0; 4], [1, 1, 1, channels]))
    }

    fn behind(&mut self, x: Map, before: usize, like: &Map) -> Map {
        let ([_, pixels, channels], [height, width, _]) = (self.sides(x), self.sides(*like));
        let pixels = self.slice(x.0, [0, 0, before, 0], [1, 1, pixels - before, channels]);
        Map(self.reshape(pixels, vec![1, height, width, channels]))
    }

    fn rotate(&mut self, x: Map, rotary: &Rotary, like: &Map) -> Map {
        let ([_, pixels, channels], [height, width, _]) = (self.sides(x), self.sides(*like));
        let Rotary { head, before, .. } = *rotary;
        let (half, heads) = (head / 2, channels / head);
        let [cosines, sines] = rotary.angles([height, width]);
        // The tokens before the pixels have angles of 0.
        let mut table = |values: Vec<f32>, of_zero: f32| {
            let values = [vec![of_zero; before * half], values].concat();
            self.floats(&[1, pixels, 1, half], values)
        };
        let (cosines, sines) = (table(cosines, 1.0), table(sines, 0.0));
        let pairs = self.reshape(x.0, vec![1, pixels, heads, head]);
        let size = [1, pixels, heads, half];
        let a = self.slice(pairs, [0; 4], size);
        let b = self.slice(pairs, [0, 0, 0, half], size);
        let mut times = |a: usize, b: usize| self.step(Operator::Multiply, &[a, b], size.to_vec());
        let (straight, across) = (times(a, cosines), times(b, sines));
        let (second, turned) = (times(b, cosines), times(a, sines));
        let first = self.step(Operator::Subtract, &[straight, across], size.to_vec());
        let sum = Operator::Add(Fused::Nothing);
        let second = self.step(sum, &[second, turned], size.to_vec());
        let whole = vec![1, pixels, heads, head];
        let joined = self.step(Operator::Concatenate(3), &[first, second], whole);
        Map(self.reshape(joined, vec![1, 1, pixels, channels]))
    }

    fn attend(&mut self, [queries, keys, values]: [Map; 3], heads: usize) -> Map {
        let [height, width, channels] = self.sides(queries);
        let head = channels / heads;
        let mut apart = |x: Map| {
            let [height, width, _] = self.sides(x);
            let split = self.reshape(x.0, vec![1, height * width, heads, head]);
            self.exchanged(split)
        };
        let [asked, keys, values] = [queries, keys, values].map(&mut apart);
        let factor = self.scalar(1.0 / (head as f32).sqrt());
        let asked = self.binary(Operator::Multiply, Map(asked), factor).0;
        let [asking, told] = [asked, keys].map(|value| self.values[value].shape[2]);
        let sides = vec![1, heads, asking, told];
        let scores = self.step(Operator::Product { across: true }, &[asked, keys], sides);
        let shares = self.unary(Operator::Softmax, Map(scores)).0;
        let sides = vec![1, heads, asking, head];
        let mean = self.step(Operator::Product { across: false }, &[shares, values], sides);
        let mean = self.exchanged(mean);
        Map(self.reshape(mean, vec![1, height, width, channels]))
    }

    fn unit_length(&mut self, x: Map) -> Map {
        let squares = self.binary(Operator::Multiply, x, x.0);
        let sum = self.reduce(Operator::Sum, squares, &[3]);
        let epsilon = self.scalar(LENGTH_EPSILON as f32);
        let sum = self.binary(Operator::Add(Fused::Nothing), sum, epsilon);
        let length = self.unary(Operator::Root, sum);
        self.binary(Operator::Divide, x, length.0)
    }

    fn affine(&mut self, x: Map, layer: &Affine) -> Map {
        let [scale, shift] = layer.values();
        self.scaled(x, scale, shift)
    }

    fn pool(&mut self, x: Map, pool: &Pool) -> Map {
        let [height, width, channels] = self.sides(x);
        let sides @ [rows, columns] = pool.windows([height, width]);
        // As far as the last windows reach.
        let behind: [usize; 2] = std::array::from_fn(|axis| {
            let reach = (sides[axis] - 1) * pool.stride[axis] + pool.kernel[axis];
            reach.saturating_sub([height, width][axis] + pool.padding[axis])
        });
        let border = [pool.padding[0], pool.padding[1], behind[0], behind[1]];
        let window = Window { kernel: pool.kernel, stride: pool.stride };
        let (operator, fill) = match pool.pool {
            GlobalPool::Max => (Operator::MaxPool(window), LOWEST),
            GlobalPool::Average => (Operator::AveragePool(window), 0.0),
        };
        let x = if border == [0; 4] { x } else { self.padded(x, border, fill) };
        let y = self.map_step(operator, &[x.0], [rows, columns, channels]);
        if pool.pool == GlobalPool::Max || border == [0; 4] {
            return y;
        }
        // A mean over whole windows, of which some hold pixels that do not count.
        let whole = (pool.kernel[0] * pool.kernel[1]) as f32;
        let shares = (0..rows * columns).map(|place| {
            let (_, high) = pool.covered(0, place / columns, height);
            let (_, wide) = pool.covered(1, place % columns, width);
            whole / (high * wide) as f32
        });
        let shares = self.floats(&[1, rows, columns, 1], shares.collect());
        self.binary(Operator::Multiply, y, shares)
    }

    fn pick(&mut self, x: Map, pick: Pick) -> Map {
        let [height, width, _] = self.sides(x);
        let order = self.numbers(&[pick.count], (0..pick.count).map(|at| pick.source(at)));
        self.map_step(Operator::Gather, &[x.0, order], [height, width, pick.count])
    }

    fn enlarge(&mut self, x: Map, [down, right]: [usize; 2]) -> Map {
        let [height, width, channels] = self.sides(x);
        let (height, width) = (height * down, width * right);
        let size = self.numbers(&[2], [height, width]);
        self.map_step(Operator::Upsample, &[x.0, size], [height, width, channels])
    }
}
