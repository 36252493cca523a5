"""Every requantizer form against its dumb twin, on accumulators at ties, next to them, at powers of two, anywhere."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.form import RequantizerForm
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.graph import Node
from intsim.ops.pieces import pieces_json
from intsim.ops.schemes import cell_function
from intsim.testing import weighted

from . import dumb, record

RNG = np.random.default_rng(0)
ENOUGH = 100_000
INT32 = IntegerType(32, True)
BOUND = 1 << 20

FORMS = {
    "exact": RequantizerForm("exact"),
    "thresholds": RequantizerForm("thresholds"),
    "float32": RequantizerForm("float32"),
    "tosa, 32 bits": RequantizerForm("tosa", 32),
    "tosa, 32 bits, double rounding": RequantizerForm("tosa", 32, None, True),
    "tosa, 16 bits": RequantizerForm("tosa", 16),
    "fixed-point, double rounding": RequantizerForm("fixed-point", 32, None, True),
    "fixed-point, double rounding, 16-bit multiplier": RequantizerForm("fixed-point", 16, None, True),
    **{f"fixed-point, {mode}": RequantizerForm("fixed-point", 32, mode) for mode in Rounding},
    **{f"shift, {mode}": RequantizerForm("shift", None, mode) for mode in Rounding},
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
        attributes = {
            "cells": [1],
            "pieces": pieces_json([pieces]),
            "rounding": mode,
            "zero": 0,
            "low": low,
            "high": high,
        }
        function = cell_function(Node("requantize", "n", ("x",), "y", attributes, {}), pieces, form, ())
        try:
            ours = function(acc)
        except IntsimError:
            # TOSA takes no value beyond 2^(shift-1)
            assert form.scheme == "tosa"
            acc = acc[np.abs(acc) < 1 << 20]
            try:
                ours = function(acc)
            except IntsimError:
                continue
        form_ = (form.scheme, form.multiplier_bits, form.rounding, form.double_rounding)
        twin = [min(max(dumb.requantized(form_, int(a), scale, mode), low), high) for a in acc]
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
