"""Operators of ONNX Runtime's quantized kernels that aren't multiply-accumulates, in IEEE 754 binary32.

Each is a scheme of its own, named after the operator of com.microsoft that computes it; a QDQ pattern that ONNX Runtime
fuses runs the same kernels. `f(.)` below is one rounding to binary32; where a kernel rounds before it clips, numbers of
2^31 and more become -2^31 (`binary32.int32`).

Source: microsoft/onnxruntime 1.31.1, onnxruntime/contrib_ops/cpu/quantization and onnxruntime/core/mlas/lib (qladd.cpp,
qlmul.cpp, quantize.cpp, logistic.cpp and its FMA3 kernel), on x86-64 with AVX2 and FMA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.binary32 import Floats, fma, int32, nearest, product, quotient, ratio
from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.requantizer import Operand, OperatorKernel, Reads, Site
from intsim.errors import IntsimError

FARTHEST = 18.0
"""MlasLogisticConstants: beyond it the logistic function is that of this number."""
ODD = (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03, 2.48287947061529e-01)
EVEN = (
    *(6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06),
    *(1.70198817374094e-03, 1.16817656904453e-01, 9.93151921023180e-01),
)
"""Coefficients of its rational approximation, of the numerator (an odd polynomial) and the denominator (an even
one)."""


def dequantized(codes: Integers, operand: Operand) -> Floats:
    """`f(scale * (code - zero))`."""
    return np.asarray((codes - operand.zero).astype(np.float32) * nearest(operand.scale))


def quantized(values: Floats, site: Site) -> Integers:
    """`rint(f(value / step)) + zero`, as MlasQuantizeLinear; clipped far beyond any code of 16 bits."""
    with np.errstate(over="ignore"):
        scaled = np.asarray(values / nearest(site.step), np.float32)
    return np.rint(np.clip(scaled, -(2.0**24), 2.0**24)).astype(np.int64) + site.zero


def _product(acc: Integers, factor: np.float32, site: Site) -> Integers:
    """`int32(f(f(f(acc) factor) + zy))`."""
    with np.errstate(over="ignore"):
        return int32(np.asarray(acc.astype(np.float32) * factor) + np.float32(site.zero))


@dataclass(frozen=True)
class QLinearAdd(OperatorKernel):
    """`rint(fma(a, rA, fma(b, rB, c)))` with `rA = f(sa / sy)`, `c = f(zy - fma(rA, za, f(rB zb)))`.

    b is the operand that holds still along a row, if one does. Ties go to even codes after the zero point was added.
    """

    scheme: ClassVar[str] = "qlinear-add"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("add",)
    clamps: ClassVar[bool] = False

    def words(self) -> str:
        """The formula."""
        return "qlinear-add: rint(fma(a, sa/sy, fma(b, sb/sy, c))) in binary32, the zero point inside"

    def suits(self, site: Site) -> None:
        """Refuse ratios of scales that are infinite."""
        for operand in site.operands:
            ratio(operand.scale, site.step)

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of two tensors."""
        if len(operands) != 2:
            raise IntsimError(f"adds {len(operands)} tensors; {self.scheme} adds two")
        if any(o.sign < 0 for o in site.operands):
            raise IntsimError(f"subtracts; {self.scheme} adds")
        told, other = self.site_constants(site), 1 - site.still
        a, b = operands[other], operands[site.still]
        by_a, by_b = told["operand_factor"][other], told["operand_factor"][site.still]
        return int32(fma(a, by_a, fma(b, by_b, told["added"])))

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`operand_factor` of each operand, and `added`, c: binary32."""
        left, right = site.operands[1 - site.still], site.operands[site.still]
        by_a, by_b = quotient(left.scale, site.step), quotient(right.scale, site.step)
        zeros = fma(np.array([by_a]), np.float32(left.zero), np.float32(by_b * np.float32(right.zero)))[0]
        factors = (by_a, by_b) if site.still else (by_b, by_a)
        return {"operand_factor": factors, "added": np.float32(np.float32(site.zero) - zeros)}


@dataclass(frozen=True)
class QLinearMul(OperatorKernel):
    """`rint(f(f(f(acc) * S) + zy))`, `S = f(f(sa sb) / sy)`: ties go to even codes after the zero point was added."""

    scheme: ClassVar[str] = "qlinear-mul"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("mul",)
    clamps: ClassVar[bool] = False

    def words(self) -> str:
        """The formula."""
        return "qlinear-mul: rint(float32(acc) * float32(float32(sa sb) / sy) + zy), the zero point inside"

    def suits(self, site: Site) -> None:
        """Refuse a ratio of scales that is infinite."""
        ratio(nearest(site.unit), site.step)

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of products of codes without their zero points."""
        (acc,) = operands
        return _product(acc, self.site_constants(site)["factor"], site)

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`factor`, S, binary32."""
        return {"factor": quotient(nearest(site.unit), site.step)}


@dataclass(frozen=True)
class QLinearSquare(OperatorKernel):
    """QLinearMul of a tensor with itself, which is a function of its codes."""

    scheme: ClassVar[str] = "qlinear-square"
    reads: ClassVar[Reads] = "table"
    operators: ClassVar[tuple[str, ...]] = ("table",)

    def words(self) -> str:
        """In short."""
        return "qlinear-square: qlinear-mul of a tensor with itself, a table of codes"

    def of_table(self, codes: Integers, function: str, site: Site) -> Integers:
        """Of a product."""
        (operand,) = site.operands
        if function not in ("Mul", "QLinearMul"):
            raise IntsimError(f"is a table of {function or 'several functions'}; {self.scheme} multiplies")
        square = (codes - operand.zero) ** 2
        factor = np.float32(float(ratio(product(operand.scale, operand.scale), site.step)))
        return _product(square, factor, site)


@dataclass(frozen=True)
class QLinearTable(OperatorKernel):
    """A table of `rint(f(x / sy)) + zy` with `x = f(sx (q - zx))`: QLinearConcat, QLinearLeakyRelu, a lone requantizer.

    Codes are copied where scale and zero point are equal.
    """

    scheme: ClassVar[str] = "qlinear-table"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("concat", "leaky_relu", "requantize")

    def words(self) -> str:
        """The formula."""
        return "qlinear-table: rint(float32(float32(sx (q - zx)) / sy)) + zy, a table of codes"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of one tensor."""
        (codes,), (operand,) = operands, site.operands
        if not site.slope and (operand.scale, operand.zero) == (site.step, site.zero):
            return codes
        x = dequantized(codes, operand)
        if site.slope:
            x = np.where(x < 0, np.asarray(x * nearest(site.slope)), x)
        return quantized(x, site)


