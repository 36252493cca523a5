"""What noise on the coordinates does to the decoded scalar: Monte-Carlo of an ideal network.

The network predicts the curve point of a uniform q, each coordinate with independent Gaussian noise, on the grid of its
n-bit output. Real networks' errors are neither independent nor Gaussian; this is what the curve itself can give.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from intsim.hilbert.curve import Curve
from intsim.hilbert.decoder import Decoder
from intsim.hilbert.guided import decode_points
from intsim.hilbert.reference import encode, real

JUMP_EDGES = 1.5
"""An error along the curve of more edges than this is a jump to another branch."""
MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class ChannelErrors:
    """Errors of the decoded q, in q.

    Args:
        mean: the bias.
        rmse: root of the mean square.
        robust_sd: 1.4826 times the median distance from the median: the SD of Gaussian errors, blind to rare jumps.
        jump_rate: share of samples more than 1.5 edges off along the curve.
    """

    mean: float
    rmse: float
    robust_sd: float
    jump_rate: float


def plain_errors(sigma: float, *, samples: int = 100_000, seed: int = 0, code_bits: int = 8) -> ChannelErrors:
    """The same channel without a curve: one head that predicts q. Takes what `channel_errors` takes."""
    random = np.random.default_rng(seed)
    q = random.random(samples)
    return _errors(_on_grid(q, sigma, (1 << code_bits) - 1, code_bits, random) - q, 1)


def channel_errors(
    dimensions: int,
    order: int,
    sigma: float,
    *,
    inset: float | Fraction | None = None,
    spacing: int | None = None,
    radius: float = 0.0,
    window: float | None = None,
    weight: float = 0.0,
    samples: int = 100_000,
    seed: int = 0,
    code_bits: int = 8,
) -> ChannelErrors:
    """Errors of q after noise, rounding to codes, clipping to the codes there are, and decoding by `decode_points`.

    With a window or a weight the decoder gets a guide: q itself with noise of the same sigma, on the grid of a code of
    its own.

    Args:
        dimensions: d, 2 or 3.
        order: p.
        sigma: SD of the noise of each coordinate, in codes.
        inset: k; code c is the coordinate c / (2**n - 1), as in `Decoder.inset`. Give it or the spacing.
        spacing: S; code c is the coordinate c / 2**n, and the lattice is that of `Decoder.lattice_aligned`.
        radius: in edges, 0..1/2: the targets are those of `encode_rounded`.
        window: w in q, as in `decode_points`.
        weight: as in `decode_points`.
        samples: number of random q.
        seed: of the generator; the same numbers come out again.
        code_bits: n.

    Raises:
        IntsimError: a bad curve, radius, window or weight; a negative sigma; or inset and spacing both or neither.
    """
    if (inset is None) == (spacing is None):
        raise IntsimError("give either inset= or spacing=")
    if not 0 <= sigma < np.inf:
        raise IntsimError(f"sigma is {sigma!r}: give a finite number of at least 0")
    if spacing is not None:
        aligned = Decoder.lattice_aligned(order, spacing, code_bits, dimensions=dimensions)
        border, per_unit = aligned.curve.exact_inset, 1 << code_bits
    else:
        border, per_unit = Curve(order, inset or 0, dimensions).exact_inset, (1 << code_bits) - 1
    random = np.random.default_rng(seed)
    q = random.random(samples)
    target = np.stack(encode_rounded(q, order, border, radius, dimensions=dimensions), axis=-1)
    points = _on_grid(target, sigma, per_unit, code_bits, random)
    guide = None if window is None and not weight else _on_grid(q, sigma, per_unit, code_bits, random)
    decoded = decode_points(points, order, border, guide=guide, window=window, weight=weight)
    return _errors(decoded - q, Curve(order, border, dimensions).segments)


def encode_rounded(
    q: ArrayLike, order: int, inset: float | Fraction = 0.1, radius: float = 0.25, *, dimensions: int = 2
) -> tuple[NDArray[np.float64], ...]:
    """`encode` with every turn replaced by a quarter circle that touches both edges.

    A turn at a vertex takes the q within ``radius`` edges of it, at even speed along the arc. Decoding to the closest
    point of the polygon gives such a q back with an error of at most (1 - sqrt(1/2)) radius = 0.29 radius edges, with
    opposite signs before and behind the middle of the turn.

    Args:
        q: real array of any shape, 0 <= q <= 1.
        order: p.
        inset: k.
        radius: r in edges, 0..1/2; 0 is the polygon.
        dimensions: d, 2 or 3.

    Returns:
        d float64 arrays of the shape of q.

    Raises:
        IntsimError: what `encode` raises, or a radius outside 0..1/2.
    """
    if isinstance(radius, bool) or not isinstance(radius, int | float | np.floating) or not 0 <= radius <= 0.5:
        raise IntsimError(f"radius is {radius!r}: give 0..0.5, in edges")
    points = np.stack(encode(q, order, inset, dimensions=dimensions), axis=-1)
    curve = Curve(order, inset, dimensions)
    position = real(q, "q") * curve.segments
    vertex = np.clip(np.rint(position).astype(np.int64), 1, curve.segments - 1)
    into, out = (np.diff(curve.vertices, axis=0)[vertex + by].astype(np.float64) for by in (-1, 0))
    beyond = position - vertex
    turn = (into != out).any(axis=-1) & (np.abs(beyond) < radius)
    if turn.any():
        angle = (np.pi / 4) * (1 + beyond[turn] / radius)[..., None]
        into, out = into[turn], out[turn]
        arc = -into + out - out * np.cos(angle) + into * np.sin(angle)
        points[turn] = curve.points[vertex[turn]] + (curve.edge_length * radius) * arc
    return tuple(points[..., axis] for axis in range(dimensions))


def _on_grid(
    values: NDArray[np.float64], sigma: float, per_unit: int, code_bits: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Values of [0, 1] with noise, as codes 0..2**n - 1 stand for them."""
    codes = np.rint(values * per_unit + sigma * random.standard_normal(values.shape))
    return np.asarray(np.clip(codes, 0, (1 << code_bits) - 1) / per_unit)


def _errors(error: NDArray[np.float64], segments: int) -> ChannelErrors:
    spread = np.median(np.abs(error - np.median(error)))
    jumps = np.mean(np.abs(error) * segments > JUMP_EDGES)
    return ChannelErrors(
        float(error.mean()), float(np.sqrt(np.mean(error**2))), float(MAD_TO_SD * spread), float(jumps)
    )
