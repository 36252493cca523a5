"""A scheme that isn't built in is held to what it says of itself: proofs try it, the engine runs its definition."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

import intsim
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers import Channel, Requantizer, is_built_in
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.proofs import segments as there
from intsim.proofs.requantizers import certify_requantizer
from intsim.proofs.segments import segments
from intsim.proofs.steps import StepLimitError
from intsim.targets import Target
from intsim.testing.net import Net

STEP = 37


@dataclass(frozen=True)
class Nearest(Requantizer):
    """Rounds to the nearest, as the formula does, since a step of 37 has no ties."""

    scheme: ClassVar[str] = "nearest"

    def channel(self, scale):
        return Channel(scale)

    def multiply(self, values, scale):
        return (2 * values * scale.numerator + scale.denominator) // (2 * scale.denominator)


class Glitch(Nearest):
    """And is one too small at one accumulator in the middle of a step."""

    scheme: ClassVar[str] = "glitch"

    def multiply(self, values, scale):
        return super().multiply(values, scale) - (values == 135)


class Wrapping(Nearest):
    """And keeps 16 bits of the product with a numerator, which `channel` forgets to say."""

    scheme: ClassVar[str] = "wrapping"

    def multiply(self, values, scale):
        return (((values * 64 + 2**15) % 2**16) - 2**15) // (64 * STEP)


class Limited(Nearest):
    """And says that it has no result where it has one."""

    scheme: ClassVar[str] = "limited"

    def channel(self, scale):
        return Channel(scale, limits=(-100, 100))


FORMULA = Formula(((None, Fraction(1, STEP), Fraction(0)),), Rounding.HALF_EVEN, 0, -128, 127)


def test_what_is_built_in():
    assert is_built_in(FixedPoint(8, Rounding.HALF_UP))
    assert not is_built_in(Nearest())


def test_a_monotone_one_is_believed_when_it_was_tried(monkeypatch):
    assert [(s.low, s.high) for s in segments(FORMULA, -70_000, 70_000, Nearest(), ())] == [(-70_000, 70_000)]
    monkeypatch.setattr(there, "MOST_TRIED", 140_000)
    with pytest.raises(StepLimitError, match="too many accumulators to try scheme nearest on"):
        segments(FORMULA, -70_000, 70_000, Nearest(), ())


@pytest.mark.parametrize("block", [2, 7, 131, 1 << 16])
@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        (Glitch(), r"scheme glitch is not monotone on -2000\.\.2000, as its channel says"),
        (Wrapping(), r"scheme wrapping is not monotone on -2000\.\.2000, as its channel says"),
        (Limited(), r"scheme limited has a result at -2000, beyond the limits of its channel"),
    ],
)
def test_one_that_is_not_what_it_says_is_refused(block, chosen, complaint, monkeypatch):
    monkeypatch.setattr(there, "BLOCK", block)
    with pytest.raises(IntsimError, match=complaint):
        segments(FORMULA, -2000, 2000, chosen, ())


def model():
    """Codes 0..255 times 9, by 37 to 0..63."""
    net = Net()
    x = net.quant(net.input(1, 1), 1.0, 0, 8, signed=0)
    y = net.node("MatMul", x, net.const(np.float32([[9]])))
    return intsim.load(net.model(net.quant(y, float(STEP), 0, 6, signed=0)))


@pytest.mark.parametrize(("chosen", "verdict"), [(Nearest(), "equal"), (Glitch(), "refused"), (Wrapping(), "refused")])
def test_neither_a_certificate_nor_a_fast_path_hides_it(chosen, verdict):
    loaded = model()
    target = Target.load("exact").model_copy(update={"requantize": chosen})
    node = next(n for n in loaded.graph.nodes if n.op == "requantize")
    assert certify_requantizer(loaded.graph, node, chosen, target.stages).verdict == verdict
    wanted = np.clip(chosen.multiply(np.arange(256) * 9, Fraction(1, STEP)), 0, 63)
    assert wanted[15] == (4 if type(chosen) is Nearest else 3)
    for x in (0, 14, 15, 16, 120, 255):
        ran = intsim.run(loaded, target, np.float32([[x]]), keep=True)
        assert ran.tensors[node.output].item() == wanted[x]
