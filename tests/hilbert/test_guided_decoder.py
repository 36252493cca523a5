from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.hilbert import Decoder, decode_points
from intsim.hilbert.near_items import near_items

from .points import aligned, first_line
from .twins import PointScan, Scan, half_up, polygon, repeatable

# order, dimensions, spacing, bits
PLANE = [(1, 2, 224, 8), (1, 2, 128, 8), (2, 2, 64, 8), (2, 2, 74, 8), (3, 2, 32, 8), (3, 2, 36, 8), (4, 2, 16, 8)]
SPACE = [(1, 3, 224, 8), (1, 3, 100, 8), (2, 3, 64, 8), (2, 3, 84, 8), (3, 3, 32, 8), (4, 3, 16, 8)]
SHORT = [(1, 3, 32, 6), (1, 3, 58, 6), (2, 3, 16, 6), (2, 3, 14, 6), (1, 3, 14, 5), (2, 3, 10, 5), (2, 3, 2, 5)]


@cache
def decoder_and_twin(order, dimensions, spacing, bits, signed=True):
    arguments = (order, dimensions, spacing, bits, signed)
    return aligned(*arguments), PointScan(*arguments)


def grid(decoder):
    """Every point there is: int64 (codes,) * d + (d,)."""
    codes = np.arange(decoder.lowest_code, decoder.highest_code + 1)
    return np.stack(np.meshgrid(*[codes] * decoder.curve.dimensions, indexing="ij"), axis=-1)


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype == np.int64
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("arguments", PLANE)
def test_all_pairs_of_8_bit_codes_equal_the_full_scan(arguments):
    decoder, twin = decoder_and_twin(*arguments)
    decoded = decoder.nearest(grid(decoder))
    assert_same(decoded, decoder.scanned(grid(decoder)))
    first = twin.vertices[0][0] - decoder.lowest_code
    position, _, squared = Scan(decoder.curve.order, 1, first, decoder.spacing).grid(np.arange(256))
    assert_same(decoded, (position, squared))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", PLANE)
def test_all_pairs_of_8_bit_codes_equal_the_twin(arguments):
    decoder, twin = decoder_and_twin(*arguments)
    points = grid(decoder).reshape(-1, 2)[:: 1 if decoder.curve.order < 4 else 3]
    decoded = np.stack(decoder.nearest(points), axis=1)
    np.testing.assert_array_equal(decoded, np.array([twin.one(point) for point in points.tolist()]))


@pytest.mark.parametrize("order", range(1, 7))
def test_outputs_of_n_plus_p_bits_are_positions(order):
    for signed in (True, False):
        decoder = aligned(order, 2, 2 ** (8 - order), 8, signed)
        rounded = Decoder.lattice_aligned(order, None, 8, 8 + order, signed)
        codes = grid(decoder)
        np.testing.assert_array_equal(decoder(codes), rounded(codes))
        assert decoder.output_max == rounded.output_max
        assert decoder.output_scale == rounded.output_scale
        assert decoder.curve == rounded.curve


@pytest.mark.parametrize("dimensions", [2, 3])
def test_any_spacing_may_have_outputs_of_few_bits(dimensions):
    exact = aligned(2, dimensions, 74)
    for bits in range(2 * dimensions, 14):
        if bits < 4:
            continue
        decoder = Decoder.lattice_aligned(2, 74, 8, bits, True, dimensions)
        assert decoder.output_max == (4**dimensions - 1) * 2 ** (bits - 2 * dimensions)
        codes = np.random.default_rng(bits).integers(-128, 128, (2000, dimensions))
        expected = [half_up(p * decoder.output_max, exact.position_max) for p in exact(codes).tolist()]
        assert decoder(codes).tolist() == expected
        vertices = exact.encode(np.arange(4**dimensions) * 74)
        assert decoder(vertices).tolist() == (np.arange(4**dimensions) * 2 ** (bits - 2 * dimensions)).tolist()
    with pytest.raises(IntsimError, match=f"at least {3 * dimensions}"):
        Decoder.lattice_aligned(3, 16, 8, 5, dimensions=dimensions)


