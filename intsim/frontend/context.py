"""The state of one lowering: what each ONNX tensor is, and the integer graph being written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any, TypeVar

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import round_fraction
from intsim.budget import MADE, Account, check
from intsim.errors import IntsimError
from intsim.frontend.expression import (
    ONE,
    ZERO,
    Const,
    Curve,
    Expr,
    Fixed,
    Host,
    Resolved,
    Shape,
    Step,
    Value,
    common_grid,
    compress,
    narrow,
    resolve,
    rewritten,
    scalar,
    spread,
)
from intsim.frontend.reader import Operation, SourceModel
from intsim.graph import LIMIT, IntArray, IntegerGraph, Node, Rationals, Tensor, check_size, rationals
from intsim.ops import OPS
from intsim.ops.deviation import combined_error, deviation, steepest
from intsim.ops.function import Function
from intsim.ops.pieces import pieces_json
from intsim.ops.rows import RowFunction
from intsim.ops.table import Table

Meaning = tuple[Rationals, Rationals]
"""Scale and offset of integers."""
QUANTIZE_INPUTS = "quantize its inputs"
"""What helps against too many bits."""
MOST_ERROR = Fraction(1, 1 << 10)
"""Farthest that a grid may bring a number from where it was, in steps of what is made of it."""
ENDED = ("requantize", "affine")
"""Nodes that clip codes, as a fused activation does."""
M = TypeVar("M", bound=Const | Fixed | Expr | Curve)
"""What data movement keeps what it is: constants, integers as constants, expressions, or functions of a tensor."""


class Refused(IntsimError):  # noqa: N818 - it says what happened to a node
    """A node that can't be integer-only; the text says why, without file and node."""


@dataclass(frozen=True)
class Quantizer:
    """`clip(round(x / scale + before) + after)` to `bounds`, if any; or, `bipolar`, 1 where that is 0 or more, else -1.

    `kind` is the type of the codes, None if it is only their range. With `thresholds` (cells..., T), ascending along
    the last axis, a code is the number of those that x reaches, whatever the other fields but `scale` and `before` say,
    which are what codes mean.
    """

    scale: Rationals
    before: Rationals
    after: int
    rounding: str
    bounds: tuple[int, int] | None = None
    kind: IntegerType | None = None
    bipolar: bool = False
    thresholds: np.ndarray | None = None

    @property
    def meaning(self) -> Meaning:
        """A code stands for `(code - before - after) * scale`."""
        return self.scale, np.asarray(-(self.before + self.after) * self.scale, dtype=object)

    def line(self, rank: int) -> Meaning:
        """Factor and summand of `x / scale + before`, for a tensor of `rank` axes."""
        return spread(1 / self.scale, rank), spread(self.before, rank)

    def code(self, y: Fraction) -> int:
        """The code where `x / scale + before` is y."""
        if self.bipolar:
            return 1 if y >= 0 else -1
        code = round_fraction(y, self.rounding) + self.after
        return code if self.bounds is None else min(max(code, self.bounds[0]), self.bounds[1])


