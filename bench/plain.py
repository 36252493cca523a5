"""A fully fused network as a list of layers in JSON and arrays in .npz, for executors that know no ONNX.

Each layer: `op`, `inputs`, `output`, `attributes`; conv and dense have arrays `NAME.w` (O, I/group, kh, kw) or (O, I)
int8, `NAME.s` (O,) float32 and `NAME.b` (O,) int32. Each tensor: `shape` (NCHW), `scale`, `zero` of uint8 codes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from bench.networks import Network

OPS = {"QLinearConv": "conv", "QGemm": "dense", "QLinearAdd": "add", "QLinearGlobalAveragePool": "mean",
       "Resize": "upsample", "Concat": "concat", "Flatten": "flatten"}  # fmt: skip
ENDS = {"QLinearConv": (6, 7), "QGemm": (7, 8), "QLinearAdd": (6, 7), "QLinearGlobalAveragePool": (3, 4)}
"""Where an operator's inputs name the scale and zero point of its output."""


def describe(network: Network) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Layers, tensors and the input's name; and the arrays."""
    graph = shape_inference.infer_shapes(network.qcdq).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    constants = {i.name: numpy_helper.to_array(i) for i in network.fused.graph.initializer}
    tensors: dict[str, dict[str, Any]] = {}
    layers: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    first = ""

    def tensor(name: str, scale: Any, zero: Any) -> None:
        shape = shapes[name.removesuffix(".codes")]
        tensors[name] = {"shape": shape, "scale": float(scale), "zero": int(zero)}

    for node in network.fused.graph.node:
        ins, out = list(node.input), node.output[0]
        if node.op_type == "DequantizeLinear":
            continue
        if node.op_type == "QuantizeLinear":
            first = out
            tensor(out, constants[ins[1]], constants[ins[2]])
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: v for k, v in attributes.items() if isinstance(v, int | list)}
        data = [i for i in ins if i in tensors]
        if node.op_type in ENDS:
            scale, zero = ENDS[node.op_type]
            tensor(out, constants[ins[scale]], constants[ins[zero]])
        else:
            tensor(out, tensors[data[0]]["scale"], tensors[data[0]]["zero"])
        if OPS[node.op_type] in ("conv", "dense"):
            w = constants[ins[3]]
            arrays[f"{out}.w"] = w if w.ndim == 4 else np.ascontiguousarray(w.T)
            arrays[f"{out}.s"] = np.broadcast_to(constants[ins[4]].reshape(-1), len(arrays[f"{out}.w"])).copy()
            arrays[f"{out}.b"] = constants[ins[8 if w.ndim == 4 else 6]]
        layers.append({"op": OPS[node.op_type], "inputs": data, "output": out, "attributes": attributes})
    return {"input": first, "layers": layers, "tensors": tensors}, arrays


def save(network: Network, folder: Path) -> Path:
    """Write NAME.json and NAME.npz (with the input under `input`); returns the path without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    described, arrays = describe(network)
    base = folder / network.name
    base.with_suffix(".json").write_text(json.dumps(described))
    arrays["input"] = next(iter(network.inputs.values()))
    np.savez(base.with_suffix(".npz"), allow_pickle=False, **arrays)
    return base
