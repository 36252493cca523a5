"""Numbers that have no common integers of 64 bits, on a grid: the file's codes, and how far the numbers are off."""

from fractions import Fraction

import numpy as np
import pytest

import intsim
from intsim.errors import IntsimError
from intsim.frontend.expression import Expr
from intsim.frontend.grids import extent, on_grid
from intsim.frontend.lower import Lowering
from intsim.frontend.reader import read
from intsim.graph import IntegerGraph
from intsim.inspect import inspect
from intsim.ops import OPS
from intsim.ops.deviation import deviations
from intsim.verification.reference import Reference

from .build import Net, check, exact_value
from .test_waiting import S, branch, joined, norm

SHAPE = (2, 2, 6, 6)


def sums(net, x, seed=0, channels=4):
    """Accumulators, normalized: a scale and a bias a channel that have nothing in common with others'."""
    return norm(net, branch(net, x, channels, 7 + seed), channels)


def gate(net, x, function):
    """Squeeze and excite, its share not quantized."""
    y = net.node("Relu", sums(net, x))
    mean = net.quant(net.node("GlobalAveragePool", y), np.float32(0.011), 0, 8)
    w = net.quant(np.random.default_rng(1).normal(0, 0.4, (4, 4, 1, 1)), np.float32(0.007), 0, 8)
    share = net.quant(net.node("Conv", mean, w, np.float32([0.1, -0.2, 0.3, 0.05])), np.float32(0.013), 0, 8)
    return net.node("Mul", net.node(function, share), y)


def silu(net, x):
    return net.node("Mul", x, net.node("Sigmoid", x))


def wide(net, x):
    """A product that has exact integers, of 63 bits."""
    y, z = (net.quant(sums(net, x, i), np.float32(s), 0, bits) for i, s, bits in ((0, 1e-8, 32), (1, 3e-8, 31)))
    return net.node("Mul", y, z)


def rounded(net, x):
    return net.quant(x, np.float32(0.0237), 0, 8)


def residual(net, x):
    """Three sums in a row on numbers that nobody quantized, each of which a quantizer reads too."""
    stream = net.node("Relu", sums(net, x))
    for i in range(2):
        w = net.quant(np.random.default_rng(i).normal(0, 0.3, (4, 4, 1, 1)), np.float32(0.009), 0, 8)
        stream = net.node("Relu", net.node("Add", net.node("Conv", rounded(net, stream), w), stream))
    return stream


LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
NETWORKS = {
    "residual": residual,
    "difference": lambda n, x: n.node("Sub", n.node("Relu", sums(n, x)), sums(n, x, 1)),
    "sum of three": lambda n, x: n.node("Sum", *(n.node("Relu", sums(n, x, i)) for i in range(3))),
    "mean of two": lambda n, x: n.node("Mean", sums(n, x), n.node("Relu", sums(n, x, 1))),
    "largest of two": lambda n, x: n.node("Max", n.node("Relu", sums(n, x)), sums(n, x, 1)),
    "global mean": lambda n, x: n.node("GlobalAveragePool", n.node("Relu", sums(n, x))),
    "mean over channels": lambda n, x: n.node("ReduceMean", n.node("Relu", sums(n, x)), axes=[1, 3], keepdims=0),
    "average pool": lambda n, x: n.node("AveragePool", n.node("Relu", sums(n, x)), kernel_shape=[2, 3], pads=[1] * 4),
    "larger": lambda n, x: n.node("Resize", n.node("Relu", sums(n, x)), None, np.float32([1, 1, 2, 1.5]), **LINEAR),
    "product": lambda n, x: n.node("Mul", n.node("Relu", sums(n, x)), sums(n, x, 1)),
    "gate": lambda n, x: gate(n, x, "HardSigmoid"),
    "gate by a function": lambda n, x: gate(n, x, "Sigmoid"),
    "mean of a function": lambda n, x: n.node("GlobalAveragePool", silu(n, rounded(n, sums(n, x)))),
    "sum of functions": lambda n, x: n.node(
        "Add", silu(n, rounded(n, sums(n, x))), n.node("Tanh", rounded(n, sums(n, x, 1)))
    ),
    "function and sums": lambda n, x: n.node("Add", silu(n, rounded(n, sums(n, x))), sums(n, x, 1)),
    "mean of joined": lambda n, x: n.node(
        "GlobalAveragePool", n.node("Relu", n.node("Concat", sums(n, x), sums(n, x, 1, 3), axis=1))
    ),
    "joined with a mean": lambda n, x: n.node(
        "Relu",
        n.node("Concat", n.node("AveragePool", n.node("Relu", sums(n, x)), kernel_shape=[1, 1]), sums(n, x, 1), axis=1),
    ),
    "mean of joined with a mean": lambda n, x: n.node(
        "GlobalAveragePool", n.node("Relu", norm(n, NETWORKS["joined with a mean"](n, x), 8))
    ),
    "norm of a residual": lambda n, x: n.node(
        "LayerNormalization", residual(n, x), np.float32(np.linspace(0.5, 2, 6)), np.float32(np.linspace(-1, 1, 6))
    ),
    "sum of functions of sums": lambda n, x: n.node("Add", silu(n, sums(n, x)), n.node("HardSwish", sums(n, x, 1))),
    "gate by a function of sums": lambda n, x: n.node(
        "Mul", n.node("Sigmoid", n.node("GlobalMaxPool", sums(n, x))), n.node("Relu", sums(n, x, 1))
    ),
    "mean of a wide product": lambda n, x: n.node("GlobalAveragePool", wide(n, x)),
    "larger wide product": lambda n, x: n.node("Resize", wide(n, x), None, np.float32([1, 1, 2, 2]), **LINEAR),
    "mean of joined functions": lambda n, x: n.node("GlobalAveragePool", joined(n, x)),
    "mean of a function of sums": lambda n, x: n.node("ReduceMean", n.node("Elu", sums(n, x), alpha=0.7), axes=[2, 3]),
    "sum and its half": lambda n, x: (lambda y: n.node("Add", n.node("Relu", y), n.node("Mul", y, np.float32(0.3))))(
        n.node("Add", sums(n, x), n.node("Relu", sums(n, x, 1)))
    ),
}  # fmt: skip
EVERYDAY = {
    *("residual", "product", "gate by a function", "sum of functions"),
    *("mean of joined", "joined with a mean", "norm of a residual"),
    *("sum of functions of sums", "mean of joined functions"),
}


