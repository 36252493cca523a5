"""Elementwise functions of one integer tensor: collected until a quantizer makes a table of them (`tables.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.elementwise import affine, expression, operand, sum_, sum_of
from intsim.frontend.expression import (
    ONE,
    ZERO,
    Applied,
    Const,
    Curve,
    Expr,
    Fixed,
    Step,
    Value,
    compress,
    scalar,
    spread,
)
from intsim.frontend.reader import Operation
from intsim.frontend.registry import CURVES, HANDLERS, QUANTIZERS, lowers, of_curves
from intsim.frontend.types import FLOATS, INTEGERS
from intsim.graph import Rationals, rationals

SOURCE = Applied("source")
BINARY = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum"}


def as_curve(context: Context, value: Expr | Curve) -> Curve:
    """An expression of one tensor as a function of that tensor's integers."""
    if isinstance(value, Curve):
        return value
    if len(value.terms) != 1:
        names = " and ".join(context.graph.tensors[n].onnx or n for n, _ in value.terms)
        raise Refused(f"it is a function of {names} together; quantize what it reads, so that it is one tensor")
    plain = scalar(value.scale) == 1 and not any(value.offset.flat)
    function = SOURCE if plain else Applied("affine", (SOURCE,), (value.scale, value.offset))
    for step in value.steps:
        function = Applied(step.kind, (function,), step.values)
    return Curve(value.shape, value.tensor, function)


def then(context: Context, node: Operation, name: str, *parameters: Fraction) -> Curve:
    """The node's function `name` of its first input."""
    x = as_curve(context, operand(context, node))
    return _applied(x, node, name, (x.function,), *(spread(rationals(p), len(x.shape)) for p in parameters))


def _applied(x: Curve, node: Operation, name: str, arguments: tuple[Applied, ...], *parameters: Rationals) -> Curve:
    """What a node makes of functions of x's tensor."""
    return replace(x, function=Applied(name, arguments, parameters, node.label), made_by=(*x.made_by, node.op))


def single(node: Operation, name: str, default: float) -> Fraction:
    """A float32 attribute, exactly."""
    return Fraction(float(np.float32(node.attributes.get(name, default))))


_LOWERCASE = (
    *("Exp", "Log", "Sqrt", "Sin", "Cos", "Erf", "Tanh", "Sigmoid", "Softplus", "Softsign", "Mish"),
    *("Floor", "Ceil", "Round", "Sign"),
)
PLAIN = {"HardSwish": "hard_swish", **{name: name.lower() for name in _LOWERCASE}}
"""ONNX operators without parameters."""


@lowers(*PLAIN, curves=True)
def plain(context: Context, node: Operation) -> Value:
    """A function without parameters."""
    return then(context, node, PLAIN[node.op])


@lowers("Gelu", curves=True)
def gelu(context: Context, node: Operation) -> Value:
    """x Phi(x), or its approximation by tanh, with ONNX's 0.044715 as a decimal number."""
    form = node.attributes.get("approximate", "none")
    if form not in ("none", "tanh"):
        raise Refused(f"its attribute approximate is {form!r}; known are none and tanh")
    return then(context, node, "gelu" if form == "none" else "gelu_tanh")


@lowers("Elu", "Selu", "Celu", curves=True)
def elu(context: Context, node: Operation) -> Value:
    """alpha (e^x - 1) below zero and its kin; alpha and gamma are float32."""
    if node.op == "Selu":
        gamma = single(node, "gamma", 1.05070102214813232421875)
        return then(context, node, "elu", gamma, gamma * single(node, "alpha", 1.67326319217681884765625), Fraction(1))
    alpha = single(node, "alpha", 1.0)
    if node.op == "Celu" and alpha == 0:
        raise Refused("its alpha is zero, by which it divides")
    return then(context, node, "elu", Fraction(1), alpha, 1 / alpha if node.op == "Celu" else Fraction(1))


