import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.hilbert import Curve, decode, encode
from intsim.hilbert.channel import channel_errors, encode_rounded, plain_errors

from .points import aligned

# Gains over a plain head of the same noise, RMSE and robust SD, found by an independent simulation of the curve of
# arXiv 2405.14024 (k = 0.1, no codes): noise in units of the square, order, gains.
GAINS = [
    (0.0011, 1, 2.39, 2.38),
    (0.0011, 2, 3.97, 3.99),
    (0.0011, 3, 7.1, 7.2),
    (0.010, 1, 2.37, 2.41),
    (0.010, 2, 3.81, 3.95),
    (0.010, 3, 6.4, 7.0),
    (0.010, 4, 0.83, 12.7),
    (0.020, 2, 3.64, 3.94),
    (0.030, 3, 0.71, 6.4),
    (0.040, 2, 2.86, 3.85),
    (0.060, 3, 0.51, 4.5),
]


@pytest.mark.parametrize(("sigma", "order", "rmse", "robust"), GAINS)
def test_gains_over_a_plain_head(sigma, order, rmse, robust):
    measured = channel_errors(2, order, 255 * sigma, inset=0.1, samples=100_000 if order == 4 else 40_000)
    if sigma < 0.005:  # mostly the rounding to codes, which is no Gaussian
        plain = plain_errors(255 * sigma)
        assert plain.robust_sd / measured.robust_sd == pytest.approx(robust, rel=0.04)
        assert plain.rmse / measured.rmse == pytest.approx(rmse, rel=0.04)
    else:  # of a head that is not clipped
        assert sigma / measured.robust_sd == pytest.approx(robust, rel=0.04)
        # A few jumps make most of the RMSE, if there are any: it is only known roughly.
        assert sigma / measured.rmse == pytest.approx(rmse, rel=0.2 if 0 < measured.jump_rate < 0.01 else 0.04)
    assert (measured.jump_rate > 0) == (rmse < 0.9 * robust or sigma * 255 > 10)


def test_a_plain_head_errs_by_its_noise():
    measured = plain_errors(3.0)
    assert measured.robust_sd == pytest.approx(np.sqrt(9 + 1 / 12) / 255, rel=0.03)
    assert measured.rmse == pytest.approx(np.sqrt(9 + 1 / 12) / 255, rel=0.03)
    assert abs(measured.mean) < 1e-3
    assert measured.jump_rate == 0
    assert plain_errors(0.0).rmse == pytest.approx(1 / (255 * np.sqrt(12)), rel=0.01)


@pytest.mark.parametrize(("dimensions", "order", "spacing"), [(2, 3, 32), (2, 1, 224), (3, 1, 224), (3, 2, 74)])
def test_without_noise_the_error_is_the_rounding_along_the_curve(dimensions, order, spacing):
    measured = channel_errors(dimensions, order, 0.0, spacing=spacing, samples=20_000)
    length = aligned(order, dimensions, spacing).position_max
    assert measured.rmse == pytest.approx(1 / (length * np.sqrt(12)), rel=0.02)
    assert measured.jump_rate == 0


@pytest.mark.parametrize("guided", [{"window": 0.1}, {"weight": 2.0**-8}])
def test_a_guide_bounds_what_jumps_cost(guided):
    alone = channel_errors(2, 3, 8.0, spacing=32, samples=30_000)
    with_guide = channel_errors(2, 3, 8.0, spacing=32, samples=30_000, **guided)
    assert with_guide.rmse < alone.rmse / 3
    assert with_guide.jump_rate < alone.jump_rate
    assert with_guide.robust_sd == pytest.approx(alone.robust_sd, rel=0.05)


def test_space_is_emptier_than_the_plane():
    # Lengths of 7 * 224 and 63 * 32: the same precision within a third, but branches lie seven times further apart.
    plane = channel_errors(2, 3, 6.0, spacing=32, samples=30_000)
    space = channel_errors(3, 1, 6.0, spacing=224, samples=30_000)
    assert plane.jump_rate > 0.001
    assert space.jump_rate == 0
    assert space.rmse < plane.rmse / 3
    assert space.robust_sd < 1.4 * plane.robust_sd


def test_the_same_seed_gives_the_same_numbers():
    one, same, other = (channel_errors(2, 2, 3.0, spacing=64, samples=1000, seed=s) for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(("dimensions", "order"), [(2, 1), (2, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize("radius", [0.1, 0.5])
def test_rounded_turns_are_arcs_on_the_polygon_elsewhere(dimensions, order, radius):
    q, inset = np.linspace(0, 1, 5001), 0.1
    curve = Curve(order, inset, dimensions)
    sharp = np.stack(encode(q, order, inset, dimensions=dimensions), axis=-1)
    rounded = np.stack(encode_rounded(q, order, inset, radius, dimensions=dimensions), axis=-1)
    step = np.diff(curve.vertices, axis=0)
    turns = [v for v in range(1, curve.segments) if (step[v - 1] != step[v]).any()]
    position = q * curve.segments
    near = np.abs(position[:, None] - np.array(turns)).min(axis=1) < radius
    np.testing.assert_array_equal(rounded[~near], sharp[~near])
    assert np.abs(rounded[near] - sharp[near]).max() < curve.edge_length * radius
    # On a circle about the point that lies a radius off both edges, and continuous.
    vertex = np.array(turns)[np.abs(position[near][:, None] - np.array(turns)).argmin(axis=1)]
    middle = curve.points[vertex] + curve.edge_length * radius * (step[vertex] - step[vertex - 1])
    distance = np.linalg.norm(rounded[near] - middle, axis=1)
    np.testing.assert_allclose(distance, curve.edge_length * radius, rtol=1e-9)
    # An arc is pi / 4 as fast as the edges.
    assert np.linalg.norm(np.diff(rounded, axis=0), axis=1).max() <= 1.01 * curve.length / 5000


def test_rounded_turns_decode_with_the_stated_bias():
    q = np.linspace(0, 1, 20_001)
    x, y = encode_rounded(q, 2, 0.1, 0.25)
    error = (decode(x, y, 2) - q) * 15
    assert np.abs(error).max() == pytest.approx((1 - np.sqrt(0.5)) * 0.25, rel=0.02)
    assert abs(error.mean()) < 1e-4
    np.testing.assert_array_equal(np.stack(encode_rounded(q, 2, 0.1, 0)), np.stack(encode(q, 2)))
    rounded, sharp = (channel_errors(2, 3, 0.5, spacing=32, radius=r, samples=20_000) for r in (0.5, 0.0))
    assert rounded.rmse > 1.2 * sharp.rmse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either"),
        ({"inset": 0.1, "spacing": 32}, "either"),
        ({"inset": 0.5}, "inset"),
        ({"spacing": 31}, "spacing"),
        ({"inset": 0.1, "radius": 0.6}, "radius"),
        ({"inset": 0.1, "radius": -0.1}, "radius"),
        ({"inset": 0.1, "sigma": -1.0}, "sigma"),
        ({"inset": 0.1, "sigma": float("nan")}, "sigma"),
        ({"inset": 0.1, "window": -1.0}, "window"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(IntsimError, match=message):
        channel_errors(**({"dimensions": 2, "order": 3, "sigma": 1.0, "samples": 10} | arguments))