def network(name):
    net = Net(18)
    return net.model(rounded(net, NETWORKS[name](net, net.quant(net.input(*SHAPE), S, 0, 8))))


def on_a_grid(graph):
    return [n for n in graph.nodes if n.op == "grid" or (n.op in ("function", "table") and "off" in n.attributes)]


@pytest.mark.parametrize("name", [n if n in EVERYDAY else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS])
def test_codes_are_those_of_the_file(name):
    model = network(name)
    loaded = intsim.load(model)
    graph = loaded.graph
    assert on_a_grid(graph)
    off = max(layer.get("off", 0.0) for layer in inspect(loaded)["layers"])
    assert 0 < off < (1e-3 if name == "product" else 1e-5)  # two numbers of 30 bits meet in a product
    # what was tried and refused has left no names
    assert "joined" in name or not any("#" in t.name for t in graph.tensors.values() if t.type is not None)
    check(model, {"x": np.random.default_rng(3).normal(0, 1.5, SHAPE).astype(np.float32)}, 3)


@pytest.mark.parametrize("name", [n if n in EVERYDAY else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS])
def test_numbers_are_off_by_no_more_than_counted(name):
    """Each number that a tensor of the file holds on a grid, against the reference's exact one."""
    model = network(name)
    lowering = Lowering(read(model))
    lowering.lowered()
    loaded = intsim.load(model)
    errors = deviations(loaded.graph)
    inputs = {"x": np.random.default_rng(4).normal(0, 1.5, SHAPE).astype(np.float32)}
    run, reference = loaded.run(inputs, keep=True), Reference(model).run(inputs)
    seen = 0
    for name, value in lowering.values.items():
        if not isinstance(value, Expr) or value.steps or not any(n in errors for n, _ in value.terms):
            continue
        if name not in reference.tensors or any(n not in run.tensors for n, _ in value.terms):
            continue
        steps = [(errors.get(n, 0), np.broadcast_to(np.asarray(s, object), value.shape)) for n, s in value.terms]
        for flat, index in list(enumerate(np.ndindex(*value.shape)))[:: max(1, np.prod(value.shape) // 40)]:
            apart = abs(exact_value(value, run.tensors, index) - reference.exact(name, flat))
            assert apart <= sum(off * abs(scale[index]) for off, scale in steps), (name, index)
            seen += 1
    assert seen


@pytest.mark.parametrize("bits", [30, 52])
@pytest.mark.parametrize("name", ["steps", "several", "channels", "narrow", "wide"])
def test_the_nearest_of_a_grid(name, bits):
    """`on_grid` alone, number by number in rationals: none is off by more than is said, and that is little."""
    net = Net(18)
    x = net.quant(net.input(1, 3, 4, 4), S, 0, 8)
    made = {
        "steps": lambda: net.node("Clip", sums(net, x_of(net, x)), np.float32(-0.7), np.float32(0.9)),
        "several": lambda: net.node("Add", sums(net, x_of(net, x)), net.node("Relu", sums(net, x_of(net, x), 1))),
        "channels": lambda: net.node("LeakyRelu", sums(net, x_of(net, x)), alpha=0.1),
        "narrow": lambda: net.node("Mul", x, np.float32(1e-30)),
        "wide": lambda: wide(net, x_of(net, x)),
    }[name]()
    model = net.model(net.quant(made, np.float32(0.02), 0, 8))
    lowering = Lowering(read(model))
    lowering.lowered()
    context, value = lowering.context, lowering.values[made]
    context.current = lowering.model.makers[made]
    if name == "several" and isinstance(value, Expr) and value.linear:
        pytest.skip("it is on a grid already")
    before = set(context.graph.tensors)
    placed = on_grid(context, value, bits)
    step = placed.scale.item()
    assert max(-context.graph.tensors[placed.tensor].low, context.graph.tensors[placed.tensor].high) < 1 << bits
    rng = np.random.default_rng(bits)
    values = {}
    for tensor, info in context.graph.tensors.items():
        if tensor in before:
            values[tensor] = rng.choice([info.low, info.high, *rng.integers(info.low, info.high + 1, 4)], info.shape)
    for node in context.graph.nodes:
        if node.output not in before:
            values[node.output] = OPS[node.op].evaluate(node, *(values[i] for i in node.inputs))
    inherited = [context.errors.get(n, Fraction(0)) for n, _ in value.terms]
    allowed = context.errors.get(placed.tensor, Fraction(0)) * step
    worst = max(abs(exact_value(placed, values, i) - exact_value(value, values, i)) for i in np.ndindex(*value.shape))
    assert worst <= allowed
    assert any(inherited) or allowed <= extent(context, value) / (1 << 29)


def test_exact_integers_stay_exact():
    """What 64 bits hold is on no grid: sums of codes of one scale or several, their means and products."""
    net = Net(18)
    x = net.quant(net.input(*SHAPE), S, 0, 8)
    y = net.quant(net.node("Mul", x, np.float32(0.7)), np.float32(0.05), 0, 8)
    z = net.node("Mul", net.node("Add", x, y), net.node("GlobalAveragePool", y))
    assert not on_a_grid(intsim.load(net.model(net.quant(z, np.float32(0.02), 0, 8))).graph)


@pytest.mark.parametrize(("mean", "text"), [(True, "known to within"), (False, "common grid")])
def test_a_quantizer_finer_than_any_grid_is_refused(mean, text):
    net = Net(18)
    x = net.quant(net.input(*SHAPE), S, 0, 8)
    y = net.node("Relu", sums(net, x))
    y = net.node("GlobalAveragePool", y) if mean else net.node("Add", y, sums(net, x, 1))
    with pytest.raises(IntsimError, match=text):
        intsim.load(net.model(net.quant(y, np.float32(1e-14), 0, 32)))


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_behind_a_normalisation_of_sums_any_quantizer_may_stand(bits):
    """Its own rounding is known to no more than 2^-24, whether its rows are exact or on a grid."""
    net = Net(18)
    y = net.node("Transpose", sums(net, net.quant(net.input(*SHAPE), S, 0, 8)), perm=[0, 2, 3, 1])
    y = net.node("LayerNormalization", y, np.float32([0.5, 1, 1.5, 2]), np.float32([-1, 0, 1, 2]))
    model = net.model(net.quant(y, np.float32(4.0 / 2**bits), 0, bits))
    assert on_a_grid(intsim.load(model).graph)
    inputs = {"x": np.random.default_rng(2).normal(0, 1.5, SHAPE).astype(np.float32)}
    assert intsim.verify(model, "exact", inputs=inputs, references=False).verdict == "exact"


@pytest.mark.parametrize("op", ["MatMul", "Softmax", "Tanh"])
def test_who_needs_codes_refuses_numbers_on_a_grid(op):
    net = Net(18)
    x = net.quant(net.input(*SHAPE), S, 0, 8)
    y = net.node("Add", net.node("Relu", sums(net, x)), sums(net, x, 1))
    y = net.node("Relu", net.node("GlobalAveragePool", y))
    w = net.quant(np.float32(np.ones((1, 3))), np.float32(0.5), 0, 8)
    made = net.node("MatMul", y, w) if op == "MatMul" else net.node(op, y)
    with pytest.raises(IntsimError, match=r"put a quantizer between|quantize its input"):
        intsim.load(net.model(net.quant(made, np.float32(0.02), 0, 8)))


def test_a_graph_on_a_grid_survives_a_file(tmp_path):
    graph = intsim.load(network("residual")).graph
    graph.save(tmp_path / "graph")
    assert deviations(IntegerGraph.load(tmp_path / "graph")) == deviations(graph)


def test_joined_numbers_are_off_by_steps_of_their_own():
    """A mean on a grid beside accumulators, which are exact and have far larger steps."""
    try:
        graph = intsim.load(network("joined with a mean")).graph
    except IntsimError as refused:
        pytest.fail(str(refused))
    assert on_a_grid(graph)


@pytest.mark.parametrize("op", ["Gelu", "Erf", "Mish"])
def test_functions_of_accumulators_that_floats_do_not_enclose(op):
    net = Net(20)
    x = net.quant(net.input(*SHAPE), S, 0, 8)
    with pytest.raises(IntsimError, match="a quantizer in front"):
        intsim.load(net.model(rounded(net, net.node("GlobalAveragePool", net.node(op, sums(net, x))))))


def x_of(net, x):
    """Two of three channels."""
    return net.node("Slice", x, np.int64([0]), np.int64([2]), np.int64([1]))
