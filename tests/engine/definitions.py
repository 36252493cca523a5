"""What a graph computes on a target, node by node and one addition after another: slow, plain, and no engine."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import numpy as np

from intsim.arithmetic.accumulate import accumulate
from intsim.arithmetic.packing import accumulate_packed
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.mac.operands import channel_zeros, multiplier_operands
from intsim.ops import OPS, Mac
from intsim.ops.requantize import requantize
from intsim.targets import Target

Arrays = dict[str, IntArray]


def defined(graph: IntegerGraph, inputs: Mapping[str, IntArray], target: Target) -> tuple[Arrays, Arrays]:
    """Every tensor by name, and overflow events (channels, stages) by node. Raises IntsimError as an engine must."""
    tensors: Arrays = {n: np.asarray(inputs[n], np.int64) for n in graph.inputs}
    events: Arrays = {}
    for node in graph.nodes:
        op, arrays, infos = OPS[node.op], [tensors[n] for n in node.inputs], [graph.tensors[n] for n in node.inputs]
        if isinstance(op, Mac):
            tensors[node.output], events[node.name] = accumulated(node, op, arrays, infos, target)
        elif node.op == "requantize" and target.requantize.scheme != "exact":
            tensors[node.output] = requantize(node, arrays, infos, target.requantize, target.stages)
        else:
            tensors[node.output] = op.evaluate(node, *arrays)
    return tensors, events


def accumulated(
    node: Node, op: Mac, arrays: list[IntArray], infos: list[Tensor], target: Target
) -> tuple[IntArray, IntArray]:
    """A sum of products through the registers: output, and events by channel and stage."""
    path = target.registers
    feed = multiplier_operands(node, op, infos, path.activation, path.weight)
    shapes = [a.shape for a in arrays]
    pixels, channels = op.extent(node, *shapes)
    if not path.stages:
        return op.evaluate(node, *arrays), np.zeros((channels, 0), np.int64)
    x, w = op.operands(node, *arrays)
    bias = node.arrays.get("bias", np.zeros(channels, np.int64))
    out, events = np.zeros((pixels, channels), np.int64), np.zeros((channels, len(path.stages)), np.int64)
    panels = op.panels(node, x + feed.x_shift, w + feed.w_shift, feed.pad, path.order)
    for _, alike in groupby(panels, lambda panel: id(panel.w)):  # panels with the same weights follow each other
        same = list(alike)
        at, a, rows = same[0].channels, np.concatenate([p.a for p in same]), same[0].w
        late = np.zeros((len(a), len(rows)), np.int64)
        if not feed.corrected:
            zx, zw = feed.x_zero, channel_zeros(feed.w_zero, channels)[at]
            late = a.shape[1] * zx * zw - zx * rows.sum(axis=1) - zw * a.sum(axis=1)[:, None]
        preload = bias[at] if path.bias == "preload" else np.zeros(len(rows), np.int64)
        late = late + bias[at] if path.bias == "after" else late
        done = through(target, a, rows, np.broadcast_to(preload, late.shape), late)
        behind = bias[at] if path.bias == "requantizer" else np.zeros(len(rows), np.int64)
        last, drop = path.stages[-1], path.stages[0].drop
        for end, side in ((last.min << drop, min(behind.tolist())), (last.max << drop, max(behind.tolist()))):
            if not -(1 << 63) <= end + side < 1 << 63:
                raise IntsimError("leaves 64 bits")
        out[same[0].rows.start : same[-1].rows.stop, at] = done[0] + behind
        events[at] += done[1]
    return op.fold(node, out, *shapes), events


def through(target: Target, a: IntArray, w: IntArray, start: IntArray, late: IntArray) -> tuple[IntArray, IntArray]:
    """Activations (M, K) by weights (N, K), bias (M, N) before and after: results (M, N), events (N, stages)."""
    packing, stages = target.registers.packing, target.stages
    if packing is None:
        result, events = accumulate(a[:, None] * w, stages, start, late)
        return result, events.sum(axis=0)
    many, few = len(packing.channels), len(packing.pixels)
    (m, n), (rows, columns) = late.shape, (-(-len(a) // few), -(-len(w) // many))

    def sets(array: IntArray) -> IntArray:
        """(M, N, ...) as (row sets, column sets, channels, pixels, ...); what is not there is 0."""
        whole = np.zeros((rows * few, columns * many, *array.shape[2:]), np.int64)
        whole[:m, :n] = array
        return np.moveaxis(whole.reshape(rows, few, columns, many, *array.shape[2:]), 1, 3)

    done = accumulate_packed(sets(a[:, None] * w), stages, packing, sets(start), sets(late))
    apart = [np.moveaxis(v, 3, 1).reshape(rows * few, columns * many, *v.shape[4:])[:m, :n] for v in done[:2]]
    return apart[0], apart[1].sum(axis=0)
