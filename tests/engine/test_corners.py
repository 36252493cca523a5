"""Where a fast engine goes wrong, one thing at a time: borders, channel tails, strides, ties, lanes, memory, shares."""

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import Rounding
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.ops import OPS
from intsim.targets import Target

from .graphs import GraphCase
from .test_agreement import EXACT, agree

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

RNG = np.random.default_rng(21)
ONE_WAY = [(True, True, 1), (False, True, 1)]
U8, S8 = IntegerType(8, False), IntegerType(8, True)


class Build:
    """A graph written by hand: each method adds a node and returns its tensor's name."""

    def __init__(self, *shape, kind=U8):
        self.graph = IntegerGraph("corner", inputs=["x"])
        self.graph.tensors["x"] = Tensor("x", shape, kind.min, kind.max, rationals(1), rationals(0), kind)
        ends = RNG.choice([kind.min, kind.max], shape)
        some = RNG.integers(kind.min, kind.max, shape, endpoint=True)
        self.inputs = {"x": np.where(RNG.random(shape) < 0.3, ends, some)}

    def add(self, op, inputs, attributes, kind=None, **arrays):
        name = f"t{len(self.graph.nodes)}"
        node = Node(op, name, tuple(inputs), name, attributes, arrays)
        tensors = [self.graph.tensors[n] for n in inputs]
        shape = tuple(OPS[op].shape(node, *(t.shape for t in tensors)))
        low, high = OPS[op].value_range(node, *tensors)
        return self.graph.add(node, Tensor(name, shape, low, high, rationals(1), rationals(0), kind))

    def conv(self, x, channels, kernel=(3, 3), *, groups=1, op="conv", zero=0, weights=(-8, 7), bias=None, **at):
        rank = len(kernel)
        at = {"strides": [1] * rank, "dilations": [1] * rank, "pads": [0] * (2 * rank), "groups": groups, **at}
        w = RNG.integers(*weights, (channels, self.graph.tensors[x].shape[1] // groups, *kernel), endpoint=True)
        arrays = {"weight": w} if bias is None else {"weight": w, "bias": RNG.integers(-bias, bias + 1, channels)}
        return self.add(op, [x], {**at, "zero_point": zero}, **arrays)

    def codes(self, x, scale="1/16", offset="100/1", kind=U8, rounding="half_even", cells=None):
        """A requantizer of one cell, or of one a channel with a scale for each."""
        shape = self.graph.tensors[x].shape
        wide = [1] * len(shape)
        pieces = [[[None, s, offset]] for s in (cells or [scale])]
        if cells:
            wide[1] = len(cells)
        at = {"cells": wide, "pieces": pieces, "zero": 0, "low": kind.min, "high": kind.max, "rounding": rounding}
        return self.add("requantize", [x], at, kind)

    def concat(self, *names, axis=1):
        kinds = {self.graph.tensors[n].type for n in names}
        return self.add("concat", names, {"axis": axis}, kinds.pop() if len(kinds) == 1 else None)

    def double(self, x):
        for axis in (2, 3):
            index = np.repeat(np.arange(self.graph.tensors[x].shape[axis]), 2)
            x = self.add("gather", [x], {"axis": axis}, self.graph.tensors[x].type, index=index)
        return x

    def check(self, *outputs, target=EXACT, ways=ONE_WAY):
        self.graph.outputs = list(outputs)
        agree(GraphCase(self.graph, self.inputs, "by hand"), target, ways)


@pytest.mark.parametrize("kind", [U8, S8], ids=["u8", "s8"])
@pytest.mark.parametrize("zero", [0, 7, 100])
def test_padding_holds_the_zero_point(kind, zero):
    """Two convolutions that read one tensor with borders and zero points of their own."""
    net = Build(1, 4, 5, 6, kind=kind)
    y = net.codes(net.conv("x", 4, zero=zero, pads=[1, 2, 0, 3]), kind=kind, offset="3/1")
    first, second = net.conv(y, 4, zero=zero, pads=[2, 1, 1, 0]), net.conv(y, 3, (5, 1), zero=zero - 7, pads=[2, 0] * 2)
    net.check(first, second)


@pytest.mark.parametrize("kind", [U8, S8], ids=["u8", "s8"])
def test_zero_points_outside_the_range(kind):
    """Legal where nothing is padded: the tensor's real numbers all have one sign."""
    for zero in (kind.min - 1, kind.max + 300):
        net = Build(1, 3, 6, 6, kind=kind)
        net.check(net.conv("x", 2, zero=zero), net.conv("x", 2, zero=zero, strides=[2, 1]))
    net = Build(1, 2, 5, 5)
    net.graph.tensors["x"] = Tensor("x", (1, 2, 5, 5), 200, 255, rationals(1), rationals(0), U8)
    net.inputs = {"x": RNG.integers(200, 256, (1, 2, 5, 5))}
    for name in ("exact", "wrap-11"):
        net.check(net.conv("x", 2, zero=200, pads=[1] * 4), target=Target.load(name))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 9])
