"""Warming up: every case is a legal graph that runs, and after it networks find every kernel compiled."""

from pathlib import Path

import numpy as np
import pytest

import intsim
from intsim.engine import warmup
from intsim.engine.run import run_graph
from intsim.frontend import codes
from intsim.inputs import draw
from intsim.jit.compile import census
from intsim.targets import Target

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"


@pytest.mark.parametrize("name", warmup.CASES)
def test_every_case_runs_and_is_exact_where_registers_are_wide(name):
    made = warmup.case(name)
    ran = [run_graph(made.graph, made.inputs, Target.load(t), keep=True) for t in ("exact", "saturate-50")]
    for tensor in made.graph.tensors:
        np.testing.assert_array_equal(ran[0].tensors[tensor], ran[1].tensors[tensor])
        assert np.ptp(ran[0].tensors[tensor]) > 1, "nothing happens there"


def test_targets_that_do_not_take_a_case_are_passed_over():
    runs = {job.name: job.run for job in warmup.jobs()}
    assert not runs["conv on dsp48e2-int4"]()
    assert not runs["conv of 16 bits on x86-avx2"]()
    assert runs["conv of 4 bits on dsp48e2-int4"]()
    assert runs["telemetry of conv"]()


@pytest.mark.slow  # compiles everything where nothing was kept
def test_nothing_is_left_to_compile():
    """If this fails after a change of the engine, `warmup.CASES` or `warmup.TARGETS` lacks a case."""
    for job in warmup.jobs():
        job.run()
    codes.warm()
    before = census()
    for file in ("h3dispnet_w8a8.qonnx.onnx", "dispnet_w8a8.qcdq.onnx"):
        model = intsim.load(ZOO / file)
        values = draw(model, 0)
        for target in ("exact", "x86-avx2", "arm-sdot", "saturate-16", "wrap-20", "fixed-point-16"):
            for _ in range(2):
                model.run(values, target, keep=target == "exact", threads=1)
    assert census() == before
