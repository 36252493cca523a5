"""Sums of products: MatMul, convolution, transposed convolution and sums along axes.

On grids the sums are formed from integers small enough that float32 or float64 holds every partial sum exactly, in
whatever order BLAS adds. Otherwise the bound of Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
equation 3.5, is used: |computed - exact| <= gamma_k * sum |x| |w|, valid for every order of summation.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import kind_of, multiplied_scales
from intsim.verification.reference.call import Call, sized
from intsim.verification.reference.rational import each
from intsim.verification.reference.tensor import (
    EXACT,
    ROUNDOFF,
    Tensor,
    grid,
    inexact,
    move,
    position,
    uniform,
    zero_like,
)

JOINED, MOST_JOINED = 512, 1 << 22
"""Terms of one matrix product that several kernel positions share, and the most numbers laid out for it."""
Bilinear = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _gamma(k: int) -> float:
    """Higham's gamma_k with the roundings of the bound itself covered."""
    u = ROUNDOFF / 2
    return (k + 2) * u / (1 - (k + 2) * u) * 1.001


def _bounded(f: Bilinear, a: Tensor, b: Tensor, terms: int, element: Callable[[int], Fraction]) -> Tensor:
    """The bilinear map f in float64 with its error bound."""
    (va, ea), (vb, eb) = a.approx(), b.approx()
    size_a, size_b = np.abs(va), np.abs(vb)
    # below, products would leave float64's normal range, where the bound does not hold
    if any(((size > 0) & (size < 2.0**-450)).any() for size in (size_a, size_b)):
        raise IntsimError("values below 2^-450 are not multiplied in float64")
    if eb is not None:
        size_b = size_b + eb
    e = _gamma(terms) * f(size_a, size_b)
    if ea is not None:
        e = e + f(np.array(ea), size_b) * 1.001
    if eb is not None:
        e = e + f(size_a, np.array(eb)) * 1.001
    return inexact(f(va, vb), e, element)


def _tight(t: Tensor, axes: tuple[int, ...]) -> float:
    """max over the other axes of sum |n| along `axes`."""
    n, _ = t.integers()
    return float(np.abs(n.astype(np.float64)).sum(axis=axes).max()) if n.size else 0.0


