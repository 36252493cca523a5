"""The decoder's arithmetic, run on wires that know only what adders, shifters and gates do."""

from collections import Counter
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

from intsim.hilbert import Decoder

from .points import pairs


class Wire:
    """A 64-bit value with + - << >> & | ^ ~ and unary minus; nothing else, no table index, no branch, no float."""

    __hash__ = None
    counts: ClassVar = Counter()

    def __init__(self, value):
        assert type(value) is int
        assert -(2**63) <= value < 2**63
        self.value = value

    @classmethod
    def constant(cls, other):
        if isinstance(other, Wire):
            return other.value
        if type(other) is not int:
            raise TypeError(f"{other!r} is no integer constant")
        return other

    def __add__(self, other):
        Wire.counts["add"] += 1
        return type(self)(self.value + self.constant(other))

    def __sub__(self, other):
        Wire.counts["add"] += 1
        return type(self)(self.value - self.constant(other))

    def __rsub__(self, other):
        Wire.counts["add"] += 1
        return type(self)(self.constant(other) - self.value)

    def __neg__(self):
        Wire.counts["mask"] += 1  # copies of one bit, or the test of a word for zero: no adder
        return type(self)(-self.value)

    def __and__(self, other):
        return type(self)(self.value & self.constant(other))

    def __or__(self, other):
        return type(self)(self.value | self.constant(other))

    def __xor__(self, other):
        return type(self)(self.value ^ self.constant(other))

    def __invert__(self):
        return type(self)(~self.value)

    def __lshift__(self, other):
        assert type(other) is int  # wiring only: a shift by a constant
        return type(self)(self.value << other)

    def __rshift__(self, other):
        assert type(other) is int
        return type(self)(self.value >> other)

    __radd__, __rand__, __ror__, __rxor__ = __add__, __and__, __or__, __xor__

    def refuse(self, *_):
        raise TypeError("wires have no such operation")

    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = refuse
    __divmod__ = __rdivmod__ = __pow__ = __rpow__ = __matmul__ = __float__ = __int__ = __index__ = __bool__ = refuse
    __round__ = __trunc__ = __complex__ = __array__ = refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = refuse


class MultiplierWire(Wire):
    """A wire that can be multiplied as well."""

    def __mul__(self, other):
        Wire.counts["multiply"] += 1
        return type(self)(self.value * self.constant(other))

    __rmul__ = __mul__


def check(decoder, wire, codes):
    """The datapath on wires equals the decoder on arrays, at the same cost for every pair."""
    expected = decoder(pairs(codes[:, None], codes)).tolist()
    costs = set()
    for i, x in enumerate(codes.tolist()):
        for j, y in enumerate(codes.tolist()):
            Wire.counts = Counter()
            assert decoder.datapath(wire(x), wire(y)).value == expected[i][j]
            costs.add(tuple(sorted(Wire.counts.items())))
    assert len(costs) == 1
    return dict(costs.pop())


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_all_4_bit_codes(order, signed):
    codes = np.arange(16) - 8 * signed
    cost = check(Decoder.lattice_aligned(order, None, 4, 6, signed), Wire, codes)
    assert "multiply" not in cost
    check(Decoder.inset(order, 0.1, 4, 10, signed), MultiplierWire, codes)


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("code_bits", [8, 16])
def test_wide_codes(order, code_bits):
    top = 2**code_bits - 1
    random = np.random.default_rng(order)
    codes = np.unique(np.concatenate([[0, 1, top // 2, top // 2 + 1, top - 1, top], random.integers(0, top, 6)]))
    for output_bits in (12, 24):
        cost = check(Decoder.lattice_aligned(order, None, code_bits, output_bits), Wire, codes)
        assert "multiply" not in cost
        # Products stay within 64 bits too: the general decoder runs on the same width of wire.
        check(Decoder.inset(order, Fraction(1, 10), code_bits, output_bits), MultiplierWire, codes)


def test_cost_in_the_documentation():
    codes = np.array([0, 100, 255])
    assert check(Decoder.lattice_aligned(3, None, 8, 11), Wire, codes) == {"add": 57, "mask": 45}
    assert check(Decoder.inset(3, 0.1, 8, 16), MultiplierWire, codes) == {
        "add": 63,
        "mask": 35,
        "multiply": 11,
    }


def test_wires_refuse_what_hardware_should_not_do():
    wire = Wire(3)
    for bad in (
        lambda: wire * 2,
        lambda: wire * wire,
        lambda: 2 * wire,
        lambda: wire // 2,
        lambda: wire / 2,
        lambda: wire % 2,
        lambda: wire**2,
        lambda: float(wire),
        lambda: [1, 2, 3, 4][wire],
        lambda: bool(wire),
        lambda: wire == 3,
        lambda: wire < 4,
        lambda: wire + 1.0,
    ):
        with pytest.raises(TypeError):
            bad()
    with pytest.raises(TypeError):
        Decoder.inset(2).datapath(wire, wire)
