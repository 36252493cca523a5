"""Arithmetic of ONNX's integer tensors: Python's integers, cut to the bits of the type.

Where ONNX doesn't say what a result is (a division by zero, the smallest integer over -1), there is none.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.call import Call, integer_range
from intsim.verification.reference.rational import each
from intsim.verification.reference.tensor import Tensor, grid


def integer_type(call: Call) -> str:
    """The type that a node's integers have: that of its first integer input."""
    return next((t.type for t in call.inputs if t is not None and t.kind == "i" and t.type), "int64")


def numbers(t: Tensor) -> np.ndarray:
    """The integers of a tensor as an object array of Python's."""
    n, s = t.integers()
    if any(f.denominator != 1 for f in s.flat):
        raise IntsimError("an integer tensor holds fractions; ONNX does not say how they are rounded")
    return each(lambda a, b: int(a) * int(b), n.astype(object), s)


def cut(values: np.ndarray, type_name: str) -> Tensor:
    """Integers of any size as a tensor of a type: the low bits, two's complement."""
    low, high = integer_range(type_name)
    inside = np.asarray(each(lambda v: (v - low) % (high - low + 1) + low, values), object)
    if high >= 2**63 and any(v >= 2**63 for v in inside.flat):
        raise IntsimError("integers beyond int64 are not evaluated")
    top = float(max((abs(v) for v in inside.flat), default=0))
    return replace(grid(inside.astype(np.int64), Fraction(1), top, "i"), type=type_name)


def typed(t: Tensor, call: Call) -> Tensor:
    """The result of an operator on integers, cut to their type if it left it."""
    if t.kind != "i" or t.poison:
        return t
    name = t.type or integer_type(call)
    if not t.on_grid:
        raise IntsimError("integers beyond 2^53 are not evaluated here")
    low, high = integer_range(name)
    if any(s != 1 for s in t.integers()[1].flat) or t.bound > min(high, -low if low else high):
        return cut(numbers(t), name)
    return replace(t, type=name)


def _towards_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _nonzero(b: np.ndarray) -> None:
    if any(v == 0 for v in b.flat):
        raise IntsimError("integer division by zero is not defined")


def _within(values: np.ndarray, call: Call, fault: str) -> np.ndarray:
    low, high = integer_range(integer_type(call))
    if any(not low <= v <= high for v in values.flat):
        raise IntsimError(f"{fault} is not defined")
    return values


def _divide(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _nonzero(b)
    return _within(each(_towards_zero, a, b), call, "the smallest integer divided by -1")


def _remainder(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _nonzero(b)
    return each((lambda x, y: x - _towards_zero(x, y) * y) if call.attr("fmod", 0) else operator.mod, a, b)


def _power(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if any(not 0 <= e <= 64 for e in b.flat):
        raise IntsimError("a power of integers has exponents from 0 to 64")
    return _within(each(operator.pow, a, b), call, "a power that leaves its integer type")


def _shift(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    bits = integer_range(integer_type(call))[1].bit_length()
    if any(not 0 <= s < bits for s in b.flat):
        raise IntsimError(f"a shift of {bits} bits by more than {bits - 1} is not defined")
    return each(operator.lshift if call.attr("direction") == "LEFT" else operator.rshift, a, b)


def _gemm(call: Call, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
    alpha, beta = (Fraction(call.attr(k, 1.0)) for k in ("alpha", "beta"))
    if alpha.denominator != 1 or beta.denominator != 1:
        raise IntsimError("integers times a fraction are not defined")
    out = (a.T if call.attr("transA", 0) else a) @ (b.T if call.attr("transB", 0) else b) * int(alpha)
    return np.asarray(out if c is None else out + c * int(beta), object)


def _reduced(call: Call) -> Tensor:
    """ReduceSum; ReduceMean, the exact sum over the count without its fraction."""
    x, rank = numbers(call.tensor(0)), len(call.tensor(0).shape)
    axes = call.integers("axes", 1)
    if not axes and call.attr("noop_with_empty_axes", 0):
        return call.tensor(0)
    axes = tuple(a % rank for a in axes or range(rank))
    total = np.asarray(x.sum(axis=axes, keepdims=bool(call.attr("keepdims", 1))), object)
    _within(total, call, "a sum of integers that leaves their type")
    count = math.prod(call.tensor(0).shape[a] for a in axes) if call.op == "ReduceMean" else 1
    return cut(each(lambda v: _towards_zero(v, count), total), integer_type(call))


def _on_all(f: Callable[..., Any]) -> Callable[[Call], Tensor]:
    """An operator from a function of the call and the Python integers of its inputs."""

    def evaluate(call: Call) -> Tensor:
        arrays = [numbers(t) for t in call.inputs if t is not None]
        return cut(np.asarray(f(call, *arrays), object), integer_type(call))

    return evaluate


def _fold(f: Callable[[int, int], int]) -> Callable[[Call], Tensor]:
    return _on_all(lambda call, *arrays: reduce(partial(each, f), arrays))


def _map(f: Callable[[int], int]) -> Callable[[Call], Tensor]:
    return _on_all(lambda call, x: each(f, x))


#: Operators on integer tensors alone; `typed` does for the others, whose exact result only has to be cut.
INTEGERS: dict[str, Callable[[Call], Tensor]] = {
    "Add": _fold(operator.add),
    "Sub": _fold(operator.sub),
    "Mul": _fold(operator.mul),
    "Max": _fold(max),
    "Min": _fold(min),
    "BitwiseAnd": _fold(operator.and_),
    "BitwiseOr": _fold(operator.or_),
    "BitwiseXor": _fold(operator.xor),
    "BitwiseNot": _map(operator.invert),
    "Neg": _map(operator.neg),
    "Abs": _map(abs),
    "Relu": _map(lambda v: max(v, 0)),
    "Sign": _map(lambda v: (v > 0) - (v < 0)),
    "Div": _on_all(_divide),
    "Mod": _on_all(_remainder),
    "Pow": _on_all(_power),
    "BitShift": _on_all(_shift),
    "Gemm": _on_all(_gemm),
    "MatMul": _on_all(lambda call, a, b: np.matmul(a, b)),
    "ReduceMean": _reduced,
    "ReduceSum": _reduced,
}


def truth(values: np.ndarray) -> Tensor:
    """Bools as a tensor."""
    return grid(np.asarray(values).astype(np.float32), Fraction(1), 1.0, "b")


def _logic(f: Callable[..., np.ndarray]) -> Callable[[Call], Tensor]:
    return lambda call: truth(f(*(t.integers()[0].astype(bool) for t in call.inputs if t is not None)))


#: Operators on bools.
LOGIC: dict[str, Callable[[Call], Tensor]] = {
    "And": _logic(np.logical_and),
    "Or": _logic(np.logical_or),
    "Xor": _logic(np.logical_xor),
    "Not": _logic(np.logical_not),
}
