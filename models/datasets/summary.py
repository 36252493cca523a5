"""What a data set holds, found by reading every pair once and keeping none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.table import Table

from models.stereo import Pair

STEP = 16
"""Disparities are counted in bins of 1/16 pixel."""

LAST = 4096
"""Pixels; larger disparities, which are beyond all images, are counted with it."""

LEVELS = (1, 50, 99)
"""Percentiles shown."""


class Census:
    """Pixel counts of pairs of one size, and a histogram of their known disparities."""

    def __init__(self) -> None:
        """Nothing counted."""
        self.pairs = self.pixels = self.valid = 0
        self.bins = np.zeros(0, np.int64)
        self.largest = 0.0

    def add(self, pair: Pair) -> None:
        """Count a pair."""
        known = pair.disparity[pair.disparity > 0]
        self.pairs += 1
        self.pixels += pair.disparity.size
        self.valid += int(pair.valid.sum())
        if known.size:
            self.largest = max(self.largest, float(known.max()))
            counts = np.bincount((np.minimum(known, LAST) * STEP).astype(np.int64), minlength=len(self.bins))
            counts[: len(self.bins)] += self.bins
            self.bins = counts

    @property
    def known(self) -> int:
        """Pixels whose disparity is known."""
        return int(self.bins.sum())

    def percentile(self, level: float) -> float:
        """Lower edge, in pixels, of the bin with the smallest disparity that `level` % of the known ones don't exceed.

        Not a number if none is known.
        """
        if not self.known:
            return float("nan")
        return float(np.searchsorted(np.cumsum(self.bins), level / 100 * self.known)) / STEP


def census(pairs: Iterable[Pair]) -> dict[tuple[int, int], Census]:
    """Counts by image size ``(H, W)``, the sizes in order."""
    counts: dict[tuple[int, int], Census] = {}
    for pair in pairs:
        height, width = pair.disparity.shape
        counts.setdefault((height, width), Census()).add(pair)
    return dict(sorted(counts.items()))


def table(title: str, counts: dict[tuple[int, int], Census]) -> Table:
    """The counts, one row a size; shares of all pixels, disparities in pixels."""
    result = Table(title=title)
    for heading in ("size", "pairs", "known", "valid", *(f"{level} % px" for level in LEVELS), "max px"):
        result.add_column(heading, justify="right")
    for (height, width), one in counts.items():
        shares = (f"{count / one.pixels:.1%}" for count in (one.known, one.valid))
        disparities = [one.percentile(level) for level in LEVELS] + [one.largest]
        figures = (f"{value:.2f}" if one.known else "-" for value in disparities)
        result.add_row(f"{width} x {height}", str(one.pairs), *shares, *figures)
    return result
