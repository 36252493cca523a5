"""Nodes of random graphs that move integers or look them up: slices, resizing, concatenation, padding, new shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .growing import Growing


class Moves(Growing):
    """The part of a growing graph that moves integers and looks them up; see graphs.py for what it stands on."""

    def moved(self, op: str, names: list[str], at: dict[str, Any], arrays: Any = None) -> str | None:
        """A node that moves integers; type and range are the inputs', where they have one in common."""
        kinds = {self.info(n).type for n in names}
        held = [self.held.get(n) for n in names]
        reach = None if None in held else (min(h[0] for h in held), max(h[1] for h in held))
        return self.emit(op, names, at, arrays, kinds.pop() if len(kinds) == 1 else None, reach)

    def gather(self) -> str | None:
        x = self.of_rank(*range(6))
        axis = self.number(0, len(self.info(x).shape) - 1)
        size = self.info(x).shape[axis]
        some = np.arange(size)
        index = {
            "nearest": np.repeat(some, 2),
            "slice": some[self.number(0, size - 1) :: self.number(1, 2)],
            "reverse": some[::-1].copy(),
            "reflect": np.pad(some, (1, 2), mode="reflect") if size > 2 else some,
            "any": self.rng.integers(0, size, self.number(1, 5)),
        }[self.one_of("nearest", "nearest", "slice", "reverse", "reflect", "any")]
        return self.moved("gather", [x], {"axis": axis}, {"index": index})

    def concat(self) -> str | None:
        x = self.of_rank(*range(6))
        shape = self.info(x).shape
        axis = self.one_of(min(1, len(shape) - 1), self.number(0, len(shape) - 1))
        rest = [s for i, s in enumerate(shape) if i != axis]
        fits = [
            n
            for n, t in self.graph.tensors.items()
            if len(t.shape) == len(shape) and [s for i, s in enumerate(t.shape) if i != axis] == rest
        ]
        parts = [x] + [self.one_of(*fits) for _ in range(self.number(1, 2))]
        return self.moved("concat", parts[:: self.one_of(1, -1)], {"axis": axis})

    def pad(self) -> str | None:
        x = self.of_rank(*range(6))
        t = self.info(x)
        value = self.one_of(0, t.low, t.high, self.number(t.low, t.high), t.high + 1)
        pads = [[self.number(0, 2), self.number(0, 2)] if self.chance(2) else [0, 0] for _ in t.shape]
        kind = t.type if t.type and t.type.contains(value, value) else None
        low, high = self.held.get(x, (None, None))
        held = None if low is None else (min(low, value), max(high, value))
        return self.emit("pad", [x], {"pads": pads, "value": value}, kind=kind, held=held)

    def reshape(self) -> str | None:
        x = self.of_rank(*range(6))
        shape = self.info(x).shape
        total = math.prod(shape)
        forms = [[shape[0], total // shape[0]], [total // shape[-1], shape[-1]]]
        forms += [[1, *shape]] if len(shape) < 5 else []
        forms += [[*shape, 1], [*shape, 1, 1]] if len(shape) < 4 else []
        forms += [[shape[0], shape[2], shape[1], *shape[3:]]] if len(shape) > 2 else []
        forms += [[shape[0], total // shape[0] // 2, 2]] if total // shape[0] % 2 == 0 else []
        return self.moved("reshape", [x], {"shape": self.one_of(*forms)})

    def transpose(self) -> str | None:
        x = self.of_rank(*range(6))
        return self.moved("transpose", [x], {"perm": self.draw(st.permutations(range(len(self.info(x).shape))))})

    def lookup(self) -> str | None:
        """A table of positions that no overflow makes leave it."""
        names = [n for n, (low, high) in self.held.items() if high - low < 64 and low >= -64]
        if not names:
            return None
        name = self.one_of(*names)
        low, high = self.held[name]
        size = max(high + 1, -low, 1) + self.number(0, 2)
        axis = self.number(0, 1)
        shape = self.one_of((size,), (size,), (2, size) if axis else (size, 2))
        table = self.codes(*sorted((self.number(-300, 300), self.number(-300, 300))), shape)
        return self.emit("lookup", [name], {"axis": axis if len(shape) > 1 else 0}, {"table": table})

    def interpolate(self) -> str | None:
        x = self.of_rank(*range(6))
        axis = self.number(0, len(self.info(x).shape) - 1)
        size, taps = self.info(x).shape[axis], self.number(1, 2)
        places = self.number(1, 2 * min(size, 20))
        arrays = {
            "index": self.rng.integers(0, size, (places, taps)),
            "weight": self.rng.integers(-2, 5, (places, taps)),
        }
        return self.emit("interpolate", [x], {"axis": axis}, arrays)
