"""Ways of nodes over arrays: requantizers by their proven formula, products with constant bytes, definitions."""

from __future__ import annotations

import math

import numpy as np

from intsim.engine.exact.conv import WordProduct
from intsim.engine.node import run_node
from intsim.engine.program.analysis import INT32, byte_shift, byte_weights, inside, safe
from intsim.engine.program.builder import ProgramBuilder, narrowest
from intsim.engine.program.program import Frame
from intsim.engine.requantize.affine import AffineRequantizer, Bent
from intsim.engine.requantize.kernels import bent_dense, combine_dense, requantize_dense
from intsim.engine.requantize.node import cell_layout, known_fit
from intsim.graph import Node
from intsim.ops import OPS, Mac
from intsim.ops.pieces import combined_range

MOVES = {"gather", "concat", "pad", "reshape", "transpose"}
"""Operators whose definition moves integers of any type."""


def defined(draft: ProgramBuilder, node: Node) -> None:
    """The node's definition, or for registers and schemes the engine's own checked way, on int64 arrays."""
    for name in node.inputs:
        draft.dense(name)
    kind = narrowest(draft.forms.holds[node.output])
    movement = node.op in MOVES

    def action(frame: Frame) -> None:
        given = [frame.arrays[n] for n in node.inputs]
        if movement:
            frame.arrays[node.output] = OPS[node.op].evaluate(node, *(a.astype(kind, copy=False) for a in given))
            return
        out, events = run_node(draft.graph, node, [a.astype(np.int64) for a in given], draft.target)
        frame.arrays[node.output] = out.astype(kind)
        if events is not None:
            frame.events[node.name] = events if frame.counts else (events > 0).astype(np.int64)

    draft.arrays.add(node.output)
    size = math.prod(draft.graph.tensors[node.output].shape) * kind().itemsize
    kernel, why = ("move", "an array of any type") if movement else _plainly(draft, node)
    draft.step((node,), kernel, why, action, size, arrays=node.inputs, made=(node.output,))


def _plainly(draft: ProgramBuilder, node: Node) -> tuple[str, str]:
    if not draft.forms.sound[node.output]:
        return "definition", "inputs may leave their described range behind an overflow"
    if not isinstance(OPS[node.op], Mac):
        return "definition", "no compiled kernel for it"
    if not safe(draft.forms.plans[node.output]):
        return "registers", "a register may overflow"
    return "BLAS", "operands are not bytes, or not constant" if node.op == "matmul" else "operands are not bytes"


def formula(draft: ProgramBuilder, node: Node) -> AffineRequantizer | Bent | None:
    """The proven formula of a requantizer for all that can arrive."""
    tensors = [draft.graph.tensors[i] for i in node.inputs]
    reach = draft.forms.holds[node.inputs[0]]
    if len(tensors) > 1:
        if not draft.forms.sound[node.output]:
            return None
        reach = combined_range(node, *tensors)
    return known_fit(node, tensors, draft.target.form, draft.target.stages, reach)


def rounded(draft: ProgramBuilder, node: Node) -> bool:
    """A requantizer, of one input or of a sum of several, by its proven formula."""
    shape = draft.graph.tensors[node.output].shape
    same = all(draft.graph.tensors[i].shape == shape for i in node.inputs)
    layout = cell_layout(shape, node.attributes["cells"])
    if not same or layout is None or 0 in shape or not inside(draft.forms.holds[node.output], INT32):
        return False
    rule, factors = formula(draft, node), node.arrays.get("coefficients")
    if rule is None or (factors is not None and factors[0].size not in (1, layout[1])):
        return False
    for name in node.inputs:
        draft.dense(name)
    kind = narrowest(draft.forms.holds[node.output])
    lane = np.int32 if factors is None and inside(draft.forms.holds[node.inputs[0]], INT32) else np.int64
    spread = None if factors is None else np.broadcast_to(factors.reshape(len(factors), -1), (len(factors), layout[1]))

    def action(frame: Frame) -> None:
        given = [np.ascontiguousarray(frame.arrays[n]).reshape(layout) for n in node.inputs]
        out = np.empty(layout, kind)
        if isinstance(rule, Bent):
            if spread is not None:
                given = [sum(a * f.astype(np.int64)[:, None] for a, f in zip(given, spread, strict=True))]
            bent_dense(given[0].astype(lane, copy=False), rule, out)
        elif spread is None:
            requantize_dense(given[0].astype(lane, copy=False), rule, out)
        else:
            combine_dense(given, spread, rule, out)
        frame.arrays[node.output] = out.reshape(shape)

    why = "proven for every accumulator that can arrive"
    size = math.prod(shape) * kind().itemsize
    draft.arrays.add(node.output)
    kernel = "two formulas" if isinstance(rule, Bent) else "formula and table" if rule.table.size else "formula"
    draft.step((node,), kernel, why, action, size, arrays=node.inputs, made=(node.output,))
    return True


def product(draft: ProgramBuilder, node: Node) -> bool:
    """Constant byte weights: rows of words."""
    op, x, y = OPS[node.op], draft.graph.tensors[node.inputs[0]], draft.graph.tensors[node.output]
    assert isinstance(op, Mac)
    weight, shift = byte_weights(node, op), byte_shift(draft.forms.holds[x.name])
    ready = draft.forms.sound[node.output] and safe(draft.forms.plans[node.output]) and inside((y.low, y.high), INT32)
    if weight is None or weight.ndim != 2 or shift is None or not ready or 0 in x.shape or 0 in y.shape:
        return False
    bias = node.arrays.get("bias", np.zeros(weight.shape[1], np.int64))
    zero = op.zero_points(node)[0] + shift
    product = WordProduct(weight, bias - zero * weight.sum(axis=0), draft.dot)
    draft.dense(x.name)
    events, shape = draft.no_events(node), y.shape

    def action(frame: Frame) -> None:
        frame.events[node.name] = events.copy()
        rows = frame.arrays[x.name].reshape(-1, x.shape[-1])
        frame.arrays[node.output] = product.run(rows, shift, frame.workers).reshape(shape)

    draft.arrays.add(node.output)
    why = "no register can overflow" if draft.target.stages else "exact sums"
    draft.step((node,), f"rows {draft.dot.name}", why, action, 4 * math.prod(shape), arrays=(x.name,), made=(y.name,))
    return True
