"""What the strategies draw is valid, reaches the edges they promise, and can be anything that is allowed."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import find as found_by
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import check_stages
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import check_packing
from intsim.errors import IntsimError
from intsim.targets import Target
from intsim.testing import (
    accumulators,
    defined,
    dot_products,
    integer_types,
    integers_of,
    packings,
    qonnx_models,
    registers,
    requantizers,
    sampled_targets,
    scales,
    stages,
    targets,
    weighted,
)
from intsim.testing.values import array_type, edges, within


def find(strategy, condition):
    """Something that the strategy draws; any will do, it need not be the smallest."""
    return found_by(strategy, condition, settings=settings(max_examples=2000, database=None, phases=[Phase.generate]))


@given(st.data(), integer_types(1, 64, narrow=None))
def test_integers_are_of_their_type(data, kind):
    assert kind.contains(*[data.draw(integers_of(kind))] * 2)


def test_edges():
    assert edges(-8, 7) == (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, 7, -7, -8)
    assert edges(100, 140) == (100, 101, 127, 128, 129, 139, 140)
    assert edges(5, 5) == (5,)
    for low, high in ((5, 4), (1, 0)):
        with pytest.raises(IntsimError, match=f"empty range {low}..{high}"):
            within(low, high)


def test_array_types():
    wanted = {(4, False): "uint8", (8, True): "int8", (9, True): "int16", (32, False): "uint32", (33, True): "int64"}
    assert {key: array_type(IntegerType(*key)).name for key in wanted} == wanted


@pytest.mark.parametrize("low", [0, 65])
def test_impossible_widths(low):
    with pytest.raises(IntsimError, match=r"allowed: a range within 1\.\.64"):
        integer_types(low, 70)


@given(st.data())
def test_scales_stay_in_their_range(data):
    ends = sorted([data.draw(scales()), data.draw(scales())])
    signed = data.draw(st.booleans())
    scale = data.draw(scales(*ends, signed=signed))
    assert ends[0] <= abs(scale) <= ends[1]
    assert signed or scale > 0
    assert isinstance(scale, Fraction)


def test_scales_are_refused_and_varied():
    with pytest.raises(IntsimError, match="allowed: 0 < smallest <= largest"):
        scales(Fraction(0), Fraction(1))
    assert find(scales(), lambda s: s.denominator & (s.denominator - 1) and s.denominator > 2)
    assert find(scales(), lambda s: s.numerator == 1 and s.denominator == 1 << 20)
    assert find(scales(), lambda s: s.numerator > 1 << 20 and float(np.float32(float(s))) == s)


@given(st.data(), st.integers(2, 64))
def test_accumulators_fit(data, bits):
    scale = data.draw(st.one_of(st.none(), scales()))
    assert IntegerType(bits, True).contains(*[data.draw(accumulators(bits, scale))] * 2)


def test_accumulators_meet_ties():
    third = Fraction(3, 1 << 9)
    assert find(accumulators(32, third), lambda a: (a * third).denominator == 2) is not None


@given(stages(max_stages=3, max_sum=5, max_lanes=3, min_bits=4, max_bits=20))
def test_stages_are_valid_and_as_asked(chain):
    assert check_stages(chain) == chain
    assert 1 <= len(chain) <= 3
    for stage in chain:
        assert 4 <= stage.bits <= 20
        assert stage.lanes <= 3
        assert stage.sum is None or stage.sum <= 5


@given(packings())
def test_packings_have_fields(packing):
    assert 1 <= len(packing.offsets) <= 4
    assert packing.bits <= 64


@given(registers())
def test_registers_are_valid(path):
    if path.packing is None:
        check_stages(path.stages)
    else:
        check_packing(path.packing, path.stages)


@given(st.data(), st.one_of(targets(), sampled_targets()))
def test_targets_take_their_dot_products(data, target):
    case = data.draw(dot_products(target, max_terms=20))
    operands = target.operands
    for array, kind in (
        (case.activation, operands and operands.activation),
        (case.weight, operands and operands.weight),
    ):
        assert array.shape[-1] <= 20
        assert not kind or not array.size or kind.contains(int(array.min()), int(array.max()))
    bias = case.bias if target.registers.packing is None else case.bias[:, None]
    found = defined(target, case.activation, case.weight, bias)
    last = target.stages[-1] if target.stages else None
    assert last is None or (last.min <= found.result.min() and found.result.max() <= last.max)


def test_random_targets_are_as_varied_as_files():
    """One of each kind of machine can be drawn."""
    kinds = {
        "packed": lambda t: t.accumulate.packing is not None,
        "lanes": lambda t: any(s.lanes > 1 for s in t.stages),
        "preload": lambda t: t.accumulate.bias == "preload",
        "any operands": lambda t: t.operands is None,
        "order": lambda t: t.accumulate.order == ("cin", "kh", "kw"),
        "tosa": lambda t: t.requantize.scheme == "tosa",
        "saturating after wrapping": lambda t: [s.overflow for s in t.stages] == ["wrap", "saturate"],
    }
    for holds in kinds.values():
        assert isinstance(find(targets(), holds), Target)


@given(requantizers())
def test_requantizers_have_the_parameters_of_their_scheme(form):
    assert (form.multiplier_bits is not None) == (form.scheme in ("fixed-point", "tosa"))
    assert (form.rounding is not None) == (
        form.scheme == "shift" or (form.scheme == "fixed-point" and not form.double_rounding)
    )


def test_operand_types_are_checked():
    with pytest.raises(IntsimError, match="products need more than 63 bits"):
        find(dot_products(Target.load("exact"), 4, IntegerType(32, False), IntegerType(32, False)), lambda case: True)


def test_weighted_is_repeatable_and_takes_no_terms():
    kind = IntegerType(8, True)
    draws = [weighted(np.random.default_rng(7), kind, (5, 6)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    assert weighted(np.random.default_rng(7), kind, (5, 0)).shape == (5, 0)


def test_models_are_small_and_have_their_input():
    case = find(qonnx_models(max_steps=3, max_elements=100), lambda case: len(case.model.graph.node) >= 4)
    assert list(case.inputs) == ["x"]
    assert case.inputs["x"].dtype == np.float32


def test_without_hypothesis_it_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None; import intsim.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith('intsim.testing needs hypothesis: pip install "intsim[test]"')
