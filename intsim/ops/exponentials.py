"""Tables of a falling exponential, every entry rounded correctly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray
from intsim.reals.elementary import exp_bounds

GUARD_BITS = 64
"""Bits beyond an entry's last; the running product loses less than two units of the last guard bit an entry."""


def falling_exponentials(rate: Fraction, bits: int, last: int, most: int) -> IntArray:
    """`T[d] = round(2^bits * exp(-rate * d))` for d = 0, 1, ... up to `last`, or up to the first entry that is 0.

    Entries come from one running product of bounds; an entry that both bounds don't round alike is worked out by
    itself. There are no ties: exp of a rational other than 0 is irrational (Lindemann).

    Args:
        rate: above zero.
        bits: 1 to 62.
        last: the largest d of interest, 0 or more.
        most: entries that the table may have.

    Returns:
        int64, at least one entry; falls, or stays, from 2^bits on.

    Raises:
        IntsimError: the table would be longer.
    """
    if last >= most and rounded_exponential(-rate * most, bits):
        raise IntsimError(f"its table of exponentials needs more than {most} entries")
    width = bits + GUARD_BITS
    low_factor, high_factor = (_scaled(bound, width) for bound in exp_bounds(-rate, width))
    low = high = one = 1 << width
    half = 1 << (GUARD_BITS - 1)
    table = [1 << bits]
    for d in range(1, last + 1):
        low, high = low * low_factor >> width, -(-high * (high_factor + 1) >> width)
        high = min(high, one)
        value = (low + half) >> GUARD_BITS
        if value != (high + half) >> GUARD_BITS:
            value = rounded_exponential(-rate * d, bits)
        if len(table) == most:
            raise IntsimError(f"its table of exponentials needs more than {most} entries")
        table.append(value)
        if value == 0:
            break
    return np.array(table, np.int64)


def rounded_exponential(x: Fraction, bits: int) -> int:
    """The integer nearest to `2^bits * exp(x)`, x other than 0."""
    close = bits
    while True:
        close *= 2
        low, high = (bound * 2**bits + Fraction(1, 2) for bound in exp_bounds(x, close))
        if low.__floor__() == high.__floor__():
            return low.__floor__()


def _scaled(x: Fraction, width: int) -> int:
    return (x.numerator << width) // x.denominator
