"""The compiled inner loops of stepwise accumulators: registers of a block of pixels side by side in vector registers.

Everything from the products to the last register is emitted as LLVM code. A tuple's length is part of its type, so
tuples `(0,) * n` tell the emitter its constants, and Numba caches each combination by itself. The first register, into
which all products go, is one of `vectors.KINDS`, see `vectors`.

Registers after the first (`TAILS`) add once for all products of a group: `none` there is no second one; `sum` it
never overflows; `one`: it may, but no sum leaves 32 bits; `chain`: any number of registers, in memory.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from intsim.engine.registers.vectors import HALF, KINDS, MODES, TAILS, Sums, Telemetry, Vectors, place_of, product
from intsim.jit.compile import compiled

I64 = ir.IntType(64)


@intrinsic
def _tile(typing, arrays, places, sizes, flags, shape, plain):  # type: ignore[no-untyped-def]
    """The accumulators of a block of channels at `lanes * vectors` neighbouring positions.

    arrays: data, offsets, weights, lives, ends, constants, first, late, valid, line, memory, found; places: where in
    data the positions begin, in weights the block, then the channel and the position; sizes: groups, registers after
    the first, places of found, channels; flags, shape: see `accumulate_lanes`; plain: a tuple that is not empty where
    events are of no interest; then only for mode "touched" and without a chain there is any code.
    """
    signature = types.void(arrays, places, sizes, flags, shape, plain)

    def codegen(context, builder, signature, given):  # type: ignore[no-untyped-def]
        pointers = [
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(arrays.types, cgutils.unpack_tuple(builder, given[0]), strict=True)
        ]
        numbers = [cgutils.unpack_tuple(builder, g) for g in given[1:4]]
        tile = _Tile(builder, shape, arrays.types, pointers, *numbers)
        if plain.count:
            if tile.mode != "touched" or tile.tail == "chain":
                return context.get_dummy_value()
            tile.mode = "plain"
        tile.emit()
        return context.get_dummy_value()

    return signature, codegen


class _Tile:
    """The code of `_tile`."""

    def __init__(
        self, builder: Any, shape: Any, arrays: Any, pointers: Any, places: Any, sizes: Any, flags: Any
    ) -> None:
        self.builder, self.dtype, self.signed = builder, arrays[0].dtype, arrays[0].dtype.signed
        self.width = arrays[9].dtype.bitwidth
        self.wide = Vectors(builder, 64, shape[0].count)
        lanes, rows, vectors, unroll, bits, outer, kind, tail, mode, narrow, whole = (t.count for t in shape.types)
        self.rows, self.vectors, self.lanes, self.unroll = rows, vectors, lanes, unroll
        self.kind, self.tail, self.mode = KINDS[kind], TAILS[tail], MODES[mode]
        self.narrow, self.whole = bool(narrow), bool(whole)
        names = ("data", "offsets", "weights", "lives", "ends", "constants", "first", "late", "valid", "line")
        self.at = dict(zip((*names, "memory", "found"), pointers, strict=True))
        self.places, self.sizes, self.flags = places, sizes, flags
        self.v = Vectors(builder, 16 * bits, lanes)
        self.out = Vectors(builder, 16 * outer, lanes)
        self.counts = Vectors(builder, 64 if self.mode == "extremes" else 32, lanes)
        self.block = [(o, p) for o in range(rows) for p in range(vectors)]

    def emit(self) -> None:
        c = self.constants(self.v, self.number(0))
        begin = (
            self.v.splat(self.v.of(self.scalar("constants", self.number(HALF)))) if self.kind == "wrap" else self.v.zero
        )
        self.begin = [begin] * len(self.block)
        self.first = [Telemetry(self.v, self.kind, self.mode, c) for _ in self.block]
        start = self.preloaded(self.v) if self.tail == "none" else self.begin
        self.held = [place_of(self.builder, s) for s in start]
        if self.tail == "none":
            with cgutils.for_range(self.builder, self.scalar("lives", self.number(1))) as loop:
                self.additions(loop.index, c)
            values = [self.out.of(self.v.value(self.kind, self.builder.load(h), c, True)) for h in self.held]
            last = self.first
        else:
            self.before_groups()
            with cgutils.for_range(self.builder, self.sizes[0]) as loop:
                self.group(loop.index, c)
            values, last = self.after_groups()
        self.finish(values, last)

    def additions(self, index: Any, c: list[Any]) -> None:
        """The next `unroll` products into the first registers."""
        b, v = self.builder, self.v
        for u in range(self.unroll):
            k = b.add(b.mul(index, self.number(self.unroll)), self.number(u))
            at = b.add(self.places[0], self.scalar("offsets", k))
            data = Vectors(b, self.dtype.bitwidth, self.lanes)
            x = [
                v.of(data.load(self.at["data"], b.add(at, self.number(p * self.lanes))), self.signed)
                for p in range(self.vectors)
            ]
            row = b.add(self.places[1], b.mul(k, self.number(self.rows)))
            for o in range(self.rows):
                w = self.weight(b.add(row, self.number(o)))
                for p in range(self.vectors):
                    i = o * self.vectors + p
                    register, told, total = v.add(self.kind, b.load(self.held[i]), product(v, x[p], w, self.narrow), c)
                    b.store(register, self.held[i])
                    self.first[i].note(told, total)

    def weight(self, index: Any) -> Any:
        """A weight in every lane; of 16 bits in pairs, which are read from memory as quickly as one number."""
        word = self.scalar("weights", index)
        if self.v.bits > 16:
            return self.v.splat(word)
        return self.builder.bitcast(Vectors(self.builder, 32, self.lanes // 2).splat(word), self.v.type)

    def before_groups(self) -> None:
        b, n = self.builder, len(self.block)
        if self.tail != "chain":
            self.limits = self.constants(self.out, self.number(1))
            kind = "exact" if self.tail == "sum" else "fits"
            self.later = [Telemetry(self.out, kind, self.mode, self.limits) for _ in self.block]
            if self.tail == "sum":
                self.sums = [Sums(self.out, s) for s in self.preloaded(self.out)]
            else:
                self.second = [place_of(b, s) for s in self.preloaded(self.out)]
            return
        # memory: what is handed on; then of each register its value, and its telemetry
        self.each = 1 + (3 if self.mode == "extremes" else 1)
        with cgutils.for_range(b, b.mul(self.sizes[1], self.number(n * self.each))) as loop:
            self.out.store(self.out.zero, self.at["memory"], self.cell(b.add(loop.index, self.number(n))))
        last = b.sub(self.sizes[1], self.number(1))
        for i, s in enumerate(self.preloaded(self.out)):
            self.out.store(s, self.at["memory"], self.memory(last, 0, i))

    def group(self, index: Any, c: list[Any]) -> None:
        """Products of a group, and handing on."""
        b = self.builder
        for h, z in zip(self.held, self.begin, strict=True):
            b.store(z, h)
        if self.whole:
            self.additions(index, c)
        else:
            begin, end = self.scalar("lives", index), self.scalar("lives", b.add(index, self.number(1)))
            with cgutils.for_range_slice(b, begin, end, self.number(1)) as (inner, _):
                self.additions(inner, c)
        values = [self.v.value(self.kind, b.load(h), c, not self.whole) for h in self.held]
        if self.tail == "sum":
            for total, value in zip(self.sums, values, strict=True):
                total.add(value)
            return
        values = [self.out.of(value) for value in values]
        if self.tail == "chain":
            for i, value in enumerate(values):
                self.out.store(value, self.at["memory"], self.cell(self.number(i)))
            with cgutils.for_range(b, self.scalar("ends", index)) as loop:
                self.hand_on(
                    loop.index, b.icmp_signed("<", b.add(loop.index, self.number(1)), self.scalar("ends", index))
                )
            return
        for held, value, telemetry in zip(self.second, values, self.later, strict=True):
            register, told, total = self.out.add(telemetry.kind, b.load(held), value, self.limits)
            b.store(register, held)
            telemetry.note(told, total)

    def hand_on(self, place: Any, ended: Any) -> None:
        """Into the register `place` after the first; where it ended, its value is the next to hand on."""
        b, out, at = self.builder, self.out, self.at["memory"]
        c = self.constants(out, b.add(place, self.number(1)))
        with cgutils.for_range(b, self.number(len(self.block))) as loop:
            i = loop.index
            kind = "any" if out.bits == 64 else "fits"
            telemetry = Telemetry(out, kind, "extremes" if self.mode == "extremes" else "counted", c)
            for t, stored in enumerate(telemetry.places):
                b.store(out.load(at, self.memory(place, 1 + t, i)), stored)
            register, told, total = out.add(kind, out.load(at, self.memory(place, 0, i)), out.load(at, self.cell(i)), c)
            telemetry.note(told, total)
            for t, stored in enumerate(telemetry.places):
                out.store(b.load(stored), at, self.memory(place, 1 + t, i))
            out.store(b.select(ended, out.zero, register), at, self.memory(place, 0, i))
            out.store(register, at, self.cell(i))

    def after_groups(self) -> tuple[list[Any], list[Any]]:
        b, out = self.builder, self.out
        self.write([telemetry.found() for telemetry in self.first], self.number(0))
        if self.tail == "sum":
            return [total.value() for total in self.sums], self.later
        if self.tail != "chain":
            return [b.load(held) for held in self.second], self.later
        last = b.sub(self.sizes[1], self.number(1))
        with cgutils.for_range(b, last) as loop:
            seen = [
                [out.load(self.at["memory"], self.memory(loop.index, 1 + t, i)) for t in range(self.each - 1)]
                for i in range(len(self.block))
            ]
            self.write(seen, b.add(loop.index, self.number(1)))
        c = self.constants(out, self.sizes[1])
        telemetries = []
        for i in range(len(self.block)):
            telemetry = Telemetry(out, "any", "extremes" if self.mode == "extremes" else "counted", c)
            for t, stored in enumerate(telemetry.places):
                b.store(out.load(self.at["memory"], self.memory(last, 1 + t, i)), stored)
            telemetries.append(telemetry)
        return [out.load(self.at["memory"], self.memory(last, 0, i)) for i in range(len(self.block))], telemetries

    def finish(self, values: list[Any], telemetries: list[Any]) -> None:
        """The late term, then everything is written."""
        b, out = self.builder, self.out
        row = b.add(self.sizes[1], self.number(1))
        c = self.constants(out, row)
        terms, whole = self.by_channel(out, "late"), []
        line = Vectors(b, self.width, self.lanes)
        for i, (value, term, telemetry) in enumerate(zip(values, terms, telemetries, strict=True)):
            kept, told, total = out.add("any", value, term, c)
            event = b.and_(out.event("any", told, c), Vectors(b, 1, self.lanes).splat(self.flags[2]))
            result = line.of(b.select(self.flags[2], kept, value))
            line.store(result, self.at["line"], self.number(i * self.lanes))
            if self.mode == "plain":
                continue
            found = telemetry.found()
            count = b.add(self.counts.of(found[0], False), b.zext(event, self.counts.type))
            seen = b.select(self.flags[2], total, out.zero)
            rest = [
                out.call(name, out.of(f), seen) for name, f in zip(("llvm.smin", "llvm.smax"), found[1:], strict=False)
            ]
            whole.append([count, *rest])
        self.write(whole, self.sizes[1])

    def write(self, found: list[list[Any]], register: Any) -> None:
        """Telemetry of a register, added to that of the channels, or of the positions."""
        if self.mode == "plain":
            return
        b, v = self.builder, self.counts
        found = [[v.of(vector, t > 0) for t, vector in enumerate(vectors)] for vectors in found]
        with b.if_else(self.flags[3]) as (by_position, by_channel):
            with by_position:
                for i, (o, p) in enumerate(self.block):
                    there = b.icmp_signed("<", b.add(self.places[2], self.number(o)), self.sizes[3])
                    here = b.add(self.places[3], self.number(p * self.lanes))
                    mask = Vectors(b, 1, self.lanes).splat(there)
                    for t, vector in enumerate(found[i]):
                        place = b.add(self.row(t, register), here)
                        seen = self.wide.of(vector)
                        seen = b.select(mask, seen, self.wide.zero)
                        held = self.wide.load(self.at["found"], place)
                        self.wide.store(self.wide.joined(t, held, seen), self.at["found"], place)
            with by_channel:
                valid = self.valid()
                for o in range(self.rows):
                    for t in range(len(found[0])):
                        here = [v[t] for v in found[o * self.vectors : (o + 1) * self.vectors]]
                        seen = v.zero
                        for vector, mask in zip(here, valid, strict=True):
                            seen = v.joined(t, seen, b.select(mask, vector, v.zero))
                        place = b.add(b.add(self.row(t, register), self.places[2]), self.number(o))
                        pointer = b.gep(self.at["found"], [place])
                        one = Vectors(b, 64, 1)
                        both = one.joined(t, one.splat(b.load(pointer)), one.splat(v.reduced(t, seen)))
                        b.store(b.extract_element(both, ir.Constant(ir.IntType(32), 0)), pointer)

    def row(self, telemetry: int, register: Any) -> Any:
        """Where in `found` the telemetry of a register begins."""
        b = self.builder
        row = b.add(b.mul(b.add(self.sizes[1], self.number(1)), self.number(telemetry)), register)
        return b.mul(row, self.sizes[2])

    def valid(self) -> list[Any]:
        """Of each vector of positions, which are in the grid."""
        flags = Vectors(self.builder, 8, self.lanes)
        places = [self.builder.add(self.places[3], self.number(p * self.lanes)) for p in range(self.vectors)]
        return [self.builder.icmp_signed("!=", flags.load(self.at["valid"], place), flags.zero) for place in places]

    def preloaded(self, v: Vectors) -> list[Any]:
        return self.by_channel(v, "first")

    def by_channel(self, v: Vectors, name: str) -> list[Any]:
        """`first` or `late` of each vector of the block: of its channel, or of its positions."""
        b, whole = self.builder, Vectors(self.builder, 64, self.lanes)
        places = [place_of(b, v.zero) for _ in self.block]
        with b.if_else(self.flags[0 if name == "first" else 1]) as (positions, channels):
            with positions:
                for place, (_, p) in zip(places, self.block, strict=True):
                    at = b.add(self.places[3], self.number(p * self.lanes))
                    b.store(v.of(whole.load(self.at[name], at)), place)
            with channels:
                for place, (o, _) in zip(places, self.block, strict=True):
                    at = b.add(self.places[2], self.number(o))
                    b.store(v.splat(v.of(self.scalar(name, at))), place)
        return [b.load(place) for place in places]

    def constants(self, v: Vectors, row: Any) -> list[Any]:
        """Of a register; the last row is the last register's, without what is known of its sums."""
        b = self.builder
        return [
            v.splat(v.of(self.scalar("constants", b.add(b.mul(row, self.number(7)), self.number(i))))) for i in range(7)
        ]

    def cell(self, index: Any) -> Any:
        return self.builder.mul(index, self.number(self.lanes))

    def memory(self, register: Any, part: int, i: Any) -> Any:
        """Place of a vector of a register after the first: its value, its count and extremes."""
        b, n = self.builder, len(self.block)
        i = self.number(i) if isinstance(i, int) else i
        row = b.add(b.mul(register, self.number(self.each)), self.number(part))
        return self.cell(b.add(b.add(b.mul(row, self.number(n)), self.number(n)), i))

    def scalar(self, name: str, index: Any) -> Any:
        return self.builder.load(self.builder.gep(self.at[name], [index]))

    def number(self, value: int) -> Any:
        return ir.Constant(I64, value)


