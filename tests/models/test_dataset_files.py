"""Files that aren't what they should be, sizes, and the table of the command line."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from intsim.errors import IntsimError
from models.datasets import __main__ as command
from models.datasets import fit, kitti_2015, middlebury, write_pfm
from models.datasets.summary import STEP, Census, census
from models.stereo import DISPARITY_RANGE, Pair

SHAPE = (6, 40)
GREY = np.full(SHAPE, 90, np.uint8)
SMALL = np.full((6, 39), 90, np.uint8)
FIVE = np.full(SHAPE, 5, np.float32)


@pytest.fixture
def scene(tmp_path):
    """A Middlebury scene at disparity 5, all of it visible."""
    folder = tmp_path / "One"
    folder.mkdir()
    for name in ("im0.png", "im1.png"):
        Image.fromarray(GREY).save(folder / name)
    Image.fromarray(np.full(SHAPE, 255, np.uint8)).save(folder / "mask0nocc.png")
    write_pfm(folder / "disp0GT.pfm", FIVE)
    return folder


@pytest.fixture
def street(tmp_path):
    """The same as a KITTI 2015 pair."""
    for name in ("image_2", "image_3", "disp_occ_0", "disp_noc_0"):
        (tmp_path / "training" / name).mkdir(parents=True)
        image = GREY if name.startswith("image") else np.full(SHAPE, 5 * 256, np.uint16)
        Image.fromarray(image).save(tmp_path / "training" / name / "000000_10.png")
    return tmp_path / "training"


def _with(value):
    array = FIVE.copy()
    array[2, 3] = value
    return array


def test_both_are_read_as_meant(scene, street):
    for pair in (middlebury(scene.parent)[0], kitti_2015(street.parent)[0]):
        np.testing.assert_array_equal(pair.disparity, FIVE)
        np.testing.assert_array_equal(pair.valid, np.broadcast_to(np.arange(40) >= 5, SHAPE))


@pytest.mark.parametrize(
    ("name", "image", "complaint"),
    [
        ("im0.png", np.full(SHAPE, 900, np.uint16), "8 bits a channel"),
        ("im1.png", np.full(SHAPE, 900, np.uint16), "8 bits a channel"),
        ("im1.png", SMALL, "39 x 6 pixels, but the left image has 40 x 6"),
        ("mask0nocc.png", SMALL.repeat(2, 0), "not a mask"),
        ("mask0nocc.png", np.zeros((6, 39), np.uint8), "39 x 6 pixels"),
        ("mask0nocc.png", np.zeros((*SHAPE, 3), np.uint8), "not a mask"),
        ("disp0GT.pfm", FIVE[1:], "40 x 5 pixels"),
        ("disp0GT.pfm", _with(np.nan), "NaN"),
        ("disp0GT.pfm", _with(-5), "below 0"),
        ("disp0GT.pfm", _with(-np.inf), "below 0"),
        ("disp0GT.pfm", np.zeros((*SHAPE, 3), np.float32), "colour"),
    ],
)
def test_wrong_files_of_a_scene_are_named(scene, name, image, complaint):
    if name.endswith(".pfm"):
        write_pfm(scene / name, image)
    else:
        Image.fromarray(image).save(scene / name)
    with pytest.raises(IntsimError, match=f"One.{name}: .*{complaint}") as caught:
        middlebury(scene.parent)[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["disp_occ_0", "disp_noc_0"])
@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.full(SHAPE, 5, np.uint8), "16-bit"),
        (np.full((*SHAPE, 3), 5, np.uint8), "16-bit"),
        (np.full((6, 39), 5, np.uint16), "39 x 6 pixels"),
    ],
)
def test_wrong_maps_of_kitti_are_named(street, name, image, complaint):
    Image.fromarray(image).save(street / name / "000000_10.png")
    with pytest.raises(IntsimError, match=f"{name}.000000_10.png: .*{complaint}"):
        kitti_2015(street.parent)[0]


def _pair_or_complaint(root):
    try:
        return middlebury(root)[0], ""
    except IntsimError as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["im0.png", "im1.png", "mask0nocc.png", "disp0GT.pfm"])
def test_truncated_files_are_refused_or_complete(scene, name):
    """Cut anywhere: a file is named as broken, or only what comes after its pixels is missing."""
    whole = middlebury(scene.parent)[0]
    content = (scene / name).read_bytes()
    complete = []
    for length in range(0, len(content), 37 if name.endswith(".pfm") else 1):
        (scene / name).write_bytes(content[:length])
        pair, message = _pair_or_complaint(scene.parent)
        complete.append(pair is not None)
        if pair is None:
            assert message.startswith(str(scene / name))
            continue
        for key in ("left", "right", "disparity", "valid"):
            np.testing.assert_array_equal(getattr(pair, key), getattr(whole, key))
    # No PNG file is complete before its last chunk but one; no PFM file is before its end.
    assert not any(complete[: -20 if name.endswith("png") else None])


@pytest.mark.parametrize("unknown", [0, np.inf])
def test_unknown_disparities_are_zero_and_not_valid(scene, unknown):
    write_pfm(scene / "disp0GT.pfm", np.full(SHAPE, unknown, np.float32))
    pair = middlebury(scene.parent)[0]
    assert not pair.disparity.any()
    assert not pair.valid.any()


def test_occluded_points_are_known_but_not_valid(scene):
    levels = np.resize(np.array([0, 128, 255], np.uint8), SHAPE)
    Image.fromarray(levels).save(scene / "mask0nocc.png")
    pair = middlebury(scene.parent)[0]
    np.testing.assert_array_equal(pair.disparity, FIVE)
    np.testing.assert_array_equal(pair.valid, (levels == 255) & (np.arange(40) >= 5))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("width=41\nheight=6\n", "im0.png: 40 x 6 pixels, but its calib.txt says 41 x 6"),
        ("width=x\nheight=6\n", "whole"),
    ],
)
def test_calibration_of_another_size_is_refused(scene, text, complaint):
    (scene / "calib.txt").write_text("doffs=1.25\nwidth=40\nheight=6\n")
    assert middlebury(scene.parent)[0].valid.any()
    (scene / "calib.txt").write_text(text)
    with pytest.raises(IntsimError, match=complaint):
        middlebury(scene.parent)[0]


def _random_pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, 256, (2, height, width), dtype=np.uint8)
    disparity = (rng.integers(0, 30, (height, width)) * rng.integers(0, 2, (height, width))).astype(np.float32)
    valid = (disparity > 0) & (np.arange(width) - disparity >= 0) & (rng.random((height, width)) < 0.8)
    return Pair(left, right, disparity, valid, "random")


def test_fit_at_the_same_size_only_forgets_what_is_out_of_range():
    pair = _random_pair(12, 50)
    same = fit(pair, 12, 50)
    known = pair.disparity < DISPARITY_RANGE
    assert not known.all()
    np.testing.assert_array_equal(same.left, pair.left)
    np.testing.assert_array_equal(same.right, pair.right)
    np.testing.assert_array_equal(same.disparity, np.where(known, pair.disparity, 0))
    np.testing.assert_array_equal(same.valid, pair.valid & known)
    np.testing.assert_array_equal(fit(pair, 12, 50, 64).valid, pair.valid)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("extra", [(0, 0), (0, 6), (8, 0)])
def test_fit_by_whole_factors_against_loops(factor, extra):
    height, width = 5, 20
    tall, wide = height * factor + extra[0], width * factor + extra[1]
    pair = _random_pair(tall, wide, factor)
    small = fit(pair, height, width, 8)
    assert small.name == "random"
    assert small.disparity.dtype == np.float32
    top, left = extra[0] // 2, extra[1] // 2
    for y in range(height):
        for x in range(width):
            rows, columns = (
                range(top + y * factor, top + (y + 1) * factor),
                range(left + x * factor, left + (x + 1) * factor),
            )
            for view, source in ((small.left, pair.left), (small.right, pair.right)):
                mean = sum(int(source[i, j]) for i in rows for j in columns) / factor**2
                # Rows and columns are averaged one after the other, and both rounded.
                assert abs(int(view[y, x]) - mean) <= 1
            row, column = rows[factor // 2], columns[factor // 2]
            disparity = pair.disparity[row, column] / np.float32(factor)
            known = 0 < disparity < 8
            assert small.disparity[y, x] == (disparity if known else 0)
            assert small.valid[y, x] == (known and pair.valid[row, column] and x - disparity >= 0)
    assert small.valid.any()


@pytest.mark.parametrize(
    ("rows", "columns", "height", "width"), [(500, 741, 400, 600), (500, 741, 600, 900), (7, 9, 5, 5)]
)
def test_fit_takes_any_size(rows, columns, height, width):
    """The first one's factor is rounded up, so that the crop would begin at a negative column."""
    pair = Pair(*np.full((2, rows, columns), 7, np.uint8), *np.full((1, rows, columns), 2, np.float32), None, "plain")
    pair = Pair(pair.left, pair.right, pair.disparity, pair.disparity > 0, "plain")
    other = fit(pair, height, width)
    assert other.left.shape == other.right.shape == other.disparity.shape == other.valid.shape == (height, width)
    factor = min(rows / height, columns / width)
    np.testing.assert_array_equal(other.disparity, np.full((height, width), 2 / np.float32(factor), np.float32))
    np.testing.assert_array_equal(other.left, np.full((height, width), 7))


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8)])
def test_fit_refuses_no_pixels(size):
    with pytest.raises(IntsimError, match="at least 1"):
        fit(_random_pair(8, 30), *size)


