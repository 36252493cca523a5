"""Hypothesis profiles: `ci` is quick and repeatable; HYPOTHESIS_PROFILE=thorough searches longer, with new seeds."""

import os
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=SLOW)
settings.register_profile("thorough", deadline=None, max_examples=1000, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def same_data_in_any_order(request):
    """A module's generator starts anew for each test: data must not depend on what ran before, in which process."""
    if hasattr(request.module, "RNG"):
        seed = zlib.crc32(request.node.nodeid.encode())
        request.module.RNG = np.random.default_rng(seed)
