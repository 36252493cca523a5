"""What no other test noticed when it was planted: each test here is the one that makes a fault of the catalogue red."""

import itertools
import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Overflow, Stage, accumulate_telemetry
from intsim.engine.requantize.node import run_requantize
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.mac.partial_sums import partial_sums
from intsim.targets import Target
from intsim.verification.compare import first_difference
from intsim.verification.verdict import LayerVerdict, ReferenceVerdict, StageVerdict, Verdict


@pytest.mark.parametrize("x_range", [(1, 3), (-3, -1)])
@pytest.mark.parametrize("weights", [(5, -5), (-5, 5), (2, -4, 2), (-2, 3, -1)])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_a_prefix_can_overflow_where_the_sum_can_not(
    x_range: tuple[int, int], weights: tuple[int, ...], overflow: Overflow
) -> None:
    """Activations that are never 0: the extremes of a register are those of every prefix, and all are attained."""
    stages = [Stage(None, 20, overflow)]
    proved = partial_sums(np.array([weights]), x_range, stages)
    every = itertools.product(range(x_range[0], x_range[1] + 1), repeat=len(weights))
    seen = accumulate_telemetry(np.array([np.multiply(x, weights) for x in every]), stages)
    assert (proved.low[0][0], proved.high[0][0]) == (seen.low.min(), seen.high.max())
    for bits in range(1, 8):
        fits = -(1 << bits - 1) <= seen.low.min() and seen.high.max() < 1 << bits - 1
        assert bool(partial_sums(np.array([weights]), x_range, [Stage(None, bits, overflow)]).safe[0][0]) == fits


@pytest.mark.parametrize("weights", [(2, -3), (3, 3), (-1, -4)])
@pytest.mark.parametrize("late", [-40, -7, -1, 0, 1, 9, 40])
def test_what_is_added_last_is_in_the_proof(weights: tuple[int, int], late: int) -> None:
    """A bias after the products: the register holds every prefix and, at last, the sum with the bias; all attained."""
    stages, after = [Stage(None, 20, "wrap")], np.array([late])
    proved = partial_sums(np.array([weights]), (-2, 3), stages, None, (after, after))
    every = np.array([np.multiply(x, weights) for x in itertools.product(range(-2, 4), repeat=2)])
    seen = accumulate_telemetry(every, stages, 0, late)
    assert (proved.low[0][0], proved.high[0][0]) == (seen.low.min(), seen.high.max())


def test_double_rounding_reaches_the_network() -> None:
    """acc / 8 on a target with two roundings: first acc / 2, half up, then a quarter of that, half away from zero."""
    accumulators = np.arange(-64, 65).reshape(1, -1)
    pieces = [[[None, "1/8", "0/1"]]]
    at = {"cells": [1, 1], "pieces": pieces, "rounding": "half_even", "zero": 0, "low": -128, "high": 127}
    info = Tensor("x", accumulators.shape, -64, 64, rationals(1), rationals(0))
    found = run_requantize(Node("requantize", "y", ("x",), "y", at), [accumulators], [info], Target.load("cpu-int32"))
    high = [(int(a) + 1) // 2 for a in accumulators[0]]
    assert found[0].tolist() == [(abs(h) + 2) // 4 * (1 if h > 0 else -1) for h in high]
    assert found[0, 64 + 3] == 1  # 3 / 8 rounds to 0 once, to 1 twice


@pytest.mark.parametrize("wrong", [[(0, 1, 0), (0, 1, 2), (1, 0, 0)], [(0, 0, 2), (1, 1, 1)], [(1, 1, 2)]])
def test_the_first_divergence_is_the_first(wrong: list[tuple[int, int, int]]) -> None:
    """Of several wrong integers in one tensor the first in row-major order is shown, with its own values."""
    graph = IntegerGraph("g", inputs=["x"])
    graph.tensors["x"] = Tensor("x", (2, 2, 3), 0, 99, rationals(1), rationals(0))
    for name, source in (("a", "x"), ("b", "a")):
        tensor = Tensor(name, (2, 2, 3), 0, 99, rationals(1), rationals(0))
        graph.add(Node("requantize", name, (source,), name, source=f"Quant_{name}", source_op="Quant"), tensor)
    exact = {name: np.arange(12).reshape(2, 2, 3) for name in graph.tensors}
    got = {name: array.copy() for name, array in exact.items()}
    for k, place in enumerate(wrong):
        got["b"][place] += 10 + k
    at = first_difference(graph, exact, got, {})
    assert at is not None
    first = min(wrong)
    assert (at["name"], at["position"], at["channel"]) == ("Quant_b", list(first), first[1])
    assert (at["expected"], at["got"]) == (int(exact["b"][first]), int(got["b"][first]))
    assert first_difference(graph, exact, exact, {}) is None


def filled(kind: Any, **parts: Any) -> Any:
    """An object whose every field holds something of its own; `parts` are given."""
    values = {f.name: {"key": i + 1} if str(f.type).startswith("dict") else i + 1 for i, f in enumerate(fields(kind))}
    return kind(**(values | parts))


def test_the_json_of_a_verdict_holds_every_field() -> None:
    """Every field of every part is in the JSON, with its value, and comes back from text; so are sums of overflows."""
    stages, reference = [filled(StageVerdict), filled(StageVerdict, overflows=40)], filled(ReferenceVerdict)
    layer = filled(LayerVerdict, stages=stages)
    verdict = filled(Verdict, layers=[layer], references={"qonnx": reference})
    document = json.loads(json.dumps(verdict.to_json()))
    overflows = stages[0].overflows + 40
    assert document.pop("layers") == [vars(layer) | {"stages": [vars(s) for s in stages], "overflows": overflows}]
    assert document.pop("references") == {"qonnx": vars(reference)}
    own = {k: v for k, v in vars(verdict).items() if k not in ("layers", "references")}
    assert document == own | {"format": "intsim-verdict-1", "overflows": overflows}
