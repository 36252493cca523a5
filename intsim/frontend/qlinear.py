"""ONNX Runtime's own operators on codes (domain com.microsoft): QLinearAdd and its kin, QGemm.

Each is a quantizer around an operator of ONNX: codes to numbers by one scale and zero point, the operator, and
saturate(round_half_even(y / y_scale) + y_zero_point). They become the nodes that DequantizeLinear, the operator and
QuantizeLinear become. Definitions: onnxruntime, docs/ContribOperators.md; core/graph/contrib_ops/quantization_defs.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.codes import requantized
from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.conv import to_channels_first, to_channels_last
from intsim.frontend.expression import ZERO, Const, Curve, Expr, Fixed, Value, as_codes, spread
from intsim.frontend.parameters import constant, element_type, positive_scale
from intsim.frontend.qoperator import dequantized
from intsim.frontend.reader import Operation
from intsim.frontend.registry import CURVES, HANDLERS, QUANTIZERS, lowers
from intsim.frontend.rowwise import softmax_of
from intsim.frontend.single import Single, remember
from intsim.frontend.types import type_name
from intsim.frontend.where import chosen
from intsim.graph import Rationals, rationals
from intsim.ops.table import MOST_CODES

Number = Fixed | Expr


MOST_INPUTS = {"QLinearAdd": 8, "QLinearMul": 8, "QLinearWhere": 9, "QGemm": 9}
"""Inputs that a node may have, if not 5 (QLinearConcat: any number)."""


def _check_node(context: Context, node: Operation) -> None:
    """Refuse what ONNX Runtime's schemas do: another version of the domain, more inputs, QGemm's beta."""
    version, most = context.model.opsets.get("com.microsoft", 1), MOST_INPUTS.get(node.op, 5)
    if version != 1:
        raise Refused(f"the file imports com.microsoft in version {version}; ONNX Runtime has version 1")
    if node.op != "QLinearConcat" and len(node.inputs) > most:
        raise Refused(f"it has {len(node.inputs)} inputs; {node.op} takes {most} at most")
    if node.op == "QGemm" and "beta" in node.attributes:
        raise Refused("it has an attribute beta, which QGemm doesn't")


def _scale(context: Context, node: Operation, position: int, what: str = "scale") -> np.ndarray:
    """A float32 parameter."""
    array = constant(context, node, position, what)
    if array.dtype != np.float32:
        raise Refused(f"its {what} ({node.inputs[position]}) is {array.dtype.name}; {node.op} takes float")
    return array


def _one(context: Context, node: Operation, position: int, what: str) -> np.ndarray:
    """A parameter of the whole tensor."""
    array = (_scale if what.endswith("scale") else constant)(context, node, position, what)
    if array.size != 1:
        raise Refused(f"its {what} ({node.inputs[position]}) has {array.size} values; {node.op} takes one")
    return array


def _check_type(context: Context, node: Operation, position: int, zero_at: int, whose: str = "its") -> None:
    """Refuse a zero point of another type than the codes at `position`."""
    if node.optional(zero_at):
        own, theirs = (context.types.get(node.inputs[i]) for i in (position, zero_at))
        if own is not None and theirs is not None and own != theirs:
            kinds = f"is {type_name(own)}, {whose} zero point {type_name(theirs)}"
            raise Refused(f"its input {node.inputs[position]} {kinds}; {node.op} wants one type")


def _operand(context: Context, node: Operation, position: int) -> Number:
    """The numbers of an integer input, by the scale and zero point that follow it."""
    _check_node(context, node)
    _check_type(context, node, position, position + 2)
    scale = positive_scale(_one(context, node, position + 1, "scale"))
    if node.optional(position + 2):
        _one(context, node, position + 2, "zero point")
    return dequantized(context, node, position, position + 2, scale, 0)


def _tensor(context: Context, node: Operation, position: int) -> Expr:
    """The same of an input that must not be a constant."""
    x = _operand(context, node, position)
    if not isinstance(x, Expr):
        raise Refused("its input is a constant")
    return x


@contextmanager
def _named(context: Context, node: Operation, values: Sequence[Value]) -> Iterator[tuple[str, ...]]:
    """Names under which handlers find values that no tensor of the file has."""
    names = tuple(context.fresh(f"{node.name}~real{i}") for i in range(len(values)))
    context.values.update(zip(names, values, strict=True))
    try:
        yield names
    finally:
        for name in names:
            del context.values[name]


def _operator(context: Context, node: Operation, op: str, values: Sequence[Value], **attributes: Any) -> Expr | Curve:
    """What ONNX's operator `op` makes of these numbers, by its own handler."""
    if not any(isinstance(v, Expr) for v in values):
        raise Refused("all of its tensors are constants; fold them (onnxsim, or ONNX Runtime's optimizer)")
    terms = [n for v in values if isinstance(v, Expr) for n, _ in v.terms]
    square = op == "Mul" and len(terms) == 2 and len(set(terms)) == 1
    info = context.graph.tensors[terms[0]]
    with _named(context, node, values) as names:
        inner = replace(node, op=op, domain="", inputs=names, attributes={**node.attributes, **attributes})
        # the square of a tensor of few codes is a table, as it is between QuantizeLinear and DequantizeLinear
        handler = CURVES[op] if square and info.high - info.low < MOST_CODES else HANDLERS[op]
        made = handler(context, inner)
    assert isinstance(made, Expr | Curve)
    return made


