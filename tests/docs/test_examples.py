"""Every script of `examples/` runs by itself, from an empty folder, and says what it is there to say."""

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

import intsim
from intsim.graph import node_json

from .pages import DOCS, ROOT, blocks, environment

EXAMPLES = ROOT / "examples"
CASES = {
    "verify_my_brevitas_model.py": ([], 0, "exact"),
    "overflow_on_avx2.py": ([], 1, "stage 1, 16 bits, saturate: may need 17; overflowed"),
    "narrowest_accumulators.py": ([], 0, "/classify/Gemm   wrap          23"),
    "my_accelerator.py": ([], 0, "certified"),
    "check_my_kernel.py": ([], 0, "Checked(cases=500, difficult="),
    "check_my_kernel.py -DNO_SATURATION": (["-DNO_SATURATION"], 1, "disagree on a dot product of 2 terms"),
    "decode_hilbert.py": ([], 0, "without noise every value comes back"),
    "cocotb_dot.py": ([], 0, "1 test of 20 sums, 0 failed"),
    "da4ml_dense.py": ([], 0, "256 x 10 in 3 stages, 40 rows: as expected"),
    "finn_thresholds.py": ([], 0, "2048 codes of Im2Col, MatMul and MultiThreshold, 0 wrong"),
    "hls4ml_simulation.py": ([], 0, "hidden, output: 20000 of hls4ml's simulation, 0 wrong"),
    "hls4ml_simulation.py fixed<12,6,TRN,SAT>": (["fixed<12,6,TRN,SAT>"], 1, "last, accumulator: 10000 of"),
}
NEEDS = {
    "verify_my_brevitas_model.py": ["brevitas"],
    "check_my_kernel.py": ["cc"],
    "cocotb_dot.py": ["cocotb", "iverilog"],
    "da4ml_dense.py": ["da4ml", "iverilog"],
    "finn_thresholds.py": ["qonnx"],
    "hls4ml_simulation.py": ["hls4ml", "g++"],
}
"""Packages and programs that an example can't do without."""
PROGRAMS = ("cc", "g++", "iverilog")
FLOWS = ROOT / "out" / "oracles" / "flows" / "bin" / "python"  # `make oracles`: intsim beside hls4ml, da4ml and cocotb


def test_all_of_them_are_tried():
    assert {p.name for p in EXAMPLES.glob("*.py")} == {case.split()[0] for case in CASES}


LONG = ("narrowest_accumulators.py", "check_my_kernel.py", "da4ml_dense.py", *(c for c in CASES if "hls4ml" in c))


def python_for(script):
    """A Python that has what an example needs; skips the test where there is none."""
    needed = NEEDS.get(script, [])
    for program in needed:
        if program in PROGRAMS and shutil.which(program) is None:
            pytest.skip(f"{program} isn't installed")
    packages = [name for name in needed if name not in PROGRAMS]
    if all(importlib.util.find_spec(name) for name in packages):
        return sys.executable
    if not {"cocotb", "da4ml", "hls4ml"}.issuperset(packages) or not FLOWS.is_file():
        pytest.skip(f"{', '.join(packages)} isn't installed; run `make oracles`, or install it")
    return str(FLOWS)


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c in LONG)) for c in CASES])
def test_an_example_runs(case, tmp_path):
    arguments, code, said = CASES[case]
    script = case.split()[0]
    command = [python_for(script), "-W", "ignore", str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment())
    assert said in done.stdout + done.stderr
    assert done.returncode == code
    if script == "verify_my_brevitas_model.py":
        same_integers(tmp_path / "digits.onnx", EXAMPLES / "digits.onnx")


def test_the_testbench_of_the_guide_is_that_of_the_example():
    (shown,) = [b for b in blocks((DOCS / "guides/hardware.md").read_text()) if b.file == "test_dot.py"]
    assert shown.text.split("\n", 1)[1] in (EXAMPLES / "cocotb_dot.py").read_text()


def same_integers(made, kept):
    """The network that the other examples take is the one that this one exports."""
    made, kept = (intsim.load(p).graph for p in (made, kept))
    assert [node_json(n) for n in made.nodes] == [node_json(n) for n in kept.nodes]
    for one, other in zip(made.nodes, kept.nodes, strict=True):
        assert all(np.array_equal(a, other.arrays[name]) for name, a in one.arrays.items())
