"""intsim: quantized networks as exact integers on modelled CPU and DSP arithmetic.

load     read a QONNX, QCDQ or QOperator file and lower it to integers
run      run it on a target
verify   compare a target with exact semantics and with float executors, and blame every difference
bounds   prove what the accumulators can reach
Target   a machine's integer arithmetic, from a built-in name or a TOML file
"""

from intsim.errors import IntsimError
from intsim.model import Model, Run, load, run
from intsim.proofs.bounds import bounds
from intsim.targets import Target
from intsim.verify.verdict import Verdict
from intsim.verify.verify import verify

__all__ = ["IntsimError", "Model", "Run", "Target", "Verdict", "bounds", "load", "run", "verify"]
__version__ = "0.1.0"
