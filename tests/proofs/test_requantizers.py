"""Certificates of requantizers against every accumulator, one by one."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint, quantize_multiplier
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.requantizers.thresholds import Thresholds
from intsim.arithmetic.requantizers.tosa import Tosa
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.ops import OPS
from intsim.ops.pieces import node_pieces, pieces_json
from intsim.ops.requantize import formulas, requantize
from intsim.proofs import requantizers
from intsim.proofs.requantizers import Difference, certify_requantizer, multiplier_widths

ALL16 = np.arange(-(1 << 15), 1 << 15)
INT32 = (Stage(None, 32, "wrap"),)
REGISTERS = [
    (),
    INT32,
    (Stage(None, 18, "wrap"),),
    (Stage(None, 16, "saturate"),),
    (Stage(None, 12, "wrap"),),
    (Stage(2, 9, "wrap"), Stage(None, 15, "saturate")),
]
BOUNDS = [(-128, 127), (0, 255), (-8, 7), (0, 1), (-32768, 32767), (None, None)]


def graph_of(node, *ranges):
    """The node alone, its inputs with these ranges."""
    graph = IntegerGraph("g", inputs=list(dict.fromkeys(node.inputs)))
    shape = tuple(node.attributes["cells"])
    for name, (low, high) in zip(node.inputs, ranges, strict=True):
        graph.tensors[name] = Tensor(name, shape, low, high, rationals(1), rationals(0))
    graph.add(node, Tensor("y", shape, -(1 << 40), 1 << 40, rationals(1), rationals(0)))
    return graph


def made(pieces, zero=0, low=-128, high=127, rounding="half_even", arrays=None, inputs=("x",)):
    at = {"cells": [len(pieces)], "pieces": pieces_json(pieces), "rounding": str(rounding)}
    at |= {"zero": zero, "low": low, "high": high}
    return Node("requantize", "n", inputs, "y", at, arrays or {}, source="Quant_0")


def line(scale, offset=0, **more):
    return made([[(None, Fraction(scale), Fraction(offset))]], **more)


def certified(node, form, low, high, stages=()):
    return certify_requantizer(graph_of(node, (low, high)), node, form, stages)


# Brute force: every accumulator, and who is refused by rules written here again


def register(values, pieces_bias, stages):
    """Accumulator plus bias in the last register, Python integers in an object array."""
    total = values.astype(object) + pieces_bias
    if not stages:
        return total
    low, high = -(1 << stages[-1].bits - 1), (1 << stages[-1].bits - 1) - 1
    if stages[-1].overflow == "saturate":
        return np.clip(total, low, high)
    return (total - low) % (1 << stages[-1].bits) + low


def refused(node, acc, form, stages):
    """Accumulators that TOSA's rules, or a 32-bit data path, exclude."""
    out = np.zeros(acc.shape, bool)
    if form.scheme != "tosa" and not form.double_rounding:
        return out
    pieces = node_pieces(node)[0]
    which = sum((acc >= p[0]).astype(int) for p in pieces[1:]) if len(pieces) > 1 else np.zeros(acc.shape, int)
    for index, (_, scale, offset) in enumerate(pieces):
        mine = which == index
        if scale == 0 or not mine.any():
            continue
        bias = nearest_even(offset / scale)
        values = register(acc[mine], bias, stages) if offset else acc[mine].astype(object)
        low, high = -(1 << 31), (1 << 31) - 1
        if form.scheme == "tosa":
            bits = form.multiplier_bits
            multiplier, shift = quantize_multiplier(scale, bits)
            if multiplier == 0 or shift > 62:  # dropped bits: the value range of shift 62
                shift = 62
            if bits == 32:
                low, high = max(low, -(1 << shift - 1)), min(high, (1 << shift - 1) - 1)
            else:
                results = (values * multiplier + (1 << shift - 1)) // (1 << shift)
                out[mine] = np.array([not -(1 << 31) <= r < 1 << 31 for r in results], bool)
                low, high = -(1 << 47), (1 << 47) - 1
        out[mine] |= np.array((values < low) | (values > high), bool)
    return out


