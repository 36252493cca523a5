"""Kinds that take their constants from a layer of a model: requantizers, threshold counters, tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import wrap
from intsim.arithmetic.pieces import Formula, spans
from intsim.arithmetic.requantizers.requantizer import Multiplies, Requantizer, bias_in_accumulator, biased
from intsim.arithmetic.requantizers.thresholds import Staircase, staircase
from intsim.arithmetic.rounding import round_fraction
from intsim.dispatch import machine
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node, Tensor
from intsim.ops import OPS, Mac
from intsim.ops.requantize import formulas
from intsim.rtl import modules
from intsim.rtl.design import Design, Port
from intsim.rtl.kinds import TABLE_FILE, Kind, mode_number, port, smallest
from intsim.rtl.vectors import Integers, corners, drawn
from intsim.targets import Target

MOST_CELLS = 1 << 12
MOST_COUNT = 1 << 12
"""Most thresholds of a channel."""
LOWEST_VECTORS = 16
"""Rows that a channel has at least."""


def layer(graph: IntegerGraph, name: str, op: str) -> Node:
    """The node of an operator that goes by a name, or follows the multiply-accumulate that does.

    Raises:
        IntsimError: none, listing those there are, or several.
    """
    nodes = [n for n in graph.nodes if n.op == op]
    found = []
    for node in nodes:
        maker = graph.producer(node.inputs[0])
        both = [node, maker] if maker is not None and isinstance(OPS[maker.op], Mac) else [node]
        if any(name in (n.shown, n.source, n.name, n.module, n.output) for n in both):
            found.append(node)
    if len(found) != 1:
        shown = ", ".join(n.shown for n in nodes[:12]) + (", ..." if len(nodes) > 12 else "")
        what = f"no {op} node" if not found else f"{len(found)} {op} nodes"
        raise IntsimError(f"layer {name!r}: {what} of that name; there are: {shown or 'none'}")
    return found[0]


@dataclass(frozen=True)
class Cells:
    """The formulas of a layer's channels, and which accumulators can arrive: low..high in `acc` bits."""

    node: Node
    formulas: list[Formula]
    stages: tuple[Stage, ...]
    low: int
    high: int
    out: int
    signed: bool


def _cells(graph: IntegerGraph, node: Node, own: Target) -> Cells:
    """Of a node and the target's arithmetic for it. Raises IntsimError for a node that no module computes."""
    stages = own.stages
    if node.op != "requantize":
        raise IntsimError(f"node {node.shown}: the target runs it as {node.op}, which has no module")
    if len(node.inputs) != 1:
        raise IntsimError(f"node {node.shown}: it adds tensors before it requantizes, which no module does")
    channels = formulas(node)
    if stages and own.accumulate.bias == "requantizer":
        channels = _with_bias(graph, node, channels)
    if len(channels) > MOST_CELLS:
        raise IntsimError(f"node {node.shown}: {len(channels)} channels, more than {MOST_CELLS}")
    low, high = channels[0].low, channels[0].high
    if low is None or high is None:
        raise IntsimError(f"node {node.shown}: its codes aren't clipped, so they have no width")
    arriving = graph.tensors[node.inputs[0]]
    ends = (stages[-1].min, stages[-1].max) if stages else (arriving.low, arriving.high)
    return Cells(node, channels, stages, *ends, *_code_type(graph.tensors[node.output], low, high))