@pytest.mark.parametrize(("order", "dimensions", "bits"), [(1, 2, 6), (2, 2, 8), (1, 3, 5), (2, 3, 6)])
@pytest.mark.parametrize("inset", [0, 0.125, Fraction(1, 7)])
def test_decoders_of_any_inset_take_guides_and_space(order, dimensions, bits, inset):
    decoder = Decoder.inset(order, inset, bits, 12, True, dimensions)
    random = np.random.default_rng(order)
    points = random.integers(decoder.lowest_code, decoder.highest_code + 1, (3000, dimensions))
    guide = random.integers(decoder.lowest_code, decoder.highest_code + 1, 3000)
    for setting in ({}, *({"guide": guide} | s for s in settings_of(decoder))):
        position, squared = decoder.nearest(points, **setting)
        assert_same((position, squared), decoder.scanned(points, **setting))
        expected = [half_up(p * decoder.output_max, decoder.position_max) for p in position[:200].tolist()]
        assert decoder(points, **setting)[:200].tolist() == expected
    k = Fraction(str(inset))
    unit = Fraction((2**bits - 1) * (1 - 2 * k), 2**order - 1) / decoder.spacing  # codes a sub-unit
    position, squared = decoder.nearest(points[:3])
    for i, point in enumerate(points[:3].tolist()):
        corner = [Fraction(c - decoder.lowest_code) - k * (2**bits - 1) for c in point]
        feet = []
        for (s, u), v in zip(enumerate(polygon(order, dimensions)), polygon(order, dimensions)[1:], strict=False):
            for along in range(decoder.spacing + 1):
                foot = [(a * decoder.spacing + (b - a) * along) * unit for a, b in zip(u, v, strict=True)]
                feet.append((sum((c - f) ** 2 for c, f in zip(corner, foot, strict=True)), s * decoder.spacing + along))
        assert (min(feet)[1], min(feet)[0] / unit**2) == (position[i], squared[i])
    with_guide = decoder.blended(points, guide)
    assert with_guide.min() >= 0
    assert with_guide.max() <= decoder.output_max


@pytest.mark.parametrize("arguments", [*SHORT, (3, 3, 4, 5)])
def test_all_short_codes_in_space_equal_the_full_scan(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    codes = grid(decoder)
    assert_same(decoder.nearest(codes), decoder.scanned(codes))


def test_all_5_bit_codes_in_space_equal_the_twin():
    decoder, twin = decoder_and_twin(1, 3, 14, 5)
    points = grid(decoder).reshape(-1, 3)[::3]
    decoded = np.stack(decoder.nearest(points), axis=1)
    np.testing.assert_array_equal(decoded, np.array([twin.one(point) for point in points.tolist()]))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(2, 3, 10, 5), (2, 3, 2, 5), (1, 3, 30, 5)])
def test_all_5_bit_codes_in_space_equal_the_twin_slowly(arguments):
    decoder, twin = decoder_and_twin(*arguments)
    points = grid(decoder).reshape(-1, 3)
    decoded = np.stack(decoder.nearest(points), axis=1)
    np.testing.assert_array_equal(decoded, np.array([twin.one(point) for point in points.tolist()]))


