from math import isqrt, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.hilbert import blend

from .points import aligned
from .test_guided_decoder import any_decoder, codes_near_lines, grid
from .twins import repeatable


def share(squared, far, bits):
    return min(max(far * far - squared, 0), 2**bits)


def largest_step(decoder, aim, far, bits, window=None):
    """Most that one step of one code can change the blended position: the bound of docs/hilbert.md."""
    reach = max(aim, decoder.position_max - aim)
    bend = 1.0
    if window is not None:
        reach, bend = min(reach, window), sqrt(2)
    # Both decode to segments that are the same or meet. The nearer one is r away: positions differ by 2 r + 2 at most.
    turn = max(int(bend * (2 * sqrt(squared) + 2)) * share(squared, far, bits) for squared in range(far * far))
    same = turn + reach * min(2 * far, 2**bits)
    # They decode to segments that do not meet: r is S / 2 - 1 at least, the other distance (S - 1) / 2 at least.
    half = decoder.spacing // 2
    other = -(-((decoder.spacing - 1) ** 2) // 4)
    apart = reach * (share((half - 1) ** 2, far, bits) + share(other, far, bits))
    return max(same, apart) // 2**bits + 1


@repeatable(150)
@given(any_decoder(), st.data())
def test_blended_positions_equal_python_integers(pair, data):
    decoder, twin = pair
    point = data.draw(codes_near_lines(decoder))
    guide = data.draw(st.integers(decoder.lowest_code, decoder.highest_code))
    far = data.draw(st.integers(1, decoder.spacing // 2))
    bits = data.draw(st.integers(0, (far * far).bit_length() - 1))
    position, squared = twin.one(point)
    part, aim = share(squared, far, bits), twin.aim(guide)
    expected = aim + (2 * (position - aim) * part + 2**bits) // 2 ** (bits + 1)
    assert decoder.blended(point, guide, far=far, ramp_bits=bits) == expected
    assert 0 <= expected <= decoder.position_max
    reference = blend(position, aim, squared, far * far - 2**bits, far * far)
    assert abs(float(reference) - expected) <= 0.5 + 1e-6


@pytest.mark.parametrize(("order", "spacing"), [(1, 224), (2, 64), (3, 32), (4, 16)])
def test_no_step_of_one_code_changes_more_than_the_bound(order, spacing):
    decoder = aligned(order, 2, spacing)
    codes = grid(decoder)
    position = decoder(codes)
    jump = max(np.abs(np.diff(position, axis=axis)).max() for axis in (0, 1))
    assert jump > 0.6 * decoder.position_max
    half = spacing // 2
    for guide in (-128, -37, 0, 127):
        aim = int(decoder.aim(guide))
        for far, bits in ((half, None), (half, isqrt(half)), (half // 2, 4)):
            result = decoder.blended(codes, guide, far=far, ramp_bits=bits)
            used = (3 * far * far // 4).bit_length() - 1 if bits is None else bits
            bound = largest_step(decoder, aim, far, used)
            step = max(np.abs(np.diff(result, axis=axis)).max() for axis in (0, 1))
            assert step <= bound
            if bits is None:
                # The bound is no formality: it is below the jump, and steps come near to it.
                assert bound < 0.9 * jump
                assert 3 * step > bound


@pytest.mark.parametrize(("order", "spacing"), [(1, 224), (2, 64), (3, 32), (4, 16)])
def test_with_a_window_the_bound_is_lower(order, spacing):
    decoder = aligned(order, 2, spacing)
    codes = grid(decoder)[::2, ::2], grid(decoder)[1::2, ::2], grid(decoder)[1::2, 1::2]
    half = spacing // 2
    bits = (3 * half * half // 4).bit_length() - 1
    assert order != 3 or largest_step(decoder, 0, half, bits, 100) == 60
    for guide in (-128, -37, 16, 127):
        for window in (spacing // 3, 2 * spacing, 5 * spacing):
            bound = largest_step(decoder, int(decoder.aim(guide)), half, bits, window)
            result = [decoder.blended(points, guide, window=window) for points in codes]
            assert max(np.abs(result[1] - result[0]).max(), np.abs(result[2] - result[1]).max()) <= bound


def test_in_space_too():
    for order, spacing in ((1, 58), (2, 18)):
        decoder = aligned(order, 3, spacing, 6)
        codes = grid(decoder)
        bits = (3 * (spacing // 2) ** 2 // 4).bit_length() - 1
        for guide in (-32, 5):
            result = decoder.blended(codes, guide)
            bound = largest_step(decoder, int(decoder.aim(guide)), spacing // 2, bits)
            assert max(np.abs(np.diff(result, axis=axis)).max() for axis in range(3)) <= bound


def test_near_the_curve_it_is_the_curve_and_far_away_the_guide():
    decoder = aligned(3, 2, 32)
    codes = grid(decoder)
    position, squared = decoder.nearest(codes)
    guide = np.random.default_rng(1).integers(-128, 128, squared.shape)
    result = decoder.blended(codes, guide)
    np.testing.assert_array_equal(result[squared <= 128], position[squared <= 128])
    np.testing.assert_array_equal(result[squared >= 256], decoder.aim(guide)[squared >= 256])
    between = (squared > 128) & (squared < 256)
    low, high = np.minimum(position, decoder.aim(guide)), np.maximum(position, decoder.aim(guide))
    assert ((result >= low) & (result <= high))[between].all()
    # With a window nothing is further than the window from the guide.
    windowed = decoder.blended(codes, guide, window=90)
    assert np.abs(windowed - decoder.aim(guide)).max() <= 90


def test_bad_radii_are_refused():
    decoder = aligned(3, 2, 32)
    for arguments, message in (
        ({"far": 17}, "far"),
        ({"far": 0}, "far"),
        ({"far": 3.0}, "far"),
        ({"ramp_bits": 9}, "ramp_bits"),
        ({"ramp_bits": -1}, "ramp_bits"),
        ({"far": 2, "ramp_bits": 3}, "ramp_bits"),
        ({"window": -1}, "window"),
    ):
        with pytest.raises(IntsimError, match=message):
            decoder.blended([0, 0], 0, **arguments)