def _with_bias(graph: IntegerGraph, node: Node, channels: list[Formula]) -> list[Formula]:
    """Formulas of what registers hand on where they hold no bias: of r, what was of r + b."""
    maker = graph.producer(node.inputs[0])
    if maker is None or not isinstance(OPS[maker.op], Mac):
        raise IntsimError(
            f"node {node.shown}: it holds the bias of a layer that isn't next to it, which no module does"
        )
    if (bias := maker.arrays.get("bias")) is None:
        return channels
    if len(channels) not in (1, len(bias)):
        raise IntsimError(f"node {node.shown}: {len(channels)} formulas don't fit the bias of {len(bias)} channels")
    channels = channels * (len(bias) // len(channels))
    return [
        replace(f, pieces=tuple((None if at is None else at - b, s, o + s * b) for at, s, o in f.pieces))
        for f, b in zip(channels, map(int, bias), strict=True)
    ]


def _code_type(tensor: Tensor, low: int, high: int) -> tuple[int, bool]:
    """Bits of codes, and whether they are signed."""
    if tensor.type is not None and tensor.type.min <= low and high <= tensor.type.max:
        return tensor.type.bits, tensor.type.signed
    return smallest(low, high) - (low >= 0), low < 0


class Constants(NamedTuple):
    """What requantize.sv is told for one piece."""

    bias: int
    multiplier: int
    left: int
    right: int
    zero: int


def _multiplies(chosen: Requantizer) -> Multiplies:
    """Raises IntsimError for a scheme without a module."""
    if chosen.multiplies is not None:
        return chosen.multiplies
    if chosen.exact:
        raise IntsimError(f'scheme "{chosen.scheme}" has no multiplier; emit the kind threshold')
    raise IntsimError(
        f'scheme "{chosen.scheme}" has no module; those of fixed-point, ruy, shift and tosa with one rounding have'
    )


def _constants(
    chosen: Requantizer, how: Multiplies, cells: Cells, formula: Formula, scale: Fraction, offset: Fraction
) -> Constants:
    if scale == 0:
        return Constants(0, 0, 0, 0, formula.zero + round_fraction(offset, chosen.rounding or formula.rounding))
    told = chosen.channel(scale).told
    multiplier: int = told.get("multiplier", 1 if scale > 0 else -1)
    shift = told["shift"] - (how.bits - 1 if how.twice else 0)
    bias = bias_in_accumulator(scale, offset) if offset else 0
    if cells.stages:
        last = cells.stages[-1]
        most = (1 << last.bits) - 1  # clips any accumulator
        bias = int(wrap(bias, last.bits)) if last.overflow == "wrap" else min(max(bias, -most), most)
    if not multiplier:
        return Constants(bias, 0, 0, 0, formula.zero)
    if abs(shift) > 62:
        raise IntsimError(
            f"node {cells.node.shown}: scale {float(scale):g} needs a shift by {abs(shift)} bits, the module takes 62"
        )
    return Constants(bias, multiplier, max(0, -shift), max(0, shift), formula.zero)


def requantize(graph: IntegerGraph, node: Node, target: Target, vectors: int, seed: int) -> Kind:
    """A layer's requantizer on a target, its constants by channel and piece.

    Rows try channels in turn: ends of the accumulator's range, pieces' starts, ties between codes, powers of two, and
    drawn accumulators; what the scheme refuses is left out.

    Raises:
        IntsimError: a node or a scheme without a module, or a scale that the scheme refuses.
    """
    runs = machine(graph, target)
    own = runs.arithmetic(node)
    chosen = own.requantize
    how, cells = _multiplies(chosen), _cells(graph, runs.node(node), own)
    pieces = [
        [(at, _constants(chosen, how, cells, f, scale, offset)) for at, scale, offset in f.pieces]
        for f in cells.formulas
    ]
    every = [c for cell in pieces for _, c in cell]
    low, high = cells.formulas[0].low, cells.formulas[0].high
    assert low is not None
    assert high is not None
    if cells.stages:
        acc = cells.stages[-1].bits
    else:  # an unbounded register: wide enough for every sum with every bias
        acc = smallest(*(end + b for c in every for end in (cells.low, cells.high) for b in (0, c.bias)))
    if acc < 2 or (how.twice and acc > 32):
        raise IntsimError(f"node {node.shown}: its accumulator has {acc} bits, two roundings take 2..32")
    parameters: dict[str, Any] = {
        "ACC": acc,
        "SATURATE": int(bool(cells.stages) and cells.stages[-1].overflow == "saturate"),
        "MUL": max(how.bits, 3),
        "TWICE": int(how.twice),
        "ROUNDING": mode_number(how.rounding),
        "LEFT": max(c.left for c in every),
        "RIGHT": max(c.right for c in every),
        "ZERO": smallest(*(c.zero for c in every)),
        "OUT": cells.out,
        "LOW": _literal(low, cells.out + 1, True),
        "HIGH": _literal(high, cells.out + 1, True),
    }
    if how.twice:
        parameters["MUL"] = how.bits
    widths = Constants(acc + 1, parameters["MUL"], 6, 6, parameters["ZERO"])

    def choose(cell: list[tuple[int | None, Constants]]) -> str:
        assigned = [
            "; ".join(f"{n} = {_literal(v, w)}" for n, v, w in zip(Constants._fields, c, widths, strict=True))
            for _, c in cell
        ]
        text = f"begin {assigned[0]}; end"
        for (at, _), then in zip(cell[1:], assigned[1:], strict=True):
            assert at is not None
            if at > cells.high:
                break
            text = f"if (acc >= {_literal(max(at, cells.low), acc, True)}) begin {then}; end else {text}"
        return text

    declared = [
        f"  reg {'' if n in ('left', 'right') else 'signed '}[{w - 1}:0] {n};"
        for n, w in zip(Constants._fields, widths, strict=True)
    ]
    joined = ["acc", *Constants._fields, "code"]
    text = _top("requantize", len(pieces), acc, cells.out, declared, [choose(c) for c in pieces], parameters, joined)

    def accepts(formula: Formula, values: Integers) -> Integers:
        keep = np.ones(values.shape, bool)
        for first, last, (_, scale, offset) in spans(formula.pieces, cells.low, cells.high):
            limits = chosen.channel(scale).limits if scale else None
            here = (values >= first) & (values <= last)
            if limits is not None and here.any():
                held = biased(values[here], scale, offset, cells.stages)
                keep[here] = (held >= limits[0]) & (held <= limits[1])
        return values[keep]

    return _kind("requantize", text, cells, acc, vectors, seed, accepts, lambda f, v: chosen.codes(f, v, cells.stages))


def threshold(graph: IntegerGraph, node: Node, target: Target, vectors: int, seed: int) -> Kind:
    """A layer's exact codes by counting thresholds, over the accumulators that a target's register holds, or, of an
    unbounded one, that can arrive. A bias that no register holds is in the thresholds.

    Raises:
        IntsimError: a node without a module, a target that requantizes otherwise, more than 2^12 thresholds.
    """
    runs = machine(graph, target)
    own = runs.arithmetic(node)
    if not own.requantize.exact:
        raise IntsimError(
            f'target {target.name}: scheme "{own.requantize.scheme}" counts no thresholds; emit the kind requantize'
        )
    cells = _cells(graph, runs.node(node), own)
    if cells.stages and cells.stages[0].drop:
        raise IntsimError(f"target {target.name}: registers with an LSB of their own have no threshold module")
    stairs = [staircase(f, cells.low, cells.high) for f in cells.formulas]
    count = max(1, *(len(s.steps) for s in stairs))
    if count > MOST_COUNT:
        raise IntsimError(f"node {node.shown}: {count} thresholds a channel, more than {MOST_COUNT}")
    filled = any(len(s.steps) < count for s in stairs)
    acc = smallest(cells.low, cells.high + filled)
    widths = dict(thresholds=acc * count, down=count, base=cells.out)

    def choose(stair: Staircase) -> str:
        places = [*map(int, stair.thresholds), *[cells.high + 1] * (count - len(stair.steps))]
        down = sum(1 << i for i, step in enumerate(stair.steps) if step < 0)
        packed = sum((place & ((1 << acc) - 1)) << (acc * i) for i, place in enumerate(places))
        values = dict(thresholds=packed, down=down, base=stair.base)
        return f"begin {'; '.join(f'{n} = {_literal(v, widths[n])}' for n, v in values.items())}; end"

    declared = [f"  reg [{w - 1}:0] {n};" for n, w in widths.items()]
    parameters = {"ACC": acc, "COUNT": count, "OUT": cells.out}
    joined = ["acc", *widths, "code"]
    text = _top("threshold", len(stairs), acc, cells.out, declared, [choose(s) for s in stairs], parameters, joined)
    return _kind("threshold", text, cells, acc, vectors, seed, lambda f, v: v, own.requantize.codes)


def table(graph: IntegerGraph, node: Node, target: Target, vectors: int, seed: int) -> Kind:
    """A table of a layer: an entry for each code, by channel.

    Rows are all codes of all channels where there are no more than `vectors`, else that many drawn ones.

    Raises:
        IntsimError: the target computes the node otherwise than by a table.
    """
    node = machine(graph, target).node(node)
    if node.op != "table":
        raise IntsimError(f"node {node.shown}: target {target.name} runs it as {node.op}, not as a table")
    entries, low = node.arrays["table"], int(node.attributes["low"])
    codes, made = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    high = low + entries.shape[1] - 1
    bits, signed = _code_type(codes, low, high)
    out, out_signed = _code_type(made, int(entries.min()), int(entries.max()))
    cells = len(entries)
    wide = (cells - 1).bit_length()
    pattern = np.arange(1 << bits)
    code = pattern - ((pattern >> bits - 1) << bits if signed else 0)
    flat = np.zeros((1 << wide, 1 << bits), np.int64)
    flat[:cells] = entries[:, np.clip(code - low, 0, entries.shape[1] - 1)]
    known = pattern[(code >= low) & (code <= high)]
    if cells * len(known) <= vectors:
        channel, place = (x.reshape(-1) for x in np.meshgrid(np.arange(cells), known, indexing="ij"))
    else:
        generator = np.random.default_rng(seed)
        channel, place = generator.integers(0, cells, vectors), generator.choice(known, vectors)
    address = "{channel, x}" if wide else "x"
    declared = [f"  input  wire [{wide - 1}:0] channel,"] if wide else []
    text = "\n".join(
        [
            "// Made by intsim: lookup.sv with its parameters.",
            "module intsim_lookup (",
            *declared,
            f"  input  wire [{bits - 1}:0] x,",
            f"  output wire [{out - 1}:0] y",
            ");",
            f'  lookup #(.IN({wide + bits}), .OUT({out}), .FILE("{TABLE_FILE}")) made (.x({address}), .y(y));',
            "endmodule\n",
        ]
    )
    ports = ([port("channel", wide)] if wide else []) + [port("x", bits, signed)]
    design = _design("lookup", node, ports, port("y", out, out_signed))
    columns = {"channel": channel, "x": place, "y": flat[channel, place]}
    return Kind("lookup", text, design, columns, {TABLE_FILE: (flat, out)})


def _kind(
    module: str,
    text: str,
    cells: Cells,
    acc: int,
    vectors: int,
    seed: int,
    accepts: Callable[[Formula, Integers], Integers],
    codes: Callable[[Formula, Integers], Integers],
) -> Kind:
    """With vectors of every channel."""
    generator = np.random.default_rng(seed)
    count = max(LOWEST_VECTORS, -(-vectors // len(cells.formulas)))
    columns: dict[str, list[Integers]] = {"channel": [], "acc": [], "code": []}
    for number, formula in enumerate(cells.formulas):
        picked = accepts(formula, _accumulators(generator, formula, cells.low, cells.high, count))
        if picked.size:
            columns["channel"].append(np.full(picked.shape, number))
            columns["acc"].append(picked)
            columns["code"].append(codes(formula, picked))
    ports = [port("channel", (len(cells.formulas) - 1).bit_length())] if len(cells.formulas) > 1 else []
    design = _design(module, cells.node, [*ports, port("acc", acc, True)], port("code", cells.out, cells.signed))
    return Kind(module, text, design, {k: np.concatenate(v) for k, v in columns.items()})


def _accumulators(generator: np.random.Generator, formula: Formula, low: int, high: int, count: int) -> Integers:
    """Accumulators of a channel that are worth trying, `count` of them."""
    assert formula.low is not None
    assert formula.high is not None
    places = [low, high]
    steps = np.unique(np.linspace(formula.low, formula.high, 32).astype(np.int64) - formula.zero)
    for first, last, (_, scale, offset) in spans(formula.pieces, low, high):
        places += [first, first - 1, last]
        for code in steps if scale else ():
            tie = ((2 * int(code) + 1) / Fraction(2) - offset) / scale
            places += [tie.__floor__() + d for d in (-1, 0, 1, 2)]
    pool = np.unique(np.array([p for p in places if low <= p <= high], np.int64))
    few = generator.permutation(np.concatenate([pool, corners(low, high)]))[: count // 2]
    rest = drawn(generator, low, high, count - len(few) - 2)
    return np.concatenate([np.array([low, high]), few, rest])


def _top(
    module: str,
    cells: int,
    acc: int,
    out: int,
    declared: Sequence[str],
    chosen: Sequence[str],
    parameters: dict[str, Any],
    joined: Sequence[str],
) -> str:
    """A module with ports channel (where there are several), acc and code, that chooses constants."""
    wide = (cells - 1).bit_length()
    given = ",\n".join(f"      .{k}({v})" for k, v in parameters.items())
    ports = ([f"  input  wire [{wide - 1}:0] channel"] if wide else []) + [f"  input  wire signed [{acc - 1}:0] acc"]
    ports.append(f"  output wire [{out - 1}:0] code")
    lines = [
        f"// Made by intsim: {module}.sv with the constants of a layer.",
        f"module intsim_{module} (",
        ",\n".join(ports),
        ");",
    ]
    lines += [*declared, "  always_comb begin"]
    if wide:
        lines.append("    case (channel)")
        lines += [f"      {wide}'d{n}: {text}" for n, text in enumerate(chosen[:-1])]
        lines += [f"      default: {chosen[-1]}", "    endcase"]
    else:
        lines.append(f"    {chosen[0]}")
    lines += [
        "  end",
        f"  {module} #(\n{given}\n  ) made (",
        ",\n".join(f"      .{n}({n})" for n in joined),
        "  );",
        "endmodule\n",
    ]
    return "\n".join(lines)


def _design(module: str, node: Node, inputs: list[Port], output: Port) -> Design:
    files = (*modules.sources(module), f"intsim_{module}.sv")
    return Design(Path(), f"intsim_{module}", files, tuple(inputs), (output,), layer=node.shown)


def _literal(value: int, bits: int, signed: bool = False) -> str:
    """Verilog of a number, by its bits."""
    text = f"{bits}'h{value & ((1 << bits) - 1):x}"
    return f"$signed({text})" if signed else text
