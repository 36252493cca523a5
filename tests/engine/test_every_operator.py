"""Every operator of the registry in random graphs, run every way there is."""

import pytest

from intsim.ops import OPS

from .every_operator import campaign

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once


def test_a_few_of_each():
    counted = campaign(2 * len(OPS))
    assert counted["graphs"] >= 2 * len(OPS)
    assert all(counted[op] >= 2 for op in OPS), counted
    assert counted["registers that held"] > len(OPS) // 4


@pytest.mark.slow
def test_500_graphs():
    counted = campaign(500)
    assert counted["graphs"] >= 500
    assert all(counted[op] >= 20 for op in OPS), counted
    assert counted["registers that held"] > 100
