"""Nodes of random graphs with kernels of their own: rows, staircases, what targets put in a requantizer's place."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.litert import LiteRTAveragePool
from intsim.arithmetic.requantizers.onnxruntime import QLinearAdd, QLinearMul, QLinearTable
from intsim.arithmetic.requantizers.requantizer import Operand, Requantizer, Site
from intsim.arithmetic.rounding import Rounding
from intsim.graph import Node
from intsim.ops import OPS
from intsim.ops.exponentials import falling_exponentials
from intsim.ops.layer_norm import fraction_bits
from intsim.ops.softmax import table_bits

from .growing import Growing

NONE = Fraction(0)


class Kernels(Growing):
    """The part of a growing graph that writes functions of rows, staircases and kernels of runtimes; see graphs.py."""

    def rows(self) -> tuple[str, list[int], tuple[int, ...]] | None:
        """A tensor, the axes of its rows, mostly the last one, and its shape."""
        x = self.of_rank(*range(1, 6))
        if x is None:
            return None
        shape = self.info(x).shape
        return x, [len(shape) - 1] if not self.chance(4) else [self.number(0, len(shape) - 1)], shape

    def softmax(self) -> str | None:
        """With a mask of which each row sees an element, or without one."""
        if (found := self.rows()) is None:
            return None
        x, axes, shape = found
        length = shape[axes[0]]
        bits, last = table_bits(length), min(self.info(x).high - self.info(x).low, 1 << 10)
        arrays = {"table": falling_exponentials(Fraction(1, self.one_of(1, 3, 40)), bits, last, 1 << 11)}
        if self.chance(3):
            block = [s if a in axes else self.one_of(1, s) for a, s in enumerate(shape)]
            seen = self.rng.integers(0, 2, block)
            one = self.rng.integers(0, length, [1 if a in axes else s for a, s in enumerate(block)])
            np.put_along_axis(seen, one, 1, axes[0])
            arrays["mask"] = seen
        return self.emit("softmax", [x], {"axes": axes, "fraction": 24, "bits": bits}, arrays)

    def layer_norm(self) -> str | None:
        """Rows of mean 0 and variance 1."""
        return self.norm("layer_norm")

    def rms_norm(self) -> str | None:
        """Rows of mean square 1."""
        return self.norm("rms_norm")

    def norm(self, op: str) -> str | None:
        if (found := self.rows()) is None:
            return None
        x, axes, shape = found
        at = {"axes": axes, "fraction": self.one_of(0, fraction_bits(shape[axes[0]]))}
        at |= {"epsilon": self.one_of("0/1", "1/3", "1000/1")}
        return self.emit(op, [x], at | ({"zero_point": self.zero_point(x)} if op == "rms_norm" else {}))

    def cells(self, shape: tuple[int, ...], most: int = 40) -> tuple[int, ...]:
        """One cell, or one for each index of an axis."""
        axis = self.one_of(None, min(1, len(shape) - 1), self.number(0, len(shape) - 1))
        cells = tuple(s if i == axis else 1 for i, s in enumerate(shape))
        return cells if math.prod(cells) <= most else (1,) * len(shape)

    def staircase(self) -> str | None:
        """Codes by the places of steps, at the ends of what arrives and beyond them too; some steps are empty."""
        x = self.of_rank(*range(1, 6))
        if x is None:
            return None
        t, kind, steps = self.info(x), self.kind(), self.one_of(0, 1, 7, 60)
        cells = self.cells(t.shape)
        count = math.prod(cells)
        starts = self.rng.integers(t.low - 2, t.high + 3, (count, steps))
        if steps > 2:
            starts[:, :3] = [t.low, t.high, t.high + 1]
        codes = self.rng.integers(kind.min, kind.max, (count, steps + 1), endpoint=True)
        arrays = {"starts": np.sort(starts), "codes": codes}
        held = int(codes.min()), int(codes.max())  # whatever arrives has a code
        return self.emit("staircase", [x], {"cells": list(cells)}, arrays, kind, held)

    def fused(self) -> str | None:
        """A kernel of a runtime: a sum of two tensors' codes, a product, codes of other codes, a mean of windows."""
        return self.one_of(self.fused_add, self.fused_product, self.fused_codes, self.fused_mean)()

    def fused_add(self) -> str | None:
        x = self.bytes(1, 2, 3, 4, 5)
        y = self.beside(x) if x is not None else None
        if x is None or y is None or not self.small(y):
            return None
        operands = tuple(Operand(self.fraction(), self.code(n)) for n in (x, y))
        return self.kernel(QLinearAdd(), None, [x, y], [self.site(operands, still=self.number(0, 1))])

    def fused_product(self) -> str | None:
        """Of two codes, which a node in front multiplied."""
        x = self.bytes(1, 2, 3, 4, 5)
        y = self.beside(x) if x is not None else None
        if x is None or y is None or not self.small(y):
            return None
        zeros = [self.code(n) for n in (x, y)]
        product = self.emit("mul", [x, y], {"zero_points": zeros})
        operands = tuple(Operand(self.fraction(), z) for z in zeros)
        return product and self.kernel(QLinearMul(), None, [product], [self.site(operands)])

    def fused_codes(self) -> str | None:
        """Codes of other codes, of which some channels have scales of their own."""
        x = self.bytes(1, 2, 3, 4, 5)
        if x is None:
            return None
        cells = self.cells(self.info(x).shape)
        sites = []
        for _ in range(math.prod(cells)):
            slope = self.one_of(NONE, NONE, Fraction(1, 8))
            sites.append(self.site((Operand(self.fraction(), self.code(x)),))._replace(slope=slope))
        return self.kernel(QLinearTable(), None, [x], sites, cells)

    def fused_mean(self) -> str | None:
        """The mean of windows, of which padding isn't part."""
        x = self.bytes(3, 4, 5)
        if x is None:
            return None
        sizes = self.info(x).shape[2:]
        kernel = [self.number(1, min(3, s)) for s in sizes]
        pads = [self.number(0, k - 1) for k in kernel + kernel]
        at = {"kernel": kernel, "strides": [self.number(1, 2) for _ in sizes], "dilations": [1] * len(sizes)}
        source = Node("sum_pool", "", (x,), "", {**at, "pads": pads, "zero_point": 0})
        site = self.site((Operand(Fraction(1, 4), 3),))._replace(step=Fraction(1, 4), zero=3, elements=0)
        return self.kernel(LiteRTAveragePool(), source, [x], [site])

    def kernel(
        self,
        requantizer: Requantizer,
        source: Node | None,
        inputs: list[str],
        sites: list[Site],
        cells: tuple[int, ...] | None = None,
    ) -> str | None:
        """The node, its result clipped to a type or to less."""
        kind = self.one_of(IntegerType(8, True), IntegerType(8, False))
        low, high = self.one_of((kind.min, kind.max), (kind.min, kind.max), (3, kind.max - 5))
        zero = sites[0].zero
        shape: tuple[int, ...] = np.broadcast_shapes(*(self.info(n).shape for n in inputs))
        if source is not None:
            shape = OPS[source.op].shape(source, *(self.info(n).shape for n in inputs))
        formulas = [Formula([(None, Fraction(1), NONE)], Rounding.HALF_EVEN, zero, low, high) for _ in sites]
        at = {
            "requantizer": requantizer,
            "source": source,
            "formulas": formulas,
            "sites": sites,
            "low": low,
            "high": high,
        }
        at |= {"cells": list(cells or (1,) * len(shape)), "output": list(shape)}
        return self.emit("fused", inputs, at, kind=kind, held=(low, high))

    def bytes(self, *ranks: int) -> str | None:
        """A tensor whose codes a kernel of a runtime takes, whatever overflowed before."""
        return self.pick([n for n, t in self.graph.tensors.items() if len(t.shape) in ranks and self.small(n)])

    def small(self, name: str) -> bool:
        low, high = self.held.get(name, (0, 1 << 20))
        return high - low < 256

    def code(self, name: str) -> int:
        return self.number(*self.held[name])

    def fraction(self) -> Fraction:
        return Fraction(float(np.float32(self.one_of(0.25, 0.5, 0.1, 0.03, 1.5))))

    def site(self, operands: tuple[Operand, ...], still: int = 1) -> Site:
        """What a kernel is told; ties are common."""
        unit = math.prod((o.scale for o in operands), start=Fraction(1))
        step, zero = self.fraction(), self.number(-3, 90)
        return Site(operands, unit, NONE, step, zero, still=still)
