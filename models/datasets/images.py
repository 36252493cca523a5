"""The image files of stereo data sets, each read as what it must be: a view, a 16-bit disparity map, a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intsim.errors import IntsimError
from models.datasets.pfm import read_pfm

MASK_LEVELS = (0, 128, 255)
"""Levels of ``mask0nocc.png``: unknown, hidden in the other view, seen in both."""


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A view as ``(H, W)`` uint8 grey, Rec. 601 luma as Pillow's mode ``L`` computes it.

    Raises:
        IntsimError: no such image, a broken one, or one that isn't 8-bit grey or colour.
    """
    with _opened(path) as image:
        if image.mode not in ("L", "LA", "P", "RGB", "RGBA"):
            raise IntsimError(f"{path}: mode {image.mode}; give a view of 8 bits a channel, grey or colour")
        return np.asarray(image.convert("L"))


def read_disparity_png(path: Path) -> NDArray[np.float32]:
    """KITTI's disparity map: 16-bit grey, value / 256 pixels, 0 unknown -> ``(H, W)`` float32 pixels.

    Raises:
        IntsimError: no such image, a broken one, or one that isn't 16-bit grey.
    """
    with _opened(path) as image:
        if not image.mode.startswith("I"):
            raise IntsimError(f"{path}: mode {image.mode}; a disparity map must be a 16-bit grey PNG")
        return np.asarray(image).astype(np.float32) / np.float32(256)


def read_disparity_pfm(path: Path) -> NDArray[np.float32]:
    """A disparity map in PFM, infinite where unknown -> ``(H, W)`` float32 pixels, 0 where unknown.

    Raises:
        IntsimError: no such file, a broken one, colour, NaN, or disparities below zero.
    """
    disparity = read_pfm(path)
    if disparity.ndim != 2:
        raise IntsimError(f"{path}: a colour PFM file; a disparity map has one channel")
    if np.isnan(disparity).any():
        raise IntsimError(f"{path}: holds NaN; mark unknown disparities by infinity")
    if (disparity < 0).any():
        raise IntsimError(f"{path}: disparities below 0; give the left view's, with left[x] matching right[x - d]")
    return np.where(np.isinf(disparity), np.float32(0), disparity)


def seen_by_mask(path: Path) -> NDArray[np.bool_]:
    """Middlebury's and ETH3D's ``mask0nocc.png``: 255 where a point is seen in both views -> ``(H, W)`` bool.

    Raises:
        IntsimError: no such image, a broken one, or other levels than `MASK_LEVELS`.
    """
    with _opened(path) as image:
        mask = np.asarray(image)
        if image.mode != "L" or not np.isin(mask, MASK_LEVELS).all():
            raise IntsimError(f"{path}: not a mask; it must be 8-bit grey with the levels 0, 128 and 255 only")
        return mask == 255


def seen_by_disparity(path: Path) -> NDArray[np.bool_]:
    """KITTI's ``disp_noc`` map: disparities of the points seen in both views -> ``(H, W)`` bool; see above."""
    return read_disparity_png(path) > 0


def _opened(path: Path) -> Any:
    """The decoded image."""
    try:
        image = Image.open(path)
        image.load()
    # Pillow reports broken PNG files as SyntaxError, too.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no such file" if not path.exists() else "broken or not an image"
        raise IntsimError(f"{path}: {reason}; fetch the file again") from error
    return image
