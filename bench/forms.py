"""A draft as QONNX and as QCDQ, node for node as Brevitas exports them; opset 13."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.draft import Draft, Layer, bias_scale, real_weights

QONNX = "qonnx.custom_op.general"


@dataclass
class Nodes:
    """Nodes and initializers as they are written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """An initializer."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node of one output."""
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output


class QonnxForm(Nodes):
    """Quant nodes."""

    def quant(self, x: str, name: str, scale: Any, bits: int, signed: bool, narrow: bool = False) -> str:
        """A Quant node."""
        settings = [self.constant(f"{name}.{k}", v) for k, v in (("scale", scale), ("zero", 0), ("bits", bits))]
        marks = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.node("Quant", [x, *settings], name, domain=QONNX, **marks)

    activation = quant

    def weights(self, layer: Layer, input_scale: np.float32) -> list[str]:
        """Weights and bias: floats behind Quant nodes."""
        w, b = real_weights(layer, input_scale)
        assert layer.weight_scale is not None
        scale = layer.weight_scale.reshape(-1, *[1] * (w.ndim - 1))
        first = self.quant(self.constant(f"{layer.name}.w", w), f"{layer.name}.w.quant", scale, 8, True, True)
        second = self.constant(f"{layer.name}.b", b)
        return [first, self.quant(second, f"{layer.name}.b.quant", bias_scale(layer, input_scale), 32, True)]


class QcdqForm(Nodes):
    """QuantizeLinear, Clip and DequantizeLinear nodes."""

    def activation(self, x: str, name: str, scale: Any, bits: int, signed: bool) -> str:
        """QuantizeLinear and DequantizeLinear; 8 bits fill their type, so there is no Clip."""
        assert bits == 8
        dtype = np.int8 if signed else np.uint8
        settings = [self.constant(f"{name}.scale", scale), self.constant(f"{name}.zero", 0, dtype)]
        codes = self.node("QuantizeLinear", [x, *settings], f"{name}.q")
        return self.node("DequantizeLinear", [codes, *settings], name)

    def weights(self, layer: Layer, input_scale: np.float32) -> list[str]:
        """Weights and bias: integers behind DequantizeLinear nodes, the weights clipped to -127..127 first."""
        name, count = layer.name, len(layer.bias)  # type: ignore[arg-type]
        codes = [self.constant(f"{name}.w", layer.codes, np.int8)]
        codes += [self.constant(f"{name}.w.low", -127, np.int8), self.constant(f"{name}.w.high", 127, np.int8)]
        settings = [
            self.constant(f"{name}.w.scale", layer.weight_scale),
            self.constant(f"{name}.w.zero", np.zeros(count), np.int8),
        ]
        clipped = self.node("Clip", codes, f"{name}.w.clip")
        first = self.node("DequantizeLinear", [clipped, *settings], f"{name}.w.real", axis=0)
        settings = [
            self.constant(f"{name}.b.scale", bias_scale(layer, input_scale)),
            self.constant(f"{name}.b.zero", np.zeros(count), np.int32),
        ]
        bias = self.constant(f"{name}.b", layer.bias, np.int32)
        return [first, self.node("DequantizeLinear", [bias, *settings], f"{name}.b.real", axis=0)]


def _compute(form: QonnxForm | QcdqForm, layer: Layer, inputs: list[str], draft: Draft) -> str:
    """The operator itself."""
    out = f"{layer.name}.out"
    if layer.op in ("conv", "dense"):
        parameters = form.weights(layer, draft.scales[layer.inputs[0]])
        return form.node("Conv" if layer.op == "conv" else "Gemm", [*inputs, *parameters], out, **layer.attributes)
    if layer.op == "upsample":
        sizes = form.constant(f"{layer.name}.scales", [1, 1, 2, 2])
        how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
        return form.node("Resize", [*inputs, "", sizes], out, **how)
    if layer.op == "concat":
        return form.node("Concat", inputs, out, axis=1)
    return form.node({"add": "Add", "mean": "GlobalAveragePool", "flatten": "Flatten"}[layer.op], inputs, out)


def write(draft: Draft, form: QonnxForm | QcdqForm, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The whole network for one input shape; input `x` and output `y` are float32."""
    names = {"x": form.activation("x", "x.real", draft.scales["x"], 8, False)}
    for layer in draft.layers:
        out = _compute(form, layer, [names[i] for i in layer.inputs], draft)
        if layer.relu:
            out = form.node("Relu", [out], f"{layer.name}.relu")
        if layer.op not in ("upsample", "concat", "flatten"):
            out = form.activation(out, f"{layer.name}.real", layer.scale, 8, layer.signed)
        names[layer.name] = out
    form.nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, _shape(draft, shape))]
    graph = helper.make_graph(form.nodes, draft.name, ends, outs, form.constants)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(QONNX, 2)]
    return helper.make_model(graph, opset_imports=opsets[: 2 if isinstance(form, QonnxForm) else 1], ir_version=8)


def _shape(draft: Draft, shape: tuple[int, ...]) -> list[int]:
    """Output shape for an input shape, scaled from the calibration's."""
    last = draft.seen[draft.layers[-1].name].shape
    if len(last) < 3:
        return [shape[0], *last[1:]]
    sides = zip(last[2:], shape[2:], draft.input_shape[2:], strict=True)
    return [shape[0], last[1], *(out * wanted // seen for out, wanted, seen in sides)]


def qonnx_form(draft: Draft, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The network with Quant nodes."""
    return write(draft, QonnxForm(), shape)


def qcdq_form(draft: Draft, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The network with QuantizeLinear, Clip, DequantizeLinear nodes."""
    return write(draft, QcdqForm(), shape)


def value(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """`array` tiled or cut to a shape: an input of another size with the same content."""
    reps = [-(-s // a) for s, a in zip(shape, array.shape, strict=True)]
    return np.ascontiguousarray(np.tile(array, reps)[tuple(slice(s) for s in shape)], np.float32)
