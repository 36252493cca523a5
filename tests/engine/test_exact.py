"""Convolutions and products of words against the definitions, with every instruction that this processor has."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.engine.exact import isa, selftest
from intsim.engine.exact.conv import NO_CODES, NO_SUMS, NO_WORDS, Bound, WordConv, fits, spread_codes, window
from intsim.engine.exact.layout import Layout, TensorView, fill_border, pack, unpack
from intsim.engine.exact.matmul import WordMatmul, column_codes
from intsim.engine.exact.tiles import tile_blocks
from intsim.engine.registers.overflow_check import ConvCheck, MatmulCheck, limits
from intsim.engine.requantize.affine import CEIL, FLOOR, RINT, AffineRequantizer
from intsim.errors import IntsimError
from intsim.graph import Node
from intsim.ops import OPS

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

AVAILABLE = isa.available()
EVERYDAY = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in (AVAILABLE[0], AVAILABLE[-1]))) for name in AVAILABLE
]
"""The quickest and the one that is everywhere every day, those between in the long suite."""


@st.composite
def convolutions(draw, wide=True):
    """A node, an input, and a border for that which is larger than it needs, or smaller."""
    transposed, rank = draw(st.booleans()), draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inside = draw(st.integers(1, 9))
    if draw(st.integers(0, 4)) == 0:
        groups, inside = inside, 1
    channels = groups * draw(st.integers(1, 5))
    many = lambda low, high: [draw(st.integers(low, high)) for _ in range(rank)]  # noqa: E731
    at = {
        "strides": [1] * rank if transposed else many(1, 3),
        "dilations": many(1, 2),
        "pads": [draw(st.integers(-1, 3)) for _ in range(2 * rank)],
        "groups": groups,
        "zero_point": draw(st.integers(-3, 5)),
    }
    if transposed:
        at["insert"] = many(1, 3)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    kernel, size = many(1, 4), many(3, 14)
    edges = draw(st.booleans())
    least, most = draw(st.sampled_from([(-128, 127), (-255, 255)] if wide else [(-128, 127)]))
    weight = (
        rng.choice([least, most, 0], (channels, inside, *kernel))
        if edges
        else rng.integers(least, most + 1, (channels, inside, *kernel))
    )
    if draw(st.booleans()):  # few of them beyond int8, as where a zero point was taken off unsigned weights
        weight = np.where(rng.random(weight.shape) < 0.05, weight, np.clip(weight, -128, 127))
    bias = rng.integers(-(10**6), 10**6, channels)
    shift = draw(st.sampled_from([0, 128]))
    x = rng.integers(-shift, 256 - shift, (draw(st.integers(1, 2)), groups * inside, *size))
    if edges:
        x = np.where(x > 60, 255 - shift, -shift)
    node = Node("conv_transpose" if transposed else "conv", "n", ("x",), "y", at, {"weight": weight, "bias": bias})
    assume(not (at["zero_point"] + shift < 0))  # padding is a byte
    try:
        expected = OPS[node.op].evaluate(node, x)
    except (IntsimError, ValueError):  # the kernel is larger than the padded input
        assume(False)
    border = [draw(st.integers(0, 3)) for _ in range(4)] if draw(st.booleans()) else None
    return node, x, expected, shift, border, draw(st.integers(0, 2))


def as_maps(array):
    """(images, channels, height, width) of a rank of 3 or 4."""
    return array.reshape(*array.shape[:2], *(1, *array.shape[2:])[-2:])


def run(conv, x, shift, zero, border, before, to, rule, out, sums):
    images, channels, height, width = as_maps(x).shape
    room = conv.border if border is None else border
    layout = Layout(images, 4 * before + channels, height, width, shift, *(max(b, 0) for b in room), zero)
    view = TensorView(0, layout, before, channels)
    buffer = np.random.default_rng(0).integers(0, 1 << 32, layout.size, dtype=np.uint32)
    fill_border(buffer, layout).run()
    pack(as_maps(x), buffer, view)
    scratch = None if conv.direct(view) else conv.scratch(view)
    source = buffer
    if scratch is not None:
        source = np.random.default_rng(1).integers(0, 1 << 32, scratch.size, dtype=np.uint32)
        conv.split(buffer, view, source, scratch).run()
    for bound in conv.bind(view, scratch, to, rule):
        bound.run(source, out, sums)


def word_conv(node, x, expected, shift, dot):
    spatial, zero = window(node, x.shape, expected.shape), node.attributes["zero_point"] + shift
    weight = node.arrays["weight"]
    weight = weight.reshape(*weight.shape[:2], *spatial.kernel)
    return WordConv(weight, node.arrays["bias"], spatial, zero, zero, dot), zero


@pytest.mark.parametrize("name", EVERYDAY)
@given(convolutions())
def test_sums(name, case):
    node, x, expected, shift, border, before = case
    conv, zero = word_conv(node, x, expected, shift, isa.DOTS[name])
    out = np.full(as_maps(expected).shape, 7, np.int32)
    run(conv, x, shift, zero, border, before, out.shape, NO_CODES, NO_WORDS, out.reshape(-1))
    np.testing.assert_array_equal(out.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", EVERYDAY)
@given(convolutions(), st.sampled_from([RINT, FLOOR, CEIL]), st.integers(0, 1 << 20))
def test_codes(name, case, kind, seed):
    """Rounded as `affine.py` says, into the middle of another buffer whose other channels and border stay."""
    node, x, expected, shift, border, before = case
    conv, zero = word_conv(node, x, expected, shift, isa.DOTS[name])
    channels = conv.channels
    rng = np.random.default_rng(seed)
    scale, offset = rng.uniform(-1e-3, 1e-3, channels), rng.uniform(-50, 50, channels)
    if seed % 3 == 0:  # ties
        scale, offset = np.exp2(rng.integers(-8, -1, channels).astype(float)), rng.integers(-4, 4, channels) / 2
    reach = (-(1 << 24), 1 << 24)
    rounder = AffineRequantizer(scale, offset, kind, -100, 101, np.zeros((channels, 0), np.int64), reach)
    assert fits(rounder)
    images, _, height, width = as_maps(expected).shape
    layout = Layout(images, 4 + channels, height, width, 128, 1, 2, 0, 1, 5)
    view = TensorView(0, layout, 1, channels)
    buffer = np.zeros(layout.size, np.uint32)
    fill_border(buffer, layout).run()
    run(conv, x, shift, zero, border, before, view, spread_codes(rounder, channels, 128), buffer, NO_SUMS)
    value = scale[:, None, None] * as_maps(expected) + offset[:, None, None]
    rounded = [np.rint, np.floor, np.ceil][kind](value)
    codes = np.empty((images, channels, height, width), np.int64)
    unpack(buffer, view, codes)
    np.testing.assert_array_equal(codes, np.clip(rounded, -100, 101))
    cube = buffer[: images * layout.stride].reshape(images, layout.groups, -1, layout.pitch).copy()
    assert not cube[:, 0, layout.top :, layout.left : layout.left + width].any()
    cube[:, :, layout.top : layout.top + height, layout.left : layout.left + width] = 0x05050505
    assert (cube == 0x05050505).all()


def test_a_table_corrects_the_formula():
    """Where a formula is off by one, the steps decide, on rising and on falling staircases."""
    weight = np.array([1, -1, 1, -1, 1]).reshape(5, 1, 1, 1)
    node = Node("conv", "n", ("x",), "y", {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "groups": 1,
                "zero_point": 0}, {"weight": weight, "bias": np.array([0, 0, 7, 9, -3])})  # fmt: skip
    x = np.arange(256).reshape(1, 1, 1, 256)
    expected = OPS["conv"].evaluate(node, x)
    steps = np.sort(np.random.default_rng(3).integers(-200, 240, (5, 20)), axis=1)
    scale = np.array([0.05, -0.05, 0.04, -0.06, 0.05])
    # of the true staircases, formulas that are off by at most one: their own codes, moved by one or not
    line = np.clip(np.rint(scale[:, None] * np.arange(-300, 301) + 2), 0, 20)
    for c in range(5):
        u = np.arange(-300, 301) * np.sign(scale[c])
        reached = [u[line[c] >= k + 1].min() if (line[c] >= k + 1).any() else 10**6 for k in range(20)]
        steps[c] = np.maximum.accumulate(np.array(reached) + np.random.default_rng(c).integers(-9, 10, 20))
    rounder = AffineRequantizer(scale, np.full(5, 2.0), RINT, 0, 20, steps.astype(np.int64), (-300, 300))
    for name in AVAILABLE:
        conv, zero = word_conv(node, x, expected, 0, isa.DOTS[name])
        layout = Layout(1, 5, 1, 256)
        view, buffer = TensorView(0, layout, 0, 5), np.zeros(layout.size, np.uint32)
        run(conv, x, 0, zero, None, 0, view, spread_codes(rounder, 5, 0), buffer, NO_SUMS)
        codes = np.empty((1, 5, 1, 256), np.int64)
        unpack(buffer, view, codes)
        for c in range(5):
            for p in range(256):
                acc = int(expected[0, c, 0, p])
                guess = min(max(round(scale[c] * acc + 2), 0), 20)
                u = acc if scale[c] > 0 else -acc
                if guess > 0 and u < steps[c, guess - 1]:
                    guess -= 1
                elif guess < 20 and u >= steps[c, guess]:
                    guess += 1
                assert codes[0, c, 0, p] == guess, (name, c, p)


@pytest.mark.parametrize("name", EVERYDAY)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 90), st.integers(0, 1 << 20))
def test_products(name, rows, depth, columns, seed):
    rng = np.random.default_rng(seed)
    weight, x = rng.integers(-255, 256, (depth, columns)), rng.integers(-128, 128, (rows, depth))
    weight = np.where(rng.random(weight.shape) < [0, 0.02, 1][seed % 3], weight, np.clip(weight, -128, 127))
    bias = rng.integers(-(1 << 31), 1 << 31, columns)
    product = WordMatmul(weight, bias - 128 * weight.sum(axis=0), isa.DOTS[name])
    wrapped = (x @ weight + bias + (1 << 31)) % (1 << 32) - (1 << 31)
    np.testing.assert_array_equal(product.run(x.astype(np.int8), 128), wrapped)


@pytest.mark.parametrize("name", EVERYDAY)
@given(convolutions(wide=False), st.integers(8, 24), st.booleans(), st.integers(0, 1 << 20))
def test_the_overflow_check(name, case, bits, several, seed):
    """Channels that pass have their exact sum, and no order of products leaves the registers."""
    node, x, expected, shift, *_ = case
    assume(node.op == "conv" and shift == 0)
    rng = np.random.default_rng(seed)
    dot, weight, spatial = isa.DOTS[name], node.arrays["weight"], window(node, x.shape, expected.shape)
    stages = [Stage(2, bits + 2, "wrap"), Stage(None, bits, "saturate")] if several else [Stage(None, bits, "wrap")]
    start, late = rng.integers(-300, 300, (2, len(weight)))
    plain = Node("conv", "n", ("x",), "y", {**node.attributes, "zero_point": 0}, {"weight": weight})
    sums = OPS["conv"].evaluate(plain, x)
    parts = [OPS["conv"].evaluate(Node("conv", "n", ("x",), "y", plain.attributes, {"weight": w}), x)
             for w in (np.maximum(weight, 0), np.minimum(weight, 0))]  # fmt: skip
    proven = rng.random(len(weight)) < 0.2
    kernel = weight.reshape(*weight.shape[:2], *spatial.kernel)
    check = ConvCheck(kernel, limits(stages, start, late, proven), spatial, 0, dot)
    images, channels, height, width = as_maps(x).shape
    layout = Layout(images, channels, height, width, 0, *(max(b, 0) for b in check.conv.border))
    view, buffer = TensorView(0, layout, 0, channels), np.zeros(layout.size, np.uint32)
    pack(as_maps(x), buffer, view)
    scratch = None if check.conv.direct(view) else check.conv.scratch(view)
    if scratch is not None:
        aside = np.zeros(scratch.size, np.uint32)
        check.conv.split(buffer, view, aside, scratch).run()
        buffer = aside
    raw = np.zeros(as_maps(expected).shape, np.int32)
    blocks = -(-len(weight) // check.pairs)
    failed = np.zeros(blocks, bool)
    bound = check.conv.bind(view, scratch, raw.shape)
    for probing in (True, False):
        check.run(bound, buffer, failed, raw.reshape(-1), probing)
    least, most = max(s.min for s in stages), min(s.max for s in stages)
    for c in range(len(weight)):
        high, low = int(parts[0][:, c].max()), int(parts[1][:, c].min())
        if not failed[c // check.pairs]:
            np.testing.assert_array_equal(raw[:, c].reshape(sums[:, c].shape), sums[:, c] + start[c] + late[c])
            if not proven[c]:
                assert low >= least
                assert high <= most
                assert start[c] + low + min(late[c], 0) >= stages[-1].min
                assert start[c] + high + max(late[c], 0) <= stages[-1].max


def test_a_product_that_fits_passes_the_check():
    rng = np.random.default_rng(4)
    weight, x = rng.integers(-128, 128, (30, 9)), rng.integers(0, 256, (7, 30)).astype(np.uint8)
    high = np.maximum(weight, 0)
    peak = (x.astype(int) @ high).max(axis=0)
    stages, zeros = [Stage(None, 20, "saturate")], np.zeros(9, np.int64)
    for name in AVAILABLE:
        check = MatmulCheck(weight, limits(stages, None, zeros + 5, np.zeros(9, bool)), isa.DOTS[name])
        out, failed = check.run(x)
        assert not failed.any()
        np.testing.assert_array_equal(out, x.astype(int) @ weight + 5)
        check.limits[1] = peak - np.arange(9) % 2
        np.testing.assert_array_equal(check.run(x)[1], np.arange(9) % 2 == 1)


def test_every_instruction_knows_the_answer():
    assert {name: selftest.adds_exactly(isa.DOTS[name]) for name in AVAILABLE} == dict.fromkeys(AVAILABLE, True)


def test_an_instruction_that_saturates_is_not_used(monkeypatch):
    """What pairs in 16 bits would give is noticed, and the next way is taken."""
    first = isa.candidates()[0]
    real = WordMatmul.run

    def saturating(self, x, shift):
        if self.one.lanes != isa.DOTS[first].lanes or self.one.parts != isa.DOTS[first].parts:
            return real(self, x, shift)
        exact = real(self, x, shift)
        return np.clip(exact, -32768, 32767).astype(np.int32)

    monkeypatch.setattr(WordMatmul, "run", saturating)
    selftest.dot.cache_clear()
    try:
        ways = [isa.DOTS[name] for name in AVAILABLE]
        other = next(w for w in ways if (w.lanes, w.parts) != (ways[0].lanes, ways[0].parts))
        assert selftest.dot().name == other.name
        monkeypatch.setattr(WordMatmul, "run", lambda self, x, shift: np.zeros((3, 1), np.int32))
        selftest.dot.cache_clear()
        with pytest.raises(IntsimError, match="no way of adding four products"):
            selftest.dot()
    finally:
        monkeypatch.undo()
        selftest.dot.cache_clear()


def test_an_instruction_by_name(monkeypatch):
    monkeypatch.setenv(isa.VARIABLE, "generic")
    assert isa.candidates() == ["generic"]
    monkeypatch.setenv(isa.VARIABLE, "vpmaddubsw")
    with pytest.raises(IntsimError, match="INTSIM_ISA is 'vpmaddubsw'; this processor has"):
        isa.candidates()


def test_a_named_processor_has_only_what_is_known_of_it(monkeypatch):
    from numba.core import config

    monkeypatch.setattr(config, "CPU_NAME", "haswell")
    monkeypatch.setattr(config, "CPU_FEATURES", "")
    assert not {"vnni512", "vnni256", "avx512"} & set(isa.available())
    monkeypatch.setattr(config, "CPU_NAME", "x86-64")
    assert set(isa.available()) <= {"sse2", "generic"}


@st.composite
def dense_convolutions(draw):
    """Of enough channels for tile registers, with and without strides, dilations and a border of another width."""
    inside, channels = draw(st.integers(12, 150)), draw(st.integers(1, 140))
    many = lambda low, high: [draw(st.integers(low, high)) for _ in range(2)]  # noqa: E731
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    kernel, size = many(1, 3), many(1, 19)
    at = {"strides": many(1, 2), "dilations": many(1, 2), "pads": many(0, 2) + many(0, 2), "groups": 1}
    at["zero_point"] = draw(st.integers(0, 5))
    weight = rng.integers(-128, 128, (channels, inside, *kernel))
    if draw(st.booleans()):  # some words of all channels are zeros
        weight[:, : draw(st.integers(0, inside))] = 0
    bias = rng.integers(-(10**6), 10**6, channels)
    x = rng.integers(0, 256, (draw(st.integers(1, 2)), inside, *size))
    node = Node("conv", "n", ("x",), "y", at, {"weight": weight, "bias": bias})
    assume(all(s + a + b > d * (k - 1) for s, a, b, d, k in
               zip(size, at["pads"][:2], at["pads"][2:], at["dilations"], kernel, strict=True)))  # fmt: skip
    border = [draw(st.integers(0, 3)) for _ in range(4)]
    return node, x, OPS["conv"].evaluate(node, x), 0, border, draw(st.integers(0, 2))


@pytest.mark.parametrize("name", EVERYDAY)
@given(dense_convolutions(), st.integers(0, 1 << 20))
def test_dense_convolutions(name, case, seed):
    """Sums, and codes in the middle of another buffer, whose other channels and border stay."""
    node, x, expected, shift, border, before = case
    conv, zero = word_conv(node, x, expected, shift, isa.DOTS[name])
    out = np.full(expected.shape, 7, np.int32)
    run(conv, x, shift, zero, border, before, out.shape, NO_CODES, NO_WORDS, out.reshape(-1))
    np.testing.assert_array_equal(out, expected)
    channels, rng = conv.channels, np.random.default_rng(seed)
    scale, offset = rng.uniform(-1e-3, 1e-3, channels), rng.uniform(100, 150, channels)
    reach = int(expected.min()), int(expected.max())
    rounder = AffineRequantizer(scale, offset, RINT, 3, 250, np.zeros((channels, 0), np.int64), reach)
    images, _, height, width = expected.shape
    layout = Layout(images, 4 + channels, height, width, 0, *rng.integers(0, 3, 4).tolist(), 5)
    view, buffer = TensorView(0, layout, 1, channels), np.zeros(layout.size, np.uint32)
    fill_border(buffer, layout).run()
    run(conv, x, shift, zero, border, before, view, spread_codes(rounder, channels, 0), buffer, NO_SUMS)
    codes = np.empty(expected.shape, np.int64)
    unpack(buffer, view, codes)
    value = scale[:, None, None] * expected + offset[:, None, None]
    np.testing.assert_array_equal(codes, np.clip(np.rint(value), 3, 250))
    cube = buffer[: images * layout.stride].reshape(images, layout.groups, -1, layout.pitch).copy()
    assert not cube[:, 0, layout.top : layout.top + height, layout.left : layout.left + width].any()
    cube[:, :, layout.top : layout.top + height, layout.left : layout.left + width] = 0x05050505
    assert (cube == 0x05050505).all()


@given(st.integers(1, 200), st.integers(1, 4), st.integers(1, 90), st.sampled_from([32, 64]), st.integers(0, 1 << 20))
def test_weights_in_tiles(inside, taps, channels, high, seed):
    """Laid out for tile registers, each weight meets the channel that it is of, once."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-128, 128, (channels, taps, inside)).astype(np.int8)
    values[:, rng.random((taps, inside)) < 0.3] = 0
    made = tile_blocks(values, high)
    assert made.weights.size == 0 or made.weights.ctypes.data % 64 == 0
    entries = made.weights.view(np.int8).reshape(-1, high, 16, 4)
    assert made.depth <= 16
    assert not entries[:, :, made.depth :].any()
    seen = np.zeros((len(made.firsts) - 1, high, taps, 4 * (-(-inside // 4))), np.int64)
    for block in range(len(seen)):
        for e in range(made.firsts[block], made.firsts[block + 1]):
            first = 4 * made.planes[e]
            part = entries[e, :, : made.depth].reshape(high, -1)
            seen[block, :, made.taps[e], first : first + 4 * made.depth] += part
    seen = seen.reshape(-1, taps, seen.shape[-1])
    np.testing.assert_array_equal(seen[:channels, :, :inside], values)
    assert not seen[channels:].any()
    assert not seen[:, :, inside:].any()


@pytest.mark.parametrize("name", EVERYDAY)
@given(st.integers(1, 70), st.integers(1, 150), st.integers(1, 150), st.booleans(), st.integers(0, 1 << 20))
def test_products_requantized(name, rows, depth, columns, signed, seed):
    """In one pass; each column has a formula of its own."""
    rng = np.random.default_rng(seed)
    weight, x = rng.integers(-128, 128, (depth, columns)), rng.integers(0, 256, (rows, depth))
    low, high = (-128, 120) if signed else (2, 255)
    scale, offset = rng.uniform(-1e-3, 1e-3, columns), rng.uniform(-99, 99, columns)
    if seed % 3 == 0:  # ties
        scale, offset = np.exp2(rng.integers(-9, -5, columns).astype(float)), rng.integers(-4, 4, columns) / 2
    reach = (-(1 << 24), 1 << 24)
    rule = AffineRequantizer(scale, offset, RINT, low, high, np.zeros((columns, 0), np.int64), reach)
    rounding = column_codes(rule, columns)
    assert rounding is not None
    product = WordMatmul(weight, np.zeros(columns, np.int64), isa.DOTS[name])
    made = product.run(x.astype(np.uint8), 0, rounding).view(np.int8 if signed else np.uint8)
    np.testing.assert_array_equal(made, np.clip(np.rint(scale * (x @ weight) + offset), low, high))


def test_codes_that_no_byte_holds_are_not_requantized_in_one_pass():
    rule = AffineRequantizer(np.ones(1), np.zeros(1), RINT, -1, 128, np.zeros((1, 0), np.int64), (-300, 300))
    assert column_codes(rule, 3) is None
    far = AffineRequantizer(np.ones(1), np.zeros(1), RINT, 0, 128, rule.table, (-(1 << 31), 300))
    assert column_codes(far, 3) is None


def test_tile_registers_that_the_system_keeps_are_not_used(monkeypatch):
    monkeypatch.setattr(isa, "_may_use_tiles", lambda: False)
    assert "amx" not in isa.available()
    monkeypatch.setenv(isa.VARIABLE, "amx")
    with pytest.raises(IntsimError, match="INTSIM_ISA is 'amx'; this processor has"):
        isa.candidates()


@pytest.mark.skipif("amx" not in AVAILABLE, reason="no tile registers here")
def test_tile_registers_that_add_wrongly_are_not_used(monkeypatch):
    """A known answer is asked of them too, not of vectors alone."""
    real = Bound.run

    def wrong(self, source, words, raw):
        real(self, source, words, raw)
        raw[-1] += self.tile.tiled

    monkeypatch.setattr(Bound, "run", wrong)
    assert not selftest.adds_exactly(isa.DOTS["amx"])
    assert selftest.adds_exactly(isa.DOTS["vnni512"])
