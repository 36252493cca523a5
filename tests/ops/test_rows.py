"""Softmax and layer normalisation of integers: dumb twins bit for bit, proven errors against 50 digits of decimal."""

import dataclasses
import decimal
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.dispatch import _check_softmax
from intsim.errors import IntsimError
from intsim.graph import rationals
from intsim.ops import OPS, layer_norm, rows
from intsim.ops.exponentials import falling_exponentials, rounded_exponential
from intsim.ops.softmax import table_bits

from .nodes import node, tensor

CONTEXT = decimal.Context(prec=50, Emin=-(10**9), Emax=10**9)
SCALES = [
    Fraction(1, 7),
    Fraction(1, 2),
    Fraction(3, 2),
    Fraction(1, 1 << 20),
    Fraction(float(np.float32(0.1))),
    Fraction(40),
]
EPSILONS = [Fraction(1, 10**5), Fraction(1, 3), Fraction(10**9), Fraction(1, 10**30), Fraction(12345, 77)]
PAIRS = np.array(list(itertools.product(range(-8, 8), repeat=2)))
TRIPLES = np.array(list(itertools.product(range(-8, 8), repeat=3)))


def number(x):
    """A rational to 50 digits."""
    return decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)


def softmax_node(scale, length, low, high, axes=(1,), most=1 << 20):
    bits = table_bits(length)
    table = falling_exponentials(scale, bits, high - low, most)
    return node("softmax", {"axes": list(axes), "bits": bits, "fraction": 24}, {"table": table})


def norm_node(epsilon, length, axes=(1,)):
    attributes = {"axes": list(axes), "epsilon": f"{epsilon.numerator}/{epsilon.denominator}"}
    return node("layer_norm", {**attributes, "fraction": layer_norm.fraction_bits(length)})


def softmax_twin(row, table, fraction=24):
    e = [int(table[min(max(row) - x, len(table) - 1)]) for x in row]
    return [math.floor(Fraction(2**fraction * v, sum(e)) + Fraction(1, 2)) for v in e]


def norm_twin(row, epsilon, fraction):
    """Among neighbours of a guess, the integer y whose distance to the real number is at most one half, by squares."""
    count, total = len(row), sum(row)
    spread = Fraction(count * sum(v * v for v in row) - total * total) + count * count * epsilon
    out = []
    for x in row:
        d = abs(count * x - total)
        square = Fraction(4**fraction * d * d) / spread if d else Fraction(0)
        y = math.isqrt(math.floor(square))
        # (y + 1/2)^2 <= square: the real number is at least y + 1/2, and a tie goes away from zero
        y += (2 * y + 1) ** 2 <= 4 * square
        out.append(y if count * x >= total else -y)
    return out


def check_softmax(x, scale, low, high):
    """Definition, range and error on rows (M, N); real softmax once for each distinct row of few."""
    n = softmax_node(scale, x.shape[1], low, high)
    op, table = OPS["softmax"], n.arrays["table"]
    got = op.evaluate(n, x)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, [softmax_twin(r, table) for r in x.tolist()])
    least, most = op.value_range(n, tensor(x.shape, low, high))
    assert least <= got.min()
    assert got.max() <= most
    return n, got


def assert_softmax_error(n, x, got, scale):
    bound = number(OPS["softmax"].error(n, x.shape))
    with decimal.localcontext(CONTEXT):
        powers: dict[int, decimal.Decimal] = {}
        for row, ys in zip(x.tolist(), got.tolist(), strict=True):
            top = max(row)
            for v in row:
                if top - v not in powers:
                    powers[top - v] = (-number(scale * (top - v))).exp()
            total = sum(powers[top - v] for v in row)
            for v, y in zip(row, ys, strict=True):
                assert abs(powers[top - v] / total * 2**24 - y) <= bound


