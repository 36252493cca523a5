from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.hilbert import Decoder, decode, encode

from .points import pairs
from .twins import Scan, half_up, repeatable

ORDERS = range(1, 7)
ALL = np.arange(256)
GENERAL = [0, 0.1, Fraction(1, 7)]
VARIANTS = [*GENERAL, "aligned"]

EVERY_CODE = [
    # the full scan of the longest curves takes seconds: on the aligned lattice every day, elsewhere in the long suite
    pytest.param(v, n, marks=[pytest.mark.slow] * (n == ORDERS[-1] and v != "aligned"))
    for v in VARIANTS
    for n in ORDERS
]


def decoder_and_twin(variant, order, code_bits=8, output_bits=16, signed=False, log2_spacing=None):
    if variant == "aligned":
        s = code_bits - order if log2_spacing is None else log2_spacing
        spacing = None if log2_spacing is None else 2**log2_spacing
        decoder = Decoder.lattice_aligned(order, spacing, code_bits, output_bits, signed)
        return decoder, Scan.lattice_aligned(order, code_bits, s)
    decoder = Decoder.inset(order, variant, code_bits, output_bits, signed)
    return decoder, Scan.inset(order, Fraction(str(variant)), code_bits)


@cache
def scanned(variant, order):
    return decoder_and_twin(variant, order)[1].grid(ALL)


