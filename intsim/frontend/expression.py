"""What a real-valued ONNX tensor is while a graph is being lowered.

`Const` a constant array; `Fixed` a constant integer array with exact scale and offset; `Expr` an exact function of
integer tensors; `Curve` any function of one integer tensor; `Waiting` several of these, moved or joined; `Host` a float
tensor of the prologue or epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Piece
from intsim.frontend.distinct import of_distinct
from intsim.frontend.reader import Operation
from intsim.graph import MANY, IntArray, Rationals, rationals

Shape = tuple[int, ...]
ZERO, ONE = rationals(0), rationals(1)


@dataclass(frozen=True)
class Const:
    """A constant of the file, or folded from constants."""

    array: np.ndarray

    @property
    def shape(self) -> Shape:
        """Array shape."""
        return self.array.shape

    def real(self) -> Rationals:
        """The exact values, axes of constant value dropped to one."""
        return rationals(narrow(self.array))


@dataclass(frozen=True)
class Fixed:
    """A constant known as integers: `scale * codes + offset`."""

    codes: IntArray
    scale: Rationals
    offset: Rationals
    type: IntegerType | None = None

    @property
    def shape(self) -> Shape:
        """Array shape."""
        return self.codes.shape

    def real(self) -> Rationals:
        """The exact values."""
        if self.codes.size < MANY:
            return rationals(self.codes) * self.scale + self.offset
        scale, offset = (np.asarray(v, dtype=object) for v in (self.scale, self.offset))
        return of_distinct(self.codes, (scale, offset), lambda code, s, o: code * s + o)


@dataclass(frozen=True)
class Host:
    """A float tensor run on the host, by its ONNX name."""

    name: str
    after: bool = False


@dataclass(frozen=True)
class Broken:
    """Made by a node that was refused; its readers stay silent."""


@dataclass(frozen=True)
class Step:
    """One monotone or affine step after the linear sum: kind `affine` (a, b), `clamp` (low, high), `leaky` (slope,)."""

    kind: str
    values: tuple[Rationals | None, ...]

    def changed(self, change: Callable[[Rationals], Rationals]) -> Step:
        """With changed parameters."""
        return Step(self.kind, tuple(None if v is None else change(v) for v in self.values))


@dataclass(frozen=True)
class Expr:
    """`steps(sum_i scale_i * tensor_i + offset)`; parameter arrays have the rank of `shape`, each axis 1 or full."""

    shape: Shape
    terms: tuple[tuple[str, Rationals], ...]
    offset: Rationals
    steps: tuple[Step, ...] = ()

    @cached_property
    def linear(self) -> bool:
        """Whether it is `scale * tensor + offset`."""
        return len(self.terms) == 1 and not self.steps

    @cached_property
    def bare(self) -> bool:
        """Whether it is the integers of a tensor themselves."""
        return self.linear and scalar(self.scale) == 1 and scalar(self.offset) == 0

    @property
    def tensor(self) -> str:
        """The first, mostly the only, tensor."""
        return self.terms[0][0]

    @property
    def scale(self) -> Rationals:
        """That tensor's scale."""
        return self.terms[0][1]

    def parameters(self) -> list[Rationals]:
        """All parameter arrays."""
        every = [s for _, s in self.terms] + [self.offset]
        return every + [v for step in self.steps for v in step.values if v is not None]

    def affine(self, a: Rationals, b: Rationals, shape: Shape) -> Expr:
        """`a * self + b`; `a`, `b` have the rank of `shape`, the broadcast result."""
        if self.steps:
            last = self.steps[-1]
            if last.kind == "affine":
                before_a, before_b = last.values
                merged = Step("affine", (compress(a * before_a), compress(a * before_b + b)))
                return replace(self, shape=shape, steps=(*self.steps[:-1], merged))
            return replace(self, shape=shape, steps=(*self.steps, Step("affine", (a, b))))
        terms = tuple((name, compress(scale * a)) for name, scale in self.terms)
        return Expr(shape, terms, compress(self.offset * a + b))

    def stepped(self, shape: Shape, node: Operation, *steps: Step) -> Expr:
        """What a node makes of it that broadcasts it to `shape` and then takes `steps`."""
        rank = len(shape)
        out = Expr(
            shape,
            tuple((n, spread(s, rank)) for n, s in self.terms),
            spread(self.offset, rank),
            tuple(s.changed(lambda v: spread(v, rank)) for s in self.steps),
        )
        for step in steps:
            step = step.changed(lambda v: spread(v, rank))
            if step.kind == "affine":
                a, b = step.values
                assert a is not None
                assert b is not None
                out = out.affine(a, b, shape)
            else:
                out = replace(out, steps=(*out.steps, step))
        return out


@dataclass(frozen=True, eq=False)
class Applied:
    """A function of one integer: `name` of `intsim.reals.interval.FUNCTIONS`, or `source`, the integer itself.

    `parameters` have the rank of the tensor, each axis 1 or full; `node` says which ONNX node it stands for.
    """

    name: str
    arguments: tuple[Applied, ...] = ()
    parameters: tuple[Rationals | None, ...] = ()
    node: str = ""


