"""Witnesses attain the bounds: small layers of every kind, all inputs and orders of tiny ones, every zoo layer."""

import itertools
import json
import sys

import numpy as np
import onnx
import pytest
from frontend.build import Net
from hypothesis import given
from hypothesis import strategies as st
from proofs.addends import addends, draw, graph, registers

import intsim
from intsim import IntsimError
from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.graph import Node
from intsim.mac import any_order
from intsim.mac.any_order import addends as planned
from intsim.ops import OPS, Mac
from intsim.proofs.witness import ORDERS, witness, witnesses
from intsim.targets import Target

RNGS = st.integers(0, 2**32).map(np.random.default_rng)
MACHINES = st.builds(registers, st.booleans(), st.booleans(), st.permutations(["kh", "kw", "cin"]).map(tuple))
WIDE = [Stage(None, 64, "wrap")]
ZOO = ["dispnet", "h3dispnet"]


def fits(machine, made):
    """Whether the raw multiplier takes the layer's operands."""
    return machine.activation is None or all(t.high <= (127 if t.name == "w" else 255) for t in made.tensors.values())


def check(found, made, machine):
    """A witness's inputs are in range and its addends, read once more in Python, reach the bound at its step."""
    (node,) = made.nodes
    for name, array in zip(node.inputs, found.inputs, strict=True):
        info = made.tensors[name]
        assert array.shape == info.shape
        assert info.low <= array.min() <= array.max() <= info.high
    products, preload, late = addends(node, found.inputs, found.position, made, machine)
    terms = [*products, *preload]
    if len(found.permutation) > len(terms):
        terms.append(late)
    else:
        assert late == 0
    assert sorted(found.permutation) == list(range(len(terms)))
    if found.order != "any":
        natural = [*range(len(products), len(products) + len(preload)), *range(len(products))]
        assert found.permutation[: len(natural)].tolist() == natural
    sums = [0, *itertools.accumulate(terms[i] for i in found.permutation)]
    if found.order == "final":
        assert found.step == len(terms)
    else:
        assert found.value == (min if found.side == "low" else max)(sums)
    assert sums[found.step] == found.value == found.bound
    assert found.attained
    return terms


def bounds(made, machine):
    (node,) = made.nodes
    return planned(node, OPS[node.op], [made.tensors[i] for i in node.inputs], machine).reach()


@given(RNGS, MACHINES)
def test_every_bound_of_small_layers_is_attained(rng, machine):
    made = draw(rng)
    if not fits(machine, made):
        return
    channels = range(len(bounds(made, machine)["any"].low))
    for found in witnesses(made, made.nodes[0], machine, channels, orders=ORDERS):
        check(found, made, machine)


@given(RNGS, MACHINES)
def test_nothing_that_is_seen_lies_outside(rng, machine):
    """Inputs of every kind, in random orders, through the definition of the accumulator."""
    made = draw(rng)
    if not fits(machine, made):
        return
    (node,) = made.nodes
    reach = bounds(made, machine)["any"]
    shape = OPS[node.op].shape(node, *(made.tensors[i].shape for i in node.inputs))
    for _ in range(4):
        inputs = [
            rng.integers(t.low, t.high + 1, t.shape) if rng.random() < 0.3 else rng.choice([t.low, t.high], t.shape)
            for t in (made.tensors[i] for i in node.inputs)
        ]
        position = tuple(int(rng.integers(n)) for n in shape)
        channel = position[-1] if node.op == "matmul" else position[1]
        products, preload, late = addends(node, inputs, position, made, machine)
        terms = np.array([*products, *preload, late])
        seen = accumulate_telemetry(np.stack([rng.permutation(terms) for _ in range(4)]), WIDE)
        assert reach.low[channel] <= seen.low.min()
        assert seen.high.max() <= reach.high[channel]


def everything(made, machine):
    """Extremes over all inputs, positions and orders: a partial sum in some order is the sum of a subset."""
    (node,) = made.nodes
    tensors = [made.tensors[i] for i in node.inputs]
    shape = OPS[node.op].shape(node, *(t.shape for t in tensors))
    sizes = [int(np.prod(t.shape)) for t in tensors]
    every = itertools.product(
        *(range(t.low, t.high + 1) for t, n in zip(tensors, sizes, strict=True) for _ in range(n))
    )
    ends = {}
    for flat in every:
        inputs = [np.array(flat[sum(sizes[:i]) : sum(sizes[: i + 1])]).reshape(t.shape) for i, t in enumerate(tensors)]
        for position in np.ndindex(*shape):
            channel = position[-1] if node.op == "matmul" else position[1]
            products, preload, late = addends(node, inputs, position, made, machine)
            subsets = [0]
            for term in (*products, *preload, late):
                subsets += [s + term for s in subsets]
            own = [0, *itertools.accumulate((*preload, *products, late))]
            only = [0]
            for term in products:
                only += [s + term for s in only]
            for kind, sums in (("any", subsets), ("own", own), ("final", own[-1:]), ("products", only)):
                least, most = ends.get((kind, channel), (sums[0], sums[0]))
                ends[kind, channel] = min(least, *sums), max(most, *sums)
    return ends


