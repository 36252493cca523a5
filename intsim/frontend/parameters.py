"""Parameters of operators: constants, scales, widths, axes, integer types."""

from __future__ import annotations

import numpy as np
import onnx

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.context import Context, Refused
from intsim.frontend.expression import Broken, Const, Fixed, Host, Value
from intsim.frontend.reader import Operation
from intsim.graph import Rationals, rationals

ONNX_INTEGERS = {
    getattr(onnx.TensorProto, name): (bits, signed)
    for bits in (2, 4, 8, 16, 32, 64)  # those of 2 bits are there from ONNX 1.20 on
    for name, signed in ((f"INT{bits}", True), (f"UINT{bits}", False))
    if hasattr(onnx.TensorProto, name)
} | {onnx.TensorProto.BOOL: (1, False)}


def element_type(array: np.ndarray) -> IntegerType | None:
    """Integer type of an array as ONNX decodes it, None for floats."""
    name = array.dtype.name
    if name.startswith(("int", "uint")):
        return IntegerType(int(name.lstrip("uint")), not name.startswith("u"))
    return IntegerType(1, False) if name == "bool" else None


def constant(context: Context, node: Operation, position: int, what: str) -> np.ndarray:
    """A constant input as an array; refused if it is missing or computed at run time."""
    if not node.optional(position):
        raise Refused(f"has no {what}")
    value = context.value(node.inputs[position])
    if not isinstance(value, Const):
        raise Refused(f"its {what} ({node.inputs[position]}) is not a constant")
    return value.array


def positive_scale(array: np.ndarray) -> Rationals:
    """A scale as rationals; refused unless finite and above zero."""
    values = _finite(array)
    if not (values > 0).all():
        raise Refused("its scale is zero or negative")
    return rationals(array)


def scale_of(array: np.ndarray, value: Value) -> Rationals:
    """The same of what is dequantized, which may be negative where that is a constant: its numbers are known."""
    if not isinstance(value, Const | Fixed):
        return positive_scale(array)
    if (_finite(array) == 0).any():
        raise Refused("its scale is zero")
    return rationals(array)


def _finite(array: np.ndarray) -> np.ndarray:
    values = np.asarray(array).astype(np.float64)
    if not np.isfinite(values).all():
        raise Refused("its scale is NaN or infinite")
    return values


def bit_width(array: np.ndarray) -> int:
    """A QONNX bit width: one integer from 1 to 32."""
    values = np.unique(np.asarray(array, np.float64))
    if values.size != 1 or not np.isfinite(values).all() or values[0] != np.round(values[0]):
        raise Refused(f"its bit width {values.tolist()} is not one integer")
    bits = int(values[0])
    if not 1 <= bits <= 32:
        raise Refused(f"its bit width {bits} is not between 1 and 32")
    return bits


def check_fit(context: Context, value: Value, *parameters: np.ndarray) -> None:
    """Refuse parameters that don't broadcast against their tensor: a quantizer keeps its input's shape.

    They are scales, zero points and bit widths, also those whose values are all the same.
    """
    shape = shape_of(context, value)
    for parameter in parameters:
        fits = parameter.size == 1 or (
            parameter.ndim <= len(shape)
            and all(p in (1, s) for p, s in zip(parameter.shape[::-1], shape[::-1], strict=False))
        )
        if not fits:
            what = f"scale, zero point or bit width of shape {parameter.shape}"
            raise Refused(f"its {what} doesn't fit its input {shape}")


def along_axis(values: np.ndarray, shape: tuple[int, ...], node: Operation) -> np.ndarray:
    """A QuantizeLinear or DequantizeLinear parameter, brought to broadcast against `shape` (axis, block_size)."""
    if values.size == 1:
        return values
    axis, block = int(node.attributes.get("axis", 1)), int(node.attributes.get("block_size", 0))
    axis += len(shape) if axis < 0 else 0
    if not 0 <= axis < len(shape):
        raise Refused(f"axis {axis} is outside its input's {len(shape)} axes")
    if block:
        if values.ndim != len(shape):
            raise Refused("its blocked scale has another rank than its input")
        return np.repeat(values, block, axis=axis)[tuple(slice(0, s) for s in shape)]
    if values.ndim != 1 or values.size != shape[axis]:
        raise Refused(f"its scale has {values.size} values, axis {axis} has {shape[axis]}")
    return values.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def shape_of(context: Context, value: Value) -> tuple[int, ...]:
    """Shape of any value."""
    if isinstance(value, Host):
        return context.host_shape(value.name)
    if isinstance(value, Broken):
        raise Refused("its input was refused")
    return value.shape
