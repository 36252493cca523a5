"""A layer on a target against a twin in Python integers: loops, the stated order, compensation as documented."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import Packing
from intsim.engine.node import add_to_register, run_mac
from intsim.engine.registers.packed import packed_matmul
from intsim.errors import IntsimError
from intsim.graph import Node, Tensor, rationals
from intsim.mac.plan import plan
from intsim.ops import OPS, conv
from intsim.targets import Target
from tests import twins

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

PLACES = ["after", "preload", "requantizer"]
ORDERS = ["kh kw cin", "cin kh kw", "kw cin kh", "kh cin kw"]


def target(stages, order="kh kw cin", bias="after", operands=None, packing=None):
    table = [
        {"sum": "rest" if s is None else s, "bits": b, "overflow": o, "lanes": n[0] if n else 1}
        for s, b, o, *n in stages
    ]
    content = {
        "title": "t",
        "source": ["s"],
        "accumulate": {"order": order, "stages": table, "bias": bias},
        "requantize": {"scheme": "exact"},
    }
    if packing:
        content["accumulate"]["packing"] = dict(zip(("channels", "pixels", "bits", "correction"), packing, strict=True))
    if operands:
        content["operands"] = {"activation": operands[0], "weight": operands[1]}
    return Target.model_validate({**content, "name": "t"})


def tensor(array, low, high, kind=None, name="x"):
    return Tensor(name, array.shape, low, high, rationals(1), rationals(0), kind)


def feeds(kind, operand):
    """What a kernel adds to codes of one type so that they are operands of another."""
    half = 1 << operand.bits - 1
    return next(s for s in (0, -half if operand.signed else half) if operand.contains(kind.min + s, kind.max + s))


def feed(pairs, zx, zw, shift, bias, chosen):
    """One output element's products, preloaded bias, what is added last, and what behind the registers.

    `pairs` are (x code or None for padding, w code) in order of arrival.
    """
    if chosen.operands is None:
        products = [0 if x is None else (x - zx) * (w - zw) for x, w in pairs]
        late = 0
    else:
        # padding holds the zero point; both zero points move with their codes
        sx, sw = shift
        xs, ws = [(zx if x is None else x) + sx for x, _ in pairs], [w + sw for _, w in pairs]
        products = [x * w for x, w in zip(xs, ws, strict=True)]
        late = -(zx + sx) * sum(ws) - (zw + sw) * sum(xs) + len(pairs) * (zx + sx) * (zw + sw)
    held = {when: bias or 0 if chosen.accumulate.bias == when else 0 for when in PLACES}
    return products, held["preload"], late + held["after"], held["requantizer"]


def outputs(fed, address, shape, chosen):
    """Values and sums of all outputs; `address` of an index is its panel, row and channel there."""
    packing, sums, sets = chosen.registers.packing, {}, {}
    for index, (products, preload, late, _) in fed.items():
        if packing is None:
            sums[index] = twins.accumulate(products, chosen.stages, preload, late)
        else:
            panel, row, channel = address(index)
            (i, p), (j, c) = divmod(row, len(packing.pixels)), divmod(channel, len(packing.channels))
            sets.setdefault((panel, i, j), {})[c, p] = index
    for shared in sets.values():
        products, preload, late = ({cell: fed[index][part] for cell, index in shared.items()} for part in range(3))
        for cell, done in twins.accumulate_packed(products, chosen.stages, packing, preload, late).items():
            sums[shared[cell]] = done
    out = np.zeros(shape, object)
    for index, done in sums.items():
        out[index] = done.result + fed[index][3]
    return out, sums


def twin_conv(x, w, at, zx, zw, bias, chosen, shift):
    """Nested loops over outputs and products of a 2D convolution."""
    n, _c, h, width = x.shape
    o, per, kh, kw = w.shape
    top, left, bottom, right = at["pads"]
    (sy, sx), (dy, dx), groups = at["strides"], at["dilations"], at["groups"]
    rows = (h + top + bottom - dy * (kh - 1) - 1) // sy + 1
    cols = (width + left + right - dx * (kw - 1) - 1) // sx + 1
    fed = {}
    sizes = {"kh": kh, "kw": kw, "cin": per}
    for b, m, i, j in np.ndindex(n, o, rows, cols):
        pairs = []
        for tap in itertools.product(*(range(sizes[t]) for t in chosen.accumulate.order)):
            p = dict(zip(chosen.accumulate.order, tap, strict=True))
            y, z = i * sy + p["kh"] * dy - top, j * sx + p["kw"] * dx - left
            channel = m // (o // groups) * per + p["cin"]
            code = int(x[b, channel, y, z]) if 0 <= y < h and 0 <= z < width else None
            pairs.append((code, int(w[m, p["cin"], p["kh"], p["kw"]])))
        zero = int(zw[m] if zw.size > 1 else zw.reshape(-1)[0])
        fed[b, m, i, j] = feed(pairs, zx, zero, shift, None if bias is None else int(bias[m]), chosen)
    beside = o // groups
    return outputs(
        fed,
        lambda at: (at[1] // beside, (at[0] * rows + at[2]) * cols + at[3], at[1] % beside),
        (n, o, rows, cols),
        chosen,
    )


LANES = st.sampled_from([1, 1, 2, 3])
STAGES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(4, 14), st.sampled_from(["wrap", "saturate"]), LANES), max_size=2
).flatmap(
    lambda head: st.lists(
        st.tuples(st.none(), st.integers(5, 18), st.sampled_from(["wrap", "saturate"])), min_size=1, max_size=2
    ).map(lambda tail: head + tail)
)
PACKINGS = st.sampled_from(
    [
        ([0, 18], [0], 48, "borrow"),
        ([0, 11], [0, 22], 48, "borrow"),
        ([0, 11], [0, 22], 48, "none"),
        ([0], [0, 9, 18], 30, "none"),
        ([0, 20, 40], [0, 10], 64, "borrow"),
    ]
)


@st.composite
def packed(draw):
    """A packing, and stages of which the first is read from its fields."""
    packing, rest = draw(PACKINGS), draw(STAGES)
    bits = min(9 if 9 in packing[1] else 18 if 18 in packing[0] else 10, draw(st.sampled_from([18, 9, 6])))
    return packing, [(draw(st.integers(1, 4)), bits, "wrap"), *rest]


MACHINES = st.one_of(STAGES.map(lambda stages: (None, stages)), packed())
OPERANDS = st.sampled_from([None, ("u8", "s8"), ("u8", "u8"), ("s8", "s8"), ("s8", "u8")])


def kinds(draw, what):
    bits = draw(st.integers(2, 8), label=f"{what} bits")
    return IntegerType(bits, draw(st.booleans(), label=f"{what} signed"))


def codes(draw, kind, shape, narrowed):
    """Codes within a part of the type, their corners often."""
    a, b = (
        sorted([draw(st.integers(kind.min, kind.max)), draw(st.integers(kind.min, kind.max))])
        if narrowed
        else (kind.min, kind.max)
    )
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    array = rng.choice([a, b], shape) if draw(st.booleans()) else rng.integers(a, b + 1, shape)
    return array.astype(np.int64), a, b


def expect(node, op, arrays, tensors, chosen, out, seen):
    """Values, events and proof of one layer against the twin; `seen` by output index (batch, channel, ...)."""
    result = run_mac(node, op, arrays, tensors, chosen)
    np.testing.assert_array_equal(result.out, out.astype(np.int64))
    channel_axis = 1 if node.op != "matmul" else out.ndim - 1
    events = np.zeros((out.shape[channel_axis], len(chosen.stages)), np.int64)
    sums = plan(node, op, tensors, chosen.registers).sums
    assert sums is not None
    channels = out.shape[channel_axis]
    safe = [s.reshape(-1, channels).all(axis=0) for s in sums.safe]
    lows = [s.reshape(-1, channels).min(axis=0) for s in sums.low]
    highs = [s.reshape(-1, channels).max(axis=0) for s in sums.high]
    for index, done in seen.items():
        m = index[channel_axis]
        events[m] += done.events
        for i, (low, high) in enumerate(zip(done.low, done.high, strict=True)):  # the empty register's 0 included
            if safe[i][m]:
                assert done.events[i] == 0, "a channel proven safe overflowed"
                assert min(lows[i][m], 0) <= low, (i, "bound")
                assert high <= max(highs[i][m], 0), (i, "bound")
    np.testing.assert_array_equal(result.events, events)
    exactly = sums.all_exact.reshape(-1, channels).all(axis=0)
    exact = np.moveaxis(op.evaluate(node, *arrays), channel_axis, -1)
    np.testing.assert_array_equal(np.moveaxis(result.out, channel_axis, -1)[..., exactly], exact[..., exactly])
    if chosen.registers.packing is None and all(s.overflow == "wrap" for s in chosen.stages):
        bits = min(s.bits for s in chosen.stages)
        assert ((result.out - op.evaluate(node, *arrays)) % (1 << bits) == 0).all(), (
            "wrapping registers keep the sum modulo 2^N"
        )


@given(st.data())
@settings(max_examples=2 * settings().max_examples)
def test_convolution(data):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per, out_per = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    x_kind, w_kind = kinds(draw, "x"), kinds(draw, "w")
    x, x_low, x_high = codes(draw, x_kind, (draw(st.integers(1, 2)), per * groups, 4, 3), draw(st.booleans()))
    w, _, _ = codes(draw, w_kind, (out_per * groups, per, *kernel), draw(st.booleans()))
    pads = draw(st.one_of(st.just([0, 0, 0, 0]), st.lists(st.integers(0, 2), min_size=4, max_size=4)))
    at = {
        "strides": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "dilations": (1, 1),
        "pads": pads,
        "groups": groups,
    }
    zx = draw(st.sampled_from([0, x_kind.min, x_kind.max, (x_kind.min + x_kind.max) // 2]))
    channels = w.shape[0]
    zw = np.array(
        draw(
            st.one_of(st.just([0]), st.lists(st.integers(w_kind.min, w_kind.max), min_size=channels, max_size=channels))
        )
    )
    bias = draw(st.one_of(st.none(), st.lists(st.integers(-40, 40), min_size=channels, max_size=channels)))
    arrays = {"weight": w}
    if zw.any():
        arrays["weight_zero"] = zw.reshape(-1, 1, 1, 1) if zw.size > 1 else zw.reshape(())
    if bias is not None:
        arrays["bias"] = np.array(bias, np.int64)
    weight_type = {"bits": w_kind.bits, "signed": w_kind.signed, "narrow": False}
    node = Node("conv", "n", ("x",), "y", {**at, "zero_point": zx, "weight_type": weight_type}, arrays)
    packing, stages = draw(MACHINES)
    chosen = target(stages, draw(st.sampled_from(ORDERS)), draw(st.sampled_from(PLACES)), draw(OPERANDS), packing)
    info = tensor(x, x_low, x_high, x_kind if draw(st.booleans()) else IntegerType(x_kind.bits, x_kind.signed))
    given_ = chosen.operands
    shift = (feeds(x_kind, given_.activation), feeds(w_kind, given_.weight)) if given_ else (0, 0)
    out, seen = twin_conv(x, w, at, zx, zw, bias, chosen, shift)
    expect(node, OPS["conv"], [x], [info], chosen, out, seen)


@given(st.data())
@settings(max_examples=2 * settings().max_examples)
def test_matrix_product(data):
    """Constant, batched constant and second-tensor operands."""
    draw = data.draw
    form = draw(st.sampled_from(["constant", "batched", "tensor", "batched tensor"]))
    m, k, n = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    batch = () if form in ("constant", "tensor") and draw(st.booleans()) else (2,)
    w_shape = (k, n) if form in ("constant", "tensor") else (2, k, n)
    x_kind, w_kind = kinds(draw, "x"), kinds(draw, "w")
    x, x_low, x_high = codes(draw, x_kind, (*batch, m, k), draw(st.booleans()))
    w, w_low, w_high = codes(draw, w_kind, w_shape, draw(st.booleans()))
    zx = draw(st.sampled_from([0, x_kind.min, x_kind.max]))
    dynamic = "tensor" in form
    zw = draw(st.sampled_from([0, w_kind.min, w_kind.max]))
    zws = np.full(n, zw)
    if not dynamic and draw(st.booleans()):
        zws = np.array(draw(st.lists(st.integers(w_kind.min, w_kind.max), min_size=n, max_size=n)))
    bias = (
        draw(st.lists(st.integers(-40, 40), min_size=n, max_size=n))
        if form == "constant" and draw(st.booleans())
        else None
    )
    attributes = {"zero_point": zx, "weight_type": {"bits": w_kind.bits, "signed": w_kind.signed, "narrow": False}}
    arrays = {} if dynamic else {"weight": w}
    if zws.any():
        arrays["weight_zero"] = np.array(zw) if dynamic else zws
    if bias is not None:
        arrays["bias"] = np.array(bias, np.int64)
    node = Node("matmul", "n", ("x", "w") if dynamic else ("x",), "y", attributes, arrays)
    packing, stages = draw(MACHINES)
    chosen = target(stages, bias=draw(st.sampled_from(PLACES)), operands=draw(OPERANDS), packing=packing)
    given_ = chosen.operands
    shift = (feeds(x_kind, given_.activation), feeds(w_kind, given_.weight)) if given_ else (0, 0)
    shape = np.matmul(x, w).shape
    xs, ws = np.broadcast_to(x, (*shape[:-2], m, k)), np.broadcast_to(w, (*shape[:-2], k, n))
    fed = {}
    for index in np.ndindex(*shape):
        *b, i, j = index
        pairs = [(int(xs[(*b, i, t)]), int(ws[(*b, t, j)])) for t in range(k)]
        fed[index] = feed(pairs, zx, int(zws[j]), shift, None if bias is None else bias[j], chosen)
    together = len(w_shape) == 2  # one matrix for all rows
    out, seen = outputs(
        fed,
        lambda at: (() if together else at[:-2], at[-2] if len(at) == 2 or not together else at[0] * m + at[1], at[-1]),
        shape,
        chosen,
    )
    tensors = [tensor(x, x_low, x_high, x_kind)] + ([tensor(w, w_low, w_high, w_kind, "w")] if dynamic else [])
    expect(node, OPS["matmul"], [x, w] if dynamic else [x], tensors, chosen, out, seen)


@pytest.mark.parametrize("name", ["x86-avx2", "x86-vnni"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_signed_activations_through_an_unsigned_multiplier(name, dynamic):
    """s8 codes are fed as u8 by adding 128, which each matrix of a batch compensates by its own sums."""
    rng = np.random.default_rng(0)
    kind = IntegerType(8, True)
    x, w = rng.integers(-40, 40, (2, 3, 5)), rng.integers(-9, 9, (2, 5, 4))
    node = Node(
        "matmul", "n", ("x", "w") if dynamic else ("x",), "y", {"zero_point": 3}, {} if dynamic else {"weight": w}
    )
    tensors = [tensor(x, -128, 127, kind), *([tensor(w, -9, 8, kind, "w")] if dynamic else [])]
    result = run_mac(node, OPS["matmul"], [x, w] if dynamic else [x], tensors, Target.load(name))
    np.testing.assert_array_equal(result.out, (x - 3) @ w)
    assert not result.events.any()


def test_operands_that_do_not_fit_are_refused():
    x, w = np.zeros((1, 3), np.int64), np.full((3, 1), 300)
    nine = IntegerType(9, True)
    wide = Node("matmul", "n", ("x",), "y", {"zero_point": 0}, {"weight": w})
    with pytest.raises(IntsimError, match=r"weight .*doesn't fit the target's s8"):
        run_mac(wide, OPS["matmul"], [x], [tensor(x, 0, 255)], Target.load("x86-avx2"))
    slim = Node("matmul", "n", ("x",), "y", {"zero_point": 0}, {"weight": w // 3})
    with pytest.raises(IntsimError, match=r"activation \(INT9\) doesn't fit the target's u8"):
        run_mac(slim, OPS["matmul"], [x], [tensor(x, -256, 255, nine)], Target.load("x86-avx2"))


def test_safe_and_unsafe_channels_side_by_side():
    """Channels go their own way; panels and groups put every result in its place."""
    x = np.full((1, 2, 1, 1), 100)
    w = np.array([[1, 1], [100, 100], [-1, 2], [127, 127]]).reshape(4, 2, 1, 1)
    at = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "groups": 1, "zero_point": 0}
    result = run_mac(
        Node("conv", "n", ("x",), "y", at, {"weight": w}),
        OPS["conv"],
        [x],
        [tensor(x, 0, 100)],
        target([(None, 14, "saturate")]),
    )
    assert result.out.reshape(-1).tolist() == [200, 8191, 100, 8191]
    assert result.events.tolist() == [[0], [2], [0], [2]]


@given(st.data())
def test_convolution_of_three_axes_and_of_one(data):
    """`exact` and a register wide enough agree with the definition, whatever the rank."""
    rank = data.draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    x, w = rng.integers(-8, 8, (2, 4, *[4] * rank)), rng.integers(-8, 8, (4, 2, *[2] * rank))
    at = {"strides": [2] * rank, "dilations": [1] * rank, "pads": [1] * rank + [0] * rank, "groups": 2, "zero_point": 1}
    node = Node("conv", "n", ("x",), "y", at, {"weight": w, "bias": np.arange(4)})
    wanted = OPS["conv"].evaluate(node, x)
    for chosen in (target([(3, 20, "wrap"), (None, 32, "saturate")]), target([]), Target.load("exact")):
        np.testing.assert_array_equal(run_mac(node, OPS["conv"], [x], [tensor(x, -8, 7)], chosen).out, wanted)


@pytest.mark.parametrize("elements", [1, 20, 100, 1 << 20])
def test_pixels_share_multipliers_across_panels_and_images(elements, monkeypatch):
    """Rows 0 to 2 of the whole output, then 3 to 5: 7 x 5 positions an image, in panels of any length."""
    monkeypatch.setattr(conv, "PANEL_ELEMENTS", elements)
    rng = np.random.default_rng(0)
    x, w = rng.integers(-8, 8, (3, 4, 7, 5)), rng.integers(-8, 8, (4, 2, 1, 1))
    at = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "groups": 2, "zero_point": 0}
    node = Node("conv", "n", ("x",), "y", at, {"weight": w})
    packing = Packing((0,), (0, 9, 18), 30, "none")
    chosen = target([(2, 9, "wrap"), (None, 20, "wrap")], packing=([0], [0, 9, 18], 30, "none"))
    result = run_mac(node, OPS["conv"], [x], [tensor(x, -8, 7)], chosen)
    rows = np.moveaxis(x, 1, -1).reshape(-1, 4)
    for g in range(2):
        block = packed_matmul(rows[:, 2 * g : 2 * g + 2], w[2 * g : 2 * g + 2, :, 0, 0], chosen.stages, packing)
        np.testing.assert_array_equal(np.moveaxis(result.out, 1, -1).reshape(-1, 4)[:, 2 * g : 2 * g + 2], block.out)
        np.testing.assert_array_equal(result.events[2 * g : 2 * g + 2], block.events)
    assert result.events.any()


def test_matrices_of_a_batch_do_not_share_multipliers():
    """Three rows a matrix, two to a multiplier: the third one is alone, whatever the next matrix begins with."""
    x, w = np.full((2, 3, 1), -1), np.ones((2, 1, 1), np.int64)
    node = Node("matmul", "n", ("x",), "y", {"zero_point": 0}, {"weight": w})
    chosen = target([(1, 9, "wrap"), (None, 20, "wrap")], packing=([0], [0, 9], 18, "none"))
    result = run_mac(node, OPS["matmul"], [x], [tensor(x, -8, 7)], chosen)
    assert result.out.reshape(-1).tolist() == [-1, -2, -1] * 2
    assert result.events.tolist() == [[2, 0]]


def test_a_safe_channel_beside_its_unsafe_partner():
    """The lower field is proven, the one above it is not; both go through the multiplier, each in its place."""
    x, w = np.array([[3], [-3]]), np.array([[1, 1, -1, 0, 1]])
    node = Node("matmul", "n", ("x",), "y", {"zero_point": 0}, {"weight": w})
    chosen = target([(1, 9, "wrap"), (None, 20, "wrap")], packing=([0, 9], [0], 18, "none"))
    result = run_mac(node, OPS["matmul"], [x], [tensor(x, -8, 7)], chosen)
    assert result.out.tolist() == [[3, 3, -3, -1, 3], [-3, -4, 3, 0, -3]]
    assert result.events[:, 0].tolist() == [0, 1, 0, 1, 0]


def test_a_product_of_two_tensors_is_proven_by_its_corners():
    """0..15 by 0..1, four times: at most 60, never negative; by -15..15 it would need a bit more."""
    node = Node("matmul", "n", ("x", "w"), "y", {"zero_point": 0}, {})
    x, w = np.zeros((1, 4), np.int64), np.zeros((4, 1), np.int64)
    chosen = target([(None, 7, "saturate")])
    sums = plan(node, OPS["matmul"], [tensor(x, 0, 15), tensor(w, 0, 1, name="w")], chosen.registers).sums
    assert (sums.low[0][0], sums.high[0][0]) == (0, 60)
    assert sums.all_safe[0]
    sums = plan(node, OPS["matmul"], [tensor(x, 1, 15), tensor(w, -2, 1, name="w")], chosen.registers).sums
    assert (sums.low[0][0], sums.high[0][0]) == (-120, 60)


def test_a_compensation_beyond_64_bits():
    """The last addition into a 64-bit register whose true sum leaves int64 is an event, as every other."""
    near = np.array([[(1 << 63) - 1, 5]])
    for overflow, kept in (("saturate", (1 << 63) - 1), ("wrap", -(1 << 63) + 1)):
        out, past = add_to_register(near, np.array([[2, 2]]), [Stage(None, 64, overflow)])
        assert out.tolist() == [[kept, 7]]
        assert past.tolist() == [1, 0]
