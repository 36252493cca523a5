"""Random graphs on random machines: every way to run them gives the tensors and the overflows of the definitions."""

import os
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.engine import threads as machine
from intsim.engine.run import run_graph
from intsim.errors import IntsimError
from intsim.targets import Target
from intsim.testing.machines import packed_stages, packings, requantizers, stages

from .definitions import defined
from .graphs import WIDEST, GraphCase, integer_graphs

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

CI = int(os.environ.get("AGREEMENT_EXAMPLES", settings().max_examples))
EXACT = Target.load("exact")
NARROW = ["saturate-16", "saturate-12", "saturate-8", "wrap-16", "wrap-11", "wrap-7", "axe-14", "a2q-12"]
ANY = ["cpu-int32", "dsp48e2", "dsp-40", "cortex-m-smlad", "finn-mvau", "hifi-56", "saturate-20", "wrap-24", "wrap-32"]
ANY += ["saturate-32", "saturate-33", "saturate-64", "fixed-point-9", "tflite-single", "tosa", "rtl-shift"]
BYTE = ["x86-vnni", "x86-avx2", "x86-avx2", "x86-vnni-saturating", "fbgemm-acc16", "arm-sdot", "arm-neon-int8"]
BYTE += ["arm-udot", "dsp48e2-int8", "dsp48e2-int8-raw"]
NIBBLE = ["dsp48e2-int4", "dsp48e2-int4-raw"]
EXACT_FORM = st.just({"scheme": "exact"})


@st.composite
def machines(draw: Any, widths: str) -> Target:
    """A built-in target that takes operands of these widths, or registers of any kind, mostly narrow ones."""
    built_in = [*NARROW, *ANY, *(BYTE if widths != "wide" else []), *(NIBBLE if widths == "nibble" else [])]
    if draw(st.booleans()):
        return Target.load(draw(st.sampled_from(built_in)))
    packing = draw(packings()) if draw(st.integers(0, 4)) == 4 else None
    chain = draw(stages(min_bits=4, max_bits=draw(st.sampled_from([12, 16, 20, 64]))))
    accumulate: dict[str, Any] = {
        "order": draw(st.permutations(["kh", "kw", "cin"])),
        "bias": draw(st.sampled_from(["after", "preload", "requantizer"])),
    }
    if packing is not None:
        chain = draw(packed_stages(packing))
        accumulate["packing"] = {k: getattr(packing, k) for k in ("channels", "pixels", "bits", "correction")}
    accumulate["stages"] = [s.keys() for s in chain]
    form = draw(requantizers()) if draw(st.integers(0, 3)) == 3 and not chain[0].drop else None
    requantize: dict[str, Any] = {"scheme": "exact"}
    if form is not None:
        requantize = {"scheme": form.scheme, "multiplier_bits": form.multiplier_bits, "rounding": form.rounding}
        requantize = {k: v for k, v in requantize.items() if v is not None}
        if form.double_rounding:
            requantize["double_rounding"] = True
        if form.scheme not in ("exact", "thresholds") and accumulate["bias"] == "requantizer":
            accumulate["bias"] = "after"
    operands = None
    if widths != "wide" and draw(st.booleans()):
        bits = WIDEST[widths]
        operands = {
            "activation": f"{draw(st.sampled_from('us'))}{bits}",
            "weight": f"{draw(st.sampled_from('us'))}{bits}",
        }
    content = {"title": "t", "source": ["s"], "operands": operands, "accumulate": accumulate, "requantize": requantize}
    return Target.model_validate({**content, "name": "drawn"})


@contextmanager
def threads(count: int):
    """So many threads, and the number of before afterwards."""
    before = machine.threads()
    machine.set_threads(count)
    try:
        yield
    finally:
        machine.set_threads(before)


WAYS = [(True, True, 1), (False, False, 2), (True, False, 2), (False, True, 1)]
"""keep, counts, threads: each pair of settings once."""


def agree(case: GraphCase, target: Target, ways=WAYS) -> None:
    """Run a graph in every way; tensors and events are those of the definitions, and so are refusals."""
    graph = case.graph
    try:
        wanted, events = defined(graph, case.inputs, target)
    except IntsimError:
        with pytest.raises(IntsimError):
            run_graph(graph, case.inputs, target)
        return
    given_ = {n: a.copy() for n, a in case.inputs.items()}
    for keep, counts, count in ways:
        with threads(count):
            run = run_graph(graph, given_, target, keep=keep, counts=counts)
        run_as = f"{target.name}, keep={keep}, counts={counts}, threads={count}"
        assert set(graph.tensors if keep else graph.outputs) <= set(run.tensors), run_as
        for name, array in run.tensors.items():
            assert array.dtype == np.int64, (run_as, name)
            np.testing.assert_array_equal(array, wanted[name], err_msg=f"{run_as}: {name}", strict=True)
        assert run.events.keys() == events.keys(), run_as
        for name, seen in events.items():
            seen = seen if counts else (seen > 0).astype(np.int64)
            np.testing.assert_array_equal(run.events[name], seen, err_msg=f"{run_as}: events of {name}")
        for name, array in case.inputs.items():
            np.testing.assert_array_equal(given_[name], array, err_msg=f"{run_as}: input {name} was changed")


@given(integer_graphs())
@settings(max_examples=4 * CI)
def test_exact(case):
    agree(case, EXACT)


@given(integer_graphs(), st.data())
@settings(max_examples=2 * CI)
def test_on_a_machine(case, data):
    agree(case, data.draw(machines(case.widths)))


@pytest.mark.slow
@given(integer_graphs(max_nodes=12, max_elements=20_000), st.data())
@settings(max_examples=20 * CI)
def test_larger_tensors(case, data):
    agree(case, data.draw(st.one_of(st.just(EXACT), machines(case.widths))))