def test_channels_that_fill_no_word(channels):
    """Between two convolutions: 1 to 9 channels, of which four make a word, and as many groups."""
    net = Build(2, channels, 4, 4)
    y = net.codes(net.conv("x", channels, pads=[1] * 4, bias=50))
    z = net.conv(y, channels, groups=channels, pads=[1] * 4)
    net.check(z, net.conv(y, 2 * channels, groups=channels), net.conv(y, 5, (1, 1)))


@pytest.mark.parametrize(("inside", "groups", "out"), [(3, 2, 1), (3, 3, 2), (5, 2, 3), (6, 2, 4), (1, 7, 3)])
def test_groups_across_words(inside, groups, out):
    net = Build(1, inside * groups, 3, 5)
    net.check(net.codes(net.conv("x", out * groups, groups=groups, pads=[1, 0, 1, 0])))


@pytest.mark.parametrize("strides", [(1, 2), (2, 1), (2, 2), (3, 2), (3, 3)])
def test_strides_and_dilations(strides):
    for dilations in ((1, 1), (2, 1), (1, 3), (2, 3)):
        net = Build(2, 5, 9, 10)
        y = net.conv("x", 3, strides=list(strides), dilations=list(dilations), pads=[1, 2, 3, 0], zero=9)
        net.check(net.codes(y), y)


@pytest.mark.parametrize("insert", [(1, 2), (2, 2), (3, 1), (3, 3)])
def test_transposed(insert):
    for kernel, pads in (((2, 2), [1] * 4), ((4, 3), [2, 1, 1, 2]), ((1, 2), [0, 0, 2, 1]), ((3, 3), [-1, 2, 1, -1])):
        net = Build(1, 3, 4, 3, kind=S8)
        y = net.conv("x", 5, kernel, op="conv_transpose", insert=list(insert), pads=pads, zero=-3)
        net.check(net.codes(y, kind=S8, offset="0/1"))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_rows_of_every_length(rows):
    """Blocks of positions run over the ends of rows; what lies between rows is computed and left out."""
    for width in (1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 130):
        net = Build(1, 3, rows, width)
        y = net.codes(net.conv("x", 5, pads=[1] * 4))
        net.check(net.conv(y, 2, pads=[1] * 4), y)


@pytest.mark.parametrize("rounding", [str(mode) for mode in Rounding])
@pytest.mark.parametrize("scale", ["1/4", "-1/4", "3/64", "1/5"])
def test_every_rounding_of_ties_behind_a_convolution(rounding, scale):
    """Quarters of accumulators on both sides of 0: those that go up at some codes and down at others need a table."""
    net = Build(1, 2, 8, 9, kind=IntegerType(4, True))
    y = net.conv("x", 6, (1, 1), weights=(-7, 7))
    scales = [scale, "1/2", scale, "1/8", scale, "-1/2"]
    net.check(net.codes(y, kind=S8, offset="0/1", rounding=rounding, cells=scales))


