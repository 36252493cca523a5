"""The built-in library: what every file says, families of targets, and names that are not there."""

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError
from intsim.targets import Family, Target, library

# operands | packing | registers (values a lane: lanes x bits, wrap or saturate) | bias | requantizer
SAYS = {
    "arm-neon-int8": "s8 s8 | | 2:8x16w 2:32w rest:4x32w rest:32w | after | exact",
    "arm-sdot": "s8 s8 | | 4:32w rest:32w | after | exact",
    "arm-udot": "u8 u8 | | 4:32w rest:32w | after | exact",
    "arm-usdot": "u8 s8 | | 4:32w rest:32w | after | exact",
    "a2q-16": "any | | rest:16w rest:32w | after | exact",
    "axe-16": "any | | 128:16w rest:32w | after | exact",
    "cmsis-nn": "any | | rest:32w | preload | fixed-point 32 double",
    "cmsis-nn-single": "any | | rest:32w | preload | fixed-point 32 half_up",
    "cortex-m-smlad": "any | | 2:33w rest:32w | preload | fixed-point 32 double",
    "cortex-m-smlad-single": "any | | 2:33w rest:32w | preload | fixed-point 32 half_up",
    "cpu-int32": "any | | rest:32w | after | fixed-point 32 double",
    "dsp-40": "any | | rest:40w rest:32s | preload | fixed-point 32 half_up",
    "dsp48e2": "any | | rest:48w | after | exact",
    "dsp48e2-int4": "u4 s4 | 0,11 x 0,22 in 48 borrow | 8:11w rest:32w | after | exact",
    "dsp48e2-int4-raw": "u4 s4 | 0,11 x 0,22 in 48 none | 8:11w rest:32w | after | exact",
    "dsp48e2-int8": "s8 s8 | 0,18 x 0 in 48 borrow | 7:18w rest:32w | after | exact",
    "dsp48e2-int8-raw": "s8 s8 | 0,18 x 0 in 48 none | 7:18w rest:32w | after | exact",
    "exact": "any | | | after | exact",
    "fbgemm-acc16": "u8 s8 | | 2:16s 128:16s rest:32w | after | float32",
    "fbgemm-avx2": "u8 s8 | | 2:16s 2:32w rest:32w | requantizer | fbgemm",
    "fbgemm-vnni": "u8 s8 | | 4:32w rest:32w | requantizer | fbgemm",
    "finn-mvau": "any | | rest:32w | requantizer | thresholds",
    "fixed-point-12": "any | | rest:32w | after | fixed-point 12 half_up",
    "hexagon-hvx": "u8 s8 | | 4:32w rest:32w | after | exact",
    "hls4ml-16": "any | | 1:16w rest:16w | preload | exact",
    "hls4ml-saturate-16": "any | | 1:16s rest:16s | preload | exact",
    "hifi-56": "any | | rest:56w rest:32s | preload | exact",
    "litert-reference": "any | | rest:32w | after | fixed-point 32 double",
    "litert-ruy": "any | | rest:32w | after | ruy",
    "onednn-avx2": "u8 s8 | | 2:16s 2:32w rest:32w | requantizer | onednn",
    "onednn-vnni": "u8 s8 | | 4:32w rest:32w | requantizer | onednn",
    "onnxruntime-avx2": "u8 s8 | | 2:16s 2:32w rest:32w | after | float32",
    "onnxruntime-vnni": "u8 s8 | | 4:32w rest:32w | after | float32",
    "qnnpack": "any | | rest:32w | requantizer | qnnpack",
    "rtl-shift": "any | | rest:32w | preload | shift half_up",
    "ruy-neon": "s8 s8 | | 2:8x16w 2:32w rest:4x32w rest:32w | after | ruy",
    "saturate-16": "any | | rest:16s | after | exact",
    "tflite-single": "any | | rest:32w | after | fixed-point 32 half_up",
    "tosa": "any | | rest:32w | after | tosa 32",
    "tosa-double": "any | | rest:32w | after | tosa 32 double",
    "tosa-int16": "any | | rest:48w | after | tosa 16",
    "wrap-16": "any | | rest:16w | after | exact",
    "wrapnet-8": "any | | rest:8w | after | exact",
    "x86-avx2": "u8 s8 | | 2:16s 2:32w rest:32w | after | exact",
    "x86-avx512": "u8 s8 | | 2:16s 2:32w rest:32w | after | exact",
    "x86-vnni": "u8 s8 | | 4:32w rest:32w | after | exact",
    "x86-vnni-saturating": "u8 s8 | | 4:32w rest:32s | after | exact",
    "xnnpack": "any | | rest:32w | after | float32",
}
FAMILIES = [
    "a2q-N (4..32)",
    "axe-N (8..32)",
    "fixed-point-M (4..32)",
    "hls4ml-N (2..48)",
    "hls4ml-saturate-N (2..48)",
    "saturate-N (4..64)",
    "wrap-N (4..64)",
    "wrapnet-N (8..16)",
]
OWN = """
title = "$N bits and $N more"
source = ["by hand"]
[family]
N = [3, 5]
[accumulate]
stages = [{ sum = "rest", bits = $N, overflow = "wrap" }]
[requantize]
scheme = "exact"
"""


