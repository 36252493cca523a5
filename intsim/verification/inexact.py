"""Softmax and layer normalisation: integers that stand for irrational numbers, judged by their proven error.

What such a node makes is wrong where it lies further from the real function of the node's own inputs than the error
that `docs/ir.md` proves. The code behind it is right if the requantizer makes it of some number within that error. All
later layers are judged on the codes that the integers had, so that an admitted neighbour is not held against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.graph import IntArray, Node
from intsim.model import Model, Run
from intsim.ops import OPS
from intsim.ops.deviation import code_reach, deviations
from intsim.ops.rows import RowFunction
from intsim.verification.layers import Layer, makers
from intsim.verification.reference import ReferenceRun

REAL_CODES = ("BipolarQuant", "IntQuant", "MultiThreshold", "Quant", "Trunc")
"""Quantizers whose output holds real values; that of others holds codes."""
ROOM = 2.0**-10
"""Share of an output step that float64 is granted where it compares; beyond it rationals decide."""


class Inexact:
    """The row functions of a model and what they feed. False where it has none."""

    def __init__(self, model: Model) -> None:
        """Find them."""
        graph = model.graph
        self.errors = deviations(graph)
        self.tensors = graph.tensors
        self.producers = {n.output: n for n in graph.nodes}
        self.shown = {e.terms[0][0]: (n, e) for n, e in model.lowered.rows.items()}
        self.kinds = {o: op.op for op in model.lowered.source.operations for o in op.outputs}
        self.requantizers = {
            n.output: n for n in graph.nodes if n.op == "requantize" and any(i in self.errors for i in n.inputs)
        }

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.errors)

    def given(self, exact: Run) -> dict[str, NDArray[Any]]:
        """What the requantizers behind row functions made, as the file's tensors hold it."""
        out: dict[str, NDArray[Any]] = {}
        for tensor in self.requantizers:
            info, codes = self.tensors[tensor], exact.tensors[tensor]
            if info.onnx is not None:
                real = self.kinds.get(info.onnx) in REAL_CODES
                scale, offset = np.asarray(info.scale, np.float64), np.asarray(info.offset, np.float64)
                out[info.onnx] = codes * scale + offset if real else codes
        return out

    def admitted(self, tensor: str, codes: IntArray, exact: Run) -> tuple[IntArray, int]:
        """The reference's codes, with the integers' own in place of those that the error leaves open; their number."""
        own, node = exact.tensors[tensor], self.requantizers.get(tensor)
        if node is None or (codes == own).all():
            return codes, 0
        errors = [self.errors.get(i, Fraction(0)) for i in node.inputs]
        low, high = code_reach(node, [exact.tensors[i] for i in node.inputs], errors)
        open_ = (codes != own) & (low <= codes) & (codes <= high) & (low <= own) & (own <= high)
        return np.where(open_, own, codes), int(np.count_nonzero(open_))

    def unread(self) -> list[Layer]:
        """Row functions whose integers reach an end of the graph and no requantizer."""
        read = {n.output for t in self.requantizers for n in self.feeding(t)}
        made = (n for n in self.producers.values() if isinstance(OPS[n.op], RowFunction))
        return [Layer(n.shown, n.kind, n.output, (), **n.origin) for n in made if n.output not in read]

    def feeding(self, tensor: str) -> Iterator[Node]:
        """Row functions that reach a requantizer without another one between."""
        reached = makers(self.producers, tensor, RowFunction)
        return (node for node in reached if isinstance(OPS[node.op], RowFunction))

    def right(self, node: Node, truth: ReferenceRun, exact: Run) -> IntArray:
        """The integers of a row function, but the nearest ones where they lie beyond the proven error."""
        own = exact.tensors[node.output]
        if node.output not in self.shown:
            return own
        name, value = self.shown[node.output]
        scales, offsets = (np.broadcast_to(p, own.shape) for p in (value.terms[0][1], value.offset))
        step, offset = (np.asarray(p, np.float64) for p in (value.terms[0][1], value.offset))
        real, doubt = truth.value(name).reshape(own.shape), truth.error(name).reshape(own.shape)
        allowed, size = self.errors[node.output], np.broadcast_to(np.abs(step), own.shape)
        slack = doubt + 2.0**-50 * (np.abs(real) + np.abs(offset) + size * np.abs(own))
        gap = np.abs(own * step + offset - real)
        clear = gap + slack <= size * (float(allowed) + ROOM)
        out = own.copy()
        for flat in np.flatnonzero(~clear.reshape(-1) & (size.reshape(-1) > 0)):
            wanted = (truth.exact(name, int(flat)) - offsets.reshape(-1)[flat]) / scales.reshape(-1)[flat]
            if abs(wanted - int(own.reshape(-1)[flat])) > allowed + Fraction(ROOM):
                out.reshape(-1)[flat] = round(wanted)
        return out
