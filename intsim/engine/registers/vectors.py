"""Additions into registers as LLVM code, on vectors of output positions.

Kinds of first registers, of a true sum s = register + product in a lane of L bits:

exact   no sum leaves the register
wrap    narrower than the lane: the register is kept modulo 2^L, plus half its range, and never wrapped. A sum leaves
        the register where the bits above its own change
full    wraps with the lane: s has the sign of neither term
clip    no s leaves the lane: s is clipped
narrow  as wide as the lane, or scaled up to it by a shift: the processor's saturating addition. Scaled, a register that
        has saturated holds ones below its value, which are less than 1 and change no later comparison
both    saturating addition, then clipped
any     whatever bits and rule; the extremes of true sums as well
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from llvmlite import ir
from numba.core import cgutils

Mode = Literal["touched", "counted", "extremes"]
"""What is told of a register: events as 1 for any number but 0, their number, or their number and extreme sums."""
I32, I64 = ir.IntType(32), ir.IntType(64)
_PAIRS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}


class Limits(NamedTuple):
    """Constants of a register, as numbers or as LLVM vectors."""

    low: Any  # its ends
    high: Any
    mask: Any  # its bits, or all if it saturates
    saturates: Any  # all bits or none
    half: Any  # of kind `wrap`: half its range
    above: Any  # of kind `wrap`: the bits above its own
    shift: Any  # of kind `narrow`: the lane's bits less the register's


class Vectors:
    """Vectors of `count` integers of `bits` bits, and the code of one addition into a register."""

    def __init__(self, builder: Any, bits: int, count: int) -> None:
        """Integers of `bits` bits, `count` of them."""
        self.builder, self.bits, self.count = builder, bits, count
        self.element = ir.IntType(bits)
        self.type = ir.VectorType(self.element, count)
        self.zero = ir.Constant(self.type, None)

    def splat(self, value: Any) -> Any:
        """One number in all elements."""
        nothing = ir.Constant(self.type, ir.Undefined)
        one = self.builder.insert_element(nothing, value, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(I32, self.count), [0] * self.count))

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
        kind = ir.FunctionType(self.type, [self.type] * len(terms))
        suffix = f".v{self.count}i{self.bits}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name + suffix), terms)

    def joined(self, telemetry: int, held: Any, seen: Any) -> Any:
        """Counts (0) added, least (1) or largest sums (2)."""
        if telemetry == 0:
            return self.builder.add(held, seen)
        return self.call("llvm.smin" if telemetry == 1 else "llvm.smax", held, seen)

    def reduced(self, telemetry: int, value: Any) -> Any:
        """The same of all elements, in 64 bits."""
        name = f"llvm.vector.reduce.{('add', 'smin', 'smax')[telemetry]}.v{self.count}i{self.bits}"
        kind = ir.FunctionType(self.element, [self.type])
        number = self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [value])
        return number if self.bits == 64 else self.builder.sext(number, I64)

    def clip(self, value: Any, c: Limits) -> Any:
        """To the register's ends."""
        return self.call("llvm.smin", self.call("llvm.smax", value, c.low), c.high)

    def add(self, kind: str, register: Any, term: Any, c: Limits) -> tuple[Any, Any, Any]:
        """Register after one addition, what tells of an event (see `event`), and the true sum where it is known."""
        b = self.builder
        total = b.add(register, term)
        if kind == "exact":
            return total, None, total
        if kind == "wrap":
            return total, b.xor(register, total), None
        if kind == "full":
            return total, b.and_(b.xor(register, total), b.xor(term, total)), None
        if kind == "clip":
            kept = self.clip(total, c)
            return kept, b.xor(kept, total), total
        if kind == "fits":  # as any, of sums that don't leave the lane
            kept = self.clip(b.add(b.and_(b.sub(total, c.low), c.mask), c.low), c)
            return kept, b.xor(kept, total), total
        reached = self.call("llvm.sadd.sat", register, term)
        if kind == "narrow":
            return reached, b.xor(reached, total), None
        if kind == "both":
            kept = self.clip(reached, c)
            return kept, b.xor(kept, total), None
        past = b.xor(reached, total)
        start = b.xor(total, b.and_(past, c.saturates))
        kept = self.clip(b.add(b.and_(b.sub(start, c.low), c.mask), c.low), c)
        return kept, b.or_(b.xor(kept, total), past), reached

    def event(self, kind: str, told: Any, c: Limits) -> Any:
        """Where what `add` told means an event."""
        if kind == "full":
            return self.builder.icmp_signed("<", told, self.zero)
        if kind == "wrap":
            told = self.builder.and_(told, c.above)
        return self.builder.icmp_signed("!=", told, self.zero)

    def value(self, kind: str, register: Any, c: Limits, shifted: bool) -> Any:
        """What a register hands on."""
        if kind == "wrap":
            return self.builder.sub(self.builder.and_(register, c.mask), c.half)
        return self.builder.ashr(register, c.shift) if kind == "narrow" and shifted else register


