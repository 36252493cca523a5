"""Elementwise functions to fifty digits in decimal arithmetic: the twin of tables and of the reference evaluator."""

import decimal
from decimal import Decimal
from fractions import Fraction

import numpy as np

CONTEXT = decimal.Context(prec=80, Emin=-(10**9), Emax=10**9)
SELU = Decimal("1.67326319217681884765625"), Decimal("1.05070102214813232421875")


def number(x):
    """A Fraction in decimal."""
    return CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))


def f32(x):
    return number(Fraction(float(np.float32(x))))


def pi():
    """Bailey, Borwein and Plouffe's sum."""
    total = Decimal(0)
    for k in range(70):
        terms = [Decimal(n) / (8 * k + d) for n, d in ((4, 1), (-2, 4), (-1, 5), (-1, 6))]
        total += sum(terms) / Decimal(16) ** k
    return total


def erf(x):
    """Its Taylor series, with digits enough for what cancels."""
    with decimal.localcontext(decimal.Context(prec=160)):
        if abs(x) > 12:
            return Decimal(1).copy_sign(x)
        term, total, n = x, Decimal(0), 0
        while abs(term) > Decimal("1e-90"):
            total += term / (2 * n + 1)
            n += 1
            term = -term * x * x / n
        return total * 2 / pi().sqrt()


def sine(x):
    with decimal.localcontext(decimal.Context(prec=160)):
        term, total, n = x, Decimal(0), 1
        while abs(term) > Decimal("1e-100"):
            total += term
            term = -term * x * x / ((2 * n) * (2 * n + 1))
            n += 1
        return total


def tanh(x):
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def softplus(x):
    return (1 + x.exp()).ln()


def gelu_tanh(x):
    return x / 2 * (1 + tanh((2 / pi()).sqrt() * (x + Decimal("0.044715") * x**3)))


def elu(x, alpha=Decimal(1)):
    return x if x >= 0 else alpha * (x.exp() - 1)


def hard(x, alpha, beta):
    return max(Decimal(0), min(Decimal(1), alpha * x + beta))


FUNCTIONS = {
    "Gelu": ({}, lambda x: x / 2 * (1 + erf(x / Decimal(2).sqrt()))),
    "Gelu tanh": ({"approximate": "tanh"}, gelu_tanh),
    "Erf": ({}, erf),
    "Sigmoid": ({}, lambda x: 1 / (1 + (-x).exp())),
    "Tanh": ({}, tanh),
    "Exp": ({}, lambda x: x.exp()),
    "Softplus": ({}, softplus),
    "Softsign": ({}, lambda x: x / (1 + abs(x))),
    "HardSigmoid": ({}, lambda x: hard(x, f32(0.2), f32(0.5))),
    "HardSwish": ({}, lambda x: x * hard(x, Decimal(1) / 6, Decimal("0.5"))),
    "Mish": ({}, lambda x: x * tanh(softplus(x))),
    "Elu": ({"alpha": 0.7}, lambda x: elu(x, f32(0.7))),
    "Selu": ({}, lambda x: SELU[1] * elu(x, SELU[0])),
    "Celu": ({"alpha": 0.6}, lambda x: max(Decimal(0), x) + min(Decimal(0), f32(0.6) * ((x / f32(0.6)).exp() - 1))),
    "ThresholdedRelu": ({"alpha": 0.5}, lambda x: x if x > Decimal("0.5") else Decimal(0)),
    "Abs": ({}, abs),
    "Neg": ({}, lambda x: -x),
    "Sin": ({}, sine),
    "Cos": ({}, lambda x: 1 - 2 * sine(x / 2) ** 2),
    "Floor": ({}, lambda x: x.to_integral_value(decimal.ROUND_FLOOR)),
    "Ceil": ({}, lambda x: x.to_integral_value(decimal.ROUND_CEILING)),
    "Round": ({}, lambda x: x.to_integral_value(decimal.ROUND_HALF_EVEN)),
    "Sign": ({}, lambda x: Decimal((x > 0) - (x < 0))),
}
"""Of any number: name, which may have words behind the operator's, to attributes and function."""
POSITIVE = {
    "Log": ({}, lambda x: x.ln()),
    "Sqrt": ({}, lambda x: x.sqrt()),
    "Reciprocal": ({}, lambda x: 1 / x),
}
"""Of numbers above zero."""
ROUNDING = {
    "ROUND": decimal.ROUND_HALF_EVEN,
    "FLOOR": decimal.ROUND_FLOOR,
    "CEIL": decimal.ROUND_CEILING,
    "UP": decimal.ROUND_UP,
    "DOWN": decimal.ROUND_DOWN,
    "HALF_UP": decimal.ROUND_HALF_UP,
    "HALF_DOWN": decimal.ROUND_HALF_DOWN,
}


def code(value, scale, zero, low, high, mode="ROUND", after=0):
    """The code of a value: the 80 digits are cut to 60 first, so that rational ties are ties."""
    y = CONTEXT.divide(value, f32(scale)) + f32(zero)
    y = y.quantize(Decimal("1e-60"), decimal.ROUND_HALF_EVEN, CONTEXT)
    return min(max(int(y.to_integral_value(ROUNDING[mode])) + after, low), high)


def values(function, numbers):
    """`function` at Fractions."""
    with decimal.localcontext(CONTEXT):
        return [function(number(x)) for x in numbers]


def codes(found, *quantizer, **options):
    """Codes of `values`."""
    with decimal.localcontext(CONTEXT):
        return np.array([code(value, *quantizer, **options) for value in found], np.int64)
