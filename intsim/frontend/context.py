"""The state of one lowering: what each ONNX tensor is, and the integer graph being written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.frontend.expression import (
    Const,
    Expr,
    Fixed,
    Shape,
    Step,
    Value,
    common_grid,
    compress,
    resolve,
    scalar,
    spread,
)
from intsim.frontend.reader import Operation, SourceModel
from intsim.graph import LIMIT, IntArray, IntegerGraph, Node, Rationals, Tensor, check_size, rationals
from intsim.ops import OPS
from intsim.ops.pieces import pieces_json

ZERO, ONE = rationals(0), rationals(1)
M = TypeVar("M", bound=Expr | Fixed)
"""Integers that data movement keeps what they are: expressions or constants."""


class Refused(IntsimError):  # noqa: N818 - it says what happened to a node
    """A node that can't be integer-only; the text says why, without file and node."""


@dataclass(frozen=True)
class Boundary:
    """How a host value becomes an integer input: `clip(round(x / scale + before) + after)` or, bipolar, its sign."""

    tensor: str
    host: str
    scale: Rationals
    before: Rationals
    after: int
    rounding: str
    low: int
    high: int
    bipolar: bool = False
    source: str = ""
    module: str | None = None
    label: str = ""

    @property
    def shown(self) -> str:
        """What a reader calls it, as `Node.shown`."""
        return self.label or self.source

    @property
    def origin(self) -> dict[str, str | None]:
        """As `Node.origin`."""
        return {"node": self.source if self.module else None, "module": self.module}