def _sum_bound(a: Tensor, b: Tensor, terms: int, axes: tuple[int, ...]) -> float:
    """A bound of every partial sum of |n_a| |n_b|, `axes` being those of `b` that are summed."""
    return min(a.bound * b.bound * terms, a.bound * _tight(b, axes))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b as numpy.matmul: batched, rank 1 allowed."""
    if len(a.shape) == 1:
        row = matmul(move([a], lambda x: x[None, :]), b)
        return move([row], lambda x: x[..., 0, :] if x.ndim > 1 else x[0])
    if len(b.shape) == 1:
        return move([matmul(a, move([b], lambda x: x[:, None]))], lambda x: x[..., 0])
    terms = a.shape[-1]
    if b.shape[-2] != terms:
        raise IntsimError(f"shapes {a.shape} and {b.shape} do not multiply")
    ga, gb = uniform(a, (-1,)), uniform(b, (-2,))
    if ga and gb:
        bound, s = _sum_bound(ga, gb, terms, (-2,)), multiplied_scales(ga, gb)
        if s is not None and bound <= EXACT:
            return grid(np.matmul(ga.held(bound), gb.held(bound)), s, bound, kind_of(a, b))
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])

    def element(i: int) -> Fraction:
        *batch, m, n = position(i, shape)
        total = Fraction(0)
        for k in range(terms):
            weight = b.at((*batch, k, n))
            if weight:
                total += weight * a.at((*batch, m, k))
        return total

    return _bounded(np.matmul, a, b, terms, element)


def einsum_axes(call: Call) -> tuple[list[list[str]], list[str], dict[str, int]]:
    """The axes of each operand of an Einsum, those of its result, and their sizes; each axis once in each of them."""
    equation = str(call.attr("equation", "")).replace(" ", "")
    tensors = [call.tensor(i) for i in range(len(call.inputs))]
    inputs, arrow, wanted = equation.partition("->")
    names = inputs.split(",")
    if len(tensors) != len(names):
        raise IntsimError(f"Einsum {equation!r} does not fit {len(tensors)} operands")
    # axes of an ellipsis get numbers, counted from the right as broadcasting does
    axes: list[list[str]] = []
    for name, t in zip(names, tensors, strict=True):
        before, dots, after = name.partition("...")
        free = len(t.shape) - len(before) - len(after)
        axes.append([*before, *(str(k) for k in range(free, 0, -1)), *after])
        if free < 0 or (free and not dots):
            raise IntsimError(f"Einsum {equation!r} does not fit a tensor of shape {t.shape}")
    widest = max((sum(a.isdigit() for a in one) for one in axes), default=0)
    dotted = [str(k) for k in range(widest, 0, -1)]
    every = [a for one in axes for a in one]
    if arrow:
        before, dots, after = wanted.partition("...")
        out = [*before, *(dotted if dots else ()), *after]
    else:
        out = dotted + sorted(a for a in set(every) if every.count(a) == 1 and not a.isdigit())
    if any(len(set(one)) < len(one) for one in (*axes, out)) or not set(out) <= set(every):
        raise IntsimError(f"Einsum {equation!r} is not evaluated: an axis twice, or one that is made of nothing")
    size = {a: n for one, t in zip(axes, tensors, strict=True) for a, n in zip(one, t.shape, strict=True)}
    if any(size[a] != n for one, t in zip(axes, tensors, strict=True) for a, n in zip(one, t.shape, strict=True)):
        raise IntsimError(f"Einsum {equation!r} does not fit shapes {', '.join(str(t.shape) for t in tensors)}")
    return axes, out, size


def einsum_terms(call: Call) -> int:
    """How many products an element of an Einsum is the sum of."""
    axes, out, size = einsum_axes(call)
    return math.prod(size[a] for a in {a for one in axes for a in one} - {*out})


def einsum(call: Call) -> Tensor:
    """Einsum of two operands: transposed, multiplied as matrices, transposed back; of one, transposed."""
    axes, out, size = einsum_axes(call)
    if len(axes) == 1 and len(axes[0]) == len(out):
        return move([call.tensor(0)], lambda x: np.transpose(x, [axes[0].index(a) for a in out]))
    if len(axes) != 2:
        raise IntsimError(f"Einsum of {len(axes)} operands is not evaluated, but for a product of two")
    both = [a for a in axes[0] if a in axes[1]]
    batch, inner = [a for a in both if a in out], [a for a in both if a not in out]
    own = [[a for a in one if a not in both] for one in axes]
    if not {*own[0], *own[1]} <= set(out):
        raise IntsimError("Einsum that sums one operand alone is not evaluated")

    def count(group: list[str]) -> int:
        return math.prod(size[a] for a in group)

    def laid(which: int, first: list[str], last: list[str]) -> Tensor:
        order = [axes[which].index(a) for a in (*batch, *first, *last)]
        shape = (count(batch), count(first), count(last))
        return move([call.tensor(which)], lambda x: np.transpose(x, order).reshape(shape))

    product = matmul(laid(0, own[0], inner), laid(1, inner, own[1]))
    made = [*batch, *own[0], *own[1]]
    shape = tuple(size[a] for a in made)
    return move([product], lambda x: np.transpose(x.reshape(shape), [made.index(a) for a in out]))


def reduce_sum(t: Tensor, axes: Sequence[int]) -> Tensor:
    """Sum along axes, which are kept with length 1."""
    axes = tuple(sorted(a % len(t.shape) for a in axes))
    count = math.prod(t.shape[a] for a in axes)
    even = uniform(t, axes)
    if even and (bound := even.bound * count) <= EXACT:
        return grid(even.held(bound).sum(axis=axes, keepdims=True), even.integers()[1], bound, t.kind)
    v, e = t.approx()
    error = _gamma(count) * np.abs(v).sum(axis=axes, keepdims=True)
    if e is not None:
        error = error + e.sum(axis=axes, keepdims=True) * 1.001
    total = v.sum(axis=axes, keepdims=True)

    def element(i: int) -> Fraction:
        return sum(t.along(axes, position(i, total.shape)), Fraction())

    return inexact(total, error, element, t.kind)


def tap_slices(
    tap: Sequence[int], strides: Sequence[int], dilations: Sequence[int], counts: Sequence[int]
) -> tuple[slice, ...]:
    """What one kernel position sees of a padded (N, C, *in) in `counts` windows."""
    each_axis = zip(tap, strides, dilations, counts, strict=True)
    return slice(None), slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, s, d, n in each_axis)


def taps_inside(
    window: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    extent: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """The kernel positions of one window that don't lie in the padding, each with the input's index there."""
    for tap in np.ndindex(*kernel):
        each_axis = zip(window, strides, tap, dilations, pads[: len(kernel)], strict=True)
        index = [w * s + t * d - b for w, s, t, d, b in each_axis]
        if all(0 <= k < n for k, n in zip(index, extent, strict=True)):
            yield tap, index


def _taps(x: np.ndarray, w: np.ndarray, strides: Sequence[int], dilations: Sequence[int], group: int) -> np.ndarray:
    """Convolution of an already padded x (N, C, *in) with w (O, C / group, *kernel), one kernel position at a time."""
    batch, _, *extent = x.shape
    outputs, inputs, *kernel = w.shape
    size = [(i - d * (k - 1) - 1) // s + 1 for i, k, s, d in zip(extent, kernel, strides, dilations, strict=True)]
    pixels = math.prod(size)
    each_out = outputs // group
    out = np.zeros((batch, group, each_out, pixels), x.dtype)
    buffer = np.empty_like(out)
    weights = w.reshape(group, each_out, inputs, *kernel)
    for tap in np.ndindex(*kernel):
        at = np.ascontiguousarray(weights[(slice(None), slice(None), slice(None), *tap)])
        if not at.any():
            continue
        seen = x[tap_slices(tap, strides, dilations, size)].reshape(batch, group, inputs, pixels)
        if inputs == 1:
            np.multiply(seen, at, out=buffer)
        else:
            np.matmul(at, seen, out=buffer)
        out += buffer
    return out.reshape(batch, outputs, *size)


def _joined_taps(
    x: np.ndarray, w: np.ndarray, strides: Sequence[int], dilations: Sequence[int], group: int
) -> np.ndarray:
    """`_taps` where no sum rounds, in whatever order: kernel positions of few channels share a matrix product."""
    batch, _, *extent = x.shape
    outputs, inputs, *kernel = w.shape
    positions = list(np.ndindex(*kernel))
    size = [(i - d * (k - 1) - 1) // s + 1 for i, k, s, d in zip(extent, kernel, strides, dilations, strict=True)]
    pixels, each_out = math.prod(size), outputs // group
    laid = batch * group * inputs * pixels
    at_once = min(JOINED // max(inputs, 1), MOST_JOINED // max(laid, 1), len(positions))
    if inputs == 1 or at_once < 2:
        return _taps(x, w, strides, dilations, group)
    out = np.zeros((batch, group, each_out, pixels), x.dtype)
    weights = w.reshape(group, each_out, inputs, len(positions)).swapaxes(2, 3)
    for first in range(0, len(positions), at_once):
        taps = positions[first : first + at_once]
        seen = np.empty((batch, group, len(taps), inputs, pixels), x.dtype)
        for k, tap in enumerate(taps):
            seen[:, :, k] = x[tap_slices(tap, strides, dilations, size)].reshape(batch, group, inputs, pixels)
        depth = len(taps) * inputs
        at = np.ascontiguousarray(weights[:, :, first : first + at_once]).reshape(group, each_out, depth)
        out += np.matmul(at, seen.reshape(batch, group, depth, pixels))
    return out.reshape(batch, outputs, *size)


def convolve(
    x: Tensor, w: Tensor, strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], group: int
) -> Tensor:
    """Convolution of x (N, C, *in) with w (O, C / group, *kernel), zeros outside; `pads` begins first, then ends.

    Raises IntsimError where the channels, the group or the kernel don't fit the input.
    """
    rank = len(x.shape) - 2
    outputs, inputs, *kernel = w.shape
    if rank < 1 or len(kernel) != rank or len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise IntsimError(f"input of shape {x.shape} and weights of shape {w.shape} do not convolve")
    if group < 1 or x.shape[1] != inputs * group or outputs % group:
        raise IntsimError(f"{x.shape[1]} channels, weights of shape {w.shape} and group {group} do not fit")
    margins = [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))]
    padded = [n + sum(m) for n, m in zip(x.shape[2:], margins[2:], strict=True)]
    if any(p < d * (k - 1) + 1 for p, k, d in zip(padded, kernel, dilations, strict=True)) or min(pads) < 0:
        raise IntsimError(f"kernel {kernel} with pads {list(pads)} does not fit into the input {x.shape}")

    sized([x.shape[0], max(x.shape[1], outputs), *padded])

    def padded_with_zeros(a: np.ndarray) -> np.ndarray:
        return np.pad(a, margins) if any(pads) else a

    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _taps(padded_with_zeros(a), b, strides, dilations, group)

    terms = inputs * math.prod(kernel)
    each_out = outputs // group
    spatial = tuple(range(2, rank + 2))
    gx = uniform(x, spatial if inputs == 1 else (1, *spatial))
    gw = uniform(w, (1, *spatial))
    if gx and gw:
        bound = _sum_bound(gx, gw, terms, (1, *spatial))
        if bound <= EXACT:
            sx, sw = gx.integers()[1], gw.integers()[1]
            sx = np.repeat(sx, each_out, axis=1) if sx.shape[1] > 1 else sx
            s = each(lambda a, b: a * b, sx, sw.swapaxes(0, 1))
            seen = padded_with_zeros(gx.held(bound))
            return grid(_joined_taps(seen, gw.held(bound), strides, dilations, group), s, bound, kind_of(x, w))

    def element(i: int) -> Fraction:
        n, o, *window = position(i, out.shape)
        total = Fraction(0)
        for tap, index in taps_inside(window, kernel, strides, dilations, pads, x.shape[2:]):
            for c in range(inputs):
                weight = w.at((o, c, *tap))
                if weight:
                    total += weight * x.at((n, o // each_out * inputs + c, *index))
        return total

    out = _bounded(f, x, w, terms, element)
    return out


def convolve_transposed(
    x: Tensor,
    w: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    group: int,
    output_padding: Sequence[int],
) -> Tensor:
    """Transposed convolution of x (N, C, *in) with w (C, O / group, *kernel), as ONNX's ConvTranspose.

    Written as the convolution that it is: zeros between the inputs, the kernel mirrored, the pads cut off.
    """
    rank = len(x.shape) - 2
    channels, each_out, *kernel = w.shape
    if len(kernel) != rank or channels != x.shape[1] or channels % group:
        raise IntsimError(f"input of shape {x.shape}, weights of shape {w.shape} and group {group} do not fit")
    reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    grown = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    # zeros all around for the whole reach, then what `pads` removes is cut off again
    full = [g + 2 * r + o for g, r, o in zip(grown, reach, output_padding, strict=True)]
    sized([*x.shape[:2], *full])

    def spread(a: np.ndarray, zero: np.ndarray) -> np.ndarray:
        wide = np.full((*a.shape[:2], *full), np.ravel(zero)[0], dtype=np.result_type(a, zero))
        inner = tuple(slice(r, r + g, s) for r, g, s in zip(reach, grown, strides, strict=True))
        wide[(slice(None), slice(None), *inner)] = a
        cut = tuple(slice(pads[i], full[i] - pads[i + rank] if full[i] > pads[i + rank] else 0) for i in range(rank))
        return wide[(slice(None), slice(None), *cut)]

    def mirror(a: np.ndarray) -> np.ndarray:
        a = a.reshape(group, channels // group, each_out, *kernel).swapaxes(1, 2)
        a = a.reshape(group * each_out, channels // group, *kernel)
        return a[(slice(None), slice(None), *(slice(None, None, -1) for _ in kernel))]

    return convolve(move([x, zero_like(x)], spread), move([w], mirror), [1] * rank, dilations, [0] * 2 * rank, group)
