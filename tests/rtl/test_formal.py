"""Modules proved equal to second formulations of them, for all inputs; the same proofs refute planted faults.

A solver that gives up has proved nothing: such a test fails.
"""

import pytest

from intsim.rtl.modules import source

from .faults import FAULTS
from .formal import equivalent, never
from .simulators import needs

pytestmark = needs("netlist")
REQUANTIZE = ["other_round_shift", "other_requantize"]
MAC = {"ACC": 24, "BIAS": 24, "SATURATE": 1}


@pytest.mark.parametrize("mode", range(8))
def test_every_rounding_of_every_24_bit_number(tmp_path, mode):
    parameters = {"IN": 24, "SHIFT": 4, "ROUNDING": mode}
    assert equivalent("round_shift", ["other_round_shift"], tmp_path, parameters) == "proved"


@pytest.mark.slow
@pytest.mark.parametrize("mode", range(8))
def test_every_rounding_of_every_64_bit_number(tmp_path, mode):
    parameters = {"IN": 64, "SHIFT": 6, "ROUNDING": mode}
    assert equivalent("round_shift", ["other_round_shift"], tmp_path, parameters) == "proved"


@pytest.mark.parametrize("saturate", [0, 1])
def test_mac_for_ever(tmp_path, saturate):
    """By induction: from equal registers to equal registers, and they begin equal."""
    assert equivalent("mac", ["other_mac"], tmp_path, MAC | {"SATURATE": saturate}, steps=4) == "proved"


@pytest.mark.parametrize(
    "twice", [pytest.param({"TWICE": 1, "ROUNDING": 3, "LEFT": 8}, marks=pytest.mark.slow), {"ROUNDING": 0}]
)
def test_requantizing_of_32_bits_shifted_by_9(tmp_path, twice):
    parameters = {"ACC": 32, "MUL": 32, "RIGHT": 63, **twice}
    assert equivalent("requantize", REQUANTIZE, tmp_path, parameters, assume="-set in_right 6'd9") == "proved"


@pytest.mark.slow
@pytest.mark.parametrize(
    "twice", [{"TWICE": 1, "ROUNDING": 1, "LEFT": 8}, {"ROUNDING": 3}, {"ROUNDING": 0, "SATURATE": 1}]
)
def test_requantizing_of_32_bits(tmp_path, twice):
    parameters = {"ACC": 32, "MUL": 32, "RIGHT": 63, **twice}
    assert equivalent("requantize", REQUANTIZE, tmp_path, parameters, seconds=300) == "proved"


PROOFS = {
    "rounding constant": (
        "requantize",
        REQUANTIZE,
        {"ACC": 32, "MUL": 32, "RIGHT": 63, "TWICE": 1, "ROUNDING": 1},
        None,
    ),
    "sign bit": ("mac", ["other_mac"], MAC, 4),
    "saturation bound": ("mac", ["other_mac"], MAC, 4),
    "tie rule": ("round_shift", ["other_round_shift"], {"IN": 24, "SHIFT": 4, "ROUNDING": 1}, None),
}


@pytest.mark.parametrize("name", PROOFS)
def test_planted_faults_are_refuted(tmp_path, name):
    module, other, parameters, steps = PROOFS[name]
    fault = FAULTS[name]
    text = fault.planted(source(fault.module))
    assume = "-set in_right 6'd9" if module == "requantize" else ""
    found = equivalent(module, other, tmp_path, parameters, assume, steps, texts={f"{fault.module}.sv": text})
    assert found == "refuted"


NARROW = {"A": 2, "FIRST": 3, "LAST": 4, "MOST": 3}
CHAINS = {
    "pairs that saturate": {},
    "two lanes that wrap": {"LANES": 2, "SUM": 0, "FIRST_SATURATES": 0},
    "groups that restart": {"SUM": 0, "RESTART": 2, "LAST_SATURATES": 0},
    "two lanes": {"LANES": 2, "SUM": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_sums_of_three_products(tmp_path, name):
    """All operands, biases and pauses of 8 cycles: sums one after another too, as far as these go."""
    assert never("dot", "other_dot", tmp_path, NARROW | CHAINS[name], 8) == "proved"


def test_lanes_in_another_order_are_refuted(tmp_path):
    fault = FAULTS["lane order"]
    text = {f"{fault.module}.sv": fault.planted(source(fault.module))}
    assert never("dot", "other_dot", tmp_path, NARROW | CHAINS["two lanes"], 8, texts=text) == "refuted"
