"""The verb `targets`: the built-in machines, or one in words."""

from typing import Annotated

import typer

from intsim.cli.options import Json, app, console, emit


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="a target to explain")] = None, json_: Json = False
) -> None:
    """List the built-in targets and families of targets, or explain one target in words."""
    from intsim.targets import Target

    chosen = [Target.load(n) for n in ([name] if name else Target.names())]
    families = () if name else Target.families()
    if json_:
        listed = [{"name": t.name, **t.model_dump(mode="json")} for t in chosen]
        emit({"format": "intsim-targets-2", "targets": listed, "families": [f._asdict() for f in families]})
    elif name:
        console().print(chosen[0].describe(), markup=False, soft_wrap=True)
    else:
        from intsim.report.targets import show_targets

        show_targets(console(), chosen, families)
