"""Operands for the witnesses: every combination of extremes, and random ones that crowd at the ends."""

import itertools

import numpy as np

DTYPE = {"u8": np.uint8, "s8": np.int8, "s16": np.int16}
STARTS = np.array([-(1 << 31), -(1 << 31) + 1, -1, 0, 1, (1 << 31) - 2, (1 << 31) - 1], np.int32)


def extremes(kind: str) -> np.ndarray:
    """Smallest, -1, 0, 1, largest; of unsigned bytes 0, 1, 127, 128, 255."""
    info = np.iinfo(DTYPE[kind])
    return np.array([0, 1, 127, 128, 255] if kind == "u8" else [info.min, -1, 0, 1, info.max], info.dtype)


def combinations(kind: str, step: int, rng: np.random.Generator) -> np.ndarray:
    """(625, K) all combinations of extremes in four places that meet in one register, any extremes elsewhere.

    K is the products of one step, at least 4. The places of a 16-product step are two pairs j, j + 8 whose sums are
    neighbours.
    """
    places, depth = ([0, 8, 1, 9], 16) if step == 16 else ([0, 1, 2, 3], 4)
    values = extremes(kind)
    rows = values[rng.integers(0, 5, (625, depth))]
    rows[:, places] = list(itertools.product(values, repeat=4))
    return rows


def weighted(kind: str, rows: int, depth: int, rng: np.random.Generator) -> np.ndarray:
    """(rows, depth) one third uniform, one third extremes, one third within 4 of an end.

    Half the rows keep to one kind, which makes long sums that saturate; the others mix, and nearly saturate.
    """
    info = np.iinfo(DTYPE[kind])
    near = rng.integers(0, 5, (rows, depth))
    high = rng.random((rows, 1)) > rng.random((rows, depth))
    choices = [
        rng.integers(info.min, info.max + 1, (rows, depth)),
        extremes(kind)[rng.integers(0, 5, (rows, depth))].astype(np.int64),
        np.where(high, info.max - near, info.min + near),
    ]
    which = np.where(rng.random((rows, 1)) < 0.5, rng.integers(0, 3, (rows, 1)), rng.integers(0, 3, (rows, depth)))
    return np.choose(which, choices).astype(DTYPE[kind])


def starts(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) initial accumulators: the ends of int32, values within 2^17 of them, and any."""
    wide = rng.integers(-(1 << 31), 1 << 31, count)
    near = rng.integers(0, 1 << 17, count)
    ends = np.where(rng.random(count) < 0.5, (1 << 31) - 1 - near, -(1 << 31) + near)
    exact = STARTS[rng.integers(0, len(STARTS), count)]
    return np.choose(rng.integers(0, 3, count), [wide, ends, exact]).astype(np.int32)
