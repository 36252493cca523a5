"""Data movement: reshape, transpose, slice, split, concat, depth to space, expand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from intsim.frontend.context import Context, M, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import ONE, ZERO, Const, Curve, Expr, Fixed, Value, Waiting, compress, spread
from intsim.frontend.joined import cells, with_constants
from intsim.frontend.parameters import constant
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MOVERS, lowers
from intsim.frontend.waiting import joined
from intsim.graph import Rationals, check_size

Moved = Expr | Fixed | Curve


def movable(context: Context, node: Operation, position: int = 0) -> Moved:
    """An input that is integers, a function of integers, or an integer constant."""
    value = context.value(node.inputs[position])
    if isinstance(value, Fixed | Expr | Curve):
        return value
    return expression(context, node, position)


def integers(context: Context, node: Operation, attribute: str, position: int) -> list[int] | None:
    """A list of integers given as attribute (older opsets) or as constant input."""
    if attribute in node.attributes:
        given = node.attributes[attribute]
        return [int(v) for v in (given if isinstance(given, list) else [given])]
    if node.optional(position):
        return [int(v) for v in constant(context, node, position, attribute).reshape(-1)]
    return None


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; refused outside of -rank..rank-1."""
    if not -rank <= axis < rank:
        raise Refused(f"its axis {axis} is outside of {rank} axes")
    return axis % rank


def reshape_to(context: Context, x: M, shape: list[int]) -> M:
    """Reshape to a full shape."""
    return context.move(x, "reshape", {"shape": shape})


