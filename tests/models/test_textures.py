import numpy as np
import pytest

from models.textures import SIZE, sample, texture_pool


def test_pool_repeats_and_differs_by_seed():
    first, again = texture_pool(1, 3), texture_pool.__wrapped__(1, 3)
    assert np.array_equal(first, again)
    assert first.shape == (3, SIZE, SIZE)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert not np.array_equal(first, texture_pool(2, 3))
    with pytest.raises(ValueError):
        first[0, 0, 0] = 1


def test_sample_meets_the_texels_and_is_linear_between_and_wraps():
    pool = texture_pool(1, 3)
    one = np.zeros(1, np.intp) + 2
    at = lambda u, v: sample(pool, one, np.array([u], float), np.array([v], float))[0]  # noqa: E731
    assert at(5, 9) == pool[2, 9, 5]
    assert at(5 + SIZE, 9 - 3 * SIZE) == pool[2, 9, 5]
    assert at(5.25, 9) == pytest.approx(0.75 * pool[2, 9, 5] + 0.25 * pool[2, 9, 6], abs=1e-7)
    assert at(SIZE - 0.5, 0) == pytest.approx(0.5 * pool[2, 0, SIZE - 1] + 0.5 * pool[2, 0, 0], abs=1e-7)
