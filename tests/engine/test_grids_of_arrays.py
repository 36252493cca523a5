"""Numbers on a grid and functions of accumulators by any number of threads: the definition."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.engine.run import run_graph
from intsim.engine.warmup import Sketch
from intsim.ops import OPS
from intsim.ops.pieces import pieces_json
from intsim.targets import Target

from .test_tables import steps

RNG = np.random.default_rng(13)


def grid(sketch, cells, shift, bits, *names):
    """Three pieces a cell, slopes of so many bits; of several tensors their sum."""
    names = names or (sketch.last,)
    reach = max(max(-sketch.graph.tensors[n].low, sketch.graph.tensors[n].high) for n in names)
    most = 1 << bits
    pieces = [
        [
            (start, Fraction(int(RNG.integers(-most, most))), Fraction(int(RNG.integers(-most, most)) * reach))
            for start in (None, -reach // 3, reach // 2)[: 1 + cell % 3]
        ]
        for cell in range(int(np.prod(cells)))
    ]
    more = {"coefficients": np.stack([np.full((1,) * 4, n + 1) for n in range(len(names))])} if len(names) > 1 else {}
    at = {"cells": list(cells), "pieces": pieces_json(pieces), "shift": shift, "off": "1/2"}
    return sketch.node("grid", *names, arrays=more, **at)


@pytest.mark.parametrize("cells", [(1,), (1, 6, 1, 1), (6, 1, 7)])
@pytest.mark.parametrize(("shift", "bits"), [(0, 10), (12, 30), (30, 34), (50, 34)])
@pytest.mark.parametrize("target", ["exact", "wrap-12", "saturate-18"])
def test_behind_a_convolution(cells, shift, bits, target):
    sketch = Sketch((2, 8, 5, 7), 8, True)
    sketch.conv(6, rounded=False)
    grid(sketch, cells, shift, bits)
    agrees(sketch, "grid", target, cells != (6, 1, 7))


def test_pieces_begin_at_their_start():
    sketch = Sketch((3, 100), 4, True)
    grid(sketch, (3, 1), 2, 10, "x0")
    assert steps(sketch) == ["grid"]


@pytest.mark.parametrize("bits", [9, 33])
def test_of_a_sum_of_wide_numbers(bits):
    """Numbers of a grid that come to another one: products of 80 bits and more."""
    sketch = Sketch((2, 8, 5, 7), 8, True)
    sketch.conv(6, rounded=False)
    first = grid(sketch, (1, 6, 1, 1), 3, 30)
    second = grid(sketch, (1, 6, 1, 1), 1, 28, sketch.graph.nodes[0].output)
    grid(sketch, (1,), 26, bits, first, second)
    assert steps(sketch).count("grid") == 3


@pytest.mark.parametrize("cells", [(1,), (1, 6, 1, 1), (5, 1)])
@pytest.mark.parametrize("target", ["exact", "wrap-12"])
def test_functions_behind_a_convolution(cells, target):
    sketch = Sketch((2, 8, 5, 7), 8, True)
    sketch.conv(6, rounded=False)
    lines = [[f"{RNG.integers(-99, 99)}/9000", f"{RNG.integers(-99, 99)}/50"] for _ in range(int(np.prod(cells)))]
    terms = [["source", [], []], ["sigmoid", [0], []], ["multiply", [0, 1], []]]
    sketch.node("function", cells=list(cells), lines=lines, terms=terms, step="1/65536", off="1/2")
    agrees(sketch, "function", target, True)


def agrees(sketch, op, target, compiled):
    """With the definition, on what the registers left; `compiled`: by a kernel where none overflows."""
    if target == "exact":
        assert (op in steps(sketch)) == compiled
        return
    sketch.graph.outputs = [sketch.last]
    for _ in range(2):
        ran = run_graph(sketch.graph, sketch.values, Target.load(target), keep=True)
        node = next(n for n in sketch.graph.nodes if n.op == op)
        wanted = OPS[op].evaluate(node, ran.tensors[node.inputs[0]])
        np.testing.assert_array_equal(ran.tensors[node.output], wanted)
