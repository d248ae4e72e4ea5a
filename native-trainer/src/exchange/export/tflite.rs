//! LiteRT, formerly TensorFlow Lite.
//!
//! Source: the schema of its flat buffers, version 3,
//! <https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs>; the
//! numbers of fields, operators and options are the schema's.

use flatbuffers::{
    FlatBufferBuilder, ForwardsUOffset, TableFinishedWIPOffset, VOffsetT, Vector, WIPOffset,
};
use models::inference::Network;
use models::preprocess::Preprocess;

use super::operators::{Border, Constant, Fused, Operator, Step, Window};
use super::order::transposed;
use super::tensorflow::{Graph, graph};

/// Version of the schema.
const SCHEMA: u32 = 3;
/// What a file of it begins with, behind four bytes.
const MAGIC: &str = "TFL3";
/// Names of what goes in and comes out, and of the signature that tells them.
const INPUT: &str = "x";
const OUTPUT: &str = "y";
const SIGNATURE: &str = "serving_default";
/// `TensorType.FLOAT32` and `INT32`.
const FLOAT32: i8 = 0;
const INT32: i8 = 2;
/// `Padding.SAME` and `VALID`.
const SAME: i8 = 0;
const VALID: i8 = 1;
/// The largest operator code that the field for old readers takes.
const OLD_CODES: u8 = 127;

type Table = WIPOffset<TableFinishedWIPOffset>;
type Tables = WIPOffset<Vector<'static, ForwardsUOffset<TableFinishedWIPOffset>>>;
type Places = WIPOffset<Vector<'static, i32>>;

/// The bytes of a LiteRT file; see the [module above](super).
pub fn to_tflite(network: &impl Network, preprocess: &Preprocess) -> Vec<u8> {
    let (graph, input, output) = graph(network, preprocess);
    let mut writer = Writer::default();
    for (index, value) in graph.values.iter().enumerate() {
        let name = match index {
            _ if index == input => INPUT.to_owned(),
            _ if index == output => OUTPUT.to_owned(),
            _ => format!("v{index}"),
        };
        match &value.constant {
            Some(Constant::Kernel { values, depthwise }) => {
                // Channels last: of a depthwise kernel they are the first axis.
                let order = if *depthwise { [1, 2, 3, 0] } else { [0, 2, 3, 1] };
                let shape = order.map(|axis| value.shape[axis]);
                let values = transposed(values, &value.shape, order);
                writer.floats(&name, &shape, &values);
            }
            Some(Constant::Floats(values)) => writer.floats(&name, &value.shape, values),
            Some(Constant::Numbers(values)) => drop(writer.numbers(&name, &value.shape, values)),
            None => drop(writer.tensor(&name, &value.shape, FLOAT32, &[])),
        }
    }
    for step in &graph.steps {
        writer.step(&graph, step);
    }
    writer.finish(input, output)
}

/// Where a table keeps a field.
fn field(number: VOffsetT) -> VOffsetT {
    4 + 2 * number
}

/// A value of an operator's options.
#[derive(Clone, Copy)]
enum Setting {
    Byte(i8),
    Number(i32),
    Flag(bool),
    Float(f32),
}

struct Writer {
    builder: FlatBufferBuilder<'static>,
    buffers: Vec<Table>,
    tensors: Vec<Table>,
    operators: Vec<Table>,
    /// Codes of the operators that are used.
    codes: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        let mut writer = Self {
            builder: FlatBufferBuilder::new(),
            buffers: Vec::new(),
            tensors: Vec::new(),
            operators: Vec::new(),
            codes: Vec::new(),
        };
        // The first buffer is the one of everything that is computed.
        let empty = writer.table(|_| {});
        writer.buffers.push(empty);
        writer
    }
}