def settings_of(decoder):
    """A spread of windows and weights."""
    end, step = decoder.position_max, decoder.spacing
    for window in (None, 0, 1, step // 2, step, 3 * step + 1, end // 2, end - 1, end, 10**12):
        yield {"window": window}
        yield {"window": window, "weight_shift": 6}
    for weight_shift in (0, 1, 4, 9, 14, 20, 60):
        yield {"weight_shift": weight_shift}


@pytest.mark.parametrize("arguments", [(1, 2, 224, 8), (2, 2, 64, 8), (3, 2, 32, 8), (1, 3, 32, 6), (2, 3, 10, 5)])
def test_guided_codes_equal_the_full_scan(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    random = np.random.default_rng(arguments[0])
    points = grid(decoder).reshape(-1, decoder.curve.dimensions)
    points = points[random.permutation(len(points))[:4000]]
    guide = random.integers(decoder.lowest_code, decoder.highest_code + 1, len(points))
    guide[:4] = [decoder.lowest_code, decoder.highest_code, 0, -1]
    for setting in settings_of(decoder):
        assert_same(decoder.nearest(points, guide=guide, **setting), decoder.scanned(points, guide=guide, **setting))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(1, 2, 224, 8), (2, 2, 64, 8), (3, 2, 32, 8), (4, 2, 16, 8), (2, 3, 16, 6)])
