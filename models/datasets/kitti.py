"""KITTI 2012 and 2015: street scenes, sparse disparities of a laser scanner (Geiger 2012, Menze and Geiger 2015).

Maps are 16-bit PNG files that hold disparity x 256, 0 where unknown; only frames ``*_10.png`` have any. ``occ`` maps
contain all known points, ``noc`` maps those that are seen in both images. The testing split comes without maps.
"""

from __future__ import annotations

from pathlib import Path

from models.datasets.images import read_disparity_png, seen_by_disparity
from models.datasets.pairs import DatasetSplit, PairFiles, Pairs, folder, listed

FOLDERS = {"train": "training", "test": "testing"}


def kitti_2012(root: Path, split: DatasetSplit = "train") -> Pairs:
    """Pairs of KITTI 2012 in ``training`` or ``testing``: image_0, image_1, or else colored_0, colored_1; disp_occ.

    The grey images come first, being what the networks take. Where ``disp_noc`` is there, it decides what is valid;
    else hidden points count, too. Nothing is known in the testing split.

    Raises:
        IntsimError: a folder or a file is missing. Reading a pair raises it for broken files and unequal sizes.
    """
    images = folder(root / FOLDERS[split], f"KITTI 2012's {FOLDERS[split]} images")
    views = "image" if (images / "image_0").is_dir() else "colored"
    return _pairs("kitti_2012", images, (f"{views}_0", f"{views}_1"), ("disp_occ", "disp_noc"))


def kitti_2015(root: Path, split: DatasetSplit = "train") -> Pairs:
    """Pairs of KITTI 2015 in ``training`` or ``testing``: image_2, image_3, disp_occ_0, disp_noc_0; as `kitti_2012`.

    Raises:
        IntsimError: a folder or a file is missing. Reading a pair raises it for broken files and unequal sizes.
    """
    images = folder(root / FOLDERS[split], f"KITTI 2015's {FOLDERS[split]} images")
    return _pairs("kitti_2015", images, ("image_2", "image_3"), ("disp_occ_0", "disp_noc_0"))


def _pairs(title: str, images: Path, views: tuple[str, str], maps: tuple[str, str]) -> Pairs:
    left, right = (folder(images / view, "PNG images NNNNNN_10.png") for view in views)
    occ, noc = (images / name for name in maps)
    if images.name == FOLDERS["train"]:
        folder(occ, "disparity maps NNNNNN_10.png")
    files = [
        PairFiles(
            f"{title} {path.stem}",
            path,
            right / path.name,
            occ / path.name if occ.is_dir() else None,
            read_disparity_png,
            noc / path.name if noc.is_dir() else None,
            seen_by_disparity,
        )
        for path in sorted(left.glob("*_10.png"))
    ]
    return listed(files, left, "*_10.png")
