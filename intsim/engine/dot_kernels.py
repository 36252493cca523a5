"""Exact sums of u8 x s8 products, four bytes at a time: convolutions over words, and matrix products.

The innermost loops are emitted as LLVM code: accumulators in vector registers, one `vpdpbusd` (or two `pmaddwd`) for
four products in each lane. A tuple's length is part of its type, so tuples `(0,) * n` tell the emitter its constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from intsim.engine.compiling import compiled

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_DOTS = {(16, 1): "llvm.x86.avx512.vpdpbusd.512", (8, 1): "llvm.x86.avx512.vpdpbusd.256"}
_PAIRS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}


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
    """Places that LLVM keeps in registers."""
    places = []
    for value in start:
        with builder.goto_entry_block():
            place = builder.alloca(value.type)
        builder.store(value, place)
        places.append(place)
    return places


@intrinsic
def _conv_tile(typingctx, x, at, offsets, first, taps, weights, begin, bias, channel, out, lanes, parts, rows, vectors):  # type: ignore[no-untyped-def]
    """`rows` channels x `vectors` x `lanes` positions: out[r, p] = bias + sum over taps of four products each.

    Tap t of channel r reads the words x[at + offsets[first + t] + p] and the weight word weights[begin + t, r].
    """
    signature = types.void(x, at, offsets, first, taps, weights, begin, bias, channel, out, lanes, parts, rows, vectors)
    width, pieces, high, wide = lanes.count, parts.count, rows.count, vectors.count

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
        places = _accumulators(builder, [start[r] for r in range(high) for _ in range(wide)])
        with cgutils.for_range(builder, args[4]) as loop:
            base = builder.gep(here, [builder.load(builder.gep(where, [loop.index]))])
            row = builder.gep(weight, [builder.mul(loop.index, index(high * pieces))])
            seen = [_bytes(builder, _vector(builder, base, index(p * width), width), pieces) for p in range(wide)]
            for r in range(high):
                words = [builder.load(builder.gep(row, [index(r * pieces + q)])) for q in range(pieces)]
                factors = [_splat(builder, w, width) for w in words]
                for p in range(wide):
                    place = places[r * wide + p]
                    builder.store(_dot(builder, builder.load(place), seen[p], factors, width), place)
        _store(builder, places, pointers[9], width)
        return context.get_dummy_value()

    return signature, codegen


def _store(builder: Any, places: list[Any], pointer: Any, lanes: int) -> None:
    for i, place in enumerate(places):
        value = builder.load(place)
        to = builder.bitcast(builder.gep(pointer, [ir.Constant(I64, i * lanes)]), value.type.as_pointer())
        builder.store(value, to).align = 4


@intrinsic
def _product_tile(typingctx, x, at, step, depth, weights, begin, bias, channel, out, lanes, parts, rows, vectors):  # type: ignore[no-untyped-def]
    """`rows` rows of x, words `step` apart, against vectors x lanes columns: out[r, c] = bias + sum of products.

    Word k of row r is x[at[r] + k]; the weight words of its columns are weights[begin + k] (vectors, parts, lanes).
    """
    signature = types.void(x, at, step, depth, weights, begin, bias, channel, out, lanes, parts, rows, vectors)
    width, pieces, high, wide = lanes.count, parts.count, rows.count, vectors.count

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
        places = _accumulators(builder, [start[p] for _ in range(high) for p in range(wide)])
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
                    place = places[r * wide + p]
                    builder.store(_dot(builder, builder.load(place), seen, factors[p], width), place)
        _store(builder, places, pointers[8], width)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _codes(typingctx, tile, row, scale, offset, channel, limits, kind, out, lanes, vectors):  # type: ignore[no-untyped-def]
    """Bytes of four channels of a tile, one word a position: `rounder.Rounder` says what they are.

    limits (3,) float64: low, high, and what is added to make a byte. Clipping first changes nothing, as low and high
    are integers; then 1.5 * 2^52 is added: the sum rounds to the nearest integer, ties to even, and holds it in its
    low bits (|value| < 2^31).
    """
    signature = types.void(tile, row, scale, offset, channel, limits, kind, out, lanes, vectors)
    width, wide = lanes.count, vectors.count
    f64 = ir.DoubleType()
    floats, longs = ir.VectorType(f64, width), ir.VectorType(I64, width)
    words = ir.VectorType(I32, width)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        arrays = ((0, tile), (2, scale), (3, offset), (5, limits), (7, out))
        pointers = {i: _pointer(context, builder, k, args[i]) for i, k in arrays}
        index = lambda i: ir.Constant(I64, i)  # noqa: E731

        def spread(value: Any) -> Any:
            nothing = ir.Constant(floats, ir.Undefined)
            one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
            return builder.shuffle_vector(one, nothing, ir.Constant(words, [0] * width))

        def call(name: str, *values: Any) -> Any:
            kind = ir.FunctionType(floats, [floats] * len(values))
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{width}f64")
            return builder.call(function, values)

        low, high, shift = (spread(builder.load(builder.gep(pointers[5], [index(i)]))) for i in range(3))
        magic = ir.Constant(floats, [1.5 * 2.0**52] * width)
        scales, offsets = (builder.gep(pointers[i], [args[4]]) for i in (2, 3))
        lines = builder.gep(pointers[0], [builder.mul(args[1], index(wide * width))])

        def emit(rounded: str | None) -> None:
            for p in range(wide):
                word = None
                for r in range(4):
                    total = _vector(builder, lines, index((r * wide + p) * width), width)
                    factor, constant = (spread(builder.load(builder.gep(v, [index(r)]))) for v in (scales, offsets))
                    value = builder.fadd(builder.fmul(builder.sitofp(total, floats), factor), constant)
                    value = call("minnum", call("maxnum", value, low), high)
                    value = value if rounded is None else call(rounded, value)
                    # the shift is an integer, so adding it here rounds nothing
                    value = builder.fadd(value, builder.fadd(magic, shift))
                    code = builder.trunc(builder.bitcast(value, longs), words)
                    code = builder.shl(code, ir.Constant(words, [8 * r] * width)) if r else code
                    word = code if word is None else builder.or_(word, code)
                to = builder.bitcast(builder.gep(pointers[7], [index(p * width)]), words.as_pointer())
                builder.store(word, to).align = 4

        nearest = builder.icmp_signed("==", args[6], index(0))
        with builder.if_else(nearest) as (yes, no):
            with yes:
                emit(None)
            with no:
                down = builder.icmp_signed("==", args[6], index(1))
                with builder.if_else(down) as (floor, ceil):
                    with floor:
                        emit("floor")
                    with ceil:
                        emit("ceil")
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _copy(typingctx, out, to, source, begin, count):  # type: ignore[no-untyped-def]
    """out[to : to + count] = source[begin : begin + count], 32-bit elements of flat arrays."""
    signature = types.void(out, to, source, begin, count)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        target = builder.gep(_pointer(context, builder, out, args[0]), [args[1]])
        origin = builder.gep(_pointer(context, builder, source, args[2]), [args[3]])
        cgutils.raw_memcpy(builder, target, origin, args[4], 4)
        return context.get_dummy_value()

    return signature, codegen


@compiled
def _correct(tile, row, scale, limits, table, packed):  # type: ignore[no-untyped-def]
    """One row's codes in `packed`, raised or lowered by one where the table says so."""
    lane, begin = np.uint32(8 * (row & 3)), row * packed.size
    low, high, shift = np.int64(limits[0]), np.int64(limits[1]), np.int64(limits[2])
    for p in range(packed.size):
        seen = np.int64(tile[begin + p])
        seen = -seen if scale < 0 else seen
        code = np.int64((packed[p] >> lane) & np.uint32(255)) - shift
        if code > low and seen < table[code - low - 1]:
            packed[p] -= np.uint32(1) << lane
        elif code < high and seen >= table[code - low]:
            packed[p] += np.uint32(1) << lane


