"""Matrix products whose products lose bits: each is rounded to the registers' LSB before it is added.

The rounded products of a channel, or of a row where rows are few, are values that a plain chain adds up with weights of
1: the registers behind the first are the compiled ones. Blocks bound the memory, not the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Integers, Stage

BLOCK = 1 << 20
"""Most products at a time."""


class Totals(NamedTuple):
    """What `register_matmul` returns, without its name."""

    out: Integers
    events: Integers
    low: Integers
    high: Integers


def rounded_products(a: NDArray[Any], w: NDArray[Any], stage: Stage) -> NDArray[Any]:
    """Products a * w, which fit int64, in LSBs of the registers behind `stage`; of any integer type."""
    half = 1 << (stage.drop - 1)
    reach = _largest(a) * _largest(w) + half
    kind = np.int32 if reach < 1 << 31 else np.int64
    products = a.astype(kind) * w.astype(kind)
    if stage.rounding == "half_up" and reach < 1 << 63:
        return np.asarray((products + kind(half)) >> stage.drop)
    return stage.cast(products)


def rounded_matmul(
    a: NDArray[Any],
    w: NDArray[Any],
    stages: Sequence[Stage],
    start: Integers | None,
    bias: Integers | None,
    extremes: bool,
    added: Callable[..., Any],
) -> Totals:
    """`register_matmul` of stages that drop bits; a (M, K), w (N, K) with at least one element each.

    `added(a, w, stages, start, bias)` does a chain that drops none; low and high are 0 unless `extremes`.
    """
    first, rest = stages[0], stages[1:]
    start, bias = (None if v is None else first.cast(v) for v in (start, bias))
    (rows, depth), channels = a.shape, w.shape[0]
    sums = Totals(np.empty((rows, channels), np.int64), *np.zeros((3, channels, len(stages)), np.int64))
    one, size = np.ones((1, depth), np.int64), max(BLOCK // depth, 1)
    by_row = rows < channels
    outer, inner = (rows, channels) if by_row else (channels, rows)
    for at in range(outer):
        for begin in range(0, inner, size):
            block = slice(begin, begin + size)
            m, n = (slice(at, at + 1), block) if by_row else (block, slice(at, at + 1))
            values = rounded_products(a[m], w[n], first)
            kept = _kept(values, first)
            told = added(*((one, kept) if by_row else (kept, one)), rest, *(_of(v, n) for v in (start, bias)))
            sums.out[m, n] = told.out << first.drop
            axis = 1 if by_row else None
            sums.events[n, 0] += ((values < first.min) | (values > first.max)).sum(axis=axis)
            sums.events[n, 1:] += told.events
            if extremes:
                low, high = values.min(axis=axis, initial=0), values.max(axis=axis, initial=0)
                sums.low[n] = np.minimum(sums.low[n], np.column_stack([np.atleast_1d(low), told.low]))
                sums.high[n] = np.maximum(sums.high[n], np.column_stack([np.atleast_1d(high), told.high]))
    return sums


def undropped(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The same registers for values that are rounded already."""
    return (replace(stages[0], drop=0, rounding=None), *stages[1:])


def _kept(values: NDArray[Any], stage: Stage) -> NDArray[Any]:
    """What the register keeps of them, in their own type."""
    spare = 8 * values.itemsize - stage.bits
    if spare <= 0:
        return values
    return (values << spare) >> spare if stage.overflow == "wrap" else np.clip(values, stage.min, stage.max)


def _of(values: Integers | None, channels: slice) -> Integers | None:
    return None if values is None else values[channels]


def _largest(values: NDArray[Any]) -> int:
    return max(abs(int(values.min())), abs(int(values.max())))
