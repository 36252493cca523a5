"""The ONNX graph that a .tflite file becomes: quantized tensors in two layouts, and the operator at work.

A tensor of the file keeps its name, as integer codes in the file's own layout. Where an operator of ONNX wants channels
first, the same codes transposed are another tensor, `NAME~nchw`; each layout is made once, when somebody reads it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intsim.errors import IntsimError
from intsim.frontend.names import EVEN_ENDS, SOURCE_FILE, SOURCE_NODE, SOURCE_OPERATOR, Fresh
from intsim.frontend.tflite.file import ACTIVATIONS, FileOperator, FileTensor, TfliteFile

OPSET = 21
"""The first with QuantizeLinear of 16 bits."""
ELEMENTS = {
    "FLOAT32": TensorProto.FLOAT,
    "INT8": TensorProto.INT8,
    "UINT8": TensorProto.UINT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL,
    "INT4": TensorProto.INT4,
}
FULL_INTEGER = (
    "convert with full integer quantization (a representative dataset, and int8 or int16 activations), so that only "
    "QUANTIZE reads floats and only DEQUANTIZE makes them"
)


class Unsupported(IntsimError):  # noqa: N818 - it says what an operator is
    """An operator that can't be translated; the text says why, without file and node."""


def first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape N, H, W, C as N, C, H, W."""
    n, h, w, c = shape
    return n, c, h, w


class Network:
    """An ONNX graph that grows operator by operator.

    `known` holds what the operators that compute shapes made: constants of the file, in effect.
    """

    def __init__(self, file: TfliteFile) -> None:
        """Start with the file's inputs."""
        self.file = file
        self.known: dict[int, np.ndarray] = {}
        self.broken: set[int] = set()
        self.at: FileOperator | None = None
        self.even_ends: tuple[int, int] | None = None
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._fresh = Fresh([t.name for t in file.tensors])
        self._layouts: dict[int, dict[bool, str]] = {i: {False: file.tensors[i].name} for i in file.inputs}
        self._reals: dict[tuple[int, bool], str] = {}
        self._parameters: dict[int, list[str]] = {}

    # ---- nodes and constants

    def node(self, op: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Append a node of the operator at work; returns the name of its output, a new one if none is given."""
        return self.nodes(op, inputs, [output or self._fresh(f"{self._stem()}~{op}")], **attributes)[0]

    def nodes(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        assert self.at is not None
        made = helper.make_node(op, inputs, outputs, name=self._fresh(f"{self.at.name}/{op}"), **attributes)
        made.metadata_props.add(key=SOURCE_OPERATOR, value=self.at.kind)
        made.metadata_props.add(key=SOURCE_NODE, value=self.at.name)
        if self.even_ends is not None:
            made.metadata_props.add(key=EVEN_ENDS, value="{},{}".format(*self.even_ends))
        self._nodes.append(made)
        return outputs

    def constant(self, what: str, array: np.ndarray, nibbles: bool = False) -> str:
        """The name of a new initializer; `nibbles`: as int4."""
        name = self._fresh(f"{self._stem()}~{what}")
        if nibbles:
            made = helper.make_tensor(name, TensorProto.INT4, array.shape, array.reshape(-1).tolist())
        else:
            made = numpy_helper.from_array(np.asarray(array, order="C"), name)
        self._constants.append(made)
        return name

    def _stem(self) -> str:
        assert self.at is not None
        return self.file.tensors[self.at.outputs[0]].name if self.at.outputs else self.at.name

    # ---- the operator at work

    def tensor(self, position: int) -> FileTensor:
        """The input at a position; refused if it is left out."""
        assert self.at is not None
        if position >= len(self.at.inputs) or self.at.inputs[position] < 0:
            raise Unsupported(f"its input {position} is missing")
        return self.file.tensors[self.at.inputs[position]]

    def given(self, position: int) -> bool:
        """Whether an optional input is there."""
        assert self.at is not None
        return position < len(self.at.inputs) and self.at.inputs[position] >= 0

    def output(self, position: int = 0) -> FileTensor:
        """The output at a position."""
        assert self.at is not None
        if position >= len(self.at.outputs):
            raise Unsupported("it has no output")
        return self.file.tensors[self.at.outputs[position]]

    def option(self, name: str) -> Any:
        """An option of the operator at work."""
        assert self.at is not None
        return self.at.options[name]

    def numbers(self, position: int, what: str) -> list[int]:
        """A constant input of integers as a list; refused if it is computed from the data."""
        tensor = self.tensor(position)
        array = self.known.get(tensor.index, tensor.data)
        if array is None or tensor.kind not in ("INT32", "INT64"):
            raise Unsupported(f"its {what} ({tensor.name}) is not a constant of integers; shapes must be fixed")
        return [int(v) for v in array.reshape(-1)]

    def activation(self, tensor: FileTensor) -> FileTensor:
        """The tensor itself, if it is quantized with one scale; refused otherwise."""
        if tensor.kind == "FLOAT32":
            raise Unsupported(f"its tensor {tensor.name} is float32, in the middle of the network; {FULL_INTEGER}")
        if tensor.kind not in ACTIVATIONS or not tensor.quantized:
            what = tensor.kind.lower() + ("" if tensor.quantized else " without a scale")
            raise Unsupported(f"its tensor {tensor.name} is {what}; quantized activations are int8, uint8 or int16")
        if tensor.scales.size != 1:
            raise Unsupported(f"its tensor {tensor.name} has a scale for each channel; activations have one")
        if tensor.kind == "INT16" and tensor.zeros.any():
            raise Unsupported(f"its int16 tensor {tensor.name} has zero point {tensor.zeros[0]}; 16 bits are symmetric")
        return tensor

    # ---- integer codes

    def has(self, tensor: FileTensor, channels_first: bool) -> bool:
        """Whether a tensor's codes are there in a layout; constants are in both."""
        return tensor.data is not None or channels_first in self._layouts.get(tensor.index, {})

    def codes(self, tensor: FileTensor, channels_first: bool = False) -> str:
        """The name of a tensor's codes in a layout (channels first: of 4 axes alone)."""
        layouts = self._layouts.setdefault(tensor.index, {})
        if channels_first not in layouts:
            layouts[channels_first] = self._laid(tensor, channels_first, layouts)
        return layouts[channels_first]

    def name(self, tensor: FileTensor, channels_first: bool) -> str:
        """The name that a tensor's codes get in a layout."""
        return self._fresh(f"{tensor.name}~nchw") if channels_first else tensor.name

    def _laid(self, tensor: FileTensor, channels_first: bool, layouts: dict[bool, str]) -> str:
        name = self.name(tensor, channels_first)
        if tensor.data is not None:
            array = tensor.data.transpose(0, 3, 1, 2) if channels_first else tensor.data
            self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
            return name
        if not layouts:
            raise Unsupported(f"its input {tensor.name} is made by no operator before it")
        _, h, w, c = tensor.shape
        other = layouts[not channels_first]
        if h * w == 1 or c == 1:
            shape = first(tensor.shape) if channels_first else tensor.shape
            return self.node("Reshape", [other, self.constant("shape", np.array(shape, np.int64))], name)
        return self.node("Transpose", [other], name, perm=[0, 3, 1, 2] if channels_first else [0, 2, 3, 1])

    def real(self, tensor: FileTensor, channels_first: bool = False) -> str:
        """The real numbers that an activation's codes mean."""
        key = tensor.index, channels_first
        if key not in self._reals:
            self.activation(tensor)
            codes = self.codes(tensor, channels_first)
            self._reals[key] = self.node("DequantizeLinear", [codes, *self.parameters(tensor)])
        return self._reals[key]

    def parameters(self, tensor: FileTensor) -> list[str]:
        """Scale and zero point of an activation, as initializers."""
        if tensor.index not in self._parameters:
            zero = tensor.zeros.astype(tensor.dtype).reshape(())
            names = [self.constant("scale", tensor.scales.reshape(())), self.constant("zero", zero)]
            self._parameters[tensor.index] = names
        return self._parameters[tensor.index]

    # ---- what an operator makes

    def check_shape(self, tensor: FileTensor, shape: tuple[int, ...]) -> None:
        """Refuse an output whose declared shape isn't what the operator makes."""
        if tuple(shape) != tensor.shape:
            raise Unsupported(
                f"it makes {tensor.name} of shape {list(shape)}, the file declares {list(tensor.shape)}; "
                "the file is damaged, or its shapes are dynamic"
            )

    def quantize(
        self,
        real: str,
        shape: tuple[int, ...],
        channels_first: bool = False,
        bounds: tuple[int, int] | None = None,
        tensor: FileTensor | None = None,
    ) -> None:
        """The output's codes from real numbers, within `bounds`; `shape` is the result's in the file's layout."""
        tensor = self.activation(tensor or self.output())
        self.check_shape(tensor, shape)
        inputs = [real, *self.parameters(tensor)]
        if bounds is None:
            self.made(tensor, self.node("QuantizeLinear", inputs, self.name(tensor, channels_first)), channels_first)
        else:
            self.clip(self.node("QuantizeLinear", inputs), tensor, channels_first, bounds)

    def clip(self, codes: str, tensor: FileTensor, channels_first: bool, bounds: tuple[int, int]) -> None:
        """The output's codes from codes that a fused activation clamps."""
        edges = [
            self.constant(what, np.array(b, tensor.dtype)) for what, b in zip(("low", "high"), bounds, strict=True)
        ]
        self.made(tensor, self.node("Clip", [codes, *edges], self.name(tensor, channels_first)), channels_first)

    def move(
        self, op: str, inputs: list[str], shape: tuple[int, ...], channels_first: bool = False, **attributes: Any
    ) -> None:
        """The output's codes by one node that only moves codes."""
        tensor = self.output()
        self.check_shape(tensor, shape)
        self.made(tensor, self.node(op, inputs, self.name(tensor, channels_first), **attributes), channels_first)

    def made(self, tensor: FileTensor, codes: str, channels_first: bool = False) -> None:
        """Remember where an output's codes are."""
        if tensor.data is not None or self._layouts.get(tensor.index):
            raise Unsupported(f"its output {tensor.name} is a constant, an input or made before; the file is damaged")
        self._layouts[tensor.index] = {channels_first: codes}

    def know(self, values: np.ndarray) -> None:
        """Remember integers that don't depend on the data: the output of an operator that computes shapes."""
        tensor = self.output()
        self.check_shape(tensor, values.shape)
        self.known[tensor.index] = values

    # ---- the file

    def proto(self) -> onnx.ModelProto:
        """The whole model: inputs and outputs of the file, under their names, in their layouts."""
        ends = []
        for index in self.file.outputs:
            tensor = self.file.tensors[index]
            self.at = next((o for o in self.file.operators if index in o.outputs), None)
            if self.at is None:
                raise IntsimError(f"{self.file.path}: output {tensor.name} is made by no operator")
            self.codes(tensor)
            ends.append(self._value(tensor))
        starts = [self._value(self.file.tensors[i]) for i in self.file.inputs]
        graph = helper.make_graph(self._nodes, "tflite", starts, ends, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        codes = {i: [names.get(False), names.get(True)] for i, names in self._layouts.items()}
        source = {"sha256": self.file.sha256, "codes": codes}
        model.metadata_props.add(key=SOURCE_FILE, value=json.dumps(source))
        return model

    def _value(self, tensor: FileTensor) -> onnx.ValueInfoProto:
        if tensor.kind not in ELEMENTS:
            raise IntsimError(f"{self.file.path}: tensor {tensor.name}: type {tensor.kind} is not supported")
        return helper.make_tensor_value_info(tensor.name, ELEMENTS[tensor.kind], tensor.shape)
