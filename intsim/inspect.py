"""What a lowered model is made of: layers, widths, multiply-accumulates, host work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.graph import IntegerGraph, Node, Tensor, without_module
from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.ops.deviation import combined_error, deviations, steepest
from intsim.ops.pieces import node_pieces
from intsim.verification.layers import layers


def inspect(model: Model) -> dict[str, Any]:
    """A JSON-able description: per layer name, op, shape, widths, bias, MACs; inputs, outputs, host nodes, totals.

    `bias` says where the constants went that the file adds to a layer's sums, each by its largest magnitude in LSB of
    the accumulator: `register` are the whole LSBs in the register, `rest` what is left of them, `requantizer` all
    that the requantizer adds, rest included (0 where it sums several layers). None for a layer without products.
    `off`, of a layer behind a softmax, a normalisation or a grid: how many of its codes the numbers that it rounds may
    lie from the file's at most.
    """
    graph = model.graph
    errors = deviations(graph)
    nodes = {n.name: n for n in graph.nodes}
    producers = {n.output: n for n in graph.nodes}
    rows = []
    for layer in layers(graph, model.lowered.boundaries):
        out = graph.tensors[layer.tensor]
        macs = [nodes[m] for m in layer.macs]
        maker = producers.get(layer.tensor)
        source = macs[0] if macs else maker
        kinds = {_weights(m) for m in macs if "weight" in m.arrays}
        rows.append(
            {
                "name": layer.name,
                **without_module({"node": layer.node, "module": layer.module}),
                "op": layer.op,
                "shape": list(out.shape),
                "weight_type": ", ".join(sorted(kinds)),
                "input_type": _width(graph.tensors[source.inputs[0]]) if source is not None else "-",
                "output_type": _width(out),
                "accumulator_bits": max((_bits(graph.tensors[m.output]) for m in macs), default=0),
                "bias": _bias(model.graph, macs, maker) if macs else None,
                **_off(maker, errors),
                "macs": sum(_macs(model, m) for m in macs),
            }
        )
    weights = sum(n.arrays["weight"].size for n in graph.nodes if isinstance(OPS[n.op], Mac) and "weight" in n.arrays)
    return {
        "format": "intsim-inspection-1",
        "model": model.path,
        "layers": rows,
        "inputs": {n: list(s) for n, (s, _) in model.lowered.source.inputs.items()},
        **(
            {"input_ranges": {n: list(r) for n, r in ranges.items()}} if (ranges := model.lowered.source.ranges) else {}
        ),
        "outputs": {n: list(graph.tensors[e.terms[0][0]].shape) for n, e in model.lowered.ends.items()},
        "host": model.lowered.host,
        "macs": sum(r["macs"] for r in rows),
        "weights": int(weights),
    }


def _off(maker: Node | None, errors: Mapping[str, Fraction]) -> dict[str, float]:
    """Nothing of a layer that rounds exact numbers."""
    if maker is None or maker.op != "requantize" or not any(n in errors for n in maker.inputs):
        return {}
    return {"off": float(steepest(maker, combined_error(maker, [errors.get(n, Fraction(0)) for n in maker.inputs])))}


def _bias(graph: IntegerGraph, macs: list[Node], maker: Node | None) -> dict[str, Any]:
    """Largest magnitudes, in LSB."""
    codes = [int(np.abs(m.arrays["bias"]).max()) for m in macs if "bias" in m.arrays]
    sums = [graph.tensors[m.output] for m in macs]
    rests = [Fraction(abs(r)) for t in sums for r in np.asarray(t.offset / t.scale).reshape(-1)]
    added: list[Fraction] = []
    if maker is not None and maker.op == "requantize" and len(macs) == len(maker.inputs) == 1:
        out, cells = graph.tensors[maker.output], tuple(maker.attributes["cells"])
        zero = np.asarray(-out.offset / out.scale - maker.attributes["zero"], dtype=object)
        zeros = np.broadcast_to(zero.reshape(zero.shape[zero.ndim - len(cells) :]), cells).reshape(-1)
        added = [abs((b - z) / s) for cell, z in zip(node_pieces(maker), zeros, strict=True) for _, s, b in cell if s]
    return {
        "register": max(codes, default=0),
        "rest": float(max(rests)),
        "requantizer": float(max(added, default=0)),
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
