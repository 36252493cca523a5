"""Convolutions over words, laid out: which words each block of output channels reads, and the weights it meets there.

A convolution is one grid of outputs, or for a transposed one as many as its stride has phases: each is a plain
convolution of the input, whose outputs lie `step` apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.isa import Dot
from intsim.graph import IntArray, Node

Pads = tuple[int, int, int, int]
"""Top, left, bottom, right; negative ones crop."""
HIGH = {"vnni512": 8, "vnni256": 8, "avx512": 8, "avx2": 4, "sse2": 4, "generic": 4}
"""Output channels of a tile: with them accumulators, activations and a weight just fill the vector registers."""


@dataclass(frozen=True)
class Window:
    """The spatial part of a convolution of rank 2; a rank of 1 has one row."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: Pads
    insert: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Grid:
    """Outputs (rows, width) of a convolution that read taps at these distances from their place in the input.

    Tap t, of kernel position `at[t]`, is at row `down[t]`, column `right[t]`. Output (r, c) is stored at row
    origin[0] + r * step[0], column origin[1] + c * step[1].
    """

    at: tuple[tuple[int, int], ...]
    down: tuple[int, ...]
    right: tuple[int, ...]
    rows: int
    width: int
    origin: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)


def window(node: Node) -> Window | None:
    """The spatial part of a conv or conv_transpose node; None for a rank above 2."""
    at, kernel = node.attributes, node.arrays["weight"].shape[2:]
    rank = len(kernel)
    if rank not in (1, 2):
        return None
    pair = lambda values: (1, *values) if rank == 1 else tuple(values)  # noqa: E731
    p = at["pads"]
    pads = (0, p[0], 0, p[1]) if rank == 1 else tuple(p)
    insert = pair(at["insert"]) if node.op == "conv_transpose" else (1, 1)
    return Window(pair(kernel), pair(at["strides"]), pair(at["dilations"]), pads, insert, at["groups"])


def grids(w: Window, size: tuple[int, int], out: tuple[int, int]) -> list[Grid]:
    """The grids of a convolution with strides of one (see `split_grid`), `size` of the input, `out` of the output."""
    found = []
    for ry in range(min(w.insert[0], out[0])):
        for rx in range(min(w.insert[1], out[1])):
            ys, xs = _reached(w, 0, ry), _reached(w, 1, rx)
            pairs = [(i, j, y, x) for i, y in ys for j, x in xs]
            rows, width = -(-(out[0] - ry) // w.insert[0]), -(-(out[1] - rx) // w.insert[1])
            at = tuple((i, j) for i, j, _, _ in pairs)
            down, right = tuple(y for *_, y, _ in pairs), tuple(x for *_, x in pairs)
            found.append(Grid(at, down, right, rows, width, (ry, rx), w.insert))
    return found


def _reached(w: Window, axis: int, phase: int) -> list[tuple[int, int]]:
    """Kernel positions along an axis that meet an input sample, not one inserted, and how far that is."""
    steps = ((i, phase + i * w.dilations[axis] - w.pads[axis]) for i in range(w.kernel[axis]))
    return [(i, s // w.insert[axis]) for i, s in steps if s % w.insert[axis] == 0]


def border(found: list[Grid], size: tuple[int, int]) -> Pads:
    """Rows and columns of padding that the grids read around an input of this size."""
    down = [(min(g.down), max(g.down) + g.rows - size[0]) for g in found if g.down]
    right = [(min(g.right), max(g.right) + g.width - size[1]) for g in found if g.right]
    top, bottom = max([0, *(-a for a, _ in down)]), max([0, *(b for _, b in down)])
    left = max([0, *(-a for a, _ in right)])
    # rows of outputs must not be longer than rows of words
    beyond = max([0, *(b for _, b in right), *(g.width - size[1] - left for g in found)])
    return top, left, bottom, beyond


@dataclass(frozen=True)
class Blocks:
    """Weights of one grid in blocks of `high` output channels; what `dot_kernels.convolve` takes."""

    planes: NDArray[np.int64]  # of each tap, its plane
    taps: NDArray[np.int64]  # and its index in the grid
    firsts: NDArray[np.int64]  # first tap of each block, and one past the last
    weights: NDArray[np.int32]
    high: int


def blocks(weight: IntArray, w: Window, grid: Grid, dot: Dot, planes_apart: int = 1) -> Blocks:
    """Blocks of the weights (O, C / groups, kh, kw), all within int8; taps without weights are left out.

    `planes_apart`: planes of the input from one group of four channels to the next; taps' own planes are added by the
    caller (`split`).
    """
    channels, inside = weight.shape[:2]
    choices = [1] if channels == 1 else sorted({4, HIGH[dot.name]}, reverse=True)
    best = None
    for high in choices:
        made = _blocks(weight, w, grid, high, inside)
        cost = int((made[2][1:] - made[2][:-1]).sum()) * high
        if best is None or cost < best[0]:
            best = cost, high, made
    assert best is not None
    _, high, (planes, taps, firsts, values) = best
    return Blocks(planes * planes_apart, taps, firsts, weight_words(values, dot), high)


def _blocks(
    weight: IntArray, w: Window, grid: Grid, high: int, inside: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Plane and tap of each entry, entries of each block, and weights (entries, high, 4)."""
    channels, per_group = weight.shape[0], weight.shape[0] // w.groups
    picked = np.empty((channels, len(grid.at), inside), np.int8)
    for t, (i, j) in enumerate(grid.at):
        picked[:, t] = weight[:, :, i, j]
    parts: list[tuple[Any, Any, Any]] = []
    for begin in range(0, channels, high):
        rows = range(begin, min(begin + high, channels))
        first, last = (c // per_group * inside for c in (rows[0], rows[-1]))
        low, top = first // 4, -(-(last + inside) // 4)
        table = np.zeros((high, len(grid.at), 4 * (top - low)), np.int8)
        for r in rows:
            at = r // per_group * inside - 4 * low
            table[r - begin, :, at : at + inside] = picked[r]
        words = table.reshape(high, len(grid.at), top - low, 4).transpose(2, 1, 0, 3).reshape(-1, high, 4)
        kept = np.flatnonzero(words.any(axis=(1, 2)))
        parts.append((low + kept // max(len(grid.at), 1), kept % max(len(grid.at), 1), words[kept]))
    firsts = np.cumsum([0, *(len(p[0]) for p in parts)]).astype(np.int64)
    planes, taps, values = (np.concatenate([p[i] for p in parts]) for i in range(3))
    return planes.astype(np.int64), taps.astype(np.int64), firsts, values


def weight_words(values: NDArray[np.int8], dot: Dot) -> NDArray[np.int32]:
    """(..., 4) int8 as 32-bit words for the instruction: see `isa.Dot.parts`. Flat, words of a group side by side."""
    if dot.parts == 1:
        return np.ascontiguousarray(values).view(np.int32).reshape(-1)
    if dot.parts == 2:
        wide = values.astype(np.int16)
        return (
            np.ascontiguousarray(np.stack([wide[..., [0, 2]], wide[..., [1, 3]]], axis=-2)).view(np.int32).reshape(-1)
        )
    return values.astype(np.int32).reshape(-1)
