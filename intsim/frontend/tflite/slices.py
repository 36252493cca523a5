"""SLICE and STRIDED_SLICE, and the operators that compute shapes: SHAPE and PACK."""

from __future__ import annotations

import numpy as np

from intsim.frontend.tflite.elementwise import layout_of
from intsim.frontend.tflite.file import FileTensor
from intsim.frontend.tflite.movement import NCHW, axis_of, carry, integers
from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.registry import translates


def _sliced(net: Network, x: FileTensor, ranges: list[range], shape: tuple[int, ...]) -> None:
    """The codes at these positions of each axis; `shape` is theirs, without axes that are dropped."""
    if any(len(r) == 0 for r in ranges):
        raise Unsupported("its result is empty")
    kept = tuple(len(r) for r in ranges)
    inner = layout_of(net, x) and shape == kept
    order = NCHW if inner else range(len(ranges))
    part = [ranges[a] for a in order]
    # a negative step that ends before the first element can't say so by -1, which is the last one
    ends = [r.stop if r.stop >= 0 else -(1 << 31) for r in part]
    steps = [r.step for r in part]
    bounds = [
        integers(net, what, values)
        for what, values in (
            ("starts", [r.start for r in part]),
            ("ends", ends),
            ("axes", range(len(part))),
            ("steps", steps),
        )
    ]
    if shape == kept:
        carry(net, "Slice", x, bounds, shape, inner)
    else:
        y = net.activation(net.output())
        if not x.same_codes(y):
            raise Unsupported("its output has another scale than its input")
        cut = net.node("Slice", [net.codes(x), *bounds])
        net.move("Reshape", [cut, integers(net, "shape", shape)], shape)


@translates("SLICE")
def slice_(net: Network) -> None:
    """From `begin`, `size` elements of each axis; -1 is all that are left."""
    x = net.activation(net.tensor(0))
    begin, size = net.numbers(1, "begin"), net.numbers(2, "size")
    if not len(begin) == len(size) == len(x.shape):
        raise Unsupported(f"its begin {begin} and size {size} don't fit {len(x.shape)} axes")
    ends = [n if s == -1 else b + s for b, s, n in zip(begin, size, x.shape, strict=True)]
    if any(not 0 <= b < e <= n for b, e, n in zip(begin, ends, x.shape, strict=True)):
        raise Unsupported(f"its begin {begin} and size {size} leave its input's shape {list(x.shape)}")
    ranges = [range(b, e) for b, e in zip(begin, ends, strict=True)]
    _sliced(net, x, ranges, tuple(len(r) for r in ranges))


def strided(net: Network, shape: tuple[int, ...]) -> tuple[list[range], set[int]]:
    """Positions along each axis, and the axes that are dropped, by numpy's rules and the masks."""
    begin, end, steps = (net.numbers(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if net.option("EllipsisMask") or net.option("NewAxisMask") or net.option("Offset"):
        raise Unsupported("its ellipsis, its new axes or its offset are not supported")
    if not len(begin) == len(end) == len(steps) <= len(shape) or 0 in steps:
        raise Unsupported(f"its begin {begin}, end {end} and strides {steps} don't fit {len(shape)} axes")
    ranges, dropped = [range(s) for s in shape], set()
    for a, (b, e, t) in enumerate(zip(begin, end, steps, strict=True)):
        if net.option("ShrinkAxisMask") >> a & 1:
            at = axis_of(b, shape[a])
            ranges[a] = range(at, at + 1)
            dropped.add(a)
            continue
        start = None if net.option("BeginMask") >> a & 1 else b
        stop = None if net.option("EndMask") >> a & 1 else e
        ranges[a] = range(*slice(start, stop, t).indices(shape[a]))
    return ranges, dropped


@translates("STRIDED_SLICE")
def strided_slice(net: Network) -> None:
    """Positions with steps; masked ends are open, masked axes of one element are dropped."""
    x = net.tensor(0)
    known = net.known.get(x.index, x.data)
    if known is not None and x.kind in ("INT32", "INT64"):
        ranges, dropped = strided(net, known.shape)
        cut = known[np.ix_(*[np.array(r, np.int64) for r in ranges])]
        net.know(cut.reshape([s for a, s in enumerate(cut.shape) if a not in dropped]))
        return
    ranges, dropped = strided(net, net.activation(x).shape)
    _sliced(net, x, ranges, tuple(len(r) for a, r in enumerate(ranges) if a not in dropped))


@translates("SHAPE")
def shape(net: Network) -> None:
    """The shape of a tensor, which is fixed."""
    net.know(np.array(net.tensor(0).shape, np.int64))


@translates("PACK")
def pack(net: Network) -> None:
    """Known integers as one more axis."""
    assert net.at is not None
    tensors = [net.tensor(i) for i in range(len(net.at.inputs))]
    values = [net.known.get(t.index, t.data) for t in tensors]
    if any(v is None or t.kind not in ("INT32", "INT64") for t, v in zip(tensors, values, strict=True)):
        raise Unsupported("it packs activations; only the integers of a shape are supported")
    net.know(np.stack([np.asarray(v) for v in values], axis=net.option("Axis")))
