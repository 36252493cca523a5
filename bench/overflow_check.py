"""Single layers with two bits of headroom above the peak of their own input: the overflow check against stepping.

The integer graph alone is timed, codes in and codes out. Only a layer that can't be proven for every input says
anything about the overflow check; `proven` marks one that can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.contestants import check_options, checked_target, loaded
from bench.networks import Network, layer
from bench.race import one_line
from bench.timing import take_turns

LAYERS = ((32, 128, 256), (64, 64, 128), (128, 32, 64), (256, 16, 32))
"""Channels, height, width: those of the U-Net."""


def measure(network: Network, seconds: float) -> dict[str, Any]:
    """One layer, both ways; the verdict is the events and the output."""
    from intsim import Target
    from intsim.engine.run import run_graph

    check_options(["overflow_check"])
    model, name = loaded(network), checked_target(network)
    codes, target = model.integer_inputs(network.inputs), Target.load(name)
    ways = {
        way: partial(run_graph, model.graph, codes, target, counts=False, overflow_check=check)
        for way, check in (("checked", True), ("stepwise", False))
    }
    (output,) = model.graph.outputs
    first, second = (run() for run in ways.values())
    same = np.array_equal(first.tensors[output], second.tensors[output]) and all(
        np.array_equal(first.events[node], second.events[node]) for node in second.events
    )
    kernels: list[Any] = []
    run_graph(model.graph, codes, target, counts=False, profile=kernels)
    times = take_turns(ways, seconds)
    return {
        "target": name,
        "proven": not any(k.kernel.startswith(("checked", "registers")) for k in kernels),
        "same": bool(same),
        **{way: timing.to_json() for way, timing in times.items()},
    }


def overflow_check(quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Rows, layer by layer."""
    rows = []
    for channels, height, width in LAYERS:
        network = layer(channels, height, width)
        progress(network.name)
        row: dict[str, Any] = {"network": network.name, "macs": network.macs}
        try:
            row.update(measure(network, 0.5 if quick else 2.0))
        except Exception as error:
            row["reason"] = one_line(error)
        rows.append(row)
    return {"rows": rows}
