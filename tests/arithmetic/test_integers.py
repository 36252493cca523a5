import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qonnx.custom_op.general.quant import max_int, min_int

from intsim.arithmetic.integers import IntegerType, bits_for, saturate, wrap
from intsim.errors import IntsimError
from tests import twins

SMALL = np.arange(-(1 << 17), 1 << 17, dtype=np.int64)
EDGES = [s * (1 << k) + d for k in range(64) for s in (-1, 1) for d in (-1, 0, 1)]
INT64_EDGES = np.array([x for x in EDGES if -(1 << 63) <= x < 1 << 63], np.int64)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_ranges_are_those_of_qonnx(signed, narrow):
    for bits in range(1, 65):
        kind = IntegerType(bits, signed, narrow)
        assert (kind.min, kind.max) == (min_int(signed, narrow, bits), max_int(signed, narrow, bits))


def test_names_and_contains():
    assert [IntegerType(8, True).name, IntegerType(4, False).name] == ["INT8", "UINT4"]
    assert IntegerType(8, True, narrow=True).min == -127
    assert IntegerType(8, False, narrow=True).max == 254
    assert str(IntegerType(8, True, narrow=True)) == "INT8 narrow"
    assert IntegerType(8, True).contains(-128, 127)
    assert not IntegerType(8, True).contains(-128, 128)
    assert not IntegerType(8, True).contains(-129, 0)
    assert IntegerType(8, True) == IntegerType(8, True, False)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 17))
def test_wrap_and_saturate_exhaustively(bits, signed):
    for function, twin in ((wrap, twins.wrap), (saturate, twins.saturate)):
        expected = np.array([twin(x, bits, signed) for x in range(-(1 << 17), 1 << 17)])
        assert np.array_equal(function(SMALL, bits, signed), expected)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 65))
def test_every_width_at_the_edges(bits, signed):
    for function, twin in ((wrap, twins.wrap), (saturate, twins.saturate)):
        assert [function(x, bits, signed) for x in EDGES] == [twin(x, bits, signed) for x in EDGES]
        boxed = function(np.array(EDGES, dtype=object), bits, signed)
        assert boxed.tolist() == [twin(x, bits, signed) for x in EDGES]
        if signed or bits < 64:
            result = function(INT64_EDGES, bits, signed)
            assert result.dtype == np.int64
            assert result.tolist() == [twin(int(x), bits, signed) for x in INT64_EDGES]


@given(st.integers(-(1 << 80), 1 << 80), st.integers(1, 64), st.booleans())
def test_wrap_is_congruent_and_in_range(x, bits, signed):
    y = wrap(x, bits, signed)
    assert (x - y) % (1 << bits) == 0
    assert IntegerType(bits, signed).contains(y, y)
    assert wrap(y, bits, signed) == y
    assert saturate(y, bits, signed) == y


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_narrow_arrays_are_widened_first(dtype):
    x = np.array([np.iinfo(dtype).min, 0, np.iinfo(dtype).max], dtype)
    assert wrap(x, 7).tolist() == [twins.wrap(int(v), 7) for v in x]
    assert saturate(x, 40).tolist() == [int(v) for v in x]


def test_scalars_and_empty_arrays():
    assert wrap(np.int64(200), 8) == -56
    assert wrap(np.zeros((0, 3), np.int8), 8).shape == (0, 3)
    assert saturate(np.array(300), 8) == 127


@given(st.integers(-(1 << 70), 1 << 70), st.integers(-(1 << 70), 1 << 70))
def test_bits_for_is_the_smallest(a, b):
    low, high = min(a, b), max(a, b)
    bits = bits_for(low, high)
    assert twins.saturate(low, bits) == low
    assert twins.saturate(high, bits) == high
    assert bits == 1 or (twins.saturate(low, bits - 1), twins.saturate(high, bits - 1)) != (low, high)


def test_bits_for_known_values():
    assert [bits_for(0, 0), bits_for(-1, 0), bits_for(0, 1), bits_for(-128, 127), bits_for(0, 255)] == [1, 1, 2, 8, 9]


@pytest.mark.parametrize("bits", [0, 65, -1, 2.0, True, "8", None])
def test_bad_widths(bits):
    for function in (lambda: IntegerType(bits, True), lambda: wrap(1, bits), lambda: saturate(1, bits)):
        with pytest.raises(IntsimError, match=r"allowed: an integer 1\.\.64") as error:
            function()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("x", [1.5, np.array([1.0]), np.array([True]), "3", np.array([1, 2.5], dtype=object), True])
def test_not_integers(x):
    with pytest.raises(IntsimError):
        wrap(x, 8)


def test_uint64():
    assert wrap(np.array([5], np.uint64), 3).tolist() == [-3]
    with pytest.raises(IntsimError, match="does not fit int64"):
        wrap(np.array([1 << 63], np.uint64), 8)
    with pytest.raises(IntsimError, match="64 unsigned bits"):
        wrap(np.array([-1]), 64, signed=False)


def test_empty_range():
    with pytest.raises(IntsimError, match=r"empty range 1\.\.0"):
        bits_for(1, 0)