@pytest.mark.parametrize("name", ["cpu-int32", "tosa", "fixed-point-6", "x86-vnni", "fbgemm-acc16", "finn-mvau"])
def test_every_requantizer_behind_a_convolution(name):
    net = Build(1, 4, 6, 7)
    y = net.conv("x", 5, weights=(-100, 100), bias=1000)
    scales = ["1/700", "1/1024", "3/5000", "1/333", "7/4096"]
    net.check(net.codes(y, kind=S8, offset="0/1", cells=scales), y, target=Target.load(name))
    net.check(net.codes(y, kind=S8, offset="5/2", cells=scales), target=Target.load(name))


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_a_bend_behind_an_addition(terms):
    """LeakyRelu and PRelu: the sum of all operands decides which side of the bend it is."""
    net = Build(1, 3, 5, 6, kind=S8)
    names = ["x", net.add("gather", ["x"], {"axis": 3}, S8, index=np.arange(6)[::-1].copy()), "x"][:terms]
    bends = [[[None, "1/8", "-1/16"], [1, "3/4", "-1/2"]], [[None, "1/1", "0/1"]]]
    bends += [[[None, "0/1", "2/1"], [-7, "1/5", "3/1"]]]
    at = {"cells": [1, 3, 1, 1], "pieces": bends, "zero": 0, "low": -128, "high": 127, "rounding": "half_even"}
    factors = {"coefficients": np.array([1, 1, -2])[:terms].reshape(-1, 1, 1, 1, 1)} if terms > 1 else {}
    y = net.add("requantize", names, at, S8, **factors)
    net.check(net.conv(y, 2, pads=[1] * 4), y)


def test_memory_is_used_again_only_when_all_have_read():
    """A U with two bypasses: the first map is read again at the end, when many others have come and gone."""
    net = Build(1, 3, 8, 8)
    a = net.codes(net.conv("x", 6, pads=[1] * 4))
    b = net.codes(net.conv(a, 5, pads=[1] * 4, strides=[2, 2]))
    c = net.codes(net.conv(b, 9, pads=[1] * 4, strides=[2, 2]))
    d = net.codes(net.conv(c, 4, (1, 1)))
    e = net.codes(net.conv(net.concat(net.double(d), b), 6, pads=[1] * 4))
    f = net.codes(net.conv(e, 3, pads=[1] * 4))
    g = net.codes(net.conv(net.concat(net.double(f), a), 4, pads=[1] * 4))
    net.check(g, c, ways=[(True, True, 1), (False, True, 1), (False, False, 2)])


@pytest.mark.parametrize("counts", [(4, 4), (3, 4), (4, 3, 5), (1, 1, 1), (6, 2, 4), (8, 1, 4, 3)])
def test_operands_of_a_concatenation(counts):
    """Some lie in the result from the beginning, some are copied; those that are read beside it as well."""
    net = Build(2, 4, 5, 5)
    parts = [net.codes(net.conv("x", n, (1, 1))) for n in counts]
    joined = net.concat(*parts)
    again = net.concat(parts[-1], parts[0], parts[0])
    ends = [net.conv(joined, 5, pads=[1] * 4), net.conv(again, 3), net.conv(parts[0], 2, pads=[2] * 4)]
    net.check(*ends, joined)


@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("name", ["exact", "saturate-12", "x86-avx2"])
def test_shares_of_threads(images, name):
    """Rows and images are shared out; each share writes its own part and counts its own overflows."""
    net = Build(images, 3, 40, 30)
    y = net.conv("x", 9, weights=(-128, 127), pads=[1] * 4)
    z = net.conv(net.codes(y, "1/64"), 3, strides=[2, 1], zero=100)
    net.check(y, z, target=Target.load(name), ways=[(True, True, 1), (False, True, 2), (False, False, 3)])


@pytest.mark.parametrize("kind", [U8, S8, IntegerType(9, True), IntegerType(16, False), IntegerType(4, False)])
def test_types_of_matrix_operands(kind):
    for rows in (1, 2, 5):
        net = Build(rows, 2, 7, kind=kind)
        moved = net.add("transpose", ["x"], {"perm": [1, 0, 2]}, kind)
        weight, bias = RNG.integers(-128, 128, (7, 6)), RNG.integers(-999, 999, 6)
        y = net.add("matmul", [moved], {"zero_point": kind.min + 1}, weight=weight, bias=bias)
        net.check(y, net.codes(y, "1/64", kind=S8))
        net.check(y, target=Target.load("saturate-15"))


