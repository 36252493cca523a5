"""Compiled operators beside the layers: windows, products, means, slices, functions, rows. All are the definitions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.engine.exact.isa import DOTS
from intsim.engine.exact.microkernels import Tile
from intsim.engine.exact.rows import multiply_pairs
from intsim.engine.run import run_graph
from intsim.engine.threads import using
from intsim.engine.warmup import Sketch
from intsim.ops import OPS
from intsim.ops.exponentials import falling_exponentials
from intsim.targets import Target

pytestmark = pytest.mark.xdist_group("engine")
EXACT = Target.load("exact")
U8, S8 = IntegerType(8, False), IntegerType(8, True)


def ran(sketch, *more, threads=(1, 2), varied=True):
    """Steps as "operators: kernel", after checking that outputs are the definitions'; `more` are outputs too."""
    sketch.graph.outputs = [*dict.fromkeys([*more, sketch.last])]
    tensors = dict(sketch.values)
    for node in sketch.graph.nodes:
        tensors[node.output] = OPS[node.op].evaluate(node, *(tensors[i] for i in node.inputs))
    for count in threads:
        with using(count):
            profile = []
            run = run_graph(sketch.graph, sketch.values, EXACT, profile=profile)
        for name in sketch.graph.outputs:
            np.testing.assert_array_equal(run.tensors[name], tensors[name], strict=True)
    assert not varied or len(np.unique(tensors[sketch.last])) > 1
    return [f"{line.op}: {line.kernel}" for line in profile]


def scaled(sketch, name, kind, spread, by_channel=True):
    """A requantizer of one tensor; scales fall from channel to channel, and some are negative."""
    shape = sketch.graph.tensors[name].shape
    cells = [shape[1] if by_channel and axis == 1 else 1 for axis in range(len(shape))]
    lines = [[[None, f"{(-1) ** c * (7 + c)}/{spread}", "1/3"]] for c in range(max(cells))]
    at = {"cells": cells, "pieces": lines, "rounding": "half_even", "zero": 3, "low": kind.min, "high": kind.max}
    return sketch.node("requantize", name, kind=kind, **at)


def table(sketch, name, kind, seed=0):
    """A table of a tensor, of entries in no order."""
    x = sketch.graph.tensors[name]
    entries = np.random.default_rng(seed).integers(kind.min, kind.max, (1, x.high - x.low + 1), endpoint=True)
    return sketch.node("table", name, kind=kind, arrays={"table": entries}, low=x.low, cells=[1])


