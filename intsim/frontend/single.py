"""The one operator that stands between codes and their quantizer, as the file has it, where constants belong to it.

Lowering folds constants into the pieces of a requantizer or into a table, where their codes, scales, sides and shapes
are lost. A kernel of a runtime computes with them. So the node keeps them beside, in the attribute `operation` and the
array `constant` (docs/ir.md, section Requantize), which exact arithmetic doesn't look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.bias import SAME_NUMBERS
from intsim.frontend.context import Context, Quantizer
from intsim.frontend.expression import Const, Expr, Fixed, Value, narrow, scalar
from intsim.frontend.reader import Operation
from intsim.frontend.registry import QUANTIZERS
from intsim.graph import IntArray, Rationals, rational_text

BINARY = ("Add", "Sub", "Mul", "Div", "Pow")
CLAMPS = ("Relu", "Clip")
Edges = tuple[float | None, float | None]
"""Least and greatest number that a Relu or a Clip leaves."""


@dataclass(frozen=True)
class Single:
    """An operator of codes: its operands in the file's order, of which one is no constant; its parameters, of float32.

    `behind` are the edges of each Relu and Clip between it and the quantizer.
    """

    op: str
    operands: Sequence[Value]
    parameters: tuple[float | None, ...] = ()
    behind: tuple[Edges, ...] = ()


def remember(context: Context, made: Expr, quantizer: Quantizer, single: Single | None) -> None:
    """Keep the operator on the node that made these codes; nothing where it can't be said in full.

    Zero points are integers, scales one a tensor, ties go to even, and constants are codes of a type or float32.
    """
    node = context.producer(made.tensor)
    result = _line(quantizer.scale, quantizer.meaning[1])
    usual = quantizer.rounding == "half_even" and quantizer.bounds is not None
    if single is None or node is None or result is None or not usual:
        return
    operands = [_operand(context, v) for v in single.operands]
    ends = _ends(quantizer, single.behind)
    constants = [v for v in single.operands if isinstance(v, Const | Fixed)]
    if any(o is None for o in operands) or ends is None or len(operands) - len(constants) != 1:
        return
    about: dict[str, Any] = {"op": single.op, "operands": operands, "result": result, "ends": ends}
    about["tensor"] = next(i for i, v in enumerate(single.operands) if isinstance(v, Expr))
    about["cut"] = ends != list(quantizer.bounds or ())
    if single.parameters:
        about["parameters"] = list(single.parameters)
    arrays = dict(node.arrays)
    for value in constants:
        array = _array(value)
        array = narrow(array.reshape((1,) * (len(made.shape) - array.ndim) + array.shape))
        if np.broadcast_shapes(array.shape, tuple(node.attributes["cells"])) != tuple(node.attributes["cells"]):
            return
        arrays["constant"] = array
    context.replace(node, replace(node, attributes={**node.attributes, "operation": about}, arrays=arrays))


def before(context: Context, node: Operation) -> Single | None:
    """The operator in front of a quantizer, if it is a single one that reads codes and constants."""
    name = node.inputs[0]
    behind: list[Edges] = []
    while (maker := _only_maker(context, name)) is not None:
        if any(n and n not in context.values for n in maker.inputs):
            return None  # of nodes that were lowered together as something else
        codes = [i for i, n in enumerate(maker.inputs) if n and _stands_for_codes(context, n)]
        values = [context.values[n] for n in maker.inputs if n]
        if (switched := _switched(context, maker)) is not None:
            return Single("HardSwish", [context.values[switched]], behind=tuple(behind))
        if maker.op in BINARY and len(values) == 2:
            sides = [v for v in values if isinstance(v, Const | Fixed | Expr)]
            known = all(isinstance(v, Const) or i in codes for i, v in enumerate(values))
            return Single(maker.op, sides, behind=tuple(behind)) if known and len(sides) == 2 else None
        if maker.op == "HardSigmoid" and codes == [0]:
            given = (float(np.float32(maker.attributes.get(n, d))) for n, d in (("alpha", 0.2), ("beta", 0.5)))
            return Single(maker.op, values[:1], tuple(given), tuple(behind))
        edges = _edges(context, maker)
        if edges is None:
            return None
        if codes == [0]:
            return Single("Clip", values[:1], edges, tuple(behind)) if maker.op == "Clip" else None
        behind.append(edges)
        name = maker.inputs[0]
    return None


def _switched(context: Context, product: Operation) -> str | None:
    """The codes of a HardSwish that a file has as a HardSigmoid and a Mul, as ONNX Runtime writes it."""
    for name, other in (product.inputs[:2], product.inputs[1::-1]) if product.op == "Mul" else ():
        gate = _only_maker(context, other)
        if (
            gate is not None
            and gate.op == "HardSigmoid"
            and gate.inputs[0] == name
            and _stands_for_codes(context, name)
        ):
            alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
            return name if (np.float32(alpha), beta) == (np.float32(1 / 6), 0.5) else None
    return None


def _only_maker(context: Context, name: str) -> Operation | None:
    """The node that makes a tensor which one node reads and nobody else sees."""
    alone = len(context.model.readers.get(name, ())) == 1 and name not in context.model.outputs
    return context.model.makers.get(name) if alone else None


def _stands_for_codes(context: Context, name: str) -> bool:
    """Whether a tensor is dequantized codes; those of a tensor that is no constant may be moved."""
    maker = context.model.makers.get(name)
    while maker is not None and maker.op in SAME_NUMBERS and isinstance(context.values.get(name), Expr):
        name = maker.inputs[0]
        maker = context.model.makers.get(name)
    return maker is not None and (maker.op == "DequantizeLinear" or maker.op in QUANTIZERS)


def _edges(context: Context, node: Operation) -> Edges | None:
    """What a Relu or a Clip leaves; None for another operator, or edges that aren't single constants."""
    if node.op == "Relu":
        return 0.0, None
    if node.op != "Clip":
        return None
    edges: list[float | None] = []
    for position, name in ((1, "min"), (2, "max")):
        given = node.attributes.get(name)
        if node.optional(position):
            value = context.values.get(node.inputs[position])
            if not isinstance(value, Const) or value.array.size != 1:
                return None
            given = value.array.item()
        edges.append(float(np.float32(given)) if given is not None and np.isfinite(given) else None)
    return edges[0], edges[1]


