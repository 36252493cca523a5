"""Hypothesis profiles: `ci` is quick and repeatable; `thorough` (make test-all) and `night` search longer, new seeds.

And the command line in a process that is there already.
"""

import json
import os
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from intsim import cli

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30, suppress_health_check=SLOW)
settings.register_profile("thorough", deadline=None, max_examples=60, suppress_health_check=SLOW)
settings.register_profile("night", deadline=None, max_examples=1000, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def same_data_in_any_order(request):
    """A module's generator starts anew for each test: data must not depend on what ran before, in which process."""
    if hasattr(request.module, "RNG"):
        named = request.node.nodeid
        for mark in request.node.iter_markers("xdist_group"):  # pytest-xdist puts it behind the name
            named = named.removesuffix(f"@{mark.args[0]}")
        seed = zlib.crc32(named.encode())
        request.module.RNG = np.random.default_rng(seed)


@pytest.fixture
def intsim_(capfd, monkeypatch, folder):
    """Run the command line in a module's `folder`: exit code, standard output, standard error."""

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def as_json(intsim_):
    """Run with --json; standard output must hold JSON and nothing else."""

    def run(*args: object, code: int = 0) -> dict:
        status, out, err = intsim_(*args, "--json")
        assert (status, err) == (code, "")
        return json.loads(out)

    return run
