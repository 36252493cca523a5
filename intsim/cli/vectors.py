"""The verb `vectors`: what each layer reads, holds and makes, in files; or one output's additions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnSamples, console, emit, progress, verb
from intsim.errors import IntsimError


@verb
def vectors(
    asked: OnSamples,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a new folder, or one of vectors to replace")] = None,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="only this layer; may be given again")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="also what each register holds after a layer's last addition")
    ] = False,
    formats: Annotated[str, typer.Option("--format", help="npy, hex, words, c, with commas between")] = "npy,hex",
    bus_bits: Annotated[int, typer.Option("--bus-bits", help="bits of a word of the format words")] = 32,
    order: Annotated[str, typer.Option("--order", help="of elements: NCHW, NHWC, finn, hls4ml")] = "NCHW",
    trace: Annotated[
        str | None, typer.Option("--trace", help="print one output's additions instead: LAYER:c,y,x")
    ] = None,
) -> None:
    """Write golden vectors: operands, weights, accumulators, requantizer constants and codes of every layer."""
    if (out is None) == (trace is None):
        raise IntsimError("give one of --out, a folder for the vectors, and --trace LAYER:c,y,x")
    target, model = asked.target, asked.loaded
    from intsim.golden.vectors import position, trace_output
    from intsim.golden.vectors import vectors as write
    from intsim.report.vectors import show_trace, show_vectors

    if out is None:
        told = trace_output(model, *position(trace or ""), target, asked.arrays, asked.seed)
        emit(told.to_json()) if asked.json_ else show_trace(console(), told)
        return
    with progress(len(asked.data) * len(model.graph.nodes)) as step:
        made = write(
            model,
            target,
            *asked.drawn,
            out=out,
            layer=layer or (),
            partial=partial,
            formats=formats.split(","),
            bus_bits=bus_bits,
            order=order,
            source=asked.inputs,
            progress=step,
        )
    emit(made.to_json()) if asked.json_ else show_vectors(console(), made)
