"""One network, all contestants: times, ratios, and whether the answers are the exact ones."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contestants import Contestant, Run, checked_layers, checked_target
from bench.networks import Network
from bench.timing import take_turns

Report = Callable[[str], None]


def code_step(network: Network) -> float:
    """What one code of the output is worth: the scale behind it, from the fused form's last node."""
    from onnx import numpy_helper

    last = network.fused.graph.node[-1]
    constants = {i.name: numpy_helper.to_array(i) for i in network.fused.graph.initializer}
    return float(constants[last.input[1]])


def differs(answer: NDArray[Any], exact: NDArray[Any], step: float) -> tuple[float, int]:
    """Fraction of outputs whose code is another one than the exact one, and the greatest distance in codes."""
    far = np.rint(np.abs(answer.astype(np.float64) - exact.astype(np.float64)) / step)
    return float(np.mean(far > 0)), int(far.max(initial=0))


def one_line(error: BaseException) -> str:
    """An exception for a table cell."""
    return re.sub(r"\s+", " ", f"{error}").strip()[:160] or type(error).__name__


def race(network: Network, entered: list[Contestant], seconds: float, progress: Report) -> dict[str, Any]:
    """Rows of every contestant; one that can't take part has a `reason` in place of times."""
    runs: dict[str, Run] = {}
    rows: dict[str, dict[str, Any]] = {}
    for contestant in entered:
        progress(f"{network.name}: {contestant.name}: preparing")
        row: dict[str, Any] = {"name": contestant.name, "kind": contestant.kind}
        rows[contestant.name] = row
        try:
            run = contestant.prepare(network)
            begin = time.perf_counter()
            row["answer"] = run()
            row["first_s"] = time.perf_counter() - begin
            runs[contestant.name] = run
        except Exception as error:
            row["reason"] = one_line(error)
        if contestant.kind == "checked" and "reason" not in row:
            row["target"], row["checked"] = checked_target(network), checked_layers(network)
    exact = rows["intsim exact"].get("answer")
    step = code_step(network)
    timings = take_turns(runs, seconds, progress=lambda name: progress(f"{network.name}: {name}"))
    for name, timing in timings.items():
        row = rows[name]
        answer, events = row.pop("answer")
        row.update(timing.to_json(), events=events)
        row["gmacs"] = network.macs / row["cpu_ms"] / 1e6
        if exact is not None:
            row["differs"], row["distance"] = differs(answer, exact[0], step)
    return {"macs": network.macs, "rows": list(rows.values())}