@pytest.mark.parametrize("bits", [8, 9, 14, 15, 16, 17, 18, 24, 31, 32, 33])
@pytest.mark.parametrize("family", ["saturate", "wrap"])
def test_registers_next_to_the_width_of_a_lane(family, bits):
    """Sums that climb to the ends of 16-bit and 32-bit lanes, and fall again."""
    top = (1 << min(max(bits - 8, 1), 15)) - 1
    net = Build(1, 9, 4, 4, kind=U8 if bits < 20 else IntegerType(16, False))
    net.inputs["x"][:] = net.graph.tensors["x"].high
    w = np.repeat(RNG.choice([-top - 1, top, 1], (6, 9, 1, 1)), 9, axis=2).reshape(6, 9, 3, 3)
    w[0], w[1] = top, -top - 1
    at = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "groups": 1, "zero_point": 0}
    y = net.add("conv", ["x"], at, weight=w, bias=np.array([0, -1, 1, 1 << bits - 2, -(1 << bits - 2), 5]))
    net.check(y, target=Target.load(f"{family}-{bits}"), ways=[(True, True, 1), (False, False, 1)])


@pytest.mark.parametrize("size", [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_sums_that_just_leave_a_lane_before_a_narrow_register(size):
    """One to four products of 255 x 128 and more: the group's register is wide, so its lane must be."""
    net = Build(1, 3, 5, 5)
    net.inputs["x"][:] = 255
    w = RNG.choice([-128, 127], (6, 3, 2, 2))
    w[0], w[1] = 127, -128
    y = net.add("conv", ["x"], flat(), weight=w)
    for bits in (17, 18, 32):
        net.check(y, target=registers({"sum": size, "bits": bits}, {"sum": "rest", "bits": 17}))


def registers(*stages, **more):
    table = {"stages": [{"overflow": "saturate", **stage} for stage in stages], **more}
    content = {"title": "t", "source": ["s"], "accumulate": table, "requantize": {"scheme": "exact"}}
    return Target.model_validate(content)


def test_a_preloaded_bias_that_overflows_is_counted_for_every_position():
    """Fewer positions than channels, and more."""
    for width in (1, 2, 3, 9):
        net = Build(1, 2, width)
        y = net.conv("x", 4, (1,), bias=5000)
        for name in ("dsp-40", "hifi-56"):
            net.check(y, target=Target.load(name))
        net.check(y, target=registers({"sum": "rest", "bits": 8, "overflow": "wrap"}, bias="preload"))


def test_what_an_overflow_lets_through_is_not_clipped_to_a_proof():
    """Codes whose proven range is 0 to 8 are negative behind a register that wrapped: the next layer must see them."""
    net = Build(1, 1, 3, 3)
    y = net.add("conv", ["x"], flat(), weight=np.ones((1, 1, 1, 1), np.int64))
    q = net.codes(y, "1/32", offset="0/1", kind=S8)
    assert (net.graph.tensors[q].low, net.graph.tensors[q].high) == (0, 8)
    net.check(net.conv(q, 3, (1, 1), weights=(-99, 99)), q, target=Target.load("wrap-8"))
    net.check(net.concat(q, q), target=Target.load("wrap-8"))


def flat():
    return {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "groups": 1, "zero_point": 0}


@pytest.mark.parametrize("most", [255, 256])
@pytest.mark.parametrize("op", ["matmul", "conv"])
def test_two_additions_that_are_off_by_a_whole_lane(op, most):
    """-2^15 twice, from -2^15 on: asked together, as products below 2^15 may be, both would look like none."""
    target = Target.load("saturate-16")
    x = np.array([most, 0, most, most])
    for channels in (1, 5):
        net = Build(3, 4, *([17] if op == "conv" else []), kind=IntegerType(9, False))
        shape = net.graph.tensors["x"].shape
        net.graph.tensors["x"] = Tensor("x", shape, 0, most, rationals(1), rationals(0), IntegerType(9, False))
        net.inputs = {"x": np.broadcast_to(x.reshape(1, 4, *[1] * (len(shape) - 2)), shape)}
        if op == "matmul":
            y = net.add("matmul", ["x"], {"zero_point": 0}, weight=np.full((4, channels), -128))
        else:
            at = {"strides": [1], "dilations": [1], "pads": [0, 0], "groups": 1, "zero_point": 0}
            y = net.add("conv", ["x"], at, weight=np.full((channels, 4, 1), -128))
        net.check(y, target=target, ways=[(keep, counts, 1) for keep in (True, False) for counts in (True, False)])
