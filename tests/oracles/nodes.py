"""Quantizer nodes worth asking about: random ones, and inputs at every decision of the quantizer and beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
FINN_MODES = ("ROUND", "CEIL", "FLOOR")
# Powers of two; float32 above and below the decimal they are written as; ordinary ones of a trained file.
SCALES = np.array([1, 0.5, 2**-7, 0.1, 0.3, 1 / 3, 0.7, 0.0123, 0.0062745, 3.7e-5, 12.5], np.float32)


@dataclass(frozen=True)
class Node:
    """An operator, its attributes and its inputs, all float32; the first input is the data."""

    op: str
    attributes: dict
    inputs: list


def boundary(scale, zero, low, high, rng):
    """(n,) float32: every integer and half in low-2..high+2 as x = (v - zero) * scale, its neighbours, and any."""
    decisions = np.arange(2 * low - 4, 2 * high + 5) / 2
    x = ((decisions - np.float64(zero)) * np.float64(scale)).astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    any_x = rng.uniform(low - 3, high + 3, 40) * np.float64(scale)
    return np.concatenate([x, any_x.astype(np.float32), np.float32([0.0, -0.0])])


def quants(modes, count, rng):
    """Quant nodes: width, sign, narrowness, scale, zero point at random; the scale often not a round float32."""
    for i in range(count):
        bits, signed, narrow = int(rng.integers(1, 9)), int(rng.integers(2)), int(rng.integers(2))
        if bits == 1 and not signed and narrow:
            narrow = 0  # a range of one value
        scale = SCALES[i % len(SCALES)] if rng.random() < 0.7 else np.float32(rng.uniform(1e-4, 2))
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        zero = np.float32(rng.choice([0, 0, rng.integers(low, high + 1), 0.5, -1.25]))
        attributes = {"signed": signed, "narrow": narrow, "rounding_mode": modes[i % len(modes)]}
        x = boundary(scale, zero, low, high, rng)
        yield Node("Quant", attributes, [x, scale, zero, np.float32(bits)])


def truncs(modes, count, rng):
    """Trunc nodes of version 1: integers on the grid of their scale."""
    for i in range(count):
        bits, kept = int(rng.integers(4, 17)), int(rng.integers(1, 9))
        scale = SCALES[i % len(SCALES)]
        q = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 200)
        q[:64] = np.arange(-32, 32)
        x = (q.astype(np.float32) * scale).astype(np.float32)
        parameters = [scale, np.float32(0), np.float32(bits), np.float32(min(kept, bits))]
        yield Node("Trunc", {"rounding_mode": modes[i % len(modes)]}, [x, *parameters])


def truncs_2(modes, count, rng):
    """Trunc nodes of version 2: an output scale, a sign, a range that clips."""
    for i in range(count):
        bits, kept, lost = int(rng.integers(4, 17)), int(rng.integers(2, 9)), int(rng.integers(0, 9))
        scale = SCALES[i % len(SCALES)]
        q = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 200)
        q[:64] = np.arange(-32, 32)
        x = (q.astype(np.float32) * scale).astype(np.float32)
        attributes = {"rounding_mode": modes[i % len(modes)], "signed": i % 2, "narrow": i // 2 % 2}
        parameters = [scale, np.float32(0), np.float32(bits), np.float32(scale * 2.0**lost), np.float32(kept)]
        yield Node("Trunc", attributes, [x, *parameters])


def bipolars(count, rng):
    """BipolarQuant nodes; zeros of both signs and the smallest numbers."""
    tiny = np.float32([0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 1, -1])
    for i in range(count):
        yield Node("BipolarQuant", {}, [np.concatenate([tiny, rng.normal(size=50)]).astype(np.float32), SCALES[i]])


def multithresholds(count, rng):
    """MultiThreshold nodes on (1, C, 8, 8): integers against integer thresholds, and floats against floats."""
    for i in range(count):
        channels, steps = int(rng.integers(1, 5)), int(rng.choice([1, 3, 15, 255]))
        shape = (1, channels, 8, 8)
        if i % 2:
            thresholds, x = rng.integers(-3000, 3000, (channels, steps)), rng.integers(-3100, 3100, shape)
            x.reshape(-1)[: min(64, steps)] = thresholds[0, :64]
        else:
            thresholds = rng.choice(np.arange(-60, 60) * SCALES[i % len(SCALES)], (channels, steps))
            x = rng.choice(np.arange(-60, 60) * SCALES[i % len(SCALES)], shape)
        thresholds = np.sort(thresholds, axis=1).astype(np.float32)
        attributes = {"out_dtype": "INT32", "out_scale": 1.0, "out_bias": 0.0, "data_layout": "NCHW"}
        yield Node("MultiThreshold", attributes, [x.astype(np.float32), thresholds])


def save(path: Path, nodes) -> None:
    """Write the file that `drive_nodes.py` reads."""
    said = json.dumps([[n.op, n.attributes, len(n.inputs)] for n in nodes])
    np.savez(path, nodes=said, **{f"{i}.{j}": x for i, n in enumerate(nodes) for j, x in enumerate(n.inputs)})
