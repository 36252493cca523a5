import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import evaluate as module
from models.evaluate import accuracy, output_codes, quantization_error, table

values = st.lists(st.tuples(st.floats(0, 24), st.floats(0, 24), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(values)
def test_accuracy_against_a_dumb_twin(rows):
    rows = [*rows, (1.0, 5.0, True)]
    predicted, truth, valid = (np.array(column) for column in zip(*rows, strict=True))
    errors = [(abs(p - t), t) for p, t, v in rows if v]
    found = accuracy(predicted, truth, valid)
    assert found["epe"] == pytest.approx(sum(e for e, _ in errors) / len(errors))
    assert found["epe_median"] == pytest.approx(statistics.median(e for e, _ in errors))
    assert found["bad3"] == pytest.approx(sum(e > 3 for e, _ in errors) / len(errors))
    assert found["d1"] == pytest.approx(sum(e > 3 and e > 0.05 * t for e, t in errors) / len(errors))


@settings(max_examples=60, deadline=None)
@given(values)
def test_quantization_error_against_a_dumb_twin(rows):
    quantized, reference, _ = (np.array(column) for column in zip(*rows, strict=True))
    errors = [q - r for q, r, _ in rows]
    middle = statistics.median(errors)
    found = quantization_error(quantized, reference, 24)
    assert found["mean"] == pytest.approx(statistics.fmean(map(abs, errors)))
    assert found["median"] == pytest.approx(statistics.median(map(abs, errors)))
    assert found["rmse"] == pytest.approx(statistics.fmean(e * e for e in errors) ** 0.5)
    assert found["robust_sd"] == pytest.approx(1.4826 * statistics.median(abs(e - middle) for e in errors))
    assert found["jump_rate"] == pytest.approx(sum(abs(e) > 36 / 63 for e in errors) / len(errors))


def test_robust_sd_estimates_the_sd_of_a_normal_and_ignores_jumps():
    error = np.random.default_rng(0).normal(0.3, 0.02, 100_000)
    error[:500] += 10
    found = quantization_error(error, np.zeros_like(error), 24)
    assert found["robust_sd"] == pytest.approx(0.02, rel=0.03)
    assert found["rmse"] > 0.5
    assert found["jump_rate"] == pytest.approx(0.005)


def test_output_codes_are_exact_or_refused():
    codes = np.arange(-128, 128)
    assert np.array_equal(output_codes(codes.astype(np.float32) / 256), codes)
    for bad in (0.001, 0.5, -0.6):
        with pytest.raises(ValueError, match="not INT8 codes"):
            output_codes(np.array([bad], np.float32))


def test_table_shows_every_set():
    figures = {"epe": 1.0, "epe_median": 0.5, "bad3": 0.1, "d1": 0.1}
    error = {"mean": 0.1, "median": 0.1, "rmse": 0.1, "robust_sd": 0.1, "jump_rate": 0.01}
    text = table("net", {"A": {"fp32": figures, "w8a8": figures, "error": error}})
    assert "| A | FP32 | 1.000 | 0.500 | 10.00% | 10.00% |" in text
    assert "| A | 0.1000 | 0.1000 | 0.1000 | 0.1000 | 1.000% |" in text
    assert module.TEST_PAIRS >= 32
