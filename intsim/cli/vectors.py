"""The verb `vectors`: what each layer reads, holds and makes, in files; or one output's additions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnSamples, console, emit, one_array, progress, verb
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
    pe: Annotated[int | None, typer.Option("--pe", help="with --simd and --order finn: also weight memories")] = None,
    simd: Annotated[int | None, typer.Option("--simd", help="columns of a fold; --pe are its rows")] = None,
    trace: Annotated[
        str | None, typer.Option("--trace", help="print one output's additions instead: LAYER:c,y,x")
    ] = None,
    operands: Annotated[
        str | None,
        typer.Option("--operands", help=".npy or .npz of one array: codes that --layer reads, instead of --inputs"),
    ] = None,
    discriminate: Annotated[
        int | None,
        typer.Option("--discriminate", help="construct so many operands of --layer that show plausible mistakes"),
    ] = None,
) -> None:
    """Write golden vectors: operands, weights, accumulators, requantizer constants and codes of every layer."""
    if (out is None) == (trace is None):
        raise IntsimError("give one of --out, a folder for the vectors, and --trace LAYER:c,y,x")
    if (pe is None) != (simd is None) or (pe is not None and discriminate is not None):
        raise IntsimError("--pe and --simd fold weights together, and not of --discriminate")
    target, model = asked.target, asked.loaded
    from intsim.golden.vectors import position, trace_output
    from intsim.golden.vectors import vectors as write
    from intsim.report.vectors import show_trace, show_vectors

    if out is None:
        told = trace_output(model, *position(trace or ""), target, asked.arrays, asked.seed)
        emit(told.to_json()) if asked.json_ else show_trace(console(), told)
        return
    if discriminate is not None:
        _discriminating(asked, out, layer or [], discriminate, partial, formats, bus_bits, order)
        return
    with progress(len(asked.data) * len(model.graph.nodes)) as step:
        made = write(
            model,
            target,
            *((None, None) if operands else asked.drawn),
            operands=one_array(operands) if operands else None,
            out=out,
            layer=layer or (),
            partial=partial,
            formats=formats.split(","),
            bus_bits=bus_bits,
            order=order,
            fold=None if pe is None or simd is None else (pe, simd),
            source=operands or asked.inputs,
            progress=step,
        )
    emit(made.to_json()) if asked.json_ else show_vectors(console(), made)


def _discriminating(
    asked: OnSamples,
    out: Path,
    layer: list[str],
    count: int,
    partial: bool,
    formats: str,
    bus_bits: int,
    order: str,
) -> None:
    """Vectors of one layer on operands that are made for it."""
    from intsim.diagnosis.discriminate import discriminate
    from intsim.report.diagnosis import show_coverage
    from intsim.report.vectors import show_vectors

    if len(layer) != 1:
        raise IntsimError("--discriminate constructs operands of one layer: give --layer NAME, once")
    with progress(4) as step:
        made, coverage = discriminate(
            asked.loaded,
            asked.target,
            asked.arrays,
            out=out,
            layer=layer[0],
            count=count,
            seed=asked.seed,
            partial=partial,
            formats=formats.split(","),
            bus_bits=bus_bits,
            order=order,
            source=asked.inputs,
            progress=step,
        )
    if asked.json_:
        emit(made.to_json())
    else:
        show_vectors(console(), made)
        show_coverage(console(), coverage)
