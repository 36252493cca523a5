"""LLVM code for rows of words whose bytes are worked on side by side: maxima of neighbours.

Rows are flat arrays of 32-bit words. Vectors of a `Tile` are loaded whole, so that up to a vector of words behind a row
is read; what is stored there is said of each function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from intsim.jit.emit import I32, Vectors, emitted, invoke, number, variable


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
def greatest_of_rows(b, x, at, apart, taps, out, to, count, tile):  # type: ignore[no-untyped-def]
    """out[to + p] = greatest of x[at + t * apart + p], t < taps, bytes apart, p < count; whole vectors are stored."""
    v = Vectors(b, 32, tile.lanes)
    source, target = b.gep(x.data, [at]), b.gep(out.data, [to])
    with cgutils.for_range_slice(b, number(0), count, number(v.count)) as (p, _):
        best = _greatest(b, v, lambda t: v.load(source, b.add(p, b.mul(t, apart))), taps)
        v.store(best, target, p)


@emitted
def greatest_of_neighbours(b, x, at, apart, taps, out, to, count, tile):  # type: ignore[no-untyped-def]
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
