import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.targets import Target, library

FOLDER = Path(__file__).parent.parent / "hardware" / "targets"
BUILT_IN = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem[-2:-1] != "-" or path.stem[-1].isdigit())
TEXT = """
title = "A machine"
source = ["its manual"]

[operands]
activation = "u8"
weight = "s8"

[accumulate]
order = "cin kh kw"
stages = [
  { sum = 2, bits = 16, overflow = "saturate" },
  { sum = "rest", bits = 32, overflow = "wrap" },
]
bias = "preload"

[requantize]
scheme = "fixed-point"
multiplier_bits = 16
rounding = "half_up"
double_rounding = false
"""


def test_built_in_names():
    assert list(Target.names()) == BUILT_IN
    assert {"exact", "cpu-int32", "x86-avx2", "x86-vnni", "dsp48e2", "dsp-40"} <= set(BUILT_IN)
    assert "wrap-N" not in BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_files(name):
    target = Target.load(name)
    assert target.name == name
    assert target == Target.load(FOLDER / f"{name}.toml")
    assert all(target.source)
    written = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    assert [(s.sum or "rest", s.bits, s.overflow) for s in target.stages] == [
        (s["sum"], s["bits"], s["overflow"]) for s in written["accumulate"]["stages"]
    ]
    assert [s.lanes for s in target.stages] == [s.get("lanes", 1) for s in written["accumulate"]["stages"]]
    assert ("packing" in written["accumulate"]) == (target.registers.packing is not None)
    accumulate(np.arange(20), target.stages)  # the definition takes every built-in list


def test_what_the_files_say():
    assert Target.load("exact").stages == ()
    assert Target.load("exact").requantize.scheme == "exact"
    tflite = Target.load("cpu-int32")
    assert tflite.stages == (Stage(None, 32, "wrap"),)
    assert (tflite.requantize.multiplier_bits, tflite.requantize.double_rounding) == (32, True)
    assert tflite.operands is None
    avx2 = Target.load("x86-avx2")
    assert avx2.stages == (Stage(2, 16, "saturate"), Stage(2, 32, "wrap"), Stage(None, 32, "wrap"))
    assert accumulate([255 * 127] * 2, avx2.stages)[0] == 32767
    vnni = Target.load("x86-vnni")
    assert accumulate([255 * 127] * 2, vnni.stages)[0] == 64770
    assert (vnni.operands.activation, vnni.operands.weight) == (IntegerType(8, False), IntegerType(8, True))
    assert Target.load("dsp48e2").stages == (Stage(None, 48, "wrap"),)
    dsp = Target.load("dsp-40")
    assert dsp.stages == (Stage(None, 40, "wrap"), Stage(None, 32, "saturate"))
    assert accumulate([(1 << 31) - 1] * 256, dsp.stages)[1].tolist() == [0, 1]  # 8 guard bits, then the store


def test_typed_and_frozen():
    target = Target.from_toml(TEXT, name="mine")
    assert target.name == "mine"
    assert target.source == ("its manual",)
    assert target.operands.weight == IntegerType(8, True)
    assert target.accumulate.order == ("cin", "kh", "kw")
    assert target.accumulate.bias == "preload"
    assert target.stages == (Stage(2, 16, "saturate"), Stage(None, 32, "wrap"))
    assert target.requantize.rounding is Rounding.HALF_UP
    assert target.requantize.multiplier_bits == 16
    assert target.notes == ()
    assert target.registers.packing is None
    for attribute in ("title", "accumulate"):
        with pytest.raises(ValidationError):
            setattr(target, attribute, None)
    with pytest.raises(ValidationError):
        target.accumulate.bias = "after"


def test_defaults():
    target = Target.from_toml(
        'title = "t"\nsource = ["s"]\n[accumulate]\nstages = []\n[requantize]\nscheme = "thresholds"\n'
    )
    assert target.operands is None
    assert target.accumulate.order == ("kh", "kw", "cin")
    assert target.accumulate.bias == "after"
    assert target.requantize.rounding is None
    assert not target.requantize.double_rounding


