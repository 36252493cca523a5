"""Targets are data: `hardware/targets/*.toml` describe the integer arithmetic of machines.

The grammar is in `docs/targets.md`. A target says what the multiplier takes, in which order products arrive, through
which registers they are added, where the bias goes, and how the sum becomes a few bits again.
"""

from intsim.targets.library import Family
from intsim.targets.target import Target

__all__ = ["Family", "Target"]
