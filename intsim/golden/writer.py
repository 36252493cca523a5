"""Writes layers' tensors into a folder, node by node, and says what each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import handed_on
from intsim.dispatch import Machine
from intsim.errors import IntsimError
from intsim.golden.constants import Constants, of_kernel, of_requantizer, products_about
from intsim.golden.element import Element, Values
from intsim.golden.formats import Sink, identifier
from intsim.golden.layers import ENDS, ROUTES, Layer
from intsim.golden.layout import POSITIONS, Layout, as_is, of_data, of_weights
from intsim.golden.sums import Sums, registers_at_end
from intsim.graph import IntArray, IntegerGraph, Node, Tensor, rationals, without_module
from intsim.mac.operands import channel_zeros
from intsim.mac.plan import plan
from intsim.ops import OPS, Mac

WINDOW = ("kernel", "strides", "pads", "dilations", "groups", "insert")
SAID = (
    *("pieces", "cells", "formulas", "sites", "source", "requantizer", "roundings", "rounding", "output"),
    *("weight_type", "zero", "low", "high", "operation"),
)
"""Attributes of nodes that a manifest says in other words."""


class Step(NamedTuple):
    """A node of a layer that has run: what it read and made."""

    layer: Layer
    node: Node
    arrays: list[IntArray]
    out: IntArray


@dataclass
class Written:
    """A layer that is being written: what the manifest says of it, and its tensors' files by role."""

    layer: Layer
    folder: str
    about: dict[str, Any] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Writer:
    """Writes layers' tensors into a folder, node by node."""

    root: Path
    runs: Machine
    formats: tuple[str, ...]
    bus: int
    order: str
    partial: bool
    samples: int
    fold: tuple[int, int] | None = None  # PE and SIMD of an MVAU
    written: dict[str, Written] = field(default_factory=dict)
    reach: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def graph(self) -> IntegerGraph:
        """That of the machine."""
        return self.runs.graph

    def write(self, step: Step) -> None:
        """What a node of a layer has read and made."""
        layer, node = step.layer, step.node
        if layer.name not in self.written:
            self.written[layer.name] = Written(layer, f"{len(self.written):02d}_{identifier(layer.name)}")
        to = self.written[layer.name]
        first = not to.about if node is layer.head else to.about["requantizer"] is None
        if node is layer.head:
            if first:
                to.about = self._about(layer)
            for i, (name, array) in enumerate(zip(node.inputs, step.arrays, strict=True)):
                self._data(to, "operand" if not i else f"operand_{i + 1}", array, self.graph.tensors[name])
            if isinstance(OPS[node.op], Mac):
                self._products(to, step, first)
            elif first and node.op not in ("requantize", "fused"):
                self._arrays(to, node)
        sums = step.out
        if node is layer.end and node.op in ("requantize", "fused"):
            constants = self._requantizer(node, step.arrays)
            if first:
                to.about["requantizer"] = constants.about
                for name, (element, array) in constants.arrays.items():
                    self._constant(to, "requantize_" + identifier(name), array, element)
            if constants.sums is not None:
                self._data(to, "accumulator", constants.sums, self.graph.tensors[node.output], constants.reach)
        role = "output" if node.op in ENDS else "accumulator"
        self._data(to, role, sums, self.graph.tensors[node.output])

    def finished(self, wanted: Sequence[Layer]) -> list[dict[str, Any]]:
        """What the manifest says of layers, their files closed."""
        out = []
        for layer in wanted:
            to = self.written[layer.name]
            for role, sink in to.sinks.items():
                sink.close()
                to.tensors[role] |= {"files": sink.files, "sha256": sink.hashes}
            out.append({**to.about, "tensors": list(to.tensors.values())})
        return out

    def _about(self, layer: Layer) -> dict[str, Any]:
        head = layer.head
        at = (head.attributes.get("source") or head).attributes  # of a kernel, those of the operator that it is
        window = {k: at[k] for k in WINDOW if k in at}
        if window and "weight" in head.arrays and "kernel" not in window:
            window = {"kernel": list(head.arrays["weight"].shape[2:]), **window}
        hidden = {*WINDOW, *SAID} - ({"low"} if head.op == "table" else set())
        return {
            "name": layer.name,
            **without_module(head.origin),
            "op": layer.op,
            "operator": head.op,
            "window": window or None,
            "attributes": {k: v for k, v in at.items() if k not in hidden},
            "products": None,
            "requantizer": None,
        }

    def _products(self, to: Written, step: Step, first: bool) -> None:
        """Weights, bias and registers of a multiply-accumulate."""
        node, target = step.node, self.runs.arithmetic(step.node)
        sums = Sums.of(self.runs, node, step.arrays)
        op, operands = sums.op, sums.planned.operands
        if first:
            shift = np.asarray(operands.w_shift).reshape(-1)
            about = products_about(node, target) | {
                "activation_shift": int(operands.x_shift),
                "activation_zero": int(operands.x_zero),
                "weight_shift": int(shift[0]) if len(set(shift.tolist())) == 1 else None,
                "padding_code": int(op.zero_points(node)[0]) if op.pads(node) else None,
                "padding_operand": int(operands.pad) if op.pads(node) else None,
                "sum_of_operands": operands.depends_on_data(),
                "padding_paid_back": bool(operands.owed and op.pads(node)),
            }
            to.about["products"] = about
            if "weight" in node.arrays:
                self._weights(to, sums)
            self._optional(to, "bias", node.arrays.get("bias"))
        if self.partial:
            stages = target.stages
            for i, held in enumerate(registers_at_end(sums)):
                self._partial(to, f"partial_{i + 1}", held, stages[i].bits, stages[i].lanes)

    def _weights(self, to: Written, sums: Sums) -> None:
        node, op, operands = sums.node, sums.op, sums.planned.operands
        weight = node.arrays["weight"]
        kind = node.attributes.get("weight_type")
        element = Element.holding(int(weight.min(initial=0)), int(weight.max(initial=0)))
        if kind is not None:
            element = Element("s" if kind["signed"] else "u", kind["bits"])
        acc, x = self.graph.tensors[node.output], self.graph.tensors[node.inputs[0]]
        scale = acc.scale / x.scale if x.scale.size == 1 else None
        _, zeros = op.zero_points(node)
        layout = of_weights(weight.ndim, node.op != "matmul", self.order)
        more = {} if scale is None else {"scale": _rationals(scale)}
        zero = np.asarray(zeros, np.int64).reshape(-1)
        more["zero_point"] = _rationals(rationals(zero if len(zero) else np.zeros(1, np.int64)))
        self._constant(to, "weight", weight, element, layout, **more)
        if self.fold is not None:
            if (
                node.op not in ("conv", "matmul")
                or node.attributes.get("groups", 1) != 1
                or layout.stored(weight).ndim != 2
            ):
                raise IntsimError(f"layer {to.layer.name}: not a matrix of an MVAU; choose others with --layer")
            words = folded(layout.stored(weight), *self.fold, to.layer.name)
            self._constant(to, "weight_memory", words, element, bus_bits=words.shape[1] * element.bits)
        channels = op.extent(node, *(a.shape for a in sums.arrays))[1]
        self._optional(to, "weight_zero", channel_zeros(zeros, channels) if zero.any() else None)
        shifts = np.asarray(operands.w_shift, np.int64)
        self._optional(to, "weight_shift", shifts.reshape(-1) if len(set(shifts.reshape(-1).tolist())) > 1 else None)
        rows = op.weight_rows(node, weight + operands.w_shift, sums.target.accumulate.order)
        late = operands.compensation(rows, np.tile(channel_zeros(operands.w_zero, channels), len(rows) // channels))
        self._optional(to, "compensation", late)

    def _requantizer(self, node: Node, arrays: list[IntArray]) -> Constants:
        if node.op == "fused":
            return of_kernel(node)
        tensors = [self.graph.tensors[n] for n in node.inputs]
        return of_requantizer(node, arrays, tensors, self.runs.arithmetic(node), self._reached(node.inputs[0]))

    def _arrays(self, to: Written, node: Node) -> None:
        """Constant arrays of other operators: a table, the weights of positions."""
        for name, array in node.arrays.items():
            if node.op == "table" and name != "table":
                continue  # a constant of the file's, which is in the entries
            element = Element.holding(int(array.min(initial=0)), int(array.max(initial=0)))
            self._constant(to, identifier(name), array, element)

    def _optional(self, to: Written, role: str, array: IntArray | None) -> None:
        if array is not None:
            element = Element.holding(min(int(array.min(initial=0)), -1), int(array.max(initial=0)))
            self._constant(to, role, array, element)

    def _constant(
        self, to: Written, role: str, array: Values, element: Element, layout: Layout | None = None, **more: Any
    ) -> None:
        """A tensor that is written once."""
        layout = layout or as_is(array.ndim)
        sink = self._sink(to, role, element, array.shape, layout, False, more)
        sink.append(layout.stored(array))

    def _data(
        self, to: Written, role: str, array: IntArray, tensor: Tensor, sums: tuple[int, int] | None = None
    ) -> None:
        """A sample's part of a tensor; `sums` are the ends of what a requantizer adds up, which has no scale."""
        if role not in to.sinks:
            more = {"scale": _rationals(tensor.scale), "zero_point": _rationals(-tensor.offset / tensor.scale)}
            kind = tensor.type
            if kind is not None and role not in ("accumulator",):
                element = Element("s" if kind.signed else "u", kind.bits)
            else:
                reach = sums or self._reached(tensor.name)
                low = min(reach[0], -1) if role == "accumulator" else reach[0]
                element = Element.holding(low, reach[1])
            layout = of_data(array.ndim, _channels_first(to.layer, array.ndim), self.order)
            self._sink(to, role, element, array.shape, layout, self.samples > 1, {} if sums else more)
        to.sinks[role].append(self._layout(to, role).stored(array))

    def _partial(self, to: Written, role: str, held: IntArray, bits: int, lanes: int) -> None:
        if role not in to.sinks:
            rank = held.ndim - (lanes > 1)
            layout = of_data(rank, _channels_first(to.layer, rank), self.order)
            if lanes > 1:
                axes = layout.axes and layout.axes + "R"
                layout = Layout(axes, (*layout.permutation, rank))
            self._sink(to, role, Element("s", bits), held.shape, layout, self.samples > 1, {})
        to.sinks[role].append(self._layout(to, role).stored(held))

    def _layout(self, to: Written, role: str) -> Layout:
        return Layout("", tuple(to.tensors[role]["permutation"]))

    def _sink(
        self,
        to: Written,
        role: str,
        element: Element,
        shape: tuple[int, ...],
        layout: Layout,
        many: bool,
        more: Mapping[str, Any],
    ) -> Sink:
        stored = layout.shape(shape)
        bus = more.get("bus_bits", self.bus)
        words = "bus_bits" in more or (self.order == "finn" and stored and "C" in layout.axes[-1:])
        row = stored[-1] if words else None
        full = (self.samples, *stored) if many else stored
        name = to.layer.name if to.layer.name.isprintable() else ascii(to.layer.name)
        axes = f", order {' '.join(layout.axes)}" if layout.axes else ""
        size = "x".join(map(str, full))
        about = f"{name.replace('*/', '* /')}, {role}: {element.name}, shape {size}{axes}, last axis fastest"
        sink = Sink(
            *(self.root, f"{to.folder}/{role}", f"l{to.folder}_{role}", element, full, about),
            *(self.formats, bus, row),
        )
        to.sinks[role] = sink
        to.tensors[role] = {
            "role": role,
            "type": element.name,
            "shape": list(full),
            "axes": layout.axes,
            "permutation": list(layout.permutation),
            "of_shape": list(shape),
            "row": row,
            **more,
        }
        return sink

    def _reached(self, name: str) -> tuple[int, int]:
        """Least and greatest integer that a tensor can hold on the machine, whatever overflowed before."""
        if name in self.reach:
            return self.reach[name]
        tensor, node = self.graph.tensors[name], self.graph.producer(name)
        low, high = tensor.low, tensor.high
        if node is not None and node.op in ROUTES:
            for ends in map(self._reached, node.inputs):
                low, high = min(low, ends[0]), max(high, ends[1])
        elif node is not None and isinstance(OPS[node.op], Mac):
            target = self.runs.arithmetic(node)
            if target.stages:
                (least, most), op = handed_on(target.stages), OPS[node.op]
                assert isinstance(op, Mac)
                # bias and what padding is owed are added behind the registers
                added = plan(node, op, [self.graph.tensors[i] for i in node.inputs], target.registers).added
                least, most = least + min(0, int(added[0].min())), most + max(0, int(added[1].max()))
                low, high = least, most
        self.reach[name] = low, high
        return low, high


def folded(matrix: Values, pe: int, simd: int, name: str) -> Values:
    """The weight memory of FINN's MVAU, (MH / PE * MW / SIMD, PE * SIMD), of its matrix MW x MH.

    Word nf * MW / SIMD + sf holds of each PE p row nf * PE + p, of each SIMD lane s column sf * SIMD + s; PE 0, lane 0
    are first. Source: FINN, custom_op/fpgadataflow/matrixvectoractivation.py, get_hw_compatible_weight_tensor and
    make_weight_file (decoupled_verilog_dat, which has the first in the lowest bits).

    Raises IntsimError where PE doesn't divide MH, or SIMD MW.
    """
    depth, channels = matrix.shape
    if channels % pe or depth % simd:
        sizes = f"PE = {pe} must divide MH = {channels}, SIMD = {simd} MW = {depth}"
        raise IntsimError(f"layer {name}: {sizes}; choose others with --layer")
    parts = matrix.T.reshape(channels // pe, pe, depth // simd, simd)
    return np.ascontiguousarray(parts.transpose(0, 2, 1, 3)).reshape(-1, pe * simd)


def _channels_first(layer: Layer, rank: int) -> bool:
    """Whether axis 1 of a layer's tensors holds channels and positions follow."""
    op, cells = layer.head.op, list(layer.end.attributes.get("cells", ()))
    if op in ("conv", "conv_transpose", "sum_pool", "max_pool"):
        return True
    if op in ("matmul", "softmax", "layer_norm") or rank not in POSITIONS:
        return False
    if len(cells) == rank and max(cells) > 1:
        return cells[1] > 1
    return rank > 3


def _rationals(values: Any) -> dict[str, Any]:
    array = np.asarray(values, object)
    return {"shape": list(array.shape), "values": [str(v) for v in array.reshape(-1)]}
