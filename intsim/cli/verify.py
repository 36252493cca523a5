"""The verb `verify`: a target's integers against exact semantics and float executors."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intsim.cli.options import OnSamples, conclude, console, progress, result, verb

if TYPE_CHECKING:
    from intsim.model import Model


@verb
@result
def verify(
    asked: OnSamples,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for verdict.json, JUnit, integer graph")
    ] = None,
    references: Annotated[bool, typer.Option(help="ask qonnx and ONNX Runtime as well")] = True,
    reference_timeout: Annotated[float, typer.Option(min=0.1, help="seconds for each executor and sample")] = 15.0,
) -> None:
    """Compare a target's integers with exact semantics, layer by layer, and blame every difference."""
    from intsim.dispatch import arithmetic
    from intsim.mac.operands import multiplier_operands
    from intsim.ops import OPS, Mac

    target, model = asked.chosen, asked.loaded
    for node in model.graph.nodes:  # what is refused is refused before anything is said
        if isinstance(op := OPS[node.op], Mac):
            tensors = [model.graph.tensors[i] for i in node.inputs]
            registers = arithmetic(target, model.graph, node).registers
            multiplier_operands(node, op, tensors, registers.activation, registers.weight)
    count = len(asked.data)
    from intsim.report import files

    with files.folder(out) if out is not None else nullcontext() as draft:
        if not asked.json_:
            _announce(model)  # what follows imports much and takes longer
        from intsim.report.next_step import after_verify, with_step
        from intsim.report.summary import summarize
        from intsim.report.verdict import show_verdict
        from intsim.report.write import write_cases
        from intsim.verification.verify import verify as compare

        with progress(count * (2 + 4 * references)) as step:
            asking: dict[str, Any] = {"references": references, "reference_timeout": reference_timeout}
            verdict = compare(model, target, *asked.drawn, **asking, progress=step)
        following = after_verify(asked, verdict)
        content = with_step(verdict.to_json(), following)
        if draft is not None:
            files.write_json(draft / "verdict.json", content)
            write_cases(draft / "verdict.xml", [summarize(verdict)])
            model.graph.save(draft / "integer_graph")
    conclude(asked.json_, content, following, partial(show_verdict, verdict=verdict), verdict.holds)


def _announce(model: Model) -> None:
    """What is going to be verified."""
    from intsim.inspect import inspect
    from intsim.report.table import say
    from intsim.report.text import number

    content = inspect(model)
    macs, weights = number(content["macs"]), number(content["weights"])
    say(console(), f"{model.path}: {len(content['layers'])} layers, {macs} MACs, {weights} weights")