@dataclass
class Context:
    """Lowering state. Handlers read `value(name)` and give values back; `emit` writes integer nodes."""

    model: SourceModel
    graph: IntegerGraph
    values: dict[str, Value] = field(default_factory=dict)
    boundaries: list[Boundary] = field(default_factory=list)
    current: Operation | None = None
    host_shape: Callable[[str], Shape] = lambda name: ()
    types: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    makers: dict[str, Operation] = field(init=False)
    readers: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        """Which operation makes each ONNX tensor, and how many operations and outputs of the file read it."""
        operations = self.model.operations
        self.makers = {o: op for op in operations for o in op.outputs}
        self.readers = Counter([*(n for op in operations for n in op.inputs), *self.model.outputs])

    def value(self, name: str) -> Value:
        """What an ONNX tensor is."""
        return self.values[name]

    def integer(self, name: str) -> Const | Fixed | Expr:
        """What an ONNX tensor is, if it is a constant or integers; raises Refused for a float of the host."""
        value = self.values[name]
        if isinstance(value, Const | Fixed | Expr):
            return value
        raise Refused(f"its input {name} is a float that no quantizer made an integer")

    def fresh(self, stem: str) -> str:
        """A tensor name not yet used: the current node's own output, or one that nothing in the file has."""
        own = self.current.outputs if self.current is not None else ()
        name, n = stem, 1
        while name in self.graph.tensors or (name in self.model.names and name not in own):
            n += 1
            name = f"{stem}#{n}"
        return name

    def emit(
        self,
        op: str,
        inputs: list[str],
        scale: Rationals,
        offset: Rationals,
        attributes: dict[str, Any] | None = None,
        arrays: dict[str, IntArray] | None = None,
        kind: IntegerType | None = None,
        onnx: str | None = None,
        stem: str | None = None,
    ) -> Expr:
        """Append an integer node and return the expression of its output."""
        source = self.current
        assert source is not None
        name = self.fresh(stem or (source.outputs[0] if source.outputs else source.name))
        node = Node(
            op, name, tuple(inputs), name, attributes or {}, arrays or {}, source.name, source.op, source.module
        )
        tensors = [self.graph.tensors[i] for i in inputs]
        try:
            shape = OPS[op].shape(node, *(t.shape for t in tensors))
            check_size(shape)
            low, high = OPS[op].value_range(node, *tensors)
        except IntsimError as error:  # ops name the integer node; the user knows the file's
            raise IntsimError(str(error).removeprefix(f"node {name}: ")) from None
        if low < -LIMIT or high > LIMIT:
            raise Refused(
                f"its exact integer result needs {max(-low, high).bit_length() + 1} bits, more than 64; "
                "quantize its inputs"
            )
        self.positions[name] = len(self.graph.nodes)
        self.graph.add(node, Tensor(name, tuple(shape), low, high, scale, offset, kind, onnx))
        return Expr(tuple(shape), ((name, spread(scale, len(shape))),), spread(offset, len(shape)))

    def producer(self, tensor: str) -> Node | None:
        """The integer node that makes a tensor; None for a graph input."""
        position = self.positions.get(tensor)
        return None if position is None else self.graph.nodes[position]

    def replace(self, node: Node, changed: Node) -> None:
        """Put another node in the place of one that makes the same tensor."""
        self.graph.nodes[self.positions[node.output]] = changed

    def move(self, value: M, op: str, attributes: dict[str, Any], arrays: dict[str, IntArray] | None = None) -> M:
        """Apply a data movement op with one input to a value, parameters included."""
        source = self.current
        assert source is not None
        node = Node(op, source.name, ("x",), "y", attributes, arrays or {})
        shape = tuple(OPS[op].shape(node, value.shape))
        check_size(shape)

        def moved(parameter: Rationals) -> Rationals:
            if parameter.size == 1:
                return parameter.reshape((1,) * len(shape))
            index = np.arange(parameter.size).reshape(parameter.shape)
            index = OPS[op].evaluate(node, np.broadcast_to(index, value.shape))
            return compress_index(parameter, index)

        if isinstance(value, Fixed):
            codes = OPS[op].evaluate(node, value.codes)
            return Fixed(  # type: ignore[return-value]
                codes,
                moved(spread(value.scale, len(value.shape))),
                moved(spread(value.offset, len(value.shape))),
                value.type,
            )
        terms = []
        for name, scale in value.terms:
            tensor = self.broadcast(name, value.shape)
            kind = self.graph.tensors[tensor].type
            expr = self.emit(op, [tensor], moved(scale), ZERO, attributes, arrays, kind)
            terms.append((expr.terms[0][0], moved(scale)))
        steps = tuple(Step(s.kind, tuple(None if v is None else moved(v) for v in s.values)) for s in value.steps)
        if len(terms) == 1 and not steps:
            self.describe(terms[0][0], terms[0][1], moved(value.offset))
        return Expr(shape, tuple(terms), moved(value.offset), steps)  # type: ignore[return-value]

    def describe(self, tensor: str, scale: Rationals, offset: Rationals) -> None:
        """Set what a tensor's integers mean."""
        self.graph.tensors[tensor] = replace(self.graph.tensors[tensor], scale=scale, offset=offset)

    def broadcast(self, tensor: str, shape: Shape) -> str:
        """The tensor itself, or repeated along axes so that it has `shape`."""
        if self.graph.tensors[tensor].shape == shape:
            return tensor
        info = self.graph.tensors[tensor]
        if len(info.shape) < len(shape):
            new = (1,) * (len(shape) - len(info.shape)) + info.shape
            tensor = self.emit("reshape", [tensor], ZERO + 1, ZERO, {"shape": list(new)}, kind=info.type).terms[0][0]
        for axis, size in enumerate(shape):
            if self.graph.tensors[tensor].shape[axis] != size:
                index = {"index": np.zeros(size, np.int64)}
                tensor = self.emit("gather", [tensor], ZERO + 1, ZERO, {"axis": axis}, index, info.type).terms[0][0]
        return tensor

    def full_size(self, expr: Expr, cells: Shape) -> list[str]:
        """The expression's tensors, one of them repeated where broadcasting alone falls short of its shape."""
        names = [n for n, _ in expr.terms]
        if np.broadcast_shapes(cells, *(self.graph.tensors[n].shape for n in names)) != expr.shape:
            names[0] = self.broadcast(names[0], expr.shape)
        return names

    def settle(self, expr: Expr, per_cell: bool = False, growing: bool = False) -> Expr:
        """One integer tensor that carries the expression exactly: one term, no steps, offset a whole number of codes.

        With `per_cell` the scale may differ from cell to cell; otherwise it is one rational for the whole tensor. It is
        never zero; with `growing` it is above zero, so that a larger integer means a larger number.
        """
        if len(expr.terms) == 1 and not expr.steps:
            scale, offset = expr.terms[0][1], expr.offset
            same = self.graph.tensors[expr.terms[0][0]].shape == expr.shape
            usable = all(s > 0 if growing else s != 0 for s in scale.reshape(-1))
            if same and usable and (per_cell or (scale.size == 1 and offset.size == 1)) and whole(offset, scale):
                return expr
        resolved = resolve(expr)
        if per_cell:
            grids = [common_grid([v for p in cell for v in p[1:]]) for cell in resolved.pieces]
        else:
            grids = [common_grid([v for cell in resolved.pieces for p in cell for v in p[1:]])] * len(resolved.pieces)
        pieces = [
            [(start, s / g, b / g) for start, s, b in cell] for cell, g in zip(resolved.pieces, grids, strict=True)
        ]
        scale = compress(rationals(grids).reshape(resolved.cells))
        attributes = {"cells": list(resolved.cells), "pieces": pieces_json(pieces)}
        arrays = coefficient_arrays(resolved.coefficients, self)
        names = self.full_size(expr, resolved.cells)
        source = self.current
        assert source is not None
        return self.emit("affine", names, scale, ZERO, attributes, arrays, stem=f"{source.outputs[0]}~exact")

    def operand(self, value: Expr) -> tuple[str, Fraction, int]:
        """The value as one tensor with scalar scale and integer zero point: (tensor, scale, zero point)."""
        expr = self.settle(value)
        scale, offset = scalar(expr.terms[0][1]), scalar(expr.offset)
        assert scale is not None
        assert offset is not None
        return expr.terms[0][0], scale, int(-offset / scale)

    def quantize(
        self,
        value: Expr,
        scale: Rationals,
        before: Rationals,
        after: int,
        rounding: str,
        low: int | None,
        high: int | None,
        kind: IntegerType | None,
        onnx: str | None,
        meaning: tuple[Rationals, Rationals],
        bipolar: bool = False,
    ) -> Expr:
        """Write a requantizer: `clip(round(value / scale + before) + after, low, high)`; `meaning`: scale, offset."""
        rank = len(value.shape)
        inverse = spread(rationals([1 / s for s in scale.reshape(-1)]).reshape(scale.shape), rank)
        steps: tuple[Step, ...] = (Step("affine", (inverse, spread(before, rank))),)
        if bipolar:
            steps = (*steps, Step("sign", ()))
        resolved = resolve(value, steps)
        attributes = {
            "cells": list(resolved.cells),
            "pieces": pieces_json(resolved.pieces),
            "rounding": rounding,
            "zero": after,
            "low": low,
            "high": high,
        }
        arrays = coefficient_arrays(resolved.coefficients, self)
        names = self.full_size(value, resolved.cells)
        new_scale, new_offset = (compress(spread(m, rank)) for m in meaning)
        return self.emit("requantize", names, new_scale, new_offset, attributes, arrays, kind, onnx)

    def host_input(
        self, boundary: Boundary, shape: Shape, kind: IntegerType, meaning: tuple[Rationals, Rationals]
    ) -> Expr:
        """Make an integer graph input from a host value."""
        rank = len(shape)
        scale, offset = (compress(spread(m, rank)) for m in meaning)
        self.graph.tensors[boundary.tensor] = Tensor(
            boundary.tensor, shape, boundary.low, boundary.high, scale, offset, kind, boundary.tensor
        )
        self.graph.inputs.append(boundary.tensor)
        assert self.current is not None
        self.boundaries.append(replace(boundary, source=self.current.name, module=self.current.module))
        return Expr(shape, ((boundary.tensor, scale),), offset)


