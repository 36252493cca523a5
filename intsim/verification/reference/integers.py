"""Arithmetic of ONNX's integer tensors: Python's integers, cut to the bits of the type.

Where ONNX doesn't say what a result is (a division by zero, the smallest integer over -1), there is none.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.call import Call, integer_range
from intsim.verification.reference.rational import each
from intsim.verification.reference.tensor import Tensor, grid

__all__ = ["INTEGERS", "LOGIC", "cut", "integer_type", "numbers", "typed"]


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


def _divide(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _nonzero(b)
    out = each(_towards_zero, a, b)
    if max(out.flat, default=0) > integer_range(integer_type(call))[1]:
        raise IntsimError("the smallest integer divided by -1 is not defined")
    return out


def _remainder(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _nonzero(b)
    if call.attr("fmod", 0):
        return each(lambda x, y: x - _towards_zero(x, y) * y, a, b)
    return each(lambda x, y: x % y, a, b)


def _power(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = integer_range(integer_type(call))
    if any(not 0 <= e <= 64 for e in b.flat):
        raise IntsimError("a power of integers has exponents from 0 to 64")
    out = each(lambda x, e: x**e, a, b)
    if any(not low <= v <= high for v in out.flat):
        raise IntsimError("a power that leaves its integer type is not defined")
    return out


def _shift(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    bits = integer_range(integer_type(call))[1].bit_length()
    if any(not 0 <= s < bits for s in b.flat):
        raise IntsimError(f"a shift of {bits} bits by more than {bits - 1} is not defined")
    if call.attr("direction") == "LEFT":
        return each(lambda x, s: x << s, a, b)
    return each(lambda x, s: x >> s, a, b)


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
    low, high = integer_range(integer_type(call))
    if any(not low <= v <= high for v in total.flat):
        raise IntsimError("a sum of integers that leaves their type is not defined")
    count = math.prod(call.tensor(0).shape[a] for a in axes) if call.op == "ReduceMean" else 1
    return cut(each(lambda v: _towards_zero(v, count), total), integer_type(call))


def _on_all(f: Callable[..., Any]) -> Callable[[Call], Tensor]:
    """An operator from a function of the call and the Python integers of its inputs."""

    def operator(call: Call) -> Tensor:
        arrays = [numbers(t) for t in call.inputs if t is not None]
        return cut(np.asarray(f(call, *arrays), object), integer_type(call))

    return operator


def _fold(f: Callable[[int, int], int]) -> Callable[[Call], Tensor]:
    def folded(call: Call, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
        for other in others:
            first = each(f, first, other)
        return first

    return _on_all(folded)


#: Operators on integer tensors alone; `typed` does for the others, whose exact result only has to be cut.
INTEGERS: dict[str, Callable[[Call], Tensor]] = {
    "Add": _fold(lambda x, y: x + y),
    "Sub": _fold(lambda x, y: x - y),
    "Mul": _fold(lambda x, y: x * y),
    "Max": _fold(max),
    "Min": _fold(min),
    "BitwiseAnd": _fold(lambda x, y: x & y),
    "BitwiseOr": _fold(lambda x, y: x | y),
    "BitwiseXor": _fold(lambda x, y: x ^ y),
    "BitwiseNot": _on_all(lambda call, x: each(lambda v: ~v, x)),
    "Neg": _on_all(lambda call, x: each(lambda v: -v, x)),
    "Abs": _on_all(lambda call, x: each(abs, x)),
    "Relu": _on_all(lambda call, x: each(lambda v: max(v, 0), x)),
    "Sign": _on_all(lambda call, x: each(lambda v: (v > 0) - (v < 0), x)),
    "Div": _on_all(_divide),
    "Mod": _on_all(_remainder),
    "Pow": _on_all(_power),
    "BitShift": _on_all(_shift),
    "Gemm": _on_all(_gemm),
    "MatMul": _on_all(lambda call, a, b: np.matmul(a, b)),
    "ReduceMean": _reduced,
    "ReduceSum": _reduced,
}


def _logic(f: Callable[..., bool]) -> Callable[[Call], Tensor]:
    def operator(call: Call) -> Tensor:
        arrays = [t.integers()[0].astype(bool) for t in call.inputs if t is not None]
        return grid(each(f, *arrays).astype(np.float32), Fraction(1), 1.0, "b")

    return operator


#: Operators on bools.
LOGIC: dict[str, Callable[[Call], Tensor]] = {
    "And": _logic(lambda x, y: x and y),
    "Or": _logic(lambda x, y: x or y),
    "Xor": _logic(lambda x, y: x != y),
    "Not": _logic(lambda x: not x),
}
