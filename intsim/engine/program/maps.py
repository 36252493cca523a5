"""Steps on words beside the layers: maxima of windows, products and means with a requantizer, slices of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intsim.engine.exact import layout
from intsim.engine.exact.conv import fits
from intsim.engine.exact.layout import TensorView
from intsim.engine.exact.maps import max_words, mean_codes, multiply_words, multiply_words32, put
from intsim.engine.exact.microkernels import Tile
from intsim.engine.program.analysis import byte_shift, narrowest
from intsim.engine.program.arrays import formula, without_table
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.placement import channel_slice
from intsim.engine.program.program import Action, Frame, OnBuffers, Step, Work, in_shares
from intsim.engine.program.words import by_channel
from intsim.engine.requantize.affine import RINT, AffineRequantizer
from intsim.graph import Node
from intsim.jit.chain import Call

Held = tuple[tuple[int, int], int]
"""What a tensor can hold, and its zero point."""
MOST_CELLS = 64
"""Cells of a product for each of which every pair of codes is tried."""
GRAIN = 1 << 14
"""Least positions of one thread's share."""


def max_pool(builder: ProgramBuilder, node: Node) -> bool:
    """Maxima of bytes, whatever made them and whoever reads them."""
    name, graph = node.inputs[0], builder.graph
    shape, made = graph.tensors[name].shape, graph.tensors[node.output].shape
    shifts = [byte_shift(builder.analysis.holds[n]) for n in (name, node.output)]
    if len(shape) not in (3, 4) or None in shifts or 0 in shape or 0 in made:
        return False
    window, size, out = pool_window(node), layout.maps(shape)[2:], layout.maps(made)[2:]
    if not every_window_meets(window, size, out):
        return False
    source = builder.as_words(name)
    to = builder.views.get(node.output)
    if to is None:
        to = builder.views[node.output] = builder.new_view(node.output, source.layout.shift)
    if to.layout.shift != source.layout.shift:
        return False
    extent, planes = (source.groups, *size, *out), source.layout.images * source.groups
    grain, tile = max(1, GRAIN // (size[0] * size[1])), Tile(builder.dot.lanes, builder.dot.parts)

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        x, y = ((buffers[v.buffer], *layout.walk(v)) for v in (source, to))
        return in_shares(max_words, (x, y, extent, window, tile), planes, grain)

    builder.add(
        Step((node,), "words", "bytes keep the order of codes", OnBuffers(bind), buffers=(source.buffer, to.buffer))
    )
    builder.written.add(node.output)
    return True


def pool_window(node: Node) -> tuple[int, ...]:
    """Taps, strides, distances of taps and padding before a pool's map, each down and right; one axis goes right."""
    at = node.attributes
    rank = len(at["kernel"])
    ones, none = (1,) * (2 - rank), (0,) * (2 - rank)
    pairs = *((*ones, *at[k]) for k in ("kernel", "strides", "dilations")), (*none, *at["pads"][:rank])
    return tuple(int(n) for pair in pairs for n in pair)


def every_window_meets(window: tuple[int, ...], size: Sequence[int], out: Sequence[int]) -> bool:
    """Whether every window has a tap within an input of this size."""
    return all(_meet(size[axis], out[axis], *window[axis::2]) for axis in range(2))


def _meet(size: int, out: int, taps: int, stride: int, apart: int, before: int) -> bool:
    """The same along an axis."""
    at = np.arange(out)[:, None] * stride + np.arange(taps) * apart - before
    return bool(((at >= 0) & (at < size)).any(axis=1).all())


def multiply(builder: ProgramBuilder, node: Node) -> bool:
    """A product of two maps of bytes, or of a map and a number a channel, and the requantizer that alone reads it."""
    graph = builder.graph
    shape = graph.tensors[node.output].shape
    reader, rule = _requantizer(builder, node)
    if reader is None or rule is None or len(shape) not in (3, 4) or 0 in shape or not fits(rule):
        return False
    names, zeros = list(node.inputs), list(node.attributes["zero_points"])
    if graph.tensors[names[0]].shape != shape:
        names, zeros = names[::-1], zeros[::-1]
    single = graph.tensors[names[1]].shape == (*shape[:2], *[1] * (len(shape) - 2))
    if graph.tensors[names[0]].shape != shape or not (single or graph.tensors[names[1]].shape == shape):
        return False
    bytes_ = (
        all(byte_shift(builder.analysis.holds[n]) is not None for n in names) and builder.analysis.sound[node.output]
    )
    words = reader.output in builder.views or names[0] in builder.written
    if not bytes_ or not words or max(map(abs, zeros)) >= 1 << 20:
        return False
    x, y = (builder.as_words(n) for n in names)
    to = builder.views.get(reader.output)
    if to is None:
        to = builder.views[reader.output] = builder.new_view(reader.output)
    table = np.zeros((4, 4 * to.groups))
    rows = (-x.layout.shift - zeros[0], -y.layout.shift - zeros[1], rule.scale, rule.offset)
    for row, values in zip(table, rows, strict=True):
        row[: shape[1]] = values
    limits = np.array([rule.low, rule.high, to.layout.shift], np.int32)
    lay, tile = to.layout, Tile(builder.dot.lanes, builder.dot.parts)
    size = (to.groups, *layout.rows_of(*((x, to) if single else (x, y, to))), int(single))
    planes, grain = lay.images * to.groups, max(1, GRAIN // (lay.height * lay.width))
    held = [(builder.analysis.holds[n], zero) for n, zero in zip(names, zeros, strict=True)]
    short = holds_in_float32(table[:, : shape[1] if len(rule.scale) > 1 else 1], rule, *held)
    factors = table.astype(np.float32)

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        a, b, out = ((buffers[v.buffer], *layout.walk(v)) for v in (x, y, to))
        if short:
            return in_shares(multiply_words32, (a, b, size, factors, limits, out, tile), planes, grain)
        return in_shares(multiply_words, (a, b, size, table, limits, out), planes, grain)

    why, used = "proven for every product that can arrive", (x.buffer, y.buffer, to.buffer)
    builder.add(Step((node, reader), "formula on words", why, OnBuffers(bind), buffers=used))
    builder.written.add(reader.output)
    builder.fused.add(reader.output)
    return True


def holds_in_float32(table: np.ndarray, rule: AffineRequantizer, x: Held, y: Held) -> bool:
    """Whether products in float32 have the codes of float64 for every pair of codes that can arrive.

    `table`: scale and offset in rows 2 and 3, a cell a column. The products themselves are integers below 2^24.
    """
    (first, second), most = (np.arange(low, high + 1) - zero for (low, high), zero in (x, y)), 1 << 24
    if not MOST_CELLS >= table.shape[1] > 0 or int(np.abs(first).max()) * int(np.abs(second).max()) >= most:
        return False
    exact = np.unique(np.multiply.outer(first, second))
    for scale, offset in table[2:].T:
        right = np.rint(np.clip(scale * exact + offset, rule.low, rule.high))
        near = np.float32(scale) * exact.astype(np.float32) + np.float32(offset)
        near = np.clip(near, np.float32(rule.low), np.float32(rule.high))
        if not np.array_equal(np.rint(near), right):
            return False
    return True


def mean(builder: ProgramBuilder, node: Node) -> bool:
    """Sums of whole maps that are words already, and the requantizer that alone reads them."""
    name, graph = node.inputs[0], builder.graph
    shape = graph.tensors[name].shape
    spatial = sorted(a % len(shape) for a in node.attributes["axes"]) == list(range(2, len(shape)))
    reader, rule = _requantizer(builder, node)
    if reader is None or rule is None or not spatial or name not in builder.written:
        return False
    source, count, channels = builder.views[name], math.prod(shape[2:]), shape[1]
    if count >= 1 << 24 or not builder.analysis.sound[node.output]:
        return False
    to = builder.views.get(reader.output)
    factors = np.zeros((3, 4 * source.groups))
    factors[0, :channels] = -source.layout.shift * count
    factors[1, :channels], factors[2, :channels] = rule.scale, rule.offset
    kind = narrowest(builder.analysis.holds[reader.output])
    shift = byte_shift(builder.analysis.holds[reader.output]) or 0
    shift = shift if to is None else to.layout.shift
    limits = np.array([rule.low, rule.high, shift], np.int32)
    size, images = (source.groups, *layout.rows_of(source)), source.layout.images
    tile = Tile(builder.dot.lanes, builder.dot.parts)
    planes, grain = images * source.groups, max(1, GRAIN // (size[1] * size[2]))
    made = graph.tensors[reader.output].shape

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        x, out = (buffers[source.buffer], *layout.walk(source)), np.empty((planes, 4), np.uint8)
        sums = in_shares(mean_codes, (x, size, factors, limits, out, tile), planes, grain)
        words: np.ndarray = out.view(np.uint32).reshape(-1)
        if to is not None:
            return [*sums, Work(Call(put, (words, buffers[to.buffer], _positions(to))))]

        def as_array(frame: Frame) -> None:
            codes = out.reshape(images, -1)[:, :channels] - np.uint8(shift)  # modulo 256
            frame.arrays[reader.output] = np.ascontiguousarray(codes).view(kind).reshape(made)

        return [*sums, as_array]

    why, where = "proven for every sum that can arrive", (source.buffer,) if to is None else (source.buffer, to.buffer)
    step = Step((node, reader), "formula on words", why, OnBuffers(bind), buffers=where)
    if to is None:
        step.made = (reader.output,)
    else:
        builder.written.add(reader.output)
    builder.add(step)
    builder.fused.add(reader.output)
    return True


def _positions(to: TensorView) -> np.ndarray:
    """Words of the first position of each plane of a map."""
    stride, plane, _, first = layout.walk(to)
    return (first + np.arange(to.layout.images)[:, None] * stride + np.arange(to.groups) * plane).reshape(-1)


def _requantizer(builder: ProgramBuilder, node: Node) -> tuple[Node | None, AffineRequantizer | None]:
    """The requantizer to bytes that alone reads a node, one cell or one a channel, and its formula without a table."""
    reader, rank = builder.sole_requantizer(node), len(builder.graph.tensors[node.output].shape)
    if reader is None or not by_channel(reader.attributes["cells"], rank):
        return None, None
    if byte_shift(builder.analysis.holds[reader.output]) is None:
        return None, None
    rule = formula(builder, reader)
    if node.op == "mul" and isinstance(rule, AffineRequantizer) and rule.table.size:
        ends = zip(node.attributes["zero_points"], (builder.analysis.holds[n] for n in node.inputs), strict=True)
        x, y = (np.arange(low, min(high, low + 255) + 1) - zero for zero, (low, high) in ends)
        rule = without_table(rule, np.multiply.outer(x, y).reshape(-1))
    plain = isinstance(rule, AffineRequantizer) and not rule.table.size and rule.kind == RINT
    return (reader, rule) if plain else (None, None)  # type: ignore[return-value]


def gather(builder: ProgramBuilder, node: Node) -> bool:
    """Channels side by side from a whole word on: planes of words are copied."""
    begin, name = channel_slice(node), node.inputs[0]
    if begin is None or (node.output not in builder.placement.views and name not in builder.written):
        return False
    shifts = [byte_shift(builder.analysis.holds[n]) for n in (name, node.output)]
    shape = builder.graph.tensors[node.output].shape
    if None in shifts or len(shape) not in (3, 4) or 0 in builder.graph.tensors[name].shape or 0 in shape:
        return False
    whole = builder.as_words(name)
    source = TensorView(whole.buffer, whole.layout, whole.group + begin // 4, shape[1])
    to = builder.views.get(node.output)
    if to is None:
        to = builder.views[node.output] = builder.new_view(node.output, whole.layout.shift)
    if to.layout.shift != whole.layout.shift:
        return False
    rows, columns = np.arange(to.layout.height), np.arange(to.layout.width)

    def bind(buffers: list[layout.Buffer]) -> list[Action]:
        return [Work(layout.resize(buffers[source.buffer], source, rows, columns, buffers[to.buffer], to))]

    builder.add(Step((node,), "words", "planes of words", OnBuffers(bind), buffers=(source.buffer, to.buffer)))
    builder.written.add(node.output)
    return True