class Telemetry:
    """Events and extremes of one register of a vector of pixels, kept where LLVM likes."""

    def __init__(self, vectors: Vectors, kind: str, mode: str, c: Limits) -> None:
        """`mode`: a `Mode`, or "plain": nothing is kept."""
        self.vectors, self.kind, self.mode, self.c = vectors, kind, mode, c
        kept = {"plain": 0, "extremes": 3}.get(mode, 1)
        self.parts = [variable(vectors.builder, vectors.zero) for _ in range(kept)]

    def note(self, told: Any, total: Any) -> None:
        """What `Vectors.add` said."""
        v, b = self.vectors, self.vectors.builder
        if told is None or not self.parts:
            return
        held = b.load(self.parts[0])
        if self.mode == "touched":
            b.store(b.or_(held, told), self.parts[0])
            return
        b.store(b.sub(held, b.sext(v.event(self.kind, told, self.c), v.type)), self.parts[0])
        if self.mode == "extremes":
            for name, part in zip(("llvm.smin", "llvm.smax"), self.parts[1:], strict=True):
                b.store(v.call(name, b.load(part), total), part)

    def values(self) -> list[Any]:
        """Counts, and extremes in mode `extremes`."""
        v, b = self.vectors, self.vectors.builder
        held = [b.load(part) for part in self.parts]
        if self.mode == "touched":
            held[0] = b.zext(v.event(self.kind, held[0], self.c), v.type)
        return held


class Sums:
    """Plain sums of 32 bits of what first registers hand on; of 16 bits apart for even and odd positions."""

    def __init__(self, vectors: Vectors, start: Any) -> None:
        """`vectors` of 32 bits, and what the sums begin with."""
        self.vectors, b = vectors, vectors.builder
        self.half = Vectors(b, 32, vectors.count // 2)
        self.apart = vectors.count // 2 in _PAIRS
        parts = [self._shuffled(start, start, range(i, vectors.count, 2)) for i in range(2)] if self.apart else [start]
        self.parts = [variable(b, part) for part in parts]

    def add(self, values: Any) -> None:
        """Values of 16 or 32 bits."""
        v, b = self.vectors, self.vectors.builder
        if not self.apart or values.type.element.width != 16:
            parts = [v.of(values)]
            if self.apart:
                parts = [self._shuffled(parts[0], parts[0], range(i, v.count, 2)) for i in range(2)]
        else:
            name = _PAIRS[self.half.count]
            kind = ir.FunctionType(self.half.type, [values.type] * 2)
            function = cgutils.get_or_insert_function(b.module, kind, name)
            picked = [ir.Constant(values.type, pick * self.half.count) for pick in ([1, 0], [0, 1])]
            parts = [b.call(function, [values, pick]) for pick in picked]
        for total, part in zip(self.parts, parts, strict=True):
            b.store(b.add(b.load(total), part), total)

    def value(self) -> Any:
        """The sums, in the order of the positions."""
        parts = [self.vectors.builder.load(total) for total in self.parts]
        if not self.apart:
            return parts[0]
        n = self.half.count
        return self._shuffled(parts[0], parts[1], [i // 2 + n * (i % 2) for i in range(2 * n)])

    def _shuffled(self, a: Any, b: Any, order: Any) -> Any:
        mask = ir.Constant(ir.VectorType(I32, len(order)), list(order))
        return self.vectors.builder.shuffle_vector(a, b, mask)


def variable(builder: Any, value: Any) -> Any:
    """A variable that LLVM keeps in a register if it can."""
    with builder.goto_entry_block():
        made = builder.alloca(value.type)
    builder.store(value, made)
    return made


def product(v: Vectors, x: Any, w: Any, narrow: bool) -> Any:
    """Activations times a weight that is in every lane. With narrow operands w holds it in its lower half alone."""
    b = v.builder
    if narrow and v.bits == 32 and v.count in _PAIRS:
        halves = ir.VectorType(ir.IntType(16), 2 * v.count)
        pairs = cgutils.get_or_insert_function(b.module, ir.FunctionType(v.type, [halves] * 2), _PAIRS[v.count])
        return b.call(pairs, [b.bitcast(x, halves), b.bitcast(w, halves)])
    if narrow and v.bits >= 32:
        half = ir.Constant(v.type, [v.bits // 2] * v.count)
        w = b.ashr(b.shl(w, half), half)
        x = b.ashr(b.shl(x, half), half) if v.bits == 64 else x
    return b.mul(x, w)
