"""Pooling and reductions: maxima exactly, averages as exact sums divided by exact counts."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import multiply
from intsim.verification.reference.call import Call, window
from intsim.verification.reference.contraction import convolve, reduce_sum
from intsim.verification.reference.rational import each
from intsim.verification.reference.tensor import EXACT, Tensor, constant, grid, inexact, move, uniform

__all__ = ["POOLING", "max_pool"]


def _windows(call: Call, extent: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations, pads and how far ceil_mode reaches beyond the pads."""
    kernel = list(call.attr("kernel_shape", []))
    strides, dilations, pads = window(call, extent, kernel)
    rank = len(extent)
    beyond = [0] * rank
    if call.attr("ceil_mode", 0):
        for k in range(rank):
            room = extent[k] + pads[k] + pads[k + rank] - dilations[k] * (kernel[k] - 1) - 1
            last = -(-room // strides[k])
            # a window must not start in the padding after the input
            if last * strides[k] >= extent[k] + pads[k]:
                last -= 1
            beyond[k] = max(last * strides[k] - room, 0)
    return kernel, strides, dilations, pads, beyond


def _extreme(x: np.ndarray, w: Sequence[Sequence[int]], outside: float, counts: Sequence[int]) -> np.ndarray:
    kernel, strides, dilations, pads, beyond = w
    rank = len(kernel)
    margins = [(0, 0), (0, 0), *((pads[k], pads[k + rank] + beyond[k]) for k in range(rank))]
    if any(sum(m) for m in margins):
        x = np.pad(x, margins, constant_values=outside)
    out = None
    for tap in np.ndindex(*kernel):
        cut = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, counts, strides, strict=True)
        )
        seen = x[(slice(None), slice(None), *cut)]
        out = seen.copy() if out is None else np.maximum(out, seen, out=out)
    assert out is not None
    return out


def max_pool(call: Call) -> Tensor:
    """MaxPool of (N, C, *in); padding never wins."""
    if call.outputs > 1:
        raise IntsimError("the index output of MaxPool is not evaluated")
    x = call.tensor(0)
    rank = len(x.shape) - 2
    w = _windows(call, x.shape[2:])
    kernel, strides, dilations, pads, beyond = w
    counts = [
        (x.shape[2 + k] + pads[k] + pads[k + rank] + beyond[k] - dilations[k] * (kernel[k] - 1) - 1) // strides[k] + 1
        for k in range(rank)
    ]
    if min(counts) < 1 or any(max(pads[k], pads[k + rank]) >= dilations[k] * (kernel[k] - 1) + 1 for k in range(rank)):
        raise IntsimError(f"kernel {kernel} with pads {pads} does not fit into {x.shape}")
    even = uniform(x, tuple(range(2, rank + 2)))
    if even:
        return grid(_extreme(even.held(even.bound), w, -math.inf, counts), even.integers()[1], even.bound, x.kind)
    v, e = x.approx()
    error = None if e is None else _extreme(np.array(e), w, 0.0, counts)

    def element(i: int) -> Fraction:
        n, c, *at = (int(k) for k in np.unravel_index(i, out.shape))
        inside = []
        for tap in np.ndindex(*kernel):
            where = [p * s + t * d - b for p, s, t, d, b in zip(at, strides, tap, dilations, pads[:rank], strict=True)]
            if all(0 <= k < m for k, m in zip(where, x.shape[2:], strict=True)):
                inside.append(x.at((n, c, *where)))
        return max(inside)

    out = _extreme(v, w, -math.inf, counts)
    return inexact(out, error, element, x.kind)


