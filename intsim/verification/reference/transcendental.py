"""Enclosures of elementary functions by decimal arithmetic: a rational and a number of digits to two rationals.

`decimal` rounds exp, ln and sqrt correctly to the context's digits; one unit to each side encloses the true value.
Where both ends are equal the value is that rational.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from intsim.errors import IntsimError
from intsim.verification.reference.reals import Ends

_NONE, _ONE = Fraction(0), Fraction(1)
_FARTHEST = 10**5


def _enclosed(f: Callable[[decimal.Context, Decimal], Decimal], x: Fraction, digits: int) -> Ends:
    """A growing function that `decimal` rounds correctly, of the decimals on both sides of x, or of x if it is one."""
    c = decimal.Context(prec=digits, Emin=-(10**12), Emax=10**12, rounding=decimal.ROUND_HALF_EVEN)
    q = c.divide(Decimal(x.numerator), Decimal(x.denominator))
    low, high = (q, q) if Fraction(q) == x else (c.next_minus(q), c.next_plus(q))
    return Fraction(c.next_minus(f(c, low))), Fraction(c.next_plus(f(c, high)))


def exp(x: Fraction, digits: int) -> Ends:
    """e^x."""
    if x == 0:
        return _ONE, _ONE
    if x > _FARTHEST:
        raise IntsimError(f"exp beyond {_FARTHEST} is not evaluated")
    if x < -_FARTHEST:
        return _NONE, Fraction(1, 10**40000)
    return _enclosed(decimal.Context.exp, x, digits + 5 + len(str(abs(math.floor(x)))))


def log(x: Fraction, digits: int) -> Ends:
    """Natural logarithm of x > 0."""
    if x <= 0:
        raise IntsimError(f"the logarithm of {float(x):.6g} is no real number")
    if x == 1:
        return _NONE, _NONE
    return _enclosed(decimal.Context.ln, x, digits + 5)


def sqrt(x: Fraction, digits: int) -> Ends:
    """Square root of x >= 0; equal ends where it is rational."""
    if x < 0:
        raise IntsimError(f"the square root of {float(x):.6g} is no real number")
    p, q = math.isqrt(x.numerator), math.isqrt(x.denominator)
    if p * p == x.numerator and q * q == x.denominator:
        return Fraction(p, q), Fraction(p, q)
    return _enclosed(decimal.Context.sqrt, x, digits + 5)


def sigmoid(x: Fraction, digits: int) -> Ends:
    """1 / (1 + e^-x)."""
    if x > 0:
        low, high = sigmoid(-x, digits)
        return 1 - high, 1 - low
    low, high = exp(x, digits)
    return low / (1 + low), high / (1 + high)


def tanh(x: Fraction, digits: int) -> Ends:
    """2 sigmoid(2 x) - 1."""
    low, high = sigmoid(2 * x, digits)
    return 2 * low - 1, 2 * high - 1


def softplus(x: Fraction, digits: int) -> Ends:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    low, high = exp(-abs(x), digits)
    small = high < Fraction(1, 10**digits)
    least, most = (low - low * low, high) if small else (log(1 + low, digits)[0], log(1 + high, digits)[1])
    return max(x, _NONE) + least, max(x, _NONE) + most


@lru_cache(maxsize=16)
def pi(digits: int) -> Ends:
    """48 atan(1/18) + 32 atan(1/57) - 20 atan(1/239) (Gauss), each sum cut between two terms of unlike sign."""
    ends = [_NONE, _NONE]
    for factor, n in ((48, 18), (32, 57), (-20, 239)):
        total, k = _NONE, 0
        while True:
            term = Fraction(1, (2 * k + 1) * n ** (2 * k + 1))
            if term < Fraction(1, 10 ** (digits + 4)):
                break
            total += term if k % 2 == 0 else -term
            k += 1
        sides = sorted((factor * total, factor * (total + (term if k % 2 == 0 else -term))))
        ends = [ends[0] + sides[0], ends[1] + sides[1]]
    return ends[0], ends[1]


def erf(x: Fraction, digits: int) -> Ends:
    """2 / sqrt(pi) times the alternating sum of x^(2n+1) / (n! (2n+1)), in integers of enough digits for its peak."""
    if x == 0:
        return _NONE, _NONE
    if x < 0:
        low, high = erf(-x, digits)
        return -high, -low
    square = x * x
    if x > 2 and square > Fraction(23, 10) * digits:
        return _erf_near_one(x, square, digits)
    # terms reach e^(x^2), which is what cancels
    unit = 10 ** (digits + 10 + math.ceil(square * Fraction(44, 100)))
    power, total, n, lost = x.numerator * unit // x.denominator, 0, 0, 2
    factor = square.numerator * unit // square.denominator
    while True:
        term = power // (2 * n + 1)
        if term == 0 and n > square:
            break
        total += term if n % 2 == 0 else -term
        n += 1
        # one unit from the factor's, two from the divisions
        power = power * factor // (unit * n)
        lost += 1
    slack = Fraction(lost * 4 * (math.ceil(math.exp(min(float(square), 700.0))) + 4), unit)
    if square > 700:
        slack = Fraction(lost * 4 * (3 ** math.ceil(square) + 4), unit)
    middle = Fraction(total, unit)
    low, high = pi(digits + 5)
    roots = sqrt(low, digits + 5)[0], sqrt(high, digits + 5)[1]
    return min(2 * (middle - slack) / r for r in roots), min(max(2 * (middle + slack) / r for r in roots), _ONE)


def _erf_near_one(x: Fraction, square: Fraction, digits: int) -> Ends:
    """1 - erfc(x) with e^-x^2 / (4 x) < erfc(x) < e^-x^2 for x > 2 (DLMF 7.8.3 gives closer ones)."""
    low, high = exp(-square, 8)
    return 1 - high, 1 - low / (4 * x)


def sine(x: Fraction, digits: int) -> Ends:
    """Sine by its series around the nearest multiple of 2 pi."""
    if x == 0:
        return _NONE, _NONE
    low_pi, high_pi = pi(digits + len(str(abs(math.floor(x)))) + 2)
    turns = round(x / (2 * low_pi))
    r = x - 2 * turns * low_pi
    slack = 2 * abs(turns) * (high_pi - low_pi)
    scale = 10 ** (digits + 6)
    r_whole = math.floor(r * scale)
    square = r_whole * r_whole // scale
    term, total, n = r_whole, 0, 0
    while term not in (0, -1):
        total += term if n % 2 == 0 else -term
        n += 1
        term = term * square // (scale * 2 * n * (2 * n + 1))
    error = slack + Fraction(100 * (n + 3), scale)
    return max(Fraction(total, scale) - error, -_ONE), min(Fraction(total, scale) + error, _ONE)


def cosine(x: Fraction, digits: int) -> Ends:
    """sin(x + pi / 2); 1 at zero."""
    if x == 0:
        return _ONE, _ONE
    low, high = pi(digits + 2)
    return sine(x + low / 2, digits)[0] - (high - low), sine(x + high / 2, digits)[1] + (high - low)
