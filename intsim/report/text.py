"""Numbers and names as people read them."""

from collections.abc import Mapping, Sequence
from typing import Any


def floats(host: Mapping[str, Any]) -> str:
    """The numbers that the host works with: float64, but with float islands those of the file."""
    return "floats of the file" if "islands" in host else "float64"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {number(len(names) - most)} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number(value: int) -> str:
    """Thousands apart."""
    return f"{value:,}".replace(",", " ")


def counted(count: int, noun: str) -> str:
    """1 layer, 2 layers."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes with a unit: 999 B, 1.5 kB, 12 MB."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"


def printable(text: str) -> str:
    """Names in a file may hold what moves a terminal's cursor, and what XML can't hold."""
    return "".join(c if c.isprintable() else "?" for c in text)


def percent(count: int, total: int) -> str:
    """A share in two digits: `32 %`; `100 %` is said of all only."""
    share = 100 * count / total
    return f"{share:.2g} %" if share < 99.5 else f"{100 if count == total else min(share, 99.9):.3g} %"
