"""A requantizer scheme of the user's own, one file in an installed package, through every verb of the command line."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

ROOT = Path(__file__).resolve().parents[1]
SCHEME = '''
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from intsim.arithmetic.requantizers import Channel, Requantizer
from intsim.errors import IntsimError


@dataclass(frozen=True)
class ShiftAdd(Requantizer):
    """The sum of a few right shifts, each rounded down, of values of 24 bits."""

    terms: int = 2

    scheme: ClassVar[str] = "shift-add"

    def check(self):
        if self.terms not in (1, 2, 3, 4):
            raise IntsimError(f"terms is {self.terms!r}; allowed: 1..4")

    def words(self):
        return f"shift-add: the sum of {self.terms} right shifts"

    def channel(self, scale):
        shifts, rest = [], scale
        for n in range(32):
            if len(shifts) < self.terms and Fraction(1, 1 << n) <= rest:
                shifts.append(n)
                rest -= Fraction(1, 1 << n)
        if not shifts:
            raise IntsimError(f"scale {float(scale):g} is no sum of right shifts by 0 to 31")
        return Channel(scale - rest, (-(1 << 23), (1 << 23) - 1), told={"shift": tuple(shifts)})

    def multiply(self, values, scale):
        channel = self.channel(scale)
        if values.size and (values.min() < channel.limits[0] or values.max() > channel.limits[1]):
            raise IntsimError(f"values {values.min()}..{values.max()} need more than 24 bits")
        return sum(values >> n for n in channel.told["shift"])


class Sure(ShiftAdd):
    exact = True
'''
TARGET = """
title = "shifts and additions"
source = ["this test"]

[accumulate]
stages = [{ sum = "rest", bits = 16, overflow = "wrap" }]

[requantize]
scheme = "shift-add"
terms = 2
"""
FIRST, SECOND = np.array([[3, -2], [5, 7], [-4, 9], [11, 1]]), np.array([[60], [-70]])
STEPS = 37, 53
"""How many LSBs of each layer's accumulator are one of its codes."""


def network() -> onnx.ModelProto:
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 8, signed=0)
    net.node("MatMul", x, net.quant(np.float32(FIRST), 1, 0, 8))
    y = net.quant(net.nodes[-1].output[0], STEPS[0], 0, 8)
    net.node("MatMul", y, net.quant(np.float32(SECOND), 1, 0, 8))
    net.quant(net.nodes[-1].output[0], STEPS[0] * STEPS[1], 0, 8)
    net.nodes[-1].output[0] = "y"
    return net.model("y")