def nearest_even(x):
    """Nearest, ties to even."""
    return round(x)


def check(node, form, stages, low, high):
    """The certificate of a one-cell node is what every accumulator says. Returns its verdict."""
    acc = np.arange(low, high + 1)
    found = certified(node, form, low, high, stages)
    pieces, formula = node_pieces(node)[0], formulas(node)[0]

    def hardware(acc):
        return form.codes(formula, acc, stages)

    if found.refused:
        starts = [low, *(p[0] for p in pieces[1:] if low <= p[0] <= high)]
        with pytest.raises(IntsimError) as caught:
            [hardware(part) for part in (*(np.array([s]) for s in starts), acc)]
        assert str(caught.value).split(":")[0] == found.reason.split(":")[0]
        return "refused"
    assert found.reason == ""
    (cell,) = found.cells
    assert (cell.cell, cell.low, cell.high) == (0, low, high)
    out = refused(node, acc, form, stages)
    codes = Exact().codes(formula, acc)
    difference = np.zeros(acc.shape, np.int64)
    if not out.all():
        difference[~out] = hardware(acc[~out]) - codes[~out]
    if out.any():
        with pytest.raises(IntsimError):
            hardware(acc[out][:1])
        with pytest.raises(IntsimError):
            hardware(acc[out][-1:])
    # what the certificate says of every accumulator
    kinds = np.zeros(acc.shape, np.int8)
    for d in cell.differences:
        kinds[d.low - low : d.high - low + 1] += 2 if d.kind == "precondition" else 1
    np.testing.assert_array_equal(kinds, np.where(out, 2, difference != 0))
    assert cell.count == int(out.sum() + np.count_nonzero(difference))
    assert found.equal == (cell.count == 0)
    ranges = [d for d in cell.differences if d.kind == "value"]
    if ranges:
        starts = np.array([d.low - low for d in ranges])
        inside = np.concatenate([np.arange(d.low - low, d.high - low + 1) for d in ranges])
        firsts = np.concatenate([[0], np.cumsum([d.high - d.low + 1 for d in ranges])[:-1]])
        assert starts.size == firsts.size
        np.testing.assert_array_equal(np.minimum.reduceat(difference[inside], firsts), [d.least for d in ranges])
        np.testing.assert_array_equal(np.maximum.reduceat(difference[inside], firsts), [d.most for d in ranges])
    for a, b in zip(cell.differences, cell.differences[1:], strict=False):
        assert a.high < b.low
        assert a.high + 1 < b.low or a.kind != b.kind, "runs are as long as can be"
    return found.verdict


def random_scale(rng, dyadic):
    exponent = int(rng.integers(-14, 4)) if rng.random() < 0.9 else int(rng.integers(-34, 20))
    kind = 0 if dyadic else rng.integers(0, 4)
    near = 1 + Fraction(int(rng.choice([-1, 1])), 1 << int(rng.integers(3, 34)))
    factor = [
        Fraction(1),
        near,  # next to a power of two
        Fraction(int(rng.integers(1, 256)), 256),  # ties
        Fraction(float(np.float32(rng.uniform(0.5, 1.5)))),
    ][kind]
    scale = factor * Fraction(2) ** exponent
    return -scale if rng.random() < 0.2 else scale


