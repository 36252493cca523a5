import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.hilbert import Curve, blend, decode, decode_points

from .twins import polygon, repeatable

CURVES = [(2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3)]
curves = st.sampled_from(CURVES)
insets = st.sampled_from([0, 0.1, 0.25])
quarters = st.integers(-8, 24).map(lambda i: i / 16) | st.floats(-0.5, 1.5)


def feet(point, order, inset, dimensions, low=0.0, high=1.0):
    """(squared distance in edges, place in edges) of each segment's closest point with low <= q <= high."""
    vertices = polygon(order, dimensions)
    h = (1 - 2 * inset) / (2**order - 1)
    at = [(c - inset) / h for c in point]
    last, candidates = len(vertices) - 1, []
    for s in range(last):
        start, end = vertices[s], vertices[s + 1]
        least, most = max(low * last - s, 0.0), min(high * last - s, 1.0)
        if least > most:
            continue
        along = sum((c - u) * (v - u) for c, u, v in zip(at, start, end, strict=True))
        along = min(max(along, least), most)
        foot = [u + along * (v - u) for u, v in zip(start, end, strict=True)]
        candidates.append((sum((c - f) ** 2 for c, f in zip(at, foot, strict=True)), s + along))
    return candidates, last


@repeatable(100)
@given(curves, insets, st.data())
def test_unguided_is_the_closest_point_of_the_whole_curve(curve, inset, data):
    dimensions, order = curve
    point = data.draw(st.tuples(*[quarters] * dimensions))
    q, distance = decode_points(point, order, inset, distance=True)
    candidates, last = feet(point, order, inset, dimensions)
    nearest = min(squared for squared, _ in candidates)
    assert float(distance) ** 2 == pytest.approx(nearest, rel=1e-9, abs=1e-12)
    assert any(abs(float(q) - position / last) < 1e-7 for squared, position in candidates if squared <= nearest + 1e-11)


@repeatable(200)
@given(curves, insets, st.data())
def test_guided_is_the_best_foot_within_the_window(curve, inset, data):
    dimensions, order = curve
    point = data.draw(st.tuples(*[quarters] * dimensions))
    guide = data.draw(st.floats(-0.2, 1.2))
    window = data.draw(st.none() | st.floats(0, 1.2))
    weight = data.draw(st.sampled_from([0, 0.01, 0.3, 1.0, 20.0]))
    q, distance = decode_points(point, order, inset, guide=guide, window=window, weight=weight, distance=True)
    guide = min(max(guide, 0.0), 1.0)
    low, high = (0.0, 1.0) if window is None else (max(guide - window, 0.0), min(guide + window, 1.0))
    candidates, last = feet(point, order, inset, dimensions, low, high)
    costs = [squared + weight * (position - guide * last) ** 2 for squared, position in candidates]
    slack = 1e-9 * (1 + min(costs))
    assert low <= q <= high
    assert any(
        abs(float(q) - position / last) < 1e-7 and abs(float(distance) ** 2 - squared) < 1e-8 * (1 + squared)
        for cost, (squared, position) in zip(costs, candidates, strict=True)
        if cost <= min(costs) + slack
    )


@pytest.mark.parametrize("order", range(1, 7))
def test_in_the_plane_it_is_the_plane_decoder(order):
    points = np.random.default_rng(order).uniform(-0.2, 1.2, (3000, 2))
    q, distance = decode_points(points, order, distance=True)
    expected, far = decode(points[:, 0], points[:, 1], order, distance=True)
    assert np.abs(q - expected).max() < 1e-12
    assert np.abs(distance * Curve(order).edge_length - far).max() < 1e-12


@pytest.mark.parametrize(("dimensions", "order"), CURVES)
def test_a_window_of_the_whole_range_and_no_weight_change_nothing(dimensions, order):
    random = np.random.default_rng(order)
    points, guide = random.uniform(-0.2, 1.2, (2000, dimensions)), random.uniform(-1, 2, 2000)
    expected = decode_points(points, order)
    np.testing.assert_array_equal(decode_points(points, order, guide=guide), expected)
    np.testing.assert_array_equal(decode_points(points, order, guide=guide, window=1.0), expected)
    np.testing.assert_array_equal(decode_points(points, order, guide=guide, window=1e300, weight=0.0), expected)


@pytest.mark.parametrize(("dimensions", "order"), CURVES)
@pytest.mark.parametrize("window", [0.0, 0.01, 0.1])
def test_a_wrong_branch_costs_at_most_twice_the_window(dimensions, order, window):
    random = np.random.default_rng(order)
    truth = random.random(4000)
    guide = np.clip(truth + random.uniform(-window, window, 4000), 0, 1)
    points = random.uniform(-0.5, 1.5, (4000, dimensions))  # of no use at all
    q = decode_points(points, order, guide=guide, window=window)
    assert np.abs(q - guide).max() <= window * (1 + 1e-12) + 1e-15
    assert np.abs(q - truth).max() <= 2 * window * (1 + 1e-12) + 1e-15
    if window == 0:
        np.testing.assert_array_equal(q, guide)


def test_weight_chooses_the_branch_and_does_not_pull():
    # Order 1 without inset: on the line between the two upright edges, 0.25 above the ends.
    left, right = 0.25 / 3, 1 - 0.25 / 3
    point = (0.499, 0.25)
    assert decode_points(point, 1, 0) == pytest.approx(left)
    assert decode_points(point, 1, 0, guide=0.9) == pytest.approx(left)
    assert decode_points(point, 1, 0, guide=0.9, weight=0.01) == pytest.approx(right, abs=1e-15)
    assert decode_points(point, 1, 0, guide=0.1, weight=0.01) == pytest.approx(left, abs=1e-15)
    # A window does pull: to its border.
    assert decode_points((0.0, 0.25), 1, 0, guide=0.5, window=0.125) == pytest.approx(0.375)
    # Both: the window leaves the middle edge and half of the right one, and the weight takes the right one.
    assert decode_points((0.55, 0.6), 1, 0, guide=0.9, window=0.4, weight=1.0) == pytest.approx(1 - 0.6 / 3)