@dataclass(frozen=True, eq=False)
class Curve:
    """Any function of one integer tensor, waiting for the quantizer that makes a table of it.

    `made_by` lists the ONNX operators on the way.
    """

    shape: Shape
    tensor: str
    function: Applied
    made_by: tuple[str, ...] = ()

    def grown(self, other: Shape) -> Curve:
        """Broadcast with another shape: parameters get its rank."""
        shape = np.broadcast_shapes(self.shape, other)
        if len(shape) == len(self.shape):
            return replace(self, shape=shape)
        return replace(self, shape=shape, function=rewritten(self.function, lambda p: spread(p, len(shape)), {}))

    def stepped(self, shape: Shape, node: Operation, *steps: Step) -> Curve:
        """What a node makes of it that broadcasts it to `shape` and then takes `steps`."""
        function = self.grown(shape).function
        for step in steps:
            step = step.changed(lambda v: spread(v, len(shape)))
            if step.kind == "affine":
                step = step.changed(compress)
                a, b = (v for v in step.values if v is not None)
                if scalar(a) == 1 and not any(b.flat):
                    continue
            function = Applied(step.kind, (function,), step.values, node.label)
        return Curve(shape, self.tensor, function, (*self.made_by, node.op))


@dataclass(frozen=True)
class Level:
    """A number of a mask: what it adds to the element that it `keeps`, or has in its place; None: minus infinity."""

    keeps: bool
    added: Fraction | None


@dataclass(frozen=True, eq=False)
class Masked:
    """An expression behind a mask (`masks.py`): each element by its level.

    `index` has the rank of the expression, each axis 1 or full, and numbers `levels`.
    """

    value: Expr
    index: IntArray
    levels: tuple[Level, ...]

    @property
    def shape(self) -> Shape:
        """That of the expression."""
        return self.value.shape


@dataclass(frozen=True, eq=False)
class Waiting:
    """Parts that are joined, moved or pooled, waiting for the quantizer that rounds them first (`waiting.py`).

    `rebuild` does with the parts' codes what the file does with their numbers. `axis`: the parts lie side by side along
    it, and nothing else was done; `picks`: the largest of some numbers was taken.
    """

    shape: Shape
    parts: tuple[Expr | Curve | Waiting, ...]
    rebuild: Callable[[Sequence[Expr]], Expr]
    axis: int | None = None
    picks: bool = False


Value = Const | Fixed | Expr | Curve | Masked | Waiting | Host | Broken


def rewritten(function: Applied, change: Callable[[Rationals], Rationals], known: dict[int, Applied]) -> Applied:
    """The same function with changed parameters; what occurs twice stays one."""
    if id(function) not in known:
        arguments = tuple(rewritten(a, change, known) for a in function.arguments)
        parameters = tuple(None if p is None else change(p) for p in function.parameters)
        known[id(function)] = replace(function, arguments=arguments, parameters=parameters)
    return known[id(function)]


def as_codes(tensor: str, shape: Shape) -> Expr:
    """An integer tensor as it stands: scale one, offset zero."""
    return Expr(shape, ((tensor, spread(ONE, len(shape))),), spread(ZERO, len(shape)))


def is_codes(value: Value) -> bool:
    """Whether a value is what `as_codes` makes."""
    return isinstance(value, Expr) and value.bare


def narrow(values: np.ndarray) -> np.ndarray:
    """Axes dropped to size one along which nothing changes."""
    for axis in range(values.ndim):
        if values.shape[axis] > 1 and _constant_along(values, axis):
            values = values.take([0], axis=axis)
    return values


def _constant_along(values: np.ndarray, axis: int) -> bool:
    """Whether nothing changes along an axis; rationals are compared one by one, up to the first other one."""
    if values.dtype != object:
        return bool((values == values.take([0], axis=axis)).all())
    if values.strides[axis] == 0:
        return True
    rows = iter(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1))
    first = next(rows).tolist()
    return all(row.tolist() == first for row in rows)


def compress(values: Rationals) -> Rationals:
    """`narrow` for parameters, which numpy may have made bare Fractions."""
    return narrow(np.asarray(values, dtype=object))


def spread(parameter: Rationals, rank: int) -> Rationals:
    """With leading axes of size one up to `rank`; parameters of a single value have any rank."""
    parameter = np.asarray(parameter, dtype=object)  # numpy turns arrays without axes into bare Fractions
    if parameter.ndim > rank and parameter.size == 1:
        return parameter.reshape((1,) * rank)
    return parameter.reshape((1,) * (rank - parameter.ndim) + parameter.shape)


def scalar(values: Rationals) -> Fraction | None:
    """The one value of a parameter array, None if it has several."""
    values = np.asarray(values, dtype=object)
    return values.reshape(-1)[0] if values.size == 1 else None


