"""The golden vectors of finn-mvau, put through the operators that FINN streamlines a layer to, as QONNX executes them.

`python finn_thresholds.py`. Im2Col, MatMul and MultiThreshold are what becomes FINN's sliding window and MVAU, whose
own Python execution is that product and that count of thresholds. Needs `intsim[references]`.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

import intsim

MODEL = Path(__file__).with_name("digits.onnx")
LAYER = "/conv2/Conv"


def thresholds(golden, codes):
    """FINN's matrix, (channels, codes - 1): column k holds the least sum whose code is above the k-th.

    FINN's sums have no bias, so it is taken off here.
    """
    starts, made, bias = golden["requantize_threshold"], golden["requantize_code"], golden["bias"]
    at_least = made[:, None, :] >= np.array(codes[1:])[None, :, None]
    least = np.take_along_axis(starts, at_least.argmax(2), 1)
    never = starts.max() + (1 << 20)  # of a code that no sum reaches
    return np.where(at_least.any(2), least, never) - bias[:, None]


def streamlined(layer, golden):
    """The layer as FINN has it in front of its hardware: channels last, codes in, codes out."""
    window, requantizer = layer["window"], layer["requantizer"]
    low, high, shape = requantizer["low"], requantizer["high"], str(golden["operand"].shape[1:])
    domain = "qonnx.custom_op.general"
    nodes = [
        helper.make_node("Im2Col", ["x"], ["rows"], domain=domain, input_shape=shape, kernel_size=window["kernel"],
                         stride=window["strides"], pad_amount=window["pads"], dilations=window["dilations"]),
        helper.make_node("MatMul", ["rows", "w"], ["sums"]),
        helper.make_node("MultiThreshold", ["sums", "t"], ["y"], domain=domain, data_layout="NHWC", out_dtype="UINT8",
                         out_bias=float(low)),
    ]  # fmt: skip
    arrays = {"w": golden["weight"], "t": thresholds(golden, range(low, high + 1))}
    constants = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(a.shape[1:]))
        for name, a in (("x", golden["operand"]), ("y", golden["output"]))
    ]
    graph = helper.make_graph(nodes, "mvau", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 1)]
    model = ModelWrapper(helper.make_model(graph, opset_imports=opsets, ir_version=9)).transform(InferShapes())
    model.set_tensor_datatype("x", DataType["UINT8"])  # asked whether it has a 0 for padding
    return model


def main():
    """0 if QONNX makes every code."""
    made = intsim.vectors(MODEL, "finn-mvau", samples=8, layer=[LAYER], order="finn", formats=["npy"], out="golden")
    (layer,) = made.manifest["layers"]
    golden = {t["role"]: np.load(Path("golden") / t["files"]["npy"]) for t in layer["tensors"]}
    model = streamlined(layer, golden)
    got = [execute_onnx(model, {"x": x.astype(np.float32)})["y"] for x in golden["operand"]]
    np.save("qonnx.npy", np.stack(got))
    (found,) = intsim.compare("golden", "qonnx.npy").tensors
    print(f"{LAYER}: {found.elements} codes of Im2Col, MatMul and MultiThreshold, {found.mismatches} wrong")
    return 1 if found.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
