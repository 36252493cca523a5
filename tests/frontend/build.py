"""The check that what is lowered from a small ONNX graph computes what the reference does; `Net` builds such graphs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

import intsim
from intsim.frontend.expression import Expr
from intsim.graph import IntegerGraph
from intsim.ops.deviation import deviations
from intsim.testing.net import CHANNELS_LAST, QONNX, Net
from intsim.verification.reference import Reference

__all__ = ["CHANNELS_LAST", "QONNX", "Net", "check", "exact_value", "halves"]


def exact_value(expr: Expr, tensors: dict[str, np.ndarray], index: tuple[int, ...]) -> Fraction:
    """One element of an expression, written out."""

    def at(parameter: Any) -> Fraction:
        return np.broadcast_to(np.asarray(parameter, object), expr.shape)[index] if expr.shape else parameter.item()

    total = at(expr.offset)
    for name, scale in expr.terms:
        total += at(scale) * int(np.broadcast_to(tensors[name], expr.shape)[index])
    for step in expr.steps:
        v = [None if e is None else at(e) for e in step.values]
        if step.kind == "affine":
            total = total * v[0] + v[1]
        elif step.kind == "leaky":
            total = total * v[0] if total < 0 else total
        else:
            total = total if v[0] is None else max(total, v[0])
            total = total if v[1] is None else min(total, v[1])
    return Fraction(total)


def check(model: onnx.ModelProto, inputs: dict[str, np.ndarray], least: int = 1) -> intsim.Run:
    """Lower, run on `exact`, compare every quantizer's codes and every integer output with the reference.

    At least `least` tensors must have been compared. Also: ranges enclose every value, and the graph survives a file.
    Outputs behind numbers on a grid are no further off than these.
    """
    loaded = intsim.load(model)
    run = loaded.run(inputs, keep=True)
    reference = Reference(model).run(inputs)
    compared = 0
    graph: IntegerGraph = loaded.graph
    errors = deviations(graph)
    for name, info in graph.tensors.items():
        value = run.tensors[name]
        assert value.dtype == np.int64
        assert value.shape == info.shape, name
        assert info.low <= value.min(), name
        assert value.max() <= info.high, name
        if info.type is not None:
            assert info.type.contains(int(value.min()), int(value.max())), name
        if info.onnx in reference.codes:
            np.testing.assert_array_equal(value, reference.codes[info.onnx], err_msg=f"codes of {name}")
            compared += 1
    for name, value in loaded.lowered.outputs.items():
        if isinstance(value, Expr):
            assert value.shape == reference.value(name).shape
            off = [(errors.get(n, 0), np.broadcast_to(np.asarray(s, object), value.shape)) for n, s in value.terms]
            for flat, index in enumerate(np.ndindex(*value.shape)):
                apart = abs(exact_value(value, run.tensors, index) - reference.exact(name, flat))
                assert apart <= sum(e * abs(s[index]) for e, s in off) if errors else apart == 0, (name, index)
            compared += 1
        tolerance = np.abs(reference.value(name)) * 1e-5 + 1e-5
        assert (np.abs(run.outputs[name].astype(np.float64) - reference.value(name)) <= tolerance).all(), name
        assert run.outputs[name].shape == reference.value(name).shape
    assert compared >= least, f"only {compared} tensors were compared"
    with TemporaryDirectory() as folder:
        graph.save(Path(folder) / "graph")
        assert IntegerGraph.load(Path(folder) / "graph") == graph
    return run


def halves(rng: np.random.Generator, shape: Sequence[int], scale: float = 0.25, reach: int = 12) -> np.ndarray:
    """Float32 values on half steps of a power-of-two `scale`, so that every other one is a rounding tie."""
    return (rng.integers(-2 * reach, 2 * reach + 1, tuple(shape)) * (scale / 2)).astype(np.float32)