def common_grid(values: list[Fraction]) -> Fraction:
    """Largest positive rational of which all `values` are integer multiples; 1 if all are zero."""
    numerator, denominator = 0, 1
    for v in values:
        if v:
            denominator = lcm(denominator, v.denominator)
    for v in values:
        numerator = gcd(numerator, abs(v.numerator) * (denominator // v.denominator))
    return Fraction(numerator, denominator) if numerator else Fraction(1)


def _split(piece: Piece, end: int | None, threshold: Fraction) -> tuple[list[Piece], list[Piece], bool]:
    """Cut a piece where its value crosses `threshold`: pieces below (value < threshold) and from it on.

    The third result tells whether the part below comes first on the accumulator axis.
    """
    start, s, b = piece
    if s == 0:
        return ([piece], [], True) if b < threshold else ([], [piece], True)
    crossing = (threshold - b) / s
    cut = crossing.__ceil__() if s > 0 else crossing.__floor__() + 1
    first = piece if start is None or start < cut else None
    second = (cut if start is None else max(start, cut), s, b) if end is None or cut < end else None
    low, high = (first, second) if s > 0 else (second, first)
    return ([low] if low else []), ([high] if high else []), s > 0


def apply_step(pieces: list[Piece], kind: str, values: tuple[Fraction | None, ...]) -> list[Piece]:
    """One cell's pieces after one more step; kind as in `Step`, or `sign` (+1 from zero on, else -1)."""
    if kind == "affine":
        a, b = values
        assert a is not None
        assert b is not None
        return merge([(start, s * a, o * a + b) for start, s, o in pieces])
    if kind == "clamp":
        low, high = values
        if low is not None:
            pieces = _map_below(pieces, low, lambda p: (p[0], Fraction(0), low))
        if high is not None:
            # value >= high becomes high; at equality both rules agree
            pieces = _map_from(pieces, high, lambda p: (p[0], Fraction(0), high))
        return merge(pieces)
    if kind == "leaky":
        slope = values[0]
        assert slope is not None
        return merge(_map_below(pieces, Fraction(0), lambda p: (p[0], p[1] * slope, p[2] * slope)))
    assert kind == "sign"
    pieces = _map_below(
        pieces, Fraction(0), lambda p: (p[0], Fraction(0), Fraction(-1)), lambda p: (p[0], Fraction(0), Fraction(1))
    )
    return merge(pieces)


def _same(piece: Piece) -> Piece:
    return piece


def _map_below(
    pieces: list[Piece], threshold: Fraction, below: Callable[[Piece], Piece], above: Callable[[Piece], Piece] = _same
) -> list[Piece]:
    out: list[Piece] = []
    for i, piece in enumerate(pieces):
        end = pieces[i + 1][0] if i + 1 < len(pieces) else None
        low, high, low_first = _split(piece, end, threshold)
        low, high = [below(p) for p in low], [above(p) for p in high]
        out += low + high if low_first else high + low
    return out


def _map_from(pieces: list[Piece], threshold: Fraction, above: Callable[[Piece], Piece]) -> list[Piece]:
    return _map_below(pieces, threshold, _same, above)


def merge(pieces: list[Piece]) -> list[Piece]:
    """Join neighbours that are one line."""
    out = [pieces[0]]
    for piece in pieces[1:]:
        if piece[1:] != out[-1][1:]:
            out.append(piece)
    return out


@dataclass(frozen=True)
class Resolved:
    """An `Expr` as integer coefficients and pieces per cell."""

    cells: Shape
    coefficients: list[np.ndarray]
    pieces: list[list[Piece]]


def resolve(expr: Expr, steps: tuple[Step, ...] = ()) -> Resolved:
    """Coefficients a_i and, for each cell, pieces on `acc = sum a_i x_i`, with `steps` appended to the expression's."""
    every = (*expr.steps, *steps)
    parameters = expr.parameters() + [v for step in steps for v in step.values if v is not None]
    cells = np.broadcast_shapes(*(p.shape for p in parameters))
    flat = {id(p): np.broadcast_to(p, cells).reshape(-1).tolist() for p in parameters}
    count = int(np.prod(cells))
    coefficients = [np.empty(count, object) for _ in expr.terms]
    pieces: list[list[Piece]] = []
    # by identity: equal rationals are mostly one object, and hashing a rational takes as long as computing with it
    known: dict[tuple[int, ...], tuple[list[int], list[Piece]]] = {}
    keys = list(zip(*(map(id, column) for column in flat.values()), strict=True))
    for c in range(count):
        key = keys[c]
        if key not in known:
            scales = [flat[id(s)][c] for _, s in expr.terms]
            grid = common_grid(scales) if len(scales) > 1 else scales[0]
            cell: list[Piece] = [(None, grid, flat[id(expr.offset)][c])]
            for step in every:
                values = tuple(None if v is None else flat[id(v)][c] for v in step.values)
                cell = apply_step(cell, step.kind, values)
            known[key] = ([int(s / grid) if grid else 1 for s in scales], cell)
        for out, a in zip(coefficients, known[key][0], strict=True):
            out[c] = a
        pieces.append(known[key][1])
    return Resolved(cells, [compress(a.reshape(cells)) for a in coefficients], pieces)
