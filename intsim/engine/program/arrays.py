"""Steps on arrays: requantizers by their proven formula, products with constant bytes, tables, definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from intsim.engine.exact.matmul import WordMatmul
from intsim.engine.node import run_alone
from intsim.engine.program.analysis import INT32, byte_shift, byte_weights, inside, narrowest, safe
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.program import Frame, Step
from intsim.engine.requantize.affine import AffineRequantizer, TwoFormulas
from intsim.engine.requantize.kernels import combine_dense, requantize_dense
from intsim.engine.requantize.node import cell_layout, known_fit
from intsim.engine.requantize.table_kernels import staircase_dense, table_dense
from intsim.engine.threads import each, shares
from intsim.graph import IntArray, Node
from intsim.ops import OPS, Mac
from intsim.ops.pieces import combined_range

MOVES = {"gather", "concat", "pad", "reshape", "transpose"}
"""Operators whose definition moves integers of any type."""
GRAIN = 1 << 14
"""Least elements of one thread's share of a table."""


def definition(builder: ProgramBuilder, node: Node) -> None:
    """The node's definition, or for registers and schemes the engine's own checked way, on int64 arrays."""
    for name in node.inputs:
        builder.as_array(name)
    kind = narrowest(builder.analysis.holds[node.output])
    movement, target = node.op in MOVES, builder.arithmetic(node)

    def action(frame: Frame) -> None:
        given = [frame.arrays[n] for n in node.inputs]
        if movement:
            frame.arrays[node.output] = OPS[node.op].evaluate(node, *(a.astype(kind, copy=False) for a in given))
            return
        out, events = run_alone(builder.graph, node, [a.astype(np.int64) for a in given], target)
        frame.arrays[node.output] = out.astype(kind)
        if events is not None:
            frame.events[node.name] = events if frame.counts else (events > 0).astype(np.int64)

    kernel, why = ("move", "an array of any type") if movement else _reason(builder, node)
    builder.add(Step((node,), kernel, why, action, arrays=node.inputs, made=(node.output,)))


def _reason(builder: ProgramBuilder, node: Node) -> tuple[str, str]:
    if not builder.analysis.sound[node.output]:
        return "definition", "inputs may leave their described range behind an overflow"
    if not isinstance(OPS[node.op], Mac):
        return "definition", "no compiled kernel for it"
    if not safe(builder.analysis.plans[node.output]):
        return "registers", "a register may overflow"
    return "BLAS", "operands are not bytes, or not constant" if node.op == "matmul" else "operands are not bytes"


def formula(builder: ProgramBuilder, node: Node) -> AffineRequantizer | TwoFormulas | None:
    """The proven formula of a requantizer for all that can arrive."""
    tensors = [builder.graph.tensors[i] for i in node.inputs]
    reach = builder.analysis.holds[node.inputs[0]]
    if len(tensors) > 1:
        if not builder.analysis.sound[node.output]:
            return None
        reach = combined_range(node, *tensors)
    target = builder.arithmetic(node)
    return known_fit(node, tensors, target.requantize, target.stages, reach)


def requantize(builder: ProgramBuilder, node: Node) -> bool:
    """A requantizer, of one input or of a sum of several, by its proven formula."""
    shape = builder.graph.tensors[node.output].shape
    same = all(builder.graph.tensors[i].shape == shape for i in node.inputs)
    layout = cell_layout(shape, node.attributes["cells"])
    if not same or layout is None or 0 in shape or not inside(builder.analysis.holds[node.output], INT32):
        return False
    rule, factors = formula(builder, node), node.arrays.get("coefficients")
    if rule is None or (factors is not None and factors[0].size not in (1, layout[1])):
        return False
    for name in node.inputs:
        builder.as_array(name)
    kind = narrowest(builder.analysis.holds[node.output])
    lane = np.int32 if factors is None and inside(builder.analysis.holds[node.inputs[0]], INT32) else np.int64
    spread = None if factors is None else np.broadcast_to(factors.reshape(len(factors), -1), (len(factors), layout[1]))

    def action(frame: Frame) -> None:
        given = [np.ascontiguousarray(frame.arrays[n]).reshape(layout) for n in node.inputs]
        out = np.empty(layout, kind)
        if spread is None:
            requantize_dense(given[0].astype(lane, copy=False), rule, out)
        else:
            combine_dense(given, spread, rule, out)
        frame.arrays[node.output] = out.reshape(shape)

    why = "proven for every accumulator that can arrive"
    kernel = "two formulas" if isinstance(rule, TwoFormulas) else "formula and table" if rule.table.size else "formula"
    builder.add(Step((node,), kernel, why, action, arrays=node.inputs, made=(node.output,)))
    return True


