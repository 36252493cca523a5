import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError
from models.disparity import float_disparity
from models.tasks import __main__ as command
from models.tasks import blur, digits, heatmaps
from models.tasks import training as training_module
from models.tasks.digits import CANVAS, Placement, digit_images, draw, generate, key_points
from models.tasks.heatmaps import CELL, SIGMA, heat_maps, points_of
from models.tasks.measure import BATCH, integer_values
from models.tasks.network import CODINGS, MapNet, by_map
from models.tasks.tasks import TASKS, Deblurring, KeyPoints, task_named
from models.tasks.training import batch_tensors, train

PLACEMENTS = st.builds(
    Placement, st.floats(2, 4), st.floats(-3.2, 3.2), st.floats(10, CANVAS - 10), st.floats(10, CANVAS - 10)
)


class SmallKeyPoints(KeyPoints):
    train, held_out = 32, 8
    widths = (4, 4, 4, 4)


class SmallDeblurring(Deblurring):
    size, crop = 16, 16
    widths = (4, 4, 4, 4)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other take long on a busy machine, and one repeats bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_digits_are_the_documented_ones():
    assert digit_images().shape == (1797, 8, 8)
    assert set(np.unique(digit_images() * 16)) == set(range(17))


def test_splits_of_digits_are_disjoint_and_none_is_left_out():
    assert sorted(i for part in digits.SPLITS.values() for i in part) == list(range(1797))


@pytest.mark.parametrize("split", digits.SPLITS)
def test_an_image_shows_digits_of_its_own_split_only(split, monkeypatch):
    """With all ink taken off the split's digits nothing is left to see."""
    blank = digit_images().copy()
    blank[list(digits.SPLITS[split])] = 0
    monkeypatch.setattr(digits, "digit_images", lambda: blank)
    monkeypatch.setattr(digits, "key_points", lambda digit: np.zeros((3, 2)))
    for index in range(10):
        image, _ = generate(split, index)
        assert image.max() < 40 + 6 * 6


def test_generation_repeats_and_differs():
    images, points = zip(*(generate("test", index) for index in (0, 1, 0)), strict=True)
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_array_equal(points[0], points[2])
    assert (images[0] != images[1]).mean() > 0.5
    assert images[0].shape == (CANVAS, CANVAS)
    assert images[0].dtype == np.uint8
    assert (images[0] != generate("validation", 0)[0]).mean() > 0.5


def test_key_points_by_fractions():
    for digit in digit_images()[::7]:
        ink = [[Fraction(int(16 * value), 16) for value in row] for row in digit]
        inked = [row for row in range(8) if max(ink[row]) >= Fraction(1, 2)]
        wanted = []
        for row in (min(inked), max(inked)):
            kept = [(x, value) for x, value in enumerate(ink[row]) if value >= Fraction(1, 2)]
            wanted.append((sum(x * v for x, v in kept) / sum(v for _, v in kept), Fraction(row)))
        total = sum(sum(row) for row in ink)
        wanted.append(
            (
                sum(x * ink[y][x] for y in range(8) for x in range(8)) / total,
                sum(y * ink[y][x] for y in range(8) for x in range(8)) / total,
            )
        )
        np.testing.assert_allclose(key_points(digit), np.array(wanted, float), rtol=0, atol=1e-12)


@given(PLACEMENTS, st.floats(-5, 12), st.floats(-5, 12))
def test_placements_invert(placement, x, y):
    point = np.array([[x, y]])
    np.testing.assert_allclose(placement.to_cells(placement.to_canvas(point)), point, rtol=0, atol=1e-9)
    # what the docstring says: turned about the middle of the digit, enlarged, moved
    dx, dy, c, s = x - 3.5, y - 3.5, math.cos(placement.angle), math.sin(placement.angle)
    wanted = placement.x + placement.scale * (c * dx - s * dy), placement.y + placement.scale * (s * dx + c * dy)
    np.testing.assert_allclose(placement.to_canvas(point)[0], wanted, rtol=0, atol=1e-9)


@given(PLACEMENTS, st.integers(0, 10**6))
def test_drawing_is_bilinear(placement, seed):
    rng = np.random.default_rng(seed)
    digit = digit_images()[rng.integers(1797)]
    drawn = draw(digit, placement)
    for row, column in rng.integers(0, CANVAS, (8, 2)):
        x, y = placement.to_cells(np.array([column, row], float))
        wanted = sum(
            digit[j, i] * max(0.0, 1 - abs(x - i)) * max(0.0, 1 - abs(y - j)) for j in range(8) for i in range(8)
        )
        assert abs(drawn[row, column] - wanted) < 1e-9


