"""Every data set's layout, written from generated pairs and read back."""

from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from intsim.errors import IntsimError
from models.datasets import DATASETS, eth3d, kitti_2012, kitti_2015, middlebury, scene_flow, write_pfm
from models.stereo import generate

HEIGHT, WIDTH = 20, 36


@lru_cache
def _made(index):
    """A generated pair whose disparities KITTI's files can hold, a few of them unknown."""
    pair = generate("test", index, HEIGHT, WIDTH)
    disparity = np.floor(pair.disparity * 256) / np.float32(256)
    disparity[index, ::5] = 0
    return pair, disparity


def _view(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))


def _sixteen_bits(path, disparity):
    _view(path, np.rint(disparity * 256).astype(np.uint16))


def _pfm(path, disparity, unknown=np.inf):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pfm(path, np.where(disparity > 0, disparity, np.float32(unknown)))


def _mask(path, disparity, seen):
    _view(path, np.where(disparity == 0, 0, np.where(seen, 255, 128)).astype(np.uint8))


def write_scene_flow(root, names, frames="frames_cleanpass", suffix=".png"):
    for index, name in enumerate(names):
        pair, disparity = _made(index)
        _view((root / frames / name).with_suffix(suffix), pair.left)
        _view((root / frames / name.replace("left", "right")).with_suffix(suffix), pair.right)
        _pfm((root / "disparity" / name).with_suffix(".pfm"), disparity, unknown=0)


def write_kitti(root, views=("image_2", "image_3"), maps=("disp_occ_0", "disp_noc_0")):
    for index in range(3):
        pair, disparity = _made(index)
        for view, image in zip(views, (pair.left, pair.right), strict=True):
            _view(root / f"training/{view}/{index:06}_10.png", image)
            _view(root / f"training/{view}/{index:06}_11.png", image)
            _view(root / f"testing/{view}/{index:06}_10.png", image)
        _sixteen_bits(root / f"training/{maps[0]}/{index:06}_10.png", disparity)
        _sixteen_bits(root / f"training/{maps[1]}/{index:06}_10.png", disparity * pair.valid)


def write_scenes(root, names, truth="disp0GT.pfm", apart=None, masks=True, known=True):
    for index, name in enumerate(names):
        pair, disparity = _made(index)
        home = (apart or root) / name
        _view(root / name / "im0.png", pair.left)
        _view(root / name / "im1.png", pair.right)
        calibration = f"cam0=[1 0 0; 0 1 0; 0 0 1]\ndoffs=3.5\nwidth={WIDTH}\nheight={HEIGHT}\nndisp=24\n"
        (root / name / "calib.txt").write_text(calibration)
        if known:
            _pfm(home / truth, disparity)
        if known and masks:
            _mask(home / "mask0nocc.png", disparity, pair.valid)


def _expect(pairs, names, masks):
    assert [entry.name for entry in pairs.files] == names
    assert len(pairs) == len(names)
    for index, read in enumerate(pairs):
        pair, disparity = _made(index)
        inside = np.array([[0 < d <= x for x, d in enumerate(row)] for row in disparity.tolist()])
        for array, expected in (
            (read.left, pair.left),
            (read.right, pair.right),
            (read.disparity, disparity),
            (read.valid, inside & pair.valid if masks else inside),
        ):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
        assert read.name == names[index]
        assert 0 < read.valid.sum() < (read.disparity > 0).sum()


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_flying_things(tmp_path, suffix):
    frames = "frames_cleanpass" + ("_webp" if suffix == ".webp" else "")
    names = ["TRAIN/A/0000/left/0006", "TRAIN/A/0000/left/0007", "TRAIN/B/0000/left/0006"]
    write_scene_flow(tmp_path, names, frames, suffix)
    _expect(scene_flow(tmp_path), [f"scene_flow {name}" for name in names], masks=False)
    with pytest.raises(IntsimError, match="TEST: no such folder"):
        scene_flow(tmp_path, "test")
    write_scene_flow(tmp_path, ["TEST/C/0149/left/0015"], frames, suffix)
    assert [pair.name for pair in scene_flow(tmp_path, "test")] == ["scene_flow TEST/C/0149/left/0015"]
    assert len(scene_flow(tmp_path)) == 3


def test_driving_and_monkaa(tmp_path):
    names = ["35mm/scene_forwards/fast/left/0001", "a_rain_of_stones_x2/left/0000"]
    write_scene_flow(tmp_path, names, "frames_finalpass")
    _expect(scene_flow(tmp_path, frames="final"), [f"scene_flow {name}" for name in names], masks=False)
    with pytest.raises(IntsimError, match="use the split train"):
        scene_flow(tmp_path, "test", "final")
    with pytest.raises(IntsimError, match=r"frames_cleanpass_webp: no such folder"):
        scene_flow(tmp_path)


@pytest.mark.parametrize("views", [("image_0", "image_1"), ("colored_0", "colored_1")])
def test_kitti_2012(tmp_path, views):
    write_kitti(tmp_path, views, ("disp_occ", "disp_noc"))
    names = [f"kitti_2012 00000{index}_10" for index in range(3)]
    _expect(kitti_2012(tmp_path), names, masks=True)


def test_kitti_2012_prefers_the_grey_images(tmp_path):
    for views in (("colored_0", "colored_1"), ("image_0", "image_1")):
        write_kitti(tmp_path, views, ("disp_occ", "disp_noc"))
    assert {entry.left.parent.name for entry in kitti_2012(tmp_path).files} == {"image_0"}