def test_guided_codes_equal_the_full_scan_everywhere(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    points = grid(decoder)
    for guide in np.linspace(decoder.lowest_code, decoder.highest_code, 4).astype(int):
        for setting in list(settings_of(decoder))[2::5]:
            assert_same(
                decoder.nearest(points, guide=guide, **setting), decoder.scanned(points, guide=guide, **setting)
            )


@st.composite
def codes_near_lines(draw, decoder):
    """A point whose coordinates lie on or next to lattice lines and medial planes, at the ends, or anywhere."""
    point = []
    for _ in range(decoder.curve.dimensions):
        line = first_line(decoder) + decoder.spacing * draw(st.integers(0, 2**decoder.curve.order - 1))
        special = line + draw(st.sampled_from([0, 1])) * (decoder.spacing // 2) + draw(st.integers(-1, 1))
        code = draw(st.sampled_from([special, decoder.lowest_code, decoder.highest_code]) | st.just(special))
        anywhere = draw(st.integers(decoder.lowest_code, decoder.highest_code))
        code = draw(st.sampled_from([code, code, anywhere]))
        point.append(min(max(code, decoder.lowest_code), decoder.highest_code))
    return point


@st.composite
def any_decoder(draw):
    dimensions, signed, bits = draw(st.sampled_from([2, 3])), draw(st.booleans()), draw(st.integers(4, 16))
    order = draw(st.integers(1, min(3 if dimensions == 2 else 2, bits - 1)))
    largest = 2 ** (bits - 1) - 1
    spacing = 2 * draw(st.integers(1, largest // (2**order - 1)))
    return decoder_and_twin(order, dimensions, spacing, bits, signed)


@repeatable(120)
@given(st.sampled_from([*SPACE[:5], *PLANE]), st.data())
def test_8_bit_codes_equal_the_twin(arguments, data):
    decoder, twin = decoder_and_twin(*arguments)
    point = data.draw(codes_near_lines(decoder))
    assert tuple(int(v) for v in decoder.nearest(point)) == twin.one(point)
    assert tuple(int(v) for v in decoder.scanned(point)) == twin.one(point)


@repeatable(150)
@given(any_decoder(), st.data())
def test_guided_codes_of_any_width_equal_the_twin(pair, data):
    decoder, twin = pair
    point = data.draw(codes_near_lines(decoder))
    guide = data.draw(st.integers(decoder.lowest_code, decoder.highest_code))
    steps = st.integers(0, 3).map(lambda i: i * decoder.spacing)
    window = data.draw(st.none() | st.integers(0, decoder.position_max) | steps)
    shift = data.draw(st.none() | st.integers(0, 60) | st.integers(0, 12))
    assert int(decoder.aim(guide)) == twin.aim(guide)
    expected = twin.one(point, guide=guide, window=window, weight_shift=shift)
    setting = {"guide": guide, "window": window, "weight_shift": shift}
    assert tuple(int(v) for v in decoder.nearest(point, **setting)) == expected
    assert tuple(int(v) for v in decoder.scanned(point, **setting)) == expected


@pytest.mark.parametrize("arguments", [*PLANE, *SPACE, (6, 2, 1000, 16), (4, 3, 500, 14), (1, 2, 2, 4)])
def test_every_position_comes_back(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    positions = np.arange(decoder.position_max + 1)[:: 1 if decoder.code_bits <= 8 else 97]
    codes = decoder.encode(positions)
    assert codes.min() >= decoder.lowest_code
    assert codes.max() <= decoder.highest_code
    position, squared = decoder.nearest(codes)
    np.testing.assert_array_equal(position, positions)
    assert not squared.any()
    assert (np.abs(np.diff(codes, axis=0)).sum(axis=1) == (1 if decoder.code_bits <= 8 else 97)).mean() > 0.9
    assert decoder.encode(0).tolist() == [first_line(decoder)] * decoder.curve.dimensions


@pytest.mark.parametrize("arguments", [(3, 2, 32, 8), (1, 3, 224, 8), (2, 3, 84, 8)])
def test_aim_covers_the_curve(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    aims = decoder.aim(np.arange(-128, 128))
    assert (aims[0], aims[128]) == (0, -(-decoder.position_max // 2))
    assert aims[-1] == (255 * decoder.position_max + 128) // 256
    assert (np.abs(np.diff(aims) - decoder.position_max / 256) < 1).all()
    unsigned = aligned(*arguments, signed=False)
    np.testing.assert_array_equal(unsigned.aim(np.arange(256)), aims)


@pytest.mark.parametrize("arguments", [(3, 2, 32, 8), (2, 2, 74, 8), (1, 3, 224, 8), (2, 3, 84, 8)])
@pytest.mark.parametrize("window", [0, 7, 100])
def test_a_guide_within_the_window_bounds_the_error(arguments, window):
    decoder, _ = decoder_and_twin(*arguments)
    random = np.random.default_rng(window)
    guide = random.integers(-128, 128, 20_000)
    truth = np.clip(decoder.aim(guide) + random.integers(-window, window + 1, 20_000), 0, decoder.position_max)
    points = random.integers(-128, 128, (20_000, decoder.curve.dimensions))  # of no use at all
    for shift in (None, 8):
        error = np.abs(decoder(points, guide=guide, window=window, weight_shift=shift) - truth)
        assert error.max() <= 2 * window
    if window:
        assert error.max() > window


@pytest.mark.parametrize("arguments", [(1, 2, 224, 8), (3, 2, 32, 8), (2, 2, 74, 8)])
def test_confidence_is_the_distance(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    codes = grid(decoder)[::3, ::5]
    squared = decoder.nearest(codes)[1]
    before = np.zeros(codes.shape[:-1], bool)
    for radius in [*range(40), *range(40, 180, 7), 400]:
        now = decoder.confident(codes, radius)
        np.testing.assert_array_equal(now, np.sqrt(squared) <= radius)
        assert (now | ~before).all()
        before = now
    assert before.all()
    assert decoder.confident(decoder.encode(5), 0)
    assert not decoder.confident(codes, 10, guide=0, window=0)[0, 0]


@pytest.mark.parametrize("arguments", [(1, 2, 224, 8), (2, 2, 64, 8), (3, 2, 32, 8), (2, 3, 16, 6)])
def test_neighbours_of_confident_points_stay_on_their_branch(arguments):
    decoder, _ = decoder_and_twin(*arguments)
    codes = grid(decoder)
    sure, position = decoder.confident(codes, decoder.spacing // 2 - 1), decoder(codes)
    largest = 0
    for axis in range(decoder.curve.dimensions):
        step = np.abs(np.diff(position, axis=axis))
        both = np.delete(sure, -1, axis=axis) & np.delete(sure, 0, axis=axis)
        assert step[both].max() <= decoder.spacing
        largest = max(largest, step.max())
    assert largest > 2 * decoder.spacing


def test_pieces_of_cells_hold_every_vertex_and_edge():
    for order, dimensions in ((1, 2), (3, 2), (1, 3), (2, 3)):
        items = near_items(order, dimensions)
        side, vertices = 2**order, polygon(order, dimensions)
        assert items.shape == ((side - 1) ** dimensions, 2**dimensions, dimensions + 3)
        for number, cell in enumerate(product(range(side - 1), repeat=dimensions)):
            inside = {
                index
                for index, vertex in enumerate(vertices)
                if all(0 <= v - c <= 1 for v, c in zip(vertex, cell, strict=True))
            }
            pieces = {tuple(item) for item in items[number].tolist()}
            held = {p[-1] for p in pieces} | {p[-1] + 1 for p in pieces if p[-2]}
            assert held == inside
            assert {p[-1] for p in pieces if p[-2]} == {index for index in inside if index + 1 in inside}


def test_worked_vectors():
    # In space, order 1, S = 224: lines at -112 and 112; vertices 000 001 011 010 110 111 101 100.
    decoder = aligned(1, 3, 224)
    assert (first_line(decoder), decoder.position_max) == (-112, 1568)
    # Beside the second edge, from (-112, -112, 112) to (-112, 112, 112), 142 codes along it, 12 and 7 off.
    assert [int(v) for v in decoder.nearest([-100, 30, 105])] == [224 + 142, 12**2 + 7**2]
    # A guide: G = (128 * 1568 + 128) >> 8 = 784 and a window of 300 leave 484..1084. The best place is 484, the
    # third edge's 36th code, at z = 112 - 36 = 76.
    assert decoder.aim(0) == 784
    assert [int(v) for v in decoder.nearest([-100, 30, 105], guide=0, window=300)] == [484, 12**2 + 82**2 + 29**2]
    # In the plane, order 3, S = 32: 15 codes from edge 0 and 17 from edge 2. A guide at 87 and the weight 2**-6 cost
    # 225 + (75**2 >> 6) = 312 on edge 0 and 289 + (3**2 >> 6) = 289 on edge 2; with 2**-7 it is 268 and 289.
    plane = aligned(3, 2, 32)
    point, guide = [-97, -100], -117
    assert plane.encode([0, 12, 84]).tolist() == [[-112, -112], [-112, -100], [-80, -100]]
    assert plane.aim(guide) == (11 * 2016 + 128) >> 8 == 87
    assert [int(v) for v in plane.nearest(point)] == [12, 225]
    assert [int(v) for v in plane.nearest(point, guide=guide, weight_shift=6)] == [84, 289]
    assert [int(v) for v in plane.nearest(point, guide=guide, weight_shift=7)] == [12, 225]
    # The ramp from 16**2 = 256 on, 128 wide: share 256 - 225 = 31; 87 + ((12 - 87) * 31 + 64 >> 7) = 87 - 18.
    assert plane.blended(point, guide) == 69


@pytest.mark.parametrize("arguments", [(2, 2, 64, 8), (3, 2, 32, 8), (3, 2, 36, 8), (1, 3, 32, 6), (2, 3, 14, 6)])
def test_the_float_reference_agrees_outside_ties(arguments):
    decoder, twin = decoder_and_twin(*arguments)
    random = np.random.default_rng(7)
    points = grid(decoder).reshape(-1, decoder.curve.dimensions)[random.permutation(2**12)[:600]]
    guide = random.integers(decoder.lowest_code, decoder.highest_code + 1, len(points))
    end = decoder.position_max
    coordinates = (points - decoder.lowest_code) / 2**decoder.code_bits
    for setting, scale in (({}, {}), ({"window": 3 * decoder.spacing}, {}), ({"weight_shift": 5}, {"weight": 2.0**-5})):
        if setting:
            setting = setting | {"guide": guide}
            scale = scale | {"guide": decoder.aim(guide) / end}
            if "window" in setting:
                scale["window"] = setting["window"] / end
        q, distance = decode_points(coordinates, decoder.curve.order, decoder.curve.exact_inset, distance=True, **scale)
        position, squared = decoder.nearest(points, **setting)
        agree = 0
        for i, point in enumerate(points.tolist()):
            one = {k: int(v[i]) if k == "guide" else v for k, v in setting.items()}
            costs = sorted({(cost, where) for cost, where, _ in twin.feet(point, **one)})
            # The shift drops less than 1 from each cost: only costs nearer than that may be told apart differently.
            slack = 1 if "weight_shift" in setting else 0
            if len(costs) == 1 or costs[1][0] - costs[0][0] > slack:
                assert abs(q[i] * end - position[i]) < 1e-8
                assert abs((distance[i] * decoder.spacing) ** 2 - squared[i]) < 1e-6
                agree += 1
        assert agree > 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 7}, "order"),
        ({"order": 5, "dimensions": 3}, "order"),
        ({"dimensions": 4}, "dimensions"),
        ({"spacing": 31}, "spacing"),
        ({"spacing": 0}, "spacing"),
        ({"spacing": 38}, "spacing"),
        ({"spacing": 32.0}, "spacing"),
        ({"code_bits": 3}, "code_bits"),
        ({"code_bits": 17}, "code_bits"),
        ({"code_bits": True}, "code_bits"),
        ({"code_bits": 4, "order": 4}, "wider"),
        ({"signed": 1}, "signed"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(IntsimError, match=message) as caught:
        aligned(**({"order": 3, "dimensions": 2, "spacing": 32} | arguments))
    assert "\n" not in str(caught.value)


def test_the_largest_spacing_fits():
    for order, bits in product(range(1, 7), (8, 9, 16)):
        largest = 2 * ((2 ** (bits - 1) - 1) // (2**order - 1))
        decoder = aligned(order, 2, largest, bits)
        assert -first_line(decoder) <= decoder.highest_code
        assert decoder.curve.exact_inset < Fraction(1, 2)
        with pytest.raises(IntsimError, match=f"2..{largest}"):
            aligned(order, 2, largest + 2, bits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codes": [0.5, 1.0]}, "codes"),
        ({"codes": [0, 128]}, "codes"),
        ({"codes": [0, 0, 0]}, "coordinates"),
        ({"codes": 3}, "coordinates"),
        ({"guide": 128}, "guide"),
        ({"guide": 0.5}, "guide"),
        ({"guide": [0, 0]}, "guide of shape"),
        ({"guide": 0, "window": -1}, "window"),
        ({"guide": 0, "window": 1.0}, "window"),
        ({"guide": 0, "weight_shift": 61}, "weight_shift"),
        ({"guide": 0, "weight_shift": -1}, "weight_shift"),
        ({"window": 3}, "needs a guide"),
        ({"weight_shift": 3}, "needs a guide"),
    ],
)
def test_bad_codes_are_refused(arguments, message):
    with pytest.raises(IntsimError, match=message) as caught:
        aligned(3, 2, 32)(**({"codes": [0, 0]} | arguments))
    assert "\n" not in str(caught.value)
    with pytest.raises(IntsimError, match=message):
        aligned(3, 2, 32).scanned(**({"codes": [0, 0]} | arguments))


def test_other_bad_values_are_refused():
    decoder = aligned(3, 2, 32)
    with pytest.raises(IntsimError, match="radius"):
        decoder.confident([0, 0], -1)
    for position in (-1, 2017, 0.5):
        with pytest.raises(IntsimError, match="output"):
            decoder.encode(position)


def test_shapes():
    decoder = aligned(1, 3, 224)
    assert decoder(np.zeros((4, 5, 3), np.int8)).shape == (4, 5)
    assert decoder([1, 2, 3]).shape == ()
    assert decoder(np.zeros((0, 3), np.int8)).shape == (0,)
    assert decoder(np.zeros((4, 5, 3), np.int8), guide=np.zeros(5, np.int8), window=9).shape == (4, 5)
    assert decoder(np.zeros((4, 3), np.int8)[::2], guide=0, weight_shift=3).shape == (2,)
    assert decoder.encode(np.zeros((2, 3), int)).shape == (2, 3, 3)