def _result(
    context: Context,
    node: Operation,
    value: Expr | Curve,
    scale_at: int,
    zero_at: int,
    like: int,
    single: Single | None = None,
    last: bool = False,
) -> Expr:
    """The codes of the output; its type is that of its zero point, or of input `like` where it has none.

    With `last` they are brought from (N, C, *spatial) to (N, *spatial, C).
    """
    scale = positive_scale(_one(context, node, scale_at, "output scale")).reshape(())
    if node.optional(zero_at):
        array = _one(context, node, zero_at, "output zero point")
        kind, zero = element_type(array), int(array.reshape(-1)[0])
    else:
        kind, zero = _kind_of(context, node, like), 0
    if node.op != "QGemm":
        _check_type(context, node, like, zero_at, "its output's")
    if kind is None:
        raise Refused("its output's zero point is not an integer")
    quantizer = Quantizer(spread(scale, len(value.shape)), ZERO, zero, "half_even", (kind.min, kind.max), kind)
    made = requantized(context, value, quantizer, None if last else node.outputs[0])
    remember(context, made, quantizer, single)
    if last:
        made = to_channels_last(context, made)
        context.graph.tensors[made.tensor] = replace(context.graph.tensors[made.tensor], onnx=node.outputs[0])
    return as_codes(made.tensor, made.shape)


def _kind_of(context: Context, node: Operation, position: int) -> IntegerType | None:
    """The declared type of an input's codes."""
    value = context.integer(node.inputs[position])
    if isinstance(value, Const):
        return element_type(value.array)
    if isinstance(value, Fixed):
        return value.type
    return context.graph.tensors[value.terms[0][0]].type


@lowers("QLinearAdd", "QLinearMul", kind=QUANTIZERS)
def qlinear_binary(context: Context, node: Operation) -> Value:
    """Sum or product, broadcast; one of both may be a constant."""
    values, op = [_operand(context, node, i) for i in (0, 3)], node.op.removeprefix("QLinear")
    return _result(context, node, _operator(context, node, op, values), 6, 7, 0, Single(op, values))


@lowers("QLinearLeakyRelu", "QLinearSigmoid", "QLinearReduceMean", kind=QUANTIZERS)
def qlinear_unary(context: Context, node: Operation) -> Value:
    """A function or a mean of one tensor; alpha, axes and keepdims are those of ONNX's operators."""
    values = [_tensor(context, node, 0)]
    return _result(context, node, _operator(context, node, node.op.removeprefix("QLinear"), values), 3, 4, 0)


