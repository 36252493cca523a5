"""What the file says a layer's integers are: the reference evaluator's codes, with what is left open settled."""

from __future__ import annotations

from typing import Any

import numpy as np

from intsim.frontend.expression import Expr
from intsim.graph import IntArray, without_module
from intsim.model import Model, Run
from intsim.verification.compare import first_apart
from intsim.verification.inexact import Inexact
from intsim.verification.layers import Layer
from intsim.verification.reference import ReferenceRun

TIE_ROOM = 2.0**-40
"""Share of an LSB within which float64 can't place a prologue value on one side of a tie."""


def expected_codes(
    model: Model, layer: Layer, truth: ReferenceRun, exact: Run, inexact: Inexact
) -> tuple[IntArray, int, bool]:
    """Exact codes of a layer by the reference evaluator, how many elements are left open, and whether it has them.

    These are prologue elements that float64 can't decide, and codes that the proven error of a row function doesn't
    decide; for them the integers' own choice is admissible, and is taken. A layer that the reference doesn't expose (an
    accumulator inside a fused operator) is compared with the engine's exact run.
    """
    own = exact.tensors[layer.tensor]
    name = model.graph.tensors[layer.tensor].onnx
    if name is not None and name in truth.codes:
        codes = np.asarray(truth.codes[name]).reshape(own.shape)
        boundary = next((b for b in model.lowered.boundaries if b.tensor == layer.tensor), None)
        # an input that a quantizer reads directly is exact: there is no tie that float64 can't tell
        if boundary is None:
            return (*inexact.admitted(layer.tensor, codes, exact), True)
        if boundary.host in model.lowered.source.inputs or (codes == own).all():
            return codes, 0, True
        return (*_host_choice(codes, own, truth, name), True)
    if layer.tensor in inexact.errors:
        return own, 0, False  # judged by its error
    end = next((n for n, e in model.lowered.ends.items() if is_plain(e) and e.terms[0][0] == layer.tensor), None)
    if end is None or end not in truth.tensors:
        return own, 0, False
    return accumulator_codes(model.lowered.ends[end], truth, end, own), 0, True


def is_plain(value: Expr) -> bool:
    """Whether it is one tensor times a scale, plus an offset."""
    return len(value.terms) == 1 and not value.steps


def _host_choice(codes: IntArray, own: IntArray, truth: ReferenceRun, name: str) -> tuple[IntArray, int]:
    """Where the exact value lies within float64's reach of a tie, the host's neighbouring code counts as exact."""
    codes, ties = codes.copy(), 0
    for flat in np.flatnonzero((codes != own).reshape(-1)):
        value = truth.unrounded(name, int(flat))
        near = abs(value * 2 - round(value * 2)) <= TIE_ROOM * max(1.0, float(abs(value)))
        if near and abs(int(codes.reshape(-1)[flat]) - int(own.reshape(-1)[flat])) == 1:
            codes.reshape(-1)[flat] = own.reshape(-1)[flat]
            ties += 1
    return codes, ties


def accumulator_codes(value: Expr, truth: ReferenceRun, name: str, own: IntArray) -> IntArray:
    """The integers behind a real tensor of the reference: (value - offset) / scale."""
    scale, offset = np.asarray(value.terms[0][1], np.float64), np.asarray(value.offset, np.float64)
    real, error = truth.value(name), truth.error(name)
    position = (real - offset) / scale
    codes = np.rint(position)
    room = error / scale + 2.0**-50 * (np.abs(position) + np.abs(offset / scale) + 1)
    doubtful = ~(np.abs(position - codes) + room < 0.5)
    out = codes.astype(np.int64).reshape(own.shape)
    scales, offsets = (np.broadcast_to(v, own.shape).reshape(-1) for v in (value.terms[0][1], value.offset))
    for flat in np.flatnonzero(doubtful.reshape(-1)):
        exact = (truth.exact(name, int(flat)) - offsets[flat]) / scales[flat]
        out.reshape(-1)[flat] = round(exact)
    return out


def lowering_fault(layer: Layer, expected: IntArray, exact: IntArray) -> dict[str, Any] | None:
    """Where the integer program itself, run exactly, leaves the reference in a layer."""
    if (expected == exact).all():
        return None
    return {
        "name": layer.name,
        **without_module({"node": layer.node, "module": layer.module}),
        "op": layer.op,
        "tensor": layer.tensor,
        **first_apart(expected, exact)[1],
        "blame": "lowering",
    }
