"""Elementary functions of rational numbers between two rationals, as close as asked for.

Each function takes an exact `Fraction` and `bits`, and returns `(low, high)`, Fractions with low <= f(x) <= high. The
width is at most 2^-bits * max(1, |f(x)|); that of `exp_bounds` and `sigmoid_bounds` is at most 2^-bits * f(x), so
that their lower bound is above zero. Where low == high the value is that rational number exactly, which is so at every
rational point at which exp, log, tanh, a root or a power is rational (Lindemann's theorem leaves exp 0, log 1 and
tanh 0 only). Python integers throughout: every division floors, and what flooring can lose is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

Bounds = tuple[Fraction, Fraction]

ONE, ZERO = Fraction(1), Fraction(0)
FARTHEST = 1 << 16
"""exp is evaluated up to here; below the negative of it only that it lies between 0 and 2^-FARTHEST is said."""
_DEEPEST_ROOT = 6


def _fixed(x: Fraction, width: int) -> int:
    """floor(x * 2^width)."""
    return (x.numerator << width) // x.denominator if width >= 0 else x.numerator // (x.denominator << -width)


def _bounds(low: int, high: int, width: int) -> Bounds:
    """Integers in units of 2^-width."""
    unit = ONE / (1 << width) if width >= 0 else Fraction(1 << -width)
    return low * unit, high * unit


@lru_cache(maxsize=64)
def _of_inverse(n: int, width: int, sign: int) -> tuple[int, int]:
    """Bounds of 2^width times atanh(1 / n) where the sign is 1, atan(1 / n) where it is -1; n >= 2.

    It is the sum of sign^k / ((2 k + 1) n^(2 k + 1)), each term floored once.
    """
    term, total, k = (1 << width) // n, 0, 0
    while term:
        total += sign**k * (term // (2 * k + 1))
        term //= n * n
        k += 1
    return total if sign > 0 else total - k - 2, total + k + 2


def _combined(terms: Sequence[tuple[int, int]], width: int, sign: int) -> tuple[int, int]:
    """Bounds of the sum of `factor` times `_of_inverse` of n, for pairs of factor and n."""
    parts = [[factor * bound for bound in _of_inverse(n, width, sign)] for factor, n in terms]
    return sum(map(min, parts)), sum(map(max, parts))


@lru_cache(maxsize=64)
def _ln2(width: int) -> tuple[int, int]:
    """Bounds of 2^width * ln 2 = 18 atanh(1/26) - 2 atanh(1/4801) + 8 atanh(1/8749) (a Machin-like formula)."""
    return _combined(((18, 26), (-2, 4801), (8, 8749)), width, 1)


@lru_cache(maxsize=64)
def _pi(width: int) -> tuple[int, int]:
    """Bounds of 2^width * pi = 16 atan(1/5) - 4 atan(1/239) (Machin)."""
    return _combined(((16, 5), (-4, 239)), width, -1)


def pi_bounds(bits: int) -> Bounds:
    """The number pi."""
    return _bounds(*_pi(bits + 16), bits + 16)


def _exp_reduced(r: int, width: int) -> tuple[int, int]:
    """Bounds of 2^width * exp(r / 2^width) for 0 <= r <= 0.75 * 2^width: Taylor's series, each term floored once.

    A term is short of the truth by less than e_k <= 0.75 e_(k-1) / k + 1 < 2, and so is what comes after the last.
    """
    term, total, k = 1 << width, 1 << width, 0
    while term:
        k += 1
        term = term * r // (k << width)
        total += term
    return total, total + 2 * k + 4


def exp_bounds(x: Fraction, bits: int) -> Bounds:
    """e^x. Raises OverflowError above `FARTHEST`."""
    if x == 0:
        return ONE, ONE
    if x > FARTHEST:
        raise OverflowError(f"exp of a number above {FARTHEST}")
    if x < -FARTHEST:
        return ZERO, ONE / (1 << FARTHEST)
    width = bits + 28
    low2, high2 = _ln2(width)
    whole = _fixed(x, width)
    # x * 2^width - k ln2 from below, which this k makes 0 or more, and from above
    k = whole // (high2 if whole >= 0 else low2)
    first, last = sorted((whole - k * low2, whole - k * high2))
    low = _exp_reduced(first, width)[0]
    high = _exp_reduced(last + 1, width)[1]
    return _bounds(low, high, width - k)


def _log_near_one(m: Fraction, width: int) -> tuple[int, int]:
    """Bounds of 2^width * log m, m from 3/4 to 3/2: 2 atanh y with y = (m - 1) / (m + 1), |y| <= 1/5."""
    y = (m - 1) / (m + 1)
    size = _fixed(abs(y), width)
    square = size * size >> width
    power, total, k = size, 0, 0
    while power:
        total += power // (2 * k + 1)
        power = power * square >> width
        k += 1
    # size, square and each power are short by less than 2 units, each term by less than 3
    low, high = 2 * total, 2 * (total + 3 * k + 4)
    return (low, high) if y >= 0 else (-high, -low)


def log_bounds(x: Fraction, bits: int) -> Bounds:
    """Natural logarithm of x > 0; ValueError elsewhere."""
    if x <= 0:
        raise ValueError("log of a number that is not above zero")
    if x == 1:
        return ZERO, ZERO
    k = x.numerator.bit_length() - x.denominator.bit_length()
    m = x / 2**k if k >= 0 else x * 2**-k
    while m > Fraction(3, 2):
        m, k = m / 2, k + 1
    while m < Fraction(3, 4):
        m, k = m * 2, k - 1
    width = bits + 16 + abs(k).bit_length()
    low, high = _log_near_one(m, width)
    ends = sorted(k * v for v in _ln2(width))
    return _bounds(low + ends[0], high + ends[1], width)


def log1p_exp_bounds(x: Fraction, bits: int) -> Bounds:
    """Softplus, log(1 + e^x); its lower bound is above zero."""
    if x > 0:
        low, high = log1p_exp_bounds(-x, bits)
        return x + low, x + high
    low, high = exp_bounds(x, bits)
    if high < ONE / (1 << bits // 2 + 1):
        return low - low * low / 2, high
    return log_bounds(1 + low, bits + 1)[0], log_bounds(1 + high, bits + 1)[1]


def sigmoid_bounds(x: Fraction, bits: int) -> Bounds:
    """1 / (1 + e^-x)."""
    if x == 0:
        return ONE / 2, ONE / 2
    low, high = exp_bounds(-abs(x), bits + 2)
    if x < 0:
        return low / (1 + low), high / (1 + high)
    return 1 / (1 + high), 1 / (1 + low)


def tanh_bounds(x: Fraction, bits: int) -> Bounds:
    """(1 - e^-2x) / (1 + e^-2x)."""
    if x == 0:
        return ZERO, ZERO
    low, high = exp_bounds(-2 * abs(x), bits + 2)
    low, high = (1 - high) / (1 + high), (1 - low) / (1 + low)
    return (low, high) if x > 0 else (-high, -low)


def erf_bounds(x: Fraction, bits: int) -> Bounds:
    """The error function: 2 / sqrt(pi) e^-x^2 sum over n of 2^n x^(2n+1) / (2n+1)!! (Abramowitz, Stegun, 7.1.6)."""
    if x == 0:
        return ZERO, ZERO
    if x < 0:
        low, high = erf_bounds(-x, bits)
        return -high, -low
    square = x * x
    if x >= 2 and 5 * square > 4 * (bits + 1):
        return _erf_far(x, square, bits)
    width = bits + 24 + math.ceil(1.5 * float(square))
    half_step = _fixed(2 * square, width)
    term, total, n = _fixed(x, width), 0, 0
    while term:
        total += term
        n += 1
        term = term * half_step // ((2 * n + 1) << width)
    # flooring loses 1 + term / (2n+1) a step, of which all later terms together make at most e^(x^2) times as much
    slack = (2 * n + 8) << math.ceil(1.5 * float(square)) + 4
    low, high = _bounds(total, total + slack, width)
    e_low, e_high = exp_bounds(-square, width)
    p_low, p_high = (sqrt_bounds(p, width) for p in pi_bounds(width))
    return 2 * low * e_low / p_high[1], min(2 * high * e_high / p_low[0], ONE)


def _erf_far(x: Fraction, square: Fraction, bits: int) -> Bounds:
    """1 - erfc(x) for x >= 2, from e^-x^2 / (4 x) < erfc(x) < e^-x^2 (Abramowitz, Stegun, 7.1.13)."""
    if square > FARTHEST:
        return 1 - ONE / (1 << bits), ONE
    # e^-y lies between 2^-(1.4427 y + 1) and 2^-(1.4426 y)
    least = math.ceil(square * 14427 / 10000) + 3 + math.ceil(x).bit_length()
    return 1 - ONE / (1 << math.floor(square * 14426 / 10000)), 1 - ONE / (1 << least)


def root_bounds(x: Fraction, n: int, bits: int) -> Bounds:
    """The n-th root of x >= 0, n a power of two; exact where it is rational. ValueError below zero."""
    if x < 0:
        raise ValueError("an even root of a negative number")
    low = high = x
    while n > 1:
        low, high, n = _root(low, bits + 4)[0], _root(high, bits + 4)[1], n // 2
    return low, high


def sqrt_bounds(x: Fraction, bits: int) -> Bounds:
    """The square root of x >= 0; exact where it is rational. ValueError below zero."""
    return root_bounds(x, 2, bits)


def _root(x: Fraction, bits: int) -> Bounds:
    if x == 0:
        return ZERO, ZERO
    p, q = math.isqrt(x.numerator), math.isqrt(x.denominator)
    if p * p == x.numerator and q * q == x.denominator:
        exact = Fraction(p, q)
        return exact, exact
    width = bits + max(0, (x.denominator.bit_length() - x.numerator.bit_length()) // 2 + 1)
    low = math.isqrt(_fixed(x, 2 * width))
    return _bounds(low, low + 1, width)


def power_bounds(x: Fraction, exponent: Fraction, bits: int) -> Bounds:
    """x^exponent. ValueError where it is no real number, ZeroDivisionError for 0 to a negative power."""
    if exponent.denominator == 1 and abs(exponent) <= 64:
        exact = x ** int(exponent)
        return exact, exact
    if x < 0:
        if exponent.denominator > 1:
            raise ValueError("a fractional power of a negative number")
        low, high = power_bounds(-x, exponent, bits)
        return (low, high) if exponent.numerator % 2 == 0 else (-high, -low)
    if x == 0:
        if exponent < 0:
            raise ZeroDivisionError("zero to a negative power")
        return ZERO, ZERO
    if x == 1:
        return ONE, ONE
    binary = exponent.denominator.bit_count() == 1 and exponent.denominator <= 1 << _DEEPEST_ROOT
    if binary and abs(exponent.numerator) <= 64:
        low, high = root_bounds(x, exponent.denominator, bits)
        if low == high:
            exact = low**exponent.numerator
            return exact, exact
    # |log| of the result, in bits, is lost to the exponential
    size = abs(exponent) * (abs(x.numerator.bit_length() - x.denominator.bit_length()) + 1)
    if size > FARTHEST:
        raise OverflowError("a power beyond what is evaluated")
    wide = bits + 4 + math.ceil(size).bit_length() + math.ceil(abs(exponent)).bit_length()
    ends = [exponent * v for v in log_bounds(x, wide)]
    return exp_bounds(min(ends), bits + 2)[0], exp_bounds(max(ends), bits + 2)[1]


def sin_bounds(x: Fraction, bits: int) -> Bounds:
    """Sine of x in radians."""
    if x == 0:
        return ZERO, ZERO
    width = bits + 24 + abs(math.floor(x)).bit_length()
    low, high = _pi(width)
    whole = _fixed(x, width)
    turns = (whole + low) // (2 * low)
    r = whole - 2 * turns * low  # |r| is about pi at most; off by 2 |turns| (high - low) + 1
    slack = 2 * abs(turns) * (high - low) + 1
    sign, size = (1, r) if r >= 0 else (-1, -r)
    square, term, total, n = size * size >> width, size, 0, 0
    while term:
        total += term if n % 2 == 0 else -term
        n += 1
        term = (term * square >> width) // (2 * n * (2 * n + 1))
    # no term exceeds pi^3 / 6 < 6, nor its error 64 units: e_n <= 10 e_(n-1) / (2n (2n + 1)) + 8
    slack += 64 * (n + 2)
    least, most = _bounds(sign * total - slack, sign * total + slack, width)
    return max(least, -ONE), min(most, ONE)


def cos_bounds(x: Fraction, bits: int) -> Bounds:
    """Cosine of x in radians: 1 - 2 sin^2(x / 2)."""
    low, high = sin_bounds(x / 2, bits + 4)
    most = max(abs(low), abs(high))
    least = ZERO if low < 0 < high else min(abs(low), abs(high))
    return 1 - 2 * most * most, 1 - 2 * least * least
