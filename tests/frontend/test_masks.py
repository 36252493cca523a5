"""Masks in front of Softmax: constants with minus infinity or numbers far below zero, in each place and form."""

import decimal
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest

import intsim
from intsim.errors import IntsimError
from intsim.frontend.masks import LN2

from .build import Net, check

RNG = np.random.default_rng(9)
CAUSAL = np.tril(np.ones((5, 5), bool))
LOWEST = float(np.finfo(np.float32).min)
NUMBERS = {"-inf": -np.inf, "-1e4": -1e4, "lowest": LOWEST, "-100": -100.0}


def model(bring, scale=0.03, opset=17, bits=8, out=1 / 255, after=None, quantizer="qcdq", axis=-1):
    """x, its scores with itself, what `bring` makes of them, Softmax, a quantizer; codes against the reference."""
    net = Net(opset)
    x = net.input(1, 2, 5, 4)
    x = net.qdq(x, scale, np.int8(3)) if quantizer == "qcdq" else net.quant(x, scale, 0, bits)
    scores = net.node("MatMul", x, net.node("Transpose", x, perm=[0, 1, 3, 2]))
    masked = bring(net, scores)
    shares = net.node("Softmax", masked, axis=axis)
    shares = after(net, shares) if after else shares
    y = net.qdq(shares, out, np.uint8(0)) if quantizer == "qcdq" else net.quant(shares, out, 0, 8, signed=0)
    return net.model(y)


def add(number, mask=CAUSAL, shape=(5, 5)):
    return lambda net, s: net.node("Add", s, np.where(mask, 0, number).astype(np.float32).reshape(shape))


def where(number, mask=CAUSAL, swapped=False):
    sides = (lambda s: (~mask, np.float32(number), s)) if swapped else (lambda s: (mask, s, np.float32(number)))
    return lambda net, s: net.node("Where", *sides(s))


def sliced(net, s):
    """From a larger constant, as GPT-2 has it, of bytes."""
    whole = net.const(np.tril(np.ones((1, 1, 8, 8), np.uint8)))
    part = net.node("Slice", whole, np.int64([1, 1]), np.int64([6, 6]), np.int64([2, 3]))
    return net.node("Where", net.node("Cast", part, to=9), s, np.float32(LOWEST))


def computed(net, s):
    """(1 - kept) * lowest, written in nodes of constants."""
    gone = net.node("Sub", np.float32(1), net.node("Cast", net.const(CAUSAL), to=1))
    return net.node("Add", s, net.node("Mul", gone, np.float32(LOWEST)))


def of_zero(net, s):
    """PyTorch's: Where(kept, 0, -inf) of constants, then Add."""
    return net.node("Add", s, net.node("Where", net.const(CAUSAL), np.float32(0), np.float32(-np.inf)))


PLACES = {
    "scaled": lambda net, s: net.node("Div", add(-np.inf)(net, s), np.float32(np.sqrt(8))),
    "scaled before": lambda net, s: add(-1e4)(net, net.node("Mul", s, np.float32(0.35))),
    "twice": lambda net, s: where(-1e4, np.arange(5) < 4)(net, add(-np.inf)(net, s)),
    "twice added": lambda net, s: add(-1e4, np.arange(5) < 4, (5,))(net, add(-1e4)(net, s)),
    "moved": lambda net, s: net.node(
        "Transpose", where(-np.inf, CAUSAL.T)(net, net.node("Transpose", s, perm=[0, 1, 3, 2])), perm=[0, 1, 3, 2]
    ),
    "reshaped": lambda net, s: net.node("Reshape", add(-np.inf)(net, s), np.int64([2, 5, 5])),
    "a row of keys": add(-1e4, np.array([1, 1, 0, 1, 0], bool), (1, 1, 1, 5)),
    "a bias behind": lambda net, s: net.node("Add", add(-np.inf)(net, s), RNG.normal(0, 1, (5, 1)).astype(np.float32)),
    "sliced": sliced,
    "computed": computed,
    "of zero": of_zero,
    "Sub": lambda net, s: net.node("Sub", s, np.where(CAUSAL, 0, 1e4).astype(np.float32)),
}
DATA = {"x": RNG.normal(0, 1.5, (1, 2, 5, 4)).astype(np.float32)}


def checked(made, data=DATA):
    run = check(made, data)
    loaded = intsim.load(made)
    verdict = intsim.verify(loaded, inputs=data, references=False)
    assert verdict.verdict == "exact"
    return run, loaded


