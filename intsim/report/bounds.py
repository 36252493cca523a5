"""The table of proven bounds, and the files of the inputs that attain them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from intsim.dispatch import arithmetic
from intsim.graph import IntegerGraph
from intsim.ops import OPS, Mac
from intsim.proofs.bounds import Bounds, LayerBound, StageBound
from intsim.proofs.propose import Proposal
from intsim.proofs.witness import ORDERS, Witness, witnesses
from intsim.report.next_step import NextStep, show_step
from intsim.report.table import Column, note, say, show_table
from intsim.targets import Target


def show_bounds(console: Console, proven: Bounds, lines: Sequence[dict[str, Any]] | None = None) -> None:
    """Proven widths, and what the target's registers make of them; with `lines` whether the bounds are attained."""
    layers = proven.layers
    stages = max((x.stages for x in layers), key=len, default=[])
    alike = all([(s.bits, s.overflow) for s in x.stages] == [(s.bits, s.overflow) for s in stages] for x in layers)
    columns = [
        Column("layer", [x.name for x in layers], "text"),
        Column("op", [x.op for x in layers], "text", spare=1),
        Column("depth", [str(x.depth) for x in layers], spare=2),
        Column("final", [str(x.required_bits) for x in layers]),
        Column("own", [str(x.own_order.required_bits) for x in layers]),
        Column("any", [str(x.any_order.required_bits) for x in layers]),
        Column("types", [str(x.type_bits) for x in layers], spare=3),
        Column("A2Q", [_granted(x, "a2q_bits") for x in layers], spare=3),
        Column("A2Q+", [_granted(x, "a2q_plus_bits") for x in layers], spare=3),
        *(
            Column(f"stage\n{i + 1}", [_stage(x.stages[i], alike) if i < len(x.stages) else "-" for x in layers])
            for i in range(len(stages))
        ),
    ]
    if lines is not None:
        columns.append(
            Column("tight", [_tight([x for x in lines if x["index"] == i]) for i in range(len(layers))], spare=1)
        )
    words = [Text("safe", "green") if x.safe else Text("unsafe", "yellow") for x in layers]
    show_table(console, [*columns, Column("proof", words)], f"{proven.model} on {proven.target}: for every input")
    if layers:
        note(
            console,
            "bits of a signed register: final, for the finished sum; own, for all sums on the way in the target's "
            "order; any, in every order, bias included; types, A2Q, A2Q+: granted to the products from their types",
        )
        note(console, _savings(layers))
    if stages:
        registers = "; ".join(f"{s.stage}: {s.bits}-bit {s.overflow}" for s in stages)
        registers = registers if alike else "registers differ by layer, their width behind the slash"
        note(console, "stage: bits its register may need, (channels in which it can overflow); " + registers)
    for line in lines or ():
        if not line["attained"]:
            say(
                console,
                f"not attained: {line['name']}, channel {line['channel']}, {line['order']} order, {line['side']}: "
                f"bound {line['bound']}, best reached {line['value']}",
            )
    result = ("no register can overflow", "green") if proven.safe else ("overflow is possible", "yellow")
    say(console, "verdict: ", result)


def show_proposal(console: Console, made: Proposal, following: str | None = None) -> None:
    """Of each layer the least proven widths, and what they save against one width for all."""
    layers = made.layers
    stages = range(len(made.uniform_bits))
    columns = [
        Column("layer", [x.name for x in layers], "text"),
        Column("channels", [str(x.channels) for x in layers], spare=1),
        *(Column(f"stage\n{i + 1}", [str(x.bits[i]) if i < len(x.bits) else "-" for x in layers]) for i in stages),
        Column("register\nbits", [str(x.register_bits) for x in layers], spare=2),
    ]
    show_table(console, columns, f"{made.model} on {made.target}: least widths that are proven to hold every sum")
    uniform = " and ".join(str(b) for b in made.uniform_bits)
    saved = made.uniform_register_bits - made.register_bits
    note(
        console,
        f"register bits, where each channel has registers of its own: {made.register_bits}; with {uniform} bits in "
        f"every layer {made.uniform_register_bits}, which is {saved} more",
    )
    say(console, f"verdict: no register of target {made.proposed} can overflow, for every input")
    if following is not None:
        show_step(console, NextStep("see whether its codes are exact, too", following))


def _granted(layer: LayerBound, kind: str) -> str:
    """The width that A2Q or A2Q+ grants to all channels; a dash for a product of two tensors."""
    return "-" if layer.budget is None else str(max(getattr(layer.budget, kind)))


def _stage(stage: StageBound, alike: bool) -> str:
    own = "" if alike else f"/{stage.bits}{stage.overflow[0]}"
    return f"{stage.required_bits}{own}" + (f" ({stage.unsafe_channels})" if stage.unsafe_channels else "")


def _tight(lines: list[dict[str, Any]]) -> Text:
    attained = sum(x["attained"] for x in lines)
    return Text("yes", "green") if attained == len(lines) else Text(f"{attained} of {len(lines)}", "yellow")


def _savings(layers: Sequence[LayerBound]) -> str:
    """What the ranges save against A2Q for the products alone."""
    budgets = [(x.budget, x.products) for x in layers if x.budget is not None]
    saved = [a - p for b, own in budgets for a, p in zip(b.a2q_bits, own.channel_bits, strict=True)]
    if not saved:
        return "A2Q and A2Q+ speak of constant weights only"
    gain = f"{min(saved)} to {max(saved)} bits a channel, {sum(saved) / len(saved):.2f} on average"
    return f"ranges save {gain}, against A2Q, products alone"


def write_witnesses(folder: Path, graph: IntegerGraph, target: Target) -> list[dict[str, Any]]:
    """One .npz a layer in `folder`: for each order and side, the worst channel's witness. Returns a line for each.

    The arrays of a witness are named ORDER.SIDE.FIELD: input0 (and input1), channel, position, permutation, step,
    bound, value, attained.
    """
    lines: list[dict[str, Any]] = []
    layers = [n for n in graph.nodes if isinstance(OPS[n.op], Mac)]
    for index, node in enumerate(layers):
        name = node.shown
        file = f"{index:03d}_{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:80]}.npz"
        arrays: dict[str, Any] = {}
        registers = arithmetic(target, graph, node).registers
        for witness in witnesses(graph, node, registers, orders=ORDERS):
            arrays |= {f"{witness.order}.{witness.side}.{k}": v for k, v in _arrays(witness).items()}
            lines.append({"index": index, "name": name, "file": file, **_line(witness)})
        np.savez_compressed(folder / file, allow_pickle=False, **arrays)
    return lines


def _arrays(witness: Witness) -> dict[str, Any]:
    fields = ("channel", "position", "permutation", "step", "bound", "value", "attained")
    inputs = {f"input{i}": a for i, a in enumerate(witness.inputs)}
    return inputs | {f: np.asarray(getattr(witness, f)) for f in fields}


def _line(witness: Witness) -> dict[str, Any]:
    fields = ("order", "side", "channel", "position", "step", "bound", "value", "attained")
    return {f: getattr(witness, f) for f in fields}
