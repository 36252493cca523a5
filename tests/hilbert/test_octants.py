import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.hilbert import Curve, decode_points, encode

from .twins import solid_turtle

ORDERS = range(1, 5)


@pytest.mark.parametrize("order", ORDERS)
def test_vertices_are_those_of_hamilton(order):
    assert Curve(order, dimensions=3).vertices.tolist() == [list(vertex) for vertex in solid_turtle(order)]


@pytest.mark.parametrize("order", ORDERS)
def test_vertices_fill_the_lattice_from_corner_to_corner_in_unit_steps(order):
    curve = Curve(order, dimensions=3)
    vertices, last = curve.vertices, 2**order - 1
    assert vertices.shape == (8**order, 3)
    assert vertices.dtype == np.int64
    assert vertices[0].tolist() == [0, 0, 0]
    assert vertices[-1].tolist() == [last, 0, 0]
    assert (np.abs(np.diff(vertices, axis=0)).sum(axis=1) == 1).all()
    assert len({tuple(vertex) for vertex in vertices.tolist()}) == 8**order
    assert vertices.min() == 0
    assert vertices.max() == last
    assert curve.segments == 8**order - 1
    # Run backwards it is its own mirror image.
    assert (vertices[::-1] == vertices * [-1, 1, 1] + [last, 0, 0]).all()
    assert (curve.index_table[tuple(vertices.T)] == np.arange(8**order)).all()


@pytest.mark.parametrize("order", ORDERS)
def test_each_octant_holds_a_curve_of_its_own(order):
    parts = Curve(order, dimensions=3).vertices.reshape(8, -1, 3)
    for part in parts:
        inner = part - part.min(axis=0)
        assert inner.max() == 2 ** (order - 1) - 1
        assert len({tuple(v) for v in inner.tolist()}) == 8 ** (order - 1)


def test_order_1_by_hand():
    assert Curve(1, dimensions=3).vertices.tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 0, 0]
    ]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inset", [0, 0.1, 0.25])
def test_lengths_and_points(order, inset):
    curve = Curve(order, inset, 3)
    points = curve.points
    steps = np.abs(np.diff(points, axis=0)).sum(axis=1)
    assert steps == pytest.approx(np.full(curve.segments, curve.edge_length), rel=1e-12)
    assert steps.sum() == pytest.approx(curve.length, rel=1e-12)
    assert (points.min(), points.max()) == (float(inset), float(1 - curve.exact_inset))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inset", [0, 0.1, 0.3])
def test_round_trip(order, inset):
    q = np.linspace(0, 1, 2001)
    points = np.stack(encode(q, order, inset, dimensions=3), axis=-1)
    back, distance = decode_points(points, order, inset, distance=True)
    assert np.abs(back - q).max() < 1e-14
    assert distance.max() < 1e-13
    vertices = np.stack(encode(np.arange(8**order) / (8**order - 1), order, inset, dimensions=3), axis=-1)
    assert np.allclose(vertices, Curve(order, inset, 3).points, rtol=0, atol=1e-12)


def test_plane_and_space_differ():
    assert Curve(2) == Curve(2, 0.1, 2) == Curve(2, dimensions=np.int64(2))
    assert Curve(2) != Curve(2, dimensions=3)
    assert len(encode(0.3, 2, dimensions=3)) == 3
    assert len(encode(0.3, 2)) == 2


@pytest.mark.parametrize("dimensions", [1, 4, 2.0, "3", None, True])
def test_bad_dimensions_are_refused(dimensions):
    with pytest.raises(IntsimError, match="dimensions"):
        Curve(2, dimensions=dimensions)


def test_orders_are_limited_by_the_dimension():
    Curve(6)
    with pytest.raises(IntsimError, match=r"1\.\.4"):
        Curve(5, dimensions=3)
    with pytest.raises(IntsimError, match=r"1\.\.4"):
        encode(0.5, 5, dimensions=3)