def code(acc: int, step: int) -> int:
    """What the scheme makes of one accumulator: its two shifts are the highest bits of 1 / step."""
    first = next(n for n in range(32) if Fraction(1, 1 << n) <= Fraction(1, step))
    rest = Fraction(1, step) - Fraction(1, 1 << first)
    second = next(n for n in range(first + 1, 32) if Fraction(1, 1 << n) <= rest)
    return min(max(acc // 2**first + acc // 2**second, -128), 127)


def exact(acc: int, step: int) -> int:
    return min(max(round(Fraction(acc, step)), -128), 127)


def sums(row) -> list[int]:
    return [sum(int(v) * int(w) for v, w in zip(row, column, strict=True)) for column in FIRST.T]


def through(row, function) -> int:
    hidden = [function(a, STEPS[0]) for a in sums(row)]
    return function(sum(h * int(w) for h, w in zip(hidden, SECOND[:, 0], strict=True)), STEPS[1])


def package(folder: Path, value: str = "shift_add:ShiftAdd") -> Path:
    """An installed distribution: a module, and its entry point."""
    info = folder / "shift_add-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "shift_add.py").write_text(SCHEME)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shift-add\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[intsim.requantizers]\nshift-add = {value}\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("work")
    onnx.save(network(), made / "m.onnx")
    (made / "mine.toml").write_text(TARGET)
    np.save(made / "x.npy", np.random.default_rng(0).integers(0, 256, (5, 1, 4)).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def intsim_(folder, tmp_path_factory):
    site = package(tmp_path_factory.mktemp("site"))

    def run(*args: str, installed: Path | None = site) -> tuple[int, str, str]:
        paths = [str(ROOT), *([] if installed is None else [str(installed)])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}
        command = [sys.executable, "-m", "intsim.cli", *args]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def rows(folder):
    return np.load(folder / "x.npy").astype(int)[:, 0]


def test_targets_explains_it(intsim_):
    status, out, err = intsim_("targets", "mine.toml")
    assert (status, err) == (0, "")
    assert "requantize  shift-add: the sum of 2 right shifts" in out


def test_run_computes_it(intsim_, folder, rows):
    status, _, err = intsim_("run", "m.onnx", "-t", "mine.toml", "-i", "x.npy", "-o", "out.npz")
    assert (status, err) == (0, "")
    with np.load(folder / "out.npz") as made:
        assert made["y.codes"].reshape(-1).tolist() == [through(r, code) for r in rows]


def test_verify_blames_it(intsim_, rows):
    status, out, _ = intsim_("verify", "m.onnx", "-t", "mine.toml", "-i", "x.npy", "--no-references", "--json")
    found = json.loads(out)
    wrong = sum(code(a, STEPS[0]) != exact(a, STEPS[0]) for r in rows for a in sums(r))
    assert (status, found["first_divergence"]["blame"], found["layers"][1]["mismatches"]) == (1, "requantizer", wrong)


def reached() -> list[tuple[int, int]]:
    """Least and greatest accumulator of each channel of the first layer."""
    return [tuple(255 * int(np.where(w * side > 0, w, 0).sum()) for side in (-1, 1)) for w in FIRST.T]


def test_bounds_follow_its_codes(intsim_):
    status, out, _ = intsim_("bounds", "m.onnx", "-t", "mine.toml", "--json")
    codes = [[code(a, STEPS[0]) for a in range(low, high + 1)] for low, high in reached()]
    low, high = min(map(min, codes)), max(map(max, codes))
    least, most = (sum(f(int(w) * low, int(w) * high) for w in SECOND[:, 0]) for f in (min, max))
    layer = json.loads(out)["layers"][1]
    assert (status, layer["low"], layer["high"]) == (0, least, most)


def test_certify_compares_every_accumulator(intsim_, folder):
    status, out, _ = intsim_("certify", "m.onnx", "-t", "mine.toml", "-o", "c.json", "--json")
    found = json.loads(out)["requantizers"][0]
    low, high = min(a for a, _ in reached()), max(b for _, b in reached())  # both channels have one scale
    differing = sum(code(a, STEPS[0]) != exact(a, STEPS[0]) for a in range(low, high + 1))
    assert (status, found["equal"], [cell["count"] for cell in found["cells"]]) == (1, False, [differing])
    assert intsim_("certify", "m.onnx", "--check", "c.json")[0] == 0
    status, _, err = intsim_("certify", "m.onnx", "--check", "c.json", installed=None)
    assert (status, err.count("\n")) == (2, 1)
    assert "requantize.scheme is 'shift-add'" in err


def test_telemetry_counts_behind_it(intsim_, rows):
    status, out, _ = intsim_("telemetry", "m.onnx", "-t", "mine.toml", "-i", "x.npy", "--json")
    second = json.loads(out)["layers"][1]["stages"][0]
    partial = []
    for r in rows:
        hidden = [code(a, STEPS[0]) for a in sums(r)]
        partial += [0, hidden[0] * 60, hidden[0] * 60 - hidden[1] * 70]
    assert (status, second["low"], second["high"]) == (0, min(partial), max(partial))


def test_sweep_keeps_it(intsim_, rows):
    arguments = ["-t", "mine.toml", "-i", "x.npy", "-a", "15,16", "--overflow", "wrap", "-m", "8", "-o", "s", "--json"]
    status, out, err = intsim_("sweep", "m.onnx", *arguments)
    assert (status, err.count("Traceback")) == (0, 0)
    found = json.loads(out)
    assert found["multiplier_rounding"] == "fixed-point, rounded once, half_up (mine has scheme shift-add itself)"
    wrong = sum(through(r, code) != through(r, exact) for r in rows)
    by_width = {row["accumulator"]: row["outputs"][0]["mismatches"] for row in found["rows"]}
    assert by_width[16] == wrong > by_width[None]


def test_refusals_are_one_line(intsim_, folder, tmp_path):
    (folder / "bad.toml").write_text(TARGET.replace("terms = 2", "terms = 9"))
    assert intsim_("targets", "bad.toml") == (2, "", "intsim: target bad.toml: requantize.terms is 9; allowed: 1..4\n")
    (folder / "more.toml").write_text(TARGET.replace("terms = 2", "term = 2"))
    said = "unknown key requantize.term; allowed: scheme, multiplier_bits, rounding, double_rounding, terms"
    assert intsim_("targets", "more.toml") == (2, "", f"intsim: target more.toml: {said}\n")
    status, out, err = intsim_("targets", "mine.toml", installed=None)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert 'requantize.scheme is \'shift-add\'; allowed: "exact", "fbgemm", "fixed-point"' in err
    for i, (value, why) in enumerate(
        {
            "shift_add:Other": "can't load shift_add:Other, its entry point: AttributeError",
            "nowhere:ShiftAdd": "can't load nowhere:ShiftAdd, its entry point: ModuleNotFoundError",
            "shift_add:Sure": "shift_add:Sure says that it is exact; only built-in schemes are",
            "shift_add:Channel": "shift_add:Channel, its entry point, is no subclass of Requantizer",
        }.items()
    ):
        status, out, err = intsim_("targets", "mine.toml", installed=package(tmp_path / str(i), value))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f'scheme "shift-add": {why}' in err


def test_the_working_directory_brings_no_scheme(intsim_, folder):
    """A package beside a model is not installed."""
    package(folder)
    assert intsim_("targets", "mine.toml", installed=None)[0] == 2
