"""SceneFlow: FlyingThings3D, Driving and Monkaa, rendered, 960 x 540 pixels (Mayer et al., CVPR 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from intsim.errors import IntsimError
from models.datasets.images import read_disparity_pfm, seen_by_mask
from models.datasets.pairs import DatasetSplit, PairFiles, Pairs, folder, listed

FOLDERS = {"train": "TRAIN", "test": "TEST"}


def scene_flow(root: Path, split: DatasetSplit = "train", frames: Literal["clean", "final"] = "clean") -> Pairs:
    """Pairs of one of the three sets; `root` holds ``frames_cleanpass`` (or ``frames_finalpass``) and ``disparity``.

    ``frames_cleanpass/.../left/NAME.png`` (or ``.webp``, also under ``frames_cleanpass_webp``), ``.../right/NAME.png``
    and ``disparity/.../left/NAME.pfm``, whose values are positive. FlyingThings3D is divided into ``TRAIN`` and
    ``TEST``; the other sets have a training split only. Hidden points count as valid: the set has no masks.

    Raises:
        IntsimError: a folder or a file is missing. Reading a pair raises it for broken files and unequal sizes.
    """
    folder(root, "frames_cleanpass and disparity")
    plain = root / f"frames_{frames}pass"
    base = plain if plain.is_dir() else folder(root / f"{plain.name}_webp", f"{plain.name} (or {plain.name}_webp)")
    divided = any((base / name).is_dir() for name in FOLDERS.values())
    if split == "test" and not divided:
        raise IntsimError(f"{base}: no folder TEST; use the split train, the only one of Driving and Monkaa")
    images = folder(base / FOLDERS[split], f"the {split} split") if divided else base
    truth = folder(root / "disparity", "the disparity maps (PFM)")
    files = []
    for left in sorted(path for path in images.rglob("left/*") if path.suffix in (".png", ".webp")):
        inner = left.relative_to(base).with_suffix("")
        right = left.parent.with_name("right") / left.name
        disparity = truth / inner.with_suffix(".pfm")
        files.append(
            PairFiles(f"scene_flow {inner.as_posix()}", left, right, disparity, read_disparity_pfm, None, seen_by_mask)
        )
    return listed(files, images, "left/*.png or left/*.webp")
