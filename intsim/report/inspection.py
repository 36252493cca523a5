"""What a model is made of, as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from intsim.report.table import Column, note, say, show_table
from intsim.report.text import floats, listed, number


def show_inspection(console: Console, content: dict[str, Any]) -> None:
    """Layers, then inputs, outputs, host work and totals; `content` is what `intsim.inspect.inspect` returns."""
    layers = content["layers"]
    biases = [x["bias"] for x in layers]
    rests = [None if b is None else max(b["rest"], b["requantizer"]) for b in biases]
    show_table(
        console,
        [
            Column("layer", [x["name"] for x in layers], "text"),
            Column("op", [x["op"] for x in layers], "text"),
            Column("output", [_shape(x["shape"]) for x in layers]),
            Column("weights", [x["weight_type"] or "-" for x in layers], spare=1),
            Column("bits\nin", [x["input_type"] for x in layers]),
            Column("bits\nout", [x["output_type"] for x in layers]),
            Column("acc\nbits", [str(x["accumulator_bits"] or "-") for x in layers]),
            Column("bias", ["-" if b is None else number(b["register"]) for b in biases]),
            Column("rest", ["-" if r is None else f"{r:.3g}" for r in rests], spare=2),
            Column("MACs", [number(x["macs"]) for x in layers]),
        ],
        content["model"],
    )
    note(
        console,
        "bias: largest one, in LSB of the accumulator, in the register; rest: what the requantizer adds, in LSB",
    )
    if any(r is not None and r > 0.5 for r in rests):
        note(
            console,
            "a rest above 0.5 is a constant that no register holds: BatchNormalization, or behind a nonlinearity",
        )
    if offs := [x["off"] for x in layers if "off" in x]:
        note(
            console,
            f"{number(len(offs))} layers round what is no integer times a scale (softmax, normalisation, sums that "
            f"nobody quantized); it is known to within {max(offs):.2g} of a code",
        )
    for kind in ("inputs", "outputs"):
        for name, shape in content[kind].items():
            say(console, f"{kind[:-1]:<8} {name}  {_shape(shape)}")
    for part in ("prologue", "islands", "epilogue"):
        if part in content["host"]:
            say(console, f"{part:<8} {listed(content['host'][part]) or 'none'}  (host, {floats(content['host'])})")
    say(console, f"total    {number(content['macs'])} MACs, {number(content['weights'])} weights")


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))