impl Writer {
    fn table(&mut self, fill: impl FnOnce(&mut FlatBufferBuilder<'static>)) -> Table {
        let start = self.builder.start_table();
        fill(&mut self.builder);
        let finished = self.builder.end_table(start);
        WIPOffset::new(finished.value())
    }

    fn list(&mut self, tables: &[Table]) -> Tables {
        self.builder.create_vector(tables)
    }

    fn places(&mut self, places: &[usize]) -> Places {
        let places: Vec<i32> = places.iter().map(|place| *place as i32).collect();
        self.builder.create_vector(&places)
    }

    /// Adds a tensor; without bytes, one that is computed. Its place.
    fn tensor(&mut self, name: &str, shape: &[usize], kind: i8, bytes: &[u8]) -> usize {
        let buffer = if bytes.is_empty() {
            0
        } else {
            let data = self.builder.create_vector(bytes);
            let buffer = self.table(|builder| builder.push_slot_always(field(0), data));
            self.buffers.push(buffer);
            self.buffers.len() - 1
        };
        let (shape, name) = (self.places(shape), self.builder.create_string(name));
        let tensor = self.table(|builder| {
            builder.push_slot_always(field(0), shape);
            builder.push_slot(field(1), kind, FLOAT32);
            builder.push_slot(field(2), buffer as u32, 0);
            builder.push_slot_always(field(3), name);
        });
        self.tensors.push(tensor);
        self.tensors.len() - 1
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, FLOAT32, &bytes);
    }

