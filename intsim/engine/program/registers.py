"""Steps of layers whose registers may overflow: the overflow check, then addition by addition where it fails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intsim.engine.exact import layout
from intsim.engine.exact.conv import Window, window
from intsim.engine.program.analysis import check_pays, checkable_weights, narrowest, safe
from intsim.engine.program.builder import ProgramBuilder, Source
from intsim.engine.program.program import Frame, Step
from intsim.engine.registers.conv import RegisterConv
from intsim.engine.registers.matmul import ColumnMatmul
from intsim.engine.registers.overflow_check import ConvCheck, MatmulCheck, limits
from intsim.graph import IntArray, Node
from intsim.mac.plan import Plan
from intsim.ops import OPS, Mac
from intsim.ops.conv import Conv, kernel_axes

AGAIN = 8
"""Of so many runs one checks all channels."""
OFTEN = 0.4
"""Share of channels that failed the check from which on the others aren't worth it."""
POSITIONS = 32
"""Rows of a product from which on they fill the lanes; below, the columns do."""


def conv(builder: ProgramBuilder, node: Node) -> bool:
    """A convolution through registers."""
    x, y = (builder.graph.tensors[n].shape for n in (node.inputs[0], node.output))
    plan, op, spatial = _plan(builder, node), OPS[node.op], window(node, x, y)
    if plan is None or spatial is None or not isinstance(op, Conv):
        return False
    step = _ConvStep(builder, node, op, plan, spatial)
    _append(builder, step, () if step.check is None else step.check.source.buffers)
    return True


def matmul(builder: ProgramBuilder, node: Node) -> bool:
    """A matrix product with constant weights through registers."""
    plan, op = _plan(builder, node), OPS[node.op]
    if plan is None or node.arrays["weight"].ndim != 2 or not isinstance(op, Mac):
        return False
    _append(builder, _MatmulStep(builder, node, op, plan))
    return True


def _plan(builder: ProgramBuilder, node: Node) -> Plan | None:
    """A layer's way through registers, if that is known before it runs."""
    plan = builder.analysis.plans[node.output]
    shapes = [builder.graph.tensors[n].shape for n in (*node.inputs, node.output)]
    target = builder.arithmetic(node)
    plain = target.stages and target.registers.packing is None and len(node.inputs) == 1
    plain = plain and not target.stages[0].drop  # no kernel rounds products
    known = plain and builder.analysis.sound[node.output] and not plan.operands.depends_on_data()
    known = known and not plan.operands.owed
    return plan if known and not safe(plan) and not any(0 in shape for shape in shapes) else None


class _Step:
    """What both kinds of layers have in common.

    Activations are `kind` where the multiplier sees them, the narrowest type that the register kernels take. Codes are
    cast to it and shifted modulo its range, and so is the sum right.
    """

    def __init__(self, builder: ProgramBuilder, node: Node, op: Mac, plan: Plan) -> None:
        self.node, self.plan, self.target = node, plan, builder.arithmetic(node)
        self.stages = self.target.stages
        self.x, self.y = (builder.graph.tensors[n] for n in (node.inputs[0], node.output))
        order, operands = self.target.accumulate.order, plan.operands
        self.rows = op.weight_rows(node, node.arrays["weight"] + operands.w_shift, order)
        self.late = plan.late(self.rows)
        low, high = (held + operands.x_shift for held in builder.analysis.holds[self.x.name])
        if op.pads(node):
            low, high = min(low, operands.pad), max(high, operands.pad)
        self.span = low, high
        kind = narrowest(self.span)
        self.kind: type[np.integer[Any]] = np.int32 if kind is np.uint16 else kind
        self.shift = np.array(operands.x_shift).astype(self.kind)
        self.channels = len(self.rows)

    def run(self, frame: Frame) -> None:
        """The step's action."""
        raise NotImplementedError

    def finish(self, frame: Frame, out: np.ndarray, failed: np.ndarray, events: IntArray) -> None:
        """What the registers hand on, and the bias that none holds; `out` has channels along axis 1."""
        if frame.overflow_check and not failed.all():
            left = f", registers {int(failed.sum())}/{failed.size}" if failed.any() else ""
            frame.kernel, frame.why = f"checked{left}", "sums of the data show what fits"
        behind = self.plan.behind
        if behind is not None:
            out = out + behind.reshape([-1 if axis == 1 else 1 for axis in range(out.ndim)])
        frame.arrays[self.node.output] = np.ascontiguousarray(out).reshape(self.y.shape)
        frame.events[self.node.name] = events

    def no_events(self) -> IntArray:
        """(channels, stages) zeros."""
        return np.zeros((self.channels, len(self.stages)), np.int64)


