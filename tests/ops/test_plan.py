"""How a layer meets a machine's registers: the plan's bounds beside every corner of the inputs, added up in Python."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.registers import Registers
from intsim.errors import IntsimError
from intsim.graph import Node, Tensor
from intsim.mac.any_order import addends
from intsim.mac.operands import multiplier_operands
from intsim.mac.plan import plan
from intsim.ops import OPS
from intsim.targets import Target

U8, S8 = IntegerType(8, False), IntegerType(8, True)


def machine(bias="after", pair=None, stages='{ sum = "rest", bits = 40, overflow = "wrap" }', more=""):
    """Registers of a target of these keys; wide ones unless said."""
    given = "" if pair is None else f'[operands]\nactivation = "{pair[0]}"\nweight = "{pair[1]}"\n'
    head = f'title = "t"\nsource = ["s"]\n{given}[accumulate]\nstages = [{stages}]\nbias = "{bias}"\n{more}'
    return Target.from_toml(f'{head}[requantize]\nscheme = "exact"\n').registers


def tensor(shape, low, high, kind=None, name="x"):
    one = np.array([Fraction(1)], object)
    return Tensor(name, shape, low, high, one, one * 0, kind)


def matmul(weight, zero=0, weight_zero=None, bias=None, kind=S8):
    arrays = {"weight": np.array(weight)}
    if weight_zero is not None:
        arrays["weight_zero"] = np.array(weight_zero)
    if bias is not None:
        arrays["bias"] = np.array(bias)
    at = {"zero_point": zero, "weight_type": {"bits": kind.bits, "signed": kind.signed, "narrow": kind.narrow}}
    return Node("matmul", "n", ("x",), "y", at, arrays)


def corners(x, columns, starts, lates):
    """(low, high) a channel of all sums in one register: x the values an activation takes, a column the weights it may
    meet at each place, a list each; start and late are (least, greatest)."""
    found = []
    for column, start, late in zip(columns, starts, lates, strict=True):
        ends = [0, start]
        runs = itertools.product(*[[a * w for a in x for w in place] for place in column])
        totals = []
        for products in runs:
            sums = [start, *itertools.accumulate(products, initial=start)]
            ends += sums
            totals.append(sums[-1])
        ends += [min(totals) + late[0], max(totals) + late[1]]
        found.append((min(ends), max(ends)))
    return found


def planned(node, tensors, registers):
    found = plan(node, OPS[node.op], tensors, registers).sums
    return list(zip(found.low[-1].tolist(), found.high[-1].tolist(), strict=True))


WEIGHT = [[3, -2, 1], [-4, 5, 0], [1, -1, 2]]


@pytest.mark.parametrize("bias", [None, [7, -90, 0], [-60, 40, 100]])
@pytest.mark.parametrize("place", ["after", "preload"])
@pytest.mark.parametrize(("low", "high", "zero"), [(2, 9, 4), (2, 9, 20), (0, 3, 0), (-3, -1, 0)])
def test_corrected_operands(bias, place, low, high, zero):
    """Products of values without zero points, a bias at either end."""
    node = matmul(WEIGHT, zero, bias=bias)
    given = [0, 0, 0] if bias is None else bias
    starts, lates = (given, [0] * 3) if place == "preload" else ([0] * 3, given)
    columns = [[[w] for w in col] for col in np.array(WEIGHT).T.tolist()]
    expected = corners([low - zero, high - zero], columns, starts, [(v, v) for v in lates])
    assert planned(node, [tensor((1, 3), low, high, S8)], machine(place)) == expected


@pytest.mark.parametrize("place", ["after", "preload"])
@pytest.mark.parametrize("pair", [("u8", "s8"), ("s8", "s8"), ("u8", "u8")])
@pytest.mark.parametrize("weight_zero", [None, [1, 0, -2], [0, 0, 3]])
def test_raw_codes_and_their_compensation(place, pair, weight_zero):
    """The late addend is -zx sum w - z sum x + K zx z with the bias; what depends on the data is bounded by itself."""
    bias, zero, low, high = [11, -40, 5], 6, 3, 10
    x_shift = 0 if pair[0] == "u8" else -128
    w_shift = 0 if pair[1] == "s8" else 128
    node = matmul(WEIGHT, zero, weight_zero, bias)
    zx, zw = zero + x_shift, [(0 if weight_zero is None else weight_zero[c]) + w_shift for c in range(3)]
    x = [low + x_shift, high + x_shift]
    columns = [[[w + w_shift] for w in col] for col in np.array(WEIGHT).T.tolist()]
    lates = []
    for c, column in enumerate(columns):
        fixed = -zx * sum(w for (w,) in column) + 3 * zx * zw[c] + (bias[c] if place == "after" else 0)
        moving = sorted(-zw[c] * 3 * v for v in x)
        lates.append((fixed + moving[0], fixed + moving[1]))
    expected = corners(x, columns, bias if place == "preload" else [0] * 3, lates)
    assert planned(node, [tensor((1, 3), low, high, U8)], machine(place, pair)) == expected


@pytest.mark.parametrize(("zero", "ends"), [(-1, (0, 45)), (1, (-15, 30))])
@pytest.mark.parametrize("place", ["after", "preload"])
def test_a_compensation_that_may_be_nothing(zero, ends, place):
    """-z sum x of activations from 0 on moves one end of the sum and leaves the other."""
    node = matmul([[1], [2], [3]], 0, [zero])
    moving = sorted([0, -zero * 3 * 5])
    expected = corners([0, 5], [[[1], [2], [3]]], [0], [moving])
    assert expected == [ends]
    assert planned(node, [tensor((1, 3), 0, 5, U8)], machine(place, ("u8", "s8"))) == expected


@pytest.mark.parametrize(("bias", "weight"), [(30, [[-3], [-2]]), (-30, [[3], [2]])])
def test_a_preloaded_bias_is_the_end_itself(bias, weight):
    """Where every product leads away from it, no sum on the way lies beyond."""
    node = matmul(weight, 0, bias=[bias])
    reach = addends(node, OPS["matmul"], [tensor((1, 2), 1, 4)], machine("preload")).reach()
    ends = planned(node, [tensor((1, 2), 1, 4)], machine("preload"))[0]
    assert ends == ((0, 30) if bias > 0 else (-30, 0))
    for kind in ("own", "any"):
        assert (reach[kind].high if bias > 0 else reach[kind].low).tolist() == [bias]
        assert (reach[kind].low if bias > 0 else reach[kind].high).tolist() == [
            0 if kind == "own" else -20 * (bias > 0) + 20 * (bias < 0)
        ]


@pytest.mark.parametrize("pair", [None, ("u8", "s8"), ("s8", "u8")])
def test_padding_is_one_more_value(pair):
    """It holds the zero point, which may lie outside the tensor's range; groups keep their channels apart."""
    weight = np.array([[[2, -3]], [[-1, 4]]])
    at = {"strides": [1], "dilations": [1], "pads": [1, 0], "groups": 2, "zero_point": 9}
    at["weight_type"] = {"bits": 8, "signed": True, "narrow": False}
    node = Node("conv", "n", ("x",), "y", at, {"weight": weight})
    x_shift, w_shift = {None: (-9, 0), ("u8", "s8"): (0, 0), ("s8", "u8"): (-128, 128)}[pair]
    zx, zw = (0, 0) if pair is None else (9 + x_shift, w_shift)
    x = [2 + x_shift, 5 + x_shift, 9 + x_shift]
    columns = [[[int(w) + w_shift] for w in row[0]] for row in weight]
    moving = sorted(-zw * 2 * v for v in x)
    fixed = [-zx * sum(w for (w,) in col) + 2 * zx * zw for col in columns]
    lates = [(f + moving[0], f + moving[-1]) for f in fixed]
    expected = corners(x, columns, [0, 0], lates)
    assert planned(node, [tensor((1, 2, 4), 2, 5, U8)], machine(pair=pair)) == expected


