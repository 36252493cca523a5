"""Graphs in which a chosen operator occurs, run every way there is: definition, exact engine, registers, threads.

    python -m tests.engine.every_operator --examples 2000 --seed 7

draws that many graphs, of each operator equally many, and says which occurred how often.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from intsim.engine.run import run_graph
from intsim.errors import IntsimError
from intsim.ops import OPS
from intsim.targets import Target

from .graphs import GraphCase, integer_graphs
from .test_agreement import EXACT, agree, machines, threads

REGISTERS = [Target.load(f"{kind}-{bits}") for bits in (10, 13, 16, 20, 24, 32, 48) for kind in ("saturate", "wrap")]


def agrees_everywhere(case: GraphCase, data: Any, counted: Counter[str]) -> None:
    """Every way to run a graph; `counted` gets its operators, and in how many graphs registers were used and held."""
    agree(case, EXACT)
    agree(case, data.draw(machines(case.widths)))
    if registers_that_hold(case):
        counted["registers that held"] += 1
    counted.update({n.op for n in case.graph.nodes})


def registers_that_hold(case: GraphCase) -> bool:
    """The narrowest registers that don't overflow on these inputs make what the exact engine makes.

    Narrow ones may overflow as far as is proven, so that the engine goes through them. False: none overflows even in
    the narrowest.
    """
    exact = run_graph(case.graph, case.inputs, EXACT, keep=True)
    for place, target in enumerate(REGISTERS):
        try:
            run = run_graph(case.graph, case.inputs, target, keep=True)
        except IntsimError:
            continue
        if any(seen.any() for seen in run.events.values()):
            continue
        for count in (1, 2):
            with threads(count):
                again = run_graph(case.graph, case.inputs, target, keep=True, counts=count == 1)
            for name, array in exact.tensors.items():
                np.testing.assert_array_equal(again.tensors[name], array, err_msg=f"{target.name}: {name}")
        return place > 1
    return False


def campaign(examples: int, start: int | None = None) -> Counter[str]:
    """So many graphs for all operators together, derandomized where no seed is given; how often what occurred."""
    counted: Counter[str] = Counter()
    for place, op in enumerate(OPS):

        @settings(
            max_examples=-(-examples // len(OPS)),
            derandomize=start is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(integer_graphs(must=op, max_nodes=6, max_elements=1200), st.data())
        def one(case: GraphCase, data: Any) -> None:
            counted["graphs"] += 1
            agrees_everywhere(case, data, counted)

        (one if start is None else seed(start + 1000 * place)(one))()
    return counted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    for name, times in campaign(given_.examples, given_.seed).most_common():
        print(f"{times:7} {name}")
