"""Profiles: layers of several runs together, totals, the table."""

import io
import sys

import pytest
from rich.console import Console

from intsim.engine.program.program import LayerProfile
from intsim.report.profile import peak_rss, profile_json, show_profile
from intsim.report.text import number, size

CONV = LayerProfile("conv [b]", "conv + requantize", "words", "proven", 2_000_000, 0.001, 4096)
MOVE = LayerProfile("resize", "gather", "move", "any type", 0, 0.0005, 100)


def text(found: dict, width: int = 110) -> str:
    out = io.StringIO()
    show_profile(Console(file=out, width=width), found)
    return out.getvalue()


def test_one_run():
    found = profile_json([[CONV, MOVE, MOVE]], 0.004, 0.25, 1 << 20)
    assert [(r["name"], r["runs"], r["macs"], r["seconds"]) for r in found["layers"]] == [
        ("conv [b]", 1, 2_000_000, 0.001), ("resize", 1, 0, 0.0005), ("resize", 1, 0, 0.0005),
    ]  # fmt: skip
    assert [r["gmacs_per_second"] for r in found["layers"]] == [pytest.approx(2), None, None]
    assert (found["macs"], found["seconds"], found["seconds_once"], found["live_bytes"]) == (
        2_000_000,
        0.004,
        0.25,
        1 << 20,
    )
    assert found["seconds_elsewhere"] == pytest.approx(0.002)
    assert found["gmacs_per_second"] == pytest.approx(0.5)


def test_several_runs_of_which_one_chose_another_kernel():
    slow = LayerProfile("conv [b]", "conv + requantize", "registers", "left its range", 2_000_000, 0.01, 4096)
    found = profile_json([[CONV, MOVE], [slow, MOVE], [CONV, MOVE]], 0.02, 0, 0)
    assert [(r["kernel"], r["runs"]) for r in found["layers"]] == [("words", 2), ("registers", 1), ("move", 3)]
    assert found["layers"][0]["gmacs_per_second"] == pytest.approx(2)
    assert (found["runs"], found["macs"]) == (3, 2_000_000)


def test_table():
    found = profile_json([[CONV, MOVE]], 0.004, 0.25, 1 << 20)
    shown = text(found)
    for word in ("conv [b]", "2 000 000", "1.000", "25.0", "4.1 kB", "why 1: proven", "why 2: any type", "4.0 ms",
                 "2 000 000 MACs, 0.5 GMAC/s", "250.0 ms before, once", "tensors at once 1.05 MB"):  # fmt: skip
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 110
    long = LayerProfile("x" * 200, "y" * 200, "z" * 200, "w", 9_900_000_000, 12.0, 10**12)
    for width in (80, 110, 160):
        lines = text(profile_json([[long]], 12, 0, 0), width).splitlines()
        assert max(map(len, lines)) <= width
        assert "".join(lines).count("x") == 200
        assert "9 900 000 000" in lines[2]
    assert "0 MACs, - GMAC/s" in text(profile_json([], 0, 0, 0))


def test_numbers():
    assert [number(n) for n in (0, 999, 1000, -1234567)] == ["0", "999", "1 000", "-1 234 567"]
    assert [size(n) for n in (0, 999, 1000, 999_400, 999_600, 10**9, 5 * 10**15)] == [
        "0 B", "999 B", "1 kB", "999 kB", "1 MB", "1 GB", "5e+03 TB",
    ]  # fmt: skip


def test_peak_memory_grows(monkeypatch):
    before = peak_rss()
    held = b"x" * (before + (50 << 20))
    assert peak_rss() > before
    del held
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_rss() is None
