"""The check of something that runs whole models: an exporter, a runtime, a simulator of an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import printer

from intsim.errors import IntsimError
from intsim.frontend.expression import Expr
from intsim.model import Model, load
from intsim.targets import Target
from intsim.testing.checks import Checked, CounterexampleError, search
from intsim.testing.graphs import QonnxCase, qonnx_models

Executor = Callable[[onnx.ModelProto, dict[str, NDArray[Any]]], Mapping[str, Any]]
FLOAT32_ROUNDINGS = 2.0**-20
"""Relative error allowed of real values that an executor computes in float32; codes are a whole unit apart."""


def check_executor(
    executor: Executor,
    target: Target | str = "exact",
    models: st.SearchStrategy[QonnxCase] | None = None,
    max_examples: int = 100,
    seed: int | None = None,
) -> Checked:
    """Compare something that runs QONNX models with `intsim.run`, code by code.

    Args:
        executor: called as `executor(model, inputs)`; returns the model's outputs by name, real values as the file has
            them. Where an output is a quantized tensor its code is what counts: the value may be off by float32
            rounding, the integer may not.
        target: the machine it runs on; a built-in name, a path, or a `Target`.
        models: what to run; default `qonnx_models()`. Models that intsim refuses are left out.
        max_examples: how many models to try.
        seed: None for the same cases each time, a number for others.

    Returns:
        Checked; difficult are those in which a register overflowed.

    Raises:
        CounterexampleError: they disagree; the text holds the model, the input, and the first output that differs.
    """
    machine = Target.load(target)

    def compare(case: QonnxCase) -> int:
        try:
            loaded = load(case.model)
            run = loaded.run(case.inputs, machine, keep=True)
        except IntsimError:
            assume(False)
            raise
        # copies: an executor may change what it is given
        got = executor(deepcopy(case.model), {name: value.copy() for name, value in case.inputs.items()})
        for name in run.outputs:
            difference = _difference(loaded, run.tensors, run.outputs[name], name, got)
            if difference:
                raise CounterexampleError(_report(machine, case, difference))
        return any(events.any() for events in run.overflows.values())

    return search(qonnx_models() if models is None else models, compare, max_examples, seed)


def _difference(
    loaded: Model, tensors: Mapping[str, Any], wanted: NDArray[Any], name: str, got: Mapping[str, Any]
) -> str | None:
    """The first element of an output that differs, in words."""
    if name not in got:
        return f"output {name} is missing; there are {', '.join(map(str, got)) or 'none'}"
    value = np.asarray(got[name])
    if value.shape != wanted.shape:
        return f"output {name} has shape {value.shape}, expected {wanted.shape}"
    expression = loaded.lowered.outputs[name]
    if wanted.dtype.kind in "iub":
        allowed: Any = 0
        exact = wanted.astype(np.float64)
    else:
        exact = loaded.real(expression, tensors) if isinstance(expression, Expr) else wanted.astype(np.float64)
        allowed = np.abs(exact) * FLOAT32_ROUNDINGS + 1e-30
        if isinstance(expression, Expr) and len(expression.terms) == 1 and not expression.steps:
            # a quarter of a code: codes are whole
            unit = np.abs(np.broadcast_to(np.asarray(expression.terms[0][1], np.float64), wanted.shape))
            allowed = np.maximum(allowed, unit / 4)
    wrong = ~(np.abs(value.astype(np.float64) - exact) <= allowed)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"output {name}{list(at)}: expected {exact[at]:g}, got {value[at]:g}; {int(wrong.sum())} of {wrong.size} differ"
    )


def _report(machine: Target, case: QonnxCase, difference: str) -> str:
    inputs = [f"  {name} {value.shape} = {value.reshape(-1).tolist()}" for name, value in case.inputs.items()]
    text = printer.to_text(case.model)
    return "\n".join([f"the executor and target {machine.name} disagree: {difference}", *inputs, text])
