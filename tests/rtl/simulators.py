"""Two simulators with front ends of their own where both are installed, and designs made in a test."""

import pytest

from intsim.rtl import cosim, modules
from intsim.rtl.cosimulation import SIMULATORS
from intsim.rtl.design import Design, Port, write_hex
from intsim.rtl.tools import INSTALL, missing


def needs(*simulators):
    """A mark that skips a test where one of the simulators isn't installed."""
    lacking = [t for s in simulators for t in SIMULATORS[s] if missing(t)]
    return pytest.mark.skipif(
        bool(lacking), reason=f"needs {', '.join(lacking)}: {INSTALL[lacking[0]] if lacking else ''}"
    )


def each(*simulators, slow=()):
    """The simulators as parameters of a test, each skipped where it isn't installed; `slow` in the long suite alone."""
    return [pytest.param(s, marks=[needs(s), *[pytest.mark.slow] * (s in slow)]) for s in (*simulators, *slow)]


def design(folder, module, top, inputs, outputs, **more):
    """A design of `top`, the text of a module `top`, on hardware/rtl's `module`.

    Inputs and outputs are (values, bits) or (values, bits, count) by port; values are integers of any shape.
    """
    for name, text in modules.sources(module).items():
        (folder / name).write_text(text)
    (folder / "top.sv").write_text(top)
    ports = []
    for side in (inputs, outputs):
        made = []
        for name, (values, bits, *count) in side.items():
            write_hex(folder / f"{name}.hex", values, bits)
            made.append(Port(name, bits, *(count or [1]), signed=True, file=f"{name}.hex"))
        ports.append(tuple(made))
    return Design(folder, "top", (*modules.sources(module), "top.sv"), *ports, **more)


def holds(made, *simulators):
    """Whether each of them finds nothing wrong, and how many rows there were."""
    for simulator in simulators:
        found = cosim(made, simulator)
        assert found.holds, (simulator, found.words())
    return found.vectors
