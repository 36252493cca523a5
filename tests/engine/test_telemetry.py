"""One pass over unbounded registers against a twin in Python integers, and against what real registers do."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.arithmetic.integers import IntegerType, saturate
from intsim.engine.telemetry.demand import BINS, BLOCK, above, clipped, mac_demand, panel_demand, register_demand
from intsim.graph import Node, Tensor, rationals
from intsim.ops import OPS
from intsim.ops.pieces import pieces_json
from intsim.targets import Target

pytestmark = pytest.mark.xdist_group("registers")  # kernels that its tests share are compiled once

RNG = np.random.default_rng(7)


def bits(value):
    """Smallest signed register that holds a value, by trying."""
    return next(n for n in range(1, 400) if -(2 ** (n - 1)) <= value < 2 ** (n - 1))


def lives(products, stages, start, late):
    """(stage, partial sums) of every register life of one output; registers fill one after another, lane by lane."""
    stages = stages or [Stage(None, 64, "wrap")]
    values, out = list(products), []
    for i, stage in enumerate(stages[:-1]):
        group = len(values) if stage.sum is None else stage.sum * stage.lanes
        handed = []
        for k in range(0, len(values), group or 1):
            part = values[k : k + group]
            for lane in range(min(stage.lanes, len(part))):
                sums = [0, *itertools.accumulate(part[lane :: stage.lanes])]
                out.append((i, sums))
                handed.append(sums[-1])
        values = handed
    first = [] if start is None else [start]
    out.append((len(stages) - 1, [0, *itertools.accumulate([*first, *values, *([] if late is None else [late])])]))
    return out


def twin(outputs, channels, stages):
    """The four arrays from `outputs`: (channel, lives)."""
    count = max(len(stages), 1)
    low, high = (np.zeros((channels, count), np.int64) for _ in range(2))
    partial, final = (np.zeros((channels, count, BINS), np.int64) for _ in range(2))
    for n, lives in outputs:
        for i, sums in lives:
            low[n, i] = min(int(low[n, i]), max(min(sums), -(2**63)))
            high[n, i] = max(int(high[n, i]), min(max(sums), 2**63 - 1))
            partial[n, i, min(max(map(bits, sums)), 65)] += 1
            final[n, i, min(bits(sums[-1]), 65)] += 1
    return low, high, partial, final


def same(demand, expected):
    for name, a, b in zip(("low", "high", "partial", "final"), demand, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def edges(limit):
    near = st.builds(
        lambda k, s, d: min(max(s * (1 << k) + d, -limit), limit),
        st.integers(0, limit.bit_length()),
        st.sampled_from([-1, 1]),
        st.integers(-1, 1),
    )
    return st.one_of(near, st.integers(-limit, limit))


@st.composite
def stage_lists(draw):
    """None to four stages, with lanes."""
    groups = draw(st.lists(st.integers(1, 5), max_size=2))
    rests = draw(st.integers(0, 2))
    sums = [*groups, *[None] * rests]
    if sums and sums[-1] is not None:
        sums.append(None)
    lanes = [draw(st.sampled_from([1, 1, 2, 3, 8])) for _ in sums[:-1]] + [1]
    return [Stage(s, 8, "wrap", n) for s, n in zip(sums, lanes, strict=False)]


@given(
    stage_lists(),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 14),
    st.sampled_from([1, 15, 128, 255, 1 << 15, 1 << 20, (1 << 31) - 1, 1 << 31]),
    st.data(),
)
def test_the_kernel_is_the_definition_and_the_dumb_twin(stages, pixels, channels, depth, largest, data):
    def draw(shape, values):
        size = int(np.prod(shape))
        return np.array(data.draw(st.lists(values, min_size=size, max_size=size)), np.int64).reshape(shape)

    a, w = draw((pixels, depth), edges(largest)), draw((channels, depth), edges(largest))
    constants = st.one_of(edges(largest), edges((1 << 63) - 1))
    start = draw((channels,), constants) if data.draw(st.booleans()) else None
    late = data.draw(st.sampled_from([None, (channels,), (pixels, channels)]))
    late = None if late is None else draw(late, constants)
    each = None if late is None else np.broadcast_to(late, (pixels, channels))
    outputs = []
    for m, n in np.ndindex(pixels, channels):
        products = [int(x) * int(y) for x, y in zip(a[m], w[n], strict=True)]
        first = None if start is None else int(start[n])
        outputs.append((n, lives(products, stages, first, None if each is None else int(each[m, n]))))
    expected = twin(outputs, channels, stages)
    same(panel_demand(a, w, stages, start, late), expected)
    same(register_demand(a.astype(object)[:, None] * w.astype(object), stages, start, late), expected)


STAGES = {
    "plain": [],
    "pairs": [Stage(2, 16, "saturate"), Stage(2, 32, "wrap"), Stage(None, 32, "wrap")],
    "lanes": [Stage(None, 16, "wrap", 4), Stage(None, 32, "wrap")],
}


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("scale", [1, 1 << 20], ids=["int32", "int64"])
@pytest.mark.parametrize("pixels", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_blocks_of_pixels(stages, scale, pixels):
    """Every block's end, in both lanes, with what is added last given by channel and by output."""
    a, w = RNG.integers(0, 256, (pixels, 9)), RNG.integers(-128, 128, (2, 9)) * scale
    by_output = RNG.integers(-(1 << 12), 1 << 12, (pixels, 2)) * scale
    for late in (None, by_output[0], by_output):
        products = (a[:, None] * w).astype(object)
        same(panel_demand(a, w, stages, w[:, 0], late), register_demand(products, stages, w[:, 0], late))


