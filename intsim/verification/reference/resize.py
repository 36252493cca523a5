"""Resize and Upsample: nearest and linear, with sampling positions and weights as exact rationals.

The coordinate formulas are those of the ONNX operator specification, Resize, `coordinate_transformation_mode`. The
output length is floor(length * scale) in float32, as ONNX's shape inference works it out.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.call import Call, sized
from intsim.verification.reference.contraction import matmul
from intsim.verification.reference.rational import each
from intsim.verification.reference.tensor import EXACT, Tensor, constant, grid, move

_HALF = Fraction(1, 2)

_NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda x: math.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: math.floor(x + _HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}


def _position(mode: str, k: int, scale: Fraction, before: int, after: int) -> Fraction:
    """Where output position `k` lies on the input axis."""
    if mode == "asymmetric":
        return k / scale
    if mode == "align_corners":
        return Fraction(k * (before - 1), after - 1) if after > 1 else Fraction(0)
    half = (k + _HALF) / scale - _HALF
    if mode == "half_pixel":
        return half
    if mode == "pytorch_half_pixel":
        return half if after > 1 else Fraction(0)
    if mode == "half_pixel_symmetric":
        return Fraction(before, 2) * (1 - after / (scale * before)) + half
    raise IntsimError(f"coordinate_transformation_mode {mode!r} is not evaluated")


def _lengths(call: Call, x: Tensor) -> tuple[list[int], list[Fraction]]:
    """Output length and exact scale of every axis."""
    rank, sizes = len(x.shape), None
    if call.op == "Upsample" or call.opset < 11:
        factors = call.attrs["scales"] if "scales" in call.attrs else call.tensor(1).fractions()
    else:
        scales_given, sizes_given = call.optional(2), call.optional(3)
        factors = scales_given.fractions() if scales_given is not None and scales_given.size else None
        sizes = sizes_given.whole("sizes") if sizes_given is not None and sizes_given.size else None
    axes = [a % rank for a in call.attr("axes", range(rank))]
    if call.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise IntsimError("keep_aspect_ratio_policy is not evaluated")
    lengths, scales = list(x.shape), [Fraction(1)] * rank
    chosen = sizes if sizes is not None else factors
    if chosen is None or len(chosen) != len(axes):
        raise IntsimError("scales or sizes do not fit the input")
    for axis, value in zip(axes, chosen, strict=True):
        if value <= 0:
            raise IntsimError("scales and sizes have to be positive")
        if sizes is not None:
            lengths[axis], scales[axis] = int(value), Fraction(int(value), x.shape[axis])
        else:
            lengths[axis] = int(np.floor(np.float32(x.shape[axis]) * np.float32(float(value))))
            scales[axis] = Fraction(value)
    sized(lengths)
    return lengths, scales


def _weights(positions: list[Fraction], before: int) -> Tensor:
    """Linear interpolation as a matrix (before, after) of exact weights, positions clamped to the axis."""
    rows = np.full((before, len(positions)), Fraction(0), object)
    for k, p in enumerate(positions):
        first = math.floor(p)
        for at, weight in ((first, 1 - (p - first)), (first + 1, p - first)):
            rows[min(max(at, 0), before - 1), k] += weight
    common = math.lcm(*(f.denominator for f in rows.flat))
    if common > EXACT:
        return constant(rows)
    return grid(each(lambda f: int(f * common), rows).astype(np.float64), Fraction(1, common))


def resize(call: Call) -> Tensor:
    """Resize (opset 10 on) and Upsample, modes nearest and linear, without antialiasing."""
    x = call.tensor(0)
    mode, legacy = call.attr("mode", "nearest"), call.op == "Upsample" or call.opset < 11
    coordinates = "asymmetric" if legacy else call.attr("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if legacy else call.attr("nearest_mode", "round_prefer_floor")
    if call.attr("antialias", 0) or mode not in ("nearest", "linear", "bilinear") or nearest not in _NEAREST:
        raise IntsimError(f"Resize mode {mode!r} with nearest_mode {nearest!r} or antialias is not evaluated")
    for axis, (after, scale) in enumerate(zip(*_lengths(call, x), strict=True)):
        before = x.shape[axis]
        if after == before and scale == 1:
            continue
        positions = [_position(coordinates, k, scale, before, after) for k in range(after)]
        if mode == "nearest":
            # Resize of opset 10 looks ahead on an axis that shrinks (ONNX 1.5's node tests, ONNX Runtime)
            nearest = ("ceil" if scale < 1 and call.op == "Resize" else "floor") if legacy else nearest
            index = np.clip([_NEAREST[nearest](p) for p in positions], 0, before - 1)
            x = move([x], lambda a, index=index, axis=axis: np.take(a, index, axis))
        elif x.kind == "i":
            raise IntsimError("ONNX does not say how interpolated integers are rounded")
        else:
            last = move([x], lambda a, axis=axis: np.moveaxis(a, axis, -1))
            x = move([matmul(last, _weights(positions, before))], lambda a, axis=axis: np.moveaxis(a, -1, axis))
    return x


#: Operator name -> function.
RESIZING: dict[str, Callable[[Call], Tensor]] = {"Resize": resize, "Upsample": resize}
