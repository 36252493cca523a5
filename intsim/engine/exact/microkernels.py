"""LLVM code for tiles of exact sums: four u8 x s8 products at a time, and the codes of finished sums.

The innermost loops are emitted as LLVM code: accumulators in vector registers, one `vpdpbusd` (or two `pmaddwd`) for
four products in each lane. A `Tile` says how much of a convolution or product that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from intsim.jit.constants import Constants
from intsim.jit.emit import I32, Vectors, element, emitted, invoke, number, pair_sums, splat, variable

_DOTS = {16: "llvm.x86.avx512.vpdpbusd.512", 8: "llvm.x86.avx512.vpdpbusd.256"}


@dataclass(frozen=True)
class Tile(Constants):
    """Sums that are accumulated together: `rows` x `vectors` x `lanes` of them.

    Rows are output channels of a convolution, or rows of a product; the vectors lie side by side along the other axis.
    `parts`: see `isa.Dot`. With `tiled` they are in tile registers, 16 rows by 16 lanes each.
    """

    lanes: int
    parts: int
    rows: int = 1
    vectors: int = 1
    tiled: bool = False


def _bytes(builder: Any, word: Any, parts: int) -> list[Any]:
    """The four bytes of each lane as the instruction takes them; see `isa.Dot.parts`. `word` scalar or vector."""
    if parts == 1:
        return [word]
    mask = 0x00FF00FF if parts == 2 else 0xFF
    constant = lambda v: ir.Constant(word.type, v if word.type == I32 else [v] * word.type.count)  # noqa: E731
    shifts = range(0, 8 * (4 if parts == 4 else 2), 8)
    return [builder.and_(builder.lshr(word, constant(s)) if s else word, constant(mask)) for s in shifts]


def _dot(v: Vectors, total: Any, activations: list[Any], weights: list[Any]) -> Any:
    """`total` plus the products of four bytes in each lane."""
    b, parts = v.builder, len(activations)
    if parts == 1:
        return invoke(b, _DOTS[v.count], v.type, total, activations[0], weights[0])
    for x, w in zip(activations, weights, strict=True):
        total = b.add(total, pair_sums(b, x, w, v.count) if parts == 2 else b.mul(x, w))
    return total


@emitted
def conv_tile(  # type: ignore[no-untyped-def]
    b, x, at, offsets, first, taps, weights, begin, bias, channel, out, apart, tile
):
    """A tile of channels by positions: out[r, p] = bias + sum over taps of four products each.

    Tap t of channel r reads the words x[at + offsets[first + t] + p] and the weight word weights[begin + t, r].
    A tile in tile registers reads several words at each tap, `apart` from each other: `tiles.py` lays its weights out.
    """
    if tile.tiled:
        _conv_tiles(b, x, at, offsets, first, taps, weights, begin, bias, channel, out, apart, tile)
        return
    v, pieces, high, wide = Vectors(b, 32, tile.lanes), tile.parts, tile.rows, tile.vectors
    here, where = b.gep(x.data, [at]), b.gep(offsets.data, [first])
    weight = b.gep(weights.data, [b.mul(begin, number(high * pieces))])
    initial = b.gep(bias.data, [channel])
    start = [v.splat(element(b, initial, number(r))) for r in range(high)]
    totals = [variable(b, start[r]) for r in range(high) for _ in range(wide)]
    with cgutils.for_range(b, taps) as loop:
        base = b.gep(here, [element(b, where, loop.index)])
        row = b.gep(weight, [b.mul(loop.index, number(high * pieces))])
        seen = [_bytes(b, v.load(base, number(p * v.count)), pieces) for p in range(wide)]
        for r in range(high):
            words = [element(b, row, number(r * pieces + q)) for q in range(pieces)]
            factors = [v.splat(w) for w in words]
            for p in range(wide):
                total = totals[r * wide + p]
                b.store(_dot(v, b.load(total), seen[p], factors), total)
    _store(v, totals, out)


def _store(v: Vectors, totals: list[Any], out: Any) -> None:
    for i, total in enumerate(totals):
        v.store(v.builder.load(total), out.data, number(i * v.count))


_SUM, _WEIGHT, _WORDS = 0, 4, 5
"""The first tile registers of sums, of weights, and of words, of which there may be two."""


_ROWS, _COLUMNS = 4, 6
"""The same of a product of matrices: those of rows, of which there may be two, and of weights."""


def conv_shapes(depth: int) -> Any:
    """What `begin_tiles` takes for `conv_tile`, whose taps are `depth` words deep."""
    return _shapes(16, depth, [_WEIGHT], [_WORDS, _WORDS + 1])


def product_shapes(depth: int, rows: int) -> Any:
    """What `begin_tiles` takes for `product_tiles` of chunks of `depth` words and `rows` rows a register."""
    return _shapes(rows, depth, [_ROWS, _ROWS + 1], [_COLUMNS])


def _shapes(rows: int, depth: int, left: list[int], right: list[int]) -> Any:
    """Shapes of tile registers for sums of `rows` by 16, each of which gets `depth` products of words at once.

    Returns:
        64 bytes: the palette, and from 16 and 48 on bytes of a row and rows of each register.
    """
    shapes = np.zeros(64, np.uint8)
    width, height = shapes[16:48].view(np.uint16), shapes[48:]
    shapes[0] = 1
    width[:7], height[:7] = 64, rows
    width[left], height[right] = 4 * depth, depth
    return shapes


def _tile(b: Any, name: str, *given: Any) -> None:
    """One instruction on tile registers: their numbers are Python's, pointers and strides LLVM's."""
    terms = [ir.Constant(ir.IntType(8), g) if isinstance(g, int) else g for g in given]
    byte = ir.IntType(8).as_pointer()
    terms = [b.bitcast(t, byte) if isinstance(t.type, ir.PointerType) else t for t in terms]
    invoke(b, f"llvm.x86.{name}", ir.VoidType(), *terms)


@emitted
def begin_tiles(b, shapes, tile):  # type: ignore[no-untyped-def]
    """Give tile registers their shapes (`conv_shapes`, `product_shapes`); they are this thread's until `end_tiles`."""
    if tile.tiled:
        _tile(b, "ldtilecfg", shapes.data)


