import numpy as np
import pytest
import torch

from models.batches import batch_of, load_pairs
from models.disparity import Network, target
from models.stereo import generate, network_input, on_grid

RECIPE = {"training": {"seed": 4, "batch": 4, "invalid_weight": 0.25}}
NETWORK = Network("net", 3, 32, 64)


@pytest.fixture(scope="module")
def pairs():
    return load_pairs("train", 12, 32, 64)


def test_pairs_are_the_generated_ones(pairs):
    assert np.array_equal(pairs["left"][5], generate("train", 5, 32, 64).left)
    assert pairs["valid"].shape == (12, 32, 64)


def test_a_batch_depends_on_the_step_alone(pairs):
    first, again, other = (batch_of(pairs, step, RECIPE, NETWORK) for step in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert [part.shape for part in first] == [(4, 33, 16, 32), (4, 2, 16, 32), (4, 1, 16, 32)]
    assert set(first[2].unique().tolist()) <= {0.25, 1.0}


def test_an_epoch_shows_every_pair_once_with_its_own_target(pairs):
    """Three steps of four make an epoch of twelve; each target is that of a pair, as it is or upside down."""
    known = {}
    for i in range(12):
        for flipped in (False, True):
            truth = pairs["disparity"][i][::-1] if flipped else pairs["disparity"][i]
            known[target(on_grid(truth), NETWORK).tobytes()] = i
    seen = []
    for step in range(3):
        seen += [known[one.numpy().tobytes()] for one in batch_of(pairs, step, RECIPE, NETWORK)[1]]
    assert sorted(seen) == list(range(12))


class _NoGain(np.random.Generator):
    def uniform(self, low, high, size):
        return np.ones(size)


def test_flip_keeps_images_and_target_together(pairs, monkeypatch):
    """Without the random gain, codes and target are those of one pair, as it is or upside down; both occur."""
    monkeypatch.setattr(np.random, "default_rng", lambda key: _NoGain(np.random.PCG64(key)))
    known = {}
    for i in range(12):
        for turn in (1, -1):
            left, right, truth = (pairs[key][i][::turn] for key in ("left", "right", "disparity"))
            known[target(on_grid(truth), NETWORK).tobytes()] = (turn, network_input(left, right))
    turns = set()
    for step in range(9):
        codes, wanted, _ = batch_of(pairs, step, RECIPE, NETWORK)
        for code, one in zip(codes.numpy(), wanted.numpy(), strict=True):
            turn, expected = known[one.tobytes()]
            assert np.array_equal(code, expected)
            turns.add(turn)
    assert turns == {1, -1}
