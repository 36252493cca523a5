"""Steps on words: convolutions with the requantizer behind them, requantizers, tables, concatenations, resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact import layout
from intsim.engine.exact.conv import HALF, NO_CODES, NO_SUMS, NO_WORDS, byte_ends, fits, spread_codes
from intsim.engine.exact.kernels import SumCodes, add_words, convolve
from intsim.engine.exact.layout import TensorView
from intsim.engine.exact.maps import look_up_words
from intsim.engine.exact.microkernels import Tile
from intsim.engine.exact.selftest import looks_up
from intsim.engine.program.analysis import byte_shift
from intsim.engine.program.arrays import formula, has_all_entries
from intsim.engine.program.builder import ProgramBuilder, Source
from intsim.engine.program.placement import is_resize
from intsim.engine.program.program import Action, Frame, OnBuffers, Step, Work, in_shares
from intsim.engine.requantize.affine import AffineRequantizer, TwoFormulas
from intsim.engine.requantize.kernels import requantize_dense
from intsim.engine.requantize.single import single_sum
from intsim.engine.requantize.table_kernels import table_words
from intsim.graph import IntArray, Node
from intsim.jit.chain import Call

GRAIN = 1 << 14
"""Least elements of one thread's share of a table."""


def conv(builder: ProgramBuilder, node: Node) -> bool:
    """A convolution of words, and in the same step the requantizer that alone reads it."""
    conv = builder.placement.convs.get(node.output)
    if conv is None:
        return False
    source = Source(builder, conv, builder.as_words(node.inputs[0]))
    rounding, rule = _alone(builder, node)
    events = {node.name: builder.no_events(node)}
    to, prepared = None, NO_CODES
    if rounding is not None:
        out = rounding.output
        to = builder.views.get(out)
        if to is None:
            to = builder.views[out] = builder.new_view(out)
        prepared = spread_codes(rule, conv.channels, to.layout.shift)
    shape = builder.graph.tensors[node.output].shape
    bound = source.bind(layout.maps(shape) if to is None else to, prepared)

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        words, filling = source.buffer(buffers), source.filling(buffers)
        if to is None:

            def to_sums(frame: Frame) -> None:
                sums = np.empty(math.prod(shape), np.int32)
                for one in bound:
                    one.run(words, NO_WORDS, sums)
                frame.arrays[node.output] = sums.reshape(shape)

            return [*filling, to_sums]
        codes = buffers[to.buffer]
        calls = [Work(Call(convolve, b.alone(words, codes)), partial(b.run, words, codes, NO_SUMS)) for b in bound]
        return [*filling, *calls]

    why = "no register can overflow" if builder.arithmetic(node).stages else "exact sums"
    kernel = f"words {builder.dot.name}" + (", phases" if conv.strided else ", own border" if source.scratch else "")
    step = Step((node,), kernel, why, OnBuffers(bind), buffers=source.buffers, events=events)
    if rounding is not None and to is not None:
        step.nodes, step.buffers = (node, rounding), (*source.buffers, to.buffer)
        builder.written.add(rounding.output)
        builder.fused.add(rounding.output)
    else:
        step.made, step.bytes = (node.output,), 4 * math.prod(shape)
    builder.add(step)
    return True


def _alone(builder: ProgramBuilder, node: Node) -> tuple[Node | None, Any]:
    """The requantizer that alone reads a convolution's accumulators, and its formula, if it can be one step."""
    reader, rank = builder.sole_requantizer(node), len(builder.graph.tensors[node.output].shape)
    if reader is None or not by_channel(reader.attributes["cells"], rank):
        return None, None
    if byte_shift(builder.analysis.holds[reader.output]) is None:
        return None, None
    rule = formula(builder, reader)
    return (reader, rule) if isinstance(rule, AffineRequantizer) and fits(rule) else (None, None)


