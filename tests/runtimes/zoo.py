"""Layers and parts of the zoo's networks, as ONNX Runtime executes them.

Their decoders resize between dequantizing and convolving, which ONNX Runtime leaves in float32: what it fuses are the
encoders and the heads.
"""

import functools
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.utils import Extractor

from intsim.inputs import draw as draw_inputs

from . import runtimes
from .draw import Case

FILES = sorted((Path(__file__).parents[2] / "models" / "zoo").glob("*_w8a8.qcdq.onnx"))
LAYERS, ENCODERS = "layers of the zoo", "encoders of the zoo"
CODES = [f"/enc{i}/enc{i}.{j}/relu/act_quant/export_handler/QuantizeLinear_output_0" for i in range(4) for j in (0, 1)]
"""Codes of an encoder's layers; it ends with the last."""


@functools.cache
def files():
    return tuple((onnx.load(path), runtimes.executed(onnx.load(path))) for path in FILES)


def encoders():
    """Each network up to its narrowest tensor: with the codes of all layers as outputs, and with its last alone."""
    for model, _ in files():
        (given,) = model.graph.input
        plain = onnx.ModelProto.FromString(model.SerializeToString())
        del plain.graph.quantization_annotation[:]
        for shown in (CODES, CODES[-1:]):
            yield Extractor(plain).extract_model([given.name], shown)


def cases(seed, target):
    """The convolutions that ONNX Runtime runs on codes, on the codes that it gives them for a drawn input.

    Other targets than its are given their biases as floats.
    """
    found = []
    for _, loaded in files():
        graph = onnx.ModelProto.FromString(loaded.lowered.source.proto.SerializeToString())
        convolutions = [node for node in graph.graph.node if node.op_type == "QLinearConv"]
        constants = {i.name: numpy_helper.to_array(i) for i in graph.graph.initializer}
        del graph.graph.output[:]
        inputs = {node.input[0] for node in convolutions}
        graph.graph.output.extend(onnx.helper.make_tensor_value_info(name, 2, None) for name in sorted(inputs))
        feeds = draw_inputs(loaded, seed)
        job = {"library": "ort", "model": graph.SerializeToString(), "feeds": feeds, "level": "ORT_DISABLE_ALL"}
        (codes,) = runtimes.answer([job])
        found += [case(node, constants, codes[node.input[0]]) for node in convolutions]
    if not target.startswith("onnxruntime"):
        for one in found:
            one.arrays["bias"] = (one["bias"] * (one["x_scale"] * one["w_scale"])).astype(np.float32)
    return found


def case(node, constants, x):
    """A QLinearConv with the codes that it reads."""
    names = ["x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "bias"]
    arrays = {"x": x}
    for name, tensor in list(zip(names, node.input, strict=False))[1:]:
        arrays[name] = constants[tensor]
    if np.size(arrays["w_scale"]) == 1:
        arrays |= {n: np.reshape(arrays[n], ()) for n in ("w_scale", "w_zero_point")}
    rank = x.ndim - 2
    at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    plain = dict(strides=[1] * rank, dilations=[1] * rank, pads=[0] * (2 * rank), group=1)
    kept = {name: at.get(name, value) for name, value in plain.items()}
    return Case("conv", arrays, ("x",), kept | {"kernel_shape": list(arrays["w"].shape[2:])})
