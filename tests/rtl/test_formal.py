"""Modules proved equal to second formulations of them, for all inputs; the same proofs refute planted faults.

A solver that gives up has proved nothing: such a test fails.
"""

import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.rtl.kinds import packed_bits
from intsim.rtl.modules import source

from .faults import FAULTS
from .formal import always, equivalent
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


@pytest.mark.parametrize(
    ("order", "bits"),
    [
        *((1, 6), (2, 6), (3, 5)),
        *(pytest.param(p, n, marks=pytest.mark.slow) for p, n in ((1, 8), (2, 8), (3, 6), (4, 5))),
    ],
)
def test_a_decoder_finds_the_closest_of_all_segments(tmp_path, order, bits):
    """No cells against all segments. Orders 3 and 4 with 8-bit codes are more than the solver can do in minutes; those
    are tried on all inputs."""
    parameters = {"ORDER": order, "CODE": bits, "OUT": bits + order, "RADIUS": 1 << bits - order - 1}
    assert equivalent("hilbert_decode", ["other_hilbert"], tmp_path, parameters, seconds=200) == "proved"


def test_a_guided_decoder_of_4_bits_finds_the_best_of_all_segments(tmp_path):
    parameters = {"ORDER": 1, "CODE": 4, "OUT": 5, "WINDOW": 3, "WEIGHT": 1, "RADIUS": 2}
    assert equivalent("hilbert_scan", ["other_scan"], tmp_path, parameters) == "proved"


def test_a_register_with_valid_and_ready_for_ever(tmp_path):
    assert equivalent("elastic", ["other_elastic"], tmp_path, {"W": 5}, steps=2) == "proved"


@pytest.mark.parametrize(
    ("order", "bits", "stages"),
    [
        *((3, 6, 4), (2, 5, 2)),
        *(pytest.param(p, 8, s, marks=pytest.mark.slow) for p in (1, 2, 3, 4) for s in (1, 2, 3, 4)),
    ],
)
def test_registers_in_a_decoder_change_nothing_for_ever(tmp_path, order, bits, stages):
    """By induction, however long anything is stalled; that its registers lose nothing is proved above."""
    parameters = {"ORDER": order, "CODE": bits, "STAGES": stages}
    assert always("other_pipeline", "hilbert_decode", tmp_path, parameters, 200) == "proved"


BESIDE_REGISTERS = {
    "none": (".ON(STAGES >= 3 ? 1 : 0)", ".ON(0)"),
    "passed by": ("square(to_y), from_x[G-1:0]", "square(to_y), x[G-1:0]"),
}


@pytest.mark.parametrize("name", BESIDE_REGISTERS)
def test_a_register_that_is_passed_by_is_refuted(tmp_path, name):
    old, new = BESIDE_REGISTERS[name]
    text = source("hilbert_decode")
    assert text.count(old) == 1
    texts = {"hilbert_decode.sv": text.replace(old, new)}
    parameters = {"ORDER": 2, "CODE": 5, "STAGES": 4}
    assert always("other_pipeline", "hilbert_decode", tmp_path, parameters, texts=texts) == "refuted"


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
    "window edge": ("hilbert_scan", ["other_scan"], {"ORDER": 1, "CODE": 4, "OUT": 5, "WINDOW": 3, "WEIGHT": 1}, None),
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
    assert always("other_dot", "dot", tmp_path, NARROW | CHAINS[name], 300, cycles=8) == "proved"


def test_lanes_in_another_order_are_refuted(tmp_path):
    fault = FAULTS["lane order"]
    text = {f"{fault.module}.sv": fault.planted(source(fault.module))}
    assert always("other_dot", "dot", tmp_path, NARROW | CHAINS["two lanes"], texts=text, cycles=8) == "refuted"
