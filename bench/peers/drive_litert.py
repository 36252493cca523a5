"""Time a network in LiteRT; executed by the Python that has ai-edge-litert, not by ours.

Usage: python drive_litert.py BASE KIND SECONDS OUT.npz. BASE.json and BASE.npz are from `bench.plain`; KIND is
reference, builtin or xnnpack. Writes the float output (NCHW) to OUT.npz, prints JSON: CPU and wall seconds of each run.
The file is written here, operator by operator: int8 codes are the uint8 ones less 128; padding is a PAD of its own
where TensorFlow's SAME would pad elsewhere.
"""

import json
import sys
import time

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

TYPES = {np.dtype(np.float32): 0, np.dtype(np.int32): 2, np.dtype(np.int8): 9}
OPERATORS = schema.BuiltinOperator
OPTIONS = schema.BuiltinOptions


class Writer:
    """A .tflite model that grows."""

    def __init__(self):
        """An empty graph; buffer 0 is empty, as the format wants it."""
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model = schema.ModelT()
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.codes = {}

    def tensor(self, name, shape, dtype, data=None, scale=None, zero=None, axis=0):
        """Index of a new tensor."""
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name, [int(s) for s in shape], TYPES[np.dtype(dtype)], 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            t.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale is not None:
            q = schema.QuantizationParametersT()
            q.scale = np.atleast_1d(np.asarray(scale, np.float32))
            q.zeroPoint = np.broadcast_to(np.asarray(zero, np.int64), q.scale.shape).copy()
            q.quantizedDimension = axis
            t.quantization = q
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(self, op, inputs, output, kind=0, options=None, version=1):
        """A new operator."""
        if op not in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = op, min(op, 127), version
            self.codes[op] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = self.codes[op], inputs, [output]
        o.builtinOptionsType, o.builtinOptions = kind, options
        self.graph.operators.append(o)

    def bytes(self):
        """The file."""
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def nhwc(shape):
    """NCHW to NHWC; matrices stay."""
    return [shape[0], *shape[2:], shape[1]]


def conv(w, layer, arrays, x, out, tensors):
    """Convolution, depthwise or not, with its padding."""
    name, a = layer["output"], layer["attributes"]
    weight, scale, bias = (arrays[f"{name}.{p}"] for p in "wsb")
    source, pads, strides = tensors[layer["inputs"][0]], a["pads"], a["strides"]
    shape, kernel = source["shape"], a["kernel_shape"]
    same = strides == [1, 1] and all(k % 2 and p == k // 2 for k, p in zip(kernel * 2, pads, strict=True))
    if any(pads) and not same:
        padded = nhwc([shape[0], shape[1], shape[2] + pads[0] + pads[2], shape[3] + pads[1] + pads[3]])
        amounts = w.tensor(f"{name}.pads", [4, 2], np.int32, [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]])
        wider = w.tensor(f"{name}.padded", padded, np.int8, None, source["scale"], source["zero"] - 128)
        w.operator(OPERATORS.PAD, [x, amounts], wider, OPTIONS.PadOptions, schema.PadOptionsT(), 2)
        x = wider
    depthwise = a.get("group", 1) > 1
    weight = weight[:, 0].transpose(1, 2, 0)[None] if depthwise else weight.transpose(0, 2, 3, 1)
    k = w.tensor(f"{name}.w", weight.shape, np.int8, weight, scale, 0, 3 if depthwise else 0)
    b = w.tensor(f"{name}.b", bias.shape, np.int32, bias, scale * np.float32(source["scale"]), 0)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME if same else schema.Padding.VALID
    options.strideH, options.strideW = strides
    options.dilationHFactor = options.dilationWFactor = 1
    if depthwise:
        options.depthMultiplier = 1
        w.operator(OPERATORS.DEPTHWISE_CONV_2D, [x, k, b], out, OPTIONS.DepthwiseConv2DOptions, options, 3)
    else:
        w.operator(OPERATORS.CONV_2D, [x, k, b], out, OPTIONS.Conv2DOptions, options, 3)


