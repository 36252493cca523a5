"""Networks drawn by seed whose numbers are moved, joined, masked and bent before a quantizer, against the reference."""

import pytest

from .late_networks import campaign


def test_a_few():
    counted = campaign(0, 8)
    assert counted["equal"] >= 4, counted


@pytest.mark.slow
def test_many():
    counted = campaign(20_000, 1000)
    assert counted["equal"] >= 600, counted
    assert counted["certified"] >= 200, counted
    expected = ("conv", "concat", "gather", "max_pool", "softmax", "layer_norm", "staircase", "table", "interpolate")
    assert all(counted[op] for op in expected), counted
