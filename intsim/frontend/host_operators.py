"""Operators of host work that numpy, or ONNX's own reference implementations, read in another way than ONNX does.

Integers are numpy's of the file's type. Where ONNX doesn't say what an integer result is, the node is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as OnnxResize

from intsim.errors import IntsimError
from intsim.frontend.interpolation import nearest_index, neighbours, old_nearest_mode, source_positions
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import Operation
from intsim.frontend.types import INTEGERS, limits, type_name

Array = np.ndarray[Any, Any]

KNOWN = frozenset(
    (
        *("Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "EyeLike", "Flatten"),
        *("Gather", "GatherElements", "GatherND", "Identity", "Dropout", "Pad", "Reshape", "Resize", "ReverseSequence"),
        *("ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose"),
        *("Trilu", "Unique", "Unsqueeze", "Upsample", "Where", "OneHot"),
        *("ArgMax", "ArgMin", "NonZero", "Shape", "Size", "Range"),
        *("Abs", "Add", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Clip"),
        *("CumSum", "Div", "DynamicQuantizeLinear", "Gemm", "MatMul", "MatMulInteger", "Max", "Min", "Mod", "Mul"),
        *("Neg", "Pow", "PRelu"),
        *("QuantizeLinear", "ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
        *("ReduceSumSquare", "Relu", "Sign", "Sub"),
    )
)
"""Operators of which ONNX says, to the last bit, what integers they make: moves, counts, arithmetic."""


def check_node(op: Operation, types: Mapping[str, int], opset: int) -> None:
    """Raise IntsimError for a node that the host would read wrong, or that makes integers as ONNX leaves open."""
    if opset < 7 and "axis" in op.attributes and op.attributes.get("broadcast"):
        raise IntsimError("its axis, of opset 6, is not supported on the host; convert the file to opset 7 or later")
    element = next((types[o] for o in op.outputs if types.get(o) in INTEGERS), None)
    if element is not None and op.domain == "" and op.op not in KNOWN:
        raise IntsimError(f"ONNX doesn't say how {op.op} rounds to {type_name(element)}; cast to float first")


def _whole(*arrays: Array) -> bool:
    return all(a.dtype.kind in "iu" for a in arrays)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    return limits(helper.np_dtype_to_tensor_dtype(dtype))


def wrapped(values: Array, dtype: np.dtype[Any]) -> Array:
    """Integers of any size (object or int64) as those of `dtype`, two's complement."""
    low, high = _range(dtype)
    return np.asarray((values - low) % (high - low + 1) + low).astype(dtype)


class Host(OpRun):
    """An operator of this module; its name in messages."""

    op_domain = ""

    def refused(self, reason: str) -> IntsimError:
        """The error that names the node."""
        return IntsimError(f"node {self.onnx_node.name} ({self.onnx_node.op_type}): {reason}")


class BatchNormalization(Host):
    """Inference-time normalisation, in place of ONNX's reference for opset 9, which normalises as in training."""

    def _run(self, x, gamma, beta, mean, variance, epsilon=1e-5, **_):  # type: ignore[no-untyped-def]
        a = gamma / np.sqrt(variance + float(np.float32(epsilon)))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x * a.reshape(shape) + (beta - mean * a).reshape(shape),)