@pytest.mark.parametrize("value", [v * s + d for v in (2**k for k in range(63)) for s in (-1, 1) for d in (-1, 0)])
def test_bits_of_every_power(value):
    """One addition of +-2^k or its neighbour: the exponent that the kernel reads must not round up."""
    demand = panel_demand(np.array([[1]]), np.array([[value]]), [])
    assert demand.partial[0, 0].nonzero()[0].tolist() == [bits(value)]
    assert demand.final[0, 0].nonzero()[0].tolist() == [bits(value)]


@pytest.mark.parametrize(("start", "late"), [(None, None), (40, None), (None, -40), (-70, 90)])
def test_every_width_at_once(start, late):
    """What one pass says of all widths is what a register of each width does: overflows, and sums modulo 2^N."""
    a, w = RNG.integers(-9, 10, (200, 12)), RNG.integers(-9, 10, (1, 12))
    demand = panel_demand(a, w, [], *(None if v is None else np.array([v]) for v in (start, late)))
    products = a * w
    exact = products.sum(axis=1) + (start or 0) + (late or 0)
    seen = set()
    for n, rule in itertools.product(range(1, 16), ("wrap", "saturate")):
        got = accumulate_telemetry(products, [Stage(None, n, rule)], start or 0, late)
        partial, final = int(above(demand.partial, n)[0, 0]), int(above(demand.final, n)[0, 0])
        assert partial == (got.events[:, 0] > 0).sum(), (n, rule)
        if rule == "wrap":
            assert final == (got.result != exact).sum(), n
        seen.add((partial > final, final > 0))
    assert {(False, False), (True, True)} <= seen


def machine(stages, bias, operands):
    tables = [{"sum": "rest" if s is None else s, "bits": b, "overflow": "wrap"} for s, b in stages]
    content = {
        "title": "t",
        "source": ["s"],
        "accumulate": {"stages": tables, "bias": bias},
        "requantize": {"scheme": "exact"},
    }
    if operands:
        content["operands"] = dict(zip(("activation", "weight"), operands, strict=True))
    return Target.model_validate({**content, "name": "t"})


def tensor(array, kind):
    return Tensor("x", array.shape, kind.min, kind.max, rationals(1), rationals(0), kind)


