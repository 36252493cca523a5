"""The file as the reference evaluator gets it: what leads to quantizers and accumulators, nothing after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.frontend.reader import SourceModel
from intsim.inputs import checked
from intsim.model import Model
from intsim.verification.reference import Reference, ReferenceRun
from intsim.verification.reference.qlinear import QLINEAR
from intsim.verification.standard import refill

Arrays = Mapping[str, NDArray[Any]]
QUANTIZERS = {
    "Quant", "IntQuant", "BipolarQuant", "Trunc", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger", *(k.rpartition(":")[2] for k in QLINEAR),
}  # fmt: skip


class ExactFile:
    """Exact semantics of a model's file.

    Host work before the first quantizer is evaluated exactly like everything else. Where it has no exact form (a
    Sigmoid, say), the file is cut there: `cut` names the host tensors whose float64 values are taken as given.
    """

    def __init__(self, model: Model) -> None:
        """Prepare the reference; raises IntsimError if some integer part has no exact form."""
        self.model = model
        proto = sorted_proto(model)
        constants = bound_inputs(model, proto)
        cuts = [[], list(model.lowered.prologue.wanted)] if model.lowered.prologue.operations else [[]]
        for cut in cuts:
            try:
                self.cut = cut
                self.proto = _needed(proto, model, cut)
                self.reference = Reference(self.proto, constants)
                return
            except IntsimError as error:
                failure = error
        raise IntsimError(f"{model.path}: {failure}") from failure

    def run(self, sample: Arrays, given: Arrays | None = None) -> ReferenceRun:
        """Exact evaluation; with `given`, of each layer on what an executor had there."""
        feeds = {n: a for n, a in sample.items() if n in self.reference.inputs}
        if self.cut:
            host = self.model.lowered.prologue.run(checked(self.model, sample))
            feeds |= {n: np.asarray((given or {}).get(n, host[n]), np.float64) for n in self.cut}
        try:
            return self.reference.run(feeds, given)
        except IntsimError as error:
            raise IntsimError(f"{self.model.path}: {error}") from error


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
    for name in cut:
        shape = model.lowered.prologue.shape(name)
        out.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, shape))
    refill(out.graph.output, (onnx.ValueInfoProto(name=n) for n in model.lowered.ends))
    return out
