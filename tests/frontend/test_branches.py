"""Networks drawn of branches that nobody quantized: codes and numbers of the file, exactly and on registers."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest

import intsim
from intsim.errors import IntsimError
from intsim.frontend.expression import Expr
from intsim.frontend.lower import Lowering
from intsim.frontend.reader import read
from intsim.ops import OPS
from intsim.ops.deviation import deviations
from intsim.verification.reference import Reference

from .build import Net, exact_value

EVERYDAY, LONG = 12, 240
ON_A_GRID = ("function", "grid")
HAIR = Fraction(1, 1 << 400)
"""Real numbers that are equal can't be told from others: no digits decide that."""


class Drawn:
    """A network that grows: each stream is a tensor of the file and its channels."""

    def __init__(self, seed: int) -> None:
        """Begin with an image."""
        self.rng, self.net = np.random.default_rng(seed), Net(20)
        size = (int(v) for v in self.rng.integers(2, 6, 2))
        self.shape = (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 5)), *size)
        self.streams = [(self.net.quant(self.net.input(*self.shape), np.float32(0.03), 0, 8), self.shape[1])]

    def quantized(self, x: str) -> str:
        """Of any width, scale and zero point."""
        bits = int(self.rng.choice([2, 4, 8, 8, 8, 16]))
        signed = self.rng.random() < 0.7
        zero = int(self.rng.integers(0, 2**bits)) if not signed and self.rng.random() < 0.5 else 0
        return self.net.quant(x, np.float32(10 ** self.rng.uniform(-3, 0)), zero, bits, signed=int(signed))

    def convolved(self, x: str, channels: int) -> tuple[str, int]:
        """Scales, a bias and a normalisation a channel, or one of each, or none."""
        rng, out = self.rng, int(self.rng.integers(1, 5)) if self.rng.random() < 0.3 else channels
        size = int(rng.choice([1, 3]))
        scale = rng.uniform(0.3, 2, (out, 1, 1, 1)) * 0.01 if rng.random() < 0.7 else 0.01
        weight = rng.normal(0, 0.4, (out, channels, size, size)).astype(np.float32)
        inputs = [x, self.net.quant(weight, np.float32(scale), 0, int(rng.choice([4, 8])))]
        if rng.random() < 0.7:
            inputs.append(np.float32(rng.normal(0, 0.5, out)))
        y = self.net.node("Conv", *inputs, pads=[size // 2] * 4)
        if rng.random() < 0.6:
            rows = rng.normal(1, 0.7, out), rng.normal(0, 0.5, out), rng.normal(0, 0.5, out), rng.uniform(0.2, 2, out)
            y = self.net.node("BatchNormalization", y, *map(np.float32, rows))
        return y, out

    def activated(self, x: str, channels: int) -> str:
        """An activation, a constant a channel, or nothing."""
        rng, node = self.rng, self.net.node
        made = [
            lambda: node("Relu", x),
            lambda: node("LeakyRelu", x, alpha=float(rng.normal(0, 0.5))),
            lambda: node("Clip", x, np.float32(-abs(rng.normal())), np.float32(abs(rng.normal()) * 0.1 + 1e-6)),
            lambda: node("PRelu", x, np.float32(rng.normal(0, 0.5, (channels, 1, 1)))),
            lambda: node("Sigmoid", x),
            lambda: node("Mul", x, node("Sigmoid", x)),
            lambda: node("HardSwish", x),
            lambda: node("Tanh", x),
            lambda: node("Elu", x, alpha=float(rng.uniform(0.1, 2))),
            lambda: node("HardSigmoid", x),
            lambda: node("Mul", x, np.float32(rng.normal(0, 1, (channels, 1, 1)))),
            lambda: x,
        ]
        return made[rng.integers(len(made))]()

    def grown(self) -> None:
        """One more stream: of one of them, or of two."""
        rng, node = self.rng, self.net.node
        x, channels = self.streams[rng.integers(len(self.streams))]
        alike = [s for s, c in self.streams if c == channels]
        y = alike[rng.integers(len(alike))]
        beside, more = self.streams[rng.integers(len(self.streams))]
        kind = rng.integers(0, 13)
        window: dict[str, Any] = {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}
        if kind < 4:
            made, channels = self.convolved(self.quantized(x), channels)
            made = self.activated(made, channels)
        elif kind == 4:
            made = self.activated(x, channels)
        elif kind < 9:
            made = node(("Add", "Sub", "Mul", str(rng.choice(["Max", "Min"])))[kind - 5], x, y)
        elif kind == 9:
            made = node(str(rng.choice(["Mul", "Add"])), node("GlobalAveragePool", x), y)
        elif kind == 10:
            made, channels = node("Concat", x, beside, axis=1), channels + more
        elif kind == 11:
            made = node("AveragePool", x, count_include_pad=int(rng.integers(0, 2)), **window)
        else:
            made = node("MaxPool", x, **window)
        self.streams.append((made, channels))

    def model(self) -> onnx.ModelProto:
        """Quantizers behind the last streams."""
        for _ in range(int(self.rng.integers(2, 9))):
            self.grown()
        ends = []
        for x, _ in self.streams[-3:]:
            y = self.net.node("GlobalAveragePool", x) if self.rng.random() < 0.3 else x
            if self.rng.random() < 0.2:
                y = self.net.node("Resize", y, None, np.float32([1, 1, 2, 2]), mode="linear")
            ends.append(self.quantized(y))
        return self.net.model(*ends)


def compared(seed: int) -> str:
    """One network; what became of it."""
    drawn = Drawn(seed)
    model = drawn.model()
    inputs = {"x": drawn.rng.normal(0, drawn.rng.choice([0.5, 2, 6]), drawn.shape).astype(np.float32)}
    try:
        loaded = intsim.load(model)
    except IntsimError:
        return "refused"
    run, truth = loaded.run(inputs, keep=True), Reference(model).run(inputs)
    for name, info in loaded.graph.tensors.items():
        assert info.low <= run.tensors[name].min()
        assert run.tensors[name].max() <= info.high
    verdict = intsim.verify(model, "exact", inputs=inputs, references=False)
    assert verdict.verdict == "exact"
    distances(model, run, truth, deviations(loaded.graph))
    for target in ("saturate-16", "wrap-14"):
        on_registers(loaded, inputs, target)
    return "on a grid" if any(n.op in ON_A_GRID for n in loaded.graph.nodes) else "exact"


def distances(model: onnx.ModelProto, run: Any, truth: Any, errors: dict[str, Any]) -> None:
    """No number is further from the file's than is said."""
    lowering = Lowering(read(model))
    lowering.lowered()
    for name, value in lowering.values.items():
        if not isinstance(value, Expr) or value.steps or not any(t in errors for t, _ in value.terms):
            continue
        if name not in truth.tensors or any(t not in run.tensors for t, _ in value.terms):
            continue
        steps = [(errors.get(t, 0), np.broadcast_to(np.asarray(s, object), value.shape)) for t, s in value.terms]
        for flat, index in list(enumerate(np.ndindex(*value.shape)))[:: max(1, np.prod(value.shape) // 6)]:
            try:
                apart = exact_value(value, run.tensors, index) - truth.exact(name, flat)
            except IntsimError:  # the largest of two equal irrational numbers
                continue
            allowed = HAIR + sum(off * abs(scale[index]) for off, scale in steps)
            assert -allowed <= apart <= allowed, (name, index)


def on_registers(loaded: intsim.Model, inputs: dict[str, Any], target: str) -> None:
    """Nodes on a grid make what their definition makes of integers that overflows left."""
    try:
        run = loaded.run(inputs, target, keep=True)
    except IntsimError:  # a register takes no bias, or a requantizer not so many bits
        return
    for node in loaded.graph.nodes:
        if node.op in ON_A_GRID:
            wanted = OPS[node.op].evaluate(node, *(run.tensors[i] for i in node.inputs))
            np.testing.assert_array_equal(run.tensors[node.output], wanted)


@pytest.mark.parametrize(("first", "count"), [(0, EVERYDAY), pytest.param(100, LONG, marks=pytest.mark.slow)])
def test_drawn_branches(first, count):
    counted = Counter(compared(seed) for seed in range(first, first + count))
    assert counted["on a grid"] >= count // 6
    assert counted["refused"] <= count // 3