class Div(Host):
    """Integers: the quotient without its fraction, C's rule."""

    def _run(self, a, b, **_):  # type: ignore[no-untyped-def]
        if not _whole(a, b):
            return (np.asarray(a / b),)
        if (b == 0).any():
            raise self.refused("an integer is divided by zero, and ONNX doesn't say what that is")
        low = _range(a.dtype)[0]
        if low < 0 and ((a == low) & (b == -1)).any():
            raise self.refused(f"{low} is divided by -1, which {a.dtype} can't hold, and ONNX doesn't say what that is")
        quotient = np.asarray(a // b)
        return (np.asarray(quotient + ((quotient < 0) & (a - quotient * b != 0)).astype(a.dtype)).astype(a.dtype),)


class Mod(Host):
    """fmod=0: the sign of the divisor, integers only; fmod=1: the sign of the dividend."""

    def _run(self, a, b, fmod=0, **_):  # type: ignore[no-untyped-def]
        if not _whole(a, b):
            if not fmod:
                raise self.refused("it takes floats only with fmod=1")
            return (np.asarray(np.fmod(a, b)),)
        if (b == 0).any():
            raise self.refused("an integer is divided by zero, and ONNX doesn't say what is left over")
        return (np.asarray((np.fmod if fmod else np.mod)(a, b)).astype(a.dtype),)


class Cast(Host):
    """Integers to integers keep their low bits; floats to integers lose their fraction, and have to fit."""

    def _run(self, x, to=1, **_):  # type: ignore[no-untyped-def]
        return (self.converted(x, to),)

    def converted(self, x: Array, to: int) -> Array:
        """x in another element type."""
        if to == TensorProto.BOOL:
            return np.asarray(x != 0)
        if to in INTEGERS:
            low, high = limits(to)
            dtype = helper.tensor_dtype_to_np_dtype(to)
            source = helper.np_dtype_to_tensor_dtype(x.dtype)
            if source in ONNX_INTEGERS:
                return wrapped(x.astype(object), dtype)
            cut = np.trunc(x)
            outside = ~((cut >= low) & (cut < float(high + 1)))
            if outside.any():
                raise self.refused(
                    f"{x[outside][0]:.6g} doesn't fit {type_name(to)}, and ONNX doesn't say what it becomes"
                )
            return np.asarray(cut).astype(dtype)
        return np.asarray(x).astype(helper.tensor_dtype_to_np_dtype(to))


class CastLike(Cast):
    """Cast to the type of another tensor."""

    def _run(self, x, like, **_):  # type: ignore[no-untyped-def,override]
        return (self.converted(x, helper.np_dtype_to_tensor_dtype(like.dtype)),)


class BitShift(Host):
    """Shifts within the type."""

    def _run(self, a, b, direction="RIGHT", **_):  # type: ignore[no-untyped-def]
        bits = a.dtype.itemsize * 8
        if (b >= bits).any():
            raise self.refused(f"it shifts {bits} bits by {int(b.max())}, and ONNX doesn't say what is left")
        return (np.asarray((np.left_shift if direction == "LEFT" else np.right_shift)(a, b)).astype(a.dtype),)


class Pow(Host):
    """Integers to whole exponents."""

    def _run(self, a, b, **_):  # type: ignore[no-untyped-def]
        if not _whole(a):
            return (np.asarray(np.power(a, b.astype(np.float64))).astype(a.dtype),)
        if not _whole(b) and not (b == np.rint(b)).all():
            raise self.refused(f"ONNX doesn't say how its result is rounded to {a.dtype}; cast to float first")
        base, exponent = np.broadcast_arrays(a, b)
        if (b < 0).any() or (b > 64).any():
            raise self.refused("its exponents leave 0..64, and ONNX doesn't say what integer that is")
        exact = [int(x) ** int(e) for x, e in zip(base.flat, exponent.flat, strict=True)]
        low, high = _range(a.dtype)
        if exact and not low <= min(exact) <= max(exact) <= high:
            raise self.refused(f"its result leaves {a.dtype}, and ONNX doesn't say what it becomes")
        return (np.array(exact, a.dtype).reshape(base.shape),)


class Gemm(Host):
    """alpha A' B' + beta C; of integers with whole factors, modulo the type."""

    def _run(self, a, b, c=None, alpha=1.0, beta=1.0, transA=0, transB=0, **_):  # type: ignore[no-untyped-def]  # noqa: N803
        a, b = (a.T if transA else a), (b.T if transB else b)
        if not _whole(a, b):
            product = np.matmul(a, b) * alpha
            return (product if c is None else product + c * beta,)
        if alpha != int(alpha) or beta != int(beta):
            raise self.refused("ONNX doesn't say how integers times a fraction are rounded")
        out = np.matmul(a, b) * wrapped(np.array(int(alpha), object), a.dtype)
        return (out if c is None else out + c * wrapped(np.array(int(beta), object), a.dtype),)


def _reduction(op: str, floats: Callable[..., Array], integers: Callable[..., Array]) -> type[Host]:
    """A reduction: `floats` on float64, `integers` on Python's integers, which have to fit."""

    class Reduce(Host):
        def _run(self, x, axes=None, keepdims=1, noop_with_empty_axes=0, **_):  # type: ignore[no-untyped-def]
            given = tuple(int(a) for a in np.ravel(axes)) if axes is not None else ()
            if not given and noop_with_empty_axes:
                return (x,)
            options: dict[str, Any] = {"axis": given or None, "keepdims": bool(keepdims)}
            if not _whole(x):
                return (np.asarray(floats(x, **options)),)
            exact = np.asarray(integers(x.astype(object), **options), object)
            low, high = _range(x.dtype)
            if exact.size and not low <= exact.min() <= exact.max() <= high:
                raise self.refused(f"its sum leaves {x.dtype}, and ONNX doesn't say what becomes of it")
            if op != "ReduceMean":
                return (exact.astype(x.dtype),)
            count = x.size // max(exact.size, 1)
            cut = np.frompyfunc(lambda s: abs(s) // count * (1 if s >= 0 else -1), 1, 1)(exact)
            return (np.asarray(cut).astype(x.dtype),)

    return type(op, (Reduce,), {"__doc__": f"{op}; integers that fit their type, a mean without its fraction."})


REDUCTIONS = [
    _reduction("ReduceSum", np.sum, np.sum),
    _reduction("ReduceMean", np.mean, np.sum),
    _reduction("ReduceProd", np.prod, np.prod),
    _reduction("ReduceL1", *(lambda x, **k: np.sum(np.abs(x), **k),) * 2),
    _reduction("ReduceSumSquare", *(lambda x, **k: np.sum(x * x, **k),) * 2),
]


class Mean(Host):
    """Of operands that broadcast; ONNX's reference adds in place, which can't grow the first one."""

    def _run(self, *operands, **_):  # type: ignore[no-untyped-def]
        return (np.asarray(sum(operands) / len(operands)),)


class HardTanh(Host):
    """A clamp, to -1 and 1 unless told otherwise; ONNX has none."""

    def _run(self, x, min_val=-1.0, max_val=1.0, **_):  # type: ignore[no-untyped-def]
        return (np.minimum(np.maximum(x, min_val), max_val),)


class DequantizeLinear(Host):
    """(x - zero_point) * scale in float64, rounded once to the scale's type; ONNX's reference subtracts in float32."""

    def _run(self, x, scale, zero=None, axis=1, block_size=0, **_):  # type: ignore[no-untyped-def]
        def placed(v: Array) -> Array:
            if v.size == 1:
                return v.reshape(())
            if block_size:
                return np.take(np.repeat(v, block_size, axis), range(x.shape[axis]), axis)
            return v.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])

        shifted = x.astype(np.float64) - (0 if zero is None else placed(zero).astype(np.float64))
        return (np.asarray(shifted * placed(scale)).astype(scale.dtype),)


