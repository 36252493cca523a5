"""A QCDQ network with every operator on integers: QLinearConv, QGemm, QLinearAdd, QLinearGlobalAveragePool.

What ONNX Runtime's own optimiser does for most of the layers, done here for all: the float operators between
DequantizeLinear and QuantizeLinear become one integer operator; what only moves values works on the codes. The input's
QuantizeLinear and the output's DequantizeLinear stay, so the model takes and gives the same floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

MOVES = ("Resize", "Concat", "Flatten", "Reshape", "Transpose", "MaxPool")
COMPUTES = ("Conv", "Gemm", "Add", "GlobalAveragePool")


class Fuser:
    """Walks a QCDQ graph once, in its order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Index the graph."""
        self.model, self.graph = model, model.graph
        self.constants = {i.name: i for i in self.graph.initializer}
        self.readers = {i: n for n in self.graph.node for i in n.input}
        self.real: dict[str, tuple[str, str, str]] = {}  # float tensor -> its codes, scale, zero point
        self.nodes: list[onnx.NodeProto] = []
        self.made: list[onnx.TensorProto] = []
        self.gone: set[int] = set()
        self.now: dict[str, str] = {}  # codes -> the zero point they have now

    def run(self) -> onnx.ModelProto:
        """The fused model; ValueError names a node that has no integer form here."""
        for node in self.graph.node:
            if id(node) not in self.gone:
                self.step(node)
        used = {i for n in self.nodes for i in n.input}
        for out in self.graph.output:
            codes, scale, zero = self.real[out.name]
            self.nodes.append(helper.make_node("DequantizeLinear", [codes, scale, zero], [out.name], "end"))
            used |= {codes, scale, zero}
        kept = [c for c in [*self.constants.values(), *self.made] if c.name in used]
        graph = helper.make_graph(self.nodes, self.graph.name, self.graph.input, self.graph.output, kept)
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def step(self, node: onnx.NodeProto) -> None:
        """One node of the QCDQ graph."""
        if node.op_type == "DequantizeLinear":
            codes, scale, zero = node.input
            self.real[node.output[0]] = (codes, scale, self.now.get(codes, zero))
        elif node.op_type == "Clip" and node.input[0] in self.constants:
            low, high = (numpy_helper.to_array(self.constants[i]) for i in node.input[1:])
            array = np.clip(numpy_helper.to_array(self.constants[node.input[0]]), low, high)
            self.constants[node.output[0]] = numpy_helper.from_array(array, node.output[0])
        elif node.op_type == "QuantizeLinear" and node.input[0] in {i.name for i in self.graph.input}:
            self.nodes.append(node)
        elif node.op_type in MOVES:
            self.move(node)
        elif node.op_type in COMPUTES:
            self.compute(node)
        else:
            raise ValueError(f"{node.name}: {node.op_type} has no integer form here")

    def move(self, node: onnx.NodeProto) -> None:
        """The same node on codes; those that meet must share scale and zero point."""
        parts = [self.real[i] for i in node.input if i in self.real]
        if len({self.number(p[1]) for p in parts}) > 1:
            raise ValueError(f"{node.name}: the scales of what meets here differ")
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for n, i in enumerate(node.input):
            if i in self.real:
                copy.input[n] = self.real[i][0]
        copy.output[0] = f"{node.output[0]}.codes"
        self.nodes.append(copy)
        self.real[node.output[0]] = (copy.output[0], *parts[0][1:])

    def number(self, name: str) -> float:
        """A constant of one element."""
        return float(numpy_helper.to_array(self.constants[name]))

    def ending(self, node: onnx.NodeProto) -> tuple[str, str, str]:
        """Output codes, scale, zero point of the QuantizeLinear behind a node; a ReLU between is its lower clip."""
        after = self.readers[node.output[0]]
        if after.op_type == "Relu":
            self.gone.add(id(after))
            after = self.readers[after.output[0]]
            if int(numpy_helper.to_array(self.constants[after.input[2]])) != 0:
                raise ValueError(f"{after.name}: a ReLU before a zero point other than 0")
        if after.op_type != "QuantizeLinear":
            raise ValueError(f"{node.name}: no QuantizeLinear behind it")
        self.gone.add(id(after))
        return after.output[0], after.input[1], self.unsigned(after.input[2])

    def unsigned(self, name: str) -> str:
        """The zero point of the same reals as uint8: ONNX Runtime's operators want one type on both sides."""
        zero = numpy_helper.to_array(self.constants[name])
        if zero.dtype == np.uint8:
            return name
        moved = f"{name}.unsigned"
        self.constants[moved] = numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), moved)
        return moved

    def compute(self, node: onnx.NodeProto) -> None:
        """One integer operator for the node, its ReLU and its quantizer."""
        out, scale, zero = self.ending(node)
        self.now[out] = zero
        attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x, *rest = (self.real[i] for i in node.input)
        if node.op_type == "Conv":
            inputs, op, domain = [*x, *rest[0], scale, zero, *[b[0] for b in rest[1:]]], "QLinearConv", ""
        elif node.op_type == "Gemm":
            w = self.transposed(rest[0][0]) if attributes.pop("transB", 0) else rest[0][0]
            inputs, op, domain = [*x, w, *rest[0][1:], rest[1][0], scale, zero], "QGemm", "com.microsoft"
        elif node.op_type == "Add":
            inputs, op, domain = [*x, *rest[0], scale, zero], "QLinearAdd", "com.microsoft"
        else:
            inputs, op, domain = [*x, scale, zero], "QLinearGlobalAveragePool", "com.microsoft"
            attributes["channels_last"] = 0
        self.nodes.append(helper.make_node(op, inputs, [out], node.name, domain=domain, **attributes))

    def transposed(self, name: str) -> str:
        """A constant matrix the other way round: ONNX Runtime packs it once only if it needs no transpose."""
        array = np.ascontiguousarray(numpy_helper.to_array(self.constants[name]).T)
        self.made.append(numpy_helper.from_array(array, f"{name}.transposed"))
        return f"{name}.transposed"


def fused_form(qcdq: onnx.ModelProto) -> onnx.ModelProto:
    """The fully fused twin of a QCDQ model; raises ValueError where a node has none."""
    return Fuser(qcdq).run()
