"""The network's own file with what is proven of its layers at their nodes, where viewers as Netron show it."""

from __future__ import annotations

from collections import Counter

import onnx

from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.proofs.bounds import Bounds, LayerBound
from intsim.report.text import counted

BEFORE = "intsim."
"""What the keys of a node's metadata begin with; what is there of an earlier time is replaced."""


def annotated(model: Model, proven: Bounds) -> onnx.ModelProto:
    """A copy of a model's file whose multiply-accumulate nodes carry their bounds, as metadata and as words.

    Metadata (`metadata_props`, IR 10) is `intsim.target`, `intsim.required_bits`, and by stage, from 1,
    `intsim.stage1.bits`, `.required_bits`, `.headroom` (bits to spare, below 0: missing) and `.proof` ("safe" or
    "unsafe"). The words are in the node's documentation. Nodes that can't be told apart by their names are left alone.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model.lowered.source.proto)
    named = Counter(o.name for o in model.lowered.source.operations)
    outputs = {o.name: o.outputs[0] for o in model.lowered.source.operations if o.outputs}
    nodes = {output: node for node in made.graph.node for output in node.output}
    layers = [n for n in model.graph.nodes if isinstance(OPS[n.op], Mac)]
    for layer, bound in zip(layers, proven.layers, strict=True):
        node = nodes.get(outputs.get(layer.source, "")) if named[layer.source] == 1 else None
        if node is not None:
            _annotate(node, bound, proven.target)
    return made


def _annotate(node: onnx.NodeProto, bound: LayerBound, target: str) -> None:
    told = {"target": target, "required_bits": bound.required_bits}
    words = [f"intsim on {target}: its sum needs {counted(bound.required_bits, 'bit')}"]
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
    node.doc_string = "; ".join(words)
