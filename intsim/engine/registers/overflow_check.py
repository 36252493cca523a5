"""The overflow check: sums of a layer that show, for the inputs at hand, that no register can have overflowed.

Products of unsigned bytes with weights above 0 only raise a partial sum, those with weights below 0 only lower it. So
all partial sums of an output, in any order and in any register, lie between the sum N of the latter and the sum P of
the former; A2Q (arXiv 2308.13504) bounds by the same two. Where they fit the registers, the accumulator is P + N, and
nothing overflowed; that costs two exact sums instead of a step for each product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.engine.exact.conv import Bound, Part, Window, WordConv
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.kernels import convolve_checked
from intsim.engine.exact.layout import Buffer
from intsim.engine.exact.matmul import WordMatmul
from intsim.graph import IntArray

PROBE, SHARE = 1024, 8
"""Outputs of a channel that are tried before all are, and at most one in how many."""
NEVER = -(1 << 31), (1 << 31) - 1
Flags = NDArray[np.bool_]


def limits(
    stages: Sequence[Stage], start: IntArray | None, late: IntArray | None, proven: Flags
) -> NDArray[np.int32] | None:
    """(3, O): the least negative part and the greatest positive part that no register minds, and start + late.

    Where the constants alone don't fit, no part does. None where they don't fit 32 bits.

    Args:
        stages: the registers.
        start, late: (O,) preloaded into the last register, and added to it at the end; or None.
        proven: (O,) channels that can't overflow at all, whose parts aren't bounded.
    """
    start, late = (np.zeros(len(proven), np.int64) if term is None else term for term in (start, late))
    if np.abs(start + late).max(initial=0) >= 1 << 31:
        return None
    least, most = max(s.min for s in stages), min(s.max for s in stages)
    last = stages[-1]
    low = np.maximum(least, last.min - start - np.minimum(late, 0))
    high = np.minimum(most, last.max - start - np.maximum(late, 0))
    low, high = np.where(proven, NEVER[0], low), np.where(proven, NEVER[1], high)
    return np.stack([np.clip(low, *NEVER), np.clip(high, *NEVER), start + late]).astype(np.int32)


class MatmulCheck:
    """As `ConvCheck`, of a product with a constant matrix (K, N) as the multiplier sees it, within int8."""

    def __init__(self, weight: IntArray, limits: NDArray[np.int32], dot: Dot) -> None:
        """Lay out the weights above and below 0."""
        both = np.concatenate([np.maximum(weight, 0), np.minimum(weight, 0)], axis=1)
        self.columns = weight.shape[1]
        self.product = WordMatmul(both, np.zeros(2 * self.columns, np.int64), dot)
        self.limits = limits

    def run(self, codes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Flags]:
        """Accumulators (M, N) of bytes (M, K), and the columns (N,) whose parts leave their limits."""
        both = self.product.run(codes, 0)
        positive, negative = both[:, : self.columns], both[:, self.columns :]
        failed = (negative.min(axis=0) < self.limits[0]) | (positive.max(axis=0) > self.limits[1])
        return positive + negative + self.limits[2], failed


class ConvCheck:
    """A convolution of words whose channels' parts are bounded as they are summed.

    Args:
        weight: (O, C / groups, kh, kw) as the multiplier sees them, within int8.
        limits: as `limits` makes them.
        window, pad, dot: as in `WordConv`; the multiplier sees bytes as they are.
    """

    def __init__(self, weight: IntArray, limits: NDArray[np.int32], window: Window, pad: int, dot: Dot) -> None:
        """Lay out the weights above and below 0."""
        channels = weight.shape[0]
        both = np.stack([np.maximum(weight, 0), np.minimum(weight, 0)], axis=1).reshape(2 * channels, *weight.shape[1:])
        self.conv = WordConv(both, np.zeros(2 * channels, np.int64), window, pad, 0, dot, tiled=False)
        self.channels, self.limits = channels, limits

    def run(
        self, bound: Sequence[Bound], source: Buffer, failed: Flags, raw: NDArray[np.int32], probe: bool = False
    ) -> None:
        """Sums into `raw` (flat, of all images); blocks of a grid in which a channel fails are marked in `failed`.

        Channels of a block are `pairs` neighbours. With `probe` only some rows in the middle are tried.
        """
        for one in bound:
            middle = max(1, min(one.rows[0] // SHARE, PROBE // one.source[1]))
            first = (one.rows[0] - middle) // 2
            known = failed.copy()

            def part(share: Part, one: Bound = one, known: Flags = known) -> Flags:
                marks = known.copy()
                images, span = (*share[:2], *one.images[1:]), (*share[2:], one.rows[1])
                layer, out = (*one.layer[:4], self.channels), (raw, *one.out)
                convolve_checked((source, *one.source), images, span, layer, self.limits, out, marks, one.tile)
                return marks

            for marks in [part((0, 1, first, first + middle))] if probe else one.each(part):
                failed |= marks

    @property
    def pairs(self) -> int:
        """Channels of a block."""
        return self.conv.blocks[0].high // 2