def test_equal_and_hashed_by_content():
    one, two = Target.from_toml(TEXT, name="one"), Target.from_toml(TEXT + "\n# a comment", name="two")
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two, Target.load("exact")}) == 2
    for old, new in (
        ("16, overflow", "17, overflow"),
        ('"preload"', '"after"'),
        ("A machine", "Another"),
        ("u8", "s8"),
    ):
        other = Target.from_toml(TEXT.replace(old, new), name="one")
        assert one != other
    assert one != "one"


ERRORS = [
    ("bits = 16", "bits = 65", "accumulate.stages, stage 1: bits is 65; allowed: 1..64"),
    ("bits = 16", "bits = 0", "accumulate.stages, stage 1: bits is 0; allowed: 1..64"),
    ("bits = 16", 'bits = "16"', "accumulate.stages, stage 1: bits is '16'; allowed: 1..64"),
    ("bits = 16, ", "", "accumulate.stages, stage 1: bits is missing; allowed: 1..64"),
    ('"saturate"', '"clamp"', 'accumulate.stages, stage 1: overflow is \'clamp\'; allowed: "wrap", "saturate"'),
    ("sum = 2", "sum = 0", 'accumulate.stages, stage 1: sum is 0; allowed: 1..2147483647 or "rest"'),
    ("sum = 2", "sum = -1", "accumulate.stages, stage 1: sum is -1; allowed"),
    ("sum = 2", "sum = 2.0", "accumulate.stages, stage 1: sum is 2.0; allowed"),
    ("sum = 2", "sum = true", "accumulate.stages, stage 1: sum is True; allowed"),
    ("sum = 2", 'sum = "all"', "accumulate.stages, stage 1: sum is 'all'; allowed"),
    ("sum = 2", f"sum = {10**30}", "accumulate.stages, stage 1: sum is 10000000"),
    ("sum = 2", 'sum = "rest"', None),
    ('sum = "rest"', "sum = 4", 'accumulate.stages, stage 2: sum is 4; the last stage must be "rest"'),
    (
        "bits = 16",
        "bits = 16, guard = 8",
        "unknown key accumulate.stages, stage 1: guard; allowed: sum, bits, overflow, lanes",
    ),
    ("{ sum = 2, bits = 16, ", "3, { bits = 16, ", "accumulate.stages, stage 1 is 3; allowed: a table"),
    ("{ sum = 2, ", "{ sum = 2 }, " * 17 + "{ sum = 2, ", "accumulate.stages is [{'sum': 2}, {'sum': 2}"),
    (
        'bias = "preload"',
        'bias = "before"',
        'accumulate.bias is \'before\'; allowed: "after", "preload", "requantizer"',
    ),
    (
        'bias = "preload"',
        'bias = "requantizer"',
        'accumulate.bias is "requantizer", but scheme "fixed-point" takes no bias; allowed with schemes "exact", ',
    ),
    ("cin kh kw", "kh kw", "accumulate.order is 'kh kw'; allowed: a permutation of \"kh kw cin\""),
    ("cin kh kw", "kh kw kw", "accumulate.order is 'kh kw kw'"),
    ('"cin kh kw"', "3", "accumulate.order is 3"),
    ('"u8"', '"f8"', 'operands.activation is \'f8\'; allowed: "s" or "u" and 1..32 bits, e.g. "u8"'),
    ('"u8"', '"u33"', "operands.activation is 'u33'"),
    ('"u8"', '"u0"', "operands.activation is 'u0'"),
    ('"u8"', '"u08"', "operands.activation is 'u08'"),
    ('"u8"', '"u٨"', "operands.activation is 'u٨'"),
    ('"s8"', "8", "operands.weight is 8"),
    ('activation = "u8"', "", "operands.activation is missing"),
    (
        "[operands]",
        "[operand]",
        "unknown key operand; allowed: title, source, notes, runtime, operands, accumulate, requantize, others, when",
    ),
    ("[requantize]", "[requantise]", "requantize is missing; allowed: a table"),
    ('"fixed-point"', '"fixed"', 'requantize.scheme is \'fixed\'; allowed: "exact", "fbgemm", "fixed-point"'),
    ("multiplier_bits = 16", "multiplier_bits = 33", "requantize.multiplier_bits is 33; allowed: 4..32"),
    ("multiplier_bits = 16", "multiplier_bits = 3", "requantize.multiplier_bits is 3; allowed: 4..32"),
    ("multiplier_bits = 16", "", 'requantize.multiplier_bits is missing for scheme "fixed-point"; allowed: 4..32'),
    ('rounding = "half_up"', "", 'requantize.rounding is missing for scheme "fixed-point"; allowed: "half_even"'),
    ('"half_up"', '"nearest"', 'requantize.rounding is \'nearest\'; allowed: "half_even", "half_away"'),
    ("double_rounding = false", "double_rounding = 1", "requantize.double_rounding is 1; allowed: true, false"),
    ("double_rounding = false", "double_rounding = true", "requantize.rounding is given, but double_rounding = true"),
    (
        '"fixed-point"',
        '"exact"',
        'requantize.multiplier_bits is for schemes "fixed-point" and "tosa" only, not "exact"',
    ),
    ('"fixed-point"', '"tosa"', 'requantize.rounding is given, but scheme "tosa" fixes it; remove it'),
    ("bits = 16", "bits = 16, lanes = 0", "accumulate.stages, stage 1: lanes is 0; allowed: 1..1024"),
    ("bits = 16", "bits = 16, lanes = 1025", "accumulate.stages, stage 1: lanes is 1025; allowed: 1..1024"),
    ("bits = 16", 'bits = 16, lanes = "8"', "accumulate.stages, stage 1: lanes is '8'; allowed: 1..1024"),
    ("bits = 16", "bits = 16, lanes = true", "accumulate.stages, stage 1: lanes is True; allowed: 1..1024"),
    ("bits = 32", "bits = 32, lanes = 2", "accumulate.stages, stage 2: lanes is 2; the last stage has one register"),
    ('bias = "preload"', "packing = 3", "accumulate.packing is 3; allowed: a table"),
    ('title = "A', 'notes = "x"\ntitle = "A', "notes is 'x'; allowed: a list of printable lines of text"),
    ('title = "A', 'notes = ["a\\u001b"]\ntitle = "A', "notes[0] is 'a\\x1b'"),
    ('title = "A', 'family = { N = [1, 2] }\ntitle = "A', "family: the file of a family is called NAME-N.toml"),
    ('title = "A machine"', "", "title is missing; allowed: one printable line of text"),
    ('"A machine"', '""', "title is ''; allowed: one printable line of text"),
    ('"A machine"', '"A\\u001b[31m machine"', "title is 'A\\x1b[31m machine'; allowed: one printable line"),
    ('["its manual"]', "[]", "source is []; allowed: a list of one or more"),
    ('["its manual"]', '"its manual"', "source is 'its manual'; allowed: a list of one or more"),
    ('["its manual"]', "[3]", "source[0] is 3"),
    ('title = "A', 'name = "x"\ntitle = "A', "unknown key name; the file name is the target's name"),
    ('title = "A', '"a\\nb" = 1\ntitle = "A', "unknown key 'a\\nb'"),
    ("bits = 16,", "bits = ,", "not TOML: "),
    ("[accumulate]", "accumulate = 3\n[other]", None),
]


