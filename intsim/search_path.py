"""From which folders Python may import: never the working directory, where companions of a downloaded model may lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME = str(Path(__file__).resolve().parents[1])
"""The folder that holds the package. Who runs intsim from its own checkout has chosen that folder."""
INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")


def trusted_path() -> list[str]:
    """`sys.path` without the working directory, under whatever name, and without what a relative PYTHONPATH put there.

    The folder that holds intsim itself stays, and so do those of Python and its packages. The order is kept.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    refused = {_real(""), *(_real(p) for p in given if not os.path.isabs(p))}  # an empty one is the working directory
    if refused.intersection(map(_real, filter(os.path.isabs, sys.path))):
        import sysconfig

        refused.difference_update(_real(sysconfig.get_path(name)) for name in INSTALLED)
    refused.discard(HOME)
    own = [HOME if _real(p) == HOME else p for p in sys.path]
    return [p for p in own if os.path.isabs(p) and _real(p) not in refused]


def leave_working_directory() -> None:
    """Import nothing from the working directory from now on. The command line's own process begins with it."""
    sys.path[:] = trusted_path()


def _real(entry: str) -> str:
    try:
        return os.path.realpath(entry or os.curdir)
    except OSError:  # the working directory is gone
        return ""
