"""The smallest dot product that still shows a mistake: fewer terms first, then smaller values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intsim.testing.dots import DotProduct

Fails = Callable[[DotProduct], bool]


def smallest(case: DotProduct, fails: Fails, most_tries: int = 2000) -> DotProduct:
    """A dot product for which `fails` is true and no single term can go, and no single value can be smaller.

    Args:
        case: one for which `fails` is true.
        fails: asked at most `most_tries` times; what is left then may be not quite the smallest.
        most_tries: bounds the time a slow kernel takes.
    """
    tries = 0

    def still(candidate: DotProduct) -> bool:
        nonlocal tries
        tries += 1
        return tries <= most_tries and fails(candidate)

    before = None
    while before is None or (_size(case) < before and tries < most_tries):
        before = _size(case)
        case = _smaller_values(_fewer_terms(case, still), still)
    return case


def _size(case: DotProduct) -> tuple[int, int]:
    values = (case.activation, case.weight, np.asarray(case.bias))
    return case.activation.shape[-1], sum(int(np.abs(v.astype(np.int64)).sum()) for v in values)


def _fewer_terms(case: DotProduct, still: Fails) -> DotProduct:
    """Blocks of terms left out, large ones first."""
    block = case.activation.shape[-1]
    while block:
        start = 0
        while start < case.activation.shape[-1]:
            cut = slice(start, start + block)
            shorter = case._replace(
                activation=np.delete(case.activation, cut, axis=-1), weight=np.delete(case.weight, cut, axis=-1)
            )
            if still(shorter):
                case = shorter
            else:
                start += block
        block //= 2
    return case


def _smaller_values(case: DotProduct, still: Fails) -> DotProduct:
    """Each value as near to 0 as it can be while the others stay, found by bisection."""
    for name in ("bias", "activation", "weight"):
        array = np.asarray(getattr(case, name))
        for index in np.ndindex(array.shape):
            value = int(array[index])
            sign, low, high = (-1 if value < 0 else 1), 0, abs(value)
            while low < high:
                middle = (low + high) // 2
                changed = np.array(getattr(case, name))
                changed[index] = sign * middle
                replaced: Any = changed if array.ndim else int(changed)
                candidate = case._replace(**{name: replaced})
                if still(candidate):
                    case, high = candidate, middle
                else:
                    low = middle + 1
    return case
