"""`intsim certify`: prove a model exact on a target, or say what stands between; and check such a file."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intsim.cli.options import (
    MOST_SAMPLES,
    As,
    Constants,
    InputsPath,
    Islands,
    Json,
    Memory,
    OnSamples,
    OnTarget,
    Ranges,
    Seed,
    Shapes,
    Threads,
    app,
    arrays,
    conclude,
    finish,
    progress,
    result,
)
from intsim.errors import IntsimError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from intsim.inputs import Sample
    from intsim.model import Model
    from intsim.proofs.certificate import Certificate

READINGS = 4
"""Inputs on which the file is read again: steps of the bar."""
Count = Annotated[
    int, typer.Option("--samples", "-n", min=0, max=MOST_SAMPLES, help="network inputs to draw and search")
]


@app.command()
@result
def certify(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="a QONNX, QCDQ, QOperator or .tflite file")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="a built-in target or a TOML file; exact if not given")
    ] = None,
    check: Annotated[Path | None, typer.Option("--check", help="a certificate to check again")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the certificate; its samples go to a .npz")] = None,
    inputs: InputsPath = None,
    samples: Count = 1,
    seed: Seed = 0,
    multipliers: Annotated[bool, typer.Option("--multipliers", help="also find sufficient multiplier widths")] = False,
    threads: Threads = None,
    json_: Json = False,
    shape: Shapes = None,
    range_: Ranges = None,
    constants: Constants = None,
    as_: As = None,
    memory: Memory = None,
    islands: Islands = False,
) -> None:
    """Prove that a target computes a model exactly for every input, or say what stands between.

    The lowered graph is proven, and compared with an independent reading of the file on a few inputs. --check does all
    of it again. 0: certified (with --islands: hybrid), or a certificate is confirmed; 1: it isn't; 2: bad usage,
    damaged file, another model.
    """
    if check is not None:
        if target is not None or out is not None or inputs is not None:
            raise IntsimError("--check takes target and samples from the certificate; remove --target, --out, --inputs")
        _check(check, model, OnTarget("", json_, shape, range_, constants, as_, memory, islands))
    if model is None:
        raise IntsimError("give a MODEL, or --check a certificate (see intsim certify --help)")
    if out is not None and out.suffix != ".json":
        out = out.with_name(out.name + ".json")
    opened = (model, json_, shape, range_, constants, as_, memory, islands)
    asked = OnSamples(*opened, target or "exact", inputs, samples, seed, threads)
    chosen, loaded = asked.chosen, asked.loaded
    from intsim.proofs.certificate import text
    from intsim.proofs.certify import certify as prove
    from intsim.report.certificate import show_certificate
    from intsim.report.next_step import after_certify, show_step, with_step

    with progress(len(loaded.graph.nodes) + READINGS) as step:
        proven = prove(loaded, chosen, *asked.drawn, multipliers=multipliers, progress=step)
    if out is not None:
        _write(out, loaded, proven)
    following = after_certify(asked, proven)

    def show(console: Console) -> None:
        show_certificate(console, proven)
        show_step(console, following)

    finish(json_, with_step(proven.to_json(), following), show, proven.holds, text)


def _write(out: Path, model: Model, proven: Certificate) -> None:
    """The JSON, and beside it the samples that refute something, as NUMBER:INPUT with inputs counted in file order."""
    import numpy as np

    from intsim.report import files

    order = list(model.lowered.source.inputs)
    with ExitStack() as stack:
        if proven.arrays:
            draft = stack.enter_context(files.file(out.with_suffix(".npz")))
            stored = {f"{n}:{i}": a[name] for n, a in proven.arrays.items() for i, name in enumerate(order)}
            np.savez(draft, allow_pickle=False, **stored)
        stack.enter_context(files.file(out)).write_text(proven.text())


def _check(path: Path, given: str | None, asked: OnTarget) -> None:
    from intsim.inputs import draw
    from intsim.proofs.check import check as check_again
    from intsim.proofs.check import read, sample_numbers
    from intsim.proofs.subject import target_from
    from intsim.report.certificate import show_check
    from intsim.report.next_step import after_check

    content = read(path)
    name = Path(content["model"]["file"]).name
    near = (str(p) for p in (path.parent / name, Path(name)) if p.is_file())
    source = given or next(near, None)
    if source is None:
        raise IntsimError(f"{path}: its model {name!r} is neither beside it nor here; give the MODEL")
    asked.islands |= "islands" in content["host"]
    asked.model, asked.target, asked.chosen = source, content["target"]["name"], target_from(content["target"])
    assumed = content["model"].get("input_ranges") or {}
    asked.range_ = [*(f"{n}={low}:{high}" for n, (low, high) in assumed.items()), *(asked.range_ or [])]
    loaded = asked.loaded
    beside = path.with_suffix(".npz")
    samples = _samples(beside, loaded) if sample_numbers(content) and beside.is_file() else {}
    with progress(len(loaded.graph.nodes) + READINGS) as step:
        checked = check_again(content, loaded, samples, lambda seed: draw(loaded, seed), step)
    following = None if checked.confirmed else after_check(asked, path)
    lists = {"differences": checked.differences, "notes": checked.notes}
    counts = {"claims": checked.claims, "reruns": checked.counterexamples, "elements": checked.elements}
    outcome = {"verdict": checked.verdict, "confirmed": checked.confirmed, "target": checked.target}
    content = {"format": "intsim-check-1", "certificate": str(path), **outcome, **counts, **lists}
    show = partial(show_check, name=str(path), check=checked)
    conclude(asked.json_, content, following, show, checked.confirmed)


def _samples(path: Path, model: Model) -> dict[int, Sample]:
    """Samples by number, of the .npz beside a certificate."""
    order = list(model.lowered.source.inputs)
    samples: dict[int, dict[str, np.ndarray]] = {}
    for key, array in arrays(str(path), []).items():
        number, _, index = key.partition(":")
        if not (_plain(number) and _plain(index) and int(index) < len(order)):
            raise IntsimError(f"{path}: holds {key!r}, which is no sample of a certificate")
        samples.setdefault(int(number), {})[order[int(index)]] = array
    return dict(samples)


def _plain(text: str) -> bool:
    """A number as it is written there."""
    return text.isascii() and text.isdecimal() and len(text) <= 9