@emitted
def end_tiles(b, tile):  # type: ignore[no-untyped-def]
    """Give them back."""
    if tile.tiled:
        _tile(b, "tilerelease")


def _conv_tiles(  # type: ignore[no-untyped-def]
    b, x, at, offsets, first, taps, weights, begin, bias, channel, out, apart, tile
) -> None:
    """`conv_tile` in tile registers; bias, weights and sums are rows of 64 bytes."""
    line, high, wide = tile.lanes, tile.rows // 16, tile.vectors
    here, where = b.gep(x.data, [at]), b.gep(offsets.data, [first])
    weight = b.gep(weights.data, [b.mul(begin, number(tile.rows * line))])
    initial = b.gep(bias.data, [b.mul(channel, number(line))])
    bytes_apart, dense = b.mul(apart, number(4)), number(4 * line)
    for i in range(high):
        for p in range(wide):
            _tile(b, "tileloadd64", _SUM + i * wide + p, b.gep(initial, [number(16 * line * i)]), dense)
    with cgutils.for_range(b, taps) as loop:
        base = b.gep(here, [element(b, where, loop.index)])
        row = b.gep(weight, [b.mul(loop.index, number(tile.rows * line))])
        for p in range(wide):
            _tile(b, "tileloadd64", _WORDS + p, b.gep(base, [number(p * line)]), bytes_apart)
        for i in range(high):
            _tile(b, "tileloadd64", _WEIGHT, b.gep(row, [number(16 * line * i)]), dense)
            for p in range(wide):
                _tile(b, "tdpbsud", _SUM + i * wide + p, _WEIGHT, _WORDS + p)
    for i in range(high):
        for p in range(wide):
            to = b.gep(out.data, [number((16 * i * wide + p) * line)])
            _tile(b, "tilestored64", _SUM + i * wide + p, to, number(4 * line * wide))


