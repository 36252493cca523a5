"""Steps on arrays: requantizers by their proven formula, products of bytes, tables, functions of rows, definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import chain

import numpy as np

from intsim.engine.exact.maps import look_up_bytes
from intsim.engine.exact.matmul import WordMatmul, as_bytes, column_codes
from intsim.engine.exact.microkernels import Tile
from intsim.engine.exact.rows import multiply_pairs, norm_rows, softmax_rows
from intsim.engine.exact.selftest import looks_up
from intsim.engine.node import run_alone
from intsim.engine.program.analysis import INT32, Range, byte_shift, byte_weights, inside, narrowest, safe
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.program import Frame, Step
from intsim.engine.requantize.affine import RINT, AffineRequantizer, FilteredRequantizer, Rule, TwoFormulas
from intsim.engine.requantize.columns import Columns, by_columns
from intsim.engine.requantize.filtered import filtered
from intsim.engine.requantize.kernels import Combination, requantize_dense
from intsim.engine.requantize.node import cell_layout, known_fit
from intsim.engine.requantize.rescale import rescaling
from intsim.engine.requantize.table_kernels import grid_dense, staircase_dense, table_dense
from intsim.engine.threads import share_out
from intsim.graph import LIMIT, IntArray, Node
from intsim.ops import OPS, Mac
from intsim.ops.function import Prepared
from intsim.ops.grid import limb_of
from intsim.ops.layer_norm import LayerNorm
from intsim.ops.pieces import combine, combined_range, node_pieces

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
    target, reach = builder.arithmetic(node), _reach(builder, node)
    if reach is None:
        return None
    rule = known_fit(node, tensors, target.requantize, target.stages, reach)
    if len(tensors) == 2 and isinstance(rule, AffineRequantizer) and rule.table.size:
        coefficients = [int(f.reshape(-1)[0]) for f in node.arrays["coefficients"] if f.size == 1]
        held = [builder.analysis.holds[t.name] for t in tensors]
        if len(coefficients) == 2 and all(high - low < 256 for low, high in held):
            x, z = (f * np.arange(low, high + 1) for f, (low, high) in zip(coefficients, held, strict=True))
            return without_table(rule, np.add.outer(x, z).reshape(-1))
    return rule


def formula_or_filter(builder: ProgramBuilder, node: Node) -> Rule | None:
    """For many codes what needs no proof of each; else the proven formula, if there is one."""
    target, reach = builder.arithmetic(node), _reach(builder, node)
    many = None if reach is None else filtered(node, target.requantize, reach)
    return many or formula(builder, node)


def _reach(builder: ProgramBuilder, node: Node) -> Range | None:
    """What accumulators can arrive at a requantizer; None where too much can."""
    if len(node.inputs) == 1:
        return builder.analysis.holds[node.inputs[0]]
    if not builder.analysis.sound[node.output]:
        return None
    return combined_range(node, *(builder.graph.tensors[i] for i in node.inputs))


def without_table(rule: AffineRequantizer, sums: IntArray) -> AffineRequantizer:
    """The same requantizer without its table, if that changes the code of none of `sums`, all that can arrive."""
    if len(rule.scale) > 1 or rule.kind != RINT or np.abs(sums).max() >= 1 << 53:
        return rule
    right = requantize_dense(sums.reshape(1, 1, -1), rule, np.empty((1, 1, sums.size), np.int64))
    alone = np.rint(np.clip(rule.scale * sums + rule.offset, rule.low, rule.high))
    if not np.array_equal(alone, right.reshape(-1)):
        return rule
    return replace(rule, table=np.zeros((1, 0), np.int64))


def requantize(builder: ProgramBuilder, node: Node) -> bool:
    """A requantizer, of one input or of a sum of several, by its proven formula."""
    shape = builder.graph.tensors[node.output].shape
    same = all(builder.graph.tensors[i].shape == shape for i in node.inputs)
    layout = cell_layout(shape, node.attributes["cells"])
    if not same or layout is None or 0 in shape or not inside(builder.analysis.holds[node.output], INT32):
        return False
    rule, factors = formula_or_filter(builder, node), node.arrays.get("coefficients")
    if rule is None or (factors is not None and factors[0].size not in (1, layout[1])):
        return False
    for name in node.inputs:
        builder.as_array(name)
    kind = narrowest(builder.analysis.holds[node.output])
    steps = None
    if layout[2] == 1 and factors is None and isinstance(rule, AffineRequantizer) and by_columns(rule):
        steps = Columns(rule, layout[1]) if inside(builder.analysis.holds[node.inputs[0]], INT32) else None
    short, held = None, builder.analysis.holds[node.inputs[0]]
    if (
        factors is None
        and not isinstance(rule, FilteredRequantizer)
        and kind().itemsize == 1
        and narrowest(held)().itemsize == 1
        and 1 in layout[1:]
    ):
        flat = layout[:2] if layout[2] == 1 else (math.prod(shape) // shape[-1], shape[-1]) if shape else (1, 1)
        short = rescaling(rule, held, flat[1])
    lane = np.int32 if factors is None and inside(builder.analysis.holds[node.inputs[0]], INT32) else np.int64
    combination = None
    if factors is not None:
        spread = np.broadcast_to(factors.reshape(len(factors), -1), (len(factors), layout[1]))
        combination = Combination(spread, rule)

    def action(frame: Frame) -> None:
        given = [np.ascontiguousarray(frame.arrays[n]).reshape(layout) for n in node.inputs]
        if short is not None and given[0].itemsize == 1:
            frame.arrays[node.output] = short.run(given[0].reshape(flat), kind).reshape(shape)
            return
        if steps is not None and kind().itemsize == 1:
            codes = steps.run(given[0].reshape(layout[:2]).astype(np.int32, copy=False), kind)
            frame.arrays[node.output] = codes.reshape(shape)
            return
        out = np.empty(layout, kind)
        if combination is None:
            requantize_dense(given[0].astype(lane, copy=False), rule, out)
        else:
            combination.run(given, out)
        frame.arrays[node.output] = out.reshape(shape)

    builder.add(Step((node,), *how(rule), action, arrays=node.inputs, made=(node.output,)))
    return True


def how(rule: Rule) -> tuple[str, str]:
    """Kernel of a requantizer, and why it could run."""
    if isinstance(rule, FilteredRequantizer):
        return "float64 and definition", "float64 decides all but what lies near an edge"
    kernel = "two formulas" if isinstance(rule, TwoFormulas) else "formula and table" if rule.table.size else "formula"
    return kernel, "proven for every accumulator that can arrive"


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
    events, shape = {node.name: builder.no_events(node)}, y.shape
    reader, rule = _columns(builder, node)
    rounding = None if rule is None else column_codes(rule, shape[-1])
    steps = Columns(rule, shape[-1]) if rule is not None and rounding is None else None
    kind = np.int32 if reader is None else narrowest(builder.analysis.holds[reader.output])
    made = node.output if reader is None else reader.output

    def action(frame: Frame) -> None:
        given = frame.arrays[x.name].reshape(-1, x.shape[-1])
        if rounding is not None:
            frame.arrays[made] = words.run(given, shift, rounding).view(kind).reshape(shape)
            return
        sums = words.run(given, shift)
        frame.arrays[made] = (sums if steps is None else steps.run(sums, kind)).reshape(shape)

    why = "no register can overflow" if builder.arithmetic(node).stages else "exact sums"
    kernel, size = f"rows {builder.dot.name}", np.dtype(kind).itemsize * math.prod(shape)
    nodes = (node,) if reader is None else (node, reader)
    builder.add(Step(nodes, kernel, why, action, arrays=(x.name,), made=(made,), bytes=size, events=events))
    if reader is not None:
        builder.fused.add(made)
    return True


def _columns(builder: ProgramBuilder, node: Node) -> tuple[Node | None, AffineRequantizer | None]:
    """The requantizer to bytes, of one cell or one a column, that alone reads a product; and its formula."""
    reader, shape = builder.sole_requantizer(node), builder.graph.tensors[node.output].shape
    if reader is None:
        return None, None
    cells = tuple(reader.attributes["cells"])
    if math.prod(cells) not in (1, (*cells, 1)[len(cells) - 1]) or math.prod(cells) not in (1, shape[-1]):
        return None, None
    if byte_shift(builder.analysis.holds[reader.output]) is None:
        return None, None
    rule = formula(builder, reader)
    return (reader, rule) if isinstance(rule, AffineRequantizer) and by_columns(rule) else (None, None)


def matmul_pairs(builder: ProgramBuilder, node: Node) -> bool:
    """Products of two tensors of bytes, by the instruction; and the requantizer that alone reads them."""
    if len(node.inputs) != 2 or "bias" in node.arrays:
        return False
    op, (a, b), y = OPS[node.op], (builder.graph.tensors[n] for n in node.inputs), builder.graph.tensors[node.output]
    assert isinstance(op, Mac)
    x_zero, w_zero = op.zero_points(node)
    shift_a, shift_b = (byte_shift(builder.analysis.holds[t.name]) for t in (a, b))
    ready = (
        builder.analysis.sound[node.output]
        and safe(builder.analysis.plans[node.output])
        and inside((y.low, y.high), INT32)
        and a.shape[:-2] == b.shape[:-2] == y.shape[:-2]
        and min(a.shape[-2:]) > 0
    )
    if not ready or shift_a is None or shift_b is None or w_zero.size != 1 or 0 in y.shape:
        return False
    below = 0 if inside(builder.analysis.holds[b.name], (-128, 127)) else -128  # what makes int8 of it
    zeros = -(x_zero + shift_a), -(int(w_zero.reshape(-1)[0]) + below)
    for name in node.inputs:
        builder.as_array(name)
    pairs = math.prod(y.shape[:-2])
    wide = min(4 if builder.dot.registers == 32 else 2, -(-y.shape[-1] // builder.dot.lanes))
    tile = Tile(builder.dot.lanes, builder.dot.parts, 4, wide)
    grain = max(1, GRAIN // math.prod(y.shape[-2:]))
    reader, rule = _columns(builder, node)
    steps = None if rule is None else Columns(rule, y.shape[-1])
    kind = np.int32 if reader is None else narrowest(builder.analysis.holds[reader.output])
    made, events = node.output if reader is None else reader.output, {node.name: builder.no_events(node)}

    def action(frame: Frame) -> None:
        left = as_bytes(frame.arrays[a.name], shift_a).reshape(pairs, *a.shape[-2:])
        right = as_bytes(frame.arrays[b.name], below & 255).view(np.int8).reshape(pairs, *b.shape[-2:])
        out = np.empty((pairs, *y.shape[-2:]), np.int32)
        share_out(lambda part: multiply_pairs(left, right, out, zeros, tile, *part), pairs, grain)
        codes = out if steps is None else steps.run(out.reshape(-1, y.shape[-1]), kind)
        frame.arrays[made] = codes.reshape(y.shape)

    why = "no register can overflow" if builder.arithmetic(node).stages else "exact sums"
    kernel, size = f"pairs {builder.dot.name}", np.dtype(kind).itemsize * math.prod(y.shape)
    nodes = (node,) if reader is None else (node, reader)
    builder.add(Step(nodes, kernel, why, action, arrays=node.inputs, made=(made,), bytes=size, events=events))
    if reader is not None:
        builder.fused.add(made)
    return True


def softmax(builder: ProgramBuilder, node: Node) -> bool:
    """Rows of the last axis."""
    x, table = builder.graph.tensors[node.inputs[0]], np.ascontiguousarray(node.arrays["table"], np.int64)
    if "mask" in node.arrays or not _last_axis(builder, node) or not inside(builder.analysis.holds[x.name], INT32):
        return False
    shift, kind = int(node.attributes["fraction"]) + 1, narrowest(builder.analysis.holds[node.output])
    rows, length = math.prod(x.shape[:-1]), x.shape[-1]
    builder.as_array(x.name)

    def action(frame: Frame) -> None:
        given = np.ascontiguousarray(frame.arrays[x.name], np.int32).reshape(rows, length)
        out = np.empty((rows, length), np.int32)
        share_out(lambda part: softmax_rows(given, out, table, shift, *part), rows, max(1, GRAIN // length))
        frame.arrays[node.output] = out.reshape(x.shape).astype(kind, copy=False)

    why = "differences index the table of exponentials"
    builder.add(Step((node,), "rows", why, action, arrays=node.inputs, made=(node.output,)))
    return True


def layer_norm(builder: ProgramBuilder, node: Node) -> bool:
    """Rows of the last axis; those in which float64 is in doubt by the definition."""
    x, op = builder.graph.tensors[node.inputs[0]], OPS[node.op]
    assert isinstance(op, LayerNorm)
    low, high = builder.analysis.holds[x.name]
    rows, length = math.prod(x.shape[:-1]), x.shape[-1]
    least, most = builder.analysis.holds[node.output]
    small = (length * (high - low)) ** 2 < 1 << 62 and max(-least, most) < 1 << 30
    epsilon = Fraction(node.attributes["epsilon"]) * length**2
    if not _last_axis(builder, node) or not small or not inside((low, high), INT32) or not 0 <= epsilon < 1 << 1000:
        return False
    power, added, kind = 2.0 ** int(node.attributes["fraction"]), float(epsilon), narrowest((least, most))
    builder.as_array(x.name)

    def action(frame: Frame) -> None:
        given = np.ascontiguousarray(frame.arrays[x.name], np.int32).reshape(rows, length)
        out, doubtful = np.empty((rows, length), np.int32), np.empty(rows, np.bool_)
        grain = max(1, GRAIN // length)
        share_out(lambda part: norm_rows(given, out, doubtful, power, added, *part), rows, grain)
        if doubtful.any():
            out[doubtful] = op.rows(node, given[doubtful].astype(np.int64))
        frame.arrays[node.output] = out.reshape(x.shape).astype(kind, copy=False)

    why = "float64 decides all but a few rows"
    builder.add(Step((node,), "rows", why, action, arrays=node.inputs, made=(node.output,)))
    return True


def _last_axis(builder: ProgramBuilder, node: Node) -> bool:
    """Whether rows of a function of rows lie along the last axis, and its inputs are within their ranges."""
    shape = builder.graph.tensors[node.inputs[0]].shape
    axes = [a % len(shape) for a in node.attributes["axes"]]
    return axes == [len(shape) - 1] and 0 not in shape and builder.analysis.sound[node.output]


def table(builder: ProgramBuilder, node: Node) -> bool:
    """One table read an element, where cells lie in a block."""
    if not has_all_entries(builder, node):
        return False
    low, entries = int(node.attributes["low"]), _narrowed(builder, node, node.arrays["table"])
    held, shape = builder.analysis.holds[node.inputs[0]], builder.graph.tensors[node.output].shape
    alike = len(entries) == 1 and builder.graph.tensors[node.inputs[0]].shape == shape and 0 not in shape
    if alike and entries.itemsize == narrowest(held)().itemsize == 1 and looks_up():
        _bytes_by_table(builder, node, entries, low)
        return True
    return _by_line(builder, node, lambda x, out, *part: table_dense(x, out, entries, low, *part))


def _bytes_by_table(builder: ProgramBuilder, node: Node, entries: np.ndarray, low: int) -> None:
    """A table of bytes to bytes in registers; of integers that a caller gives as wider ones, as they are."""
    name, shape = node.inputs[0], builder.graph.tensors[node.output].shape
    codes = np.arange(256)
    if builder.analysis.holds[name][0] < 0:
        codes = codes.astype(np.uint8).view(np.int8).astype(np.int64)
    whole = entries[0][np.clip(codes - low, 0, entries.shape[1] - 1)].view(np.uint8)
    builder.as_array(name)

    def action(frame: Frame) -> None:
        given = np.ascontiguousarray(frame.arrays[name]).reshape(-1)
        x = given.view(np.uint8) if given.itemsize == 1 else given.astype(np.uint8)  # modulo 256
        out = np.empty(x.size, np.uint8)
        share_out(lambda p: look_up_bytes(x, out, whole, *p), x.size, GRAIN)
        frame.arrays[node.output] = out.view(entries.dtype).reshape(shape)

    builder.add(Step((node,), node.op, "bytes to bytes", action, arrays=node.inputs, made=(node.output,)))


def staircase(builder: ProgramBuilder, node: Node) -> bool:
    """One binary search an element, where cells lie in a block; every integer has a code."""
    starts, codes = np.ascontiguousarray(node.arrays["starts"]), _narrowed(builder, node, node.arrays["codes"])
    return _by_line(builder, node, lambda x, out, *part: staircase_dense(x, out, starts, codes, *part))


def grid(builder: ProgramBuilder, node: Node) -> bool:
    """A line and a shift an element, where cells lie in a block and a sum stays within its range."""
    if not builder.analysis.sound[node.output]:
        return False
    cells, shift = node_pieces(node), int(node.attributes["shift"])
    slopes, summands = [[int(s) for _, s, _ in p] for p in cells], [[int(b) for _, _, b in p] for p in cells]
    most = max(map(abs, combined_range(node, *(builder.graph.tensors[name] for name in node.inputs))))
    limb = limb_of(chain(*slopes), chain(*summands), most, shift)
    if limb is None:
        return False
    count = max(map(len, cells))
    placed = [[max(-LIMIT, min(p[0] or 0, LIMIT)) for p in pieces[1:]] for pieces in cells]
    starts = np.array([row + [LIMIT] * (count - 1 - len(row)) for row in placed], np.int64).reshape(len(cells), -1)

    def laid(rows: list[list[int]], part: Callable[[int], int]) -> IntArray:
        return np.array([[part(v) for v in row] + [0] * (count - len(row)) for row in rows], np.int64)

    slope = laid(slopes, int)
    high, low = laid(summands, lambda b: b >> limb), laid(summands, lambda b: b & ((1 << limb) - 1))
    bits = np.array([limb, shift - limb])
    return _by_line(builder, node, lambda x, out, *part: grid_dense(x, out, starts, slope, high, low, bits, *part))


def function(builder: ProgramBuilder, node: Node) -> bool:
    """The definition with floats that are made once."""
    prepared, kind = Prepared(node), narrowest(builder.analysis.holds[node.output])
    builder.as_array(node.inputs[0])

    def action(frame: Frame) -> None:
        frame.arrays[node.output] = prepared.nearest(frame.arrays[node.inputs[0]].astype(np.int64)).astype(kind)

    why = "float64 decides all but a few numbers"
    builder.add(Step((node,), node.op, why, action, arrays=node.inputs, made=(node.output,)))
    return True


def _narrowed(builder: ProgramBuilder, node: Node, entries: IntArray) -> np.ndarray:
    """In the type of the node's result; entries that can't be reached may not fit it."""
    kind = narrowest(builder.analysis.holds[node.output])
    return np.clip(entries, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


def _by_line(builder: ProgramBuilder, node: Node, run: Callable[..., None]) -> bool:
    """`run(x, out, first, last)` on lines of (outer, cells) of blocks, threads apart; x is the sum of the inputs."""
    shape, kind = builder.graph.tensors[node.output].shape, narrowest(builder.analysis.holds[node.output])
    layout = cell_layout(shape, node.attributes["cells"])
    shapes = [builder.graph.tensors[name].shape for name in node.inputs]
    if layout is None or np.broadcast_shapes(*shapes) != shape or 0 in shape:
        return False
    for name in node.inputs:
        builder.as_array(name)
    lines = layout[0] * layout[1]

    def action(frame: Frame) -> None:
        given = [frame.arrays[name] for name in node.inputs]
        whole = given[0] if len(given) == 1 else combine(node, *(a.astype(np.int64) for a in given))
        x = np.ascontiguousarray(whole).reshape(layout)
        out = np.empty(layout, kind)
        if lines == 1:
            share_out(lambda p: run(x[:, :, p[0] : p[1]], out[:, :, p[0] : p[1]], 0, 1), layout[2], GRAIN)
        else:
            share_out(lambda p: run(x, out, *p), lines, max(1, GRAIN // layout[2]))
        frame.arrays[node.output] = out.reshape(shape)

    builder.add(Step((node,), node.op, "an array of any type", action, arrays=node.inputs, made=(node.output,)))
    return True


def has_all_entries(builder: ProgramBuilder, node: Node) -> bool:
    """Whether every integer that can arrive has an entry."""
    low, count = node.attributes["low"], node.arrays["table"].shape[1]
    return inside(builder.analysis.holds[node.inputs[0]], (low, low + count - 1))
