"""The network's own file with what is proven of its layers at their nodes, where viewers as Netron show it."""

from __future__ import annotations

from collections import Counter

import onnx

from intsim.errors import IntsimError
from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.proofs.bounds import Bounds, LayerBound
from intsim.report.text import counted

BEFORE = "intsim."
WORDS = "intsim on "
"""What keys of a node's metadata and the line of its documentation begin with; what is there of an earlier time is
replaced."""
MOST_BYTES = (1 << 31) - 1
"""Of a protobuf message."""


def annotated(model: Model, proven: Bounds) -> onnx.ModelProto:
    """A copy of a model's file whose multiply-accumulate nodes carry their bounds, as metadata and as words.

    Metadata (`metadata_props`, IR 10) is `intsim.target`, `intsim.required_bits`, and by stage, from 1,
    `intsim.stage1.bits`, `.required_bits`, `.headroom` (bits to spare, below 0: missing) and `.proof` ("safe" or
    "unsafe"). The words are a line of the node's documentation. Nodes that can't be told apart by their names are left
    alone.

    Raises:
        IntsimError: a file beyond 2 GiB, which can't be one.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model.lowered.source.proto)
    layers = [n for n in model.graph.nodes if isinstance(OPS[n.op], Mac)]
    named = Counter(o.name for o in model.lowered.source.operations)
    made_of = Counter(n.source for n in layers)
    outputs = {o.name: o.outputs[0] for o in model.lowered.source.operations if o.outputs}
    nodes = {output: node for node in made.graph.node for output in node.output}
    for layer, bound in zip(layers, proven.layers, strict=True):
        single = named[layer.source] == made_of[layer.source] == 1
        if single and (node := nodes.get(outputs.get(layer.source, ""))) is not None:
            _annotate(node, bound, proven.target)
    if made.ByteSize() > MOST_BYTES:
        raise IntsimError(f"{model.path}: too large for one ONNX file; its bounds are in --json")
    return made


def _annotate(node: onnx.NodeProto, bound: LayerBound, target: str) -> None:
    told = {"target": target, "required_bits": bound.required_bits}
    words = [f"{WORDS}{target}: its sum needs {counted(bound.required_bits, 'bit')}"]
    for s in bound.stages:
        headroom = s.bits - s.required_bits
        key = f"stage{s.stage}."
        told |= {f"{key}bits": s.bits, f"{key}required_bits": s.required_bits, f"{key}headroom": headroom}
        told[f"{key}proof"] = "unsafe" if s.unsafe_channels else "safe"
        state = (
            f"{s.unsafe_channels} of {counted(bound.channels, 'channel')} can overflow" if s.unsafe_channels else "safe"
        )
        words.append(f"stage {s.stage}: {s.bits} bits ({s.overflow}), needs {s.required_bits}: {state}")
    kept = [p for p in node.metadata_props if not p.key.startswith(BEFORE)]
    own = [onnx.StringStringEntryProto(key=BEFORE + k, value=str(v)) for k, v in told.items()]
    del node.metadata_props[:]
    node.metadata_props.extend([*kept, *own])
    others = [line for line in node.doc_string.splitlines() if not line.startswith(WORDS)]
    node.doc_string = "\n".join([*others, "; ".join(words)])
