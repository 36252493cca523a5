"""The verb `narrow`: the network with fewer bits of weights and activations, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnModel, console, emit, verb
from intsim.errors import IntsimError

BITS_HELP = "bits of all, or NAME=BITS with a name or pattern; may be given again, the first that fits holds"


def bits(given: list[str] | None, option: str) -> int | dict[str, int] | None:
    """`4` or `head_*=4` and so on. Raises IntsimError for anything else."""
    if not given:
        return None
    named: dict[str, int] = {}
    for text in given:
        name, sign, number = text.rpartition("=")
        if not number.isascii() or not number.isdigit() or len(number) > 2 or (sign and not name):
            raise IntsimError(f"{option} {text[:60]!r}: give bits, as 4, or NAME=BITS")
        named[name if sign else "*"] = int(number)
    return named["*"] if set(named) == {"*"} else named


@verb
def narrow(
    asked: OnModel,
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to write, .onnx")],
    weights: Annotated[list[str] | None, typer.Option("--weights", "-w", help=f"of weights: {BITS_HELP}")] = None,
    activations: Annotated[
        list[str] | None, typer.Option("--activations", "-a", help=f"of activations, by quantizer: {BITS_HELP}")
    ] = None,
) -> None:
    """Write the network without the last bits of its codes: what narrower ones give without retraining."""
    from intsim.narrowing import Narrowing
    from intsim.report import files
    from intsim.report.narrowing import changes_json, show_changes

    widths = {"weights": bits(weights, "--weights"), "activations": bits(activations, "--activations")}
    if all(w is None for w in widths.values()):
        raise IntsimError("narrow: nothing to do; give --weights or --activations")
    asked.loaded.check_whole("narrowing")
    own = Narrowing(asked.loaded)
    proto = own.narrowed(**widths)
    changes = own.changes(**widths)
    with files.file(out) as draft:
        draft.write_bytes(proto.SerializeToString(deterministic=True))
    if asked.json_:
        emit(changes_json(asked.loaded.path, out, changes))
    else:
        show_changes(console(), asked.loaded.path, out, changes)
