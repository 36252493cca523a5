"""Ways of nodes whose registers may overflow: step by step, in the narrowest lanes that are exact."""

from __future__ import annotations

import math

import numpy as np

from intsim.engine.draft import Draft, narrowest
from intsim.engine.forms import safe
from intsim.engine.program import Frame
from intsim.engine.registers import RegisterConv
from intsim.engine.stepwise import stepwise_matmul
from intsim.engine.taps import window
from intsim.graph import IntArray, Node
from intsim.ops import OPS, Mac
from intsim.ops.conv import Conv, kernel_axes
from intsim.ops.operands import channel_zeros
from intsim.ops.plan import Plan


def stepped(draft: Draft, node: Node) -> Plan | None:
    """How a node goes through registers, if that is known before it runs."""
    how = draft.forms.plans[node.output]
    shapes = [draft.graph.tensors[n].shape for n in (*node.inputs, node.output)]
    known = draft.target.stages and draft.target.registers.packing is None and draft.forms.sound[node.output]
    if not known or safe(how) or how.operands.depends_on_data() or len(node.inputs) > 1 or any(0 in s for s in shapes):
        return None
    return how


def late_terms(how: Plan, rows: IntArray) -> IntArray | None:
    """What is added to each channel after its products."""
    zeros = channel_zeros(how.operands.w_zero, len(rows))
    terms = [t for t in (how.after, how.operands.compensation(rows, zeros)) if t is not None]
    return sum(terms[1:], terms[0]) if terms else None


def conv(draft: Draft, node: Node) -> bool:
    """A convolution through registers."""
    how, op, spatial = stepped(draft, node), OPS[node.op], window(node)
    if how is None or spatial is None or not isinstance(op, Conv):
        return False
    x, y = (draft.graph.tensors[n] for n in (node.inputs[0], node.output))
    held = draft.forms.holds[x.name]
    span = held[0] + how.operands.x_shift, held[1] + how.operands.x_shift
    if op.pads(node):
        span = min(span[0], how.operands.pad), max(span[1], how.operands.pad)
    kind = narrowest(span)
    kind = np.int32 if kind is np.uint16 else kind
    rank, order = len(x.shape) - 2, draft.target.accumulate.order
    axes = kernel_axes(order, rank)
    axes = axes if rank == 2 else tuple(a for b in axes for a in ((0,) if b == 0 else (1, 2)))
    rows = op.weight_rows(node, node.arrays["weight"] + how.operands.w_shift, order)
    shape = op.padded(node, np.zeros((1, *x.shape[1:]), np.int8), 0).shape
    *_, height, width = (1, *y.shape[2:])
    padded = (shape[1], *(1, *shape[2:])[-2:])
    made = RegisterConv(
        rows, axes, spatial, padded, (height, width), span, draft.target.stages, how.preload, late_terms(how, rows)
    )
    draft.dense(x.name)
    shift, pad = kind(how.operands.x_shift), how.operands.pad

    def action(frame: Frame) -> None:
        codes = frame.arrays[x.name].astype(kind)  # modulo the type's range, and so is the sum
        codes = op.padded(node, codes + shift if shift else codes, pad)
        out, frame.events[node.name] = made.run(codes.reshape(len(codes), *padded), frame.counts)
        frame.arrays[node.output] = out.reshape(y.shape)

    _append(draft, node, how, action)
    return True


def product(draft: Draft, node: Node) -> bool:
    """A matrix product with constant weights through registers."""
    how, op = stepped(draft, node), OPS[node.op]
    if how is None or node.arrays["weight"].ndim != 2 or not isinstance(op, Mac):
        return False
    x, y = (draft.graph.tensors[n] for n in (node.inputs[0], node.output))
    rows = op.weight_rows(node, node.arrays["weight"] + how.operands.w_shift, draft.target.accumulate.order)
    late, shift = late_terms(how, rows), how.operands.x_shift
    draft.dense(x.name)

    def action(frame: Frame) -> None:
        a = frame.arrays[x.name].reshape(-1, x.shape[-1]).astype(np.int64) + shift
        mode = "counted" if frame.counts else "touched"
        found = stepwise_matmul(a, rows, draft.target.stages, how.preload, late, mode)
        frame.arrays[node.output], frame.events[node.name] = found.out.reshape(y.shape), found.events

    _append(draft, node, how, action)
    return True


def _append(draft: Draft, node: Node, how: Plan, action: object) -> None:
    assert how.sums is not None
    channels = np.asarray(~how.sums.all_safe)
    why = f"{int(channels.sum())} of {channels.size} channels may overflow"
    size = 4 * math.prod(draft.graph.tensors[node.output].shape)
    draft.arrays.add(node.output)
    draft.step((node,), "registers", why, action, size, arrays=node.inputs, made=(node.output,))  # type: ignore[arg-type]
