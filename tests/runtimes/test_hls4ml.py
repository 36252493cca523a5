"""hls4ml's compiled C simulation against its formulas, each layer on the simulation's own inputs, code by code."""

import numpy as np
import pytest

from tests.runtimes import hls4ml_csim, hls4ml_formulas
from tests.runtimes.hls4ml_csim import Net
from tests.runtimes.hls4ml_formulas import Fixed

asks = pytest.mark.skipif(hls4ml_csim.WHY_NOT is not None, reason=str(hls4ml_csim.WHY_NOT))
WIDE = Fixed(50, 25)
WEIGHTED = ("dense", "conv")


def weights(rng, *shape):
    """Weights over the whole int8 range."""
    return rng.integers(-128, 128, shape)


def mlp(rng, accum, result=None, **config):
    """24 inputs, 10 neurons, ReLU to 6 bits, 6 neurons."""
    precision = {name: text for name, text in (("accum", accum), ("result", result)) if text}
    net = Net([24], 8, 4)
    net.add("dense", precision, weight=weights(rng, 24, 10), bias=weights(rng, 10), bits=8, fraction=6, bias_bits=8,
            bias_fraction=5, config=config)  # fmt: skip
    net.add("relu", bits=6, fraction=2, signed=False)
    net.add("dense", precision, weight=weights(rng, 10, 6), bias=weights(rng, 6), bits=8, fraction=5, bias_bits=8,
            bias_fraction=3, config=config)  # fmt: skip
    return net


def conv_net(rng, accum):
    """A 3 x 2 convolution, padded and strided, ReLU to 7 bits, maxima of 2 x 2."""
    net = Net([7, 6, 3], 8, 4)
    net.add("conv", {"accum": accum}, weight=weights(rng, 4, 3, 3, 2), bias=weights(rng, 4), bits=8, fraction=6,
            bias_bits=8, bias_fraction=5, pads=[1, 0, 1, 1], strides=[2, 1])  # fmt: skip
    net.add("relu", bits=7, fraction=2, signed=True)
    net.add("pool", op="MaxPool", kernel=[2, 2])
    return net


def integers(values, fraction):
    """Codes of what the simulation returns as numbers."""
    codes = np.asarray(values, np.float64) * 2.0**fraction
    assert (codes == np.rint(codes)).all()
    return codes.astype(np.int64)


def expected(net, index, types, name, x, fraction, accum):
    """Codes of one layer from its inputs."""
    layer, result = net.layers[index], Fixed.read(types[name]["result_t"])
    if layer["kind"] == "relu":
        return hls4ml_formulas.relu(x, fraction, result)
    if layer["kind"] == "pool":
        return hls4ml_formulas.max_pool(x, fraction, layer["kernel"], Fixed.read(accum), result)
    weight, bias = net.arrays[f"{index}.weight"], net.arrays[f"{index}.bias"]
    if name.startswith("bn_"):
        return hls4ml_formulas.add(x, fraction, bias, layer["bias_fraction"], result)
    if "result" in layer["precision"]:
        bias = np.zeros_like(bias)
    given = [x, fraction, weight, layer["fraction"], bias, layer["bias_fraction"], Fixed.read(accum), result]
    if layer["kind"] == "conv":
        return hls4ml_formulas.conv(*given, layer["pads"], layer["strides"])
    strategy = layer.get("config", {}).get("Strategy", "Latency")
    order = hls4ml_formulas.order_of(len(weight), types[name]["reuse_factor"], strategy)
    return hls4ml_formulas.dense(*given, order)


def judge(net, samples, seed):
    """(kind, codes that differ, codes, codes that would differ with a wide register) of every layer."""
    rng = np.random.default_rng(seed)
    answers = hls4ml_csim.answers(net, rng.integers(-128, 128, (samples, *net.shape)))
    types = answers["types"]
    kinds = {"Dense": WEIGHTED, "Conv2D": WEIGHTED, "Relu": ("relu",), "MaxPool": ("pool",), "bn": WEIGHTED}
    names = [n for n in types if n.split("_")[0] in kinds]
    before = next(n for n in types if n.startswith("Quant"))
    found, index = [], 0
    for name in names:
        index += not name.startswith("bn_")
        assert net.layers[index]["kind"] in kinds[name.split("_")[0]], types
        source, result = Fixed.read(types[before]["result_t"]), Fixed.read(types[name]["result_t"])
        x, got = integers(answers[before], source.fraction), integers(answers[name], result.fraction)
        accum = types[name].get("accum_t")
        kind = "bias" if name.startswith("bn_") else net.layers[index]["kind"]
        want = expected(net, index, types, name, x, source.fraction, accum)
        wide = want if accum is None else expected(net, index, types, name, x, source.fraction, "fixed<50,25>")
        found.append((kind, int((got != want).sum()), got.size, int((got != wide).sum())))
        before = name
    assert index == len(net.layers) - 1, types
    return found


