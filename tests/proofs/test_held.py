"""Ranges on a target against every accumulator there is: what a requantizer makes, what a register hands on."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import intsim
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.rounding import Rounding
from intsim.dispatch import machine
from intsim.engine.node import run_alone
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.ops import OPS
from intsim.ops.pieces import pieces_json
from intsim.ops.requantize import requantize
from intsim.proofs import held as held_there
from intsim.proofs.held import held, image
from intsim.proofs.steps import StepLimitError
from intsim.targets import Target
from intsim.testing import requantizers, stages
from intsim.testing.net import Net

SCALES = st.builds(Fraction, st.integers(-40, 40), st.sampled_from([1, 3, 7, 64, 97, 1000]))
OFFSETS = st.builds(Fraction, st.integers(-300, 300), st.sampled_from([1, 2, 7]))


@st.composite
def cells(draw):
    """Pieces of one cell, one to three of them."""
    starts = sorted(draw(st.sets(st.integers(-60, 60), max_size=2)))
    return [(start, draw(SCALES), draw(OFFSETS)) for start in (None, *starts)]


@st.composite
def requantizes(draw, inputs):
    """A requantize node, its inputs as described, and as they are held: within or beyond that."""
    count = draw(st.integers(1, 2))
    pieces = [draw(cells()) for _ in range(count)]
    clips = draw(st.sampled_from([(-128, 127), (0, 255), (-3, 4), (None, None)]))
    at = {"cells": [count], "pieces": pieces_json(pieces), "rounding": str(draw(st.sampled_from(list(Rounding))))}
    at |= {"zero": draw(st.integers(-2, 2)), "low": clips[0], "high": clips[1]}
    arrays = {}
    if inputs > 1:
        factors = [[draw(st.sampled_from([-3, -1, 1, 2, 5])) for _ in range(count)] for _ in range(inputs)]
        arrays = {"coefficients": np.array(factors, np.int64)}
    names = tuple(f"x{i}" for i in range(inputs))
    described, mine = [], []
    for name in names:
        low, high = sorted(draw(st.tuples(st.integers(-120, 120), st.integers(-120, 120))))
        described.append(Tensor(name, (count,), low, high, rationals(1), rationals(0)))
        mine.append(replace(described[-1], low=low - draw(st.integers(0, 20)), high=high + draw(st.integers(0, 20))))
    return Node("requantize", "n", names, "y", at, arrays), described, mine


def brute(node, described, mine, form, chain):
    """The least and greatest code of every integer, or pair of integers, that the scheme takes."""
    axes = [np.arange(t.low, t.high + 1) for t in mine]
    found = []
    for values in np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)):
        try:
            codes = requantize(node, [np.full(node.attributes["cells"], v) for v in values], described, form, chain)
        except IntsimError:
            continue
        found += codes.tolist()
    return (min(found), max(found)) if found else None


APPROXIMATE = requantizers(("fixed-point", "shift", "float32", "tosa"))


@given(requantizes(1), APPROXIMATE, st.one_of(st.just(()), stages(max_bits=20, max_drop=0)))
def test_the_image_of_one_input_is_exact(case, form, chain):
    node, described, mine = case
    wanted = brute(node, described, mine, form, chain)
    low, high = image(node, described, mine, form, chain)
    if wanted is not None and not refuses(node, described, mine, form, chain):
        assert (low, high) == wanted
    elif wanted is not None:
        assert low <= wanted[0]
        assert high >= wanted[1]


def refuses(node, described, mine, form, chain):
    """Whether some integer has no code: what is said then may be wider."""
    values = np.arange(mine[0].low, mine[0].high + 1).reshape(-1, 1)
    try:
        requantize(node, [values], described, form, chain)
    except IntsimError:
        return True
    return False


@given(requantizes(1))
def test_the_range_of_the_exact_requantizer_is_attained(case):
    node, described, mine = case
    ends = OPS["requantize"].value_range(node, *mine)
    assert ends == brute(node, described, mine, Exact(), ())


@given(requantizes(2), APPROXIMATE, st.one_of(st.just(()), stages(max_bits=20, max_drop=0)))
def test_the_image_of_a_sum_holds_every_code(case, form, chain):
    node, described, mine = case
    mine = [replace(t, low=max(t.low, -9), high=max(min(t.high, 9), max(t.low, -9))) for t in mine]
    wanted = brute(node, described, mine, form, chain)
    low, high = image(node, described, mine, form, chain)
    if wanted is not None:
        assert low <= wanted[0]
        assert high >= wanted[1]


def test_too_many_wraps_are_bounded_by_the_clip(monkeypatch):
    def gives_up(*_):
        raise StepLimitError("too many")

    monkeypatch.setattr(held_there, "segments", gives_up)
    at = {"cells": [1], "pieces": pieces_json([[(None, Fraction(1), Fraction(1, 3))]])}
    at |= {"rounding": "half_even", "zero": 0, "low": -7, "high": None}
    tensor = Tensor("x", (1,), -3, 3, rationals(1), rationals(0))
    form = FixedPoint(8, Rounding.HALF_UP)
    assert image(Node("requantize", "n", ("x",), "y", at), [tensor], [tensor], form, ()) == (-7, (1 << 63) - 1)


def chain_of_two(first=3, second=3):
    """Two products with a quantizer between: codes 0..15 times `first`, by 0.3 to 0..15, times `second`."""
    net = Net()
    x = net.quant(net.input(1, 1), 1.0, 0, 4, signed=0)
    y = net.quant(net.node("MatMul", x, net.const(np.float32([[first]]))), 10.0, 0, 4, signed=0)
    return intsim.load(net.model(net.quant(net.node("MatMul", y, net.const(np.float32([[second]]))), 1.0, 0, 8)))


def target(registers, requantize_='scheme = "exact"'):
    return Target.from_toml(
        f'title = "t"\nsource = ["s"]\naccumulate = {{ stages = [{registers}] }}\nrequantize = {{ {requantize_} }}\n'
    )


def test_a_requantizer_that_is_not_exact_reaches_the_next_register():
    """45 times 1/10 is 4.5, exactly 4 (to even); a coarse multiplier makes 5, and 5 x 3 needs one more than 12."""
    model = chain_of_two()
    exact = intsim.bounds(model, "exact").layers[1]
    coarse = intsim.bounds(
        model,
        target(
            '{ sum = "rest", bits = 32, overflow = "wrap" }',
            'scheme = "fixed-point", multiplier_bits = 5, rounding = "ceil"',
        ),
    ).layers[1]
    assert (exact.high, coarse.high) == (12, 15)


def test_a_register_that_overflows_hands_on_anything_that_fits_it():
    model = chain_of_two()
    wraps = target('{ sum = "rest", bits = 5, overflow = "wrap" }')
    ranges = held(model.graph, wraps)
    first, second = (n for n in model.graph.nodes if n.op == "matmul")
    assert (ranges[first.output].low, ranges[first.output].high) == (-16, 15)
    assert (ranges[second.output].low, ranges[second.output].high) == (0, 6)
    assert [x.safe for x in intsim.bounds(model, wraps).layers] == [False, True]
    # a negative sum behind an overflow makes codes that exact arithmetic never makes
    signed = Net()
    x = signed.quant(signed.input(1, 1), 1.0, 0, 4, signed=0)
    y = signed.quant(signed.node("MatMul", x, signed.const(np.float32([[3]]))), 2.0, 0, 8)
    y = signed.node("MatMul", y, signed.const(np.float32([[-1]])))
    layers = intsim.bounds(intsim.load(signed.model(signed.quant(y, 1.0, 0, 8))), wraps).layers
    assert (layers[1].low, layers[1].high) == (-8, 8)
    layers = intsim.bounds(intsim.load(signed.model(signed.quant(y, 1.0, 0, 8))), "exact").layers
    assert (layers[1].low, layers[1].high) == (-22, 0)


@pytest.mark.parametrize("name", ["exact", "finn-mvau", "wrap-32"])
def test_where_nothing_overflows_ranges_are_those_of_the_graph(name):
    graph: IntegerGraph = chain_of_two().graph
    found = held(graph, Target.load(name))
    assert all(found[n] is graph.tensors[n] for n in graph.tensors)


def test_sweeps_call_proven_what_bounds_call_safe():
    model = chain_of_two(5, 7)
    found = intsim.sweep(model, inputs={"x": np.float32([[3]])}, accumulator=range(3, 12), multiplier=(4, 6), grid=True)
    for row in found.rows:
        at = row.configuration
        machine = target(
            f'{{ sum = "rest", bits = {at.accumulator}, overflow = "{at.overflow}" }}',
            f'scheme = "fixed-point", multiplier_bits = {at.multiplier}, rounding = "half_up"',
        )
        safe = [x.safe for x in intsim.bounds(model, machine).layers]
        assert [x.proven for x in row.layers] == safe, at


def test_every_operator_takes_ranges_of_its_own():
    """Operators between answer for the ranges they are given, not for those that are described."""
    net = Net()
    x = net.quant(net.input(1, 2, 4, 4), 1.0, 0, 4, signed=0)
    y = net.quant(net.node("Conv", x, net.const(np.ones((2, 2, 1, 1), np.float32))), 2.0, 0, 8)
    y = net.node(
        "Concat", net.node("MaxPool", y, kernel_shape=[2, 2]), net.node("AveragePool", y, kernel_shape=[2, 2]), axis=1
    )
    model = intsim.load(net.model(net.quant(net.node("Transpose", y, perm=[0, 2, 3, 1]), 1.0, 0, 8)))
    found = held(model.graph, target('{ sum = "rest", bits = 4, overflow = "saturate" }'))
    for node in model.graph.nodes:
        if node.op not in ("conv", "requantize"):
            ends = OPS[node.op].value_range(node, *(found[i] for i in node.inputs))
            assert (found[node.output].low, found[node.output].high) == ends
            assert ends[0] < 0 <= model.graph.tensors[node.output].low


def test_a_table_behind_a_register_that_overflows():
    """It has entries for exact sums alone; what a register hands on besides reads its ends."""
    net = Net()
    x = net.quant(net.input(1, 1), 1.0, 0, 4, signed=0)
    y = net.node("Sigmoid", net.node("MatMul", x, net.const(np.float32([[3]]))))
    y = net.node("MatMul", net.quant(y, 1 / 16, 0, 8, signed=0), net.const(np.float32([[2]])))
    model = intsim.load(net.model(net.quant(y, 1.0, 0, 8)))
    for register in (
        '{ sum = "rest", bits = 4, overflow = "wrap" }',
        '{ sum = "rest", bits = 4, overflow = "saturate" }',
    ):
        found = intsim.bounds(model, target(register))
        assert [x.safe for x in found.layers] == [False, False]
        assert (found.layers[1].low, found.layers[1].high) == (16, 32)  # sigmoid of 0 and beyond: 8 to 16 sixteenths


def padded(seed, kind):
    """Two padded convolutions whose padding is far from 0, with weights of one sign a channel."""
    rng, net = np.random.default_rng(seed), Net(opset=17)
    x = net.qdq(net.input(1, 2, 3, 3), 0.05, kind(rng.integers(60, 128)))
    for size, step in ((2, 0.5), (3, 3.0)):
        codes = (rng.integers(60, 128, (3, size, 3, 3)) * rng.choice([-1, 1], (3, 1, 1, 1))).astype(np.int8)
        w = net.node("DequantizeLinear", net.const(codes), net.const(np.float32(0.01)), net.const(np.int8(0)))
        b = net.const(rng.integers(-900, 900, 3).astype(np.int32))
        b = net.node("DequantizeLinear", b, net.const(np.float32(0.0005)), net.const(np.int32(0)))
        x = net.qdq(net.node("Conv", x, w, b, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), step, kind(9))
    return net.model(x)


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize("bias", ["requantizer", "after"])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_what_padding_is_owed_leaves_the_register(kind, bias, rule):
    """Padding that makes no products is paid for behind the registers, beyond all that these hold."""
    for seed, bits in enumerate((6, 9, 12, 16)):
        text = f'stages = [{{ sum = "rest", bits = {bits}, overflow = "{rule}" }}]\nbias = "{bias}"\n'
        target = Target.from_toml(
            'title = "t"\nsource = ["t"]\n[operands]\nactivation = "u8"\nweight = "s8"\n[accumulate]\n'
            f'{text}padding = "skipped"\n[requantize]\nscheme = "exact"\n'
        )
        model = intsim.load(padded(seed, kind))
        there, on = held(model.graph, target), machine(model.graph, target)
        rng = np.random.default_rng(seed)
        for x in (np.full((1, 2, 3, 3), 20), np.full((1, 2, 3, 3), -20), rng.uniform(-15, 15, (1, 2, 3, 3))):
            ran = model.run(x.astype(np.float32), target, keep=True).tensors
            for node in model.graph.nodes:
                defined = run_alone(model.graph, node, [ran[n] for n in node.inputs], on.arithmetic(node))[0]
                assert np.array_equal(ran[node.output], defined)
                assert there[node.output].low <= defined.min()
                assert defined.max() <= there[node.output].high


def test_a_bias_that_leaves_64_bits_behind_its_register_is_refused():
    text = 'stages = [{ sum = "rest", bits = BITS, overflow = "wrap" }]\nbias = "requantizer"\n'
    target = 'title = "t"\nsource = ["t"]\n[accumulate]\n' + text + '[requantize]\nscheme = "exact"\n'
    model = intsim.load(padded(0, np.int8))
    x = np.zeros((1, 2, 3, 3), np.float32)
    intsim.run(model, Target.from_toml(target.replace("BITS", "63")), x)
    wide = Target.from_toml(target.replace("BITS", "64"))
    for asked in (lambda: intsim.run(model, wide, x), lambda: intsim.bounds(model, wide)):
        with pytest.raises(IntsimError, match="behind its register of 64 bits leaves 64 bits; give the"):
            asked()
