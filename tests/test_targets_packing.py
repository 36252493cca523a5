"""The grammar of lanes, packed multipliers and TOSA's requantizer: what is read, drawn and refused."""

import pytest

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing
from intsim.arithmetic.requantizers.tosa import Tosa
from intsim.errors import IntsimError
from intsim.targets import Target

PACKED = """
title = "A machine"
source = ["its manual"]
notes = ["what it is not"]

[accumulate]
stages = [
  { sum = 8, bits = 11, overflow = "wrap" },
  { sum = 3, bits = 16, overflow = "saturate", lanes = 4 },
  { sum = "rest", bits = 32, overflow = "wrap" },
]

[accumulate.packing]
channels = [0, 11]
pixels = [0, 22]
bits = 48
correction = "borrow"

[requantize]
scheme = "tosa"
double_rounding = true
"""


def test_lanes_packing_and_tosa():
    target = Target.from_toml(PACKED)
    assert target.stages == (Stage(8, 11, "wrap"), Stage(3, 16, "saturate", 4), Stage(None, 32, "wrap"))
    assert target.registers.packing == Packing((0, 11), (0, 22), 48, "borrow")
    assert target.requantize == Tosa(32, None, True)
    assert target.notes == ("what it is not",)
    assert Target.from_toml(PACKED.replace("pixels = [0, 22]", "")).registers.packing.pixels == (0,)
    narrow = Target.from_toml(PACKED.replace("double_rounding = true", "multiplier_bits = 16"))
    assert narrow.requantize == Tosa(16, None, False)
    written = Target.from_toml(PACKED.replace('"tosa"', '"tosa"\nmultiplier_bits = 32'))
    assert written == target  # the default is the same as the number written out


def test_equal_by_lanes_packing_and_notes():
    packed = Target.from_toml(PACKED)
    for old, new in (("lanes = 4", "lanes = 5"), ("[0, 22]", "[0, 23]"), ('"borrow"', '"none"'), ('not"', 'too"')):
        assert Target.from_toml(PACKED.replace(old, new)) != packed


PACKED_ERRORS = [
    (
        "channels = [0, 11]",
        "",
        "accumulate.packing.channels is missing; allowed: a list of ascending bit offsets 0..63",
    ),
    ("[0, 11]", "[1, 11]", "accumulate.packing.channels is [1, 11]; allowed: a list of ascending bit offsets 0..63"),
    ("[0, 11]", "[0, 11, 11]", "accumulate.packing.channels is [0, 11, 11]; allowed"),
    ("[0, 11]", "[0, -1]", "accumulate.packing.channels is [0, -1]; allowed"),
    ("[0, 11]", "[0, 64]", "accumulate.packing.channels is [0, 64]; allowed"),
    ("[0, 11]", "[0, 11.0]", "accumulate.packing.channels is [0, 11.0]; allowed"),
    ("[0, 11]", "[0, true]", "accumulate.packing.channels is [0, True]; allowed"),
    ("[0, 11]", "[]", "accumulate.packing.channels is []; allowed"),
    ("[0, 11]", "11", "accumulate.packing.channels is 11; allowed"),
    ("[0, 22]", "[22]", "accumulate.packing.pixels is [22]; allowed: a list of ascending bit offsets 0..63"),
    ("[0, 22]", "[0, 12]", "accumulate.packing fields of widths [11, 1, 11, 25] bits; each needs 2 or more"),
    ("[0, 22]", "[0, 46]", "accumulate.packing fields of widths [11, 35, 11, -9] bits; each needs 2 or more"),
    ("bits = 48", "bits = 1", "accumulate.packing.bits is 1; allowed: 2..64"),
    ("bits = 48", "bits = 65", "accumulate.packing.bits is 65; allowed: 2..64"),
    ("bits = 48", "", "accumulate.packing.bits is missing; allowed: 2..64"),
    ('"borrow"', '"carry"', 'accumulate.packing.correction is \'carry\'; allowed: "none", "borrow"'),
    ('correction = "borrow"', "", 'accumulate.packing.correction is missing; allowed: "none", "borrow"'),
    ("bits = 48", "bits = 48\nguard = 3", "unknown key accumulate.packing.guard; allowed: channels, pixels, bits"),
    (
        "bits = 11",
        "bits = 12",
        "accumulate.stages, stage 1: bits is 12; the narrowest field of the packing has 11 bits",
    ),
    (
        '11, overflow = "wrap"',
        '11, overflow = "saturate"',
        'accumulate.stages, stage 1: overflow is "saturate"; with packing',
    ),
    (
        "bits = 11",
        "bits = 11, lanes = 2",
        "accumulate.stages, stage 1: lanes is 2; with packing the first stage has one",
    ),
    ("true", "true\nmultiplier_bits = 16", 'requantize.double_rounding is true; scheme "tosa" allows it with multi'),
    ("true", "false\nmultiplier_bits = 24", 'requantize.multiplier_bits is 24; allowed for scheme "tosa": 16, 32'),
    ("true", "false\nmultiplier_bits = 3", "requantize.multiplier_bits is 3; allowed: 4..32"),
    ("true", 'true\nrounding = "half_up"', 'requantize.rounding is given, but scheme "tosa" fixes it; remove it'),
    ('"tosa"', '"exact"', 'requantize.double_rounding is for schemes "fixed-point", "litert-add", '),
]


@pytest.mark.parametrize(("old", "new", "message"), PACKED_ERRORS)
def test_errors_of_packing_and_tosa(tmp_path, old, new, message):
    assert old in PACKED
    file = tmp_path / "mine.toml"
    file.write_text(PACKED.replace(old, new, 1))
    with pytest.raises(IntsimError) as error:
        Target.load(file)
    assert str(error.value).startswith(f"target {file}: {message}")
    assert str(error.value).isprintable()


def test_packing_needs_a_stage_after_it():
    head, _, tail = PACKED.partition("stages = [")
    for stages, count in (("[]", 0), ('[{ sum = "rest", bits = 11, overflow = "wrap" }]', 1)):
        text = head + f"stages = {stages}" + tail[tail.index("\n]\n") + 2 :]
        with pytest.raises(IntsimError, match=f"accumulate.packing needs a stage .* there are {count} stages"):
            Target.from_toml(text)


def test_describe_lanes_and_packed_fields():
    lines = Target.from_toml(PACKED).describe().splitlines()
    assert lines[3:7] == [
        "packing     2 channels x 2 pixels share a multiplier; their sums lie in one 48-bit register",
        "            47           33         22         11          0",
        "            [    c1 p1    ][  c0 p1  ][  c1 p0  ][  c0 p0  ]",
        "            each field gets the bit below it, which repays the 1 that a negative lower field borrowed",
    ]
    assert lines[8:15] == [
        "registers   products",
        "              |  8 at a time",
        "              +--> [11 bits, wrap]  -1024..1023",
        "              |  in turn to 4 lanes, 3 to each",
        "              +--> 4 x [16 bits, saturate]  -32768..32767",
        "              |  the rest",
        "              +--> [32 bits, wrap]  -2147483648..2147483647",
    ]
    assert "requantize  tosa: apply_scale_32, 32-bit multiplier and shift; two roundings where" in "\n".join(lines)
    assert "notes       what it is not" in lines
    narrow = PACKED.replace("[0, 11]", "[0, 2, 4, 7]").replace("pixels = [0, 22]", "").replace("bits = 48", "bits = 10")
    ruler = Target.from_toml(narrow.replace("bits = 11", "bits = 2")).describe().splitlines()[4:6]
    assert ruler == ["            9 7  4 2 0", "            [ ][ ][][]"]
