"""Run a model on a target, on one sample or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from intsim.inputs import Inputs, samples_of
from intsim.model import Model, Run
from intsim.targets import Target
from intsim.verification.executed import opened


def run(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    keep: bool = False,
    counts: bool = True,
    threads: int | None = None,
) -> Run:
    """Run a model as integers on a target.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`.
        inputs: one array for each graph input, in the file's shapes: real values for float inputs, codes for integer
            inputs. Scales, zero points and weights that the file leaves as inputs may be among them. An array alone
            where the model has one input. Arrays with one more leading axis hold one sample each, and so do arrays of N
            where the file's shape begins with 1; or a list of samples.
        samples: how many samples to draw where no inputs are given; 1 if None.
        seed: seed of the first drawn sample; the next ones have `seed + 1` and so on.
        keep: keep every integer tensor, not only those behind the outputs.
        counts: count overflow events. Without, `overflows` holds 1 where a register overflowed at all, else 0, and
            some layers run faster.
        threads: how many to use; None for the default (INTSIM_THREADS, else all processors that may be used). The
            result does not depend on it.

    Raises:
        IntsimError: inputs that don't fit the model, or a layer that doesn't fit the target.
    """
    chosen = Target.load(target)
    loaded = opened(model, inputs, chosen)
    data = samples_of(loaded, inputs, samples, seed)
    runs = [loaded.run(sample, chosen, keep, counts=counts, threads=threads) for sample in data]
    return runs[0] if len(runs) == 1 else _stacked(runs)


def _stacked(runs: Sequence[Run]) -> Run:
    """Several samples as one."""
    outputs, codes, tensors, given, islands = (
        {name: np.stack([getattr(run, part)[name] for run in runs]) for name in getattr(runs[0], part)}
        for part in ("outputs", "codes", "tensors", "given", "islands")
    )
    overflows = {name: np.sum([run.overflows[name] for run in runs], axis=0) for name in runs[0].overflows}
    return Run(outputs, codes, tensors, overflows, given, max(run.live_bytes for run in runs), islands)
