"""Operators that only move elements about, and the shape arithmetic around them: ONNX's formulas, no rounding."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import on_common_grid
from intsim.verification.reference.call import Call, integer_range, sized
from intsim.verification.reference.integers import cut, numbers
from intsim.verification.reference.rational import SMALL, each
from intsim.verification.reference.tensor import Tensor, constant, from_array, grid, move

__all__ = ["MOVEMENT", "along_channel", "channels_first", "channels_last"]


def channels_first(t: Tensor) -> Tensor:
    """N, spatial..., C to N, C, spatial..."""
    return move([t], lambda x: np.moveaxis(x, -1, 1))


def channels_last(t: Tensor) -> Tensor:
    """N, C, spatial... to N, spatial..., C."""
    return move([t], lambda x: np.moveaxis(x, 1, -1))


def along_channel(t: Tensor, rank: int) -> Tensor:
    """A vector of one entry per channel as (C, 1, ...), to meet a tensor of `rank` with channels at axis 1."""
    return move([t], lambda x: x.reshape(-1, *(1,) * (rank - 2)))


def _only(f: Callable[[Call], Callable[..., np.ndarray]]) -> Callable[[Call], Tensor]:
    """An operator on its first input, from the function on arrays that the node stands for."""
    return lambda call: move([call.tensor(0)], f(call))


def identity(call: Call) -> Tensor:
    """Identity, and Dropout in inference."""
    mode = call.optional(2)
    if call.op == "Dropout" and mode is not None and mode.fractions().any():
        raise IntsimError("Dropout in training mode is random")
    return call.tensor(0)


def _transpose(call: Call) -> Callable[..., np.ndarray]:
    perm = call.attr("perm")
    return lambda x: np.transpose(x, perm)


def _reshape(call: Call) -> Callable[..., np.ndarray]:
    shape = call.integers("shape", 1, [])
    own = call.tensor(0).shape
    if not call.attr("allowzero", 0):
        shape = [own[k] if n == 0 and k < len(own) else n for k, n in enumerate(shape)]
    return lambda x: x.reshape(shape)


def _flatten(call: Call) -> Callable[..., np.ndarray]:
    shape = call.tensor(0).shape
    axis = call.attr("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    rows = math.prod(shape[:axis])
    return lambda x: x.reshape(rows, math.prod(shape[axis:]))


def _squeeze(call: Call) -> Callable[..., np.ndarray]:
    axes = call.integers("axes", 1)
    return lambda x: np.squeeze(x, None if axes is None else tuple(axes))


def _unsqueeze(call: Call) -> Callable[..., np.ndarray]:
    axes = tuple(call.integers("axes", 1, []))
    return lambda x: np.expand_dims(x, axes)


def _expand(call: Call) -> Callable[..., np.ndarray]:
    shape = sized(np.broadcast_shapes(call.tensor(0).shape, tuple(call.integers("shape", 1, []))))
    return lambda x: np.broadcast_to(x, shape)


def _tile(call: Call) -> Callable[..., np.ndarray]:
    repeats = call.integers("repeats", 1, [])
    sized([n * r for n, r in zip(call.tensor(0).shape, repeats, strict=True)])
    return lambda x: np.tile(x, repeats)


def _gather(call: Call) -> Callable[..., np.ndarray]:
    index = call.tensor(1).whole("the index")
    return lambda x: np.take(x, index, axis=call.attr("axis", 0))


def _slice(call: Call) -> Callable[..., np.ndarray]:
    starts, ends = call.integers("starts", 1, []), call.integers("ends", 2, [])
    axes = call.integers("axes", 3, list(range(len(starts))))
    steps = call.integers("steps", 4, [1] * len(starts))
    cut = [slice(None)] * len(call.tensor(0).shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # an end before the first element of a backward slice means "up to and including it"
        low = -call.tensor(0).shape[axis] - 1
        cut[axis] = slice(start, max(end, low), step)
    return lambda x: x[tuple(cut)]


def _depth_to_space(call: Call) -> Callable[..., np.ndarray]:
    b, column_row = call.attr("blocksize"), call.attr("mode", "DCR") == "CRD"
    n, c, h, w = call.tensor(0).shape
    if not b or c % (b * b):
        raise IntsimError(f"{c} channels do not make blocks of {b} x {b}")

    def f(x: np.ndarray) -> np.ndarray:
        if column_row:
            x = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            x = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // (b * b), h * b, w * b)

    return f


def _space_to_depth(call: Call) -> Callable[..., np.ndarray]:
    b = call.attr("blocksize")
    n, c, h, w = call.tensor(0).shape
    if not b or h % b or w % b:
        raise IntsimError(f"{h} x {w} is not made of blocks of {b} x {b}")
    return lambda x: (
        x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)
    )


def concat(call: Call) -> Tensor:
    """Concat along an axis."""
    tensors = [call.tensor(i) for i in range(len(call.inputs))]
    return move(tensors, lambda *xs: np.concatenate(xs, axis=call.attr("axis", 1)))


def split(call: Call) -> list[Tensor]:
    """Split by sizes (attribute or input) or into equal parts, the last one smaller."""
    x, axis = call.tensor(0), call.attr("axis", 0)
    length = x.shape[axis]
    sizes = call.integers("split", 1)
    if sizes is None:
        step = -(-length // call.attr("num_outputs", call.outputs))
        sizes = [min(step, length - k) for k in range(0, length, step)]
    if sum(sizes) != length or len(sizes) != call.outputs:
        raise IntsimError(f"sizes {sizes} do not split an axis of length {length} into {call.outputs}")
    starts = np.cumsum([0, *sizes])
    return [move([x], lambda a, k=k: np.take(a, range(starts[k], starts[k + 1]), axis=axis)) for k in range(len(sizes))]


def pad(call: Call) -> Tensor:
    """Pad with a constant, reflected, edge or wrapped elements; negative pads cut."""
    x = call.tensor(0)
    rank = len(x.shape)
    pads = call.integers("paddings" if "paddings" in call.attrs else "pads", 1, [])
    axes = call.integers("axes", 3, list(range(rank)))
    mode = call.attr("mode", "constant")
    margins = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        margins[axis] = (pads[k], pads[k + len(axes)])
    grow = [(max(a, 0), max(b, 0)) for a, b in margins]
    sized([n + sum(g) for n, g in zip(x.shape, grow, strict=True)])
    cut = tuple(slice(max(-a, 0), n + sum(g) - max(-b, 0)) for (a, b), g, n in zip(margins, grow, x.shape, strict=True))
    if mode != "constant":
        if mode not in ("reflect", "edge", "wrap"):
            raise IntsimError(f"Pad mode {mode!r} is unknown")
        return move([x], lambda a: np.pad(a, grow, mode=mode)[cut])
    fill = call.optional(2)
    value = constant(Fraction(call.attr("value", 0.0))) if fill is None else fill
    if x.s is not None and x.s.size == 1 and value.exact and not any(value.fractions().flat):
        value = grid(np.zeros((), np.float32), x.s.reshape(()), 0.0, x.kind)

    def f(a: np.ndarray, c: np.ndarray) -> np.ndarray:
        out = np.full([n + sum(g) for n, g in zip(a.shape, grow, strict=True)], np.ravel(c)[0], np.result_type(a, c))
        out[tuple(slice(g[0], g[0] + n) for n, g in zip(a.shape, grow, strict=True))] = a
        return out[cut]

    return move([x, value], f)


def where(call: Call) -> Tensor:
    """Where, the condition being known exactly."""
    mask = call.tensor(0)
    if not mask.on_grid:
        raise IntsimError("the condition is not known exactly")
    chosen = mask.integers()[0] != 0
    return move([call.tensor(1), call.tensor(2)], lambda a, b: np.asarray(np.where(chosen, a, b)))


def shape(call: Call) -> Tensor:
    """The shape of the input, or the part of it from `start` to `end`."""
    dims = call.tensor(0).shape[call.attr("start", 0) : call.attr("end")]
    return from_array(np.array(dims, np.int64), "a shape")


def constant_node(call: Call) -> Tensor:
    """Constant in all its spellings."""
    for name, value in call.attrs.items():
        if name == "value":
            return from_array(np.asarray(value), "the constant")
        if name in ("value_float", "value_floats"):
            return from_array(np.asarray(value, np.float32), "the constant")
        if name in ("value_int", "value_ints"):
            return from_array(np.asarray(value, np.int64), "the constant")
    raise IntsimError("the constant has no value of a numeric type")


def constant_of_shape(call: Call) -> Tensor:
    """A constant repeated over a shape."""
    dims = sized(call.integers("shape", 0, []))
    value = from_array(np.ravel(call.attr("value", np.zeros(1, np.float32))), "the constant")
    return move([value], lambda x: np.broadcast_to(x.reshape(()), dims))


def cast(call: Call) -> Tensor:
    """Cast between number types: to floats the identity (real numbers), integers keep their low bits.

    Real numbers lose their fraction on the way to an integer type, and have to fit it.
    """
    x = call.tensor(0)
    name = onnx.TensorProto.DataType.Name(call.attr("to", 0)).lower()
    if name in ("float", "double", "float16", "bfloat16"):
        return replace(x, kind="f", type="")
    if name != "bool" and not name.startswith(("int", "uint")):
        raise IntsimError(f"Cast to {name} is not evaluated")
    if name == "bool":
        if not x.on_grid:
            raise IntsimError("Cast to bool is evaluated where numbers are known exactly")
        n, s = x.integers()
        return grid(np.asarray((n != 0) & (s != 0)).astype(np.float32), Fraction(1), 1.0, "b")
    if x.kind in "ib":
        return cut(numbers(x), name)
    if not x.exact or x.size > SMALL:
        raise IntsimError("Cast of real numbers to integers is evaluated on small exact tensors only")
    low, high = integer_range(name)
    whole = each(math.trunc, x.fractions())
    if any(not low <= v <= high for v in whole.flat):
        raise IntsimError(f"a number that {name} does not hold is cast to it; what it becomes is not defined")
    return cut(whole, name)


def _compare(f: Callable[..., np.ndarray]) -> Callable[[Call], Tensor]:
    def operator(call: Call) -> Tensor:
        both = on_common_grid(call.tensor(0), call.tensor(1))
        if both is None:
            raise IntsimError("the comparison is not decided exactly")
        return grid(f(both[0], both[1]).astype(np.float32), Fraction(1), 1.0, "b")

    return operator


#: Operator name -> function.
MOVEMENT: dict[str, Callable[[Call], Tensor | list[Tensor]]] = {
    "Identity": identity,
    "Dropout": identity,
    "Transpose": _only(_transpose),
    "Reshape": _only(_reshape),
    "Flatten": _only(_flatten),
    "Squeeze": _only(_squeeze),
    "Unsqueeze": _only(_unsqueeze),
    "Expand": _only(_expand),
    "Tile": _only(_tile),
    "Gather": _only(_gather),
    "Slice": _only(_slice),
    "DepthToSpace": _only(_depth_to_space),
    "SpaceToDepth": _only(_space_to_depth),
    "Concat": concat,
    "Split": split,
    "Pad": pad,
    "Where": where,
    "Shape": shape,
    "Constant": constant_node,
    "ConstantOfShape": constant_of_shape,
    "Cast": cast,
    "Equal": _compare(np.equal),
    "Less": _compare(np.less),
    "LessOrEqual": _compare(np.less_equal),
    "Greater": _compare(np.greater),
    "GreaterOrEqual": _compare(np.greater_equal),
}
