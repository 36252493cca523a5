"""Rounding of exact quotients to integers: eight modes, one definition."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.integers import as_integers
from intsim.errors import IntsimError


class Rounding(StrEnum):
    """How a number between two integers becomes one of them.

    The first four round to the nearest integer and differ at ties; the others are directed. QONNX's names
    (custom operator `Quant`, attribute `rounding_mode`) are given where they differ, because its HALF_UP and UP
    mean away from zero, not up.
    """

    HALF_EVEN = "half_even"  # ties to the even integer; QONNX ROUND, IEEE 754 roundTiesToEven
    HALF_AWAY = "half_away"  # ties away from zero; QONNX HALF_UP, C round()
    HALF_TOWARD_ZERO = "half_toward_zero"  # ties toward zero; QONNX HALF_DOWN
    HALF_UP = "half_up"  # ties toward +infinity: (x + half) >> n
    FLOOR = "floor"  # toward -infinity: an arithmetic right shift; QONNX FLOOR
    CEIL = "ceil"  # toward +infinity; QONNX CEIL
    AWAY = "away"  # away from zero; QONNX UP
    TOWARD_ZERO = "toward_zero"  # truncation; QONNX DOWN


def rounding(mode: str | Rounding) -> Rounding:
    """Return the mode of that name, or raise IntsimError listing the names."""
    if type(mode) is Rounding:
        return mode
    try:
        return Rounding(mode)
    except ValueError:
        allowed = ", ".join(Rounding)
        raise IntsimError(f"unknown rounding mode {mode!r}; allowed: {allowed}") from None


def steps_up(quotient: Any, above: Any, tie: Any, inexact: Any, mode: str | Rounding) -> Any:
    """Decide whether a floored quotient must be raised by one.

    With x = quotient + f, 0 <= f < 1: the definition of every mode.

    Args:
        quotient: floor(x), integer or array of integers.
        above: f > 1/2 (bool or array, as the next two).
        tie: f == 1/2.
        inexact: f > 0.
        mode: rounding mode.

    Returns:
        bool (Python or array): True where the result is quotient + 1.
    """
    # floor(x) >= 0 exactly when x >= 0, so the sign of x is the sign of the quotient.
    match rounding(mode):
        case Rounding.HALF_EVEN:
            return above | (tie & ((quotient & 1) == 1))
        case Rounding.HALF_AWAY:
            return above | (tie & (quotient >= 0))
        case Rounding.HALF_TOWARD_ZERO:
            return above | (tie & (quotient < 0))
        case Rounding.HALF_UP:
            return above | tie
        case Rounding.FLOOR:
            return inexact & False
        case Rounding.CEIL:
            return inexact
        case Rounding.AWAY:
            return inexact & (quotient >= 0)
        case Rounding.TOWARD_ZERO:
            return inexact & (quotient < 0)


def round_divide(numerator: Any, denominator: Any, mode: str | Rounding) -> Any:
    """Return numerator / denominator rounded to an integer, exactly.

    Args:
        numerator: Python int, integer array (as int64) or object array of Python ints.
        denominator: positive Python int or integer array that broadcasts with the numerator.
        mode: rounding mode or its name.

    Returns:
        Python int if both are Python ints; else an array, int64 unless an argument is an object array or a
        Python int beyond int64. No intermediate value overflows, over the whole of int64.

    Raises:
        IntsimError: a denominator below 1, non-integers, unknown mode.
    """
    mode = rounding(mode)
    if isinstance(numerator, int) and isinstance(denominator, int):
        if denominator < 1:
            raise IntsimError(f"denominator {denominator} is not positive")
        floor, over = divmod(int(numerator), int(denominator))
        return floor + int(steps_up(floor, 2 * over > denominator, 2 * over == denominator, over > 0, mode))
    top = as_integers(numerator, "numerator")
    bottom = as_integers(denominator, "denominator")
    if bottom.size and bottom.min() < 1:
        raise IntsimError(f"denominator {bottom.min()} is not positive")
    if bottom.dtype == object:
        top = top.astype(object)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    # At least one dimension: NumPy scalars warn where arrays wrap.
    top = np.atleast_1d(top)
    if bottom.size == 1 and bottom.ndim <= top.ndim:
        quotient, remainder = _floor_divide(top, int(bottom.reshape(())))
        rest = int(bottom.reshape(())) - remainder
    else:
        bottom = np.atleast_1d(bottom)
        quotient = top // bottom
        remainder = top - quotient * bottom
        rest = bottom - remainder
    # remainder > rest says 2 * remainder > denominator, without a product that could overflow.
    up = steps_up(quotient, remainder > rest, remainder == rest, remainder > 0, mode)
    if quotient.dtype == object:
        return (quotient + np.asarray(up, dtype=bool).astype(int).astype(object)).reshape(shape)
    return (quotient + up).reshape(shape)


def _floor_divide(top: NDArray[Any], bottom: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Floored quotient and remainder by one positive integer; a shift when it is a power of two."""
    if bottom & (bottom - 1) == 0:
        return top >> (bottom.bit_length() - 1), top & (bottom - 1)
    quotient = top // bottom
    # quotient * bottom may leave int64 below; the difference comes back into 0..bottom-1 modulo 2^64.
    return quotient, top - quotient * bottom


def round_fraction(x: Fraction | int, mode: str | Rounding) -> int:
    """Return the rational `x` rounded to an integer, exactly."""
    x = Fraction(x)
    return int(round_divide(x.numerator, x.denominator, mode))
