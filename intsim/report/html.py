"""Results as HTML, from the same tables as on a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console

from intsim.diagnosis.identify import Identification
from intsim.explore.advice import Advice
from intsim.explore.evaluate import Evaluated
from intsim.explore.observed import Observed
from intsim.explore.search import Search
from intsim.explore.sweep import Sweep
from intsim.explore.telemetry import Telemetry
from intsim.golden.compare import Comparison
from intsim.golden.sums import Trace
from intsim.golden.vectors import Vectors
from intsim.inspect import inspect
from intsim.model import Model, Run
from intsim.proofs.bounds import Bounds
from intsim.proofs.certificate import Certificate
from intsim.proofs.propose import Proposal
from intsim.report.advice import show_advice
from intsim.report.bounds import show_bounds, show_proposal
from intsim.report.certificate import show_certificate
from intsim.report.diagnosis import show_identification
from intsim.report.evaluation import show_evaluated
from intsim.report.inspection import show_inspection
from intsim.report.observed import show_observed
from intsim.report.run import show_run
from intsim.report.search import show_search
from intsim.report.sweep import show_sweep
from intsim.report.telemetry import show_telemetry
from intsim.report.vectors import show_comparison, show_trace, show_vectors
from intsim.report.verdict import show_verdict
from intsim.report.witness import show_witness
from intsim.verification.verdict import Verdict
from intsim.verification.witness import Witnessed

WIDTH = 120
PAGE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def show_model(console: Console, model: Model) -> None:
    """What a model is made of."""
    show_inspection(console, inspect(model))


SHOW: dict[type, Callable[[Console, Any], None]] = {
    Advice: show_advice,
    Bounds: show_bounds,
    Certificate: show_certificate,
    Comparison: show_comparison,
    Evaluated: show_evaluated,
    Identification: show_identification,
    Model: show_model,
    Observed: show_observed,
    Proposal: show_proposal,
    Run: show_run,
    Search: show_search,
    Sweep: show_sweep,
    Telemetry: show_telemetry,
    Trace: show_trace,
    Vectors: show_vectors,
    Verdict: show_verdict,
    Witnessed: show_witness,
}
"""What each kind of result looks like."""


def html(result: object) -> str:
    """A result as HTML with inline styles; raises KeyError for what is no result."""
    show = SHOW[type(result)]
    return as_html(lambda console: show(console, result))


def as_html(show: Callable[[Console], None]) -> str:
    """What a function prints on a console, as HTML with inline styles."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, highlight=False, force_jupyter=False)
    show(console)
    return console.export_html(inline_styles=True, code_format=PAGE)
