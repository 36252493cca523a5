"""Assertions for users' tests: they hold where verbs say so; what fails names layer, width and remedy in few lines."""

import os
import tomllib
from pathlib import Path

import onnx
import pytest
from golden.networks import mixed

import intsim
from intsim.assertions import assert_certified, assert_exact, assert_no_overflow

pytest_plugins = "pytester"
ROOT = Path(__file__).resolve().parent.parent
MODEL = intsim.load(mixed(scale=2.0))
MOST_LINES = 15


def failure(assertion, *arguments, **named) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        assertion(MODEL, *arguments, **named)
    lines = str(raised.value).split("\n")
    assert len(lines) <= MOST_LINES - 8  # that pytest writes around them
    if assertion is not assert_certified:  # which says most, in lines that are not wrapped
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
from intsim.assertions import assert_certified, assert_exact, assert_no_overflow

def test_proof():
    assert_no_overflow('m.onnx', 'wrap-12')

def test_samples():
    assert_no_overflow('m.onnx', 'wrap-12', samples=2)

def test_exact():
    assert_exact('m.onnx', 'wrap-12', samples=2)

def test_certified():
    assert_certified('m.onnx', 'saturate-12')

def test_own():
    assert [1] == [2], "mine"
"""


@pytest.fixture
def mine(pytester, monkeypatch):
    """A user's tests, where intsim is installed: with the entry points that pyproject.toml says."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    info = pytester.mkdir("installed") / "planted-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1\n")
    lines = [f"{name} = {module}" for name, module in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]) + "\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(info.parent), str(ROOT)]))
    onnx.save(mixed(scale=2.0), pytester.path / "m.onnx")
    pytester.makepyfile(test_mine=TEST)
    return lambda *options: pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *options)


@pytest.mark.parametrize(
    "name", ["proof", "certified", *(pytest.param(n, marks=pytest.mark.slow) for n in ("samples", "exact"))]
)
@pytest.mark.parametrize("ci", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_failure_takes_fifteen_lines(mine, monkeypatch, name, ci):
    """All that pytest prints is counted. Layer, width and remedy are in it, intsim's own frames are not."""
    for variable in ("CI", "BUILD_NUMBER"):  # by which pytest knows that it prints to a log, and shortens nothing
        monkeypatch.delenv(variable, raising=False)
    if ci:
        monkeypatch.setenv("CI", "true")
    done = mine(f"test_mine.py::test_{name}")
    done.assert_outcomes(failed=1)
    lines = [line for line in done.outlines if line.strip()]
    assert len(lines) <= MOST_LINES, "\n".join(lines)
    text = "\n".join(lines)
    assert f"test_mine.py:{TEST[: TEST.index(f'test_{name}')].count(chr(10)) + 2}: in test_{name}" in text
    assert f"    assert_{dict(proof='no_overflow', samples='no_overflow').get(name, name)}('m.onnx'" in text
    assert "E   AssertionError: m.onnx on " in text
    assert "12 bits" in text or "12-bit" in text or "stage 1" in text
    assert "next: widen stage 1 from 12 to" in text
    assert "intsim bounds m.onnx -t " in text
    assert "assertions.py" not in text


def test_others_failures_stay_as_they_are(mine):
    done = mine("test_mine.py::test_own")
    assert any("def test_own():" in line for line in done.outlines)
    assert ">       assert [1] == [2]" in "\n".join(done.outlines)


@pytest.mark.slow
def test_a_style_that_is_asked_for_is_kept(mine):
    done = mine("test_mine.py::test_proof", "--tb=long")
    assert any("def test_proof():" in line for line in done.outlines)
    without = mine("test_mine.py::test_proof", "-p", "no:intsim.pytest_plugin")
    assert any("def test_proof():" in line for line in without.outlines)
