"""One run measured: float network, the same as W8A8 integers, the same on a target; always on the test split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import intsim
from models.disparity import Network, disparity, float_disparity
from models.evaluate import output_codes, quantization_error
from models.networks import fold
from models.tasks.network import MapNet, by_map, export, quantize
from models.tasks.tasks import Examples, Task

BATCH = 8
"""Inputs a run of the exported network takes."""
CALIBRATION_STEPS = 8
"""Training batches that the quantizers are calibrated on."""
TARGETS = ("x86-avx2",)

Floats = NDArray[np.float64]


def measure(
    task: Task, coding: Network, network: MapNet, seed: int, path: Path, count: int | None = None
) -> dict[str, Any]:
    """Quantize and export the network to `path`; metric and quantization error on the first `count` test examples.

    ``fp32``, ``w8a8``, ``targets``: the metric of `task`. ``error``: W8A8 minus FP32 of the readings (of key points:
    of each coordinate), ``values``: of the values in [0, 1]; both as `models.evaluate.quantization_error` has it.
    ``median_error``: of W8A8 readings from the right ones; ``validation``: FP32's metric on the validation split.
    """
    folded = fold(network)
    assert isinstance(folded, MapNet)
    calibration = [torch.from_numpy(task.batch(seed, step, 16).codes).float() for step in range(CALIBRATION_STEPS)]
    test = task.examples("test", count)
    export(quantize(folded, calibration), (BATCH, *test.codes.shape[1:]), path)
    held_out = task.examples("validation", count)
    floats = float_values(folded, test, coding)
    integers = {name: integer_values(path, test, coding, name) for name in ("exact", *TARGETS)}
    readings = {name: task.reading(values) for name, values in (("fp32", floats), *integers.items())}
    scores = {name: task.score(reading, test.readings) for name, reading in readings.items()}
    return {
        "fp32": scores["fp32"],
        "w8a8": scores["exact"],
        "targets": {name: scores[name] for name in TARGETS},
        "error": quantization_error(readings["exact"], readings["fp32"], task.reading_range),
        "values": quantization_error(integers["exact"], floats, 1),
        "median_error": {
            name: float(np.median(np.abs(readings[key] - test.readings)))
            for name, key in (("fp32", "fp32"), ("w8a8", "exact"))
        },
        "validation": task.score(task.reading(float_values(folded, held_out, coding)), held_out.readings),
    }


def float_values(folded: MapNet, examples: Examples, coding: Network) -> Floats:
    """Values ``(N, maps, H, W)`` of the float network."""
    with torch.no_grad():
        outputs = [folded(codes).numpy() for codes in _batches(examples)]
    return float_disparity(by_map(np.concatenate(outputs)[: len(examples.codes)], folded.maps), coding)


def integer_values(path: Path, examples: Examples, coding: Network, target: str) -> Floats:
    """Values ``(N, maps, H, W)`` of the exported network, run and decoded as integers."""
    model = intsim.load(path)
    outputs = [
        next(iter(model.run({"codes": codes.numpy()}, target, counts=False).outputs.values()))
        for codes in _batches(examples)
    ]
    codes = output_codes(np.concatenate(outputs)[: len(examples.codes)])
    return disparity(by_map(codes, examples.values.shape[1]), coding)


def _batches(examples: Examples) -> Iterator[Tensor]:
    """All codes in batches of `BATCH`, the last one filled up with zeros."""
    codes = examples.codes
    for first in range(0, len(codes), BATCH):
        part = codes[first : first + BATCH]
        yield torch.from_numpy(np.pad(part, ((0, BATCH - len(part)), *[(0, 0)] * 3))).float()
