"""Operators that only move elements about, and the shape arithmetic around them: ONNX's formulas, no rounding."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import on_common_grid
from intsim.verification.reference.call import FLOATS, Call, integer_range, sized, type_name
from intsim.verification.reference.integers import cut, numbers, truth
from intsim.verification.reference.rational import SMALL, each
from intsim.verification.reference.tensor import Tensor, constant, from_array, move, zero_like


def channels_first(t: Tensor) -> Tensor:
    """N, spatial..., C to N, C, spatial..."""
    return move([t], lambda x: np.moveaxis(x, -1, 1))


def channels_last(t: Tensor) -> Tensor:
    """N, C, spatial... to N, spatial..., C."""
    return move([t], lambda x: np.moveaxis(x, 1, -1))


def along_channel(t: Tensor, rank: int) -> Tensor:
    """A vector of one entry per channel as (C, 1, ...), to meet a tensor of `rank` with channels at axis 1."""
    return move([t], lambda x: x.reshape(-1, *(1,) * (rank - 2)))


def _only(f: Callable[[Call, np.ndarray], np.ndarray]) -> Callable[[Call], Tensor]:
    """An operator on its first input alone, from a function on arrays of its shape."""
    return lambda call: move([call.tensor(0)], lambda x: f(call, x))


def identity(call: Call) -> Tensor:
    """Identity, and Dropout in inference."""
    mode = call.optional(2)
    if call.op == "Dropout" and mode is not None and mode.fractions().any():
        raise IntsimError("Dropout in training mode is random")
    return call.tensor(0)


def _reshape(call: Call, x: np.ndarray) -> np.ndarray:
    shape = call.integers("shape", 1, [])
    if not call.attr("allowzero", 0):
        shape = [x.shape[k] if n == 0 and k < x.ndim else n for k, n in enumerate(shape)]
    return x.reshape(shape)


def _flatten(call: Call, x: np.ndarray) -> np.ndarray:
    axis = call.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(call: Call, x: np.ndarray) -> np.ndarray:
    axes = call.integers("axes", 1)
    return np.squeeze(x, None if axes is None else tuple(axes))


def _expand(call: Call, x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x, sized(np.broadcast_shapes(x.shape, tuple(call.integers("shape", 1, [])))))


def _tile(call: Call, x: np.ndarray) -> np.ndarray:
    repeats = call.integers("repeats", 1, [])
    sized([n * r for n, r in zip(x.shape, repeats, strict=True)])
    return np.tile(x, repeats)


def _slice(call: Call, x: np.ndarray) -> np.ndarray:
    starts, ends = call.integers("starts", 1, []), call.integers("ends", 2, [])
    axes = call.integers("axes", 3, list(range(len(starts))))
    steps = call.integers("steps", 4, [1] * len(starts))
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # an end before the first element of a backward slice means "up to and including it"
        cut[axis] = slice(start, max(end, -x.shape[axis] - 1), step)
    return x[tuple(cut)]


def _depth_to_space(call: Call, x: np.ndarray) -> np.ndarray:
    b = call.attr("blocksize")
    n, c, h, w = x.shape
    if not b or c % (b * b):
        raise IntsimError(f"{c} channels do not make blocks of {b} x {b}")
    if call.attr("mode", "DCR") == "CRD":
        x = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        x = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // (b * b), h * b, w * b)


def _space_to_depth(call: Call, x: np.ndarray) -> np.ndarray:
    b = call.attr("blocksize")
    n, c, h, w = x.shape
    if not b or h % b or w % b:
        raise IntsimError(f"{h} x {w} is not made of blocks of {b} x {b}")
    x = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * b * b, h // b, w // b)


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
    ends = np.cumsum(sizes)
    return [move([x], lambda a, r=range(e - n, e): np.take(a, r, axis=axis)) for e, n in zip(ends, sizes, strict=True)]


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
    if value.exact and not any(value.fractions().flat):
        value = zero_like(x)

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


def constant_node(call: Call) -> Tensor:
    """Constant in all its spellings."""
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, value in call.attrs.items():
        if name == "value" or name in types:
            return from_array(np.asarray(value, types.get(name)), "the constant")
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
    name = type_name(call.attr("to", 0))
    if name in FLOATS:
        return replace(x, kind="f", type="")
    if name == "bool":
        if not x.on_grid:
            raise IntsimError("Cast to bool is evaluated where numbers are known exactly")
        n, s = x.integers()
        return truth((n != 0) & (s != 0))
    if not name.startswith(("int", "uint")):
        raise IntsimError(f"Cast to {name} is not evaluated")
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
        return truth(f(both[0], both[1]))

    return operator


#: Operator name -> function.
MOVEMENT: dict[str, Callable[[Call], Tensor | list[Tensor]]] = {
    "Identity": identity,
    "Dropout": identity,
    "Transpose": _only(lambda call, x: np.transpose(x, call.attr("perm"))),
    "Reshape": _only(_reshape),
    "Flatten": _only(_flatten),
    "Squeeze": _only(_squeeze),
    "Unsqueeze": _only(lambda call, x: np.expand_dims(x, tuple(call.integers("axes", 1, [])))),
    "Expand": _only(_expand),
    "Tile": _only(_tile),
    "Gather": _only(lambda call, x: np.take(x, call.tensor(1).whole("the index"), axis=call.attr("axis", 0))),
    "Slice": _only(_slice),
    "DepthToSpace": _only(_depth_to_space),
    "SpaceToDepth": _only(_space_to_depth),
    "Concat": lambda call: move(
        list(map(call.tensor, range(len(call.inputs)))), lambda *x: np.concatenate(x, axis=call.attr("axis", 1))
    ),
    "Split": split,
    "Pad": pad,
    "Where": where,
    "Shape": lambda call: from_array(
        np.array(call.tensor(0).shape[call.attr("start", 0) : call.attr("end")], np.int64), "a shape"
    ),
    "Constant": constant_node,
    "ConstantOfShape": constant_of_shape,
    "Cast": cast,
    "Equal": _compare(np.equal),
    "Less": _compare(np.less),
    "LessOrEqual": _compare(np.less_equal),
    "Greater": _compare(np.greater),
    "GreaterOrEqual": _compare(np.greater_equal),
}