@emitted
def product_tiles(  # type: ignore[no-untyped-def]
    b, x, at, apart, starts, depth, weights, bias, column, out, tile
):
    """`product_tile` in tile registers, of rows that lie `apart` words from each other.

    Chunk i of `depth` words begins at word starts[i] of a row. Weights are (vectors of columns, chunks, depth, lanes).
    """
    line, high, wide = tile.lanes, tile.rows // 16, tile.vectors
    chunks, bytes_apart = b.extract_value(starts.shape, 0), b.mul(apart, number(4))
    one = b.mul(depth, number(line))
    vector = b.mul(chunks, one)
    initial = b.gep(bias.data, [column])
    weight = b.gep(weights.data, [b.mul(b.udiv(column, number(line)), vector)])
    rows = [b.gep(x.data, [b.add(at, b.mul(apart, number(16 * i)))]) for i in range(high)]
    pairs = [(i, p) for i in range(high) for p in range(wide)]
    for i, p in pairs:  # the same for all rows
        _tile(b, "tileloadd64", _SUM + i * wide + p, b.gep(initial, [number(line * p)]), number(0))
    with cgutils.for_range(b, chunks) as loop:
        chunk, start = b.gep(weight, [b.mul(loop.index, one)]), element(b, starts.data, loop.index)
        for i in range(high):
            _tile(b, "tileloadd64", _ROWS + i, b.gep(rows[i], [start]), bytes_apart)
        for p in range(wide):
            _tile(b, "tileloadd64", _COLUMNS, b.gep(chunk, [b.mul(vector, number(p))]), number(4 * line))
            for i in range(high):
                _tile(b, "tdpbusd", _SUM + i * wide + p, _ROWS + i, _COLUMNS)
    for i, p in pairs:
        to = b.gep(out.data, [number((16 * i * wide + p) * line)])
        _tile(b, "tilestored64", _SUM + i * wide + p, to, number(4 * line * wide))


