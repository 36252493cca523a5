"""Where the samples of a Resize lie on its input, exactly (ONNX Resize, coordinate_transformation_mode)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from intsim.frontend.context import Refused

HALF = Fraction(1, 2)


def source_positions(attributes: Mapping[str, Any], size: int, out: int, scale: Fraction) -> list[Fraction]:
    """The position of each output sample on an input axis of `size`."""
    mode = attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return [j / scale for j in range(out)]
    if mode == "half_pixel":
        return [(j + HALF) / scale - HALF for j in range(out)]
    if mode == "pytorch_half_pixel":
        return [(j + HALF) / scale - HALF if out > 1 else Fraction(0) for j in range(out)]
    if mode == "align_corners":
        return [Fraction(j * (size - 1), out - 1) if out > 1 else Fraction(0) for j in range(out)]
    if mode == "half_pixel_symmetric":
        start = Fraction(size, 2) * (1 - out / (scale * size))
        return [start + (j + HALF) / scale - HALF for j in range(out)]
    raise Refused(f"its coordinate_transformation_mode {mode} is not supported")


def old_nearest_mode(op: str, scale: Fraction) -> str:
    """Resize of opset 10 takes the sample behind where an axis shrinks, before where it grows; Upsample only grows."""
    return "ceil" if op == "Resize" and scale < 1 else "floor"


def nearest_index(mode: str, position: Fraction, size: int) -> int:
    """Nearest sample by nearest_mode, inside the axis."""
    rules = {
        "floor": position.__floor__(),
        "ceil": position.__ceil__(),
        "round_prefer_floor": (position - HALF).__ceil__(),
        "round_prefer_ceil": (position + HALF).__floor__(),
    }
    if mode not in rules:
        raise Refused(f"its nearest_mode {mode} is not supported")
    return min(max(rules[mode], 0), size - 1)


def neighbours(positions: list[Fraction], size: int) -> tuple[list[list[int]], list[list[Fraction]]]:
    """The two samples that each position lies between, and their shares."""
    index, weight = [], []
    for position in positions:
        p = min(max(position, Fraction(0)), Fraction(size - 1))
        left = min(p.__floor__(), max(size - 2, 0))
        share = p - left
        index.append([left, min(left + 1, size - 1)])
        weight.append([1 - share, share])
    return index, weight
