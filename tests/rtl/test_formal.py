"""Modules proved equal to second formulations of them, for all inputs; the same proofs refute planted faults.

A solver that gives up has proved nothing: such a test fails.
"""

import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.rtl.kinds import packed_bits
from intsim.rtl.modules import source

from .faults import FAULTS
from .formal import equivalent
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


def packed(activation, weight, pixels, channels, field, borrow):
    """Parameters of a packed multiplier whose fields fill its register."""
    wide = field * len(pixels) * len(channels)
    parameters = {"WIDE": wide, "FIELD": field, "BORROW": borrow}
    for name, operand, places, at in (("A", activation, pixels, "PIXEL"), ("B", weight, channels, "CHANNEL")):
        parameters |= {name: operand.bits, f"{name}_SIGNED": int(operand.signed)}
        parameters[f"PACKED_{name}"] = packed_bits(operand, places, wide)
        parameters |= {f"{at}S": len(places)}
        parameters[f"{at}_AT"] = f"{32 * len(places)}'d{sum(p << 32 * i for i, p in enumerate(places))}"
    return parameters


U2, U4, S2, S3, S4 = (IntegerType(int(n[1]), n[0] == "s") for n in ("u2", "u4", "s2", "s3", "s4"))
PACKINGS = {
    "two channels": (S4, S4, (0,), (0, 8), 8),
    "two pixels": (U4, S2, (0, 7), (0,), 7),
    "three channels": (S3, S3, (0,), (0, 6, 12), 6),
    "two by two": (U2, S2, (0, 8), (0, 4), 4),
}
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("three channels", "two by two")]


@pytest.mark.parametrize("borrow", [0, 1])
@pytest.mark.parametrize("name", ["two channels", "two pixels", *LONG])
def test_packed_multiplier_for_ever(tmp_path, name, borrow):
    """Against a product and a sum for each field, by induction."""
    parameters = packed(*PACKINGS[name], borrow)
    assert equivalent("packed_mac", ["other_packed_mac"], tmp_path, parameters, steps=3, seconds=300) == "proved"


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
    "borrow": ("packed_mac", ["other_packed_mac"], packed(*PACKINGS["two channels"], 1), 3),
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