class DynamicQuantizeLinear(Host):
    """ONNX's formula in float32: the range of x and 0 in 255 steps; half to even, saturated.

    Where x is all zeros the formula has no scale (0 / 255, and then 0 / 0); it is 1 there, as in ONNX Runtime. Every
    code is the zero point then, so that no number depends on it.
    """

    def _run(self, x, **_):  # type: ignore[no-untyped-def]
        x = np.asarray(x, np.float32)
        low, high = (f(x, initial=np.float32(0)) for f in (np.min, np.max))
        with np.errstate(over="ignore"):
            span = np.float32(high - low)
        if not np.isfinite(span):
            raise self.refused("its input holds NaN or infinity, or its range is beyond float32")
        scale = np.float32(1) if span == 0 else span / np.float32(255)
        if scale == 0:
            raise self.refused("its input's range is so small that its scale is 0 in float32")
        with np.errstate(over="ignore"):
            zero = np.rint(np.clip(np.float32(0) - low / scale, 0, 255)).astype(np.float32)
            codes = np.clip(np.rint(x / scale) + zero, 0, 255)
        return codes.astype(np.uint8), np.asarray(scale), np.asarray(zero.astype(np.uint8))


class Resize(Host):
    """Nearest and linear on exact positions, as between quantizers; other modes by ONNX's reference."""

    def _run(self, x, *rest, mode="nearest", **at):  # type: ignore[no-untyped-def]
        old = self.onnx_node.op_type == "Upsample" or self.run_params["opsets"][""] < 11
        rare = any(at.get(k) for k in ("antialias", "exclude_outside")) or at.get("axes") is not None
        rare |= at.get("keep_aspect_ratio_policy", "stretch") != "stretch"
        rare |= at.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        if rare or mode not in ("nearest", "linear", "bilinear"):
            if _whole(x) and mode not in ("nearest",):
                raise self.refused("ONNX doesn't say how integers are interpolated")
            return OnnxResize(self.onnx_node, self.run_params).run(x, *rest)
        inputs = [a if a is not None and np.size(a) else None for a in (*rest, None, None, None)]
        scales, sizes = (inputs[0], None) if old else (inputs[1], inputs[2])
        given = np.ravel(next((v for v in (at.get("scales"), scales, sizes) if v is not None), []))
        if given.size != x.ndim:
            raise self.refused(f"it has {given.size} scales or sizes for the {x.ndim} axes of its input")
        for axis, value in enumerate(given):
            size = x.shape[axis]
            by_size = scales is None and sizes is not None
            scale = Fraction(int(value), size) if by_size else Fraction(float(np.float32(value)))
            out = int(value) if by_size else int(np.floor(np.float32(size) * np.float32(value)))
            if out == size and scale == 1:
                continue
            if scale <= 0 or out < 1:
                raise self.refused(f"its scale or size {value} is not usable")
            attributes = {"coordinate_transformation_mode": "asymmetric"} if old else at
            positions = source_positions(attributes, size, out, scale)
            if mode == "nearest":
                rule = old_nearest_mode(self.onnx_node.op_type, scale) if old else at.get("nearest_mode")
                index = [nearest_index(rule or "round_prefer_floor", p, size) for p in positions]
                x = np.take(x, index, axis)
                continue
            if _whole(x):
                raise self.refused("ONNX doesn't say how integers are interpolated")
            pairs, weight = neighbours(positions, size)
            at_left, at_right = (np.take(x, [row[side] for row in pairs], axis) for side in (0, 1))
            shape = [-1 if i == axis else 1 for i in range(x.ndim)]
            left, right = (np.array([float(row[side]) for row in weight]).reshape(shape) for side in (0, 1))
            x = (at_left * left + at_right * right).astype(x.dtype)
        return (np.asarray(x),)


class Upsample(Resize):
    """Resize of opset 7 and 9."""


OPERATORS: list[type[OpRun]] = [
    *(BatchNormalization, BitShift, Cast, CastLike, DequantizeLinear, Div, DynamicQuantizeLinear, Gemm, HardTanh),
    *(Mean, Mod, Pow),
    *REDUCTIONS,
    *(Resize, Upsample),
]
"""Taken in place of ONNX's reference implementations."""
