"""Operators of TensorFlow Lite's int8 kernels that aren't multiply-accumulates, as LiteRT's reference kernels compute
them.

Integers throughout but for tables and multipliers: `R(x, M)` is gemmlowp's two roundings with the 32-bit multiplier of
the float64 M. CMSIS-NN's functions of the same operators give the same integers; with CMSIS_NN_USE_SINGLE_ROUNDING R
rounds once, which `double_rounding = false` says here.

Source: LiteRT 2.3.0 (google-ai-edge/LiteRT, commit f67457790c9c), tflite/kernels/internal/reference and
tflite/kernels/internal/common.h; ARM-software/CMSIS-NN commit 99f736a6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.binary32 import Floats, nearest, product, quotient, ratio
from intsim.arithmetic.integers import wrap
from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.fixed_point import (
    multiply_high_double_rounding,
    multiply_single_rounding,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from intsim.arithmetic.requantizers.float64 import away
from intsim.arithmetic.requantizers.requantizer import ADD_LEFT_SHIFT, Operand, OperatorKernel, Reads, Site
from intsim.arithmetic.requantizers.ruy import Ruy
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError

RUY = Ruy()
Elements = Sequence[tuple[Integers, NDArray[np.bool_] | None]]


@dataclass(frozen=True)
class _Rescaled(OperatorKernel):
    """What schemes with R share. `double_rounding`: how R rounds."""

    double_rounding: bool = True

    takes: ClassVar[tuple[str, ...]] = ("double_rounding",)

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Both roundings."""
        return cls(), cls(double_rounding=False)

    def times(self, values: Integers, multiplier: int, shift: int) -> Integers:
        """Times a 32-bit multiplier, shifted right."""
        if self.double_rounding:
            return np.asarray(multiply_high_double_rounding(values, multiplier, shift))
        return np.asarray(multiply_single_rounding(values, multiplier, shift, Rounding.HALF_UP))

    def rounded(self, values: Integers, real: Fraction) -> Integers:
        """R: times the multiplier of a float64."""
        return self.times(values, *quantize_multiplier(double(real)))


def double(value: Fraction) -> Fraction:
    """The float64 nearest to a rational."""
    return Fraction(float(value))


@dataclass(frozen=True)
class LiteRTAdd(_Rescaled):
    """`R((a - za) << 20, sa / 2m) + R((b - zb) << 20, sb / 2m)`, times `2m / (2^20 sy)` by R; m is the larger scale.

    SUB has a minus.
    """

    scheme: ClassVar[str] = "litert-add"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("add",)

    def words(self) -> str:
        """In short."""
        return "litert-add: both operands shifted left by 20 and rescaled, their sum rescaled (integers)"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of two tensors."""
        if len(operands) != 2:
            raise IntsimError(f"adds {len(operands)} tensors; {self.scheme} adds two")
        told = self.site_constants(site)
        parts = [
            o.sign * self.times((x - o.zero) << ADD_LEFT_SHIFT, multiplier, shift)
            for x, o, multiplier, shift in zip(
                operands, site.operands, told["operand_multiplier"], told["operand_shift"], strict=True
            )
        ]
        return self.times(parts[0] + parts[1], told["multiplier"], told["shift"]) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`operand_multiplier` and `operand_shift` of each operand; `multiplier` and `shift` of their sum."""
        twice = 2 * max(o.scale for o in site.operands)
        each = [quantize_multiplier(double(double(o.scale) / twice)) for o in site.operands]
        multiplier, shift = quantize_multiplier(double(twice / ((1 << ADD_LEFT_SHIFT) * site.step)))
        multipliers, shifts = zip(*each, strict=True)
        return {"operand_multiplier": multipliers, "operand_shift": shifts, "multiplier": multiplier, "shift": shift}


@dataclass(frozen=True)
class LiteRTMul(_Rescaled):
    """`R((a - za)(b - zb), f(f(sa sb) / sy))`; f is one rounding to float32."""

    scheme: ClassVar[str] = "litert-mul"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("mul",)

    def words(self) -> str:
        """In short."""
        return "litert-mul: the product times a 32-bit multiplier of float32(float32(sa sb) / sy)"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of products of codes without their zero points."""
        return self.times(operands[0], **self.site_constants(site)) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`multiplier` and `shift`."""
        factor = double(ratio(nearest(site.unit), site.step))
        return dict(zip(("multiplier", "shift"), quantize_multiplier(factor), strict=True))