def test_census_counts_and_orders():
    pairs = [_random_pair(10, 40, 1), _random_pair(8, 50, 2), _random_pair(10, 40, 3)]
    counts = census(iter(pairs))
    assert list(counts) == [(8, 50), (10, 40)]
    both = counts[10, 40]
    known = np.concatenate([p.disparity[p.disparity > 0] for p in (pairs[0], pairs[2])])
    assert (both.pairs, both.pixels, both.known) == (2, 800, len(known))
    assert both.valid == pairs[0].valid.sum() + pairs[2].valid.sum()
    assert both.largest == known.max()
    for level in (1, 25, 50, 99, 100):
        expected = min(d for d in known.tolist() if 100 * (known <= d).sum() >= level * len(known))
        assert both.percentile(level) == expected


def test_census_resolves_sixteenths_and_survives_absurd_values():
    one = Census()
    assert np.isnan(one.percentile(50))
    disparity = np.array([[2.0, 2.0 + 0.9 / STEP, 2.0 + 1.1 / STEP, 3e38]], np.float32)
    one.add(Pair(GREY[:1, :4], GREY[:1, :4], disparity, disparity > 0, "absurd"))
    assert [one.percentile(level) for level in (25, 50, 75)] == [2.0, 2.0, 2.0 + 1 / STEP]
    assert one.largest > 1e38


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["datasets", *map(str, arguments)])
    command.main()


def test_command_prints_a_table(scene, street, monkeypatch, capsys):
    _run(monkeypatch, "middlebury", scene.parent, "--limit", 1)
    for option in ("train", "test"):
        (street.parent / "testing").exists() or street.parent.joinpath("testing").symlink_to(street)
        _run(monkeypatch, "kitti_2015", street.parent, "--split", option)
    words = capsys.readouterr().out.split("\n")
    row = next(line.split("│")[1:-1] for line in words if "40 x 6" in line)
    assert [cell.strip() for cell in row] == ["40 x 6", "1", "100.0%", "87.5%", "5.00", "5.00", "5.00", "5.00"]
    assert sum("40 x 6" in line for line in words) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["kitti_2015", "nowhere"], "nowhere/training: no such folder"),
        (["eth3d", "nowhere", "--limit", "0"], "at least 1"),
        (["eth3d", "nowhere", "--frames", "clean"], "leave the option out"),
    ],
)
def test_command_leaves_with_two_and_one_line(monkeypatch, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as left:
        _run(monkeypatch, *arguments)
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert complaint in message
    assert message.count("\n") == 1


def test_command_runs_as_a_module(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "models.datasets", "scene_flow", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "no such folder" in result.stderr