@dataclass(frozen=True)
class Binary32Operator(OperatorKernel):
    """One operator that ONNX Runtime leaves in float32 between DequantizeLinear and QuantizeLinear, a table of codes.

    `rint(f(y / sy)) + zy` with y by IEEE 754: each of its operations is one rounding, in the order of `OPERATORS`. A
    square is a product; HardSwish runs as HardSigmoid and Mul.
    """

    scheme: ClassVar[str] = "binary32-operator"
    reads: ClassVar[Reads] = "floats"
    operators: ClassVar[tuple[str, ...]] = ("add", "requantize", "table")
    clamps: ClassVar[bool] = False

    def words(self) -> str:
        """The formula."""
        return "binary32-operator: a table of rint(float32(y / sy)) + zy, y the float32 operator of sx (q - zx)"

    def of_operator(
        self, name: str, operands: Sequence[Integers | Floats], parameters: Sequence[float | None], site: Site
    ) -> Integers:
        """Of codes, and a constant or parameters."""
        if name not in OPERATORS:
            raise IntsimError(f"is a table of {name}; {self.scheme} computes {', '.join(OPERATORS)}")
        x = [
            v.astype(np.float32) if v.dtype == np.float32 else dequantized(v.astype(np.int64), o)
            for v, o in zip(operands, site.operands, strict=True)
        ]
        return quantized(np.asarray(OPERATORS[name](*x, *parameters), np.float32), site)

    def of_table(self, codes: Integers, function: str, site: Site) -> Integers:
        """Of codes alone."""
        return self.of_operator(function, [codes], (), site)


@dataclass(frozen=True)
class QLinearAveragePool(OperatorKernel):
    """The float32 mean of dequantized codes, added one after another; `rint(f(f(m / sy) + zy))`."""

    scheme: ClassVar[str] = "qlinear-average-pool"
    reads: ClassVar[Reads] = "elements"
    operators: ClassVar[tuple[str, ...]] = ("average_pool",)
    clamps: ClassVar[bool] = False

    def words(self) -> str:
        """The formula."""
        return "qlinear-average-pool: the float32 mean of dequantized codes; rint(float32(m / sy) + zy)"

    def of_elements(self, elements: Sequence[tuple[Integers, NDArray[np.bool_] | None]], site: Site) -> Integers:
        """Padding counts only where the operator says that it does (`site.elements` other than 0)."""
        total, count = np.zeros(elements[0][0].shape, np.float32), np.zeros(elements[0][0].shape, np.float32)
        for codes, inside in elements:
            x = dequantized(codes, site.operands[0])
            total = np.asarray(total + (x if inside is None else np.where(inside, x, np.float32(0))), np.float32)
            count += 1 if inside is None else inside
        mean = np.asarray(total / (np.float32(site.elements) if site.elements else count), np.float32)
        with np.errstate(over="ignore"):
            return int32(np.asarray(mean / nearest(site.step), np.float32) + np.float32(site.zero))


