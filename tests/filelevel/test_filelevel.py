"""intsim against an oracle that reads the file: all inputs of many tiny networks, every verb.

`python -m tests.filelevel --count N --seed S` does the same with other networks and prints the table.
"""

import ast
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import intsim.engine.node
import intsim.ops.plan
from intsim.ops.partial_sums import PartialSums

from . import contradict
from .contradict import Table, campaign
from .machine import text_of
from .machines import FAMILIES, PLAIN

HERE = Path(__file__).resolve().parent
ORACLE = ("__init__", "numbers", "machine", "requantizer", "layer", "oracle", "generate", "machines")
EVERYDAY, LONG = range(200), range(10_000, 15_000)
OPEN = 0.077
"""How often certify may stay open on a network that no input makes wrong."""


def told(table: Table) -> str:
    """The table and the first contradictions, for a failure."""
    lines = [table.text()]
    for found in table.contradicted[:12]:
        lines.append(f"seed {found.seed}, {found.target} ({found.note})")
        lines += [f"  {verb}: {text[:200]}" for verb, texts in found.contradictions.items() for text in texts[:2]]
    return "\n".join(lines)


def test_the_oracle_shares_nothing_with_intsim():
    """It may import numpy, onnx, Python's own modules and itself."""
    allowed = {"ast", "collections", "dataclasses", "fractions", "functools", "itertools", "json", "math", "pathlib"}
    allowed |= {"numpy", "onnx", "struct", "tomllib", *(f".{name}" for name in ORACLE), "."}
    for name in ORACLE:
        for node in ast.walk(ast.parse((HERE / f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                assert {a.name.split(".")[0] for a in node.names} <= allowed, name
            elif isinstance(node, ast.ImportFrom):
                root = "." * node.level + (node.module or "").split(".")[0]
                assert root in allowed, f"{name} imports from {root}"
                assert node.level or root != ".", name
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("__import__", "exec", "eval"), name


def test_every_shipped_target_is_drawn():
    shipped = {p.stem for p in (HERE.parents[1] / "hardware" / "targets").glob("*.toml")}
    plain = {name for name in shipped if not name[-2:] in ("-N", "-M")}
    assert plain == set(PLAIN)
    assert {name[:-2] for name in shipped - plain} == {stem for stem, _, _ in FAMILIES}
    assert all(text_of(name) for name in PLAIN)


def test_no_verb_is_contradicted(capsys):
    """Every input of 200 networks, on at least 12 targets."""
    table = campaign(EVERYDAY)
    with capsys.disabled():
        print("\n" + table.text())
    assert not table.contradicted, told(table)
    assert sum(row["compared"] > 0 for row in table.rows.values()) >= 12
    assert table.biased > 60
    assert table.overflowing > 40
    assert min(table.certified, table.refuted) > 30


@pytest.mark.slow
def test_no_verb_is_contradicted_by_thousands(capsys):
    """5 000 networks; how often certify stays open on a safe one is printed and bounded."""
    begun = time.monotonic()

    def say(done, table):
        if done % 250 == 0:
            with capsys.disabled():
                print(f"{done} of {len(LONG)}, {time.monotonic() - begun:.0f} s, open {table.open_rate:.1%}", flush=True)

    table = campaign(LONG, say=say)
    with capsys.disabled():
        print("\n" + table.text())
    assert not table.contradicted, told(table)
    assert sum(row["compared"] > 0 for row in table.rows.values()) >= 12
    assert table.open_rate <= OPEN


# The oracle can see: each of these plants a fault in intsim while it runs


def verbs_of(seeds):
    """Verbs that are contradicted with a fault and are not without."""
    return {verb for seed in seeds for verb in contradict.contradict(seed).contradictions}


def first_with(wanted, count=80):
    """Seeds of networks that nothing contradicts as things are and that `wanted` holds for."""
    found = []
    for seed in range(count):
        seen = contradict.contradict(seed)
        if seen.state == "compared" and not seen.contradictions and wanted(seen):
            found.append(seed)
        if len(found) == 3:
            return found
    raise AssertionError("no such network")


def test_a_dropped_bias_is_seen(monkeypatch):
    seeds = first_with(lambda seen: seen.biased and "exact" not in seen.target)
    real = intsim.ops.plan.plan

    def without(node, op, tensors, registers):
        return real(replace(node, arrays={k: v for k, v in node.arrays.items() if k != "bias"}), op, tensors, registers)

    for module in ("intsim.engine.mac", "intsim.engine.program", "intsim.proofs.bounds", "intsim.proofs.site"):
        target = __import__(module, fromlist=["x"])
        if hasattr(target, "plan"):
            monkeypatch.setattr(target, "plan", without)
    assert verbs_of(seeds)


def test_a_register_one_bit_too_wide_is_seen(monkeypatch):
    """Proofs that take an overflowing register for a safe one."""
    seeds = first_with(lambda seen: seen.events and seen.target in ("wrap-N", "saturate-N"))
    real = intsim.ops.plan.partial_sums

    def wide(*args):
        found = real(*args)
        safe = [np.ones_like(s) for s in found.safe]
        return PartialSums(found.low, found.high, safe, safe)

    monkeypatch.setattr(intsim.ops.plan, "partial_sums", wide)
    assert {"bounds", "certify"} <= verbs_of(seeds)


def test_ties_the_other_way_are_seen(monkeypatch):
    """A requantizer that is one off above the middle."""
    seeds = first_with(lambda seen: seen.target in ("cpu-int32", "tflite-single", "fixed-point-N", "random"), 120)
    from intsim.ops import schemes

    real = schemes.unclipped
    monkeypatch.setattr(schemes, "unclipped", lambda *a: real(*a) + 1)
    monkeypatch.setattr(schemes, "transform", lambda *a, **k: (lambda acc, s, b, t=None: acc * 0 + 7))
    assert verbs_of(seeds)