def test_of_equals_the_lowest_q():
    assert decode_points((0.5, 0.0), 1, 0) == 0.0
    assert decode_points((0.5, 0.0), 1, 0, guide=0.5, weight=1.0) == 0.5
    assert decode_points((0.5, 0.0, 0.0), 1, 0) == 0.0


def test_shapes():
    points = np.random.default_rng(3).random((2, 5, 3))
    q, distance = decode_points(points, 2, guide=np.full((5,), 0.5), window=0.1, distance=True)
    assert q.shape == distance.shape == (2, 5)
    assert q.dtype == distance.dtype == np.float64
    assert decode_points([0.1, 0.2], 2).shape == ()
    assert decode_points(np.zeros((0, 2)), 2).shape == (0,)
    assert decode_points(np.zeros((4, 0, 3)), 2, guide=0.5, window=0.1).shape == (4, 0)


def test_chunks_do_not_show():
    random = np.random.default_rng(4)
    points, guide = random.random((20_000, 3)), random.random(20_000)
    whole = decode_points(points, 2, guide=guide, window=0.1, weight=0.1)
    parts = [
        decode_points(points[i : i + 700], 2, guide=guide[i : i + 700], window=0.1, weight=0.1)
        for i in range(0, 20_000, 700)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_memory_does_not_grow_with_points_times_segments():
    points = np.random.default_rng(2).random((300_000, 2))
    tracemalloc.start()
    decode_points(points, 3, guide=points[:, 0], window=0.2, weight=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * points.nbytes  # all distances at once would be 31 times the points


def test_blend_is_linear_between_its_radii():
    q = blend(0.75, 0.25, [0.0, 0.125, 0.25, 0.3125, 0.375, 0.4375, 0.5, 3.0], 0.25, 0.5)
    assert q.tolist() == [0.75, 0.75, 0.75, 0.625, 0.5, 0.375, 0.25, 0.25]
    assert blend(0.75, 0.25, [0.5, 0.51], 0.5, 0.5).tolist() == [0.75, 0.25]
    assert blend(0.7, 0.3, [0.0, 0.25, 0.5, 9.0]).tolist() == [0.7, 0.7, 0.3, 0.3]
    assert blend([0.1, 0.2], [[0.5]], 0.0).shape == (1, 2)


@pytest.mark.parametrize(("dimensions", "order"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_blend_does_not_jump_between_branches(dimensions, order):
    # Pairs of points a step apart. Beside what the slope of the ramp explains there is only the turn's own step,
    # 2 r edges, weighted: at most 2 r (far - r) / (far - near) <= 2 near for these radii.
    near, far, step = 0.25, 0.5, 1e-6
    random = np.random.default_rng(order)
    points = random.uniform(0, 1, (60_000, dimensions))
    # Half of them beside a medial plane between lattice lines.
    h = (1 - 2 * 0.1) / (2**order - 1)
    points[::2, 0] = 0.1 + (random.integers(0, 2**order, 30_000) + 0.5) * h - step * h * random.random(30_000)
    other = points.copy()
    other[:, 0] += step * h
    guide, segments = 0.3, Curve(order, dimensions=dimensions).segments
    results, raw = [], []
    for position in (points, other):
        q, distance = decode_points(position, order, distance=True)
        raw.append(q)
        results.append(blend(q, guide, distance, near, far))
    change = np.abs(results[1] - results[0]) * segments
    assert change.max() <= 2 * near + 3 * step + step * segments / (far - near)
    assert np.abs(raw[1] - raw[0]).max() * segments > 2.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": 0.5}, "coordinates"),
        ({"points": [0.5]}, "coordinates"),
        ({"points": [0.5] * 4}, "coordinates"),
        ({"points": [0.5, float("nan")]}, "points"),
        ({"order": 7}, "order"),
        ({"order": 5, "points": [0.5] * 3}, "order"),
        ({"inset": 0.5}, "inset"),
        ({"guide": float("nan")}, "guide"),
        ({"guide": [0.1, 0.2]}, "guide of shape"),
        ({"guide": "0.5"}, "guide"),
        ({"window": 0.1}, "needs a guide"),
        ({"weight": 0.1}, "needs a guide"),
        ({"guide": 0.5, "window": -0.1}, "window"),
        ({"guide": 0.5, "window": float("nan")}, "window"),
        ({"guide": 0.5, "window": True}, "window"),
        ({"guide": 0.5, "weight": -1}, "weight"),
        ({"guide": 0.5, "weight": float("inf")}, "weight"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(IntsimError, match=message) as caught:
        decode_points(**({"points": [0.5, 0.5], "order": 2} | arguments))
    assert "\n" not in str(caught.value)


def test_bad_blends_are_refused():
    for near, far in ((0.5, 0.25), (-0.1, 0.5), (0.1, float("inf")), (float("nan"), 0.5)):
        with pytest.raises(IntsimError, match="radii"):
            blend(0.5, 0.5, 0.1, near, far)
    with pytest.raises(IntsimError, match="broadcast"):
        blend([0.1, 0.2], [0.1, 0.2, 0.3], 0.0)
    with pytest.raises(IntsimError, match="distance"):
        blend(0.1, 0.1, float("nan"))
