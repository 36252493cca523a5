"""Ways of tables: from words into words, from an array into an array."""

from __future__ import annotations

import math

import numpy as np

from intsim.engine.exact import layout as words
from intsim.engine.program.analysis import inside
from intsim.engine.program.blocked import by_channel
from intsim.engine.program.builder import ProgramBuilder, narrowest
from intsim.engine.program.program import Frame
from intsim.engine.requantize.node import cell_layout
from intsim.engine.requantize.table_kernels import table_dense, table_words
from intsim.engine.threads import each, shares
from intsim.graph import IntArray, Node

GRAIN = 1 << 14
"""Least elements of one thread's share."""


def covered(draft: ProgramBuilder, node: Node) -> bool:
    """Whether every integer that can arrive has an entry."""
    low, count = node.attributes["low"], node.arrays["table"].shape[1]
    return inside(draft.forms.holds[node.inputs[0]], (low, low + count - 1))


def on_words(draft: ProgramBuilder, node: Node) -> bool:
    """Four table reads a word."""
    to, source = draft.places.get(node.output), draft.places.get(node.inputs[0])
    shape = draft.graph.tensors[node.output].shape
    plain = by_channel(node.attributes["cells"], len(shape)) and draft.graph.tensors[node.inputs[0]].shape == shape
    if to is None or source is None or not plain or not covered(draft, node):
        return False
    source = draft.worded(node.inputs[0])
    tables = byte_tables(node, source.layout.shift, to.layout.shift, shape[1])
    size = to.own().groups, to.layout.height, to.layout.width
    planes, grain = to.layout.images * size[0], max(1, GRAIN // max(1, size[1] * size[2]))

    def action(frame: Frame) -> None:
        x = frame.buffers[source.storage], *words.walk(source)
        y = frame.buffers[to.storage], *words.walk(to)
        each(lambda part: table_words(x, y, size, tables, *part), shares(planes, grain))

    used = source.storage, to.storage
    draft.step((node,), "table on words", "bytes to bytes", action, 4 * to.layout.size, storages=used)
    draft.written.add(node.output)
    return True


def byte_tables(node: Node, shift_in: int, shift_out: int, channels: int) -> np.ndarray:
    """Tables (groups or 1, 4, 256) uint32 from bytes `x + shift_in` to bytes `y + shift_out`, moved to their place."""
    table: IntArray = node.arrays["table"]
    position = np.clip(np.arange(256) - shift_in - node.attributes["low"], 0, table.shape[1] - 1)
    entries = (table[:, position] + shift_out).astype(np.uint8).astype(np.uint32)
    if len(entries) == 1:
        lanes = np.broadcast_to(entries, (4, 256))
    else:
        lanes = np.zeros((-(-channels // 4) * 4, 256), np.uint32)
        lanes[:channels] = entries
    moved = lanes.reshape(-1, 4, 256) << np.array([0, 8, 16, 24], np.uint32)[:, None]
    return np.ascontiguousarray(moved, np.uint32)


def on_arrays(draft: ProgramBuilder, node: Node) -> bool:
    """One table read an element, where cells lie in a block."""
    shape, kind = draft.graph.tensors[node.output].shape, narrowest(draft.forms.holds[node.output])
    layout = cell_layout(shape, node.attributes["cells"])
    same = draft.graph.tensors[node.inputs[0]].shape == shape
    if layout is None or not same or 0 in shape or not covered(draft, node):
        return False
    draft.dense(node.inputs[0])
    # entries that can't be reached may not fit the type
    table = np.clip(node.arrays["table"], *_ends(kind)).astype(kind)
    low, lines = int(node.attributes["low"]), layout[0] * layout[1]
    split = layout if lines > 1 else None

    def action(frame: Frame) -> None:
        x = np.ascontiguousarray(frame.arrays[node.inputs[0]]).reshape(layout)
        out = np.empty(layout, kind)
        if split is None:
            parts = shares(layout[2], GRAIN)
            each(lambda p: table_dense(x[:, :, p[0] : p[1]], out[:, :, p[0] : p[1]], table, low, 0, 1), parts)
        else:
            each(lambda p: table_dense(x, out, table, low, *p), shares(lines, max(1, GRAIN // layout[2])))
        frame.arrays[node.output] = out.reshape(shape)

    size = math.prod(shape) * kind().itemsize
    draft.arrays.add(node.output)
    draft.step((node,), "table", "an array of any type", action, size, arrays=node.inputs, made=(node.output,))
    return True


def _ends(kind: type[np.integer]) -> tuple[int, int]:
    info = np.iinfo(kind)
    return int(info.min), int(info.max)