def says(target: Target) -> str:
    """The target's registers and form, in the words of `SAYS`."""
    path, form = target.registers, target.requantize
    kinds = [f"{'s' if t.signed else 'u'}{t.bits}" for t in (path.activation, path.weight) if t is not None]
    packed = ""
    if path.packing is not None:
        sides = (",".join(map(str, side)) for side in (path.packing.channels, path.packing.pixels))
        packed = f"{' x '.join(sides)} in {path.packing.bits} {path.packing.correction}"
    stages = [f"{s.sum or 'rest'}:{f'{s.lanes}x' if s.lanes > 1 else ''}{s.bits}{s.overflow[0]}" for s in path.stages]
    how = [form.scheme, form.multiplier_bits, form.rounding, "double" if form.double_rounding else None]
    parts = (
        " ".join(kinds) or "any",
        packed,
        " ".join(stages),
        path.bias,
        " ".join(str(h) for h in how if h),
    )
    return " | ".join(parts).replace("  ", " ")


@pytest.mark.parametrize("name", SAYS)
def test_what_every_file_says(name):
    target = Target.load(name)
    assert says(target) == SAYS[name]
    assert target.registers.order == ("kh", "kw", "cin")
    assert target.name == name


def test_every_file_is_in_the_table():
    members = {n for n in SAYS if n not in Target.names()}
    assert {n for n in SAYS if n in Target.names()} == set(Target.names())
    assert {m.rsplit("-", 1)[0] for m in members} == {f.name.rsplit("-", 1)[0] for f in Target.families()}


def test_the_page_names_every_target():
    page = (library.PACKAGE.parent / "docs" / "targets.md").read_text()
    for name in Target.names():
        assert f"`{name}`" in page, name
    for family in Target.families():
        assert f"| `{family.name}`, {family.low}..{family.high} |" in page, family
    assert f"{len(Target.names())} machines and {len(Target.families())} families" in page


def test_families():
    found = Target.families()
    assert [str(f) for f in found] == FAMILIES
    wrap = next(f for f in found if f.name == "wrap-N")
    assert wrap == Family("wrap-N", 4, 64, "N-bit accumulator that wraps")
    assert wrap.member(12) == "wrap-12"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_member_of_a_family(family):
    (found,) = (f for f in Target.families() if str(f) == family)
    seen = set()
    for number in range(found.low, found.high + 1):
        target = Target.load(found.member(number))
        seen.add(target)
        assert target.title == re.sub(rf"\b{found.name[-1]}(?=-bit| bits)", str(number), found.title)
        assert number in (target.stages[0].bits, target.requantize.multiplier_bits)
        assert "$" not in target.describe()
        assert target.describe().startswith(f"{found.member(number)}: ")
    assert len(seen) == found.high - found.low + 1
    for outside in (found.low - 1, found.high + 1):
        with pytest.raises(IntsimError) as error:
            Target.load(found.member(outside))
        letter = found.name[-1]
        assert str(error.value) == (
            f"target {found.member(outside)}: {letter} is {outside}; allowed: {found.low}..{found.high}"
        )


@pytest.mark.parametrize("name", [*Target.names(), "wrap-16"])
def test_round_trip(name):
    """What a target dumps is a target: the same registers, form and words."""
    target = Target.load(name)
    dumped = target.model_dump(mode="json", exclude_none=True)
    assert set(dumped) <= {f for f in Target.model_fields if f != "name"}
    assert Target.from_toml(toml(dumped), name="again") == target


def toml(tables: dict) -> str:
    """A small TOML writer: strings, numbers, booleans, lists, inline tables."""
    return "\n".join(f"{key} = {value(v)}" for key, v in tables.items())


def value(v) -> str:
    if isinstance(v, bool):
        return str(v).lower()
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, list):
        return "[" + ", ".join(map(value, v)) + "]"
    return "{ " + ", ".join(f"{k} = {value(x)}" for k, x in v.items()) + " }" if isinstance(v, dict) else str(v)


def test_the_source_tree_is_what_a_wheel_carries():
    """`pyproject.toml` copies the folder, families included, to where the installed package looks."""
    text = (library.PACKAGE.parent / "pyproject.toml").read_text()
    carried = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert carried["hardware/targets"] == "intsim/_targets"
    assert library.INSTALLED == library.PACKAGE / "_targets"
    assert library.SOURCE_TREE.parts[-2:] == ("hardware", "targets")
    assert all(p.suffix == ".toml" for p in library.SOURCE_TREE.iterdir())