def test_key_points_move_with_the_drawn_ink():
    """The centre of mass of what is drawn is where the digit's own went; tops and bottoms lie on ink."""
    for index in range(0, 1797, 90):
        placement = Placement(3.0, 0.01 * (index % 60) - 0.3, 23.0 + index % 5 / 3, 24.0)
        digit = digit_images()[index]
        drawn, points = draw(digit, placement), placement.to_canvas(key_points(digit))
        y, x = np.indices(drawn.shape)
        centre = np.array([(drawn * x).sum(), (drawn * y).sum()]) / drawn.sum()
        np.testing.assert_allclose(points[2], centre, rtol=0, atol=0.1)
        for top_x, top_y in points[:2]:
            row, column = round(top_y), round(top_x)
            assert drawn[row - 3 : row + 4, column - 3 : column + 4].max() > 0.4


def test_key_points_lie_within_the_image():
    for index in range(100):
        points = generate("train", index)[1]
        assert points.min() > 0
        assert points.max() < CANVAS - 1


def test_heat_maps_by_loops():
    points = np.array([[10.3, 20.9], [0.0, 47.0]])
    maps = heat_maps(points, 24)
    for k, (x, y) in enumerate(points):
        for row in range(24):
            for column in range(24):
                # the middle of the CELL x CELL image pixels that are averaged
                px = sum(column * CELL + i for i in range(CELL)) / CELL
                py = sum(row * CELL + i for i in range(CELL)) / CELL
                wanted = math.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * SIGMA**2))
                assert abs(maps[k, row, column] - wanted) < 1e-12


@given(st.floats(2.5, 44.5), st.floats(2.5, 44.5))
def test_points_come_back_from_their_heat_maps(x, y):
    point = np.array([[x, y]])
    np.testing.assert_allclose(points_of(heat_maps(point, 24)), point, rtol=0, atol=1e-6)


def test_points_of_flat_and_of_cut_off_maps():
    np.testing.assert_array_equal(points_of(np.zeros((1, 6, 8))), [[0.5, 0.5]])
    maps = np.zeros((2, 6, 8))
    maps[0, 5, 7] = maps[1, 2, 4] = 1
    np.testing.assert_array_equal(points_of(maps), heatmaps.centre(np.array([[7, 5], [4, 2]])))


def test_parts_of_photographs_are_disjoint():
    (first, train_part), (second, held_out), (third, _) = (
        blur.SPLITS[split] for split in ("train", "validation", "test")
    )
    assert first == second != third
    assert held_out.start - train_part.stop >= 32
    assert {split: blur.photograph(split)[1].shape for split in blur.SPLITS} == {
        "train": (427, 304),
        "validation": (427, 304),
        "test": (427, 640),
    }


def test_blur_by_loops():
    image = np.random.default_rng(3).random((11, 13))
    weights = [math.exp(-(i**2) / (2 * blur.SIGMA**2)) for i in range(-4, 5)]

    def mirrored(place, length):
        place = abs(place)
        return place if place < length else 2 * (length - 1) - place

    got = blur.blurred(image)
    for row in (0, 3, 10):
        for column in (0, 6, 12):
            total = sum(
                weights[i + 4] * weights[j + 4] * image[mirrored(row + i, 11), mirrored(column + j, 13)]
                for i in range(-4, 5)
                for j in range(-4, 5)
            )
            assert abs(got[row, column] - total / sum(weights) ** 2) < 1e-12


def test_codes_are_the_blurred_luminance_with_its_noise():
    codes, sharp = blur.photograph("train")
    assert codes.dtype == np.uint8
    assert sharp.min() >= 0
    assert sharp.max() <= 1
    rest = codes - 255 * blur.blurred(sharp)
    inside = (codes > 5) & (codes < 250)
    assert abs(rest[inside].mean()) < 0.02
    assert abs(rest[inside].std() - math.hypot(blur.NOISE, 12**-0.5)) < 0.03