@lowers("ThresholdedRelu", curves=True)
def thresholded_relu(context: Context, node: Operation) -> Value:
    """x above alpha, else 0."""
    return then(context, node, "thresholded", single(node, "alpha", 1.0))


@lowers("Reciprocal", curves=True)
def reciprocal(context: Context, node: Operation) -> Value:
    """1 / x."""
    return _divided(context, node, ONE, ())


@lowers("Pow", curves=True)
def power(context: Context, node: Operation) -> Value:
    """x to a constant exponent."""
    value, exponent = (context.value(n) for n in node.inputs[:2])
    if not isinstance(exponent, Const | Fixed):
        raise Refused("its exponent is not a constant")
    if not isinstance(value, Expr | Curve):
        raise Refused("its base is a constant; only a constant exponent is supported")
    x = as_curve(context, value).grown(exponent.shape)
    return _applied(x, node, "power", (x.function,), compress(spread(exponent.real(), len(x.shape))))


@lowers("Max", "Min")
def extreme(context: Context, node: Operation) -> Value:
    """The largest or smallest: of an expression and constants a clamp, of two tensors `y + max(x - y, 0)`."""
    values = [context.value(n) for n in node.inputs]
    constants = [v for v in values if isinstance(v, Const | Fixed)]
    tensors = [expression(context, node, i) for i, v in enumerate(values) if not isinstance(v, Const | Fixed)]
    names = {n for x in tensors for n, _ in x.terms}
    if len(tensors) > 1 and len(names) == 1 and context.types.get(node.outputs[0]) not in INTEGERS:
        return binary(context, node)
    out = tensors[0]
    for other in tensors[1:]:
        out = sum_of(context, _edged(sum_of(context, out, other, -1), node, ZERO, ()), other, 1)
    for v in constants:
        out = _edged(out, node, v.real(), v.shape)
    return out


def _edged(x: Expr, node: Operation, real: Rationals, shape: tuple[int, ...]) -> Expr:
    """`max(x, real)` or `min(x, real)` for constant rationals of an ONNX constant of that shape."""
    clamp = Step("clamp", (real, None) if node.op == "Max" else (None, real))
    return x.stepped(np.broadcast_shapes(x.shape, shape), node, clamp)


@of_curves("Add", "Sub", "Mul", "Div")
def of_two(context: Context, node: Operation) -> Value | Sequence[Value]:
    """With a constant what becomes of an expression; two functions of one tensor by `binary`."""
    values = [context.value(n) for n in node.inputs]
    if not any(isinstance(v, Const | Fixed) for v in values):
        return binary(context, node)
    if node.op == "Div" and isinstance(values[0], Const | Fixed):
        return _divided(context, node, values[0].real(), values[0].shape)
    return HANDLERS[node.op](context, node)


@of_curves("Identity", "Dropout", "Cast")
def passed(context: Context, node: Operation) -> Value:
    """The same function; a Cast to an integer type would round it."""
    if node.op == "Cast" and int(node.attributes.get("to", 1)) not in FLOATS:
        raise Refused("it casts real values to integers; put a quantizer in front")
    return context.value(node.inputs[0])


@of_curves("Max", "Min", "Sum")
def binary(context: Context, node: Operation) -> Value:
    """A function of several functions of one tensor, and constants."""
    values = [context.value(n) for n in node.inputs]
    operands = [
        v if isinstance(v, Const | Fixed) else as_curve(context, operand(context, node, i))
        for i, v in enumerate(values)
    ]
    shape = np.broadcast_shapes(*(v.shape for v in operands))
    curves = [v for v in operands if isinstance(v, Curve)]
    for curve in curves[1:]:
        if curve.tensor != curves[0].tensor:
            raise Refused(_two_tensors(context, node, curves[0], curve))
    functions = [
        v.grown(shape).function if isinstance(v, Curve) else _constant(v.real(), len(shape), node) for v in operands
    ]
    out = functions[0]
    for other in functions[1:]:
        same = other is out and node.op == "Mul"
        name = BINARY.get(node.op, "add")  # Sum, and the sum of a Mean
        out = Applied("square", (out,), (), node.label) if same else Applied(name, (out, other), (), node.label)
    made_by = tuple(m for c in curves for m in c.made_by)
    return Curve(shape, curves[0].tensor, out, (*made_by, node.op))