def requantize(builder: ProgramBuilder, node: Node) -> bool:
    """A requantizer of one or two maps of words into words: a residual addition, or a change of scale."""
    to, graph = builder.views.get(node.output), builder.graph
    shape = graph.tensors[node.output].shape
    same = all(graph.tensors[n].shape == shape and n in builder.views for n in node.inputs)
    factors = node.arrays.get("coefficients", np.ones((1, 1), np.int64))
    plain = by_channel(node.attributes["cells"], len(shape)) and by_channel(factors.shape[1:], len(shape))
    if to is None or not same or len(node.inputs) > 2 or not plain:
        return False
    rule, channels = formula(builder, node), shape[1]
    if rule is not None and len(node.inputs) == 1 and "coefficients" not in node.arrays and looks_up():
        low, high = builder.analysis.holds[node.inputs[0]]
        source = builder.as_words(node.inputs[0])
        tables = _byte_tables(_codes(rule, low, high), low, source.layout.shift, to.layout.shift, channels)
        if _alike(tables):
            _look_up(builder, node, source, to, tables)
            return True
    if not isinstance(rule, AffineRequantizer) or rule.table.size or not fits(rule):
        return False
    sources = [builder.as_words(n) for n in node.inputs]
    weights = [np.broadcast_to(f.reshape(-1), (channels,)) for f in factors]
    constant = -sum((w * p.layout.shift for w, p in zip(weights, sources, strict=True)), np.zeros(channels, np.int64))
    if sum(int(np.abs(w).max()) for w in weights) >= 1 << 44:  # bytes, products and sums stay below 2^53
        return False
    second = weights[1] if len(weights) > 1 else np.zeros(channels)
    table = np.zeros((5, 4 * to.groups))
    for row, values in zip(table, (weights[0], second, constant, rule.scale, rule.offset), strict=True):
        row[:channels] = values
    lay, tile = to.layout, Tile(builder.dot.lanes, builder.dot.parts, len(sources))
    rounding = _sum_codes(table, channels, rule, lay.shift)
    size = (lay.images, to.groups, *layout.rows_of(*sources, to))

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        x, y, out = ((buffers[v.buffer], *layout.walk(v)) for v in (sources[0], sources[-1], to))
        return [Work(Call(add_words, (x, y, size, rounding, out, tile)))]

    used = (*(p.buffer for p in sources), to.buffer)
    why = "proven for every accumulator that can arrive"
    builder.add(Step((node,), "formula on words", why, OnBuffers(bind), buffers=used))
    builder.written.add(node.output)
    return True


def _codes(rule: AffineRequantizer | TwoFormulas, low: int, high: int) -> IntArray:
    """Codes (cells, high - low + 1) of all integers of a range."""
    cells = len(rule.scale if isinstance(rule, AffineRequantizer) else rule.starts)
    every = np.ascontiguousarray(np.broadcast_to(np.arange(low, high + 1), (1, cells, high - low + 1)))
    return requantize_dense(every, rule, np.empty(every.shape, np.int64))[0]


def _sum_codes(table: NDArray[np.float64], channels: int, rule: AffineRequantizer, shift: int) -> SumCodes:
    """What `add_words` takes, of (5, channels and what fills a word) factors."""
    a, b, c, *_ = table[:, :channels]
    own = replace(rule, scale=table[3, :channels], offset=table[4, :channels])
    short = single_sum(own, a, b, c, HALF - shift)
    near, proven = np.zeros((3, table.shape[1]), np.float32), np.ones(table.shape[1], np.bool_)
    near[:, :channels], proven[:channels] = short[:3], short.proven
    groups = np.all(proven.reshape(-1, 4), axis=1)
    return SumCodes(table, rule.kind, near, groups.astype(np.uint8), byte_ends(rule.low, rule.high, shift))


def resize(builder: ProgramBuilder, node: Node) -> bool:
    """Rows or columns picked from words into words."""
    out = builder.views.get(node.output)
    if out is None or node.output not in builder.placement.views or not is_resize(node):
        return False
    source = builder.as_words(node.inputs[0])
    if source.layout.shift != out.layout.shift:
        return False
    lay, index = source.layout, node.arrays["index"].astype(np.int64)
    across = node.attributes["axis"] == len(builder.graph.tensors[node.output].shape) - 1
    rows, columns = (np.arange(lay.height), index) if across else (index, np.arange(lay.width))

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        return [Work(layout.resize(buffers[source.buffer], source, rows, columns, buffers[out.buffer], out))]

    builder.add(Step((node,), "words", "positions of words", OnBuffers(bind), buffers=(source.buffer, out.buffer)))
    builder.written.add(node.output)
    return True