    fn numbers(&mut self, name: &str, shape: &[usize], values: &[i32]) -> usize {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, INT32, &bytes)
    }

    fn step(&mut self, graph: &Graph, step: &Step) {
        use Setting::{Byte, Flag, Float, Number};
        let mut inputs = step.inputs.clone();
        let (code, kind, settings): (u8, u8, Vec<(VOffsetT, Setting)>) = match step.operator {
            Operator::Convolution { depthwise, stride, border, then } => {
                let stride = Number(stride as i32);
                let padding = match border {
                    Border::Same => SAME,
                    Border::Pixels(pixels) => {
                        if pixels != [0; 4] {
                            inputs[0] =
                                self.padded(&graph.values[inputs[0]].shape, inputs[0], pixels);
                        }
                        VALID
                    }
                };
                let common = [(0, Byte(padding)), (1, stride), (2, stride)];
                let (code, kind, own) = if depthwise {
                    (4, 2, [(3, Number(1)), (4, fused(then))])
                } else {
                    // The second field is written as it is by default.
                    (3, 1, [(3, fused(then)), (4, Number(1))])
                };
                (code, kind, [&common[..], &own[..]].concat())
            }
            Operator::Add(then) => (0, 11, vec![(0, fused(then))]),
            Operator::Multiply => (18, 21, vec![]),
            Operator::Subtract => (41, 28, vec![]),
            Operator::Divide => (42, 29, vec![]),
            Operator::Minimum => (57, 39, vec![]),
            Operator::Relu => (19, 0, vec![]),
            Operator::Relu6 => (21, 0, vec![]),
            Operator::HardSwish => (117, 91, vec![]),
            Operator::Sigmoid => (14, 0, vec![]),
            Operator::Tanh => (28, 0, vec![]),
            Operator::Root => (75, 0, vec![]),
            Operator::Logarithm => (73, 0, vec![]),
            Operator::Mean => (40, 27, vec![(0, Flag(true))]),
            Operator::Sum => (74, 27, vec![(0, Flag(true))]),
            Operator::Largest => (82, 27, vec![(0, Flag(true))]),
            Operator::Concatenate(axis) => (2, 10, vec![(0, Number(axis as i32))]),
            Operator::Upsample => (97, 74, vec![]),
            Operator::Pad => (60, 43, vec![]),
            Operator::MaxPool(window) => (17, 5, pool(VALID, window)),
            Operator::AveragePool(window) => (1, 5, pool(VALID, window)),
            Operator::HalfPool => (1, 5, pool(SAME, Window { kernel: [2; 2], stride: [2; 2] })),
            Operator::Gather => (36, 23, vec![(0, Number(3))]),
            Operator::Reshape => (22, 17, vec![]),
            Operator::Slice => (65, 48, vec![]),
            Operator::Transpose => (39, 26, vec![]),
            Operator::Product { across } => (126, 101, vec![(1, Flag(across))]),
            Operator::Softmax => (25, 9, vec![(0, Float(1.0))]),
        };
        self.operator(code, kind, &settings, &inputs, step.output);
    }

    /// A map with zeros around it; its place.
    fn padded(&mut self, shape: &[usize], map: usize, pixels: [usize; 4]) -> usize {
        let [above, left, below, right] = pixels;
        let sides = [shape[0], shape[1] + above + below, shape[2] + left + right, shape[3]];
        let border = [0, 0, above, below, left, right, 0, 0].map(|side| side as i32);
        let name = format!("p{}", self.tensors.len());
        let border = self.numbers(&format!("{name} border"), &[4, 2], &border);
        let padded = self.tensor(&name, &sides, FLOAT32, &[]);
        self.operator(34, 22, &[], &[map, border], padded);
        padded
    }

    /// Adds an operator; `kind` 0 is one without options.
    fn operator(
        &mut self,
        code: u8,
        kind: u8,
        settings: &[(VOffsetT, Setting)],
        inputs: &[usize],
        output: usize,
    ) {
        let known = self.codes.iter().position(|known| *known == code);
        let index = known.unwrap_or_else(|| {
            self.codes.push(code);
            self.codes.len() - 1
        });
        let (inputs, outputs) = (self.places(inputs), self.places(&[output]));
        let options = self.table(|builder| {
            for (number, setting) in settings {
                match *setting {
                    Setting::Byte(value) => builder.push_slot_always(field(*number), value),
                    Setting::Number(value) => builder.push_slot_always(field(*number), value),
                    Setting::Flag(value) => builder.push_slot_always(field(*number), value),
                    Setting::Float(value) => builder.push_slot_always(field(*number), value),
                }
            }
        });
        let operator = self.table(|builder| {
            builder.push_slot(field(0), index as u32, 0);
            builder.push_slot_always(field(1), inputs);
            builder.push_slot_always(field(2), outputs);
            if kind != 0 {
                builder.push_slot_always(field(3), kind);
                builder.push_slot_always(field(4), options);
            }
        });
        self.operators.push(operator);
    }

    /// Names of input and output, by which programs other than plain interpreters ask for them.
    fn signature(&mut self, input: usize, output: usize) -> Table {
        let [inputs, outputs] = [(INPUT, input), (OUTPUT, output)].map(|(name, tensor)| {
            let name = self.builder.create_string(name);
            let named = self.table(|builder| {
                builder.push_slot_always(field(0), name);
                builder.push_slot_always(field(1), tensor as u32);
            });
            self.list(&[named])
        });
        let key = self.builder.create_string(SIGNATURE);
        self.table(|builder| {
            builder.push_slot_always(field(0), inputs);
            builder.push_slot_always(field(1), outputs);
            builder.push_slot_always(field(2), key);
        })
    }

    fn finish(mut self, input: usize, output: usize) -> Vec<u8> {
        let codes: Vec<Table> = std::mem::take(&mut self.codes)
            .into_iter()
            .map(|code| {
                self.table(|builder| {
                    builder.push_slot_always(field(0), code.min(OLD_CODES) as i8);
                    builder.push_slot_always(field(2), 1);
                    builder.push_slot_always(field(3), i32::from(code));
                })
            })
            .collect();
        let (tensors, operators) =
            (std::mem::take(&mut self.tensors), std::mem::take(&mut self.operators));
        let (tensors, operators) = (self.list(&tensors), self.list(&operators));
        let (inputs, outputs) = (self.places(&[input]), self.places(&[output]));
        let graph = self.table(|builder| {
            builder.push_slot_always(field(0), tensors);
            builder.push_slot_always(field(1), inputs);
            builder.push_slot_always(field(2), outputs);
            builder.push_slot_always(field(3), operators);
        });
        let buffers = std::mem::take(&mut self.buffers);
        let (codes, graphs, buffers) =
            (self.list(&codes), self.list(&[graph]), self.list(&buffers));
        let signature = self.signature(input, output);
        let signatures = self.list(&[signature]);
        let model = self.table(|builder| {
            builder.push_slot_always(field(0), SCHEMA);
            builder.push_slot_always(field(1), codes);
            builder.push_slot_always(field(2), graphs);
            builder.push_slot_always(field(4), buffers);
            builder.push_slot_always(field(7), signatures);
        });
        self.builder.finish(model, Some(MAGIC));
        self.builder.finished_data().to_vec()
    }
}

fn fused(then: Fused) -> Setting {
    Setting::Byte(match then {
        Fused::Nothing => 0,
        Fused::Relu => 1,
        Fused::Relu6 => 3,
    })
}

/// The settings of a pool: strides and sides, those to the right before those down.
fn pool(padding: i8, window: Window) -> Vec<(VOffsetT, Setting)> {
    let Window { kernel: [height, width], stride: [down, right] } = window;
    let mut settings = vec![(0, Setting::Byte(padding))];
    let numbers = [(1, right), (2, down), (3, width), (4, height)];
    settings.extend(numbers.map(|(at, number)| (at, Setting::Number(number as i32))));
    settings
}
