"""What every verb prints: it fits 80 columns in every encoding, loses nothing at 120, and ends with a step that works.

Verbs are run in a process of their own for each encoding, one after another in the same process.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

from intsim.report.text import percent

pytestmark = pytest.mark.xdist_group("output")  # what its tests share is made once

ROOT = Path(__file__).resolve().parents[2]
CALLS = """
import contextlib, io, json, sys
from intsim import cli
for call in json.load(open("calls.json")):
    sys.argv = ["intsim", *call]
    try:
        cli.main()
    except SystemExit as left:
        code = left.code or 0
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\\0%d\\0" % code)
    sys.stdout.flush()
"""
LONG = "/features/features.0/conv/Größe→1"
"""A name that neither cp1252 nor ASCII has, longer than a column."""


def network() -> onnx.ModelProto:
    """Two layers of many products, u8 x s8; on AVX2 both saturate, and sums need up to 24 bits."""
    rng = np.random.default_rng(1)
    net = Net()
    x = net.quant(net.input(1, 16, 32, 32), 1, 0, 8, signed=0)
    for name in (LONG, "second"):
        w = net.quant(np.float32(rng.integers(-127, 128, (16, 16, 3, 3))), 1, 0, 8, narrow=1)
        net.node("Conv", x, w, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        net.nodes[-1].name = name
        x = net.quant(net.node("Relu", net.nodes[-1].output[0]), 4096, 0, 8, signed=0)
    return net.model(x)


VERBS = {
    "help": ["--help"],
    "help of a verb": ["sweep", "--help"],
    "inspect": ["inspect", "m.onnx"],
    "lower": ["lower", "m.onnx", "-o", "lowered"],
    "run": ["run", "m.onnx", "-t", "x86-avx2", "--profile"],
    "verify": ["verify", "m.onnx", "-t", "x86-avx2", "--reference-timeout", "60"],
    "verify on lanes": ["verify", "m.onnx", "-t", "arm-neon-int8", "--no-references"],
    "bounds": ["bounds", "m.onnx", "-t", "x86-avx2"],
    "bounds of lanes": ["bounds", "m.onnx", "-t", "arm-neon-int8"],
    "certify": ["certify", "m.onnx", "-t", "wrap-18", "--multipliers", "-o", "c.json"],
    "check": ["certify", "--check", "c.json"],
    "telemetry": ["telemetry", "m.onnx", "-t", "wrap-18", "--channels"],
    "sweep": ["sweep", "m.onnx", "-a", "16,18", "-m", "4,8", "-o", "swept"],
    "grid": ["sweep", "m.onnx", "-a", "18", "-m", "8", "--grid", "-o", "grid"],
    "targets": ["targets"],
    "a target": ["targets", "dsp48e2-int8"],
}
CODES = {"run": 1, "verify": 1, "bounds": 1, "certify": 1, "telemetry": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("output")
    onnx.save(network(), path / "m.onnx")
    (path / "calls.json").write_text(json.dumps(list(VERBS.values())))
    (path / "calls.py").write_text(CALLS)
    return path


def printed(folder: Path, encoding: str, columns: int | None = None) -> dict[str, str]:
    """Standard output of every verb, decoded; fails where one ended with an error."""
    out = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "PYTHONIOENCODING")}
    out |= {"PYTHONPATH": str(ROOT), "INTSIM_THREADS": "1"}
    if encoding == "C":
        out |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    else:
        out["PYTHONIOENCODING"] = encoding
    if columns is not None:
        out["COLUMNS"] = str(columns)
    done = subprocess.run([sys.executable, "calls.py"], cwd=folder, env=out, capture_output=True, check=True)
    assert b"Traceback" not in done.stderr, done.stderr
    assert b"internal error" not in done.stderr, done.stderr
    parts = done.stdout.decode("ascii" if encoding == "C" else encoding).split("\0")
    texts = dict(zip(VERBS, parts[::2], strict=False))
    assert dict(zip(VERBS, map(int, parts[1::2]), strict=True)) == {v: CODES.get(v, 0) for v in VERBS}
    return texts


@pytest.fixture(scope="module")
def printed_once(folder):
    """`printed`, kept: pytest makes a parametrized fixture anew whenever tests of another parameter lie between."""
    return cache(partial(printed, folder))


@pytest.fixture(params=["utf-8", pytest.param("cp1252", marks=pytest.mark.slow), "C"])
def narrow(request, printed_once):
    return request.param, printed_once(request.param)


@pytest.fixture
def wide(printed_once):
    return printed_once("utf-8", 120)


def test_lines_fit_80_columns(narrow):
    _, texts = narrow
    for verb, text in texts.items():
        # a command is one piece, to be copied; sources of targets are as long as they are written
        lines = [t for t in text.splitlines() if not t.startswith("  intsim ")]
        assert lines
        if verb != "a target":
            assert max(map(len, lines)) <= 80, (verb, max(lines, key=len))


def test_every_encoding_has_the_characters(narrow):
    encoding, texts = narrow
    for verb, text in texts.items():
        assert "?" not in text.replace("(?)", ""), verb
        assert "\ufffd" not in text
    name = {"utf-8": "Größe→1", "cp1252": "Größe\\u2192", "C": "Gr\\xf6\\xdfe"}[encoding]
    for verb in ("inspect", "verify", "bounds", "certify", "telemetry"):
        assert name in re.sub(r"\s", "", texts[verb]) or name in texts[verb], verb
    marks = "▁▂▃▄▅▆▇█" if encoding == "utf-8" else ".:-=+*%@"
    assert len(set(texts["telemetry"]) & set(marks)) > 4


def left_out(text: str) -> list[str]:
    """Columns that a text says it has no room for."""
    found = re.findall(r"no room for: (.*?) \(", " ".join(text.split()))
    return [name for names in found for name in names.split(", ")]


def test_no_number_is_cut_or_folded(narrow, wide):
    """In the line of a short name every cell that stands at 120 columns stands at 80, or its column is named below."""
    _, texts = narrow
    for verb, start in (("inspect", "second"), ("bounds", "second"), ("telemetry", "second"), ("sweep", "  18")):
        row = next(x for x in wide[verb].splitlines() if x.startswith(start))
        kept = next(x for x in texts[verb].splitlines() if x.startswith(start))
        cells = [c for c in re.split(r"\s{2,}", row.strip()) if not set(c) & set("▁▂▃▄▅▆▇█")]
        assert len(cells) > 6
        missing = [c for c in cells if f" {c} " not in f" {kept} "]
        assert len(missing) <= len(left_out(texts[verb])), (verb, missing)
    row = next(x for x in texts["verify"].splitlines() if x.startswith("second"))
    assert re.search(r"Conv +16 384 +\d+ +0 +\d+ +16 \d{3} +0 +diverges$", row)


def test_what_is_left_out_is_named(narrow, wide):
    _, texts = narrow
    assert left_out(texts["verify"]) == ["stage 1", "stage 2", "stage 3"]
    assert {"low", "high"} <= set(left_out(texts["telemetry"]))
    for verb, text in wide.items():
        assert not left_out(text), verb
    assert re.search(r"stage 1 +stage 2 +stage 3", wide["verify"])
    assert "median" in wide["sweep"]


def test_verify_says_where_inputs_come_from_and_what_its_columns_mean(wide):
    text = wide["verify"]
    assert "m.onnx on x86-avx2, 1 sample drawn at random (seed 0)" in text
    (line,) = [t for t in text.splitlines() if t.startswith("born:")]
    assert "sums: accumulators" in line


STEPS = ("run", "verify", "bounds", "certify", "telemetry", "sweep", "grid")


def test_verbs_end_with_the_next_step(narrow):
    _, texts = narrow
    for verb, text in texts.items():
        lines = text.rstrip().splitlines()
        assert (lines[-1].startswith("  intsim ")) == (verb in STEPS), verb
        assert text.count("next: ") == (verb in STEPS)
    for verb in STEPS:
        words = shlex.split(texts[verb].rstrip().splitlines()[-1])
        assert words[0] == "intsim"
        assert "m.onnx" in words


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [
        (1, 3, "33 %"),
        (3, 3, "100 %"),
        (32, 32, "100 %"),
        (9999, 10000, "99.9 %"),
        (996, 1000, "99.6 %"),
        (1, 1000, "0.1 %"),
    ],
)
def test_shares(count, total, text):
    assert percent(count, total) == text