@compiled
def convolve(source, images, span, layer, rounding, out, tile_of):  # type: ignore[no-untyped-def]
    """Output rows span[0] to span[1], all channels, of some images, into words of codes or into raw sums.

    Args:
        source: (x, start, pitch, width): position p of the output reads from the words x[start + p] on, rows are
            `pitch` words apart and have `width` valid positions.
        images: (first, one past the last, words of an image in x, and in the output words).
        span: (first row, one past the last row, rows of a strip that stay in the cache together).
        layer: (offset of each tap; first tap of each channel block and one past the last; int32 weights (taps, rows,
            parts) flat; int32 bias, one a channel of all blocks; channels in all).
        rounding: (scale, offset, kind, limits, table) as `_codes` takes them, scale and offset for the channels of all
            blocks, table (channels, high - low) or (channels, 0).
        out: (uint32 words that receive codes, or empty; int32 array that receives sums, one plane a channel, or empty;
            first element, elements of a plane, elements of a row, step down, step right).
        tile_of: tuples whose lengths are (lanes, parts, rows, vectors) of a tile.
    """
    x, start, pitch, width = source
    offsets, firsts, weights, bias, ends = layer
    words, raw, first, plane, line, down, right = out
    lanes, parts, rows, vectors = tile_of
    high, block = len(rows), len(lanes) * len(vectors)
    scale, offset, kind, limits, table = rounding
    tile, packed = np.zeros(max(high, 4) * block, np.int32), np.empty(block, np.uint32)
    for image in range(images[0], images[1]):
        for begin in range(span[0], span[1], span[2]):
            last = (min(begin + span[2], span[1]) - 1) * pitch + width
            for place_of in range(firsts.size - 1):
                channel, tap = place_of * high, firsts[place_of]
                count, many = firsts[place_of + 1] - tap, min(high, ends - place_of * high)
                for p in range(begin * pitch, last, block):
                    _conv_tile(
                        x,
                        start + image * images[2] + p,
                        offsets,
                        tap,
                        count,
                        weights,
                        tap,
                        bias,
                        channel,
                        tile,
                        lanes,
                        parts,
                        rows,
                        vectors,
                    )
                    valid = min(block, last - p)
                    position, column = p // pitch, p % pitch
                    if raw.size:
                        q = 0
                        while q < valid:
                            run = min(valid - q, max(width - column, 0))
                            for r in range(many):
                                to = (
                                    first
                                    + (image * ends + channel + r) * plane
                                    + position * down * line
                                    + column * right
                                )
                                if right == 1:
                                    _copy(raw, to, tile, r * block + q, run)
                                else:
                                    for i in range(run):
                                        raw[to + i * right] = tile[r * block + q + i]
                            q += pitch - column
                            position, column = position + 1, 0
                        continue
                    for group in range(0, many, 4):
                        _codes(tile, group, scale, offset, channel + group, limits, kind, packed, lanes, vectors)
                        if table.shape[1] > 0:
                            for r in range(group, min(group + 4, many)):
                                c = channel + r
                                _correct(tile, r, scale[c], limits, table[c], packed)
                        base = first + image * images[3] + ((channel + group) // 4) * plane
                        row, col, q = position, column, 0
                        while q < valid:
                            run = min(valid - q, max(width - col, 0))
                            to = base + row * down * line + col * right
                            if right == 1:
                                _copy(words, to, packed, q, run)
                            else:
                                for i in range(run):
                                    words[to + i * right] = packed[q + i]
                            q += pitch - col
                            row, col = row + 1, 0


@compiled
def multiply(source, span, weights, bias, out, tile_of):  # type: ignore[no-untyped-def]
    """Rows span[0] to span[1] of a matrix product: out[m, n] = bias[n] + sum_k x[m, k] w[k, n].

    Args:
        source: (x, step): row m of words from x[m * step] on, `step` words.
        weights: flat int32, (column blocks, words of a row, vectors, parts, lanes).
        bias: int32, one a column of all blocks.
        out: (M, columns) int32.
        tile_of: tuples whose lengths are (lanes, parts, rows, vectors) of a tile.
    """
    x, step = source
    lanes, parts, rows, vectors = tile_of
    depth, columns = step, out.shape[1]
    high, block = len(rows), len(lanes) * len(vectors)
    tile, at = np.empty(high * block, np.int32), np.empty(high, np.int64)
    for place in range((columns + block - 1) // block):
        many = min(block, columns - place * block)
        for m in range(span[0], span[1], high):
            for r in range(high):
                at[r] = min(m + r, span[1] - 1) * step
            _product_tile(
                x, at, step, depth, weights, place * depth, bias, place * block, tile, lanes, parts, rows, vectors
            )
            for r in range(min(high, span[1] - m)):
                for c in range(many):
                    out[m + r, place * block + c] = tile[r * block + c]
