"""Requantizers of PyTorch's quantized backends, which are given a float bias: FBGEMM, oneDNN, QNNPACK.

Neither fits `float32(acc + b) * float32(S)`: the bias is a float that is added to the float of the sum. `f(.)` below
is one rounding to binary32. Registers hold sums without the bias (bias = "requantizer").

Source: pytorch/FBGEMM 71d6f8b2, src/QuantUtilsAvx2.cc (requantizeOutputProcessingAvx2); oneDNN v3.12 (80afa710),
src/cpu/x64/jit_uni_x8s8s32x_conv_kernel.cpp; pytorch/pytorch 2.13.0,
aten/src/ATen/native/quantized/cpu/AveragePool2d.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.binary32 import fma, nearest, quotient
from intsim.arithmetic.keys import Key, check
from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.requantizer import OperatorKernel, Reads, Site
from intsim.errors import IntsimError

BOOLEAN = Key(lambda v: type(v) is bool, "true, false")


@dataclass(frozen=True)
class _FloatBias(OperatorKernel):
    """What they share: sums and bias apart."""

    takes_bias: ClassVar[bool] = True
    reads: ClassVar[Reads] = "codes"
    operators: ClassVar[tuple[str, ...]] = ("conv", "depthwise", "conv_transpose", "dense", "matmul")


def float_bias(site: Site) -> np.float32:
    """The bias of a channel as the float32 that the file has: whole LSBs and the rest of them."""
    return nearest((site.bias - site.origin) * site.unit)


@dataclass(frozen=True)
class Fbgemm(_FloatBias):
    """`rint(f(f(f(acc) + b) * M)) + zy`, `b = f(bias / f(sx sw))`, `M = f(f(sx sw) / sy)`.

    Of weights with one scale `b = bias * f(1 / f(sx sw))` in full: the compiler made one fused multiply-add of it.
    """

    scheme: ClassVar[str] = "fbgemm"

    def words(self) -> str:
        """The formula."""
        return "fbgemm: rint(float32(float32(acc) + bias) * float32(float32(sx sw) / sy)) + zy, a float bias by fma"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums with their bias, which is taken off again."""
        told = self.site_constants(site)
        added = fma(told["bias"], told["bias_factor"], (operands[0] - site.bias).astype(np.float32))
        scaled = np.asarray(added * told["factor"], np.float32)
        return np.rint(np.clip(scaled, -(2.0**24), 2.0**24)).astype(np.int64) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`bias` times `bias_factor`, b in LSBs of the sum, unrounded, and `factor`, M: all binary32."""
        unit, bias = nearest(site.unit), float_bias(site)
        parts = (bias, quotient(1, unit)) if site.per_tensor else (quotient(bias, unit), np.float32(1))
        return {"bias": parts[0], "bias_factor": parts[1], "factor": quotient(unit, site.step)}


@dataclass(frozen=True)
class AtenAveragePool(OperatorKernel):
    """avg_pool2d of fbgemm and onednn: `rint(f(f(f(sum) f(1 / n)) + zx))`, sums of codes without their zero point."""

    scheme: ClassVar[str] = "aten-average-pool"
    reads: ClassVar[Reads] = "elements"
    operators: ClassVar[tuple[str, ...]] = ("average_pool",)
    clamps: ClassVar[bool] = False

    def words(self) -> str:
        """The formula."""
        return "aten-average-pool: rint(float32(sum) * float32(1 / n) + zx), the zero point inside"

    def suits(self, site: Site) -> None:
        """Refuse another scale than the input's, which torch's pools keep."""
        (operand,) = site.operands
        if (operand.scale, operand.zero) != (site.step, site.zero):
            raise IntsimError("averages codes to codes of another scale; torch's average pools keep the scale")

    def of_elements(self, elements: Sequence[tuple[Integers, NDArray[np.bool_] | None]], site: Site) -> Integers:
        """Padding counts only where the operator says that it does (`site.elements` other than 0)."""
        total, count = np.zeros((2, *elements[0][0].shape), np.int64)
        for codes, inside in elements:
            x = codes - site.zero
            total += x if inside is None else np.where(inside, x, 0)
            count += 1 if inside is None else inside
        share = np.asarray(np.float32(1) / np.asarray(site.elements or count, np.float32), np.float32)
        mean = np.asarray(total.astype(np.float32) * share, np.float32)
        return np.rint(mean + np.float32(site.zero)).astype(np.int64)


@dataclass(frozen=True)
class QnnPack(_FloatBias):
    """`rint(f(f(acc + b) * M)) + zy`, `b = rint(f(bias * f(1 / f(sx sw))))`, `M = f(f(sx sw) * f(1 / sy))`."""

    scheme: ClassVar[str] = "qnnpack"

    def words(self) -> str:
        """The formula."""
        return "qnnpack: rint(float32(acc + int32 bias) * float32(float32(sx sw) * float32(1 / sy))) + zy"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums with their bias, which is taken off again and rounded anew."""
        told = self.site_constants(site)
        acc = (operands[0] - site.bias + told["bias"]).astype(np.float32)
        scaled = np.asarray(acc * told["factor"], np.float32)
        return np.rint(np.clip(scaled, -(2.0**24), 2.0**24)).astype(np.int64) + site.zero

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`bias`, b, an integer, and `factor`, M, binary32."""
        unit = nearest(site.unit)
        bias = int(np.rint(np.float32(float_bias(site) * quotient(1, unit))))
        return {"bias": bias, "factor": np.float32(unit * quotient(1, site.step))}


@dataclass(frozen=True)
class OneDnn(_FloatBias):
    """`rint(f(f(f(f(acc) f(sx sw)) + bias) f(1 / sy)) + zy)`, every step rounded.

    Scales are reciprocals of reciprocals, as ATen hands them over. `scales_apart`: the sum is multiplied by sx and
    then by sw, as the kernels for VNNI do. `weight_reciprocal`: of the weight's scale too, as in linear.
    """

    scales_apart: bool = False
    weight_reciprocal: bool = False

    scheme: ClassVar[str] = "onednn"

    def __post_init__(self) -> None:
        """Refuse what is no boolean."""
        check({"scales_apart": BOOLEAN, "weight_reciprocal": BOOLEAN}, vars(self))
        super().__post_init__()

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """All four."""
        return tuple(cls(scales_apart=a, weight_reciprocal=w) for a in (False, True) for w in (False, True))

    def words(self) -> str:
        """The formula."""
        unit = "sx) sw" if self.scales_apart else "(sx sw))"
        return f"onednn: ((acc {unit} + bias) (1 / sy) + zy, every step in float32, the zero point inside"

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Of sums with their bias, which is taken off again."""
        told = self.site_constants(site)
        scaled = np.asarray((operands[0] - site.bias).astype(np.float32) * told["factor"], np.float32)
        if self.scales_apart:
            scaled = np.asarray(scaled * told["weight_factor"], np.float32)
        added = np.asarray(scaled + told["bias"], np.float32)
        out = np.asarray(added * told["step_factor"], np.float32) + np.float32(site.zero)
        return np.rint(np.clip(out, -(2.0**24), 2.0**24)).astype(np.int64)

    def site_constants(self, site: Site) -> dict[str, Any]:
        """`factor`, f(sx sw), or sx alone and `weight_factor`, sw, apart; `bias`; `step_factor`: f(1 / sy)."""
        sx, sw = site.operands[0].scale, nearest(site.unit / site.operands[0].scale)
        sx_, sw_ = twice_inverted(sx), twice_inverted(sw) if self.weight_reciprocal else sw
        apart = {"factor": sx_, "weight_factor": sw_} if self.scales_apart else {"factor": np.float32(sx_ * sw_)}
        return {**apart, "bias": float_bias(site), "step_factor": quotient(1, twice_inverted(site.step))}


def twice_inverted(scale: Any) -> np.float32:
    """The float32 reciprocal of a float32 reciprocal."""
    return quotient(1, quotient(1, scale))