def random_case(rng, dyadic):
    """A node of one cell and an accumulator."""

    def offset():
        kind = rng.integers(0, 4)
        if kind == 0:
            return Fraction(0)
        if kind == 1:
            return Fraction(int(rng.integers(-400, 400)), 2)
        return Fraction(int(rng.integers(-1 << 20, 1 << 20)), int(rng.integers(1, 1 << 13)))

    def piece(start):
        return start, random_scale(rng, dyadic), offset()

    kind = rng.integers(0, 4)
    if kind < 2:
        pieces = [piece(None)]
    elif kind == 2:  # a Relu
        pieces = [(None, Fraction(0), offset()), piece(int(rng.integers(-2000, 2000)))]
    else:
        first, second = sorted(rng.integers(-30000, 30000, 2).tolist())
        pieces = [piece(None), piece(first), piece(second)]
    mode = rng.choice(list(Rounding)) if rng.random() < 0.5 else "half_even"
    low, high = BOUNDS[rng.integers(0, len(BOUNDS))]
    zero = int(rng.integers(-20, 20)) if low is not None else 0
    node = made([pieces], zero, low, high, mode)
    return node, REGISTERS[rng.integers(0, len(REGISTERS))]


ONE_MULTIPLIER = {
    "thresholds": Thresholds(),
    "float32": Float32(),
    "double": FixedPoint(32, None, True),
    **{f"single-{m}": FixedPoint(32, m) for m in Rounding},
    "tosa-single": Tosa(32),
    "tosa-double": Tosa(32, None, True),
    "tosa-16": Tosa(16),
    **{f"shift-{m}": Shift(rounding=m) for m in Rounding},
}
WIDTHS = {f"width-{bits}": FixedPoint(bits, Rounding.HALF_UP) for bits in range(4, 33)}


def sweep(names, cases, seed):
    """Every form on every case; how often each verdict came."""
    forms = {**ONE_MULTIPLIER, **WIDTHS, "double-narrow": FixedPoint(12, None, True)}
    seen: dict[str, set[str]] = {name: set() for name in names}
    rng = np.random.default_rng(seed)
    for i in range(cases):
        general, power = random_case(rng, False), random_case(rng, True)
        for name in names:
            # a shift takes powers of two; now and then it is given something else
            node, stages = power if (name.startswith("shift") and i % 8) or i % 3 == 0 else general
            seen[name].add(check(node, forms[name], stages, -(1 << 15), (1 << 15) - 1))
    return seen


@pytest.mark.parametrize("name", [*ONE_MULTIPLIER, "double-narrow"])
def test_every_16_bit_accumulator(name):
    seen = sweep([name], 60, 11)[name]
    assert seen >= ({"equal"} if name == "thresholds" else {"equal", "differs"})
    assert ("refused" in seen) == (name.startswith(("shift", "tosa")))


def test_every_16_bit_accumulator_at_every_width():
    for offset, name in enumerate(WIDTHS):
        sweep([name], 3, 100 + offset)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_every_16_bit_accumulator_times_1000_scales(part):
    sweep([*ONE_MULTIPLIER, *WIDTHS, "double-narrow"], 100, 1000 + part)


@settings(max_examples=60)
@given(st.data())
def test_ranges_up_to_20_bits(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 40)))
    form = data.draw(st.sampled_from([*ONE_MULTIPLIER.values(), *WIDTHS.values()]))
    node, stages = random_case(rng, data.draw(st.booleans()))
    edge = data.draw(st.integers(0, 20).flatmap(lambda k: st.integers(0, 1 << k)))
    centre = data.draw(st.one_of(st.just(0), st.sampled_from([1 << 31, -(1 << 31), 1 << 40, 1 << 24])))
    low = centre + data.draw(st.integers(-edge, 0))
    check(node, form, stages, low, low + min(edge, (1 << 20) - 1))


# Particular answers


def test_double_rounding_of_an_eighth():
    """3 / 8 rounds to 0 once and to 1 twice: acc / 2 half up is 2, 2 / 4 half away is 1."""
    found = certified(line(Fraction(1, 8)), FixedPoint(32, None, True), -40, 40)
    assert (found.node, found.source, found.verdict, found.equal) == ("n", "Quant_0", "differs", False)
    differences = found.cells[0].differences
    assert Difference(3, 4, 1, 1) in differences
    assert Difference(-4, -4, -1, -1) in differences
    assert found.cells[0].count == sum(d.high - d.low + 1 for d in differences)
    document = json.loads(json.dumps(found.to_json()))
    assert document["verdict"] == "differs"
    assert [3, 4, 1, 1] in document["cells"][0]["differences"]
    assert document["cells"][0] | {"differences": []} == {
        "cell": 0, "low": -40, "high": 40, "count": found.cells[0].count, "reason": "", "differences": [],
    }  # fmt: skip


