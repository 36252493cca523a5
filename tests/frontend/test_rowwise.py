"""Softmax and layer normalisation between quantizers, against the reference; a transformer; what is refused."""

import dataclasses
from decimal import Decimal

import numpy as np
import pytest

import intsim
from intsim.engine.node import run_node
from intsim.errors import IntsimError
from intsim.targets import Target
from intsim.testing.net import QONNX

from .build import Net, check
from .transformer import Block, image

RNG = np.random.default_rng(5)
GAMMA, BETA = RNG.normal(1, 0.5, (2, 6)).astype(np.float32)


def ops(model):
    return [n.op for n in intsim.load(model).graph.nodes]


def run(make, shape=(2, 3, 6), scale=0.1, zero=0, opset=17, form="qonnx", out=1 / 255):
    """Quantize, apply `make`, quantize; every code against the reference."""
    net = Net(opset)
    x = net.input(*shape)
    x = net.quant(x, scale, zero, 8, signed=int(zero == 0)) if form == "qonnx" else net.qdq(x, scale, np.uint8(zero))
    y = make(net, x)
    y = net.quant(y, out, 0, 8, signed=int(out > 0.01)) if form == "qonnx" else net.qdq(y, out, np.uint8(3))
    model = net.model(y)
    check(model, {"x": RNG.normal(0, 3, shape).astype(np.float32)})
    verdict = intsim.verify(model, samples=3, references=False)
    assert verdict.verdict == "exact"
    assert sum(layer.near_ties for layer in verdict.layers) == 0
    return ops(model)


@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
@pytest.mark.parametrize(("axis", "opset"), [(-1, 17), (1, 17), (0, 13), (1, 11), (2, 9)])
def test_softmax(axis, opset, form):
    if form == "qcdq":
        opset = max(opset, 13) if axis != 1 else opset
    assert run(lambda net, x: net.node("Softmax", x, axis=axis), opset=opset, form=form, zero=100) == [
        "softmax",
        "requantize",
    ]


@pytest.mark.parametrize("default", [17, 11])
def test_axis_by_default(default):
    run(lambda net, x: net.node("Softmax", x), opset=default)


INPUTS = {
    "scaled": lambda net, x: net.node("Mul", x, np.float32(0.35)),
    "divided": lambda net, x: net.node("Div", x, np.float32(np.sqrt(8))),
    "falling": lambda net, x: net.node("Mul", x, np.float32(-0.5)),
    "moved": lambda net, x: net.node("Add", x, np.float32(0.333)),
    "activated": lambda net, x: net.node("Relu", net.node("Add", x, np.float32(0.5))),
    "summed": lambda net, x: net.node("Add", x, net.quant(net.node("Mul", x, x), 0.25, 0, 4)),
    "turned": lambda net, x: net.node("Transpose", x, perm=[1, 0, 2]),
    "product": lambda net, x: net.node("MatMul", x, net.quant(net.const(RNG.normal(0, 1, (6, 6))), 0.25, 0, 4)),
}


@pytest.mark.parametrize("before", INPUTS)
@pytest.mark.parametrize("op", ["Softmax", "LayerNormalization"])
def test_what_may_stand_before(op, before):
    """A constant factor, an activation, a sum, an accumulator: whatever is integers of one scale."""
    scale = 0.5 if before == "summed" else 0.125 if before == "activated" else 0.1
    parameters = [GAMMA] if op == "LayerNormalization" else []
    made = run(lambda net, x: net.node(op, INPUTS[before](net, x), *parameters), scale=scale, out=0.03)
    assert ("softmax" if op == "Softmax" else "layer_norm") in made


@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
@pytest.mark.parametrize("attributes", [{}, {"axis": -1, "epsilon": 1e-3}, {"axis": 2, "epsilon": 1e-12}])
@pytest.mark.parametrize("parameters", [(GAMMA,), (GAMMA, BETA), (np.float32([2.0]), BETA)])
def test_layer_normalization(attributes, parameters, form):
    made = run(
        lambda net, x: net.node("LayerNormalization", x, *parameters, **attributes), zero=99, form=form, out=0.03
    )
    assert made == ["layer_norm", "requantize"]


def test_layer_normalization_over_several_axes():
    gamma = RNG.normal(1, 1, (3, 6)).astype(np.float32)
    run(lambda net, x: net.node("LayerNormalization", x, gamma, axis=1), out=0.03)


