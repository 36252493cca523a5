"""Tests of a group run in one process, where pytest-xdist shares tests out: what they share is made once."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="tests are not shared out")
@pytest.mark.xdist_group("together")
def test_pytest_xdist_sees_groups(request):
    """It tells groups by the end of a test's name, which pytest 9.2 doesn't let it set (constraints.txt)."""
    assert request.node.nodeid.endswith("@together")