def _ends(quantizer: Quantizer, behind: Sequence[Edges]) -> list[int] | None:
    """Least and greatest code behind these edges."""
    assert quantizer.bounds is not None
    low, high = quantizer.bounds
    step, shift = scalar(quantizer.scale), scalar(quantizer.before)
    if step is None or shift is None:
        return None
    for least, most in behind:
        if least is not None:
            low = min(max(low, quantizer.code(Fraction(least) / step + shift)), high)
        if most is not None:
            high = max(min(high, quantizer.code(Fraction(most) / step + shift)), low)
    return [low, high]


def _line(scale: Rationals, offset: Rationals) -> list[Any] | None:
    """`[scale, zero point]`; None where these aren't one for the tensor, or the zero point is no integer."""
    one, shift = scalar(scale), scalar(offset)
    if one is None or shift is None or one <= 0 or (shift / one).denominator != 1:
        return None
    return [rational_text(one), int(-shift / one)]


def _operand(context: Context, value: Value) -> dict[str, Any] | None:
    """An operand as the node keeps it; None for one that is neither codes nor a float32 constant."""
    if isinstance(value, Const):
        plain = value.array.dtype == np.float32 and np.isfinite(value.array).all()
        return {"shape": list(value.shape)} if plain else None
    kind: IntegerType | None = None
    line = None
    if isinstance(value, Fixed):
        kind, line = value.type, _line(value.scale, value.offset)
    elif isinstance(value, Expr) and value.linear:
        kind, line = context.graph.tensors[value.tensor].type, _line(value.scale, value.offset)
    if kind is None or line is None:
        return None
    assert isinstance(value, Fixed | Expr)
    return {"shape": list(value.shape), "codes": line, "type": {"bits": kind.bits, "signed": kind.signed}}


def _array(value: Const | Fixed) -> IntArray:
    """A constant's codes; of a float32 constant the bits."""
    if isinstance(value, Fixed):
        return value.codes.astype(np.int64)
    return np.ascontiguousarray(value.array).view(np.int32).astype(np.int64)
