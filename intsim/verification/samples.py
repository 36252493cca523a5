"""The samples a model runs on: cut out of the arrays that were given, or drawn at random where nobody has data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.model import Inputs, Model


def draw(model: Model, seed: int) -> dict[str, NDArray[Any]]:
    """One sample: integer inputs over their whole range; floats over the range of the quantizer that reads them.

    A float input that reaches its quantizer only through other operators is uniform in -1..1. Floats are float32.
    """
    rng = np.random.default_rng(seed)
    ranges = {b.host: (b, model.graph.tensors[b.tensor]) for b in model.lowered.boundaries}
    out: dict[str, NDArray[Any]] = {}
    for name, (shape, element) in model.lowered.source.inputs.items():
        if element in ONNX_INTEGERS and name in model.graph.tensors:
            info = model.graph.tensors[name]
            low, high = max(info.low, -(1 << 31)), min(info.high, (1 << 31) - 1)
            out[name] = rng.integers(low, high, size=shape, endpoint=True)
        elif name in ranges and ranges[name][0].scale.size == 1 and not ranges[name][0].bipolar:
            boundary, info = ranges[name]
            scale, offset = float(boundary.scale.reshape(-1)[0]), float(info.offset.reshape(-1)[0])
            span = (info.high - info.low) * scale
            edges = info.low * scale + offset - 0.05 * span, info.high * scale + offset + 0.05 * span
            out[name] = rng.uniform(*edges, size=shape).astype(np.float32)
        else:
            out[name] = rng.uniform(-1.0, 1.0, size=shape).astype(np.float32)
    return out


@dataclass(frozen=True)
class Samples:
    """`count` samples drawn when asked for, with the seeds `seed`, `seed + 1`, and so on."""

    model: Model
    count: int
    seed: int

    def __len__(self) -> int:
        """How many."""
        return self.count

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """One after another."""
        return (draw(self.model, self.seed + i) for i in range(self.count))


def each_sample(model: Model, inputs: Inputs) -> Sequence[dict[str, NDArray[Any]]]:
    """Single samples: arrays of the file's shape as they are, arrays with one more axis or a larger batch apart.

    Raises IntsimError when two inputs hold different numbers of samples, or none.
    """
    wanted = model.lowered.source.inputs
    arrays = {n: np.asarray(v) for n, v in inputs.items()}
    counts: dict[str, int] = {}
    for name, (shape, _) in wanted.items():
        if name in arrays and arrays[name].shape != shape:
            if arrays[name].ndim == len(shape) + 1 and arrays[name].shape[1:] == shape:
                counts[name] = len(arrays[name])
            elif shape and shape[0] == 1 and arrays[name].shape[1:] == shape[1:]:
                arrays[name] = arrays[name][:, None]
                counts[name] = len(arrays[name])
    if len(set(counts.values())) > 1 or 0 in counts.values():
        found = ", ".join(f"input {n} holds {c} samples" for n, c in counts.items())
        raise IntsimError(f"{model.path}: {found}; all must hold the same number, one at least")
    if not counts:
        return [arrays]
    rest = {n: a for n, a in arrays.items() if n not in counts}
    return [{**rest, **{n: arrays[n][i] for n in counts}} for i in range(next(iter(counts.values())))]
