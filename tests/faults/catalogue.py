"""Faults worth planting: one rounding, one width, one order, one sign changed, and the test that must notice.

Each is a mistake that a port, a refactoring or a misread manual makes, and that leaves the program running.
"""

from . import (
    codec,
    diagnosis,
    engine,
    evidence,
    grids,
    integers,
    islands,
    networks,
    numbers,
    pages,
    rows,
    runtimes,
    tables,
    vectors,
)
from .planting import Fault

FAULTS: tuple[Fault, ...] = (
    *(*numbers.FAULTS, *networks.FAULTS, *evidence.FAULTS, *engine.FAULTS),
    *(
        *tables.FAULTS,
        *rows.FAULTS,
        *grids.FAULTS,
        *codec.FAULTS,
        *integers.FAULTS,
        *islands.FAULTS,
        *runtimes.FAULTS,
        *vectors.FAULTS,
        *diagnosis.FAULTS,
        *pages.FAULTS,
    ),
)