@pytest.mark.parametrize(("variant", "order"), EVERY_CODE)
def test_all_8_bit_codes_equal_the_full_scan(variant, order):
    position, tied, _ = scanned(variant, order)
    for output_bits in (24, 16, 12, 4):
        if variant == "aligned" and output_bits < 2 * order:
            continue
        decoder, twin = decoder_and_twin(variant, order, output_bits=output_bits)
        # Positions of both are exact fractions of the length.
        assert twin.length % decoder.position_max == 0
        assert (decoder.position(pairs(ALL[:, None], ALL)) * (twin.length // decoder.position_max) == position).all()
        assert (decoder.ties(pairs(ALL[:, None], ALL)) == tied).all()
        outputs = decoder(pairs(ALL[:, None], ALL))
        assert outputs.dtype == np.int64
        # 2 * position * output_max < 2 * 2**24 * 2**24 fits in int64.
        assert twin.length < 2**24
        assert (outputs == (2 * position * decoder.output_max + twin.length) // (2 * twin.length)).all()
        assert outputs.min() == 0
        assert outputs.max() == decoder.output_max < 2**output_bits


@pytest.mark.parametrize(("variant", "order"), EVERY_CODE)
def test_all_8_bit_codes_equal_the_float_reference_outside_ties(variant, order):
    _, tied, squared = scanned(variant, order)
    decoder, twin = decoder_and_twin(variant, order)
    grid = ALL / decoder.codes_per_unit
    q, distance = decode(grid[:, None], grid, order, decoder.curve.exact_inset, distance=True)
    exact = decoder.position(pairs(ALL[:, None], ALL)) / decoder.position_max
    # Exact squared distances are multiples of (1 / unit)**2, so outside ties the second best curve point is that much
    # further away; a float64 squared distance below 2 is wrong by less than 1e-14. So floats decide rightly.
    unit = twin.code_units * decoder.codes_per_unit
    assert unit**-2 > 1e-11
    assert np.abs(q - exact)[~tied].max() < 1e-13
    assert np.abs(distance - np.sqrt(squared) / unit).max() < 1e-13
    # In a tie the float reference gives one of the equally near points.
    x, y = encode(q[tied], order, decoder.curve.exact_inset)
    px, py = np.broadcast_arrays(grid[:, None], grid)
    assert np.abs(np.hypot(x - px[tied], y - py[tied]) - np.sqrt(squared[tied]) / unit).max(initial=0) < 1e-13
    # So outside ties the integers agree as well, but where q lies on the edge of two outputs within float error.
    exact = q * decoder.output_max + 0.5
    sure = ~tied & (np.abs(exact - np.rint(exact)) > 1e-8)
    assert (np.floor(exact) == decoder(pairs(ALL[:, None], ALL)))[sure].all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_many_codes_at_once_equal_the_datapath(variant, order):
    for signed in (False, True):
        decoder, _ = decoder_and_twin(variant, order, signed=signed)
        x, y = np.broadcast_arrays(ALL[:, None] + decoder.lowest_code, ALL + decoder.lowest_code)
        np.testing.assert_array_equal(decoder(pairs(x, y)), decoder.datapath(x, y))
        np.testing.assert_array_equal(decoder(pairs(x[:, :1], y[0])), decoder.datapath(x, y))
    # Wide codes of fine insets need more than the kernel's words.
    random = np.random.default_rng(order)
    for code_bits, output_bits in ((16, 16), (13, 24), (9, 12)):
        decoder, _ = decoder_and_twin(variant, order, code_bits, output_bits)
        x, y = random.integers(0, 2**code_bits, (2, 3000))
        np.testing.assert_array_equal(decoder(pairs(x, y)), decoder.datapath(x, y))


def test_the_kernel_is_used_where_its_words_suffice():
    for decoder in (Decoder.inset(3, 0.1), Decoder.lattice_aligned(1, None, 16, 17)):
        assert decoder.fits_kernels
    for decoder in (Decoder.inset(3, 0.1, 16), Decoder.inset(2, 0.001, 12)):
        assert not decoder.fits_kernels


def weighted_codes(bits):
    return st.integers(0, 2**bits - 1) | st.builds(
        lambda k, i, flip: min(max(((2**bits - 2**k) if flip else 2**k) + i, 0), 2**bits - 1),
        st.integers(0, bits),
        st.integers(-1, 1),
        st.booleans(),
    )


@st.composite
def decoders(draw):
    """(decoder, twin) of any kind and width that exists."""
    order, code_bits, signed = draw(st.integers(1, 6)), draw(st.integers(4, 16)), draw(st.booleans())
    if draw(st.booleans()):
        order = min(order, code_bits - 1)
        s = draw(st.none() | st.integers(1, code_bits - order))
        return decoder_and_twin("aligned", order, code_bits, draw(st.integers(max(4, 2 * order), 24)), signed, s)
    inset = draw(st.sampled_from([0, 0.1, 0.05, 0.2, 0.25, 0.125, Fraction(1, 3), Fraction(1, 7), 0.001]))
    while (1 - 2 * inset) * (2**code_bits - 1) < 2**order - 1:
        order -= 1
    return decoder_and_twin(inset, order, code_bits, draw(st.integers(4, 24)), signed)


@repeatable(max_examples=300)
@given(decoders(), st.data())
def test_any_width_equals_the_definition(pair, data):
    decoder, twin = pair
    x, y = data.draw(weighted_codes(decoder.code_bits)), data.draw(weighted_codes(decoder.code_bits))
    position, tied = twin.one(x, y)
    low = decoder.lowest_code
    output = decoder(pairs(x + low, y + low))
    assert output == half_up(position * decoder.output_max, twin.length)
    assert 0 <= output <= decoder.output_max < 2**decoder.output_bits
    assert decoder.position(pairs(x + low, y + low)) * Fraction(twin.length, decoder.position_max) == position
    assert decoder.ties(pairs(x + low, y + low)) == tied
    assert decoder.output_scale * decoder.output_max == 1


@repeatable(max_examples=300)
@given(decoders(), st.data())
def test_places_near_vertices_equal_the_definition(pair, data):
    decoder, twin = pair
    vertex = data.draw(st.sampled_from(twin.vertices))
    top = 2**decoder.code_bits - 1
    near = [min(max(v // twin.code_units + data.draw(st.integers(-2, 3)), 0), top) for v in vertex]
    expected = half_up(twin.one(*near)[0] * decoder.output_max, twin.length)
    assert decoder(pairs(near[0] + decoder.lowest_code, near[1] + decoder.lowest_code)) == expected


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variant", [0.1, "aligned"])
def test_signed_codes_are_unsigned_codes_shifted(variant, order):
    unsigned, signed = (decoder_and_twin(variant, order, signed=sign)[0] for sign in (False, True))
    assert (signed.lowest_code, signed.highest_code) == (-128, 127)
    assert (signed(pairs(ALL[:, None] - 128, ALL - 128)) == unsigned(pairs(ALL[:, None], ALL))).all()
    outputs = np.arange(0, signed.output_max + 1, 7)
    assert (signed.encode(outputs) + 128 == unsigned.encode(outputs)).all()
    points = np.linspace(-0.1, 1.1, 999)
    assert (signed.codes(points) + 128 == unsigned.codes(points)).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inset", GENERAL)
def test_reversing_the_curve_mirrors_x(inset, order):
    decoder, _ = decoder_and_twin(inset, order)
    position = decoder.position(pairs(ALL[:, None], ALL))
    free = ~decoder.ties(pairs(ALL[:, None], ALL))
    assert (free == free[::-1]).all()
    assert (position[::-1] == decoder.position_max - position)[free].all()


def test_the_aligned_lattice_mirrors_about_its_middle_code():
    decoder, _ = decoder_and_twin("aligned", 3, signed=True)
    codes = np.arange(-127, 128)
    position = decoder.position(pairs(codes[:, None], codes))
    free = ~decoder.ties(pairs(codes[:, None], codes))
    assert (position[::-1] == decoder.position_max - position)[free].all()


def exact_codes(decoder, output):
    """Codes of the curve point of an output, half to even, with Fractions."""
    curve = decoder.curve
    along = Fraction(output, decoder.output_max) * curve.segments
    segment = min(int(along), curve.segments - 1)
    h = (1 - 2 * curve.exact_inset) / (curve.side - 1)
    codes = []
    for start, end in zip(curve.vertices[segment].tolist(), curve.vertices[segment + 1].tolist(), strict=True):
        lattice = start + (end - start) * (along - segment)
        codes.append(round((curve.exact_inset + h * lattice) * decoder.codes_per_unit) + decoder.lowest_code)
    return codes


@repeatable(max_examples=300)
@given(decoders(), st.data())
def test_encode_rounds_the_exact_curve_point_half_to_even(pair, data):
    decoder, _ = pair
    output = data.draw(st.integers(0, decoder.output_max) | st.sampled_from([0, 1, decoder.output_max]))
    assert [int(code) for code in decoder.encode(output)] == exact_codes(decoder, output)


@repeatable(max_examples=300)
@given(decoders(), st.data())
def test_round_trip_stays_within_the_rounding_of_the_codes(pair, data):
    decoder, _ = pair
    output = data.draw(st.integers(0, decoder.output_max))
    codes = decoder.encode(output)
    exact = Fraction(output * decoder.position_max, decoder.output_max)
    error = abs(int(decoder.position(codes)) - exact) / decoder.stride  # in codes along the curve
    to_vertex = abs(exact - round(exact / decoder.spacing) * decoder.spacing) / decoder.stride
    if decoder.stride == 1 or to_vertex >= 1:
        assert error <= Fraction(1, 2)
    elif decoder.spacing > decoder.stride:
        assert error <= Fraction(3, 2)
    lsb = Fraction(decoder.position_max, decoder.output_max) / decoder.stride
    assert abs(int(decoder(codes)) - output) * lsb <= error + lsb / 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("code_bits", [8, 12, 16])
def test_aligned_round_trip_is_the_identity(order, code_bits):
    for output_bits in range(max(4, 2 * order), min(code_bits + order, 17) + 1):
        decoder, _ = decoder_and_twin("aligned", order, code_bits, output_bits)
        outputs = np.arange(decoder.output_max + 1)
        assert (decoder(decoder.encode(outputs)) == outputs).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inset", GENERAL)
def test_fine_codes_and_coarse_outputs_round_trip_exactly(inset, order):
    # An LSB of more than 3 codes absorbs the 3/2 codes that rounding at a turn can cost.
    decoder = Decoder.inset(order, inset, 16, 16 + order - 3)
    assert decoder.position_max > 3 * decoder.stride * decoder.output_max
    outputs = np.arange(decoder.output_max + 1)
    assert (decoder(decoder.encode(outputs)) == outputs).all()


@pytest.mark.parametrize("order", ORDERS)
def test_float_points_at_16_bit_codes_come_back_within_half_an_lsb(order):
    q = np.linspace(0, 1, 20_001)
    for decoder in (Decoder.inset(order, 0.1, 16, 12), Decoder.lattice_aligned(order, None, 16, 12)):
        codes = decoder.codes(np.stack(encode(q, order, decoder.curve.exact_inset), axis=-1))
        back = decoder(codes) * float(decoder.output_scale)
        code = 1 / (decoder.codes_per_unit * decoder.curve.length)
        worst = 0.5 / decoder.output_max + (0.5 if decoder.stride == 1 else 1.5) * code
        assert np.abs(back - q).max() <= worst + 1e-12
        assert np.abs(back - q).max() > 0.4 / decoder.output_max


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_never_step_back_along_the_curve(variant, order):
    for code_bits, output_bits in ((8, 16), (7, 14), (12, 14), (16, 16)):
        decoder, _ = decoder_and_twin(variant, order, code_bits, output_bits)
        outputs = decoder(decoder.encode(np.arange(decoder.output_max + 1)))
        steps = np.diff(outputs)
        assert steps.min() >= 0
        # Continuity: a step of the code is at most two codes along the curve, one on each axis.
        most = Fraction(decoder.output_max * decoder.stride, decoder.position_max) * 3 + 2
        assert steps.max() <= most
        if variant == "aligned":  # elsewhere the ends lie between codes
            assert outputs[0] == 0
            assert outputs[-1] == decoder.output_max


@pytest.mark.parametrize("order", ORDERS)
def test_aligned_codes_along_the_curve_count_up(order):
    decoder, twin = decoder_and_twin("aligned", order)
    walk = [twin.vertices[0]]
    for (x0, y0), (x1, y1) in zip(twin.vertices, twin.vertices[1:], strict=False):
        dx, dy = (x1 - x0) // twin.edge, (y1 - y0) // twin.edge
        walk += [(x0 + dx * i, y0 + dy * i) for i in range(1, twin.edge + 1)]
    x, y = np.array(walk).T
    assert (decoder.position(pairs(x, y)) == np.arange(decoder.position_max + 1)).all()
    assert not decoder.ties(pairs(x, y)).any()
    # Off the curve by less than half an edge, and nearer to no turn: the position does not change.
    along = np.arange(x.size) % twin.edge
    for off in range(1, twin.edge // 2):
        straight = (along > off) & (along < twin.edge - off)
        step = np.array(walk)[np.minimum(np.arange(x.size) + 1, x.size - 1)] - np.array(walk)
        for sign in (-off, off):
            px, py = x + sign * step[:, 1], y + sign * step[:, 0]
            assert (decoder.position(pairs(px, py)) == np.arange(x.size))[straight].all()


def test_points_outside_the_lattice_are_welcome():
    decoder, _ = decoder_and_twin(0.25, 2)
    assert decoder(pairs([0, 255], [0, 0])).tolist() == [0, 65535]
    assert [decoder.datapath(x, 0) for x in (0, 255)] == [0, 65535]


def test_worked_vectors():
    # On the first edge of order 2, 8-bit codes: k = 0.1, x = 40 is 14.5 codes right of the edge's start, h is 68 codes.
    general = Decoder.inset(2, 0.1, 8, 16)
    assert (general.stride, general.offset, general.spacing, general.position_max) == (2, 51, 136, 2040)
    assert general.position(pairs(40, 20)) == 29
    assert general(pairs(40, 20)) == 932
    aligned = Decoder.lattice_aligned(2, None, 8, 10)
    assert (aligned.offset, aligned.spacing, aligned.position_max, aligned.output_max) == (32, 64, 960, 960)
    assert aligned.position(pairs(40, 20)) == 8
    assert aligned(pairs(40, 20)) == 8
    assert aligned.curve.inset == 0.125
    assert aligned.output_scale == Fraction(1, 960)


def test_codes_round_half_to_even_and_clip():
    aligned = Decoder.lattice_aligned(2, None, 4, 8)
    assert aligned.codes([0.5 / 16, 1.5 / 16, 2.5 / 16, 1.0, -3.0]).tolist() == [0, 2, 2, 15, 0]
    assert aligned.codes([[np.inf, -np.inf], [0.0, 2.0]]).tolist() == [[15, 0], [0, 15]]
    general = Decoder.inset(2, 0.1, 4, 8, signed=True)
    assert general.codes([0.0, 0.1, 1.0, 0.5, 0.9]).tolist() == [-8, -6, 7, 0, 6]


def test_shapes():
    decoder, _ = decoder_and_twin(0.1, 3)
    for decoded in (decoder, decoder.position, decoder.ties):
        assert decoded([5, 7]).shape == ()
        assert decoded(np.zeros((4, 3, 2), np.uint8)).shape == (4, 3)
        assert decoded(np.zeros((0, 2, 2), np.int8)).shape == (0, 2)
    fine, _ = decoder_and_twin(0.1, 3, 16)
    assert fine([5, 7]).shape == ()
    assert fine(np.zeros((0, 2, 2), np.int8)).shape == (0, 2)


@pytest.mark.parametrize("code_bits", [4, 5, 6])
def test_edges_shorter_than_the_codes_can_tell_are_refused(code_bits):
    for order in ORDERS:
        if order < code_bits:
            Decoder.inset(order, 0.1, code_bits)
            Decoder.lattice_aligned(order, None, code_bits)
            continue
        with pytest.raises(IntsimError, match="wider codes"):
            Decoder.inset(order, 0.1, code_bits)
        with pytest.raises(IntsimError, match=f"at least {order + 1}-bit codes"):
            Decoder.lattice_aligned(order, None, code_bits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 7}, "order"),
        ({"order": "2"}, "order"),
        ({"code_bits": 3}, "code_bits"),
        ({"code_bits": 17}, "code_bits"),
        ({"code_bits": 8.0}, "code_bits"),
        ({"output_bits": 3}, "output_bits"),
        ({"output_bits": 25}, "output_bits"),
        ({"output_bits": True}, "output_bits"),
        ({"signed": 1}, "signed"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    for constructor in (Decoder.inset, Decoder.lattice_aligned):
        with pytest.raises(IntsimError, match=message) as caught:
            constructor(**({"order": 2} | arguments))
        assert "\n" not in str(caught.value)


def test_bad_insets_and_spacings_are_refused():
    with pytest.raises(IntsimError, match="inset"):
        Decoder.inset(2, 0.5)
    with pytest.raises(IntsimError, match="smaller denominator"):
        Decoder.inset(2, 0.123456789, 16)
    for spacing in (0, 7, 128, -2, 2.0, "4", True):
        with pytest.raises(IntsimError, match="spacing"):
            Decoder.lattice_aligned(2, spacing, 8, 16)
    with pytest.raises(IntsimError, match="at least 6"):
        Decoder.lattice_aligned(3, None, 8, 5)


def test_bad_codes_are_refused():
    unsigned, signed = (Decoder.inset(2, signed=sign) for sign in (False, True))
    for decoder, code in ((unsigned, -1), (unsigned, 256), (signed, 128), (signed, -129), (unsigned, 2**63)):
        for codes in ([code, 0], [[0, 0], [0, code]]):
            with pytest.raises(IntsimError, match="codes"):
                decoder(codes)
            with pytest.raises(IntsimError, match="codes"):
                decoder.ties(codes)
    for code in (1.0, True, "1", None):
        with pytest.raises(IntsimError, match="integer array"):
            unsigned([code, code])
    for codes in ([1, 2, 3], 5):
        with pytest.raises(IntsimError, match="coordinates"):
            unsigned(codes)
    for output in (-1, 65536, 0.5):
        with pytest.raises(IntsimError, match="output"):
            unsigned.encode(output)
    for x in (float("nan"), "0.5", None):
        with pytest.raises(IntsimError, match="real"):
            unsigned.codes([x, 0.5])


def test_decoders_too_fine_for_distances_say_so():
    fine = Decoder.inset(3, 0.1, 16)
    for wanted in (fine.nearest, fine.scanned, lambda codes: fine(codes, guide=3, window=5)):
        with pytest.raises(IntsimError, match="too fine"):
            wanted([1, 2])
