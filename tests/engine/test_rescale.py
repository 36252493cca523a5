"""Requantizers of bytes in float32 against Python's integers: every code of every cell, and what is left to float64."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.engine.requantize.affine import FLOOR, RINT, AffineRequantizer
from intsim.engine.requantize.columns import Columns
from intsim.engine.requantize.rescale import rescaling
from intsim.engine.run import run_graph
from intsim.engine.warmup import Sketch
from intsim.ops import OPS
from intsim.targets import Target

pytestmark = pytest.mark.xdist_group("engine")


def rule(scale, offset, kind=RINT, low=-128, high=127):
    table = np.zeros((len(scale), 0), np.int64)
    return AffineRequantizer(np.array(scale), np.array(offset), kind, low, high, table, (-1000, 1000))


@pytest.mark.parametrize(("held", "kind"), [((-128, 127), np.int8), ((0, 255), np.uint8), ((-3, 5), np.int8)])
@pytest.mark.parametrize("cells", [1, 37])
def test_every_code(held, kind, cells):
    cell = np.arange(cells)
    given = rule(0.9 / (1 + cell % 7) * (-1.0) ** cell + 2.0**-12, 0.3 * cell - 5.1)
    x = np.array([np.roll(np.arange(held[0], held[1] + 1), c) for c in range(37)], kind).T.copy()
    made = rescaling(given, held, 37)
    scales, offsets = (np.broadcast_to(v, 37).tolist() for v in (given.scale, given.offset))
    wanted = [
        [
            min(max(round(Fraction(s) * v + Fraction(o)), -128), 127)
            for v, s, o in zip(row, scales, offsets, strict=True)
        ]
        for row in x.tolist()
    ]
    assert made.run(x, np.int8).tolist() == wanted


def test_a_tie_that_float32_moves():
    """Half of 1 is a tie; a little more isn't, but for float32."""
    more = rule([0.5, 0.5 + 2.0**-40], [0.0, 0.0])
    assert rescaling(rule([0.5], [0.0]), (-128, 127), 2) is not None
    assert rescaling(more, (-128, 127), 2) is None
    assert rescaling(more, (2, 2), 2) is not None
    ones = np.ones((1, 2), np.int8)
    assert Columns(more, 2, np.float32).run(ones, np.int8).tolist() == [[0, 0]]  # 1 in the second column would be right
    assert Columns(more, 2).run(ones, np.int8).tolist() == [[0, 1]]


def test_what_is_left_to_others():
    assert rescaling(None, (0, 255), 4) is None
    assert rescaling(rule([0.3], [0.0], FLOOR), (0, 255), 4) is None
    assert rescaling(rule([0.3] * 3, [0.0] * 3), (0, 255), 4) is None
    assert rescaling(rule([0.3], [0.0], low=0, high=300), (0, 255), 4) is None


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("cells", [[1, 1, 11], [1, 7, 11], [1], [2, 7, 11]])
def test_in_a_graph(cells, wide):
    """Codes given as bytes and as int64."""
    sketch, kind = Sketch((2, 7, 11), signed=True), IntegerType(8, False)
    count = int(np.prod(cells))
    lines = [[[None, f"{3 + c % 5}/7", f"{c}/9"]] for c in range(count)]
    at = {"cells": cells, "pieces": lines, "rounding": "half_even", "zero": 60, "low": 0, "high": 255}
    sketch.node("requantize", "x0", kind=kind, **at)
    sketch.graph.outputs = [sketch.last]
    wanted = OPS["requantize"].evaluate(sketch.graph.nodes[0], sketch.values["x0"])
    given = {"x0": sketch.values["x0"].astype(np.int64 if wide else np.int8)}
    made = run_graph(sketch.graph, given, Target.load("exact")).tensors[sketch.last]
    np.testing.assert_array_equal(made, wanted, strict=True)