@given(RNGS, MACHINES)
def test_all_inputs_and_orders_of_tiny_layers(rng, machine):
    """The bound is the exact extreme over inputs, positions, orders and prefixes."""
    made = draw(rng, tiny=True)
    (node,) = made.nodes
    if sum(int(np.prod(made.tensors[i].shape)) for i in node.inputs) > 4:
        return
    reach = bounds(made, machine)
    for (kind, channel), ends in everything(made, machine).items():
        assert (reach[kind].low[channel], reach[kind].high[channel]) == ends, (kind, channel)


@given(RNGS, MACHINES)
def test_rows_in_blocks_give_the_same(rng, machine):
    made = draw(rng)
    if not fits(machine, made):
        return
    whole = bounds(made, machine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(any_order, "BLOCK", 1)
        for kind, reach in bounds(made, machine).items():
            for one, other in zip(reach, whole[kind], strict=True):
                np.testing.assert_array_equal(one, other)


def test_padding_that_extends_the_range():
    """3..7 padded with 0: a corner has four real taps, so the least sum of nine ones is 12, not 27 and not 0."""
    made = graph("conv", (1, 1, 4, 4), 3, 7, {"weight": np.ones((1, 1, 3, 3))},
                 zero_point=0, groups=1, strides=[1, 1], dilations=[1, 1], pads=[1] * 4)  # fmt: skip
    node, machine = made.nodes[0], registers()
    low, high = (witness(made, node, machine, 0, side, "final") for side in ("low", "high"))
    assert (low.bound, low.position, high.bound, high.position) == (12, (0, 0, 0, 0), 63, (0, 0, 1, 1))
    for found in (low, high):
        check(found, made, machine)


def test_a_transposed_convolution_never_sees_its_whole_kernel():
    """Stride 2, kernel 4: two of four taps meet samples, so ones and inputs up to 15 reach 30, not 60."""
    made = graph("conv_transpose", (1, 1, 5), 0, 15, {"weight": np.ones((1, 1, 4))},
                 zero_point=0, groups=1, strides=[1], dilations=[1], insert=[2], pads=[2, 2])  # fmt: skip
    found = witness(made, made.nodes[0], registers(), 0, "high")
    assert found.bound == 30
    check(found, made, registers())


def test_a_late_bias_of_the_other_sign():
    """Finished within -100..0, but 8 bits overflow on the way: 100 arrives before -100."""
    made = graph("matmul", (1, 4), 0, 25, {"weight": np.ones((4, 1)), "bias": [-100]}, zero_point=0)
    node = made.nodes[0]
    for preload, own in ((False, (-100, 100)), (True, (-100, 0))):
        machine = registers(preload=preload)
        found = {o: [witness(made, node, machine, 0, s, o) for s in ("low", "high")] for o in ORDERS}
        ends = {o: tuple(w.bound for w in pair) for o, pair in found.items()}
        assert all(w.attained for pair in found.values() for w in pair)
        assert ends == {"any": (-100, 100), "own": own, "final": (-100, 0)}


def test_a_tensor_times_itself_is_said_not_to_attain():
    """x^2 of -2..1 is never -2; the interval product says so, and the witness that it isn't attained."""
    made = graph("matmul", (1, 1), -2, 1, {}, ((1, 1), -2, 1), zero_point=0)
    node = Node("matmul", "n", ("x", "x"), "y", {"zero_point": 0})
    low, high = (witness(made, node, registers(), 0, side) for side in ("low", "high"))
    assert (low.bound, low.value, low.attained) == (-2, 0, False)
    assert (high.bound, high.value, high.attained) == (4, 4, True)


def test_sums_beyond_int64_are_exact():
    peak = 2**62 - 1
    made = graph("matmul", (1, 3), -peak, peak, {"weight": np.array([[1], [1], [-1]])}, zero_point=0)
    found = witness(made, made.nodes[0], registers(), 0, "high")
    assert (found.value, found.bound) == (3 * peak, 3 * peak)


def test_what_has_no_witness_is_refused():
    made = graph("matmul", (1, 2), 0, 1, {"weight": np.ones((2, 3))}, zero_point=0)
    with pytest.raises(IntsimError, match=r"node n: has no channel 3; it has 0\.\.2"):
        witness(made, made.nodes[0], registers(), 3, "low")
    with pytest.raises(IntsimError, match="reshape accumulates no products"):
        witness(made, Node("reshape", "r", ("x",), "y"), registers(), 0, "low")


def layers(name):
    made = intsim.load(f"models/zoo/{name}_w8a8.qonnx.onnx").graph
    return made, [n for n in made.nodes if isinstance(OPS[n.op], Mac)]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("target", ["exact", "x86-avx2"])
def test_every_zoo_layer_attains_its_bounds(name, target):
    """The worst channel of every layer, both sides, in any order, in the target's own, and finished."""
    made, nodes = layers(name)
    assert len(nodes) >= 12
    for node in nodes:
        found = list(
            witnesses(made, node, Target.load(target).registers, orders=ORDERS if target == "exact" else ("any",))
        )
        assert all(w.attained for w in found), node.source


def test_small_zoo_layers_attain_them_in_every_channel():
    made, nodes = layers("h3dispnet")
    machine = Target.load("exact").registers
    small = [n for n in nodes if n.arrays["weight"].size <= 6000]
    assert len(small) >= 3
    for node in small:
        channels = range(len(node.arrays["weight"]))
        for found in witnesses(made, node, machine, channels):
            assert found.attained, (node.source, found.channel, found.side)
        check(found, made_of(made, node), machine)


def made_of(made, node):
    """The graph of one node, under the names that the twin uses."""
    info = made.tensors[node.inputs[0]]
    return graph(node.op, info.shape, info.low, info.high, node.arrays, **node.attributes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_all_channels_of_all_zoo_layers_attain_them(name):
    made, nodes = layers(name)
    machine = Target.load("exact").registers
    for node in nodes:
        for found in witnesses(made, node, machine, range(len(node.arrays["weight"]))):
            assert found.attained, (node.source, found.channel, found.side)
        check(found, made_of(made, node), machine)


def run(monkeypatch, capfd, *args):
    from intsim import cli

    monkeypatch.setattr(sys, "argv", ["intsim", *map(str, args)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capfd.readouterr().out


def test_the_command_line_writes_them(monkeypatch, capfd, tmp_path):
    net = Net()
    x = net.quant(net.input(1, 2, 5, 5), 1, 0, 8, signed=0)
    w = net.quant(np.arange(-18, 18).reshape(2, 2, 3, 3).astype(np.float32), 1, 0, 8)
    model = net.model(net.node("Conv", x, w, kernel_shape=[3, 3], pads=[1] * 4))
    onnx.save(model, tmp_path / "m.onnx")
    args = ("bounds", tmp_path / "m.onnx", "-t", "x86-vnni", "--witness", tmp_path / "out")
    code, out = run(monkeypatch, capfd, *args, "--json")
    assert code == 0
    lines = json.loads(out)["witnesses"]
    assert [(x["order"], x["side"]) for x in lines] == list(itertools.product(ORDERS, ("low", "high")))
    assert all(x["attained"] for x in lines)
    line = lines[1]
    with np.load(tmp_path / "out" / line["file"]) as held:
        stored = {k.removeprefix("any.high."): held[k] for k in held.files if k.startswith("any.high.")}
    assert set(stored) == {"input0", "channel", "position", "permutation", "step", "bound", "value", "attained"}
    assert stored["value"] == stored["bound"] == line["value"] == 255 * sum(range(18))
    made = intsim.load(model).graph
    (node,) = [n for n in made.nodes if n.op == "conv"]
    machine = Target.load("x86-vnni").registers
    products, _, _ = addends(node, [stored["input0"]], stored["position"].tolist(), made_of(made, node), machine)
    assert sum(products[i] for i in stored["permutation"][: stored["step"]]) == stored["value"]
    code, out = run(monkeypatch, capfd, *args)
    assert code == 0
    assert "not attained" not in out
    assert "yes" in out


def test_the_table_fits_a_page(monkeypatch, capfd):
    code, out = run(monkeypatch, capfd, "bounds", "models/zoo/h3dispnet_w8a8.qonnx.onnx", "-t", "x86-avx2")
    assert code == 1
    assert max(len(line) for line in out.splitlines() if not line.startswith("  intsim ")) <= 80
    assert "ranges save 0 to 1 bits a channel, 0.80 on average, against A2Q" in " ".join(out.split())
