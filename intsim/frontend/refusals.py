"""Refusals of many nodes as one line."""

from __future__ import annotations

from collections.abc import Sequence

MOST_SAID = 12
"""Groups of refusals in one message; nodes of the rest are counted."""


def summary(refusals: Sequence[tuple[str, str, str]]) -> str:
    """Refusals (node, operator, text) in one line: those that say the same of one operator together, advice once."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, op, text in refusals:
        names = grouped.setdefault((op, text), [])
        if name not in names:
            names.append(name)
    parts: list[str] = []
    said: set[str] = set()
    for (op, text), names in list(grouped.items())[:MOST_SAID]:
        what, _, advice = text.partition("; ")
        text = what if advice in said else text
        said.add(advice)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        parts.append(text if text.startswith("node ") and not more else f"node {names[0]} ({op}){more}: {text}")
    left = sum(map(len, list(grouped.values())[MOST_SAID:]))
    return "; ".join([*parts, *([f"and {left} more nodes"] if left else [])])
