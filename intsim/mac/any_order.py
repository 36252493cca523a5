"""How far a layer's sums can reach: finished, on the way in the target's order, on the way in any order.

One output element is a sum of *addends*: its K products, a bias that is preloaded, and one late addend (the bias added
afterwards and what compensates the zero points of raw codes, as one number). In any order means: every permutation of
these addends, added one after another into one register that starts at 0. A partial sum is then the sum of any subset,
so without a late addend that depends on the data its greatest value is the sum of max(0, greatest addend).

With products of raw codes x, w and their zero points zx, z, the late addend's share of product k is
`-zx w - z x + zx z`, and share + product is `(x - zx)(w - z)`. Both are linear in x and in w, so all extremes lie at
the ends of the ranges; and each product has its own x (and w), so extremes of a sum are sums of extremes. Where the
late addend depends on x, a partial sum either has it (then each product is in the sum, or only its share) or hasn't.

A2Q (arXiv 2308.13504) bounds the same partial sums by the weights' l1 norm; this bound takes the range as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from intsim.arithmetic.registers import Registers
from intsim.graph import IntArray, Node, Tensor
from intsim.mac.operands import Operands
from intsim.mac.padding import PaddingPatterns, padding_patterns
from intsim.mac.plan import bias_terms, multiplied
from intsim.ops.mac import Mac

Sums = Literal["final", "own", "any", "products"]
"""The finished accumulator; every partial sum in the target's order; in any order; in any order, of products alone."""
KINDS: tuple[Sums, ...] = ("final", "own", "any", "products")
BLOCK = 1 << 20
"""Most products looked at in one go: bounds memory, not results."""


class Reach(NamedTuple):
    """Least and greatest value a channel, and the weight row and padding pattern that attain it; all (channels,)."""

    low: IntArray
    high: IntArray
    low_row: IntArray
    high_row: IntArray
    low_pattern: IntArray
    high_pattern: IntArray


class Terms(NamedTuple):
    """Corners of products: (corners, rows, K) product, and its share of the late addend, for inputs and padding."""

    product: IntArray
    share: IntArray
    pad_product: IntArray
    pad_share: IntArray


