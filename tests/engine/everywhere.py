"""A pytest plugin, `-p engine.everywhere`: each integer graph that a test runs is compared with the definitions.

Whatever networks the tests build or read are so many more cases: on the target that the test chose, on `exact`, and on
a machine that saturates and one that wraps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intsim.engine import run as engine
from intsim.engine.run import run_graph
from intsim.targets import Target

from .graphs import GraphCase
from .test_agreement import agree

MACHINES = [Target.load(name) for name in ("exact", "saturate-14", "wrap-13", "x86-avx2")]
MOST_PRODUCTS = 3_000_000
"""Step by step the definitions take a second for this many."""
COMPARED = {"graphs": 0}


def watched(graph: Any, inputs: Any, target: Target, *args: Any, **options: Any) -> Any:
    """`run_graph`, after every way to run the graph was compared with the definitions."""
    case = GraphCase(graph, {n: np.asarray(inputs[n], np.int64) for n in graph.inputs}, "as it is")
    products = sum(
        int(np.prod(graph.tensors[n.output].shape)) * n.arrays["weight"][0].size
        for n in graph.nodes
        if "weight" in n.arrays
    )
    for machine in dict.fromkeys([target, *MACHINES]):
        if products < MOST_PRODUCTS or not machine.stages:
            agree(case, machine)
            COMPARED["graphs"] += 1
    return run_graph(graph, inputs, target, *args, **options)


engine.run_graph = watched  # type: ignore[assignment]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many comparisons there were; 0 would mean that the plugin saw nothing."""
    terminalreporter.write_line(f"compared {COMPARED['graphs']} runs with the definitions")