@intrinsic
def _copy(typing, to, place, line, begin, count):  # type: ignore[no-untyped-def]
    """to[place : place + count] = line[begin : begin + count], of flat arrays of one type."""
    signature = types.void(to, place, line, begin, count)

    def codegen(context, builder, signature, given):  # type: ignore[no-untyped-def]
        target, source = (
            builder.gep(context.make_array(kind)(context, builder, array).data, [index])
            for kind, array, index in ((to, given[0], given[1]), (line, given[2], given[3]))
        )
        size = builder.mul(given[4], ir.Constant(I64, to.dtype.bitwidth // 8))
        cgutils.raw_memcpy(builder, target, source, size, 1)
        return context.get_dummy_value()

    return signature, codegen


@compiled
def accumulate_lanes(data, bases, offsets, weights, lives, ends, constants, first, late, flags, grid, valid, scratch, shape, watched, settled, out, found):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    """All channels at all positions of a grid.

    data: planes; bases (blocks,) where those of a block of channels begin; offsets (K,); weights (blocks, K, channels
    of a block) as `product` takes them; lives: where the first registers' groups begin, in units of `unroll` products;
    ends: how many registers after the first each group's end is handed on to; constants (registers + 1, 7), see
    `vectors`; first, late: by channel or by position; flags: first, late are by position, late is added, telemetry
    is by position; grid: rows, width, pitch, first column of out, blocks from, to;
    valid: which positions are in the grid; scratch: line and registers of one tile; shape: tuples as long as
    lanes, channels of a block, vectors of a block, products at once, lane and last lane in units of 16 bits, kind,
    tail, mode, narrow operands, whether each group is `unroll` products; watched: registers to be touched, of all
    channels of a block, before its events are known and it is settled; settled (blocks,) written; out (N, columns);
    found (1 or 3, registers, channels of all blocks or positions): events and extremes, added to.
    """
    rows, width, pitch, origin, first_block, end_block = grid
    line, memory = scratch
    lanes, channels, vectors = len(shape[0]), len(shape[1]), len(shape[2])
    tile = lanes * vectors
    total = (rows - 1) * pitch + width
    sizes = (lives.size - 1, found.shape[1] - 1, found.shape[2], out.shape[0])
    arrays = (data, offsets, weights, lives, ends, constants, first, late, valid, line, memory, found)
    for begin in range(0, total, tile):
        count = min(tile, total - begin)
        for block in range(first_block, end_block):
            places = (bases[block] + begin, block * offsets.size * channels, block * channels, begin)
            if settled[block]:
                _tile(arrays, places, sizes, flags, shape, (0,))
            else:
                _tile(arrays, places, sizes, flags, shape, ())
                missing = watched.size == 0
                for register in watched:
                    for channel in range(block * channels, min((block + 1) * channels, out.shape[0])):
                        missing |= found[0, register, channel] == 0
                settled[block] = not missing
            row = begin // pitch
            column = begin - row * pitch
            done = 0
            while done < count:
                run = min(width - column, count - done)
                if run > 0:
                    target = row * width + column
                    for o in range(min(channels, out.shape[0] - block * channels)):
                        place = (block * channels + o) * out.shape[1] + origin + target
                        _copy(out, place, line, o * tile + done, run)
                done += pitch - column
                column = 0
                row += 1
    return 0