@dataclass(frozen=True)
class Addends:
    """What is added up for the elements of a layer, as its multiplier sees it.

    Attributes:
        operands: shifts and zero points.
        x: ends of the activation's range.
        w: one array (R, K) for constant weights, two (the ends of the range) for a second tensor; R is a row a channel
            and weight matrix.
        zero: (R,) zero points of the weights, 0 where products are of corrected values.
        start: (R,) preloaded bias, or None.
        bias: (R,) the bias in the late addend, or None. A bias behind the registers is no addend.
        late: whether there is a late addend.
        patterns: where padding can be.
        channels: R is a multiple of it.
    """

    operands: Operands
    x: tuple[int, int]
    w: tuple[IntArray, ...]
    zero: IntArray
    start: IntArray | None
    bias: IntArray | None
    late: bool
    patterns: PaddingPatterns
    channels: int

    def terms(self, rows: slice) -> Terms:
        """The corners of some rows."""
        zero, zx = self.zero[rows, None], self.operands.x_zero
        w = [v[rows] for v in self.w]

        def share(x: int, v: IntArray) -> IntArray:
            return -zx * v - zero * x + zx * zero

        inside, outside = [(x, v) for x in self.x for v in w], [(self.operands.pad, v) for v in w]
        parts = [np.stack([f(x, v) for x, v in pairs]) for pairs in (inside, outside) for f in (operator.mul, share)]
        if self.operands.owed:  # its share is paid back
            parts[3] = np.zeros_like(parts[3])
        return Terms(*parts)

    def greatest(self, rows: slice, sign: int) -> dict[Sums, IntArray]:
        """(rows, patterns) of each kind: the greatest value of `sign` times the sum."""
        terms = Terms(*(sign * t for t in self.terms(rows)))
        inside, outside = terms[:2], terms[2:]
        count = terms.product.shape[1]
        start, bias = (
            sign * v[rows, None] if v is not None else np.zeros((count, 1), self.w[0].dtype)
            for v in (self.start, self.bias)
        )
        without = self._add_up(*(np.maximum(p, 0).max(axis=0) for p, _ in (inside, outside)))
        whole = self._add_up(*((p + s).max(axis=0) for p, s in (inside, outside)))
        final = start + bias + whole
        reached = without
        if self.late:
            with_late = self._add_up(*((s + np.maximum(p, 0)).max(axis=0) for p, s in (inside, outside)))
            reached = np.maximum(without, bias + with_late)
        prefix = self._prefix(inside[0].max(axis=0), outside[0].max(axis=0))
        own = np.maximum(np.maximum(start + prefix, final), 0)
        return {"final": final, "own": own, "any": np.maximum(start, 0) + reached, "products": without}

    def _add_up(self, inside: IntArray, outside: IntArray) -> IntArray:
        """(rows, K) twice to (rows, patterns)."""
        masks = self.patterns.masks
        if masks.all():
            return np.repeat(inside.sum(axis=1, keepdims=True), len(masks), axis=1)
        return inside @ masks.T.astype(inside.dtype) + outside @ (~masks.T).astype(inside.dtype)

    def _prefix(self, inside: IntArray, outside: IntArray) -> IntArray:
        """(rows, patterns): the greatest sum of the first 0..K products."""
        sums = [np.where(m, inside, outside).cumsum(axis=1).max(axis=1, initial=0) for m in self.patterns.masks]
        return np.stack(sums, axis=1)

    def reach(self) -> dict[Sums, Reach]:
        """Bounds of every kind a channel. All are attained, if no tensor is both operands of the product."""
        sides = [self._best(sign) for sign in (-1, 1)]
        return {k: Reach(-sides[0][k][0], sides[1][k][0], *(s[k][i] for i in (1, 2) for s in sides)) for k in KINDS}

    def _best(self, sign: int) -> dict[Sums, tuple[IntArray, IntArray, IntArray]]:
        """Of each kind: the greatest value a channel, its row and its pattern."""
        blocks: list[dict[Sums, IntArray]] = [self.greatest(rows, sign) for rows in self._blocks()]
        greatest: dict[Sums, tuple[IntArray, IntArray, IntArray]] = {}
        for kind in KINDS:
            values = np.concatenate([b[kind] for b in blocks])
            pattern = values.argmax(axis=1)
            best = np.take_along_axis(values, pattern[:, None], axis=1).reshape(-1, self.channels)
            matrix = best.argmax(axis=0)
            row = matrix * self.channels + np.arange(self.channels)
            greatest[kind] = (best[matrix, np.arange(self.channels)], row, pattern[row])
        return greatest

    def _blocks(self) -> Iterator[slice]:
        count, depth = self.w[0].shape
        step = max(1, BLOCK // max(1, depth))
        return (slice(r, r + step) for r in range(0, count, step))


def addends(node: Node, op: Mac, tensors: list[Tensor], registers: Registers) -> Addends:
    """How `node` adds up on a machine with these registers.

    Raises IntsimError when a tensor doesn't fit the machine's multiplier.
    """
    layer = multiplied(node, op, tensors, registers)
    operands, x, w, zero, channels = layer
    start, after, _ = (None if b is None else layer.by_row(b) for b in bias_terms(node, registers))
    carrier = _carrier(operands, x, w, zero, after if start is None else start)
    return Addends(
        operands,
        x,
        tuple(a.astype(carrier) for a in w),
        zero.astype(carrier),
        None if start is None else start.astype(carrier),
        None if after is None else after.astype(carrier),
        operands.x_zero != 0 or operands.depends_on_data() or after is not None,
        padding_patterns(
            node, op, [t.shape for t in tensors], w[0].shape[1], registers.order, x[0] <= operands.pad <= x[1]
        ),
        channels,
    )


def _carrier(operands: Operands, x: tuple[int, int], w: list[IntArray], zero: IntArray, bias: IntArray | None) -> type:
    """int64 where that holds every sum, else Python integers."""
    peak_x = max(abs(x[0]), abs(x[1]), abs(operands.x_zero))
    peak_z = int(np.abs(zero).max(initial=0))
    peak_w = max(int(np.abs(a).max(initial=0)) for a in w) + peak_z
    largest = 4 * peak_x * peak_w * w[0].shape[1] + (0 if bias is None else 2 * int(np.abs(bias).max(initial=0)))
    return np.int64 if largest < 2**62 else object
