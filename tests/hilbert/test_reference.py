import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.hilbert import Curve, decode, encode

from .twins import repeatable

ORDERS = range(1, 7)
orders = st.integers(1, 6)
insets = st.sampled_from([0, 0.1, 0.25, 0.4])


def slowly(x, y, curve):
    """Squared distance and q of the closest point, one segment after another."""
    candidates = []
    for s, ((x0, y0), (x1, y1)) in enumerate(zip(curve.points.tolist(), curve.points.tolist()[1:], strict=False)):
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        along = min(max(along, 0.0), 1.0)
        squared = (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2
        candidates.append((squared, (s + along) / curve.segments))
    return candidates


@repeatable()
@given(orders, insets, st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_decode_is_the_closest_point_of_the_whole_curve(order, inset, x, y):
    q, distance = decode(x, y, order, inset, distance=True)
    candidates = slowly(x, y, Curve(order, inset))
    nearest = min(squared for squared, _ in candidates)
    assert float(distance) ** 2 == pytest.approx(nearest, abs=1e-14)
    assert any(abs(float(q) - other) < 1e-7 for squared, other in candidates if squared <= nearest + 1e-14)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inset", [0, 0.1, 0.3])
def test_round_trip_and_arc_length(order, inset):
    q = np.linspace(0, 1, 4001)
    x, y = encode(q, order, inset)
    back, distance = decode(x, y, order, inset, distance=True)
    assert np.abs(back - q).max() < 1e-14
    assert distance.max() < 1e-15
    curve = Curve(order, inset)
    vertices = encode(np.arange(4**order) / curve.segments, order, inset)
    assert np.allclose(np.stack(vertices, axis=1), curve.points, rtol=0, atol=1e-14)
    middle = encode((np.arange(curve.segments) + 0.25) / curve.segments, order, inset)
    expected = 0.75 * curve.points[:-1] + 0.25 * curve.points[1:]
    assert np.allclose(np.stack(middle, axis=1), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", ORDERS)
def test_ends(order):
    x, y = encode([0.0, 1.0], order)
    assert x.tolist() == [0.1, 0.9]
    assert y.tolist() == [0.1, 0.1]
    assert decode([-5.0, 5.0], [-5.0, -5.0], order).tolist() == [0.0, 1.0]


def test_ties_take_the_lowest_q():
    assert decode(0.5, 0.0, 1, 0) == 0.0  # the two ends are equally near
    assert decode(0.5, 0.25, 1, 0) == pytest.approx(0.25 / 3)
    assert decode(0.5, 0.5, 1, 0) == pytest.approx(0.5 / 3)  # left, top and right edge


def test_shapes_broadcast_and_integers_are_welcome():
    assert encode(np.zeros((2, 3)), 2)[0].shape == (2, 3)
    q, distance = decode(np.zeros((4, 1)), np.ones(3), 2, distance=True)
    assert q.shape == distance.shape == (4, 3)
    assert q.dtype == distance.dtype == np.float64
    assert decode(0, 1, 2).shape == ()
    assert decode(np.zeros((0, 2)), np.zeros((0, 2)), 3).shape == (0, 2)
    assert decode(np.float32(0.5), 1, 2) == decode(0.5, 1.0, 2)


def test_chunks_do_not_show():
    x, y = np.random.default_rng(1).random((2, 20_000))
    whole = decode(x, y, 3)
    assert (whole == np.concatenate([decode(x[i : i + 700], y[i : i + 700], 3) for i in range(0, 20_000, 700)])).all()


def test_memory_does_not_grow_with_points_times_segments():
    x = np.random.default_rng(2).random((1000, 400))
    tracemalloc.start()
    decode(x, x, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * x.nbytes  # all distances at once would be 63 times the image


@pytest.mark.parametrize("q", [-0.001, 1.001, float("nan"), float("inf"), "0.5", None, 1j])
def test_bad_q_is_refused(q):
    with pytest.raises(IntsimError, match="q"):
        encode(q, 2)


@pytest.mark.parametrize("x", [float("nan"), -float("inf"), "0.5", None, [[1.0], [1.0, 2.0]]])
def test_bad_points_are_refused(x):
    with pytest.raises(IntsimError, match="x"):
        decode(x, 0.5, 2)
    with pytest.raises(IntsimError, match="y"):
        decode(0.5, x, 2)


def test_bad_shapes_and_curves_are_refused():
    with pytest.raises(IntsimError, match="broadcast"):
        decode(np.zeros(2), np.zeros(3), 2)
    with pytest.raises(IntsimError, match="order"):
        decode(0.5, 0.5, 9)
    with pytest.raises(IntsimError, match="inset"):
        encode(0.5, 2, 0.7)
