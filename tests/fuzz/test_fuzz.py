"""Some mutants of each kind every day, more in the long suite; `make fuzz` for hours."""

import pytest

from .campaign import KINDS, campaign, one

EVERYDAY = {"model": 160, "bytes": 60, "inputs": 60, "target": 60, "certificate": 60}


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(tmp_path, kind):
    made = campaign([(kind, seed) for seed in range(EVERYDAY[kind])], tmp_path)
    assert not made.wrong, made.text()
    assert sum(made.counts.values()) == EVERYDAY[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_mutants(tmp_path, kind):
    made = campaign([(kind, seed) for seed in range(1000, 1000 + 20 * EVERYDAY[kind])], tmp_path)
    assert not made.wrong, made.text()


def test_mutants_are_those_of_their_seed(tmp_path):
    for kind in KINDS:
        first, second = (one(kind, 7, tmp_path)[1] for _ in range(2))
        assert first == second
