"""Whole networks, random ONNX models and every instruction set: the engine computes what the definitions say."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.engine.exact import isa
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph
from intsim.ops import OPS
from intsim.targets import Target
from intsim.testing.graphs import qonnx_models

from .graphs import GraphCase
from .test_agreement import CI, EXACT, agree

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

ROOT = Path(__file__).resolve().parents[2]
ZOO = sorted((ROOT / "models" / "zoo").glob("*_w8a8.*.onnx"))
RNG = np.random.default_rng(5)


def some_codes(graph: IntegerGraph) -> dict[str, np.ndarray]:
    """Codes of the whole range, a quarter of them at its ends."""
    infos = [graph.tensors[n] for n in graph.inputs]
    some = [RNG.integers(t.low, t.high, t.shape, endpoint=True) for t in infos]
    ends = [RNG.choice([t.low, t.high], t.shape) for t in infos]
    return {t.name: np.where(RNG.random(t.shape) < 0.25, e, s) for t, s, e in zip(infos, some, ends, strict=True)}


def cut(graph: IntegerGraph, height: int, width: int) -> IntegerGraph:
    """A convolutional network for smaller images: the same nodes, every shape anew, the first of what is picked."""
    smaller = IntegerGraph(graph.name, inputs=graph.inputs, outputs=graph.outputs)
    for name in graph.inputs:
        t = graph.tensors[name]
        smaller.tensors[name] = replace(t, shape=(*t.shape[:2], height, width))
    for node in graph.nodes:
        shapes = [smaller.tensors[n].shape for n in node.inputs]
        if node.op == "gather":
            axis, index = node.attributes["axis"], node.arrays["index"]
            size = shapes[0][axis] * index.size // graph.tensors[node.inputs[0]].shape[axis]
            node = replace(node, arrays={"index": index[:size]})
        smaller.add(node, replace(graph.tensors[node.output], shape=tuple(OPS[node.op].shape(node, *shapes))))
    return smaller


@pytest.mark.parametrize("path", ZOO, ids=lambda p: p.name.removesuffix(".onnx"))
def test_a_committed_network(path):
    graph = intsim.load(path).graph
    agree(GraphCase(graph, some_codes(graph), "byte"), EXACT, [(True, True, 1), (False, True, 2)])


MACHINES = ["x86-avx2", "saturate-15", "wrap-16", "cpu-int32", "dsp48e2-int8-raw"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(
            *(p, name),
            id=f"{p.name.removesuffix('.onnx')}-{name}",
            # one network on every machine and every network on one of them, every day
            marks=[pytest.mark.slow]
            * (p.name != "dispnet_w8a8.qonnx.onnx" or name not in ("x86-avx2", "dsp48e2", "cmsis-nn")),
        )
        for p in ZOO
        for name in MACHINES
        if "qonnx" in p.name
    ],
)
def test_a_committed_network_step_by_step(path, name):
    """Cut to 8 x 16: the definitions add one product after another."""
    graph = cut(intsim.load(path).graph, 8, 16)
    agree(GraphCase(graph, some_codes(graph), "byte"), Target.load(name), [(True, True, 1), (False, False, 2)])


@given(qonnx_models(max_elements=200), st.sampled_from(["saturate-9", "wrap-10"]).map(Target.load))
@settings(max_examples=CI)
def test_graphs_as_the_front_end_writes_them(case, narrow):
    try:
        loaded = intsim.load(case.model)
    except IntsimError:
        return
    codes = loaded.integer_inputs(case.inputs)
    for machine in (EXACT, narrow):
        agree(GraphCase(loaded.graph, codes, "wide"), machine, [(True, True, 1), (False, False, 2)])


def in_another_process(*tests: str, **environment: str) -> str:
    """What pytest prints; fails with it unless all tests pass."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HYPOTHESIS", "INTSIM", "NUMBA"))}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def machine_code(name: str) -> dict[str, str]:
    """A folder of its own for the compiled kernels of a processor, kept between runs as it takes seconds to fill."""
    folder = ROOT / ".pytest_cache" / "kernels" / name
    folder.mkdir(parents=True, exist_ok=True)
    return {"NUMBA_CACHE_DIR": str(folder), "AGREEMENT_EXAMPLES": "3"}


AGREEMENT = "tests/engine/test_agreement.py"


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["haswell", "x86-64"])
def test_agreement_on_an_older_processor(cpu):
    """AVX2 without AVX512, and SSE2 alone."""
    in_another_process(AGREEMENT, "-m", "not slow", NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="", **machine_code(cpu))


@pytest.mark.slow
@pytest.mark.parametrize("name", isa.available()[1:])
def test_agreement_with_the_instructions_of(name):
    """Each way to add four products that this processor has but would not choose."""
    in_another_process(AGREEMENT, "-m", "not slow", INTSIM_ISA=name, **machine_code(name))


@pytest.mark.slow
def test_every_network_of_the_other_tests():
    """With a plugin that compares whatever they run; see everywhere.py."""
    rooms = ("tests/frontend", "tests/verification", "tests/engine/test_run.py")
    text = in_another_process("-p", "engine.everywhere", "-m", "not slow", *rooms, PYTHONPATH=str(ROOT / "tests"))
    assert int(re.findall(r"compared (\d+) runs", text)[0]) > 1000