WINDOWS = [
    ([2, 2], [2, 2], [1, 1], [0, 0, 0, 0]),
    ([3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
    ([3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([5, 5], [1, 1], [1, 1], [2, 2, 2, 2]),
    ([2, 3], [3, 2], [2, 3], [1, 2, 0, 3]),
    ([1, 4], [1, 3], [1, 1], [0, 0, 0, 2]),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_maxima_of_windows(window, signed, behind):
    sketch = Sketch((2, 6, 9, 21), signed=signed)
    kernel, strides, dilations, pads = window
    sketch.node("max_pool", kernel=kernel, strides=strides, dilations=dilations, pads=pads)
    if behind:
        sketch.conv(5)
    assert "max_pool: words" in ran(sketch)


def test_maxima_of_a_line():
    sketch = Sketch((2, 5, 40), signed=True)
    sketch.node("max_pool", kernel=[3], strides=[2], dilations=[2], pads=[1, 2])
    assert "max_pool: words" in ran(sketch)


def test_a_window_within_the_padding_goes_by_the_definition():
    sketch = Sketch((1, 4, 5, 5))
    sketch.node("max_pool", kernel=[1, 1], strides=[3, 3], dilations=[1, 1], pads=[0, 0, 2, 2])
    sketch.graph.outputs = [sketch.last]
    steps = []
    run_graph(sketch.graph, sketch.values, EXACT, profile=steps)
    assert [s.kernel for s in steps][:1] == ["definition"]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("kinds", [(False, False), (True, False), (True, True)])
def test_products_of_maps(single, swapped, kinds):
    sketch = Sketch((2, 7, 5, 19), signed=kinds[0])
    sketch.conv(7, signed=kinds[0])
    other = sketch.input((2, 7, 1, 1) if single else (2, 7, 5, 19), 8, kinds[1])
    names = [f"t{len(sketch.graph.nodes) - 1}", other]
    product = sketch.node("mul", *(names[::-1] if swapped else names), zero_points=[3, -5])
    scaled(sketch, product, U8, 1 << 11)
    sketch.conv(3)
    assert "mul + requantize: formula on words" in ran(sketch)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_means_of_maps(behind, signed):
    sketch = Sketch((3, 6, 7, 11))
    sketch.conv(6, signed=signed)
    sums = sketch.node("reduce_sum", axes=[2, 3])
    scaled(sketch, sums, S8 if signed else U8, 1 << 11)
    if behind:
        sketch.conv(4, 1)
    assert "reduce_sum + requantize: formula on words" in ran(sketch)


def test_slices_of_channels():
    sketch = Sketch((2, 16, 5, 9))
    whole = sketch.conv(16)
    first = sketch.node("gather", whole, axis=1, arrays={"index": np.arange(4, 10)})
    second = sketch.node("gather", whole, axis=1, arrays={"index": np.arange(3, 9)})
    sketch.last = first
    left = sketch.conv(4)
    sketch.last = second
    sketch.conv(4)
    assert "gather: words" in ran(sketch, left)


def test_a_function_of_one_tensor_is_one_table():
    sketch = Sketch((2, 6, 5, 9), signed=True)
    x = sketch.conv(6, signed=True)
    product = sketch.node("mul", x, table(sketch, x, U8), zero_points=[2, 7])
    scaled(sketch, product, U8, 1 << 11, by_channel=False)
    sketch.conv(3)
    assert "table + mul + requantize: table on words" in ran(sketch)


def test_what_somebody_else_reads_is_made():
    sketch = Sketch((3, 40), signed=True)
    inner = table(sketch, "x0", S8)
    product = sketch.node("mul", "x0", inner, zero_points=[0, 1])
    scaled(sketch, product, U8, 1 << 11, by_channel=False)
    steps = ran(sketch, inner)
    assert "table: table" in steps
    sketch.node("reduce_sum", inner, axes=[1])
    ran(sketch, product)


def test_functions_of_functions():
    """Inner tensors of several readers, all of them of one tensor; and two outputs of one set."""
    sketch = Sketch((2, 33))
    a = table(sketch, "x0", S8, 1)
    b = table(sketch, a, U8, 2)
    c = scaled(sketch, sketch.node("mul", a, b, zero_points=[1, 2]), S8, 1 << 11, by_channel=False)
    d = scaled(sketch, sketch.node("mul", c, a, zero_points=[-3, 0]), S8, 1 << 10, by_channel=False)
    steps = ran(sketch, c, d)
    assert len(steps) == 2


def test_requantizers_that_change_nothing():
    sketch = Sketch((2, 8, 6, 6))
    sketch.conv(8)
    pooled = sketch.node("max_pool", kernel=[2, 2], strides=[2, 2], dilations=[1, 1], pads=[0, 0, 0, 0])
    at = {"cells": [1], "pieces": [[[None, "1/1", "0/1"]]], "rounding": "half_even", "zero": 0, "low": 0, "high": 255}
    sketch.node("requantize", pooled, kind=U8, **at)
    sketch.conv(4)
    steps = ran(sketch)
    assert "requantize + conv + requantize" in steps[-2].split(":")[0]


def pairs(length):
    """Every row of so many integers of -9..9, of -1..2 where they are many."""
    axis = np.arange(-9, 10) if length < 4 else np.arange(-1, 3)
    return np.stack([v.reshape(-1) for v in np.meshgrid(*[axis] * length)], axis=1)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("rate", [Fraction(1, 3), Fraction(9)])
def test_softmax_of_every_small_row(length, rate):
    rows = pairs(length)
    sketch = Sketch((len(rows), length), 8, True)
    sketch.values["x0"] = rows
    entries = falling_exponentials(rate, 30, 255, 1 << 16)
    sketch.node("softmax", axes=[1], fraction=24, bits=30, arrays={"table": entries}, kind=IntegerType(32, True))
    if length > 1:
        assert ran(sketch) == ["softmax: rows"]


@pytest.mark.parametrize("shape", [(2, 3, 5, 64), (7, 1000), (1, 2)])
def test_softmax(shape):
    sketch = Sketch(shape, 16, True)
    sketch.values["x0"] //= 64  # so that more than one of a row counts
    entries = falling_exponentials(Fraction(1, 50), 38, 1 << 16, 1 << 16)
    at = {"axes": [len(shape) - 1], "fraction": 24, "bits": 38, "arrays": {"table": entries}}
    sketch.node("softmax", kind=IntegerType(32, True), **at)
    assert ran(sketch) == ["softmax: rows"]


@pytest.mark.parametrize(("length", "fraction"), [(2, 0), (3, 1), (5, 0), (3, 24)])
def test_normalisation_of_every_small_row(length, fraction):
    """With few bits of fraction some results are ties: a row of 1, 0, 0, 0, 0 has 2 and four times -1/2."""
    rows = pairs(length)
    sketch = Sketch((len(rows), length), 8, True)
    sketch.values["x0"] = rows
    for epsilon in ("0/1", "1/3", "100/1"):
        sketch.node("layer_norm", "x0", axes=[1], fraction=fraction, epsilon=epsilon, kind=IntegerType(32, True))
        assert "layer_norm: rows" in ran(sketch, threads=(1,), varied=epsilon != "100/1")


@pytest.mark.parametrize("bits", [8, 16])
def test_normalisation(bits):
    sketch = Sketch((2, 9, 96), bits, True)
    sketch.values["x0"][0, 0] = 5  # without variance
    sketch.node("layer_norm", axes=[2], fraction=24, epsilon="1/7", kind=IntegerType(32, True))
    assert ran(sketch) == ["layer_norm: rows"]


SHAPES = [((2, 3, 5, 16), (2, 3, 16, 9)), ((6, 7, 13), (6, 13, 70)), ((1, 4), (4, 3)), ((3, 1, 1), (3, 1, 2))]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("kinds", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("zeros", [(0, 0), (100, -7)])
def test_products_of_two_tensors(shapes, kinds, zeros):
    sketch = Sketch(shapes[0], 8, kinds[0])
    other = sketch.input(shapes[1], 8, kinds[1])
    at = {"zero_point": zeros[0], "weight_type": {"bits": 8, "signed": kinds[1], "narrow": False}}
    product = sketch.node("matmul", "x0", other, arrays={"weight_zero": np.array(zeros[1])}, **at)
    assert any("matmul: pairs" in step for step in ran(sketch))
    scaled(sketch, product, S8, 1 << 16, by_channel=False)
    assert any("matmul + requantize: pairs" in step for step in ran(sketch, varied=math.prod(shapes[0]) > 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generic", "sse2"])
@pytest.mark.parametrize("shape", [(3, 5, 16, 9), (2, 1, 7, 40)])
def test_products_of_two_tensors_by_other_instructions(name, shape):
    """Instructions that this processor has too."""
    pairs_, rows, depth, columns = shape
    rng, dot = np.random.default_rng(5), DOTS[name]
    a = rng.integers(0, 255, (pairs_, rows, depth), np.uint8, endpoint=True)
    b = rng.integers(-128, 127, (pairs_, depth, columns), np.int8, endpoint=True)
    out = np.empty((pairs_, rows, columns), np.int32)
    multiply_pairs(a, b, out, (-7, 5), Tile(dot.lanes, dot.parts, 4, 2), 0, pairs_)
    np.testing.assert_array_equal(out, (a.astype(np.int64) - 7) @ (b.astype(np.int64) + 5))


@pytest.mark.parametrize("shape", [(1, 33), (5, 64)])
@pytest.mark.parametrize("signed", [False, True])
def test_products_with_their_requantizer(shape, signed):
    sketch = Sketch(shape, 8, signed)
    sketch.matmul(19)
    (step,) = ran(sketch)
    assert step.startswith("matmul + requantize: rows ")
