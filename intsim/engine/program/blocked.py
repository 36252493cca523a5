"""Ways of nodes over words: convolutions with the requantizer behind them, concatenations, nearest resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intsim.engine.exact import layout as words
from intsim.engine.exact.conv import NO_CODES, NO_SUMS, NO_WORDS, codes, fits
from intsim.engine.exact.kernels import add_words
from intsim.engine.exact.layout import TensorView
from intsim.engine.program.analysis import byte_shift, is_resize
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.dense import formula
from intsim.engine.program.program import Frame
from intsim.engine.requantize.affine import AffineRequantizer
from intsim.graph import Node


def conv(draft: ProgramBuilder, node: Node) -> bool:
    """A convolution of words, and in the same step the requantizer that alone reads it."""
    conv = draft.forms.convs.get(node.output)
    if conv is None:
        return False
    place = draft.worded(node.inputs[0])
    scratch = None if conv.direct(place) else draft.storage(conv.scratch(place))
    rounding, rule = _alone(draft, node)
    events = draft.no_events(node)
    to, prepared = None, NO_CODES
    if rounding is not None:
        out = rounding.output
        to = draft.places.get(out)
        if to is None:
            shift = byte_shift(draft.forms.holds[out])
            assert shift is not None
            to = draft.places[out] = draft.storage(draft.plain(out, shift))
        prepared = codes(rule, conv.channels, to.layout.shift)
    shape = draft.graph.tensors[node.output].shape
    images, channels, *spatial = shape
    full = (images, channels, *(1, *spatial)[-2:])
    bound = conv.bind(place, None if scratch is None else scratch.layout, full if to is None else to, prepared)

    def action(frame: Frame) -> None:
        source = frame.buffers[place.storage]
        if scratch is not None:
            conv.split(source, place, frame.buffers[scratch.storage], scratch.layout)
            source = frame.buffers[scratch.storage]
        frame.events[node.name] = events.copy()
        sums = NO_SUMS if to is not None else np.empty(math.prod(shape), np.int32)
        for one in bound:
            one.run(source, NO_WORDS if to is None else frame.buffers[to.storage], sums, frame.workers)
        if to is None:
            frame.arrays[node.output] = sums.reshape(shape)

    used = (place.storage,) if scratch is None else (place.storage, scratch.storage)
    why = "no register can overflow" if draft.target.stages else "exact sums"
    kernel = f"words {draft.dot.name}" + (", phases" if conv.strided else ", own border" if scratch else "")
    if rounding is not None and to is not None:
        draft.step((node, rounding), kernel, why, action, 4 * to.layout.size, storages=(*used, to.storage))
        draft.written.add(rounding.output)
        draft.fused.add(rounding.output)
    else:
        draft.step((node,), kernel, why, action, 4 * math.prod(shape), storages=used, made=(node.output,))
        draft.arrays.add(node.output)
    return True


def _alone(draft: ProgramBuilder, node: Node) -> tuple[Node | None, Any]:
    """The requantizer that alone reads a convolution's accumulators, and its formula, if it can be one step."""
    readers = draft.readers[node.output]
    if draft.keep or node.output in draft.graph.outputs or len(readers) != 1:
        return None, None
    reader = readers[0]
    if reader.op != "requantize" or len(reader.inputs) != 1 or byte_shift(draft.forms.holds[reader.output]) is None:
        return None, None
    shape, cells = draft.graph.tensors[node.output].shape, reader.attributes["cells"]
    if draft.graph.tensors[reader.output].shape != shape or not by_channel(cells, len(shape)):
        return None, None
    rule = formula(draft, reader)
    return (reader, rule) if isinstance(rule, AffineRequantizer) and fits(rule) else (None, None)


