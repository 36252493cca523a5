"""What a run's network costs in the integer simulator: multiplications, bytes and time, heads and decoding apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import intsim
from intsim.inspect import inspect
from models.disparity import Network, disparity

REPEATS = 401


def cost(run: str, network: Network, out: Path) -> dict[str, Any]:
    """MACs of trunk and heads, bytes of weights and outputs, milliseconds of network and decoding, for one pair.

    Times are the least of the process's CPU times on one thread, target ``exact``, everything compiled before; the
    network's includes quantizing its input and is that of the whole network, heads included. Decoding is `disparity`,
    the nearest point of the curve; for a plain network it is one addition and one multiplication a pixel.
    """
    model = intsim.load(out / "exports" / f"{run}.qonnx.onnx")
    described = inspect(model)
    rows = described["layers"]
    heads = sum(row["macs"] for row in rows if row["name"].startswith("head_"))
    codes = np.random.default_rng(0).integers(0, 256, network.input_shape).astype(np.float32)
    outputs = np.random.default_rng(1).integers(-128, 128, (1, network.heads, *network.input_shape[2:])).astype(np.int8)
    return {
        "macs": {"trunk": sum(row["macs"] for row in rows) - heads, "heads": heads},
        "bytes": {"weights": described["weights"], "outputs": int(outputs.size)},
        "milliseconds": {
            "network": milliseconds(lambda: model.run({"codes": codes}, "exact", threads=1)),
            "decoder": milliseconds(lambda: disparity(outputs, network)),
        },
        "pixels": int(np.prod(network.input_shape[2:])),
    }


def milliseconds(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Least CPU time of an action, in milliseconds, after three runs that don't count.

    The least and not the median: whatever else a shared machine does only adds, for seconds at a time.
    """
    times = []
    for i in range(repeats + 3):
        start = time.process_time()
        action()
        if i >= 3:
            times.append(1000 * (time.process_time() - start))
    return min(times)