@lowers("Reshape", kind=MOVERS, curves=True)
def reshape(context: Context, node: Operation) -> Value:
    """Reshape with 0 (copy) and -1 (infer)."""
    x = movable(context, node)
    wanted = integers(context, node, "shape", 1)
    if wanted is None:
        raise Refused("it has no shape")
    if not node.attributes.get("allowzero"):
        if any(v == 0 and i >= len(x.shape) for i, v in enumerate(wanted)):
            raise Refused(f"its shape {wanted} copies an axis that its input {x.shape} doesn't have")
        wanted = [x.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    total, known = prod(x.shape), prod(v for v in wanted if v != -1)
    usable = wanted.count(-1) <= 1 and min(wanted, default=1) >= -1 and known > 0
    if not usable or (total % known if -1 in wanted else known != total):
        raise Refused(f"its shape {wanted} doesn't hold the {total} elements of its input {x.shape}")
    return reshape_to(context, x, [total // known if v == -1 else v for v in wanted])


@lowers("Flatten", kind=MOVERS, curves=True)
def flatten(context: Context, node: Operation) -> Value:
    """Two axes: those before `axis`, and the rest."""
    x = movable(context, node)
    axis = int(node.attributes.get("axis", 1))
    axis = axis if axis == len(x.shape) else axis_of(axis, len(x.shape))
    return reshape_to(context, x, [prod(x.shape[:axis]), prod(x.shape[axis:])])


@lowers("Squeeze", kind=MOVERS, curves=True)
def squeeze(context: Context, node: Operation) -> Value:
    """Without the named axes of size one (all of them by default)."""
    x = movable(context, node)
    axes = integers(context, node, "axes", 1)
    gone = {i for i, s in enumerate(x.shape) if s == 1} if axes is None else {axis_of(a, len(x.shape)) for a in axes}
    if any(x.shape[a] != 1 for a in gone):
        raise Refused(f"it squeezes axes {sorted(gone)} of {x.shape} that are not one")
    return reshape_to(context, x, [s for i, s in enumerate(x.shape) if i not in gone])


@lowers("Unsqueeze", kind=MOVERS, curves=True)
def unsqueeze(context: Context, node: Operation) -> Value:
    """With new axes of size one."""
    x = movable(context, node)
    axes = integers(context, node, "axes", 1) or []
    rank = len(x.shape) + len(axes)
    new, old = {axis_of(a, rank) for a in axes}, iter(x.shape)
    if len(new) != len(axes):
        raise Refused(f"its axes {axes} name one twice")
    return reshape_to(context, x, [1 if i in new else next(old) for i in range(rank)])


@lowers("Transpose", kind=MOVERS, curves=True)
def transpose(context: Context, node: Operation) -> Value:
    """Permuted axes; reversed by default."""
    x = movable(context, node)
    perm = [int(p) for p in node.attributes.get("perm", range(len(x.shape) - 1, -1, -1))]
    if sorted(perm) != list(range(len(x.shape))):
        raise Refused(f"its perm {perm} is not a permutation of its input's {len(x.shape)} axes")
    return x if perm == sorted(perm) else context.move(x, "transpose", {"perm": perm})


def pick(context: Context, x: M, axis: int, index: Any) -> M:
    """Positions along an axis; the tensor itself when that is all of them in order."""
    index = np.asarray(index, np.int64).reshape(-1)
    if index.size == x.shape[axis] and (index == np.arange(index.size)).all():
        return x
    return context.move(x, "gather", {"axis": axis}, {"index": index})


@lowers("Slice", kind=MOVERS, curves=True)
def slice_(context: Context, node: Operation) -> Value:
    """Slices along axes; numpy's rules."""
    x = movable(context, node)
    starts, ends = integers(context, node, "starts", 1), integers(context, node, "ends", 2)
    if starts is None or ends is None:
        raise Refused("it has no starts or ends")
    axes = integers(context, node, "axes", 3) or list(range(len(starts)))
    steps = integers(context, node, "steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(axis, len(x.shape))
        if step == 0:
            raise Refused("it has a step of zero")
        positions = np.arange(x.shape[axis])[slice(start, None if step < 0 and end < -x.shape[axis] else end, step)]
        if positions.size == 0:
            raise Refused("its result is empty")
        x = pick(context, x, axis, positions)
    return x


@lowers("Split", kind=MOVERS, curves=True)
def split(context: Context, node: Operation) -> list[Value]:
    """Parts along an axis."""
    x = movable(context, node)
    axis = axis_of(int(node.attributes.get("axis", 0)), len(x.shape))
    count = len(node.outputs)
    sizes = integers(context, node, "split", 1)
    if sizes is None:
        part = -(-x.shape[axis] // count)
        sizes = [min(part, x.shape[axis] - i * part) for i in range(count)]
    if sum(sizes) != x.shape[axis] or len(sizes) != count or min(sizes) < 1:
        raise Refused(f"its parts {sizes} don't add up to {x.shape[axis]}")
    ends = np.cumsum(sizes)
    return [pick(context, x, axis, np.arange(e - s, e)) for s, e in zip(sizes, ends, strict=True)]


@lowers("Concat", kind=MOVERS, curves=True)
def concat(context: Context, node: Operation) -> Value:
    """Codes side by side; different scales become a scale for each index of the axis.

    Numbers that have no integers of one scale for each index wait for their quantizer.
    """
    parts: list[Moved | Waiting] = []
    fixed_constant = cells if any(isinstance(context.value(n), Expr) for n in node.inputs) else integer_constant
    for i, name in enumerate(node.inputs):
        value = context.value(name)
        if isinstance(value, Const):
            parts.append(fixed_constant(value))
        else:
            parts.append(value if isinstance(value, Waiting) else movable(context, node, i))
    rank = len(parts[0].shape)
    if "axis" not in node.attributes:
        raise Refused("it has no axis")
    axis = axis_of(int(node.attributes["axis"]), rank)
    if len({(*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts}) > 1:
        raise Refused(f"its inputs {[p.shape for p in parts]} don't fit together along axis {axis}")
    fixed = [p for p in parts if isinstance(p, Fixed)]
    tensors = [p for p in parts if isinstance(p, Expr)]
    if len(fixed) == len(parts):
        codes = np.concatenate([p.codes for p in fixed], axis=axis)
        scale = _side_by_side([spread(p.scale, rank) for p in fixed], fixed, axis)
        offset = _side_by_side([spread(p.offset, rank) for p in fixed], fixed, axis)
        return Fixed(codes, scale, offset, fixed[0].type)
    if fixed:
        if len(tensors) + len(fixed) < len(parts):
            raise Refused("it joins a constant with numbers that no quantizer rounded; put a quantizer behind these")
        alone = tensors[0] if len(tensors) == 1 else _tensors(context, tensors, axis)
        return with_constants(context, alone, [p for p in parts if isinstance(p, Fixed | Expr)], axis)
    # numbers on a grid are off by other numbers than those at their side
    if len(tensors) == len(parts) and not any(n in context.gridded for p in tensors for n, _ in p.terms):
        try:
            return _tensors(context, tensors, axis)
        except Refused:
            if all(p.linear for p in tensors):
                raise
    waiting = [p for p in parts if isinstance(p, Expr | Curve | Waiting)]
    return joined(context, waiting, axis, partial(_tensors, context, axis=axis))


def _tensors(context: Context, parts: Sequence[Expr], axis: int) -> Expr:
    """Tensors side by side."""
    settled = [p if p.linear else context.settle(p, per_cell=True) for p in parts]
    names = [context.broadcast(p.tensor, p.shape) for p in settled]
    kinds = {context.graph.tensors[n].type for n in names}
    scale = _side_by_side([p.scale for p in settled], parts, axis)
    offset = _side_by_side([p.offset for p in settled], parts, axis)
    return context.emit("concat", names, scale, offset, {"axis": axis}, kind=kinds.pop() if len(kinds) == 1 else None)


def _side_by_side(parameters: list[Rationals], parts: Sequence[Moved | Waiting], axis: int) -> Rationals:
    """Parameters of joined parts; the other axes broadcast to the largest of each. What all share stays one for all."""
    first = parameters[0]
    if first.shape[axis] == 1 and all(p.shape == first.shape and (p == first).all() for p in parameters):
        return first
    full = [max(sizes) for sizes in zip(*(p.shape for p in parameters), strict=True)]
    grown = [
        np.broadcast_to(p, [part.shape[axis] if i == axis else f for i, f in enumerate(full)])
        for p, part in zip(parameters, parts, strict=True)
    ]
    return compress(np.concatenate(grown, axis=axis))


def integer_constant(value: Const) -> Fixed:
    """A constant of integers as codes of scale one."""
    if value.array.dtype.kind not in "iub":
        raise Refused("it joins a tensor with a constant, which is not supported")
    return Fixed(value.array.astype(np.int64), ONE, ZERO)


@lowers("DepthToSpace", kind=MOVERS, curves=True)
def depth_to_space(context: Context, node: Operation) -> Value:
    """Blocks of channels become blocks of pixels; modes DCR and CRD."""
    x = movable(context, node)
    b = int(node.attributes["blocksize"])
    n, c, h, w = x.shape
    if b < 1 or c % (b * b):
        raise Refused(f"its {c} channels don't divide by blocksize {b} squared")
    columnwise = node.attributes.get("mode", "DCR") == "DCR"
    x = reshape_to(context, x, [n, b, b, c // b**2, h, w] if columnwise else [n, c // b**2, b, b, h, w])
    x = context.move(x, "transpose", {"perm": [0, 3, 4, 1, 5, 2] if columnwise else [0, 1, 4, 2, 5, 3]})
    return reshape_to(context, x, [n, c // b**2, h * b, w * b])


@lowers("SpaceToDepth", kind=MOVERS, curves=True)
def space_to_depth(context: Context, node: Operation) -> Value:
    """Blocks of pixels become blocks of channels."""
    x = movable(context, node)
    b = int(node.attributes["blocksize"])
    n, c, h, w = x.shape
    if b < 1 or h % b or w % b:
        raise Refused(f"its size {h} x {w} doesn't divide by blocksize {b}")
    x = reshape_to(context, x, [n, c, h // b, b, w // b, b])
    x = context.move(x, "transpose", {"perm": [0, 3, 5, 1, 2, 4]})
    return reshape_to(context, x, [n, c * b * b, h // b, w // b])


@lowers("Tile", kind=MOVERS, curves=True)
def tile(context: Context, node: Operation) -> Value:
    """The whole tensor again and again along each axis."""
    x = movable(context, node)
    repeats = integers(context, node, "repeats", 1) or []
    if len(repeats) != len(x.shape) or min(repeats, default=1) < 1:
        raise Refused(f"its repeats {repeats} don't fit its input's {len(x.shape)} axes")
    check_size([s * r for s, r in zip(x.shape, repeats, strict=True)])
    for axis, count in enumerate(repeats):
        x = pick(context, x, axis, np.tile(np.arange(x.shape[axis]), count))
    return x


@lowers("Expand", kind=MOVERS, curves=True)
def expand(context: Context, node: Operation) -> Value:
    """Broadcast to a shape."""
    x = movable(context, node)
    wanted = integers(context, node, "shape", 1)
    if wanted is None:
        raise Refused("it has no shape")
    shape = np.broadcast_shapes(x.shape, tuple(wanted))
    check_size(shape)
    x = reshape_to(context, x, [1] * (len(shape) - len(x.shape)) + list(x.shape))
    for axis, size in enumerate(shape):
        if x.shape[axis] != size:
            x = pick(context, x, axis, np.zeros(size, np.int64))
    return x
