"""Elementwise operators between quantizers: what becomes part of a requantizer."""

from __future__ import annotations

import numpy as np
import onnx

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.bias import added
from intsim.frontend.context import Context, Refused
from intsim.frontend.expression import (
    ONE,
    ZERO,
    Const,
    Curve,
    Expr,
    Fixed,
    Step,
    Value,
    compress,
    is_codes,
    scalar,
    spread,
)
from intsim.frontend.integers import as_bool
from intsim.frontend.parameters import ONNX_INTEGERS, constant
from intsim.frontend.reader import Operation
from intsim.frontend.registry import lowers
from intsim.frontend.types import FLOATS
from intsim.graph import Rationals, rationals


def expression(context: Context, node: Operation, position: int) -> Expr:
    """An input that must be an integer expression."""
    value = context.value(node.inputs[position])
    if isinstance(value, Expr):
        return value
    raise Refused(f"its input {node.inputs[position]} is a float that no quantizer made an integer")


def operand(context: Context, node: Operation, position: int = 0) -> Expr | Curve:
    """An input that must be an integer expression or a function of integers."""
    value = context.value(node.inputs[position])
    return value if isinstance(value, Curve) else expression(context, node, position)


def _pair(context: Context, node: Operation) -> tuple[Value, Value]:
    """Both operands; the second one laid along `axis` where opset 6 and earlier ask for it."""
    x, y = context.value(node.inputs[0]), context.value(node.inputs[1])
    if context.model.opset < 7 and "axis" in node.attributes and node.attributes.get("broadcast"):
        if not isinstance(y, Const | Fixed) or not isinstance(x, Expr | Curve):
            raise Refused("its axis, of opset 6, is supported for constants only; convert the file to opset 7 or later")
        axis = int(node.attributes["axis"]) % len(x.shape)
        shape = [*y.shape, *[1] * (len(x.shape) - axis - len(y.shape))]
        y = context.move(y, "reshape", {"shape": shape})
    return x, y


def affine(node: Operation, value: Value, a: Rationals, b: Rationals, other: tuple[int, ...] = ()) -> Value:
    """`a * value + b` for constant rationals; `other` is the shape of the ONNX constant they come from."""
    if isinstance(value, Fixed):
        codes = np.broadcast_to(value.codes, np.broadcast_shapes(value.codes.shape, other))
        return Fixed(np.ascontiguousarray(codes), compress(value.scale * a), compress(value.offset * a + b), value.type)
    assert isinstance(value, Expr | Curve)
    return value.stepped(np.broadcast_shapes(value.shape, other), node, Step("affine", (a, b)))


def _is_constant(value: Value, other: Value) -> bool:
    """Whether a node computes with `value` as a constant of what `other` is."""
    return isinstance(value, Const) or (isinstance(value, Fixed) and isinstance(other, Expr | Curve))


@lowers("Add", "Sub")
def add(context: Context, node: Operation) -> Value:
    """Sum or difference with a constant, or of two integer expressions."""
    x, y = _pair(context, node)
    sign = 1 if node.op == "Add" else -1
    if isinstance(y, Const | Fixed) and _is_constant(y, x):
        return added(context, node, 0, affine(node, x, ONE, y.real() * sign, y.shape))
    if isinstance(x, Const | Fixed) and _is_constant(x, y):
        return added(context, node, 1, affine(node, y, ONE * sign, x.real(), x.shape))
    return sum_of(context, expression(context, node, 0), expression(context, node, 1), sign)


