"""Every requantizer form against its dumb twin, on accumulators at ties, next to them, at powers of two, anywhere."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.requantizers.thresholds import Thresholds
from intsim.arithmetic.requantizers.tosa import Tosa
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.testing import weighted
from tests import twins

from . import record

RNG = np.random.default_rng(0)
ENOUGH = 100_000
INT32 = IntegerType(32, True)
BOUND = 1 << 20

FORMS = {
    "exact": Exact(),
    "thresholds": Thresholds(),
    "float32": Float32(),
    "tosa, 32 bits": Tosa(32),
    "tosa, 32 bits, double rounding": Tosa(32, None, True),
    "tosa, 16 bits": Tosa(16),
    "fixed-point, double rounding": FixedPoint(32, None, True),
    "fixed-point, double rounding, 16-bit multiplier": FixedPoint(16, None, True),
    **{f"fixed-point, {mode}": FixedPoint(32, mode) for mode in Rounding},
    **{f"shift, {mode}": Shift(None, mode) for mode in Rounding},
}


def drawn_scale(form):
    """Powers of two, their small multiples, float32 values and thirds, 2^-24 to 1; for shifts the first alone."""
    power = Fraction(1, 1 << int(RNG.integers(0, 25)))
    kind = 0 if form.scheme == "shift" else int(RNG.integers(0, 4))
    factor = (1, Fraction(int(RNG.integers(1, 16)), 16), Fraction(int(RNG.integers(1 << 23, 1 << 24)), 1 << 24))
    return power * (factor[kind] if kind < 3 else Fraction(int(RNG.integers(1, 99)), 99))


def accumulators(scale, count):
    """A third next to where the product is on a tie, a third boundary-weighted over int32, a third small."""
    codes = RNG.integers(-300, 300, count)
    ties = np.array([round((int(c) + Fraction(1, 2)) / scale) for c in codes], np.int64) + RNG.integers(-1, 2, count)
    wide = weighted(RNG, INT32, (count // 10, 10)).reshape(-1)
    return np.clip(np.concatenate([ties, wide, RNG.integers(-1000, 1000, count)]), INT32.min, INT32.max)


def compared(form, vectors):
    """How many vectors were compared, and on how many the product was a tie."""
    done = ties = 0
    while done < vectors:
        scale, mode = drawn_scale(form), str(RNG.choice(list(Rounding)))
        acc = accumulators(scale, 20)
        pieces = [(None, scale, Fraction(0))]
        low, high = (-128, 127) if form.scheme == "thresholds" else (-BOUND, BOUND)
        formula = Formula(pieces, Rounding(mode), 0, low, high)
        try:
            ours = form.codes(formula, acc)
        except IntsimError:
            # TOSA takes no value beyond 2^(shift-1)
            assert form.scheme == "tosa"
            acc = acc[np.abs(acc) < 1 << 20]
            try:
                ours = form.codes(formula, acc)
            except IntsimError:
                continue
        twin = [min(max(twins.requantized(form, int(a), scale, mode), low), high) for a in acc]
        np.testing.assert_array_equal(ours, np.array(twin), err_msg=f"{form}, scale {scale}, {mode}")
        done += len(acc)
        ties += sum((int(a) * scale).denominator == 2 for a in acc)
    return {"vectors": done, "ties": ties}


@pytest.mark.parametrize("name", FORMS)
def test_a_requantizer_is_its_dumb_twin(name):
    compared(FORMS[name], 2000)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_hundred_thousand_vectors_of_each_requantizer(name):
    """Writes the counts to record.json, which docs/measured/trust.md is made from."""
    counts = compared(FORMS[name], ENOUGH)
    assert counts["vectors"] >= ENOUGH
    assert counts["ties"] > 100
    record.write("requantizers", name, counts)
