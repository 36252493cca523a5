"""The verb `bounds`: what every accumulator can reach, for all inputs."""

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnTarget, conclude, finish, result, verb
from intsim.errors import IntsimError


@verb
@result
def bounds(
    asked: OnTarget,
    witness: Annotated[
        Path | None, typer.Option("--witness", help="folder for inputs that attain the bounds, one .npz a layer")
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="ONNX file to write: MODEL with the bounds at its nodes")
    ] = None,
    propose: Annotated[
        Path | None, typer.Option("--propose", help="target file to write: of each layer the least proven widths")
    ] = None,
) -> None:
    """Prove what every accumulator can reach, for all inputs, and whether the target's registers suffice."""
    if propose is not None:
        if witness is not None or annotate is not None:
            raise IntsimError("--propose is a question of its own; ask it without --witness and --annotate")
        _propose(asked, propose)
        return
    from intsim.proofs.bounds import bounds as prove
    from intsim.report import files
    from intsim.report.annotated import annotated
    from intsim.report.bounds import show_bounds, write_witnesses
    from intsim.report.next_step import widen

    target, model = asked.chosen, asked.loaded
    proven = prove(model, target)
    lines = None
    if witness is not None:
        with files.folder(witness) as draft:
            lines = write_witnesses(draft, model.graph, target)
    if annotate is not None:
        with files.file(annotate) as draft:
            draft.write_bytes(annotated(model, proven).SerializeToString())
    following = None if proven.safe else widen(asked, proven)
    content = proven.to_json() | ({} if lines is None else {"witnesses": lines})
    conclude(asked.json_, content, following, lambda console: show_bounds(console, proven, lines), proven.safe)


def _propose(asked: OnTarget, path: Path) -> None:
    """Write the target of the least widths."""
    from intsim.proofs.propose import propose
    from intsim.report import files
    from intsim.report.bounds import show_proposal
    from intsim.targets.library import is_path

    if not is_path(str(path)):
        raise IntsimError(f"--propose {path}: give a file that ends in .toml")
    made = propose(asked.loaded, asked.chosen, path.stem)
    with files.file(path) as draft:
        draft.write_text(made.toml, encoding="utf-8")
    following = asked.command("certify", target=str(path))
    finish(asked.json_, made.to_json(), lambda console: show_proposal(console, made, following))