def check(net, samples=300, seed=7, telling=True):
    for kind, differing, codes, telling_codes in judge(net, samples, seed):
        assert differing == 0, f"{kind}: {differing} of {codes} codes"
        if telling and kind in WEIGHTED:  # the register matters in this network
            assert telling_codes > codes // 100


@asks
def test_products_are_cast_to_the_accumulator_first():
    check(mlp(np.random.default_rng(1), "fixed<12,6,RND,SAT>"), samples=2000)


@asks
@pytest.mark.slow
@pytest.mark.parametrize("accum", [
    "fixed<12,6,TRN,WRAP>", "fixed<14,10,RND_CONV,WRAP>", "fixed<10,9,TRN,SAT_SYM>", "fixed<12,8,RND_ZERO,SAT>",
    "fixed<11,7,RND_INF,WRAP>", "fixed<11,7,RND_MIN_INF,SAT>", "fixed<11,7,TRN_ZERO,SAT>",
])  # fmt: skip
def test_every_rounding_and_overflow(accum):
    check(mlp(np.random.default_rng(2), accum), samples=2000)


@asks
@pytest.mark.slow
def test_a_result_type_moves_the_bias_behind_the_layer():
    """The bias is then no first value of the register, but added to what the layer returned, and cast again."""
    check(mlp(np.random.default_rng(6), "fixed<12,6,RND,SAT>", "fixed<10,5,RND_CONV,SAT>"), samples=2000)


@asks
@pytest.mark.slow
def test_an_automatic_accumulator_is_exact():
    check(mlp(np.random.default_rng(3), None), samples=2000, telling=False)


@asks
@pytest.mark.slow
def test_a_reuse_factor_changes_the_order():
    check(mlp(np.random.default_rng(4), "fixed<10,4,TRN,SAT>", Strategy="Resource", ReuseFactor=4), samples=2000)


@asks
@pytest.mark.slow
@pytest.mark.parametrize("accum", ["fixed<12,6,RND,SAT>", "fixed<14,8,TRN,WRAP>"])
def test_convolution_and_maxima(accum):
    check(conv_net(np.random.default_rng(5), accum))


# codes of 1/4, cast to whole numbers: -1.75, -1.5, -0.5, -0.25, 0.25, 0.5, 1.5, 1.75
QUARTERS = [-7, -6, -2, -1, 1, 2, 6, 7]


@pytest.mark.parametrize(("rounding", "whole"), [
    ("TRN", [-2, -2, -1, -1, 0, 0, 1, 1]),
    ("TRN_ZERO", [-1, -1, 0, 0, 0, 0, 1, 1]),
    ("RND", [-2, -1, 0, 0, 0, 1, 2, 2]),
    ("RND_ZERO", [-2, -1, 0, 0, 0, 0, 1, 2]),
    ("RND_INF", [-2, -2, -1, 0, 0, 1, 2, 2]),
    ("RND_MIN_INF", [-2, -2, -1, 0, 0, 0, 1, 2]),
    ("RND_CONV", [-2, -2, 0, 0, 0, 0, 2, 2]),
])  # fmt: skip
def test_rounding_as_the_ap_fixed_manual_says(rounding, whole):
    """Xilinx UG902, ap_fixed quantization modes."""
    assert Fixed(8, 8, rounding).cast(QUARTERS, 2).tolist() == whole


@pytest.mark.parametrize(("overflow", "codes"), [
    ("WRAP", [-8, 7, -7, 0]), ("SAT", [7, -8, 7, -8]), ("SAT_SYM", [7, -7, 7, -7]),
])  # fmt: skip
def test_overflow_as_the_ap_fixed_manual_says(overflow, codes):
    assert Fixed(4, 4, "TRN", overflow).cast([8, -9, 9, -16], 0).tolist() == codes
