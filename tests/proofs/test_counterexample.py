"""Predictions against the engine, sums that are hit exactly, and wrong sums that are found wherever there is one."""

import dataclasses
import itertools

import numpy as np
import pytest
from frontend.build import Net
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.packing import Packing, accumulate_packed
from intsim.engine.run import run_node
from intsim.ops import OPS, Mac
from intsim.proofs.certificate import Codes
from intsim.proofs.definition import accumulator, leaves, packed_accumulator, peaks
from intsim.proofs.mac_layer import MacLayer
from intsim.proofs.replay import Replay
from intsim.proofs.subset_sum import subset_sum
from intsim.proofs.wrong_sums import wrong_sums
from intsim.targets import Target

OVERFLOW = st.sampled_from(["wrap", "saturate"])
BITS = st.sampled_from([1, 2, 3, 4, 7, 8, 16, 17, 31, 32, 33, 62, 63, 64])
RNGS = st.integers(0, 2**32).map(np.random.default_rng)
NEAR = st.tuples(st.integers(0, 40), st.integers(-1, 1), st.sampled_from([1, -1])).map(
    lambda t: t[2] * (2 ** t[0] + t[1])
)


@st.composite
def chains(draw, lanes=True):
    """One to three registers, in groups, in lanes, of any width."""
    first = [
        Stage(draw(st.integers(1, 4)), draw(BITS), draw(OVERFLOW), draw(st.integers(1, 3)) if lanes else 1)
        for _ in range(draw(st.integers(0, 2)))
    ]
    return (*first, Stage(None, draw(BITS), draw(OVERFLOW)))


def target(stages, operands="", bias="after", packing="", requantize='scheme = "exact"') -> Target:
    rest = {None: '"rest"'}
    tables = ", ".join(
        f'{{ sum = {rest.get(s.sum, s.sum)}, bits = {s.bits}, overflow = "{s.overflow}", lanes = {s.lanes} }}'
        for s in stages
    )
    text = f'title = "t"\nsource = ["s"]\n{operands}\n[accumulate]\nstages = [{tables}]\nbias = "{bias}"\n{packing}\n'
    return Target.from_toml(text + f"[requantize]\n{requantize}\n")


@given(chains(), st.lists(NEAR, max_size=12), st.none() | NEAR, st.none() | NEAR)
def test_walk_is_the_definition(stages, products, start, after):
    expected = accumulate(np.array(products, np.int64), stages, 0 if start is None else start, after)[0]
    assert accumulator(products, stages, start, after) == int(expected)
    if products:
        columns = [np.array([p, -p], object) for p in products]
        assert accumulator(columns, stages, start, after)[0] == int(expected)


@given(st.lists(st.lists(st.integers(-128, 127), min_size=5, max_size=5), min_size=4, max_size=4), st.booleans(),
       st.integers(1, 5))  # fmt: skip
def test_walk_of_packed_products_is_the_definition(products, borrow, size):
    packing = Packing((0, 11), (0, 22), 44, "borrow" if borrow else "none")
    stages = (Stage(size, 11, "wrap"), Stage(None, 14, "saturate"))
    array = np.array(products).reshape(2, 2, 5)
    expected = accumulate_packed(array, stages, packing, np.full((2, 2), 3), np.full((2, 2), -5)).result
    fields = {(c, p): array[c, p].tolist() for c in range(2) for p in range(2)}
    for field in fields:
        assert packed_accumulator(fields, field, stages, packing, 3, -5) == expected[field]


@given(chains(), st.lists(st.integers(0, 50), min_size=1, max_size=12))
def test_leaves_are_what_a_register_holds(stages, values):
    """Of positive products in wide registers, the fullest one of each stage holds the sum of its leaves."""
    wide = tuple(Stage(s.sum, 40, s.overflow, s.lanes) for s in stages)
    for peak in peaks(np.array([values]), wide, True):
        held = leaves(len(values), wide, [step])[step] if (step := int(peak.step[0])) >= 0 else []
        assert len(set(held)) == len(held)
        if held:
            assert sum(values[k] for k in held) - wide[0].max == peak.excess[0]