def test_a_wide_range_costs_its_steps():
    """62-bit accumulators: 256 codes, decided in a moment."""
    edge = 1 << 62
    node = line(Fraction(1, 1 << 55))
    found = certified(node, Shift(rounding=Rounding.HALF_EVEN), -edge, edge)
    assert found.equal
    half = 1 << 54
    ties = certified(node, Shift(rounding=Rounding.HALF_UP), -edge, edge).cells[0]
    assert ties.count == 128, "every second tie, from -127.5 to 126.5"
    assert ties.differences[-1] == Difference(253 * half, 253 * half, 1, 1)


def test_a_float32_multiplier_sees_24_bits():
    """2^24 + 1 is not a binary32: accumulators from there on are rounded before they are scaled."""
    node = line(1, low=0, high=1 << 24)
    assert certified(node, Float32(), (1 << 24) - 9, (1 << 24) + 9).equal
    node = line(Fraction(1, 2), low=0, high=1 << 24, rounding="floor")
    found = certified(node, Float32(), (1 << 24) - 8, (1 << 24) + 8).cells[0]
    # below 2^24 floor against nearest even; above, odd accumulators are lost
    assert found.differences[0] == Difference((1 << 24) - 5, (1 << 24) - 5, 1, 1)
    assert all(d.low % 2 for d in found.differences)


def test_a_bias_that_wraps():
    """100 + 50 in an 8-bit register is -106."""
    node = line(1, 50)
    found = certified(node, Shift(rounding=Rounding.FLOOR), -128, 127, (Stage(None, 8, "wrap"),))
    assert found.cells[0].differences == (Difference(78, 127, -255, -206),)
    node = line(1, 50, low=0, high=1)  # both ends of 0..300 agree; between them the register is negative
    found = certified(node, Shift(rounding=Rounding.FLOOR), 0, 300, (Stage(None, 8, "wrap"),))
    assert found.cells[0].differences == (Difference(78, 206, -1, -1),)
    saturating = (Stage(None, 8, "saturate"),)
    assert certified(node, Shift(rounding=Rounding.FLOOR), 0, 300, saturating).equal


def test_a_left_shift_that_wraps():
    """A scale of 16 shifts left by 5 first: 2^26 becomes the least int32, 2^27 becomes 0."""
    node = line(16, low=0, high=1)
    found = certified(node, FixedPoint(32, None, True), 1, (1 << 27) + 5)
    assert found.cells[0].differences == (Difference(1 << 26, 1 << 27, -1, -1),)


def test_tosa_preconditions_are_differences_of_their_own():
    """Scale 2^20 takes shift 10: values -512..511."""
    found = certified(line(1 << 20), Tosa(32), -600, 600)
    assert found.cells[0].differences == (
        Difference(-600, -513, 0, 0, "precondition"),
        Difference(512, 600, 0, 0, "precondition"),
    )
    assert (found.cells[0].count, found.verdict) == (88 + 89, "differs")
    assert found.to_json()["cells"][0]["differences"][0] == [-600, -513, 0, 0, "precondition"]


def test_refusals_are_said():
    found = certified(line(Fraction(1, 3)), Shift(rounding=Rounding.FLOOR), -5, 5)
    assert (found.verdict, found.equal, found.cells) == ("refused", False, ())
    assert "not a power of two" in found.reason
    found = certified(line(Fraction(-1, 4)), Tosa(32), -5, 5)
    assert found.verdict == "refused"
    assert "multiplier >= 0" in found.reason
    # the piece that refuses is not in reach
    beyond = made([[(None, Fraction(1, 4), Fraction(0)), (6, Fraction(1, 3), Fraction(0))]])
    assert certified(beyond, Shift(rounding=Rounding.HALF_EVEN), -5, 5).equal
    graph = graph_of(line(1), (0, 1))
    with pytest.raises(IntsimError, match="certificates are for requantize nodes"):
        certify_requantizer(graph, replace(graph.nodes[0], op="affine"), Exact(), ())