def average_pool(call: Call) -> Tensor:
    """AveragePool: the sum over each window times the exact reciprocal of how many cells it counts."""
    x = call.tensor(0)
    rank = len(x.shape) - 2
    kernel, strides, dilations, pads, beyond = _windows(call, x.shape[2:])
    reach = pads[:rank] + [p + b for p, b in zip(pads[rank:], beyond, strict=True)]
    ones = grid(np.ones((x.shape[1], 1, *kernel), np.float32), Fraction(1), 1.0)
    total = convolve(x, ones, strides, dilations, reach, x.shape[1])
    # what a window counts: the input, with count_include_pad the pads too, never what ceil_mode adds
    inside = grid(np.ones((1, 1, *x.shape[2:]), np.float32), Fraction(1), 1.0)
    if call.attr("count_include_pad", 0):
        margins = [(0, 0), (0, 0), *((pads[k], pads[k + rank]) for k in range(rank))]
        inside = grid(np.pad(inside.integers()[0], margins, constant_values=1), Fraction(1), 1.0)
        reach = [0] * rank + beyond
    one = grid(np.ones((1, 1, *kernel), np.float32), Fraction(1), 1.0)
    counts = convolve(inside, one, strides, dilations, reach, 1).whole("the counts")
    distinct = [int(c) for c in np.unique(counts)]
    if len(distinct) == 1:
        return multiply(total, constant(Fraction(1, distinct[0])))
    common = math.lcm(*distinct)
    if common > EXACT:
        return multiply(total, constant(each(lambda c: Fraction(1, int(c)), counts.astype(object))))
    return multiply(total, grid((common // counts).astype(np.float64), Fraction(1, common)), factor=False)


def _axes(call: Call, rank: int) -> tuple[int, ...]:
    axes = call.integers("axes", 1)
    if not axes and not call.attr("noop_with_empty_axes", 0):
        return tuple(range(rank))
    return tuple(a % rank for a in axes or ())


def _dropped(t: Tensor, axes: Sequence[int], call: Call) -> Tensor:
    return t if call.attr("keepdims", 1) else move([t], lambda x: np.squeeze(x, tuple(axes)))


def _reduce(average: bool) -> Callable[[Call], Tensor]:
    def operator(call: Call) -> Tensor:
        x = call.tensor(0)
        axes = _axes(call, len(x.shape))
        if not axes:
            return x
        total = reduce_sum(x, axes)
        if average:
            total = multiply(total, constant(Fraction(1, math.prod(x.shape[a] for a in axes))))
        return _dropped(total, axes, call)

    return operator


def _maximum_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Maximum along axes, kept with length 1."""
    axes = tuple(axes)
    even = uniform(x, axes)
    if even:
        n, s = even.integers()
        return grid(n.max(axis=axes, keepdims=True), s, even.bound, x.kind)
    v, e = x.approx()
    top = v.max(axis=axes, keepdims=True)
    error = None if e is None else e.max(axis=axes, keepdims=True)
    extent = [n if a in axes else 1 for a, n in enumerate(x.shape)]

    def element(i: int) -> Fraction:
        first = np.unravel_index(i, top.shape)
        return max(x.at(tuple(int(f) + d for f, d in zip(first, at, strict=True))) for at in np.ndindex(*extent))

    return inexact(top, error, element, x.kind)


def reduce_max(call: Call) -> Tensor:
    """ReduceMax."""
    x = call.tensor(0)
    axes = _axes(call, len(x.shape))
    return _dropped(_maximum_over(x, axes), axes, call) if axes else x


def global_max_pool(call: Call) -> Tensor:
    """GlobalMaxPool."""
    return _maximum_over(call.tensor(0), range(2, len(call.tensor(0).shape)))


def global_average_pool(call: Call) -> Tensor:
    """GlobalAveragePool."""
    x = call.tensor(0)
    axes = range(2, len(x.shape))
    return multiply(reduce_sum(x, axes), constant(Fraction(1, math.prod(x.shape[2:]))))


#: Operator name -> function.
POOLING: dict[str, Callable[[Call], Tensor]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalMaxPool": global_max_pool,
    "GlobalAveragePool": global_average_pool,
    "ReduceSum": _reduce(False),
    "ReduceMean": _reduce(True),
    "ReduceMax": reduce_max,
}