def sum_of(context: Context, x: Expr, y: Expr, sign: int) -> Expr:
    """`x + sign * y` of two expressions; one that carries steps is made an integer tensor first."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    rank = len(shape)
    settled = [context.settle(side, per_cell=True) if side.steps else side for side in (x, y)]
    terms: dict[str, Rationals] = {}
    for side, factor in zip(settled, (1, sign), strict=True):
        for name, scale in side.terms:
            tensor, scale = context.broadcast(name, shape), spread(scale * factor, rank)
            terms[tensor] = scale + terms[tensor] if tensor in terms else scale
    offset = spread(settled[0].offset, rank) + spread(settled[1].offset * sign, rank)
    return Expr(shape, tuple((n, compress(s)) for n, s in terms.items()), compress(offset))


@lowers("Mul")
def mul(context: Context, node: Operation) -> Value:
    """Product with a constant, or of two integer expressions."""
    x, y = _pair(context, node)
    for value, other in ((y, x), (x, y)):
        if isinstance(value, Const | Fixed) and _is_constant(value, other):
            return affine(node, other, value.real(), ZERO, value.shape)
    left = context.settle(expression(context, node, 0), per_cell=True)
    right = context.settle(expression(context, node, 1), per_cell=True)
    (a, sa), (b, sb) = left.terms[0], right.terms[0]
    za, zb = scalar(compress(-left.offset / sa)), scalar(compress(-right.offset / sb))
    if za is None or zb is None:
        raise Refused("its inputs have a zero point for each channel; only one for the tensor is supported")
    rank = max(len(left.shape), len(right.shape))
    scale = compress(spread(sa, rank) * spread(sb, rank))
    return context.emit("mul", [a, b], scale, spread(ZERO, rank), {"zero_points": [int(za), int(zb)]})


@lowers("Div")
def div(context: Context, node: Operation) -> Value:
    """Quotient by a constant."""
    x, y = _pair(context, node)
    if not isinstance(y, Const | Fixed):
        raise Refused("it divides by a tensor; only constants can be divided by in integers")
    real = y.real()
    if any(v == 0 for v in real.reshape(-1)):
        raise Refused("it divides by zero")
    return affine(node, x, np.asarray(ONE / real, dtype=object), ZERO, y.shape)


@lowers("Neg", curves=True)
def neg(context: Context, node: Operation) -> Value:
    """Negation."""
    return affine(node, context.value(node.inputs[0]), -ONE, ZERO)


@lowers("Relu", curves=True)
def relu(context: Context, node: Operation) -> Value:
    """max(x, 0)."""
    x = operand(context, node)
    return x.stepped(x.shape, node, Step("clamp", (ZERO, None)))


@lowers("LeakyRelu", "Abs", curves=True)
def leaky_relu(context: Context, node: Operation) -> Value:
    """x where x >= 0, else alpha * x; alpha is the float32 attribute, exactly, and of Abs -1."""
    x = operand(context, node)
    alpha = -1 if node.op == "Abs" else np.float32(node.attributes.get("alpha", 0.01))
    return x.stepped(x.shape, node, Step("leaky", (rationals(alpha),)))


@lowers("PRelu", curves=True)
def prelu(context: Context, node: Operation) -> Value:
    """LeakyRelu with slopes that broadcast against x."""
    x = operand(context, node)
    slopes = context.value(node.inputs[1])
    if not isinstance(slopes, Const | Fixed):
        raise Refused("its slopes are not constant")
    if np.broadcast_shapes(x.shape, slopes.shape) != x.shape:
        raise Refused(f"its slopes of shape {slopes.shape} don't fit its input {x.shape}")
    return x.stepped(x.shape, node, Step("leaky", (slopes.real(),)))


@lowers("HardSigmoid", curves=True)
def hard_sigmoid(context: Context, node: Operation) -> Value:
    """max(0, min(1, alpha x + beta)): a requantizer holds it."""
    x = operand(context, node)
    line = tuple(rationals(np.float32(node.attributes.get(n, d))) for n, d in (("alpha", 0.2), ("beta", 0.5)))
    return x.stepped(x.shape, node, Step("affine", line), Step("clamp", (ZERO, ONE)))


@lowers("Clip", "HardTanh", curves=True)
def clip(context: Context, node: Operation) -> Value:
    """Clamp to constant bounds, from attributes (opset 6) or inputs (opset 11 on); the lower one first."""
    value = context.value(node.inputs[0])
    # a quantizer took these bounds for its own; its tensor stands for what the Clip makes, whatever its name
    if isinstance(value, Expr) and any(context.graph.tensors[n].onnx == node.outputs[0] for n, _ in value.terms):
        return value
    edges: list[Rationals | None] = []
    for position, names, sign in ((1, ("min", "min_val"), -1), (2, ("max", "max_val"), 1)):
        given = [node.attributes[n] for n in names if n in node.attributes]
        if node.optional(position):
            edges.append(_bound(constant(context, node, position, "bound"), sign * np.inf))
        elif given or node.op == "HardTanh":  # which ends at -1 and 1 where nothing is said
            edges.append(_bound(np.asarray(given[0] if given else sign, np.float32), sign * np.inf))
        else:
            edges.append(None)
    x = operand(context, node)
    return x.stepped(x.shape, node, Step("clamp", tuple(edges)))


def _bound(edge: np.ndarray, none: float) -> Rationals | None:
    """A constant bound of a clamp; the infinity `none` is no bound."""
    if edge.size == 0:
        raise Refused("its bound holds no number")
    if (edge == none).all():
        return None
    if not np.isfinite(edge).all():
        raise Refused(f"its bound {np.ravel(edge)[0]} makes no range")
    return rationals(edge)


@lowers("Sum")
def sum_(context: Context, node: Operation) -> Value:
    """Any number of operands: integers one after another, then all constants as one."""
    constants = [v for v in map(context.value, node.inputs) if isinstance(v, Const | Fixed)]
    positions = [i for i, n in enumerate(node.inputs) if not isinstance(context.value(n), Const | Fixed)]
    made = expression(context, node, positions[0])
    for i in positions[1:]:
        made = sum_of(context, made, expression(context, node, i), 1)
    if not constants:
        return made
    total, shape = sum((c.real() for c in constants), ZERO), np.broadcast_shapes(*(c.shape for c in constants))
    value = affine(node, made, ONE, total, shape)
    return added(context, node, positions[0], value) if len(positions) == 1 else value


@lowers("BatchNormalization", curves=True)
def batch_normalization(context: Context, node: Operation) -> Value:
    """(x - mean) * s * gamma + beta with s = float64(1 / sqrt(variance + epsilon)), rounded once, exact from there."""
    x = operand(context, node)
    if node.attributes.get("training_mode") or sum(map(bool, node.outputs)) > 1:
        raise Refused("it is in training mode; export the model for inference")
    gamma, beta, mean, variance = (constant(context, node, i, "parameter") for i in range(1, 5))
    axis = len(x.shape) - 1 if node.channels_last else 1
    if len(x.shape) < 2:
        raise Refused(f"its input {x.shape} has no axis of channels")
    for parameter in (gamma, beta, mean, variance):
        if parameter.shape != (x.shape[axis],):
            raise Refused(f"it has parameters of shape {parameter.shape} for {x.shape[axis]} channels of its input")
    epsilon = np.float64(np.float32(node.attributes.get("epsilon", 1e-5)))
    if (variance.astype(np.float64) + epsilon <= 0).any():
        raise Refused("its variance plus epsilon is not above zero")
    s = rationals(1.0 / np.sqrt(variance.astype(np.float64) + epsilon))
    a = s * rationals(gamma)
    b = rationals(beta) - rationals(mean) * a
    shape = [-1 if i == axis else 1 for i in range(len(x.shape))]
    return x.stepped(x.shape, node, Step("affine", (a.reshape(shape), b.reshape(shape))))


@lowers("Identity", "Dropout")
def identity(context: Context, node: Operation) -> Value:
    """Pass through."""
    return context.value(node.inputs[0])


@lowers("IsNaN")
def is_nan(context: Context, node: Operation) -> Value:
    """False: what integers stand for is a number."""
    return Const(np.zeros(expression(context, node, 0).shape, np.bool_))


@lowers("Cast")
def cast(context: Context, node: Operation) -> Value:
    """Pass through: to float nothing changes, integers wrap as other arithmetic on integers does.

    Real numbers that are cast to integers must be integers that fit.
    """
    value, to = context.value(node.inputs[0]), int(node.attributes.get("to", 1))
    if to in FLOATS or not isinstance(value, Expr):
        return value
    if to not in ONNX_INTEGERS:
        raise Refused("it casts to a type that is neither an integer nor a plain float")
    if context.types.get(node.inputs[0]) in ONNX_INTEGERS:
        return as_bool(context, value) if to == onnx.TensorProto.BOOL else value
    if not is_codes(value):
        raise Refused("it casts real values to integers; put a quantizer in front")
    kind, info = IntegerType(*ONNX_INTEGERS[to]), context.graph.tensors[value.tensor]
    if not kind.contains(info.low, info.high):
        raise Refused(f"its integers {info.low}..{info.high} don't fit {kind.name}; put a quantizer in front")
    return value
