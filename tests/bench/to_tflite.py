"""Rewrites the ONNX files of `cargo run --example networks -- write FOLDER` for LiteRT.

python to_tflite.py FOLDER

Channels move last, activations into the convolutions that have room for one, padding that
TensorFlow's SAME does not give becomes a step of its own (which XNNPACK joins to the convolution).
"""
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import tflite
from onnx import numpy_helper, shape_inference

FLOAT, INT32 = tflite.TensorType.FLOAT32, tflite.TensorType.INT32
ACTIVATION = tflite.ActivationFunctionType
OPERATOR = tflite.BuiltinOperator


class Writer:
    def __init__(self):
        self.builder = flatbuffers.Builder(1 << 20)
        self.buffers = [b""]
        self.tensors = []  # (shape, type, buffer, name)
        self.codes = []
        self.operators = []

    def tensor(self, shape, kind=FLOAT, values=None, name=""):
        buffer = 0
        if values is not None:
            self.buffers.append(np.ascontiguousarray(values).tobytes())
            buffer = len(self.buffers) - 1
        self.tensors.append((list(shape), kind, buffer, name or f"t{len(self.tensors)}"))
        return len(self.tensors) - 1

    def floats(self, values):
        values = np.asarray(values, np.float32)
        return self.tensor(values.shape, FLOAT, values)

    def ints(self, values):
        values = np.asarray(values, np.int32)
        return self.tensor(values.shape, INT32, values)

    def operator(self, code, inputs, outputs, options=None):
        """`options`: (name of the table, {field: value})"""
        if code not in self.codes:
            self.codes.append(code)
        self.operators.append((self.codes.index(code), inputs, outputs, options))

    def vector(self, values, start):
        values = list(values)
        start(self.builder, len(values))
        for value in reversed(values):
            self.builder.PrependInt32(int(value))
        return self.builder.EndVector()

    def tables(self, tables, start):
        start(self.builder, len(tables))
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return self.builder.EndVector()

    def finish(self, inputs, outputs):
        b = self.builder
        buffers = []
        for data in self.buffers:
            vector = None
            if data:
                b.StartVector(1, len(data), 16)
                b.head = b.head - len(data)
                b.Bytes[b.head : b.head + len(data)] = data
                vector = b.EndVector()
            tflite.BufferStart(b)
            if vector is not None:
                tflite.BufferAddData(b, vector)
            buffers.append(tflite.BufferEnd(b))
        tensors = []
        for shape, kind, buffer, name in self.tensors:
            name = b.CreateString(name)
            shape = self.vector(shape, tflite.TensorStartShapeVector)
            tflite.TensorStart(b)
            tflite.TensorAddShape(b, shape)
            tflite.TensorAddType(b, kind)
            tflite.TensorAddBuffer(b, buffer)
            tflite.TensorAddName(b, name)
            tensors.append(tflite.TensorEnd(b))
        operators = []
        for code, ins, outs, options in self.operators:
            table = None
            if options:
                name, fields = options
                extra = {}
                for field, value in fields.items():
                    if isinstance(value, list):
                        start = getattr(tflite, f"{name}Start{field}Vector")
                        extra[field] = self.vector(value, start)
                getattr(tflite, f"{name}Start")(b)
                for field, value in fields.items():
                    getattr(tflite, f"{name}Add{field}")(b, extra.get(field, value))
                table = getattr(tflite, f"{name}End")(b)
            ins = self.vector(ins, tflite.OperatorStartInputsVector)
            outs = self.vector(outs, tflite.OperatorStartOutputsVector)
            tflite.OperatorStart(b)
            tflite.OperatorAddOpcodeIndex(b, code)
            tflite.OperatorAddInputs(b, ins)
            tflite.OperatorAddOutputs(b, outs)
            if table is not None:
                tflite.OperatorAddBuiltinOptionsType(
                    b, getattr(tflite.BuiltinOptions, options[0])
                )
                tflite.OperatorAddBuiltinOptions(b, table)
            operators.append(tflite.OperatorEnd(b))
        codes = []
        for code in self.codes:
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(b, code)
            tflite.OperatorCodeAddVersion(b, 1)
            codes.append(tflite.OperatorCodeEnd(b))
        tensors = self.tables(tensors, tflite.SubGraphStartTensorsVector)
        operators = self.tables(operators, tflite.SubGraphStartOperatorsVector)
        ins = self.vector(inputs, tflite.SubGraphStartInputsVector)
        outs = self.vector(outputs, tflite.SubGraphStartOutputsVector)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, ins)
        tflite.SubGraphAddOutputs(b, outs)
        tflite.SubGraphAddOperators(b, operators)
        graph = self.tables([tflite.SubGraphEnd(b)], tflite.ModelStartSubgraphsVector)
        codes = self.tables(codes, tflite.ModelStartOperatorCodesVector)
        buffers = self.tables(buffers, tflite.ModelStartBuffersVector)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graph)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())


def last(shape):
    """Channels last."""
    return [shape[0], shape[2], shape[3], shape[1]] if len(shape) == 4 else list(shape)


