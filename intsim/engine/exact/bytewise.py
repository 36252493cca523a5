"""LLVM code for rows of words whose bytes are worked on side by side: maxima of neighbours, tables, products, sums.

Rows are flat arrays of 32-bit words. Vectors of a `Tile` are loaded whole, so that up to a vector of words behind a row
is read; what is stored there is said of each function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from intsim.jit.emit import I32, I64, Vectors, element, emitted, invoke, number, splat, variable


def _greatest(b: Any, v: Vectors, load: Callable[[Any], Any], taps: Any) -> Any:
    """Greatest of `load(t)`, t < taps, byte by byte; one tap at least."""
    octets = ir.VectorType(ir.IntType(8), 4 * v.count)
    best = variable(b, b.bitcast(load(number(0)), octets))
    with cgutils.for_range_slice(b, number(1), taps, number(1)) as (t, _):
        old, new = b.load(best), b.bitcast(load(t), octets)
        b.store(b.select(b.icmp_unsigned(">", new, old), new, old), best)
    return b.bitcast(b.load(best), v.type)


def store_row(v: Vectors, value: Any, pointer: Any, index: Any, count: Any) -> None:
    """The words index.. of a row of `count` words; those behind its end are left as they are."""
    b, there = v.builder, v.address(pointer, index)
    left = b.sub(count, index)
    with b.if_else(b.icmp_signed(">=", left, number(v.count))) as (whole, rest):
        with whole:
            b.store(value, there).align = 4
        with rest:
            chosen = b.icmp_signed("<", ir.Constant(v.type, list(range(v.count))), v.splat(b.trunc(left, I32)))
            name = f"llvm.masked.store.v{v.count}i32.p0"
            invoke(b, name, ir.VoidType(), value, there, ir.Constant(I32, 4), chosen)


@emitted
def greatest(b, x, at, apart, taps, out, to, count, tile):  # type: ignore[no-untyped-def]
    """out[to + p] = greatest of x[at + p + t * apart], t < taps, bytes apart, p < count; nothing else is stored."""
    v = Vectors(b, 32, tile.lanes)
    source, target = b.gep(x.data, [at]), b.gep(out.data, [to])
    with cgutils.for_range_slice(b, number(0), count, number(v.count)) as (p, _):
        store_row(v, _greatest(b, v, lambda t: v.load(source, b.add(p, b.mul(t, apart))), taps), target, p, count)


@emitted
def greatest_of_every_second(b, x, at, apart, taps, out, to, count, tile):  # type: ignore[no-untyped-def]
    """out[to + p] = greatest of x[at + 2 * p + t * apart], t < taps, bytes apart, p < count; nothing else is stored."""
    v = Vectors(b, 32, tile.lanes)
    source, target = b.gep(x.data, [at]), b.gep(out.data, [to])
    even = ir.Constant(v.type, list(range(0, 2 * v.count, 2)))
    with cgutils.for_range_slice(b, number(0), count, number(v.count)) as (p, _):

        def load(t: Any) -> Any:
            first = b.add(b.mul(p, number(2)), b.mul(t, apart))
            return b.shuffle_vector(v.load(source, first), v.load(source, b.add(first, number(v.count))), even)

        store_row(v, _greatest(b, v, load, taps), target, p, count)


def _permuted(b: Any, parts: list[Any], seen: Any) -> Any:
    """Of 64 bytes each one's entry, by VPERMI2B; `parts` (4) are 64 entries each.

    Bits 0 to 6 of a byte choose among the 128 of two registers; bit 7 between two such pairs.
    """
    low, high = (
        invoke(b, "llvm.x86.avx512.vpermi2var.qi.512", seen.type, first, seen, second)
        for first, second in (parts[:2], parts[2:])
    )
    return b.select(b.icmp_signed("<", seen, ir.Constant(seen.type, None)), high, low)


@emitted
def looked_up(b, x, at, table, out, to, count):  # type: ignore[no-untyped-def]
    """Bytes of out[to + p] = table[bytes of x[at + p]], p < count; nothing else is stored. table: 256 uint8."""
    v, octets = Vectors(b, 32, 16), Vectors(b, 8, 64)
    source, target = b.gep(x.data, [at]), b.gep(out.data, [to])
    parts = [octets.load(table.data, number(64 * i)) for i in range(4)]
    with cgutils.for_range_slice(b, number(0), count, number(16)) as (p, _):
        made = _permuted(b, parts, b.bitcast(v.load(source, p), octets.type))
        store_row(v, b.bitcast(made, v.type), target, p, count)


@emitted
def bytes_looked_up(b, x, table, out, first, last):  # type: ignore[no-untyped-def]
    """out[i] = table[x[i]], first <= i < last, of bytes; nothing else is read or stored. table: 256 uint8."""
    octets = Vectors(b, 8, 64)
    parts = [octets.load(table.data, number(64 * i)) for i in range(4)]
    bits = ir.VectorType(ir.IntType(1), 64)
    with cgutils.for_range_slice(b, first, last, number(64)) as (p, _):
        left = octets.splat(
            b.trunc(
                b.select(b.icmp_signed("<", b.sub(last, p), number(64)), b.sub(last, p), number(64)), octets.element
            )
        )
        chosen = b.icmp_signed("<", ir.Constant(octets.type, list(range(64))), left)
        place, to = octets.address(x.data, p), octets.address(out.data, p)
        align = ir.Constant(I32, 1)
        kind = ir.FunctionType(octets.type, [place.type, I32, bits, octets.type])
        load = cgutils.get_or_insert_function(b.module, kind, "llvm.masked.load.v64i8.p0")
        made = _permuted(b, parts, b.call(load, [place, align, chosen, octets.zero]))
        invoke(b, "llvm.masked.store.v64i8.p0", ir.VoidType(), made, to, align, chosen)


MAGIC32 = 1.5 * 2.0**23
"""Added to a float32 below 2^22, it leaves the nearest integer, ties to even, in the low bits of the sum."""


@emitted
def products(b, x, at, y, there, single, factors, channel, limits, out, to, count, tile):  # type: ignore[no-untyped-def]
    """Bytes of scale * ((byte of x + a) * (byte of y + b)) + offset in float32, words at + p and there + p, p < count.

    Args:
        single: 1 where all words are multiplied by y[there], else 0.
        factors: (4, channels) float32: a, b, scale, offset, from `channel` on.
        limits: (3,) int32: low, high, and what makes a byte of a code.
        out, to: where words go; nothing else is stored.
    """
    v = Vectors(b, 32, tile.lanes)
    floats = ir.VectorType(ir.FloatType(), v.count)
    left, right, target = (b.gep(a.data, [i]) for a, i in ((x, at), (y, there), (out, to)))
    row = b.extract_value(factors.shape, 1)
    spread = [
        [
            splat(b, element(b, factors.data, b.add(b.mul(row, number(i)), b.add(channel, number(r)))), v.count)
            for r in range(4)
        ]
        for i in range(4)
    ]
    low, high = (splat(b, b.sitofp(element(b, limits.data, number(i)), ir.FloatType()), v.count) for i in range(2))
    shift, magic = v.splat(element(b, limits.data, number(2))), ir.Constant(floats, [MAGIC32] * v.count)
    one = v.splat(element(b, right, number(0)))

    def byte(word: Any, r: int) -> Any:
        moved = b.lshr(word, v.constant(8 * r)) if r else word
        return b.sitofp(b.and_(moved, v.constant(255)), floats)

    with cgutils.for_range_slice(b, number(0), count, number(v.count)) as (p, _):
        words = v.load(left, p), b.select(b.icmp_signed("!=", single, number(0)), one, v.load(right, p))
        made = None
        for r in range(4):
            f = b.fmul(*(b.fadd(byte(word, r), spread[i][r]) for i, word in enumerate(words)))
            value = b.fadd(b.fmul(spread[2][r], f), spread[3][r])
            value = b.select(b.fcmp_ordered("<", value, low), low, value)
            value = b.select(b.fcmp_ordered(">", value, high), high, value)
            code = b.sub(b.bitcast(b.fadd(value, magic), v.type), b.bitcast(magic, v.type))
            code = b.add(code, shift)
            code = b.shl(code, v.constant(8 * r)) if r else code
            made = code if made is None else b.or_(made, code)
        store_row(v, made, target, p, count)


@emitted
def channel_sums(b, x, at, count, totals, tile):  # type: ignore[no-untyped-def]
    """totals[r] += byte r of the words x[at + p], p < count; int64 of which each sum is below 2^32."""
    v = Vectors(b, 32, tile.lanes)
    source = b.gep(x.data, [at])
    sums = [variable(b, v.zero) for _ in range(4)]
    with cgutils.for_range_slice(b, number(0), count, number(v.count)) as (p, _):
        left = v.splat(b.trunc(b.sub(count, p), I32))
        inside = b.icmp_signed("<", ir.Constant(v.type, list(range(v.count))), left)
        word = b.select(inside, v.load(source, p), v.zero)
        for r, total in enumerate(sums):
            moved = b.lshr(word, v.constant(8 * r)) if r else word
            b.store(b.add(b.load(total), b.and_(moved, v.constant(255))), total)
    for r, total in enumerate(sums):
        place = b.gep(totals.data, [number(r)])
        b.store(b.add(b.load(place), b.zext(v.reduced("add", b.load(total)), I64)), place)
