"""Pairs of any size, brought to the size a network takes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from intsim.errors import IntsimError
from models.stereo import DISPARITY_RANGE, Pair


def fit(pair: Pair, height: int, width: int, disparity_range: float = DISPARITY_RANGE) -> Pair:
    """A pair at `height` x `width` pixels: the largest centred crop of that aspect, area-averaged down.

    The ground truth is sampled, not averaged, and divided by the factor: it stays exact at edges of objects. A
    disparity that isn't below `disparity_range` afterwards counts as unknown (0). Valid is sampled, too, and needs a
    known disparity and a match inside the smaller right image. A pair that is smaller than asked for is enlarged.

    Raises:
        IntsimError: a height or width below 1.
    """
    if height < 1 or width < 1:
        raise IntsimError(f"{pair.name}: {width} x {height} pixels asked for; give a width and height of at least 1")
    rows, columns = pair.disparity.shape
    factor = min(rows / height, columns / width)
    # Rounding of the factor must not push the crop beyond the image.
    top, left = max(0.0, (rows - factor * height) / 2), max(0.0, (columns - factor * width) / 2)
    box = (left, top, min(float(columns), left + factor * width), min(float(rows), top + factor * height))
    views = [
        np.asarray(Image.fromarray(view).resize((width, height), Image.Resampling.BOX, box=box))
        for view in (pair.left, pair.right)
    ]
    pick = np.ix_(
        (top + (np.arange(height) + 0.5) * factor).astype(np.intp),
        (left + (np.arange(width) + 0.5) * factor).astype(np.intp),
    )
    disparity = pair.disparity[pick] / np.float32(factor)
    known = (disparity > 0) & (disparity < disparity_range)
    disparity = np.where(known, disparity, np.float32(0))
    valid = pair.valid[pick] & known & (np.arange(width) - disparity >= 0)
    return Pair(views[0], views[1], disparity, valid, pair.name)