@pytest.mark.parametrize("pair", [None, ("u8", "u8"), ("s8", "s8"), ("u8", "s8")])
def test_two_tensors(pair):
    """Each product takes any corner; both compensations move."""
    node = Node("matmul", "n", ("x", "w"), "y", {"zero_point": 3}, {"weight_zero": np.array(5)})
    x_shift, w_shift = (-3, -5) if pair is None else (0 if pair[0] == "u8" else -128, 0 if pair[1] == "u8" else -128)
    x, w = [1 + x_shift, 6 + x_shift], [2 + w_shift, 4 + w_shift]
    zx, zw = (0, 0) if pair is None else (3 + x_shift, 5 + w_shift)
    by_w = sorted(-zx * 2 * v + 2 * zx * zw for v in w)
    by_x = sorted(-zw * 2 * v for v in x)
    late = (by_w[0] + by_x[0], by_w[1] + by_x[1])
    expected = corners(x, [[w] * 2] * 3, [0] * 3, [late] * 3)
    tensors = [tensor((1, 2), 1, 6, U8), tensor((2, 3), 2, 4, U8, "w")]
    assert planned(node, tensors, machine(pair=pair)) == expected


def test_groups_share_no_multiplier():
    """Two groups of one channel each: a packed multiplier has a neighbour only within a group."""
    weight = np.array([[[-8]], [[7]]])
    at = {"strides": [1], "dilations": [1], "pads": [0, 0], "groups": 2, "zero_point": 0}
    node = Node("conv", "n", ("x",), "y", at, {"weight": weight})
    stages = '{ sum = 1, bits = 18, overflow = "wrap" }, { sum = "rest", bits = 32, overflow = "wrap" }'
    packing = '[accumulate.packing]\nchannels = [0, 18]\nbits = 48\ncorrection = "none"\n'
    raw = machine(stages=stages, more=packing)
    found = plan(node, OPS["conv"], [tensor((1, 2, 4), 0, 15)], raw).sums
    assert found.safe[0].tolist() == [True, True]
    at = {**at, "groups": 1}
    node = Node("conv", "n", ("x",), "y", at, {"weight": np.array([[[-8], [1]], [[7], [1]]])})
    found = plan(node, OPS["conv"], [tensor((1, 2, 4), 0, 15)], raw).sums
    assert found.safe[0].tolist() == [True, False]


