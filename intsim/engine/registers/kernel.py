"""The compiled inner loops of register sums: registers of a block of positions side by side in vector registers.

Everything from the products to the last register is emitted as LLVM code, for each `Shape` by itself. The first
register, into which all products go, is of one of the kinds that `vectors` lists. The registers after it, its *tail*,
add once for all products of a group:

none    there is no second one
sum     it never overflows
one     it may, but no sum leaves 32 bits
chain   any number of registers, in memory
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba.core import cgutils
from numpy.typing import NDArray

from intsim.engine.registers.vectors import Additions, Limits, Mode, Sums, Telemetry, product
from intsim.jit.compile import compiled
from intsim.jit.constants import Constants
from intsim.jit.emit import Array, Vectors, element, emitted, number, variable

LIMITS = len(Limits._fields)


@dataclass(frozen=True)
class Shape(Constants):
    """What code is made for: a tile is a block of `channels` at `lanes * vectors` neighbouring positions."""

    lanes: int
    channels: int
    vectors: int
    unroll: int  # products at once
    bits: int  # of the first register's lane: 16, 32 or 64
    out_bits: int  # of the last register's: 32 or 64
    kind: str  # of the first register
    tail: str
    mode: Mode
    narrow: bool  # operands fit half the lane
    whole: bool  # each group is `unroll` products
    paired: bool  # two saturating additions are asked together whether one left the register

    @property
    def tile(self) -> int:
        """Positions of a tile."""
        return self.lanes * self.vectors


class Layer(NamedTuple):
    """Blocks of channels made ready, whatever the activations are."""

    bases: NDArray[np.int64]  # (blocks,) where the data of those of a block begin
    offsets: NDArray[np.int64]  # (K,) of each product from there
    weights: NDArray[Any]  # (blocks, K, channels of a block) as `vectors.product` takes them
    lives: NDArray[np.int64]  # where groups of the first register begin, and the last ends, in units of `unroll`
    ends: NDArray[np.int64]  # how many registers after the first take a value at the end of each group
    limits: NDArray[np.int64]  # (registers + 1, `Limits`); the last row: the last one's, whatever is known of its sums
    first: NDArray[np.int64]  # what the last register begins with, by channel or by position
    late: NDArray[np.int64]  # and what is added to it at the end


class Flags(NamedTuple):
    """What holds for channels, and what for positions."""

    first_by_position: bool
    late_by_position: bool
    late: bool  # whether it is added
    events_by_position: bool


class Grid(NamedTuple):
    """Which positions of which blocks of channels: position (r, c) is r * pitch + c."""

    rows: int
    width: int
    pitch: int
    column: int  # of the output, where the first one goes
    blocks: NDArray[np.int64]  # their numbers


class Scratch(NamedTuple):
    """Memory of a tile."""

    valid: NDArray[np.bool_]  # of each position whether it is in the grid
    line: NDArray[Any]  # accumulators of a tile
    memory: NDArray[Any]  # registers of a chain


class Events(NamedTuple):
    """What is seen of overflows."""

    watched: NDArray[np.int64]  # registers to be touched, of all channels of a block, before it is settled
    settled: NDArray[np.bool_]  # (blocks,) written: nothing more is to be learnt of its events
    seen: NDArray[np.int64]  # (1 or 3, registers, channels of all blocks or positions) events, extremes: added to


class _At(NamedTuple):
    """Where a tile begins: in the data, in the weights; its channel and its position."""

    data: int
    weights: int
    channel: int
    position: int


class _Sizes(NamedTuple):
    groups: int  # of the first register
    later: int  # registers after the first
    columns: int  # of `Events.seen`
    channels: int


@emitted
def _tile(b, data, layer, scratch, seen, at, sizes, flags, shape):  # type: ignore[no-untyped-def]
    """The accumulators of a tile into `scratch.line`, and what is seen of its registers."""
    _Tile(b, shape.mode, data, layer, scratch, seen, at, sizes, flags, shape).emit()


@emitted
def _settled_tile(b, data, layer, scratch, seen, at, sizes, flags, shape):  # type: ignore[no-untyped-def]
    """The same where events are of no interest any more; no code but for mode "touched" without a chain."""
    if shape.mode == "touched" and shape.tail != "chain":
        _Tile(b, "plain", data, layer, scratch, seen, at, sizes, flags, shape).emit()


class _Tile:
    """The code of `_tile`."""

    def __init__(
        self,
        builder: Any,
        mode: str,
        data: Array,
        layer: Layer,
        scratch: Scratch,
        seen: Array,
        at: _At,
        sizes: _Sizes,
        flags: Flags,
        shape: Shape,
    ) -> None:
        line: Any = scratch.line
        self.builder, self.mode, self.bits, self.signed = builder, mode, data.dtype.bitwidth, data.dtype.signed
        arrays = {"data": data, "seen": seen, **layer._asdict(), **scratch._asdict()}
        self.pointers = {name: array.data for name, array in arrays.items()}
        self.at, self.sizes, self.flags = at, sizes, flags
        self.rows, self.vectors, self.lanes, self.unroll = shape.channels, shape.vectors, shape.lanes, shape.unroll
        self.kind, self.tail, self.narrow, self.whole = shape.kind, shape.tail, shape.narrow, shape.whole
        self.paired = shape.paired
        self.line, self.wide = Vectors(builder, line.dtype.bitwidth, shape.lanes), Additions(builder, 64, shape.lanes)
        self.v = Additions(builder, shape.bits, shape.lanes)
        self.out = Additions(builder, shape.out_bits, shape.lanes)
        self.counts = Additions(builder, 64 if mode == "extremes" else 32, shape.lanes)
        self.block = [(o, p) for o in range(self.rows) for p in range(self.vectors)]

    def emit(self) -> None:
        c = self.limits_of(self.v, number(0))
        half = number(Limits._fields.index("half"))
        begin = self.v.splat(self.v.of(self.scalar("limits", half))) if self.kind == "wrap" else self.v.zero
        self.begin = [begin] * len(self.block)
        self.first = [Telemetry(self.v, self.kind, self.mode, c) for _ in self.block]
        start = self.by_channel(self.v, "first") if self.tail == "none" else self.begin
        self.held = [variable(self.builder, s) for s in start]
        if self.tail == "none":
            with cgutils.for_range(self.builder, self.scalar("lives", number(1))) as loop:
                self.additions(loop.index, c)
            values = [self.out.of(self.v.value(self.kind, self.builder.load(h), c, True)) for h in self.held]
            last = self.first
        else:
            self.before_groups()
            with cgutils.for_range(self.builder, self.sizes.groups) as loop:
                self.group(loop.index, c)
            values, last = self.after_groups()
        self.finish(values, last)

    def additions(self, index: Any, c: Limits) -> None:
        """The next `unroll` products into the first registers."""
        if self.paired:
            for u in range(0, self.unroll, 2):
                self.two_additions(index, u)
            return
        for u in range(self.unroll):
            x, w = self.operands(index, u)
            for i, (o, p) in enumerate(self.block):
                held = self.builder.load(self.held[i])
                register, told, total = self.v.add(self.kind, held, product(self.v, x[p], w[o], self.narrow), c)
                self.builder.store(register, self.held[i])
                self.first[i].note(told, total)

    def two_additions(self, index: Any, u: int) -> None:
        """Two products into saturating registers; what tells of an event is how far off both together are.

        A sum that left the register is off by at most its product, in one direction: from one end the next product
        doesn't reach the other. So two are off by less than the lane holds, and by 0 only where none left it.
        """
        b, v = self.builder, self.v
        (x, w), (y, z) = self.operands(index, u), self.operands(index, u + 1)
        for i, (o, p) in enumerate(self.block):
            held = b.load(self.held[i])
            one, two = product(v, x[p], w[o], self.narrow), product(v, y[p], z[o], self.narrow)
            register = v.call("llvm.sadd.sat", v.call("llvm.sadd.sat", held, one), two)
            b.store(register, self.held[i])
            self.first[i].note(b.xor(register, b.add(held, b.add(one, two))), None)

    def operands(self, index: Any, u: int) -> tuple[list[Any], list[Any]]:
        """Of product `u` of the next ones: activations of each vector, and weights of each channel of the block."""
        b, v = self.builder, self.v
        k = b.add(b.mul(index, number(self.unroll)), number(u))
        at = b.add(self.at.data, self.scalar("offsets", k))
        data = Vectors(b, self.bits, self.lanes)
        x = [
            v.of(data.load(self.pointers["data"], b.add(at, number(p * self.lanes))), self.signed)
            for p in range(self.vectors)
        ]
        row = b.add(self.at.weights, b.mul(k, number(self.rows)))
        return x, [self.weight(b.add(row, number(o))) for o in range(self.rows)]

    def weight(self, index: Any) -> Any:
        """A weight in every lane; of 16 bits in pairs, which are read from memory as quickly as one number."""
        word = self.scalar("weights", index)
        if self.v.bits > 16:
            return self.v.splat(word)
        return self.builder.bitcast(Vectors(self.builder, 32, self.lanes // 2).splat(word), self.v.type)

    def before_groups(self) -> None:
        b, n = self.builder, len(self.block)
        if self.tail != "chain":
            self.later_limits = self.limits_of(self.out, number(1))
            kind = "exact" if self.tail == "sum" else "fits"
            self.second_seen = [Telemetry(self.out, kind, self.mode, self.later_limits) for _ in self.block]
            if self.tail == "sum":
                self.sums = [Sums(self.out, s) for s in self.by_channel(self.out, "first")]
            else:
                self.second = [variable(b, s) for s in self.by_channel(self.out, "first")]
            return
        # memory: what is handed on; then of each register its value, and its telemetry
        self.each = 4 if self.mode == "extremes" else 2
        with cgutils.for_range(b, b.mul(self.sizes.later, number(n * self.each))) as loop:
            self.keep(self.out.zero, b.add(loop.index, number(n)))
        last = b.sub(self.sizes.later, number(1))
        for i, s in enumerate(self.by_channel(self.out, "first")):
            self.keep(s, self.cell(last, 0, i))

    def group(self, index: Any, c: Limits) -> None:
        """Products of a group, and handing on."""
        b = self.builder
        for h, z in zip(self.held, self.begin, strict=True):
            b.store(z, h)
        if self.whole:
            self.additions(index, c)
        else:
            begin, end = self.scalar("lives", index), self.scalar("lives", b.add(index, number(1)))
            with cgutils.for_range_slice(b, begin, end, number(1)) as (inner, _):
                self.additions(inner, c)
        values = [self.v.value(self.kind, b.load(h), c, not self.whole) for h in self.held]
        if self.tail == "sum":
            for total, value in zip(self.sums, values, strict=True):
                total.add(value)
            return
        values = [self.out.of(value) for value in values]
        if self.tail == "chain":
            for i, value in enumerate(values):
                self.keep(value, number(i))
            with cgutils.for_range(b, self.scalar("ends", index)) as loop:
                ended = b.icmp_signed("<", b.add(loop.index, number(1)), self.scalar("ends", index))
                self.hand_on(loop.index, ended)
            return
        for held, value, telemetry in zip(self.second, values, self.second_seen, strict=True):
            register, told, total = self.out.add(telemetry.kind, b.load(held), value, self.later_limits)
            b.store(register, held)
            telemetry.note(told, total)

    def hand_on(self, index: Any, ended: Any) -> None:
        """Into the register `index` after the first; where it ended, its value is the next to hand on."""
        b, out = self.builder, self.out
        c = self.limits_of(out, b.add(index, number(1)))
        with cgutils.for_range(b, number(len(self.block))) as loop:
            i = loop.index
            telemetry = self.recalled("any" if out.bits == 64 else "fits", c, index, i)
            before, term = self.kept(self.cell(index, 0, i)), self.kept(i)
            register, told, total = out.add(telemetry.kind, before, term, c)
            telemetry.note(told, total)
            for t, stored in enumerate(telemetry.parts):
                self.keep(b.load(stored), self.cell(index, 1 + t, i))
            self.keep(b.select(ended, out.zero, register), self.cell(index, 0, i))
            self.keep(register, i)

    def recalled(self, kind: str, c: Limits, register: Any, i: Any) -> Telemetry:
        """The telemetry of a register after the first, out of memory."""
        telemetry = Telemetry(self.out, kind, "extremes" if self.mode == "extremes" else "counted", c)
        for t, stored in enumerate(telemetry.parts):
            self.builder.store(self.kept(self.cell(register, 1 + t, i)), stored)
        return telemetry

    def after_groups(self) -> tuple[list[Any], list[Any]]:
        b, every = self.builder, range(len(self.block))
        self.write([telemetry.values() for telemetry in self.first], number(0))
        if self.tail == "sum":
            return [total.value() for total in self.sums], self.second_seen
        if self.tail != "chain":
            return [b.load(held) for held in self.second], self.second_seen
        last, c = b.sub(self.sizes.later, number(1)), self.limits_of(self.out, self.sizes.later)
        with cgutils.for_range(b, last) as loop:
            seen = [self.recalled("any", c, loop.index, i).values() for i in every]
            self.write(seen, b.add(loop.index, number(1)))
        return [self.kept(self.cell(last, 0, i)) for i in every], [self.recalled("any", c, last, i) for i in every]

    def finish(self, values: list[Any], telemetries: list[Any]) -> None:
        """The late term, then everything is written."""
        b, out = self.builder, self.out
        row = b.add(self.sizes.later, number(1))
        c = self.limits_of(out, row)
        terms, whole = self.by_channel(out, "late"), []
        for i, (value, term, telemetry) in enumerate(zip(values, terms, telemetries, strict=True)):
            kept, told, total = out.add("any", value, term, c)
            event = b.and_(out.event("any", told, c), Vectors(b, 1, self.lanes).splat(self.flags.late))
            result = self.line.of(b.select(self.flags.late, kept, value))
            self.line.store(result, self.pointers["line"], number(i * self.lanes))
            if self.mode == "plain":
                continue
            before = telemetry.values()
            count = b.add(self.counts.of(before[0], False), b.zext(event, self.counts.type))
            last = b.select(self.flags.late, total, out.zero)
            edges = zip(("llvm.smin", "llvm.smax"), before[1:], strict=False)
            rest = [out.call(name, out.of(edge), last) for name, edge in edges]
            whole.append([count, *rest])
        self.write(whole, self.sizes.later)

    def write(self, seen: list[list[Any]], register: Any) -> None:
        """Telemetry of a register, added to that of the channels, or of the positions."""
        if self.mode == "plain":
            return
        b, v = self.builder, self.counts
        seen = [[v.of(vector, t > 0) for t, vector in enumerate(vectors)] for vectors in seen]
        with b.if_else(self.flags.events_by_position) as (by_position, by_channel):
            with by_position:
                for i, (o, p) in enumerate(self.block):
                    there = b.icmp_signed("<", b.add(self.at.channel, number(o)), self.sizes.channels)
                    here = b.add(self.at.position, number(p * self.lanes))
                    mask = Vectors(b, 1, self.lanes).splat(there)
                    for t, vector in enumerate(seen[i]):
                        index = b.add(self.row(t, register), here)
                        value = b.select(mask, self.wide.of(vector), self.wide.zero)
                        held = self.wide.load(self.pointers["seen"], index)
                        self.wide.store(self.wide.joined(t, held, value), self.pointers["seen"], index)
            with by_channel:
                valid = self.valid()
                for o in range(self.rows):
                    for t in range(len(seen[0])):
                        here = [v[t] for v in seen[o * self.vectors : (o + 1) * self.vectors]]
                        value = v.zero
                        for vector, inside in zip(here, valid, strict=True):
                            value = v.joined(t, value, b.select(inside, vector, v.zero))
                        index = b.add(b.add(self.row(t, register), self.at.channel), number(o))
                        pointer = b.gep(self.pointers["seen"], [index])
                        one = Additions(b, 64, 1)
                        both = one.joined(t, one.splat(b.load(pointer)), one.splat(v.total(t, value)))
                        b.store(b.extract_element(both, number(0)), pointer)

    def row(self, telemetry: int, register: Any) -> Any:
        """Where in `Events.seen` the telemetry of a register begins."""
        b = self.builder
        row = b.add(b.mul(b.add(self.sizes.later, number(1)), number(telemetry)), register)
        return b.mul(row, self.sizes.columns)

    def valid(self) -> list[Any]:
        """Of each vector of positions, which are in the grid."""
        flags = Vectors(self.builder, 8, self.lanes)
        starts = [self.builder.add(self.at.position, number(p * self.lanes)) for p in range(self.vectors)]
        return [self.builder.icmp_signed("!=", flags.load(self.pointers["valid"], s), flags.zero) for s in starts]

    def by_channel(self, v: Vectors, name: str) -> list[Any]:
        """`first` or `late` of each vector of the block: of its channel, or of its positions."""
        b, whole = self.builder, Vectors(self.builder, 64, self.lanes)
        terms = [variable(b, v.zero) for _ in self.block]
        with b.if_else(getattr(self.flags, f"{name}_by_position")) as (positions, channels):
            with positions:
                for term, (_, p) in zip(terms, self.block, strict=True):
                    at = b.add(self.at.position, number(p * self.lanes))
                    b.store(v.of(whole.load(self.pointers[name], at)), term)
            with channels:
                for term, (o, _) in zip(terms, self.block, strict=True):
                    at = b.add(self.at.channel, number(o))
                    b.store(v.splat(v.of(self.scalar(name, at))), term)
        return [b.load(term) for term in terms]

    def limits_of(self, v: Vectors, row: Any) -> Limits:
        """Of a register; the last row is the last register's, without what is known of its sums."""
        b = self.builder
        begin = b.mul(row, number(LIMITS))
        return Limits(*(v.splat(v.of(self.scalar("limits", b.add(begin, number(i))))) for i in range(LIMITS)))

    def cell(self, register: Any, part: int, i: Any) -> Any:
        """Which vector of the memory is of a register after the first: its value, its count and extremes."""
        b, n = self.builder, len(self.block)
        row = b.add(b.mul(register, number(self.each)), number(part))
        return b.add(b.add(b.mul(row, number(n)), number(n)), number(i) if isinstance(i, int) else i)

    def kept(self, cell: Any) -> Any:
        return self.out.load(self.pointers["memory"], self.builder.mul(cell, number(self.lanes)))

    def keep(self, value: Any, cell: Any) -> None:
        self.out.store(value, self.pointers["memory"], self.builder.mul(cell, number(self.lanes)))

    def scalar(self, name: str, index: Any) -> Any:
        return element(self.builder, self.pointers[name], index)


