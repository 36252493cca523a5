"""The checks find planted mistakes in kernels, name the smallest case, and let right kernels pass."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

import intsim
from intsim.arithmetic import (
    IntegerType,
    float32_requantize,
    multiply_high_double_rounding,
    multiply_single_rounding,
    shift_requantize,
)
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.testing import (
    CounterexampleError,
    QonnxCase,
    check_dot_product,
    check_executor,
    check_requantizer,
)
from intsim.testing.net import Net

ROOT = Path(__file__).resolve().parents[2]


def into(bits, value):
    return (int(value) + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def pairs(activation, weight, bias, narrow=32767, start=0):
    """Pairs of products into a register that saturates; a correct x86-avx2 kernel with the defaults."""
    products = activation.astype(int) * weight.astype(int)
    total = bias
    for k in range(start, len(products), 2):
        total += min(max(int(products[k : k + 2].sum()), -32768), narrow)
    return into(32, total)


def test_a_right_kernel_passes_and_met_overflow():
    checked = check_dot_product(pairs, "x86-avx2", max_examples=200, max_terms=64)
    assert checked.cases >= 150
    assert checked.difficult >= 20


WRONG = {
    "no saturation": lambda a, w, b: into(32, a.astype(int) @ w.astype(int) + b),
    "off by one at the top": lambda a, w, b: pairs(a, w, b, narrow=32766),
    "the first product left out": lambda a, w, b: pairs(a[1:], w[1:], b),
    "no bias": lambda a, w, b: pairs(a, w, 0),
    "weights read as unsigned": lambda a, w, b: pairs(a, w.view(np.uint8), b),
    "31 bits": lambda a, w, b: into(31, pairs(a, w, b)),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_kernel_is_found(mistake):
    with pytest.raises(CounterexampleError, match="the kernel and target x86-avx2 disagree"):
        check_dot_product(WRONG[mistake], "x86-avx2", max_examples=300, max_terms=16)


def test_the_counterexample_is_small_and_whole():
    with pytest.raises(CounterexampleError) as found:
        check_dot_product(WRONG["no saturation"], "x86-avx2")
    text = str(found.value)
    terms = int(re.search(r"of (\d+) terms", text)[1])
    assert terms == 2
    rows = [re.search(rf"{name} +\[(.*)\]", text)[1].split() for name in ("activation", "weight")]
    a, w = (np.array(row, int) for row in rows)
    assert "bias        0\n" in text
    got, expected = (int(re.search(rf"{name} +(-?\d+)", text)[1]) for name in ("got", "expected"))
    assert got == a @ w
    assert expected == pairs(a, w, 0) != got
    assert "stage 1     16 bits, saturate: sums" in text
    assert "overflows 1" in text


def test_other_seeds_other_cases():
    seen = []
    for seed in (None, None, 1):
        cases = []
        check_dot_product(
            lambda a, w, b, to=cases: to.append(a.tolist()) or pairs(a, w, b), "x86-avx2", 30, 16, seed=seed
        )
        seen.append(cases)
    assert seen[0] == seen[1] != seen[2]


def test_a_packed_kernel():
    def exact(activation, weight, bias):
        return weight.astype(int) @ activation.T.astype(int) + bias[:, None]

    check_dot_product(exact, "dsp48e2-int8", max_examples=200, bias=IntegerType(16, True))
    with pytest.raises(CounterexampleError, match="dsp48e2-int8-raw disagree on a dot product of 1 terms"):
        check_dot_product(exact, "dsp48e2-int8-raw", max_examples=300)


def test_one_wrong_product_of_several_is_wrong():
    def kernel(activation, weight, bias):
        sums = weight.astype(int) @ activation.T.astype(int) + bias[:, None]
        sums[-1, -1] += 1
        return sums

    with pytest.raises(CounterexampleError, match="disagree"):
        check_dot_product(kernel, "dsp48e2-int8", max_examples=20, bias=IntegerType(16, True))


def test_operands_as_asked_for():
    kinds = {"activation": IntegerType(4, True), "weight": IntegerType(2, False), "bias": None}

    def kernel(activation, weight, bias):
        assert activation.dtype == np.int8
        assert weight.dtype == np.uint8
        assert bias == 0
        assert not activation.size or (activation.min() >= -8 and weight.max() <= 3)
        return int(activation.astype(int) @ weight)

    assert check_dot_product(kernel, "exact", max_examples=100, max_terms=20, **kinds).difficult == 0
    with pytest.raises(IntsimError, match="products need more than 63 bits; choose narrower ones"):
        check_dot_product(kernel, "exact", activation=IntegerType(32, False), weight=IntegerType(32, False))


@pytest.mark.parametrize("result", [None, 1.0, np.zeros(1), "0"])
def test_a_kernel_that_returns_no_integer(result):
    with pytest.raises(IntsimError, match=r"the kernel returned .* it must return integers"):
        check_dot_product(lambda *_: result, "exact", max_examples=5, max_terms=4)


def test_a_kernel_that_crashes_says_so_itself():
    with pytest.raises(ZeroDivisionError):
        check_dot_product(lambda a, w, b: 1 // 0, "exact", max_examples=5, max_terms=4)


def stored(values, p):
    return np.clip(values + p.zero_point, p.low, p.high)


RIGHT = {
    "single": (
        FixedPoint(32, Rounding.HALF_UP),
        lambda acc, p: stored(multiply_single_rounding(acc, p.multiplier, p.shift, "half_up"), p),
    ),
    "double": (
        FixedPoint(32, None, True),
        lambda acc, p: stored(multiply_high_double_rounding(acc, p.multiplier, p.shift), p),
    ),
    "shift": (
        Shift(None, Rounding.FLOOR),
        lambda acc, p: stored(shift_requantize(acc, p.shift, "floor"), p),
    ),
    "float32": (
        Float32(),
        lambda acc, p: float32_requantize(acc, p.factor, p.zero_point, p.low, p.high),
    ),
    "exact": (
        Exact(),
        lambda acc, p: (
            stored(np.array([round(int(v) * p.scale) for v in acc]), p)
            if p.rounding == "half_even"
            else intsim_exact(acc, p)
        ),
    ),
}


def intsim_exact(acc, p):
    return stored(intsim.arithmetic.exact_requantize(acc, p.scale, 0, p.rounding), p)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_requantizer_passes_and_met_ties(name):
    form, kernel = RIGHT[name]
    checked = check_requantizer(kernel, form, max_examples=200)
    assert checked.cases >= 150
    assert checked.difficult >= 10


def test_wrong_requantizers_are_found():
    single, double = RIGHT["single"][1], RIGHT["double"][1]
    for kernel, form in ((single, RIGHT["double"][0]), (double, RIGHT["single"][0])):
        with pytest.raises(CounterexampleError, match="the kernel and requantizer fixed-point disagree"):
            check_requantizer(kernel, form)
    even = Shift(None, Rounding.HALF_EVEN)
    with pytest.raises(CounterexampleError, match=r"acc \* scale \[.*\.5\]"):
        check_requantizer(lambda acc, p: stored(shift_requantize(acc, p.shift, "half_up"), p), even)
    with pytest.raises(CounterexampleError, match="zero_point"):
        check_requantizer(lambda acc, p: single(acc, p._replace(zero_point=0)), RIGHT["single"][0])


def test_a_requantizer_of_given_scales():
    scales = st.sampled_from([Fraction(1, 3), Fraction(1, 7)])
    seen = set()

    def kernel(acc, p):
        seen.add(p.scale)
        assert p.zero_point == 0
        assert (p.low, p.high) == (0, 15)
        return stored(np.array([round(int(v) * p.scale) for v in acc]), p)

    even = Rounding.HALF_EVEN
    check_requantizer(kernel, Exact(), 50, 16, IntegerType(4, False), scales, zero_points=False, rounding=even)
    assert seen == {Fraction(1, 3), Fraction(1, 7)}


def quantized(mode):
    net = Net()
    x = net.quant(net.input(1, 4), 0.25, 0, 4, rounding_mode=mode)
    return net.model(net.quant(x, 0.5, 0, 3, rounding_mode=mode))


def few_models():
    inputs = st.lists(st.integers(-9, 9), min_size=4, max_size=4).map(lambda v: np.float32([v]) / 8)
    modes = st.sampled_from(["ROUND", "FLOOR", "HALF_UP"])
    return st.builds(lambda mode, x: QonnxCase(quantized(mode), {"x": x}), modes, inputs)


def rounds_to_even(model, inputs):
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "rounding_mode":
                attribute.s = b"ROUND"
    return intsim.run(model, inputs=inputs).outputs


def test_an_executor_passes_and_a_wrong_one_is_found():
    assert (
        check_executor(lambda m, x: intsim.run(m, inputs=x).outputs, models=few_models(), max_examples=40).cases >= 30
    )
    assert check_executor(lambda m, x: intsim.run(m, inputs=x).outputs, max_examples=5).cases == 5
    with pytest.raises(CounterexampleError) as found:
        check_executor(rounds_to_even, models=few_models(), max_examples=100)
    text = str(found.value)
    assert "the executor and target exact disagree: output quant" in text
    assert 'rounding_mode: string = "ROUND"' not in text
    assert 'rounding_mode: string = "FLOOR"' in text or 'rounding_mode: string = "HALF_UP"' in text
    for broken, message in (
        (lambda m, x: {}, "is missing; there are none"),
        (
            lambda m, x: {n: v[:, :2] for n, v in intsim.run(m, inputs=x).outputs.items()},
            r"has shape \(1, 2\), expected \(1, 4\)",
        ),
        (lambda m, x: {n: v + 0.5 for n, v in intsim.run(m, inputs=x).outputs.items()}, "4 of 4 differ"),
        (lambda m, x: {n: v * np.nan for n, v in intsim.run(m, inputs=x).outputs.items()}, "got nan"),
    ):
        with pytest.raises(CounterexampleError, match=message):
            check_executor(broken, models=few_models(), max_examples=20)
    # float32 rounding of a value is not a wrong code
    near = lambda m, x: {n: np.float32(v * (1 + 1e-7)) for n, v in intsim.run(m, inputs=x).outputs.items()}  # noqa: E731
    check_executor(near, models=few_models(), max_examples=20)