@lowers("QLinearAveragePool", "QLinearGlobalAveragePool", kind=QUANTIZERS)
def qlinear_pool(context: Context, node: Operation) -> Value:
    """Averages, of (N, C, *spatial) or with channels_last of (N, *spatial, C).

    A window's divisor is ONNX's: the cells inside, with count_include_pad the padding too, never what ceil_mode adds.
    """
    if any(int(d) != 1 for d in node.attributes.get("dilations", [])):
        raise Refused(f"it has dilations, which {node.op} doesn't know")
    x, last = _tensor(context, node, 0), bool(node.attributes.get("channels_last"))
    if len(x.shape) < 3:
        raise Refused(f"its input {x.shape} has no spatial axes")
    x = to_channels_first(context, x) if last else x
    y = _operator(context, node, node.op.removeprefix("QLinear"), [x])
    assert isinstance(y, Expr)
    return _result(context, node, y, 3, 4, 0, last=last)


@lowers("QLinearSoftmax", kind=QUANTIZERS)
def qlinear_softmax(context: Context, node: Operation) -> Value:
    """Softmax of the opset that its attribute names; but an axis that is left out is always the last one."""
    if "opset" not in node.attributes:
        raise Refused("it has no attribute opset, which says what its axis means")
    axis, opset = (int(node.attributes.get(k, -1)) for k in ("axis", "opset"))
    y = softmax_of(context, _tensor(context, node, 0), axis, opset)
    return _result(context, node, y, 3, 4, 0)


@lowers("QLinearConcat", kind=QUANTIZERS)
def qlinear_concat(context: Context, node: Operation) -> Value:
    """Tensors with scales of their own side by side, brought to one scale; the inputs are triples behind the output's.

    Its first two inputs are the output's scale and zero point.
    """
    if len(node.inputs) < 5 or len(node.inputs) % 3 != 2:
        raise Refused(f"it has {len(node.inputs)} inputs, not two and three for each tensor")
    values = [_operand(context, node, i) for i in range(2, len(node.inputs), 3)]
    return _result(context, node, _operator(context, node, "Concat", values), 0, 1, 2)


@lowers("QLinearWhere", kind=QUANTIZERS)
def qlinear_where(context: Context, node: Operation) -> Value:
    """Where with a constant condition."""
    return _result(context, node, chosen(context, node, [_operand(context, node, i) for i in (1, 4)]), 7, 8, 1)


@lowers("QGemm", kind=QUANTIZERS)
def qgemm(context: Context, node: Operation) -> Value:
    """alpha (A' B' + C) with int32 C of scale a_scale * b_scale; without an output scale the number itself.

    B has one scale and zero point, or one for each column of B'.
    """
    at = node.attributes
    a = _operand(context, node, 0)
    if not isinstance(a, Expr):
        raise Refused("its input A is a constant")
    columns = 0 if at.get("transB") else 1
    _check_type(context, node, 3, 5)
    scale = positive_scale(_scale(context, node, 4))
    b = dequantized(context, node, 3, 5, scale, columns)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise Refused(f"its inputs have shapes {a.shape} and {b.shape}, not two axes each")
    if scale.size not in (1, b.shape[columns]):
        raise Refused(f"its input B has {b.shape[columns]} columns and {scale.size} scales")
    values: list[Value] = [a, b]
    if node.optional(6):
        values.append(_bias(context, node, scale))
    made = _operator(context, node, "Gemm", values, beta=1.0)
    if bool(node.optional(7)) != bool(node.optional(8)):
        raise Refused("it has one of output scale and output zero point; give both, or neither for a float output")
    return _result(context, node, made, 7, 8, 0) if node.optional(7) else made


def _bias(context: Context, node: Operation, b_scale: Rationals) -> Fixed:
    """C as numbers; alpha, which multiplies it too, is in its scale."""
    codes = constant(context, node, 6, "C")
    kind = element_type(codes)
    if kind is None:
        raise Refused(f"its C ({node.inputs[6]}) is not an integer tensor")
    alpha = rationals(np.float32(node.attributes.get("alpha", 1.0)))
    a_scale = positive_scale(_one(context, node, 1, "scale")).reshape(())
    scale = np.asarray(b_scale.reshape(-1) * a_scale * alpha, object)
    codes = np.broadcast_to(codes.astype(np.int64), np.broadcast_shapes(codes.shape, scale.shape))
    return Fixed(np.ascontiguousarray(codes), spread(scale, codes.ndim), spread(ZERO, codes.ndim), kind)