@pytest.mark.parametrize(("old", "new", "message"), ERRORS)
def test_errors_are_one_line_that_name_file_key_and_choice(tmp_path, old, new, message):
    assert old in TEXT
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    if (old, new) == ("sum = 2", 'sum = "rest"'):
        Target.load(file)  # two stages of "rest": the second sees one value
        return
    with pytest.raises(IntsimError) as error:
        Target.load(file)
    text = str(error.value)
    assert text.startswith(f"target {file}: ")
    assert message is None or message in text
    assert text.isprintable()
    assert len(text) < 500


def test_a_group_after_rest():
    with pytest.raises(
        IntsimError, match=r'accumulate.stages, stage 2: sum is 2 after a "rest" stage; allowed: "rest"'
    ):
        Target.from_toml(TEXT.replace("sum = 2", 'sum = "rest"').replace('"rest", bits = 32', "2, bits = 32"))


@pytest.mark.parametrize("scheme", ["exact", "thresholds", "float32"])
def test_schemes_that_take_no_rounding(scheme):
    head = TEXT[: TEXT.index("[requantize]")]
    assert Target.from_toml(head + f'[requantize]\nscheme = "{scheme}"\n').requantize.scheme == scheme
    with pytest.raises(IntsimError, match=f'rounding is given, but scheme "{scheme}" fixes it'):
        Target.from_toml(head + f'[requantize]\nscheme = "{scheme}"\nrounding = "floor"\n')
    with pytest.raises(
        IntsimError, match=r'double_rounding is for schemes "fixed-point", .*"litert-add", .*and "tosa" only'
    ):
        Target.from_toml(head + f'[requantize]\nscheme = "{scheme}"\ndouble_rounding = true\n')


