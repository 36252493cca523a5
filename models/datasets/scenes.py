"""Middlebury 2014 and ETH3D: one folder a scene, laid out by one convention (Scharstein 2014, Schöps 2017).

``im0.png`` and ``im1.png`` are the left and right view, ``disp0.pfm`` or ``disp0GT.pfm`` the left view's disparities
in pixels, infinite where unknown, ``mask0nocc.png`` says what is seen in both. Disparities are differences of image
columns as they are: ``doffs`` of ``calib.txt`` matters for depth only.
"""

from __future__ import annotations

from pathlib import Path

from intsim.errors import IntsimError
from models.datasets.images import read_disparity_pfm, seen_by_mask
from models.datasets.pairs import DatasetSplit, PairFiles, Pairs, folder, listed

TRUTHS = ("disp0GT.pfm", "disp0.pfm")


def middlebury(root: Path, split: DatasetSplit = "train") -> Pairs:
    """Pairs of Middlebury 2014: `root` holds scene folders, or ``trainingF`` and ``testF`` (or H, or Q) with scenes.

    The first form, that of the single scenes (``Adirondack-perfect``), has a training split only. Scenes of the test
    split have no ground truth, so nothing is known there. Without ``mask0nocc.png`` hidden points count as valid.

    Raises:
        IntsimError: a folder or a file is missing, or several resolutions are there. Reading a pair raises it for
            broken files and unequal sizes.
    """
    folder(root, "Middlebury scenes")
    stem = "training" if split == "train" else "test"
    places = sorted(path for letter in "FHQ" if (path := root / f"{stem}{letter}").is_dir())
    if len(places) > 1:
        names = ", ".join(path.name for path in places)
        raise IntsimError(f"{root}: {names} hold the same scenes in several sizes; give one of these folders itself")
    if split == "test" and not places:
        raise IntsimError(f"{root}: no folder testF, testH or testQ; use the split train for single scenes")
    return _scenes("middlebury", places[0] if places else root, None, known=split == "train")


def eth3d(root: Path, split: DatasetSplit = "train") -> Pairs:
    """Pairs of ETH3D's two-view set: `root` holds ``two_view_training`` and ``two_view_test``, or training scenes.

    Ground truth lies beside the images, or in ``two_view_training_gt`` under the same scene names. Nothing is known in
    the test split. Without ``mask0nocc.png`` hidden points count as valid.

    Raises:
        IntsimError: a folder or a file is missing. Reading a pair raises it for broken files and unequal sizes.
    """
    folder(root, "ETH3D two-view scenes")
    if split == "test":
        testing = root / "two_view_testing"
        images = testing if testing.is_dir() else folder(root / "two_view_test", "the test scenes")
        return _scenes("eth3d", images, None, known=False)
    training = root / "two_view_training"
    images = training if training.is_dir() else root
    truth = images.with_name(f"{images.name}_gt")
    return _scenes("eth3d", images, truth if truth.is_dir() else None, known=True)


def _scenes(title: str, images: Path, apart: Path | None, known: bool) -> Pairs:
    """The scenes of a folder; ground truth beside the images, or else in a folder `apart` with the same scenes."""
    files = []
    for left in sorted(images.glob("*/im0.png")):
        scene = left.parent
        homes = [scene] if apart is None else [scene, apart / scene.name]
        truths = [home / name for home in homes for name in TRUTHS]
        masks = [home / "mask0nocc.png" for home in homes]
        files.append(
            PairFiles(
                f"{title} {scene.name}",
                left,
                scene / "im1.png",
                _first(truths) or truths[-2] if known else None,
                read_disparity_pfm,
                _first(masks) if known else None,
                seen_by_mask,
                calibrated_size(scene / "calib.txt"),
            )
        )
    return listed(files, images, "*/im0.png")


def calibrated_size(path: Path) -> tuple[int, int] | None:
    """``(H, W)`` that the lines ``width=`` and ``height=`` of a calib.txt promise; none if it doesn't, or isn't there.

    Raises:
        IntsimError: the file is no text, or the numbers aren't whole.
    """
    if not path.is_file():
        return None
    try:
        fields = dict(line.strip().split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        return (int(fields["height"]), int(fields["width"])) if {"height", "width"} <= fields.keys() else None
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: width and height must be whole numbers; fetch the file again") from error


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
