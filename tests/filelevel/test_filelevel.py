"""intsim against an oracle that reads the file: all inputs of many tiny networks, every verb.

`python -m tests.filelevel --count N --seed S` does the same with other networks and prints the table.
"""

import ast
import math
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import intsim
from intsim.arithmetic.requantizers import requantizer
from intsim.mac import plan

from . import contradict
from .contradict import Table, campaign
from .generate import QONNX, Draw, Network
from .machine import machine, text_of
from .machines import FAMILIES, PLAIN

HERE = Path(__file__).resolve().parent
ORACLE = ("__init__", "numbers", "machine", "requantizer", "layer", "oracle", "generate", "machines", "qoperator")
EVERYDAY, LONG = range(60), range(10_000, 15_000)
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
    files = (HERE.parents[1] / "hardware" / "targets").glob("*.toml")
    shipped = {p.stem for p in files if "[runtime]" not in p.read_text()}  # tests/runtimes has those of runtimes
    plain = {name for name in shipped if name[-2:] not in ("-N", "-M")}
    assert plain == set(PLAIN)
    assert {name[:-2] for name in shipped - plain} == {stem for stem, _, _ in FAMILIES}
    assert all(text_of(name) for name in PLAIN)


def test_no_verb_is_contradicted(capsys):
    """Every input of 60 networks, on at least 12 targets."""
    table = campaign(EVERYDAY)
    with capsys.disabled():
        print("\n" + table.text())
    assert not table.contradicted, told(table)
    assert sum(row["compared"] > 0 for row in table.rows.values()) >= 12
    assert table.biased > 15
    assert table.overflowing > 9
    assert min(table.certified, table.refuted) > 6


@pytest.mark.slow
def test_no_verb_is_contradicted_by_thousands(capsys):
    """5 000 networks; how often certify stays open on a safe one is printed and bounded."""
    begun = time.monotonic()

    def say(done, table):
        if done % 250 == 0:
            with capsys.disabled():
                print(
                    f"{done} of {len(LONG)}, {time.monotonic() - begun:.0f} s, open {table.open_rate:.1%}", flush=True
                )

    table = campaign(LONG, say=say)
    with capsys.disabled():
        print("\n" + table.text())
    assert not table.contradicted, told(table)
    assert sum(row["compared"] > 0 for row in table.rows.values()) >= 12
    assert table.open_rate <= OPEN


# The oracle can see: each of these plants a fault in intsim while it runs. Biases are of whole LSBs, machines fixed


def on(name, text=None):
    """Chooses a machine; `$` in a name stands for the bits that a network's sums need, less one."""

    def choose(seed, bits, net):
        full = name.replace("$", str(max(bits - 1, 4)))
        own = text or text_of(full)
        return (full, own, machine(own, full)) if text is None else ("random", own, machine(own, full))

    return choose


def seen_by(choose, wanted, plant, count=40):
    """Verbs that are contradicted once a fault is planted, over three networks that nothing contradicts before."""
    seeds = []
    for seed in range(count):
        found = contradict.contradict(seed, True, choose)
        if found.state == "compared" and not found.contradictions and wanted(found):
            seeds.append(seed)
        if len(seeds) == 3:
            break
    assert len(seeds) == 3
    plant()
    return {verb for seed in seeds for verb in contradict.contradict(seed, True, choose).contradictions}


@pytest.mark.parametrize("place", ["after", "preload"])
def test_a_dropped_bias_is_seen(monkeypatch, place):
    """The planner forgets it, so that neither registers nor proofs know of it."""
    text = (
        text_of("wrap-12")
        .replace("overflow", "lanes = 1, overflow")
        .replace("[requantize]", f'bias = "{place}"\n[requantize]')
    )
    text = text[: text.index("[family]")] + text[text.index("[accumulate]") :]
    real = plan.plan

    def without(node, op, tensors, registers):
        return real(replace(node, arrays={k: v for k, v in node.arrays.items() if k != "bias"}), op, tensors, registers)

    def planted():
        for name, module in list(sys.modules.items()):
            if name.startswith("intsim.") and getattr(module, "plan", None) is real:
                monkeypatch.setattr(module, "plan", without)

    assert {"bounds", "run"} <= seen_by(on("biased", text), lambda found: found.biased, planted)


def test_a_register_one_bit_too_wide_is_seen(monkeypatch):
    """Proofs of a register that is one bit wider than the machine's."""
    real = plan.decided

    def wide(made, stages, *rest):
        return real(made, [replace(s, bits=s.bits + 1) for s in stages], *rest)

    def planted():
        monkeypatch.setattr(plan, "decided", wide)

    verbs = seen_by(on("saturate-$"), lambda found: found.events, planted)
    assert {"run", "bounds"} <= verbs


def test_bounds_that_forget_the_empty_register_are_seen(monkeypatch):
    """A register starts at 0: sums that are all above it go through it all the same."""
    real = plan.decided

    def narrow(*args):
        found = real(*args)
        return replace(found, low=[v + (v < 0) for v in found.low], high=[v - (v > 0) for v in found.high])

    verbs = seen_by(on("wrap-32"), lambda found: True, lambda: monkeypatch.setattr(plan, "decided", narrow))
    assert "bounds" in verbs


def test_ties_the_other_way_are_seen(monkeypatch):
    """A rest of half an LSB away from zero, in the definition and in what certify compares."""
    text = text_of("rtl-shift")
    real = requantizer.bias_in_accumulator

    def away(scale, offset):
        ratio = offset / scale
        return real(scale, offset) if ratio.denominator != 2 else math.floor(ratio) + (ratio > 0)

    def planted():
        for name, module in list(sys.modules.items()):
            if name.startswith("intsim.") and getattr(module, "bias_in_accumulator", None) is real:
                monkeypatch.setattr(module, "bias_in_accumulator", away)

    assert requantizer.bias_in_accumulator(Fraction(2), Fraction(1)) == 0
    planted()
    assert requantizer.bias_in_accumulator(Fraction(2), Fraction(1)) == 1
    net = halves()
    expected = contradict.ran(net.model, machine(text), net.inputs)

    def verbs():
        found = contradict.Found(0, "rtl-shift", text, "")
        model = intsim.load(net.model)  # anew: a loaded one keeps its program
        contradict.compare_run(found, "run", model, expected, intsim.run(model, "rtl-shift", net.inputs, keep=True))
        return set(found.contradictions)

    assert verbs() == {"run"}
    monkeypatch.undo()
    assert not verbs()


def halves():
    """x, a Relu, and 1.25 more: 2.5 codes of x, which a shift by one bit follows."""
    draw = Draw(np.random.default_rng(0))
    draw.style, draw.grid = "qonnx", True
    one = [draw.constant(np.float32(v)) for v in (0.5, 0, 4)]
    x = draw.node("Quant", ["input", *one], QONNX, signed=1, narrow=0, rounding_mode="ROUND")
    y = draw.node("Add", [draw.node("Relu", [x]), draw.constant(np.float32(1.25))])
    two = [draw.constant(np.float32(v)) for v in (1, 0, 4)]
    z = draw.node("Quant", [y, *two], QONNX, signed=1, narrow=0, rounding_mode="ROUND")
    codes = np.arange(-8, 8).reshape(16, 1)
    graph = helper.make_graph(
        draw.nodes,
        "halves",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [16, 1])],
        [helper.make_tensor_value_info(z, TensorProto.FLOAT, None)],
        draw.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(QONNX, 1)])
    return Network(model, {"input": (codes * 0.5).astype(np.float32)}, True, False, True, "qonnx")
