"""What a target with rules says of itself, and what its content is hashed from."""

import pytest

from intsim.proofs.subject import target_content
from intsim.targets import Target

RULED = [n for n in Target.names() if Target.load(n).when]


@pytest.mark.parametrize("name", RULED)
def test_every_rule_is_described(name):
    target = Target.load(name)
    lines = target.describe().splitlines()
    assert f"predicts    {target.runtime}" in lines
    for number, rule in enumerate(target.when, 1):
        assert f"rule {number} {rule.conditions()}:" in " ".join(" ".join(lines).split())
    cut = next(i for i, line in enumerate(lines) if line.startswith("notes"))
    assert all(len(line) <= 120 for line in lines[:cut])


def test_what_tells_rules_apart_is_said():
    """Three rules of one chain of registers, and padding that makes no products."""
    text = Target.load("onednn-avx2").describe()
    assert "padding     makes no products" in text
    assert "2 at a time, anew at each tap of a kernel" in text
    assert "registers   16s 32w 32w, anew after half of a layer's products" in text
    assert "registers   16s 32w 32w, anew after 384 products" in text


OLD = """
title = "t"
source = ["s"]
[operands]
activation = "u8"
weight = "s8"
[accumulate]
stages = [{ sum = 2, bits = 16, overflow = "saturate" }, { sum = "rest", bits = 32, overflow = "wrap" }]
[requantize]
scheme = "float32"
"""


def test_keys_that_a_file_need_not_have_change_no_hash():
    """Certificates name a target by the hash of its content."""
    content = target_content(Target.from_toml(OLD))["content"]
    stage = {"bits": 16, "lanes": 1, "overflow": "saturate", "sum": 2}
    assert content == {
        "title": "t",
        "source": ["s"],
        "notes": [],
        "operands": {"activation": "u8", "weight": "s8"},
        "accumulate": {
            "order": ["kh", "kw", "cin"],
            "stages": [stage, {**stage, "sum": "rest", "bits": 32, "overflow": "wrap"}],
            "bias": "after",
        },
        "requantize": {"scheme": "float32", "double_rounding": False},
    }


LIBRARIES = ["x86-avx2", "x86-avx512", "x86-vnni", "x86-vnni-saturating", "arm-sdot", "arm-neon-int8", "ruy-neon"]
LIBRARIES += ["cpu-int32", "tflite-single", "cortex-m-smlad", "cortex-m-smlad-single"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_targets_of_instructions_name_those_of_runtimes(name):
    """In one note, as which of them a user wants depends on the library."""
    (note,) = [n for n in Target.load(name).notes if n.startswith("A library's network: ")]
    named = [word.strip(",;.") for word in note.split() if word.strip(",;.") in Target.names()]
    assert named
    assert all(Target.load(n).runtime for n in named)
