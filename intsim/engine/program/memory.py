"""Where buffers lie in one block of memory: a buffer takes the place of others whose last reader has run."""

from __future__ import annotations

import bisect
from collections.abc import Mapping


class Plan:
    """Places of buffers by their sizes and spans (first and last step, inclusive).

    Buffers are placed in the order of their first steps, each in the smallest gap that holds it. `begin` are their
    first elements, `size` elements hold all. With n buffers and g gaps at a time it takes n (log n + g) steps.
    """

    ALIGN = 16
    """Elements: 64 bytes for words of 32 bits."""

    def __init__(self, sizes: Mapping[int, int], spans: Mapping[int, tuple[int, int]]) -> None:
        """Place all buffers."""
        self.begin: dict[int, int] = {}
        self.size = 0
        self._gaps: list[tuple[int, int]] = []  # (first, length), in order, never adjacent
        ending = sorted((last, key) for key, (_, last) in spans.items())
        done = 0
        for key, (first, _) in sorted(spans.items(), key=lambda item: (item[1][0], -sizes[item[0]])):
            while done < len(ending) and ending[done][0] < first:
                self._free(ending[done][1], sizes)
                done += 1
            self.begin[key] = self._take(self._rounded(sizes[key]))

    def _rounded(self, size: int) -> int:
        return -(-max(size, 1) // self.ALIGN) * self.ALIGN

    def _take(self, size: int) -> int:
        fitting = [(length, at) for at, (_, length) in enumerate(self._gaps) if length >= size]
        if fitting:
            _, at = min(fitting)
            first, length = self._gaps.pop(at)
            if length > size:
                self._gaps.insert(at, (first + size, length - size))
            return first
        # the gap at the end, if any, grows
        first = self.size
        if self._gaps and sum(self._gaps[-1]) == self.size:
            first = self._gaps.pop()[0]
        self.size = first + size
        return first

    def _free(self, key: int, sizes: Mapping[int, int]) -> None:
        first, length = self.begin[key], self._rounded(sizes[key])
        at = bisect.bisect(self._gaps, (first, 0))
        if at < len(self._gaps) and self._gaps[at][0] == first + length:
            length += self._gaps.pop(at)[1]
        if at and sum(self._gaps[at - 1]) == first:
            first, before = self._gaps.pop(at - 1)
            length += before
            at -= 1
        self._gaps.insert(at, (first, length))
