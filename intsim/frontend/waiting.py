"""Numbers that are moved, joined or pooled before a quantizer rounds them.

A quantizer gives equal numbers equal codes and never falls, so it may as well stand in front of whatever only moves
numbers, or takes the largest of some. Where these have no common integers (two accumulators side by side, functions of
some), they are `Waiting` for that quantizer: it rounds each part by itself, and the codes are moved as the file moves
the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from intsim.frontend.context import Context, Meaning, Quantizer, Refused
from intsim.frontend.expression import ONE, ZERO, Const, Curve, Expr, Fixed, Shape, Value, Waiting, as_codes, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import CURVES, HANDLERS, MOVERS, Handler
from intsim.graph import IntegerGraph, Tensor
from intsim.ops import LAYER_ENDS

Part = Expr | Curve | Waiting
Choose = Callable[[Operation, Sequence[Part]], Handler | None]
GROWING = ("Relu", "Clip", "HardTanh", "Sigmoid", "Tanh", "Erf", "Floor", "Ceil", "Round", "Cast")
"""Functions that never fall: the largest of some numbers goes through them."""
SAME = ("Identity", "Dropout")
UNROUNDED = "it reads numbers that were joined or moved before a quantizer rounded them; put a quantizer in front"


def handler(op: Operation, choose: Choose) -> Handler | None:
    """What lowers a node that reads a `Waiting`; `choose` says what lowers it where it reads a part instead.

    None for an operator that computes with several of the numbers.
    """
    if op.op == "Concat":
        return HANDLERS["Concat"]
    if op.op in SAME:
        return lambda context, node: context.value(node.inputs[0])
    if op.op in ("ReduceMax", "ReduceMin"):  # of codes they are none: the least is that of negative numbers
        return None
    if op.op in ("Resize", "Upsample") and op.attributes.get("mode", "nearest") != "nearest":
        return None
    if op.op in MOVERS or op.op in ("Resize", "Upsample"):
        return moved
    if op.op not in CURVES:
        return None
    return partial(_of_parts, choose)


def joined(context: Context, parts: Sequence[Part], axis: int, join: Callable[[Sequence[Expr]], Expr]) -> Waiting:
    """Parts side by side; `join` does it with codes."""
    shape = list(parts[0].shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    picks = any(isinstance(p, Waiting) and p.picks for p in parts)
    return Waiting(tuple(shape), tuple(parts), join, axis, picks)


def moved(context: Context, node: Operation) -> list[Value]:
    """A node that moves its first input, or takes the largest of some of it: each of its outputs."""
    part = context.value(node.inputs[0])
    if not isinstance(part, Expr | Curve | Waiting):
        raise Refused(UNROUNDED)
    picks = node.op.endswith("MaxPool") or (isinstance(part, Waiting) and part.picks)

    def again(at: int, codes: Sequence[Expr]) -> Expr:
        with _held(context, {node.inputs[0]: codes[0]}):
            made = _outputs(HANDLERS[node.op](context, node))[at]
        assert isinstance(made, Expr)
        alike = made.linear and (made.scale == codes[0].scale).all() and (made.offset == codes[0].offset).all()
        if not alike:  # what it makes of codes stands for other numbers than they do
            raise Refused(UNROUNDED)
        return made

    shapes = _shapes(context, node, part.shape)
    return [Waiting(shape, (part,), partial(again, i), None, picks) for i, shape in enumerate(shapes)]


def rounded(
    context: Context,
    value: Waiting,
    quantizer: Quantizer,
    onnx: str | None,
    meaning: Meaning | None,
    quantize: Callable[[Expr | Curve, Quantizer, Meaning | None], Expr],
) -> Expr:
    """Codes of a `Waiting`, arguments as of `Context.quantize`; `quantize` makes those of a part.

    Raises Refused for a quantizer of several scales behind what isn't parts side by side alone.
    """
    known: dict[object, Expr] = {}

    def codes(part: Part, q: Quantizer, m: Meaning | None) -> Expr:
        # a part may lie in several places, each with scales of its own
        key = id(part), *((p.shape, *p.flat) for p in (q.scale, q.before, *(m or ())))
        if key not in known:
            if isinstance(part, Waiting):
                own = _split(part, q, m)
                known[key] = part.rebuild([codes(p, *o) for p, o in zip(part.parts, own, strict=True)])
            else:
                known[key] = quantize(part, q, m)
        return known[key]

    made = codes(value, quantizer, meaning)
    maker, tensor = context.producer(made.tensor), context.graph.tensors[made.tensor]
    context.graph.tensors[made.tensor] = replace(tensor, onnx=onnx, type=quantizer.kind)
    if maker is not None and maker.op not in LAYER_ENDS:
        context.replace(maker, replace(maker, attributes={**maker.attributes, "rounded": True}))
    context.stated.add(made.tensor)
    return made


def _split(value: Waiting, q: Quantizer, meaning: Meaning | None) -> list[tuple[Quantizer, Meaning | None]]:
    """The quantizer of each part."""
    every = [q.scale, q.before, *(meaning or ())]
    if all(p.size == 1 for p in every):
        return [(q, meaning)] * len(value.parts)
    if value.axis is None:
        raise Refused("its input was moved before it is rounded by a scale for each channel; quantize it before that")
    own: list[tuple[Quantizer, Meaning | None]] = []
    for first, last in _places(value):
        scale, before, *rest = (_cut(spread(p, len(value.shape)), value.axis, first, last) for p in every)
        own.append((replace(q, scale=scale, before=before), (rest[0], rest[1]) if rest else None))
    return own


def _of_parts(choose: Choose, context: Context, node: Operation) -> Waiting:
    """An elementwise function of joined or moved numbers is one of each part."""
    values = {n: context.value(n) for n in node.inputs if n}
    waiting = [v for v in values.values() if isinstance(v, Waiting)]
    first, others = waiting[0], [v for v in values.values() if not isinstance(v, Waiting)]
    apart = any(w.axis is None or w.axis != first.axis or _places(w) != _places(first) for w in waiting[1:])
    if apart or not all(isinstance(v, Const | Fixed) for v in others) or (first.picks and node.op not in GROWING):
        raise Refused(UNROUNDED)
    parts: list[Part] = []
    for i, place in enumerate(_places(first)):
        own = {
            n: v.parts[i] if isinstance(v, Waiting) else _constant(node, v, first, *place) for n, v in values.items()
        }
        with _held(context, own):
            lowers = choose(node, [v for v in own.values() if isinstance(v, Expr | Curve | Waiting)])
            made = None if lowers is None else _outputs(lowers(context, node))[0]
        if not isinstance(made, Expr | Curve | Waiting) or made.shape != first.parts[i].shape:
            raise Refused(UNROUNDED)
        parts.append(made)
    return replace(first, parts=tuple(parts))


def _constant(node: Operation, value: Value, whole: Waiting, first: int, last: int) -> Const | Fixed:
    """What of a constant belongs to a part."""
    assert isinstance(value, Const | Fixed)
    if max(value.shape, default=1) == 1:
        return value
    axis = None if whole.axis is None else whole.axis - len(whole.shape) + len(value.shape)
    if node.op == "BatchNormalization" and whole.axis == 1 and not node.channels_last:
        axis = 0
    if axis is None or (axis >= 0 and value.shape[axis] not in (1, whole.shape[whole.axis or 0])):
        raise Refused(UNROUNDED)
    if axis < 0:
        return value
    if isinstance(value, Const):
        return Const(_cut(value.array, axis, first, last))
    scale, offset = (_cut(spread(v, len(value.shape)), axis, first, last) for v in (value.scale, value.offset))
    return Fixed(_cut(value.codes, axis, first, last), scale, offset, value.type)


def _cut(array: np.ndarray, axis: int, first: int, last: int) -> np.ndarray:
    return array if array.shape[axis] == 1 else array.take(range(first, last), axis=axis)


def _places(value: Waiting) -> list[tuple[int, int]]:
    """Where parts begin and end along the axis along which they lie side by side."""
    if value.axis is None:
        return [(0, 0)] * len(value.parts)
    ends = np.cumsum([p.shape[value.axis] for p in value.parts]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _shapes(context: Context, node: Operation, shape: Shape) -> list[Shape]:
    """Shapes of what a node makes of integers of a shape."""
    graph = IntegerGraph("shapes", {"x": Tensor("x", shape, 0, 1, ONE, ZERO)})
    scratch = replace(
        context, graph=graph, values={**context.values, node.inputs[0]: as_codes("x", shape)}, positions={}
    )
    made = _outputs(HANDLERS[node.op](scratch, node))
    if not all(isinstance(v, Expr) for v in made):
        raise Refused(UNROUNDED)
    return [v.shape for v in made if isinstance(v, Expr)]


def _outputs(made: Value | Sequence[Value]) -> list[Value]:
    return list(made) if isinstance(made, Sequence) else [made]


@contextmanager
def _held(context: Context, values: Mapping[str, Value]) -> Iterator[None]:
    """Tensors of the file that are these values meanwhile."""
    before = {n: context.values[n] for n in values}
    context.values.update(values)
    try:
        yield
    finally:
        context.values.update(before)