@emitted
def row_codes(b, sums, row, scale, offset, column, ends, out, at, tile):  # type: ignore[no-untyped-def]
    """Codes of a row of a tile of sums into the bytes out[at:], flat; each column has its own: `matmul.ColumnCodes`."""
    v, wide = Vectors(b, 32, tile.lanes), tile.vectors
    line = b.gep(sums.data, [b.mul(row, number(wide * v.count))])
    scales, offsets = (b.gep(a.data, [column]) for a in (scale, offset))

    def floats(pointer: Any, p: int) -> Any:
        at = b.bitcast(b.gep(pointer, [number(p * v.count)]), _floats(v).as_pointer())
        loaded = b.load(at)
        loaded.align = 8
        return loaded

    four = []
    for p in range(wide):
        total = b.sitofp(v.load(line, number(p * v.count)), _floats(v))
        four.append(_integers(v, b.fadd(b.fmul(total, floats(scales, p)), floats(offsets, p))))
    made = _words(v, (four * 4)[:4], number(2), ends, tile.parts, True)
    made = b.xor(made, v.splat(element(b, ends.data, number(7))))
    whole = ir.Constant(ir.VectorType(I32, v.count * wide // 4), list(range(v.count * wide // 4)))
    made = b.shuffle_vector(made, made, whole)
    there = b.gep(b.bitcast(out.data, ir.IntType(8).as_pointer()), [at])
    b.store(made, b.bitcast(there, made.type.as_pointer())).align = 1


@emitted
def product_tile(b, x, at, depth, weights, begin, bias, channel, out, tile):  # type: ignore[no-untyped-def]
    """A tile of rows of x by columns: out[r, c] = bias + sum of products.

    Word k of row r is x[at[r] + k]; the weight words of its columns are weights[begin + k] (vectors, parts, lanes).
    """
    v, pieces, high, wide = Vectors(b, 32, tile.lanes), tile.parts, tile.rows, tile.vectors
    lines = [b.gep(x.data, [element(b, at.data, number(r))]) for r in range(high)]
    one = wide * pieces * v.count
    weight = b.gep(weights.data, [b.mul(begin, number(one))])
    initial = b.gep(bias.data, [channel])
    start = [v.load(initial, number(p * v.count)) for p in range(wide)]
    totals = [variable(b, start[p]) for _ in range(high) for p in range(wide)]
    with cgutils.for_range(b, depth) as loop:
        row = b.gep(weight, [b.mul(loop.index, number(one))])
        factors = [[v.load(row, number((p * pieces + q) * v.count)) for q in range(pieces)] for p in range(wide)]
        for r in range(high):
            seen = [v.splat(byte) for byte in _bytes(b, element(b, lines[r], loop.index), pieces)]
            for p in range(wide):
                total = totals[r * wide + p]
                b.store(_dot(v, b.load(total), seen, factors[p]), total)
    _store(v, totals, out)


_PACKS = {
    16: ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"),
    8: ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb"),
    4: ("llvm.x86.sse2.packssdw.128", "llvm.x86.sse2.packuswb.128"),
}
"""By lanes of 32 bits: integers to int16, and int16 to uint8, what doesn't fit as the nearest; 128 bits at a time."""
_LANE = [4 * r + p for p in range(4) for r in range(4)]
"""Where the bytes of four words come from in 16 of four channels, four positions each."""


def _floats(v: Vectors, kind: Any = None) -> Any:
    """The type of as many float64, or numbers of another kind."""
    return ir.VectorType(kind or ir.DoubleType(), v.count)


def _words(v: Vectors, four: list[Any], added: Any, ends: Any, parts: int, in_row: bool = False) -> Any:
    """A vector of words whose bytes are the codes `four` (channels), plus what makes bytes of them, within `ends`.

    `added` is an index of `ends`, which are those of `conv.Codes`. With `in_row` the codes of a vector lie side by side
    instead, the first vector's first.
    """
    b, n = v.builder, v.count
    low, high, more = (v.splat(element(b, ends.data, i)) for i in (number(0), number(1), added))
    shorts, octets = Vectors(b, 16, 2 * n), Vectors(b, 8, 4 * n)
    more, low, high = b.bitcast(more, shorts.type), b.bitcast(low, octets.type), b.bitcast(high, octets.type)
    if parts == 4:  # any processor
        wide = Vectors(b, 16, n)
        most, least = v.constant((1 << 15) - 1), v.constant(-(1 << 15))
        one = b.shuffle_vector(more, more, ir.Constant(ir.VectorType(I32, n), [0] * n))
        short = [b.trunc(v.select("<", v.select(">", c, least), most), wide.type) for c in four]
        sums = [v.of(wide.call("llvm.sadd.sat", c, one)) for c in short]
        octet = [v.select("<", v.select(">", c, v.zero), v.constant(255)) for c in sums]
        word = octet[0]
        for r in range(1, 4):
            word = b.or_(word, b.shl(octet[r], v.constant(8 * r)))
        packed = b.bitcast(word, octets.type)
        if in_row:
            order = [4 * p + r for r in range(4) for p in range(n)]
            packed = b.shuffle_vector(packed, packed, ir.Constant(ir.VectorType(I32, 4 * n), order))
    else:
        to_shorts, to_octets = _PACKS[n]
        halves = [invoke(b, to_shorts, shorts.type, *four[r : r + 2]) for r in (0, 2)]
        halves = [shorts.call("llvm.sadd.sat", h, more) for h in halves]
        packed = invoke(b, to_octets, octets.type, *halves)
        lanes = range(n // 4)
        order = [16 * lane + at for lane in lanes for at in _LANE]
        if in_row:
            order = [16 * lane + 4 * r + p for r in range(4) for lane in lanes for p in range(4)]
        packed = b.shuffle_vector(packed, packed, ir.Constant(ir.VectorType(I32, 4 * n), order))
    return b.bitcast(octets.call("llvm.umin", octets.call("llvm.umax", packed, low), high), v.type)


def _byte_codes(v: Vectors, values: Any, ends: Any, kind: Any, out: Any, parts: int) -> None:
    """Bytes of float64 vectors, four to a word, rounded as `kind` says, into the vectors of words of `out`.

    `ends`: see `conv.Codes`. Values are well below 2^31. `values` makes vector r of word p anew wherever it is called,
    as each kind of rounding is a branch of its own.
    """
    b = v.builder

    def emit(rounded: str | None) -> None:
        for p, word_values in enumerate(values):
            four = []
            for make in word_values:
                value = make()
                if rounded is not None:
                    value = invoke(b, f"llvm.{rounded}.v{v.count}f64", _floats(v), value)
                four.append(_integers(v, value))
            v.store(_words(v, four, number(2), ends, parts), out.data, number(p * v.count))

    with b.if_else(b.icmp_signed("==", kind, number(0))) as (nearest, other):
        with nearest:
            emit(None)
        with other, b.if_else(b.icmp_signed("==", kind, number(1))) as (down, up):
            with down:
                emit("floor")
            with up:
                emit("ceil")


def _integers(v: Vectors, value: Any) -> Any:
    """Float64 well below 2^31 as integers of 32 bits, ties to even.

    1.5 * 2^52 is added to a value: the sum rounds to the nearest integer, and holds it in its low 32 bits.
    """
    b = v.builder
    magic = ir.Constant(_floats(v), [1.5 * 2.0**52] * v.count)
    halves = b.bitcast(b.fadd(value, magic), ir.VectorType(I32, 2 * v.count))
    return b.shuffle_vector(halves, halves, ir.Constant(ir.VectorType(I32, v.count), list(range(0, 2 * v.count, 2))))


def _nearest(v: Vectors, value: Any, parts: int) -> Any:
    """Float32 below 2^31 as integers, ties to even."""
    b, kind = v.builder, value.type
    if parts == 4:
        return b.fptosi(invoke(b, f"llvm.rint.v{v.count}f32", kind, value), v.type)
    if v.count == 16:
        everywhere, as_set = ir.Constant(ir.IntType(16), -1), ir.Constant(I32, 4)
        return invoke(b, "llvm.x86.avx512.mask.cvtps2dq.512", v.type, value, v.zero, everywhere, as_set)
    name = {8: "llvm.x86.avx.cvt.ps2dq.256", 4: "llvm.x86.sse2.cvtps2dq"}[v.count]
    return invoke(b, name, v.type, value)


@emitted
def codes(b, sums, row, rounding, channel, out, tile):  # type: ignore[no-untyped-def]
    """Bytes of four channels of a tile, one word a position: `conv.Codes` says what they are."""
    v, wide = Vectors(b, 32, tile.lanes), tile.vectors
    lines = b.gep(sums.data, [b.mul(row, number(wide * v.count))])

    def value(p: int, r: int, kind: Any, table: Any) -> Any:
        total = v.load(lines, number((r * wide + p) * v.count))
        count = b.extract_value(table.shape, 1)
        scales, offsets = (b.gep(table.data, [at]) for at in (channel, b.add(channel, count)))
        factor, constant = (splat(b, element(b, a, number(r)), v.count) for a in (scales, offsets))
        return b.fadd(b.fmul(b.sitofp(total, _floats(v, kind)), factor), constant)

    group = b.lshr(channel, number(2))
    single = b.icmp_signed("!=", element(b, rounding.single.data, group), ir.Constant(ir.IntType(8), 0))
    with b.if_else(single) as (short, long):
        with short:
            for p in range(wide):
                four = [_nearest(v, value(p, r, ir.FloatType(), rounding.lines32), tile.parts) for r in range(4)]
                v.store(_words(v, four, number(3), rounding.ends, tile.parts), out.data, number(p * v.count))
        with long:
            values = [[partial(value, p, r, ir.DoubleType(), rounding.lines) for r in range(4)] for p in range(wide)]
            _byte_codes(v, values, rounding.ends, rounding.kind, out, tile.parts)


@emitted
def sum_codes(b, x, at, y, to, rounding, group, out, tile):  # type: ignore[no-untyped-def]
    """One vector of words: codes of sums of a byte of x and one of y, as `kernels.SumCodes` says; without y of one row.

    `group` is the word's first channel.
    """
    v = Vectors(b, 32, tile.lanes)
    columns = b.extract_value(rounding.factors.shape, 1)
    words = [v.load(x.data, at), v.load(y.data, to)][: tile.rows]

    def factor(table: Any, row: int, r: int) -> Any:
        at_row = b.add(b.mul(columns, number(row)), group)
        return splat(b, element(b, table.data, b.add(at_row, number(r))), v.count)

    def products(table: Any, kind: Any, r: int) -> Any:
        """Their sum."""
        total = None
        for i, word in enumerate(words):
            moved = b.lshr(word, v.constant(8 * r)) if r else word
            byte = b.sitofp(b.and_(moved, v.constant(255)), _floats(v, kind))
            product = b.fmul(byte, factor(table, i, r))
            total = product if total is None else b.fadd(total, product)
        return total

    def value(r: int) -> Any:
        total = b.fadd(products(rounding.factors, ir.DoubleType(), r), factor(rounding.factors, 2, r))
        return b.fadd(b.fmul(total, factor(rounding.factors, 3, r)), factor(rounding.factors, 4, r))

    single = element(b, rounding.single.data, b.lshr(group, number(2)))
    with b.if_else(b.icmp_signed("!=", single, ir.Constant(ir.IntType(8), 0))) as (short, long):
        with short:
            near = rounding.factors32
            sums = [b.fadd(products(near, ir.FloatType(), r), factor(near, 2, r)) for r in range(4)]
            four = [_nearest(v, s, tile.parts) for s in sums]
            v.store(_words(v, four, number(3), rounding.ends, tile.parts), out.data, number(0))
        with long:
            values = [[partial(value, r) for r in range(4)]]
            _byte_codes(v, values, rounding.ends, rounding.kind, out, tile.parts)


@emitted
def bounded(b, parts, row, valid, constant, sums, edges, tile):  # type: ignore[no-untyped-def]
    """Rows `row` (sums of positive products) and `row + 1` (of negative ones) of a tile's `parts`.

    Their sums and the constant go into `sums`; the least of the first `valid` negative ones into edges[0], the greatest
    of the positive ones into edges[1].
    """
    v, wide = Vectors(b, 32, tile.lanes), tile.vectors
    line = b.gep(parts.data, [b.mul(row, number(wide * v.count))])
    added, count = v.splat(constant), v.splat(b.trunc(valid, I32))
    least = most = v.zero
    for p in range(wide):
        positive, negative = (v.load(line, number((r * wide + p) * v.count)) for r in range(2))
        v.store(b.add(b.add(positive, negative), added), sums.data, number(p * v.count))
        inside = b.icmp_signed("<", ir.Constant(v.type, list(range(p * v.count, (p + 1) * v.count))), count)
        positive, negative = (b.select(inside, part, v.zero) for part in (positive, negative))
        least, most = v.select("<", negative, least), v.select(">", positive, most)
    for index, (name, value) in enumerate((("smin", least), ("smax", most))):
        b.store(v.reduced(name, value), b.gep(edges.data, [number(index)]))


@emitted
def every_second(b, out, to, source, begin, start, stop, count, pad):  # type: ignore[no-untyped-def]
    """out[to + i] = source[begin + 2 i] if start <= i < stop, else pad, for 0 <= i < count; flat arrays of words.

    It writes a multiple of `RUN` words, and reads twice as many: both arrays are that much longer.
    """
    v = Vectors(b, 32, RUN)
    target, origin = b.gep(out.data, [to]), b.gep(source.data, [begin])
    even = ir.Constant(ir.VectorType(I32, RUN), list(range(0, 2 * RUN, 2)))
    lanes, padding = ir.Constant(v.type, list(range(RUN))), v.splat(pad)
    first, last = (v.splat(b.trunc(n, I32)) for n in (start, stop))
    with cgutils.for_range_slice(b, number(0), count, number(RUN)) as (index, _):
        twice = b.mul(index, number(2))
        halves = v.load(origin, twice), v.load(origin, b.add(twice, number(RUN)))
        here = b.add(lanes, v.splat(b.trunc(index, I32)))
        inside = b.and_(b.icmp_signed(">=", here, first), b.icmp_signed("<", here, last))
        v.store(b.select(inside, b.shuffle_vector(*halves, even), padding), target, index)


@emitted
def place(b, packed, words, begin, places, index, tile):  # type: ignore[no-untyped-def]
    """Vectors of a tile to where `kernels._places` says, from vector `index` on, counted from words[begin]."""
    v, base = Vectors(b, 32, tile.lanes), b.gep(words.data, [begin])
    entries = b.extract_value(places.shape, 1)
    chosen, name = ir.VectorType(ir.IntType(1), v.count), f"llvm.masked.store.v{v.count}i32.p0"
    for p in range(tile.vectors):
        word = v.load(packed.data, number(p * v.count))
        row = b.gep(places.data, [b.mul(b.add(index, number(p)), entries)])

        def store(run: Any, word: Any = word, row: Any = row) -> None:
            at = b.mul(run, number(2))
            to, mask = (element(b, row, b.add(at, number(i))) for i in (1, 2))
            lanes = b.bitcast(b.trunc(mask, ir.IntType(v.count)), chosen)
            invoke(b, name, ir.VoidType(), word, v.address(base, to), ir.Constant(I32, 4), lanes)

        store(number(0))
        with cgutils.for_range_slice(b, number(1), element(b, row, number(0)), number(1)) as (r, _):
            store(r)


RUN = 16
"""Elements that `copy` moves at once; sources are that much longer than what is copied."""


@emitted
def copy(b, out, to, source, begin, count):  # type: ignore[no-untyped-def]
    """out[to : to + count] = source[begin : begin + count], 32-bit elements of flat arrays; count may be negative.

    Rows are short: masked stores take a tenth of the time of a call of memcpy.
    """
    v = Vectors(b, 32, RUN)
    target, origin = b.gep(out.data, [to]), b.gep(source.data, [begin])
    with cgutils.for_range_slice(b, number(0), count, number(RUN)) as (index, _):
        there, value = v.address(target, index), v.load(origin, index)
        left = b.sub(count, index)
        with b.if_else(b.icmp_signed(">=", left, number(RUN))) as (whole, rest):
            with whole:
                b.store(value, there).align = 4
            with rest:
                chosen = b.icmp_signed("<", ir.Constant(v.type, list(range(RUN))), v.splat(b.trunc(left, I32)))
                name = f"llvm.masked.store.v{RUN}i32.p0"
                invoke(b, name, ir.VoidType(), value, there, ir.Constant(I32, 4), chosen)
