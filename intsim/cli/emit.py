"""The verb `emit`: a module in SystemVerilog with its parameters and vectors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intsim.cli.options import Json, Seed, TargetName, app, arrays, console, one_array
from intsim.cli.options import emit as emit_json
from intsim.errors import IntsimError

if TYPE_CHECKING:
    from intsim.arithmetic.integers import IntegerType
    from intsim.model import Model
    from intsim.rtl.kinds import Kind
    from intsim.targets import Target

KINDS = ("mac", "dot", "requantize", "threshold", "hilbert", "table", "layer", "embedding")
OF_LAYERS = ("requantize", "threshold", "table")
MOST_VECTORS, MOST_DEPTH = 1_000_000, 1 << 16


@app.command()
def emit(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    model: Annotated[
        str | None, typer.Argument(help="of requantize, threshold, table, layer: the network's file")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder to write")] = None,
    target: TargetName = "exact",
    layer: Annotated[str | None, typer.Option("--layer", help="of a model: the layer whose constants it takes")] = None,
    activation: Annotated[
        str | None, typer.Option("--activation", help="of mac, dot: type, else the target's or s8")
    ] = None,
    weight: Annotated[str | None, typer.Option("--weight", help="of mac, dot: type, else the target's or s8")] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, max=MOST_DEPTH, help="of dot: most products of a sum")] = 64,
    order: Annotated[int, typer.Option("--order", help="of hilbert: of the curve")] = 3,
    code_bits: Annotated[int, typer.Option("--code-bits", help="of hilbert: of a coordinate")] = 8,
    output_bits: Annotated[int | None, typer.Option("--output-bits", help="of hilbert: else positions")] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="of hilbert: codes are")] = False,
    lookup: Annotated[bool, typer.Option("--lookup", help="of hilbert: a table of all pairs of codes")] = False,
    pe: Annotated[int | None, typer.Option("--pe", help="of layer: output channels that are added at once")] = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", "-i", help="of layer: .npz or .npy that the network reads, else drawn")
    ] = None,
    entries: Annotated[
        str | None, typer.Option("--entries", help="of embedding: .npy of integers (values, elements)")
    ] = None,
    guide: Annotated[bool, typer.Option("--guide", help="of hilbert: a guide's code as a third input")] = False,
    window: Annotated[int | None, typer.Option("--window", help="of hilbert with a guide: in positions")] = None,
    weight_shift: Annotated[
        int | None, typer.Option("--weight-shift", help="of hilbert with a guide: k of the weight 2^-k")
    ] = None,
    confidence: Annotated[
        int | None, typer.Option("--confidence", help="of hilbert: squared distance, whether within this radius")
    ] = None,
    pipelined: Annotated[bool, typer.Option("--pipelined", help="of hilbert: registers, valid and ready")] = False,
    vectors: Annotated[int, typer.Option("--vectors", "-n", min=1, max=MOST_VECTORS, help="rows, about")] = 4096,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Write a module in SystemVerilog: top, vectors, cosim.toml, a self-checking testbench and run.sh for Icarus."""
    from intsim.report import files
    from intsim.report.table import say
    from intsim.rtl import kinds
    from intsim.targets import Target

    if kind not in KINDS:
        raise IntsimError(f"emit {kind}: no such kind; there are {', '.join(KINDS)}")
    if out is None:
        raise IntsimError(f"emit {kind}: give the folder to write, -o DIR")
    machine = Target.load(target)
    if kind != "layer" and (pe is not None or inputs is not None):
        raise IntsimError(f"emit {kind}: --pe and --inputs are of the kind layer")
    if (kind == "embedding") != (entries is not None):
        raise IntsimError(f"emit {kind}: the kind embedding, and no other, takes --entries FILE.npy")
    if kind == "layer":
        made = _layer(model, layer, machine, inputs, pe, vectors, seed)
    elif kind in OF_LAYERS:
        made = _of_layer(kind, model, layer, machine, vectors, seed)
    elif model is not None or layer is not None:
        raise IntsimError(f"emit {kind}: takes no model and no layer")
    elif kind == "embedding":
        made = kinds.embedding(one_array(entries or ""), vectors, seed)
    elif kind == "hilbert":
        from intsim.hilbert import Decoder

        decoder = Decoder.lattice_aligned(order, None, code_bits, output_bits, signed=not unsigned)
        made = kinds.hilbert(
            decoder,
            lookup,
            vectors,
            seed,
            guided=guide,
            window=window,
            weight_shift=weight_shift,
            radius=confidence,
            pipelined=pipelined,
        )
    else:
        own = machine.operands
        types = _type(activation, own.activation if own else None), _type(weight, own.weight if own else None)
        made = (
            kinds.mac(machine, *types, vectors, seed)
            if kind == "mac"
            else kinds.dot(machine, *types, depth, vectors, seed)
        )
    with files.folder(out) as draft:
        names = kinds.emit(made, draft)
    rows = len(next(iter(made.vectors.values())))
    if json_:
        content = {
            "target": None if kind in ("hilbert", "embedding") else machine.name,
            "design": made.design.top,
            "vectors": rows,
        }
        emit_json({"format": "intsim-emit-1", **content, "files": [str(out / n) for n in names]})
    else:
        say(console(), f"{made.design.top}: {rows} rows of vectors; wrote {', '.join(names)} to {out}")
        say(console(), f"next: intsim cosim {out}")


def _of_layer(kind: str, model: str | None, layer: str | None, machine: Target, vectors: int, seed: int) -> Kind:
    from intsim.rtl import layers

    opened, name = _opened(kind, model, layer)
    node = layers.layer(opened.graph, name, "table" if kind == "table" else "requantize")
    return getattr(layers, kind)(opened.graph, node, machine, vectors, seed)


def _layer(
    model: str | None, layer: str | None, machine: Target, inputs: str | None, pe: int | None, vectors: int, seed: int
) -> Kind:
    from intsim.rtl.streaming import stream

    opened, name = _opened("layer", model, layer)
    given = None if inputs is None else arrays(inputs, list(opened.lowered.source.inputs))
    return stream(opened, name, machine, given, pe, vectors, seed)


def _opened(kind: str, model: str | None, layer: str | None) -> tuple[Model, str]:
    from intsim.model import load

    if model is None or layer is None:
        raise IntsimError(f"emit {kind}: give a network's file, and the layer whose constants it takes, --layer NAME")
    return load(model), layer


def _type(text: str | None, own: IntegerType | None) -> IntegerType:
    from intsim.arithmetic.integers import IntegerType

    if text is None:
        return own or IntegerType(8, True)
    if not re.fullmatch("[su]([1-9]|[12][0-9]|3[0-2])", text):
        raise IntsimError(f"type {text!r}; allowed: s1..s32, u1..u32")
    return IntegerType(int(text[1:]), text[0] == "s")