def assert_norm_error(n, x, got, epsilon):
    fraction, count = n.attributes["fraction"], x.shape[1]
    with decimal.localcontext(CONTEXT):
        for row, ys in zip(x.tolist(), got.tolist(), strict=True):
            total = sum(row)
            spread = count * sum(v * v for v in row) - total * total + number(count * count * epsilon)
            for v, y in zip(row, ys, strict=True):
                real = decimal.Decimal(2**fraction * (count * v - total)) / spread.sqrt()
                assert abs(real - y) <= decimal.Decimal("0.5") * (1 + decimal.Decimal(10) ** -30)


def check_norm(x, epsilon, low, high):
    n = norm_node(epsilon, x.shape[1])
    op, fraction = OPS["layer_norm"], n.attributes["fraction"]
    got = op.evaluate(n, x)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, [norm_twin(r, epsilon, fraction) for r in x.tolist()])
    least, most = op.value_range(n, tensor(x.shape, low, high))
    assert least <= got.min()
    assert got.max() <= most < 1 << 31
    assert op.error(n, x.shape) == Fraction(1, 2)
    return n, got


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("x", [PAIRS, TRIPLES], ids=["pairs", "triples"])
def test_softmax_of_all_short_rows(x, scale):
    n, got = check_softmax(x, scale, -8, 7)
    assert_softmax_error(n, x[::7], got[::7], scale)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("x", [PAIRS, TRIPLES], ids=["pairs", "triples"])
def test_layer_norm_of_all_short_rows(x, epsilon):
    n, got = check_norm(x, epsilon, -8, 7)
    assert_norm_error(n, x[::11], got[::11], epsilon)


@st.composite
def long_rows(draw, widest=20):
    """(rows, low, high): random, constant, one-hot or of two values."""
    low = draw(st.integers(-(1 << widest), 1 << widest))
    high = low + draw(st.one_of(st.integers(0, 300), st.integers(0, 1 << widest)))
    length = draw(st.one_of(st.integers(1, 5), st.integers(1, 300)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    kind = draw(st.sampled_from(["any", "ends", "constant", "one hot"]))
    if kind == "any":
        x = rng.integers(low, high + 1, (2, length))
    elif kind == "ends":
        x = rng.choice([low, high], (2, length))
    else:
        x = np.full((2, length), low)
        if kind == "one hot":
            x[0, rng.integers(length)] = high
            x[1] = high
            x[1, rng.integers(length)] = low
    return x.astype(np.int64), low, high


@given(
    long_rows(),
    st.sampled_from([Fraction(1, 1 << 30), Fraction(1, 99), Fraction(1, 10), Fraction(7, 3), Fraction(10**6)]),
)
def test_softmax_of_long_rows(case, scale):
    x, low, high = case
    if scale < Fraction(1, 1 << 20):
        high = min(high, low + 300)
        x = np.minimum(x, high)
    n, got = check_softmax(x, scale, low, high)
    assert_softmax_error(n, x, got, scale)


@given(long_rows(40), st.sampled_from(EPSILONS))
def test_layer_norm_of_long_rows(case, epsilon):
    x, low, high = case
    n, got = check_norm(x, epsilon, low, high)
    assert_norm_error(n, x, got, epsilon)


@given(st.integers(2, 40), st.integers(1, 1 << 30), st.booleans(), st.sampled_from(EPSILONS), st.sampled_from(SCALES))
def test_ranges_are_attained_by_one_element_against_the_others(length, spread, negative, epsilon, scale):
    low, high = (-spread, 0) if negative else (0, spread)
    hot = np.full((1, length), low)
    hot[0, 0] = high
    n = norm_node(epsilon, length)
    assert (
        OPS["layer_norm"].value_range(n, tensor((1, length), low, high))[1] == OPS["layer_norm"].evaluate(n, hot)[0, 0]
    )
    spread = min(spread, 200)
    low, high = (-spread, 0) if negative else (0, spread)
    cold = np.full((1, length), high)
    cold[0, 0] = low
    hot = -cold + low + high
    n = softmax_node(scale, length, low, high)
    found = OPS["softmax"].value_range(n, tensor((1, length), low, high))
    assert found == (OPS["softmax"].evaluate(n, cold)[0, 0], OPS["softmax"].evaluate(n, hot)[0, 0])


@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), st.sampled_from([0, 5, 24]))
@example([0, 1], 0)
def test_ties_of_a_normalisation_go_away_from_zero(row, fraction):
    """Without epsilon two values give +-1 and rationals: with a few bits of fraction there are ties."""
    x = np.array([row])
    n = node("layer_norm", {"axes": [1], "epsilon": "0/1", "fraction": fraction})
    spread = len(row) * sum(v * v for v in row) - sum(row) ** 2
    wanted = norm_twin(row, Fraction(0), fraction) if spread else [0] * len(row)
    np.testing.assert_array_equal(OPS["layer_norm"].evaluate(n, x), [wanted])


