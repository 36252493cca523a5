"""Steps on arrays along spatial axes: pools of windows, interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from intsim.engine.exact.layout import maps
from intsim.engine.exact.windows import interpolated, interpolated_rows, max_windows, sum_windows
from intsim.engine.program.analysis import INT32, inside, narrowest
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.maps import every_window_meets, pool_window
from intsim.engine.program.program import Frame, Step
from intsim.engine.threads import share_out
from intsim.graph import Node

Lane = type[np.int32] | type[np.int64]
Kernel = Callable[..., object]
"""Of x, out, first plane and one past the last."""
GRAIN = 1 << 14
"""Least elements of one thread's share."""


def pool(builder: ProgramBuilder, node: Node) -> bool:
    """Sums or maxima of windows over one or two axes."""
    shape, made = (builder.graph.tensors[n].shape for n in (node.inputs[0], node.output))
    if len(shape) not in (3, 4):
        return False
    window = pool_window(node)
    (*outer, height, width), (*_, rows, columns) = maps(shape), maps(made)
    views = (math.prod(outer), height, width), (math.prod(outer), rows, columns)
    if node.op == "max_pool":
        meet = every_window_meets(window, (height, width), (rows, columns))
        return meet and _planes(builder, node, views, lambda lane: partial(max_windows, window))
    weight = np.broadcast_to(node.arrays["weight"].reshape(maps(node.arrays["weight"].shape)), (1, 1, rows, columns))
    zero = int(node.attributes["zero_point"])

    def ready(lane: Lane) -> Kernel:
        return partial(sum_windows, window, lane(zero), np.ascontiguousarray(weight[0, 0], lane))

    return _planes(builder, node, views, ready, (zero, int(weight.max())))


def interpolate(builder: ProgramBuilder, node: Node) -> bool:
    """Weighted sums of positions along an axis."""
    shape, axis = builder.graph.tensors[node.inputs[0]].shape, node.attributes["axis"]
    index, weight = np.ascontiguousarray(node.arrays["index"].T, np.uint32), node.arrays["weight"].T
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    last = (inner,) if inner > 1 else ()
    views = (outer, shape[axis], *last), (outer, index.shape[1], *last)
    kernel = interpolated if last else interpolated_rows

    def ready(lane: Lane) -> Kernel:
        return partial(kernel, index, np.ascontiguousarray(weight, lane))

    return _planes(builder, node, views, ready, (int(weight.min(initial=0)), int(weight.max(initial=0))))


def _planes(
    builder: ProgramBuilder,
    node: Node,
    views: tuple[tuple[int, ...], tuple[int, ...]],
    ready: Callable[[Lane], Kernel],
    constants: tuple[int, ...] = (),
) -> bool:
    """A kernel on planes of both views, made ready for int32 where that holds both tensors and the constants."""
    name, shape = node.inputs[0], builder.graph.tensors[node.output].shape
    if not builder.analysis.sound[node.output] or 0 in builder.graph.tensors[name].shape or 0 in shape:
        return False
    builder.as_array(name)
    held = builder.analysis.holds[node.output]
    short = all(inside(r, INT32) for r in (held, builder.analysis.holds[name], *((c, c) for c in constants)))
    lane: Lane = np.int32 if short else np.int64
    kernel, kind, grain = ready(lane), narrowest(held), max(1, GRAIN // math.prod(views[0][1:]))

    def action(frame: Frame) -> None:
        x = np.ascontiguousarray(frame.arrays[name], lane).reshape(views[0])
        out = np.empty(views[1], lane)
        share_out(lambda part: kernel(x, out, *part), views[0][0], grain)
        frame.arrays[node.output] = out.astype(kind, copy=False).reshape(shape)

    builder.add(Step((node,), "planes", "an array of any type", action, arrays=node.inputs, made=(node.output,)))
    return True