def convert(path):
    model = shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*graph.value_info, *graph.input, *graph.output]
    }
    users = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    w = Writer()
    known = {"x": w.tensor(last(shapes["x"]), name="x")}
    skipped = {}

    def value(name):
        if name in known:
            return known[name]
        array = constants[name].astype(np.float32)
        if array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        known[name] = w.floats(array if array.ndim else array.reshape(1))
        return known[name]

    def output(node, shape=None):
        known[node.output[0]] = w.tensor(shape or last(shapes[node.output[0]]), name=node.output[0])
        return known[node.output[0]]

    def binary(code, table, node, a, b):
        options = (table, {"FusedActivationFunction": ACTIVATION.NONE})
        w.operator(code, [a, b], [output(node)], options)

    for node in graph.node:
        if node.output[0] in skipped:
            known[node.output[0]] = skipped[node.output[0]]
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        kind = node.op_type
        if kind == "Conv":
            weight = constants[node.input[1]]
            out_channels, _, kernel, _ = weight.shape
            stride = attributes.get("strides", [1, 1])[0]
            top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
            x = value(node.input[0])
            shape = last(shapes[node.input[0]])
            same = stride == 1 and top == bottom == (kernel - 1) // 2
            if not same and top + bottom > 0:
                padded = w.tensor([1, shape[1] + top + bottom, shape[2] + left + right, shape[3]])
                pads = w.ints([[0, 0], [top, bottom], [left, right], [0, 0]])
                w.operator(OPERATOR.PAD, [x, pads], [padded], ("PadOptions", {}))
                x = padded
            bias = (
                constants[node.input[2]]
                if len(node.input) > 2
                else np.zeros(out_channels, np.float32)
            )
            following = users.get(node.output[0], [])
            fused = len(following) == 1 and following[0].op_type == "Relu"
            y = w.tensor(last(shapes[node.output[0]]))
            known[node.output[0]] = y
            if fused:
                skipped[following[0].output[0]] = y
            options = {
                "Padding": tflite.Padding.SAME if same else tflite.Padding.VALID,
                "StrideW": stride,
                "StrideH": stride,
                "DilationWFactor": 1,
                "DilationHFactor": 1,
                "FusedActivationFunction": ACTIVATION.RELU if fused else ACTIVATION.NONE,
            }
            if attributes.get("group", 1) > 1:
                weights = w.floats(weight.transpose(1, 2, 3, 0))
                options["DepthMultiplier"] = 1
                code, table = OPERATOR.DEPTHWISE_CONV_2D, "DepthwiseConv2DOptions"
            else:
                weights = w.floats(weight.transpose(0, 2, 3, 1))
                code, table = OPERATOR.CONV_2D, "Conv2DOptions"
            w.operator(code, [x, weights, w.floats(bias)], [y], (table, options))
        elif kind in ("Relu", "HardSwish", "Sigmoid", "Tanh", "Sqrt"):
            code, table = {
                "Relu": (OPERATOR.RELU, None),
                "HardSwish": (OPERATOR.HARD_SWISH, "HardSwishOptions"),
                "Sigmoid": (OPERATOR.LOGISTIC, None),
                "Tanh": (OPERATOR.TANH, None),
                "Sqrt": (OPERATOR.SQRT, None),
            }[kind]
            x = value(node.input[0])
            w.operator(code, [x], [output(node)], (table, {}) if table else None)
        elif kind == "HardSigmoid":
            x, shape = value(node.input[0]), last(shapes[node.input[0]])
            sum6 = w.tensor(shape)
            relu6 = ("AddOptions", {"FusedActivationFunction": ACTIVATION.RELU6})
            w.operator(OPERATOR.ADD, [x, w.floats([3.0])], [sum6], relu6)
            none = ("MulOptions", {"FusedActivationFunction": ACTIVATION.NONE})
            w.operator(OPERATOR.MUL, [sum6, w.floats([1 / 6])], [output(node)], none)
        elif kind in ("Mul", "Add", "Div"):
            code = {"Mul": OPERATOR.MUL, "Add": OPERATOR.ADD, "Div": OPERATOR.DIV}[kind]
            a, b = value(node.input[0]), value(node.input[1])
            binary(code, f"{kind}Options", node, a, b)
        elif kind in ("GlobalAveragePool", "ReduceSum"):
            axes = [1, 2] if kind == "GlobalAveragePool" else [3]
            code = OPERATOR.MEAN if kind == "GlobalAveragePool" else OPERATOR.SUM
            inputs = [value(node.input[0]), w.ints(axes)]
            w.operator(code, inputs, [output(node)], ("ReducerOptions", {"KeepDims": True}))
        elif kind == "Concat":
            inputs = [value(name) for name in node.input]
            axis = 3 if len(shapes[node.output[0]]) == 4 else 1
            options = {"Axis": axis, "FusedActivationFunction": ACTIVATION.NONE}
            table = ("ConcatenationOptions", options)
            w.operator(OPERATOR.CONCATENATION, inputs, [output(node)], table)
        elif kind == "Resize":
            size = w.ints(last(shapes[node.output[0]])[1:3])
            options = ("ResizeNearestNeighborOptions", {"AlignCorners": False})
            inputs = [value(node.input[0]), size]
            w.operator(OPERATOR.RESIZE_NEAREST_NEIGHBOR, inputs, [output(node)], options)
        elif kind == "Transpose":
            known[node.output[0]] = value(node.input[0])
        elif kind in ("Flatten", "Reshape"):
            shape = shapes[node.output[0]]
            inputs = [value(node.input[0]), w.ints(shape)]
            options = ("ReshapeOptions", {"NewShape": shape})
            w.operator(OPERATOR.RESHAPE, inputs, [output(node, shape)], options)
        else:
            raise SystemExit(f"{path}: no rule for {kind}")
    path.with_suffix(".tflite").write_bytes(w.finish([known["x"]], [known["y"]]))


for file in sorted(Path(sys.argv[1]).glob("*.onnx")):
    convert(file)
