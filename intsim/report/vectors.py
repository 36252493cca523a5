"""Vectors, traces and comparisons as tables, and the first wrong integer in words."""

from __future__ import annotations

import shlex
from math import prod
from pathlib import Path
from typing import Any

from rich.console import Console

from intsim.golden.compare import Comparison, FirstWrong, TensorComparison
from intsim.golden.manifest import Manifest
from intsim.golden.sums import Trace
from intsim.golden.vectors import Vectors
from intsim.report.next_step import NextStep
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number


def show_vectors(console: Console, made: Vectors) -> None:
    """What was written, layer by layer."""
    layers = made.manifest["layers"]
    files = sum(len(t["files"]) for x in layers for t in x["tensors"])
    show_table(
        console,
        [
            Column("layer", [x["name"] for x in layers], "text"),
            Column("op", [x["op"] for x in layers], "text"),
            Column("shape", ["x".join(map(str, x["tensors"][-1]["shape"])) for x in layers], "text"),
            Column("type", [x["tensors"][-1]["type"] for x in layers], "text"),
            Column("elements", [number(sum(prod(t["shape"]) for t in x["tensors"])) for x in layers], spare=1),
            Column("tensors", [str(len(x["tensors"])) for x in layers]),
        ],
        f"{made.manifest['model']['path']} on {made.manifest['target']['name']}",
    )
    say(console, f"{counted(len(layers), 'layer')}, {counted(files, 'file')} and manifest.json in {made.path}")


def show_trace(console: Console, told: Trace) -> None:
    """Every addition, one a line."""
    rows = told.additions

    def numbers(values: list[int | None]) -> list[str]:
        return ["" if v is None else str(v) for v in values]

    lanes = any(a.lane for a in rows)
    show_table(
        console,
        [
            Column("stage", [str(a.stage) if a.stage else "-" for a in rows]),
            *([Column("lane", [str(a.lane) for a in rows])] if lanes else []),
            Column("adds", [a.adds for a in rows], "text"),
            Column("activation", numbers([a.activation for a in rows])),
            Column("weight", numbers([a.weight for a in rows])),
            Column("added", [str(a.added) for a in rows]),
            Column("value", [str(a.value) for a in rows]),
            Column("overflow", ["overflow" if a.overflow else "" for a in rows], "text"),
        ],
        f"{told.layer}, output {','.join(map(str, told.position))}",
    )
    note(console, "value: what the register holds after the addition, in its own LSBs")
    over = sum(a.overflow for a in rows)
    say(console, f"accumulator {told.total}, {counted(over, 'overflow')}")


def show_comparison(console: Console, found: Comparison) -> None:
    """A line a tensor, and the first wrong integer."""
    rows = found.tensors
    show_table(
        console,
        [
            Column("layer", [t.layer for t in rows], "text"),
            Column("tensor", [t.tensor for t in rows], "text"),
            Column("order", [t.order for t in rows], "text", spare=1),
            Column("elements", [number(t.elements) for t in rows]),
            Column("mis-\nmatches", [number(t.mismatches) for t in rows]),
        ],
        f"{found.dump} against {found.vectors}",
    )
    wrong = found.wrong
    if wrong is None or wrong.first is None:
        say(console, "verdict: ", ("same", "green"))
        return
    say(console, first_wrong(wrong, wrong.first))
    say(console, "verdict: ", ("different", "red"))


def first_wrong(tensor: TensorComparison, first: FirstWrong) -> str:
    """In words: where, what it should be, what stood before the requantizer."""
    where = f"position {','.join(map(str, first.position))}"
    where = f"channel {first.channel}, {where}" if first.channel is not None else where
    where += f", sample {first.sample}" if first.sample else ""
    text = f"first wrong: {tensor.layer}, {tensor.tensor}, {where} (element {number(first.element)} of the dump): "
    text += f"expected {first.expected}, got {first.got}"
    if first.before is not None:
        text += f"; the accumulator there is {first.before}"
    if first.registers:
        held = "; ".join(f"stage {i}: {', '.join(map(str, r))}" for i, r in enumerate(first.registers, 1))
        text += f"; its registers end with {held}"
    return text


def after_comparison(found: Comparison, words: list[str]) -> NextStep | None:
    """What to do about the first wrong tensor; `words` are the command that compared, without its order."""
    wrong = found.wrong
    if wrong is None or wrong.first is None:
        return None
    if wrong.also is not None:
        text = f"every integer of {wrong.layer} is right in order {wrong.also}; say so"
        return NextStep(text, shlex.join([*words, "--order", wrong.also]), wrong.layer)
    if wrong.narrower is not None:
        kind = wrong.narrower
        text = f'every integer of {wrong.layer} is right as {kind}; say so in a map: type = "{kind}"'
        return NextStep(text, shlex.join([*words, "--map", "dump.toml"]), wrong.layer)
    manifest = Manifest.read(Path(found.vectors))
    layer = manifest.layer(wrong.layer)
    content, first = manifest.content, wrong.first
    traced = layer["products"] is not None and wrong.tensor in ("output", "accumulator")
    if traced and (not first.sample or content["seed"] is not None):
        at = f"{wrong.layer}:{','.join(map(str, first.position))}"
        command: list[Any] = ["intsim", "vectors", content["model"]["path"]]
        command += ["-t", content["target"]["path"] or content["target"]["name"]]
        if content["seed"] is not None:
            command += ["--seed", content["seed"] + first.sample]
        elif content["inputs"] is not None:
            command += ["--inputs", content["inputs"]]
        text = f"see every addition of that output of {wrong.layer}"
        return NextStep(text, shlex.join(map(str, [*command, "--trace", at])), wrong.layer)
    if wrong.tensor == "operand":
        text = f"what {wrong.layer} reads is wrong already; compare the layer before"
        return NextStep(text, shlex.join(words), wrong.layer)
    text = f"compare what {wrong.layer} reads, with a dump of its operand: that tells it from the layers before"
    command = ["intsim", "compare", found.vectors, "OPERAND.npy", "--layer", wrong.layer, "--tensor", "operand"]
    return NextStep(text, shlex.join(command), wrong.layer)
