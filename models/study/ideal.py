"""What the curve itself could give: the ideal channel of `intsim.hilbert.channel`, as a section of the page."""

from __future__ import annotations

from functools import cache
from typing import Any

from intsim.hilbert.channel import ChannelErrors, channel_errors, plain_errors
from models.study.tables import markdown

SAMPLES = 20_000
SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Noise on each coordinate, in output codes; networks of this study have about 1."""
CURVES: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
    ("p1", 2, 1, {"spacing": 224}),
    ("p2", 2, 2, {"spacing": 64}),
    ("p3", 2, 3, {"spacing": 32}),
    ("p4", 2, 4, {"spacing": 16}),
    ("c1", 3, 1, {"spacing": 224}),
    ("c2", 3, 2, {"spacing": 64}),
    ("p3, inset 0.1", 2, 3, {"inset": 0.1}),
    ("p3, turns rounded by 1/4 edge", 2, 3, {"spacing": 32, "radius": 0.25}),
    ("p3, turns rounded by 1/2 edge", 2, 3, {"spacing": 32, "radius": 0.5}),
    ("p3, guide and window 1/16", 2, 3, {"spacing": 32, "window": 1 / 16}),
    ("p3, guide and weight 1/16", 2, 3, {"spacing": 32, "weight": 1 / 16}),
    ("c2, guide and window 1/16", 3, 2, {"spacing": 64, "window": 1 / 16}),
)

_SAID = f"""\
An ideal network: uniform q, independent Gaussian noise of the same size on each coordinate and on the guide, rounding
to 8-bit codes, closest point; {SAMPLES:,} samples, seed 0. Cells: robust SD / RMSE of a plain output with the same
noise over those of the curve. No network is ideal, but what fails here can't work there: rounded turns and a wider
inset only cost; at equal length a curve in space has its branches further apart than one in the plane."""


@cache
def channel_table() -> str:
    """The section's text; takes seconds, as it is computed."""
    plain = {sigma: plain_errors(sigma, samples=SAMPLES) for sigma in SIGMAS}
    rows = []
    for name, dimensions, order, options in CURVES:
        measured = [(s, channel_errors(dimensions, order, s, samples=SAMPLES, **options)) for s in SIGMAS]
        rows.append([name, *(_cell(plain[sigma], errors) for sigma, errors in measured)])
    return f"{_SAID}\n\n{markdown(['curve', *(f'{sigma:g} codes' for sigma in SIGMAS)], rows)}"


def _cell(plain: ChannelErrors, curve: ChannelErrors) -> str:
    return f"{plain.robust_sd / curve.robust_sd:.2f} / {plain.rmse / curve.rmse:.2f}"
