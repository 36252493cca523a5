"""What the tests of operators share: node and tensor makers, and arrays drawn within a range, corners often."""

import numpy as np
from hypothesis import strategies as st

from intsim.graph import Node, Tensor, rationals
from intsim.ops import OPS

BOUNDS = st.tuples(st.integers(-300, 300), st.integers(-300, 300)).map(lambda t: (min(t), max(t)))


def node(op, attributes=None, arrays=None, inputs=("x",)):
    return Node(op, "n", tuple(inputs), "y", attributes or {}, arrays or {})


def tensor(shape, low, high, name="x", kind=None):
    return Tensor(name, tuple(shape), low, high, rationals(1), rationals(0), kind)


@st.composite
def ints(draw, shape, bounds=BOUNDS):
    """(array, low, high): int64 within low..high, either anything or corners only."""
    low, high = draw(bounds)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    corners = draw(st.booleans())
    return (
        (rng.choice([low, high], shape) if corners else rng.integers(low, high + 1, shape)).astype(np.int64),
        low,
        high,
    )


def check(n, drawn, wanted):
    """Definition, shape and range of one node for arrays drawn by `ints`; `wanted` is the twin's nested result."""
    op, arrays = OPS[n.op], [d[0] for d in drawn]
    out = op.evaluate(n, *arrays)
    assert out.dtype == np.int64
    np.testing.assert_array_equal(out, np.array(wanted.tolist(), np.int64).reshape(wanted.shape))
    assert op.shape(n, *(a.shape for a in arrays)) == wanted.shape
    low, high = op.value_range(n, *(tensor(a.shape, lo, hi) for a, lo, hi in drawn))
    assert type(low) is int
    assert type(high) is int
    assert low <= out.min()
    assert out.max() <= high
    return low, high
