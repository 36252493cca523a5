"""What a target refuses is found before a counterexample is run; where its scheme has no code, none is stated."""

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.errors import IntsimError
from intsim.proofs.replay import Replay
from intsim.targets import Target


def target(stages: str, requantize: str, operands: str = "") -> Target:
    text = f'title = "t"\nsource = ["s"]\n{operands}\n[accumulate]\nstages = [{stages}]\n[requantize]\n{requantize}\n'
    return Target.from_toml(text, "own")


def later_refused(what: str) -> intsim.Model:
    """A layer that overflows 8 bits and, behind it, what a target can't do: a negative scale, or 12-bit codes."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 4, signed=0)
    y = net.node("MatMul", x, net.quant(np.float32([7, -7, 7, 7]) * np.ones((4, 4), np.float32), 1, 0, 4))
    if what == "before the requantizer behind it":
        return intsim.load(net.model(net.quant(net.node("PRelu", y, np.float32(-1)), 1, 0, 8)))
    y = net.quant(y, 1, 0, 12 if what == "operands" else 8, signed=int(what != "operands"))
    y = net.node("MatMul", y, net.quant(np.eye(4, dtype=np.float32), 1, 0, 2))
    if what != "operands":
        y = net.node("PRelu", y, np.float32(-1))
    return intsim.load(net.model(net.quant(y, 1, 0, 8)))


@pytest.mark.parametrize("what", ["before the requantizer behind it", "two layers behind", "operands"])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_a_refusal_comes_before_a_counterexample(what, overflow):
    """Of a layer that is wrong itself, whose counterexample would run into the refusal."""
    stages = f'{{ sum = "rest", bits = 8, overflow = "{overflow}" }}'
    operands = '[operands]\nactivation = "s8"\nweight = "s8"' if what == "operands" else ""
    chosen = target(stages, 'scheme = "exact"' if what == "operands" else 'scheme = "tosa"', operands)
    model = later_refused(what)
    with pytest.raises(IntsimError, match="doesn't fit" if what == "operands" else "multiplier below 0") as caught:
        intsim.certify(model, chosen, samples=1, seed=0)
    assert model.graph.nodes[-1].source in str(caught.value) or "MatMul" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reads_input", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_a_wrong_sum_that_the_scheme_refuses(reads_input, deep):
    """Sums wrap at 36 bits, and TOSA takes 32: wrong sums are found, and no code is claimed where there is none."""
    net = Net()
    x = net.quant(net.input(1, 10), 1, 0, 17, signed=0)
    if not reads_input:
        x = net.quant(net.node("Relu", x), 1, 0, 17, signed=0)
        x = net.quant(net.node("MatMul", x, net.quant(np.eye(10, dtype=np.float32), 1, 0, 2)), 1, 0, 17, signed=0)
    y = net.node("MatMul", x, net.quant(np.full((10, 2), 2**16 - 1, np.float32), 1, 0, 17))
    y = net.quant(y, 2.0**24, 0, 8)
    if deep:
        y = net.quant(net.node("MatMul", y, net.quant(np.eye(2, dtype=np.float32), 1, 0, 2)), 1, 0, 8)
    model = intsim.load(net.model(y))
    chosen = target('{ sum = "rest", bits = 36, overflow = "wrap" }', 'scheme = "tosa"')
    found = intsim.certify(model, chosen, samples=2, seed=0)
    assert not found.holds
    assert "registers" in {o.kind for o in found.obstacles}
    for obstacle in found.obstacles:
        for stated in obstacle.counterexamples:
            number = stated.network.sample if stated.network else None
            sample = None if number is None else found.arrays[number]
            assert Replay(model, chosen).confirm(stated, sample) == []
