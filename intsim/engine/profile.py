"""What `--profile` shows: one record a layer of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerProfile:
    """One step of a run."""

    name: str  # the file's node
    op: str  # of the integer graph; several when they run as one
    kernel: str  # what ran
    why: str  # and why it could, or had to
    macs: int
    seconds: float
    bytes: int  # of the output