def written_out(net, x, square="Pow", ratio="Div", apart=1, axes=(-1,), swapped=False):
    """A layer normalisation in elementary nodes."""

    def mean(v):
        if net.opset < 18:
            return net.node("ReduceMean", v, axes=list(axes))
        return net.node("ReduceMean", v, np.int64(axes))

    centre = mean(x)
    d = net.node("Sub", x, centre)
    e = d if apart == 1 else net.node("Sub", x, centre if apart == 2 else mean(x))
    v = mean(net.node("Pow", e, np.float32(2)) if square == "Pow" else net.node("Mul", e, e))
    epsilon = net.const(np.float32(1e-5))
    total = net.node("Add", epsilon, v) if swapped else net.node("Add", v, epsilon)
    if ratio == "falling power":
        return d, net.node("Mul", d, net.node("Pow", total, np.float32(-0.5)))
    root = net.node("Pow", total, np.float32(0.5)) if ratio == "power" else net.node("Sqrt", total)
    if ratio in ("Div", "power"):
        return d, net.node("Div", d, root)
    inverse = net.node("Reciprocal", root) if ratio == "Reciprocal" else net.node("Div", np.float32(1), root)
    return d, net.node("Mul", inverse, d) if swapped else net.node("Mul", d, inverse)


WAYS = [
    {},
    {"square": "Mul", "swapped": True},
    {"apart": 2},
    {"apart": 3, "ratio": "power"},
    {"ratio": "Reciprocal"},
    {"ratio": "one over", "swapped": True},
    {"ratio": "falling power"},
    {"axes": (-2, -1)},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("opset", [13, 18])
def test_written_out(way, opset):
    def make(net, x):
        return net.node("Add", net.node("Mul", written_out(net, x, **way)[1], GAMMA), BETA)

    assert run(make, opset=opset, out=0.03, zero=50) == ["layer_norm", "requantize"]


def test_a_difference_that_is_read_elsewhere_stays():
    net = Net(13)
    x = net.quant(net.input(2, 6), 0.1, 0, 8)
    d, y = written_out(net, x)
    model = net.model(net.quant(y, 0.03, 0, 8), net.quant(d, 0.2, 0, 8))
    check(model, {"x": RNG.normal(0, 3, (2, 6)).astype(np.float32)}, 3)
    made = ops(model)
    assert made.count("layer_norm") == made.count("reduce_sum") == 1
    assert made.count("requantize") == 2


def test_a_variance_that_is_read_elsewhere_is_no_pattern():
    net = Net(13)
    x = net.quant(net.input(2, 6), 0.1, 0, 8)
    y = written_out(net, x)[1]
    root = next(n.output[0] for n in net.nodes if n.op_type == "Sqrt")
    with pytest.raises(IntsimError, match="Pow"):
        intsim.load(net.model(net.quant(y, 0.03, 0, 8), net.quant(root, 0.03, 0, 8)))


def test_without_a_quantizer_behind_both_stay_on_the_host():
    net = Net()
    x = net.quant(net.input(2, 6), 0.1, 0, 8)
    model = net.model(net.node("Softmax", x), net.node("LayerNormalization", x, GAMMA), written_out(net, x)[1])
    loaded = intsim.load(model)
    assert not {n.op for n in loaded.graph.nodes} & {"softmax", "layer_norm"}
    assert {"Softmax", "LayerNormalization", "Sqrt"} <= {n.split("(")[1][:-1] for n in loaded.lowered.epilogue.names}


def test_a_result_that_is_quantized_and_also_an_output():
    """The integers of a row function are an end of the graph, judged by their proven error."""
    net = Net()
    x = net.quant(net.input(2, 6), 0.1, 0, 8)
    y, s = net.node("LayerNormalization", x, GAMMA, BETA), net.node("Softmax", x)
    z = net.node("LayerNormalization", net.node("Mul", x, np.float32(3)), GAMMA)
    model = net.model(
        net.quant(y, 0.03, 0, 8), y, net.quant(s, 1 / 255, 0, 8, signed=0), s, net.node("Add", z, np.float32(1))
    )
    loaded = intsim.load(model)
    codes = {"x": RNG.normal(0, 3, (2, 6)).astype(np.float32)}
    found = loaded.run(codes)
    verdict = intsim.verify(loaded, inputs=codes, references=False)
    assert verdict.verdict == "exact"
    shares = np.exp(
        found.outputs[x]
        if x in found.outputs
        else loaded.run(codes, keep=True).tensors[x] * np.float64(np.float32(0.1))
    )
    np.testing.assert_allclose(found.outputs[s], shares / shares.sum(axis=-1, keepdims=True), atol=2**-24)


def wrong(model, **changes):
    """The model with one node's constants or attributes changed."""
    graph = model.graph
    for i, n in enumerate(graph.nodes):
        if n.op in changes:
            graph.nodes[i] = changes[n.op](n)
    return model


def entry(n):
    table = n.arrays["table"].copy()
    table[40:] += table[40] >> 15
    return dataclasses.replace(n, arrays={"table": table})


@pytest.mark.parametrize(
    "change",
    [
        {"softmax": entry},
        {"softmax": lambda n: dataclasses.replace(n, attributes={**n.attributes, "fraction": 23})},
        {"layer_norm": lambda n: dataclasses.replace(n, attributes={**n.attributes, "fraction": 23})},
        {"layer_norm": lambda n: dataclasses.replace(n, attributes={**n.attributes, "epsilon": "2/1"})},
    ],
    ids=["table", "softmax shift", "norm shift", "epsilon"],
)
def test_a_wrong_constant_diverges(change):
    model = wrong(intsim.load(Block().model()), **change)
    verdict = intsim.verify(model, samples=2, references=False)
    assert verdict.verdict == "diverges"
    assert verdict.first_divergence["blame"] == "lowering"
    assert verdict.first_divergence["op"] == ("Softmax" if "softmax" in change else "LayerNormalization")


def test_a_code_that_the_proven_error_leaves_open_is_admitted():
    """A scale that puts a tie between the real share and the integers' own; what follows is judged on their codes."""
    codes = np.array([[0, 9, 17, 30, 31, 33]])
    powers = [(Decimal(int(c)) * Decimal(float(np.float32(0.1)))).exp() for c in codes[0]]
    for i in range(6):
        net = Net()
        x = net.quant(net.input(1, 6), 0.1, 0, 8)
        share = powers[i] / sum(powers)
        step = Decimal(round(share * 2**24)) / 2**24
        tie = net.const(np.float64((share + step) / 2 / Decimal("20.5")), np.float64)
        q = net.node("Quant", net.node("Softmax", x), tie, np.float32(0), np.float32(8), domain=QONNX, signed=0)
        y = net.quant(net.node("Mul", q, np.float32(0.3)), 1e-4, 0, 12)
        model = net.model(y)
        verdict = intsim.verify(model, inputs={"x": codes * np.float32(0.1)}, references=False)
        assert (verdict.verdict, sum(v.near_ties for v in verdict.layers)) == ("exact", 1)


def attention(net, x, between=True):
    s = net.node("Softmax", x)
    s = net.quant(s, 1 / 255, 0, 8, signed=0) if between else s
    return net.node("MatMul", s, net.node("Transpose", x, perm=[0, 2, 1]))


CHANNELS = np.float32(RNG.uniform(0.05, 0.2, (1, 1, 6)))
ROWS = np.float32(RNG.uniform(0.05, 0.2, (1, 3, 1)))
REFUSED = {
    "softmax of channels": (lambda n, x: n.node("Softmax", n.quant(x, CHANNELS, 0, 8)), "scale for each channel"),
    "softmax of scaled rows": (lambda n, x: n.node("Softmax", n.quant(x, ROWS, 0, 8)), "scale for each channel"),
    "fine input": (
        lambda n, x: n.node("Softmax", n.node("Mul", n.node("Mul", x, x), np.float32(1e-9))),
        "needs more than",
    ),
    "no epsilon": (lambda n, x: n.node("LayerNormalization", x, GAMMA, epsilon=0.0), "epsilon is not above zero"),
    "statistics": (lambda n, x: n.node("LayerNormalization", x, GAMMA, outputs=2)[0], "InvStdDev"),
    "runtime scale": (
        lambda n, x: n.node("LayerNormalization", x, n.node("ReduceMean", x, axes=[0, 1], keepdims=0)),
        "constant",
    ),
    "misshapen scale": (lambda n, x: n.node("LayerNormalization", x, np.float32([1, 2])), "shape"),
    "axis": (lambda n, x: n.node("Softmax", x, axis=3), "outside"),
    "no codes": (lambda n, x: attention(n, x, False), r"MatMul.*Softmax.*put a quantizer between"),
    "norm of norms": (
        lambda n, x: n.node("LayerNormalization", n.node("LayerNormalization", x, GAMMA[:1]), GAMMA),
        "put a quantizer in front",
    ),
    "norm of a function": (
        lambda n, x: n.node("LayerNormalization", n.node("Add", x, n.node("Tanh", n.quant(x, 0.1, 0, 8))), GAMMA),
        "put a quantizer in front",
    ),
    "norm of a function of sums": (
        lambda n, x: n.node("LayerNormalization", n.node("Add", x, n.node("Tanh", n.node("Mul", x, x))), GAMMA),
        "put a quantizer in front",
    ),
    "shares of a norm": (
        lambda n, x: n.node("Softmax", n.node("LayerNormalization", x, GAMMA[:1])),
        "put a quantizer between|quantize its input",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    make, words = REFUSED[case]
    net = Net()
    x = net.quant(net.input(2, 3, 6), 0.1, 0, 16)
    with pytest.raises(IntsimError, match=words) as caught:
        intsim.load(net.model(net.quant(make(net, x), 0.1, 0, 8)))
    assert "\n" not in str(caught.value)


def test_softmax_of_a_float_input_is_host_work():
    """Before the first quantizer nothing is integer: a prologue, as any other function."""
    net = Net()
    model = net.model(net.quant(net.node("Softmax", net.input(2, 6)), 1 / 255, 0, 8, signed=0))
    assert len(intsim.load(model).lowered.prologue.operations) == 1
    assert intsim.verify(model, references=False).verdict == "exact"


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
def test_transformer(form, written):
    model = intsim.load(Block(form, 13 if written else 17, written).model())
    assert [n.op for n in model.graph.nodes].count("layer_norm") == 3
    assert [n.op for n in model.graph.nodes].count("softmax") == 1
    assert not model.lowered.prologue.operations
    verdict = intsim.verify(model, samples=3, references=False)
    assert verdict.verdict == "exact"
    run = model.run(image(), keep=True)
    for name, value in run.tensors.items():
        info = model.graph.tensors[name]
        assert info.low <= value.min(), name
        assert value.max() <= info.high, name
    again = model.run(image())
    for name, value in again.outputs.items():
        np.testing.assert_array_equal(value, run.outputs[name])
    assert again.live_bytes > 0


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("saturate-13", "x86-avx2", "tosa")]


@pytest.mark.parametrize("target", ["wrap-32", "wrap-15", *SLOW])
def test_transformer_on_machines(target):
    """The engine's own way of every node, registers and requantizers that the target has, and what is said of them."""
    model, chosen = intsim.load(Block().model()), Target.load(target)
    sample = image(1)
    kept = model.run(sample, chosen, keep=True)
    for node in model.graph.nodes:
        out, _ = run_node(model.graph, node, [kept.tensors[i] for i in node.inputs], chosen)
        np.testing.assert_array_equal(kept.tensors[node.output], out, err_msg=node.name)
    quick = model.run(sample, chosen)
    for name, value in quick.outputs.items():
        np.testing.assert_array_equal(value, kept.outputs[name])
    bounds, certificate = intsim.bounds(model, chosen), intsim.certify(model, chosen)
    overflows = sum(int(events.sum()) for events in quick.overflows.values())
    assert len(bounds.layers) == sum(n.op in ("conv", "matmul") for n in model.graph.nodes) == 8
    telemetry = intsim.telemetry(model, chosen, sample)
    assert len(telemetry.layers) == 8
    verdict = intsim.verify(model, chosen, sample, references=False)
    assert verdict.overflows == overflows
    if bounds.safe:
        assert overflows == 0
    if certificate.holds:
        assert verdict.verdict == "exact"
    assert certificate.holds == (target == "wrap-32")
    assert (overflows > 0) == (target in ("wrap-15", "saturate-13"))
    blamed = verdict.first_divergence
    assert blamed is None or blamed["blame"] != "lowering"


def test_transformer_swept():
    """Narrow registers of the two-tensor products change what Softmax reads; wide ones change nothing."""
    rows = intsim.sweep(Block().model(), inputs=image(1), accumulator=[24, 13], overflow=["wrap"]).rows
    wide, narrow = ({x.name: x for x in row.layers} for row in rows)
    assert not any(x.mismatches for x in wide.values())
    assert any(x.mismatches for n, x in narrow.items() if n.startswith("Softmax"))