def matmul(builder: ProgramBuilder, node: Node) -> bool:
    """Constant byte weights: rows of words."""
    op, x, y = OPS[node.op], builder.graph.tensors[node.inputs[0]], builder.graph.tensors[node.output]
    assert isinstance(op, Mac)
    weight, shift = byte_weights(node, op), byte_shift(builder.analysis.holds[x.name])
    ready = (
        builder.analysis.sound[node.output]
        and safe(builder.analysis.plans[node.output])
        and inside((y.low, y.high), INT32)
    )
    if weight is None or weight.ndim != 2 or shift is None or not ready or 0 in x.shape or 0 in y.shape:
        return False
    bias = node.arrays.get("bias", np.zeros(weight.shape[1], np.int64))
    zero = op.zero_points(node)[0] + shift
    words = WordMatmul(weight, bias - zero * weight.sum(axis=0), builder.dot)
    builder.as_array(x.name)
    events, shape = builder.no_events(node), y.shape

    def action(frame: Frame) -> None:
        frame.events[node.name] = events.copy()
        rows = frame.arrays[x.name].reshape(-1, x.shape[-1])
        frame.arrays[node.output] = words.run(rows, shift).reshape(shape)

    why = "no register can overflow" if builder.arithmetic(node).stages else "exact sums"
    kernel, size = f"rows {builder.dot.name}", 4 * math.prod(shape)
    builder.add(Step((node,), kernel, why, action, arrays=(x.name,), made=(y.name,), bytes=size))
    return True


def table(builder: ProgramBuilder, node: Node) -> bool:
    """One table read an element, where cells lie in a block."""
    if not has_all_entries(builder, node):
        return False
    low, entries = int(node.attributes["low"]), _narrowed(builder, node, node.arrays["table"])
    return _by_line(builder, node, lambda x, out, *part: table_dense(x, out, entries, low, *part))


def staircase(builder: ProgramBuilder, node: Node) -> bool:
    """One binary search an element, where cells lie in a block; every integer has a code."""
    starts, codes = np.ascontiguousarray(node.arrays["starts"]), _narrowed(builder, node, node.arrays["codes"])
    return _by_line(builder, node, lambda x, out, *part: staircase_dense(x, out, starts, codes, *part))


def _narrowed(builder: ProgramBuilder, node: Node, entries: IntArray) -> np.ndarray:
    """In the type of the node's result; entries that can't be reached may not fit it."""
    kind = narrowest(builder.analysis.holds[node.output])
    return np.clip(entries, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


def _by_line(builder: ProgramBuilder, node: Node, run: Callable[..., None]) -> bool:
    """`run(x, out, first, last)` on lines of (outer, cells) of blocks, threads apart."""
    shape, kind = builder.graph.tensors[node.output].shape, narrowest(builder.analysis.holds[node.output])
    layout = cell_layout(shape, node.attributes["cells"])
    if layout is None or builder.graph.tensors[node.inputs[0]].shape != shape or 0 in shape:
        return False
    builder.as_array(node.inputs[0])
    lines = layout[0] * layout[1]

    def action(frame: Frame) -> None:
        x = np.ascontiguousarray(frame.arrays[node.inputs[0]]).reshape(layout)
        out = np.empty(layout, kind)
        if lines == 1:
            parts = shares(layout[2], GRAIN)
            each(lambda p: run(x[:, :, p[0] : p[1]], out[:, :, p[0] : p[1]], 0, 1), parts)
        else:
            each(lambda p: run(x, out, *p), shares(lines, max(1, GRAIN // layout[2])))
        frame.arrays[node.output] = out.reshape(shape)

    builder.add(Step((node,), node.op, "an array of any type", action, arrays=node.inputs, made=(node.output,)))
    return True


def has_all_entries(builder: ProgramBuilder, node: Node) -> bool:
    """Whether every integer that can arrive has an entry."""
    low, count = node.attributes["low"], node.arrays["table"].shape[1]
    return inside(builder.analysis.holds[node.inputs[0]], (low, low + count - 1))
