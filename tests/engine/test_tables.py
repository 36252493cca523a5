"""Tables on words and on arrays, by any number of threads: the definition."""

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.engine.run import run_graph
from intsim.engine.threads import using
from intsim.engine.warmup import Sketch
from intsim.ops import OPS
from intsim.targets import Target

RNG = np.random.default_rng(11)


def table(sketch, kind, cells=(1,), low=None, count=None):
    """A table of the newest tensor with entries in no order."""
    x = sketch.graph.tensors[sketch.last]
    low, count = (x.low, x.high - x.low + 1) if count is None else (low, count)
    entries = RNG.integers(kind.min, kind.max, (int(np.prod(cells)), count), endpoint=True)
    return sketch.node("table", kind=kind, arrays={"table": entries}, low=low, cells=list(cells))


def steps(sketch, target="exact", **options):
    """Check that a run gives the definitions' integers with 1, 2 and 5 threads; the kernels it took."""
    sketch.graph.outputs = [sketch.last]
    tensors = dict(sketch.values)
    for node in sketch.graph.nodes:
        tensors[node.output] = OPS[node.op].evaluate(node, *(tensors[i] for i in node.inputs))
    kernels = []
    for threads in (1, 2, 5):
        with using(threads):
            profile = []
            ran = run_graph(sketch.graph, sketch.values, Target.load(target), profile=profile, **options)
        np.testing.assert_array_equal(ran.tensors[sketch.last], tensors[sketch.last])
        kernels = [line.kernel for line in profile]
    return kernels


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [8, 5, 3])
@pytest.mark.parametrize("by_channel", [False, True])
def test_between_convolutions(signed, channels, by_channel):
    sketch = Sketch((2, 8, 9, 37))
    sketch.conv(channels, signed=signed)
    table(sketch, IntegerType(8, not signed), (1, channels, 1, 1) if by_channel else (1,))
    sketch.conv(4)
    assert "table on words" in steps(sketch)


@pytest.mark.parametrize(
    ("shape", "bits", "out", "cells"),
    [
        ((3, 50), 8, 8, (1,)),
        ((3, 50), 8, 4, (50,)),
        ((2, 70000), 16, 16, (1,)),
        ((2, 5, 3, 7), 16, 20, (5, 1, 1)),
        ((40, 3, 1000), 4, 8, (3, 1)),
        ((2, 3, 4), 8, 8, (2, 1, 4)),
        ((1, 3), 8, 8, (4, 3)),
        ((0, 3), 8, 8, (1,)),
        ((), 8, 8, ()),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_arrays(shape, bits, out, cells, signed):
    sketch = Sketch(shape, bits, signed)
    table(sketch, IntegerType(out, True), cells)
    kernels = steps(sketch)
    blocks = cells in ((2, 1, 4), (4, 3)) or 0 in shape
    assert kernels == (["definition"] if blocks else ["table"])


def test_codes_that_no_entry_is_sure_to_have_go_by_the_definition():
    """Behind a register of 12 bits that overflows, the accumulator may hold what the table doesn't know."""
    sketch = Sketch((1, 16), 4)
    weight = {"weight": np.full((16, 8), 7, np.int64)}
    at = {"zero_point": 0, "weight_type": {"bits": 4, "signed": True, "narrow": False}}
    sketch.node("matmul", arrays=weight, **at)
    table(sketch, IntegerType(8, True))
    sketch.graph.outputs = [sketch.last]
    for target, kernel in (("exact", "table"), ("wrap-10", "definition")):
        profile = []
        ran = run_graph(sketch.graph, sketch.values, Target.load(target), keep=True, profile=profile)
        assert [p.kernel for p in profile if p.op == "table"] == [kernel]
        node = sketch.graph.nodes[-1]
        wanted = OPS["table"].evaluate(node, ran.tensors[node.inputs[0]])
        np.testing.assert_array_equal(ran.tensors[node.output], wanted)
