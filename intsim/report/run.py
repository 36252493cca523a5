"""The outputs of a run, in a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from rich.console import Console

from intsim.report.table import Column, show_table


def summary(outputs: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Shape, type and extremes by name; an extreme that is not finite is given as text, which JSON can hold."""
    return {name: _summary(array) for name, array in outputs.items()}


def _summary(array: NDArray[Any]) -> dict[str, Any]:
    ends = [a.item() for a in (array.min(), array.max())]
    low, high = (e if math.isfinite(float(e)) else str(e) for e in ends)
    return {"shape": list(array.shape), "dtype": str(array.dtype), "min": low, "max": high}


def show_outputs(console: Console, outputs: Mapping[str, Mapping[str, Any]]) -> None:
    """One line an output; `outputs` is what `summary` returns."""
    rows = list(outputs.values())
    show_table(
        console,
        [
            Column("output", list(outputs), "text"),
            Column("type", [r["dtype"] for r in rows], "text"),
            Column("shape", ["x".join(map(str, r["shape"])) for r in rows]),
            Column("least", [str(r["min"]) for r in rows]),
            Column("greatest", [str(r["max"]) for r in rows]),
        ],
    )
