"""Register-transfer level: modules that compute what intsim defines, their vectors, and simulators that compare them.

`emit` writes a module of `hardware/rtl` with its parameters, vectors and a description of its ports; `cosim` runs such
a design, or the user's own, on its vectors.
"""

from intsim.rtl.cosimulation import Cosimulation, cosim
from intsim.rtl.design import Design, write_hex
from intsim.rtl.kinds import emit
from intsim.rtl.synthesis import Area, area

__all__ = ["Area", "Cosimulation", "Design", "area", "cosim", "emit", "write_hex"]
