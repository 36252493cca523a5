"""Why a float executor's code isn't the exact one: rounding within its bound, or a fault that is shown to be the cause.

A fault is a hypothesis about what the executor computes instead. It is accepted where the exact numbers under the
hypothesis give every code that the executor had in that tensor; what no hypothesis gives is `executor`, unexplained.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.verification.faults import FAULTS, Fault, wrapped
from intsim.verification.float_error import Reach, dequantized, enclosed, gamma, known, reach
from intsim.verification.reference import ReferenceRun
from intsim.verification.reference.call import Call, attributes
from intsim.verification.reference.operators import OPERATORS, key
from intsim.verification.reference.qlinear import QLINEAR, inside
from intsim.verification.reference.quantize import Quantized, element_of, rounding
from intsim.verification.reference.rational import floats
from intsim.verification.reference.tensor import Tensor

Array = NDArray[Any]
ROUNDING, UNKNOWN, WRAP = "float_rounding", "executor", "int32_wrap"
MOST_WRAPS = 1 << 16
"""Elements of one tensor that are worked out one by one."""
SUMS = ("QLinearConv", "QLinearMatMul", "com.microsoft:QGemm")
"""Quantizers that add up products in integers, exactly but for an int32 that wraps."""
FAILURES = (IntsimError, ValueError, IndexError, TypeError, KeyError, ArithmeticError, AttributeError, MemoryError)


class Causes:
    """Names causes in one file, for executors' results on one sample after another."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        """`proto` is the file as the reference evaluates it, in topological order."""
        nodes = list(proto.graph.node)
        self.makers = {o: n for n in nodes for o in n.output if o}
        self.order = {id(n): i for i, n in enumerate(nodes)}
        self.opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=13)

    def of_codes(self, local: ReferenceRun, name: str, had: Array) -> Array:
        """One cause for each code of quantizer `name` where `had` isn't exact; "" where it is."""
        apart = had != local.codes[name]
        out = np.where(apart, UNKNOWN, "").astype("<U14")
        if not apart.any():
            return out
        try:
            judge = _Codes(self, local, name)
            explained = judge.explained(had, None)
            out[apart & explained] = ROUNDING
            left = apart & ~explained
            out[left & judge.wraps(had, left)] = WRAP
            left &= out != WRAP
            present = {key(n.domain, n.op_type) for n in self.segment(name, local)}
            if judge.key in QLINEAR:
                present = {judge.node.op_type.removeprefix("QLinear")}
            for fault in FAULTS if left.any() else ():
                if fault.operators & present and judge.gives_all(had, fault):
                    out[left] = fault.name
                    break
        except FAILURES:  # what can't be evaluated again stays unexplained
            pass
        return out

    def of_values(self, local: ReferenceRun, name: str, apart: Array, scale: Array) -> Array:
        """The same for accumulators that end a graph, `apart` their difference in LSB; True where it is rounding."""
        try:
            numbers = self.evaluated(local, name, None)
        except FAILURES:
            numbers = None
        if numbers is None:
            return np.zeros(apart.shape, bool)
        room = (numbers[1].error + local.error(name)) / scale
        return np.asarray(np.abs(apart) <= (0.5 + room * 1.001 + 2.0**-40).reshape(apart.shape))

    def segment(self, name: str, local: ReferenceRun, inside: bool = False) -> list[onnx.NodeProto]:
        """Nodes from the quantizers before `name` to its maker, in order; without the maker unless `inside`."""
        waiting, needed = [name], {}
        while waiting:
            at = waiting.pop()
            node = self.makers.get(at)
            if node is None or id(node) in needed or (at != name and at in local.quantized):
                continue
            needed[id(node)] = node
            waiting += [i for i in node.input if i]
        if not inside and name in self.makers:
            needed.pop(id(self.makers[name]), None)
        return sorted(needed.values(), key=lambda n: self.order[id(n)])

    def evaluated(self, local: ReferenceRun, name: str, fault: Fault | None) -> tuple[Tensor, Reach] | None:
        """A tensor and its reach, from the codes that the executor had before it; None where no bound is known."""
        if name in local.quantized or name not in self.makers:
            return local.tensors[name], _leaf(local, name)
        made: dict[str, tuple[Tensor, Reach | None]] = {}
        for node in self.segment(name, local, inside=True):
            operator, attrs = key(node.domain, node.op_type), attributes(node)
            for i in node.input:
                if i and i not in made:
                    made[i] = local.tensors[i], _leaf(local, i)
            tensors = [made[i][0] if i else None for i in node.input]
            reaches = [made[i][1] if i else None for i in node.input]
            call = Call(node.op_type, "", self.opset, attrs, tensors, max(len(node.output), 1), decides=True)
            if operator in QLINEAR:  # QGemm with a float output
                made[node.output[0]] = enclosed(inside(call), None)
                continue
            changed = fault.change(operator, call) if fault is not None else None
            if fault is None:
                outputs = {o: local.tensors[o] for o in node.output if o in local.tensors}
            else:
                result = changed if isinstance(changed, Tensor) else OPERATORS[operator](changed or call)
                outputs = dict(zip(node.output, result if isinstance(result, list) else [result], strict=False))
            sure = all(r is not None or not i for r, i in zip(reaches, node.input, strict=True))
            for out, tensor in outputs.items():
                grown = None
                if len(outputs) > 1:
                    data = reaches[0]
                    grown = None if data is None else Reach(np.full(tensor.shape, data.size.max()), data.steps)
                elif sure:
                    grown = reach(operator, changed if isinstance(changed, Call) else call, reaches, tensor)
                    if grown is not None and fault is not None:
                        grown = replace(grown, size=np.maximum(grown.size, np.abs(tensor.approx()[0])))
                made[out] = tensor, grown
        tensor, grown = made[name]
        return None if grown is None else (tensor, grown)


