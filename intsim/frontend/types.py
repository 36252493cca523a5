"""The ONNX element type of every tensor of a file: integers wrap, floats stand for real numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper

from intsim.frontend.context import Refused
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import Operation, SourceModel
from intsim.frontend.registry import MOVERS, QUANTIZERS

INTEGERS = frozenset(ONNX_INTEGERS) - {TensorProto.BOOL}
"""Element types of integers; bool is none of them, it has no arithmetic."""
FLOATS = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16))


def type_name(element: int) -> str:
    """`int8`, `float`, ... as ONNX spells it."""
    return TensorProto.DataType.Name(element).lower()


def limits(element: int) -> tuple[int, int]:
    """Smallest and largest value of an integer element type."""
    bits, signed = ONNX_INTEGERS[element]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def element_types(model: SourceModel) -> dict[str, int]:
    """Element type of every tensor, by ONNX's own signatures; tensors of operators that have none are left out."""
    types = {n: element for n, (_, element) in model.inputs.items() if element}
    types |= {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in model.constants.items()}
    for op in model.operations:
        made = [_stated(op, types)] if op.domain != "" or op.op in STATED else _by_signature(op, types, model.opset)
        types.update({n: t for n, t in zip(op.outputs, made, strict=False) if n and t})
    return types


STATED = {"Cast", "Constant", "ConstantOfShape", "DequantizeLinear", "EyeLike", "QuantizeLinear", "HardTanh"}
"""Operators of which attributes, or the absence of an input, tell the type."""


def _stated(op: Operation, types: dict[str, int]) -> int | None:
    """Type of the first output of such an operator, or of one of another domain."""
    at, first = op.attributes, types.get(op.inputs[0]) if op.inputs else None
    if op.domain not in ("", "com.microsoft"):
        return first if op.channels_last else TensorProto.FLOAT
    if op.op == "QuantizeLinear":
        zero = op.optional(2)
        return types.get(zero) if zero else int(at.get("output_dtype", 0)) or TensorProto.UINT8
    if op.op == "DequantizeLinear":
        return TensorProto.FLOAT
    if op.domain != "":
        return _of_qoperator(op, types)
    if op.op == "Cast":
        return int(at.get("to", TensorProto.FLOAT))
    if op.op == "EyeLike":
        return int(at.get("dtype", 0)) or first
    if op.op == "HardTanh":
        return first
    for name, value in at.items():
        if name == "value":
            return helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
        if name in ("value_int", "value_ints"):
            return TensorProto.INT64
    return TensorProto.FLOAT


OUTPUT_ZERO = {"QLinearConcat": 1, "QLinearAdd": 7, "QLinearMul": 7, "QLinearWhere": 8, "QGemm": 8}
"""Where operators of `QOPERATORS` have the output's zero point, if not at 4."""


def _of_qoperator(op: Operation, types: dict[str, int]) -> int | None:
    """Type of what one of `QOPERATORS` makes: that of its output's zero point, else its first input's."""
    at = OUTPUT_ZERO.get(op.op, 4)
    if len(op.inputs) > at and op.inputs[at]:
        return types.get(op.inputs[at])
    return int(TensorProto.FLOAT) if op.op == "QGemm" else types.get(op.inputs[0]) if op.inputs else None


@cache
def _schema(op: str, opset: int) -> onnx.defs.OpSchema | None:
    for version in (max(opset, 7), onnx.defs.onnx_opset_version()):
        try:
            return onnx.defs.get_schema(op, version, "")
        except onnx.defs.SchemaError:
            continue
    return None


def _variadic(formal: list[onnx.defs.OpSchema.FormalParameter], count: int) -> list[onnx.defs.OpSchema.FormalParameter]:
    """The parameters of `count` actual arguments: the last formal one takes all that follow, if it may."""
    if formal and formal[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic:
        return formal + [formal[-1]] * (count - len(formal))
    return formal


def _allowed(schema: onnx.defs.OpSchema, text: str) -> list[str]:
    """The types that a type parameter may be, or the one type that it is."""
    constrained = [list(c.allowed_type_strs) for c in schema.type_constraints if c.type_param_str == text]
    return constrained[0] if constrained else [text]


def _by_signature(op: Operation, types: dict[str, int], opset: int) -> list[int | None]:
    """Type of each output: that of an input which shares its type parameter, or the only one there is."""
    schema = _schema(op.op, opset)
    if schema is None:
        return [None] * len(op.outputs)
    inputs = zip(op.inputs, _variadic(list(schema.inputs), len(op.inputs)), strict=False)
    bound = {f.type_str: types[n] for n, f in reversed(list(inputs)) if n in types}
    made: list[int | None] = []
    for formal in _variadic(list(schema.outputs), len(op.outputs))[: len(op.outputs)]:
        allowed = _allowed(schema, formal.type_str)
        only = allowed[0].removeprefix("tensor(").removesuffix(")").upper() if len(allowed) == 1 else ""
        number = dict(TensorProto.DataType.items()).get(only)
        made.append(bound.get(formal.type_str, number))
    return made


def check_types(op: Operation, types: dict[str, int]) -> None:
    """Refuse a node of standard operators whose integer inputs ONNX has no meaning for.

    That are types which no version of the operator computes with, and different types where it wants one. Quantizers
    check their own inputs.
    """
    schema = _schema(op.op, onnx.defs.onnx_opset_version()) if op.domain == "" else None
    if schema is None or op.op in QUANTIZERS or op.op == "DequantizeLinear":
        return
    seen: dict[str, int] = {}
    for name, formal in zip(op.inputs, _variadic(list(schema.inputs), len(op.inputs)), strict=False):
        element = types.get(name)
        if element is None:
            continue
        if (
            op.op not in MOVERS
            and element in INTEGERS
            and f"tensor({type_name(element)})" not in _allowed(schema, formal.type_str)
        ):
            raise Refused(f"its input {name} is {type_name(element)}, which ONNX's {op.op} doesn't take; cast it")
        other = seen.setdefault(formal.type_str, element)
        mixed = other != element and {other, element} & INTEGERS and formal.is_homogeneous
        if mixed:
            raise Refused(f"it mixes {type_name(other)} with {type_name(element)}, and ONNX wants one type; cast one")
