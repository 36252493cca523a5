"""intsim: quantized networks as exact integers on modelled CPU and DSP arithmetic.

load     read a QONNX, QCDQ or QOperator file and lower it to integers
run      run it on a target
verify   compare a target with exact semantics and with float executors, and blame every difference
bounds   prove what the accumulators can reach
telemetry  see what the accumulators held, and what they would have needed
sweep    compare register and multiplier widths with the exact run
certify  prove a target exact for every input, or find what stands between
Target   a machine's integer arithmetic, from a built-in name or a TOML file
"""

from intsim.errors import IntsimError
from intsim.explore.sweep import sweep
from intsim.explore.telemetry import telemetry
from intsim.model import Model, Run, load, run
from intsim.proofs.bounds import bounds
from intsim.proofs.certificate import Certificate
from intsim.proofs.certify import certify
from intsim.targets import Target
from intsim.verify.verdict import Verdict
from intsim.verify.verify import verify

__all__ = [
    "Certificate",
    "IntsimError",
    "Model",
    "Run",
    "Target",
    "Verdict",
    "bounds",
    "certify",
    "load",
    "run",
    "sweep",
    "telemetry",
    "verify",
]
__version__ = "0.1.0"
