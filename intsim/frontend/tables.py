"""A function of one integer tensor and the quantizer behind it as a table of correctly rounded entries.

Each entry is decided on exact bounds of the real value: those of float64 arithmetic where both round to the same code
(`reals.enclosure`), else of rationals, of which more bits are spent until they do.
A value that needs more than `MOST_BITS` is refused, never guessed; values that are rational are exact from the start,
ties as well. Where there are more integers than a table lists, the steps are found instead (`staircases.py`).
"""

from __future__ import annotations

import math

import numpy as np

from intsim.frontend.cells import Cells
from intsim.frontend.context import Context, Meaning, Quantizer, Refused
from intsim.frontend.expression import Applied, Curve, Expr, compress, spread
from intsim.frontend.staircases import stairs
from intsim.graph import Tensor
from intsim.ops.table import MOST_CODES

MOST_ENTRIES = 1 << 22
"""Most entries of one node's tables (32 MiB)."""
MOST_OF_SUMS = 1 << 14
"""Most entries of the tables of an accumulator; one of more integers has a staircase, which takes less time to find."""


def tabulate(
    context: Context, value: Curve, quantizer: Quantizer, onnx: str | None, meaning: Meaning | None = None
) -> Expr:
    """Write a table, or a staircase, of a quantized function, arguments as of `Context.quantize`.

    Raises Refused for a code at which the function has no real value, or that `MOST_BITS` bits don't decide.
    """
    rank = len(value.shape)
    tensor = context.graph.tensors[value.tensor]
    codes = _codes(tensor)
    function = Cells(Applied("affine", (value.function,), quantizer.line(rank)))
    entries = math.prod(function.cells) * len(codes)
    if len(codes) > MOST_CODES or entries > (MOST_OF_SUMS if tensor.type is None else MOST_ENTRIES):
        return stairs(context, value, quantizer, onnx, meaning)
    rows, known = function.seen(codes, quantizer)
    lost: list[tuple[int, int]] = []
    for i in np.flatnonzero(~known.all(axis=0)).tolist():
        x = codes[i]
        function.memo.clear()
        for row in np.flatnonzero(~known[:, i]).tolist():
            try:
                rows[row, i] = function.decided(function.distinct[row], x, quantizer.code)
            except Refused:
                if tensor.low <= x <= tensor.high:
                    raise
                lost.append((row, i))
    for row, i in lost:  # codes that only an overflow could bring read what the nearest reachable one reads
        rows[row, i] = rows[row, min(max(codes[i], tensor.low), tensor.high) - codes.start]
    table = np.ascontiguousarray(rows[function.row])
    scale, offset = (compress(spread(m, rank)) for m in meaning or quantizer.meaning)
    made_by = dict.fromkeys(value.made_by)
    return context.emit_table(
        value.tensor, value.shape, function.cells, table, codes.start, made_by, (scale, offset), quantizer.kind, onnx
    )


def _codes(tensor: Tensor) -> range:
    """The codes that get entries: all of the declared type, so that a table holds what a machine's would."""
    kind = tensor.type
    if kind is not None and kind.max - kind.min < MOST_CODES and kind.contains(tensor.low, tensor.high):
        return range(kind.min, kind.max + 1)
    return range(tensor.low, tensor.high + 1)
