"""How much memory the work on one file may take, known before it is taken: a small file can't take the machine.

The budget is what `--memory` or INTSIM_MEMORY says, else all that this process may use (`machine.usable_memory`).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from intsim.errors import IntsimError
from intsim.machine import usable_memory

VARIABLE = "INTSIM_MEMORY"
UNITS = ("", "K", "M", "G", "T")
"""Powers of 1024."""
MADE = 64
"""Constants that a file doesn't hold, but its nodes make, may take this part of the budget: a few bytes can ask for any
number of them."""
_chosen: int | None = None


def parsed(text: str, name: str) -> int:
    """Bytes of a text such as 512M or 8G; raises IntsimError for another one, which `name` gave."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    count = 0 if found is None else int(float(found[1]) * (1 << 10 * UNITS.index(found[2].upper())))
    if count < 1 << 20:
        raise IntsimError(f"{name} {text[:40]!r}: give a number of bytes, one megabyte or more, such as 512M or 8G")
    return count


def set_memory(text: str | None) -> None:
    """Take at most so much from now on; None goes back to the default. Raises IntsimError as `parsed` does."""
    global _chosen
    _chosen = None if text is None else parsed(text, "memory")


def memory() -> int:
    """The budget in bytes. Raises IntsimError for an INTSIM_MEMORY that is no number of bytes."""
    if _chosen is not None:
        return _chosen
    given = os.environ.get(VARIABLE, "").strip()
    return parsed(given, VARIABLE) if given else usable_memory()


def shown(count: int) -> str:
    """A number of bytes for people: three digits."""
    power = min(max(len(f"{count}") - 1, 0) // 3, len(UNITS) - 1)
    return f"{count / (1 << 10 * power):.3g} {UNITS[power]}{'iB' if power else 'B'}"


def check(count: int, what: str, part: int = 1) -> None:
    """Raise IntsimError where `what` takes `count` bytes, more than a part of the budget (half of it for 2)."""
    allowed = memory() // part
    if count > allowed:
        share = "" if part == 1 else f" that such constants may take of {shown(memory())}"
        raise IntsimError(f"{what} {shown(count)}, more than the {shown(allowed)}{share}; --memory allows more")


@dataclass
class Account:
    """What has been taken so far, of which all is kept: `take` before each step that takes more."""

    part: int = 1
    taken: int = 0

    def take(self, count: int, what: str) -> None:
        """Raises IntsimError, and takes nothing, where all that was taken is then more than the part of the budget."""
        check(self.taken + count, f"{what} {shown(count)}, and all until here", self.part)
        self.taken += count


def contents(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        IntsimError: it can't be read, has no end (a pipe, a device), or is larger than the budget.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise IntsimError(f"{path}: is a pipe or a device; give a file")
        check(found.st_size, f"{path}: takes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, IntsimError):
            raise
        raise IntsimError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