@dataclass(frozen=True)
class QLinearGlobalAveragePool(OperatorKernel):
    """`rint(f(f(acc) * S)) + zy` of the integer sum, `S = f(sx / f(sy f(n)))`."""

    scheme: ClassVar[str] = "qlinear-global-average-pool"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("global_average_pool", "average_pool", "reduce")
    clamps: ClassVar[bool] = False

    def words(self) -> str:
        """The formula."""
        return "qlinear-global-average-pool: rint(float32(acc) * float32(sx / float32(sy n))) + zy"

    def suits(self, site: Site) -> None:
        """Refuse what MLAS does (CheckQLinearGlobalAveragePoolScaleAndSize)."""
        factor = self.site_constants(site)["factor"]
        if site.elements >= 1 << 24 or not 2.0**-32 <= factor < 256:
            raise IntsimError(
                f"averages {site.elements} elements with a factor of {factor:g}; ONNX Runtime takes fewer than 2^24 "
                "elements and factors from 2^-32 to below 256"
            )

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums of codes without their zero points."""
        acc = operands[0] - int(site.origin)
        return int32(np.asarray(acc.astype(np.float32) * self.site_constants(site)["factor"])) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`factor`, S, binary32."""
        with np.errstate(over="ignore"):
            below = np.float32(nearest(site.step) * np.float32(site.elements))
        return {"factor": quotient(site.operands[0].scale, below)}


@dataclass(frozen=True)
class QLinearSigmoid(OperatorKernel):
    """A table of MLAS's rational approximation of the logistic function, with fused multiply-adds."""

    scheme: ClassVar[str] = "qlinear-sigmoid"
    reads: ClassVar[Reads] = "table"
    operators: ClassVar[tuple[str, ...]] = ("table",)

    def words(self) -> str:
        """The formula."""
        return "qlinear-sigmoid: a table of codes, of MLAS's float32 logistic function"

    def of_table(self, codes: Integers, function: str, site: Site) -> Integers:
        """Of a Sigmoid."""
        if function not in ("Sigmoid", "QLinearSigmoid"):
            raise IntsimError(f"is a table of {function or 'several functions'}; {self.scheme} computes Sigmoid")
        return quantized(logistic(dequantized(codes, site.operands[0])), site)


@dataclass(frozen=True)
class QLinearSoftmax(OperatorKernel):
    """A table of exponentials, their float32 sum in order, `rint(f(f(e * Y) / sum)) + zy` with `Y = floor(f(1 /
    sy))`."""

    scheme: ClassVar[str] = "qlinear-softmax"
    reads: ClassVar[Reads] = "elements"
    operators: ClassVar[tuple[str, ...]] = ("softmax",)

    def words(self) -> str:
        """The formula."""
        return "qlinear-softmax: float32 table of exponentials, summed in order; rint(e floor(1/sy) / sum) + zy"

    def of_elements(self, elements: Sequence[tuple[Integers, NDArray[np.bool_] | None]], site: Site) -> Integers:
        """Rows. An infinite share becomes the least int32, which the zero point may wrap."""
        codes = np.stack([c for c, _ in elements])
        scale = float(nearest(site.operands[0].scale))
        highest = np.float32(math.log(float(np.finfo(np.float32).max / np.float32(len(codes)))))
        shift = max(0.0, float(highest) - 5) / scale
        table = np.exp((np.arange(256) - 255 + shift) * scale).astype(np.float32)
        e = table[codes + 255 - codes.max(axis=0)]
        total = np.zeros(e.shape[1:], np.float32)
        for one in e:
            total = np.asarray(total + one, np.float32)
        top = np.floor(quotient(1, site.step))
        with np.errstate(over="ignore"):
            share = np.asarray(np.asarray(e * top, np.float32) / total, np.float32)
        beyond = np.isinf(share)  # of rows of up to three elements
        out = np.rint(np.where(beyond, np.float32(0), share)).astype(np.int64) + site.zero
        extreme = site.zero if not site.signed else 127 if site.zero < 0 else -128
        return np.where(beyond, extreme, out)


def logistic(x: Floats) -> Floats:
    """`p / q + 1/2` with p odd and q even in x, both by Horner's rule with fused multiply-adds."""
    x = np.clip(x, np.float32(-FARTHEST), np.float32(FARTHEST))
    square = np.asarray(x * x, np.float32)
    parts = []
    for coefficients in (ODD, EVEN):
        value = np.full(x.shape, np.float32(coefficients[0]), np.float32)
        for c in coefficients[1:]:
            value = fma(value, square, np.float32(c))
        parts.append(value)
    p = np.asarray(parts[0] * x, np.float32)
    out = np.asarray(p / parts[1], np.float32) + np.float32(0.5)
    return np.asarray(np.clip(out, np.float32(0), np.float32(1)))


def _power(x: Floats, exponent: Floats) -> Floats:
    if (exponent != 2).any():
        raise IntsimError("raises to another power than 2, for which there is a function of the C library")
    return np.asarray(x * x)


def _clip(x: Floats, low: float | None, high: float | None) -> Floats:
    return np.clip(x, None if low is None else np.float32(low), None if high is None else np.float32(high))


def _hard_sigmoid(x: Floats, alpha: float, beta: float) -> Floats:
    return np.clip(np.float32(alpha) * x + np.float32(beta), np.float32(0), np.float32(1))


OPERATORS: dict[str, Callable[..., Floats]] = {
    "Sub": np.subtract,
    "Div": np.divide,
    "Pow": _power,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x: np.asarray(x * _hard_sigmoid(x, 1 / 6, 0.5)),
}
"""float32 operators by the file's names: operands, then parameters."""
