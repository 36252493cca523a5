"""Ways of nodes whose registers may overflow: step by step, in the narrowest lanes that are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from intsim.engine.exact import layout as words
from intsim.engine.exact.taps import Window, window
from intsim.engine.program.analysis import late_terms, multiplied, safe
from intsim.engine.program.builder import ProgramBuilder, narrowest
from intsim.engine.program.program import Frame
from intsim.engine.registers.conv import RegisterConv
from intsim.engine.registers.overflow_check import Certified, CertifiedProduct
from intsim.engine.registers.plan import stepwise_matmul
from intsim.engine.registers.vectors import Mode
from intsim.graph import IntArray, Node
from intsim.mac.plan import Plan
from intsim.ops import OPS, Mac
from intsim.ops.conv import Conv, kernel_axes

AGAIN = 8
"""Of so many runs one tries all channels."""
POSITIONS = 32
"""Rows of a product from which on they fill the lanes; below, the columns do."""


def activation_type(span: tuple[int, int]) -> type[np.integer[Any]]:
    """The narrowest type of activations that the register kernels take: not uint16."""
    kind = narrowest(span)
    return np.int32 if kind is np.uint16 else kind


def stepped(draft: ProgramBuilder, node: Node) -> Plan | None:
    """How a node goes through registers, if that is known before it runs."""
    how = draft.forms.plans[node.output]
    shapes = [draft.graph.tensors[n].shape for n in (*node.inputs, node.output)]
    known = draft.target.stages and draft.target.registers.packing is None and draft.forms.sound[node.output]
    if not known or safe(how) or how.operands.depends_on_data() or len(node.inputs) > 1 or any(0 in s for s in shapes):
        return None
    return how


def conv(draft: ProgramBuilder, node: Node) -> bool:
    """A convolution through registers."""
    how, op, spatial = stepped(draft, node), OPS[node.op], window(node)
    if how is None or spatial is None or not isinstance(op, Conv):
        return False
    x, y = (draft.graph.tensors[n] for n in (node.inputs[0], node.output))
    held = draft.forms.holds[x.name]
    span = held[0] + how.operands.x_shift, held[1] + how.operands.x_shift
    if op.pads(node):
        span = min(span[0], how.operands.pad), max(span[1], how.operands.pad)
    kind = activation_type(span)
    rank, order = len(x.shape) - 2, draft.target.accumulate.order
    axes = kernel_axes(order, rank)
    axes = axes if rank == 2 else tuple(a for b in axes for a in ((0,) if b == 0 else (1, 2)))
    rows = op.weight_rows(node, node.arrays["weight"] + how.operands.w_shift, order)
    shape = op.padded(node, np.zeros((1, *x.shape[1:]), np.int64), 0).shape
    *_, height, width = (1, *y.shape[2:])
    padded = (shape[1], *(1, *shape[2:])[-2:])
    made = RegisterConv(
        rows, axes, spatial, padded, (height, width), span, draft.target.stages, how.preload, late_terms(how, rows)
    )
    # modulo the type's range
    shift, pad, proof = (
        np.array(how.operands.x_shift).astype(kind),
        how.operands.pad,
        draft.forms.certified.get(node.output),
    )
    if proof is None:
        draft.dense(x.name)
    attempt = None
    if proof is not None:
        attempt = _Attempt(draft, x.name, proof, (y.shape[0], y.shape[1], height, width))

    def stepwise(frame: Frame, out: np.ndarray, wanted: np.ndarray) -> IntArray:
        codes: Any = (frame.arrays[x.name] if attempt is None else attempt.codes(frame)).astype(kind)
        # modulo the type's range, and so is the sum
        codes = op.padded(node, codes + shift if shift else codes, pad)
        return made.run(codes.reshape(len(codes), *padded), frame.counts, out, wanted)

    def action(frame: Frame) -> None:
        out: np.ndarray = np.empty((*y.shape[:2], height * width), made.dtype)
        failed, events = np.ones(y.shape[1], bool), draft.no_events(node)
        if attempt is not None and frame.certify:
            failed = attempt.run(frame, out)
        if failed.any():
            events[failed] = stepwise(frame, out, failed)[failed]
        _tell(frame, failed)
        frame.events[node.name] = events
        frame.arrays[node.output] = _moved(out, how.behind, 1).reshape(y.shape)

    _append(draft, node, action, () if attempt is None else attempt.storages)
    return True


class _Attempt:
    """Trying the data's own proof before registers are stepped through."""

    def __init__(self, draft: ProgramBuilder, name: str, proof: Certified, shape: tuple[int, int, int, int]) -> None:
        self.proof, self.place, self.shape = proof, draft.worded(name), shape
        self.scratch = None if proof.conv.direct(self.place) else draft.storage(proof.conv.scratch(self.place))
        self.bound = proof.bind(self.place, None if self.scratch is None else self.scratch.layout, shape)
        self.kind = narrowest(draft.forms.holds[name])
        self.input = draft.graph.tensors[name].shape
        self.storages = (self.place.storage, *(() if self.scratch is None else (self.scratch.storage,)))
        self.failed = np.zeros(-(-shape[1] // proof.pairs), bool)  # in the run before
        self.runs = 0

    def codes(self, frame: Frame) -> np.ndarray:
        """The input as an array."""
        out = np.empty(self.input, self.kind)
        words.unpack(frame.buffers[self.place.storage], self.place, out)
        return out

    def run(self, frame: Frame, out: np.ndarray) -> np.ndarray:
        """Sums of the channels that fit into `out`; True for the others."""
        # inputs of one network are much alike: what failed before is tried again now and then
        again, self.runs = self.runs % AGAIN == 0, self.runs + 1
        failed = np.zeros_like(self.failed) if again else self.failed.copy()
        source = frame.buffers[self.place.storage]
        if self.scratch is not None and not failed.all():
            aside = frame.buffers[self.scratch.storage]
            self.proof.conv.split(source, self.place, aside, self.scratch.layout)
            source = aside
        for probe in (True, False) if again else (False,):
            if not failed.all():
                self.proof.run(self.bound, source, failed, out.reshape(-1), probe)
        self.failed = failed
        return np.repeat(failed, self.proof.pairs)[: self.shape[1]]


def product(draft: ProgramBuilder, node: Node) -> bool:
    """A matrix product with constant weights through registers, the data's own proof before."""
    how, op = stepped(draft, node), OPS[node.op]
    if how is None or node.arrays["weight"].ndim != 2 or not isinstance(op, Mac):
        return False
    x, y = (draft.graph.tensors[n] for n in (node.inputs[0], node.output))
    stages, count = draft.target.stages, math.prod(x.shape[:-1])
    rows = op.weight_rows(node, node.arrays["weight"] + how.operands.w_shift, draft.target.accumulate.order)
    late, held = late_terms(how, rows), draft.forms.holds[x.name]
    span = held[0] + how.operands.x_shift, held[1] + how.operands.x_shift
    kind = activation_type(span)
    shift = np.array(how.operands.x_shift).astype(kind)
    proof = _product_proof(draft, node, how, late) if kind is np.uint8 else None
    made = None
    if count >= POSITIONS:
        plain = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1)
        depth = x.shape[-1]
        made = RegisterConv(rows, (0, 1, 2), plain, (depth, 1, count), (1, count), span, stages, how.preload, late)
    draft.dense(x.name)

    def stepwise(frame: Frame, a: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, IntArray]:
        if made is not None:
            out: np.ndarray = np.empty((1, len(rows), count), made.dtype)
            events = made.run(np.ascontiguousarray(a.T).reshape(1, -1, 1, count), frame.counts, out, wanted)
            return out[0].T, events
        mode: Mode = "counted" if frame.counts else "touched"
        found = stepwise_matmul(a, rows, stages, how.preload, late, mode)
        return found.out, found.events

    def action(frame: Frame) -> None:
        a: Any = frame.arrays[x.name].reshape(-1, x.shape[-1]).astype(kind) + shift  # modulo the type's range
        failed = np.ones(len(rows), bool)
        out, events = None, draft.no_events(node)
        if proof is not None and frame.certify:
            out, failed = proof.run(a, frame.workers)
        if out is None or failed.any():
            stepped_out, stepped_events = stepwise(frame, a, failed)
            events[failed] = stepped_events[failed]
            out = stepped_out if out is None else np.where(failed, stepped_out, out)
        _tell(frame, failed)
        out = np.ascontiguousarray(_moved(out, how.behind, 1))
        frame.arrays[node.output], frame.events[node.name] = out.reshape(y.shape), events

    _append(draft, node, action)
    return True


def _product_proof(draft: ProgramBuilder, node: Node, how: Plan, late: IntArray | None) -> CertifiedProduct | None:
    weight = multiplied(node, how, draft.target, axis=0)
    if weight is None or how.sums is None:
        return None
    nothing = np.zeros(weight.shape[1], np.int64)
    start, after = (nothing if t is None else t for t in (how.preload, late))
    if np.abs(start + after).max(initial=0) >= 1 << 31:
        return None
    return CertifiedProduct(weight, draft.target.stages, start, after, how.sums.all_safe, draft.dot)


def _moved(out: np.ndarray, behind: IntArray | None, axis: int) -> np.ndarray:
    """What the registers hand on, and the bias (channels,) that no register holds; channels lie along `axis`."""
    if behind is None:
        return out
    return out + behind.reshape([-1 if i == axis else 1 for i in range(out.ndim)])


def _tell(frame: Frame, failed: np.ndarray) -> None:
    """What ran, for the profile."""
    if frame.certify and not failed.all():
        left = f", registers {int(failed.sum())}/{failed.size}" if failed.any() else ""
        frame.kernel, frame.why = f"certified{left}", "sums of the data show what fits"


def _append(draft: ProgramBuilder, node: Node, action: Callable[[Frame], None], storages: tuple[int, ...] = ()) -> None:
    why = "registers may overflow"
    size = 4 * math.prod(draft.graph.tensors[node.output].shape)
    read = () if storages else node.inputs
    draft.arrays.add(node.output)
    draft.step((node,), "registers", why, action, size, arrays=read, storages=storages, made=(node.output,))