def test_titles_and_sources_fit_a_terminal():
    for name in SAYS:
        target = Target.load(name)
        assert len(target.title) <= 48
        assert all(len(line) <= 120 for line in (*target.source, *target.notes))
        assert len(target.source) >= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x86-avx", "unknown target 'x86-avx'; did you mean x86-avx2? built in: "),
        ("wrap16", "unknown target 'wrap16'; did you mean wrap-16? built in: "),
        ("wrap-016", "unknown target 'wrap-016'; did you mean wrap-16? built in: "),
        ("saturat-12", "unknown target 'saturat-12'; did you mean saturate-12? built in: "),
        ("wrap-", "unknown target 'wrap-'; did you mean wrap-N? built in: "),
        ("wrap-1e1", "unknown target 'wrap-1e1'"),
        ("wrap--4", "unknown target 'wrap--4'"),
        ("wrap-N", "target wrap-N: a family of targets; give a number 4..64 for N"),
        ("quantum", "unknown target 'quantum'; built in: "),
        ("", "unknown target ''; "),
        ("wrap-4\n", "unknown target 'wrap-4\\n'; "),
        ("wrap-12345678", "unknown target 'wrap-12345678'"),
    ],
)
def test_names_that_are_not_there(name, message):
    with pytest.raises(IntsimError) as error:
        Target.load(name)
    text = str(error.value)
    assert text.startswith(message)
    assert text.isprintable()
    if text.startswith("unknown"):
        assert all(known in text for known in (*Target.names(), *FAMILIES))


def test_a_family_of_ones_own(tmp_path):
    (tmp_path / "own-N.toml").write_text(OWN)
    target = Target.load(tmp_path / "own-4.toml")
    assert (target.name, target.title, target.stages[0].bits) == ("own-4", "4 bits and 4 more", 4)
    with pytest.raises(IntsimError, match=r"own-6.toml: N is 6; allowed: 3\.\.5"):
        Target.load(tmp_path / "own-6.toml")
    with pytest.raises(IntsimError, match=r"own-N.toml: a family of targets; give a number 3\.\.5 for N"):
        Target.load(tmp_path / "own-N.toml")
    (tmp_path / "own-6.toml").write_text(OWN.replace("[family]\nN = [3, 5]\n", "").replace("$N", "9"))
    assert Target.load(tmp_path / "own-6.toml").stages[0].bits == 9  # a file of that name comes first
    with pytest.raises(IntsimError, match="No such file"):
        Target.load(tmp_path / "other-4.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[3, 5]", "[5, 3]", "family is {'N': [5, 3]}; allowed: N = [least, greatest] of 0..999999"),
        ("[3, 5]", "[3]", "family is {'N': [3]}; allowed"),
        ("[3, 5]", "[3, 5.0]", "family is {'N': [3, 5.0]}; allowed"),
        ("[3, 5]", "[false, true]", "family is {'N': [False, True]}; allowed"),
        ("[3, 5]", "[3, 1000000]", "family is {'N': [3, 1000000]}; allowed"),
        ("[3, 5]", "[-1, 5]", "family is {'N': [-1, 5]}; allowed"),
        ("N = [3, 5]", "N = [3, 5]\nM = [1, 2]", "family is {'N': [3, 5], 'M': [1, 2]}; allowed"),
        ("N = [3, 5]", "M = [3, 5]", "family is {'M': [3, 5]}; allowed"),
        ("[family]\nN = [3, 5]", "", "family is None; allowed"),
        (
            "$N",
            "4",
            "family is {'N': [3, 5]}; allowed: N = [least, greatest] of 0..999999, and $N where the number goes",
        ),
        ("bits = $N", "bits = $M", "not TOML: "),
        ("bits = $N", "bits = $N0", "accumulate.stages, stage 1: bits is 640; allowed: 1..64"),
        ("[3, 5]", "[3, 65]", "accumulate.stages, stage 1: bits is 65; allowed: 1..64"),
    ],
)
def test_families_that_are_wrong(tmp_path, old, new, message):
    assert old in OWN
    changed = OWN.replace(old, new)
    (tmp_path / "own-N.toml").write_text(changed)
    number = 64 if "640" in message else 65 if "65" in message else 4
    if number == 64:
        (tmp_path / "own-N.toml").write_text(changed.replace("[3, 5]", "[3, 64]"))
    path = tmp_path / f"own-{number}.toml"
    with pytest.raises(IntsimError) as error:
        Target.load(path)
    assert str(error.value).startswith(f"target {path}: {message}")
    assert str(error.value).isprintable()


@given(st.text(max_size=12), st.sampled_from(["wrap-", "saturate-", "x86-", ""]))
def test_any_name_is_a_target_or_a_line(text, head):
    message = ""
    try:
        assert Target.load(head + text).name == head + text
    except IntsimError as error:
        message = str(error)
    assert message == "" or message.isprintable()
    assert len(message) < 1200


def test_the_same_by_path_and_by_name():
    folder = library.SOURCE_TREE
    assert Target.load(folder / "wrap-12.toml") == Target.load("wrap-12")
    assert intsim.Target.load(f"{folder}/dsp-40.toml") == Target.load("dsp-40")
