"""TensorFlow Lite files written by hand, with the schema's own builder functions."""

from __future__ import annotations

import flatbuffers
import numpy as np
import tflite

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
SAME, VALID = tflite.Padding.SAME, tflite.Padding.VALID
ACT = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}


class Net:
    """A .tflite model that grows; tensors are numbers."""

    def __init__(self):
        self.tensors, self.operators, self.buffers = [], [], [b""]
        self.inputs, self.outputs = [], []

    def tensor(self, name, shape, dtype="int8", data=None, scale=None, zero=0, axis=0, kind=None, **more):
        """`kind` is a number of the schema where numpy has no such type; `more` are fields of the table Tensor."""
        buffer = 0
        if data is not None:
            data = data if isinstance(data, bytes) else np.asarray(data).astype(dtype).tobytes()
            buffer = len(self.buffers)
            self.buffers.append(data)
        self.tensors.append((name, shape, TYPES[dtype] if kind is None else kind, buffer, scale, zero, axis, more))
        return len(self.tensors) - 1

    def constant(self, name, values, dtype="int32"):
        values = np.asarray(values)
        return self.tensor(name, values.shape, dtype, values)

    def operator(self, kind, inputs, outputs, table=None, custom=None, **options):
        """`table`: the options' table, with its fields."""
        made = [outputs] if isinstance(outputs, int) else outputs
        self.operators.append((kind, inputs, made, table, options, custom))
        return outputs

    def bytes(self, version=3, subgraphs=1):
        b = flatbuffers.Builder(1 << 16)

        def vector(start, values, put, size=4):
            start(b, len(values))
            for v in reversed(list(values)):
                put(v)
            return b.EndVector()

        def ints(start, values):
            return vector(start, [int(v) for v in values], b.PrependInt32)

        buffers = []
        for data in self.buffers:
            held = b.CreateByteVector(data) if data else None
            tflite.BufferStart(b)
            if held is not None:
                tflite.BufferAddData(b, held)
            buffers.append(tflite.BufferEnd(b))
        tensors = [self._tensor(b, t, vector, ints) for t in self.tensors]
        codes, known = [], {}
        for kind, *_, custom in self.operators:
            if (kind, custom) not in known:
                text = b.CreateString(custom) if custom else None
                number = getattr(tflite.BuiltinOperator, kind)
                tflite.OperatorCodeStart(b)
                tflite.OperatorCodeAddBuiltinCode(b, number)
                tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
                tflite.OperatorCodeAddVersion(b, VERSIONS.get(kind, 1))
                if text is not None:
                    tflite.OperatorCodeAddCustomCode(b, text)
                known[kind, custom] = len(codes)
                codes.append(tflite.OperatorCodeEnd(b))
        operators = [self._operator(b, o, known, ints) for o in self.operators]
        offsets = lambda start, values: vector(start, values, b.PrependUOffsetTRelative)  # noqa: E731
        tensors, operators = (
            offsets(tflite.SubGraphStartTensorsVector, tensors),
            offsets(tflite.SubGraphStartOperatorsVector, operators),
        )
        ends = (
            ints(tflite.SubGraphStartInputsVector, self.inputs),
            ints(tflite.SubGraphStartOutputsVector, self.outputs),
        )
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, ends[0])
        tflite.SubGraphAddOutputs(b, ends[1])
        tflite.SubGraphAddOperators(b, operators)
        graph = tflite.SubGraphEnd(b)
        graphs = offsets(tflite.ModelStartSubgraphsVector, [graph] * subgraphs)
        codes, buffers = (
            offsets(tflite.ModelStartOperatorCodesVector, codes),
            offsets(tflite.ModelStartBuffersVector, buffers),
        )
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, version)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _tensor(self, b, tensor, vector, ints):
        name, shape, kind, buffer, scale, zero, axis, more = tensor
        quantization = None
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
            held = vector(tflite.QuantizationParametersStartScaleVector, scales.tolist(), b.PrependFloat32)
            points = vector(tflite.QuantizationParametersStartZeroPointVector, zeros.tolist(), b.PrependInt64)
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, held)
            tflite.QuantizationParametersAddZeroPoint(b, points)
            tflite.QuantizationParametersAddQuantizedDimension(b, axis)
            quantization = tflite.QuantizationParametersEnd(b)
        text, dims = b.CreateString(name), ints(tflite.TensorStartShapeVector, shape)
        if "Sparsity" in more:
            tflite.SparsityParametersStart(b)
            more = {**more, "Sparsity": tflite.SparsityParametersEnd(b)}
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, dims)
        tflite.TensorAddType(b, kind)
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, text)
        for field, value in more.items():
            getattr(tflite, f"TensorAdd{field}")(b, value)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        return tflite.TensorEnd(b)

    def _operator(self, b, operator, known, ints):
        kind, inputs, outputs, table, options, custom = operator
        held = None
        if table is not None:
            options = {
                f: ints(getattr(tflite, f"{table}Start{f}Vector"), v) if isinstance(v, list) else v
                for f, v in options.items()
            }
            getattr(tflite, f"{table}Start")(b)
            for field, value in options.items():
                getattr(tflite, f"{table}Add{field}")(b, value)
            held = getattr(tflite, f"{table}End")(b)
        ends = ints(tflite.OperatorStartInputsVector, inputs), ints(tflite.OperatorStartOutputsVector, outputs)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, known[kind, custom])
        tflite.OperatorAddInputs(b, ends[0])
        tflite.OperatorAddOutputs(b, ends[1])
        if held is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, table))
            tflite.OperatorAddBuiltinOptions(b, held)
        return tflite.OperatorEnd(b)


VERSIONS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "SUB", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D"), 3),
    **dict.fromkeys(("MEAN", "CONCATENATION", "SOFTMAX", "LOGISTIC", "TANH", "QUANTIZE", "DEQUANTIZE"), 3),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE_CONV", "STRIDED_SLICE", "SPLIT"), 4),
    **dict.fromkeys(("PAD", "PADV2", "TRANSPOSE", "SLICE", "LEAKY_RELU", "RELU"), 2),
    "FULLY_CONNECTED": 5,
}
"""Of kernels with quantized inputs; the interpreter looks an operator up with its version."""