class _ConvStep(_Step):
    """A convolution."""

    def __init__(self, builder: ProgramBuilder, node: Node, op: Conv, plan: Plan, spatial: Window) -> None:
        super().__init__(builder, node, op, plan)
        self.op, rank = op, len(self.x.shape) - 2
        axes = kernel_axes(self.target.accumulate.order, rank)
        axes = axes if rank == 2 else tuple(a for b in axes for a in ((0,) if b == 0 else (1, 2)))
        _, channels, *size = op.padded(node, np.zeros((1, *self.x.shape[1:]), np.int64), 0).shape
        self.padded = (channels, *(1, *size)[-2:])
        self.positions = math.prod(spatial.out)
        self.layer = RegisterConv(
            self.rows, axes, spatial, self.padded, self.span, self.stages, plan.preload, self.late
        )
        check = builder.placement.checks.get(node.output)
        self.check = None
        if check is not None:
            self.check = _CheckOnWords(builder, self.x.name, check, layout.maps(self.y.shape))
        else:
            builder.as_array(self.x.name)

    def run(self, frame: Frame) -> None:
        """Check, then step."""
        out: np.ndarray = np.empty((*self.y.shape[:2], self.positions), self.layer.dtype)
        failed, events = np.ones(self.channels, bool), self.no_events()
        if self.check is not None and frame.overflow_check:
            failed = self.check.run(frame, out)
        if failed.any():
            codes: Any = frame.arrays[self.x.name] if self.check is None else self.check.codes(frame)
            data = self._planes(codes)
            events[failed] = self.layer.run(data, len(codes), frame.counts, out, failed)[failed]
        self.finish(frame, out, failed, events)

    def _planes(self, codes: np.ndarray) -> np.ndarray:
        """Activations as the multiplier sees them, padding among them."""
        pads, planes = self.node.attributes["pads"], self.layer.planes
        if self.node.op == "conv" and min(pads) >= 0:
            begins = (0, *pads[: len(pads) // 2])[-2:]
            flat = codes.reshape(*codes.shape[:2], *(1, *codes.shape[2:])[-2:])
            return planes.fill(flat, self.kind, begins, self.plan.operands.pad, self.shift)
        codes = codes.astype(self.kind)
        codes = self.op.padded(self.node, codes + self.shift if self.shift else codes, self.plan.operands.pad)
        return planes.fill(codes.reshape(len(codes), *self.padded), self.kind)


class _CheckOnWords:
    """The overflow check of a convolution whose input is words."""

    def __init__(self, builder: ProgramBuilder, name: str, check: ConvCheck, shape: tuple[int, ...]) -> None:
        self.check, self.channels = check, shape[1]
        self.source = Source(builder, check.conv, builder.as_words(name))
        self.bound = self.source.bind(shape)
        self.input, self.kind = builder.graph.tensors[name].shape, narrowest(builder.analysis.holds[name])
        self.failed = np.zeros(-(-self.channels // check.pairs), bool)  # in the run before
        self.runs = 0

    def codes(self, frame: Frame) -> np.ndarray:
        """The input as an array."""
        out, view = np.empty(self.input, self.kind), self.source.view
        layout.unpack(frame.buffers[view.buffer], view, out)
        return out

    def run(self, frame: Frame, out: np.ndarray) -> np.ndarray:
        """Sums of the channels that fit into `out`; True for the others."""
        # inputs of one network are much alike: what failed before is checked again now and then
        again, self.runs = self.runs % AGAIN == 0, self.runs + 1
        if not again and self.failed.mean() > OFTEN:
            return np.ones(self.channels, bool)
        failed = np.zeros_like(self.failed) if again else self.failed.copy()
        if not failed.all():
            words = self.source.words(frame)
            for probe in (True, False) if again else (False,):
                if not failed.all():
                    self.check.run(self.bound, words, failed, out.reshape(-1), probe)
        self.failed = failed
        return np.repeat(failed, self.check.pairs)[: self.channels]


class _MatmulStep(_Step):
    """A matrix product with constant weights."""

    def __init__(self, builder: ProgramBuilder, node: Node, op: Mac, plan: Plan) -> None:
        super().__init__(builder, node, op, plan)
        *_, self.depth = self.x.shape
        count = math.prod(self.x.shape[:-1])
        worth = self.kind is np.uint8 and check_pays(self.depth, plan, self.target)
        self.check = self._check(builder) if worth else None
        self.layer: RegisterConv | ColumnMatmul
        if count >= min(POSITIONS, self.channels):
            point = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, (1, count), (1, count))
            size = (self.depth, 1, count)
            self.layer = RegisterConv(
                self.rows, (0, 1, 2), point, size, self.span, self.stages, plan.preload, self.late
            )
        else:
            self.layer = ColumnMatmul(self.rows, count, self.span, self.stages, plan.preload, self.late)
            self.check = None if self.layer.narrow else self.check
        self.failed, self.runs = 0.0, 0  # the share of columns that failed the last check
        builder.as_array(self.x.name)

    def _check(self, builder: ProgramBuilder) -> MatmulCheck | None:
        weight = checkable_weights(self.node, self.plan, self.target, axis=0)
        if weight is None or self.plan.sums is None:
            return None
        edges = limits(self.stages, self.plan.preload, self.late, self.plan.sums.all_safe)
        return None if edges is None else MatmulCheck(weight, edges, builder.dot)

    def run(self, frame: Frame) -> None:
        """Check, then step."""
        a: Any = frame.arrays[self.x.name].reshape(-1, self.depth).astype(self.kind) + self.shift
        out, failed, events = None, np.ones(self.channels, bool), self.no_events()
        if self.check is not None and frame.overflow_check:
            again, self.runs = self.runs % AGAIN == 0, self.runs + 1
            if again or self.failed <= OFTEN:
                out, failed = self.check.run(a)
                self.failed = float(failed.mean())
        if out is None or failed.any():
            stepped, seen = self._registers(frame, a, failed)
            events[failed] = seen[failed]
            out = stepped if out is None else np.where(failed, stepped, out)
        self.finish(frame, out, failed, events)

    def _registers(self, frame: Frame, a: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, IntArray]:
        if isinstance(self.layer, ColumnMatmul):
            return self.layer.run(a, frame.counts)
        out: np.ndarray = np.empty((1, self.channels, len(a)), self.layer.dtype)
        data = self.layer.planes.fill(a.T.reshape(1, -1, 1, len(a)), self.kind)
        events = self.layer.run(data, 1, frame.counts, out, wanted)
        return out[0].T, events


def _append(builder: ProgramBuilder, step: _Step, buffers: tuple[int, ...] = ()) -> None:
    node, size = step.node, 4 * math.prod(step.y.shape)
    read, why = () if buffers else node.inputs, "registers may overflow"
    builder.add(Step((node,), "registers", why, step.run, "", read, buffers, (node.output,), size))
