"""RESCALE of the TOSA reference model against our `apply_scale_32`, `apply_scale_16` and their preconditions."""

import numpy as np
import pytest

from intsim.arithmetic.requantizers.fixed_point import multiply_single_rounding
from intsim.arithmetic.requantizers.tosa import apply_scale_16, apply_scale_32, value_limits
from intsim.errors import IntsimError

from . import installed

RNG = np.random.default_rng(1)
INT8 = (-128, 127)
MULTIPLIERS = (0, 1, 3, (1 << 30) - 1, 1 << 30, 1476395008, 1932201031, (1 << 31) - 1)


def answers(cases, tmp_path):
    """All cases in one process; a case is (x, multipliers, shifts, scale32, double, zero_in, zero_out, bits)."""
    if reason := installed.missing("tosa-tools"):
        pytest.skip(reason)
    given = {"names": np.array([str(n) for n in range(len(cases))])}
    for n, (x, multiplier, shift, *how) in enumerate(cases):
        given |= {f"{n}.x": x, f"{n}.multiplier": np.atleast_1d(multiplier), f"{n}.shift": np.atleast_1d(shift)}
        given[f"{n}.how"] = np.array(how)
    np.savez(tmp_path / "cases.npz", **given)
    installed.ask("tosa-tools", "drive_tosa.py", str(tmp_path / "cases.npz"), str(tmp_path / "answers.npz"))
    with np.load(tmp_path / "answers.npz") as found:
        return [found[str(n)] for n in range(len(cases))]


def values(low, high, shift, count=900):
    """(1, n) int64 in low..high: the ends, ties of the shift and their neighbours, powers of two, any size."""
    powers = [s * (1 << k) + d for k in range(48) for s in (-1, 1) for d in (-1, 0, 1)]
    ties = RNG.integers(-1000, 1000, count // 3) * (1 << min(shift, 40)) // 2 + RNG.integers(-1, 2, count // 3)
    anything = RNG.integers(low, high + 1, count) >> RNG.integers(0, 32, count)
    found = np.concatenate([[low, low + 1, high - 1, high, 0], powers, ties, anything])
    return found[(found >= low) & (found <= high)][None]


@pytest.mark.parametrize("double", [0, 1])
def test_apply_scale_32(double, tmp_path):
    """All shifts, eight multipliers, int32 to int32."""
    pairs = [(m, s) for s in range(2, 63) for m in MULTIPLIERS]
    asked = [values(*value_limits(m, s), s).astype(np.int32) for m, s in pairs]
    cases = [(x, m, s, 1, double, 0, 0, 32) for x, (m, s) in zip(asked, pairs, strict=True)]
    for x, (m, s), found in zip(asked, pairs, answers(cases, tmp_path), strict=True):
        np.testing.assert_array_equal(found, apply_scale_32(x, m, s, bool(double)), f"multiplier {m}, shift {s}")
        if not double:
            np.testing.assert_array_equal(found, multiply_single_rounding(x, m, s, "half_up"))


def test_apply_scale_16(tmp_path):
    """INT48 to int32."""
    pairs = [(m, s) for s in range(2, 63) for m in (0, 1, 3, (1 << 14) - 1, 1 << 14, 29483, (1 << 15) - 1)]
    asked = [values(*value_limits(m, s, 16), s) for m, s in pairs]
    cases = [(x, m, s, 0, 0, 0, 0, 32) for x, (m, s) in zip(asked, pairs, strict=True)]
    for x, (m, s), found in zip(asked, pairs, answers(cases, tmp_path), strict=True):
        np.testing.assert_array_equal(found, apply_scale_16(x, m, s), f"multiplier {m}, shift {s}")


def test_per_channel_with_zero_points_into_int8(tmp_path):
    """As the end of a quantized convolution: a multiplier a channel, an output zero point, a clip."""
    m = RNG.integers(1 << 30, 1 << 31, 16)
    s = RNG.integers(31, 46, 16)
    x = (RNG.integers(-(1 << 30), 1 << 30, (500, 16)) >> RNG.integers(0, 24, (500, 16))).astype(np.int32)
    x8 = RNG.integers(-128, 128, (500, 16)).astype(np.int8)
    cases = [(x, m, s, 1, d, 0, z, 8) for d in (0, 1) for z in (-128, 0, 5, 127)]
    cases += [(x8, m, s - 4, 1, d, -7, z, 8) for d in (0, 1) for z in (-1, 0)]
    for (given, multiplier, shift, _, d, zero_in, zero_out, _), found in zip(
        cases, answers(cases, tmp_path), strict=True
    ):
        for c in range(16):
            column = given[:, c].astype(np.int64) - zero_in
            ours = apply_scale_32(column, int(multiplier[c]), int(shift[c]), bool(d))
            np.testing.assert_array_equal(found[:, c], np.clip(ours + zero_out, *INT8))


def test_the_same_preconditions(tmp_path):
    """What the model calls unpredictable is an error here, and nothing else is."""
    shifts = (1, 2, 3, 10, 31, 32, 33, 62, 63)
    asked = []
    for shift in shifts:
        edge = min(1 << max(shift - 1, 0), 1 << 31)
        asked += [(value, m, shift) for value in (-edge - 1, -edge, 0, edge - 1, edge) for m in (-1, 0, 1 << 30)]
    asked = [(v, m, s) for v, m, s in asked if -(1 << 31) <= v < 1 << 31]
    cases = [(np.array([[v]], np.int32), m, s, 1, 0, 0, 0, 32) for v, m, s in asked]
    refused = 0
    for case, found in zip(asked, answers(cases, tmp_path), strict=True):
        try:
            ours = [apply_scale_32(*case)]
        except IntsimError:
            ours = []
            refused += 1
        assert found.reshape(-1).tolist() == ours, case
    assert 0 < refused < len(cases)
