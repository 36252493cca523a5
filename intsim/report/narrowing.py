"""What became of a network's codes that lost their last bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from intsim.narrowing import CodeSource
from intsim.report.table import Column, note, say, show_table

FORMAT = "intsim-narrowing-1"


def changes_json(model: str, out: Path, changes: Sequence[tuple[CodeSource, int]]) -> dict[str, Any]:
    """Plain dictionaries, lists and numbers."""
    quantizers = [{"kind": s.kind, "name": s.names[0], "bits": s.bits, "narrowed_bits": n} for s, n in changes]
    return {"format": FORMAT, "model": model, "file": str(out), "quantizers": quantizers}


def show_changes(console: Console, model: str, out: Path, changes: Sequence[tuple[CodeSource, int]]) -> None:
    """A line for each layer's weights and each quantizer."""
    show_table(
        console,
        [
            Column("kind", [s.kind for s, _ in changes], "text"),
            Column("name", [s.names[0] for s, _ in changes], "text"),
            Column("bits", [str(s.bits) for s, _ in changes]),
            Column("narrowed\nbits", [str(n) for _, n in changes]),
        ],
        model,
    )
    fewer = sum(n < s.bits for s, n in changes)
    note(console, "bits of weights are those that their codes need")
    say(console, f"wrote {out}: {fewer} of {len(changes)} narrower; no retraining has made good what that costs")