def add(draft: ProgramBuilder, node: Node) -> bool:
    """A requantizer of one or two maps of words into words: a residual addition, or a change of scale."""
    to, graph = draft.places.get(node.output), draft.graph
    shape = graph.tensors[node.output].shape
    same = all(graph.tensors[n].shape == shape and n in draft.places for n in node.inputs)
    factors = node.arrays.get("coefficients", np.ones((1, 1), np.int64))
    plain = by_channel(node.attributes["cells"], len(shape)) and by_channel(factors.shape[1:], len(shape))
    if to is None or not same or len(node.inputs) > 2 or not plain:
        return False
    rule = formula(draft, node)
    if not isinstance(rule, AffineRequantizer) or rule.table.size or not fits(rule):
        return False
    sources = [draft.worded(n) for n in node.inputs]
    channels = shape[1]
    weights = [np.broadcast_to(f.reshape(-1), (channels,)) for f in factors]
    constant = -sum((w * p.layout.shift for w, p in zip(weights, sources, strict=True)), np.zeros(channels, np.int64))
    if sum(int(np.abs(w).max()) for w in weights) >= 1 << 44:  # bytes, products and sums stay below 2^53
        return False
    second = weights[1] if len(weights) > 1 else np.zeros(channels)
    table = np.zeros((5, 4 * to.own().groups))
    for row, values in zip(table, (weights[0], second, constant, rule.scale, rule.offset), strict=True):
        row[:channels] = values
    limits = np.array([rule.low, rule.high, to.layout.shift], np.int32)
    lay, lanes = to.layout, (0,) * draft.dot.lanes
    size = (lay.images, to.own().groups, lay.height, lay.width)

    def action(frame: Frame) -> None:
        x, y = sources[0], sources[-1]
        add_words(
            (frame.buffers[x.storage], *words.walk(x)),
            (frame.buffers[y.storage], *words.walk(y)),
            size,
            table,
            limits,
            rule.kind,
            (frame.buffers[to.storage], *words.walk(to)),
            lanes,
        )

    used = (*(p.storage for p in sources), to.storage)
    why = "proven for every accumulator that can arrive"
    draft.step((node,), "formula on words", why, action, 4 * lay.size, storages=used)
    draft.written.add(node.output)
    return True


def resize(draft: ProgramBuilder, node: Node) -> bool:
    """Rows or columns picked from words into words."""
    out = draft.places.get(node.output)
    if out is None or node.output not in draft.forms.places or not is_resize(node):
        return False
    source = draft.worded(node.inputs[0])
    if source.layout.shift != out.layout.shift:
        return False
    lay, index = source.layout, node.arrays["index"].astype(np.int64)
    across = node.attributes["axis"] == len(draft.graph.tensors[node.output].shape) - 1
    rows, columns = (np.arange(lay.height), index) if across else (index, np.arange(lay.width))

    def action(frame: Frame) -> None:
        words.resize(frame.buffers[source.storage], source, rows, columns, frame.buffers[out.storage], out)

    draft.step(
        (node,), "words", "positions of words", action, 4 * out.layout.size, storages=(source.storage, out.storage)
    )
    draft.written.add(node.output)
    return True


def concat(draft: ProgramBuilder, node: Node) -> bool:
    """Operands that don't lie in the result yet are copied there."""
    out = draft.places.get(node.output)
    if out is None or node.attributes["axis"] != 1:
        return False
    channel, moved = 0, []
    for name in node.inputs:
        place, count = draft.places.get(name), draft.graph.tensors[name].shape[1]
        at = TensorView(out.storage, out.layout, out.group + channel // 4, count)
        if place == at and channel % 4 == 0:
            draft.worded(name)
        else:
            if place is None or place.layout.shift != out.layout.shift:
                draft.dense(name)
                place = draft.storage(draft.plain(name, out.layout.shift))
                written = name in draft.written
                draft.pack(name, place)
                if not written:
                    draft.written.discard(name)  # not in its own place
            else:
                draft.worded(name)
            moved.append((place, channel))
        channel += count

    def action(frame: Frame) -> None:
        for place, at in moved:
            words.shift_channels(frame.buffers[place.storage], place, frame.buffers[out.storage], out, at)

    used = (*(p.storage for p, _ in moved), out.storage)
    why = "operands are copied into the result" if moved else "operands lie in the result"
    draft.step((node,), "words", why, action, 4 * out.layout.size, storages=used)
    draft.written.add(node.output)
    return True


def by_channel(cells: Sequence[int], rank: int) -> bool:
    """Whether cells are one for all, or one a channel, of a tensor of `rank` axes."""
    full = [1] * (rank - len(cells)) + list(cells)
    return len(full) == rank and all(size == 1 for axis, size in enumerate(full) if axis != 1)
