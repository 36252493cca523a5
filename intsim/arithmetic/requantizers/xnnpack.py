"""Operators of XNNPACK's int8 kernels that aren't multiply-accumulates, as LiteRT's delegate runs them.

`f(.)` is one rounding to binary32. Source: google/XNNPACK commit 75db3c093b6d, src/qs8-vadd, qs8-vmul, qs8-rsum,
qs8-vcvt, qs8-vlrelu, src/microparams-init.c; LiteRT 2.3.0, tflite/delegates/xnnpack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from intsim.arithmetic.binary32 import Floats, nearest, quotient
from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.requantizer import OperatorKernel, Reads, Site
from intsim.errors import IntsimError


def _within(what: str, ratio: np.float32, least: float, most: float) -> None:
    """Raise IntsimError for scales that the delegate leaves to another kernel."""
    if not least <= float(ratio) <= most:
        raise IntsimError(f"its {what} is {float(ratio):g}; XNNPACK's delegate takes {least:g}..{most:g}")


@dataclass(frozen=True)
class XnnpackAdd(OperatorKernel):
    """`(a ma +- b mb + c) >> shift`, with multipliers of 21 bits: `shift = 20 - floor(log2(max(f(sa / sy), f(sb /
    sy))))`."""

    scheme: ClassVar[str] = "xnnpack-add"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("add",)

    def words(self) -> str:
        """In short."""
        return "xnnpack-add: both operands times 21-bit multipliers, added, shifted once with ties up"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of two tensors."""
        if len(operands) != 2:
            raise IntsimError(f"adds {len(operands)} tensors; {self.scheme} adds two")
        told = self.site_constants(site)
        factors, shift = told["operand_multiplier"], told["shift"]
        parts = [o.sign * m * (x - o.zero) for x, m, o in zip(operands, factors, site.operands, strict=True)]
        return ((parts[0] + parts[1] + (1 << (shift - 1))) >> shift) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`operand_multiplier` of each operand, and `shift` of their sum. Raises IntsimError for other scales."""
        ratios = [quotient(o.scale, site.step) for o in site.operands]
        for ratio in ratios:
            _within("scale over that of its result", ratio, 2.0**-10, 2.0**8)
        shift = 20 - (math.frexp(float(max(ratios)))[1] - 1)
        factors = tuple(int(np.rint(np.ldexp(np.float64(r), shift))) for r in ratios)
        return {"operand_multiplier": factors, "shift": shift}


@dataclass(frozen=True)
class XnnpackMul(OperatorKernel):
    """`rint(f(f(product) * f(f(sa sb) / sy)))`, plus the zero point."""

    scheme: ClassVar[str] = "xnnpack-mul"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("mul",)

    def words(self) -> str:
        """The formula."""
        return "xnnpack-mul: rint(float32(product) * float32(float32(sa sb) / sy)) + zy"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of products of codes without their zero points."""
        scaled = np.asarray(operands[0].astype(np.float32) * self.site_constants(site)["factor"], np.float32)
        return np.rint(np.clip(scaled, -32768, 32767)).astype(np.int64) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`factor`, binary32. Raises IntsimError for other scales."""
        factor = quotient(nearest(site.unit), site.step)
        _within("scale over that of its result", factor, 2.0**-16, 2.0**8)
        return {"factor": factor}


@dataclass(frozen=True)
class XnnpackMean(OperatorKernel):
    """`rint(f(f(f(sum) S) + z))`, `S = f(f(sx / sy) f(1 / n))`, `z = f(zy - f(f(n zx) S))`."""

    scheme: ClassVar[str] = "xnnpack-mean"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("reduce", "global_average_pool")

    def words(self) -> str:
        """The formula."""
        return "xnnpack-mean: rint(float32(float32(sum) S + z)), the zero point inside"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums of codes."""
        told = self.site_constants(site)
        scaled = np.asarray(operands[0].astype(np.float32) * told["factor"], np.float32)
        return np.rint(scaled + told["added"]).astype(np.int64)

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`factor`, S, and `added`, z: both binary32."""
        scale = np.float32(quotient(site.operands[0].scale, site.step) * quotient(1, site.elements))
        zero = np.float32(np.float32(site.zero) - np.float32(np.float32(int(site.origin)) * scale))
        return {"factor": scale, "added": zero}


@dataclass(frozen=True)
class XnnpackRescale(OperatorKernel):
    """QUANTIZE of codes and LEAKY_RELU: `((x - zx) m + 128) >> 8` with `m = rint(f(256 f(sx / sy)))`: 8 fraction
    bits."""

    scheme: ClassVar[str] = "xnnpack-rescale"
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("requantize", "leaky_relu")

    def words(self) -> str:
        """The formula."""
        return "xnnpack-rescale: ((x - zx) m + 128) >> 8, m the ratio of scales in 1/256"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of one tensor."""
        (operand,) = site.operands
        ratio = quotient(operand.scale, site.step)
        _within("scale over that of its result", ratio, 2.0**-8, 2.0**7)
        above = below = _in_256(ratio)
        if site.slope:
            steep = np.float32(ratio * nearest(site.slope))
            _within("negative slope", np.float32(abs(steep)), 2.0**-8, 2.0**7)
            below = _in_256(steep)
        x = operands[0] - operand.zero
        return ((x * np.where(x > 0, above, below) + 128) >> 8) + site.zero


def _in_256(ratio: np.float32) -> int:
    return int(np.rint(np.float32(np.float32(256) * ratio)))


@dataclass(frozen=True)
class XnnpackLookup(OperatorKernel):
    """LOGISTIC and TANH: a table of `rint(f(f(t f(1 / sy)) + zy))`, the zero point inside."""

    scheme: ClassVar[str] = "xnnpack-lookup"
    reads: ClassVar[Reads] = "table"
    operators: ClassVar[tuple[str, ...]] = ("table",)

    def words(self) -> str:
        """In short."""
        return "xnnpack-lookup: a table of codes, of float32 logistic or tanh, the zero point inside"

    def of_table(self, codes: Integers, function: str, site: Site) -> Integers:
        """Of a logistic function or a hyperbolic tangent."""
        (operand,) = site.operands
        x = np.asarray((codes - operand.zero).astype(np.float32) * nearest(operand.scale), np.float32).astype(
            np.float64
        )
        if function in ("Sigmoid", "LOGISTIC"):
            e = np.exp(np.clip(x, -100, 100))
            t: Floats = np.where(np.abs(x) > 100, x > 0, e / (1 + e)).astype(np.float32)
        elif function in ("Tanh", "TANH"):
            t = np.tanh(x).astype(np.float32)
        else:
            raise IntsimError(f"is a table of {function or 'several functions'}; {self.scheme} has Sigmoid and Tanh")
        scaled = np.asarray(t * quotient(1, site.step), np.float32) + np.float32(site.zero)
        return np.rint(scaled).astype(np.int64)