@pytest.mark.parametrize("mode", list(Rounding))
def test_shift_takes_every_rounding(mode):
    head = TEXT[: TEXT.index("[requantize]")]
    assert Target.from_toml(head + f'[requantize]\nscheme = "shift"\nrounding = "{mode}"\n').requantize.rounding is mode
    with pytest.raises(IntsimError, match='rounding is missing for scheme "shift"'):
        Target.from_toml(head + '[requantize]\nscheme = "shift"\n')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"#" * 70000, "larger than 65536 bytes"),
        (b"a = " + b"[" * 5000, "TOML"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(IntsimError, match=message) as error:
        Target.load(file)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(
        IntsimError, match=r"unknown target 'zx'; built in: .*x86-avx2, .*families: .*wrap-N \(4\.\.64\)"
    ):
        Target.load("zx")
    with pytest.raises(IntsimError, match="No such file"):
        Target.load(tmp_path / "none.toml")
    with pytest.raises(IntsimError, match="directory"):
        Target.load(f"{tmp_path}/")
    with pytest.raises(IntsimError, match="null"):
        Target.load("a\0.toml")


def test_installed_files_come_first(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(TEXT)
    monkeypatch.setattr(library, "INSTALLED", tmp_path)
    assert Target.names() == ("mine",)
    assert Target.load("mine").title == "A machine"
    assert Target.families() == ()
    with pytest.raises(IntsimError, match=r"unknown target 'x'; built in: mine; or give a .toml file"):
        Target.load("x")


@pytest.mark.parametrize("name", BUILT_IN)
def test_describe(name):
    target = Target.load(name)
    text = target.describe()
    assert text.startswith(f"{name}: {target.title}\n")
    for stage in target.stages:
        assert f"[{stage.bits} bits, {stage.overflow}]  {stage.min}..{stage.max}" in text
    assert all(line in text for line in (*target.source, *target.notes))
    assert all(line.isprintable() for line in text.splitlines())
    assert text.isascii()


def test_describe_a_custom_target():
    assert Target.from_toml(TEXT, name="mine").describe().splitlines() == [
        "mine: A machine",
        "",
        "multiplier  UINT8 activation x INT8 weight",
        "order       cin kh kw, the last one fastest",
        "registers   products",
        "              |  2 at a time",
        "              +--> [16 bits, saturate]  -32768..32767",
        "              |  the rest",
        "              +--> [32 bits, wrap]  -2147483648..2147483647",
        "bias        preloaded: the last register starts at it",
        "requantize  fixed-point: 16-bit multiplier and shift; full product, shifted, rounded half_up once",
        "source      its manual",
    ]


def test_finn_has_no_bias_adder():
    assert "bias        in the requantizer: no register holds it" in Target.load("finn-mvau").describe()


@given(st.text(max_size=60), st.integers(0, len(TEXT)))
def test_garbage_is_refused_in_one_line(garbage, position):
    message = ""
    try:
        Target.from_toml(TEXT[:position] + garbage + TEXT[position:])
    except IntsimError as error:
        message = str(error)
    assert message == "" or message.isprintable()