def build(net, arrays):
    """The .tflite bytes."""
    w, index, tensors = Writer(), {}, net["tensors"]

    def codes(name):
        t = tensors[name]
        shape = nhwc(t["shape"]) if len(t["shape"]) == 4 else t["shape"]
        return w.tensor(name, shape, np.int8, None, t["scale"], t["zero"] - 128)

    first = net["input"]
    index[first] = codes(first)
    real = w.tensor("real", w.graph.tensors[index[first]].shape, np.float32)
    w.operator(OPERATORS.QUANTIZE, [real], index[first], OPTIONS.QuantizeOptions, schema.QuantizeOptionsT())
    for layer in net["layers"]:
        name, op = layer["output"], layer["op"]
        xs = [index[i] for i in layer["inputs"]]
        out = index[name] = codes(name)
        shape = w.graph.tensors[out].shape
        if op == "conv":
            conv(w, layer, arrays, xs[0], out, tensors)
        elif op == "dense":
            weight, scale, bias = (arrays[f"{name}.{p}"] for p in "wsb")
            k = w.tensor(f"{name}.w", weight.shape, np.int8, weight, scale, 0)
            scale = scale * np.float32(tensors[layer["inputs"][0]]["scale"])
            b = w.tensor(f"{name}.b", bias.shape, np.int32, bias, scale, 0)
            w.operator(OPERATORS.FULLY_CONNECTED, [*xs, k, b], out, OPTIONS.FullyConnectedOptions,
                       schema.FullyConnectedOptionsT(), 5)  # fmt: skip
        elif op == "upsample":
            size = w.tensor(f"{name}.size", [2], np.int32, shape[1:3])
            w.operator(OPERATORS.RESIZE_NEAREST_NEIGHBOR, [*xs, size], out, OPTIONS.ResizeNearestNeighborOptions,
                       schema.ResizeNearestNeighborOptionsT(), 2)  # fmt: skip
        elif op == "concat":
            options = schema.ConcatenationOptionsT()
            options.axis = 3
            w.operator(OPERATORS.CONCATENATION, xs, out, OPTIONS.ConcatenationOptions, options, 2)
        elif op == "add":
            w.operator(OPERATORS.ADD, xs, out, OPTIONS.AddOptions, schema.AddOptionsT(), 2)
        elif op == "mean":
            options = schema.ReducerOptionsT()
            options.keepDims = True
            axes = w.tensor(f"{name}.axes", [2], np.int32, [1, 2])
            w.operator(OPERATORS.MEAN, [*xs, axes], out, OPTIONS.ReducerOptions, options, 2)
        elif op == "flatten":
            to = w.tensor(f"{name}.shape", [2], np.int32, shape)
            w.operator(OPERATORS.RESHAPE, [*xs, to], out, OPTIONS.ReshapeOptions, schema.ReshapeOptionsT())
        else:
            raise ValueError(f"{op} is not written here")
    last = w.tensor("answer", w.graph.tensors[out].shape, np.float32)
    w.operator(OPERATORS.DEQUANTIZE, [out], last, OPTIONS.DequantizeOptions, schema.DequantizeOptionsT(), 2)
    w.graph.inputs, w.graph.outputs = [real], [last]
    return w.bytes()


def main(base, kind, seconds, out):
    """Build, run, write."""
    with open(f"{base}.json") as file:
        net = json.load(file)
    arrays = np.load(f"{base}.npz")
    x = arrays["input"]
    resolver = litert.OpResolverType
    kinds = {"reference": resolver.BUILTIN_REF, "builtin": resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    model = build(net, arrays)
    runner = litert.Interpreter(
        model_content=model, num_threads=1, experimental_op_resolver_type=kinds.get(kind, resolver.BUILTIN)
    )
    runner.allocate_tensors()
    given, answer = runner.get_input_details()[0]["index"], runner.get_output_details()[0]["index"]
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x

    def run():
        runner.set_tensor(given, x)
        runner.invoke()
        return runner.get_tensor(answer)

    y = run()
    cpu, wall, begin = [], [], time.perf_counter()
    while len(cpu) < 3 or (time.perf_counter() - begin < seconds and len(cpu) < 200):
        w, c = time.perf_counter(), time.process_time()
        run()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    np.savez(out, y=y.transpose(0, 3, 1, 2) if y.ndim == 4 else y)
    print(json.dumps({"cpu": cpu, "wall": wall}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
