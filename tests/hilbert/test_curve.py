from fractions import Fraction

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.hilbert.curve import Curve, vertex_index

from .twins import turtle

ORDERS = range(1, 7)


@pytest.mark.parametrize("order", ORDERS)
def test_vertices_are_those_of_the_l_system(order):
    assert Curve(order).vertices.tolist() == [list(vertex) for vertex in turtle(order)]


@pytest.mark.parametrize("order", ORDERS)
def test_vertices_fill_the_lattice_from_corner_to_corner_in_unit_steps(order):
    curve = Curve(order)
    vertices = curve.vertices
    assert vertices.shape == (4**order, 2)
    assert vertices.dtype == np.int64
    assert vertices[0].tolist() == [0, 0]
    assert vertices[-1].tolist() == [2**order - 1, 0]
    assert (np.abs(np.diff(vertices, axis=0)).sum(axis=1) == 1).all()
    assert len({tuple(vertex) for vertex in vertices.tolist()}) == 4**order
    assert vertices.min() == 0
    assert vertices.max() == 2**order - 1
    assert curve.segments == 4**order - 1


@pytest.mark.parametrize("order", ORDERS)
def test_reversal_mirrors_x(order):
    vertices = Curve(order).vertices
    assert (vertices[::-1] == vertices * [-1, 1] + [2**order - 1, 0]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_vertex_index_inverts_the_vertices(order):
    curve = Curve(order)
    x, y = curve.vertices.T
    expected = np.arange(4**order)
    assert (vertex_index(x, y, order) == expected).all()
    assert (curve.index_table[x, y] == expected).all()
    # Only the low bits of the position are read.
    assert (vertex_index(x + 2**order, y - 3 * 2**order, order) == expected).all()
    assert vertex_index(int(x[-1]), int(y[-1]), order) == 4**order - 1


# arXiv 2405.14024, section 2.2: edge length and curve length with k = 0.1.
@pytest.mark.parametrize(
    ("order", "edge", "length"), [(1, 0.8, 2.4), (2, 0.8 / 3, 4.0), (3, 0.8 / 7, 7.2), (4, 0.8 / 15, 13.6)]
)
def test_lengths_of_the_paper(order, edge, length):
    curve = Curve(order)
    assert curve.inset == 0.1
    assert curve.edge_length == pytest.approx(edge, rel=1e-15)
    assert curve.length == pytest.approx(length, rel=1e-15)


def test_length_of_the_toy_example_without_inset():
    assert Curve(2, 0).length == 5.0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inset", [0, 0.1, 0.25, Fraction(1, 7)])
def test_points_reach_the_inset_border_and_add_up_to_the_length(order, inset):
    curve = Curve(order, inset)
    points = curve.points
    assert points.dtype == np.float64
    assert points.min() == float(inset)
    assert points.max() == float(1 - Curve(order, inset).exact_inset)
    steps = np.abs(np.diff(points, axis=0)).sum(axis=1)
    assert steps == pytest.approx(np.full(curve.segments, curve.edge_length), rel=1e-12)
    assert steps.sum() == pytest.approx(curve.length, rel=1e-12)


def test_a_float_inset_is_the_decimal_it_prints_as():
    assert Curve(1, 0.1).exact_inset == Fraction(1, 10)
    assert Curve(1, np.float64(0.1)) == Curve(1, Fraction(1, 10)) == Curve(np.int64(1), 0.1)
    assert Curve(1, np.float32(0.25)).exact_inset == Fraction(1, 4)
    assert Curve(1, Fraction(1, 3)).exact_inset == Fraction(1, 3)
    assert Curve(1, 1e-3).exact_inset == Fraction(1, 1000)


def test_arrays_can_not_be_written_by_accident():
    for array in (Curve(2).vertices, Curve(2).points, Curve(2).index_table):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("order", [0, 7, -1, 2.0, "2", None, True])
def test_bad_orders_are_refused(order):
    with pytest.raises(IntsimError, match="order"):
        Curve(order)


@pytest.mark.parametrize("inset", [0.5, -0.1, 1, float("nan"), float("inf"), "0.1", None, False])
def test_bad_insets_are_refused(inset):
    with pytest.raises(IntsimError, match="inset"):
        Curve(2, inset)
