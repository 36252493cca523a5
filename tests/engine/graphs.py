"""Small random integer graphs, legal as the front end's are, with input codes at the ends of their ranges.

Hypothesis draws the structure, so that it can be made smaller; numpy draws the numbers, from a seed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor, node_json, rationals
from intsim.ops import OPS

from .kernels import Kernels
from .moves import Moves
from .rescaling import Rescaling

WIDEST = {"nibble": 4, "byte": 8, "wide": 16}
LARGEST = 1 << 44
"""Magnitudes beyond are not drawn: int64 must hold whatever a register that overflowed makes of the next layers."""
MOST_PRODUCTS = 60_000
ONE, ZERO = rationals(1), rationals(0)
MAKERS = {"table": "activation", "zero_point": "zero"}
"""Methods that draw an operator, where they aren't called as it is."""


class GraphCase(NamedTuple):
    """A graph and codes for its inputs; prints as one line a node."""

    graph: IntegerGraph
    inputs: dict[str, IntArray]
    widths: str

    def __repr__(self) -> str:
        return f"GraphCase({self.widths}, inputs {self.graph.inputs}, outputs {self.graph.outputs})\n" + "\n".join(
            [f"  {n}: {self._tensor(n)} = {self.inputs[n].reshape(-1).tolist()}" for n in self.graph.inputs]
            + [f"  {self._tensor(n.output)} {_text(n)}" for n in self.graph.nodes]
        )

    def _tensor(self, name: str) -> str:
        t = self.graph.tensors[name]
        return f"{name}{list(t.shape)} {t.low}..{t.high} {t.type.name if t.type else 'untyped'}"


def _text(node: Node) -> str:
    arrays = {k: (a.shape, a.reshape(-1).tolist()) for k, a in node.arrays.items()}
    at = node.attributes if node.op == "fused" else node_json(node)["attributes"]  # no JSON holds those of a kernel
    return f"= {node.op}{node.inputs} {at} {arrays}"


@st.composite
def integer_graphs(
    draw: Any,
    widths: tuple[str, ...] = ("byte", "wide", "nibble"),
    max_nodes: int = 8,
    max_elements: int = 2000,
    must: str | None = None,
) -> GraphCase:
    """Graphs of about 1..`max_nodes` nodes over tensors of at most `max_elements` elements, and codes for their inputs.

    `widths`: "nibble" and "byte" feed multiply-accumulate nodes at most 4 or 8 bits a code, "wide" up to 16 and
    accumulators. `must` names an operator that occurs.
    """
    growth = _Growth(draw, draw(st.sampled_from(widths)), max_elements)
    steps = draw(st.integers(1, max_nodes))
    turn = draw(st.integers(0, steps - 1)) if must else -1
    for i in range(steps):
        if i == turn:
            growth.one(str(must))
        elif len(growth.graph.nodes) < max_nodes:
            growth.step()
    return growth.finished()