def test_a_tie_of_a_normalisation():
    """-3, 1, 1, 1: D = -12, 4, 4, 4 and Q = 48; an epsilon of 1 makes the root 8, the results -1.5 and 0.5."""
    n = node("layer_norm", {"axes": [0], "epsilon": "1/1", "fraction": 0})
    np.testing.assert_array_equal(OPS["layer_norm"].evaluate(n, np.array([-3, 1, 1, 1])), [-2, 1, 1, 1])


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (1, 2), (0, 1, 2)])
def test_rows_along_any_axes(axes, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_ELEMENTS", 20)
    x = np.random.default_rng(0).integers(-50, 50, (3, 4, 5))
    length = math.prod(x.shape[a] for a in axes)
    others = [a for a in range(3) if a not in axes]
    for n in (softmax_node(Fraction(1, 9), length, -50, 49, axes), norm_node(Fraction(1, 7), length, axes)):
        got = OPS[n.op].evaluate(n, x)
        assert OPS[n.op].shape(n, x.shape) == x.shape
        flat = node(n.op, {**n.attributes, "axes": [0]}, n.arrays)
        for at in np.ndindex(*(x.shape[a] for a in others)):
            place = tuple(at[others.index(a)] if a in others else slice(None) for a in range(3))
            wanted = OPS[n.op].evaluate(flat, x[place].reshape(-1))
            np.testing.assert_array_equal(got[place].reshape(-1), wanted)
        empty = OPS[n.op].evaluate(n, np.zeros((3, 0, 5), np.int64))
        assert empty.shape == (3, 0, 5)


def test_integers_beyond_their_described_range():
    """Behind a register that overflowed anything can arrive; the definition still holds."""
    ends = [-(1 << 63), (1 << 63) - 1, 0, 5]
    x = np.array([ends, [1, 2, 3, 4]])
    n = softmax_node(Fraction(1, 2), 4, 0, 300)
    np.testing.assert_array_equal(
        OPS["softmax"].evaluate(n, x), [softmax_twin(r, n.arrays["table"]) for r in x.tolist()]
    )
    n = norm_node(Fraction(1, 9), 4)
    got = OPS["layer_norm"].evaluate(n, x)
    np.testing.assert_array_equal(got, [norm_twin(r, Fraction(1, 9), n.attributes["fraction"]) for r in x.tolist()])
    with pytest.raises(IntsimError, match="quantize its input"):
        OPS["layer_norm"].value_range(n, tensor((2, 4), 0, 1 << 60))


@pytest.mark.parametrize(
    "rate", [Fraction(1, 3), Fraction(1, 1000), Fraction(float(np.float32(0.37)) / 64), Fraction(100)]
)
def test_every_entry_of_a_table_is_rounded_correctly(rate):
    table = falling_exponentials(rate, 37, 10**6, 1 << 16)
    assert table[-1] == 0
    assert (np.diff(table) <= 0).all()
    with decimal.localcontext(CONTEXT):
        for d in {*range(0, len(table), max(1, len(table) // 300)), len(table) - 1, len(table) - 2}:
            real = (-number(rate * d)).exp() * 2**37
            assert abs(real - int(table[d])) < decimal.Decimal("0.5")
            assert d == 0 or rounded_exponential(-rate * d, 37) == table[d]


def test_entries_that_the_running_product_leaves_open_are_worked_out(monkeypatch):
    from intsim.ops import exponentials

    wanted = falling_exponentials(Fraction(1, 50), 30, 500, 1 << 16)
    monkeypatch.setattr(exponentials, "GUARD_BITS", 6)
    np.testing.assert_array_equal(falling_exponentials(Fraction(1, 50), 30, 500, 1 << 16), wanted)


def test_a_table_that_would_be_too_long_is_refused():
    assert len(falling_exponentials(Fraction(1, 1 << 40), 30, 99, 100)) == 100
    with pytest.raises(IntsimError, match="more than 100 entries"):
        falling_exponentials(Fraction(1, 1 << 40), 30, 100, 100)


@pytest.mark.parametrize("length", [1, 2, 1000, (1 << 25) - 1, 1 << 25, 1 << 28])
def test_no_number_of_a_softmax_leaves_63_bits(length):
    """The largest numerator and twice the largest sum."""
    bits = table_bits(length)
    assert (2**bits << 25) + length * 2**bits < 1 << 63
    assert 2 * length * 2**bits < 1 << 63
    assert bits >= 33


@pytest.mark.parametrize("bits", [16, 26, 34, 40])
def test_results_that_the_reciprocal_root_leaves_open(bits):
    """The wider the input, the more results depend on more digits of the root than int64 has."""
    x = np.random.default_rng(bits).integers(0, 1 << bits, (20, 50))
    check_norm(x, Fraction(1, 3), 0, (1 << bits) - 1)


MASKS = [
    np.tril(np.ones((4, 4), np.int64)),
    np.array([[1, 0, 1, 1]]),
    np.ones((1, 1), np.int64),
    np.eye(4, dtype=np.int64),
]


@pytest.mark.parametrize("mask", MASKS, ids=["causal", "keys", "all", "one each"])
@pytest.mark.parametrize("scale", [Fraction(1, 7), Fraction(1, 500)])
def test_masked_rows(mask, scale):
    """What a mask hides is in neither the largest nor the sum; a short table doesn't end in 0."""
    x = np.random.default_rng(3).integers(-8, 8, (3, 4, 4))
    plain = softmax_node(scale, 4, -8, 7, axes=(2,))
    table = plain.arrays["table"]
    n = node("softmax", plain.attributes, {"table": table, "mask": mask[None]})
    whole = np.broadcast_to(mask, x.shape)
    wanted = np.zeros_like(x)
    for at in np.ndindex(3, 4):
        seen = [i for i in range(4) if whole[at][i]]
        wanted[at][seen] = softmax_twin([int(x[at][i]) for i in seen], table)
    got = OPS["softmax"].evaluate(n, x)
    np.testing.assert_array_equal(got, wanted)
    hidden = np.where(whole, x, 10**9)  # its own integer doesn't count
    np.testing.assert_array_equal(OPS["softmax"].evaluate(n, hidden), wanted)
    least, most = OPS["softmax"].value_range(n, tensor(x.shape, -8, 7))
    assert least <= got.min()
    assert got.max() <= most
    if mask.shape == (4, 4):
        assert (least, most) == (0, 1 << 24)


def test_no_kernel_of_codes_has_a_mask():
    plain = softmax_node(Fraction(1, 7), 4, -8, 7)
    masked = node("softmax", plain.attributes, {**plain.arrays, "mask": np.eye(4, dtype=np.int64)})
    read = dataclasses.replace(tensor((4, 4), -8, 7), scale=rationals(Fraction(1, 7)))
    _check_softmax(plain, read)
    with pytest.raises(IntsimError, match="mask"):
        _check_softmax(masked, read)


def rms_twin(row, zero, epsilon, fraction):
    count, centred = len(row), [v - zero for v in row]
    spread = Fraction(count * sum(v * v for v in centred)) + count * count * epsilon
    out = []
    for v in centred:
        square = Fraction(4**fraction * (count * v) ** 2) / spread if v else Fraction(0)
        y = math.isqrt(math.floor(square))
        y += (2 * y + 1) ** 2 <= 4 * square
        out.append(y if v >= 0 else -y)
    return out


ENDS = [
    (-8, 7, 0),
    (0, 255, 128),
    (3, 200, 0),
    (-50, -3, 0),
    (0, 1 << 30, 5),
    (-(1 << 40), 1 << 40, 77),
    (-128, 127, -128),
]


@pytest.mark.parametrize(("low", "high", "zero"), ENDS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
def test_root_mean_square(low, high, zero, length):
    """Definition and range, which is attained: one element at an end, the others nearest to zero or far from it."""
    fraction, epsilon = layer_norm.fraction_bits(length), Fraction(1, 30)
    n = node("rms_norm", {"axes": [1], "epsilon": "1/30", "fraction": fraction, "zero_point": zero})
    first, inner = np.arange(length) == 0, min(max(zero, low), high)
    rng = np.random.default_rng(length)
    corners = [np.where(first, a, b) for a in (low, high, inner) for b in (low, high, inner)]
    x = np.vstack([rng.integers(low, high + 1, (5, length)), *corners])
    got = OPS["rms_norm"].evaluate(n, x)
    np.testing.assert_array_equal(got, [rms_twin(r, zero, epsilon, fraction) for r in x.tolist()])
    assert OPS["rms_norm"].value_range(n, tensor(x.shape, low, high)) == (got.min(), got.max())
    assert OPS["rms_norm"].error(n, x.shape) == Fraction(1, 2)


@given(st.integers(1, 30), st.integers(0, 1 << 30), st.sampled_from(["layer_norm", "rms_norm"]))
def test_the_error_of_an_input_that_is_off(length, seed, op):
    """Both sides of the bound: numbers as far from the integers as `off`, each way, against the integers' results."""
    rng = np.random.default_rng(seed)
    off, epsilon = Fraction(1, 2), Fraction(int(rng.integers(1, 10**6)))
    x = rng.integers(-(10 ** int(rng.integers(1, 5))), 10 ** int(rng.integers(1, 5)), (1, length))
    at = {"axes": [1], "epsilon": f"{epsilon.numerator}/1", "fraction": 10, "zero_point": 0, "off": "1/2"}
    n = node(op, at)
    moved = [Fraction(int(v)) + off * int(s) for v, s in zip(x[0], rng.choice([-1, 1], length), strict=True)]
    mean = sum(moved) / length if op == "layer_norm" else 0
    root = number(sum((v - mean) ** 2 for v in moved) / length + epsilon).sqrt()
    bound = number(OPS[op].error(n, x.shape))
    for v, y in zip(moved, OPS[op].evaluate(n, x)[0].tolist(), strict=True):
        assert abs(number(v - mean) / root * 2**10 - y) <= bound * (1 + decimal.Decimal(10) ** -20)


@pytest.mark.parametrize("bits", [40, 50])
def test_wide_inputs(bits):
    """Where D has more bits than an integer root leaves room for float64 decides, but near ties."""
    x = np.random.default_rng(bits).integers(0, 1 << bits, (20, 50))
    x[0] = np.arange(50) << (bits - 6)
    check_norm(x, Fraction(1, 3), 0, (1 << bits) - 1)
    ties = np.repeat(np.array([[-3, 1, 1, 1]]) << bits, 2, axis=0)
    n = node("layer_norm", {"axes": [1], "epsilon": f"{1 << (2 * bits)}/1", "fraction": 0})
    np.testing.assert_array_equal(OPS["layer_norm"].evaluate(n, ties), [[-2, 1, 1, 1]] * 2)