def test_what_is_too_large_stays_undecided():
    """Never called equal: more codes than are looked at, more wraps, and one cell of two."""
    dense = line(1, low=None, high=None)
    found = certified(dense, FixedPoint(32, Rounding.HALF_UP), 0, 1 << 23)
    assert (found.verdict, found.equal) == ("undecided", False)
    assert "more than 4194304 steps" in found.reason
    wraps = certified(line(Fraction(1, 1 << 30), 1), Float32(), 0, 1 << 40, (Stage(None, 8, "wrap"),))
    assert (wraps.verdict, wraps.equal) == ("undecided", False)
    assert "wraps at more than 65536" in wraps.reason
    assert certified(dense, Thresholds(), 0, 1 << 23).verdict == "refused"


def test_the_answer_needs_no_guess(monkeypatch):
    """Where steps are expected only saves time: without any expectation the answer is the same."""
    rng = np.random.default_rng(5)
    with_guesses = requantizers.intervals

    def unguided(cut, codes, directed):
        return with_guesses([replace(s, lines=((Fraction(0), Fraction(0)),)) for s in cut], (0, 0), directed)

    for _ in range(40):
        node, stages = random_case(rng, False)
        form = [*WIDTHS.values()][int(rng.integers(0, 29))]
        first = certified(node, form, -3000, 3000, stages)
        with monkeypatch.context() as patch:
            patch.setattr(requantizers, "intervals", unguided)
            assert certified(node, form, -3000, 3000, stages) == first


# Cells and their ranges


def convolution(weights, bias, x_range):
    """A 1x1 convolution of one input channel, and what follows it is added by the test."""
    graph = IntegerGraph("g", inputs=["x"])
    channels = len(weights)
    graph.tensors["x"] = Tensor("x", (1, 1, 2, 2), *x_range, rationals(1), rationals(0))
    at = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "groups": 1}
    arrays = {"weight": np.array(weights).reshape(-1, 1, 1, 1), "bias": np.array(bias)}
    add(graph, Node("conv", "conv", ("x",), "acc", at, arrays))
    assert graph.tensors["acc"].shape == (1, channels, 2, 2)
    return graph


def add(graph, node):
    inputs = [graph.tensors[i] for i in node.inputs]
    op = OPS[node.op]
    low, high = op.value_range(node, *inputs)
    shape = op.shape(node, *(t.shape for t in inputs))
    graph.add(node, Tensor(node.output, shape, low, high, rationals(1), rationals(0)))
    return node


def quantizer(source, cells, count):
    at = {"cells": cells, "pieces": pieces_json([[(None, Fraction(1, 2), Fraction(0))]] * count)}
    at |= {"rounding": "half_even", "zero": 0, "low": -128, "high": 127}
    return Node("requantize", "q", (source,), "y", at)


def ranges(graph, node, stages=()):
    found = certify_requantizer(graph, node, Exact(), stages)
    assert found.equal
    return [(c.low, c.high) for c in found.cells]


def test_channels_have_ranges_of_their_own():
    graph = convolution([3, -2, 0], [0, 10, 7], (0, 5))
    mine = [(0, 15), (0, 10), (7, 7)]
    assert ranges(graph, quantizer("acc", [1, 3, 1, 1], 3)) == mine
    assert ranges(graph, quantizer("acc", [1, 1, 1, 1], 1)) == [(0, 15)]
    assert ranges(graph, quantizer("acc", [1, 1, 2, 2], 4)) == [(0, 15)] * 4
    narrow = (Stage(None, 4, "wrap"),)
    assert ranges(graph, quantizer("acc", [1, 3, 1, 1], 3), narrow) == [(-8, 7), (-8, 7), (7, 7)]


