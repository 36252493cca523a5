"""Softmax, layer normalisation and the square root of the reference: bounds, exact elements, ties, against decimal."""

import decimal
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from intsim.errors import IntsimError
from intsim.testing.net import Net
from intsim.verification.reference import Reference
from intsim.verification.reference.call import Call
from intsim.verification.reference.reals import Real, ends_of
from intsim.verification.reference.rowwise import layer_normalization, root, softmax
from intsim.verification.reference.tensor import Tensor, constant, from_array, grid

from .twins import model

CONTEXT = decimal.Context(prec=50, Emin=-(10**9), Emax=10**9)
SCALES = [Fraction(1, 3), Fraction(float(np.float32(0.1))), Fraction(1, 1 << 30), Fraction(77, 2)]


def call(op, *tensors, opset=17, **attrs):
    return Call(op, op, opset, attrs, list(tensors), decides=True)


def number(x):
    return decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)


def assert_element(t: Tensor, i: int, wanted: decimal.Decimal):
    """Float value within its bound, exact element within 40 digits of `wanted`."""
    v, e = t.approx()
    assert abs(decimal.Decimal(float(v.flat[i])) - wanted) <= decimal.Decimal(float(e.flat[i])) + abs(
        wanted
    ) * decimal.Decimal("1e-45")
    low, high = ends_of(t.fraction(i), 45)
    size = max(abs(wanted), decimal.Decimal("1e-400"))
    assert number(low) - size * decimal.Decimal("1e-40") <= wanted <= number(high) + size * decimal.Decimal("1e-40")
    assert high - low <= Fraction(size) * Fraction(1, 10**40)


@st.composite
def tensors(draw):
    shape = draw(st.sampled_from([(2, 3), (1, 7), (3, 1), (2, 40)]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    codes = rng.integers(-128, 128, shape) if draw(st.booleans()) else rng.choice([-5, 90], shape)
    scale = draw(st.sampled_from(SCALES))
    if draw(st.booleans()):
        return grid(codes, scale)
    return from_array((rng.standard_normal(shape) * float(scale)), "x")


@given(tensors())
def test_softmax(x):
    made = softmax(call("Softmax", x))
    with decimal.localcontext(CONTEXT):
        for i in range(min(x.size, 2)):
            row = [x.fraction(j) for j in range(x.size)][i // x.shape[1] * x.shape[1] :][: x.shape[1]]
            top = max(row)
            powers = [number(v - top).exp() for v in row]
            assert_element(made, i, powers[i % x.shape[1]] / sum(powers))


@given(tensors(), st.sampled_from([1e-5, 1.0, 1e-30]))
def test_layer_normalization(x, epsilon):
    made = layer_normalization(call("LayerNormalization", x, epsilon=epsilon))
    with decimal.localcontext(decimal.Context(prec=100)):
        for i in range(min(x.size, 2)):
            row = [x.fraction(j) for j in range(x.size)][i // x.shape[1] * x.shape[1] :][: x.shape[1]]
            mean = sum(row) / len(row)
            total = sum((v - mean) ** 2 for v in row) / len(row) + Fraction(float(np.float32(epsilon)))
            assert_element(made, i, number(row[i % x.shape[1]] - mean) / number(total).sqrt())


def test_a_softmax_of_equal_numbers_is_rational():
    made = softmax(call("Softmax", grid(np.array([[7, 7, 7], [7, 7, 8]]), Fraction(1, 3))))
    assert made.fraction(1) == Fraction(1, 3)
    assert isinstance(made.fraction(4), Real)


def test_a_tie_of_equal_numbers_is_one():
    """Two equal numbers of scale 1/255: 127.5 is rounded to even."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]),
        helper.make_node("Quant", ["p", "s", "z", "b"], ["q"], domain="qonnx.custom_op.general", signed=0),
    ]
    made = model(nodes, [("x", [1, 2])], ["q"], {"s": np.float64(1 / 256), "z": np.float32(0.5), "b": np.float32(8)})
    assert Reference(made).run({"x": np.float32([[3, 3]])}).codes["q"].tolist() == [[128, 128]]


def test_root():
    made = root(from_array(np.float64([4, 2, 0.25, 1e-20, 9e80]), "x"))
    assert made.fraction(0) == 2
    assert made.fraction(2) == Fraction(1, 2)
    for i, x in enumerate((4, 2, 0.25, 1e-20, 9e80)):
        low, high = ends_of(made.fraction(i), 60)
        assert low**2 <= Fraction(x) <= high**2
        assert high - low <= high / 10**60
        assert abs(made.approx()[0][i] - math.sqrt(x)) <= made.approx()[1][i]
    with pytest.raises(IntsimError, match="negative"):
        root(from_array(np.float64([1, -1]), "x"))


def test_rows_before_opset_13():
    """Everything from the axis on is one row."""
    x = grid(np.arange(24).reshape(2, 3, 4), Fraction(1, 7))
    made = softmax(call("Softmax", x, opset=11)).approx()[0]
    np.testing.assert_allclose(made.reshape(2, -1).sum(axis=1), 1)
    np.testing.assert_allclose(softmax(call("Softmax", x)).approx()[0].sum(axis=-1), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: softmax(call("Softmax", x, axis=2)), "axis 2"),
        (lambda x: layer_normalization(call("LayerNormalization", x, axis=-3)), "axis -3"),
        (
            lambda x: layer_normalization(call("LayerNormalization", x, constant(np.full((3, 2, 4), Fraction(1))))),
            "doesn't fit",
        ),
        (lambda x: softmax(call("Softmax", softmax(call("Softmax", x)))).fraction(0), "irrational"),
    ],
)
def test_refused(make, message):
    with pytest.raises(IntsimError, match=message):
        make(grid(np.arange(8).reshape(2, 4), Fraction(1)))


@pytest.mark.parametrize("far", [-1e6, -1e9, -3.4e38])
def test_a_share_too_small_for_a_rational_is_zero_or_undecided(far):
    """e^-1e9 has 434 million digits: rounding down is decided without them, rounding up isn't."""

    def rounded(mode):
        net = Net(17)
        p = net.node("Softmax", net.node("Add", net.input(1, 3), np.float32([[0, far, 0]])))
        end = net.quant(p, 0.3, 0, 4, rounding_mode=mode)
        return Reference(net.model(end)).run({"x": np.zeros((1, 3), np.float32)}).codes[end].tolist()

    assert rounded("FLOOR") == [[1, 0, 1]]
    with pytest.raises(IntsimError, match="not told from a point of decision"):
        rounded("CEIL")
