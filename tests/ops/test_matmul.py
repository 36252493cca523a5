"""Matrix products against Python integers; their ranges are attained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.ops import OPS
from intsim.ops.exact import absolute_bound, exact_dtype, exact_matmul

from .nodes import check, ints, node, tensor

M = OPS["matmul"]


@st.composite
def products(draw):
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    x_batch, w_batch = draw(
        st.sampled_from([((), ()), ((2,), ()), ((), (2,)), ((2,), (2,)), ((3, 1), (2,)), ((1, 2), (3, 1))])
    )
    return draw(ints((*x_batch, m, k))), draw(ints((*w_batch, k, n)))


@given(products(), st.integers(-99, 99), st.integers(-99, 99), st.booleans(), st.data())
def test_matmul(pair, zx, zw, dynamic, data):
    x, w = pair
    n = w[0].shape[-1]
    zeros = np.array(zw)
    if not dynamic and data.draw(st.booleans()):
        zeros = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n)))
    bias = np.arange(n) * 1000 - 5 if w[0].ndim == 2 and not dynamic else np.zeros(n, np.int64)
    arrays = {} if dynamic else {"weight": w[0], **({"bias": bias} if bias.any() else {})}
    made = node("matmul", {"zero_point": zx}, {**arrays, "weight_zero": zeros}, ("x", "w") if dynamic else ("x",))
    wanted = np.matmul(x[0].astype(object) - zx, w[0].astype(object) - zeros.astype(object)) + bias.astype(object)
    check(made, [x, w] if dynamic else [x], wanted)


@given(products(), st.integers(-99, 99))
def test_the_range_is_attained(pair, zx):
    (_, low, high), (w, _, _) = pair
    made = node(
        "matmul", {"zero_point": zx}, {"weight": w, "bias": np.arange(w.shape[-1])} if w.ndim == 2 else {"weight": w}
    )
    lows, highs = M.channel_ranges(made, tensor((1, w.shape[-2]), low, high))
    for c in range(w.shape[-1]):
        column = w[..., c].reshape(-1, w.shape[-2])
        for wanted, up, down, best in ((lows[c], low, high, min), (highs[c], high, low, max)):
            found = [M.evaluate(made, np.where(k > 0, up, down)[None])[..., 0, c].reshape(-1) for k in column]
            assert best(int(best(f)) for f in found) == wanted


def test_inner_sizes_must_agree():
    with pytest.raises(IntsimError, match="inner sizes 3 and 4"):
        M.shape(node("matmul", {}, {"weight": np.zeros((4, 2), np.int64)}), (1, 3))


def test_carriers():
    assert exact_dtype(2**24 - 1) is np.float32
    assert exact_dtype(2**24) is np.float64
    assert exact_dtype(2**53 - 1) is np.float64
    assert exact_dtype(2**53) is np.int64
    assert absolute_bound(3, np.array([[1, -2], [4, 0]])) >= 12
    assert absolute_bound(2**62, np.full((1, 8), 2**31)) >= 2**96
    assert absolute_bound(5, np.zeros((0, 3), np.int64)) == 0


@given(st.integers(0, 30), st.integers(0, 30), st.integers(-2, 2), st.integers(1, 40), st.integers(0, 1 << 30))
def test_exact_matmul_around_the_limits_of_floats(a, b, nudge, depth, seed):
    """Operands of +-2^a+d and +-2^b+d, so that sums lie around 2^24 and 2^53 with odd last bits."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], (3, depth)) * (1 << a) + nudge
    w = rng.choice([-1, 1], (2, depth)) * (1 << b) + 1
    wanted = x.astype(object) @ w.T.astype(object)
    if np.abs(wanted).max() < 1 << 63:
        assert exact_matmul(x, w).tolist() == wanted.tolist()


def test_empty():
    assert exact_matmul(np.zeros((0, 3), np.int64), np.ones((2, 3), np.int64)).shape == (0, 2)
