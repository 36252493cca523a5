"""Every script of `examples/` runs by itself, from an empty folder, and says what it is there to say."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import intsim
from intsim.graph import node_json

from .pages import ROOT, environment

EXAMPLES = ROOT / "examples"
CASES = {
    "verify_my_brevitas_model.py": ([], 0, "exact"),
    "overflow_on_avx2.py": ([], 1, "stage 1, 16 bits, saturate: may need 17; overflowed"),
    "narrowest_accumulators.py": ([], 0, "/classify/Gemm   wrap          23"),
    "my_accelerator.py": ([], 0, "certified"),
    "check_my_kernel.py": ([], 0, "Checked(cases=500, difficult="),
    "check_my_kernel.py -DNO_SATURATION": (["-DNO_SATURATION"], 1, "disagree on a dot product of 2 terms"),
    "decode_hilbert.py": ([], 0, "without noise every value comes back"),
}


def test_all_of_them_are_tried():
    assert {p.name for p in EXAMPLES.glob("*.py")} == {case.split()[0] for case in CASES}


LONG = ("narrowest_accumulators.py", "check_my_kernel.py")


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c in LONG)) for c in CASES])
def test_an_example_runs(case, tmp_path):
    arguments, code, said = CASES[case]
    script = case.split()[0]
    if script == "verify_my_brevitas_model.py":
        pytest.importorskip("brevitas")
    if script == "check_my_kernel.py" and shutil.which("cc") is None:
        pytest.skip("no C compiler called cc")
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment())
    assert said in done.stdout + done.stderr
    assert done.returncode == code
    if script == "verify_my_brevitas_model.py":
        same_integers(tmp_path / "digits.onnx", EXAMPLES / "digits.onnx")


def same_integers(made, kept):
    """The network that the other examples take is the one that this one exports."""
    made, kept = (intsim.load(p).graph for p in (made, kept))
    assert [node_json(n) for n in made.nodes] == [node_json(n) for n in kept.nodes]
    for one, other in zip(made.nodes, kept.nodes, strict=True):
        assert all(np.array_equal(a, other.arrays[name]) for name, a in one.arrays.items())