def compress_index(parameter: Rationals, index: IntArray) -> Rationals:
    """`parameter` picked by a moved index array, axes of constant index dropped to one."""
    for axis in range(index.ndim):
        first = index.take([0], axis=axis)
        if index.shape[axis] > 1 and (index == first).all():
            index = first
    return compress(parameter.reshape(-1)[index])


def whole(offset: Rationals, scale: Rationals) -> bool:
    """Whether every offset is an integer multiple of its scale."""
    ratio = offset / scale
    return all(r.denominator == 1 for r in np.atleast_1d(ratio).reshape(-1))


def coefficient_arrays(coefficients: list[np.ndarray], context: Context) -> dict[str, IntArray]:
    """The `coefficients` array of a node with several inputs; none for a single input."""
    if len(coefficients) == 1:
        return {}
    if max(abs(int(a)) for c in coefficients for a in c.reshape(-1)) > LIMIT:
        raise Refused("its inputs' scales have no common grid of 64 bits; quantize the inputs to closer scales")
    return {"coefficients": np.stack(np.broadcast_arrays(*coefficients)).astype(np.int64)}


def as_real(value: Const | Fixed) -> Rationals:
    """Exact values of a constant."""
    return value.real() if isinstance(value, Fixed) else compact(value.array)


def compact(array: np.ndarray) -> Rationals:
    """Exact values of an array, axes of constant value dropped to one before any rational is made."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return rationals(array)
