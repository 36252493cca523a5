"""The ways a Hilbert network's outputs are decoded in the study, from floats and, by the same rule, from codes.

`nearest`: the closest point of the curve. `masked`: the same, on those pixels only whose point lies close to the curve
(the confidence bit). With a guide head g: `window`, the closest point with q within a window of g; `weight`, the branch
that is close to the point and to g at once; `blend`, the curve where the point is on it, g where it lies between two
branches, a ramp in between; `guide`: g alone. Every number below was chosen on validation pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intsim.hilbert import blend, decode_points
from models.disparity import OUTPUT_BITS, Network, decoder

Maps = NDArray[np.float64]

WINDOW = 1 / 16
"""Half width of the window, of the range: 1.5 px of 24."""
WEIGHT_SHIFT = 4
"""An edge along the curve counts as 2**-(4 / 2) of an edge across it."""
MASK = 1 / 4
"""Largest distance from the curve of a pixel that is trusted, in edges."""


def decoders(network: Network) -> tuple[str, ...]:
    """Names of the decoders that fit a network's heads, the first of them the paper's."""
    if not network.order:
        return ("nearest",)
    return ("nearest", "masked", *(("window", "weight", "blend", "guide") if network.guide else ()))


def decode_floats(output: NDArray[np.floating], network: Network, name: str) -> tuple[Maps, NDArray[np.bool_]]:
    """Disparity in pixels from float outputs ``(n, heads, H, W)``, and where it is trusted; both ``(n, H, W)``."""
    heads = np.moveaxis(np.asarray(output, np.float64), 1, -1) + 0.5
    trusted = np.ones(heads.shape[:-1], bool)
    if not network.order:
        return np.clip(heads[..., 0], 0, 1) * network.disparity_range, trusted
    points, guide = heads[..., : network.dimensions], None
    if network.guide:
        guide = np.clip(heads[..., network.dimensions], 0, 1)
    if name == "guide":
        assert guide is not None
        return guide * network.disparity_range, trusted
    near = guide if name in ("window", "weight") else None
    window = WINDOW if name == "window" else None
    weight = 2.0**-WEIGHT_SHIFT if name == "weight" else 0.0
    order, inset = network.order, network.inset
    q, distance = decode_points(points, order, inset, guide=near, window=window, weight=weight, distance=True)
    if name == "masked":
        trusted = distance <= MASK
    if name == "blend":
        assert guide is not None
        far, bits = ramp(network)
        edge = network.spacing**2
        q = blend(q, guide, distance**2, (far**2 - 2**bits) / edge, far**2 / edge)
    return q * network.disparity_range, trusted


def decode_codes(codes: NDArray[np.integer], network: Network, name: str) -> tuple[Maps, NDArray[np.bool_]]:
    """The same from INT8 codes, in integers up to the last multiplication by the range over the curve's length."""
    heads = np.ascontiguousarray(np.moveaxis(codes, 1, -1))
    trusted = np.ones(heads.shape[:-1], bool)
    scale = np.float64(network.disparity_range / network.steps)
    if not network.order:
        return (heads[..., 0].astype(np.int64) + (1 << (OUTPUT_BITS - 1))) * scale, trusted
    codec, points = decoder(network), heads[..., : network.dimensions]
    guide = heads[..., network.dimensions] if network.guide else None
    if name == "guide":
        assert guide is not None
        return codec.aim(guide) * scale, trusted
    if name == "blend":
        assert guide is not None
        far, bits = ramp(network)
        return codec.blended(points, guide, far=far, ramp_bits=bits) * scale, trusted
    if name == "window":
        return codec(points, guide=guide, window=round(WINDOW * codec.position_max)) * scale, trusted
    if name == "weight":
        return codec(points, guide=guide, weight_shift=WEIGHT_SHIFT) * scale, trusted
    if name == "masked":
        trusted = codec.confident(points, int(MASK * network.spacing))
    return codec(points) * scale, trusted


def ramp(network: Network) -> tuple[int, int]:
    """Where the blend has left the curve, half an edge in codes, and the bits of its ramp in squared codes."""
    far = network.spacing // 2
    return far, (3 * far * far // 4).bit_length() - 1
