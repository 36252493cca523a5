"""What a lowered model is made of: layers, widths, multiply-accumulates, host work."""

from __future__ import annotations

import math
from typing import Any

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.graph import Tensor
from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.verify.layers import layers


def inspect(model: Model) -> dict[str, Any]:
    """A JSON-able description: per layer name, op, shape, widths, MACs; inputs, outputs, host nodes, totals."""
    graph = model.graph
    nodes = {n.name: n for n in graph.nodes}
    producers = {n.output: n for n in graph.nodes}
    rows = []
    for layer in layers(graph, model.quantizer_names):
        out = graph.tensors[layer.tensor]
        macs = [nodes[m] for m in layer.macs]
        maker = producers.get(layer.tensor)
        source = macs[0] if macs else maker
        kinds = {_weights(m) for m in macs if "weight" in m.arrays}
        rows.append(
            {
                "name": layer.name,
                "op": layer.op,
                "shape": list(out.shape),
                "weights": ", ".join(sorted(kinds)),
                "input": _width(graph.tensors[source.inputs[0]]) if source is not None else "-",
                "output": _width(out),
                "accumulator_bits": max((_bits(graph.tensors[m.output]) for m in macs), default=0),
                "macs": sum(_macs(model, m) for m in macs),
            }
        )
    weights = sum(n.arrays["weight"].size for n in graph.nodes if isinstance(OPS[n.op], Mac) and "weight" in n.arrays)
    return {
        "model": model.path,
        "layers": rows,
        "inputs": {n: list(s) for n, (s, _) in model.lowered.source.inputs.items()},
        "outputs": {n: list(graph.tensors[e.terms[0][0]].shape) for n, e in model.lowered.ends.items()},
        "host": {"prologue": model.lowered.prologue.names, "epilogue": model.lowered.epilogue.names},
        "macs": sum(r["macs"] for r in rows),
        "weights": int(weights),
    }


def _macs(model: Model, node: Any) -> int:
    """Products of a node, padding included."""
    out = model.graph.tensors[node.output].shape
    if "weight" not in node.arrays:
        return math.prod(out) * model.graph.tensors[node.inputs[1]].shape[-2]
    weight = node.arrays["weight"].shape
    return math.prod(out) * (weight[-2] if node.op == "matmul" else math.prod(weight[1:]))


def _weights(node: Any) -> str:
    return IntegerType(**node.attributes["weight_type"]).name if "weight_type" in node.attributes else "?"


def _bits(tensor: Tensor) -> int:
    return bits_for(tensor.low, tensor.high)


def _width(tensor: Tensor) -> str:
    return tensor.type.name if tensor.type is not None else f"{_bits(tensor)} bits"
