"""Calls in a row: kernels get their arguments as from Python, whatever their types, and exceptions come through."""

from dataclasses import dataclass

import numpy as np
import pytest

from intsim.jit.chain import Call, Chain
from intsim.jit.compile import compiled
from intsim.jit.constants import Constants


@dataclass(frozen=True)
class Factor(Constants):
    """A constant of a kernel."""

    value: int


@compiled
def numbers(out, given):  # type: ignore[no-untyped-def]
    """out = integers and floats of several widths, in a tuple in a tuple."""
    (a, (b, c)), d, e, f, g = given
    out[0], out[1], out[2], out[3], out[4], out[5], out[6] = a, b, c, d, e, f, g


@compiled
def planes(x, y, out, factor, first, last):  # type: ignore[no-untyped-def]
    """out[i] = factor * x[i, j, k] + y[j, k], of arrays of any strides."""
    for i in range(first, last):
        for j in range(x.shape[1]):
            for k in range(x.shape[2]):
                out[i, j, k] = factor.value * x[i, j, k] + y[j, k]


@compiled
def divided(x, y):  # type: ignore[no-untyped-def]
    """x = 100 // y[0], through memory of its own."""
    made = np.empty(x.size, np.int64)
    made[:] = 100 // y[0]
    x[:] = made


@compiled
def returned(x):  # type: ignore[no-untyped-def]
    """A kernel that returns something."""
    return x[0]


@pytest.mark.parametrize("a", [-(1 << 63), -1, (1 << 63) - 1, np.uint64((1 << 64) - 1), np.uint64(1 << 63)])
def test_numbers_of_every_kind(a):
    given = ((a, (np.int32(-7), np.uint8(250))), np.uint32(0xF0000001), 0.1, np.float32(0.1), True)
    wanted, seen = np.zeros(7, np.float64), np.zeros(7, np.float64)
    numbers(wanted, given)
    Chain([Call(numbers, (seen, given))]).run()
    np.testing.assert_array_equal(seen, wanted)
    assert list(wanted) == [float(a), -7.0, 250.0, float(0xF0000001), 0.1, float(np.float32(0.1)), 1.0]


@pytest.mark.parametrize("x", [np.arange(24).reshape(2, 3, 4), np.arange(96).reshape(4, 3, 8)[::2, ::-1, 1::2]])
def test_arrays_and_shares(x):
    y = np.arange(12, dtype=np.int16).reshape(4, 3).T
    outs = np.zeros((3, *x.shape), np.int64)
    calls = [Call(planes, (x, y, outs[i], Factor(i), 0, i)) for i in range(3)]
    chain = Chain(calls)
    del calls
    for turn in range(2):  # arrays are read anew each time
        x += turn
        chain.run()
        for i, out in enumerate(outs.tolist()):
            parts = [
                [[i * int(v) + int(w) for v, w in zip(a, b, strict=True)] for a, b in zip(p, y, strict=True)] for p in x
            ]
            assert out[:i] == parts[:i]
            assert not np.any(out[i:])


def test_exceptions_come_through():
    """The calls before it are done, those behind it aren't; and the chain works again afterwards."""
    numbers_ = np.arange(3)
    outs = np.zeros((3, 2), np.int64)
    chain = Chain([Call(divided, (out, numbers_[i : i + 1])) for i, out in enumerate(outs[::-1])][::-1])
    with pytest.raises(ZeroDivisionError):
        chain.run()
    assert outs.tolist() == [[50, 50], [100, 100], [0, 0]]
    numbers_ += 5
    chain.run()
    assert outs.tolist() == [[100 // 7] * 2, [100 // 6] * 2, [100 // 5] * 2]


def test_what_a_chain_does_not_take():
    with pytest.raises(TypeError, match="returns nothing"):
        Chain([Call(returned, (np.zeros(1),))])
    with pytest.raises((TypeError, KeyError)):
        Chain([Call(numbers, (np.zeros(7), ((1, (2, 3j)), 4, 5, 6, 7)))])
    with pytest.raises(AttributeError):
        Chain([Call(lambda: None, ())])
    Chain([]).run()
