"""Elementwise functions of one integer tensor: collected until a quantizer makes a table of them (`tables.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.frontend.context import ZERO, Context, Refused, as_real
from intsim.frontend.elementwise import affine, expression, sum_, sum_of
from intsim.frontend.expression import Applied, Const, Curve, Expr, Fixed, Step, Value, compress, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import CURVES, HANDLERS, QUANTIZERS, lowers, of_curves, on_host_as
from intsim.frontend.types import FLOATS, INTEGERS
from intsim.graph import Rationals, rationals
from intsim.ops.table import MOST_CODES

SOURCE = Applied("source")
BINARY = {
    "Add": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "Max": "maximum",
    "Min": "minimum",
}


def as_curve(context: Context, value: Expr | Curve) -> Curve:
    """An expression of one tensor as a function of that tensor's integers."""
    if isinstance(value, Curve):
        return value
    if len(value.terms) != 1:
        names = " and ".join(context.graph.tensors[n].onnx or n for n, _ in value.terms)
        raise Refused(f"it is a function of {names} together; quantize what it reads, so that it is one tensor")
    tensor, scale = value.terms[0]
    plain = scale.size == 1 and scale.reshape(-1)[0] == 1 and not any(value.offset.reshape(-1))
    function = SOURCE if plain else Applied("affine", (SOURCE,), (scale, value.offset))
    for step in value.steps:
        function = Applied(step.kind, (function,), step.values)
    return Curve(value.shape, tensor, function)


def then(context: Context, node: Operation, name: str, *parameters: Rationals | Fraction | float) -> Curve:
    """The node's function `name` of its first input."""
    value = context.value(node.inputs[0])
    if not isinstance(value, Expr | Curve):
        raise Refused(f"its input {node.inputs[0]} is a float that no quantizer made an integer")
    x = as_curve(context, value)
    rank = len(x.shape)
    spreads = tuple(spread(p if isinstance(p, np.ndarray) else rationals(p), rank) for p in parameters)
    return replace(x, function=Applied(name, (x.function,), spreads, node.label), made_by=(*x.made_by, node.op))


def single(node: Operation, name: str, default: float) -> Fraction:
    """A float32 attribute, exactly."""
    return Fraction(float(np.float32(node.attributes.get(name, default))))


PLAIN = {
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Sin": "sin",
    "Cos": "cos",
    "Erf": "erf",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Mish": "mish",
    "HardSwish": "hard_swish",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
}
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
    return _divided(context, node, rationals(1), ())


@lowers("Pow", curves=True)
def power(context: Context, node: Operation) -> Value:
    """x to a constant exponent."""
    if not isinstance(context.value(node.inputs[1]), Const | Fixed):
        raise Refused("its exponent is not a constant")
    exponent = context.value(node.inputs[1])
    assert isinstance(exponent, Const | Fixed)
    value = context.value(node.inputs[0])
    if not isinstance(value, Expr | Curve):
        raise Refused("its base is a constant; only a constant exponent is supported")
    x = as_curve(context, value).grown(exponent.shape)
    real = compress(spread(as_real(exponent), len(x.shape)))
    return replace(x, function=Applied("power", (x.function,), (real,), node.label), made_by=(*x.made_by, node.op))


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
        out = _edged(out, node, as_real(v), v.shape)
    return out


def _edged(x: Expr, node: Operation, real: Rationals, shape: tuple[int, ...]) -> Expr:
    """`max(x, real)` or `min(x, real)` for constant rationals of an ONNX constant of that shape."""
    wide = np.broadcast_shapes(x.shape, shape)
    edge = spread(real, len(wide))
    return x.stepped(wide, node, Step("clamp", (edge, None) if node.op == "Max" else (None, edge)))


@of_curves("Add", "Sub", "Mul", "Div")
def of_two(context: Context, node: Operation) -> Value | Sequence[Value]:
    """With a constant what becomes of an expression; two functions of one tensor by `binary`."""
    values = [context.value(n) for n in node.inputs]
    if not any(isinstance(v, Const | Fixed) for v in values):
        return binary(context, node)
    if node.op == "Div" and isinstance(values[0], Const | Fixed):
        return _divided(context, node, as_real(values[0]), values[0].shape)
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
    shape = np.broadcast_shapes(*(v.shape for v in values if isinstance(v, Const | Fixed | Expr | Curve)))
    curves = [as_curve(context, v) for v in values if isinstance(v, Expr | Curve)]
    for curve in curves[1:]:
        if curve.tensor != curves[0].tensor:
            raise Refused(_two_tensors(context, node, curves[0], curve))
    operands = []
    for value in values:
        if isinstance(value, Const | Fixed):
            real = compress(spread(as_real(value), len(shape)))
            operands.append(Applied("constant", (), (real,), node.label))
        elif isinstance(value, Expr | Curve):
            operands.append(as_curve(context, value).grown(shape).function)
    out = operands[0]
    for operand in operands[1:]:
        same = operand is out and node.op == "Mul"
        name = BINARY.get(node.op, "add")  # Sum, and the sum of a Mean
        out = Applied("square", (out,), (), node.label) if same else Applied(name, (out, operand), (), node.label)
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


@on_host_as("Mean")
def mean_of_arrays(*operands: np.ndarray, **_: object) -> np.ndarray:
    """ONNX's reference adds in place, which can't grow the first operand."""
    return np.asarray(sum(operands) / len(operands))


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
    value = context.value(node.inputs[-1])
    if not isinstance(value, Expr | Curve):
        raise Refused(f"its input {node.inputs[-1]} is a float that no quantizer made an integer")
    x = as_curve(context, value).grown(shape)
    numerator = Applied("constant", (), (compress(spread(real, len(x.shape))),), node.label)
    function = Applied("divide", (numerator, x.function), (), node.label)
    return replace(x, function=function, made_by=(*x.made_by, node.op))


def closes(context: Context, node: Operation, tensor: str) -> bool:
    """Whether every path from a node, through functions of `tensor` alone, ends in a quantizer.

    Then two branches of one tensor that meet may become a table; elsewhere their exact product or sum goes on.
    """
    waiting, inside = [o for o in node.outputs if o], {o for o in node.outputs if o}
    while waiting:
        name = waiting.pop()
        readers = [op for op in context.model.operations if name in op.inputs]
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
        return len(value.terms) == 1 and value.terms[0][0] == tensor
    return isinstance(value, Const | Fixed)


def meeting(context: Context, node: Operation) -> bool:
    """Whether expressions of one tensor meet in what only a table holds.

    That is a quotient by one, or a product of two of at most 16 bits that a quantizer rounds.
    """
    if node.op not in ("Mul", "Div"):
        return False
    x, y = (context.values.get(n) for n in node.inputs[:2])
    if node.op == "Div" and isinstance(y, Expr) and len(y.terms) == 1:
        return _belongs(x, y.terms[0][0])
    if not (isinstance(x, Expr) and isinstance(y, Expr) and len(x.terms) == len(y.terms) == 1):
        return False
    tensor = context.graph.tensors[x.terms[0][0]]
    small = tensor.high - tensor.low < MOST_CODES
    return small and y.terms[0][0] == tensor.name and closes(context, node, tensor.name)
