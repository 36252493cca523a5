"""Staircases of accumulators by any number of threads: the definition."""

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.engine.run import run_graph
from intsim.engine.warmup import Sketch
from intsim.ops import OPS
from intsim.targets import Target

from .test_tables import steps

RNG = np.random.default_rng(12)


def staircase(sketch, kind, cells, count=40):
    """Steps of the newest tensor at random places, its ends and beyond among them."""
    x = sketch.graph.tensors[sketch.last]
    rows = int(np.prod(cells))
    starts = RNG.integers(x.low, x.high, (rows, count), endpoint=True)
    starts[:, :3] = [x.low, x.high, x.high + 1]
    arrays = {"starts": np.sort(starts), "codes": RNG.integers(kind.min, kind.max, (rows, count + 1), endpoint=True)}
    return sketch.node("staircase", kind=kind, arrays=arrays, cells=list(cells))


@pytest.mark.parametrize("cells", [(1,), (1, 6, 1, 1), (5, 1), (6, 1, 7)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("target", ["exact", "wrap-12", "saturate-18"])
def test_between_convolutions(cells, signed, target):
    sketch = Sketch((2, 8, 5, 7), 8, True)
    sketch.conv(6, rounded=False)
    staircase(sketch, IntegerType(8, signed), cells)
    sketch.conv(4)
    kernels = steps(sketch, target) if target == "exact" else overflowing(sketch, target)
    assert ("staircase" in kernels) == (cells != (6, 1, 7))


def overflowing(sketch, target):
    """The definition on what the registers left."""
    sketch.graph.outputs, profile = [sketch.last], []
    ran = run_graph(sketch.graph, sketch.values, Target.load(target), keep=True, profile=profile)
    node = next(n for n in sketch.graph.nodes if n.op == "staircase")
    wanted = OPS["staircase"].evaluate(node, ran.tensors[node.inputs[0]])
    np.testing.assert_array_equal(ran.tensors[node.output], wanted)
    return [p.kernel for p in profile]


@pytest.mark.parametrize(("shape", "cells"), [((3, 50), (50,)), ((2, 70000), (1,)), ((0, 3), (1,)), ((), ())])
def test_arrays(shape, cells):
    sketch = Sketch(shape, 24, True)
    staircase(sketch, IntegerType(16, True), cells, 300)
    assert steps(sketch) == (["definition"] if 0 in shape else ["staircase"])