@dataclass(frozen=True)
class LiteRTAveragePool(OperatorKernel):
    """`(sum + n / 2) / n` of the codes themselves, truncated, and `(sum - n / 2) / n` where the sum isn't positive."""

    scheme: ClassVar[str] = "litert-average-pool"
    reads: ClassVar[Reads] = "elements"
    operators: ClassVar[tuple[str, ...]] = ("average_pool", "global_average_pool")

    def words(self) -> str:
        """The formula."""
        return "litert-average-pool: (sum +- n/2) / n of the codes, truncated; padding doesn't count"

    def of_elements(self, elements: Elements, site: Site) -> Integers:
        """Of windows; scales must be equal."""
        (operand,) = site.operands
        if (operand.scale, operand.zero) != (site.step, site.zero):
            raise IntsimError(
                "averages codes to codes of another scale; TensorFlow Lite's average pools keep the scale"
            )
        total, count = np.zeros((2, *elements[0][0].shape), np.int64)
        for codes, inside in elements:
            total += codes if inside is None else np.where(inside, codes, 0)
            count += 1 if inside is None else inside
        half = count // 2
        return np.where(total > 0, (total + half) // count, -((half - total) // count))


@dataclass(frozen=True)
class LiteRTMean(_Rescaled):
    """`R` of the sum without zero points, with the multiplier of `sx / sy` divided by the count in integers."""

    scheme: ClassVar[str] = "litert-mean"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("reduce", "global_average_pool")

    def words(self) -> str:
        """In short."""
        return "litert-mean: the sum times a 32-bit multiplier, divided by the count in integers"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums of codes."""
        return self.times(operands[0] - int(site.origin), **self.site_constants(site)) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`multiplier`, divided by the count already, and `shift`."""
        multiplier, shift = quantize_multiplier(double(site.operands[0].scale / site.step))
        exponent, count = 31 - shift, site.elements
        more = min(count.bit_length() - 1, 32, 31 + exponent)
        return {"multiplier": (multiplier << more) // count, "shift": shift + more}


@dataclass(frozen=True)
class LiteRTTable(_Rescaled):
    """QUANTIZE of codes, `R(x - zx, sx / sy)`, and LEAKY_RELU, with a multiplier of its own for negative codes."""

    scheme: ClassVar[str] = "litert-rescale"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("requantize", "leaky_relu")

    def words(self) -> str:
        """In short."""
        return "litert-rescale: codes without their zero point times a 32-bit multiplier, one a side of zero"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of one tensor."""
        (operand,) = site.operands
        x = operands[0] - operand.zero
        if not site.slope:
            return self.rounded(x, double(operand.scale / site.step)) + site.zero
        above = ratio(operand.scale, site.step)
        steep = ratio(product(operand.scale, abs(site.slope)), site.step)
        below = self.rounded(x, steep) * (1 if site.slope > 0 else -1)
        return np.where(x >= 0, self.rounded(x, above), below) + site.zero


def _up(values: Integers, real: Fraction) -> Integers:
    """R with the second rounding's ties up, as vector code has it."""
    return RUY.multiply(values, double(real))


def _farthest(operand: Operand) -> int:
    """How far an int8 code may be from its zero point."""
    return max(127 - operand.zero, 128 + operand.zero)


def _within_16_bits(reach: Fraction, zero: int) -> None:
    """Raise IntsimError where a result can leave 16 bits: vectors wrap or saturate it there, what is left over of them
    and broadcast operands don't."""
    if reach + abs(zero) + 1 >= 1 << 15:
        raise IntsimError(
            f"its results reach {float(reach):.3g} before they are clipped; beyond 16 bits its kernels for vectors and "
            "for what is left of them differ"
        )


@dataclass(frozen=True)
class RuyAdd(LiteRTAdd):
    """ADD of the optimized kernels, as `litert-add`, of results that 16 bits hold."""

    scheme: ClassVar[str] = "ruy-add"

    def words(self) -> str:
        """In short."""
        return "ruy-add: litert-add in vectors, of results that 16 bits hold"

    def suits(self, site: Site) -> None:
        """Refuse results beyond 16 bits."""
        _within_16_bits(sum((_farthest(o) * o.scale for o in site.operands), Fraction(0)) / site.step, site.zero)


@dataclass(frozen=True)
class RuyMul(LiteRTMul):
    """MUL of the optimized kernels, as `litert-mul`, of results that 16 bits hold."""

    scheme: ClassVar[str] = "ruy-mul"

    def words(self) -> str:
        """In short."""
        return "ruy-mul: litert-mul in vectors, of results that 16 bits hold"

    def suits(self, site: Site) -> None:
        """Refuse results beyond 16 bits."""
        _within_16_bits(math.prod(_farthest(o) for o in site.operands) * site.unit / site.step, site.zero)


@dataclass(frozen=True)
class RuyMean(OperatorKernel):
    """MEAN over height and width of the optimized kernels: a multiplier of `f(sx / f(n sy))`, the zero points apart."""

    scheme: ClassVar[str] = "ruy-mean"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = LiteRTMean.operators

    def words(self) -> str:
        """In short."""
        return "ruy-mean: the sum of codes times a 32-bit multiplier of float32(sx / (n sy)), zero points apart"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums of codes."""
        (operand,) = site.operands
        at = quotient(np.float32(np.float32(operand.zero) * nearest(operand.scale)), site.step)
        zero = int(np.float32(at + np.float32(0.5)) if at > 0 else np.float32(at - np.float32(0.5)))
        below = np.float32(np.float32(site.elements) * nearest(site.step))
        scaled = _up(operands[0], ratio(operand.scale, below))
        return scaled + site.zero - zero


@dataclass(frozen=True)
class RuyRescale(OperatorKernel):
    """QUANTIZE of the optimized kernels: ties of the second rounding go up."""

    scheme: ClassVar[str] = "ruy-rescale"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("requantize",)

    def words(self) -> str:
        """In short."""
        return "ruy-rescale: codes without their zero point times a 32-bit multiplier, ties up"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of one tensor."""
        (operand,) = site.operands
        return _up(operands[0] - operand.zero, operand.scale / site.step) + site.zero


@dataclass(frozen=True)
class LiteRTLookup(OperatorKernel):
    """LOGISTIC and TANH: `away(f(t f(1 / sy))) + zy` with t the float32 function of `f(sx (x - zx))`."""

    scheme: ClassVar[str] = "litert-lookup"
    reads: ClassVar[Reads] = "table"
    operators: ClassVar[tuple[str, ...]] = ("table",)

    def words(self) -> str:
        """In short."""
        return "litert-lookup: a table of codes, of float32 logistic or tanh, ties away from zero"

    def of_table(self, codes: Integers, function: str, site: Site) -> Integers:
        """Of a logistic function or a hyperbolic tangent."""
        if function not in FUNCTIONS:
            raise IntsimError(
                f"is a table of {function or 'several functions'}; {self.scheme} has {', '.join(FUNCTIONS)}"
            )
        (operand,) = site.operands
        x = np.asarray((codes - operand.zero).astype(np.float32) * nearest(operand.scale), np.float32)
        return away(np.asarray(FUNCTIONS[function](x) * quotient(1, site.step), np.float32)) + site.zero


def _logistic(x: Floats) -> Floats:
    """`f(1 / f(1 + expf(-x)))`."""
    with np.errstate(over="ignore"):
        below = np.asarray(np.float32(1) + np.exp(-x.astype(np.float64)).astype(np.float32), np.float32)
    return np.asarray(np.float32(1) / below, np.float32)


FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "Sigmoid": _logistic,
    "LOGISTIC": _logistic,
    "Tanh": lambda x: np.tanh(x.astype(np.float64)).astype(np.float32),
    "TANH": lambda x: np.tanh(x.astype(np.float64)).astype(np.float32),
}
"""Functions of tables, by the file's operators."""


@dataclass(frozen=True)
class LiteRTSoftmax(OperatorKernel):
    """SOFTMAX in fixed point: exponentials of differences (Q5.26), their sum (Q12.19), one reciprocal a row.

    gemmlowp/fixedpoint.h has exp_on_negative_values and one_over_one_plus_x_for_x_in_0_1, in Q0.31.
    """

    scheme: ClassVar[str] = "litert-softmax"
    reads: ClassVar[Reads] = "elements"
    operators: ClassVar[tuple[str, ...]] = ("softmax",)

    def words(self) -> str:
        """In short."""
        return "litert-softmax: exponentials, their sum and its reciprocal in 32-bit fixed point"

    def of_elements(self, elements: Elements, site: Site) -> Integers:
        """Rows, of codes -128 + 256 y."""
        if (site.step, site.zero) != (Fraction(1, 256), -128):
            raise IntsimError("TensorFlow Lite's softmax makes codes of scale 1/256 and zero point -128")
        x = np.stack([c for c, _ in elements])
        scale = min(float(nearest(site.operands[0].scale)) * 2.0**26, 2.0**31 - 1)
        multiplier, shift = quantize_multiplier(Fraction(scale))
        left = 31 - shift
        least = -math.floor(31 * 2.0**26 / 2.0**left)
        difference = x - x.max(axis=0)
        counts = difference >= least
        scaled = wrap(np.where(counts, difference, 0) << left, 32)
        e = exp_of_negative(np.asarray(saturating_rounding_doubling_high_mul(scaled, multiplier)))
        total = np.where(counts, rounding_divide_by_pot(e, 12), 0).sum(axis=0)
        headroom = 32 - np.frompyfunc(int.bit_length, 1, 1)(total.astype(object)).astype(np.int64)
        share = saturating_rounding_doubling_high_mul(reciprocal((total << headroom) - (1 << 31)), e)
        exponent = 12 - headroom + 31 - 8
        out = (share + (1 << exponent >> 1)) >> exponent
        return np.where(counts, np.minimum(out - 128, 127), -128)


@dataclass(frozen=True)
class LiteRTFloatSoftmax(OperatorKernel):
    """The optimized SOFTMAX: `t[d] = expf(f(f(-sx) d))` of d = max - x, summed in order; `away(f(t f(1 / f(sum sy))))
    + zy`."""

    scheme: ClassVar[str] = "litert-float-softmax"
    reads: ClassVar[Reads] = "elements"
    operators: ClassVar[tuple[str, ...]] = ("softmax",)

    def words(self) -> str:
        """In short."""
        return "litert-float-softmax: float32 table of exponentials, summed in order, times one reciprocal"

    def of_elements(self, elements: Elements, site: Site) -> Integers:
        """Rows."""
        x = np.stack([c for c, _ in elements])
        step = -nearest(site.operands[0].scale)
        table = np.exp((step * np.arange(256).astype(np.float32)).astype(np.float64)).astype(np.float32)
        e = table[x.max(axis=0) - x]
        total = np.zeros(e.shape[1:], np.float32)
        for one in e:
            total = np.asarray(total + one, np.float32)
        inverse = np.asarray(np.float32(1) / np.asarray(total * nearest(site.step), np.float32), np.float32)
        return away(np.asarray(e * inverse, np.float32)) + site.zero


EXP_OF_MINUS_EIGHTH, THIRD = 1895147668, 715827883
STEPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) in Q0.31 for k = -2..4."""
ONE = 1 << 31
FORTY_EIGHT_SEVENTEENTHS, THIRTY_TWO_SEVENTEENTHS = 1515870810, 1010580540
"""In Q2.29: the first guess of a reciprocal, 48/17 - 32/17 d."""


def _times(a: Any, b: Any) -> Integers:
    return np.asarray(saturating_rounding_doubling_high_mul(a, b))


def exp_of_negative(a: Integers) -> Integers:
    """gemmlowp's exp_on_negative_values: exp of Q5.26 numbers up to 0, in Q0.31; int64."""
    quarter = 1 << 24
    rest = (a & (quarter - 1)) - quarter
    x = (rest << 5) + (1 << 28)  # about -1/8
    square = _times(x, x)
    cube, fourth = _times(square, x), _times(square, square)
    series = _times(np.asarray(rounding_divide_by_pot(fourth, 2)) + cube, THIRD) + square
    out = EXP_OF_MINUS_EIGHTH + _times(EXP_OF_MINUS_EIGHTH, x + np.asarray(rounding_divide_by_pot(series, 1)))
    remainder = rest - a
    for k, step in enumerate(STEPS):
        out = np.where(remainder & (1 << (24 + k)), _times(out, step), out)
    return np.where(a == 0, ONE - 1, out)


def reciprocal(a: Integers) -> Integers:
    """gemmlowp's one_over_one_plus_x_for_x_in_0_1 of Q0.31 numbers, in Q0.31; int64."""
    half = a + ONE - 1
    half = (half + np.where(half >= 0, 1, -1)) // 2  # RoundingHalfSum
    x = FORTY_EIGHT_SEVENTEENTHS + _times(half, -THIRTY_TWO_SEVENTEENTHS)
    for _ in range(3):
        off = (1 << 29) - _times(half, x)
        x = x + np.clip(_times(x, off) << 2, -ONE, ONE - 1)
    return np.clip(x << 1, -ONE, ONE - 1)
