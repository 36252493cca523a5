"""Small graphs that make the engine compile what it is going to need, so that later runs find it on disk.

A case is one line: a name and what is put behind an input. Every case runs on every target that takes its operands,
with overflow events counted and every tensor kept, and with neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.engine.run import run_graph
from intsim.engine.telemetry.demand import mac_demand
from intsim.engine.threads import using
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor, rationals
from intsim.ops import OPS, Mac
from intsim.targets import Target

TARGETS = (
    *("exact", "x86-vnni", "x86-avx2", "cpu-int32", "fbgemm-acc16", "arm-neon-int8", "cortex-m-smlad", "hexagon-hvx"),
    *("tflite-single", "tosa", "onnxruntime-vnni", "dsp-40", "dsp48e2-int8", "dsp48e2-int4"),
    *(f"{rule}-{bits}" for rule in ("saturate", "wrap") for bits in (12, 16, 20, 24, 31, 32, 36)),
)
"""Targets that between them need every kernel."""


TURNS = 2
"""Runs of a case: the second one chains calls."""


class Sketch:
    """A graph of one input under construction; `last` is its newest tensor."""

    def __init__(self, shape: tuple[int, ...], bits: int = 8, signed: bool = False) -> None:
        """A graph with an input of that shape and type."""
        self.graph, self.rng = IntegerGraph("warm"), np.random.default_rng(0)
        self.values: dict[str, IntArray] = {}
        self.last = self.input(shape, bits, signed)

    def input(self, shape: tuple[int, ...], bits: int = 8, signed: bool = False) -> str:
        """Another input."""
        kind, name = IntegerType(bits, signed), f"x{len(self.graph.inputs)}"
        self.graph.tensors[name] = Tensor(name, shape, kind.min, kind.max, rationals(1), rationals(0), kind)
        self.graph.inputs.append(name)
        self.values[name] = self.rng.integers(kind.min, kind.max, shape, endpoint=True)
        return name

    def node(
        self, op: str, *inputs: str, kind: IntegerType | None = None, arrays: Any = None, **attributes: Any
    ) -> str:
        """Any operator on `inputs`, or on the newest tensor."""
        name, read = f"t{len(self.graph.nodes)}", inputs or (self.last,)
        node = Node(op, name, read, name, attributes, arrays or {}, name)
        tensors = [self.graph.tensors[i] for i in read]
        shape = tuple(OPS[op].shape(node, *(t.shape for t in tensors)))
        low, high = OPS[op].value_range(node, *tensors)
        if kind is None and op not in ("requantize", "affine") and not isinstance(OPS[op], Mac):
            kind = tensors[0].type
        self.last = self.graph.add(node, Tensor(name, shape, int(low), int(high), rationals(1), rationals(0), kind))
        return self.last

    def conv(self, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1, **more: Any) -> str:
        """A convolution of the newest tensor, padded to keep its size, with a requantizer (`signed` or not).

        Without one, if not `rounded`.
        """
        channels, rank = self.graph.tensors[self.last].shape[1], len(self.graph.tensors[self.last].shape) - 2
        bits, signed = more.pop("bits", 8), more.pop("signed", False)
        weight = self.weight((out, channels // groups, *[kernel] * rank), bits)
        if more.pop("bias", False):
            weight["bias"] = self.rng.integers(-(1 << 12), 1 << 12, out)
        rounded, pads = more.pop("rounded", True), [dilation * (kernel - 1) // 2] * (2 * rank)
        at = {"strides": [stride] * rank, "dilations": [dilation] * rank, "pads": pads, "groups": groups, **more}
        made = self.node(at.pop("op", "conv"), arrays=weight, zero_point=0, weight_type=typed(bits), **at)
        return self.rounded(made, signed=signed) if rounded else made

    def matmul(self, out: int) -> str:
        """A product with a constant matrix, with a requantizer."""
        depth = self.graph.tensors[self.last].shape[-1]
        weight = self.weight((depth, out))
        return self.rounded(self.node("matmul", arrays=weight, zero_point=0, weight_type=typed(8)))

    def weight(self, shape: tuple[int, ...], bits: int = 8) -> dict[str, IntArray]:
        """Random weights, one a product."""
        kind = IntegerType(bits, True)
        return {"weight": self.rng.integers(kind.min, kind.max, shape, endpoint=True)}

    def rounded(self, *names: str, bits: int = 8, signed: bool = False) -> str:
        """A requantizer of the sum of tensors, one cell a channel."""
        kind, shape = IntegerType(bits, signed), self.graph.tensors[names[0]].shape
        axis = 1 if len(shape) > 2 else len(shape) - 1
        cells = [s if i == axis else 1 for i, s in enumerate(shape)]
        reach = max(-self.graph.tensors[names[0]].low, self.graph.tensors[names[0]].high, 1)
        pieces = [[[None, f"{kind.max * (3 + c % 5)}/{reach}", "1/3"]] for c in range(shape[axis])]
        more = {"coefficients": np.ones((len(names), *[1] * len(shape)), np.int64)} if len(names) > 1 else None
        at = {"cells": cells, "pieces": pieces, "rounding": "half_even", "zero": 0, "low": kind.min, "high": kind.max}
        return self.node("requantize", *names, kind=kind, arrays=more, **at)

    def table(self) -> str:
        """A table of the newest tensor, of entries in no order."""
        x = self.graph.tensors[self.last]
        entries = self.rng.integers(0, 255, (1, x.high - x.low + 1), endpoint=True)
        return self.node("table", kind=IntegerType(8, False), arrays={"table": entries}, low=x.low, cells=[1])

    def staircase(self) -> str:
        """Steps of the newest tensor, one staircase a channel."""
        x = self.graph.tensors[self.last]
        starts = np.sort(self.rng.integers(x.low, x.high, (x.shape[1], 7), endpoint=True))
        codes = self.rng.integers(0, 255, (x.shape[1], 8), endpoint=True)
        cells = [1, x.shape[1], *[1] * (len(x.shape) - 2)]
        arrays = {"starts": starts, "codes": codes}
        return self.node("staircase", kind=IntegerType(8, False), arrays=arrays, cells=cells)

    def grid(self) -> str:
        """Numbers of the newest tensor on a grid, of one line a channel."""
        count, rank = self.graph.tensors[self.last].shape[1], len(self.graph.tensors[self.last].shape)
        pieces = [[[None, f"{257 + c}/1", "128/1"]] for c in range(count)]
        return self.node("grid", cells=[1, count, *[1] * (rank - 2)], pieces=pieces, shift=8, off="1")


def typed(bits: int) -> dict[str, Any]:
    """The attribute of signed weights."""
    return {"bits": bits, "signed": True, "narrow": False}


IMAGE = (1, 8, 9, 37)
WINDOW: dict[str, Any] = {"strides": [2, 2], "dilations": [1, 1], "kernel": [2, 2], "pads": [0, 0, 0, 0]}
ONES = {"weight": np.ones((1, 1, 1, 1), np.int64)}
SOFTMAX: dict[str, Any] = {
    "axes": [2],
    "fraction": 24,
    "bits": 30,
    "arrays": {"table": np.array([1 << 30, 1 << 29, 1 << 28, 0])},
}
NORM: dict[str, Any] = {"axes": [2], "fraction": 24, "epsilon": "1/7"}
Build = Callable[[Sketch], Any]
CASES: dict[str, tuple[tuple[Any, ...], Build]] = {
    "conv": (IMAGE, lambda s: s.conv(16)),
    "conv with a bias": (IMAGE, lambda s: s.conv(16, bias=True)),
    "conv 1x1 with a bias": (IMAGE, lambda s: s.conv(16, 1, bias=True)),
    "conv of signed codes with a bias": ((IMAGE, 8, True), lambda s: s.conv(16, bias=True)),
    "conv of signed codes": ((IMAGE, 8, True), lambda s: s.conv(16)),
    "conv to signed codes": (IMAGE, lambda s: s.conv(16, signed=True)),
    "conv 1x1": (IMAGE, lambda s: s.conv(16, 1)),
    "conv, one channel out": (IMAGE, lambda s: s.conv(1)),
    "conv, three channels in": ((1, 3, 9, 37), lambda s: s.conv(16, 7, 2)),
    "conv, strided": (IMAGE, lambda s: s.conv(16, 3, 2)),
    "conv, dilated": (IMAGE, lambda s: s.conv(16, 3, 1, 2)),
    "conv, grouped": (IMAGE, lambda s: s.conv(16, groups=2)),
    "conv, depthwise": (IMAGE, lambda s: s.conv(8, groups=8)),
    "conv, 1-D": ((1, 8, 61), lambda s: s.conv(16)),
    "conv of 4 bits": ((IMAGE, 4), lambda s: s.conv(16, bits=4)),
    "conv of 16 bits": ((IMAGE, 16, True), lambda s: s.conv(16)),
    "conv, transposed": (IMAGE, lambda s: s.conv(8, 3, op="conv_transpose", insert=[2, 2])),
    "conv, 32 and 64 channels of 64": ((1, 64, 9, 37), lambda s: (s.conv(64), s.conv(32), s.conv(8, rounded=False))),
    "two convs": (IMAGE, lambda s: (s.conv(16), s.conv(8))),
    "matmul, one row": ((1, 64), lambda s: s.matmul(32)),
    "matmul, rows": ((16, 64), lambda s: s.matmul(32)),
    "matmul, more rows": ((32, 64), lambda s: s.matmul(32)),
    "matmul of tensors": (((2, 16, 64),), lambda s: s.rounded(s.node("matmul", "x0", s.input((2, 64, 16), 8, True)))),
    "residual": (IMAGE, lambda s: s.rounded(s.conv(8), "x0")),
    "rescaled": (IMAGE, lambda s: (s.conv(8), s.rounded(s.last), s.conv(8))),
    "upsampled and joined": (IMAGE, lambda s: (s.node("concat", s.conv(8), "x0", axis=1), doubled(s), s.conv(8))),
    "max pool": (IMAGE, lambda s: (s.node("max_pool", **WINDOW), s.conv(8))),
    "tables": (IMAGE, lambda s: (s.conv(8), s.table(), s.conv(8, signed=True), s.table())),
    "activation": (IMAGE, lambda s: (s.conv(8), activated(s), s.conv(8))),
    "gated": (IMAGE, lambda s: (s.conv(8), gated(s), s.conv(8))),
    "mean": (IMAGE, lambda s: (s.conv(8), s.rounded(s.node("reduce_sum", axes=[2, 3])))),
    "softmax": (((2, 16, 64), 8, True), lambda s: s.node("softmax", kind=IntegerType(32, True), **SOFTMAX)),
    "normalisation": (((2, 16, 64), 8, True), lambda s: s.node("layer_norm", kind=IntegerType(32, True), **NORM)),
    "rescaled rows": ((16, 64), lambda s: s.rounded("x0")),
    "rescaled rows of signed codes": (((16, 64), 8, True), lambda s: s.rounded("x0")),
    "grid": (IMAGE, lambda s: (s.conv(8, rounded=False), s.grid())),
    "staircase": (IMAGE, lambda s: (s.conv(8, rounded=False), s.staircase(), s.conv(8))),
    "sum pool": (IMAGE, lambda s: s.rounded(s.node("sum_pool", zero_point=0, arrays=ONES, **WINDOW))),
}


def doubled(s: Sketch) -> str:
    """Nearest neighbours, twice the height."""
    return s.node("gather", axis=2, arrays={"index": np.repeat(np.arange(s.graph.tensors[s.last].shape[2]), 2)})


def activated(s: Sketch) -> str:
    """The newest tensor times a table of it, as one table."""
    x = s.last
    return s.rounded(s.node("mul", x, s.table(), zero_points=[0, 0]))


def gated(s: Sketch) -> str:
    """The newest tensor times a number a channel."""
    x = s.last
    images, channels = s.graph.tensors[x].shape[:2]
    return s.rounded(s.node("mul", x, s.input((images, channels, 1, 1)), zero_points=[0, 0]))


class Job(NamedTuple):
    """One run: a case on a target, or its telemetry."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class _Case:
    graph: IntegerGraph
    inputs: dict[str, IntArray]

    def run(self, target: Target, counts: bool) -> None:
        for _ in range(TURNS):
            with using(1):
                run_graph(self.graph, self.inputs, target, keep=counts, counts=counts)

    def observe(self, target: Target) -> None:
        node = next(n for n in self.graph.nodes if isinstance(OPS[n.op], Mac))
        arrays = [self.inputs[n] for n in node.inputs]
        op = OPS[node.op]
        assert isinstance(op, Mac)
        mac_demand(node, op, arrays, [self.graph.tensors[n] for n in node.inputs], target)


def case(name: str) -> _Case:
    """Graph and codes of one of `CASES`."""
    first, build = CASES[name]
    sketch = Sketch(*(first if isinstance(first[0], tuple) else (first,)))
    build(sketch)
    sketch.graph.outputs = [sketch.last]
    sketch.graph.check()
    return _Case(sketch.graph, sketch.values)


def jobs() -> Iterator[Job]:
    """All runs; a target that doesn't take a case's operands takes none of its time."""
    targets = [Target.load(name) for name in TARGETS]
    for name in CASES:
        made = case(name)
        for target in targets:
            for counts in (True, False):
                yield Job(f"{name} on {target.name}", _where_it_fits(made.run, target, counts))
    for name in ("conv", "conv of 16 bits"):
        yield Job(f"telemetry of {name}", _where_it_fits(case(name).observe, targets[0]))


def _where_it_fits(run: Callable[..., None], *args: Any) -> Callable[[], bool]:
    def tried() -> bool:
        """Whether the target takes these operands."""
        try:
            run(*args)
        except IntsimError:
            return False
        return True

    return tried
