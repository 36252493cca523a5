"""The file as the reference evaluator gets it: what leads to quantizers and accumulators, nothing after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import SourceModel
from intsim.inputs import checked
from intsim.model import Model
from intsim.verification.reference import Reference, ReferenceRun
from intsim.verification.reference.qlinear import QLINEAR
from intsim.verification.standard import refill

Arrays = Mapping[str, NDArray[Any]]
QUANTIZERS = {
    "Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold", "QuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger", *(k.rpartition(":")[2] for k in QLINEAR),
}  # fmt: skip


class ExactFile:
    """Exact semantics of a model's file.

    Host work before the first quantizer is evaluated exactly like everything else. Where it has no exact form (a
    Sigmoid, say), the file is cut there: `cut` names the host tensors whose float64 values are taken as given. A file
    with float islands is cut at all that they hand to integers.
    """

    def __init__(self, model: Model) -> None:
        """Prepare the reference; raises IntsimError if some integer part has no exact form."""
        self.model = model
        proto = sorted_proto(model)
        constants = bound_inputs(model, proto)
        cuts: list[list[str]] = [[]]
        if model.islands:
            hosts = dict.fromkeys(b.host for b in model.lowered.boundaries)
            cuts = [[n for n in hosts if n not in model.lowered.source.inputs]]
        elif model.lowered.prologue.operations:
            cuts.append(list(model.lowered.prologue.wanted))
        for cut in cuts:
            try:
                self.cut = cut
                self.proto = _needed(proto, model, cut)
                self.reference = Reference(self.proto, constants)
                return
            except IntsimError as error:
                failure = error
        raise IntsimError(f"{model.path}: {failure}") from failure

    def run(self, sample: Arrays, given: Arrays | None = None, islands: Arrays | None = None) -> ReferenceRun:
        """Exact evaluation; with `given`, of each layer on what an executor had there.

        `islands`: of a model with float islands, what they handed to integers (`Run.islands`).
        """
        feeds = {n: a for n, a in sample.items() if n in self.reference.inputs}
        if self.model.islands:
            handed = {**(islands or {}), **(given or {})}
            feeds |= {n: _read(handed, n) for n in self.cut}
        elif self.cut:
            host = self.model.lowered.prologue.run(checked(self.model, sample))
            feeds |= {n: np.asarray((given or {}).get(n, host[n]), np.float64) for n in self.cut}
        try:
            return self.reference.run(feeds, given)
        except IntsimError as error:
            raise IntsimError(f"{self.model.path}: {error}") from error


def _read(handed: Arrays, name: str) -> NDArray[Any]:
    """What an island handed on, floats widened."""
    if name not in handed:
        raise IntsimError(f"its tensor {name}, which an island hands to integers, was not returned")
    array = np.asarray(handed[name])
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def bound_inputs(model: Model, proto: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Graph inputs that were fixed as constants when the model was loaded."""
    names = {i.name for i in proto.graph.input} - {i.name for i in proto.graph.initializer}
    return {n: a for n, a in model.lowered.source.constants.items() if n in names}


def sorted_proto(model: Model) -> onnx.ModelProto:
    """What outputs need of the file: nodes in topological order, their constants; its inputs' shapes fixed."""
    return needed_of(model.lowered.source)


def needed_of(source: SourceModel) -> onnx.ModelProto:
    """The same of a file that was only read."""
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    refill(proto.graph.node, (op.proto for op in source.operations))
    read = {n for node in proto.graph.node for n in node.input} | {o.name for o in proto.graph.output}
    idle = {i.name for i in proto.graph.initializer} - read
    refill(proto.graph.initializer, [i for i in proto.graph.initializer if i.name in read])
    refill(proto.graph.input, [i for i in proto.graph.input if i.name not in idle])
    for value in proto.graph.input:
        if value.name in source.inputs:
            shape, element = source.inputs[value.name]
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, element, shape))
    return proto


def _needed(proto: onnx.ModelProto, model: Model, cut: list[str]) -> onnx.ModelProto:
    """Only nodes that lead to a quantizer or to an integer end of the model, from `cut` on."""
    wanted = {o for n in proto.graph.node if n.op_type in QUANTIZERS for o in n.output} | set(model.lowered.ends)
    kept = []
    for node in reversed(proto.graph.node):
        if set(node.output) & wanted and not set(node.output) & set(cut):
            wanted.update(node.input)
            kept.append(node)
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    refill(out.graph.node, reversed(kept))
    refill(out.graph.input, [i for i in proto.graph.input if i.name in wanted])
    shapes = {b.host: model.graph.tensors[b.tensor].shape for b in model.lowered.boundaries}
    for name in cut:
        element = model.lowered.prologue.types.get(name) if model.islands else None
        element = element if element in ONNX_INTEGERS else onnx.TensorProto.DOUBLE
        shape = shapes[name] if model.islands else model.lowered.prologue.shape(name)
        out.graph.input.append(onnx.helper.make_tensor_value_info(name, element, shape))
    refill(out.graph.output, (onnx.ValueInfoProto(name=n) for n in model.lowered.ends))
    return out
