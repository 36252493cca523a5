"""Pooling and reductions: maxima exactly, averages as exact sums divided by exact counts."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import multiply, negative
from intsim.verification.reference.call import Call, window
from intsim.verification.reference.contraction import convolve, reduce_sum, tap_slices, taps_inside
from intsim.verification.reference.rational import each
from intsim.verification.reference.tensor import EXACT, Tensor, constant, grid, inexact, move, position, uniform


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


def max_pool(call: Call) -> Tensor:
    """MaxPool of (N, C, *in); padding never wins."""
    if call.outputs > 1:
        raise IntsimError("the index output of MaxPool is not evaluated")
    x = call.tensor(0)
    rank = len(x.shape) - 2
    kernel, strides, dilations, pads, beyond = _windows(call, x.shape[2:])
    counts = [
        (x.shape[2 + k] + pads[k] + pads[k + rank] + beyond[k] - dilations[k] * (kernel[k] - 1) - 1) // strides[k] + 1
        for k in range(rank)
    ]
    if min(counts) < 1 or any(max(pads[k], pads[k + rank]) >= dilations[k] * (kernel[k] - 1) + 1 for k in range(rank)):
        raise IntsimError(f"kernel {kernel} with pads {pads} does not fit into {x.shape}")
    margins = [(0, 0), (0, 0), *((pads[k], pads[k + rank] + beyond[k]) for k in range(rank))]

    def largest(a: np.ndarray, outside: float) -> np.ndarray:
        a = np.pad(a, margins, constant_values=outside) if any((*pads, *beyond)) else a
        out = np.full((*a.shape[:2], *counts), outside, a.dtype)
        for tap in np.ndindex(*kernel):
            np.maximum(out, a[tap_slices(tap, strides, dilations, counts)], out=out)
        return out

    even = uniform(x, tuple(range(2, rank + 2)))
    if even:
        return grid(largest(even.held(even.bound), -math.inf), even.integers()[1], even.bound, x.kind)
    v, e = x.approx()
    out, error = largest(v, -math.inf), None if e is None else largest(e, 0.0)

    def element(i: int) -> Fraction:
        n, c, *window = position(i, out.shape)
        inside = taps_inside(window, kernel, strides, dilations, pads, x.shape[2:])
        return max(x.at((n, c, *index)) for _, index in inside)

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


def _mean_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean along axes, kept with length 1."""
    return multiply(reduce_sum(x, axes), constant(Fraction(1, math.prod(x.shape[a] for a in axes))))


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
    return inexact(top, error, lambda i: max(x.along(axes, position(i, top.shape))), x.kind)


def _minimum_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Minimum along axes, kept with length 1."""
    return negative(_maximum_over(negative(x), axes))


def _reduction(f: Callable[[Tensor, Sequence[int]], Tensor]) -> Callable[[Call], Tensor]:
    """Over the axes that the node asks for, which are dropped or kept with length 1."""

    def operator(call: Call) -> Tensor:
        x, axes = call.tensor(0), call.integers("axes", 1)
        if not axes and call.attr("noop_with_empty_axes", 0):
            return x
        axes = tuple(a % len(x.shape) for a in axes or range(len(x.shape)))
        if not axes:
            return x
        out = f(x, axes)
        return out if call.attr("keepdims", 1) else move([out], lambda a: np.squeeze(a, axes))

    return operator


def _global(f: Callable[[Tensor, Sequence[int]], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: f(call.tensor(0), range(2, len(call.tensor(0).shape)))


#: Operator name -> function.
POOLING: dict[str, Callable[[Call], Tensor]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalMaxPool": _global(_maximum_over),
    "GlobalAveragePool": _global(_mean_over),
    "ReduceSum": _reduction(reduce_sum),
    "ReduceMean": _reduction(_mean_over),
    "ReduceMax": _reduction(_maximum_over),
    "ReduceMin": _reduction(_minimum_over),
}
