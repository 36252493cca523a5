"""Hand-computed sums of every built-in target, and instructions rewritten from their manuals in Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate, accumulate_telemetry
from intsim.arithmetic.packing import accumulate_packed
from intsim.targets import Target
from tests.twins import wrap

TOP = 2**31 - 1
# target, products in order, value the last register starts at, result, events of each register
GOLDEN = [
    ("exact", [2**40, 2**40, -1], 5, 2**41 + 4, []),
    ("cpu-int32", [TOP, 1], 0, -(2**31), [1]),
    ("cpu-int32", [TOP, 1, -1], 0, TOP, [2]),  # past the end and back
    ("tflite-single", [TOP, 2], 0, -TOP, [1]),
    ("tosa", [TOP, TOP], 0, -2, [1]),
    ("tosa-double", [-(2**31), -1], 0, TOP, [1]),
    ("tosa-int16", [TOP, TOP], 0, 2 * TOP, [0]),
    ("tosa-int16", [2**46, 2**46], 0, -(2**47), [1]),
    ("finn-mvau", [TOP, 1], 0, -(2**31), [1]),
    ("rtl-shift", [3, 4], TOP - 6, -(2**31), [1]),
    ("dsp-40", [TOP] * 256, 0, TOP, [0, 1]),  # eight guard bits hold 256 products; the store saturates
    ("dsp-40", [2**38, 2**38], 0, -(2**31), [1, 1]),  # 2^39 wraps to -2^39
    ("dsp-40", [TOP, 5], -5, TOP, [0, 0]),  # a preloaded bias is inside the sum that is stored
    ("hifi-56", [TOP] * 300, 0, TOP, [0, 1]),
    ("hifi-56", [2**54, 2**54], 0, -(2**31), [1, 1]),
    ("hifi-56", [2**31, -1], 0, TOP, [0, 0]),
    ("dsp48e2", [2**46, 2**46], 0, -(2**47), [1]),
    ("x86-avx2", [255 * 127] * 2, 0, 32767, [1, 0, 0]),  # oneDNN's example: 64770 is lost
    ("x86-avx2", [255 * -128] * 4, 0, -65536, [2, 0, 0]),
    ("x86-avx2", [32385, 0, 32385, 0], 0, 64770, [0, 0, 0]),  # not neighbours: exact
    ("x86-avx512", [255 * 127] * 2, 0, 32767, [1, 0, 0]),
    ("x86-avx512", [32385, 382, -32640, -128], TOP, TOP - 1, [0, 0, 0]),
    ("x86-vnni", [255 * 127] * 2, 0, 64770, [0, 0]),
    ("x86-vnni", [100, 1, 0, 0], TOP - 100, -(2**31), [0, 1]),
    ("x86-vnni-saturating", [255 * 127] * 4, 0, 129540, [0, 0]),
    ("x86-vnni-saturating", [100, 1, 0, 0], TOP - 100, TOP, [0, 1]),
    ("x86-vnni-saturating", [100, 100, -60, -60], TOP - 100, TOP - 20, [0, 0]),  # four are added before they saturate
    ("x86-vnni-saturating", [100, 100, 0, 0, -60, -60], TOP - 100, TOP - 120, [0, 1]),
    ("fbgemm-acc16", [255 * 127] * 2, 0, 32767, [1, 0, 0]),
    ("fbgemm-acc16", [30000, 0, 30000, 0, -30000, 0], 0, 2767, [0, 1, 0]),  # the running sum clips at 32767
    ("fbgemm-acc16", [30000] + [0] * 255 + [30000], 0, 60000, [0, 0, 0]),  # spilled between them
    ("ruy-neon", [16384] + [0] * 7 + [16384] + [0] * 7, 0, -32768, [1, 0, 0, 0]),  # k and k + 8, both -128 x -128
    ("arm-neon-int8", [16384] + [0] * 7 + [16384] + [0] * 7, 0, -32768, [1, 0, 0, 0]),  # k and k + 8, both -128 x -128
    ("arm-neon-int8", [16384, 16384] + [0] * 14, 0, 32768, [0, 0, 0, 0]),  # neighbours have lanes of their own
    ("arm-neon-int8", [16384] + [0] * 7 + [16256] + [0] * 7, 0, 32640, [0, 0, 0, 0]),  # -128 x -127: fits
    ("arm-neon-int8", [0] * 15 + [16384, 16384], 0, 32768, [0, 0, 0, 0]),  # a new block, a new lane
    ("arm-sdot", [16384] * 4, 0, 65536, [0, 0]),
    ("arm-sdot", [16384] * 4, TOP - 65535, -(2**31), [0, 1]),
    ("arm-udot", [65025] * 4, 0, 260100, [0, 0]),
    ("arm-udot", [65025] * 4, -260101, -1, [0, 0]),
    ("arm-usdot", [-32640] * 4, -(2**31), TOP - 130559, [0, 1]),
    ("hexagon-hvx", [-32640] * 4, 0, -130560, [0, 0]),
    ("hexagon-hvx", [1, 0, 0, 0, 1], TOP, -TOP, [0, 1]),  # wraps once, and stays there
    ("cortex-m-smlad", [2**30, 2**30], -1, TOP, [0, 0]),  # the pair alone needs 33 bits; Q stays 0
    ("cortex-m-smlad", [2**30, 2**30], 0, -(2**31), [0, 1]),  # Q
    ("cortex-m-smlad-single", [-(2**30), -(2**30) + 1, -1], 0, -(2**31), [0, 0]),
    ("cortex-m-smlad-single", [-(2**30), -(2**30) + 1, -2], 0, TOP, [0, 1]),
    ("a2q-16", [127] * 258, 0, 32766, [0, 0]),
    ("a2q-16", [128] * 256, 5, -32763, [1, 0]),  # 2^15 wraps, the bias is added behind it
    ("axe-16", [255] * 128, 0, 32640, [0, 0]),
    ("axe-16", [256] * 128, 0, -32768, [1, 0]),  # 2^15
    ("axe-16", [255] * 256, 0, 65280, [0, 0]),  # two tiles, added outside
    ("axe-8", [1] * 128, 0, -128, [1, 0]),
    ("wrap-8", [100, 100], 0, -56, [1]),
    ("wrap-8", [100, 100, -100], 0, 100, [2]),
    ("wrap-64", [2**62, 2**62], 0, -(2**63), [1]),
    ("saturate-8", [100, 100, -100], 0, 27, [1]),
    ("saturate-8", [100, -100, 100], 0, 100, [0]),
    ("saturate-64", [2**62, 2**62], 0, 2**63 - 1, [1]),
    ("wrapnet-8", [127, 1], 0, -128, [1]),
    ("fixed-point-8", [TOP, 1], 0, -(2**31), [1]),
]


@pytest.mark.parametrize(("name", "products", "start", "result", "events"), GOLDEN)
def test_golden_sums(name, products, start, result, events):
    found = accumulate(np.array(products), Target.load(name).stages, start)
    assert found[0].item() == result
    assert found[1].tolist() == events


def test_every_target_has_a_golden_sum():
    covered = {name for name, *_ in GOLDEN}
    loaded = {n: Target.load(n) for n in Target.names()}
    packed = {n for n, t in loaded.items() if t.registers.packing is not None or t.when}
    assert covered >= set(Target.names()) - packed
    rounded = {"hls4ml", "hls4ml-saturate"}  # their LSB needs scales; tests/runtimes has hls4ml's own sums
    assert {c.rsplit("-", 1)[0] for c in covered} >= {f.name[:-2] for f in Target.families()} - rounded


# --- FBGEMM: src/RefImplementations.cc, matmul_u8i8acc16_ref, from its published semantics ---


def clip16(x):
    return max(-32768, min(32767, x))


def fbgemm_acc16(a, b, block=256):
    """One output: pairs clipped to 16 bits, their running sum clipped, added to 32 bits at the end of each block."""
    total, running = 0, 0
    for k in range(0, len(a), 2):
        pair = a[k] * b[k]
        if k + 1 < len(a):
            pair += a[k + 1] * b[k + 1]
        running = clip16(running + clip16(pair))
        if k % block == block - 2:
            total, running = total + running, 0
    return total + running


BYTES = st.sampled_from([0, 1, 127, 128, 254, 255])
SIGNED = st.sampled_from([-128, -127, -1, 0, 1, 126, 127])


@given(st.integers(0, 600), st.integers(0, 2**32), st.sampled_from(["loud", "any", "small"]))
def test_fbgemm_acc16_is_its_reference(depth, seed, kind):
    rng = np.random.default_rng(seed)
    reach = {"loud": (200, 100), "any": (0, -128), "small": (0, -3)}[kind]
    a = rng.integers(reach[0], 256 if kind != "small" else 4, depth)
    b = rng.integers(reach[1], 128 if kind != "small" else 4, depth)
    b = np.where(rng.integers(0, 9, depth) == 0, -b, b).clip(-128, 127)
    found = accumulate(a * b, Target.load("fbgemm-acc16").stages)[0].item()
    assert found == fbgemm_acc16(a.tolist(), b.tolist())


@given(st.lists(st.tuples(BYTES, SIGNED), max_size=20))
def test_fbgemm_acc16_at_the_ends(pairs):
    a, b = [x for x, _ in pairs], [w for _, w in pairs]
    products = np.array([x * w for x, w in pairs], np.int64)
    assert accumulate(products, Target.load("fbgemm-acc16").stages)[0].item() == fbgemm_acc16(a, b)


# --- gemmlowp and ruy: smull, smlal2, sadalp, addp ---


def neon(a, b):
    """One output, instruction by instruction; the depth is padded with zeros to blocks of 16 as the kernels pack it."""
    lanes = [0, 0, 0, 0]
    a, b = (v + [0] * (-len(v) % 16) for v in (a, b))
    for k in range(0, len(a), 16):
        halves = [wrap(a[k + j] * b[k + j], 16) for j in range(8)]  # smull
        halves = [wrap(h + a[k + 8 + j] * b[k + 8 + j], 16) for j, h in enumerate(halves)]  # smlal2
        lanes = [wrap(v + halves[2 * j] + halves[2 * j + 1], 32) for j, v in enumerate(lanes)]  # sadalp
    first = [wrap(lanes[0] + lanes[1], 32), wrap(lanes[2] + lanes[3], 32)]  # addp
    return wrap(first[0] + first[1], 32)  # addp


@given(st.integers(0, 80) | st.just(64), st.integers(0, 2**32), st.sampled_from([90, 60, 30, 0]))
def test_neon_kernel(depth, seed, loud):
    """Up to 80 products, of which `loud` percent of the operands are -128."""
    rng = np.random.default_rng(seed)
    a, b = (np.where(rng.integers(0, 100, depth) < loud, -128, rng.integers(-128, 128, depth)) for _ in range(2))
    found = accumulate_telemetry(a * b, Target.load("arm-neon-int8").stages)
    assert found.result.item() == neon(a.tolist(), b.tolist())
    twice = [k for k in range(depth - 8) if k % 16 < 8 and a[k] * b[k] == a[k + 8] * b[k + 8] == 16384]
    assert found.events.tolist() == [len(twice), 0, 0, 0]


# --- AMD DSP48E2: one multiplication, one register, fields read off it ---


def dsp48e2(acts, weights, channels, pixels, group, bits, corrected):
    """(channels, pixels) sums: packed operands are multiplied and added up, fields are cut out of the P register."""
    sums = [[0] * len(pixels) for _ in channels]
    for begin in range(0, len(weights[0]), group):
        p = 0
        for k in range(begin, min(begin + group, len(weights[0]))):
            a = sum(w[k] << c for w, c in zip(weights, channels, strict=True))
            b = sum(x[k] << o for x, o in zip(acts, pixels, strict=True))
            p = wrap(p + a * b, 48)
        for i, c in enumerate(channels):
            for j, o in enumerate(pixels):
                field = wrap(p >> (c + o), bits)
                if corrected and c + o > 0:
                    field += (p >> (c + o - 1)) & 1
                sums[i][j] = wrap(sums[i][j] + field, 32)
    return sums


@pytest.mark.parametrize("name", ["dsp48e2-int8", "dsp48e2-int8-raw", "dsp48e2-int4", "dsp48e2-int4-raw"])
@given(depth=st.integers(1, 40), seed=st.integers(0, 2**32), extreme=st.booleans())
def test_packed_multipliers(name, depth, seed, extreme):
    path = Target.load(name).registers
    rng = np.random.default_rng(seed)
    sides = []
    for kind, count in ((path.activation, len(path.packing.pixels)), (path.weight, len(path.packing.channels))):
        drawn = rng.integers(kind.min, kind.max + 1, (count, depth))
        if extreme:
            drawn = np.where(rng.integers(0, 2, drawn.shape) > 0, kind.min, kind.max)
        sides.append(drawn)
    acts, weights = sides
    found = accumulate_packed(weights[:, None, :] * acts[None], path.stages, path.packing)
    corrected = not name.endswith("raw")
    int4 = "int4" in name
    channels, pixels, group, bits = ((0, 11), (0, 22), 8, 11) if int4 else ((0, 18), (0,), 7, 18)
    expected = dsp48e2(acts.tolist(), weights.tolist(), channels, pixels, group, bits, corrected)
    assert found.result.tolist() == expected
    if corrected:  # groups of 7 and of 8 are what the fields hold
        np.testing.assert_array_equal(found.result, weights @ acts.T)
        assert not found.events.any()


def test_borrow_by_hand():
    """-1 below 5: the packed product is 5 * 2^18 - 1, whose upper field reads 4."""
    for name, upper in (("dsp48e2-int8", 5), ("dsp48e2-int8-raw", 4)):
        path = Target.load(name).registers
        found = accumulate_packed([[[-1]], [[5]]], path.stages, path.packing)
        assert found.result.tolist() == [[-1], [upper]]
        assert found.events[..., 0].tolist() == [[0], [int(upper == 4)]]
        sevens = accumulate_packed([[[-1] * 7], [[5] * 7]], path.stages, path.packing)
        assert sevens.result.tolist() == [[-7], [30 + upper]]  # once a group, not once a product


@pytest.mark.parametrize(("name", "product", "most"), [("dsp48e2-int8", 128 * 128, 7), ("dsp48e2-int4", 15 * -8, 8)])
def test_groups_are_as_large_as_the_fields_allow(name, product, most):
    """The largest products in every field: groups of seven and eight are exact, one more product would not be."""
    path = Target.load(name).registers
    shape = (len(path.packing.channels), len(path.packing.pixels), 5 * most + 3)
    found = accumulate_packed(np.full(shape, product), path.stages, path.packing)
    assert (found.result == product * shape[2]).all()
    assert not found.events.any()
    larger = (Stage(most + 1, path.stages[0].bits, "wrap"), *path.stages[1:])
    assert accumulate_packed(np.full(shape, product), larger, path.packing).events.any()


@pytest.mark.parametrize(("name", "error"), [("dsp48e2-int4-raw", 0.37354), ("dsp48e2-int4", 0)])
def test_all_int4_products(name, error):
    """DSP-Packing (arXiv 2203.11028) gives a mean error of 0.37 for the uncorrected scheme, always downward."""
    path = Target.load(name).registers
    a0, a1, w0, w1 = (v.ravel() for v in np.meshgrid(*[np.arange(16)] * 2, *[np.arange(-8, 8)] * 2, indexing="ij"))
    products = np.stack([np.stack([w * a for a in (a0, a1)], -1) for w in (w0, w1)], -2)[..., None]
    found = accumulate_packed(products, path.stages, path.packing)
    wrong = products[..., 0] - found.result
    assert found.result.shape == (65536, 2, 2)
    assert round(float(wrong.mean()), 5) == error
    assert set(np.unique(wrong)) <= {0, 1}
    np.testing.assert_array_equal(found.events[..., 0], wrong)
