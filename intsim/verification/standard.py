"""A quantized file as standard ONNX operators only, so that ONNX Runtime can be a second opinion on QONNX files.

Every Quant, BipolarQuant and Trunc becomes the float formula of its definition (qonnx.custom_op.general), channels-last
nodes get transposes around them, and tensor names stay. Nothing is shared with the lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

STANDARD = ("", "ai.onnx")
CHANNELS_LAST = ("qonnx.custom_op.channels_last", "finn.custom_op.channels_last")
QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "brevitas")
CUSTOM_DOMAINS = (*QONNX, *CHANNELS_LAST)
HALF_EVEN_MAGIC = np.float32(1.5 * 2**23)
"""Adding and taking this away rounds a float32 below 2**22 to the nearest even integer (opsets before Round)."""


def refill(field: Any, content: Iterable[Any]) -> None:
    """Put other content into a repeated field; content taken from the field itself has to be a list."""
    del field[:]
    field.extend(content)


class _Expansion:
    """Nodes and constants that replace one node."""

    def __init__(self, stem: str, opset: int, taken: set[str]) -> None:
        self.stem = stem
        self.opset = opset
        self.taken = taken
        self.nodes: list[NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or self.fresh(f"{self.stem}~{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{name}~{kind}", **attributes))
        return name

    def fresh(self, name: str) -> str:
        """A name that no tensor of the file has."""
        while name in self.taken:
            name += "~"
        self.taken.add(name)
        return name

    def constant(self, value: object) -> str:
        name = self.fresh(f"{self.stem}~c{len(self.constants)}")
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def bipolar(self, x: str) -> str:
        """-1 below zero, 1 from zero on."""
        return self.op("Sign", self.op("Add", self.op("Sign", x), self.constant(0.5)))

    def clamped(self, x: str, bits: int, at: dict[str, object]) -> str:
        """Within the codes of a width."""
        signed, narrow = bool(at.get("signed", 1)), bool(at.get("narrow", 0))
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        return self.op("Max", self.op("Min", x, self.constant(high)), self.constant(low))

    def rounded(self, x: str, mode: str) -> str:
        def outward(kind: str, shift: float = 0.0) -> str:
            size = self.op("Abs", x)
            if shift:
                size = self.op("Add", size, self.constant(shift))
            return self.op("Mul", self.op("Sign", x), self.op(kind, size))

        rules: dict[str, Callable[[], str]] = {
            "CEIL": lambda: self.op("Ceil", x),
            "FLOOR": lambda: self.op("Floor", x),
            "UP": lambda: outward("Ceil"),
            "DOWN": lambda: outward("Floor"),
            "HALF_UP": lambda: outward("Floor", 0.5),
            "HALF_DOWN": lambda: outward("Ceil", -0.5),
        }
        if mode in rules:
            return rules[mode]()
        if self.opset >= 11:
            return self.op("Round", x)
        magic = self.constant(HALF_EVEN_MAGIC)
        return self.op("Sub", self.op("Add", x, magic), magic)


def _quant(e: _Expansion, node: NodeProto, at: dict[str, object], value: Callable[[str], np.ndarray]) -> None:
    x, scale, zero, width = node.input[:4]
    y, bits = e.op("Add", e.op("Div", x, scale), zero), _bits(value(width))
    if bits == 1 and at.get("signed", 1):
        y = e.bipolar(y)
    else:
        y = e.rounded(e.clamped(y, bits, at), str(at.get("rounding_mode", "ROUND")).upper())
    e.op("Mul", e.op("Sub", y, zero), scale, output=node.output[0])


def _trunc(e: _Expansion, node: NodeProto, at: dict[str, object], value: Callable[[str], np.ndarray]) -> None:
    x, scale, zero = node.input[:3]
    y = e.rounded(e.op("Add", e.op("Div", x, scale), zero), "ROUND")
    mode = str(at.get("rounding_mode", "FLOOR")).upper()
    if len(node.input) == 5:
        shift = e.constant(2.0 ** (_bits(value(node.input[3])) - _bits(value(node.input[4]))))
        y = e.rounded(e.op("Div", y, shift), mode)
        e.op("Mul", e.op("Sub", y, zero), scale, output=node.output[0])
        return
    shift = e.constant(2.0 ** np.round(np.log2(value(node.input[4]) / value(scale))))
    y = e.clamped(e.op("Div", y, shift), _bits(value(node.input[5])), at)
    y = e.op("Sub", e.rounded(y, mode), e.op("Div", zero, shift))
    e.op("Mul", y, node.input[4], output=node.output[0])


def _bits(width: np.ndarray) -> int:
    return int(np.asarray(width).reshape(-1)[0])


def _channels_last(e: _Expansion, node: NodeProto, at: dict[str, Any]) -> None:
    rank = 2 + len(at.get("kernel_shape", [0, 0]))
    first, last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    inputs = [e.op("Transpose", node.input[0], perm=first), *node.input[1:]]
    if node.op_type == "Conv":
        inputs[1] = e.op("Transpose", node.input[1], perm=first)
    inner = e.op(node.op_type, *inputs, **at)
    e.op("Transpose", inner, output=node.output[0], perm=last)


def standard_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with standard operators only; raises ValueError naming an operator that has no expansion."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    opset = next((o.version for o in model.opset_import if o.domain in STANDARD), 9)
    arrays = {i.name: i for i in graph.initializer}
    constants = [n for n in graph.node if n.domain in STANDARD and n.op_type == "Constant"]
    arrays |= {n.output[0]: n.attribute[0].t for n in constants if n.attribute[0].name == "value"}

    def value(name: str) -> np.ndarray:
        if name not in arrays:
            raise ValueError(f"{name} is not a constant")
        return numpy_helper.to_array(arrays[name])

    # integer zero points and widths (some exporters write them) become floats for the float formula
    quantizers = [n for n in graph.node if n.domain in QONNX and n.op_type in ("Quant", "IntQuant", "Trunc")]
    for name in {n.input[2] for n in quantizers if n.input[2] in arrays}:
        if value(name).dtype != np.float32:
            arrays[name].CopyFrom(numpy_helper.from_array(value(name).astype(np.float32), name))
    nodes: list[NodeProto] = []
    taken = {t for n in graph.node for t in (*n.input, *n.output)} | {*arrays, *(v.name for v in graph.output)}
    for node in model.graph.node:
        if node.domain not in (*STANDARD, "com.microsoft", *CUSTOM_DOMAINS):
            raise ValueError(f"operator {node.domain}.{node.op_type} has no expansion into standard operators")
        if node.domain not in CUSTOM_DOMAINS:
            nodes.append(node)
            continue
        at = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        at = {k: v.decode() if isinstance(v, bytes) else v for k, v in at.items()}
        e = _Expansion(node.output[0], opset, taken)
        if node.domain in CHANNELS_LAST:
            _channels_last(e, node, at)
        elif node.op_type in ("Quant", "IntQuant"):
            _quant(e, node, at, value)
        elif node.op_type == "BipolarQuant":
            e.op("Mul", e.bipolar(node.input[0]), node.input[1], output=node.output[0])
        elif node.op_type == "Trunc":
            _trunc(e, node, at, value)
        else:
            raise ValueError(f"operator {node.op_type} has no expansion into standard operators")
        nodes += e.nodes
        graph.initializer.extend(e.constants)
    refill(graph.node, nodes)
    microsoft = (o for o in model.opset_import if o.domain == "com.microsoft")
    refill(out.opset_import, [helper.make_opsetid("", opset), *microsoft])
    out.ir_version = min(max(model.ir_version, 4), 10)
    del graph.value_info[:]
    return out
