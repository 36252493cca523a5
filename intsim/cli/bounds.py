"""The verb `bounds`: what every accumulator can reach, for all inputs."""

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnTarget, conclude, verb


@verb
def bounds(
    asked: OnTarget,
    witness: Annotated[
        Path | None, typer.Option("--witness", help="folder for inputs that attain the bounds, one .npz a layer")
    ] = None,
) -> None:
    """Prove what every accumulator can reach, for all inputs, and whether the target's registers suffice."""
    from intsim.proofs.bounds import bounds as prove
    from intsim.report import files
    from intsim.report.bounds import show_bounds, write_witnesses
    from intsim.report.next_step import widen

    target, model = asked.chosen, asked.loaded
    proven = prove(model, target)
    lines = None
    if witness is not None:
        with files.folder(witness) as draft:
            lines = write_witnesses(draft, model.graph, target)
    following = None if proven.safe else widen(asked, proven)
    content = proven.to_json() | ({} if lines is None else {"witnesses": lines})
    conclude(asked.json_, content, following, lambda console: show_bounds(console, proven, lines), proven.safe)
