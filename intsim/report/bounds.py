"""The table of proven bounds, and the files of the inputs that attain them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intsim.arithmetic.registers import Registers
from intsim.graph import IntegerGraph
from intsim.ops import OPS, Mac
from intsim.proofs.bounds import Bounds, LayerBound
from intsim.proofs.witness import ORDERS, Witness, witnesses


def show_bounds(console: Console, found: Bounds, lines: Sequence[dict[str, Any]] | None = None) -> None:
    """Proven widths, and what the target's registers make of them; with `lines` whether the bounds are attained."""
    stages = [s.stage for s in found.layers[0].stages] if found.layers else []
    heads = ["depth", "final", "own", "any", "types", "A2Q", "A2Q+", *(f"reg {i + 1}" for i in range(len(stages)))]
    table = Table(title=escape(f"{found.model} on {found.target}: proven for every input"), title_justify="left")
    for i, head in enumerate(("layer", "op", *heads, *([] if lines is None else ["tight"]), "proof")):
        table.add_column(
            head, justify="left" if i < 2 else "right", overflow="fold", header_style="bold", no_wrap=i > 0
        )
    for i, layer in enumerate(found.layers):
        widths = (layer.depth, layer.bits, layer.own_order.bits, layer.any_order.bits, layer.type_bits)
        unsafe = [f"{s.bits} ({s.channels_unsafe})" if s.channels_unsafe else str(s.bits) for s in layer.stages]
        tight = [] if lines is None else [_tight([x for x in lines if x["index"] == i])]
        word = "[green]safe[/]" if layer.safe else "[yellow]unsafe[/]"
        table.add_row(escape(layer.name), layer.op, *map(str, widths), *_granted(layer), *unsafe, *tight, word)
    console.print(table)
    if found.layers:
        console.print(
            "bits of a signed register: final, for the finished sum; own, for all sums on the way in the target's "
            "order; any, in every order, bias included; types, A2Q, A2Q+: granted to the products from their types",
            style="dim",
        )
        console.print(_savings(found.layers), style="dim")
    if stages:
        console.print(
            f"reg: bits a register may need, (channels in which it can overflow); {'; '.join(stages)}", style="dim"
        )
    for line in lines or ():
        if not line["attained"]:
            console.print(
                f"not attained: {line['layer']}, channel {line['channel']}, {line['order']} order, {line['side']}: "
                f"bound {line['bound']}, best found {line['value']}",
                markup=False,
            )
    console.print(
        "verdict: " + ("[green]no register can overflow[/]" if found.safe else "[yellow]overflow is possible[/]")
    )


def _granted(layer: LayerBound) -> tuple[str, str]:
    """Widths that A2Q and A2Q+ grant to all channels; a dash for a product of two tensors."""
    if layer.budget is None:
        return "-", "-"
    return str(max(layer.budget.a2q_bits)), str(max(layer.budget.a2q_plus_bits))


def _tight(lines: list[dict[str, Any]]) -> str:
    attained = sum(x["attained"] for x in lines)
    return "[green]yes[/]" if attained == len(lines) else f"[yellow]{attained} of {len(lines)}[/]"


def _savings(layers: Sequence[LayerBound]) -> str:
    """What the ranges save against A2Q for the products alone."""
    budgets = [(x.budget, x.products) for x in layers if x.budget is not None]
    saved = [a - p for b, own in budgets for a, p in zip(b.a2q_bits, own.channel_bits, strict=True)]
    if not saved:
        return "A2Q and A2Q+ speak of constant weights only"
    gain = f"{min(saved)} to {max(saved)} bits a channel, {sum(saved) / len(saved):.2f} on average"
    return f"ranges save {gain}, against A2Q, products alone"


def write_witnesses(folder: Path, graph: IntegerGraph, registers: Registers) -> list[dict[str, Any]]:
    """One .npz a layer in `folder`: for each order and side, the worst channel's witness. Returns a line for each.

    The arrays of a witness are named ORDER.SIDE.FIELD: input0 (and input1), channel, position, permutation, step,
    bound, value, attained.
    """
    lines: list[dict[str, Any]] = []
    layers = [n for n in graph.nodes if isinstance(OPS[n.op], Mac)]
    for index, node in enumerate(layers):
        name = node.source or node.name
        file = f"{index:03d}_{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:80]}.npz"
        arrays: dict[str, Any] = {}
        for found in witnesses(graph, node, registers, orders=ORDERS):
            arrays |= {f"{found.order}.{found.side}.{k}": v for k, v in _arrays(found).items()}
            lines.append({"index": index, "layer": name, "file": file, **_line(found)})
        np.savez_compressed(folder / file, allow_pickle=False, **arrays)
    return lines


def _arrays(found: Witness) -> dict[str, Any]:
    fields = ("channel", "position", "permutation", "step", "bound", "value", "attained")
    inputs = {f"input{i}": a for i, a in enumerate(found.inputs)}
    return inputs | {f: np.asarray(getattr(found, f)) for f in fields}


def _line(found: Witness) -> dict[str, Any]:
    fields = ("order", "side", "channel", "position", "step", "bound", "value", "attained")
    return {f: getattr(found, f) for f in fields}
