import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from intsim.errors import IntsimError
from models import evaluate
from models.study.metrics import SMALLEST, accuracy, error, s_c

disparities = st.floats(0, 24) | st.sampled_from([0.0, 3.0, 6.0, 24.0])
maps = st.tuples(st.integers(1, 2), st.integers(4, 7), st.integers(4, 7)).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float64, shape, elements=disparities),
        arrays.arrays(np.float64, shape, elements=disparities),
        arrays.arrays(bool, shape, elements=st.sampled_from([True, True, True, True, False])),
    )
)


def dct(window):
    """Coefficients of the orthonormal 2-D DCT-II of a 4 x 4 window, by its definition, row by row; DC first."""
    found = []
    for u in range(4):
        for v in range(4):
            total = 0.0
            for y in range(4):
                for x in range(4):
                    wave = math.cos(math.pi * (2 * y + 1) * u / 8) * math.cos(math.pi * (2 * x + 1) * v / 8)
                    total += window[y][x] * wave
            found.append(total * (math.sqrt(0.5) if u else 0.5) * (math.sqrt(0.5) if v else 0.5))
    return found


def dumb_s_c(predicted, truth, valid):
    cosines = []
    for p, t, k in zip(predicted, truth, valid, strict=True):
        for i in range(len(p) - 3):
            for j in range(len(p[0]) - 3):
                place = slice(i, i + 4), slice(j, j + 4)
                if not k[place].all() or t[place].min() == t[place].max():
                    continue
                if p[place].min() == p[place].max():
                    cosines.append(0.0)
                    continue
                a, b = dct(p[place].tolist())[1:], dct(t[place].tolist())[1:]
                norm = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
                cosines.append(math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm)
    return statistics.fmean(cosines) if cosines else math.nan


def test_the_dumb_transform_is_orthonormal():
    window = np.random.default_rng(0).normal(size=(4, 4))
    found = np.array(dct(window.tolist()))
    assert found[0] == pytest.approx(window.sum() / 4)
    assert (found**2).sum() == pytest.approx((window**2).sum())
    tilted = np.array(dct([[0.0, 1.0, 2.0, 3.0]] * 4))
    np.testing.assert_allclose(tilted[4:], 0, atol=1e-12)
    assert abs(tilted[1]) > abs(tilted[3]) > 0.1


@settings(max_examples=25, deadline=None)
@given(maps)
def test_structure_against_the_transform_written_out(drawn):
    predicted, truth, valid = (np.rint(a * 64) / 64 if a.dtype != bool else a for a in drawn)
    assert s_c(predicted, truth, valid) == pytest.approx(dumb_s_c(predicted, truth, valid), abs=1e-9, nan_ok=True)


def test_structure_of_hand_made_maps():
    truth = np.tile(np.arange(8.0), (8, 1))
    everywhere = np.ones((8, 8), bool)
    assert s_c(truth, truth, everywhere) == pytest.approx(1)
    assert s_c(3 * truth + 5, truth, everywhere) == pytest.approx(1)
    assert s_c(-truth, truth, everywhere) == pytest.approx(-1)
    assert s_c(truth.T, truth, everywhere) == pytest.approx(0, abs=1e-12)
    assert s_c(np.full((8, 8), 0.1), truth, everywhere) == 0
    assert math.isnan(s_c(truth, np.full((8, 8), 0.1), everywhere))
    assert math.isnan(s_c(truth[:3], truth[:3], everywhere[:3]))
    half = np.where(np.arange(8)[:, None] < 4, truth, 2.0)
    both = s_c(half, truth, everywhere)
    assert 0 < both < 1
    assert s_c(half, truth, everywhere & (np.arange(8)[:, None] < 4)) == pytest.approx(1)
    assert both == pytest.approx(dumb_s_c(half[None], truth[None], everywhere[None]))


def test_a_pixel_that_is_not_valid_takes_its_windows_out():
    rng = np.random.default_rng(1)
    truth, predicted = rng.random((2, 4, 8))
    valid = np.ones((4, 8), bool)
    valid[2, 3] = False
    assert s_c(predicted, truth, valid) == pytest.approx(s_c(predicted[:, 4:], truth[:, 4:], valid[:, 4:]))
    predicted[2, 3] = 1e6
    assert s_c(predicted, truth, valid) == pytest.approx(s_c(predicted[:, 4:], truth[:, 4:], valid[:, 4:]))


def test_structure_of_tiny_and_large_differences():
    truth = np.tile(np.arange(8.0), (8, 1))
    assert s_c(truth * 1e-200, truth, np.ones((8, 8), bool)) == pytest.approx(1)
    assert s_c(truth * 1e200, truth, np.ones((8, 8), bool)) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(maps)
