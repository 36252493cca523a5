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

from intsim.jit.emit import I32, I64, PAIRS, Vectors, pair_sums, variable

Mode = Literal["touched", "counted", "extremes"]
"""What is told of a register: events as 1 for any number but 0, their number, or their number and extreme sums."""


class Limits(NamedTuple):
    """Constants of a register, as numbers or as LLVM vectors."""

    low: Any  # its ends
    high: Any
    mask: Any  # its bits, or all if it saturates
    saturates: Any  # all bits or none
    half: Any  # of kind `wrap`: half its range
    above: Any  # of kind `wrap`: the bits above its own
    shift: Any  # of kind `narrow`: the lane's bits less the register's


class Additions(Vectors):
    """Vectors of registers, and the code of one addition into them."""

    def joined(self, telemetry: int, held: Any, seen: Any) -> Any:
        """Counts (0) added, least (1) or largest sums (2)."""
        if telemetry == 0:
            return self.builder.add(held, seen)
        return self.call("llvm.smin" if telemetry == 1 else "llvm.smax", held, seen)

    def total(self, telemetry: int, value: Any) -> Any:
        """The same of all elements, in 64 bits."""
        number = self.reduced(("add", "smin", "smax")[telemetry], value)
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

    def __init__(self, vectors: Additions, kind: str, mode: str, c: Limits) -> None:
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
        self.apart = vectors.count // 2 in PAIRS
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
            picked = [ir.Constant(values.type, pick * self.half.count) for pick in ([1, 0], [0, 1])]
            parts = [pair_sums(b, values, pick, self.half.count) for pick in picked]
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


def product(v: Vectors, x: Any, w: Any, narrow: bool) -> Any:
    """Activations times a weight that is in every lane. With narrow operands w holds it in its lower half alone."""
    b = v.builder
    if narrow and v.bits == 32 and v.count in PAIRS:
        return pair_sums(b, x, w, v.count)
    if narrow and v.bits >= 32:
        half = v.constant(v.bits // 2)
        w = b.ashr(b.shl(w, half), half)
        x = b.ashr(b.shl(x, half), half) if v.bits == 64 else x
    return b.mul(x, w)