@pytest.mark.parametrize(
    ("low", "high", "kind", "pair", "shift"),
    [
        (0, 255, None, "u8", 0),
        (0, 256, None, "u8", None),
        (-128, 127, None, "u8", 128),
        (-129, 5, None, "u8", None),
        (0, 255, None, "s8", -128),
        (5, 9, U8, "s8", -128),
        (5, 9, None, "s8", 0),
        (5, 9, S8, "u8", 128),
        (-3, 7, None, "u4", 8),
        (0, 15, None, "s4", -8),
        (0, 8, None, "s4", -8),
        (-8, 8, None, "s4", None),
    ],
)
def test_how_far_codes_are_shifted(low, high, kind, pair, shift):
    """By nothing where they fit, else by half the operand's range; what must fit is the declared type, or the range."""
    node = matmul([[1], [0]], 3, kind=IntegerType(2, True))
    made = Target.from_toml(
        f'title="t"\nsource=["s"]\n[operands]\nactivation="{pair}"\nweight="s8"\n[accumulate]\nstages=[]\n'
        '[requantize]\nscheme="exact"\n'
    ).registers
    where = node, OPS["matmul"], [tensor((1, 2), low, high, kind)], made.activation, made.weight
    if shift is None:
        with pytest.raises(IntsimError, match="its activation"):
            multiplier_operands(*where)
    else:
        how = multiplier_operands(*where)
        assert (how.x_shift, how.x_zero, how.pad) == (shift, 3 + shift, 3 + shift)


@pytest.mark.parametrize(("kind", "shift"), [(U8, 0), (S8, 128), (None, 0)])
def test_a_second_tensor_is_shifted_by_its_own_type(kind, shift):
    node = Node("matmul", "n", ("x", "w"), "y", {}, {})
    tensors = [tensor((1, 2), 0, 9, S8), tensor((2, 3), 0, 9, kind, "w")]
    how = multiplier_operands(node, OPS["matmul"], tensors, IntegerType(8, True), IntegerType(8, False))
    assert (how.x_shift, how.w_shift) == (0, shift)


CHAINS = [
    (Stage(None, 8, "wrap"),),
    (Stage(None, 9, "saturate"),),
    (Stage(2, 7, "wrap", 2), Stage(None, 8, "wrap")),
    (Stage(2, 6, "saturate"), Stage(None, 8, "wrap")),
    (Stage(2, 7, "wrap"), Stage(None, 8, "wrap")),
    (Stage(2, 7, "wrap"), Stage(None, 20, "saturate")),
    (Stage(1, 6, "wrap", drop=1, rounding="floor"), Stage(None, 7, "wrap")),
]


def test_what_is_kept_of_a_node_says_nothing_else_of_other_registers():
    """One node planned on machine after machine, and on tensors of other ranges: each time as if for the first time."""
    rng = np.random.default_rng(5)
    node = matmul(rng.integers(-4, 5, (6, 3)).tolist(), 4, bias=[3, -20, 0])
    for _ in range(2):
        for stages, place, high in itertools.product(CHAINS, ("after", "preload"), (3, 9)):
            registers, tensors = Registers(stages, (), place, None, None), [tensor((2, 6), 0, high)]
            kept, fresh = (plan(n, OPS["matmul"], tensors, registers) for n in (node, dataclasses.replace(node)))
            for name in ("low", "high", "safe", "exact"):
                mine, theirs = (np.array(getattr(p.sums, name)).tolist() for p in (kept, fresh))
                assert mine == theirs, f"{name} of {stages}"
