"""Innermost loops as LLVM code: intrinsics of compiled functions, and vectors of integers in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from intsim.jit.constants import ConstantsType

I32, I64 = ir.IntType(32), ir.IntType(64)
PAIRS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}
"""By lanes of 32 bits: products of 16-bit numbers, two neighbours added up."""


class Array(NamedTuple):
    """An argument that is an array."""

    data: Any  # pointer to its first element
    shape: Any
    dtype: Any  # Numba's


def emitted(body: Callable[..., None]) -> Any:
    """An intrinsic without a result: `body(builder, *values)` emits its code.

    Values are LLVM's own; but arrays come as `Array`, named tuples as themselves, and `Constants` as the object.
    """

    @wraps(body)
    def definition(typingctx: Any, *kinds: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            body(builder, *(_value(context, builder, *pair) for pair in zip(kinds, given, strict=True)))
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    return intrinsic(definition)


def _value(context: Any, builder: Any, kind: Any, given: Any) -> Any:
    if isinstance(kind, types.Array):
        made = context.make_array(kind)(context, builder, given)
        return Array(made.data, made.shape, kind.dtype)
    if isinstance(kind, types.BaseNamedTuple):
        members = zip(kind.types, cgutils.unpack_tuple(builder, given), strict=True)
        return kind.instance_class(*(_value(context, builder, *member) for member in members))
    return kind.value if isinstance(kind, ConstantsType) else given


def number(value: int) -> Any:
    """A constant index."""
    return ir.Constant(I64, value)


def element(builder: Any, pointer: Any, index: Any) -> Any:
    """One element of an array."""
    return builder.load(builder.gep(pointer, [index]))


def invoke(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """The result of an LLVM function."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def variable(builder: Any, value: Any) -> Any:
    """A variable that LLVM keeps in a register if it can."""
    with builder.goto_entry_block():
        made = builder.alloca(value.type)
    builder.store(value, made)
    return made


def splat(builder: Any, value: Any, count: int) -> Any:
    """A vector of one number."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(I32, count), [0] * count))


def pair_sums(builder: Any, x: Any, w: Any, lanes: int) -> Any:
    """Of 16-bit halves of each of `lanes` lanes: both products, added up."""
    halves = ir.VectorType(ir.IntType(16), 2 * lanes)
    terms = (builder.bitcast(v, halves) for v in (x, w))
    return invoke(builder, PAIRS[lanes], ir.VectorType(I32, lanes), *terms)


class Vectors:
    """Vectors of `count` integers of `bits` bits."""

    def __init__(self, builder: Any, bits: int, count: int) -> None:
        """Integers of `bits` bits, `count` of them."""
        self.builder, self.bits, self.count = builder, bits, count
        self.element = ir.IntType(bits)
        self.type = ir.VectorType(self.element, count)
        self.zero = ir.Constant(self.type, None)

    def constant(self, value: int) -> Any:
        """A known number in all elements."""
        return ir.Constant(self.type, [value] * self.count)

    def splat(self, value: Any) -> Any:
        """One number in all elements."""
        return splat(self.builder, value, self.count)

    def of(self, value: Any, signed: bool = True) -> Any:
        """Any vector or scalar of integers in this width."""
        scalar = not isinstance(value.type, ir.VectorType)
        width, wanted = (value.type, self.element) if scalar else (value.type.element, self.type)
        if width.width > self.bits:
            return self.builder.trunc(value, wanted)
        if width.width == self.bits:
            return value
        return self.builder.sext(value, wanted) if signed else self.builder.zext(value, wanted)

    def address(self, pointer: Any, index: Any) -> Any:
        """Of the vector that begins at an element."""
        return self.builder.bitcast(self.builder.gep(pointer, [index]), self.type.as_pointer())

    def load(self, pointer: Any, index: Any) -> Any:
        """The elements from `index` on; aligned as an element is."""
        loaded = self.builder.load(self.address(pointer, index))
        loaded.align = self.bits // 8
        return loaded

    def store(self, value: Any, pointer: Any, index: Any) -> None:
        """See `load`."""
        self.builder.store(value, self.address(pointer, index)).align = self.bits // 8

    def call(self, name: str, *terms: Any) -> Any:
        """An LLVM intrinsic of vectors of this type."""
        return invoke(self.builder, f"{name}.v{self.count}i{self.bits}", self.type, *terms)

    def select(self, relation: str, left: Any, right: Any) -> Any:
        """The elements of `left` that have the signed relation to those of `right`, and the others of `right`."""
        return self.builder.select(self.builder.icmp_signed(relation, left, right), left, right)

    def reduced(self, name: str, value: Any) -> Any:
        """All elements as one: "add", "smin" or "smax"."""
        return invoke(self.builder, f"llvm.vector.reduce.{name}.v{self.count}i{self.bits}", self.element, value)
