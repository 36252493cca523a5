"""Steps on arrays along spatial axes: pools of windows, interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.windows import interpolated, interpolated_rows, max_windows, sum_windows
from intsim.engine.program.analysis import INT32, inside, narrowest
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.maps import every_window_meets
from intsim.engine.program.program import Frame, Step
from intsim.engine.threads import share_out
from intsim.graph import Node

GRAIN = 1 << 14
"""Least elements of one thread's share."""


def pool(builder: ProgramBuilder, node: Node) -> bool:
    """Sums or maxima of windows over one or two axes."""
    shape, made = (builder.graph.tensors[n].shape for n in (node.inputs[0], node.output))
    at, rank = node.attributes, len(shape) - 2
    if rank not in (1, 2):
        return False
    taps, strides, apart = ((1,) * (2 - rank) + tuple(at[k]) for k in ("kernel", "strides", "dilations"))
    before = (0,) * (2 - rank) + tuple(at["pads"][:rank])
    size, out = ((1,) * (2 - rank) + tuple(s[2:]) for s in (shape, made))
    window = (*taps, *strides, *apart, *before)
    planes = math.prod(shape[:2])
    views = (planes, *size), (planes, *out)
    if node.op == "sum_pool":
        weight = np.broadcast_to(
            node.arrays["weight"].reshape((1,) * (2 - rank) + node.arrays["weight"].shape[2:]), out
        )
        zero = int(node.attributes["zero_point"])

        def sums(x: NDArray[Any], y: NDArray[Any], first: int, last: int) -> None:
            sum_windows(x, y, window, x.dtype.type(zero), factors.astype(x.dtype, copy=False), first, last)

        factors = np.ascontiguousarray(weight)
        return _planes(builder, node, views, sums, (zero, int(weight.max())))
    if not every_window_meets(size, out, taps, strides, apart, before):
        return False
    return _planes(builder, node, views, lambda x, y, *part: max_windows(x, y, window, *part))


def interpolate(builder: ProgramBuilder, node: Node) -> bool:
    """Weighted sums of positions along an axis."""
    shape, axis = builder.graph.tensors[node.inputs[0]].shape, node.attributes["axis"]
    index = np.ascontiguousarray(node.arrays["index"].T, np.uint32)
    weight = np.ascontiguousarray(node.arrays["weight"].T, np.int64)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    last = (inner,) if inner > 1 else ()
    views = (outer, shape[axis], *last), (outer, index.shape[1], *last)
    kernel = interpolated if last else interpolated_rows

    def sums(x: NDArray[Any], y: NDArray[Any], first: int, last: int) -> None:
        kernel(x, y, index, weight.astype(x.dtype, copy=False), first, last)

    return _planes(builder, node, views, sums, (int(weight.min(initial=0)), int(weight.max(initial=0))))


def _planes(
    builder: ProgramBuilder,
    node: Node,
    views: tuple[tuple[int, ...], tuple[int, ...]],
    run: Callable[..., None],
    constants: tuple[int, ...] = (),
) -> bool:
    """`run(x, out, first, last)` on planes of both views, int32 where that holds both tensors and the constants."""
    name, shape = node.inputs[0], builder.graph.tensors[node.output].shape
    if not builder.analysis.sound[node.output] or 0 in builder.graph.tensors[name].shape or 0 in shape:
        return False
    builder.as_array(name)
    held = builder.analysis.holds[node.output]
    short = all(inside(r, INT32) for r in (held, builder.analysis.holds[name], *((c, c) for c in constants)))
    lane, kind = np.int32 if short else np.int64, narrowest(held)
    grain = max(1, GRAIN // math.prod(views[0][1:]))

    def action(frame: Frame) -> None:
        x = np.ascontiguousarray(frame.arrays[name], lane).reshape(views[0])
        out = np.empty(views[1], lane)
        share_out(lambda part: run(x, out, *part), views[0][0], grain)
        frame.arrays[node.output] = out.astype(kind, copy=False).reshape(shape)

    builder.add(Step((node,), "planes", "an array of any type", action, arrays=node.inputs, made=(node.output,)))
    return True
