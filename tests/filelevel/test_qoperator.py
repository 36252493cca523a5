"""ONNX Runtime's operators on codes: every code of every input of small networks, against an oracle of the file."""

from collections import Counter

import numpy as np
import pytest

import intsim
from intsim.frontend import qlinear
from intsim.targets import Target

from . import contradict
from .machine import EXACT, machine
from .machines import text_of
from .qoperator import Codes, CodesDraw

SEEDS = range(60)
MACHINES = ("wrap-8", "saturate-9", "wrap-10")
"""Their requantizer is exact."""


@pytest.fixture(autouse=True)
def with_codes(monkeypatch):
    monkeypatch.setattr(contradict, "Oracle", Codes)


def ran(net, on):
    return contradict.ran(net.model, on, net.inputs)


def told(found):
    return {verb: texts[:2] for verb, texts in found.contradictions.items()}


def test_every_code_of_small_networks():
    """On exact semantics, and on machines whose registers overflow; bounds and certificates of these too."""
    seen, overflows, verdicts = Counter(), 0, Counter()
    for seed in SEEDS:
        net = CodesDraw(np.random.default_rng(seed)).network()
        seen.update(net.note.split()[1:])
        found = contradict.Found(seed, "exact", "", net.note, complete=True)
        exact, model = ran(net, EXACT), intsim.load(net.model)
        contradict.compare_run(found, "exact", model, exact, intsim.run(model, "exact", net.inputs, keep=True))
        name = MACHINES[seed % len(MACHINES)]
        on = machine(text_of(name), name)
        assert on.requantize["scheme"] == "exact"
        expected, target = ran(net, on), Target.load(name)
        got = intsim.run(model, target, net.inputs, keep=True)
        contradict.compare_run(found, "run", model, expected, got)
        overflows += any(map(sum, (e for layer in expected.layers.values() for e in layer.events)))
        contradict.compare_bounds(found, intsim.bounds(model, target), expected)
        certificate = intsim.certify(model, target, [net.inputs])
        contradict.compare_certificate(found, certificate, model, net, on, exact, expected)
        verdicts[certificate.verdict] += 1
        assert not found.contradictions, (seed, net.note, told(found))
    assert set(seen) == {
        *("QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool"),
        *("QLinearLeakyRelu", "QLinearMul"),
    }
    assert min(seen.values()) >= 4
    assert overflows >= 5
    assert min(verdicts["certified"], verdicts["refuted"]) >= 5


def test_a_dropped_zero_point_is_seen(monkeypatch):
    """Of what goes in."""
    real = qlinear.dequantized
    monkeypatch.setattr(
        qlinear, "dequantized", lambda c, node, i, zero, s, axis: real(c, node, i, len(node.inputs), s, axis)
    )
    wrong = 0
    for seed in range(12):
        net = CodesDraw(np.random.default_rng(seed)).network()
        found, model = contradict.Found(seed, "exact", "", net.note), intsim.load(net.model)
        run = intsim.run(model, "exact", net.inputs, keep=True)
        contradict.compare_run(found, "exact", model, ran(net, EXACT), run)
        wrong += bool(found.contradictions)
    assert wrong >= 10
