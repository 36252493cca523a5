"""Requantizer objects: their codes against dumb twins, where they say they are monotone, and every word they say."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.keys import shown
from intsim.arithmetic.pieces import Formula, apply_pieces, piecewise_range, range_of_all, spans
from intsim.arithmetic.requantizers import built_in, named, names, of_width, read_requantizer
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint, quantize_multiplier
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.float64 import Float64
from intsim.arithmetic.requantizers.requantizer import (
    Channel,
    Requantizer,
    Segment,
    StepLimitError,
    bias_in_accumulator,
    biased,
    listed,
    schemes,
)
from intsim.arithmetic.requantizers.ruy import Ruy
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.requantizers.thresholds import Thresholds
from intsim.arithmetic.requantizers.tosa import Tosa, tosa_multiplier
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from tests import twins

F = Fraction
VARIANTS = [v for c in built_in().values() if c.reads == "sum" for v in c.variants()]
SOME = [*(v for v in VARIANTS if v.multiplier_bits in (None, 32, 16, 9)), FixedPoint(4, Rounding.FLOOR)]
INT32, NARROW = (Stage(None, 32, "wrap"),), (Stage(None, 9, "wrap"),)
REGISTERS = [(), INT32, NARROW, (Stage(2, 4, "wrap"), Stage(None, 9, "saturate"))]
POWERS = st.builds(lambda n, s: s * F(2) ** n, st.integers(-12, 3), st.sampled_from([1, -1]))
SCALES = st.one_of(POWERS, st.fractions(-9, 9, max_denominator=1 << 12), st.just(F(0)))
OFFSETS = st.one_of(st.just(F(0)), st.fractions(-90, 90, max_denominator=64))


def held(acc, scale, offset, stages):
    """The accumulator with its bias, in the last register."""
    if not offset:
        return acc
    total = acc + twins.round_fraction(offset / scale, "half_even")
    if not stages:
        return total
    return (twins.wrap if stages[-1].overflow == "wrap" else twins.saturate)(total, stages[-1].bits)


def twin(chosen, acc, scale, offset, mode, stages):
    """One accumulator of one piece, before zero point and clip; None where the scheme has no result."""
    if isinstance(chosen, Exact):
        return twins.round_fraction(scale * acc + offset, mode)
    if scale == 0:
        return twins.round_fraction(offset, chosen.rounding or mode)
    value = held(acc, scale, offset, stages)
    if isinstance(chosen, Shift):
        return twins.round_fraction(scale * value, chosen.rounding)
    if isinstance(chosen, Float64):
        return twins.round_fraction(F(float(value) * float(scale)), "half_away")
    if isinstance(chosen, Float32):
        factor = twins.float32(scale.numerator / scale.denominator)
        return round(min(max(twins.float32(twins.float32(float(value)) * factor), -(2.0**24)), 2.0**24))
    if isinstance(chosen, Tosa):
        m, n = tosa_multiplier(scale, chosen.multiplier_bits)
        if chosen.multiplier_bits == 32 and not -(2 ** (n - 1)) <= value < 2 ** (n - 1):
            return None
        nudge = 2 ** (n - 1) + (0 if n < 32 or not chosen.double_rounding else 2**30 if value >= 0 else -(2**30))
        return (value * m + nudge) // 2**n
    m, n = quantize_multiplier(scale, chosen.multiplier_bits or 32)
    if isinstance(chosen, Ruy):
        high = twins.round_divide(twins.wrap(value << max(31 - n, 0), 32) * m, 2**31, "half_up")
        return twins.round_divide(high, 2 ** max(n - 31, 0), "half_up")
    if not chosen.double_rounding:
        return twins.round_fraction(F(value * m) / F(2) ** n, chosen.rounding)
    left, right = max(chosen.multiplier_bits - 1 - n, 0), max(n - chosen.multiplier_bits + 1, 0)
    high = twins.round_divide(twins.wrap(value * 2**left, 32) * m, 2 ** (chosen.multiplier_bits - 1), "half_up")
    return twins.divide_by_pot(high, right)


def taken(chosen, scale):
    """The scale, or one near it that the scheme takes."""
    if chosen.powers_of_two and scale:
        power = F(2) ** (scale.numerator.bit_length() - scale.denominator.bit_length())
        return power if scale > 0 else -power
    return abs(scale) if isinstance(chosen, Tosa) else scale


@given(
    st.sampled_from(SOME),
    st.lists(st.tuples(SCALES, OFFSETS), min_size=1, max_size=3),
    st.sampled_from(list(Rounding)),
    st.sampled_from([(0, None, None), (-3, -128, 127), (5, 0, 15), (0, None, 9), (2, -4, None)]),
    st.sampled_from(REGISTERS),
)
def test_codes_are_the_dumb_twin(chosen, lines, mode, rest, stages):
    pieces = [(at, taken(chosen, s), b) for at, (s, b) in zip((None, -7, 40), lines, strict=False)]
    formula = Formula(pieces, mode, *rest)
    zero, low, high = rest
    acc = list(range(-60, 61))
    wanted, free = [], []
    for a in acc:
        _, scale, offset = [p for p in pieces if p[0] is None or a >= p[0]][-1]
        made = twin(chosen, a, scale, offset, mode, stages)
        free.append(None if made is None else made + zero)
        made = None if made is None else max(made + zero, made + zero if low is None else low)
        wanted.append(made if made is None or high is None else min(made, high))
    given_to = np.array([a for a, w in zip(acc, wanted, strict=True) if w is not None], np.int64)
    codes = chosen.codes(formula, given_to, stages)
    assert codes.dtype == np.int64
    assert codes.tolist() == [w for w in wanted if w is not None]
    assert chosen.unclipped(formula, given_to, stages).tolist() == [w for w in free if w is not None]
    if given_to.size:
        assert chosen.prepared(formula, stages, -60, 60)(given_to.reshape(1, -1)).tolist() == [codes.tolist()]
    for a in set(acc) - set(given_to.tolist()):
        with pytest.raises(IntsimError):
            chosen.codes(formula, np.array([a]), stages)


@pytest.mark.parametrize("chosen", SOME[:: len(SOME) // 12], ids=str)
def test_no_accumulators(chosen):
    formula = Formula([(None, F(1, 4), F(1))], Rounding.FLOOR, 1, 0, 3)
    assert chosen.codes(formula, np.zeros((0, 2), np.int64), REGISTERS[1]).shape == (0, 2)


# Where they are monotone


@given(st.sampled_from(SOME), SCALES, OFFSETS, st.sampled_from(REGISTERS), st.sampled_from([0, 1 << 31, -(1 << 10)]))
def test_segments_are_monotone_and_say_what_is_refused(chosen, scale, offset, stages, centre):
    scale = taken(chosen, scale)
    first, last = centre - 300, centre + 300
    found = list(chosen.segments(first, last, scale, offset, stages))
    assert [s.low for s in found] == [first, *(s.high + 1 for s in found[:-1])]
    assert found[-1].high == last
    for segment in found:
        acc = np.arange(segment.low, segment.high + 1)
        if not segment.valid:
            for a in acc[[0, -1]]:
                with pytest.raises(IntsimError):
                    chosen.apply(np.array([a]), scale, offset, Rounding.FLOOR, stages)
            continue
        steps = np.diff(chosen.apply(acc, scale, offset, Rounding.FLOOR, stages))
        assert (steps >= 0).all() or (steps <= 0).all()
        assert segment.lines[0] == (scale, offset)


def cuts(chosen, first, last, scale, offset=0, stages=()):
    return [(s.low, s.high, s.valid) for s in chosen.segments(first, last, F(scale), F(offset), stages)]


def test_segments_by_hand():
    """A register of 8 bits with a bias of 5 wraps before 123 and 379."""
    wrap, saturate, up = (Stage(None, 8, "wrap"),), (Stage(None, 8, "saturate"),), FixedPoint(32, Rounding.HALF_UP)
    assert cuts(up, 0, 600, F(1, 8), F(5, 8), wrap) == [(0, 122, True), (123, 378, True), (379, 600, True)]
    assert cuts(up, 122, 123, F(1, 8), F(5, 8), wrap) == [(122, 122, True), (123, 123, True)]
    for offset, stages in ((0, wrap), (F(5, 8), ()), (F(5, 8), saturate)):
        assert cuts(up, 0, 600, F(1, 8), offset, stages) == [(0, 600, True)]
    assert cuts(up, 0, 600, 0, F(5, 8), wrap) == cuts(Exact(), 0, 600, 1, 5, wrap) == [(0, 600, True)]
    twice = FixedPoint(32, None, True)
    # a scale of 8: left by 4, so that values wrap before 2^27 modulo 2^28
    assert cuts(twice, 0, 1 << 28, 8) == [(0, (1 << 27) - 1, True), (1 << 27, 1 << 28, True)]
    assert cuts(twice, -(1 << 31) - 5, -(1 << 31) + 5, F(1, 3)) == [
        (-(1 << 31) - 5, -(1 << 31) - 1, False),
        (-(1 << 31), -(1 << 31) + 5, True),
    ]
    assert cuts(twice, (1 << 31) - 2, 1 << 31, F(1, 3)) == [
        ((1 << 31) - 2, (1 << 31) - 1, True),
        (1 << 31, 1 << 31, False),
    ]
    assert cuts(twice, -(1 << 33), -(1 << 32), F(1, 3)) == [(-(1 << 33), -(1 << 32), False)]
    assert cuts(Tosa(), -600, 600, 1 << 20) == [(-600, -513, False), (-512, 511, True), (512, 600, False)]
    # a bias that saturates never leaves what is taken
    assert cuts(Tosa(), -600, 600, 1 << 20, 1 << 20, (Stage(None, 9, "saturate"),)) == [(-600, 600, True)]


def test_lines_follow_what_is_computed():
    (one,) = FixedPoint(8, Rounding.FLOOR).segments(0, 9, F(1, 3), F(7, 3), ())
    assert one == Segment(0, 9, True, ((F(1, 3), F(7, 3)), (F(85, 256), F(85 * 7, 256))))
    wrapped = list(Shift(None, Rounding.FLOOR).segments(0, 300, F(1, 2), F(1), (Stage(None, 8, "wrap"),)))
    assert [s.lines[1] for s in wrapped] == [(F(1, 2), F(1)), (F(1, 2), F(1) - 128)]
    (none,) = Float32().segments(0, 9, F(0), F(2), ())
    assert none.lines == ((F(0), F(2)),)


def test_most_breaks():
    narrow, shifts = (Stage(None, 2, "wrap"),), Shift(None, Rounding.FLOOR)
    assert len(cuts(shifts, 0, 4 * (1 << 16) - 4, 1, 1, narrow)) == 1 << 16
    words = "a register or a left shift wraps at more than 65536 accumulators"
    for far in (4 * (1 << 16) - 3, 1 << 40):
        with pytest.raises(StepLimitError) as refused:
            cuts(shifts, 0, far, 1, 1, narrow)
        assert str(refused.value) == words


# Channels


def test_channels():
    assert Exact().channel(F(3, 7)) == Channel(F(3, 7), None, 0, {})
    assert Shift(None, Rounding.CEIL).channel(F(-1, 8)) == Channel(F(-1, 8), told={"shift": 3})
    assert Float32().channel(F(1, 3)) == Channel(F(float(np.float32(1 / 3))), told={"factor": np.float32(1 / 3)})
    assert FixedPoint(8, Rounding.FLOOR).channel(F(1, 3)) == Channel(F(85, 256), told={"multiplier": 85, "shift": 8})
    int32, told = (-(1 << 31), (1 << 31) - 1), {"multiplier": 1 << 30, "shift": 29}
    assert FixedPoint(32, None, True).channel(F(2)) == Channel(F(2), int32, 1 << 30, told)
    assert FixedPoint(32, None, True).channel(F(1, 4)).period == 0
    assert FixedPoint(32, None, True).channel(F(1, 1 << 40)) == Channel(F(0), int32, 0, {"multiplier": 0, "shift": 0})
    wide = Channel(F(1, 4), (-(1 << 31), (1 << 31) - 1), told={"multiplier": 1 << 30, "shift": 32})
    assert Tosa().channel(F(1, 4)) == wide
    assert Tosa(16).channel(F(1, 4)).told == {"multiplier": 1 << 14, "shift": 16}
    for chosen in (Shift(None, Rounding.FLOOR), Tosa()):
        with pytest.raises(IntsimError):
            chosen.channel(F(-1, 3))


# Biases


@given(st.integers(-(1 << 63), (1 << 63) - 1), POWERS, st.integers(-(1 << 70), 1 << 70), st.sampled_from(REGISTERS))
def test_biases_of_any_size(acc, scale, bias, stages):
    total = biased(np.array([acc]), scale, bias * scale, stages)
    assert total.tolist() == [held(acc, scale, bias * scale, stages)]
    assert not stages or total.dtype == np.int64


def test_wide_sums_are_python_integers():
    for acc, bias in ((1 << 61, 1), (-(1 << 61), 1), (0, 1 << 61), (0, -(1 << 61))):
        assert biased(np.array([acc]), F(1), F(bias), ()).dtype == object
    for acc, bias in (((1 << 61) - 1, 1), (1 - (1 << 61), 1), (0, (1 << 61) - 1), (1 << 62, 0)):
        assert biased(np.array([acc]), F(1), F(bias), ()).dtype == np.int64
    assert biased(np.zeros(0, np.int64), F(1), F(1), ()).dtype == np.int64
    assert [bias_in_accumulator(F(1, 2), F(n, 4)) for n in (-3, -1, 1, 3, 5)] == [-2, 0, 0, 2, 2]


def test_beyond_int64():
    wide, free = np.array([-(1 << 61), 1, 1 << 61]), Formula([(None, F(1 << 20), F(0))], Rounding.FLOOR)
    for chosen in (FixedPoint(32, Rounding.FLOOR), Shift(None, Rounding.FLOOR)):
        assert chosen.codes(free, wide).tolist() == [-(1 << 62), 1 << 20, 1 << 62]
    dead = Formula([(None, F(1, 1 << 120), F(1 << 40))], Rounding.FLOOR)
    assert Float32().codes(dead, wide).tolist() == [1 << 24] * 3
    assert Float32().codes(Formula([(None, F(-1), F(0))], Rounding.FLOOR), wide).tolist() == [1 << 24, -1, -(1 << 24)]


# Sums of several inputs


ADDERS = [FixedPoint(32, Rounding.HALF_UP), Float32(), Tosa(), FixedPoint(16, None, True)]


@pytest.mark.parametrize("chosen", ADDERS, ids=str)
@pytest.mark.parametrize(("widest", "left"), [(255, 20), (1 << 10, 17), (1 << 20, 7), ((1 << 28) - 1, 0)])
def test_sums(chosen, widest, left):
    x, y, z = np.array([1, -3, 200]), np.array([7, 0, -9]), np.zeros(3, np.int64)
    total, unit = chosen.added([x, y, z], [3, -4, 2], widest)
    assert unit == F(8, 1 << left)
    # 3/8 and 1/2 have short multipliers: nothing is rounded but what falls below the left shift
    shares = [twins.round_fraction(F(3, 8) * int(a) * 2**left, "half_even") for a in x]
    if left:
        assert total.tolist() == [s - int(b) * 2 ** (left - 1) for s, b in zip(shares, y, strict=True)]
    two, _ = chosen.added([x, y], [1, 1], 1 << 11)
    assert two.tolist() == ((x + y) << 16).tolist()


def test_a_sum_isnt_clipped_and_is_refused_where_it_is_wide():
    total, unit = Float32().added([np.array([1 << 9]), np.array([-(1 << 9)])], [1, -1], 1 << 9)
    assert (total.tolist(), unit) == ([1 << 28], F(1, 1 << 18))
    with pytest.raises(IntsimError) as refused:
        Tosa().added([np.array([1])] * 2, [1, 1], 1 << 29)
    words = "adds tensors of 31 bits; its rescaling takes 32-bit values; quantize the inputs"
    assert str(refused.value) == words


# Keys


LISTED = (
    '"exact", "fbgemm", "fixed-point", "float32", "float64", "onednn", "qnnpack", "ruy", "shift", "thresholds", '
    '"tosa"; in rules also kernels of other operators (docs/requantizers.md)'
)
TWICE = (
    'is for schemes "fixed-point", "litert-add", "litert-mean", "litert-mul", "litert-rescale", "ruy-add", "ruy-mul" '
    'and "tosa" only, not'
)
ONLY = 'is for schemes "fixed-point" and "tosa" only, not'
REFUSED = {
    lambda: FixedPoint(3, Rounding.FLOOR): "multiplier_bits is 3; allowed: 4..32",
    lambda: FixedPoint(33, Rounding.FLOOR): "multiplier_bits is 33; allowed: 4..32",
    lambda: FixedPoint(True, Rounding.FLOOR): "multiplier_bits is True; allowed: 4..32",
    lambda: FixedPoint(8, "up"): "rounding is 'up'; allowed: " + ", ".join(f'"{m}"' for m in Rounding),
    lambda: FixedPoint(8, None, 1): "double_rounding is 1; allowed: true, false",
    lambda: FixedPoint(None, Rounding.FLOOR): 'multiplier_bits is missing for scheme "fixed-point"; allowed: 4..32',
    lambda: FixedPoint(8): 'rounding is missing for scheme "fixed-point"; allowed: '
    + ", ".join(f'"{m}"' for m in Rounding),
    lambda: FixedPoint(8, Rounding.FLOOR, True): "rounding is given, but double_rounding = true fixes it; remove it",
    lambda: Shift(): 'rounding is missing for scheme "shift"; allowed: ' + ", ".join(f'"{m}"' for m in Rounding),
    lambda: Shift(8, Rounding.FLOOR): f'multiplier_bits {ONLY} "shift"; remove it',
    lambda: Exact(None, None, True): f'double_rounding {TWICE} "exact"; remove it',
    lambda: Float32(None, Rounding.FLOOR): 'rounding is given, but scheme "float32" fixes it; remove it',
    lambda: Tosa(24): 'multiplier_bits is 24; allowed for scheme "tosa": 16, 32',
    lambda: Tosa(None): 'multiplier_bits is None; allowed for scheme "tosa": 16, 32',
    lambda: Tosa(16, None, True): 'double_rounding is true; scheme "tosa" allows it with multiplier_bits = 32 only',
    lambda: read_requantizer(3): "requantize is 3; allowed: a table",
    lambda: read_requantizer({}): f"requantize.scheme is missing; allowed: {LISTED}",
    lambda: read_requantizer({"scheme": ["exact"]}): f"requantize.scheme is ['exact']; allowed: {LISTED}",
    lambda: read_requantizer({"scheme": "shift", "bits": 3}): "unknown key requantize.bits; allowed: scheme, "
    "multiplier_bits, rounding, double_rounding",
    lambda: read_requantizer({"scheme": "tosa", "multiplier_bits": 2}): "requantize.multiplier_bits is 2; "
    "allowed: 4..32",
    lambda: read_requantizer({"scheme": "exact", "x" * 99: 3}): f"unknown key requantize.{'x' * 80}; allowed: scheme, "
    "multiplier_bits, rounding, double_rounding",
}  # fmt: skip


@pytest.mark.parametrize("call", REFUSED, ids=REFUSED.values())
def test_refusals(call):
    with pytest.raises(IntsimError) as refused:
        call()
    assert str(refused.value) == REFUSED[call]


@pytest.mark.parametrize("scheme", built_in())
def test_keys_are_read_as_they_are_written(scheme):
    variants = named(scheme).variants()
    counts = {"fixed-point": 29 * 9, "shift": 8, "tosa": 3, "float32": 2, "ruy": 2, "onednn": 4}
    twice = ("litert-add", "litert-mean", "litert-mul", "litert-rescale", "ruy-add", "ruy-mul")
    assert len(set(variants)) == len(variants) == counts.get(scheme, 2 if scheme in twice else 1)
    for chosen in variants:
        keys = chosen.keys()
        assert list(keys)[:4] == ["scheme", "multiplier_bits", "rounding", "double_rounding"]
        assert keys["scheme"] == scheme
        assert keys["rounding"] is None or type(keys["rounding"]) is str
        assert read_requantizer(keys) == chosen == read_requantizer(chosen)
        assert type(chosen.rounding) in (type(None), Rounding)
        assert len(chosen.words()) <= 108
        assert chosen.words().startswith(f"{scheme}: ")
    assert names()[: len(built_in())] == tuple(built_in())


def test_words():
    told = {
        Exact(): "round(acc * scale + offset) in rational arithmetic, rounded as the model says",
        Thresholds(): "count the integer thresholds reached; equal to exact",
        Float32(): "float32(acc) * float32(scale), clipped, rounded half to even",
        Shift(None, Rounding.AWAY): "acc >> n, rounded away; scales must be powers of two",
        FixedPoint(9, Rounding.CEIL): "9-bit multiplier and shift; full product, shifted, rounded ceil once",
        FixedPoint(16, None, True): "16-bit multiplier and shift; "
        "high product half_up, then shift half_away (two roundings)",
        Tosa(16): "apply_scale_16, 16-bit multiplier and shift; rounded half_up once",
        Tosa(32, None, True): "apply_scale_32, 32-bit multiplier and shift; "
        "two roundings where it shifts by more than 31",
    }
    for chosen, words in told.items():
        assert chosen.words() == f"{chosen.scheme}: {words}"
    assert Exact().summary == "exact"
    assert FixedPoint(9, Rounding.CEIL).summary == "fixed-point, rounded once, ceil"
    assert FixedPoint(9, None, True).summary == "fixed-point, two roundings"
    assert (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == ('"a"', '"a" and "b"', '"a", "b" and "c"')
    assert (shown("a\n b"), shown("x" * 99)) == ("'a\\n b'", "'" + "x" * 59)


def test_widths():
    assert of_width(FixedPoint(8, None, True), 9) == FixedPoint(9, None, True)
    assert of_width(FixedPoint(8, Rounding.CEIL), 32) == FixedPoint(32, Rounding.CEIL)
    for chosen in (Exact(), Tosa(), Float32()):
        assert chosen.with_width(12) is None
        assert of_width(chosen, 12) == FixedPoint(12, Rounding.HALF_UP)


def test_what_holds_of_the_schemes():
    for name in ("exact", "takes_bias", "adds_exactly", "powers_of_two"):
        those = [scheme for scheme, c in built_in().items() if getattr(c, name)]
        wanted = {
            "adds_exactly": ["exact", "shift", "thresholds"],
            "powers_of_two": ["shift"],
            "takes_bias": ["exact", "fbgemm", "onednn", "qnnpack", "thresholds"],
        }
        assert those == wanted.get(name, ["exact", "thresholds"])
    assert set(built_in().values()) <= set(schemes())
    assert Requantizer not in schemes()


# Pieces


@given(st.lists(st.integers(-20, 20), max_size=4, unique=True), st.integers(-25, 25), st.integers(0, 30))
def test_spans(starts, low, count):
    pieces = [(at, F(i + 1), F(-i)) for i, at in enumerate([None, *sorted(starts)])]
    held_by = [[p for p in pieces if p[0] is None or p[0] <= a][-1] for a in range(low, low + count + 1)]
    found = list(spans(pieces, low, low + count))
    assert [p for first, last, p in found for _ in range(first, last + 1)] == held_by
    assert [a for first, last, _ in found for a in range(first, last + 1)] == list(range(low, low + count + 1))
    acc = np.arange(low, low + count + 1).reshape(-1, 1)
    made = apply_pieces(pieces, acc, lambda a, s, b: a * int(s) + int(b))
    values = [p[1] * a + p[2] for p, a in zip(held_by, range(low, low + count + 1), strict=True)]
    assert made.reshape(-1).tolist() == values
    assert made.shape == acc.shape
    assert piecewise_range(pieces, low, low + count) == (min(values), max(values))


def test_a_piece_sees_its_own_accumulators():
    seen = []
    pieces = [(None, F(1), F(0)), (5, F(2), F(0)), (9, F(3), F(0))]
    apply_pieces(pieces, np.array([3, 4, 9]), lambda a, s, b: seen.append((a.tolist(), s)) or a)
    assert seen == [([3, 4], F(1)), ([9], F(3))]


@settings(max_examples=300)
@given(st.data())
def test_range_of_all_cells(data):
    """The extremes of cells that float64 can't tell apart, and of rationals beyond it."""
    tiny = st.sampled_from([Fraction(0), Fraction(1, 10**30), Fraction(-1, 3**40), Fraction(1, 10**400)])
    near = st.builds(lambda a, b: a + b, st.sampled_from([Fraction(7, 3), Fraction(-1, 7), Fraction(99, 41)]), tiny)
    low, count = data.draw(st.sampled_from([-(3**39), -(2**62), -20, 5])), data.draw(st.sampled_from([0, 1, 30, 2**61]))
    cells = []
    for _ in range(data.draw(st.integers(1, 5))):
        starts = sorted(data.draw(st.sets(st.integers(-9, 9), max_size=2)))
        lines = [(data.draw(near), data.draw(near)) for _ in (None, *starts)]
        if data.draw(st.integers(0, 9)) == 9:
            lines = [(s * 10**400, b) for s, b in lines]
        if data.draw(st.booleans()):  # next to nothing is left at the low end
            lines = [(s, b - s * low) for s, b in lines]
        cells.append([(start, *line) for start, line in zip((None, *starts), lines, strict=True)])
    ends = [piecewise_range(pieces, low, low + count) for pieces in cells]
    assert range_of_all(cells, low, low + count) == (min(a for a, _ in ends), max(b for _, b in ends))
