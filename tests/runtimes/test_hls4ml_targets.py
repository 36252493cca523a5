"""Targets of hls4ml give the outputs of its compiled C simulation: whole networks, every code compared.

hls4ml and intsim read the same QONNX file. Its accumulator is an ap_fixed type; the target says the same in bits, an
overflow rule, an LSB and a rounding.
"""

import re

import numpy as np
import pytest

import intsim
from intsim.targets import Target

from . import hls4ml_csim
from .hls4ml_csim import Net

asks = pytest.mark.skipif(hls4ml_csim.WHY_NOT is not None, reason=str(hls4ml_csim.WHY_NOT))
ROUNDING = {
    "TRN": "floor",
    "RND": "half_up",
    "RND_CONV": "half_even",
    "TRN_ZERO": "toward_zero",
    "RND_INF": "half_away",
    "RND_ZERO": "half_toward_zero",
}
RULES = {"WRAP": "wrap", "SAT": "saturate"}


def target(accum):
    """Of hls4ml's spelling of an accumulator: fixed<W,I,Q,O>."""
    width, integer, rounding, overflow = re.fullmatch(r"fixed<(\d+),(\d+),(\w+),(\w+)>", accum).groups()
    register = f'bits = {width}, overflow = "{RULES[overflow]}"'
    first = f'{register}, lsb = {int(integer) - int(width)}, rounding = "{ROUNDING[rounding]}"'
    return Target.from_toml(
        f"""
title = "{accum}"
source = ["hls4ml"]
[accumulate]
bias = "preload"
stages = [{{ sum = 1, {first} }}, {{ sum = "rest", {register} }}]
[requantize]
scheme = "exact"
""",
        "accumulator",
    )


def weights(rng, *shape):
    return rng.integers(-128, 128, shape)


def mlp(accum):
    """24 inputs, 10 neurons, ReLU to 6 bits, 6 neurons; products have 10 and 7 fraction bits."""
    rng, net = np.random.default_rng(5), Net([24], 8, 4)
    for inputs, outputs, fraction, bias_fraction in ((24, 10, 6, 5), (10, 6, 5, 3)):
        drawn = {"weight": weights(rng, inputs, outputs), "bias": weights(rng, outputs)}
        net.add("dense", {"accum": accum}, **drawn, bits=8, fraction=fraction, bias_bits=8, bias_fraction=bias_fraction)
        if inputs == 24:
            net.add("relu", bits=6, fraction=2, signed=False)
    return net


def convolution(accum):
    """A 3 x 2 convolution, padded and strided, ReLU to 7 bits, maxima of 2 x 2; products have 10 fraction bits."""
    rng, net = np.random.default_rng(5), Net([7, 6, 3], 8, 4)
    drawn = {"weight": weights(rng, 4, 3, 3, 2), "bias": weights(rng, 4)}
    net.add("conv", {"accum": accum}, **drawn, bits=8, fraction=6, bias_bits=8, bias_fraction=5, pads=[1, 0, 1, 1],
            strides=[2, 1])  # fmt: skip
    net.add("relu", bits=7, fraction=2, signed=True)
    net.add("pool", op="MaxPool", kernel=[2, 2])
    return net


def outputs(model, samples, chosen):
    """(samples, elements), channels first."""
    return np.stack([next(iter(model.run({"x": x[None]}, chosen).outputs.values())).reshape(-1) for x in samples])


def compared(net, chosen, count):
    """Outputs that differ from the simulation, outputs in all, outputs whose exact value it doesn't give."""
    codes = np.random.default_rng(9).integers(-128, 128, (count, *net.shape))
    found = hls4ml_csim.answers(net, codes)
    held = re.compile(r"fixed<(\d+),(\d+)")
    for name, types in found["types"].items():
        if "accum_t" in types and name.startswith(("Dense", "Conv")):  # the result type holds the accumulator
            (_, whole), (_, holds) = (map(int, held.match(types[t]).groups()) for t in ("accum_t", "result_t"))
            assert whole <= holds, types
    model = intsim.load(hls4ml_csim.qonnx_file(net.shape, net.layers, net.arrays))
    samples = (codes * 2.0 ** -net.layers[0]["fraction"]).astype(np.float32)
    samples = np.moveaxis(samples, -1, 1) if samples.ndim > 2 else samples
    last = found["last"].reshape(count, -1)  # hls4ml transposes it back
    mine, exact = outputs(model, samples, chosen), outputs(model, samples, "exact")
    return int((mine != last).sum()), last.size, int((exact != last).sum())


def check(net, chosen, count=2000):
    differing, codes, telling = compared(net, chosen, count)
    assert codes >= 5 * count
    assert differing == 0, f"{differing} of {codes} outputs"
    assert telling > codes // 100  # the register matters


@asks
def test_an_mlp_with_fewer_fraction_bits():
    accum = "fixed<12,6,RND,SAT>"
    check(mlp(accum), target(accum))


@asks
@pytest.mark.slow
@pytest.mark.parametrize(
    "accum",
    ["fixed<12,6,TRN,WRAP>", "fixed<12,5,TRN,SAT>", "fixed<11,6,RND_CONV,WRAP>", "fixed<14,4,TRN,WRAP>"],
)
def test_an_mlp(accum):
    """The last one is finer than the products of the second layer."""
    check(mlp(accum), target(accum))


@asks
@pytest.mark.slow
@pytest.mark.parametrize("accum", ["fixed<12,6,RND,SAT>", "fixed<14,8,TRN,WRAP>"])
def test_a_convolution(accum):
    check(convolution(accum), target(accum), 700)


@asks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("accum", "name"), [("fixed<12,2,TRN,WRAP>", "hls4ml-12"), ("fixed<13,3,TRN,SAT>", "hls4ml-saturate-13")]
)
def test_built_in_targets_have_the_products_fraction_bits(accum, name):
    check(convolution(accum), Target.load(name), 700)