def brute(weights, low, high, goal) -> bool:
    ranges = [range(a, b + 1) for a, b in zip(low, high, strict=True)]
    return any(sum(w * x for w, x in zip(weights, v, strict=True)) == goal for v in itertools.product(*ranges))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-3, 3), st.integers(0, 3)), max_size=5), st.integers(-40, 40))
def test_aim(parts, goal):
    weights, low = [p[0] for p in parts], [p[1] for p in parts]
    high = [p[1] + p[2] for p in parts]
    found = subset_sum(weights, low, high, goal)
    if found is not None:
        assert sum(w * x for w, x in zip(weights, found, strict=True)) == goal
        assert all(a <= x <= b for a, x, b in zip(low, found, high, strict=True))
    elif sum(w != 0 for w in weights) <= 3:
        assert not brute(weights, low, high, goal)
    assert found == subset_sum(weights, low, high, goal)


def test_aim_at_large_sums():
    """8-bit codes and weights of a real layer: every sum within reach is hit."""
    rng = np.random.default_rng(5)
    weights = rng.integers(-127, 128, 300).tolist()
    low, high = [0] * 300, [255] * 300
    least, most = 255 * sum(w for w in weights if w < 0), 255 * sum(w for w in weights if w > 0)
    goals = [least, most, *rng.integers(least, most, 20).tolist()]
    assert all(subset_sum(weights, low, high, g) is not None for g in goals)
    assert subset_sum(weights, low, high, most + 1) is None
    assert subset_sum([1 << 40, 3, 3], [-9] * 3, [9] * 3, (5 << 40) + 6) is not None
    assert subset_sum([], [], [], 0) == []
    assert subset_sum([0], [2], [5], 1) is None


