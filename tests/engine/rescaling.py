"""Requantizers and exact linear combinations of random graphs: cells, pieces, ties, several inputs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import Rounding
from intsim.frontend.expression import apply_step
from intsim.graph import Node
from intsim.ops.pieces import Piece, combine, combined_range, pieces_json

from .growing import Growing

MODES = [str(mode) for mode in Rounding]


class Rescaling(Growing):
    """The part of a growing graph that writes `requantize` and `affine`; see graphs.py for what it stands on."""

    def beside(self, name: str) -> str:
        """A tensor that broadcasts with this one: often itself."""
        shape = self.info(name).shape

        def fits(other: tuple[int, ...]) -> bool:
            try:
                return np.broadcast_shapes(shape, other) == shape
            except ValueError:
                return False

        return self.one_of(*(n for n, t in self.graph.tensors.items() if fits(t.shape)))

    def terms(self) -> tuple[list[str], dict[str, Any], tuple[int, ...], tuple[int, ...]]:
        """Inputs, coefficients, the cells' shape and the result's."""
        names = [self.pick([n for n, t in self.graph.tensors.items() if t.shape])]
        names += [self.beside(names[0]) for _ in range(self.one_of(0, 0, 0, 1, 1, 2))]
        shape = self.info(names[0]).shape
        axis = self.one_of(None, None, min(1, len(shape) - 1), min(1, len(shape) - 1), self.number(0, len(shape) - 1))
        cells = tuple(s if i == axis else 1 for i, s in enumerate(shape))
        if self.chance(20) and np.prod(shape) <= 24:
            cells = shape
        if np.prod(cells) > 40:
            cells = (1,) * len(shape)
        if len(names) == 1:
            return names, {}, cells, shape
        block = self.one_of((1,) * len(shape), cells)
        coefficients = self.rng.integers(-3, 4, (len(names), *block))
        coefficients[0] |= 1  # never all of them 0
        return names, {"coefficients": coefficients}, cells, shape

    def reach(self, names: list[str], arrays: dict[str, Any]) -> tuple[int, int]:
        """Ends of what can arrive, or, mostly, of what does."""
        node = Node("requantize", "", tuple(names), "", {}, arrays)
        if self.chance(4):
            return combined_range(node, *(self.info(n) for n in names))
        values = combine(node, *(self.values[n] for n in names))
        return int(values.min()), int(values.max())

    def requantize(self) -> str | None:
        """Codes of a new type from the newest tensor, or any; scales that use about all codes."""
        names, arrays, cells, _ = self.terms()
        kind = self.kind()
        zero = self.one_of(0, 0, 0, self.number(kind.min, kind.max))
        low, high = self.one_of((kind.min, kind.max), (kind.min, kind.max), (max(zero, kind.min), kind.max))
        ends = self.reach(names, arrays)
        style, signed = self.one_of("power", "power", "odd", "float", "ratio"), self.chance(6)
        shape, alpha = (
            self.one_of("line", "line", "relu", "leaky", "clamp"),
            self.one_of((1, 8), (1, 4), (-1, 2), (3, 7)),
        )
        pieces = [
            self.cell(self.scale(style, signed, ends, high - low), ends, (low - zero, high - zero), shape, alpha)
            for _ in range(int(np.prod(cells)))
        ]
        if bipolar := self.chance(10):
            pieces, kind, zero, low, high = (
                [apply_step(p, "sign", ()) for p in pieces],
                IntegerType(2, True, True),
                0,
                -1,
                1,
            )
        at: dict[str, Any] = {
            "cells": list(cells),
            "pieces": pieces_json(pieces),
            "zero": zero,
            "low": low,
            "high": high,
        }
        at["rounding"] = "floor" if bipolar else self.one_of("half_even", "half_even", *MODES)
        return self.emit("requantize", names, at, arrays, kind, (low, high))

    def scale(self, style: str, signed: bool, ends: tuple[int, int], span: int) -> Fraction:
        """A scale of one cell, that brings the reach of the accumulator to about `span` codes."""
        if self.rng.integers(25) == 0:
            return Fraction(0)  # a dead channel
        exponent = span.bit_length() - (ends[1] - ends[0]).bit_length() + int(self.rng.choice([-1, 0, 0, 1, 3]))
        power = Fraction(2) ** exponent
        factor = {
            "power": Fraction(1),
            "odd": Fraction(int(self.rng.choice([3, 5, 7, 9])), 4),
            "float": Fraction(float(np.float32(self.rng.uniform(0.5, 2)))),
            "ratio": Fraction(int(self.rng.integers(1, 100)), int(self.rng.integers(1, 100))),
        }[style]
        return power * factor * (-1 if signed and self.rng.integers(2) else 1)

    def cell(
        self, scale: Fraction, ends: tuple[int, int], codes: tuple[int, int], shape: str, alpha: tuple[int, int]
    ) -> list[Piece]:
        """A line of this scale, its offset a whole accumulator, a half, a quarter or neither, and what bends it."""
        middle = Fraction(sum(codes), 2) - scale * Fraction(sum(ends), 2)
        grid = [abs(scale) or Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(1, 3)][self.rng.integers(4)]
        offset = Fraction(0) if self.rng.integers(4) == 0 else grid * round(middle / grid)
        line: list[Piece] = [(None, scale, offset)]
        if shape == "relu":
            return apply_step(line, "clamp", (Fraction(0), None))
        if shape == "clamp":
            return apply_step(line, "clamp", tuple(Fraction(c) / 2 for c in codes))
        return line if shape == "line" else apply_step(line, "leaky", (Fraction(*alpha),))

    def affine(self) -> str | None:
        """An exact combination: activations and sums that nobody quantized."""
        names, arrays, cells, _ = self.terms()
        bend = self.one_of("line", "relu", "leaky")
        pieces = []
        for _ in range(int(np.prod(cells))):
            line: list[Piece] = [
                (None, Fraction(int(self.rng.integers(-3, 4))), Fraction(int(self.rng.integers(-50, 51))))
            ]
            step = {"line": ("affine", (1, 0)), "relu": ("clamp", (0, None)), "leaky": ("leaky", (2,))}[bend]
            pieces.append(apply_step(line, step[0], tuple(None if v is None else Fraction(v) for v in step[1])))
        return self.emit("affine", names, {"cells": list(cells), "pieces": pieces_json(pieces)}, arrays)

    def grid(self) -> str | None:
        """Numbers on a grid: a line or a bend, shifted."""
        names, arrays, cells, _ = self.terms()
        shift = self.number(0, 12)
        half = (1 << shift) // 2
        pieces = []
        for _ in range(int(np.prod(cells))):
            line: list[Piece] = [
                (
                    None,
                    Fraction(int(self.rng.integers(-(1 << shift), 1 << shift))),
                    Fraction(int(self.rng.integers(99))),
                )
            ]
            bent = apply_step(line, "leaky", (Fraction(2),)) if self.chance(2) else line
            pieces.append([(start, s, b + half) for start, s, b in bent])
        attributes = {"cells": list(cells), "pieces": pieces_json(pieces), "shift": shift, "off": "1/2"}
        return self.emit("grid", names, attributes, arrays)

    def function(self) -> str | None:
        """A function of an accumulator, with a line for each cell."""
        x = self.of_rank(*range(1, 6))
        if x is None:
            return None
        info, cells = self.info(x), self.cells(self.info(x).shape)
        size = max(abs(info.low), abs(info.high), 1)
        lines = [
            [f"{self.rng.integers(-99, 100)}/{7 * size}", f"{self.rng.integers(-30, 30)}/11"]
            for _ in range(int(np.prod(cells)))
        ]
        terms = [["source", [], []], [self.one_of("sigmoid", "tanh", "hard_swish"), [0], []]]
        attributes = {"cells": list(cells), "lines": lines, "terms": terms, "step": f"1/{1 << self.number(0, 20)}"}
        return self.emit("function", [x], {**attributes, "off": "1/2"})
