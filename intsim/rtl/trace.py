"""What came out of a design, and where it first differs from what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.rtl.design import Design, Words


class Trace(NamedTuple):
    """Rows that came out: `cycles` (rows,), of each output elements (rows, count), and how many cycles were run."""

    cycles: NDArray[np.int64]
    outputs: list[Words]
    ran: int


@dataclass(frozen=True)
class Mismatch:
    """The first wrong element.

    Attributes:
        how: "differs"; "missing": the design gave fewer rows; "extra": it gave more.
        cycle: in which it came out; without a clock, the row. Of missing ones the last cycle.
        port: of the design.
        element: number of the element in the port's file, from 0.
        expected, got: as numbers, two's complement where the file says signed; "x" where a simulator says undefined;
            None where there is none.
    """

    how: Literal["differs", "missing", "extra"]
    cycle: int
    port: str
    element: int
    expected: int | None
    got: int | str | None


@dataclass(frozen=True)
class Found:
    """How a run ended: mismatches, the first of them, and cycles. A missing row counts each of its elements."""

    mismatches: int
    first: Mismatch | None
    cycles: int


def compared(design: Design, trace: Trace) -> Found:
    """A trace held against the vectors of the outputs."""
    rows, came = design.rows[1], len(trace.cycles)
    both = min(rows, came)
    wrong = [trace.outputs[k][:both] != design.vectors[p.name][:both] for k, p in enumerate(design.outputs)]
    count = sum(int(w.sum()) for w in wrong)
    lead = design.outputs[0]
    first: Mismatch | None = None
    if count:
        row = min(int(w.any(axis=1).argmax()) for w in wrong if w.any())
        k = next(k for k, w in enumerate(wrong) if w[row].any())
        place, port = int(wrong[k][row].argmax()), design.outputs[k]
        expected, got = (port.shown(int(x[row, place])) for x in (design.vectors[port.name], trace.outputs[k]))
        first = Mismatch("differs", int(trace.cycles[row]), port.name, row * port.count + place, expected, got)
    if came < rows:
        count += (rows - came) * sum(p.count for p in design.outputs)
        first = first or Mismatch("missing", trace.ran - 1, lead.name, came * lead.count, None, None)
    elif came > rows:
        count += 1
        first = first or Mismatch("extra", int(trace.cycles[rows]), lead.name, rows * lead.count, None, None)
    return Found(count, first, trace.ran)