def layer(rng, kind: str):
    """A model whose only multiply-accumulate has zero points, bias, padding, groups, a batch or two tensors."""
    net = Net()
    zero, signed = float(rng.integers(0, 8)), int(rng.integers(0, 2))
    if kind == "two tensors":
        a = net.quant(net.input(2, 3, 4, name="a"), 1, zero, 4, signed=0)
        b = net.quant(net.input(2, 4, 3, name="b"), 1, 0, 4, signed=1)
        return net.model(net.node("MatMul", a, b))
    if kind == "matmul":
        x = net.quant(net.input(5, 6), 1, zero, 4, signed=0)
        w = net.quant(np.float32(rng.integers(-7, 8, (6, 3))), 1, 0, 4)
        return net.model(net.node("Gemm", x, w, np.float32(rng.integers(-9, 10, 3))))
    if kind == "batch":
        x = net.quant(net.input(2, 3, 4), 1, zero, 4, signed=0)
        w = net.quant(np.float32(rng.integers(-7, 8, (2, 4, 3))), 1, 0, 4)
        return net.model(net.node("MatMul", x, w))
    x = net.quant(net.input(2, 4, 4, 3), 1, zero, 4, signed=signed)
    groups = 2 if kind == "groups" else 1
    shape = (4, 3, 2, 2) if kind == "transposed" else (6, 4 // groups, 3, 2)
    w = net.quant(np.float32(rng.integers(-7, 8, shape)), 1, 0, 4)
    bias = np.float32(rng.integers(-20, 20, 3 if kind == "transposed" else 6))
    if kind == "transposed":
        return net.model(net.node("ConvTranspose", x, w, bias, kernel_shape=[2, 2], strides=[2, 2]))
    return net.model(net.node("Conv", x, w, bias, kernel_shape=[3, 2], group=groups, pads=[1, 0, 1, 1]))


KINDS = ["matmul", "batch", "two tensors", "conv", "groups", "transposed"]
OPERANDS = '[operands]\nactivation = "{}"\nweight = "{}"\n'
PACKING = '[accumulate.packing]\nchannels = [0, 12]\npixels = [0, 24]\nbits = 48\ncorrection = "none"\n'


HOWS = ["values", "codes", "other signs", "preload", "packed"]
EVERYDAY = {*((how, "conv") for how in HOWS), *(("other signs", kind) for kind in KINDS)}
"""Each kind of layer and each kind of machine; all pairs are left to the long suite."""


@pytest.mark.parametrize(
    ("how", "kind"),
    [pytest.param(*pair, marks=[pytest.mark.slow] * (pair not in EVERYDAY)) for pair in itertools.product(HOWS, KINDS)],
)
@settings(max_examples=max(settings().max_examples * 3 // 10, 10))
@given(rng=RNGS, stages=chains())
def test_prediction_is_what_the_engine_does(kind, how, rng, stages):
    """Every element of random inputs, in Python integers."""
    operands = {"codes": OPERANDS.format("u8", "s8"), "other signs": OPERANDS.format("s8", "u8")}.get(how, "")
    packing = PACKING if how == "packed" else ""
    if packing:
        stages = (Stage(3, 8, "wrap"), Stage(None, stages[-1].bits, stages[-1].overflow))
    bits = target(stages, operands, "preload" if how == "preload" else "after", packing)
    graph = intsim.load(layer(rng, kind)).graph
    (node,) = (n for n in graph.nodes if isinstance(OPS[n.op], Mac))
    mac = MacLayer(graph, node, bits.registers)
    arrays = [rng.integers(t.low, t.high, t.shape, endpoint=True) for t in mac.tensors]
    got, _ = run_node(graph, node, arrays, bits)
    exact = OPS[node.op].evaluate(node, *arrays)
    for at in [tuple(rng.integers(0, s) for s in got.shape) for _ in range(6)]:
        row, channel = divmod(int(mac.output_numbers[at]), mac.channels)
        assert mac.position(row, channel) == at
        assert mac.predict(arrays, row, channel) == (exact[at], got[at])


@pytest.mark.parametrize("kind", ["matmul", "conv", "groups", "transposed", "two tensors", "batch"])
@settings(max_examples=max(settings().max_examples * 3 // 10, 10))
@given(rng=RNGS, stages=chains())
def test_wrong_sums_are_wrong(kind, rng, stages):
    """What is found runs as predicted; and no channel without one goes wrong on random inputs where all were tried."""
    chosen = target(stages, bias=rng.choice(["after", "preload"]))
    loaded = intsim.load(layer(rng, kind))
    graph = loaded.graph
    (node,) = (n for n in graph.nodes if isinstance(OPS[n.op], Mac))
    mac = MacLayer(graph, node, chosen.registers)
    found = wrong_sums(mac, range(mac.channels))
    safe = mac.plan.sums.all_exact.reshape(-1, mac.channels).all(axis=0)
    assert not any(safe[c] for c in found.wrong)
    for wrong in list(found.wrong.values())[:2]:
        arrays = mac.codes(wrong.taps, wrong.x, wrong.w)
        for array, tensor in zip(arrays, mac.tensors, strict=True):
            assert tensor.low <= array.min()
            assert array.max() <= tensor.high
        at = mac.position(wrong.taps.row, wrong.channel)
        assert run_node(graph, node, arrays, chosen)[0][at] == wrong.got != wrong.exact
        assert OPS[node.op].evaluate(node, *arrays)[at] == wrong.exact
    assert not found.tried & set(found.wrong)


@given(RNGS, chains(), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_small_sums_are_decided(rng, stages, depth, bits, preload):
    """All inputs of a sum of three 2-bit codes: a wrong sum is found if and only if there is one."""
    net = Net()
    x = net.quant(net.input(1, depth), 1, 0, bits, signed=0)
    w = net.quant(np.float32(rng.integers(-7, 8, (depth, 2))), 1, 0, 4)
    loaded = intsim.load(net.model(net.node("Gemm", x, w, np.float32(rng.integers(-20, 21, 2)))))
    (node,) = loaded.graph.nodes
    chosen = target(stages, bias="preload" if preload else "after")
    mac = MacLayer(loaded.graph, node, chosen.registers)
    found = wrong_sums(mac, range(2))
    codes = np.array(list(itertools.product(range(2**bits), repeat=depth)))
    start, after = (node.arrays["bias"], None) if preload else (0, node.arrays["bias"])
    products = codes[:, None, :] * node.arrays["weight"].T
    got, _ = accumulate(products, stages, start, after)
    wrong = (got != products.sum(axis=-1) + node.arrays["bias"]).any(axis=0)
    assert sorted(found.wrong) == np.flatnonzero(wrong).tolist()
    assert sorted(found.tried) == np.flatnonzero(~wrong).tolist()


def test_padding_outside_the_range_makes_rows_differ():
    """5 x - 5 y of codes 2..3 fits 4 bits wherever no padding takes part; beside padding, which is 0, it doesn't."""
    net = Net()
    x = net.quant(net.input(1, 1, 1, 3), 1, 0, 2, signed=0)
    w = net.quant(np.float32([[[[5, -5]]]]), 1, 0, 4)
    model = intsim.load(net.model(net.node("Conv", x, w, kernel_shape=[1, 2], pads=[0, 1, 0, 1])))
    graph, (node,) = model.graph, model.graph.nodes
    (name,) = node.inputs
    graph.tensors[name] = dataclasses.replace(graph.tensors[name], low=2, high=3)
    chosen = target([Stage(None, 32, "wrap"), Stage(None, 4, "saturate")])
    mac = MacLayer(graph, node, chosen.registers)
    found = wrong_sums(mac, [0])
    assert found.wrong[0].taps.row in (0, 3)
    assert found.wrong[0].got in (7, -8)
    probed = Replay(model, chosen, {node.name: mac}).probe(node)
    assert probed.position in ([0, 0, 0, 0], [0, 0, 0, 3])


def test_the_pair_of_the_manual():
    """255 x 127 + 255 x 127 saturates at 32767 on AVX2: two codes of the layer, all others at rest."""
    net = Net()
    x = net.quant(net.input(1, 6), 1, 0, 8, signed=0)
    weight = np.zeros((6, 1), np.float32)
    weight[:, 0] = [1, 2, 127, 127, -3, 4]
    w = net.quant(weight, 1, 0, 8)
    y = net.quant(net.node("MatMul", x, w), 512, 0, 8, signed=0)
    loaded = intsim.load(net.model(y))
    found = intsim.certify(loaded, "x86-avx2")
    (obstacle,) = found.obstacles
    (stated,) = obstacle.counterexamples
    assert (stated.level, stated.through, stated.position) == ("network", [loaded.graph.nodes[0].name], [0, 0])
    assert (stated.expected, stated.got) == (2 * 255 * 127, 32767)
    # 64770 / 512 = 126.5 and 32767 / 512 = 63.998
    assert (stated.codes, stated.masked) == ([127 if 2 * 255 * 127 / 512 > 126.5 else 126, 64], False)
    (codes,) = stated.inputs.values()
    assert codes == Codes(0, [2, 3], [255, 255])
    assert Replay(loaded, Target.load("x86-avx2")).confirm(stated) == []


def test_a_mask_is_lifted_where_it_can_be():
    """The extreme push ends beyond the clip either way; the other products bring the sum back to where it shows."""
    net = Net()
    x = net.quant(net.input(1, 16), 1, 0, 8, signed=0)
    w = net.quant(np.float32([[127, 127, *[-50, -50] * 6, 1, -1]]).T, 1, 0, 8)
    y = net.quant(net.node("MatMul", x, w), 1, 0, 4, signed=1)
    found = intsim.certify(net.model(y), "x86-avx2")
    (stated,) = (o.counterexamples[0] for o in found.obstacles)
    assert stated.codes[0] != stated.codes[1]
    assert not stated.masked
    net = Net()
    x = net.quant(net.input(1, 2), 1, 0, 8, signed=0)
    w = net.quant(np.float32([[127, 127]]).T, 1, 0, 8)
    y = net.quant(net.node("MatMul", x, w), 1, 0, 4, signed=1)
    found = intsim.certify(net.model(y), "x86-avx2")
    (stated,) = (o.counterexamples[0] for o in found.obstacles)
    assert (stated.codes, stated.masked) == ([7, 7], True)
    assert found.verdict == "refuted"