@lowers("Mean", curves=True)
def mean(context: Context, node: Operation) -> Value:
    """The sum over the number of operands; before opset 8 nothing is broadcast."""
    operands = [context.value(n) for n in node.inputs]
    shapes = {v.shape for v in operands if isinstance(v, Const | Fixed | Expr | Curve)}
    if context.model.opset < 8 and len(shapes) > 1:
        raise Refused(f"its inputs have shapes {sorted(shapes)}, which Mean broadcasts from opset 8 on")
    functions = any(isinstance(v, Curve) for v in operands)
    total = binary(context, node) if functions else sum_(context, node)
    return affine(node, total, rationals(Fraction(1, len(operands))), ZERO)


def _two_tensors(context: Context, node: Operation, a: Curve, b: Curve) -> str:
    """Why functions of two tensors can't meet in a node, and what helps if something does."""
    names = " and ".join(context.graph.tensors[c.tensor].onnx or c.tensor for c in (a, b))
    functions = [c for c in (a, b) if c.made_by]
    if node.op in ("Max", "Min", "Div") or not functions:
        return f"{node.op} of two tensors, {names}, is not supported"
    made_by = " and ".join("-".join(dict.fromkeys(c.made_by)) for c in functions)
    return f"functions of two tensors, {names}, meet; put a quantizer behind {made_by}"


def _divided(context: Context, node: Operation, real: Rationals, shape: tuple[int, ...]) -> Curve:
    """Constants over the node's last input."""
    x = as_curve(context, operand(context, node, -1)).grown(shape)
    return _applied(x, node, "divide", (_constant(real, len(x.shape), node), x.function))


def _constant(real: Rationals, rank: int, node: Operation) -> Applied:
    return Applied("constant", (), (compress(spread(real, rank)),), node.label)


def closes(context: Context, node: Operation, tensor: str) -> bool:
    """Whether every path from a node, through functions of `tensor` alone, ends in a quantizer.

    Then two branches of one tensor that meet may become a table; elsewhere their exact product or sum goes on.
    """
    waiting, inside = [o for o in node.outputs if o], {o for o in node.outputs if o}
    while waiting:
        name = waiting.pop()
        readers = context.model.readers.get(name, [])
        if name in context.model.outputs or not readers:
            return False
        for reader in readers:
            if reader.op in QUANTIZERS and reader.op != "Trunc" and reader.inputs[0] == name:
                continue
            others = [context.values.get(n) for n in reader.inputs if n and n not in inside]
            if reader.op not in CURVES or not all(_belongs(v, tensor) for v in others):
                return False
            fresh = [o for o in reader.outputs if o and o not in inside]
            inside.update(fresh)
            waiting += fresh
    return True


def _belongs(value: Value | None, tensor: str) -> bool:
    if isinstance(value, Curve):
        return value.tensor == tensor
    if isinstance(value, Expr):
        return len(value.terms) == 1 and value.tensor == tensor
    return isinstance(value, Const | Fixed)


def meeting(context: Context, node: Operation) -> bool:
    """Whether expressions of one tensor meet in what only a table holds.

    That is a quotient by one, or a product of two that a quantizer rounds.
    """
    if node.op not in ("Mul", "Div"):
        return False
    x, y = (context.values.get(n) for n in node.inputs[:2])
    if node.op == "Div" and isinstance(y, Expr) and len(y.terms) == 1:
        return _belongs(x, y.tensor)
    if not (isinstance(x, Expr) and isinstance(y, Expr) and len(x.terms) == len(y.terms) == 1):
        return False
    return y.tensor == x.tensor and closes(context, node, x.tensor)
