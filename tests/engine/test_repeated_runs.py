"""What a run may leave behind for the next one: prepared programs, memory that is used again, other threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.engine.program.program import LINKS
from intsim.engine.run import run_graph
from intsim.engine.threads import using
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.jit.chain import Chain
from intsim.targets import Target

from .definitions import defined
from .graphs import integer_graphs
from .test_agreement import CI, EXACT, machines

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

RNG = np.random.default_rng(8)


def network(scale="1/32"):
    """Two convolutions with a requantizer between: u8 codes 8 x 8, three channels, then five, then two."""
    graph = IntegerGraph("g", inputs=["x"], outputs=["z"])
    graph.tensors["x"] = Tensor("x", (2, 3, 8, 8), 0, 255, rationals(1), rationals(0))
    at = {"strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4, "groups": 1, "zero_point": 0}
    weights = [np.random.default_rng(i).integers(-9, 10, s) for i, s in enumerate(((5, 3, 3, 3), (2, 5, 3, 3)))]
    rounds = {"cells": [1] * 4, "pieces": [[[None, scale, "0/1"]]], "zero": 100, "low": 0, "high": 255}
    graph.add(Node("conv", "a", ("x",), "a", at, {"weight": weights[0]}), tensor("a", 5, -90_000, 90_000))
    graph.add(Node("requantize", "y", ("a",), "y", {**rounds, "rounding": "half_even"}), tensor("y", 5, 0, 255))
    graph.add(Node("conv", "z", ("y",), "z", at, {"weight": weights[1]}), tensor("z", 2, -120_000, 120_000))
    return graph


def tensor(name, channels, low, high):
    return Tensor(name, (2, channels, 8, 8), low, high, rationals(1), rationals(0))


def codes():
    return {"x": RNG.integers(0, 256, (2, 3, 8, 8))}


def check(graph, inputs, run, target=EXACT):
    wanted, events = defined(graph, inputs, target)
    assert set(graph.outputs) <= set(run.tensors)
    for name in run.tensors:
        np.testing.assert_array_equal(run.tensors[name], wanted[name], err_msg=name)
    for name, seen in events.items():
        np.testing.assert_array_equal(run.events[name], seen, err_msg=name)


@given(integer_graphs(), st.data())
@settings(max_examples=CI)
def test_results_outlive_the_next_runs(case, data):
    """Another input, another target, the first input again: nobody's results change, whatever memory is shared."""
    graph = case.graph
    # a machine whose requantizer refuses nothing
    target = data.draw(
        st.one_of(st.just(EXACT), machines(case.widths).filter(lambda t: t.requantize.scheme == "exact"))
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    other = {n: np.where(rng.random(a.shape) < 0.5, a, a.reshape(-1)[0]) for n, a in case.inputs.items()}
    keep = data.draw(st.booleans())
    turns = [(case.inputs, target), (other, target), (case.inputs, EXACT), (case.inputs, target)]
    runs = [run_graph(graph, inputs, machine, keep=keep) for inputs, machine in turns]
    for run, (inputs, machine) in zip(runs, turns, strict=True):
        check(graph, inputs, run, machine)


@pytest.mark.parametrize("name", ["exact", "saturate-32"])
def test_what_a_caller_does_with_results_is_its_own_affair(name):
    graph, inputs, target = network(), codes(), Target.load(name)
    first = run_graph(graph, inputs, target, keep=True)
    for name in ("a", "y", "z"):
        first.tensors[name][...] = -1
    for events in first.events.values():
        events[...] = 7
    check(graph, inputs, run_graph(graph, inputs, target, keep=True), target)


@pytest.mark.parametrize("name", ["exact", "saturate-14", "x86-avx2"])
def test_several_threads_run_one_graph(name):
    graph, target = network(), Target.load(name)
    batches = [codes() for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda inputs: run_graph(graph, inputs, target), batches))
    for inputs, run in zip(batches, runs, strict=True):
        check(graph, inputs, run, target)


def swap_requantizer(graph):
    graph.nodes[1] = network("1/64").nodes[1]


def more_outputs(graph):
    graph.outputs = ["y", "z"]


def more_outputs_in_place(graph):
    graph.outputs.append("a")


def fewer_nodes(graph):
    del graph.nodes[2]
    del graph.tensors["z"]
    graph.outputs[:] = ["y"]


def wider_input(graph):
    graph.tensors["x"] = replace(graph.tensors["x"], low=-300, high=300)


@pytest.mark.parametrize(
    "change",
    [swap_requantizer, more_outputs, more_outputs_in_place, fewer_nodes, wider_input],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("name", ["exact", "saturate-15"])
def test_a_graph_that_was_changed_is_not_run_as_before(change, name):
    """A graph may be edited between runs, as tools that rewrite one do."""
    graph, inputs, target = network(), codes(), Target.load(name)
    check(graph, inputs, run_graph(graph, inputs, target), target)
    change(graph)
    if change is wider_input:
        inputs = {"x": RNG.integers(-300, 301, (2, 3, 8, 8))}
    check(graph, inputs, run_graph(graph, inputs, target), target)


@given(integer_graphs(), st.data())
@settings(max_examples=CI)
def test_inputs_outside_their_described_range(case, data):
    """The proofs speak of other inputs; what is computed is still the definition, on every register."""
    if any(node.op == "lookup" for node in case.graph.nodes):
        return  # a position outside the table is an error
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    inputs = {n: a + rng.integers(-3, 4, a.shape) for n, a in case.inputs.items()}
    target = data.draw(st.one_of(st.just(EXACT), machines("wide").filter(lambda t: t.requantize.scheme == "exact")))
    check(case.graph, inputs, run_graph(case.graph, inputs, target), target)


@given(integer_graphs(max_nodes=5))
@settings(max_examples=CI)
def test_watch_sees_every_node_with_its_arrays(case):
    target = Target.load("saturate-11")
    wanted, _ = defined(case.graph, case.inputs, target)
    seen = []

    def watch(node, arrays):
        seen.append(node.name)
        for name, array in zip(node.inputs, arrays, strict=True):
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)

    check(case.graph, case.inputs, run_graph(case.graph, case.inputs, target, watch=watch), target)
    assert seen == [node.name for node in case.graph.nodes]


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("name", ["exact", "saturate-14"])
def test_calls_of_one_thread_are_chained_from_the_second_run_on(name, refused, monkeypatch):
    """And made from Python where kernels can't be chained."""
    run, ran = Chain.run, []

    def counted(chain):
        ran.append(len(chain.calls))
        run(chain)

    def not_made(*_):
        raise TypeError("arguments are passed otherwise")

    monkeypatch.setattr(Chain, "run", counted)
    if refused:
        monkeypatch.setattr(Chain, "__init__", not_made)
    graph, target = network(), Target.load(name)
    for turn in range(3):
        inputs = codes()
        with using(1):
            check(graph, inputs, run_graph(graph, inputs, target), target)
        assert bool(ran) == (turn > 0 and not refused)
    assert all(0 < count <= LINKS for count in ran)