def test_accuracy_against_a_dumb_twin(drawn):
    predicted, truth, valid = drawn
    valid[0, 0, 0] = True
    pairs = [(p, t) for p, t, v in zip(predicted.flat, truth.flat, valid.flat, strict=True) if v]
    found = accuracy(predicted, truth, valid)
    assert list(found) == ["epe", "epe_median", "bad3", "d1", "rmse", "abs_rel", "s_c"]
    assert found["rmse"] == pytest.approx(math.sqrt(statistics.fmean((p - t) ** 2 for p, t in pairs)))
    raised = [(max(p, 24 / 256), max(t, 24 / 256)) for p, t in pairs]
    assert found["abs_rel"] == pytest.approx(statistics.fmean(abs(100 / p - 100 / t) / (100 / t) for p, t in raised))
    same = evaluate.accuracy(predicted, truth, valid)
    assert {key: found[key] for key in same} == same
    assert found["epe"] == pytest.approx(statistics.fmean(abs(p - t) for p, t in pairs))


def test_accuracy_by_hand():
    truth = np.full((4, 4), 10.0)
    predicted = truth.copy()
    predicted[0, 0] = 5.0
    found = accuracy(predicted, truth, np.ones((4, 4), bool))
    assert found["epe"] == 5 / 16
    assert found["rmse"] == 5 / 4
    assert found["d1"] == found["bad3"] == 1 / 16
    assert found["abs_rel"] == pytest.approx(1 / 16)
    predicted[0, 0] = 0.0
    assert accuracy(predicted, truth, truth > 0)["abs_rel"] == pytest.approx((10 / SMALLEST - 1) / 16)
    assert accuracy(predicted, truth, truth > 0, smallest=1.0)["abs_rel"] == pytest.approx(9 / 16)
    truth[1] = 100.0
    predicted[1] = 104.0
    found = accuracy(predicted, truth, np.ones((4, 4), bool))
    assert found["bad3"] == 5 / 16
    assert found["d1"] == 1 / 16


@pytest.mark.parametrize(("predicted", "truth", "valid"), [((4, 4), (4, 5), (4, 4)), ((16,), (16,), (16,))])
def test_accuracy_takes_maps_of_one_shape(predicted, truth, valid):
    with pytest.raises(IntsimError, match="maps of one shape"):
        accuracy(np.ones(predicted), np.ones(truth), np.ones(valid, bool))


def test_of_no_pixel_nothing_is_known():
    four = np.ones((4, 4))
    found = accuracy(four, four, four < 0)
    assert list(found) == list(accuracy(four, four, four > 0))
    assert all(math.isnan(value) for value in found.values())
    found = error(np.ones(0), np.ones(0), 24)
    assert list(found) == list(error(np.ones(3), np.zeros(3), 24))
    assert all(math.isnan(value) for value in found.values())


def test_effective_bits_of_exact_uniform_quantizers():
    q = np.linspace(0, 24, 200_001)
    for bits in (4, 8, 11):
        step = 24 / 2**bits
        found = error((np.floor(q / step) + 0.5) * step, q, 24)
        assert found["effective_bits_rmse"] == pytest.approx(bits, abs=0.01)
        assert found["effective_bits"] == pytest.approx(bits - math.log2(1.4826 / 4 * math.sqrt(12)), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 24), st.floats(0, 24)), min_size=1, max_size=30))
def test_error_against_a_dumb_twin(rows):
    quantized, reference = np.array(rows).T
    found = error(quantized, reference, 24)
    same = evaluate.quantization_error(quantized, reference, 24)
    assert {key: found[key] for key in same} == same
    for key, name in (("effective_bits", "robust_sd"), ("effective_bits_rmse", "rmse")):
        expected = math.log2(24 / (12**0.5 * found[name])) if found[name] else math.inf
        assert found[key] == pytest.approx(expected)


def test_error_is_a_matter_of_differences():
    rng = np.random.default_rng(2)
    reference = rng.uniform(0, 24, (3, 5, 5))
    noise = rng.normal(0, 0.05, reference.shape)
    noise[0, 0, 0] = 7.0
    found = error(reference + noise, reference, 24)
    other = error(noise, 0 * noise, 24)
    flipped = error(reference, reference + noise, 24)
    scaled = error(2 * noise, 0 * noise, 48)
    for key, value in found.items():
        assert value == pytest.approx(other[key])
        assert value == pytest.approx(flipped[key])
        assert scaled[key] == pytest.approx(value if key == "jump_rate" or "bits" in key else 2 * value)
    assert found["jump_rate"] == 1 / 75
    assert found["effective_bits"] > found["effective_bits_rmse"] + 2


def test_error_of_two_shapes_is_refused():
    with pytest.raises(IntsimError, match="one shape"):
        error(np.ones(3), np.ones(4), 24)