def concat(builder: ProgramBuilder, node: Node) -> bool:
    """Operands that don't lie in the result yet are copied there."""
    out = builder.views.get(node.output)
    if out is None or node.attributes["axis"] != 1:
        return False
    channel, moved = 0, []
    for name in node.inputs:
        view, count = builder.views.get(name), builder.graph.tensors[name].shape[1]
        at = TensorView(out.buffer, out.layout, out.group + channel // 4, count)
        if view == at and channel % 4 == 0:
            builder.as_words(name)
        else:
            if view is None or view.layout.shift != out.layout.shift:
                builder.as_array(name)
                view = builder.new_view(name, out.layout.shift)
                written = name in builder.written
                builder.pack(name, view)
                if not written:
                    builder.written.discard(name)  # not in its own view
            else:
                builder.as_words(name)
            moved.append((view, channel))
        channel += count

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        whole = buffers[out.buffer]
        return [Work(layout.shift_channels(buffers[v.buffer], v, whole, out, at)) for v, at in moved]

    used = (*(p.buffer for p, _ in moved), out.buffer)
    why = "operands are copied into the result" if moved else "operands lie in the result"
    builder.add(Step((node,), "words", why, OnBuffers(bind), buffers=used))
    builder.written.add(node.output)
    return True


def table(builder: ProgramBuilder, node: Node) -> bool:
    """Four table reads a word."""
    to, source = builder.views.get(node.output), builder.views.get(node.inputs[0])
    shape = builder.graph.tensors[node.output].shape
    plain = by_channel(node.attributes["cells"], len(shape)) and builder.graph.tensors[node.inputs[0]].shape == shape
    if to is None or source is None or not plain or not has_all_entries(builder, node):
        return False
    source = builder.as_words(node.inputs[0])
    tables = _byte_tables(node.arrays["table"], node.attributes["low"], source.layout.shift, to.layout.shift, shape[1])
    _look_up(builder, node, source, to, tables)
    return True


def _alike(tables: np.ndarray) -> bool:
    """Whether the four bytes of each word have the same table."""
    return bool((tables == tables[:, :1]).all())


def _look_up(builder: ProgramBuilder, node: Node, source: TensorView, to: TensorView, tables: np.ndarray) -> None:
    """Bytes of a map by tables (groups or 1, 4, 256); where the four of a word are alike, in registers if those can."""
    size = to.groups, *layout.rows_of(source, to)
    planes, grain = to.layout.images * size[0], max(1, GRAIN // max(1, size[1] * size[2]))
    in_registers = looks_up() and _alike(tables)
    moved = tables[:, 0] if in_registers else tables.astype(np.uint32) << np.array([0, 8, 16, 24], np.uint32)[:, None]
    entries = np.ascontiguousarray(moved)

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        x, y = ((buffers[v.buffer], *layout.walk(v)) for v in (source, to))
        return in_shares(look_up_words if in_registers else table_words, (x, y, size, entries), planes, grain)

    builder.add(Step((node,), "table on words", "bytes to bytes", OnBuffers(bind), buffers=(source.buffer, to.buffer)))
    builder.written.add(node.output)


def _byte_tables(table: IntArray, low: int, shift_in: int, shift_out: int, channels: int) -> np.ndarray:
    """Tables (groups or 1, 4, 256) uint8 from bytes `x + shift_in` to bytes `y + shift_out`.

    `table` (1 or channels, entries) begins at `low`. Channels behind the last are as that one.
    """
    position = np.clip(np.arange(256) - shift_in - low, 0, table.shape[1] - 1)
    entries = (table[:, position] + shift_out).astype(np.uint8)
    if len(entries) == 1:
        return np.broadcast_to(entries, (1, 4, 256))
    return entries[np.minimum(np.arange(-(-channels // 4) * 4), channels - 1)].reshape(-1, 4, 256)


def by_channel(cells: Sequence[int], rank: int) -> bool:
    """Whether cells are one for all, or one a channel, of a tensor of `rank` axes."""
    full = [1] * (rank - len(cells)) + list(cells)
    return len(full) == rank and all(size == 1 for axis, size in enumerate(full) if axis != 1)
