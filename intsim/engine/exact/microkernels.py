"""LLVM code for tiles of exact sums: four u8 x s8 products at a time, and the codes of finished sums.

The innermost loops are emitted as LLVM code: accumulators in vector registers, one `vpdpbusd` (or two `pmaddwd`) for
four products in each lane. A `Tile` says how much of a convolution or product that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from intsim.jit.constants import Constants

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_DOTS = {(16, 1): "llvm.x86.avx512.vpdpbusd.512", (8, 1): "llvm.x86.avx512.vpdpbusd.256"}
_PAIRS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}


@dataclass(frozen=True)
class Tile(Constants):
    """Sums that are accumulated together: `rows` x `vectors` x `lanes` of them.

    Rows are output channels of a convolution, or rows of a product; the vectors lie side by side along the other axis.
    `parts`: see `isa.Dot`.
    """

    lanes: int
    parts: int
    rows: int = 1
    vectors: int = 1


def _pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(I32, lanes)
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(vector, [0] * lanes))


def _vector(builder: Any, pointer: Any, index: Any, lanes: int) -> Any:
    """Load `lanes` 32-bit words at any address."""
    kind = ir.VectorType(I32, lanes)
    loaded = builder.load(builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer()))
    loaded.align = 4
    return loaded


def _bytes(builder: Any, word: Any, parts: int) -> list[Any]:
    """The four bytes of each lane as the instruction takes them; see `isa.Dot.parts`. `word` scalar or vector."""
    if parts == 1:
        return [word]
    mask = 0x00FF00FF if parts == 2 else 0xFF
    constant = lambda v: ir.Constant(word.type, v if word.type == I32 else [v] * word.type.count)  # noqa: E731
    shifts = range(0, 8 * (4 if parts == 4 else 2), 8)
    return [builder.and_(builder.lshr(word, constant(s)) if s else word, constant(mask)) for s in shifts]


def _dot(builder: Any, total: Any, activations: list[Any], weights: list[Any], lanes: int) -> Any:
    """`total` plus the products of four bytes in each lane."""
    parts = len(activations)
    vector, module = ir.VectorType(I32, lanes), builder.module
    if parts == 1:
        kind = ir.FunctionType(vector, [vector] * 3)
        function = cgutils.get_or_insert_function(module, kind, _DOTS[lanes, 1])
        return builder.call(function, [total, activations[0], weights[0]])
    for x, w in zip(activations, weights, strict=True):
        if parts == 2:
            short = ir.VectorType(I16, 2 * lanes)
            function = cgutils.get_or_insert_function(module, ir.FunctionType(vector, [short] * 2), _PAIRS[lanes])
            product = builder.call(function, [builder.bitcast(x, short), builder.bitcast(w, short)])
        else:
            product = builder.mul(x, w)
        total = builder.add(total, product)
    return total


def _accumulators(builder: Any, start: list[Any]) -> list[Any]:
    """Variables that LLVM keeps in registers."""
    totals = []
    for value in start:
        with builder.goto_entry_block():
            total = builder.alloca(value.type)
        builder.store(value, total)
        totals.append(total)
    return totals


@intrinsic
def conv_tile(typingctx, x, at, offsets, first, taps, weights, begin, bias, channel, out, tile):  # type: ignore[no-untyped-def]
    """A tile of channels by positions: out[r, p] = bias + sum over taps of four products each.

    Tap t of channel r reads the words x[at + offsets[first + t] + p] and the weight word weights[begin + t, r].
    """
    signature = types.void(x, at, offsets, first, taps, weights, begin, bias, channel, out, tile)
    width, pieces, high, wide = tile.value.lanes, tile.value.parts, tile.value.rows, tile.value.vectors

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        pointers = {
            i: _pointer(context, builder, k, args[i])
            for i, k in ((0, x), (2, offsets), (5, weights), (7, bias), (9, out))
        }
        index = lambda i: ir.Constant(I64, i)  # noqa: E731
        here, where = builder.gep(pointers[0], [args[1]]), builder.gep(pointers[2], [args[3]])
        weight = builder.gep(pointers[5], [builder.mul(args[6], index(high * pieces))])
        initial = builder.gep(pointers[7], [args[8]])
        start = [_splat(builder, builder.load(builder.gep(initial, [index(r)])), width) for r in range(high)]
        totals = _accumulators(builder, [start[r] for r in range(high) for _ in range(wide)])
        with cgutils.for_range(builder, args[4]) as loop:
            base = builder.gep(here, [builder.load(builder.gep(where, [loop.index]))])
            row = builder.gep(weight, [builder.mul(loop.index, index(high * pieces))])
            seen = [_bytes(builder, _vector(builder, base, index(p * width), width), pieces) for p in range(wide)]
            for r in range(high):
                words = [builder.load(builder.gep(row, [index(r * pieces + q)])) for q in range(pieces)]
                factors = [_splat(builder, w, width) for w in words]
                for p in range(wide):
                    total = totals[r * wide + p]
                    builder.store(_dot(builder, builder.load(total), seen[p], factors, width), total)
        _store(builder, totals, pointers[9], width)
        return context.get_dummy_value()

    return signature, codegen


def _store(builder: Any, totals: list[Any], pointer: Any, lanes: int) -> None:
    for i, total in enumerate(totals):
        value = builder.load(total)
        to = builder.bitcast(builder.gep(pointer, [ir.Constant(I64, i * lanes)]), value.type.as_pointer())
        builder.store(value, to).align = 4


@intrinsic
def product_tile(typingctx, x, at, step, depth, weights, begin, bias, channel, out, tile):  # type: ignore[no-untyped-def]
    """A tile of rows of x, words `step` apart, by columns: out[r, c] = bias + sum of products.

    Word k of row r is x[at[r] + k]; the weight words of its columns are weights[begin + k] (vectors, parts, lanes).
    """
    signature = types.void(x, at, step, depth, weights, begin, bias, channel, out, tile)
    width, pieces, high, wide = tile.value.lanes, tile.value.parts, tile.value.rows, tile.value.vectors

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        pointers = {
            i: _pointer(context, builder, k, args[i]) for i, k in ((0, x), (1, at), (4, weights), (6, bias), (8, out))
        }
        index = lambda i: ir.Constant(I64, i)  # noqa: E731
        lines = [builder.gep(pointers[0], [builder.load(builder.gep(pointers[1], [index(r)]))]) for r in range(high)]
        one = wide * pieces * width
        weight = builder.gep(pointers[4], [builder.mul(args[5], index(one))])
        initial = builder.gep(pointers[6], [args[7]])
        start = [_vector(builder, initial, index(p * width), width) for p in range(wide)]
        totals = _accumulators(builder, [start[p] for _ in range(high) for p in range(wide)])
        with cgutils.for_range(builder, args[3]) as loop:
            row = builder.gep(weight, [builder.mul(loop.index, index(one))])
            factors = [
                [_vector(builder, row, index((p * pieces + q) * width), width) for q in range(pieces)]
                for p in range(wide)
            ]
            for r in range(high):
                word = builder.load(builder.gep(lines[r], [loop.index]))
                seen = [_splat(builder, b, width) for b in _bytes(builder, word, pieces)]
                for p in range(wide):
                    total = totals[r * wide + p]
                    builder.store(_dot(builder, builder.load(total), seen, factors[p], width), total)
        _store(builder, totals, pointers[8], width)
        return context.get_dummy_value()

    return signature, codegen


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(ir.DoubleType(), lanes)
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _byte_codes(builder: Any, values: Any, limits: Any, kind: Any, lanes: int, store: Any) -> None:
    """Bytes of float64 vectors, four to a word, rounded as `kind` says; `store` takes a word's number and the word.

    `limits` (3,) int32: low, high, and what is added to make a byte. Values are well below 2^31. 1.5 * 2^52 is added to
    a value: the sum rounds to the nearest integer, ties to even, and holds it in its low 32 bits.
    `values` makes vector r of word p anew wherever it is called, as each kind of rounding is a branch of its own.
    """
    floats, longs = ir.VectorType(ir.DoubleType(), lanes), ir.VectorType(I64, lanes)
    words = ir.VectorType(I32, lanes)

    def call(name: str, *arguments: Any) -> Any:
        form = ir.FunctionType(floats, [floats] * len(arguments))
        function = cgutils.get_or_insert_function(builder.module, form, f"llvm.{name}.v{lanes}f64")
        return builder.call(function, arguments)

    low, high, shift = (
        _splat(builder, builder.load(builder.gep(limits, [ir.Constant(I64, i)])), lanes) for i in range(3)
    )
    magic = ir.Constant(floats, [1.5 * 2.0**52] * lanes)

    def emit(rounded: str | None) -> None:
        for p, word_values in enumerate(values()):
            word = None
            for r, make in enumerate(word_values):
                value = make() if rounded is None else call(rounded, make())
                code = builder.trunc(builder.bitcast(builder.fadd(value, magic), longs), words)
                code = builder.select(builder.icmp_signed("<", code, high), code, high)
                code = builder.select(builder.icmp_signed(">", code, low), code, low)
                code = builder.add(code, shift)
                code = builder.shl(code, ir.Constant(words, [8 * r] * lanes)) if r else code
                word = code if word is None else builder.or_(word, code)
            store(p, word)

    with builder.if_else(builder.icmp_signed("==", kind, ir.Constant(I64, 0))) as (nearest, other):
        with nearest:
            emit(None)
        with other, builder.if_else(builder.icmp_signed("==", kind, ir.Constant(I64, 1))) as (down, up):
            with down:
                emit("floor")
            with up:
                emit("ceil")


def _store_word(builder: Any, pointer: Any, lanes: int) -> Any:
    def store(p: int, word: Any) -> None:
        to = builder.gep(pointer, [ir.Constant(I64, p * lanes)])
        builder.store(word, builder.bitcast(to, word.type.as_pointer())).align = 4

    return store


@intrinsic
def codes(typingctx, sums, row, scale, offset, channel, limits, kind, out, tile):  # type: ignore[no-untyped-def]
    """Bytes of four channels of a tile, one word a position: `requantize.AffineRequantizer` says what they are."""
    signature = types.void(sums, row, scale, offset, channel, limits, kind, out, tile)
    width, wide = tile.value.lanes, tile.value.vectors
    floats = ir.VectorType(ir.DoubleType(), width)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        arrays = ((0, sums), (2, scale), (3, offset), (5, limits), (7, out))
        pointers = {i: _pointer(context, builder, k, args[i]) for i, k in arrays}
        scales, offsets = (builder.gep(pointers[i], [args[4]]) for i in (2, 3))
        lines = builder.gep(pointers[0], [builder.mul(args[1], ir.Constant(I64, wide * width))])

        def value(p: int, r: int) -> Any:
            total = _vector(builder, lines, ir.Constant(I64, (r * wide + p) * width), width)
            factor, constant = (
                _spread(builder, builder.load(builder.gep(v, [ir.Constant(I64, r)])), width) for v in (scales, offsets)
            )
            return builder.fadd(builder.fmul(builder.sitofp(total, floats), factor), constant)

        def values() -> Any:
            return [[partial(value, p, r) for r in range(4)] for p in range(wide)]

        store = _store_word(builder, pointers[7], width)
        _byte_codes(builder, values, pointers[5], args[6], width, store)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def sum_codes(typingctx, x, at, y, to, factors, group, limits, kind, out, tile):  # type: ignore[no-untyped-def]
    """One vector of words: bytes of scale * (a * byte of x + b * byte of y + c) + offset.

    factors (5, channels) float64: a, b, c, scale, offset; a, b, c and all sums are integers below 2^53. `group` is the
    word's first channel.
    """
    signature = types.void(x, at, y, to, factors, group, limits, kind, out, tile)
    width = tile.value.lanes
    floats, words = ir.VectorType(ir.DoubleType(), width), ir.VectorType(I32, width)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        arrays = ((0, x), (2, y), (4, factors), (6, limits), (8, out))
        pointers = {i: _pointer(context, builder, k, args[i]) for i, k in arrays}
        columns = builder.extract_value(context.make_array(factors)(context, builder, args[4]).shape, 1)
        first = _vector(builder, builder.gep(pointers[0], [args[1]]), ir.Constant(I64, 0), width)
        second = _vector(builder, builder.gep(pointers[2], [args[3]]), ir.Constant(I64, 0), width)

        def factor(row: int, r: int) -> Any:
            at_row = builder.add(builder.mul(columns, ir.Constant(I64, row)), args[5])
            pointer = builder.gep(pointers[4], [builder.add(at_row, ir.Constant(I64, r))])
            return _spread(builder, builder.load(pointer), width)

        def byte(word: Any, r: int) -> Any:
            moved = builder.lshr(word, ir.Constant(words, [8 * r] * width)) if r else word
            return builder.sitofp(builder.and_(moved, ir.Constant(words, [255] * width)), floats)

        def value(r: int) -> Any:
            products = [builder.fmul(byte(word, r), factor(i, r)) for i, word in enumerate((first, second))]
            total = builder.fadd(builder.fadd(*products), factor(2, r))
            return builder.fadd(builder.fmul(total, factor(3, r)), factor(4, r))

        store = _store_word(builder, pointers[8], width)
        _byte_codes(builder, lambda: [[partial(value, r) for r in range(4)]], pointers[6], args[7], width, store)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def bounded(typingctx, parts, row, valid, constant, sums, edges, tile):  # type: ignore[no-untyped-def]
    """Rows `row` (sums of positive products) and `row + 1` (of negative ones) of a tile's `parts`.

    Their sums and the constant go into `sums`; the least of the first `valid` negative ones into edges[0], the greatest
    of the positive ones into edges[1].
    """
    signature = types.void(parts, row, valid, constant, sums, edges, tile)
    width, wide = tile.value.lanes, tile.value.vectors
    words = ir.VectorType(I32, width)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        pointers = {i: _pointer(context, builder, k, args[i]) for i, k in ((0, parts), (4, sums), (5, edges))}
        line = builder.gep(pointers[0], [builder.mul(args[1], ir.Constant(I64, wide * width))])
        added, count = _splat(builder, args[3], width), _splat(builder, builder.trunc(args[2], I32), width)
        zero = ir.Constant(words, None)
        least = most = zero
        for p in range(wide):
            positive, negative = (
                _vector(builder, line, ir.Constant(I64, (r * wide + p) * width), width) for r in range(2)
            )
            total = builder.add(builder.add(positive, negative), added)
            to = builder.bitcast(builder.gep(pointers[4], [ir.Constant(I64, p * width)]), words.as_pointer())
            builder.store(total, to).align = 4
            inside = builder.icmp_signed("<", ir.Constant(words, list(range(p * width, (p + 1) * width))), count)
            positive, negative = (builder.select(inside, v, zero) for v in (positive, negative))
            least = builder.select(builder.icmp_signed("<", negative, least), negative, least)
            most = builder.select(builder.icmp_signed(">", positive, most), positive, most)
        for index, (name, value) in enumerate((("smin", least), ("smax", most))):
            kind = ir.FunctionType(I32, [words])
            reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{name}.v{width}i32")
            builder.store(builder.call(reduce, [value]), builder.gep(pointers[5], [ir.Constant(I64, index)]))
        return context.get_dummy_value()

    return signature, codegen


RUN = 16
"""Elements that `copy` moves at once; sources are that much longer than what is copied."""


@intrinsic
def copy(typingctx, out, to, source, begin, count):  # type: ignore[no-untyped-def]
    """out[to : to + count] = source[begin : begin + count], 32-bit elements of flat arrays; count may be negative.

    Rows are short: masked stores take a tenth of the time of a call of memcpy.
    """
    signature = types.void(out, to, source, begin, count)
    words = ir.VectorType(I32, RUN)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        target = builder.gep(_pointer(context, builder, out, args[0]), [args[1]])
        origin = builder.gep(_pointer(context, builder, source, args[2]), [args[3]])
        mask = ir.VectorType(ir.IntType(1), RUN)
        kind = ir.FunctionType(ir.VoidType(), [words, words.as_pointer(), I32, mask])
        store = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{RUN}i32.p0")
        steps = ir.Constant(words, list(range(RUN)))
        with cgutils.for_range_slice(builder, ir.Constant(I64, 0), args[4], ir.Constant(I64, RUN)) as (index, _):
            there = builder.bitcast(builder.gep(target, [index]), words.as_pointer())
            value = _vector(builder, builder.gep(origin, [index]), ir.Constant(I64, 0), RUN)
            left = builder.sub(args[4], index)
            with builder.if_else(builder.icmp_signed(">=", left, ir.Constant(I64, RUN))) as (whole, rest):
                with whole:
                    builder.store(value, there).align = 4
                with rest:
                    chosen = builder.icmp_signed("<", steps, _splat(builder, builder.trunc(left, I32), RUN))
                    builder.call(store, [value, there, ir.Constant(I32, 4), chosen])
        return context.get_dummy_value()

    return signature, codegen