@emitted
def _copy(b, to, start, line, begin, count):  # type: ignore[no-untyped-def]
    """to[start : start + count] = line[begin : begin + count], of flat arrays of one type."""
    target, source = (b.gep(array.data, [index]) for array, index in ((to, start), (line, begin)))
    cgutils.raw_memcpy(b, target, source, b.mul(count, number(to.dtype.bitwidth // 8)), 1)


@compiled
def accumulate(data, layer, flags, grid, scratch, events, out, shape):  # type: ignore[no-untyped-def]
    """All channels of some blocks at all positions of a grid, into out (N, columns); `data` are planes of activations.

    See `Layer`, `Flags`, `Grid`, `Scratch`, `Events` and `Shape`.
    """
    channels, tile, depth = shape.channels, shape.lanes * shape.vectors, layer.offsets.size
    width, pitch, seen = grid.width, grid.pitch, events.seen
    total = (grid.rows - 1) * pitch + width
    sizes = _Sizes(layer.lives.size - 1, seen.shape[1] - 1, seen.shape[2], out.shape[0])
    for begin in range(0, total, tile):
        count = min(tile, total - begin)
        for block in grid.blocks:
            at = _At(layer.bases[block] + begin, block * depth * channels, block * channels, begin)
            if events.settled[block]:
                _settled_tile(data, layer, scratch, seen, at, sizes, flags, shape)
            else:
                _tile(data, layer, scratch, seen, at, sizes, flags, shape)
                missing = events.watched.size == 0
                for register in events.watched:
                    for channel in range(block * channels, min((block + 1) * channels, out.shape[0])):
                        missing |= seen[0, register, channel] == 0
                events.settled[block] = not missing
            row = begin // pitch
            column = begin - row * pitch
            done = 0
            while done < count:
                run = min(width - column, count - done)
                if run > 0:
                    target = row * width + column
                    for o in range(min(channels, out.shape[0] - block * channels)):
                        start = (block * channels + o) * out.shape[1] + grid.column + target
                        _copy(out, start, scratch.line, o * tile + done, run)
                done += pitch - column
                column = 0
                row += 1
    return 0
