"""Integer types, integers and exact scales, weighted to where arithmetic goes wrong: ends, powers of two, ties."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError

Ints = st.SearchStrategy[int]


def integer_types(
    min_bits: int = 1, max_bits: int = 32, signed: bool | None = None, narrow: bool | None = False
) -> st.SearchStrategy[IntegerType]:
    """Integer types of `min_bits`..`max_bits` bits, more often of 1, 2, 4, 8, 16, 32, 64 where those are allowed.

    Args:
        min_bits: 1..64.
        max_bits: min_bits..64.
        signed: True or False for one kind, None for both.
        narrow: True or False for one kind, None for both; a narrow unsigned type of 1 bit would hold one value.

    Raises:
        IntsimError: widths outside 1..64 or an empty range.
    """
    if not 1 <= min_bits <= max_bits <= 64:
        raise IntsimError(f"bits {min_bits}..{max_bits}; allowed: a range within 1..64")
    usual = [bits for bits in (8, 4, 2, 1, 16, 32, 64) if min_bits <= bits <= max_bits]
    bits = st.integers(min_bits, max_bits)
    return st.builds(
        IntegerType,
        st.one_of(st.sampled_from(usual), bits) if usual else bits,
        st.booleans() if signed is None else st.just(signed),
        st.booleans() if narrow is None else st.just(narrow),
    )


@lru_cache(maxsize=256)
def edges(low: int, high: int) -> tuple[int, ...]:
    """Within low..high: 0, +-2^k, +-2^k+-1, both ends and their neighbours; those of least magnitude first."""
    powers = [1 << k for k in range(max(abs(low), abs(high)).bit_length() + 1)]
    near = {sign * power + step for power in powers for sign in (-1, 1) for step in (-1, 0, 1)}
    near |= {0, low, low + 1, high, high - 1}
    return tuple(sorted((n for n in near if low <= n <= high), key=lambda n: (abs(n), n < 0)))


def within(low: int, high: int) -> Ints:
    """Integers of low..high, half of them among its `edges`."""
    if low > high:
        raise IntsimError(f"empty range {low}..{high}")
    return st.one_of(st.sampled_from(edges(low, high)), st.integers(low, high))


def integers_of(kind: IntegerType) -> Ints:
    """Values of an integer type, half of them 0, +-2^k, +-2^k+-1, or next to an end of its range."""
    return within(kind.min, kind.max)


def array_type(kind: IntegerType) -> np.dtype[np.signedinteger | np.unsignedinteger]:
    """Smallest NumPy type that holds an integer type, such as uint8 for UINT4."""
    bits = next(bits for bits in (8, 16, 32, 64) if kind.bits <= bits)
    return np.dtype(f"{'int' if kind.signed else 'uint'}{bits}")


def weighted(rng: np.random.Generator, kind: IntegerType, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Many values of an integer type at once, each row of the last axis of a temper of its own.

    A row is one value throughout, or of both ends, of `edges`, of any values, or of any with runs of one value: sums of
    such rows climb to the ends of a register, hover there, or cross it.

    Args:
        rng: generator; the same state gives the same values.
        kind: at most 63 bits where unsigned.
        shape: at least one axis.

    Returns:
        int64 of that shape.
    """
    near = np.array(edges(kind.min, kind.max), np.int64)
    rows, depth = int(np.prod(shape[:-1])), shape[-1]
    out = rng.integers(kind.min, kind.max, (rows, depth), dtype=np.int64, endpoint=True)
    temper = rng.integers(0, 5, rows)
    picked = rng.choice(near, (rows, depth))
    out[temper == 0] = rng.choice(near[-6:], (rows, 1))[temper == 0]
    out[temper == 1] = rng.choice([kind.min, kind.max], (rows, depth))[temper == 1]
    out[temper == 2] = picked[temper == 2]
    if depth:
        runs = np.sort(rng.integers(0, depth, (rows, depth)), axis=1)
        out[temper == 3] = np.take_along_axis(picked, runs, axis=1)[temper == 3]
    return out.reshape(shape)


def scales(
    smallest: Fraction = Fraction(1, 1 << 31), largest: Fraction = Fraction(1), signed: bool = False
) -> st.SearchStrategy[Fraction]:
    """Exact scales of smallest..largest in magnitude: powers of two, few-bit multiples of them, float32 values, n/d.

    The first two make products with integers fall on ties often; the last two almost never.

    Args:
        smallest: above 0.
        largest: at least `smallest`.
        signed: also negative ones.
    """
    if not 0 < smallest <= largest:
        raise IntsimError(f"scales {smallest}..{largest}; allowed: 0 < smallest <= largest")
    exponents = st.integers(_exponent(smallest), _exponent(largest) + 1)
    any_of = st.one_of(
        st.builds(_power, exponents),
        st.builds(lambda odd, e: odd * _power(e), st.sampled_from([3, 5, 7, 9, 11, 13, 15, 255, 257]), exponents),
        st.builds(lambda bits, e: Fraction(bits, 1 << 23) * _power(e), st.integers(1 << 23, (1 << 24) - 1), exponents),
        st.builds(Fraction, st.integers(1, 1000), st.integers(1, 1000)),
        st.sampled_from([smallest, largest]),
    ).map(lambda scale: min(max(scale, smallest), largest))
    return st.builds(lambda scale, sign: scale * sign, any_of, st.sampled_from([1, -1] if signed else [1]))


def accumulators(bits: int = 32, scale: Fraction | None = None, signed: bool = True) -> Ints:
    """Accumulators of `bits` bits; with a scale, also those whose product with it lies on or next to a tie.

    Args:
        bits: 1..64.
        scale: exact scale of the requantizer that will be given them, not 0.
        signed: False for unsigned accumulators.
    """
    kind = IntegerType(bits, signed)
    plain = integers_of(kind)
    if scale is None:
        return plain
    reach = int(abs(scale) * (1 << (bits - 1)))
    codes = within(-reach, reach) if signed else within(0, 2 * reach)
    ties = st.builds(
        lambda code, half, step: min(max(round((code + Fraction(half, 2)) / scale) + step, kind.min), kind.max),
        st.one_of(codes, st.integers(max(-reach, -256), min(reach, 256))),
        st.integers(0, 1),
        st.integers(-1, 1),
    )
    return st.one_of(ties, plain)


def _power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def _exponent(x: Fraction) -> int:
    """E with 2^e <= x < 2^(e+1)."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if _power(guess) <= x else guess - 1
