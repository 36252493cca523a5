import numpy as np
import pytest

from intsim.errors import IntsimError
from models import stereo
from models.stereo import DISPARITY_RANGE, INPUT_CHANNELS, Pair, Scene, generate, network_input, on_grid
from models.textures import texture_pool


@pytest.fixture
def scene():
    return Scene(np.random.default_rng(5), 64, 128, texture_pool(1, 3))


def test_every_visible_point_has_the_same_grey_in_both_views(scene):
    y, x = np.mgrid[0:64, 0:128].astype(float)
    left, disparity, plane = scene.render(x, y)
    right, same, opposite = scene.render(x - disparity, y, right=True)
    visible = plane == opposite
    assert visible.mean() > 0.8
    assert len(np.unique(plane)) > 1
    np.testing.assert_allclose(right[visible], left[visible], rtol=0, atol=1e-9)
    np.testing.assert_allclose(same[visible], disparity[visible], rtol=0, atol=1e-9)


def test_what_hides_a_point_is_nearer(scene):
    y, x = np.mgrid[0:64, 0:128].astype(float)
    _, disparity, plane = scene.render(x, y)
    _, other, opposite = scene.render(x - disparity, y, right=True)
    hidden = plane != opposite
    assert hidden.any()
    assert (other[hidden] > disparity[hidden]).all()


def test_integer_disparity_shifts_pixels_exactly(scene):
    """With flat planes at whole disparities the right image's pixels are the left image's."""
    scene.b[:], scene.c[:], scene.a[:] = 0, 0, np.rint(scene.a)
    y, x = np.mgrid[0:64, 0:128].astype(float)
    left, disparity, plane = scene.render(x, y)
    right, _, opposite = scene.render(x, y, right=True)
    rows, columns = np.nonzero(x - disparity >= 0)
    matches = columns - disparity[rows, columns].astype(int)
    visible = plane[rows, columns] == opposite[rows, matches]
    assert visible.mean() > 0.8
    np.testing.assert_allclose(left[rows, columns][visible], right[rows, matches][visible], rtol=0, atol=1e-12)


@pytest.mark.parametrize("index", range(12))
def test_disparity_stays_in_range(index):
    pair = generate("train", index)
    assert pair.left.shape == pair.right.shape == pair.disparity.shape == pair.valid.shape == (64, 128)
    assert pair.left.dtype == pair.right.dtype == np.uint8
    assert pair.disparity.min() > 0
    assert pair.disparity.max() < DISPARITY_RANGE
    columns = np.arange(128) - pair.disparity
    assert not pair.valid[columns < 0].any()


def test_true_disparity_matches_better_than_any_constant_offset_from_it():
    """Sign and size of the ground truth, through the finished 8-bit images, noise and all."""
    errors = {}
    for offset in (-2, 0, 2):
        total = []
        for index in range(8):
            pair = generate("test", index)
            x = np.arange(128) - pair.disparity + offset
            inside = pair.valid & (x >= 0) & (x < 127)
            low = np.clip(x.astype(int), 0, 126)
            right = pair.right.astype(float)
            rows = np.arange(64)[:, None]
            warped = right[rows, low] * (1 - (x - low)) + right[rows, low + 1] * (x - low)
            total.append(np.abs(warped - pair.left)[inside].mean())
        errors[offset] = np.mean(total)
    assert errors[0] < 0.8 * min(errors[-2], errors[2])


def test_generation_repeats():
    one, two = generate("train", 3), generate("train", 3)
    for key in ("left", "right", "disparity", "valid"):
        assert np.array_equal(getattr(one, key), getattr(two, key))


def test_splits_share_neither_textures_nor_random_streams(monkeypatch):
    seeds = []
    monkeypatch.setattr(stereo, "texture_pool", lambda seed: seeds.append(seed) or texture_pool(1, 3))
    pairs = [generate(split, index) for split in stereo.SPLITS for index in range(3)]
    assert len(set(seeds)) == 3
    assert len({pair.disparity.tobytes() for pair in pairs}) == 9
    textures = {texture.tobytes() for seed in set(seeds) for texture in texture_pool(seed)}
    assert len(textures) == sum(len(texture_pool(seed)) for seed in set(seeds))


def test_hidden_pixels_are_not_valid():
    """Pixels in view but not valid have a nearer one of their row within a pixel of their match; valid ones hardly.

    Not all: what hides them can lie outside the left image.
    """
    shares = {}
    for valid in (False, True):
        hidden = []
        for index in range(4):
            pair = generate("test", index)
            match = np.arange(128) - pair.disparity
            for y, x in np.argwhere((pair.valid == valid) & (match >= 0))[::7]:
                near = (pair.disparity[y] > pair.disparity[y, x] + 0.5) & (np.abs(match[y] - match[y, x]) < 0.5)
                hidden.append(near.any())
        shares[valid] = np.mean(hidden)
        assert len(hidden) > 50
    assert shares[False] > 0.8
    assert shares[True] < 0.05


def test_network_input_against_loops():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (2, 6, 40), dtype=np.uint8)
    codes = network_input(left, right)
    assert codes.shape == (INPUT_CHANNELS, 3, 20)
    assert codes.dtype == np.uint8
    for row in range(3):
        for column in range(20):
            expected = [
                int(image[2 * row + i, 2 * column + j]) for image in (left, right) for i in (0, 1) for j in (0, 1)
            ]
            for k in range(DISPARITY_RANGE + 1):
                total = 2
                for i in (0, 1):
                    for j in (0, 1):
                        y, x = 2 * row + i, 2 * column + j
                        total += abs(int(left[y, x]) - int(right[y, x - k])) if x >= k else 255
                expected.append(total // 4)
            assert codes[:, row, column].tolist() == expected


def test_network_input_takes_batches():
    left, right = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 32), dtype=np.uint8)
    batch = network_input(left, right)
    assert batch.shape == (3, INPUT_CHANNELS, 4, 16)
    assert np.array_equal(batch[1], network_input(left[1], right[1]))


@pytest.mark.parametrize(
    ("shape", "dtype", "other", "complaint"),
    [
        ((8, 32), np.float32, (8, 32), "uint8"),
        ((8, 32), np.uint8, (8, 34), "one size"),
        ((7, 32), np.uint8, (7, 32), "even height"),
        ((8, 33), np.uint8, (8, 33), "even width"),
        ((8, 24), np.uint8, (8, 24), "at least 26"),
    ],
)
def test_unfit_images_are_refused(shape, dtype, other, complaint):
    with pytest.raises(IntsimError, match=complaint):
        network_input(np.zeros(shape, dtype), np.zeros(other, dtype))


def test_grid_is_every_second_pixel():
    image = np.arange(24).reshape(4, 6)
    assert on_grid(image).tolist() == [[0, 2, 4], [12, 14, 16]]


def test_pair_names_its_origin():
    assert isinstance(generate("validation", 1), Pair)
    assert generate("validation", 1).name == "generated validation 1"