class _Growth(Rescaling, Moves, Kernels):
    """A graph grown one node at a time; `last` is the newest tensor."""

    def __init__(self, draw: Any, widths: str, most: int) -> None:
        self.draw, self.widths, self.most = draw, widths, most
        self.rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
        self.graph = IntegerGraph("drawn")
        self.inputs: dict[str, IntArray] = {}
        self.held: dict[str, tuple[int, int]] = {}  # ranges that hold whatever overflowed before
        self.values: dict[str, IntArray] = {}  # so that requantizers meet more than the middle of a range
        self.last = self.input(self.shape())

    def finished(self) -> GraphCase:
        """Outputs: the newest tensor, what nothing reads, and some of what something reads."""
        graph = self.graph
        read = {n for node in graph.nodes for n in node.inputs}
        graph.outputs = [n.output for n in graph.nodes if n.output == self.last or n.output not in read]
        more = [n for n in graph.tensors if n not in graph.outputs]
        graph.outputs += [n for n in more if self.chance(4)]
        graph.check()
        return GraphCase(graph, self.inputs, self.widths)

    # draws

    def one_of(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self, n: int) -> bool:
        """True once in n times."""
        return self.number(1, n) == n

    def kind(self) -> IntegerType:
        widest = WIDEST[self.widths]
        usual = min(8, widest)
        bits = self.one_of(usual, usual, usual, widest, 4, 2, 1, self.number(1, widest))
        return IntegerType(bits, self.number(0, 1) == 1)

    def shape(self) -> tuple[int, ...]:
        form = self.one_of("image", "image", "image", "line", "volume", "matrix", "matrices")
        small, n = [self.number(1, 9) for _ in range(3)], self.number(1, 3)
        channels = self.one_of(1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 33)
        shape = {
            "image": [n, channels, small[0], self.one_of(small[1], small[1], 15 + 6 * small[1])],
            "line": [n, channels, self.one_of(small[0], 60 * small[0] + small[1])],
            "volume": [n, channels, *((s + 1) // 2 for s in small)],
            "matrix": [small[0] * n, channels * small[1]],
            "matrices": [n, small[0], small[1] * channels],
        }[form]
        while math.prod(shape) > self.most:
            shape[shape.index(max(shape))] //= 2
        return tuple(shape)

    def codes(self, low: int, high: int, shape: tuple[int, ...]) -> IntArray:
        """Blocks along one axis: any values, both ends, or one end throughout."""
        if not shape:
            return np.array(self.rng.choice([low, high]), np.int64)
        axis = int(self.rng.integers(len(shape)))
        block = [s if a == axis else 1 for a, s in enumerate(shape)]
        ends = self.rng.choice([low, high], shape)
        calm = self.rng.choice([low, high], block)
        temper = self.rng.random(block)
        some = self.rng.integers(low, high, shape, endpoint=True)
        return np.where(temper < 0.5, some, np.where(temper < 0.75, ends, calm)).astype(np.int64)

    # tensors

    def input(self, shape: tuple[int, ...]) -> str:
        """A graph input: all of a type, a part of its range, or -1 and 1."""
        name, kind = f"x{len(self.inputs)}", self.kind()
        low, high = kind.min, kind.max
        if self.chance(3):
            low, high = sorted((self.number(low, high), self.number(low, high)))
        if bipolar := self.chance(8):
            low, high, kind = -1, 1, IntegerType(2, True, True)
        codes = self.codes(low, high, shape)
        self.inputs[name] = self.values[name] = np.where(codes >= 0, 1, -1) if bipolar else codes
        typed = None if self.chance(6) else kind
        self.graph.tensors[name] = Tensor(name, shape, low, high, ONE, ZERO, typed)
        self.graph.inputs.append(name)
        self.held[name] = low, high
        return name

    def emit(
        self,
        op: str,
        inputs: list[str],
        attributes: dict[str, Any],
        arrays: dict[str, IntArray] | None = None,
        kind: IntegerType | None = None,
        held: tuple[int, int] | None = None,
    ) -> str | None:
        """Append a node; None, and nothing appended, where its result is too large for these tests."""
        name = f"t{len(self.graph.nodes)}"
        node = Node(op, name, tuple(inputs), name, attributes, arrays or {}, f"{op}_{name}")
        tensors = [self.graph.tensors[i] for i in inputs]
        try:
            shape = tuple(OPS[op].shape(node, *(t.shape for t in tensors)))
            low, high = OPS[op].value_range(node, *tensors)
        except IntsimError:
            return None
        if max(-low, high) > LARGEST or not 0 < math.prod(shape) <= self.most:
            return None
        self.graph.add(node, Tensor(name, shape, int(low), int(high), ONE, ZERO, kind))
        self.values[name] = OPS[op].evaluate(node, *(self.values[i] for i in inputs))
        if held is not None:
            self.held[name] = held
        self.last = name
        return name

    def info(self, name: str) -> Tensor:
        return self.graph.tensors[name]

    def pick(self, names: list[str]) -> str | None:
        """The newest tensor three times in four, else any; None of none."""
        if self.last in names and not self.chance(4):
            return self.last
        return self.one_of(*names) if names else None

    def of_rank(self, *ranks: int) -> str | None:
        return self.pick([n for n, t in self.graph.tensors.items() if len(t.shape) in ranks and t.shape])

    def factor(self, *ranks: int) -> str | None:
        """A tensor that the narrowest multiplier of these widths takes."""
        half = 1 << WIDEST[self.widths] - 1

        def fits(t: Tensor) -> bool:
            if self.widths == "wide":
                return max(-t.low, t.high) < 1 << 20
            low, high = (t.low, t.high) if t.type is None else (t.type.min, t.type.max)
            return (low >= 0 and high < 2 * half) or (low >= -half and high < half)

        return self.pick([n for n, t in self.graph.tensors.items() if len(t.shape) in ranks and fits(t)])

    # nodes

    def one(self, op: str) -> None:
        """A node of this operator, if need be of a tensor that it takes."""
        for _ in range(4):
            if getattr(self, MAKERS.get(op, op))() is not None:
                return
            self.last = self.input(self.shape())
        assume(False)

    def step(self) -> None:
        """One node that fits, or two: a sum of products is mostly requantized at once."""
        wide = max(-self.info(self.last).low, self.info(self.last).high) >> WIDEST[self.widths]
        if wide and not self.chance(4):
            self.requantize()
            return
        macs = [self.conv] * 9 + [self.conv_transpose] * 3 + [self.matmul] * 3 + [self.bypass] * 4
        moves = [
            self.gather,
            self.gather,
            self.gather,
            self.concat,
            self.concat,
            self.pad,
            self.reshape,
            self.transpose,
        ]
        others = [self.affine, self.affine, self.max_pool, self.max_pool, self.sum_pool, self.sum_pool]
        others += [
            self.mul,
            self.grid,
            self.function,
            self.lookup,
            self.reduce_sum,
            self.interpolate,
            self.softmax,
            self.layer_norm,
            self.rms_norm,
            self.activation,
            self.zero,
            self.staircase,
            self.fused,
        ]
        made = self.one_of(*macs, *[self.requantize] * 4, *moves, *others)()
        if made is None or (OPS[self.graph.nodes[-1].op].name in ("conv", "matmul") and not self.chance(3)):
            self.requantize()

    def weight(self, shape: tuple[int, ...], axis: int) -> tuple[dict[str, Any], dict[str, IntArray]]:
        """Attributes and arrays that every sum of products has; `axis` of the weights is that of channels."""
        kind, channels = self.kind(), shape[axis]
        codes = self.codes(kind.min, kind.max, shape)
        if self.chance(8):
            kind, codes = IntegerType(2, True, True), self.rng.choice([-1, 1], shape)
        attributes: dict[str, Any] = {}
        if not self.chance(6):
            attributes["weight_type"] = {"bits": kind.bits, "signed": kind.signed, "narrow": kind.narrow}
        arrays = {"weight": codes.astype(np.int64)}
        zeros = self.number(0, 4)
        if zeros == 3:
            arrays["weight_zero"] = np.array(self.rng.integers(kind.min, kind.max + 1), np.int64)
        elif zeros == 4:
            block = [channels if a == axis else 1 for a in range(len(shape))]
            arrays["weight_zero"] = self.rng.integers(kind.min, kind.max, block, endpoint=True)
        return attributes, arrays

    def bias(self, channels: int) -> dict[str, IntArray]:
        reach = self.one_of(0, 0, 3, 40, 5000, 1 << 20)
        return {"bias": self.rng.integers(-reach, reach + 1, channels)} if reach else {}

    def zero_point(self, name: str) -> int:
        t = self.info(name)
        return self.one_of(
            0, 0, t.low, t.low, t.high, self.number(t.low, t.high), t.low - 1, t.high + self.number(1, 300)
        )

    def conv(self) -> str | None:
        name = self.factor(3, 4, 5)
        if name is None:
            return None
        shape = self.info(name).shape
        rank, c = len(shape) - 2, shape[1]
        at: dict[str, Any] = {"strides": [], "dilations": [], "pads": [0] * (2 * rank)}
        kernel = []
        for i, size in enumerate(shape[2:]):
            kernel.append(k := self.one_of(1, 1, 2, 3, 3, 3, self.number(1, 7)))
            at["strides"].append(self.one_of(1, 1, 2, 3))
            at["dilations"].append(d := self.one_of(1, 1, 1, 2, 3))
            least = -1 if size > 2 else 0
            begin, end = (self.one_of(0, k // 2, self.number(least, 3)) for _ in range(2))
            at["pads"][i], at["pads"][rank + i] = begin, max(end, d * (k - 1) + 1 - size - begin)
        return self.layer("conv", name, at, kernel, [1, c, *(g for g in range(2, c) if c % g == 0)])

    def bypass(self) -> str | None:
        """Codes of a convolution beside its input, as in U-shaped networks; sometimes of twice the size."""
        name = self.factor(3, 4)
        if name is None:
            return None
        shape, rank = self.info(name).shape, len(self.info(name).shape) - 2
        kernel = [self.one_of(1, 3) for _ in range(rank)]
        at = {"strides": [1] * rank, "dilations": [1] * rank, "pads": [k // 2 for k in kernel] * 2}
        if self.layer("conv", name, at, kernel, [1, 1, shape[1]]) is None or (made := self.requantize()) is None:
            return None
        if self.info(made).shape[2:] == shape[2:] and len(self.info(made).shape) == rank + 2:
            parts = self.one_of([made, name], [name, made], [made, name, made])
            made = self.moved("concat", parts, {"axis": 1}) if self.info(made).shape[0] == shape[0] else made
        whole = made is not None and len(self.info(self.last).shape) == rank + 2
        for axis in range(2, rank + 2) if whole and self.chance(2) else ():
            index = np.repeat(np.arange(self.info(self.last).shape[axis]), 2)
            made = self.moved("gather", [self.last], {"axis": axis}, {"index": index}) if made else None
        return made

    def conv_transpose(self) -> str | None:
        name = self.factor(3, 4, 5)
        if name is None:
            return None
        shape = self.info(name).shape
        rank = len(shape) - 2
        at: dict[str, Any] = {"insert": [], "strides": [1] * rank, "dilations": [], "pads": [0] * (2 * rank)}
        kernel = []
        for i, size in enumerate(shape[2:]):
            kernel.append(k := self.one_of(2, 2, 3, 4, self.number(1, 5)))
            at["insert"].append(step := self.one_of(2, 2, 1, 3))
            at["dilations"].append(d := self.one_of(1, 1, 1, 2))
            reach, stuffed = d * (k - 1), (size - 1) * step + 1
            crop = self.number(0, 2)
            begin, end = (reach - (crop if reach - crop >= 0 or size > 2 else 0) for _ in range(2))
            end += self.number(0, step - 1)  # output_padding
            at["pads"][i], at["pads"][rank + i] = begin, max(end, reach + 1 - stuffed - begin)
        return self.layer("conv_transpose", name, at, kernel, [1, 1, shape[1]])

    def layer(self, op: str, name: str, at: dict[str, Any], kernel: list[int], groups: list[int]) -> str | None:
        """A convolution whose products are few enough; fewer output channels where they would be too many."""
        c = self.info(name).shape[1]
        at["groups"] = g = self.one_of(*groups)
        per_group = self.one_of(1, 1, 2, 3) if g == c else self.one_of(1, 2, 3, 4, 5, 8, 9, 17, 34)
        at["zero_point"] = self.zero_point(name)
        for out in (g * per_group, g):
            more, arrays = self.weight((out, c // g, *kernel), 0)
            node = Node(op, "", (name,), "", {**at, **more}, arrays)
            products = math.prod(OPS[op].shape(node, self.info(name).shape)) * c // g * math.prod(kernel)
            if products <= MOST_PRODUCTS:
                return self.emit(op, [name], node.attributes, {**arrays, **self.bias(out)})
        return None

    def matmul(self) -> str | None:
        """By a constant matrix, by one for each matrix of the batch, or by a second tensor."""
        name = self.factor(2, 3, 4)
        if name is None:
            return None
        *batch, m, depth = self.info(name).shape
        n = self.one_of(1, 2, 3, 4, 5, 8, 16, 17, 31)
        if math.prod((*batch, m, depth, n)) > MOST_PRODUCTS:
            return None
        form = self.one_of("constant", "constant", "batched", "tensors", "itself")
        zero = {"zero_point": self.zero_point(name)}
        if form in ("constant", "batched"):
            shape = (depth, n) if form == "constant" else (*(batch or (2,)), depth, n)
            at, arrays = self.weight(shape, len(shape) - 1)
            return self.emit(
                "matmul", [name], {**zero, **at}, {**arrays, **(self.bias(n) if form == "constant" else {})}
            )
        if form == "itself":
            perm = [*range(len(batch)), len(batch) + 1, len(batch)]
            other = self.emit("transpose", [name], {"perm": perm}, kind=self.info(name).type)
        else:
            other = self.input((*(batch if self.chance(2) else ()), depth, n))
        if other is None:
            return None
        kind, point = self.info(other).type, self.zero_point(other)
        at = {"weight_type": {"bits": kind.bits, "signed": kind.signed, "narrow": kind.narrow}} if kind else {}
        return self.emit("matmul", [name, other], {**zero, **at}, {"weight_zero": np.array(point)} if point else {})

    def pool(self, op: str) -> str | None:
        name = self.of_rank(3, 4, 5)
        if name is None:
            return None
        sizes = self.info(name).shape[2:]
        rank = len(sizes)
        at: dict[str, Any] = {"kernel": [], "strides": [], "dilations": [1] * rank, "pads": [0] * (2 * rank)}
        for i, size in enumerate(sizes):
            at["kernel"].append(k := self.number(1, min(size, 4)))
            at["strides"].append(self.number(1, 3))
            if k > 1 and size > 2 * k and self.chance(4):
                at["dilations"][i] = 2
            at["pads"][i], at["pads"][rank + i] = (self.number(0, k - 1) for _ in range(2))
        if op == "max_pool":
            return self.emit(op, [name], at, kind=self.info(name).type, held=self.held.get(name))
        positions = OPS[op].shape(Node(op, "", (), "", at), self.info(name).shape)[2:]
        weight = self.rng.integers(1, 4, positions) if self.chance(2) else np.ones(positions, np.int64)
        return self.emit(op, [name], {**at, "zero_point": self.zero_point(name)}, {"weight": weight[None, None]})

    def max_pool(self) -> str | None:
        return self.pool("max_pool")

    def sum_pool(self) -> str | None:
        return self.pool("sum_pool")

    def mul(self) -> str | None:
        x = self.of_rank(*range(6))
        y = self.beside(x)
        return self.emit("mul", [x, y], {"zero_points": [self.zero_point(n) for n in (x, y)]})

    def activation(self) -> str | None:
        """A tensor times a function of it, and codes of that."""
        x = self.pick([n for n, t in self.graph.tensors.items() if t.high - t.low < 256])
        if x is None:
            return None
        low, high = self.info(x).low, self.info(x).high
        entries = self.rng.integers(-9, 40, (1, high - low + 1))
        y = self.emit("table", [x], {"low": low, "cells": [1]}, {"table": entries})
        if y is None or self.emit("mul", [x, y], {"zero_points": [self.zero_point(x), 0]}) is None:
            return None
        return self.requantize()

    def zero(self) -> str | None:
        x = self.of_rank(*range(6))
        shape = tuple(self.one_of(1, n) for n in self.info(x).shape)
        zero = self.input(self.one_of((), (1,) * len(shape)))
        return self.emit("zero_point", [x, zero], {}, {"weights": self.rng.integers(-300, 301, shape)})

    def reduce_sum(self) -> str | None:
        x = self.of_rank(*range(6))
        rank = len(self.info(x).shape)
        return self.emit("reduce_sum", [x], {"axes": sorted({self.number(0, rank - 1) for _ in range(2)})})
