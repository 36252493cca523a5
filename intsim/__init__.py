"""intsim: quantized networks as exact integers on modelled CPU and DSP arithmetic.

load       read a QONNX, QCDQ, QOperator or .tflite file and lower it to integers
run        run it on a target
verify     compare a target with exact semantics and with float executors, and blame every difference
bounds     prove what the accumulators can reach
propose    make a target with the least proven widths of each layer; propose_observed: those that some data needs
telemetry  see what the accumulators held, and what they would have needed
evaluate   run a data set, and say what the outputs are worth
sweep      compare widths of registers, multipliers and codes, targets and models with exact runs
narrow     make a file of the network with fewer bits
search     search widths layer by layer, a metric against costs
certify    prove a target exact for every input, or find what stands between
advise     say for each runtime that is predicted whether the model is exact there
vectors    write what each layer reads, holds and makes, for those who build or check hardware
compare    hold a dump of a simulation or a board against such vectors

load_executed    read the graph that a runtime makes of a file
witness_runtime  run the runtime that a target predicts, and compare every code

html       a result as a notebook shows it
Target     a machine's integer arithmetic, from a built-in name or a TOML file

They take `(model, target, inputs, samples, seed, ...)`, as far as they need it. For parts of a proof: `witness`,
`certify_requantizer`, `multiplier_widths`; for one output's additions `trace_output`.

Each is imported when it is first asked for, with what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from intsim.errors import IntsimError

if TYPE_CHECKING:
    from intsim.diagnosis.discriminate import discriminate
    from intsim.diagnosis.identify import identify
    from intsim.execution import run
    from intsim.explore.advice import advise
    from intsim.explore.evaluate import evaluate
    from intsim.explore.observed import propose_observed
    from intsim.explore.search import search
    from intsim.explore.sweep import sweep
    from intsim.explore.telemetry import telemetry
    from intsim.golden.compare import compare
    from intsim.golden.vectors import trace_output, vectors
    from intsim.model import Model, Run, load
    from intsim.narrowing import narrow
    from intsim.proofs.bounds import bounds
    from intsim.proofs.certificate import Certificate
    from intsim.proofs.certify import certify
    from intsim.proofs.propose import propose
    from intsim.proofs.requantizers import certify_requantizer, multiplier_widths
    from intsim.proofs.witness import witness
    from intsim.report.html import html
    from intsim.targets import Target
    from intsim.verification.executed import load_executed
    from intsim.verification.verdict import Verdict
    from intsim.verification.verify import verify
    from intsim.verification.witness import witness_runtime

__all__ = [
    "Certificate",
    "IntsimError",
    "Model",
    "Run",
    "Target",
    "Verdict",
    "advise",
    "bounds",
    "certify",
    "certify_requantizer",
    "compare",
    "discriminate",
    "evaluate",
    "html",
    "identify",
    "load",
    "load_executed",
    "multiplier_widths",
    "narrow",
    "propose",
    "propose_observed",
    "run",
    "search",
    "sweep",
    "telemetry",
    "trace_output",
    "vectors",
    "verify",
    "witness",
    "witness_runtime",
]
__version__ = "0.1.0"

_HOMES = {
    "Certificate": "intsim.proofs.certificate",
    "Model": "intsim.model",
    "Run": "intsim.model",
    "Target": "intsim.targets",
    "Verdict": "intsim.verification.verdict",
    "advise": "intsim.explore.advice",
    "bounds": "intsim.proofs.bounds",
    "certify": "intsim.proofs.certify",
    "certify_requantizer": "intsim.proofs.requantizers",
    "compare": "intsim.golden.compare",
    "discriminate": "intsim.diagnosis.discriminate",
    "evaluate": "intsim.explore.evaluate",
    "html": "intsim.report.html",
    "identify": "intsim.diagnosis.identify",
    "load": "intsim.model",
    "load_executed": "intsim.verification.executed",
    "multiplier_widths": "intsim.proofs.requantizers",
    "narrow": "intsim.narrowing",
    "propose": "intsim.proofs.propose",
    "propose_observed": "intsim.explore.observed",
    "run": "intsim.execution",
    "search": "intsim.explore.search",
    "sweep": "intsim.explore.sweep",
    "telemetry": "intsim.explore.telemetry",
    "trace_output": "intsim.golden.vectors",
    "vectors": "intsim.golden.vectors",
    "verify": "intsim.verification.verify",
    "witness": "intsim.proofs.witness",
    "witness_runtime": "intsim.verification.witness",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
