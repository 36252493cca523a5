"""Assertions for users' tests: they hold where verbs say so; what fails names layer, width and remedy in few lines."""

import subprocess
import sys

import onnx
import pytest
from golden.networks import mixed

import intsim
from intsim.assertions import assert_certified, assert_exact, assert_no_overflow

MODEL = intsim.load(mixed(scale=2.0))
MOST_LINES = 15


def failure(assertion, *arguments, **named) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        assertion(MODEL, *arguments, **named)
    lines = str(raised.value).split("\n")
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines[:-1])) <= 100  # the last one is a command in one piece
    return lines


def test_what_holds():
    wide = intsim.propose(MODEL, "wrap-32").load()
    for target in ("exact", "wrap-32", wide):
        assert_no_overflow(MODEL, target)
        assert_no_overflow(MODEL, target, samples=2)
        assert_exact(MODEL, target, samples=2, seed=3)
        assert_certified(MODEL, target)


def test_a_register_that_can_overflow():
    proven = intsim.bounds(MODEL, "wrap-12").layers
    lines = failure(assert_no_overflow, "wrap-12")
    first = next(x for x in proven if not x.safe)
    needs = first.stages[0].required_bits
    assert lines[1] == (
        f"{first.name}: stage 1 has 12 bits (wrap) and needs {needs}, {first.stages[0].unsafe_channels} of "
        f"{first.channels} channels can overflow"
    )
    widest = max(x.stages[0].required_bits for x in proven)
    assert f"from 12 to {widest} bits" in " ".join(lines)
    assert lines[-1].split()[:2] == ["intsim", "bounds"]
    assert_no_overflow(MODEL, f"wrap-{widest}")


def test_one_that_does_on_these_inputs():
    found = intsim.verify(MODEL, "saturate-12", samples=2, references=False)
    lines = failure(assert_no_overflow, "saturate-12", samples=2)
    assert f"{found.overflows:,} overflows".replace(",", " ") in lines[0]
    assert "2 samples drawn at random (seed 0)" in " ".join(lines[:2])


def test_the_first_wrong_integer():
    found = intsim.verify(MODEL, "wrap-12", samples=2, references=False)
    at = found.first_divergence
    text = " ".join(failure(assert_exact, "wrap-12", samples=2))
    for word in (
        at["name"],
        f"channel {at['channel']}",
        f"expected {at['expected']}, got {at['got']}",
        "blame: overflow",
    ):
        assert word in text


def test_what_stands_between_and_a_certificate():
    lines = failure(assert_certified, "saturate-12")
    assert "is refuted" in lines[0] or "is open" in lines[0]
    assert any(line.startswith("next: ") for line in lines)


TEST = """\
from intsim.assertions import assert_no_overflow

def test_mine():
    assert_no_overflow('m.onnx', 'wrap-12')
"""


def test_pytest_shows_the_test_and_not_the_assertion(tmp_path):
    onnx.save(mixed(scale=2.0), tmp_path / "m.onnx")
    (tmp_path / "test_mine.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert ">       assert_no_overflow('m.onnx', 'wrap-12')" in done.stdout
    assert "assertions.py" not in done.stdout
