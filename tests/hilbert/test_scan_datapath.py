"""The segment-by-segment datapath, run on the wires of `test_datapath.py`."""

from collections import Counter

import numpy as np
import pytest

from intsim.hilbert.datapath import scan_datapath

from .points import aligned, first_line
from .test_datapath import MultiplierWire, Wire

SETTINGS = [
    {},
    {"window": 0},
    {"window": 30},
    {"weight_shift": 0},
    {"weight_shift": 6},
    {"window": 45, "weight_shift": 4},
    {"window": 10**9, "weight_shift": 60},
]


def points_and_guides(decoder, count):
    """Codes on and beside lattice lines and medial planes, and any."""
    random = np.random.default_rng(decoder.curve.order)
    line = random.integers(0, decoder.curve.side, (count, decoder.curve.dimensions))
    line = line * decoder.spacing + first_line(decoder)
    special = line + random.choice([0, 0, decoder.spacing // 2], line.shape) + random.integers(-1, 2, line.shape)
    anywhere = random.integers(decoder.lowest_code, decoder.highest_code + 1, line.shape)
    points = np.where(random.random(line.shape) < 0.7, special, anywhere)
    points = np.clip(points, decoder.lowest_code, decoder.highest_code)
    return points, random.integers(decoder.lowest_code, decoder.highest_code + 1, count)


def costs(decoder, setting, count):
    """Operations of one decode, after checking that results are those of the decoder."""
    points, guides = points_and_guides(decoder, count)
    if setting:
        setting = setting | {"guide": guides}
    expected = decoder.nearest(points, **setting)
    operations = set()
    for i, point in enumerate(points.tolist()):
        Wire.counts = Counter()
        one = setting | {"guide": MultiplierWire(int(guides[i]))} if setting else {}
        position, squared = scan_datapath(decoder, [MultiplierWire(code) for code in point], **one)
        assert (position.value, squared.value) == (expected[0][i], expected[1][i])
        operations.add(tuple(sorted(Wire.counts.items())))
    assert len(operations) == 1
    return dict(operations.pop())


@pytest.mark.parametrize("arguments", [(1, 2, 224), (2, 2, 64), (1, 3, 224), (1, 3, 14, 5), (1, 3, 2000, 12, False)])
@pytest.mark.parametrize("setting", SETTINGS)
def test_it_is_the_decoder(arguments, setting):
    costs(aligned(*arguments), setting, 60)


def test_cost_in_the_documentation():
    plane, space, third = aligned(1, 2, 224), aligned(1, 3, 224), aligned(3, 2, 32)
    window, weight = {"window": 98}, {"weight_shift": 6}
    assert [costs(plane, s, 3) for s in ({}, window, weight, window | weight)] == [
        {"add": 22, "multiply": 7},
        {"add": 45, "multiply": 8},
        {"add": 30, "multiply": 11},
        {"add": 51, "multiply": 11},
    ]
    assert [costs(space, s, 3) for s in ({}, window, weight, window | weight)] == [
        {"add": 57, "multiply": 13},
        {"add": 104, "multiply": 14},
        {"add": 73, "multiply": 21},
        {"add": 118, "multiply": 21},
    ]
    assert costs(third, window, 3) == {"add": 804, "multiply": 80}
