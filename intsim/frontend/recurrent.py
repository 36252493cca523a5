"""Brevitas' QuantLSTMCell written out: one node over a whole sequence becomes QONNX nodes for each step.

The node holds every quantizer of the cell. Source: brevitas 0.13.4, brevitas/nn/quant_rnn.py (_QuantLSTMCell), and the
order of its inputs in brevitas/export/onnx/qonnx/function.py (BrevitasQuantLSTMCellFn).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from intsim.errors import IntsimError
from intsim.frontend.names import Fresh, names_of
from intsim.frontend.operators import QONNX, STANDARD

OPERATOR = "QuantLSTMCell"
TENSORS = (
    *("x", "hidden", "cell"),
    *(f"weight_{of}{gate}" for of in "ih" for gate in "ifco"),
    *(f"bias_{gate}" for gate in "ifco"),
)
"""Its first inputs; gates are input, forget, cell and output, weights are of the input and of the hidden state."""
QUANTIZERS = (
    *("output", "cell_state", "input_acc", "forget_acc", "cell_acc", "output_acc"),
    *("input_sigmoid", "forget_sigmoid", "cell_tanh", "output_sigmoid", "hidden_state_tanh"),
)
"""Then a scale, a zero point and a bit width of each of these."""
MOST_NODES = 1 << 17
"""Nodes of all cells together, written out."""
STEP = 38
"""Nodes of a step, more or less."""


def written_out(path: str, proto: ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> ModelProto:
    """A copy without such cells; the same object where there are none. `shapes` are those of inputs that are given.

    Raises IntsimError for a cell whose number of steps the file doesn't tell, and for one that lacks a quantizer.
    """
    if not any(n.op_type == OPERATOR and n.domain in QONNX for n in proto.graph.node):
        return proto
    out = ModelProto()
    out.CopyFrom(proto)
    graph = out.graph
    sizes: dict[str, list[int]] = {}
    for value in [*graph.value_info, *graph.input]:
        sizes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    sizes |= {n: list(s) for n, s in (shapes or {}).items()}
    sizes |= {i.name: list(i.dims) for i in graph.initializer}
    held = {i.name: i for i in graph.initializer}
    opset = max((o.version for o in proto.opset_import if o.domain in STANDARD), default=13)
    fresh = Fresh(names_of(graph))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != OPERATOR or node.domain not in QONNX:
            if node.output and min(sizes.get(node.output[0]) or [0]) < 1:
                sizes |= _inferred(node, sizes, held, opset)
            nodes.append(node)
            continue
        cell = _Cell(path, node, fresh)
        nodes += cell.steps(sizes)
        graph.initializer.extend(cell.constants)
        if len(nodes) > MOST_NODES:
            raise IntsimError(f"{path}: its {OPERATOR} nodes are more than {MOST_NODES} nodes when written out")
    copies = [NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)
    return out


def _inferred(
    node: NodeProto, sizes: Mapping[str, list[int]], held: Mapping[str, TensorProto], opset: int
) -> dict[str, list[int]]:
    """Shapes of what a node makes, where those of what it reads are known: between cells, the file says none."""
    if node.domain in QONNX and node.op_type in ("Quant", "IntQuant", "BipolarQuant"):
        return {node.output[0]: sizes.get(node.input[0], [])}
    if node.domain not in STANDARD or any(i and min(sizes.get(i, [0]), default=1) < 1 for i in node.input):
        return {}
    types = {i: helper.make_tensor_type_proto(held[i].data_type if i in held else 1, sizes[i]) for i in node.input if i}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        data = {i: held[i] for i in node.input if i in held}
        imports = [helper.make_opsetid("", opset)]
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports)
    except Exception:  # the node is refused where it is read
        return {}
    return {n: [d.dim_value for d in t.tensor_type.shape.dim] for n, t in found.items()}


class _Cell:
    """One node, and what it becomes."""

    def __init__(self, path: str, node: NodeProto, fresh: Fresh) -> None:
        self.node, self.fresh = node, fresh
        self.name = node.name or f"{OPERATOR}_{next((o for o in node.output if o), '')}"
        self.label = f"{path}: node {self.name} ({OPERATOR})"
        self.at: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        wanted = len(TENSORS) + 3 * len(QUANTIZERS)
        if len(node.input) != wanted or not all(node.input):
            given = sum(map(bool, node.input))
            raise IntsimError(f"{self.label}: has {given} inputs, not the {wanted} that Brevitas' export gives it")
        self.held = dict(zip(TENSORS, node.input, strict=False))
        rest = node.input[len(TENSORS) :]
        self.parameters = {name: list(rest[3 * i : 3 * i + 3]) for i, name in enumerate(QUANTIZERS)}
        self.constants: list[Any] = []
        self.nodes: list[NodeProto] = []

    def steps(self, sizes: dict[str, list[int]]) -> list[NodeProto]:
        """The nodes of all steps; `sizes` of its outputs become known."""
        x = sizes.get(self.held["x"], [])
        hidden = sizes.get(self.held["weight_hi"], [])
        if len(x) != 3 or min(x) < 1 or len(hidden) != 2:
            raise IntsimError(
                f"{self.label}: its steps can't be written out: the file doesn't say the shape of its input "
                f"{self.held['x']} or of its weights; store shapes (onnx.shape_inference), or give --shape"
            )
        axis = 1 if self.at.get("batch_first", 0) else 0
        count, batch, size = x[axis], x[1 - axis], hidden[0]
        if count * STEP > MOST_NODES:
            raise IntsimError(f"{self.label}: its {count} steps are more than {MOST_NODES} nodes when written out")
        turned = {n: self.add("Transpose", [self.held[n]], perm=[1, 0]) for n in TENSORS if n.startswith("weight")}
        h, c = self.held["hidden"], self.held["cell"]
        made: dict[int, str] = {}
        steps = range(count)
        for t in reversed(steps) if self.at.get("reverse_input", 0) else steps:
            now = self.add("Gather", [self.held["x"], self.constant(np.array(t, np.int64))], axis=axis)
            h, c = self.step(now, h, c, turned)
            made[t] = h
        shape = self.constant(np.array([batch, 1, size] if axis else [1, batch, size], np.int64))
        rows = [self.add("Reshape", [made[t], shape]) for t in steps]
        outputs = [*self.node.output, "", ""][:3]
        if outputs[0]:
            self.add("Concat", rows, outputs[0], axis=axis)
        for output, last in zip(outputs[1:], (h, c), strict=True):
            if output:
                self.add("Identity", [last], output)
        sizes[outputs[0]] = [batch, count, size] if axis else [count, batch, size]
        sizes[outputs[1]] = sizes[outputs[2]] = [batch, size]
        return self.nodes

    def step(self, x: str, h: str, c: str, turned: Mapping[str, str]) -> tuple[str, str]:
        """One step: the next hidden state and the next state of the cell."""

        def gate(letter: str, acc: str, function: str, quantizer: str) -> str:
            sums = [self.add("MatMul", [v, turned[f"weight_{of}{letter}"]]) for of, v in (("i", x), ("h", h))]
            total = self.add("Add", [self.add("Add", sums), self.held[f"bias_{letter}"]])
            return self.quantized(self.add(function, [self.quantized(total, acc)]), quantizer)

        taken = gate("i", "input_acc", "Sigmoid", "input_sigmoid")
        if self.at.get("cifg", 0):
            one = self.quantized(self.constant(np.array(1, np.float32)), "input_sigmoid")
            kept = self.add("Sub", [one, taken])
        else:
            kept = gate("f", "forget_acc", "Sigmoid", "forget_sigmoid")
        new = gate("c", "cell_acc", "Tanh", "cell_tanh")
        shown = gate("o", "output_acc", "Sigmoid", "output_sigmoid")
        old = self.quantized(self.add("Mul", [kept, c]), "cell_state")
        added = self.quantized(self.add("Mul", [taken, new]), "cell_state")
        c = self.quantized(self.add("Add", [old, added]), "cell_state")
        seen = self.quantized(self.add("Tanh", [c]), "hidden_state_tanh")
        return self.quantized(self.add("Mul", [shown, seen]), "output"), c

    def quantized(self, x: str, quantizer: str) -> str:
        """A Quant of the cell."""
        narrow = self.at.get(f"{quantizer}_narrow", self.at.get(f"{quantizer}_narrow_range", 0))
        at = {"signed": self.at.get(f"{quantizer}_signed", 1), "narrow": narrow}
        at["rounding_mode"] = self.at.get(f"{quantizer}_rounding_mode", b"ROUND")
        return self.add("Quant", [x, *self.parameters[quantizer]], domain=self.node.domain, **at)

    def constant(self, array: np.ndarray) -> str:
        """A constant by the name that it gets."""
        name = self.fresh(f"{self.name}.constant")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, inputs: list[str], output: str = "", domain: str = "", **at: Any) -> str:
        """A node; the tensor that it makes."""
        output = output or self.fresh(f"{self.name}.{op}")
        made = helper.make_node(op, inputs, [output], name=self.fresh(f"{self.name}.{op}.node"), domain=domain, **at)
        made.metadata_props.extend(self.node.metadata_props)
        self.nodes.append(made)
        return output