def test_tiles_put_together_are_the_photograph():
    for image, parts in zip(blur.photograph("test"), blur.tiles("test", 64), strict=True):
        assert parts.shape == (6 * 10, 64, 64)
        for number in (0, 1, 10, 59):
            row, column = divmod(number, 10)
            np.testing.assert_array_equal(
                parts[number], image[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
            )


def test_crops_are_turned_windows_of_the_training_part():
    codes, sharp = blur.crops(5, 9, 4, 16)
    again = blur.crops(5, 9, 4, 16)
    np.testing.assert_array_equal(codes, again[0])
    whole, light = blur.photograph("train")
    windows = np.lib.stride_tricks.sliding_window_view(light, (16, 16))
    for crop, bright in zip(codes, sharp, strict=True):
        found = False
        for turns in range(4):
            for mirror in (1, -1):
                turned = np.rot90(bright[:, ::mirror], turns)
                for row, column in np.argwhere(windows[:, :, 0, 0] == turned[0, 0]):
                    if np.array_equal(windows[row, column], turned):
                        window = whole[row : row + 16, column : column + 16]
                        found |= np.array_equal(window, np.rot90(crop[:, ::mirror], turns))
        assert found


@pytest.mark.parametrize("coding", CODINGS.values(), ids=list(CODINGS))
@pytest.mark.parametrize("task", [SmallKeyPoints(), SmallDeblurring()], ids=lambda task: task.name)
def test_right_outputs_read_as_the_right_values(task, coding):
    """The layout of outputs: what a perfect network would output is read as what it should mean."""
    codes, wanted, weight = batch_tensors(task, coding, 0, 3)
    examples = task.batch(0, 3, 16)
    assert wanted.shape == (16, coding.heads, *examples.values.shape[1:])
    assert weight.shape == (16, 1, *examples.values.shape[1:])
    network = MapNet(coding, task.channels, task.maps, task.widths)
    shape = network.eval()(codes).shape
    values = float_disparity(by_map(wanted.reshape(shape).numpy(), task.maps), coding)
    np.testing.assert_allclose(values, examples.values, rtol=0, atol=1e-5)
    right = task.score(task.reading(values), examples.readings)
    assert right > 90 if task.higher_is_better else right < 0.5  # points near the border can't be read exactly


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training_module, "EVERY", 2)
    task, coding = SmallKeyPoints(), CODINGS["p2"]

    def stop(step):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task, coding, 1, tmp_path / "a.pt", 4, stop)
    resumed = train(task, coding, 1, tmp_path / "a.pt", 4).state_dict()
    whole = train(task, coding, 1, tmp_path / "b.pt", 4).state_dict()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    with pytest.raises(IntsimError, match="another run"):
        train(task, coding, 2, tmp_path / "a.pt", 4)
    (tmp_path / "a.pt").write_bytes(b"nothing")
    with pytest.raises(IntsimError, match="damaged"):
        train(task, coding, 1, tmp_path / "a.pt", 4)


@pytest.mark.parametrize(
    ("task", "coding"), [(SmallKeyPoints(), "c1"), (SmallDeblurring(), "p0")], ids=["keypoints", "deblurring"]
)
def test_from_training_to_integers(task, coding, tmp_path, monkeypatch):
    """Three steps, quantized, exported, run as integers; the file is exact, and a second call only reads."""
    monkeypatch.setattr("models.tasks.network.CODINGS", {coding: CODINGS[coding]})
    monkeypatch.setattr(training_module, "NORMALIZATION_BATCHES", 2)
    monkeypatch.setattr("models.tasks.measure.CALIBRATION_STEPS", 2)
    examples = task.examples
    monkeypatch.setattr(type(task), "examples", lambda self, split, count=None: examples(split, 10))
    path = command.train_all(task, tmp_path / "out", tmp_path, seeds=(4,), steps=3)
    document = json.loads(path.read_text())
    (row,) = document["rows"]
    assert (row["network"], row["seed"]) == (coding, 4)
    assert all(math.isfinite(row[key]) for key in ("fp32", "w8a8"))
    assert set(row["error"]) == {"mean", "median", "rmse", "robust_sd", "jump_rate"}
    assert f"| {coding} |" in command.table(document)
    exported = tmp_path / "out" / f"{task.name}_{coding}_s4.onnx"
    test = task.examples("test")
    verdict = intsim.verify(exported, "exact", {"codes": test.codes[:BATCH].astype(np.float32)}, references=False)
    assert verdict.verdict == "exact"
    values = integer_values(exported, test, CODINGS[coding], "exact")
    assert values.shape == test.values.shape
    assert task.score(task.reading(values), test.readings) == row["w8a8"]
    before = exported.stat().st_mtime_ns
    command.train_all(task, tmp_path / "out", tmp_path, seeds=(4,), steps=3)
    assert exported.stat().st_mtime_ns == before


def test_command_line_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tasks", "report", "keypoints", "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        command.main()
    assert "no results; run python -m models.tasks train keypoints" in capsys.readouterr().err
    assert set(TASKS) == {"keypoints", "deblurring"}
    with pytest.raises(IntsimError, match="there are keypoints, deblurring"):
        task_named("pose")