def assert_like_onnxruntime(made, run):
    """Codes but for float32's rounding, and 0 exactly where a mask hides."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # no kernels of codes
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, DATA)[0]
    ours = next(iter(run.outputs.values()))
    assert np.abs(theirs - ours).max() <= 1.01 / 255
    assert (np.abs(theirs - ours) > 1e-6).mean() < 0.1
    np.testing.assert_array_equal((theirs == 0)[..., ~CAUSAL], (ours == 0)[..., ~CAUSAL])


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("way", ["Add", "Where", "Where swapped"])
@pytest.mark.parametrize("quantizer", ["qcdq", "qonnx"])
def test_a_hidden_element_has_no_share(way, number, quantizer):
    bring = add(NUMBERS[number]) if way == "Add" else where(NUMBERS[number], swapped="swapped" in way)
    made = model(bring, quantizer=quantizer, scale=0.02 if number == "-100" else 0.03)
    run, loaded = checked(made)
    node = next(n for n in loaded.graph.nodes if n.op == "softmax")
    np.testing.assert_array_equal(node.arrays["mask"].reshape(5, 5), CAUSAL)
    assert [n.op for n in loaded.graph.nodes].count("affine") == 0
    assert not next(iter(run.outputs.values()))[..., ~CAUSAL].any()
    if quantizer == "qcdq":
        assert_like_onnxruntime(made, run)


@pytest.mark.parametrize("place", PLACES)
def test_where_masks_stand(place):
    made = model(PLACES[place])
    run, loaded = checked(made)
    assert any("mask" in n.arrays for n in loaded.graph.nodes)
    if place not in ("a row of keys", "reshaped", "twice", "twice added"):
        assert_like_onnxruntime(made, run)


@pytest.mark.parametrize(("axis", "opset"), [(-2, 17), (3, 12), (2, 9)])
def test_rows_along_other_axes(axis, opset):
    """Before opset 13 a row is all from the axis on, and here the mask is broadcast within it."""
    checked(model(where(-np.inf), axis=axis, opset=opset, quantizer="qcdq" if opset > 9 else "qonnx"))


@pytest.mark.parametrize("number", [-np.inf, -1e4])
def test_a_quantizer_between_saturates(number):
    made = model(lambda net, s: net.qdq(where(number)(net, s), 0.05, np.int8(10)))
    run, _ = checked(made)
    assert_like_onnxruntime(made, run)
    checked(model(lambda net, s: net.quant(add(number)(net, s), 0.05, 0, 8), quantizer="qonnx"))


def test_a_safe_softmax():
    """PyTorch asks whether the result is a number."""
    checked(model(where(-np.inf), after=lambda net, p: net.node("Where", net.node("IsNaN", p), np.float32(0), p)))


def test_a_number_that_may_leave_a_share_keeps_it():
    """-20 on a grid of powers of two: what it adds counts, as exactly as everything else."""
    made = model(add(-20.0), scale=0.25, bits=4, quantizer="qonnx")
    _, loaded = checked(made)
    node = next(n for n in loaded.graph.nodes if n.op == "softmax")
    assert "mask" not in node.arrays
    with pytest.raises(IntsimError, match=r"Softmax.*bits"):
        intsim.load(model(add(-40.0), scale=0.7, quantizer="qcdq"))


def test_a_row_that_is_masked_throughout():
    """By an addition of one number, which cancels; by minus infinity it has no Softmax; by Where all are alike."""
    mask = CAUSAL.copy()
    mask[2] = False
    run, loaded = checked(model(add(-1e4, mask)))
    assert next(iter(run.outputs.values()))[..., 2, :].any()
    node = next(n for n in loaded.graph.nodes if n.op == "softmax")
    assert node.arrays["mask"].reshape(5, 5)[2].all()
    run, _ = checked(model(where(-1e4, mask)))
    np.testing.assert_allclose(next(iter(run.outputs.values()))[..., 2, :], 0.2, atol=1 / 255)
    for way in (add, where):
        with pytest.raises(IntsimError, match="minus infinity alone"):
            intsim.load(model(way(-np.inf, mask)))


REFUSED = {
    "product": (lambda net, s: net.node("Mul", s, np.where(CAUSAL, 1, -np.inf).astype(np.float32)), "NaN or infinity"),
    "plus infinity": (add(np.inf), "NaN or infinity"),
    "NaN": (add(np.nan), "NaN or infinity"),
    "negative scale": (lambda net, s: net.node("Mul", add(-np.inf)(net, s), np.float32(-1)), "above zero"),
    "activation": (lambda net, s: net.node("Relu", add(-np.inf)(net, s)), "minus infinity of a mask"),
    "a mask of the data": (
        lambda net, s: net.node("Where", net.node("Greater", s, np.float32(0)), s, np.float32(-1e4)),
        "Greater|condition",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    bring, text = REFUSED[what]
    with pytest.raises(IntsimError, match=text) as error:
        intsim.load(model(bring))
    assert "\n" not in str(error.value)


def test_what_is_no_mask_stays_a_constant():
    """In front of a quantizer, or of more numbers than a mask has."""
    net = Net()
    x = net.quant(net.input(3, 40), 0.1, 0, 8)
    y = net.node("Add", x, np.linspace(-1000, 1000, 40, dtype=np.float32))
    made = net.model(net.quant(y, 8, 0, 8))
    check(made, {"x": RNG.normal(0, 3, (3, 40)).astype(np.float32)})
    assert [n.op for n in intsim.load(made).graph.nodes] == ["requantize"]


def test_the_bound_of_the_logarithm():
    with decimal.localcontext(decimal.Context(prec=40)):
        exact = Fraction(decimal.Decimal(2).ln())
    assert 0 < LN2 - exact < Fraction(1, 10**15)