MOVES = {
    "transpose": ({"perm": [0, 2, 3, 1]}, {}, [1, 1, 1, 3], [0, 1, 2]),
    "reshape": ({"shape": [1, 3, 4]}, {}, [1, 3, 1], [0, 1, 2]),
    "gather": ({"axis": 1}, {"index": np.array([2, 0, 0])}, [1, 3, 1, 1], [2, 0, 0]),
    "pad": ({"pads": [[0, 0], [0, 0], [1, 0], [0, 0]], "value": 9}, {}, [1, 3, 1, 1], [0, 1, 3]),
}


@pytest.mark.parametrize("op", MOVES)
def test_channels_through_movement(op):
    graph = convolution([3, -2, 0], [0, 10, 7], (0, 5))
    attributes, arrays, cells, order = MOVES[op]
    node = Node(op, "move", ("acc",), "moved", attributes, arrays)
    add(graph, node)
    mine = [(0, 15), (0, 10), (7, 7), (7, 9)]
    assert ranges(graph, quantizer("moved", cells, 3)) == [mine[i] for i in order]


def test_channels_that_are_not_certain_have_the_tensors_range():
    graph = convolution([3, -2, 0], [0, 10, 7], (0, 5))
    add(graph, Node("reshape", "move", ("acc",), "moved", {"shape": [3, 4]}))
    assert ranges(graph, quantizer("moved", [3, 1], 3)) == [(0, 15), (0, 10), (7, 7)], "the batch of one is gone"
    add(graph, Node("reshape", "mix", ("acc",), "mixed", {"shape": [1, 6, 2]}))
    assert ranges(graph, quantizer("mixed", [1, 6, 1], 6)) == [(0, 15)] * 6
    add(graph, Node("concat", "join", ("acc", "acc"), "joined", {"axis": 1}))
    assert ranges(graph, quantizer("joined", [1, 6, 1, 1], 6)) == [(0, 15), (0, 10), (7, 7)] * 2
    add(graph, Node("concat", "wide", ("acc", "acc"), "wider", {"axis": 3}))
    assert ranges(graph, quantizer("wider", [1, 3, 1, 1], 3)) == [(0, 15), (0, 10), (7, 7)]
    assert ranges(graph, quantizer("x", [1, 1, 1, 1], 1)) == [(0, 5)]


def test_ranges_hold_what_a_network_makes():
    """Every accumulator of a random layer lies in its cell's range, and the ends are attained."""
    rng = np.random.default_rng(3)
    graph = IntegerGraph("g", inputs=["x"])
    graph.tensors["x"] = Tensor("x", (40, 3), -2, 2, rationals(1), rationals(0))
    weights = rng.integers(-3, 4, (3, 5))
    add(graph, Node("matmul", "mm", ("x",), "acc", {}, {"weight": weights, "bias": rng.integers(-4, 4, 5)}))
    found = ranges(graph, quantizer("acc", [1, 5], 5))
    every = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    acc = OPS["matmul"].evaluate(graph.nodes[0], every)
    assert found == list(zip(acc.min(0).tolist(), acc.max(0).tolist(), strict=True))


# Several inputs