@given(st.data())
@settings(max_examples=2 * settings().max_examples)
def test_a_convolution_as_the_target_sees_it(data):
    """Raw operands, shifts, padding, compensation with weight zero points: 1D loops in Python integers."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    groups, per, each = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel, pads, step = draw(st.integers(1, 3)), [draw(st.integers(0, 2)) for _ in range(2)], draw(st.integers(1, 2))
    signed = draw(st.booleans())
    kind, w_kind = IntegerType(8, signed), IntegerType(8, True)
    x = rng.integers(kind.min, kind.max + 1, (2, groups * per, 5))
    w = rng.integers(w_kind.min, w_kind.max + 1, (groups * each, per, kernel))
    zx, bias = draw(st.sampled_from([0, 3, kind.max])), rng.integers(-999, 999, groups * each)
    zw = np.array(draw(st.sampled_from([[0] * groups * each, rng.integers(-5, 6, groups * each).tolist()])))
    arrays = {"weight": w, "weight_zero": zw.reshape(-1, 1, 1)} | ({"bias": bias} if draw(st.booleans()) else {})
    attributes = {
        "zero_point": zx,
        "strides": [step],
        "dilations": [1],
        "pads": pads,
        "groups": groups,
        "weight_type": {"bits": 8, "signed": True, "narrow": False},
    }
    node = Node("conv", "n", ("x",), "y", attributes, arrays)
    stages = draw(st.sampled_from([[], [(None, 20)], [(2, 16), (2, 20), (None, 24)]]))
    preload, operands = draw(st.sampled_from(["after", "preload"])), draw(st.sampled_from([None, ("u8", "s8")]))
    target = machine(stages, preload, operands)
    demand = mac_demand(node, OPS["conv"], [x], [tensor(x, kind)], target)

    shift = 128 if operands and signed else 0
    outputs = []
    for b, m in np.ndindex(2, groups * each):
        for at in range(-pads[0], 5 + pads[1] - kernel + 1, step):
            pairs = [
                (int(x[b, m // each * per + c, at + k]) if 0 <= at + k < 5 else zx, int(w[m, c, k]))
                for k in range(kernel)
                for c in range(per)
            ]
            zero = int(zw[m])
            mine = int(bias[m]) if "bias" in arrays else 0
            late = 0 if preload == "preload" else mine
            if operands:
                products = [(p + shift) * q for p, q in pairs]
                late += sum((p - zx) * (q - zero) for p, q in pairs) - sum(products)
            else:
                products = [(p - zx) * (q - zero) for p, q in pairs]
            outputs.append((m, lives(products, target.stages, mine if preload == "preload" else 0, late)))
    same(demand, twin(outputs, groups * each, target.stages))


def test_a_product_of_two_tensors():
    x, y = RNG.integers(-128, 128, (2, 3, 4)), RNG.integers(-128, 128, (2, 4, 5))
    kind = IntegerType(8, True)
    node = Node("matmul", "n", ("x", "y"), "z", {"zero_point": 0}, {})
    demand = mac_demand(node, OPS["matmul"], [x, y], [tensor(x, kind), tensor(y, kind)], machine([], "after", None))
    outputs = [
        (n, lives([int(x[b, m, k]) * int(y[b, k, n]) for k in range(4)], [], None, None))
        for b, m, n in np.ndindex(2, 3, 5)
    ]
    same(demand, twin(outputs, 5, []))


def test_clips_by_channel():
    """A requantizer of scale 1/2 to -4..3, ties to even: what lies outside before the clip, channel by channel."""
    x = np.arange(-30, 30).reshape(1, 3, 20)
    pieces = pieces_json([[(None, rationals(0.5)[0], rationals(0)[0])]])
    attributes = {"cells": [1], "pieces": pieces, "rounding": "half_even", "zero": 1, "low": -4, "high": 3}
    node = Node("requantize", "n", ("x",), "y", attributes)
    low, high = clipped(node, [x], [tensor(x, IntegerType(8, True))], machine([], "after", None), 1)
    before = [[round(int(v) / 2) + 1 for v in row] for row in x[0]]
    assert low.tolist() == [sum(v < -4 for v in row) for row in before]
    assert high.tolist() == [sum(v > 3 for v in row) for row in before]
    assert saturate(np.array(before), 3).tolist() == OPS["requantize"].evaluate(node, x)[0].tolist()
    free = Node("requantize", "n", ("x",), "y", {**attributes, "low": None, "high": None})
    assert not np.any(clipped(free, [x], [tensor(x, IntegerType(8, True))], machine([], "after", None), 1))