@dataclass(frozen=True)
class Boundary:
    """How the tensor `host` of the host becomes the integer input `tensor`."""

    tensor: str
    host: str
    quantizer: Quantizer
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
    """Lowering state. Handlers read `value(name)` and give values back; `emit` writes integer nodes.

    `entry` makes an input of the integer graph of integers of the host, where float islands are asked for. Integers
    that need more than `bits` bits are brought to a grid by `to_grid` (`grids.py`), where `bits` is set. `errors`: how
    far tensors can be off (`intsim.ops.deviation`); `gridded`: those that are because of a grid; `irrational`: those
    that stand for numbers which no rational is.
    """

    model: SourceModel
    graph: IntegerGraph
    values: dict[str, Value] = field(default_factory=dict)
    boundaries: list[Boundary] = field(default_factory=list)
    current: Operation | None = None
    host_shape: Callable[[str], Shape] = lambda name: ()
    types: dict[str, int] = field(default_factory=dict)
    entry: Callable[[str], Expr | None] = lambda name: None
    positions: dict[str, int] = field(default_factory=dict)
    stated: set[str] = field(default_factory=set)
    constants: Account = field(default_factory=Account)
    made: Account = field(default_factory=lambda: Account(MADE))
    bits: int | None = None
    to_grid: Callable[[Expr, int], Expr] = lambda value, bits: value
    errors: dict[str, Fraction] = field(default_factory=dict)
    gridded: set[str] = field(default_factory=set)
    irrational: set[str] = field(default_factory=set)

    def take_constants(self, held: int, made: int) -> None:
        """Bytes of constants that are kept from now on, and how many of them the file doesn't hold.

        Raises IntsimError where they, and all before, are more than may be taken.
        """
        self.made.take(made, "it makes constants of")
        self.constants.take(held, "its constants take")

    @property
    def source(self) -> Operation:
        """The node that is lowered."""
        assert self.current is not None
        return self.current

    def value(self, name: str) -> Value:
        """What an ONNX tensor is."""
        return self.values[name]

    def integer(self, name: str) -> Const | Fixed | Expr:
        """What an ONNX tensor is, if it is a constant or integers; raises Refused for a float of the host."""
        value = self.values[name]
        if isinstance(value, Host):
            value = self.entry(name) or value
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
        source = self.source
        name = self.fresh(stem or (source.outputs[0] if source.outputs else source.name))
        if source.even_ends is not None and op in ENDED:
            attributes = {**(attributes or {}), "even_ends": list(source.even_ends)}
        node = Node(
            op, name, tuple(inputs), name, attributes or {}, arrays or {}, source.name, source.kind, source.module
        )
        tensors = [self.graph.tensors[i] for i in inputs]
        try:
            shape = OPS[op].shape(node, *(t.shape for t in tensors))
            check_size(shape)
            check(8 * (prod(shape) + sum(prod(t.shape) for t in tensors)), "its tensors take, as int64,")
            self.constants.take(sum(a.nbytes for a in node.arrays.values()), "its constants take")
            low, high = OPS[op].value_range(node, *tensors)
        except IntsimError as error:  # ops name the integer node; the user knows the file's
            raise IntsimError(str(error).removeprefix(f"node {name}: ")) from None
        if low < -LIMIT or high > LIMIT:
            raise Refused(
                f"its exact integer result needs {max(-low, high).bit_length() + 1} bits, more than 64; "
                f"{QUANTIZE_INPUTS}"
            )
        self.positions[name] = len(self.graph.nodes)
        self.graph.add(node, Tensor(name, tuple(shape), low, high, scale, offset, kind, onnx))
        self.count(node)
        return Expr(tuple(shape), ((name, spread(scale, len(shape))),), spread(offset, len(shape)))

    def count(self, node: Node) -> None:
        """Note how far a node's numbers can be off.

        Raises Refused where it needs exact ones, or makes codes of numbers on a grid too coarse for them.
        """
        try:
            error = deviation(self.graph, node, self.errors)
        except IntsimError as refused:
            raise Refused(str(refused)) from None
        on_grid = any(name in self.gridded for name in node.inputs)
        if on_grid and node.op == "requantize":
            sums = combined_error(node, [self.errors.get(name, Fraction(0)) for name in node.inputs])
            if (off := steepest(node, sums)) > MOST_ERROR:
                known = float(min(off, Fraction(10) ** 300))
                raise Refused(f"what it rounds is only known to within {known:.2g} of its step; {QUANTIZE_INPUTS}")
        if error:
            self.errors[node.output] = error
            rows = isinstance(OPS[node.op], RowFunction)  # whose own rounding comes on top, whatever they read
            if (on_grid or "off" in node.attributes) and not rows:
                self.gridded.add(node.output)
            irrational = rows or isinstance(OPS[node.op], Function | Table)
            if irrational or any(name in self.irrational for name in node.inputs):
                self.irrational.add(node.output)

    def forget(self, count: int) -> None:
        """Take back all nodes but the first ones, which nothing reads."""
        for node in self.graph.nodes[count:]:
            del self.graph.tensors[node.output], self.positions[node.output]
            self.errors.pop(node.output, None)
            for names in (self.stated, self.gridded, self.irrational):
                names.discard(node.output)
        del self.graph.nodes[count:]

    def emit_pieces(
        self,
        op: str,
        value: Expr,
        resolved: Resolved,
        meaning: Meaning,
        attributes: dict[str, Any] | None = None,
        kind: IntegerType | None = None,
        onnx: str | None = None,
        stem: str | None = None,
    ) -> Expr:
        """Append a node of piecewise linear functions, one a cell, of the tensors of an expression."""
        pieces = {"cells": list(resolved.cells), "pieces": pieces_json(resolved.pieces)}
        arrays = coefficient_arrays(resolved.coefficients)
        names = self.full_size([n for n, _ in value.terms], resolved.cells, value.shape)
        return self.emit(op, names, *meaning, {**pieces, **(attributes or {})}, arrays, kind, onnx, stem)

    def emit_table(
        self,
        tensor: str,
        shape: Shape,
        cells: Shape,
        table: IntArray,
        low: int,
        functions: Iterable[str],
        meaning: Meaning,
        kind: IntegerType | None,
        onnx: str | None = None,
    ) -> Expr:
        """Append tables of a tensor's codes from `low` on, a row for each cell; the result has `shape`."""
        attributes = {"low": low, "cells": list(cells), "functions": list(functions)}
        return self.emit(
            "table", self.full_size([tensor], cells, shape), *meaning, attributes, {"table": table}, kind, onnx
        )

    def producer(self, tensor: str) -> Node | None:
        """The integer node that makes a tensor; None for a graph input."""
        position = self.positions.get(tensor)
        return None if position is None else self.graph.nodes[position]

    def replace(self, node: Node, changed: Node) -> None:
        """Put another node in the place of one that makes the same tensor."""
        self.graph.nodes[self.positions[node.output]] = changed
        self.count(changed)

    def move(self, value: M, op: str, attributes: dict[str, Any], arrays: dict[str, IntArray] | None = None) -> M:
        """Apply a data movement op with one input to a value, parameters included."""
        node = Node(op, self.source.name, ("x",), "y", attributes, arrays or {})
        shape = tuple(OPS[op].shape(node, value.shape))
        check_size(shape)

        def moved(parameter: Rationals) -> Rationals:
            if parameter.size == 1:
                return parameter.reshape((1,) * len(shape))
            index = np.arange(parameter.size).reshape(parameter.shape)
            index = OPS[op].evaluate(node, np.broadcast_to(index, value.shape))
            return compress_index(parameter, index)

        if isinstance(value, Const):
            return Const(OPS[op].evaluate(node, value.array))  # type: ignore[return-value]
        if isinstance(value, Fixed):
            codes = OPS[op].evaluate(node, value.codes)
            scale, offset = (moved(spread(v, len(value.shape))) for v in (value.scale, value.offset))
            return Fixed(codes, scale, offset, value.type)  # type: ignore[return-value]
        if isinstance(value, Curve):
            tensor = self.broadcast(value.tensor, value.shape)
            info = self.graph.tensors[tensor]
            scale, offset = (moved(spread(v, len(value.shape))) for v in (info.scale, info.offset))
            made = self.emit(op, [tensor], scale, offset, attributes, arrays, info.type)
            function = rewritten(value.function, moved, {})
            return Curve(shape, made.tensor, function, value.made_by)  # type: ignore[return-value]
        terms = []
        for name, scale in value.terms:
            tensor = self.broadcast(name, value.shape)
            kind = self.graph.tensors[tensor].type
            expr = self.emit(op, [tensor], moved(scale), ZERO, attributes, arrays, kind)
            terms.append((expr.tensor, moved(scale)))
        out = Expr(shape, tuple(terms), moved(value.offset), tuple(s.changed(moved) for s in value.steps))
        if out.linear:
            self.describe(out.tensor, out.scale, out.offset)
        return out  # type: ignore[return-value]

    def describe(self, tensor: str, scale: Rationals, offset: Rationals) -> None:
        """Set what a tensor's integers mean."""
        self.graph.tensors[tensor] = replace(self.graph.tensors[tensor], scale=scale, offset=offset)

    def dequantized(self, value: Expr, scale: Rationals, offset: Rationals) -> Expr:
        """The numbers that codes stand for by a scale and offset that a node of the file names.

        A tensor is described by what makes it, or else by the first that reads it so. Codes read in another way are a
        tensor of their own: kernels of runtimes compute with the scales that a node names.
        """
        out = value.affine(scale, offset, value.shape)
        if not out.linear:
            return out
        known = self.graph.tensors[out.tensor]
        own = spread(known.scale, len(out.shape)), spread(known.offset, len(out.shape))
        if all(np.all(mine == named) for mine, named in zip(own, (out.scale, out.offset), strict=True)):
            self.stated.add(out.tensor)
            return out
        bare = scalar(known.scale) == 1 and scalar(known.offset) == 0
        name = out.tensor
        if out.tensor in self.stated or not bare:
            shape = {"shape": list(known.shape), "renamed": True}
            meaning = compress(out.scale), compress(out.offset)
            name = self.emit("reshape", [name], *meaning, shape, kind=known.type, stem=f"{name}~read").tensor
        else:
            self.describe(name, out.scale, out.offset)
        self.stated.add(name)
        return Expr(out.shape, ((name, out.scale),), out.offset)

    def broadcast(self, tensor: str, shape: Shape) -> str:
        """The tensor itself, or repeated along axes so that it has `shape`."""
        info = self.graph.tensors[tensor]
        if len(info.shape) < len(shape):
            grown = [*(1,) * (len(shape) - len(info.shape)), *info.shape]
            tensor = self.emit("reshape", [tensor], ONE, ZERO, {"shape": grown}, kind=info.type).tensor
        for axis, size in enumerate(shape):
            if self.graph.tensors[tensor].shape[axis] != size:
                index = {"index": np.zeros(size, np.int64)}
                tensor = self.emit("gather", [tensor], ONE, ZERO, {"axis": axis}, index, info.type).tensor
        return tensor

    def full_size(self, names: list[str], cells: Shape, shape: Shape) -> list[str]:
        """The tensors, the first one repeated where broadcasting all with `cells` falls short of `shape`."""
        if np.broadcast_shapes(cells, *(self.graph.tensors[n].shape for n in names)) == shape:
            return names
        return [self.broadcast(names[0], shape), *names[1:]]

    def settle(self, expr: Expr, per_cell: bool = False, growing: bool = False) -> Expr:
        """One integer tensor that carries the expression: one term, no steps, offset a whole number of codes.

        With `per_cell` the scale may differ from cell to cell; otherwise it is one rational for the whole tensor. It is
        never zero; with `growing` it is above zero, so that a larger integer means a larger number. It is exact, unless
        `bits` is set and too few for that: then it is the nearest of a grid.
        """
        if self.bits is None:
            return self._settled(expr, per_cell, growing)
        try:
            made = self._settled(expr, per_cell, growing)
            info = self.graph.tensors[made.tensor]
            if max(-info.low, info.high) >> (self.bits - 1) == 0:
                return made
        except IntsimError:
            pass
        return self.to_grid(expr, self.bits)

    def _settled(self, expr: Expr, per_cell: bool, growing: bool) -> Expr:
        if expr.linear:
            scale, offset = expr.scale, expr.offset
            same = self.graph.tensors[expr.tensor].shape == expr.shape
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
        stem = f"{self.source.outputs[0]}~exact"
        return self.emit_pieces("affine", expr, replace(resolved, pieces=pieces), (scale, ZERO), stem=stem)

    def operand(self, value: Expr) -> tuple[str, Fraction, int]:
        """The value as one tensor with scalar scale and integer zero point: (tensor, scale, zero point)."""
        expr = self.settle(value)
        scale, offset = scalar(expr.scale), scalar(expr.offset)
        assert scale is not None
        assert offset is not None
        return expr.tensor, scale, int(-offset / scale)

    def quantize(self, value: Expr, q: Quantizer, onnx: str | None, meaning: Meaning | None = None) -> Expr:
        """Write a requantizer, of codes that stand for what the quantizer says, or else for `meaning`."""
        try:
            return self._quantized(value, q, onnx, meaning)
        except IntsimError:
            if self.bits is None:
                raise
            return self._quantized(self.to_grid(value, self.bits), q, onnx, meaning)

    def _quantized(self, value: Expr, q: Quantizer, onnx: str | None, meaning: Meaning | None) -> Expr:
        rank = len(value.shape)
        steps = (Step("affine", q.line(rank)), *([Step("sign", ())] if q.bipolar else []))
        low, high = q.bounds or (None, None)
        attributes = {"rounding": q.rounding, "zero": q.after, "low": low, "high": high}
        scale, offset = (compress(spread(m, rank)) for m in meaning or q.meaning)
        made = self.emit_pieces("requantize", value, resolve(value, steps), (scale, offset), attributes, q.kind, onnx)
        self.stated.add(made.tensor)
        return made

    def host_input(self, host: str, q: Quantizer, tensor: str, meaning: Meaning | None = None) -> Expr:
        """Make the integer graph input `tensor` of a host value; `meaning` as of `quantize`."""
        shape = self.host_shape(host)
        scale, offset = (compress(spread(m, len(shape))) for m in meaning or q.meaning)
        assert q.bounds is not None
        self.graph.tensors[tensor] = Tensor(tensor, shape, *q.bounds, scale, offset, q.kind, tensor)
        self.graph.inputs.append(tensor)
        self.stated.add(tensor)
        self.boundaries.append(Boundary(tensor, host, q, self.source.name, self.source.module))
        return Expr(shape, ((tensor, scale),), offset)


def compress_index(parameter: Rationals, index: IntArray) -> Rationals:
    """`parameter` picked by a moved index array, axes of constant index dropped to one."""
    return compress(parameter.reshape(-1)[narrow(index)])


def whole(offset: Rationals, scale: Rationals) -> bool:
    """Whether every offset is an integer multiple of its scale."""
    ratio = offset / scale
    return all(r.denominator == 1 for r in np.atleast_1d(ratio).reshape(-1))


def coefficient_arrays(coefficients: list[np.ndarray]) -> dict[str, IntArray]:
    """The `coefficients` array of a node with several inputs; none for a single input."""
    if len(coefficients) == 1:
        return {}
    if max(abs(int(a)) for c in coefficients for a in c.reshape(-1)) > LIMIT:
        raise Refused("its inputs' scales have no common grid of 64 bits; quantize the inputs to closer scales")
    return {"coefficients": np.stack(np.broadcast_arrays(*coefficients)).astype(np.int64)}
