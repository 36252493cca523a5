"""Loading, proving and sweeping published networks: CPU time, beside that of one exact run and of one configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx

from bench.published import PUBLISHED, resnet18
from bench.race import one_line
from bench.timing import Timing

TARGET = "x86-avx2"
WIDTHS = range(14, 23)
BY_QONNX = ("cnv", "mobilenet_v1")
"""Networks that qonnx's executor runs too."""
Report = Callable[[str], None]


def by_qonnx(model: onnx.ModelProto, sample: Mapping[str, Any]) -> Callable[[], Any]:
    """A run of qonnx's executor, after one that isn't timed."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    cleaned = cleanup_model(ModelWrapper(model))
    run = partial(execute_onnx, cleaned, {name: np.asarray(array) for name, array in sample.items()})
    run()
    return run


def measured(work: Callable[[], Any], runs: int = 1) -> dict[str, Any]:
    """CPU and wall time of a run, of several the median."""
    timing = Timing()
    for _ in range(runs):
        timing.add(work)
    return timing.to_json()


def proving(quick: bool, progress: Report) -> dict[str, Any]:
    """A row a network: reading it, a run, one of qonnx; of ResNet-18 a certificate, sweeps of one and nine widths."""
    import intsim
    from intsim.engine.warmup import jobs
    from intsim.inputs import draw

    for job in jobs():
        job.run()
    rows = []
    proved = partial(resnet18, 64) if quick else resnet18
    for name, make in {**PUBLISHED, "resnet18": proved}.items():
        progress(f"{name}: loading")
        written, row = make(), dict[str, Any](network=name)
        rows.append(row)
        try:
            row["load"] = measured(partial(intsim.load, written))
            model = intsim.load(written)
            sample = draw(model, 0)
            run = partial(model.run, sample, "exact")
            for _ in range(2):  # the second one makes ready what many runs have in common
                run()
            row["run"] = measured(run, 9)
            if name in BY_QONNX:
                progress(f"{name}: qonnx")
                row["qonnx"] = measured(by_qonnx(written, sample), 3)
            if name == "resnet18":
                progress(f"{name}: proving")
                row["certify"] = measured(partial(intsim.certify, model, TARGET))
                row["sweep one"] = measured(partial(intsim.sweep, model, accumulator=[WIDTHS[0]], overflow=["wrap"]))
                row["sweep nine"] = measured(partial(intsim.sweep, model, accumulator=WIDTHS, overflow=["wrap"]))
        except Exception as error:
            row["reason"] = one_line(error)
    return {"rows": rows, "target": TARGET}
