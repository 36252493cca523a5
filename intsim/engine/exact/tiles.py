"""Weights of dense convolutions as tile registers take them: 16 channels by up to 16 words of four bytes.

Words of one position and the planes after it, `depth` of them, are the rows of one tile register, 16 positions side by
side; the weights that they meet are the columns of another. An instruction adds `depth` products of words to each of
16 x 16 sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, DEPTH, LINE = 16, 16, 64
"""Rows of a tile register, most words of a row, bytes between rows in memory: a line of the cache."""
COST = 48
"""Of one instruction on tile registers, in products of vectors, of which a processor does two at a time."""


@dataclass(frozen=True)
class TileBlocks:
    """Blocks of `high` output channels; entries are taps of `depth` planes each, as `conv.Blocks` has taps of one."""

    planes: NDArray[np.int64]  # of each entry, its first plane
    taps: NDArray[np.int64]
    firsts: NDArray[np.int64]
    weights: NDArray[np.int32]  # (entries, high, 16) flat
    high: int
    depth: int


def tile_blocks(values: NDArray[np.int8], high: int) -> TileBlocks:
    """Blocks of the weights (O, taps, C), a few chunks of planes each; entries without weights are left out.

    Chunks are equally deep: the last one begins early, and planes that it has in common with another meet zeros.
    """
    channels, taps, inside = values.shape
    planes = -(-inside // 4)
    chunks = -(-planes // DEPTH)
    depth = -(-planes // chunks)
    blocks = -(-channels // high)
    starts = np.minimum(np.arange(chunks) * depth, planes - depth)
    table = np.zeros((blocks * high, taps, chunks, LINE), np.int8)
    for chunk, start in enumerate(starts.tolist()):
        own = chunk * depth  # its first plane that no other has
        part = values[:, :, 4 * own : 4 * (start + depth)]
        table[:channels, :, chunk, 4 * (own - start) : 4 * (own - start) + part.shape[2]] = part
    entries = table.reshape(blocks, high, taps * chunks, LINE).swapaxes(1, 2)
    kept = entries.any(axis=(2, 3))
    block, entry = np.nonzero(kept)
    firsts = np.searchsorted(block, np.arange(blocks + 1)).astype(np.int64)
    weights = aligned(entries[kept].reshape(-1).view(np.int32))
    return TileBlocks(starts[entry % chunks].astype(np.int64), entry // chunks, firsts, weights, high, depth)


def words_seen(values: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which words of four channels have weights, (O, taps, words) of weights (O, taps, C)."""
    channels, taps, inside = values.shape
    wide = np.zeros((channels, taps, -(-inside // 4) * 4), np.int8)
    wide[:, :, :inside] = values
    return np.asarray(wide.view(np.int32) != 0)


def entries_of(seen: NDArray[np.bool_], high: int) -> int:
    """Entries of all blocks of `high` channels, of which each is a tap and a word."""
    starts = np.arange(0, len(seen), high)
    return int(np.logical_or.reduceat(seen, starts, axis=0).sum()) if seen.size else 0


def tile_entries(seen: NDArray[np.bool_], high: int) -> int:
    """The same in tile registers, of which each is a tap and a chunk of planes: those of `tile_blocks`."""
    if not seen.size:
        return 0
    planes = seen.shape[2]
    depth = -(-planes // -(-planes // DEPTH))
    return entries_of(np.logical_or.reduceat(seen, np.arange(0, planes, depth), axis=2), high)


def tile_work(entries: int, tiles: int) -> int:
    """Of so many entries at `tiles` tiles of positions, in products of vectors; a tile has four sums' registers."""
    return 4 * COST * entries * tiles


def tile_bias(bias: NDArray[np.int32], high: int) -> NDArray[np.int32]:
    """What the sums of blocks of `high` channels start at: 16 times for each channel."""
    out = np.zeros((-(-bias.size // high) * high, ROWS), np.int32)
    out[: bias.size] = bias[:, None]
    return aligned(out.reshape(-1))


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a line of the cache."""
    room = np.empty(values.nbytes + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    out: NDArray[Any] = room[begin : begin + values.nbytes].view(values.dtype)
    out[:] = values
    return out