def _leaf(local: ReferenceRun, name: str) -> Reach:
    """What a quantizer made, what came in, or what the file holds."""
    q = local.quantized.get(name)
    if q is None or q.integer:
        return known(local.tensors[name])
    codes = local.given_codes.get(name, q.codes)
    scale, zero = (np.broadcast_to(floats(a), codes.shape) for a in (q.scale, q.zero_point))
    return replace(dequantized(codes, zero, scale), relative=True)


class _Codes:
    """One quantizer's codes under what an executor may have computed before it."""

    def __init__(self, causes: Causes, local: ReferenceRun, name: str) -> None:
        self.causes, self.local, self.name = causes, local, name
        self.q: Quantized = local.quantized[name]
        self.node = causes.makers[name]
        self.key = key(self.node.domain, self.node.op_type)
        self.attrs = attributes(self.node)

    def explained(self, had: Array, fault: Fault | None) -> Array:
        """Where the executor's code is one that a number within the bound gives."""
        shape, q = had.shape, self.q
        nothing = np.asarray(had == self.local.codes[self.name]) if fault is None else np.zeros(shape, bool)
        if self.key in ("ConvInteger", "MatMulInteger", "Clip", "qonnx:MultiThreshold"):
            return nothing
        scale, zero = (np.broadcast_to(floats(a), shape) for a in (q.scale, q.zero_point))
        if self.key in SUMS:
            if fault is not None:
                return nothing
            y = np.asarray([float(q.unrounded(i)) for i in range(had.size)]).reshape(shape) - zero
            return self._between(had - zero, y, gamma(8) * np.abs(y), zero)
        numbers = self._before(fault)
        if numbers is None:
            return nothing
        (value, own), grown = numbers[0].bounded(), numbers[1]
        doubt = grown.error + own
        if self.key == "qonnx:BipolarQuant":
            scale, zero = np.ones(()), np.zeros(())
        if self.key == "qonnx:Trunc":
            scale = np.asarray(self.local.value(self.node.input[1]))
            zero = np.asarray(self.local.value(self.node.input[2]))
        linear = self.key == "QuantizeLinear" or self.key in QLINEAR
        y = value / scale + (0.0 if linear else zero)
        # the division (or a product with the reciprocal) and the sum round too
        error = doubt / scale + gamma(grown.steps + 3) * grown.size / scale + gamma(2) * np.abs(zero) + 2.0**-60
        return self._between(had - (zero if linear else 0), y, error, zero if linear else np.zeros(()))

    def _before(self, fault: Fault | None) -> tuple[Tensor, Reach] | None:
        """The numbers that are rounded, and their reach."""
        if self.key not in QLINEAR:
            return self.causes.evaluated(self.local, self.node.input[0], fault)
        tensors = [self.local.tensors[i] if i else None for i in self.node.input]
        call = Call(self.node.op_type, "", self.causes.opset, self.attrs, tensors, decides=True)
        made, grown = enclosed(inside(call), None if fault is None else fault.change)
        return None if grown is None else (made, grown)

    def gives_all(self, had: Array, fault: Fault) -> bool:
        """Whether the hypothesis gives the whole tensor; no where it can't be evaluated in this node."""
        try:
            return bool(self.explained(had, fault).all())
        except FAILURES:
            return False

    def _between(self, had: Array, y: Array, error: Array, shift: Array) -> Array:
        low, high = (self._codes(y + side * error, shift) for side in (-1, 1))
        return np.asarray((low <= had) & (had <= high))

    def _codes(self, y: Array, shift: Array) -> Array:
        low, high = self.q.low - shift, self.q.high - shift
        if self.q.bipolar:
            return np.where(y >= 0, 1.0, -1.0)
        if self.key == "qonnx:Trunc":
            y = np.rint(y) / self._divisor()
        mode = str(self.attrs.get("rounding_mode", "FLOOR" if self.key == "qonnx:Trunc" else "ROUND"))
        return np.clip(rounding(mode if self.key.startswith("qonnx:") else "ROUND").floats(y), low, high)

    def _divisor(self) -> Array:
        if len(self.node.input) == 5:
            bits = [self.local.value(self.node.input[i]) for i in (3, 4)]
            return np.asarray(2.0 ** (bits[0] - bits[1]))
        scale, out = (self.local.value(self.node.input[i]) for i in (1, 4))
        return np.asarray(2.0 ** np.rint(np.log2(out / scale)))

    def wraps(self, had: Array, where: Array) -> Array:
        """Where the executor's code is that of an int32 sum that wrapped in this very operator."""
        out = np.zeros(had.shape, bool)
        if self.key not in SUMS:
            return out
        for flat in np.flatnonzero(where)[:MOST_WRAPS]:
            index = np.unravel_index(int(flat), had.shape)
            scale, zero = (element_of(a, int(flat), had.shape) for a in (self.q.scale, self.q.zero_point))
            ratio = scale / self._factor(index)
            total = (self.q.unrounded(int(flat)) - zero) * ratio
            if total.denominator == 1 and (other := int(wrapped(np.asarray(int(total))))) != total:
                y, shift = np.asarray(float(other / ratio)), np.asarray(float(zero))
                gives = self._between(had[index] - shift, y, gamma(8) * np.abs(y), shift)
                out[index] = np.broadcast_to(gives, had.shape)[index]
        return out

    def _factor(self, index: tuple[Any, ...]) -> Fraction:
        """The product of both input scales at one output: the weights' along channels or columns, x's along rows."""
        out = Fraction(float(np.float32(self.attrs.get("alpha", 1.0))))
        for side, number in enumerate((1, 4)):
            scales = self.local.tensors[self.node.input[number]].fractions().reshape(-1)
            axis = (1 if self.key == "QLinearConv" else -1) if side else -2
            out *= scales[0] if len(scales) == 1 else scales[index[axis]]
        return out
