"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR."""

from __future__ import annotations

import numpy as np

from intsim.frontend.tflite.conv import image
from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.registry import translates
from intsim.frontend.tflite.window import LONGEST


def _sizes(net: Network) -> tuple[list[int], bool, bool]:
    """Output height and width, whether corners lie on corners, whether centres are at halves."""
    size = net.numbers(1, "size")
    if len(size) != 2 or not 1 <= min(size) <= max(size) <= LONGEST:
        raise Unsupported(f"its size {size} is not a height and a width of 1 to {LONGEST}")
    corners, centres = bool(net.option("AlignCorners")), bool(net.option("HalfPixelCenters"))
    if corners and centres:
        raise Unsupported("it aligns corners and has half pixel centers, which exclude each other")
    return size, corners, centres


def nearest(size: int, out: int, corners: bool, centres: bool) -> np.ndarray:
    """The position that each sample takes, in float32 as every kernel computes it.

    tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h, GetNearestNeighbor.
    """
    aligned = corners and out > 1
    scale = np.float32(size - 1) / np.float32(out - 1) if aligned else np.float32(size) / np.float32(out)
    at = (np.arange(out, dtype=np.float32) + np.float32(0.5 if centres else 0)) * scale
    # halves go up: no position is negative
    index = np.floor(at.astype(np.float64) + 0.5) if corners else np.floor(at)
    return np.clip(index.astype(np.int64), 0, size - 1)


@translates("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest(net: Network) -> None:
    """Each sample is one of the input's: rows are picked, then columns."""
    x, y = image(net), net.activation(net.output())
    size, corners, centres = _sizes(net)
    if not x.same_codes(y):
        raise Unsupported("its output has another scale than its input")
    n, h, w, c = x.shape
    rows, columns = (nearest(s, o, corners, centres) for s, o in zip((h, w), size, strict=True))
    inner = net.node("Gather", [net.codes(x, True), net.constant("rows", rows)], axis=2)
    net.move("Gather", [inner, net.constant("columns", columns)], (n, *size, c), True, axis=3)


@translates("RESIZE_BILINEAR")
def resize_bilinear(net: Network) -> None:
    """Each sample is a weighted mean of four, a real number, rounded."""
    x = image(net)
    size, corners, centres = _sizes(net)
    n, _, _, c = x.shape
    mode = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    sizes = net.constant("sizes", np.array([n, c, *size], np.int64))
    real = net.node("Resize", [net.real(x, True), "", "", sizes], mode="linear", coordinate_transformation_mode=mode)
    net.quantize(real, (n, *size, c), True)
