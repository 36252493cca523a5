"""hls4ml's compiled C simulation of a network, layer by layer, against golden vectors.

`python hls4ml_simulation.py [ACCUM_T]`. Both read one QONNX file; hls4ml's accumulator, which rounds and saturates, is
a target's registers. With "fixed<12,6,TRN,SAT>" hls4ml rounds down, and the target doesn't. Needs hls4ml, qonnx, g++.
"""

import sys

import hls4ml
import numpy as np
import onnx
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model

import intsim

NET = """
<ir_version: 8, opset_import: ["": 13, "qonnx.custom_op.general": 1]>
net (float[1, 16] x) => (float[1, 5] y)
<float x_lsb = {0.0625}, float w_lsb = {0.015625}, float b_lsb = {0.03125}, float u = {0.25}, float zero = {0.0},
 float eight = {8.0}, float six = {6.0}>
{
  xq = qonnx.custom_op.general.Quant <signed = 1, narrow = 0, rounding_mode = "ROUND"> (x, x_lsb, zero, eight)
  wq = qonnx.custom_op.general.Quant <signed = 1, narrow = 0, rounding_mode = "ROUND"> (w, w_lsb, zero, eight)
  bq = qonnx.custom_op.general.Quant <signed = 1, narrow = 0, rounding_mode = "ROUND"> (b, b_lsb, zero, eight)
  vq = qonnx.custom_op.general.Quant <signed = 1, narrow = 0, rounding_mode = "ROUND"> (v, w_lsb, zero, eight)
  cq = qonnx.custom_op.general.Quant <signed = 1, narrow = 0, rounding_mode = "ROUND"> (c, b_lsb, zero, eight)
  [hidden] h = MatMul (xq, wq)
  [hidden_bias] a = Add (h, bq)
  [relu] r = Relu (a)
  [relu_codes] rq = qonnx.custom_op.general.Quant <signed = 0, narrow = 0, rounding_mode = "ROUND"> (r, u, zero, six)
  [last] d = MatMul (rq, vq)
  [last_bias] y = Add (d, cq)
}
"""
ACCUM = "fixed<12,6,RND,SAT>"
TARGET = """
title  = "hls4ml, accum_t = fixed<12,6,RND,SAT>"
source = ["hls4ml"]
[accumulate]
stages = [
  { sum = 1,      bits = 12, overflow = "saturate", lsb = -6, rounding = "half_up" },
  { sum = "rest", bits = 12, overflow = "saturate" },
]
bias = "preload"
[requantize]
scheme = "exact"
"""


def network(rng):
    """The file, with drawn weights and biases."""
    net = onnx.parser.parse_model(NET)
    constants = {"w": (16, 10, 64), "b": (10, 32), "v": (10, 5, 64), "c": (5, 32)}
    for name, (*shape, per) in constants.items():
        values = np.float32(rng.integers(-128, 128, shape) / per)
        net.graph.initializer.append(numpy_helper.from_array(values, name))
    return net


def simulated(net, inputs, accum):
    """What hls4ml's layers return, by their names in hls4ml."""
    model = cleanup_model(ModelWrapper(net))
    config = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Vitis")
    for node in model.graph.node:
        if node.op_type == "MatMul":
            config["LayerName"][node.name]["Precision"]["accum"] = accum
    for layer in config["LayerName"].values():
        layer["Trace"] = True
    config["Model"]["TraceOutput"] = True
    project = hls4ml.converters.convert_from_onnx_model(
        model, output_dir="hls4ml", backend="Vitis", hls_config=config, io_type="io_parallel", part="xcu250"
    )
    project.compile()
    return project.trace(np.ascontiguousarray(inputs.astype(np.float64)))[1]


def main(accum=ACCUM, samples=2000):
    """0 if every accumulator and every code is as intsim says."""
    rng = np.random.default_rng(5)
    net = network(rng)
    inputs = np.float32(rng.integers(-128, 128, (samples, 16)) / 16)
    intsim.vectors(net, intsim.Target.from_toml(TARGET), inputs, formats=["npy"], out="golden")
    values = simulated(net, inputs, accum)
    # values of a layer, and what its LSB is worth
    dumped = {
        "hidden.accumulator": values["Dense_MatMul_0"] * 16 * 64,
        "hidden.output": values["Relu_0"] * 4,
        "last.accumulator": values["Dense_MatMul_1"] * 4 * 64,
    }
    np.savez("hls4ml.npz", **dumped)
    found = intsim.compare("golden", "hls4ml.npz")
    for one in found.tensors:
        print(f"{one.layer}, {one.tensor}: {one.elements} of hls4ml's simulation, {one.mismatches} wrong")
    return 0 if found.same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