@pytest.mark.parametrize("form", [ONE_MULTIPLIER["double"], ONE_MULTIPLIER["float32"], ONE_MULTIPLIER["shift-half_up"]])
def test_sums_of_tensors_are_tried_in_every_combination(form):
    coefficients = np.array([[3, 8], [5, 8]])
    pieces = [[(None, Fraction(1, 16), Fraction(1, 3))], [(None, Fraction(1, 8), Fraction(0))]]
    node = made(pieces, arrays={"coefficients": coefficients}, inputs=("a", "b"))
    graph = graph_of(node, (-20, 20), (0, 31))
    found = certify_requantizer(graph, node, form, INT32)
    assert found.reason == ""
    a, b = np.meshgrid(np.arange(-20, 21), np.arange(32), indexing="ij")
    arrays = [np.repeat(v.reshape(-1, 1), 2, axis=1) for v in (a, b)]
    tensors = [graph.tensors[i] for i in "ab"]
    hardware = requantize(node, arrays, tensors, form, INT32)
    wrong = hardware - OPS["requantize"].evaluate(node, *arrays)
    for cell in found.cells:
        sums = (a * coefficients[0, cell.cell] + b * coefficients[1, cell.cell]).reshape(-1)
        mine = wrong[:, cell.cell]
        assert cell.count == np.count_nonzero(mine)
        assert (cell.low, cell.high) == (sums.min(), sums.max())
        covered = {s for d in cell.differences for s in range(d.low, d.high + 1)}
        assert covered == set(sums[mine != 0].tolist())
        for d in cell.differences:
            inside = mine[(sums >= d.low) & (sums <= d.high) & (mine != 0)]
            assert (d.kind, d.least, d.most) == ("inputs", inside.min(), inside.max())
    assert found.verdict == ("differs" if wrong.any() else "equal")


def test_one_tensor_read_twice_has_one_code():
    """x + x is even: half of it is never a tie."""
    node = made(
        [[(None, Fraction(1, 2), Fraction(0))]], arrays={"coefficients": np.array([[1], [1]])}, inputs=("x", "x")
    )
    graph = graph_of(node, (-99, 99), (-99, 99))
    half_up = certify_requantizer(graph, node, Shift(rounding=Rounding.HALF_UP), ())
    assert half_up.equal
    both = replace(node, inputs=("x", "z"))
    graph = graph_of(both, (-99, 99), (-99, 99))
    assert not certify_requantizer(graph, both, Shift(rounding=Rounding.HALF_UP), ()).equal


def test_too_many_combinations_stay_undecided():
    node = made(
        [[(None, Fraction(1, 2), Fraction(0))]], arrays={"coefficients": np.array([[1], [-1]])}, inputs=("a", "b")
    )
    graph = graph_of(node, (0, 4095), (0, 4095))
    found = certify_requantizer(graph, node, Float32(), ())
    assert (found.verdict, found.equal) == ("undecided", False)
    assert "combinations" in found.reason
    assert (found.cells[0].low, found.cells[0].high) == (-4095, 4095)
    assert certify_requantizer(graph, node, Exact(), ()).equal  # compared with itself


# Multiplier widths


def test_multiplier_widths():
    """Each width is what its own certificate says; powers of two need no more than the narrowest."""
    double, half_up = FixedPoint(32, None, True), Float32()
    node = line(Fraction(1, 3), rounding="half_up")
    graph = graph_of(node, (-400, 400))
    found = multiplier_widths(graph, node, half_up)
    expected = [m for m in range(4, 33) if certify_requantizer(graph, node, WIDTHS[f"width-{m}"], ()).equal]
    assert found == tuple(expected)
    assert min(found) > 8
    node = line(Fraction(1, 64), rounding="half_up")
    assert multiplier_widths(graph_of(node, (-9999, 9999)), node, half_up) == tuple(range(4, 33))
    assert multiplier_widths(graph_of(node, (-9999, 9999)), node, double) == ()


def test_a_wider_multiplier_may_fail_where_a_narrower_holds():
    """80 * 2/107 is just below a tie; of 19/2^10, 38/2^11, 77/2^12, 153/2^13 only the third is above 2/107."""
    node = line(Fraction(2, 107), rounding="half_up")
    graph = graph_of(node, (-100, 100))
    assert multiplier_widths(graph, node, Float32()) == (6, 7, *range(9, 33))
    found = certify_requantizer(graph, node, WIDTHS["width-8"], ()).cells[0].differences
    assert found == (Difference(-80, -80, -1, -1), Difference(80, 80, 1, 1))