def test_kitti_2015_with_and_without_the_map_of_visible_points(tmp_path):
    write_kitti(tmp_path)
    names = [f"kitti_2015 00000{index}_10" for index in range(3)]
    _expect(kitti_2015(tmp_path), names, masks=True)
    (tmp_path / "training/disp_noc_0").rename(tmp_path / "elsewhere")
    _expect(kitti_2015(tmp_path), names, masks=False)


def test_testing_splits_know_nothing(tmp_path):
    write_kitti(tmp_path / "kitti")
    write_scenes(tmp_path / "m/testH", ["Plants"], known=False)
    write_scenes(tmp_path / "e/two_view_test", ["lakeside_1l"], known=False)
    for pairs in (
        kitti_2015(tmp_path / "kitti", "test"),
        middlebury(tmp_path / "m", "test"),
        eth3d(tmp_path / "e", "test"),
    ):
        for index, pair in enumerate(pairs):
            np.testing.assert_array_equal(pair.left, _made(index)[0].left)
            assert not pair.disparity.any()
            assert not pair.valid.any()
        assert len(pairs) in (1, 3)


@pytest.mark.parametrize("masks", [True, False])
def test_middlebury_scenes(tmp_path, masks):
    names = ["Adirondack-perfect", "Backpack-imperfect"]
    write_scenes(tmp_path, names, truth="disp0.pfm", masks=masks)
    _expect(middlebury(tmp_path), [f"middlebury {name}" for name in names], masks)
    with pytest.raises(IntsimError, match="use the split train"):
        middlebury(tmp_path, "test")


def test_middlebury_evaluation_folders(tmp_path):
    write_scenes(tmp_path / "trainingQ", ["Adirondack", "ArtL"])
    _expect(middlebury(tmp_path), ["middlebury Adirondack", "middlebury ArtL"], masks=True)
    write_scenes(tmp_path / "trainingH", ["Adirondack"])
    with pytest.raises(IntsimError, match="trainingH, trainingQ hold the same scenes"):
        middlebury(tmp_path)
    assert len(middlebury(tmp_path / "trainingQ")) == 2


def test_eth3d_with_ground_truth_beside_and_apart(tmp_path):
    names = ["delivery_area_1l", "electro_1s"]
    write_scenes(tmp_path / "a/two_view_training", names)
    write_scenes(tmp_path / "b/two_view_training", names, apart=tmp_path / "b/two_view_training_gt")
    for root in (tmp_path / "a", tmp_path / "b", tmp_path / "a/two_view_training", tmp_path / "b/two_view_training"):
        _expect(eth3d(root), [f"eth3d {name}" for name in names], masks=True)


def test_colour_becomes_luma(tmp_path):
    write_scenes(tmp_path, ["One"])
    colours = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "One/im0.png")
    # Rec. 601: 0.299, 0.587, 0.114, in 16-bit fixed point.
    expected = [[(19595 * r + 38470 * g + 7471 * b + 32768) >> 16 for r, g, b in row] for row in colours.tolist()]
    np.testing.assert_array_equal(middlebury(tmp_path)[0].left, np.array(expected))


def test_pairs_are_read_one_at_a_time(tmp_path):
    names = ["Adirondack", "Jadeplant", "Piano"]
    write_scenes(tmp_path, names)
    (tmp_path / "Jadeplant/im0.png").write_bytes(b"broken")
    pairs = middlebury(tmp_path)
    assert len(pairs) == 3
    assert pairs[2].name == pairs[-1].name == "middlebury Piano"
    assert [entry.name for entry in pairs[1:].files] == ["middlebury Jadeplant", "middlebury Piano"]
    with pytest.raises(IntsimError, match=r"Jadeplant.im0\.png: broken"):
        pairs[1]
    with pytest.raises(IndexError):
        pairs[3]


@pytest.mark.parametrize("name", list(DATASETS))
def test_missing_and_empty_folders_are_named(tmp_path, name):
    with pytest.raises(IntsimError, match=r"nowhere.*: no such folder; give the folder that holds"):
        DATASETS[name](tmp_path / "nowhere", "train")
    for inner in ("frames_cleanpass", "disparity", "training/image_0", "training/image_1", "training/image_2"):
        (tmp_path / inner).mkdir(parents=True)
    for inner in ("training/image_3", "training/disp_occ", "training/disp_occ_0"):
        (tmp_path / inner).mkdir(parents=True)
    with pytest.raises(IntsimError, match="no left images"):
        DATASETS[name](tmp_path, "train")


@pytest.mark.parametrize(
    "missing",
    ["image_3/000001_10.png", "disp_occ_0/000001_10.png", "disp_noc_0/000001_10.png"],
)
def test_missing_partners_are_named(tmp_path, missing):
    write_kitti(tmp_path)
    (tmp_path / "training" / missing).unlink()
    with pytest.raises(IntsimError, match=f"{missing}: missing, and .*image_2/000001_10.png needs it"):
        kitti_2015(tmp_path)


@pytest.mark.parametrize("missing", ["im1.png", "disp0GT.pfm"])
def test_missing_partners_of_a_scene_are_named(tmp_path, missing):
    write_scenes(tmp_path, ["One"])
    (tmp_path / "One" / missing).unlink()
    with pytest.raises(IntsimError, match=f"{missing}: missing"):
        middlebury(tmp_path)


def test_training_maps_must_be_there(tmp_path):
    write_kitti(tmp_path)
    (tmp_path / "training/disp_occ_0").rename(tmp_path / "elsewhere")
    with pytest.raises(IntsimError, match="disp_occ_0: no such folder"):
        kitti_2015(tmp_path)
